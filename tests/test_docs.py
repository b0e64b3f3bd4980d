"""The README and the pages tell the truth: what they show is what happens, what they name is there.

A ```console block is a window: a shell with the prompt `$ `. What follows a prompt (`$ `, `> `, `You: `), or stands
before `<- typed` (there without `[Server] To N clients: `) or after `<- typed: `, is typed as soon as the screen shows
all that stands above it. The blocks under one heading are windows side by side, each opened once the last command of
the one before shows its first output. `...` at a block's end is anything. Where the shell's prompt begins with an
address, `192.168.1.11$ `, the window is on a machine of that address; the machines of a heading share a network, and
what several of them answer comes in any order. A ```python block whose docstring begins with the name of a file is
that file, in the folder of its page's windows.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import itertools
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path

from network import machines
from support import PATIENCE, ROOT, TestCase, needs, wait_until
from support import PORTS as OWN_PORTS

with contextlib.suppress(ImportError):  # there are no terminals on Windows
    from screen import Terminal

PAGES = {
    str(path.relative_to(ROOT).as_posix()): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / ".github" / "CONTRIBUTING.md")
}
README, REFERENCE, CONTRIBUTING = "README.md", "docs/reference.md", ".github/CONTRIBUTING.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = {name: BLOCK.sub("", text) for name, text in PAGES.items()}
SPAN = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

SCRIPTS = ("tcp_server.py", "tcp_client.py", "udp_server.py", "udp_client.py")
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.py"))}
PORTS = ("9000", "9001", "65432", "65433")
"""The ports in the transcripts; the tests take free ones in their stead."""
PORT = re.compile(rf"\b(?:{'|'.join(PORTS)})\b")
PROMPT = re.compile(r"((?:\d+\.\d+\.\d+\.\d+)?)\$ ")
COMMAND = re.compile(rf"({PROMPT.pattern[:-1]}|>|You:) (?=.)")
TYPED = re.compile(r" +<- typed(?:: (\w+))?$")
SAID = re.compile(r"\[Server\] To \d+ clients?: ")
VARIES = (
    (re.compile(rf"((?:127|192)\.\d+\.\d+\.\d+):(?!(?:{'|'.join(PORTS)})\b)\d+"), r"\1:PORT"),
    (re.compile(r"(min/avg/max) [\d./]+ ms"), r"\1 TIMES ms"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"^(Ncat: Version) .*"), r"\1"),
)
ANSWER = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+: ")
"""What one of many answers begins with."""
DOTS = re.compile(r"[-.+*]{4,}")
"""What some versions of OpenSSL print while they make a key, and others do not."""

MOST_LINES, MOST_LINES_OF_THE_README = 350, 250
SAYINGS = (
    (README, "When something goes wrong"),
    ("docs/record.md", "As text"),
    (REFERENCE, "Errors and cures"),
    ("docs/operations.md", "Logs"),
)
"""Tables whose first column quotes what the scripts say."""
OF_OTHERS = {"self-signed certificate"}
"""What OpenSSL says in them."""


def blocks_of(page: str, *kinds: str) -> list[str]:
    """Return the contents of the fenced blocks of these kinds."""
    return [text for kind, text in BLOCK.findall(PAGES[page]) if kind in kinds]


def block(kind: str, first_line: str) -> str:
    """Return the block of whichever page has one that begins with a line."""
    found = [text for page in PAGES for text in blocks_of(page, kind) if text.startswith(f"{first_line}\n")]
    assert len(found) == 1, f"{len(found)} blocks begin with {first_line}"
    return found[0]


def sections(page: str) -> Iterator[tuple[str, str]]:
    """Yield each heading of a page, and what stands below it until the next."""
    parts: list[list[str]] = []
    is_fenced = False
    for line in PAGES[page].splitlines():
        is_fenced ^= line.startswith("```")
        if line.startswith("#") and not is_fenced:
            parts.append([line.lstrip("# ")])
        elif parts:
            parts[-1].append(line)
    yield from ((title, "\n".join(lines) + "\n") for title, *lines in parts)


def section(page: str, title: str) -> str:
    """Return what stands below a heading."""
    found = [text for name, text in sections(page) if name == title]
    assert len(found) == 1, f"{page} has {len(found)} headings {title}"
    return found[0]


def rows(text: str, columns: int = 0) -> list[list[str]]:
    """Return the rows of the tables in a text, without their heads; only those of so many columns, if told."""
    found = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in found]
    heads = {place - 1 for place, row in enumerate(cells) if set(row) <= {"---", "---:"}}
    return [
        row
        for place, row in enumerate(cells)
        if place not in heads and place - 1 not in heads and columns in (0, len(row))
    ]


def transcripts() -> Iterator[tuple[str, str, list[list[str]]]]:
    """Yield each page and heading that has ```console blocks, and these, each a list of lines."""
    for page in PAGES:
        for title, text in sections(page):
            blocks = [content.splitlines() for kind, content in BLOCK.findall(text) if kind == "console"]
            if blocks:
                yield page, title, blocks


def files_of(page: str) -> dict[str, str]:
    """Return the Python files that a page shows whole, by name."""
    found = {}
    for text in blocks_of(page, "python"):
        name = re.match(r'"""(\w+\.py): ', text)
        assert name, f"{page} has a Python block that names no file"
        found[name[1]] = text
    return found


def free_ports(count: int) -> list[int]:
    """Return ports that are free for TCP and UDP, and that no other test is given."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(OWN_PORTS)
        with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as other, contextlib.suppress(OSError):
            one.bind(("", port))
            other.bind(("", port))
            ports.append(port)
    return ports


def missing_tools(blocks: list[list[str]]) -> list[str]:
    """Return the programs in transcripts that this machine lacks."""
    commands = [line[prompt.end() :] for block in blocks for line in block for prompt in [PROMPT.match(line)] if prompt]
    words = {word for command in commands for word in re.findall(r"(?:^|[|&(] *)([a-z][\w.-]*)", command)}
    return sorted(word for word in words if not shutil.which(word))


def machine_of(lines: list[str]) -> str:
    """Return the address of the machine that a window is on; "" where any will do."""
    (address,) = {prompt[1] for prompt in map(PROMPT.match, lines) if prompt}
    return address


def source_of(file: str, name: str) -> str:
    """Return the source of a function, a method or a class. Raises AssertionError if there is none."""
    node: ast.AST = ast.parse(SOURCES[file])
    for part in name.split("."):
        found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        assert found, f"{file} has no {name}"
        node = found[0]
    return ast.get_source_segment(SOURCES[file], node) or ""


class Window:
    """A block of a page, and a terminal in which it happens again."""

    def __init__(self, lines: list[str], folder: str, ports: dict[str, str], within: Sequence[str] = ()) -> None:
        self._is_open_ended = lines[-1] == "..."
        lines = [line for line in lines if line != "..." and not DOTS.fullmatch(line)]
        self._typed = [bool(COMMAND.match(line) or TYPED.search(line)) for line in lines]
        self._words = [found[1] if found else None for found in map(TYPED.search, lines)]
        self._speaks_both = any("client" in line and "--udp-port" in line for line in lines)
        self._ports = ports
        self.expected = [self._plain(TYPED.sub("", line)) for line in lines]
        self._prompt = f"{machine_of(lines)}$"
        path = f"{folder}/bin:{os.environ['PATH']}"
        environment = {"PS1": f"{self._prompt} ", "PS2": "> ", "HISTFILE": "", "PATH": path}
        shell = ("sh", "-c", 'cd "$0" && exec bash --norc --noprofile --noediting -i', folder)
        widest = max(len(PORT.sub("12345", line)) for line in lines)
        self.terminal = Terminal(*within, *shell, columns=80 if widest < 80 else 300, environment=environment)
        self._next = 0
        """The line that is to be typed or seen next."""
        last = max(place for place, line in enumerate(lines) if PROMPT.match(line))
        shown = [place for place in range(last, len(lines)) if not self._typed[place]]
        self._begins_at = shown[0] + 1 if shown else len(lines)

    def step(self) -> bool:
        """Type what is to be typed now; tell whether everything has happened."""
        rows = self.rows()
        while self._next < len(self.expected):
            row, expected = rows[self._next] if self._next < len(rows) else "", self.expected[self._next]
            if self._typed[self._next]:
                prompt = COMMAND.match(expected)
                if self._next != len(rows) - 1 or row != (prompt[1] if prompt else ""):
                    return False
                text = PORT.sub(lambda port: self._ports[port[0]], expected)
                self.terminal.type(
                    (self._words[self._next] or SAID.sub("", text[prompt.end() if prompt else 0 :])) + "\r"
                )
                rows[self._next : self._next + 1] = [expected]
            elif self._next >= len(rows) - 1 or row != expected:
                return False
            self._next += 1
        return self._is_open_ended or self.is_as_expected()

    def has_begun(self) -> bool:
        """Tell whether the first output of the last command has been seen; all is typed where it shows none."""
        return self._next >= self._begins_at

    def has_ended(self) -> bool:
        """Tell whether no command runs any more; an interrupted one may have left `^C` before the prompt."""
        return self.rows()[-1].endswith(self._prompt)

    def is_as_expected(self) -> bool:
        """Tell whether the screen shows what the page does, and nothing more but a prompt."""
        rows = self.rows()
        shown, rest = rows[: len(self.expected)], rows[len(self.expected) :]
        return shown == self.expected and rest in ([self._prompt], ["You:"], [""])

    def rows(self) -> list[str]:
        """Return what the screen shows, without what differs from one run to the next."""
        rows = self.terminal.update().rows
        for port, free in self._ports.items():
            rows = [re.sub(rf"\b{free}\b", port, row) for row in rows]
        rows = [self._plain(row) for row in rows if not DOTS.fullmatch(row)]
        parts = itertools.groupby(rows, key=lambda row: bool(ANSWER.match(row)))
        return [row for is_answer, part in parts for row in (sorted(part) if is_answer else part)]

    def _plain(self, line: str) -> str:
        for pattern, word in VARIES:
            line = pattern.sub(word, line)
        return re.sub(r"^\[(TCP|UDP)\] ", "[EITHER] ", line) if self._speaks_both else line


class Scene:
    """What happens under one heading of a page."""

    def __init__(
        self, page: str, title: str, blocks: list[list[str]], ports: list[int], within: dict[str, list[str]]
    ) -> None:
        self._where = f"{page}: {title}"
        self._blocks = blocks
        self._ports = dict(zip(PORTS, map(str, ports)))
        self._within = within  # the command that leads onto a machine, by address
        self._folder = tempfile.TemporaryDirectory()
        self.windows: list[Window] = []
        for script in SCRIPTS:  # as links, since copies would be compiled anew
            Path(self._folder.name, script).symlink_to(ROOT / script)
        for name, text in files_of(page).items():
            Path(self._folder.name, name).write_text(PORT.sub(lambda port: self._ports[port[0]], text))
        python = Path(self._folder.name, "bin", "python3")
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)

    def step(self) -> bool:
        """Let each window go on; tell whether everything has happened in all of them."""
        done = [window.step() for window in self.windows]
        if len(self.windows) < len(self._blocks):
            if not self.windows or self.windows[-1].has_begun():
                lines = self._blocks[len(self.windows)]
                within = self._within.get(machine_of(lines), [])
                self.windows.append(Window(lines, self._folder.name, self._ports, within))
            return False
        return all(done)

    def report(self) -> str:
        """Return what is on the screens and not on the page, and the other way round."""
        return "\n".join(
            f"--- {self._where}\n+++ screen\n" + "\n".join(difflib.ndiff(window.expected, window.rows()))
            for window in self.windows
            if not window.step()
        )

    def close(self) -> None:
        """End what runs in the windows, and close them."""
        for window in self.windows:
            window.terminal.type("\x03")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(window.has_ended() for window in self.windows), "only prompts", patience=5)
        for window in self.windows:
            window.terminal.close()
        self._folder.cleanup()


@unittest.skipUnless("Terminal" in globals() and shutil.which("bash"), "this system lacks terminals or bash")
class Transcripts(TestCase):
    """What the pages show, done again."""

    def test_transcripts(self) -> None:
        """Every command of a transcript, typed in a terminal, shows what the page shows."""
        self.play([scene for scene in transcripts() if not any(map(machine_of, scene[2]))], at_least=10)

    def test_transcripts_on_several_machines(self) -> None:
        """The same, where each window is on a machine of its own."""
        self.play([scene for scene in transcripts() if any(map(machine_of, scene[2]))], at_least=2)

    def play(self, scenes: list[tuple[str, str, list[list[str]]]], at_least: int) -> None:
        """Do again, all at once, what the pages show; that for which a program is missing is left out."""
        scenes = [scene for scene in scenes if not missing_tools(scene[2])]
        self.assertGreaterEqual(len(scenes), at_least)
        ports = free_ports(len(PORTS) * len(scenes))
        going = []
        for page, title, blocks in scenes:
            addresses = sorted(set(map(machine_of, blocks)) - {""})
            within = dict(zip(addresses, machines(self, *addresses))) if addresses else {}
            scene = Scene(page, title, blocks, [ports.pop() for _ in PORTS], within)
            self.addCleanup(scene.close)
            going.append(scene)
        deadline = time.monotonic() + 2 * PATIENCE
        while going and time.monotonic() < deadline:
            going = [scene for scene in going if not scene.step()]
            time.sleep(0.01)
        self.assertFalse(going, "\n".join(scene.report() for scene in going))


class Limits(unittest.TestCase):
    """Nothing is longer than somebody wants to read, and nothing is said twice."""

    def test_no_page_is_too_long(self) -> None:
        for name, text in PAGES.items():
            with self.subTest(name):
                most = MOST_LINES_OF_THE_README if name == README else MOST_LINES
                self.assertLessEqual(len(text.splitlines()), most)

    def test_the_two_commands_that_matter_come_first(self) -> None:
        lines = PAGES[README].splitlines()
        self.assertIn("python3 -m unittest discover tests", lines[:40])
        before = next(place for place, line in enumerate(lines) if line.startswith("$ python3 tcp_client.py "))
        self.assertLessEqual(before, 20, "lines before both windows of the first conversation have run")
        self.assertTrue(any(line.startswith("$ python3 tcp_server.py ") for line in lines[:before]))

    def test_no_sentence_stands_twice(self) -> None:
        where: dict[str, str] = {}
        for name, prose in PROSE.items():
            text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", prose)
            text = re.sub(r"\n(?=\n|[#|]|- |\d+\. )", "|", text).replace("\n", " ")
            for sentence in re.split(r"\||(?<=[.:;?!]) ", text):
                words = " ".join(re.findall(r"[\w-]+", sentence.lower()))
                if words.count(" ") >= 7:
                    with self.subTest(sentence, pages=(where.get(words), name)):
                        self.assertFalse(words in where)
                    where[words] = name

    def test_blocks_of_the_readme_fit_into_a_window(self) -> None:
        """They are no wider than a terminal is; in one as wide, what they show is shown as it stands there."""
        for kind, content in BLOCK.findall(PAGES[README]):
            for line in content.splitlines():
                with self.subTest(line):
                    self.assertLessEqual(len(line), 80 if kind == "text" else 79)

    def test_help_fits_on_a_screen(self) -> None:
        for script in SCRIPTS:
            lines = helps(script).splitlines()
            with self.subTest(script):
                self.assertLessEqual(len(lines), 48)
                self.assertLessEqual(max(map(len, lines)), 80)


class Links(unittest.TestCase):
    """Each link leads somewhere."""

    def test_links(self) -> None:
        for name, prose in PROSE.items():
            for link in re.findall(r"\]\(([^)]+)\)", prose):
                if link.startswith("https://"):
                    continue
                file, _, anchor = link.partition("#")
                target = (ROOT / name).parent / file if file else ROOT / name
                with self.subTest(f"{name}: {link}"):
                    self.assertTrue(target.exists())
                    if anchor:
                        page = target.resolve().relative_to(ROOT).as_posix()
                        titles = [title for title, _ in sections(page)]
                        self.assertIn(anchor, [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles])

    def test_the_contents_are_complete(self) -> None:
        for name, prose in PROSE.items():
            contents = re.search(r"^Contents: (.+?)\n\n", prose, re.MULTILINE | re.DOTALL)
            if contents:
                with self.subTest(name):
                    named = re.findall(r"\[(.+?)\]", contents[1].replace("\n", " "))
                    self.assertEqual(named, re.findall(r"^## (.+)$", prose, re.MULTILINE))

    def test_the_readme_names_every_page(self) -> None:
        named = {f for row in rows(section(README, "The pages")) for f in re.findall(r"\]\((.+?)\)", row[0])}
        self.assertEqual(named, PAGES.keys() - {README})


def helps(script: str) -> str:
    """Return what a script prints for --help."""
    command = [sys.executable, str(ROOT / script), "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout


def options_of(script: str) -> set[str]:
    """Return the options that a script has."""
    options = re.findall(r"^  (?:(-\w)\b.*?, )?(--[a-z-]+)", helps(script), re.MULTILINE)
    return {option for both in options for option in both if option}


class Names(unittest.TestCase):
    """What the pages name is there."""

    def test_options(self) -> None:
        """The reference names the options of each script's --help, and no others."""
        parts = re.split(r"^\*\*(.+)\*\*$", section(REFERENCE, "Options"), flags=re.MULTILINE)[1:]
        for script in SCRIPTS:
            cells = [row[0] for names, text in zip(parts[::2], parts[1::2]) if script in names for row in rows(text)]
            named = [name for cell in cells for name in re.findall(r"`(--?[a-z-]+)", cell)]
            with self.subTest(script):
                self.assertEqual(sorted(named), sorted(options_of(script)))

    def test_options_elsewhere(self) -> None:
        """Whatever is shown as an option of a script is one."""
        options = {script: options_of(script) for script in SCRIPTS}
        either = set().union(*options.values())
        for name, text in PAGES.items():
            spans = [span for title, part in sections(name) for span in SPAN.findall(BLOCK.sub("", part))]
            for span in spans:
                if span.startswith("--"):
                    self.assertIn(re.findall(r"--[\w-]+", span)[0], either, name)
            lines = [line for kind, content in BLOCK.findall(text) if kind != "text" for line in content.splitlines()]
            for command in spans + lines:
                for script, arguments in re.findall(r"(?:^|[\s/])((?:tcp|udp)_\w+\.py) ([^|&;]*)", command):
                    used = re.findall(r"(?<=\s)--?[a-z][\w-]*", f" {arguments.partition(' #')[0]}")
                    quoted = re.findall(r"(?<=\s)--?[a-z][\w-]*", " ".join(re.findall(r"'[^']*'", arguments)))
                    self.assertLessEqual(set(used) - set(quoted), options[script], f"{name}: {command}")

    def test_files(self) -> None:
        for name, prose in PROSE.items():
            for file in {file for span in SPAN.findall(prose) for file in re.findall(r"[\w/.]*\w\.py\b", span)}:
                if file not in files_of(name) and not file.startswith("/"):
                    with self.subTest(f"{name}: {file}"):
                        self.assertTrue(file in GONE or (ROOT / file).exists() or (ROOT / "tests" / file).exists())

    def test_functions(self) -> None:
        """Each function and class that a page names exists, in the file that it names."""
        everywhere = "".join(SOURCES.values())
        for name, prose in PROSE.items():
            flowing = prose.replace("\n", " ")
            for part, file in re.findall(r"`([A-Za-z_][\w.]*)(?:\(\))?` in `(\w+\.py)`", flowing):
                with self.subTest(f"{name}: {part}"):
                    source_of(file, part)
            for part in re.findall(r"`(?:\w+\.)*(\w+)\(\)`", flowing):
                with self.subTest(f"{name}: {part}"):
                    self.assertTrue(re.search(rf"\bdef {part}\(", everywhere))

    def test_socket_calls(self) -> None:
        """Each function in the table of socket calls makes the calls that the table says, by name or by alias."""
        aliases = {"recv": "receive", "send": "_transmit", "recvfrom": "receive"}
        table = rows(section("docs/how-it-works.md", "The socket calls, in order"))
        self.assertGreater(len(table), 20)
        for _, calls, _, place in table:
            match = re.fullmatch(r"`(\w+\.py)`: `([\w.]+)\(\)`", place)
            assert match, place
            file, name = match.groups()
            for call in SPAN.findall(calls):
                with self.subTest(f"{file}: {name}(): {call}"):
                    source = source_of(file, name)
                    self.assertTrue(re.search(rf"\.{call}\(|\b{aliases.get(call, call)}\(", source))
                    self.assertTrue(re.search(rf"\.{call}\b", SOURCES[file]))

    def test_archive_columns(self) -> None:
        schema = re.search(r"messages\((.+)\)", source_text("archive.py", "SCHEMA"))
        assert schema
        named = [SPAN.findall(row[0])[0] for row in rows(section(REFERENCE, "The archive"))]
        self.assertEqual(named, [column.split()[0] for column in schema[1].split(",")])

    def test_sayings(self) -> None:
        """What is quoted of errors and of the record stands in the code, but for what varies."""
        literals = list(strings())
        for page, title in SAYINGS:
            for row in rows(section(page, title)):
                for saying in SPAN.findall(row[0]):
                    for fragment in fragments(saying):
                        with self.subTest(f"{page}: {saying}"):
                            self.assertTrue(fragment in OF_OTHERS or any(fragment in text for text in literals))

    def test_version(self) -> None:
        """The newest of the changes are those of this version."""
        newest = re.search(r"^## (.+)$", PAGES["docs/changes.md"], re.MULTILINE)
        assert newest
        self.assertEqual(f'"{newest[1]}"', source_text("common.py", "VERSION"))


