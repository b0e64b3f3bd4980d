"""What datagrams from the network can do to the servers: no harm, and no circles."""

from __future__ import annotations

import collections
import contextlib
import functools
import re
import select
import socket
import struct
import sys
import threading
import time
import unittest
from typing import Any
from unittest import mock

from hostile import (
    CONFIRMATION,
    MIB,
    SERVERS_REPLIES,
    PeerTest,
    as_root,
    cpu_seconds,
    has_ipv6,
    kernel_rows,
    on_linux,
    random_texts,
    strangers,
)
from support import (
    PATIENCE,
    Server,
    receive_lines,
    resident_bytes,
    wait_until,
    with_constants,
)

import udp_server
from common import MAX_DATAGRAM
from service import PASS_BYTES

SOON_ENOUGH = with_constants(MAX_REPEATS=50)
"""Starts a server that ends a circle also where it turns slowly, since the machine has other things to do."""


class Circles(PeerTest):
    """Two servers never talk in circles (CVE-2024-2169)."""

    def test_datagrams_of_another_server(self) -> None:
        """What reads as a server's own reply gets no answer and is told to nobody, in any --reply mode."""
        for mode in ("confirm", "echo", "relay", "none"):
            server = self.server("udp_server.py", "--reply", mode)
            peer, other = self.datagrams(server.port), self.datagrams(server.port)
            other.send(b"I listen")
            server.wait_for("I listen")
            for reply in SERVERS_REPLIES:
                peer.send(reply)
            peer.send(b"the last")
            server.wait_for("Received from [^ ]+: the last$")
            for ears, first in ((peer, b"the last"), (other, b"I listen")):
                if mode != "none":
                    self.assertTrue(ears.recv(1000).endswith(first), mode)
            if mode == "relay":
                self.assertTrue(other.recv(1000).endswith(b": the last"))
            for ears in (peer, other):
                ears.setblocking(False)
                self.assertRaises(BlockingIOError, ears.recv, 1000)
            self.assertRegex(server.output, "Received from [^ ]+: (Message received|Server shutting|Error)")

    def test_two_servers(self) -> None:
        """Datagrams between two servers that know two ways to each other run dry, whatever their --reply modes."""
        modes = [
            ("echo", "echo"),
            ("echo", "confirm"),
            ("relay", "relay"),
            ("relay", "echo"),
        ]  # what is only confirmed is never answered; with --reply none nothing is
        servers, other_end, pair_of = [], {}, {}
        for pair in modes:
            first, second = (
                self.server("udp_server.py", "--quiet", "--reply", mode, within=SOON_ENOUGH) for mode in pair
            )
            servers += [first, second]
            for _ in range(2):
                at_first, at_second = self.datagrams(first.port), self.datagrams(second.port)
                other_end.update({at_first: at_second, at_second: at_first})
                pair_of.update({at_first: pair, at_second: pair})
        for way in other_end:
            way.send(b"hello, server")
        handed_on: collections.Counter[tuple[str, str]] = collections.Counter()
        while ready := select.select(list(other_end), [], [], 0.3)[0]:
            for way in ready:
                other_end[way].send(way.recv(65536))
                handed_on[pair_of[way]] += 1
            for pair, count in handed_on.items():
                self.assertLessEqual(count, 1000 if "relay" in pair else 20_000, f"{pair} talk in circles")
        for server in servers:
            self.assert_well(server)

    @on_linux
    def test_a_port_that_services_answer_from(self) -> None:
        """A datagram from a port below 1024 gets no answer."""
        server = self.server("udp_server.py")
        service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(service.close)
        for port in range(1023, 900, -1):
            try:
                service.bind(("127.0.0.1", port))
                break
            except PermissionError:
                self.skipTest("may not bind a port below 1024")
            except OSError:
                continue
        service.sendto(b"hello", ("127.0.0.1", server.port))
        self.assert_well(server)
        service.setblocking(False)
        self.assertRaises(BlockingIOError, service.recv, 1000)

    @on_linux
    @as_root
    def test_spoofed_datagrams(self) -> None:
        """A datagram that seems to come from the server itself, or from another server, starts nothing."""
        servers = []
        for mode, host in (("echo", "127.0.0.1"), ("echo", "0.0.0.0"), ("relay", "0.0.0.0")):
            with self.subTest(mode, host=host):
                options = ("--reply", mode, "--host", host)
                first, second = (self.server("udp_server.py", *options, within=SOON_ENOUGH) for _ in range(2))
                self._spoof(first.port, first.port, b"to myself")
                first.wait_for("Received from 127.0.0.1:.*: to myself$")
                self._spoof(first.port, second.port, b"a circle")
                second.wait_for(": a circle$")
                servers += [first, second]
        wait_until(functools.partial(self._rests, *servers), "no more datagrams go back and forth")
        for server in servers:
            self.assert_well(server)

    @staticmethod
    def _rests(*servers: Server) -> bool:
        before = [(cpu_seconds(server), len(server.output)) for server in servers]
        time.sleep(0.3)
        after = [(cpu_seconds(server), len(server.output)) for server in servers]
        return all(new[0] - old[0] < 0.05 and old[1] == new[1] for old, new in zip(before, after))

    def _spoof(self, source_port: int, port: int, text: bytes) -> None:
        """Send a datagram from 127.0.0.1 and a port that another program has."""
        here = socket.inet_aton("127.0.0.1")
        total = 20 + 8 + len(text)
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 64, socket.IPPROTO_UDP, 0, here, here)
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except PermissionError:
            self.skipTest("may not open a raw socket")
        with raw:
            raw.sendto(header + struct.pack("!HHHH", source_port, port, 8 + len(text), 0) + text, ("127.0.0.1", 0))


