"""What the benchmark does to a server beside an ordinary client: talkers, floods, and everything else that costs work.

A table names every attack, with the server's options that it needs. Each is a generator that prepares itself up to its
first `yield`, and then does a little more harm at each step. It runs in a process of its own, which lets everybody else
go first on its core, talks to 127.0.0.1 alone, and ends by itself.

usage: benchmark_attacks.py NAME TCP_PORT UDP_PORT COUNT SECONDS
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Callable

from benchmark_load import AT_ONCE, HOST, Silence, connect_proxied, connect_tcp, connect_tls

CONFIRMATION = b"Message received: "
READY = b"ready\n"
CUT_OFF = b"cut off\n"
READY_WITHIN = 60.0
MOST_SECONDS = 30.0
MOST_STEPS = 1_000_000
MANY = 50
"""How many attack, unless the attack is made by one or by a crowd: as many as the plain talkers that it is held to."""
CROWD = 10_000
LINE = b"The quick brown fox jumps over the lazy dog, and then it rests.\n"
LONG = b"x" * 60_000
ODD = ("".join(map(chr, range(0xE000, 0xF8FF))) * 4).encode()[:60_000]
"""Thousands of different characters that are shown escaped."""
NOT_TEXT = bytes(range(0x80, 0x100)) * 468
CONTROLS = bytes(set(range(32)) - {10}) * 1935
RECORD_OF_GARBAGE = b"\x17\x03\x03\x01\x00" + b"garbage." * 32
"""What looks like a record of TLS."""


@dataclass(frozen=True)
class Target:
    """A server under attack."""

    tcp_port: int
    udp_port: int
    count: int
    kind: str

    def connect(self) -> socket.socket:
        """Return a connection that is through the entrance, if there is one."""
        if self.kind == "proxied":
            return connect_proxied(self.tcp_port)
        if self.kind == "TLS":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return connect_tls(context)(self.tcp_port)
        return connect_tcp(self.tcp_port)


@dataclass(frozen=True)
class Manner:
    """How a client behaves: it sends `says` again and again, as fast as it is taken, so many bytes at once."""

    says: bytes = b""
    portion: int = 1 << 16
    waits_for: int = 0
    """How many confirmations it awaits each time that it has said it; 0: it does not wait."""
    reads: bool = True
    returns: bool = True
    """Whether it comes back when it is cut off; one that does not, never deserves it."""

    def events(self) -> int:
        """Return what it waits for at its socket."""
        pours = self.says and not self.waits_for
        return (select.EPOLLIN if self.reads else 0) | (select.EPOLLOUT if pours else 0)


class Client:
    """One connection, and how it behaves."""

    def __init__(self, connected: socket.socket, manner: Manner) -> None:
        self.socket = connected
        self.manner = manner
        self._at = 0
        self._owed = 0
        self._tail = b""
        connected.setblocking(False)

    def begin(self) -> None:
        """Say something once, if it waits for confirmations."""
        if self.manner.waits_for:
            self._owed = self.manner.waits_for
            self.socket.sendall(self.manner.says)

    def read(self) -> None:
        """Throw away what comes; say it again after the last confirmation. Raises OSError at the end."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError
        if self.manner.waits_for:
            data = self._tail + data
            self._owed -= data.count(CONFIRMATION)
            self._tail = data[1 - len(CONFIRMATION) :]
            if self._owed <= 0:
                self.begin()
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            self.read()

    def write(self) -> None:
        """Send the next portion."""
        says = self.manner.says
        self._at = (self._at + self.socket.send(says[self._at : self._at + self.manner.portion])) % len(says)


