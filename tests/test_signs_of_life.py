"""An empty datagram is no message: it only tells that its sender is still there."""

from __future__ import annotations

import sqlite3
import tempfile
import unittest

from support import TestCase


class SignsOfLife(TestCase):
    """What a UDP server does with empty datagrams."""

    def test_who_says_nothing_hears_the_others(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = f"{folder.name}/a.db"
        server = self.server("udp_server.py", "--reply", "relay", "--save", file)
        listener, speaker = self.datagrams(server.port), self.datagrams(server.port)
        listener.send(b"")
        speaker.send(b"hello")
        self.assertEqual(speaker.recv(1000), b"Message received: hello")
        where = "{}:{}".format(*speaker.getsockname())
        self.assertEqual(listener.recv(1000).decode(), f"{where}: hello", "and nothing before")
        server.type("typed\n")
        self.assertEqual(listener.recv(1000), b"typed")
        speaker.send(b"\n")
        self.assertEqual(speaker.recv(1000), b"typed")
        self.assertEqual(speaker.recv(1000), b"Message received: \n", "which is an empty message")
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        lines = [line for line in server.output.splitlines() if "Received" in line]
        self.assertEqual(lines, [f"[UDP Server] Received from {where}: hello", f"[UDP Server] Received from {where}: "])
        database = sqlite3.connect(file)
        self.addCleanup(database.close)
        kept = database.execute("SELECT text FROM messages WHERE direction = 'received'").fetchall()
        self.assertEqual(kept, [("hello",), ("",)])

    def test_it_keeps_the_ending_of_the_last_message(self) -> None:
        server = self.server("udp_server.py")
        peer = self.datagrams(server.port)
        peer.send(b"hello\n")
        self.assertEqual(peer.recv(1000), b"Message received: hello\n")
        peer.send(b"")
        server.type("typed\n")
        self.assertEqual(peer.recv(1000), b"typed\n")

    def test_an_empty_message_of_a_client(self) -> None:
        server = self.server("udp_server.py")
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, "--timeout", 1, typed="one\n\ntwo\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output, "Message received: one\nMessage received: \nMessage received: two\n")


if __name__ == "__main__":
    unittest.main()
