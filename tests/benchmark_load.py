"""The benchmark's load: connections in a closed loop, on raw epoll so that the generator is not what is measured."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds of silence after which a server is taken for dead."""
RETRY_AFTER = 0.5
"""Seconds after which a datagram that nobody answered is sent again."""
AT_ONCE = 16
"""Handshakes that are under way at the same time."""


class Silence(Exception):
    """What is raised when a server does not answer, or answers something else."""


@dataclass
class Run:
    """What a load saw: how many bursts were answered in how many seconds, and how long each took, in seconds."""

    bursts: int
    seconds: float
    round_trips: list[float]

    def percentile(self, percent: int) -> float:
        """Return the round-trip time that so many percent did not exceed, in seconds."""
        self.round_trips.sort()
        return self.round_trips[min(len(self.round_trips) * percent // 100, len(self.round_trips) - 1)]


def connect_tcp(port: int) -> socket.socket:
    """Return a connection that ends with a reset, so that it leaves no TIME_WAIT behind."""
    connected = socket.create_connection((HOST, port), PATIENCE)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # a burst never waits for room
    return connected


def connect_proxied(port: int) -> socket.socket:
    """Return a connection that begins with a PROXY header."""
    connected = connect_tcp(port)
    connected.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 50000 %d\r\n" % port)
    return connected


def connect_udp(port: int) -> socket.socket:
    """Return a socket whose datagrams go to a port."""
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.connect((HOST, port))
    return connected


def connect_tls(context: ssl.SSLContext) -> Callable[[int], socket.socket]:
    """Return a function that connects with TLS."""
    return lambda port: context.wrap_socket(connect_tcp(port), server_hostname=HOST)


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for the address that the load connects to."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=benchmark"
    names = ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)


class ClosedLoop:
    """Connections that each send a burst of messages, wait for all the replies, and send the burst again."""

    def __init__(self, connect: Callable[[], socket.socket], burst: bytes, replies: bytes) -> None:
        self._connect = connect
        self._burst = burst
        self._replies = replies
        self._sockets: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        self._sent_at: dict[int, float] = {}
        self._partly: dict[int, int] = {}

    def join(self, connections: int) -> None:
        """Open connections, one after the other; each sends a burst and must get exactly its replies."""
        for _ in range(connections):
            connected = self._connect()
            self._sockets[connected.fileno()] = connected
            self._exchange(connected)
            self._epoll.register(connected.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> Run:
        """Keep every connection busy for some time. What is under way at its end counts for the next run."""
        if not self._sent_at:
            for connected in self._sockets.values():
                self._send(connected)
        receive = {number: connected.recv_into for number, connected in self._sockets.items()}
        send = {number: connected.sendall for number, connected in self._sockets.items()}
        poll, clock, sent_at, burst, expected = (
            self._epoll.poll,
            time.perf_counter,
            self._sent_at,
            self._burst,
            len(self._replies),
        )
        buffer = bytearray(1 << 18)
        round_trips: list[float] = []
        start = now = clock()
        while now - start < seconds:
            ready = poll(RETRY_AFTER)
            if not ready:
                now = clock()
                self._after_silence(now)
            for number, _ in ready:
                size = receive[number](buffer)
                if size != expected and not self._is_complete(number, size):
                    continue
                now = clock()
                round_trips.append(now - sent_at[number])
                sent_at[number] = now
                send[number](burst)
        return Run(len(round_trips), now - start, round_trips)

    def close(self) -> None:
        """Close every connection."""
        self._epoll.close()
        for connected in self._sockets.values():
            connected.close()

    def _exchange(self, connected: socket.socket) -> None:
        is_datagram = connected.type == socket.SOCK_DGRAM
        connected.settimeout(RETRY_AFTER if is_datagram else PATIENCE)
        deadline = time.monotonic() + PATIENCE
        connected.sendall(self._burst)
        received = b""
        while len(received) < len(self._replies):
            try:
                data = connected.recv(1 << 18)
            except (socket.timeout, ConnectionRefusedError):
                if not is_datagram or time.monotonic() > deadline:
                    raise Silence("no answer") from None
                time.sleep(0.01)
                connected.sendall(self._burst)
                continue
            if not data:
                raise Silence("the server closed the connection")
            received += data
        if received != self._replies:
            raise Silence(f"answered {received[:80]!r} to {self._burst[:80]!r}")
        connected.settimeout(None)

    def _send(self, connected: socket.socket) -> None:
        self._sent_at[connected.fileno()] = time.perf_counter()
        connected.sendall(self._burst)

    def _is_complete(self, number: int, size: int) -> bool:
        """Note a part of a burst's replies; tell whether it was the last."""
        if not size:
            raise Silence("the server closed the connection")
        whole = self._partly.get(number, 0) + size
        if whole < len(self._replies):
            self._partly[number] = whole
            return False
        self._partly[number] = 0
        return True

    def _after_silence(self, now: float) -> None:
        """Send lost datagrams again; give up when a stream stands still."""
        for number, connected in self._sockets.items():
            silent = now - self._sent_at[number]
            if connected.type == socket.SOCK_DGRAM and silent > RETRY_AFTER:
                self._send(connected)
            elif silent > PATIENCE:
                raise Silence("no answer")


class Handshakes:
    """Connections that each shake hands, exchange one message, and close; a new one takes each one's place."""

    def __init__(self, port: int, context: ssl.SSLContext, message: bytes) -> None:
        self._port = port
        self._context = context
        self._message = message
        self._epoll = select.epoll()
        self._connections: dict[int, tuple[ssl.SSLSocket, float]] = {}
        self._shaken: set[int] = set()

    def run(self, seconds: float) -> Run:
        """Keep shaking hands for some time."""
        while len(self._connections) < AT_ONCE:
            self._begin()
        round_trips: list[float] = []
        start = now = time.perf_counter()
        while now - start < seconds:
            ready = self._epoll.poll(PATIENCE)
            if not ready:
                raise Silence("no answer")
            for number, _ in ready:
                connected, began_at = self._connections[number]
                if self._is_done(connected):
                    now = time.perf_counter()
                    round_trips.append(now - began_at)
                    del self._connections[number]
                    self._shaken.discard(number)
                    connected.close()
                    self._begin()
        return Run(len(round_trips), now - start, round_trips)

    def close(self) -> None:
        """Close what is open."""
        self._epoll.close()
        for connected, _ in self._connections.values():
            connected.close()

    def _begin(self) -> None:
        now = time.perf_counter()
        connected = self._context.wrap_socket(
            connect_tcp(self._port), server_hostname=HOST, do_handshake_on_connect=False
        )
        connected.setblocking(False)
        self._connections[connected.fileno()] = connected, now
        self._epoll.register(connected.fileno(), select.EPOLLIN)
        self._is_done(connected)

    def _is_done(self, connected: ssl.SSLSocket) -> bool:
        try:
            if connected.fileno() not in self._shaken:
                connected.do_handshake()
                self._shaken.add(connected.fileno())
                connected.sendall(self._message)
            if not connected.recv(1 << 16):
                raise Silence("the server closed the connection")
        except ssl.SSLWantReadError:
            return False
        return True
