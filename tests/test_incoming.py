"""`incoming`: text from a stream in any pieces, as bytes and as lines."""

from __future__ import annotations

import random
import unittest

from support import TestCase

from incoming import LONGEST_EXTRA, LONGEST_SHOWN, Incoming, LongLine, shortened


class Pieces(TestCase):
    """The same text in any pieces gives the same bytes and lines."""

    def taken(self, text: bytes, *, in_lines: bool, size: int, longest: int = 10) -> tuple[bytes, list[bytes]]:
        """Return what comes of a text that arrives in pieces of some size."""
        incoming = Incoming(in_lines)
        incoming.longest = longest
        parts = [incoming.take(text[start : start + size]) for start in range(0, len(text), size)]
        parts.append(incoming.end())
        return b"".join(data for data, _ in parts), [line for _, lines in parts for line in lines]

    def test_any_pieces(self) -> None:
        chance = random.Random(3)
        for _ in range(300):
            text = b"\n".join(b"x" * chance.choice((0, 1, 9, 10, 11, 40)) for _ in range(chance.randrange(8)))
            expected = text.split(b"\n") if not text.endswith(b"\n") else text.split(b"\n")[:-1]
            for in_lines in (False, True):
                for size in (1, 2, 7, 1000):
                    data, lines = self.taken(text, in_lines=in_lines, size=size)
                    self.assertEqual(data, text)
                    lengths = [line.length if isinstance(line, LongLine) else len(line) for line in lines]
                    self.assertEqual(lengths, [len(line) for line in expected if line or text])

    def test_bytes_go_on_at_once_or_in_lines(self) -> None:
        at_once, in_lines = Incoming(False), Incoming(True)
        self.assertEqual(at_once.take(b"one\ntw"), (b"one\ntw", [b"one"]))
        self.assertEqual(in_lines.take(b"one\ntw"), (b"one\n", [b"one"]))
        self.assertEqual(at_once.end(), (b"", [b"tw"]))
        self.assertEqual(in_lines.end(), (b"tw", [b"tw"]))

    def test_a_long_line_equals_no_answer(self) -> None:
        for size in (1, 5, 1000):
            _, lines = self.taken(b"x" * 50 + b"\ny\n", in_lines=False, size=size)
            self.assertGreater(len(lines[0]), 10)
            self.assertEqual(lines[1], b"y")

    def test_little_is_kept_of_it(self) -> None:
        incoming = Incoming(True)
        for _ in range(100):
            data, lines = incoming.take(b"x" * LONGEST_EXTRA)
            self.assertEqual(lines, [])
            self.assertLessEqual(len(incoming._lines.unfinished), LONGEST_EXTRA)
        self.assertEqual(len(data), LONGEST_EXTRA)
        (line,) = incoming.take(b"\n")[1]
        self.assertLess(len(line), 3 * LONGEST_EXTRA)
        self.assertTrue(shortened(line).endswith(b"x... (%d bytes)" % (100 * LONGEST_EXTRA)))

    def test_what_is_unfinished(self) -> None:
        incoming = Incoming(False)
        for text, expected in ((b"log", b"log"), (b"in: \r", b"login: "), (b"\nnext", b"next"), (b"\n", b"")):
            incoming.take(text)
            self.assertEqual(incoming.unfinished(), expected)
        incoming.take(b"x" * (LONGEST_EXTRA + 1))
        self.assertEqual(incoming.unfinished(), b"x" * LONGEST_SHOWN)
        incoming = Incoming(False, "cr")
        for text, expected in ((b"one\r\n", b""), (b"two", b"two")):
            incoming.take(text)
            self.assertEqual(incoming.unfinished(), expected)


class Marks(TestCase):
    """Something else than a line feed may end a line."""

    def test_each(self) -> None:
        """Each line is handed on with a line feed, as a file or a pipe wants it."""
        for ending, mark in (("nul", b"\0"), ("cr", b"\r"), ("crlf", b"\r\n")):
            for size in (1, 3, 100):
                with self.subTest(ending=ending, size=size):
                    incoming = Incoming(False, ending)
                    incoming.longest = 5
                    text = mark.join([b"one", b"a", b"two", b""])
                    parts = [incoming.take(text[start : start + size]) for start in range(0, len(text), size)]
                    self.assertEqual(b"".join(data for data, _ in parts), b"one\na\ntwo\n")
                    self.assertEqual([line for _, lines in parts for line in lines], [b"one", b"a", b"two"])


class Streams(TestCase):
    """One stream after another."""

    def test_each_begins_on_a_line_of_its_own(self) -> None:
        for in_lines in (False, True):
            for before, after in (
                (b"one\n", b"two\n"),
                (b"one\nhal", b"two\n"),
                (b"x" * 20, b"two\n"),
                (b"", b"two\n"),
            ):
                with self.subTest(in_lines=in_lines, before=before):
                    incoming = Incoming(in_lines)
                    incoming.longest = 10
                    data = incoming.take(before)[0]
                    data += incoming.end()[0]
                    incoming.restart()
                    handed_on, lines = incoming.take(after)
                    is_torn = bool(before) and not before.endswith(b"\n")
                    self.assertEqual(data + handed_on, before + b"\n" * is_torn + after)
                    self.assertEqual(lines, [b"two"])


class Shown(TestCase):
    """What a person is shown of a line."""

    def test_how_much(self) -> None:
        for length in (0, LONGEST_SHOWN):
            self.assertEqual(shortened(b"x" * length), b"x" * length)
        line = b"x" * (LONGEST_SHOWN + 1)
        self.assertEqual(shortened(line), line[:-1] + b"... (65537 bytes)")


if __name__ == "__main__":
    unittest.main()
