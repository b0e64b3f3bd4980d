"""What goes wrong while a script starts is told in one line, and never with a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import PATIENCE, ROOT, TestCase

SCRIPTS = {
    "tcp_server.py": ("0",),
    "udp_server.py": ("0",),
    "tcp_client.py": ("127.0.0.1", "9"),
    "udp_client.py": ("127.0.0.1", "9"),
}
ODD = "a\nb\x1b[2J"


class Start(TestCase):
    """A script that is not to run for long."""

    def run_script(
        self, *command: str, environment: dict[str, str] | None = None, first: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; `first` is what a shell does before."""
        return subprocess.run(
            ["sh", "-c", f'{first or ":"}; exec "$0" "$@"', sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


class Errors(Start):
    """Wrong arguments."""

    def test_each_is_one_line(self) -> None:
        for script, arguments in SCRIPTS.items():
            options = [[f"--{ODD}"], [f"--timeout={ODD}", f"--reply={ODD}"], [ODD]]
            options += [["--save", f"/nowhere/{ODD}"], ["--host", ODD]] if "server" in script else [["-m", "x", ODD]]
            if script.startswith("tcp"):
                options.append([*(["--tls"] if "client" in script else []), "--tls-cert", ODD, "--tls-key", ODD])
            for option in options:
                done = self.run_script(script, *option, *arguments)
                with self.subTest(script, option=option):
                    self.assertIn(done.returncode, (1, 2))
                    self.assertRegex(done.stderr, rf"\A{re.escape(script)}: error: [^\n\x1b]*\n\Z")


@unittest.skipUnless(os.name == "posix", "only there can a process be interrupted so")
class Interrupted(Start):
    """Ctrl-C while modules are loaded."""

    def test_no_traceback(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for module in ("argparse", "socket", "terminal"):
            code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
            Path(folder.name, "sitecustomize.py").write_text(code)
            for script, arguments in SCRIPTS.items():
                with self.subTest(script, module=module):
                    done = self.run_script(script, *arguments, environment={"PYTHONPATH": folder.name})
                    self.assertEqual((done.stderr, done.returncode), ("", 130))


@unittest.skipUnless(os.name == "posix", "only there is ulimit")
class FewFiles(Start):
    """A very low limit on open files."""

    def test_one_line(self) -> None:
        for script, arguments in SCRIPTS.items():
            done = self.run_script(script, *arguments, first="ulimit -n 5")
            with self.subTest(script):
                cure = r"cannot start: .*; raise the limit on them \(ulimit -n\)"
                self.assertRegex(done.stderr, rf"\A{re.escape(script)}: error: {cure}\n\Z")
                self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
