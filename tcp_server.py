#!/usr/bin/env python3
"""TCP server: many clients at once, a line a message, in one thread and one selector loop.

The socket calls, in order: socket, bind, listen; then for each client accept, recv and send; at the end shutdown and
close. A stream carries bytes, not messages: one recv may bring half a line or a hundred lines.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import selectors
import socket
import time

from common import (
    FULL,
    RECEIVE_SIZE,
    TYPE_CHECKING,
    Address,
    Failure,
    Parser,
    plain_host,
    reason,
    resolve,
    run,
    seconds,
    show_address,
    split_lines,
    visible,
    whole_number,
)
from common_server import (
    Gate,
    Peer,
    Service,
    Transport,
    add_arguments,
    is_own_address,
    listen_failure,
    network,
    serve,
    share_port,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator
    from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_CLIENTS = 10000
BACKLOG = 4096
"""Connections that the kernel may complete before accept() takes them; its own limit may be lower."""
ACCEPT_AT_ONCE = 200
"""Connections accepted in one pass, so that a crowd at the door does not hold up those inside."""
FEW = 2048
SHORT_LINE = 32
"""Bytes read at once from who sends lines that are shorter on average: each costs, and others wait meanwhile."""
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
ENTER_TIME = 10.0
"""Seconds within which a PROXY header has to arrive and a TLS handshake has to be done."""
TLS_HANDSHAKE = b"\x16"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
"""How whatever a TLS client says first begins, and the fatal alert protocol_version (RFC 8446, sections 5.1 and 6)."""
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_V2_LOCAL, PROXY_V2_PROXY = 0x20, 0x21
PROXY_V2_UNKNOWN, PROXY_V2_TCP4, PROXY_V2_TCP6 = 0x00, 0x11, 0x21
MAX_PROXY_HEADER = 4096
SPARE_FILES = 32
"""Open files kept back for all that is not a connection."""


class Connection(Peer):
    """A client's connection. It is read only while all its replies are sent: who does not read is not served."""

    __slots__ = (
        *("_at_end", "_drained", "_read_size", "_socket", "_unfinished", "_unsent"),
        *("closed", "deadline", "heard_at", "listener"),
    )
    protocol = "TCP"
    overlong_ends = True

    def __init__(self, listener: Listener, connected: socket.socket, address: Address) -> None:
        super().__init__(show_address(address))
        self.listener = listener
        self._socket = connected
        self._unfinished: bytes | bytearray = b""
        self._unsent: bytes | bytearray = b""
        self._drained = 0
        self._read_size = FEW
        self._at_end = False
        self.heard_at = time.monotonic()
        self.deadline = 0.0  # of a conversation that has ended, or not begun; else 0
        self.closed = False
        listener.selector.register(connected, selectors.EVENT_READ, self.ready)

    def ready(self) -> None:
        """Send what could not be sent before, or read."""
        try:
            if self.closed:
                return
            if self._unsent:
                self._flush()
            elif self.deadline and self in self.listener.leaving:
                self._drain()
            else:
                self._take(self._socket.recv(self._read_size))
        except BlockingIOError:
            return
        except OSError as error:
            self.close(reason(error))

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, each as a line, with `start` before it."""
        self._send(start + (b"\n" + start).join(replies) + b"\n")

    def tell(self, lines: list[bytes]) -> None:
        """Send lines of others; cut the client off if it lags more than MAX_LAG bytes behind."""
        if len(self._unsent) > max(MAX_LAG, 2 * self.listener.service.max_message):  # its own reply may be as long
            self.close("it does not read")
        else:
            self._send(b"\n".join(lines) + b"\n")

    def end(self) -> None:
        """Send what is unsent, half-close, wait for the client to close, and close."""
        if self.listener.part_with(self):
            self.deadline = time.monotonic() + FLUSH_TIME
            if not self._unsent:
                self._half_close()

    def is_local(self) -> bool:
        """Tell whether the client is on this machine."""
        try:
            return is_own_address(plain_host(self._socket.getpeername()[0]))
        except OSError:  # it is gone
            return False

    def idle_since(self) -> float:
        """Return when the client last sent or took something, in seconds; one that has to read gets more time."""
        return self.heard_at + (FLUSH_TIME if self._unsent else 0.0)

    def close(self, why: str = "") -> None:
        """Close at once."""
        if not self.closed:
            self.closed = True
            self.listener.selector.unregister(self._socket)
            self._socket.close()
            self.listener.forget(self, why)

    def _take(self, data: bytes) -> None:
        """Take what a client sent, b"" for the end of it; give the service the lines that are finished."""
        service = self.listener.service
        if not data:
            if self._unfinished and not service.is_leaving(self):
                service.receive(self, [bytes(self._unfinished)])
            self._at_end = True
            service.leave(self)
            return
        self.heard_at = time.monotonic()
        lines, self._unfinished = split_lines(self._unfinished, data)
        if len(data) >= FEW:
            self._read_size = FEW if len(lines) * SHORT_LINE > len(data) else RECEIVE_SIZE
        if self._unfinished and len(self._unfinished) > service.longest_line:
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
            self.listener.selector.modify(self._socket, selectors.EVENT_WRITE, self.ready)

    def _flush(self) -> None:
        sent = self._socket.send(self._unsent)
        del self._unsent[:sent]  # type: ignore[union-attr]
        leaving = self in self.listener.leaving
        self.heard_at = time.monotonic()
        if leaving:
            self.deadline = self.heard_at + FLUSH_TIME
        if not self._unsent:
            self._unsent = b""
            self.listener.selector.modify(self._socket, selectors.EVENT_READ, self.ready)
            if leaving:
                self._half_close()

    def _half_close(self) -> None:
        if self._at_end:
            self.close()
            return
        self.deadline = time.monotonic() + DRAIN_TIME
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has reset the connection
            self.close()

    def _drain(self) -> None:
        data = self._socket.recv(RECEIVE_SIZE)
        self._drained += len(data)
        if not data or self._drained > DRAIN_BYTES:
            self.close()


class GuardedConnection(Connection):
    """A connection that is served only after a PROXY header, a TLS handshake, or both.

    TLS works on memory here (ssl.SSLObject), so that what Connection does with its socket stays the same: what recv
    brought goes in, text comes out; text goes in, what send takes comes out.
    """

    __slots__ = ("_header", "_host", "_incoming", "_is_greeted", "_outgoing", "_speaks_tls", "_tls")

    def __init__(self, listener: Listener, connected: socket.socket, address: Address) -> None:
        super().__init__(listener, connected, address)
        self.deadline = time.monotonic() + ENTER_TIME
        self._header: bytearray | None = bytearray() if listener.proxies else None
        self._host: str | None = plain_host(address[0])
        self._tls: ssl.SSLObject | None = None
        if listener.tls:
            import ssl

            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = listener.tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._speaks_tls = self._is_greeted = not listener.tls

    def end(self) -> None:
        """End the conversation; of one that has not begun, close the connection."""
        if self in self.listener.entering:
            self.close("it was not through the entrance")
            return
        if self._tls and self in self.listener.served:
            with contextlib.suppress(OSError):  # it waits for the client's close_notify, which _drain() takes
                self._tls.unwrap()
            super()._send(self._outgoing.read())
        super().end()

    def is_local(self) -> bool:
        """Tell whether the client is on this machine; behind a proxy that does not say who it is, it never is."""
        return self._host is not None and is_own_address(self._host)

    def _take(self, data: bytes) -> None:
        if self._header is not None:
            self._header += data
            try:
                if not self._take_header(self._header):
                    if not data:
                        self.close("it closed before its PROXY header was whole")
                    return
            except ValueError as error:
                self.close(f"no valid PROXY header: {error}")
                return
            data = bytes(self._header)
            self._header = None
            if self.closed:
                return
            if not self._tls:
                self.listener.admit(self)
            if not data:
                return
        if self._tls:
            self._take_encrypted(data, self._tls)
        else:
            super()._take(data)

    def _take_header(self, received: bytearray) -> bool:
        """Take a whole PROXY header from what was received; tell whether there was one. Raises ValueError."""
        parsed = parse_proxy_header(bytes(received[:MAX_PROXY_HEADER]))
        if parsed is None:
            return False
        length, address = parsed
        del received[:length]
        proxy = self._host or ""
        self._host = address[0] if address else None
        if address:
            self.rename(show_address(address))
            if ipaddress.ip_address(address[0]).is_loopback and not is_own_address(proxy):
                self._host = None  # that loopback is the proxy's, not this machine's
        if not self.listener.gate.admits(address[0] if address else proxy):
            self.close("it may not come in")
        return True

    def _take_encrypted(self, data: bytes, tls: ssl.SSLObject) -> None:
        import ssl

        if not self._speaks_tls and data[:1] not in (TLS_HANDSHAKE, b""):  # OpenSSL would wait for more of it
            self._tls = None
            self._send(TLS_ALERT)
            self._refuse("it does not speak TLS")
            return
        self._speaks_tls = True
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        text = []
        ended = False
        try:
            if not self._is_greeted:
                tls.do_handshake()
                self._is_greeted = True
                self.rename(self.name + subject(tls))
                self.listener.admit(self)
            while not ended:
                text.append(tls.read(RECEIVE_SIZE))
                ended = not text[-1]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if data:
                self._refuse(f"TLS failed: {tls_reason(error)}")
            else:
                self.close("the TLS stream was cut short" if self._is_greeted else "it broke off the TLS handshake")
            return
        if self._outgoing.pending:
            super()._send(self._outgoing.read())
        if any(text):
            super()._take(b"".join(text))
        if ended:
            super()._take(b"")

    def _refuse(self, why: str) -> None:
        """Send the alert that tells the client what is wrong, and end."""
        self.listener.service.show(self, f"Refused {self.name}: {why}")
        super()._send(self._outgoing.read())
        self._tls = None
        super().end()

    def _send(self, data: bytes) -> None:
        if self._tls and data:
            self._tls.write(data)
            data = self._outgoing.read()
        super()._send(data)


class Listener(Transport):
    """The listening socket, and the connections that came from it."""

    protocol = "TCP"

    def __init__(self, service: Service, selector: selectors.BaseSelector, options: argparse.Namespace) -> None:
        self.service = service
        self.selector = selector
        self.gate = service.gate
        self.proxies: Gate | None = Gate(options.proxy_from, service.record) if options.proxy_from else None
        self.tls = tls_context(options) if options.tls_cert else None
        self._idle_timeout: float = options.idle_timeout
        self._max_clients, self._max_leaving = reserve_files(options.max_clients)
        self.entering: set[Connection] = set()
        self.served: set[Connection] = set()
        self.leaving: set[Connection] = set()
        self._listens = True
        family, address = resolve(options.host, options.port, socket.SOCK_STREAM)[0]
        self._socket = open_listener(family, address, options.reuse_port)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)
        service.announce("TCP", self._socket.getsockname())

    def peers(self) -> Iterable[Connection]:
        """Return the connections that are served."""
        return self.served

    def admit(self, connection: Connection) -> None:
        """Serve a connection."""
        self.entering.discard(connection)
        self.served.add(connection)
        connection.deadline = 0.0
        connection.heard_at = time.monotonic()
        self.service.show(connection, f"Connected by {connection.name}")

    def part_with(self, connection: Connection) -> bool:
        """Serve a connection no longer, since its conversation has ended; tell whether that is news."""
        if connection.closed or connection in self.leaving:
            return False
        self.entering.discard(connection)
        self.served.discard(connection)
        self.leaving.add(connection)
        return True

    def forget(self, connection: Connection, why: str) -> None:
        """Note that a connection is closed."""
        for connections in (self.entering, self.served, self.leaving):
            connections.discard(connection)
        self.service.show(connection, f"Disconnected: {connection.name}" + (f" ({why})" if why else ""))
        self._listen(self._has_room())

    def tick(self, now: float) -> None:
        """Close what has run out of time."""
        for connection in [connection for connection in self.leaving if connection.deadline < now]:
            connection.close("it did not close in time")
        for connection in [connection for connection in self.entering if connection.deadline < now]:
            connection.close(f"no PROXY header or TLS handshake within {ENTER_TIME:g} s")
        if self._idle_timeout:
            for connection in [
                connection for connection in self.served if connection.idle_since() < now - self._idle_timeout
            ]:
                connection.close(f"nothing arrived for {self._idle_timeout:g} s")
        if self.proxies:
            self.proxies.tick(now)
        self._listen(self._has_room())

    def stop(self) -> None:
        """Accept no more; end every conversation."""
        self._listen(False)
        self._socket.close()
        for connection in [*self.served, *self.entering]:
            connection.end()

    def stopped(self) -> bool:
        """Tell whether every connection is closed."""
        return not self.served and not self.entering and not self.leaving

    def close(self) -> None:
        """Close whatever is open."""
        self._listen(False)
        self._socket.close()
        for connection in [*self.served, *self.entering, *self.leaving]:
            connection.close("it did not close in time")

    def _has_room(self) -> bool:
        """Tell whether there is a place for one more, if only to be told that the server is full."""
        connections = len(self.served) + len(self.entering) + len(self.leaving)
        return connections < self._max_clients + self._max_leaving

    def _listen(self, on: bool) -> None:
        if on and not self._listens and self._socket.fileno() >= 0:
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
            if (self.proxies or self.gate).admits(plain_host(address[0])):
                self._welcome(connected, address)
            else:
                connected.close()

    def _welcome(self, connected: socket.socket, address: Address) -> None:
        """Serve a new connection, have it pass the entrance first, or turn it away."""
        connected.setblocking(False)
        keep_alive(connected)
        if len(self.served) + len(self.entering) >= self._max_clients:
            connection = Connection(self, connected, address)
            self.service.show(connection, f"Turned away {connection.name}: {self._max_clients} clients are connected")
            if not self.tls:
                connection.send([FULL % self._max_clients])
            connection.end()
            self._listen(self._has_room())
        elif self.tls or self.proxies:
            self.entering.add(GuardedConnection(self, connected, address))
        else:
            self.admit(Connection(self, connected, address))


def parse_proxy_header(data: bytes) -> tuple[int, Address | None] | None:
    """Parse a PROXY protocol header, version 1 or 2, at the start of what a connection brought.

    Returns its length in bytes and the client's (host, port), which is None if the proxy speaks for itself (LOCAL or
    UNKNOWN); or None if more has to arrive. Raises ValueError for anything else.
    Source: "The PROXY protocol", sections 2.1 and 2.2, haproxy.org.
    """
    if data.startswith(PROXY_V2[: len(data)]):
        if len(data) < 16:
            return None
        return parse_proxy_v2(data)
    line, end, _ = data[:107].partition(b"\r\n")
    if not line.startswith(b"PROXY "[: None if end else len(line)]):
        raise ValueError("it begins otherwise")
    if not end:
        if len(data) >= 107:
            raise ValueError("longer than 107 bytes")
        return None
    length = len(line) + 2
    kind, *fields = line.decode("ascii", "replace").split(" ")[1:]
    if kind == "UNKNOWN":
        return length, None
    if kind not in ("TCP4", "TCP6") or len(fields) != 4:
        raise ValueError(f"not understood: {visible(line)}")
    hosts = [ipaddress.ip_address(field) for field in fields[:2]]
    if any(host.version != int(kind[-1]) for host in hosts):
        raise ValueError(f"not {kind}: {visible(line)}")
    for port in fields[2:]:
        if not (port.isdecimal() and port.isascii() and str(int(port)) == port and int(port) <= 65535):
            raise ValueError(f"{visible(port)} is no port")
    return length, (client_host(hosts[0]), int(fields[2]))


def parse_proxy_v2(data: bytes) -> tuple[int, Address | None] | None:
    """Parse a version 2 header, of which the first 16 bytes are there; see parse_proxy_header()."""
    command, family, length = data[12], data[13], 16 + int.from_bytes(data[14:16], "big")
    if command not in (PROXY_V2_LOCAL, PROXY_V2_PROXY):
        raise ValueError(f"unknown version and command {command:#x}")
    if length > MAX_PROXY_HEADER:
        raise ValueError(f"longer than {MAX_PROXY_HEADER} bytes")
    if len(data) < length:
        return None
    size = {PROXY_V2_TCP4: 4, PROXY_V2_TCP6: 16}.get(family)
    if command == PROXY_V2_LOCAL or family == PROXY_V2_UNKNOWN:
        return length, None
    if size is None or length < 16 + 2 * size + 4:
        raise ValueError(f"no addresses of TCP in it (family {family:#x}, {length} bytes)")
    port = int.from_bytes(data[16 + 2 * size : 18 + 2 * size], "big")
    return length, (client_host(ipaddress.ip_address(data[16 : 16 + size])), port)


def client_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the address of a proxy's client as text, a mapped IPv4 address as plain IPv4. Raises ValueError."""
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a scope means nothing on another machine")
    return str(getattr(address, "ipv4_mapped", None) or address)


