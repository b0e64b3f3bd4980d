#!/usr/bin/env python3
"""Measure the suite beside what people would use instead, and print the tables as Markdown.

usage: python3 tests/benchmark.py [--only SECTION ...] [--rounds N] [--seconds S]

A server has one core to itself, the load has the others. Ours and each peer are measured in turn, in several rounds;
a table shows medians, and the ratio to ours is taken pair by pair, round by round, between servers that do the same
work: both show each message, or neither does. Since a slow load, or whatever else runs on the machine, can hide how
quick a server is, each figure comes with the CPU time that the kernel charged the server's process for a message. Every
server serves a few connections first, which close before it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable

from benchmark_attacks import Attackers
from benchmark_build import HAS_UVLOOP, describe_build
from benchmark_client import show_client
from benchmark_fairness import show_fairness
from benchmark_load import Handshakes, Run, Silence, connect_tcp, connect_tls, connect_udp, make_certificate
from benchmark_redis import HAS_REDIS, a_redis, show_shared_room
from benchmark_servers import (
    CORES,
    LOAD_CORES,
    MESSAGE_SIZE,
    ROOT,
    SERVER_CORES,
    SETTLE,
    Contender,
    Server,
    installed_peers,
    on_cores,
    ours,
    python_peers,
)
from benchmark_tables import counted, in_turn, median, print_table, quotients

IDLE_CONNECTIONS = 10000
CONNECTIONS = (1, 50, 1000, 10000)
LISTENERS = (10, 100, 1000)
SIZES = {64: "64 B", 1024: "1 KiB", 16384: "16 KiB", 65536: "64 KiB"}


@dataclass
class Figures:
    """What one round found out about one contender."""

    rate: float
    p50: float
    p99: float
    cpu: float | None
    """CPU seconds a message."""
    busy: float | None
    """Part of the time in which the server's core computed for it."""


@dataclass
class Case:
    """What a table's rows have in common: the load, and who gets it; the first contender is ours."""

    label: str
    contenders: list[Contender]
    connections: int = 50
    in_flight: int = 1
    size: int = MESSAGE_SIZE
    connect: Callable[[int], socket.socket] = connect_tcp
    load_cores: set[int] = field(default_factory=lambda: LOAD_CORES)


def figures(run: Run, used: float | None, in_burst: int = 1) -> Figures:
    """Return a run's figures, a burst being so many messages."""
    messages = run.bursts * in_burst
    if not messages:
        raise Silence("no answer")
    cpu = None if used is None else used / messages
    busy = None if used is None else used / run.seconds
    return Figures(messages / run.seconds, run.percentile(50), run.percentile(99), cpu, busy)


def difference(before: float | None, after: float | None) -> float | None:
    """Return what was used in between."""
    return None if before is None or after is None else after - before


def measure(case: Case, contender: Contender, seconds: float) -> Figures:
    """Measure one contender once."""
    with contextlib.closing(Server(contender, case.connect)) as server, on_cores(case.load_cores):
        server.warm_up(case.size)
        with contextlib.closing(server.load(case.connections, case.in_flight, case.size)) as load:
            load.run(SETTLE)
            before = server.cpu_seconds()
            run = load.run(seconds)
            return figures(run, difference(before, server.cpu_seconds()), case.in_flight)


def measure_handshakes(context: ssl.SSLContext, case: Case, contender: Contender, seconds: float) -> Figures:
    """Measure once how many handshakes a second one contender takes."""
    with contextlib.closing(Server(contender, case.connect)) as server, on_cores(case.load_cores):
        server.warm_up(MESSAGE_SIZE)
        with contextlib.closing(Handshakes(server.port, context, b"x\n")) as load:
            load.run(SETTLE)
            before = server.cpu_seconds()
            run = load.run(seconds)
            return figures(run, difference(before, server.cpu_seconds()))


def measure_room(case: Case, contender: Contender, seconds: float) -> Figures:
    """Measure once how many lines a second listeners are told, when one sends who waits for its confirmations."""
    with contextlib.closing(Server(contender, case.connect)) as server, on_cores(case.load_cores):
        server.warm_up(case.size)
        with (
            contextlib.closing(Attackers("listeners", server.port, count=case.connections)) as listeners,
            contextlib.closing(server.load(1, case.in_flight, case.size)) as load,
        ):
            load.run(SETTLE)
            before = server.cpu_seconds()
            run = load.run(seconds)
            used = difference(before, server.cpu_seconds())
            if listeners.stop():
                raise Silence("a listener was cut off")
            return figures(run, used, case.in_flight * case.connections)


def measure_memory(connect: Callable[[int], socket.socket], connections: int, contender: Contender) -> float:
    """Return the bytes that each of many connections costs after it was served once, and then says nothing."""
    with contextlib.closing(Server(contender, connect)) as server, on_cores(LOAD_CORES):
        server.warm_up(MESSAGE_SIZE)
        before = server.resident_bytes()
        with contextlib.closing(server.load(connections, 1, MESSAGE_SIZE)):
            return (server.resident_bytes() - before) / connections


