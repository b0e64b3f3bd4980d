"""Servers under all attacks of the benchmark for minutes: what they hold by then, and what an honest client sees.

Three run with all of Python's own checks: TCP and UDP as a room, TLS, and UDP alone, each with an archive. Some attacks
at once come to each, and others every ten seconds. It ends with 1 if a server says anything on standard error or ends,
or if a message of an honest client was confirmed and is not in the archive.

usage: soak.py [--minutes M]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from benchmark_attacks import ALONE, ATTACKS, CONFIRMATION, Attackers
from benchmark_fairness import MIB, rest, wait_for
from benchmark_load import PATIENCE, Run, Silence, connect_tcp, connect_tls, connect_udp, make_certificate
from benchmark_servers import ROOT, free_port
from benchmark_tables import print_table, tell

CHECKED = (sys.executable, "-X", "dev", "-W", "error", "-bb")
TURN = 10.0
"""Seconds that an attack takes before the next one has its turn."""
REST = 0.05
"""Seconds between a confirmation and the honest client's next message."""
MOST_TOLD = 5
"""Losses of an honest client that are told one by one."""
SHARES = (0.1, 0.5, 1.0)
"""Parts of the time after which the table has rows."""
COLUMNS = ["server", "after", "MiB", "most", "files", "most", "record MB", "confirmed", "lost", "p50 ms", "p99 ms"]


@dataclass
class Honest:
    """A client that sends a message, awaits its confirmation, rests, and so on, in a thread of its own."""

    name: str
    connect: Callable[[], socket.socket]
    ending: bytes = b"\n"
    patience: float = PATIENCE
    """How long it waits for a confirmation, in seconds."""
    confirmed: list[bytes] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    lost: int = 0
    """How often it was cut off, or had no answer."""

    def converse(self, is_over: threading.Event) -> None:
        """Go on until it is over; come back when cut off."""
        messages = (b"Honest %d" % number for number in itertools.count())
        while not is_over.is_set():
            try:
                with self.connect() as client:
                    while not is_over.is_set():
                        self._exchange(client, next(messages))
            except (Silence, OSError) as failure:
                self.lost += 1
                if self.lost <= MOST_TOLD:
                    tell(f"{self.name}: the honest client: {failure or type(failure).__name__}")

    def _exchange(self, client: socket.socket, message: bytes) -> None:
        start = time.perf_counter()
        client.settimeout(self.patience)
        client.sendall(message + self.ending)
        wait_for(client, CONFIRMATION + message + self.ending, start + self.patience)
        self.round_trips.append(time.perf_counter() - start)
        self.confirmed.append(message)
        rest(client, time.perf_counter() + REST)


