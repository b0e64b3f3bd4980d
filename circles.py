"""Servers: what two servers could send each other for ever (CVE-2024-2169), and how that ends: without an answer."""

from __future__ import annotations

import collections
import re

from common import OWN_REPLIES
from listening import is_own_address
from peer import Peer
from text import TYPE_CHECKING, plain_host

if TYPE_CHECKING:
    from service import Service
    from text import Address


PRIVILEGED_PORTS = 1024
"""Services such as echo (port 7) answer from ports below, and could be made to answer for ever."""
MAX_REPEATS = 1000
"""Datagrams of one peer that repeat others of the same second and are echoed before one is not: so circles end."""
RELAYED_TWICE = rb"((\d+\.\d+\.\d+\.\d+|\[[^\s\]]+\]):\d+: ){2}"
"""How a line begins that two servers have relayed: with the address of one server and that of the first speaker."""


class Circles:
    """What a server knows of what it could be made to answer for ever."""

    def __init__(self, reply: str, own_host: str, own_port: int) -> None:
        """Take what a server replies, and from where. With "" as host, any address of this machine is meant."""
        self._reply, self._own_host, self._own_port = reply, own_host, own_port
        self.may_be = reply in ("echo", "relay")
        """Whether each datagram has to be looked at, and not only one that begins as a server's own reply does."""
        self._echoed: set[int] = set()
        self._repeats: collections.Counter[Address] = collections.Counter()

    def suspect(self, host: str, port: int) -> str:
        """Return why a peer gets no answer; "" if it does."""
        if port < PRIVILEGED_PORTS:
            return "a port that services answer from"
        if port != self._own_port:
            return ""
        is_own_host = host == self._own_host if self._own_host else is_own_address(plain_host(host))
        return "this server's own address" if is_own_host else ""

    def find(self, key: Address, data: bytes) -> str:
        """Return why an answer may go in a circle between servers that each return what comes; "" if it does not.

        `key` is whom it came from.
        """
        if data.startswith(OWN_REPLIES):
            return "a server's reply"  # so two servers that only confirm never talk in circles
        if self._reply == "relay" and re.match(RELAYED_TWICE, data):
            return "two servers have relayed it"
        if self._reply == "echo":
            which = hash((key, data))  # short, where a datagram may be long
            self._repeats[key] += which in self._echoed
            self._echoed.add(which)
            if self._repeats[key] > MAX_REPEATS:
                del self._repeats[key]
                return f"it has repeated itself more than {MAX_REPEATS} times within a second"
        return ""

    def forget(self) -> None:
        """Begin another second."""
        self._echoed.clear()
        self._repeats.clear()


class Unanswered(Peer):
    """Stands for a peer: what it says is shown, kept and, if it is a word, obeyed; nothing is sent to it."""

    __slots__ = ("end", "is_local", "protocol")
    is_answered = False

    def __init__(self, peer: Peer, why: str, service: Service) -> None:
        """Stand for a peer; show why, where an answer was to be expected."""
        self.protocol, self.end, self.is_local = peer.protocol, peer.end, peer.is_local
        self.name, self.where, self.subject, self.heading = peer.name, peer.where, peer.subject, b""
        if service.reply != "none":
            event = f"[{self.protocol} Server] Not answered: {self.name}, {why}"
            service.record.repeatable("Not answered", self.where.rpartition(":")[0], event)

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send nothing."""

    def close(self, why: str) -> None:
        """Close nothing: a datagram is no conversation."""
