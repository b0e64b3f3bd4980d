"""A line whose end does not come, as that of a prompt, is shown to a person all the same."""

from __future__ import annotations

import sys
import unittest

from support import TestCase, receive_lines

try:
    from screen import Terminal
except ImportError:  # this system has no terminals as Unix has them
    Terminal = None  # type: ignore[assignment, misc]


@unittest.skipUnless(Terminal, "this system has no terminals as Unix has them")
class Prompts(TestCase):
    """A TCP client in a terminal, and a server that asks."""

    def test_a_login(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        terminal = Terminal(sys.executable, "tcp_client.py", port, "--no-reply")
        self.addCleanup(terminal.close)
        connected = self.accept(listener)
        connected.sendall(b"Welcome\nlogin: ")
        terminal.expect("Server: Welcome", "Server: login:", "You:", column=5)
        terminal.type("bo")
        terminal.expect("You: bo", column=7)
        terminal.type("\r")
        self.assertEqual(receive_lines(connected, 1), [b"bo"])
        connected.sendall(b"Password: ")
        terminal.expect("Server: login:", "You: bo", "    Password:", "You:", column=5)
        connected.sendall(b"good\nbye")
        terminal.expect("You: bo", "    Password:", "    good", "Server: bye", "You:", column=5)
        connected.close()
        self.assertEqual(terminal.wait(), 1, "it ended before the input did")
        self.assertEqual(sum("bye" in row for row in terminal.update().rows), 1)

    def test_after_another_connection(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        terminal = Terminal(sys.executable, "tcp_client.py", port, "--reconnect", columns=120)
        self.addCleanup(terminal.close)
        for number in range(2):
            connected = self.accept(listener)
            connected.sendall(b"login: ")
            shown = "Server: login:", "You:"
            again = (f"Connected to 127.0.0.1:{port}.",) if number else ()
            terminal.expect(*again, *shown, column=5)
            connected.close()

    def test_in_a_pipe_it_goes_out_at_once(self) -> None:
        listener = self.listen()
        client = self.client("tcp_client.py", listener.getsockname()[1], "--stay")
        connected = self.accept(listener)
        connected.sendall(b"login: ")
        client.wait_for(r"\Alogin: \Z")


if __name__ == "__main__":
    unittest.main()
