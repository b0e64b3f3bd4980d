"""What comes from a hostile or broken server to the clients: it can not crash, hang, fool or paint on them."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import sys
import threading
import unittest
from typing import Any

from hostile import CONFIRMATION, MIB, NASTY, on_linux, random_texts, reset
from support import PATIENCE, Clock, Process, TestCase, needs, receive_all, receive_lines, resident_bytes, wait_until

try:
    import fcntl
    import pty
    import termios
except ImportError:  # Windows
    pty = None  # type: ignore[assignment]

on_posix = unittest.skipUnless(pty, "needs pseudo-terminals")


class ServerTest(TestCase):
    """A test in which the test itself is the server."""

    def setUp(self) -> None:
        """Listen on both protocols."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(PATIENCE)
        self.endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.endpoint.close)
        self.endpoint.settimeout(PATIENCE)
        self.endpoint.bind(("127.0.0.1", 0))

    def tcp_client(self, *options: object, **popen: Any) -> tuple[Process, socket.socket]:
        """Return a client and our end of its connection."""
        client = self.client("tcp_client.py", "127.0.0.1", self.listener.getsockname()[1], *options, **popen)
        connected, _ = self.listener.accept()
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE)
        return client, connected

    def udp_client(self, *options: object, **popen: Any) -> tuple[Process, Any]:
        """Return a client and the address that its first datagram came from."""
        client = self.client("udp_client.py", "127.0.0.1", self.endpoint.getsockname()[1], *options, **popen)
        return client, self.endpoint.recvfrom(65536)[1]

    def assert_fails(self, client: Process, pattern: str) -> None:
        """Check that a client ended with 1 and one line of error."""
        self.assert_one_line_error(client, pattern)


