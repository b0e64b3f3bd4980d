#!/usr/bin/env python3
"""UDP client: send each typed line to a server as a datagram, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; close. Connecting a UDP socket sends nothing. It
names the one peer, so that datagrams of others are not received and a closed port is reported (ECONNREFUSED).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import socket
import sys
import time

from common import (
    CONFIRMATION,
    MAX_DATAGRAM,
    SHUTTING_DOWN,
    Address,
    Failure,
    Parser,
    reason,
    run,
    show_address,
    whole_number,
    without_ending,
)
from common_client import Broken, Channel, Ledger, Session, add_arguments, find

DATAGRAMS_AT_ONCE = 64
RECEIVE_BUFFER = 4 << 20
"""Bytes of kernel buffer asked for, so that what others say in a room does not push out a reply."""


class Datagrams(Channel):
    """A UDP socket, on which every message is a datagram."""

    protocol = "UDP"
    longest = MAX_DATAGRAM
    loses = True
    window = 64
    window_bytes = 65536

    def __init__(self, host: str, port: int, retries: int = 0, reconnects: bool = False) -> None:
        super().__init__(socket.socket(), show_address((host, port)), Ledger(repeated))
        self.retries = sys.maxsize if reconnects else retries
        self.reconnects = self.down = reconnects
        self._host = host
        self._port = port
        self._addresses: list[tuple[socket.AddressFamily, Address]] = []
        self._unsent: collections.deque[bytes] = collections.deque()
        self._sent: collections.deque[bytes] = collections.deque(maxlen=self.window)  # the last, for the next address
        self._heard = False

    def reopen(self) -> None:
        """Find the server, and send what is not confirmed."""
        self._addresses = find(self._host, self._port, socket.SOCK_DGRAM)
        self._connect_next()
        self.down = self.told_goodbye = self._heard = False
        self._unsent = collections.deque(self.ledger.send_again(time.monotonic()))
        self.flush()

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a datagram each; while the server is not found, leave them to reopen()."""
        if self.down:
            return
        self._unsent.extend(messages)
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            while self._unsent:
                self.socket.send(self._unsent[0])
                self._sent.append(self._unsent.popleft())
        except BlockingIOError:
            return
        except OSError as error:
            self._try_next(error)

    def unsent(self) -> int:
        """Return how many datagrams are kept."""
        return len(self._unsent)

    def read(self) -> tuple[bytes, list[bytes]]:
        """Return the datagrams that have arrived; for a file, each of them as a line."""
        replies: list[bytes] = []
        try:
            while len(replies) < DATAGRAMS_AT_ONCE and not self.ended:
                replies.append(self.socket.recv(MAX_DATAGRAM))
                self.ended = self.told_goodbye = without_ending(replies[-1]) == SHUTTING_DOWN
        except BlockingIOError:
            pass
        except OSError as error:
            if not replies:
                self._try_next(error)
        self._heard = self._heard or bool(replies)
        return b"".join([reply if reply.endswith(b"\n") else reply + b"\n" for reply in replies]), replies

    def finish(self) -> None:
        """End: UDP knows no half-close, and nothing more is due; but ask whether the last datagram found nobody."""
        while not self.down:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                break
            self._try_next(OSError(error, os.strerror(error)))
        self.ended = True

    def _connect_next(self) -> None:
        """Take a socket for the next of the host's addresses. Raises Broken if there is none."""
        self.socket.close()
        while True:
            family, address = self._addresses.pop(0)
            self.peer = show_address(address)
            try:
                self.socket = connect_to(family, address)
                return
            except OSError as error:
                if not self._addresses:
                    raise Broken(f"cannot send to {self.peer}: {reason(error)}") from error

    def _try_next(self, error: OSError) -> None:
        """After an error, send all again to the host's next address, if nothing ever came from this one."""
        if self.retries and (self._heard or not self._addresses):
            self._unsent.clear()  # they count as lost, and are sent again when they are late
            return
        if self._heard or not self._addresses:
            refused = isinstance(error, ConnectionRefusedError)
            why = "nobody listens there (start the server, or check the port)" if refused else reason(error)
            raise Failure(f"no server at {self.peer}: {why}") from error
        self._connect_next()
        again = self.ledger.send_again(time.monotonic()) or [*self._sent, *self._unsent]  # words are in no ledger
        self._sent.clear()
        self._unsent = collections.deque(again)
        self.flush()


def connect_to(family: socket.AddressFamily, address: Address) -> socket.socket:
    """Return a socket that knows its peer's address. Raises OSError."""
    connected = socket.socket(family, socket.SOCK_DGRAM)
    try:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # macOS refuses what is over its limit, Linux gives what it allows
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        connected.connect(address)
        if connected.getsockname()[:2] == address[:2]:  # our port is the one where no server is
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
    except OSError:
        connected.close()
        raise
    return connected


def repeated(message: bytes) -> bytes:
    """Return what a confirmation has room for, without its line ending, which servers may change."""
    return without_ending(message[: MAX_DATAGRAM - len(CONFIRMATION)])


def main() -> int:
    """Run the client."""
    parser = Parser(
        "HOST PORT",
        "Talk to a UDP server: each line that you type is a datagram.",
        "127.0.0.1 9001",
        "127.0.0.1 9001 -m 'Hello server!' --retries 3",
    )
    add_arguments(parser)
    add = parser.add_argument_group("UDP").add_argument
    add("--retries", metavar="N", type=whole_number(0), default=0, help="send again what is not answered, N times (0)")
    options = parser.parse_args()
    if options.retries and options.no_reply:
        parser.error("--retries needs replies to know what to send again; leave out --no-reply")
    channel = Datagrams(options.host, options.port, options.retries)
    channel.reopen()
    return Session(options, [channel]).run(f"Sending to {channel.peer}.")


if __name__ == "__main__":
    run(main)
