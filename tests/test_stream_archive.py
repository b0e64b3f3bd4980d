"""One archive, and one room, on many machines: `--save redis://…` with a real Redis."""

from __future__ import annotations

import argparse
import os
import random
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import cast

from redis_server import HAS_REDIS, Redis, RedisTest
from support import (
    PATIENCE,
    Clock,
    Server,
    free_port,
    needs,
    new_certificate,
    receive_all,
    receive_lines,
    wait_until,
    with_constants,
)
from test_archive import Load

from stream_archive import StreamUrl

SOON = {"TICK": 0.05, "PAUSE": 0.02}
"""Constants with which a server looks for Redis again at once; else it would take a second."""
CONFIRMATION = b"Message received: "
NOT_SAVED = b"Error: the message could not be saved"
SERVERS = ("tcp_server.py", "udp_server.py")


class StreamTest(RedisTest):
    """A test that asks servers."""

    def ask(self, connected: socket.socket, text: str) -> bytes:
        """Send a message over TCP or UDP; return its reply."""
        connected.sendall(text.encode() + b"\n")
        return receive_lines(connected, 1)[0]

    def assert_confirmed(self, connected: socket.socket, text: str) -> None:
        """Check that a message is confirmed."""
        self.assertEqual(self.ask(connected, text), CONFIRMATION + text.encode())

    def say_goodbye(self, server: Server) -> None:
        """Come, and go; by then the server has read what others had sent before."""
        parting = self.connect(server.port)
        parting.sendall(b"terminate\n")
        self.assertEqual(receive_all(parting), b"")

    def wait_until_confirmed(self, connected: socket.socket, text: str) -> None:
        """Send a message until it is confirmed; until then it must be refused."""

        def is_confirmed() -> bool:
            reply = self.ask(connected, text)
            self.assertIn(reply, (NOT_SAVED, CONFIRMATION + text.encode()))
            return reply != NOT_SAVED

        wait_until(is_confirmed, f"{text} confirmed")