def tls_context(options: argparse.Namespace) -> ssl.SSLContext:
    """Return what TLS needs to know: our certificate, and the CA of the clients' if they need one. Raises Failure."""
    import ssl

    def refuse_passphrase() -> str:
        raise Failure(f"the key in {options.tls_key} needs a passphrase; save it without (openssl pkey)")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # Python 3.9 takes a cut stream for a whole one
    context.num_tickets = 0  # nobody comes back with one
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key, refuse_passphrase)
    except (OSError, ValueError) as error:
        files = f"{options.tls_cert} and {options.tls_key}"
        raise Failure(f"cannot use {files}: {tls_reason(error)}; give a certificate and its key, both PEM") from error
    if options.tls_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(options.tls_ca)
        except OSError as error:
            raise Failure(f"cannot use {options.tls_ca}: {tls_reason(error)}; give CA certificates, PEM") from error
    return context


def tls_reason(error: Exception) -> str:
    """Return what OpenSSL found wrong, in words."""
    text = getattr(error, "verify_message", None) or getattr(error, "reason", None) or reason(error)
    return str(text).replace("_", " ").lower()


def subject(tls: ssl.SSLObject) -> str:
    """Return the subject of the client's certificate, as it follows its address; "" if it has none."""
    try:
        certificate = tls.getpeercert() or {}
    except ValueError:  # the ssl module wants UTF-8 in it
        return " (its certificate cannot be shown)"
    names: Any = certificate.get("subject", ())
    text = ", ".join(f"{kind}={value}" for name in names for kind, value in name)
    return f" ({visible(text)})" if text else ""


