"""What the tests share: the scripts as subprocesses, raw sockets to talk to them, waiting without luck."""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 20.0
"""Seconds after which something that should have happened has not; never a measure of speed."""

# The scripts are compiled once for all tests, as they are for a user, and leave nothing in the checkout.
COMPILED = tempfile.TemporaryDirectory()
os.environ["PYTHONPYCACHEPREFIX"] = COMPILED.name
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Under nohup, or in the background of a shell script, programs start with signals ignored, and leave that so.
for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
    number = getattr(signal, name, None)
    if number and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)

sys.path.insert(0, str(ROOT))  # the unit tests import the scripts' modules

from sockets import send_at_once  # noqa: E402


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return what `condition` returns once that is true; fail the test when it stays false."""
    deadline = time.monotonic() + patience
    pause = 0.0005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not after {patience:g} s: {what}")
        time.sleep(pause)
        pause = min(1.5 * pause, 0.01)


class Process:
    """A program under test: its output is collected all the time, so that it never waits for us."""

    def __init__(self, *command: object, **options: Any) -> None:
        options.setdefault("stdin", subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        environment = {**os.environ, **options.pop("env", {})}
        self.popen = subprocess.Popen([str(part) for part in command], env=environment, cwd=ROOT, **options)
        self._collected = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = []
        for name, collected in self._collected.items():
            stream = getattr(self.popen, name)
            if stream is not None:
                reader = threading.Thread(target=self._collect, args=(stream, collected), daemon=True)
                reader.start()
                self._readers.append(reader)

    @staticmethod
    def _collect(stream: Any, collected: bytearray) -> None:
        with contextlib.suppress(ValueError):  # closed by close()
            while True:
                data = os.read(stream.fileno(), 65536)
                if not data:
                    return
                collected += data

    @property
    def output(self) -> str:
        """What came on standard output so far."""
        return bytes(self._collected["stdout"]).decode(errors="surrogateescape")

    @property
    def raw_output(self) -> bytes:
        """What came on standard output so far, as bytes."""
        return bytes(self._collected["stdout"])

    @property
    def errors(self) -> str:
        """What came on standard error so far."""
        return bytes(self._collected["stderr"]).decode(errors="surrogateescape")

    def type(self, text: str | bytes) -> None:
        """Write to the program's standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(text.encode() if isinstance(text, str) else text)
        self.popen.stdin.flush()

    def end_input(self) -> None:
        """Close the program's standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until a regular expression matches somewhere in the standard output; return the match."""
        try:
            match = wait_until(lambda: re.search(pattern, self.output, re.MULTILINE), pattern, patience)
        except AssertionError as error:
            tails = f"output: {self.output[-2000:]!r}; errors: {self.errors[-2000:]!r}"
            raise AssertionError(f"{error}; {tails}; exit code {self.popen.poll()}") from None
        assert isinstance(match, re.Match)
        return match

    def wait_for_error(self, pattern: str) -> re.Match[str]:
        """Wait until a regular expression matches somewhere in the standard error; return the match."""
        match = wait_until(lambda: re.search(pattern, self.errors, re.MULTILINE), f"{pattern} in {self.errors!r}")
        assert isinstance(match, re.Match)
        return match

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end of the program and of its output; return its exit code."""
        waiter = threading.Thread(target=self.popen.wait, daemon=True)  # with a timeout, it would look now and then
        waiter.start()
        waiter.join(patience)
        if waiter.is_alive():
            raise AssertionError(f"still runs; output: {self.output[-2000:]!r}; errors: {self.errors!r}")
        for reader in self._readers:
            reader.join(patience)
        return self.popen.wait()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def is_at_rest(self) -> bool:
        """Tell whether the program waits for something, or has ended."""
        return is_at_rest(self.popen.pid)

    def stop(self) -> None:
        """Have the program stand still until it gets SIGCONT; it does when this returns."""
        self.signal(signal.SIGSTOP)
        os.waitpid(self.popen.pid, os.WUNTRACED)

    def close(self) -> None:
        """Kill the program if it still runs, and free what it used."""
        self.popen.kill()
        self.popen.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Server(Process):
    """One of the servers, on a free port; `port` and `udp_port` say which. `within` is a command that starts it."""

    def __init__(
        self, script: str, *options: object, port: int = 0, within: Sequence[object] = (), **popen: Any
    ) -> None:
        super().__init__(*within, sys.executable, script, port, *options, **popen)
        self.protocol = script[:3].upper()
        self.port = self.port_of(self.protocol)
        self.udp_port = self.port_of("UDP") if "--udp-port" in options else 0

    def port_of(self, protocol: str) -> int:
        """Return the port that a protocol is served on."""
        return int(self.wait_for(rf"^\[{protocol} Server\] Listening on \S+:(\d+)\.")[1])


def with_constants(**constants: float) -> tuple[str, ...]:
    """Return the command within which a script has other values of its constants, for what would take long.

    Whatever room or class has a constant of that name gets the value, also what only an option loads.
    """
    code = """
