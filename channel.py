"""Clients: a way to a server: what each client's kind of it has in common, and when to try it again."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable

from common import EXIT, SHUTTING_DOWN, Failure
from ledger import Ledger
from loop import READ, WRITE, Loop
from phases import State, check
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    Wait = tuple[dict[int, int], float]
    """Descriptors, each with the events that are waited for, and until when, in seconds of time.monotonic()."""


PATIENCE = 10
"""How many times --timeout a stream may bring what answers nothing, before what is due counts as late."""


class Broken(Failure):
    """There is no connection, or no longer; another attempt may succeed."""


class Channel:
    """A way to a server: a socket, and the ledger of what went over it.

    Each kind has its own `connect()`, which makes `socket` one to the server step by step: it yields what it waits for,
    and goes on when it is asked for more; `send(messages)`, which keeps in `unsent` what there is no room for;
    `flush()`, which sends what was kept; `read()`, which returns what has arrived, as it is to be written to a file,
    the replies in it, and whether it was the last; and `finish()`, which tells the server that nothing more comes, and
    enters CLOSED if nothing more can come from it either. All may raise Failure, `connect()` OSError, and `read()`
    BlockingIOError where nothing is.
    """

    protocol = "?"
    is_stream = False
    """Whether a line feed ends a message, and none gets lost alone: a missing reply means that the server is stuck."""
    longest = sys.maxsize
    """Bytes in the longest message."""
    window = window_bytes = 0
    """How many messages, and bytes of them, may wait for their replies at once."""
    if TYPE_CHECKING:
        connect: Callable[[], Generator[Wait, None, None]]
        send: Callable[[list[bytes]], None]
        flush: Callable[[], None]
        read: Callable[[], tuple[bytes, list[bytes], bool]]
        finish: Callable[[], None]
        unsent: Any

    def __init__(
        self, loop: Loop, options: argparse.Namespace, port: int, ledger: Ledger, retries: int, reconnects: bool
    ) -> None:
        """Take how many times a lost message is sent again, and whether a broken connection is made anew."""
        self.loop, self.host, self.port, self.ledger = loop, options.host, port, ledger
        self.timeout: float = options.timeout
        self.family, self.source = options.family, options.source
        self.retries, self.reconnects = retries, reconnects
        self.socket = socket.socket()
        self.peer = show_address((self.host, port))
        self.state = State.DOWN
        self.failures = 0  # in a row: attempts to connect, or to have `exit` answered
        self.open_at = 0.0  # when to connect again, to go on with that, or to send again what was not saved
        self._attempt: Generator[Wait, None, None] | None = None  # to connect, while that is under way
        self._awaited: dict[int, int] = {}  # descriptors, and the events for which the loop waits there
        self.active_at = 0.0  # when something went over it last
        self.asks_for_end = False  # an `exit` went over it
        self.said_goodbye = False  # the server shuts down
        self._undelivered_before = sys.maxsize  # bytes, at the last look
        self.refusal = b""  # the first one, where no reply was expected

    def enter(self, state: State) -> None:
        """Take another state; without a connection, there is no socket either."""
        check(self.state, state)
        self.state = state
        if state in (State.DOWN, State.CLOSED):
            self.close()

    def open(self) -> None:
        """Begin to connect, or go on with it; once the server is reached, send what is not confirmed."""
        self._forget()
        if not self._attempt:
            self.unsent.clear()
            self._attempt = self.connect()
        try:
            self._awaited, self.open_at = next(self._attempt)
            return
        except StopIteration:
            self._attempt = None
        except OSError as error:  # also if its name is not known yet
            raise Broken(str(error)) from error
        self.said_goodbye = False
        self.active_at = time.monotonic()
        self.enter(State.OPEN)
        self.send_unconfirmed(self.active_at)

    def send_unconfirmed(self, now: float) -> None:
        """Send at `now` what is not confirmed."""
        again = self.ledger.send_again(now)
        if again:
            self.send(again)

    def resend(self, messages: list[bytes]) -> None:
        """Send messages to which no reply came in time."""
        self.send(messages)

    def show_life(self, now: float) -> None:
        """Tell the server at `now` that somebody listens, if it is time to and nothing else does."""

    def watch(self, go_on: Callable[[], object]) -> None:
        """Have the loop call a function when there is what the connection, or the attempt to make one, waits for."""
        if self.state in (State.OPEN, State.PARTING):
            self._awaited = {self.socket.fileno(): READ | (WRITE if self.unsent else 0)}
        for descriptor, events in self._awaited.items():
            self.loop.watch(descriptor, go_on, events)

    def part(self, word: bytes) -> None:
        """Tell the server that the conversation is over: with a word, or else with the end itself."""
        self.enter(State.PARTING)
        self.failures, self.asks_for_end = 0, word == EXIT
        self.active_at = self.ledger.unanswered_since = time.monotonic()
        if word:
            self.send([word])
        else:
            self.finish()

    def fail(self) -> None:
        """Be without a connection, for a time that grows with each failure."""
        self.enter(State.DOWN)
        self._pause()

    def hear(self, replies: list[bytes]) -> list[bytes]:
        """Note what the server said just now; return what of it is to be shown."""
        confirmed, unsaved = self.ledger.confirmed, self.ledger.unsaved
        self.active_at = time.monotonic()
        heard = self.ledger.take(replies, self.active_at)
        if self.ledger.confirmed > confirmed:
            self.failures = 0
        if self.ledger.unsaved > unsaved == 0 and self.reconnects:
            self._pause()
        self.said_goodbye |= SHUTTING_DOWN in replies
        return heard

    def _pause(self) -> None:
        """Do not try again for a time that grows with each failure (exponential backoff with jitter)."""
        self.open_at = time.monotonic() + pause_after(self.failures)
        self.failures += 1

    def is_unsaved(self) -> bool:
        """Tell whether something is to be sent again because the server could not save it."""
        return self.ledger.unsaved > 0 and (self.reconnects or self.retries > 0)

    def unfinished(self) -> bytes:
        """Return what has come of the line whose end has not, such as a prompt."""
        return b""

    def close(self) -> None:
        """Close the socket, and give up the attempt to get another."""
        self._forget()
        if self._attempt:
            self._attempt.close()
            self._attempt = None
        self.close_socket()

    def close_socket(self) -> None:
        """Close the socket alone."""
        self.loop.forget(self.socket.fileno())
        self.socket.close()

    def _forget(self) -> None:
        for descriptor in self._awaited:
            self.loop.forget(descriptor)
        self._awaited = {}

    def is_connecting(self) -> bool:
        """Tell whether an attempt to connect is under way."""
        return self._attempt is not None

    def undelivered(self) -> int:
        """Return how many bytes of what was sent the server's machine has not acknowledged, as far as that is known."""
        return 0

    def look_for_progress(self, now: float) -> bool:
        """Look at `now` at what is not acknowledged; if it is less than at the last look, wait on, and tell so."""
        before, self._undelivered_before = self._undelivered_before, self.undelivered()
        if 0 < self._undelivered_before < before:
            self.active_at = now
            return True
        return False

    def is_clear(self) -> bool:
        """Tell whether nothing is kept."""
        return not self.unsent

    def room(self) -> int:
        """Return how many more messages may be sent now."""
        has_room = self.is_clear() and not self.is_unsaved() and self.ledger.waiting_bytes < self.window_bytes
        return self.window - self.ledger.waiting if has_room else 0

    def due_at(self) -> float:
        """Return when to try again, or when what is missing is late; infinity if neither is due."""
        if self.state is State.DOWN:
            return self.open_at
        if self.state is State.PARTING:
            return self._answer_due_at() if self.asks_for_end else self.active_at + self.timeout
        if self.state is State.CLOSED:
            return float("inf")
        if not self.is_stream:
            return self.ledger.oldest() + self.timeout
        if self.ledger.due or not self.is_clear():
            return self._answer_due_at()
        return self.open_at if self.is_unsaved() else float("inf")

    def _answer_due_at(self) -> float:
        """Return when an answer is late: what others say is a sign of life of a connection, but only for so long."""
        if not self.is_stream:
            return self.ledger.unanswered_since + self.timeout
        return min(self.active_at + self.timeout, self.ledger.unanswered_since + PATIENCE * self.timeout)

    def waits_within(self, now: float, tries: int) -> str:
        """Return how long an answer that is late by `now` was waited for after so many tries, in words."""
        is_talking = self.is_stream and now < self.active_at + self.timeout
        return f"within {self.timeout * (PATIENCE if is_talking else tries):g} s"


def reach(loop: Loop, channels: list[Channel]) -> None:
    """Open channels, but for those that may take as long as it takes; have signals end the program. Raises Failure."""
    loop.catch_signals(("SIGTERM", "SIGHUP", "SIGQUIT"), lambda number, _: sys.exit(128 + number))
    while missing := [channel for channel in channels if channel.state is State.DOWN and not channel.reconnects]:
        for channel in missing:
            channel.watch(channel.open)
        wait = min(channel.open_at for channel in missing) - time.monotonic()
        for go_on in loop.ready(min(max(wait, 0.0), 1.0)):
            go_on()
        for channel in missing:
            if channel.state is State.DOWN and channel.open_at <= time.monotonic():
                channel.open()


def pause_after(failures: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds: by chance, so that not all come at once."""
    import random  # most clients need no chance, and start faster without

    longest = min(0.1 * 2 ** min(failures, 30), 10.0)
    return random.uniform(longest / 2, longest)
