"""What a UDP server must not answer, it shows and keeps all the same."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import tempfile
import unittest

from hostile import SERVERS_REPLIES, as_root, on_linux
from support import TestCase


class Unanswered(TestCase):
    """Datagrams that a server could have sent, or that come from where services answer."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = f"{folder.name}/a.db"

    def rows(self) -> list[str]:
        """Return the texts that are kept."""
        database = sqlite3.connect(self.file)
        self.addCleanup(database.close)
        return [str(text) for (text,) in database.execute("SELECT text FROM messages ORDER BY id")]

    def test_a_servers_reply_is_shown_and_kept(self) -> None:
        for mode in ("none", "confirm"):
            with self.subTest(mode):
                server = self.server("udp_server.py", "--reply", mode, "--save", f"{self.file}")
                peer = self.datagrams(server.port)
                peer.send(b"Message received: order 4711")
                peer.send(b"the last")
                server.wait_for(r"Received from 127\.0\.0\.1:\d+: the last$")
                self.assertRegex(server.output, r"Received from 127\.0\.0\.1:\d+: Message received: order 4711\n")
                noted = r"Not answered: 127\.0\.0\.1:\d+, a server's reply\n"
                (self.assertNotRegex if mode == "none" else self.assertRegex)(server.output, noted)
                self.assertEqual(self.rows()[-2:], ["Message received: order 4711", "the last"])
                server.type("exit\n")
                self.assertEqual(server.wait(), 0, server.errors)
                if mode == "confirm":
                    self.assertEqual(peer.recv(1000), b"Message received: the last", "and nothing else before")

    def test_all_that_servers_say(self) -> None:
        server = self.server("udp_server.py", "--reply", "relay", "--save", self.file)
        peer, other = self.datagrams(server.port), self.datagrams(server.port)
        other.send(b"I listen")
        self.assertEqual(other.recv(1000), b"Message received: I listen")
        for reply in SERVERS_REPLIES:
            peer.send(reply)
        peer.send(b"the last")
        self.assertEqual(peer.recv(1000), b"Message received: the last")
        self.assertRegex(other.recv(1000), rb": the last$")
        self.assertEqual(
            self.rows(), ["I listen", *(reply.decode().rstrip("\r\n") for reply in SERVERS_REPLIES), "the last"]
        )

    @on_linux
    @as_root
    def test_a_port_that_services_answer_from(self) -> None:
        server = self.server("udp_server.py", "--reply", "none", "--save", self.file, "--exit-from", "nobody")
        service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(service.close)
        for port in range(1023, 900, -1):
            with contextlib.suppress(OSError):
                service.bind(("127.0.0.1", port))
                break
        for text in (b"<13>log line", b"exit", b"terminate"):
            service.sendto(text, ("127.0.0.1", server.port))
        server.wait_for(r"Received from 127\.0\.0\.1:\d+: <13>log line$")
        self.datagrams(server.port).send(b"the last")
        server.wait_for("the last$")
        self.assertEqual(self.rows(), ["<13>log line", "the last"])
        service.setblocking(False)
        self.assertRaises(BlockingIOError, service.recv, 1000)


if __name__ == "__main__":
    unittest.main()
