"""Framing: what is a message, in however many pieces it arrives; and the protocol's logic, without a socket."""

from __future__ import annotations

import argparse
import random
import socket
import time
import unittest

from support import Server, TestCase, receive_all, receive_lines

import common
import common_client
import common_server
import udp_client
from common import CONFIRMATION, SHUTTING_DOWN, split_lines, visible, without_ending


class SplitLines(unittest.TestCase):
    """`common.split_lines` finds the lines of a stream."""

    def test_any_cut_gives_the_same_lines(self) -> None:
        chance = random.Random(1)
        for _ in range(300):
            stream = bytes(chance.choices(b"\n\nab\r\x00\xff", k=chance.randrange(60)))
            cuts = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(8)))
            lines: list[bytes] = []
            unfinished: bytes | bytearray = b""
            for start, end in zip([0, *cuts], [*cuts, len(stream)]):
                found, unfinished = split_lines(unfinished, stream[start:end])
                lines += found
            self.assertEqual([*lines, unfinished], stream.split(b"\n"))

    def test_lines_are_bytes(self) -> None:
        _, unfinished = split_lines(b"", b"a")
        lines, _ = split_lines(unfinished, b"b\nc\n")
        self.assertEqual([type(line) for line in lines], [bytes, bytes])

    def test_an_unfinished_line_grows_in_place(self) -> None:
        _, unfinished = split_lines(b"", b"x")
        for _ in range(1000):
            lines, grown = split_lines(unfinished, b"x")
            self.assertIs(grown, unfinished, "copying it for each piece would cost O(n^2)")
            self.assertEqual(lines, [])
        self.assertEqual(len(unfinished), 1001)


