"""How clients reach a server: names that are slow, addresses that do not answer, machines that are gone."""

from __future__ import annotations

import contextlib
import functools
import select
import signal
import socket
import sys
import threading
import time
import unittest
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from hostile import kernel_rows, on_linux
from support import PATIENCE, Clock, Process, TestCase, connects, free_port, wait_until

from channel import Broken
from common import Failure
from loop import Loop
from reaching import in_turn, look_up, race

if TYPE_CHECKING:
    from channel import Wait
    from reaching import Place

try:
    from screen import Terminal
except ImportError:  # Windows
    Terminal = None  # type: ignore[assignment,misc]

CLIENTS = ("tcp_client.py", "udp_client.py")

OTHER_NAMES = """
import runpy, socket, sys, threading
names = dict(name.split("=") for name in sys.argv[1].split())
real = socket.getaddrinfo
def find(host, port, *rest, **options):
    addresses = names.get(host.decode(), host.decode())
    if addresses == "SILENT" and not (rest[3:] and rest[3] & socket.AI_NUMERICHOST):
        threading.Event().wait()
    return [found for address in addresses.split(",") for found in real(address.encode(), port, *rest, **options)]
socket.getaddrinfo = find
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script in a world with other names; of one of them (`SILENT`), no name server says anything."""


def run(steps: Generator[Wait, None, Any]) -> Any:
    """Return what steps of a client return, waiting as its loop does."""
    loop = Loop()
    with contextlib.closing(loop), contextlib.closing(steps):
        try:
            while True:
                awaited, until = next(steps)
                for descriptor, events in awaited.items():
                    loop.watch(descriptor, lambda: None, events)
                list(loop.ready(max(min(until, time.monotonic() + PATIENCE) - time.monotonic(), 0)))
                for descriptor in awaited:
                    loop.forget(descriptor)
        except StopIteration as stop:
            return stop.value


