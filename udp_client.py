#!/usr/bin/env python3
"""UDP client: send each typed line to a server as a datagram, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; close. Connecting a UDP socket sends nothing. It
names the one peer, so that datagrams of others are not received and a closed port is reported (ECONNREFUSED).
"""

from __future__ import annotations

import first  # noqa: F401  # isort: skip

import collections
import contextlib
import os
import socket
import sys
import time

from arguments import add_arguments, parse_arguments
from channel import Broken, Channel, reach
from common import CONFIRMATION, MAX_DATAGRAM, SHUTTING_DOWN, Failure, Parser, reason, run, whole_number
from ledger import Ledger
from lines import as_lines
from loop import Loop
from phases import State
from reaching import go_out_from, in_words, look_up
from session import Session
from sockets import widen_buffer
from text import TYPE_CHECKING, show_address, without_ending

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    from channel import Wait
    from reaching import Place
    from text import Address

PORT = 65433
"""The server's, unless told."""
DATAGRAMS_AT_ONCE = 64
MULTICAST: dict[int, range] = {socket.AF_INET: range(224, 240), socket.AF_INET6: range(255, 256)}
"""With which byte the addresses of groups begin (RFC 5771, 4291)."""
SIGN_EVERY = 20.0
"""Seconds between two signs of life: servers forget who is silent for a minute, NATs for half of one."""


