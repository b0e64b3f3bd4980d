"""Endings: the other side goes away, programs are told to stop, command lines are wrong; and addresses of all kinds."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

from hostile import MIB, fill, has_ipv6, reset
from support import (
    PATIENCE,
    Process,
    Server,
    TestCase,
    connects,
    free_port,
    receive_all,
    receive_lines,
    wait_until,
    with_constants,
)

import common

SERVERS = ("tcp_server.py", "udp_server.py")
CLIENTS = ("tcp_client.py", "udp_client.py")
ADDRESS = r"127\.0\.0\.1:\d+"
IS_POSIX = unittest.skipUnless(os.name == "posix", "Windows has other signals")
IS_LINUX = unittest.skipUnless(sys.platform == "linux", "this is how Linux does it")


HAS_IPV6 = unittest.skipUnless(has_ipv6(), "there is no IPv6")


class ServerGoesAway(TestCase):
    """A client says at once that the server is gone, and ends with 1."""

    def played_server(self, *arguments: object) -> tuple[Process, socket.socket]:
        """Return a client and the connection that it made to the test."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], *arguments)
            connected, _ = listener.accept()
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE)
        return client, connected

    def test_while_nothing_is_said(self) -> None:
        for leave in (socket.socket.close, reset):
            with self.subTest(leave.__name__):
                client, server = self.played_server("--timeout", "1000")
                server.sendall(b"Welcome\n")
                client.wait_for("^Welcome$")
                leave(server)
                self.assert_one_line_error(client, rf"connection (closed by|to) {ADDRESS}")

    WAITING_FOR_THE_END = """
import runpy, select, socket, sys
class Waiting(socket.socket):
    def connect(self, address):
        super().connect(address)
        select.select([self], [], [])
socket.socket = Waiting
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    """Runs a script in a world in which a server that leaves at once has left when connect() returns."""

    def test_a_reset_right_after_the_connection(self) -> None:
        for leave in (socket.socket.close, reset):
            with self.subTest(leave.__name__), socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(PATIENCE)
                address = listener.getsockname()
                command = (sys.executable, "-c", self.WAITING_FOR_THE_END, "tcp_client.py", *address, "-m", "Hello")
                client = self.start(*command)
                leave(listener.accept()[0])
                self.assert_one_line_error(client, ADDRESS)

    def test_before_a_reply(self) -> None:
        for leave in (socket.socket.close, reset):
            for arguments in ((), ("-m", "Hello")):
                with self.subTest(leave.__name__, arguments=arguments):
                    client, server = self.played_server("--timeout", "1000", *arguments)
                    if not arguments:
                        client.type("Hello\n")
                    self.assertEqual(receive_lines(server, 1), [b"Hello"])
                    leave(server)
                    self.assert_one_line_error(client, rf"1 message was not confirmed by {ADDRESS}: Hello")

    def test_in_the_middle_of_a_line(self) -> None:
        client, server = self.played_server("--timeout", "1000")
        client.type("one\ntwo\nthree, half ty")
        self.assertEqual(receive_lines(server, 2), [b"one", b"two"])
        server.sendall(b"Message received: one\nMessage rec")
        server.close()
        self.assert_one_line_error(client, "1 message was not confirmed.*: two")
        self.assertEqual(client.output, "Message received: one\nMessage rec")

    def test_in_the_middle_of_a_long_message(self) -> None:
        client, server = self.played_server("--timeout", "1000", "--stats")
        with contextlib.suppress(BrokenPipeError):
            client.type(b"x" * 10_000_000 + b"\n")
        self.assertTrue(server.recv(1000))
        reset(server)
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, r"\Atcp_client\.py: error: .*\n1 sent, 0 confirmed, 1 lost\n\Z")

    def test_while_replies_are_awaited_after_the_input(self) -> None:
        client, server = self.played_server("--timeout", "1000")
        client.type("Hello\n")
        client.end_input()
        self.assertEqual(receive_lines(server, 1), [b"Hello"])
        server.close()
        self.assert_one_line_error(client, "1 message was not confirmed.*: Hello")

    @IS_POSIX
    def test_the_server_is_killed(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port)
        client.type("Hello\n")
        client.wait_for("received: Hello$")
        server.signal(signal.SIGKILL)
        self.assert_one_line_error(client, ADDRESS)

    def test_a_udp_server_is_gone(self) -> None:
        server = self.server("udp_server.py", port=free_port(socket.SOCK_DGRAM))
        client = self.client("udp_client.py", "127.0.0.1", server.port)
        client.type("Hello\n")
        client.wait_for("received: Hello$")
        server.close()
        client.type("Anybody?\n")
        self.assert_one_line_error(client, rf"{ADDRESS}.*nobody listens there.*: Anybody[?]")

    def test_a_server_that_stays_silent(self) -> None:
        client, server = self.played_server("--timeout", "0.2")
        client.type("Hello\n")
        self.assertEqual(receive_lines(server, 1), [b"Hello"])
        self.assert_one_line_error(client, r"1 message was not confirmed.*: Hello")

    def test_a_shutdown_is_not_an_error_when_nothing_is_due(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "Hello", "-m", "exit")
        self.assertEqual((client.wait(), client.errors), (0, ""))

    @IS_LINUX
    def test_a_connection_that_nobody_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            port = listener.getsockname()[1]
            for _ in range(4):  # fill its backlog, so that the kernel drops the next
                filler = socket.socket()
                self.addCleanup(filler.close)
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = self.client("tcp_client.py", "127.0.0.1", port, "--timeout", "0.2", "-m", "Hello")
            self.assert_one_line_error(client, rf"127\.0\.0\.1:{port}: no answer within 0\.2 s")

    @IS_POSIX
    def test_nobody_reads_the_replies(self) -> None:
        server = self.server("tcp_server.py")
        readable, writable = os.pipe()
        os.close(readable)
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "Hello", stdout=writable)
        os.close(writable)
        self.assert_one_line_error(client, "standard output: Broken pipe")


class ClientGoesAway(TestCase):
    """A server notes that a client is gone, and goes on."""

    def setUp(self) -> None:
        self.tcp = self.server("tcp_server.py")
        self.staying = self.connect(self.tcp.port)
        self.tcp.wait_for("Connected")

    def assert_noted(self, raw: socket.socket, leave: object) -> None:
        """Check that the server notes that a connection is closed, and serves the other."""
        name = f"127.0.0.1:{raw.getsockname()[1]}"
        self.tcp.wait_for(rf"Connected by {name}$")
        assert callable(leave)
        leave(raw)
        self.tcp.wait_for(rf"^\[TCP Server\] Disconnected: {name}( \(.*\))?$")
        self.staying.sendall(b"I am here\n")
        self.assertEqual(receive_lines(self.staying, 1), [b"Message received: I am here"])
        self.assertNotIn("Traceback", self.tcp.errors)

    def test_without_a_word(self) -> None:
        for leave in (socket.socket.close, reset):
            with self.subTest(leave.__name__):
                self.assert_noted(self.connect(self.tcp.port), leave)

    def test_in_the_middle_of_a_line(self) -> None:
        for leave in (socket.socket.close, reset):
            with self.subTest(leave.__name__):
                raw = self.connect(self.tcp.port)
                raw.sendall(b"half a li")
                self.assert_noted(raw, leave)

    def test_before_its_replies(self) -> None:
        for leave in (socket.socket.close, reset):
            with self.subTest(leave.__name__):
                raw = self.connect(self.tcp.port)
                raw.sendall(b"line\n" * 1000)
                self.assert_noted(raw, leave)

    def test_while_it_does_not_read(self) -> None:
        raw = self.connect(self.tcp.port)
        fill(raw, b"x" * 60000 + b"\n", 64 * MIB)
        self.assert_noted(raw, reset)

    def test_with_a_half_close(self) -> None:
        raw = self.connect(self.tcp.port)
        raw.sendall(b"last words")
        raw.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(raw), b"Message received: last words\n")
        self.assert_noted(raw, socket.socket.close)

    def test_a_udp_peer_that_is_gone(self) -> None:
        server = self.server("udp_server.py", "--reply", "relay")
        gone, staying = self.datagrams(server.port), self.datagrams(server.port)
        for peer in (gone, staying):
            peer.send(b"hello")
            self.assertEqual(peer.recv(100), b"Message received: hello")
        gone.close()
        for _ in range(3):  # relayed to where nobody is any more
            staying.send(b"still there?")
            self.assertEqual(staying.recv(100), b"Message received: still there?")
        server.type("to all\n")
        self.assertEqual(staying.recv(100), b"to all")


@IS_POSIX
class Stopping(TestCase):
    """Signals end the programs cleanly."""

    def test_signals_stop_a_server_as_exit_does(self) -> None:
        for script in SERVERS:
            for number in (signal.SIGINT, signal.SIGTERM):
                with self.subTest(script, signal=number.name):
                    server = self.server(script)
                    raw = self.connect(server.port) if script == "tcp_server.py" else self.datagrams(server.port)
                    raw.sendall(b"hello\n")
                    self.assertEqual(raw.recv(100), b"Message received: hello\n")
                    server.signal(number)
                    self.assertEqual(raw.recv(100), b"Server shutting down...\n")
                    raw.close()
                    self.assertEqual((server.wait(), server.errors), (0, ""))
                    shown = "Ctrl-C" if number == signal.SIGINT else number.name
                    self.assertRegex(server.output, rf"{shown} received.*\n(.*\n)*\[Server\] All services stopped")

    def test_clients_that_do_not_read_can_not_keep_a_server(self) -> None:
        server = self.server("tcp_server.py", "--quiet", "--udp-port", 0, within=with_constants(STOP_WITHIN=0.2))
        for _ in range(2):
            self.unread(server)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    def test_clients_that_read_late_get_all_that_was_answered(self) -> None:
        server = self.server("tcp_server.py", "--quiet", "--udp-port", 0, within=with_constants(STOP_WITHIN=PATIENCE))
        raw = self.unread(server)
        server.signal(signal.SIGTERM)
        server.wait_for("SIGTERM received")
        time.sleep(0.3)  # what is tested is that the server waits
        self.assertRegex(receive_all(raw), rb"\A(Message received: x{60000}\n)+Server shutting down\.\.\.\n\Z")
        raw.close()
        self.assertEqual(server.wait(), 0)

    def unread(self, server: Server) -> socket.socket:
        """Return a connection to a server that has sent as much as the server reads, and has read nothing."""
        raw = self.connect(server.port)
        fill(raw, b"x" * 60000 + b"\n", 64 * MIB)
        return raw

    def test_what_was_received_before_a_signal_is_answered(self) -> None:
        server = self.server("tcp_server.py", "--quiet")
        raw = self.connect(server.port)
        raw.sendall(b"line\n" * 5000)
        replies = raw.recv(100)
        server.signal(signal.SIGTERM)
        replies += receive_all(raw)
        self.assertRegex(replies, rb"\A(Message received: line\n)+Server shutting down\.\.\.\n\Z")
        raw.close()
        self.assertEqual(server.wait(), 0)

    def test_an_interrupted_client(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            with self.subTest(script):
                client = self.client(script, "127.0.0.1", port)
                client.type("Hello\n")
                client.wait_for("received: Hello$")
                client.signal(signal.SIGINT)
                self.assertEqual((client.wait(), client.errors), (130, ""))

    def test_an_interrupted_client_names_what_was_not_confirmed(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--reply", "none")
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            with self.subTest(script):
                client = self.client(script, "127.0.0.1", port, "--timeout", "1000", "-m", f"by {script}")
                server.wait_for(f"by {script}$")
                client.signal(signal.SIGINT)
                self.assert_one_line_error(client, f"1 message was not confirmed.*: by {script}", 130)

    @IS_LINUX
    def test_a_client_interrupted_while_it_connects(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            for _ in range(4):
                filler = socket.socket()
                self.addCleanup(filler.close)
                filler.setblocking(False)
                filler.connect_ex(address)
            client = self.client("tcp_client.py", *address, "--timeout", "1000")
            remote = f"0100007F:{address[1]:04X} 02"  # its connection, in the state SYN_SENT
            wait_until(lambda: connects(client, remote), "the client connects")
            client.signal(signal.SIGINT)
            self.assertEqual((client.wait(), client.errors), (130, ""))

    def test_a_terminated_client(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port)
        client.type("Hello\n")
        client.wait_for("received: Hello$")
        client.signal(signal.SIGTERM)
        self.assertEqual((client.wait(), client.errors), (128 + signal.SIGTERM, ""))
        server.wait_for("Disconnected")

    def test_a_reset_after_the_last_word_is_no_trouble(self) -> None:
        """A client that closes with something unread resets the connection, as one may that speaks TLS."""
        server = self.server("tcp_server.py")
        connected = self.connect(server.port)
        name = f"127.0.0.1:{connected.getsockname()[1]}"
        connected.sendall(b"hello\nterminate\n")
        self.assertEqual(receive_all(connected), b"Message received: hello\n")
        reset(connected)
        server.wait_for(f"Disconnected: {name}$")


class BusyPorts(TestCase):
    """A port that somebody has, had, or may not have."""

    def test_a_busy_port_is_refused_with_a_cure(self) -> None:
        for script in SERVERS:
            with self.subTest(script):
                port = self.server(script).port
                second = self.start(sys.executable, script, port)
                self.assert_one_line_error(second, rf"port {port} is in use; stop .* or choose another port")
                self.assertEqual(second.output, "")

    def test_a_busy_udp_port_stops_both(self) -> None:
        port = self.server("udp_server.py").port
        second = self.start(sys.executable, "tcp_server.py", 0, "--udp-port", port)
        self.assert_one_line_error(second, rf"port {port} is in use")

    def test_tcp_and_udp_may_have_the_same_port(self) -> None:
        server = self.server("tcp_server.py")
        self.assertEqual(self.server("udp_server.py", port=server.port).port, server.port)

    def test_a_tcp_server_restarts_at_once_on_its_old_port(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.sendall(b"terminate\n")  # the server closes first: its side stays in TIME_WAIT
        self.assertEqual(receive_all(raw), b"")
        raw.close()
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "exit")
        self.assertEqual((client.wait(), server.wait()), (0, 0))
        again = self.server("tcp_server.py", port=server.port)
        self.assertEqual(again.port, server.port)

    @IS_LINUX
    def test_a_port_that_needs_rights(self) -> None:
        port = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) - 1
        if port < 1:
            self.skipTest("every port is free for all here")
        drop = (
            "import ctypes, os, sys; "
            "ctypes.CDLL(None).prctl(24, 10, 0, 0, 0); "  # PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE: takes it from root
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        for script in SERVERS:
            with self.subTest(script):
                server = self.start(sys.executable, "-c", drop, script, port)
                self.assert_one_line_error(server, rf"port {port} needs more rights; choose one of 1024 or above")


class CommandLines(TestCase):
    """What is wrong with a command line is said in one line, with exit code 2; what is wrong elsewhere, with 1."""

    def assert_usage_errors(self, cases: list[tuple[str, str]]) -> None:
        """Check that each (command line, pattern) ends with 2 and one line on standard error, in this process."""
        for command, pattern in cases:
            script, *arguments = command.split()
            said = io.StringIO()
            with self.subTest(command), mock.patch("sys.argv", [script, *arguments]):
                with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
                    common.run(importlib.import_module(Path(script).stem).main)
                self.assertEqual(ended.exception.code, 2)
                self.assertRegex(said.getvalue(), rf"\A{script}: error: .*{pattern}.*\n\Z")

    def assert_all_fail(self, cases: list[tuple[str, str]], code: int) -> None:
        """Check the exit code and the one line on standard error of each (command line, pattern)."""
        processes = [self.start(sys.executable, *command.split(), stdin=subprocess.DEVNULL) for command, _ in cases]
        for process, (command, pattern) in zip(processes, cases):
            with self.subTest(command):
                self.assert_one_line_error(process, pattern, code)
                self.assertTrue(process.errors.startswith(command.split()[0] + ": error: "))
                self.assertEqual(process.output, "")

    def test_a_wrong_command_line(self) -> None:
        cases = [("tcp_server.py 70000", "PORT.*70000"), ("udp_server.py abc", "PORT.*abc")]
        cases += [("tcp_client.py 127.0.0.1:", "PORT"), ("udp_client.py 127.0.0.1 9000 --what", "--what")]
        self.assert_all_fail(cases, 2)

    def test_ports(self) -> None:
        cases = [(f"{script} {port}", f"PORT.*{port}") for script in SERVERS for port in ("70000", "abc", "65536")]
        cases += [
            (f"{script} 127.0.0.1 {port}", f"PORT.*{port}") for script in CLIENTS for port in ("70000", "abc", "0")
        ]
        cases += [("tcp_server.py 0 --udp-port 70000", "--udp-port.*70000")]
        cases += [("tcp_client.py 127.0.0.1 9000 --udp-port x", "--udp-port.*'x'")]
        self.assert_usage_errors(cases)

    def test_missing_and_unknown_arguments(self) -> None:
        cases = [(f"{script} 127.0.0.1 9000 --quiet", "--quiet") for script in CLIENTS]
        cases += [(f"{script} 0 --verbose", "--verbose") for script in SERVERS]
        cases += [(f"{script} 0 extra", "extra") for script in SERVERS]
        cases += [("udp_client.py 127.0.0.1 9001 --no-reply --retries 3", "--retries needs replies")]
        cases += [("tcp_client.py 127.0.0.1 9000 --no-reply --reconnect", "--reconnect needs replies")]
        self.assert_usage_errors(cases)

    def test_tls_is_never_left_out_in_silence(self) -> None:
        client, server = "tcp_client.py 127.0.0.1 9000", "tcp_server.py 0"
        cases = [(f"{client} --tls-ca x", "need --tls"), (f"{client} --tls-cert x --tls-key y", "need --tls")]
        cases += [(f"{script} --tls-cert x", "--tls-cert and --tls-key") for script in (client, server)]
        cases += [(f"{server} --tls-ca x", "--tls-ca needs --tls-cert and --tls-key")]
        cases += [
            (f"{client} --tls --udp-port 1", "in clear"),
            (f"{server} --udp-port 1 --tls-cert x --tls-key y", "in clear"),
        ]
        self.assert_usage_errors(cases)

    def test_values(self) -> None:
        cases = [
            ("tcp_server.py 0 --reply loudly", "--reply.*loudly"),
            ("tcp_server.py 0 --exit-from me", "--exit-from.*me"),
            ("tcp_server.py 0 --max-message 0", "--max-message.*'0'"),
            ("udp_server.py 0 --max-message 65508", "--max-message.*65508.*65507"),
            ("tcp_server.py 0 --max-clients none", "--max-clients.*none"),
            ("tcp_server.py 0 --idle-timeout -1", "--idle-timeout"),
            ("tcp_server.py 0 --idle-timeout nan", "--idle-timeout.*nan"),
            ("tcp_client.py 127.0.0.1 9000 --timeout 0", "--timeout.*'0'"),
            ("udp_client.py 127.0.0.1 9000 --timeout soon", "--timeout.*soon"),
            ("udp_client.py 127.0.0.1 9000 --timeout inf", "--timeout.*inf"),
            ("udp_client.py 127.0.0.1 9000 -m", "-m"),
        ]
        self.assert_usage_errors(cases)

    def test_hosts_that_do_not_resolve(self) -> None:
        long_name = "x" * 64 + ".invalid"
        cases = [(f"{script} --host {host} 0", host) for script in SERVERS for host in ("nowhere.invalid", long_name)]
        cases += [(f"{script} {host} 9 -m x", host) for script in CLIENTS for host in ("nowhere.invalid", long_name)]
        self.assert_all_fail([(command, f"cannot find host {host}: .*; check") for command, host in cases], 1)

    def test_an_address_of_another_machine(self) -> None:
        pattern = r"cannot listen on 192\.0\.2\.1:\d+: this machine has no such address"
        self.assert_all_fail([(f"{script} --host 192.0.2.1 0", pattern) for script in SERVERS], 1)

    def test_version_and_help(self) -> None:
        for script in (*SERVERS, *CLIENTS):
            with self.subTest(script):
                version, usage = (self.start(sys.executable, script, option) for option in ("--version", "--help"))
                self.assertEqual((version.wait(), version.errors), (0, ""))
                self.assertRegex(version.output, rf"\A{script} \d+\.\d+\n\Z")
                self.assertEqual((usage.wait(), usage.errors), (0, ""))
                self.assertRegex(usage.output, rf"\Ausage: {script} (.*\n)+examples .*:\n  python3 {script} ")


class Addresses(TestCase):
    """Servers and clients on addresses of all kinds."""

    def assert_they_talk(self, server: Server, host: str, shown: str) -> None:
        """Check that both clients reach a server of both protocols at an address, and how theirs is shown."""
        ports = (server.port, server.udp_port)
        clients = [self.client(script, host, port, "-m", f"to {host}") for script, port in zip(CLIENTS, ports)]
        for protocol, client in zip(("TCP", "UDP"), clients):
            with self.subTest(protocol, host=host):
                self.assertEqual(
                    (client.wait(), client.errors, client.output), (0, "", f"Message received: to {host}\n")
                )
                peer = server.wait_for(rf"^\[{protocol} Server\] Received from (.*):\d+: to {re.escape(host)}$")[1]
                self.assertEqual(peer, shown)

    def test_ipv4(self) -> None:
        server = self.server("tcp_server.py", "--host", "0.0.0.0", "--udp-port", 0)
        self.assert_they_talk(server, "127.0.0.1", "127.0.0.1")

    @HAS_IPV6
    def test_ipv6(self) -> None:
        server = self.server("tcp_server.py", "--host", "::1", "--udp-port", 0)
        self.assert_they_talk(server, "::1", "[::1]")

    @HAS_IPV6
    def test_both_families_on_one_socket(self) -> None:
        server = self.server("tcp_server.py", "--host", "::", "--udp-port", 0)
        self.assert_they_talk(server, "::1", "[::1]")
        self.assert_they_talk(server, "127.0.0.1", "127.0.0.1")

    def test_localhost(self) -> None:
        server = self.server("tcp_server.py", "--host", "localhost", "--udp-port", 0)
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            client = self.client(script, "localhost", port, "-m", "Hello")
            self.assertEqual((client.wait(), client.output), (0, "Message received: Hello\n"), client.errors)

    @HAS_IPV6
    def test_where_a_server_listens_is_shown(self) -> None:
        for options, shown in (
            ((), r"127\.0\.0\.1"),  # nobody outside is served unless that is asked for
            (("--host", "::1"), r"\[::1\]"),
            (("--host", "::"), r"\[::\]"),
        ):
            with self.subTest(options):
                server = self.server("tcp_server.py", *options, "--udp-port", 0)
                for protocol, port in (("TCP", server.port), ("UDP", server.udp_port)):
                    self.assertRegex(server.output, rf"(?m)^\[{protocol} Server\] Listening on {shown}:{port}\.$")

    @HAS_IPV6
    def test_errors_show_ipv6_addresses_in_brackets(self) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
            client = self.client("tcp_client.py", "::1", port, "-m", "Hello")
            self.assert_one_line_error(client, rf"cannot connect to \[::1\]:{port}: connection refused")
        server = self.server("tcp_server.py", "--host", "::1")
        second = self.start(sys.executable, "tcp_server.py", "--host", "::1", server.port)
        self.assert_one_line_error(second, rf"cannot listen on \[::1\]:{server.port}: port {server.port} is in use")

    @HAS_IPV6
    def test_exit_is_local_over_either_family(self) -> None:
        for host in ("127.0.0.1", "::1"):
            for script in SERVERS:
                with self.subTest(script, host=host):
                    server = self.server(script, "--host", "::")
                    open_socket = self.connect if script == "tcp_server.py" else self.datagrams
                    with open_socket(server.port, host) as raw:
                        raw.sendall(b"exit\n")
                        self.assertEqual(raw.recv(100), b"Server shutting down...\n")
                    self.assertEqual(server.wait(), 0)

    RESOLVING = """
