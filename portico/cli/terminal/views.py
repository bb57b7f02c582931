"""View: one list of what a picture has: its columns, which rows there are, and the cells of a row, made when somebody looks at it.

Above: the listing on the screen, and the snapshot for a pipe. One file per view beside this one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from portico.cli.display import one_line
from portico.cli.terminal.picture import moment
from portico.cli.terminal.table import Cell, Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.cli.terminal.picture import Picture
    from portico.cli.terminal.table import Column

LONGEST: Final = 300
"""How many characters of a text a row has: no terminal is wider."""

TONES: Final = {
    "running": Tone.GOOD,
    "succeeded": Tone.GOOD,
    "connected": Tone.GOOD,
    "waiting": Tone.NOTE,
    "queued": Tone.DIM,
    "created": Tone.DIM,
    "starting": Tone.NOTE,
    "restarting": Tone.NOTE,
    "suspended": Tone.NOTE,
    "draining": Tone.NOTE,
    "stopping": Tone.NOTE,
    "stopped": Tone.DIM,
    "cancelled": Tone.DIM,
    "failed": Tone.BAD,
    "timed_out": Tone.BAD,
    "crashed": Tone.BAD,
}
"""What a status looks like."""


class View(Protocol):
    """What a screen shows of a picture as rows."""

    name: str
    title: str
    empty: str
    """What stands there when there are no rows."""
    find: str
    """The text that rows must have; empty for all."""

    @property
    def columns(self) -> Sequence[Column]:
        """Its columns."""
        ...

    def keys(self, picture: Picture) -> list[str]:
        """The rows, in order. Quick also for 10,000 of them."""
        ...

    def cells(self, picture: Picture, key: str) -> Sequence[Cell]:
        """One row's cells, one for each column. `KeyError` where the picture has it no more."""
        ...


def text(value: Any, tone: Tone = Tone.PLAIN) -> Cell:
    """A text that somebody else chose, on one line, without what a terminal obeys."""
    return Cell(one_line(str(value)[:LONGEST]), tone)


def number(value: Any, tone: Tone = Tone.PLAIN) -> Cell:
    """A number; nothing where there is none, and dim where it is zero."""
    if value is None:
        return Cell("")
    return text(value, Tone.DIM if value == 0 else tone)


def status(value: Any) -> Cell:
    """A status in its colour."""
    return text(value or "", TONES.get(str(value), Tone.PLAIN))


def clock(value: Any) -> Cell:
    """A time of RFC 3339, or seconds since the epoch: the time of today, the date of any other day; of this machine's zone."""
    try:
        local = datetime.fromtimestamp(moment(value) or 0.0, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return Cell("")
    if moment(value) is None:
        return Cell("")
    today = local.date() == datetime.now(UTC).astimezone().date()
    return Cell(local.strftime("%H:%M:%S" if today else "%Y-%m-%d"), Tone.DIM)


def has(wanted: str, *texts: Any) -> bool:
    """Whether one of the texts has it, whatever its case."""
    return not wanted or any(wanted in str(one).casefold() for one in texts)
