"""Clients: what is to be sent: lines that are typed, piped or given with -m, up to the word that ends it all."""

from __future__ import annotations

import argparse
import collections
import functools
import os

from common import WORDS
from loop import Loop
from terminal import TypedLines

HINT = "Type a message; 'terminate' ends this client, 'exit' also stops the server."
HINT_WITHOUT_WORDS = "Type a message; the end of the input (Ctrl-D) ends this client."


class Outbox:
    """Lines that wait to be sent, and the person or program that they come from."""

    def __init__(self, options: argparse.Namespace, in_lines: bool) -> None:
        """Take whether a line feed ends a message, so that a text given with -m may be several."""
        texts = [os.fsencode(text) for text in options.message or ()]
        if in_lines:
            texts = [line for text in texts for line in text.removesuffix(b"\n").split(b"\n")]
        self.typed = TypedLines("You: ", edits=not texts)
        self.hint = HINT_WITHOUT_WORDS if options.no_words else HINT
        """What a person who types is told at the start."""
        self.has_ended = bool(texts)
        """Whether no more lines come."""
        self.word = b""
        """The one that ends the conversation, once it is read."""
        self._lines = collections.deque(texts)
        self._words = frozenset() if options.no_words else WORDS
        self._pace = None
        if options.rate:
            from pace import Pace

            self._pace = Pace(options.rate)

    def has_lines(self) -> bool:
        """Tell whether some wait to be sent, or are left."""
        return bool(self._lines)

    def is_done(self) -> bool:
        """Tell whether all that is to be sent was sent."""
        return bool(self.word) or (self.has_ended and not self._lines)

    def watch(self, loop: Loop) -> None:
        """Have a loop wait for typed lines, and a person asked for one, when it can be sent next."""
        descriptor = self.typed.socket.fileno()
        if self._wants_lines() and not loop.watches(descriptor):
            loop.watch(descriptor, functools.partial(self._take_typed, loop))
            self.typed.ask()

    def _take_typed(self, loop: Loop) -> None:
        lines = self.typed.read()
        self.has_ended = lines is None
        self._lines.extend(lines or ())
        if not self._wants_lines():
            loop.forget(self.typed.socket.fileno())

    def _wants_lines(self) -> bool:
        return not (self.has_ended or self.word or self._lines)

    def room(self, now: float) -> int:
        """Return how many lines may be sent at `now`, in seconds of time.monotonic()."""
        if self.word or not self._lines:
            return 0
        return min(len(self._lines), self._pace.room(now)) if self._pace else len(self._lines)

    def due_at(self) -> float:
        """Return when more lines may be sent, if some wait and are kept back by --rate; else infinity."""
        return self._pace.next_at if self._pace and self._lines and not self.word else float("inf")

    def take(self, most: int, now: float) -> list[bytes]:
        """Return the next lines to be sent at `now`, so many at the most, up to a word."""
        taken = []
        for _ in range(most):
            line = self._lines.popleft()
            if line.strip() in self._words:
                self.word = line.strip()
                break
            taken.append(line)
        if self._pace:
            self._pace.spend(len(taken), now)
        return taken

    def rest(self) -> str:
        """Return in words what of the input was not sent; "" if that is nothing."""
        if not (self._lines or self.typed.read_rest()):
            return ""
        return f"what comes after '{self.word.decode()}'" if self.word else "the rest of the input"
