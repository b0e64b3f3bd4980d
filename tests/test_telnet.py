"""What telnet programs negotiate at the very start of a connection is no part of the first line."""

from __future__ import annotations

import random
import unittest

from support import TestCase, receive_lines

from lines import Lines
from telnet import LONGEST, Opening

PUTTY = b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03"
SIZE = b"\xff\xfa\x1f\x00\n\xff\xff\x18\xff\xf0"
"""A window's size, ten columns wide, so that a line feed is in it."""


class Openings(TestCase):
    """The start of a stream, however it is cut up."""

    def lines(self, *parts: bytes) -> list[bytes]:
        """Return what comes out of a stream's parts, at its end, too."""
        lines = Lines()
        lines.opening = Opening(lines)
        return [*(line for part in parts for line in lines.take(part)), *lines.end()]

    def test_any_cut(self) -> None:
        chance = random.Random(1)
        for start in (PUTTY, SIZE, PUTTY + SIZE + b"\xff\xf1", b""):
            for text in (
                b"hello\nyou\xff\xfb\x01\n",
                b"\n\n",
                b"\xff\xff\n",
                b"\xffa\n",
                "\ufeffhi".encode("utf-16-le"),
                b"",
                b"rest",
            ):
                stream = start + text
                for _ in range(20):
                    cuts = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(6)))
                    parts = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)])]
                    expected = text.split(b"\n")
                    self.assertEqual(self.lines(*parts), expected if expected[-1] else expected[:-1], parts)

    def test_what_never_ends_is_text(self) -> None:
        endless = b"\xff\xfa" + b"x" * LONGEST
        self.assertEqual(self.lines(*(endless[at : at + 1] for at in range(len(endless))), b"\n"), [endless])
        lines = Lines()
        lines.opening = Opening(lines)
        for _ in range(1000):
            lines.take(b"\xff\xf1" * 50)
        self.assertEqual(lines.unfinished, b"", "what is left out is not kept")

    def test_a_server(self) -> None:
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        connected.sendall(PUTTY + b"hello\r\n")
        self.assertEqual(receive_lines(connected, 1), [b"Message received: hello\r"])
        connected.sendall(b"\xff\xfb\x01\n")
        self.assertEqual(receive_lines(connected, 1), [b"Message received: \xff\xfb\x01"], "anything later is data")
        other = self.connect(self.server("tcp_server.py", "--ending", "nul").port)
        other.sendall(PUTTY + b"\0")
        self.assertEqual(other.recv(100), b"Message received: " + PUTTY + b"\0")


if __name__ == "__main__":
    unittest.main()
