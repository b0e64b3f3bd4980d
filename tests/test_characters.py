"""`characters`: what shows nothing where it stands, and what does."""

from __future__ import annotations

import tracemalloc
import unittest
from unittest import mock

import support  # noqa: F401  # which makes the rooms importable

from characters import MOST_PARTS, Kinds, escaped, is_plain, kind_of
from text import visible

SELECTORS = [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x180B, 0x180C, 0x180D, 0x180F]
FILLERS = [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x1D159]
TAGS = [0xE0001, *range(0xE0020, 0xE0080)]
JOINERS = [0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD, 0x200B]
DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]


class Escaped(unittest.TestCase):
    """What nobody would see."""

    def test_alone_or_beside_letters_that_it_does_not_change(self) -> None:
        for number in (*SELECTORS, *FILLERS, *TAGS, *DIRECTIONS, *JOINERS[2:]):
            char = chr(number)
            for text in (char, f"a{char}", f"{char}b", f"a {char} b", f"a{char}b", f".{char}", f"1{char}"):
                with self.subTest(f"{number:x}", text=text):
                    self.assertEqual(visible(text), text.replace(char, escaped(char)))

    def test_joiners_that_join_nothing(self) -> None:
        for char in "\u200c\u200d":
            for text in (char, f"a{char}", f"{char}a", f"a{char} b", f"a{char}{char}b", f"1{char}2", f"👩{char}a"):
                with self.subTest(text):
                    self.assertEqual(visible(text), text.replace(char, escaped(char)))

    def test_marks_that_change_nothing(self) -> None:
        """They would change what stands before the text."""
        for text in ("\u0301a", "a \u0301", "\u0301\u0301", "\x1b\u0301", "\u20e3"):
            with self.subTest(text):
                self.assertTrue(visible(text).isascii())

    def test_a_second_selector(self) -> None:
        self.assertEqual(visible("❤\ufe0f\ufe0f"), "❤\ufe0f\\ufe0f")


class Shown(unittest.TestCase):
    """What people write."""

    def test_in_all_languages(self) -> None:
        for text in (
            "👩\u200d💻 👩🏽\u200d💻 ❤\ufe0f ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 🙂\u200d↔\ufe0f",
            "1\ufe0f\u20e3 \u2139\ufe0f ☎\ufe0e",
            "می\u200cخواهم Auf\u200clage",  # noqa: RUF001
            "क्\u200dष ന്\u200d हिन्दी में",
            "葛\U000e0100城",
            "cafe\u0301 ole\u0301 à́",
            "مرحبا שלום עִבְרִית العَرَبِيَّة",
            "ไทย ภาษา",
            "ᠠ\u180b",
            "x ≥ y ∩\ufe00 z",
            "a\u00a0b\u3000c\td",
        ):
            with self.subTest(text):
                self.assertEqual(visible(text), text)
                self.assertEqual(visible(text.encode()), text)

    def test_the_short_way_says_the_same(self) -> None:
        for number in range(0x20, 0x10000):
            char = chr(number)
            if is_plain(char):
                self.assertNotIn(kind_of(char), "xmrvwifj", hex(number))

    def test_a_million_different_characters_are_not_remembered(self) -> None:
        kinds = Kinds()
        odd = "".join(map(chr, range(0xF0000, 0xF0000 + 2 * kinds.LIMIT - 2)))
        self.assertEqual(odd.translate(kinds), "x" * len(odd))
        self.assertEqual(len(kinds), kinds.LIMIT)

    def test_what_comes_after_many_odd_places_is_escaped_as_a_whole(self) -> None:
        """So that a text takes no longer than others, whatever is in it."""
        once, more = "\u05d0\\\t\u202e", 10
        self.assertEqual(visible(once * MOST_PARTS), "\u05d0\\\t\\u202e" * MOST_PARTS)
        expected = "\u05d0\\\t\\u202e" * MOST_PARTS + "\\u05d0\\\t\\u202e" * more
        self.assertEqual(visible(once * (MOST_PARTS + more)), expected)
        spaced = "\u05d0 \u202e"
        self.assertEqual(visible(spaced * (MOST_PARTS + 2)), "\u05d0 \\u202e" * MOST_PARTS + "\\u05d0 \\u202e" * 2)
        self.assertEqual(visible(b"\\udc80\xff\\\\x" * 3), "\\udc80\\xff\\\\x" * 3)

    def test_all_odd_places_are_escaped_at_once(self) -> None:
        """To escape one takes as long as a hundred."""
        with mock.patch("characters.escaped", side_effect=escaped) as called:
            self.assertEqual(visible("\u05d0 \u202e" * 100), "\u05d0 \\u202e" * 100)
        self.assertEqual(called.call_count, 1)

    def test_a_long_text_takes_little_memory(self) -> None:
        text = "\u05d0\u0591" * 200_000
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(visible(text + "\u202e" + text), f"{text}\\u202e{text}")
        self.assertLess(tracemalloc.get_traced_memory()[1], 50 << 20)


if __name__ == "__main__":
    unittest.main()