GONE = {"common_server.py", "common_client.py"}
"""Files that the changes name, since they were there once."""


def source_text(file: str, constant: str) -> str:
    """Return what is assigned to a constant."""
    found = re.search(rf"^{constant} = (.+)$", SOURCES[file], re.MULTILINE)
    assert found, f"{file} has no {constant}"
    return found[1]


def strings() -> Iterator[str]:
    """Yield every literal text in the code, and each part of it that stands between what varies."""
    for text in SOURCES.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                value = node.value
                yield value.decode() if isinstance(value, bytes) and value.isascii() else str(value)


def fragments(saying: str) -> list[str]:
    """Return the parts of what a script says that do not vary."""
    parts = re.split(r"…|\b\d+(?:\.\d+)*(?::\d+)?(?: s\b)?|\bN\b|\bADDRESS\b|, |; ", saying)
    return [part.strip(" :()") for part in parts if len(part.strip(" :()")) > 2]


class House(unittest.TestCase):
    """Both pictures of the house show the house."""

    def test_table_of_files(self) -> None:
        """Each file has a row in CONTRIBUTING, which repeats its docstring's first sentence."""
        table = [row for row in rows(section(CONTRIBUTING, "The house"), 3) if row[0].endswith(".py`")]
        expected = []
        for file, text in SOURCES.items():
            who, _, what = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0].partition(": ")
            expected.append([f"`{file}`", who, what.rstrip(".")])
        shown = "\n".join(f"| {' | '.join(row)} |" for row in expected)
        self.assertEqual(sorted(table), sorted(expected), f"it should have\n{shown}")

    def test_picture(self) -> None:
        """The README's picture has each file once, on its side."""
        (picture,) = [text for kind, text in BLOCK.findall(section(README, "The house")) if kind == "text"]
        names = {file[:-3]: ast.get_docstring(ast.parse(text)) or "" for file, text in SOURCES.items()}
        places: dict[str, str] = {}
        for line in picture.splitlines():
            sides = line.split("│")
            for side, part in zip(("Servers", "", "Clients") if len(sides) == 3 else ("",), sides):
                for name in re.findall(r"\w+", part):
                    if name in names:
                        self.assertNotIn(name, places)
                        places[name] = side
        self.assertEqual(places.keys(), names.keys())
        for name, side in places.items():
            says = names[name].partition(": ")[0]
            with self.subTest(name):
                self.assertEqual(side, says if says in ("Servers", "Clients") else "")


