"""The record: a line an event, none of them forged, and an output that stands still, without a process."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import re
import select
import socket
import sys
import time
import unittest
from unittest import mock

import support  # which makes the rooms importable

import record
import terminal
from gate import Gate
from record import Record, complain


class RecordTest(unittest.TestCase):
    """A record whose output is a pipe, or whatever else a test gives it."""

    def setUp(self) -> None:
        self.typed = mock.Mock(is_edited=False)
        self.output, self._input = os.pipe()
        os.set_blocking(self.output, False)
        self.stdout = os.fdopen(self._input, "w", encoding="utf-8")
        self.addCleanup(os.close, self.output)
        self.addCleanup(self.stdout.close)

    def record(self, stdout: io.TextIOBase | None = None, is_closed: bool = False) -> Record:
        """Return a record that writes there; nowhere if its output is closed."""
        with mock.patch("sys.stdout", None if is_closed else stdout or self.stdout):
            return Record(self.typed)

    def written(self) -> bytes:
        """Return what was written since the last call."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.output, 1 << 22)
        return b""

    def fill(self) -> int:
        """Have the output stand still; return how many bytes it had room for."""
        os.set_blocking(self._input, False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(self._input, bytes(select.PIPE_BUF))
        os.set_blocking(self._input, True)
        return filled


class Lines(RecordTest):
    """What is shown, and how."""

    def test_a_line_an_event(self) -> None:
        shown = self.record()
        shown.line("[TCP Server] Connected by ", "127.0.0.1:9000")
        shown.line("[TCP Server] Disconnected: ", "127.0.0.1:9000", " (it does not read)", trouble=True)
        shown.messages(shown.heading("from ", "peer") + b": ", [b"one", b"two"], True)
        self.assertEqual(self.written(), b"", "nothing before flush()")
        shown.flush()
        said = "[TCP Server] Connected by 127.0.0.1:9000\n"
        said += "[TCP Server] Disconnected: 127.0.0.1:9000 (it does not read)\nfrom peer: one\nfrom peer: two\n"
        self.assertEqual(self.written().decode(), said)
        shown.flush()
        self.assertEqual(self.written(), b"")

    def test_nothing_can_be_forged(self) -> None:
        shown = self.record()
        shown.line("a\n", "b\x1b[2J\n", "c\r")
        shown.messages(b"from peer: ", [b"d\nfrom other: x\r\n", b"\x9b", b"\xc3", b"\xa9"], False)
        shown.flush()
        said = (
            "a\\nb\\x1b[2J\\nc\\r\nfrom peer: d\\nfrom other: x\nfrom peer: \\x9b\nfrom peer: \\xc3\nfrom peer: \\xa9\n"
        )
        self.assertEqual(self.written().decode(), said)

    def test_what_is_harmless(self) -> None:
        shown = self.record()
        for text, is_harmless in (
            (b"", True),
            (b"Hello", True),
            ("Gr\u00fc\u00dfe, \u4e16\u754c".encode(), True),
            (b"a\nb", False),
            (b"a\r", False),
            (b"a\x00", False),
            (b"caf\xe9", False),
            (b"\xc3 \xa9", False),
        ):
            with self.subTest(text):
                self.assertEqual(shown.is_harmless(text), is_harmless)

    def test_one_odd_message_does_not_change_the_others(self) -> None:
        shown = self.record()
        texts = ["Hello", "Gr\u00fc\u00dfe, \u4e16\u754c"]
        messages = [text.encode() for text in texts]
        shown.messages(b"", messages, True)
        shown.messages(b"", messages, False)
        shown.messages(b"", [*messages, b"\x07"], False)
        shown.flush()
        self.assertEqual(self.written().decode().splitlines(), [*texts * 3, "\\x07"])

    def test_an_output_that_takes_nothing_but_ascii(self) -> None:
        self.stdout.reconfigure(encoding="ascii")
        shown = self.record()
        shown.messages(b"from peer: ", [b"Hello", "Gr\u00fc\u00dfe".encode()], False)
        shown.line("from ", "\u4e16")
        shown.flush()
        self.assertEqual(self.written(), b"from peer: Hello\nfrom peer: Gr\\xfc\\xdfe\nfrom \\u4e16\n")

    def test_colours(self) -> None:
        with mock.patch("record.has_colours", return_value=True):
            shown = self.record()
        shown.line("Connected by ", "peer", "\x1b[0m")
        shown.line("Refused ", "peer", trouble=True)
        shown.flush()
        self.assertEqual(self.written(), b"Connected by \x1b[2mpeer\x1b[0m\\x1b[0m\n\x1b[31mRefused peer\x1b[0m\n")

    def test_a_half_typed_line_stays_whole(self) -> None:
        """Its row is erased before what is shown, and drawn again after it."""
        self.typed.is_edited = True
        with mock.patch("record.erase_row", return_value=b"<erased>"):
            shown = self.record()
            shown.line("hello")
            shown.flush()
        self.assertEqual(self.written(), b"<erased>hello\n")
        self.typed.redraw.assert_called_once_with()


@unittest.skipUnless(os.name == "posix", "elsewhere nothing tells whether a pipe has room")
class StandingStill(RecordTest):
    """An output that takes nothing holds up nobody."""

    def test_what_is_kept_is_written_once_there_is_room(self) -> None:
        shown = self.record()
        filled = self.fill()
        start = time.monotonic()
        for number in range(1000):
            shown.line(f"line {number}")
            shown.flush()
        self.assertLess(time.monotonic() - start, support.PATIENCE)
        self.assertTrue(shown.waits())
        self.assertEqual(len(self.written()), filled)
        shown.flush()
        self.assertEqual(self.written().decode(), "".join([f"line {number}\n" for number in range(1000)]))
        self.assertFalse(shown.waits())

    def test_what_is_too_much_is_counted(self) -> None:
        """Lines that came are in the record or in the count, whole."""
        total = 30_000
        with mock.patch.object(Record, "LIMIT", 100_000):
            shown = self.record()
            self.fill()
            for number in range(total):
                shown.line(f"line {number}")
                if number % 7 == 0:
                    shown.flush()
            shown.flush()
            self.written()
            text = b""
            while shown.waits() or b"not shown" not in text:
                shown.flush()
                text += self.written()
        *lines, last = text.decode().splitlines()
        self.assertEqual(lines, [f"line {number}" for number in range(len(lines))])
        count = re.fullmatch(r"\[Server\] (\d+) lines were not shown, since the output stood still\.", last)
        self.assertIsNotNone(count, last)
        self.assertEqual(len(lines) + int(count[1]), total)  # type: ignore[index]
        self.assertLess(len(text), 110_000)

    def test_the_end_does_not_wait_for_ever(self) -> None:
        shown = self.record()
        self.fill()
        shown.line("one")
        shown.line("two")
        waits: list[float] = []

        def takes_output(descriptor: int, wait: float = 0.0) -> bool:
            waits.append(wait)
            return terminal.takes_output(descriptor)

        with mock.patch("record.takes_output", takes_output), mock.patch("record.complain") as said:
            shown.finish()
        self.assertLessEqual(sum(waits), record.FINISH_WITHIN)
        said.assert_called_once_with("2 lines were not shown, since the output stood still")

    def test_the_end_waits_for_a_reader(self) -> None:
        shown = self.record()
        shown.line("x" * 300_000)
        shown.flush()
        self.assertTrue(shown.waits())
        text = bytearray()

        def takes_output(descriptor: int, wait: float = 0.0) -> bool:
            text.extend(self.written())
            return terminal.takes_output(descriptor, wait)

        with mock.patch("record.takes_output", takes_output), mock.patch("record.complain") as said:
            shown.finish()
        text += self.written()
        self.assertEqual(text, b"x" * 300_000 + b"\n")
        said.assert_not_called()

    def test_standard_error_that_stands_still(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        with mock.patch("record.takes_output", return_value=False), mock.patch("record.report") as report:
            self.assertFalse(complain("something"))
        report.assert_not_called()


class Gone(RecordTest):
    """An output that is closed, or can not be written to: serving goes on."""

    def test_closed_from_the_start(self) -> None:
        shown = self.record(is_closed=True)
        with mock.patch("record.complain") as said:
            for _ in range(3):
                shown.line("hello")
                shown.flush()
            shown.finish()
        said.assert_called_once_with("cannot write to standard output: it is closed; serving goes on, without a record")

    @unittest.skipUnless(hasattr(os, "mkfifo"), "no pipes that break")
    def test_nobody_reads_any_more(self) -> None:
        reading, writing = os.pipe()
        stdout = os.fdopen(writing, "w", encoding="utf-8")
        self.addCleanup(stdout.close)
        shown = self.record(stdout)
        os.close(reading)
        with mock.patch("record.complain") as said:
            for _ in range(3):
                shown.line("hello")
                shown.flush()
            shown.finish()
        said.assert_called_once()
        self.assertIn("Broken pipe; serving goes on", said.call_args.args[0])
        self.assertFalse(shown.waits())


class Repeatable(RecordTest):
    """Events that a peer can repeat at will do not flood the record."""

    def test_once_and_then_counted(self) -> None:
        shown = self.record()
        shown.tick(100.0)
        for _ in range(5):
            shown.repeatable("Refused", "a", "[Server] Refused a")
            shown.repeatable("Refused", "b", "[Server] Refused b")
            shown.repeatable("Not answered", "a", "[Server] Not answered: a")
        shown.tick(100.0 + Record.COUNT_EVERY - 1)
        shown.flush()
        self.assertEqual(self.written(), b"[Server] Refused a\n[Server] Refused b\n[Server] Not answered: a\n")
        shown.tick(100.0 + Record.COUNT_EVERY)
        shown.flush()
        self.assertEqual(self.written(), b"[Server] Refused 8 more times\n[Server] Not answered 4 more times\n")
        shown.repeatable("Refused", "a", "[Server] Refused a")
        shown.flush()
        self.assertEqual(self.written(), b"[Server] Refused a\n", "named again in the next while")

    def test_the_end_tells_the_count(self) -> None:
        shown = self.record()
        for _ in range(3):
            shown.repeatable("Refused", "a", "[Server] Refused a")
        shown.finish()
        self.assertEqual(self.written(), b"[Server] Refused a\n[Server] Refused 2 more times\n")

    def gate(self, *networks: str) -> tuple[Gate, Record]:
        """Return a gate, and the record that it writes into."""
        shown = self.record()
        return Gate([ipaddress.ip_network(network) for network in networks], shown), shown

    def lines(self, shown: Record) -> list[str]:
        """Return the lines that are new in the record."""
        shown.flush()
        text = self.written()
        while shown.waits():
            shown.flush()
            text += self.written()
        return text.decode().splitlines()

    def test_a_flood_of_addresses_does_not_flood_the_record(self) -> None:
        gate, shown = self.gate("127.0.0.1")
        total = 20_000
        for number in range(total):
            self.assertFalse(gate.check(str(ipaddress.ip_address((10 << 24) + number))))
        named = self.lines(shown)
        self.assertLess(len(named), 2000)
        shown.tick(1000.0)
        counts = [int(re.findall(r"(\d+)", line)[-1]) for line in self.lines(shown)]
        self.assertEqual(len(named) + sum(counts), total, counts)

    def test_one_stranger_costs_two_lines_in_a_while(self) -> None:
        gate, shown = self.gate("127.0.0.1")
        now = 1000.0
        for _ in range(100):  # seconds
            for _ in range(50):
                gate.check("10.0.0.1")
            now += 1.0
            shown.tick(now)
        lines = self.lines(shown)
        self.assertLessEqual(len(lines), 24)
        self.assertTrue(all(line.startswith("[Server] Refused ") for line in lines))
        self.assertTrue(any("10.0.0.1" in line for line in lines))


class Faults(RecordTest):
    """A fault in the program is shown once for each kind, with where it happened."""

    def test_once_for_each_kind(self) -> None:
        shown = self.record()
        said = io.StringIO()
        with mock.patch("record.takes_output", return_value=True), mock.patch.object(sys, "stderr", said):
            for _ in range(3):
                for text in ("one", "two"):
                    try:
                        raise ValueError(text)
                    except ValueError as error:
                        shown.fault(error)
            try:
                raise KeyError("three")
            except KeyError as error:
                shown.fault(error)
        self.assertEqual(said.getvalue().count("Traceback"), 2, said.getvalue())
        self.assertIn("ValueError: one\n", said.getvalue())


if __name__ == "__main__":
    unittest.main()
