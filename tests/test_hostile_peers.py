"""What comes from the network to the servers: crowds, attackers and broken connections can do no harm."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import re
import select
import signal
import socket
import sys
import threading
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from hostile import (
    CONFIRMATION,
    MIB,
    NASTY,
    SEED,
    PeerTest,
    as_root,
    cpu_seconds,
    fill,
    kernel_rows,
    on_linux,
    random_texts,
    receive_first_line,
    receive_lines_at_least,
    reset,
    round_trips,
)
from support import (
    PATIENCE,
    Clock,
    Process,
    Server,
    open_files,
    receive_all,
    receive_lines,
    resident_bytes,
    wait_until,
    with_constants,
)

import places
import tcp_server
from lines import RECEIVE_SIZE, Lines

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class Crowds(PeerTest):
    """Many clients at once, and more than there is room for."""

    @on_linux
    def test_ten_thousand_connections(self) -> None:
        """All of 10,000 connections are served, at 1 KiB each, from a low soft limit on open files."""
        count = 10_000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < count + 200:
            self.skipTest(f"at most {hard} files may be open")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
        low = ["sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh"]
        server = self.server("tcp_server.py", "--quiet", "--host", "0.0.0.0", within=low)
        crowd: list[socket.socket] = []

        def add(more: int, let_in: Callable[[], None] = lambda: None) -> None:
            newcomers = []
            for number in range(more):
                connecting = socket.socket()
                self.addCleanup(connecting.close)
                crowd.append(connecting)
                newcomers.append(connecting)
                connecting.settimeout(PATIENCE)
                connecting.connect((f"127.0.0.{2 + len(crowd) // 2500}", server.port))
                connecting.send(b"I am %d\n" % number)
            let_in()
            for number, connecting in enumerate(newcomers):
                self.assertEqual(connecting.recv(100), b"Message received: I am %d\n" % number)

        server.stop()  # so that it meets the first ones all at once, which costs it as much as it ever will
        add(200, lambda: server.signal(signal.SIGCONT))
        few = resident_bytes(server)
        while len(crowd) < count:
            add(200)
        each = (resident_bytes(server) - few) / (count - 200)
        self.assertLessEqual(each, 1024, "bytes of memory a connection")
        round_trips(crowd[0], 10)
        round_trips(crowd[-1], 10)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as surplus:
            self.assertEqual(receive_all(surplus), b"Error: the server is full (10000 clients)\n")
        while crowd:
            crowd.pop().close()
        wait_until(lambda: open_files(server) < 100, "the server closes what its clients closed")
        self.assert_well(server)

    def test_more_than_max_clients(self) -> None:
        """The surplus is told so and closed, those inside are served, and a free place is taken again."""
        server = self.server("tcp_server.py", "--max-clients", 3)
        inside = [self.connect(server.port) for _ in range(3)]
        for connected in inside:
            round_trips(connected, 1)
        for _ in range(300):
            with self.connect(server.port) as surplus:
                self.assertEqual(receive_all(surplus), b"Error: the server is full (3 clients)\n")
        for connected in inside:
            round_trips(connected, 1)
        inside[0].close()
        wait_until(lambda: self._is_let_in(server.port), "a newcomer is let in")
        self.assertEqual(server.errors, "")

    def test_surplus_that_stays(self) -> None:
        """A crowd that is turned away but neither sends, reads nor closes holds nobody up for long."""
        server = self.server("tcp_server.py", "--max-clients", 1, within=with_constants(DRAIN_TIME=0.2, TICK=0.2))
        inside = self.connect(server.port)
        round_trips(inside, 1)
        surplus = [self.connect(server.port) for _ in range(101)]
        round_trips(inside, 20)
        for connected in surplus:
            self.assertEqual(receive_all(connected), b"Error: the server is full (1 clients)\n")
        inside.close()
        wait_until(lambda: self._is_let_in(server.port), "a newcomer is let in")

    def test_a_crowd_that_leaves_slowly(self) -> None:
        """Clients that have said goodbye, but do not close, keep nobody out while there are places."""
        server = self.server("tcp_server.py", "--quiet", within=with_constants(DRAIN_TIME=PATIENCE))
        crowd = [self.connect(server.port) for _ in range(150)]
        for connected in crowd:
            connected.sendall(b"terminate\n")
        round_trips(self.connect(server.port), 1)
        self.assertLess(server.output.count("Disconnected"), 50, "it was let in before they were gone")

    def _is_let_in(self, port: int) -> bool:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), PATIENCE) as newcomer:
            newcomer.sendall(b"hello\n")
            return receive_first_line(newcomer) == b"Message received: hello\n"
        return False

    @on_linux
    def test_more_than_the_open_file_limit(self) -> None:
        """With few open files to have, fewer clients are served, and the surplus is told so."""
        server = self.server("tcp_server.py", within=["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"])
        inside: list[socket.socket] = []
        refusal = b""
        while not refusal:
            self.assertLess(len(inside), 64)
            connected = self.connect(server.port)
            connected.sendall(b"hello\n")
            reply = receive_lines(connected, 1)[0]
            if reply == b"Message received: hello":
                inside.append(connected)
            else:
                refusal = reply
        self.assertEqual(refusal, b"Error: the server is full (%d clients)" % len(inside))
        self.assertGreater(len(inside), 5)
        for connected in inside:
            round_trips(connected, 1)
        inside.pop().close()
        wait_until(lambda: self._is_let_in(server.port), "a newcomer is let in")
        self.assertEqual(server.errors, "")

    @on_linux
    @unittest.skipUnless(hasattr(resource, "prlimit"), "needs prlimit")
    def test_no_file_to_be_had(self) -> None:
        """When accept() itself fails, the listener rests without spinning, and takes the waiting once it can."""
        server = self.server("tcp_server.py", within=with_constants(TICK=0.2))
        inside = self.connect(server.port)
        round_trips(inside, 1)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.popen.pid, resource.RLIMIT_NOFILE, (open_files(server), limits[1]))
        waiting = [self.connect(server.port) for _ in range(20)]
        for connected in waiting:
            connected.sendall(b"hello\n")
        round_trips(inside, 20)
        used = cpu_seconds(server)
        time.sleep(0.5)  # what is measured is the rest
        self.assertLess(cpu_seconds(server) - used, 0.2, "seconds of processor time within half a second of rest")
        round_trips(inside, 20)
        resource.prlimit(server.popen.pid, resource.RLIMIT_NOFILE, limits)
        for connected in waiting:
            self.assertEqual(receive_lines(connected, 1), [b"Message received: hello"])
        self.assert_well(server)


class SlowReaders(PeerTest):
    """Clients that do not read."""

    def test_sender_that_never_reads(self) -> None:
        """It is read from no longer, costs little memory, holds up nobody, and gets every reply once it reads."""
        server = self.server("tcp_server.py", "--quiet")
        other = self.connect(server.port)
        round_trips(other, 5)
        before = resident_bytes(server) if sys.platform == "linux" else 0
        line = b"z" * 99 + b"\n"
        greedy = self.lazy_connection(server.port)
        sent = fill(greedy, line * 600, 64 * MIB)
        self.assertLess(sent, 64 * MIB, "the server never stopped to read")
        round_trips(other, 200)
        if sys.platform == "linux":
            self.assertLess(resident_bytes(server) - before, 4 * MIB)
        expected = sent // len(line)
        got = bytearray()
        while got.count(b"\n", max(0, len(got) - 1)) < 1 or len(got) < expected * (len(line) + len(CONFIRMATION)):
            got += greedy.recv(MIB)
        self.assertEqual(bytes(got), (CONFIRMATION + line) * expected)
        self.assert_well(server)

    @on_linux
    def test_short_lines_and_long_replies(self) -> None:
        """Memory stays bounded when the replies are twenty times as long as the messages."""
        server = self.server("tcp_server.py", "--quiet")
        other = self.connect(server.port)
        round_trips(other, 5)
        before = resident_bytes(server)
        crowd = [self.lazy_connection(server.port) for _ in range(5)]
        with ThreadPoolExecutor(len(crowd)) as pool:  # each takes a while to be sure that nobody takes more
            for sent in pool.map(lambda connected: fill(connected, b"\n" * 65536, 16 * MIB), crowd):
                self.assertLess(sent, 16 * MIB)
        round_trips(other, 20)
        self.assertLess(resident_bytes(server) - before, (len(crowd) + 4) * MIB)
        self.assert_well(server)

    def test_lurker_in_a_room(self) -> None:
        """Who never reads while others talk is cut off with a line in the record; the others miss nothing."""
        server = self.server("tcp_server.py", "--quiet", "--reply", "relay")
        lurker = self.lazy_connection(server.port)
        talker, listener = self.connect(server.port), self.connect(server.port)
        for connected in (lurker, talker, listener):
            connected.sendall(b"here\n")
        receive_lines(lurker, 1)
        talk = b"".join(b"%06d" % number + b"." * 993 + b"\n" for number in range(64))
        name = "{}:{}".format(*talker.getsockname()).encode()
        heard, talked = bytearray(), 0
        reader = threading.Thread(target=self._listen_until, args=(listener, heard, b"the end\n"))
        reader.start()
        cut_off = rf"Disconnected: 127\.0\.0\.1:{lurker.getsockname()[1]} \(.+\)$"
        while talked < 64 * MIB and not re.search(cut_off, server.output, re.MULTILINE):
            talker.sendall(talk)
            receive_lines_at_least(talker, 64)
            talked += len(talk)
        server.wait_for(cut_off)
        talker.sendall(b"the end\n")
        reader.join(PATIENCE)
        lines = [line for line in bytes(heard).split(b"\n") if line.startswith(name + b": 0")]
        self.assertEqual(len(lines), talked // 1000)
        expected = itertools.cycle([name + b": " + line for line in talk.splitlines()])
        self.assertTrue(all(line == wanted for line, wanted in zip(lines, expected)))
        self.assert_well(server)

    @on_linux
    def test_room_full_of_lurkers(self) -> None:
        """Memory stays bounded when many talk in one pass to many who never read."""
        server = self.server("tcp_server.py", "--quiet", "--reply", "relay")
        crowd = [self.lazy_connection(server.port) for _ in range(40)]
        talkers = crowd[:20]
        for connected in crowd:
            connected.sendall(b"here\n")
        for connected in crowd:
            receive_lines_at_least(connected, 1)
        before = resident_bytes(server)
        most = 0
        for _ in range(20):
            for connected in talkers:
                with contextlib.suppress(OSError):  # cut off
                    connected.setblocking(False)
                    connected.send(b"\n" * 32768)
            most = max(most, resident_bytes(server))
        wait_until(lambda: self._answers(server.port), "the server has time for others")
        most = max(most, self._highest_memory(server))
        self.assertLess(most - before, len(crowd) * 4 * MIB)
        self.assertEqual(server.errors, "")

    @staticmethod
    def _highest_memory(server: Process) -> int:
        status = Path(f"/proc/{server.popen.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])

    @staticmethod
    def _answers(port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as newcomer:
            newcomer.sendall(b"hello\n")
            while b"Message received: hello" not in newcomer.recv(MIB):
                pass
        return True

    @staticmethod
    def _listen_until(connected: socket.socket, heard: bytearray, end: bytes) -> None:
        while not heard.endswith(end):
            data = connected.recv(MIB)
            if not data:
                return
            heard += data


class LongLines(PeerTest):
    """Lines that come in many pieces, and lines without end."""

    def test_splitting_is_linear(self) -> None:
        """A line that comes a byte at a time costs no more for each byte the longer it is."""

        def cost(size: int) -> float:
            best = float("inf")
            for _ in range(3):
                start = time.thread_time()
                lines = Lines()
                for _ in range(size):
                    assert not lines.take(b"x")
                best = min(best, time.thread_time() - start)
            return best

        self.assertLess(cost(200_000) / cost(25_000), 8 * 2.5)

    @on_linux
    def test_a_piece_costs_the_same_late_in_a_line(self) -> None:
        """A byte after 8 MiB of one unfinished line is as cheap to take as one at its start."""
        server = self.server("tcp_server.py", "--quiet", "--max-message", 32 * MIB)
        other = self.connect(server.port)

        def cost(before: int) -> float:
            slow = self.connect(server.port)
            slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            slow.sendall(b"x" * before)
            round_trips(other, 2)
            used = cpu_seconds(server)
            for _ in range(1500):
                slow.send(b"x")
                round_trips(other, 1)
            used = cpu_seconds(server) - used
            reset(slow)
            return used

        at_start, late = cost(0), cost(8 * MIB)
        self.assertLess(late, 3 * at_start + 0.15)

    def test_a_byte_at_a_time(self) -> None:
        """A line of 64 KiB arrives whole in 65,536 pieces."""
        server = self.server("tcp_server.py", "--quiet")
        slow = self.connect(server.port)
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = random.Random(SEED).getrandbits(8 * 65536).to_bytes(65536, "big").replace(b"\n", b"?")
        for byte in line:
            slow.send(bytes([byte]))
        slow.send(b"\n")
        self.assertEqual(receive_lines(slow, 1), [CONFIRMATION + line])

    def test_many_slow_lines_at_once(self) -> None:
        """200 clients whose lines of 64 KiB arrive in pieces in turn are all confirmed."""
        server = self.server("tcp_server.py", "--quiet")
        crowd = [self.connect(server.port) for _ in range(200)]
        line = bytes(32 + number % 90 for number in range(65535)) + b"\n"
        for start in range(0, len(line), 512):
            for connected in crowd:
                connected.send(line[start : start + 512])
        for connected in crowd:
            self.assertEqual(receive_lines(connected, 1)[0], CONFIRMATION + line[:-1])
        self.assert_well(server)

    def test_the_longest_message(self) -> None:
        """A line may have --max-message bytes, its ending aside, and not one more."""
        server = self.server("tcp_server.py", "--max-message", 100)
        for ending in (b"\n", b"\r\n"):
            connected = self.connect(server.port)
            connected.sendall(b"x" * 100 + ending)
            self.assertEqual(receive_lines(connected, 1), [CONFIRMATION + b"x" * 100 + ending[:-1]])
            connected.sendall(b"x" * 101 + ending)
            self.assertEqual(receive_all(connected), b"Error: message longer than 100 bytes" + ending)

    def test_short_lines_are_read_in_small_portions(self) -> None:
        """Who sends many at once gives the others their turn in between; long lines cost less, and come as before."""
        connected, listener = mock.Mock(), mock.Mock()
        listener.service.longest_line, listener.service.received_bytes, listener.few = 65538, 0, places.FEW
        listener.record.heading.return_value = b""
        connection = tcp_server.Connection(listener, connected, "127.0.0.1:9000", "127.0.0.1", Lines())
        few = places.FEW
        for line, size in ((b"\n", few), (b"x" * 9999 + b"\n", RECEIVE_SIZE), (b"\n", few)):
            connected.recv.side_effect = functools.partial(self._endless, line)
            for _ in range(5):
                connection.read()
            self.assertEqual(connected.recv.call_args.args[0], size, line[-10:])

    def test_newcomers_bring_little_at_once(self) -> None:
        """What they say first is a small portion; and in a room that has much to tell, it waits for its turn."""
        for is_full in (False, True):
            connected, listener = mock.Mock(), mock.Mock()
            listener.service.longest_line, listener.service.received_bytes, listener.few = 65538, 0, places.FEW
            listener.service.audience.is_full.return_value = is_full
            listener.record.heading.return_value = b""
            connection = tcp_server.Connection(listener, connected, "127.0.0.1:9000", "127.0.0.1", Lines())
            connected.recv.side_effect = functools.partial(self._endless, b"\n")
            connection.begin()
            self.assertEqual(connection.takes_turns, is_full)
            connection.read()
            self.assertEqual(connected.recv.call_args.args[0], places.NEW)
            self.assertTrue(connection.takes_turns)

    @staticmethod
    def _endless(line: bytes, size: int) -> bytes:
        return (line * (size // len(line) + 1))[:size]

    def test_a_line_without_end(self) -> None:
        """The refusal arrives although the client had sent far more than was read; then the connection is closed."""
        server = self.server("tcp_server.py", within=with_constants(DRAIN_TIME=PATIENCE))
        for _ in range(20):
            connected = self.connect(server.port)
            connected.sendall(b"x" * 2 * MIB)
            self.assertEqual(receive_all(connected), b"Error: message longer than 65536 bytes\n")
            connected.close()
        server.wait_for(r"longer than 65536 bytes")
        self.assert_well(server)

    def test_a_line_that_really_never_ends(self) -> None:
        """A client that goes on after the refusal is drained within limits, then cut off."""
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 128 * MIB:
                sent += connected.send(b"x" * 65536)
        self.assertLess(sent, 128 * MIB, "read without limit")
        self.assert_well(server)

    def test_replies_before_the_refusal(self) -> None:
        """What was said before a line that is too long is still answered, in order."""
        server = self.server("tcp_server.py", "--max-message", 1000)
        connected = self.connect(server.port)
        connected.sendall(b"one\ntwo\n" + b"x" * 5000 + b"\nthree\n")
        replies = receive_all(connected)
        self.assertEqual(
            replies, b"Message received: one\nMessage received: two\nError: message longer than 1000 bytes\n"
        )


class BrokenConnections(PeerTest):
    """Connections that are reset, and connections that say nothing."""

    def assert_no_trace(self, server: Server, files: int, connections: int) -> None:
        """Check that nothing of so many connections is left, and that they made no more than three lines each."""
        pattern = re.compile("^.* Disconnected: ", re.MULTILINE)
        wait_until(lambda: len(pattern.findall(server.output)) >= connections, "all connections are gone")
        if sys.platform == "linux":
            wait_until(lambda: open_files(server) <= files, "no handle leaks")
        self.assertLessEqual(server.output.count("\n"), 3 * connections + 10)
        self.assertNotIn("Traceback", server.output)

    def test_connect_and_reset(self) -> None:
        """Thousands of connections that are reset at once leave nothing behind."""
        server = self.server("tcp_server.py")
        self.assert_well(server)
        server.wait_for("Disconnected")
        files = open_files(server) if sys.platform == "linux" else 0
        for _ in range(3000):
            reset(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
        self.assert_well(server)
        self.assertNotIn("Traceback", server.output)
        if sys.platform == "linux":
            wait_until(lambda: open_files(server) <= files, "no handle leaks")
        self.assertLessEqual(server.output.count("\n"), 2 * 3000 + 10)

    def test_reset_in_the_middle_of_anything(self) -> None:
        """Resets within a line, under unread replies, after a half-close, a word or a refusal: served on."""
        said = [
            b"half a li",
            b"one\ntwo\n" * 500,
            b"one\n" * 3 + b"half",
            b"terminate\n",
            b"x" * 70000,
            b"one\nterminate\ntwo\n",
        ]
        for mode in ("confirm", "relay"):
            server = self.server("tcp_server.py", "--reply", mode, "--quiet")
            self.assert_well(server)
            server.wait_for("Disconnected")
            files = open_files(server) if sys.platform == "linux" else 0
            for number in range(300):
                connected = self.connect(server.port)
                connected.sendall(said[number % len(said)])
                if number % 4 == 1:
                    connected.shutdown(socket.SHUT_WR)
                if number % 3 == 1:
                    connected.recv(100)
                reset(connected)
            self.assert_no_trace(server, files, 301)
            self.assert_well(server)

    def test_idle_timeout(self) -> None:
        """--idle-timeout closes who says nothing, and nobody else."""
        clock, options = Clock(self), ("--idle-timeout", 60)
        server = self.server("tcp_server.py", *options, within=with_constants(TICK=0.1), env=clock.environment)
        silent = [self.connect(server.port) for _ in range(20)]
        halfway = self.connect(server.port)
        halfway.sendall(b"half a li")
        busy = self.connect(server.port)
        wait_until(lambda: server.output.count("Connected by") == 22, "all are there")
        for _ in range(2):
            round_trips(busy, 1)
            self.assertEqual(select.select([*silent, halfway], [], [], 0.2)[0], [], "it is not time yet, for two ticks")
            clock.skip(40)
        for connected in (*silent, halfway):
            self.assertEqual(connected.recv(100), b"")
        round_trips(busy, 1)
        server.wait_for(r"Disconnected: \S+ \(.+\)$")
        self.assert_well(server)

    def test_who_reads_is_not_idle(self) -> None:
        """A client that only takes what it is owed, however slowly, is not cut off before it has all of it."""
        within = with_constants(TICK=0.05)
        server = self.server("tcp_server.py", "--reply", "echo", "--quiet", "--idle-timeout", 0.2, within=within)
        slow = self.lazy_connection(server.port)
        line = b"z" * 99 + b"\n"
        sent = fill(slow, line * 600, 64 * MIB)
        got = 0
        for _ in range(10):
            got += len(slow.recv(4096))
            time.sleep(0.05)  # what is tested is a slow reader
        while got < sent // len(line) * len(line):
            data = slow.recv(MIB)
            self.assertTrue(data, "cut off")
            got += len(data)
        self.assertEqual(slow.recv(1), b"", "now it is idle")
        self.assert_well(server)

    @unittest.skipUnless(hasattr(signal, "SIGSTOP"), "Windows stops no program for a while")
    def test_a_server_that_stood_still(self) -> None:
        """What arrived while the server was stopped is heard before anybody counts as idle."""
        server = self.server("tcp_server.py", "--idle-timeout", 0.3, within=with_constants(TICK=0.05))
        connected = self.stop_with_client(server)
        connected.sendall(b"late\n")
        time.sleep(0.4)  # longer than --idle-timeout, however long it takes
        server.signal(signal.SIGCONT)
        self.assertEqual(receive_lines(connected, 1), [b"Message received: late"])

    def stop_with_client(self, server: Server) -> socket.socket:
        """Stop a server for a while; return a connection that it has not cut off before."""
        while True:
            connected = self.connect(server.port)
            round_trips(connected, 1)
            server.stop()
            if not select.select([connected], [], [], 0)[0]:
                return connected
            server.signal(signal.SIGCONT)

    @on_linux
    def test_keepalive(self) -> None:
        """The kernel is asked to find out whether a silent peer still exists."""
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        round_trips(connected, 1)
        established = [row for row in kernel_rows("tcp", server.port) if row[3] == "01"]
        self.assertEqual(len(established), 1)
        keepalive = "02"  # "tr" of proc_net_tcp: another timer, such as keepalive, is pending
        wait_until(
            lambda: [row[5][:2] for row in kernel_rows("tcp", server.port) if row[3] == "01"] == [keepalive],
            "a keepalive timer runs",
        )


class Garbage(PeerTest):
    """Random bytes."""

    def test_lines(self) -> None:
        """120,000 random byte strings over TCP, cut anywhere: each line is confirmed as it came, and shown safely."""
        server = self.server("tcp_server.py")
        rng = random.Random(SEED)
        texts = random_texts(120_000, 24)
        for part in range(10):
            said = b"\n".join(texts[part::10]) + b"\n"
            connected = self.connect(server.port)
            heard = bytearray()
            reader = threading.Thread(target=self._listen, args=(connected, heard))
            reader.start()
            start = 0
            while start < len(said):
                end = start + rng.choice((1, 10, 1000, 30000))
                connected.sendall(said[start:end])
                start = end
            connected.shutdown(socket.SHUT_WR)
            reader.join(PATIENCE)
            self.assertFalse(reader.is_alive())
            self.assertEqual(bytes(heard), b"".join([CONFIRMATION + line + b"\n" for line in said.split(b"\n")[:-1]]))
            connected.close()
        self.assert_well(server)
        self.assert_clean_record(server)

    def test_strangers(self) -> None:
        """Other protocols' first words are messages like any other."""
        server = self.server("tcp_server.py")
        for said in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"SSH-2.0-stranger\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"\xff\xfe\x68\x00\x69\x00",
            b"",
            b"\n\n\n",
        ):
            connected = self.connect(server.port)
            connected.sendall(said)
            connected.shutdown(socket.SHUT_WR)
            self.assertEqual(
                receive_all(connected).count(CONFIRMATION), len(said.removesuffix(b"\n").split(b"\n")) if said else 0
            )
        self.assert_well(server)
        self.assert_clean_record(server)

    @staticmethod
    def _listen(connected: socket.socket, heard: bytearray) -> None:
        heard += receive_all(connected)


