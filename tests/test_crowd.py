"""`--max-per-address`: one address does not take all places."""

from __future__ import annotations

import socket
import unittest

from support import PATIENCE, TestCase, receive_all, receive_lines


class Crowded(TestCase):
    """Some addresses, and how many connections each may have."""

    def from_address(self, port: int, host: str) -> socket.socket:
        """Return a connection from an address of this machine."""
        connected = socket.create_connection(("127.0.0.1", port), PATIENCE, (host, 0))
        self.addCleanup(connected.close)
        return connected

    def assert_served(self, connected: socket.socket, before: bytes = b"") -> None:
        """Check that a message is answered."""
        connected.sendall(before + b"hello\n")
        self.assertEqual(receive_lines(connected, 1), [b"Message received: hello"])

    @unittest.skipUnless(hasattr(socket, "SO_REUSEPORT"), "127.0.0.2 is no address everywhere")
    def test_the_surplus_is_told_and_closed(self) -> None:
        server = self.server("tcp_server.py", "--max-per-address", 2)
        present = [self.from_address(server.port, "127.0.0.1") for _ in range(2)]
        for connected in present:
            self.assert_served(connected)
        for _ in range(3):
            surplus = self.from_address(server.port, "127.0.0.1")
            self.assertEqual(receive_all(surplus), b"Error: too many connections from 127.0.0.1\n")
            surplus.close()
        self.assert_served(self.from_address(server.port, "127.0.0.2"))
        server.wait_for("Received from 127.0.0.2:")  # what was shown before that has come, too
        self.assertEqual(server.output.count("Turned away 127.0.0.1"), 1, "which a peer can repeat at will")
        left = present[0].getsockname()[1]
        present[0].sendall(b"terminate\n")
        self.assertEqual(receive_all(present[0]), b"")
        present[0].close()
        server.wait_for(rf"Disconnected: 127\.0\.0\.1:{left}$")
        self.assert_served(self.from_address(server.port, "127.0.0.1"))
        self.assertIn(b"too many", receive_all(self.from_address(server.port, "127.0.0.1")))

    def test_with_a_proxy_its_clients_count(self) -> None:
        server = self.server("tcp_server.py", "--max-per-address", 1, "--proxy-from", "127.0.0.1")
        header = b"PROXY TCP4 192.0.2.%d 192.0.2.9 5555 9000\r\n"
        for number in (1, 2):
            self.assert_served(self.connect(server.port), header % number)
        surplus = self.connect(server.port)
        surplus.sendall(header % 2)
        self.assertEqual(receive_all(surplus), b"Error: too many connections from 192.0.2.2\n")
        for _ in range(2):
            self.assert_served(self.connect(server.port), b"PROXY UNKNOWN\r\n")

    def test_another_ending(self) -> None:
        server = self.server("tcp_server.py", "--max-per-address", 1, "--ending", "nul")
        present = self.connect(server.port)
        self.assertEqual(receive_all(self.connect(server.port)), b"Error: too many connections from 127.0.0.1\0")
        present.close()


if __name__ == "__main__":
    unittest.main()
