"""An empty datagram is no message: it only tells that its sender is still there. Clients that listen send some."""

from __future__ import annotations

import socket
import sqlite3
import sys
import tempfile
import time
import unittest

from support import PATIENCE, TestCase, free_port


class SignsOfLife(TestCase):
    """What a UDP server does with empty datagrams."""

    def test_who_says_nothing_hears_the_others(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = f"{folder.name}/a.db"
        server = self.server("udp_server.py", "--reply", "relay", "--save", file)
        listener, speaker = self.datagrams(server.port), self.datagrams(server.port)
        listener.send(b"")
        speaker.send(b"hello")
        self.assertEqual(speaker.recv(1000), b"Message received: hello")
        where = "{}:{}".format(*speaker.getsockname())
        self.assertEqual(listener.recv(1000).decode(), f"{where}: hello", "and nothing before")
        server.type("typed\n")
        self.assertEqual(listener.recv(1000), b"typed")
        speaker.send(b"\n")
        self.assertEqual(speaker.recv(1000), b"typed")
        self.assertEqual(speaker.recv(1000), b"Message received: \n", "which is an empty message")
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        lines = [line for line in server.output.splitlines() if "Received" in line]
        self.assertEqual(lines, [f"[UDP Server] Received from {where}: hello", f"[UDP Server] Received from {where}: "])
        database = sqlite3.connect(file)
        self.addCleanup(database.close)
        kept = database.execute("SELECT text FROM messages WHERE direction = 'received'").fetchall()
        self.assertEqual(kept, [("hello",), ("",)])

    def test_it_keeps_the_ending_of_the_last_message(self) -> None:
        server = self.server("udp_server.py")
        peer = self.datagrams(server.port)
        peer.send(b"hello\n")
        self.assertEqual(peer.recv(1000), b"Message received: hello\n")
        peer.send(b"")
        server.type("typed\n")
        self.assertEqual(peer.recv(1000), b"typed\n")

    def test_an_empty_message_of_a_client(self) -> None:
        server = self.server("udp_server.py")
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, "--timeout", PATIENCE, typed="one\n\ntwo\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output, "Message received: one\nMessage received: \nMessage received: two\n")


class OfClients(TestCase):
    """What a UDP client that listens tells the server, and what it does with an empty datagram."""

    def endpoint(self) -> socket.socket:
        """Return a UDP socket that plays the server."""
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(endpoint.close)
        endpoint.settimeout(PATIENCE)
        endpoint.bind(("127.0.0.1", 0))
        return endpoint

    def test_who_stays_hears_a_room_from_the_start(self) -> None:
        server = self.server("udp_server.py", "--reply", "relay")
        listener = self.client("udp_client.py", server.port, "--stay")
        listener.end_input()
        speaker = self.datagrams(server.port)
        number = 0
        while "hello" not in listener.output:  # until the sign has arrived
            number += 1
            speaker.send(b"hello")
            self.assertEqual(speaker.recv(1000), b"Message received: hello")
            time.sleep(0.01)
            self.assertLess(number, 100 * PATIENCE)
        server.type("exit\n")
        self.assertEqual((listener.wait(), listener.errors), (0, ""))
        where = "{}:{}".format(*speaker.getsockname())
        self.assertEqual(set(listener.output.splitlines()[:-1]), {f"{where}: hello"})

    def test_again_and_again(self) -> None:
        endpoint = self.endpoint()
        code = "import sys; sys.path.insert(0, '.'); import udp_client; udp_client.SIGN_EVERY = 0.1; "
        run = "sys.argv[0] = 'udp_client.py'; udp_client.run(udp_client.main)"
        client = self.start(sys.executable, "-c", code + run, endpoint.getsockname()[1], "--stay", "--any-reply")
        for _ in range(2):  # the client looks once a second
            data, where = endpoint.recvfrom(100)
            self.assertEqual(data, b"")
        endpoint.sendto(b"", where)
        client.type("one\n")
        while not data:
            data, where = endpoint.recvfrom(100)
        self.assertEqual(data, b"one")
        endpoint.sendto(b"", where)
        endpoint.sendto(b"two", where)
        client.wait_for("two")
        self.assertEqual(client.output, "two\n", "an empty one is no reply")

    def test_who_does_not_listen_sends_none(self) -> None:
        endpoint = self.endpoint()
        client = self.client("udp_client.py", endpoint.getsockname()[1], "--no-reply")
        client.type("one\n")
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertEqual(endpoint.recv(100), b"one")
        endpoint.setblocking(False)
        with self.assertRaises(BlockingIOError):
            endpoint.recv(100)

    def test_nobody_there(self) -> None:
        client = self.client("udp_client.py", free_port(socket.SOCK_DGRAM), "--stay")
        self.assert_one_line_error(client, "no server at .*: nobody listens there")


if __name__ == "__main__":
    unittest.main()
