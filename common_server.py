"""What the two servers share: what is answered, kept and shown, and the loop.

`Service` is the protocol: messages in, replies out. It touches no socket. A transport (tcp_server, udp_server) reads
its sockets when `Loop` says so, hands the messages of its `Peer`s to the service, and sends what the service gives
them. One pass of the loop reads whatever is ready, then decides, then shows and sends it all.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import ipaddress
import os
import re
import select
import selectors
import signal
import socket
import stat
import sys
import time

from common import (
    CONFIRMATION,
    DIM,
    EXIT,
    NOT_OBEYED,
    NOT_SAVED,
    PRINTABLE_ASCII,
    RED,
    SHUTTING_DOWN,
    TERMINATE,
    TOO_LONG,
    TYPE_CHECKING,
    WORDS,
    Address,
    Failure,
    Parser,
    TypedLines,
    ending,
    erase_row,
    has_colours,
    paint,
    reason,
    report,
    show_address,
    takes_output,
    visible,
    whole_number,
    without_ending,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Union

    Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
    Answer = tuple[str, bytes]
    Received = tuple["Peer", list[bytes], Union[Answer, None]]

TICK = 1.0
"""Seconds between two looks at what has run out of time."""
PASS_BYTES = 1 << 17
MESSAGE_COST = 64
"""What may be received before it is answered: it bounds memory, and what a pass can say at once to those who listen."""
RETRY = 0.02
"""Seconds between two looks at what nothing tells of: room for the record, the last client gone."""
STOP_WITHIN = 1.5
"""Seconds that a stopping server gives its clients to read what they are owed."""


class Peer:
    """Somebody who talks to the server; each transport has its own kind."""

    __slots__ = ("heading", "name")
    protocol = "?"
    overlong_ends = False
    """Whether a message over the limit ends the conversation."""

    def __init__(self, name: str) -> None:
        self.rename(name)

    def rename(self, name: str) -> None:
        """Be shown under a name from now on."""
        self.name = name
        self.heading = f"[{self.protocol} Server] Received from {name}: ".encode()

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        """Send replies to what this peer said, `start` before each; each has the part of its ending that it had."""
        raise NotImplementedError

    def tell(self, lines: list[bytes]) -> None:
        """Send what others say, lines without an ending; a peer who lags too far behind may be cut off."""
        raise NotImplementedError

    def end(self) -> None:
        """End the conversation, after all that was sent."""
        raise NotImplementedError

    def is_local(self) -> bool:
        """Tell whether this peer is on the server's own machine."""
        raise NotImplementedError


class Transport:
    """One protocol's sockets, in one loop with the others'."""

    protocol = "?"

    def peers(self) -> Iterable[Peer]:
        """Return those who are to hear what others say."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """End what has run out of time by `now`, a time of time.monotonic()."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take nothing more; end every conversation, after all that was sent."""
        raise NotImplementedError

    def stopped(self) -> bool:
        """Tell whether all that was sent has left and every conversation has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Close whatever is still open."""
        raise NotImplementedError


def add_arguments(parser: Parser, most: int, longest: int) -> None:
    """Add the arguments that both servers take; messages may have `longest` bytes unless told, `most` at the most."""
    parser.add_argument("port", metavar="PORT", type=whole_number(0, 65535), help="listen on this port; 0: a free one")
    add = parser.add_argument_group("where and for whom").add_argument
    add(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="listen here; 0.0.0.0 or :: for all (127.0.0.1)",
    )
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