def both(quiet: list[Contender], showing: list[Contender]) -> list[Contender]:
    """Return servers that show nothing, each followed by the same one that shows each message, if there is one."""
    return [one for some in zip(quiet, showing) for one in some] + quiet[len(showing) :]


def named(contenders: list[Contender], connections: int) -> dict[str, Contender]:
    """Return who can take so many connections, by a name that says whether it shows messages, if not all do."""
    mixed = len({contender.shows for contender in contenders}) > 1
    return {
        contender.name + (", showing" if mixed and contender.shows else ""): contender
        for contender in contenders
        if connections <= contender.most
    }


def rate_table(
    title: str,
    cases: list[Case],
    options: argparse.Namespace,
    note: str = "",
    look: Callable[..., Figures] = measure,
    unit: str = "message",
    units: str = "messages",
) -> None:
    """Measure and print a table of what is done a second, at which cost."""
    columns = ["", "server", f"{units}/s", "p50 ms", "p99 ms", f"CPU µs/{unit}", "core busy"]
    columns += ["ours ÷ it", "its CPU ÷ ours"]
    mixed = any(len({contender.shows for contender in case.contenders}) > 1 for case in cases)
    if mixed:
        columns.append("ours showing ÷ it")

    def rows() -> Iterator[list[str]]:
        for case in cases:
            able = named(case.contenders, case.connections)
            look_at = partial(look, case, seconds=options.seconds)
            seen = in_turn(f"{title}: {case.label}", able, options.rounds, look_at)
            ours_seen: dict[bool, list[Figures]] = {False: [], True: []}
            for name, contender in reversed(able.items()):  # the first of its kind is ours
                ours_seen[contender.shows] = seen.get(name, [])
            for name in sorted(seen, key=lambda name: able[name].shows):
                cells = rate_cells(seen[name], ours_seen[able[name].shows])
                if mixed:
                    cells.append("" if able[name].shows else ratio("rate", ours_seen[True], seen[name]))
                yield [case.label, name, *cells]

    print_table(title, note, columns, rows())


def column(which: str, rounds: list[Figures]) -> list[float | None]:
    """Return one figure of each round."""
    return [getattr(one, which) for one in rounds]


def ratio(which: str, above: list[Figures], below: list[Figures]) -> str:
    """Return the median of the ratios of one figure, pair by pair."""
    return median(quotients(column(which, above), column(which, below)), ".2f")


def rate_cells(found: list[Figures], first: list[Figures]) -> list[str]:
    """Return the cells of one contender beside ours."""
    return [
        median(column("rate", found), ",.0f"),
        median(column("p50", found), ".2f", 1e3),
        median(column("p99", found), ".2f", 1e3),
        median(column("cpu", found), ".2f", 1e6),
        median(column("busy", found), ".0%"),
        ratio("rate", first, found),
        ratio("cpu", found, first),
    ]


SHOWN = "First nobody shows a message, then everybody does, into a file: ours as its record, the others with `print`."


def show_tcp(options: argparse.Namespace) -> None:
    """Measure TCP with more and more connections."""
    contenders = both(
        [ours("tcp"), *python_peers("tcp"), *installed_peers("tcp")],
        [ours("tcp", shows=True), *python_peers("tcp", shows=True)],
    )
    cases = [Case(counted(count, "connection"), contenders, count) for count in options.connections]
    note = f"Lines of {MESSAGE_SIZE} bytes. {SHOWN}"
    rate_table("TCP: one message in flight on each connection", cases, options, note)


def show_flight(options: argparse.Namespace) -> None:
    """Measure TCP with many lines in flight."""
    contenders = both(
        [ours("tcp"), *python_peers("tcp"), *installed_peers("tcp")],
        [ours("tcp", shows=True), *python_peers("tcp", shows=True)],
    )
    cases = [Case(counted(count, "connection"), contenders, count, in_flight=50) for count in (1, 50)]
    note = f"Lines of {MESSAGE_SIZE} bytes, 50 sent at once, then their 50 replies awaited. {SHOWN}"
    rate_table("TCP: 50 messages in flight on each connection", cases, options, note)


def show_udp(options: argparse.Namespace) -> None:
    """Measure UDP."""
    contenders = both(
        [ours("udp"), *python_peers("udp"), *installed_peers("udp")],
        [ours("udp", shows=True), *python_peers("udp", shows=True)],
    )
    cases = [Case(counted(count, "peer"), contenders, count, connect=connect_udp) for count in (1, 50)]
    note = f"Datagrams of {MESSAGE_SIZE} bytes, one in flight from each peer. {SHOWN}"
    rate_table("UDP", cases, options, note)


