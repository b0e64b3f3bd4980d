"""Pipes: much input at once, memory that stays flat, the end of input, and the window of unanswered datagrams."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hostile import kernel_rows, on_linux
from support import PATIENCE, Process, TestCase, receive_all, receive_lines, wait_until, with_constants

from udp_client import UdpChannel

MUCH = 100 * 1000 * 1000
LITTLE_MEMORY = 100 * 1000 * 1000
CONFIRMATION = b"Message received: "
HAS_PROC = unittest.skipUnless(Path("/proc/self/status").exists(), "memory is read from /proc")
QUIET_TIME = 0.3
"""Seconds without progress after which a full pipe or socket is taken for full; too short would only weaken a test."""


def peak_bytes(process: Process) -> int:
    """Return the most memory that a running process has held at any time."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


def numbered_lines(total: int, length: int) -> Iterator[bytes]:
    """Yield blocks of different lines of `length` bytes each, line feed included, `total` bytes in all."""
    filler = (b"0123456789abcdef" * (length // 16 + 1))[: length - 13]
    block = max(1, (1 << 17) // length)
    for start in range(0, total // length, block):
        numbers = range(start, min(start + block, total // length))
        yield b"".join([b"%012d%s\n" % (number, filler) for number in numbers])


class Much(TestCase):
    """100 MB of lines go through a client to a server and come back whole."""

    def setUp(self) -> None:
        self.output, writable = os.pipe()
        self.addCleanup(os.close, self.output)
        self.writable = writable

    def piped_client(self, port: int) -> Process:
        """Start a client whose output is read from `self.output`, and by nobody else."""
        client = self.client("tcp_client.py", "127.0.0.1", port, "--stats", stdout=self.writable)
        os.close(self.writable)
        return client

    def feed(self, client: Process, length: int) -> threading.Thread:
        """Begin to pipe MUCH into a client, and leave its input open."""
        assert client.popen.stdin is not None
        descriptor = client.popen.stdin.fileno()

        def write() -> None:
            with contextlib.suppress(OSError):
                for block in numbered_lines(MUCH, length):
                    left = memoryview(block)
                    while left:
                        left = left[os.write(descriptor, left) :]

        feeder = threading.Thread(target=write, daemon=True)
        feeder.start()
        return feeder

    def read(self, size: int) -> str:
        """Return the hash of the next `size` bytes of the client's output."""
        digest = hashlib.sha1()
        while size:
            self.assertTrue(select.select([self.output], [], [], PATIENCE)[0], f"{size} bytes are missing")
            data = os.read(self.output, min(size, 1 << 20))
            self.assertTrue(data, f"the client ended {size} bytes early")
            digest.update(data)
            size -= len(data)
        return digest.hexdigest()

    def assert_all_comes_back(self, length: int, prefix: bytes, *options: object) -> None:
        """Check that lines of `length` bytes come back in their order, each after `prefix`, and what that takes."""
        server = self.server("tcp_server.py", "--quiet", *options)
        client = self.piped_client(server.port)
        feeder = self.feed(client, length)
        expected = hashlib.sha1()
        size = 0
        for block in numbered_lines(MUCH, length):
            replies = prefix + block[:-1].replace(b"\n", b"\n" + prefix) + b"\n" if prefix else block
            expected.update(replies)
            size += len(replies)
        self.assertEqual(self.read(size), expected.hexdigest())
        feeder.join()
        if Path("/proc/self/status").exists():
            self.assertLess(peak_bytes(client), LITTLE_MEMORY)
            self.assertLess(peak_bytes(server), LITTLE_MEMORY)
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(os.read(self.output, 1), b"")
        count = MUCH // length
        self.assertRegex(client.errors, rf"\A{count} sent, {count} confirmed, 0 lost; ")

    def test_confirmed(self) -> None:
        self.assert_all_comes_back(1000, CONFIRMATION)

    def test_echoed(self) -> None:
        self.assert_all_comes_back(50000, b"", "--reply", "echo")

    @HAS_PROC
    def test_memory_stays_flat_while_nobody_reads_the_replies(self) -> None:
        server = self.server("tcp_server.py", "--quiet")
        client = self.piped_client(server.port)
        feeder = self.feed(client, 1000)
        assert client.popen.stdin is not None
        while select.select([], [client.popen.stdin], [], QUIET_TIME)[1]:
            pass  # the feeder still gets something in
        self.assertTrue(feeder.is_alive(), "everything has gone somewhere")
        self.assertLess(peak_bytes(client), LITTLE_MEMORY)
        self.assertLess(peak_bytes(server), LITTLE_MEMORY)
        first = self.read(len(CONFIRMATION) + 1000)  # it waits for us, and goes on
        line = next(numbered_lines(MUCH, 1000))[:1000]
        self.assertEqual(first, hashlib.sha1(CONFIRMATION + line).hexdigest())
        self.read(5 * 1000 * 1000)


class Unread(TestCase):
    """A server keeps little for a client that does not read, and all of it for one that reads late."""

    def test_a_client_that_writes_and_does_not_read(self) -> None:
        server = self.server("tcp_server.py", "--quiet", "--reply", "echo")
        raw = self.connect(server.port)
        raw.setblocking(False)
        block = b"x" * 999 + b"\n"
        sent = 0
        while select.select([], [raw], [], QUIET_TIME)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += raw.send(block * 100)
            self.assertLess(sent, MUCH, "a server that reads on keeps what it can not send")
        if Path("/proc/self/status").exists():
            self.assertLess(peak_bytes(server), LITTLE_MEMORY)
        other = self.connect(server.port)
        other.sendall(b"still served?\n")
        self.assertEqual(receive_lines(other, 1), [b"still served?"])
        raw.settimeout(PATIENCE)
        raw.shutdown(socket.SHUT_WR)
        received = receive_all(raw)
        self.assertEqual(len(received.rstrip(b"\n")), len((block * (sent // 1000 + 1))[:sent].rstrip(b"\n")))
        self.assertEqual(received.count(b"x"), sent - sent // 1000)


class EndOfInput(TestCase):
    """What a client does when its input ends."""

    def test_it_waits_for_what_is_due_then_half_closes_and_reads_until_the_server_closes(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1])
        client.type("one\ntwo")
        client.end_input()
        server = self.accept(listener)
        self.assertEqual(receive_lines(server, 2), [b"one", b"two"])
        server.sendall(b"Message received: one\n")
        client.wait_for("received: one$")
        self.assertEqual(select.select([server], [], [], QUIET_TIME)[0], [], "a reply is still due")
        server.sendall(b"Message received: two\n")
        self.assertEqual(server.recv(100), b"", "a half-close")
        server.sendall(b"By the way\nand unfinished")
        client.wait_for("^By the way$")
        self.assertIsNone(client.popen.poll())
        server.close()
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output, "Message received: one\nMessage received: two\nBy the way\nand unfinished")

    def test_without_replies_it_half_closes_at_once(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], "--no-reply")
        client.type("one\n")
        client.end_input()
        server = self.accept(listener)
        self.assertEqual(receive_all(server), b"one\n")
        server.sendall(b"thanks\n")
        server.close()
        self.assertEqual((client.wait(), client.output, client.errors), (0, "thanks\n", ""))

    @on_linux
    def test_terminate_without_replies_loses_nothing(self) -> None:
        """A server may answer all the same, and read late: to close before its end would throw away what it has not."""
        listener = self.listen()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], "--no-reply")
        server = self.accept(listener)
        lines = b"".join(numbered_lines(200_000, 1000)) + b"terminate\n"
        client.type(lines)
        fin_wait_1 = "04"
        port = server.getpeername()[1]
        wait_until(lambda: [row for row in kernel_rows("tcp", port) if row[3] == fin_wait_1], "its end is on its way")
        server.sendall(b"who is there?\n")
        self.assertEqual(receive_all(server), lines)
        server.close()
        self.assertEqual((client.wait(), client.output, client.errors), (0, "who is there?\n", ""))

    def test_a_server_that_never_closes_is_left_in_time(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], "--timeout", "0.2", "--no-reply")
        client.end_input()
        server = self.accept(listener)
        self.assertEqual(server.recv(100), b"")
        client.wait()
        self.assertNotIn("Traceback", client.errors)

    def test_no_input_at_all(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            for nothing in (subprocess.PIPE, subprocess.DEVNULL):
                with self.subTest(script, nothing=nothing):
                    client = self.client(script, "127.0.0.1", port, stdin=nothing)
                    if client.popen.stdin:
                        client.end_input()
                    self.assertEqual((client.wait(), client.output, client.errors), (0, "", ""))

    def test_words_end_the_input(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port)
        client.type("one\n terminate \n")
        self.assertEqual((client.wait(), client.output, client.errors), (0, "Message received: one\n", ""))

    def test_replies_come_while_the_input_stays_open(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port)
        for text in ("one", "two"):
            client.type(f"{text}\n")
            client.wait_for(rf"^Message received: {text}\n\Z")

    def test_a_server_goes_on_when_its_input_ends(self) -> None:
        for nothing in (subprocess.PIPE, subprocess.DEVNULL):
            with self.subTest(nothing=nothing):
                server = self.server("tcp_server.py", stdin=nothing)
                if server.popen.stdin:
                    server.type("typed before the end, and unfinished")
                    server.end_input()
                client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "hello")
                self.assertEqual((client.wait(), client.output), (0, "Message received: hello\n"))

    def input_that_does_not_wait(self) -> tuple[int, BinaryIO]:
        """Return a pipe to read from, set not to make anybody wait, and its other end."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(reading, False)
        writer = os.fdopen(writing, "wb", 0)
        self.addCleanup(writer.close)
        return reading, writer

    @unittest.skipUnless(os.name == "posix", "Windows has other pipes")
    def test_input_that_does_not_wait(self) -> None:
        """Whoever shares it may have set it so: the client waits all the same."""
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            with self.subTest(script):
                reading, writer = self.input_that_does_not_wait()
                writer.write(b"one\n")
                client = self.client(script, "127.0.0.1", port, stdin=reading)
                client.wait_for("^Message received: one$")
                writer.write(b"two\n")
                client.wait_for("^Message received: two$")
                writer.close()
                self.assertEqual((client.wait(), client.errors), (0, ""))

    @unittest.skipUnless(os.name == "posix", "Windows has other pipes")
    def test_input_of_a_server_that_does_not_wait(self) -> None:
        reading, writer = self.input_that_does_not_wait()
        server = self.server("tcp_server.py", stdin=reading)
        raw = self.connect(server.port)
        server.wait_for("Connected by")
        for line in (b"one", b"two"):
            writer.write(line + b"\n")
            self.assertEqual(receive_lines(raw, 1), [line])

    @on_linux
    def test_input_that_can_not_be_read(self) -> None:
        """That is not the end of the input."""
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            with self.subTest(script), Path("/proc/self/mem").open("rb") as nothing:  # there is nothing at address 0
                client = self.client(script, "127.0.0.1", port, stdin=nothing)
                self.assert_one_line_error(client, "cannot read standard input: ")

    def test_a_line_without_end(self) -> None:
        """It is given up before it takes all memory; what came before it was sent."""
        server = self.server("tcp_server.py", within=with_constants(LONGEST_LINE=100_000))
        program = (sys.executable, "tcp_client.py", "127.0.0.1", server.port)
        client = self.start(*with_constants(LONGEST_LINE=100_000), *program)
        server.type("x" * 150_000)
        with contextlib.suppress(BrokenPipeError):  # it may have ended by then
            client.type("x" * 50_000 + "\none\n" + "x" * 150_000)
        self.assert_one_line_error(client, "cannot read standard input: a line has no end within 100000 bytes")
        self.assertEqual([len(line) - len(CONFIRMATION) for line in client.output.splitlines()], [50_000, 3])
        server.wait_for(r"\[Server\] Cannot read standard input: a line has no end within 100000 bytes\.\n")

    @unittest.skipUnless(os.name == "posix", "a shell closes the descriptors")
    def test_closed_descriptors(self) -> None:
        server = self.server("tcp_server.py", within=("sh", "-c", 'exec "$@" <&-', "sh"))
        command = (sys.executable, "tcp_client.py", "127.0.0.1", server.port, "-m", "hello")
        client = self.start("sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command)
        self.assertEqual((client.wait(), client.output), (0, "Message received: hello\n"))
        client = self.start("sh", "-c", 'exec "$@" >&-', "sh", *command[:-2])
        client.type("one\ntwo\n")
        client.end_input()
        self.assertEqual((client.wait(), client.errors), (0, ""))
        server.wait_for("Received from .*: one\n.*: two\n.*Disconnected")


class Window(TestCase):
    """A UDP client has some messages under way, not one at a time and not all at once."""

    def setUp(self) -> None:
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.peer.close)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(PATIENCE)

    def piped_client(self, lines: list[bytes]) -> Process:
        """Start a client whose input is these lines."""
        port = self.peer.getsockname()[1]
        with tempfile.TemporaryFile() as typed:
            typed.write(b"\n".join([*lines, b""]))
            typed.seek(0)
            return self.client("udp_client.py", "127.0.0.1", port, "--timeout", PATIENCE, stdin=typed)

    def unanswered(self, most: int) -> tuple[list[bytes], tuple[str, int]]:
        """Return the datagrams that come without an answer, up to `most` of them, and their sender."""
        first, sender = self.peer.recvfrom(1 << 16)
        datagrams = [first]
        while len(datagrams) < most:
            datagrams.append(self.peer.recv(1 << 16))
        self.assertEqual(select.select([self.peer], [], [], QUIET_TIME)[0], [], "more are under way at once")
        return datagrams, sender

    def test_some_are_under_way_at_once(self) -> None:
        lines = [b"line %d" % number for number in range(1000)]
        client = self.piped_client(lines)
        self.assertLess(1, UdpChannel.window)
        self.assertLess(UdpChannel.window, 256)
        first, sender = self.unanswered(UdpChannel.window)
        self.assertEqual(first, lines[: len(first)])
        self.peer.sendto(CONFIRMATION + first[0], sender)
        self.assertEqual(self.unanswered(1)[0], [lines[len(first)]], "one answered, one more")
        for line in lines[1:]:
            self.peer.sendto(CONFIRMATION + line, sender)
            if line in lines[: -len(first)]:
                self.peer.recv(1 << 16)
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(len(client.output.splitlines()), len(lines))

    def test_few_large_ones_are_under_way_at_once(self) -> None:
        client = self.piped_client([bytes([65 + number]) * 60000 for number in range(20)])
        datagrams, sender = self.unanswered(1 + UdpChannel.window_bytes // 60000)
        self.assertLessEqual(sum(map(len, datagrams)), 200000, "what a usual receive buffer holds")
        self.peer.sendto(CONFIRMATION + datagrams[0], sender)
        self.assertEqual(self.peer.recv(1 << 16)[0], 65 + len(datagrams))
        client.signal(signal.SIGINT)
        self.assertEqual(client.wait(), 130)

    def test_thousands_of_messages_are_all_confirmed(self) -> None:
        server = self.server("udp_server.py")
        lines = [f"line {number}" for number in range(5000)]
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed="\n".join([*lines, ""]))
        self.assertEqual((client.wait(), client.errors), (0, ""))
        expected = [f"Message received: {line}" for line in lines]
        self.assertEqual(sorted(client.output.splitlines()), sorted(expected))
        wait_until(lambda: server.output.count("Received from") == len(lines), "each of them shown once")


if __name__ == "__main__":
    unittest.main()
