"""Servers: what a server keeps in a stream of Redis (`--save redis://…`), and what others keep there: one room.

Two links: one adds what was received here (XADD), and one, in a room, follows what all add (XREAD BLOCK).
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import socket
import time
import urllib.parse

from common import Failure
from following import Following
from record import utc
from redis_link import Link
from resp import Refusal, command, first_refusal, words
from text import TYPE_CHECKING, resolve, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from keeping import Row
    from loop import Loop
    from record import Record

PORT = 6379
NONSENSE = "it does not speak Redis's protocol"
FIELDS = ("protocol", "direction", "peer", "subject", "text")
"""What an entry holds of a row (no subject is an empty one), besides `at`, and `server`: which run of one added it."""
POURED = 1 << 14
"""Bytes that others say at once and that count as much: what comes after them waits until the room is told."""
REPLICATE = 1000
"""Milliseconds that Redis waits for its replicas."""
CURES = {
    "NOAUTH": "give a password in the address (redis://user:password@…)",
    "WRONGPASS": "check user and password",
    "NOPERM": "the user needs more rights (ACL)",
    "connection refused": "start Redis, or check host and port",
    "no answer": "check host and port, and the firewalls on the way",
    "protocol": "check host and port",
    "TLS failed": "does it speak TLS (rediss://)? ?ca=FILE names its CA",
    "not a stream": "name another stream",
}
"""What the person who starts a server can do, by a part of what goes wrong."""
SAVING = "Cannot save messages in", "Messages are saved again in"
FOLLOWING = "Cannot follow", "What others say is heard again from"
"""What the record says of each link, when it breaks and when that is over."""
WORTH = {
    "always": "what is confirmed is on its disk",
    "everysec": "up to a second of confirmed messages may be lost with the power",
    "no": "the system decides when confirmed messages get to the disk, often after half a minute",
}
"""What a confirmation is worth, by Redis's setting `appendfsync`."""


class StreamUrl:
    """Where a stream is: what `redis://[user:password@]HOST[:PORT]/NAME?replicas=N&maxlen=N&ca=FILE` says."""

    def __init__(self, url: str) -> None:
        """Take the address apart. Raises argparse.ArgumentTypeError."""
        form = "give it as redis://[USER:PASSWORD@]HOST[:PORT]/NAME"
        try:
            parts = urllib.parse.urlsplit(url)
            self.host, self.port = parts.hostname or "", PORT if parts.port is None else parts.port
            some = urllib.parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"that is no address of a stream; {form}") from error
        unquote = urllib.parse.unquote
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        self.stream = unquote(parts.path[1:])
        if not (self.host and self.stream) or parts.fragment:
            missing = "a stream" if self.host else "a host"
            raise argparse.ArgumentTypeError(f"the address has no {missing}; {form}")
        options = dict(some)
        self.is_secure, self.ca = parts.scheme == "rediss", options.pop("ca", None)
        self.replicas, self.most = count(options, "replicas"), count(options, "maxlen")
        if options or (self.ca and not self.is_secure):
            wrong = "ca=… needs rediss://" if self.ca else f"{visible(next(iter(options)))} is not known"
            raise argparse.ArgumentTypeError(f"after the '?', {wrong}; there are replicas=N, maxlen=N and ca=FILE")
        self.name = f"{parts.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/{self.stream}"


def count(options: dict[str, str], name: str) -> int:
    """Take a number of at least 1 out of options; 0 if it is not there. Raises argparse.ArgumentTypeError."""
    text = options.pop(name, "0")
    if not re.fullmatch("0|[1-9][0-9]{0,15}", text):
        raise argparse.ArgumentTypeError(f"{name}={visible(text)} is not a whole number of at least 1")
    return int(text)


