#!/usr/bin/env python3
"""TCP client: send each typed line to a server, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; shutdown, to tell that nothing more comes; close.
"""

from __future__ import annotations

import contextlib
import socket
import time

from common import RECEIVE_SIZE, Failure, Parser, reason, resolve, run, show_address, split_lines, whole_number
from common_client import Channel, Ledger, Session, add_arguments

LONGEST_EXTRA = 1 << 20
"""Bytes by which a line from the server may be longer than the longest message that was sent."""


class Stream(Channel):
    """A TCP connection, on which every message is a line."""

    protocol = "TCP"
    takes_lines = True
    window = 16384
    window_bytes = 1 << 20

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected, show_address(connected.getpeername()), Ledger())
        self._unsent = bytearray()
        self._unfinished: bytes | bytearray = b""
        self._longest_line = LONGEST_EXTRA
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a line each."""
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
            raise Failure(f"connection to {self.peer} lost: {reason(error)}") from error
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
    """Connect to the first of a host's addresses that takes the connection within `timeout` seconds. Raises Failure."""
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
    raise Failure("; ".join(problems))


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
    options = parser.parse_args()
    channels: list[Channel] = [Stream(connect(options.host, options.port, options.timeout))]
    greeting = f"Connected to {channels[0].peer}."
    if options.udp_port is not None:
        from udp_client import Datagrams

        channels.append(Datagrams(options.host, options.udp_port))
        greeting = f"Connected to {channels[0].peer}, and sending to {channels[1].peer} over UDP."
    return Session(options, channels).run(greeting)


if __name__ == "__main__":
    run(main)
