#!/usr/bin/env python3
"""TCP client: send each typed line to a server, and show what comes back.

The socket calls, in order: socket, connect; then send and recv; shutdown, to tell that nothing more comes; close.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import socket
import time

from common import (
    RECEIVE_SIZE,
    TYPE_CHECKING,
    Address,
    Failure,
    Parser,
    reason,
    run,
    show_address,
    split_lines,
    whole_number,
)
from common_client import Broken, Channel, Ledger, Session, add_arguments, find

if TYPE_CHECKING:
    import ssl

LONGEST_EXTRA = 1 << 20
"""Bytes by which a line from the server may be longer than the longest message that was sent."""


TLS_PROBLEMS = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate (--tls-cert and --tls-key)",
    "HANDSHAKE_FAILURE": "the server refuses the handshake; it may want a client certificate (--tls-cert, --tls-key)",
    "ALERT_UNKNOWN_CA": "the server does not trust the CA of this client's certificate (--tls-cert)",
    "CERTIFICATE_EXPIRED": "this client's certificate (--tls-cert) has expired",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS; leave out --tls",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS; leave out --tls",
}
"""What a person can do, by a part of OpenSSL's name for the reason."""


class Stream(Channel):
    """A TCP connection, on which every message is a line."""

    protocol = "TCP"
    takes_lines = True
    window = 16384
    window_bytes = 1 << 20
    _is_secure = False

    def __init__(self, host: str, port: int, timeout: float, reconnects: bool) -> None:
        super().__init__(socket.socket(), show_address((host, port)), Ledger())
        self.reconnects = self.down = reconnects
        self._host = host
        self._port = port
        self._timeout = timeout
        self._unsent = bytearray()
        self._unfinished: bytes | bytearray = b""
        self._longest_line = LONGEST_EXTRA

    def reopen(self) -> None:
        """Connect, and send what is not confirmed."""
        plain, self.peer = connect(self._host, self._port, self._timeout)
        connected = self._secure(plain)
        connected.setblocking(False)
        self.socket.close()
        self.socket = connected
        self.active_at = time.monotonic()
        self.down = self.told_goodbye = False
        self._unsent.clear()
        self._unfinished = b""
        again = self.ledger.send_again(self.active_at)
        if again:
            self.send(again)

    def send(self, messages: list[bytes]) -> None:
        """Send messages, a line each; without a connection, leave them to reopen()."""
        if self.down:
            return
        self._unsent += b"\n".join(messages) + b"\n"
        self._longest_line = max(self._longest_line, LONGEST_EXTRA + max(map(len, messages)))
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            del self._unsent[: self._transmit(self._unsent)]
            self.active_at = time.monotonic()
        except BlockingIOError:
            return
        except OSError:  # read() will tell, after what the server said before
            self._unsent.clear()

    def unsent(self) -> int:
        """Return how many bytes are kept."""
        return len(self._unsent)

    def read(self) -> tuple[bytes, list[bytes]]:
        """Return the lines that have arrived."""
        try:
            data = self._receive()
        except BlockingIOError:
            return b"", []
        except OSError as error:
            raise self._explain(error) from error
        if is_tls_alert(data) and not self._is_secure:
            raise Failure(f"{self.peer} speaks TLS; connect with --tls")
        if not data:
            self.ended = True
            last = bytes(self._unfinished)
            return last, [last] if last else []
        lines, self._unfinished = split_lines(self._unfinished, data)
        if len(self._unfinished) > self._longest_line:
            raise Failure(f"{self.peer} sends a line without end; it is no server for lines")
        return b"\n".join([*lines, b""]), lines

    def finish(self) -> None:
        """Half-close: send the end of the stream, and go on reading."""
        with contextlib.suppress(OSError):  # read() will tell
            self.socket.shutdown(socket.SHUT_WR)

    def _transmit(self, data: bytearray) -> int:
        return self.socket.send(data)

    def _receive(self) -> bytes:
        return self.socket.recv(RECEIVE_SIZE)

    def _secure(self, connected: socket.socket) -> socket.socket:
        """Return the socket to talk through, once there is a connection."""
        return connected

    def _explain(self, error: Exception) -> Failure:
        """Return what to tell of an error of the connection."""
        return Broken(f"connection to {self.peer} lost: {reason(error)}")


