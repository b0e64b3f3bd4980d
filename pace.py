"""Clients: at most so many messages a second, evenly (`--rate`)."""

from __future__ import annotations

import time

CATCH_UP = 0.01
"""Seconds by which messages may be late, and still be sent as if they were not: no program wakes up on the dot."""


class Pace:
    """When how many messages may be sent."""

    def __init__(self, rate: int) -> None:
        self._pause = 1 / rate
        self.next_at = time.monotonic()
        """When the next one may be sent."""

    def room(self, now: float) -> int:
        """Return how many may be sent at `now`."""
        late = min(now - self.next_at, CATCH_UP)
        return 1 + int(late / self._pause) if late >= 0 else 0

    def spend(self, count: int, now: float) -> None:
        """Note that so many are sent at `now`."""
        self.next_at = max(self.next_at, now - CATCH_UP) + count * self._pause
