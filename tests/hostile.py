"""What the tests of hostile peers and hostile servers share: texts, bad manners, and looks into the kernel."""

from __future__ import annotations

import functools
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

from support import (
    PATIENCE,
    Process,
    Server,
    TestCase,
    free_port,
    receive_lines,
    wait_until,
)

SEED = 3
MIB = 1 << 20
on_linux = unittest.skipUnless(sys.platform == "linux", "looks into /proc, and uses all of 127.0.0.0/8")
as_root = unittest.skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "needs root")
CONFIRMATION = b"Message received: "
SERVERS_REPLIES = [
    b"Message received: ",
    b"Message received: hello",
    b"Message received: Message received: hello\n",
    b"Server shutting down...",
    b"Server shutting down...\r\n",
    b"Error: message longer than 65507 bytes",
    b"Error: the server is full (10000 clients)\n",
    b"Error: 'exit' is not obeyed from 127.0.0.1:9000",
    b"Error: the message could not be saved",
]
NASTY = {
    "an escape sequence": ("\x1b[2J\x1b[1;1H", r"\x1b[2J\x1b[1;1H"),
    "a terminal's title": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "a carriage return": ("ok\rforged", r"ok\rforged"),
    "backspaces": ("hide\b\b\b\bseen", r"hide\x08\x08\x08\x08seen"),
    "delete and nul": ("\x7f\x00", r"\x7f\x00"),
    "tab, vertical tab, form feed": ("a\tb\vc\fd", "a\tb" r"\x0bc\x0cd"),
    "C1 controls": ("\x9b31m\x85\x90", r"\x9b31m\x85\x90"),
    "Unicode's line and paragraph ends": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "a bidirectional override": ("abc\u202etxt.exe\u2066", r"abc\u202etxt.exe\u2066"),
    "what can not be seen": ("a\u200b\ufeff\U000e0041z", r"a\u200b\ufeff\U000e0041z"),
}
"""Texts that must not reach a terminal, and how they are shown instead."""


def cpu_seconds(process: Process) -> float:
    """Return the processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset(connected: socket.socket) -> None:
    """Close a connection with a reset in place of the end of the stream."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def round_trips(connected: socket.socket, count: int) -> None:
    """Send messages one by one, each after the reply to the one before."""
    for number in range(count):
        message = b"%d" % number
        connected.sendall(message + b"\n")
        replies = receive_lines(connected, 1)
        assert replies == [CONFIRMATION + message], replies


def fill(connected: socket.socket, data: bytes, most: int) -> int:
    """Send `data` again and again until nobody takes more of it, or `most` bytes; return how many bytes were sent."""
    connected.setblocking(False)
    sent = 0
    while sent < most:
        try:
            sent += connected.send(data[sent % len(data) :])
        except BlockingIOError:
            if not select.select([], [connected], [], 0.3)[1]:
                break
    connected.settimeout(PATIENCE)
    return sent


def kernel_rows(protocol: str, port: int) -> list[list[str]]:
    """Return the rows of /proc/net/tcp or udp whose own port this is."""
    rows = [line.split() for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]]
    return [row for row in rows if int(row[1].rpartition(":")[2], 16) == port]


def random_texts(count: int, longest: int) -> list[bytes]:
    """Return random byte strings, always the same ones, of which none is a word of the protocol."""
    rng = random.Random(SEED)
    starts = [b"", b"", b"", b"terminat\xff", b" exi\x00", b"\x00", b"Error: ", b"\xff\xfe", b"\x1b[", b"\x16\x03\x01"]
    return [
        rng.choice(starts) + rng.getrandbits(8 * longest).to_bytes(longest, "big")[: rng.randint(0, longest)]
        for _ in range(count)
    ]


def receive_first_line(connected: socket.socket) -> bytes:
    """Return the first that arrives, a line at least; b"" at the end."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = connected.recv(4096)
        if not chunk:
            break
        data += chunk
    return data


def receive_lines_at_least(connected: socket.socket, count: int) -> bytes:
    """Return what arrives, `count` lines or more."""
    data = bytearray()
    while data.count(b"\n") < count:
        chunk = connected.recv(MIB)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def strangers(count: int, port: int) -> Iterator[socket.socket]:
    """Yield UDP sockets, connected to a port, each of an address of its own, and closed when the next one is there.

    Their port is one that nobody else is given: what a server goes on sending there must not reach other tests.
    """
    own_port = free_port(socket.SOCK_DGRAM)
    for number in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.settimeout(PATIENCE)
            stranger.bind((f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}", own_port))
            stranger.connect(("127.0.0.1", port))
            yield stranger


class PeerTest(TestCase):
    """A test with hostile peers: whatever they did, the server must have nothing to complain of."""

    def lazy_connection(self, port: int) -> socket.socket:
        """Return a TCP connection with next to no room for what is not read."""
        connecting = socket.socket()
        self.addCleanup(connecting.close)
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connecting.settimeout(PATIENCE)
        connecting.connect(("127.0.0.1", port))
        return connecting

    @staticmethod
    def _has_begun(process: Process) -> bool:
        return bool(process.output) or process.popen.poll() is not None

    def two_machines(self) -> tuple[list[str], list[str]]:
        """Return what runs a command on each of two machines that are joined by a cable: 10.9.8.N and fd09::N."""
        for tool in ("unshare", "nsenter", "ip"):
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not installed")
        holders = [self.start("unshare", "-n", "sh", "-c", "echo here; exec cat") for _ in range(2)]
        machines = [["nsenter", "-n", "-t", str(holder.popen.pid)] for holder in holders]
        for holder in holders:  # each ends with its standard input
            wait_until(functools.partial(self._has_begun, holder), "a network namespace")
        commands = [
            [*machines[0], "ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1"],
            [*machines[0], "ip", "link", "set", "cable1", "netns", str(holders[1].popen.pid)],
        ]
        for number, machine in enumerate(machines):
            no_doubt = f"echo 0 > /proc/sys/net/ipv6/conf/cable{number}/accept_dad"  # that an address is free takes 2 s
            commands += [
                [*machine, "sh", "-c", no_doubt],
                [*machine, "ip", "address", "add", f"10.9.8.{number + 1}/24", "dev", f"cable{number}"],
                [*machine, "ip", "address", "add", f"fd09::{number + 1}/64", "dev", f"cable{number}", "nodad"],
                [*machine, "ip", "link", "set", f"cable{number}", "up"],
                [*machine, "ip", "link", "set", "lo", "up"],
            ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                self.skipTest(f"no network namespaces here: {done.stderr.decode()}")
        return machines[0], machines[1]

    def assert_well(self, server: Server) -> None:
        """Check that a server still serves newcomers and has told of no problem."""
        if server.protocol == "TCP":
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as newcomer:
                newcomer.sendall(b"are you well?\n")
                self.assertIn(b"are you well?", receive_lines(newcomer, 1)[0])
        else:
            newcomer = self.datagrams(server.port)
            newcomer.send(b"are you well?")
            self.assertIn(b"are you well?", newcomer.recv(65536))
        self.assertEqual(server.errors, "")
        self.assertIsNone(server.popen.poll())

    def assert_clean_record(self, server: Server) -> None:
        """Check that every line of the record is one that the server made, of printable characters alone."""
        server.wait_for("are you well")
        for line in server.output.split("\n")[:-1]:
            self.assertTrue(line.startswith((f"[{server.protocol} Server] ", "Type a line ")), line)
            self.assertTrue(re.sub("[\u00a0\t]", " ", line).isprintable(), ascii(line))


def has_ipv6() -> bool:
    """Tell whether this machine can be reached at ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
