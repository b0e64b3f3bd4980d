"""The archive: what `--save` keeps, what a confirmation is worth, and what happens when messages can not be saved."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import select
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

from support import PATIENCE, ROOT, Process, TestCase, needs, receive_lines, wait_until, with_constants

from archive import Archive, look_at

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SERVERS = ("tcp_server.py", "udp_server.py")
OLD_SCHEMA = "CREATE TABLE messages(id INTEGER PRIMARY KEY, at TEXT, protocol TEXT, direction TEXT, peer TEXT, text)"
SCHEMA = f"{OLD_SCHEMA[:-1]}, subject TEXT)"
CONFIRMATION = b"Message received: "
NOT_SAVED = b"Error: the message could not be saved"
COMPLAINT = r"^\w+\.py: error: cannot save messages in .*$"
IN_A_HURRY = with_constants(PATIENCE=100)
"""Starts a server that waits a tenth of a second for a file that others write to, in place of half a second."""
ON_POSIX = unittest.skipUnless(os.name == "posix", "Windows has other files and signals")
ON_LINUX = unittest.skipUnless(sys.platform == "linux", "needs prlimit")


def may_mount() -> bool:
    """Tell whether a file system can be mounted here, where no other process sees it."""
    command = ("unshare", "--mount", "mount", "-t", "tmpfs", "none", tempfile.gettempdir())
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def without_might(*command: object) -> tuple[object, ...]:
    """Return a command that runs another one so that file modes hold for it, also if we are root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return "setpriv", "--bounding-set=-dac_override,-dac_read_search", *command
    return command