class Texts(unittest.TestCase):
    """What is done to a message before it is compared or shown."""

    def test_one_line_ending_is_removed(self) -> None:
        for message, text in (
            (b"", b""),
            (b"a", b"a"),
            (b"a\n", b"a"),
            (b"a\r\n", b"a"),
            (b"a\r", b"a"),
            (b"a\n\n", b"a\n"),
            (b"a\r\r\n", b"a\r"),
            (b"\n", b""),
            (b"\r\n", b""),
            (b"a \t\n", b"a \t"),
            (b"a\nb", b"a\nb"),
        ):
            with self.subTest(message):
                self.assertEqual(without_ending(message), text)

    def test_what_could_harm_a_terminal_is_shown_escaped(self) -> None:
        for text, shown in (
            (b"\x1b[2J", r"\x1b[2J"),
            (b"a\rb\nc\td\x00\x07\x08\x7f", r"a\rb\nc\td\x00\x07\x08\x7f"),
            ("\x85\x9b31m".encode(), r"\x85\x9b31m"),
            ("\u2028\u2029".encode(), r"\u2028\u2029"),
            ("\u202eevil\u2066".encode(), r"\u202eevil\u2066"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            ("\ud800", r"\ud800"),
        ):
            with self.subTest(text):
                self.assertEqual(visible(text), shown)

    def test_what_people_write_is_shown_as_it_is(self) -> None:
        for text in ("", "Hello server!", "Grüße, 你好, привет", "مرحبا", "👩\u200d💻", "a\u00a0b", "back\\slash"):
            with self.subTest(text):
                self.assertEqual(visible(text.encode()), text)

    def test_what_could_harm_a_terminal_costs_little_more_to_show(self) -> None:
        def cost(text: bytes) -> float:
            best = float("inf")
            for _ in range(5):
                start = time.process_time()
                for _ in range(3):
                    visible(text)
                best = min(best, time.process_time() - start)
            return best

        self.assertLess(cost(b"\x01" * 65000) / cost("ü".encode() * 32500), 80)

    def test_addresses_as_people_write_them(self) -> None:
        for address, shown in (
            (("127.0.0.1", 9000), "127.0.0.1:9000"),
            (("::1", 9000, 0, 0), "[::1]:9000"),
            (("::ffff:192.0.2.1", 9000, 0, 0), "192.0.2.1:9000"),
            (("::ffff:1", 9000, 0, 0), "[::ffff:1]:9000"),
        ):
            with self.subTest(address):
                self.assertEqual(common.show_address(address), shown)


class FakePeer(common_server.Peer):
    """A peer without a socket, who remembers what was done to it."""

    def __init__(self, name: str, local: bool = True, overlong_ends: bool = False) -> None:
        super().__init__(name)
        self.local = local
        self.overlong_ends = overlong_ends
        self.events: list[object] = []

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        self.events += [start + reply for reply in replies]

    def tell(self, lines: list[bytes]) -> None:
        assert lines, "a transport would send an empty line"
        self.events += [("told", line) for line in lines]

    def end(self) -> None:
        self.events.append("end")

    def is_local(self) -> bool:
        return self.local


class FakeTransport:
    """A transport without sockets."""

    protocol = "FAKE"

    def __init__(self, *peers: FakePeer) -> None:
        self.present = peers
        self.is_stopped = False

    def peers(self) -> tuple[FakePeer, ...]:
        return self.present

    def stop(self) -> None:
        self.is_stopped = True


class FakeRecord:
    """A record in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line = self.lines.append

    def messages(self, start: bytes, messages: list[bytes]) -> None:
        """Note messages."""
        self.lines += [visible(start + message) for message in messages]


def service_with(*arguments: str, peers: int = 2, **peer_options: bool) -> tuple[common_server.Service, list[FakePeer]]:
    """Return a service as the command line's `arguments` make it, and its peers."""
    parser = common.Parser("", "")
    common_server.add_arguments(parser, most=1 << 20, longest=65536)
    options: argparse.Namespace = parser.parse_args(["0", *arguments])
    service = common_server.Service(options, FakeRecord())  # type: ignore[arg-type]
    present = [FakePeer(f"peer-{number}", **peer_options) for number in range(peers)]
    service.transports.append(FakeTransport(*present))  # type: ignore[arg-type]
    return service, present


def shown(service: common_server.Service) -> list[str]:
    """Return what a service showed."""
    lines: list[str] = service.record.lines  # type: ignore[attr-defined]
    return lines


class Decisions(unittest.TestCase):
    """`common_server.Service` decides what a message is, and who gets what."""

    def test_nothing_is_answered_before_the_end_of_the_pass(self) -> None:
        service, (peer, _) = service_with()
        service.receive(peer, [b"one", b"two"])
        self.assertEqual((peer.events, shown(service)), ([], []))
        service.finish_pass()
        self.assertEqual(peer.events, [CONFIRMATION + b"one", CONFIRMATION + b"two"])
        self.assertEqual(len(shown(service)), 2)
        service.finish_pass()
        self.assertEqual(len(peer.events), 2, "each is answered once")

    def test_replies_end_as_their_messages_did(self) -> None:
        service, (peer, _) = service_with("--max-message", "4")
        service.receive(peer, [b"a", b"b\n", b"c\r\n", b"too long\r\n", b"exit\r\n"])
        service.finish_pass()
        self.assertEqual(
            peer.events[:5],
            [
                CONFIRMATION + b"a",
                CONFIRMATION + b"b\n",
                CONFIRMATION + b"c\r\n",
                b"Error: message longer than 4 bytes\r\n",
                SHUTTING_DOWN + b"\r\n",
            ],
        )

    def test_who_gets_what(self) -> None:
        for reply, sender, other in (
            ("confirm", [CONFIRMATION + b"hi\n"], []),
            ("echo", [b"hi\n"], []),
            ("relay", [CONFIRMATION + b"hi\n"], [("told", b"peer-0: hi")]),
            ("none", [], []),
        ):
            with self.subTest(reply):
                service, peers = service_with("--reply", reply)
                service.receive(peers[0], [b"hi\n"])
                service.finish_pass()
                self.assertEqual([peer.events for peer in peers], [sender, other])

    def test_a_word_is_a_word_only_if_it_is_the_whole_message(self) -> None:
        for word in (b"exit", b" exit\t", b"exit\r\n", b"\texit \n"):
            with self.subTest(word):
                service, (peer, _) = service_with()
                service.receive(peer, [word])
                service.finish_pass()
                self.assertTrue(service.stopping)
        for text in (b"Exit", b"EXIT", b"exit now", b"'exit'", b"exit.", b"exit\x00", b"terminates", b"Terminate", b""):
            with self.subTest(text):
                service, (peer, _) = service_with()
                service.receive(peer, [text])
                service.finish_pass()
                self.assertEqual(peer.events, [CONFIRMATION + text])
                self.assertFalse(service.stopping)

    def test_terminate_ends_the_conversation_after_its_replies(self) -> None:
        service, (peer, other) = service_with()
        service.receive(peer, [b"last words", b" terminate\r", b"too late"])
        service.finish_pass()
        self.assertEqual(peer.events, [CONFIRMATION + b"last words", "end"])
        self.assertEqual(other.events, [])

    def test_exit_tells_everybody_and_stops(self) -> None:
        service, (peer, other) = service_with()
        service.receive(other, [b"me too"])
        service.receive(peer, [b"last words", b"exit"])
        service.finish_pass()
        self.assertEqual(peer.events, [CONFIRMATION + b"last words", SHUTTING_DOWN], "told once")
        self.assertEqual(other.events, [CONFIRMATION + b"me too", ("told", SHUTTING_DOWN)])
        self.assertTrue(service.transports[0].is_stopped)  # type: ignore[attr-defined]

    def test_whose_exit_is_obeyed(self) -> None:
        for exit_from, local, obeyed in (
            ("local", True, True),
            ("local", False, False),
            ("anyone", False, True),
            ("nobody", True, False),
        ):
            with self.subTest(exit_from=exit_from, local=local):
                service, (peer, other) = service_with("--exit-from", exit_from, local=local)
                service.receive(peer, [b"exit\n", b"go on\n"])
                service.finish_pass()
                self.assertEqual(service.stopping, obeyed)
                if not obeyed:
                    refusal = b"Error: 'exit' is not obeyed from peer-0\n"
                    self.assertEqual(peer.events, [refusal, CONFIRMATION + b"go on\n"])
                    self.assertEqual(other.events, [])

    def test_the_longest_message(self) -> None:
        for message, taken in ((b"12345", True), (b"12345\r\n", True), (b"123456", False), (b"123456\n", False)):
            for overlong_ends in (False, True):
                with self.subTest(message, overlong_ends=overlong_ends):
                    service, (peer, _) = service_with("--max-message", "5", overlong_ends=overlong_ends)
                    service.receive(peer, [message, b"next"])
                    service.finish_pass()
                    after: list[object] = ["end"] if overlong_ends and not taken else [CONFIRMATION + b"next"]
                    ending = message[len(without_ending(message)) :]
                    reply = CONFIRMATION + message if taken else b"Error: message longer than 5 bytes" + ending
                    self.assertEqual(peer.events, [reply, *after])

    def test_a_word_has_to_fit_like_any_message(self) -> None:
        service, (peer, _) = service_with("--max-message", "3", "--reply", "echo")
        service.receive(peer, [b"exit"])
        service.finish_pass()
        self.assertTrue(service.stopping, "the protocol's words are no messages")

    def test_a_line_typed_at_the_server_goes_to_everybody_as_it_is(self) -> None:
        service, peers = service_with()
        service.type_line(b" Hi \xff there ")
        self.assertEqual([peer.events for peer in peers], 2 * [[("told", b" Hi \xff there ")]])
        service.type_line(b"terminate")
        self.assertFalse(service.stopping, "the person at the server has only 'exit'")

    def test_exit_typed_at_the_server(self) -> None:
        service, peers = service_with("--exit-from", "nobody")
        service.type_line(b" exit ")
        self.assertFalse(service.stopping, "what came in this pass is answered first")
        service.finish_pass()
        self.assertTrue(service.stopping)
        self.assertEqual([peer.events for peer in peers], 2 * [[("told", SHUTTING_DOWN)]])

    def test_who_speaks_to_a_stopping_server_is_told(self) -> None:
        service, (peer, _) = service_with()
        service.stop()
        peer.events.clear()
        service.receive(peer, [b"anybody?\r\n", b"no?"])
        self.assertEqual(peer.events, [SHUTTING_DOWN + b"\r\n", SHUTTING_DOWN])

    def test_in_a_room_all_who_speak_in_one_pass_hear_each_other(self) -> None:
        service, peers = service_with("--reply", "relay", peers=3)
        service.receive(peers[0], [b"a\n", b"b\r\n"])
        service.receive(peers[1], [b"c"])
        service.finish_pass()
        self.assertEqual(peers[0].events, [CONFIRMATION + b"a\n", CONFIRMATION + b"b\r\n", ("told", b"peer-1: c")])
        self.assertEqual(peers[1].events, [CONFIRMATION + b"c", ("told", b"peer-0: a"), ("told", b"peer-0: b")])
        said = [b"peer-0: a", b"peer-0: b", b"peer-1: c"]
        self.assertEqual(peers[2].events, [("told", line) for line in said])

    def test_words_and_refused_messages_are_not_relayed(self) -> None:
        service, (peer, other) = service_with("--reply", "relay", "--max-message", "9", "--exit-from", "nobody")
        service.receive(peer, [b"exit", b"far too long", b"terminate"])
        service.finish_pass()
        self.assertEqual(other.events, [])
        service.receive(other, [b"exit"])
        service.finish_pass()
        self.assertEqual(peer.events[-1], "end")

    def test_what_is_shown_can_not_be_forged(self) -> None:
        service, (peer, _) = service_with()
        service.receive(peer, [b"x\n[TCP Server] Connected by 192.0.2.1:1", b"\x1b[2J\x00\xff"])
        service.finish_pass()
        start = "[? Server] Received from peer-0: "
        self.assertEqual(
            shown(service), [start + r"x\n[TCP Server] Connected by 192.0.2.1:1", start + r"\x1b[2J\x00\xff"]
        )


class Accounts(unittest.TestCase):
    """`common_client.Ledger` knows which messages are answered."""

    def test_confirmations_and_echoes_in_any_order(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"a", b"b", b"c"], 10.0)
        self.assertEqual((ledger.sent, ledger.waiting, ledger.due, ledger.waiting_bytes), (3, 3, 3, 3))
        ledger.take([CONFIRMATION + b"c", b"a"], 10.5)
        self.assertEqual((ledger.confirmed, ledger.waiting, ledger.waiting_bytes), (2, 1, 1))
        ledger.take([CONFIRMATION + b"b"], 12.0)
        self.assertEqual((ledger.confirmed, ledger.waiting, ledger.oldest()), (3, 0, float("inf")))
        self.assertEqual((ledger.shortest_time, ledger.longest_time, ledger.total_time), (0.5, 2.0, 3.0))

    def test_equal_messages_need_a_reply_each(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"same", b"same", b""], 0.0)
        ledger.take([CONFIRMATION + b"same"], 1.0)
        self.assertEqual(ledger.waiting, 2)
        ledger.take([CONFIRMATION + b"same", CONFIRMATION, CONFIRMATION + b"same"], 1.0)
        self.assertEqual((ledger.waiting, ledger.confirmed, ledger.waiting_bytes), (0, 3, 0))

    def test_other_lines_confirm_nothing(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"hello"], 0.0)
        ledger.take(
            [b"Hi there!", b"127.0.0.1:9: hello", b"Message received: hell", b"", b"message received: hello"], 1.0
        )
        self.assertEqual((ledger.confirmed, ledger.due), (0, 1))

    def test_a_refusal_ends_the_wait_but_confirms_nothing(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"good", b"far too long"], 0.0)
        ledger.take([b"Error: message longer than 9 bytes"], 1.0)
        self.assertEqual((ledger.due, ledger.waiting, ledger.confirmed), (1, 2, 0))
        ledger.take([CONFIRMATION + b"good"], 1.0)
        self.assertEqual((ledger.due, ledger.give_up(float("inf"))), (0, [b"far too long"]))

    def test_an_echoed_confirmation_is_an_echo(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([CONFIRMATION + b"x", b"x"], 0.0)
        ledger.take([CONFIRMATION + b"x"], 1.0)  # what an echo server says to the first of them
        self.assertEqual(ledger.give_up(float("inf")), [b"x"])

    def test_giving_up_what_is_late(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"early"], 1.0)
        ledger.add([b"late"], 2.0)
        self.assertEqual(ledger.oldest(), 1.0)
        self.assertEqual(ledger.give_up(1.5), [b"early"])
        self.assertEqual((ledger.oldest(), ledger.waiting, ledger.waiting_bytes), (2.0, 1, 4))
        ledger.take([CONFIRMATION + b"early"], 3.0)
        self.assertEqual((ledger.confirmed, ledger.waiting), (0, 1), "it counts as lost")

    def test_a_refused_message_that_is_given_up(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"refused"], 1.0)
        ledger.take([b"Error: the message could not be saved"], 1.1)
        ledger.add([b"other"], 2.0)
        self.assertEqual(ledger.give_up(1.5), [b"refused"])
        self.assertEqual(ledger.due, 1, "the refusal was not for the other")

    def test_equal_messages_are_late_one_by_one(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"same"], 1.0)
        ledger.add([b"same"], 2.0)
        self.assertEqual(ledger.retry(1.5, 3.0, 9), [b"same"])
        self.assertEqual(ledger.oldest(), 2.0, "the second was sent before the first was sent again")

    def test_a_confirmation_cut_to_the_size_of_a_datagram(self) -> None:
        for size in range(common.MAX_DATAGRAM - len(CONFIRMATION) - 2, common.MAX_DATAGRAM - len(CONFIRMATION) + 3):
            for line_end in (b"", b"\r", b"\n", b"\r\n"):
                ledger = common_client.Ledger(udp_client.repeated)
                message = bytes(size - len(line_end)) + line_end
                ledger.add([message], 0.0)
                ledger.take([(CONFIRMATION + message)[: common.MAX_DATAGRAM]], 1.0)
                self.assertEqual((ledger.confirmed, ledger.waiting), (1, 0), (size, line_end))

    def test_a_datagram_and_its_reply_may_end_otherwise(self) -> None:
        for message in (b"a", b"a\r", b"a\n", b"a\r\n"):
            for reply in (b"a", b"a\n", b"a\r\n"):
                for start in (b"", CONFIRMATION):
                    ledger = common_client.Ledger(udp_client.repeated)
                    ledger.add([message], 0.0)
                    ledger.take([start + reply], 1.0)
                    self.assertEqual(ledger.confirmed, 1, (message, start + reply))

    def test_round_trips_begin_again_on_another_connection(self) -> None:
        ledger = common_client.Ledger()
        ledger.add([b"a"], 1.0)
        self.assertEqual(ledger.send_again(5.0), [b"a"])
        ledger.take([CONFIRMATION + b"a"], 5.5)
        self.assertEqual((ledger.shortest_time, ledger.longest_time), (0.5, 0.5))

    def test_the_summary(self) -> None:
        ledgers = [common_client.Ledger(), common_client.Ledger()]
        ledgers[0].add([b"a", b"b"], 0.0)
        ledgers[1].add([b"c"], 0.0)
        self.assertEqual(common_client.summary(ledgers, no_reply=False), "3 sent, 0 confirmed, 3 lost")
        self.assertEqual(common_client.summary(ledgers, no_reply=True), "3 sent, no replies expected")
        ledgers[0].take([CONFIRMATION + b"a"], 0.001)
        ledgers[1].take([CONFIRMATION + b"c"], 0.003)
        times = "round trip min/avg/max 1.00/2.00/3.00 ms"
        self.assertEqual(common_client.summary(ledgers, no_reply=False), f"3 sent, 2 confirmed, 1 lost; {times}")


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
        for datagram in (b"a", b"b\n", b"c\r\n", b"", b"\n", b"two\nlines\n", b"\x00\xff\n", b"d\n\n"):
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
        largest = bytes(common.MAX_DATAGRAM)
        raw.send(largest)
        self.assertEqual(raw.recv(1 << 17), (CONFIRMATION + largest)[: common.MAX_DATAGRAM])

    def test_a_client_sends_what_fits_into_a_datagram_and_refuses_a_byte_more(self) -> None:
        server = self.server("udp_server.py", "--quiet")
        fits, too_long = b"x" * common.MAX_DATAGRAM, b"x" * (common.MAX_DATAGRAM + 1)
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed=fits + b"\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed=b"a\n" + too_long + b"\nb\n")
        self.assert_one_line_error(client, r"65508 bytes was not sent.*65507")
        self.assertEqual(sorted(client.output.splitlines()), ["Message received: a", "Message received: b"])


if __name__ == "__main__":
    unittest.main()
