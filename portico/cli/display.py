"""Display: how values look to a person at a terminal: on one line, cut where they are long, in columns. JSON is for programs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LONGEST: Final = 200
"""How many characters of a value one line shows."""


def echo(text: str = "") -> None:
    """A line on standard output, also where that is no UTF-8."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def as_json(value: Any, indent: int | None = 2) -> str:
    """JSON for a program; escaped where standard output is no UTF-8."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def one_line(text: str) -> str:
    """The text without what moves the cursor, or what a terminal obeys: agents and their callers choose texts."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def cut(text: str) -> str:
    """On one line, and not longer than a person wants to read; says what is missing."""
    line = one_line(text[: LONGEST + 1])
    if len(text) <= LONGEST:
        return line
    return f"{line[:LONGEST]}… (cut: {len(text)} characters)"


def shown(value: Any) -> str:
    """JSON data on one line, cut."""
    return cut(json.dumps(value, ensure_ascii=False))


def said(value: Any) -> str:
    """The same, and a text as itself, without its quotes."""
    return cut(value) if isinstance(value, str) else shown(value)


# --- times and sizes --------------------------------------------------------------------------------------------------


def seconds(moment: str | None) -> float | None:
    """A time of RFC 3339 as seconds since the epoch."""
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def time_of_day(moment: str) -> str:
    """A time of RFC 3339, to the second, in UTC."""
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(length: float) -> str:
    """Seconds in two units at most: `1.24 s`, `2 min 03 s`, `3 h 04 min`, `2 d 03 h`."""
    length = max(0.0, length)
    if length < 59.995:  # noqa: PLR2004  # what rounds to a minute is one
        return f"{length:.2f} s"
    for large, small, unit, part in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86_400, 3600, "d", "h")):
        whole, rest = divmod(round(length / small), large // small)
        if unit == "d" or whole < (60 if unit == "min" else 24):
            return f"{whole} {unit} {rest:02d} {part}"
    raise AssertionError


def between(begun: str | None, ended: str | None) -> str:
    """How long it took; empty where one of both is not known."""
    first, last = seconds(begun), seconds(ended)
    return "" if first is None or last is None else duration(last - first)


def size(count: float) -> str:
    """Bytes, in the largest unit that leaves a whole part: `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004  # that unit's size
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


# --- columns ----------------------------------------------------------------------------------------------------------


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table: each column as wide as its widest cell."""
    table = [list(head), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def fields(values: Mapping[str, str], width: int = 10) -> Iterator[str]:
    """A line for each name with its value; a name without a value is left out. Further lines of a value are indented."""
    for name, value in values.items():
        first, *more = value.split("\n")
        if value:
            yield f"{name:<{width}} {first}"
        yield from (f"{'':<{width}} {line}" for line in more)