class TlsStream(Stream):
    """A TCP connection in TLS.

    TLS works on memory here (ssl.SSLObject), as in the server: an SSLSocket that has ended its side of the stream fails
    when the server still has something to say.
    """

    window_bytes = 1 << 16  # servers that hand TLS on to a program (ncat -e) lock up when more is on its way

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.host, options.port, options.timeout, options.reconnect)
        import ssl  # takes longer to load than all the rest

        self._ssl = ssl
        self._is_secure = True
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._encrypted = bytearray()
        try:
            self._context = ssl.create_default_context(cafile=options.tls_ca)
        except OSError as error:
            raise Failure(f"cannot use {options.tls_ca}: {reason(error)}; give a CA's certificate, PEM") from error
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # Python 3.9: a cut stream is no end
        if options.tls_cert:
            load_certificate(self._context, options.tls_cert, options.tls_key)

    def unsent(self) -> int:
        """Return how many bytes are kept, encrypted or not."""
        return len(self._encrypted) + super().unsent()

    def finish(self) -> None:
        """Send the end of the TLS stream (close_notify), and go on reading."""
        if self._tls:
            with contextlib.suppress(OSError, ValueError):  # it waits for the server's close_notify, or is gone
                self._tls.unwrap()
            with contextlib.suppress(OSError):  # read() will tell
                self._send_encrypted()

    def close(self) -> None:
        """Close the connection; tell the server before, if it was not told yet."""
        self.finish()
        super().close()

    def _transmit(self, data: bytearray) -> int:
        taken = 0
        if self._tls and data and not self._encrypted:
            taken = self._tls.write(data)
        self._send_encrypted()
        return taken

    def _receive(self) -> bytes:
        self._take_encrypted(self.socket.recv(RECEIVE_SIZE))
        text: list[bytes] = []
        try:
            while self._tls and all(text):
                text.append(self._tls.read(RECEIVE_SIZE))
        except self._ssl.SSLWantReadError as error:
            if not text:
                raise BlockingIOError from error
        except self._ssl.SSLZeroReturnError:  # the server's close_notify, after ours
            pass
        except self._ssl.SSLError:
            if not text:  # else the next call meets it again
                raise
        finally:
            with contextlib.suppress(OSError):  # the next call will tell, after what has come
                self._send_encrypted()
        return b"".join(text)

    def _take_encrypted(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _send_encrypted(self) -> None:
        self._encrypted += self._outgoing.read()
        if self._encrypted:
            try:
                del self._encrypted[: self.socket.send(self._encrypted)]
            except BlockingIOError:
                return
            except OSError:
                self._encrypted.clear()  # nobody is there to take it
                raise

    def _secure(self, connected: socket.socket) -> socket.socket:
        self._incoming, self._outgoing = self._ssl.MemoryBIO(), self._ssl.MemoryBIO()
        self._encrypted.clear()
        deadline = time.monotonic() + self._timeout
        try:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._host)
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except self._ssl.SSLWantReadError:
                    connected.sendall(self._outgoing.read())
                    connected.settimeout(max(deadline - time.monotonic(), 0.001))
                    self._take_encrypted(connected.recv(RECEIVE_SIZE))
            connected.sendall(self._outgoing.read())
        except (OSError, ValueError) as error:
            self._tls = None
            with contextlib.suppress(OSError):
                connected.sendall(self._outgoing.read())  # the alert that tells the server
            connected.close()
            raise self._explain(error) from error
        return connected

    def _explain(self, error: Exception) -> Failure:
        where = f"{self._host} port {self._port}"
        if isinstance(error, self._ssl.SSLCertVerificationError):
            advice = "name its CA, or the certificate itself, with --tls-ca"
            if "mismatch" in error.verify_message:
                advice = "connect to a name or address that is in it"
            elif "expired" in error.verify_message:
                advice = "the server needs a new one"
            elif "not yet valid" in error.verify_message:
                advice = "check the clocks of both machines"
            return Failure(f"cannot trust the certificate of {where}: {error.verify_message.rstrip('.')}; {advice}")
        if isinstance(error, socket.timeout):
            return Broken(f"no TLS handshake with {where} within {self._timeout:g} s (does the server speak TLS?)")
        why = getattr(error, "reason", None) or ""
        for sign, problem in TLS_PROBLEMS.items():
            if sign in why:
                return Failure(f"TLS with {where} failed: {problem}")
        if isinstance(error, self._ssl.SSLEOFError) or "UNEXPECTED_EOF" in why:
            return Broken(f"connection to {where} lost: it was cut short, without the end of TLS")
        if isinstance(error, self._ssl.SSLError):
            return Failure(f"TLS with {where} failed: {why.replace('_', ' ').lower() or reason(error)}")
        return Broken(f"connection to {where} lost: {reason(error)}")


