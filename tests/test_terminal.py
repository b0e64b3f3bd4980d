"""What a person sees in a terminal: whole lines, the half-typed one below them, and a terminal left as it was."""

from __future__ import annotations

import re
import select
import shlex
import signal
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import ClassVar

from support import PATIENCE, TestCase, needs, receive_lines, wait_until, with_constants

try:
    from screen import Terminal
except ImportError:
    raise unittest.SkipTest("this system has no terminals as Unix has them") from None
try:
    import readline
except ImportError:
    readline = None  # type: ignore[assignment]

LEFT, UP, HOME, END = "\x1b[D", "\x1b[A", "\x01", "\x05"
CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
CONFIRMED = "Server: Message received: "

EDITS = bool(readline) and "libedit" not in (readline.__doc__ or "")
edits = unittest.skipUnless(EDITS, "this Python has no GNU readline to edit lines with")


class Peer:
    """The other side of a client: a socket of the test's own."""

    def __init__(self, script: str) -> None:
        self.tcp = script.startswith("tcp")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE)
        self.socket.bind(("127.0.0.1", 0))
        if self.tcp:
            self.socket.listen()
        self.port = self.socket.getsockname()[1]

    def accept(self) -> None:
        """Accept the client's connection, where there is such a thing."""
        if self.tcp:
            connected, _ = self.socket.accept()
            self.socket.close()
            self.socket = connected
            self.socket.settimeout(PATIENCE)

    def hear(self) -> str:
        """Return the next message, which must be all that has arrived."""
        if self.tcp:
            return receive_lines(self.socket, 1)[0].decode()
        message = b""
        while not message:  # a sign of life is no message
            message, client = self.socket.recvfrom(65536)
        self.socket.connect(client)
        return message.decode()

    def say(self, *lines: str) -> None:
        """Send lines, at once."""
        if self.tcp:
            self.socket.sendall("".join(f"{line}\n" for line in lines).encode())
        else:
            for line in lines:
                self.socket.send(line.encode())

    def close(self) -> None:
        """Be gone."""
        self.socket.close()


