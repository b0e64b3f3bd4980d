"""All: the person: the lines that are typed, and the row of the terminal in which they stand."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time

from common import Failure, reason
from editing import TERMINAL_GONE, Readline, in_background, is_gnu, readline, silence, termios
from lines import RECEIVE_SIZE, Lines
from rows import Row, erase_row, window_columns
from text import TYPE_CHECKING, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST_LINE = 1 << 28
"""Bytes of a line without an end after which no more of the input is read."""


class TypedLines:
    """Lines that a person types or a program pipes in, as a socket that a loop can wait for.

    A daemon thread copies standard input into the socket, since no loop waits for files, and on Windows none for
    terminals either. It holds no lock of Python's while it waits (it reads the descriptor, not `sys.stdin`), so the
    program can end at any time.
    """

    def __init__(self, prompt: str = "", edits: bool = True) -> None:
        self.socket, self._feed = socket.socketpair()
        self.socket.setblocking(False)
        self.is_terminal = sys.stdin is not None and sys.stdin.isatty()
        self.is_edited = edits and self.is_terminal and sys.stdout is not None and sys.stdout.isatty()
        self._editor = LineEditor(prompt) if self.is_edited else None
        self._lines = Lines()
        self.problem = ""
        """Why the input could not be read to its end, if that is so."""
        for name in ("SIGTTIN", "SIGTTOU"):
            if hasattr(signal, name):  # a job in the background gets an error instead of a stop
                signal.signal(getattr(signal, name), signal.SIG_IGN)

    def start(self) -> None:
        """Begin to read. Raises Failure where the system lets no second thread start."""
        try:
            threading.Thread(target=self._copy, name="typed lines", daemon=True).start()
        except RuntimeError as error:
            raise Failure("cannot read standard input: no thread can be started for it (see ulimit -u)") from error

    def read(self) -> list[bytes] | None:
        """Return the lines that are there, without their LF; None once the input has ended."""
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return []
        if not data:
            return self._lines.end() or None
        lines = self._lines.take(data)
        if len(self._lines.unfinished) > LONGEST_LINE:
            self._lines.unfinished = b""
            self.problem = f"a line has no end within {LONGEST_LINE} bytes"
            return None
        return lines

    def read_rest(self) -> bytes:
        """Return what has come after the lines that read() returned, whole lines or not; the start of it, if long."""
        return b"\n".join([*(self.read() or []), self._lines.unfinished])

    def ask(self) -> None:
        """Prompt for the next line, where a person types. Wanted once at the start and once for each line."""
        if self._editor:
            self._editor.prompt()

    def show_above(self, output: Callable[[bytes], object], text: bytes) -> None:
        """Write whole lines to the terminal so that a half-typed line stays whole, below them."""
        output(erase_row() + text if self._editor else text)
        self.redraw()

    def redraw(self) -> None:
        """Bring back the prompt and the half-typed line after something was written over them."""
        if self._editor:
            self._editor.redraw()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._editor:
            self._editor.close()

    def _copy(self) -> None:
        with contextlib.suppress(OSError):  # the program ends
            for data in iter(self._next, b""):
                self._feed.sendall(data)
        self._feed.close()

    def _next(self) -> bytes:
        """Return what comes next; b"" at the end."""
        while True:
            wait_for_foreground()
            try:
                return self._editor.read() if self._editor else os.read(0, RECEIVE_SIZE)
            except BlockingIOError:  # somebody else who has this file set it so
                takes_input(None)
            except (EOFError, OSError) as error:
                if not in_background():
                    self.problem = reason(error) if isinstance(error, OSError) else ""
                    return b""


class LineEditor:
    """The row of a terminal in which a person types, below all that is shown.

    readline edits the line, and this draws it: in one row that scrolls sideways, so that whoever shows something can
    erase it, write, and have it drawn again. Once Enter is pressed, the row is erased, and the whole line is written,
    after the prompt; where there is none, whoever takes the line shows it. Where readline can not be told not to draw
    (it is libedit, or there is no ctypes), or is missing (then the kernel edits), what they show stays.

    Whoever draws the row holds `_pen`, and close() takes it for good, so that nothing touches the terminal after it.
    Writing above the row needs no lock, as the row is drawn again afterwards; so a terminal that stands still never
    makes a program wait for the pen.
    """

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._asked = threading.Event()
        self._pen = threading.Lock()
        self._closed = False
        self._idle = threading.Event()  # no key is being read
        self._idle.set()
        self._reader = 0
        self._redraw_due = False
        self._settings_before: Any = termios.tcgetattr(0) if termios else None
        self._settings_in_use: Any = None
        self._row, self._columns, self._typed = Row(), window_columns(), ""
        self._draws = False
        if readline:
            sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        if is_gnu():
            with contextlib.suppress(ImportError, OSError, AttributeError, ValueError):
                self._readline = Readline(self._draw_at_key, self._look)
                self._draws = True
            if not self._draws:
                readline.set_pre_input_hook(self._pen.release)
            readline.parse_and_bind("set horizontal-scroll-mode on")
            readline.parse_and_bind("set enable-bracketed-paste off")  # it would outlive the program

    def prompt(self) -> None:
        """Let the next line be typed."""
        self._asked.set()
        if not readline:
            self.redraw()

    def read(self) -> bytes:
        """Return what is typed, once it is asked for; without readline, at any time. Raises EOFError and OSError."""
        try:
            if not readline:
                return os.read(0, RECEIVE_SIZE)
            self._asked.wait()
            wait_for_foreground()
            self._pen.acquire()
            self._show("")
            if self._draws:
                self._idle.clear()
                with contextlib.suppress(*TERMINAL_GONE):
                    silence(0)
            if self._draws or not is_gnu():
                self._pen.release()  # else, readline does that when it has drawn the prompt
            self._reader = threading.get_ident()
            line = input(self._prompt)
            if self._draws:
                with self._pen:
                    self._typed = ""
                    self._show(f"{self._prompt}{visible(line)}\n" if self._prompt else "")
            return (line + "\n").encode(errors="surrogateescape")
        finally:
            self._idle.set()
            if not in_background():  # else the line is still to be typed, later
                self._asked.clear()

    def redraw(self) -> None:
        """Bring the row back after something was written over it, if a line is being typed."""
        if not self._asked.is_set():
            return
        if self._draws:
            self._redraw_due = True
            self._wake()
        else:
            with self._pen:
                typed = readline.get_line_buffer() if readline else ""  # what the kernel edits, nobody can know
                if self._prompt or typed:
                    self._show(self._prompt + typed)

    def close(self) -> None:
        """Show what is typed and was not taken, so that it is not lost; leave the terminal as it was."""
        if self._closed:
            return
        self._closed = True
        if not (self._idle.is_set() or in_background()):
            self._wake()
            self._idle.wait(1.0)
        if self._pen.acquire(timeout=1.0) and takes_output():  # neither comes where the terminal stands still
            if readline or not self._asked.is_set():
                self._show("".join([f"Not sent: {line}\n" for line in self._untaken()]))
            else:  # the kernel alone knows what is half-typed: that stays
                self._show("\n", erased=b"")
        self._asked.clear()
        with contextlib.suppress(*TERMINAL_GONE):
            if termios and not in_background():
                termios.tcsetattr(0, termios.TCSANOW, self._settings_before)

    def _untaken(self) -> list[str]:
        """Return the half-typed line and, where readline has the terminal, what was typed after it."""
        if not (readline and self._reader):
            return []
        typed = self._typed if self._draws else readline.get_line_buffer() if self._asked.is_set() else ""
        ahead = b""
        with contextlib.suppress(*TERMINAL_GONE):
            while takes_input(0.0) and not in_background():
                more = os.read(0, RECEIVE_SIZE)
                ahead += more
                if not more or len(ahead) > RECEIVE_SIZE:
                    break
        lines = (typed.encode(errors="surrogateescape") + ahead).replace(b"\r", b"\n").split(b"\n")
        return [visible(line) for line in lines if line]

    def _wake(self) -> None:
        """End readline's wait for a key, so that it looks at what is due."""
        if self._reader:
            signal.pthread_kill(self._reader, signal.SIGWINCH)

    @staticmethod
    def _show(text: str, erased: bytes | None = None) -> None:
        """Write text in place of what was erased; unless told, of the row."""
        with contextlib.suppress(OSError):  # its window is closed
            erased = erase_row() if erased is None else erased
            os.write(1, erased + text.encode(sys.stdout.encoding, "backslashreplace"))

    def _draw(self, erased: bytes | None = None) -> None:
        prompt, before, after = self._readline.line()
        self._typed, self._redraw_due = before + after, False
        self._show(self._row.draw(prompt + visible(before), visible(after), self._columns), erased)

    def _draw_at_key(self) -> None:
        with self._pen:
            self._draw()

    def _look(self) -> None:
        """Do what is due between two keys: stop reading; draw the row again."""
        if self._closed:
            self._typed = "".join(self._readline.line()[1:])
            self._idle.set()
            threading.Event().wait()  # for the end of the program
        wait_for_foreground()
        with self._pen, contextlib.suppress(*TERMINAL_GONE):
            settings = termios.tcgetattr(0)
            self._settings_in_use = self._settings_in_use or settings
            if settings != self._settings_in_use:  # a shell's, after Ctrl-Z, fg
                termios.tcsetattr(0, termios.TCSANOW, self._settings_in_use)
                self._redraw_due = True
            before, self._columns = self._columns, window_columns()
            if self._redraw_due or self._columns != before:
                self._draw(None if self._redraw_due else self._row.erase(self._columns))


def wait_for_foreground() -> None:
    """Wait while another job owns the terminal, so that reading from it fails."""
    while in_background():
        time.sleep(0.2)  # nothing tells a program that it is in the foreground again


def takes_input(seconds: float | None) -> bool:
    """Wait until standard input, a terminal or a pipe, has something, `seconds` at most; tell whether it has."""
    return bool(select.select([0], [], [], seconds)[0])


def takes_output(descriptor: int = 1, seconds: float = 0.0) -> bool:
    """Wait until a file takes something, `seconds` at most; tell whether it does, as far as the system can tell."""
    if not hasattr(select, "poll"):  # Windows, which can tell it of sockets alone
        return True
    poll = select.poll()  # unlike select.select(), it takes descriptors above 1023
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
