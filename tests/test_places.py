"""The places of connections: who is taken in, who has to go, and how many open files they may take."""

from __future__ import annotations

import errno
import socket
import unittest
from typing import Any, Callable
from unittest import mock

import support  # noqa: F401  # which makes the rooms importable

import places
from audience import Audience
from entrance import Entrance
from leaving import FLUSH_TIME
from lines import RECEIVE_SIZE, Lines
from loop import READ, WRITE, Loop
from places import Guest, Places, reserve_files
from service import PASS_BYTES
from tcp_server import Connection

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class FakeLoop:
    """A loop that waits for nothing, at a time of our own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.functions: dict[int, tuple[Callable[[], object], int]] = {}

    def watch(self, descriptor: int, function: Callable[[], object], events: int = READ) -> None:
        assert descriptor >= 0
        self.functions[descriptor] = function, events

    def forget(self, descriptor: int) -> None:
        self.functions.pop(descriptor, None)

    def watches(self, descriptor: int) -> bool:
        return descriptor in self.functions

    def take_turns(self, descriptor: int, does: bool = True, is_door: bool = False) -> None:
        assert descriptor in self.functions or not (does or is_door)


class FakeSocket:
    """A socket that is open or closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        self._descriptor = -1


class FakeGuest(Guest):
    """A connection whose phases do nothing, and to whom nothing is owed."""

    WITHIN = 10.0

    def phase(self) -> None:
        """Do nothing."""

    def unsent(self) -> int:
        return 0

    unfinished = unsent

    def idle_since(self) -> float:
        return self.heard_at

    def end(self) -> None:
        self.places.move(self, self.places.leaving)
        self.deadline = self.loop.now + 2.0


class FakePlaces(Places):
    """Places whose connections come from a list of what accept() does."""

    protocol = "FAKE"

    def __init__(self, max_clients: int = 3, idle_timeout: float = 0.0) -> None:
        record = mock.Mock()
        record.heading.return_value = b""
        service = mock.Mock(longest_line=65537, received_bytes=0, audience=None)
        service.attend = lambda _, step, *arguments: step(*arguments)
        server: Any = mock.Mock(loop=FakeLoop(), record=record, service=service, archive=None)
        super().__init__(server, max_clients, idle_timeout)
        self.waiting: list[Exception | str] = []
        self.listening = FakeSocket(3)
        self.open(self.listening)  # type: ignore[arg-type]

    def accept(self, _: object) -> None:
        if not self.waiting:
            raise BlockingIOError
        found = self.waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        self.guest(found, self.served)

    def guest(self, name: str, place: set[Any]) -> FakeGuest:
        """Return a connection that stands in a place."""
        used = self.loop.functions  # type: ignore[attr-defined]
        guest = FakeGuest(self, FakeSocket(max(used, default=3) + 1), name, None)  # type: ignore[arg-type]
        guest.move(place, guest.phase)
        return guest

    def is_open(self) -> bool:
        """Tell whether it waits for others to come."""
        return self.loop.watches(3)

    def shown(self) -> list[str]:
        """Return what was shown of connections that were closed."""
        calls = self.service.show.call_args_list  # type: ignore[attr-defined]
        return [f"{peer.name}: {event}{rest}" for (peer, event, rest), _ in calls]


