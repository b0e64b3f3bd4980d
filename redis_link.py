"""Servers: a connection to Redis that nobody waits for, and that comes back by itself."""

from __future__ import annotations

import collections
import enum
import os
import random
import socket
import time

from common import reason
from loop import READ, WRITE
from resp import Refusal, Replies
from sockets import keep_alive, send_at_once
from text import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

    from loop import Loop
    from text import Address

SLOW = 5.0
"""Seconds within which a connection is made, and an answer is there."""
PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before it is tried again: about so many at first, twice as many each time, up to the longest."""
SEND_SIZE = 1 << 16
RECEIVE_SIZE = 1 << 16
"""Bytes handed to the socket, and taken from it, at once."""


class State(enum.Enum):
    """How far a link is."""

    DOWN = enum.auto()
    CONNECTING = enum.auto()
    GREETING = enum.auto()
    UP = enum.auto()
    CLOSED = enum.auto()


class Question:
    """Commands that were sent, until all their answers are there."""

    __slots__ = ("answers", "count", "deadline", "done")

    def __init__(self, count: int, deadline: float, done: Callable[[list[Any] | None], None]) -> None:
        self.count, self.deadline, self.done = count, deadline, done
        self.answers: list[Any] = []


class Link:
    """A connection to the first of some addresses that answers. What the loop calls is what is to be done next.

    Once it stands, `greeting` is asked, as many commands as told, and `greet` gets the answers: it returns what is
    wrong with them, or "". Then `came` is called; when the link breaks, or cannot be made, `went`, with the reason.
    """

    def __init__(self, loop: Loop, addresses: list[tuple[socket.AddressFamily, Address]]) -> None:
        """Take where Redis may be; connect() begins."""
        self._loop, self._addresses = loop, addresses
        self._tries = 0
        self._pause = PAUSE
        self._due = 0.0
        """When it has to stand; while it is down, when to try again; in seconds of time.monotonic()."""
        self._socket: Any = None
        self._unsent = bytearray()
        self._replies = Replies()
        self._questions: collections.deque[Question] = collections.deque()
        self._events = 0
        self.state = State.DOWN
        self.problem = ""
        """Why it is down."""
        self.context: ssl.SSLContext | None = None
        self.host = ""
        """The name that a certificate must have."""
        self.greeting: tuple[bytes, int] = b"", 0
        self.greet: Callable[[list[Any]], str] = lambda _: ""
        self.came: Callable[[], None] = lambda: None
        self.went: Callable[[str], None] = lambda _: None

    def connect(self) -> None:
        """Begin to connect to the next address."""
        family, address = self._addresses[self._tries % len(self._addresses)]
        self._tries += 1
        self.state, self._due = State.CONNECTING, time.monotonic() + SLOW
        self._replies, self._events = Replies(), 0
        self._unsent.clear()
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            keep_alive(self._socket)
            send_at_once(self._socket)
            self._socket.connect(address)
        except BlockingIOError:
            pass
        except OSError as error:
            self.fail(reason(error))
            return
        self._loop.watch(self._socket.fileno(), self._end_connecting, WRITE)

    def ask(self, commands: bytes, count: int, done: Callable[[list[Any] | None], None]) -> None:
        """Send so many commands; call `done` with the answers, in the order of the questions, or None without them."""
        if self.state is not State.UP:
            done(None)
            return
        self._ask(commands, count, done)

    def give_way(self) -> None:
        """Be read from after all others, and when the loop has time for it."""
        if self._socket is not None:
            self._loop.take_turns(self._socket.fileno())

    def tick(self, now: float) -> None:
        """Try again, or give up, what is due by `now`, a time of time.monotonic()."""
        if self.state is State.DOWN and self._due <= now:
            self.connect()
            return
        due = self._questions[0].deadline if self._questions else self._due
        if (self._questions or self.state is State.CONNECTING) and due < now:
            self.fail(f"no answer within {SLOW:g} s")

    def fail(self, why: str) -> None:
        """Take the link down: nothing that was asked is answered any more. Try the next address, or later again."""
        questions = self._drop(State.DOWN)
        if self._tries % len(self._addresses):
            self._due = 0.0
            self.connect()
        else:
            self._due = time.monotonic() + self._pause * random.uniform(0.5, 1)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self.problem = why
            self.went(why)
        for question in questions:
            question.done(None)

    def close(self) -> None:
        """Close the link for good."""
        for question in self._drop(State.CLOSED):
            question.done(None)

    def _drop(self, state: State) -> collections.deque[Question]:
        self.state = state
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
        questions, self._questions = self._questions, collections.deque()
        return questions

    def _end_connecting(self) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(os.strerror(error).lower())
        elif self.context:
            self._loop.forget(self._socket.fileno())
            self._socket = self.context.wrap_socket(
                self._socket, server_hostname=self.host, do_handshake_on_connect=False
            )
            self._shake_hands()
        else:
            self._greet()

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
            self._greet()

    def _greet(self) -> None:
        self.state = State.GREETING
        self._ask(*self.greeting, self._end_greeting)

    def _end_greeting(self, answers: list[Any] | None) -> None:
        if answers is None:
            return
        problem = self.greet(answers)
        if problem:
            self.fail(problem)
        else:
            self.state, self._pause, self._tries, self.problem = State.UP, PAUSE, 0, ""
            self.came()

    def _ask(self, commands: bytes, count: int, done: Callable[[list[Any] | None], None]) -> None:
        self._questions.append(Question(count, self._loop.now + SLOW, done))
        self._unsent += commands
        self._send()

    def _tend(self) -> None:
        if self._unsent:
            self._send()
        if self._socket is not None:
            self._receive()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent[:SEND_SIZE])]
        except OSError as error:
            if not would_block(error):
                self.fail(reason(error).lower())
                return
        events = READ | WRITE if self._unsent else READ
        if events != self._events:
            self._events = events
            self._loop.watch(self._socket.fileno(), self._tend, events)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
            while self.context and self._socket.pending():
                data += self._socket.recv(RECEIVE_SIZE)
        except OSError as error:
            if not would_block(error):
                self.fail(reason(error).lower())
            return
        if not data:
            self.fail("it has closed the connection")
            return
        try:
            answers = self._replies.take(data)
        except ValueError as error:
            self.fail(f"it does not speak Redis's protocol: {error}")
            return
        try:
            self._deliver(answers)
        except BaseException:  # a fault of ours: what comes next must not be taken for the answer to something else
            self.fail("a fault in this server")
            raise

    def _deliver(self, answers: list[Any]) -> None:
        connected = self._socket
        for answer in answers:
            if self._socket is not connected:  # what was done with an answer has ended the link
                return
            if not self._questions:
                self.fail("it says what was not asked")
                return
            question = self._questions[0]
            question.answers.append(answer)
            if len(question.answers) == question.count:
                self._questions.popleft()
                question.done(question.answers)


def would_block(error: OSError) -> bool:
    """Tell whether an error says only that a socket has nothing now, or no room; TLS says it with its own."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def first_refusal(answers: list[Any]) -> str:
    """Return the first refusal among answers; "" if there is none."""
    return next((answer for answer in answers if isinstance(answer, Refusal)), "")
