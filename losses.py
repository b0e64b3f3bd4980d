"""Servers: datagrams that the kernel threw away, since they came faster than they were read."""

from __future__ import annotations

import socket
import sys

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from record import Record

SO_MEMINFO = 55 if sys.platform == "linux" else None
"""Asks for nine numbers of 32 bits, of which the last counts what was thrown away (linux/sock_diag.h)."""
SIZE = 36
"""Bytes of these."""


class Losses:
    """What one socket has lost, so that every message is accounted for; nothing where the system does not tell."""

    def __init__(self, endpoint: socket.socket, record: Record, protocol: str) -> None:
        self._endpoint, self._record = endpoint, record
        self._start = f"[{protocol} Server]"
        self._total = 0

    def show(self) -> None:
        """Show how many datagrams were lost since the last call, if any."""
        new = (self._count() - self._total) & 0xFFFFFFFF  # which begins anew after its highest
        self._total += new
        if new:
            self._record.line(f"{self._start} {new} datagrams were lost: they came faster than they were read")

    def finish(self) -> None:
        """Show how many were lost in all, if any."""
        self.show()
        if self._total:
            self._record.line(f"{self._start} {self._total} datagrams were lost in all")

    def _count(self) -> int:
        if SO_MEMINFO is None:
            return 0
        try:
            told = self._endpoint.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, SIZE)
        except OSError:  # an old kernel
            return 0
        return int.from_bytes(told[SIZE - 4 :], sys.byteorder)
