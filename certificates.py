"""All: what is wrong with the files of a certificate and its key, in words, and how long a certificate is good."""

from __future__ import annotations

import calendar
import os
import re
import ssl
import time

from common import Failure, reason

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
VERSION, UTC_TIME = 0xA0, 0x17
"""Tags in a certificate (RFC 5280): of its version, which may be missing, and of a time whose year has two digits."""


def read_pem(path: str) -> str:
    """Return what is in a file. Raises Failure, which says why it can not be read, and by whom."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY), encoding="ascii", errors="replace") as file:
            return file.read()
    except PermissionError as error:
        raise may_not_read(path) from error
    except OSError as error:
        raise Failure(f"cannot read {path}: {reason(error)}; check the name") from error


def may_not_read(path: str) -> Failure:
    """Return what to say of a file that this program's user may not read."""
    return Failure(f"cannot read {path}: permission denied for {this_user()}; let that user read it")


def this_user() -> str:
    """Return the name of the user that this program runs as, as far as the system has one."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except ImportError:  # Windows
        return os.environ.get("USERNAME", "this user")
    except KeyError:
        return f"the user {os.geteuid()}"


def failure_of(certificate: str, key: str, problem: str) -> Failure:
    """Return which of two files is to blame for a problem that OpenSSL has with them, and what is wrong with it."""
    try:
        if not CERTIFICATE.search(read_pem(certificate)):
            return Failure(f"cannot use {certificate}: it holds no certificate in PEM; name the file that does")
        if "PRIVATE KEY-----" not in read_pem(key):
            return Failure(f"cannot use {key}: it holds no private key in PEM; name the file that does")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        return Failure(f"cannot use {certificate}: its certificate is damaged; copy or make it again")
    except Failure as failure:
        return failure
    if "mismatch" in problem:
        why = f"the key in {key} belongs to another (mismatch); give a certificate and the key that it was made with"
        return Failure(f"cannot use the certificate in {certificate}: {why}")
    return Failure(f"cannot use {key}: {problem}; copy or make it again")


def good_until(path: str) -> float | None:
    """Return when the first certificate in a file expires, in seconds since 1970; None if it does not say."""
    found = CERTIFICATE.search(read_pem(path))
    try:
        return expiry(ssl.PEM_cert_to_DER_cert(found[0])) if found else None
    except (ValueError, IndexError):
        return None


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
