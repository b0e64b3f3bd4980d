"""Servers: the connections that are open, how many may be, and which of them have run out of time."""

from __future__ import annotations

import contextlib
import errno
from operator import attrgetter

from lines import RECEIVE_SIZE
from listening import is_own_address
from loop import READ
from peer import Peer, Transport
from service import PASS_BYTES
from text import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any

    from gate import Crowd, Gate
    from serving import Server

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

ACCEPT_COST = 4096
"""Bytes that a connection which is taken in counts for in a pass, so that a crowd does not hold up those inside."""
MADE_FREE = 50
"""Places made free at once."""
MAX_BUFFERED, LOOK_AFTER = 256 << 20, 16 << 20
"""Bytes that all connections together may leave unread, or have in lines without an end; then those go with most. It is
looked at when that may be so, but not before there may be so many more than at the last look."""
MAX_LEAVING = 100
"""Connections that may be on their way out, besides those that are served."""
SPARE_FILES = 32
"""Open files kept back for all that is not a connection."""
SELECTABLE = 512
"""Sockets that select() takes on Windows."""


FEW, SAVED_FEW, SHORT_LINE = 2048, 256, 32
"""Bytes read at once from who sends lines that are shorter on average than so many: each line costs time."""
NEW = 128
"""Bytes read at once from a newcomer, until it sends more; so thousands who come in at once hold up nobody."""
MANY = 32
"""Lines in one portion with which a client has to wait for its turn."""


