"""`ledger.py`: which messages are answered, by which replies."""

import unittest

from support import TestCase

import udp_client
from common import CONFIRMATION, MAX_DATAGRAM
from ledger import Ledger, summary


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

    def test_an_echoed_confirmation_is_an_echo(self) -> None:
        ledger = Ledger()
        ledger.add([CONFIRMATION + b"x", b"x"], 0.0)
        ledger.take([CONFIRMATION + b"x"], 1.0)  # what an echo server says to the first of them
        self.assertEqual(ledger.give_up(float("inf")), [b"x"])

    def test_giving_up_what_is_late(self) -> None:
        ledger = Ledger()
        ledger.add([b"early"], 1.0)
        ledger.add([b"late"], 2.0)
        self.assertEqual(ledger.oldest(), 1.0)
        self.assertEqual(ledger.give_up(1.5), [b"early"])
        self.assertEqual((ledger.oldest(), ledger.waiting, ledger.waiting_bytes), (2.0, 1, 4))
        ledger.take([CONFIRMATION + b"early"], 3.0)
        self.assertEqual((ledger.confirmed, ledger.waiting), (0, 1), "it counts as lost")

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
