"""The house: how long its files may be, who may import whom, and what is loaded only when an option asks for it."""

from __future__ import annotations

import ast
import contextlib
import functools
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterable, Iterator
from pathlib import Path

from redis_server import Redis
from support import PATIENCE, ROOT, TestCase

SIDES = {"Servers": ("tcp_server", "udp_server"), "Clients": ("tcp_client", "udp_client")}
SCRIPTS = {script: side for side, scripts in SIDES.items() for script in scripts}
FLOORS = {"Servers": "serving", "Clients": "session"}
"""What all scripts of a side stand on."""
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.py"))}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}
ROOMS = sorted(TEXTS.keys() - SCRIPTS.keys())

MOST_LINES = {"common": 150}
MOST_LINES_ELSEWHERE = 300
MOST_LINES_TOGETHER = 7572
"""For what the suite does at its version 1.0; what is added later adds its own lines."""
NO_SOCKET = (
    *("audience", "circles", "lines", "tls", "service", "ledger", "record", "archive", "keeping", "proxy_header"),
    *("resp", "following", "peer_table"),
)
"""Bytes in, messages and replies out: what can be tried without a network."""
KNOWS_PROTOCOLS = {
    "common": {"TCP", "UDP", "udp_port", "--udp-port"},  # says why TLS and --udp-port do not go together
    "redis_link": {"SOCK_STREAM"},  # Redis is asked over it, whatever is served
    "stream_archive": {"SOCK_STREAM"},
    "proxy_header": {"TCP", "TCP4", "TCP6", "V2_TCP4", "V2_TCP6"},  # reads them in what a proxy sends
    "listening": {"SOCK_DGRAM"},  # asks the system for a route
    "sockets": {"IPPROTO_TCP", "TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"},
}
"""The words with which a room may name a protocol; any other room has none."""
OF_REDIS = {"stream_archive", "redis_link", "following", "resp", "urllib.parse", "random"}
OF_TLS = {"tls", "ssl", "certificates", "credentials"}
OF_RECORD = {"json", "json_record", "archive", "keeping", "sqlite3"}
OF_OPTIONS = OF_REDIS | OF_TLS | OF_RECORD | {"audience", "proxy_header", "groups", "many", "pace"}
"""What is loaded only when an option asks for it, as is the script of the other protocol."""
SLOW = {"asyncio", "ctypes", "dataclasses", "inspect", "json", "logging", "pathlib", "shutil", "subprocess", "typing"}
"""What nobody should wait for at the start; examples."""


