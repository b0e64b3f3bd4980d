"""Servers: what a connection passes before it is served: a PROXY header, a TLS handshake, or both."""

from __future__ import annotations

import ipaddress

from common import TOO_MANY
from leaving import Leaving
from listening import is_own_address
from places import FEW
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from text import Address


class Entrance(Leaving):
    """The first phases of a connection, read_header and handshake; `begin(data)` follows, with what came after them."""

    __slots__ = ("_header",)
    HANDSHAKE_COST = 32768
    """Bytes that a step of a TLS handshake counts for in a pass: it may take half a millisecond."""
    WITHIN = 10.0
    """Seconds within which a PROXY header has to arrive and a TLS handshake has to be done."""
    if TYPE_CHECKING:
        begin: Callable[[bytes], None]
        turn_away: Callable[[bytes], None]

    def come_in(self) -> None:
        """Wait for what has to come first."""
        self._header = b""
        self.deadline = self.loop.now + self.WITHIN
        self.move(self.places.entering, self.read_header if self.places.proxies else self.handshake)
        self.take_turns(True, is_door=True)

    def read_header(self) -> None:
        """Take the PROXY header, which says whom the proxy speaks for."""
        from proxy_header import MAX_PROXY_HEADER, parse_proxy_header

        data = self.receive(FEW)
        self._header += data
        try:
            parsed = parse_proxy_header(self._header[:MAX_PROXY_HEADER])
        except ValueError as error:
            self.close(f"no valid PROXY header: {error}")
            return
        if parsed:
            length, address = parsed
            if not self._admit(address):
                self.close("it may not come in")
            elif not address or self.enter_crowd(address[0]):
                self._go_on(self._header[length:])
        elif not data:
            self.close("it closed before its PROXY header was whole")

    def handshake(self) -> None:
        """Take the next part of the TLS handshake."""
        data = self.receive(FEW)
        self.places.service.received_bytes += self.HANDSHAKE_COST
        if data:
            self._greet(data)
        else:
            self.close("it broke off the TLS handshake")

    def enter_crowd(self, host: str) -> bool:
        """Be counted for a host; tell whether that was possible, or turn this connection away."""
        crowd = self.places.crowd
        if crowd is None or crowd.enter(self, host):
            return True
        event = f"[{self.protocol} Server] Turned away {self.name}: {crowd.most} from its address are connected"
        self.places.record.repeatable("Turned away", host, event)
        self.turn_away(TOO_MANY % host.encode())
        return False

    def _go_on(self, data: bytes) -> None:
        if self.lines.is_secure:
            self.loop.watch(self.socket.fileno(), self.handshake)
            self._greet(data)
        else:
            self.begin(data)

    def _admit(self, address: Address | None) -> bool:
        """Take the address that a proxy tells of its client; tell whether that may come in."""
        proxy, gate = self.host or "", self.places.service.gate
        self.host = address[0] if address else None
        if address:
            self.rename(show_address(address))
            if ipaddress.ip_address(address[0]).is_loopback and not is_own_address(proxy):
                self.host = None  # that loopback is the proxy's, not this machine's
        return gate.check(address[0] if address else proxy)

    def _greet(self, data: bytes) -> None:
        import ssl

        from tls import NotTls, in_words

        try:
            is_done = bool(data) and self.lines.greet(data)
        except ssl.SSLError as error:
            why = "it does not speak TLS" if isinstance(error, NotTls) else f"TLS failed: {in_words(error)}"
            self.places.service.show(self, "Refused", f": {why}", trouble=True)
            self.send_bytes(self.lines.outgoing())
            self.end()
            return
        self.send_bytes(self.lines.outgoing())
        if is_done:
            self.rename(self.where, self.lines.subject())
            self.begin(b"")
