"""One message for many: a UDP client whose HOST is a broadcast or multicast address, and what is counted of answers."""

from __future__ import annotations

import socket
import sys
import unittest

from network import machines
from support import PATIENCE, Clock, Process, TestCase, wait_until

from ledger import Ledger
from many import Answers
from udp_client import is_for_many

PORT = 9001
"""In networks of the test's own."""


def from_peer(peer: int, text: str) -> bytes:
    """Return what the ledger gets to read."""
    return f"10.9.8.{peer}:9001: {text}".encode()


class Counting(unittest.TestCase):
    """Each message waits for its time to be over; one answer is enough."""

    def setUp(self) -> None:
        self.answers = Answers(Ledger())
        self.answers.add([b"one", b"two"], 1.0)

    def test_one_answer_is_enough(self) -> None:
        replies = [from_peer(peer, "Message received: one") for peer in (1, 2, 3)]
        self.assertEqual(self.answers.take(replies, 1.5), replies)
        self.assertEqual((self.answers.due, self.answers.oldest()), (2, 1.0), "others may answer")
        self.assertEqual(self.answers.retry(1.0, 2.0, 3), [b"two"])
        self.assertEqual(self.answers.give_up(2.0), [b"two"])
        self.assertEqual((self.answers.confirmed, self.answers.sent, self.answers.waiting), (1, 2, 0))
        self.assertEqual(self.answers.longest_time, 0.5)

    def test_equal_messages(self) -> None:
        self.answers.add([b"one"], 1.0)
        self.answers.take([from_peer(1, "Message received: one"), from_peer(2, "one")], 1.5)
        self.assertEqual(self.answers.give_up(1.0), [b"two", b"one"], "each has answered the first")
        self.answers.add([b"one", b"one"], 2.0)
        self.answers.take([from_peer(1, "one")] * 2, 2.5)
        self.assertEqual(self.answers.give_up(2.0), [])
        self.assertEqual(self.answers.confirmed, 3)

    def test_what_comes_late_counts_unless_it_is_given_up_for_good(self) -> None:
        late = [from_peer(peer, f"Message received: {text}") for peer in (1, 2) for text in ("one", "two")]
        self.assertEqual(self.answers.give_up(1.0, False), [b"one", b"two"])
        self.answers.take([*late[:1], *late[2:3]], 3.0)
        self.assertEqual((self.answers.confirmed, self.answers.longest_time), (1, 2.0))
        self.assertEqual(self.answers.give_up(2.0), [b"two"])
        self.answers.take(late, 4.0)
        self.assertEqual(self.answers.confirmed, 1)

    def test_any_reply(self) -> None:
        answers = Answers(Ledger(any_reply=True))
        answers.add([b"one", b"two"], 1.0)
        answers.take([from_peer(1, "A"), from_peer(2, "B"), from_peer(1, "C")], 2.0)
        self.assertEqual((answers.give_up(1.0), answers.confirmed), ([], 2))


class Addresses(unittest.TestCase):
    """Which are those of many."""

    def test_each(self) -> None:
        for family, host, expected in (
            (socket.AF_INET, "239.1.2.3", True),
            (socket.AF_INET, "255.255.255.255", True),
            (socket.AF_INET, "127.0.0.1", False),
            (socket.AF_INET, "240.0.0.1", False),
            (socket.AF_INET6, "::1", False),
            (socket.AF_INET6, "ff02::114%lo", True),
        ):
            with self.subTest(host):
                self.assertEqual(is_for_many(family, (host, 9)), expected)


class Network(TestCase):
    """A machine in a network with three others, on each of which a server runs."""

    def setUp(self) -> None:
        self.clock = Clock(self)
        self.machine, *others = machines(self, *(f"10.9.8.{number}" for number in (1, 2, 3, 4)))
        options = ("--host", "0.0.0.0"), ("--group", "239.1.2.3%eth0"), ("--group", "239.1.2.3%eth0")
        for machine, some in zip(others, options):
            self.server("udp_server.py", *some, "--exit-from", "anyone", port=PORT, within=machine)

    def ask(self, host: str, *options: object) -> Process:
        """Start a client."""
        command = (*self.machine, sys.executable, "udp_client.py", host, PORT, "--stats", "--timeout", PATIENCE)
        return self.start(*command, *options, env=self.clock.environment)

    def hear(self, client: Process, servers: tuple[int, ...], reply: str) -> None:
        """Wait until all these have answered a client, and then no longer."""
        expected = [from_peer(number, reply).decode() for number in servers]
        wait_until(lambda: sorted(client.output.splitlines()) == expected, f"{expected}")

    def test_all_answer_or_none(self) -> None:
        cases: tuple[tuple[str, tuple[int, ...]], ...] = (
            ("10.9.8.255", (2, 3, 4)),
            ("239.1.2.3", (3, 4)),
            ("239.9.9.9", ()),
        )
        clients = [self.ask(host, "-m", "hello") for host, _ in cases]
        for client, (_, servers) in zip(clients, cases):
            self.hear(client, servers, "Message received: hello")

        def all_have_ended() -> bool:
            self.clock.skip(2 * PATIENCE)  # again, since nothing tells that what nobody answers was sent
            return all(client.popen.poll() is not None for client in clients)

        wait_until(all_have_ended, "the end of all clients")
        for client, (host, servers) in zip(clients, cases):
            with self.subTest(host):
                self.assertEqual(client.wait(), 0 if servers else 1, client.errors)
                self.hear(client, servers, "Message received: hello")
                lost = "1 message was not confirmed by 239.9.9.9:9001: hello"
                self.assertRegex(client.errors, r"\A1 sent, 1 confirmed, 0 lost; .*\n\Z" if servers else lost)

    def test_all_are_stopped(self) -> None:
        client = self.ask("10.9.8.255")
        client.type("exit\n")
        self.hear(client, (2, 3, 4), "Server shutting down...")
        self.clock.skip(2 * PATIENCE, client)
        self.assertEqual(client.wait(), 0, client.errors)


if __name__ == "__main__":
    unittest.main()
