"""Servers: what is said in a room (`--reply relay`): kept once for all, and told to some of them in each pass.

Everybody who listens has a number: that of the next line to hear. In a round each has a turn, and is told what was said
since its last one, but for what it has said itself. So a pass costs no more in a large room than in a small one, and
who has fallen behind costs no memory of its own.
"""

from __future__ import annotations

import time
from collections import deque

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from peer import Peer

WORK_AT_ONCE = 200
"""What a pass may do for this: a call of the system counts for one, and so do WORTH_A_CALL bytes, or 32 lines."""
WORTH_A_CALL = 4096
LAST_WORK = 20_000
"""The same for the end of a server."""
PORTION = 1 << 16
"""Bytes that one is told in a turn; the last line may go beyond."""
LINES_AT_ONCE = 64
"""Lines that one is told in a turn if each takes a call of its own."""
MAX_PORTIONS = 16
"""Portions that are kept ready."""
MAX_LAG, GRACE = 1 << 20, 1.0
"""Bytes that a listener may lag behind when it has had so many seconds to read them."""
MAX_KEPT = 16 << 20
"""Bytes that are kept, however short the time was."""
MAX_AMPLIFICATION = 3
"""Bytes of others that a peer is told for each of its own, if nobody vouches for its address, which may be forged."""


def affordable(lines: list[bytes], said: int, told: int) -> tuple[list[bytes], int]:
    """Return which lines may be told to one who has said and was told so many bytes, and how many it was told then."""
    affordable = []
    for line in lines:
        size = len(line) + 2  # with an ending
        if told + size <= MAX_AMPLIFICATION * said:
            told += size
            affordable.append(line)
    return affordable, told


class Portion:
    """What those who are equally far are told in a turn: lines, up to where, who said them, and how much work it is."""

    def __init__(self, said: list[tuple[bytes, Peer | None, float]], start: int, most: int) -> None:
        size, stop = 0, start
        while stop < min(start + most, len(said)) and size < PORTION:
            size += len(said[stop][0]) + 1
            stop += 1
        self.stop = stop
        self.lines = [line for line, _, _ in said[start:stop]]
        self.speakers = {speaker for _, speaker, _ in said[start:stop]}
        calls = len(self.lines) if most == LINES_AT_ONCE else 1
        self.work = calls + size / WORTH_A_CALL + len(self.lines) / 32
        self.is_cut = size >= PORTION or len(self.lines) == most


class Audience:
    """The listeners of a room, and what they have still to be told."""

    def __init__(self, listeners: Callable[[], Iterable[Peer]], attend: Callable[..., None]) -> None:
        """Take what returns all who listen, and what takes a step with one of them; see Service.attend()."""
        self._listeners, self._attend = listeners, attend
        self._said: list[tuple[bytes, Peer | None, float]] = []
        self._first = 0
        self._bytes = 0
        self._portions: dict[tuple[int, int], Portion] = {}
        self._work = 0.0
        self._offered = 0
        self._round: deque[Peer] = deque()
        self._round_end = 0
        self._is_telling = False
        self._is_new = True  # nobody has said anything in this round

    def end(self) -> int:
        """Return the number of the next line that will be said."""
        return self._first + len(self._said)

    def is_busy(self) -> bool:
        """Tell whether somebody may still have to be told something that can be sent at once."""
        return self._is_telling

    def is_full(self) -> bool:
        """Tell whether so much is kept that whoever says much has to wait for those who read."""
        return self._bytes > MAX_LAG

    def may_pour(self) -> bool:
        """Tell whether who says much may say more: once all have heard all, or have had a turn since."""
        return (self._is_new or not self._is_telling) and not self.is_full()

    def say(self, speaker: Peer | None, lines: list[bytes]) -> None:
        """Take what one says to all others, lines without an ending; None: somebody elsewhere."""
        now = time.monotonic()
        self._said += [(line, speaker, now) for line in lines]
        self._bytes += sum(map(len, lines)) + len(lines)
        self._is_telling, self._is_new = True, False

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
        behind = self.end() - peer.heard
        missed = max(behind - len(self._said), behind - peer.most_behind())
        if missed > 0:
            peer.heard += missed
            peer.miss(missed)
        if peer.heard < self.end() and peer.can_hear():
            start = peer.heard - self._first
            portion = self._portion(start, LINES_AT_ONCE if peer.takes_line_by_line else MAX_KEPT)
            peer.heard = self._first + portion.stop
            lines = portion.lines
            if peer in portion.speakers:
                lines = [line for line, speaker, _ in self._said[start : portion.stop] if speaker is not peer]
            if lines:
                peer.hear(lines)
                self._work -= portion.work
            self._is_telling = True  # what all have heard by now is dropped when a round begins

    def tell_rest(self, peer: Peer) -> None:
        """Tell one all that is left, taken or not, since it leaves."""
        start = max(peer.heard - self._first, len(self._said) - peer.most_behind(), 0)
        lines = [line for line, speaker, _ in self._said[start:] if speaker is not peer]
        peer.heard = self.end()
        if lines:
            self._work -= sum(map(len, lines)) / WORTH_A_CALL
            peer.hear(lines)

    def finish(self) -> None:
        """Tell all what is left, since the server stops, as far as LAST_WORK goes."""
        self.tell_some(LAST_WORK)
        for peer in self._listeners():
            if self._work > 0:
                self._attend(peer, self.tell_rest, peer)

    def _take_turn(self, peer: Peer) -> None:
        """Tell one a portion; its turn goes on until it has heard all that was said before the round, if it can."""
        before = peer.heard
        self._work -= 0.1
        self._attend(peer, self.tell, peer)
        if before < peer.heard < self._round_end and peer.can_hear():
            self._round.appendleft(peer)

    def _begin_round(self) -> None:
        """Drop what all have heard, and begin anew if somebody has not heard all."""
        end, present = self.end(), list(self._listeners())
        self._drop(min((peer.heard for peer in present), default=end) - self._first)
        self._is_new = True
        self._offered, self._round, self._round_end = self._round_end, deque(present), end
        self._is_telling = any(peer.heard < end and peer.can_hear() for peer in present)

    def _portion(self, start: int, most: int) -> Portion:
        """Return what is told in a turn that begins there; made ready once for all who are equally far."""
        found = self._portions.get((start, most))
        if len(self._portions) > MAX_PORTIONS:
            self._portions.clear()
        if not found or not (found.is_cut or found.stop == len(self._said)):
            found = self._portions[start, most] = Portion(self._said, start, most)
        return found

    def _drop_old(self, now: float) -> None:
        count, kept, offered = 0, self._bytes, self._offered - self._first
        while kept > MAX_KEPT or (kept > MAX_LAG and count < offered and self._said[count][2] < now - GRACE):
            kept -= len(self._said[count][0]) + 1
            count += 1
        if count:
            self._drop(count)
            self._is_telling = True  # who is cut off now has a turn for that

    def _drop(self, count: int) -> None:
        if count > 0:
            self._bytes -= sum(len(line) + 1 for line, _, _ in self._said[:count])
            del self._said[:count]
            self._first += count
            self._portions.clear()
