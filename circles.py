"""Servers: datagrams that two servers could send each other for ever (CVE-2024-2169), and how that ends."""

from __future__ import annotations

import re

from common import OWN_REPLIES
from serving import is_own_address
from text import TYPE_CHECKING, plain_host

if TYPE_CHECKING:
    from typing import Any, Protocol

    class Sender(Protocol):
        """Who sends datagrams."""

        key: tuple[Any, ...]
        repeats: int
        suspicion: str


PRIVILEGED_PORTS = 1024
"""Services such as echo (port 7) answer from ports below, and could be made to answer for ever."""
MAX_REPEATS = 1000
"""Datagrams of one peer that repeat others of the same second and are echoed before one is dropped: so circles end."""
RELAYED_TWICE = rb"((\d+\.\d+\.\d+\.\d+|\[[\w:.%]+\]):\d+: ){2}"
"""How a line begins that two servers have relayed: with the address of one server and that of the first speaker."""


class Circles:
    """What a server knows of what it could be made to answer for ever."""

    def __init__(self, reply: str) -> None:
        """Take what a server replies."""
        self._reply = reply
        self.may_be = reply in ("echo", "relay")
        """Whether each datagram has to be looked at, and not only one that begins as a server's own reply does."""
        self._echoed: set[int] = set()

    def suspect(self, host: str, port: int, own_host: str, own_port: int) -> str:
        """Return why a peer gets no answer; "" if it does. With "" as own host, any of this machine's is meant."""
        if port < PRIVILEGED_PORTS:
            return "a port that services answer from"
        is_own = port == own_port and (host == own_host if own_host else is_own_address(plain_host(host)))
        return "this server's own address" if is_own else ""

    def find(self, peer: Sender, data: bytes) -> str:
        """Return why a datagram may go in a circle between servers that each return what comes; "" if it does not."""
        if data.startswith(OWN_REPLIES):
            return "a server's reply"  # so two servers that only confirm never talk in circles
        if self._reply == "relay" and re.match(RELAYED_TWICE, data):
            return "two servers have relayed it"
        if self._reply == "echo":
            which = hash((peer.key, data))  # short, where a datagram may be long
            peer.repeats += which in self._echoed
            self._echoed.add(which)
            if peer.repeats > MAX_REPEATS:
                peer.repeats = 0
                return f"it has repeated itself more than {MAX_REPEATS} times within a second"
        return peer.suspicion

    def forget(self) -> None:
        """Begin another second."""
        self._echoed.clear()
