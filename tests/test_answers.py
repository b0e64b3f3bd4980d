"""Clients that know what is an answer, what is a sign of life, and what is to be sent again."""

from __future__ import annotations

import unittest

from test_accounting import AccountingTest

HOST = "127.0.0.1"


class Names(AccountingTest):
    """A confirmation names its message."""

    def test_a_message_that_looks_like_a_confirmation(self) -> None:
        """A UDP server does not answer it; what it says to the other proves nothing of this one."""
        server = self.server("udp_server.py")
        options = ("--retries", 1, "--timeout", 0.3, "--stats")
        for typed, confirmed in ((b"Message received: x\nx\n", 0), (b"y\nMessage received: x\nx\n", 2)):
            client = self.run_client("udp_client.py", HOST, server.port, *options, typed=typed)
            self.assertEqual(client.wait(), 1)
            self.assertIn("not confirmed by", client.errors)
            self.assert_summary(client, typed.count(b"\n"), confirmed)

    def test_the_same_over_tcp(self) -> None:
        typed = b"Message received: x\nx\nMessage received: x\n"
        for reply in ("confirm", "echo"):
            server = self.server("tcp_server.py", "--reply", reply)
            client = self.run_client("tcp_client.py", HOST, server.port, "--stats", typed=typed)
            self.assert_all_confirmed(client, 3)

    def test_datagrams_that_differ_where_no_confirmation_reaches(self) -> None:
        endpoint = self.endpoint()
        long = b"x" * 65490
        client = self.client("udp_client.py", HOST, endpoint.getsockname()[1], "--timeout", 0.5, "--stats")
        client.type(long + b"1\n" + long + b"2\n")
        client.end_input()
        for _ in range(2):
            data, peer = endpoint.recvfrom(65536)
        endpoint.sendto((b"Message received: " + data)[:65507], peer)
        self.assertEqual(client.wait(), 1)
        self.assert_summary(client, 2, 0)


if __name__ == "__main__":
    unittest.main()
