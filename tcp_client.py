#!/usr/bin/env python3
"""TCP client: send each typed line to a server, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; shutdown, to tell that nothing more comes; close.
"""

from __future__ import annotations

import first  # noqa: F401  # isort: skip

import argparse
import contextlib
import socket
import time

from arguments import add_arguments, parse_arguments
from channel import Broken, Channel, reach
from common import Failure, Parser, check_tls_options, reason, run, whole_number
from incoming import LONGEST_EXTRA, Incoming
from ledger import Ledger
from lines import ENDINGS, RECEIVE_SIZE, Lines
from loop import READ, WRITE, Loop
from phases import State
from reaching import go_out_from, look_up, race
from session import Session
from sockets import keep_alive, reuse_address, send_at_once, unacknowledged
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator

    from channel import Wait
    from reaching import Place

PORT = 65432
"""The server's, unless told."""
TLS_WINDOW_BYTES = 1 << 16
"""Servers that hand TLS on to a program (ncat -e) lock up when more is on its way."""


class TcpChannel(Channel):
    """A TCP connection, on which every message is a line."""

    protocol = "TCP"
    is_stream = True
    window, window_bytes = 16384, 1 << 20

    def __init__(self, loop: Loop, options: argparse.Namespace) -> None:
        """Take whom to connect to, and how. Raises Failure."""
        super().__init__(loop, options, options.port, Ledger(any_reply=options.any_reply), 0, options.reconnect)
        self._ending = options.ending
        self._lines = Lines(self._ending)
        self.unsent = bytearray()
        self._incoming = Incoming(options.udp_port is not None, self._ending)
        self._ends = 0  # bytes that the end itself counts among those to be acknowledged
        self._is_known = False  # whether this server has spoken as it should, on this connection or an earlier one
        self._context: ssl.SSLContext | None = None
        if options.tls:
            from tls import client_context

            self._context = client_context(options.tls_ca, options.tls_cert, options.tls_key)
            self.window_bytes = TLS_WINDOW_BYTES

    def connect(self) -> Generator[Wait, None, None]:
        """Connect to the first of the host's addresses that answers."""
        until = time.monotonic() + self.timeout
        places = yield from look_up(self.host, self.port, socket.SOCK_STREAM, self.family, until)
        late = f"no answer within {self.timeout:g} s (check the address, and the firewalls on the way)"
        self.close_socket()
        self.socket, address = yield from race(places, self.begin_to_connect, until, late)
        self.peer = show_address(address)
        keep_alive(self.socket)
        send_at_once(self.socket)
        self._lines = Lines(self._ending)
        self._incoming.restart()
        if self._context:
            yield from self._shake_hands(self._context, until)

    def begin_to_connect(self, place: Place) -> socket.socket:
        """Return a socket that is connecting to an address. Raises OSError."""
        family, address = place
        attempt = socket.socket(family, socket.SOCK_STREAM)
        try:
            attempt.setblocking(False)
            if self.source[family]:
                reuse_address(attempt)  # the last connection from there may still fade away (TIME_WAIT)
                go_out_from(attempt, self.source)
            with contextlib.suppress(BlockingIOError):  # it goes on meanwhile
                attempt.connect(address)
        except OSError:
            attempt.close()
            raise
        return attempt

    def _shake_hands(self, context: ssl.SSLContext, until: float) -> Generator[Wait, None, None]:
        """Go over to TLS, once each side knows the other."""
        from tls import TlsLines

        data = None
        try:
            server_name = self.host.partition("%")[0]  # certificates know no interfaces
            self._lines = lines = TlsLines(context, server_name, self._ending)
            while not lines.greet(data):
                self.flush(lines.outgoing())
                yield {self.socket.fileno(): READ | (WRITE if self.unsent else 0)}, until
                if time.monotonic() >= until:
                    server, within = f"{self.host} port {self.port}", f"{self.timeout:g} s"
                    raise Broken(f"no TLS handshake with {server} within {within} (does the server speak TLS?)")
                try:
                    data = self.socket.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    data = None
            self.flush(lines.outgoing())
        except (OSError, ValueError) as error:
            self.flush(self._lines.outgoing())  # the alert that tells the server
            raise self._failure(error) from error

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a line each."""
        self._incoming.longest = max(self._incoming.longest, LONGEST_EXTRA + max(map(len, messages)))
        try:
            data = self._lines.pack(messages)
        except OSError as error:  # what came last was no good TLS; read() told only what came before it
            raise self._failure(error) from error
        self.flush(data)

    def flush(self, data: bytes = b"") -> None:
        """Send what was kept, and `data`, as far as there is room."""
        was_kept = bool(self.unsent)
        self.unsent += data
        if not self.unsent:
            return  # to send nothing would take away the error that read() is to tell
        try:
            del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            if was_kept:
                return
        except OSError:  # read() will tell, after what the server said before
            self.unsent.clear()
            return
        self.active_at = time.monotonic()
        if was_kept or self.unsent:  # what is not out yet can not be answered
            self.ledger.unanswered_since = self.active_at

    def is_clear(self) -> bool:
        """Tell whether nothing is kept, encrypted or not."""
        return not self.unsent and not self._lines.unsent()

    def undelivered(self) -> int:
        """Return how many bytes of what was sent the server's machine has not acknowledged."""
        return max(unacknowledged(self.socket) - self._ends, 0)

    def read(self) -> tuple[bytes, list[bytes], bool]:
        """Return what has arrived: in a file as it comes, unless what comes over UDP stands between its lines."""
        try:
            data = self.socket.recv(RECEIVE_SIZE)
            text = self._lines.decode(data) if data else b"\n".join(self._lines.end())
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._failure(error) from error
        is_tls_alert = len(data) == 7 and data[:2] == b"\x15\x03" and data[3:5] == b"\0\2"  # RFC 8446, 5.1 and 6
        if is_tls_alert and not self._lines.is_secure:
            raise (Broken if self._is_known else Failure)(f"{self.peer} speaks TLS; connect with --tls")
        handed_on, lines = self._incoming.take(text)
        if not data:
            rest, last = self._incoming.end()
            return handed_on + rest, lines + last, True
        self._is_known |= bool(text)
        with contextlib.suppress(OSError):  # the next one will tell
            self.flush(self._lines.outgoing())
        return handed_on, lines, False

    def unfinished(self) -> bytes:
        """Return what has come of the line whose end has not."""
        return self._incoming.unfinished()

    def finish(self) -> None:
        """Tell the server that nothing more comes, and go on reading: it may have more to say."""
        self.flush(self._lines.finish())
        if not self._lines.is_secure:
            with contextlib.suppress(OSError):  # read() will tell
                self.socket.shutdown(socket.SHUT_WR)
                self._ends = 1

    def close(self) -> None:
        """Close the connection; tell the server before, in TLS."""
        if self._lines.is_secure:
            self.finish()
        super().close()

    def _failure(self, error: Exception) -> Failure:
        """Return what to tell of an error of the connection."""
        server = self.peer
        if self._context:
            import ssl

            from tls import explain, is_refusal, was_cut_short

            server = f"{self.host} port {self.port}"
            if isinstance(error, ssl.SSLError):
                greeted = self._is_known or self.state is not State.DOWN
                is_lost = was_cut_short(error) or self._is_known or (greeted and not is_refusal(error))
                return (Broken if is_lost else Failure)(explain(error, server, greeted))
        return Broken(f"connection to {server} lost: {reason(error)}")


