"""Servers: the certificate that a server shows, for how long it is good, and another in its place (`--tls-cert`)."""

from __future__ import annotations

import calendar
import math
import ssl
import time

from certificates import CERTIFICATE, read_pem
from common import Failure
from text import TYPE_CHECKING
from tls import TlsLines, server_context

if TYPE_CHECKING:
    import argparse

    from record import Record

WARN_BEFORE = 14
"""Days before its end from which on a certificate is told of."""
DAY = 86400
"""Seconds."""
VERSION, UTC_TIME = 0xA0, 0x17
"""Tags in a certificate (RFC 5280): of its version, which may be missing, and of a time whose year has two digits."""


class Credentials:
    """Certificate, key and CA as they were last loaded."""

    def __init__(self, options: argparse.Namespace, record: Record, protocol: str) -> None:
        """Load what the options name. Raises Failure."""
        self._files = options.tls_cert, options.tls_key, options.tls_ca
        self._record, self._start = record, f"[{protocol} Server] "
        self._load()

    def new_lines(self, ending: str) -> TlsLines:
        """Return the server's end of another connection, on which this ends a message."""
        return TlsLines(self._context, None, ending)

    def renew(self) -> None:
        """Load the files again, for connections from now on; if they are no good, say so and go on with the old."""
        try:
            self._load()
            self._record.line(f"{self._start}Certificate and key were loaded again.")
        except Failure as failure:
            self._record.line(f"{self._start}Going on with the certificate of before: {failure}", trouble=True)

    def _load(self) -> None:
        self._context = server_context(*self._files)
        path = self._files[0]
        end = good_until(path)
        left = end - time.time()
        if left < WARN_BEFORE * DAY:
            date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
            what = f"expires in {left / DAY:.0f} days, on" if left > 0 else "has expired, on"
            self._record.line(f"{self._start}The certificate in {path} {what} {date}", trouble=True)


def good_until(path: str) -> float:
    """Return when the first certificate in a file expires, in seconds since 1970; never, if it does not say."""
    found = CERTIFICATE.search(read_pem(path))
    try:
        return expiry(ssl.PEM_cert_to_DER_cert(found[0])) if found else math.inf
    except (ValueError, IndexError):
        return math.inf


def expiry(certificate: bytes) -> float:
    """Return when a certificate in DER expires, in seconds since 1970. Raises ValueError and IndexError."""
    at, _ = content(certificate, content(certificate, 0)[0])
    for _ in range(4 if certificate[at] == VERSION else 3):  # version; serial number, algorithm, issuer
        _, at = content(certificate, at)
    _, not_after = content(certificate, content(certificate, at)[0])  # what comes after "not before"
    start, end = content(certificate, not_after)
    form = "%y%m%d%H%M%SZ" if certificate[not_after] == UTC_TIME else "%Y%m%d%H%M%SZ"
    return calendar.timegm(time.strptime(certificate[start:end].decode("ascii"), form))


def content(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element of DER at a place starts and ends (X.690, 8.1). Raises IndexError."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    return start, start + length
