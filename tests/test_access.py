"""Where a peer comes from: --allow on both protocols, and what a server says that anybody can reach.

The strangers are clients at other addresses of 127.0.0.0/8, all of which are this machine's own on Linux.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import unittest

from support import PATIENCE, Server, TestCase, receive_all, receive_lines, wait_until, with_constants

FRIEND, OTHER_FRIEND, STRANGER = "127.0.0.2", "127.0.1.77", "127.0.0.3"
ALLOWED = ("--allow", FRIEND, "--allow", "127.0.1.0/24")


def can_bind(address: str) -> bool:
    """Tell whether an address is this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


HAS_IPV6 = unittest.skipUnless(can_bind("::1"), "there is no IPv6")
HAS_ADDRESSES = unittest.skipUnless(can_bind(STRANGER), "only 127.0.0.1 is this machine's own")


class AccessTestCase(TestCase):
    """A test with sockets at chosen addresses."""

    def connect_from(self, source: str, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a TCP connection that comes from `source`."""
        connected = socket.create_connection((host, port), PATIENCE, (source, 0))
        self.addCleanup(connected.close)
        return connected

    def datagrams_from(self, source: str, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a UDP socket at `source` that is connected to a port."""
        connected = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE)
        connected.bind((source, 0))
        connected.connect((host, port))
        return connected

    def assert_served(self, connected: socket.socket, text: bytes = b"let me in") -> None:
        """Check that a TCP or UDP socket gets a confirmation."""
        connected.sendall(text + b"\n")
        self.assertEqual(receive_lines(connected, 1), [b"Message received: " + text])

    def assert_turned_away(self, connected: socket.socket, text: bytes = b"") -> None:
        """Check that a TCP connection is closed without a word."""
        with contextlib.suppress(ConnectionError):
            connected.sendall(text)
            self.assertEqual(receive_all(connected), b"")

    def assert_silent(self, *connected: socket.socket) -> None:
        """Check that nothing has arrived at UDP sockets."""
        for silent in connected:
            silent.setblocking(False)
            with self.assertRaises(BlockingIOError):
                silent.recv(100)

    def refusals(self, server: Server) -> list[int]:
        """Return how many refusals each line of the record tells of."""
        found = re.findall(r"^\[Server\] Refused (?:[\d.]+:|(\d+) more times$)", server.output, re.MULTILINE)
        return [int(more or 1) for more in found]


@HAS_ADDRESSES
class Tcp(AccessTestCase):
    """The TCP server and its access list."""

    def test_each_network_that_is_named_and_no_other(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED)
        for source in (FRIEND, OTHER_FRIEND, "127.0.1.255"):
            self.assert_served(self.connect_from(source, server.port))
        for source in (STRANGER, "127.0.0.1", "127.0.2.0"):
            with self.subTest(source):
                self.assert_turned_away(self.connect_from(source, server.port))
                server.wait_for(rf"^\[\w*\s?Server\] Refused {source}\b")
                self.assertNotRegex(server.output, f"Connected by {source}:")

    def test_nothing_is_read_from_a_stranger(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED, "--exit-from", "anyone", "--reply", "relay")
        friend = self.connect_from(FRIEND, server.port)
        self.assert_served(friend)
        for said in (b"spam\n", b"exit\n", b"spam" * 100_000):
            self.assert_turned_away(self.connect_from(STRANGER, server.port), said)
        self.assert_served(friend, b"still here")
        self.assertNotIn("spam", server.output)

    def test_a_stranger_takes_no_place(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED, "--max-clients", 1)
        strangers = [self.connect_from(STRANGER, server.port) for _ in range(20)]
        self.assert_served(self.connect_from(FRIEND, server.port))
        for stranger in strangers:
            self.assert_turned_away(stranger)
        self.assertNotIn("Turned away", server.output)

    def test_a_stranger_hears_not_even_that_the_server_is_full(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED, "--max-clients", 1)
        self.assert_served(self.connect_from(FRIEND, server.port))
        self.assert_turned_away(self.connect_from(STRANGER, server.port))

    def test_our_own_client_says_that_it_was_turned_away(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED)
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, "-m", "one")
        self.assert_one_line_error(client, f"127.0.0.1:{server.port}.*1 message was not confirmed")


