"""What the benchmark measures: the suite's servers and their peers, each run on a core of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from benchmark_build import HAS_UVLOOP
from benchmark_load import HOST, ClosedLoop, Silence, connect_udp

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).with_name("benchmark_peers.py")
CONFIRMATION = b"Message received: "
START_WITHIN = 20.0
WARM_UP_CONNECTIONS = 20
SETTLE = 0.3
"""Seconds of load before what is measured."""
MESSAGE_SIZE = 64
TEXT = b"The quick brown fox jumps over the lazy dog, and then it rests. "

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
    """A server to measure: `{port}`, `{udp_port}` and `{folder}` in its command: free ports and an empty folder."""

    name: str
    command: tuple[str, ...]
    prefix: bytes = CONFIRMATION
    most: int = sys.maxsize
    """How many connections it is measured with at the most."""
    copies: int = 1
    shows: bool = False
    """Whether it shows each message, into a file."""

    def with_options(self, *options: object) -> Contender:
        """Return the same server with more options."""
        return replace(self, command=self.command + tuple(map(str, options)))


def ours(protocol: str, *options: object, name: str = "", shows: bool = False) -> Contender:
    """Return one of the suite's servers."""
    script = f"{protocol}_server.py"
    server = Contender(name or f"**{script}**", (sys.executable, script, "{port}"), shows=shows)
    return server.with_options(*([] if shows else ["--quiet"]), *options)


def python_peers(
    protocol: str, *options: object, kinds: str = "uvloop asyncio streams threads bare", shows: bool = False
) -> list[Contender]:
    """Return the peers that are written in Python."""
    names = {"uvloop": "uvloop Protocol", "asyncio": "asyncio Protocol", "streams": "asyncio streams"}
    names |= {"threads": "socketserver threads", "bare": "bare loop"}
    chosen = [
        kind for kind in kinds.split() if (kind != "uvloop" or HAS_UVLOOP) and (protocol, kind) != ("udp", "streams")
    ]
    return [
        Contender(names[kind], (sys.executable, str(PEERS), kind, protocol, "{port}"), shows=shows).with_options(
            *(["--show"] if shows else []), *options
        )
        for kind in chosen
    ]


def installed_peers(protocol: str) -> list[Contender]:
    """Return the tools that can at least echo to many clients; both start a process for each, and show nothing."""
    ncat = ("ncat", "-l", "-k", "-m", "10000", HOST, "{port}", "-e", "/bin/cat")
    socat = ("socat", f"TCP-LISTEN:{{port}},bind={HOST},fork,backlog=4096,nodelay", "PIPE")
    datagrams = ("socat", f"UDP-LISTEN:{{port}},bind={HOST},fork", "PIPE")
    found = [tool for tool in ((ncat, socat) if protocol == "tcp" else (datagrams,)) if shutil.which(tool[0])]
    return [Contender(f"{tool[0]} (echo only)", tool, prefix=b"", most=50) for tool in found]


class Server:
    """A running contender."""

    def __init__(self, contender: Contender, connect: Callable[[int], socket.socket]) -> None:
        """Start it, and wait until it serves those who connect so."""
        self._files = contextlib.ExitStack()
        self.folder = self._files.enter_context(tempfile.TemporaryDirectory())
        self._output = Path(self.folder, "output")
        self._contender = contender
        self._connect = connect
        self.port = free_port(socket.SOCK_DGRAM if connect is connect_udp else socket.SOCK_STREAM)
        self.udp_port = free_port(socket.SOCK_DGRAM)
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

    def resident_bytes(self, which: str = "VmRSS") -> int:
        """Return the memory that the server holds (VmRSS), or held at its peak (VmHWM); 0 once it has ended (Linux)."""
        status = Path(f"/proc/{self._processes[0].pid}/status").read_text()
        return 1024 * int((status.partition(f"{which}:")[2].split() or ["0"])[0])

    def shown_bytes(self) -> int:
        """Return how much the server has shown so far."""
        return self._output.stat().st_size

    def ending(self) -> str:
        """Return how the server ended, and the last that it said; "" while it runs."""
        codes = [process.returncode for process in self._processes if process.poll() is not None]
        return f"the server ended with {codes[0]}: {self._last_words()}" if codes else ""

    def close(self) -> None:
        """Kill the server and all it started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._files.close()

    def _start(self) -> subprocess.Popen[bytes]:
        places = {"port": self.port, "udp_port": self.udp_port, "folder": self.folder}
        command = [part.format(**places) for part in self._contender.command]
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
                if self.ending() or time.monotonic() > deadline:
                    raise Silence(f"does not start: {self._last_words() or error}") from None
                time.sleep(0.02)

    def _last_words(self) -> str:
        with self._output.open("rb") as output:
            output.seek(max(self.shown_bytes() - 2000, 0))
            return output.read().decode(errors="replace").strip()


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