@HAS_REDIS
class Kept(StreamTest):
    """What is in the stream, and what a confirmation is worth."""

    def test_an_entry_for_each_message(self) -> None:
        redis = self.redis("appendonly yes")
        server = self.server("tcp_server.py", "--udp-port", 0, "--save", redis.where("a%2Froom"))
        tcp, udp = self.connect(server.port), self.datagrams(server.udp_port)
        self.assert_confirmed(tcp, "Grüße")
        self.assert_confirmed(udp, "over UDP")
        server.type("from the person\n")
        self.assertEqual(receive_lines(tcp, 1), [b"from the person"])
        tcp.sendall(b"not UTF-8: \xff, and the last, unfinished")
        tcp.shutdown(socket.SHUT_WR)
        self.assertIn(CONFIRMATION + b"not UTF-8: \xff", receive_all(tcp))
        entries = redis.entries("a/room")
        names = ["{}:{}".format(*connected.getsockname()).encode() for connected in (udp,)]
        self.assertEqual([entry["text"] for entry in entries][:3], ["Grüße".encode(), b"over UDP", b"from the person"])
        self.assertEqual(entries[3]["text"], b"not UTF-8: \xff, and the last, unfinished")
        self.assertEqual([entry["protocol"] for entry in entries], [b"tcp", b"udp", b"tcp", b"tcp"])
        self.assertEqual([entry["direction"] for entry in entries], [b"received", b"received", b"sent", b"received"])
        self.assertEqual((entries[1]["peer"], entries[2]["peer"]), (names[0], b"*"))
        for entry in entries:
            self.assertRegex(entry["at"].decode(), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")

    def test_both_servers_and_their_clients(self) -> None:
        redis = self.redis()
        for script in SERVERS:
            with self.subTest(script):
                server = self.server(script, "--save", redis.where())
                lines = "".join(f"{script} {number}\n" for number in range(500))
                client = self.run_client(script.replace("server", "client"), "127.0.0.1", server.port, typed=lines)
                self.assertEqual((client.popen.returncode, client.errors), (0, ""))
                self.assertEqual(
                    client.output, "".join(f"Message received: {line}\n" for line in lines.split("\n")[:-1])
                )
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0, server.errors)
                self.assertEqual(redis.texts()[-500:], lines.split("\n")[:-1])

    def test_what_the_record_says_of_its_worth(self) -> None:
        redis = self.redis("appendonly yes")
        for name, value, line in (
            ("appendfsync", "always", r"appendfsync always: what is confirmed is on its disk\.$"),
            (
                "appendfsync",
                "everysec",
                r"appendfsync everysec: up to a second of confirmed messages may be lost with the p",
            ),
            ("appendonly", "no", r"appendonly no: "),
        ):
            with self.subTest(line):
                redis.ask("CONFIG", "SET", name, value)
                server = self.server("tcp_server.py", "--save", redis.where())
                server.wait_for(rf"^\[Server\] Messages go to redis://127\.0\.0\.1:{redis.port}/room\. {line}")

    def test_about_the_newest(self) -> None:
        redis = self.redis("stream-node-max-entries 10")
        server = self.server("tcp_server.py", "--save", redis.where("room?maxlen=20"))
        typed = "".join(f"{number}\n" for number in range(200))
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", server.port, typed=typed).popen.returncode, 0)
        texts = redis.texts()
        self.assertLess(len(texts), 40)
        self.assertEqual(texts[-1], "199")

    def test_replicas(self) -> None:
        first = self.redis("repl-diskless-sync-delay 0")
        replica = self.redis(f"replicaof 127.0.0.1 {first.port}")
        wait_until(lambda: b"state=online" in first.ask("INFO", "replication"), "a replica")
        soon = with_constants(REPLICATE=300)
        server = self.server("tcp_server.py", "--save", first.where("room?replicas=1"), within=soon)
        client = self.connect(server.port)
        self.wait_until_confirmed(client, "kept twice")
        self.assertEqual(set(replica.texts()), {"kept twice"})
        replica.kill()
        self.assertEqual(self.ask(client, "kept once"), NOT_SAVED)
        server.wait_for(r"^\[Server\] Cannot save messages in .*: 0 of 1 replicas have them$")
        replica.start()
        self.wait_until_confirmed(client, "kept twice again")
        server.wait_for(r"^\[Server\] Messages are saved again in .*\.$")

    def test_a_password(self) -> None:
        redis = self.redis()
        redis.ask("ACL", "SETUSER", "us", "on", ">s/3:cret", "~room", "+xadd", "+type", "+xread", "+xinfo")
        redis.ask("ACL", "SETUSER", "default", ">other")
        server = self.server("tcp_server.py", "--reply", "relay", "--save", redis.where(user="us:s%2F3%3Acret@"))
        server.wait_for("appendfsync is not known, since this user may not ask for it")
        self.assert_confirmed(self.connect(server.port), "hello")
        self.assertEqual(redis.texts(user=("default", "other")), ["hello"])

    @needs("openssl")
    def test_tls(self) -> None:
        folder = Path(tempfile.mkdtemp())
        new_certificate(folder, "redis", "/CN=redis", "IP:127.0.0.1")
        port, files = Redis("appendonly no"), (f"{folder}/redis.pem", f"{folder}/redis.key")
        port.close()
        tls = ("tls-auth-clients no", f"tls-cert-file {files[0]}", f"tls-key-file {files[1]}")
        redis = self.redis("port 0", f"tls-port {port.port}", *tls, port=port.port, folder=folder)
        where = f"rediss://127.0.0.1:{port.port}/room"
        refused = self.client("tcp_server.py", 0, "--save", where)
        self.assert_one_line_error(refused, "cannot save messages in .*self-signed certificate.*ca=FILE")
        server = self.server("tcp_server.py", "--reply", "relay", "--save", f"{where}?ca={files[0]}")
        other = self.server("udp_server.py", "--reply", "relay", "--save", f"{where}?ca={files[0]}")
        listener = self.datagrams(other.port)
        self.assert_confirmed(listener, "here I am")
        client = self.connect(server.port)
        text = "x" * 60000
        self.assert_confirmed(client, text)
        self.assertIn(text.encode(), listener.recv(65536))
        del redis