class TerminalTest(TestCase):
    """A test that looks at terminals."""

    def terminal(
        self, *command: object, columns: int = 60, height: int = 12, environment: dict[str, str] | None = None
    ) -> Terminal:
        """Run a program in a terminal."""
        terminal = Terminal(*command, columns=columns, height=height, environment=environment)
        self.addCleanup(terminal.close)
        return terminal

    def shell(self) -> Terminal:
        """Run a shell with job control in a terminal."""
        environment = {"PS1": "$ ", "HISTFILE": ""}
        terminal = self.terminal("bash", "--norc", "--noprofile", "-i", columns=100, environment=environment)
        terminal.expect("$", column=2)
        return terminal

    def folder(self) -> Path:
        """Return a new folder, which goes with the test."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def python_without(self, *modules: str) -> dict[str, str]:
        """Return the environment in which Python lacks some modules."""
        folder = self.folder()
        code = "".join(f"sys.modules[{module!r}] = None\n" for module in modules)
        (folder / "sitecustomize.py").write_text(f"import sys\n{code}")
        return {"PYTHONPATH": str(folder)}

    def assert_left_alone(self, terminal: Terminal) -> None:
        """Check that a program which has ended left its terminal as it was."""
        self.assertEqual(terminal.settings(), terminal.settings_before)
        self.assertLessEqual(terminal.screen.modes, {1034})  # how readline asks old terminals for Alt as an eighth bit
        self.assertEqual(terminal.screen.column, 0, terminal.screen.rows)
        self.assertNotIn("Traceback", terminal.output.decode())


class Shared:
    """Holds the tests that run once for each client, and once for each server."""

    class ClientTest(TerminalTest):
        """A client in a terminal."""

        script: ClassVar[str]

        def conversation(
            self, *options: object, columns: int = 60, height: int = 12, environment: dict[str, str] | None = None
        ) -> tuple[Terminal, Peer]:
            """Return a client's terminal and its peer, after a first message and its confirmation."""
            peer = Peer(self.script)
            self.addCleanup(peer.close)
            command = (sys.executable, self.script, *options, "127.0.0.1", peer.port)
            terminal = self.terminal(*command, columns=columns, height=height, environment=environment)
            peer.accept()
            terminal.expect("You:", column=5)
            terminal.type("hi\r")
            self.assertEqual(peer.hear(), "hi")
            peer.say("Message received: hi")
            terminal.expect(f"{CONFIRMED}hi", "You:", column=5)
            return terminal, peer

        @edits
        def test_line_arriving_while_typing_is_shown_above(self) -> None:
            """The prompt, the half-typed text and the cursor come back below it, and the text is sent whole."""
            terminal, peer = self.conversation()
            terminal.type("hello world" + 5 * LEFT)
            terminal.expect(f"{CONFIRMED}hi", "You: hello world", column=11)
            peer.say("news")
            terminal.expect("You: hi", f"{CONFIRMED}hi", "Server: news", "You: hello world", column=11)
            terminal.type("whole ")
            terminal.expect("Server: news", "You: hello whole world", column=17)
            terminal.type("\r")
            self.assertEqual(peer.hear(), "hello whole world")
            terminal.expect("Server: news", "You: hello whole world", "You:", column=5)

        @edits
        def test_several_lines_at_once(self) -> None:
            """All of them are shown, in their order, even more than the window holds."""
            terminal, peer = self.conversation()
            terminal.type("half")
            terminal.expect("You: half")
            lines = [f"line {number}" for number in range(30)]
            peer.say(*lines)
            terminal.expect(f"{CONFIRMED}hi", *(f"Server: {line}" for line in lines), "You: half", column=9)

        @edits
        def test_line_arriving_that_is_wider_than_the_window(self) -> None:
            """It takes the rows it needs, which look like no line of their own."""
            terminal, peer = self.conversation(columns=40)
            terminal.type("half")
            peer.say(60 * "x")
            terminal.expect(f"{CONFIRMED}hi", "Server: " + 32 * "x", "    " + 28 * "x", "You: half", column=9)

        @edits
        def test_typed_text_longer_than_the_window(self) -> None:
            """It scrolls sideways in one row, which comes back as it was, and is sent whole."""
            terminal, peer = self.conversation(columns=40)
            text = " ".join(f"{number:04}" for number in range(30))
            terminal.type(text)
            terminal.expect_row(r"0029$")
            self.assertEqual(terminal.screen.rows[:-1][-2:], ["You: hi", f"{CONFIRMED}hi"])
            row, column = terminal.screen.rows[-1], terminal.screen.column
            peer.say("news")
            terminal.expect(f"{CONFIRMED}hi", "Server: news", row, column=column)
            terminal.type(29 * LEFT + "x")
            terminal.expect_row(r"0023 x0024")
            peer.say("more")
            terminal.expect_row("Server: more")
            terminal.type("\r")
            self.assertEqual(peer.hear(), text[:120] + "x" + text[120:])
            self.assertEqual(terminal.update().rows.count("Server: news"), 1)

        @edits
        def test_wide_and_combining_characters(self) -> None:
            """The cursor stands where it stood, between characters of two columns, and of none."""
            for text, keys, column in (
                ("日本語テスト", 2 * LEFT, 5 + 8),
                ("smile 😀 twice 😀", LEFT, 5 + 15),
                ("cafe\u0301 ole\u0301", "", 5 + 8),
                ("naïve — Привет", 2 * LEFT, 5 + 12),
            ):
                with self.subTest(text):
                    terminal, peer = self.conversation()
                    terminal.type(text + keys)
                    terminal.expect(f"{CONFIRMED}hi", f"You: {text}", column=column)
                    peer.say(f"news, {text}")
                    terminal.expect(f"Server: news, {text}", f"You: {text}", column=column)
                    terminal.type("\r")
                    self.assertEqual(peer.hear(), text)

        @edits
        def test_long_wide_text(self) -> None:
            """Text of wide characters, longer than the window, stays in its row."""
            terminal, peer = self.conversation(columns=40)
            text = 10 * "日本語テスト"
            terminal.type(text + "!")
            terminal.expect_row("語テスト!$")
            row, column = terminal.screen.rows[-1], terminal.screen.column
            peer.say("news")
            terminal.expect(f"{CONFIRMED}hi", "Server: news", row, column=column)
            terminal.type("\r")
            self.assertEqual(peer.hear(), text + "!")

        @edits
        def test_arrow_keys_edit_and_recall(self) -> None:
            """Lines of this run come back, and nothing of them is written anywhere."""
            home = self.folder()
            terminal, peer = self.conversation(environment={"HOME": str(home)})
            for line in ("first", "second"):
                terminal.type(f"{line}\r")
                self.assertEqual(peer.hear(), line)
                peer.say(f"Message received: {line}")
                terminal.expect(f"{CONFIRMED}{line}", "You:", column=5)
            terminal.type(2 * UP)
            terminal.expect(f"{CONFIRMED}second", "You: first", column=10)
            terminal.type(LEFT + "X" + HOME + "Y" + END + "Z")
            terminal.expect("You: YfirsXtZ", column=13)
            peer.say("news")
            terminal.expect("Server: news", "You: YfirsXtZ", column=13)
            terminal.type("\r")
            self.assertEqual(peer.hear(), "YfirsXtZ")
            peer.say("Message received: YfirsXtZ")
            terminal.type("terminate\r")
            self.assertEqual(terminal.wait(), 0)
            self.assertEqual(list(home.iterdir()), [])

        @edits
        def test_typing_while_lines_pour_in(self) -> None:
            """However the two meet, every line that arrives has rows of its own, and the typed one is sent whole."""
            terminal, peer = self.conversation(columns=80)
            text = "the quick brown fox jumps over the lazy dog"
            for number, char in enumerate(text):
                peer.say(f"a{number}", f"b{number}")
                terminal.type(char)
                terminal.update()
            last = len(text) - 1
            terminal.expect(f"Server: a{last}", f"Server: b{last}", f"You: {text}", column=5 + len(text))
            said = [f"Server: {letter}{number}" for number in range(len(text)) for letter in "ab"]
            self.assertEqual([row for row in terminal.screen.rows if row.startswith("Server: ")][1:], said)
            self.assertEqual(len(terminal.screen.rows), 3 + len(said) + 1 + self.greeting_rows(terminal))
            terminal.type("\r")
            self.assertEqual(peer.hear(), text)

        @staticmethod
        def greeting_rows(terminal: Terminal) -> int:
            """Return how many rows the greeting takes, beyond one."""
            return terminal.screen.rows.index("You: hi") - 1

        @edits
        def test_control_characters_from_the_server_move_nothing(self) -> None:
            """They are shown escaped."""
            terminal, peer = self.conversation()
            terminal.type("half")
            peer.say("\x1b[2J\x1b[Hgotcha\rYou: \b\x9b")
            terminal.expect(f"{CONFIRMED}hi", r"Server: \x1b[2J\x1b[Hgotcha\rYou: \x08\x9b", "You: half", column=9)

        def test_plain_input_without_readline(self) -> None:
            """A Python without readline sends what is typed, and shows each line that arrives in a row of its own."""
            terminal, peer = self.conversation(environment=self.python_without("readline"))
            terminal.type("half")
            terminal.expect("You: half")
            peer.say("news", "more")
            terminal.expect_row("^Server: news$")
            terminal.expect_row("^Server: more$")
            terminal.type("-typed\r")
            self.assertEqual(peer.hear(), "half-typed")
            peer.say("Message received: half-typed")
            terminal.expect(f"{CONFIRMED}half-typed", "You:", column=5)
            terminal.type("terminate\r")
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)

        @edits
        def test_editing_without_ctypes(self) -> None:
            """A Python that can not have readline redraw does without; what is typed is back below what arrives."""
            terminal, peer = self.conversation(environment=self.python_without("ctypes"))
            terminal.type("half")
            terminal.expect("You: half")
            peer.say("news")
            terminal.expect(f"{CONFIRMED}hi", "Server: news", "You: half", column=9)
            terminal.type("-typed\r")
            self.assertEqual(peer.hear(), "half-typed")

        def test_dumb_terminal(self) -> None:
            """No escape sequence is written to it; lines that arrive have rows of their own all the same."""
            terminal, peer = self.conversation(environment={"TERM": "dumb"})
            terminal.type("half")
            terminal.expect("You: half")
            peer.say("news", "more")
            terminal.expect("Server: news", "Server: more", "You: half", column=9)
            terminal.type("-typed\r")
            self.assertEqual(peer.hear(), "half-typed")
            peer.say("Message received: half-typed")
            terminal.expect(f"{CONFIRMED}half-typed", "You:", column=5)
            terminal.type("terminate\r")
            self.assertEqual(terminal.wait(), 0)
            self.assertNotIn(b"\x1b", terminal.output)
            self.assert_left_alone(terminal)

        def test_problem_while_typing_is_shown_above(self) -> None:
            """A message that nobody answers is told, and the half-typed text comes back."""
            terminal, peer = self.conversation("--timeout", 0.3, columns=100)
            terminal.type("lost\r")
            self.assertEqual(peer.hear(), "lost")
            terminal.type("half")
            error = f"{self.script}: error: no reply from 127.0.0.1:{peer.port} within 0.3 s: lost"
            terminal.expect("You: lost", error, "You: half", column=9)

        def test_what_is_confirmed_late_is_confirmed(self) -> None:
            terminal, peer = self.conversation("--timeout", 0.3, columns=100)
            terminal.type("late\r")
            self.assertEqual(peer.hear(), "late")
            terminal.expect(f"{self.script}: error: no reply from 127.0.0.1:{peer.port} within 0.3 s: late", "You:")
            peer.say("Message received: late")
            terminal.expect(f"{CONFIRMED}late", "You:")
            terminal.type("terminate\r")
            self.assertEqual(terminal.wait(), 0)
            self.assertRegex(terminal.screen.rows[-2], "^2 sent, 2 confirmed, 0 lost; ")

        def test_what_was_refused_is_named_once(self) -> None:
            terminal, peer = self.conversation(columns=120)
            for message in ("refused", "too"):
                terminal.type(f"{message}\r")
                self.assertEqual(peer.hear(), message)
                peer.say("Error: the message could not be saved")
                terminal.expect("Server: Error: the message could not be saved", "You:")
            terminal.type("terminate\r")
            self.assertEqual(terminal.wait(), 1)
            error = rf"{self.script}: error: 2 messages were not confirmed by 127.0.0.1:{peer.port}: refused, too"
            self.assertEqual(terminal.screen.rows[-3], error)

        def test_terminal_after_terminate(self) -> None:
            """It is as it was."""
            terminal, peer = self.conversation(columns=100)
            terminal.type("terminate\r")
            self.assertEqual(peer.hear(), "terminate")
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)
            rows = terminal.screen.rows
            self.assertEqual(rows[-4:-2], ["You: terminate", "Terminating client....."])
            self.assertRegex(rows[-2], "^1 sent, 1 confirmed, 0 lost; ")

        def test_terminal_after_exit(self) -> None:
            """It is as it was."""
            terminal, peer = self.conversation(columns=100)
            terminal.type("exit\r")
            self.assertEqual(peer.hear(), "exit")
            peer.say("Server shutting down...")
            peer.close()
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)
            self.assertEqual(terminal.screen.rows[-4:-2], ["You: exit", "Server: Server shutting down..."])

        def test_terminal_after_the_server_shut_down(self) -> None:
            """It is as it was; half-typed text is shown for what it is."""
            terminal, peer = self.conversation(columns=100)
            terminal.type("half")
            terminal.expect("You: half")
            peer.say("Server shutting down...")
            peer.close()
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)
            rows = terminal.screen.rows
            said = ["Server: Server shutting down...", "The server has shut down.", "Not sent: half"]
            self.assertEqual(rows[-5:-2], said)

        def test_terminal_after_the_server_is_gone(self) -> None:
            """It is as it was; the client ends with 1 and says why."""
            terminal, peer = self.conversation(columns=150)
            if peer.tcp:
                terminal.type("half")
                terminal.expect("You: half")
                peer.close()
                why = "connection closed by"
            else:
                peer.close()
                terminal.type("anyone?\r")
                why = "no server at"
            self.assertEqual(terminal.wait(), 1)
            self.assert_left_alone(terminal)
            self.assertRegex(
                "\n".join(terminal.screen.rows), rf"(?m)^{self.script}: error: {why} 127\.0\.0\.1:{peer.port}"
            )

        def test_terminal_after_interruption(self) -> None:
            """It is as it was after Ctrl-C at a half-typed line, which ends the client with 130."""
            for text in ("", "half"):
                with self.subTest(typed=text):
                    terminal, _ = self.conversation()
                    terminal.type(text)
                    terminal.expect(f"You: {text}".rstrip(), column=5 + len(text))
                    terminal.type(CTRL_C)
                    self.assertEqual(terminal.wait(), 130)
                    self.assert_left_alone(terminal)
                    self.assertEqual("Not sent: half" in terminal.screen.rows, text == "half")

        def test_terminal_after_end_of_input(self) -> None:
            """It is as it was after Ctrl-D at an empty prompt, which is the end of input."""
            terminal, peer = self.conversation()
            terminal.type(CTRL_D)
            if peer.tcp:
                self.assertEqual(peer.socket.recv(100), b"")
                peer.say("last words")
                peer.close()
                terminal.expect_row("^Server: last words$")
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)

        def test_terminal_after_termination(self) -> None:
            """It is as it was after a signal at a half-typed line."""
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                terminal, _ = self.conversation()
                terminal.type("half")
                terminal.expect("You: half")
                terminal.popen.send_signal(number)
                self.assertEqual(terminal.wait(), 128 + number)
                self.assert_left_alone(terminal)
                self.assertIn("Not sent: half", terminal.screen.rows)

        def test_one_shot(self) -> None:
            """A client that asks for no line leaves the row alone in which the cursor is."""
            peer = Peer(self.script)
            self.addCleanup(peer.close)
            arguments = ("127.0.0.1", peer.port, "-m", "hi", "--no-reply", "--timeout", 0.1)
            terminal = self.terminal("sh", "-c", 'printf row; "$@"', "sh", sys.executable, self.script, *arguments)
            peer.accept()
            self.assertEqual(peer.hear(), "hi")
            peer.close()
            self.assertEqual(terminal.wait(), 0)
            self.assertEqual(bytes(terminal.output), b"row")

        def test_a_terminal_that_does_not_speak_utf8(self) -> None:
            """It gets no bytes that mean something else to it: here, 0xC6 0x9B would erase the screen."""
            terminal, peer = self.conversation(environment={"PYTHONIOENCODING": "iso8859-1"})
            peer.say("\u019b2J")
            terminal.expect(f"{CONFIRMED}hi", r"Server: \u019b2J", "You:", column=5)

        def stopped(self) -> tuple[Terminal, Peer]:
            """Return a shell's terminal, in which a client was stopped while somebody typed, and the client's peer."""
            peer = Peer(self.script)
            self.addCleanup(peer.close)
            terminal = self.shell()
            terminal.type(f"{sys.executable} {self.script} 127.0.0.1 {peer.port}; echo code $?\r")
            peer.accept()
            terminal.expect("You:", column=5)
            terminal.type("hi\r")
            self.assertEqual(peer.hear(), "hi")
            peer.say("Message received: hi")
            terminal.expect(f"{CONFIRMED}hi", "You:", column=5)
            terminal.type("half")
            terminal.expect("You: half")
            terminal.type(CTRL_Z)
            terminal.expect_row("Stopped")
            terminal.expect("$", column=2)
            return terminal, peer

        @edits
        @needs("bash")
        def test_in_the_background(self) -> None:
            """After Ctrl-Z and bg it does not draw its row over the shell's; after fg, the half-typed text is back."""
            terminal, peer = self.stopped()
            terminal.type("bg\r")
            terminal.expect_row(r"^\[1\]\+ .*&$")
            peer.say("news")
            terminal.expect_row("Server: news$")
            for key in "echo still here\r":
                terminal.type(key)
            terminal.expect_row("^still here$")
            terminal.type("fg\r")
            terminal.expect("You: half", column=9)
            terminal.type("-typed\r")
            self.assertEqual(peer.hear(), "half-typed")

        def test_closed_window(self) -> None:
            """A client whose terminal goes away ends."""
            terminal, _ = self.conversation()
            terminal.type("half")
            terminal.expect("You: half")
            terminal.hang_up()
            self.assertNotEqual(terminal.popen.wait(PATIENCE), 0)

        @edits
        @needs("bash")
        def test_stopped_and_continued(self) -> None:
            """After Ctrl-Z and fg the half-typed text is back, and what arrived meanwhile is shown."""
            terminal, peer = self.stopped()
            peer.say("news")
            terminal.type("fg\r")
            terminal.expect_row("^Server: news$")
            terminal.expect("You: half", column=9)
            terminal.type("-typed" + LEFT + "X")
            terminal.expect("You: half-typeXd", column=15)
            terminal.type("\r")
            self.assertEqual(peer.hear(), "half-typeXd")
            peer.say("Message received: half-typeXd")
            terminal.expect(f"{CONFIRMED}half-typeXd", "You:", column=5)
            terminal.type("terminate\r")
            terminal.expect_row("^1 sent|^2 sent, 2 confirmed")
            terminal.expect("$", column=2)
            terminal.type("echo still here\r")
            terminal.expect("$ echo still here", "still here", "$", column=2)

    class ServerTest(TerminalTest):
        """A server in a terminal."""

        script: ClassVar[str]

        def conversation(
            self, *within: object, columns: int = 60, environment: dict[str, str] | None = None
        ) -> tuple[Terminal, socket.socket]:
            """Return a server's terminal, and a client after a first message and its confirmation."""
            command = (*within, sys.executable, self.script, 0)
            terminal = self.terminal(*command, columns=columns, environment=environment)
            port = int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1])
            client = self.connect(port) if self.script.startswith("tcp") else self.datagrams(port)
            client.sendall(b"hi\n")
            self.assertEqual(client.recv(100), b"Message received: hi\n")
            terminal.expect(self.record(client, "hi"), "", column=0)
            if EDITS and not environment:  # it has no prompt that tells when it begins to read keys
                wait_until(terminal.is_silent, "the terminal echoes nothing itself")
            return terminal, client

        def record(self, client: socket.socket, text: str) -> str:
            """Return the record's line for a message of a client."""
            return f"[{self.script[:3].upper()} Server] Received from 127.0.0.1:{client.getsockname()[1]}: {text}"

        @edits
        def test_record_does_not_mangle_what_the_operator_types(self) -> None:
            """What is half-typed comes back below the record, its cursor where it was, and is sent whole."""
            terminal, client = self.conversation()
            for text, keys, column in (("hello world", 5 * LEFT, 6), ("日本 cafe\u0301 😀", 2 * LEFT, 9)):
                with self.subTest(text):
                    terminal.type(text + keys)
                    terminal.expect(text, column=column)
                    client.sendall(b"one\n")
                    self.assertEqual(client.recv(100), b"Message received: one\n")
                    terminal.expect(self.record(client, "one"), text, column=column)
                    terminal.type("\r")
                    self.assertEqual(client.recv(100).decode(), f"{text}\n")

        @edits
        def test_typing_while_messages_pour_in(self) -> None:
            """However the two meet, every line of the record is whole, and so is the typed one."""
            terminal, client = self.conversation(columns=80)
            text = "the quick brown fox jumps over the lazy dog"
            for number, char in enumerate(text):
                client.sendall(b"message %d\n" % number)
                terminal.type(char)
                terminal.update()
            terminal.expect(self.record(client, f"message {len(text) - 1}"), text, column=len(text))
            record = [self.record(client, f"message {number}") for number in range(len(text))]
            self.assertEqual(terminal.screen.rows[-len(text) - 1 : -1], record)

        @edits
        def test_long_typed_line(self) -> None:
            """It scrolls sideways in one row, which comes back as it was."""
            terminal, client = self.conversation(columns=60)
            text = " ".join(f"{number:04}" for number in range(30))
            terminal.type(text)
            terminal.expect_row(r"0029$")
            row, column = terminal.screen.rows[-1], terminal.screen.column
            client.sendall(b"one\n")
            terminal.expect(self.record(client, "hi"), self.record(client, "one"), row, column=column)

        def test_plain_input_without_readline(self) -> None:
            """A Python without readline sends what is typed; the record's lines have rows of their own."""
            terminal, client = self.conversation(environment=self.python_without("readline"))
            terminal.type("half")
            terminal.expect("half")
            client.sendall(b"one\n")
            self.assertEqual(client.recv(100), b"Message received: one\n")
            terminal.expect_row(f"^{self.record(client, 'one')}$".replace("[", r"\["))
            terminal.type("-typed\r")
            self.assertEqual(client.recv(100), b"half-typed\n")
            terminal.type("exit\r")
            client.close()
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)

        def test_dumb_terminal(self) -> None:
            """No escape sequence is written to it; the record's lines have rows of their own all the same."""
            terminal, client = self.conversation(environment={"TERM": "dumb"})
            terminal.type("half")
            terminal.expect("half")
            client.sendall(b"one\n")
            terminal.expect(self.record(client, "one"), "half", column=4)
            terminal.type("\r")
            terminal.expect("[Server] To 1 client: half", "", column=0)
            terminal.type("exit\r")
            client.close()
            self.assertEqual(terminal.wait(), 0)
            self.assertNotIn(b"\x1b", terminal.output)
            self.assert_left_alone(terminal)

        def test_terminal_after_exit(self) -> None:
            """It is as it was, whoever said `exit`; half-typed text is shown for what it is."""
            for typed in (True, False):
                with self.subTest(typed=typed):
                    terminal, client = self.conversation()
                    if typed:
                        terminal.type("exit\r")
                    else:
                        terminal.type("half")
                        terminal.expect("half")
                        client.sendall(b"exit\n")
                    self.assertEqual(client.recv(100), b"Server shutting down...\n")
                    client.close()
                    self.assertEqual(terminal.wait(), 0)
                    self.assert_left_alone(terminal)
                    self.assertEqual(terminal.screen.rows[-2:], ["[Server] All services stopped.", ""])
                    self.assertNotIn("half", terminal.screen.rows)
                    self.assertEqual("Not sent: half" in terminal.screen.rows, not typed)

        def test_terminal_after_signals(self) -> None:
            """It is as it was after Ctrl-C and SIGTERM at a half-typed line; both end the server with 0."""
            for number in (signal.SIGINT, signal.SIGTERM):
                with self.subTest(number.name):
                    terminal, client = self.conversation()
                    client.close()
                    terminal.type("half")
                    terminal.expect_row("^half$")
                    if number == signal.SIGINT:
                        terminal.type(CTRL_C)
                    else:
                        terminal.popen.send_signal(number)
                    self.assertEqual(terminal.wait(), 0)
                    self.assert_left_alone(terminal)
                    self.assertEqual(terminal.screen.rows[-2:], ["[Server] All services stopped.", ""])

        def test_closed_window(self) -> None:
            """A server whose terminal goes away says goodbye, and ends with 0."""
            terminal, client = self.conversation()
            terminal.hang_up()
            self.assertEqual(client.recv(100), b"Server shutting down...\n")
            client.close()
            self.assertEqual(terminal.popen.wait(PATIENCE), 0)

        def test_a_terminal_that_stands_still(self) -> None:
            """After Ctrl-S nothing can be written to it; the server serves on, also after Ctrl-D, and can be ended."""
            terminal, client = self.conversation(*with_constants(STOP_WITHIN=0.3, FINISH_WITHIN=0.2))
            terminal.stop_output()
            terminal.type(CTRL_D)
            for _ in range(20):
                client.sendall(b"one\n")
                self.assertEqual(client.recv(100), b"Message received: one\n")
            terminal.popen.terminate()
            self.assertEqual(client.recv(100), b"Server shutting down...\n")
            client.close()
            self.assertEqual(terminal.wait(), 0)
            self.assertEqual(terminal.settings(), terminal.settings_before)

        def test_end_of_input(self) -> None:
            """After Ctrl-D the server says so and goes on, and the terminal is as it was at once."""
            terminal, client = self.conversation()
            terminal.type(CTRL_D)
            terminal.expect("[Server] End of input. Serving goes on; Ctrl-C stops it.", "", column=0)
            self.assert_left_alone(terminal)
            client.sendall(b"one\n")
            self.assertEqual(client.recv(100), b"Message received: one\n")
            terminal.expect(self.record(client, "one"), "", column=0)
            terminal.type(CTRL_C)
            client.close()
            self.assertEqual(terminal.wait(), 0)
            self.assert_left_alone(terminal)

        @needs("bash")
        def test_in_the_background_and_back(self) -> None:
            """Started with &, a server serves and shows its record; after fg it takes typed lines."""
            terminal = self.shell()
            terminal.type(f"{sys.executable} {self.script} 0 &\r")
            port = int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1])
            client = self.connect(port) if self.script.startswith("tcp") else self.datagrams(port)
            client.sendall(b"one\n")
            self.assertEqual(client.recv(100), b"Message received: one\n")
            terminal.expect_row(self.record(client, "one").replace("[", r"\["))
            terminal.type("echo shell\r")
            terminal.expect_row("^shell$")
            terminal.type("fg\r")
            terminal.expect_row(rf"^{sys.executable} {self.script}")
            terminal.type("to all\r")
            self.assertEqual(client.recv(100), b"to all\n")
            terminal.type("exit\r")
            client.close()
            terminal.expect_row("All services stopped")
            terminal.expect("$", column=2)


