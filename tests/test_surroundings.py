"""The servers' surroundings: how they are started, where their output goes, signals, and long service."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostile import CONFIRMATION, MIB, SEED, PeerTest, cpu_seconds, on_linux, reset, round_trips
from support import (
    PATIENCE,
    Process,
    Server,
    free_port,
    needs,
    open_files,
    receive_all,
    receive_lines,
    resident_bytes,
    wait_until,
    with_constants,
)

try:
    import fcntl
    import pty
    import resource
    import termios
except ImportError:  # Windows
    pty = None  # type: ignore[assignment]

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "1"))
"""How long the soak goes on; SOAK_SECONDS=60, or an hour, is for a run by hand."""
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""A program that makes its standard input its session's terminal, and then runs another."""
NO_RECORD = r"\A\w+\.py: error: .*standard output.*\n\Z"
on_posix = unittest.skipUnless(pty, "needs a POSIX shell and pseudo-terminals")


class Terminal:
    """A pseudo-terminal: our end of it, and the programs' end."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))  # no line wraps
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._closed = False

    @property
    def shown(self) -> str:
        """What was written on it so far."""
        return bytes(self._shown).decode(errors="replace").replace("\r\n", "\n")

    def read(self) -> None:
        """Begin to take what is written on it."""
        self._reader.start()

    def type(self, text: str) -> None:
        """Type on it."""
        os.write(self.ours, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a regular expression matches what was written on it; return the match."""
        try:
            found = wait_until(lambda: re.search(pattern, self.shown, re.MULTILINE), pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}; on the terminal: {self.shown[-2000:]!r}") from None
        assert isinstance(found, re.Match)
        return found

    def close(self) -> None:
        """Hang up."""
        if not self._closed:
            self._closed = True
            if self._reader.is_alive():
                self._reader.join()
            os.close(self.theirs)
            os.close(self.ours)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while not self._closed:
                if select.select([self.ours], [], [], 0.05)[0]:
                    self._shown += os.read(self.ours, 65536)


class SurroundingsTest(PeerTest):
    """A test that starts servers in unusual places."""

    def terminal(self) -> Terminal:
        """Return a pseudo-terminal."""
        terminal = Terminal()
        self.addCleanup(terminal.close)
        return terminal

    def silent_server(
        self, script: str, *options: object, redirection: str = "", within: Sequence[object] = (), **popen: Any
    ) -> tuple[Process, int]:
        """Return a server that can not tell its port, and the port, once it answers."""
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *within]
        for _ in range(5):
            port = free_port(socket.SOCK_STREAM if script == "tcp_server.py" else socket.SOCK_DGRAM)
            server = self.start(*shell, sys.executable, script, port, *options, **popen)
            wait_until(functools.partial(has_begun, server, script, port), "an answer")
            if server.popen.poll() is None:
                return server, port
        raise AssertionError(f"the server ended: {server.errors}")

    def talk(self, port: int, count: int) -> None:
        """Send many lines of 100 bytes, a few hundred at a time, and check every confirmation."""
        talker = self.connect(port)
        lines = [b"%06d" % number + b"." * 94 for number in range(count)]
        for start in range(0, count, 250):
            part = lines[start : start + 250]
            talker.sendall(b"\n".join(part) + b"\n")
            self.assertEqual(receive_lines(talker, len(part)), [CONFIRMATION + line for line in part])
        talker.close()

    def assert_stops(self, server: Process) -> None:
        """Check that a server ends as it should."""
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0, server.errors)
        self.assertNotIn("Traceback", server.errors)


def has_begun(server: Process, script: str, port: int) -> bool:
    """Tell whether a server confirms a message, or has ended."""
    return server.popen.poll() is not None or answers(script, port)


def answers(script: str, port: int) -> bool:
    """Tell whether a server confirms a message."""
    kind = socket.SOCK_STREAM if script == "tcp_server.py" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as asking, contextlib.suppress(OSError):
        asking.settimeout(PATIENCE)
        asking.connect(("127.0.0.1", port))
        asking.sendall(b"hello\n")
        return asking.recv(100) == CONFIRMATION + b"hello\n"
    return False


