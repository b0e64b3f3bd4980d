"""What the two clients share: what is still unanswered, and the session around it.

`Ledger` is the bookkeeping, and touches no socket. `Channel` is one way to a server; each client has its own kind.
`Session` is the loop around the channels and the typed lines.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import itertools
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable

from common import (
    CONFIRMATION,
    DIM,
    EXIT,
    NOT_OBEYED,
    NOT_SAVED,
    RED,
    REFUSALS,
    SHUTTING_DOWN,
    TERMINATE,
    TOO_LONG,
    WORDS,
    Address,
    Failure,
    Parser,
    TypedLines,
    erase_row,
    error_line,
    has_colours,
    in_background,
    paint,
    reason,
    report,
    resolve,
    seconds,
    visible,
    whole_number,
)

NAMED = 3
"""How many unconfirmed messages are named when a session ends."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments that both clients take."""
    parser.add_argument("host", metavar="HOST", help="the server's address or name")
    parser.add_argument("port", metavar="PORT", type=whole_number(1, 65535), help="the server's port")
    add = parser.add_argument_group("messages").add_argument
    add("-m", "--message", metavar="TEXT", action="append", help="send TEXT, wait for its reply, end; may be repeated")
    add("--timeout", metavar="SECONDS", type=seconds, default=5.0, help="wait so long for a connection or a reply (5)")
    add("--no-reply", action="store_true", help="expect no replies: the server runs with --reply none")
    add("--stats", action="store_true", help="print the summary at the end in any case")


Sent = tuple[int, bytes, float, float, int]
"""A waiting message: its number, the message, when it was sent first and last, in seconds, and how often again."""


REFUSED = (TOO_LONG.partition(b"%")[0], NOT_SAVED)
"""How a server begins to say that it did not take a message."""


class Ledger:
    """Which messages were sent, which of them are confirmed, and how long that took."""

    def __init__(self, repeated: Callable[[bytes], bytes] = bytes) -> None:
        """Take a function that returns what replies are sure to repeat of a message: all of it, unless told."""
        self.sent = 0
        self.confirmed = 0
        self.waiting = 0
        """How many messages are neither confirmed nor given up."""
        self.waiting_bytes = 0
        self.shortest_time = float("inf")
        self.longest_time = self.total_time = 0.0
        self._repeated = repeated
        self._waiting: dict[bytes, list[Sent]] = {}
        """By what their replies repeat; the oldest of equal messages stands first."""
        self._refused = 0
        self._longest_taken = sys.maxsize

    @property
    def due(self) -> int:
        """How many replies are still to come: for a refused message nothing more is."""
        return self.waiting - min(self._refused, self.waiting)

    def add(self, messages: list[bytes], now: float) -> None:
        """Note messages as sent at `now`, in seconds."""
        waiting, repeated = self._waiting, self._repeated
        for number, message in enumerate(messages, self.sent):
            waiting.setdefault(repeated(message), []).append((number, message, now, now, 0))
        self.sent += len(messages)
        self.waiting += len(messages)
        self.waiting_bytes += sum(map(len, messages))

    def take(self, replies: list[bytes], now: float) -> None:
        """Note what came at `now`: each reply answers the oldest waiting message whose confirmation or echo it is.

        Any other line counts for nothing, except a refusal, which tells that one reply less is to come. It does not
        say for which message, and a person may have typed it; so no message is struck off for it.
        """
        waiting, repeated, confirmed = self._waiting, self._repeated, []
        for reply in replies:
            text = repeated(reply)
            equal = waiting.get(text)  # those whose echo it is
            if reply.startswith(CONFIRMATION):
                confirmed_text = repeated(reply[len(CONFIRMATION) :])
                confirmable = waiting.get(confirmed_text)
                if confirmable and not (equal and equal[0] < confirmable[0]):
                    text, equal = confirmed_text, confirmable
            if equal:
                confirmed.append(equal.pop(0))
                if not equal:
                    del waiting[text]
            elif reply.startswith(REFUSED):
                self._refused += 1
                limit = reply[len(REFUSED[0]) :].split(b" ")[0]
                if limit.isdigit():
                    self._longest_taken = int(limit[:18])
        self._strike(confirmed)
        if confirmed:
            self.confirmed += len(confirmed)
            times = [now - first_at for _, _, first_at, _, _ in confirmed]
            self.total_time += sum(times)
            self.shortest_time = min(self.shortest_time, *times)
            self.longest_time = max(self.longest_time, *times)

    def oldest(self) -> float:
        """Return when a reply was first to be expected of those missing, in seconds; infinity if none is missing."""
        return min((sent[3] for equal in self._waiting.values() for sent in equal), default=float("inf"))

    def send_again(self, now: float) -> list[bytes]:
        """Return the waiting messages that the server takes, in the order in which they were sent, to be sent at `now`.

        They are for another connection; the last one was closed after a message that was too long.
        """
        for equal in self._waiting.values():
            equal[:] = [(number, message, now, now, tries) for number, message, _, _, tries in equal]
        waiting = [message for _, message, *_ in sorted(itertools.chain(*self._waiting.values()))]
        again = [message for message in waiting if len(message) <= self._longest_taken]
        self._refused = len(waiting) - len(again)
        return again

    def retry(self, before: float, now: float, retries: int) -> list[bytes]:
        """Return what was last sent before `before` and was not yet sent again `retries` times; note it as sent now."""
        again = []
        for equal in self._waiting.values():
            for place, (number, message, first_at, last_at, tries) in enumerate(equal):
                if last_at <= before and tries < retries:
                    equal[place] = number, message, first_at, now, tries + 1
                    again.append((number, message))
        if again:
            self._refused = 0  # what is sent again is refused again
        return [message for _, message in sorted(again)]

    def give_up(self, before: float) -> list[bytes]:
        """Stop waiting for what was last sent before `before`; return it."""
        late = sorted(sent for equal in self._waiting.values() for sent in equal if sent[3] <= before)
        for sent in late:
            text = self._repeated(sent[1])
            self._waiting[text].remove(sent)
            if not self._waiting[text]:
                del self._waiting[text]
        self._refused = max(self._refused - len(late), 0)
        self._strike(late)
        return [message for _, message, *_ in late]

    def _strike(self, struck: list[Sent]) -> None:
        self.waiting -= len(struck)
        self.waiting_bytes -= sum([len(message) for _, message, _, _, _ in struck])
        self._refused = min(self._refused, self.waiting)


