"""Interoperation: the tools that people have are clients of both servers, and servers for both clients."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import unittest
from pathlib import Path

from support import Process, TestCase, free_port, needs

NETCAT_IS_OPENBSD = unittest.skipUnless(
    Path(shutil.which("nc") or "/nc").resolve().name == "nc.openbsd", "nc is missing, or another one"
)
REPLIES = "Message received: one\nMessage received: two\nMessage received: and unfinished\n"
TYPED = "one\ntwo\nand unfinished"


def end_group(leader: int) -> None:
    """Kill a program and all that it started: for datagrams a tool may start programs that see no end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class TcpTools(TestCase):
    """nc, ncat, socat and telnet talk to the TCP server."""

    def setUp(self) -> None:
        self.tcp = self.server("tcp_server.py")

    def run_tool(self, *command: object, typed: str = TYPED) -> Process:
        """Run a tool to its end with piped input."""
        tool = self.start(*command)
        tool.type(typed)
        tool.end_input()
        tool.wait()
        return tool

    def assert_a_session(self, tool: Process, line_ending: str = "\n") -> None:
        """Check a conversation with a tool whose input stays open: replies, a line typed at the server, goodbye."""
        for text in ("Hello server!", "Grüße"):
            tool.type(f"{text}\n")
            tool.wait_for(f"Message received: {text}{line_ending}")
            self.tcp.wait_for(rf"Received from 127\.0\.0\.1:\d+: {text}$")
        self.tcp.type("Hi there, client!\n")
        tool.wait_for("^Hi there, client!\r?$")
        tool.type("terminate\n")
        self.tcp.wait_for("Disconnected")

    @NETCAT_IS_OPENBSD
    def test_nc(self) -> None:
        tool = self.run_tool("nc", "-N", "127.0.0.1", self.tcp.port)
        self.assertEqual((tool.wait(), tool.output), (0, REPLIES))
        session = self.start("nc", "127.0.0.1", self.tcp.port)
        self.assert_a_session(session)
        session.end_input()
        self.assertEqual(session.wait(), 0)

    @NETCAT_IS_OPENBSD
    def test_nc_with_crlf(self) -> None:
        tool = self.run_tool("nc", "-N", "-C", "127.0.0.1", self.tcp.port, typed="one\ntwo\n")
        self.assertEqual(tool.raw_output, b"Message received: one\r\nMessage received: two\r\n")

    @NETCAT_IS_OPENBSD
    def test_nc_says_exit(self) -> None:
        tool = self.run_tool("nc", "-N", "127.0.0.1", self.tcp.port, typed="one\nexit\n")
        self.assertEqual(tool.output, "Message received: one\nServer shutting down...\n")
        self.assertEqual(self.tcp.wait(), 0)

    @NETCAT_IS_OPENBSD
    def test_nc_only_looks_whether_the_port_is_open(self) -> None:
        tool = self.start("nc", "-z", "-v", "127.0.0.1", self.tcp.port)
        self.assertEqual(tool.wait(), 0)
        self.tcp.wait_for("Disconnected")
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", self.tcp.port, "-m", "one").wait(), 0)

    @needs("ncat")
    def test_ncat(self) -> None:
        tool = self.run_tool("ncat", "127.0.0.1", self.tcp.port)
        self.assertEqual((tool.wait(), tool.output), (0, REPLIES))
        session = self.start("ncat", "127.0.0.1", self.tcp.port)
        self.assert_a_session(session)
        session.end_input()
        self.assertEqual(session.wait(), 0)

    @needs("ncat")
    def test_ncat_with_crlf(self) -> None:
        tool = self.run_tool("ncat", "-C", "127.0.0.1", self.tcp.port, typed="one\ntwo\n")
        self.assertEqual(tool.raw_output, b"Message received: one\r\nMessage received: two\r\n")

    @needs("socat")
    def test_socat(self) -> None:
        tool = self.run_tool("socat", "-t20", "-", f"TCP:127.0.0.1:{self.tcp.port}")
        self.assertEqual((tool.wait(), tool.output), (0, REPLIES))
        session = self.start("socat", "-", f"TCP:127.0.0.1:{self.tcp.port}")
        self.assert_a_session(session)
        self.assertEqual(session.wait(), 0)

    @needs("telnet")
    def test_telnet(self) -> None:
        tool = self.start("telnet", "127.0.0.1", self.tcp.port)
        tool.wait_for("^Connected to ")
        self.assert_a_session(tool, "\r?\n")
        tool.wait()
        self.assertIn("Connection closed by foreign host", tool.output + tool.errors)


