"""Peers who know the code: what they do ends with them, costs others no more than talk, and is not believed."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import hmac
import itertools
import re
import select
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from hostile import CONFIRMATION, MIB, PeerTest, as_root, cpu_seconds, fill, on_linux, strangers
from support import (
    PATIENCE,
    Clock,
    Server,
    new_certificate,
    receive_lines,
    resident_bytes,
    wait_until,
    with_constants,
)

from audience import MAX_KEPT, PORTION, Audience
from characters import KINDS
from listening import is_forged
from packet_info import PacketInfo
from peer import Peer
from sockets import limit_patience
from text import visible

FOLDER = Path()
"""Where the certificate is, made once for the module."""


def setUpModule() -> None:
    """Make a folder for what the tests need."""
    global FOLDER  # noqa: PLW0603
    FOLDER = Path(tempfile.mkdtemp())
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)


def certificate() -> tuple[Path, Path]:
    """Return a certificate and its key."""
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    if not (FOLDER / "own.pem").exists():
        new_certificate(FOLDER, "own", "/CN=localhost", "DNS:localhost")
    return FOLDER / "own.pem", FOLDER / "own.key"


class BareTls:
    """A TLS 1.3 client that makes its own records, so that they can hold what no library sends (RFC 8446, 5 and 7)."""

    def __init__(self, connected: socket.socket, folder: Path) -> None:
        library = ctypes.util.find_library("crypto")
        if not library:
            raise unittest.SkipTest("no libcrypto")
        self._crypto = ctypes.CDLL(library)
        for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
            getattr(self._crypto, name).restype = ctypes.c_void_p
        context = ssl.create_default_context(cafile=str(certificate()[0]))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = str(folder / f"keys-{connected.getsockname()[1]}")
        self.socket, self._number = connected, 0
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming, self._tls = incoming, context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        done = False
        while not done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                done = True
            connected.sendall(outgoing.read())
            if not done:
                incoming.write(connected.recv(65536))
        if (self._tls.cipher() or ("",))[0] != "TLS_AES_256_GCM_SHA384":
            raise unittest.SkipTest("another cipher")
        words = (line.split() for line in Path(context.keylog_filename).read_text().splitlines())
        (secret,) = (bytes.fromhex(line[2]) for line in words if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._key, self._iv = self._expand(secret, b"key", 32), self._expand(secret, b"iv", 12)

    @staticmethod
    def _expand(secret: bytes, label: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
        return hmac.new(secret, info + b"\1", hashlib.sha384).digest()[:length]

    def send(self, kind: int, data: bytes) -> None:
        """Send a record: 22 for a part of a handshake, 23 for text."""
        plain, length = data + bytes([kind]), ctypes.c_int()
        head = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._number.to_bytes(12, "big")))
        self._number += 1
        crypto, context = self._crypto, ctypes.c_void_p(self._crypto.EVP_CIPHER_CTX_new())
        sealed, tag = ctypes.create_string_buffer(len(plain)), ctypes.create_string_buffer(16)
        crypto.EVP_EncryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, self._key, nonce)
        crypto.EVP_EncryptUpdate(context, None, ctypes.byref(length), head, len(head))
        crypto.EVP_EncryptUpdate(context, sealed, ctypes.byref(length), plain, len(plain))
        crypto.EVP_EncryptFinal_ex(context, ctypes.create_string_buffer(16), ctypes.byref(length))
        crypto.EVP_CIPHER_CTX_ctrl(context, 0x10, 16, tag)
        crypto.EVP_CIPHER_CTX_free(context)
        self.socket.sendall(head + sealed.raw + tag.raw)

    def receive_line(self) -> bytes:
        """Return the next line of text."""
        text = b""
        while not text.endswith(b"\n"):
            try:
                text += self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(self.socket.recv(65536))
        return text


class UnfinishedTls(PeerTest):
    """A client that begins a KeyUpdate: until it ends, TLS takes no text for it."""

    KEY_UPDATE = b"\x18\x00\x00\x01\x00"

    def test_what_is_said_meanwhile_arrives_later(self) -> None:
        pem, key = certificate()
        server = self.server("tcp_server.py", "--tls-cert", pem, "--tls-key", key)
        peer = BareTls(self.connect(server.port), FOLDER)
        peer.send(23, b"a line\n")
        self.assertEqual(peer.receive_line(), CONFIRMATION + b"a line\n")
        peer.send(23, b"another\n")
        peer.send(22, self.KEY_UPDATE[:4])
        server.wait_for("Received from [^ ]+: another$")
        server.type("typed\n")  # whoever causes it
        server.wait_for("^.Server. To 1 client: typed$")
        peer.socket.settimeout(0.3)
        with contextlib.suppress(socket.timeout):  # what is written before the fragment is read may arrive
            self.assertEqual(peer.receive_line(), CONFIRMATION + b"another\n")
        self.assert_still_serves(server.port, pem)
        self.assertEqual(server.errors, "")
        self.assertNotIn(f"Disconnected: 127.0.0.1:{peer.socket.getsockname()[1]}", server.output)

    def test_who_never_ends_it_is_cut_off_like_any_who_does_not_read(self) -> None:
        pem, key = certificate()
        options = ("--tls-cert", pem, "--tls-key", key, "--reply", "relay", "--quiet")
        server = self.server("tcp_server.py", *options, within=with_constants(TICK=0.1, GRACE=0.2))
        lurker = BareTls(self.connect(server.port), FOLDER)
        lurker.send(22, self.KEY_UPDATE[:4])
        context = ssl.create_default_context(cafile=str(pem))
        with context.wrap_socket(self.connect(server.port), server_hostname="localhost") as talker:
            cut_off = rf"Disconnected: 127\.0\.0\.1:{lurker.socket.getsockname()[1]} \(it does not read\)$"
            for number in range(40):
                line = b"%02d" % number + b"x" * 60_000
                talker.sendall(line + b"\n")
                said = b""
                while not said.endswith(b"\n"):
                    said += talker.recv(MIB)
                self.assertEqual(said, CONFIRMATION + line + b"\n")
        server.wait_for(cut_off)
        self.assertEqual(server.errors, "")

    def assert_still_serves(self, port: int, pem: Path) -> None:
        """Check that another client is served."""
        context = ssl.create_default_context(cafile=str(pem))
        with context.wrap_socket(self.connect(port), server_hostname="localhost") as other:
            other.sendall(b"are you well?\n")
            self.assertEqual(other.recv(100), CONFIRMATION + b"are you well?\n")


class OwnFaults(PeerTest):
    """A fault in the server's own code, wherever it is met, is shown once, and the server goes on."""

    BREAK = """
import sys, tcp_server, service, places
def broken(self, *arguments): raise ZeroDivisionError
setattr({holder}, "{name}", broken)
sys.argv = sys.argv[2:]
sys.modules["common"].run(tcp_server.main)
"""

    def test_it_goes_on(self) -> None:
        for holder, name in (
            ("service.Service", "leave"),
            ("places.Places", "tick"),
            ("tcp_server.Connection", "begin"),
            ("tcp_server.Listener", "accept"),
            ("tcp_server.Connection", "send"),
            ("tcp_server.Connection", "end"),
        ):
            with self.subTest(name):
                code = self.BREAK.format(holder=holder, name=name).replace("import sys,", "import sys, serving,")
                code = code.replace("setattr", "serving.TICK = 0.05\nsetattr")
                server = self.server("tcp_server.py", within=(sys.executable, "-c", code))
                peer = self.connect(server.port)
                with contextlib.suppress(OSError):  # it may be cut off at once
                    peer.sendall(b"hello\n")
                    peer.shutdown(socket.SHUT_WR)  # closed before its answer is there, it would have no end
                server.wait_for_error(r"(?s)Traceback.*ZeroDivisionError")
                peer.close()
                server.type("exit\n")
                self.assertEqual(server.wait(), 0, server.errors)
                self.assertLessEqual(server.errors.count("Traceback"), 2, server.errors)


