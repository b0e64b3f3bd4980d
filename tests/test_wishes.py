"""Clients with `--any-reply`, `--stay`, `--no-words` and `--rate`."""

from __future__ import annotations

import select
import signal
import socket
import struct
import subprocess
import time
import unittest

from hostile import on_linux, reset
from support import PATIENCE, Clock, Process, free_port, receive_all, receive_lines, wait_until
from test_accounting import HAS_KILL, AccountingTest

from pace import CATCH_UP, Pace

HOST = "127.0.0.1"
SO_TIMESTAMP = 29
"""Linux's number; with it a datagram comes with the moment when it arrived, however late it is read."""


class AnyReply(AccountingTest):
    """`--any-reply`: each line that comes answers the oldest message that waits."""

    def test_over_tcp(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], "--any-reply", "--stats")
        connected = self.accept(listener)
        connected.sendall(b"220 a greeting\r\nand more\r\n")
        client.wait_for("and more")
        client.type("PING\nMessage received: x\nx\n")
        self.assertEqual(len(receive_lines(connected, 3)), 3)
        connected.sendall(b"+PONG\r\n")
        client.wait_for("PONG")
        client.end_input()
        connected.sendall(b"Message received: x\nError: the message could not be saved\nlater\n")
        self.assertEqual(receive_all(connected), b"")
        connected.close()
        self.assert_all_confirmed(client, 3)
        self.assertEqual(
            client.output.splitlines()[3:], ["Message received: x", "Error: the message could not be saved", "later"]
        )

    def test_one_that_is_not_answered(self) -> None:
        listener = self.listen()
        options, clock = ("-m", "one", "-m", "two", "--any-reply", "--stats", "--timeout", PATIENCE), Clock(self)
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options, env=clock.environment)
        connected = self.accept(listener)
        receive_lines(connected, 2)
        connected.sendall(b"ok\n")
        client.wait_for("ok")
        clock.skip(2 * PATIENCE, client)
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: two\n")
        self.assert_summary(client, 2, 1)

    def test_over_udp(self) -> None:
        endpoint = self.endpoint()
        options = ("-m", "*IDN?", "--any-reply", "--stats", "--retries", 99, "--timeout", 0.2)
        client = self.client("udp_client.py", HOST, endpoint.getsockname()[1], *options)
        for _ in range(2):
            data, peer = endpoint.recvfrom(100)
            self.assertEqual(data, b"*IDN?")
        endpoint.sendto(b"ACME,1", peer)
        self.assert_all_confirmed(client, 1)
        self.assertEqual(client.output, "ACME,1\n")

    def test_what_it_does_not_go_with(self) -> None:
        for script in ("tcp_client.py", "udp_client.py"):
            client = self.client(script, HOST, 9, "--any-reply", "--no-reply")
            self.assert_one_line_error(client, "--any-reply waits for replies, and --no-reply expects none", code=2)


class Stay(AccountingTest):
    """`--stay`: when all is said, what comes is shown until the server closes."""

    def setUp(self) -> None:
        self.clock = Clock(self)

    def feed(self, *options: object, typed: bytes = b"subscribe\n") -> tuple[Process, socket.socket]:
        """Return a client of a feed that has answered its message, and the feed's end."""
        listener = self.listen()
        options = ("--stay", "--timeout", PATIENCE, "--stats", *options)
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options, env=self.clock.environment)
        connected = self.accept(listener)
        if typed:
            client.type(typed)
            client.end_input()
        receive_lines(connected, 1)
        connected.sendall(b"welcome\n")
        client.wait_for("welcome")
        return client, connected

    def test_a_feed_that_pauses_and_closes(self) -> None:
        feeds = self.feed("--any-reply"), self.feed("--any-reply", "-m", "subscribe", typed=b"")
        self.clock.skip(2 * PATIENCE, *(client for client, _ in feeds))
        for client, connected in feeds:
            self.assertEqual(select.select([connected], [], [], 0)[0], [], "nor does it half-close")
            connected.sendall(b"news\n")
            client.wait_for("news")
            connected.close()
            self.assert_all_confirmed(client, 1)

    def test_a_feed_that_breaks(self) -> None:
        client, connected = self.feed("--any-reply")
        reset(connected)
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "error: connection to .* lost")

    def test_one_that_answers_nothing(self) -> None:
        """The message is lost, and what comes is shown all the same."""
        client, connected = self.feed()
        self.clock.skip(2 * PATIENCE, client)
        connected.sendall(b"news\n")
        client.wait_for("news")
        connected.close()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: subscribe\n")

    @HAS_KILL
    def test_our_own_servers(self) -> None:
        for end, code in (("exit\n", 0), ("", 1)):
            server = self.server("tcp_server.py", "--udp-port", 0)
            options = ("-m", "hello", "--stay")
            clients = [
                self.client("tcp_client.py", HOST, server.port, *options),
                self.client("udp_client.py", HOST, server.udp_port, *options),
                self.client("tcp_client.py", HOST, server.port, "--stay", stdin=subprocess.DEVNULL),
            ]
            for client in clients[:2]:
                client.wait_for("hello$")
            server.wait_for("(^.*Connected by .*\n[\\s\\S]*){2}")
            server.type("news\n")
            for client in clients:
                client.wait_for("^news$")
            if end:
                server.type(end)
            else:
                server.close()
                clients.pop(1).close()  # over UDP, nothing tells
                clients.pop(1)
            for client in clients:
                self.assertEqual(client.wait(), code, client.errors)

    @HAS_KILL
    def test_with_reconnect_until_it_is_told_to_end(self) -> None:
        port = free_port()
        server = self.server("tcp_server.py", port=port)
        client = self.client("tcp_client.py", HOST, port, "-m", "hello", "--stay", "--reconnect")
        client.wait_for("hello$")
        for times, end in enumerate(("exit\n", ""), 1):
            if end:
                server.type(end)
                server.wait()
            server.close()
            wait_until(lambda: client.errors.count("trying again") == times, "trying again")  # noqa: B023
            server = self.server("tcp_server.py", port=port)
            server.wait_for("Connected by")
            server.type(f"news {times}\n")
            client.wait_for(f"^news {times}$")
        client.signal(signal.SIGINT)
        self.assertEqual(client.wait(), 130)


