"""UpstreamList: the external MCP servers of the gateway, whether they are connected, and what is wrong where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.cli.terminal.table import Cell, Column, Tone
from portico.cli.terminal.views import has, number, status, text

if TYPE_CHECKING:
    from portico.cli.terminal.picture import Picture

CONNECTION: Final = "connection"
"""What only a process that keeps the connection to one tells."""


class UpstreamList:
    """The upstreams."""

    name = "upstreams"
    title = "Upstreams"
    empty = "This gateway calls no external MCP servers."
    columns = (
        Column("SERVER", 20, share=2),
        Column("STATE", 10),
        Column("READY", 5),
        Column("REQUIRED", 8, rank=3),
        Column("TOOLS", 5, right=True, rank=1),
        Column("LOST", 5, right=True, rank=2),
        Column("ABOUT", 14, share=3),
    )

    def __init__(self) -> None:
        self.find = ""

    def keys(self, picture: Picture) -> list[str]:
        """In the order of the tree."""
        wanted = self.find.casefold()
        return [key for key, place in picture.places.items() if CONNECTION in place.node and has(wanted, place.name)]

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One upstream."""
        place = picture.places[key]
        node = place.node
        ready = node.get("ready")
        about = node.get("error") or node.get("reason") or (place.crash or {}).get("message") or ""
        return (
            text(place.name),
            status(node[CONNECTION]),
            Cell("") if ready is None else Cell("yes", Tone.GOOD) if ready else Cell("no", Tone.BAD),
            Cell("yes" if node.get("required") else "no", Tone.DIM),
            number(_count(node.get("tools"))),
            number(node.get("reconnects"), Tone.NOTE),
            text(about, Tone.BAD),
        )


def _count(tools: Any) -> int | None:
    return len(tools) if isinstance(tools, list | dict) else tools if isinstance(tools, int) else None  # pyright: ignore[reportUnknownArgumentType]
