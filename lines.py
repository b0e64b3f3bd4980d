"""All: messages in a stream of bytes, without its socket: bytes in, messages out; messages in, bytes out."""

from __future__ import annotations

RECEIVE_SIZE = 32768
"""Bytes read from a stream at once."""


def split_lines(unfinished: bytes | bytearray, data: bytes) -> tuple[list[bytes], bytes | bytearray]:
    """Split what a stream brought into its finished lines, without their LF, and what is unfinished after them.

    `unfinished` is what the call before returned; b"" at the start. Only `data` is searched and the unfinished line
    grows in place, so a line costs O(n) in however many pieces it arrives.
    """
    lines = data.split(b"\n")
    if unfinished:
        unfinished += lines[0]
        if len(lines) == 1:
            return [], unfinished
        lines[0] = bytes(unfinished)
    last = lines.pop()
    return lines, bytearray(last) if last else b""


def as_lines(messages: list[bytes]) -> bytes:
    """Return messages, each as a line; those that end in LF are one."""
    return b"".join([message if message.endswith(b"\n") else message + b"\n" for message in messages])


class Lines:
    """A stream on which every message is a line. What its socket brings goes in, and what that is to send comes out."""

    __slots__ = ("unfinished",)
    is_secure = False
    """Whether this is TlsLines, which may have something of its own to send, and an end of its own."""

    def __init__(self) -> None:
        self.unfinished: bytes | bytearray = b""
        """The start of a line whose end has not come yet."""

    def take(self, data: bytes) -> list[bytes]:
        """Take what came; return the lines that are finished with it, without their LF."""
        lines, self.unfinished = split_lines(self.unfinished, data)
        return lines

    def decode(self, data: bytes) -> bytes:
        """Take what came; return the text in it, for who cuts it into lines without take()."""
        return data

    def cut(self) -> list[bytes]:
        """Return the unfinished line, if there is one, as if it had ended here."""
        line, self.unfinished = bytes(self.unfinished), b""
        return [line] if line else []

    def end(self) -> list[bytes]:
        """Note that the socket brings nothing more; return what is left: one line, or none."""
        return self.cut()

    def pack(self, messages: list[bytes], start: bytes = b"") -> bytes:
        """Return what to send so that messages arrive, each as a line with `start` before it."""
        return start + (b"\n" + start).join(messages) + b"\n"

    def outgoing(self) -> bytes:
        """Return what the stream has to send of its own, or can send now."""
        return b""

    def unsent(self) -> int:
        """Return how many bytes of text wait to become outgoing."""
        return 0

    def finish(self) -> bytes:
        """Return what to send before the end of the stream."""
        return b""
