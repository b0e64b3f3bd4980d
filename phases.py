"""Clients: the phases of a session, the states of its channels, and what may follow what."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far a session is."""

    TALKING = "lines are taken and sent"
    SETTLING = "what is unsent or unanswered is waited for"
    PARTING = "the servers are told that the conversation is over"
    LEAVING = "servers that confirm nothing get time to close"
    OVER = "nothing is left to be done"


class State(enum.Enum):
    """What a channel is good for."""

    DOWN = "there is no connection just now; another attempt is due"
    OPEN = "messages go out, and replies come in"
    PARTING = "the server was told that nothing more comes"
    CLOSED = "the conversation has ended"


FOLLOWS: dict[enum.Enum, tuple[enum.Enum, ...]] = {
    Phase.TALKING: (Phase.SETTLING, Phase.OVER),
    Phase.SETTLING: (Phase.PARTING, Phase.OVER),
    Phase.PARTING: (Phase.TALKING, Phase.LEAVING, Phase.OVER),  # talking again where 'exit' is not obeyed
    Phase.LEAVING: (Phase.OVER,),
    Phase.OVER: (),
    State.DOWN: (State.DOWN, State.OPEN, State.CLOSED),
    State.OPEN: (State.DOWN, State.PARTING, State.CLOSED),
    State.PARTING: (State.OPEN, State.CLOSED),  # open again for the same reason
    State.CLOSED: (),
}


def check(before: enum.Enum, after: enum.Enum) -> None:
    """Raise RuntimeError, which is a fault of this program, if one may not follow the other."""
    if after not in FOLLOWS[before]:
        raise RuntimeError(f"{after} does not follow {before}")