class WhoIsLocal(PeerTest):
    """Over UDP an address alone proves nothing: local is what came over the loopback interface."""

    SPOOF = """
import socket, struct, sys
source, port = sys.argv[1], int(sys.argv[2])
addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "fd09::1")
udp = struct.pack("!HHHH", 4000, port, 12, 0) + b"exit"
total = sum(struct.unpack("!24H", addresses + struct.pack("!HH", 12, 17) + udp))
while total >> 16: total = (total & 0xFFFF) + (total >> 16)
udp = udp[:6] + struct.pack("!H", ~total & 0xFFFF) + udp[8:]
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + addresses + udp, ("fd09::1", 0))
"""

    @on_linux
    @as_root
    def test_a_source_that_is_forged(self) -> None:
        """The server's own address, and an IPv4 one in an IPv6 packet (which newer kernels drop themselves)."""
        here, there = self.two_machines()
        for host, sources in (("::", ("::ffff:127.0.0.1", "fd09::1", "fd09::2")), ("fd09::1", ("fd09::1",))):
            server = self.server("udp_server.py", "--host", host, within=here)
            for source in sources:
                spoofing = self.start(*there, sys.executable, "-c", self.SPOOF, source, server.port)
                self.assertEqual(spoofing.wait(), 0, spoofing.errors)
                if "ffff" not in source:
                    name = re.escape(f"[{source}]:4000")
                    server.wait_for(rf"Sent to {name}: Error: 'exit' is not obeyed from {name}$")
            self.assertIsNone(server.popen.poll(), server.output)
            self.assertNotRegex(server.output, r"(to|from) \S*127\.0\.0\.1")
            server.close()

    @on_linux
    @as_root
    def test_the_own_machine(self) -> None:
        here, _ = self.two_machines()
        for host, target in (("0.0.0.0", "10.9.8.1"), ("10.9.8.1", "10.9.8.1"), ("::", "127.0.0.1"), ("::", "::1")):
            with self.subTest(host, target=target):
                server = self.server("udp_server.py", "--host", host, within=here)
                client = self.start(*here, sys.executable, "udp_client.py", target, server.port, "-m", "exit")
                self.assertEqual(client.wait(), 0, client.errors)
                self.assertEqual(server.wait(), 0)

    def test_what_a_packet_tells(self) -> None:
        (loopback,) = (index for index, name in socket.if_nameindex() if name in ("lo", "lo0"))
        for index, is_local in ((loopback, True), (loopback + 4711, False)):
            number = index.to_bytes(4, sys.byteorder)
            local, destination = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 255])
            address = "203.0.113.1"
            info = PacketInfo(socket.IPPROTO_IP, 8, number + local + destination)
            self.assertEqual((info.is_from_here(address), info.own_host()), (is_local, "192.0.2.255"))
            self.assertEqual(info.source(), (socket.IPPROTO_IP, 8, bytes(4) + local + bytes(4)))
            for address in ("2001:db8::1", "::ffff:192.0.2.1"):
                packed = socket.inet_pton(socket.AF_INET6, address)
                info = PacketInfo(socket.IPPROTO_IPV6, 50, packed + number)
                self.assertEqual((info.is_from_here(address), info.own_host()), (is_local, address))
                self.assertEqual(info.source(), (socket.IPPROTO_IPV6, 50, packed + bytes(4)))

    def test_an_address_of_the_other_family(self) -> None:
        for host, own_host, expected in (
            ("::ffff:127.0.0.1", "2001:db8::1", True),
            ("::ffff:127.0.0.1", "::ffff:192.0.2.1", False),
            ("2001:db8::2", "2001:db8::1", False),
            ("192.0.2.2", "192.0.2.1", False),
        ):
            self.assertEqual(is_forged(host, own_host), expected, host)


