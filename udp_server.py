#!/usr/bin/env python3
"""UDP server: a datagram a message, from anybody, on one socket.

The socket calls, in order: socket, bind; then recvfrom (or recvmsg) and sendto (or sendmsg); at the end close. There
are no connections: a peer is an address that was heard from, and what is lost on the way is lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import re
import selectors
import socket
import sys
import time

from common import (
    MAX_DATAGRAM,
    OWN_REPLIES,
    TYPE_CHECKING,
    Address,
    Parser,
    ending,
    plain_host,
    reason,
    resolve,
    run,
    show_address,
    visible,
)
from common_server import (
    PASS_BYTES,
    Peer,
    Service,
    Transport,
    add_arguments,
    is_own_address,
    listen_failure,
    serve,
    share_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DATAGRAMS_AT_ONCE = 256
"""Datagrams read in one pass, so that other sockets get their turn."""
RECEIVE_BUFFER = 4 << 20
"""Bytes of kernel buffer asked for, so that a burst is not lost while a pass is under way."""
PEER_TIME = 60.0
"""Seconds for which a peer hears what others say after its own last datagram."""
MAX_PEERS = 10000
MAX_TOLD = 10000
"""Datagrams that what others say in one pass may become; what is more is dropped, as UDP may."""
MAX_UNSENT = 1000
UNSENT_TIME = 1.0
"""Datagrams kept until the kernel has room for them, and for how many seconds; what is more is dropped. One neighbour
that does not answer can fill the kernel's room for all (arp(7))."""
DATAGRAM_SIZE = 65536
"""Bytes that no datagram exceeds, over IPv6 either, so that none is cut."""
PRIVILEGED_PORTS = 1024
"""Services such as echo (port 7) answer from ports below, and could be made to answer for ever (CVE-2024-2169)."""
MAX_REPEATS = 1000
"""Equal datagrams from one peer within a second that are echoed before one is dropped, which ends a circle."""
RELAYED_TWICE = rb"((\d+\.\d+\.\d+\.\d+|\[[\w:.%]+\]):\d+: ){2}"
"""How a line begins that two servers have relayed: with the address of one server and that of the first speaker."""
IP_PKTINFO: int | None = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)  # since Python 3.10

ANCILLARY_SIZE = 64


