#!/usr/bin/env python3
"""UDP server: a datagram a message, from anybody, on one socket.

The socket calls, in order: socket, bind; then recvfrom (or recvmsg) and sendto (or sendmsg); at the end close. There
are no connections: a peer is an address that was heard from, and what is lost on the way is lost.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
from operator import attrgetter

from common import MAX_DATAGRAM, OWN_REPLIES, SHUTTING_DOWN, Parser, reason, run
from packet_info import ANCILLARY_SIZE, PacketInfo, ask_for_packet_info
from service import MESSAGE_COST, Peer, Transport
from serving import Server, add_arguments, find_own, is_forged, is_own_address, listen_failure, prepare, serve
from sockets import widen_buffer
from text import TYPE_CHECKING, ending, plain_host, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from text import Address

DATAGRAMS_AT_ONCE = 256
"""Datagrams read in one pass, so that other sockets get their turn."""
DATAGRAM_SIZE = 65536
"""Bytes that no datagram exceeds, over IPv6 either, so that none is cut."""
PEER_TIME = 60.0
"""Seconds for which a peer hears what others say after its own last datagram."""
MAX_PEERS, MAX_FORGOTTEN = 10000, 1000
"""Peers that are known, and how many of them, those who were silent longest, make room when there are more."""
MAX_TOLD = 10000
"""Datagrams that what others say in one pass may become; what is more is dropped, as UDP may."""
PRIVILEGED_PORTS = 1024
"""Services such as echo (port 7) answer from ports below, and could be made to answer for ever (CVE-2024-2169)."""
MAX_REPEATS = 1000
"""Datagrams of one peer that repeat others of the same second and are echoed before one is dropped: so circles end."""
RELAYED_TWICE = rb"((\d+\.\d+\.\d+\.\d+|\[[\w:.%]+\]):\d+: ){2}"
"""How a line begins that two servers have relayed: with the address of one server and that of the first speaker."""


def open_endpoint(options: argparse.Namespace, port: int) -> socket.socket:
    """Return a socket that takes datagrams where the options say. Raises Failure."""
    family, address = find_own(options.host, port, socket.SOCK_DGRAM)
    try:
        endpoint = socket.socket(family, socket.SOCK_DGRAM)
        prepare(endpoint, address, options.reuse_port)
        widen_buffer(endpoint)
        endpoint.bind(address)
    except OSError as error:
        raise listen_failure(address, error) from error
    return endpoint


class Endpoint(Transport):
    """The one socket, and the peers that were heard from. What the loop calls is its phase: read, or turn_away."""

    protocol = "UDP"

    def __init__(self, server: Server, options: argparse.Namespace, port: int) -> None:
        self.service, self.loop, self.record = server.service, server.loop, server.record
        self._peers: dict[Address, UdpPeer] = {}
        self._echoed: set[int] = set()
        self._may_circle = self.service.reply in ("echo", "relay")
        self._unsent = 0
        self._socket = open_endpoint(options, port)
        self._address: Address = self._socket.getsockname()
        self._is_wildcard = self._address[0] in ("0.0.0.0", "::")
        self.hears_itself_only = ipaddress.ip_address(self._address[0].partition("%")[0]).is_loopback
        self._has_packet_info = not self.hears_itself_only and ask_for_packet_info(self._socket)
        self._receive = self._receive_with_packet_info if self._has_packet_info else self._socket.recvfrom
        self.loop.watch(self._socket.fileno(), self.read)
        server.announce("UDP", self._address)

    def read(self) -> None:
        """Hand the datagrams that came to the service."""
        self._take(self.service.receive)

    def turn_away(self) -> None:
        """Tell whoever still sends a datagram that the server stops."""
        self._take(lambda peer, messages: peer.send([SHUTTING_DOWN + ending(messages[0])]))

    def _take(self, deliver: Callable[[UdpPeer, list[bytes]], None]) -> None:
        """Receive what is there, as much as a pass may bring, and deliver it, but for what may go in a circle."""
        receive, peers, service, now = self._receive, self._peers, self.service, self.loop.now
        for _ in range(DATAGRAMS_AT_ONCE):
            if service.received_bytes > service.pass_bytes:
                break
            try:
                data, key = receive(DATAGRAM_SIZE)
            except BlockingIOError:
                return
            except OSError:  # Windows tells here that nobody took an earlier reply
                continue
            peer = peers.get(key) or self._meet(key)
            if peer is None:
                service.received_bytes += len(data) + MESSAGE_COST
                continue
            peer.heard_at = now
            peer.tail = data[-2:]
            if self._may_circle or peer.suspicion or data.startswith(OWN_REPLIES):
                why = self._why_ignored(peer, data)
                if why:
                    self._ignore(peer, why, data)
                    continue
            deliver(peer, [data])
        self.loop.pourers.add(self._socket.fileno())

    def _receive_with_packet_info(self, size: int) -> tuple[bytes, Address]:
        """Return a datagram, and the address that it came from with what else is told. Raises OSError."""
        data, ancillary, _, address = self._socket.recvmsg(size, ANCILLARY_SIZE)
        return data, (address, *ancillary)

    def send(self, peer: UdpPeer, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, a datagram each, with `start` before it; what the kernel has no room for is dropped."""
        for reply in replies:
            datagram = (start + reply)[:MAX_DATAGRAM]
            try:
                if peer.source:
                    self._send_from(peer, datagram)
                else:
                    self._socket.sendto(datagram, peer.address)
            except BlockingIOError:
                self._unsent += 1
            except OSError as error:
                event = f"[UDP Server] Cannot send to {peer.name}: {reason(error)}"
                self.record.repeatable("Could not send", peer.name, event)

    def _send_from(self, peer: UdpPeer, datagram: bytes) -> None:
        """Send a datagram from the address that the peer sent to. Raises OSError."""
        try:
            self._socket.sendmsg([datagram], peer.source, 0, peer.address)
        except BlockingIOError:
            raise
        except OSError:  # it was the address of a group, or of all in a network, where no reply can come from
            self._socket.sendto(datagram, peer.address)
            peer.source = []

    def stop(self) -> None:
        """Take no more messages."""
        self.loop.watch(self._socket.fileno(), self.turn_away)

    def is_stopped(self) -> bool:
        """Tell whether all conversations have ended: a datagram is sent at once, or never."""
        return True

    def close(self) -> None:
        """Close the socket."""
        self.loop.forget(self._socket.fileno())
        self._socket.close()

    def peers(self) -> Iterable[UdpPeer]:
        """Return who was heard from lately."""
        since = self.loop.now - PEER_TIME
        return [peer for peer in self._peers.values() if peer.heard_at >= since]

    def what_fits(self, datagrams: list[bytes]) -> list[bytes]:
        """Return what each peer may be told in a pass, without what is too long to be sent; count the rest."""
        most = max(MAX_TOLD // max(len(self._peers), 1), 1)
        fitting = [datagram for datagram in datagrams if len(datagram) <= MAX_DATAGRAM][:most]
        self._unsent += len(datagrams) - len(fitting)
        return fitting

    def forget(self, peer: UdpPeer, why: str = "") -> None:
        """Tell a peer nothing more until it is heard from again."""
        if self._peers.pop(peer.key, None):
            self.service.show(peer, "Forgot", f" ({why})" if why else "")

    def tick(self, now: float) -> None:
        """Forget who was not heard from lately, count repeated datagrams anew, and show how many were dropped."""
        for peer in list(self._peers.values()):
            peer.repeats = 0
            if peer.heard_at < now - PEER_TIME:
                del self._peers[peer.key]
        self._echoed.clear()
        if self._unsent:
            self.record.line(f"[UDP Server] {self._unsent} datagrams were not sent: there was no room for them")
            self._unsent = 0

    def _meet(self, key: Address) -> UdpPeer | None:
        """Return a new peer, or None if it may not come in."""
        address, infos = (key[0], [PacketInfo(*told) for told in key[1:]]) if self._has_packet_info else (key, [])
        if any(is_forged(address[0], info.own_host()) for info in infos):
            self.record.repeatable(
                "Refused", address[0], f"[UDP Server] Refused {address[0]}: an IPv4 address over IPv6"
            )
            return None
        if not self.service.gate.check(plain_host(address[0])):
            return None
        if len(self._peers) >= MAX_PEERS:
            for silent in sorted(self._peers.values(), key=attrgetter("heard_at"))[:MAX_FORGOTTEN]:
                del self._peers[silent.key]
        source = [info.source() for info in infos] if self._is_wildcard else []
        peer = self._peers[key] = UdpPeer(self, address, key, source)
        peer.infos = infos
        host, port = plain_host(address[0]), address[1]
        if port < PRIVILEGED_PORTS:
            peer.suspicion = "a port that services answer from"
        elif port == self._address[1] and (
            host == self._address[0] or (self._is_wildcard and is_own_address(plain_host(host)))
        ):
            peer.suspicion = "this server's own address"
        return peer

    def _why_ignored(self, peer: UdpPeer, data: bytes) -> str:
        """Return why a datagram may go in a circle between servers that each return what comes; "" if it does not."""
        if data.startswith(OWN_REPLIES):
            return "a server's reply"  # so two servers that only confirm never talk in circles
        if self.service.reply == "relay" and re.match(RELAYED_TWICE, data):
            return "two servers have relayed it"
        if self.service.reply == "echo":
            which = hash((peer.key, data))  # short, where a datagram may be long
            peer.repeats += which in self._echoed
            self._echoed.add(which)
            if peer.repeats > MAX_REPEATS:
                peer.repeats = 0
                return f"it has repeated itself more than {MAX_REPEATS} times within a second"
        return peer.suspicion

    def _ignore(self, peer: UdpPeer, why: str, data: bytes) -> None:
        """Show what is not answered, and tell its sender nothing more."""
        self._peers.pop(peer.key, None)
        self.service.received_bytes += len(data) + MESSAGE_COST
        self.record.repeatable("Ignored", peer.name, "[UDP Server] Ignored from ", f"{peer.name}, {why}: ", data)


class UdpPeer(Peer):
    """An address that datagrams come from, and the address of this machine that they were sent to.

    `key` is both, as far as they are known, and `source` is the latter, as sendmsg takes it. `heard_at` is when the
    last datagram came, in seconds of time.monotonic(), and `tail` its end. `suspicion` is why it gets no answer.
    `infos` is what the system told of the first datagram. `repeats` counts datagrams of this second that came before.
    """

    __slots__ = ("_endpoint", "address", "heard_at", "infos", "key", "repeats", "source", "suspicion", "tail")
    protocol = "UDP"

    def __init__(self, endpoint: Endpoint, address: Address, key: Address, source: list[Any]) -> None:
        self._endpoint, self.address, self.key, self.source = endpoint, address, key, source
        self.heard_at, self.tail, self.suspicion, self.repeats = 0.0, b"", "", 0
        self.infos: list[PacketInfo] = []
        self.rename(show_address(address), endpoint.record)

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, a datagram each, with `start` before it."""
        self._endpoint.send(self, replies, start)

    def tell(self, lines: list[bytes]) -> None:
        """Send lines of others, a datagram each, ended as the peer ended its own last message."""
        line_end = ending(self.tail) if self.tail.endswith(b"\n") else b""
        self.send(self._endpoint.what_fits([line + line_end for line in lines]))

    def end(self) -> None:
        """Forget the peer."""
        self._endpoint.forget(self)

    def close(self, why: str) -> None:
        """Forget the peer, and show why."""
        self._endpoint.forget(self, why)

    def is_local(self) -> bool:
        """Tell whether the peer is on this machine."""
        return self._endpoint.hears_itself_only or any(info.is_from_here(self.address[0]) for info in self.infos)


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

    def open_transports(server: Server) -> Iterator[Transport]:
        yield Endpoint(server, options, options.port)

    return serve(options, open_transports)


if __name__ == "__main__":
    run(main)
