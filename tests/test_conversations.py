"""The six conversations that the scripts are for, each held by the real scripts."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import unittest

from support import Server, TestCase, free_port, receive_all, receive_lines, wait_until

SCRIPTS = {"TCP": ("tcp_server.py", "tcp_client.py"), "UDP": ("udp_server.py", "udp_client.py")}
ADDRESS = r"127\.0\.0\.1:\d+"


class ConfirmedMessages(TestCase):
    """A client types, the server shows and confirms, `terminate` ends the client and `exit` the server."""

    def test_each_typed_line_is_shown_with_its_sender_and_confirmed(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script)
                client = self.client(client_script, "127.0.0.1", server.port)
                for text in ("Hello server!", "Grüße, 你好", ""):
                    client.type(f"{text}\n")
                    client.wait_for(rf"^Message received: {text}\n\Z")
                    server.wait_for(rf"^\[{protocol} Server\] Received from {ADDRESS}: {text}$")
                client.type("terminate\n")
                self.assertEqual(client.wait(), 0)
                self.assertEqual(client.errors, "")
                self.assertEqual(client.output.count("\n"), 3, "'terminate' gets no reply")

    def test_terminate_closes_that_tcp_connection_and_no_other(self) -> None:
        server = self.server("tcp_server.py")
        staying = self.connect(server.port)
        leaving = self.client("tcp_client.py", "127.0.0.1", server.port)
        leaving.type("bye\n")
        name = server.wait_for(rf"Received from ({ADDRESS}): bye")[1]
        leaving.type("terminate\n")
        self.assertEqual(leaving.wait(), 0)
        server.wait_for(rf"^\[TCP Server\] Disconnected: {re.escape(name)}$")
        staying.sendall(b"still here\n")
        self.assertEqual(receive_lines(staying, 1), [b"Message received: still here"])
        self.assertIsNone(server.popen.poll())

    def test_terminate_makes_the_server_close(self) -> None:
        server = self.server("tcp_server.py")
        raw = self.connect(server.port)
        raw.sendall(b"one\n terminate \r\ntwo\n")
        self.assertEqual(receive_all(raw), b"Message received: one\n")

    def test_the_udp_server_runs_until_it_is_told_to_stop(self) -> None:
        server = self.server("udp_server.py")
        for text in ("one", "two"):
            client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed=f"{text}\nterminate\n")
            self.assertEqual((client.wait(), client.output), (0, f"Message received: {text}\n"))
        client = self.run_client("udp_client.py", "127.0.0.1", server.port, typed="exit\n")
        self.assertEqual((client.wait(), client.output), (0, "Server shutting down...\n"))
        self.assertEqual(server.wait(), 0)

    def test_the_record_of_a_session(self) -> None:
        server = self.server("tcp_server.py")
        self.run_client("tcp_client.py", "127.0.0.1", server.port, typed="Hello server!\nterminate\n")
        server.wait_for("Disconnected")
        self.run_client("tcp_client.py", "127.0.0.1", server.port, typed="exit\n")
        self.assertEqual(server.wait(), 0)
        expected = rf"""
