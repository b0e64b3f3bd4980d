"""Clients: a client from its first line to its exit code: the loop around its channels and its typed lines."""

from __future__ import annotations

import argparse
import contextlib
import functools
import time
from collections.abc import Callable

from channel import Broken, Channel
from common import EXIT, NOT_OBEYED, REFUSALS, TERMINATE, Failure
from lines import as_lines
from loop import Loop
from outbox import Outbox
from output import Output
from phases import Phase, State, check
from text import visible


class Session:
    """A conversation over one channel or more: typed lines go out, replies come in, every message is accounted for."""

    def __init__(self, options: argparse.Namespace, loop: Loop, channels: list[Channel]) -> None:
        self._options, self._loop, self._channels = options, loop, channels
        self.phase = Phase.TALKING
        self._leave_at = self._send_at = float("inf")
        self._outbox = Outbox(options, any(channel.is_stream for channel in channels))
        self._output = Output(self._outbox.typed, [channel.ledger for channel in channels], options)
        self._listens = options.stay or self._output.is_interactive
        """Whether somebody wants to hear what comes, also when no reply is due."""

    def run(self, greeting: str) -> int:
        """Hold the conversation; return the exit code."""
        try:
            if not self._outbox.has_ended:
                self._output.say(greeting)
                self._output.say(self._outbox.hint)
                self._outbox.typed.start()
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
        now = time.monotonic()  # what has come by now is read before it is found late, also after Ctrl-Z
        for channel in self._channels:
            if self._listens:
                self._attend(channel, channel.show_life, now)
        self._watch()
        self._output.show_due(now, any(channel.state is not State.DOWN for channel in self._channels))
        due_at = min(now + 1.0, self._output.due_at(), self._send_at, *(channel.due_at() for channel in self._channels))
        for function in self._loop.ready(max(due_at - now, 0)):
            with contextlib.suppress(BlockingIOError):
                function()
        self._send_lines()
        for channel in self._channels:
            if now >= channel.due_at():
                self._attend(channel, self._be_late, channel, now)
        self._advance()

    def _watch(self) -> None:
        """Have the loop wait for the channels, and for typed lines when they can be sent."""
        for channel in self._channels:
            go_on = self._open if channel.state is State.DOWN else self._turn
            channel.watch(functools.partial(self._attend, channel, go_on, channel))
        self._outbox.watch(self._loop)

    def _send_lines(self) -> None:
        """Send typed lines, as far as there is room for more unanswered messages."""
        self._send_at = float("inf")
        while (ready := self._outbox.room(time.monotonic())) and (channels := self._unclosed()):
            channel = channels[0]
            if len(channels) > 1:
                import random  # most clients have no choice, and start faster without

                channel = random.choice(channels)
            room = min(ready, channel.room())
            if room <= 0:
                return
            self._send(channel, room if len(self._channels) == 1 else 1)
        self._send_at = self._outbox.due_at()

    def _send(self, channel: Channel, most: int) -> None:
        """Send so many lines at the most, up to a word."""
        now = time.monotonic()
        lines = self._outbox.take(most, now)
        messages = [line for line in lines if len(line) <= channel.longest]
        self._output.refuse([line for line in lines if len(line) > channel.longest], channel.longest)
        if self._options.no_reply:
            channel.ledger.sent += len(messages)
        else:
            channel.ledger.add(messages, now)
        if messages and channel.state is State.OPEN:  # else it sends them once it is open
            self._attend(channel, channel.send, messages)

    def _turn(self, channel: Channel) -> None:
        """Send what was kept, as it may fit now, and take what the server says."""
        channel.flush()
        data, replies, is_last = channel.read()
        heard = channel.hear(replies)
        if channel.ledger.waiting and not (channel.ledger.due or channel.is_unsaved()):  # all that waits was refused
            self._output.give_up(channel.ledger, float("inf"))
        if len(heard) < len(replies):
            data = as_lines(heard)
        label = f"[{channel.protocol}] Server: " if len(self._channels) > 1 else "Server: "
        self._output.show(label, data, heard, channel.unfinished())
        if self._options.no_reply or self._outbox.word == EXIT:
            self._take_refusals(channel, [reply for reply in replies if reply.startswith(REFUSALS)])
        if is_last:
            self._take_end(channel)

    def _take_refusals(self, channel: Channel, refusals: list[bytes]) -> None:
        """Talk on where `exit` is not obeyed; note what else is refused though no reply was expected."""
        not_obeyed = any(refusal.startswith(NOT_OBEYED.partition(b"%")[0]) for refusal in refusals)
        if channel.state is State.PARTING and self._outbox.word == EXIT and not_obeyed:
            self._output.note(f"{channel.peer} does not obey 'exit'")
            self._outbox.word = b""
            self._enter(Phase.TALKING)
            for parting in self._channels:
                if parting.state is State.PARTING:
                    parting.enter(State.OPEN)
        elif self._options.no_reply and refusals and not channel.refusal:
            channel.refusal = refusals[0]

    def _take_end(self, channel: Channel) -> None:
        """Note that a server says nothing more. Raises Broken if it still has something to answer."""
        if channel.state is State.OPEN:
            if not channel.said_goodbye and not self._may_just_close(channel):
                raise Broken(f"connection closed by {channel.peer}")
            if channel.reconnects and (self.phase is Phase.TALKING or channel.ledger.waiting or self._options.stay):
                raise Broken(f"{channel.peer} shut down")
        elif self._outbox.word == EXIT and not channel.said_goodbye:
            raise Broken(f"{channel.peer} closed without an answer to 'exit'")
        channel.enter(State.CLOSED)

    def _may_just_close(self, channel: Channel) -> bool:
        """Tell whether a server may end the conversation without a word, as one does that is only listened to."""
        is_listening = self._options.stay and self.phase is Phase.SETTLING and not channel.ledger.due
        return is_listening and not (channel.reconnects or channel.ledger.confirms)

    def _attend(self, channel: Channel, step: Callable[..., None], *arguments: object) -> None:
        """Take a step that may find the connection broken: that is no failure for who reconnects, or is done."""
        try:
            step(*arguments)
        except Broken as broken:
            if channel.state is State.PARTING:
                if not channel.said_goodbye and (self._outbox.word == EXIT or self._options.no_reply):
                    self._output.note(str(broken))
                channel.enter(State.CLOSED)
            elif channel.reconnects:
                if not channel.failures or (self._listens and channel.state is State.OPEN):
                    self._output.complain(f"{broken}; trying again until the server is there")
                channel.fail()
            else:
                raise

    def _be_late(self, channel: Channel, now: float) -> None:
        """Do what is due by `now`: connect; send again what is late, or wait for it no longer."""
        within = channel.waits_within(now, 1 + channel.retries)
        late = f"no reply from {channel.peer} {within}"
        if channel.state is State.DOWN:
            self._open(channel)
        elif channel.state is State.PARTING:
            self._part_late(channel, now)
        elif not channel.is_stream:
            again = channel.ledger.retry(now - channel.timeout, now, channel.retries)
            if again:
                channel.resend(again)
            self._output.give_up(channel.ledger, now - channel.timeout, late)
        elif channel.is_unsaved() and not channel.ledger.due:
            if channel.failures == 1:
                self._output.complain(f"{channel.peer} could not save; trying again until it can")
            channel.send_unconfirmed(now)
        elif channel.reconnects:
            raise Broken(late)
        elif not channel.ledger.due:
            raise Failure(f"{channel.peer} took nothing more {within}")
        else:
            self._output.give_up(channel.ledger, now, late)
            if not self._listens:
                self._enter(Phase.OVER)

    def _open(self, channel: Channel) -> None:
        channel.open()
        if channel.state is State.OPEN and channel.is_stream:
            self._output.begin()
            self._output.say(f"Connected to {channel.peer}.")

    def _part_late(self, channel: Channel, now: float) -> None:
        """Do what is due by `now` where a server has not ended the conversation. Raises Failure."""
        if self._outbox.word != EXIT or channel.said_goodbye:
            if not (self._options.no_reply and channel.look_for_progress(now)):
                self._leave_off(channel)
        elif channel.reconnects or channel.failures >= channel.retries:
            within = channel.waits_within(now, 1 + channel.failures)
            raise Failure(f"no answer to 'exit' from {channel.peer} {within}")
        else:
            channel.failures += 1
            channel.ledger.unanswered_since = now
            channel.resend([EXIT])

    def _leave_off(self, channel: Channel) -> None:
        """Wait for the end of a conversation no longer; where nothing is confirmed, tell what did not get there."""
        left = channel.undelivered() if self._options.no_reply else 0
        if left:
            self._output.note(f"{left} bytes were sent to {channel.peer} and not acknowledged by its machine")
        channel.enter(State.CLOSED)

    def _enter(self, phase: Phase) -> None:
        check(self.phase, phase)
        self.phase = phase

    def _unclosed(self) -> list[Channel]:
        return [channel for channel in self._channels if channel.state is not State.CLOSED]

    def _is_awaited(self, channel: Channel) -> bool:
        """Tell whether the end has to wait for a channel: until nothing is unsent, and no reply is due; or it stays."""
        if self._options.stay and not self._outbox.word:
            return True
        is_down, is_unsaved = channel.state is State.DOWN, channel.is_unsaved()
        if (is_down or is_unsaved) and self._outbox.word and self._output.is_interactive:
            return False  # a person who leaves does not wait for a connection, nor for a disk
        if channel.is_connecting() and not self._output.is_interactive:
            return True  # the server may have something to say
        return channel.ledger.due > 0 or is_unsaved or not channel.is_clear() or (is_down and self._outbox.word == EXIT)

    def _advance(self) -> None:
        """Enter each phase that what has happened leads to."""
        before = None
        while self.phase not in (before, Phase.OVER):
            before, channels = self.phase, self._unclosed()
            if not channels:
                if before in (Phase.TALKING, Phase.SETTLING):
                    self._output.say("The server has shut down.")
                    if self._outbox.has_lines() or not (self._output.is_interactive or self._outbox.has_ended):
                        self._output.note(f"{self._peers()} shut down before the end of the input")
                self._enter(Phase.OVER)
            elif before is Phase.TALKING and self._outbox.is_done():
                self._enter(Phase.SETTLING)
            elif before is Phase.SETTLING and not any(map(self._is_awaited, channels)):
                self._part(channels)
            elif before is Phase.PARTING and self._outbox.word == TERMINATE and all(c.is_clear() for c in channels):
                self._leave(channels)
            elif before is Phase.LEAVING and time.monotonic() >= self._leave_at:
                self._enter(Phase.OVER)
                for channel in channels:
                    self._leave_off(channel)

    def _part(self, channels: list[Channel]) -> None:
        """Send the word that ends the conversation, or the end itself; after -m, just go."""
        if self._options.message and not self._outbox.word and not self._options.no_reply:
            self._enter(Phase.OVER)
            return
        self._enter(Phase.PARTING)
        if self._outbox.word == TERMINATE:
            self._output.say("Terminating client.....")
        for channel in channels:
            if channel.state is not State.DOWN:
                self._attend(channel, channel.part, self._outbox.word)
                continue
            if self._outbox.word == EXIT:
                self._output.note(f"'exit' was not sent to {channel.peer}: there is no connection")
            channel.enter(State.CLOSED)

    def _leave(self, channels: list[Channel]) -> None:
        """Be over, since all is confirmed; where nothing is, end, but let the servers take what is on its way.

        To close while something comes the other way would destroy it.
        """
        if not self._options.no_reply:
            self._enter(Phase.OVER)
            return
        self._enter(Phase.LEAVING)
        self._leave_at = time.monotonic() + self._options.timeout
        for channel in channels:
            self._attend(channel, channel.finish)

    def _peers(self) -> str:
        return " or ".join(channel.peer for channel in self._channels)

    def _account(self) -> None:
        """Leave the terminal as it was, and tell what became of the messages."""
        self._outbox.typed.close()
        for channel in self._channels:
            if channel.refusal:
                self._output.note(f"{channel.peer} refused: {visible(channel.refusal)}")
            channel.close()
        self._output.finish(self._peers(), self._outbox.rest())
