"""The README tells the truth: its transcripts are what terminals show, its tables name what there is.

A ```console block is a window: a shell with the prompt `$ `. What follows a prompt (`$ `, `> `, `You: `), or stands
before `<- typed`, is typed as soon as the screen shows all that stands above it. The blocks under one heading are
windows side by side, each opened once the one before shows its first output. `...` at a block's end is anything.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

from support import PATIENCE, ROOT, TestCase, wait_until

with contextlib.suppress(ImportError):  # there are no terminals on Windows
    from screen import Terminal

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
SCRIPTS = ("tcp_server.py", "tcp_client.py", "udp_server.py", "udp_client.py")
PORTS = ("9000", "9001", "65432", "65433")
"""The ports in the transcripts; the tests take free ones in their stead."""
COMMAND = re.compile(r"(\$|>|You:) (?=.)")
TYPED = re.compile(r" +<- typed$")
VARIES = (
    (re.compile(r"(127\.\d+\.\d+\.\d+):(?!(?:9000|9001|65432|65433)\b)\d+"), r"\1:PORT"),
    (re.compile(r"(min/avg/max) [\d./]+ ms"), r"\1 TIMES ms"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"^(Ncat: Version) .*"), r"\1"),
)


DOTS = re.compile(r"[-.+*]{4,}")
"""What some versions of OpenSSL print while they make a key, and others do not."""


def sections() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each heading of the README with its ```console blocks, each a list of lines."""
    others_left_out = re.sub(r"^```(?!console)\w+\n.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    _, *parts = re.split(r"^#+ (.+)$", others_left_out, flags=re.MULTILINE)
    for title, text in zip(parts[::2], parts[1::2]):
        blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if blocks:
            yield title, [block.splitlines() for block in blocks]


def free_ports(count: int) -> list[int]:
    """Return ports that are free for TCP and UDP, below those that the system gives to clients."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10000, 32000)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind(("", port))
                datagrams.bind(("", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def missing_tools(blocks: list[list[str]]) -> list[str]:
    """Return the programs in transcripts that this machine lacks."""
    commands = [line[2:] for block in blocks for line in block if line.startswith("$ ")]
    words = {word for command in commands for word in re.findall(r"(?:^|[|&(] *)([a-z][\w.-]*)", command)}
    return sorted(word for word in words if not shutil.which(word))


class Window:
    """A block of the README, and a terminal in which it happens again."""

    def __init__(self, lines: list[str], folder: str, ports: dict[str, str]) -> None:
        self._is_open_ended = lines[-1] == "..."
        lines = [line for line in lines if line != "..." and not DOTS.fullmatch(line)]
        self._typed = [bool(COMMAND.match(line) or TYPED.search(line)) for line in lines]
        self._in_any_order = any(line.startswith("$ (") for line in lines)
        self._speaks_both = any("client" in line and "--udp-port" in line for line in lines)
        self._ports = ports
        self.expected = [self._plain(TYPED.sub("", line)) for line in lines]
        environment = {"PS1": "$ ", "PS2": "> ", "HISTFILE": "", "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        shell = ("sh", "-c", 'cd "$0" && exec bash --norc --noprofile --noediting -i', folder)
        self.terminal = Terminal(*shell, columns=300, environment=environment)
        self._next = 0
        """The line that is to be typed or seen next."""

    def step(self) -> bool:
        """Type what is to be typed now; tell whether everything has happened."""
        rows = self.rows()
        while self._next < len(self.expected):
            row, expected = rows[self._next] if self._next < len(rows) else "", self.expected[self._next]
            if self._typed[self._next]:
                prompt = COMMAND.match(expected)
                if self._next != len(rows) - 1 or row != (prompt[1] if prompt else ""):
                    return False
                text = re.sub(r"\b(?:9000|9001|65432|65433)\b", lambda port: self._ports[port[0]], expected)
                self.terminal.type(text[prompt.end() if prompt else 0 :] + "\r")
                rows[self._next : self._next + 1] = [expected]
            elif self._next >= len(rows) - 1 or (row != expected and not self._in_any_order):
                return False
            self._next += 1
        return self._is_open_ended or self.is_as_expected()

    def has_begun(self) -> bool:
        """Tell whether the first output has been seen."""
        return self._next > self._typed.index(False) if False in self._typed else self._next > 0

    def is_as_expected(self) -> bool:
        """Tell whether the screen shows what the README does, and nothing more but a prompt."""
        rows = self.rows()
        shown, rest = rows[: len(self.expected)], rows[len(self.expected) :]
        if self._in_any_order:
            return sorted(shown) == sorted(self.expected) and rest in (["$"], [""])
        return shown == self.expected and rest in (["$"], ["You:"], [""])

    def rows(self) -> list[str]:
        """Return what the screen shows, without what differs from one run to the next."""
        rows = self.terminal.update().rows
        for port, free in self._ports.items():
            rows = [re.sub(rf"\b{free}\b", port, row) for row in rows]
        rows = [row for row in rows if not DOTS.fullmatch(row)]
        if self._in_any_order:  # a client may be there before its server
            rows = [row for row in rows if "trying again" not in row]
        return [self._plain(row) for row in rows]

    def _plain(self, line: str) -> str:
        for pattern, word in VARIES:
            line = pattern.sub(word, line)
        return re.sub(r"^\[(TCP|UDP)\] ", "[EITHER] ", line) if self._speaks_both else line


class Scene:
    """What happens under one heading of the README."""

    def __init__(self, title: str, blocks: list[list[str]], ports: list[int]) -> None:
        self.title = title
        self._blocks = blocks
        self._ports = dict(zip(PORTS, map(str, ports)))
        self._folder = tempfile.TemporaryDirectory()
        self.windows: list[Window] = []
        for source in ROOT.glob("*.py"):
            shutil.copy(source, self._folder.name)
        python = Path(self._folder.name, "bin", "python3")
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)

    def step(self) -> bool:
        """Let each window go on; tell whether everything has happened in all of them."""
        done = [window.step() for window in self.windows]
        if len(self.windows) < len(self._blocks):
            if not self.windows or self.windows[-1].has_begun():
                self.windows.append(Window(self._blocks[len(self.windows)], self._folder.name, self._ports))
            return False
        return all(done)

    def report(self) -> str:
        """Return what is on the screens and not in the README, and the other way round."""
        return "\n".join(
            f"--- README: {self.title}\n+++ screen\n" + "\n".join(difflib.ndiff(window.expected, window.rows()))
            for window in self.windows
            if not window.step()
        )

    def close(self) -> None:
        """End what runs in the windows, and close them."""
        for window in self.windows:
            window.terminal.type("\x03")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(window.rows()[-1] == "$" for window in self.windows), "only prompts", patience=5)
        for window in self.windows:
            window.terminal.close()
        self._folder.cleanup()


@unittest.skipUnless("Terminal" in globals() and shutil.which("bash"), "this system lacks terminals or bash")
class Transcripts(TestCase):
    """What the README shows, done again."""

    def test_transcripts(self) -> None:
        """Every command of a transcript, typed in a terminal, shows what the README shows."""
        scenes = {title: blocks for title, blocks in sections() if not missing_tools(blocks)}
        ports = free_ports(len(PORTS) * len(scenes))
        going = []
        for title, blocks in scenes.items():
            scene = Scene(title, blocks, [ports.pop() for _ in PORTS])
            self.addCleanup(scene.close)
            going.append(scene)
        deadline = time.monotonic() + 2 * PATIENCE
        while going and time.monotonic() < deadline:
            going = [scene for scene in going if not scene.step()]
            time.sleep(0.01)
        self.assertFalse(going, "\n".join(scene.report() for scene in going))


class Tables(TestCase):
    """What the README says there is."""

    def test_options(self) -> None:
        """The reference names the options of each script's --help, and no others."""
        parts = re.split(r"^\*\*(.+)\*\*$", PROSE, flags=re.MULTILINE)[1:]
        for script in SCRIPTS:
            tables = [text.partition("\n#")[0] for scripts, text in zip(parts[::2], parts[1::2]) if script in scripts]
            rows = re.findall(r"^\| (`-.+?) \|", "\n".join(tables), re.MULTILINE)
            named = re.findall(r"`(--?[a-z-]+)", " ".join(rows))
            shown = self.client(script, "--help")
            self.assertEqual(shown.wait(), 0)
            options = re.findall(r"^  (?:(-\w)\b.*?, )?(--[a-z-]+)", shown.output, re.MULTILINE)
            self.assertEqual(sorted(named), sorted(option for both in options for option in both if option), script)

    def test_socket_calls(self) -> None:
        """Each function in the table of socket calls exists, and makes the calls that the table says."""
        table = PROSE.partition("### The socket calls, in order\n")[2].partition("###")[0]
        rows = re.findall(r"^\|[^|]*\| (`.+?) \|[^|]*\| (`.+) \|$", table, re.MULTILINE)
        self.assertGreater(len(rows), 20)
        for calls, places in rows:
            for file, name in re.findall(r"`(\w+\.py)`: `([\w.]+)\(\)`", places):
                source = source_of(file, name)
                made = [call for call in re.findall(r"\w+", calls) if re.search(rf"\.{call}\(|select_ready\(", source)]
                self.assertEqual(made, re.findall(r"\w+", calls), f"{file}: {name}()")

    def test_functions(self) -> None:
        """Each function and class that the text names with its file exists."""
        for name, file in re.findall(r"`([\w.]+)\(\)` in `(\w+\.py)`", PROSE):
            source_of(file, name)

    def test_links(self) -> None:
        """Each link into the page leads somewhere."""
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(PROSE)}
        self.assertLessEqual(set(re.findall(r"\]\(#(.+?)\)", PROSE)), anchors)

    def test_no_figure_is_missing(self) -> None:
        """Every figure is there."""
        self.assertNotIn("FIGURE", README)


HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def source_of(file: str, name: str) -> str:
    """Return the source of a function, a method or a class. Raises AssertionError if there is none."""
    text = (ROOT / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        assert found, f"{file} has no {name}"
        node = found[0]
    return ast.get_source_segment(text, node) or ""


if __name__ == "__main__":
    unittest.main()
