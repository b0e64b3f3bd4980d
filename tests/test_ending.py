"""`--ending`: peers that end their messages otherwise."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path

from support import TestCase, new_certificate, receive_all

MARKS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r", "nul": b"\0"}


class Endings(TestCase):
    """A server and a client with each ending."""

    def test_a_server(self) -> None:
        for ending, said, replies in (
            ("lf", b"one\ntwo\r\n", b"Message received: one\nMessage received: two\r\n"),
            ("cr", b"one\rtwo\r\nthree\r", b"Message received: one\rMessage received: two\rMessage received: three\r"),
            ("nul", b"one\0<a>\n</a>\0", b"Message received: one\0Message received: <a>\n</a>\0"),
        ):
            with self.subTest(ending):
                server = self.server("tcp_server.py", "--ending", ending)
                connected = self.connect(server.port)
                connected.sendall(said + b"terminate" + MARKS[ending])
                self.assertEqual(receive_all(connected), replies)
                self.assertNotIn("terminate", server.output)

    def test_a_client(self) -> None:
        """What it sends, and how it cuts what it gets: each reply is a line of its output."""
        for ending, mark in MARKS.items():
            with self.subTest(ending):
                listener = self.listen()
                port = listener.getsockname()[1]
                client = self.client("tcp_client.py", "127.0.0.1", port, "--ending", ending, "-m", "one", "-m", "two")
                connected = self.accept(listener)
                expected = b"one" + mark + b"two" + mark
                data = b""
                while len(data) < len(expected):
                    data += connected.recv(1000)
                self.assertEqual(data, expected)
                connected.sendall(mark.join([b"Welcome", b"Message received: one", b"Message received: two", b""]))
                self.assertEqual(client.wait(), 0, client.errors)
                self.assertEqual(client.output, "Welcome\nMessage received: one\nMessage received: two\n")

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_both_over_tls(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        new_certificate(Path(folder.name), "own", "/CN=localhost", "DNS:localhost")
        files = ("--tls-cert", f"{folder.name}/own.pem", "--tls-key", f"{folder.name}/own.key")
        server = self.server("tcp_server.py", "--ending", "nul", *files)
        trust = ("--tls", "--tls-ca", f"{folder.name}/own.pem")
        client = self.run_client(
            "tcp_client.py", "localhost", server.port, "--ending", "nul", *trust, typed=b"one\ntwo"
        )
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output, "Message received: one\nMessage received: two\n")

    def test_a_datagram_can_not_forge_what_others_say(self) -> None:
        for ending, text, shown in (("cr", b"a\rb\nc", rb"a\rb\nc"), ("nul", b"a\0b\nc", rb"a\x00b\nc")):
            server = self.server("tcp_server.py", "--ending", ending, "--udp-port", 0, "--reply", "relay")
            connected = self.connect(server.port)
            server.wait_for("Connected by")
            self.datagrams(server.udp_port).send(text)
            data = b""
            while not data.endswith(MARKS[ending]):
                data += connected.recv(1000)
            self.assertRegex(data, rb"^127\.0\.0\.1:\d+: a[^\r\n\0]+c[\r\0]$")
            self.assertIn(shown, data)

    def test_what_is_no_ending(self) -> None:
        for script, ending in (("tcp_server.py", "crlf"), ("tcp_client.py", "lfcr")):
            wrong = self.client(script, *(("0",) if "server" in script else ("127.0.0.1", "1")), "--ending", ending)
            self.assert_one_line_error(wrong, "--ending: invalid choice", code=2)


if __name__ == "__main__":
    unittest.main()
