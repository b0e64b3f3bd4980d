"""Framing: what is a message, in however many pieces it arrives."""

from __future__ import annotations

import socket
import unittest

from support import Server, TestCase, receive_all, receive_lines

from common import CONFIRMATION, MAX_DATAGRAM, SHUTTING_DOWN
from text import without_ending


class TcpFraming(TestCase):
    """One message is one line."""

    def talk(self, sent: bytes, server: Server | None = None) -> bytes:
        """Send bytes to a server, a new one unless given, half-close, and return all that comes back."""
        raw = self.connect((server or self.server("tcp_server.py", "--quiet")).port)
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        return receive_all(raw)

    def test_a_line_in_many_pieces(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in "Grüße in vielen Stücken\r\nnext".encode():
            raw.sendall(bytes([byte]))
        self.assertEqual(raw.recv(1000), "Message received: Grüße in vielen Stücken\r\n".encode())
        raw.sendall(b" line\n")
        self.assertEqual(raw.recv(1000), b"Message received: next line\n")
        server.wait_for("Received from .*: Grüße in vielen Stücken$")

    def test_many_lines_in_one_piece(self) -> None:
        lines = [b"line %d" % number for number in range(5000)]
        expected = b"".join([CONFIRMATION + line + b"\n" for line in lines])
        self.assertEqual(self.talk(b"\n".join(lines) + b"\n"), expected)

    def test_a_reply_ends_as_its_line_did(self) -> None:
        replies = self.talk(b"lf\ncrlf\r\ncr\rinside\n\n\r\n")
        expected = (b"lf\n", b"crlf\r\n", b"cr\rinside\n", b"\n", b"\r\n")
        self.assertEqual(replies, b"".join([CONFIRMATION + line for line in expected]))

    def test_an_unfinished_last_line_counts(self) -> None:
        self.assertEqual(self.talk(b"one\nunfinished"), b"Message received: one\nMessage received: unfinished\n")

    def test_an_unfinished_word_counts(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.sendall(b"exit")
        raw.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(raw), SHUTTING_DOWN + b"\n")
        self.assertEqual(server.wait(), 0)

    def test_no_line_at_all(self) -> None:
        self.assertEqual(self.talk(b""), b"")

    def test_nul_and_bytes_that_are_not_utf8(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.sendall(b"\x00\xff\xfe\x80a\x00\n\xc3\n")
        self.assertEqual(receive_lines(raw, 2), [CONFIRMATION + b"\x00\xff\xfe\x80a\x00", CONFIRMATION + b"\xc3"])
        server.wait_for(r": \\x00\\xff\\xfe\\x80a\\x00\n.*: \\xc3$")

    def test_the_longest_message_and_a_byte_more(self) -> None:
        for longest in (65536, 10, 200000):
            limit = () if longest == 65536 else ("--max-message", longest)
            server = self.server("tcp_server.py", "--quiet", *limit)
            refusal = b"Error: message longer than %d bytes" % longest
            for ending in (b"\n", b"\r\n", b""):
                with self.subTest(longest=longest, ending=ending):
                    fits = b"x" * longest
                    self.assertEqual(self.talk(fits + ending, server), CONFIRMATION + fits + (ending or b"\n"))
                    replies = self.talk(b"fits\nx" + fits + ending + b"\nnot read\n", server)
                    self.assertIn(replies, [b"Message received: fits\n" + refusal + end for end in (b"\n", b"\r\n")])

    def test_a_line_without_end_is_refused_before_it_ends(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.sendall(bytes(100000))
        self.assertEqual(receive_all(raw), b"Error: message longer than 65536 bytes\n")
        raw.close()
        server.wait_for("Disconnected")
        self.assertEqual(server.output.count("longer than"), 1)
        other = self.connect(server.port)
        other.sendall(b"x\n")
        self.assertEqual(receive_lines(other, 1), [b"Message received: x"])

    def test_a_word_and_blanks_without_end_is_no_word(self) -> None:
        server = self.server("tcp_server.py")
        for word in (b"exit", b"terminate"):
            with self.subTest(word):
                raw = self.connect(server.port)
                raw.sendall(word + b" " * 70000)
                self.assertEqual(receive_all(raw), b"Error: message longer than 65536 bytes\n")
                self.assertEqual(self.talk(b"x\n", server), b"Message received: x\n")

    def test_a_client_takes_replies_in_any_pieces(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = self.client("tcp_client.py", "127.0.0.1", listener.getsockname()[1], "-m", "a", "-m", "b")
            connected, _ = listener.accept()
            with connected:
                self.assertEqual(receive_lines(connected, 2), [b"a", b"b"])
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in b"hello\nMessage received: a\nMessage received: b\n":
                    connected.sendall(bytes([byte]))
                self.assertEqual(client.wait(), 0)
        self.assertEqual(client.output, "hello\nMessage received: a\nMessage received: b\n")
        self.assertEqual(client.errors, "")

    def test_a_client_that_types_carriage_returns(self) -> None:
        server = self.server("tcp_server.py")
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, typed=b"one\r\n\r\nlast\r")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(
            client.raw_output, b"Message received: one\r\nMessage received: \r\nMessage received: last\r\n"
        )


class UdpFraming(TestCase):
    """One message is one datagram."""

    def test_a_datagram_is_a_message_and_its_reply_ends_alike(self) -> None:
        server = self.server("udp_server.py")
        raw = self.datagrams(server.port)
        for datagram in (b"a", b"b\n", b"c\r\n", b"\n", b"two\nlines\n", b"\x00\xff\n", b"d\n\n"):
            with self.subTest(datagram):
                raw.send(datagram)
                self.assertEqual(raw.recv(1000), CONFIRMATION + datagram)
        server.wait_for(r"Received from .*: two\\nlines$")
        server.wait_for(r"Received from .*: \\x00\\xff$")

    def test_words_with_and_without_line_ending(self) -> None:
        for word in (b"exit", b"exit\n", b" exit \r\n"):
            with self.subTest(word):
                server = self.server("udp_server.py")
                raw = self.datagrams(server.port)
                raw.send(word)
                ending = word[len(without_ending(word)) :]
                self.assertEqual(raw.recv(100), SHUTTING_DOWN + ending)
                self.assertEqual(server.wait(), 0)

    def test_a_word_as_long_as_a_message(self) -> None:
        server = self.server("udp_server.py", "--max-message", 9)
        self.datagrams(server.port).send(b"terminate\r\n")
        server.wait_for("Forgot")

    def test_the_longest_message_and_a_byte_more(self) -> None:
        server = self.server("udp_server.py", "--max-message", 10)
        raw = self.datagrams(server.port)
        for ending in (b"", b"\n", b"\r\n"):
            with self.subTest(ending):
                raw.send(b"x" * 10 + ending)
                self.assertEqual(raw.recv(1000), CONFIRMATION + b"x" * 10 + ending)
                raw.send(b"x" * 11 + ending)
                self.assertEqual(raw.recv(1000), b"Error: message longer than 10 bytes" + ending)

    def test_the_largest_datagram(self) -> None:
        server = self.server("udp_server.py", "--quiet")
        raw = self.datagrams(server.port)
        largest = bytes(MAX_DATAGRAM)
        raw.send(largest)
        self.assertEqual(raw.recv(1 << 17), (CONFIRMATION + largest)[:MAX_DATAGRAM])

    def test_a_client_sends_what_fits_into_a_datagram_and_refuses_a_byte_more(self) -> None:
        server = self.server("udp_server.py", "--quiet")
        fits, too_long = b"x" * MAX_DATAGRAM, b"x" * (MAX_DATAGRAM + 1)
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed=fits + b"\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed=b"a\n" + too_long + b"\nb\n")
        self.assert_one_line_error(client, r"65508 bytes was not sent.*65507")
        self.assertEqual(sorted(client.output.splitlines()), ["Message received: a", "Message received: b"])


if __name__ == "__main__":
    unittest.main()
