"""The service: what a message is, who gets what, and how a server stops, without a socket."""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import unittest
from typing import Callable
from unittest import mock

import support  # noqa: F401  # which makes the rooms importable

import common
import serving
from common import CONFIRMATION, NOT_SAVED, SHUTTING_DOWN
from console import Console
from gate import Gate
from peer import Peer
from service import MESSAGE_COST, Service, Stage
from text import visible, without_ending


class FakePeer(Peer):
    """A peer without a socket, who remembers what was done to it."""

    def __init__(self, name: str, local: bool = True, ends_for_good: bool = False) -> None:
        self.rename(name)
        self.local = local
        self.ends_for_good = ends_for_good
        self.events: list[object] = []
        self.broken: Exception | None = None
        self.heard = 0

    def send(self, replies: list[bytes], start: bytes = b"") -> None:
        if self.broken:
            raise self.broken
        self.events += [start + reply for reply in replies]

    def tell(self, lines: list[bytes]) -> None:
        assert lines, "a transport would send an empty line"
        if self.broken:
            raise self.broken
        self.events += [("told", line) for line in lines]

    hear = tell

    def end(self) -> None:
        self.events.append("end")

    def close(self, why: str) -> None:
        self.events.append(("closed", why))

    def is_local(self) -> bool:
        return self.local


def type_line(service: Service, line: bytes) -> None:
    """Type a line at a server."""
    Console(mock.Mock(), service, mock.Mock()).take(line)


class FakeTransport:
    """A transport without sockets."""

    protocol = "FAKE"

    def __init__(self, *peers: FakePeer) -> None:
        self.present = peers
        self.stops = 0

    def peers(self) -> tuple[FakePeer, ...]:
        return self.present

    def stop(self) -> None:
        self.stops += 1

    def is_stopped(self) -> bool:
        return self.stops > 0


class FakeRecord:
    """A record in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: list[Exception] = []
        self.fault = self.faults.append

    def line(self, event: str, name: str = "", rest: str = "", **_: bool) -> None:
        """Note an event."""
        self.lines.append(event + name + rest)

    def heading(self, event: str, name: str, end: str = "") -> bytes:
        """Return the start of a line."""
        return f"{event}{name}{end}".encode()

    def repeatable(
        self, _kind: str, _subject: str, event: str, name: str = "", rest: bytes | str = "", **_: object
    ) -> None:
        """Note an event that a peer can repeat."""
        self.lines.append(event + name + visible(rest))

    def messages(self, start: bytes, messages: list[bytes], is_harmless: bool) -> None:
        """Note messages."""
        self.lines += [(start + message).decode() if is_harmless else visible(start + message) for message in messages]

    def is_harmless(self, text: bytes) -> bool:
        """Tell whether text needs no escapes."""
        return visible(text).encode() == text


class FakeArchive:
    """An archive in memory."""

    def __init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.is_full = False

    def save(self, rows: list[tuple[object, ...]], done: Callable[[bool], None]) -> None:
        """Keep rows, if there is room."""
        if not self.is_full:
            self.rows += rows
        done(not self.is_full)


def service_with(
    *arguments: str, peers: int = 2, archive: FakeArchive | None = None, **peer_options: bool
) -> tuple[Service, list[FakePeer]]:
    """Return a service as the command line's `arguments` make it, and its peers."""
    parser = common.Parser("", "")
    serving.add_arguments(parser, 65432, most=1 << 20, longest=65536)
    options: argparse.Namespace = parser.parse_args(["0", *arguments])
    service = Service(options, FakeRecord(), archive)  # type: ignore[arg-type]
    present = [FakePeer(f"peer-{number}", **peer_options) for number in range(peers)]
    service.transports.append(FakeTransport(*present))  # type: ignore[arg-type]
    return service, present


def shown(service: Service) -> list[str]:
    """Return what a service showed."""
    lines: list[str] = service.record.lines  # type: ignore[attr-defined]
    return lines


def is_stopping(service: Service) -> bool:
    """Tell whether a service stops."""
    return service.stage is Stage.STOPPING