def main() -> int:
    """Run the client."""
    parser = Parser(
        "[HOST] [PORT]",
        "Talk to a TCP server: each line that you type is a message.",
        "127.0.0.1 9000",
        "127.0.0.1 9000 -m 'Hello server!'",
        "127.0.0.1 9000 --udp-port 9001",
    )
    add_arguments(parser, PORT)
    add = parser.add_argument_group("TCP").add_argument
    add("--udp-port", metavar="PORT", type=whole_number(1, 65535), help="send each over TCP or UDP, chosen at random")
    add("--ending", choices=ENDINGS, default="lf", help="what ends a message (lf)")
    add("--reconnect", action="store_true", help="wait for the server; come back when it breaks off")
    add = parser.add_argument_group("TLS").add_argument
    add("--tls", action="store_true", help="speak TLS, and verify who the server is")
    add("--tls-ca", metavar="FILE", help="trust this CA, or this very certificate, alone")
    add("--tls-cert", metavar="FILE", help="show the server this certificate,")
    add("--tls-key", metavar="FILE", help="which has this key")
    options = parse_arguments(parser, PORT)
    if options.reconnect and options.no_reply:
        parser.error("--reconnect needs replies to know what to send again; leave out --no-reply")
    check_tls_options(parser, options, options.tls, "--tls-ca and --tls-cert need --tls")
    loop = Loop()
    channels: list[Channel] = [TcpChannel(loop, options)]
    if options.udp_port is not None:
        from udp_client import UdpChannel

        channels.append(UdpChannel(loop, options, options.udp_port, 0, options.reconnect))
    reach(loop, channels)
    greeting = f"Connect{'ing' if options.reconnect else 'ed'} to {channels[0].peer}"
    if len(channels) > 1:
        greeting += f", and sending to {channels[1].peer} over UDP"
    return Session(options, loop, channels).run(f"{greeting}.")


if __name__ == "__main__":
    run(main)
