"""All: lines in TLS, for both ends, without a socket; certificates, and what is wrong with them in words.

TLS works on memory here (ssl.SSLObject): what a socket brought goes in, text comes out; text goes in, what the socket
is to send comes out. An SSLSocket could not end its own direction while the other goes on.
"""

from __future__ import annotations

import contextlib
import ssl

from certificates import failure_of, may_not_read
from common import Failure, reason
from lines import RECEIVE_SIZE, Lines
from text import TYPE_CHECKING, visible

if TYPE_CHECKING:
    from typing import Any

HANDSHAKE = b"\x16"
PROTOCOL_VERSION_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
"""How whatever a TLS client says first begins, and what refuses anything else (RFC 8446, sections 5.1 and 6)."""
RECORD_COST = 192
"""Bytes that a record counts for in a pass, as it may hold a single one."""

ADVICE = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate (--tls-cert and --tls-key)",
    "HANDSHAKE_FAILURE": "the server refuses the handshake; it may want a client certificate (--tls-cert, --tls-key)",
    "ALERT_UNKNOWN_CA": "the server does not trust the CA of this client's certificate (--tls-cert)",
    "CERTIFICATE_EXPIRED": "this client's certificate (--tls-cert) has expired",
}
"""What the person at a client can do, by a part of OpenSSL's name for what the server says of its certificate."""
NO_TLS_ADVICE = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS; leave out --tls",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS; leave out --tls",
}
"""The same, before there was a good handshake; after one, whoever changes a byte on the way could have it given."""
CERTIFICATE_ADVICE = {
    "mismatch": "connect to a name or address that is in it",
    "expired": "the server needs a new one",
    "not yet valid": "check the clocks of both machines",
}
"""The same, by a part of what OpenSSL says of a certificate that it does not trust."""


class NotTls(ssl.SSLError):
    """The peer began with something else."""


class TlsLines(Lines):
    """A stream in TLS on which every message is a line.

    Whatever is done with it may leave something to send: outgoing() has it. Errors are ssl.SSLError; what came before
    one is returned first, and the next call raises it.
    """

    __slots__ = ("_awaits_hello", "_error", "_incoming", "_outgoing", "_tls", "_unencrypted", "ended", "work")
    is_secure = True

    def __init__(self, context: ssl.SSLContext, server_name: str | None = None, ending: str = "lf") -> None:
        """Begin a server's end of a connection; a client's, if it knows the name of the server."""
        super().__init__(ending)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._awaits_hello = server_name is None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, self._awaits_hello, server_name)
        self._unencrypted = bytearray()
        self._error: ssl.SSLError | None = None
        self.ended = False
        """Whether the peer has said that nothing more comes (close_notify)."""
        self.work = 0
        """Bytes that what came last counts for in a pass, besides its own."""

    def greet(self, data: bytes | None = None) -> bool:
        """Take what came of the handshake, b"" for the end of it; tell whether it is done, so that take() may follow.

        A client begins with nothing.
        """
        if data and self._awaits_hello and data[:1] != HANDSHAKE:
            self._outgoing.write(PROTOCOL_VERSION_ALERT)  # OpenSSL itself would wait for more
            raise NotTls(ssl.SSL_ERROR_SSL, "it does not speak TLS")
        if data:
            self._awaits_hello = False
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def take(self, data: bytes) -> list[bytes]:
        """Take what came; return the lines that are finished with it, also those that came with the handshake."""
        return super().take(self.decode(data))

    def decode(self, data: bytes) -> bytes:
        """Take what came; return the text in it, also what came with the handshake."""
        self._incoming.write(data)
        return self._decrypt()

    def end(self) -> list[bytes]:
        """Note that the socket brings nothing more; return what is left. Raises ssl.SSLError if it was cut short."""
        self._incoming.write_eof()
        return [*super().take(self._decrypt()), *self.cut()]

    def pack(self, messages: list[bytes], start: bytes = b"") -> bytes:
        """Return what to send so that messages arrive. What TLS can not take before the peer has said more is kept."""
        self._unencrypted += super().pack(messages, start)
        return self.outgoing()

    def outgoing(self) -> bytes:
        """Return what to send now: text, and what TLS itself has to say."""
        if self._unencrypted and self._error:
            raise self._error
        if self._unencrypted:
            with contextlib.suppress(ssl.SSLWantReadError):  # the peer has to finish a handshake message first
                del self._unencrypted[: self._tls.write(self._unencrypted)]
        return self._outgoing.read()

    def unsent(self) -> int:
        """Return how many bytes of text TLS could not take yet."""
        return len(self._unencrypted)

    def finish(self) -> bytes:
        """Return what tells the peer that nothing more comes (close_notify)."""
        with contextlib.suppress(ssl.SSLError):  # it waits for the peer's; or there was no handshake
            self._tls.unwrap()
        return self._outgoing.read()

    def subject(self) -> str:
        """Return the subject of the peer's certificate, safe to show; "" if it has none."""
        try:
            certificate = self._tls.getpeercert() or {}
        except ValueError:  # the ssl module wants UTF-8 in it
            return "its certificate cannot be shown"
        names: Any = certificate.get("subject", ())
        return visible(", ".join(f"{kind}={value}" for name in names for kind, value in name))

    def _decrypt(self) -> bytes:
        if self._error:
            raise self._error
        text: list[bytes] = []
        try:
            while not self.ended:
                text.append(self._tls.read(RECEIVE_SIZE))
                self.ended = not text[-1]
                if not (self._incoming.pending or self._tls.pending() or self._incoming.eof):
                    break  # to be told by an error that there is no more takes as long as to decrypt a line
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the peer's close_notify, after ours
            self.ended = True
        except ssl.SSLError as error:
            if was_cut_short(error):
                self._error = ssl.SSLEOFError(error.errno, "the TLS stream was cut short")
            else:
                self._error = ssl.SSLError(error.errno, f"TLS failed: {in_words(error)}")
                self._error.reason = error.reason  # explain() looks for it
            if not any(text):
                raise self._error from error
        self.work = RECORD_COST * len(text)
        return b"".join(text)


