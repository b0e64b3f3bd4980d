"""The servers that the benchmark compares with: what a Python user would write instead.

They do the same work as the suite's servers: find the messages, look for the two words, confirm. Unless told to
`--show` messages, they show nothing, as the suite's servers with `--quiet`. All share one quick `confirmations`, so
that what is compared is the way to and from the sockets.

`bare` is the least that Python can do: epoll, the calls of the system and no more. It has no limits, waits for none who
does not read, and loses what does not fit; it shows how much of the time is Python's and the kernel's own.

usage: benchmark_peers.py [options] asyncio|uvloop|streams|threads|bare tcp|udp PORT
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import resource
import select
import socket
import socketserver
import sqlite3
import ssl
from typing import Any, Callable, cast

CONFIRMATION = b"Message received: "
WORDS = frozenset((b"terminate", b"exit"))
HOST = "127.0.0.1"
BACKLOG = 4096
LONGEST_LINE = 1 << 20

OPTIONS = argparse.Namespace(show=False)
"""What main() found on the command line."""


def confirmations(lines: list[bytes]) -> bytes | None:
    """Return the replies to lines without their endings; None if one of them is a word and the conversation ends."""
    if not WORDS.isdisjoint(map(bytes.strip, lines)):
        return None
    return b"".join([CONFIRMATION + line + b"\n" for line in lines])


def show(message: bytes) -> None:
    """Show a message as a Python user would; standard output has a buffer where it is a file."""
    print(message.decode(errors="replace"))


class Lines(asyncio.Protocol):
    """A connection, for asyncio's loop and for uvloop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.unfinished = b""

    def data_received(self, data: bytes) -> None:
        """Confirm every finished line."""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        if OPTIONS.show:
            for line in lines:
                show(line)
        if lines:
            replies = confirmations(lines)
            if replies is None:
                self.transport.close()
            else:
                self.transport.write(replies)


class SavedLines(Lines):
    """A connection whose every line is a transaction of its own."""

    archive: sqlite3.Connection

    def data_received(self, data: bytes) -> None:
        """Commit each finished line, then confirm it."""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        for line in lines:
            with self.archive:
                self.archive.execute("INSERT INTO messages(text) VALUES (?)", (line.decode(),))
            self.transport.write(confirmations([line]) or b"")


class StreamedLines(Lines):
    """A connection whose every line is an XADD of its own, as redis-py has it."""

    redis: Any
    stream: str

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.ensure_future(self.keep())

    def connection_lost(self, _: Exception | None) -> None:
        """End."""
        self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Take each finished line."""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        for line in lines:
            self.queue.put_nowait(line)

    async def keep(self) -> None:
        """Add each line to the stream, then confirm it."""
        while True:
            line = await self.queue.get()
            await self.redis.xadd(self.stream, {"text": line})
            if OPTIONS.show:
                show(line)
            self.transport.write(confirmations([line]) or b"")


class ToldLines(Lines):
    """A connection whose lines all others are told, with who said them."""

    members: set[asyncio.Transport] = set()  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join."""
        super().connection_made(transport)
        host, port = transport.get_extra_info("peername")
        self.name = f"{host}:{port}: ".encode()
        self.members.add(self.transport)

    def connection_lost(self, _: Exception | None) -> None:
        """Leave."""
        self.members.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        """Tell every finished line, and confirm it."""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        told = b"".join([self.name + line + b"\n" for line in lines])
        for member in self.members:
            if member is not self.transport:
                member.write(told)
        self.transport.write(confirmations(lines) or b"")


class Datagrams(asyncio.DatagramProtocol):
    """The endpoint, for asyncio's loop and for uvloop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Confirm a datagram."""
        if OPTIONS.show:
            show(data)
        if data.strip() not in WORDS:
            self.transport.sendto(CONFIRMATION + data, addr)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection with asyncio streams."""
    async for line in reader:
        if OPTIONS.show:
            show(line[:-1])
        if line.strip() in WORDS:
            break
        writer.write(CONFIRMATION + line)
        await writer.drain()
    writer.close()


class ThreadedLines(socketserver.StreamRequestHandler):
    """A connection with a thread of its own."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Confirm each line."""
        for line in self.rfile:
            if OPTIONS.show:
                show(line[:-1])
            if line.strip() in WORDS:
                break
            self.wfile.write(CONFIRMATION + line)


class ThreadedDatagram(socketserver.BaseRequestHandler):
    """A datagram with a thread of its own."""

    def handle(self) -> None:
        """Confirm it."""
        data, endpoint = self.request
        if OPTIONS.show:
            show(data)
        if data.strip() not in WORDS:
            endpoint.sendto(CONFIRMATION + data, self.client_address)