class Datagrams(PeerTest):
    """Where datagrams come from and go to, and how many at once."""

    @on_linux
    def test_replies_leave_from_the_address_that_was_asked(self) -> None:
        """A server on all addresses answers, relays and speaks from the one that a peer sent to."""
        for host, addresses in {
            "0.0.0.0": ["127.0.0.1", "127.0.0.2", "127.7.8.9"],
            "::": ["::1", "127.0.0.2"],
        }.items():
            if ":" in host and not has_ipv6():
                continue
            server = self.server("udp_server.py", "--host", host, "--reply", "relay")
            peers = [self.datagrams(server.port, address) for address in addresses]  # connected: hears no other address
            for number, peer in enumerate(peers):
                peer.send(b"I am %d" % number)
                self.assertEqual(peer.recv(1000), b"Message received: I am %d" % number)
            for heard in range(1, len(peers)):
                self.assertTrue(peers[0].recv(1000).endswith(b": I am %d" % heard))
            server.type("typed here\n")
            self.assertEqual(peers[0].recv(1000), b"typed here")
            server.type("exit\n")
            server.wait()
            self.assertEqual(peers[0].recv(1000), b"Server shutting down...")

    @on_linux
    def test_broadcasts(self) -> None:
        """A datagram to all of a network is answered, also where it comes to an IPv6 socket."""
        for host in ("0.0.0.0", "::") if has_ipv6() else ("0.0.0.0",):
            with self.subTest(host):
                server = self.server("udp_server.py", "--host", host)
                peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self.addCleanup(peer.close)
                peer.settimeout(PATIENCE)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                peer.sendto(b"anybody there?", ("127.255.255.255", server.port))
                server.wait_for("anybody there[?]$")
                self.assert_well(server)
                self.assertEqual(peer.recv(1000), b"Message received: anybody there?")

    @on_linux
    def test_burst(self) -> None:
        """Of 5,000 datagrams at once, all are answered that the kernel let in: as many as a large buffer holds."""
        server = self.server("udp_server.py")
        burst = [b"%d" % number for number in range(5000)]
        most = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(most.close)
        most.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        most.bind(("127.0.0.1", 0))
        peer = self.datagrams(most.getsockname()[1])
        for message in burst:
            peer.send(message)
        most.setblocking(False)
        held = 0
        with contextlib.suppress(BlockingIOError):
            while most.recv(100):
                held += 1

        peer.connect(("127.0.0.1", server.port))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        server.stop()  # the worst time for a burst
        for message in burst:
            peer.send(message)
        answers: list[bytes] = []
        is_over = threading.Event()
        reader = threading.Thread(target=self._collect, args=(peer, answers, is_over))
        reader.start()
        server.signal(18)  # SIGCONT
        dropped = [0]

        def all_accounted_for() -> bool:
            dropped[0] = int(kernel_rows("udp", server.port)[0][-1])
            lost_here = sum(int(row[-1]) for row in kernel_rows("udp", peer.getsockname()[1]))
            return len(answers) + dropped[0] + lost_here >= len(burst)

        wait_until(all_accounted_for, "every datagram is answered, or was dropped by the kernel")
        is_over.set()
        reader.join()
        self.assertEqual(len(set(answers)), len(answers))
        self.assertGreaterEqual(len(burst) - dropped[0], held, "fewer than a buffer of 1 MiB holds")
        self.assert_well(server)

    @staticmethod
    def _collect(peer: socket.socket, answers: list[bytes], is_over: threading.Event) -> None:
        peer.settimeout(0.1)
        while not is_over.is_set():
            with contextlib.suppress(socket.timeout):
                answers.append(peer.recv(1000))

    @unittest.skipUnless(has_ipv6(), "no IPv6 here")
    def test_a_datagram_longer_than_ipv4_has(self) -> None:
        """It is refused, and not taken for a shorter one that ends where a line does."""
        server = self.server("udp_server.py", "--host", "::1")
        peer = self.datagrams(server.port, "::1")
        peer.send(b"x" * MAX_DATAGRAM + b"\n" + b"y" * 19)
        self.assertEqual(peer.recv(1000), b"Error: message longer than 65507 bytes")

    def test_many_lines_for_many_peers(self) -> None:
        """A room with UDP peers is not held up by one who says very much at once; what is dropped is counted."""
        room = self.server("tcp_server.py", "--udp-port", 0, "--reply", "relay", "--quiet")
        peers = [self.datagrams(room.udp_port) for _ in range(100)]
        for peer in peers:
            peer.send(b"hello")
            self.assertEqual(peer.recv(1000), b"Message received: hello")
        talker = self.connect(room.port)
        talker.sendall(bytes(b"\n" * 30_000))
        self.assertEqual(len(receive_lines(talker, 30_000)), 30_000)
        told = re.compile(r"^\[UDP Server\] (\d+) datagrams were not sent: there was no room for them$", re.MULTILINE)
        most = 100 * 30_000
        wait_until(lambda: sum(map(int, told.findall(room.output))) > most / 2, "most are dropped, and counted")

    @on_linux
    def test_echoes_cost_no_memory(self) -> None:
        """What is counted to find circles is not kept."""
        server = self.server("udp_server.py", "--reply", "echo", "--quiet")
        peer = self.datagrams(server.port)
        before = resident_bytes(server)
        for number in range(1500):
            datagram = b"%d" % number + bytes(60_000)
            peer.send(datagram)
            self.assertEqual(peer.recv(1 << 16), datagram)
            if number % 500 == 0:
                self.assertLess(resident_bytes(server), before + 16 * MIB)
        self.assertLess(resident_bytes(server), before + 16 * MIB)

    def endpoint(self, **results: Any) -> tuple[udp_server.Endpoint, mock.Mock]:
        """Return an endpoint and its socket, whose calls have these results, or raise these errors."""
        service = mock.Mock(reply="confirm", received_bytes=0)
        server = mock.Mock(service=service)
        server.loop.now = 1000.0
        server.record.heading.return_value = service.record.heading.return_value = b""
        faked = mock.Mock(**{f"{name}.side_effect": result for name, result in results.items()})
        faked.getsockopt.return_value = bytes(36)
        faked.getsockname.return_value = "127.0.0.1", 9001
        return udp_server.Endpoint(server, faked), faked

    def test_a_network_that_takes_no_more(self) -> None:
        """What the kernel has no room for is dropped, and counted; what comes after that is sent."""
        endpoint, faked = self.endpoint(sendto=[BlockingIOError, None, BlockingIOError, None])
        peer = udp_server.UdpPeer(endpoint, ("127.0.0.1", 9), ("127.0.0.1", 9), [])
        peer.send([b"one", b"two", b"three", b"four"])
        self.assertEqual([call.args[0] for call in faked.sendto.call_args_list], [b"one", b"two", b"three", b"four"])
        self.assertTrue(endpoint.is_stopped(), "nothing is kept")
        endpoint.tick(1000.0)
        show: mock.Mock = endpoint.record.line  # type: ignore[assignment]
        show.assert_called_once_with("[UDP Server] 2 datagrams were not sent: there was no room for them")
        endpoint.tick(1001.0)
        show.assert_called_once()

    def test_peers_that_can_not_be_reached(self) -> None:
        """Others are told all the same, and it is shown as what can be repeated at will."""
        unreachable = OSError(101, "Network is unreachable")
        endpoint, faked = self.endpoint(sendto=[unreachable, unreachable, None])
        peer = udp_server.UdpPeer(endpoint, ("192.0.2.1", 9), ("192.0.2.1", 9), [])
        peer.send([b"one", b"two", b"three"])
        self.assertEqual(faked.sendto.call_count, 3)
        show: mock.Mock = endpoint.record.repeatable  # type: ignore[assignment]
        event = "[UDP Server] Cannot send to 192.0.2.1:9: Network is unreachable"
        self.assertEqual(show.call_args_list, 2 * [mock.call("Could not send", "192.0.2.1:9", event)])

    def test_large_datagrams_do_not_fill_a_pass(self) -> None:
        """No more of them are read before the others get their turn than a pass may bring."""
        endpoint, faked = self.endpoint()
        faked.recvfrom.return_value = bytes(60_000), ("127.0.0.1", 9000)
        service: mock.Mock = endpoint.service  # type: ignore[assignment]

        def receive(_: udp_server.UdpPeer, messages: list[bytes]) -> None:
            service.received_bytes += len(b"".join(messages))

        service.receive.side_effect = receive
        endpoint.read()
        self.assertGreater(service.received_bytes, PASS_BYTES)
        self.assertLessEqual(service.received_bytes, PASS_BYTES + 60_000)

    def test_who_speaks_to_a_stopping_server_is_told(self) -> None:
        """With the ending of its own datagram; but a server's reply gets no answer."""
        said = [b"anybody?\r\n", b"no?", b"Server shutting down...", b"Message received: x\n"]
        endpoint, faked = self.endpoint(recvfrom=[(data, ("127.0.0.1", 9000)) for data in said] + [BlockingIOError])
        endpoint.stop()
        watch: mock.Mock = endpoint.loop.watch  # type: ignore[assignment]
        self.assertEqual(watch.call_args.args[1], endpoint.turn_away)
        endpoint.turn_away()
        told = [call.args[0] for call in faked.sendto.call_args_list]
        self.assertEqual(told, [b"Server shutting down...\r\n", b"Server shutting down..."])
        endpoint.service.receive.assert_not_called()  # type: ignore[attr-defined]

    def test_lines_that_no_datagram_holds(self) -> None:
        """They are not sent to UDP peers cut, but counted; TCP clients read them whole."""
        within = with_constants(TICK=0.1)
        room = self.server("tcp_server.py", "--udp-port", 0, "--reply", "relay", "--quiet", within=within)
        peer, talker, listener = self.datagrams(room.udp_port), self.connect(room.port), self.connect(room.port)
        room.wait_for("(?s)(Connected by.*){2}")
        peer.send(b"hello")
        self.assertEqual(peer.recv(1000), b"Message received: hello")
        receive_lines(listener, 1)
        longest, typed = b"x" * 65_536, "y" * 70_000
        talker.sendall(longest + b"\nshort\n")
        self.assertTrue(peer.recv(1 << 17).endswith(b": short"))
        self.assertTrue(receive_lines(listener, 2)[0].endswith(b": " + longest))
        room.type(f"{typed}\nshort\n")
        self.assertEqual(peer.recv(1 << 17), b"short")
        self.assertEqual(receive_lines(listener, 2)[0], typed.encode())
        counted = r"^\[UDP Server\] (\d+) datagrams were not sent: there was no room for them$"
        wait_until(
            lambda: sum(map(int, re.findall(counted, room.output, re.MULTILINE))) == 2, "both are counted in the record"
        )

    @on_linux
    def test_peers_that_listen_no_more(self) -> None:
        """Replies to closed ports, and the errors that they bring back, disturb nobody."""
        server = self.server("udp_server.py", "--reply", "relay")
        for number, gone in enumerate(strangers(300, server.port)):
            gone.send(b"%d" % number)
        server.wait_for("Received from [^ ]+: 299$")
        listener = self.datagrams(server.port)
        listener.send(b"I listen")
        listener.recv(1000)
        server.type("anybody there?\n")
        self.assertEqual(listener.recv(1000), b"anybody there?")
        self.assert_well(server)

    @on_linux
    def test_endless_peers(self) -> None:
        """Datagrams from ever new ports cost no memory without limit."""
        server = self.server("udp_server.py", "--quiet")
        asking = self.datagrams(server.port)
        memory = []
        for number, stranger in enumerate(strangers(30_000, server.port)):
            stranger.send(b"hello")
            if number % 100 == 99:
                asking.send(b"are you with me?")
                asking.recv(100)
            if number in (12_000, 29_999):
                memory.append(resident_bytes(server))
        self.assertLess(memory[1] - memory[0], 2 * MIB)


