"""Clients: the command line: HOST and PORT as people write them, and the options that both take."""

from __future__ import annotations

import argparse
import collections
import socket
import sys

from common import Parser, seconds, whole_number
from text import TYPE_CHECKING

if TYPE_CHECKING:
    from text import Address

    Sources = dict[int, Address | None]
    """The families that may be used, each with the address of one's own that its sockets are bound to, if any."""

LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
"""Where the server is, by the first family that may be used, if nothing says otherwise."""


def add_arguments(parser: Parser, port: int) -> None:
    """Add the arguments that both clients take; the server's port is `port` if nothing says otherwise."""
    parser.add_argument("host", metavar="HOST", nargs="?", help="the server's address or name (127.0.0.1)")
    parser.add_argument("port", metavar="PORT", nargs="?", help=f"the server's port ({port}); or write HOST:PORT")
    group = parser.add_argument_group("the way there")
    group.add_argument("--source", metavar="ADDRESS[:PORT]", type=sources, help="go out from this address of one's own")
    either = group.add_mutually_exclusive_group()
    for option, family in (("-4", socket.AF_INET), ("-6", socket.AF_INET6)):
        text = f"use only IPv{option[1:]} addresses of a name"
        either.add_argument(option, dest="family", action="store_const", const=family, help=text)
    add = parser.add_argument_group("messages").add_argument
    add("-m", "--message", metavar="TEXT", action="append", help="send TEXT, wait for its reply, end; may be repeated")
    timeout = "wait so long for a connection or a reply (5); on a connection, ten times so long while other things come"
    add("--timeout", metavar="SECONDS", type=seconds, default=5.0, help=timeout)
    add("--no-reply", action="store_true", help="expect no replies: the server runs with --reply none")
    add("--any-reply", action="store_true", help="each line that comes answers the oldest message that waits")
    add("--stay", action="store_true", help="stay after the end of the input, and show what comes")
    add("--no-words", action="store_true", help="no line is a command: 'terminate' and 'exit' are messages")
    add("--rate", metavar="N", type=whole_number(1), help="send at most N messages a second, evenly")
    add("--stats", action="store_true", help="print the summary at the end in any case")


def parse_arguments(parser: Parser, port: int) -> argparse.Namespace:
    """Return what the command line says, with host, port, family (0: any) and sources; end where it makes no sense."""
    others, texts = take_texts(sys.argv[1:])
    options = parser.parse_intermixed_args(others)
    options.message = [*(options.message or ()), *texts]
    if options.any_reply and options.no_reply:
        parser.error("--any-reply waits for replies, and --no-reply expects none; leave out one of them")
    try:
        host, given = host_and_port(options.host, options.port)
        options.port = port if given is None else whole_number(1, 65535)(given)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument HOST or PORT: {error}")
    found: Sources = options.source or dict.fromkeys(LOOPBACK)
    options.source = {family: own for family, own in found.items() if options.family in (None, family)}
    if not options.source:
        parser.error("argument --source: its address is not of the family that -4 or -6 says")
    options.family = 0 if len(options.source) > 1 else next(iter(options.source))
    options.host = host or LOOPBACK[next(iter(options.source))]
    return options


def host_and_port(host: str | None, port: str | None) -> tuple[str, str | None]:
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


def take_texts(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return arguments without those of `-m`, and its texts: argparse would take one with a dash for an option."""
    others: list[str] = []
    texts: list[str] = []
    rest = collections.deque(arguments)
    while rest:
        argument = rest.popleft()
        name, equals, text = argument.partition("=")
        is_named = name == "-m" or (len(name) > 2 and "--message".startswith(name))
        if is_named and (equals or rest):
            texts.append(text if equals else rest.popleft())
        elif argument.startswith("-m") and not is_named:
            texts.append(argument[2:])
        else:
            others.append(argument)
            if argument == "--":  # no options follow
                return [*others, *rest], texts
    return others, texts
