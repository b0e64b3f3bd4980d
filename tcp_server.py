#!/usr/bin/env python3
"""TCP server: many clients at once, a line a message, in one thread and one selector loop.

The socket calls, in order: socket, bind, listen; then for each client accept, recv and send; at the end shutdown and
close. A stream carries bytes, not messages: one recv may bring half a line or a hundred lines.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Iterable, Iterator

from common import (
    FULL,
    RECEIVE_SIZE,
    Address,
    Parser,
    plain_host,
    reason,
    resolve,
    run,
    seconds,
    show_address,
    split_lines,
    whole_number,
)
from common_server import Peer, Service, Transport, add_arguments, is_own_address, listen_failure, serve

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_CLIENTS = 10000
BACKLOG = 4096
"""Connections that the kernel may complete before accept() takes them; its own limit may be lower."""
ACCEPT_AT_ONCE = 200
"""Connections accepted in one pass, so that a crowd at the door does not hold up those inside."""
MAX_LAG = 1 << 20
"""Bytes said by others that a client may leave unread before it is cut off."""
FLUSH_TIME = 10.0
"""Seconds without progress after which unsent replies of a conversation that has ended are given up."""
DRAIN_TIME = 2.0
DRAIN_BYTES = 16 << 20
"""What is read and thrown away after the last reply: closing a socket that has unread input resets the connection,
and a reset destroys replies that the client has not read yet (RFC 1122, 4.2.2.13)."""
MAX_LEAVING = 100
"""Connections that may be on their way out, besides those that are served."""
SPARE_FILES = 32
"""Open files kept back for all that is not a connection."""


class Connection(Peer):
    """A client's connection. It is read only while all its replies are sent: who does not read is not served."""

    __slots__ = (
        "_listener",
        "_socket",
        "_unfinished",
        "_unsent",
        "_drained",
        "_at_end",
        "heard_at",
        "deadline",
        "closed",
    )
    protocol = "TCP"
    overlong_ends = True

    def __init__(self, listener: Listener, connected: socket.socket, address: Address) -> None:
        super().__init__(show_address(address))
        self._listener = listener
        self._socket = connected
        self._unfinished: bytes | bytearray = b""
        self._unsent: bytes | bytearray = b""
        self._drained = 0
        self._at_end = False
        self.heard_at = time.monotonic()
        self.deadline = 0.0  # of a conversation that has ended, else 0
        self.closed = False
        listener.selector.register(connected, selectors.EVENT_READ, self.ready)

    def ready(self) -> None:
        """Send what could not be sent before, or read."""
        if self.closed:
            return
        try:
            if self._unsent:
                self._flush()
            elif self.deadline:
                self._drain()
            else:
                self._read()
        except BlockingIOError:
            return
        except OSError as error:
            self.close(reason(error))

    def send(self, replies: list[bytes]) -> None:
        """Send replies, each as a line."""
        self._send(b"\n".join(replies) + b"\n")

    def tell(self, lines: list[bytes]) -> None:
        """Send lines of others; cut the client off if it lags more than MAX_LAG bytes behind."""
        if self.deadline:
            return
        if len(self._unsent) > MAX_LAG:
            self.close("it does not read")
        else:
            self._send(b"\n".join(lines) + b"\n")

    def end(self) -> None:
        """Send what is unsent, half-close, wait for the client to close, and close."""
        if self.closed or self.deadline:
            return
        self._listener.part_with(self)
        self.deadline = time.monotonic() + FLUSH_TIME
        if not self._unsent:
            self._half_close()

    def is_local(self) -> bool:
        """Tell whether the client is on this machine."""
        try:
            return is_own_address(plain_host(self._socket.getpeername()[0]))
        except OSError:  # it is gone
            return False

    def close(self, reason: str = "") -> None:
        """Close at once."""
        if not self.closed:
            self.closed = True
            self._listener.selector.unregister(self._socket)
            self._socket.close()
            self._listener.forget(self, reason)

    def _read(self) -> None:
        data = self._socket.recv(RECEIVE_SIZE)
        service = self._listener.service
        if not data:
            if self._unfinished:
                service.receive(self, [bytes(self._unfinished)])
            self._at_end = True
            service.leave(self)
            return
        self.heard_at = time.monotonic()
        lines, self._unfinished = split_lines(self._unfinished, data)
        if len(self._unfinished) > service.max_message + 1:  # one for a CR that may be part of the ending
            lines.append(bytes(self._unfinished))
            self._unfinished = b""
        if lines:
            service.receive(self, lines)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        if self.closed:
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(reason(error))
            return
        if sent < len(data):
            self._unsent = bytearray(data[sent:])
            self._listener.selector.modify(self._socket, selectors.EVENT_WRITE, self.ready)

    def _flush(self) -> None:
        sent = self._socket.send(self._unsent)
        del self._unsent[:sent]  # type: ignore[union-attr]
        if self.deadline:
            self.deadline = time.monotonic() + FLUSH_TIME
        if not self._unsent:
            self._unsent = b""
            self._listener.selector.modify(self._socket, selectors.EVENT_READ, self.ready)
            if self.deadline:
                self._half_close()

    def _half_close(self) -> None:
        if self._at_end:
            self.close()
            return
        self.deadline = time.monotonic() + DRAIN_TIME
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.close(reason(error))

    def _drain(self) -> None:
        data = self._socket.recv(RECEIVE_SIZE)
        self._drained += len(data)
        if not data or self._drained > DRAIN_BYTES:
            self.close()


