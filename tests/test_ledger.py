"""`ledger.py`: which messages are answered, by which replies."""

import unittest

from support import TestCase

import udp_client
from common import CONFIRMATION, MAX_DATAGRAM
from ledger import Ledger, summary


class Certainty(TestCase):
    """A reply counts for the message that it proves, or for none."""

    LONG = bytes(MAX_DATAGRAM - len(CONFIRMATION))

    def left(self, messages: list[bytes], replies: list[bytes], *, cut: bool = False) -> list[bytes]:
        """Return which messages these replies leave unconfirmed."""
        ledger = Ledger(udp_client.repeated) if cut else Ledger()
        ledger.add(messages, 0.0)
        for reply in replies:
            ledger.take([reply[:MAX_DATAGRAM]], 1.0)
        self.assertEqual(ledger.waiting, len(messages) - ledger.confirmed)
        return ledger.give_up(float("inf"))

    def test_a_confirmation_that_may_be_an_echo(self) -> None:
        """What the server said to others tells; also what it says later."""
        one, other = CONFIRMATION + b"x", b"x"
        for replies, left in (
            ([one], [one, other]),
            ([one] * 9, [one, other]),
            ([one, b"x"], []),
            ([CONFIRMATION + one, one], []),
            ([one, CONFIRMATION + one], []),
            ([CONFIRMATION + b"y", one], [one]),
            ([CONFIRMATION + b"y", one, one, one], [one]),
            ([b"y", one], [other]),
            ([one, b"y"], [other]),
            ([one, CONFIRMATION + b"y"], [one]),
        ):
            for cut in (False, True):
                with self.subTest(replies=replies, cut=cut):
                    found = self.left([one, other, b"y"], replies, cut=cut)
                    self.assertEqual([message for message in found if message != b"y"], left)

    def test_on_another_connection_all_is_open_again(self) -> None:
        ledger = Ledger()
        ledger.add([b"y", CONFIRMATION + b"x", b"x"], 0.0)
        ledger.take([CONFIRMATION + b"y"], 1.0)
        ledger.send_again(2.0)
        ledger.take([CONFIRMATION + b"x", b"x"], 3.0)
        self.assertEqual((ledger.confirmed, ledger.waiting), (3, 0))

    def test_two_of_which_a_confirmation_holds_only_what_is_alike(self) -> None:
        one, other = self.LONG + b"1", self.LONG + b"2"
        for messages, replies, left in (
            ([one, other], [CONFIRMATION + one], [one, other]),
            ([one, other], [CONFIRMATION + one, CONFIRMATION + other], [one, other]),
            ([one, other], [other], [one]),
            ([one, other], [other, CONFIRMATION + one], []),
            ([one, one], [CONFIRMATION + one], [one]),
            ([one], [CONFIRMATION + one], []),
            ([one], [other], [one]),
            ([self.LONG, one], [CONFIRMATION + self.LONG], [self.LONG, one]),
            ([self.LONG, one], [one], [self.LONG]),
            ([self.LONG[:-1], one], [CONFIRMATION + self.LONG[:-1]], [one]),
        ):
            with self.subTest(messages=[len(message) for message in messages]):
                self.assertEqual(self.left(messages, replies, cut=True), left)

    def test_two_that_differ_in_their_ends(self) -> None:
        for messages, reply, left in (
            ([b"x\r", b"x"], b"x", [b"x\r"]),
            ([b"x\r", b"x"], b"x\r", [b"x"]),
            ([b"x\r", b"x\n"], b"x", [b"x\r", b"x\n"]),
            ([b"x\r", b"x\r"], b"x", [b"x\r"]),
        ):
            with self.subTest(messages=messages, reply=reply):
                self.assertEqual(self.left(messages, [CONFIRMATION + reply], cut=True), left)


