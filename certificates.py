"""All: what is wrong with the files of a certificate and its key, in words."""

from __future__ import annotations

import os
import re
import ssl

from common import Failure, reason

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


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
