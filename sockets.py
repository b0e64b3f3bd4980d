"""All: options of sockets that both ends want, as far as the system knows them."""

from __future__ import annotations

import contextlib
import socket
import sys

RECEIVE_BUFFER = 4 << 20
"""Bytes of kernel buffer for datagrams, so that a burst is not lost while nobody reads."""
KEEPALIVE = (("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Seconds of silence before the first question, seconds between two, and how many stay unanswered: tcp(7)."""
SO_NWRITE = 0x1024
"""How macOS is asked for the bytes that are not acknowledged; Python has no name for it."""

USER_TIMEOUT = 120_000
"""Milliseconds that what was sent may stay unacknowledged: tcp(7)."""


def keep_alive(connected: socket.socket) -> None:
    """Have the kernel find out within two minutes that a silent peer's machine is gone."""
    with contextlib.suppress(OSError):  # macOS refuses options for a connection that was reset meanwhile
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def unacknowledged(connected: socket.socket) -> int:
    """Return how many bytes the other machine has not acknowledged; 0 where the system does not tell."""
    try:
        if sys.platform == "darwin":
            return connected.getsockopt(socket.SOL_SOCKET, SO_NWRITE)
        import fcntl
        import termios

        return int.from_bytes(fcntl.ioctl(connected, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (ImportError, AttributeError, OSError):  # Windows; a system that knows it of terminals alone
        return 0


def limit_patience(connected: socket.socket) -> None:
    """Have the kernel give up within two minutes, too, when what it sends is not acknowledged, or not taken."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)


def send_at_once(connected: socket.socket) -> None:
    """Have the kernel send what is small without waiting for more (RFC 896 would have it wait)."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reuse_address(unbound: socket.socket) -> None:
    """Let a server start again while connections of its last run are in TIME_WAIT, but not beside another server."""
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share a busy port
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def widen_buffer(unbound: socket.socket) -> None:
    """Ask for room for RECEIVE_BUFFER bytes of datagrams."""
    with contextlib.suppress(OSError):  # macOS refuses what is over its limit, Linux gives what it allows
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
