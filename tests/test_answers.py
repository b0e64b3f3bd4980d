"""Clients that know what is an answer, what is a sign of life, and what is to be sent again."""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sqlite3
import sys
import tempfile
import unittest
from typing import Any

from hostile import on_linux, reset
from support import PATIENCE, Clock, free_port, receive_lines, wait_until, with_constants
from test_accounting import AccountingTest

import tcp_client
from loop import Loop
from phases import State

try:
    from screen import Terminal
except ImportError:  # Windows
    Terminal = None  # type: ignore[assignment,misc]

HOST = "127.0.0.1"


class Names(AccountingTest):
    """A confirmation names its message."""

    def test_a_message_that_looks_like_a_confirmation(self) -> None:
        """A UDP server does not answer it; what it says to the other proves nothing of this one."""
        server = self.server("udp_server.py")
        options, clock = ("--retries", 1, "--timeout", PATIENCE, "--stats"), Clock(self)
        cases = ((b"Message received: x\nx\n", 0), (b"y\nMessage received: x\nx\n", 2))
        clients = [self.client("udp_client.py", HOST, server.port, *options, env=clock.environment) for _ in cases]
        for client, (typed, _) in zip(clients, cases):
            client.type(typed)
            client.end_input()
        for times in (1, 2):  # each sends again what is not confirmed, and then gives up
            server.wait_for(rf"(Received from .*: Message received: x\n[\s\S]*){{{2 * times}}}")
            for client in clients:
                client.wait_for("^Message received: x$")
            clock.skip(2 * PATIENCE, *clients)
        for client, (typed, confirmed) in zip(clients, cases):
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
        client = self.client("udp_client.py", HOST, endpoint.getsockname()[1], "--timeout", 0.3, "--stats")
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
            "udp_client.py", HOST, endpoint.getsockname()[1], "-m", "exit", "--retries", 99, "--timeout", 0.15
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
                options = ("-m", message, "--timeout", 0.05)
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
        clock = Clock(self)
        options = ("-m", "x", "--timeout", PATIENCE, "--reconnect")
        client = self.client("tcp_client.py", HOST, port, *options, env=clock.environment)
        first = self.accept(listener)
        receive_lines(first, 1)
        for times, part in enumerate(
            [0.5] * 19 + [0.75], 1
        ):  # of --timeout; in all, a little more than ten times as long
            first.sendall(b"nothing\n")
            client.wait_for(rf"(nothing\n){{{times}}}")
            clock.skip(part * PATIENCE, client)
        again = self.accept(listener)
        self.assertEqual(receive_lines(again, 1), [b"x"])
        again.sendall(b"Message received: x\n")
        self.assertEqual(client.wait(), 0)
        self.assertRegex(client.errors, rf"error: no reply from .* within {10 * PATIENCE:g} s; trying again")

    def test_a_long_message_can_not_be_answered_before_it_is_out(self) -> None:
        loop = Loop()
        self.addCleanup(loop.close)
        options = argparse.Namespace(host=HOST, port=1, timeout=1.0, reconnect=False, tls=False, udp_port=None)
        vars(options).update(any_reply=False, no_reply=False, family=0, source={}, ending="lf")
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
        self.assertEqual(channel.ledger.unanswered_since, channel.active_at)
        theirs.recv(1 << 20)
        channel.flush()
        self.assertEqual(channel.ledger.unanswered_since, channel.active_at)
        self.assertEqual(channel.due_at(), channel.active_at + 1.0)
        channel.active_at += 100  # it says something, now and then
        self.assertEqual(channel.due_at(), channel.ledger.unanswered_since + 10.0)


class Repeats(AccountingTest):
    """A reply that comes twice because its message was sent twice is shown and counted once."""

    def test_over_udp(self) -> None:
        endpoint = self.endpoint()
        clock, port = Clock(self), endpoint.getsockname()[1]
        options = ("--retries", 9, "--timeout", PATIENCE, "--stats")
        client = self.client("udp_client.py", HOST, port, *options, env=clock.environment)
        client.type("one\n")
        endpoint.recv(100)
        clock.skip(PATIENCE + 1, client)
        _, peer = endpoint.recvfrom(100)
        clock.skip(PATIENCE / 2, client)
        endpoint.sendto(b"Message received: one", peer)
        client.wait_for("one$")
        client.type("one\nother\n")
        while endpoint.recv(100) != b"other":
            pass
        endpoint.sendto(b"Message received: one", peer)
        endpoint.sendto(b"Message received: other", peer)
        client.wait_for("other$")
        self.assertEqual(client.output, "Message received: one\nMessage received: other\n")
        clock.skip(PATIENCE + 1, client)
        self.assertEqual(endpoint.recv(100), b"one", "the second is sent again")
        endpoint.sendto(b"Message received: one", peer)
        client.end_input()
        self.assert_all_confirmed(client, 3)
        self.assertEqual(client.output.count("one"), 2)


