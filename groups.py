"""Servers: multicast groups that a UDP server hears (`--group`)."""

from __future__ import annotations

import ipaddress
import socket
import struct

from common import Failure, reason
from text import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from common import Parser


def check_groups(parser: Parser, options: argparse.Namespace) -> None:
    """Have the server listen where datagrams to the groups arrive; end with an error for what is none."""
    is_ipv6 = False
    for group in options.group:
        try:
            address = ipaddress.ip_address(group.partition("%")[0])
        except ValueError as error:
            parser.error(f"--group: {error}")
        if not address.is_multicast:
            parser.error(f"--group: {group} is no multicast address, such as 239.1.2.3 or ff02::114%eth0")
        is_ipv6 |= address.version == 6
    if options.host == parser.get_default("host"):
        options.host = "::" if is_ipv6 else "0.0.0.0"  # what is sent to a group comes to no other address
    elif options.host not in ("::", "0.0.0.0"):
        parser.error(f"--group does not go with --host {options.host}, which hears no group; leave it out")
    elif is_ipv6 and options.host == "0.0.0.0":
        parser.error("--group of IPv6 does not go with --host 0.0.0.0; leave it out, or give ::")


def join(endpoint: socket.socket, group: str) -> None:
    """Have a socket hear a group, at an interface if one is named. Raises Failure."""
    address, _, interface = group.partition("%")
    packed = ipaddress.ip_address(address).packed
    try:
        index = socket.if_nametoindex(interface) if interface else 0
        if len(packed) == 4:  # struct ip_mreqn of ip(7): the group, an own address, an interface
            request = packed + bytes(4) + struct.pack("=i", index)
            endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = packed + struct.pack("=I", index)
            endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    except OSError as error:
        cure = f"check the name {interface}" if interface else f"name the interface, as in {address}%eth0"
        raise Failure(f"cannot join the group {group}: {reason(error)}; {cure}") from error