@on_posix
class Inputs(SurroundingsTest):
    """A server whose typed lines end, or never were."""

    def test_no_input(self) -> None:
        """With its input closed, or /dev/null, a server goes on serving."""
        for script in ("tcp_server.py", "udp_server.py"):
            for redirection in ("<&-", "</dev/null"):
                with self.subTest(script, redirection=redirection):
                    server, port = self.silent_server(script, redirection=redirection)
                    self.assertTrue(all(answers(script, port) for _ in range(20)))
                    self.assert_stops(server)
                    self.assertEqual(server.errors, "")

    def test_end_of_input(self) -> None:
        """After the end of its input a server goes on serving, at rest."""
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        server.type("typed, without a line's end")
        server.end_input()
        self.assertEqual(receive_lines(connected, 1), [b"typed, without a line's end"])
        round_trips(connected, 20)
        connected.close()
        self.assert_stops(server)

    def test_nothing_at_all(self) -> None:
        """With input, output and errors closed a server serves and ends as ever."""
        for script in ("tcp_server.py", "udp_server.py"):
            with self.subTest(script):
                server, port = self.silent_server(script, redirection="<&- >&- 2>&-")
                self.assertTrue(all(answers(script, port) for _ in range(20)))
                self.assert_stops(server)

    @needs("nohup")
    def test_nohup(self) -> None:
        """Under nohup a server outlives its terminal, at rest."""
        terminal = self.terminal()
        server = self.server("tcp_server.py", within=["nohup"], stdin=terminal.theirs)
        terminal.close()
        server.signal(signal.SIGHUP)
        connected = self.connect(server.port)
        round_trips(connected, 20)
        connected.close()
        if sys.platform == "linux":
            used = cpu_seconds(server)
            time.sleep(0.5)  # what is measured is the rest
            self.assertLess(cpu_seconds(server) - used, 0.2, "seconds of processor time within half a second of rest")
        self.assert_stops(server)

    def test_hangup(self) -> None:
        """Without nohup a server ends with its terminal, cleanly."""
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        round_trips(connected, 1)
        server.signal(signal.SIGHUP)
        self.assertEqual(receive_all(connected), b"Server shutting down...\n")
        connected.close()
        self.assertEqual(server.wait(), 0)

    def job(self, terminal: Terminal) -> tuple[int, int]:
        """Start a server with `&` in a shell on a terminal; return its process number and its port."""
        terminal.read()
        self.start(
            *(sys.executable, "-c", TAKE_TERMINAL, "sh", "-i"),
            stdin=terminal.theirs,
            stdout=terminal.theirs,
            stderr=terminal.theirs,
            start_new_session=True,
            env={"PS1": "$ ", "ENV": "", "TERM": "dumb"},
        )
        terminal.wait_for(r"\$ ")
        terminal.type(f"{sys.executable} tcp_server.py 0 & echo number=$!\n")
        number = int(terminal.wait_for(r"^number=(\d+)$")[1])
        self.addCleanup(end, number)
        return number, int(terminal.wait_for(r"Listening on 127\.0\.0\.1:(\d+)\.")[1])

    def test_background(self) -> None:
        """Started with & a server is not stopped for reading from the terminal, and ends as ever."""
        terminal = self.terminal()
        number, port = self.job(terminal)
        connected = self.connect(port)
        round_trips(connected, 20)
        terminal.type("echo the shell $((1 + 1)) reads this\n")
        terminal.wait_for("the shell 2 reads this$")
        round_trips(connected, 20)
        os.kill(number, signal.SIGTERM)
        self.assertEqual(receive_all(connected), b"Server shutting down...\n")
        connected.close()
        terminal.wait_for(r"All services stopped\.$")
        terminal.type(f"wait {number}; echo code=$?\n")
        self.assertEqual(terminal.wait_for(r"^code=(\d+)$")[1], "0")

    def test_foreground_again(self) -> None:
        """A server that is brought to the foreground takes what is typed."""
        terminal = self.terminal()
        _, port = self.job(terminal)
        connected = self.connect(port)
        round_trips(connected, 1)
        terminal.type("fg\n")
        terminal.wait_for("tcp_server.py 0.*\n(.*\n)*.*tcp_server.py 0")
        terminal.type("typed in the foreground\n")
        self.assertEqual(receive_lines(connected, 1), [b"typed in the foreground"])
        terminal.type("exit\n")
        self.assertEqual(receive_all(connected), b"Server shutting down...\n")
        connected.close()
        terminal.wait_for(r"All services stopped\.$")

    def test_background_later(self) -> None:
        """A server that is stopped with Ctrl-Z while it waits for a typed line serves on in the background."""
        terminal = self.terminal()
        _, port = self.job(terminal)
        connected = self.connect(port)
        terminal.type("fg\n")
        terminal.wait_for("tcp_server.py 0.*\n(.*\n)*.*tcp_server.py 0")
        terminal.type("it reads\n")
        self.assertEqual(receive_lines(connected, 1), [b"it reads"])
        terminal.type("half")
        terminal.wait_for("half")  # so it waits for the rest of the line
        terminal.type("\x1a")
        terminal.wait_for("(?i)(stopped|suspended).* tcp_server.py 0")
        terminal.type("bg\n")
        for number in range(3):
            round_trips(connected, 5)
            terminal.type(f"echo the shell reads $(({number} + 1))\n")
            terminal.wait_for(f"the shell reads {number + 1}$")