class Soaked:
    """A server, those who attack it, and its honest client."""

    def __init__(self, folder: Path, honest: Honest, command: str, ports: tuple[int, int]) -> None:
        """Start the server with this command, which takes these ports for TCP and UDP."""
        self.honest, self._ports = honest, ports
        self._archive, self._record, self._errors = (folder / f"{honest.name}.{kind}" for kind in ("db", "out", "err"))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=honest.converse, args=(self._over,))]
        self._samples: list[tuple[int, int]] = []  # bytes of memory, open descriptors
        with self._record.open("wb") as output, self._errors.open("wb") as errors:
            words = [*CHECKED, *command.split(), "--exit-from", "nobody", "--save", str(self._archive)]
            self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)

    def start(self, attacks: list[str], at_once: int) -> None:
        """Have these attacks come in turn, so many at once, as soon as the server serves. Raises Silence."""
        deadline = time.monotonic() + PATIENCE
        while b"Type a line" not in self._record.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Silence(f"{self.honest.name} does not start")
            time.sleep(0.05)
        turns = (attacks[number::at_once] for number in range(at_once))
        self._threads += [threading.Thread(target=self._attack, args=(names,)) for names in turns]
        for thread in self._threads:
            thread.start()

    def look(self) -> None:
        """Note what the server holds now. Raises OSError once it has ended."""
        process = Path(f"/proc/{self._process.pid}")
        memory = int((process / "status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
        self._samples.append((memory, len(list((process / "fd").iterdir()))))

    def row(self, share: float) -> list[str]:
        """Return what there is to say after this part of the time; round trips since the last row."""
        memory, descriptors = zip(*self._samples)
        run = Run(0, 0.0, self.honest.round_trips or [float("nan")])
        self.honest.round_trips = []
        figures = [f"{memory[-1] / MIB:.0f}", f"{max(memory) / MIB:.0f}", f"{descriptors[-1]}", f"{max(descriptors)}"]
        figures += [f"{self._record.stat().st_size / 1e6:,.0f}", f"{len(self.honest.confirmed)}", f"{self.honest.lost}"]
        return [self.honest.name, f"{share:.0%}", *figures, *(f"{run.percentile(p) * 1e3:.1f}" for p in (50, 99))]

    def finish(self) -> Iterator[str]:
        """End it all; return what is wrong."""
        self._over.set()
        for thread in self._threads:
            if thread.ident:  # it was started
                thread.join()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(PATIENCE):
            yield f"ended with {self._process.returncode}"
        yield from self._errors.read_text(errors="replace").splitlines()
        with contextlib.closing(sqlite3.connect(self._archive)) as archive:
            kept = archive.execute("SELECT text FROM messages WHERE text LIKE 'Honest %'")
            missing = set(self.honest.confirmed) - {text.encode() for (text,) in kept}
        if missing:
            yield f"{len(missing)} confirmed messages are not in the archive, one of them {min(missing)!r}"

    def _attack(self, names: list[str]) -> None:
        for name in itertools.takewhile(lambda _: not self._over.is_set(), itertools.cycle(names)):
            try:
                with contextlib.closing(Attackers(name, *self._ports)) as attackers:
                    self._over.wait(TURN)
                    attackers.stop()
            except (Silence, OSError) as failure:
                tell(f"{self.honest.name}: {name}: {failure}")
                self._over.wait(1)


def soak(folder: Path, seconds: float, servers: list[Soaked]) -> Iterator[list[str]]:
    """Start the servers, and attack them for some time; return the rows of the table. Raises Silence and OSError."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate(certificate, key)
    connect = connect_tls(ssl.create_default_context(cafile=str(certificate)))
    tls = {name for name, attack in ATTACKS.items() if attack.kind == "TLS"}
    udp = {name for name, attack in ATTACKS.items() if attack.who.endswith("UDP peers")}
    room = ATTACKS.keys() - tls - {ALONE}
    tcp_port, udp_port, tls_port, other_port = map(free_port, 2 * [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    honest = Honest("room", lambda: connect_tcp(tcp_port))
    command = f"tcp_server.py {tcp_port} --udp-port {udp_port} --reply relay"
    servers.append(Soaked(folder, honest, command, (tcp_port, udp_port)))
    honest = Honest("TLS", lambda: connect(tls_port))
    command = f"tcp_server.py {tls_port} --tls-cert {certificate} --tls-key {key}"
    servers.append(Soaked(folder, honest, command, (tls_port, 0)))
    honest = Honest("UDP", lambda: connect_udp(other_port), b"", 1.0)
    servers.append(Soaked(folder, honest, f"udp_server.py {other_port}", (0, other_port)))
    for server, names, at_once in zip(servers, (room, tls, udp), (3, 2, 2)):
        server.start(random.Random(1).sample(sorted(names), len(names)), at_once)
    begin = time.monotonic()
    for share in SHARES:
        while time.monotonic() < begin + share * seconds:
            time.sleep(1)
            for server in servers:
                server.look()
        yield from [server.row(share) for server in servers]


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers: list[Soaked] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            print_table(f"Soaked for {minutes:g} minutes", "", COLUMNS, soak(Path(folder), minutes * 60, servers))
        except (Silence, OSError) as failure:
            wrong.append(str(failure))
        finally:
            wrong += [f"{server.honest.name}: {what}" for server in servers for what in server.finish()]
    tell("\n".join(wrong) or "Nothing is wrong.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
