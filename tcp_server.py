#!/usr/bin/env python3
"""TCP server: many clients at once, a line a message, in one thread and one loop.

The socket calls, in order: socket, bind, listen; then for each client accept, recv and send; at the end close, and
shutdown before it if the client has not ended first. A stream carries bytes, not messages: one recv may bring half a
line or a hundred lines. A message goes through Connection.read, Lines.take and Service.receive; when all that is ready
was read, Service.finish_pass has Connection.send confirm it: with `Message received: ` as `start`.
"""

from __future__ import annotations

import first  # noqa: F401  # isort: skip

import argparse
import socket

from common import FULL, Parser, check_tls_options, run, seconds, whole_number
from entrance import Entrance
from gate import Crowd, Gate
from leaving import FLUSH_TIME
from lines import Lines
from listening import is_forged, open_all, prepare
from loop import WRITE
from peer import Transport
from places import MANY, Places
from serving import Server, add_arguments, network, serve
from sockets import keep_alive, limit_patience, reuse_address, send_at_once
from telnet import Opening
from text import TYPE_CHECKING, show_address, shown_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from credentials import Credentials
    from text import Address

PORT, MAX_CLIENTS = 65432, 10000
"""Where to listen, and how many to serve at once, unless told."""
BACKLOG = 4096
"""Connections that the kernel may complete before accept() takes them; its own limit may be lower."""
MAX_LAG = 1 << 20
"""Bytes that a client may leave unread, or that TLS can not take, before it is cut off when more is to be sent."""