def end(number: int) -> None:
    """Kill a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


@on_posix
class Outputs(SurroundingsTest):
    """A server whose record can not be written, or is not read."""

    def test_closed_output(self) -> None:
        """With its output closed a server says so once, and goes on serving."""
        for script in ("tcp_server.py", "udp_server.py"):
            with self.subTest(script):
                server, port = self.silent_server(script, redirection=">&-")
                self.assertTrue(all(answers(script, port) for _ in range(20)))
                self.assert_stops(server)
                self.assertRegex(server.errors, NO_RECORD)

    @unittest.skipUnless(Path("/dev/full").exists(), "has no /dev/full")
    def test_full_disk(self) -> None:
        """With its output on a full disk a server says so once, and goes on serving."""
        server, port = self.silent_server("tcp_server.py", redirection=">/dev/full")
        self.talk(port, 1000)
        self.assert_stops(server)
        self.assertRegex(server.errors, NO_RECORD)

    @unittest.skipUnless(Path("/dev/full").exists(), "has no /dev/full")
    def test_nobody_to_complain_to(self) -> None:
        """With its errors on a full disk, too, it just goes on serving."""
        server, port = self.silent_server("tcp_server.py", redirection=">/dev/full 2>/dev/full")
        self.talk(port, 1000)
        self.assert_stops(server)

    @on_linux
    @unittest.skipUnless(hasattr(resource, "prlimit"), "needs prlimit")
    def test_disk_with_room_again(self) -> None:
        """What could not be written meanwhile is counted, and the count is shown once there is room again."""
        with tempfile.NamedTemporaryFile() as record:
            server, port = self.silent_server("tcp_server.py", stdout=record)
            self.talk(port, 250)
            written = Path(record.name)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            wait_until(lambda: written.read_text().count("Received from") >= 250, "the record")
            resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE, (written.stat().st_size, limits[1]))
            self.talk(port, 1000)
            server.wait_for_error("cannot write to standard output")
            resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE, limits)
            self.talk(port, 250)
            wait_until(lambda: re.search(r"\d+ lines were not shown", written.read_text()), "the count")
            self.assert_stops(server)
            self.assert_complete(written.read_text(), 1500)
            self.assertRegex(server.errors, NO_RECORD)

    @needs("head")
    def test_head(self) -> None:
        """Piped into `head -1` a server says once that nobody takes its record any more, and goes on serving."""
        reading, writing = os.pipe()
        head = self.start("head", "-1", stdin=reading)
        os.close(reading)
        server = self.start(sys.executable, "tcp_server.py", 0, stdout=writing)
        os.close(writing)
        port = int(head.wait_for(r"Listening on \S+:(\d+)\.")[1])
        head.wait()
        self.talk(port, 1000)
        self.assert_stops(server)
        self.assertRegex(server.errors, NO_RECORD)

    def test_pipe_that_is_read_late(self) -> None:
        """No client waits for a record that nobody reads; what is lost is counted, which is shown once it is read."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        server, port = self.silent_server("tcp_server.py", stdout=writing)
        os.close(writing)
        self.talk(port, 20_000)
        record = bytearray()
        while not re.search(rb"\d+ lines were not shown", record):
            self.assertTrue(select.select([reading], [], [], PATIENCE)[0], "the count is not shown")
            record += os.read(reading, 65536)
        self.talk(port, 250)
        server.signal(signal.SIGTERM)
        while data := os.read(reading, 65536):
            record += data
        self.assertEqual(server.wait(), 0)
        self.assert_complete(record.decode(), 20_250)
        self.assertEqual(server.errors, "")

    def test_pipe_that_is_never_read(self) -> None:
        """A server whose record nobody reads stops when it is told to."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        within = with_constants(FINISH_WITHIN=0.2)
        server, port = self.silent_server("tcp_server.py", stdout=writing, within=within)
        os.close(writing)
        self.talk(port, 2000)
        self.assert_stops(server)

    def test_pipe_that_is_read_slowly_at_the_stop(self) -> None:
        """A server that stops waits a while for whoever takes its record."""
        server, reading, record = self.full_pipe(FINISH_WITHIN=PATIENCE)
        time.sleep(0.3)  # what is tested is that the server waits
        while data := os.read(reading, 4096):
            record += data
        self.assertEqual((server.wait(), server.errors), (0, ""))
        self.assertEqual(len(re.findall(rb"Received from \S+: \d{6}\.{94}\n", record)), 2000)
        self.assertTrue(record.endswith(b"\n[Server] All services stopped.\n"), record[-200:])

    def test_pipe_that_is_not_read_at_the_stop(self) -> None:
        """It does not wait for ever, and says how much was lost."""
        server, reading, record = self.full_pipe(FINISH_WITHIN=0.2)
        self.assertEqual(server.wait(), 0)
        lost = re.fullmatch(r"\w+\.py: error: .*?(\d+) lines were not shown.*\n", server.errors)
        self.assertTrue(lost, server.errors)
        while data := os.read(reading, 65536):
            record += data
        told = 2001 + len(
            ["Listening", "Type a line", *2 * ["Connected", "Disconnected"], "SIGTERM", "All services stopped"]
        )
        self.assertEqual(record.count(b"\n") + int(lost[1] if lost else 0), told)

    def full_pipe(self, **constants: float) -> tuple[Process, int, bytearray]:
        """Return a server that ends and has more to show than a pipe holds, the pipe, and what it brought so far."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        server = self.start(*with_constants(**constants), sys.executable, "tcp_server.py", 0, stdout=writing)
        os.close(writing)
        record = bytearray(os.read(reading, 65536))
        port = int(re.findall(rb":(\d+)\.\n", record)[0])
        self.talk(port, 2000)
        with self.connect(port) as last:
            round_trips(last, 1)
            server.signal(signal.SIGTERM)
            self.assertEqual(receive_all(last), b"Server shutting down...\n")
        return server, reading, record

    def test_terminal_that_stands_still(self) -> None:
        """No client waits while the terminal is held with Ctrl-S, and Ctrl-Q brings the record back."""
        terminal = self.terminal()
        terminal.read()
        server, port = self.silent_server("tcp_server.py", stdout=terminal.theirs, env={"NO_COLOR": "1"})
        terminal.wait_for("Received from [^ ]+: hello$")
        terminal.type("\x13")
        self.talk(port, 15_000)
        self.assertLess(terminal.shown.count("\n"), 15_000)
        terminal.type("\x11")
        terminal.wait_for(r"\d+ lines were not shown")
        self.assert_stops(server)
        self.assert_complete(terminal.shown, 15_000)

    def test_terminal_with_a_prompt_that_is_not_read(self) -> None:
        """No client waits for a terminal that takes nothing, even where lines are typed and edited on it."""
        terminal = self.terminal()
        server, port = self.silent_server(
            "tcp_server.py", stdin=terminal.theirs, stdout=terminal.theirs, env={"TERM": "xterm", "NO_COLOR": "1"}
        )
        self.talk(port, 15_000)
        self.assertIsNone(server.popen.poll())
        terminal.read()
        self.assert_stops(server)

    def assert_complete(self, record: str, messages: int) -> None:
        """Check that a record shows whole lines, and that what it shows and what it counts is all there was."""
        lines = [line for line in record.splitlines() if not line.startswith("Type a line ")]
        for line in lines:
            self.assertRegex(line, r"^\[(TCP )?Server\] ")
        shown = [line for line in lines if re.search(r"Received from \S+: \d{6}\.{94}$", line)]
        events = [line for line in lines if re.search(r"Connected by|Disconnected|Received from \S+: hello$", line)]
        counted = sum(int(count) for count in re.findall(r"(\d+) lines were not shown", record))
        told = record.count("Listening on") + record.count("received. Stopping") + record.count("All services stopped")
        self.assertGreater(counted, 0)
        self.assertGreaterEqual(len(shown) + counted, messages)
        self.assertEqual(len(lines) - len(shown) - len(events) - told, record.count("lines were not shown"))
        self.assertLessEqual(len(shown) + counted, messages + 20, "more is counted than there was")


