"""The PROXY protocol: who the client is, told by a proxy; and real nginx and HAProxy in front of real servers."""

from __future__ import annotations

import contextlib
import errno
import functools
import re
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from hostile import kernel_rows
from support import (
    PATIENCE,
    Clock,
    Process,
    Server,
    TestCase,
    free_port,
    needs,
    readme_block,
    receive_all,
    receive_lines,
    wait_until,
    with_constants,
)
from test_proxy_header import HEADERS, LOCAL, REFUSED, SIGNATURE, binary, v1, v2

from entrance import Entrance

on_linux = unittest.skipUnless(sys.platform == "linux", "only Linux has all of 127.0.0.0/8")


class Headers(TestCase):
    """A server with --proxy-from believes its proxies' headers, and nobody else's."""

    def behind_proxy(self, *options: object) -> Server:
        """Start a server whose proxy is 127.0.0.1."""
        return self.server("tcp_server.py", "--proxy-from", "127.0.0.1", *options)

    def talk(self, server: Server, said: bytes, host: str = "127.0.0.1") -> bytes:
        """Return all that is answered, on a connection of its own from `host`, to what is said at once."""
        connected = socket.create_connection(("127.0.0.1", server.port), PATIENCE, (host, 0))
        self.addCleanup(connected.close)
        return self.last_words(connected, said)

    def last_words(self, connected: socket.socket, said: bytes) -> bytes:
        """Return all that is answered to what is said at once; nothing to whom the server hangs up on."""
        try:
            connected.sendall(said)
            connected.shutdown(socket.SHUT_WR)
            return receive_all(connected)
        except OSError as error:
            self.assertIn(error.errno, (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN))
            return b""

    def assert_shut_out(self, server: Server, said: bytes, why: str) -> None:
        """Check that who says this first is hung up on, for a reason that the record tells."""
        connected = self.connect(server.port)
        name = "{}:{}".format(*connected.getsockname())
        self.assertEqual(self.last_words(connected, said), b"")
        server.wait_for(rf"Disconnected: {re.escape(name)} \(.*{why}.*\)$")
        self.assertNotIn(f"Connected by {name}", server.output)
        self.assertIsNone(server.popen.poll())

    def test_the_client_is_the_peer(self) -> None:
        server = self.behind_proxy()
        for header, name in (
            (v1("203.0.113.1"), "203.0.113.1:5555"),
            (v1("2001:db8::1"), "[2001:db8::1]:5555"),
            (v2("203.0.113.2"), "203.0.113.2:5555"),
            (v2("2001:db8::2", extra=bytes(300)), "[2001:db8::2]:5555"),
            (v2("::ffff:203.0.113.3"), "203.0.113.3:5555"),
        ):
            with self.subTest(header=header):
                self.assertEqual(self.talk(server, header + b"hello\n"), b"Message received: hello\n")
                server.wait_for(
                    rf"Connected by {re.escape(name)}\n.*Received from {re.escape(name)}: hello\n"
                    rf".*Disconnected: {re.escape(name)}$"
                )
        self.assertNotIn("127.0.0.1", server.output.partition("\n")[2])

    def test_a_header_arrives_in_any_pieces(self) -> None:
        server = self.behind_proxy()
        for header in (v1("203.0.113.1"), v2("203.0.113.2")):
            connected = self.connect(server.port)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for place in range(len(header)):
                connected.sendall(header[place : place + 1])
            connected.sendall(b"hello\n")
            self.assertEqual(receive_lines(connected, 1), [b"Message received: hello"])

    def test_a_message_of_a_client_is_never_a_second_header(self) -> None:
        server = self.behind_proxy()
        said = v1("203.0.113.1") + v1("127.0.0.1") + b"exit\n"
        confirmation, refusal = self.talk(server, said).splitlines()
        self.assertEqual(confirmation, b"Message received: " + v1("127.0.0.1").strip())
        self.assertEqual(refusal, b"Error: 'exit' is not obeyed from 203.0.113.1:5555")

    def test_cut_short(self) -> None:
        server = self.behind_proxy()
        for part in (b"", b"PRO", v1("203.0.113.1")[:-1], SIGNATURE, v2("203.0.113.1")[:-1]):
            with self.subTest(part=part):
                self.assert_shut_out(server, part, "closed before its PROXY header was whole")

    def test_no_valid_header(self) -> None:
        server = self.behind_proxy()
        for data in REFUSED:
            with self.subTest(data=data):
                self.assert_shut_out(server, data + b"\nexit\n", "no valid PROXY header")

    def test_a_scope_does_no_harm(self) -> None:
        server = self.behind_proxy()
        for scope in ("%a\0b", "%\x1b[2J"):
            self.assert_shut_out(server, v1("fe80::1" + scope) + b"exit\n", "no valid PROXY header")
        self.assertTrue(server.output.replace("\n", "").isprintable())

    def test_a_connection_without_header_does_not_hold_up_the_end(self) -> None:
        server = self.behind_proxy()
        connected = self.connect(server.port)
        connected.sendall(b"PROXY ")
        self.assertEqual(self.talk(server, v1("203.0.113.1") + b"hello\n"), b"Message received: hello\n")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0, server.errors)

    @on_linux
    def test_from_elsewhere(self) -> None:
        server = self.behind_proxy("--proxy-from", "127.0.0.8/29")
        for host, is_proxy in (("127.0.0.1", True), ("127.0.0.9", True), ("127.0.0.2", False), ("127.0.0.16", False)):
            with self.subTest(host=host):
                answer = self.talk(server, v1("203.0.113.1") + b"hello\n", host)
                self.assertEqual(answer, b"Message received: hello\n" if is_proxy else b"")
        server.wait_for(r"Refused 127\.0\.0\.2:(?s:.*)Refused 127\.0\.0\.16:")
        self.assertEqual(server.output.count("Received from"), 2)

    def test_without_the_option_a_header_is_a_line_of_text(self) -> None:
        server = self.server("tcp_server.py")
        header = v1("203.0.113.1")
        self.assertEqual(self.talk(server, header), b"Message received: " + header)
        server.wait_for(r"Received from 127\.0\.0\.1:\d+: PROXY TCP4 203\.0\.113\.1 ")

    def test_a_proxy_that_speaks_for_itself_is_answered_and_not_obeyed(self) -> None:
        server = self.behind_proxy()
        for header in [header for header, client in HEADERS.items() if client is None]:
            with self.subTest(header=header):
                connected = self.connect(server.port)
                name = "{}:{}".format(*connected.getsockname())
                connected.sendall(header + b"hello\nexit\n")
                self.assertEqual(
                    receive_lines(connected, 2),
                    [b"Message received: hello", f"Error: 'exit' is not obeyed from {name}".encode()],
                )
                server.wait_for(rf"Connected by {re.escape(name)}$")
        self.assertIsNone(server.popen.poll())

    def test_whose_exit_is_obeyed(self) -> None:
        for options, host, obeyed in (
            ((), "203.0.113.1", False),
            ((), "127.0.0.1", True),
            (("--exit-from", "anyone"), "203.0.113.1", True),
            (("--exit-from", "nobody"), "127.0.0.1", False),
        ):
            for header in (v1(host), v2(host)):
                with self.subTest(options=options, header=header):
                    server = self.behind_proxy(*options)
                    said = self.talk(server, header + b"exit\n").decode()
                    if obeyed:
                        self.assertEqual(said, "Server shutting down...\n")
                        self.assertEqual(server.wait(), 0, server.errors)
                        self.assertIn(f"Shutdown command received from {host}:5555", server.output)
                    else:
                        self.assertEqual(said, f"Error: 'exit' is not obeyed from {host}:5555\n")
                        self.assertIsNone(server.popen.poll())

    def test_an_address_that_nobody_has_is_not_local(self) -> None:
        server = self.behind_proxy()
        for host in ("0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"):
            with self.subTest(host=host):
                self.assertRegex(self.talk(server, v1(host) + b"exit\n"), b"^Error: 'exit' is not obeyed|^$")
        self.assertIsNone(server.popen.poll())

    def test_a_proxy_elsewhere(self) -> None:
        """A client of the proxy's own machine is not on the server's, though both call it 127.0.0.1."""
        here, there = self.two_machines()
        options = ("--host", "0.0.0.0", "--proxy-from", "10.9.8.2")
        server = self.server("tcp_server.py", *options, within=here)
        speak = (
            "import socket, sys; s = socket.create_connection(('10.9.8.1', int(sys.argv[1])), 20);"
            "s.sendall(b'PROXY TCP4 127.0.0.1 127.0.0.1 5555 9000\\r\\nexit\\n'); print(s.makefile().readline())"
        )
        proxy = self.start(*there, sys.executable, "-c", speak, server.port)
        self.assertEqual(proxy.wait(), 0, proxy.errors)
        self.assertEqual(proxy.output.strip(), "Error: 'exit' is not obeyed from 127.0.0.1:5555")
        self.assertIsNone(server.popen.poll())

    def two_machines(self) -> tuple[list[str], list[str]]:
        """Return what runs a command on each of two machines, 10.9.8.1 and 10.9.8.2, that are joined by a cable."""
        machines = []
        for number in (1, 2):
            self.set_up(["unshare", "-n", "ip", "address"])
            holder = self.start("unshare", "-n", "sh", "-c", "echo here; exec cat")
            holder.wait_for("here")
            machines.append(["nsenter", "-n", "-t", str(holder.popen.pid)])
            if number == 2:
                cable = ["ip", "link", "add", "cable1", "type", "veth", "peer", "name", "cable2"]
                self.set_up([*machines[0], *cable, "netns", str(holder.popen.pid)])
        for number, machine in enumerate(machines, 1):
            address = ["ip", "address", "add", f"10.9.8.{number}/24", "dev", f"cable{number}"]
            self.set_up([*machine, *address])
            self.set_up([*machine, "ip", "link", "set", f"cable{number}", "up"])
            self.set_up([*machine, "ip", "link", "set", "lo", "up"])
        return machines[0], machines[1]

    def set_up(self, command: list[str]) -> None:
        """Run a command; skip the test where it may not run."""
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no network namespaces here: {error}")

    def test_allow_goes_by_the_client(self) -> None:
        server = self.behind_proxy("--allow", "203.0.113.0/24", "--allow", "2001:db8::/32")
        for header in (v1("203.0.113.1"), v2("2001:db8::1"), v2("::ffff:203.0.113.9")):
            with self.subTest(header=header):
                self.assertEqual(self.talk(server, header + b"hello\n"), b"Message received: hello\n")
        for host in ("198.51.100.1", "127.0.0.1", "2001:db9::1"):
            for header in (v1(host), v2(host)):
                with self.subTest(header=header):
                    self.assertEqual(self.talk(server, header + b"hello\n"), b"")
                server.wait_for(rf"Refused {host}: ")
        self.assertEqual(server.output.count("Received from"), 3)

    def test_allow_holds_for_the_proxy_itself(self) -> None:
        closed = self.behind_proxy("--allow", "203.0.113.0/24")
        opened = self.behind_proxy("--allow", "203.0.113.0/24", "--allow", "127.0.0.1")
        for header in (b"PROXY UNKNOWN\r\n", binary(LOCAL, 0, b"")):
            with self.subTest(header=header):
                self.assertEqual(self.talk(opened, header + b"hello\n"), b"Message received: hello\n")
                self.assertEqual(self.talk(closed, header + b"hello\n"), b"")

    def test_relay_and_archive_have_the_clients_address(self) -> None:
        archived = tempfile.TemporaryDirectory()
        self.addCleanup(archived.cleanup)
        path = Path(archived.name) / "messages.db"
        server = self.behind_proxy("--reply", "relay", "--save", path)
        listener = self.connect(server.port)
        listener.sendall(v2("2001:db8::1") + b"first\n")
        self.assertEqual(receive_lines(listener, 1), [b"Message received: first"])
        self.assertEqual(self.talk(server, v1("203.0.113.1") + b"hello\n"), b"Message received: hello\n")
        self.assertEqual(receive_lines(listener, 1), [b"203.0.113.1:5555: hello"])
        with contextlib.closing(sqlite3.connect(path)) as archive:
            rows = archive.execute("SELECT peer, text FROM messages ORDER BY id").fetchall()
        self.assertEqual(rows, [("[2001:db8::1]:5555", "first"), ("203.0.113.1:5555", "hello")])

    def test_tls_comes_after_the_header(self) -> None:
        server = self.behind_proxy(*certificate())
        context = ssl.create_default_context(cafile=certificate()[1])
        for header, host in ((v1("203.0.113.1"), "203.0.113.1"), (v2("203.0.113.2"), "203.0.113.2")):
            with self.subTest(header=header):
                connected = self.connect(server.port)
                connected.sendall(header)
                with context.wrap_socket(connected, server_hostname="127.0.0.1") as secure:
                    secure.sendall(b"hello\nexit\n")
                    self.assertEqual(
                        receive_lines(secure, 2),
                        [b"Message received: hello", f"Error: 'exit' is not obeyed from {host}:5555".encode()],
                    )
                server.wait_for(rf"Connected by {host}:5555$")

    def test_tls_without_the_header_is_shut_out(self) -> None:
        server = self.behind_proxy(*certificate())
        connected = self.connect(server.port)
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            ssl.create_default_context(cafile=certificate()[1]).wrap_socket(connected, server_hostname="127.0.0.1")
        server.wait_for(r"Disconnected: 127\.0\.0\.1:\d+ \(no valid PROXY header: ")


