"""Clients: what is still unanswered: which messages were sent, which are confirmed, and how long that took."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

from common import CONFIRMATION, NOT_SAVED, TOO_LONG
from text import without_ending

Sent = tuple[int, bytes, float, float, int]
"""A waiting message: its number, the message, when it was sent first and last, in seconds, and how often again."""
REFUSED = (TOO_LONG.partition(b"%")[0], NOT_SAVED)
"""How a server begins to say that it did not take a message."""


class Ledger:
    """What became of the messages that were sent one way."""

    def __init__(self, repeated: Callable[[bytes], bytes] = bytes, any_reply: bool = False) -> None:
        """Take a function that returns what replies are sure to repeat of a message: all of it, unless told.

        Or any reply answers the oldest message.
        """
        self.sent = self.confirmed = 0
        self.waiting = self.waiting_bytes = 0
        """How many messages, and bytes in them, are neither confirmed nor given up."""
        self.unanswered_since = 0.0
        """When something was answered last, or began to wait for its answer, in seconds."""
        self.shortest_time, self.longest_time, self.total_time = float("inf"), 0.0, 0.0
        self._repeated = nothing if any_reply else repeated
        self._waiting: dict[bytes, list[Sent]] = {}  # by what replies repeat; the oldest of equal ones stands first
        self.unsaved = 0
        """How many refusals said that the message can not be saved now, so that it may be later."""
        self._refused = 0
        self._longest_taken = sys.maxsize
        self.confirms: bool | None = None
        """How this server answers: with confirmations, or with echoes; None while that is not certain."""
        self._repeats: dict[bytes, tuple[int, float]] = {}  # how many more such answers may come, and until when
        self._late: dict[bytes, list[float]] = {}  # what was given up for now, without its ending, and when it was sent
        self._undecided: list[bytes] = []  # replies that come to mean one message or another once that is known

    @property
    def due(self) -> int:
        """How many replies are still to come: for a refused message nothing more is."""
        return self.waiting - self._refused

    def add(self, messages: list[bytes], now: float) -> None:
        """Note messages as sent at `now`, in seconds."""
        if not self.due:
            self.unanswered_since = now
        waiting, repeated = self._waiting, self._repeated
        for number, message in enumerate(messages, self.sent):
            waiting.setdefault(repeated(message), []).append((number, message, now, now, 0))
        self.sent += len(messages)
        self.waiting += len(messages)
        self.waiting_bytes += sum(map(len, messages))

    def take(self, replies: list[bytes], now: float) -> list[bytes]:
        """Note what came at `now`: each reply answers the oldest waiting message whose confirmation or echo it is.

        Any other line counts for nothing, except a refusal, which tells that one reply less is to come. It does not
        say for which message, and a person may have typed it; so no message is struck off for it. Return the replies
        but for those that answer once more what was sent more than once.
        """
        confirmed, heard, due_before = [], [], self.due
        for reply in replies:
            if self._repeats and self._strike_repeat(reply, now):
                continue
            heard.append(reply)
            sent = self._match(reply)
            if sent:
                confirmed.append(self._pop(sent))
                if sent[4]:
                    self._expect_repeats(reply, sent, now)
            elif reply.startswith(REFUSED):
                self._refused += 1
                self.unsaved += reply.startswith(NOT_SAVED)
                limit = reply[len(REFUSED[0]) :].split(b" ")[0]
                if limit.isdigit():
                    self._longest_taken = int(limit[:18])
            elif self._late:
                self._take_late(reply, now)
        self._strike(confirmed)
        if self.due < due_before:
            self.unanswered_since = now
        self._confirm([now - first_at for _, _, first_at, _, _ in confirmed])
        if self._undecided and self.confirms is not None:
            undecided, self._undecided = self._undecided, []
            self.take(undecided, now)
        return heard

    def _confirm(self, times: list[float]) -> None:
        """Count messages as confirmed after so many seconds each."""
        if times:
            self.confirmed += len(times)
            self.total_time += sum(times)
            self.shortest_time = min(self.shortest_time, *times)
            self.longest_time = max(self.longest_time, *times)

    def _take_late(self, reply: bytes, now: float) -> None:
        """Count what was given up as confirmed after all, if this reply names it."""
        is_confirmation = reply.startswith(CONFIRMATION)
        text = without_ending(reply[len(CONFIRMATION) :] if is_confirmation else reply)
        if text in self._late and (is_confirmation or not self.confirms):
            self._confirm([now - self._late[text].pop(0)])
            if not self._late[text]:
                del self._late[text]

    def _expect_repeats(self, reply: bytes, sent: Sent, now: float) -> None:
        """Note that a message which was sent more than once may be answered as often.

        That is not waited for long, since what was sent more than once was mostly lost before: what answers a later
        message of the same text would be taken for it.
        """
        self._repeats = {other: entry for other, entry in self._repeats.items() if now < entry[1]}
        count, until = self._repeats.get(reply, (0, now + 2 * (now - sent[2])))
        self._repeats[reply] = count + sent[4], until

    def _strike_repeat(self, reply: bytes, now: float) -> bool:
        """Strike a reply off those that are expected to answer once more what is confirmed; tell whether it is one."""
        count, until = self._repeats.get(reply, (0, now))
        if count == 0 or now >= until:
            return False
        self._repeats[reply] = count - 1, until
        return True

    def _match(self, reply: bytes) -> Sent | None:
        """Return the message that a reply answers for certain; keep a reply that may become certain.

        `Message received: x` is what a server says that confirms `x`, and what one says that echoes the whole. Where
        both wait, it means the one that goes with how the server answered others.
        """
        if self._repeated is nothing:
            return self._waiting.get(b"", [None])[0]
        if self.confirms and reply.startswith(CONFIRMATION):
            return self._meant(reply[len(CONFIRMATION) :])
        echoed = self._meant(reply)
        if not reply.startswith(CONFIRMATION):
            if echoed and self.confirms is None:
                self.confirms = False
            return echoed
        confirmed = self._meant(reply[len(CONFIRMATION) :])
        if self.confirms is None and confirmed and echoed:
            if len(self._undecided) < self.waiting:
                self._undecided.append(reply)
            return None
        if confirmed and not echoed:
            self.confirms = True
        return echoed or confirmed

    def _meant(self, text: bytes) -> Sent | None:
        """Return the waiting message whose text this is, the oldest of equal ones; none if it could be another."""
        alike = self._waiting.get(self._repeated(text))
        if not alike or self._repeated is bytes:
            return alike[0] if alike else None
        whole = without_ending(text)
        same = [sent for sent in alike if without_ending(sent[1]) == whole]  # whose line ending may have been changed
        exact = [sent for sent in same if sent[1] == text]
        cut = [sent for sent in alike if sent not in same and sent[1].startswith(whole)]
        possible = [*(exact or same), *cut]
        return possible[0] if len({message for _, message, *_ in possible}) == 1 else None

    def _pop(self, sent: Sent) -> Sent:
        text = self._repeated(sent[1])
        equal = self._waiting[text]
        equal.remove(sent)  # it is the first, or nearly
        if not equal:
            del self._waiting[text]
        return sent

    def oldest(self) -> float:
        """Return when a reply was first to be expected of those missing, in seconds; infinity if none is missing."""
        return min((last_at for _, _, _, last_at, _ in self._all()), default=float("inf"))

    def send_again(self, now: float) -> list[bytes]:
        """Return the waiting messages that the server takes, in the order in which they were sent, to be sent at `now`.

        They are for another connection, since the last one was closed after a message that was too long; or all of them
        were refused, since the server could not save them.
        """
        self.unanswered_since = now
        self.confirms = None  # another server may be there now
        self._undecided.clear()
        for equal in self._waiting.values():
            equal[:] = [(number, message, now, now, tries) for number, message, _, _, tries in equal]
        again = [message for _, message, *_ in self._all() if len(message) <= self._longest_taken]
        self._refused, self.unsaved = self.waiting - len(again), 0
        return again

    def retry(self, before: float, now: float, retries: int) -> list[bytes]:
        """Return what was last sent before `before` and was not yet sent again `retries` times; note it as sent now."""
        again = []
        for equal in self._waiting.values():
            for place, (number, message, first_at, last_at, tries) in enumerate(equal):
                if last_at <= before and tries < retries:
                    equal[place] = number, message, first_at, now, tries + 1
                    again.append((number, message))
        if again:
            self._refused = self.unsaved = 0  # what is sent again is refused again
        return [message for _, message in sorted(again)]

    def give_up(self, before: float, for_good: bool = True) -> list[bytes]:
        """Stop waiting for what was last sent before `before`; return it.

        Unless that is for good, an answer that comes late still counts; what never got one is returned when it is.
        """
        late = [sent for sent in self._all() if sent[3] <= before]
        for sent in late:
            self._pop(sent)
        self._refused = max(self._refused - len(late), 0)
        self._strike(late)
        if for_good:
            never, self._late = [text for text, times in self._late.items() for _ in times], {}
            return [*never, *(message for _, message, *_ in late)]
        for _, message, first_at, *_ in late:
            self._late.setdefault(without_ending(message), []).append(first_at)
        return [message for _, message, *_ in late]

    def _all(self) -> list[Sent]:
        return sorted(itertools.chain(*self._waiting.values()))

    def _strike(self, struck: list[Sent]) -> None:
        self.waiting -= len(struck)
        self.waiting_bytes -= sum([len(message) for _, message, _, _, _ in struck])
        self._refused = min(self._refused, self.waiting)
        self.unsaved = min(self.unsaved, self.waiting)


def nothing(_: bytes) -> bytes:
    """Return what replies repeat of a message where any may answer it."""
    return b""


def summary(ledgers: list[Ledger], no_reply: bool) -> str:
    """Return the numbers of messages and, if any is confirmed, the round-trip times."""
    sent = sum(ledger.sent for ledger in ledgers)
    if no_reply:
        return f"{sent} sent, no replies expected"
    confirmed = sum(ledger.confirmed for ledger in ledgers)
    text = f"{sent} sent, {confirmed} confirmed, {sent - confirmed} lost"
    if confirmed:
        shortest = min(ledger.shortest_time for ledger in ledgers)
        mean = sum(ledger.total_time for ledger in ledgers) / confirmed
        longest = max(ledger.longest_time for ledger in ledgers)
        text += f"; round trip min/avg/max {shortest * 1000:.2f}/{mean * 1000:.2f}/{longest * 1000:.2f} ms"
    return text
