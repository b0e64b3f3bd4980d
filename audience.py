"""Servers: what is said in a room (`--reply relay`): kept once for all, and told to some of them in each pass.

Everybody who listens has a number: that of the next line to hear. In a round each has a turn, and is told what was said
since its last one, but for what it has said itself. So a pass costs no more in a large room than in a small one, and
who has fallen behind costs no memory of its own.
"""

from __future__ import annotations

import time
from collections import deque
from operator import attrgetter

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from peer import Peer

WORK_AT_ONCE = 200
"""What a pass may do for this: a call of the system counts for one, and so do so many bytes, or lines."""
WORTH_A_CALL, LINES_WORTH_A_CALL = 4096, 256
LAST_WORK = 20_000
"""The same for the end of a server."""
PORTION = 1 << 16
"""Bytes that one is told in a turn; what was said at once may go beyond."""
LINES_AT_ONCE = 64
"""Lines that one is told in a turn if each takes a call of its own."""
MAX_LAG, GRACE = 1 << 20, 1.0
"""Bytes that a listener may lag behind when it has had so many seconds to read them; for each more, it has as long."""
MAX_KEPT = 32 << 20
"""Bytes that are kept, besides two of the longest lines, however short the time was."""
LITTLE = 2048
"""Who says fewer bytes than that at once has to wait only when half of what may be is kept."""
MAX_AMPLIFICATION = 3
"""Bytes of others that a peer is told for each of its own, if nobody vouches for its address, which may be forged."""


def affordable(lines: list[bytes], said: int, told: int) -> tuple[list[bytes], int]:
    """Return which lines may be told to one who has said and was told so many bytes, and how many it was told then."""
    told_lines = []
    for line in lines:
        size = len(line) + 2  # with an ending
        if told + size <= MAX_AMPLIFICATION * said:
            told += size
            told_lines.append(line)
    return told_lines, told


class Page:
    """What was said one after another, until it was PORTION bytes, so that all who lag are told the same portions."""

    def __init__(self, start: int) -> None:
        self.start = start
        """The number of its first line."""
        self.lines: list[bytes] = []
        self._speakers: list[Peer | None] = []
        self.size = 0
        """Bytes, with an ending for each line."""
        self.said_at = 0.0
        """When the last of it was said, in seconds of time.monotonic()."""
        self._wanted: object = None
        self._ready: tuple[list[bytes], set[Peer | None], float] = [], set(), 0.0

    def end(self) -> int:
        """Return the number of the line that comes next."""
        return self.start + len(self.lines)

    def add(self, speaker: Peer | None, lines: list[bytes], size: int) -> None:
        """Add what one says, which is so many bytes."""
        self.lines += lines
        self._speakers += [speaker] * len(lines)
        self.size += size
        self.said_at = time.monotonic()

    def portion(self, number: int, line_by_line: bool) -> tuple[list[bytes], set[Peer | None], float]:
        """Return lines from this number on, who said them, and how much work it is to tell them.

        Mostly it is ready, since those who are equally far have their turns one after another.
        """
        wanted = (number, line_by_line, len(self.lines))
        if self._wanted != wanted:
            self._wanted = wanted
            start, most = number - self.start, LINES_AT_ONCE if line_by_line else len(self.lines)
            lines = self.lines[start : start + most]
            calls = len(lines) if line_by_line else 1
            work = calls + sum(map(len, lines)) / WORTH_A_CALL + len(lines) / LINES_WORTH_A_CALL
            self._ready = lines, set(self._speakers[start : start + most]), work
        return self._ready

    def of_others(self, peer: Peer, number: int, most: int) -> list[bytes]:
        """Return those of so many lines from this number on that the peer has not said itself."""
        start = max(number - self.start, 0)
        said = zip(self.lines[start : start + most], self._speakers[start : start + most])
        return [line for line, speaker in said if speaker is not peer]