def server_context(certificate: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """Return what a server needs for TLS; with a CA's file, clients have to show a certificate. Raises Failure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # nobody comes back with one
    load_certificate(context, certificate, key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise failure_of_ca(client_ca, error) from error
    return restricted(context)


def client_context(server_ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Return what a client needs for TLS; with a file, it trusts that CA or certificate alone. Raises Failure."""
    try:
        context = ssl.create_default_context(cafile=server_ca)
    except OSError as error:
        raise failure_of_ca(server_ca or "the system's CAs", error) from error
    if certificate and key:
        load_certificate(context, certificate, key)
    return restricted(context)


def restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return a context without what is old, or costs the other side more than it costs a peer."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # Python 3.9 takes a cut stream for a whole one
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have a context show a certificate, which has this key; both are names of PEM files. Raises Failure."""

    def refuse_passphrase() -> str:
        raise Failure(f"the key in {key} needs a passphrase; save it without (openssl pkey)")

    try:
        context.load_cert_chain(certificate, key, refuse_passphrase)
    except (OSError, ValueError) as error:
        raise failure_of(certificate, key, in_words(error)) from error


def failure_of_ca(path: str, error: OSError) -> Failure:
    """Return why the certificates in a file can not be trusted."""
    if isinstance(error, PermissionError):
        return may_not_read(path)
    return Failure(f"cannot use {path}: {in_words(error)}; give CA certificates, PEM")


def in_words(error: Exception) -> str:
    """Return what OpenSSL found wrong."""
    text = getattr(error, "verify_message", None) or getattr(error, "reason", None) or reason(error)
    return str(text).replace("_", " ").lower()


def was_cut_short(error: Exception) -> bool:
    """Tell whether an error says that the stream ended without the end of TLS, as when a connection breaks."""
    return isinstance(error, ssl.SSLEOFError) or "UNEXPECTED_EOF" in (getattr(error, "reason", None) or "")


def is_refusal(error: ssl.SSLError) -> bool:
    """Tell whether a server does not want this client's certificate; in TLS 1.3 it may say so after the handshake."""
    return any(sign in (error.reason or "") for sign in ADVICE)


def explain(error: ssl.SSLError, server: str, greeted: bool = False) -> str:
    """Return what went wrong between a client and a server, after a good handshake or not, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = error.verify_message.rstrip(".")
        unknown = "name its CA, or the certificate itself, with --tls-ca"
        advice = next((advice for sign, advice in CERTIFICATE_ADVICE.items() if sign in problem), unknown)
        return f"cannot trust the certificate of {server}: {problem}; {advice}"
    if was_cut_short(error):
        return f"connection to {server} lost: it was cut short, without the end of TLS"
    if greeted and not is_refusal(error):
        return f"connection to {server} lost: {in_words(error)}"
    known = {**ADVICE, **NO_TLS_ADVICE}.items()
    why = next((advice for sign, advice in known if sign in (error.reason or "")), in_words(error))
    return f"TLS with {server} failed: {why}"