class Repeated(PeerTest):
    """What a peer repeats is shown a few times and then counted: the record does not grow without limit."""

    TIMES = 700
    IN_ONE_GO = with_constants(COUNT_EVERY=3600)
    """Starts a server that counts all that a test repeats together, however long that takes."""

    def assert_counted(self, server: Server, line: str, count: str, most: int) -> None:
        """Check how many the record shows of what happened TIMES times, and that it counts the rest when it ends."""
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        shown = len(re.findall(rf"^\[\w+ Server\] {line}", server.output, re.MULTILINE))
        counted = sum(map(int, re.findall(rf"^\[Server\] {count} (\d+) more times$", server.output, re.MULTILINE)))
        self.assertEqual((shown, counted), (most, self.TIMES - most))

    def test_connections(self) -> None:
        server = self.server("tcp_server.py", "--quiet", within=self.IN_ONE_GO)
        for _ in range(self.TIMES):
            with socket.create_connection(("127.0.0.1", server.port)) as visitor:
                visitor.sendall(b"terminate\n")
                self.assertEqual(visitor.recv(1), b"")
        self.assert_counted(server, "Connected by", "Connected", 500)
        self.assertIn("[Server] Disconnected 200 more times\n", server.output)

    def test_an_exit_that_is_not_obeyed(self) -> None:
        """All are answered, whether shown or not, each with the ending of its own."""
        for script, connect in (("tcp_server.py", self.connect), ("udp_server.py", self.datagrams)):
            with self.subTest(script):
                server = self.server(script, "--quiet", "--exit-from", "nobody", within=self.IN_ONE_GO)
                peer = connect(server.port)
                refusal = f"Error: 'exit' is not obeyed from 127.0.0.1:{peer.getsockname()[1]}\r\n".encode()
                for _ in range(self.TIMES // 10):
                    for _ in range(10):
                        peer.sendall(b"exit\r\n")
                    said = b""
                    while len(said) < 10 * len(refusal):
                        said += peer.recv(MIB)
                    self.assertEqual(said, 10 * refusal)
                peer.close()
                self.assert_counted(server, "Sent to", "Sent", 100)

    def test_peers_that_say_goodbye(self) -> None:
        server = self.server("udp_server.py", "--quiet", within=self.IN_ONE_GO)
        peer = self.datagrams(server.port)
        for _ in range(self.TIMES):
            peer.send(b"hello")
            self.assertEqual(peer.recv(100), CONFIRMATION + b"hello")
            peer.send(b"terminate")
        self.assert_counted(server, "Forgot", "Forgot", 500)

    def test_what_is_only_counted_is_not_looked_at(self) -> None:
        """Datagrams of many odd characters that are not answered cost what others cost."""
        server = self.server("tcp_server.py", "--udp-port", 0, "--quiet")
        client, peer = self.connect(server.port), self.datagrams(server.udp_port)
        odd = CONFIRMATION + "".join(map(chr, range(0xE000, 0xF8FF))).encode() * 3
        took = []
        for is_odd in (False, True):
            before = cpu_seconds(server)
            for _ in range(500):
                peer.send(odd[:50_000] if is_odd else CONFIRMATION + b"x" * 50_000)
                client.sendall(b"hello\n")
                receive_lines(client, 1)
            took.append(cpu_seconds(server) - before)
        self.assertLess(took[1], 3 * took[0] + 0.1, took)

    def test_unanswered_datagrams_from_many_ports(self) -> None:
        """Of an address, it is shown once that it is not answered."""
        server = self.server("udp_server.py", "--quiet", within=self.IN_ONE_GO)
        asking = self.datagrams(server.port)
        for _ in range(50):
            with self.datagrams(server.port) as peer:
                peer.send(CONFIRMATION + b"\x01" * 60_000)
            asking.send(b"read?")
            self.assertEqual(asking.recv(100), CONFIRMATION + b"read?")
        server.wait_for("Not answered: ")
        self.assertEqual(server.output.count("Not answered: "), 1)
        self.assertLess(len(server.output), 10_000)

    def test_the_shown_size_of_odd_text_is_found_fast(self) -> None:
        """However many different characters there are, also over many messages."""
        texts = ["".join(map(chr, range(start, start + 400))) for start in range(0xE000, 0xF8FF - 400, 400)]
        texts.append("".join(map(chr, range(0xE000, 0xF8FF))))
        for text in texts:
            self.assertEqual(visible(text).replace("\\u", "").upper(), "".join(f"{ord(char):04X}" for char in text))
        self.assertLessEqual(len(KINDS), KINDS.LIMIT)


class LongCircles(PeerTest):
    """Two echo servers between which many different datagrams go."""

    def test_they_end(self) -> None:
        """Every lap drops some, however many different ones there are; who never repeats itself loses none."""
        server = self.server("udp_server.py", "--reply", "echo", "--quiet", within=with_constants(MAX_REPEATS=50))
        other = self.datagrams(server.port)
        for number in range(400):
            other.send(b"honest %d" % number)
            self.assertEqual(other.recv(100), b"honest %d" % number)
        for number in range(100):
            other.send(b"circle %d" % number)
        other.settimeout(0.5)
        handed_on = 0
        with contextlib.suppress(socket.timeout):
            while handed_on < 20_000:
                other.send(other.recv(100))
                handed_on += 1
        self.assertLess(handed_on, 20_000, "they go on for ever")


class Silence(PeerTest):
    """Who is idle, who is gone, and who is forgotten."""

    def test_who_is_told_something_is_not_idle(self) -> None:
        clock, within = Clock(self), with_constants(TICK=0.05)
        options = ("--reply", "relay", "--idle-timeout", 60, "--quiet")
        server = self.server("tcp_server.py", *options, within=within, env=clock.environment)
        listener, talker = self.connect(server.port), self.connect(server.port)
        server.wait_for("(?s)(Connected by.*){2}")
        for _ in range(3):
            talker.sendall(b"hello\n")
            self.assertTrue(receive_lines(listener, 1)[0].endswith(b": hello"))
            clock.skip(40)
        listener.settimeout(0.2)  # more than a tick
        self.assertRaises(socket.timeout, listener.recv, 1)
        listener.settimeout(PATIENCE)
        clock.skip(40)
        self.assertEqual(listener.recv(1), b"", "now it is idle")

    @on_linux
    def test_a_machine_that_is_gone_while_it_is_owed_something(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            limit_patience(listener)
            self.assertEqual(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 120_000)
        server = self.server("tcp_server.py", "--reply", "echo", "--quiet", within=with_constants(USER_TIMEOUT=300))
        lazy = self.lazy_connection(server.port)
        with contextlib.suppress(ConnectionError):  # it may be cut off by then
            fill(lazy, b"x" * 999 + b"\n", 64 * MIB)
        server.wait_for(r"Disconnected: \S+ \(Connection timed out\)$")

    @on_linux
    def test_strangers_push_out_who_was_silent_longest(self) -> None:
        constants = with_constants(MAX_PEERS=50)
        room = self.server("udp_server.py", "--reply", "relay", "--quiet", within=constants)
        member = self.datagrams(room.port)
        for number, stranger in enumerate(strangers(300, room.port)):
            if number % 20 == 0:
                member.send(b"still here")
                while member.recv(100) != CONFIRMATION + b"still here":
                    pass
            stranger.send(b"x")
            stranger.recv(100)
        room.type("who is there?\n")
        while member.recv(100) != b"who is there?":
            pass


class Rooms(PeerTest):
    """A room: what is said is kept once, told in portions, and to strangers over UDP in measure."""

    @on_linux
    def test_a_crowd_costs_a_talker_little(self) -> None:
        """However many listen over UDP, one who talks is answered before all of them were told."""
        room = self.server("tcp_server.py", "--udp-port", 0, "--reply", "relay", "--exit-from", "nobody", "--quiet")
        client, last = self.connect(room.port), self.datagrams(room.udp_port)
        for joining in strangers(3000, room.udp_port):
            joining.send(b"exit")
            joining.recv(200)
        last.send(b"exit")
        last.recv(200)
        answered, told = [], []
        for _ in range(20):
            client.sendall(b"first\n")
            self.assertEqual(receive_lines(client, 1), [CONFIRMATION + b"first"])
            began = time.monotonic()
            client.sendall(b"second\n")
            self.assertEqual(receive_lines(client, 1), [CONFIRMATION + b"second"])
            answered.append(time.monotonic() - began)
            while not last.recv(200).endswith(b": first"):
                pass
            told.append(time.monotonic() - began)
        self.assertLess(min(answered), sorted(told)[10] / 2, "a talker waits for all to be told")

    @on_linux
    @as_root
    def test_a_stranger_is_told_three_times_what_it_said(self) -> None:
        """Whoever is on this machine, or in a network that --allow names, hears everything."""
        here, there = self.two_machines()
        for options, hears_all in (((), False), (("--allow", "10.9.8.0/24"), True)):
            room = self.server("udp_server.py", "--host", "0.0.0.0", "--reply", "relay", *options, within=here)
            warning = "Peers elsewhere hear little of the room; --allow vouches for them."
            self.assertEqual(warning in room.output, not hears_all)
            code = (
                "import socket, sys; s = socket.socket(2, 2); s.sendto(b'x' * 100, ('10.9.8.1', int(sys.argv[1])));\n"
            )
            code += "while True: print(len(s.recv(999)), flush=True)"
            stranger = self.start(*there, sys.executable, "-c", code, room.port)
            stranger.wait_for("^118$")
            self.run_within(here, "10.9.8.1", room.port, b"y" * 80)
            room.type("the end\n")
            stranger.wait_for("^7$")  # what the person at the server types is not measured
            sizes = list(map(int, stranger.output.split()))
            self.assertEqual(len(sizes), 1 + (20 if hears_all else 3) + 1, sizes)
            if not hears_all:
                self.assertLessEqual(sum(sizes[1:-1]), 300)
            room.close()

    def run_within(self, machine: list[str], host: str, port: int, line: bytes) -> None:
        """Say a line twenty times on a machine, each after the reply to the one before."""
        code = "import socket, sys; s = socket.socket(2, 2); s.connect((sys.argv[1], int(sys.argv[2])))\n"
        code += "for _ in range(20): s.send(sys.argv[3].encode()); s.recv(999)"
        talker = self.start(*machine, sys.executable, "-c", code, host, port, line.decode())
        self.assertEqual(talker.wait(), 0, talker.errors)

    def test_who_reads_all_the_time_is_not_cut_off(self) -> None:
        """One says long lines as fast as it can; others read as fast as they can, and miss nothing."""
        within = with_constants(GRACE=PATIENCE, MAX_KEPT=4 * MIB)  # lag is cut off at once, and slowness is not
        room = self.server("tcp_server.py", "--reply", "relay", "--quiet", within=within)
        code = (
            "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); n = 0\n"
            "print('here', flush=True)\n"
            "while n < int(sys.argv[2]): n += len(s.recv(1 << 18)) or sys.exit('cut off')\n"
        )
        talker = self.connect(room.port)
        name = f"127.0.0.1:{talker.getsockname()[1]}: "
        count, line = 150, b"x" * 60_000
        size = count * (len(line) + 1 + len(name))
        readers = [self.start(sys.executable, "-c", code, room.port, size) for _ in range(4)]
        for reader in readers:
            reader.wait_for("here")
        wait_until(lambda: room.output.count("Connected by") == 5, "all are there")
        poured = threading.Thread(target=talker.sendall, args=((line + b"\n") * count,))
        poured.start()
        receive_lines(talker, count)
        poured.join()
        for reader in readers:
            self.assertEqual(reader.wait(), 0, reader.errors)

    def test_who_says_much_is_sent_what_it_reads_while_others_wait(self) -> None:
        """What is unsent to one who takes turns has no turn: nobody else has one before it has read."""
        room = self.server("tcp_server.py", "--reply", "relay", "--quiet", within=with_constants(GRACE=3600.0))
        listener, talker = self.lazy_connection(room.port), self.connect(room.port)
        wait_until(lambda: room.output.count("Connected by") == 2, "both are there")
        listener.sendall(b"x" * 4096 + b"\n")  # which is much
        receive_lines(listener, 1)
        receive_lines(talker, 1)
        line, count, is_heard = b"x" * 60_000 + b"\n", 0, [talker]
        while is_heard:  # until the room is full
            count += 1
            talker.sendall(line)
            is_heard, _, _ = select.select([talker], [], [], 0.3)
            receive_lines(talker, len(is_heard))
        expected = b"127.0.0.1:%d: %b" % (talker.getsockname()[1], line) * count
        heard = bytearray()
        while len(heard) < len(expected):
            heard += listener.recv(MIB)
        self.assertEqual(heard, expected)
        receive_lines(talker, 1)

    def test_nobody_says_more_than_is_kept(self) -> None:
        """However little at once: whoever speaks waits for those who read, who miss nothing."""
        options = ("--reply", "relay", "--quiet", "--udp-port", 0)
        limits = {"GRACE": 3600.0, "MAX_LAG": MIB // 8, "MAX_KEPT": 2 * MIB}
        for size, speaks_tcp in ((60_000, False), (1000, False), (1000, True)):
            with self.subTest(size=size, speaks_tcp=speaks_tcp):
                room = self.server("tcp_server.py", *options, within=with_constants(**limits))
                listener = self.lazy_connection(room.port)
                room.wait_for("Connected by")
                talker = self.connect(room.port) if speaks_tcp else self.datagrams(room.udp_port)
                count, is_heard = 0, [talker]
                while is_heard:  # until the room is full
                    count += 1
                    self.assertLess(count * size, 32 * MIB, "it never has to wait")
                    talker.sendall(b"x" * (size - 1) + b"\n")
                    is_heard, _, _ = select.select([talker], [], [], 0.3)
                    self.assertTrue(not is_heard or talker.recv(MIB).endswith(b"x\n"))
                expected = b"127.0.0.1:%d: %b\n" % (talker.getsockname()[1], b"x" * (size - 1)) * count
                heard = bytearray()
                while len(heard) < len(expected):
                    data = listener.recv(MIB)
                    self.assertTrue(data, "cut off")
                    heard += data
                self.assertEqual(heard, expected)
                room.close()

    @on_linux
    def test_what_nobody_reads_is_kept_once(self) -> None:
        """A hundred who do not read cost what is said once, and a little each; then they are cut off."""
        room = self.server("tcp_server.py", "--reply", "relay", "--quiet", within=with_constants(TICK=0.1, GRACE=0.2))
        lurkers = [self.lazy_connection(room.port) for _ in range(100)]
        talker = self.connect(room.port)
        wait_until(lambda: room.output.count("Connected by") == 101, "all are there")
        before = resident_bytes(room)
        for _ in range(100):
            talker.sendall(b"x" * 60_000 + b"\n")
            receive_lines(talker, 1)
        self.assertLess(resident_bytes(room) - before, 64 * MIB)

        def are_cut_off() -> bool:
            talker.sendall(b"x" * 60_000 + b"\n")
            receive_lines(talker, 1)
            return room.output.count("(it does not read)") == len(lurkers)

        wait_until(are_cut_off, "all are cut off")

    def test_lines_that_many_do_not_end_have_a_limit_together(self) -> None:
        """Whoever has sent most of one is cut off first; who has sent little ends it, and is answered.

        That is looked at every second, and sooner when much has come.
        """
        for name, constants in (("in time", {"TICK": 0.1}), ("at once", {"TICK": 600.0})):
            with self.subTest(name):
                self._let_some_not_end_their_lines(with_constants(MAX_BUFFERED=2 * MIB, **constants))

    def _let_some_not_end_their_lines(self, within: tuple[str, ...]) -> None:
        server = self.server("tcp_server.py", "--max-message", 500_000, "--quiet", within=within)
        modest, greedy = self.connect(server.port), [self.connect(server.port) for _ in range(9)]
        modest.sendall(b"x" * 50_000)
        for connected in greedy:
            with contextlib.suppress(OSError):  # it is cut off
                connected.sendall(b"x" * 400_000)
        cut_off = r"Disconnected: \S+ \(it does not end its line, and all that waits for that together is too much\)\n"
        wait_until(lambda: re.search(cut_off, server.output), "some are cut off")
        modest.sendall(b"\n")
        self.assertEqual(receive_lines(modest, 1), [CONFIRMATION + b"x" * 50_000])
        self.assertLess(len(re.findall(cut_off, server.output)), 9, "the rest is within the limit")
        self.assertEqual(server.errors, "")


class AudienceTest(unittest.TestCase):
    """The audience without sockets: turns, portions, and what is dropped."""

    class Listener(Peer):
        """Somebody who hears, or does not."""

        def __init__(self, name: str) -> None:
            self.name, self.heard, self.missed, self.listens = name, 0, 0, True
            self.told: list[bytes] = []
            self.ended = False

        def hear(self, lines: list[bytes]) -> None:
            self.told += lines

        def can_hear(self) -> bool:
            return self.listens

        def miss(self, count: int) -> None:
            self.missed += count

        def end(self) -> None:
            self.ended = True

    def audience(self, count: int, longest: int = 0) -> tuple[Audience, list[Any]]:
        """Return an audience, and who is in it."""
        listeners: list[Any] = [self.Listener(str(number)) for number in range(count)]
        return Audience(lambda: listeners, lambda _, step, *arguments: step(*arguments), longest), listeners

    def test_each_hears_all_others_in_order(self) -> None:
        room, listeners = self.audience(5)
        said = []
        for number in range(100):
            speaker = listeners[number % 5]
            said.append((speaker, b"%d" % number))
            room.say(*said[-1][:1], [said[-1][1]])
            room.tell_some(3)
        while room.is_busy():
            room.tell_some(3)
        for listener in listeners:
            self.assertEqual(listener.told, [line for speaker, line in said if speaker is not listener])
        room.say(listeners[0], [b"x"])
        room.tell_some()
        self.assertFalse(room.is_busy() or room.is_full())
        self.assertLessEqual(sum(len(page.lines) for page in room._pages), 1, "what all have heard is dropped")

    def test_a_pass_makes_so_many_calls(self) -> None:
        room, listeners = self.audience(1000)
        room.say(listeners[0], [b"hello"])
        room.tell_some(100)
        told = sum(len(listener.told) for listener in listeners)
        self.assertTrue(50 <= told <= 100, told)
        while room.is_busy():
            room.tell_some(100)
        self.assertEqual([len(listener.told) for listener in listeners], [0] + [1] * 999)

    def test_all_are_told_the_rest_when_the_server_stops(self) -> None:
        """However far behind they are."""
        room, listeners = self.audience(3)
        listeners[1].listens = False
        for number in range(500):
            room.say(listeners[0], [b"%d" % number + b"x" * 1000])
        room.see_off(listeners[2])
        room.finish()
        self.assertEqual((listeners[2].ended, room.seen_off()), (False, []), "whoever stops ends it, and once")
        self.assertEqual([line[:3] for line in listeners[1].told[-2:]], [b"498", b"499"])
        self.assertEqual([len(listener.told) for listener in listeners], [0, 500, 500])

    def test_who_leaves_is_told_the_rest(self) -> None:
        """In its turns, so that others do not wait for that; and not what is said after it was to go."""
        room, listeners = self.audience(3)
        listeners[2].listens = False
        for number in range(500):
            room.say(listeners[0], [b"%d" % number + b"x" * 1000])
        room.see_off(listeners[1])
        self.assertEqual(listeners[1].told, [], "to see somebody off tells nothing by itself")
        room.say(listeners[0], [b"too late"])
        passes = 0
        while not listeners[1].ended:
            room.tell_some(5)
            passes += 1
        self.assertEqual([line[:3] for line in listeners[1].told[498:500]], [b"498", b"499"])
        self.assertGreater(passes, 5)
        room.see_off(listeners[2])
        room.forget(listeners[2])
        self.assertEqual(room._last, {}, "who is cut off is not waited for")
        while room.is_busy():
            room.tell_some()
        room.see_off(listeners[0])
        self.assertTrue(listeners[0].ended, "at once, if it has heard all")
        self.assertFalse(listeners[2].ended)

    def test_who_is_told_much_has_more_time(self) -> None:
        """A second for each MiB: a line of 20 MB takes longer to read than one of a kilobyte."""
        room, listeners = self.audience(2, longest=20 << 20)
        listeners[1].listens = False
        with mock.patch("audience.time.monotonic") as clock:
            for clock.return_value, missed in ((10.0, 0), (10.1, 0), (12.0, 0), (29.0, 0), (31.0, 1)):
                room.say(None, [b"x" * (20 << 20 if clock.return_value < 12 else 1)])
                for _ in range(3):
                    room.tell_some(100_000)
                self.assertEqual(min(listeners[1].missed, 1), missed, clock.return_value)

    def test_who_does_not_listen_holds_up_nobody_for_long(self) -> None:
        room, listeners = self.audience(3)
        listeners[1].listens = False
        with mock.patch("audience.time.monotonic", return_value=10.0):
            room.say(listeners[0], [b"x" * 1000] * 2000)
            room.tell_some(1000)
        self.assertEqual(len(listeners[2].told), 2000)
        self.assertEqual((room.is_busy(), room.is_full(), listeners[1].missed), (False, True, 0))
        with mock.patch("audience.time.monotonic", return_value=12.0):
            room.tell_some(1000)
        self.assertFalse(room.is_full())
        self.assertGreater(listeners[1].missed, 900)
        self.assertEqual(listeners[2].missed, 0)

    def test_somebody_who_always_talks_does_not_silence_who_says_much(self) -> None:
        """Who says much has a turn in each round, also where all of them together never have nothing to hear."""
        room, listeners = self.audience(1000)
        turns = 0
        for number in range(1, 101):
            turns += room.may_pour()
            room.say(listeners[number % 10], [b"hello"])
            room.tell_some(200)
            self.assertTrue(room.is_busy())
        self.assertTrue(10 <= turns <= 30, turns)

    def test_no_turn_is_long(self) -> None:
        """However far behind somebody is, the others have their turn after one portion."""
        room, listeners = self.audience(3)
        for number in range(10):
            room.say(None, [b"%d" % number * PORTION])
        while room.is_busy():
            room.tell_some(1)
            counts = [len(listener.told) for listener in listeners]
            self.assertLessEqual(max(counts) - min(counts), 1, counts)
        self.assertEqual(counts, [10] * 3)

    def test_what_those_are_told_who_lag_is_made_ready_once(self) -> None:
        """Also for one who came in the middle of a portion."""
        room, listeners = self.audience(2)
        heard: list[list[list[bytes]]] = [[], []]
        for listener, portions in zip(listeners, heard):
            listener.hear = portions.append
        room.say(None, [b"x" * 9] * 1000)
        listeners[1].heard = room.end()
        for _ in range(20):
            room.say(None, [b"x" * 9] * 1000)
        while room.is_busy():
            room.tell_some(1)
        self.assertEqual([len(lines) for lines in heard[0]], [7000] * 3)
        self.assertEqual([len(lines) for lines in heard[1]], [6000, 7000, 7000])
        for one, other in zip(heard[0][1:], heard[1][1:]):
            self.assertIs(one, other)

    def test_the_longest_line_is_told(self) -> None:
        """Though it is more than is kept; what was said before it goes."""
        room, listeners = self.audience(2)
        listeners[1].listens = False
        room.say(None, [b"x" * PORTION])
        room.say(None, [b"y" * (MAX_KEPT + 1)])
        room.tell_some()
        self.assertEqual([line[:1] for line in listeners[0].told], [b"y"])
        listeners[1].listens = True
        room.tell_some()
        self.assertEqual([line[:1] for line in listeners[1].told], [b"y"])
        self.assertEqual([listener.missed for listener in listeners], [1, 1])

    def test_of_the_longest_lines_there_may_be_two(self) -> None:
        """Then nobody misses one because another was said at the same time."""
        room, listeners = self.audience(3, MAX_KEPT + 1)
        for line in (b"x" * (MAX_KEPT + 1), b"y" * (MAX_KEPT + 1), b"z"):
            room.say(None, [line])
        while room.is_busy():
            room.tell_some()
        for listener in listeners:
            self.assertEqual((listener.missed, [line[:1] for line in listener.told]), (0, [b"x", b"y", b"z"]))

    def test_who_listens_misses_nothing(self) -> None:
        """Though much more is said while all have a turn than fits into a portion, and that takes long."""
        room, listeners = self.audience(100)
        with mock.patch("audience.time.monotonic", side_effect=itertools.count()):
            for _ in range(1000):
                room.say(listeners[0], [b"x" * 1000] * 10)
                room.tell_some(50)
        while room.is_busy():
            room.tell_some(1000)
        for listener in listeners[1:]:
            self.assertEqual((listener.missed, len(listener.told)), (0, 10_000))


if __name__ == "__main__":
    unittest.main()
