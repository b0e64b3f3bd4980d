"""The benchmark's section on fairness: what one ordinary client feels beside others who attack the same server."""

from __future__ import annotations

import argparse
import contextlib
import math
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from benchmark_attacks import ALONE, ATTACKS, KINDS, MANY, Attackers
from benchmark_load import PATIENCE, Run, Silence, connect_proxied, connect_tcp, connect_tls, make_certificate
from benchmark_servers import CONFIRMATION, LOAD_CORES, SETTLE, Server, on_cores, ours
from benchmark_tables import in_turn, median, print_table, quotients, tell

REST = 0.001
"""Seconds between a reply and the next line."""
MOST_ROUNDS = 3
MIB = 1 << 20


@dataclass
class Beside:
    """What one round found out about an ordinary client beside an attack; times in seconds."""

    p50: float
    p99: float
    longest: float
    busy: float
    """Part of the time in which the server computed."""
    shown: float
    """Bytes a second that the server's record grew by."""
    peak: float
    """The server's memory in bytes, at its peak."""
    cut_off: int
    """How many were cut off of those who only did what they should."""


def show_fairness(options: argparse.Namespace) -> None:
    """Measure what an ordinary client feels beside each attack."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        make_certificate(certificate, key)
        context = ssl.create_default_context(cafile=str(certificate))
        for kind, server_options in KINDS.items():
            needs = server_options.replace("{certificate}", str(certificate)).replace("{key}", str(key))
            connect = {"TLS": connect_tls(context), "proxied": connect_proxied}.get(kind, connect_tcp)
            shown = server_options.replace("{", "").replace("}", "").replace("folder/", "")
            fairness_table(f"Fairness: `{shown}`", kind, needs.split(), connect, options)


def fairness_table(
    title: str,
    kind: str,
    server_options: list[str],
    connect: Callable[[int], socket.socket],
    options: argparse.Namespace,
) -> None:
    """Measure and print what an ordinary client feels beside the attacks on one kind of server."""
    names = [ALONE, *(name for name, attack in ATTACKS.items() if attack.kind == kind)]

    def look(name: str) -> Beside:
        return measure_beside(name, server_options, connect, options.seconds)

    def rows() -> Iterator[list[str]]:
        seen = in_turn(title, {name: name for name in names}, min(options.rounds, MOST_ROUNDS), look)
        alone, plain = (seen.get(name, []) for name in names[:2])
        for name, found in seen.items():
            attack = ATTACKS[name]
            more = f" (`{attack.options}`)" if attack.options else ""
            yield [attack.who, attack.what + more, *cells(found, alone, plain)]

    note = (
        f"One ordinary client says a line, awaits its confirmation, rests {REST * 1e3:g} ms, and so on, beside others: "
        f"its p50 and p99, and their ratios to the same client alone and beside {MANY} talkers (the second row). "
        "The server's record (KB it grows by in a second), its memory at the peak, and how many members were cut off "
        "who read all the time; inf: the client itself was, or got no answer."
    )
    columns = ["beside", "doing", "p50 ms", "p99 ms", "longest ms", "p50 ÷ alone", "p99 ÷ alone"]
    columns += [f"p50 ÷ {MANY} talkers", f"p99 ÷ {MANY} talkers", "core busy", "record KB/s", "MiB", "cut off"]
    print_table(title, note if kind == next(iter(KINDS)) else "", columns, rows())


def cells(found: list[Beside], alone: list[Beside], plain: list[Beside]) -> list[str]:
    """Return the cells of one attack."""

    def column(which: str, rounds: list[Beside]) -> list[float | None]:
        return [getattr(one, which) for one in rounds]

    def ratio(which: str, to: list[Beside]) -> str:
        return median(quotients(column(which, found), column(which, to)), ".1f")

    return [
        *(median(column(which, found), ".2f", 1e3) for which in ("p50", "p99", "longest")),
        *(ratio(which, to) for to in (alone, plain) for which in ("p50", "p99")),
        median(column("busy", found), ".0%"),
        median(column("shown", found), ",.0f", 1e-3),
        median(column("peak", found), ".0f", 1 / MIB),
        median(column("cut_off", found), ".0f"),
    ]


def measure_beside(name: str, options: list[str], connect: Callable[[int], socket.socket], seconds: float) -> Beside:
    """Measure once what an ordinary client feels beside an attack. Raises Silence if there is none to begin with."""
    contender = ours("tcp", *options, *ATTACKS[name].options.split(), shows=True)  # unless its options say --quiet
    with (
        contextlib.closing(Server(contender, connect)) as server,
        on_cores(LOAD_CORES),
        contextlib.closing(connect(server.port)) as client,
        contextlib.closing(Attackers(name, server.port, server.udp_port)) as attackers,
    ):
        try:
            converse(client, SETTLE)
            used, shown, start = server.cpu_seconds() or 0.0, server.shown_bytes(), time.perf_counter()
            run = converse(client, seconds)
        except (Silence, OSError) as failure:
            tell(f"beside {name}: {server.ending() or failure or type(failure).__name__}")
            return Beside(math.inf, math.inf, math.inf, 0.0, 0.0, 0.0, 0)
        took = time.perf_counter() - start
        busy = ((server.cpu_seconds() or 0.0) - used) / took
        grown = (server.shown_bytes() - shown) / took
        peak = server.resident_bytes("VmHWM")
        return Beside(run.percentile(50), run.percentile(99), run.percentile(100), busy, grown, peak, attackers.stop())


def converse(client: socket.socket, seconds: float) -> Run:
    """Say a line, wait for its confirmation, rest; again and again for some time, reading what others say meanwhile."""
    clock = time.perf_counter
    round_trips: list[float] = []
    start = now = clock()
    while now - start < seconds:
        line = b"Is anybody there? %d\n" % len(round_trips)
        client.settimeout(PATIENCE)
        client.sendall(line)
        wait_for(client, CONFIRMATION + line, now + PATIENCE)
        round_trips.append(clock() - now)
        rest(client, clock() + REST)
        now = clock()
    return Run(len(round_trips), now - start, round_trips)


def wait_for(client: socket.socket, expected: bytes, deadline: float) -> None:
    """Read until this has come. Raises Silence."""
    received = b""
    while expected not in received:
        if time.perf_counter() > deadline:
            raise Silence(f"no answer within {PATIENCE:g} s")
        received = received[1 - len(expected) :] + receive(client)


def rest(client: socket.socket, until: float) -> None:
    """Wait, and read meanwhile."""
    while (remaining := until - time.perf_counter()) > 0:
        client.settimeout(remaining)
        with contextlib.suppress(socket.timeout):
            receive(client)


def receive(client: socket.socket) -> bytes:
    """Return what comes. Raises Silence at the end, and OSError."""
    data = client.recv(1 << 20)
    if not data:
        raise Silence("the client was cut off")
    return data
