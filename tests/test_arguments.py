"""Where clients go: HOST and PORT as people write them, texts with a dash, `--source`, `-4` and `-6`."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import socket
import sys
import unittest
from unittest import mock

from hostile import has_ipv6, on_linux
from support import TestCase, free_port, receive_lines, wait_until

from arguments import add_arguments, host_and_port, parse_arguments, sources, split, take_texts
from common import Parser
from reaching import in_words

CLIENTS = ("tcp_client.py", "udp_client.py")
HAS_IPV6 = unittest.skipUnless(has_ipv6(), "this system has no IPv6")
FOUR, SIX = socket.AF_INET, socket.AF_INET6


def parsed(command: str) -> argparse.Namespace:
    """Return what a client makes of its arguments."""
    parser = Parser("[HOST] [PORT]", "A client.")
    add_arguments(parser, 65432)
    with mock.patch("sys.argv", ["client.py", *shlex.split(command)]):
        return parse_arguments(parser, 65432)


class Places(TestCase):
    """What the arguments HOST and PORT may be."""

    def test_forms(self) -> None:
        for command, host, port in (
            ("", "127.0.0.1", 65432),
            ("9000", "127.0.0.1", 9000),
            (":9000", "127.0.0.1", 9000),
            ("there.test", "there.test", 65432),
            ("there.test 9000", "there.test", 9000),
            ("there.test:9000", "there.test", 9000),
            ("127.0.0.2:9000", "127.0.0.2", 9000),
            ("::1", "::1", 65432),
            ("::1 9000", "::1", 9000),
            ("[::1]", "::1", 65432),
            ("[::1] 9000", "::1", 9000),
            ("[::1]:9000", "::1", 9000),
            ("[fe80::b%eth0] 9000", "fe80::b%eth0", 9000),
            ("fe80::b%eth0", "fe80::b%eth0", 65432),
            ("1234 9000", "1234", 9000),
            ("-6", "::1", 65432),
            ("-6 9000", "::1", 9000),
            ("--source ::1", "::1", 65432),
            ("-4 --source :1024", "127.0.0.1", 65432),
            ("there.test -m one 9000 --stats", "there.test", 9000),
            ("--stats there.test -4 -m one 9000", "there.test", 9000),
            ("-m one -- there.test 9000", "there.test", 9000),
        ):
            with self.subTest(command):
                options = parsed(command)
                self.assertEqual((options.host, options.port), (host, port))

    def test_what_is_no_place(self) -> None:
        for command, problem in (
            ("0", "'0' is not a whole number from 1 to 65535"),
            ("70000", "'70000' is not"),
            ("there.test http", "'http' is not"),
            ("there.test:", "'' is not"),
            ("there.test:http", "'http' is not"),
            ("there.test:1 2", "there.test:1 has a port, and 2 is a second one; leave out one"),
            ("'' 9000", "the host's name is empty"),
            ("[::1 9000", r"'\[::1' is not \[ADDRESS\] or \[ADDRESS\]:PORT"),
            ("[::1]9000", r"'\[::1\]9000' is not"),
            ("a b c", "unrecognized arguments: c"),
            ("--source 5000", "argument --source: '5000' is not ADDRESS, ADDRESS:PORT or :PORT"),
            ("--source ''", "argument --source: '' is not ADDRESS"),
            ("--source there.test:1", "argument --source: 'there.test:1' is not"),
            ("--source 127.0.0.1:70000", "argument --source: '70000' is not a whole number"),
            ("-6 --source 127.0.0.1", "argument --source: its address is not of the family that -4 or -6 says"),
            ("-4 -6", "argument -6: not allowed with argument -4"),
        ):
            said = io.StringIO()
            with self.subTest(command), contextlib.redirect_stderr(said):
                with self.assertRaises(SystemExit) as ended:
                    parsed(command)
                self.assertEqual(ended.exception.code, 2)
                self.assertRegex(said.getvalue(), rf"\A.*error: .*{problem}.*\n\Z")

    def test_parts(self) -> None:
        self.assertEqual(host_and_port(None, None), ("", None))
        self.assertEqual(split("[::1]:"), ("::1", ""))
        self.assertEqual(split("::1"), ("::1", None))

    def test_sources(self) -> None:
        self.assertEqual(sources("127.0.0.2"), {FOUR: ("127.0.0.2", 0)})
        self.assertEqual(sources("127.0.0.2:5000"), {FOUR: ("127.0.0.2", 5000)})
        self.assertEqual(sources("[::1]:5000"), {SIX: ("::1", 5000, 0, 0)})
        self.assertEqual(sources(":5000"), {FOUR: ("0.0.0.0", 5000), SIX: ("::", 5000, 0, 0)})

    def test_families(self) -> None:
        for command, family, own in (
            ("", 0, {FOUR: None, SIX: None}),
            ("-4", FOUR, {FOUR: None}),
            ("-6", SIX, {SIX: None}),
            ("--source 127.0.0.2", FOUR, {FOUR: ("127.0.0.2", 0)}),
            ("-6 --source :5000", SIX, {SIX: ("::", 5000, 0, 0)}),
        ):
            with self.subTest(command):
                options = parsed(command)
                self.assertEqual((options.family, options.source), (family, own))

    def test_what_follows_m_is_text(self) -> None:
        for arguments, others, texts in (
            (["-m", "-5C", "h"], ["h"], ["-5C"]),
            (["--message", "--help"], [], ["--help"]),
            (["--mess", "-m"], [], ["-m"]),
            (["-m", "--", "-m", ""], [], ["--", ""]),
            (["h", "-m"], ["h", "-m"], []),
            (["-mx", "--message=y", "-m=z", "--mess=", "--", "-m", "z"], ["--", "-m", "z"], ["x", "y", "z", ""]),
            (["-m", "a", "--max", "-4", "-m", "b"], ["--max", "-4"], ["a", "b"]),
        ):
            with self.subTest(arguments):
                self.assertEqual(take_texts(arguments), (others, texts))

    def test_a_link_local_address_needs_its_interface(self) -> None:
        error = OSError(22, "Invalid argument")
        self.assertRegex(in_words(error, ("fe80::b", 9, 0, 0)), r"add its interface, as in fe80::b%\w+")
        for address in (("fe80::b", 9, 0, 1), ("2001:db8::1", 9, 0, 0), ("127.0.0.1", 9)):
            self.assertEqual(in_words(error, address), "Invalid argument")


class Clients(TestCase):
    """The same with clients that run."""

    def test_texts_with_a_dash(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        texts = ("-5C", "-12,5", "--help", "--", "-m", "--timeout", "", "-")
        options = [part for text in texts for part in ("-m", text)]
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            with self.subTest(script):
                client = self.client(script, *options, "127.0.0.1", port)
                self.assertEqual((client.wait(), client.errors), (0, ""))
                self.assertEqual(client.output, "".join(f"Message received: {text}\n" for text in texts))

    def test_a_port_alone_and_both_in_one_word(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            for where in (f"{port}", f"127.0.0.1:{port}", f":{port}"):
                with self.subTest(script, where=where):
                    client = self.client(script, where, "-m", "one")
                    self.assertEqual((client.wait(), client.output), (0, "Message received: one\n"), client.errors)

    def test_no_argument_at_all(self) -> None:
        """Each client finds the server of its protocol; where somebody else has these ports, nothing can be tried."""
        servers = [self.start(sys.executable, script) for script in ("tcp_server.py", "udp_server.py")]
        wait_until(lambda: all(server.output or server.errors for server in servers), "they listen, or say why not")
        for script, server, port in zip(CLIENTS, servers, (65432, 65433)):
            if "is in use" not in server.errors:
                with self.subTest(script):
                    self.assertIn(f"Listening on 127.0.0.1:{port}.", server.output)
                    client = self.client(script, "-m", "one")
                    self.assertEqual((client.wait(), client.output), (0, "Message received: one\n"), client.errors)

    @HAS_IPV6
    def test_ipv6_as_the_suite_shows_it(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--host", "::1")
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            for where in (("[::1]", port), (f"[::1]:{port}",), ("-6", port)):
                with self.subTest(script, where=where):
                    client = self.client(script, *where, "-m", "one")
                    self.assertEqual((client.wait(), client.output), (0, "Message received: one\n"), client.errors)

    @on_linux
    def test_source(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--host", "0.0.0.0", "--allow", "127.0.0.2")
        for script, port in zip(CLIENTS, (server.port, server.udp_port)):
            with self.subTest(script):
                own = free_port(socket.SOCK_STREAM if script == "tcp_client.py" else socket.SOCK_DGRAM)
                for source, shown in (("127.0.0.2", r"127\.0\.0\.2:\d+"), (f"127.0.0.2:{own}", f"127.0.0.2:{own}")):
                    text = f"{script} from {source}"
                    client = self.client(script, port, "--source", source, "-m", text)
                    self.assertEqual((client.wait(), client.output), (0, f"Message received: {text}\n"), client.errors)
                    server.wait_for(f"Received from {shown}: {text}$")

    @on_linux
    def test_a_source_port_can_be_used_again_at_once(self) -> None:
        """Also by a client that reconnects, though its last connection still fades away."""
        listener, own = self.listen(), free_port()
        client = self.client("tcp_client.py", listener.getsockname()[1], "--source", f":{own}", "--reconnect")
        client.type("one\n")
        for last in (False, True):
            connected = self.accept(listener)
            self.assertEqual(connected.getpeername()[1], own)
            self.assertEqual(receive_lines(connected, 1), [b"one"])
            if last:
                connected.sendall(b"Message received: one\n")
            else:
                connected.close()
        client.wait_for("^Message received: one$")

    def test_sources_that_can_not_be_used(self) -> None:
        with socket.socket() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
            for script, taken in zip(CLIENTS, (listener, endpoint)):
                taken.bind(("127.0.0.1", 0))
                if taken is listener:
                    listener.listen()
                port = taken.getsockname()[1]
                for source, problem in (
                    ("192.0.2.1", "cannot go out from 192.0.2.1: this machine has no such address; --source takes"),
                    (f"127.0.0.1:{port}", f"cannot go out from 127.0.0.1:{port}: the port is in use; --source takes"),
                ):
                    with self.subTest(script, source=source):
                        client = self.client(script, port, "--source", source, "-m", "one")
                        self.assert_one_line_error(client, problem)

    @HAS_IPV6
    def test_a_source_without_its_interface(self) -> None:
        for script in CLIENTS:
            client = self.client(script, "::1", 9, "--source", "fe80::1", "-m", "one")
            self.assert_one_line_error(client, r"cannot go out from fe80::1: .*add its interface, as in fe80::1%\w+")

    def test_a_family_that_the_host_has_not(self) -> None:
        for script in CLIENTS:
            for options in (("-6", "127.0.0.1"), ("-4", "::1"), ("--source", "127.0.0.1", "::1")):
                with self.subTest(script, options=options):
                    client = self.client(script, *options, 9, "-m", "one")
                    self.assert_one_line_error(client, "cannot find host .*the family that is asked for")
            client = self.client(script, "fe80::1%no-such", 9, "-m", "one")
            self.assert_one_line_error(client, "cannot find host fe80::1%no-such: .*has the interface after the '%'")


if __name__ == "__main__":
    unittest.main()