class NoWords(AccountingTest):
    """`--no-words`: no line is a command."""

    def test_words_are_messages(self) -> None:
        listener, endpoint = self.listen(), self.endpoint()
        texts = ["terminate", "exit", " exit ", "x"]
        typed = "".join(f"{text}\n" for text in texts)
        for given, piped in (((), typed), ([part for text in texts for part in ("-m", text)], "")):
            tcp = self.client("tcp_client.py", HOST, listener.getsockname()[1], "--no-words", "--stats", *given)
            udp = self.client("udp_client.py", HOST, endpoint.getsockname()[1], "--no-words", "--stats", *given)
            for client in (tcp, udp):
                if piped:
                    client.type(piped)
                    client.end_input()
            connected = self.accept(listener)
            lines = receive_lines(connected, 4)
            self.assertEqual([line.decode() for line in lines], texts)
            connected.sendall(b"\n".join([*lines, b""]))
            self.assertEqual(connected.recv(1), b"", "it has nothing more to say")
            connected.close()
            for text in texts:
                data, peer = endpoint.recvfrom(100)
                self.assertEqual(data.decode(), text)
                endpoint.sendto(data, peer)
            for client in (tcp, udp):
                self.assert_all_confirmed(client, 4)


class Rate(AccountingTest):
    """`--rate N`: at most N messages a second, evenly."""

    @on_linux
    def test_datagrams_come_evenly(self) -> None:
        endpoint = self.endpoint()
        endpoint.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        client = self.client("udp_client.py", HOST, endpoint.getsockname()[1], "--no-reply", "--rate", 100)
        client.type("".join(f"{number}\n" for number in range(60)))
        client.end_input()
        moments = []
        for number in range(60):
            data, ancillary, *_ = endpoint.recvmsg(100, 100)
            self.assertEqual(data, b"%d" % number)
            seconds, microseconds = struct.unpack("@ll", ancillary[0][2])
            moments.append(seconds + microseconds / 1e6)
            self.assertGreater(moments[-1] - moments[0], number / 100 - 1.5 * CATCH_UP, "it has come before its time")
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_a_rate_that_no_pause_is_short_enough_for(self) -> None:
        server = self.server("tcp_server.py", "--quiet")
        typed = "".join(f"{number}\n" for number in range(4000)).encode()
        began = time.monotonic()
        client = self.run_client("tcp_client.py", HOST, server.port, "--rate", 10000, "--stats", typed=typed)
        self.assert_all_confirmed(client, 4000)
        self.assertGreater(time.monotonic() - began, 0.4)

    def test_what_is_no_rate(self) -> None:
        client = self.client("tcp_client.py", HOST, 9, "--rate", "0")
        self.assert_one_line_error(client, "--rate: '0' is not a whole number of at least 1", code=2)

    def test_the_pace(self) -> None:
        pace = Pace(10)
        start = pace.next_at
        self.assertEqual([pace.room(start + late) for late in (-0.01, 0.0, 5.0)], [0, 1, 1])
        pace.spend(1, start)
        self.assertAlmostEqual(pace.next_at, start + 0.1)
        pace.spend(1, start + 5)  # a pause gives nothing to spend at once
        self.assertAlmostEqual(pace.next_at, start + 5 - CATCH_UP + 0.1)
        fast = Pace(10000)
        self.assertEqual(fast.room(fast.next_at + 0.00205), 21)
        self.assertEqual(fast.room(fast.next_at + 5), 101)


if __name__ == "__main__":
    unittest.main()
