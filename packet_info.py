"""Servers: what the system tells of a datagram besides its bytes: where it was sent to, and over which interface.

Anybody can write any source into a datagram. What came over the loopback interface comes from this machine, whatever it
says; what came over another may come from anywhere.
"""

from __future__ import annotations

import socket
import sys

from listening import is_own_address
from text import plain_host

ANCILLARY_SIZE = 64
"""Bytes that recvmsg needs for it."""
IP_PKTINFO: int | None = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)  # since Python 3.10
LOOPBACK = ("lo", "lo0")
"""Names of the loopback interface."""


def ask_for_packet_info(endpoint: socket.socket) -> bool:
    """Have recvmsg tell where a datagram was sent to and came in (ip(7), ipv6(7)); tell whether the system can."""
    if endpoint.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, getattr(socket, "IPV6_RECVPKTINFO", None)
    else:
        level, option = socket.IPPROTO_IP, IP_PKTINFO
    if option is None or not hasattr(endpoint, "recvmsg"):
        return False
    endpoint.setsockopt(level, option, 1)
    return True


class PacketInfo:
    """What recvmsg told, read from its bytes.

    IPv4: struct in_pktinfo, interface, local address, destination. IPv6: struct in6_pktinfo, address, interface.
    """

    def __init__(self, level: int, kind: int, told: bytes) -> None:
        self._level, self._kind, self._told = level, kind, told
        self._is_ipv4 = level == socket.IPPROTO_IP

    def source(self) -> tuple[int, int, bytes]:
        """Return what has sendmsg answer from the address that was sent to; the route is left to the system."""
        if self._is_ipv4:
            return self._level, self._kind, bytes(4) + self._told[4:8] + bytes(4)
        return self._level, self._kind, self._told[:16] + bytes(4)

    def own_host(self) -> str:
        """Return the address that was sent to; one of IPv4 as this kind of socket shows it."""
        if self._is_ipv4:
            return socket.inet_ntoa(self._told[8:12])
        return socket.inet_ntop(socket.AF_INET6, self._told[:16])

    def is_from_here(self, host: str) -> bool:
        """Tell whether a datagram of this source comes from this machine.

        What came over the loopback interface does. But where it was sent to another of this machine's own addresses,
        link-local ones among them, Linux names the interface that has the address instead. Of IPv4 the source proves it
        then: Linux drops what comes from elsewhere with one of its own addresses (RFC 1812, 5.3.7), whatever rp_filter
        says, unless accept_local is set. Of IPv6 nothing does: there, what is forged so comes in.
        """
        number = int.from_bytes(self._told[:4] if self._is_ipv4 else self._told[16:20], sys.byteorder)
        if any(index == number and name in LOOPBACK for index, name in socket.if_nameindex()):
            return True
        return sys.platform == "linux" and "." in self.own_host() and is_own_address(plain_host(host))
