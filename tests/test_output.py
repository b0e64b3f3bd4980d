"""`output`: what a client writes where, and what it tells at its end."""

from __future__ import annotations

import argparse
import io
import os
import unittest
from collections.abc import Callable
from unittest import mock

from support import TestCase

from incoming import LONGEST_SHOWN
from ledger import Ledger
from output import Output

LABEL = "Server: "


class FakeTerminal(io.StringIO):
    """Where a person reads."""

    encoding = "ascii"

    def isatty(self) -> bool:
        return True


class FakeTyped:
    """A row in which somebody types, or may not."""

    def __init__(self, *, typed: bool = False, edited: bool = False) -> None:
        self.is_terminal, self.is_edited, self.problem = typed, edited, ""

    def show_above(self, output: Callable[[bytes], object], text: bytes) -> None:
        output(b"<erased>" + text + b"<row>" if self.is_edited else text)


def output_of(typed: FakeTyped, ledger: Ledger | None = None, *messages: str) -> Output:
    """Return the output of a client that was given messages, or none."""
    options = argparse.Namespace(message=[*messages], no_reply=False, stats=False)
    return Output(typed, [ledger or Ledger()], options)  # type: ignore[arg-type]


class Replies(TestCase):
    """Where replies go, and how."""

    def show(self, replies: list[bytes], *, terminal: bool = True, edited: bool = True, **environment: str) -> bytes:
        """Return what is written when replies are shown."""
        written: list[bytes] = []
        stdout = FakeTerminal() if terminal else io.StringIO()
        is_dumb = not environment.get("COLOURS")
        replaced = mock.patch("sys.stdout", stdout), mock.patch("output.write_out", written.append)
        with replaced[0], replaced[1], mock.patch("text.IS_DUMB", is_dumb):
            output_of(FakeTyped(edited=edited)).show("Server: ", b"as it is\x1b\n", replies)
        return b"".join(written)

    def test_each_kind_of_place(self) -> None:
        for terminal, edited, expected in (
            (False, False, b"as it is\x1b\n"),
            (True, False, b"one\n\\x1btwo\n\\xfc\n"),
            (True, True, b"<erased>Server: one\nServer: \\x1btwo\nServer: \\xfc\n<row>"),
        ):
            with self.subTest(terminal=terminal, edited=edited):
                replies = [b"one", b"\x1btwo\r\n", "\u00fc".encode()]
                self.assertEqual(self.show(replies, terminal=terminal, edited=edited), expected)

    def test_colours(self) -> None:
        """They go by who shows it: what reads as an error may be what anybody has said."""
        replies = [b"one", b"Error: message longer than 9 bytes"]
        lines = b"".join([b"\x1b[2mServer: \x1b[0m" + reply + b"\n" for reply in replies])
        self.assertEqual(self.show(replies, COLOURS="yes"), b"<erased>" + lines + b"<row>")


class Rows(TestCase):
    """The row that shows how far piped work is."""

    def test_a_row(self) -> None:
        ledger = Ledger()
        written: list[bytes] = []
        self.replace_terminals(written)
        progress = output_of(FakeTyped(), ledger)
        ledger.add([b"x"] * 2000, 0.0)
        progress.show_due(progress.due_at() - 0.1)
        progress.show_due(progress.due_at(), is_connected=False)
        progress.show("", b"", [b"a"])
        self.assertEqual(written, [b"a\n"], "it is too early")
        with mock.patch("os.get_terminal_size", return_value=os.terminal_size((40, 20))):
            progress.show_due(progress.due_at())
        self.assertEqual(written[1:], [b"2,000 sent, 0 confirmed, 0 lines a seco"])
        progress.show("", b"", [b"a"])
        self.assertEqual(written[2:], [b"<erase>a\n2,000 sent, 0 confirmed, 0 lines a seco"])
        progress.complain("no")
        self.assertRegex(written[3], b"^<erase>.*error: no\\S*\n$")
        progress.show("", b"", [b"a"])
        self.assertEqual(written[-1], b"a\n")

    def test_a_window_that_is_closed(self) -> None:
        written: list[bytes] = []
        self.replace_terminals(written)
        progress = output_of(FakeTyped())
        with mock.patch("os.get_terminal_size", side_effect=OSError):
            progress.show_due(progress.due_at())
        self.assertEqual(written, [])

    def test_nobody_wants_it(self) -> None:
        self.replace_terminals([])
        for typed, messages in ((FakeTyped(typed=True), ()), (FakeTyped(), ("hello",))):
            self.assertEqual(output_of(typed, None, *messages).due_at(), float("inf"))
        with mock.patch("sys.stderr", io.StringIO()):
            self.assertEqual(output_of(FakeTyped()).due_at(), float("inf"))

    def replace_terminals(self, written: list[bytes]) -> None:
        """Have what is written to either terminal collected."""
        for patch in (
            mock.patch("sys.stdout", FakeTerminal()),
            mock.patch("sys.stderr", FakeTerminal()),
            mock.patch("output.write_out", written.append),
            mock.patch("os.write", lambda _, data: written.append(data)),
            mock.patch("output.erase_row", lambda: b"<erase>"),
        ):
            patch.start()
            self.addCleanup(patch.stop)


