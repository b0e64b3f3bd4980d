#!/usr/bin/env python3
"""UDP server: a datagram a message, from anybody, on one socket.

The socket calls, in order: socket, bind; then recvfrom (or recvmsg) and sendto (or sendmsg); at the end close. There
are no connections: a peer is an address that was heard from, and what is lost on the way is lost.
"""

from __future__ import annotations

import first  # noqa: F401  # isort: skip

import argparse
import ipaddress
import socket

from circles import Circles, Unanswered
from common import MAX_DATAGRAM, OWN_BEGINNINGS, OWN_REPLIES, SHUTTING_DOWN, Parser, reason, run
from listening import is_forged, open_all, prepare
from losses import Losses
from packet_info import ANCILLARY_SIZE, PacketInfo, ask_for_packet_info
from peer import Peer, Transport
from peer_table import PeerTable
from service import PASS_BYTES
from serving import Server, add_arguments, serve
from sockets import widen_buffer
from text import TYPE_CHECKING, ending, plain_host, show_address

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from service import Received
    from text import Address

PORT = 65433
"""Where to listen, unless told."""
DATAGRAM_COST, NEW_COST = 512, 2048
"""Bytes that a datagram counts for in a pass, besides twice its own, and one from somebody who is not known yet."""
DATAGRAM_SIZE = 65536
"""Bytes that no datagram exceeds, over IPv6 either, so that none is cut."""
MAX_TOLD = 10000
"""Datagrams that what others say may become at once; what is more is dropped, as UDP may."""


def open_endpoint(family: socket.AddressFamily, address: Address, shares_port: bool) -> socket.socket:
    """Return a socket that takes datagrams sent to an address. Raises OSError and Failure."""
    endpoint = socket.socket(family, socket.SOCK_DGRAM)
    try:
        prepare(endpoint, address, shares_port)
        widen_buffer(endpoint)
        endpoint.bind(address)
    except OSError:
        endpoint.close()
        raise
    return endpoint


