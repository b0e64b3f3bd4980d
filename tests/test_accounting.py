"""Clients that account for every message: what counts as a reply, the summary, coming back, and sending again."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hostile import on_linux, reset
from support import PATIENCE, Clock, Process, Server, TestCase, free_port, receive_lines, wait_until

import channel

try:
    from screen import Terminal
except ImportError:  # Windows
    Terminal = None  # type: ignore[assignment,misc]

HOST = "127.0.0.1"
PAIRS = (("tcp_client.py", "tcp_server.py"), ("udp_client.py", "udp_server.py"))
CONFIRMATION = "Message received: "
TRYING = "trying again until the server is there"
SUMMARY = re.compile(
    r"^(\d+) sent, (\d+) confirmed, (\d+) lost(?:; round trip min/avg/max ([\d.]+)/([\d.]+)/([\d.]+) ms)?$"
)
QUIET_TIME = 0.3
"""Seconds without progress after which a full pipe is taken for full; too short would only weaken a test."""
HAS_KILL = unittest.skipUnless(hasattr(signal, "SIGKILL"), "Windows has other signals")


SEVERAL_ADDRESSES = """
import runpy, socket, sys
addresses = sys.argv[1].split()
def find(host, port, family=0, type=0, *_):
    return [(socket.AF_INET, type, 0, "", (address, port)) for address in addresses]
socket.getaddrinfo = find
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script in a world in which every name stands for these addresses."""


class AccountingTest(TestCase):
    """A test that reads a client's summary, and plays servers."""

    def assert_summary(self, client: Process, sent: int, confirmed: int) -> None:
        """Check the last line that a client wrote on standard error."""
        lines = client.errors.splitlines()
        match = SUMMARY.match(lines[-1] if lines else "")
        self.assertTrue(match, client.errors)
        assert match is not None
        self.assertEqual([int(number) for number in match.groups()[:3]], [sent, confirmed, sent - confirmed])
        self.assertEqual(match[4] is not None, confirmed > 0, "round-trip times, if there are any")
        if confirmed:
            shortest, mean, longest = map(float, match.groups()[3:])
            self.assertTrue(0 <= shortest <= mean <= longest, lines[-1])

    def assert_all_confirmed(self, client: Process, sent: int) -> None:
        """Check that a client ended with 0, after a summary that says that nothing was lost."""
        self.assertEqual(client.wait(), 0, client.errors)
        self.assert_summary(client, sent, sent)

    def assert_same(self, found: Sequence[object], expected: Sequence[object]) -> None:
        """Compare long lists, whose differences unittest would need minutes to show; show where they part."""
        for place, (one, other) in enumerate(zip(found, expected)):
            self.assertEqual(one, other, f"in place {place}")
        self.assertEqual(len(found), len(expected))

    def client_of_two(self, script: str, *arguments: object) -> Process:
        """Start a client that finds two addresses for each name."""
        return self.start(sys.executable, "-c", SEVERAL_ADDRESSES, "127.0.0.1 127.0.0.2", script, *arguments)

    def endpoint(self, host: str = HOST) -> socket.socket:
        """Return a UDP socket to receive datagrams on."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(bound.close)
        bound.settimeout(PATIENCE)
        bound.bind((host, 0))
        return bound


class Replies(AccountingTest):
    """A reply counts for the message whose confirmation or echo it is; other lines, whatever they look like, do not."""

    LOOKALIKES = (
        "Message received: two",
        "Message received: one ",
        "Message received:  one",
        "message received: one",
        "Message received: Message received: one",
        "Message received:",
        "One",
        " one",
        "127.0.0.1:9000: Message received: one",
        "1 sent, 1 confirmed, 0 lost",
        "Error: one",
        "",
    )

    def start_asking(self, *options: object) -> tuple[Server, list[Process]]:
        """Start a server that leaves the replies to its person, and a client of each protocol that asks it `one`."""
        server = self.server("tcp_server.py", "--udp-port", 0, "--reply", "none")
        options = ("-m", "one", "--stats", *options)
        clients = [
            self.client("tcp_client.py", HOST, server.port, *options),
            self.client("udp_client.py", HOST, server.udp_port, *options),
        ]
        server.wait_for(r"(^.* Received from .*: one\n[\s\S]*){2}")
        return server, clients

    def test_the_person_does_not_confirm(self) -> None:
        server, clients = self.start_asking()
        server.type("\n".join((*self.LOOKALIKES, "exit")) + "\n")
        for client in clients:
            self.assertEqual(client.wait(), 1)
            self.assertEqual(client.output.splitlines(), [*self.LOOKALIKES, "Server shutting down..."])
            self.assertRegex(client.errors, "1 message was not confirmed by .*: one\n")
            self.assert_summary(client, 1, 0)

    def test_the_person_may_confirm_by_hand(self) -> None:
        """With `--reply none` the person is all the server there is."""
        server, clients = self.start_asking()
        server.type("two\none\n")
        for client in clients:
            self.assert_all_confirmed(client, 1)
            self.assertEqual(client.output, "two\none\n")

    def test_the_person_talks_in_between(self) -> None:
        refusals = ("Error: the message could not be saved", "Error: the server is full (3 clients)")
        said = (*self.LOOKALIKES, "one", "three", *refusals)
        for client_script, server_script in PAIRS:
            with self.subTest(client_script):
                server = self.server(server_script)
                client = self.client(client_script, HOST, server.port, "--stats", "--timeout", PATIENCE)
                client.type("zero\n")
                client.wait_for("^Message received: zero$")
                server.type("\n".join((*said, "said")) + "\n")
                client.wait_for("^said$")
                client.type("one\ntwo\none\n")
                client.wait_for(r"(^Message received: one$[\s\S]*){2}")
                server.type("\n".join((*said, "said all")) + "\n")
                client.wait_for("^said all$")
                client.type("three\n")
                client.end_input()
                self.assert_all_confirmed(client, 5)

    def test_the_room_talks_in_between(self) -> None:
        """Everybody says the same at once, over both protocols, also what looks like confirmations of it."""
        server = self.server("tcp_server.py", "--udp-port", 0, "--reply", "relay", "--quiet")
        lines = [str(number) for number in range(150)]
        mixed = [text for line in lines for text in (line, CONFIRMATION + line)]
        # A UDP server ignores what looks like a server's reply, so over UDP only the others say such things.
        said = {
            self.client("tcp_client.py", HOST, server.port, "--stats", "--timeout", PATIENCE): mixed,
            self.client("tcp_client.py", HOST, server.port, "--stats", "--timeout", PATIENCE): mixed[::-1],
            self.client("udp_client.py", HOST, server.udp_port, "--stats", "--timeout", 1, "--retries", 50): lines,
        }
        for client, texts in said.items():
            client.type("".join(f"{text}\n" for text in texts))
        server.type("".join(f"{text} says the person\n" for text in mixed))
        for client in said:
            client.end_input()
        for client, texts in said.items():
            self.assert_all_confirmed(client, len(texts))
            heard = collections.Counter(client.output.splitlines())
            self.assertEqual([text for text in texts if not heard[CONFIRMATION + text]], [])

    def test_one_reply_for_each_of_equal_messages(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", HOST, port, *("-m", "same") * 3, "--stats")
        server = self.accept(listener)
        receive_lines(server, 3)
        server.sendall(b"Message received: same\nsame\n")
        server.close()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: same\n")
        self.assert_summary(client, 3, 2)

    def test_replies_in_any_order(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", HOST, port, "-m", "one", "-m", "two", "-m", "three", "--stats")
        server = self.accept(listener)
        receive_lines(server, 3)
        server.sendall(b"three\nMessage received: one\n")
        client.wait_for("one$")
        server.sendall(b"Message received: two\n")
        self.assert_all_confirmed(client, 3)

    CONNECTS_TO_ITSELF = """