class Audience:
    """The listeners of a room, and what they have still to be told."""

    def __init__(self, listeners: Callable[[], Iterable[Peer]], attend: Callable[..., None], longest: int = 0) -> None:
        """Take what returns all who listen, what takes a step with one of them, and how long a line may be.

        For a step, see Service.attend().
        """
        self._listeners, self._attend = listeners, attend
        self._most = MAX_KEPT + 2 * longest
        self._pages = [Page(0)]
        self._bytes = 0
        self._work = 0.0  # that may still be done in this pass
        self._offered = 0  # the line up to which all had a turn, in rounds that are over
        self._round: deque[Peer] = deque()
        self._round_end = 0  # the line up to which they are told in this round
        self._is_telling = False
        self._is_new = True  # nobody has said anything in this round
        self._last: dict[Peer, int] = {}  # of those who leave, the number of the line with which it is over

    def end(self) -> int:
        """Return the number of the next line that will be said."""
        return self._pages[-1].end()

    def is_busy(self) -> bool:
        """Tell whether somebody may still have to be told something that can be sent at once."""
        return self._is_telling

    def is_full(self) -> bool:
        """Tell whether so much is kept that whoever says much has to wait for those who read."""
        return self._bytes > MAX_LAG

    def may_pour(self) -> bool:
        """Tell whether who says much may say more: once all have heard all, or have had a turn since."""
        return (self._is_new or not self._is_telling) and not self.is_full()

    def say(self, speaker: Peer | None, lines: list[bytes]) -> bool:
        """Take what one says to all others, lines without an ending; None: somebody elsewhere.

        Return whether so much is kept that the speaker has to wait for those who read before it says more.
        """
        if self._pages[-1].size >= PORTION:
            self._pages.append(Page(self.end()))
        size = sum(map(len, lines)) + len(lines)
        self._pages[-1].add(speaker, lines, size)
        self._bytes += size
        self._is_telling, self._is_new = True, False
        return self._bytes > (self._most // 2 if size < LITTLE else MAX_LAG)

    def tell_some(self, work: float = WORK_AT_ONCE) -> None:
        """Tell as many as a pass has time for, each in its turn; drop what has been kept too long."""
        if self.is_full():
            self._drop_old(time.monotonic())
        self._work = work
        while self._is_telling and self._work > 0:
            if self._round:
                self._take_turn(self._round.popleft())
            else:
                self._begin_round()

    def tell(self, peer: Peer) -> None:
        """Tell one the next of what others have said, unless it has not taken yet what it was told before."""
        end = self.end()
        missed = max(self._pages[0].start, end - peer.most_behind()) - peer.heard
        if missed > 0:
            peer.heard += missed
            peer.miss(missed)
        if peer.heard < end and peer.can_hear():
            page = self._pages[-1]
            if peer.heard < page.start:
                page = next(page for page in reversed(self._pages) if page.start <= peer.heard)
            lines, speakers, work = page.portion(peer.heard, peer.takes_line_by_line)
            number, peer.heard = peer.heard, peer.heard + len(lines)
            if peer in speakers:
                lines = page.of_others(peer, number, len(lines))
            if lines:
                peer.hear(lines)
                self._work -= work
            self._is_telling = True  # what all have heard by now is dropped when a round begins
        if peer in self._last and peer.heard >= self._last[peer]:
            del self._last[peer]
            peer.end()

    def see_off(self, peer: Peer) -> None:
        """End the conversation with one who leaves, once it has heard, in its turns, what was said by now."""
        if peer.heard < self.end():
            self._last[peer] = self.end()
            peer.hold()
        else:
            peer.end()

    def seen_off(self) -> list[Any]:
        """Return those who leave and have still to hear something."""
        return list(self._last)

    def forget(self, peer: Peer) -> None:
        """Wait no longer for one who leaves."""
        self._last.pop(peer, None)

    def finish(self) -> None:
        """Tell all what is left, since the server stops and ends with all of them, as far as LAST_WORK goes."""
        self._last.clear()
        self.tell_some(LAST_WORK)
        for peer in self._listeners():
            if self._work > 0:
                self._attend(peer, self._tell_rest, peer)

    def _tell_rest(self, peer: Peer) -> None:
        """Tell one all that is left, taken or not."""
        heard, peer.heard = max(peer.heard, self.end() - peer.most_behind()), self.end()
        lines = [line for page in self._pages for line in page.of_others(peer, heard, len(page.lines))]
        if lines:
            self._work -= sum(map(len, lines)) / WORTH_A_CALL
            peer.hear(lines)

    def _take_turn(self, peer: Peer) -> None:
        """Tell one a portion; it has another turn in this round unless it has heard all that was said before it."""
        before = peer.heard
        self._work -= 0.1
        self._attend(peer, self.tell, peer)
        if before < peer.heard < self._round_end and peer.can_hear():
            self._round.append(peer)

    def _begin_round(self) -> None:
        """Drop what all have heard, and begin anew if somebody has not heard all."""
        end, present = self.end(), list(self._listeners())
        heard = min(map(attrgetter("heard"), present), default=end)
        self._keep([page for page in self._pages if page.end() > heard])
        self._is_new = True
        self._offered, self._round, self._round_end = self._round_end, deque(present), end
        self._is_telling = heard < end and any(peer.heard < end and peer.can_hear() for peer in present)

    def _drop_old(self, now: float) -> None:
        """Drop what all had GRACE seconds to read, and what is too much but for the last of it, which is told once."""
        count, kept = 0, self._bytes
        for page in self._pages:
            is_old = page.end() <= self._offered and page.said_at < now - GRACE * max(page.size / MAX_LAG, 1)
            if not (kept > MAX_LAG and is_old) and not (kept > self._most and page is not self._pages[-1]):
                break
            kept -= page.size
            count += 1
        if count:
            self._keep(self._pages[count:])
            self._is_telling = True  # who is cut off now has a turn for that

    def _keep(self, pages: list[Page]) -> None:
        self._pages = pages or [Page(self.end())]
        self._bytes = sum(page.size for page in self._pages)