class Endpoint(Transport):
    """A socket, and the peers that were heard from. What the loop calls is its phase: read, or turn_away."""

    protocol = "UDP"

    def __init__(self, server: Server, endpoint: socket.socket) -> None:
        self.service, self.loop, self.record = server.service, server.loop, server.record
        self.known = PeerTable()
        self.unsent = 0
        self.socket = endpoint
        self._losses = Losses(self.socket, self.record, self.protocol)
        self._address: Address = self.socket.getsockname()
        self.is_wildcard = self._address[0] in ("0.0.0.0", "::")
        self._circles = Circles(self.service.reply, "" if self.is_wildcard else self._address[0], self._address[1])
        self.hears_itself_only = ipaddress.ip_address(self._address[0].partition("%")[0]).is_loopback
        self._has_packet_info = not self.hears_itself_only and ask_for_packet_info(self.socket)
        self._receive = self._receive_with_packet_info if self._has_packet_info else self.socket.recvfrom
        self.loop.watch(self.socket.fileno(), self.read)
        server.announce("UDP", self._address)
        if self.service.audience and self.service.gate.is_open() and not self.hears_itself_only:
            self.record.line("[UDP Server] Peers elsewhere hear little of the room; --allow vouches for them.")

    def read(self) -> None:
        """Hand the datagrams that came to the service."""
        self._take(self.service.received, self.service.texts)

    def turn_away(self) -> None:
        """Tell whoever still sends a datagram that the server stops."""
        late: list[Received] = []
        self._take(late, [])
        for peer, (datagram,), _ in late:
            peer.send([SHUTTING_DOWN + ending(datagram)])

    def _take(self, received: list[Received], texts: list[bytes]) -> None:
        """Receive what is there, as much as a pass may bring, and add it to what was received."""
        receive, peers, circles, service, now = self._receive, self.known, self._circles, self.service, self.loop.now
        room, may_be_circle = PASS_BYTES - service.received_bytes, circles.may_be
        while room >= 0:
            room -= DATAGRAM_COST
            try:
                data, key = receive(DATAGRAM_SIZE)
            except BlockingIOError:
                break
            except OSError:  # Windows tells here that nobody took an earlier reply
                continue
            room -= 2 * len(data)  # it may take long to show
            peer = peers.get(key)
            if not peer:
                room -= NEW_COST
                peer = self._meet(key)
                if not peer:
                    continue
            peer.heard_at = now
            if not data:  # a sign of life
                continue
            peer.tail = data[-2:]
            speaker: Peer = peer
            if may_be_circle or peer.doubt or (data[0] in OWN_BEGINNINGS and data.startswith(OWN_REPLIES)):
                peer.said += len(data)  # which counts in a room alone, where every datagram comes here
                why = circles.find(key, data) or peer.doubt
                if why:
                    peers.pop(key, None)  # and it is told nothing more
                    speaker = Unanswered(peer, why, service)
            received.append((speaker, [data], b""))
            texts.append(data)
        service.received_bytes = PASS_BYTES - room
        self.loop.take_turns(self.socket.fileno(), room < 0)

    def _receive_with_packet_info(self, size: int) -> tuple[bytes, Address]:
        """Return a datagram, and the address that it came from with what else is told. Raises OSError."""
        data, ancillary, _, address = self.socket.recvmsg(size, ANCILLARY_SIZE)
        return data, (address, *ancillary)

    def stop(self) -> None:
        """Take no more messages."""
        self.loop.watch(self.socket.fileno(), self.turn_away)

    def is_stopped(self) -> bool:
        """Tell whether all conversations have ended: a datagram is sent at once, or never."""
        return True

    def close(self) -> None:
        """Close the socket."""
        self._losses.finish()
        self.loop.forget(self.socket.fileno())
        self.socket.close()

    def peers(self) -> Iterable[UdpPeer]:
        """Return who was heard from lately."""
        return [peer for peer in self.known.heard_lately(self.loop.now) if not peer.doubt]

    def forget(self, peer: UdpPeer, why: str = "") -> None:
        """Tell a peer nothing more until it is heard from again."""
        if self.known.pop(peer.key, None):
            self.service.show(peer, "Forgot", f" ({why})" if why else "")

    def tick(self, now: float) -> None:
        """Forget who was not heard from lately, count repeated datagrams anew, and show how many were dropped."""
        self.known.forget_silent(now)
        self._circles.forget()
        self._losses.show()
        if self.unsent:
            self.record.line(f"[UDP Server] {self.unsent} datagrams were not sent: there was no room for them")
            self.unsent = 0

    def _meet(self, key: Address) -> UdpPeer | None:
        """Return a new peer, or None if it may not come in."""
        address, infos = (key[0], [PacketInfo(*told) for told in key[1:]]) if self._has_packet_info else (key, [])
        if any(is_forged(address[0], info.own_host()) for info in infos):
            self.record.repeatable("Refused", address[0], "[UDP Server] Refused ", address[0], ": it came over IPv6")
            return None
        if not self.service.gate.check(plain_host(address[0])):
            return None
        self.known.make_room()
        peer = self.known[key] = UdpPeer(self, address, key, infos)
        peer.doubt = self._circles.suspect(*address[:2])
        self.service.join(peer)
        return peer


