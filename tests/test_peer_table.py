"""`peer_table`: which peers are known, and who is forgotten for another."""

from __future__ import annotations

import unittest
from types import SimpleNamespace
from unittest import mock

from support import TestCase

from peer_table import PEER_TIME, PeerTable


class PeerTableTest(TestCase):
    """The table without sockets."""

    def setUp(self) -> None:
        self.table = PeerTable()
        few = mock.patch("peer_table.MAX_PEERS", 3)
        few.start()
        self.addCleanup(few.stop)

    def meet(self, name: str, now: float) -> None:
        """Have a peer heard for the first time."""
        self.table.make_room()
        self.table[name,] = SimpleNamespace(key=(name,), heard_at=now, seen_at=now)

    def names(self) -> str:
        """Return who is known."""
        return "".join(sorted(name for (name,) in self.table))

    def test_who_was_heard_only_once_makes_room_for_another(self) -> None:
        for now, name in enumerate("abcd"):
            self.meet(name, now)
        self.assertEqual(self.names(), "bcd")

    def test_who_was_heard_since_stays_one_more_turn(self) -> None:
        for now, name in enumerate("abc"):
            self.meet(name, now)
        self.table["a",].heard_at = 3.0
        for now, name in enumerate("de", 4):
            self.meet(name, now)
        self.assertEqual(self.names(), "ade")
        for now, name in enumerate("fg", 6):
            self.meet(name, now)
        self.assertEqual(self.names(), "efg", "it was not heard again")

    def test_somebody_goes_where_all_were_heard_since(self) -> None:
        for now, name in enumerate("abc"):
            self.meet(name, now)
        for peer in self.table.values():
            peer.heard_at = 3.0
        self.meet("d", 4.0)
        self.assertEqual(self.names(), "bcd")

    def test_silence(self) -> None:
        for now, name in enumerate("abc"):
            self.meet(name, now)
        end = PEER_TIME + 1.5
        self.assertEqual([peer.key for peer in self.table.heard_lately(end)], [("c",)])
        self.table.forget_silent(end)
        self.assertEqual(self.names(), "c")


if __name__ == "__main__":
    unittest.main()
