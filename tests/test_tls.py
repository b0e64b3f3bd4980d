"""TLS over TCP: who is trusted, what a failure says, what strangers can not do, and real peers on the other side.

The certificates are made with the `openssl` command, once for the module.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import struct
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from support import (
    PATIENCE,
    Clock,
    Process,
    Server,
    TestCase,
    free_port,
    needs,
    new_certificate,
    new_key,
    open_files,
    openssl,
    receive_all,
    receive_lines,
    resident_bytes,
    wait_until,
    with_constants,
)

MUCH = int(os.environ.get("TLS_MEGABYTES", "25")) * 1000 * 1000
"""Bytes that are piped through TLS and back; with more, the tests take longer."""
HAS_PROC = unittest.skipUnless(Path("/proc/self/status").exists(), "memory and files are read from /proc")
QUIET_TIME = 0.3
"""Seconds without progress after which a full socket is taken for full; too short would only weaken a test."""
IGNORES_CUT_STREAMS = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
"""An option that Python 3.9 sets."""
FOLDER = Path()
"""Where the certificates and keys are: NAME.pem and NAME.key."""
CA_CONFIG = """
[ca]
default_ca = default
[default]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
organizationName = optional
"""


def setUpModule() -> None:
    """Make the certificates."""
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    global FOLDER  # noqa: PLW0603
    FOLDER = Path(tempfile.mkdtemp())
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)
    make_certificates()


def sign(name: str, subject: str, names: str = "", until: str = "20400101000000Z") -> None:
    """Make a key and a certificate that the CA signed; `names` are those of a server."""
    new_key(FOLDER, name, subject, "-new", "-out", f"{name}.csr")
    extensions = FOLDER / f"{name}.ext"
    usage = "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n"
    extensions.write_text(usage + (f"subjectAltName = {names}\n" if names else ""))
    openssl(
        FOLDER,
        *("ca", "-config", "ca.cnf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key", "-utf8"),
        *("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", extensions),
        *("-startdate", "20200101000000Z", "-enddate", until),
    )


def make_certificates() -> None:
    """Make a self-signed certificate, a CA, and what that CA signed: for servers, and for clients."""
    names = "DNS:localhost,IP:127.0.0.1,IP:::1"
    new_certificate(FOLDER, "server", "/CN=localhost", names)
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    new_key(FOLDER, "ca", "/CN=A CA", "-x509", "-days", 30, "-out", "ca.pem", *usage)
    (FOLDER / "ca.cnf").write_text(CA_CONFIG.format(folder=FOLDER))
    (FOLDER / "index").write_text("")
    sign("signed", "/CN=localhost", names)
    sign("elsewhere", "/CN=elsewhere.example", "DNS:elsewhere.example")
    sign("expired", "/CN=localhost", names, until="20210101000000Z")
    sign("alice", "/CN=Älice/O=Wonderland")
    sign("late", "/CN=Late", until="20210101000000Z")
    sign("unreadable", "/CN=Unreadable", "DER:30:03:82:01:FF")  # a DNS name that is not UTF-8
    sign("forger", "/CN=Eve\n[TCP Server] Connected by\x1b[2J")
    openssl(FOLDER, "pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    (FOLDER / "garbage.pem").write_text("no certificate\n")


def pair(name: str, key: str = "") -> tuple[object, ...]:
    """Return the options that name a certificate and its key, or another key."""
    return "--tls-cert", FOLDER / f"{name}.pem", "--tls-key", FOLDER / f"{key or name}.key"


def trust(name: str) -> tuple[object, ...]:
    """Return the option that names what to trust."""
    return "--tls-ca", FOLDER / f"{name}.pem"


def client_context(certificate: str = "") -> ssl.SSLContext:
    """Return what a client of the self-signed server needs."""
    context = ssl.create_default_context(cafile=str(FOLDER / "server.pem"))
    context.options &= ~IGNORES_CUT_STREAMS
    if certificate:
        context.load_cert_chain(FOLDER / f"{certificate}.pem", FOLDER / f"{certificate}.key")
    return context


def name_of(connected: socket.socket) -> str:
    """Return how the server's record names a connection that comes from 127.0.0.1, as a regular expression."""
    return re.escape(f"127.0.0.1:{connected.getsockname()[1]}")


class HandmadeTls:
    """A TLS client whose encrypted bytes the test itself sends, cut up and put together as it likes."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def hello(self) -> bytes:
        """Return the ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def shake_hands(self, piece: int = 1 << 16) -> None:
        """Do the handshake, in pieces of so many bytes."""
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            data = self._outgoing.read()
            for start in range(0, len(data), piece):
                self.socket.sendall(data[start : start + piece])
            if not done:
                self._incoming.write(self.socket.recv(1 << 16))

    def encrypted(self, text: bytes) -> bytes:
        """Return text as a TLS record."""
        self._tls.write(text)
        return self._outgoing.read()

    def receive(self, size: int) -> bytes:
        """Return the next so many bytes of text."""
        text = b""
        while len(text) < size:
            try:
                text += self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                data = self.socket.recv(1 << 16)
                if not data:
                    raise AssertionError(f"closed after {text!r}") from None
                self._incoming.write(data)
        return text