def share_port(unbound: socket.socket) -> None:
    """Let other sockets that ask for it, too, bind the same port. Raises Failure where the system can not."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise Failure("this system does not let programs share a port; leave out --reuse-port")
    unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


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


class Record:
    """What the server shows: a line an event, on standard output, with all escaped that could forge or hide a line.

    It never waits. What standard output does not take is kept, up to LIMIT bytes; what comes after that is counted
    instead, and the count is shown once there is room again.
    """

    LIMIT = 1 << 20

    def __init__(self, typed: TypedLines) -> None:
        self._typed = typed
        self._lines: list[bytes] = []
        self._unwritten = bytearray()
        self._dropped = 0
        self._is_torn = False
        """Whether what was written last is the start of a line, whose rest is lost."""
        self._complained = False
        self._coloured = has_colours(sys.stdout)
        if sys.stdout is None:
            self._output = -1
            return
        self._output = sys.stdout.fileno()
        self._encoding = sys.stdout.encoding
        mode = os.fstat(self._output).st_mode
        self._may_wait = os.name == "posix" and (sys.stdout.isatty() or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
        if self._may_wait and sys.stdout.isatty():
            # A description of its own, since O_NONBLOCK would also hold for whoever else writes to this terminal.
            with contextlib.suppress(OSError):  # after su, it may be somebody else's
                self._output = os.open(os.ttyname(self._output), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)

    @property
    def waits(self) -> bool:
        """Whether something could not be shown yet."""
        return bool(self._unwritten)

    def line(self, event: str) -> None:
        """Show an event."""
        self._lines.append(event.encode())

    def messages(self, heading: bytes, messages: list[bytes]) -> None:
        """Show messages as they came from the network, a line each, with a heading before it."""
        self._lines.extend(map(heading.__add__, messages))

    def flush(self) -> None:
        """Write what there is, as far as that is possible at once."""
        if self._lines:
            self._add(self._lines)
            self._lines.clear()
        if self._unwritten:
            self._write()
        if self._dropped and not self._unwritten and not self._complained:
            count, self._dropped = self._dropped, 0
            self._add([b"[Server] %d lines were not shown, since the output stood still." % count])
            self._write()

    def finish(self) -> None:
        """Write what is left, within STOP_WITHIN seconds; report how many lines could not be shown."""
        deadline = time.monotonic() + STOP_WITHIN
        self.flush()
        while self._unwritten and time.monotonic() < deadline:
            select.select([], [self._output], [], max(deadline - time.monotonic(), 0))
            self.flush()
        lost = self._dropped + self._unwritten.count(b"\n")
        if lost and not self._complained:
            complain(f"{lost} lines were not shown, since the output stood still")

    def _add(self, lines: list[bytes]) -> None:
        if self._output < 0:
            return self._complain("it is closed")
        if len(self._unwritten) > self.LIMIT:
            self._dropped += len(lines)
            return None
        if self._typed.edited and not self._unwritten:
            self._unwritten += erase_row()
        if self._is_torn and not self._unwritten:
            self._unwritten += b"\n"
        block = b"\n".join(lines)
        if self._coloured or block.translate(None, PRINTABLE_ASCII) != b"\n" * (len(lines) - 1):
            shown = map(visible, lines)
            text = "\n".join(map(coloured, shown) if self._coloured else shown)
            block = text.encode(self._encoding, "backslashreplace")
        self._unwritten += block + b"\n"
        return None

    def _write(self) -> None:
        try:
            while self._unwritten:
                if not self._may_wait:
                    written = os.write(self._output, self._unwritten)
                elif select.select([], [self._output], [], 0)[1]:  # then a pipe takes so much without blocking:
                    written = os.write(self._output, self._unwritten[: select.PIPE_BUF])
                else:
                    return
                self._is_torn = self._unwritten[written - 1 : written] != b"\n"
                del self._unwritten[:written]
            self._complained = False
        except BlockingIOError:
            return
        except OSError as error:
            self._dropped += self._unwritten.count(b"\n")
            self._unwritten.clear()
            self._complain(reason(error))
        self._typed.redraw()

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            complain(f"cannot write to standard output: {reason}; serving goes on, without a record")


def complain(problem: str) -> bool:
    """Report a problem, unless standard error stands still, since a server waits for nobody; tell whether it could."""
    could = takes_output(2)
    if could:
        report(problem)
    return could


NAMES_PEER = (
    r"(\[\w+ Server\] (?:Connected by|Received from|Disconnected:|Forgot|Shutdown command received from) )"
    r"(\S+?)(?=[.:]? |$)"
)
TELLS_TROUBLE = r"\[[\w ]+\] (Refused|Turned away|Sent to|Cannot|Ignored|\d+ (lines|datagrams))"


def coloured(event: str) -> str:
    """Return a line of the record as a terminal shows it: the peer's name dim, or all red if something is wrong."""
    if re.match(TELLS_TROUBLE, event):
        return paint(event, RED)
    return re.sub(NAMES_PEER, r"\1" + paint(r"\2", DIM), event)


