#!/usr/bin/env python3
"""TCP client: send each typed line to a server, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; shutdown, to tell that nothing more comes; close.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from common import RECEIVE_SIZE, Failure, Parser, reason, resolve, run, show_address, split_lines, whole_number
from common_client import Broken, Channel, Ledger, Session, add_arguments

LONGEST_EXTRA = 1 << 20
"""Bytes by which a line from the server may be longer than the longest message that was sent."""


class Stream(Channel):
    """A TCP connection, on which every message is a line."""

    protocol = "TCP"
    takes_lines = True
    window = 16384
    window_bytes = 1 << 20

    def __init__(self, host: str, port: int, timeout: float, reconnects: bool) -> None:
        super().__init__(socket.socket(), show_address((host, port)), Ledger())
        self.reconnects = self.down = reconnects
        self._host = host
        self._port = port
        self._timeout = timeout
        self._unsent = bytearray()
        self._unfinished: bytes | bytearray = b""
        self._longest_line = LONGEST_EXTRA

    def reopen(self) -> None:
        """Connect, and send what is not confirmed."""
        connected = connect(self._host, self._port, self._timeout)
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.close()
        self.socket = connected
        self.peer = show_address(connected.getpeername())
        self.active_at = time.monotonic()
        self.down = self.told_goodbye = False
        self._unsent.clear()
        self._unfinished = b""
        again = self.ledger.send_again()
        if again:
            self.send(again)

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a line each; without a connection, leave them to reopen()."""
        if self.down:
            return
        self._unsent += b"\n".join(messages) + b"\n"
        self._longest_line = max(self._longest_line, LONGEST_EXTRA + max(map(len, messages)))
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            del self._unsent[: self.socket.send(self._unsent)]
            self.active_at = time.monotonic()
        except BlockingIOError:
            return
        except OSError:  # read() will tell, after what the server said before
            self._unsent.clear()

    def unsent(self) -> int:
        """Return how many bytes are kept."""
        return len(self._unsent)

    def read(self) -> tuple[bytes, list[bytes]]:
        """Return the lines that have arrived."""
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return b"", []
        except OSError as error:
            raise Broken(f"connection to {self.peer} lost: {reason(error)}") from error
        if not data:
            self.ended = True
            last = bytes(self._unfinished)
            return last, [last] if last else []
        lines, self._unfinished = split_lines(self._unfinished, data)
        if len(self._unfinished) > self._longest_line:
            raise Failure(f"{self.peer} sends a line without end; it is no server for lines")
        return b"\n".join([*lines, b""]), lines

    def finish(self) -> None:
        """Half-close: send the end of the stream, and go on reading."""
        with contextlib.suppress(OSError):  # read() will tell
            self.socket.shutdown(socket.SHUT_WR)


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers within `timeout` seconds. Raises Broken."""
    problems = []
    for family, address in resolve(host, port, socket.SOCK_STREAM):
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            connecting.settimeout(timeout)
            connecting.connect(address)
        except OSError as error:
            connecting.close()
            problems.append(f"cannot connect to {show_address(address)}: {why(error, timeout)}")
        else:
            return connecting
    raise Broken("; ".join(problems))


def why(error: OSError, timeout: float) -> str:
    """Return why a connection could not be made, and what to do about it."""
    if isinstance(error, socket.timeout):
        return f"no answer within {timeout:g} s (check the address, and the firewalls on the way)"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (start the server, or check the port)"
    return reason(error)


def main() -> int:
    """Run the client."""
    parser = Parser(
        "Talk to a TCP server: each line that you type is a message.",
        "examples:\n  tcp_client.py 127.0.0.1 9000\n  tcp_client.py 127.0.0.1 9000 -m 'Hello server!'\n"
        "  tcp_client.py 127.0.0.1 65432 --udp-port 65433",
    )
    add_arguments(parser)
    add = parser.add_argument_group("TCP").add_argument
    add("--udp-port", metavar="PORT", type=whole_number(1, 65535), help="send each message over TCP or UDP, at random")
    add("--reconnect", action="store_true", help="wait for the server; come back and send again when it breaks off")
    options = parser.parse_args()
    if options.reconnect and options.no_reply:
        parser.error("--reconnect needs replies to know what to send again; leave out --no-reply")
    stream = Stream(options.host, options.port, options.timeout, options.reconnect)
    channels: list[Channel] = [stream]
    if not options.reconnect:
        stream.reopen()
    greeting = f"Connect{'ing' if options.reconnect else 'ed'} to {stream.peer}."
    if options.udp_port is not None:
        from udp_client import Datagrams

        channels.append(Datagrams(options.host, options.udp_port, sys.maxsize if options.reconnect else 0))
        greeting = f"{greeting[:-1]}, and sending to {channels[1].peer} over UDP."
    return Session(options, channels).run(greeting)


if __name__ == "__main__":
    run(main)
