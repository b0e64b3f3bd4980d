"""The benchmark of the TCP client: a million piped lines, and how soon it starts."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark_load import HOST, connect_tcp
from benchmark_servers import CONFIRMATION, LOAD_CORES, ROOT, START_WITHIN, Server, on_cores, ours
from benchmark_tables import median, print_table, tell

PIPED_LINES = 1_000_000
PIPED_SIZE = 60
STARTS = 40


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
    with contextlib.closing(Server(ours("tcp"), connect_tcp)) as server:
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
        listener.settimeout(START_WITHIN)
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