class Gate:
    """Who may come in, by address. Whoever may not gets a line in the record, and later one with a count."""

    REPORT_EVERY = 10.0
    """Seconds."""
    MAX_NAMED = 1000
    """Addresses that are counted one by one until the next report."""

    def __init__(self, networks: list[Network] | None, record: Record) -> None:
        """Admit who is in one of the networks; everybody if there are none."""
        self.networks = networks
        self._record = record
        self._refused: collections.Counter[str] = collections.Counter()
        self._report_at = 0.0

    def admits(self, host: str) -> bool:
        """Tell whether a host, an IPv4 or IPv6 address, may come in."""
        if not self.networks:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        if any(address in network for network in self.networks):
            return True
        if host in self._refused or len(self._refused) < self.MAX_NAMED:
            self._refused[host] += 1
            if self._refused[host] == 1:
                self._record.line(f"[Server] Refused {host}: it is in no network that may come in")
        else:
            self._refused["others"] += 1
        return False

    def tick(self, now: float) -> None:
        """Show how many more came, every REPORT_EVERY seconds."""
        if self._refused and now >= self._report_at:
            self._report_at = now + self.REPORT_EVERY
            others = self._refused.pop("others", 0)
            for host, count in self._refused.items():
                if count > 1:
                    self._record.line(f"[Server] Refused {host} {count - 1} more times")
            if others:
                self._record.line(f"[Server] Refused {others} times from other addresses")
            self._refused.clear()