@HAS_ADDRESSES
class Udp(AccessTestCase):
    """The UDP server and its access list."""

    def test_each_network_that_is_named_and_no_other(self) -> None:
        server = self.server("udp_server.py", *ALLOWED)
        strangers = [self.datagrams_from(source, server.port) for source in (STRANGER, "127.0.0.1", "127.0.2.0")]
        for stranger in strangers:
            stranger.send(b"let me in\n")
        for source in (FRIEND, OTHER_FRIEND, "127.0.1.255"):
            self.assert_served(self.datagrams_from(source, server.port))
        self.assert_silent(*strangers)
        for source in (STRANGER, "127.0.0.1", "127.0.2.0"):
            server.wait_for(rf"^\[\w*\s?Server\] Refused {source}\b")
            self.assertNotIn(f"from {source}:", server.output)

    def test_a_stranger_is_neither_obeyed_nor_told_anything(self) -> None:
        server = self.server("udp_server.py", *ALLOWED, "--exit-from", "anyone", "--reply", "relay")
        friend = self.datagrams_from(FRIEND, server.port)
        self.assert_served(friend)
        stranger = self.datagrams_from(STRANGER, server.port)
        for said in (b"spam", b"exit", b"terminate", b"", b"spam" * 10_000):
            stranger.send(said)
        other = self.datagrams_from(OTHER_FRIEND, server.port)
        self.assert_served(other, b"relayed")
        self.assertRegex(friend.recv(100), rb"\A127\.0\.1\.77:\d+: relayed")
        server.type("typed\n")
        self.assertEqual(friend.recv(100), b"typed\n")
        self.assert_silent(stranger)
        self.assertNotIn("spam", server.output)

    def test_the_same_list_holds_for_both_protocols_of_one_program(self) -> None:
        server = self.server("tcp_server.py", *ALLOWED, "--udp-port", 0)
        stranger = self.datagrams_from(STRANGER, server.udp_port)
        stranger.send(b"let me in\n")
        self.assert_turned_away(self.connect_from(STRANGER, server.port))
        self.assert_served(self.connect_from(FRIEND, server.port))
        self.assert_served(self.datagrams_from(FRIEND, server.udp_port))
        self.assert_silent(stranger)

    def test_the_record_names_a_stranger_and_then_counts(self) -> None:
        within = with_constants(COUNT_EVERY=1.0, TICK=0.1)
        server = self.server("tcp_server.py", *ALLOWED, "--udp-port", 0, within=within)
        stranger, friend = self.datagrams_from(STRANGER, server.udp_port), self.datagrams_from(FRIEND, server.udp_port)
        for _ in range(20):
            self.assert_turned_away(self.connect_from(STRANGER, server.port))
            for _ in range(99):
                stranger.send(b"spam")
            self.assert_served(friend)  # what was sent before has arrived
        self.assert_turned_away(self.connect_from("127.0.0.4", server.port))
        wait_until(lambda: sum(self.refusals(server)) == 2001, "all refusals in the record")
        self.assertLess(len(self.refusals(server)), 30, "a few each second")
        for host in (STRANGER, "127.0.0.4"):
            self.assertIn(f"[Server] Refused {host}: it is in no network that may come in\n", server.output)


