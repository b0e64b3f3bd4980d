"""All: one wait for all sockets, and the function that is called for each one that is ready.

epoll is called as it is, since Python's `selectors` adds half a microsecond to each event. Where a system has no epoll,
`Selector` gives `selectors` the same calls.
"""

from __future__ import annotations

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


class Loop:
    """The sockets that are waited for, each with the function to call when it is ready for what it waits for."""

    def __init__(self) -> None:
        self._poller = select.epoll() if hasattr(select, "epoll") else Selector()
        self._functions: dict[int, Callable[[], object]] = {}
        self.now = time.monotonic()
        """When the last wait ended, in seconds of time.monotonic()."""
        self.pourers: set[int] = set()
        """Descriptors of those who sent much at once: they take turns, after all others."""
        self.doors: set[int] = set()
        """Those of them with whom somebody comes in: they have their turn also while the others have none."""
        self.is_spent = False
        """Whether a pass has done its work; whose turn has not come by then waits for the next."""
        self._turns: dict[int, None] = {}
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self.watch(self._woken.fileno(), lambda: self._woken.recv(4096))

    def watch(self, descriptor: int, function: Callable[[], object], events: int = READ) -> None:
        """Call a function whenever a descriptor is ready; from now on this one, and for these events."""
        if descriptor in self._functions:
            self._poller.modify(descriptor, events)
        else:
            self._poller.register(descriptor, events)
        self._functions[descriptor] = function

    def forget(self, descriptor: int) -> None:
        """Wait for a descriptor no longer, if that was so; to be called before it is closed."""
        if self._functions.pop(descriptor, None):
            self._poller.unregister(descriptor)
            self.pourers.discard(descriptor)
            self.doors.discard(descriptor)
            self._turns.pop(descriptor, None)

    def watches(self, descriptor: int) -> bool:
        """Tell whether a descriptor is waited for."""
        return descriptor in self._functions

    def ready(self, wait: float, serve_pourers: bool = True) -> Iterator[Callable[[], object]]:
        """Wait until something is ready, `wait` seconds at the most; yield the function of each socket that is.

        Pourers come last, and one by one, until the pass is spent; or of them only the doors do. A function may find
        nothing there (BlockingIOError), since what came before it in the same pass may have closed its socket and
        opened another with the same descriptor.
        """
        functions, pourers, doors, turns = self._functions, self.pourers, self.doors, self._turns
        found = self._poller.poll(wait)
        self.now = time.monotonic()
        self.is_spent = False
        for descriptor, _ in found:
            if descriptor in pourers:
                turns[descriptor] = None
                continue
            function = functions.get(descriptor)
            if function:
                yield function
        if turns and len(turns) == len(found) and not serve_pourers:
            time.sleep(min(wait, PAUSE))
        while turns and (descriptor := next((turn for turn in turns if serve_pourers or turn in doors), -1)) >= 0:
            del turns[descriptor]
            pourers.discard(descriptor)
            doors.discard(descriptor)
            yield functions[descriptor]
            if self.is_spent:
                break

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
        self._woken.close()
        self._wake.close()