class UdpChannel(Channel):
    """A UDP socket, on which every message is a datagram."""

    protocol = "UDP"
    longest = MAX_DATAGRAM
    window, window_bytes = 64, 65536

    def __init__(self, loop: Loop, options: argparse.Namespace, port: int, retries: int, reconnects: bool) -> None:
        """Take whom to send to, and how. Raises Failure."""
        tries = sys.maxsize if reconnects else retries
        super().__init__(loop, options, port, Ledger(repeated, options.any_reply), tries, reconnects)
        self.unsent: collections.deque[bytes] = collections.deque()
        self._sent: collections.deque[bytes] = collections.deque(maxlen=self.window + 1)  # last, for the next address
        self._places: collections.deque[Place] = collections.deque()  # until one answers; the last is in use
        self._untried = 0  # how many of these are still to be tried before there is no server
        self._is_for_many = False
        self._reads_first = not options.no_reply  # what has come, before anything is made of an error
        self._taken_at = 0.0
        self._sign_at = 0.0  # when the next sign of life is due

    def connect(self) -> Generator[Wait, None, None]:
        """Take the first of the host's addresses for the server's; nothing is sent by that."""
        until = time.monotonic() + self.timeout
        places = yield from look_up(self.host, self.port, socket.SOCK_DGRAM, self.family, until)
        self._places = collections.deque(places)
        self._untried = len(places)
        self._sent.clear()
        self.take_next()

    def take_next(self) -> None:
        """Take the next of the host's addresses for the server's. Raises Broken if no untried one can be."""
        self._taken_at = self._sign_at = time.monotonic()
        while True:
            self._untried -= 1
            self._places.rotate(-1)
            family, address = self._places[-1]
            self.peer = show_address(address)
            try:
                self._is_for_many = is_for_many(family, address)
                unconnected = self._to_many(family) if self._is_for_many else socket.socket(family, socket.SOCK_DGRAM)
                self.close_socket()
                self.socket = unconnected
                self.socket.setblocking(False)
                widen_buffer(self.socket)
                go_out_from(self.socket, self.source)
                self.socket.connect(address)
                if self.socket.getsockname()[:2] == address[:2]:  # our port is the one where no server is
                    raise ConnectionRefusedError("nobody listens there")
                return
            except OSError as error:
                if self._untried <= 0:
                    raise Broken(f"cannot send to {self.peer}: {in_words(error, address)}") from error

    def _to_many(self, family: int) -> socket.socket:
        """Return a socket that many can answer, and expect that they do. Raises OSError, Failure."""
        if self.reconnects:  # it is a way beside a connection
            raise Failure(f"{self.peer} stands for many, and nobody can connect to them; use udp_client.py")
        from many import Answers, Everybody

        if not isinstance(self.ledger, Answers):
            self.ledger = Answers(self.ledger)
        return Everybody(family, socket.SOCK_DGRAM)

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a datagram each; an empty one as a line feed, since an empty datagram is no message."""
        self.unsent.extend([message or b"\n" for message in messages])
        self.flush()

    def resend(self, messages: list[bytes]) -> None:
        """Send messages to which no reply came in time: to the next address, if none has come from this one at all."""
        if len(self._places) > 1 and time.monotonic() >= self._taken_at + self.timeout:
            self._untried = len(self._places)
            with contextlib.suppress(Broken):  # none may be within reach just now; they have their turn again
                self.take_next()
        self.send(messages)

    def show_life(self, now: float) -> None:
        """Send an empty datagram if it is time to: the server, and any NAT on the way, keep in mind who listens."""
        if self.state is State.OPEN and now >= self._sign_at and not self.unsent:
            self._sign_at = now + SIGN_EVERY
            self.unsent.append(b"")
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
        """Return the datagrams that have arrived; for a file, each of them as a line. Empty ones are no message."""
        replies: list[bytes] = []
        is_last = False
        try:
            while len(replies) < DATAGRAMS_AT_ONCE and not is_last:
                replies.append(self.socket.recv(MAX_DATAGRAM))
                is_last = without_ending(replies[-1]) == SHUTTING_DOWN  # of many, none is, as each is named
        except BlockingIOError:
            pass
        except OSError as error:
            if not replies:
                self._go_on_after(error)
        if replies:
            self._places.clear()  # this one is the right one
            self._untried = 0
            replies = [reply for reply in replies if reply]
        self.said_goodbye |= is_last
        return as_lines(replies), replies, is_last

    def hear(self, replies: list[bytes]) -> list[bytes]:
        """Note what was said just now; of many that were told to `exit`, one that does is an answer."""
        if self._is_for_many and self.asks_for_end:
            self.said_goodbye |= any(without_ending(reply).endswith(b": " + SHUTTING_DOWN) for reply in replies)
        return super().hear(replies)

    def finish(self) -> None:
        """End: UDP knows no half-close, and nothing more is due; but ask whether the last datagram found nobody."""
        for error in iter(lambda: self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0):
            self._go_on_after(OSError(error, os.strerror(error)))
        self.enter(State.CLOSED)

    def _go_on_after(self, error: OSError) -> None:
        """Send all again to the host's next address; with retries, wait for the server. Raises Failure.

        But where replies are expected, what has come is read first: it may say why nobody listens any more.
        """
        if self._reads_first and self._has_replies():
            return
        if self._untried:
            self.take_next()
            self.unsent.extendleft(reversed(self._sent))
            self._sent.clear()
            self.flush()
        elif self.retries:
            self.unsent.clear()  # they count as lost, and are sent again when they are late
        else:
            refused = isinstance(error, ConnectionRefusedError)
            cause = "nobody listens there (start the server, or check the port)" if refused else reason(error)
            raise Failure(f"no server at {self.peer}: {cause}") from error

    def _has_replies(self) -> bool:
        try:
            self.socket.recv(MAX_DATAGRAM, socket.MSG_PEEK)
        except OSError:
            return False
        return True


def is_for_many(family: int, address: Address) -> bool:
    """Tell whether an address is a multicast group, or that of all machines in a network. Raises OSError."""
    if socket.inet_pton(family, address[0].partition("%")[0])[0] in MULTICAST[family]:
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except PermissionError:  # without SO_BROADCAST
            return True
        except OSError:  # whoever sends there will be told
            return False
    return False


def repeated(message: bytes) -> bytes:
    """Return what a confirmation has room for, without its line ending, which servers may change."""
    return without_ending(message[: MAX_DATAGRAM - len(CONFIRMATION)])


def main() -> int:
    """Run the client."""
    parser = Parser(
        "[HOST] [PORT]",
        "Talk to a UDP server: each line that you type is a datagram.",
        "127.0.0.1 9001",
        "127.0.0.1 9001 -m 'Hello server!' --retries 3",
    )
    add_arguments(parser, PORT)
    add = parser.add_argument_group("UDP").add_argument
    add("--retries", metavar="N", type=whole_number(0), default=0, help="send again what is not answered, N times (0)")
    options = parse_arguments(parser, PORT)
    if options.retries and options.no_reply:
        parser.error("--retries needs replies to know what to send again; leave out --no-reply")
    loop = Loop()
    channel = UdpChannel(loop, options, options.port, options.retries, reconnects=False)
    reach(loop, [channel])
    return Session(options, loop, [channel]).run(f"Sending to {channel.peer}.")


if __name__ == "__main__":
    run(main)
