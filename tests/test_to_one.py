"""A line typed at a server that begins with `@` and a peer's address goes to that peer alone."""

from __future__ import annotations

import sqlite3
import tempfile
import unittest

from support import TestCase, receive_lines


class ToOne(TestCase):
    """Peers of both protocols."""

    def test_only_one_hears_it(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = f"{folder.name}/a.db"
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", file)
        one, other, peer = self.connect(server.port), self.connect(server.port), self.datagrams(server.udp_port)
        for connected in (one, other, peer):
            connected.sendall(b"hello\n")
            self.assertEqual(receive_lines(connected, 1), [b"Message received: hello"])
        names = ["{}:{}".format(*connected.getsockname()) for connected in (one, peer)]
        server.type(f"@{names[0]} Only for you\n@{names[1]} And\x07 for you\n@127.0.0.1:1 lost\n@ lost\nfor all\n")
        self.assertEqual(receive_lines(one, 2), [b"Only for you", b"for all"])
        self.assertEqual(receive_lines(other, 1), [b"for all"])
        self.assertEqual(peer.recv(1000), b"And\x07 for you\n")
        server.wait_for(r"^\[Server\] Nobody here has the address \. Nothing was sent\.$")
        self.assertIn("[Server] Nobody here has the address 127.0.0.1:1. Nothing was sent.\n", server.output)
        self.assertIn(f"[Server] To {names[0]}: Only for you\n", server.output)
        self.assertIn(f"[Server] To {names[1]}: And\\x07 for you\n", server.output)
        one.close()
        other.close()
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        database = sqlite3.connect(file)
        self.addCleanup(database.close)
        kept = database.execute("SELECT protocol, peer, text FROM messages WHERE direction = 'sent' ORDER BY id")
        said = [("tcp", names[0], "Only for you"), ("udp", names[1], "And\x07 for you"), ("tcp", "*", "for all")]
        self.assertEqual(kept.fetchall(), said)


if __name__ == "__main__":
    unittest.main()