class ThreadedStreamServer(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG


class ThreadedDatagramServer(socketserver.ThreadingUDPServer):
    """A thread for each datagram."""

    daemon_threads = True
    block_on_close = False


class BareLines:
    """A connection in a bare loop."""

    def __init__(self, connected: socket.socket) -> None:
        self.receive, self.send, self.close = connected.recv, connected.send, connected.close
        self.unfinished = b""

    def read(self) -> None:
        """Confirm every finished line."""
        data = self.receive(1 << 16)
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        if OPTIONS.show:
            for line in lines:
                show(line)
        replies = confirmations(lines) if data else None
        if replies is None:
            self.close()
        elif replies:
            self.send(replies)


def read_bare_datagrams(endpoint: socket.socket) -> None:
    """Confirm every datagram that is there."""
    receive, send = endpoint.recvfrom, endpoint.sendto
    try:
        while True:
            data, address = receive(1 << 16)
            if OPTIONS.show:
                show(data)
            if data.strip() not in WORDS:
                send(CONFIRMATION + data, address)
    except BlockingIOError:
        return


def serve_bare() -> None:
    """Serve in a bare loop."""
    is_udp = OPTIONS.protocol == "udp"
    main_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
    main_socket.bind((HOST, OPTIONS.port))
    poll = select.epoll()
    functions: dict[int, Callable[[], None]] = {}

    def accept() -> None:
        connected, _ = main_socket.accept()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        functions[connected.fileno()] = BareLines(connected).read
        poll.register(connected.fileno(), select.EPOLLIN)

    main_socket.setblocking(False)
    if not is_udp:
        main_socket.listen(BACKLOG)
    functions[main_socket.fileno()] = functools.partial(read_bare_datagrams, main_socket) if is_udp else accept
    poll.register(main_socket.fileno(), select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            try:
                functions[descriptor]()
            except ConnectionError:
                poll.unregister(descriptor)


def open_archive(file: str) -> sqlite3.Connection:
    """Return a database that is as safe as the suite's archive."""
    archive = sqlite3.connect(file)
    archive.execute("PRAGMA journal_mode=WAL")
    archive.execute("PRAGMA synchronous=FULL")
    archive.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, text TEXT)")
    return archive


async def serve() -> None:
    """Serve on the running loop."""
    loop = asyncio.get_running_loop()
    context = None
    if OPTIONS.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*OPTIONS.tls)
    if OPTIONS.protocol == "udp":
        await loop.create_datagram_endpoint(Datagrams, (HOST, OPTIONS.port))
        await loop.create_future()
    elif OPTIONS.kind == "streams":
        streams = await asyncio.start_server(
            converse, HOST, OPTIONS.port, limit=LONGEST_LINE, backlog=BACKLOG, ssl=context
        )
        await streams.serve_forever()
    else:
        if OPTIONS.stream:
            import redis.asyncio  # type: ignore[import-not-found, unused-ignore]

            where, _, StreamedLines.stream = OPTIONS.stream.rpartition("/")
            StreamedLines.redis = redis.asyncio.Redis.from_url(where)
        factory = (
            StreamedLines if OPTIONS.stream else SavedLines if OPTIONS.save else ToldLines if OPTIONS.room else Lines
        )
        server = await loop.create_server(factory, HOST, OPTIONS.port, backlog=BACKLOG, ssl=context)
        await server.serve_forever()


def main() -> None:
    """Run one of the servers until it is killed."""
    parser = argparse.ArgumentParser(description="Run one of the servers that the benchmark compares with.")
    parser.add_argument("kind", choices=("asyncio", "uvloop", "streams", "threads", "bare"))
    parser.add_argument("protocol", choices=("tcp", "udp"))
    parser.add_argument("port", type=int)
    parser.add_argument("--show", action="store_true", help="print each message")
    parser.add_argument("--room", action="store_true", help="tell each line to all others (asyncio, uvloop)")
    parser.add_argument("--save", metavar="FILE", help="commit each line to this SQLite file (asyncio, uvloop)")
    parser.add_argument("--stream", metavar="URL", help="add each line to this stream of Redis (asyncio, uvloop)")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="speak TLS (not threads)")
    parser.parse_args(namespace=OPTIONS)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if OPTIONS.save:
        SavedLines.archive = open_archive(OPTIONS.save)
    if OPTIONS.kind == "threads" and OPTIONS.protocol == "tcp":
        ThreadedStreamServer((HOST, OPTIONS.port), ThreadedLines).serve_forever()
    elif OPTIONS.kind == "threads":
        ThreadedDatagramServer((HOST, OPTIONS.port), ThreadedDatagram).serve_forever()
    elif OPTIONS.kind == "bare":
        serve_bare()
    elif OPTIONS.kind == "uvloop":
        import uvloop  # type: ignore[import-not-found, unused-ignore]

        uvloop.new_event_loop().run_until_complete(serve())
    else:
        asyncio.run(serve())


if __name__ == "__main__":
    main()