\[TCP Server\] Listening on {ADDRESS}\. Type a line to send it to every client, 'exit' to stop\.
\[TCP Server\] Connected by ({ADDRESS})
\[TCP Server\] Received from \1: Hello server!
\[TCP Server\] Disconnected: \1
\[TCP Server\] Connected by ({ADDRESS})
\[TCP Server\] Shutdown command received from \2\. Stopping server\.\.\.
\[TCP Server\] Disconnected: \2
\[Server\] All services stopped\.
"""
        self.assertRegex(server.output, rf"\A{expected[1:]}\Z")
        self.assertEqual(server.errors, "")

    def test_quiet_shows_no_messages(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script, "--quiet")
                client = self.run_client(client_script, "127.0.0.1", server.port, "-m", "secret", "-m", "exit")
                self.assertEqual(client.output, "Message received: secret\nServer shutting down...\n")
                self.assertEqual(server.wait(), 0)
                self.assertNotIn("secret", server.output)

    def test_a_summary_on_demand(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script)
                client = self.run_client(client_script, "127.0.0.1", server.port, "--stats", typed="one\ntwo\n")
                times = r"round trip min/avg/max \d+\.\d\d/\d+\.\d\d/\d+\.\d\d ms"
                self.assertRegex(client.errors, rf"\A2 sent, 2 confirmed, 0 lost; {times}\n\Z")


class TwoPeople(TestCase):
    """The person at the server takes part."""

    def test_a_typed_line_reaches_every_client_at_once_while_they_talk(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        clients = [self.client("tcp_client.py", "127.0.0.1", server.port) for _ in range(2)]
        clients.append(self.client("udp_client.py", "127.0.0.1", server.udp_port))
        for number, client in enumerate(clients):
            client.type(f"I am {number}\n")
            client.wait_for(rf"^Message received: I am {number}$")
        idle = self.connect(server.port)
        idle.sendall(b"half a li")
        server.type("Hi there, clients!\n")
        for client in clients:
            client.wait_for("^Hi there, clients!$")
        self.assertEqual(receive_lines(idle, 1), [b"Hi there, clients!"])
        idle.sendall(b"ne\n")
        self.assertEqual(receive_lines(idle, 1), [b"Message received: half a line"])
        clients[0].type("still talking\n")
        clients[0].wait_for("^Message received: still talking$")

    def test_a_typed_line_that_nobody_reads(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        server.type("Hello?\n")
        server.wait_for(r"^\[Server\] Nobody is there to read that\.$")
        peer = self.datagrams(server.udp_port)
        peer.send(b"Hello!")
        self.assertEqual(peer.recv(100), b"Message received: Hello!")
        server.type("So there.\n")
        self.assertEqual(peer.recv(100), b"So there.")
        self.assertEqual(server.output.count("Nobody"), 1)

    def test_a_typed_line_goes_to_udp_peers_with_the_ending_they_use(self) -> None:
        server = self.server("udp_server.py")
        for sent, expected in ((b"a\n", b"typed\n"), (b"a\r\n", b"typed\r\n"), (b"a", b"typed")):
            with self.subTest(sent):
                peer = self.datagrams(server.port)
                peer.send(sent)
                self.assertEqual(peer.recv(100), b"Message received: " + sent)
                server.type("typed\n")
                self.assertEqual(peer.recv(100), expected)

    def test_without_replies_the_person_at_the_server_answers(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script, "--reply", "none")
                client = self.client(client_script, "127.0.0.1", server.port, "--no-reply")
                client.type("Anybody there?\n")
                server.wait_for("Anybody there[?]$")
                server.type("I am.\n")
                client.wait_for(r"\AI am\.$")
                client.type("terminate\n")
                self.assertEqual(client.wait(), 0)
                self.assertEqual((client.output, client.errors), ("I am.\n", ""))

    def test_exit_typed_at_the_server_stops_it_and_the_clients_learn_of_it(self) -> None:
        server = self.server("tcp_server.py", "--udp-port", 0)
        clients = [
            self.client("tcp_client.py", "127.0.0.1", server.port),
            self.client("udp_client.py", "127.0.0.1", server.udp_port),
        ]
        for client in clients:
            client.type("here\n")
            client.wait_for("received: here")
        raw = self.connect(server.port)
        server.wait_for(rf"Connected by 127\.0\.0\.1:{raw.getsockname()[1]}$")
        server.type("exit\n")
        self.assertEqual(receive_all(raw), b"Server shutting down...\n")
        raw.close()
        for client in clients:
            client.wait()
            self.assertEqual(client.output, "Message received: here\nServer shutting down...\n")
            self.assertNotIn("Traceback", client.errors)
        self.assertEqual(server.wait(), 0)
        self.assertRegex(server.output, r"\n\[Server\] Shutdown command typed\. Stopping server\.\.\.\n")
        self.assertTrue(server.output.endswith("\n[Server] All services stopped.\n"))

    def test_many_clients_at_the_same_time(self) -> None:
        server = self.server("tcp_server.py", "--quiet")
        clients = [self.connect(server.port) for _ in range(300)]
        for number, client in enumerate(clients):
            client.sendall(b"client %d, line 1\nclient %d, line 2\n" % (number, number))
        for number, client in enumerate(clients):
            expected = [b"Message received: client %d, line %d" % (number, line) for line in (1, 2)]
            self.assertEqual(receive_lines(client, 2), expected)
        server.type("to all\n")
        for client in clients:
            self.assertEqual(receive_lines(client, 1), [b"to all"])

    def test_who_has_left_hears_nothing(self) -> None:
        server = self.server("udp_server.py")
        leaving, staying = self.datagrams(server.port), self.datagrams(server.port)
        for peer in (leaving, staying):
            peer.send(b"hello")
            self.assertEqual(peer.recv(100), b"Message received: hello")
        leaving.send(b"terminate")
        server.wait_for("Forgot")
        server.type("news\n")
        self.assertEqual(staying.recv(100), b"news")
        leaving.setblocking(False)
        with self.assertRaises(BlockingIOError):
            leaving.recv(100)


class OneShot(TestCase):
    """A client that sends what is on its command line and ends."""

    def test_the_reply_and_nothing_else(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script)
                for _ in range(2):  # the server goes on to the next
                    client = self.client(client_script, "127.0.0.1", server.port, "-m", "Hello Server !")
                    self.assertEqual(client.wait(), 0)
                    self.assertEqual(client.raw_output, b"Message received: Hello Server !\n")
                    self.assertEqual(client.errors, "")

    def test_several_messages(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script)
                client = self.client(client_script, "127.0.0.1", server.port, "-m", "one", "--message", "two")
                self.assertEqual((client.wait(), client.errors), (0, ""))
                self.assertEqual(client.output, "Message received: one\nMessage received: two\n")

    def test_a_message_with_its_line_ending(self) -> None:
        """It is one message, and a word is a word; other bytes are kept."""
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "hello\r")
        self.assertEqual((client.wait(), client.raw_output), (0, b"Message received: hello\r\n"))
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "--stats", "-m", "hello\n")
        self.assertEqual((client.wait(), client.output), (0, "Message received: hello\n"))
        self.assertRegex(client.errors, r"\A1 sent, 1 confirmed, 0 lost; .*\n\Z")
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "exit\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(server.wait(), 0)

    def test_piped_input_is_left_alone(self) -> None:
        server = self.server("tcp_server.py")
        client = self.client("tcp_client.py", "127.0.0.1", server.port, "-m", "one")
        self.assertEqual(client.wait(), 0, "it ends while its input is open")

    def test_no_server(self) -> None:
        port = free_port()
        client = self.client("tcp_client.py", "127.0.0.1", port, "-m", "Hello")
        self.assert_one_line_error(client, rf"127\.0\.0\.1:{port}: connection refused")
        self.assertEqual(client.output, "")
        port = free_port(socket.SOCK_DGRAM)
        client = self.client("udp_client.py", "127.0.0.1", port, "-m", "Hello")
        self.assert_one_line_error(client, rf"127\.0\.0\.1:{port}.*nobody listens there")
        self.assertIn("Hello", client.errors, "what was not confirmed is named")
        self.assertEqual(client.output, "")

    def test_a_silent_server(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
            udp.bind(("127.0.0.1", 0))
            for silent, script in ((tcp, "tcp_client.py"), (udp, "udp_client.py")):
                with self.subTest(script):
                    port = silent.getsockname()[1]
                    client = self.client(script, "127.0.0.1", port, "--timeout", "0.2", "-m", "Hello", "-m", "Ho")
                    self.assert_one_line_error(client, rf"2 messages.*not confirmed by 127\.0\.0\.1:{port}.*Hello, Ho")

    def test_no_reply_does_not_wait_for_one(self) -> None:
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script, "--reply", "none")
                client = self.client(client_script, "127.0.0.1", server.port, "-m", "take this", "--no-reply")
                self.assertEqual((client.wait(), client.output, client.errors), (0, "", ""))
                server.wait_for("take this$")


class BothProtocols(TestCase):
    """One server program, one client program, two protocols."""

    def setUp(self) -> None:
        self.both = self.server("tcp_server.py", "--udp-port", 0)

    def test_each_message_goes_over_one_of_them_by_chance(self) -> None:
        texts = [f"message {number}" for number in range(40)]
        options = [part for text in texts for part in ("-m", text)]
        client = self.client("tcp_client.py", "127.0.0.1", self.both.port, "--udp-port", self.both.udp_port, *options)
        self.assertEqual((client.wait(), client.errors), (0, ""))
        replies = sorted(client.output.splitlines())
        self.assertEqual(replies, sorted(f"Message received: {text}" for text in texts))
        shown = wait_until(lambda: self.received(self.both, len(texts)), "all messages in the record")
        self.assertEqual(sorted(text for _, text in shown), sorted(texts), "each of them once")
        self.assertEqual({protocol for protocol, _ in shown}, {"TCP", "UDP"})

    def test_exit_goes_to_both_and_both_reply(self) -> None:
        client = self.client("tcp_client.py", "127.0.0.1", self.both.port, "--udp-port", self.both.udp_port)
        client.type("Hello\n")
        client.wait_for("^Message received: Hello$")
        client.type("exit\n")
        self.assertEqual((client.wait(), client.errors), (0, ""))
        self.assertEqual(client.output, "Message received: Hello\n" + 2 * "Server shutting down...\n")
        self.assertEqual(self.both.wait(), 0)
        self.assertTrue(self.both.output.endswith("\n[Server] All services stopped.\n"))

    def test_exit_over_either_stops_both(self) -> None:
        for script in ("tcp_client.py", "udp_client.py"):
            with self.subTest(script):
                both = self.server("tcp_server.py", "--udp-port", 0)
                tcp, udp = self.connect(both.port), self.datagrams(both.udp_port)
                udp.send(b"hello")
                self.assertEqual(udp.recv(100), b"Message received: hello")
                port = both.port if script == "tcp_client.py" else both.udp_port
                client = self.client(script, "127.0.0.1", port, "-m", "exit")
                self.assertEqual((client.wait(), client.output), (0, "Server shutting down...\n"))
                self.assertEqual(receive_all(tcp), b"Server shutting down...\n")
                self.assertEqual(udp.recv(100), b"Server shutting down...")
                tcp.close()
                self.assertEqual(both.wait(), 0)

    @staticmethod
    def received(server: Server, count: int) -> list[tuple[str, str]]:
        """Return the protocol and text of the messages in a record once there are `count`, else nothing."""
        found = re.findall(rf"^\[(TCP|UDP) Server\] Received from {ADDRESS}: (.*)$", server.output, re.MULTILINE)
        return found if len(found) >= count else []


class Echo(TestCase):
    """`--reply echo` gives back every byte."""

    EVERY_BYTE = bytes(range(256))

    def test_every_byte_over_tcp(self) -> None:
        server = self.server("tcp_server.py", "--reply", "echo")
        raw = self.connect(server.port)
        sent = self.EVERY_BYTE + b"\r\n\n\xff\xfe\n\x00\n" + self.EVERY_BYTE[::-1] + b"\n"
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(raw), sent)

    def test_every_byte_over_udp(self) -> None:
        server = self.server("udp_server.py", "--reply", "echo")
        raw = self.datagrams(server.port)
        for datagram in (self.EVERY_BYTE, b"\n", b"text\r\n", b"two\nlines", b"\xff\x00", bytes(60000)):
            with self.subTest(datagram[:20]):
                raw.send(datagram)
                self.assertEqual(raw.recv(65536), datagram)

    def test_every_byte_through_the_clients(self) -> None:
        lines = [bytes([byte]) * 3 for byte in range(256) if byte not in b"\n\r"]
        typed = b"\n".join([*lines, b""])
        for protocol, (server_script, client_script) in SCRIPTS.items():
            with self.subTest(protocol):
                server = self.server(server_script, "--reply", "echo")
                client = self.run_client(client_script, "127.0.0.1", server.port, typed=typed)
                self.assertEqual((client.wait(), client.errors), (0, ""))
                self.assertEqual(sorted(client.raw_output.split(b"\n")), sorted(typed.split(b"\n")))
                if protocol == "TCP":
                    self.assertEqual(client.raw_output, typed, "in their order")

    def test_what_looks_like_a_tls_alert(self) -> None:
        """First, in between, a whole one, and what is as long as one."""
        server = self.server("tcp_server.py", "--reply", "echo")
        client = self.client("tcp_client.py", "127.0.0.1", server.port)
        echoed = b""
        lines = [b"\x15\x03first\n", b"text\n", b"\x15\x03\n", b"\x15\x03\x03\x00\x02\x02\x28\n", b"\x15\x03four\n"]
        for line in lines:
            client.type(line)
            echoed += line
            wait_until(lambda: client.raw_output == echoed or client.popen.poll(), f"an echo of {line!r}")  # noqa: B023
        client.end_input()
        self.assertEqual((client.wait(), client.raw_output, client.errors), (0, echoed, ""))


class Room(TestCase):
    """`--reply relay`: everybody reads what everybody says."""

    def setUp(self) -> None:
        self.room = self.server("tcp_server.py", "--udp-port", 0, "--reply", "relay")

    def enter(self, protocol: str) -> tuple[socket.socket, str]:
        """Return a member of the room who has said hello, and the member's name."""
        raw = self.connect(self.room.port) if protocol == "TCP" else self.datagrams(self.room.udp_port)
        raw.sendall(b"hello\n")
        name = f"127.0.0.1:{raw.getsockname()[1]}"
        while b"Message received: hello\n" not in raw.recv(1000):
            pass
        self.room.wait_for(f"Received from {re.escape(name)}: hello$")
        return raw, name

    def test_all_others_read_what_one_says_on_both_protocols(self) -> None:
        protocols = ("TCP", "UDP", "TCP", "UDP")
        members = [self.enter(protocol) for protocol in protocols]
        for number, (member, _) in enumerate(members[:-1]):  # what those who came later said at the door
            later = [name.encode() + b": hello" for _, name in members[number + 1 :]]
            self.assertEqual(receive_lines(member, len(later)), later)
        for speaker, name in members:
            text = b"this is " + name.encode()
            speaker.sendall(text + b"\n")
            for member, _ in members:
                expected = b"Message received: " if member is speaker else name.encode() + b": "
                self.assertEqual(receive_lines(member, 1), [expected + text])

    def test_a_datagram_of_several_lines_is_one_line(self) -> None:
        """It can not forge what others seem to have said."""
        members = [self.enter(protocol)[0] for protocol in ("TCP", "UDP")]
        speaker, name = self.enter("UDP")
        receive_lines(members[0], 2)
        receive_lines(members[1], 1)
        speaker.send(b"one\n10.0.0.9:4242: two\nServer shutting down...\n")
        line = rb"one\n10.0.0.9:4242: two\nServer shutting down..."
        for member in members:
            self.assertEqual(receive_lines(member, 1), [name.encode() + b": " + line])

    def test_the_end_of_a_room(self) -> None:
        """Everybody reads one line, the same."""
        members = [self.enter("TCP")[0] for _ in range(2)]
        self.assertEqual(receive_lines(members[0], 1)[0].partition(b": ")[2], b"hello")
        members[0].sendall(b"exit\n")
        for member in members:
            self.assertEqual(receive_all(member), b"Server shutting down...\n")

    def test_clients_in_a_room(self) -> None:
        first = self.client("tcp_client.py", "127.0.0.1", self.room.port)
        second = self.client("udp_client.py", "127.0.0.1", self.room.udp_port)
        for number, client in enumerate((first, second)):
            client.type(f"member {number}\n")
            client.wait_for(rf"^Message received: member {number}$")
        first.wait_for(rf"^{ADDRESS}: member 1$")
        first.type("to the second\n")
        second.wait_for(rf"^{ADDRESS}: to the second$")
        first.wait_for("^Message received: to the second$")
        self.assertNotRegex(first.output, rf"{ADDRESS}: to the second")
        for client in (first, second):
            client.end_input()
            self.assertEqual((client.wait(), client.errors), (0, ""))

    def test_everybody_hears_everything_when_all_speak_at_once(self) -> None:
        members = [self.connect(self.room.port) for _ in range(10)]
        for member in members:
            self.room.wait_for(rf"Connected by 127\.0\.0\.1:{member.getsockname()[1]}$")
        heard: list[list[bytes]] = [[] for _ in members]

        def listen(number: int) -> None:
            with contextlib.suppress(OSError):
                heard[number] += receive_lines(members[number], 20 * len(members))

        listeners = [threading.Thread(target=listen, args=(number,)) for number in range(len(members))]
        for thread in listeners:
            thread.start()
        for line in range(20):
            for number, member in enumerate(members):
                member.sendall(b"%d from %d\n" % (line, number))
        for thread in listeners:
            thread.join()
        for number, member in enumerate(members):
            name = b"127.0.0.1:%d: " % member.getsockname()[1]
            for other, lines in enumerate(heard):
                start = b"Message received: " if other == number else name
                said = [line for line in lines if line.startswith(start)]
                self.assertEqual(said, [start + b"%d from %d" % (line, number) for line in range(20)])


if __name__ == "__main__":
    unittest.main()
