"""All: messages in a stream of bytes, without its socket: bytes in, messages out; messages in, bytes out."""

from __future__ import annotations

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_SIZE = 32768
"""Bytes read from a stream at once."""


ENDINGS = {"lf": (b"\n", b"\n"), "crlf": (b"\n", b"\r\n"), "cr": (b"\r", b"\r"), "nul": (b"\0", b"\0")}
"""What ends a message (`--ending`): the mark that is looked for in what comes, and what is sent."""


def as_line(text: bytes, ending: str) -> bytes:
    """Return text with all escaped that ends a line: a datagram may hold some, and forge what others seem to say."""
    text = text.replace(b"\n", rb"\n")
    if ending == "cr":
        return text.replace(b"\r", rb"\r")
    return text.replace(b"\0", rb"\x00") if ending == "nul" else text


def as_lines(messages: list[bytes]) -> bytes:
    """Return messages, each as a line; those that end in LF are one."""
    return b"".join([message if message.endswith(b"\n") else message + b"\n" for message in messages])


TRIM: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "crlf": lambda lines: [line[:-1] if line.endswith(b"\r") else line for line in lines],
    "cr": lambda lines: [line[1:] if line.startswith(b"\n") else line for line in lines],
}
"""How to take away what belongs to an ending besides its mark: a CR before LF, or an LF right after CR."""


class Lines:
    """A stream on which every message is a line. What its socket brings goes in, and what that is to send comes out."""

    __slots__ = ("_tail", "_trim", "mark", "opening", "unfinished")
    is_secure = False
    """Whether this is TlsLines, which may have something of its own to send, and an end of its own."""

    def __init__(self, ending: str = "lf") -> None:
        """Take what ends a line, one of ENDINGS."""
        self.mark, self._tail = ENDINGS[ending]
        self._trim = TRIM.get(ending)
        self.opening: Callable[[bytes], bytes] | None = None
        """What takes out what comes before the first line, as long as there is more of that."""
        self.unfinished: bytes | bytearray = b""
        """The start of a line whose end has not come yet."""

    def take(self, data: bytes) -> list[bytes]:
        """Take what came; return the lines that are finished with it, without what ends them.

        Only `data` is searched, and the unfinished line grows in place, so a line costs O(n) in however many pieces.
        """
        if self.opening:
            data = self.opening(data)
        lines = data.split(self.mark)
        if self.unfinished:
            self.unfinished += lines[0]
            if len(lines) == 1:
                return []
            lines[0] = bytes(self.unfinished)
        last = lines.pop()
        self.unfinished = bytearray(last) if last else b""
        return self._trim(lines) if self._trim else lines

    def decode(self, data: bytes) -> bytes:
        """Take what came; return the text in it, for who cuts it into lines without take()."""
        return data

    def cut(self) -> list[bytes]:
        """Return the unfinished line, if there is one, as if it had ended here."""
        rest, self.unfinished = [bytes(self.unfinished)], b""
        return [line for line in (self._trim(rest) if self._trim else rest) if line]

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