class Decisions(unittest.TestCase):
    """`service.Service` decides what a message is, and who gets what."""

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
                self.assertTrue(is_stopping(service))
        for text in (b"Exit", b"EXIT", b"exit now", b"'exit'", b"exit.", b"exit\x00", b"terminates", b"Terminate", b""):
            with self.subTest(text):
                service, (peer, _) = service_with()
                service.receive(peer, [text])
                service.finish_pass()
                self.assertEqual(peer.events, [CONFIRMATION + text])
                self.assertFalse(is_stopping(service))

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
        self.assertTrue(service.transports[0].is_stopped())

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
                self.assertEqual(is_stopping(service), obeyed)
                if not obeyed:
                    refusal = b"Error: 'exit' is not obeyed from peer-0\n"
                    self.assertEqual(peer.events, [refusal, CONFIRMATION + b"go on\n"])
                    self.assertEqual(other.events, [])

    def test_the_longest_message(self) -> None:
        for message, taken in ((b"12345", True), (b"12345\r\n", True), (b"123456", False), (b"123456\n", False)):
            for ends_for_good in (False, True):
                with self.subTest(message, ends_for_good=ends_for_good):
                    service, (peer, _) = service_with("--max-message", "5", ends_for_good=ends_for_good)
                    service.receive(peer, [message, b"next"])
                    service.finish_pass()
                    after: list[object] = ["end"] if ends_for_good and not taken else [CONFIRMATION + b"next"]
                    ending = message[len(without_ending(message)) :]
                    reply = CONFIRMATION + message if taken else b"Error: message longer than 5 bytes" + ending
                    self.assertEqual(peer.events, [reply, *after])

    def test_a_word_has_to_fit_like_any_message(self) -> None:
        service, (peer, _) = service_with("--max-message", "3", "--reply", "echo")
        service.receive(peer, [b"exit"])
        service.finish_pass()
        self.assertTrue(is_stopping(service), "the protocol's words are no messages")

    def test_a_line_typed_at_the_server_goes_to_everybody_as_it_is(self) -> None:
        service, peers = service_with()
        type_line(service, b" Hi \xff there ")
        self.assertEqual([peer.events for peer in peers], 2 * [[("told", b" Hi \xff there ")]])
        type_line(service, b"terminate")
        self.assertFalse(is_stopping(service), "the person at the server has only 'exit'")

    def test_exit_typed_at_the_server(self) -> None:
        service, peers = service_with("--exit-from", "nobody")
        type_line(service, b" exit ")
        self.assertFalse(is_stopping(service), "what came in this pass is answered first")
        service.finish_pass()
        self.assertTrue(is_stopping(service))
        self.assertEqual([peer.events for peer in peers], 2 * [[("told", SHUTTING_DOWN)]])

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

    def test_a_word_inside_a_text_is_text(self) -> None:
        """Also where one message ends and the next begins so that they seem to hold it."""
        for messages in ([b"do not exit"], [b"terminate it", b"x"], [b"ex", b"it"], [b"exit", b"now"]):
            with self.subTest(messages):
                service, (peer, _) = service_with("--exit-from", "nobody", "--reply", "echo")
                service.receive(peer, messages)
                service.finish_pass()
                refusal = b"Error: 'exit' is not obeyed from peer-0"
                self.assertEqual(peer.events, [refusal if message == b"exit" else message for message in messages])

    def test_what_follows_an_end_for_good_counts_for_nothing(self) -> None:
        """On a stream, also when it comes later in the same pass; a datagram begins another conversation."""
        for last in (b"terminate", b"too long"):
            for ends_for_good in (False, True):
                with self.subTest(last, ends_for_good=ends_for_good):
                    service, (peer, other) = service_with("--max-message", "5", ends_for_good=ends_for_good)
                    service.receive(peer, [last])
                    service.receive(other, [b"hello"])
                    service.receive(peer, [b"late"])
                    service.leave(peer)  # as at the end of a stream
                    service.finish_pass()
                    self.assertEqual(CONFIRMATION + b"late" in peer.events, not ends_for_good)
                    self.assertEqual(peer.events[-1], "end")
                    self.assertEqual(peer.events.count("end"), 1)
                    self.assertEqual(other.events, [CONFIRMATION + b"hello"])
                    service.receive(peer, [b"anew"])
                    service.finish_pass()
                    self.assertEqual(peer.events[-1], CONFIRMATION + b"anew", "nothing is left of the pass before")

    def test_the_end_of_a_stream_takes_nothing_from_what_was_said(self) -> None:
        service, (peer, _) = service_with("--max-message", "5", ends_for_good=True)
        service.receive(peer, [b"one"])
        service.leave(peer)
        service.receive(peer, [b"two"])
        service.receive(peer, [b"too long"])
        service.finish_pass()
        self.assertEqual(len(peer.events), 4)
        self.assertEqual(peer.events[-1], "end")

    def test_a_word_of_one_does_not_cut_up_what_others_say(self) -> None:
        """Their messages are answered in one go, as ever."""
        for word in (b"terminate", b"exit", b"far too long"):
            service, (peer, other) = service_with("--exit-from", "nobody", "--max-message", "9")
            with mock.patch.object(FakePeer, "send", autospec=True) as send:
                service.receive(peer, [word])
                service.receive(other, [b"one", b"two"])
                service.finish_pass()
            self.assertEqual(send.call_args_list[-1], mock.call(other, [b"one", b"two"], CONFIRMATION))

    def test_a_word_among_long_messages(self) -> None:
        """Where messages are long, their text is not searched for words; they are found all the same."""
        for word in (b"exit", b" " * 2000 + b"exit" + b" " * 2000):
            for messages in (
                [b"x" * 60_000, word],
                [word, b"x" * 60_000],
                [b"exit" * 15_000, word, b"terminate" * 5000],
            ):
                with self.subTest(word, first=messages[0][:4]):
                    service, (peer, other) = service_with()
                    service.receive(other, [b"y" * 5000])
                    service.receive(peer, messages)
                    service.finish_pass()
                    self.assertTrue(is_stopping(service))
        service, (peer, _) = service_with()
        service.receive(peer, [b"exit" * 15_000])
        service.finish_pass()
        self.assertFalse(is_stopping(service))

    def test_what_a_pass_has_received(self) -> None:
        service, (peer, other) = service_with()
        service.receive(peer, [b"one", b"two"])
        service.receive(other, [b""])
        self.assertGreaterEqual(service.received_bytes, 6 + 3 * MESSAGE_COST)
        service.finish_pass()
        self.assertEqual(service.received_bytes, 0)

    def test_what_may_take_long_to_show_counts_twice(self) -> None:
        for messages, times in (
            ([b"x" * 2000], 1),
            ([b"x" * 20_000] * 3, 1),
            (["é".encode() * 1000], 2),
            ([b"\x01" * 40_000], 2),
        ):
            with self.subTest(messages[0][:4], size=len(messages[0])):
                service, (peer, _) = service_with()
                service.receive(peer, messages)
                text = len(b" ".join(messages))
                self.assertEqual(service.received_bytes, times * text + len(messages) * MESSAGE_COST)

    def test_quiet(self) -> None:
        service, (peer, _) = service_with("--quiet", "--max-message", "5")
        service.receive(peer, [b"hello", b"too long"])
        service.finish_pass()
        self.assertEqual(shown(service), ["[? Server] Sent to peer-0: Error: message longer than 5 bytes"])


