"""How one talks to Redis, and how its stream is followed, without a Redis."""

from __future__ import annotations

import random
import time
import unittest
from typing import Any

import support  # noqa: F401  # which makes the rooms importable

from following import Following
from resp import MAX_LINE, Refusal, Replies, command


class Speaking(unittest.TestCase):
    """`resp`: words in, answers out."""

    STREAM = (
        b"+OK\r\n:42\r\n:-1\r\n$5\r\nhello\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n-ERR no such key\r\n"
        b"*2\r\n*1\r\n$4\r\na\r\nb\r\n*2\r\n:1\r\n*0\r\n$3\r\n\x00\xff\n\r\n"
    )
    ANSWERS: tuple[Any, ...] = (
        *(b"OK", 42, -1, b"hello", b"", None, None, [], Refusal("ERR no such key")),
        *([[b"a\r\nb"], [1, []]], b"\x00\xff\n"),
    )

    def test_a_command(self) -> None:
        self.assertEqual(command("GET", b"\xff", 7), b"*3\r\n$3\r\nGET\r\n$1\r\n\xff\r\n$1\r\n7\r\n")

    def test_answers_in_any_pieces(self) -> None:
        chance = random.Random(18)
        for most in (1, 2, 5, 1000):
            with self.subTest(most):
                replies, found, rest = Replies(), [], self.STREAM
                while rest:
                    size = chance.randint(1, most)
                    found += replies.take(rest[:size])
                    rest = rest[size:]
                self.assertEqual(found, list(self.ANSWERS))
                self.assertIsInstance(found[8], Refusal)

    def test_what_is_no_answer(self) -> None:
        for data in (
            b"HTTP/1.1 400\r\n",
            b"$-2\r\n",
            b"$99999999999999\r\n",
            b"*99999999\r\n",
            b":x\r\n",
            b"\r\n",
            b"*1\r\n" * 9,
            b"+" + b"x" * (MAX_LINE + 1),
            b"+" + b"x" * (MAX_LINE + 1) + b"\r\n",
        ):
            with self.subTest(data[:20]), self.assertRaises(ValueError):
                Replies().take(data)

    def test_bytes_cost_the_same_in_many_pieces(self) -> None:
        data = b"*1000\r\n" + b"$1000\r\n%b\r\n" % (b"x" * 1000) * 1000
        replies, began = Replies(), time.process_time()
        found = [answer for at in range(0, len(data), 100) for answer in replies.take(data[at : at + 100])]
        self.assertEqual(found, [[b"x" * 1000] * 1000])
        self.assertLess(time.process_time() - began, 2)


def state(last: str, added: int | None, length: int) -> list[Any]:
    """Return what Redis says of a stream; before version 7, it does not say what was added."""
    found: list[Any] = [b"length", length, b"last-generated-id", last.encode()]
    return found if added is None else [*found, b"entries-added", added]


def entry(number: str, **fields: str) -> list[Any]:
    """Return an entry."""
    return [number.encode(), [part.encode() for pair in fields.items() for part in pair]]


class Follows(unittest.TestCase):
    """`following.Following`: what is new, and what was missed."""

    def setUp(self) -> None:
        self.following = Following("room", "me")
        self.assertEqual(self.following.take_state([state("5-0", 5, 3)]), "")

    def read(self, *entries: list[Any]) -> list[bytes]:
        """Take entries."""
        return self.following.take_new([[b"room", list(entries)]])

    def missed(self, last: str, added: int | None, length: int) -> int:
        """Take the stream's state; return how many were missed."""
        self.assertEqual(self.following.take_state([state(last, added, length)]), "")
        missed, self.following.missed = self.following.missed, 0
        return missed

    def test_it_asks_for_what_comes_after_the_last(self) -> None:
        self.assertTrue(self.following.question().endswith(b"$4\r\nroom\r\n$3\r\n5-0\r\n"))
        self.read(entry("7-1", text="one"))
        self.assertTrue(self.following.question().endswith(b"$3\r\n7-1\r\n"))
        self.assertEqual(self.following.take_new(None), [])

    def test_lines(self) -> None:
        lines = self.read(
            entry("6-0", server="other", direction="received", peer="1.2.3.4:5", text="one"),
            entry("6-1", server="me", direction="received", peer="1.2.3.4:5", text="mine"),
            entry("6-2", server="other", direction="sent", peer="*", text="typed"),
            entry("6-3", something="else"),
            entry("6-4", peer="a\nb", text="a\nline\r\n"),
        )
        self.assertEqual(lines, [b"1.2.3.4:5: one", b"typed", rb"a\nb: a\nline"])

    def test_nothing_is_missed(self) -> None:
        self.read(entry("6-0", text="one"))
        self.assertEqual(self.missed("6-0", 6, 3), 0)
        self.assertEqual(self.missed("8-0", 8, 2), 0)

    def test_the_stream_was_cut(self) -> None:
        self.assertEqual(self.missed("20-0", 20, 10), 5)
        self.assertEqual(self.missed("20-0", 20, 10), 0, "told once")
        self.read(*(entry(f"{number}-0", text="x") for number in range(11, 21)))
        self.assertEqual(self.missed("20-0", 20, 10), 0)

    def test_some_were_cut_between_two_questions(self) -> None:
        self.read(entry("9-0", text="one"))
        self.assertEqual(self.missed("9-0", 9, 1), 3)

    def test_the_stream_was_deleted(self) -> None:
        self.assertEqual(self.following.take_state([Refusal("ERR no such key")]), "")
        self.assertEqual(self.missed("9-0", 1, 1), 0)
        self.read(entry("9-0", text="one"))
        self.assertEqual(self.missed("9-0", 1, 1), 0)
        self.assertEqual(self.missed("12-0", 4, 1), 2)

    def test_redis_lost_the_newest(self) -> None:
        self.assertEqual(self.missed("4-0", 4, 2), 0)
        self.assertEqual(self.missed("9-0", 5, 3), 0)

    def test_before_version_7(self) -> None:
        following = Following("room", "me")
        for last in ("5-0", "20-0"):
            self.assertEqual(following.take_state([state(last, None, 1)]), "")
            self.assertEqual(following.missed, 0)

    def test_a_refusal(self) -> None:
        self.assertEqual(self.following.take_state([Refusal("NOPERM no")]), "NOPERM no")


if __name__ == "__main__":
    unittest.main()
