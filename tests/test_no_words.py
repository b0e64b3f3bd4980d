"""`--no-words`: servers that take no line for a command."""

from __future__ import annotations

import unittest

from support import TestCase, receive_all, receive_lines

TEXTS = [b"terminate", b" exit ", b"exit", b"after"]


class NoWords(TestCase):
    """What would be a word is a message like any other."""

    def test_over_tcp(self) -> None:
        server = self.server("tcp_server.py", "--no-words")
        connected = self.connect(server.port)
        connected.sendall(b"\n".join([*TEXTS, b""]))
        self.assertEqual(receive_lines(connected, 4), [b"Message received: " + text for text in TEXTS])
        server.type("exit\n")
        self.assertEqual(receive_all(connected), b"Server shutting down...\n", "the person at the server still has it")
        connected.close()
        self.assertEqual(server.wait(), 0)
        self.assertIn(": terminate\n", server.output)

    def test_over_udp(self) -> None:
        server = self.server("udp_server.py", "--no-words", "--reply", "echo")
        peer = self.datagrams(server.port)
        for text in TEXTS:
            peer.send(text)
            self.assertEqual(peer.recv(1000), text)


if __name__ == "__main__":
    unittest.main()
