"""Servers: a server from its command line to its exit code: the options that both take, the pass, the stop."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import signal
import socket
import sys
import time

from common import Failure, Parser, reason, whole_number
from loop import Loop
from record import Record, TimedRecord
from service import Peer, Service, Stage
from terminal import TypedLines
from text import TYPE_CHECKING, resolve, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gate import Network
    from keeping import AnyArchive
    from service import Transport
    from stream_archive import Place
    from text import Address

TICK = 1.0
"""Seconds between two looks at what has run out of time."""
RETRY = 0.02
"""Seconds between two looks at what nothing tells of: room for the record, the last client gone."""
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What a system says of an address that it has not."""
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
    add("--save", metavar="FILE", type=place, help="keep messages in this SQLite file, or redis://HOST/STREAM")
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


def place(text: str) -> str | Place:
    """Convert an argument to the name of a file, or to where a stream of Redis is."""
    if not text.startswith(("redis://", "rediss://")):
        return text
    from stream_archive import Place

    return Place(text)


def open_all(
    options: argparse.Namespace,
    port: int,
    kind: socket.SocketKind,
    open_one: Callable[[socket.AddressFamily, Address, bool], socket.socket],
) -> list[socket.socket]:
    """Return a socket for each address of the host in `options`, all with one port. Raises Failure.

    Of a name's addresses, those that this machine has not, such as `::1` without IPv6, are left out.
    """
    try:
        places = dict.fromkeys(resolve(options.host, port, kind))
    except OSError as error:
        raise Failure(str(error)) from error
    opened: list[socket.socket] = []
    missing: list[Failure] = []
    for family, address in places:
        own = (address[0], opened[0].getsockname()[1] if opened else port, *address[2:])  # port 0: which one it took
        try:
            opened.append(open_one(family, own, options.reuse_port))
        except OSError as error:
            missing.append(listen_failure(own, error))
            if error.errno not in NOT_HERE:
                raise missing[-1] from error
    if not opened:
        raise missing[0]
    return opened


def prepare(unbound: socket.socket, address: Address, shares_port: bool) -> None:
    """Set what a socket for an address of this machine needs; `::` takes IPv4, too. Raises OSError and Failure."""
    unbound.setblocking(False)
    if shares_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise Failure("this system does not let programs share a port; leave out --reuse-port")
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")


def listen_failure(address: Address, error: OSError) -> Failure:
    """Return the Failure for an address that can not be listened on."""
    port = address[1]
    cures = {
        errno.EADDRINUSE: f"port {port} is in use; stop the program that has it, or choose another port (0: any)",
        errno.EACCES: f"port {port} needs more rights; choose one of 1024 or above",
        errno.EINVAL: f"{address[0]} is not enough; name the interface, too, as in fe80::1%eth0",
        errno.EADDRNOTAVAIL: "this machine has no such address; --host takes one of its own, 0.0.0.0 or ::",
    }
    return Failure(f"cannot listen on {show_address(address)}: {cures.get(error.errno or 0, reason(error))}")


def is_own_address(host: str) -> bool:
    """Tell whether an address is this machine's: what is sent to such a one also comes from it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback:
        return True
    try:
        family, there = resolve(host, 9, socket.SOCK_DGRAM)[0]  # which knows interfaces by their names
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)  # which sends nothing
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


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
        stream = None
        if isinstance(options.save, str):
            from archive import Archive

            self.archive: AnyArchive | None = Archive(options.save, self.record)
        elif options.save:
            from stream_archive import StreamArchive

            stream = StreamArchive(options.save, self.record, self.loop)
            self.archive = stream
        else:
            self.archive = None
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
        self.loop.watch(self.typed.socket.fileno(), self._read_typed)
        self.typed.start()
        self.record.line("Type a line to send it to every client, 'exit' to stop.")
        self.record.flush()
        self.typed.ask()
        while self.service.is_serving():
            self._pass(RETRY if self.record.waits() else TICK)
        self._pass_until(lambda: self.service.stage is Stage.STOPPING)
        if self.archive and self.service.stage is not Stage.STOPPING:
            self.archive.close()  # which tells that what still waits is not kept
            self.service.finish_pass()
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
        self.loop.close()

    def _pass_until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STOP_WITHIN
        while time.monotonic() < deadline and not is_done():
            self._pass(RETRY)

    def _pass(self, wait: float) -> None:
        service, record = self.service, self.record
        now = time.monotonic()  # what has come by now is read before anybody is found late, also after Ctrl-Z
        for function in self.loop.ready(min(wait, max(self._next_tick - now, 0))):
            try:
                function()
            except BlockingIOError:
                continue
            except Exception as error:
                self._blame(function, error)
            if service.received_bytes > service.pass_bytes:
                service.finish_pass()
                record.flush()
        service.finish_pass()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            for tick in (*self._ticks, *(transport.tick for transport in service.transports)):
                tick(now)
        record.flush()

    def _blame(self, function: Callable[[], object], error: Exception) -> None:
        """Let an error end the conversation in which it happened, if it was in one."""
        owner = getattr(function, "__self__", None)
        if isinstance(owner, Peer):
            self.service.blame(owner, error)
        else:
            self.record.fault(error)

    def _read_typed(self) -> None:
        lines = self.typed.read()
        for line in lines or ():
            self.service.type_line(line)
            if self.service.stage is Stage.SERVING:
                self.typed.ask()
        if lines is None:
            self.loop.forget(self.typed.socket.fileno())
            if self.typed.typed:
                self.typed.close()
            if self.typed.problem:
                self.record.line(f"[Server] Cannot read standard input: {self.typed.problem}.", trouble=True)
            elif self.typed.typed:
                self.record.line("[Server] End of input. Serving goes on; Ctrl-C stops it.")

    def _take_signal(self, number: int, _: object) -> None:
        name = signal.Signals(number).name
        if name == "SIGHUP" and self.renew and not (sys.stdin and sys.stdin.isatty()):
            self.renew()
        else:
            self.service.ask_to_stop(f"[Server] {name} received.")


def serve(options: argparse.Namespace, open_transports: Callable[[Server], Iterable[Transport]]) -> int:
    """Run a server with the transports that `open_transports` opens, until it is told to stop; return the exit code."""
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
