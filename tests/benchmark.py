#!/usr/bin/env python3
"""Measure the suite beside what people would use instead, and print the tables as Markdown.

usage: python3 tests/benchmark.py [--only SECTION ...] [--rounds N] [--seconds S]

A server has one core to itself, the load has the others. Ours and each peer are measured in turn, in several rounds;
a table shows medians, and the ratio to ours is taken pair by pair, round by round. Since a slow load, or whatever else
runs on the machine, can hide how quick a server is, each figure comes with the CPU time that the kernel charged the
server's process for a message. Every server serves a few connections first, which close before it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable

from benchmark_load import HOST, ClosedLoop, Handshakes, Run, Silence, connect_tcp, connect_tls, connect_udp

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).with_name("benchmark_peers.py")
CONFIRMATION = b"Message received: "
START_WITHIN = 20.0
WARM_UP_CONNECTIONS = 20
SETTLE = 0.3
"""Seconds of load before what is measured."""
MESSAGE_SIZE = 64
TEXT = b"The quick brown fox jumps over the lazy dog, and then it rests. "
PIPED_LINES = 1_000_000
PIPED_SIZE = 60
IDLE_CONNECTIONS = 10000
STARTS = 40

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORES = set(CORES[-1:])
LOAD_CORES = set(CORES[:-1]) or SERVER_CORES


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Run on these cores alone, where the system can tell a process so; whatever is started meanwhile stays there."""
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Contender:
    """A server to measure: `{port}` and `{folder}` in its command stand for a free port and an empty folder."""

    name: str
    command: tuple[str, ...]
    prefix: bytes = CONFIRMATION
    most: int = sys.maxsize
    """How many connections it is measured with at the most."""
    copies: int = 1

    def with_options(self, *options: object) -> Contender:
        """Return the same server with more options."""
        return replace(self, command=self.command + tuple(map(str, options)))


def ours(protocol: str, *options: object, name: str = "") -> Contender:
    """Return one of the suite's servers."""
    script = f"{protocol}_server.py"
    return Contender(name or f"**{script}**", (sys.executable, script, "{port}")).with_options(*options)


def python_peers(protocol: str, *files: object, kinds: str = "uvloop asyncio streams threads") -> list[Contender]:
    """Return the peers that are written in Python."""
    names = {"uvloop": "uvloop Protocol", "asyncio": "asyncio Protocol", "streams": "asyncio streams"}
    names["threads"] = "socketserver threads"
    chosen = [
        kind for kind in kinds.split() if (kind != "uvloop" or HAS_UVLOOP) and (protocol, kind) != ("udp", "streams")
    ]
    return [
        Contender(names[kind], (sys.executable, str(PEERS), kind, protocol, "{port}")).with_options(*files)
        for kind in chosen
    ]


def installed_peers() -> list[Contender]:
    """Return the tools that can at least echo to many clients; both start a process for each."""
    ncat = ("ncat", "-l", "-k", "-m", "10000", HOST, "{port}", "-e", "/bin/cat")
    socat = ("socat", f"TCP-LISTEN:{{port}},bind={HOST},fork,backlog=4096,nodelay", "PIPE")
    found = [tool for tool in (ncat, socat) if shutil.which(tool[0])]
    return [Contender(f"{tool[0]} (echo only)", tool, prefix=b"", most=50) for tool in found]


HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