class Lies(ServerTest):
    """A server that says what is not true: nothing but its own confirmation confirms a message."""

    def test_closed_or_reset(self) -> None:
        """A connection that ends in place of a reply leaves the message unconfirmed, and named."""
        for ending in (socket.socket.close, reset):
            with self.subTest(ending.__name__):
                client, connected = self.tcp_client("-m", "hello")
                receive_lines(connected, 1)
                ending(connected)
                self.assert_fails(client, "1 message was not confirmed by .*: hello")

    def test_part_of_a_confirmation(self) -> None:
        """A confirmation that breaks off confirms nothing."""
        client, connected = self.tcp_client("-m", "hello")
        receive_lines(connected, 1)
        connected.sendall(CONFIRMATION + b"hell")
        connected.close()
        self.assert_fails(client, "not confirmed by .*: hello")

    def test_silence(self) -> None:
        """A server that does not answer is not waited for longer than --timeout."""
        client, connected = self.tcp_client("-m", "hello", "--timeout", 0.3)
        other, _ = self.udp_client("-m", "hello", "--timeout", 0.3)
        for silenced in (client, other):
            self.assert_fails(silenced, "not confirmed by .*: hello")
        self.assertEqual(receive_all(connected), b"hello\n")

    def test_wrong_confirmations(self) -> None:
        """Confirmations of what was not sent, or sent once and confirmed twice, confirm nothing more."""
        client, connected = self.tcp_client("-m", "one", "-m", "two", "--stats")
        receive_lines(connected, 2)
        connected.sendall(CONFIRMATION + b"one\n" + CONFIRMATION + b"one\n" + CONFIRMATION + b"three\n")
        connected.close()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: two\n")
        self.assertIn("2 sent, 1 confirmed, 1 lost", client.errors)

    def test_confirmation_before_the_message(self) -> None:
        """What was confirmed before it was sent is not confirmed."""
        client, connected = self.tcp_client("--timeout", 0.2)
        connected.sendall(CONFIRMATION + b"hello\n")
        client.wait_for("^Message received: hello$")
        client.type("hello\n")
        client.end_input()
        self.assert_fails(client, "not confirmed by .*: hello")

    def test_goodbye_in_place_of_a_reply(self) -> None:
        """A server that shuts down instead of answering leaves the message unconfirmed."""
        client, connected = self.tcp_client("-m", "hello")
        receive_lines(connected, 1)
        connected.sendall(b"Server shutting down...\n")
        connected.close()
        self.assert_fails(client, "not confirmed by .*: hello")
        client, address = self.udp_client("-m", "hello")
        self.endpoint.sendto(b"Server shutting down...", address)
        self.assert_fails(client, "not confirmed by .*: hello")

    def test_refusals_without_number(self) -> None:
        """Thousands of refusals for one message leave it unconfirmed, and do nothing else."""
        client, connected = self.tcp_client("-m", "hello", "--timeout", 0.3)
        receive_lines(connected, 1)
        connected.sendall(b"Error: message longer than 1 bytes\n" * 5000)
        self.assert_fails(client, "not confirmed by .*: hello")

    def test_exit_that_is_not_answered(self) -> None:
        """An 'exit' without an answer is a failure."""
        client, connected = self.tcp_client("-m", "exit", "--timeout", 0.3)
        self.assertEqual(receive_lines(connected, 1), [b"exit"])
        self.assert_fails(client, "no answer to 'exit'")

    def test_exit_that_is_answered_by_the_end_alone(self) -> None:
        """A connection that ends in place of the answer is a failure, too."""
        client, connected = self.tcp_client("-m", "exit")
        self.assertEqual(receive_lines(connected, 1), [b"exit"])
        connected.close()
        self.assert_fails(client, "closed without an answer to 'exit'")

    def test_exit_that_is_answered_but_has_no_end(self) -> None:
        """A server that said that it shuts down, and does not close, is not waited for longer than --timeout."""
        clock = Clock(self)
        client, connected = self.tcp_client("-m", "exit", "--timeout", PATIENCE, env=clock.environment)
        self.assertEqual(receive_lines(connected, 1), [b"exit"])
        connected.sendall(b"Server shutting down...\n")
        client.wait_for("shutting down")
        clock.skip(2 * PATIENCE, client)
        self.assertEqual((client.wait(PATIENCE / 2), client.errors), (0, ""))

    def test_refusals_where_no_reply_is_expected(self) -> None:
        """They are failures, whatever became of the other messages."""
        for refusal in ("Error: the server is full (1 clients)", "Error: message longer than 5 bytes"):
            with self.subTest(refusal):
                client, connected = self.tcp_client("-m", "hello!", "--no-reply")
                self.assertEqual(receive_all(connected), b"hello!\n")
                connected.sendall(refusal.encode() + b"\n")
                connected.close()
                self.assert_fails(client, f"refused: {re.escape(refusal)}")

    def test_datagrams_of_others(self) -> None:
        """What does not come from the address that was asked is not seen."""
        client, address = self.udp_client("-m", "hello")
        for host in ("127.0.0.1", "127.0.0.2") if sys.platform == "linux" else ("127.0.0.1",):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofer:
                spoofer.bind((host, 0))
                for said in (CONFIRMATION + b"hello", b"Server shutting down...", b"forged"):
                    spoofer.sendto(said, address)
        self.endpoint.sendto(b"really", address)
        self.endpoint.sendto(CONFIRMATION + b"hello", address)
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(client.output, "really\nMessage received: hello\n")

    def test_terminate(self) -> None:
        """A client that was told to end does not wait for a server that goes on talking."""
        client, connected = self.tcp_client()
        client.type("terminate\n")
        self.assertEqual(receive_lines(connected, 1), [b"terminate"])
        with contextlib.suppress(ConnectionError):
            while client.popen.poll() is None:
                connected.sendall(b"stay!\n" * 1000)
        self.assertEqual(client.wait(), 0, client.errors)

    def test_terminate_without_replies(self) -> None:
        """It waits for the end, but not for longer than --timeout, whatever is said."""
        client, connected = self.tcp_client("--no-reply", "--timeout", 0.3)
        client.type("terminate\n")
        self.assertEqual(receive_all(connected), b"terminate\n")

        def is_left() -> bool:
            with contextlib.suppress(ConnectionError):
                connected.sendall(b"stay!\n")
            return client.popen.poll() is not None

        wait_until(is_left, "the end")
        client.wait()
        self.assertNotIn("Traceback", client.errors)


