"""What all four scripts share: the protocol's words, arguments, addresses, safe text and typed lines.

Nothing here knows TCP from UDP, or a server from a client.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, NoReturn

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

Address = tuple[Any, ...]
"""A socket address as the socket module gives it: host, port and, for IPv6, flow and scope."""


# The command line


class Failure(Exception):
    """What keeps a script from going on, told in one line to the person who runs it: what failed, where, what to do."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, description: str, examples: str) -> None:
        super().__init__(description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help shows how to use it)\n")


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
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


def report(problem: str) -> None:
    """Print a problem as one line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody is left to be told
            print(f"{Path(sys.argv[0]).name}: error: {problem}", file=sys.stderr, flush=True)


# Addresses


def resolve(host: str, port: int, kind: socket.SocketKind) -> list[tuple[socket.AddressFamily, Address]]:
    """Return every (family, address) that a host's name and a port stand for, in the system's order of preference.

    Raises Failure when there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=kind)
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
    return "".join([char if char.isprintable() or char in HARMLESS else escaped(char) for char in text])


PRINTABLE_ASCII = bytes(range(32, 127))
HARMLESS = "\u00a0\u3000\u200c\u200d"
"""Spaces, and the joiners inside emoji and words, which str.isprintable() counts with the control characters."""


def escaped(char: str) -> str:
    """Return a character as its escape sequence."""
    return char.encode("unicode_escape").decode("ascii")


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

    Where a person types, `input()` and readline edit the line. Each line is one row that scrolls sideways, so that
    `show_above` can erase it, print above it, and have readline draw it again.
    """

    ERASE_ROW = b"\r\x1b[K"

    def __init__(self, prompt: str = "") -> None:
        self.socket, self._feed = socket.socketpair()
        self.socket.setblocking(False)
        self.typed = sys.stdin is not None and sys.stdin.isatty()
        self.edited = self.typed and sys.stdout is not None and sys.stdout.isatty()
        self._prompt = prompt
        self._unfinished: bytes | bytearray = b""
        self._turn = threading.Semaphore(0)
        self._asked = False
        self._closed = False
        self._drawing = threading.Lock()  # held while the prompt is drawn, and by whoever wants it not to be
        self._tells_when_drawn = False
        self._prompting = self._editing = False
        self._editing_settings: Any = None
        self._redraw_due = False
        self._hook: Any = None
        self._terminal = termios.tcgetattr(0) if self.typed and termios else None
        if hasattr(signal, "SIGTTIN"):
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # a job in the background gets an error instead of a stop
        if self.edited:
            if os.environ.get("TERM") == "dumb":
                TypedLines.ERASE_ROW = b"\r%*s\r" % (os.get_terminal_size(1).columns - 1, b"")
            sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
            self._set_up_readline()
        self._thread = threading.Thread(target=self._copy, name="typed lines", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def read(self) -> list[bytes] | None:
        """Return the lines that are there, without their LF; None once the input has ended."""
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return []
        lines, self._unfinished = split_lines(self._unfinished, data)
        self._asked = False
        if not data:
            if not self._unfinished:
                return None
            lines, self._unfinished = [bytes(self._unfinished)], b""
        return lines

    def ask(self) -> None:
        """Prompt for the next line, where a person types. Wanted once at the start and once for each line."""
        self._asked = True
        if readline:
            self._turn.release()
        else:
            self.redraw()

    def show_above(self, output: Callable[[bytes], object], text: bytes) -> None:
        """Write whole lines so that a half-typed line stays whole, below them."""
        output(self.ERASE_ROW + text if self.edited else text)
        self.redraw()

    def redraw(self) -> None:
        """Bring back the prompt and the half-typed line after something was written over them."""
        if not self.edited or self._closed or not self._asked or not self._thread.is_alive():
            return
        with contextlib.suppress(*TERMINAL_GONE):
            if self._hook:
                self._redraw_due = True
                signal.pthread_kill(self._thread.ident or 0, signal.SIGWINCH)  # ends readline's wait, so the hook runs
            elif not readline:
                os.write(1, self._prompt.encode())  # what is half-typed only the kernel knows
            else:
                with self._drawing:
                    if self._editing:
                        typed = self._prompt + readline.get_line_buffer()
                        os.write(1, self.ERASE_ROW + typed.encode(errors="replace"))

    def close(self) -> None:
        """Leave the terminal as it was."""
        held = self._drawing.acquire(timeout=1.0)  # it takes longer only where the terminal stands still
        self._closed = True
        if held:
            self._drawing.release()
        with contextlib.suppress(*TERMINAL_GONE):
            if self.edited:
                self.edited = False
                os.write(1, self.ERASE_ROW)
            if self._terminal and not in_background():
                termios.tcsetattr(0, termios.TCSANOW, self._terminal)

    def _copy(self) -> None:
        try:
            while True:
                data = self._next()
                if not data:
                    break
                self._feed.sendall(data)
        except OSError:  # the program ends
            return
        self._feed.close()

    def _next(self) -> bytes:
        while sys.stdin is not None:
            while self.typed and in_background():
                time.sleep(0.5)  # nothing tells a program that it is in the foreground again
            try:
                if not self.edited or not readline:
                    return os.read(0, RECEIVE_SIZE)
                self._turn.acquire()
                return (self._edit() + "\n").encode(errors="surrogateescape")
            except (EOFError, OSError):
                if not (self.typed and in_background()):
                    break
                self._turn.release()
        return b""

    def _edit(self) -> str:
        """Return a line from `input()`. While that sets up the terminal and draws the prompt, nobody else may."""
        self._drawing.acquire()
        self._prompting = True
        try:
            if self._closed:
                raise EOFError
            os.write(1, self.ERASE_ROW)
            if not self._tells_when_drawn:
                self._drawn()
            return input(self._prompt)
        finally:
            self._drawn()
            self._editing = False

    def _drawn(self) -> None:
        """Note that the prompt is drawn; readline calls this."""
        if self._prompting:
            self._prompting, self._editing = False, True
            if not self._editing_settings:
                with contextlib.suppress(*TERMINAL_GONE):
                    self._editing_settings = termios.tcgetattr(0)
            self._drawing.release()

    def _set_up_readline(self) -> None:
        """Keep the typed line in one row, and have readline call back when that row is to be drawn again.

        Python's readline module can not force a redraw, and only the thread inside `input()` may do it. So the hook
        that Python calls there while it waits (PyOS_InputHook, "Initialization" in the Python/C manual) calls
        readline's rl_forced_update_display().
        """
        if not readline or "libedit" in (readline.__doc__ or ""):
            return
        readline.parse_and_bind("set horizontal-scroll-mode on")
        readline.parse_and_bind("set enable-bracketed-paste off")  # it would outlive the program
        readline.set_pre_input_hook(self._drawn)
        self._tells_when_drawn = True
        try:
            import ctypes

            library = ctypes.CDLL(getattr(readline, "__file__", None))
            force_redraw = library.rl_forced_update_display
            restore = ctypes.c_void_p.in_dll(library, "rl_deprep_term_function")
            hook = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
        except (ImportError, OSError, AttributeError, ValueError):
            return  # redraw() then writes the line itself

        def redraw_if_due() -> int:
            with contextlib.suppress(*TERMINAL_GONE):
                if not (self._redraw_due or self._is_disturbed()):
                    return 0
                with self._drawing:
                    self._redraw_due = False
                    if not self._closed:
                        os.write(1, self.ERASE_ROW)  # of what readline drew since something was written
                        force_redraw()
            return 0

        restore.value = None  # else what is typed between two lines shows twice; close() restores the terminal
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int)(redraw_if_due)
        hook.value = ctypes.cast(self._callback, ctypes.c_void_p).value
        self._hook = hook

    def _is_disturbed(self) -> bool:
        """Undo what a shell did to the terminal between Ctrl-Z and fg; tell whether it did."""
        if in_background() or termios.tcgetattr(0) == self._editing_settings:
            return False
        termios.tcsetattr(0, termios.TCSANOW, self._editing_settings)
        return True


def in_background() -> bool:
    """Tell whether another job owns the terminal, so that reading from it would stop this one."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except (OSError, AttributeError):  # no job control here
        return False
