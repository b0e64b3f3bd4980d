"""Servers: what a connection goes through when its conversation has ended: what is unsent, and the client's turn."""

from __future__ import annotations

from lines import RECEIVE_SIZE
from loop import WRITE
from places import Guest
from text import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from places import Places

FLUSH_TIME = 10.0
"""Seconds without progress after which unsent replies of a conversation that has ended are given up."""
DRAIN_TIME = 2.0
DRAIN_BYTES = 16 << 20
"""What is read and thrown away after the last reply: closing a socket that has unread input resets the connection,
and a reset destroys replies that the client has not read yet (RFC 1122, 4.2.2.13)."""


class Leaving(Guest):
    """The last phases of a connection, flush_last and drain; `half_close()` tells the client that nothing follows."""

    __slots__ = ("_at_end", "_drained", "_unsent")
    if TYPE_CHECKING:
        lines: Any
        receive: Callable[[int], bytes]
        send_bytes: Callable[[bytes], None]
        flush: Callable[[], None]
        half_close: Callable[[], None]

    def __init__(self, places: Places, connected: socket.socket, name: str, host: str | None) -> None:
        """Take the same as Guest."""
        super().__init__(places, connected, name, host)
        self._unsent: bytes | bytearray = b""
        """What did not fit, and flush() sends when it does."""
        self._at_end = False
        """Whether the client has ended its side."""
        self._drained = 0

    def unfinished(self) -> int:
        """Return how many bytes there are of its line whose end has not come yet."""
        return len(self.lines.unfinished)

    def end(self) -> None:
        """Send what is unsent, half-close, wait for the client to close, and close."""
        if self.socket.fileno() < 0:
            return
        self.send_bytes(self.lines.finish())
        if self._unsent:
            self.move(self.places.leaving, self.flush_last, WRITE)
            self.deadline = self.loop.now + FLUSH_TIME
        else:
            self._part()

    def flush_last(self) -> None:
        """Send what did not fit; then half-close."""
        self.flush()
        self.deadline = self.loop.now + FLUSH_TIME
        if not self._unsent:
            self._part()

    def drain(self) -> None:
        """Throw away what still comes, until the client closes."""
        try:
            data = self.receive(RECEIVE_SIZE)
        except ConnectionError:  # it has closed, with something unread, such as what ends TLS
            data = b""
        self._drained += len(data)
        if not data or self._drained > DRAIN_BYTES:
            self.close()

    def _part(self) -> None:
        """Close, if the client has; otherwise tell it that nothing follows, and wait for that."""
        if self._at_end:
            self.close()
            return
        self.move(self.places.leaving, self.drain)
        self.deadline = self.loop.now + DRAIN_TIME
        try:
            self.half_close()
        except OSError:  # the client has reset the connection
            self.close()