class NotTaken(AccountingTest):
    """Where no replies are expected, what the other machine has not acknowledged was not sent."""

    def listen_with_little_room(self) -> socket.socket:
        """Return a socket that listens, whose connections take a few kilobytes before they are read."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind((HOST, 0))
        listener.listen()
        return listener

    @on_linux
    def test_a_machine_that_takes_nothing_more(self) -> None:
        """It stands for a dead line, on which nothing is acknowledged either."""
        for end in ("", "terminate\n"):
            with self.subTest(end):
                listener = self.listen_with_little_room()
                options = ("--no-reply", "--timeout", 0.2)
                client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options)
                client.type(f"{'x' * 99_999}\n{end}")
                client.end_input()
                connected, _ = listener.accept()
                self.addCleanup(connected.close)
                error = f"([0-9]+) bytes were sent to {HOST}:.* and not acknowledged by its machine"
                self.assert_one_line_error(client, error)
                match = re.search(error, client.errors)
                assert match
                taken = len(connected.recv(1 << 20, socket.MSG_PEEK))
                self.assertEqual(int(match[1]), 100_000 + len(end) - taken)

    @on_linux
    def test_a_machine_that_takes_it_slowly(self) -> None:
        """It is waited for while it takes anything."""
        listener, clock = self.listen_with_little_room(), Clock(self)
        options = ("--no-reply", "--timeout", PATIENCE)
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options, env=clock.environment)
        client.type(f"{'x' * 99_999}\n")
        client.end_input()
        connected, _ = listener.accept()
        self.addCleanup(connected.close)
        for _ in range(4):  # each time it takes more than its machine has room for, and then nothing for a while
            self.assertEqual(len(connected.recv(20_000, socket.MSG_WAITALL)), 20_000)
            clock.skip(PATIENCE + 1, client)  # it looks how much was taken
        self.assertEqual(len(connected.recv(20_001, socket.MSG_WAITALL)), 20_000, "and the end")
        connected.close()
        self.assertEqual((client.wait(), client.errors), (0, ""))


class NotSaved(AccountingTest):
    """What the server could not save is sent again, on the same connection."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.archive = f"{folder.name}/m.db"
        options = ("--udp-port", 0, "--save", self.archive, "--quiet")
        self.server_of_both = self.server("tcp_server.py", *options, within=with_constants(PATIENCE=100))
        self.database = sqlite3.connect(self.archive, isolation_level=None)
        self.addCleanup(self.database.close)

    def saved(self) -> list[str]:
        """Return the texts in the archive."""
        return [text for (text,) in self.database.execute("SELECT text FROM messages ORDER BY id")]

    def test_who_reconnects_or_retries(self) -> None:
        self.database.execute("BEGIN IMMEDIATE")
        ways = (
            ("tcp_client.py", self.server_of_both.port, "--reconnect", ("-m", "a1", "-m", "a2"), b""),
            ("tcp_client.py", self.server_of_both.port, "--reconnect", (), b"b1\nb2\n"),
            ("udp_client.py", self.server_of_both.udp_port, "--retries=99", ("--timeout", 0.2, "-m", "c1"), b""),
        )
        clients = []
        for script, port, again, options, typed in ways:
            client = self.client(script, HOST, port, again, "--stats", *options)
            if typed:
                client.type(typed)
                client.end_input()
            clients.append(client)
        for client in clients:
            client.wait_for(r"(^Error: the message could not be saved\n[\s\S]*){2}")
            self.assertIsNone(client.popen.poll())
        self.database.execute("ROLLBACK")
        for client, sent in zip(clients, (2, 2, 1)):
            self.assert_all_confirmed(client, sent)
        saved = sorted(self.saved())
        self.assertEqual(saved[:5], ["a1", "a2", "b1", "b2", "c1"])
        self.assertEqual(set(saved[5:]) - {"c1"}, set(), "over UDP it may have been sent again before it was confirmed")
        for client in clients[:2]:
            self.assertRegex(client.errors, "^tcp_client.py: error: .* could not save; trying again until it can\n")
            self.assertEqual(client.errors.count("\n"), 2, "it says so once")

    def test_others_are_told(self) -> None:
        self.database.execute("BEGIN IMMEDIATE")
        for script, port in (
            ("tcp_client.py", self.server_of_both.port),
            ("udp_client.py", self.server_of_both.udp_port),
        ):
            client = self.run_client(script, HOST, port, "-m", "x")
            self.assert_one_line_error(client, "1 message was not confirmed by .*: x")

    def test_what_comes_after_it_waits(self) -> None:
        """So that the messages stay in order, and a long input is not refused line by line.

        The best of ten tries counts: what is typed while the first message is under way again goes with it.
        """
        for _ in range(10):
            client = self.client("tcp_client.py", HOST, self.server_of_both.port, "--reconnect", "--stats")
            self.database.execute("BEGIN IMMEDIATE")
            client.type("0\n")
            client.wait_for("could not be saved")
            client.type("".join(f"{number}\n" for number in range(1, 500)))
            client.end_input()
            client.wait_for(r"(^Error: the message could not be saved\n[\s\S]*){2}")
            self.database.execute("ROLLBACK")
            self.assert_all_confirmed(client, 500)
            self.assertEqual(self.saved()[-500:], [str(number) for number in range(500)])
            refusals = client.output.count("Error")
            if refusals < 20:
                break
        self.assertLess(refusals, 20)


