"""The servers that the benchmark compares with: what a Python user would write instead.

They do the same work as the suite's servers with `--quiet`: find the messages, look for the two words, confirm. All
share one quick `confirmations`, so that what is compared is the way to and from the sockets.

usage: benchmark_peers.py asyncio|uvloop|streams|threads|transactions tcp|udp PORT [CERTIFICATE KEY | FILE]
"""

from __future__ import annotations

import asyncio
import resource
import socketserver
import sqlite3
import ssl
import sys
from typing import Any, cast

CONFIRMATION = b"Message received: "
WORDS = frozenset((b"terminate", b"exit"))
HOST = "127.0.0.1"
BACKLOG = 4096
LONGEST_LINE = 1 << 20


def confirmations(lines: list[bytes]) -> bytes | None:
    """Return the replies to lines without their endings; None if one of them is a word and the conversation ends."""
    if not WORDS.isdisjoint(map(bytes.strip, lines)):
        return None
    return b"".join([CONFIRMATION + line + b"\n" for line in lines])


class Lines(asyncio.Protocol):
    """A connection, for asyncio's loop and for uvloop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.unfinished = b""

    def data_received(self, data: bytes) -> None:
        """Confirm every finished line."""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
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


class Datagrams(asyncio.DatagramProtocol):
    """The endpoint, for asyncio's loop and for uvloop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Confirm a datagram."""
        if data.strip() not in WORDS:
            self.transport.sendto(CONFIRMATION + data, addr)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection with asyncio streams."""
    async for line in reader:
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
            if line.strip() in WORDS:
                break
            self.wfile.write(CONFIRMATION + line)


class ThreadedDatagram(socketserver.BaseRequestHandler):
    """A datagram with a thread of its own."""

    def handle(self) -> None:
        """Confirm it."""
        data, endpoint = self.request
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


def open_archive(file: str) -> sqlite3.Connection:
    """Return a database that is as safe as the suite's archive."""
    archive = sqlite3.connect(file)
    archive.execute("PRAGMA journal_mode=WAL")
    archive.execute("PRAGMA synchronous=FULL")
    archive.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, text TEXT)")
    return archive


async def serve(kind: str, protocol: str, port: int, context: ssl.SSLContext | None) -> None:
    """Serve on the running loop."""
    loop = asyncio.get_running_loop()
    if protocol == "udp":
        await loop.create_datagram_endpoint(Datagrams, (HOST, port))
        await loop.create_future()
    elif kind == "streams":
        server = await asyncio.start_server(converse, HOST, port, limit=LONGEST_LINE, backlog=BACKLOG, ssl=context)
        await server.serve_forever()
    else:
        factory = SavedLines if kind == "transactions" else Lines
        server = await loop.create_server(factory, HOST, port, backlog=BACKLOG, ssl=context)
        await server.serve_forever()


def main() -> None:
    """Run one of the servers until it is killed."""
    kind, protocol, port, *files = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if len(files) == 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    if kind == "transactions":
        SavedLines.archive = open_archive(files[0])
    if kind == "threads" and protocol == "tcp":
        ThreadedStreamServer((HOST, int(port)), ThreadedLines).serve_forever()
    elif kind == "threads":
        ThreadedDatagramServer((HOST, int(port)), ThreadedDatagram).serve_forever()
    elif kind == "uvloop":
        import uvloop  # type: ignore[import-not-found, unused-ignore]

        loop = uvloop.new_event_loop()
        loop.run_until_complete(serve(kind, protocol, int(port), context))
    else:
        asyncio.run(serve(kind, protocol, int(port), context))


if __name__ == "__main__":
    main()
