"""`text`: what is done to messages and addresses before they are compared or shown."""

from __future__ import annotations

import io
import os
import socket
import time
import unittest
from unittest import mock

from support import TestCase

import text
from text import ending, has_colours, plain_host, resolve, show_address, visible, without_ending


class Endings(TestCase):
    """The line ending of a message, which is not part of its text."""

    def test_one_line_ending_is_removed(self) -> None:
        for message, rest in (
            (b"", b""),
            (b"a", b"a"),
            (b"a\n", b"a"),
            (b"a\r\n", b"a"),
            (b"a\r", b"a"),
            (b"a\n\n", b"a\n"),
            (b"a\r\r\n", b"a\r"),
            (b"\n", b""),
            (b"\r\n", b""),
            (b"a \t\n", b"a \t"),
            (b"a\nb", b"a\nb"),
        ):
            with self.subTest(message):
                self.assertEqual(without_ending(message), rest)
                self.assertEqual(rest + ending(message), message)


class Visible(TestCase):
    """What a peer sends can not paint on a terminal."""

    def test_what_could_harm_a_terminal_is_shown_escaped(self) -> None:
        for message, shown in (
            (b"\x1b[2J", r"\x1b[2J"),
            (b"a\rb\nc\x00\x07\x08\x7f", r"a\rb\nc\x00\x07\x08\x7f"),
            (b"a\tb\x0b", "a\tb\\x0b"),
            ("\x85\x9b31m".encode(), r"\x85\x9b31m"),
            ("\u2028\u2029".encode(), r"\u2028\u2029"),
            ("\u202eevil\u2066".encode(), r"\u202eevil\u2066"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            ("\ud800", r"\ud800"),
        ):
            with self.subTest(message):
                self.assertEqual(visible(message), shown)

    def test_what_people_write_is_shown_as_it_is(self) -> None:
        for words in (
            "",
            "Hello server!",
            "Grüße, 你好, привет",
            "مرحبا",
            "👩\u200d💻",
            "a\u00a0b",
            "back\\slash",
            "if x:\n\t\ty".partition("\n")[2],
            "\tü",
        ):
            with self.subTest(words):
                self.assertEqual(visible(words.encode()), words)
                self.assertEqual(visible(words), words)

    def test_the_ending_of_a_message_is_not_shown(self) -> None:
        """Text that is no message has none."""
        for message, shown in ((b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", r"a\n"), ("ü\r\n".encode(), "ü")):
            with self.subTest(message):
                self.assertEqual(visible(message), shown)
        self.assertEqual(visible("a\n"), r"a\n")

    def test_what_could_harm_a_terminal_costs_little_more_to_show(self) -> None:
        def cost(message: bytes) -> float:
            best = float("inf")
            for _ in range(5):
                start = time.process_time()
                for _ in range(3):
                    visible(message)
                best = min(best, time.process_time() - start)
            return best

        self.assertLess(cost(b"\x01" * 65000) / cost("ü".encode() * 32500), 80)


class Colours(TestCase):
    """Colours are for terminals that know them."""

    def test_where_there_are_colours(self) -> None:
        for is_terminal, is_dumb, no_colour, coloured in (
            (True, False, "", True),
            (True, False, "1", False),
            (True, True, "", False),
            (False, False, "", False),
        ):
            output = mock.Mock(isatty=mock.Mock(return_value=is_terminal))
            known = mock.patch.object(text, "IS_DUMB", is_dumb), mock.patch.dict(os.environ, NO_COLOR=no_colour)
            with self.subTest(is_terminal=is_terminal, is_dumb=is_dumb, no_colour=no_colour), known[0], known[1]:
                self.assertEqual(has_colours(output), coloured)

    def test_where_there_is_no_output(self) -> None:
        self.assertFalse(has_colours(None))
        self.assertFalse(has_colours(io.StringIO()))

    def test_paint_ends_with_what_it_paints(self) -> None:
        self.assertEqual(text.paint("late", text.RED), "\x1b[31mlate\x1b[0m")


class Addresses(TestCase):
    """Addresses as people write them, and as sockets take them."""

    def test_addresses_as_people_write_them(self) -> None:
        for address, shown in (
            (("127.0.0.1", 9000), "127.0.0.1:9000"),
            (("::1", 9000, 0, 0), "[::1]:9000"),
            (("::ffff:192.0.2.1", 9000, 0, 0), "192.0.2.1:9000"),
            (("::ffff:1", 9000, 0, 0), "[::ffff:1]:9000"),
        ):
            with self.subTest(address):
                self.assertEqual(show_address(address), shown)

    def test_ipv4_on_an_ipv6_socket_is_ipv4(self) -> None:
        for host, plain in (
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:1", "::ffff:1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
        ):
            with self.subTest(host):
                self.assertEqual(plain_host(host), plain)

    def test_an_address_of_a_single_network_has_its_interface(self) -> None:
        for name, shown in (("eth0", "[fe80::1%eth0]:9000"), (OSError, "[fe80::1%7]:9000")):
            with mock.patch("socket.if_indextoname", side_effect=[name]):
                self.assertEqual(show_address(("fe80::1", 9000, 0, 7)), shown)
        self.assertEqual(show_address(("fe80::1", 9000, 0, 0)), "[fe80::1]:9000")
        self.assertEqual(show_address(("fe80::1%eth0", 9000, 0, 7)), "[fe80::1%eth0]:9000")

    def test_an_address_is_itself(self) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with self.subTest(kind):
                self.assertEqual(resolve("192.0.2.1", 9000, kind), [(socket.AF_INET, ("192.0.2.1", 9000))])

    def test_the_system_says_in_which_order(self) -> None:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 9000, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 9000)),
        ]
        with mock.patch("socket.getaddrinfo", return_value=found) as look_up:
            addresses = resolve("both.example", 9000, socket.SOCK_STREAM)
        self.assertEqual(addresses, [(family, address) for family, _, _, _, address in found])
        self.assertEqual(look_up.call_args, mock.call(b"both.example", 9000, 0, socket.SOCK_STREAM, 0, 0))

    def test_a_name_that_is_nobodys(self) -> None:
        error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch("socket.getaddrinfo", side_effect=error):
            for host in ("nobody.example", "nobody\x1b[2J.example", "bücher.example"):
                shown = host.replace("\x1b", r"\x1b")
                problem = f"cannot find host {shown}: Name or service not known; check the name or give its address"
                with self.subTest(host), self.assertRaises(OSError) as raised:
                    resolve(host, 9000, socket.SOCK_STREAM)
                self.assertEqual(str(raised.exception), problem)

    def test_what_is_no_name_at_all(self) -> None:
        for host in ("ü" * 70, "ü..example"):
            problem = f"cannot find host {host}: not a host name; check the name"
            with self.subTest(host), self.assertRaisesRegex(OSError, problem):
                resolve(host, 9000, socket.SOCK_STREAM)

    def test_a_name_in_ascii_loads_no_codec(self) -> None:
        """Python would load what encodes other names, which takes as long as all the rest."""
        with mock.patch("socket.getaddrinfo", return_value=[]) as look_up:
            resolve("plain.example", 9000, socket.SOCK_STREAM)
        self.assertEqual(look_up.call_args.args[0], b"plain.example")


if __name__ == "__main__":
    unittest.main()
