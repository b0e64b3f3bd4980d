"""Servers: a connection to Redis that nobody waits for, and that comes back by itself."""

from __future__ import annotations

import collections
import contextlib
import enum
import os
import random
import socket
import time

from common import reason
from loop import READ, WRITE
from resp import Replies
from sockets import keep_alive, send_at_once
from text import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any, Optional

    from loop import Loop
    from text import Address

    Done = Callable[[Optional[list[Any]]], None]
    """Gets the answers to a question; None if there will be none."""

SLOW = 5.0
"""Seconds within which a link stands, and within which an answer is there."""
PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before it is tried again: about so many at first, twice as many each time, up to the longest."""
RECEIVE_SIZE = 1 << 16
"""Bytes taken from the socket at once."""


class State(enum.Enum):
    """How far a link is."""

    DOWN = enum.auto()
    CONNECTING = enum.auto()
    UP = enum.auto()
    CLOSED = enum.auto()


class Link:
    """A connection to the first of some addresses that answers. What the loop calls is what is to be done next.

    First, `greeting` is asked, as many commands as told, and `greet` gets the answers: it returns what is wrong with
    them, or "". Then the link stands, and `changed` is called with ""; when it breaks, or cannot be made, with the
    reason.
    """

    def __init__(self, loop: Loop, addresses: list[tuple[socket.AddressFamily, Address]]) -> None:
        """Take where Redis may be; connect() begins."""
        self._loop, self._addresses = loop, addresses
        self._tries = 0
        self._pause = PAUSE
        self._due = 0.0
        """When to try again while it is down, in seconds of time.monotonic()."""
        self._socket: Any = None
        self._unsent = bytearray()
        self._replies = Replies()
        self._answers: collections.deque[Any] = collections.deque()
        """What has come for the first question, whose other answers are still to come."""
        self._questions: collections.deque[tuple[int, float, Done]] = collections.deque()
        """How many answers each wants, until when, in the same seconds, and what gets them."""
        self.state = State.DOWN
        self.secure: Callable[[socket.socket], ssl.SSLSocket] | None = None
        """Returns a connection in TLS, whose handshake is still to come."""
        self.greeting: tuple[bytes, int] = b"", 0
        self.greet: Callable[[list[Any]], str] = lambda _: ""
        self.changed: Callable[[str], None] = lambda _: None

    def connect(self) -> None:
        """Begin to connect to the next address."""
        family, address = self._addresses[self._tries % len(self._addresses)]
        self._tries += 1
        self.state = State.CONNECTING
        commands, count = self.greeting
        self._unsent += commands
        self._questions.append((count, time.monotonic() + SLOW, self._end_greeting))
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            keep_alive(self._socket)
            send_at_once(self._socket)
            with contextlib.suppress(BlockingIOError):
                self._socket.connect(address)
            self._loop.watch(self._socket.fileno(), self._end_connecting, WRITE)
        except OSError as error:
            self.fail(reason(error).lower())

    def ask(self, commands: bytes, count: int, done: Done) -> None:
        """Send so many commands; call `done` with the answers, in the order of the questions, or None without them."""
        if self.state is not State.UP:
            done(None)
            return
        self._unsent += commands
        self._questions.append((count, self._loop.now + SLOW, done))
        self._send()

    def give_way(self) -> None:
        """Be read from after all others, and when the loop has time for it."""
        if self.state is State.UP:
            self._loop.take_turns(self._socket.fileno())

    def tick(self, now: float) -> None:
        """Try again, or give up, what is due by `now`, a time of time.monotonic()."""
        if self.state is State.DOWN and self._due <= now:
            self.connect()
        elif self._questions and self._questions[0][1] < now:
            self.fail(f"no answer within {SLOW:g} s")

    def fail(self, why: str) -> None:
        """Take the link down: nothing that was asked is answered any more. Try the next address, or later again."""
        unanswered = self._drop(State.DOWN)
        if self._tries % len(self._addresses):
            self.connect()
        else:
            self._due = time.monotonic() + self._pause * random.uniform(0.5, 1)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self.changed(why)
        for done in unanswered:
            done(None)

    def close(self) -> None:
        """Close the link for good."""
        for done in self._drop(State.CLOSED):
            done(None)

    def _drop(self, state: State) -> list[Done]:
        """Close the connection; return who has no answers now."""
        self.state = state
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
        unanswered = [done for _, _, done in self._questions]
        self._questions.clear()
        self._answers.clear()
        self._unsent.clear()
        self._replies = Replies()
        return unanswered

    def _end_connecting(self) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(os.strerror(error).lower())
        elif self.secure:
            self._socket = self.secure(self._socket)
            self._shake_hands()
        else:
            self._send()

    def _shake_hands(self) -> None:
        import ssl

        from tls import in_words

        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.watch(self._socket.fileno(), self._shake_hands)
        except ssl.SSLWantWriteError:
            self._loop.watch(self._socket.fileno(), self._shake_hands, WRITE)
        except OSError as error:
            self.fail(f"TLS failed: {in_words(error)}")
        else:
            self._send()

    def _end_greeting(self, answers: list[Any] | None) -> None:
        if answers is None:
            return
        problem = self.greet(answers)
        if problem:
            self.fail(problem)
        else:
            self.state, self._pause, self._tries = State.UP, PAUSE, 0
            self.changed("")

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except OSError as error:
            if not would_block(error):
                self.fail(reason(error).lower())
                return
        self._loop.watch(self._socket.fileno(), self._tend, READ | WRITE if self._unsent else READ)

    def _tend(self) -> None:
        """Take what has come, and send what is left."""
        try:
            data = self._socket.recv(RECEIVE_SIZE)
            while self.secure and self._socket.pending():
                data += self._socket.recv(RECEIVE_SIZE)
            if not data:
                raise ConnectionError("it has closed the connection")
            self._answers += self._replies.take(data)
        except OSError as error:
            if not would_block(error):
                self.fail(reason(error).lower())
                return
        except ValueError as error:
            self.fail(f"it does not speak Redis's protocol: {error}")
            return
        if self._unsent:
            self._send()
        self._deliver()

    def _deliver(self) -> None:
        """Answer the questions whose answers are all there."""
        try:
            while self._questions and len(self._answers) >= self._questions[0][0]:
                count, _, done = self._questions.popleft()
                done([self._answers.popleft() for _ in range(count)])
        except BaseException:  # a fault of ours: what comes next must not be taken for the answer to something else
            self.fail("a fault in this server")
            raise
        if self._answers and not self._questions:
            self.fail("it says what was not asked")


def would_block(error: OSError) -> bool:
    """Tell whether an error says only that a socket has nothing now, or no room; TLS says it with its own."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")
