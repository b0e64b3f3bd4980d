"""What all four scripts share: the protocol's words, arguments, addresses, safe text and typed lines.

Nothing here knows TCP from UDP, or a server from a client.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import select
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False
"""As in `typing`, which alone would take a seventh of the time that a client takes to start."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TextIO
try:
    import readline
except ImportError:  # Windows, and a Python built without it
    readline = None  # type: ignore[assignment]
try:
    import termios
except ImportError:  # Windows
    termios = readline = None  # type: ignore[assignment]
TERMINAL_GONE = (OSError, termios.error) if termios else (OSError,)
"""What is raised where a terminal was, once its window is closed."""

VERSION = "1.0"

TERMINATE = b"terminate"
EXIT = b"exit"
WORDS = frozenset((TERMINATE, EXIT))
CONFIRMATION = b"Message received: "
SHUTTING_DOWN = b"Server shutting down..."
TOO_LONG = b"Error: message longer than %d bytes"
FULL = b"Error: the server is full (%d clients)"
NOT_OBEYED = b"Error: 'exit' is not obeyed from %s"
NOT_SAVED = b"Error: the message could not be saved"
REFUSALS = tuple(reply.partition(b"%")[0] for reply in (TOO_LONG, FULL, NOT_OBEYED, NOT_SAVED))
OWN_REPLIES = (CONFIRMATION, SHUTTING_DOWN, *REFUSALS)
"""How whatever a server says of itself begins."""

MAX_DATAGRAM = 65507
"""Bytes of payload in the largest UDP datagram over IPv4: 65535 less the IP and UDP headers (RFC 768, RFC 791)."""
RECEIVE_SIZE = 32768
"""Bytes read from a stream at once."""

Address = tuple["Any", ...]
"""A socket address as the socket module gives it: host, port and, for IPv6, flow and scope."""


# The command line


class Failure(Exception):
    """What keeps a script from going on, told in one line to the person who runs it: what failed, where, what to do."""


HELP_FORMAT = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)
"""Keeps the lines of the examples. The width is fixed: argparse would load much to find out the terminal's."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose help fits on a screen, and whose errors are one line."""

    def __init__(self, arguments: str, description: str, *examples: str) -> None:
        """Take the names of the arguments, and the arguments of examples that work."""
        super().__init__(usage=f"%(prog)s [options] {arguments}", description=description, formatter_class=HELP_FORMAT)
        self.epilog = "\n".join(["examples:", *(f"  python3 {self.prog} {example}" for example in examples)])
        self.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with 2."""
        report(f"{message} (--help shows how to use it)")
        self.exit(2)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argument type that takes the whole numbers from `least` to `most`."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least or (most is not None and int(text) > most):
            limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return int(text)

    return convert


def seconds(text: str) -> float:
    """Convert an argument to a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= threading.TIMEOUT_MAX:
        limit = f"{threading.TIMEOUT_MAX:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, up to {limit}")
    return value


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script and exit with its code: 1 after a Failure, 130 after Ctrl-C; never a traceback for either."""
    for descriptor in range(3):  # a closed one would be taken by the next socket, which then got what we print
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        code = main()
    except Failure as failure:
        report(str(failure))
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def reason(error: Exception) -> str:
    """Return what an error is, in words."""
    return getattr(error, "strerror", None) or str(error)


def error_line(problem: str) -> str:
    """Return a problem as one line for standard error."""
    line = f"{os.path.basename(sys.argv[0])}: error: {problem}"
    return paint(line, RED) if has_colours(sys.stderr) else line


def report(problem: str) -> None:
    """Print a problem as one line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody is left to be told
            print(error_line(problem), file=sys.stderr, flush=True)


# Addresses


def resolve(host: str, port: int, kind: socket.SocketKind) -> list[tuple[socket.AddressFamily, Address]]:
    """Return every (family, address) that a host's name and a port stand for, in the system's order of preference.

    Raises Failure when there is none.
    """
    try:
        name = host.encode("ascii") if host.isascii() else host  # Python loads what it takes to encode any other name
        found = socket.getaddrinfo(name, port, type=kind)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise Failure(f"cannot find host {visible(host)}: {reason}; check the name or give its address") from error
    return [(family, address) for family, _, _, _, address in found]


