"""Servers: who may come in, by address (`--allow`, `--proxy-from`), and how many of one (`--max-per-address`)."""

from __future__ import annotations

import collections
import ipaddress

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Union

    from record import Record

    Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Gate:
    """Who may come in, by address. Whoever may not is shown, and then counted."""

    def __init__(self, networks: list[Network] | None, record: Record) -> None:
        """Admit who is in one of the networks; everybody if there are none."""
        self._networks = networks
        self._record = record

    def is_open(self) -> bool:
        """Tell whether everybody may come in."""
        return not self._networks

    def check(self, host: str) -> bool:
        """Tell whether a host, an IPv4 or IPv6 address, may come in; show one that may not."""
        if not self._networks:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        if any(address in network for network in self._networks):
            return True
        self._record.repeatable("Refused", host, f"[Server] Refused {host}: it is in no network that may come in")
        return False


class Crowd:
    """How many connections each address has."""

    def __init__(self, most: int) -> None:
        """Take how many one may have."""
        self.most = most
        self._hosts: dict[object, str] = {}
        self._counts: collections.Counter[str] = collections.Counter()

    def enter(self, connection: object, host: str) -> bool:
        """Count a connection for a host, unless that has as many as it may; tell whether it was counted."""
        has_room = self._counts[host] < self.most
        if has_room:
            self._counts[host] += 1
            self._hosts[connection] = host
        return has_room

    def leave(self, connection: object) -> None:
        """Count a connection no longer, if it was counted."""
        host = self._hosts.pop(connection, None)
        if host is not None:
            self._counts[host] -= 1
            if not self._counts[host]:
                del self._counts[host]