class Saved(unittest.TestCase):
    """What is kept, and that nothing is confirmed before."""

    def test_what_is_kept(self) -> None:
        archive = FakeArchive()
        service, (peer, other) = service_with("--max-message", "9", archive=archive)
        type_line(service, b"typed")
        service.receive(peer, [b"one\r\n", b"far too long"])
        service.receive(other, [b"two", b"terminate"])
        self.assertEqual(archive.rows, [])
        service.finish_pass()
        self.assertEqual(
            archive.rows,
            [
                ("fake", "sent", "*", None, b"typed"),
                ("?", "received", "peer-0", None, b"one"),
                ("?", "received", "peer-1", None, b"two"),
            ],
        )

    def test_what_is_not_kept_is_not_confirmed_in_any_mode(self) -> None:
        for reply in ("confirm", "echo", "relay", "none"):
            with self.subTest(reply):
                archive = FakeArchive()
                archive.is_full = True
                service, (peer, other) = service_with("--reply", reply, archive=archive)
                service.receive(peer, [b"one\r\n", b"two"])
                service.finish_pass()
                self.assertEqual(peer.events, [NOT_SAVED + b"\r\n", NOT_SAVED])
                self.assertEqual(other.events, [], "nor told to others")
                archive.is_full = False
                service.receive(peer, [b"three"])
                service.finish_pass()
                self.assertEqual(peer.events.count(NOT_SAVED), 1)