class Ends(TestCase):
    """What is told at the end."""

    def test_what_was_lost(self) -> None:
        for lost, told in (
            ([], ""),
            ([b"a\x1b"], r"1 message was not confirmed by x: a\x1b"),
            ([b"a", b"b" * 99, b"c"], f"3 messages were not confirmed by x: a, {'b' * 80}, c"),
            ([b"a"] * 5, "5 messages were not confirmed by x: a, a, a, and 2 more"),
        ):
            with self.subTest(lost=lost), mock.patch("output.report") as report:
                ledger = Ledger()
                ledger.add(lost, 0.0)
                end = output_of(FakeTyped(), ledger, "x")
                end.finish("x", "")
                self.assertEqual(report.call_args_list, [mock.call(told)] if told else [])
                self.assertEqual(end.code, 1 if told else 0)

    def test_all_problems_are_one_line(self) -> None:
        end = output_of(FakeTyped(), None, "x")
        end.note("one")
        end.note("two")
        with mock.patch("output.report") as report:
            end.finish("x", "the rest of the input")
        report.assert_called_once_with("one; two; the rest of the input was not sent")

    def test_lost_messages_are_shown_at_once_to_a_person(self) -> None:
        for typed, told in ((True, 1), (False, 0)):
            ledger = Ledger()
            shown = output_of(FakeTyped(typed=typed), ledger)
            ledger.add([b"a"], 1.0)
            ledger.add([b"b"], 2.0)
            with mock.patch.object(shown, "complain") as complain:
                shown.give_up(ledger, 1.0, "no reply")
                shown.give_up(ledger, 2.0)
            self.assertEqual(complain.call_args_list, [mock.call("no reply: a")] * told)
            self.assertEqual(ledger.give_up(2.0), [b"a", b"b"] if typed else [], "a person's may still be answered")


class Prompts(TestCase):
    """Lines whose end does not come."""

    def setUp(self) -> None:
        self.written: list[bytes] = []
        for replaced in (
            mock.patch("sys.stdout", FakeTerminal()),
            mock.patch("output.write_out", self.written.append),
            mock.patch("text.IS_DUMB", True),
        ):
            replaced.start()
            self.addCleanup(replaced.stop)
        self.output = output_of(FakeTyped(edited=False))

    def come(self, replies: list[bytes], unfinished: bytes) -> None:
        """Have lines come, and the start of one."""
        self.output.show(LABEL, b"", replies, unfinished)

    def shown(self, *, stands: bool) -> bytes:
        """Return what is shown, also if it stands for long."""
        self.output.show_due(self.output.due_at() - (0 if stands else 0.01))
        shown = b"".join(self.written)
        self.written.clear()
        return shown

    def test_one_that_goes_on(self) -> None:
        self.come([b"one"], b"login: ")
        self.assertEqual(self.shown(stands=False), b"one\n")
        self.assertEqual(self.shown(stands=True), b"login: \n")
        self.assertEqual(self.output.due_at(), float("inf"))
        self.come([], b"login: Password: ")
        self.assertEqual(self.shown(stands=True), b"    Password: \n")
        self.come([b"login: Password: ok\r", b"two"], b"$ ")
        self.assertEqual(self.shown(stands=True), b"    ok\ntwo\n$ \n")
        self.come([b"$ "], b"")
        self.assertEqual(self.shown(stands=False), b"", "all of it stands there")

    def test_a_torn_character_waits_for_its_rest(self) -> None:
        self.come([], b"\xc3")
        self.assertEqual(self.shown(stands=True), b"")
        self.come([], b"\xc3\xb6")
        self.assertEqual(self.shown(stands=True), b"\\xf6\n")

    def test_another_stream(self) -> None:
        self.come([], b"login: ")
        self.assertEqual(self.shown(stands=True), b"login: \n")
        self.output.begin()
        self.come([], b"login: ")
        self.assertEqual(self.shown(stands=True), b"login: \n")

    def test_a_long_one(self) -> None:
        self.come([], b"x" * 9)
        self.assertEqual(self.shown(stands=True), b"x" * 9 + b"\n")
        self.come([b"x" * (LONGEST_SHOWN + 1)], b"")
        text = self.shown(stands=False).replace(b"\n", b"").replace(b" ", b"")
        self.assertEqual(text, b"x" * (LONGEST_SHOWN - 9) + b"...(65537bytes)")


if __name__ == "__main__":
    unittest.main()