def plain_host(host: str) -> str:
    """Return an IPv4 address that an IPv6 socket shows as `::ffff:a.b.c.d` as plain IPv4, any other as it is."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def show_address(address: Address) -> str:
    """Return an address as people write it: `127.0.0.1:9000` or `[::1]:9000`."""
    host = plain_host(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


# Text


def without_ending(message: bytes) -> bytes:
    """Return a message without the line ending at its end."""
    if message.endswith(b"\n"):
        message = message[:-1]
    return message[:-1] if message.endswith(b"\r") else message


def ending(message: bytes) -> bytes:
    """Return the line ending at the end of a message; b"" if it has none."""
    return message[len(without_ending(message)) :]


def visible(text: bytes | str) -> str:
    r"""Return text with everything that could move a cursor, hide or reorder text escaped, as in `\x1b`.

    A line ending at the end of a message, which is given as bytes, is left out.
    """
    if isinstance(text, bytes):
        if text.endswith((b"\n", b"\r")):
            text = without_ending(text)
        if not text.translate(None, PRINTABLE_ASCII):  # most text, and many times faster than str.isprintable()
            return text.decode("ascii")
        text = text.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return text.translate(SHOWN)


PRINTABLE_ASCII = bytes(range(32, 127))
HARMLESS = "\u00a0\u3000\u200c\u200d"
"""Spaces, and the joiners inside emoji and words, which str.isprintable() counts with the control characters."""


class Shown(dict[int, str]):
    """How each character is shown, by its number, as str.translate() takes it; worked out when it is first wanted."""

    LIMIT = 1000
    """Characters that are remembered; a peer could send a million different ones."""

    def __missing__(self, number: int) -> str:
        char = chr(number)
        is_harmless = char.isprintable() or char in HARMLESS
        shown = char if is_harmless else char.encode("unicode_escape").decode("ascii")
        if len(self) < self.LIMIT:
            self[number] = shown
        return shown


SHOWN = Shown()


def split_lines(unfinished: bytes | bytearray, data: bytes) -> tuple[list[bytes], bytes | bytearray]:
    """Split what a stream brought into its finished lines, without their LF, and what is unfinished after them.

    `unfinished` is what the call before returned; b"" at the start. Only `data` is searched and the unfinished line
    grows in place, so a line costs O(n) in however many pieces it arrives.
    """
    lines = data.split(b"\n")
    if unfinished:
        unfinished += lines[0]
        if len(lines) == 1:
            return [], unfinished
        lines[0] = bytes(unfinished)
    last = lines.pop()
    return lines, bytearray(last) if last else b""


# Typed lines


class TypedLines:
    """Lines that a person types or a program pipes in, as a socket that a selector can wait for.

    A daemon thread copies standard input into the socket, since selectors take no files, and on Windows no terminals
    either. It holds no lock of Python's while it waits (it reads the descriptor, not `sys.stdin`), so the program can
    end at any time.
    """

    def __init__(self, prompt: str = "", edits: bool = True) -> None:
        self.socket, self._feed = socket.socketpair()
        self.socket.setblocking(False)
        self.typed = sys.stdin is not None and sys.stdin.isatty()
        self.edited = edits and self.typed and sys.stdout is not None and sys.stdout.isatty()
        self._editor = LineEditor(prompt) if self.edited else None
        self._unfinished: bytes | bytearray = b""
        self.problem = ""
        """Why the input could not be read to its end, if that is so."""
        if hasattr(signal, "SIGTTIN"):
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # a job in the background gets an error instead of a stop

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._copy, name="typed lines", daemon=True).start()

    def read(self) -> list[bytes] | None:
        """Return the lines that are there, without their LF; None once the input has ended."""
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return []
        lines, self._unfinished = split_lines(self._unfinished, data)
        if not data:
            if not self._unfinished:
                return None
            lines, self._unfinished = [bytes(self._unfinished)], b""
        return lines

    def left(self) -> bool:
        """Tell whether there is more, whole lines or not, than read() has returned."""
        return bool(self.read() or self._unfinished)

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
            if self._editor:
                self._editor.wait_until_asked()
            wait_for_foreground()
            try:
                return self._editor.read() if self._editor else os.read(0, RECEIVE_SIZE)
            except BlockingIOError:  # somebody else who has this file set it so
                select.select([0], [], [])
            except EOFError:
                if not in_background():
                    return b""
            except OSError as error:
                if not in_background():
                    self.problem = reason(error)
                    return b""


class LineEditor:
    """The row of a terminal in which a person types, below all that is shown.

    `input()` and readline edit it; without readline, the kernel does. It is one row that scrolls sideways, so that
    whoever shows something can erase it, write, and have it drawn again: by readline, if that can be made to.

    Whoever draws the row holds `_pen`: read() until readline has drawn the prompt, then whoever draws it again, and
    close() for good, so that nothing touches the terminal after it. Writing above the row needs no lock, as the row is
    drawn again afterwards; so a terminal that stands still never makes a program wait for the pen.
    """

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._asked = threading.Event()
        self._pen = threading.Lock()
        self._closed = False
        self._reader = 0
        self._redraw_due = False
        self._redraws_itself = self._tells_when_drawn = False
        self._settings_before: Any = termios.tcgetattr(0) if termios else None
        self._settings_in_use: Any = None
        if readline:
            sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
            if "libedit" not in (readline.__doc__ or ""):
                readline.parse_and_bind("set horizontal-scroll-mode on")
                readline.parse_and_bind("set enable-bracketed-paste off")  # it would outlive the program
                readline.set_pre_input_hook(self._drawn)
                self._tells_when_drawn = True
                self._redraws_itself = self._hook_into_readline()

    def prompt(self) -> None:
        """Let the next line be typed."""
        self._asked.set()
        if not readline:
            self.redraw()

    def wait_until_asked(self) -> None:
        """Wait until the next line may be typed; without readline, it may at any time."""
        if readline:
            self._asked.wait()

    def read(self) -> bytes:
        """Return what is typed next. Raises EOFError and OSError."""
        try:
            if not readline:
                return os.read(0, RECEIVE_SIZE)
            self._reader = threading.get_ident()
            self._pen.acquire()
            self._write(erase_row())
            if not self._tells_when_drawn:
                self._drawn()
            return (input(self._prompt) + "\n").encode(errors="surrogateescape")
        finally:
            if not in_background():  # else the line is still to be typed, later
                self._asked.clear()

    def redraw(self) -> None:
        """Bring the row back after something was written over it, if a line is being typed."""
        if not self._asked.is_set():
            return
        if self._redraws_itself:
            self._redraw_due = True
            if self._reader:
                signal.pthread_kill(self._reader, signal.SIGWINCH)  # ends readline's wait, so that the hook runs
        else:
            with self._pen:
                typed = readline.get_line_buffer() if readline else ""  # what the kernel edits, nobody can know
                if self._prompt or typed:
                    self._write(erase_row() + (self._prompt + typed).encode(sys.stdout.encoding, "replace"))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._closed:
            return
        self._closed = True
        self._asked.clear()
        if self._pen.acquire(timeout=1.0) and takes_output():  # neither comes where the terminal stands still
            self._write(erase_row())
        with contextlib.suppress(*TERMINAL_GONE):
            if termios and not in_background():
                termios.tcsetattr(0, termios.TCSANOW, self._settings_before)

    @staticmethod
    def _write(data: bytes) -> None:
        with contextlib.suppress(OSError):  # its window is closed
            os.write(1, data)

    def _drawn(self) -> None:
        """Let go of the pen, as the prompt is drawn; readline calls this, once for each line."""
        with contextlib.suppress(*TERMINAL_GONE):
            self._settings_in_use = self._settings_in_use or termios.tcgetattr(0)
        self._pen.release()

    def _hook_into_readline(self) -> bool:
        """Make readline draw the row again when `_redraw_due` is set; tell whether that is possible.

        Python's readline module can not force a redraw, and only the thread inside `input()` may do it. So the hook
        that Python calls there while it waits (PyOS_InputHook, "Initialization" in the Python/C manual) calls
        readline's rl_forced_update_display().
        """
        try:
            import ctypes

            library = ctypes.CDLL(getattr(readline, "__file__", None))  # lets other threads run while it draws
            draw = library.rl_forced_update_display
            restore = ctypes.c_void_p.in_dll(library, "rl_deprep_term_function")
            hook = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
        except (ImportError, OSError, AttributeError, ValueError):
            return False

        def redraw_if_due() -> int:
            wait_for_foreground()
            with self._pen, contextlib.suppress(*TERMINAL_GONE):
                if termios.tcgetattr(0) != self._settings_in_use:  # a shell's, after Ctrl-Z, fg
                    termios.tcsetattr(0, termios.TCSANOW, self._settings_in_use)
                    self._redraw_due = True
                if self._redraw_due:
                    self._redraw_due = False
                    self._write(erase_row())  # what readline drew since something was written
                    draw()
            return 0

        restore.value = None  # else what is typed between two lines shows twice; close() restores the terminal
        self._hook = ctypes.CFUNCTYPE(ctypes.c_int)(redraw_if_due)
        hook.value = ctypes.cast(self._hook, ctypes.c_void_p).value
        return True


# Terminals

DIM, RED = "\x1b[2m", "\x1b[31m"
IS_DUMB = os.environ.get("TERM", "dumb") == "dumb"
"""Whether the terminal, if there is one, may know no escape sequences; so it is on Windows."""


def has_colours(output: TextIO | None) -> bool:
    """Tell whether what is written there may be coloured (no-color.org)."""
    return not (IS_DUMB or os.environ.get("NO_COLOR")) and output is not None and output.isatty()


def paint(text: str, colour: str) -> str:
    """Return text in a colour."""
    return f"{colour}{text}\x1b[0m"


def erase_row() -> bytes:
    """Return what empties the row of the terminal in which the cursor is, and takes the cursor to its start."""
    if not IS_DUMB:
        return b"\r\x1b[K"
    import shutil  # few terminals need it, and start faster without

    return b"\r%*s\r" % (shutil.get_terminal_size().columns - 1, b"")


def takes_output(descriptor: int = 1) -> bool:
    """Tell whether a file takes something at once, as far as the system can tell."""
    return os.name != "posix" or bool(select.select([], [descriptor], [], 0)[1])


def wait_for_foreground() -> None:
    """Wait while another job owns the terminal, so that reading from it fails."""
    while in_background():
        time.sleep(0.2)  # nothing tells a program that it is in the foreground again


def in_background(descriptor: int = 0) -> bool:
    """Tell whether another job owns the terminal that a descriptor is, so that reading from it would stop this one."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except (OSError, AttributeError):  # no job control here
        return False