def imports(tree: ast.AST, when: str = "at start") -> Iterator[tuple[str, str]]:
    """Yield what is imported, and when: "at start", "later" by a function, or "never": for a type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "").partition(".")[0], when
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(node, "never")
        else:
            yield from imports(node, "later" if isinstance(node, ast.FunctionDef) else when)


@functools.cache
def imported(name: str, *when: str) -> set[str]:
    """Return what a file imports at these times; whenever it is, without one."""
    return {module for module, time in imports(TREES[name]) if not when or time in when}


def rooms_loaded(names: Iterable[str]) -> set[str]:
    """Return the files of the suite that may be loaded with these, in the end and themselves included."""
    loaded, new = set(names), set(names)
    while new:
        new = {other for name in new for other in imported(name, "at start", "later")} & TEXTS.keys() - loaded
        loaded |= new
    return loaded


class Files(unittest.TestCase):
    """Flat modules, short enough to be read."""

    def test_no_file_is_too_long(self) -> None:
        lengths = {name: text.count("\n") for name, text in TEXTS.items()}
        for name, length in lengths.items():
            with self.subTest(name):
                self.assertLessEqual(length, MOST_LINES.get(name, MOST_LINES_ELSEWHERE))
        self.assertLessEqual(sum(lengths.values()), MOST_LINES_TOGETHER, lengths)

    def test_only_the_tests_have_a_folder(self) -> None:
        folders = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("[!.]*/**/*.py")}
        self.assertEqual(folders, {"tests"})

    def test_only_scripts_look_like_scripts(self) -> None:
        for name, text in TEXTS.items():
            is_script = name in SCRIPTS
            with self.subTest(name):
                self.assertEqual(name.startswith(("tcp_", "udp_")), is_script)
                self.assertEqual(text.startswith("#!/usr/bin/env python3\n"), is_script)
                if os.name == "posix":
                    self.assertEqual((ROOT / f"{name}.py").stat().st_mode & 0o111, 0o111 if is_script else 0)

    def test_the_first_word_says_who_enters(self) -> None:
        for name, tree in TREES.items():
            with self.subTest(name):
                sides = [side for side, scripts in SIDES.items() if name in rooms_loaded(scripts)]
                self.assertTrue(sides, "nobody enters")
                says = (ast.get_docstring(tree) or "").partition(": ")[0]
                if name in SCRIPTS:
                    self.assertNotIn(says, ("All", *SIDES))
                else:
                    self.assertEqual(says, sides[0] if len(sides) == 1 else "All")


class Imports(unittest.TestCase):
    """Who knows whom, as the code says."""

    def test_nothing_but_python_is_needed(self) -> None:
        for name in TEXTS:
            others = imported(name) - TEXTS.keys()
            with self.subTest(name):  # Python 3.9 has no list of what comes with it
                self.assertEqual(others - getattr(sys, "stdlib_module_names", others), set())

    def test_imports_run_one_way(self) -> None:
        graph = {name: imported(name, "at start", "later") & TEXTS.keys() for name in TEXTS}
        graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
        for name in ROOMS:
            with self.subTest(name):
                self.assertEqual(graph[name] & SCRIPTS.keys(), set())

    def test_each_script_stands_on_the_floor_of_its_side(self) -> None:
        for name, side in SCRIPTS.items():
            with self.subTest(name):
                self.assertIn(FLOORS[side], imported(name, "at start"))

    def test_neither_side_knows_the_other(self) -> None:
        """Not even their types; and what both share knows neither."""
        side_of = {name: (ast.get_docstring(tree) or "").partition(": ")[0] for name, tree in TREES.items()}
        side_of.update(SCRIPTS)
        for name, side in side_of.items():
            with self.subTest(name):
                self.assertLessEqual({side_of[other] for other in imported(name) & TEXTS.keys()}, {"All", side})

    def test_no_socket_where_none_is_needed(self) -> None:
        for name in NO_SOCKET:
            with self.subTest(name):
                self.assertNotIn("socket", imported(name))

    def test_only_scripts_know_tcp_from_udp(self) -> None:
        named = re.compile(r"(?i)[\w-]*(?<![a-z])(?:tcp|udp)(?![a-z])[\w-]*|SOCK_(?:STREAM|DGRAM)")
        for name in ROOMS:
            words = set(named.findall(self.code(name))) - SCRIPTS.keys()
            with self.subTest(name):
                self.assertEqual(words, KNOWS_PROTOCOLS.get(name, set()))

    @staticmethod
    def code(name: str) -> str:
        """Return the code of a file without its documentation."""
        tree = ast.parse(TEXTS[name])
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None
        return ast.unparse(tree)


class Loaded(TestCase):
    """What the scripts load while they run, option by option."""

    def run_traced(self, script: str, *arguments: object) -> list[object]:
        """Return the command that runs a script and has it tell what it loads, without what a site adds."""
        return [sys.executable, "-S", "-X", "importtime", script, *arguments]

    def assert_loaded(self, script: str, errors: str, of_options: set[str]) -> None:
        """Check that a script has told that it loaded this of what options ask for, and nothing of the other side."""
        loaded = set(re.findall(r"^import time:.*\| *(\S+)\r?$", errors, re.MULTILINE))
        self.assertIn("common", loaded)
        self.assertEqual(loaded & (OF_OPTIONS | SCRIPTS.keys()), of_options)
        self.assertLessEqual(loaded & TEXTS.keys(), rooms_loaded(SIDES[SCRIPTS[script[:-3]]]))
        self.assertEqual(loaded & SLOW, set())

    def test_what_a_server_loads(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        archive = {"archive", "keeping", "sqlite3"}
        cases: tuple[tuple[str, tuple[object, ...], set[str]], ...] = (
            ("tcp_server.py", (), set()),
            ("tcp_server.py", ("--allow", "127.0.0.1", "--reply", "relay", "--idle-timeout", "60"), {"audience"}),
            ("tcp_server.py", ("--udp-port", "0"), {"udp_server"}),
            ("tcp_server.py", ("--ending", "lf", "--max-per-address", "9"), set()),
            ("tcp_server.py", ("--save", f"{folder.name}/tcp.db"), archive),
            ("tcp_server.py", ("--proxy-from", "127.0.0.1"), {"proxy_header"}),
            ("udp_server.py", ("--allow", "127.0.0.1", "--reply", "relay"), {"audience"}),
            ("udp_server.py", ("--save", f"{folder.name}/udp.db"), archive),
        )
        if shutil.which("redis-server"):
            redis = Redis()
            self.addCleanup(redis.close)
            options: tuple[object, ...] = ("--reply", "relay", "--save", redis.where())
            cases += (
                ("tcp_server.py", options, {"audience", "keeping"} | OF_REDIS),
                ("udp_server.py", options, {"audience", "keeping"} | OF_REDIS),
            )
        servers = [self.start(*self.run_traced(script, 0, *options)) for script, options, _ in cases]
        for server, (script, options, of_options) in zip(servers, cases):
            with self.subTest(script, options=options):
                protocol, port = server.wait_for(r"^\[(TCP|UDP) Server\] Listening on \S+:(\d+)\.").groups()
                with (self.connect if protocol == "TCP" else self.datagrams)(int(port)) as raw:
                    raw.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello\n")
                    self.assertIn(b"Message received: ", raw.recv(100))
                server.type("hello\nexit\n")
                self.assertEqual(server.wait(), 0, server.errors)
                self.assert_loaded(script, server.errors, of_options)

    def test_what_a_client_loads(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--quiet")
        cases: tuple[tuple[str, tuple[object, ...], set[str]], ...] = (
            ("tcp_client.py", (server.port,), set()),
            ("tcp_client.py", (server.port, "--stats", "-m", "hello"), set()),
            ("tcp_client.py", (server.port, "--rate", 100), {"pace"}),
            ("tcp_client.py", (server.port, "--udp-port", server.udp_port), {"udp_client", "random"}),
            ("udp_client.py", (server.udp_port,), set()),
            ("udp_client.py", (server.udp_port, "--retries", 2, "-m", "hello"), set()),
        )
        clients = [self.start(*self.run_traced(script, "127.0.0.1", *arguments)) for script, arguments, _ in cases]
        for client, (script, arguments, of_options) in zip(clients, cases):
            with self.subTest(script, arguments=arguments):
                with contextlib.suppress(BrokenPipeError):  # with -m it may have ended by now
                    client.type("hello\n")
                    client.end_input()
                self.assertEqual(client.wait(), 0, client.errors)
                self.assertIn("Message received: hello\n", client.output)
                self.assert_loaded(script, client.errors, of_options)

    def test_help_loads_nothing_of_an_option(self) -> None:
        for name in SCRIPTS:
            with self.subTest(name):
                script = self.start(*self.run_traced(f"{name}.py", "--help"))
                self.assertEqual(script.wait(), 0)
                self.assert_loaded(f"{name}.py", script.errors, set())


class OldPythons(unittest.TestCase):
    """Who has a Python that is too old is told so."""

    def assert_refused(self, name: str, *command: str) -> None:
        """Check that a script, which a command runs, ends with 1 and one line."""
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        said = (done.stdout, done.stderr, done.returncode)
        self.assertEqual(said, ("", f"{name}.py: error: needs Python 3.9 or newer\n", 1))

    def test_the_version_is_looked_at_before_anything_newer_is_needed(self) -> None:
        for name in SCRIPTS:
            with self.subTest(name):
                code = f"import runpy, sys; sys.version_info = (3, 8, 18); sys.argv = ['{name}.py']; "
                run = f"runpy.run_path('{name}.py', run_name='__main__')"
                self.assert_refused(name, sys.executable, "-c", code + run)
        body = TREES["first"].body
        (check,) = (place for place, node in enumerate(body) if "version_info" in ast.unparse(node))
        before = {module for module, _ in imports(ast.Module(body[:check], []))}
        self.assertEqual(before, {"__future__", "os", "sys"})

    def test_old_pythons_can_read_what_comes_before(self) -> None:
        """A script, what it imports first, what that imports first, and so on up to first.py."""
        for script in SCRIPTS:
            files = [script]
            while files[-1] != "first":
                files.append(next(module for module, _ in imports(TREES[files[-1]]) if module in TEXTS))
            for name in files:
                with self.subTest(name):
                    ast.parse(TEXTS[name], feature_version=(3, 7))

    def test_old_pythons_themselves(self) -> None:
        """As far as this machine has any; the tests above need none."""
        for version in ("3.7", "3.8"):
            versions = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
            for python in (*versions.glob(f"{version}.*/bin/python3"), shutil.which(f"python{version}")):
                if python and self.version_of(python) == version:
                    for name in SCRIPTS:
                        with self.subTest(name, python=python):
                            self.assert_refused(name, str(python), f"{name}.py")

    @staticmethod
    def version_of(python: object) -> str:
        """Return the version of a Python; "" if it does not run, as a shim of pyenv may not."""
        command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    unittest.main()
