"""A real Redis for tests: on a free port of 127.0.0.1, with a folder of its own, and gone with its test."""

from __future__ import annotations

import shutil
import socket
import tempfile
import unittest
from pathlib import Path
from typing import Any

from support import PATIENCE, Process, TestCase, free_port, wait_until

from resp import Refusal, Replies, command

HAS_REDIS = unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")


class Redis:
    """A redis-server; `options` are lines of its configuration, each as one text."""

    def __init__(self, *options: str, port: int = 0, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp())
        self.log = self.folder / "log"
        self.options = options
        self.port = port
        self.start()

    def start(self) -> None:
        """Start it, on the same port and in the same folder if it ran before."""
        is_new = not self.port
        while True:
            port = free_port() if is_new else self.port
            words = [word for option in self.options for word in f"--{option}".split(" ", 1)]
            common = ("--port", port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "")
            self.log.write_bytes(b"")
            with self.log.open("ab") as log:  # a pipe would stay open in processes that it forks
                self.process = Process("redis-server", *common, *words, stdout=log, stderr=log)
            wait_until(lambda: self.process.popen.poll() is not None or self.is_ready(), "redis-server")
            if self.is_ready():
                self.port = port
                return
            output = self.log.read_text()
            self.process.close()
            if not (is_new and "in use" in output):
                raise AssertionError(output)

    def is_ready(self) -> bool:
        """Tell whether it has said that it takes connections."""
        return "Ready to accept connections" in self.log.read_text()

    def ask(self, *words: bytes | str | int, user: tuple[str, ...] = ()) -> Any:
        """Return its answer to a command; raise an AssertionError that says so when it refuses."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connected:
            replies = Replies()
            for some in (("AUTH", *user), words) if user else (words,):
                connected.sendall(command(*some))
                answers: list[Any] = []
                while not answers:
                    answers = replies.take(connected.recv(1 << 16))
                if isinstance(answers[0], Refusal):
                    raise AssertionError(answers[0])
            return answers[0]

    def entries(self, stream: str = "room", **options: Any) -> list[dict[str, bytes]]:
        """Return what is in a stream, oldest first."""
        found = self.ask("XRANGE", stream, "-", "+", **options)
        return [dict(zip((name.decode() for name in fields[::2]), fields[1::2])) for _, fields in found]

    def texts(self, stream: str = "room", **options: Any) -> list[str]:
        """Return the messages in a stream."""
        return [entry["text"].decode() for entry in self.entries(stream, **options)]

    def kill(self) -> None:
        """End it at once."""
        self.process.close()

    def close(self) -> None:
        """End it, and delete what it kept."""
        self.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def where(self, rest: str = "room", user: str = "") -> str:
        """Return the address of a stream."""
        return f"redis://{user}127.0.0.1:{self.port}/{rest}"


class RedisTest(TestCase):
    """A test with one or more of them."""

    def redis(self, *options: str, **more: Any) -> Redis:
        """Start one."""
        redis = Redis(*options, **more)
        self.addCleanup(redis.close)
        return redis

    def wait_for_entries(self, redis: Redis, count: int) -> None:
        """Wait until a stream has so many entries."""
        wait_until(lambda: len(redis.texts()) >= count, f"{count} entries")
