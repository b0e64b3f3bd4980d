"""A terminal for tests: a program on one side, and on the other a model of the screen that a person would look at."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import tty
import unicodedata
from typing import Any

from support import ROOT, is_at_rest, wait_until

SEQUENCE = re.compile(r"\x1b\[(?P<private>\??)(?P<numbers>[\d;]*)(?P<final>[@-~])|\x1b[=>]|\x1b\(B|[^\x1b]")
UNFINISHED = re.compile(r"\x1b(\[\??[\d;]*|\()?")


class Screen:
    """What a terminal of a given width and height shows of the bytes that a program writes to it.

    It knows what readline and the scripts write for TERM=xterm, and raises ValueError for anything else.
    """

    def __init__(self, columns: int, height: int) -> None:
        self.columns = columns
        self.height = height
        self.row = self.column = 0
        self.modes: set[int] = set()
        """The private modes that are switched on, such as 2004 for bracketed paste."""
        self._cells: list[list[str]] = [self._blank()]
        self._wraps = False  # the last column is written; the next character goes to the next row
        self._text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    @property
    def rows(self) -> list[str]:
        """All rows from the first one ever written to the cursor's, without the blanks at their ends."""
        return ["".join(cells).rstrip() for cells in self._cells[: self.row + 1]]

    @property
    def below(self) -> str:
        """What stands below the cursor's row."""
        return "\n".join("".join(cells).rstrip() for cells in self._cells[self.row + 1 :])

    def write(self, data: bytes) -> None:
        """Show what a program wrote."""
        self._text += self._decode(data)
        while self._text:
            match = SEQUENCE.match(self._text)
            if not match:
                if UNFINISHED.fullmatch(self._text):
                    return
                raise ValueError(f"unknown sequence: {self._text[:20]!r}")
            self._text = self._text[match.end() :]
            if match["final"]:
                numbers = [int(number or 0) for number in match["numbers"].split(";")]
                self._control(match["private"] + match["final"], numbers)
            elif len(match[0]) == 1:
                self._character(match[0])

    def resize(self, columns: int) -> None:
        """Have fewer columns, and wrap again what does not fit, as most terminals do."""
        rows: list[list[str]] = []
        for number, cells in enumerate(self._cells):
            filled = max((place + 1 for place, cell in enumerate(cells) if cell.strip()), default=0)
            at = len(rows)
            rows += [cells[start : start + columns] for start in range(0, max(filled, 1), columns)]
            rows[-1] = (rows[-1] + [" "] * columns)[:columns]
            if number == self.row:
                row, column = divmod(self.column, columns)
                new_row = min(at + row, len(rows) - 1)
        self._cells, self.columns, self.row, self.column = rows, columns, new_row, column

    def _blank(self) -> list[str]:
        return [" "] * self.columns

    def _character(self, char: str) -> None:
        if char == "\r":
            self._move_to(0)
        elif char == "\n":
            self._next_row()
        elif char == "\b":
            self._move_to(self.column - 1)
        elif char == "\t":
            self._move_to(self.column // 8 * 8 + 8)
        elif char.isprintable():
            self._put(char)
        elif char != "\a":
            raise ValueError(f"unknown control character: {char!r}")

    def _put(self, char: str) -> None:
        cells = self._cells[self.row]
        if unicodedata.combining(char):
            last = self.column - (0 if self._wraps else 1)
            cells[last if cells[last] else last - 1] += char
            return
        width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if self._wraps or self.column + width > self.columns:
            self._next_row()
            self._move_to(0)
            cells = self._cells[self.row]
        cells[self.column : self.column + width] = [char] + [""] * (width - 1)
        self._wraps = self.column + width == self.columns
        self.column = min(self.column + width, self.columns - 1)

    def _next_row(self) -> None:
        self.row += 1
        self._wraps = False
        if self.row == len(self._cells):
            self._cells.append(self._blank())

    def _move_to(self, column: int) -> None:
        self.column = min(max(column, 0), self.columns - 1)
        self._wraps = False

    def _control(self, command: str, numbers: list[int]) -> None:
        cells, column, count = self._cells[self.row], self.column, max(numbers[0], 1)
        if command == "K":
            self._erase(cells, *((column, self.columns), (0, column + 1), (0, self.columns))[numbers[0]])
        elif command == "J" and numbers[0] == 0:
            self._erase(cells, column, self.columns)
            del self._cells[self.row + 1 :]
        elif command == "P":
            cells[column : column + count] = []
            cells += [" "] * (self.columns - len(cells))
        elif command == "@":
            cells[column:column] = [" "] * count
            del cells[self.columns :]
        elif command in ("C", "D", "G"):
            self._move_to({"C": column + count, "D": column - count, "G": count - 1}[command])
        elif command in ("A", "B"):
            top = max(0, len(self._cells) - self.height)
            self.row = max(top, self.row - count) if command == "A" else min(len(self._cells) - 1, self.row + count)
        elif command == "?h":
            self.modes.update(numbers)
        elif command == "?l":
            self.modes.difference_update(numbers)
        elif command != "m":
            raise ValueError(f"unknown sequence: {command!r} {numbers}")

    @staticmethod
    def _erase(cells: list[str], first: int, end: int) -> None:
        cells[first:end] = [" "] * (end - first)


class Terminal:
    """A terminal in which a program runs, as it would in a window of its own."""

    def __init__(
        self, *command: object, columns: int = 60, height: int = 12, environment: dict[str, str] | None = None
    ) -> None:
        self.screen = Screen(columns, height)
        self.output = bytearray()
        """All that was ever written to the terminal."""
        self._keyboard, self._terminal = os.openpty()
        self._descriptors = [self._terminal, self._keyboard]
        os.set_blocking(self._keyboard, False)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))
        settings = termios.tcgetattr(self._terminal)
        settings[0] &= ~termios.IXON  # a choice of its user's, so that the system's defaults are not taken for it
        termios.tcsetattr(self._terminal, termios.TCSANOW, settings)
        self.settings_before = self.settings()
        # The shell leads the new session, so what it opens first becomes its controlling terminal.
        launch = ["/bin/sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(self._terminal), *map(str, command)]
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "INPUTRC": os.devnull, **(environment or {})}
        self.popen = subprocess.Popen(launch, start_new_session=True, env=environment, cwd=ROOT)

    def type(self, text: str) -> None:
        """Press keys."""
        data = text.encode()
        while data:
            select.select([], [self._keyboard], [])
            data = data[os.write(self._keyboard, data) :]

    def resize(self, columns: int) -> None:
        """Make the window narrower, once nothing is being drawn."""
        wait_until(lambda: is_at_rest(self.popen.pid), "nothing is being drawn")
        self.update().resize(columns)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.height, columns, 0, 0))

    def update(self) -> Screen:
        """Return the screen with all that was written up to now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self._keyboard, 65536)
                self.output += data
                self.screen.write(data)
        return self.screen

    def expect(self, *rows: str, column: int | None = None) -> None:
        """Wait until the cursor's row and those above it are these, with the cursor in this column."""

        def matches() -> bool:
            screen = self.update()
            at = column is None or screen.column == column
            return at and screen.rows[-len(rows) :] == list(rows) and not screen.below

        self._wait_for(matches, f"{rows}, the cursor in column {column}")

    def expect_row(self, pattern: str) -> re.Match[str]:
        """Wait until a row matches a regular expression; return the match."""
        found: list[re.Match[str] | None] = []

        def matches() -> bool:
            found[:] = filter(None, [re.search(pattern, row) for row in self.update().rows])
            return bool(found)

        self._wait_for(matches, pattern)
        assert found[0]
        return found[0]

    def wait(self) -> int:
        """Wait until the program has ended; return its exit code."""
        self._wait_for(lambda: (self.update(), self.popen.poll())[1] is not None, "the end")
        self.update()
        code: int = self.popen.returncode
        return code

    def stop_output(self) -> None:
        """Have the terminal take nothing more that is written to it, as Ctrl-S does."""
        termios.tcflow(self._terminal, termios.TCOOFF)

    def unread(self) -> int:
        """Return how many bytes were typed that nobody has read."""
        tty.setraw(self._terminal, termios.TCSANOW)
        return int(struct.unpack("i", fcntl.ioctl(self._terminal, termios.FIONREAD, bytes(4)))[0])

    def settings(self) -> list[Any]:
        """Return the terminal's settings, as termios has them."""
        return termios.tcgetattr(self._terminal)

    def is_silent(self) -> bool:
        """Tell whether the terminal does not show by itself what is typed."""
        return not self.settings()[3] & termios.ECHO

    def _wait_for(self, condition: Any, what: str) -> None:
        try:
            wait_until(condition, what)
        except AssertionError:
            screen = self.update()
            shown = "\n".join([*screen.rows[-2 * screen.height :], screen.below])
            where = f"the cursor in column {screen.column} of row {screen.row}, exit code {self.popen.poll()}"
            raise AssertionError(f"expected: {what}\nthere is, {where}:\n{shown}") from None

    def hang_up(self) -> None:
        """Take the terminal away from the program, as when its window is closed."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def close(self) -> None:
        """End the program."""
        self.popen.kill()
        self.popen.wait()
        self.hang_up()
