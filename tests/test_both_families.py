"""A server at a name of several addresses listens on all of them, as one server."""

from __future__ import annotations

import sys
import unittest

from hostile import has_ipv6
from support import Process, TestCase, receive_lines
from test_reaching import OTHER_NAMES

HOSTS = ("::1", "127.0.0.1")
LISTENING = r"^\[(TCP|UDP) Server\] Listening on (\[::1\]|127\.0\.0\.1):(\d+)\."


@unittest.skipUnless(has_ipv6(), "this system has no IPv6")
class BothFamilies(TestCase):
    """The name `both.test` has an address of each family."""

    def at(self, addresses: str, script: str, port: int, *options: object) -> Process:
        """Start a server at a name of these addresses."""
        world = (sys.executable, "-c", OTHER_NAMES, f"both.test={addresses}")
        return self.start(*world, script, port, "--host", "both.test", *options)

    def both(self, *options: object) -> tuple[Process, int, int]:
        """Start a server of both protocols at both addresses; return it and its ports, once it listens on them all."""
        server = self.at("::1,127.0.0.1", "tcp_server.py", 0, "--udp-port", 0, *options)
        ports = []
        for protocol in ("TCP", "UDP"):
            found = server.wait_for(rf"^\[{protocol} .* on \[::1\]:(\d+)\..*\n(.*\n)?\[{protocol} .* on 127.0.0.1:\1\.")
            ports.append(int(found[1]))
        return server, ports[0], ports[1]

    def test_all_are_served(self) -> None:
        server, port, udp_port = self.both()
        for host in HOSTS:
            with self.connect(port, host) as stream, self.datagrams(udp_port, host) as datagrams:
                for peer in (stream, datagrams):
                    peer.sendall(b"hello\n")
                    self.assertEqual(peer.recv(100), b"Message received: hello\n")
        with self.connect(port, "127.0.0.1") as stream, self.connect(port, "::1") as other:
            stream.sendall(b"exit\n")
            self.assertEqual(other.recv(100), b"Server shutting down...\n")
        self.assertEqual((server.wait(), server.errors), (0, ""))

    def test_it_is_one_room(self) -> None:
        _, port, udp_port = self.both("--reply", "relay")
        peers = [self.connect(port, host) for host in HOSTS] + [self.datagrams(udp_port, host) for host in HOSTS]
        for peer in peers:
            peer.sendall(b"here\n")
            while b"Message received: here\n" not in peer.recv(1000):
                pass
        peers[0].sendall(b"hello\n")
        for peer in peers[1:]:
            while b": hello\n" not in peer.recv(1000):
                pass

    def test_all_places_are_counted_together(self) -> None:
        server, port, _ = self.both("--max-clients", 1)
        first, second = self.connect(port, "::1"), self.connect(port, "127.0.0.1")
        first.sendall(b"hello\n")
        self.assertEqual(receive_lines(first, 1), [b"Message received: hello"])
        self.assertEqual(receive_lines(second, 1), [b"Error: the server is full (1 clients)"])
        first.close()
        server.wait_for(r"Disconnected: \[::1\]")
        third = self.connect(port, "127.0.0.1")
        third.sendall(b"hello\n")
        self.assertEqual(receive_lines(third, 1), [b"Message received: hello"])

    def test_a_port_that_is_taken_at_one_of_them(self) -> None:
        port = self.listen().getsockname()[1]
        server = self.at("::1,127.0.0.1", "tcp_server.py", port)
        self.assert_one_line_error(server, rf"cannot listen on 127\.0\.0\.1:{port}: port {port} is in use")

    def test_an_address_that_this_machine_has_not(self) -> None:
        """It is left out, if there is another one."""
        for script in ("tcp_server.py", "udp_server.py"):
            with self.subTest(script):
                server = self.at("192.0.2.1,127.0.0.1,127.0.0.1", script, 0)
                server.wait_for(LISTENING)
                server.type("exit\n")
                self.assertEqual((server.wait(), server.output.count("Listening")), (0, 1))
                self.assert_one_line_error(self.at("192.0.2.1", script, 0), r"192\.0\.2\.1:0: this machine has no such")


if __name__ == "__main__":
    unittest.main()