class Stops(unittest.TestCase):
    """A server stops at the end of a pass, whoever wants it to."""

    def test_a_server_that_is_asked_twice_stops_once(self) -> None:
        """And tells each client once, except for who was told already."""
        ways = {
            "typed": lambda service, _: type_line(service, b"exit"),
            "said": lambda service, peer: service.receive(peer, [b"exit"]),
            "signal": lambda service, _: service.ask_to_stop("[Server] SIGTERM received."),
        }
        for first, second in itertools.product(ways, repeat=2):
            with self.subTest(first=first, second=second):
                service, (peer, other) = service_with()
                ways[first](service, peer)  # type: ignore[no-untyped-call]
                ways[second](service, peer)  # type: ignore[no-untyped-call]
                self.assertFalse(is_stopping(service))
                service.finish_pass()
                self.assertTrue(is_stopping(service))
                said = [first, second].count("said")
                self.assertEqual(peer.events, [SHUTTING_DOWN] * said or [("told", SHUTTING_DOWN)])
                self.assertEqual(other.events, [("told", SHUTTING_DOWN)])
                service.ask_to_stop("[Server] SIGINT received.")
                service.finish_pass()
                self.assertTrue(is_stopping(service))
                self.assertEqual(service.transports[0].stops, 1)  # type: ignore[attr-defined]
                self.assertEqual(len(other.events), 1)
                self.assertNotIn("SIGINT", "".join(shown(service)))

    def test_why_it_stops_is_shown(self) -> None:
        service, (peer, _) = service_with()
        type_line(service, b"exit")
        type_line(service, b"nobody hears this")
        service.receive(peer, [b"exit\n"])
        service.finish_pass()
        self.assertEqual(
            shown(service),
            [
                "[Server] Shutdown command typed. Stopping server...",
                "[? Server] Shutdown command received from peer-0. Stopping server...",
            ],
        )

    def test_what_is_typed_while_nobody_is_there(self) -> None:
        service, _ = service_with(peers=0)
        type_line(service, b"anybody?")
        said = ["[Server] To 0 clients: anybody?", "[Server] Nobody is there to read that."]
        self.assertEqual(shown(service), said)

    def test_what_is_typed_is_shown(self) -> None:
        for peers, start in ((1, "To 1 client: "), (2, "To 2 clients: ")):
            service, _ = service_with(peers=peers)
            type_line(service, "Grüße\x1b[2J".encode())
            self.assertEqual(shown(service), [f"[Server] {start}Grüße\\x1b[2J"])


class Faults(unittest.TestCase):
    """Whatever goes wrong with a peer ends with that peer."""

    def test_a_reply_that_can_not_be_sent(self) -> None:
        for error, why in (
            (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
            (ValueError("what nobody thought of"), "a fault in this server"),
        ):
            for reply in ("confirm", "relay"):
                with self.subTest(why, reply=reply):
                    service, (peer, other) = service_with("--reply", reply)
                    peer.broken = error
                    service.receive(peer, [b"one"])
                    service.receive(other, [b"two"])
                    service.finish_pass()
                    self.assertEqual(set(peer.events), {("closed", why)})
                    self.assertEqual(other.events[0], CONFIRMATION + b"two")
                    faults: list[Exception] = service.record.faults  # type: ignore[attr-defined]
                    self.assertEqual(set(faults), set() if isinstance(error, OSError) else {error})

    def test_a_word_that_can_not_be_understood(self) -> None:
        service, (peer, other) = service_with()
        with mock.patch.object(peer, "is_local", side_effect=OSError(24, "Too many open files")):
            service.receive(peer, [b"exit"])
            service.receive(other, [b"two"])
            service.finish_pass()
        self.assertEqual(peer.events, [("closed", "Too many open files")])
        self.assertEqual(other.events, [CONFIRMATION + b"two"])
        self.assertFalse(is_stopping(service))

    def test_a_line_that_is_typed(self) -> None:
        service, (peer, other) = service_with()
        peer.broken = BrokenPipeError(32, "Broken pipe")
        type_line(service, b"hello")
        self.assertEqual(peer.events, [("closed", "Broken pipe")])
        self.assertEqual(other.events, [("told", b"hello")])


class Gates(unittest.TestCase):
    """The gate, without sockets."""

    def gate(self, *networks: str) -> tuple[Gate, list[str]]:
        """Return a gate, and the list of lines that it writes into."""
        record = FakeRecord()
        allowed = [ipaddress.ip_network(network) for network in networks]
        return Gate(allowed, record), record.lines  # type: ignore[arg-type]

    def test_without_a_list_everybody_comes_in(self) -> None:
        gate, lines = self.gate()
        for host in ("127.0.0.1", "::1", "fe80::1%eth0", "203.0.113.7"):
            self.assertTrue(gate.check(host), host)
        self.assertEqual(lines, [])

    def test_the_edges_of_a_network(self) -> None:
        gate, _ = self.gate("192.168.4.0/22", "2001:db8::/33", "fe80::/10")
        for host in ("192.168.4.0", "192.168.7.255", "2001:db8:7fff::1", "fe80::1", "fe80::1%eth0"):
            self.assertTrue(gate.check(host), host)
        for host in ("192.168.3.255", "192.168.8.0", "2001:db8:8000::1", "::ffff:192.168.4.1", "::1"):
            self.assertFalse(gate.check(host), host)

    def test_only_networks_are_taken(self) -> None:
        self.assertEqual(serving.network("10.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))
        self.assertEqual(serving.network("::1"), ipaddress.ip_network("::1/128"))
        with self.assertRaisesRegex(argparse.ArgumentTypeError, "host bits"):
            serving.network("10.0.0.1/8")


if __name__ == "__main__":
    unittest.main()