class Clients:
    """All connections of an attack."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}

    def add(self, count: int, manner: Manner) -> None:
        """Connect so many, who behave so."""
        added = [Client(self._target.connect(), manner) for _ in range(count)]
        for client in added:
            self._clients[client.socket.fileno()] = client
            self._epoll.register(client.socket.fileno(), manner.events())
            client.begin()

    def work(self) -> Iterator[None]:
        """Do what is to do, without end."""
        while True:
            yield
            for number, event in self._epoll.poll(0.1):
                client = self._clients[number]
                try:
                    if event & ~select.EPOLLOUT:
                        client.read()
                    if event & select.EPOLLOUT:
                        client.write()
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                except OSError:
                    self._replace(number)

    def _replace(self, number: int) -> None:
        client = self._clients.pop(number)
        self._epoll.unregister(number)
        client.socket.close()
        if client.manner.returns:
            with contextlib.suppress(OSError):  # turned away at once
                self.add(1, client.manner)
        else:
            os.write(1, CUT_OFF)


# Kinds of attack


def rest(_: Target) -> Iterator[None]:
    """Do nothing."""
    while True:
        yield
        time.sleep(0.01)


def talk(target: Target, says: bytes = LINE, in_flight: int = 1, count: int = MANY) -> Iterator[None]:
    """Say lines, so many at once, and wait for their confirmations, as honest clients do."""
    clients = Clients(target)
    clients.add(count, Manner(says * in_flight, waits_for=in_flight, returns=False))
    yield from clients.work()


def listen(target: Target) -> Iterator[None]:
    """Read only, at full speed."""
    clients = Clients(target)
    clients.add(target.count, Manner(returns=False))
    yield from clients.work()


def pour(target: Target, says: bytes, reads: bool = True, portion: int = 1 << 16) -> Iterator[None]:
    """Send without waiting for replies."""
    clients = Clients(target)
    clients.add(MANY, Manner(says, portion, reads=reads))
    yield from clients.work()


def pour_datagrams(target: Target, says: bytes) -> Iterator[None]:
    """Send datagrams from a few addresses, without waiting for replies."""
    sockets = [datagrams(target) for _ in range(MANY)]
    while True:
        yield
        for sender in sockets:
            with contextlib.suppress(OSError):
                sender.send(says)


def come_and_go(target: Target, says: bytes = b"", waits: bool = False, enters: bool = False) -> Iterator[None]:
    """Connect, say something, wait for the server to close or not, reset; a few at a time, again and again."""
    yield
    while True:
        came = []
        with contextlib.suppress(OSError):
            for _ in range(AT_ONCE):
                came.append(target.connect() if enters else connect_tcp(target.tcp_port))
                if says:
                    os.write(came[-1].fileno(), says)  # past TLS, if there is any
        for connected in came:
            with contextlib.suppress(OSError):
                if waits:
                    connected.settimeout(1)
                    connected.shutdown(socket.SHUT_WR)
                    while connected.recv(1 << 16):
                        pass
            connected.close()
        yield


def hosts() -> Iterator[str]:
    """Return addresses of this machine, one after the other (Linux has all of 127.0.0.0/8)."""
    for number in itertools.count():
        yield f"127.{1 + number // 62_500 % 250}.{number // 250 % 250}.{1 + number % 250}"


def datagrams(target: Target, host: str = HOST) -> socket.socket:
    """Return a UDP socket of this address that is connected to the server."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((host, 0))
    sender.connect((HOST, target.udp_port))
    sender.setblocking(False)
    return sender


def newcomers(target: Target, says: bytes) -> Iterator[None]:
    """Send each datagram from another address."""
    yield
    for host in hosts():
        with datagrams(target, host) as sender, contextlib.suppress(OSError):
            sender.send(says)
        yield


def strangers(target: Target) -> Iterator[None]:
    """Connect from addresses that may not come in."""
    yield
    for host in hosts():
        with contextlib.suppress(OSError), socket.socket() as connecting:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connecting.settimeout(1)
            connecting.bind((host, 0))
            connecting.connect((HOST, target.tcp_port))
            connecting.recv(1)
        yield


def turned_away(target: Target) -> Iterator[None]:
    """Take every place, and then come again and again."""
    clients = Clients(target)
    with contextlib.suppress(OSError):
        clients.add(MANY, Manner())
    yield from come_and_go(target, waits=True)


def stalled(target: Target, says: bytes) -> Iterator[None]:
    """Connect many times, say the beginning of something, and leave it at that."""
    waiting = [connect_tcp(target.tcp_port) for _ in range(1000)]
    for connected in waiting:
        connected.sendall(says)
    yield from come_and_go(target, says)


