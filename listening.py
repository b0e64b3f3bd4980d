"""Servers: where a server listens: its sockets at this machine's addresses, and which addresses those are."""

from __future__ import annotations

import errno
import ipaddress
import socket

from common import Failure, reason
from text import TYPE_CHECKING, resolve, show_address

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from text import Address

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What a system says of an address that it has not."""


def open_all(
    options: argparse.Namespace,
    port: int,
    kind: socket.SocketKind,
    open_one: Callable[[socket.AddressFamily, Address, bool], socket.socket],
) -> list[socket.socket]:
    """Return a socket for each address of the host in `options`, all with one port. Raises Failure.

    Of a name's addresses, those that this machine has not, such as `::1` without IPv6, are left out.
    """
    try:
        places = dict.fromkeys(resolve(options.host, port, kind))
    except OSError as error:
        raise Failure(str(error)) from error
    opened: list[socket.socket] = []
    missing: list[Failure] = []
    for family, address in places:
        own = (address[0], opened[0].getsockname()[1] if opened else port, *address[2:])  # port 0: which one it took
        try:
            opened.append(open_one(family, own, options.reuse_port))
        except OSError as error:
            missing.append(listen_failure(own, error))
            if error.errno not in NOT_HERE:
                raise missing[-1] from error
    if not opened:
        raise missing[0]
    return opened


def prepare(unbound: socket.socket, address: Address, shares_port: bool) -> None:
    """Set what a socket for an address of this machine needs; `::` takes IPv4, too. Raises OSError and Failure."""
    unbound.setblocking(False)
    if shares_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise Failure("this system does not let programs share a port; leave out --reuse-port")
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")


def listen_failure(address: Address, error: OSError) -> Failure:
    """Return the Failure for an address that can not be listened on."""
    port = address[1]
    cures = {
        errno.EADDRINUSE: f"port {port} is in use; stop the program that has it, or choose another port (0: any)",
        errno.EACCES: f"port {port} needs more rights; choose one of 1024 or above",
        errno.EINVAL: f"{address[0]} is not enough; name the interface, too, as in fe80::1%eth0",
        errno.EADDRNOTAVAIL: "this machine has no such address; --host takes one of its own, 0.0.0.0 or ::",
    }
    return Failure(f"cannot listen on {show_address(address)}: {cures.get(error.errno or 0, reason(error))}")


def is_own_address(host: str) -> bool:
    """Tell whether an address is this machine's: what is sent to such a one also comes from it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback:
        return True
    try:
        family, there = resolve(host, 9, socket.SOCK_DGRAM)[0]  # which knows interfaces by their names
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)  # which sends nothing
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


def is_forged(host: str, own_host: str) -> bool:
    """Tell whether a peer claims to have an address of IPv4, though what it sent came to one of ours over IPv6."""
    return host.startswith("::ffff:") and not own_host.startswith("::ffff:")