@HAS_REDIS
class Failing(StreamTest):
    """What happens when Redis is gone, slow, full, or something else."""

    def test_at_the_start(self) -> None:
        redis = self.redis()
        redis.ask("SET", "text", "of another type")
        port = free_port()
        for place, (where, pattern) in enumerate(
            (
                (f"redis://127.0.0.1:{port}/room", r"connection refused; start Redis, or check host and port"),
                (redis.where("text"), r"it is a string, not a stream; name another stream"),
                (redis.where(user="us:wrong@"), r"WRONGPASS .*; check user and password"),
                (f"redis://no.such.host.invalid:{port}/room", r"cannot find host no\.such\.host\.invalid"),
            )
        ):
            script = SERVERS[place % 2]
            with self.subTest(where, script=script):
                self.assert_one_line_error(
                    self.client(script, 0, "--save", where), f"cannot save messages in .*{pattern}"
                )

    def test_a_password_is_missing_and_is_never_shown(self) -> None:
        redis = self.redis("requirepass s3cret")
        for user, pattern in (("", "NOAUTH .*give a password"), (":wr0ng@", "WRONGPASS .*check user and password")):
            server = self.client("tcp_server.py", 0, "--save", redis.where(user=user))
            self.assert_one_line_error(server, pattern)
            self.assertNotIn("wr0ng", server.errors)

    def test_garbage_instead_of_redis(self) -> None:
        for garbage in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99999999999\r\n", b":1\r\n:2\r\n", b"x" * 100000, b""):
            with self.subTest(garbage[:20]):
                listener = self.listen()
                server = self.client(
                    "tcp_server.py", 0, "--save", f"redis://127.0.0.1:{listener.getsockname()[1]}/room"
                )
                connected = self.accept(listener)
                connected.recv(1)
                connected.sendall(garbage)
                connected.close()
                self.assert_one_line_error(
                    server, "(it does not speak Redis's protocol|it has closed the conn|reset by)"
                )

    def test_wrong_addresses(self) -> None:
        for where in (
            "redis://",
            "redis:///room",
            "redis://host",
            "redis://host:99999/room",
            "redis://[::1/room",
            "redis://host/room#part",
            "redis://host/room?replicas",
            "redis://host/room?replicas=x",
            "redis://host/room?maxlen=-1",
            "redis://host/room?ca=file",
        ):
            with self.subTest(where), self.assertRaises(argparse.ArgumentTypeError):
                StreamUrl(where)
        server = self.client("udp_server.py", 0, "--save", "redis://host/room?\x1b[2J=1")
        self.assert_one_line_error(server, r"argument --save: .*\(--help shows how to use it\)", code=2)
        self.assertNotIn("\x1b", server.errors)

    def test_addresses(self) -> None:
        place = StreamUrl("rediss://us:a%2Fb@[::1]:7000/a%20room?replicas=2&maxlen=10&ca=file")
        self.assertEqual((place.host, place.port, place.stream), ("::1", 7000, "a room"))
        self.assertEqual((place.user, place.password, place.ca, place.is_secure), ("us", "a/b", "file", True))
        self.assertEqual((place.replicas, place.most), (2, 10))
        self.assertEqual((StreamUrl("redis://host/room").port, place.name), (6379, "rediss://[::1]:7000/a room"))

    def test_full(self) -> None:
        redis = self.redis()
        server = self.server("tcp_server.py", "--save", redis.where())
        client = self.connect(server.port)
        redis.ask("CONFIG", "SET", "maxmemory", 1)
        self.assertEqual([self.ask(client, "lost") for _ in range(3)], [NOT_SAVED] * 3)
        server.wait_for(r"^\[Server\] Cannot save messages in redis://\S+: OOM .*$")
        redis.ask("CONFIG", "SET", "maxmemory", 0)
        self.assert_confirmed(client, "kept")
        server.wait_for(r"^\[Server\] Messages are saved again in redis://\S+\.$")
        self.assertEqual((server.output.count("Cannot save"), redis.texts()), (1, ["kept"]))

    def test_read_only(self) -> None:
        first = self.redis("repl-diskless-sync-delay 0")
        server = self.server("tcp_server.py", "--save", first.where())
        client = self.connect(server.port)
        first.ask("REPLICAOF", "127.0.0.1", 1)
        self.assertEqual(self.ask(client, "lost"), NOT_SAVED)
        server.wait_for(r"^\[Server\] Cannot save messages in .*: READONLY ")
        first.ask("REPLICAOF", "NO", "ONE")
        self.wait_until_confirmed(client, "kept")

    def test_gone_and_back(self) -> None:
        redis = self.redis("appendonly yes")
        server = self.server("tcp_server.py", "--save", redis.where(), within=with_constants(**SOON))
        client = self.connect(server.port)
        self.assert_confirmed(client, "before")
        redis.kill()
        server.wait_for(r"^\[Server\] Cannot save messages in redis://\S+: it has closed the connection$")
        self.assertEqual([self.ask(client, "meanwhile") for _ in range(3)], [NOT_SAVED] * 3)
        redis.start()
        self.wait_until_confirmed(client, "after")
        server.wait_for(r"^\[Server\] Messages are saved again in ")
        self.assertEqual((server.output.count("Cannot save"), server.output.count("again")), (1, 1))
        self.assertEqual((redis.texts()[0], redis.texts()[-1]), ("before", "after"))

    def test_nobody_waits_who_needs_no_saving(self) -> None:
        redis = self.redis()
        patient = with_constants(SLOW=3600)
        server = self.server("tcp_server.py", "--save", redis.where(), within=patient)
        quiet = self.server("tcp_server.py", "--reply", "none", "--save", redis.where(), within=patient)
        waiting, listener = self.connect(server.port), self.connect(quiet.port)
        listener.sendall(b"here I am\n")
        quiet.wait_for("here I am")
        redis.process.stop()
        waiting.sendall(b"kept\n")
        listener.sendall(b"first\nsecond\n")
        quiet.wait_for("Received from .*: second")
        listener.sendall(b"third\n")
        quiet.wait_for("Received from .*: third")
        quiet.type("Hello there!\n")
        self.assertEqual(receive_lines(listener, 1), [b"Hello there!"])
        self.say_goodbye(server)
        server.type("Hello to all!\n")
        self.assertEqual(receive_lines(waiting, 1), [b"Hello to all!"])
        waiting.sendall(b"kept, too\n")
        redis.process.signal(signal.SIGCONT)
        replies = receive_until(waiting, b"kept, too\n")
        self.assertEqual(replies, [CONFIRMATION + b"kept", CONFIRMATION + b"kept, too"])
        self.wait_for_entries(redis, 7)
        self.assertEqual([line for line in server.output.splitlines() if "Cannot" in line], [])

    @unittest.skipUnless(sys.platform == "linux", "reads /proc")
    def test_who_waits_costs_nothing(self) -> None:
        """Neither one that has ended its side, nor one that has reset its connection."""
        redis = self.redis()
        for options in ((), ("--reply", "none")):
            command = ("tcp_server.py", "--save", redis.where(), *options)
            server = self.server(*command, within=with_constants(SLOW=3600))
            first = self.connect(server.port)
            self.say_goodbye(server)
            redis.process.stop()
            for message in (b"one\n", b"unfinished"):
                first.sendall(message)
                self.say_goodbye(server)
            first.shutdown(socket.SHUT_WR)
            gone = self.connect(server.port)
            gone.sendall(b"two\n")
            self.say_goodbye(server)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            self.say_goodbye(server)
            before, now = cpu_seconds(server), time.monotonic()
            wait_until(lambda: time.monotonic() > now + 0.3, "a while")  # noqa: B023
            self.assertLess(cpu_seconds(server) - before, 0.1)
            redis.process.signal(signal.SIGCONT)
            replies = b"" if options else CONFIRMATION + b"one\n" + CONFIRMATION + b"unfinished\n"
            self.assertEqual(receive_all(first), replies)

    def test_slow(self) -> None:
        redis = self.redis()
        clock, within = Clock(self), with_constants(SLOW=60, **SOON)
        server = self.server("tcp_server.py", "--save", redis.where(), within=within, env=clock.environment)
        client = self.connect(server.port)
        redis.process.stop()
        client.sendall(b"perhaps lost\n")
        self.say_goodbye(server)
        clock.skip(61)
        self.assertEqual(receive_lines(client, 1), [NOT_SAVED])
        server.wait_for(r"^\[Server\] Cannot save messages in redis://\S+: no answer within 60 s$")
        redis.process.signal(signal.SIGCONT)
        self.wait_until_confirmed(client, "kept")

    def test_stopped_while_redis_stands_still(self) -> None:
        redis = self.redis()
        command, within = ("tcp_server.py", "--save", redis.where()), with_constants(STOP_WITHIN=0.4)
        servers = {how: self.server(*command, within=within) for how in ("exit", "signal")}
        redis.process.stop()
        clients = {}
        for how, server in servers.items():
            clients[how] = client, other = self.connect(server.port), self.connect(server.port)
            server.wait_for("Connected(.|\n)*Connected")
            client.sendall(b"perhaps lost\nterminate\nnever said\n")
            self.say_goodbye(server)
            if how == "exit":
                other.sendall(b"exit\n")
            else:
                server.signal(signal.SIGTERM)
        for how, (client, other) in clients.items():
            with self.subTest(how):
                self.assertEqual(receive_all(client), NOT_SAVED + b"\n")
                client.close()
                self.assertEqual(receive_all(other), b"Server shutting down...\n")
                other.close()
                self.assertEqual(servers[how].wait(), 0, servers[how].errors)