import importlib, json, pathlib, sys
constants, script = json.loads(sys.argv[1]), sys.argv[3].partition(".")[0]
importlib.import_module(script)
for file in pathlib.Path.cwd().glob("*.py"):
    if any(name in file.read_text(encoding="utf-8") for name in constants):
        importlib.import_module(file.stem)
files = [(pathlib.Path(getattr(module, "__file__", None) or "/"), module) for module in sys.modules.values()]
rooms = [module for file, module in files if file.parent == pathlib.Path.cwd()]
classes = [thing for room in rooms for thing in vars(room).values() if isinstance(thing, type)]
for name, value in constants.items():
    having = [holder for holder in rooms + classes if name in vars(holder)]
    assert having, f"nothing has a constant {name}"
    for holder in having:
        setattr(holder, name, value)
sys.argv = sys.argv[3:]
sys.modules["common"].run(sys.modules[script].main)
"""
    return sys.executable, "-c", code, json.dumps(constants)


class Clock:
    """The time of programs under test, which can be put forward: then nobody has to wait, or to be in time."""

    CODE = """
import mmap, os, signal, struct, time
with open(os.environ["AHEAD"], "rb") as file:
    ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
monotonic = time.monotonic
time.monotonic = lambda: monotonic() + struct.unpack("d", ahead)[0]
if hasattr(signal, "SIGUSR1"):
    signal.signal(signal.SIGUSR1, lambda *_: None)  # so that it ends a wait
"""

    def __init__(self, test: unittest.TestCase) -> None:
        folder = tempfile.TemporaryDirectory()
        test.addCleanup(folder.cleanup)
        Path(folder.name, "sitecustomize.py").write_text(self.CODE)
        file = Path(folder.name, "ahead")
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._ahead = mmap.mmap(opened.fileno(), 8)
        test.addCleanup(self._ahead.close)
        self.environment = {"PYTHONPATH": folder.name, "AHEAD": str(file)}
        """What a program has to be started with, as `env`."""

    def skip(self, seconds: float, *programs: Process) -> None:
        """Put the time forward for all that were started with it, once these rest; then these do what is due."""
        for program in programs:
            wait_until(program.is_at_rest, "the program waits")
        self._ahead[:] = struct.pack("d", struct.unpack("d", self._ahead)[0] + seconds)
        for program in programs if hasattr(signal, "SIGUSR1") else ():
            program.signal(signal.SIGUSR1)
            wait_until(program.is_at_rest, "the program waits again")


class TestCase(unittest.TestCase):
    """A test that starts programs, which end with it."""

    maxDiff = 4000

    def start(self, *command: object, **options: Any) -> Process:
        """Start any program."""
        process = Process(*command, **options)
        self.addCleanup(process.close)
        return process

    def server(self, script: str, *options: object, **popen: Any) -> Server:
        """Start a server; return it once it listens."""
        server = Server(script, *options, **popen)
        self.addCleanup(server.close)
        return server

    def client(self, script: str, *arguments: object, **popen: Any) -> Process:
        """Start a client."""
        return self.start(sys.executable, script, *arguments, **popen)

    def run_client(self, script: str, *arguments: object, typed: str | bytes = b"") -> Process:
        """Run a client to its end with piped input."""
        client = self.client(script, *arguments)
        with contextlib.suppress(BrokenPipeError):
            client.type(typed)
            client.end_input()
        client.wait()
        return client

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a raw TCP connection."""
        connected = socket.create_connection((host, port), PATIENCE)
        self.addCleanup(connected.close)
        send_at_once(connected)
        return connected

    def datagrams(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a raw UDP socket that is connected to a port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE)
        connected.connect((host, port))
        return connected

    def listen(self, port: int = 0) -> socket.socket:
        """Return a TCP socket that listens, for a server played by the test."""
        listener = socket.create_server(("127.0.0.1", port))
        self.addCleanup(listener.close)
        listener.settimeout(PATIENCE)
        return listener

    def accept(self, listener: socket.socket) -> socket.socket:
        """Return the next connection to such a server."""
        connected, _ = listener.accept()
        self.addCleanup(connected.close)
        connected.settimeout(PATIENCE)
        send_at_once(connected)
        return connected

    def assert_one_line_error(self, process: Process, pattern: str, code: int = 1) -> None:
        """Check that a program ended with `code` after exactly one line on standard error, which matches."""
        self.assertEqual(process.wait(), code, process.errors)
        self.assertRegex(process.errors, rf"\A\w+\.py: error: .*{pattern}.*\n\Z")
        self.assertNotIn("Traceback", process.errors)


