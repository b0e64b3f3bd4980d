"""Clients: how a server is reached without a wait that blocks: its name is looked up, its addresses race (RFC 8305).

Both are generators: they yield what they wait for, and whoever runs them goes on with them once that is there.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import socket
import threading
import time

from channel import Broken
from common import Failure, reason
from loop import READ, WRITE
from text import TYPE_CHECKING, resolve, show_address, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from arguments import Sources
    from channel import Wait
    from text import Address

    Place = tuple[socket.AddressFamily, Address]
    """One of the addresses that a name stands for."""

ATTEMPT_DELAY = 0.25
"""Seconds that an address has alone before the next one is tried beside it (RFC 8305, section 5)."""
OWN_CURES = {
    errno.EADDRNOTAVAIL: "this machine has no such address; --source takes one of its own",
    errno.EADDRINUSE: "the port is in use; --source takes another one, or an address alone",
    errno.EACCES: "the port needs more rights; --source takes one of 1024 or above, or an address alone",
}


def look_up(
    host: str, port: int, kind: socket.SocketKind, family: int, until: float
) -> Generator[Wait, None, list[Place]]:
    """Return what resolve() returns, by `until`. A thread asks for a name, since nothing else could end that wait."""
    with contextlib.suppress(OSError):  # then it is a name
        return resolve(host, port, kind, family, socket.AI_NUMERICHOST)
    found: list[list[Place] | Exception] = []
    ours, theirs = socket.socketpair()

    def ask() -> None:
        with theirs:  # whose end is what is waited for
            try:
                found.append(resolve(host, port, kind, family))
            except Exception as error:  # which is for the thread that waits
                found.append(error)

    with ours:
        try:
            threading.Thread(target=ask, name="name look-up", daemon=True).start()
        except RuntimeError as error:
            theirs.close()
            raise Failure("cannot look up a name: no thread can be started for it (see ulimit -u)") from error
        while not found and time.monotonic() < until:
            yield {ours.fileno(): READ}, until
    if not found:
        who = "no name server answers in time"
        raise Broken(f"cannot find host {visible(host)}: {who}; check the network, or give the address")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def race(
    places: list[Place], begin: Callable[[Place], socket.socket], until: float, late: str
) -> Generator[Wait, None, tuple[socket.socket, Address]]:
    """Return the first socket that is connected by `until`, and its address; `begin` returns one that is connecting.

    Raises Broken, which says of each address why it is not: what went wrong, or that it is `late`.
    """
    untried = collections.deque(in_turn(places))
    under_way: dict[socket.socket, Address] = {}
    problems: list[str] = []
    delay = min(ATTEMPT_DELAY, (until - time.monotonic()) / max(len(places), 1))  # each gets its turn
    next_at = 0.0
    try:
        while untried or under_way:
            if untried and (not under_way or time.monotonic() >= next_at):
                place = untried.popleft()
                try:
                    under_way[begin(place)] = place[1]
                    next_at = time.monotonic() + delay
                except OSError as error:
                    problems.append(cannot_connect(place[1], error))
                continue
            yield {attempt.fileno(): WRITE for attempt in under_way}, min(until, next_at if untried else until)
            for attempt, address in list(under_way.items()):
                try:
                    if is_connected(attempt):
                        del under_way[attempt]
                        return attempt, address
                except OSError as error:
                    del under_way[attempt]
                    attempt.close()
                    problems.append(cannot_connect(address, error))
                    next_at = 0.0  # at once
            if time.monotonic() >= until:
                break
        problems += [cannot_connect(address, TimeoutError(late)) for address in under_way.values()]
        raise Broken("; ".join(problems))
    finally:
        for attempt in under_way:
            attempt.close()


def in_turn(places: list[Place]) -> list[Place]:
    """Return the addresses of both families in turn, IPv6 first, each family in the system's order (RFC 8305, 4)."""
    newer = [place for place in places if place[0] == socket.AF_INET6]
    older = [place for place in places if place[0] != socket.AF_INET6]
    pairs = itertools.zip_longest(newer, older)
    return [place for pair in pairs for place in pair if place]


def is_connected(attempt: socket.socket) -> bool:
    """Tell whether a socket that is connecting has got there. Raises OSError if it never will."""
    number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))
    try:
        peer = attempt.getpeername()
    except OSError:  # not yet
        return False
    if attempt.getsockname()[:2] == peer[:2]:  # Linux does that when its port is the one asked for
        raise ConnectionRefusedError("it connected to itself")
    return True


def cannot_connect(address: Address, error: OSError) -> str:
    """Return what keeps a connection to an address from being made, and what to do about it."""
    return f"cannot connect to {show_address(address)}: {in_words(error, address)}"


def in_words(error: OSError, address: Address) -> str:
    """Return what keeps an address from being reached, and what to do about it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (start the server, or check the port)"
    return interface_cure(error, address) or reason(error)


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
