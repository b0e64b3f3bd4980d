"""What the kernel has no room for is counted: every datagram is accounted for, also those that were never read."""

from __future__ import annotations

import re
import signal
import sys
import unittest
from unittest import mock

from support import TestCase, wait_until, with_constants

import losses


@unittest.skipUnless(sys.platform == "linux", "elsewhere nothing tells")
class Lost(TestCase):
    """A burst that a server does not read in time."""

    def test_each_is_received_or_lost(self) -> None:
        options = ("--udp-port", 0, "--reply", "none")
        server = self.server("tcp_server.py", *options, within=with_constants(RECEIVE_BUFFER=20_000, TICK=0.1))
        peer = self.datagrams(server.udp_port)
        server.stop()
        for number in range(1000):
            peer.send(b"%d" % number)
        server.signal(signal.SIGCONT)

        def accounted() -> int:
            lost = re.findall(r"(\d+) datagrams were lost: they came faster than they were read$", server.output, re.M)
            return sum(map(int, lost)) + server.output.count("Received from")

        wait_until(lambda: accounted() == 1000, "each is received or lost")
        peer.send(b"the last")
        server.wait_for("the last$")
        server.type("exit\n")
        self.assertEqual((server.wait(), server.errors), (0, ""))
        lost = [int(count) for count in re.findall(r"(\d+) datagrams were lost: ", server.output)]
        received = server.output.count("Received from")
        self.assertEqual(sum(lost) + received, 1001)
        self.assertIn(f"[UDP Server] {sum(lost)} datagrams were lost in all\n", server.output)

    def test_nothing_is_said_of_nothing(self) -> None:
        server = self.server("udp_server.py")
        self.datagrams(server.port).send(b"hello")
        server.wait_for("hello$")
        server.type("exit\n")
        server.wait()
        self.assertNotIn("lost", server.output)


class Counted(unittest.TestCase):
    """The count is of 32 bits, and may not be there."""

    def lines(self, *told: object) -> list[str]:
        """Return what is shown when the kernel tells this."""
        endpoint = mock.Mock()
        endpoint.getsockopt.side_effect = told
        record = mock.Mock()
        shown = losses.Losses(endpoint, record, "X")
        with mock.patch.object(losses, "SO_MEMINFO", 55):
            for _ in told[1:]:
                shown.show()
            shown.finish()
        return [call.args[0] for call in record.line.call_args_list]

    def test_it_begins_anew_after_its_highest(self) -> None:
        numbers = [bytes(32) + number.to_bytes(4, sys.byteorder) for number in (5, 2**32 - 1, 4, 4)]
        counts = [int(line.split()[2]) for line in self.lines(*numbers)]
        self.assertEqual(counts, [5, 2**32 - 6, 5, 2**32 + 4])

    def test_an_old_kernel(self) -> None:
        self.assertEqual(self.lines(OSError(92, "Protocol not available"), OSError(92, "Protocol not available")), [])


if __name__ == "__main__":
    unittest.main()
