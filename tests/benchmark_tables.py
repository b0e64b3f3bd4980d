"""The benchmark's tables: look at each thing in turn, round by round, and print medians as Markdown."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Callable, TypeVar

from benchmark_load import Silence

Thing = TypeVar("Thing")
Seen = TypeVar("Seen")


def counted(count: int, thing: str) -> str:
    """Return so many of a thing in words."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def tell(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def in_turn(label: str, things: dict[str, Thing], rounds: int, look: Callable[[Thing], Seen]) -> dict[str, list[Seen]]:
    """Look at each thing in turn, round by round; return what was seen, by name, without those for which it failed."""
    seen: dict[str, list[Seen]] = {name: [] for name in things}
    for number in range(1, rounds + 1):
        for name, thing in things.items():
            if name not in seen:
                continue
            try:
                seen[name].append(look(thing))
                tell(f"{label}, round {number}: {name}: {seen[name][-1]}")
            except (Silence, OSError) as failure:
                tell(f"{label}, round {number}: {name} is left out: {failure}")
                del seen[name]
    return seen


def median(values: Sequence[float | None], form: str, factor: float = 1.0) -> str:
    """Return a median as text; a dash where something was not measured."""
    known = [value for value in values if value is not None]
    return format(statistics.median(known) * factor, form) if known and len(known) == len(values) else "-"


def quotients(above: Iterable[float | None], below: Iterable[float | None]) -> list[float | None]:
    """Return the ratios pair by pair."""
    return [a / b if a is not None and b else None for a, b in zip(above, below)]


def print_table(title: str, note: str, columns: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table as it grows: two columns of words, then figures."""
    print(f"\n### {title}\n")
    if note:
        print(f"{note}\n")
    print(f"| {' | '.join(columns)} |")
    print(f"| --- | --- |{' ---: |' * (len(columns) - 2)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
