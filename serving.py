"""Servers: a server from its command line to its exit code: the options that both take, the pass, the stop."""

from __future__ import annotations

import argparse
import ipaddress
import signal
import sys
import time

from common import Parser, whole_number
from console import Console
from loop import Loop
from peer import Peer
from record import Record, TimedRecord
from service import PASS_BYTES, Service, Stage
from terminal import TypedLines
from text import TYPE_CHECKING, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gate import Network
    from keeping import AnyArchive
    from peer import Transport
    from stream_archive import StreamUrl
    from text import Address

TICK = 1.0
"""Seconds between two looks at what has run out of time."""
RETRY = 0.02
"""Seconds between two looks at what nothing tells of: room for the record, the last client gone."""
KEPT_READY = 1 << 18
"""Bytes that glibc keeps once they were asked for and freed (mallopt(3), M_MMAP_THRESHOLD). It would give back to the
system what a pass needs, and each pass would ask for it anew, page by page, which costs as much as all the rest."""
STOP_WITHIN = 1.5
"""Seconds that a stopping server gives its clients to read what they are owed."""


def add_arguments(parser: Parser, port: int, most: int, longest: int) -> None:
    """Add the arguments that both servers take; messages may have `longest` bytes unless told, `most` at the most."""
    text = f"listen on this port; 0: a free one ({port})"
    parser.add_argument("port", metavar="PORT", nargs="?", type=whole_number(0, 65535), default=port, help=text)
    add = parser.add_argument_group("where and for whom").add_argument
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="listen here; 0.0.0.0 or :: for all (127.0.0.1)")
    add("--allow", metavar="NETWORK", type=network, action="append", help="serve only who is in it; may be repeated")
    add("--exit-from", choices=("local", "anyone", "nobody"), default="local", help="whose 'exit' to obey (local)")
    add("--reuse-port", action="store_true", help="let several copies of the server share the port")
    messages = parser.add_argument_group("messages")
    add = messages.add_argument
    replies = ("confirm", "echo", "relay", "none")
    add("--reply", choices=replies, default="confirm", help="what to answer; relay: tell all others, too (confirm)")
    add("--save", metavar="FILE", type=file_or_stream, help="keep messages in this SQLite file, or redis://HOST/STREAM")
    add("--max-message", metavar="BYTES", type=whole_number(1, most), default=longest, help=f"longest ({longest})")
    no_words = "take no line for a command: 'terminate' and 'exit' are messages"
    add("--no-words", action="store_true", help=no_words)
    add("--quiet", action="store_true", help="do not show each message")
    form = messages.add_mutually_exclusive_group().add_argument
    form("--timestamps", action="store_true", help="begin each line with the time (UTC)")
    form("--json", action="store_true", help="one JSON object a line, each with its time")


