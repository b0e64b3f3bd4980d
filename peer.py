"""Servers: who talks to a server: what each protocol's kind of peer can do, and what its sockets can."""

from __future__ import annotations

from text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Peer:
    """Somebody who talks to a server; each protocol has its own kind.

    `send(replies, start)` sends replies to what this peer said, `start` before each; a reply has what stood at the end
    of its message. `tell(lines)` sends what the person at the server says, lines without an ending. `end()` ends the
    conversation after all that was sent; `close(why)` ends it at once. `is_local()` tells whether the peer is on the
    server's own machine. `hold()` reads nothing more of a peer until `go_on()`; where there are no connections, what is
    not read would be lost, so there it does nothing.

    In a room, `heard` is the number of the next line of others that it is to hear. `hear(lines)` sends them;
    `can_hear()` tells whether it has taken all that was sent before. `miss(count)` notes that so many lines are lost
    to it, since it is more than `most_behind()` of them behind, or they are kept no longer. `wait_its_turn()` has it
    say more only after all others, once those who read have had time for that.
    """

    __slots__ = ("heading", "heard", "name", "subject", "where")
    protocol = "?"
    is_answered = True
    """Whether anything is sent to it, and what it says to others."""
    ends_for_good = False
    """Whether a message over the limit ends the conversation, and nothing counts that comes after its end."""
    if TYPE_CHECKING:
        send: Callable[..., None]
        tell: Callable[[list[bytes]], None]
        end: Callable[[], None]
        close: Callable[[str], None]
        is_local: Callable[[], bool]
        hear: Callable[[list[bytes]], None]
        miss: Callable[[int], None]
        heard: int
    takes_line_by_line = False
    """Whether each line of others takes a call of the system of its own."""

    def hold(self) -> None:
        """Go on: nothing can be held."""

    go_on = wait_its_turn = hold

    def can_hear(self) -> bool:
        """Tell whether it has taken all that was sent."""
        return True

    def most_behind(self) -> int:
        """Return how many lines it may be behind others."""
        return 1 << 60

    def rename(self, where: str, subject: str = "") -> None:
        """Be known by an address, and by the subject of a certificate, from now on; the name that is shown has both.

        `heading` begins the lines of the record with what it says; whoever shows the first one makes it.
        """
        self.where, self.subject = where, subject
        self.name = f"{where} ({subject})" if subject else where
        self.heading = b""


class Transport:
    """One protocol's sockets.

    `peers()` returns those who are to hear what others say. `tick(now)` ends what has run out of time by `now`, a time
    of time.monotonic(). `stop()` takes nothing more and ends every conversation, after all that was sent;
    `is_stopped()` tells whether they have ended. `close()` closes whatever is still open.
    """

    protocol = "?"
    if TYPE_CHECKING:
        peers: Callable[[], Iterable[Peer]]
        tick: Callable[[float], None]
        stop: Callable[[], None]
        is_stopped: Callable[[], bool]
        close: Callable[[], None]