class Garbage(PeerTest):
    """Random and overlong datagrams."""

    def test_datagrams(self) -> None:
        """40,000 random byte strings over UDP: each is confirmed as it came, and shown safely."""
        server = self.server("udp_server.py")
        texts = [text for text in random_texts(40_000, 40) if text and not text.startswith(tuple(SERVERS_REPLIES))]
        peer = self.datagrams(server.port)
        before = 0
        for start in range(0, len(texts), 32):
            sent = texts[start : start + 32]
            for text in sent:
                peer.send(text)
            self.assertEqual([peer.recv(1000) for _ in sent], [CONFIRMATION + text for text in sent])
            if start == 32 * 500 and sys.platform == "linux":
                before = resident_bytes(server)
        if sys.platform == "linux":
            self.assertLess(resident_bytes(server) - before, 2 * MIB)
        self.assert_well(server)
        self.assert_clean_record(server)

    def test_datagrams_too_long(self) -> None:
        """A datagram over the limit is refused, the next one is answered."""
        server = self.server("udp_server.py", "--max-message", 100)
        peer = self.datagrams(server.port)
        peer.send(b"x" * 100)
        self.assertEqual(peer.recv(65536), CONFIRMATION + b"x" * 100)
        peer.send(b"x" * 101)
        self.assertEqual(peer.recv(65536), b"Error: message longer than 100 bytes")
        peer.send(b"x" * 65000 + b"\n")
        self.assertEqual(peer.recv(65536), b"Error: message longer than 100 bytes\n")
        self.assert_well(server)

    def test_forged_line(self) -> None:
        """A datagram with line feeds inside stays one line of the record."""
        server = self.server("udp_server.py")
        peer = self.datagrams(server.port)
        peer.send(b"hello\n[UDP Server] Received from 10.0.0.1:1: forged\r\n")
        server.wait_for(r"Received from [^ ]+: hello\\n\[UDP Server\] Received from 10\.0\.0\.1:1: forged$")
        self.assertNotIn("\n[UDP Server] Received from 10.", server.output)

    def test_what_is_harmless(self) -> None:
        """Words in any script and emoji are shown as they are."""
        server = self.server("udp_server.py", env={"PYTHONIOENCODING": "utf-8"})
        peer = self.datagrams(server.port)
        peer.send("Grüße, 世界, 👩‍🚀".encode())
        server.wait_for("Received from [^ ]+: Grüße, 世界, 👩‍🚀$")

    def test_narrow_output(self) -> None:
        """An output that takes nothing but ASCII gets escapes for the rest."""
        server = self.server("udp_server.py", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
        peer = self.datagrams(server.port)
        peer.send("Grüße".encode())
        self.assertEqual(peer.recv(1000), CONFIRMATION + "Grüße".encode())
        server.wait_for(r"Received from [^ ]+: Gr\\xfc\\xdfe$")


if __name__ == "__main__":
    unittest.main()