class TcpClient(Shared.ClientTest):
    """The TCP client in a terminal."""

    script = "tcp_client.py"

    @edits
    def test_both_protocols(self) -> None:
        """With --udp-port each line that arrives while typing says how it came."""
        udp = Peer("udp")
        self.addCleanup(udp.close)
        tcp = Peer("tcp")
        self.addCleanup(tcp.close)
        terminal = self.terminal(sys.executable, self.script, "127.0.0.1", tcp.port, "--udp-port", udp.port)
        tcp.accept()
        terminal.expect("You:", column=5)
        terminal.type("half" + 2 * LEFT)
        terminal.expect("You: half", column=7)
        tcp.say("news")
        terminal.expect("[TCP] Server: news", "You: half", column=7)
        terminal.type("\r")
        peer = self.chosen(tcp, udp)
        while peer is not udp:
            terminal.type("again\r")
            peer = self.chosen(tcp, udp)
        terminal.type("more")
        terminal.expect_row("^You: more$")
        udp.say("old news")
        terminal.expect("[UDP] Server: old news", "You: more", column=9)

    def chosen(self, *peers: Peer) -> Peer:
        """Return the peer to which the next message went, once it is confirmed."""
        while True:
            readable, _, _ = select.select([peer.socket for peer in peers], [], [], PATIENCE)
            peer = next(peer for peer in peers if peer.socket in readable)
            if peer.tcp or peer.socket.recv(1, socket.MSG_PEEK):
                break
            peer.socket.recv(1)  # a sign of life
        peer.say(f"Message received: {peer.hear()}")
        return peer


