"""Servers: whom a proxy speaks for (`--proxy-from`): the header that it sends before what its client says.

Source: "The PROXY protocol", versions 1 and 2, sections 2.1 and 2.2, haproxy.org.
"""

from __future__ import annotations

import ipaddress

from text import visible

MAX_V1 = 107
"""Bytes of the longest line of version 1, with its CRLF."""
V2 = b"\r\n\r\n\0\r\nQUIT\n"
"""How version 2 begins; a byte each of command and family follow, and two of the length of the rest."""
V2_LOCAL, V2_PROXY = 0x20, 0x21
V2_UNKNOWN, V2_TCP4, V2_TCP6 = 0x00, 0x11, 0x21
MAX_PROXY_HEADER = 4096
"""Bytes of the longest header that is taken."""


def parse_proxy_header(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    """Parse a PROXY protocol header, version 1 or 2, at the start of what a connection brought.

    Returns its length in bytes and the client's (host, port), which is None if the proxy speaks for itself (LOCAL or
    UNKNOWN); or None if more has to arrive. Raises ValueError, which says why, for anything else.
    """
    if data.startswith(V2[: len(data)]):
        return parse_v2(data) if len(data) >= 16 else None
    return parse_v1(data)


def parse_v1(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    """Parse a version 1 header, a line such as `PROXY TCP4 192.0.2.1 192.0.2.9 5555 9000`; see parse_proxy_header()."""
    line, end, _ = data[:MAX_V1].partition(b"\r\n")
    if not line.startswith(b"PROXY "[: None if end else len(line)]):
        raise ValueError("it begins otherwise")
    if not end:
        if len(data) >= MAX_V1:
            raise ValueError(f"longer than {MAX_V1} bytes")
        return None
    length = len(line) + len(end)
    kind, *fields = line.decode("ascii", "replace").split(" ")[1:]
    if kind == "UNKNOWN":
        return length, None
    if kind not in ("TCP4", "TCP6") or len(fields) != 4:
        raise ValueError(f"not understood: {visible(line)}")
    hosts = [ipaddress.ip_address(field) for field in fields[:2]]
    if any(host.version != int(kind[-1]) for host in hosts):
        raise ValueError(f"not {kind}: {visible(line)}")
    for port in fields[2:]:
        if not (port.isdecimal() and port.isascii() and str(int(port)) == port and int(port) <= 65535):
            raise ValueError(f"{visible(port)} is no port")
    return length, (client_host(hosts[0]), int(fields[2]))


def parse_v2(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    """Parse a version 2 header, of which the first 16 bytes are there; see parse_proxy_header()."""
    command, family, length = data[12], data[13], 16 + int.from_bytes(data[14:16], "big")
    if command not in (V2_LOCAL, V2_PROXY):
        raise ValueError(f"unknown version and command {command:#x}")
    if length > MAX_PROXY_HEADER:
        raise ValueError(f"longer than {MAX_PROXY_HEADER} bytes")
    if len(data) < length:
        return None
    if command == V2_LOCAL or family == V2_UNKNOWN:
        return length, None
    size = {V2_TCP4: 4, V2_TCP6: 16}.get(family)
    if size is None or length < 16 + 2 * size + 4:
        raise ValueError(f"no addresses of TCP in it (family {family:#x}, {length} bytes)")
    port = int.from_bytes(data[16 + 2 * size : 18 + 2 * size], "big")
    return length, (client_host(ipaddress.ip_address(data[16 : 16 + size])), port)


def client_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the address of a proxy's client as text, a mapped IPv4 address as plain IPv4. Raises ValueError."""
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a scope means nothing on another machine")
    return str(getattr(address, "ipv4_mapped", None) or address)