import runpy, socket, sys
real = socket.getaddrinfo
hosts = {b"several.test": ["::1", "127.0.0.1"], b"wrong.test": ["::1", "::1"]}
def several(host, *rest, **options):
    return [found for name in hosts.get(host, [host]) for found in real(name, *rest, **options)]
socket.getaddrinfo = several
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    """Runs a script in a world in which `several.test` has an address with a server and, before it, one without."""

    @HAS_IPV6
    def test_each_address_of_a_name_is_tried(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            with self.subTest(script):
                command = (sys.executable, "-c", self.RESOLVING, script, "several.test", port, "-m", "one", "-m", "two")
                client = self.start(*command)
                self.assertEqual((client.wait(), client.errors), (0, ""))
                self.assertEqual(client.output, "Message received: one\nMessage received: two\n")

    @HAS_IPV6
    def test_what_needs_no_confirmation_goes_to_the_next_address_too(self) -> None:
        server = self.server("udp_server.py")
        for options, received in (
            (("--no-reply", "-m", "one", "-m", "two"), "Received from .*: one\n(.*\n)*.*Received from .*: two$"),
            (("-m", "exit"), "Shutdown command received"),
        ):
            command = (sys.executable, "-c", self.RESOLVING, "udp_client.py", "several.test", server.port, *options)
            client = self.start(*command)
            self.assertEqual((client.wait(), client.errors), (0, ""))
            server.wait_for(received)

    WITHOUT_IPV6 = """
import runpy, socket, sys
class Socket(socket.socket):
    def __init__(self, family=socket.AF_INET, *rest, **options):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        super().__init__(family, *rest, **options)
socket.socket = Socket
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    """Runs a script in a world in which the kernel knows nothing of IPv6."""

    def test_a_system_without_ipv6(self) -> None:
        for script in (*SERVERS, *CLIENTS):
            with self.subTest(script):
                arguments = ("--host", "::1", 0) if script in SERVERS else ("::1", 9, "-m", "Hello")
                process = self.start(sys.executable, "-c", self.WITHOUT_IPV6, script, *arguments)
                self.assert_one_line_error(process, r"\[::1\]:\d+: Address family not supported by protocol")

    @HAS_IPV6
    def test_a_name_without_a_server_at_any_address(self) -> None:
        port = free_port()
        client = self.start(sys.executable, "-c", self.RESOLVING, "tcp_client.py", "wrong.test", port, "-m", "Hello")
        self.assert_one_line_error(client, rf"(\[::1\]:{port}: connection refused.*){{2}}")
        port = free_port(socket.SOCK_DGRAM)
        client = self.start(sys.executable, "-c", self.RESOLVING, "udp_client.py", "wrong.test", port, "-m", "Hello")
        self.assert_one_line_error(client, rf"\[::1\]:{port}: nobody listens there")

    @IS_LINUX
    def test_a_udp_reply_leaves_from_the_address_that_the_message_was_sent_to(self) -> None:
        for host in ("0.0.0.0", *(["::"] if has_ipv6() else [])):
            with self.subTest(host):
                server = self.server("udp_server.py", "--host", host, "--reply", "relay")
                peers = [self.datagrams(server.port, f"127.0.0.{number}") for number in (1, 2, 3)]
                for peer in peers:
                    peer.send(b"hello")
                    self.assertEqual(peer.recv(100), b"Message received: hello")  # it hears no other address
                for peer, later in zip(peers, (2, 1, 0)):
                    for _ in range(later):
                        self.assertRegex(peer.recv(100), rb"^127\.0\.0\.1:\d+: hello$")
                server.type("typed\n")
                for peer in peers:
                    self.assertEqual(peer.recv(100), b"typed")

    @IS_LINUX
    def test_a_tcp_server_on_one_address_is_not_on_another(self) -> None:
        server = self.server("tcp_server.py")
        with socket.socket() as raw:
            self.assertEqual(raw.connect_ex(("127.0.0.2", server.port)), errno.ECONNREFUSED)


if __name__ == "__main__":
    unittest.main()