class ArchiveTest(TestCase):
    """A test with a folder for an archive."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.file = self.folder / "messages.db"

    @contextlib.contextmanager
    def opened(self, file: Path | None = None) -> Iterator[sqlite3.Connection]:
        """Open an archive as any other program would."""
        database = sqlite3.connect(file or self.file, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            yield database
        finally:
            database.close()

    def select(self, what: str, file: Path | None = None) -> list[tuple[Any, ...]]:
        """Return what is in an archive, oldest first."""
        with self.opened(file) as database:
            return database.execute(f"SELECT {what} FROM messages ORDER BY id").fetchall()

    def texts(self, file: Path | None = None) -> list[Any]:
        """Return the messages in an archive."""
        return [text for (text,) in self.select("text", file)]

    def assert_sound(self, file: Path | None = None) -> None:
        """Check that SQLite finds nothing wrong with an archive."""
        with self.opened(file) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def assert_same(self, found: Sequence[object], expected: Sequence[object]) -> None:
        """Compare long lists, whose differences unittest would need minutes to show; show where they part."""
        for place, (one, other) in enumerate(zip(found, expected)):
            self.assertEqual(one, other, f"in place {place}")
        self.assertEqual(len(found), len(expected))

    def ask(self, connected: socket.socket, text: str) -> bytes:
        """Send a message over TCP or UDP; return its reply."""
        connected.sendall(text.encode() + b"\n")
        return receive_lines(connected, 1)[0]

    def assert_confirmed(self, connected: socket.socket, text: str) -> None:
        """Check that a message is confirmed."""
        self.assertEqual(self.ask(connected, text), CONFIRMATION + text.encode())

    def assert_not_saved(self, connected: socket.socket, *texts: str) -> None:
        """Check that messages are refused since they are not saved."""
        for text in texts:
            self.assertEqual(self.ask(connected, text), NOT_SAVED)

    def wait_until_confirmed(self, connected: socket.socket, text: str) -> None:
        """Send a message until it is confirmed; until then it must be refused."""

        def is_confirmed() -> bool:
            reply = self.ask(connected, text)
            self.assertIn(reply, (NOT_SAVED, CONFIRMATION + text.encode()))
            return reply != NOT_SAVED

        wait_until(is_confirmed, f"{text} confirmed")

    def assert_complaints(self, server: Process, count: int) -> None:
        """Check how many times a server said that it can not save, and that it said nothing else."""
        wait_until(lambda: server.errors.count("\n") >= count, f"{count} complaints")
        self.assertEqual(len(re.findall(COMPLAINT, server.errors, re.MULTILINE)), count, server.errors)
        self.assertEqual(server.errors.count("\n"), count, server.errors)


class Contents(ArchiveTest):
    """What is in the file."""

    def test_a_row_for_each_message(self) -> None:
        began = datetime.now(timezone.utc) - timedelta(milliseconds=1)
        server = self.server(
            "tcp_server.py", "--udp-port", 0, "--save", self.file, env={"TZ": "Pacific/Kiritimati", "PYTHONUTF8": "1"}
        )
        tcp, udp = self.connect(server.port), self.datagrams(server.udp_port)
        names = ["{}:{}".format(*connected.getsockname()) for connected in (tcp, udp)]
        self.assert_confirmed(tcp, "Grüße")
        self.assert_confirmed(udp, "over UDP")
        server.type("from the person\n")
        self.assertEqual(receive_lines(tcp, 1), [b"from the person"])
        tcp.sendall(b"the last one, unfinished")
        tcp.shutdown(socket.SHUT_WR)
        server.wait_for("Disconnected")
        ended = datetime.now(timezone.utc)
        rows = self.select("id, protocol, direction, peer, text")
        expected = [
            (1, "tcp", "received", names[0], "Grüße"),
            (2, "udp", "received", names[1], "over UDP"),
            (3, "tcp", "sent", "*", "from the person"),
            (4, "tcp", "received", names[0], "the last one, unfinished"),
        ]
        self.assertEqual(rows, expected)
        times = [at for (at,) in self.select("at")]
        self.assertEqual(times, sorted(times))
        for at in times:
            self.assertRegex(at, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
            moment = datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%f%z")
            self.assertTrue(began <= moment <= ended, f"{began} <= {at} <= {ended}")

    def test_the_schema_is_the_documented_one(self) -> None:
        self.server("udp_server.py", "--save", self.file)
        with self.opened() as database:
            self.assertEqual(
                database.execute("SELECT type, name, sql FROM sqlite_master").fetchall(),
                [("table", "messages", SCHEMA)],
            )
            self.assertEqual(database.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_an_archive_of_before_gets_the_column_and_keeps_every_row(self) -> None:
        """Also if several servers open it at once, of which each would add it."""
        old = [(number, "2026-01-01T00:00:00.000Z", "tcp", "received", "peer (CN=x)", "x") for number in range(1, 9)]
        with self.opened() as database:
            database.execute(OLD_SCHEMA)
            database.executemany("INSERT INTO messages VALUES(?, ?, ?, ?, ?, ?)", old)
        servers = [self.start(sys.executable, "tcp_server.py", 0, "--save", self.file) for _ in range(3)]
        for server in servers:
            port = int(server.wait_for(r"Listening on \S+:(\d+)\.")[1])
            self.assert_confirmed(self.connect(port), "new")
        with self.opened() as database:
            found = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        self.assertEqual(found, [("table", "messages", SCHEMA)], "as if it was made so")
        columns = "id, at, protocol, direction, peer, text"
        self.assertEqual(self.select(columns)[:8], old)
        self.assertEqual(self.select("text, subject"), [("x", None)] * 8 + [("new", None)] * 3)

    @needs("sqlite3")
    def test_the_sqlite_tool_reads_it(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file)
        self.assert_confirmed(self.connect(server.port), "Hello")
        command = ("sqlite3", self.file, "select protocol, direction, text from messages")
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        self.assertEqual(shown.stdout, "tcp|received|Hello\n")

    def test_bytes_are_kept_as_they_are(self) -> None:
        """What is UTF-8 becomes TEXT, whatever it looks like; anything else, and what has a NUL in it, a BLOB."""
        messages = {
            b"": "text",
            b"42": "text",
            b"1.0": "text",
            b"  blanks  ": "text",
            b"nul\x00inside\x00": "blob",
            "\ufeff\U0001f600\u202e\u2028".encode(): "text",
            b"'); DROP TABLE messages; --": "text",
            b"\x1b[2J\x07": "text",
            b"exit now": "text",
            b"\xff\xfe": "blob",
            b"caf\xe9": "blob",
            b"a surrogate \xed\xa0\x80": "blob",
            b"too long a form \xc0\xaf": "blob",
            b"long " * 12000: "text",
        }
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, "--quiet")
        for port, open_socket in ((server.port, self.connect), (server.udp_port, self.datagrams)):
            connected = open_socket(port)
            for message in messages:
                connected.sendall(message + b"\n")
                self.assertEqual(receive_lines(connected, 1), [CONFIRMATION + message])
        rows = self.select("CAST(text AS BLOB), typeof(text)")
        self.assertEqual(rows, [*messages.items()] * 2)

    def test_line_endings_are_not_kept(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file)
        tcp, udp = self.connect(server.port), self.datagrams(server.udp_port)
        tcp.sendall(b"lf\ncrlf\r\ntwo\r\r\n")
        receive_lines(tcp, 3)
        for datagram in (b"nothing", b"lf\n", b"crlf\r\n", b"two\n\n"):
            udp.send(datagram)
            udp.recv(100)
        self.assertEqual(self.texts(), ["lf", "crlf", "two\r", "nothing", "lf", "crlf", "two\n"])

    def test_what_is_no_message_is_not_kept(self) -> None:
        options = ("--udp-port", 0, "--save", self.file, "--max-message", 10, "--exit-from", "nobody")
        server = self.server("tcp_server.py", *options)
        connected = self.connect(server.port)
        connected.sendall(b"one\n exit \n" + b"x" * 11 + b"\nnever taken\n")
        replies = receive_lines(connected, 3)
        self.assertEqual([reply.split()[0] for reply in replies], [b"Message", b"Error:", b"Error:"])
        udp = self.datagrams(server.udp_port)
        for datagram in (b"terminate", b"Message received: a server's reply", b"y" * 11, b"two"):
            udp.send(datagram)
        udp.recv(100)
        self.assertEqual(udp.recv(100), CONFIRMATION + b"two")
        self.assertEqual(self.texts(), ["one", "two"])

    def test_messages_without_replies(self) -> None:
        server = self.server("udp_server.py", "--save", self.file, "--reply", "none")
        udp = self.datagrams(server.port)
        udp.send(b"Hi")
        server.wait_for("Received from")
        server.type("Hello yourself\n")
        self.assertEqual(udp.recv(100), b"Hello yourself")
        kept = [("udp", "received", "Hi"), ("udp", "sent", "Hello yourself")]
        wait_until(lambda: self.select("protocol, direction, text") == kept, "both kept")

    def test_typed_lines_are_kept_when_nobody_hears_them(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file)
        server.type(b"one\ncaf\xe9\n\n")
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        self.assertEqual(self.select("direction, peer, text"), [("sent", "*", t) for t in ("one", b"caf\xe9", "")])

    @ON_POSIX
    def test_only_the_owner_may_read_it(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file, within=("sh", "-c", 'umask 0; exec "$@"', "sh"))
        self.assert_confirmed(self.connect(server.port), "secret")
        files = sorted(self.folder.iterdir())
        self.assertGreaterEqual(len(files), 2, "the file and what SQLite keeps beside it")
        self.assertEqual({stat.S_IMODE(file.stat().st_mode) for file in files}, {0o600})

    @ON_POSIX
    def test_a_file_that_is_there_keeps_its_mode_and_its_messages(self) -> None:
        with self.opened() as database:
            database.execute(SCHEMA)
            database.execute("INSERT INTO messages(id, text) VALUES(7, 'before')")
        self.file.chmod(0o640)
        server = self.server("tcp_server.py", "--save", self.file)
        self.assert_confirmed(self.connect(server.port), "after")
        self.assertEqual(self.select("id, text"), [(7, "before"), (8, "after")])
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o640)

    @ON_POSIX
    def test_a_clean_end_leaves_one_file(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.server("udp_server.py", "--save", self.file)
            self.assert_confirmed(self.datagrams(server.port), number.name)
            server.signal(number)
            self.assertEqual(server.wait(), 0)
            self.assertEqual([*self.folder.iterdir()], [self.file])
        self.assertEqual(self.texts(), ["SIGTERM", "SIGINT"])

    @ON_POSIX
    def test_a_symbolic_link(self) -> None:
        """The file is the link's target, whether it is there or not."""
        target = self.folder / "there" / "target.db"
        target.parent.mkdir()
        self.file.symlink_to(Path("there", "target.db"))
        for text in ("one", "two"):
            server = self.server("tcp_server.py", "--save", self.file)
            with self.connect(server.port) as connected:
                self.assert_confirmed(connected, text)
            server.signal(signal.SIGTERM)
            self.assertEqual((server.wait(), server.errors), (0, ""))
        self.assertTrue(self.file.is_symlink())
        self.assertEqual({*self.folder.rglob("*")}, {self.file, target.parent, target})
        self.assertEqual(self.texts(target), ["one", "two"])

    @ON_POSIX
    def test_a_relative_path_with_a_strange_name(self) -> None:
        """A name is a name: no part of it is taken for options or for a URI."""
        name = "file:a?b#c%20 d'é.db"
        there = ("sh", "-c", 'cd "$0" && exec "$@"', self.folder)
        server = self.start(*there, sys.executable, ROOT / "tcp_server.py", 0, "--save", name, env={"PYTHONUTF8": "1"})
        port = int(server.wait_for(r"Listening on \S+:(\d+)\.")[1])
        self.assert_confirmed(self.connect(port), "Hello")
        self.assertEqual(self.texts(self.folder / name), ["Hello"])


