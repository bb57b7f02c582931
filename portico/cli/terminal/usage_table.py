"""UsageTable: what calls of models cost, by agent and model. What has no price is shown as such, never as nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.cli.terminal.table import Cell, Column, Tone
from portico.cli.terminal.views import has, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.cli.terminal.picture import Picture, Record

TOTAL: Final = "total"


class UsageTable:
    """The rows of `GET /usage`, and their sum."""

    name = "usage"
    title = "Usage"
    empty = "No model has been called, or this gateway does not count it."
    columns = (
        Column("AGENT", 14, share=1),
        Column("MODEL", 14, share=1),
        Column("CALLS", 8, right=True),
        Column("TOKENS IN", 10, right=True),
        Column("TOKENS OUT", 10, right=True),
        Column("COST USD", 10, right=True),
        Column("WITHOUT A PRICE", 15, right=True, rank=1),
    )

    def __init__(self) -> None:
        self.find = ""

    def keys(self, picture: Picture) -> list[str]:
        """The rows with that text, and the total."""
        wanted = self.find.casefold()
        rows = [str(at) for at, row in enumerate(_rows(picture)) if has(wanted, row.get("agent"), row.get("model"))]
        return [*rows, TOTAL] if rows else []

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One row."""
        if picture.usage is None:
            raise KeyError(key)
        if key == TOTAL:
            row: Record = {"agent": "all", "model": "", **(picture.usage.get("total") or {})}
        else:
            row = dict(enumerate(_rows(picture)))[int(key)]
        unpriced = int(row.get("unpriced_calls") or 0)
        return (
            text(row.get("agent") or "", Tone.HEAD if key == TOTAL else Tone.PLAIN),
            text(row.get("model") or ""),
            number(row.get("calls")),
            number(row.get("tokens_in")),
            number(row.get("tokens_out")),
            _money(row.get("cost_usd"), partial=bool(unpriced or row.get("unknown_calls"))),
            number(unpriced, Tone.NOTE),
        )


def _rows(picture: Picture) -> Iterator[Record]:
    usage: dict[str, Any] = picture.usage or {}
    return iter(usage.get("rows") or ())


def _money(value: Any, *, partial: bool) -> Cell:
    try:
        amount = f"{float(value):.4f}"
    except (TypeError, ValueError):
        return Cell("unknown", Tone.NOTE) if partial else Cell("")
    return Cell(f"≥ {amount}", Tone.NOTE) if partial else Cell(amount)