# In a room


def crowd(target: Target, then: Callable[[Target], Iterator[None]] = rest) -> Iterator[None]:
    """Join with a datagram each from many addresses; then nobody says anything, or somebody does.

    They join with an `exit` that is not obeyed, which nobody else is told.
    """
    for host in itertools.islice(hosts(), CROWD):
        with datagrams(target, host) as joining:
            joining.settimeout(0.2)
            for _ in range(5):
                joining.send(b"exit")
                with contextlib.suppress(OSError):
                    joining.recv(1024)
                    break
    yield from then(target)


def unreachable(target: Target) -> Iterator[None]:
    """Join from addresses to which nothing can be sent, port 0; then one talks (root)."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number, host in enumerate(itertools.islice(hosts(), 2000)):
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 32, 0, 0, 64, socket.IPPROTO_UDP, 0)
            udp = struct.pack("!HHHH", 0, target.udp_port, 12, 0)
            raw.sendto(ip + socket.inet_aton(host) + socket.inet_aton(HOST) + udp + b"exit", (HOST, 0))
            if number % 50 == 49:
                time.sleep(0.01)
    yield from talk(target, count=1)


def one_pours(target: Target, says: bytes, readers: int = 0, sleepers: int = 0) -> Iterator[None]:
    """Have one send long lines without waiting; others read at full speed, or do not read at all."""
    clients = Clients(target)
    clients.add(readers, Manner(returns=False))
    clients.add(sleepers, Manner(reads=False))
    clients.add(1, Manner(says))
    yield from clients.work()


@dataclass(frozen=True)
class Attack:
    """Who does what to a server of which kind, with which more options."""

    kind: str
    who: str
    what: str
    run: Callable[[Target], Iterator[None]]
    options: str = ""


KINDS = {
    "shown": "--udp-port {udp_port} --exit-from nobody",
    "quiet": "--quiet --udp-port {udp_port} --exit-from nobody",
    "room": "--quiet --udp-port {udp_port} --exit-from nobody --reply relay",
    "saved": "--udp-port {udp_port} --save {folder}/messages.db",
    "proxied": f"--udp-port {{udp_port}} --proxy-from {HOST}",
    "TLS": "--tls-cert {certificate} --tls-key {key}",
}
"""The options of the servers that are attacked."""
ALONE = "alone"
"""The name of the attack by nobody."""
TCP, UDP, VISITS = f"{MANY} TCP clients", f"{MANY} UDP peers", f"connections, {AT_ONCE} at a time"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

ATTACKS = {
    ALONE: Attack("", "nobody", "", rest),
    "plain lines": Attack("shown", TCP, "a line, and wait for its reply", talk),
    "bursts": Attack("shown", TCP, "50 lines, and wait for their replies", partial(talk, in_flight=50)),
    "empty lines": Attack("shown", TCP, "empty lines", partial(pour, says=b"\n" * 2000)),
    "long lines": Attack("shown", TCP, "lines of 60 KB", partial(pour, says=LONG + b"\n")),
    "long and short": Attack(
        "shown", TCP, "a line of 60 KB, 1000 of 1 byte, and again", partial(pour, says=LONG + b"\n" + b"x\n" * 1000)
    ),
    "drops": Attack("shown", TCP, "a line of 60 KB, a byte at a time", partial(pour, says=LONG + b"\n", portion=1)),
    "odd lines": Attack("shown", TCP, "60 KB of thousands of odd characters", partial(pour, says=ODD + b"\n")),
    "control lines": Attack("shown", TCP, "60 KB of control characters", partial(pour, says=CONTROLS + b"\n")),
    "not text": Attack("shown", TCP, "60 KB that are not UTF-8", partial(pour, says=NOT_TEXT + b"\n")),
    "too long": Attack("shown", TCP, "lines over the limit, then the next connection", partial(pour, says=LONG)),
    "exit lines": Attack("shown", TCP, "`exit`, not obeyed", partial(pour, says=b"exit\n" * 1000)),
    "unread": Attack("shown", TCP, "lines, without reading a reply", partial(pour, says=LINE * 500, reads=False)),
    "resets": Attack("shown", VISITS, "nothing but a reset", come_and_go),
    "visits": Attack(
        "shown",
        VISITS,
        "an unfinished line, half-close",
        partial(come_and_go, says=b"x", waits=True),
    ),
    "goodbyes": Attack("shown", VISITS, "`terminate`", partial(come_and_go, says=b"terminate\n", waits=True)),
    "turned away": Attack("shown", "more than there is room for", "come again", turned_away, "--max-clients 50"),
    "strangers": Attack("shown", "connections", "from outside `--allow`", strangers, f"--allow {HOST}"),
    "stranger datagrams": Attack(
        "shown", "UDP peers", "from outside `--allow`, 60 KB", partial(newcomers, says=ODD), f"--allow {HOST}"
    ),
    "plain datagrams": Attack("shown", UDP, "plain datagrams", partial(pour_datagrams, says=LINE)),
    "empty datagrams": Attack("shown", UDP, "empty datagrams", partial(pour_datagrams, says=b"")),
    "odd datagrams": Attack("shown", UDP, "60 KB of thousands of odd characters", partial(pour_datagrams, says=ODD)),
    "control datagrams": Attack("shown", UDP, "60 KB of control characters", partial(pour_datagrams, says=CONTROLS)),
    "ignored datagrams": Attack(
        "shown", UDP, "60 KB of odd characters that begin as a reply", partial(pour_datagrams, says=CONFIRMATION + ODD)
    ),
    "too long datagrams": Attack(
        "shown", UDP, "60 KB, over `--max-message`", partial(pour_datagrams, says=ODD), "--max-message 1000"
    ),
    "exit datagrams": Attack("shown", UDP, "`exit`, not obeyed", partial(pour_datagrams, says=b"exit")),
    "terminate datagrams": Attack("shown", UDP, "`terminate`", partial(pour_datagrams, says=b"terminate")),
    "newcomers": Attack("shown", "UDP peers", "a datagram from each new address", partial(newcomers, says=LINE)),
    "quiet lines": Attack("quiet", TCP, "a line, and wait for its reply", talk),
    "quiet exit": Attack("quiet", UDP, "`exit`, not obeyed", partial(pour_datagrams, says=b"exit")),
    "quiet terminate": Attack("quiet", UDP, "`terminate`", partial(pour_datagrams, says=b"terminate")),
    "quiet ignored": Attack(
        "quiet", UDP, "60 KB of odd characters that begin as a reply", partial(pour_datagrams, says=CONFIRMATION + ODD)
    ),
    "quiet odd lines": Attack("quiet", TCP, "60 KB of thousands of odd characters", partial(pour, says=ODD + b"\n")),
    "quiet resets": Attack("quiet", VISITS, "nothing but a reset", come_and_go),
    "members": Attack("room", TCP, "a line, and wait for its reply", talk),
    "crowd": Attack("room", f"{CROWD:,} UDP peers", "join, and say nothing", crowd),
    "crowd and talker": Attack(
        "room",
        f"{CROWD:,} UDP peers, 1 TCP client",
        "join; 2000 empty lines, and wait for their replies",
        partial(crowd, then=partial(talk, says=b"\n", in_flight=2000, count=1)),
    ),
    "unreachable": Attack("room", "2000 UDP peers, 1 TCP client", "join from port 0; talks", unreachable),
    "room newcomers": Attack("room", "UDP peers", "a datagram from each new address", partial(newcomers, says=LINE)),
    "room empty lines": Attack("room", TCP, "empty lines", partial(pour, says=b"\n" * 2000)),
    "arrivals": Attack(
        "room",
        "2000 TCP clients",
        "come in; 5000 empty lines each, and wait for their replies",
        partial(talk, says=b"\n", in_flight=5000, count=2000),
    ),
    "readers": Attack(
        "room",
        f"1 TCP client, {MANY} members",
        "lines of 60 KB; read at full speed",
        partial(one_pours, says=LONG + b"\n", readers=MANY),
    ),
    "sleepers": Attack(
        "room",
        "1 TCP client, 200 members",
        "lines of 60 KB; never read",
        partial(one_pours, says=LONG + b"\n", sleepers=200),
    ),
    "saved lines": Attack("saved", TCP, "a line, and wait for its reply", talk),
    "saved empty lines": Attack("saved", TCP, "empty lines", partial(pour, says=b"\n" * 2000)),
    "saved long lines": Attack("saved", TCP, "lines of 60 KB", partial(pour, says=LONG + b"\n")),
    "saved not text": Attack("saved", TCP, "60 KB that are not UTF-8", partial(pour, says=NOT_TEXT + b"\n")),
    "saved datagrams": Attack("saved", UDP, "60 KB of odd characters", partial(pour_datagrams, says=ODD)),
    "proxied lines": Attack("proxied", TCP, "a line, and wait for its reply", talk),
    "proxied garbage": Attack(
        "proxied", VISITS, "garbage in place of a header", partial(come_and_go, says=b"GET /\r\n\r\n" * 30)
    ),
    "proxied resets": Attack("proxied", VISITS, "a header, reset", partial(come_and_go, enters=True)),
    "proxied stalled": Attack(
        "proxied", "1000 connections", "half a header, and wait", partial(stalled, says=b"PROXY TCP")
    ),
    "TLS lines": Attack("TLS", TCP, "a line, and wait for its reply", talk),
    "TLS garbage": Attack(
        "TLS",
        VISITS,
        "garbage in place of a handshake",
        partial(come_and_go, says=b"GET /\r\n\r\n" * 30),
    ),
    "TLS half a hello": Attack(
        "TLS", VISITS, "the beginning of a ClientHello, reset", partial(come_and_go, says=HELLO)
    ),
    "TLS stalled": Attack(
        "TLS", "1000 connections", "the beginning of a ClientHello, and wait", partial(stalled, says=HELLO)
    ),
    "TLS handshakes": Attack("TLS", VISITS, "a handshake, reset", partial(come_and_go, enters=True)),
    "TLS broken": Attack(
        "TLS",
        VISITS,
        "a handshake, then a record of garbage",
        partial(come_and_go, says=RECORD_OF_GARBAGE, waits=True, enters=True),
    ),
    "TLS drops": Attack("TLS", TCP, "records of a byte each", partial(pour, says=LINE, portion=1)),
    "listeners": Attack("", "members of a room", "only listen", listen),
}
"""Every attack by name. The first of each kind is none: as many honest talkers, to which the others are held."""


class Attackers:
    """An attack that runs in a process of its own."""

    def __init__(self, name: str, tcp_port: int, udp_port: int = 0, count: int = MANY) -> None:
        """Start it, and wait until it is ready. Raises Silence."""
        arguments = [name, *map(str, (tcp_port, udp_port, count, MOST_SECONDS))]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output = self._process.stdout
        assert output
        if not select.select([output], [], [], READY_WITHIN)[0] or os.read(output.fileno(), len(READY)) != READY:
            self._process.kill()
            errors = self._process.communicate()[1].decode().strip()
            raise Silence(f"the attack does not begin: {(errors.splitlines() or ['no reason given'])[-1]}")

    def stop(self) -> int:
        """End it; return how many were cut off of those who did not deserve it. Raises Silence if it went wrong."""
        failed = self._process.poll()
        self._process.kill()
        output, errors = self._process.communicate()
        if failed:
            raise Silence(f"the attack failed: {errors.decode().strip()}")
        return output.count(CUT_OFF)

    def close(self) -> None:
        """End it, if it was not ended yet."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()


def main() -> None:
    """Run an attack until its time is over, or what called it kills it."""
    name, tcp_port, udp_port, count, seconds = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attack = ATTACKS[name]
    steps = attack.run(Target(int(tcp_port), int(udp_port), int(count), attack.kind))
    next(steps)
    os.write(1, READY)
    end = time.monotonic() + float(seconds)
    for _ in itertools.islice(steps, MOST_STEPS):
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    main()
