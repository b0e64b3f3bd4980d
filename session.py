"""Clients: a client from its first line to its exit code: the loop around its channels and its typed lines."""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable

from channel import Broken, Channel
from common import EXIT, NOT_OBEYED, REFUSALS, SHUTTING_DOWN, TERMINATE, WORDS, Failure
from loop import READ, WRITE, Loop
from output import Output
from phases import Phase, State, check
from terminal import TypedLines
from text import visible

HINT = "Type a message; 'terminate' ends this client, 'exit' also stops the server."


class Session:
    """A conversation over one channel or more: typed lines go out, replies come in, every message is accounted for."""

    def __init__(self, options: argparse.Namespace, loop: Loop, channels: list[Channel]) -> None:
        self._options, self._loop, self._channels = options, loop, channels
        self._timeout: float = options.timeout
        self.phase = Phase.TALKING
        self._leave_at = float("inf")
        texts = [os.fsencode(text) for text in options.message or ()]
        if any(channel.is_stream for channel in channels):
            texts = [line for text in texts for line in text.removesuffix(b"\n").split(b"\n")]
        self._lines = collections.deque(texts)  # to be sent
        self._input_over = bool(texts)
        self._word = b""  # which ends the conversation, once it is read
        self._typed = TypedLines("You: ", edits=not texts)
        self._output = Output(self._typed, [channel.ledger for channel in channels], options)

    def run(self, greeting: str) -> int:
        """Hold the conversation; return the exit code."""
        self._loop.catch_signals(("SIGTERM", "SIGHUP", "SIGQUIT"), lambda number, _: sys.exit(128 + number))
        try:
            if not self._input_over:
                self._output.say(greeting)
                self._output.say(HINT)
                self._typed.start()
            self._send_lines()
            self._advance()
            while self.phase is not Phase.OVER:
                self._pass()
        except Failure as failure:
            self._output.note(str(failure))
        finally:
            self._account()
        return self._output.code

    def _pass(self) -> None:
        """Wait until something arrives, may be sent, or is late; and take care of it. Raises Failure."""
        self._watch()
        now = time.monotonic()  # what has come by now is read before it is found late, also after Ctrl-Z
        self._output.show_progress(now)
        due_at = min(now + 1.0, self._output.progress_at, *(c.due_at(self._timeout) for c in self._channels))
        for function in self._loop.ready(max(due_at - now, 0)):
            with contextlib.suppress(BlockingIOError):
                function()
        self._send_lines()
        for channel in self._channels:
            if now >= channel.due_at(self._timeout):
                self._attempt(channel, self._be_late, channel, now)
        self._advance()

    def _watch(self) -> None:
        """Have the loop wait for the channels, and for typed lines when they can be sent."""
        for channel in self._channels:
            if channel.state in (State.OPEN, State.PARTING):
                turn = functools.partial(self._attempt, channel, self._turn, channel)
                self._loop.watch(channel.socket.fileno(), turn, READ | (WRITE if channel.unsent else 0))
        typed = self._typed.socket.fileno()
        if not (self._input_over or self._word or self._lines or self._loop.watches(typed)):
            self._loop.watch(typed, self._take_typed)
            self._typed.ask()

    def _take_typed(self) -> None:
        lines = self._typed.read()
        self._input_over = lines is None
        self._lines.extend(lines or ())
        if self._input_over or self._lines:
            self._loop.forget(self._typed.socket.fileno())

    def _send_lines(self) -> None:
        """Send typed lines, as far as there is room for more unanswered messages."""
        while self._lines and not self._word and (channels := self._unclosed()):
            channel = channels[0]
            if len(channels) > 1:
                import random  # most clients have no choice, and start faster without

                channel = random.choice(channels)
            room = channel.room()
            if room <= 0:
                return
            self._send(channel, room if len(self._channels) == 1 else 1)

    def _send(self, channel: Channel, most: int) -> None:
        """Send so many lines at the most, up to a word."""
        messages = []
        for _ in range(min(most, len(self._lines))):
            line = self._lines.popleft()
            if line.strip() in WORDS:
                self._word = line.strip()
                break
            if len(line) <= channel.longest:
                messages.append(line)
            else:
                limit = f"{channel.longest} fit into a datagram"
                self._output.complain(f"a message of {len(line)} bytes was not sent: {limit}")
                self._output.code = 1
        if self._options.no_reply:
            channel.ledger.sent += len(messages)
        else:
            channel.ledger.add(messages, time.monotonic())
        if messages and channel.state is State.OPEN:  # else it sends them once it is open
            self._attempt(channel, channel.send, messages)

    def _turn(self, channel: Channel) -> None:
        """Send what was kept, as it may fit now, and take what the server says."""
        channel.flush()
        data, replies, is_last = channel.read()
        channel.active_at = now = time.monotonic()
        if channel.ledger.take(replies, now):
            channel.failures = 0
        channel.said_goodbye |= SHUTTING_DOWN in replies
        self._output.show(f"[{channel.protocol}] Server: " if len(self._channels) > 1 else "Server: ", data, replies)
        if self._options.no_reply or self._word == EXIT:
            self._take_refusals(channel, [reply for reply in replies if reply.startswith(REFUSALS)])
        if is_last:
            self._take_end(channel)

    def _take_refusals(self, channel: Channel, refusals: list[bytes]) -> None:
        """Talk on where `exit` is not obeyed; note what else is refused though no reply was expected."""
        not_obeyed = any(refusal.startswith(NOT_OBEYED.partition(b"%")[0]) for refusal in refusals)
        if channel.state is State.PARTING and self._word == EXIT and not_obeyed:
            self._output.note(f"{channel.peer} does not obey 'exit'")
            self._word = b""
            self._enter(Phase.TALKING)
            for parting in self._channels:
                if parting.state is State.PARTING:
                    parting.enter(State.OPEN)
        elif self._options.no_reply and refusals and not channel.refusal:
            channel.refusal = refusals[0]

    def _take_end(self, channel: Channel) -> None:
        """Note that a server says nothing more. Raises Broken if it still has something to answer."""
        if channel.state is State.OPEN:
            if not channel.said_goodbye:
                raise Broken(f"connection closed by {channel.peer}")
            if channel.reconnects and (self._is_unfinished() or channel.ledger.waiting):
                raise Broken(f"{channel.peer} shut down")
        elif self._word == EXIT and not channel.said_goodbye:
            raise Broken(f"{channel.peer} closed without an answer to 'exit'")
        channel.enter(State.CLOSED)

    def _attempt(self, channel: Channel, step: Callable[..., None], *arguments: object) -> None:
        """Take a step that may find the connection broken: that is no failure for who reconnects, or is done."""
        try:
            step(*arguments)
        except Broken as broken:
            if channel.state is State.PARTING:
                if not channel.said_goodbye and (self._word == EXIT or self._options.no_reply):
                    self._output.note(str(broken))
                channel.enter(State.CLOSED)
            elif channel.reconnects:
                if not channel.failures:
                    self._output.complain(f"{broken}; trying again until the server is there")
                channel.fail()
            else:
                raise

    def _be_late(self, channel: Channel, now: float) -> None:
        """Do what is due by `now`: connect; send again what is late, or wait for it no longer."""
        late = f"no reply from {channel.peer} within {self._timeout:g} s"
        if channel.state is State.DOWN:
            channel.open()
            if channel.is_stream:
                self._output.say(f"Connected to {channel.peer}.")
        elif channel.state is State.PARTING and (self._word != EXIT or channel.said_goodbye):
            channel.enter(State.CLOSED)
        elif channel.state is State.PARTING and (channel.reconnects or channel.failures >= channel.retries):
            raise Failure(f"no answer to 'exit' from {channel.peer} within {self._timeout:g} s")
        elif channel.state is State.PARTING:
            channel.failures += 1
            channel.active_at = now
            channel.send([EXIT])
        elif not channel.is_stream:
            again = channel.ledger.retry(now - self._timeout, now, channel.retries)
            if again:
                channel.send(again)
            self._output.lose(channel.ledger.give_up(now - self._timeout), late)
        elif channel.reconnects:
            raise Broken(late)
        else:
            self._output.lose(channel.ledger.give_up(now), late)
            if not self._output.is_interactive:
                self._enter(Phase.OVER)

    def _enter(self, phase: Phase) -> None:
        check(self.phase, phase)
        self.phase = phase

    def _unclosed(self) -> list[Channel]:
        return [channel for channel in self._channels if channel.state is not State.CLOSED]

    def _is_unfinished(self) -> bool:
        """Tell whether there is more input to send."""
        return bool(self._lines) or not (self._output.is_interactive or self._input_over)

    def _is_awaited(self, channel: Channel) -> bool:
        """Tell whether the end has to wait for a channel: until nothing is unsent, and no reply is due."""
        is_down = channel.state is State.DOWN
        if is_down and self._word and self._output.is_interactive:
            return False  # a person who leaves does not wait for a connection
        return channel.ledger.due > 0 or not channel.is_clear() or (is_down and self._word == EXIT)

    def _advance(self) -> None:
        """Enter each phase that what has happened leads to."""
        before = None
        while self.phase not in (before, Phase.OVER):
            before, channels = self.phase, self._unclosed()
            if not channels:
                if before in (Phase.TALKING, Phase.SETTLING):
                    self._output.say("The server has shut down.")
                    if self._is_unfinished():
                        self._output.note(f"{self._peers()} shut down before the end of the input")
                self._enter(Phase.OVER)
            elif before is Phase.TALKING and (self._word or (self._input_over and not self._lines)):
                self._enter(Phase.SETTLING)
            elif before is Phase.SETTLING and not any(map(self._is_awaited, channels)):
                self._part(channels)
            elif before is Phase.PARTING and self._word == TERMINATE and all(c.is_clear() for c in channels):
                self._leave(channels)
            elif before is Phase.LEAVING and time.monotonic() >= self._leave_at:
                self._enter(Phase.OVER)

    def _part(self, channels: list[Channel]) -> None:
        """Send the word that ends the conversation, or the end itself; after -m, just go."""
        is_just_gone = self._options.message and not self._word and not self._options.no_reply
        self._enter(Phase.OVER if is_just_gone else Phase.PARTING)
        if self._word == TERMINATE:
            self._output.say("Terminating client.....")
        for channel in () if is_just_gone else channels:
            if channel.state is State.DOWN:
                if self._word == EXIT:
                    self._output.note(f"'exit' was not sent to {channel.peer}: there is no connection")
                channel.enter(State.CLOSED)
                continue
            channel.enter(State.PARTING)
            channel.failures, channel.active_at = 0, time.monotonic()
            if self._word:
                self._attempt(channel, channel.send, [self._word])
            else:
                self._attempt(channel, channel.finish)

    def _leave(self, channels: list[Channel]) -> None:
        """Be over, since all is confirmed; where nothing is, end, but let the servers take what is on its way.

        To close while something comes the other way would destroy it.
        """
        self._enter(Phase.LEAVING if self._options.no_reply else Phase.OVER)
        self._leave_at = time.monotonic() + self._timeout
        for channel in channels if self._options.no_reply else ():
            self._attempt(channel, channel.finish)

    def _peers(self) -> str:
        return " or ".join(channel.peer for channel in self._channels)

    def _account(self) -> None:
        """Leave the terminal as it was, and tell what became of the messages."""
        self._typed.close()
        for channel in self._channels:
            if channel.refusal:
                self._output.note(f"{channel.peer} refused: {visible(channel.refusal)}")
            self._output.lose(channel.ledger.give_up(float("inf")))
            channel.close()
        rest = ""
        if self._lines or self._typed.read_rest():
            rest = f"what comes after '{self._word.decode()}'" if self._word else "the rest of the input"
        self._output.finish(self._peers(), rest)