class Archive:
    """The messages in an SQLite file, each on disk before it is confirmed.

    In WAL mode with synchronous=FULL a commit is one append and one fsync (sqlite.org/wal.html).
    """

    COLUMNS = "id INTEGER PRIMARY KEY, at TEXT, protocol TEXT, direction TEXT, peer TEXT, text"
    PATIENCE, IMPATIENCE = 500, 50
    """Milliseconds to wait for another program that writes to the file; and after a failure, until it is over."""

    def __init__(self, path: str, record: Record) -> None:
        """Open the file, or make it. Raises Failure, and leaves the file as it is, if it is something else."""
        import sqlite3  # takes longer to load than all the rest

        self._sqlite = sqlite3
        self._record = record
        self._path = os.path.realpath(path)  # SQLite puts its log there; it takes :memory: for something else
        self._failing = False
        self._database: sqlite3.Connection | None = None
        self._identity: os.stat_result | None = None
        self._log: os.stat_result
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise Failure(f"cannot save messages in {visible(path)}: {reason(error)}; name another file") from error

    def save(self, rows: list[tuple[str, str, str, bytes]]) -> bool:
        """Store rows of protocol, direction, peer and text; tell whether they are on disk. Report the first failure."""
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        try:
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany(
                    "INSERT INTO messages(at, protocol, direction, peer, text) VALUES(?, ?, ?, ?, ?)",
                    [(at, protocol, direction, peer, text_or_blob(text)) for protocol, direction, peer, text in rows],
                )
                database.execute("COMMIT")
            finally:
                database.rollback()  # does nothing after COMMIT
        except (OSError, self._sqlite.Error) as error:
            if not self._failing:
                problem = f"save messages in {visible(self._path)}: {reason(error)}; their senders are told"
                if not complain(f"cannot {problem}"):
                    self._record.line(f"[Server] Cannot {problem}")
            self._set_failing(True)
            return False
        self._set_failing(False)
        return True

    def close(self) -> None:
        """Close the file."""
        if self._database:
            with contextlib.suppress(OSError, self._sqlite.Error):  # what is saved stays in the log
                self._leave(self._database)

    def _set_failing(self, failing: bool) -> None:
        if failing != self._failing:
            self._failing = failing
            if self._database:
                self._database.execute(f"PRAGMA busy_timeout = {self._patience()}")

    def _open(self) -> sqlite3.Connection:
        """Return the database; open it again if the file was moved or deleted, since SQLite would not notice."""
        if self._database:
            if self._is_in_place():
                return self._database
            self._leave(self._database)
        if has_orphaned_log(self._path):
            raise self._sqlite.DatabaseError(
                f"it is gone, but {visible(self._path)}-wal, a part of it, is not (put it back, or delete that, too)"
            )
        was_there = os.access(self._path, os.F_OK)
        identity = make_private_file(self._path)
        database = self._sqlite.connect(self._path, timeout=0, isolation_level=None)
        try:
            database.execute(f"PRAGMA busy_timeout = {self._patience()}")
            schema = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
            if schema and ("messages", f"CREATE TABLE messages({self.COLUMNS})") not in schema:
                raise self._sqlite.DatabaseError("it is a database of something else")
            self._enter_wal_mode(database)
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"CREATE TABLE IF NOT EXISTS messages({self.COLUMNS})")
            log = os.stat(f"{self._path}-wal")
            if not os.path.samestat(os.stat(self._path), identity):
                raise self._sqlite.OperationalError("it was moved or deleted while it was opened")
        except BaseException:
            database.close()
            raise
        if self._identity and not (was_there and os.path.samestat(identity, self._identity)):
            path = visible(self._path)
            self._record.line(f"[Server] {path} was moved or deleted. Messages go to another file of that name.")
        self._database, self._identity, self._log = database, identity, log
        return database

    def _is_in_place(self) -> bool:
        """Tell whether the open file, and its log, still have their names."""
        with contextlib.suppress(FileNotFoundError):
            return (
                self._identity is not None
                and os.path.samestat(os.stat(self._path), self._identity)
                and os.path.samestat(os.stat(f"{self._path}-wal"), self._log)
            )
        return False

    def _leave(self, database: sqlite3.Connection) -> None:
        """Close the file. If it has lost its name, take into it before what is in its log, which does not follow it."""
        if not self._is_in_place():
            busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise self._sqlite.OperationalError("it was moved or deleted, but another program still reads it")
            self._patiently(lambda: remove_log(self._path, self._log))
        database.close()
        self._database = None

    def _enter_wal_mode(self, database: sqlite3.Connection) -> None:
        """Have the file written as WAL; SQLite itself does not wait here (sqlite.org/c3ref/busy_handler.html)."""
        mode = self._patiently(lambda: database.execute("PRAGMA journal_mode = WAL").fetchone())
        if mode != ("wal",):
            raise self._sqlite.DatabaseError("its file system does not allow SQLite's WAL mode")

    def _patiently(self, step: Callable[[], object]) -> object:
        """Take a step and return what it returns; wait a while for other programs that do the same."""
        deadline = time.monotonic() + self._patience() / 1000
        while True:
            try:
                return step()
            except (BlockingIOError, self._sqlite.OperationalError) as error:
                is_locked = isinstance(error, BlockingIOError) or "locked" in str(error)
                if not is_locked or time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY)

    def _patience(self) -> int:
        return self.IMPATIENCE if self._failing else self.PATIENCE


