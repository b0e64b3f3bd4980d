"""What waits for an archive that takes its time: who is held, what is answered in which order, what may wait."""

from __future__ import annotations

import unittest
from typing import Callable
from unittest import mock

from test_service import FakeArchive, FakePeer, is_stopping, service_with, shown, type_line

import keeping
from common import CONFIRMATION, NOT_SAVED, SHUTTING_DOWN
from service import Service


class SlowArchive(FakeArchive):
    """An archive in memory that tells only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[bool], None]] = []

    def save(self, rows: list[tuple[object, ...]], done: Callable[[bool], None]) -> None:
        """Keep rows, and say nothing yet."""
        self.rows += rows
        self.waiting.append(done)

    def tell(self, saved: bool = True) -> None:
        """Tell of the oldest call whether it went well."""
        self.waiting.pop(0)(saved)


class HeldPeer(FakePeer):
    """A peer that remembers when it is held."""

    def hold(self) -> None:
        """Note it."""
        self.events.append("hold")

    def go_on(self) -> None:
        """Note it."""
        self.events.append("go on")


class Waiting(unittest.TestCase):
    """`keeping.Keeping`, and what the service does meanwhile."""

    def serve(self, *arguments: str) -> tuple[Service, SlowArchive, HeldPeer, HeldPeer]:
        """Return a service that saves, its archive and two peers."""
        archive = SlowArchive()
        service, _ = service_with(*arguments, peers=0, archive=archive)
        one, other = HeldPeer("one"), HeldPeer("other")
        service.transports[0].present = (one, other)  # type: ignore[attr-defined]
        return service, archive, one, other

    def say(self, service: Service, peer: HeldPeer, *messages: bytes) -> None:
        """Have a peer say something in a pass of its own."""
        service.receive(peer, list(messages))
        service.finish_pass()

    def test_who_is_owed_an_answer_is_held_until_it_is_there(self) -> None:
        service, archive, one, other = self.serve()
        self.say(service, one, b"first")
        self.say(service, other, b"second")
        self.assertEqual((one.events, other.events, shown(service)), (["hold"], ["hold"], []))
        archive.tell()
        self.assertEqual((one.events, other.events), (["hold", CONFIRMATION + b"first", "go on"], ["hold"]))
        archive.tell(saved=False)
        self.assertEqual(other.events, ["hold", NOT_SAVED, "go on"])
        self.assertEqual(len(shown(service)), 2)

    def test_who_leaves_goes_after_its_answer_and_who_is_owed_none_at_once(self) -> None:
        service, archive, one, other = self.serve()
        service.leave(one)
        self.say(service, one, b"first")
        self.say(service, other, b"terminate")
        self.assertEqual(other.events, ["end"])
        self.assertNotIn("end", one.events)
        service.finish_pass()
        archive.tell()
        self.assertEqual([event for event in one.events if event != "hold"], [CONFIRMATION + b"first", "go on", "end"])

    def test_where_nobody_is_answered_nobody_waits(self) -> None:
        service, archive, one, _ = self.serve("--reply", "none")
        self.say(service, one, b"first")
        self.say(service, one, b"second")
        self.assertEqual((one.events, len(shown(service))), ([], 2))
        archive.tell(saved=False)
        archive.tell()
        self.assertEqual((one.events, len(shown(service))), ([NOT_SAVED, "go on"], 2))

    def test_what_needs_no_saving_is_answered_at_once(self) -> None:
        service, archive, one, other = self.serve("--exit-from", "nobody")
        self.say(service, one, b"first")
        self.say(service, other, b"exit")
        self.assertEqual(other.events, [b"Error: 'exit' is not obeyed from other"])
        self.assertEqual(len(archive.waiting), 1)

    def test_the_server_stops_once_all_is_answered(self) -> None:
        service, archive, one, other = self.serve()
        self.say(service, one, b"first")
        self.say(service, other, b"exit")
        self.assertFalse(is_stopping(service))
        self.assertFalse(service.is_serving())
        archive.tell()
        service.finish_pass()
        self.assertTrue(is_stopping(service))
        self.assertEqual(one.events, ["hold", CONFIRMATION + b"first", ("told", SHUTTING_DOWN)])
        self.assertEqual(other.events, [SHUTTING_DOWN])

    def test_what_waits_has_a_limit(self) -> None:
        service, archive, one, other = self.serve()
        with mock.patch.object(keeping, "MAX_WAITING", 1000):
            self.say(service, one, b"x" * 1001)
            self.say(service, other, b"refused")
        self.assertEqual(other.events, [NOT_SAVED])
        self.assertEqual(len(archive.waiting), 1)
        archive.tell()
        self.say(service, other, b"taken")
        archive.tell()
        self.assertEqual(other.events, [NOT_SAVED, "hold", CONFIRMATION + b"taken", "go on"])

    def test_the_person_is_told_what_was_not_saved(self) -> None:
        service, archive, one, _ = self.serve()
        type_line(service, b"Hello!")
        service.finish_pass()
        self.assertEqual(one.events, [("told", b"Hello!")])
        archive.tell(saved=False)
        self.assertEqual(shown(service)[-1:], ["[Server] Sent, but could not be saved: Hello!"])

    def test_a_fault_leaves_nobody_held(self) -> None:
        service, archive, one, _ = self.serve()
        self.say(service, one, b"first")
        with mock.patch.object(service, "answer", side_effect=ZeroDivisionError), self.assertRaises(ZeroDivisionError):
            archive.tell()
        self.assertEqual(one.events, ["hold", "go on"])
        self.say(service, one, b"second")
        archive.tell()
        self.assertEqual(one.events[2:], ["hold", CONFIRMATION + b"second", "go on"])

    def test_others_hear_what_is_saved(self) -> None:
        service, archive, one, other = self.serve("--reply", "relay")
        self.say(service, one, b"first")
        self.say(service, one, b"second")
        self.assertEqual(other.events, [])
        archive.tell()
        archive.tell(saved=False)
        service.finish_pass()
        self.assertEqual(other.events, [("told", b"one: first")])


if __name__ == "__main__":
    unittest.main()
