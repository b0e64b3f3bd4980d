"""`session` and `channel`: the tables of phases and states, and what each event does in each of them."""

from __future__ import annotations

import argparse
import socket
import sys
import unittest
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING
from unittest import mock

from support import TestCase

from channel import Broken, Channel
from common import CONFIRMATION, Failure
from ledger import Ledger
from loop import READ, WRITE, Loop
from phases import Phase, State, check
from session import Session

if TYPE_CHECKING:
    from channel import Wait

GOODBYE = b"Server shutting down..."
REFUSAL = b"Error: 'exit' is not obeyed from you"


class FakeChannel(Channel):
    """A channel whose server is the test."""

    window, window_bytes = 9, 99
    is_stream = True

    def __init__(self, loop: Loop, retries: int, reconnects: bool) -> None:
        options = argparse.Namespace(host="server", timeout=5.0, family=0, source={})
        super().__init__(loop, options, 1, Ledger(), retries, reconnects)
        self.unsent = bytearray()
        self.said: list[bytes] = []
        self.hears: list[bytes] = []
        self.is_last = self.is_finished = False
        self.fails: Exception | None = None

    def connect(self) -> Generator[Wait, None, None]:
        self.step()
        self.close_socket()
        self.socket, self.theirs = socket.socketpair()
        yield from ()

    def send(self, messages: list[bytes]) -> None:
        self.step()
        self.said += messages

    def read(self) -> tuple[bytes, list[bytes], bool]:
        self.step()
        return b"", self.hears, self.is_last

    def flush(self) -> None:
        self.step()

    def finish(self) -> None:
        self.is_finished = True

    def step(self) -> None:
        if self.fails:
            raise self.fails

    def close_socket(self) -> None:
        super().close_socket()
        if hasattr(self, "theirs"):
            self.theirs.close()


class SessionTest(TestCase):
    """A session over fake channels, to which things happen one by one."""

    def begin(
        self,
        *messages: str,
        channels: int = 1,
        no_reply: bool = False,
        retries: int = 0,
        reconnects: bool = False,
        stay: bool = False,
        no_words: bool = False,
        any_reply: bool = False,
    ) -> Session:
        """Return a session that has sent messages, and its channels as attributes of the test."""
        loop = Loop()
        self.addCleanup(loop.close)
        self.channels = [FakeChannel(loop, retries, reconnects) for _ in range(channels)]
        for channel in self.channels:
            channel.ledger = Ledger(any_reply=any_reply)
            channel.open()
            self.addCleanup(channel.close)
        self.channel = self.channels[0]
        given = argparse.Namespace(timeout=5.0, no_reply=no_reply, stats=False, message=[*messages])
        given.stay, given.no_words, given.rate = stay, no_words, None
        with mock.patch("sys.stdin", None):  # else it might be a terminal
            talking = Session(given, loop, [*self.channels])
        typed = talking._outbox.typed
        for part in (typed, typed.socket, typed._feed):
            self.addCleanup(part.close)
        talking._send_lines()
        talking._advance()
        return talking

    def hear(self, talking: Session, *replies: bytes, last: bool = False, channel: FakeChannel | None = None) -> None:
        """Have a server say something."""
        channel = channel or self.channel
        channel.hears, channel.is_last = [*replies], last
        talking._attend(channel, talking._turn, channel)
        talking._advance()


class Tables(TestCase):
    """What may follow what."""

    def test_each_pair_of_phases(self) -> None:
        allowed = {
            *(("TALKING", after) for after in ("SETTLING", "OVER")),
            *(("SETTLING", after) for after in ("PARTING", "OVER")),
            *(("PARTING", after) for after in ("TALKING", "LEAVING", "OVER")),
            ("LEAVING", "OVER"),
        }
        self.check(Phase, allowed)

    def test_each_pair_of_states(self) -> None:
        allowed = {
            *(("DOWN", after) for after in ("DOWN", "OPEN", "CLOSED")),
            *(("OPEN", after) for after in ("DOWN", "PARTING", "CLOSED")),
            *(("PARTING", after) for after in ("OPEN", "CLOSED")),
        }
        self.check(State, allowed)

    def check(self, steps: type[Phase] | type[State], allowed: set[tuple[str, str]]) -> None:
        """Compare a table with what it should allow."""
        for before in steps:
            for after in steps:
                with self.subTest(before=before, after=after):
                    if (before.name, after.name) in allowed:
                        check(before, after)
                    else:
                        self.assertRaises(RuntimeError, check, before, after)