@unittest.skipUnless(sys.platform == "linux", "what operations are about runs on Linux only")
class Configurations(TestCase):
    """What the pages say of other programs' configuration is taken by these programs."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder of this test."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def check(self, *command: object) -> str:
        """Run a command, check that it ends with 0, and return what it said."""
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, said)
        return said

    def test_every_block_is_of_a_kind_that_is_tried(self) -> None:
        kinds = {kind for text in PAGES.values() for kind, _ in BLOCK.findall(text)}
        tried = {"console", "python", "sh", "nginx", "haproxy", "ini", "logrotate", "redis", "cron"}
        self.assertLessEqual(kinds, tried | {"mermaid", "text"})
        self.assertEqual(sum(text.count("```") for text in PAGES.values()) // 2, sum(map(len, all_blocks())))

    @needs("nginx")
    def test_nginx(self) -> None:
        text = block("nginx", "# /etc/nginx/nginx.conf").replace("/run/", f"{self.folder}/")
        module = re.search(r"load_module (\S+);", text)
        if module and not Path(module[1]).exists():
            self.skipTest(f"nginx has no {module[1]}")
        self.check("nginx", "-t", "-p", f"{self.folder}/", "-e", "stderr", "-c", self.write("nginx.conf", text))

    @needs("haproxy")
    def test_haproxy(self) -> None:
        self.check("haproxy", "-c", "-f", self.write("haproxy.cfg", block("haproxy", "# /etc/haproxy/haproxy.cfg")))

    @needs("systemd-analyze")
    def test_units(self) -> None:
        def complaints(unit: str, drop_in: str) -> list[str]:
            here = [text.replace("/opt/messages/", f"{ROOT}/") for text in (unit, drop_in)]
            path = self.write("messages.service", here[0].replace("/usr/bin/python3", sys.executable))
            self.write("messages.service.d/tls.conf", here[1].replace("/usr/bin/python3", sys.executable))
            done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
            return [line for line in done.stderr.splitlines() if "messages.service" in line]

        unit = block("ini", "# /etc/systemd/system/messages.service")
        drop_in = block("ini", "# /etc/systemd/system/messages.service.d/tls.conf")
        self.assertEqual(complaints(unit, drop_in), [])
        self.assertTrue(complaints(unit, drop_in.replace("LoadCredential", "LoadCredentials")))
        instead, _ = SPAN.findall(rows(section("docs/operations.md", "Certificates renewed"))[-1][0])[:2]
        in_a_group = re.sub(r"^(LoadCredential=.*\n)+", f"{instead}\n", drop_in, flags=re.MULTILINE)
        self.assertIn("\nSupplementaryGroups=ssl-cert\nExecStart=\n", in_a_group)
        self.assertEqual(complaints(unit, in_a_group.replace("${CREDENTIALS_DIRECTORY}", "/etc/ssl/messages")), [])
        for_udp = unit.replace("=messages\n", "=messages-udp\n").replace("%S/messages/", "%S/messages-udp/")
        self.assertEqual(complaints(for_udp.replace("tcp_server.py 9000", "udp_server.py 9001"), "[Service]\n"), [])
        commands = re.findall(r"^ExecStart=(.+)$", (unit + drop_in).replace("\\\n", ""), re.MULTILINE)
        self.assertEqual(len(commands), 2)
        self.assertTrue(commands[1].partition("--tls-cert")[0].startswith(commands[0].partition("--host")[0]))

    @needs("openssl")
    def test_what_the_unit_with_tls_starts(self) -> None:
        """It serves with the certificate of the page about security, and tells a command how long that is good for."""
        page = PAGES["docs/security.md"]
        make = re.search(r"^\$ (openssl req .+)$", page, re.MULTILINE)
        assert make
        subprocess.run(shlex.split(make[1]), cwd=self.folder, capture_output=True, check=True)
        drop_in = block("ini", "# /etc/systemd/system/messages.service.d/tls.conf")
        loaded = re.findall(r"^LoadCredential=(.+?):", drop_in, re.MULTILINE)
        self.assertEqual(loaded, re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\S+)", drop_in))
        _, command = re.findall(r"^ExecStart=(.*)$", drop_in.replace("\\\n", ""), re.MULTILINE)
        (self.folder / "messages").mkdir()
        command = command.replace("/opt/messages/", f"{ROOT}/").replace("%S", str(self.folder))
        _, script, _, *options = command.replace("${CREDENTIALS_DIRECTORY}", str(self.folder)).split()
        server = self.start(sys.executable, script, 0, *options, stdin=subprocess.DEVNULL)
        port = server.wait_for(r"^\[TCP Server\] Listening on 0\.0\.0\.0:(\d+)\.")[1]
        client = ("tcp_client.py", "localhost", port, "--tls", "--tls-ca", self.folder / "cert.pem", "-m", "kept")
        done = self.run_client(*client)
        self.assertEqual((done.wait(), done.output), (0, "Message received: kept\n"))
        with contextlib.closing(sqlite3.connect(self.folder / "messages" / "messages.db")) as archive:
            self.assertEqual(archive.execute("SELECT text FROM messages").fetchall(), [("kept",)])
        asked = [text for text in blocks_of("docs/operations.md", "sh") if text.startswith("openssl s_client")]
        told = self.check("sh", "-c", PORT.sub(port, asked[0]))
        self.assertRegex(told, r"\AnotAfter=.* GMT\n\Z")

    def on_time(self, port: int | str) -> list[str]:
        """Run each line of the file for cron, in the folder of this test; return what cron would mail of each."""
        here = {"python3 ": f"{sys.executable} ", "/opt/messages/": f"{ROOT}/", "9000": str(port), r"\%": "%"}
        here.update(dict.fromkeys(("/var/lib/messages", "/var/backups", "/etc/ssl/messages"), str(self.folder)))
        mails = []
        for line in block("cron", "# /etc/cron.d/messages").splitlines()[1:]:
            found = re.fullmatch(r"(?:[\d*/]+ ){5}root (.+)", line)
            assert found, line
            self.assertNotRegex(line, r"(?<!\\)%", "cron takes it for the end of the line")
            command = re.sub("|".join(map(re.escape, here)), lambda word: here[word[0]], found[1])
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
            mails.append(done.stdout + done.stderr)
        return mails

    @needs("openssl")
    @needs("sqlite3")
    def test_what_cron_runs_and_how_to_restore(self) -> None:
        """Cron mails only what is wrong, and the copy that it has made of an archive can be put back."""
        file = self.folder / "messages.db"
        found = re.search(r"^\$ (openssl req .+)$", PAGES["docs/security.md"], re.MULTILINE)
        assert found
        make = shlex.split(found[1])
        subprocess.run(make, cwd=self.folder, capture_output=True, check=True)
        server = self.server("tcp_server.py", "--save", file)
        *mails, disk = self.on_time(server.port)
        self.assertEqual(mails, ["", "", ""])
        self.assertRegex(disk, r"\A(The disk is full to \d+%\n)?\Z")
        (copy,) = self.folder.glob("messages-*.db")
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        copy.rename(self.folder / "copy.db")
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", server.port, "-m", "too late").wait(), 0)
        server.signal(15)
        self.assertEqual(server.wait(), 0)
        make[make.index("365")] = "13"
        subprocess.run(make, cwd=self.folder, capture_output=True, check=True)
        unanswered, _, expires, _ = self.on_time(server.port)
        self.assertRegex(unanswered, r"\Atcp_client\.py: error: .*connection refused.*\n\Z")
        self.assertEqual(expires, "Renew the certificate.\n")
        (restore,) = [text for text in blocks_of("docs/operations.md", "sh") if text.startswith("systemctl stop")]
        restore = re.sub(r"/var/backups/[\w-]+\.db", "copy.db", restore).replace("/var/lib/messages", ".")
        (self.folder / "messages.db-wal").write_text("of the broken file")
        subprocess.run(["sh", "-ec", f"systemctl() {{ :; }}\n{restore}"], cwd=self.folder, check=True)
        self.assertFalse((self.folder / "messages.db-wal").exists())
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        server = self.server("tcp_server.py", "--save", file)
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", server.port, "-m", "again").wait(), 0)
        with contextlib.closing(sqlite3.connect(file)) as archive:
            texts = [text for (text,) in archive.execute("SELECT text FROM messages")]
        self.assertEqual(texts, ["health check", "again"])

    @needs("logrotate")
    def test_a_record_in_a_file_is_rotated(self) -> None:
        log = self.folder / "messages-server.log"
        with log.open("ab") as output:
            server = self.start(sys.executable, "tcp_server.py", 0, stdout=output)
        wait_until(lambda: "Listening" in log.read_text(), "a first line")
        port = int(re.findall(r":(\d+)\.", log.read_text())[0])
        first_line = "# /etc/logrotate.d/messages-server"
        text = block("logrotate", first_line).replace("/var/log/", f"{self.folder}/")
        configuration = self.write("messages-server", text)
        configuration.chmod(0o644)
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", port, "-m", "before").wait(), 0)
        wait_until(lambda: "Disconnected" in log.read_text(), "the end of that")
        self.check("logrotate", "-f", "-s", self.folder / "state", configuration)
        self.assertEqual(self.run_client("tcp_client.py", "127.0.0.1", port, "-m", "after").wait(), 0)
        wait_until(lambda: "Disconnected" in log.read_text(), "the end of that")
        self.assertRegex(log.read_text(), r"\A\[TCP Server\] Connected by .*\n.*: after\n.*\n\Z")
        self.assertTrue((self.folder / "messages-server.log.1.gz").exists())
        server.signal(15)
        self.assertEqual(server.wait(), 0)

    def test_shell_commands(self) -> None:
        for name in PAGES:
            for text in blocks_of(name, "sh"):
                with self.subTest(name):
                    self.check("sh", "-n", self.write("commands", text))


def all_blocks() -> Iterator[list[str]]:
    """Yield the blocks of each page."""
    for text in PAGES.values():
        yield [content for _, content in BLOCK.findall(text)]


if __name__ == "__main__":
    unittest.main()
