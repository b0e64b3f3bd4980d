"""Certificates: what is wrong with their files, how long they are good, and loading them again while a server runs."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from support import Server, TestCase, needs, new_certificate, new_key

import certificates
import credentials
from common import Failure

FOLDER = Path()
"""Where the certificates and keys are: NAME.pem and NAME.key."""


def setUpModule() -> None:
    """Make the certificates: one for 30 days, one for 13, and one that has expired."""
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    global FOLDER  # noqa: PLW0603
    FOLDER = Path(tempfile.mkdtemp())
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)
    new_certificate(FOLDER, "good", "/CN=good", "DNS:localhost")
    new_certificate(FOLDER, "other", "/CN=other", "DNS:localhost")
    new_key(
        FOLDER,
        "short",
        "/CN=short",
        "-x509",
        "-days",
        13,
        "-out",
        "short.pem",
        "-addext",
        "subjectAltName=DNS:localhost",
    )
    (FOLDER / "garbage").write_text("nothing of that kind\n")
    whole = (FOLDER / "good.pem").read_text().splitlines(keepends=True)
    (FOLDER / "damaged.pem").write_text("".join([whole[0], *whole[3:]]))
    text = (FOLDER / "good.key").read_text().splitlines(keepends=True)
    (FOLDER / "damaged.key").write_text("".join([text[0], "AAAA\n", *text[2:]]))


class Explained(unittest.TestCase):
    """One line names the file that is to blame, and says what is wrong with it."""

    def problem(self, certificate: str, key: str) -> str:
        """Return what is said of two files of FOLDER."""
        with self.assertRaises(Failure) as caught:
            import tls

            tls.server_context(str(FOLDER / certificate), str(FOLDER / key), None)
        return str(caught.exception).replace(f"{FOLDER}/", "")

    def test_what_is_wrong_and_with_which(self) -> None:
        for certificate, key, said in (
            ("none.pem", "good.key", "cannot read none.pem: No such file or directory; check the name"),
            ("good.pem", "none.key", "cannot read none.key: No such file or directory; check the name"),
            ("garbage", "good.key", "cannot use garbage: it holds no certificate in PEM; name the file that does"),
            ("good.key", "good.pem", "cannot use good.key: it holds no certificate in PEM; name the file that does"),
            ("good.pem", "garbage", "cannot use garbage: it holds no private key in PEM; name the file that does"),
            ("damaged.pem", "good.key", "cannot use damaged.pem: its certificate is damaged; copy or make it again"),
        ):
            with self.subTest(certificate=certificate, key=key):
                self.assertEqual(self.problem(certificate, key), said)
        self.assertRegex(self.problem("good.pem", "other.key"), "good.pem: the key in other.key belongs to another")
        self.assertRegex(self.problem("good.pem", "damaged.key"), "^cannot use damaged.key: .+; copy or make it again$")


@unittest.skipUnless(os.name == "posix", "no users")
@needs("setpriv")
class Unreadable(TestCase):
    """The user who may not read a file is named."""

    def test_who_may_not_read_it(self) -> None:
        locked = FOLDER / "locked"
        shutil.copy(FOLDER / "good.pem", locked)
        locked.chmod(0)
        within = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        good = (FOLDER / "good.pem", FOLDER / "good.key")
        for start in (("tcp_server.py", 0), ("tcp_client.py", "127.0.0.1", 1, "--tls")):
            for certificate, key, ca in ((locked, good[1], good[0]), (good[0], locked, good[0]), (*good, locked)):
                files = ("--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca)
                said = f"cannot read {locked}: permission denied for {certificates.this_user()}; let that user read it"
                self.assert_one_line_error(self.start(*within, sys.executable, *start, *files), said)


class Expiry(TestCase):
    """How long a certificate is good is read from it, and said when that is not long."""

    def test_as_openssl_says(self) -> None:
        for name in ("good", "short"):
            path = FOLDER / f"{name}.pem"
            command = ["openssl", "x509", "-in", str(path), "-noout", "-enddate"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            self.assertEqual(credentials.good_until(str(path)), ssl.cert_time_to_seconds(told.partition("=")[2]))
        self.assertEqual(credentials.good_until(str(FOLDER / "damaged.pem")), float("inf"))

    def test_times_after_2049(self) -> None:
        """They have four digits for the year."""
        der = bytes.fromhex("3027 3025 0201 00 3000 3000 301e 170d") + b"200101000000Z" + b"\x18\x0f20510203040506Z"
        self.assertEqual(time.gmtime(credentials.expiry(der))[:6], (2051, 2, 3, 4, 5, 6))

    def test_a_server_says_so(self) -> None:
        server = self.server("tcp_server.py", "--tls-cert", FOLDER / "short.pem", "--tls-key", FOLDER / "short.key")
        self.assertRegex(
            server.output, r"^\[TCP Server\] The certificate in \S+/short.pem expires in 13 days, on \d{4}-\d\d-\d\d "
        )
        server = self.server("tcp_server.py", "--tls-cert", FOLDER / "good.pem", "--tls-key", FOLDER / "good.key")
        self.assertNotIn("certificate in", server.output)

    def test_an_expired_one(self) -> None:
        late = "import time; now = time.time; time.time = lambda: now() + 20 * 86400; import runpy, sys; "
        late += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        files = ("--tls-cert", FOLDER / "short.pem", "--tls-key", FOLDER / "short.key")
        server = self.start(sys.executable, "-c", late, "tcp_server.py", 0, *files)
        server.wait_for(r"The certificate in \S+/short.pem has expired, on \d{4}-\d\d-\d\d \d\d:\d\d UTC$")


@unittest.skipUnless(hasattr(signal, "SIGHUP"), "no SIGHUP")
class Renewed(TestCase):
    """SIGHUP to a server that speaks TLS."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.copy("good")

    def copy(self, name: str, key: str = "") -> None:
        """Put a certificate and a key where the server looks for them."""
        shutil.copy(FOLDER / f"{name}.pem", self.folder / "cert.pem")
        shutil.copy(FOLDER / f"{key or name}.key", self.folder / "key.pem")

    def tls_server(self, **popen: object) -> Server:
        """Start a server with these files."""
        files = ("--tls-cert", self.folder / "cert.pem", "--tls-key", self.folder / "key.pem")
        return self.server("tcp_server.py", *files, **popen)

    def secured(self, port: int, name: str) -> ssl.SSLSocket:
        """Return a connection, which trusts this certificate alone."""
        context = ssl.create_default_context(cafile=str(FOLDER / f"{name}.pem"))
        secured = context.wrap_socket(self.connect(port), server_hostname="localhost")
        self.addCleanup(secured.close)
        return secured

    def ask(self, secured: ssl.SSLSocket) -> None:
        """Check that a message is answered."""
        secured.sendall(b"hello\n")
        self.assertEqual(secured.recv(1000), b"Message received: hello\n")

    def test_for_connections_from_then_on(self) -> None:
        server = self.tls_server()
        before = self.secured(server.port, "good")
        self.ask(before)
        self.copy("other")
        server.signal(signal.SIGHUP)
        server.wait_for(r"^\[TCP Server\] Certificate and key were loaded again\.$")
        after = self.secured(server.port, "other")
        self.ask(after)
        self.ask(before)
        self.assertRaises(ssl.SSLCertVerificationError, self.secured, server.port, "good")
        self.copy("good", "other")
        server.signal(signal.SIGHUP)
        server.wait_for(r"^\[TCP Server\] Going on with the certificate of before: .*key\.pem belongs to another")
        third = self.secured(server.port, "other")
        self.ask(third)
        self.copy("short")
        server.signal(signal.SIGHUP)
        server.wait_for(r"expires in 13 days.*\n.*loaded again\.$")
        for secured in (before, after, third):
            secured.close()
        server.signal(signal.SIGTERM)
        self.assertEqual((server.wait(), server.errors), (0, ""))

    def test_elsewhere_it_stops_a_server(self) -> None:
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        for server in (self.tls_server(stdin=theirs), self.server("tcp_server.py")):
            server.signal(signal.SIGHUP)
            self.assertEqual(server.wait(), 0)
            self.assertIn("[Server] SIGHUP received. Stopping server...\n", server.output)


if __name__ == "__main__":
    unittest.main()
