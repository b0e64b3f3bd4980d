"""A room passes on what it takes, however long its messages may be."""

from __future__ import annotations

import threading
import unittest

from support import TestCase, receive_all


class LongMessages(TestCase):
    """Messages of millions of bytes, over TCP."""

    def test_who_reads_hears_each_whole(self) -> None:
        server = self.server("tcp_server.py", "--reply", "relay", "--max-message", 5_000_000, "--quiet")
        listener, speaker = self.connect(server.port), self.connect(server.port)
        server.wait_for("Connected by[^~]*Connected by")
        heard: list[bytes] = []
        ears = threading.Thread(target=lambda: heard.append(receive_all(listener)), daemon=True)
        ears.start()
        message = b"x" * 2_000_014
        confirmed = threading.Thread(target=receive_all, args=(speaker,), daemon=True)
        confirmed.start()
        for _ in range(3):
            speaker.sendall(message + b"\n")
        speaker.sendall(b"exit\n")
        ears.join(20)
        start = "{}:{}: ".format(*speaker.getsockname()).encode()
        self.assertTrue(heard == [(start + message + b"\n") * 3 + b"Server shutting down...\n"], [*map(len, heard)])
        confirmed.join(20)
        listener.close()
        speaker.close()
        self.assertEqual((server.wait(), server.errors), (0, ""))


if __name__ == "__main__":
    unittest.main()
