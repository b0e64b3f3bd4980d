"""Clients: what comes over a stream: its bytes as they came, and the lines in them that may be answers."""

from __future__ import annotations

from lines import Lines

LONGEST_EXTRA = 1 << 20
"""Bytes by which a line may be longer than the longest message that was sent, and still be kept whole."""
LONGEST_SHOWN = 1 << 16
"""Bytes of a line that a person is shown."""


class LongLine(bytes):
    """The start of a line that is longer than any answer, so that it equals none; `length` is that of the whole."""

    length = 0


class Incoming:
    """Text from a stream, cut into lines, in little memory however long a line is."""

    def __init__(self, in_lines: bool, ending: str = "lf") -> None:
        """Take whether text is handed on in whole lines, since others stand between them, and what ends a line.

        Lines that end otherwise than in LF are handed on as lines, too; all else as it comes.
        """
        self._lines = Lines(ending)
        self.longest = LONGEST_EXTRA
        """Bytes in a line that is kept whole."""
        self._in_lines = in_lines or ending != "lf"
        self._long: LongLine | None = None  # while one is arriving
        self._before = b""  # what is to be handed on before anything else
        self._is_torn = False  # what was handed on last ends in the middle of a line

    def restart(self) -> None:
        """Begin with another stream, on a line of its own."""
        self._lines.unfinished, self._long = b"", None
        self._before = b"\n" if self._is_torn else b""

    def take(self, text: bytes) -> tuple[bytes, list[bytes]]:
        """Take what came; return what of it is to be handed on, and the lines that are finished with it."""
        handed_on, rest, lines = b"", text, []
        if self._long is not None:
            piece, mark, rest = text.partition(self._lines.mark)
            handed_on = piece + (b"\n" if mark else b"")
            self._long.length += len(piece)
            if not mark:
                return self._hand_on(text), []
            lines, self._long = [self._long], None
        finished = self._lines.take(rest)
        if self._in_lines and finished:
            handed_on += b"\n".join([*finished, b""])
        if len(self._lines.unfinished) > self.longest:
            self._long = LongLine(self._lines.unfinished)
            self._long.length = len(self._lines.unfinished)
            self._lines.unfinished = b""
            handed_on += self._long  # from here on, it goes out in pieces
        return self._hand_on(handed_on if self._in_lines else text), lines + finished

    def unfinished(self) -> bytes:
        """Return what has come of the line whose end has not, without what may be part of an ending; 64 KiB at most."""
        text = bytes((self._lines.unfinished if self._long is None else self._long)[:LONGEST_SHOWN])
        if self._lines.mark == b"\r":
            text = text.removeprefix(b"\n")  # which ends the line before
        return text.removesuffix(b"\r")

    def end(self) -> tuple[bytes, list[bytes]]:
        """Return what is left at the end of the stream: bytes to be handed on, and the line that was not finished."""
        unfinished = bytes(self._lines.unfinished)
        line = self._long or unfinished
        self._lines.unfinished, self._long = b"", None
        return self._hand_on(unfinished if self._in_lines else b""), [line] if line else []

    def _hand_on(self, data: bytes) -> bytes:
        if not data:
            return b""
        data, self._before = self._before + data, b""
        self._is_torn = not data.endswith(b"\n")
        return data


def shortened(line: bytes) -> bytes:
    """Return as much of a line as a person is shown, and how long it is, in bytes, if that is not all."""
    length = line.length if isinstance(line, LongLine) else len(line)
    return line if length <= LONGEST_SHOWN else b"%s... (%d bytes)" % (line[:LONGEST_SHOWN], length)
