"""All: the protocol's words, the command line, the error line, and `run()`."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import sys
import threading

from rows import fold, window_columns
from text import RED, TYPE_CHECKING, has_colours, paint, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

VERSION = "1.1"

TERMINATE, EXIT = b"terminate", b"exit"
"""What a client says to end its own conversation, and to stop the server; nothing else is a command."""
WORDS = frozenset((TERMINATE, EXIT))
CONFIRMATION = b"Message received: "
SHUTTING_DOWN = b"Server shutting down..."
TOO_LONG = b"Error: message longer than %d bytes"
FULL = b"Error: the server is full (%d clients)"
TOO_MANY = b"Error: too many connections from %s"
NOT_OBEYED = b"Error: 'exit' is not obeyed from %s"
NOT_SAVED = b"Error: the message could not be saved"
REFUSALS = tuple(reply.partition(b"%")[0] for reply in (TOO_LONG, FULL, TOO_MANY, NOT_OBEYED, NOT_SAVED))
"""How a server begins to say that it does not do what it was asked."""
OWN_REPLIES = (CONFIRMATION, SHUTTING_DOWN, *REFUSALS)
"""How whatever a server says of itself begins."""
OWN_BEGINNINGS = frozenset(reply[0] for reply in OWN_REPLIES)
"""The first byte of each, which is a quicker test, and mostly enough."""

MAX_DATAGRAM = 65507
"""Bytes of payload in the largest UDP datagram over IPv4: 65535 less the IP and UDP headers (RFC 768, RFC 791)."""


class Failure(Exception):
    """What keeps a script from going on, told in one line to the person who runs it: what failed, where, what to do."""


HELP_FORMAT = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)
"""Keeps the lines of the examples. The width is fixed: to ask the terminal for its own, argparse would load shutil."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose help fits on a screen, and whose errors are one line."""

    def __init__(self, arguments: str, description: str, *examples: str) -> None:
        """Take the names of the arguments, a description, and examples: each the arguments of a command that works."""
        super().__init__(usage=f"%(prog)s [options] {arguments}", description=description, formatter_class=HELP_FORMAT)
        shown = "".join(f"\n  python3 {self.prog} {example}" for example in examples)
        self.epilog = f"examples (docs/reference.md has the rest):{shown}"
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


def check_tls_options(parser: Parser, options: argparse.Namespace, is_wanted: bool, needs: str) -> None:
    """End with an error if TCP's options about TLS do not go together; `needs` is what those need that need TLS."""
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    if (options.tls_ca or options.tls_cert) and not is_wanted:
        parser.error(needs)
    if is_wanted and options.udp_port is not None:
        parser.error("--udp-port does not go with TLS: UDP would carry in clear what TCP protects")


def reason(error: Exception) -> str:
    """Return what an error is, in words."""
    return getattr(error, "strerror", None) or str(error)


def error_line(problem: str) -> str:
    """Return a problem as one line for standard error; on a terminal, in rows of which none looks like another line."""
    line = visible(f"{os.path.basename(sys.argv[0])}: error: {problem}")
    if sys.stderr is not None and sys.stderr.isatty():
        line = fold(line, window_columns(2))
    return paint(line, RED) if has_colours(sys.stderr) else line


def report(problem: str) -> None:
    """Print a problem as one line on standard error, where there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody is left to be told
            print(error_line(problem), file=sys.stderr, flush=True)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script and exit with its code: 1 after a Failure, 130 after Ctrl-C; never a traceback for either."""
    for descriptor in range(3):  # the next socket would take the place of a closed one, and get what we print
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        code = main()
    except Failure as failure:
        report(str(failure))
        code = 1
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        report(f"cannot start: {reason(error)}; raise the limit on them (ulimit -n)")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
