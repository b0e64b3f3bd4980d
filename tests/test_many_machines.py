"""What docs/many-machines.md shows, run: its Redis, its HAProxy before three servers, and how the archive is read."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from redis_server import HAS_REDIS, Redis, RedisTest
from support import PATIENCE, ROOT, Process, Server, free_port, needs, readme_block, receive_lines, wait_until

PAGE = (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")
USER = "messages:change-me@"


@HAS_REDIS
class ManyMachines(RedisTest):
    """Three servers, which are one room."""

    def documented(self) -> Redis:
        """Start the page's Redis, on this machine."""
        lines = readme_block("# /etc/redis/redis.conf").splitlines()
        options = [line for line in lines if not line.startswith(("#", "bind ", "port "))]
        self.assertEqual(len(options), 7)
        users = [line for line in options if line.startswith("user ")]
        folder = Path(tempfile.mkdtemp())
        acl = folder / "users.acl"  # users with blanks in their rules do not fit into a command line
        acl.write_text("".join(f"{line}\n" for line in users))
        others = [line for line in options if line not in users]
        return self.redis(*others, f"aclfile {acl}", folder=folder)

    def servers(self, redis: Redis, *options: object) -> list[Server]:
        """Start three servers of the room."""
        options = ("--proxy-from", "127.0.0.1", "--exit-from", "nobody", "--reply", "relay", *options)
        return [self.server("tcp_server.py", *options, "--save", redis.where(user=USER)) for _ in range(3)]

    def proxy(self, servers: list[Server]) -> int:
        """Start the page's HAProxy before servers; return its port."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        text = readme_block("# /etc/haproxy/haproxy.cfg, before three machines")
        for server in servers:
            text = re.sub(r"10\.0\.0\.\d:9000", f"127.0.0.1:{server.port}", text, count=1)
        for _ in range(5):  # somebody else may take a free port before the proxy does
            port = free_port()
            (folder / "haproxy.cfg").write_text(text.replace("bind :9000", f"bind 127.0.0.1:{port}"))
            proxy = self.start("haproxy", "-db", "-f", folder / "haproxy.cfg")
            self.addCleanup(end, proxy)
            wait_until(functools.partial(ended_or_answers, proxy, port), "the proxy")
            if proxy.popen.poll() is None:
                return port
        raise AssertionError(proxy.errors)

    @needs("haproxy")
    def test_one_room_behind_haproxy_over_both_protocols(self) -> None:
        redis = self.documented()
        servers = self.servers(redis)
        for server in servers:
            server.wait_for(
                r"^\[Server\] Messages go to .*/room\. appendfsync always: what is confirmed is on its disk\.$"
            )
            self.assertNotIn("change-me", server.output)
        port = self.proxy(servers)
        datagrams = self.server("udp_server.py", "--reply", "relay", "--save", redis.where(user=USER))
        udp = self.datagrams(datagrams.port)
        udp.sendall(b"over UDP\n")
        self.assertEqual(receive_lines(udp, 1), [b"Message received: over UDP"])
        clients = [self.connect(port) for _ in range(6)]
        for number, client in enumerate(clients):  # each is connected, and known, before anybody speaks
            client.sendall(b"here\n")
            self.assertEqual(self.next_of(client, b"Message received: "), b"Message received: here", number)
        for server in servers:
            server.wait_for("Received from")
        clients[0].sendall(b"hello, all\n")
        line = "{}:{}: hello, all".format(*clients[0].getsockname()).encode()
        for listener in (*clients[1:], udp):
            self.assertEqual(self.next_of(listener, line), line)
        self.assertEqual(redis.texts(user=("reader", "change-me-too")), ["over UDP", *["here"] * 6, "hello, all"])

    def next_of(self, connected: socket.socket, start: bytes) -> bytes:
        """Return the next line that begins so."""
        while True:
            found = [line for line in receive_lines(connected, 1) if line.startswith(start)]
            if found:
                return found[0]

    @needs("haproxy")
    def test_a_server_is_killed_behind_haproxy(self) -> None:
        redis = self.documented()
        servers = self.servers(redis)
        port = self.proxy(servers)
        texts = [f"message {number}" for number in range(3000)]
        client = self.client("tcp_client.py", "--reconnect", "--stats", "127.0.0.1", port)
        client.type("".join(f"{text}\n" for text in texts[:1000]))
        client.wait_for("^Message received: message 999$")
        home = wait_until(lambda: [one for one in servers if ": message 0\n" in one.output], "a line of the record")[0]
        home.stop()
        client.type("".join(f"{text}\n" for text in texts[1000:2000]))
        home.signal(signal.SIGKILL)
        client.type("".join(f"{text}\n" for text in texts[2000:]))
        client.end_input()
        self.assertEqual(client.wait(), 0, client.errors)
        self.assertIn("3000 sent, 3000 confirmed, 0 lost", client.errors)
        self.assertEqual(set(texts) - set(redis.texts(user=("reader", "change-me-too"))), set())

    @needs("redis-cli")
    def test_reading_the_archive(self) -> None:
        redis = self.documented()
        server = self.server("tcp_server.py", "--save", redis.where(user=USER))
        done = self.run_client("tcp_client.py", "127.0.0.1", server.port, "-m", "one", "-m", "two")
        self.assertEqual(done.popen.returncode, 0)
        commands = re.findall(r"^redis-cli .*$", PAGE, re.MULTILINE)
        self.assertEqual(len(commands), 4)
        said = []
        for command in commands:
            here = command.replace("@10.0.0.10", f"@127.0.0.1:{redis.port}")
            run = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=True, timeout=PATIENCE)
            self.assertNotIn("NOPERM", run.stdout)
            said.append(run.stdout)
        names = re.findall(r"^(at|protocol|direction|peer|text|server)$", said[0], re.MULTILINE)
        self.assertEqual(set(names), set(re.findall(r"`(at|protocol|direction|peer|text|server)`", PAGE)))
        self.assertEqual([said[0].count("\none\n"), said[1].count("\ntwo\n"), said[2].strip()], [1, 1, "2"])
        self.assertEqual(redis.ask("XLEN", "room", user=("reader", "change-me-too")), 2)

    def test_the_command_of_the_page(self) -> None:
        (command,) = re.findall(r"^python3 (tcp_server.py .*?[^\\])$", PAGE, re.MULTILINE | re.DOTALL)
        redis = self.documented()
        options = command.replace("\\\n", " ").replace("@10.0.0.10", f"@127.0.0.1:{redis.port}").split()
        server = self.start(sys.executable, options[0], 0, *options[2:])
        server.wait_for("Listening")
        self.assertNotIn("Anybody", server.errors)


def ended_or_answers(proxy: Process, port: int) -> bool:
    """Tell whether a proxy has ended, or takes connections."""
    with socket.socket() as probe:
        return proxy.popen.poll() is not None or not probe.connect_ex(("127.0.0.1", port))


def end(proxy: Process) -> None:
    """Tell a proxy to end, and wait for it; killed, it would leave processes behind."""
    proxy.signal(signal.SIGTERM)
    proxy.wait()


if __name__ == "__main__":
    unittest.main()
