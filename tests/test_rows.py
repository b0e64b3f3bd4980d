"""`rows`: text in the rows of a terminal, without one."""

from __future__ import annotations

import unittest
from unittest import mock

import support  # noqa: F401  # which makes the rooms importable

from rows import INDENT, Row, cells_of, fold, width


class Widths(unittest.TestCase):
    """How many columns text takes."""

    def test_characters(self) -> None:
        for char, wide in (("a", 1), ("ü", 1), ("日", 2), ("😀", 2), ("\u0301", 0), ("\u200d", 0), ("\ufe0f", 0)):
            with self.subTest(char):
                self.assertEqual(width(char), wide)

    def test_a_tab_goes_to_the_next_eighth_column(self) -> None:
        self.assertEqual([width("\t", column) for column in (0, 1, 7, 8)], [8, 7, 1, 8])

    def test_what_stands_in_each_column(self) -> None:
        self.assertEqual(cells_of("a日e\u0301"), ["a", "日", "", "e\u0301"])
        self.assertEqual(cells_of("日\u0301"), ["日\u0301", ""])
        self.assertEqual(cells_of("a\tb"), ["a", *" " * 7, "b"])


class Folding(unittest.TestCase):
    """A line that is too long for a row."""

    def test_where_it_is_cut(self) -> None:
        for line, rows in (
            ("", [""]),
            ("x" * 20, ["x" * 20]),
            ("x" * 21, ["x" * 20, INDENT + "x"]),
            ("x" * 37, ["x" * 20, INDENT + "x" * 16, INDENT + "x"]),
            ("日" * 11, ["日" * 10, INDENT + "日"]),
            ("x" + "日" * 10, ["x" + "日" * 9, INDENT + "日"]),
            ("e\u0301" * 20, ["e\u0301" * 20]),
            ("\u2764\ufe0f" * 11, ["\u2764\ufe0f" * 10, INDENT + "\u2764\ufe0f"]),
            ("\U0001f1e9\U0001f1ea" * 6, ["\U0001f1e9\U0001f1ea" * 5, INDENT + "\U0001f1e9\U0001f1ea"]),
            ("\x1b[2mname\x1b[0m: " + "x" * 15, ["\x1b[2mname\x1b[0m: " + "x" * 14, INDENT + "x"]),
            ("one two three four five", ["one two three four ", INDENT + "five"]),
            ("one two three f", ["one two three f"]),
            ("name: " + "x" * 15, ["name: " + "x" * 14, INDENT + "x"]),
            ("日日 one two three four", ["日日 one two three ", INDENT + "four"]),
            ("x" * 16 + "\ty", ["x" * 16 + "\t", INDENT + "y"]),
            ("x\tx\tx\ty", ["x\tx\tx\t", INDENT + "y"]),
        ):
            with self.subTest(line):
                self.assertEqual(fold(line, 20).split("\n"), rows)

    def test_a_window_that_is_too_narrow(self) -> None:
        self.assertEqual(fold("x" * 20, 7), "x" * 20)

    def test_it_costs_little(self) -> None:
        """A long line of any kind is cut in one go through it."""
        for text in ("x", "日", "\t", "e\u0301"):
            self.assertGreater(fold(text * 60000, 80).count("\n"), 700)


class Scrolling(unittest.TestCase):
    """The row in which a line is typed."""

    def shown(self, row: Row, before: str, after: str = "", columns: int = 20) -> tuple[str, int]:
        """Return what a row shows, and the cursor's column."""
        drawn = row.draw(before, after, columns)
        text = drawn.rstrip("\b")
        return text, len(cells_of(text)) - (len(drawn) - len(text))

    def test_what_fits(self) -> None:
        self.assertEqual(self.shown(Row(), "You: ", ""), ("You: ", 5))
        self.assertEqual(self.shown(Row(), "You: ab", "cd"), ("You: abcd", 7))
        self.assertEqual(self.shown(Row(), "x" * 19), ("x" * 19, 19))

    def test_a_window_of_any_width(self) -> None:
        """Nothing is drawn beyond it, and the cursor stays in it; where nothing fits, nothing is drawn."""
        for columns in range(1, 12):
            for before, after in (("You: x", ""), ("You: x", "yz"), ("日本語", "日本語"), ("", "日本語"), ("", "")):
                with self.subTest(columns=columns, before=before, after=after):
                    text, column = self.shown(Row(), before, after, columns)
                    self.assertLessEqual(len(cells_of(text)), max(columns - 1, 0))
                    self.assertLess(column, columns)

    def test_the_end_is_in_view_while_typing(self) -> None:
        row = Row()
        for length in range(1, 200):
            text, column = self.shown(row, "x" * length)
            self.assertEqual(column, len(text))
            self.assertLess(column, 20)
            self.assertEqual(text, "x" * length if length < 20 else "<" + "x" * 17)

    def test_wide_characters_use_the_whole_row(self) -> None:
        text, column = self.shown(Row(), "日" * 100, columns=80)
        self.assertEqual((text, column), ("<" + "日" * 38, 77))

    def test_moving_through_a_long_line(self) -> None:
        """The cursor and what is around it stay in view, whatever is left out is marked, no column is too many."""
        for line in ("0123456789" * 20, "日本語" * 40, "a日" * 50, "e\u0301日\t" * 30, "\u0301" * 100 + "x" * 50):
            row = Row()
            for at in (*range(len(line), -1, -1), *range(len(line))):
                text, column = self.shown(row, line[:at], line[at:])
                with self.subTest(line=line[:10], at=at):
                    self.assertLess(len(cells_of(text)), 20)
                    self.assertLess(column, 20)
                    self.assertGreaterEqual(column, 0)

    def test_it_does_not_scroll_without_need(self) -> None:
        row, line = Row(), "abcdefghijklmnopqrstuvwxyz"
        self.assertEqual(self.shown(row, line), ("<jklmnopqrstuvwxyz", 18))
        self.assertEqual(self.shown(row, line[:-5], line[-5:]), ("<jklmnopqrstuvwxyz", 13))
        self.assertEqual(self.shown(row, line[:15], line[15:]), ("<jklmnopqrstuvwxyz", 7))
        self.assertEqual(self.shown(row, line[:10], line[10:]), ("<efghijklmnopqrstu>", 7))
        self.assertEqual(self.shown(row, "", line), ("abcdefghijklmnopqr>", 0))
        self.assertEqual(self.shown(row, line[:18]), (line[:18], 18))

    def test_rows_once_the_window_is_narrower(self) -> None:
        row = Row()
        for before, after, columns, above in (
            ("x" * 70, "", 40, 1),
            ("x" * 40, "", 40, 0),
            ("x" * 40, "x", 40, 1),
            ("x" * 40, "x", 20, 2),
            ("x" * 10, "x" * 60, 40, 0),
            ("日" * 30, "", 21, 2),
        ):
            with self.subTest(before=before, after=after):
                row.draw(before, after, 80)
                with mock.patch("rows.WRAPS_AGAIN", True):
                    self.assertEqual(row.erase(columns), b"\x1b[A" * above + b"\r\x1b[J")


if __name__ == "__main__":
    unittest.main()