def show_sizes(options: argparse.Namespace) -> None:
    """Measure TCP with larger and larger messages."""
    contenders = [ours("tcp"), *python_peers("tcp", kinds="uvloop asyncio streams threads")]
    cases = [Case(label, contenders, size=size) for size, label in SIZES.items()]
    note = "50 connections, one message in flight on each. Nobody shows a message."
    rate_table("TCP: size of a message", cases, options, note)


def rooms(count: int, contenders: list[Contender], in_flight: int = 1) -> Case:
    """Return the case of one who sends to a room with so many listeners."""
    return Case(f"{count} listeners, {in_flight} in flight", contenders, count, in_flight)


def show_room(options: argparse.Namespace) -> None:
    """Measure a room, in which one line said becomes a send to each listener."""
    contenders = [ours("tcp", "--reply", "relay"), *python_peers("tcp", "--room", kinds="uvloop asyncio")]
    cases = [rooms(count, contenders, in_flight) for in_flight in (1, 50) for count in LISTENERS]
    note = (
        f"One client sends lines of {MESSAGE_SIZE} bytes and waits for their confirmations; p50 and p99 are its own. "
        "All others only listen. Nobody shows a message."
    )
    rate_table("TCP: a room (`--reply relay`)", cases, options, note, measure_room, "line told", "lines told")


@dataclass
class Growth:
    """One row of how cost grows: the load, how it is measured, and the work of a message in units of its own."""

    case: Case
    work: int
    look: Callable[..., Figures] = measure
    told: int = 1
    """How many are told one message: what is measured is the cost for each."""


def show_growth(options: argparse.Namespace) -> None:
    """Measure how what a message costs grows with the work that it makes."""
    server, room = [ours("tcp")], [ours("tcp", "--reply", "relay")]
    families = {
        "connections": [Growth(Case(f"{count:,}", server, count), 1) for count in CONNECTIONS],
        "size of a line": [Growth(Case(label, server, size=size), size) for size, label in SIZES.items()],
        "listeners": [
            Growth(replace(rooms(count, room), label=f"{count:,}"), count, measure_room, count) for count in LISTENERS
        ],
    }

    def rows() -> Iterator[list[str]]:
        for family, growths in families.items():
            first: list[float | None] = []
            for growth in growths:
                case, label = growth.case, f"growth: {family}: {growth.case.label}"
                look = partial(growth.look, case, seconds=options.seconds)
                seen = in_turn(label, {"ours": case.contenders[0]}, options.rounds, look).get("ours", [])
                cpu = [None if value is None else value * growth.told for value in column("cpu", seen)]
                first = first or cpu
                cells = [median(cpu, ".2f", 1e6), median(column("p99", seen), ".2f", 1e3)]
                more = median(quotients(cpu, first), ".2f")
                yield [family, case.label, *cells, f"{growth.work / growths[0].work:,.0f}", more]

    note = (
        "Ours with `--quiet`. The work of a message: as much however many connect; its bytes; a send for each listener."
        " Its cost may not grow faster. Connections and listeners: lines of 64 bytes; sizes: 50 connections."
    )
    columns = ["what grows", "", "CPU µs/message", "p99 ms", "work ÷ first", "CPU ÷ first"]
    print_table("TCP: how cost grows", note, columns, rows())


def memory_table(
    title: str,
    contenders: list[Contender],
    options: argparse.Namespace,
    connect: Callable[[int], socket.socket],
    connections: int,
) -> None:
    """Print what connections cost in memory."""

    def rows() -> Iterator[list[str]]:
        look = partial(measure_memory, connect, connections)
        for name, found in in_turn(title, named(contenders, connections), min(options.rounds, 3), look).items():
            yield [f"{connections} connections", name, median(found, ".2f", 1 / 1024)]

    note = "Growth of the server's resident memory, each connection having been served once."
    print_table(title, note, ["", "server", "KiB a connection"], rows())


def show_memory(options: argparse.Namespace) -> None:
    """Measure what a connection costs in memory."""
    contenders = [ours("tcp"), *python_peers("tcp", kinds="uvloop asyncio streams threads")]
    memory_table("TCP: memory", contenders, options, connect_tcp, IDLE_CONNECTIONS)


def show_save(options: argparse.Namespace) -> None:
    """Measure what the archive costs."""
    file = "{folder}/messages.db"
    without = ours("tcp", shows=True)
    saving = ours("tcp", "--save", file, name="**tcp_server.py --save**", shows=True)
    each = python_peers("tcp", "--save", file, kinds="asyncio", shows=True)[0]
    each = replace(each, name="asyncio Protocol, a transaction a message")
    cases = [Case(f"50 connections, {count} in flight", [saving, without, each], in_flight=count) for count in (1, 50)]
    note = (
        "SQLite in WAL mode with `synchronous=FULL`: ours one transaction a pass, for all connections together. "
        "All show each message."
    )
    rate_table("TCP: `--save`", cases, options, note)