class Shared:
    """What both proxies are tested for; unittest does not look in here."""

    class BehindProxy(TestCase):
        """Two servers and a proxy, whose configuration is the README's with other ports and paths."""

        first_line = ""

        def setUp(self) -> None:
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self.folder = Path(folder.name)

        def command(self, path: Path) -> list[object]:
            """Return what runs the proxy in the foreground with a configuration file."""
            raise NotImplementedError

        def servers(self, *options: object) -> tuple[Server, Server]:
            """Start two TCP servers, each with an archive."""
            options = ("--proxy-from", "127.0.0.1", *options)
            return (
                self.server("tcp_server.py", *options, "--save", self.folder / "one.db"),
                self.server("tcp_server.py", *options, "--save", self.folder / "two.db"),
            )

        def proxy(self, *servers: Server) -> int:
            """Start the proxy before two servers of one protocol; return the port that clients connect to."""
            configuration = readme_block(self.first_line)
            first, kind = (9000, socket.SOCK_STREAM) if servers[0].protocol == "TCP" else (9010, socket.SOCK_DGRAM)
            for _ in range(5):  # somebody else may take a free port before the proxy does
                ports = {9000: free_port(), 9010: free_port(socket.SOCK_DGRAM)}
                ports.update({first + number: server.port for number, server in enumerate(servers, 1)})
                path = self.folder / "configuration"
                path.write_text(with_ports(configuration, ports).replace("/run/", f"{self.folder}/"))
                proxy = self.start(*self.command(path))
                self.addCleanup(end_with_its_workers, proxy)
                wait_until(
                    functools.partial(ended_or_answers, proxy, ports[first], kind), "an answer through the proxy"
                )
                if proxy.popen.poll() is None:
                    return ports[first]
            raise AssertionError(f"the proxy did not start: {proxy.errors}")

        def speak(self, port: int, host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
            """Connect from an address of this machine, say so, and check that it is confirmed."""
            client = socket.socket(socket.AF_INET, kind)
            self.addCleanup(client.close)
            client.settimeout(PATIENCE)
            client.bind((host, 0))
            client.connect(("127.0.0.1", port))
            client.sendall(f"this is {host}\n".encode())
            self.assertEqual(receive_lines(client, 1), [f"Message received: this is {host}".encode()])
            return client

        def test_clients_are_spread_and_known(self) -> None:
            """Each server gets some of the clients, and knows their own addresses."""
            servers = self.servers()
            port = self.proxy(*servers)
            clients = [self.speak(port, f"127.0.0.{number}") for number in range(2, 8)]
            for client in clients:
                host, number = client.getsockname()
                said = rf"Connected by {host}:{number}\n(?s:.*)Received from {host}:{number}: this is {host}\n"
                wait_until(functools.partial(is_shown_by_one, servers, said), said)
            for server in servers:
                self.assertIn(": this is 127.0.0.", server.output)

        def test_a_half_close_goes_through(self) -> None:
            """Say all and half-close, as nc -N does; all replies arrive, and then the end."""
            port = self.proxy(*self.servers())
            client = self.connect(port)
            client.sendall(b"one\ntwo\nthree")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(
                receive_all(client), b"".join(b"Message received: %s\n" % m for m in (b"one", b"two", b"three"))
            )

        def test_tls_goes_through(self) -> None:
            """TLS is between client and server; the header stands before it."""
            servers = self.servers(*certificate())
            port = self.proxy(*servers)
            client = self.run_client(
                "tcp_client.py", "127.0.0.1", port, "--tls", "--tls-ca", certificate()[1], "-m", "hello"
            )
            self.assertEqual((client.output, client.wait()), ("Message received: hello\n", 0), client.errors)

        def test_nothing_is_lost_with_a_server(self) -> None:
            """Kill a server while messages are under way to it; the client comes back, and all are confirmed."""
            servers = self.servers()
            port = self.proxy(*servers)
            texts = [f"message {number}" for number in range(3000)]
            first, under_way, last = ("".join(f"{text}\n" for text in texts[start::3]) for start in range(3))
            client = self.client("tcp_client.py", "--reconnect", "--stats", "127.0.0.1", port)
            client.type(first)
            client.wait_for("^Message received: message 2997$")
            wait_until(lambda: is_shown_by_one(servers, ": message 0\n"), "the message in a record")
            killed, other = servers if ": message 0\n" in servers[0].output else servers[::-1]
            killed.stop()
            client.type(under_way)
            killed.signal(signal.SIGKILL)
            client.type(last)
            client.end_input()
            self.assertEqual(client.wait(), 0, client.errors)
            self.assertIn("3000 sent, 3000 confirmed, 0 lost", client.errors)
            self.assertEqual(set(client.output.splitlines()), {f"Message received: {text}" for text in texts})
            other.wait_for(": message 1$")
            saved: set[str] = set()
            for name in ("one.db", "two.db"):
                with contextlib.closing(sqlite3.connect(self.folder / name)) as archive:
                    saved.update(text for (text,) in archive.execute("SELECT text FROM messages"))
            self.assertEqual(set(texts) - saved, set())


def is_shown_by_one(servers: tuple[Server, Server], pattern: str) -> bool:
    """Tell whether just one of two servers shows something."""
    return bool(re.search(pattern, servers[0].output)) != bool(re.search(pattern, servers[1].output))


def with_ports(configuration: str, ports: dict[int, int]) -> str:
    """Return the README's configuration with other ports; those that are not given lead nowhere."""
    return re.sub(r"\b90[01][0-2]\b", lambda found: str(ports.get(int(found[0]), 1)), configuration)


def end_with_its_workers(proxy: Process) -> None:
    """Tell a proxy to end, and wait for it; killed, it would leave processes behind."""
    proxy.signal(signal.SIGTERM)
    proxy.wait()


def ended_or_answers(proxy: Process, port: int, kind: socket.SocketKind) -> bool:
    """Tell whether a proxy has ended, or passes a message and its answer on."""
    if proxy.popen.poll() is not None:
        return True
    with socket.socket(socket.AF_INET, kind) as connected, contextlib.suppress(OSError):
        connected.settimeout(1.0)
        connected.connect(("127.0.0.1", port))
        connected.sendall(b"ready?\n")
        return bool(connected.recv(100))
    return False


@on_linux
@needs("haproxy")
class BehindHAProxy(Shared.BehindProxy):
    """Two servers behind HAProxy, which sends headers of version 2."""

    first_line = "# /etc/haproxy/haproxy.cfg"

    def command(self, path: Path) -> list[object]:
        return ["haproxy", "-db", "-f", path]

    def test_health_checks_are_taken_for_the_proxy(self) -> None:
        servers = self.servers()
        self.proxy(*servers)

        def silent_visitors() -> set[str]:
            output = servers[0].output + servers[1].output
            visitors = set(re.findall(r"Disconnected: (127\.0\.0\.1:\d+)\b", output))
            self.assertLessEqual(visitors, set(re.findall(r"Connected by (\S+)$", output, re.MULTILINE)))
            return visitors - set(re.findall(r"Received from (\S+): ", output))

        wait_until(silent_visitors, "a health check")


@on_linux
@needs("nginx")
class BehindNginx(Shared.BehindProxy):
    """Two servers behind nginx, which sends headers of version 1 over TCP, and none over UDP."""

    first_line = "# /etc/nginx/nginx.conf"

    def command(self, path: Path) -> list[object]:
        return ["nginx", "-p", f"{self.folder}/", "-c", path, "-e", "stderr", "-g", "daemon off;"]

    def setUp(self) -> None:
        super().setUp()
        module = re.search(r"load_module (\S+);", readme_block(self.first_line))
        if module and not Path(module[1]).exists():
            self.skipTest(f"nginx has no {module[1]}")

    def test_udp_peers_are_spread_and_nobody_is_obeyed(self) -> None:
        servers = self.udp_servers()
        port = self.proxy(*servers)
        for number in range(2, 8):
            peer = self.speak(port, f"127.0.0.{number}", socket.SOCK_DGRAM)
            peer.sendall(b"exit")
            self.assertRegex(peer.recv(1000), rb"^Error: 'exit' is not obeyed from 127\.0\.0\.1:\d+$")
        for server in servers:
            server.wait_for(r"Received from 127\.0\.0\.1:\d+: this is 127\.0\.0\.\d$")
            self.assertIsNone(server.popen.poll())

    def test_a_udp_server_is_killed_and_the_other_answers(self) -> None:
        servers = self.udp_servers()
        client = self.client("udp_client.py", "127.0.0.1", self.proxy(*servers), "--retries", 40, "--timeout", 0.5)
        client.type("first\n")
        client.wait_for("received: first")
        wait_until(lambda: is_shown_by_one(servers, ": first\n"), "the message in a record")
        killed, other = servers if ": first\n" in servers[0].output else servers[::-1]
        killed.signal(signal.SIGKILL)
        killed.wait()
        client.type("second\nlast\n")
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        other.wait_for(": second$")
        other.wait_for(": last$")

    def udp_servers(self) -> tuple[Server, Server]:
        """Start two UDP servers."""
        return self.server("udp_server.py", "--exit-from", "nobody"), self.server(
            "udp_server.py", "--exit-from", "nobody"
        )


class TooSlow(TestCase):
    """Who is not through the entrance within ten seconds is shut out; here within a thousand, so that none is late."""

    def setUp(self) -> None:
        self.clock = Clock(self)

    def server_that_looks_often(self, *options: object) -> Server:
        """Start a server that looks at once who is too slow, when the clock is put forward."""
        options = ("--proxy-from", "127.0.0.1", *options)
        within = with_constants(TICK=0.05, WITHIN=1000)
        return self.server("tcp_server.py", *options, within=within, env=self.clock.environment)

    def assert_shut_out(self, *connections: socket.socket) -> None:
        """Check that connections, which the server has taken in, are closed after that time, and not before."""
        self.clock.skip(900)
        self.assertEqual(select.select(connections, [], [], 0.2)[0], [], "before its time, for some ticks")
        self.clock.skip(100)
        for connected in connections:
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(receive_all(connected), b"")

    def test_how_long_that_is(self) -> None:
        self.assertEqual(Entrance.WITHIN, 10)

    def test_whose_header_is_not_there_in_time(self) -> None:
        server = self.server_that_looks_often()
        silent, slow, patient = (self.connect(server.port) for _ in range(3))
        for byte in b"PROXY UNKNOWN ":
            slow.sendall(bytes((byte,)))
        patient.sendall(v1("203.0.113.1"))
        server.wait_for("Connected by 203.0.113.1:")  # which came last
        self.assert_shut_out(silent, slow)
        for connected in (silent, slow):
            server.wait_for(rf"Disconnected: \S+:{connected.getsockname()[1]} \(no PROXY header .*within 1000 s\)$")
        self.assertNotIn("Connected by 127.0.0.1", server.output)
        patient.sendall(b"hello\n")
        self.assertEqual(receive_lines(patient, 1), [b"Message received: hello"])

    @on_linux
    def test_whose_tls_handshake_is_not_there_in_time(self) -> None:
        server = self.server_that_looks_often(*certificate())
        only_header = self.connect(server.port)
        only_header.sendall(v1("203.0.113.2"))
        other = f":{only_header.getsockname()[1]:04X}"
        unread = "00000000:00000000"  # what is on its way to the server, and what it has not read
        rows = functools.partial(kernel_rows, "tcp", server.port)
        wait_until(lambda: [row[4] for row in rows() if row[2].endswith(other)] == [unread], "the server has read it")
        self.assert_shut_out(only_header)
        server.wait_for(r"Disconnected: 203\.0\.113\.2:5555 \(no .*TLS handshake within 1000 s\)$")


folder: Path


def setUpModule() -> None:
    """Make a folder for certificates."""
    global folder  # noqa: PLW0603
    temporary = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(temporary.cleanup)
    folder = Path(temporary.name)


@functools.cache
def certificate() -> tuple[str, str, str, str]:
    """Return the options that give a server a certificate of its own for 127.0.0.1; skip without `openssl`."""
    if not shutil.which("openssl"):
        raise unittest.SkipTest("openssl is not installed")
    path, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", path, "-keyout", key]
    subprocess.run(command, capture_output=True, check=True)
    return "--tls-cert", path, "--tls-key", key


if __name__ == "__main__":
    unittest.main()
