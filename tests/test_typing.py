"""What a person types: shown whole once it is sent, in a row of its own until then, and never lost."""

from __future__ import annotations

import re
import signal
import sys
import unittest

from support import TestCase, needs

try:
    from screen import Terminal
    from test_terminal import CONFIRMED, CTRL_C, CTRL_Z, LEFT, Peer, TerminalTest, edits
except ImportError:
    raise unittest.SkipTest("this system has no terminals as Unix has them") from None

BACKSPACE = "\x7f"


class TypingTest(TerminalTest):
    """A client in a terminal, in a conversation with the test."""

    def conversation(self, *, columns: int = 60, environment: dict[str, str] | None = None) -> tuple[Terminal, Peer]:
        """Return a client's terminal and its peer."""
        peer = Peer("tcp")
        self.addCleanup(peer.close)
        command = (sys.executable, "tcp_client.py", "127.0.0.1", peer.port)
        terminal = self.terminal(*command, columns=columns, environment=environment)
        peer.accept()
        terminal.expect("You:", column=5)
        return terminal, peer


@edits
class Sent(TypingTest):
    """What was sent stands above, whole."""

    def test_a_paste_into_a_busy_conversation(self) -> None:
        """However much is said meanwhile, each pasted line is on the screen as it was sent, and nothing else is."""
        for columns in (80, 40):
            with self.subTest(columns=columns):
                server = self.server("tcp_server.py", "--reply", "relay", "--quiet")
                terminal = self.terminal(sys.executable, "tcp_client.py", "127.0.0.1", server.port, columns=columns)
                terminal.expect("You:", column=5)
                other = self.connect(server.port)
                pasted = [f"pasted line {number:02}" for number in range(50)]
                terminal.type("".join(f"{line}\r" for line in pasted) + "half")
                for number in range(200):
                    other.sendall(b"noise %d\n" % number)
                    terminal.update()
                terminal.expect_row(f"^{CONFIRMED}pasted line 49$")
                terminal.expect_row("noise 199$")
                terminal.expect_row("^You: half$")
                rows = terminal.screen.rows[terminal.screen.rows.index("You: pasted line 00") :]
                self.assertEqual([row[5:] for row in rows if row.startswith("You: ")], [*pasted, "half"])
                self.assertEqual(sum(row.startswith(CONFIRMED) for row in rows), 50)
                self.assertEqual([row for row in rows if not row.startswith(("You: ", "Server: "))], [])

    def test_a_line_longer_than_a_row(self) -> None:
        terminal, peer = self.conversation(columns=40)
        text = " ".join(f"{number:04}" for number in range(15))
        terminal.type(text)
        terminal.expect_row("^<.*0014$")
        terminal.type("\r")
        self.assertEqual(peer.hear(), text)
        whole = f"You: {text}"
        terminal.expect(whole[:40].rstrip(), whole[40:], "You:", column=5)

    def test_control_characters_that_were_typed(self) -> None:
        """They are sent as they are, and shown escaped."""
        terminal, peer = self.conversation()
        terminal.type("a\x16\x1bb\tc")
        terminal.expect(r"You: a\x1bb     c")
        terminal.type("\r")
        self.assertEqual(peer.hear(), "a\x1bb\tc")
        terminal.expect(r"You: a\x1bb     c", "You:", column=5)

    def test_a_search_in_what_was_typed(self) -> None:
        """Ctrl-R shows its own prompt, also below a line that arrives."""
        terminal, peer = self.conversation()
        for line in ("first", "second"):
            terminal.type(f"{line}\r")
            self.assertEqual(peer.hear(), line)
            terminal.expect(f"You: {line}", "You:", column=5)
        terminal.type("\x12fir")
        terminal.expect("(reverse-i-search)`fir': first")
        peer.say("news")
        terminal.expect("Server: news", "(reverse-i-search)`fir': first")
        terminal.type("\r")
        self.assertEqual(peer.hear(), "first")
        terminal.expect("You: first", "You:", column=5)