class Repeats(TestCase):
    """What is sent more than once is answered more than once, which counts for no other message."""

    REPLY = CONFIRMATION + b"x"

    def confirmed_late(self) -> Ledger:
        """Return a ledger whose message was sent at 0, 1 and 2, and is confirmed at 2.5."""
        ledger = Ledger(udp_client.repeated)
        ledger.add([b"x"], 0.0)
        for now in (1.0, 2.0):
            ledger.retry(now - 0.5, now, 9)
        self.assertEqual(ledger.take([self.REPLY], 2.5), [self.REPLY])
        self.assertEqual(ledger.confirmed, 1)
        return ledger

    def test_they_are_neither_shown_nor_counted(self) -> None:
        for batches in ([[self.REPLY] * 4], [[self.REPLY]] * 4):
            ledger = self.confirmed_late()
            ledger.add([b"x"], 3.0)
            heard = [reply for batch in batches for reply in ledger.take([b"other", *batch], 3.5)]
            self.assertEqual([reply for reply in heard if reply != b"other"], [self.REPLY] * 2)
            self.assertEqual((ledger.confirmed, ledger.waiting), (2, 0))

    def test_they_are_not_waited_for_for_ever(self) -> None:
        ledger = self.confirmed_late()
        ledger.add([b"x"], 7.4)
        self.assertEqual((ledger.take([self.REPLY], 7.5), ledger.confirmed), ([self.REPLY], 2))

    def test_one_that_is_lost_does_not_have_all_later_ones_sent_twice(self) -> None:
        ledger = Ledger(udp_client.repeated)
        twice = []
        for start in range(0, 40, 2):
            ledger.add([b"x"], start)
            if start:
                ledger.take([self.REPLY], start + 0.1)
            if ledger.waiting:
                twice.append(start)
                ledger.retry(start + 0.5, start + 1.0, 9)
                ledger.take([self.REPLY], start + 1.1)
            self.assertEqual(ledger.waiting, 0)
        self.assertEqual(twice, [0, 2])

    def test_another_ending_or_text_is_none(self) -> None:
        ledger = self.confirmed_late()
        others = [b"x", CONFIRMATION + b"y", CONFIRMATION + b"x\n"]
        self.assertEqual(ledger.take(others, 2.6), others)

    def test_little_is_kept(self) -> None:
        ledger = Ledger()
        for number in range(100):
            ledger.add([b"%d" % number], number)
            ledger.retry(number, number + 0.1, 1)
            ledger.take([b"%d" % number], number + 0.2)
        self.assertEqual(len(ledger._repeats), 1)