@HAS_REDIS
class Loads(StreamTest):
    """Everything that any client saw confirmed is in the stream, whatever is killed."""

    KILLS = 6

    def test_killed_at_random_moments(self) -> None:
        chance = random.Random(18)
        redis = self.redis("appendonly yes", "appendfsync always")
        confirmed: set[str] = set()
        for kill in range(self.KILLS):
            options = ("--udp-port", 0, "--save", redis.where(), "--quiet")
            server = self.server("tcp_server.py", *options, within=with_constants(**SOON))
            load = Load([server.port], [server.udp_port], clients=2, name=f"before kill {kill}:")
            load.wait_for(confirmed=1)
            time.sleep(chance.uniform(0, 0.03))
            redis.kill()
            load.wait_for(refused=1)
            redis.start()
            load.wait_for(confirmed=len(load.confirmed) + 1)
            time.sleep(chance.uniform(0, 0.03))
            server.close()
            load.abort()
            self.assertEqual(server.errors, "")
            confirmed.update(load.confirmed)
            self.assertEqual(confirmed.difference(redis.texts()), set())

    def test_more_than_fits_waits_its_turn(self) -> None:
        """A client that pours out lines is read no faster than Redis takes them; nothing is refused."""
        redis = self.redis()
        server = self.server("tcp_server.py", "--save", redis.where(), "--quiet")
        typed = "".join(f"{number} {'x' * 60}\n" for number in range(50000))
        client = self.run_client("tcp_client.py", "127.0.0.1", server.port, "--stats", typed=typed)
        self.assertEqual(client.popen.returncode, 0, client.errors)
        self.assertIn("50000 sent, 50000 confirmed, 0 lost", client.errors)
        self.assertEqual(redis.ask("XLEN", "room"), 50000)


