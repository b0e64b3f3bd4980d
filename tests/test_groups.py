"""`--group`: datagrams to a multicast group."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unittest

from support import PATIENCE, TestCase, wait_until

TO_GROUP = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
asking = socket.socket(family, kind)
asking.settimeout(20)
asking.sendto(b"anybody there?", address)
print(*asking.recvfrom(1000))
"""
"""Sends a datagram to a group, and prints the answer and from where it comes."""


class Command(TestCase):
    """What the command line takes."""

    def test_errors(self) -> None:
        for options, said in (
            (("--group", "10.0.0.1"), "--group: 10.0.0.1 is no multicast address, such as"),
            (("--group", "all"), "--group: 'all' does not appear to be an IPv4 or IPv6 address"),
            (("--group", "239.1.2.3", "--host", "127.0.0.2"), "--group does not go with --host 127.0.0.2"),
            (("--group", "ff02::114", "--host", "0.0.0.0"), "--group of IPv6 does not go with --host 0.0.0.0"),
        ):
            with self.subTest(options):
                self.assert_one_line_error(self.client("udp_server.py", 0, *options), said, code=2)
        wrong = self.client("udp_server.py", 0, "--group", "239.1.2.3%none")
        self.assert_one_line_error(wrong, "cannot join the group 239.1.2.3%none: .*; check the name none")
        self.assert_one_line_error(self.client("tcp_server.py", 0, "--group", "239.1.2.3"), "--group", code=2)


@unittest.skipUnless(sys.platform == "linux" and shutil.which("unshare"), "no network namespaces here")
class Joined(TestCase):
    """A machine of its own, with one interface."""

    def setUp(self) -> None:
        holder = self.start("unshare", "-n", "sh", "-c", "echo here; exec cat")
        wait_until(lambda: holder.output or holder.popen.poll() is not None, "a network namespace")
        self.machine = ["nsenter", "-n", "-t", str(holder.popen.pid)]
        for command in (
            "ip link set lo up",
            "ip link add side1 type veth peer name side2",
            "ip address add 10.9.8.1/24 dev side1",
            "ip link set side1 up",
            "ip link set side2 up",
            "ip address add fe80::b/64 dev side1 nodad",
            "ip route add 239.0.0.0/8 dev side1",
        ):
            done = subprocess.run([*self.machine, *command.split()], capture_output=True, check=False, timeout=PATIENCE)
            if done.returncode:
                self.skipTest(f"no network namespaces here: {done.stderr.decode()}")

    def ask(self, host: str, port: int) -> str:
        """Send a datagram to a group; return the answer, and from where it comes."""
        asking = self.start(*self.machine, sys.executable, "-c", TO_GROUP, host, port)
        self.assertEqual(asking.wait(), 0, asking.errors)
        return asking.output

    def test_groups_of_ipv4(self) -> None:
        groups = ("--group", "239.1.2.3", "--group", "239.1.2.4%side1")
        server = self.server("udp_server.py", *groups, within=self.machine)
        self.assertRegex(server.output, r"Listening on 0\.0\.0\.0:\d+\.")
        for group in ("239.1.2.3", "239.1.2.4", "10.9.8.1"):
            self.assertIn("b'Message received: anybody there?' ('10.9.8.1',", self.ask(group, server.port))

    def test_a_group_of_ipv6(self) -> None:
        server = self.server("udp_server.py", "--group", "ff02::114%side1", within=self.machine)
        answer = self.ask("ff02::114%side1", server.port)
        self.assertRegex(answer, r"^b'Message received: anybody there\?' \('fe80::")
        server.wait_for(r"Received from \[fe80::\S+%side1\]:\d+: anybody there\?$")


if __name__ == "__main__":
    unittest.main()
