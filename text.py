"""All: how messages and addresses are shown, and what is safe to show."""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
"""As in `typing`, which alone would take a seventh of the time that a client takes to start."""
if TYPE_CHECKING:
    from typing import Any, TextIO

    Address = tuple[Any, ...]
    """A socket address as the socket module gives it: host, port and, for IPv6, flow and scope."""

DIM, RED = "\x1b[2m", "\x1b[31m"
IS_DUMB = os.environ.get("TERM", "dumb") == "dumb"
"""Whether the terminal, if there is one, may know no escape sequences; so it is on Windows."""
PRINTABLE_ASCII = bytes(range(32, 127)) + b"\t"
BACKSLASH = "\ud800"
"""Stands for one while others are made of what is not UTF-8: half of a surrogate pair that no bytes are decoded to."""


def without_ending(message: bytes) -> bytes:
    """Return a message without the line ending at its end."""
    if message.endswith(b"\n"):
        message = message[:-1]
    return message[:-1] if message.endswith(b"\r") else message


def ending(message: bytes) -> bytes:
    """Return the line ending at the end of a message; b"" if it has none."""
    return message[len(without_ending(message)) :]


def visible(text: bytes | str) -> str:
    r"""Return text with all escaped that could move a cursor, or reorder text, or that shows nothing, as in `\x1b`.

    A tab stays a tab. A line ending at the end of a message, which is given as bytes, is left out.
    """
    if isinstance(text, bytes):
        if text.endswith((b"\n", b"\r")):
            text = without_ending(text)
        if not text.translate(None, PRINTABLE_ASCII):  # most text, and many times faster than str.isprintable()
            return text.decode("ascii")
        text = as_text(text)
    if text.isascii() and not text.encode().translate(None, PRINTABLE_ASCII):
        return text
    from characters import shown  # which takes a while to load, and which most conversations do not need

    return shown(text)


def as_text(data: bytes) -> str:
    """Return the text that bytes are, with those escaped that are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:  # "backslashreplace" would take four times as long as this
        text = data.decode("utf-8", "surrogateescape").replace("\\", BACKSLASH)
        escaped = text.encode("utf-8", "backslashreplace").replace(rb"\udc", rb"\x").replace(rb"\ud800", b"\\")
        return escaped.decode("utf-8")


def has_colours(output: TextIO | None) -> bool:
    """Tell whether what is written there may be coloured (no-color.org)."""
    return not (IS_DUMB or os.environ.get("NO_COLOR")) and output is not None and output.isatty()


def paint(text: str, colour: str) -> str:
    """Return text in a colour."""
    return f"{colour}{text}\x1b[0m"


def resolve(
    host: str, port: int, kind: socket.SocketKind, family: int = 0, flags: int = 0
) -> list[tuple[socket.AddressFamily, Address]]:
    """Return every (family, address) that a host's name and a port stand for, in the system's order of preference.

    Family and flags are those of getaddrinfo(3). Raises OSError, which says so in words, when there is none.
    """
    try:
        name = host.encode("ascii") if host.isascii() else host  # Python loads what it takes to encode any other name
        found = socket.getaddrinfo(name, port, family, kind, 0, flags)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        cure = "whether it has an address of the family that is asked for" if family else "give its address"
        if "%" in host:
            cure = "whether this machine has the interface after the '%'"
        raise OSError(f"cannot find host {visible(host)}: {why}; check the name or {cure}") from error
    return [(family, address) for family, _, _, _, address in found]


def plain_host(host: str) -> str:
    """Return an IPv4 address that an IPv6 socket shows as `::ffff:a.b.c.d` as plain IPv4, any other as it is."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def show_address(address: Address) -> str:
    """Return an address as people write it: `127.0.0.1:9000`, `[::1]:9000` or `[fe80::1%eth0]:9000`."""
    host = plain_host(address[0])
    if ":" not in host:
        return f"{host}:{address[1]}"
    if len(address) > 3 and address[3] and "%" not in host:  # of use only with the interface that leads there
        try:
            host += f"%{socket.if_indextoname(address[3])}"
        except OSError:  # it is gone
            host += f"%{address[3]}"
    return f"[{host}]:{address[1]}"


def shown_host(shown: str) -> str:
    """Return the host of an address that show_address() has written."""
    return shown.rpartition(":")[0].strip("[]")