class Accounts(TestCase):
    """`ledger.Ledger` knows which messages are answered."""

    def test_confirmations_and_echoes_in_any_order(self) -> None:
        ledger = Ledger()
        ledger.add([b"a", b"b", b"c"], 10.0)
        self.assertEqual((ledger.sent, ledger.waiting, ledger.due, ledger.waiting_bytes), (3, 3, 3, 3))
        ledger.take([CONFIRMATION + b"c", b"a"], 10.5)
        self.assertEqual((ledger.confirmed, ledger.waiting, ledger.waiting_bytes), (2, 1, 1))
        ledger.take([CONFIRMATION + b"b"], 12.0)
        self.assertEqual((ledger.confirmed, ledger.waiting, ledger.oldest()), (3, 0, float("inf")))
        self.assertEqual((ledger.shortest_time, ledger.longest_time, ledger.total_time), (0.5, 2.0, 3.0))

    def test_equal_messages_need_a_reply_each(self) -> None:
        ledger = Ledger()
        ledger.add([b"same", b"same", b""], 0.0)
        ledger.take([CONFIRMATION + b"same"], 1.0)
        self.assertEqual(ledger.waiting, 2)
        ledger.take([CONFIRMATION + b"same", CONFIRMATION, CONFIRMATION + b"same"], 1.0)
        self.assertEqual((ledger.waiting, ledger.confirmed, ledger.waiting_bytes), (0, 3, 0))

    def test_other_lines_confirm_nothing(self) -> None:
        ledger = Ledger()
        ledger.add([b"hello"], 0.0)
        ledger.take(
            [b"Hi there!", b"127.0.0.1:9: hello", b"Message received: hell", b"", b"message received: hello"], 1.0
        )
        self.assertEqual((ledger.confirmed, ledger.due), (0, 1))

    def test_a_refusal_ends_the_wait_but_confirms_nothing(self) -> None:
        ledger = Ledger()
        ledger.add([b"good", b"far too long"], 0.0)
        ledger.take([b"Error: message longer than 9 bytes"], 1.0)
        self.assertEqual((ledger.due, ledger.waiting, ledger.confirmed), (1, 2, 0))
        ledger.take([CONFIRMATION + b"good"], 1.0)
        self.assertEqual((ledger.due, ledger.give_up(float("inf"))), (0, [b"far too long"]))

    def test_giving_up_what_is_late(self) -> None:
        ledger = Ledger()
        ledger.add([b"early"], 1.0)
        ledger.add([b"late"], 2.0)
        self.assertEqual(ledger.oldest(), 1.0)
        self.assertEqual(ledger.give_up(1.5), [b"early"])
        self.assertEqual((ledger.oldest(), ledger.waiting, ledger.waiting_bytes), (2.0, 1, 4))
        ledger.take([CONFIRMATION + b"early"], 3.0)
        self.assertEqual((ledger.confirmed, ledger.waiting), (0, 1), "it counts as lost")

    def test_what_comes_late_counts_unless_it_is_given_up_for_good(self) -> None:
        ledger = Ledger()
        ledger.add([b"one", b"two\r", b"two\r", b"three"], 1.0)
        self.assertEqual(ledger.give_up(1.5, False), [b"one", b"two\r", b"two\r", b"three"])
        self.assertEqual((ledger.due, ledger.waiting), (0, 0), "nothing is waited for")
        ledger.add([b"one"], 2.0)
        ledger.take([CONFIRMATION + b"one", CONFIRMATION + b"one", CONFIRMATION + b"one"], 3.0)
        self.assertEqual((ledger.confirmed, ledger.shortest_time, ledger.longest_time), (2, 1.0, 2.0))
        ledger.take([CONFIRMATION + b"two\r", b"three", b"Hi!"], 3.0)
        self.assertEqual(ledger.confirmed, 3, "a server that confirms does not echo")
        self.assertEqual(ledger.give_up(float("inf")), [b"two", b"three"], "now it is for good")
        self.assertEqual(ledger.give_up(float("inf")), [])

    def test_a_refused_message_that_is_given_up(self) -> None:
        ledger = Ledger()
        ledger.add([b"refused"], 1.0)
        ledger.take([b"Error: the message could not be saved"], 1.1)
        ledger.add([b"other"], 2.0)
        self.assertEqual(ledger.give_up(1.5), [b"refused"])
        self.assertEqual(ledger.due, 1, "the refusal was not for the other")

    def test_equal_messages_are_late_one_by_one(self) -> None:
        ledger = Ledger()
        ledger.add([b"same"], 1.0)
        ledger.add([b"same"], 2.0)
        self.assertEqual(ledger.retry(1.5, 3.0, 9), [b"same"])
        self.assertEqual(ledger.oldest(), 2.0, "the second was sent before the first was sent again")

    def test_a_confirmation_cut_to_the_size_of_a_datagram(self) -> None:
        for size in range(MAX_DATAGRAM - len(CONFIRMATION) - 2, MAX_DATAGRAM - len(CONFIRMATION) + 3):
            for line_end in (b"", b"\r", b"\n", b"\r\n"):
                ledger = Ledger(udp_client.repeated)
                message = bytes(size - len(line_end)) + line_end
                ledger.add([message], 0.0)
                ledger.take([(CONFIRMATION + message)[:MAX_DATAGRAM]], 1.0)
                self.assertEqual((ledger.confirmed, ledger.waiting), (1, 0), (size, line_end))

    def test_a_datagram_and_its_reply_may_end_otherwise(self) -> None:
        for message in (b"a", b"a\r", b"a\n", b"a\r\n"):
            for reply in (b"a", b"a\n", b"a\r\n"):
                for start in (b"", CONFIRMATION):
                    ledger = Ledger(udp_client.repeated)
                    ledger.add([message], 0.0)
                    ledger.take([start + reply], 1.0)
                    self.assertEqual(ledger.confirmed, 1, (message, start + reply))

    def test_round_trips_begin_again_on_another_connection(self) -> None:
        ledger = Ledger()
        ledger.add([b"a"], 1.0)
        self.assertEqual(ledger.send_again(5.0), [b"a"])
        ledger.take([CONFIRMATION + b"a"], 5.5)
        self.assertEqual((ledger.shortest_time, ledger.longest_time), (0.5, 0.5))

    def test_the_summary(self) -> None:
        ledgers = [Ledger(), Ledger()]
        ledgers[0].add([b"a", b"b"], 0.0)
        ledgers[1].add([b"c"], 0.0)
        self.assertEqual(summary(ledgers, no_reply=False), "3 sent, 0 confirmed, 3 lost")
        self.assertEqual(summary(ledgers, no_reply=True), "3 sent, no replies expected")
        ledgers[0].take([CONFIRMATION + b"a"], 0.001)
        ledgers[1].take([CONFIRMATION + b"c"], 0.003)
        times = "round trip min/avg/max 1.00/2.00/3.00 ms"
        self.assertEqual(summary(ledgers, no_reply=False), f"3 sent, 2 confirmed, 1 lost; {times}")


if __name__ == "__main__":
    unittest.main()
