"""`loop`: one wait for all sockets, on epoll and on what stands in for it elsewhere."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import select
import selectors
import signal
import socket
import struct
import threading
import time
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Callable
from unittest import mock

from support import PATIENCE, TestCase

from loop import READ, WRITE, Loop, Selector

if TYPE_CHECKING:
    Base = TestCase
else:
    Base = object  # so that the tests below run only where a poller is named


class Waiting(Base):
    """What a loop does, whatever it waits with."""

    def new_loop(self) -> Loop:
        """Return a loop on the poller that is tested."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.loop = self.new_loop()
        self.addCleanup(self.loop.close)
        self.called: list[str] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two sockets that are connected to each other."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        return ours, theirs

    def turn(self, wait: float = PATIENCE) -> list[str]:
        """Do one pass; return what was called in it."""
        self.called.clear()
        for function in self.loop.ready(wait):
            function()
        return sorted(self.called)

    def note(self, name: str) -> None:
        """Note that a function was called."""
        self.called.append(name)

    def test_what_is_to_be_called_soon_comes_first_and_once(self) -> None:
        (one, to_one) = self.pair()
        self.loop.watch(one.fileno(), lambda: self.loop.call_soon(lambda: self.note("soon")))
        to_one.send(b"x")
        self.assertEqual(self.turn(), [])
        one.recv(1)
        self.assertEqual(self.turn(0.0), ["soon"])
        self.assertEqual(self.turn(0.0), [])

    def test_a_function_is_called_when_its_socket_is_ready(self) -> None:
        (one, to_one), (two, to_two) = self.pair(), self.pair()
        self.loop.watch(one.fileno(), lambda: self.note(f"one {one.recv(9)!r}"))
        self.loop.watch(two.fileno(), lambda: self.note(f"two {two.recv(9)!r}"))
        self.assertEqual(self.turn(0), [])
        to_two.send(b"a")
        self.assertEqual(self.turn(), ["two b'a'"])
        to_one.send(b"b")
        to_two.send(b"c")
        self.assertEqual(self.turn(), ["one b'b'", "two b'c'"])
        self.assertEqual(self.turn(0), [])

    def test_pourers_take_turns_after_all_others(self) -> None:
        """One by one, as much as a pass has time for, and nobody is passed over."""
        pairs = [self.pair() for _ in range(4)]

        def function(number: int) -> Callable[[], None]:
            def read() -> None:
                self.note(f"{number}")
                pairs[number][0].recv(1)
                self.loop.is_spent = number < 3
                self.loop.take_turns(pairs[number][0].fileno(), number < 3)

            return read

        for number, (ours, theirs) in enumerate(pairs):
            self.loop.watch(ours.fileno(), function(number))
            theirs.send(bytes(9))
        self.assertEqual(self.turn(), ["0", "1", "2", "3"])
        seen = [self.turn() for _ in range(6)]
        self.assertEqual(sorted(seen[:3]), [["0", "3"], ["1", "3"], ["2", "3"]])
        self.assertEqual(seen[3:], seen[:3])
        self.called.clear()
        for each in self.loop.ready(0, False):
            each()
        self.assertEqual(self.called, ["3"], "none has a turn")
        self.loop.take_turns(pairs[1][0].fileno(), is_door=True)
        self.called.clear()
        for each in self.loop.ready(0, False):
            each()
        self.assertEqual(self.called, ["3", "1"], "but who comes in")
        self.loop.forget(pairs[0][0].fileno())
        self.assertEqual({self.turn()[0], self.turn()[0]}, {"1", "2"})

    def test_a_socket_stays_ready_until_it_is_read(self) -> None:
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note(f"{ours.recv(1)!r}"))
        theirs.send(b"ab")
        self.assertEqual([self.turn(), self.turn(), self.turn(0)], [["b'a'"], ["b'b'"], []])

    def test_waiting_for_room_to_send(self) -> None:
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note("writable"), WRITE)
        self.assertEqual(self.turn(), ["writable"])
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        theirs.send(b"a")
        self.assertEqual(self.turn(0), [], "there is no room, and nobody asks what can be read")
        with contextlib.suppress(BlockingIOError):
            while True:
                theirs.recv(1 << 16)
        self.assertEqual(self.turn(), ["writable"])

    def test_waiting_for_both_is_one_call(self) -> None:
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note("called"), READ | WRITE)
        theirs.send(b"a")
        self.assertEqual(self.turn(), ["called"])

    def test_waiting_for_something_else(self) -> None:
        """The last watch() holds, with its function and its events."""
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note("writable"), WRITE)
        self.loop.watch(ours.fileno(), lambda: self.note("readable"))
        self.assertEqual(self.turn(0), [])
        theirs.send(b"a")
        self.assertEqual(self.turn(), ["readable"])
        self.loop.watch(ours.fileno(), lambda: self.note("both"), READ | WRITE)
        self.assertEqual(self.turn(), ["both"])
        ours.recv(9)
        self.assertEqual(self.turn(), ["both"])

    def test_the_function_may_change_in_its_own_call(self) -> None:
        """So a connection goes from phase to phase."""
        ours, theirs = self.pair()

        def first() -> None:
            ours.recv(1)
            self.note("first")
            self.loop.watch(ours.fileno(), second)

        def second() -> None:
            ours.recv(1)
            self.note("second")

        self.loop.watch(ours.fileno(), first)
        theirs.send(b"ab")
        self.assertEqual([self.turn(), self.turn(), self.turn(0)], [["first"], ["second"], []])

    def test_the_end_of_a_stream_is_ready(self) -> None:
        for events in (READ, READ | WRITE):
            with self.subTest(events=events):
                ours, theirs = self.pair()
                self.loop.watch(ours.fileno(), lambda: self.note("ended"), events)
                theirs.close()
                self.assertEqual(self.turn(), ["ended"])
                self.loop.forget(ours.fileno())

    def test_a_reset_ends_the_wait_for_room(self) -> None:
        listener = self.listen()
        theirs = self.connect(listener.getsockname()[1])
        ours = self.accept(listener)
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        self.loop.watch(ours.fileno(), lambda: self.note("called"), WRITE)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
        theirs.close()
        self.assertEqual(self.turn(), ["called"])
        with self.assertRaises(OSError) as raised:
            ours.send(b"a")
        self.assertNotIsInstance(raised.exception, BlockingIOError)

    def test_what_is_forgotten_is_not_called(self) -> None:
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note("called"))
        theirs.send(b"a")
        self.assertTrue(self.loop.watches(ours.fileno()))
        self.loop.forget(ours.fileno())
        self.assertFalse(self.loop.watches(ours.fileno()))
        self.assertEqual(self.turn(0), [])
        self.loop.forget(ours.fileno())  # once more does no harm
        self.loop.watch(ours.fileno(), lambda: self.note("again"))
        self.assertEqual(self.turn(), ["again"])

    def test_the_wait_has_an_end(self) -> None:
        ours, _ = self.pair()
        self.loop.watch(ours.fileno(), lambda: self.note("called"))
        start = self.loop.now
        self.assertEqual(self.turn(0.05), [])
        self.assertGreaterEqual(self.loop.now - start, 0.04)  # clocks of two kinds

    def test_a_function_that_closes_another_socket(self) -> None:
        """Both were ready; the one that comes second is closed by then, and nobody calls it."""
        (one, to_one), (two, to_two) = self.pair(), self.pair()

        def close(name: str, other: socket.socket) -> None:
            self.note(name)
            self.loop.forget(other.fileno())
            other.close()

        self.loop.watch(one.fileno(), lambda: close("one", two))
        self.loop.watch(two.fileno(), lambda: close("two", one))
        to_one.send(b"a")
        to_two.send(b"a")
        first = self.turn()
        self.assertIn(first, [["one"], ["two"]])
        self.assertEqual(self.turn(), first, "the other one is still ready")

    def test_a_descriptor_that_is_taken_again(self) -> None:
        """In one pass a socket is closed and its descriptor given to another: that one's function may find nothing.

        Whoever else runs may take any descriptor that is free, so this one is never free (dup2), but on Windows.
        """
        (one, to_one), (two, to_two) = self.pair(), self.pair()
        opened: list[socket.socket] = []

        def renew(name: str, own: socket.socket, other: socket.socket) -> None:
            self.note(name)
            self.loop.forget(own.fileno())
            self.loop.forget(other.fileno())
            ours, theirs = self.pair()
            if os.name == "nt":
                other.close()
            else:
                os.dup2(ours.fileno(), other.fileno())
                ours = other
            opened.extend((ours, theirs))
            self.loop.watch(ours.fileno(), lambda: read(ours))

        def read(ours: socket.socket) -> None:
            try:
                self.note(f"new {ours.recv(9)!r}")
            except BlockingIOError:
                self.note("new nothing")

        self.loop.watch(one.fileno(), lambda: renew("one", one, two))
        self.loop.watch(two.fileno(), lambda: renew("two", two, one))
        to_one.send(b"a")
        to_two.send(b"a")
        called = self.turn()
        self.assertIn(called[-1], ["one", "two"])
        self.assertEqual(called[:-1], [] if os.name == "nt" else ["new nothing"], "the old function is not called")
        opened[1].send(b"b")
        self.assertIn("new b'b'", self.turn())

    def test_many_sockets(self) -> None:
        """Each that is ready is called sooner or later, also if more are ready than the system tells at once."""
        names = [str(number) for number in range(150)]
        for name in names:
            ours, theirs = self.pair()
            self.loop.watch(ours.fileno(), functools.partial(self.read_and_note, ours, name))
            theirs.send(b"a")
        found: list[str] = []
        while len(found) < len(names):
            found += self.turn()
        self.assertEqual(sorted(found), sorted(names))

    def read_and_note(self, ours: socket.socket, name: str) -> None:
        """Read a byte from a socket, and note that."""
        self.assertEqual(ours.recv(9), b"a")
        self.note(name)

    def test_a_function_that_fails_leaves_the_loop_as_it_was(self) -> None:
        ours, theirs = self.pair()
        self.loop.watch(ours.fileno(), lambda: ours.recv(-1))
        theirs.send(b"a")
        with self.assertRaises(ValueError):
            self.turn()
        self.loop.watch(ours.fileno(), lambda: self.note(f"{ours.recv(9)!r}"))
        self.assertEqual(self.turn(), ["b'a'"])

    def catch(self, *names: str) -> list[int]:
        """Have the loop catch signals; return the list of those that came. All is undone after the test."""
        caught: list[int] = []
        self.addCleanup(signal.set_wakeup_fd, -1)
        for name in names:
            number = getattr(signal, name, None)
            if number:
                self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.loop.catch_signals(names, lambda number, _: caught.append(number))
        return caught

    def test_a_signal_ends_the_wait(self) -> None:
        caught = self.catch("SIGINT", "SIGTERM")
        for number in (signal.SIGINT, signal.SIGTERM):
            for delay in (0.0, 0.05):  # before the wait and, as a rule, in it
                with self.subTest(number, delay=delay):
                    caught.clear()
                    sender = threading.Timer(delay, signal.raise_signal, [number])
                    start = time.monotonic()
                    sender.start()
                    if not delay:
                        sender.join()
                    self.assertEqual(self.turn(), [])
                    self.assertLess(time.monotonic() - start, PATIENCE / 2)
                    sender.join()
                    self.assertEqual(caught, [number])

    def test_a_signal_is_one_pass(self) -> None:
        """What woke the loop is read: it does not wake it for ever."""
        caught = self.catch("SIGINT")
        for _ in range(5):
            signal.raise_signal(signal.SIGINT)
        self.turn()
        start = time.monotonic()
        self.turn(0.05)
        self.assertGreaterEqual(time.monotonic() - start, 0.04)
        self.assertEqual(caught, [signal.SIGINT] * 5)

    def test_more_signals_than_the_loop_has_room_for(self) -> None:
        """Each calls its function all the same, and nothing is said about it."""
        caught = self.catch("SIGINT")
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            for _ in range(20_000):
                signal.raise_signal(signal.SIGINT)
            self.turn()
        self.assertEqual((len(caught), said.getvalue()), (20_000, ""))

    def test_signals_that_are_ignored_stay_so(self) -> None:
        """As under nohup."""
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        caught = self.catch("SIGTERM", "SIGINT")
        self.assertEqual(signal.getsignal(signal.SIGTERM), signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.turn()
        self.assertEqual(caught, [signal.SIGINT])

    def test_signals_that_a_system_does_not_have(self) -> None:
        self.assertEqual(self.catch("SIGNOWHERE", "SIGINT"), [])
        self.assertNotEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_close_frees_what_the_loop_holds_and_nothing_else(self) -> None:
        ours, theirs = self.pair()
        descriptors = Path("/dev/fd")
        before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
        loop = self.new_loop()
        loop.watch(ours.fileno(), lambda: None)
        loop.catch_signals([], print)
        loop.close()
        self.assertEqual(signal.set_wakeup_fd(-1), -1)
        self.assertEqual(len(list(descriptors.iterdir())) if descriptors.exists() else 0, before)
        theirs.send(b"a")
        self.assertEqual(ours.recv(9), b"a")


@unittest.skipUnless(hasattr(select, "epoll"), "only Linux has epoll")
class OnEpoll(Waiting, TestCase):
    """The loop of Linux."""

    def new_loop(self) -> Loop:
        loop = Loop()
        self.assertNotIsInstance(loop._poller, Selector)
        return loop


class OnSelectors(Waiting, TestCase):
    """The loop of all other systems, with what Python takes for the best here."""

    kind: type[selectors.BaseSelector] = selectors.DefaultSelector

    def new_loop(self) -> Loop:
        with mock.patch.object(select, "epoll", create=True), mock.patch("selectors.DefaultSelector", self.kind):
            del select.epoll
            loop = Loop()
        self.assertIsInstance(loop._poller, Selector)
        return loop


class OnSelect(OnSelectors):
    """The loop of Windows."""

    kind = selectors.SelectSelector


if __name__ == "__main__":
    unittest.main()
