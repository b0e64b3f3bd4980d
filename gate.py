"""Servers: who may come in, by address."""

from __future__ import annotations

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

    def check(self, host: str) -> bool:
        """Tell whether a host, an IPv4 or IPv6 address, may come in; show one that may not."""
        if not self._networks:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        if any(address in network for network in self._networks):
            return True
        self._record.repeatable("Refused", host, f"[Server] Refused {host}: it is in no network that may come in")
        return False
