"""RunList: runs, the newest first. WaitingList: those that wait for somebody's answer, with what they ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.cli.display import duration
from portico.cli.terminal.picture import accepted, mapping, moment
from portico.cli.terminal.table import Cell, Column, Tone
from portico.cli.terminal.views import clock, has, status, text

if TYPE_CHECKING:
    from portico.cli.terminal.picture import Picture, Record

STATUSES: Final = ("", "running", "waiting", "queued", "failed", "timed_out", "cancelled", "succeeded")
"""What the list can be narrowed to, in the order in which a key goes through them; first all."""


class RunList:
    """The newest runs."""

    name = "runs"
    title = "Runs"
    empty = "No runs."
    columns = (
        Column("RUN", 20, share=1),
        Column("STATUS", 9),
        Column("AGENT", 14, share=2),
        Column("OPERATION", 10, share=1, rank=2),
        Column("WHOSE", 8, share=1, rank=4),
        Column("ACCEPTED", 10, rank=1),
        Column("TOOK", 10, right=True, rank=3),
    )

    def __init__(self) -> None:
        self.find = ""
        self.status = ""
        self.agent = ""

    def keys(self, picture: Picture) -> list[str]:
        """Those of that agent with that status and text: of others, events may tell meanwhile."""
        wanted = self.find.casefold()
        return [
            run["run_id"]
            for run in picture.newest_runs()
            if (not self.status or run.get("status") == self.status)
            and (not self.agent or run.get("agent") == self.agent)
            and has(wanted, *_texts(run))
        ]

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One run."""
        run = picture.runs[key]
        return (
            text(key),
            status(run.get("status")),
            text(run.get("agent", "")),
            text(run.get("operation", "")),
            text(run.get("principal") or "", Tone.DIM),
            clock(run.get("created_at")),
            _took(run),
        )

    def turn(self) -> str:
        """Take the next status; which that is, empty for all."""
        self.status = STATUSES[(STATUSES.index(self.status) + 1) % len(STATUSES)]
        return self.status


class WaitingList:
    """The runs that wait."""

    name = "waiting"
    title = "Waiting"
    empty = "No run waits for an answer."
    columns = (
        Column("RUN", 20),
        Column("AGENT", 12, share=1),
        Column("SINCE", 10, rank=2),
        Column("UNTIL", 10, rank=1),
        Column("ASKS", 20, share=4),
    )

    def __init__(self) -> None:
        self.find = ""

    def keys(self, picture: Picture) -> list[str]:
        """The oldest first: it waits the longest. Those that only sleep come last."""
        wanted = self.find.casefold()
        runs = [run for run in picture.waiting.values() if has(wanted, *_texts(run), _prompt(run))]
        return [run["run_id"] for run in sorted(runs, key=lambda run: (not asks(run), accepted(run)))]

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One run."""
        run = picture.waiting[key]
        waits = mapping(run.get("waiting_for"))
        return (
            text(key),
            text(run.get("agent", "")),
            clock(run.get("created_at")),
            clock(waits.get("until")),
            text(_prompt(run)) if asks(run) else Cell("sleeps", Tone.DIM),
        )


def asks(run: Record) -> bool:
    """Whether it waits for an answer, and not only for a time."""
    return mapping(run.get("waiting_for")).get("kind") == "input"


def _prompt(run: Record) -> str:
    return str(mapping(run.get("waiting_for")).get("prompt") or "")


def _texts(run: Record) -> tuple[object, ...]:
    return run["run_id"], run.get("agent"), run.get("operation"), run.get("principal") or ""


def _took(run: Record) -> Cell:
    begun, ended = moment(run.get("created_at")), moment(run.get("finished_at"))
    return Cell("") if begun is None or ended is None else Cell(duration(ended - begun), Tone.DIM)