def receive_all(connected: socket.socket) -> bytes:
    """Return everything until the peer closes."""
    data = bytearray()
    while True:
        chunk = connected.recv(1 << 16)
        if not chunk:
            return bytes(data)
        data += chunk


def receive_lines(connected: socket.socket, count: int) -> list[bytes]:
    """Return the next `count` lines, without their endings; what follows them must not have arrived yet."""
    data = bytearray()
    while data.count(b"\n") < count:
        chunk = connected.recv(1 << 16)
        if not chunk:
            raise AssertionError(f"closed after {bytes(data)!r}")
        data += chunk
    return bytes(data).split(b"\n")[:-1]


def own_ports() -> Iterator[int]:
    """Yield ports below those that the system gives to whoever takes any; other runs of the tests get others."""
    for start in range(10000, 32000, 500):
        guard = socket.socket()
        with contextlib.suppress(OSError):
            guard.bind(("127.0.0.1", start))
            for number in itertools.count():
                yield start + 1 + number % 499
        guard.close()
    raise AssertionError("no ports are left")


PORTS = own_ports()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that is free, and that no other test is given."""
    while True:
        port = next(PORTS)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def needs(tool: str) -> Callable[[Any], Any]:
    """Skip a test where a program is missing."""
    return unittest.skipUnless(shutil.which(tool), f"{tool} is not installed")


def openssl(folder: Path, *arguments: object) -> None:
    """Run the `openssl` command in a folder."""
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command}: {done.stderr}")


def new_key(folder: Path, name: str, subject: str, *arguments: object) -> None:
    """Make NAME.key, and with it what the other arguments of `openssl req` say."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(folder, "req", *curve, "-nodes", "-utf8", "-keyout", f"{name}.key", "-subj", subject, *arguments)


def new_certificate(folder: Path, name: str, subject: str, names: str) -> None:
    """Make NAME.key, and NAME.pem: a certificate of these names that the key itself has signed."""
    new_key(folder, name, subject, *("-x509", "-days", 30, "-out", f"{name}.pem"), "-addext", f"subjectAltName={names}")


def is_at_rest(number: int) -> bool:
    """Tell whether all threads of a process wait for something, or it has ended (Linux; elsewhere, always)."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{number}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] in "SZ" for task in tasks)
    return True


def connects(client: Process, remote: str) -> bool:
    """Tell whether one of a client's sockets has a remote address and a state, as in /proc/net/tcp; 02 is SYN_SENT."""
    inodes = set()
    with contextlib.suppress(OSError):  # one is closed by now
        for link in Path(f"/proc/{client.popen.pid}/fd").iterdir():
            inodes |= set(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    connections = [line for line in Path("/proc/net/tcp").read_text().splitlines() if remote in line]
    return any(line.split()[9] in inodes for line in connections)


def resident_bytes(process: Process) -> int:
    """Return the memory that a process holds (Linux)."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def open_files(process: Process) -> int:
    """Return how many files a process has open (Linux)."""
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


def readme_block(first_line: str) -> str:
    """Return the fenced block that begins with a line, in README.md or a page of docs/."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        found = re.search(rf"^```\w*\n({re.escape(first_line)}\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if found:
            return found[1]
    raise AssertionError(f"no page has a block that begins with {first_line!r}")