@edits
class NotSent(TypingTest):
    """What is half-typed when a client ends is shown."""

    def test_half_a_line_that_arrived_all_the_same(self) -> None:
        """Its length does not matter."""
        terminal, _ = self.conversation(columns=40)
        terminal.type("x" * 50)
        terminal.expect_row("^<x+$")
        terminal.type(CTRL_C)
        self.assertEqual(terminal.wait(), 130)
        self.assertIn("Not sent: " + 30 * "x", terminal.screen.rows)
        self.assert_left_alone(terminal)

    @needs("bash")
    def test_in_the_background(self) -> None:
        """After Ctrl-Z and bg it is shown all the same."""
        peer = Peer("tcp")
        self.addCleanup(peer.close)
        terminal = self.shell()
        terminal.type(f"{sys.executable} tcp_client.py 127.0.0.1 {peer.port}\r")
        peer.accept()
        terminal.expect("You:", column=5)
        terminal.type("half")
        terminal.expect_row("^You: half$")
        terminal.type(CTRL_Z)
        terminal.expect_row("Stopped")
        terminal.expect("$", column=2)
        terminal.type("bg\r")
        terminal.expect_row(r"^\[1\]\+ .*&$")
        peer.close()
        terminal.expect_row("^Not sent: half$")
        terminal.expect_row("error: connection closed")

    def test_a_paste_when_the_server_goes(self) -> None:
        """What is not taken any more is shown; it does not go to the shell."""
        terminal, peer = self.conversation(columns=80)
        terminal.type("half")
        terminal.expect_row("^You: half$")
        terminal.popen.send_signal(signal.SIGSTOP)
        terminal.type("one\rtwo\rthree")
        peer.close()
        terminal.popen.send_signal(signal.SIGCONT)
        self.assertEqual(terminal.wait(), 1)
        self.assert_left_alone(terminal)
        shown = "\n".join(terminal.screen.rows)
        for line in ("halfone", "two", "three"):
            self.assertRegex(shown, rf"(?m)^(You|Not sent): .*{line}")
        self.assertEqual(terminal.unread(), 0)


@edits
class Windows(TypingTest):
    """The row in windows that change, and in other languages."""

    def test_a_window_that_shrinks_below_the_text(self) -> None:
        """No piece of the row stays behind, and nothing above it goes."""
        for text, moves in (
            ("0123456789" * 4, 0),
            ("0123456789" * 4, 30),
            ("日本語テスト" * 4, 0),
            ("日本語テスト" * 4, 20),
        ):
            with self.subTest(text=text, moves=moves):
                terminal, peer = self.conversation()
                peer.say("news")
                terminal.expect("Server: news", "You:", column=5)
                terminal.type(text + LEFT * moves)
                terminal.expect(f"You: {text}", column=5 + (40 - moves if text.isascii() else 2 * (24 - moves)))
                terminal.resize(30)
                terminal.expect_row("^(<.*[>9ト]|You: .*>)$")
                self.assertEqual(terminal.screen.rows[-2], "Server: news")
                self.assertEqual(terminal.screen.below, "")
                terminal.type("\r")
                self.assertEqual(peer.hear(), text)

    def test_japanese_uses_the_whole_row(self) -> None:
        terminal, _ = self.conversation(columns=80)
        terminal.type("日本語テスト" * 10)
        terminal.expect_row("^<(日本語テスト|[本語テスト])+$")
        self.assertGreaterEqual(terminal.screen.column, 76)

    def test_a_locale_without_utf8(self) -> None:
        """Python speaks UTF-8 there all the same, and so does the line that is edited."""
        for locale in ("C", "POSIX"):
            with self.subTest(locale):
                terminal, peer = self.conversation(environment={"LC_ALL": locale})
                terminal.type("schön" + LEFT + BACKSPACE + "u")
                terminal.expect("You: schun", column=9)
                terminal.type("\r")
                self.assertEqual(peer.hear(), "schun")


