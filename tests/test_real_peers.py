"""Servers with a protocol of their own, and programs that log: each says what it says to anybody."""

from __future__ import annotations

import socket
import threading
import unittest

from redis_server import HAS_REDIS, Redis
from support import Process, TestCase, needs

HOST = "127.0.0.1"
ANSWERS = {
    b"HELO": b"250 mail.test",
    b"MAIL": b"250 2.1.0 Ok",
    b"RCPT": b"250 2.1.5 Ok",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>",
    b".": b"250 2.0.0 Ok: queued",
    b"QUIT": b"221 2.0.0 Bye",
}
"""What a mail server says, by the first word that it is told (RFC 5321)."""
DIALOGUE = ["HELO me.test", "MAIL FROM:<al@me.test>", "RCPT TO:<bo@mail.test>", "DATA", ".", "QUIT"]
REPLIES = [b"220 mail.test ESMTP", *ANSWERS.values()]


class MailServer:
    """The smallest SMTP server, for one client. As strict ones do, it hangs up at a line that ends in a bare LF."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.mail: list[bytes] = []
        self._listener = listener
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connected, _ = self._listener.accept()
        is_mail = False
        with connected, connected.makefile("rb") as lines:
            connected.sendall(REPLIES[0] + b"\r\n")
            for line in lines:
                text = line.removesuffix(b"\r\n")
                if line != text + b"\r\n":
                    connected.sendall(b"521 5.5.2 bare <LF> received\r\n")
                    return
                if is_mail and text != b".":
                    self.mail.append(text)
                    continue
                word = text.partition(b" ")[0]
                is_mail = word == b"DATA"
                connected.sendall(ANSWERS.get(word, b"502 5.5.2 command not recognized") + b"\r\n")
                if word == b"QUIT":
                    lines.read()  # what closes before the client has said all would be a lost connection
                    return


class Mail(TestCase):
    """A mail server has answers of its own, and wants CRLF."""

    def greeted(self, *options: object) -> Process:
        """Return a client of a mail server, once the greeting is there, which would answer what came before it."""
        server = MailServer(self.listen())
        client = self.client("tcp_client.py", server.port, "--any-reply", "--stats", *options)
        client.wait_for("^220 ")
        return client

    def test_each_command_is_answered(self) -> None:
        client = self.greeted("--ending", "crlf")
        client.type("\n".join([*DIALOGUE, ""]))
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(client.raw_output.splitlines(), REPLIES)
        self.assertRegex(client.errors, r"\A6 sent, 6 confirmed, 0 lost; ")

    def test_a_whole_mail(self) -> None:
        """Its lines are not answered, so that no reply is expected."""
        server = MailServer(self.listen())
        text = "\n".join([*DIALOGUE[:4], "Subject: hello", "", "Hello Bo!", *DIALOGUE[4:], ""])
        options = ("--ending", "crlf", "--no-reply")
        client = self.run_client("tcp_client.py", server.port, *options, typed=text)
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.raw_output.splitlines(), REPLIES)
        server.thread.join()
        self.assertEqual(server.mail, [b"Subject: hello", b"", b"Hello Bo!"])

    def test_the_wrong_ending(self) -> None:
        client = self.greeted()
        client.type("HELO me.test\nQUIT\n")
        client.end_input()
        self.assertEqual(client.wait(), 1)
        self.assertIn("521 5.5.2 bare <LF> received", client.output)
        self.assertIn("1 message was not confirmed", client.errors)


class Programs(TestCase):
    """Programs that bring a client or server of their own."""

    @HAS_REDIS
    def test_redis(self) -> None:
        redis = Redis()
        self.addCleanup(redis.close)
        options = ("--ending", "crlf", "--any-reply", "--stats")
        client = self.client("tcp_client.py", redis.port, *options, "-m", "PING", "-m", "DEL a", "-m", "INCR a")
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(client.output, "+PONG\n:0\n:1\n")
        self.assertRegex(client.errors, r"\A3 sent, 3 confirmed, 0 lost; ")

    @needs("logger")
    def test_logger(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--reply", "none")
        for option, protocol, port in (("-T", "TCP", server.port), ("-d", "UDP", server.udp_port)):
            with self.subTest(option):
                logger = self.start(
                    "logger", option, "-n", HOST, "-P", port, "--rfc3164", "-t", "backup", f"by {option}"
                )
                self.assertEqual((logger.wait(), logger.errors), (0, ""))
                server.wait_for(rf"^\[{protocol} Server\] Received from {HOST}:\d+: <13>.* backup: by {option}$")

    @needs("curl")
    def test_curl(self) -> None:
        server = self.server("tcp_server.py")
        curl = self.start("curl", "--silent", "--no-buffer", f"telnet://{HOST}:{server.port}")
        curl.type("hello\n")
        curl.wait_for("^Message received: hello$")
        curl.type("terminate\n")
        self.assertEqual((curl.wait(), curl.errors), (0, ""))


if __name__ == "__main__":
    unittest.main()
