"""What the tests share: several machines in one network, each a network namespace of its own (Linux, as root)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unittest

from support import PATIENCE, Process, TestCase, wait_until


def machines(test: TestCase, *addresses: str) -> list[list[str]]:
    """Return the command within which to start a program on each machine of a network, whose addresses are IPv4.

    Each has one interface, eth0, which leads everywhere; they are gone when the test is over. Raises SkipTest where
    there are no network namespaces.
    """
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("ip"):
        raise unittest.SkipTest("no network namespaces here")
    holders = [test.start("unshare", "-n", "sh", "-c", "echo here; exec cat") for _ in addresses]
    for holder in holders:
        wait_until(lambda holder=holder: has_begun(holder), "a network namespace")  # type: ignore[misc]
    within = [["nsenter", "-n", "-t", str(holder.popen.pid)] for holder in holders]
    run(within[0], "ip link add eth0 type bridge mcast_snooping 0")  # the first one's interface is the switch, too
    for number in range(1, len(addresses)):
        peer = f"peer name eth0 netns {holders[number].popen.pid}"
        run(within[0], f"ip link add port{number} type veth {peer}", f"ip link set port{number} master eth0 up")
    for machine, address in zip(within, addresses):
        run(machine, "ip link set lo up", f"ip address add {address}/24 broadcast + dev eth0", "ip link set eth0 up")
        run(machine, "ip route add default dev eth0")
    return within


def has_begun(process: Process) -> bool:
    """Tell whether a process has shown something, or ended."""
    return bool(process.output) or process.popen.poll() is not None


def run(machine: list[str], *commands: str) -> None:
    """Run commands on a machine. Raises SkipTest if one fails."""
    for command in commands:
        done = subprocess.run([*machine, *command.split()], capture_output=True, check=False, timeout=PATIENCE)
        if done.returncode:
            raise unittest.SkipTest(f"no network namespaces here: {done.stderr.decode()}")
