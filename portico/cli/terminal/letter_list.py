"""LetterList: what failed after its retries, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.cli.terminal.table import Column, Tone
from portico.cli.terminal.views import clock, has, number, text

if TYPE_CHECKING:
    from portico.cli.terminal.picture import Picture
    from portico.cli.terminal.table import Cell


class LetterList:
    """The dead letters."""

    name = "letters"
    title = "Dead letters"
    empty = "No dead letters."
    columns = (
        Column("DEAD LETTER", 20),
        Column("AGENT", 10, share=1),
        Column("OPERATION", 9, share=1, rank=2),
        Column("ACCEPTED", 10, rank=1),
        Column("TRIES", 5, right=True, rank=3),
        Column("REASON", 20, share=4),
    )

    def __init__(self) -> None:
        self.find = ""

    def keys(self, picture: Picture) -> list[str]:
        """Those with that text."""
        wanted = self.find.casefold()
        return [
            one["id"]
            for one in picture.letters
            if has(wanted, one["id"], one.get("agent"), one.get("operation"), one.get("reason"))
        ]

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One dead letter."""
        letter = next((one for one in picture.letters if one["id"] == key), None)
        if letter is None:
            raise KeyError(key)
        return (
            text(key),
            text(letter.get("agent", "")),
            text(letter.get("operation", "")),
            clock(letter.get("created_at")),
            number(letter.get("attempts")),
            text(letter.get("reason", ""), Tone.BAD),
        )