class UdpClient(Shared.ClientTest):
    """The UDP client in a terminal."""

    script = "udp_client.py"


class TcpServer(Shared.ServerTest):
    """The TCP server in a terminal."""

    script = "tcp_server.py"


class UdpServer(Shared.ServerTest):
    """The UDP server in a terminal."""

    script = "udp_server.py"


class Colours(TerminalTest):
    """Colour: peers' names and labels dim, what went wrong red, and nothing where nobody wants it."""

    PLAIN: ClassVar = ({"NO_COLOR": "1"}, {"TERM": "dumb"})

    def record(self, environment: dict[str, str] | None = None) -> tuple[str, str]:
        """Return what a server's terminal got after a message and a refusal, and the name of the client."""
        terminal = self.terminal(
            sys.executable, "tcp_server.py", 0, "--max-message", 5, columns=150, environment=environment
        )
        client = self.connect(int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1]))
        name = f"127.0.0.1:{client.getsockname()[1]}"
        client.sendall(b"Hello\ntoo long\n")
        terminal.expect_row(f"Sent to {name}: Error: ")
        return terminal.output.decode(), name

    def replies(self, environment: dict[str, str] | None = None) -> str:
        """Return what a client's terminal got after a reply, a refusal and a message that nobody answered."""
        peer = Peer("tcp")
        self.addCleanup(peer.close)
        terminal = self.terminal(
            sys.executable, "tcp_client.py", "--timeout", 0.3, "127.0.0.1", peer.port, environment=environment
        )
        peer.accept()
        peer.say("Hello", "Error: the server is full (1 clients)")
        terminal.expect_row("^Server: Error: ")
        terminal.type("anyone?\r")
        terminal.expect_row("^tcp_client.py: error: no reply")
        return terminal.output.decode()

    def test_record(self) -> None:
        """The peer's name is dim, a refusal is red as a whole, and the message as it is."""
        output, name = self.record(environment={"NO_COLOR": ""})
        self.assertIn(f"[TCP Server] Received from \x1b[2m{name}\x1b[0m: Hello\r\n", output)
        self.assertIn(f"[TCP Server] Connected by \x1b[2m{name}\x1b[0m\r\n", output)
        self.assertRegex(output, rf"\x1b\[31m\[TCP Server\] Sent to {name}: Error: [^\x1b]*\x1b\[0m\r\n")

    def test_replies(self) -> None:
        """The label is dim, an error of the client's own is red as a whole, and a reply as it is, whatever it says."""
        output = self.replies(environment={"NO_COLOR": ""})
        self.assertIn("\x1b[2mServer: \x1b[0mHello\r\n", output)
        self.assertIn("\x1b[2mServer: \x1b[0mError: the server is full (1 clients)\r\n", output)
        self.assertRegex(output, r"\x1b\[31mtcp_client\.py: error: no reply [^\x1b]*\x1b\[0m\r\n")

    def test_plain_where_colour_is_not_wanted(self) -> None:
        """NO_COLOR and a dumb terminal switch it off."""
        for environment in self.PLAIN:
            with self.subTest(environment):
                output, name = self.record(environment=environment)
                self.assertIn(f"Received from {name}: Hello", output)
                self.assertNotRegex(output + self.replies(environment), r"\x1b\[\d*m")

    def test_plain_without_a_terminal(self) -> None:
        """Files and pipes get no escape sequence."""
        server = self.server("tcp_server.py", "--max-message", 5)
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, typed="Hello\ntoo long\n")
        server.wait_for("Sent to .*: Error")
        self.assertNotIn("\x1b", server.output + client.output + client.errors)
        self.assertIn("error:", client.errors)

    def test_a_peer_can_not_paint(self) -> None:
        """A message that looks like a line of the record is shown as it is."""
        terminal = self.terminal(sys.executable, "tcp_server.py", 0, columns=150)
        client = self.connect(int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1]))
        client.sendall(b"[TCP Server] Refused by me. \x1b[31m\n")
        terminal.expect_row("Refused by me")
        self.assertIn("\x1b[0m: [TCP Server] Refused by me. \\x1b[31m\r\n", terminal.output.decode())


