"""`proxy_header`: whom a proxy speaks for, in the header that it sends first."""

from __future__ import annotations

import ipaddress
import random
import struct
import unittest

import support  # noqa: F401  # which makes the rooms importable

from proxy_header import MAX_PROXY_HEADER, parse_proxy_header
from text import show_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
LONGEST_V1 = 107
"""Bytes of the longest line of version 1, with its CRLF (section 2.1 of the specification)."""


def v1(host: str, port: int = 5555) -> bytes:
    """Return a header of version 1."""
    family, server = ("TCP6", "::1") if ":" in host else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {host} {server} {port} 9000\r\n".encode()


def v2(host: str, port: int = 5555, extra: bytes = b"") -> bytes:
    """Return a header of version 2, which may have more in it (TLVs) than addresses."""
    packed = ipaddress.ip_address(host).packed
    addresses = packed + packed + struct.pack(">HH", port, 9000) + extra
    return binary(PROXY, 0x11 if len(packed) == 4 else 0x21, addresses)


def binary(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """Return a header of version 2 in pieces: version and command, family and transport, and what follows."""
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(block) if length is None else length) + block


HEADERS = {
    v1("203.0.113.1"): ("203.0.113.1", 5555),
    v1("203.0.113.1", 0): ("203.0.113.1", 0),
    v1("255.255.255.255", 65535): ("255.255.255.255", 65535),
    v1("2001:db8::1"): ("2001:db8::1", 5555),
    v1("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0"): ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0", 5555),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 and whatever it adds\r\n": None,
    b"PROXY UNKNOWN " + b"x" * (LONGEST_V1 - 16) + b"\r\n": None,
    v2("203.0.113.1"): ("203.0.113.1", 5555),
    v2("2001:db8::1", 65535): ("2001:db8::1", 65535),
    v2("203.0.113.1", extra=b"\x04\x00\x01\x00"): ("203.0.113.1", 5555),
    v2("2001:db8::1", extra=bytes(500)): ("2001:db8::1", 5555),
    binary(LOCAL, 0x00, b""): None,
    binary(LOCAL, 0x11, bytes(12)): None,
    binary(LOCAL, 0x31, bytes(216)): None,
    binary(PROXY, 0x00, b"what it adds"): None,
}
"""Valid headers, and the client that each tells of."""
REFUSED = (
    *(b"hello\r\n", b"exit\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\0", b"PROXX", b"proxy TCP4 "),
    *(b"\r\nhello", b"PROXY\r\n", b"PROXY \r\n", b"PROXY  TCP4 203.0.113.1 127.0.0.1 1 2\r\n"),
    b"PROXY TCP4 203.0.113.1 127.0.0.1 1\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2 3\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1 1 65536\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1 -1 2\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1 01 2\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1 \xd9\xa1 2\r\n",
    b"PROXY TCP4 203.0.113.1 127.0.0.1  2\r\n",
    b"PROXY TCP4 203.0.113.256 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 203.0.113.1 127.0.0.1 1 2\r\n",
    b"PROXY TCP6 ::1 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 localhost 127.0.0.1 1 2\r\n",
    b"PROXY TCP5 203.0.113.1 127.0.0.1 1 2\r\n",
    b"PROXY UDP4 203.0.113.1 127.0.0.1 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 203.0.113.1\n127.0.0.1 1 2\r\n",
    b"PROXY TCP4 " + b"1" * LONGEST_V1 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * (LONGEST_V1 - 15) + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * LONGEST_V1,
    binary(0x22, 0x11, bytes(12)),
    binary(0x11, 0x11, bytes(12)),
    binary(0x00, 0x11, bytes(12)),
    binary(PROXY, 0x11, bytes(11)),
    binary(PROXY, 0x21, bytes(35)),
    binary(PROXY, 0x12, bytes(12)),
    binary(PROXY, 0x22, bytes(36)),
    binary(PROXY, 0x31, bytes(216)),
    binary(PROXY, 0xFF, bytes(216)),
    binary(PROXY, 0x11, b"", 65535),
    binary(LOCAL, 0x00, b"", 4081),
)
"""What is no header, or one that does not tell of a TCP client."""


