"""Clients: where to: HOST and PORT as people write them, and which address of one's own to go out from."""

from __future__ import annotations

import argparse
import errno
import socket

from common import Parser, reason, whole_number
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    from text import Address

    Sources = dict[int, Address | None]
    """The families that may be used, each with the address of one's own that its sockets are bound to, if any."""

LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
"""Where the server is, by the first family that may be used, if nothing says otherwise."""
OWN_CURES = {
    errno.EADDRNOTAVAIL: "this machine has no such address; --source takes one of its own",
    errno.EADDRINUSE: "the port is in use; --source takes another one, or an address alone",
    errno.EACCES: "the port needs more rights; --source takes one of 1024 or above, or an address alone",
}


def add_arguments(parser: Parser, port: int) -> None:
    """Add what says where to go; the server's port is `port` if nothing says otherwise."""
    parser.add_argument("host", metavar="HOST", nargs="?", help="the server's address or name (127.0.0.1)")
    parser.add_argument("port", metavar="PORT", nargs="?", help=f"the server's port ({port}); or write HOST:PORT")
    group = parser.add_argument_group("the way there")
    group.add_argument("--source", metavar="ADDRESS[:PORT]", type=sources, help="go out from this address of one's own")
    either = group.add_mutually_exclusive_group()
    for option, family in (("-4", socket.AF_INET), ("-6", socket.AF_INET6)):
        text = f"use only IPv{option[1:]} addresses of a name"
        either.add_argument(option, dest="family", action="store_const", const=family, help=text)


def settle(parser: Parser, options: argparse.Namespace, port: int) -> None:
    """Have `options` say which host, port, family (0: any) and sources; end with an error where they make no sense."""
    try:
        host, given = place(options.host, options.port)
        options.port = port if given is None else whole_number(1, 65535)(given)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument HOST or PORT: {error}")
    found: Sources = options.source or dict.fromkeys(LOOPBACK)
    options.source = {family: own for family, own in found.items() if family == (options.family or family)}
    if not options.source:
        parser.error("argument --source: its address is not of the family that -4 or -6 says")
    options.family = 0 if len(options.source) > 1 else next(iter(options.source))
    options.host = host or LOOPBACK[next(iter(options.source))]


def place(host: str | None, port: str | None) -> tuple[str, str | None]:
    """Return the host, "" for none, and the port that two arguments say. Raises ArgumentTypeError."""
    if host is None:
        return "", None
    if port is None and host.isdigit():
        return "", host
    name, port_after = split(host)
    if port_after is not None and port is not None:
        raise argparse.ArgumentTypeError(f"{host} has a port, and {port} is a second one; leave out one of them")
    if not name and port_after is None:
        raise argparse.ArgumentTypeError("the host's name is empty; leave it out, or give one")
    return name, port if port_after is None else port_after


def split(text: str) -> tuple[str, str | None]:
    """Take `HOST:PORT`, `[HOST]:PORT`, `:PORT`, `HOST` or `[HOST]` apart. Raises ArgumentTypeError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not (rest == "" or rest.startswith(":")):
            raise argparse.ArgumentTypeError(f"{text!r} is not [ADDRESS] or [ADDRESS]:PORT")
        return host, rest[1:] if rest else None
    if text.count(":") != 1:  # an IPv6 address has more
        return text, None
    host, _, port = text.partition(":")
    return host, port


def sources(text: str) -> Sources:
    """Convert the argument `ADDRESS`, `ADDRESS:PORT` or `:PORT` to what sockets are bound to, by family."""
    host, port = split(text)
    number = 0 if port is None else whole_number(0, 65535)(port)
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    try:
        if host.isdigit() or not text:
            raise OSError("a number alone is no address of anybody's own")
        found = socket.getaddrinfo(host or None, number, flags=flags)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS, ADDRESS:PORT or :PORT") from error
    return {family: address for family, _, _, _, address in found}


def go_out_from(unbound: socket.socket, own: Sources) -> None:
    """Bind a socket to what was said of its family, if anything was. Raises OSError."""
    address = own[unbound.family]
    if address is None:
        return
    try:
        unbound.bind(address)
    except OSError as error:
        why = interface_cure(error, address) or OWN_CURES.get(error.errno or 0, reason(error))
        where = show_address(address) if address[1] else address[0]
        raise OSError(f"cannot go out from {where}: {why}") from error


def interface_cure(error: OSError, address: Address) -> str:
    """Return what to do about an address that means nothing without its interface (RFC 4291); "" if it is not that."""
    if error.errno != errno.EINVAL or not address[0].startswith("fe80:") or address[3]:
        return ""
    names = [name for _, name in socket.if_nameindex()]
    return f"this address is one of a single network; add its interface, as in {address[0]}%{names[-1]}"
