"""Clients: what a client shows: replies, how far its work is, and what goes wrong."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import select
import sys
import time

from common import Failure, error_line, reason, report
from editing import in_background
from incoming import shortened
from ledger import Ledger, summary
from rows import INDENT, erase_row, fold, window_columns
from terminal import TypedLines
from text import DIM, has_colours, paint, visible

NAMED = 3
"""How many unconfirmed messages are named at the end."""
PROGRESS_AFTER, PROGRESS_EVERY = 1.0, 0.25
"""Seconds after which a row on standard error begins to show how far piped work is, and between two of them."""
STANDS_FOR = 0.2
"""Seconds after which a line whose end has not come, as that of a prompt never does, is shown as far as it goes."""


class Output:
    """Replies go to a terminal as safe text around what is being typed, to a file as they are; the rest to stderr.

    What goes wrong is shown at once where somebody waits for it, and else in one line at the end.
    """

    def __init__(self, typed: TypedLines, ledgers: list[Ledger], options: argparse.Namespace) -> None:
        self._typed, self._ledgers, self._options = typed, ledgers, options
        self.is_interactive = typed.is_terminal and not options.message  # a person types
        self.code = 0  # with which the client ends
        self._problems: list[str] = []
        self._lost: list[bytes] = []  # the first few
        self._row = b""  # what stands on standard error now of how far the work is
        self._done, self._shown_at = 0, time.monotonic()
        is_shown = not (typed.is_terminal or options.message) and sys.stderr is not None and sys.stderr.isatty()
        self._progress_at = self._shown_at + PROGRESS_AFTER if is_shown else float("inf")
        self._unfinished: dict[str, tuple[float, bytes]] = {}  # by label, what is to be shown of a line, and when
        self._begun: dict[str, bytes] = {}  # what is shown of it

    def show(self, label: str, data: bytes, replies: list[bytes], unfinished: bytes = b"") -> None:
        """Show replies, which are `data` in a file; where somebody types, with a label before each. Raises Failure.

        On a terminal, what has come of an unfinished line is shown, too, if its end is long in coming.
        """
        if sys.stdout is None or not sys.stdout.isatty():
            write_out(data)
            return
        lines = list(map(shortened, replies))
        begun = self._begun.pop(label, b"") if lines else b""
        if begun and lines[0].startswith(begun):
            rest = lines.pop(0)[len(begun) :]
            self._show_lines(INDENT, [rest] if rest.strip(b"\r") else [])
        self._show_lines(label if self._typed.is_edited else "", lines)
        if unfinished:
            self._unfinished[label] = time.monotonic() + STANDS_FOR, unfinished
        else:
            self._unfinished.pop(label, None)

    def _show_lines(self, label: str, replies: list[bytes]) -> None:
        """Show replies on a terminal, with a label before each."""
        if not replies:
            return
        columns, start = window_columns(), paint(label, DIM) if label and has_colours(sys.stdout) else label
        lines = [fold(start + visible(reply), columns) for reply in replies]  # no colour goes by what a peer wrote
        text = "".join([f"{line}\n" for line in lines]).encode(sys.stdout.encoding, "backslashreplace")
        self._typed.show_above(write_out, erase_row() + text + self._row if self._row else text)

    def _show_unfinished(self, now: float) -> None:
        """Show what has stood long enough of lines without an end; what comes of them later goes on below."""
        for label, (at, text) in [*self._unfinished.items()]:
            if now < at:
                continue
            del self._unfinished[label]
            begun = self._begun.get(label, b"")
            whole = codecs.utf_8_decode(text, "replace", False)[1]  # bytes; a torn character waits for its rest
            if whole > len(begun):
                start = label if self._typed.is_edited else ""
                self._show_lines(INDENT if begun else start, [text[len(begun) : whole]])
                self._begun[label] = text[:whole]

    def begin(self) -> None:
        """Expect no end any more of lines that have none: their stream is over, and another begins."""
        self._unfinished.clear()
        self._begun.clear()

    def due_at(self) -> float:
        """Return when something is to be shown that nothing has to come for, in seconds of time.monotonic()."""
        return min([self._progress_at, *(at for at, _ in self._unfinished.values())])

    def show_due(self, now: float, is_connected: bool = True) -> None:
        """Show what is to be shown by `now`, though nothing came. Raises Failure."""
        self._show_unfinished(now)
        self._show_progress(now, is_connected)

    def say(self, text: str) -> None:
        """Tell a person who types how things are."""
        if self.is_interactive:
            self._tell(text)

    def complain(self, problem: str) -> None:
        """Show what goes wrong while the conversation goes on."""
        self._tell(error_line(problem))

    def refuse(self, messages: list[bytes], longest: int) -> None:
        """Show that messages were not sent, since they are longer than so many bytes."""
        for message in messages:
            self.complain(f"a message of {len(message)} bytes was not sent: {longest} fit into a datagram")
            self.code = 1

    def note(self, problem: str) -> None:
        """Keep a problem for the end."""
        self._problems.append(problem)
        self.code = 1

    def give_up(self, ledger: Ledger, before: float, late: str = "") -> None:
        """Wait no longer for what was last sent before `before`: it is lost.

        What a person typed is lost only if no answer comes until the end; that it is `late` is told at once, if given.
        """
        messages = ledger.give_up(before, for_good=not self.is_interactive)
        if not self.is_interactive:
            self._lost += messages[: NAMED - len(self._lost)]
        elif late:
            for message in messages:
                self.complain(f"{late}: {visible(message)}")

    def _show_progress(self, now: float, is_connected: bool) -> None:
        """Show what is done by now, in seconds, and how much of it a second since the last time, if it is time to."""
        if now < self._progress_at:
            return
        self._progress_at = now + PROGRESS_EVERY
        if not is_connected:  # what was read is not sent yet
            return
        sent = done = sum(ledger.sent for ledger in self._ledgers)
        text = f"{sent:,} sent"
        if not self._options.no_reply:
            done = sum(ledger.confirmed for ledger in self._ledgers)
            text += f", {done:,} confirmed"
        text += f", {(done - self._done) / (now - self._shown_at):,.0f} lines a second"
        self._done, self._shown_at = done, now
        with contextlib.suppress(OSError):  # its window is closed
            columns = os.get_terminal_size(2).columns or 80
            if not in_background(2):
                self._write_error(text[: columns - 1].encode())
                self._row = text[: columns - 1].encode()

    def finish(self, peers: str, rest: str) -> None:
        """Report all problems in one line: also the input that was not sent, and what `peers` should have confirmed."""
        self._write_error(b"")
        for ledger in self._ledgers:
            self._lost += ledger.give_up(float("inf"))[: NAMED - len(self._lost)]
        lost = sum(ledger.sent - ledger.confirmed for ledger in self._ledgers)
        if lost and not self._options.no_reply:
            more = f", and {lost - NAMED} more" if lost > NAMED else ""
            count = "1 message was" if lost == 1 else f"{lost} messages were"
            names = ", ".join([visible(message[:80]) for message in self._lost])
            self.note(f"{count} not confirmed by {peers}: {names}{more}")
        if rest:
            self.note(f"{rest} was not sent")
        if self._typed.problem:
            self.note(f"cannot read standard input: {self._typed.problem}")
        if self._problems:
            report("; ".join(self._problems))
        if self.is_interactive or self._options.stats:
            self._write_error(summary(self._ledgers, self._options.no_reply).encode() + b"\n")

    def _tell(self, line: str) -> None:
        """Write a line to standard error, above what is half-typed."""
        data = line.encode(sys.stderr.encoding if sys.stderr else "ascii", "backslashreplace") + b"\n"
        if self._typed.is_edited and sys.stderr is not None and sys.stderr.isatty():
            self._typed.show_above(self._write_error, data)
        else:
            self._write_error(data)

    def _write_error(self, data: bytes) -> None:
        """Write to standard error, where there is one, in place of how far the work is."""
        row, self._row = self._row, b""
        with contextlib.suppress(OSError):
            os.write(2, erase_row() + data if row else data)


def write_out(data: bytes) -> None:
    """Write all of `data` to standard output. Raises Failure."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:  # somebody else who has this file set it so
            select.select([], [1], [])
        except OSError as error:
            raise Failure(f"cannot write the replies to standard output: {reason(error)}") from error