def network(text: str) -> Network:
    """Convert an argument to an address or a network in CIDR notation."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; give one such as 192.168.1.0/24 or 2001:db8::/32") from error


def file_or_stream(text: str) -> str | StreamUrl:
    """Convert an argument to the name of a file, or to where a stream of Redis is."""
    if not text.startswith(("redis://", "rediss://")):
        return text
    from stream_archive import StreamUrl

    return StreamUrl(text)


class Server:
    """What a server's protocols share, and the passes over it: read whatever is ready, decide, save, show and send."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make what the options ask for. Raises Failure."""
        self.typed = TypedLines()
        self.record: Record = TimedRecord(self.typed) if options.timestamps else Record(self.typed)
        if options.json:
            from json_record import JsonRecord

            self.record = JsonRecord(self.typed)
        self.loop = Loop()
        self.archive: AnyArchive | None = None
        stream = None
        if isinstance(options.save, str):
            from archive import Archive

            self.archive = Archive(options.save, self.record)
        elif options.save:
            from stream_archive import StreamArchive

            self.archive = stream = StreamArchive(options.save, self.record, self.loop)
        self.service = Service(options, self.record, self.archive)
        self._ticks = [self.record.tick]
        if stream:
            self._ticks.append(stream.tick)
            if options.reply == "relay":
                stream.follow(self.service.hear)
        self.loop.catch_signals(("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"), self._take_signal)
        self.renew: Callable[[], None] | None = None
        """What SIGHUP calls, unless it comes from the terminal at which the server runs, and stops it."""
        self._is_guarded = bool(options.allow or getattr(options, "tls_ca", None))
        self._next_tick = time.monotonic() + TICK

    def announce(self, protocol: str, address: Address) -> None:
        """Show where a protocol is served, and who can reach it."""
        self.record.line(f"[{protocol} Server] Listening on {show_address(address)}.")
        if not self._is_guarded and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
            self.record.line(f"[{protocol} Server] Anybody who reaches this port can talk to it; --allow limits that.")

    def run(self) -> None:
        """Serve until told to stop; then give the archive, and after it the clients, STOP_WITHIN seconds."""
        self.record.tick(time.monotonic())
        Console(self.typed, self.service, self.loop).start()
        while self.service.is_serving():
            self._pass(RETRY if self.record.waits() else TICK)
        self._pass_until(lambda: self.service.stage is Stage.STOPPING)
        if self.archive and self.service.stage is not Stage.STOPPING:
            self.archive.close()  # which tells that what still waits is not kept
            self._attend(self.service.finish_pass)
        self._pass_until(lambda: all(part.is_stopped() for part in self.service.transports))

    def close(self) -> None:
        """Close what is open, and leave the terminal as it was."""
        for transport in self.service.transports:
            transport.close()
        if self.archive:
            self.archive.close()
        self.record.tick(float("inf"))
        self.record.flush()
        self.typed.close()
        self.typed.socket.close()
        self.loop.close()

    def _pass_until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STOP_WITHIN
        while time.monotonic() < deadline and not is_done():
            self._pass(RETRY)

    def _pass(self, wait: float) -> None:
        service, record = self.service, self.record
        audience, may_pour = service.audience, True
        if audience:
            wait = 0.0 if audience.is_busy() else wait
            may_pour = audience.may_pour()
        now = time.monotonic()  # what has come by now is read before anybody is found late, also after Ctrl-Z
        for function in self.loop.ready(min(wait, max(self._next_tick - now, 0)), may_pour):
            try:
                function()
            except BlockingIOError:
                continue
            except Exception as error:
                self._blame(function, error)
            if service.received_bytes > PASS_BYTES:
                self._attend(service.finish_pass)
                record.flush()
                self.loop.is_spent = True
        self._attend(service.finish_pass)
        if now >= self._next_tick:
            self._next_tick = now + TICK
            for tick in (*self._ticks, *(transport.tick for transport in service.transports)):
                self._attend(tick, now)
        record.flush()

    def _attend(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step of the pass; a fault in it is shown, and the server goes on."""
        try:
            step(*arguments)
        except Exception as error:
            self.record.fault(error)

    def _blame(self, function: Callable[[], object], error: Exception) -> None:
        """Let an error end the conversation in which it happened, if it was in one."""
        owner = getattr(function, "__self__", None)
        if isinstance(owner, Peer):
            self.service.blame(owner, error)
        else:
            self.record.fault(error)

    def _take_signal(self, number: int, _: object) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if name == "SIGHUP" and self.renew and not (sys.stdin and sys.stdin.isatty()):
            self.renew()
        else:
            self.service.ask_to_stop(f"[Server] {name} received.")


def serve(options: argparse.Namespace, open_transports: Callable[[Server], Iterable[Transport]]) -> int:
    """Run a server with the transports that `open_transports` opens, until it is told to stop; return the exit code."""
    bytes(KEPT_READY)
    server = Server(options)
    try:
        for transport in open_transports(server):
            server.service.transports.append(transport)
        server.run()
    finally:
        server.close()
    server.record.line("[Server] All services stopped.")
    server.record.finish()
    return 0