class StreamArchive:
    """The messages in a stream. What is said to Redis is never waited for, but at the start."""

    def __init__(self, url: StreamUrl, record: Record, loop: Loop) -> None:
        """Find Redis, and look at what is there. Raises Failure."""
        self._url, self._record, self._loop = url, record, loop
        self._server = os.urandom(8).hex()
        self._broken: set[tuple[str, str]] = set()
        self._setting = ""
        self._following = Following(url.stream, self._server)
        self._hear: Callable[[list[bytes]], bool] = lambda _: False
        try:
            self._addresses = resolve(url.host, url.port, socket.SOCK_STREAM)
        except OSError as error:
            raise Failure(f"cannot save messages in {url.name}: {error}") from error
        asked = command("TYPE", url.stream) + command("CONFIG", "GET", "append*")
        self._links = [self._link(SAVING, asked, 2, self._greet)]
        self._record.line(f"[Server] Messages go to {url.name}. {self._setting}.")

    def save(self, rows: list[Row], done: Callable[[bool], None]) -> None:
        """Append rows, and call `done` with whether all of them are there, in the order of the calls."""
        at = utc()
        limit = ("MAXLEN", "~", self._url.most) if self._url.most else ()
        start = ("XADD", self._url.stream, *limit, "*", "server", self._server, "at", at)
        head = b"*%d\r\n%b" % (len(start) + 2 * len(FIELDS), words(*start))
        names = {
            name: words(*sum(zip(FIELDS, (part or "" for part in name)), ()), FIELDS[-1])
            for name in {row[:-1] for row in rows}
        }
        commands = [b"%b%b$%d\r\n%b\r\n" % (head, names[row[:-1]], len(row[-1]), row[-1]) for row in rows]
        if self._url.replicas:
            commands.append(command("WAIT", self._url.replicas, REPLICATE))
        self._links[0].ask(b"".join(commands), len(commands), lambda answers: done(self._conclude(answers)))

    def follow(self, hear: Callable[[list[bytes]], bool]) -> None:
        """From now on, have what other servers append heard, in the stream's order, as lines. Raises Failure.

        `hear` returns whether what comes next has to wait.
        """
        self._hear = hear
        self._links.append(self._link(FOLLOWING, self._following.state(), 1, self._following.take_state))
        self._links[1].changed = self._change_following
        self._look()

    def tick(self, now: float) -> None:
        """Do what is due by `now`, in seconds of time.monotonic()."""
        for link in self._links:
            link.tick(now)

    def close(self) -> None:
        """Leave Redis; what it has not answered by now counts as not saved."""
        for link in self._links:
            link.close()

    def _link(self, what: tuple[str, str], asked: bytes, count: int, greet: Callable[[list[Any]], str]) -> Link:
        """Return a link that stands, whose greeting is this, after the password. Raises Failure."""
        url = self._url
        link = Link(self._loop, self._addresses)
        if url.is_secure:
            from tls import client_context

            wrap = client_context(url.ca, None, None).wrap_socket
            link.secure = functools.partial(wrap, server_hostname=url.host, do_handshake_on_connect=False)
        login = command("AUTH", *([url.user] if url.user else []), url.password) if url.password else b""
        link.greeting = login + asked, count + bool(login)
        link.greet = lambda answers: first_refusal(answers[:-count]) or greet(answers[-count:])
        found: list[str] = []
        link.changed = found.append
        link.connect()
        while not found:
            for function in self._loop.ready(0.1):
                function()
            link.tick(time.monotonic())
        problem = found[0]
        if problem:
            cure = next((f"; {cure}" for sign, cure in CURES.items() if sign in problem), "")
            raise Failure(f"{what[0].lower()} {url.name}: {problem}{cure}")
        link.changed = functools.partial(self._note, what)
        return link

    def _greet(self, answers: list[Any]) -> str:
        """Return what is wrong with what a new link found, or ""."""
        kind, settings = answers
        if isinstance(kind, Refusal):
            return kind
        if kind not in (b"stream", b"none"):
            return f"it is a {kind.decode(errors='replace')}, not a stream" if isinstance(kind, bytes) else NONSENSE
        found = dict(zip(settings[::2], settings[1::2])) if isinstance(settings, list) else {}
        policy = found.get(b"appendfsync", b"").decode()
        if not found:
            self._setting = "appendfsync is not known, since this user may not ask for it (ACL)"
        elif found.get(b"appendonly") == b"no":
            self._setting = "appendonly no: what came after its last snapshot is lost when Redis ends"
        else:
            self._setting = f"appendfsync {policy}: {WORTH.get(policy, 'it is not known what that means')}"
        return ""

    def _conclude(self, answers: list[Any] | None) -> bool:
        if answers is None:  # what has happened to the link is shown by now
            return False
        problem = first_refusal(answers)
        if not problem and self._url.replicas and answers[-1] < self._url.replicas:
            problem = f"{answers[-1]} of {self._url.replicas} replicas have them"
        self._note(SAVING, problem)
        return not problem

    def _note(self, what: tuple[str, str], problem: str) -> None:
        """Show once what can not be done, and when it can be done again."""
        was_broken = what in self._broken
        if problem and not was_broken:
            self._broken.add(what)
            self._record.line(f"[Server] {what[0]} {self._url.name}: {problem}", trouble=True)
        elif was_broken and not problem:
            self._broken.remove(what)
            self._record.line(f"[Server] {what[1]} {self._url.name}.")

    def _change_following(self, problem: str) -> None:
        """Take it that the link that follows is broken; or, without a problem, that it stands again."""
        self._note(FOLLOWING, problem)
        if not problem:
            self._look()

    def _look(self) -> None:
        """Ask what is new."""
        self._links[1].ask(self._following.question(), 2, self._take)

    def _take(self, answers: list[Any] | None) -> None:
        """Tell what is new, and look again."""
        if answers is None:
            return
        problem = self._following.take_state(answers[:1]) or first_refusal(answers[1:])
        if problem:
            self._links[1].fail(problem)
            return
        if self._following.missed:
            self._record.line(f"[Server] {self._following.missed} messages of others were gone before they were told.")
            self._following.missed = 0
        lines = self._following.take_new(answers[1])
        has_to_wait = bool(lines) and self._hear(lines)
        self._look()
        if has_to_wait or sum(map(len, lines)) >= POURED:
            self._links[1].give_way()