def show_redis(options: argparse.Namespace) -> None:
    """Measure a stream of Redis as the archive, and as a room over two servers."""
    if not HAS_REDIS:
        print("\nSkipped: redis, since redis-server is not installed.")
        return
    for policy in ("everysec", "always"):
        with a_redis("--appendonly", "yes", "--appendfsync", policy) as where:
            stream = ours("tcp", "--save", where, name="**--save redis://**", shows=True)
            file = ours("tcp", "--save", "{folder}/messages.db", name="--save FILE", shows=True)
            each = python_peers("tcp", "--stream", where, kinds="asyncio", shows=True)[0]
            each = replace(each, name="asyncio and redis-py, an XADD a message")
            contenders = [stream, file, each]
            cases = [Case(f"50 connections, {count} in flight", contenders, in_flight=count) for count in (1, 50)]
            note = "Redis runs on the core of the load. All show each message."
            rate_table(f"TCP: `--save redis://`, `appendfsync {policy}`", cases, options, note)
    show_shared_room(options)


def show_tls(options: argparse.Namespace) -> None:
    """Measure TLS."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        make_certificate(certificate, key)
        context = ssl.create_default_context(cafile=str(certificate))
        connect = connect_tls(context)
        server = ours("tcp", "--tls-cert", certificate, "--tls-key", key)
        contenders = [server, *python_peers("tcp", "--tls", certificate, key, kinds="uvloop asyncio")]
        cases = [Case(f"{count} in flight", contenders, in_flight=count, connect=connect) for count in (1, 50)]
        rate_table("TLS: messages", cases, options, "50 connections, TLS 1.3. Nobody shows a message.")
        rate_table(
            "TLS: handshakes",
            [Case("new connections", contenders, connect=connect)],
            options,
            "Connect, full handshake (ECDSA P-256), one message and its reply, close; 16 at a time.",
            partial(measure_handshakes, context),
            "handshake",
            "handshakes",
        )
        memory_table("TLS: memory", contenders, options, connect, 1000)


def show_reuse_port(options: argparse.Namespace) -> None:
    """Measure several copies on one port."""
    two = replace(ours("tcp", "--reuse-port", name="**two copies, a core each**", shows=True), copies=2)
    one = ours("tcp", "--reuse-port", name="**one copy**", shows=True)
    every = set(CORES)
    cases = [Case("50 connections, 50 in flight", [two, one], in_flight=50, load_cores=every)]
    note = "The load shares the cores with the servers. Each message is shown (into a file)."
    rate_table("TCP: `--reuse-port`", cases, options, note)


SECTIONS: dict[str, tuple[Callable[[argparse.Namespace], None], str]] = {
    "tcp": (show_tcp, ""),
    "flight": (show_flight, ""),
    "udp": (show_udp, ""),
    "sizes": (show_sizes, ""),
    "room": (show_room, "--reply"),
    "growth": (show_growth, "--reply"),
    "memory": (show_memory, ""),
    "client": (show_client, ""),
    "save": (show_save, "--save"),
    "redis": (show_redis, "redis://"),
    "tls": (show_tls, "--tls-cert"),
    "reuse-port": (show_reuse_port, "--reuse-port"),
    "fairness": (show_fairness, "--udp-port"),
}
"""What prints each section, and the option that the server must have for it."""


def print_method(options: argparse.Namespace) -> None:
    """Print where and how it is measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    where = f"{platform.system()} {platform.release()}, {len(CORES) or os.cpu_count()} cores"
    pinned = "server on one core, load on another" if LOAD_CORES != SERVER_CORES else "server and load share a core"
    print(f"{where} ({cpu[1] if cpu else platform.machine()}); {pinned}; ", end="")
    print(f"{options.rounds} rounds of {options.seconds:g} s, medians, ratios pair by pair.")
    print(f"\n{describe_build()}")
    skipped = [] if HAS_UVLOOP else ["uvloop"]
    skipped += [tool for tool in ("ncat", "socat") if not shutil.which(tool)]
    if skipped:
        print(f"\nSkipped, since not installed: {', '.join(skipped)}.")


def main() -> None:
    """Print the chosen sections."""
    parser = argparse.ArgumentParser(description="Measure the suite beside its peers; print Markdown tables.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, default=7, help="how often each server is measured (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each time (2)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=CONNECTIONS, help="of the TCP table (1 50 1000 10000)"
    )
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print_method(options)
    command = [sys.executable, "tcp_server.py", "--help"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in options.only:
        show, option = SECTIONS[name]
        if option in known:
            show(options)
        else:
            print(f"\nSkipped: {name}, since tcp_server.py has no {option}.")


if __name__ == "__main__":
    main()
