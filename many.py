"""Clients: one message for many, by broadcast or multicast: whoever gets it may answer, and it shows whose each is."""

from __future__ import annotations

import socket

from ledger import Ledger
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    from text import Address

MOST_PEERS = 1000
"""Whose answers to a message are told apart; what more of them say is shown, and counts for nothing."""


class Everybody(socket.socket):
    """A socket for datagrams whose peer are many: what it receives begins with the address of who says it."""

    def connect(self, address: Address) -> None:  # type: ignore[override]
        """Take where to send to; from others, too, datagrams are received."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._address = address

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """Send a datagram to all."""
        return self.sendto(data, flags, self._address)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next datagram, after its sender's address; b"" for an empty one."""
        data, address = self.recvfrom(size, flags)
        return f"{show_address(address)}: ".encode() + data if data else b""


class Answers(Ledger):
    """What became of messages to many: each is waited for until its time is over, and one answer is enough."""

    def __init__(self, alone: Ledger) -> None:
        """Take the ledger that would do for one peer, with nothing in it yet."""
        super().__init__()
        self._repeated = alone._repeated
        self.confirms = True  # some may echo: what reads as a confirmation is one
        self._answered: dict[int, tuple[float, set[bytes]]] = {}  # by number: when it was first, and by whom

    def take(self, replies: list[bytes], now: float) -> list[bytes]:
        """Note what came at `now`: each reply answers the oldest message that it can, and its sender has not."""
        for reply in replies:
            peer, _, text = reply.partition(b": ")
            named = self._match(text)
            if not named:
                self._take_late(text, now)
                continue
            for number, *_ in self._waiting[self._repeated(named[1])]:
                _, peers = self._answered.setdefault(number, (now, set()))
                if peer not in peers and len(peers) < MOST_PEERS:
                    peers.add(peer)
                    break
        return replies

    def retry(self, before: float, now: float, retries: int) -> list[bytes]:
        """Do the same with what nobody has answered."""
        self._settle(before)
        return super().retry(before, now, retries)

    def give_up(self, before: float, for_good: bool = True) -> list[bytes]:
        """Do the same with what nobody has answered."""
        self._settle(before)
        return super().give_up(before, for_good)

    def _settle(self, before: float) -> None:
        """Take what was last sent before `before` for confirmed, where somebody has answered it."""
        done = [sent for sent in self._all() if sent[3] <= before and sent[0] in self._answered]
        times = [self._answered.pop(self._pop(sent)[0])[0] - sent[2] for sent in done]
        self._strike(done)
        self._confirm(times)
