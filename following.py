"""Servers: what others append to a stream of Redis: what is new in it, and how much was gone too soon; no socket."""

from __future__ import annotations

from lines import as_line
from resp import Refusal, command
from text import TYPE_CHECKING, without_ending

if TYPE_CHECKING:
    from typing import Any

AT_ONCE, FIRST_AT_ONCE = 1 << 17, 10
"""Bytes that are asked for, and told, at once, as far as one can know before; and entries, as long as one can not."""
ENTRY = 64
"""Bytes that an entry counts for in that, besides its text."""
BLOCK = 2000
"""Milliseconds that Redis waits for a new entry before it says that there is none."""


class Following:
    """How far a stream was read. Each question asks for its state, and for what comes after the last entry read."""

    def __init__(self, stream: str, server: str) -> None:
        """Take the stream's name, and that of this run of the server, whose own messages are told already."""
        self._stream, self._server = stream, server.encode()
        self._last = b""
        """The last entry that was read."""
        self._read: int | None = None
        """How many were ever added up to that one; None if that is not known."""
        self._count = FIRST_AT_ONCE
        """How many entries to ask for."""
        self.missed = 0
        """How many were gone before they could be read; whoever tells of them begins anew."""

    def state(self) -> bytes:
        """Return the command that asks for the stream's state."""
        return command("XINFO", "STREAM", self._stream)

    def question(self) -> bytes:
        """Return the commands, two, that ask for its state and for what is new; the second waits until there is any."""
        read = ("XREAD", "COUNT", self._count, "BLOCK", BLOCK, "STREAMS", self._stream, self._last)
        return self.state() + command(*read)

    def take_state(self, answers: list[Any]) -> str:
        """Take the stream's state; return what is wrong with it, or "". The first time, it is where reading begins.

        Redis counts what was ever added since version 7; before, what is missed can not be counted.
        """
        (answer,) = answers
        if not isinstance(answer, Refusal):
            found = dict(zip(answer[::2], answer[1::2]))
        elif "no such key" in answer:
            found = {b"entries-added": 0}
        else:
            return answer
        newest: bytes = found.get(b"last-generated-id", b"0-0")
        added: int | None = found.get(b"entries-added")
        self._last = self._last or newest
        has_read_all = number(newest) <= number(self._last)
        if added is None or self._read is None or added < self._read:  # the last: it was deleted, or Redis lost some
            self._read = added if has_read_all else None
            return ""
        unread = 0 if has_read_all else found[b"length"]
        gone = max(added - unread - self._read, 0)
        self._read += gone
        self.missed += gone
        return ""

    def take_new(self, answer: list[Any] | None) -> list[bytes]:
        """Take what is new; return the lines that the room is told, without what this server has appended itself."""
        if not answer:
            return []
        lines, size, entries = [], 0, answer[0][1]
        for entry, fields in entries:
            self._last = entry
            if self._read is not None:
                self._read += 1
            found = dict(zip(fields[::2], fields[1::2]))
            size += ENTRY + len(found.get(b"text", b""))
            if found.get(b"server") != self._server and b"text" in found:
                subject = b" (%b)" % found[b"subject"] if found.get(b"subject") else b""
                name = b"" if found.get(b"direction") == b"sent" else found.get(b"peer", b"?") + subject + b": "
                lines.append(as_line(name + without_ending(found[b"text"]), "lf"))
        self._count = max(AT_ONCE * len(entries) // size, 1)
        return lines


def number(entry: bytes) -> tuple[int, ...]:
    """Return the number of an entry, by which they are in order: milliseconds, and a count of those within the same."""
    return tuple(map(int, entry.split(b"-")))
