"""Servers: which peers without a connection are known, for how long, and who is forgotten to make room for another."""

from __future__ import annotations

import collections

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from text import Address

PEER_TIME = 60.0
"""Seconds for which a peer hears what others say after its own last datagram."""
MAX_PEERS = 10000
"""Peers that are known; another has the place of one who was silent for long."""


class PeerTable(collections.OrderedDict["Address", "Any"]):
    """The peers by their keys.

    Each has `heard_at`, when its last datagram came, and `seen_at`, the same when it might have been forgotten last,
    both in seconds of time.monotonic().
    """

    def heard_lately(self, now: float) -> list[Any]:
        """Return those who are to hear at `now` what others say."""
        return [peer for peer in self.values() if peer.heard_at >= now - PEER_TIME]

    def forget_silent(self, now: float) -> None:
        """Forget those who were not heard from lately."""
        for peer in [peer for peer in self.values() if peer.heard_at < now - PEER_TIME]:
            del self[peer.key]

    def make_room(self) -> None:
        """Forget somebody, if there is no room: each has its turn, and is passed over if it was heard since its last.

        To look for who was silent longest would take as long as to serve a hundred.
        """
        while len(self) >= MAX_PEERS:
            key, peer = self.popitem(last=False)
            if peer.heard_at > peer.seen_at:
                peer.seen_at = peer.heard_at
                self[key] = peer