class Painting(PeerTest):
    """Texts that would move a cursor, hide something or forge a line of the record."""

    def test_record(self) -> None:
        """Whatever a peer sends is shown escaped, in one line."""
        for script in ("tcp_server.py", "udp_server.py"):
            server = self.server(script)
            with self.connect(server.port) if script[0] == "t" else self.datagrams(server.port) as peer:
                for what, (text, shown) in NASTY.items():
                    with self.subTest(script, what=what):
                        peer.send(text.encode() + b"\n")
                        self.assertEqual(peer.recv(1000), CONFIRMATION + text.encode() + b"\n")
                        server.wait_for(f"^\\[.*\\] Received from [^ ]+: {re.escape(shown)}$")
                peer.send(b"caf\xe9 \x9b\xff\n")
                server.wait_for(r"^\[.*\] Received from [^ ]+: caf\\xe9 \\x9b\\xff$")
            self.assertTrue(all(line.isprintable() for line in re.split("[\n\t]", server.output)))


class Exit(PeerTest):
    """Who may stop a server."""

    def assert_obeyed(self, script: str, host: str, *options: object) -> None:
        """Check that an 'exit' sent to one of this machine's addresses stops a server."""
        server = self.server(script, "--host", "0.0.0.0", *options)
        client = self.run_client(script.replace("server", "client"), host, server.port, typed="exit\n")
        self.assertEqual((client.wait(), client.output), (0, "Server shutting down...\n"), client.errors)
        self.assertEqual(server.wait(), 0)

    def assert_refused(self, script: str, host: str, *options: object) -> None:
        """Check that an 'exit' sent to one of this machine's addresses stops nothing."""
        server = self.server(script, *options)
        client = self.run_client(script.replace("server", "client"), host, server.port, typed="exit\n")
        self.assertRegex(client.output, r"\AError: 'exit' is not obeyed from 127\.0\.0\.1:\d+\n\Z")
        self.assertEqual(client.wait(), 1)
        self.assert_well(server)

    def test_own_addresses_are_local(self) -> None:
        """'exit' over any address of the server's own machine is obeyed."""
        addresses = ["127.0.0.1"]
        if sys.platform == "linux":
            addresses.append("127.0.0.2")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel chooses an own address
            addresses.append(probe.getsockname()[0])
        for script, address in itertools.product(("tcp_server.py", "udp_server.py"), addresses):
            with self.subTest(script, address=address):
                self.assert_obeyed(script, address)

    def test_nobody(self) -> None:
        """--exit-from nobody obeys no client, not even one on the same machine."""
        for script in ("tcp_server.py", "udp_server.py"):
            with self.subTest(script):
                self.assert_refused(script, "127.0.0.1", "--exit-from", "nobody")

    @on_linux
    @as_root
    def test_another_machine(self) -> None:
        """'exit' from another machine is obeyed only with --exit-from anyone; over an own address it is local."""
        here, there = self.two_machines()
        for script, options, who, obeyed in (
            ("tcp_server.py", [], there, False),
            ("udp_server.py", [], there, False),
            ("udp_server.py", ["--exit-from", "anyone"], there, True),
            ("tcp_server.py", ["--exit-from", "anyone"], there, True),
            ("udp_server.py", [], here, True),
        ):
            with self.subTest(script, options=options, elsewhere=who is there):
                server = self.server(script, "--host", "0.0.0.0", *options, within=here)
                client = self.start(
                    *who, sys.executable, script.replace("server", "client"), "10.9.8.1", server.port, "-m", "exit"
                )
                client.wait()
                if obeyed:
                    self.assertEqual((client.output, client.wait()), ("Server shutting down...\n", 0), client.errors)
                    self.assertEqual(server.wait(), 0)
                else:
                    self.assertRegex(client.output, r"\AError: 'exit' is not obeyed from 10\.9\.8\.\d:\d+\n\Z")
                    self.assertEqual(client.wait(), 1)
                    self.assertIsNone(server.popen.poll())


if __name__ == "__main__":
    unittest.main()