class Phases(SessionTest):
    """What each event does in each phase."""

    def in_phase(self, phase: Phase) -> Session:
        """Return a session that has come to a phase."""
        if phase is Phase.TALKING:
            talking = self.begin()
            talking._outbox.has_ended = False
            talking.phase = Phase.TALKING
            self.channel.state = State.OPEN
        elif phase is Phase.SETTLING:
            talking = self.begin("hello")
        elif phase is Phase.PARTING:
            talking = self.begin("exit")
        elif phase is Phase.LEAVING:
            talking = self.begin("hello", "terminate", no_reply=True)
        else:
            talking = self.begin("terminate")
        self.assertIs(talking.phase, phase)
        return talking

    def test_every_event_in_every_phase(self) -> None:
        def end_input(talking: Session) -> None:
            self.assertTrue(talking._outbox.has_ended)

        def word(talking: Session) -> None:
            talking._outbox.word = b"exit"

        def reply(talking: Session) -> None:
            self.hear(talking, CONFIRMATION + b"hello")

        def refusal(talking: Session) -> None:
            self.hear(talking, REFUSAL)

        def goodbye(talking: Session) -> None:
            self.hear(talking, GOODBYE, last=True)

        def end(talking: Session) -> None:
            self.hear(talking, last=True)

        def late(talking: Session) -> None:
            """Where no reply is due, what is unsent is late."""
            talking._be_late(self.channel, self.channel.active_at + 6)

        talking, settling, parting, leaving, over = Phase
        table: dict[Callable[[Session], None], tuple[Phase | type[Exception] | None, ...]] = {
            end_input: (parting, settling, parting, leaving, over),
            word: (parting, settling, parting, leaving, over),
            reply: (talking, over, parting, leaving, None),
            refusal: (talking, settling, talking, leaving, None),
            goodbye: (over, over, over, over, None),
            end: (Broken, Broken, over, over, None),
            late: (Failure, over, Failure, over, None),
        }
        for event, outcomes in table.items():
            for phase, outcome in zip(Phase, outcomes):
                with self.subTest(event=event.__name__, phase=phase):
                    conversation = self.in_phase(phase)
                    if isinstance(outcome, Phase):
                        conversation._outbox.has_ended = outcome is not talking
                        event(conversation)
                        conversation._advance()
                        self.assertIs(conversation.phase, outcome)
                    elif outcome:
                        self.assertRaises(outcome, event, conversation)

    def test_terminate_is_the_last_that_is_sent(self) -> None:
        talking = self.begin("hello", "terminate")
        self.assertEqual((talking.phase, self.channel.said), (Phase.SETTLING, [b"hello"]))
        self.hear(talking, CONFIRMATION + b"hello")
        self.assertEqual((talking.phase, self.channel.said), (Phase.OVER, [b"hello", b"terminate"]))
        self.assertFalse(self.channel.is_finished)

    def test_who_expects_no_reply_half_closes(self) -> None:
        talking = self.begin("hello", "terminate", no_reply=True)
        self.assertEqual((talking.phase, self.channel.said), (Phase.LEAVING, [b"hello", b"terminate"]))
        self.assertTrue(self.channel.is_finished)
        self.hear(talking, last=True)
        self.assertIs(talking.phase, Phase.OVER)

    def test_leaving_takes_no_longer_whatever_the_server_says(self) -> None:
        talking = self.begin("terminate", no_reply=True)
        leave_at = talking._leave_at
        self.hear(talking, b"stay!")
        self.assertEqual((talking.phase, talking._leave_at), (Phase.LEAVING, leave_at))
        with mock.patch("time.monotonic", return_value=leave_at):
            self.hear(talking, b"stay!")
        self.assertIs(talking.phase, Phase.OVER)

    def test_exit_is_sent_again(self) -> None:
        talking = self.begin("exit", retries=2)
        for times in (2, 3):
            talking._attend(self.channel, talking._be_late, self.channel, self.channel.active_at + 5.0)
            self.assertEqual(self.channel.said, [b"exit"] * times)
        with self.assertRaisesRegex(Failure, "no answer to 'exit' from server:1 within 15 s"):
            talking._be_late(self.channel, self.channel.active_at + 5.0)
        talking = self.begin("exit", retries=sys.maxsize, reconnects=True)
        with self.assertRaisesRegex(Failure, "no answer to 'exit' from server:1 within 5 s"):
            talking._be_late(self.channel, self.channel.active_at + 5.0)

    def test_exit_goes_to_all_and_the_talk_goes_on_if_one_refuses(self) -> None:
        talking = self.begin("exit", channels=2)
        self.assertEqual([channel.said for channel in self.channels], [[b"exit"]] * 2)
        talking._outbox.has_ended = False
        self.hear(talking, REFUSAL)
        self.assertIs(talking.phase, Phase.TALKING)
        self.assertEqual({channel.state for channel in self.channels}, {State.OPEN})
        self.hear(talking, REFUSAL, channel=self.channels[1])
        self.assertEqual(talking._output.code, 1)

    def test_what_is_unsent_is_waited_for(self) -> None:
        talking = self.begin("hello", "terminate")
        self.channel.unsent += b"some"
        self.hear(talking, CONFIRMATION + b"hello")
        self.assertIs(talking.phase, Phase.SETTLING)
        self.channel.unsent.clear()
        talking._advance()
        self.assertIs(talking.phase, Phase.OVER)

    def test_what_is_unsent_is_late_also_where_no_reply_is_due(self) -> None:
        talking = self.begin("hello", any_reply=True)
        self.channel.unsent += b"some"
        self.hear(talking, b"a greeting")
        self.assertEqual((talking.phase, self.channel.ledger.due), (Phase.SETTLING, 0))
        self.assertEqual(self.channel.due_at(), self.channel.active_at + 5.0)
        with self.assertRaisesRegex(Failure, "server:1 took nothing more within 5 s"):
            talking._be_late(self.channel, self.channel.due_at())

    def test_room_to_send_is_waited_for_only_while_something_is_unsent(self) -> None:
        talking = self.begin("hello")
        for unsent, events in ((b"some", READ | WRITE), (b"", READ)):
            self.channel.unsent[:] = unsent
            with mock.patch.object(talking._loop, "watch") as watch:
                talking._watch()
            watch.assert_called_once_with(self.channel.socket.fileno(), mock.ANY, events)

    def test_questions_change_nothing(self) -> None:
        talking = self.begin("hello")
        before = dict(vars(talking))
        channel_before = dict(vars(self.channel))
        for _ in range(2):
            self.channel.due_at()
            talking._unclosed()
            talking._is_awaited(self.channel)
            self.channel.room()
        self.assertEqual((vars(talking), vars(self.channel)), (before, channel_before))