class UdpPeer(Peer):
    """An address that datagrams come from, and the address of this machine that they were sent to.

    `key` is both, as far as they are known, `source` the latter, as sendmsg takes it, and `infos` what the system told
    of the first datagram. PeerTable says what `heard_at` and `seen_at` are. `tail` is the end of the last datagram,
    `doubt` why it gets no answer, `said` and `told` are bytes in a room, and `trust` is whether it hears more.
    """

    __slots__ = (
        *("address", "doubt", "endpoint", "heard_at", "infos", "key"),
        *("said", "seen_at", "source", "tail", "told", "trust"),
    )
    takes_line_by_line = True
    protocol = "UDP"

    def __init__(self, endpoint: Endpoint, address: Address, key: Address, infos: list[PacketInfo]) -> None:
        self.endpoint, self.address, self.key, self.infos = endpoint, address, key, infos
        self.source: list[Any] = [info.source() for info in infos] if endpoint.is_wildcard else []
        self.heard_at = self.seen_at = endpoint.loop.now
        self.tail, self.doubt = b"", ""
        self.said = self.told = 0
        self.trust: bool | None = None
        self.rename(show_address(address))

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies, a datagram each, with `start` before it; what the kernel has no room for is dropped."""
        for reply in replies:
            datagram = (start + reply)[:MAX_DATAGRAM]
            try:
                if self.source:
                    self.endpoint.socket.sendmsg([datagram], self.source, 0, self.address)
                else:
                    self.endpoint.socket.sendto(datagram, self.address)
            except BlockingIOError:
                self.endpoint.unsent += 1
            except OSError as error:
                if self.source:  # the address of a group, or of all in a network, where no reply can come from
                    self.source = []
                    self.send([reply], start)
                else:
                    event = f"[UDP Server] Cannot send to {self.name}: {reason(error)}"
                    self.endpoint.record.repeatable("Could not send", self.name, event)

    def tell(self, lines: list[bytes]) -> None:
        """Send lines, a datagram each, ended as the peer ended its own last message; drop what no datagram holds.

        An empty one is a line feed, since an empty datagram is no message.
        """
        line_end = ending(self.tail) if self.tail.endswith(b"\n") else b""
        fitting = [line + line_end or b"\n" for line in lines if len(line) + len(line_end) <= MAX_DATAGRAM]
        self.endpoint.unsent += len(lines) - len(fitting)
        self.send(fitting)

    def hear(self, lines: list[bytes]) -> None:
        """Send lines of others; to one that nobody vouches for, as much as it has earned by what it sent."""
        if self.trust is None:
            self.trust = not self.endpoint.service.gate.is_open() or self.is_local()
        if not self.trust:
            from audience import affordable

            lines, self.told = affordable(lines, self.said, self.told)
        self.tell(lines)

    def most_behind(self) -> int:
        """Return how many lines the peer may be behind others."""
        return MAX_TOLD // max(len(self.endpoint.known), 1) or 1

    def wait_its_turn(self) -> None:
        """Have all who send to the same socket wait, since none can be left out."""
        self.endpoint.loop.take_turns(self.endpoint.socket.fileno())

    def miss(self, count: int) -> None:
        """Note that so many lines are lost to it."""
        self.endpoint.unsent += count

    def end(self) -> None:
        """Forget the peer."""
        self.endpoint.forget(self)

    def close(self, why: str) -> None:
        """Forget the peer, and show why."""
        self.endpoint.forget(self, why)

    def is_local(self) -> bool:
        """Tell whether the peer is on this machine."""
        return self.endpoint.hears_itself_only or any(info.is_from_here(self.address[0]) for info in self.infos)


def open_endpoints(server: Server, options: argparse.Namespace, port: int) -> list[Endpoint]:
    """Return an endpoint for each address of the host. Raises Failure."""
    endpoints = open_all(options, port, socket.SOCK_DGRAM, open_endpoint)
    for group in getattr(options, "group", None) or ():
        from groups import join

        for endpoint in endpoints:
            join(endpoint, group)
    return [Endpoint(server, endpoint) for endpoint in endpoints]


def main() -> int:
    """Run the server."""
    parser = Parser(
        "[PORT]",
        "Serve UDP peers: show each datagram that they send, and confirm it.",
        "9001",
        "9001 --reply echo --quiet",
        "9001 --host 0.0.0.0 --allow 192.168.0.0/16",
    )
    add_arguments(parser, PORT, most=MAX_DATAGRAM, longest=MAX_DATAGRAM)
    add = parser.add_argument_group("UDP").add_argument
    add("--group", metavar="ADDRESS", action="append", help="join this multicast group; may be repeated")
    options = parser.parse_args()
    if options.group:
        from groups import check_groups

        check_groups(parser, options)
    return serve(options, lambda server: open_endpoints(server, options, options.port))


if __name__ == "__main__":
    run(main)