class ProgressOfPipedWork(TerminalTest):
    """How far piped work is, on standard error."""

    AFTER = 0.2
    """Seconds in which nothing is shown anywhere; without this test, it is one."""

    def work(self, redirection: str, *options: object, first: str = "") -> tuple[Terminal, Peer]:
        """Return the terminal of a client whose input is a pipe, and its peer, who has heard a line.

        Enter sends another, and once more ends the input. The shell runs `first` before.
        """
        peer = Peer("tcp")
        self.addCleanup(peer.close)
        soon = with_constants(PROGRESS_AFTER=self.AFTER)
        arguments = ("--timeout", PATIENCE, *options, "127.0.0.1", peer.port)
        command = shlex.join(map(str, (*soon, sys.executable, "tcp_client.py", *arguments)))
        lines = "stty -echo; echo one; read key; echo two; read key"
        terminal = self.terminal("sh", "-c", f"{first}({lines}) | {command} {redirection}; echo code $?", columns=80)
        peer.accept()
        self.assertEqual(peer.hear(), "one")
        return terminal, peer

    def test_one_row_that_is_erased_at_the_end(self) -> None:
        """It tells what is sent and confirmed, changes with it, and leaves nothing."""
        terminal, peer = self.work(">/dev/null")
        peer.say("Message received: one")
        terminal.expect_row("^1 sent, 1 confirmed, ")
        terminal.type("\r")
        self.assertEqual(peer.hear(), "two")
        terminal.expect_row("^2 sent, 1 confirmed, ")
        self.assertEqual(len(terminal.screen.rows), 1)
        peer.say("Message received: two")
        terminal.expect_row("^2 sent, 2 confirmed, ")
        terminal.type("\r")
        self.assertEqual(peer.socket.recv(100), b"")
        peer.close()
        terminal.expect_row("^code 0$")
        self.assertNotRegex("\n".join(terminal.screen.rows), "sent")

    def test_replies_above_it(self) -> None:
        """Where standard output is the same terminal, each reply has a row of its own."""
        terminal, peer = self.work("")
        terminal.expect_row("^1 sent, 0 confirmed, ")
        peer.say("Message received: one", "news")
        terminal.expect_row("^news$")
        terminal.expect_row("^1 sent, 1 confirmed, ")
        self.assertEqual(terminal.screen.rows[:2], ["Message received: one", "news"])
        self.assertEqual(len(terminal.screen.rows), 3)

    def test_without_replies(self) -> None:
        """With --no-reply it tells what is sent."""
        terminal, _ = self.work("", "--no-reply")
        terminal.expect_row(r"^1 sent, \d lines a second$")

    def test_closed_window(self) -> None:
        """Work that ignores the hang-up goes on to its end."""
        folder = self.folder()
        terminal, peer = self.work(f">{folder}/replies; echo $? >{folder}/code", first="trap '' HUP; ")
        peer.say("Message received: one")
        terminal.expect_row("^1 sent, 1 confirmed, ")
        terminal.hang_up()  # which ends the wait for a key, too
        self.assertEqual(peer.hear(), "two")
        time.sleep(0.3)  # longer than from one row to the next
        peer.say("Message received: two")
        self.assertEqual(peer.socket.recv(100), b"")
        peer.close()
        terminal.popen.wait(PATIENCE)
        self.assertEqual((folder / "replies").read_text(), "Message received: one\nMessage received: two\n")
        self.assertEqual((folder / "code").read_text(), "0\n")

    def test_nothing_where_standard_error_is_no_terminal(self) -> None:
        """A file gets nothing of it."""
        errors = self.folder() / "errors"
        terminal, peer = self.work(f"2>{errors}")
        time.sleep(self.AFTER + 0.3)
        peer.say("Message received: one")
        terminal.type("\r")
        self.assertEqual(peer.hear(), "two")
        peer.say("Message received: two")
        terminal.expect_row("^Message received: two$")
        terminal.type("\r")
        self.assertEqual(peer.socket.recv(100), b"")
        peer.close()
        terminal.expect_row("^code 0$")
        self.assertEqual(errors.read_text(), "")
        self.assertNotRegex("\n".join(terminal.screen.rows), "sent")