class ReachingTest(TestCase):
    """A test in a world of its own names and silent addresses."""

    def in_world(self, names: str, script: str, *arguments: object, **popen: Any) -> Process:
        """Start a client for which names stand for these addresses."""
        return self.start(sys.executable, "-c", OTHER_NAMES, names, script, *arguments, **popen)

    def silent(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Return a TCP port of which nothing comes back: its backlog is full, so the kernel drops what comes."""
        port = port or free_port()  # one that nobody else is given at another of this machine's addresses
        listener = socket.create_server((host, port), backlog=0)
        self.addCleanup(listener.close)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex((host, port))
        return port


class Names(ReachingTest):
    """A name server that says nothing holds nobody up."""

    def test_within_the_timeout(self) -> None:
        clients = [
            self.in_world("slow.test=SILENT", script, "slow.test", 9, "--timeout", 0.2, "-m", "x") for script in CLIENTS
        ]
        for client in clients:
            with self.subTest(client.popen.args):
                self.assert_one_line_error(client, "cannot find host slow.test: no name server answers in time; check")

    @unittest.skipUnless(sys.platform == "linux", "looks into /proc")
    def test_signals_end_it_at_any_time(self) -> None:
        """Their handlers are there first: as process 1 of a container, a program gets no signal without one."""
        for script in CLIENTS:
            for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
                with self.subTest(script, signal=number):
                    client = self.in_world("slow.test=SILENT", script, "slow.test", 9, "-m", "x")
                    wait_for_look_up(client)
                    caught = int(status(client, "SigCgt"), 16)
                    self.assertTrue(caught & 1 << (number - 1))
                    client.signal(number)
                    self.assertEqual(client.wait(), code)
                    self.assertEqual(client.errors, "")

    def test_a_client_that_reconnects_asks_again(self) -> None:
        client = self.in_world("slow.test=SILENT", "tcp_client.py", "slow.test", 9, "--timeout", 0.1, "--reconnect")
        client.wait_for_error(r"\A.*cannot find host slow.test: no name .*; trying again until the server is there\n\Z")

    def test_an_address_needs_no_thread(self) -> None:
        with mock.patch("threading.Thread.start", side_effect=RuntimeError):
            for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
                with self.subTest(host):
                    ((found, address),) = run(look_up(host, 9000, socket.SOCK_STREAM, 0, 0.0))
                    self.assertEqual((found, address[:2]), (family, (host, 9000)))
            with self.assertRaisesRegex(Failure, "no thread can be started"):
                run(look_up("localhost", 9000, socket.SOCK_STREAM, 0, 0.0))

    def test_what_the_thread_finds_is_what_the_caller_gets(self) -> None:
        until = time.monotonic() + PATIENCE
        for error in (socket.gaierror(socket.EAI_NONAME, "no such name"), MemoryError("no room")):
            found = mock.patch("socket.getaddrinfo", side_effect=[socket.gaierror(), error])
            expected = self.assertRaisesRegex((OSError, MemoryError), "no such name|no room")
            with self.subTest(error), found, expected:
                run(look_up("name.test", 9, socket.SOCK_STREAM, 0, until))

    def test_a_look_up_that_is_given_up_leaves_nothing_open(self) -> None:
        go_on = threading.Event()

        def find(*_: object) -> list[Place]:
            if threading.current_thread() is threading.main_thread():
                raise OSError("it is a name")
            go_on.wait(PATIENCE)
            return []

        with mock.patch("reaching.resolve", find):
            steps = look_up("slow.test", 9, socket.SOCK_STREAM, 0, time.monotonic() + PATIENCE)
            (descriptor,), _ = next(steps)
            steps.close()
        with self.assertRaises(OSError):
            socket.socket(fileno=descriptor)
        go_on.set()


class Races(ReachingTest):
    """RFC 8305: an address that says nothing does not hold up the next."""

    @on_linux
    def test_a_silent_address_first(self) -> None:
        server = self.server("tcp_server.py", port=free_port())
        self.silent("127.0.0.2", server.port)
        names = "dual.test=127.0.0.2,127.0.0.1"
        client = self.in_world(names, "tcp_client.py", "dual.test", server.port, "-m", "one", "--timeout", PATIENCE)
        self.assertEqual((client.wait(PATIENCE / 2), client.output, client.errors), (0, "Message received: one\n", ""))

    @on_linux
    def test_all_have_one_timeout_together(self) -> None:
        port, clock = self.silent("127.0.0.1"), Clock(self)
        self.silent("127.0.0.2", port)
        names, options = "dual.test=127.0.0.1,127.0.0.2", ("-m", "one", "--timeout", PATIENCE)
        client = self.in_world(names, "tcp_client.py", "dual.test", port, *options, env=clock.environment)
        for host in ("0100007F", "0200007F"):
            wait_until(functools.partial(connects, client, f"{host}:{port:04X} 02"), "it connects there")
        clock.skip(2 * PATIENCE, client)
        self.assert_one_line_error(client, rf"127.0.0.1:{port}: no answer within 20 s.*; .*127.0.0.2:{port}: no answer")

    @on_linux
    def test_each_has_its_turn_however_short_the_timeout_is(self) -> None:
        server = self.server("tcp_server.py", port=free_port())
        self.silent("127.0.0.2", server.port)
        places = [(socket.AF_INET, (host, server.port)) for host in ("127.0.0.2", "127.0.0.2", "127.0.0.1")]
        now = 0.0
        with mock.patch("reaching.ATTEMPT_DELAY", PATIENCE), mock.patch("time.monotonic", lambda: now):
            steps = race(places, self.begin, 1.0, "late")
            try:
                while True:
                    awaited, until = next(steps)
                    if not select.select([], awaited, [], PATIENCE if len(awaited) == 3 else 0)[1]:
                        now = until
            except StopIteration as stop:
                winner, address = stop.value
        with winner:
            self.assertEqual(address, ("127.0.0.1", server.port))

    def test_one_that_is_refused_makes_way_at_once(self) -> None:
        server = self.server("tcp_server.py")
        places: list[Place] = [
            (socket.AF_INET, ("127.0.0.1", free_port())),
            (socket.AF_INET, ("127.0.0.1", server.port)),
        ]
        with mock.patch("reaching.ATTEMPT_DELAY", float("inf")):
            begun_at = time.monotonic()
            winner, address = run(race(places, self.begin, begun_at + PATIENCE, "late"))
        with winner:
            self.assertEqual(address[1], server.port)
            self.assertLess(time.monotonic(), begun_at + PATIENCE / 4)

    @on_linux
    def test_who_loses_is_closed(self) -> None:
        server = self.server("tcp_server.py", port=free_port())
        self.silent("127.0.0.2", server.port)
        begun: list[socket.socket] = []

        def begin(place: Place) -> socket.socket:
            begun.append(self.begin(place))
            return begun[-1]

        places: list[Place] = [(socket.AF_INET, (host, server.port)) for host in ("127.0.0.2", "127.0.0.1")]
        with mock.patch("reaching.ATTEMPT_DELAY", 0.0):
            winner, _ = run(race(places, begin, time.monotonic() + PATIENCE, "late"))
        self.assertEqual([attempt.fileno() for attempt in begun], [-1, winner.fileno()])
        winner.close()
        steps = race(places[:1], begin, time.monotonic() + PATIENCE, "late")
        next(steps)
        steps.close()
        self.assertEqual(begun[-1].fileno(), -1)

    def test_what_is_told_when_none_is_reached(self) -> None:
        places: list[Place] = [(socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9, 0, 0))]
        problems = [OSError("no way"), ConnectionRefusedError("refused")]
        with self.assertRaises(Broken) as raised:
            run(race(places, mock.Mock(side_effect=problems), time.monotonic() + 1, "late"))
        self.assertEqual(
            str(raised.exception),
            "cannot connect to [2001:db8::1]:9: no way; "
            "cannot connect to 192.0.2.1:9: connection refused (start the server, or check the port)",
        )

    def test_the_families_take_turns(self) -> None:
        four, six = socket.AF_INET, socket.AF_INET6
        places: list[Place] = [(four, "a"), (four, "b"), (four, "c"), (six, "d"), (six, "e")]  # type: ignore[list-item]
        self.assertEqual([address for _, address in in_turn(places)], ["d", "a", "e", "b", "c"])

    @staticmethod
    def begin(place: Place) -> socket.socket:
        """Return a socket that is connecting."""
        family, address = place
        attempt = socket.socket(family, socket.SOCK_STREAM)
        attempt.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            attempt.connect(address)
        return attempt


@on_linux
class Turns(ReachingTest):
    """Over UDP nothing tells that an address is wrong, so with `--retries` another one gets the next try."""

    def endpoints(self) -> tuple[socket.socket, socket.socket]:
        """Return UDP sockets of two addresses with the same port."""
        for _ in range(9):
            first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for endpoint in (first, second):
                self.addCleanup(endpoint.close)
                endpoint.settimeout(PATIENCE)
            first.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):  # the port is taken there
                second.bind(("127.0.0.2", first.getsockname()[1]))
                return first, second
        raise AssertionError("no port is free on both addresses")

    def client_of_two(self, port: int, *options: object) -> Process:
        """Start a client of both addresses."""
        return self.in_world("dual.test=127.0.0.1,127.0.0.2", "udp_client.py", "dual.test", port, *options)

    def answer(self, client: Process, endpoint: socket.socket, question: bytes, reply: bytes) -> Any:
        """Answer a question each time it comes until the client has heard it; return who was answered last.

        A client whose next turn begins before the answer is there does not hear that one.
        """
        asked_by: list[Any] = []
        endpoint.settimeout(0.01)

        def is_heard() -> bool:
            with contextlib.suppress(socket.timeout):
                data, peer = endpoint.recvfrom(100)
                if data == question:
                    asked_by.append(peer)
                    endpoint.sendto(reply, peer)
            return reply in client.raw_output

        wait_until(is_heard, f"{reply!r} is heard")
        endpoint.settimeout(PATIENCE)
        return asked_by[-1]

    def test_an_address_that_swallows_everything(self) -> None:
        first, second = self.endpoints()
        port = first.getsockname()[1]
        second.close()
        server = self.server("udp_server.py", "--host", "127.0.0.2", port=port)
        messages = [part for number in range(70) for part in ("-m", f"number {number}")]  # more than a window
        client = self.client_of_two(server.port, "--retries", 99, "--timeout", 0.2, *messages)
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output.count("Message received: "), 70)

    def test_they_take_turns_until_one_answers(self) -> None:
        first, second = self.endpoints()
        client = self.client_of_two(first.getsockname()[1], "--retries", 99, "--timeout", 0.1)
        client.type("one\n")
        for endpoint in (first, second, first):
            self.assertEqual(endpoint.recv(100), b"one")
        peer = self.answer(client, second, b"one", b"Message received: one")
        client.type("two\n")
        for _ in range(3):
            while second.recv(100) != b"two":
                pass
        second.sendto(b"Message received: two", peer)
        client.end_input()
        self.assertEqual((client.wait(), client.errors), (0, ""))
        first.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.assertEqual(first.recv(100), b"one")

    def test_an_exit_takes_turns_too(self) -> None:
        first, second = self.endpoints()
        client = self.client_of_two(first.getsockname()[1], "--retries", 99, "--timeout", 0.2, "-m", "exit")
        self.assertEqual(first.recv(100), b"exit")
        self.answer(client, second, b"exit", b"Server shutting down...")
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_an_address_without_a_way_is_passed_over(self) -> None:
        """Each time it has its turn."""
        first, _ = self.endpoints()
        names = "dual.test=127.0.0.1,240.0.0.1"  # no route leads there
        port = first.getsockname()[1]
        options = ("--retries", 99, "--timeout", 0.1, "-m", "one")
        client = self.in_world(names, "udp_client.py", "dual.test", port, *options)
        for _ in range(2):
            self.assertEqual(first.recv(100), b"one")
        self.answer(client, first, b"one", b"Message received: one")
        self.assertEqual((client.wait(), client.errors), (0, ""))


class Handshakes(ReachingTest):
    """`--timeout` holds for all of what comes before the first message."""

    @contextlib.contextmanager
    def dripping(self) -> Iterator[int]:
        """Serve a TLS record that comes a byte at a time, without a pause that a client could take for the end."""
        listener = self.listen()

        def drip() -> None:
            with contextlib.suppress(OSError):
                connected = self.accept(listener)
                connected.sendall(b"\x16\x03\x03\x40\x00")
                for _ in range(16000):
                    connected.sendall(b"\x02")
                    time.sleep(0.0001)

        dripper = threading.Thread(target=drip)
        dripper.start()
        yield listener.getsockname()[1]
        dripper.join()

    def test_a_handshake_that_comes_byte_by_byte(self) -> None:
        with self.dripping() as port:
            client = self.client("tcp_client.py", "127.0.0.1", port, "--tls", "--timeout", 0.3, "-m", "one")
            self.assertEqual(client.wait(), 1)
        self.assert_one_line_error(client, f"no TLS handshake with 127.0.0.1 port {port} within 0.3 s")

    def test_a_timeout_of_more_than_32_bits_of_milliseconds(self) -> None:
        """It was taken for one of a few milliseconds."""
        listener = self.listen()
        client = self.client(
            "tcp_client.py", "127.0.0.1", listener.getsockname()[1], "--tls", "--timeout", "4294967.297"
        )
        connected = self.accept(listener)
        self.assertEqual(connected.recv(1), b"\x16")
        with self.assertRaises(AssertionError):
            client.wait(0.3)
        client.signal(signal.SIGINT)
        self.assertEqual(client.wait(), 130)

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_lines_are_taken_while_a_connection_is_being_made(self) -> None:
        """By a client that reconnects: it has a prompt before it has a server."""
        listener = self.listen()
        port = listener.getsockname()[1]
        options = ("--tls", "--reconnect", "--timeout", 60)
        terminal = Terminal(sys.executable, "tcp_client.py", "127.0.0.1", port, *options, columns=200)
        self.addCleanup(terminal.close)
        self.assertEqual(self.accept(listener).recv(1), b"\x16")
        terminal.expect("You:", column=5)
        terminal.type("one\r")
        terminal.type("terminate\r")
        self.assertEqual(terminal.wait(), 1)
        terminal.expect_row("^1 sent, 0 confirmed, 1 lost$")


class Gone(ReachingTest):
    """A client that only listens finds out that its server's machine is gone."""

    @on_linux
    def test_keepalive(self) -> None:
        listener = self.listen()
        for options in ((), ("--reconnect",)):
            with self.subTest(options):
                self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], *options)
                self.wait_for_keepalive(self.accept(listener))

    @staticmethod
    def wait_for_keepalive(connected: socket.socket) -> None:
        """Wait until the other side has a timer that is none for retransmissions (proc_net_tcp(5))."""
        own, other = (f":{address[1]:04X}" for address in (connected.getsockname(), connected.getpeername()))

        def timers() -> list[str]:
            rows = kernel_rows("tcp", connected.getpeername()[1])
            return [row[5][:2] for row in rows if row[1].endswith(other) and row[2].endswith(own)]

        wait_until(lambda: timers() == ["02"], "a keepalive timer runs")


def wait_for_look_up(client: Process) -> None:
    """Wait until a client's second thread runs, which looks up a name (Linux)."""
    wait_until(lambda: int(status(client, "Threads")) > 1, "a thread looks up the name")


def status(process: Process, name: str) -> str:
    """Return an entry of /proc/PID/status (Linux)."""
    rows = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(row.partition(":")[2].strip() for row in rows if row.startswith(f"{name}:"))


if __name__ == "__main__":
    unittest.main()