class Guest(Peer):
    """A connection that stands in one of the places, and is a phase of the loop.

    `unsent()` and `unfinished()` return how many bytes it has not taken yet, and how many there are of its line whose
    end has not come; `idle_since()` since when nothing was to be heard, in seconds of time.monotonic().
    """

    __slots__ = ("deadline", "heard_at", "host", "loop", "places", "read_size", "socket", "takes_turns")
    if TYPE_CHECKING:
        idle_since: Callable[[], float]
        unsent: Callable[[], int]
        unfinished: Callable[[], int]

    def __init__(self, places: Places, connected: socket.socket, name: str, host: str | None) -> None:
        """Take the client's name and address; no address if nobody has vouched for one."""
        self.places, self.loop, self.socket, self.host = places, places.loop, connected, host
        self.rename(name)
        self.heard_at = self.loop.now
        """When it last sent or took something, in seconds of time.monotonic()."""
        self.deadline = 0.0
        """When it has to be through the entrance, or gone; the same."""
        self.takes_turns = False
        """Whether it is served after all others, since it brings much at once."""
        self.read_size = NEW
        """Bytes to read from it at once."""

    def move(self, place: set[Any], phase: Callable[[], None], events: int = READ) -> None:
        """Stand in this place, and have the loop call this function from now on."""
        self.places.move(self, place)
        self.loop.watch(self.socket.fileno(), phase, events)

    def take_turns(self, does: bool, is_door: bool = False) -> None:
        """Be served after all others from now on, or like them; while it comes in, it is a door."""
        self.takes_turns = does
        self.loop.take_turns(self.socket.fileno(), does, is_door)

    def wait_its_turn(self) -> None:
        """Be served after all others; what does not fit is sent before."""
        self.takes_turns = True
        if not self.unsent():
            self.take_turns(True)

    def mind_others(self, size: int, count: int) -> None:
        """Read as much at once as is fair after a portion of so many bytes, and lines; take turns if that is much."""
        few = self.places.few
        if size >= few:
            self.read_size = few if count * SHORT_LINE > size else RECEIVE_SIZE
        else:  # it may be what was left of much
            self.read_size = max(self.read_size // 4, few)
        if self.takes_turns != (size >= few or count > MANY or self.read_size > few):
            self.take_turns(not self.takes_turns)

    def is_local(self) -> bool:
        """Tell whether the client is on this machine."""
        return self.host is not None and is_own_address(self.host)

    def can_hear(self) -> bool:
        """Tell whether it is served, and has taken all that was sent."""
        return not self.unsent() and self in self.places.served

    def miss(self, _: int) -> None:
        """Cut the client off."""
        self.close("it does not read")

    def close(self, why: str = "") -> None:
        """Close at once, if that was not done before."""
        if self.socket.fileno() >= 0:
            self.loop.forget(self.socket.fileno())
            self.socket.close()
            self.places.forget(self, why)


class Places(Transport):
    """A listening socket's connections: before the entrance is passed, served, or on their way out."""

    crowd: Crowd | None = None
    """How many connections each address has, if there is a limit."""
    accept_cost = ACCEPT_COST
    proxies: Gate | None = None
    """Which proxies there are to speak for clients; None: clients speak for themselves."""
    if TYPE_CHECKING:
        accept: Callable[[socket.socket], None]

    def __init__(self, server: Server, max_clients: int, idle_timeout: float) -> None:
        """Take how many may be served at once, and after how many seconds a silent one has to go (0: never)."""
        self.service, self.loop, self.record = server.service, server.loop, server.record
        self.max_clients, self._max_leaving = reserve_files(max_clients)
        self._idle_timeout = idle_timeout
        self.few = SAVED_FEW if server.archive else FEW
        self.entering: set[Any] = set()
        self.served: set[Any] = set()
        self.leaving: set[Any] = set()
        self._buffered_at_most, self._look_above = 0, MAX_BUFFERED

    def open(self, *listening: socket.socket) -> None:
        """Take in whoever waits at these sockets, as long as there is room: `accept(socket)` is called for each."""
        self._listening = listening
        self._resume()

    def take_in(self) -> None:
        """Take in those who wait, as far as there is room."""
        for listening in self._listening:
            self._take_in_at(listening)
        self._listening = *self._listening[1:], self._listening[0]  # a crowd at one does not keep out those at others

    def _take_in_at(self, listening: socket.socket) -> None:
        while self.service.received_bytes <= PASS_BYTES:
            self.service.received_bytes += self.accept_cost
            if not self.has_room():
                self._make_room()
            if not self.has_room():
                self.pause()
                return
            try:
                self.accept(listening)
            except BlockingIOError:
                self.loop.take_turns(listening.fileno(), False)
                return
            except OSError as error:  # any other is of a client that has gone again
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.pause()
                    return
        self.loop.take_turns(listening.fileno(), is_door=True)

    def pause(self) -> None:
        """Take nobody in until a connection closes, or the next tick."""
        for listening in self._listening:
            self.loop.forget(listening.fileno())

    def has_room(self) -> bool:
        """Tell whether there is room for one more, if only to be told that the server is full."""
        return len(self.entering) + len(self.served) + len(self.leaving) < self.max_clients + self._max_leaving

    def is_full(self) -> bool:
        """Tell whether as many are served as may be."""
        return len(self.entering) + len(self.served) >= self.max_clients

    def _make_room(self) -> None:
        """Unless the server is full, close those who were told all and do not close, some who had most time for it."""
        done = [] if self.is_full() else [connection for connection in self.leaving if not connection.unsent()]
        for connection in sorted(done, key=attrgetter("deadline"))[:MADE_FREE]:
            connection.close("it did not close in time")

    def move(self, connection: Guest, place: set[Any] | None) -> None:
        """Have a connection stand in this place alone; None: in no place."""
        for other in (self.entering, self.served, self.leaving):
            other.discard(connection)
        if place is not None:
            place.add(connection)

    def forget(self, connection: Guest, why: str) -> None:
        """Note that a connection is closed, and why."""
        self.move(connection, None)
        if self.crowd:
            self.crowd.leave(connection)
        self.service.forget(connection)
        self.service.show(connection, "Disconnected:", f" ({why})" if why else "")
        self._resume()

    def note_buffered(self, size: int) -> None:
        """Take it that so many bytes more may be unread, or have no end."""
        self._buffered_at_most += size
        if self._buffered_at_most > self._look_above:
            self._buffered_at_most = 0  # so that it is asked for once
            self.loop.call_soon(self._limit_buffered)

    def peers(self) -> Iterable[Any]:
        """Return the connections that are served."""
        return self.served

    def tick(self, now: float) -> None:
        """Close what has run out of time by `now`, in seconds."""
        for connection in [connection for connection in self.leaving if connection.deadline < now]:
            connection.close("it did not close in time")
        for entrance in [entrance for entrance in self.entering if entrance.deadline < now]:
            entrance.close(f"no PROXY header or TLS handshake within {entrance.WITHIN:g} s")
        leaving = self.service.audience.seen_off() if self.service.audience else []
        for connection in [peer for peer in leaving if peer.unsent() and peer.idle_since() < now]:
            connection.close("it does not read")
        self._limit_buffered()
        if self._idle_timeout:
            since = now - self._idle_timeout
            for connection in [connection for connection in self.served if connection.idle_since() < since]:
                connection.close(f"nothing arrived for {self._idle_timeout:g} s")
        self._resume()

    def stop(self) -> None:
        """Take nobody in any more; end every conversation."""
        self._stop_listening()
        for entrance in list(self.entering):
            entrance.close("it was not through the entrance")
        for connection in list(self.served):
            self.service.attend(connection, connection.end)

    def is_stopped(self) -> bool:
        """Tell whether every connection is closed."""
        return not (self.entering or self.served or self.leaving)

    def close(self) -> None:
        """Close whatever is open."""
        self._stop_listening()
        for connection in [*self.entering, *self.served, *self.leaving]:
            connection.close("it did not close in time")

    def _limit_buffered(self) -> None:
        present = [*self.entering, *self.served, *self.leaving]
        buffered = {connection: connection.unsent() + connection.unfinished() for connection in present}
        total, most = sum(buffered.values()), max(MAX_BUFFERED, 2 * self.service.longest_line)  # a line, and its reply
        if total > most:
            for connection in sorted(present, key=lambda connection: -buffered[connection]):
                total -= buffered[connection]
                what = "read" if connection.unsent() else "end its line"
                connection.close(f"it does not {what}, and all that waits for that together is too much")
                if total <= most // 2:
                    break
        self._buffered_at_most, self._look_above = total, max(most, total + LOOK_AFTER)

    def _resume(self) -> None:
        for listening in self._listening:
            descriptor = listening.fileno()  # -1 once it is closed
            if descriptor >= 0 and not self.loop.watches(descriptor) and self.has_room():
                self.loop.watch(descriptor, self.take_in)

    def _stop_listening(self) -> None:
        self.pause()
        for listening in self._listening:
            listening.close()


def reserve_files(clients: int) -> tuple[int, int]:
    """Raise the limit on open files as far as `clients` need and it may; return how many may be served, and leaving."""
    if resource is None:
        allowed = SELECTABLE
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = clients + MAX_LEAVING + SPARE_FILES
        if soft != resource.RLIM_INFINITY and soft < allowed:
            soft = allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
            with contextlib.suppress(OSError, ValueError):  # then the limit stays, and fewer are served
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            allowed = min(allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    places = max(allowed - SPARE_FILES, 2)
    leaving = min(MAX_LEAVING, places // 2)
    return min(clients, places - leaving), leaving
