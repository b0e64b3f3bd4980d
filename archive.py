"""Servers: what a server keeps (`--save`): its messages in an SQLite file, each on disk before it is confirmed."""

from __future__ import annotations

import contextlib
import os
import time

from common import Failure, reason
from record import Record, complain, utc
from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from keeping import Row

try:
    import sqlite3
except ImportError as error:  # a Python built without it
    raise Failure("cannot save messages: this Python has no sqlite3; use another, or leave out --save") from error

SCHEMA = "messages(id INTEGER PRIMARY KEY, at TEXT, protocol TEXT, direction TEXT, peer TEXT, text, subject TEXT)"
TABLE = f"CREATE TABLE {SCHEMA}"
OLD_TABLE = TABLE.replace(", subject TEXT", "")
"""That of version 1.0. SQLite appends a column to it so that it is the same as the other."""
PATIENCE, IMPATIENCE = 500, 50
"""Milliseconds that all wait while another program writes to the file; and after a failure, until it is over."""


class Archive:
    """The messages in a file. In WAL mode a commit is one append to a log beside it and one fsync (sqlite.org/wal)."""

    def __init__(self, path: str, record: Record) -> None:
        """Open the file, or make it. Raises Failure, and leaves the file as it is, if it is something else."""
        self._record = record
        self._path = os.path.realpath(path)  # SQLite puts its log there; it takes :memory: for something else
        self._log_path = f"{self._path}-wal"
        self._size = self._log_size = 0
        self._unsaved = 0
        """Messages that could not be saved since it last went well; none: it goes well."""
        self._database: sqlite3.Connection | None = None
        self._descriptor = -1
        """The open file once more, to tell whether it still has a name."""
        self._opened = contextlib.ExitStack()
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        """Which file, and which log, is open, or was last; see identify()."""
        try:
            self._open(PATIENCE)
        except (OSError, sqlite3.Error) as error:
            raise Failure(f"cannot save messages in {path}: {reason(error)}; name another file") from error

    def save(self, rows: list[Row], done: Callable[[bool], None]) -> None:
        """Store rows, and call `done` with whether they are on disk. Report the first failure."""
        done(self._store(rows))

    def _store(self, rows: list[Row]) -> bool:
        at = utc()
        patience = IMPATIENCE if self._unsaved else PATIENCE
        try:
            with self._open(patience) as database:  # which commits at the end, or rolls back
                database.execute(f"PRAGMA busy_timeout = {patience}")
                database.executemany(
                    "INSERT INTO messages(at, protocol, direction, peer, subject, text) VALUES(?, ?, ?, ?, ?, ?)",
                    [(at, *who, text_or_blob(text)) for *who, text in rows],
                )
            self._size, self._log_size = max(self._size, size_of(self._path)), size_of(self._log_path)
        except (OSError, sqlite3.Error) as error:
            problem = f"save messages in {self._path}: {reason(error)}; their senders are told"
            if not (self._unsaved or complain(f"cannot {problem}")):
                self._record.line(f"[Server] Cannot {problem}", trouble=True)
            self._unsaved += len(rows)
            return False
        if self._unsaved:
            self._record.line(f"[Server] Messages are saved again; {self._unsaved} were not.")
            self._unsaved = 0
        return True

    def close(self) -> None:
        """Close the file; show how many messages could not be saved in the end."""
        if self._unsaved:
            self._record.line(f"[Server] {self._unsaved} messages were not saved.", trouble=True)
        if self._database:
            try:
                self._leave(self._database)
            except (OSError, sqlite3.Error) as error:  # what is saved stays in the log
                self._record.line(f"[Server] Cannot close {self._path}: {reason(error)}", trouble=True)

    def _open(self, patience: int) -> sqlite3.Connection:
        """Return the database; open it again if the file was moved or deleted, since SQLite would not notice."""
        found, size = look_at(self._path)
        if self._database:
            if found == self._file and size < self._size:
                self._check_size(self._database, size)
            if self._is_in_place():
                if size_of(self._log_path) < self._log_size:
                    self._check_log(self._database)
                return self._database
            self._leave(self._database)
        if not size and identify(self._log_path):  # SQLite would delete the log
            what = f"it is {'empty' if found else 'gone'}, but {self._log_path}, a part of it, is not"
            raise sqlite3.DatabaseError(f"{what} (put it back, or delete both)")
        with contextlib.ExitStack() as opened:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            opened.callback(os.close, descriptor)  # after the database: this ends SQLite's locks
            file = identify(self._path)
            database = sqlite3.connect(self._path, timeout=patience / 1000, isolation_level="IMMEDIATE")
            opened.callback(database.close)
            table = check_schema(database)
            enter_wal_mode(database)
            database.execute("PRAGMA synchronous = FULL")
            if table != TABLE:
                make_table(database)
            self._descriptor, self._opened = descriptor, opened.pop_all()
        if self._file and not found == file == self._file:  # it may have been moved only since `found` was found
            self._record.line(f"[Server] {self._path} was moved or deleted. Messages go to another file of that name.")
        self._database, self._file, self._log = database, file, identify(self._log_path)
        self._size = size_of(self._path)
        return database

    def _is_in_place(self) -> bool:
        """Tell whether the open file, and its log, still have their names."""
        return self._file == identify(self._path) and self._log == identify(self._log_path)

    def _check_size(self, database: sqlite3.Connection, size: int) -> None:
        """Take it that the file has become shorter, in bytes. Raise sqlite3.DatabaseError if SQLite did not make it so.

        It does after a VACUUM of another program, and has fewer pages then; how many, it knows from the log.
        """
        pages, page_size = (database.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
        if pages * page_size >= self._size:
            what = "it was cut short by another program"
            raise sqlite3.DatabaseError(f"{what} (stop all who use it, and put it back from a copy)")
        self._size = size

    def _check_log(self, database: sqlite3.Connection) -> None:
        """Raise sqlite3.DatabaseError if what is in the log by SQLite's own count is not there any more."""
        try:  # after a checkpoint of another program there is nothing to read
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.OperationalError as error:
            what = f"{self._log_path}, a part of it, was cut short by another program"
            raise sqlite3.DatabaseError(f"{what} (stop all who use it, and delete that)") from error

    def _leave(self, database: sqlite3.Connection) -> None:
        """Close the file. If it has lost its name, take what is in its log into it, or a copy, and remove the log."""
        if not self._is_in_place():
            if os.fstat(self._descriptor).st_nlink == 0:
                self._copy_deleted(database)
            elif database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise sqlite3.OperationalError("it was moved or deleted, but another program still reads it")
            if identify(self._log_path) == self._log:  # it would ruin the next file (sqlite.org/howtocorrupt.html)
                os.unlink(self._log_path)
                os.unlink(f"{self._path}-shm")
        self._opened.close()
        self._database = None

    def _copy_deleted(self, database: sqlite3.Connection) -> None:
        """Copy a file that has no name any more to one beside it. To move a file to another file system deletes it."""
        copy_path = f"{self._path}.deleted-{utc().replace(':', '')}"
        disk = os.statvfs(os.path.dirname(self._path))
        if disk.f_bavail * disk.f_frsize < os.fstat(self._descriptor).st_size + self._log_size:
            raise sqlite3.OperationalError("it was deleted, and there is no room beside it for a copy")
        os.close(os.open(copy_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(copy_path)) as copy:
                database.backup(copy)
        except BaseException:
            os.unlink(copy_path)
            raise
        self._record.line(f"[Server] {self._path} was deleted. All that was in it is in {copy_path}.")


def look_at(path: str) -> tuple[tuple[int, int] | None, int]:
    """Return what identify() and size_of() do, of the same moment."""
    with contextlib.suppress(FileNotFoundError):
        info = os.stat(path)
        return (info.st_dev, info.st_ino), info.st_size
    return None, 0


def identify(path: str) -> tuple[int, int] | None:
    """Return what tells a file from others that had its name; None if it is not there."""
    return look_at(path)[0]


def size_of(path: str) -> int:
    """Return how many bytes a file has; 0 if it is not there."""
    return look_at(path)[1]


def check_schema(database: sqlite3.Connection) -> str:
    """Return how the table of messages was made, "" if there is none yet. Raises sqlite3.Error for another database."""
    tables = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    table: str = tables.get("messages", "")
    if tables and table not in (OLD_TABLE, TABLE):
        raise sqlite3.DatabaseError("it is a database of something else")
    return table


def make_table(database: sqlite3.Connection) -> None:
    """Make the table of messages, or add the column that one of before lacks."""
    with database:
        database.execute("BEGIN IMMEDIATE")  # another server may do the same at once
        table = check_schema(database)
        if table != TABLE:
            database.execute("ALTER TABLE messages ADD COLUMN subject TEXT" if table else TABLE)


def enter_wal_mode(database: sqlite3.Connection) -> None:
    """Have a file written as WAL. SQLite does not wait for another server that does the same (busy_handler.html)."""
    for seconds in (0.01, 0.02, 0.04, 0.08, 0.1, 0.0):
        try:
            if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise sqlite3.DatabaseError("its file system does not allow SQLite's WAL mode")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or not seconds:
                raise
        time.sleep(seconds)


def text_or_blob(text: bytes) -> str | bytes:
    """Return text as SQLite is to store it: as TEXT, or as BLOB where it is not UTF-8, or NUL would end it early."""
    try:
        return text if b"\0" in text else text.decode()
    except UnicodeDecodeError:
        return text
