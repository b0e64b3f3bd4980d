"""Servers: a server from its command line to its exit code: the options that both take, the pass, the stop."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import signal
import socket
import time

from common import Failure, Parser, reason, whole_number
from loop import Loop
from peer import Peer
from record import Record
from service import Service, Stage
from terminal import TypedLines
from text import TYPE_CHECKING, resolve, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from peer import Transport
    from service import Network
    from text import Address

TICK = 1.0
"""Seconds between two looks at what has run out of time."""
RETRY = 0.02
"""Seconds between two looks at what nothing tells of: room for the record, the last client gone."""
STOP_WITHIN = 1.5
"""Seconds that a stopping server gives its clients to read what they are owed."""


def add_arguments(parser: Parser, most: int, longest: int) -> None:
    """Add the arguments that both servers take; messages may have `longest` bytes unless told, `most` at the most."""
    parser.add_argument("port", metavar="PORT", type=whole_number(0, 65535), help="listen on this port; 0: a free one")
    add = parser.add_argument_group("where and for whom").add_argument
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="listen here; 0.0.0.0 or :: for all (127.0.0.1)")
    add("--allow", metavar="NETWORK", type=network, action="append", help="serve only who is in it; may be repeated")
    add("--exit-from", choices=("local", "anyone", "nobody"), default="local", help="whose 'exit' to obey (local)")
    add("--reuse-port", action="store_true", help="let several copies of the server share the port")
    add = parser.add_argument_group("messages").add_argument
    replies = ("confirm", "echo", "relay", "none")
    add("--reply", choices=replies, default="confirm", help="what to answer; relay: tell all others, too (confirm)")
    add("--save", metavar="FILE", help="keep messages in this SQLite file; confirm what is on disk")
    add("--max-message", metavar="BYTES", type=whole_number(1, most), default=longest, help=f"longest ({longest})")
    add("--quiet", action="store_true", help="do not show each message")


def network(text: str) -> Network:
    """Convert an argument to an address or a network in CIDR notation."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; give one such as 192.168.1.0/24 or 2001:db8::/32") from error


def find_own(host: str, port: int, kind: socket.SocketKind) -> tuple[socket.AddressFamily, Address]:
    """Return the family and address to listen on. Raises Failure."""
    try:
        return resolve(host, port, kind)[0]
    except OSError as error:
        raise Failure(str(error)) from error


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
        errno.EADDRNOTAVAIL: "this machine has no such address; --host takes one of its own, 0.0.0.0 or ::",
    }
    return Failure(f"cannot listen on {show_address(address)}: {cures.get(error.errno or 0, reason(error))}")


def is_own_address(host: str) -> bool:
    """Tell whether an address is this machine's: what is sent to such a one also comes from it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # which sends nothing
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


def is_forged(host: str, own_host: str) -> bool:
    """Tell whether a peer claims to have an address of IPv4, though what it sent came to one of ours over IPv6."""
    return host.startswith("::ffff:") and not own_host.startswith("::ffff:")


class Server:
    """What a server's protocols share, and the passes over it: read whatever is ready, decide, save, show and send."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make what the options ask for. Raises Failure."""
        self.typed = TypedLines()
        self.record = Record(self.typed)
        self.archive = None
        if options.save is not None:
            from archive import Archive

            self.archive = Archive(options.save, self.record)
        self.service = Service(options, self.record, self.archive)
        self.loop = Loop()
        self.loop.catch_signals(("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"), self._take_signal)
        self._is_guarded = bool(options.allow or getattr(options, "tls_ca", None))
        self._next_tick = time.monotonic() + TICK

    def announce(self, protocol: str, address: Address) -> None:
        """Show where a protocol is served, and who can reach it."""
        how = "Type a line to send it to every client, 'exit' to stop."
        self.record.line(f"[{protocol} Server] Listening on {show_address(address)}. {how}")
        if not self._is_guarded and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
            self.record.line(f"[{protocol} Server] Anybody who reaches this port can talk to it; --allow limits that.")

    def run(self) -> None:
        """Serve until told to stop; then give the clients STOP_WITHIN seconds to read what they are owed."""
        self.loop.watch(self.typed.socket.fileno(), self._read_typed)
        self.typed.start()
        self.record.flush()
        self.typed.ask()
        while self.service.stage is not Stage.STOPPING:
            self._pass(RETRY if self.record.waits() else TICK)
        deadline = time.monotonic() + STOP_WITHIN
        while time.monotonic() < deadline and not all(part.is_stopped() for part in self.service.transports):
            self._pass(RETRY)

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

    def _pass(self, wait: float) -> None:
        service, record = self.service, self.record
        audience, may_pour = service.audience, True
        if audience:
            wait = 0.0 if audience.is_busy() else wait
            may_pour = not (audience.is_busy() or audience.is_full())
        now = time.monotonic()  # what has come by now is read before anybody is found late, also after Ctrl-Z
        for function in self.loop.ready(min(wait, max(self._next_tick - now, 0)), may_pour):
            try:
                function()
            except BlockingIOError:
                continue
            except Exception as error:
                self._blame(function, error)
            if service.received_bytes > service.pass_bytes:
                self._attend(service.finish_pass)
                record.flush()
                self.loop.is_spent = True
        self._attend(service.finish_pass)
        if now >= self._next_tick:
            self._next_tick = now + TICK
            record.tick(now)
            for transport in service.transports:
                self._attend(transport.tick, now)
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
        self.service.ask_to_stop(f"[Server] {signal.Signals(number).name} received.")


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
