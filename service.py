"""Servers: what a server decides and answers: messages in, replies out, and no socket.

A pass of the server reads whatever is ready, and hands the messages to `Service.receive`. At its end,
`Service.finish_pass` saves them all at once, and only then shows and answers them.
"""

from __future__ import annotations

import argparse
import enum
import re

from common import CONFIRMATION, EXIT, NOT_OBEYED, NOT_SAVED, SHUTTING_DOWN, TERMINATE, TOO_LONG, WORDS, reason
from gate import Gate
from lines import as_line
from text import TYPE_CHECKING, ending, without_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from audience import Audience
    from keeping import AnyArchive, Row
    from peer import Peer, Transport
    from record import Record

    Received = tuple["Peer", list[bytes], bytes]
    """Who said what, and a reply to each of that in place of the usual, if it is not a message."""

PASS_BYTES = 1 << 16
"""Bytes that a pass reads before it answers, which bounds memory, and what it can say at once to those who listen."""
MESSAGE_COST = 96
"""Bytes that each message counts for in that, besides its own."""
LONG, VERY_LONG = 1024, 32768
"""Bytes of messages on average with which it costs less to look at each than to search all of their text for words; and
with which one may be most of the work of a pass."""
MOST_EVENTS, MOST_TROUBLE = 500, 100
"""Comings and goings, and errors, that are shown of one address between two counts."""
END_OF_EVENT = re.compile(" by| to|:")
"""What stands between an event and whom it is about."""


class Stage(enum.Enum):
    """How far a server is on its way to its end; each stage follows the one above."""

    SERVING = enum.auto()
    ASKED_TO_STOP = enum.auto()
    STOPPING = enum.auto()