class UdpTools(TestCase):
    """nc, ncat and socat talk to the UDP server."""

    def setUp(self) -> None:
        self.udp = self.server("udp_server.py")

    def assert_a_session(self, tool: Process) -> None:
        """Check a conversation with a tool that sends each line as a datagram; `exit` ends the server."""
        for text in ("Hello server!", "Grüße"):
            tool.type(f"{text}\n")
            tool.wait_for(f"^Message received: {text}\n")
            self.udp.wait_for(rf"^\[UDP Server\] Received from 127\.0\.0\.1:\d+: {text}$")
        self.udp.type("Hi there, client!\n")
        tool.wait_for("^Hi there, client!\n")
        tool.type("exit\n")
        tool.wait_for(r"^Server shutting down\.\.\.\n\Z")
        self.assertEqual(self.udp.wait(), 0)

    @NETCAT_IS_OPENBSD
    def test_nc(self) -> None:
        self.assert_a_session(self.start("nc", "-u", "127.0.0.1", self.udp.port))

    @needs("ncat")
    def test_ncat(self) -> None:
        self.assert_a_session(self.start("ncat", "-u", "127.0.0.1", self.udp.port))

    @needs("socat")
    def test_socat(self) -> None:
        self.assert_a_session(self.start("socat", "-", f"UDP:127.0.0.1:{self.udp.port}"))

    @needs("socat")
    def test_socat_with_piped_input(self) -> None:
        tool = self.start("socat", "-t20", "-", f"UDP:127.0.0.1:{self.udp.port}")
        tool.type("no line ending")
        tool.end_input()
        tool.wait_for(r"\AMessage received: no line ending\Z")


class EchoServers(TestCase):
    """Our clients talk to servers that give back what they get."""

    def listening(self, *command: object, port: int = 0) -> int:
        """Start a tool that listens and says so; return its port, which is `port` unless it chose one itself."""
        tool = self.start(*command, start_new_session=True)
        self.addCleanup(end_group, tool.popen.pid)
        said = tool.wait_for_error(r"(?:[Ll]istening|receiving) on .*?:(\d+)$")
        return port or int(said[1])

    def assert_echoed(self, script: str, port: int) -> None:
        """Check what comes back when our client pipes many lines, sends one message, and talks."""
        lines = [f"line {number}" for number in range(50)]
        piped = self.run_client(script, "127.0.0.1", port, "--stats", typed="\n".join([*lines, "last"]))
        self.assertEqual(piped.wait(), 0, piped.errors)
        self.assertEqual(piped.output.splitlines(), [*lines, "last"])
        self.assertRegex(piped.errors, r"\A51 sent, 51 confirmed, 0 lost; ")
        self.assert_echoed_one_by_one(script, port)

    def assert_echoed_one_by_one(self, script: str, port: int) -> None:
        """Check what comes back when our client sends one message, and talks."""
        one_shot = self.client(script, "127.0.0.1", port, "-m", "Hello Server !")
        self.assertEqual((one_shot.wait(), one_shot.errors, one_shot.output), (0, "", "Hello Server !\n"))
        talking = self.client(script, "127.0.0.1", port)
        for text in ("one", "Grüße"):
            talking.type(f"{text}\n")
            talking.wait_for(rf"^{re.escape(text)}\n\Z")
        talking.end_input()
        self.assertEqual((talking.wait(), talking.errors), (0, ""))

    @needs("ncat")
    def test_ncat_over_tcp(self) -> None:
        port = free_port()
        self.listening("ncat", "-v", "-l", "-k", "-e", "/bin/cat", "127.0.0.1", port, port=port)
        self.assert_echoed("tcp_client.py", port)

    @needs("ncat")
    def test_ncat_over_udp(self) -> None:
        port = free_port(socket.SOCK_DGRAM)
        self.listening("ncat", "-v", "-u", "-l", "-k", "-e", "/bin/cat", "127.0.0.1", port, port=port)
        self.assert_echoed_one_by_one("udp_client.py", port)  # of many at once it makes one datagram

    @needs("socat")
    def test_socat_over_tcp(self) -> None:
        for echo in ("PIPE", "EXEC:cat"):
            with self.subTest(echo):
                port = self.listening("socat", "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork", echo)
                self.assert_echoed("tcp_client.py", port)

    @needs("socat")
    def test_socat_over_udp(self) -> None:
        port = self.listening("socat", "-d", "-d", "UDP-LISTEN:0,bind=127.0.0.1,fork", "PIPE")
        self.assert_echoed_one_by_one("udp_client.py", port)

    @needs("socat")
    def test_socat_over_udp_a_process_a_datagram(self) -> None:
        port = free_port(socket.SOCK_DGRAM)
        self.start("socat", "-d", "-d", f"UDP-RECVFROM:{port},bind=127.0.0.1,fork", "PIPE").wait_for_error(
            "receiving on"
        )
        lines = [f"line {number}" for number in range(20)]
        client = self.run_client("udp_client.py", "127.0.0.1", port, "--timeout", "20", typed="\n".join(lines))
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(sorted(client.output.splitlines()), sorted(lines))

    @NETCAT_IS_OPENBSD
    def test_a_person_with_nc_answers(self) -> None:
        for options, script, kind in (
            ((), "tcp_client.py", socket.SOCK_STREAM),
            (("-u",), "udp_client.py", socket.SOCK_DGRAM),
        ):
            with self.subTest(script):
                port = free_port(kind)
                person = self.start("nc", "-v", "-n", *options, "-l", "127.0.0.1", port)
                person.wait_for_error("Listening on|Bound on")
                client = self.client(script, "127.0.0.1", port, "--no-reply")
                client.type("Anybody there?\n")
                person.wait_for("^Anybody there[?]$")
                person.type("I am.\n")
                client.wait_for(r"\AI am\.\n\Z")
                client.type("terminate\n")
                self.assertEqual((client.wait(), client.errors), (0, ""))
                person.wait_for("terminate$")


if __name__ == "__main__":
    unittest.main()