@HAS_IPV6
class Ipv6(AccessTestCase):
    """Access lists on IPv6, and IPv4 that arrives on an IPv6 socket."""

    def test_a_network_of_ipv6(self) -> None:
        for network, is_in in (("::1", True), ("::/64", True), ("2001:db8::/32", False), ("0.0.0.0/0", False)):
            with self.subTest(network):
                server = self.server("tcp_server.py", "--host", "::1", "--allow", network, "--udp-port", 0)
                connected = self.connect(server.port, "::1")
                datagrams = self.datagrams(server.udp_port, "::1")
                if is_in:
                    self.assert_served(connected)
                    self.assert_served(datagrams)
                else:
                    datagrams.send(b"let me in\n")
                    self.assert_turned_away(connected)
                    server.wait_for(r"^\[\w*\s?Server\] Refused ::1: ")
                    self.assert_silent(datagrams)

    @HAS_ADDRESSES
    def test_ipv4_on_an_ipv6_socket_is_matched_as_ipv4(self) -> None:
        server = self.server("tcp_server.py", "--host", "::", *ALLOWED, "--udp-port", 0)
        stranger, foreigner = self.datagrams_from(STRANGER, server.udp_port), self.datagrams(server.udp_port, "::1")
        for datagrams in (stranger, foreigner):
            datagrams.send(b"let me in\n")
        self.assert_turned_away(self.connect_from(STRANGER, server.port))
        self.assert_turned_away(self.connect(server.port, "::1"))
        self.assert_served(self.connect_from(FRIEND, server.port))
        self.assert_served(self.datagrams_from(FRIEND, server.udp_port))
        self.assert_silent(stranger, foreigner)
        server.wait_for(rf"^\[\w*\s?Server\] Refused {STRANGER}: ")
        server.wait_for(r"^\[\w*\s?Server\] Refused ::1: ")
        self.assertNotIn("::ffff:", server.output)

    def test_a_list_of_ipv6_alone_lets_no_ipv4_in(self) -> None:
        for network in ("::1", "::/0"):
            with self.subTest(network):
                server = self.server("tcp_server.py", "--host", "::", "--allow", network)
                self.assert_turned_away(self.connect(server.port))
                self.assert_served(self.connect(server.port, "::1"))


class AtTheStart(AccessTestCase):
    """What a server says of who can reach it, and of networks that are none."""

    ANYBODY = re.compile(r"^\[(TCP|UDP) Server\] Anybody who reaches this port can talk to it", re.MULTILINE)

    def test_a_server_that_anybody_can_reach_says_so_once(self) -> None:
        for script, options, said in (
            ("tcp_server.py", ("--host", "0.0.0.0"), ["TCP"]),
            ("udp_server.py", ("--host", "0.0.0.0"), ["UDP"]),
            ("tcp_server.py", ("--host", "0.0.0.0", "--udp-port", 0), ["TCP", "UDP"]),
            ("tcp_server.py", ("--host", "0.0.0.0", "--allow", "127.0.0.1", "--udp-port", 0), []),
            ("udp_server.py", ("--host", "0.0.0.0", "--allow", "127.0.0.1"), []),
            ("tcp_server.py", ("--host", "localhost"), []),
            ("udp_server.py", (), []),
        ):
            with self.subTest(script, options=options):
                server = self.server(script, *options)
                server.type("exit\n")
                self.assertEqual(server.wait(), 0)
                self.assertEqual(self.ANYBODY.findall(server.output), said)

    @HAS_IPV6
    def test_on_ipv6(self) -> None:
        for host, said in (("::", ["UDP"]), ("::1", [])):
            with self.subTest(host):
                server = self.server("udp_server.py", "--host", host)
                server.type("exit\n")
                self.assertEqual(server.wait(), 0)
                self.assertEqual(self.ANYBODY.findall(server.output), said)

    def test_what_is_no_network(self) -> None:
        networks = ("300.1.1.1", "10.0.0.1/8", "localhost", "", "fe80::/129")
        starts = [(f"{kind}_server.py", 0, "--allow", network) for network in networks for kind in ("tcp", "udp")]
        for start, program in [(start, self.start(sys.executable, *start)) for start in starts]:
            with self.subTest(start):
                self.assert_one_line_error(program, "--allow.*such as 192", code=2)


if __name__ == "__main__":
    unittest.main()