def is_tls_alert(data: bytes) -> bool:
    """Tell whether this is what a TLS server answers to anything but TLS (RFC 8446, sections 5.1 and 6)."""
    return len(data) == 7 and data[:2] == b"\x15\x03" and data[3:5] == b"\0\2"


def load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have a context show a certificate to servers that ask for one. Raises Failure."""

    def refuse_passphrase() -> str:
        raise Failure(f"the key in {key} needs a passphrase; save it without (openssl pkey)")

    try:
        context.load_cert_chain(certificate, key, refuse_passphrase)
    except (OSError, ValueError) as error:
        why = (getattr(error, "reason", None) or reason(error)).replace("_", " ").lower()
        raise Failure(f"cannot use {certificate} and {key}: {why}; give a certificate and its key, PEM") from error


def connect(host: str, port: int, timeout: float) -> tuple[socket.socket, str]:
    """Connect to the first of a host's addresses that answers within `timeout` seconds; return which, too.

    Raises Broken.
    """
    problems = []
    for family, address in find(host, port, socket.SOCK_STREAM):
        try:
            return connect_to(family, address, timeout), show_address(address)
        except OSError as error:
            problems.append(f"cannot connect to {show_address(address)}: {why(error, timeout)}")
    raise Broken("; ".join(problems))


def connect_to(family: socket.AddressFamily, address: Address, timeout: float) -> socket.socket:
    """Return a socket that is connected to an address within `timeout` seconds. Raises OSError."""
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.settimeout(timeout)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting.connect(address)
        if connecting.getsockname()[:2] == address[:2]:  # Linux does that when its port is the one asked for
            raise ConnectionRefusedError(errno.ECONNREFUSED, "it connected to itself")
    except OSError:
        connecting.close()
        raise
    return connecting


def why(error: OSError, timeout: float) -> str:
    """Return why a connection could not be made, and what to do about it."""
    if isinstance(error, socket.timeout):
        return f"no answer within {timeout:g} s (check the address, and the firewalls on the way)"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (start the server, or check the port)"
    return reason(error)


def main() -> int:
    """Run the client."""
    parser = Parser(
        "HOST PORT",
        "Talk to a TCP server: each line that you type is a message.",
        "127.0.0.1 9000",
        "127.0.0.1 9000 -m 'Hello server!'",
        "127.0.0.1 9000 --udp-port 9001",
    )
    add_arguments(parser)
    add = parser.add_argument_group("TCP").add_argument
    add("--udp-port", metavar="PORT", type=whole_number(1, 65535), help="send each over TCP or UDP, chosen at random")
    add("--reconnect", action="store_true", help="wait for the server; come back when it breaks off")
    add = parser.add_argument_group("TLS").add_argument
    add("--tls", action="store_true", help="speak TLS, and verify who the server is")
    add("--tls-ca", metavar="FILE", help="trust this CA, or this very certificate, alone")
    add("--tls-cert", metavar="FILE", help="show the server this certificate,")
    add("--tls-key", metavar="FILE", help="which has this key")
    options = parser.parse_args()
    if options.reconnect and options.no_reply:
        parser.error("--reconnect needs replies to know what to send again; leave out --no-reply")
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    if (options.tls_ca or options.tls_cert) and not options.tls:
        parser.error("--tls-ca, --tls-cert and --tls-key need --tls")
    if options.tls and options.udp_port is not None:
        parser.error("--udp-port does not go with TLS: UDP would carry in clear what TCP protects")
    plain = (options.host, options.port, options.timeout, options.reconnect)
    stream = TlsStream(options) if options.tls else Stream(*plain)
    channels: list[Channel] = [stream]
    if not options.reconnect:
        stream.reopen()
    greeting = f"Connect{'ing' if options.reconnect else 'ed'} to {stream.peer}."
    if options.udp_port is not None:
        from udp_client import Datagrams

        datagrams = Datagrams(options.host, options.udp_port, reconnects=options.reconnect)
        channels.append(datagrams)
        if not options.reconnect:
            datagrams.reopen()
        greeting = f"{greeting[:-1]}, and sending to {channels[1].peer} over UDP."
    return Session(options, channels).run(greeting)


if __name__ == "__main__":
    run(main)
