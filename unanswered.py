"""Servers: a peer who is heard and not answered, since it may be a server, and the two would answer for ever."""

from __future__ import annotations

from service import Peer
from text import TYPE_CHECKING

if TYPE_CHECKING:
    from service import Service

PRIVILEGED_PORTS = 1024
"""Services such as echo (port 7) answer from ports below, and could be made to answer for ever (CVE-2024-2169)."""
RELAYED_TWICE = rb"((\d+\.\d+\.\d+\.\d+|\[[^\s\]]+\]):\d+: ){2}"
"""How a line begins that two servers have relayed: with the address of one server and that of the first speaker."""


class Unanswered(Peer):
    """Stands for a peer: what it says is shown, kept and, if it is a word, obeyed; nothing is sent to it."""

    __slots__ = ("end", "is_local", "protocol")
    is_answered = False

    def __init__(self, peer: Peer, why: str, service: Service) -> None:
        """Stand for a peer; show why, where an answer was to be expected."""
        self.protocol, self.end, self.is_local = peer.protocol, peer.end, peer.is_local
        self.rename(peer.where, service.record, peer.subject)
        if service.reply != "none":
            event = f"[{self.protocol} Server] Not answered: {self.name}, {why}"
            service.record.repeatable("Not answered", self.name, event)

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send nothing."""

    def tell(self, lines: list[bytes]) -> None:
        """Send nothing."""

    def close(self, why: str) -> None:
        """Close nothing: a datagram is no conversation."""