class Help(TestCase):
    """What --help shows."""

    ROWS: ClassVar = {"tcp_server.py": 50, "udp_server.py": 40, "tcp_client.py": 50, "udp_client.py": 40}

    def help_of(self, script: str) -> str:
        """Return what a script's --help prints on a screen of 80 columns."""
        process = self.client(script, "--help", env={"COLUMNS": "80"})
        process.end_input()
        self.assertEqual(process.wait(), 0, process.errors)
        return process.output

    def test_it_fits_on_a_screen(self) -> None:
        """It has few rows, none too long, its options in groups, and two or three examples at its end."""
        for script, most in self.ROWS.items():
            with self.subTest(script):
                rows = self.help_of(script).splitlines()
                self.assertLessEqual(len(rows), most)
                self.assertLess(max(map(len, rows)), 80)
                self.assertIn("messages:", rows)
                self.assertIn(len(rows) - rows.index("examples (docs/reference.md has the rest):") - 1, (2, 3))

    def test_examples_work_as_printed(self) -> None:
        """Each runs in a shell; only the ports are others, so that the tests get in nobody's way."""
        server = self.server("tcp_server.py", "--udp-port", 0)
        for script in self.ROWS:
            for example in self.help_of(script).split("the rest):\n")[1].splitlines():
                with self.subTest(example):
                    self.assertTrue(example.startswith(f"  python3 {script} "), example)
                    command = example.strip().replace("python3", sys.executable)
                    if "server" in script:
                        self.serves(re.sub(r"\b900\d\b", "0", command))
                    else:
                        port, udp_port = server.port, server.udp_port
                        command = re.sub(r"(?<=--udp-port )\d+", str(udp_port), command)
                        command = re.sub(r"\b900\d\b", str(port if script.startswith("tcp") else udp_port), command)
                        client = self.start("sh", "-c", f"exec {command}")
                        if " -m " not in command:  # else it may have ended by now
                            client.type("Hello server!\n")
                        client.end_input()
                        self.assertEqual(client.wait(), 0, client.errors)
                        self.assertEqual(client.output, "Message received: Hello server!\n")

    def serves(self, command: str) -> None:
        """Check that a command starts a server."""
        process = self.start("sh", "-c", f"exec {command}")
        process.wait_for("Listening on")
        process.popen.terminate()
        self.assertEqual(process.wait(), 0, process.errors)

    def test_wrong_arguments(self) -> None:
        """They are told in one line."""
        for script, arguments in (
            ("tcp_server.py", ["x"]),
            ("udp_client.py", ["h:x"]),
            ("tcp_client.py", ["h", 1, "--x"]),
        ):
            with self.subTest(script):
                self.assert_one_line_error(self.client(script, *arguments), "--help shows how to use it", 2)


if __name__ == "__main__":
    unittest.main()