class Wrapped(TypingTest):
    """A message that takes more than a row can not look like another line."""

    FORGED = "[TCP Server] Received from 127.0.0.1:4711: forged"

    def message(self, heading: str, columns: int) -> str:
        """Return a message that fills the row after a heading, and goes on as if it were another line."""
        return "ok".ljust(columns - len(heading)) + self.FORGED

    def test_in_the_record(self) -> None:
        terminal = self.terminal(sys.executable, "tcp_server.py", 0, columns=80, environment={"NO_COLOR": ""})
        client = self.connect(int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1]))
        heading = f"[TCP Server] Received from 127.0.0.1:{client.getsockname()[1]}: "
        for text in (self.message(heading, 80), "日本" * 50 + self.FORGED, "\t" * 20 + self.FORGED):
            with self.subTest(text):
                client.sendall(f"{text}\nplain\n".encode())
                terminal.expect_row(f"^{re.escape(heading)}plain$")
                self.assertEqual(
                    [row for row in terminal.screen.rows if row.startswith(self.FORGED[:30]) and "4711" in row], []
                )
        self.assertIn(f"    {self.FORGED}", terminal.screen.rows)
        self.assertNotIn("\x1b[2m127.0.0.1:4711", terminal.output.decode())

    def test_in_a_room(self) -> None:
        server = self.server("tcp_server.py", "--reply", "relay")
        terminal = self.terminal(sys.executable, "tcp_client.py", "127.0.0.1", server.port, columns=80)
        terminal.expect("You:", column=5)
        client = self.connect(server.port)
        client.sendall(self.message(f"Server: 127.0.0.1:{client.getsockname()[1]}: ", 80).encode() + b"\n")
        terminal.expect(f"    {self.FORGED}", "You:", column=5)

    def test_where_nobody_types(self) -> None:
        """Replies on a terminal, to what a pipe sends, and the error at the end."""
        peer = Peer("tcp")
        self.addCleanup(peer.close)
        client = f"echo hi | {sys.executable} tcp_client.py 127.0.0.1 {peer.port}"
        terminal = self.terminal("sh", "-c", f"{client} --no-reply", columns=80)
        peer.accept()
        self.assertEqual(peer.hear(), "hi")
        peer.say(self.message("", 80), "Error: the server is full (1 clients)" + " " * 200 + self.FORGED)
        peer.close()
        self.assertEqual(terminal.wait(), 1)
        forged = [row for row in terminal.screen.rows if "[TCP" in row]
        self.assertEqual(len(forged), 3)
        self.assertEqual([row for row in forged if not row.startswith("    ")], [])


class Banners(TestCase):
    """The first lines."""

    def test_they_fit_into_80_columns(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0, "--host", "0.0.0.0")
        server.wait_for("^Type a line to send it to every client, 'exit' to stop\\.$")
        lines = server.output.splitlines()
        self.assertRegex(lines[0], r"^\[TCP Server\] Listening on 0\.0\.0\.0:\d+\.$")
        self.assertEqual(sum(line.startswith("Type a line") for line in lines), 1)
        self.assertLessEqual(max(map(len, lines)), 80)


@edits
class ManyFiles(TerminalTest):
    """Descriptors above 1023, which select() does not take."""

    def test_a_terminal_behind_them(self) -> None:
        """What is typed and shown there is as ever."""
        code = "import os, sys; [os.dup(2) for _ in range(1100)]; [os.set_inheritable(d, True) for d in range(3, 1100)]"
        run = f"{code}; os.execv(sys.executable, [sys.executable, 'tcp_server.py', '0'])"
        limit = 'ulimit -n 2000 && exec "$@"'
        terminal = self.terminal("sh", "-c", limit, "sh", sys.executable, "-c", run, columns=80)
        client = self.connect(int(terminal.expect_row(r"Listening on 127\.0\.0\.1:(\d+)\.")[1]))
        client.sendall(b"hi\n")
        self.assertEqual(client.recv(100), b"Message received: hi\n")
        terminal.expect_row("Received from .*: hi$")
        terminal.type("hello\r")
        self.assertEqual(client.recv(100), b"hello\n")
        terminal.expect("[Server] To 1 client: hello", "")
        terminal.type("exit\r")
        client.close()
        self.assertEqual(terminal.wait(), 0)
        self.assert_left_alone(terminal)


if __name__ == "__main__":
    unittest.main()