def open_listener(family: socket.AddressFamily, address: Address, reuse_port: bool) -> socket.socket:
    """Return a socket that listens on an address; `::` takes IPv4 connections, too. Raises Failure."""
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setblocking(False)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share a busy port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # start again while connections of the last run are in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            share_port(listener)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener:
            listener.close()
        raise listen_failure(address, error) from error
    return listener


def keep_alive(connected: socket.socket) -> None:
    """Have the kernel find out within two minutes that a silent client's machine is gone, and send replies at once."""
    with contextlib.suppress(OSError):  # macOS refuses options for a connection that was reset meanwhile
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
        "PORT",
        "Serve many TCP clients: show each line that they send, and confirm it.",
        "9000",
        "9000 --reply relay --udp-port 9001",
        "9000 --host 0.0.0.0 --allow 192.168.0.0/16",
    )
    add_arguments(parser, most=1 << 30, longest=65536)
    add = parser.add_argument_group("TCP").add_argument
    add("--udp-port", metavar="PORT", type=whole_number(0, 65535), help="serve UDP on this port, too")
    add(
        "--max-clients",
        metavar="N",
        type=whole_number(1),
        default=MAX_CLIENTS,
        help=f"connections at once ({MAX_CLIENTS})",
    )
    add("--idle-timeout", metavar="SECONDS", type=seconds, default=0.0, help="disconnect who says nothing for so long")
    add("--proxy-from", metavar="NETWORK", type=network, action="append", help="take clients from proxies in it alone")
    add = parser.add_argument_group("TLS").add_argument
    add("--tls-cert", metavar="FILE", help="speak TLS with this certificate,")
    add("--tls-key", metavar="FILE", help="and this key")
    add("--tls-ca", metavar="FILE", help="demand a client certificate that this CA signed")
    options = parser.parse_args()
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    if options.tls_ca and not options.tls_cert:
        parser.error("--tls-ca needs --tls-cert and --tls-key, too")
    if options.tls_cert and options.udp_port is not None:
        parser.error("--udp-port does not go with TLS: UDP would carry in clear what TCP protects")

    def open_transports(service: Service, selector: selectors.BaseSelector) -> Iterator[Transport]:
        yield Listener(service, selector, options)
        if options.udp_port is not None:
            from udp_server import Endpoint

            yield Endpoint(service, selector, options, options.udp_port)

    return serve(options, open_transports)


if __name__ == "__main__":
    run(main)