@HAS_REDIS
class Shared(StreamTest):
    """All servers whose archive is the same stream are one room."""

    def room(self, redis: Redis, script: str = "tcp_server.py", *options: object, stream: str = "room") -> Server:
        """Start a server of the room."""
        within = with_constants(**SOON) if script == "tcp_server.py" else ()
        return self.server(script, "--reply", "relay", "--save", redis.where(stream), *options, within=within)

    def member(self, server: Server, name: str) -> socket.socket:
        """Return a client of a server, which has said who it is."""
        member = self.connect(server.port) if server.protocol == "TCP" else self.datagrams(server.port)
        self.assert_confirmed(member, name)
        return member

    def test_two_servers_over_both_protocols(self) -> None:
        redis = self.redis()
        one, other = self.room(redis), self.room(redis, "tcp_server.py", "--udp-port", 0)
        al = self.connect(one.port)
        bo, cy = self.connect(other.port), self.datagrams(other.udp_port)
        self.assert_confirmed(cy, "Cy")
        names = {who: "{}:{}".format(*who.getsockname()) for who in (al, bo, cy)}
        for who in (al, bo):
            self.assertEqual(receive_lines(who, 1), [f"{names[cy]}: Cy".encode()])
        self.assert_confirmed(al, "Al")
        for who in (bo, cy):
            self.assertEqual(receive_lines(who, 1), [f"{names[al]}: Al".encode()])
        one.type("from the person\n")
        for who in (al, bo, cy):
            self.assertEqual(receive_lines(who, 1), [b"from the person"])
        self.assert_confirmed(bo, "the last")
        for who in (al, cy):
            self.assertEqual(receive_lines(who, 1), [f"{names[bo]}: the last".encode()])
        self.assertEqual(redis.texts(), ["Cy", "Al", "from the person", "the last"])

    def test_who_pours_elsewhere_waits_for_all_to_be_told(self) -> None:
        """However much one says at another server, nobody who reads all the time is cut off, or misses a line."""
        redis = self.redis()
        one = self.server("tcp_server.py", "--reply", "relay", "--quiet", "--save", redis.where())
        within = with_constants(GRACE=PATIENCE, MAX_KEPT=2 << 20)  # lag is cut off at once, and slowness is not
        other = self.server("tcp_server.py", "--reply", "relay", "--quiet", "--save", redis.where(), within=within)
        count, line = 150, b"x" * 20_000
        readers = {self.connect(other.port): 0 for _ in range(300)}
        wait_until(lambda: other.output.count("Connected by") == len(readers), "all are there")
        talker = self.connect(one.port)
        poured = threading.Thread(target=talker.sendall, args=((line + b"\n") * count,))
        poured.start()
        self.addCleanup(poured.join)
        confirmed = threading.Thread(target=receive_lines, args=(talker, count))
        confirmed.start()
        self.addCleanup(confirmed.join)
        with selectors.DefaultSelector() as waiting:
            for reader in readers:
                waiting.register(reader, selectors.EVENT_READ)
            while min(readers.values()) < count:
                found = waiting.select(PATIENCE)
                self.assertTrue(found, "told nothing more")
                for key, _ in found:
                    reader = cast(socket.socket, key.fileobj)
                    data = reader.recv(1 << 18)
                    self.assertTrue(data, "cut off")
                    readers[reader] += data.count(b"\n")

    def test_who_joins_is_told_nothing_of_before(self) -> None:
        redis = self.redis()
        one = self.room(redis)
        al = self.member(one, "before")
        other = self.room(redis)
        bo = self.connect(other.port)
        self.assert_confirmed(al, "after")
        self.assertTrue(receive_lines(bo, 1)[0].endswith(b": after"))

    def test_where_nothing_is_relayed_nothing_is_followed(self) -> None:
        redis = self.redis()
        one, other = self.room(redis), self.server("tcp_server.py", "--save", redis.where())
        bo = self.connect(other.port)
        self.assert_confirmed(self.connect(one.port), "in the room")
        self.assert_confirmed(bo, "not in the room")

    def test_in_the_order_of_the_stream(self) -> None:
        redis = self.redis()
        servers = [self.room(redis, "tcp_server.py", "--quiet") for _ in range(3)]
        listener = self.connect(servers[0].port)
        self.assert_confirmed(listener, "listening")
        typed = "".join(f"{number}\n" for number in range(1000))
        clients = [self.client("tcp_client.py", "127.0.0.1", server.port, "--stats") for server in servers[1:]]
        for client in clients:
            client.type(typed)
            client.end_input()
        for client in clients:
            self.assertEqual(client.wait(), 0, client.errors)
        lines = receive_lines(listener, 2000)
        stream = [entry["peer"] + b": " + entry["text"] for entry in redis.entries()[1:]]
        self.assertEqual(len(lines), 2000)
        self.assertTrue(lines == stream, "another order")

    def test_what_was_missed_is_told_once_and_in_order(self) -> None:
        redis = self.redis("appendonly yes", "appendfsync always")
        one, other = self.room(redis), self.room(redis)
        bo = self.connect(other.port)
        al = self.member(one, "before")
        self.assertTrue(receive_lines(bo, 1)[0].endswith(b": before"))
        redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        redis.kill()
        other.wait_for("Cannot (save|follow)")
        redis.start()
        self.wait_until_confirmed(al, "first")
        self.assert_confirmed(al, "second")
        found = [line.partition(b": ")[2] for line in receive_lines(bo, len(redis.texts()) - 1)]
        self.assertEqual(found, [text.encode() for text in redis.texts()[1:]])

    def test_what_was_no_longer_there_is_counted(self) -> None:
        redis = self.redis()
        one, other = self.room(redis), self.room(redis)
        bo = self.connect(other.port)
        al = self.member(one, "before")
        self.assertTrue(receive_lines(bo, 1)[0].endswith(b": before"))
        other.stop()
        for number in range(250):
            self.assert_confirmed(al, str(number))
        redis.ask("XTRIM", "room", "MAXLEN", 10)
        other.signal(signal.SIGCONT)
        told = [int(line.rpartition(b": ")[2]) for line in receive_until(bo, b": 249\n")]
        self.assertEqual((told[-10:], sorted(set(told))), ([*range(240, 250)], told))
        other.wait_for(rf"^\[Server\] {250 - len(told)} messages of others were gone before they were told\.$")

    def test_what_others_put_there_forges_nothing(self) -> None:
        redis = self.redis()
        listener = self.connect(self.room(redis).port)
        redis.ask("XADD", "room", "*", "of", "something else")
        redis.ask("XADD", "room", "*", "peer", "a\nb", "text", b"one\ntwo\r\n")
        redis.ask("XADD", "room", "*", "direction", "sent", "text", b"three")
        self.assertEqual(receive_lines(listener, 2), [rb"a\nb: one\ntwo", b"three"])

    def test_a_key_that_is_deleted(self) -> None:
        redis = self.redis()
        one, other = self.room(redis), self.room(redis)
        al, bo = self.connect(one.port), self.connect(other.port)
        for text in ("before", "after", "later"):
            self.assert_confirmed(al, text)
            self.assertTrue(receive_lines(bo, 1)[0].endswith(f": {text}".encode()))
            redis.ask("DEL", "room")
            now = time.time() + 0.002  # Redis numbers entries by the millisecond
            wait_until(lambda: time.time() > now, "another millisecond")  # noqa: B023
        self.assertNotIn("gone", other.output)

    def test_a_key_that_becomes_something_else(self) -> None:
        redis = self.redis()
        one = self.room(redis)
        al = self.connect(one.port)
        redis.ask("SET", "room", "of another type")
        self.assertEqual(self.ask(al, "lost"), NOT_SAVED)
        one.wait_for("Cannot save messages in .*: WRONGTYPE ")
        redis.ask("DEL", "room")
        self.wait_until_confirmed(al, "kept")


def cpu_seconds(server: Server) -> float:
    """Return the CPU time that a server has used (Linux)."""
    fields = Path(f"/proc/{server.popen.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def receive_until(connected: socket.socket, end: bytes) -> list[bytes]:
    """Return the lines that come, the last of which ends so."""
    data = b""
    while not data.endswith(end):
        data += connected.recv(1 << 16)
    return data.splitlines()


if __name__ == "__main__":
    unittest.main()
