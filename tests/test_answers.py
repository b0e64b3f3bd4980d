"""Clients that know what is an answer, what is a sign of life, and what is to be sent again."""

from __future__ import annotations

import argparse
import contextlib
import socket
import unittest

from support import receive_lines, wait_until
from test_accounting import AccountingTest

import tcp_client
from loop import Loop
from phases import State

HOST = "127.0.0.1"


class Names(AccountingTest):
    """A confirmation names its message."""

    def test_a_message_that_looks_like_a_confirmation(self) -> None:
        """A UDP server does not answer it; what it says to the other proves nothing of this one."""
        server = self.server("udp_server.py")
        options = ("--retries", 1, "--timeout", 0.3, "--stats")
        for typed, confirmed in ((b"Message received: x\nx\n", 0), (b"y\nMessage received: x\nx\n", 2)):
            client = self.run_client("udp_client.py", HOST, server.port, *options, typed=typed)
            self.assertEqual(client.wait(), 1)
            self.assertIn("not confirmed by", client.errors)
            self.assert_summary(client, typed.count(b"\n"), confirmed)

    def test_the_same_over_tcp(self) -> None:
        typed = b"Message received: x\nx\nMessage received: x\n"
        for reply in ("confirm", "echo"):
            server = self.server("tcp_server.py", "--reply", reply)
            client = self.run_client("tcp_client.py", HOST, server.port, "--stats", typed=typed)
            self.assert_all_confirmed(client, 3)

    def test_datagrams_that_differ_where_no_confirmation_reaches(self) -> None:
        endpoint = self.endpoint()
        long = b"x" * 65490
        client = self.client("udp_client.py", HOST, endpoint.getsockname()[1], "--timeout", 0.5, "--stats")
        client.type(long + b"1\n" + long + b"2\n")
        client.end_input()
        for _ in range(2):
            data, peer = endpoint.recvfrom(65536)
        endpoint.sendto((b"Message received: " + data)[:65507], peer)
        self.assertEqual(client.wait(), 1)
        self.assert_summary(client, 2, 0)


class SignsOfLife(AccountingTest):
    """What a server says that answers nothing does not hold a client that waits for an answer."""

    def test_an_exit_that_is_lost_in_a_busy_room(self) -> None:
        endpoint = self.endpoint()
        client = self.client(
            "udp_client.py", HOST, endpoint.getsockname()[1], "-m", "exit", "--retries", 9, "--timeout", 0.3
        )
        data, peer = endpoint.recvfrom(100)
        endpoint.settimeout(0.01)
        exits = [data]

        def is_sent_again() -> bool:
            endpoint.sendto(b"127.0.0.1:9: others talk", peer)
            with contextlib.suppress(socket.timeout):
                exits.append(endpoint.recv(100))
            return len(exits) == 3

        wait_until(is_sent_again, "the word sent again")
        self.assertEqual(exits, [b"exit"] * 3)
        endpoint.sendto(b"Server shutting down...", peer)
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_a_server_that_drips_or_pours(self) -> None:
        """Over TCP what is not answered within ten times --timeout is late, whatever else comes."""
        talks = []
        for said in (b".", b"nothing\n" * 100):
            for message, error in (("x", "1 message was not confirmed by .*: x"), ("exit", "no answer to 'exit' .*")):
                listener = self.listen()
                options = ("-m", message, "--timeout", 0.1)
                client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options)
                talks.append((client, self.accept(listener), said, error))

        def are_over() -> bool:
            for _, connected, said, _ in talks:
                with contextlib.suppress(OSError):
                    connected.sendall(said)
            return all(client.popen.poll() is not None for client, *_ in talks)

        wait_until(are_over, "the end")
        for client, _, _, error in talks:
            self.assert_one_line_error(client, error)

    def test_who_reconnects_comes_back(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", HOST, port, "-m", "x", "--timeout", 0.1, "--reconnect")
        first = self.accept(listener)
        listener.setblocking(False)
        again: list[socket.socket] = []

        def is_back() -> bool:
            with contextlib.suppress(BlockingIOError):
                again.append(self.accept(listener))
            with contextlib.suppress(OSError):
                first.sendall(b"nothing\n")
            return bool(again)

        wait_until(is_back, "another connection")
        self.assertEqual(receive_lines(again[0], 1), [b"x"])
        again[0].sendall(b"Message received: x\n")
        self.assertEqual(client.wait(), 0)
        self.assertRegex(client.errors, "error: no reply from .* within 1 s; trying again")

    def test_a_long_message_can_not_be_answered_before_it_is_out(self) -> None:
        loop = Loop()
        self.addCleanup(loop.close)
        options = argparse.Namespace(host=HOST, port=1, timeout=1.0, reconnect=False, tls=False, udp_port=None)
        channel = tcp_client.TcpChannel(loop, options)
        channel.socket.close()
        channel.socket, theirs = socket.socketpair()
        self.addCleanup(channel.socket.close)
        self.addCleanup(theirs.close)
        channel.socket.setblocking(False)
        channel.state = State.OPEN
        message = b"x" * 10_000_000
        channel.ledger.add([message], 1.0)
        channel.send([message])
        self.assertEqual(channel.ledger.unanswered_since, 1.0)
        theirs.recv(1 << 20)
        channel.flush()
        self.assertEqual(channel.ledger.unanswered_since, channel.active_at)
        self.assertEqual(channel.due_at(1.0), channel.active_at + 1.0)
        channel.active_at += 100  # it says something, now and then
        self.assertEqual(channel.due_at(1.0), channel.ledger.unanswered_since + 10.0)


if __name__ == "__main__":
    unittest.main()