class UdpPeer(Peer):
    """An address that datagrams come from, and the address of this machine that they were sent to."""

    __slots__ = ("_endpoint", "address", "key", "source", "heard_at", "tail", "why_ignored")
    protocol = "UDP"

    def __init__(self, endpoint: Endpoint, address: Address, key: Address) -> None:
        super().__init__(show_address(address))
        self._endpoint = endpoint
        self.address = address
        self.key = key
        self.source: list[tuple[int, int, bytes]] = []
        self.heard_at = 0.0
        self.tail = b""
        self.why_ignored = ""

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, a datagram each, with `start` before it."""
        for reply in replies:
            self._endpoint.send(self, (start + reply)[:MAX_DATAGRAM])

    def tell(self, lines: list[bytes]) -> None:
        """Send lines of others, a datagram each, ended as the peer ended its own last message."""
        line_end = ending(self.tail) if self.tail.endswith(b"\n") else b""
        self.send(self._endpoint.what_fits([line + line_end for line in lines]))

    def end(self) -> None:
        """Forget the peer."""
        self._endpoint.forget(self)

    def is_local(self) -> bool:
        """Tell whether the peer is on this machine."""
        return is_own_address(plain_host(self.address[0]))


class Endpoint(Transport):
    """The one socket, and the peers that were heard from."""

    protocol = "UDP"

    def __init__(
        self, service: Service, selector: selectors.BaseSelector, options: argparse.Namespace, port: int
    ) -> None:
        self._service = service
        self._selector = selector
        self._may_circle = service.reply in ("echo", "relay")
        self._peers: dict[Address, UdpPeer] = {}
        self._unsent: collections.deque[tuple[float, UdpPeer, bytes]] = collections.deque()
        self._dropped = 0
        self._repeats: collections.Counter[int] = collections.Counter()
        family, address = resolve(options.host, port, socket.SOCK_DGRAM)[0]
        self._socket = open_endpoint(family, address, options.reuse_port)
        self._address: Address = self._socket.getsockname()
        self._is_wildcard = self._address[0] in ("0.0.0.0", "::")
        self._tells_destination = self._is_wildcard and tell_destination(self._socket, family)
        selector.register(self._socket, selectors.EVENT_READ, self._ready)
        service.announce("UDP", self._address)

    def peers(self) -> Iterable[UdpPeer]:
        """Return who was heard from lately."""
        since = time.monotonic() - PEER_TIME
        return [peer for peer in self._peers.values() if peer.heard_at >= since]

    def forget(self, peer: UdpPeer) -> None:
        """Tell a peer nothing more until it is heard from again."""
        if self._peers.pop(peer.key, None):
            self._service.show(peer, f"Forgot {peer.name}")

    def what_fits(self, datagrams: list[bytes]) -> list[bytes]:
        """Return what each peer may be told in a pass, without what is too long to be sent; count the rest."""
        most = max(MAX_TOLD // max(len(self._peers), 1), 1)
        fitting = [datagram for datagram in datagrams if len(datagram) <= MAX_DATAGRAM][:most]
        self._dropped += len(datagrams) - len(fitting)
        return fitting

    def send(self, peer: UdpPeer, datagram: bytes, kept_at: float = 0.0) -> None:
        """Send a datagram from the address that the peer sent to; keep it if the kernel has no room just now."""
        try:
            if self._unsent:
                self._keep(peer, datagram, kept_at)
            elif peer.source:
                self._socket.sendmsg([datagram], peer.source, 0, peer.address)
            else:
                self._socket.sendto(datagram, peer.address)
        except BlockingIOError:
            self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self._ready)
            self._keep(peer, datagram, kept_at)
        except OSError as error:
            if not self._send_from_anywhere(peer, datagram):
                self._service.show(peer, f"Cannot send to {peer.name}: {reason(error)}")

    def _send_from_anywhere(self, peer: UdpPeer, datagram: bytes) -> bool:
        """Send to a peer that wrote to a group or to all, from where no reply can come; tell whether that went well."""
        if not peer.source:
            return False
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, peer.address)
            peer.source = []
        return not peer.source

    def tick(self, now: float) -> None:
        """Forget who was not heard from lately, count repeated datagrams anew, and show how many were dropped."""
        self._repeats.clear()
        if self._dropped:
            self._service.record.line(
                f"[UDP Server] {self._dropped} datagrams were not sent: there was no room for them"
            )
            self._dropped = 0
        for peer in [peer for peer in self._peers.values() if peer.heard_at < now - PEER_TIME]:
            del self._peers[peer.key]

    def stop(self) -> None:
        """Do nothing: whoever still sends is told by the service."""

    def stopped(self) -> bool:
        """Tell whether everything is sent."""
        return not self._unsent

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        self._read()

    def _keep(self, peer: UdpPeer, datagram: bytes, kept_at: float) -> None:
        if len(self._unsent) < MAX_UNSENT:
            self._unsent.append((kept_at or time.monotonic(), peer, datagram))
        else:
            self._dropped += 1

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, collections.deque()
        self._selector.modify(self._socket, selectors.EVENT_READ, self._ready)
        oldest = time.monotonic() - UNSENT_TIME
        for kept_at, peer, datagram in unsent:
            if kept_at >= oldest:
                self.send(peer, datagram, kept_at)
            else:
                self._dropped += 1

    def _read(self) -> None:
        receive = self._receive_with_destination if self._tells_destination else self._receive
        peers, now = self._peers, time.monotonic()
        for _ in range(DATAGRAMS_AT_ONCE):
            if self._service.received_bytes > PASS_BYTES:
                return
            try:
                data, key = receive()
            except BlockingIOError:
                return
            except OSError:  # Windows tells here that nobody took an earlier reply
                continue
            peer = peers.get(key) or self._meet(key)
            if peer is None:
                continue
            peer.heard_at = now
            peer.tail = data[-2:]
            why = peer.why_ignored
            if data.startswith(OWN_REPLIES):
                why = "a server's reply"
            elif self._may_circle:
                why = why or self._why_in_a_circle(peer, data)
            if why:
                peers.pop(key, None)
                self._service.show(peer, f"Ignored from {peer.name}, {why}: {visible(data)}")
            else:
                self._service.receive(peer, [data])

    def _receive(self) -> tuple[bytes, Address]:
        return self._socket.recvfrom(DATAGRAM_SIZE)

    def _receive_with_destination(self) -> tuple[bytes, Address]:
        data, ancillary, _, address = self._socket.recvmsg(DATAGRAM_SIZE, ANCILLARY_SIZE)
        return data, (address, *ancillary)

    def _meet(self, key: Address) -> UdpPeer | None:
        address, *ancillary = key if self._tells_destination else (key,)
        if not self._service.gate.admits(plain_host(address[0])):
            return None
        if len(self._peers) >= MAX_PEERS:
            del self._peers[next(iter(self._peers))]  # whoever has been known longest
        peer = self._peers[key] = UdpPeer(self, address, key)
        peer.source = [without_interface(*item) for item in ancillary if not is_for_a_group(*item)]
        host, port = address[:2]
        if port < PRIVILEGED_PORTS:
            peer.why_ignored = "a port that services answer from"
        elif port == self._address[1] and (host == self._address[0] or (self._is_wildcard and peer.is_local())):
            peer.why_ignored = "this server's own address"
        return peer

    def _why_in_a_circle(self, peer: UdpPeer, data: bytes) -> str:
        """Return why a datagram seems to go in a circle between servers that each return what comes; "" if it does not.

        Two servers that only confirm never do: neither answers what begins as a server's reply.
        """
        if self._service.reply == "relay" and re.match(RELAYED_TWICE, data):
            return "two servers have relayed it"
        if self._service.reply == "echo":
            which = hash((peer.key, data))  # short, where a datagram may be long
            self._repeats[which] += 1
            if self._repeats[which] > MAX_REPEATS:
                del self._repeats[which]
                return f"the same more than {MAX_REPEATS} times within a second"
        return ""


def open_endpoint(family: socket.AddressFamily, address: Address, reuse_port: bool) -> socket.socket:
    """Return a socket bound to an address; `::` takes IPv4, too. Raises Failure."""
    endpoint = None
    try:
        endpoint = socket.socket(family, socket.SOCK_DGRAM)
        endpoint.setblocking(False)
        if reuse_port:
            share_port(endpoint)
        if family == socket.AF_INET6:
            endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        with contextlib.suppress(OSError):  # macOS refuses what is over its limit, Linux gives what it allows
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        endpoint.bind(address)
    except OSError as error:
        if endpoint:
            endpoint.close()
        raise listen_failure(address, error) from error
    return endpoint


def tell_destination(endpoint: socket.socket, family: socket.AddressFamily) -> bool:
    """Have recvmsg tell which own address a datagram was sent to (ip(7), ipv6(7)), if the system can."""
    try:
        if family == socket.AF_INET6:
            endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif IP_PKTINFO is not None:
            endpoint.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            return False
    except (AttributeError, OSError):
        return False
    return hasattr(endpoint, "recvmsg")


def is_for_a_group(level: int, _: int, packet_info: bytes) -> bool:
    """Tell whether a datagram was sent to an IPv6 multicast address, which no reply can come from (RFC 4291, 2.7)."""
    return level == socket.IPPROTO_IPV6 and packet_info[:1] == b"\xff"


def without_interface(level: int, kind: int, packet_info: bytes) -> tuple[int, int, bytes]:
    """Turn what recvmsg told of a datagram's destination into the source for sendmsg, leaving the route to the kernel.

    IPv4: struct in_pktinfo, interface, local address, destination. IPv6: struct in6_pktinfo, address, interface.
    """
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + packet_info[4:8] + bytes(4)
    return level, kind, packet_info[:16] + bytes(4)


def main() -> int:
    """Run the server."""
    parser = Parser(
        "PORT",
        "Serve UDP peers: show each datagram that they send, and confirm it.",
        "9001",
        "9001 --reply echo --quiet",
        "9001 --host 0.0.0.0 --allow 192.168.0.0/16",
    )
    add_arguments(parser, most=MAX_DATAGRAM, longest=MAX_DATAGRAM)
    options = parser.parse_args()

    def open_transports(service: Service, selector: selectors.BaseSelector) -> Iterator[Transport]:
        yield Endpoint(service, selector, options, options.port)

    return serve(options, open_transports)


if __name__ == "__main__":
    run(main)
