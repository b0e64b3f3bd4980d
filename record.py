"""Servers: what a server shows, a line an event, without ever waiting."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import stat
import sys
import time

from common import reason, report
from rows import erase_row, fold, window_columns
from terminal import takes_output
from text import DIM, PRINTABLE_ASCII, RED, TYPE_CHECKING, has_colours, paint, visible

if TYPE_CHECKING:
    from terminal import TypedLines

FINISH_WITHIN = 1.5
"""Seconds that the end of a server waits for its output to take the last lines."""


class Record:
    """The lines on standard output, with all escaped that could forge or hide one.

    What standard output does not take at once is kept, up to LIMIT bytes; what comes after that is counted instead,
    and the count is shown once there is room again. Events that a peer can repeat at will are shown a few times, and
    then counted.
    """

    LIMIT = 1 << 20
    COUNT_EVERY = 10.0
    """Seconds."""
    MAX_NAMED = 1000
    """Events of a kind that a peer can repeat which are shown between two counts."""
    MAX_REST = 1000
    """Bytes that are shown of what a peer can repeat at will."""

    def __init__(self, typed: TypedLines) -> None:
        self._typed = typed
        self._blocks: list[bytes] = []
        self._unwritten, self._begins_row = bytearray(), True
        self._dropped = 0
        self._has_failed = False
        self._named: collections.Counter[tuple[str, str | None]] = collections.Counter()
        self._repeated: collections.Counter[str] = collections.Counter()
        self._count_at = 0.0
        self._faults: set[str] = set()
        self._coloured = has_colours(sys.stdout)
        self._output, self._encoding, self._may_wait, self._is_terminal = -1, "ascii", False, False
        if sys.stdout is None:
            return
        self._output, self._encoding = sys.stdout.fileno(), sys.stdout.encoding
        self._is_terminal = sys.stdout.isatty()
        mode = os.fstat(self._output).st_mode
        self._may_wait = os.name == "posix" and (self._is_terminal or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
        if self._may_wait and self._is_terminal:
            # A description of its own, since O_NONBLOCK would also hold for whoever else writes to this terminal.
            with contextlib.suppress(OSError):  # after su, it may be somebody else's
                self._output = os.open(os.ttyname(self._output), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)

    def waits(self) -> bool:
        """Tell whether something could not be written yet."""
        return bool(self._unwritten)

    def line(self, event: str, name: str = "", rest: str = "", *, trouble: bool = False) -> None:
        """Show an event: text, whom it is about, and text after that. Trouble is red where there are colours."""
        if self._coloured and trouble:
            self._blocks.append(self._encode(paint(visible(event + name + rest), RED)))
        else:
            self._blocks.append(self.heading(event, name) + self._encode(visible(rest)))

    def heading(self, event: str, name: str, end: str = "") -> bytes:
        """Return the start of a line, text and whom it is about, as it is written, and what ends that."""
        name = visible(name)
        return self._encode(visible(event) + (paint(name, DIM) if self._coloured and name else name) + end)

    def messages(self, heading: bytes, messages: list[bytes], is_harmless: bool) -> None:
        """Show messages as they came from the network, a line each, with a heading before it."""
        if not (is_harmless or self.is_harmless(b" ".join(messages))):
            messages = [self._encode(visible(message)) for message in messages]
        self._blocks.append(heading + (b"\n" + heading).join(messages))

    def is_harmless(self, text: bytes) -> bool:
        """Tell whether text can be shown as it is."""
        if not text.translate(None, PRINTABLE_ASCII):  # three times as fast as str.isprintable()
            return True
        from characters import is_plain  # which many servers never need

        try:
            return self._encoding == "utf-8" and is_plain(text.decode())
        except UnicodeDecodeError:
            return False

    def repeatable(
        self,
        kind: str,
        subject: str,
        event: str,
        name: str = "",
        rest: bytes | str = "",
        *,
        times: int = 1,
        most: int = 1,
        trouble: bool = True,
    ) -> None:
        """Show an event that a peer can repeat at will: `most` times for each kind and subject, then by a count.

        What only the count tells of costs nothing more, however long it is.
        """
        for left in range(times, 0, -1):
            if self._named[kind, subject] >= most or self._named[kind, None] >= self.MAX_NAMED:
                self._repeated[kind] += left
                return
            self._named.update([(kind, subject), (kind, None)])
            self.line(event, name, visible(rest[: self.MAX_REST]), trouble=trouble)

    def fault(self, error: Exception) -> None:
        """Show a fault in this program on standard error, with its traceback, once for each kind."""
        import traceback  # which no server should ever need

        kind = "".join(traceback.format_tb(error.__traceback__)[-1:]) + type(error).__name__
        if kind not in self._faults and takes_output(2):
            self._faults.add(kind)
            traceback.print_exception(type(error), error, error.__traceback__)

    def tick(self, now: float) -> None:
        """Show what was counted, every COUNT_EVERY seconds; `now` is a time of time.monotonic()."""
        if now >= self._count_at:
            self._count_at = now + self.COUNT_EVERY
            for kind, count in self._repeated.items():
                self.line(f"[Server] {kind} {count} more times", trouble=True)
            self._repeated.clear()
            self._named.clear()

    def flush(self) -> None:
        """Write what there is, as far as that is possible at once."""
        if self._blocks:
            blocks, self._blocks = self._blocks, []
            self._add(b"\n".join(blocks) + b"\n")
        if self._unwritten:
            self._write()
        if self._dropped and not self._unwritten and not self._has_failed:
            count, self._dropped = self._dropped, 0
            self.line(f"[Server] {count} lines were not shown, since the output stood still.")
            self.flush()

    def finish(self) -> None:
        """Write what is left, within FINISH_WITHIN seconds; report how many lines could not be shown."""
        deadline = time.monotonic() + FINISH_WITHIN
        self.tick(float("inf"))
        self.flush()
        while self._unwritten and takes_output(self._output, max(deadline - time.monotonic(), 0)):
            self.flush()
        lost = self._dropped + self._unwritten.count(b"\n")
        if lost and not self._has_failed:
            complain(f"{lost} lines were not shown, since the output stood still")

    def _encode(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def _add(self, block: bytes) -> None:
        if self._output < 0:
            self._fail("it is closed")
        elif len(self._unwritten) > self.LIMIT:
            self._dropped += block.count(b"\n")
        else:
            self._unwritten += self._folded(block) if self._is_terminal else block

    def _folded(self, block: bytes) -> bytes:
        """Return lines as rows of the terminal, so that none which is longer than a row can look like two."""
        columns, rows = window_columns(self._output), block.split(b"\n")
        for place, line in enumerate(rows):
            if len(line) > columns or b"\t" in line:
                rows[place] = self._encode(fold(line.decode(self._encoding), columns))
        return b"\n".join(rows)

    def _write(self) -> None:
        try:
            while self._unwritten:
                if self._may_wait and not takes_output(self._output):
                    return
                written = os.write(self._output, self._portion())
                self._begins_row = self._unwritten[written - 1 : written] == b"\n"
                del self._unwritten[:written]
            self._has_failed = False
        except BlockingIOError:
            return
        except OSError as error:
            self._dropped += self._unwritten.count(b"\n")
            self._unwritten.clear()
            self._fail(reason(error))
        self._typed.redraw()

    def _portion(self) -> bytearray:
        """Return what to write next: what a pipe takes without blocking; whole lines where the row is drawn between."""
        most = select.PIPE_BUF if self._may_wait else len(self._unwritten)
        if not self._typed.is_edited:
            return self._unwritten[:most]
        if self._begins_row:
            self._unwritten[:0] = erase_row()
            self._begins_row = False
        return self._unwritten[: self._unwritten.rfind(b"\n", 0, most) + 1 or most]

    def _fail(self, why: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            complain(f"cannot write to standard output: {why}; serving goes on, without a record")


class TimedRecord(Record):
    """The same, each line with the time before it at which it was shown (`--timestamps`)."""

    def _add(self, block: bytes) -> None:
        start = utc().encode() + b" "
        super()._add(start + block[:-1].replace(b"\n", b"\n" + start) + b"\n")


def utc() -> str:
    """Return the time, UTC, in the form of ISO 8601 with milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"


def complain(problem: str) -> bool:
    """Report a problem, unless standard error stands still, since a server waits for nobody; tell whether it could."""
    could = takes_output(2)
    if could:
        report(problem)
    return could