def summary(ledgers: list[Ledger], no_reply: bool) -> str:
    """Return the numbers of messages and, if any is confirmed, the round-trip times."""
    sent = sum(ledger.sent for ledger in ledgers)
    if no_reply:
        return f"{sent} sent, no replies expected"
    confirmed = sum(ledger.confirmed for ledger in ledgers)
    text = f"{sent} sent, {confirmed} confirmed, {sent - confirmed} lost"
    if confirmed:
        shortest = min(ledger.shortest_time for ledger in ledgers)
        mean = sum(ledger.total_time for ledger in ledgers) / confirmed
        longest = max(ledger.longest_time for ledger in ledgers)
        text += f"; round trip min/avg/max {shortest * 1000:.2f}/{mean * 1000:.2f}/{longest * 1000:.2f} ms"
    return text


class Broken(Failure):
    """There is no connection, or no longer; another attempt may succeed."""


def find(host: str, port: int, kind: socket.SocketKind) -> list[tuple[socket.AddressFamily, Address]]:
    """Return the addresses of a server, as resolve() does. Raises Broken, since its name may be known later."""
    try:
        return resolve(host, port, kind)
    except Failure as failure:
        raise Broken(str(failure)) from failure


class Channel:
    """A way to a server: a socket, and the ledger of what went over it."""

    protocol = "?"
    longest = sys.maxsize
    """Bytes in the longest message."""
    takes_lines = False
    """Whether a line feed ends a message."""
    retries = 0
    """How many times a message that may have got lost is sent again."""
    reconnects = False
    """Whether a broken connection is made anew."""
    loses = False
    """Whether messages may get lost one by one; if not, a missing reply means that the server is stuck."""
    window = 0
    """How many messages may wait for their replies at once."""
    window_bytes = 0
    """How many bytes of messages may."""

    def __init__(self, connected: socket.socket, peer: str, ledger: Ledger) -> None:
        self.socket = connected
        self.peer = peer
        self.ledger = ledger
        self.active_at = time.monotonic()
        self.exiting = False
        self.exits_again = 0
        """How many times `exit` may be sent again."""
        self.down = False
        """Whether there is no connection just now, and another attempt is due at `backoff.at`."""
        self.backoff = Backoff()
        self.told_goodbye = False
        self.ended = False

    def send(self, messages: list[bytes]) -> None:
        """Send messages, or keep what there is no room for. Raises Failure."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what was kept. Raises Failure."""
        raise NotImplementedError

    def unsent(self) -> int:
        """Return how many bytes are kept."""
        raise NotImplementedError

    def read(self) -> tuple[bytes, list[bytes]]:
        """Return what has arrived, as it is to be written to a file, and the replies in it; set `ended` at the end.

        Raises Failure.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Tell the server that nothing more comes; set `ended` if nothing more can come from it either."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Try once to make a broken connection anew, and send again what is not confirmed. Raises Broken."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def room(self) -> int:
        """Return how many more messages may be sent now."""
        if self.unsent() or self.ledger.waiting_bytes >= self.window_bytes:
            return 0
        return self.window - self.ledger.waiting


class Backoff:
    """When to try again: after a random time that grows with each failure (exponential backoff with jitter)."""

    SHORTEST = 0.1
    LONGEST = 10.0

    def __init__(self) -> None:
        self.at = 0.0
        self.failures = 0

    def fail(self, now: float) -> None:
        """Note a failure at `now`, in seconds, and set `at`."""
        import random  # most clients need no chance, and start faster without

        longest = min(self.SHORTEST * 2 ** min(self.failures, 30), self.LONGEST)
        self.failures += 1
        self.at = now + random.uniform(longest / 2, longest)

    def succeed(self) -> None:
        """Begin with the shortest time again."""
        self.failures = 0


class Progress:
    """How far piped work is: one row on standard error, if that is a terminal, once it takes long."""

    FIRST_AFTER = 1.0
    EVERY = 0.25
    """Seconds."""

    def __init__(self, ledgers: list[Ledger], no_reply: bool) -> None:
        self._ledgers = ledgers
        self._no_reply = no_reply
        self._done = 0
        self._at = time.monotonic()
        self.due_at = self._at + self.FIRST_AFTER
        self.row = b""
        """What stands there now."""

    def show(self, now: float) -> None:
        """Show what is done by now, in seconds, and how much of it a second since the last time."""
        self.due_at = now + self.EVERY
        if in_background(2):
            return
        try:
            columns = os.get_terminal_size(2).columns or 80
        except OSError:  # its window is closed
            self.due_at = float("inf")
            return
        sent = done = sum(ledger.sent for ledger in self._ledgers)
        text = f"{sent:,} sent"
        if not self._no_reply:
            done = sum(ledger.confirmed for ledger in self._ledgers)
            text += f", {done:,} confirmed"
        text += f", {(done - self._done) / (now - self._at):,.0f} lines a second"
        self._done, self._at = done, now
        self.row = text[: columns - 1].encode()
        write_error(erase_row() + self.row)

    def above(self, lines: bytes) -> bytes:
        """Return how to write lines to the terminal so that the row stays below them."""
        return erase_row() + lines + self.row if self.row else lines

    def erase(self) -> None:
        """Take the row away."""
        if self.row:
            self.row = b""
            write_error(erase_row())


class Session:
    """A conversation over one channel or more: typed lines go out, replies come in, every message is accounted for."""

    def __init__(self, options: argparse.Namespace, channels: list[Channel]) -> None:
        self._timeout: float = options.timeout
        self._no_reply: bool = options.no_reply
        self._stats: bool = options.stats
        self._channels = channels
        self._one_shot = bool(options.message)
        self._typed = TypedLines("You: ", edits=not self._one_shot)
        self._interactive = self._typed.typed and not self._one_shot
        self._edited = self._typed.edited
        self._lines = collections.deque(os.fsencode(text) for text in options.message or [])
        if any(channel.takes_lines for channel in channels):
            texts = [text.removesuffix(b"\n") for text in self._lines]
            self._lines = collections.deque(line for text in texts for line in text.split(b"\n"))
        self._coloured = has_colours(sys.stdout)
        self._progress = Progress([channel.ledger for channel in channels], self._no_reply)
        if self._typed.typed or self._one_shot or sys.stderr is None or not sys.stderr.isatty():
            self._progress.due_at = float("inf")
        self._input_over = self._one_shot
        self._takes_input = False
        self._word = b""
        self._closing = False
        self._leave_at = float("inf")
        """When to leave a server that does not end what it still says."""
        self._stuck = False
        self._failed = False
        self._problems: list[str] = []
        self._lost = 0
        self._lost_names: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Channel, tuple[socket.socket, int]] = {}

    def run(self, greeting: str) -> int:
        """Hold the conversation; return the exit code."""
        for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: sys.exit(128 + number))
        try:
            if not self._one_shot:
                self._say(f"{greeting} Type a message; 'terminate' ends this client, 'exit' also stops the server.")
                self._typed.start()
                self._listen_to_input(True)
                self._typed.ask()
            self._send_lines()
            while not self._is_over():
                self._wait()
        except Failure as failure:
            self._problems.append(str(failure))
        finally:
            self._account()
        return 1 if self._failed or self._problems else 0

    def _wait(self) -> None:
        """Wait until something arrives, may be sent, or is late; and take care of it. Raises Failure."""
        now = time.monotonic()  # what has come by now is read before it is found late, also after Ctrl-Z
        if now >= self._progress.due_at:
            self._progress.show(now)
        wait = min(1.0, self._progress.due_at - now)
        for channel in self._channels:
            self._watch(channel)
            wait = min(wait, self._due_at(channel) - now)
        for key, events in self._selector.select(max(wait, 0)):
            if key.data is None:
                self._take_typed()
                continue
            if events & selectors.EVENT_WRITE:
                self._survive(key.data, lambda channel: channel.flush())
            if events & selectors.EVENT_READ:
                self._survive(key.data, self._receive)
        self._send_lines()
        for channel in self._channels:
            if now >= self._due_at(channel):
                self._survive(channel, self._reopen if channel.down else functools.partial(self._give_up_late, now=now))

    def _take_typed(self) -> None:
        lines = self._typed.read()
        if lines is None:
            self._input_over = True
        self._lines.extend(lines or ())
        self._listen_to_input(not self._input_over and not self._lines)

    def _send_lines(self) -> None:
        """Send typed lines as far as there is room for more unanswered messages; then ask for more."""
        if all(channel.ended for channel in self._channels):
            return
        while self._lines and not self._word:
            channel = self._choose()
            room = (0 if channel.unsent() else channel.window) if self._no_reply else channel.room()
            if room <= 0:
                return
            self._send(channel, room if len(self._channels) == 1 else 1)
        if not (self._input_over or self._word or self._takes_input or self._lines):
            self._listen_to_input(True)
            self._typed.ask()

    def _send(self, channel: Channel, room: int) -> None:
        lines = [self._lines.popleft() for _ in range(min(room, len(self._lines)))]
        if not WORDS.isdisjoint(map(bytes.strip, lines)):
            place = next(place for place, line in enumerate(lines) if line.strip() in WORDS)
            self._word = lines[place].strip()
            self._lines.extendleft(reversed(lines[place + 1 :]))
            del lines[place:]
        messages = [line for line in lines if len(line) <= channel.longest]
        for line in lines if len(messages) < len(lines) else ():
            if len(line) > channel.longest:
                self._failed = True
                self._complain(f"a message of {len(line)} bytes was not sent: {channel.longest} fit into a datagram")
        if self._no_reply:
            channel.ledger.sent += len(messages)
        else:
            channel.ledger.add(messages, time.monotonic())
        if messages:
            self._survive(channel, lambda channel: channel.send(messages))

    def _receive(self, channel: Channel) -> None:
        data, replies = channel.read()
        now = channel.active_at = time.monotonic()
        confirmed = channel.ledger.confirmed
        channel.ledger.take(replies, now)
        if channel.ledger.confirmed > confirmed:
            channel.backoff.succeed()
        channel.told_goodbye = channel.told_goodbye or SHUTTING_DOWN in replies
        self._show(channel, data, replies)
        if channel.exiting and any(reply.startswith(NOT_OBEYED.partition(b"%")[0]) for reply in replies):
            self._problems.append(f"{channel.peer} does not obey 'exit'")
            self._word = b""
            self._closing = False
            for refused in self._channels:
                refused.exiting = False
        elif self._no_reply and not self._failed:
            refusals = [visible(reply) for reply in replies if reply.startswith(REFUSALS)]
            self._problems += [f"{channel.peer} refused: {refusal}" for refusal in refusals[:1]]
            self._failed = bool(refusals)
        if channel.ended and channel.exiting and not channel.told_goodbye:
            self._problems.append(f"{channel.peer} closed without an answer to 'exit'")
        if channel.ended and not self._closing:
            if not channel.told_goodbye:
                raise Broken(f"connection closed by {channel.peer}")
            if channel.reconnects and (self._is_unfinished() or channel.ledger.waiting):
                raise Broken(f"{channel.peer} shut down")

    def _survive(self, channel: Channel, step: Callable[[Channel], None]) -> None:
        """Take a step that may find the connection broken: that is no failure for who reconnects, or is done."""
        try:
            step(channel)
        except Broken as broken:
            if self._closing:
                channel.ended = True
                has_answered = channel.told_goodbye or not (channel.exiting or self._no_reply)
                self._problems += [] if has_answered else [str(broken)]
                return
            if not channel.reconnects:
                raise
            if not channel.backoff.failures:
                self._complain(f"{broken}; trying again until the server is there")
            channel.down = True
            channel.ended = False
            channel.backoff.fail(time.monotonic())

    def _reopen(self, channel: Channel) -> None:
        channel.reopen()
        if not channel.loses:
            self._say(f"Connected to {channel.peer}.")

    def _is_unfinished(self) -> bool:
        """Tell whether there is more input to send."""
        return bool(self._lines) or not (self._interactive or self._input_over)

    def _is_over(self) -> bool:
        """Take the next step towards the end if what comes before it is done; tell whether all is done."""
        channels = [channel for channel in self._channels if not channel.ended]
        if not channels and not self._closing:
            self._say("The server has shut down.")
            if self._is_unfinished():
                self._problems.append(f"{self._peers()} shut down before the end of the input")
        if not channels or self._stuck:
            return True
        if self._word and self._interactive:
            channels = self._leave_broken(channels)
        elif self._word == EXIT and any(channel.down for channel in channels):
            return False
        if any(channel.unsent() or (channel.ledger.due and not self._no_reply) for channel in channels):
            return False
        if not self._closing and self._close(channels):
            return True
        if self._word != TERMINATE or not self._closing or any(channel.unsent() for channel in channels):
            return False
        return not self._no_reply or self._has_left(channels)

    def _has_left(self, channels: list[Channel]) -> bool:
        """Half-close; tell whether the servers have ended, too, or had time to.

        Nobody has confirmed what is on its way, and to close while something comes the other way would destroy it.
        """
        if self._leave_at == float("inf"):
            self._leave_at = time.monotonic() + self._timeout
            for channel in channels:
                self._survive(channel, lambda channel: channel.finish())
        return time.monotonic() >= self._leave_at or all(channel.ended for channel in channels)

    def _leave_broken(self, channels: list[Channel]) -> list[Channel]:
        """End the channels without a connection, since a person who leaves does not wait for it; return the others."""
        for channel in channels:
            if channel.down:
                channel.ended = True
                if self._word == EXIT:
                    self._problems.append(f"'exit' was not sent to {channel.peer}: there is no connection")
        return [channel for channel in channels if not channel.ended]

    def _close(self, channels: list[Channel]) -> bool:
        """Tell the server that the conversation is over, if it is; tell whether nothing more is to be done."""
        self._closing = bool(self._word) or (self._input_over and not self._lines)
        if self._word == TERMINATE:
            self._say("Terminating client.....")
        elif self._closing and self._one_shot and not self._no_reply and not self._word:
            return True
        for channel in channels if self._closing else ():
            channel.exiting = self._word == EXIT
            channel.exits_again = 0 if channel.reconnects else channel.retries
            channel.active_at = time.monotonic()
            self._survive(channel, self._part_from)
        return self._closing and all(channel.ended for channel in channels)

    def _part_from(self, channel: Channel) -> None:
        if self._word:
            channel.send([self._word])
        else:
            channel.finish()
            channel.ended = channel.ended or channel.down

    def _choose(self) -> Channel:
        channels = [channel for channel in self._channels if not channel.ended]
        if len(channels) == 1:
            return channels[0]
        import random  # most clients have no choice, and start faster without

        return random.choice(channels)

    def _watch(self, channel: Channel) -> None:
        """Have the selector wait for what a channel needs, also when its socket is another or it has ended."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.unsent() else 0)
        watched, watched_events = self._watched.get(channel, (None, 0))
        open_now = not channel.ended and not channel.down
        if watched is channel.socket and watched_events == events and open_now:
            return
        if watched:
            self._selector.unregister(watched)
            del self._watched[channel]
        if not open_now:
            channel.close()
        else:
            self._selector.register(channel.socket, events, channel)
            self._watched[channel] = channel.socket, events

    def _listen_to_input(self, on: bool) -> None:
        if on and not self._takes_input:
            self._selector.register(self._typed.socket, selectors.EVENT_READ, None)
        elif not on and self._takes_input:
            self._selector.unregister(self._typed.socket)
        self._takes_input = on

    def _due_at(self, channel: Channel) -> float:
        """Return when to open a channel again, or when its next missing reply is late; infinity if neither is due."""
        if channel.ended:
            return float("inf")
        if channel.down:
            return channel.backoff.at
        if channel.loses and not self._closing:
            return channel.ledger.oldest() + self._timeout
        due = self._closing or (channel.ledger.due and not self._no_reply)
        return channel.active_at + self._timeout if due else float("inf")

    def _give_up_late(self, channel: Channel, now: float) -> None:
        """Send again what is late by `now`, or stop waiting for it: a message is lost, or the server is stuck."""
        late = f"no reply from {channel.peer} within {self._timeout:g} s"
        if channel.exiting and not channel.told_goodbye:
            if channel.exits_again > 0:
                channel.exits_again -= 1
                channel.active_at = now
                channel.send([self._word])
                return
            raise Failure(f"no answer to 'exit' from {channel.peer} within {self._timeout:g} s")
        if channel.reconnects and not channel.loses:
            raise Broken(late)
        if channel.loses:
            again = channel.ledger.retry(now - self._timeout, now, channel.retries)
            if again:
                channel.send(again)
        self._stuck = self._closing or not (channel.loses or self._interactive)
        lost = channel.ledger.give_up(now - self._timeout if channel.loses else now)
        if self._interactive:
            for message in lost:
                self._complain(f"{late}: {visible(message)}")
        self._note_lost(lost)

    def _note_lost(self, messages: list[bytes]) -> None:
        self._lost += len(messages)
        self._lost_names += [visible(message[:80]) for message in messages[: NAMED - len(self._lost_names)]]

    def _peers(self) -> str:
        return " or ".join(channel.peer for channel in self._channels)

    def _account(self) -> None:
        """Leave the terminal as it was, and tell what became of the messages."""
        self._typed.close()
        self._progress.erase()
        for channel in self._channels:
            self._note_lost(channel.ledger.give_up(float("inf")))
            channel.close()
        if self._lost:
            more = f", and {self._lost - NAMED} more" if self._lost > NAMED else ""
            count = "1 message was" if self._lost == 1 else f"{self._lost} messages were"
            self._problems.append(f"{count} not confirmed by {self._peers()}: {', '.join(self._lost_names)}{more}")
        if self._lines or self._typed.left():
            rest = f"what comes after '{self._word.decode()}'" if self._word else "the rest of the input"
            self._problems.append(f"{rest} was not sent")
        if self._typed.problem:
            self._problems.append(f"cannot read standard input: {self._typed.problem}")
        if self._problems:
            report("; ".join(self._problems))
        if self._interactive or self._stats:
            write_error(summary([channel.ledger for channel in self._channels], self._no_reply).encode() + b"\n")

    def _show(self, channel: Channel, data: bytes, replies: list[bytes]) -> None:
        if self._edited:
            label = f"[{channel.protocol}] Server: " if len(self._channels) > 1 else "Server: "
            text = "".join([f"{self._paint(label, reply)}\n" for reply in replies])
            self._typed.show_above(write_out, text.encode(sys.stdout.encoding, "backslashreplace"))
        elif sys.stdout is not None and sys.stdout.isatty():
            text = "".join([f"{visible(reply)}\n" for reply in replies])
            write_out(self._progress.above(text.encode(sys.stdout.encoding, "backslashreplace")))
        else:
            write_out(data)

    def _paint(self, label: str, reply: bytes) -> str:
        """Return a reply as a terminal shows it: its label dim, or all of it red if it is a refusal."""
        if not self._coloured:
            return label + visible(reply)
        if reply.startswith(REFUSALS):
            return paint(label + visible(reply), RED)
        return paint(label, DIM) + visible(reply)

    def _say(self, text: str) -> None:
        if self._interactive:
            self._tell(text)

    def _complain(self, problem: str) -> None:
        self._tell(error_line(problem))

    def _tell(self, line: str) -> None:
        """Write a line to standard error, above what is half-typed."""
        self._progress.erase()
        data = line.encode(sys.stderr.encoding if sys.stderr else "ascii", "backslashreplace") + b"\n"
        if self._edited and sys.stderr is not None and sys.stderr.isatty():
            self._typed.show_above(write_error, data)
        else:
            write_error(data)


def write_out(data: bytes) -> None:
    """Write all of `data` to standard output. Raises Failure."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:  # somebody else who has this file set it so
            select.select([], [1], [])
        except OSError as error:
            raise Failure(f"cannot write the replies to standard output: {reason(error)}") from error


def write_error(data: bytes) -> None:
    """Write `data` to standard error, where there is one."""
    with contextlib.suppress(OSError):
        os.write(2, data)
