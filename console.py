"""Servers: the person at the server: what is typed there goes to all clients or to one, and 'exit' stops the server."""

from __future__ import annotations

from common import EXIT
from text import TYPE_CHECKING, visible

if TYPE_CHECKING:
    from loop import Loop
    from service import Service
    from terminal import TypedLines


class Console:
    """Takes typed lines as they come, and goes on without them once their input has ended."""

    def __init__(self, typed: TypedLines, service: Service, loop: Loop) -> None:
        self._typed, self._service, self._record, self._loop = typed, service, service.record, loop

    def start(self) -> None:
        """Begin to take lines."""
        self._loop.watch(self._typed.socket.fileno(), self.read)
        self._typed.start()
        self._record.line("Type a line to send it to every client, 'exit' to stop.")
        self._record.flush()
        self._typed.ask()

    def read(self) -> None:
        """Take the lines that were typed, or the end of the input."""
        lines = self._typed.read()
        for line in lines or ():
            self.take(line)
            if self._service.is_serving():
                self._typed.ask()
        if lines is None:
            self._loop.forget(self._typed.socket.fileno())
            if self._typed.is_terminal:
                self._typed.close()
            if self._typed.problem:
                self._record.line(f"[Server] Cannot read standard input: {self._typed.problem}.", trouble=True)
            elif self._typed.is_terminal:
                self._record.line("[Server] End of input. Serving goes on; Ctrl-C stops it.")

    def take(self, line: bytes) -> None:
        """Take a line: 'exit', '@address:port text' for one alone, or a text for all; none once the server stops."""
        if line.strip() == EXIT:
            self._service.ask_to_stop("[Server] Shutdown command typed.")
        elif self._service.is_serving() and line.startswith(b"@"):
            name, _, text = line[1:].partition(b" ")
            self._tell_one(visible(name), text)
        elif self._service.is_serving():
            self._tell_all(line)

    def _tell_one(self, name: str, line: bytes) -> None:
        peer = next((peer for peer in self._service.peers() if peer.where == name), None)
        if peer is None:
            self._record.line(f"[Server] Nobody here has the address {name}. Nothing was sent.")
        else:
            self._service.typed_rows.append((peer.protocol.lower(), "sent", peer.where, peer.subject or None, line))
            self._record.line("[Server] To ", peer.name, f": {visible(line)}")
            self._service.attend(peer, peer.tell, [line])

    def _tell_all(self, line: bytes) -> None:
        count, protocol = len(self._service.peers()), self._service.transports[0].protocol.lower()
        self._service.typed_rows.append((protocol, "sent", "*", None, line))
        self._record.line(f"[Server] To {count} client{'s' * (count != 1)}: ", "", visible(line))
        if not count:
            self._record.line("[Server] Nobody is there to read that.")
        self._service.tell_all([line])