class Breaks(SessionTest):
    """What a broken connection means."""

    def test_for_who_does_not_reconnect(self) -> None:
        talking = self.begin("hello")
        self.channel.fails = Broken("it broke")
        self.assertRaises(Broken, talking._attend, self.channel, talking._turn, self.channel)

    def test_for_who_reconnects(self) -> None:
        talking = self.begin("hello", reconnects=True)
        self.channel.fails = Broken("it broke")
        with mock.patch.object(talking._output, "complain") as complain:
            for failures in (1, 2, 3):
                talking._attend(self.channel, self.channel.open if failures > 1 else self.channel.flush)
                self.assertEqual((self.channel.state, self.channel.failures), (State.DOWN, failures))
                self.assertEqual(self.channel.due_at(), self.channel.open_at)
        complain.assert_called_once()
        self.channel.fails = None
        talking._attend(self.channel, self.channel.open)
        self.assertIs(self.channel.state, State.OPEN)
        self.hear(talking, CONFIRMATION + b"hello")
        self.assertEqual((talking.phase, self.channel.failures), (Phase.OVER, 0))

    def test_a_connection_that_is_being_made_when_the_input_ends(self) -> None:
        """It is waited for, as the server may have something to say; a person who leaves does not wait."""
        for is_interactive in (False, True):
            with self.subTest(is_interactive=is_interactive):
                talking = self.begin(reconnects=True)
                talking._output.is_interactive = is_interactive
                self.channel.fail()
                with mock.patch.object(self.channel, "connect", lambda: (({}, 0.0) for _ in "1")):
                    self.channel.open()
                talking._outbox.has_ended = True
                talking._advance()
                if is_interactive:
                    self.assertIs(talking.phase, Phase.OVER)
                    continue
                self.assertIs(talking.phase, Phase.SETTLING)
                self.channel.open()
                talking._advance()
                self.assertEqual((talking.phase, self.channel.is_finished), (Phase.PARTING, True))

    def test_while_it_stays(self) -> None:
        """A server that confirms says goodbye; any other may just close."""
        for reply, any_reply, expected in (
            (CONFIRMATION + b"hello", False, Broken),
            (b"hello", False, Phase.OVER),
            (b"anything", True, Phase.OVER),
        ):
            with self.subTest(reply):
                talking = self.begin("hello", stay=True, any_reply=any_reply)
                self.hear(talking, reply)
                self.assertIs(talking.phase, Phase.SETTLING)
                self.assertEqual(self.channel.due_at(), float("inf"))
                if isinstance(expected, Phase):
                    self.hear(talking, b"news", last=True)
                    self.assertEqual((talking.phase, talking._output.code), (expected, 0))
                else:
                    self.assertRaises(expected, self.hear, talking, last=True)

    def test_a_clean_stop_while_somebody_may_type(self) -> None:
        talking = self.begin(reconnects=True)
        self.assertIs(talking.phase, Phase.TALKING)
        with mock.patch.object(talking._output, "complain") as complain:
            self.hear(talking, GOODBYE, last=True)
        self.assertIs(self.channel.state, State.DOWN)
        complain.assert_called_once_with("server:1 shut down; trying again until the server is there")

    def test_after_the_end(self) -> None:
        for word, no_reply, said_goodbye, code in (
            ("exit", False, False, 1),
            ("exit", False, True, 0),
            ("", True, False, 1),
            ("", True, True, 0),
        ):
            with self.subTest(word=word, no_reply=no_reply, said_goodbye=said_goodbye):
                talking = self.begin(*[word] if word else [], "x", no_reply=no_reply)
                self.assertIs(self.channel.state, State.PARTING)
                self.channel.said_goodbye = said_goodbye
                self.channel.fails = Broken("it broke")
                talking._attend(self.channel, talking._turn, self.channel)
                self.assertEqual((self.channel.state, talking._output.code), (State.CLOSED, code))

    def test_a_goodbye_before_all_is_confirmed(self) -> None:
        talking = self.begin("hello", reconnects=True)
        with mock.patch.object(talking._output, "complain"):
            self.hear(talking, GOODBYE, last=True)
        self.assertIs(self.channel.state, State.DOWN)


