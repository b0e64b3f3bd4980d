"""`--json` and `--timestamps`: the record for programs, and with the time."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import tempfile
import unittest
from typing import Any

from support import PATIENCE, ROOT, Server, TestCase, needs, receive_lines, with_constants

from json_record import EVENTS, fields_of

AT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Started(Server):
    """A server whose record is of another form."""

    def port_of(self, protocol: str) -> int:
        """Return the port that a protocol is served on."""
        return int(self.wait_for(rf"(?i){protocol}\b.*?127\.0\.0\.1:(\d+)")[1])


class RecordTest(TestCase):
    """A server with another record."""

    def started(self, script: str, *options: object, **popen: Any) -> Started:
        """Start a server."""
        server = Started(script, *options, **popen)
        self.addCleanup(server.close)
        return server

    def events(self, server: Server) -> list[dict[str, str]]:
        """Return the objects in the record so far, and check what each has."""
        events = [json.loads(line) for line in server.output.splitlines()]
        for event in events:
            self.assertRegex(event.pop("at"), rf"^{AT}$")
            self.assertIn(event["event"], EVENTS)
            self.assertLessEqual(event.keys(), {"event", "protocol", "peer", "subject", "text", "base64", "address"})
        return events


class Json(RecordTest):
    """One object an event."""

    def test_a_conversation(self) -> None:
        server = self.started("tcp_server.py", "--json", "--udp-port", 0, "--max-clients", 1, "--exit-from", "nobody")
        connected, peer = self.connect(server.port), self.datagrams(server.udp_port)
        for text in (b"hello\n", "Gr\u00fc\u00dfe\r\n".encode(), b"caf\xe9\n", b"exit\n"):
            connected.sendall(text)
            receive_lines(connected, 1)
        peer.send(b"Message received: x")
        peer.send(b"a\nb")
        peer.recv(1000)
        surplus = self.connect(server.port)
        surplus.recv(1000)
        turned_away = "{}:{}".format(*surplus.getsockname())
        surplus.close()
        where, name = ("{}:{}".format(*one.getsockname()) for one in (connected, peer))
        server.type(f"@{where} for one\nfor all\nexit\n")
        receive_lines(connected, 3)
        connected.close()
        self.assertEqual((server.wait(), server.errors), (0, ""))
        events = self.events(server)
        tcp: dict[str, str] = {"protocol": "tcp", "peer": where}
        udp: dict[str, str] = {"protocol": "udp", "peer": name}
        for expected in (
            {"event": "connected", **tcp},
            {"event": "received", **tcp, "text": "hello"},
            {"event": "received", **tcp, "text": "Gr\u00fc\u00dfe"},
            {"event": "received", **tcp, "base64": "Y2Fm6Q=="},
            {"event": "error_sent", **tcp, "text": f"Error: 'exit' is not obeyed from {where}"},
            {"event": "not_answered", **udp, "text": "a server's reply"},
            {"event": "received", **udp, "text": "Message received: x"},
            {"event": "received", **udp, "text": "a\nb"},
            {"event": "sent", "peer": where, "text": "for one"},
            {"event": "stopping", "text": "Shutdown command typed. Stopping server..."},
            {"event": "turned_away", "protocol": "tcp", "peer": turned_away, "text": "1 are connected"},
            {"event": "stopped", "text": "All services stopped."},
        ):
            self.assertIn(expected, events)
        kinds = [event["event"] for event in events]
        self.assertEqual(kinds.count("listening"), 2)
        self.assertEqual(events[0]["address"], f"127.0.0.1:{server.port}")
        self.assertIn("disconnected", kinds)
        self.assertNotIn("note", kinds)

    def test_nothing_can_be_forged(self) -> None:
        server = self.started("udp_server.py", "--json")
        peer = self.datagrams(server.port)
        forged = b'x"}\n{"at": "2026-01-01T00:00:00.000Z", "event": "stopped"}\n[Server] All services stopped.\x1b[2J'
        peer.send(forged)
        peer.recv(1000)
        server.wait_for('"received"')
        self.assertEqual(self.events(server)[-1]["text"], forged.decode())
        self.assertTrue(server.output.isascii())
        self.assertNotIn("\x1b", server.output)

    def test_what_is_not_saved(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        within = with_constants(PATIENCE=100)
        server = self.started("udp_server.py", "--json", "--save", f"{folder.name}/a.db", within=within)
        database = sqlite3.connect(f"{folder.name}/a.db", isolation_level=None)
        self.addCleanup(database.close)
        database.execute("BEGIN IMMEDIATE")
        peer = self.datagrams(server.port)
        peer.send(b"one")
        peer.recv(1000)
        database.execute("ROLLBACK")
        peer.send(b"two")
        peer.recv(1000)
        server.wait_for('"received"')
        told = [(event["event"], event["text"]) for event in self.events(server)[-3:]]
        said = [("not_saved", "one"), ("saved_again", "Messages are saved again; 1 were not."), ("received", "two")]
        self.assertEqual(told, said)

    def test_whose_certificate(self) -> None:
        fields = fields_of("[TCP Server] Disconnected: ", "127.0.0.1:9 (commonName=Al (or so))")
        expected = {
            "event": "disconnected",
            "protocol": "tcp",
            "peer": "127.0.0.1:9",
            "subject": "commonName=Al (or so)",
        }
        self.assertEqual(fields, {**expected, "text": ""})
        fields = fields_of("[Server] Refused 10.0.0.1: it is in no network that may come in", "")
        expected = {"event": "refused", "peer": "10.0.0.1", "text": "it is in no network that may come in"}
        self.assertEqual(fields, expected)

    def test_what_is_counted(self) -> None:
        """Whatever happens on and on becomes one event with a count."""
        for kind in ("Refused", "Not answered", "Could not send", "Connected", "Disconnected", "Forgot", "Turned away"):
            fields = fields_of(f"[Server] {kind} 12 more times", "")
            self.assertEqual(fields, {"event": "repeated", "text": f"{kind} 12 more times"})
        server = self.started("tcp_server.py", "--json", "--max-clients", 1, "--exit-from", "nobody")
        first = self.connect(server.port)
        server.wait_for('"connected"')
        receive_lines(self.connect(server.port), 1)
        first.sendall(b"exit\n")
        receive_lines(first, 1)
        server.wait_for('"error_sent"')
        told = {event["event"]: event.get("text") for event in self.events(server)}
        self.assertEqual(told["turned_away"], "1 are connected")
        self.assertEqual(told["error_sent"], "Error: 'exit' is not obeyed from {}:{}".format(*first.getsockname()))

    def test_what_stood_still_is_an_object_too(self) -> None:
        fields = fields_of("[Server] 3 lines were not shown, since the output stood still.", "")
        self.assertEqual(fields["event"], "not_shown")

    def test_the_documented_events(self) -> None:
        page = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
        table = re.findall(r"^\| `(\w+)` \|", page.partition("## As JSON")[2].partition("\n## ")[0], re.MULTILINE)
        fields = ["at", "event", "protocol", "peer", "subject", "text", "base64", "address"]
        self.assertEqual(sorted(table), sorted([*EVENTS, *fields]))

    @needs("jq")
    def test_jq_reads_it(self) -> None:
        server = self.started("tcp_server.py", "--json")
        connected = self.connect(server.port)
        connected.sendall(b"one\ntwo\n")
        receive_lines(connected, 2)
        server.wait_for('"two"')
        command = ["jq", "-r", 'select(.event == "received") | .text']
        done = subprocess.run(
            command, input=server.output, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        self.assertEqual(done.stdout, "one\ntwo\n")


class Timestamps(RecordTest):
    """Each line begins with the time."""

    def test_each_line(self) -> None:
        server = self.started("udp_server.py", "--timestamps")
        peer = self.datagrams(server.port)
        for text in (b"one", b"two\nthree"):
            peer.send(text)
            peer.recv(1000)
        server.type("exit\n")
        self.assertEqual(server.wait(), 0)
        lines = server.output.splitlines()
        self.assertEqual([line for line in lines if not re.match(rf"{AT} \S", line)], [])
        self.assertRegex(lines[3], r"^\S+ \[UDP Server\] Received from 127\.0\.0\.1:\d+: two\\nthree$")

    def test_not_with_json(self) -> None:
        for script in ("tcp_server.py", "udp_server.py"):
            wrong = self.client(script, 0, "--timestamps", "--json")
            self.assert_one_line_error(wrong, "not allowed with", code=2)


if __name__ == "__main__":
    unittest.main()
