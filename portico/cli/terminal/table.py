"""Table: columns, and how wide each is where they all have to fit. Cells are texts with a tone: its colour, a screen decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tone(StrEnum):
    """What a cell says besides its text."""

    PLAIN = "plain"
    DIM = "dim"
    GOOD = "good"
    NOTE = "note"
    """Neither good nor bad, and worth a look: it waits, it is suspended."""
    BAD = "bad"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Cell:
    """One text of a row."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    width: int
    """The least, in cells of the terminal."""
    share: int = 0
    """Its part in what is left over; 0 for none."""
    right: bool = False
    """Numbers stand at the right."""
    rank: int = 0
    """Where there is no room, those of the highest rank go first; 0 never goes."""


def widths(columns: Sequence[Column], room: int) -> list[int]:
    """How wide each column is, with one blank between two; 0 for one that has no room."""
    there = list(range(len(columns)))
    while there and _least(columns, there) > room:
        highest = max(columns[at].rank for at in there)
        if highest == 0:
            break
        there.remove(max(at for at in there if columns[at].rank == highest))
    found = [columns[at].width if at in there else 0 for at in range(len(columns))]
    spare = max(0, room - _least(columns, there))
    shares = sum(columns[at].share for at in there)
    for at in there:
        found[at] += spare * columns[at].share // shares if shares else 0
    return found


def _least(columns: Sequence[Column], there: Sequence[int]) -> int:
    return sum(columns[at].width for at in there) + max(0, len(there) - 1)