class NotSaved(SessionTest):
    """A server that can not save."""

    UNSAVED = b"Error: the message could not be saved"

    def test_all_that_was_refused_is_sent_again_once_nothing_else_is_due(self) -> None:
        talking = self.begin("one", "two", reconnects=True)
        self.hear(talking, self.UNSAVED)
        self.assertEqual((self.channel.failures, self.channel.room()), (1, 0))
        self.assertEqual(self.channel.due_at(), self.channel.active_at + 5.0, "the other is due")
        self.hear(talking, self.UNSAVED)
        self.assertEqual((talking.phase, self.channel.due_at()), (Phase.SETTLING, self.channel.open_at))
        with mock.patch.object(talking._output, "complain") as complain:
            talking._be_late(self.channel, self.channel.open_at)
        self.assertIn("could not save", complain.call_args[0][0])
        self.assertEqual(self.channel.said, [b"one", b"two"] * 2)
        self.assertEqual(self.channel.due_at(), self.channel.active_at + 5.0)
        self.hear(talking, CONFIRMATION + b"one", CONFIRMATION + b"two")
        self.assertEqual((talking.phase, self.channel.failures, talking._output.code), (Phase.OVER, 0, 0))

    def test_who_does_not_reconnect_gives_it_up(self) -> None:
        talking = self.begin("one")
        self.hear(talking, self.UNSAVED)
        self.assertIs(talking.phase, Phase.OVER)

    def test_too_long_is_another_thing(self) -> None:
        talking = self.begin("one", reconnects=True)
        self.hear(talking, b"Error: message longer than 2 bytes")
        self.assertIs(talking.phase, Phase.OVER)


class Refusals(SessionTest):
    """A server that refuses where no reply is expected."""

    def test_the_first_is_told_also_after_a_message_that_was_too_long(self) -> None:
        with mock.patch.object(FakeChannel, "longest", 3), mock.patch("output.Output.complain") as complain:
            talking = self.begin("long", "abc", no_reply=True)
        complain.assert_called_once()
        self.assertEqual(talking._output.code, 1)
        self.hear(talking, b"Error: message longer than 2 bytes", b"Error: message longer than 1 bytes")
        self.hear(talking, b"Error: message longer than 2 bytes")
        with mock.patch("output.report") as report:
            talking._account()
        report.assert_called_once_with("server:1 refused: Error: message longer than 2 bytes")


if __name__ == "__main__":
    unittest.main()