def make_private_file(path: str) -> os.stat_result:
    """Make a file that only its owner may read, unless it is there, and have its name on disk; return what it is."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "posix":
            folder = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def has_orphaned_log(path: str) -> bool:
    """Tell whether a database is gone, but not its write-ahead log, which SQLite would delete or use for a new one."""
    return os.access(f"{path}-wal", os.F_OK) and not os.access(path, os.F_OK)


def remove_log(path: str, log: os.stat_result) -> None:
    """Remove a database's write-ahead log and its index, if they are still those of a file that had this name before.

    SQLite would take them for the next file's, which ruins both while others still use them for the last one
    (sqlite.org/howtocorrupt.html, on renaming a database while in use). Each server spares what another has begun.
    Raises BlockingIOError while another is at it.
    """
    if not fcntl:  # Windows, where nobody can move a file that is open
        return
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise  # else it is a file system that knows no locks
            if os.path.samestat(os.stat(f"{path}-wal"), log):
                os.unlink(f"{path}-wal")
                os.unlink(f"{path}-shm")
        finally:
            os.close(folder)


def text_or_blob(text: bytes) -> str | bytes:
    """Return text as SQLite is to store it: as TEXT where it is UTF-8, else as BLOB."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


class Service:
    """The protocol of both servers: takes messages, decides what each is, and answers at the end of a pass."""

    def __init__(self, options: argparse.Namespace, record: Record, archive: Archive | None = None) -> None:
        self.record = record
        self._archive = archive
        self.transports: list[Transport] = []
        self.stopping = False
        self.gate = Gate(options.allow, record)
        self._is_guarded = bool(options.allow or getattr(options, "tls_ca", None))
        self.reply: str = options.reply
        self.max_message: int = options.max_message
        self.longest_line = max(self.max_message, *map(len, WORDS)) + 1
        """Bytes of a line, with a CR at its end, that may be a message or a word."""
        self._exit_from: str = options.exit_from
        self._quiet: bool = options.quiet
        self._received: list[Received] = []
        self.received_bytes = 0
        """What was received and not answered yet, each message counted as MESSAGE_COST bytes more."""
        self._typed: list[tuple[str, str, str, bytes]] = []
        self._leaving: dict[Peer, None] = {}
        self.exit_typed = False
        self._exiting: set[Peer] = set()

    def receive(self, peer: Peer, messages: list[bytes]) -> None:
        """Take what a peer said, one message or more, each with the part of its ending that its replies repeat."""
        size = len(b"".join(messages))
        self.received_bytes += size + len(messages) * MESSAGE_COST
        if self.stopping:
            peer.send([SHUTTING_DOWN + ending(message) for message in messages])
        elif WORDS.isdisjoint(map(bytes.strip, messages)) and (
            size <= self.max_message or max(map(len, messages)) <= self.max_message
        ):
            self._received.append((peer, messages, None))
        else:
            self._receive_one_by_one(peer, messages)

    def _receive_one_by_one(self, peer: Peer, messages: list[bytes]) -> None:
        plain: list[bytes] = []
        for message in messages:
            text = without_ending(message)
            word = text.strip()
            if word in WORDS and len(text) >= self.longest_line:  # it goes on: so much of a line is no word
                word = b""
            if word not in WORDS and len(text) <= self.max_message:
                plain.append(message)
                continue
            if plain:
                self._received.append((peer, plain, None))
                plain = []
            if word == EXIT:
                self._take_exit(peer, ending(message))
                continue
            if word != TERMINATE:
                self._refuse(peer, TOO_LONG % self.max_message, ending(message))
            if word == TERMINATE or peer.overlong_ends:
                self.leave(peer)
                return
        if plain:
            self._received.append((peer, plain, None))

    def leave(self, peer: Peer) -> None:
        """End a conversation at the end of this pass, after its replies."""
        self._leaving[peer] = None

    def is_leaving(self, peer: Peer) -> bool:
        """Tell whether a conversation ends with this pass, so that what else came of it counts for nothing."""
        return peer in self._leaving

    def announce(self, protocol: str, address: Address) -> None:
        """Show where a transport listens, and who can reach it."""
        how = "Type a line to send it to every client, 'exit' to stop."
        self.record.line(f"[{protocol} Server] Listening on {show_address(address)}. {how}")
        if not self._is_guarded and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
            self.record.line(f"[{protocol} Server] Anybody who reaches this port can talk to it; --allow limits that.")

    def show(self, peer: Peer, text: str) -> None:
        """Show an event of a peer's protocol."""
        self.record.line(f"[{peer.protocol} Server] {text}")

    def type_line(self, line: bytes) -> None:
        """Take a line that the person at the server typed."""
        if self.exit_typed:
            return
        if line.strip() == EXIT:
            self.record.line("[Server] Shutdown command typed. Stopping server...")
            self.exit_typed = True
            return
        if self._archive:
            self._typed.append((self.transports[0].protocol.lower(), "sent", "*", line))
        if not any(list(transport.peers()) for transport in self.transports):
            self.record.line("[Server] Nobody is there to read that.")
        self._tell_all([line])

    def finish_pass(self) -> None:
        """Save, show and answer all that was received since the last call."""
        received, self._received = self._received, []
        self.received_bytes = 0
        saved = self._archive is None or self._save(received, self._archive)
        shows, echoes, answers = not self._quiet, self.reply == "echo", self.reply != "none"
        for peer, messages, answer in received:
            if answer:
                event, reply = answer
                self.show(peer, event)
                peer.send([reply])
                continue
            if shows:
                self.record.messages(peer.heading, messages)
            if not saved:
                peer.send([NOT_SAVED + ending(message) for message in messages])
            elif echoes:
                peer.send(messages)
            elif answers:
                peer.send(messages, CONFIRMATION)
        if self.reply == "relay" and saved:
            self._relay([(peer, messages) for peer, messages, answer in received if not answer])
        for peer in self._leaving:
            peer.end()
        self._leaving.clear()
        if self._exiting or self.exit_typed:
            self.stop()

    def stop(self) -> None:
        """Tell every client that the server shuts down, and end every conversation."""
        if not self.stopping:
            self.stopping = True
            self._tell_all([SHUTTING_DOWN], self._exiting)
            for transport in self.transports:
                transport.stop()

    def _save(self, received: list[Received], archive: Archive) -> bool:
        rows, self._typed = self._typed, []
        for peer, messages, answer in received:
            if not answer:
                start = (peer.protocol.lower(), "received", peer.name)
                rows += [(*start, without_ending(message)) for message in messages]
        return not rows or archive.save(rows)

    def _take_exit(self, peer: Peer, line_end: bytes) -> None:
        if self._exit_from == "anyone" or (self._exit_from == "local" and peer.is_local()):
            event = f"Shutdown command received from {peer.name}. Stopping server..."
            self._received.append((peer, [], (event, SHUTTING_DOWN + line_end)))
            self._exiting.add(peer)
        else:
            self._refuse(peer, NOT_OBEYED % peer.name.encode(), line_end)

    def _refuse(self, peer: Peer, refusal: bytes, line_end: bytes) -> None:
        event = f"Sent to {peer.name}: {visible(refusal)}"
        self._received.append((peer, [], (event, refusal + line_end)))

    def _relay(self, said: list[tuple[Peer, list[bytes]]]) -> None:
        blocks = [
            (peer, [peer.name.encode() + b": " + as_line(without_ending(message)) for message in messages])
            for peer, messages in said
        ]
        speakers = {peer for peer, _ in said}
        if speakers:
            self._tell_all([line for _, lines in blocks for line in lines], speakers)
        for peer in speakers if len(speakers) > 1 else ():
            peer.tell([line for speaker, lines in blocks if speaker is not peer for line in lines])

    def _tell_all(self, lines: list[bytes], except_for: Iterable[Peer] = ()) -> None:
        for transport in self.transports:
            for peer in list(transport.peers()):
                if peer not in except_for:
                    peer.tell(lines)