class Server:
    """A running contender, warmed up."""

    def __init__(self, contender: Contender, connect: Callable[[int], socket.socket]) -> None:
        self._files = contextlib.ExitStack()
        self.folder = self._files.enter_context(tempfile.TemporaryDirectory())
        self._output = Path(self.folder, "output")
        self._contender = contender
        self._connect = connect
        self.port = free_port(socket.SOCK_DGRAM if connect is connect_udp else socket.SOCK_STREAM)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for copy in range(contender.copies):
                with on_cores(SERVER_CORES if contender.copies == 1 else {CORES[copy % len(CORES)]}):
                    self._processes.append(self._start())
            self._wait()
        except BaseException:
            self.close()
            raise

    def load(self, connections: int, in_flight: int, size: int) -> ClosedLoop:
        """Return a load for this server, with its connections open and served once."""
        ending = b"" if self._connect is connect_udp else b"\n"
        message = (TEXT * (size // len(TEXT) + 1))[: size - len(ending)] + ending
        replies = (self._contender.prefix + message) * in_flight
        load = ClosedLoop(lambda: self._connect(self.port), message * in_flight, replies)
        try:
            load.join(connections)
        except BaseException:
            load.close()
            raise
        return load

    def warm_up(self, size: int) -> None:
        """Serve a few connections, which close."""
        load = self.load(min(WARM_UP_CONNECTIONS, self._contender.most), 1, size)
        load.run(SETTLE)
        load.close()

    def cpu_seconds(self) -> float | None:
        """Return what CPU time the server and the processes it started have used; None where nobody tells (Linux)."""
        if sys.platform != "linux":
            return None
        return sum(process_seconds(process.pid) for process in self._processes)

    def resident_bytes(self) -> int:
        """Return the memory that the server holds (Linux)."""
        status = Path(f"/proc/{self._processes[0].pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        """Kill the server and all it started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._files.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [part.format(port=self.port, folder=self.folder) for part in self._contender.command]
        with self._output.open("ab") as output:
            return subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                self.load(1, 1, MESSAGE_SIZE).close()
                return
            except (OSError, Silence) as error:  # nobody listens yet, or TCP has connected the socket to itself
                ended = [process for process in self._processes if process.poll() is not None]
                if ended or time.monotonic() > deadline:
                    said = self._output.read_text(errors="replace").strip()
                    raise Silence(f"does not start: {said or error}") from None
                time.sleep(0.02)


def free_port(kind: socket.SocketKind) -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def process_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, exact to the nanosecond: clock_getcpuclockid(3)."""
    try:
        used = time.clock_gettime(~pid << 3 | 2)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0.0
    return used + sum(process_seconds(int(child)) for child in children)


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


def figures(run: Run, used: float | None, in_flight: int = 1) -> Figures:
    """Return a run's figures."""
    messages = run.bursts * in_flight
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


def measure_memory(connect: Callable[[int], socket.socket], connections: int, contender: Contender) -> float:
    """Return the bytes that each of many connections costs after it was served once, and then says nothing."""
    with contextlib.closing(Server(contender, connect)) as server, on_cores(LOAD_CORES):
        server.warm_up(MESSAGE_SIZE)
        before = server.resident_bytes()
        with contextlib.closing(server.load(connections, 1, MESSAGE_SIZE)):
            return (server.resident_bytes() - before) / connections


# Tables


def counted(count: int, thing: str) -> str:
    """Return so many of a thing in words."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def tell(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def in_turn(
    label: str, contenders: list[Contender], rounds: int, look: Callable[[Contender], object]
) -> dict[str, list[object]]:
    """Look at each contender in turn, round by round; return what was seen, by name, without whom it failed for."""
    seen: dict[str, list[object]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            if contender.name not in seen:
                continue
            try:
                seen[contender.name].append(look(contender))
                tell(f"{label}, round {number}: {contender.name}: {seen[contender.name][-1]}")
            except (Silence, OSError) as failure:
                tell(f"{label}, round {number}: {contender.name} is left out: {failure}")
                del seen[contender.name]
    return seen


def median(values: Sequence[float | None], form: str, factor: float = 1.0) -> str:
    """Return a median as text; a dash where something was not measured."""
    known = [value for value in values if value is not None]
    return format(statistics.median(known) * factor, form) if known and len(known) == len(values) else "-"


def quotients(above: list[float | None], below: list[float | None]) -> list[float | None]:
    """Return the ratios pair by pair."""
    return [a / b if a is not None and b else None for a, b in zip(above, below)]


def print_table(title: str, note: str, columns: list[str], rows: Iterator[list[str]]) -> None:
    """Print a table as it grows."""
    print(f"\n### {title}\n")
    if note:
        print(f"{note}\n")
    print(f"| {' | '.join(columns)} |")
    print(f"| --- | --- |{' ---: |' * (len(columns) - 2)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def rate_table(
    title: str,
    cases: list[Case],
    options: argparse.Namespace,
    note: str = "",
    look: Callable[..., Figures] = measure,
    unit: str = "message",
) -> None:
    """Measure and print a table of what is done a second, at which cost."""
    columns = [
        "",
        "server",
        f"{unit}s/s",
        "p50 ms",
        "p99 ms",
        f"CPU µs/{unit}",
        "core busy",
        "ours ÷ it",
        "its CPU ÷ ours",
    ]

    def rows() -> Iterator[list[str]]:
        for case in cases:
            able = [contender for contender in case.contenders if case.connections <= contender.most]
            look_at = partial(look, case, seconds=options.seconds)
            seen = in_turn(f"{title}: {case.label}", able, options.rounds, look_at)
            first = seen.get(able[0].name, [])
            for name, found in seen.items():
                yield [case.label, name, *rate_cells(found, first)]

    print_table(title, note, columns, rows())


def rate_cells(found: list[object], first: list[object]) -> list[str]:
    """Return the cells of one contender beside those of the first."""

    def column(which: str, rounds: list[object]) -> list[float | None]:
        return [getattr(one, which) for one in rounds]

    return [
        median(column("rate", found), ",.0f"),
        median(column("p50", found), ".2f", 1e3),
        median(column("p99", found), ".2f", 1e3),
        median(column("cpu", found), ".2f", 1e6),
        median(column("busy", found), ".0%"),
        median(quotients(column("rate", first), column("rate", found)), ".2f"),
        median(quotients(column("cpu", found), column("cpu", first)), ".2f"),
    ]


def show_tcp(options: argparse.Namespace) -> None:
    """Measure TCP with more and more connections."""
    contenders = [ours("tcp"), *python_peers("tcp"), *installed_peers()]
    cases = [Case(counted(count, "connection"), contenders, count) for count in options.connections]
    rate_table(
        "TCP: one message in flight on each connection",
        cases,
        options,
        f"Lines of {MESSAGE_SIZE} bytes. Ours shows each message (into a file), the others show nothing.",
    )


def show_flight(options: argparse.Namespace) -> None:
    """Measure TCP with many lines in flight."""
    contenders = [ours("tcp", "--quiet"), *python_peers("tcp"), *installed_peers()]
    cases = [Case(counted(count, "connection"), contenders, count, in_flight=50) for count in (1, 50)]
    rate_table(
        "TCP: 50 messages in flight on each connection",
        cases,
        options,
        f"Lines of {MESSAGE_SIZE} bytes, 50 sent at once, then their 50 replies awaited. Ours with `--quiet`.",
    )


def show_sizes(options: argparse.Namespace) -> None:
    """Measure TCP with larger and larger messages."""
    contenders = [ours("tcp"), *python_peers("tcp")]
    sizes = {64: "64 B", 1024: "1 KiB", 16384: "16 KiB", 65536: "64 KiB"}
    cases = [Case(label, contenders, size=size) for size, label in sizes.items()]
    note = "50 connections, one message in flight on each. Ours shows each message (into a file)."
    rate_table("TCP: size of a message", cases, options, note)


def show_udp(options: argparse.Namespace) -> None:
    """Measure UDP."""
    socat = Contender("socat (echo only)", ("socat", f"UDP-LISTEN:{{port}},bind={HOST},fork", "PIPE"), prefix=b"")
    contenders = [ours("udp"), *python_peers("udp"), *([socat] if shutil.which("socat") else [])]
    cases = [Case(counted(count, "peer"), contenders, count, connect=connect_udp) for count in (1, 50)]
    note = f"Datagrams of {MESSAGE_SIZE} bytes, one in flight from each peer. Ours shows each message (into a file)."
    rate_table("UDP", cases, options, note)


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
        for name, found in in_turn(title, contenders, min(options.rounds, 3), look).items():
            yield [f"{connections} connections", name, median([float(str(one)) / 1024 for one in found], ".2f")]

    note = "Growth of the server's resident memory, each connection having been served once."
    print_table(title, note, ["", "server", "KiB a connection"], rows())


def show_memory(options: argparse.Namespace) -> None:
    """Measure what a connection costs in memory."""
    contenders = [ours("tcp"), *python_peers("tcp")]
    memory_table("TCP: memory", contenders, options, connect_tcp, IDLE_CONNECTIONS)


def show_client(options: argparse.Namespace) -> None:
    """Measure the TCP client."""

    def rows() -> Iterator[list[str]]:
        runs = []
        for number in range(options.rounds):
            runs.append(pipe_lines())
            tell(f"client, round {number + 1}: {runs[-1]}")
        what = f"{PIPED_LINES:,} piped lines of {PIPED_SIZE} bytes, all confirmed"
        yield [what, "seconds", median([took for took, _, _ in runs], ".2f")]
        yield [what, "CPU seconds of the client", median([cpu for _, cpu, _ in runs], ".2f")]
        yield [what, "peak memory of the client, MiB", median([peak for _, _, peak in runs], ".1f", 1 / 1024)]
        starts = [(*start_client(), *start_nothing()) for _ in range(STARTS)]
        for number, what in enumerate(("milliseconds", "CPU milliseconds, to its end")):
            client, nothing = [one[number] for one in starts], [one[number + 2] for one in starts]
            yield ["start of a client to its first byte", what, median(client, ".1f", 1e3)]
            yield ["`python3 -c pass`", what, median(nothing, ".1f", 1e3)]
            yield ["the first less the second", what, median([a - b for a, b in zip(client, nothing)], ".1f", 1e3)]

    note = "The server runs with `--quiet` on a core of its own; the client's output goes to a file."
    print_table("TCP: the client", note, ["", "figure", "median"], rows())


def pipe_lines() -> tuple[float, float, float]:
    """Pipe many lines through the client; return its seconds, its CPU seconds, and its peak memory in KiB."""
    with contextlib.closing(Server(ours("tcp", "--quiet"), connect_tcp)) as server:
        folder = Path(server.folder)
        lines = folder / "lines"
        lines.write_bytes(b"".join(b"%0*d\n" % (PIPED_SIZE - 1, number) for number in range(PIPED_LINES)))
        with (
            on_cores(LOAD_CORES),
            lines.open("rb") as piped,
            (folder / "replies").open("wb") as replies,
            (folder / "errors").open("w+") as errors,
        ):
            command = [sys.executable, "tcp_client.py", HOST, str(server.port), "--stats"]
            start = time.perf_counter()
            client = subprocess.Popen(command, cwd=ROOT, stdin=piped, stdout=replies, stderr=errors)
            status, used, peak = wait_and_watch(client.pid)
            took = time.perf_counter() - start
            client.returncode = status
        said = (folder / "errors").read_text()
        if status or f"{PIPED_LINES} sent, {PIPED_LINES} confirmed, 0 lost" not in said:
            raise SystemExit(f"the client lost messages: {said}")
        return took, used.ru_utime + used.ru_stime, peak


def wait_and_watch(pid: int) -> tuple[int, resource.struct_rusage, int]:
    """Wait for a child's end; return its status, what it used, and its peak memory in KiB (Linux, else 0).

    `ru_maxrss` would not do: it begins with the size of the process that forked.
    """
    peak = 0
    while True:
        if sys.platform == "linux":
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            peak = int(found[1]) if found else peak  # once it has ended, there is none
        ended, code, used = os.wait4(pid, os.WNOHANG)
        if ended:
            return code, used, peak
        time.sleep(0.02)


def start_client() -> tuple[float, float]:
    """Return the seconds from the start of a client to its first byte at a server, and its CPU seconds in all."""
    with socket.socket() as listener, on_cores(LOAD_CORES):
        listener.bind((HOST, 0))
        listener.listen()
        command = [sys.executable, "tcp_client.py", HOST, str(listener.getsockname()[1]), "-m", "x"]
        start = time.perf_counter()
        client = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        connected, _ = listener.accept()
        with connected:
            connected.recv(1)
            took = time.perf_counter() - start
            connected.sendall(CONFIRMATION + b"x\n")
            return took, cpu_until_end(client)


def start_nothing() -> tuple[float, float]:
    """Return the seconds, and the CPU seconds, that the interpreter needs for nothing."""
    with on_cores(LOAD_CORES):
        start = time.perf_counter()
        used = cpu_until_end(subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL))
        return time.perf_counter() - start, used


def cpu_until_end(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process that must succeed; return its CPU seconds."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{process.args!r} failed")
    return used.ru_utime + used.ru_stime


def show_save(options: argparse.Namespace) -> None:
    """Measure what the archive costs."""
    without = ours("tcp")
    saving = ours("tcp", "--save", "{folder}/messages.db", name="**tcp_server.py --save**")
    command = (sys.executable, str(PEERS), "transactions", "tcp", "{port}", "{folder}/messages.db")
    each = Contender("asyncio Protocol, a transaction a message", command)
    cases = [Case(f"50 connections, {count} in flight", [saving, without, each], in_flight=count) for count in (1, 50)]
    note = "SQLite in WAL mode with `synchronous=FULL`: ours one transaction a pass, for all connections together."
    rate_table("TCP: `--save`", cases, options, note)


def show_tls(options: argparse.Namespace) -> None:
    """Measure TLS."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        make_certificate(certificate, key)
        context = ssl.create_default_context(cafile=str(certificate))
        connect = connect_tls(context)
        server = ours("tcp", "--tls-cert", certificate, "--tls-key", key)
        contenders = [server, *python_peers("tcp", certificate, key, kinds="uvloop asyncio")]
        cases = [
            Case("1 in flight", contenders, connect=connect),
            Case("50 in flight", [server.with_options("--quiet"), *contenders[1:]], in_flight=50, connect=connect),
        ]
        note = (
            "50 connections, TLS 1.3. Ours shows each message (into a file), with 50 in flight it does not (`--quiet`)."
        )
        rate_table("TLS: messages", cases, options, note)
        rate_table(
            "TLS: handshakes",
            [Case("new connections", contenders, connect=connect)],
            options,
            "Connect, full handshake (ECDSA P-256), one message and its reply, close; 16 at a time.",
            partial(measure_handshakes, context),
            "handshake",
        )
        memory_table("TLS: memory", contenders, options, connect, 1000)


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for the address that the load connects to."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=benchmark"
    names = ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)


def show_reuse_port(options: argparse.Namespace) -> None:
    """Measure several copies on one port."""
    two = replace(ours("tcp", "--reuse-port", name="**two copies, a core each**"), copies=2)
    one = ours("tcp", "--reuse-port", name="**one copy**")
    every = set(CORES)
    cases = [Case("50 connections, 50 in flight", [two, one], in_flight=50, load_cores=every)]
    note = "The load shares the cores with the servers. Each message is shown (into a file)."
    rate_table("TCP: `--reuse-port`", cases, options, note)


SECTIONS: dict[str, tuple[Callable[[argparse.Namespace], None], str]] = {
    "tcp": (show_tcp, ""),
    "flight": (show_flight, ""),
    "sizes": (show_sizes, ""),
    "udp": (show_udp, ""),
    "memory": (show_memory, ""),
    "client": (show_client, ""),
    "save": (show_save, "--save"),
    "tls": (show_tls, "--tls-cert"),
    "reuse-port": (show_reuse_port, "--reuse-port"),
}
"""What prints each section, and the option that the server must have for it."""


def print_method(options: argparse.Namespace) -> None:
    """Print where and how it is measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    where = f"{platform.system()} {platform.release()}, {len(CORES) or os.cpu_count()} cores"
    print(f"{where} ({cpu[1] if cpu else platform.machine()}), Python {platform.python_version()}", end="")
    if HAS_UVLOOP:
        print(f", uvloop {importlib.metadata.version('uvloop')}", end="")
    pinned = "server on one core, load on another" if LOAD_CORES != SERVER_CORES else "server and load share a core"
    print(f"; {pinned}; {options.rounds} rounds of {options.seconds:g} s, medians, ratios pair by pair.")
    skipped = [] if HAS_UVLOOP else ["uvloop"]
    skipped += [tool for tool in ("ncat", "socat") if not shutil.which(tool)]
    if skipped:
        print(f"\nSkipped, since not installed: {', '.join(skipped)}.")


def main() -> None:
    """Print the chosen sections."""
    parser = argparse.ArgumentParser(description="Measure the suite beside its peers; print Markdown tables.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each time (2)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 50, 1000, 10000], help="of the TCP table (1 50 1000 10000)"
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
