"""Servers: what a telnet program, PuTTY among them, negotiates before the first line is typed (RFC 854)."""

from __future__ import annotations

import re

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from lines import Lines

OPTION = rb"[\x00-\x31\x8a-\x8c\xff]"
"""Those that are assigned (iana.org/assignments/telnet-options), so that UTF-16, say, is not taken for negotiation."""
SEQUENCES = re.compile(
    rb"(?:\xff(?:[\xfb-\xfe]" + OPTION + rb"|\xfa(?:[^\xff]|\xff\xff)*\xff\xf0|[\xec-\xf9]))*", re.DOTALL
)
"""IAC with WILL, WONT, DO or DONT and an option; with SB, what is said then, and IAC SE; or with another command."""
BEGINNING = re.compile(rb"\xff(?:[\xfb-\xfe]|\xfa(?:[^\xff]|\xff\xff)*\xff?)?", re.DOTALL)
"""A sequence whose end has not come yet."""
LONGEST = 256
"""Bytes of a sequence; what is longer is text."""


class Opening:
    """Takes negotiation out of the very start of a stream; from the first byte on that is none, all is text."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __call__(self, data: bytes) -> bytes:
        """Take what came; return the text in it. The start of a sequence is kept as a line is that is unfinished."""
        text = SEQUENCES.sub(b"", self._lines.unfinished + data, 1)
        if not text or (len(text) < LONGEST and BEGINNING.fullmatch(text)):
            self._lines.unfinished = bytearray(text)
            return b""
        self._lines.opening, self._lines.unfinished = None, b""
        return text
