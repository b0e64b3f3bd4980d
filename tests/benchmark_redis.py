"""The benchmark's section on Redis: the stream as an archive, and as a room over two servers beside one."""

from __future__ import annotations

import argparse
import contextlib
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark_load import HOST, PATIENCE, Silence, connect_tcp
from benchmark_servers import LOAD_CORES, MESSAGE_SIZE, SETTLE, TEXT, Server, free_port, on_cores, ours
from benchmark_tables import in_turn, median, print_table

IN_FLIGHT = 50
READY = b"Ready to accept connections"
LINE = (TEXT * 2)[: MESSAGE_SIZE - 1] + b"\n"
HAS_REDIS = bool(shutil.which("redis-server"))


@contextlib.contextmanager
def a_redis(*options: str) -> Iterator[str]:
    """Run a redis-server on the cores of the load; yield the address of a stream in it."""
    with tempfile.TemporaryDirectory() as folder, on_cores(LOAD_CORES):
        port = free_port(socket.SOCK_STREAM)
        command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", folder, "--save", "", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as redis:
            try:
                assert redis.stdout
                while READY not in redis.stdout.readline():
                    if redis.poll() is not None:
                        raise Silence("redis-server does not start")
                yield f"redis://{HOST}:{port}/room"
            finally:
                redis.kill()


@dataclass
class Heard:
    """What one round found out about a room: lines told a second, and seconds from send to another's recv."""

    rate: float
    p50: float
    p99: float


def receive(connected: socket.socket, count: int) -> None:
    """Take so many lines. Raises Silence."""
    while count > 0:
        if not select.select([connected], [], [], PATIENCE)[0]:
            raise Silence("nothing is told")
        data = connected.recv(1 << 16)
        if not data:
            raise Silence("the listener was cut off")
        count -= data.count(b"\n")


def measure_room(where: str, servers: int, seconds: float) -> Heard:
    """Measure once what a listener at the last of some servers hears of a talker at the first."""
    contender = ours("tcp", "--reply", "relay", *(["--save", where] if where else []))
    with contextlib.ExitStack() as stack:
        rooms = [stack.enter_context(contextlib.closing(Server(contender, connect_tcp))) for _ in range(servers)]
        talker = stack.enter_context(connect_tcp(rooms[0].port))
        listener = stack.enter_context(connect_tcp(rooms[-1].port))
        for one in (listener, talker):
            one.setblocking(True)
            one.sendall(b"here\n")
            receive(one, 1)
        receive(listener, 1)
        took: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            talker.sendall(LINE)
            receive(listener, 1)
            took.append(time.perf_counter() - began)
            receive(talker, 1)
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + max(seconds, SETTLE):
            talker.sendall(LINE * IN_FLIGHT)
            receive(talker, IN_FLIGHT)
            receive(listener, IN_FLIGHT)
            count += IN_FLIGHT
        rate = count / (time.perf_counter() - began)
    took.sort()
    return Heard(rate, took[len(took) // 2], took[len(took) * 99 // 100])


def show_shared_room(options: argparse.Namespace) -> None:
    """Measure a room over two servers beside one server, with and without a stream."""
    with a_redis("--appendonly", "yes") as where:
        things = {
            "one server": ("", 1),
            "one server, `--save redis://`": (where, 1),
            "two servers, `--save redis://`": (where, 2),
        }

        def look(thing: tuple[str, int]) -> Heard:
            with on_cores(LOAD_CORES):
                return measure_room(*thing, options.seconds)

        seen = in_turn("a room in Redis", things, min(options.rounds, 3), look)
        rows = (
            [
                "1 talker, 1 listener",
                name,
                median([one.rate for one in found], ",.0f"),
                *(median([getattr(one, which) for one in found], ".2f", 1e3) for which in ("p50", "p99")),
            ]
            for name, found in seen.items()
        )
        note = (
            f"`appendfsync everysec`. Lines told a second with {IN_FLIGHT} of {len(LINE)} bytes in flight; ms from one "
            f"client's `send` to another's `recv`, one at a time. Redis runs on the core of the load."
        )
        print_table("A room over two servers", note, ["", "room", "lines told/s", "p50 ms", "p99 ms"], rows)