class LongLines(AccountingTest):
    """A line may be longer than any answer: a client shows it, and waits on."""

    LENGTH = 2_000_000

    def test_in_a_pipe_bytes_go_out_as_they_come(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], "-m", "hello")
        connected = self.accept(listener)
        receive_lines(connected, 1)
        connected.sendall(b"Wait: ")
        wait_until(lambda: client.raw_output == b"Wait: ", "the first bytes of a line")
        connected.sendall(b"x" * self.LENGTH)
        wait_until(lambda: len(client.raw_output) == 6 + self.LENGTH, "the whole line without its end")
        connected.sendall(b"\nMessage received: hello\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.raw_output, b"Wait: " + b"x" * self.LENGTH + b"\nMessage received: hello\n")

    def test_one_that_is_torn_by_the_end_of_a_connection(self) -> None:
        listener = self.listen()
        options = ("-m", "one", "-m", "two", "--reconnect")
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options)
        connected = self.accept(listener)
        receive_lines(connected, 2)
        connected.sendall(b"Message received: one\nMess")
        client.wait_for("^Mess$")
        reset(connected)
        connected = self.accept(listener)
        self.assertEqual(receive_lines(connected, 1), [b"two"])
        connected.sendall(b"Message received: two\n")
        self.assertEqual(client.wait(), 0)
        self.assertEqual(client.output, "Message received: one\nMess\nMessage received: two\n")

    def test_in_a_room(self) -> None:
        server = self.server(
            "tcp_server.py", "--udp-port", 0, "--reply", "relay", "--max-message", 5_000_000, "--quiet"
        )
        both = ("--udp-port", server.udp_port)
        listeners = [self.client("tcp_client.py", HOST, server.port, *options) for options in ((), both)]
        server.wait_for("(^.*Connected by .*\n){2}")
        talker = self.run_client("tcp_client.py", HOST, server.port, typed=b"x" * self.LENGTH)
        self.assertEqual(talker.wait(), 0, talker.errors)
        for client in listeners:
            wait_until(lambda: client.raw_output.endswith(b"x\n"), "the line")  # noqa: B023
            self.assertRegex(client.output, rf"\A127.0.0.1:\d+: x{{{self.LENGTH}}}\n\Z")
        for client in listeners:
            client.type("hello\n")
            client.wait_for("^Message received: hello$")

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_at_a_terminal(self) -> None:
        listener = self.listen()
        terminal = Terminal(sys.executable, "tcp_client.py", HOST, listener.getsockname()[1], columns=100)
        self.addCleanup(terminal.close)
        connected = self.accept(listener)
        terminal.expect("You:", column=5)
        for length in (65_536, 65_537, self.LENGTH):
            connected.sendall(b"x" * length + b"\n")
            terminal.expect_row(rf"x\.\.\. \({length} bytes\)$" if length > 65_536 else "x$")
        terminal.type("terminate\r")
        self.assertEqual(terminal.wait(), 0)
        self.assertLess(len(terminal.output), 220_000)


class ComingBack(AccountingTest):
    """Whoever types with `--reconnect` stays, also when the server is stopped cleanly."""

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_a_clean_stop(self) -> None:
        port = free_port()
        server = self.server("tcp_server.py", port=port)
        terminal = Terminal(sys.executable, "tcp_client.py", HOST, port, "--reconnect", columns=200, height=30)
        self.addCleanup(terminal.close)
        terminal.type("one\r")
        terminal.expect_row("^Server: Message received: one$")
        for times, word in enumerate(("two", "three", "four"), 1):
            terminal.type(f"{word[:2]}")
            terminal.expect(f"You: {word[:2]}", column=7)
            server.type("exit\n")
            self.assertEqual(server.wait(), 0)
            wait_until(lambda: shown(terminal, "trying again") == times, "trying again")  # noqa: B023
            terminal.expect_row(f"^You: {word[:2]}$")
            server = self.server("tcp_server.py", port=port)
            wait_until(lambda: shown(terminal, f"^Connected to {HOST}:{port}") == times + 1, "connected")  # noqa: B023
            terminal.type(f"{word[2:]}\r")
            terminal.expect_row(f"^Server: Message received: {word}$")
        terminal.type("terminate\r")
        self.assertEqual(terminal.wait(), 0)


def shown(terminal: Any, pattern: str) -> int:
    """Return how many rows of a terminal match."""
    return sum(bool(re.search(pattern, row)) for row in terminal.update().rows)


if __name__ == "__main__":
    unittest.main()
