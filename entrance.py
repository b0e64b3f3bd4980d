"""Servers: what a connection passes before it is served: a PROXY header, a TLS handshake, or both."""

from __future__ import annotations

import ipaddress

from lines import RECEIVE_SIZE, Lines
from loop import WRITE
from places import Guest
from serving import is_own_address
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    import socket

    from tcp_server import Listener
    from text import Address
    from tls import TlsLines


class Entrance(Guest):
    """A connection on its way in. The function that the loop calls is its phase: read_header, handshake, or flush.

    Once it is through, the listener makes a connection of it.
    """

    __slots__ = ("_header", "_listener", "_tls", "unsent")
    WITHIN = 10.0
    """Seconds within which a PROXY header has to arrive and a TLS handshake has to be done."""

    def __init__(self, listener: Listener, connected: socket.socket, name: str, host: str) -> None:
        super().__init__(listener, connected, name, host)
        self._listener = listener
        self._tls: TlsLines | None = None
        self._header = b""
        self.unsent = b""
        self.deadline = self.loop.now + self.WITHIN
        if listener.tls:
            from tls import TlsLines

            self._tls = TlsLines(listener.tls)
        self.move(listener.entering, self.read_header if listener.proxies else self.handshake)

    def read_header(self) -> None:
        """Take the PROXY header, which says whom the proxy speaks for."""
        from proxy_header import MAX_PROXY_HEADER, parse_proxy_header

        data = self.socket.recv(RECEIVE_SIZE)
        self._header += data
        try:
            parsed = parse_proxy_header(self._header[:MAX_PROXY_HEADER])
        except ValueError as error:
            self.close(f"no valid PROXY header: {error}")
            return
        if parsed:
            length, address = parsed
            if self._is_admitted(address):
                self.loop.watch(self.socket.fileno(), self.handshake)
                self._greet(self._header[length:])
            else:
                self.close("it may not come in")
        elif not data:
            self.close("it closed before its PROXY header was whole")

    def handshake(self) -> None:
        """Take the next part of the TLS handshake."""
        data = self.socket.recv(RECEIVE_SIZE)
        if data:
            self._greet(data)
        else:
            self.close("it broke off the TLS handshake")

    def flush(self) -> None:
        """Send what did not fit; then go on with the handshake."""
        self.unsent = self.unsent[self.socket.send(self.unsent) :]
        if not self.unsent:
            self.loop.watch(self.socket.fileno(), self.handshake)

    def _is_admitted(self, address: Address | None) -> bool:
        """Take the address that a proxy tells of its client; tell whether that may come in."""
        proxy, gate = self.host or "", self._listener.service.gate
        self.host = address[0] if address else None
        if address:
            self.rename(show_address(address), self._listener.record)
            if ipaddress.ip_address(address[0]).is_loopback and not is_own_address(proxy):
                self.host = None  # that loopback is the proxy's, not this machine's
        return gate.check(address[0] if address else proxy)

    def _greet(self, data: bytes) -> None:
        """Take what came after the PROXY header; let the connection in once the handshake, if any, is done."""
        if self._tls is None:
            self._listener.admit(self, Lines(), data)
        elif data:
            self._take_handshake(data, self._tls)

    def _take_handshake(self, data: bytes, tls: TlsLines) -> None:
        import ssl

        from tls import NotTls, in_words

        try:
            is_done = tls.greet(data)
        except ssl.SSLError as error:
            why = "it does not speak TLS" if isinstance(error, NotTls) else f"TLS failed: {in_words(error)}"
            self._listener.service.show(self, "Refused", f": {why}", trouble=True)
            self._listener.turn_away(self.socket, self.name, tls.outgoing())
            self._listener.move(self, None)
            return
        self._send(tls.outgoing())
        if is_done:
            subject = tls.subject()
            self.rename(self.name + (f" ({subject})" if subject else ""), self._listener.record)
            self._listener.admit(self, tls)

    def _send(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent += data[sent:]
        if self.unsent:
            self.loop.watch(self.socket.fileno(), self.flush, WRITE)