class Service:
    """The protocol of both servers: takes messages, decides what each is, and answers at the end of a pass."""

    def __init__(self, options: argparse.Namespace, record: Record, archive: AnyArchive | None = None) -> None:
        self.record = record
        self.gate = Gate(options.allow, record)
        self.transports: list[Transport] = []
        self.stage = Stage.SERVING
        self.reply: str = options.reply
        self.max_message: int = options.max_message
        self.longest_line = max(self.max_message, *map(len, WORDS)) + 1
        """Bytes of a line, with a CR at its end, that may be a message or a word."""
        self.audience: Audience | None = None
        if options.reply == "relay":
            from audience import Audience

            self.audience = Audience(self.peers, self.attend, self.longest_line)
        self.received: list[Received] = []
        self.texts: list[bytes] = []
        """What was received and not answered yet, and the text of each of those."""
        self.typed_rows: list[Row] = []
        """What the person at the server typed and is to be saved."""
        self.received_bytes = 0
        """What a pass has read, each message counted for more than its bytes."""
        self._words: frozenset[bytes] = frozenset() if options.no_words else WORDS
        self._ending: str = getattr(options, "ending", "lf")
        self._keeping = None
        if archive:
            from keeping import Keeping

            self._keeping = Keeping(self, archive)
        self._exit_from: str = options.exit_from
        self._shows: bool = not options.quiet
        self._leaving: dict[Peer, bool] = {}
        """Who leaves, once it is told all; and whether what it says after its goodbye counts for nothing."""
        self._told_to_stop: set[Peer] = set()

    def receive(self, peer: Peer, messages: list[bytes]) -> None:
        """Take what a peer said, one message or more, each with the part of its ending that its replies repeat."""
        text = b" ".join(messages)
        size = len(text)
        if size > LONG and (size > VERY_LONG * len(messages) or not text.isascii()):
            size *= 2  # it may take long to show
        self.received_bytes += size + len(messages) * MESSAGE_COST
        self.received.append((peer, messages, b""))
        self.texts.append(text)

    def join(self, peer: Peer) -> None:
        """Have a peer hear what others in a room say from now on."""
        peer.heard = self.audience.end() if self.audience else 0

    def leave(self, peer: Peer) -> None:
        """End a conversation at the end of this pass, after its replies."""
        self._leaving.setdefault(peer, False)

    def forget(self, peer: Peer) -> None:
        """Take it that a conversation has ended, whatever was still to be told."""
        self._leaving.pop(peer, None)
        if self.audience:
            self.audience.forget(peer)

    def hear(self, lines: list[bytes]) -> bool:
        """Tell everybody in the room what was said to other servers of it; return whether more of that has to wait."""
        return bool(self.audience and self.audience.say(None, [as_line(line, self._ending) for line in lines]))

    def peers(self) -> list[Peer]:
        """Return all who are to hear what others say, or the person at the server."""
        return [peer for transport in self.transports for peer in transport.peers()]

    def tell_all(self, lines: list[bytes], except_for: Iterable[Peer] = ()) -> None:
        """Tell everybody lines of the server's own, without an ending, but for some."""
        for peer in self.peers():
            if peer not in except_for:
                self.attend(peer, peer.tell, lines)

    def is_serving(self) -> bool:
        """Tell whether nothing has asked the server to stop."""
        return self.stage is Stage.SERVING

    def finish_pass(self) -> None:
        """Save, show and answer all that was received since the last call."""
        received, texts, size = self.received, self.texts, self.received_bytes
        self.received, self.texts, self.received_bytes = [], [], 0
        typed, self.typed_rows = self.typed_rows, []
        text = b" ".join(texts)
        if may_hold_words(received, text) or (len(text) > self.max_message < max(map(len, texts))):
            received = self._sort_out(received)
        if self._keeping is None:
            self.answer(received, text, True)
        elif received or typed:
            self._keeping.keep(received, text, size, typed)
        if self.audience:
            self.audience.tell_some()
        self.let_go()
        if self.stage is Stage.ASKED_TO_STOP and not (self._keeping and self._keeping.waits()):
            self._stop()

    def answer(self, received: list[Received], text: bytes, saved: bool) -> None:
        """Show and answer what a pass received, whose text this is, now that it is known whether it is saved."""
        shows, echoes, answers = self._shows, self.reply == "echo", self.reply != "none"
        is_harmless = shows and self.record.is_harmless(text)
        for peer, messages, reply in received:
            try:
                if reply:
                    self._reply(peer, messages, reply)
                    continue
                if shows:
                    heading = (peer.heading or self._heading(peer)) if saved else self._unsaved(peer)
                    self.record.messages(heading, messages, is_harmless)
                if not saved:
                    self.refuse(peer, messages)
                elif echoes:
                    peer.send(messages)
                elif answers:
                    peer.send(messages, CONFIRMATION)
            except Exception as error:
                self.blame(peer, error)
        if self.audience and saved:
            self._relay(self.audience, received)

    def refuse(self, peer: Peer, messages: list[bytes]) -> None:
        """Tell a peer that its messages are not saved."""
        peer.send([NOT_SAVED + ending(message) for message in messages])

    def let_go(self) -> None:
        """End the conversations of those who leave, once they have been told all; they say nothing more."""
        for peer in list(self._leaving):
            if self._keeping and self._keeping.owes(peer):
                peer.hold()
                continue
            del self._leaving[peer]
            if self.audience and peer.ends_for_good:
                self.attend(peer, self.audience.see_off, peer)
            else:
                self.attend(peer, peer.end)

    def ask_to_stop(self, why: str, told: Peer | None = None) -> None:
        """Have the server stop at the end of this pass: show why, and tell every client who was not told already."""
        if self.stage is not Stage.STOPPING:
            self.stage = Stage.ASKED_TO_STOP
            self.record.line(f"{why} Stopping server...")
            if told:
                self._told_to_stop.add(told)

    def attend(self, peer: Peer, step: Callable[..., None], *arguments: object) -> None:
        """Take a step with a peer; whatever goes wrong ends that conversation, and nothing else."""
        try:
            step(*arguments)
        except Exception as error:
            self.blame(peer, error)

    def blame(self, peer: Peer, error: Exception) -> None:
        """End the conversation with a peer with whom something went wrong, and nothing else."""
        if isinstance(error, OSError):
            peer.close(reason(error))
        else:
            self.record.fault(error)
            peer.close("a fault in this server")

    def show(self, peer: Peer, event: str, rest: bytes | str = "", *, times: int = 1, trouble: bool = False) -> None:
        """Show what happened to a peer, and what there is to say of it; from an address that is busy, count it."""
        host, kind = peer.where.rpartition(":")[0], END_OF_EVENT.sub("", event)
        event, most = f"[{peer.protocol} Server] {event} ", MOST_TROUBLE if trouble else MOST_EVENTS
        self.record.repeatable(kind, host, event, peer.name, rest, times=times, most=most, trouble=trouble)

    def _sort_out(self, received: list[Received]) -> list[Received]:
        """Return what was received, with words and messages over the limit told from the others."""
        found: list[Received] = []
        for peer, messages, _ in received:
            if self._leaving.get(peer):
                continue
            if self._words.isdisjoint(map(bytes.strip, messages)) and max(map(len, messages)) <= self.max_message:
                found.append((peer, messages, b""))
            else:
                self.attend(peer, self._sort_out_one_by_one, peer, messages, found)
        return found

    def _sort_out_one_by_one(self, peer: Peer, messages: list[bytes], found: list[Received]) -> None:
        exit_reply = b""
        for message in messages:
            text = without_ending(message)
            word = text.strip() if len(text) < self.longest_line else b""  # a longer line goes on, and is no word
            is_word, reply = word in self._words, b""
            if is_word and word == TERMINATE:
                self._leaving[peer] = peer.ends_for_good
                return
            if is_word:
                exit_reply = reply = exit_reply or self._take_exit(peer)
            elif len(text) > self.max_message:
                reply = TOO_LONG % self.max_message
            if found and found[-1][0] is peer and found[-1][2] == reply:
                found[-1][1].append(message)
            else:
                found.append((peer, [message], reply))
            if reply and not is_word and peer.ends_for_good:
                self._leaving[peer] = True
                return

    def _take_exit(self, peer: Peer) -> bytes:
        """Have the server stop, if it obeys this peer; return what to reply."""
        if self._exit_from == "anyone" or (self._exit_from == "local" and peer.is_local()):
            self.stage = Stage.ASKED_TO_STOP
            return SHUTTING_DOWN
        return NOT_OBEYED % peer.name.encode()

    def _heading(self, peer: Peer) -> bytes:
        """Have a peer keep how each line of the record begins that shows what it says, now that it says something."""
        peer.heading = self.record.heading(f"[{peer.protocol} Server] Received from ", peer.name, ": ")
        return peer.heading

    def _unsaved(self, peer: Peer) -> bytes:
        return self.record.heading(f"[{peer.protocol} Server] Not saved, from ", peer.name, ": ")

    def _reply(self, peer: Peer, messages: list[bytes], reply: bytes) -> None:
        if reply == SHUTTING_DOWN:
            self.ask_to_stop(f"[{peer.protocol} Server] Shutdown command received from {peer.name}.", peer)
        elif peer.is_answered:
            self.show(peer, "Sent to", b": " + reply, times=len(messages), trouble=True)
        peer.send([reply + ending(message) for message in messages])

    def _relay(self, audience: Audience, received: list[Received]) -> None:
        for peer, messages, reply in received:
            if not reply and peer.is_answered:
                start = peer.name.encode() + b": "
                lines = [start + as_line(without_ending(message), self._ending) for message in messages]
                if audience.say(peer, lines):
                    peer.wait_its_turn()

    def _stop(self) -> None:
        self.stage = Stage.STOPPING
        if self.audience:
            self.audience.finish()
        self.tell_all([SHUTTING_DOWN], self._told_to_stop)
        for transport in self.transports:
            transport.stop()


def may_hold_words(received: list[Received], text: bytes) -> bool:
    """Tell whether one of the messages received, whose text this is, may be a word; so most are not looked at."""
    if len(text) > LONG * len(received) and len(text) > LONG * sum(len(messages) for _, messages, _ in received):
        return any(len(message.strip()) < LONG for _, messages, _ in received for message in messages)
    return EXIT in text or TERMINATE in text