def as_line(text: bytes) -> bytes:
    """Return text with its line feeds escaped: a datagram may hold some, and forge what others seem to have said."""
    return text.replace(b"\n", rb"\n")


def listen_failure(address: Address, error: OSError) -> Failure:
    """Return the Failure for an address that can not be listened on."""
    port = address[1]
    cures = {
        errno.EADDRINUSE: f"port {port} is in use; stop the program that has it, or choose another port (0: any)",
        errno.EACCES: f"port {port} needs more rights; choose one of 1024 or above",
        errno.EADDRNOTAVAIL: "this machine has no such address; --host takes one of its own, 0.0.0.0 or ::",
    }
    return Failure(f"cannot listen on {show_address(address)}: {cures.get(error.errno or 0, reason(error))}")


class Loop:
    """One selector over all sockets. Whoever registers a socket gives it a function to call when it is ready."""

    def __init__(self, service: Service, selector: selectors.BaseSelector, typed: TypedLines) -> None:
        self._service = service
        self._selector = selector
        self._typed = typed
        self._signal = 0
        self._wakeup, signalled = socket.socketpair()
        self._wakeup.setblocking(False)
        signalled.setblocking(False)
        self._signalled = signalled
        selector.register(typed.socket, selectors.EVENT_READ, self._read_typed)
        selector.register(self._wakeup, selectors.EVENT_READ, lambda: self._wakeup.recv(4096))
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._take_signal)

    def run(self) -> None:
        """Serve until told to stop; then give the clients STOP_WITHIN seconds to read what they are owed."""
        service, record, select_ready = self._service, self._service.record, self._selector.select
        next_tick = time.monotonic() + TICK
        deadline = 0.0
        record.flush()
        self._typed.ask()
        while True:
            now = time.monotonic()  # what has come by now is read before anybody is found late, also after Ctrl-Z
            for key, _ in select_ready(RETRY if service.stopping or record.waits else max(next_tick - now, 0)):
                key.data()
                if service.received_bytes > PASS_BYTES:
                    service.finish_pass()
                    record.flush()
            service.finish_pass()
            if now >= next_tick:
                next_tick = now + TICK
                service.gate.tick(now)
                for transport in service.transports:
                    transport.tick(now)
            if self._signal and not service.stopping:
                record.line(f"[Server] {signal.Signals(self._signal).name} received. Stopping server...")
                service.stop()
            record.flush()
            if service.stopping:
                deadline = deadline or time.monotonic() + STOP_WITHIN
                if time.monotonic() >= deadline or all(transport.stopped() for transport in service.transports):
                    return

    def _read_typed(self) -> None:
        lines = self._typed.read()
        if lines is None:
            self._selector.unregister(self._typed.socket)
            if self._typed.typed:
                self._typed.close()
            if self._typed.problem:
                self._service.record.line(f"[Server] Cannot read standard input: {self._typed.problem}.")
            elif self._typed.typed:
                self._service.record.line("[Server] End of input. Serving goes on; Ctrl-C stops it.")
            return
        for line in lines:
            self._service.type_line(line)
            if not self._service.exit_typed:
                self._typed.ask()

    def _take_signal(self, number: int, _: object) -> None:
        self._signal = number


def serve(
    options: argparse.Namespace,
    open_transports: Callable[[Service, selectors.BaseSelector], Iterable[Transport]],
) -> int:
    """Run a server with the transports that `open_transports` opens, until it is told to stop; return the exit code."""
    typed = TypedLines()
    record = Record(typed)
    archive = Archive(options.save, record) if options.save is not None else None
    service = Service(options, record, archive)
    with selectors.DefaultSelector() as selector:
        try:
            loop = Loop(service, selector, typed)
            for transport in open_transports(service, selector):
                service.transports.append(transport)
            typed.start()
            loop.run()
        finally:
            for transport in service.transports:
                transport.close()
            service.gate.tick(float("inf"))
            if archive:
                archive.close()
            record.flush()
            typed.close()
        record.line("[Server] All services stopped.")
        record.finish()
    return 0