def open_listener(family: socket.AddressFamily, address: Address, shares_port: bool) -> socket.socket:
    """Return a socket that listens on an address. Raises OSError and Failure."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(listener, address, shares_port)
        reuse_address(listener)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Listener(Places):
    """The listening sockets, and the connections from them. Places calls accept(), closes who is late, and stops."""

    protocol = "TCP"

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        super().__init__(server, options.max_clients, options.idle_timeout)
        self.proxies = Gate(options.proxy_from, server.record) if options.proxy_from else None
        self._credentials: Credentials | None = None
        if options.tls_cert:
            from credentials import Credentials

            self._credentials = Credentials(options, server.record, self.protocol)
            server.renew = self._credentials.renew
            self.accept_cost += Entrance.HANDSHAKE_COST
        self.crowd = Crowd(options.max_per_address) if options.max_per_address else None
        self._ending = options.ending
        self.open(*open_all(options, options.port, socket.SOCK_STREAM, open_listener))
        for listener in self._listening:
            server.announce("TCP", listener.getsockname())

    def accept(self, listener: socket.socket) -> None:
        """Take one who waits: serve it, have it pass the entrance first, turn it away, or close it. Raises OSError."""
        connected, address = listener.accept()
        name = show_address(address)
        host = shown_host(name)
        if is_forged(address[0], connected.getsockname()[0]) or not (self.proxies or self.service.gate).check(host):
            connected.close()
            return
        connected.setblocking(False)
        keep_alive(connected)
        limit_patience(connected)
        send_at_once(connected)
        connection = Connection(self, connected, name, host, self._new_lines())
        if self.is_full():
            self.service.show(connection, "Turned away", f": {self.max_clients} are connected", trouble=True)
            self.service.attend(connection, connection.turn_away, FULL % self.max_clients)
        elif self.proxies:
            connection.come_in()
        elif connection.enter_crowd(host):
            self.service.attend(connection, connection.come_in if self._credentials else connection.begin)

    def _new_lines(self) -> Lines:
        """Return a stream for a connection, at whose start telnet programs may negotiate where LF ends a line."""
        lines = self._credentials.new_lines(self._ending) if self._credentials else Lines(self._ending)
        if self._ending == "lf":
            lines.opening = Opening(lines)
        return lines


class Connection(Entrance):
    """A client's connection. Its phase is the function that the loop calls when its socket is ready.

    read_header, handshake (in entrance.py): it comes in. read: the client is served. flush: something does not fit, and
    who does not read is not read from. flush_last, drain (in leaving.py): the conversation has ended, but for that; and
    it is up to the client to close. It has none when it is closed, and when it is held and nothing is unsent.
    """

    __slots__ = ("_is_held", "_service", "_transmit", "lines", "receive")
    protocol = Listener.protocol
    ends_for_good = True

    def __init__(self, listener: Listener, connected: socket.socket, name: str, host: str | None, lines: Lines) -> None:
        super().__init__(listener, connected, name, host)
        self.receive, self._transmit = connected.recv, connected.send
        self.lines: Any = lines
        self._service = listener.service
        self._is_held = False

    def begin(self, data: bytes = b"") -> None:
        """Serve the client, who has sent this much."""
        self.move(self.places.served, self.read)
        self.take_turns(False)
        if self._unsent:  # what ends the handshake
            self.loop.watch(self.socket.fileno(), self.flush, WRITE)
        self._service.join(self)
        self._service.show(self, "Connected by")
        self._take(data)  # also b"": with the end of the handshake, TLS may have taken lines
        if self._service.audience and self._service.audience.is_full():
            self.wait_its_turn()

    def read(self) -> None:
        """Take what the client has sent; b"" is the end of it."""
        data = self.receive(self.read_size)
        if data:
            self._take(data)
        else:
            self._take_end(self.lines.end())

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, each as a line, with `start` before it."""
        self.send_bytes(self.lines.pack(replies, start))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, or keep what does not fit."""
        if self._unsent or not data:
            self._unsent += data
            return
        try:
            sent = self._transmit(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent = bytearray(data[sent:])
            self.loop.take_turns(self.socket.fileno(), False)  # it is not read from now
            self.loop.watch(self.socket.fileno(), self.flush, WRITE)
            self.places.note_buffered(len(self._unsent))

    def tell(self, lines: list[bytes]) -> None:
        """Send lines of the server's own; cut the client off if it lags more than MAX_LAG bytes behind."""
        if self.unsent() > max(MAX_LAG, 2 * self._service.max_message):  # its own reply may be as long
            self.close("it does not read")
        else:
            self.hear(lines)

    def hear(self, lines: list[bytes]) -> None:
        """Send lines of others."""
        self.send_bytes(self.lines.pack(lines))
        if not self._unsent:
            self.heard_at = self.loop.now

    def unsent(self) -> int:
        """Return how many bytes the client has not taken yet."""
        return len(self._unsent) + int(self.lines.unsent())

    def flush(self) -> None:
        """Send what did not fit; then read on, unless it is held."""
        del self._unsent[: self._transmit(self._unsent)]  # type: ignore[union-attr]
        self.heard_at = self.loop.now
        if self._unsent:
            return
        if self._is_held:
            self.loop.forget(self.socket.fileno())
        else:
            self.loop.watch(self.socket.fileno(), self.handshake if self in self.places.entering else self.read)
            self.take_turns(self.takes_turns, self in self.places.entering)
        if self._service.audience and self in self.places.served:
            self._service.audience.tell(self)

    def hold(self) -> None:
        """Read nothing more until go_on()."""
        self._is_held = True
        if not self._unsent:
            self.loop.forget(self.socket.fileno())

    def go_on(self) -> None:
        """Read on, if the conversation still goes on."""
        self._is_held = False
        if self in self.places.served and not self._unsent:
            self.loop.watch(self.socket.fileno(), self.read)
            self.take_turns(self.takes_turns)

    def turn_away(self, reply: bytes) -> None:
        """End with this reply alone; in TLS without it, since it would take a handshake."""
        if not self.lines.is_secure:
            self.send([reply])
        self.end()

    def half_close(self) -> None:
        """End the sending side: the client reads to its end, and closes then. Raises OSError."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self, why: str = "") -> None:
        """Close at once."""
        self._transmit = len  # type: ignore[assignment]  # whatever is still to be sent in this pass counts as sent
        self._unsent = b""
        super().close(why)

    def idle_since(self) -> float:
        """Return when the client last sent or took something, in seconds; later for one that has to read first."""
        return self.heard_at + (FLUSH_TIME if self._unsent or self._is_held else 0.0)

    def _take(self, data: bytes) -> None:
        """Hand the lines that are complete with this to the service."""
        self.heard_at = self.loop.now
        lines, service = self.lines.take(data), self._service
        if len(data) >= self.read_size or len(lines) > MANY or self.takes_turns:
            self.mind_others(len(data), len(lines))
        if self.lines.unfinished and len(self.lines.unfinished) > service.longest_line:
            lines += self.lines.cut()  # too long already: the service refuses it, and ends the conversation
        if lines:
            service.receive(self, lines)
        else:
            service.received_bytes += len(data)
            self.places.note_buffered(len(data))
        if self.lines.is_secure:
            self._tend_tls()

    def _take_end(self, unfinished: list[bytes]) -> None:
        """Hand what is left to the service, which ends the conversation when that is answered."""
        if unfinished:
            self._service.receive(self, unfinished)
        self._at_end = True
        self._service.leave(self)

    def _tend_tls(self) -> None:
        """Send what TLS has to say of its own, or can take now; end when the client has ended the stream."""
        self._service.received_bytes += self.lines.work
        self.send_bytes(self.lines.outgoing())
        if self.lines.unsent() > MAX_LAG:
            self.close("it does not finish what it began in TLS")
        elif self.lines.ended:
            self._take_end(self.lines.cut())


def main() -> int:
    """Run the server."""
    parser = Parser(
        "[PORT]",
        "Serve many TCP clients: show each line that they send, and confirm it.",
        "9000",
        "9000 --reply relay --udp-port 9001",
        "9000 --host 0.0.0.0 --allow 192.168.0.0/16",
    )
    add_arguments(parser, PORT, most=1 << 30, longest=65536)
    add, most = parser.add_argument_group("TCP").add_argument, MAX_CLIENTS
    add("--udp-port", metavar="PORT", type=whole_number(0, 65535), help="serve UDP on this port, too")
    add("--ending", choices=("lf", "cr", "nul"), default="lf", help="what ends a message (lf)")
    add("--max-clients", metavar="N", type=whole_number(1), default=most, help=f"connections at once ({most})")
    add("--max-per-address", metavar="N", type=whole_number(1), help="connections at once from one address")
    add("--idle-timeout", metavar="SECONDS", type=seconds, default=0.0, help="disconnect who says nothing for so long")
    add("--proxy-from", metavar="NETWORK", type=network, action="append", help="take clients from proxies in it alone")
    add = parser.add_argument_group("TLS").add_argument
    add("--tls-cert", metavar="FILE", help="speak TLS with this certificate,")
    add("--tls-key", metavar="FILE", help="and this key")
    add("--tls-ca", metavar="FILE", help="demand a client certificate that this CA signed")
    options = parser.parse_args()
    check_tls_options(parser, options, bool(options.tls_cert), "--tls-ca needs --tls-cert and --tls-key")

    def open_transports(server: Server) -> Iterator[Transport]:
        yield Listener(server, options)
        if options.udp_port is not None:
            from udp_server import open_endpoints

            yield from open_endpoints(server, options, options.udp_port)

    return serve(options, open_transports)


if __name__ == "__main__":
    run(main)
