"""Servers: what was received and has no answer yet, since the archive (`--save`) has not told whether it is kept."""

from __future__ import annotations

import functools

from text import TYPE_CHECKING, visible, without_ending

if TYPE_CHECKING:
    from typing import Optional, Union

    from archive import Archive
    from peer import Peer
    from service import Received, Service
    from stream_archive import StreamArchive

    AnyArchive = Union[Archive, StreamArchive]
    """`save(rows, done)` keeps rows, and calls `done` with whether they are kept once that is known: of all calls in
    their order, at once or later. `close()` ends it; what is not known by then is taken for not kept."""
    Row = tuple[str, str, str, Optional[str], bytes]
    """Protocol, direction, peer, the subject of its certificate, and text."""

MAX_WAITING = 16 << 20
"""Bytes that may wait for the archive; whoever says more meanwhile is told at once that it could not be saved."""


class Keeping:
    """Passes, from their end until the archive has answered, in order; and who is owed an answer meanwhile.

    Who is owed one is held: nothing more of theirs is read, so that answers stay in order and no peer fills memory.
    With `--reply none` only a failure is ever told: there, all is shown at once, and nobody is held.
    """

    def __init__(self, service: Service, archive: AnyArchive) -> None:
        self._service, self._archive = service, archive
        self._answers = service.reply != "none"
        self._passes = 0
        self._bytes = 0
        """How many passes wait, and how many bytes they have."""
        self._owed: dict[Peer, int] = {}

    def waits(self) -> bool:
        """Tell whether something waits for the archive."""
        return self._passes > 0

    def owes(self, peer: Peer) -> bool:
        """Tell whether a peer is owed an answer."""
        return peer in self._owed

    def keep(self, received: list[Received], text: bytes, size: int, typed: list[Row]) -> None:
        """Have a pass saved, of so many bytes, and what was typed; answer it once it is known whether it is."""
        rows, size = list(typed), size + sum(len(row[-1]) for row in typed)
        for peer, messages, reply in received:
            start = (peer.protocol.lower(), "received", peer.where, peer.subject or None)
            rows += [(*start, without_ending(message)) for message in messages if not reply]
        if not (rows and self._answers):
            self._service.answer(received, text, True)
        if not rows:
            return
        if self._bytes > MAX_WAITING:
            self._conclude(received, text, typed, False)
            return
        self._passes += 1
        self._bytes += size
        self._archive.save(rows, functools.partial(self._conclude_pass, received, text, typed, size))
        if self._passes:  # it takes its time
            for peer, _, reply in received:
                if self._answers or not reply:
                    self._owed[peer] = self._owed.get(peer, 0) + 1
                    if self._answers:
                        peer.hold()

    def _conclude_pass(self, received: list[Received], text: bytes, typed: list[Row], size: int, saved: bool) -> None:
        self._passes -= 1
        self._bytes -= size
        try:
            self._conclude(received, text, typed, saved)
        finally:
            if self._owed:
                for peer, _, reply in received:
                    if self._answers or not reply:
                        self._release(peer)
                self._service.let_go()

    def _conclude(self, received: list[Received], text: bytes, typed: list[Row], saved: bool) -> None:
        if self._answers:
            self._service.answer(received, text, saved)
        elif not saved:
            for peer, messages, reply in received:
                if not reply:
                    self._service.attend(peer, self._service.refuse, peer, messages)
        if not saved:
            for *_, line in typed:
                self._service.record.line(f"[Server] Sent, but could not be saved: {visible(line)}", trouble=True)

    def _release(self, peer: Peer) -> None:
        self._owed[peer] -= 1
        if not self._owed[peer]:
            del self._owed[peer]
            if self._service.is_serving():
                self._service.attend(peer, peer.go_on)
