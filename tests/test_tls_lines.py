"""`tls`: both ends of a connection in TLS against each other, without a socket, byte by byte and whole.

The certificates are made with the `openssl` command, once for the module.
"""

from __future__ import annotations

import shutil
import ssl
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from support import TestCase, new_certificate, openssl

import tls
from common import Failure
from tls import TlsLines

FOLDER = Path()
"""Where the certificates and keys are: NAME.pem and NAME.key."""
WHOLE = 1 << 30
PIECES = (1, 7, WHOLE)
"""Sizes of the pieces in which what is sent arrives."""
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
RECORD = 16384
"""Bytes that a TLS record holds at the most: what is longer comes in several."""
BROKEN = "(?i)bad.record.mac|decryption.failed"
CUT = "(?i)eof|cut short"
"""What is said of a record that was damaged, and of a stream that ends without the end of TLS."""


def setUpModule() -> None:
    """Make the certificates."""
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    global FOLDER  # noqa: PLW0603
    FOLDER = Path(tempfile.mkdtemp())
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)
    new_certificate(FOLDER, "server", "/CN=localhost", "DNS:localhost")
    new_certificate(FOLDER, "other", "/CN=localhost", "DNS:localhost")
    new_certificate(FOLDER, "alice", "/CN=Alice/O=Wonder\nland", "DNS:alice.example")
    new_certificate(FOLDER, "long", "/CN=Long", ",".join(f"DNS:{number:060}.example" for number in range(400)))
    openssl(FOLDER, "pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    (FOLDER / "garbage.pem").write_text("no certificate\n")


def file(name: str) -> str:
    """Return where a file is."""
    return str(FOLDER / name)


def server_context(client: str = "") -> ssl.SSLContext:
    """Return what the server needs; with a name, only who has that certificate comes in."""
    return tls.server_context(file("server.pem"), file("server.key"), file(f"{client}.pem") if client else None)


def client_context(trusted: str = "server", own: str = "") -> ssl.SSLContext:
    """Return what a client needs that trusts one certificate, and may have one itself."""
    pair = (file(f"{own}.pem"), file(f"{own}.key")) if own else (None, None)
    return tls.client_context(file(f"{trusted}.pem"), *pair)


class Connection:
    """A client and a server; what one sends reaches the other in pieces of so many bytes."""

    def __init__(
        self,
        piece: int = WHOLE,
        client: ssl.SSLContext | None = None,
        server: ssl.SSLContext | None = None,
        host: str = "localhost",
        name: str = "",
    ) -> None:
        self.piece = piece
        self.name = name
        self.client = TlsLines(client or client_context(), host)
        self.server = TlsLines(server or server_context())

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what is sent as it arrives."""
        for start in range(0, len(data), self.piece):
            yield data[start : start + self.piece]

    def greet(self) -> None:
        """Do the handshake."""
        assert not self.client.greet()
        sender, receiver, done = self.client, self.server, set()
        while data := sender.outgoing():
            for piece in self.pieces(data):
                assert receiver not in done
                if receiver.greet(piece):
                    done.add(receiver)
            sender, receiver = receiver, sender
        assert done == {self.client, self.server}

    def receive(self, end: TlsLines, data: bytes) -> list[bytes]:
        """Have one end take what the other sent; return its lines."""
        return [line for piece in self.pieces(data) for line in end.take(piece)]


def encrypt(end: TlsLines, text: bytes) -> bytes:
    """Return what one end sends so that text arrives, which need not be lines."""
    end._tls.write(text)
    return end.outgoing()


def torn(data: bytes) -> bytes:
    """Return a record that was damaged on its way."""
    return data[:-1] + bytes([data[-1] ^ 1])


class TlsTest(TestCase):
    """A test of connections."""

    def connections(self, own: str = "", is_greeted: bool = True) -> list[Connection]:
        """Return connections of all kinds, after their handshake; with a name, the server wants that certificate."""
        found = []
        for version in VERSIONS:
            for piece in PIECES:
                client = client_context(own=own)
                client.minimum_version = client.maximum_version = version
                found.append(Connection(piece, client, server_context(own), name=f"{version.name} by {piece}"))
                if is_greeted:
                    found[-1].greet()
        return found

    def fails(self, pattern: str) -> unittest.case._AssertRaisesContext[ssl.SSLError]:
        """Expect an error of TLS."""
        return self.assertRaisesRegex(ssl.SSLError, pattern)


class Conversations(TlsTest):
    """Both ends greet each other, talk, and end."""

    def test_lines_both_ways(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                client, server = connection.client, connection.server
                for messages, start in (([b"one"], b""), ([b"two\r", b"", b"\xff\x00"], b""), ([b"three", b""], b"> ")):
                    lines = [start + message for message in messages]
                    self.assertEqual(connection.receive(server, client.pack(messages, start)), lines)
                    self.assertEqual(connection.receive(client, server.pack(messages, start)), lines)
                self.assertEqual(
                    (client.unsent(), server.unsent(), client.outgoing(), server.outgoing()), (0, 0, b"", b"")
                )
                self.assertTrue(client.is_secure)

    def test_lines_in_pieces(self) -> None:
        """However the text is cut up before it is encrypted."""
        for connection in self.connections():
            with self.subTest(connection.name):
                for sender, receiver in (
                    (connection.client, connection.server),
                    (connection.server, connection.client),
                ):
                    for text, lines in ((b"unfin", []), (b"ished\nx", [b"unfinished"]), (b"\n\ny", [b"x", b""])):
                        self.assertEqual(connection.receive(receiver, encrypt(sender, text)), lines)
                    self.assertEqual((receiver.cut(), receiver.cut()), ([b"y"], []))

    def test_text_is_not_sent_as_it_is(self) -> None:
        connection = Connection()
        connection.greet()
        for end in (connection.client, connection.server):
            self.assertNotIn(b"secret", end.pack([b"secret"]))

    def test_lines_that_fill_many_records(self) -> None:
        connection = Connection(10_000)
        connection.greet()
        line = bytes(32 + number % 90 for number in range(10 * RECORD))
        data = connection.client.pack([line] * 5)
        self.assertEqual(connection.receive(connection.server, data), [line] * 5)

    def test_many_small_records_are_more_work_than_one(self) -> None:
        """And all of them are taken at once, though nothing asks for more once nothing is left."""
        connection = Connection()
        connection.greet()
        for count in (1, 20):
            sent = b"".join(connection.client.pack([b"x"]) for _ in range(count))
            self.assertEqual(connection.server.take(sent), [b"x"] * count)
            self.assertEqual(connection.server.work, count * tls.RECORD_COST)

    def test_lines_that_come_with_the_handshake(self) -> None:
        """In TLS 1.3 the client may speak with its last word of it; take() finds the lines, with nothing more, too."""
        for connection in self.connections(is_greeted=False):
            client, server = connection.client, connection.server
            with self.subTest(connection.name):
                client.greet()
                server.greet(client.outgoing())
                is_greeted = client.greet(server.outgoing())
                data = client.outgoing()
                if is_greeted:
                    data += encrypt(client, b"early\nlate")
                lines: list[bytes] = []
                pieces = connection.pieces(data)
                while not server.greet(next(pieces)):
                    pass
                lines += server.take(b"")
                lines += [line for piece in pieces for line in server.take(piece)]
                if not is_greeted:  # TLS 1.2: the server has the last word
                    self.assertTrue(client.greet(server.outgoing()))
                    lines += connection.receive(server, encrypt(client, b"early\nlate"))
                self.assertEqual((lines, server.unfinished), ([b"early"], b"late"))

    def test_the_client_ends_first(self) -> None:
        """The server may go on, also with much, until it ends, too."""
        for connection in self.connections():
            with self.subTest(connection.name):
                client, server = connection.client, connection.server
                self.assertEqual(connection.receive(server, encrypt(client, b"one\ntwo") + client.finish()), [b"one"])
                self.assertEqual((server.ended, client.ended), (True, False))
                self.assertEqual(server.end(), [b"two"], "what is unfinished is the last line")
                late = [b"late"] * 10_000
                self.assertEqual(connection.receive(client, server.pack(late) + encrypt(server, b"last")), late)
                self.assertEqual(connection.receive(client, server.finish()), [])
                self.assertEqual((server.ended, client.ended), (True, True))
                self.assertEqual(client.end(), [b"last"])

    def test_the_server_ends_first(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                client, server = connection.client, connection.server
                self.assertEqual(connection.receive(client, server.pack([b"bye"]) + server.finish()), [b"bye"])
                self.assertEqual((server.ended, client.ended), (False, True))
                self.assertEqual(connection.receive(server, encrypt(client, b"one\ntwo") + client.finish()), [b"one"])
                self.assertEqual((server.ended, client.ended), (True, True))
                self.assertEqual((client.end(), server.end()), ([], [b"two"]))

    def test_both_end_at_once(self) -> None:
        """What crosses on the way is read."""
        for connection in self.connections():
            with self.subTest(connection.name):
                client, server = connection.client, connection.server
                from_client, from_server = client.pack([b"a"]) + client.finish(), server.pack([b"b"]) + server.finish()
                self.assertEqual(connection.receive(server, from_client), [b"a"])
                self.assertEqual(connection.receive(client, from_server), [b"b"])
                self.assertEqual((server.ended, client.ended), (True, True))

    def test_what_comes_after_the_end_counts_for_nothing(self) -> None:
        connection = Connection()
        connection.greet()
        end = connection.client.finish()
        self.assertEqual(connection.server.take(end + b"not TLS\n"), [])
        self.assertEqual((connection.server.take(b"nor this\n"), connection.server.end()), ([], []))

    def test_an_end_that_is_said_twice(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                self.assertEqual(connection.receive(connection.server, connection.client.finish()), [])
                self.assertEqual(connection.client.finish(), b"")

    def test_an_end_before_the_beginning(self) -> None:
        """Nobody has been greeted; there is nothing to end."""
        self.assertEqual(TlsLines(server_context()).finish(), b"")
        client = TlsLines(client_context(), "localhost")
        client.greet()
        client.outgoing()
        self.assertEqual(client.finish(), b"")

    def test_streams_are_small(self) -> None:
        """A server has ten thousand."""
        self.assertFalse(hasattr(TlsLines(server_context()), "__dict__"))


class CutShort(TlsTest):
    """A stream that ends without the end of TLS may lack its end: that is an error."""

    def test_between_lines_and_in_one(self) -> None:
        for text in (b"one\n", b"one\ntwo"):
            for connection in self.connections():
                with self.subTest(connection.name, text=text):
                    self.assert_cut_short(connection, connection.client, connection.server, text)
            for connection in self.connections():
                with self.subTest(connection.name, text=text):
                    self.assert_cut_short(connection, connection.server, connection.client, text)

    def assert_cut_short(self, connection: Connection, sender: TlsLines, receiver: TlsLines, text: bytes) -> None:
        """Check that it is an error when one end breaks off after a text that begins with a line."""
        self.assertEqual(connection.receive(receiver, encrypt(sender, text)), [b"one"])
        self.assertFalse(receiver.ended)
        for _ in range(2):  # it stays so
            with self.fails(CUT) as raised:
                receiver.end()
            self.assertTrue(tls.was_cut_short(raised.exception))

    def test_in_a_record(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                data = connection.client.pack([b"one"]) + connection.client.pack([b"two"])
                self.assertEqual(connection.receive(connection.server, data[:-1]), [b"one"])
                with self.fails(CUT):
                    connection.server.end()

    def test_in_the_handshake(self) -> None:
        for kept in (0, 1, 5, 100, -1):
            for piece in PIECES:
                with self.subTest(kept=kept, piece=piece):
                    connection = Connection(piece)
                    connection.client.greet()
                    hello = connection.client.outgoing()
                    for part in connection.pieces(hello[:kept]):
                        self.assertFalse(connection.server.greet(part))
                    with self.fails(CUT) as raised:
                        connection.server.greet(b"")
                    self.assertTrue(tls.was_cut_short(raised.exception))
                    with self.fails(CUT):
                        connection.client.greet(b"")


class Errors(TlsTest):
    """What is wrong is raised, after what was right."""

    def test_text_comes_first_and_the_error_next(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                data = connection.client.pack([b"one", b"two"]) + encrypt(connection.client, b"three\nfour")
                data += torn(connection.client.pack([b"five"]))
                lines = connection.server.take(data)
                self.assertEqual(lines, [b"one", b"two", b"three"])
                for _ in range(2):  # it stays broken
                    with self.fails(BROKEN):
                        connection.server.take(b"")
                    with self.fails(BROKEN):
                        connection.server.pack([b"Message received: one"])
                with self.fails(BROKEN):
                    connection.server.end()

    def test_the_error_is_told_to_the_peer(self) -> None:
        for connection in self.connections():
            with self.subTest(connection.name):
                with self.fails(BROKEN):
                    connection.receive(connection.server, torn(connection.client.pack([b"five"])))
                with self.fails("(?i)alert.bad.record.mac"):
                    connection.receive(connection.client, connection.server.outgoing())

    def test_a_client_that_does_not_speak_tls(self) -> None:
        """It is told with its first byte: OpenSSL would wait for more."""
        for said in (b"GET / HTTP/1.0\r\n", b"h", b"\n", b"\x15\x03\x01", b"\xff" * 100):
            with self.subTest(said):
                server = TlsLines(server_context())
                with self.assertRaisesRegex(tls.NotTls, "it does not speak TLS"):
                    server.greet(said)
                self.assertEqual(server.outgoing(), b"\x15\x03\x01\x00\x02\x02\x46")
                self.assertEqual(server.outgoing(), b"", "once")

    def test_a_client_that_only_begins_as_tls_does(self) -> None:
        server = TlsLines(server_context())
        with self.fails(""):
            server.greet(b"\x16ello, server!\n")

    def test_a_server_that_does_not_speak_tls(self) -> None:
        for said in (b"Message received: x\n", b"\x00" * 100):
            with self.subTest(said):
                client = TlsLines(client_context(), "localhost")
                client.greet()
                with self.fails("") as raised:
                    client.greet(said)
                problem = tls.explain(raised.exception, "localhost port 1")
                self.assertEqual(
                    problem, "TLS with localhost port 1 failed: the server does not speak TLS; leave out --tls"
                )

    def test_a_version_that_is_too_old(self) -> None:
        """Neither end takes less than TLS 1.2."""
        self.assertEqual(server_context().minimum_version, ssl.TLSVersion.TLSv1_2)
        self.assertEqual(client_context().minimum_version, ssl.TLSVersion.TLSv1_2)

    def test_what_costs_more_than_it_is_worth(self) -> None:
        """Another handshake costs the server more than the client; nobody comes back with a session ticket."""
        for context in (server_context(), client_context()):
            no_renegotiation = getattr(ssl, "OP_NO_RENEGOTIATION", 0)
            self.assertEqual(context.options & no_renegotiation, no_renegotiation)
        self.assertEqual(server_context().num_tickets, 0)


class Waiting(TlsTest):
    """While the peer is in the middle of a handshake message TLS takes no text; it is kept, and leaves later."""

    def assert_kept(self, sender: TlsLines, receiver: TlsLines, rest: bytes) -> None:
        """Check that one end keeps text until the rest of a message has come, and that all of it arrives in order."""
        self.assertEqual((sender.pack([b"one"]), sender.unsent()), (b"", 4))
        self.assertEqual((sender.pack([b"two"] * 10_000), sender.unsent()), (b"", 40_004))
        self.assertEqual((sender.outgoing(), sender.unsent()), (b"", 40_004))
        self.assertEqual(sender.take(rest), [])
        data = sender.outgoing()
        self.assertEqual(sender.unsent(), 0)
        self.assertEqual(receiver.take(data), [b"one"] + [b"two"] * 10_000)
        self.assertEqual(receiver.take(sender.pack([b"three"])), [b"three"])

    def half_a_ticket(self) -> tuple[TlsLines, TlsLines, bytes]:
        """Return a client that has got half of a session ticket, its server, and the other half.

        A long certificate is in it, so that it comes in two records (other servers send some).
        """
        server = server_context("long")
        server.num_tickets = 1
        connection = Connection(client=client_context(own="long"), server=server)
        client, far = connection.client, connection.server
        client.greet()
        far.greet(client.outgoing())
        self.assertTrue(client.greet(far.outgoing()))
        self.assertTrue(far.greet(client.outgoing()))
        ticket = far.outgoing()
        cut = 5 + int.from_bytes(ticket[3:5], "big")
        self.assertGreater(cut, RECORD)
        self.assertLess(cut, len(ticket))
        self.assertEqual(client.take(ticket[:cut]), [])
        return client, far, ticket[cut:]

    def test_a_client_amid_a_session_ticket(self) -> None:
        self.assert_kept(*self.half_a_ticket())

    def test_an_end_while_text_waits(self) -> None:
        """It can not be said before the text; who asks again when that has left has it said."""
        client, far, rest = self.half_a_ticket()
        self.assertEqual((client.pack([b"one"]), client.finish()), (b"", b""))
        self.assertEqual(client.take(rest), [])
        self.assertEqual((far.take(client.outgoing()), far.ended), ([b"one"], False))
        self.assertEqual((far.take(client.finish()), far.ended), ([], True))

    def test_a_server_amid_a_certificate(self) -> None:
        """Any handshake message will do; this one is long enough for two records."""
        server, client = server_context("long"), client_context(own="long")
        server.verify_mode = ssl.CERT_OPTIONAL
        client.post_handshake_auth = True
        connection = Connection(client=client, server=server)
        connection.greet()
        connection.server._tls.verify_client_post_handshake()
        self.assertEqual(connection.client.take(connection.server.pack([b"who is there?"])), [b"who is there?"])
        certificate = connection.client.outgoing()
        cut = 5 + int.from_bytes(certificate[3:5], "big")
        self.assertLess(cut, len(certificate))
        self.assertEqual(connection.server.take(certificate[:cut]), [])
        self.assert_kept(connection.server, connection.client, certificate[cut:])


class Trust(TlsTest):
    """Whom an end trusts, and what it says of others."""

    def problem(self, error: BaseException) -> str:
        """Return what a client tells of an error."""
        assert isinstance(error, ssl.SSLError)
        return tls.explain(error, "localhost port 9000")

    def assert_not_trusted(self, connection: Connection, problem: str, alert: str) -> None:
        """Check that a client trusts no certificate, says why, and tells the server."""
        connection.client.greet()
        connection.server.greet(connection.client.outgoing())
        with self.fails("") as raised:
            connection.client.greet(connection.server.outgoing())
        said = self.problem(raised.exception)
        self.assertRegex(said, rf"\Acannot trust the certificate of localhost port 9000: {problem}\Z")
        with self.fails(alert):
            connection.server.greet(connection.client.outgoing())

    def test_a_server_that_the_client_does_not_know(self) -> None:
        problem = "self.signed certificate; name its CA, or the certificate itself, with --tls-ca"
        self.assert_not_trusted(Connection(client=client_context("other")), problem, "(?i)alert")

    def test_a_server_with_another_name(self) -> None:
        problem = "Hostname mismatch, certificate is not valid for 'elsewhere'; connect to a name or address .* in it"
        self.assert_not_trusted(Connection(host="elsewhere"), problem, "(?i)alert")

    def test_a_client_that_the_server_knows(self) -> None:
        for connection in self.connections(own="alice"):
            with self.subTest(connection.name):
                self.assertEqual(connection.server.subject(), r"commonName=Alice, organizationName=Wonder\nland")
                self.assertEqual(connection.client.subject(), "commonName=localhost")
                data = connection.client.pack([b"here I am"])
                self.assertEqual(connection.receive(connection.server, data), [b"here I am"])

    def test_a_client_without_a_certificate(self) -> None:
        """Where none is asked for, it has no name; where one is, it hears after its own handshake that it needs one."""
        connection = Connection()
        connection.greet()
        self.assertEqual(connection.server.subject(), "")
        wanted = "the server wants a client certificate (--tls-cert and --tls-key)"
        for own in ("", "other"):
            with self.subTest(own):
                connection = Connection(client=client_context(own=own), server=server_context("alice"))
                connection.client.greet()
                connection.server.greet(connection.client.outgoing())
                self.assertTrue(connection.client.greet(connection.server.outgoing()), "TLS 1.3 ends it here")
                with self.fails("(?i)certificate"):
                    connection.server.greet(connection.client.outgoing())
                with self.fails("(?i)alert|certificate.required") as raised:
                    connection.client.take(connection.server.outgoing())
                why = "the server does not trust the CA of this client's certificate (--tls-cert)" if own else wanted
                said = self.problem(raised.exception)
                self.assertEqual(said, f"TLS with localhost port 9000 failed: {why}")

    def test_a_stream_that_was_cut_short(self) -> None:
        connection = Connection()
        connection.greet()
        with self.fails(CUT) as raised:
            connection.client.end()
        said = self.problem(raised.exception)
        self.assertEqual(said, "connection to localhost port 9000 lost: it was cut short, without the end of TLS")

    def test_what_the_person_can_do(self) -> None:
        for problem, cure in (
            ("certificate has expired", "the server needs a new one"),
            ("certificate is not yet valid", "check the clocks of both machines"),
            ("IP address mismatch, certificate is not valid for '127.0.0.1'.", "connect to a name or address .* in it"),
            ("unable to get local issuer certificate", "name its CA, or the certificate itself, with --tls-ca"),
        ):
            error = ssl.SSLCertVerificationError()
            error.verify_message = problem
            with self.subTest(problem):
                self.assertRegex(self.problem(error), f"^cannot trust .*: {problem.rstrip('.')}; {cure}$")

    def test_any_other_error_in_the_words_of_openssl(self) -> None:
        error = ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL: BAD_LENGTH] bad length")
        error.reason = "BAD_LENGTH"
        self.assertEqual(self.problem(error), "TLS with localhost port 9000 failed: bad length")


class Files(TlsTest):
    """What is wrong with files is said in one line."""

    def assert_refused(self, pattern: str, certificate: str, key: str, ca: str | None = None) -> None:
        """Check that both ends refuse to use these files."""
        names = {"ca": file(ca) if ca else None, "certificate": file(certificate), "key": file(key)}
        with self.subTest(certificate=certificate, key=key, ca=ca):
            with self.assertRaisesRegex(Failure, pattern):
                tls.server_context(file(certificate), file(key), names["ca"])
            with self.assertRaisesRegex(Failure, pattern):
                tls.client_context(names["ca"], names["certificate"], names["key"])

    def test_a_certificate_and_its_key(self) -> None:
        self.assert_refused("^cannot read [^ ]*none.pem: No such file or directory;", "none.pem", "server.key")
        self.assert_refused("^cannot use [^ ]*garbage.pem: it holds no certificate", "garbage.pem", "server.key")
        self.assert_refused("server.pem: the key in [^ ]*other.key belongs to another", "server.pem", "other.key")
        self.assert_refused("^the key in .*locked.key needs a passphrase; save it without", "server.pem", "locked.key")

    def test_whom_to_trust(self) -> None:
        for name in ("none.pem", "garbage.pem"):
            self.assert_refused(rf"^cannot use .*{name}: .+; give .*CA.* PEM$", "server.pem", "server.key", name)


if __name__ == "__main__":
    unittest.main()
