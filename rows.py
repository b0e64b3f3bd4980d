"""All: text in the rows of a terminal: how wide it is, where it wraps, and what is shown of a line that is typed."""

from __future__ import annotations

import contextlib
import os
import re

from text import IS_DUMB

INDENT = "    "
"""Begins each row but the first of a line that takes more: no event, and no line of a conversation, begins so."""
WRAPS_AGAIN = not IS_DUMB and os.environ["TERM"] != "linux" and "XTERM_VERSION" not in os.environ
"""Whether the terminal wraps rows again that have become too long for its window, as all but those two do."""
NARROWEST = 4
"""Columns that it takes to show anything of a line that scrolls: a mark on either side, a character, the cursor."""
TOKENS = re.compile(r"\x1b\[\d*m|[ -~]+|[^ -~]")
"""What fold() takes at once: a colour, plain characters, any other character."""


def window_columns(descriptor: int = 1) -> int:
    """Return how many columns the terminal has that a descriptor is; 80 if it does not say."""
    with contextlib.suppress(OSError):  # its window is closed
        return os.get_terminal_size(descriptor).columns or 80
    return 80


def erase_row() -> bytes:
    """Return what empties the row of the terminal in which the cursor is, and takes the cursor to its start."""
    return b"\r%*s\r" % (window_columns() - 1, b"") if IS_DUMB else b"\r\x1b[K"


def width(char: str, column: int = 0) -> int:
    """Return how many columns a character takes that is written in this one."""
    if char == "\t":
        return 8 - column % 8
    if char < "\u0300":
        return 1
    import unicodedata  # which most text does not need

    is_mark = unicodedata.category(char) in ("Mn", "Me", "Cf")  # or a joiner
    if is_mark or "\u1160" <= char <= "\u11ff":  # a vowel of Hangul
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def widest(char: str, column: int) -> int:
    """Return how many columns a character takes in the terminal where it takes most."""
    if char == "\ufe0f" or "\u1160" <= char <= "\u11ff":  # makes a sign an emoji; a vowel of its own
        return 1
    return 2 if "\U0001f000" <= char <= "\U0001faff" else width(char, column)


def fold(line: str, columns: int) -> str:
    """Return a line, with its colours, cut after words into rows of so many columns: none looks like another line."""
    if columns < 2 * len(INDENT):
        return line
    rows, row, column = [], "", 0
    for token in TOKENS.findall(line):
        rest = token
        while rest:
            is_plain = " " <= rest[0] <= "~"
            wide = len(rest) if is_plain else 0 if rest[0] == "\x1b" else widest(rest, column)
            if column + wide <= columns or (rest == "\t" and column < columns):
                row, column, rest = row + rest, column + wide, ""
            else:
                room = columns - column if is_plain else 0
                room = rest.rfind(" ", room // 2, room) + 1 or room  # not to the left of the middle: the word is long
                rows.append(row + rest[:room])
                row, column, rest = INDENT, len(INDENT), rest[room:]
    return "\n".join([*rows, row])


class Row:
    """The part of a typed line that one row shows: it scrolls sideways, so that the cursor is always in it."""

    def __init__(self) -> None:
        self._first = 0  # character that is shown
        self._to_cursor = ""  # what is shown up to the cursor, and the character under it

    def draw(self, before: str, after: str, columns: int) -> str:
        """Return what shows a line in an empty row of so many columns, and takes the cursor back to its place.

        `before` is what stands before the cursor, with the prompt. `<` and `>` mark where something is left out.
        """
        self._to_cursor = ""
        if columns < NARROWEST:
            return ""
        most = 4 * columns  # characters looked at: some take no column, and a line may be very long
        whole = cells_of(before[:most] + after[:most])
        if max(len(before), len(after)) < most and len(whole) < columns:
            self._first = 0
            left, right = cells_of(before), whole[len(cells_of(before)) :]
        else:
            self._first = max(min(self._first, len(before)), len(before) - most, 0)
            while self._first and len(cells_of(before[self._first :])) < columns // 3:
                self._first -= 1
            while len(cells_of(before[self._first :])) > columns - 3:
                self._first += 1
            left = ["<"] * bool(self._first) + cells_of(before[self._first :])
            right = cells_of(after[:most])
            if len(left) + len(right) >= columns:
                right = right[: columns - 2 - len(left)]
                right = right[:-1] if right and right[-1] and width(right[-1][0]) == 2 else right
                right.append(">")
        self._to_cursor = "".join(left + right[:1])
        return "".join(left + right) + "\b" * len(right)

    def erase(self, columns: int) -> bytes:
        """Return what empties all the rows into which a terminal that has so many columns by now has wrapped it."""
        if not WRAPS_AGAIN:
            return erase_row()
        above = column = 0
        for char in self._to_cursor:
            if column + width(char) > columns:
                above, column = above + 1, 0
            column += width(char)
        return b"\x1b[A" * above + b"\r\x1b[J"


def cells_of(text: str) -> list[str]:
    """Return what stands in each column of a row: a character with its marks; "" after a wide one; a tab as blanks."""
    cells: list[str] = []
    for char in text:
        wide = width(char, len(cells))
        if char == "\t":
            cells += [" "] * wide
        elif wide:
            cells += [char, ""][:wide]
        elif cells:
            last = -1 if cells[-1] else -2
            cells[last] += char
    return cells