class ParseHeader(unittest.TestCase):
    """`parse_proxy_header` finds the client in a header, and nothing in anything else."""

    def test_valid_headers(self) -> None:
        for header, client in HEADERS.items():
            with self.subTest(header=header):
                self.assertEqual(parse_proxy_header(header), (len(header), client))

    def test_what_follows_is_not_looked_at(self) -> None:
        for header, client in HEADERS.items():
            for more in (b"x", b"\r\n", b"PROXY ", header, bytes(5000)):
                with self.subTest(header=header, more=more[:9]):
                    self.assertEqual(parse_proxy_header(header + more), (len(header), client))

    def test_a_part_of_a_header_waits_for_more(self) -> None:
        for header in HEADERS:
            for length in range(len(header)):
                with self.subTest(header=header, length=length):
                    self.assertIsNone(parse_proxy_header(header[:length]))

    def test_anything_else_is_refused(self) -> None:
        for data in REFUSED:
            with self.subTest(data=data), self.assertRaises(ValueError):
                self.fail(str(parse_proxy_header(data)))

    def test_a_refusal_tells_why_in_words(self) -> None:
        for data in REFUSED:
            with self.subTest(data=data):
                try:
                    parse_proxy_header(data)
                except ValueError as error:
                    self.assertNotIn("unpack", str(error))
                    self.assertTrue(str(error).isprintable(), repr(error))

    def test_mapped_addresses_are_plain_ipv4(self) -> None:
        for header in (v1("::ffff:203.0.113.1"), v1("::ffff:cb00:7101"), v2("::ffff:203.0.113.1")):
            with self.subTest(header=header):
                self.assertEqual(parse_proxy_header(header), (len(header), ("203.0.113.1", 5555)))

    def test_one_address_has_one_name(self) -> None:
        for text in ("2001:DB8::1", "2001:0db8:0:0:0:0:0:1", "2001:db8::0001"):
            self.assertEqual(parse_proxy_header(v1(text)), (len(v1(text)), ("2001:db8::1", 5555)))

    def test_scopes_are_refused(self) -> None:
        for scope in ("%lo", "%1", "%\x1b[2J", "%\0", "%a\0b", "%"):
            with self.subTest(scope=scope), self.assertRaises(ValueError):
                self.fail(str(parse_proxy_header(v1("fe80::1" + scope))))

    def test_garbage(self) -> None:
        chance = random.Random(7)
        headers = [*HEADERS, *REFUSED, v1("fe80::1%a"), SIGNATURE + b"\x21", b"PROXY "]
        for _ in range(30000):
            data = bytearray(chance.choice(headers))
            for _ in range(chance.randrange(4)):
                place = chance.randrange(len(data) + 1)
                some = chance.choice(
                    (chance.randbytes(1), b" ", b"\r\n", b"%", b"9", b":", bytes(chance.randrange(200)))
                )
                data[place : place + chance.randrange(3)] = some
            self.check(bytes(data))

    def check(self, data: bytes) -> None:
        """Check what is true of any bytes: only a ValueError, no endless wait, nothing that was not there."""
        try:
            parsed = parse_proxy_header(data)
        except ValueError:
            return
        if parsed is None:
            limit = MAX_PROXY_HEADER if data.startswith(SIGNATURE) else LONGEST_V1
            self.assertLess(len(data), limit, data)
            return
        length, client = parsed
        self.assertLessEqual(length, min(len(data), MAX_PROXY_HEADER), data)
        self.assertEqual(parse_proxy_header(data[:length]), parsed, data)
        self.assertIsNone(parse_proxy_header(data[: length - 1]), data)
        if client:
            host, port = client
            self.assertEqual(str(ipaddress.ip_address(host)), host, data)
            self.assertIn(port, range(65536), data)
            self.assertTrue(show_address(client).isprintable(), data)


if __name__ == "__main__":
    unittest.main()