import runpy, socket, sys
class Itself(socket.socket):
    def connect(self, address):
        self.bind(address)
        super().connect(address)
socket.socket = Itself
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    """Runs a script in a world in which the kernel gives a client the very port that it wants to reach."""

    @unittest.skipUnless(sys.platform == "linux", "elsewhere a socket can not be connected to itself")
    def test_a_client_does_not_confirm_itself(self) -> None:
        """A port among those that the kernel gives to clients, and no server on it: a client may get that port."""
        for (client_script, _), kind in zip(PAIRS, (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            with self.subTest(client_script):
                options = ("-m", "one", "--timeout", 0.3)
                command = (
                    sys.executable,
                    "-c",
                    self.CONNECTS_TO_ITSELF,
                    client_script,
                    HOST,
                    free_port(kind),
                    *options,
                )
                client = self.start(*command)
                self.assertEqual((client.wait(), client.output), (1, ""))
                self.assertNotIn("Traceback", client.errors)


class Summaries(AccountingTest):
    """The summary, the names of what went unanswered, and the exit code."""

    def test_nothing_sent(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        for client_script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            self.assert_all_confirmed(self.run_client(client_script, HOST, port, "--stats"), 0)

    def test_round_trip_times(self) -> None:
        """Each is the time from a message to its own reply."""
        listener = self.listen()
        port = listener.getsockname()[1]
        client = self.client("tcp_client.py", HOST, port, "-m", "quick", "-m", "slow", "--stats")
        server = self.accept(listener)
        began = time.monotonic()
        receive_lines(server, 2)
        server.sendall(b"quick\n")
        client.wait_for("quick")
        quick = 1000 * (time.monotonic() - began)
        time.sleep(0.2)
        server.sendall(b"slow\n")
        self.assert_all_confirmed(client, 2)
        shortest, mean, longest = (float(time) for time in SUMMARY.match(client.errors).groups()[3:])  # type: ignore[union-attr]
        self.assertGreaterEqual(longest, 200)
        self.assertLess(shortest, quick + longest - 200)
        self.assertAlmostEqual(mean, (shortest + longest) / 2, delta=0.02)

    def test_both_protocols_are_one_account(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        options = ("--udp-port", server.udp_port, "--stats")
        typed = "".join(f"{number}\n" for number in range(40))
        client = self.run_client("tcp_client.py", HOST, server.port, *options, typed=typed)
        self.assert_all_confirmed(client, 40)
        for protocol in ("TCP", "UDP"):
            server.wait_for(rf"^\[{protocol} Server\] Received")

    def test_no_reply(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--reply", "none")
        for client_script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            client = self.run_client(client_script, HOST, port, "--no-reply", "--stats", typed="one\ntwo\nthree\n")
            self.assertEqual((client.popen.returncode, client.errors), (0, "3 sent, no replies expected\n"))

    def test_no_reply_and_nobody_there(self) -> None:
        """What comes back from a closed port is no reply, and is told."""
        client = self.client("udp_client.py", HOST, free_port(socket.SOCK_DGRAM), "--no-reply", "-m", "one")
        self.assert_one_line_error(client, "nobody listens there")

    @unittest.skipUnless(hasattr(signal, "SIGSTOP"), "needs SIGSTOP")
    def test_no_reply_and_nobody_there_any_more(self) -> None:
        """However much is there to be read: it says nothing of what was sent."""
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.settimeout(PATIENCE)
        server.bind((HOST, 0))
        client = self.client("udp_client.py", HOST, server.getsockname()[1], "--no-reply")
        client.type("one\n")
        _, peer = server.recvfrom(100)
        client.stop()
        client.type("two\n")
        client.end_input()
        for _ in range(500):
            server.sendto(b"what nobody waits for", peer)
        server.close()
        client.signal(signal.SIGCONT)
        self.assert_one_line_error(client, "nobody listens there")

    @on_linux
    def test_no_reply_and_somebody_at_the_next_address(self) -> None:
        server = self.endpoint("127.0.0.2")
        client = self.client_of_two("udp_client.py", "two", server.getsockname()[1], "--no-reply", "-m", "one")
        self.assertEqual(server.recv(100), b"one")
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_what_went_unanswered_is_named(self) -> None:
        """The first few, shown safely, and how many."""
        cases = {
            ("one",): "1 message was not confirmed by {}: one",
            ("one", "two", "three"): "3 messages were not confirmed by {}: one, two, three",
            ("one", "two", "three", "four", "five"): "5 messages were not confirmed by {}: one, two, three, and 2 more",
            ("\x1b[2J\u202e",): r"1 message was not confirmed by {}: \x1b[2J\u202e",
        }
        runs = []
        for script, server, some in (
            ("tcp_client.py", self.listen(), [*cases]),
            ("udp_client.py", self.endpoint(), [*cases][2:3]),
        ):
            port = server.getsockname()[1]
            for texts in some:
                options = [part for text in texts for part in ("-m", text)]
                client = self.client(script, HOST, port, "--timeout", 0.4, *options)
                runs.append((client, cases[texts].format(f"{HOST}:{port}")))
        for client, said in runs:
            with self.subTest(said):
                self.assertEqual(client.wait(), 1)
                self.assertIn(f"{said}\n", client.errors)
                self.assertEqual((client.errors.count("\n"), client.output), (1, ""))

    def test_lines_of_another_system(self) -> None:
        """Over UDP, too, the confirmation of a line that ends in CRLF is known for what it is."""
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            client = self.run_client(script, HOST, port, "--stats", typed="one\r\n\r\ntwo\r\n")
            self.assert_all_confirmed(client, 3)

    def test_what_was_never_sent(self) -> None:
        """Lines that come after a word, or after the end of the server, are not left out in silence."""
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            client = self.run_client(script, HOST, port, typed="one\nterminate\ntwo\n")
            self.assert_one_line_error(client, "what comes after 'terminate' was not sent$")
            self.assertEqual(client.output, "Message received: one\n")
        listener = self.listen()
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1])
        feeder = threading.Thread(target=feed, args=(client, "xy\n" * 100_000))
        feeder.start()
        connected = self.accept(listener)
        self.assertEqual(len(receive_lines(connected, 16384)), 16384)
        connected.close()
        self.assertEqual(client.wait(), 1)
        feeder.join()
        self.assertRegex(
            client.errors, r"16384 messages were not confirmed by .*; the rest of the input was not sent\n\Z"
        )
        client = self.run_client("tcp_client.py", HOST, server.port, "-m", "exit", "-m", "two")
        self.assert_one_line_error(client, "what comes after 'exit' was not sent$")

    def test_a_server_that_ends_before_the_input(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", HOST, server.port)
        client.type("one\n")
        client.wait_for("one$")
        server.type("exit\n")
        self.assertEqual(client.wait(), 1)
        error = f"tcp_client.py: error: {HOST}:{server.port} shut down before the end of the input\n"
        self.assertEqual(client.errors, error)

    def test_a_server_that_ends_while_input_pours_in(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--quiet")
        clients = [
            self.client("tcp_client.py", HOST, server.port),
            self.client("udp_client.py", HOST, server.udp_port),
        ]
        feeders = [threading.Thread(target=pour, args=(client, "hello\n" * 10_000)) for client in clients]
        for feeder in feeders:
            feeder.start()
        for client in clients:
            wait_until(lambda: client.raw_output, "a reply")  # noqa: B023
        server.signal(signal.SIGTERM)
        for client, feeder in zip(clients, feeders):
            gone = "shut down before the end of the input.*; the rest of the input was not sent$"
            self.assert_one_line_error(client, gone)
            feeder.join()

    def test_an_unfinished_line_after_a_word(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", HOST, server.port)
        client.type("terminate\nand")  # no end of input follows
        self.assert_one_line_error(client, "what comes after 'terminate' was not sent$")

    def test_an_exit_that_is_not_obeyed(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--exit-from", "nobody")
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            client = self.run_client(script, HOST, port, "-m", "exit", "-m", "two")
            self.assert_one_line_error(client, f"{HOST}:{port} does not obey 'exit'$")
            self.assertIn("Message received: two\n", client.output)

    def test_two_refusals_of_one_exit(self) -> None:
        """The second, which comes late, does not undo the next word."""
        listener, endpoint = self.listen(), self.endpoint()
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], "--udp-port", endpoint.getsockname()[1])
        connected = self.accept(listener)
        client.type("exit\n")
        self.assertEqual(receive_lines(connected, 1), [b"exit"])
        _, peer = endpoint.recvfrom(100)
        connected.sendall(b"Error: 'exit' is not obeyed from you\n")
        client.wait_for("not obeyed from you$")
        endpoint.sendto(b"Error: 'exit' is not obeyed from you, either", peer)
        client.wait_for("either$")
        client.type("exit\n")
        self.assertEqual(receive_lines(connected, 1), [b"exit"])
        self.assertEqual(endpoint.recvfrom(100)[0], b"exit")
        endpoint.sendto(b"Server shutting down...", peer)
        connected.sendall(b"Server shutting down...\n")
        connected.close()
        self.assertEqual(client.wait(), 1)

    def test_who_reads_the_replies_slowly(self) -> None:
        """The client does not take the server for late while it can not write what it has."""
        server = self.server("tcp_server.py", "--udp-port", 0, "--quiet")
        lines = [f"{number:060}" for number in range(4000)]
        readings = []
        clock = Clock(self)
        for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
            reading, writing = os.pipe()
            self.addCleanup(os.close, reading)
            options = ("--stats", "--timeout", PATIENCE)
            command = (sys.executable, script, HOST, port, *options)
            client = self.start(*command, stdout=writing, env=clock.environment)
            threading.Thread(target=feed, args=(client, "\n".join(lines)), daemon=True).start()
            readings.append((client, reading))
            while select.select([], [writing], [], QUIET_TIME)[1]:
                pass  # there is still room for replies
            os.close(writing)
        clock.skip(2 * PATIENCE)
        for client, reading in readings:
            received = b"".join(iter(lambda: os.read(reading, 1 << 16), b""))  # noqa: B023
            self.assert_same(received.decode().splitlines(), [CONFIRMATION + line for line in lines])
            self.assert_all_confirmed(client, len(lines))

    def test_a_pause_before_the_end(self) -> None:
        """The answer to `exit`, or to the end of the input, has as long as any reply, whatever pause was before."""
        endpoint, listener = self.endpoint(), self.listen()
        clock = Clock(self)
        udp, tcp = (
            self.client(script, HOST, server.getsockname()[1], "--timeout", PATIENCE, env=clock.environment)
            for script, server in (("udp_client.py", endpoint), ("tcp_client.py", listener))
        )
        connected = self.accept(listener)
        clock.skip(2 * PATIENCE, tcp)
        udp.type("exit\n")
        tcp.end_input()
        self.assertEqual(connected.recv(100), b"")
        datagram, peer = endpoint.recvfrom(100)
        self.assertEqual(datagram, b"exit")
        clock.skip(PATIENCE / 2, udp, tcp)
        endpoint.sendto(b"Server shutting down...", peer)
        connected.sendall(b"bye\n")
        connected.close()
        self.assertEqual((udp.wait(), udp.errors), (0, ""))
        self.assertEqual((tcp.wait(), tcp.output), (0, "bye\n"))

    @HAS_KILL
    def test_a_client_that_was_stopped(self) -> None:
        """What has arrived by the time it goes on is not late, however long it stood still."""
        endpoint, listener = self.endpoint(), self.listen()
        clock = Clock(self)
        options = ("--timeout", PATIENCE, "--stats", "-m", "one")
        udp = self.client("udp_client.py", HOST, endpoint.getsockname()[1], *options, env=clock.environment)
        datagram, peer = endpoint.recvfrom(100)
        udp.stop()
        tcp = self.client("tcp_client.py", HOST, listener.getsockname()[1], *options, env=clock.environment)
        connected = self.accept(listener)
        line = receive_lines(connected, 1)[0]
        tcp.stop()
        endpoint.sendto(datagram, peer)
        connected.sendall(line + b"\n")
        clock.skip(2 * PATIENCE)
        for client in (udp, tcp):
            client.signal(signal.SIGCONT)
        for client in (udp, tcp):
            self.assert_all_confirmed(client, 1)

    def test_a_reset_after_the_last_message(self) -> None:
        """Who expects no replies is told, since nothing else tells that the messages may be gone."""
        listener = self.listen()
        client = self.client("tcp_client.py", HOST, listener.getsockname()[1], "--no-reply", "-m", "one")
        connected = self.accept(listener)
        wait_until(lambda: connected.recv(100, socket.MSG_PEEK), "the message")
        reset(connected)
        self.assert_one_line_error(client, "connection to .* lost: .*")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")  # noqa: PTH110
    def test_a_summary_that_can_not_be_written(self) -> None:
        """It goes nowhere else, and does not make a failure of what went well."""
        server = self.server("tcp_server.py")
        for redirection in ("2>/dev/full", "2>&-"):
            command = f'exec "$0" tcp_client.py {HOST} {server.port} -m hi --stats {redirection}'
            client = self.start("sh", "-c", command, sys.executable)
            self.assertEqual((client.wait(), client.output), (0, "Message received: hi\n"), redirection)

    def test_long_messages_are_named_in_short(self) -> None:
        port = self.endpoint().getsockname()[1]
        client = self.run_client("udp_client.py", HOST, port, "--timeout", 0.2, typed=b"long " * 12000 + b"\n")
        self.assert_one_line_error(client, "1 message was not confirmed by .*: long long")
        self.assertLess(len(client.errors), 500)

    def test_a_lost_datagram_does_not_end_the_session(self) -> None:
        server, clock = self.endpoint(), Clock(self)
        options = ("--timeout", PATIENCE, "--stats")
        client = self.client("udp_client.py", HOST, server.getsockname()[1], *options, env=clock.environment)
        client.type("lost\n")
        server.recv(100)
        clock.skip(2 * PATIENCE, client)
        client.type("found\n")
        datagram, peer = server.recvfrom(100)
        server.sendto(b"Message received: " + datagram, peer)
        client.wait_for("found")  # so it has seen how late it is
        server.sendto(b"Message received: lost", peer)  # too late
        client.wait_for("lost")
        client.end_input()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: lost\n")
        self.assert_summary(client, 2, 1)

    @HAS_KILL
    def test_a_killed_server(self) -> None:
        """What is confirmed is what was shown; the first that is not is named first."""
        server = self.server("tcp_server.py", "--quiet")
        numbers = [f"{number:0200}\n" for number in range(4000)]
        client = self.client("tcp_client.py", HOST, server.port, "--stats", "--timeout", PATIENCE)
        client.type("".join(numbers[:2000]))
        wait_until(lambda: client.raw_output, "a reply")
        server.stop()
        client.type("".join(numbers[2000:]))  # more than a pipe holds: so most was sent, and nobody answers it
        server.close()
        client.end_input()
        self.assertEqual(client.wait(), 1)
        whole = len(f"{CONFIRMATION}{0:0200}")
        shown = [line for line in client.output.splitlines() if len(line) >= whole]  # the last may lack its end alone
        self.assert_same(shown, [f"{CONFIRMATION}{number:0200}" for number in range(len(shown))])
        summary = SUMMARY.match(client.errors.splitlines()[-1])
        assert summary is not None
        self.assertEqual(int(summary[2]), len(shown))
        self.assertLess(int(summary[2]), int(summary[1]))
        self.assertEqual(client.errors.count("\n"), 2, client.errors)
        self.assertIn(f"{summary[3]} messages were not confirmed by {HOST}:{server.port}: 000000", client.errors)
        self.assertIn(f"{len(shown):0200}"[:80], client.errors)

    @HAS_KILL
    def test_an_interrupted_client(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", HOST, server.port, "--stats")
        client.type("one\n")
        client.wait_for("one$")
        client.signal(signal.SIGINT)
        self.assertEqual(client.wait(), 130)
        self.assert_summary(client, 1, 1)


def pour(process: Process, text: str) -> None:
    """Pipe text into a program, again and again until it ends."""
    with contextlib.suppress(BrokenPipeError):
        while True:
            process.type(text)


def feed(process: Process, text: str) -> None:
    """Pipe text into a program, as much as it takes before it ends; then end its input."""
    with contextlib.suppress(BrokenPipeError):
        process.type(text)
        process.end_input()


class Reconnecting(AccountingTest):
    """`tcp_client.py --reconnect` waits for a server, and comes back to it until every message is confirmed."""

    def setUp(self) -> None:
        self.port = free_port()

    def start_server(self, *options: object) -> Server:
        """Start a server on the port that the clients of this test try."""
        return self.server("tcp_server.py", *options, port=self.port)

    def start_client(self, *options: object, **popen: Any) -> Process:
        """Start a client of that server."""
        return self.client("tcp_client.py", HOST, self.port, "--reconnect", "--stats", *options, **popen)

    def wait_until_down(self, client: Process, times: int = 1) -> None:
        """Wait until a client has said so often that it goes on trying."""
        wait_until(lambda: client.errors.count(TRYING) >= times, f"{times} times: {TRYING}")

    def test_a_server_that_is_not_there_yet(self) -> None:
        one_shot = self.start_client("-m", "a", "-m", "b")
        piped = self.start_client()
        piped.type("one\ntwo\n")
        piped.end_input()
        typing = self.start_client()
        typing.type("eins\n")
        for client in (one_shot, piped, typing):
            self.wait_until_down(client)
            self.assertRegex(client.errors, rf"\Atcp_client\.py: error: .*{self.port}.*refused.*{TRYING}\n\Z")
        typing.type("zwei\n")
        server = self.start_server()
        typing.wait_for("eins\nMessage received: zwei$")
        typing.type("drei\n")
        typing.end_input()
        for client, texts in ((one_shot, ("a", "b")), (piped, ("one", "two")), (typing, ("eins", "zwei", "drei"))):
            self.assert_all_confirmed(client, len(texts))
            self.assertEqual(client.output, "".join(f"{CONFIRMATION}{text}\n" for text in texts))
            self.assertEqual(client.errors.count(TRYING), 1, "it says so once")
        wait_until(lambda: server.output.count("Received from") >= 7, "the record")
        self.assertEqual(server.output.count("Received from"), 7)

    @HAS_KILL
    def test_killed_and_restarted(self) -> None:
        """10,000 lines arrive through six deaths of the server: none is lost, and each time they come in order."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        options = ("--save", folder / "m.db", "--quiet")
        chance = random.Random(5)
        lines = [f"{number:05} {'x' * 200}" for number in range(10000)]
        server = self.start_server(*options)
        client = self.start_client()
        for kill in range(1, 7):  # of what is fed now, some is confirmed before the kill, and the last of it is not fed
            feed_until, confirmed = kill * 1400, kill * 1400 - chance.randrange(1, 600)
            client.type("".join(f"{line}\n" for line in lines[feed_until - 1400 : feed_until]))
            target = (len(lines[0]) + len(CONFIRMATION) + 1) * confirmed
            deadline = time.monotonic() + PATIENCE
            while len(client.raw_output) < target and time.monotonic() < deadline:
                time.sleep(0.0005)
            server.close()
            self.assertIsNone(client.popen.poll(), "the client ended before its server had died six times")
            self.assertEqual(server.errors, "")
            self.wait_until_down(client, kill)
            server = self.start_server(*options)
        feed(client, "\n".join(lines[feed_until:]))
        self.assert_all_confirmed(client, 10000)
        self.assertEqual({*client.output.splitlines()}, {CONFIRMATION + line for line in lines})
        self.assertEqual(client.errors.count("\n"), 7, client.errors)
        with contextlib.closing(sqlite3.connect(folder / "m.db")) as database:
            rows = database.execute("SELECT text, peer FROM messages ORDER BY id").fetchall()
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assert_same([*dict.fromkeys(text for text, _ in rows)], lines)
        connections = collections.defaultdict(list)
        for text, peer in rows:
            connections[peer].append(text)
        self.assertEqual(len(connections), 7)
        for texts in connections.values():
            first = lines.index(texts[0])
            self.assert_same(texts, lines[first : first + len(texts)])

    @HAS_KILL
    def test_typing_goes_on_while_the_server_is_away(self) -> None:
        server = self.start_server()
        client = self.start_client()
        client.type("one\n")
        client.wait_for("one$")
        server.close()
        self.wait_until_down(client)
        client.type("two\n")
        client.type("three\n")
        server = self.start_server()
        client.wait_for("three$")
        client.type("four\n")
        client.end_input()
        self.assert_all_confirmed(client, 4)
        server.wait_for("Received from .*: four$")
        self.assertEqual(re.findall("Received from .*: (.*)", server.output), ["two", "three", "four"])
        self.assertRegex(client.errors, rf"\Atcp_client\.py: error: connection .*{self.port}.*{TRYING}\n")

    @HAS_KILL
    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_at_a_terminal(self) -> None:
        server = self.start_server()
        terminal = Terminal(sys.executable, "tcp_client.py", HOST, self.port, "--reconnect", columns=200, height=30)
        self.addCleanup(terminal.close)
        terminal.type("one\r")
        terminal.expect_row("^Server: Message received: one$")
        server.close()
        terminal.expect_row(f"{TRYING}$")
        terminal.expect("You:", column=5)
        terminal.type("two\rthr")
        terminal.expect_row("^You: thr$")
        server = self.start_server()
        terminal.expect_row("^Server: Message received: two$")
        terminal.type("ee\r")
        terminal.expect_row("^Server: Message received: three$")
        server.type("exit\n")
        terminal.expect_row(f"shut down; {TRYING}$")
        terminal.type("terminate\r")
        self.assertEqual(terminal.wait(), 0)
        terminal.expect_row("^3 sent, 3 confirmed, 0 lost; ")

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_told_to_end_with_a_message_unconfirmed(self) -> None:
        for end, code in (("terminate\r", 1), ("\x03", 130)):
            with self.subTest(end):
                terminal = Terminal(sys.executable, "tcp_client.py", HOST, self.port, "--reconnect", columns=200)
                self.addCleanup(terminal.close)
                terminal.expect_row(f"{TRYING}$")
                terminal.expect("You:", column=5)
                terminal.type("never\r")
                terminal.expect("You: never", "You:", column=5)
                terminal.type(end)
                self.assertEqual(terminal.wait(), code)
                terminal.expect_row("error: 1 message was not confirmed by .*: never$")
                terminal.expect_row("^1 sent, 0 confirmed, 1 lost$")

    @HAS_KILL
    def test_told_to_end_while_the_server_is_away(self) -> None:
        """With 0, if all is confirmed."""
        server = self.start_server()
        ways = {"terminate": 0, "the end of input": 0, "Ctrl-C": 130, "SIGTERM": 128 + signal.SIGTERM}
        clients = [self.start_client() for _ in ways]
        for client in clients:
            client.type("one\n")
            client.wait_for("one$")
        server.close()
        for client, (way, code) in zip(clients, ways.items()):
            with self.subTest(way):
                self.wait_until_down(client)
                if way == "terminate":
                    client.type("terminate\n")
                elif way == "the end of input":
                    client.end_input()
                else:
                    client.signal(signal.SIGINT if way == "Ctrl-C" else signal.SIGTERM)
                self.assertEqual(client.wait(), code, client.errors)
                self.assert_summary(client, 1, 1)

    def test_the_server_shuts_down(self) -> None:
        """What it did not confirm before goes to the next one; only then the client ends, with 0."""
        listener = self.listen(self.port)
        client = self.start_client("-m", "one", "-m", "two")
        connected = self.accept(listener)
        receive_lines(connected, 2)
        connected.sendall(b"Message received: one\nServer shutting down...\n")
        connected.close()
        listener.close()
        self.wait_until_down(client)
        self.assertIsNone(client.popen.poll())
        server = self.start_server()
        self.assert_all_confirmed(client, 2)
        server.wait_for("Received from .*: two$")
        self.assertEqual(re.findall("Received from .*: (.*)", server.output), ["two"])

    def test_exit_ends_both(self) -> None:
        server = self.start_server()
        client = self.start_client()
        client.type("one\nexit\n")
        self.assert_all_confirmed(client, 1)
        self.assertEqual(server.wait(), 0)

    def test_exit_waits_until_all_is_confirmed(self) -> None:
        client = self.start_client()
        client.type("one\nexit\n")
        self.wait_until_down(client)
        server = self.start_server()
        self.assert_all_confirmed(client, 1)
        self.assertEqual(server.wait(), 0)
        self.assertRegex(server.output, "Received from .*: one\n.*Shutdown command")

    def test_a_server_that_never_answers(self) -> None:
        """After the timeout, it counts as broken, and another connection is made."""
        listener, clock = self.listen(self.port), Clock(self)
        client = self.start_client("-m", "one", "--timeout", PATIENCE, env=clock.environment)
        self.assertEqual(receive_lines(self.accept(listener), 1), [b"one"])
        clock.skip(2 * PATIENCE, client)
        again = self.accept(listener)
        self.assertEqual(receive_lines(again, 1), [b"one"])
        again.sendall(b"one\n")
        self.assert_all_confirmed(client, 1)

    def test_a_reply_cut_short_confirms_nothing(self) -> None:
        listener = self.listen(self.port)
        client = self.start_client("-m", "one", "-m", "two")
        first = self.accept(listener)
        receive_lines(first, 2)
        first.sendall(b"Message received: one\nMessage received: tw")
        first.close()
        second = self.accept(listener)
        self.assertEqual(receive_lines(second, 1), [b"two"])
        second.sendall(b"Message received: two\n")
        self.assert_all_confirmed(client, 2)

    def test_a_name_that_is_not_known_yet(self) -> None:
        client = self.client("tcp_client.py", "nobody.invalid", self.port, "--reconnect")
        self.wait_until_down(client)
        self.assertRegex(client.errors, r"\Atcp_client\.py: error: cannot find host nobody\.invalid: .*\n\Z")

    def test_a_server_that_turns_everybody_away(self) -> None:
        """The client comes back less and less often, since connecting alone is no success."""
        listener = self.listen(self.port)
        client = self.start_client("-m", "one")
        moments = []
        for _ in range(4):
            connected = self.accept(listener)
            moments.append(time.monotonic())
            connected.close()
        self.assertGreater(moments[-1] - moments[0], 0.05 + 0.1 + 0.2 - 0.05)
        client.close()

    def test_a_full_server(self) -> None:
        """The client comes back until there is room."""
        listener = self.listen(self.port)
        client = self.start_client("-m", "one")
        for _ in range(2):
            connected = self.accept(listener)
            connected.sendall(b"Error: the server is full (1 clients)\n")
            connected.close()
        taken = self.accept(listener)
        self.assertEqual(receive_lines(taken, 1), [b"one"])
        taken.sendall(b"Message received: one\n")
        self.assert_all_confirmed(client, 1)

    def test_a_message_that_no_server_takes(self) -> None:
        """It is refused as too long each time it is sent: that must not go on for ever, nor hold up the others."""
        self.start_server("--max-message", 10)
        client = self.start_client()
        client.type("short\nfar too long a message\nlater\n")
        client.end_input()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: far too long a message\n")
        self.assert_summary(client, 3, 2)

    @HAS_KILL
    def test_both_protocols_come_back(self) -> None:
        udp_port = free_port(socket.SOCK_DGRAM)
        server = self.start_server("--udp-port", udp_port, "--quiet")
        client = self.start_client("--udp-port", udp_port, "--timeout", 0.3)
        for start in (0, 100, 200):
            client.type("".join(f"{number}\n" for number in range(start, start + 100)))
            client.wait_for(f"Message received: {start}")
            if start == 0:
                server.close()
            elif start == 100:
                server.signal(signal.SIGTERM)  # says so, on both
                server.wait()
            if start < 200:
                self.wait_until_down(client, 1 + start // 100)
                server = self.start_server("--udp-port", udp_port)
        client.end_input()
        self.assert_all_confirmed(client, 300)
        for protocol in ("TCP", "UDP"):
            server.wait_for(rf"^\[{protocol} Server\] Received")

    @HAS_KILL
    def test_both_protocols_come_back_to_a_name_of_two_addresses(self) -> None:
        """Nobody is at the second one."""
        udp_port = free_port(socket.SOCK_DGRAM)
        server = self.start_server("--udp-port", udp_port, "--quiet")
        options = ("--reconnect", "--udp-port", udp_port, "--timeout", 0.3, "--stats")
        client = self.client_of_two("tcp_client.py", "two", self.port, *options)
        client.type("".join(f"{number}\n" for number in range(30)))
        client.wait_for("(^Message received: .*\n){30}")
        server.close()
        self.wait_until_down(client)
        client.type("".join(f"{number}\n" for number in range(30, 60)))
        self.start_server("--udp-port", udp_port, "--quiet")
        client.end_input()
        self.assert_all_confirmed(client, 60)

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_exit_where_only_one_protocol_is_there(self) -> None:
        server = self.server("udp_server.py")
        options = ("--reconnect", "--udp-port", server.port)
        terminal = Terminal(sys.executable, "tcp_client.py", HOST, self.port, *options, columns=200)
        self.addCleanup(terminal.close)
        terminal.expect_row(f"{TRYING}$")
        terminal.expect("You:", column=5)
        terminal.type("exit\r")
        self.assertEqual(terminal.wait(), 1)
        terminal.expect_row(r"^\[UDP\] Server: Server shutting down\.\.\.$")
        terminal.expect_row(f"error: 'exit' was not sent to {HOST}:{self.port}: there is no connection$")
        self.assertEqual(server.wait(), 0)

    @unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
    def test_no_connection_is_made_after_an_exit(self) -> None:
        """While the answer of the other protocol is awaited, too."""
        listener, endpoint = self.listen(self.port), self.endpoint()
        options = ("--reconnect", "--timeout", 0.6, "--udp-port", endpoint.getsockname()[1])
        terminal = Terminal(sys.executable, "tcp_client.py", HOST, self.port, *options, columns=200)
        self.addCleanup(terminal.close)
        connected = self.accept(listener)
        terminal.expect("You:", column=5)
        listener.close()
        connected.close()
        terminal.expect_row(f"{TRYING}$")
        terminal.expect("You:", column=5)
        terminal.type("exit\r")
        heard = iter(lambda: endpoint.recv(100), b"exit")
        self.assertEqual(set(heard) - {b""}, set(), "signs of life")
        listener = self.listen(self.port)
        self.assertEqual(terminal.wait(), 1)
        listener.setblocking(False)
        with self.assertRaises(BlockingIOError):
            self.accept(listener)

    def test_backoff(self) -> None:
        """Each wait is random, between half of and all of twice the one before: 0.1 s first, and 10 s at the most."""
        for _ in range(20):
            for failures, longest in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10)):
                self.assertTrue(longest / 2 <= channel.pause_after(failures) <= longest, (failures, longest))
        self.assertLessEqual(channel.pause_after(10**9), 10)
        pauses = {channel.pause_after(0) for _ in range(20)}
        self.assertGreater(len(pauses), 10, "many clients do not come back at the same moment")


class Relay:
    """A bad link to a UDP server: of all datagrams, in both directions, a third is dropped, doubled or reordered."""

    def __init__(self, server_port: int) -> None:
        self.replies: set[str] = set()
        """What was passed on to the client."""
        self.done: collections.Counter[str] = collections.Counter()
        self.when_idle: Callable[[], object] = lambda: None
        """What is called when nothing is on its way, in either direction."""
        self._asked = 0  # datagrams that the server has not answered yet
        self._chance = random.Random(6)
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.connect((HOST, server_port))
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind((HOST, 0))
        self.port: int = self._outer.getsockname()[1]
        self._held: dict[socket.socket, list[bytes]] = {self._inner: [], self._outer: []}
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._ended = True
        self._thread.join()
        self._inner.close()
        self._outer.close()

    def _run(self) -> None:
        while not self._ended:
            ready = select.select([self._inner, self._outer], [], [], 0.01)[0]
            for source in ready:
                with contextlib.suppress(ConnectionError):  # the client has gone
                    if source is self._outer:
                        data, client = source.recvfrom(65536)
                        source.connect(client)
                        self._pass(self._inner, data)
                    else:
                        self._pass(self._outer, source.recv(65536))
                        self._asked -= 1
            if not ready:
                if not (self._asked or any(self._held.values())):
                    self.when_idle()
                for target in self._held:
                    self._release(target)

    def has_heard(self) -> bool:
        """Tell whether the client has said something that is still to be passed on."""
        return bool(select.select([self._outer], [], [], 0)[0])

    def _pass(self, target: socket.socket, data: bytes) -> None:
        """Pass a datagram on, well or badly; one that is held back comes after the next one."""
        how = self._chance.choice(["dropped", "doubled", "reordered", *["passed"] * 6])
        self.done[how] += 1
        if how == "reordered":
            self._held[target].append(data)
            return
        for _ in range({"dropped": 0, "doubled": 2}.get(how, 1)):
            self._send(target, data)
        self._release(target)

    def _release(self, target: socket.socket) -> None:
        held, self._held[target] = self._held[target], []
        for data in held:
            self._send(target, data)

    def _send(self, target: socket.socket, data: bytes) -> None:
        if target is self._outer:
            self.replies.add(data.decode())
        else:
            self._asked += 1
        with contextlib.suppress(ConnectionError):
            target.send(data)


class BadLink(AccountingTest):
    """Datagrams that get lost, doubled and reordered on their way are accounted for."""

    LINES: Sequence[str] = [f"message {number}" for number in range(1000)]

    def talk(self, *options: object) -> tuple[Process, Relay]:
        """Start a client that sends all lines over a bad link to a server; return both."""
        relay, clock = Relay(self.server("udp_server.py", "--quiet").port), Clock(self)
        self.addCleanup(relay.close)
        options = ("--timeout", PATIENCE, *options)
        client = self.client("udp_client.py", HOST, relay.port, "--stats", *options, env=clock.environment)

        def go_on() -> None:
            """Have what is missing be late, since it is lost."""
            if client.is_at_rest() and not relay.has_heard():
                clock.skip(2 * PATIENCE, client)

        client.type("\n".join(self.LINES))
        client.end_input()
        wait_until(lambda: relay.replies, "a reply")
        relay.when_idle = go_on
        return client, relay

    def test_a_thousand_datagrams(self) -> None:
        """With `--retries` all are confirmed, once each; without, those are lost whose replies did not get through."""
        without, relay_without = self.talk()
        retrying, relay = self.talk("--retries", 100)
        with self.subTest("with retries"):
            self.assert_all_confirmed(retrying, 1000)
            self.assertEqual(retrying.errors.count("\n"), 1, retrying.errors)
            self.assert_bad(relay)
            expected = {CONFIRMATION + line for line in self.LINES}
            self.assertEqual({*retrying.output.splitlines()}, expected)
            self.assertEqual(relay.replies, expected)
        with self.subTest("without retries"):
            self.assertEqual(without.wait(patience=60), 1)
            self.assert_bad(relay_without)
            lost = [line for line in self.LINES if CONFIRMATION + line not in relay_without.replies]
            self.assertGreater(len(lost), 100)
            self.assert_summary(without, 1000, 1000 - len(lost))
            match = re.search(
                r"error: (\d+) messages were not confirmed by \S+: (.*), and (\d+) more$", without.errors, re.M
            )
            assert match is not None, without.errors
            self.assertEqual((int(match[1]), match[2].split(", "), int(match[3])), (len(lost), lost[:3], len(lost) - 3))
            self.assertEqual(without.errors.count("\n"), 2, without.errors)

    def assert_bad(self, relay: Relay) -> None:
        """Check that a link was as bad as it should be."""
        total = sum(relay.done.values())
        self.assertAlmostEqual((total - relay.done["passed"]) / total, 1 / 3, delta=0.04)
        for how in ("dropped", "doubled", "reordered"):
            self.assertGreater(relay.done[how], 150)


class Retries(AccountingTest):
    """`udp_client.py --retries N` sends an unanswered datagram again."""

    def start_client(self, port: int, *options: object, **popen: Any) -> Process:
        """Start a client that sends one message to a port."""
        return self.client("udp_client.py", HOST, port, "-m", "one", "--stats", *options, **popen)

    def test_each_is_sent_again_so_often(self) -> None:
        servers = {retries: self.endpoint() for retries in (0, 1, 3)}
        options = ("--timeout", 0.1, "--retries")
        clients = [self.start_client(server.getsockname()[1], *options, retries) for retries, server in servers.items()]
        for client, (retries, server) in zip(clients, servers.items()):
            with self.subTest(retries):
                self.assertEqual(client.wait(), 1)
                self.assertRegex(client.errors, "1 message was not confirmed by .*: one\n")
                self.assert_summary(client, 1, 0)
                server.setblocking(False)
                datagrams = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        datagrams.append(server.recv(100))
                self.assertEqual(datagrams, [b"one"] * (1 + retries))

    def test_late_and_doubled_replies_count_once(self) -> None:
        server = self.endpoint()
        client = self.client(
            "udp_client.py", HOST, server.getsockname()[1], "--stats", "--retries", 99, "--timeout", 0.2
        )
        client.type("one\n")
        for _ in range(2):
            data, peer = server.recvfrom(100)
            self.assertEqual(data, b"one")
        for _ in range(3):
            server.sendto(b"Message received: one", peer)
        client.wait_for(r"(.*one\n){2}")  # it was sent twice, and so may be answered twice
        client.type("two\n")
        client.end_input()
        while data != b"two":
            data = server.recv(100)
        server.sendto(b"Message received: one", peer)
        server.sendto(b"Message received: two", peer)
        self.assert_all_confirmed(client, 2)
        longest = float(SUMMARY.match(client.errors)[6])  # type: ignore[index]
        self.assertGreaterEqual(longest, 200, "a round trip begins when a message is sent first")

    @HAS_KILL
    def test_a_server_of_two_addresses_that_comes_back(self) -> None:
        """Nobody is at the second one."""
        port = free_port(socket.SOCK_DGRAM)
        server = self.server("udp_server.py", port=port)
        options = ("--retries", 1000, "--timeout", 0.1, "--stats")
        client = self.client_of_two("udp_client.py", "two", port, *options)
        client.type("one\n")
        client.wait_for("one$")
        server.close()
        client.type("two\n")
        self.server("udp_server.py", port=port)
        client.wait_for("two$")
        client.end_input()
        self.assert_all_confirmed(client, 2)

    def test_one_that_is_refused_each_time(self) -> None:
        """The other is waited for all the same."""
        server, clock = self.endpoint(), Clock(self)
        options = ("-m", "two", "--retries", 2, "--timeout", PATIENCE)
        client = self.start_client(server.getsockname()[1], *options, env=clock.environment)
        for times in (1, 2, 3):
            sent = {server.recvfrom(100) for _ in range(2)}
            self.assertEqual({data for data, _ in sent}, {b"one", b"two"})
            peer = sent.pop()[1]
            server.sendto(b"Error: the message could not be saved", peer)
            client.wait_for(rf"(^Error: .*\n){{{times}}}")
            if times == 3:
                server.sendto(b"Message received: two", peer)
                client.wait_for("two$")
            clock.skip(2 * PATIENCE, client)
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "1 message was not confirmed by .*: one\n")
        self.assert_summary(client, 2, 1)

    def test_an_exit_that_is_lost(self) -> None:
        server = self.endpoint()
        options = ("--retries", 99, "--timeout", 0.2)
        client = self.client("udp_client.py", HOST, server.getsockname()[1], "-m", "exit", *options)
        for _ in range(2):
            data, peer = server.recvfrom(100)
            self.assertEqual(data, b"exit")
        server.sendto(b"Server shutting down...", peer)
        self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_a_server_that_is_not_there_yet(self) -> None:
        port = free_port(socket.SOCK_DGRAM)
        client = self.start_client(port, "--retries", 1000, "--timeout", 0.1)
        time.sleep(0.2)
        self.server("udp_server.py", port=port)
        self.assert_all_confirmed(client, 1)


if __name__ == "__main__":
    unittest.main()
