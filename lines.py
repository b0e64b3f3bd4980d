"""All: messages in a stream of bytes, without its socket: bytes in, messages out; messages in, bytes out."""

from __future__ import annotations

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Union

    Split = tuple[list[bytes], Union[bytes, bytearray]]

RECEIVE_SIZE = 32768
"""Bytes read from a stream at once."""


def split_lines(unfinished: bytes | bytearray, data: bytes, mark: bytes = b"\n") -> Split:
    """Split what a stream brought into its finished lines, without the mark that ends each, and what is unfinished.

    `unfinished` is what the call before returned; b"" at the start. Only `data` is searched and the unfinished line
    grows in place, so a line costs O(n) in however many pieces it arrives.
    """
    lines = data.split(mark)
    if unfinished:
        unfinished += lines[0]
        if len(lines) == 1:
            return [], unfinished
        lines[0] = bytes(unfinished)
    last = lines.pop()
    return lines, bytearray(last) if last else b""


def split_at_cr(unfinished: bytes | bytearray, data: bytes) -> Split:
    """Do the same where CR is the mark. An LF right after it, with which a line then begins, belongs to it."""
    lines, unfinished = split_lines(unfinished, data, b"\r")
    return [line[1:] if line.startswith(b"\n") else line for line in lines], unfinished


def split_at_crlf(unfinished: bytes | bytearray, data: bytes) -> Split:
    """Do the same where LF is the mark, and a CR before it belongs to it."""
    lines, unfinished = split_lines(unfinished, data)
    return [line[:-1] if line.endswith(b"\r") else line for line in lines], unfinished


def split_at_nul(unfinished: bytes | bytearray, data: bytes) -> Split:
    """Do the same where NUL is the mark."""
    return split_lines(unfinished, data, b"\0")


ENDINGS = {
    "lf": (split_lines, b"\n"),
    "crlf": (split_at_crlf, b"\r\n"),
    "cr": (split_at_cr, b"\r"),
    "nul": (split_at_nul, b"\0"),
}
"""What ends a message (`--ending`): how to find it in what comes, and how it is sent."""


def as_line(text: bytes, ending: str) -> bytes:
    """Return text with all escaped that ends a line: a datagram may hold some, and forge what others seem to say."""
    text = text.replace(b"\n", rb"\n")
    if ending == "cr":
        return text.replace(b"\r", rb"\r")
    return text.replace(b"\0", rb"\x00") if ending == "nul" else text


def as_lines(messages: list[bytes]) -> bytes:
    """Return messages, each as a line; those that end in LF are one."""
    return b"".join([message if message.endswith(b"\n") else message + b"\n" for message in messages])


class Lines:
    """A stream on which every message is a line. What its socket brings goes in, and what that is to send comes out."""

    __slots__ = ("_tail", "split", "unfinished")
    is_secure = False
    """Whether this is TlsLines, which may have something of its own to send, and an end of its own."""

    def __init__(self, ending: str = "lf") -> None:
        """Take what ends a line, one of ENDINGS."""
        self.split: Callable[[bytes | bytearray, bytes], Split]
        self.split, self._tail = ENDINGS[ending]
        self.unfinished: bytes | bytearray = b""
        """The start of a line whose end has not come yet."""

    def take(self, data: bytes) -> list[bytes]:
        """Take what came; return the lines that are finished with it, without what ends them."""
        lines, self.unfinished = self.split(self.unfinished, data)
        return lines

    def decode(self, data: bytes) -> bytes:
        """Take what came; return the text in it, for who cuts it into lines without take()."""
        return data

    def cut(self) -> list[bytes]:
        """Return the unfinished line, if there is one, as if it had ended here."""
        rest, self.unfinished = bytes(self.unfinished), b""
        return [line for line in self.split(rest, self._tail[-1:])[0] if line]

    def end(self) -> list[bytes]:
        """Note that the socket brings nothing more; return what is left: one line, or none."""
        return self.cut()

    def pack(self, messages: list[bytes], start: bytes = b"") -> bytes:
        """Return what to send so that messages arrive, each as a line with `start` before it."""
        return start + (self._tail + start).join(messages) + self._tail

    def outgoing(self) -> bytes:
        """Return what the stream has to send of its own, or can send now."""
        return b""

    def unsent(self) -> int:
        """Return how many bytes of text wait to become outgoing."""
        return 0

    def finish(self) -> bytes:
        """Return what to send before the end of the stream."""
        return b""
