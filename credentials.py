"""Servers: the certificate that a server shows, for how long it is good, and another in its place (`--tls-cert`)."""

from __future__ import annotations

import time

from certificates import good_until
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
        left = WARN_BEFORE * DAY if end is None else end - time.time()
        if left < WARN_BEFORE * DAY:
            date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
            what = f"expires in {left / DAY:.0f} days, on" if left > 0 else "has expired, on"
            self._record.line(f"{self._start}The certificate in {path} {what} {date}", trouble=True)