class Floods(ServerTest):
    """A server that says too much, or takes too little."""

    def test_a_line_without_end(self) -> None:
        """It goes out as it comes, costs no memory, and holds nobody for ever."""
        clock = Clock(self)
        options: dict[str, Any] = {"stdout": self.nowhere(), "env": clock.environment}
        client, connected = self.tcp_client("-m", "hello", "--timeout", PATIENCE, **options)
        connected.sendall(b"x" * 4 * MIB)
        memory = resident_bytes(client)
        for _ in range(16):
            connected.sendall(b"x" * MIB)
        self.assertLess(resident_bytes(client) - memory, 4 * MIB)
        clock.skip(20 * PATIENCE)

        def has_left() -> bool:
            try:
                connected.sendall(b"x" * MIB)
            except ConnectionError:
                return True
            return False

        wait_until(has_left, "it leaves")
        self.assert_fails(client, "1 message was not confirmed by .*: hello$")

    def test_a_reply_in_many_pieces(self) -> None:
        """A reply of 64 KiB that arrives a byte at a time is a reply."""
        message = "x" * 65536
        client, connected = self.tcp_client("-m", message)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        receive_lines(connected, 1)
        for byte in CONFIRMATION + message.encode() + b"\n":
            connected.send(bytes([byte]))
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(client.output, f"Message received: {message}\n")

    @on_linux
    def test_lines_without_number(self) -> None:
        """A flood of lines that nobody asked for is shown, and costs no memory."""
        client, connected = self.tcp_client("-m", "hello", stdout=self.nowhere())
        flood = b"".join(b"%d: what nobody asked for\n" % number for number in range(40_000))
        connected.sendall(flood)
        memory = resident_bytes(client)
        for _ in range(30):
            connected.sendall(flood)
        self.assertLess(resident_bytes(client) - memory, 4 * MIB)
        connected.sendall(CONFIRMATION + b"hello\n")
        self.assertEqual(client.wait(), 0, client.errors)

    @on_linux
    def test_datagrams_without_number(self) -> None:
        """A flood of datagrams, empty, small and as large as can be, is survived."""
        client, address = self.udp_client("-m", "hello", "--timeout", PATIENCE, stdout=self.nowhere())
        for number in range(3000):
            self.endpoint.sendto(b"x" * (65507, 0, 10, 1500)[number % 4], address)
        wait_until(lambda: self._is_over(client, address), "the end of the client")
        self.assertEqual(client.wait(), 0, client.errors)

    def _is_over(self, client: Process, address: Any) -> bool:
        self.endpoint.sendto(CONFIRMATION + b"hello", address)  # again, since the flood may have left no room for it
        return client.popen.poll() is not None

    @on_linux
    @needs("yes")
    def test_a_server_that_never_reads(self) -> None:
        """Input without end is not taken faster than the server reads it; in the end what is lost is counted."""
        reading, writing = os.pipe()
        self.start("yes", "what nobody reads", stdout=writing)
        os.close(writing)
        clock = Clock(self)
        client, connected = self.tcp_client("--timeout", PATIENCE, stdin=reading, env=clock.environment)
        wait_until(lambda: is_full(reading) and client.is_at_rest(), "it takes nothing more")
        os.close(reading)
        self.assertLess(resident_bytes(client), 64 * MIB)
        clock.skip(2 * PATIENCE, client)
        self.assertEqual(client.wait(), 1)
        self.assertRegex(
            client.errors, r"\A.*\d+ messages were not confirmed by .*, and \d+ more; the rest of the input .*\n\Z"
        )
        connected.close()

    @on_linux
    @needs("yes")
    def test_a_server_that_never_reads_and_owes_no_reply(self) -> None:
        """It is left in time, as one that owes some is: whether it is silent, or goes on talking."""
        clock = Clock(self)
        for says in ("", "drips"):
            with self.subTest(says):
                reading, writing = os.pipe()
                self.start("yes", "what nobody reads", stdout=writing)
                os.close(writing)
                options = ("--no-reply", "--timeout", PATIENCE)
                client, connected = self.tcp_client(*options, stdin=reading, env=clock.environment)
                wait_until(lambda: is_full(reading) and client.is_at_rest(), "it takes nothing more")  # noqa: B023
                os.close(reading)
                for drops, part in enumerate([0.5] * 19 + [0.75], 1) if says else ((0, 2),):  # of --timeout
                    connected.sendall(b"x\n" * bool(says))
                    client.wait_for(rf"(x\n){{{drops}}}")
                    clock.skip(part * PATIENCE, client)
                self.assert_fails(client, "127.0.0.1:.* took nothing more within [0-9.]+ s; the rest of the input was")

    def nowhere(self) -> int:
        """Return a descriptor of /dev/null."""
        descriptor = os.open(os.devnull, os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        return descriptor


def is_full(reading: int) -> bool:
    """Tell whether a pipe holds more than most programs read at once."""
    return int.from_bytes(fcntl.ioctl(reading, termios.FIONREAD, bytes(4)), sys.byteorder) > 60_000


class Garbage(ServerTest):
    """A server that answers with random bytes."""

    def test_over_tcp(self) -> None:
        """20,000 random byte strings as answers, piped: passed on byte for byte; the message stays unconfirmed."""
        texts = random_texts(20_000, 40)
        for part in range(10):
            client, connected = self.tcp_client("-m", "hello")
            said = b"\n".join(texts[part::10])
            connected.sendall(said)
            connected.shutdown(socket.SHUT_WR)
            self.assert_fails(client, "not confirmed by .*: hello")
            self.assertEqual(client.raw_output, said)

    def test_over_udp(self) -> None:
        """20,000 random datagrams as answers, piped: each is passed on; the message is confirmed after them."""
        texts = [text.removesuffix(b"\n") + b"\n" for text in random_texts(20_000, 40)]
        for first in range(0, len(texts), 5000):
            client, address = self.udp_client("-m", "hello", "--timeout", 3 * PATIENCE)
            expected = b""
            for start in range(first, first + 5000, 100):
                for text in texts[start : start + 100]:
                    self.endpoint.sendto(text, address)
                expected += b"".join(texts[start : start + 100])
                wait_until(functools.partial(self._has_shown, client, expected), "the datagrams")
            self.endpoint.sendto(CONFIRMATION + b"hello", address)
            self.assertEqual(client.wait(), 0, client.errors)
            self.assertEqual(client.raw_output, expected + b"Message received: hello\n")

    @staticmethod
    def _has_shown(client: Process, expected: bytes) -> bool:
        return len(client.raw_output) >= len(expected)


@on_posix
class Painting(ServerTest):
    """A server that sends what would paint on a terminal."""

    def setUp(self) -> None:
        """Open a pseudo-terminal and collect what is written on it."""
        super().setUp()
        self.shown = bytearray()
        self.ours, self.theirs = pty.openpty()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        """Close the terminal, if it is open."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1
            self.reader.join(PATIENCE)
            os.close(self.ours)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while data := os.read(self.ours, 65536):
                self.shown.extend(data)

    @property
    def text(self) -> str:
        """What is on the terminal."""
        return bytes(self.shown).decode(errors="backslashreplace")

    def wait_for_row(self, row: str) -> None:
        """Wait until the terminal shows a row that ends so."""
        wait_until(lambda: f"{row}\r\n" in self.text, row)

    def test_replies_on_a_terminal(self) -> None:
        """Replies, random ones too, are shown in printable characters alone where output is a terminal."""
        client, connected = self.tcp_client("-m", "hello", stdout=self.theirs)
        connected.sendall(b"".join(text.encode() + b"\n" for text, _ in NASTY.values()))
        connected.sendall(b"\n".join(random_texts(2000, 40)) + b"\n" + CONFIRMATION + b"hello\n")
        self.assertEqual(client.wait(), 0, client.errors)
        self.hang_up()
        lines = self.text.split("\r\n")
        self.assertEqual(lines[: len(NASTY)], [shown for _, shown in NASTY.values()])
        for line in lines:
            self.assertTrue(re.sub("[\u00a0\t]", " ", line).isprintable(), ascii(line))
        self.assertEqual(lines[-2:], ["Message received: hello", ""])

    def test_datagrams_on_a_terminal(self) -> None:
        """A datagram with line feeds inside is one row."""
        client, address = self.udp_client("-m", "hello", stdout=self.theirs)
        self.endpoint.sendto(b"one\ntwo\x1b[2J\r\nthree\r\n", address)
        self.endpoint.sendto(CONFIRMATION + b"hello", address)
        self.assertEqual(client.wait(), 0, client.errors)
        self.hang_up()
        self.assertEqual(self.text, "one\\ntwo\\x1b[2J\\r\\nthree\r\nMessage received: hello\r\n")

    def test_replies_above_a_prompt(self) -> None:
        """Where somebody types, too, replies are shown escaped, and can not forge the prompt or a status line."""
        options = {
            "stdin": self.theirs,
            "stdout": self.theirs,
            "stderr": self.theirs,
            "env": {"TERM": "xterm", "NO_COLOR": "1"},
        }
        client, connected = self.tcp_client(**options)
        wait_until(lambda: "You: " in self.text, "the prompt")
        for text, shown in NASTY.values():
            connected.sendall(text.encode() + b"\n")
            self.wait_for_row(f"Server: {shown}")
        connected.sendall(b"\x1b]0;owned\x07\x9b2J\n" + b"the last\n")
        self.wait_for_row("Server: the last")
        self.assertNotRegex(self.text, re.compile("\x1b\\]|\x9b|\x07|\x1b\\[2J|\u202e|\u2028"))
        connected.close()
        self.assertEqual(client.wait(), 1)

    def test_messages_in_errors(self) -> None:
        """What an error quotes of a message is escaped, too."""
        client, connected = self.tcp_client("-m", "a\x1b[2Jb")
        receive_lines(connected, 1)
        connected.close()
        self.assert_fails(client, re.escape(r"a\x1b[2Jb"))


if __name__ == "__main__":
    unittest.main()
