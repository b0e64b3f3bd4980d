"""All: one wait for all sockets, and the function that is called for each one that is ready.

epoll is called as it is, since Python's `selectors` adds half a microsecond to each event. Where a system has no epoll,
`Selector` gives `selectors` the same calls.
"""

from __future__ import annotations

import collections
import select
import selectors
import signal
import socket
import time

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

PAUSE = 0.001
"""Seconds for which a loop rests when only those are ready who have no turn now."""
READ, WRITE = 1, 4
"""What to wait for: EPOLLIN and EPOLLOUT. An error or a hang-up (EPOLLERR, EPOLLHUP) counts as both."""


class Selector:
    """What Loop needs of epoll, on `selectors`: for macOS, Windows and the BSDs."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.unregister = self._selector.unregister
        self.close = self._selector.close
        if hasattr(self._selector, "fileno"):
            self.fileno = self._selector.fileno

    def register(self, descriptor: int, events: int) -> None:
        """Begin to wait for a descriptor."""
        self._selector.register(descriptor, self._translated(events))

    def modify(self, descriptor: int, events: int) -> None:
        """Wait for something else."""
        self._selector.modify(descriptor, self._translated(events))

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        """Wait for so long at the most; return pairs of a descriptor that is ready, and for what."""
        return [(key.fd, events) for key, events in self._selector.select(seconds)]

    @staticmethod
    def _translated(events: int) -> int:
        return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)


def new_poller() -> select.epoll | Selector:
    """Return an epoll, or what there is instead."""
    return select.epoll() if hasattr(select, "epoll") else Selector()


class Loop:
    """The sockets that are waited for, each with the function to call when it is ready for what it waits for."""

    def __init__(self) -> None:
        self._poller, self._pouring = new_poller(), new_poller()
        self._wakes_up = hasattr(self._pouring, "fileno")  # else, on Windows, one wait can not wait for another
        if self._wakes_up:
            self._poller.register(self._pouring.fileno(), READ)
        self._functions: dict[int, Callable[[], object]] = {}
        self._events: dict[int, int] = {}  # but for those that are only read from
        self._pourers: set[int] = set()
        self._doors: set[int] = set()
        self._turns: collections.deque[int] = collections.deque()
        self._soon: list[Callable[[], object]] = []
        self.now = time.monotonic()
        """When the last wait ended, in seconds of time.monotonic()."""
        self.is_spent = False
        """Whether a pass has done its work; whose turn has not come by then waits for the next."""
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self.watch(self._woken.fileno(), lambda: self._woken.recv(4096))

    def watch(self, descriptor: int, function: Callable[[], object], events: int = READ) -> None:
        """Call a function whenever a descriptor is ready; from now on this one, and for these events."""
        poller = self._poller_of(descriptor)
        if descriptor in self._functions:
            poller.modify(descriptor, events)
        else:
            poller.register(descriptor, events)
        self._functions[descriptor] = function
        if events != READ:
            self._events[descriptor] = events
        else:
            self._events.pop(descriptor, None)

    def forget(self, descriptor: int) -> None:
        """Wait for a descriptor no longer, if that was so; to be called before it is closed."""
        if self._functions.pop(descriptor, None):
            self._poller_of(descriptor).unregister(descriptor)
            self._pourers.discard(descriptor)
            self._doors.discard(descriptor)
            self._events.pop(descriptor, None)

    def take_turns(self, descriptor: int, does: bool = True, is_door: bool = False) -> None:
        """Have one that brings much at once take turns with others of that kind, after all others; or no longer.

        A door, through which somebody comes in, has its turn also when the others have none.
        """
        (self._doors.add if is_door else self._doors.discard)(descriptor)
        if does != (descriptor in self._pourers) and descriptor in self._functions:
            self._poller_of(descriptor).unregister(descriptor)
            (self._pourers.add if does else self._pourers.discard)(descriptor)
            self._poller_of(descriptor).register(descriptor, self._events.get(descriptor, READ))

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function once, before the next wait."""
        self._soon.append(function)

    def watches(self, descriptor: int) -> bool:
        """Tell whether a descriptor is waited for."""
        return descriptor in self._functions

    def ready(self, wait: float, gives_turns: bool = True) -> Iterator[Callable[[], object]]:
        """Wait until something is ready, `wait` seconds at the most; yield the function of each socket that is.

        Those who take turns come last, and one by one, until the pass is spent; or of them only the doors do. A
        function may find nothing there (BlockingIOError), since what came before it in the same pass may have closed
        its socket and opened another with the same descriptor.
        """
        functions, pourers, turns = self._functions, self._pourers, self._turns
        soon, self._soon = self._soon, []
        yield from soon
        if pourers and not self._wakes_up:
            wait = min(wait, PAUSE)
        found = self._poller.poll(0.0 if turns and gives_turns else wait)
        due = turns if gives_turns else collections.deque()
        if pourers and not due and (gives_turns or self._doors):
            pouring = [descriptor for descriptor, _ in self._pouring.poll(0.0)]
            due.extend(pouring if gives_turns else filter(self._doors.__contains__, pouring))
        if not due and len(found) == 1 and found[0][0] not in functions:
            time.sleep(min(wait, PAUSE))
        self.now = time.monotonic()
        self.is_spent = False
        for descriptor, _ in found:
            if descriptor in functions:
                yield functions[descriptor]
        while due:
            descriptor = due.popleft()
            if descriptor in pourers:
                yield functions[descriptor]
                if self.is_spent:
                    return

    def _poller_of(self, descriptor: int) -> select.epoll | Selector:
        return self._pouring if descriptor in self._pourers else self._poller

    def catch_signals(self, names: Iterable[str], function: Callable[[int, FrameType | None], object]) -> None:
        """Have signals call a function, and end the wait; those that are ignored (nohup) stay so."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for name in names:
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, function)

    def close(self) -> None:
        """Free what the loop holds; the sockets that it waited for stay open."""
        signal.set_wakeup_fd(-1)
        self._poller.close()
        self._pouring.close()
        self._woken.close()
        self._wake.close()