class Confirmations(ArchiveTest):
    """A confirmation, in every mode, leaves the server after the message is in the file."""

    def test_what_is_confirmed_can_be_read(self) -> None:
        for mode in ("confirm", "echo", "relay"):
            file = self.folder / mode
            server = self.server("tcp_server.py", "--udp-port", 0, "--save", file, "--reply", mode)
            for connect, port in ((self.connect, server.port), (self.datagrams, server.udp_port)):
                with self.subTest(mode, connect=connect), self.opened(file) as database, connect(port) as connected:
                    for number in range(25):
                        text = f"{number} {connected.type}"
                        self.assertEqual(
                            self.ask(connected, text), (b"" if mode == "echo" else CONFIRMATION) + text.encode()
                        )
                        count = database.execute("SELECT count(*) FROM messages WHERE text = ?", (text,)).fetchone()
                        self.assertEqual(count, (1,))

    def test_they_wait_for_the_file(self) -> None:
        """While another program writes to the file for a moment, no reply comes; then it does."""
        server = self.server("tcp_server.py", "--save", self.file)
        connected = self.connect(server.port)
        with self.opened() as database:
            database.execute("BEGIN IMMEDIATE")
            connected.sendall(b"one\n")
            early = select.select([connected], [], [], 0.1)[0]
            database.execute("COMMIT")
        reply = receive_lines(connected, 1)[0]
        self.assertIn(reply, (CONFIRMATION + b"one", NOT_SAVED), "refused if that took this machine long")
        self.assertFalse(early and reply != NOT_SAVED)
        self.assertEqual(self.texts(), [] if reply == NOT_SAVED else ["one"])

    @ON_POSIX
    def test_one_transaction_for_all_that_waits(self) -> None:
        """However many clients there are, what came in the meantime is stored in one pass, with one fsync."""
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, "--quiet")
        connections = [self.connect(server.port) for _ in range(50)]
        peers = [self.datagrams(server.udp_port) for _ in range(10)]
        for connected in connections:
            self.assert_confirmed(connected, "Hello")
        before = self.commits()
        server.stop()
        for connected in (*connections, *peers):
            connected.sendall(b"all at once\n")
        server.signal(signal.SIGCONT)
        for connected in (*connections, *peers):
            self.assertEqual(receive_lines(connected, 1), [CONFIRMATION + b"all at once"])
        self.assertEqual(len(self.texts()), 110)
        self.assertLessEqual(self.commits() - before, 2, "one, or two if SIGCONT found the loop about to wake")

    def commits(self) -> int:
        """Return how many transactions are in SQLite's write-ahead log (sqlite.org/fileformat2.html, 4.1)."""
        log = Path(f"{self.file}-wal").read_bytes()
        frame = 24 + int.from_bytes(log[8:12], "big")
        return sum(log[start + 4 : start + 8] != bytes(4) for start in range(32, len(log), frame))

    def test_every_commit_reaches_the_disk(self) -> None:
        """SQLite is told to sync the log with each commit."""
        opened: list[sqlite3.Connection] = []

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            opened.append(sqlite3_connect(*arguments, **options))
            return opened[-1]

        sqlite3_connect = sqlite3.connect
        with mock.patch("sqlite3.connect", connect):
            archive = Archive(str(self.file), mock.Mock())
        self.addCleanup(archive.close)
        self.assertEqual(opened[0].execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(opened[0].execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_the_order_of_messages_is_kept(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file, "--quiet")
        lines = [str(number) for number in range(5000)]
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, typed="\n".join(lines))
        self.assertEqual(client.popen.returncode, 0, client.errors)
        self.assert_same(self.texts(), lines)


class Load:
    """Clients in threads that talk to a server until it dies, and remember what they saw confirmed."""

    def __init__(self, tcp_ports: Sequence[int], udp_ports: Sequence[int], clients: int, name: str = "") -> None:
        self.confirmed: list[str] = []
        self.refused = 0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._talk, args=(kind, port, f"{name} {kind.name} {port} {place}"))
            for kind, ports in ((socket.SOCK_STREAM, tcp_ports), (socket.SOCK_DGRAM, udp_ports))
            for port in ports
            for place in range(clients)
        ]
        self._sockets: list[socket.socket] = []
        for thread in self._threads:
            thread.start()

    def wait_for(self, confirmed: int = 0, refused: int = 0) -> None:
        """Wait until so many messages are confirmed, and so many refused."""
        enough = f"{confirmed} confirmed, {refused} refused"
        wait_until(lambda: len(self.confirmed) >= confirmed and self.refused >= refused, enough)

    def end(self) -> None:
        """Wait until every client has got the replies that it waits for, and has ended."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def abort(self) -> None:
        """End every client, now that the server is dead."""
        self._over.set()
        wait_until(self._disturb, "the end of every client")

    def _disturb(self) -> bool:
        """End each wait for a reply from a dead server; tell whether all have ended.

        A datagram to its port is refused (ECONNREFUSED); that is told once, to the client or to the next `send`.
        """
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.send(b"")
        return not any(thread.is_alive() for thread in self._threads)

    def _talk(self, kind: socket.SocketKind, port: int, name: str) -> None:
        with contextlib.suppress(OSError, AssertionError), socket.socket(socket.AF_INET, kind) as connected:
            connected.settimeout(PATIENCE)
            connected.connect(("127.0.0.1", port))
            self._sockets.append(connected)
            number = 0
            while not self._over.is_set():
                texts = [f"{name} {number + i}" for i in range(4 if kind == socket.SOCK_STREAM else 1)]
                number += len(texts)
                connected.sendall("".join([f"{text}\n" for text in texts]).encode())
                for line in receive_lines(connected, len(texts)):
                    if line.startswith(CONFIRMATION):
                        self.confirmed.append(line[len(CONFIRMATION) :].decode())
                    else:
                        self.refused += 1


class Loads(ArchiveTest):
    """Everything that any client saw confirmed is in the file, once."""

    KILLS = 8

    @ON_POSIX
    def test_killed_at_random_moments(self) -> None:
        chance = random.Random(4)
        confirmed: set[str] = set()
        for kill in range(self.KILLS):
            server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, "--quiet")
            load = Load([server.port], [server.udp_port], clients=2, name=f"before kill {kill}:")
            load.wait_for(confirmed=1)
            time.sleep(chance.uniform(0, 0.05))
            server.close()
            load.abort()
            self.assertEqual((load.refused, server.errors), (0, ""))
            confirmed.update(load.confirmed)
            self.assert_sound()
            texts = self.texts()
            self.assertEqual(confirmed.difference(texts), set())
            self.assertEqual(len(texts), len(set(texts)))

    def test_another_server_is_about_to_make_the_file(self) -> None:
        """SQLite does not wait for it when both enter WAL mode."""
        with self.opened() as other:
            other.execute("BEGIN IMMEDIATE")
            with mock.patch("time.sleep", lambda _: other.execute("COMMIT")):
                archive = Archive(str(self.file), mock.Mock())
            self.addCleanup(archive.close)
            done = mock.Mock()
            archive.save([("tcp", "received", "peer", None, b"one")], done)
            done.assert_called_once_with(True)
        self.assertEqual(self.texts(), ["one"])

    def test_several_servers_share_a_file(self) -> None:
        """They take turns, and start at the same time, when none of them has made it yet."""
        patient = with_constants(PATIENCE=1000 * PATIENCE)
        command = (0, "--save", self.file, "--quiet")
        servers = [self.start(*patient, sys.executable, script, *command) for script in SERVERS * 2]
        ports = [int(server.wait_for(r"Listening on \S+:(\d+)\.")[1]) for server in servers]
        load = Load(ports[::2], ports[1::2], clients=3)
        load.wait_for(confirmed=1000)
        load.end()
        self.assertEqual(load.refused, 0)
        self.assert_same(sorted(self.texts()), sorted(load.confirmed))
        self.assert_sound()
        protocols = {protocol for (protocol,) in self.select("protocol")}
        self.assertEqual(protocols, {"tcp", "udp"})


class Failures(ArchiveTest):
    """What can not be saved is never confirmed. The server says so once, serves on, and saves again when it can."""

    @ON_LINUX
    def test_no_room_for_the_file_to_grow(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file)
        connected, udp = self.connect(server.port), self.datagrams(server.udp_port)
        self.assert_confirmed(connected, "before")
        full = Path(f"{self.file}-wal").stat().st_size
        limits = resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        for connection in (connected, udp):
            self.assert_not_saved(connection, "one", "two")
        resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE, limits)
        self.wait_until_confirmed(connected, "after")
        self.assert_complaints(server, 1)
        self.assert_sound()
        self.assertEqual(self.texts(), ["before", "after"])

    @unittest.skipUnless(may_mount(), "may not mount file systems")
    def test_the_disk_is_full(self) -> None:
        mounting = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        within = ("unshare", "--mount", "sh", "-c", mounting, self.folder)
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, "--quiet", within=within)
        disk = Path(f"/proc/{server.popen.pid}/root{self.folder}")
        connected, udp = self.connect(server.port), self.datagrams(server.udp_port)
        confirmed = [f"{number} {'x' * 9000}" for number in range(3)]
        for text in confirmed:
            self.assert_confirmed(connected, text)
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass
        for connection in (connected, udp):
            refused = 0
            while refused < 3:  # a few more may find room in what SQLite has allocated
                text = f"{refused} {len(confirmed)} {'y' * 9000}"
                reply = self.ask(connection, text)
                if reply == NOT_SAVED:
                    refused += 1
                else:
                    self.assertEqual(reply, CONFIRMATION + text.encode())
                    confirmed.append(text)
        self.assert_complaints(server, 1)
        self.assertRegex(server.errors, r"\bfull\b")
        (disk / "ballast").unlink()
        self.wait_until_confirmed(udp, "after")
        self.assert_complaints(server, 1)
        for name in (self.file.name, f"{self.file.name}-wal"):
            shutil.copy(disk / name, self.folder)
        self.assert_sound()
        self.assertEqual(self.texts(), [*confirmed, "after"])

    def test_another_program_locks_the_file(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, within=IN_A_HURRY)
        connected, udp = self.connect(server.port), self.datagrams(server.udp_port)
        self.assert_confirmed(connected, "before")
        with self.opened() as database:
            for episode in range(1, 3):
                database.execute("BEGIN EXCLUSIVE")
                for connection in (connected, udp):
                    self.assert_not_saved(connection, "one", "two", "three")
                database.execute("ROLLBACK")
                self.wait_until_confirmed(connected, f"after {episode}")
                self.assert_confirmed(udp, f"again {episode}")
                self.assert_complaints(server, episode)
        self.assertEqual(self.texts(), ["before", "after 1", "again 1", "after 2", "again 2"])

    def test_the_others_are_not_blocked(self) -> None:
        """While the file is locked and clients send all the time, the others are served within a second.

        The best of ten tries counts, since the machine may have other things to do.
        """
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, "--quiet")
        ports = [server.port], [server.udp_port]
        asking = self.connect(server.port)
        for is_busy in (False, True):
            for _ in range(10):
                with self.opened() as database:
                    database.execute("BEGIN IMMEDIATE")
                    load = Load(*ports, clients=2 if is_busy else 0)
                    if is_busy:
                        load.wait_for(refused=3)
                    began = time.monotonic()
                    self.assert_not_saved(asking, "nothing")
                    newcomer = self.connect(server.port)
                    newcomer.sendall(b"terminate\n")
                    self.assertEqual(newcomer.recv(1), b"")
                    waited = time.monotonic() - began
                    load.end()
                self.wait_until_confirmed(asking, "something")
                if waited < 1:
                    break
            self.assertLess(waited, 1, f"is_busy={is_busy}")

    def test_the_folder_vanishes(self) -> None:
        folder, away = self.folder / "here", self.folder / "away"
        for how in ("comes back", "is made anew"):
            with self.subTest(how):
                folder.mkdir()
                server = self.server("tcp_server.py", "--udp-port", 0, "--save", folder / "m.db")
                connected, udp = self.connect(server.port), self.datagrams(server.udp_port)
                self.assert_confirmed(connected, "before")
                folder.rename(away)
                for connection in (connected, udp):
                    self.assert_not_saved(connection, "one", "two")
                self.assert_complaints(server, 1)
                if how == "comes back":
                    away.rename(folder)
                else:
                    folder.mkdir()
                    self.assertEqual(self.texts(away / "m.db"), ["before"])
                self.wait_until_confirmed(udp, "after")
                self.assert_confirmed(connected, "again")
                self.assert_complaints(server, 1)
                before = ["before"] if how == "comes back" else []
                self.assertEqual(self.texts(folder / "m.db"), [*before, "after", "again"])
                server.wait_for(": again$")
                self.assertEqual("was moved or deleted" in server.output, how == "is made anew")
                self.assert_sound(folder / "m.db")
                server.close()
                shutil.rmtree(folder)

    def test_the_person_is_told_of_typed_lines_that_are_not_saved(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file, within=IN_A_HURRY)
        connected = self.connect(server.port)
        self.assert_confirmed(connected, "before")
        with self.opened() as database:
            database.execute("BEGIN EXCLUSIVE")
            server.type("typed\n")
            self.assertEqual(receive_lines(connected, 1), [b"typed"])
            server.wait_for(r"^\[Server\] Sent, but could not be saved: typed$")
            database.execute("ROLLBACK")
        self.wait_until_confirmed(connected, "after")
        self.assertEqual(self.texts(), ["before", "after"])
        self.assertEqual(server.output.count("could not be saved"), 1)

    def test_a_file_that_is_cut_under_the_server(self) -> None:
        """As by `: > a.db` or copytruncate: nothing is confirmed that would be nowhere."""
        cuts = {"to nothing": ("", 0), "to its first page": ("", 4096), "the log": ("-wal", 0)}
        for how, (which, size) in cuts.items():
            with self.subTest(how):
                server = self.server("tcp_server.py", "--save", self.file, "--quiet")
                connected = self.connect(server.port)
                for number in range(20):
                    self.assert_confirmed(connected, f"before {number}" + "x" * 1000)
                if not which:
                    with self.opened() as database:
                        database.execute("PRAGMA wal_checkpoint")
                    self.assert_confirmed(connected, "in the file alone")
                os.truncate(f"{self.file}{which}", size)
                self.assert_not_saved(connected, "one", "two")
                self.assert_complaints(server, 1)
                self.assertIn("cut short by another program", server.errors)
                server.close()
                for rest in ("", "-wal", "-shm"):
                    Path(f"{self.file}{rest}").unlink()

    def test_a_file_that_another_program_has_made_smaller(self) -> None:
        """A VACUUM makes it shorter, and nothing is lost by that, whoever writes it back, and when."""
        server = self.server("tcp_server.py", "--save", self.file, "--quiet")
        connected = self.connect(server.port)
        for pragma in ("wal_checkpoint(TRUNCATE)", "page_count"):
            for _ in range(20):
                connected.sendall(b"x" * 60_000 + b"\n")
                receive_lines(connected, 1)
            with self.opened() as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                before = self.file.stat().st_size
                self.assert_confirmed(connected, "with the file as it is")
                database.execute("DELETE FROM messages WHERE length(text) > 1000")
                database.execute("VACUUM")
                self.assert_confirmed(connected, "with a smaller file in the log")
                database.execute(f"PRAGMA {pragma}")
                self.assert_confirmed(connected, "one")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self.assertLess(self.file.stat().st_size, before)
                self.assert_confirmed(connected, "two")
        self.assertEqual(self.texts(), 2 * ["with the file as it is", "with a smaller file in the log", "one", "two"])
        self.assertEqual(server.errors, "")
        self.assert_sound()

    def test_a_log_that_another_program_has_emptied(self) -> None:
        """A checkpoint cuts the log, too, and nothing is lost by that."""
        server = self.server("tcp_server.py", "--save", self.file)
        connected = self.connect(server.port)
        for episode in range(3):
            for number in range(20):
                self.assert_confirmed(connected, f"{episode} {number}")
            with self.opened() as database:
                self.assertEqual(database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0], 0)
            self.assertEqual(Path(f"{self.file}-wal").stat().st_size, 0)
        self.assert_confirmed(connected, "last")
        self.assertEqual(len(self.texts()), 61)
        self.assertEqual(server.errors, "")

    @ON_POSIX
    def test_nobody_reads_the_complaint(self) -> None:
        """Nobody waits for standard error, either, while it is a full pipe."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writing, bytes(65536)):
                pass
        os.set_blocking(writing, True)
        folder = self.folder / "here"
        folder.mkdir()
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", folder / "m.db", stderr=writing)
        connected, udp = self.connect(server.port), self.datagrams(server.udp_port)
        self.assert_confirmed(connected, "before")
        folder.rename(self.folder / "away")
        for connection in (connected, udp, self.connect(server.port)):
            self.assert_not_saved(connection, "one", "two")
            connection.close()
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    def test_the_folder_comes_back_locked(self) -> None:
        """A lock that follows another failure holds up nobody for longer, either."""
        folder, away = self.folder / "here", self.folder / "away"
        folder.mkdir()
        server = self.server("tcp_server.py", "--save", folder / "m.db", "--quiet")
        connected = self.connect(server.port)
        self.assert_confirmed(connected, "before")
        folder.rename(away)
        self.assert_not_saved(connected, "one")
        with self.opened(away / "m.db") as database:
            database.execute("BEGIN IMMEDIATE")
            away.rename(folder)
            self.assert_not_saved(connected, "two")  # it may take a moment to see what is there now
            waits = []
            for number in range(4):
                began = time.monotonic()
                self.assert_not_saved(connected, f"more {number}")
                waits.append(time.monotonic() - began)
            self.assertLess(min(waits), 0.4, "it must not wait for the lock every time")
        self.wait_until_confirmed(connected, "after")

    def test_the_file_is_moved_away(self) -> None:
        """As with logs that are rotated: what comes then is saved in a new file of that name."""
        server = self.server("tcp_server.py", "--save", self.file)
        connected = self.connect(server.port)
        self.assert_confirmed(connected, "old")
        self.file.rename(self.folder / "old.db")
        self.assert_confirmed(connected, "new")
        self.assertEqual(self.texts(), ["new"])
        self.assertEqual(self.texts(self.folder / "old.db"), ["old"])
        self.file.unlink()
        self.assert_confirmed(connected, "newest")
        self.assertEqual(self.texts(), ["newest"])
        told = rf"\[Server\] {self.file} was moved or deleted\. Messages go to another file of that name\.$"
        server.wait_for(rf"(?s){told}.*{told}")
        self.assertEqual(server.errors, "")

    @ON_POSIX
    def test_the_file_is_moved_at_the_last_moment(self) -> None:
        """Between two looks at it: that is told, too."""
        record, done = mock.Mock(), mock.Mock()
        archive = Archive(str(self.file), record)
        self.addCleanup(archive.close)
        looks = itertools.count()

        def look(path: str) -> tuple[tuple[int, int] | None, int]:
            found = look_at(path)
            if next(looks) == 0:
                self.file.rename(self.folder / "old.db")
            return found

        with mock.patch("archive.look_at", look):
            archive.save([("tcp", "received", "peer", None, b"new")], done)
        done.assert_called_once_with(True)
        self.assertEqual(self.texts(), ["new"])
        record.line.assert_called_once()
        self.assertIn("was moved or deleted", record.line.call_args.args[0])

    @ON_POSIX
    def test_the_file_is_moved_to_another_file_system(self) -> None:
        """Then it is copied and deleted. What was confirmed, and is in neither, is kept beside it."""
        for how in ("and messages come", "and the server stops"):
            with self.subTest(how):
                server = self.server("tcp_server.py", "--save", self.file, "--quiet")
                connected = self.connect(server.port)
                texts = [f"{how} {number}" for number in range(3)]
                for text in texts:
                    self.assert_confirmed(connected, text)
                shutil.copy(self.file, self.folder / "elsewhere.db")
                self.file.unlink()
                if how == "and messages come":
                    self.assert_confirmed(connected, "new")
                    self.assertEqual(self.texts(), ["new"])
                    self.file.unlink()
                connected.close()
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                kept, *later = sorted(self.folder.glob("messages.db.deleted-*"))
                self.assertIn(f"[Server] {self.file} was deleted. All that was in it is in {kept}.\n", server.output)
                self.assertEqual([self.texts(path) for path in (kept, *later)], [texts, *[["new"] for _ in later]])
                self.assertEqual(len(later), how == "and messages come")
                for path in (kept, *later):
                    self.assert_sound(path)
                    self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
                    path.unlink()
                self.assertFalse([path for path in self.folder.iterdir() if path.name.startswith("messages.db-")])
                self.assertEqual(server.errors, "")

    @unittest.skipUnless(may_mount(), "may not mount file systems")
    def test_the_file_is_deleted_and_there_is_no_room_for_a_copy(self) -> None:
        """Nothing is confirmed until there is; a server that is stopped before says what is lost."""
        mounting = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        within = ("unshare", "--mount", "sh", "-c", mounting, self.folder)
        for how in ("there is room again", "the server stops"):
            with self.subTest(how):
                server = self.server("tcp_server.py", "--save", self.file, "--quiet", within=within)
                disk = Path(f"/proc/{server.popen.pid}/root{self.folder}")
                connected = self.connect(server.port)
                self.assert_confirmed(connected, "old")
                with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
                    while ballast.write(bytes(4096)):
                        pass
                (disk / "messages.db").unlink()
                self.assert_not_saved(connected, "one", "two")
                self.assert_complaints(server, 1)
                self.assertRegex(server.errors, r"it was deleted, and there is no room beside it for a copy")
                self.assertEqual(list(disk.glob("*deleted*")), [])
                if how == "there is room again":
                    (disk / "ballast").unlink()
                    self.wait_until_confirmed(connected, "new")
                    (kept,) = disk.glob("messages.db.deleted-*")
                    shutil.copy(kept, self.folder)
                    self.assertEqual(self.texts(self.folder / kept.name), ["old"])
                else:
                    connected.close()
                    server.signal(signal.SIGTERM)
                    self.assertEqual(server.wait(), 0)
                    self.assertRegex(server.output, rf"(?m)^\[Server\] Cannot close {self.file}: it was deleted, and")

    def test_the_file_is_moved_away_before_the_server_stops(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file)
        with self.connect(server.port) as connected:
            self.assert_confirmed(connected, "old")
        self.file.rename(self.folder / "old.db")
        server.signal(signal.SIGTERM)
        server.wait()
        self.assertEqual([path.name for path in self.folder.iterdir()], ["old.db"])
        self.assertEqual(self.texts(self.folder / "old.db"), ["old"])

    def test_the_file_is_moved_away_and_the_server_killed(self) -> None:
        """What is in the log alone is not thrown away by the next start, as SQLite would."""
        server = self.server("tcp_server.py", "--save", self.file)
        self.assert_confirmed(self.connect(server.port), "old")
        self.file.rename(self.folder / "old.db")
        server.close()
        refusing = self.start(sys.executable, "tcp_server.py", 0, "--save", self.file)
        self.assert_one_line_error(refusing, f"it is gone, but {self.file}-wal, a part of it, is not")
        (self.folder / "old.db").rename(self.file)
        server = self.server("tcp_server.py", "--save", self.file)
        self.assert_confirmed(self.connect(server.port), "new")
        self.assertEqual(self.texts(), ["old", "new"])

    def test_a_moved_file_that_somebody_reads(self) -> None:
        """What is in its log can not be taken into it yet, so nothing is saved elsewhere before."""
        server = self.server("tcp_server.py", "--save", self.file, within=IN_A_HURRY)
        connected = self.connect(server.port)
        self.assert_confirmed(connected, "one")
        with self.opened() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM messages").fetchall()
            self.assert_confirmed(connected, "two")
            self.file.rename(self.folder / "old.db")
            self.assert_not_saved(connected, "three")
            self.assert_complaints(server, 1)
        self.wait_until_confirmed(connected, "four")
        self.assertEqual(self.texts(self.folder / "old.db"), ["one", "two"])
        self.assertEqual(self.texts(), ["four"])

    def test_the_file_of_several_servers_is_moved_away(self) -> None:
        """Whatever was confirmed is in one file or the other, though each server notices in its own time."""
        servers = [self.server(script, "--save", self.file, "--quiet") for script in SERVERS * 2]
        load = Load([server.port for server in servers[::2]], [server.port for server in servers[1::2]], clients=2)
        for moves, name in enumerate(("first.db", "second.db", "third.db"), 1):
            load.wait_for(confirmed=len(load.confirmed) + 100)
            self.file.rename(self.folder / name)
            for server in servers:
                server.wait_for(r"\A" + moves * "(.*\n)*.* was moved or deleted.*\n")
        load.wait_for(confirmed=len(load.confirmed) + 100)
        load.end()
        for server in servers:
            server.signal(signal.SIGTERM)
            server.wait()
        texts = []
        for file in self.folder.glob("*.db"):
            self.assert_sound(file)
            texts += self.texts(file)
        self.assert_same(sorted(texts), sorted(load.confirmed))

    def test_something_else_takes_its_place(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file)
        connected = self.connect(server.port)
        self.assert_confirmed(connected, "before")
        self.file.rename(self.folder / "old.db")
        note = "Dear diary, this is no database.\n" * 100
        self.file.write_text(note)
        self.assert_not_saved(connected, "one", "two")
        self.assertEqual(self.file.read_text(), note)
        self.assert_complaints(server, 1)
        self.file.unlink()
        self.wait_until_confirmed(connected, "after")
        self.assertEqual(self.texts(), ["after"])

    def test_what_is_not_saved_is_not_relayed(self) -> None:
        server = self.server("tcp_server.py", "--save", self.file, "--reply", "relay", within=IN_A_HURRY)
        speaker, listener = self.connect(server.port), self.connect(server.port)
        self.assert_confirmed(listener, "I am here")
        receive_lines(speaker, 1)
        with self.opened() as database:
            database.execute("BEGIN IMMEDIATE")
            self.assert_not_saved(speaker, "lost")
        self.wait_until_confirmed(speaker, "found")
        lines = receive_lines(listener, 1)
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith(b": found"), lines)

    def test_clients_report_what_was_not_saved(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, within=IN_A_HURRY)
        with self.opened() as database:
            database.execute("BEGIN IMMEDIATE")
            for script, port in (("tcp_client.py", server.port), ("udp_client.py", server.udp_port)):
                with self.subTest(script):
                    client = self.client(script, "127.0.0.1", port, "-m", "precious")
                    self.assert_one_line_error(client, "1 message was not confirmed by .*: precious")
                    self.assertEqual(client.output, NOT_SAVED.decode() + "\n")

    def test_the_reply_ends_as_the_message_did(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", self.file, within=IN_A_HURRY)
        tcp, udp = self.connect(server.port), self.datagrams(server.udp_port)
        with self.opened() as database:
            database.execute("BEGIN IMMEDIATE")
            for ending in (b"\n", b"\r\n"):
                tcp.sendall(b"one" + ending)
                self.assertEqual(tcp.recv(100), NOT_SAVED + ending)
            for ending in (b"", b"\n", b"\r\n"):
                udp.send(b"two" + ending)
                self.assertEqual(udp.recv(100), NOT_SAVED + ending)


class Starts(ArchiveTest):
    """A file that can not be the archive is refused with a clear line at the start, and left as it is."""

    def state(self) -> dict[str, tuple[Any, ...]]:
        """Return what is in the folder, byte for byte, and how it is."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            info = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[str(path)] = (info.st_mode, info.st_size, info.st_mtime_ns, content)
        return found

    def assert_refused(
        self, file: Path, pattern: str, script: str = "tcp_server.py", within: Sequence[object] = ()
    ) -> None:
        """Check that a server does not start with a file, says why, and changes nothing."""
        before = self.state()
        server = self.start(*within, sys.executable, script, 0, "--save", file)
        self.assert_one_line_error(server, rf"cannot save messages in {re.escape(str(file))}: .*{pattern}")
        self.assertEqual(server.output, "")
        self.assertEqual(self.state(), before)

    def test_not_a_database(self) -> None:
        for script, content in zip(SERVERS, (b"Dear diary, this is no database.\n" * 100, b"short")):
            self.file.write_bytes(content)
            self.assert_refused(self.file, "not a database", script)

    def test_another_schema(self) -> None:
        schemas = (
            "CREATE TABLE bookmarks(id INTEGER PRIMARY KEY, url TEXT)",
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, body TEXT)",
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, at TEXT, protocol TEXT, direction TEXT, peer TEXT)",
        )
        for schema in schemas:
            with self.subTest(schema):
                self.file.unlink(missing_ok=True)
                with self.opened() as database:
                    database.execute(schema)
                self.assert_refused(self.file, "something else")

    def test_a_folder_that_does_not_exist(self) -> None:
        self.assert_refused(self.folder / "missing" / "messages.db", "No such file or directory")

    def test_an_empty_name(self) -> None:
        """As of a shell variable that is not set: it must not pass for no `--save` at all."""
        server = self.start(sys.executable, "tcp_server.py", 0, "--save", "")
        self.assertIn(server.wait(), (1, 2))
        self.assertRegex(server.errors, r"\A\w+\.py: error: .*\n\Z")

    @ON_POSIX
    def test_memory_is_a_file(self) -> None:
        """A name that stands for memory in SQLite is a file's name here: what is confirmed is on disk."""
        self.assert_refused(self.folder / "missing" / ":memory:", "No such file or directory")
        command = ("sh", "-c", 'cd "$0" && exec "$@"', self.folder, sys.executable, ROOT / "tcp_server.py")
        server = self.start(*command, 0, "--save", ":memory:")
        port = int(server.wait_for(r"Listening on \S+:(\d+)\.")[1])
        self.assert_confirmed(self.connect(port), "Hello")
        self.assertEqual(self.texts(self.folder / ":memory:"), ["Hello"])

    def test_a_folder_in_place_of_a_file(self) -> None:
        self.assert_refused(self.folder, "directory")

    @ON_POSIX
    @needs("setpriv")
    def test_a_folder_that_may_not_be_written(self) -> None:
        closed = self.folder / "closed"
        closed.mkdir()
        with self.opened(closed / "messages.db") as database:
            database.execute(SCHEMA)
        closed.chmod(0o555)
        self.addCleanup(closed.chmod, 0o755)
        self.assert_refused(closed / "new.db", "Permission denied", within=without_might())
        self.assert_refused(closed / "messages.db", "unable to open|readonly|Permission denied", within=without_might())

    @ON_POSIX
    @needs("setpriv")
    def test_a_file_that_may_not_be_written(self) -> None:
        with self.opened() as database:
            database.execute(SCHEMA)
        self.file.chmod(0o444)
        self.assert_refused(self.file, "Permission denied", within=without_might())

    def test_a_file_that_is_locked(self) -> None:
        with self.opened() as database:
            database.execute(SCHEMA)
            database.execute("BEGIN EXCLUSIVE")
            server = self.start(*IN_A_HURRY, sys.executable, "tcp_server.py", 0, "--save", self.file)
            self.assert_one_line_error(server, "locked")

    def test_the_name_is_shown_safely(self) -> None:
        file = self.folder / "missing" / "\x1b[2J"
        server = self.start(sys.executable, "udp_server.py", 0, "--save", file)
        self.assert_one_line_error(server, r"\\x1b\[2J: No such file")
        self.assertNotIn("\x1b", server.errors)

    def test_an_empty_file_becomes_an_archive(self) -> None:
        self.file.touch()
        server = self.server("tcp_server.py", "--save", self.file)
        self.assert_confirmed(self.connect(server.port), "Hello")
        self.assertEqual(self.texts(), ["Hello"])

    def test_nothing_is_loaded_or_made_without_it(self) -> None:
        """Who saves nothing does not pay for it."""
        for script in SERVERS:
            command = (sys.executable, "-X", "importtime", script, "--help")
            shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE)
            self.assertNotIn("sqlite3", shown.stderr)


if __name__ == "__main__":
    unittest.main()
