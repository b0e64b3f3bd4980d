"""A link to Redis, whose other end is played by the test."""

from __future__ import annotations

import select
import socket
import unittest
from typing import Any

from support import TestCase, wait_until

from loop import Loop
from redis_link import SLOW, Link, State
from resp import command


class Links(TestCase):
    """`redis_link.Link`: questions and answers, and how it goes down and comes back."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.addCleanup(self.loop.close)
        self.listener = self.listen()
        self.link = Link(self.loop, [(socket.AF_INET, self.listener.getsockname())])
        self.addCleanup(self.link.close)
        self.link.greeting = command("PING"), 1
        self.link.greet = lambda answers: "" if answers == [b"PONG"] else "no greeting"
        self.problems: list[str] = []
        self.link.changed = self.note
        self.answers: list[Any] = []

    def note(self, problem: str) -> None:
        """Take what has changed: a problem, or that the link stands."""
        self.problems += [problem] if problem else []

    def turn(self) -> bool:
        """Turn the loop once."""
        for function in self.loop.ready(0.01):
            function()
        return True

    def come_up(self, greeting: bytes = b"+PONG\r\n") -> socket.socket:
        """Have the link come up; return its other end."""
        self.link.connect()
        redis = self.accept(self.listener)
        redis.sendall(greeting)
        wait_until(lambda: self.turn() and self.link.state is not State.CONNECTING, "greeted")
        self.assertEqual(redis.recv(100), command("PING"))
        return redis

    def ask(self, count: int) -> None:
        """Ask so many commands in one question."""
        self.link.ask(command("X") * count, count, self.answers.append)

    def wait_for_answers(self, count: int) -> None:
        """Wait until so many questions are answered."""
        wait_until(lambda: self.turn() and len(self.answers) >= count, f"{count} answers")

    def test_each_question_gets_its_answers(self) -> None:
        redis = self.come_up()
        self.ask(2)
        self.ask(1)
        redis.sendall(b":1\r\n:2\r\n:3\r\n")
        self.wait_for_answers(2)
        self.assertEqual(self.answers, [[1, 2], [3]])

    def test_what_is_not_answered_is_told(self) -> None:
        redis = self.come_up()
        self.ask(2)
        self.ask(1)
        redis.sendall(b":1\r\n")
        redis.close()
        self.wait_for_answers(2)
        self.assertEqual((self.answers, len(self.problems)), ([None, None], 1))
        self.ask(1)
        self.assertEqual(self.answers, [None] * 3, "at once, while it is down")

    def test_a_fault_does_not_put_answers_in_the_place_of_others(self) -> None:
        redis = self.come_up()

        def fail(_: object) -> None:
            raise ZeroDivisionError

        self.link.ask(command("X"), 1, fail)
        self.ask(1)
        self.ask(1)
        redis.sendall(b":1\r\n:2\r\n")
        with self.assertRaises(ZeroDivisionError):
            wait_until(self.turn_for_ever, "a fault")
        self.assertEqual((self.answers, self.link.state), ([None, None], State.DOWN))

    def turn_for_ever(self) -> bool:
        """Turn the loop, and not be satisfied."""
        return not self.turn()

    def test_what_was_not_asked(self) -> None:
        redis = self.come_up()
        redis.sendall(b":1\r\n")
        wait_until(lambda: self.turn() and self.problems, "a problem")
        self.assertEqual(self.problems, ["it says what was not asked"])

    def test_it_pauses_longer_and_longer_and_comes_back(self) -> None:
        self.come_up(b"+WRONG\r\n")
        self.assertEqual((self.problems, self.link.state), (["no greeting"], State.DOWN))
        for _ in range(3):
            self.link.tick(0.0)
            self.assertIs(self.link.state, State.DOWN, "not yet")
            self.link.tick(float("inf"))
            self.assertIs(self.link.state, State.CONNECTING)
            self.link.tick(float("inf"))
        self.assertEqual(self.problems[1:], [f"no answer within {SLOW:g} s"] * 3)
        self.link.tick(float("inf"))
        for _ in range(4):
            self.accept(self.listener).sendall(b"+PONG\r\n")
        changes: list[str] = []
        self.link.changed = changes.append
        wait_until(lambda: self.turn() and self.link.state is State.UP, "up")
        self.assertEqual(changes, [""])

    def test_the_next_address_is_tried_at_once(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            nowhere = nobody.getsockname()
            self.link = Link(self.loop, [(socket.AF_INET, nowhere), (socket.AF_INET, self.listener.getsockname())])
            self.addCleanup(self.link.close)
            self.link.greeting, self.link.changed = (command("PING"), 1), self.note
            self.link.connect()
            wait_until(lambda: self.turn() and select.select([self.listener], [], [], 0)[0], "the next is tried")
        self.assertEqual((self.problems, self.link.state), ([], State.CONNECTING))

    def test_the_next_address_is_tried_when_the_first_says_nothing_good(self) -> None:
        first = self.listen()
        self.link = Link(self.loop, [(socket.AF_INET, one.getsockname()) for one in (first, self.listener)])
        self.addCleanup(self.link.close)
        self.link.greeting, self.link.changed = (command("PING"), 1), self.problems.append
        self.link.connect()
        self.accept(first).sendall(b"HTTP/1.1 400\r\n")
        wait_until(lambda: self.turn() and select.select([self.listener], [], [], 0)[0], "the next is tried")
        self.accept(self.listener).sendall(b"+PONG\r\n")
        wait_until(lambda: self.turn() and self.problems, "a change")
        self.assertEqual((self.problems, self.link.state), ([""], State.UP))

    def test_closed_for_good(self) -> None:
        self.come_up()
        self.ask(1)
        self.link.close()
        self.link.tick(float("inf"))
        self.assertEqual((self.answers, self.problems, self.link.state), ([None], [], State.CLOSED))


if __name__ == "__main__":
    unittest.main()
