#!/usr/bin/env python3
"""UDP client: send each typed line to a server as a datagram, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; close. Connecting a UDP socket sends nothing. It
names the one peer, so that datagrams of others are not received and a closed port is reported (ECONNREFUSED).
"""

from __future__ import annotations

import first  # noqa: F401  # isort: skip

import collections
import os
import socket
import sys

from channel import Broken, Channel, add_arguments
from common import CONFIRMATION, MAX_DATAGRAM, SHUTTING_DOWN, Failure, Parser, reason, run, whole_number
from ledger import Ledger
from loop import Loop
from phases import State
from session import Session
from sockets import widen_buffer
from text import TYPE_CHECKING, resolve, show_address, without_ending

if TYPE_CHECKING:
    from text import Address

DATAGRAMS_AT_ONCE = 64


class UdpChannel(Channel):
    """A UDP socket, on which every message is a datagram."""

    protocol = "UDP"
    longest = MAX_DATAGRAM
    window, window_bytes = 64, 65536

    def __init__(self, loop: Loop, host: str, port: int, retries: int, reconnects: bool) -> None:
        super().__init__(loop, host, port, Ledger(repeated), sys.maxsize if reconnects else retries, reconnects)
        self.unsent: collections.deque[bytes] = collections.deque()
        self._sent: collections.deque[bytes] = collections.deque(maxlen=self.window)  # last, for the next address
        self._addresses: list[tuple[socket.AddressFamily, Address]] = []  # to be tried if nothing comes from this one

    def connect(self) -> None:
        """Take the next of the host's addresses for the server's, or the first again; nothing is sent by that."""
        if not self._addresses:
            self._addresses = resolve(self.host, self.port, socket.SOCK_DGRAM)
            self._sent.clear()
        while True:
            family, address = self._addresses.pop(0)
            self.peer = show_address(address)
            try:
                self.close()
                self.socket = socket.socket(family, socket.SOCK_DGRAM)
                self.socket.setblocking(False)
                widen_buffer(self.socket)
                self.socket.connect(address)
                if self.socket.getsockname()[:2] == address[:2]:  # our port is the one where no server is
                    raise ConnectionRefusedError("nobody listens there")
                return
            except OSError as error:
                if not self._addresses:
                    raise Broken(f"cannot send to {self.peer}: {reason(error)}") from error

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a datagram each."""
        self.unsent.extend(messages)
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            while self.unsent:
                self.socket.send(self.unsent[0])
                self._sent.append(self.unsent.popleft())
        except BlockingIOError:
            return
        except OSError as error:
            self._go_on_after(error)

    def read(self) -> tuple[bytes, list[bytes], bool]:
        """Return the datagrams that have arrived; for a file, each of them as a line."""
        replies: list[bytes] = []
        try:
            while len(replies) < DATAGRAMS_AT_ONCE and not self.said_goodbye:
                replies.append(self.socket.recv(MAX_DATAGRAM))
                self.said_goodbye = without_ending(replies[-1]) == SHUTTING_DOWN
        except BlockingIOError:
            pass
        except OSError as error:
            if not replies:
                self._go_on_after(error)
        if replies:
            self._addresses.clear()  # this one is the right one
        data = b"".join([reply if reply.endswith(b"\n") else reply + b"\n" for reply in replies])
        return data, replies, self.said_goodbye

    def finish(self) -> None:
        """End: UDP knows no half-close, and nothing more is due; but ask whether the last datagram found nobody."""
        for error in iter(lambda: self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0):
            self._go_on_after(OSError(error, os.strerror(error)))
        self.enter(State.CLOSED)

    def _go_on_after(self, error: OSError) -> None:
        """Send all again to the host's next address; with retries, wait for the server. Raises Failure."""
        if self._addresses:
            self.connect()
            self.unsent.extendleft(reversed(self._sent))
            self._sent.clear()
            self.flush()
        elif self.retries:
            self.unsent.clear()  # they count as lost, and are sent again when they are late
        else:
            refused = isinstance(error, ConnectionRefusedError)
            cause = "nobody listens there (start the server, or check the port)" if refused else reason(error)
            raise Failure(f"no server at {self.peer}: {cause}") from error


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
    loop = Loop()
    channel = UdpChannel(loop, options.host, options.port, options.retries, reconnects=False)
    channel.open()
    return Session(options, loop, [channel]).run(f"Sending to {channel.peer}.")


if __name__ == "__main__":
    run(main)
