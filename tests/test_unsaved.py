"""The record of a server that could not save messages: which ones, how many, and that it saves again."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import unittest
from collections.abc import Iterator

from support import TestCase, receive_lines, with_constants

NOT_SAVED = b"Error: the message could not be saved"
IN_A_HURRY = with_constants(PATIENCE=100, IMPATIENCE=5)
"""Starts a server that does not wait long for the archive."""


class Unsaved(TestCase):
    """Another program locks the archive."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = f"{folder.name}/a.db"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the archive for a while."""
        database = sqlite3.connect(self.file, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.close()

    def test_what_was_not_saved_is_not_shown_as_received(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, within=IN_A_HURRY)
        connected, peer = self.connect(server.port), self.datagrams(server.udp_port)
        with self.locked():
            connected.sendall(b"one\n\x1b[2J\n")
            self.assertEqual(receive_lines(connected, 2), [NOT_SAVED] * 2)
            peer.send(b"three")
            self.assertEqual(peer.recv(1000), NOT_SAVED)
        connected.sendall(b"four\n")
        self.assertEqual(receive_lines(connected, 1), [b"Message received: four"])
        server.wait_for("Received from .*: four$")
        self.assertRegex(server.output, r"\[TCP Server\] Not saved, from 127\.0\.0\.1:\d+: one\n")
        self.assertRegex(server.output, r"\[TCP Server\] Not saved, from 127\.0\.0\.1:\d+: \\x1b\[2J\n")
        self.assertRegex(server.output, r"\[UDP Server\] Not saved, from 127\.0\.0\.1:\d+: three\n")
        self.assertNotRegex(server.output, "Received from .*: (one|three)")
        self.assertRegex(server.output, r"\[Server\] Messages are saved again; 3 were not\.\n\[TCP Server\] Received")

    def test_a_server_that_ends_before_it_could_save_again_tells_the_count(self) -> None:
        server = self.server("udp_server.py", "--save", self.file, "--quiet", within=IN_A_HURRY)
        peer = self.datagrams(server.port)
        with self.locked():
            for _ in range(2):
                peer.send(b"one")
                self.assertEqual(peer.recv(1000), NOT_SAVED)
            server.type("exit\n")
            self.assertEqual(server.wait(), 0)
        self.assertIn("[Server] 2 messages were not saved.\n", server.output)
        self.assertNotIn("one", server.output)

    def test_what_is_refused_is_not_waited_for(self) -> None:
        """A client ends also where that is more than it sends ahead, in bytes or in lines."""
        server = self.server("tcp_server.py", "--save", self.file, "--quiet", within=IN_A_HURRY)
        with self.locked():
            for count, size in ((1500, 1000), (20_000, 1)):
                with self.subTest(count):
                    typed = ("x" * size + "\n") * count
                    client = self.run_client("tcp_client.py", server.port, "--stats", typed=typed)
                    self.assertEqual(client.wait(), 1)
                    self.assertEqual(client.output.count(NOT_SAVED.decode()), count)
                    self.assertRegex(client.errors, rf"\n{count} sent, 0 confirmed, {count} lost\n\Z")


if __name__ == "__main__":
    unittest.main()
