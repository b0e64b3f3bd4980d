"""All: which characters of a text show where they stand, and how those are shown that do not."""

from __future__ import annotations

import itertools
import re
import unicodedata

PLAIN = re.compile(
    "[ -~\u00a1-\u02ff\u0370-\u0482\u048a-\u0590\u05d0-\u060f\u061b-\u064a\u0660-\u066f\u0671-\u06d5"
    "\u2010-\u2027\u3001-\u3029\u3041-\u3096\u30a0-\u30ff\u3400-\u9fff\uac00-\ud7a3]*"
)
"""Text in Latin, Greek, Cyrillic, Hebrew, Arabic, Chinese, Japanese and Korean: whatever is printable there shows where
it stands; marks do not count as that."""
UNPRINTABLE = {"\t": "b", "\u00a0": "b", "\u3000": "b", "\u200c": "j", "\u200d": "j"}
"""The kinds of what str.isprintable() does not take, though it may stand: blanks and joiners."""
PRINTABLE = re.compile(
    "(?P<b> )"
    "|(?P<x>[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U00016fe4\U0001d159])"  # fillers
    "|(?P<v>[\ufe0e\ufe0f])"  # variation selectors of emoji,
    "|(?P<w>[\ufe00-\ufe0d])"  # of signs,
    "|(?P<i>[\U000e0100-\U000e01ef])"  # of Chinese characters,
    "|(?P<f>[\u180b-\u180d\u180f])"  # of Mongolian letters
    "|(?P<d>[#*0-9])"  # what keycaps show
    "|(?P<h>[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"  # Chinese characters
    "|(?P<g>[\u1820-\u1878\u1887-\u18a8])"  # Mongolian letters
    "|(?P<s>[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935"  # emoji
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])"
)
"""The kinds of what it does take, as far as they do not follow from the category."""
SHOWS = re.compile(
    r"((?:b|\.[mr]*|d(?:v(?=m))?[mr]*|tw?[mr]*|s[vw]?[mr]*(?:j(?=s))?|(?:l|h[wi]?|gf?)[mr]*(?:(?<=r)j|j(?=[lhg]))?)"
    "{1,50000})"
)
"""What shows where it stands, in the kinds of its characters: marks, selectors and joiners after what they change. Not
more of it at once, since `re` takes 300 bytes of memory for each."""
MOST_PARTS = 2000
"""Parts of a text that show and are told from what does not; what comes after them is escaped as a whole, since each
takes its time."""


class Kinds(dict[int, str]):
    """The kind of each character, as str.translate() takes it; worked out when it is first wanted."""

    LIMIT = 1 << 15
    """Characters that are remembered; a peer could send a million different ones."""

    def __missing__(self, number: int) -> str:
        kind = kind_of(chr(number))
        if len(self) < self.LIMIT:
            self[number] = kind
        return kind


def kind_of(char: str) -> str:
    """Return a letter for what a character is: x is what never shows, "." what has no other kind."""
    if not char.isprintable():
        return UNPRINTABLE.get(char, "x")
    found = PRINTABLE.match(char)
    if found:
        return found.lastgroup or "."
    category = unicodedata.category(char)
    if category.startswith("M"):
        return "r" if unicodedata.combining(char) == 9 else "m"  # r: a virama, which a joiner may follow
    return "t" if category == "Sm" else "l" if category.startswith("L") else "."


def is_plain(text: str) -> bool:
    """Tell whether text can be shown as it is without a look at each character, as most can."""
    return text.isprintable() and PLAIN.fullmatch(text) is not None


def shown(text: str) -> str:
    """Return text as it is shown: whatever shows nothing where it stands, or moves something, is escaped."""
    if is_plain(text):
        return text
    if text.isascii():  # an eighth of the time of str.translate()
        return escaped(text)
    places = [0, *itertools.accumulate(map(len, SHOWS.split(text.translate(KINDS), MOST_PARTS)))]
    parts = [text[start:end] for start, end in zip(places, places[1:])]
    parts[::2] = escaped(" ".join(parts[::2])).split(" ", MOST_PARTS)  # a blank shows: only the last may have some
    return "".join(parts)


def escaped(text: str) -> str:
    """Return text with all characters but printable ASCII and tabs as in Python's strings."""
    ascii_text = text.encode("unicode_escape").decode("ascii")
    return ascii_text.replace("\\\\", "\0").replace("\\t", "\t").replace("\0", "\\")


KINDS = Kinds()