class Signals(SurroundingsTest):
    """A server that is told to stop."""

    @on_posix
    def test_sigterm_under_load(self) -> None:
        """SIGTERM under full load: what is answered is answered whole and in order, and the port is free at once."""
        server = self.server("tcp_server.py", "--quiet", within=with_constants(STOP_WITHIN=PATIENCE))
        talkers = [Talker(self.connect(server.port), number) for number in range(20)]
        for talker in talkers:
            talker.start()
        wait_until(lambda: all(len(talker.heard) > 50_000 for talker in talkers), "full load")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        for talker in talkers:
            talker.join(PATIENCE)
            replies, goodbye, rest = bytes(talker.heard).partition(b"Server shutting down...\n")
            self.assertTrue(goodbye, replies[-200:])
            self.assertEqual(rest, b"")
            count = replies.count(b"\n")
            self.assertEqual(replies, b"".join([CONFIRMATION + talker.line(number) for number in range(count)]))
            self.assertLessEqual(count, talker.said)
        self.assertEqual(server.errors, "")
        again = Server("tcp_server.py", port=server.port)
        self.addCleanup(again.close)
        self.assert_well(again)

    @on_posix
    def test_sigterm_under_datagrams(self) -> None:
        """SIGTERM under a stream of datagrams: every answer is whole, and the exit code is 0."""
        server = self.server("udp_server.py", "--quiet")
        peer = self.datagrams(server.port)
        allowed = {b"Server shutting down...", *(CONFIRMATION + b"%d" % number for number in range(100))}
        heard: list[bytes] = []
        peer.settimeout(0.2)  # what the kernel held when the server closed its socket gets no answer
        with contextlib.suppress(ConnectionRefusedError):
            for number in range(100_000):
                if number == 300:
                    server.signal(signal.SIGTERM)
                peer.send(b"%d" % (number % 100))
                if number >= 30:
                    with contextlib.suppress(socket.timeout):
                        heard.append(peer.recv(100))
        self.assertEqual(server.wait(), 0)
        self.assertEqual(set(heard) - allowed, set())
        self.assertGreater(len(heard), 200)

    def test_nothing_is_left_open(self) -> None:
        """In Python's development mode, a server ends without a warning of what was not closed."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        checks = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", f"{folder.name}/a.db", env=checks)
        self.assert_well(server)
        server.end_input()
        with self.connect(server.port) as client:
            client.sendall(b"exit\n")
            self.assertEqual(receive_all(client), b"Server shutting down...\n")
        self.assertEqual((server.wait(), server.errors), (0, ""))


class Talker(threading.Thread):
    """A client that sends and reads as fast as it can until the server closes."""

    def __init__(self, connected: socket.socket, number: int) -> None:
        super().__init__(daemon=True)
        self.heard = bytearray()
        self.said = 0
        self._connected = connected
        self._number = number

    def line(self, number: int) -> bytes:
        """Return what it says first, second and so on."""
        return b"%d says %d\n" % (self._number, number)

    def run(self) -> None:
        """Talk."""
        self._connected.setblocking(False)
        unsent = b""
        while True:
            readable, writable, _ = select.select([self._connected], [self._connected], [])
            if readable:
                data = self._connected.recv(65536)
                if not data:
                    self._connected.close()
                    return
                self.heard += data
            if writable:
                if not unsent:
                    unsent = b"".join([self.line(number) for number in range(self.said, self.said + 100)])
                    self.said += 100
                with contextlib.suppress(BlockingIOError):
                    try:
                        unsent = unsent[self._connected.send(unsent) :]
                    except ConnectionError:
                        continue  # what was said to it before is still to be read


class Soak(SurroundingsTest):
    """Long service."""

    def setUp(self) -> None:
        """Have no peers yet."""
        self.peers: list[socket.socket] = []

    @on_linux
    def test_mixed_traffic(self) -> None:
        """Mixed traffic, well-behaved and hostile, leaves memory and open files as they were."""
        server = self.server("tcp_server.py", "--quiet", "--udp-port", 0, "--max-message", 1000)
        rng = random.Random(SEED)
        visits = [self.chat, self.chat, self.datagram_chat, self.half_close, self.break_off, self.overdo, self.babble]
        for visit in visits * 40:
            visit(server, rng)
        memory = resident_bytes(server)
        until = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < until:
            rng.choice(visits)(server, rng)
        self.assert_well(server)
        self.assertLess(resident_bytes(server) - memory, 2 * MIB)
        wait_until(lambda: open_files(server) < 16, "no connection is left open")
        self.assert_stops(server)

    def chat(self, server: Server, rng: random.Random) -> None:
        """Talk and leave."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connected:
            round_trips(connected, rng.randint(1, 30))
            connected.sendall(b"terminate\n")
            receive_all(connected)

    def datagram_chat(self, server: Server, rng: random.Random) -> None:
        """Send datagrams, and maybe a word, from one of a few ports: a server remembers them for a minute."""
        while len(self.peers) < 20:
            self.peers.append(self.datagrams(server.udp_port))
        peer = rng.choice(self.peers)
        for _ in range(rng.randint(1, 30)):
            message = rng.getrandbits(8 * 20).to_bytes(20, "big")
            peer.send(message)
            self.assertEqual(peer.recv(1000), CONFIRMATION + message)
        if rng.random() < 0.5:
            peer.send(b"terminate")

    def half_close(self, server: Server, rng: random.Random) -> None:
        """Send everything, half-close, read everything."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connected:
            lines = [b"%d" % rng.randrange(1000) for _ in range(rng.randint(1, 500))]
            connected.sendall(b"\n".join(lines))
            connected.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(connected).split(b"\n")[:-1], [CONFIRMATION + line for line in lines])

    def break_off(self, server: Server, rng: random.Random) -> None:
        """Reset a connection in the middle of a line, under unread replies."""
        connected = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connected.sendall(b"one\n" * rng.randint(0, 500) + b"half a li")
        reset(connected)

    def overdo(self, server: Server, rng: random.Random) -> None:
        """Send a line that is too long."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connected:
            connected.sendall(b"x" * rng.randint(1002, 200_000))
            self.assertEqual(receive_all(connected), b"Error: message longer than 1000 bytes\n")

    def babble(self, server: Server, rng: random.Random) -> None:
        """Send random bytes, and read nothing."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connected:
            connected.sendall(rng.getrandbits(8 * 900).to_bytes(900, "big"))


if __name__ == "__main__":
    unittest.main()
