"""Several copies of a server on one machine, and a server that systemd runs."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import PATIENCE, ROOT, Process, Server, TestCase, free_port, needs, readme_block, receive_lines, wait_until

spreads_clients = unittest.skipUnless(sys.platform == "linux", "only Linux spreads clients over the sockets of a port")
MOST_CLIENTS = 200
"""Clients after which each of two copies has one, but for one case in 2**199."""
UNIT = "# /etc/systemd/system/messages.service"
WITHOUT_REUSE_PORT = """
import runpy, socket, sys
if hasattr(socket, "SO_REUSEPORT"):
    del socket.SO_REUSEPORT
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def temporary_folder(test: TestCase) -> Path:
    """Return a folder that ends with a test."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


def receive_until(connected: socket.socket, end: bytes) -> bytes:
    """Return what arrives up to `end`, or a little more."""
    data = bytearray()
    while end not in data:
        chunk = connected.recv(1 << 16)
        if not chunk:
            raise AssertionError(f"closed after {bytes(data)!r}")
        data += chunk
    return bytes(data)


class SharedPort(TestCase):
    """With --reuse-port several copies share a port; without it they do not."""

    def copies(self, script: str, *options: object) -> tuple[Server, Server]:
        """Start two copies on one port."""
        first = self.server(script, "--reuse-port", *options)
        return first, self.server(script, "--reuse-port", *options, port=first.port)

    def clients_of_each(self, copies: tuple[Server, Server]) -> tuple[list[socket.socket], list[socket.socket]]:
        """Connect clients, each confirmed, until both copies have one; return which are whose."""
        clients: dict[str, socket.socket] = {}

        def known(copy: Server) -> list[socket.socket]:
            return [clients[name] for name in re.findall(r"Received from (\S+): hello", copy.output)]

        while len(clients) < MOST_CLIENTS:
            client = (self.datagrams if copies[0].protocol == "UDP" else self.connect)(copies[0].port)
            clients["{}:{}".format(*client.getsockname())] = client
            client.sendall(b"hello\n")
            self.assertEqual(receive_lines(client, 1), [b"Message received: hello"])
            wait_until(lambda: len(known(copies[0]) + known(copies[1])) == len(clients), "the message in a record")
            if known(copies[0]) and known(copies[1]):
                return known(copies[0]), known(copies[1])
        raise AssertionError(f"one copy got all of {MOST_CLIENTS} clients")

    @spreads_clients
    def test_two_tcp_copies_share_the_clients(self) -> None:
        self.clients_of_each(self.copies("tcp_server.py"))

    @spreads_clients
    def test_two_udp_copies_share_the_peers(self) -> None:
        self.clients_of_each(self.copies("udp_server.py"))

    @spreads_clients
    def test_both_protocols_of_one_program_share_their_ports(self) -> None:
        first = self.server("tcp_server.py", "--reuse-port", "--udp-port", 0)
        second = self.server("tcp_server.py", "--reuse-port", "--udp-port", first.udp_port, port=first.port)
        self.assertEqual((second.port, second.udp_port), (first.port, first.udp_port))

    def test_without_it_the_second_copy_is_refused(self) -> None:
        for script in ("tcp_server.py", "udp_server.py"):
            for first, second in (((), ()), (("--reuse-port",), ()), ((), ("--reuse-port",))):
                with self.subTest(script=script, first=first, second=second):
                    port = self.server(script, *first).port
                    self.assert_one_line_error(
                        self.client(script, port, *second), rf"127\.0\.0\.1:{port}: port {port} is in use; .+"
                    )

    def test_a_system_that_lacks_it(self) -> None:
        for script in ("tcp_server.py", "udp_server.py"):
            server = self.start(sys.executable, "-c", WITHOUT_REUSE_PORT, script, 0, "--reuse-port")
            self.assert_one_line_error(server, "this system does not let programs share a port; .*--reuse-port")

    @spreads_clients
    def test_what_is_typed_or_said_stays_with_the_clients_of_a_copy(self) -> None:
        copies = self.copies("tcp_server.py", "--reply", "relay")
        mine, others = self.clients_of_each(copies)
        mine[0].sendall(b"said\n")
        receive_until(mine[0], b"received: said\n")
        copies[0].type("typed\n")
        for client in mine:
            receive_until(client, b"typed\n")
        others[0].sendall(b"last\n")
        seen = receive_until(others[0], b"received: last\n")
        self.assertNotIn(b"said", seen)
        self.assertNotIn(b"typed", seen)

    @spreads_clients
    def test_a_copy_is_killed_and_its_clients_come_back_to_the_other(self) -> None:
        copies = self.copies("tcp_server.py")
        client = self.client("tcp_client.py", "--reconnect", "127.0.0.1", copies[0].port)
        client.type("first\n")
        client.wait_for("received: first")
        wait_until(lambda: any("first" in copy.output for copy in copies), "the message in a record")
        killed, other = copies if "first" in copies[0].output else copies[::-1]
        killed.stop()
        client.type("under way\n")
        killed.signal(signal.SIGKILL)
        client.type("last\n")
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(client.output.count("Message received: "), 3)
        other.wait_for(r"Received from \S+: under way\n.*: last")

    @spreads_clients
    @needs("sqlite3")
    def test_the_archives_of_copies_are_read_as_one(self) -> None:
        command = readme_block("sqlite3 one.db \"ATTACH 'two.db' AS two\" \\")
        folder = temporary_folder(self)
        first = self.server("tcp_server.py", "--save", folder / "one.db", "--reuse-port")
        second = self.server("tcp_server.py", "--save", folder / "two.db", "--reuse-port", port=first.port)
        clients = self.clients_of_each((first, second))
        told = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True, check=True)
        names = ["{}:{}".format(*client.getsockname()) for client in clients[0] + clients[1]]
        rows = [row.split("|") for row in told.stdout.splitlines()]
        self.assertEqual(sorted((peer, text) for _, peer, text in rows), sorted((name, "hello") for name in names))
        self.assertEqual(rows, sorted(rows, key=lambda row: row[0]), "in order of time")


@unittest.skipUnless(sys.platform == "linux", "systemd runs on Linux only")
class SystemdUnit(TestCase):
    """The README's unit is sound, and the server behaves as systemd and its journal want."""

    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.unit = readme_block(UNIT)

    def command(self, port: int) -> list[str]:
        """Return what the unit starts, with this Python, this checkout, another port and another folder."""
        command = re.search(r"^ExecStart=(.+)$", self.unit.replace("\\\n", ""), re.MULTILINE)[1]  # type: ignore[index]
        replaced = command.replace("/opt/messages/", f"{ROOT}/").replace("%S/messages/", f"{self.folder}/")
        python, script, _, *options = replaced.split()
        self.assertEqual(Path(python).name, "python3")
        return [sys.executable, script, str(port), *options]

    def start_service(self, port: int) -> tuple[Process, socket.socket]:
        """Start it as systemd does, without input and with a socket of the journal's as output; return that, too."""
        journal, output = socket.socketpair()
        self.addCleanup(journal.close)
        journal.settimeout(PATIENCE)
        with output:
            service = self.start(*self.command(port), stdin=subprocess.DEVNULL, stdout=output)
        return service, journal

    @needs("systemd-analyze")
    def test_systemd_finds_nothing_wrong_with_it(self) -> None:
        def complaints(name: str, unit: str) -> list[str]:
            path = self.folder / name
            path.write_text(unit.replace("/opt/messages/", f"{ROOT}/").replace("/usr/bin/python3", sys.executable))
            done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
            return [line for line in done.stderr.splitlines() if name in line]

        self.assertEqual(complaints("messages.service", self.unit), [])
        self.assertTrue(complaints("bad.service", self.unit.replace("ProtectHome=", "ProtectHoem=")))
        self.assertTrue(complaints("gone.service", self.unit.replace("tcp_server", "x").replace("python3", "python9")))

    def test_it_starts_again_and_has_a_user_of_its_own(self) -> None:
        for line in ("Restart=always", "User=messages", "NoNewPrivileges=yes", "ProtectSystem=strict"):
            self.assertIn(line, self.unit.splitlines())

    def test_it_serves_and_ends_cleanly_and_the_journal_gets_plain_lines(self) -> None:
        port = free_port()
        service, journal = self.start_service(port)
        record = receive_until(journal, b" to stop.\n")
        client = self.connect(port)
        client.sendall(b"hello\x1b[2J\nexit\n")
        confirmation, refusal = receive_lines(client, 2)
        self.assertEqual(confirmation, b"Message received: hello\x1b[2J")
        self.assertTrue(refusal.startswith(b"Error: 'exit' is not obeyed"), "Restart=always would undo it")
        service.signal(signal.SIGTERM)
        self.assertEqual(client.recv(1 << 16), b"Server shutting down...\n")
        client.close()
        self.assertEqual(service.wait(), 0, service.errors)
        with contextlib.closing(journal):
            while not record.endswith(b"[Server] All services stopped.\n"):
                record += journal.recv(1 << 16)
        for line in record.decode("ascii").splitlines():
            self.assertTrue(
                line.startswith(("[TCP Server] ", "[Server] ", "Type a line ")) and line.isprintable(), line
            )
        with contextlib.closing(sqlite3.connect(self.folder / "messages.db")) as archive:
            self.assertEqual(archive.execute("SELECT text FROM messages").fetchall(), [("hello\x1b[2J",)])

    def test_a_port_that_is_still_busy_ends_it_with_1_so_that_it_is_started_again(self) -> None:
        before = self.server("tcp_server.py")
        service, _ = self.start_service(before.port)
        self.assert_one_line_error(service, f"port {before.port} is in use")
        before.signal(signal.SIGTERM)
        self.assertEqual(before.wait(), 0)
        _, journal = self.start_service(before.port)
        receive_until(journal, b"Listening on 127.0.0.1:")


if __name__ == "__main__":
    unittest.main()
