"""Link-local addresses of IPv6, which mean something only with their interface."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest

from support import PATIENCE, TestCase, wait_until

from text import show_address, shown_host


class Shown(unittest.TestCase):
    """How they are written."""

    def test_with_an_interface(self) -> None:
        self.assertRegex(show_address(("fe80::b", 9000, 0, 1)), r"^\[fe80::b%\w+\]:9000$")
        self.assertEqual(show_address(("fe80::b", 9000, 0, 99999)), "[fe80::b%99999]:9000")
        self.assertEqual(show_address(("2001:db8::1", 9000, 0, 0)), "[2001:db8::1]:9000")

    def test_the_host_alone(self) -> None:
        for host in ("127.0.0.1", "::1", "fe80::b%eth0.7"):
            self.assertEqual(shown_host(show_address((host, 9000))), host)


@unittest.skipUnless(sys.platform == "linux" and shutil.which("unshare"), "no network namespaces here")
class Served(TestCase):
    """A server on a machine with two interfaces that share no address but one."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = f"{folder.name}/a.db"
        holder = self.start("unshare", "-n", "sh", "-c", "echo here; exec cat")
        wait_until(functools.partial(self._has_begun, holder), "a network namespace")
        self.machine = ["nsenter", "-n", "-t", str(holder.popen.pid)]
        for command in (
            "ip link set lo up",
            "ip link add side1 type veth peer name side2",
            "ip link set side1 up",
            "ip link set side2 up",
            "ip address add fe80::b/64 dev side1 nodad",
            "ip address add fe80::b/64 dev side2 nodad",
        ):
            done = subprocess.run([*self.machine, *command.split()], capture_output=True, check=False, timeout=PATIENCE)
            if done.returncode:
                self.skipTest(f"no network namespaces here: {done.stderr.decode()}")

    @staticmethod
    def _has_begun(process: object) -> bool:
        return bool(process.output) or process.popen.poll() is not None  # type: ignore[attr-defined]

    def say(self, port: int, side: int, *texts: str) -> None:
        """Send messages from the same machine, over one of its sides."""
        client = self.start(*self.machine, sys.executable, "tcp_client.py", f"fe80::b%side{side}", port)
        client.type("".join(f"{text}\n" for text in texts))
        client.end_input()
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_record_archive_and_exit(self) -> None:
        """Both sides can be told apart, and `exit` from the own machine is obeyed."""
        server = self.server("tcp_server.py", "--host", "::", "--save", self.file, within=self.machine)
        for side in (1, 2):
            self.say(server.port, side, f"over {side}")
            server.wait_for(rf"^\[TCP Server\] Received from \[fe80::b%side{side}\]:\d+: over {side}$")
        database = sqlite3.connect(self.file)
        self.addCleanup(database.close)
        for side, (peer,) in enumerate(database.execute("SELECT peer FROM messages ORDER BY id").fetchall(), 1):
            self.assertRegex(peer, rf"^\[fe80::b%side{side}\]:\d+$")
        self.say(server.port, 2, "exit")
        self.assertEqual((server.wait(), server.errors), (0, ""))

    def test_to_listen_there(self) -> None:
        server = self.server("tcp_server.py", "--host", "fe80::b%side1", within=self.machine)
        self.assertRegex(server.output, r"Listening on \[fe80::b%side1\]:\d+\.")
        self.say(server.port, 1, "hello")
        for script in ("tcp_server.py", "udp_server.py"):
            wrong = self.start(*self.machine, sys.executable, script, 0, "--host", "fe80::b")
            self.assert_one_line_error(wrong, r"cannot listen on \[fe80::b\]:0: .*name the interface")


if __name__ == "__main__":
    unittest.main()
