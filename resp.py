"""Servers: how one talks to Redis (RESP, redis.io/docs/reference/protocol-spec): words in, answers out; no socket."""

from __future__ import annotations

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 1 << 16
"""Bytes of a line: a number, a state, an error."""
MAX_TEXT = 512 << 20
"""Bytes of a text; Redis itself keeps none that is longer (proto-max-bulk-len)."""
MAX_ITEMS = 1 << 20
MAX_DEPTH = 8
"""How many answers a list may have, and how deep lists may lie in lists."""


class Refusal(str):
    """An answer that says that Redis did not do it, and why: `WRONGTYPE Operation against a key …`."""

    __slots__ = ()


def words(*some: bytes | str | int) -> bytes:
    """Return the words of a command as they are sent."""
    encoded = [word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape") for word in some]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])


def command(*some: bytes | str | int) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n%b" % (len(some), words(*some))


def first_refusal(answers: list[Any]) -> str:
    """Return the first refusal among answers; "" if there is none."""
    return next((answer for answer in answers if isinstance(answer, Refusal)), "")


class Replies:
    """What Redis answers: bytes in, answers out. An answer is bytes, an int, None, a Refusal, or a list of those."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._missing = -1
        """Bytes of the text that comes next; -1: a line comes next."""
        self._open: list[tuple[list[Any], int]] = []
        """The lists that are not whole yet, the innermost last, each with how long it will be."""

    def take(self, data: bytes) -> list[Any]:
        """Take what came; return the answers that are whole with it. Raises ValueError if that is no RESP."""
        self._data += data
        if len(self._data) < self._missing + 2:  # a long text in many pieces is copied once, when it is whole
            return []
        data, at, whole = bytes(self._data), 0, []
        while True:
            answer: Any = None
            if self._missing < 0:
                end = end_of_line(data, at)
                if end < 0:
                    break
                kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
                if kind == b"$" and line != b"-1":
                    self._missing = number(line, MAX_TEXT)
                elif kind == b"*" and line not in (b"-1", b"0"):
                    self._open_list(number(line, MAX_ITEMS))
                    continue
                else:
                    answer = simple(kind, line)
            if self._missing >= 0:
                end = at + self._missing
                if len(data) < end + 2:
                    break
                answer, at, self._missing = data[at:end], end + 2, -1
            while self._open:  # it is the next in a list, which may be whole now, and the next in another
                found, count = self._open[-1]
                found.append(answer)
                if len(found) < count:
                    break
                answer = self._open.pop()[0]
            else:
                whole.append(answer)
        del self._data[:at]
        return whole

    def _open_list(self, count: int) -> None:
        self._open.append(([], count))
        if len(self._open) > MAX_DEPTH:
            raise ValueError("lists in lists without end")


def end_of_line(data: bytes, at: int) -> int:
    """Return where a line ends that begins there; -1 if that has not come yet. Raises ValueError if it is too long."""
    end = data.find(b"\r\n", at)
    if (len(data) if end < 0 else end) - at > MAX_LINE:
        raise ValueError("a line without end")
    return end


def simple(kind: bytes, line: bytes) -> bytes | int | Refusal | list[Any] | None:
    """Return the answer that is a line of its own. Raises ValueError if it is none."""
    if kind == b"+":
        return line
    if kind == b"-":
        return Refusal(line.decode(errors="replace"))
    if kind == b":":
        return int(line)
    if kind == b"*" and line == b"0":
        return []
    if kind in (b"$", b"*"):
        return None
    raise ValueError("it is none of Redis's")


def number(line: bytes, most: int) -> int:
    """Return how much comes. Raises ValueError if it is more than `most`, or no number."""
    if not line.isdigit() or len(line) > 10 or int(line) > most:
        raise ValueError("a length that Redis does not send")
    return int(line)