class Listener:
    """The listening socket, and the connections that came from it."""

    protocol = "TCP"

    def __init__(
        self,
        service: Service,
        selector: selectors.BaseSelector,
        host: str,
        port: int,
        clients: int,
        idle_timeout: float,
    ) -> None:
        self.service = service
        self.selector = selector
        self._idle_timeout = idle_timeout
        self._max_clients, self._max_leaving = reserve_files(clients)
        self._served: set[Connection] = set()
        self._leaving: set[Connection] = set()
        self._listens = True
        family, address = resolve(host, port, socket.SOCK_STREAM)[0]
        self._socket = open_listener(family, address)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)
        service.announce("TCP", show_address(self._socket.getsockname()))

    def peers(self) -> Iterable[Connection]:
        """Return the connections that are served."""
        return self._served

    def part_with(self, connection: Connection) -> None:
        """Serve a connection no longer, since its conversation has ended."""
        self._served.discard(connection)
        self._leaving.add(connection)

    def forget(self, connection: Connection, reason: str) -> None:
        """Note that a connection is closed."""
        self._served.discard(connection)
        self._leaving.discard(connection)
        self.service.show(connection, f"Disconnected: {connection.name}" + (f" ({reason})" if reason else ""))
        self._listen(len(self._leaving) < self._max_leaving)

    def tick(self, now: float) -> None:
        """Close what has run out of time."""
        for connection in [connection for connection in self._leaving if connection.deadline < now]:
            connection.close("it did not close in time")
        if self._idle_timeout:
            oldest = now - self._idle_timeout
            for connection in [connection for connection in self._served if connection.heard_at < oldest]:
                connection.close(f"nothing arrived for {self._idle_timeout:g} s")
        self._listen(len(self._leaving) < self._max_leaving)

    def stop(self) -> None:
        """Accept no more; end every conversation."""
        self._listen(False)
        self._socket.close()
        for connection in list(self._served):
            connection.end()

    def stopped(self) -> bool:
        """Tell whether every connection is closed."""
        return not self._served and not self._leaving

    def close(self) -> None:
        """Close whatever is open."""
        self._listen(False)
        self._socket.close()
        for connection in [*self._served, *self._leaving]:
            connection.close("it did not close in time")

    def _listen(self, on: bool) -> None:
        if on and not self._listens and not self.service.stopping:
            self.selector.register(self._socket, selectors.EVENT_READ, self._accept)
            self._listens = True
        elif not on and self._listens:
            self.selector.unregister(self._socket)
            self._listens = False

    def _accept(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if not self._listens:
                return
            try:
                connected, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._listen(False)  # until a connection closes, or the next tick
                continue  # any other error is of a client that has gone again
            connected.setblocking(False)
            keep_alive(connected)
            connection = Connection(self, connected, address)
            if len(self._served) < self._max_clients:
                self._served.add(connection)
                self.service.show(connection, f"Connected by {connection.name}")
            else:
                self._turn_away(connection)

    def _turn_away(self, connection: Connection) -> None:
        self.service.show(connection, f"Turned away {connection.name}: {self._max_clients} clients are connected")
        connection.send([FULL % self._max_clients])
        connection.end()
        self._listen(len(self._leaving) < self._max_leaving)


def open_listener(family: socket.AddressFamily, address: Address) -> socket.socket:
    """Return a socket that listens on an address; `::` takes IPv4 connections, too. Raises Failure."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share a busy port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # start again while connections of the last run are in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise listen_failure(address, error) from error
    return listener


def keep_alive(connected: socket.socket) -> None:
    """Have the kernel find out within two minutes that a silent client's machine is gone, and send replies at once."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reserve_files(clients: int) -> tuple[int, int]:
    """Raise the limit on open files as far as `clients` need and it may; return how many may be served, and leaving."""
    if resource is None:
        allowed = 512  # what select() on Windows takes
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


def main() -> int:
    """Run the server."""
    parser = Parser(
        "Serve many TCP clients: show each line that they send, and confirm it.",
        "examples:\n  tcp_server.py 9000\n  tcp_server.py 9000 --reply relay --udp-port 9001\n"
        "  tcp_server.py 9000 --host ::",
    )
    add_arguments(parser, most=1 << 30, longest=65536)
    add = parser.add_argument_group("TCP").add_argument
    add("--udp-port", metavar="PORT", type=whole_number(0, 65535), help="serve UDP on this port, too")
    add("--max-clients", metavar="N", type=whole_number(1), default=MAX_CLIENTS, help="connections at once (10000)")
    add("--idle-timeout", metavar="SECONDS", type=seconds, default=0.0, help="close a connection so long silent")
    options = parser.parse_args()

    def open_transports(service: Service, selector: selectors.BaseSelector) -> Iterator[Transport]:
        clients, idle_timeout = options.max_clients, options.idle_timeout
        yield Listener(service, selector, options.host, options.port, clients, idle_timeout)
        if options.udp_port is not None:
            from udp_server import Endpoint

            yield Endpoint(service, selector, options.host, options.udp_port)

    return serve(options, open_transports)


if __name__ == "__main__":
    run(main)
