"""`lines`: messages in a stream of bytes, in however many pieces they arrive."""

from __future__ import annotations

import random
import unittest

from support import TestCase

from lines import Lines


def pieces(chance: random.Random) -> list[bytes]:
    """Return a stream that is cut up somehow."""
    stream = bytes(chance.choices(b"\n\nab\r\x00\xff", k=chance.randrange(60)))
    cuts = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(8)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]


class Streams(TestCase):
    """`lines.Lines` is a stream from its first byte to its end."""

    def test_any_cut_gives_the_same_messages(self) -> None:
        chance = random.Random(2)
        for _ in range(300):
            lines = Lines()
            stream = pieces(chance)
            taken = [line for piece in stream for line in lines.take(piece)]
            *expected, last = b"".join(stream).split(b"\n")
            self.assertEqual(taken, expected)
            self.assertEqual(lines.unfinished, last)
            self.assertEqual(lines.end(), [last] if last else [])

    def test_what_is_unfinished_is_the_last_line(self) -> None:
        lines = Lines()
        self.assertEqual(lines.take(b"one\nt"), [b"one"])
        self.assertEqual(lines.take(b"wo"), [])
        last = lines.end()
        self.assertEqual((last, [type(line) for line in last]), ([b"two"], [bytes]))
        self.assertEqual((lines.unfinished, lines.end()), (b"", []), "it counts once")

    def test_lines_are_bytes(self) -> None:
        lines = Lines()
        lines.take(b"a")
        self.assertEqual([type(line) for line in lines.take(b"b\nc\n")], [bytes, bytes])

    def test_an_unfinished_line_grows_in_place(self) -> None:
        lines = Lines()
        lines.take(b"x")
        unfinished = lines.unfinished
        for _ in range(1000):
            self.assertEqual(lines.take(b"x"), [])
            self.assertIs(lines.unfinished, unfinished, "copying it for each piece would cost O(n^2)")
        self.assertEqual(len(unfinished), 1001)

    def test_a_stream_without_a_byte(self) -> None:
        self.assertEqual(Lines().end(), [])

    def test_a_line_without_end_is_cut(self) -> None:
        """What follows begins a line."""
        lines = Lines()
        self.assertEqual(lines.take(b"one\nfar too lo"), [b"one"])
        self.assertEqual(lines.cut(), [b"far too lo"])
        self.assertEqual((lines.take(b"ng\nx"), lines.cut(), lines.cut()), ([b"ng"], [b"x"], []))

    def test_each_message_is_a_line(self) -> None:
        for messages, start, stream in (
            ([b"a"], b"", b"a\n"),
            ([b"a", b"", b"c\r\xff"], b"", b"a\n\nc\r\xff\n"),
            ([b""], b"> ", b"> \n"),
            ([b"a", b"b"], b"> ", b"> a\n> b\n"),
        ):
            with self.subTest(messages, start=start):
                self.assertEqual(Lines().pack(messages, start), stream)

    def test_what_is_packed_is_taken(self) -> None:
        messages = [b"", b"a", b"b\r", b"\xff\x00", b""]
        lines = Lines()
        self.assertEqual((lines.take(lines.pack(messages)), lines.end()), (messages, []))

    def test_a_stream_has_nothing_to_say_itself(self) -> None:
        lines = Lines()
        lines.take(b"one\ntwo")
        self.assertEqual((lines.outgoing(), lines.unsent(), lines.finish(), lines.is_secure), (b"", 0, b"", False))

    def test_streams_are_small(self) -> None:
        """A server has ten thousand."""
        self.assertFalse(hasattr(Lines(), "__dict__"))


class Endings(TestCase):
    """`--ending`: what ends a message, in what comes and in what is sent."""

    def test_any_cut_gives_the_same_messages(self) -> None:
        chance = random.Random(3)
        for ending, stream, expected in (
            ("crlf", b"a\r\nb\n\r\nc\r\r\nd", [b"a", b"b", b"", b"c\r", b"d"]),
            ("cr", b"a\rb\r\nc\r\n\nd\r\re\nf\r\n", [b"a", b"b", b"c", b"\nd", b"", b"e\nf"]),
            ("nul", b"a\0\0b\r\n\0c\nd", [b"a", b"", b"b\r\n", b"c\nd"]),
        ):
            for _ in range(100):
                cuts = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(8)))
                lines = Lines(ending)
                parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]
                self.assertEqual(
                    [*(line for part in parts for line in lines.take(part)), *lines.end()], expected, parts
                )

    def test_what_is_sent(self) -> None:
        for ending, sent in (("lf", b"a\nb\n"), ("crlf", b"a\r\nb\r\n"), ("cr", b"a\rb\r"), ("nul", b"a\0b\0")):
            self.assertEqual(Lines(ending).pack([b"a", b"b"]), sent)
            self.assertEqual(Lines(ending).pack([b"a"], b"> "), b"> " + sent[: len(sent) // 2])


if __name__ == "__main__":
    unittest.main()