class TlsTestCase(TestCase):
    """A test with TLS servers and clients."""

    def tls_server(self, *options: object, certificate: str = "server") -> Server:
        """Start a server that speaks TLS."""
        return self.server("tcp_server.py", *pair(certificate), *options)

    def tls_client(self, port: int, *arguments: object, typed: bytes = b"", host: str = "localhost") -> Process:
        """Run a client that speaks TLS to its end, with piped input."""
        return self.run_client("tcp_client.py", host, port, "--tls", *arguments, typed=typed)

    def tls_connect(self, port: int, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """Return a raw TLS connection, to which a stream that was cut short is an error."""
        secured = (context or client_context()).wrap_socket(
            self.connect(port), server_hostname="localhost", suppress_ragged_eofs=False
        )
        self.addCleanup(secured.close)
        return secured

    def echo_of_ncat(self) -> int:
        """Start an ncat that sends everything back; return its port."""
        port = free_port()
        certificate = ("--ssl-cert", FOLDER / "server.pem", "--ssl-key", FOLDER / "server.key")
        ncat = self.forking("ncat", "-v", "-l", "--ssl", *certificate, "-k", "-e", "/bin/cat", "127.0.0.1", port)
        ncat.wait_for_error("Listening on")
        return port

    def echo_of_socat(self, options: str, echo: str) -> int:
        """Start a socat that sends everything back; return its port."""
        files = f"cert={FOLDER}/server.pem,key={FOLDER}/server.key"
        socat = self.forking("socat", "-d", "-d", f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,{files},{options}", echo)
        return int(socat.wait_for_error(r"listening on .*:(\d+)")[1])

    def forking(self, *command: object) -> Process:
        """Start a program that ends together with all that it starts."""
        process = self.start(*command, start_new_session=True)

        def end_group() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)

        self.addCleanup(end_group)
        return process

    def accept_tls(self, listener: socket.socket) -> ssl.SSLSocket:
        """Return the next TLS connection, to which a stream that was cut short is an error."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options &= ~IGNORES_CUT_STREAMS
        context.load_cert_chain(FOLDER / "server.pem", FOLDER / "server.key")
        secured = context.wrap_socket(self.accept(listener), server_side=True, suppress_ragged_eofs=False)
        self.addCleanup(secured.close)
        return secured

    def assert_confirms(self, port: int) -> None:
        """Check that a server confirms a message over TLS."""
        client = self.tls_client(port, *trust("server"), "-m", "are you there")
        self.assertEqual((client.wait(), client.output, client.errors), (0, "Message received: are you there\n", ""))


class SharedServerTestCase(TlsTestCase):
    """Tests that share one server."""

    shared: Server

    @classmethod
    def options(cls) -> tuple[object, ...]:
        """Return the server's options besides its certificate."""
        return ()

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server."""
        cls.shared = Server("tcp_server.py", *pair("server"), *cls.options())
        cls.addClassCleanup(cls.shared.close)


class Conversations(SharedServerTestCase):
    """A conversation over TLS is one without, as both sides see it."""

    def test_by_name_and_by_address(self) -> None:
        for host in ("localhost", "127.0.0.1"):
            with self.subTest(host):
                client = self.tls_client(self.shared.port, *trust("server"), typed=b"one\ntwo\nunfinished", host=host)
                replies = "Message received: one\nMessage received: two\nMessage received: unfinished\n"
                self.assertEqual((client.wait(), client.output, client.errors), (0, replies, ""))
                self.shared.wait_for(r"^\[TCP Server\] Received from 127\.0\.0\.1:\d+: unfinished$")
                for name in re.findall(r"^\[TCP Server\] Received from (\S+): unfinished$", self.shared.output, re.M):
                    self.shared.wait_for(rf"^\[TCP Server\] Disconnected: {name}$")

    def test_a_certificate_that_a_ca_signed(self) -> None:
        server = self.tls_server(certificate="signed")
        client = self.tls_client(server.port, *trust("ca"), "-m", "one", "--stats")
        self.assertEqual((client.wait(), client.output), (0, "Message received: one\n"))
        self.assertRegex(client.errors, r"\A1 sent, 1 confirmed, 0 lost; round trip [^\n]+\n\Z")

    def test_what_is_typed_at_the_server_and_exit(self) -> None:
        server = self.tls_server()
        client = self.client("tcp_client.py", "localhost", server.port, "--tls", *trust("server"))
        other = self.tls_connect(server.port)
        server.wait_for("(?s)(Connected.*){2}")
        server.type("Hi there, client!\n")
        client.wait_for(r"\AHi there, client!\n")
        client.type("exit\n")
        self.assertEqual(receive_all(other), b"Hi there, client!\nServer shutting down...\n")
        other.close()
        client.wait_for(r"\nServer shutting down\.\.\.\n\Z")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(server.wait(), 0)
        self.assertEqual(server.errors, "")

    def test_the_end_is_told_within_tls(self) -> None:
        secured = self.tls_connect(self.shared.port)
        secured.sendall(b"one\nterminate\nignored\n")
        self.assertEqual(receive_all(secured), b"Message received: one\n")  # a cut stream would raise

    def test_an_unfinished_line_before_a_clean_end_counts(self) -> None:
        secured = self.tls_connect(self.shared.port)
        secured.sendall(b"the end")
        with contextlib.suppress(ssl.SSLError):  # Python's unwrap() wants no reply in the way
            secured.unwrap()
        self.shared.wait_for("Received from .*: the end$")

    def test_what_is_unfinished_when_the_stream_is_cut_short_does_not_count(self) -> None:
        for reset in (False, True):
            with self.subTest(reset=reset):
                secured = self.tls_connect(self.shared.port)
                name = name_of(secured)
                secured.sendall(b"whole\nhalf of it")
                self.assertEqual(receive_lines(secured, 1), [b"Message received: whole"])
                if reset:
                    secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                secured.close()
                why = self.shared.wait_for(rf"^\[TCP Server\] Disconnected: {name} \((.+)\)$")[1]
                if not reset:
                    self.assertIn("cut short", why)
        self.assertNotIn("half of it", self.shared.output)

    def test_both_versions_that_are_safe(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version):
                context = client_context()
                context.minimum_version = context.maximum_version = version
                secured = self.tls_connect(self.shared.port, context)
                secured.sendall(b"one\n")
                self.assertEqual(receive_lines(secured, 1), [b"Message received: one"])

    def test_no_version_before_them(self) -> None:
        old = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        stranger = self.start("openssl", "s_client", *old, "-connect", f"127.0.0.1:{self.shared.port}")
        self.assertNotEqual(stranger.wait(), 0)
        self.assertIn("alert", stranger.errors)
        server = self.start(
            *("openssl", "s_server", *old, "-accept", "127.0.0.1:0"),
            *("-cert", FOLDER / "server.pem", "-key", FOLDER / "server.key"),
        )
        port = server.wait_for(r"^ACCEPT .*:(\d+)$")[1]
        self.assert_one_line_error(self.tls_client(int(port), *trust("server"), "-m", "one"), f"localhost port {port}")

    def test_bytes_that_dribble_in(self) -> None:
        client = HandmadeTls(self.connect(self.shared.port))
        client.shake_hands(piece=1)
        for byte in client.encrypted(b"a line\n"):
            client.socket.sendall(bytes((byte,)))
        self.assertEqual(client.receive(25), b"Message received: a line\n")

    def test_many_records_at_once(self) -> None:
        client = HandmadeTls(self.connect(self.shared.port))
        client.shake_hands()
        lines = [b"line %d\n" % number for number in range(500)]
        client.socket.sendall(b"".join(map(client.encrypted, lines)))
        replies = b"".join(b"Message received: " + line for line in lines)
        self.assertEqual(client.receive(len(replies)), replies)

    def test_the_longest_line(self) -> None:
        line = b"x" * 65536
        client = self.tls_client(self.shared.port, *trust("server"), typed=line)
        self.assertEqual((client.wait(), client.raw_output), (0, b"Message received: " + line + b"\n"))
        secured = self.tls_connect(self.shared.port)
        secured.sendall(line + b"y\n")
        self.assertEqual(receive_all(secured), b"Error: message longer than 65536 bytes\n")

    def test_a_full_server_costs_the_turned_away_one_line(self) -> None:
        server = self.tls_server("--max-clients", 1)
        inside = self.tls_connect(server.port)
        self.assert_one_line_error(self.tls_client(server.port, *trust("server"), "-m", "one"), "localhost")
        server.wait_for("Turned away")
        inside.sendall(b"one\n")
        self.assertEqual(receive_lines(inside, 1), [b"Message received: one"])

    def test_a_client_shows_all_that_came_before_the_socket_fell_silent(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", "localhost", port, "--tls", *trust("server"), "--no-reply")
        secured = self.accept_tls(listener)
        for number in range(100):
            secured.sendall(b"%d " % number * 4000 + b"\n")
        client.wait_for(r"^(99 ){4000}$")

    def test_a_client_tells_that_the_server_is_gone_without_an_end(self) -> None:
        server = self.tls_server()
        client = self.client("tcp_client.py", "localhost", server.port, "--tls", *trust("server"))
        client.type("one\n")
        client.wait_for("^Message received: one$")
        server.signal(signal.SIGKILL)
        self.assert_one_line_error(client, "localhost.*(cut short|reset)")

    def test_a_server_that_ends_without_an_end_after_all_replies_is_forgiven(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", "localhost", port, "--tls", *trust("server"))
        secured = self.accept_tls(listener)
        client.type("one\n")
        client.end_input()
        self.assertEqual(secured.recv(100), b"one\n")
        secured.sendall(b"one\n")
        self.assertEqual(secured.recv(100), b"", "the client's close_notify")
        secured.close()
        self.assertEqual((client.wait(), client.output, client.errors), (0, "one\n", ""))

    def test_a_server_that_has_much_to_say_at_the_end_of_the_input(self) -> None:
        """The client ends its side of the stream at once, and reads the other to its end."""
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", "localhost", port, "--tls", *trust("server"), "--no-reply")
        secured = self.accept_tls(listener)
        client.type("one\n")
        self.assertEqual(secured.recv(100), b"one\n")
        news = b"news\n" * 1_000_000
        speaker = threading.Thread(target=secured.sendall, args=(news,))
        speaker.start()
        client.end_input()
        speaker.join()
        self.assertEqual(secured.recv(100), b"", "the client's close_notify")
        secured.unwrap().close()
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertTrue(client.raw_output == news, len(client.raw_output))

    def test_a_client_that_comes_back(self) -> None:
        server = self.tls_server()
        client = self.client("tcp_client.py", "localhost", server.port, "--tls", *trust("server"), "--reconnect")
        client.type("one\n")
        client.wait_for("^Message received: one$")
        server.close()
        client.wait_for_error("trying again")
        client.type("two\n")
        self.server("tcp_server.py", *pair("server"), port=server.port)
        client.wait_for("^Message received: two$")
        client.end_input()
        self.assertEqual(client.wait(), 0)


class ClientCertificates(SharedServerTestCase):
    """With --tls-ca a server talks to those alone whom its CA has signed, and names them wherever they appear."""

    SUBJECT = "commonName=Älice, organizationName=Wonderland"

    @classmethod
    def options(cls) -> tuple[object, ...]:
        """Have the server relay and save what it hears."""
        return *trust("ca"), "--reply", "relay", "--save", FOLDER / "archive"

    def test_the_subject_appears_wherever_the_peer_does(self) -> None:
        listener = self.tls_connect(self.shared.port, client_context("alice"))
        self.shared.wait_for(rf"Connected by {name_of(listener)} \({self.SUBJECT}\)$")
        speaker = self.tls_client(self.shared.port, *trust("server"), *pair("alice"), "-m", "one")
        self.assertEqual((speaker.wait(), speaker.output, speaker.errors), (0, "Message received: one\n", ""))
        name = self.shared.wait_for(rf"^\[TCP Server\] Received from (127\.0\.0\.1:\d+ \({self.SUBJECT}\)): one$")[1]
        self.assertEqual(receive_lines(listener, 1), [f"{name}: one".encode()])
        self.shared.wait_for(rf"^\[TCP Server\] Disconnected: {re.escape(name)}")
        with contextlib.closing(sqlite3.connect(FOLDER / "archive")) as archive:
            kept = archive.execute("SELECT peer, subject, text FROM messages").fetchall()
        self.assertEqual(kept, [(name.partition(" ")[0], self.SUBJECT, "one")])

    def test_a_subject_can_not_forge_the_record(self) -> None:
        self.tls_connect(self.shared.port, client_context("forger"))
        self.shared.wait_for(
            r"^\[TCP Server\] Connected by \S+ \(commonName=Eve\\n\[TCP Server\] Connected by\\x1b\[2J\)$"
        )
        self.assertNotIn("\x1b", self.shared.output)

    def test_a_certificate_that_can_not_be_shown(self) -> None:
        """Whatever else the CA has signed into it, its client is served, and ends nothing."""
        server = self.tls_server(*trust("ca"))
        client = self.tls_client(server.port, *trust("server"), *pair("unreadable"), "-m", "one")
        self.assertEqual((client.wait(), client.output, client.errors), (0, "Message received: one\n", ""))
        name = r"127\.0\.0\.1:\d+ \(its certificate cannot be shown\)"
        server.wait_for(rf"^\[TCP Server\] Received from {name}: one$")
        self.tls_connect(server.port, client_context("alice"))
        server.wait_for(rf"Connected by \S+ \({self.SUBJECT}\)$")
        self.assertEqual(server.errors, "")

    def test_whoever_has_none_that_is_valid_is_told_what_is_missing(self) -> None:
        for certificate, told, recorded in (
            ("", "wants a client certificate", "peer did not return a certificate"),
            ("server", "does not trust the CA of this client's certificate", "self[- ]signed certificate"),
            ("late", "this client's certificate .* has expired", "certificate has expired"),
        ):
            with self.subTest(certificate or "none"):
                start = len(self.shared.output)
                shown = pair(certificate) if certificate else ()
                client = self.tls_client(self.shared.port, *trust("server"), *shown, "-m", f"from {certificate}")
                self.assert_one_line_error(client, told)
                self.assertIn("1 message was not confirmed", client.errors)
                why = re.compile(rf"^\[TCP Server\] Refused 127\.0\.0\.1:\d+: TLS failed: {recorded}\n", re.MULTILINE)
                wait_until(lambda: why.search(self.shared.output, start), f"{recorded} in the record")  # noqa: B023
                self.assertNotRegex(self.shared.output[start:], "Connected by|Received|from ")

    def test_none_of_it_is_heard_however_much_it_is(self) -> None:
        client = self.tls_client(self.shared.port, *trust("server"), typed=b"unheard\n" * 100_000)
        self.assert_one_line_error(client, "wants a client certificate")
        self.assertEqual(client.output, "")
        self.assertNotIn("unheard", self.shared.output)


class Failures(TlsTestCase):
    """Whatever can be wrong is told in one line that says what to do."""

    def client_fails(self, port: int, *arguments: object, pattern: str, host: str = "localhost") -> None:
        """Check that a client ends with 1 after one line that matches."""
        self.assert_one_line_error(self.tls_client(port, *arguments, "-m", "one", host=host), pattern)

    def test_a_certificate_of_another_name(self) -> None:
        server = self.tls_server(certificate="elsewhere")
        self.client_fails(server.port, *trust("ca"), pattern="localhost.*mismatch.*'localhost'.*connect to a name")
        self.client_fails(server.port, *trust("ca"), pattern="127.0.0.1.*mismatch.*connect to", host="127.0.0.1")
        server.wait_for("Refused .*TLS failed: .*certificate")

    def test_a_certificate_of_an_unknown_ca(self) -> None:
        server = self.tls_server()
        self.client_fails(server.port, pattern="self[- ]signed.*--tls-ca")
        self.client_fails(server.port, *trust("ca"), pattern="self[- ]signed.*--tls-ca")
        server.wait_for("Refused .*TLS failed: .*unknown ca")
        signed = self.tls_server(certificate="signed")
        self.client_fails(signed.port, pattern="unable to get local issuer.*--tls-ca")

    def test_an_expired_certificate(self) -> None:
        server = self.tls_server(certificate="expired")
        self.client_fails(server.port, *trust("ca"), pattern="certificate has expired; the server needs a new one")

    def test_certificates_and_keys_that_can_not_be_used(self) -> None:
        server = self.tls_server()
        cases = (
            (pair("server", "alice"), "server.pem.*alice.key.*mismatch"),
            (pair("server", "locked"), "locked.key needs a passphrase"),
            (pair("garbage", "server"), "garbage.pem.*PEM"),
            (pair("missing", "server"), "missing.pem.*No such file"),
            (pair("server", "missing"), "missing.key.*No such file"),
            ((*pair("server"), *trust("garbage")), "garbage.pem.*PEM"),
            ((*pair("server"), *trust("missing")), "missing.pem.*No such file"),
        )
        for start in (("tcp_server.py", 0), ("tcp_client.py", "localhost", server.port, "--tls")):
            programs = [self.start(sys.executable, *start, *options) for options, _ in cases]
            for program, (_, pattern) in zip(programs, cases):
                with self.subTest(pattern, script=start[0]):
                    self.assert_one_line_error(program, f"(?i:{pattern})")

    def test_tls_spoken_to_a_plain_server(self) -> None:
        server = self.server("tcp_server.py")
        options = (*trust("server"), "--timeout", "0.5")
        self.client_fails(server.port, *options, pattern=f"localhost port {server.port}.*speak TLS")

    def test_tls_spoken_to_a_server_that_answers_otherwise(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", "localhost", port, "--tls", *trust("server"), "-m", "one")
        connected, _ = listener.accept()
        self.addCleanup(connected.close)
        connected.sendall(b"220 welcome to another protocol\r\n")
        self.assert_one_line_error(client, f"localhost port {port}.*does not speak TLS")

    def test_plain_text_spoken_to_a_tls_server(self) -> None:
        server = self.tls_server()
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, "-m", "one")
        self.assert_one_line_error(client, f"127.0.0.1:{server.port} speaks TLS; connect with --tls")
        self.assertEqual(client.output, "")
        server.wait_for("Refused .*does not speak TLS")

    def test_a_server_that_says_nothing(self) -> None:
        port = self.listen().getsockname()[1]
        self.client_fails(port, "--timeout", "0.5", pattern=f"no TLS handshake with localhost port {port} within 0.5 s")

    def test_a_server_that_breaks_off_the_handshake(self) -> None:
        for reset in (False, True):
            with self.subTest(reset=reset):
                listener = self.listen()
                port = listener.getsockname()[1]
                client = self.client("tcp_client.py", "localhost", port, "--tls", "-m", "one")
                connected, _ = listener.accept()
                connected.recv(1 << 16)
                if reset:
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connected.close()
                self.assert_one_line_error(client, f"connection to localhost port {port} lost")

    def test_udp_beside_tls_is_refused_with_the_reason(self) -> None:
        reason = "--udp-port .*UDP would carry in clear what TCP protects"
        self.assert_one_line_error(self.client("tcp_server.py", 0, *pair("server"), "--udp-port", 0), reason, code=2)
        client = self.client("tcp_client.py", "localhost", 9, "--tls", "--udp-port", 9)
        self.assert_one_line_error(client, reason, code=2)

    def test_options_that_do_not_stand_alone(self) -> None:
        certificate, key = pair("server")[:2], pair("server")[2:]
        starts = (("tcp_server.py", 0), ("tcp_client.py", "localhost", 9), ("tcp_client.py", "localhost", 9, "--tls"))
        alone = [(*start, *options) for start in starts for options in (certificate, key, trust("ca"))]
        refused = {command: self.start(sys.executable, *command) for command in alone if command != alone[-1]}
        for command, program in refused.items():
            with self.subTest(command):
                self.assert_one_line_error(program, "--tls-", code=2)

    def test_no_option_turns_verification_off(self) -> None:
        client = self.client("tcp_client.py", "--help")
        self.assertEqual(client.wait(), 0)
        self.assertEqual(
            set(re.findall("--tls[a-z-]*", client.output)), {"--tls", "--tls-ca", "--tls-cert", "--tls-key"}
        )
        self.assertNotRegex(client.output, "insecure|no-check|no-verify")


class Strangers(SharedServerTestCase):
    """A stranger who does not get through the handshake costs the others nothing, and gets a line in the record."""

    def test_plain_text_is_refused_with_an_alert(self) -> None:
        for text in (b"Hello server!\n", b"exit\n", b"GET / HTTP/1.0\r\n\r\n", b"\0", bytes(range(256)) * 1000):
            with self.subTest(text[:20]):
                stranger = self.connect(self.shared.port)
                name = name_of(stranger)
                stranger.sendall(text)
                self.assertRegex(receive_all(stranger), rb"(?s)\A\x15\x03.\0\x02\x02.\Z")
                stranger.close()
                self.shared.wait_for(rf"^\[TCP Server\] Refused {name}: it does not speak TLS$")
                self.shared.wait_for(rf"^\[TCP Server\] Disconnected: {name}$")
        self.assert_confirms(self.shared.port)

    def test_breaking_off(self) -> None:
        hello = HandmadeTls(self.connect(self.shared.port)).hello()
        for said in (b"", hello[:1], hello[:100], hello):
            for reset in (False, True):
                with self.subTest(len(said), reset=reset):
                    stranger = self.connect(self.shared.port)
                    name = name_of(stranger)
                    stranger.sendall(said)
                    if said == hello:
                        self.assertEqual(stranger.recv(1), b"\x16")
                    if reset:
                        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    stranger.close()
                    why = self.shared.wait_for(rf"^\[TCP Server\] Disconnected: {name} \((.*)\)$")[1]
                    self.assertNotRegex(self.shared.output, rf"Connected by {name}$")
                    if not reset and said != hello:
                        self.assertEqual(why, "it broke off the TLS handshake")
        self.assert_confirms(self.shared.port)

    def test_half_closing_at_once(self) -> None:
        stranger = self.connect(self.shared.port)
        stranger.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(stranger), b"")
        self.shared.wait_for(rf"Disconnected: {name_of(stranger)} \(it broke off the TLS handshake\)$")

    def test_garbage_that_looks_like_tls(self) -> None:
        hello = HandmadeTls(self.connect(self.shared.port)).hello()
        for garbage in (
            b"\x16" + bytes(2000),
            b"\x16\x03\x01\xff\xff" + bytes(70000),
            b"\x16\x03\x01\x00\x04\xff\xff\xff\xff",
            hello + b"\x17\x03\x03\x00\x05hello",
            hello + hello,
        ):
            with self.subTest(garbage[:60]):
                stranger = self.connect(self.shared.port)
                name = name_of(stranger)
                stranger.sendall(garbage)
                self.assertNotIn(b"Message", receive_all(stranger))
                stranger.close()
                self.shared.wait_for(rf"^\[TCP Server\] Refused {name}: TLS failed: \w.*$")
        self.assert_confirms(self.shared.port)

    def test_a_record_that_was_tampered_with(self) -> None:
        client = HandmadeTls(self.connect(self.shared.port))
        client.shake_hands()
        before, record = client.encrypted(b"before\n"), bytearray(client.encrypted(b"tampered\n"))
        record[-1] ^= 1
        client.socket.sendall(before + record)
        receive_all(client.socket)
        name = name_of(client.socket)
        self.shared.wait_for(rf"Received from {name}: before\n(?s:.*)Disconnected: {name} \(TLS failed: \w.*\)$")
        self.assertNotIn("tampered", self.shared.output)
        self.assert_confirms(self.shared.port)

    def test_negotiating_for_ever(self) -> None:
        for version, command, done in (("-tls1_2", "R\n", "RENEGOTIATING"), ("-tls1_3", "K\n", "KEYUPDATE")):
            with self.subTest(version):
                stranger = self.start("openssl", "s_client", version, "-connect", f"127.0.0.1:{self.shared.port}")
                stranger.wait_for("Verify return code")
                stranger.type("one\n")
                stranger.wait_for("^Message received: one$")
                stranger.type(command)
                stranger.wait_for_error(done)
                with contextlib.suppress(BrokenPipeError):  # it gave up
                    stranger.type("two\n")
                if command == "K\n":
                    stranger.wait_for("^Message received: two$")
                else:  # it is refused, by the library (then TLS goes on) or by the server (then it ends)
                    wait_until(lambda: "two" in stranger.output or stranger.popen.poll() is not None, "an answer")  # noqa: B023
        self.assert_confirms(self.shared.port)

    @HAS_PROC
    def test_a_crowd_costs_no_memory_no_files_and_no_time_of_others(self) -> None:
        client = self.tls_connect(self.shared.port)
        client.sendall(b"before\n")
        receive_lines(client, 1)
        files, memory = open_files(self.shared), resident_bytes(self.shared)
        hello = HandmadeTls(self.connect(self.shared.port)).hello()
        crowd = [self.connect(self.shared.port) for _ in range(200)]
        for number, stranger in enumerate(crowd):
            stranger.sendall((b"", hello[:50], hello, hello + b"\x17")[number % 4])
        client.sendall(b"during\n")
        self.assertEqual(receive_lines(client, 1), [b"Message received: during"])
        wait_until(lambda: open_files(self.shared) >= files + 200, "the crowd to be in")
        self.assertLess(resident_bytes(self.shared), memory + 200 * (256 << 10))
        for stranger in crowd:
            stranger.close()
        wait_until(lambda: open_files(self.shared) <= files + 1, "the crowd to be gone")
        client.sendall(b"after\n")
        self.assertEqual(receive_lines(client, 1), [b"Message received: after"])

    def test_the_server_stops_although_strangers_stand_in_the_door(self) -> None:
        server = self.tls_server()
        silent = self.connect(server.port)
        halfway = HandmadeTls(self.connect(server.port))
        halfway.socket.sendall(halfway.hello()[:100])
        secured = self.tls_connect(server.port)
        server.wait_for(f"Connected by {name_of(secured)}")  # it knows later than the client that the handshake is done
        server.signal(signal.SIGTERM)
        self.assertEqual(receive_all(secured), b"Server shutting down...\n")
        secured.close()
        self.assertEqual(server.wait(), 0)
        for stranger in (silent, halfway.socket):
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(receive_all(stranger), b"", "what a stranger was told")


class StrangersWhoWait(TlsTestCase):
    """Who does not end the handshake is shown out after ten seconds; here after a thousand, so that none is late."""

    def test_they_are_shown_out(self) -> None:
        clock, within = Clock(self), with_constants(TICK=0.05, WITHIN=1000)
        options = (*pair("server"), "--reply", "relay")
        server = self.server("tcp_server.py", *options, within=within, env=clock.environment)
        strangers = _, halfway, slow = [self.connect(server.port) for _ in range(3)]
        hello = HandmadeTls(halfway).hello()
        halfway.sendall(hello[:200])
        for byte in hello[:100]:
            slow.sendall(bytes((byte,)))
        client = self.tls_connect(server.port)
        server.wait_for(f"Connected by {name_of(client)}$")  # it came last
        clock.skip(900)
        self.assertEqual(select.select(strangers, [], [], 0.2)[0], [], "before its time, for some ticks")
        clock.skip(100)
        for stranger in strangers:
            server.wait_for(rf"Disconnected: {name_of(stranger)} \(no .*TLS handshake within 1000 s\)$")
        client.sendall(b"still there\n")
        self.assertEqual(receive_lines(client, 1), [b"Message received: still there"])


class Much(SharedServerTestCase):
    """Much at once comes back whole, and nobody waits for ever for somebody who waits."""

    @classmethod
    def options(cls) -> tuple[object, ...]:
        """Have the server send everything back."""
        return "--reply", "echo", "--quiet"

    def piped(self, size: int) -> tuple[Path, Path]:
        """Return a file of lines of so many bytes, all different, and the name of another that is not there yet."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        with (folder / "piped").open("wb") as file:
            for start in range(0, size // 1000, 1000):
                file.write(b"".join(b"%0999d\n" % number for number in range(start, start + 1000)))
        return folder / "piped", folder / "came back"

    def assert_comes_back(self, size: int, port: int) -> None:
        """Check that what a client pipes to a server that echoes comes back byte for byte."""
        piped, came_back = self.piped(size)
        with piped.open("rb") as source, came_back.open("wb") as sink:
            arguments = ("localhost", port, "--tls", *trust("server"), "--timeout", "20")
            client = self.client("tcp_client.py", *arguments, stdin=source, stdout=sink)
            self.assertEqual((client.wait(6 * PATIENCE), client.errors), (0, ""))
        self.assertTrue(filecmp.cmp(piped, came_back, shallow=False), "what came back is not what was sent")

    def test_piped_through_our_own_client(self) -> None:
        self.assert_comes_back(MUCH, self.shared.port)

    @needs("ncat")
    def test_piped_to_ncat(self) -> None:
        self.assert_comes_back(MUCH // 10, self.echo_of_ncat())

    @needs("socat")
    def test_piped_to_socat(self) -> None:
        self.assert_comes_back(MUCH // 10, self.echo_of_socat("verify=0", "EXEC:cat"))

    @HAS_PROC
    def test_a_client_that_does_not_read_is_not_read_from(self) -> None:
        secured = self.tls_connect(self.shared.port)
        memory = resident_bytes(self.shared)
        secured.setblocking(False)
        block, sent, left = b"x" * 999 + b"\n", 0, b""
        while select.select([], [secured], [], QUIET_TIME)[1]:
            left = left or block * 16
            with contextlib.suppress(ssl.SSLWantWriteError):
                size = secured.send(left)
                sent, left = sent + size, left[size:]
        self.assertLess(resident_bytes(self.shared), memory + (8 << 20))
        other = self.tls_connect(self.shared.port)
        other.sendall(b"and I?\n")
        self.assertEqual(receive_lines(other, 1), [b"and I?"])
        received = bytearray()
        while left or len(received) < sent:
            ready, writable, _ = select.select([secured], [secured] if left else [], [], PATIENCE)
            self.assertTrue(ready or writable, f"{len(received)} of {sent} bytes came back, then nothing")
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if writable:
                    size = secured.send(left)
                    sent, left = sent + size, left[size:]
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    received += secured.recv(1 << 16)
        self.assertEqual(received, block * (sent // 1000))


class RealClients(SharedServerTestCase):
    """openssl s_client, ncat and socat are complete clients of a TLS server, with a certificate of their own or not."""

    @classmethod
    def options(cls) -> tuple[object, ...]:
        """Demand certificates."""
        return trust("ca")

    def assert_a_session(self, tool: Process, subject: str = "") -> None:
        """Check a conversation with a tool whose input stays open: replies, a line typed at the server, goodbye."""
        start = len(self.shared.output)
        for text in ("Hello server!", "Grüße"):
            tool.type(f"{text}\n")
            tool.wait_for(f"^Message received: {text}$")
        wait_until(lambda: f"{subject}: Grüße\n" in self.shared.output[start:], "the message in the record")
        self.shared.type("Hi there, client!\n")
        tool.wait_for("^Hi there, client!$")
        tool.type("terminate\n")
        tool.end_input()
        self.assertEqual(tool.wait(), 0, tool.errors)

    def test_openssl(self) -> None:
        files = ("-CAfile", FOLDER / "server.pem", "-cert", FOLDER / "alice.pem", "-key", FOLDER / "alice.key")
        tool = self.start(
            *("openssl", "s_client", "-quiet", "-verify_return_error", *files),
            *("-connect", f"localhost:{self.shared.port}", "-verify_hostname", "localhost"),
        )
        self.assert_a_session(tool, ClientCertificates.SUBJECT + ")")

    @needs("ncat")
    def test_ncat(self) -> None:
        files = ("--ssl-trustfile", FOLDER / "server.pem", "--ssl-cert", FOLDER / "alice.pem")
        key = ("--ssl-key", FOLDER / "alice.key")
        tool = self.start("ncat", "--ssl-verify", *files, *key, "localhost", self.shared.port)
        self.assert_a_session(tool, ClientCertificates.SUBJECT + ")")

    @needs("socat")
    def test_socat(self) -> None:
        files = f"cafile={FOLDER}/server.pem,cert={FOLDER}/alice.pem,key={FOLDER}/alice.key"
        tool = self.start("socat", "-", f"OPENSSL:localhost:{self.shared.port},{files}")
        self.assert_a_session(tool, ClientCertificates.SUBJECT + ")")

    def test_without_a_certificate(self) -> None:
        server = self.tls_server()
        tools = {
            "openssl": ("s_client", "-quiet", "-connect", f"localhost:{server.port}"),
            "ncat": ("--ssl", "localhost", server.port),
            "socat": ("-t", PATIENCE, "-", f"OPENSSL:localhost:{server.port},cafile={FOLDER}/server.pem"),
        }
        for tool, arguments in tools.items():
            with self.subTest(tool):
                if not shutil.which(tool):
                    self.skipTest(f"{tool} is not installed")
                process = self.start(tool, *arguments)
                process.type("one\ntwo\nterminate\n")
                process.end_input()
                process.wait()
                self.assertEqual(process.output, "Message received: one\nMessage received: two\n")

    def test_none_is_served_without_one(self) -> None:
        tool = self.start("openssl", "s_client", "-quiet", "-connect", f"localhost:{self.shared.port}")
        tool.type("unheard\n")
        self.assertNotEqual(tool.wait(), 0)
        self.assertEqual(tool.output, "")
        self.assertIn("alert", tool.errors)


class RealServers(TlsTestCase):
    """Our client talks to openssl s_server, ncat and socat."""

    def assert_echoed(self, port: int, *arguments: object) -> None:
        """Check that a server sends back what a client sends."""
        client = self.tls_client(port, *trust("server"), *arguments, typed=b"level\n\xffnoon\xff\n")
        self.assertEqual((client.wait(), client.raw_output, client.errors), (0, b"level\n\xffnoon\xff\n", ""))

    def test_openssl(self) -> None:
        server = self.start(
            *("openssl", "s_server", "-accept", "127.0.0.1:0"),
            *("-cert", FOLDER / "server.pem", "-key", FOLDER / "server.key"),
        )
        port = server.wait_for(r"^ACCEPT .*:(\d+)$")[1]
        client = self.client("tcp_client.py", "localhost", port, "--tls", *trust("server"), "--no-reply")
        client.type("Anybody there?\n")
        server.wait_for("^Anybody there[?]$")
        server.type("I am.\n")
        client.wait_for(r"\AI am\.\n\Z")
        server.type("Q\n")
        client.end_input()
        self.assertEqual(server.wait(), 0)
        client.wait()

    def test_openssl_sends_back_what_reads_the_same_both_ways(self) -> None:
        for options, arguments in (((), ()), (("-Verify", "1", "-CAfile", FOLDER / "ca.pem"), pair("alice"))):
            with self.subTest(options):
                server = self.start(
                    *("openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", *options),
                    *("-cert", FOLDER / "server.pem", "-key", FOLDER / "server.key"),
                )
                port = server.wait_for(r"^ACCEPT .*:(\d+)$")[1]
                self.assert_echoed(int(port), *arguments)

    @needs("ncat")
    def test_ncat(self) -> None:
        port = self.echo_of_ncat()
        for _ in range(2):  # -k: it takes one after the other
            self.assert_echoed(port)

    @needs("socat")
    def test_socat(self) -> None:
        for echo in ("PIPE", "EXEC:cat"):
            with self.subTest(echo):
                self.assert_echoed(self.echo_of_socat(f"cafile={FOLDER}/ca.pem", echo), *pair("alice"))


class PlainTcp(TlsTestCase):
    """Whoever does not ask for TLS does not pay for it."""

    SSL = re.compile(r"\|\s+_?ssl$", re.MULTILINE)

    def test_ssl_is_imported_only_where_it_is_spoken(self) -> None:
        for tls in (False, True):
            with self.subTest(tls=tls):
                trace = (sys.executable, "-X", "importtime")
                server = self.start(*trace, "tcp_server.py", 0, *(pair("server") if tls else ("--udp-port", 0)))
                port = server.wait_for(r"TCP Server\] Listening on \S+:(\d+)\.")[1]
                options = ("--tls", *trust("server")) if tls else ()
                client = self.start(*trace, "tcp_client.py", "localhost", port, *options, "-m", "one", "-m", "exit")
                self.assertEqual((client.wait(), server.wait()), (0, 0))
                for program in (server, client):
                    self.assertIn("| common", program.errors.replace("  ", ""))
                    self.assertEqual(bool(self.SSL.search(program.errors)), tls)


if __name__ == "__main__":
    unittest.main()
