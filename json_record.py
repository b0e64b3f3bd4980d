"""Servers: the record as JSON lines, one object an event (`--json`), for programs that read it.

What happened is told from how this program itself begins a line; what a peer has sent only ever becomes a value.
"""

from __future__ import annotations

import base64
import json
import re

from record import Record, utc
from text import without_ending

PROTOCOL = re.compile(r"\[(?:(\w+) )?Server\] ")
EVENTS = {
    "repeated": r"(?=[A-Z][a-z ]+ \d+ more times$)",
    "listening": r"Listening on (?P<address>\S+)\.",
    "connected": r"Connected by ",
    "received": r"Received from ",
    "not_saved": r"Not saved, from |Sent, but could not be saved: ",
    "disconnected": r"Disconnected: ",
    "forgotten": r"Forgot ",
    "refused": r"Refused (?:(?P<peer>\S+): )?",
    "turned_away": r"Turned away (?:(?P<peer>\S+(?: \(.*\))?): )?",
    "not_answered": r"Not answered: (?:(?P<peer>\S+(?: \(.*\))?), )?",
    "not_sent": r"Cannot send to (?:(?P<peer>\S+): )?|(?=\d+ datagrams were not sent)",
    "lost": r"(?=\d+ datagrams were lost)",
    "error_sent": r"Sent to ",
    "sent": r"To \d+ clients?: |To ",
    "nobody": r"(?=Nobody )",
    "saved_again": r"(?=Messages are saved again)",
    "unsaved": r"(?=\d+ messages were not saved)",
    "not_shown": r"(?=\d+ lines were not shown)",
    "certificate": r"(?=The certificate in |Certificate and key |Going on with the certificate )",
    "stopping": r"(?=.+ Stopping server\.\.\.$)",
    "stopped": r"(?=All services stopped)",
    "note": r"",
}
"""The events, and how the line of each begins, without the part of it that a field says."""
STARTS = [(event, re.compile(start)) for event, start in EVENTS.items()]


class JsonRecord(Record):
    """The events on standard output, an object in a line each."""

    def line(self, event: str, name: str = "", rest: str = "", *, trouble: bool = False) -> None:  # noqa: ARG002
        """Show an event: whom it is about, and what there is to say of it."""
        if not PROTOCOL.match(event):
            return  # a hint for the person at a terminal
        fields = fields_of(event, name)
        text = fields.pop("text").strip() + (rest[2:-1] if rest.startswith(" (") else rest.removeprefix(": "))
        fields.update({"text": text} if text else {})
        self._blocks.append(json.dumps({"at": utc(), **fields}).encode())

    def heading(self, event: str, name: str, end: str = "") -> bytes:  # noqa: ARG002
        """Return the fields that all messages of a peer have in common."""
        fields = fields_of(event, name)
        del fields["text"]
        return json.dumps(fields).encode()

    def messages(self, heading: bytes, messages: list[bytes], is_harmless: bool) -> None:  # noqa: ARG002
        """Show messages as they came from the network."""
        fields = {"at": utc(), **json.loads(heading)}
        for message in messages:
            self._blocks.append(json.dumps({**fields, **content(without_ending(message))}).encode())


def fields_of(line: str, name: str) -> dict[str, str]:
    """Return what an event is, and whom it is about, as far as its line says so; "text" is the rest of that."""
    _, protocol, text = PROTOCOL.split(line, maxsplit=1)
    event, start = next((event, start) for event, pattern in STARTS if (start := pattern.match(text)))
    told = start.groupdict("")
    peer, _, subject = (name or told.get("peer", "")).partition(" (")
    fields = {
        "event": event,
        "protocol": (protocol or "").lower(),
        "peer": peer,
        "subject": subject[:-1],
        "address": told.get("address", ""),
    }
    return {**{key: value for key, value in fields.items() if value}, "text": text[start.end() :]}


def content(text: bytes) -> dict[str, str]:
    """Return the field that holds text: as it is, or in base64 where it is not UTF-8."""
    try:
        return {"text": text.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(text).decode()}
