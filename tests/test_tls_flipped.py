"""A byte that is changed on its way through TLS: the connection is lost, and nothing more."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import tempfile
import threading
import unittest
from pathlib import Path

from support import TestCase, needs, new_certificate


class Relay:
    """A link between a client and a server that changes one byte when it is told to."""

    def __init__(self, server_port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server_port = server_port
        self.flips: tuple[str, int] | None = None
        """Which way the next data go in which a byte is changed, and the place of the byte."""
        self.surplus = b""
        """What is added once to what goes down next; nothing goes up any more after it."""
        self._is_cut = False
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._ended = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        others: dict[socket.socket, socket.socket] = {}
        clients = set()
        while not self._ended:
            for source in select.select([self._listener, *others], [], [], 0.01)[0]:
                if source is self._listener:
                    client, _ = source.accept()
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                    others[client], others[server] = server, client
                    clients.add(client)
                elif source in others:
                    self._pass_on(source, others, "up" if source in clients else "down")
        for source in others:
            source.close()

    def _pass_on(self, source: socket.socket, others: dict[socket.socket, socket.socket], way: str) -> None:
        target, data = others[source], bytearray()
        with contextlib.suppress(OSError):
            data += source.recv(65536)
        if self.flips and self.flips[0] == way and data:
            data[self.flips[1]] ^= 1
            self.flips = None
        if way == "down" and data and self.surplus:
            data += self.surplus
            self.surplus, self._is_cut = b"", True
        elif way == "up" and data and self._is_cut:
            return
        with contextlib.suppress(OSError):
            target.sendall(data)
        if not data:
            for end in (source, target):
                others.pop(end).close()


@needs("openssl")
class Flipped(TestCase):
    """What breaks after a good handshake is a lost connection."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        new_certificate(self.folder, "server", "/CN=localhost", "DNS:localhost")
        pair = ("--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server.key")
        self.relay = Relay(self.server("tcp_server.py", *pair).port)
        self.addCleanup(self.relay.close)
        self.options = ("localhost", self.relay.port, "--tls", "--tls-ca", self.folder / "server.pem", "--stats")

    def test_who_reconnects_comes_back(self) -> None:
        """Also where the record's type, its version, its content, or the server's alert is what is wrong."""
        client = self.client("tcp_client.py", *self.options, "--reconnect")
        flips = [(way, place) for way in ("down", "up") for place in (0, 1, 9)]
        client.type("0\n")
        client.wait_for("^Message received: 0$")
        for number, flip in enumerate(flips, 1):
            self.relay.flips = flip
            client.type(f"{number}\n")
            client.wait_for(f"^Message received: {number}$")
        client.end_input()
        self.assertEqual(client.wait(), 0)
        self.assertEqual(client.errors.count("trying again until the server is there"), len(flips), client.errors)
        self.assertRegex(client.errors, "error: connection to localhost port .* lost: ")
        self.assertNotIn("--tls", client.errors)

    def test_who_does_not_is_not_told_to_leave_out_tls(self) -> None:
        client = self.client("tcp_client.py", *self.options)
        client.type("0\n")
        client.wait_for("^Message received: 0$")
        self.relay.flips = ("down", 1)
        client.type("1\n")
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "connection to localhost port .* lost: .*; 1 message was not confirmed")
        self.assertNotIn("--tls", client.errors)

    def test_what_was_confirmed_right_before_counts(self) -> None:
        """It is told of when something more is to be sent, though nothing more has come since."""
        client = self.client("tcp_client.py", *self.options)
        client.type("0\n")
        client.wait_for("^Message received: 0$")
        self.relay.surplus = b"\x17\x03\x03\x00\x20" + b"x" * 32
        client.type("1\n")
        client.wait_for("^Message received: 1$")
        client.type("2\n")
        self.assertEqual(client.wait(), 1)
        error = "tcp_client.py: error: connection to localhost port .* lost: .*; 1 message was not confirmed by .*: 2\n"
        self.assertRegex(client.errors, rf"\A{error}3 sent, 2 confirmed, 1 lost; .*\n\Z")

    def test_a_damaged_handshake_after_a_good_one(self) -> None:
        client = self.client("tcp_client.py", *self.options, "--reconnect")
        client.type("0\n")
        client.wait_for("^Message received: 0$")
        self.relay.flips = ("down", 1)
        client.type("1\n")
        client.wait_for_error("trying again")
        self.relay.flips = ("down", 1)
        client.wait_for("^Message received: 1$")
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertNotIn("--tls", client.errors)


if __name__ == "__main__":
    unittest.main()