class TakingIn(unittest.TestCase):
    """Who waits is taken in as long as there is room."""

    def test_as_many_as_there_is_room_for(self) -> None:
        with mock.patch.object(places, "MAX_LEAVING", 2):
            house = FakePlaces(max_clients=3)
        house.waiting = [str(number) for number in range(9)]
        house.take_in()
        self.assertEqual((len(house.served), len(house.waiting)), (5, 4), "two more, to be told that it is full")
        self.assertTrue(house.is_full())
        self.assertFalse(house.has_room())
        self.assertFalse(house.is_open())
        house.served.copy().pop().close()
        self.assertTrue(house.is_open(), "somebody has gone")

    def test_a_crowd_does_not_hold_up_those_inside(self) -> None:
        house = FakePlaces(max_clients=1000)
        house.waiting = [str(number) for number in range(500)]
        house.take_in()
        self.assertEqual(len(house.served), 1 + PASS_BYTES // places.ACCEPT_COST)
        self.assertTrue(house.is_open())

    def test_a_crowd_at_one_socket_does_not_keep_out_those_at_another(self) -> None:
        house, other = FakePlaces(max_clients=1000), FakeSocket(4)
        house.open(house.listening, other)  # type: ignore[arg-type]
        came: list[object] = []
        with mock.patch.object(house, "accept", came.append):
            for _ in range(2):
                house.service.received_bytes = 0  # a new pass
                house.take_in()
        self.assertGreater(came.count(house.listening), 1)
        self.assertEqual(came.count(other), came.count(house.listening))

    def test_nobody_waits_any_more(self) -> None:
        house = FakePlaces()
        house.take_in()
        self.assertEqual(house.served, set())
        self.assertTrue(house.is_open())

    def test_who_has_gone_again_does_not_keep_out_the_next(self) -> None:
        house = FakePlaces()
        house.waiting = [ConnectionAbortedError(errno.ECONNABORTED, ""), OSError(errno.EPROTO, ""), "peer"]
        house.take_in()
        self.assertEqual([guest.name for guest in house.served], ["peer"])

    def test_a_system_without_room_is_asked_again_at_the_next_tick(self) -> None:
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            with self.subTest(errno.errorcode[number]):
                house = FakePlaces()
                house.waiting = [OSError(number, ""), "peer"]
                house.take_in()
                self.assertEqual(house.served, set())
                self.assertFalse(house.is_open(), "it would be called without end")
                house.tick(1001.0)
                self.assertTrue(house.is_open())
                house.take_in()
                self.assertEqual(len(house.served), 1)

    def test_those_who_do_not_close_keep_nobody_out(self) -> None:
        """While there are places; those go first who have had most time to close, and nobody who is owed something."""
        with mock.patch.multiple(places, MAX_LEAVING=2, MADE_FREE=2):
            house = FakePlaces(max_clients=3)
            leaving = [house.guest(str(number), house.leaving) for number in range(5)]
            for number, guest in enumerate(leaving):
                guest.deadline = 1002.0 + number
            house.waiting = ["peer"]
            with mock.patch.object(FakeGuest, "unsent", lambda guest: guest is leaving[0]):
                house.take_in()
        self.assertEqual([guest.name for guest in house.served], ["peer"])
        self.assertEqual(house.leaving, {leaving[0], *leaving[3:]})

    def test_those_on_their_way_in_take_a_place(self) -> None:
        """And those on their way out none but their own."""
        house = FakePlaces(max_clients=2)
        house.guest("entering", house.entering)
        self.assertFalse(house.is_full())
        house.guest("served", house.served)
        self.assertTrue(house.is_full())
        house.move(next(iter(house.served)), house.leaving)
        self.assertFalse(house.is_full())
        self.assertEqual((len(house.entering), len(house.served), len(house.leaving)), (1, 0, 1))


class Leaving(unittest.TestCase):
    """Who has to go, and why."""

    def test_a_connection_is_closed_once(self) -> None:
        house = FakePlaces()
        guest = house.guest("peer", house.served)
        number = guest.socket.fileno()
        for _ in range(2):
            guest.close("it does not read")
        self.assertEqual(house.shown(), ["peer: Disconnected: (it does not read)"])
        self.assertFalse(house.loop.watches(number))
        self.assertEqual((house.served, guest.socket.fileno()), (set(), -1))

    def test_a_phase_is_what_the_loop_calls(self) -> None:
        house = FakePlaces()
        guest = house.guest("peer", house.served)
        guest.move(house.leaving, guest.end, WRITE)
        functions = house.loop.functions  # type: ignore[attr-defined]
        self.assertEqual(functions[guest.socket.fileno()], (guest.end, WRITE))
        self.assertEqual((house.served, house.leaving), (set(), {guest}))

    def test_who_leaves_is_told_nothing_more_of_a_room(self) -> None:
        """It has had all of it; a line after its end would reset it, and what it was told before would be lost."""
        house = FakePlaces()
        guest = house.guest("peer", house.served)
        self.assertTrue(guest.can_hear())
        guest.end()
        self.assertFalse(guest.can_hear())

    def test_deadlines(self) -> None:
        house = FakePlaces()
        for place, why in (
            (house.leaving, "it did not close in time"),
            (house.entering, "no PROXY header or TLS handshake within 10 s"),
        ):
            with self.subTest(why):
                guest = house.guest("peer", place)
                guest.deadline = 1010.0
                house.tick(1010.0)
                self.assertEqual(place, {guest})
                house.tick(1010.1)
                self.assertEqual(place, set())
                self.assertEqual(house.shown()[-1], f"peer: Disconnected: ({why})")

    def test_who_says_nothing(self) -> None:
        house = FakePlaces(idle_timeout=60.0)
        silent, talker = house.guest("silent", house.served), house.guest("talker", house.served)
        talker.heard_at = 1030.0
        house.tick(1061.0)
        self.assertEqual(house.served, {talker})
        self.assertEqual(house.shown(), ["silent: Disconnected: (nothing arrived for 60 s)"])
        self.assertEqual(silent.socket.fileno(), -1)

    def test_who_may_be_silent(self) -> None:
        house = FakePlaces()
        house.guest("silent", house.served)
        house.tick(1e9)
        self.assertEqual(len(house.served), 1)


class Stopping(unittest.TestCase):
    """A server that stops takes nobody in, and ends each conversation."""

    def test_stop(self) -> None:
        house = FakePlaces()
        house.guest("entering", house.entering)
        served, leaving = house.guest("served", house.served), house.guest("leaving", house.leaving)
        house.stop()
        self.assertEqual(house.shown(), ["entering: Disconnected: (it was not through the entrance)"])
        self.assertEqual((house.entering, house.served, house.leaving), (set(), set(), {served, leaving}))
        self.assertFalse(house.is_stopped())
        for guest in (served, leaving):
            guest.close()
        self.assertTrue(house.is_stopped())
        self.assertFalse(house.is_open())
        house.tick(1e9)
        house.close()
        self.assertFalse(house.is_open())

    def test_close(self) -> None:
        house = FakePlaces()
        for place in (house.entering, house.served, house.leaving):
            house.guest("peer", place)
        house.close()
        self.assertTrue(house.is_stopped())
        self.assertEqual(house.loop.functions, {})  # type: ignore[attr-defined]


class Portions(unittest.TestCase):
    """Who brings much at once has its turn after all others."""

    def test_who_has_no_turns_is_read_little_from_at_once(self) -> None:
        house = FakePlaces()
        guest = house.guest("peer", house.served)
        seen = []
        for size, count in ((9, 1), (5000, 1), (952, 16), (5000, 50), (9, 1), (9, 1), (99, 99), (9, 1), (5000, 5000)):
            guest.mind_others(size, count)
            seen.append((guest.takes_turns, guest.read_size))
        often, seldom = (False, places.FEW), (True, RECEIVE_SIZE)
        after_all = (True, RECEIVE_SIZE // 4)
        lines = (True, places.FEW)
        self.assertEqual(seen, [often, seldom, after_all, seldom, after_all, often, lines, often, lines])

    def test_what_comes_before_the_first_line_is_read_little_at_once(self) -> None:
        """Lines may come with it, and thousands of them would hold up all others."""

        class Newcomer(Entrance):
            receive = mock.Mock(return_value=b"")

        house = FakePlaces()
        house.service.received_bytes = 0
        for phase in ("read_header", "handshake"):
            newcomer: Any = Newcomer(house, FakeSocket(9), "peer", None)  # type: ignore[arg-type]
            newcomer._header = b""
            getattr(newcomer, phase)()
            Newcomer.receive.assert_called_with(places.FEW)


class Held(unittest.TestCase):
    """Who takes turns, and is held until the archive has answered."""

    def setUp(self) -> None:
        self.house = FakePlaces()
        loop = Loop()
        self.house.loop = loop
        self.addCleanup(loop.close)
        ours, self.theirs = socket.socketpair()
        for each in (ours, self.theirs):
            self.addCleanup(each.close)
            each.setblocking(False)
        self.connection = Connection(self.house, ours, "peer", None, Lines())  # type: ignore[arg-type]
        self.connection.move(self.house.served, self.connection.read)
        self.connection.take_turns(True)
        self.theirs.send(b"what is read only in its turn\n")

    def due(self, gives_turns: bool) -> list[Any]:
        """Return what the loop would call now."""
        return list(self.house.loop.ready(0, gives_turns))

    def test_it_has_its_turn_again_when_it_goes_on(self) -> None:
        self.assertEqual((self.due(False), self.due(True)), ([], [self.connection.read]))
        self.connection.hold()
        self.assertEqual((self.due(False), self.due(True)), ([], []))
        self.connection.go_on()
        self.assertEqual((self.due(False), self.due(True)), ([], [self.connection.read]))

    def test_what_did_not_fit_has_no_turn(self) -> None:
        """It is sent when there is room; it is held all the same, and has its turns later."""
        for goes_on_first in (False, True):
            with self.subTest(goes_on_first=goes_on_first):
                text = b"x" * 5_000_000
                self.connection.send_bytes(text)
                self.connection.hold()
                self.connection.wait_its_turn()
                if goes_on_first:
                    self.connection.go_on()
                size = 0
                while self.connection.unsent():
                    size += len(self.theirs.recv(1 << 20))
                    for function in self.due(False):
                        self.assertEqual(function, self.connection.flush)
                        function()
                while size < len(text):
                    size += len(self.theirs.recv(1 << 20))
                self.assertEqual(self.due(True), [self.connection.read] * goes_on_first)
                self.connection.go_on()
                self.assertEqual((self.due(False), self.due(True)), ([], [self.connection.read]))

    def test_who_leaves_and_takes_nothing_has_to_go(self) -> None:
        """Be it the client that does not read, or TLS that takes no text, as it will not while nothing is read."""
        for takes_text in (True, False):
            with self.subTest(takes_text=takes_text):
                self.setUp()
                connection, now = self.connection, self.house.loop.now
                room = self.house.service.audience = Audience(self.house.peers, self.house.service.attend)
                self.house.service.forget = room.forget  # type: ignore[method-assign]
                connection.heard = room.end()
                room.say(None, [b"said before it left"])
                room.see_off(connection)
                self.house.tick(now + FLUSH_TIME + 1)
                self.assertEqual(self.house.shown(), [], "it waits for its turn")
                if takes_text:
                    connection.send_bytes(b"x" * 5_000_000)
                else:
                    connection.lines = mock.Mock(unsent=lambda: 1, unfinished=b"")
                self.house.tick(now + FLUSH_TIME - 1)
                self.assertEqual(self.house.shown(), [])
                self.house.tick(now + FLUSH_TIME + 1)
                self.assertEqual(self.house.shown(), ["peer: Disconnected: (it does not read)"])
                self.assertEqual((self.house.served, room.seen_off()), (set(), []))


class Addresses(unittest.TestCase):
    """Who is on this machine."""

    def test_is_local(self) -> None:
        for host, is_local in (("127.0.0.1", True), ("127.9.9.9", True), ("203.0.113.1", False), (None, False)):
            with self.subTest(host):
                guest = FakePlaces().guest("peer", set())
                guest.host = host
                self.assertEqual(guest.is_local(), is_local)


@unittest.skipUnless(resource, "this system has no limit of open files")
class OpenFiles(unittest.TestCase):
    """How many may be served, as the limit on open files allows."""

    def reserve(self, clients: int, soft: int, hard: int, is_refused: bool = False) -> tuple[int, int, int]:
        """Return how many may be served, how many may be leaving, and the limit in the end."""
        limits = [soft, hard]

        def setrlimit(_: int, wanted: tuple[int, int]) -> None:
            if is_refused:
                raise ValueError("not allowed to raise maximum limit")
            limits[:] = wanted

        with mock.patch.multiple(resource, getrlimit=lambda _: tuple(limits), setrlimit=setrlimit):
            served, leaving = reserve_files(clients)
        return served, leaving, limits[0]

    def test_a_limit_that_may_be_raised(self) -> None:
        unlimited = resource.RLIM_INFINITY
        for soft, hard, limit in ((256, 4096, 1132), (256, unlimited, 1132), (4096, 4096, 4096), (unlimited,) * 3):
            with self.subTest(soft=soft, hard=hard):
                self.assertEqual(self.reserve(1000, soft, hard), (1000, 100, limit))

    def test_a_limit_that_is_low(self) -> None:
        """Fewer are served; there is always one place, and one to be told that there is none."""
        for soft, hard, served, leaving in ((256, 512, 380, 100), (100, 100, 34, 34), (33, 33, 1, 1), (8, 8, 1, 1)):
            with self.subTest(soft=soft, hard=hard):
                self.assertEqual(self.reserve(1000, soft, hard), (served, leaving, hard))

    def test_a_system_that_refuses(self) -> None:
        self.assertEqual(self.reserve(1000, 256, 4096, is_refused=True), (124, 100, 256))

    def test_a_system_that_has_no_such_limit(self) -> None:
        with mock.patch.object(places, "resource", None):
            self.assertEqual(reserve_files(1000), (places.SELECTABLE - places.SPARE_FILES - 100, 100))


if __name__ == "__main__":
    unittest.main()
