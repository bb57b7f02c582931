"""TreeView: supervisors and processes, as a tree or in the order of what is worst. Branches can be folded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.cli.terminal.table import Cell, Column, Tone
from portico.cli.terminal.views import has, number, status, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.cli.terminal.picture import Picture, Place

TREE: Final = "tree"
ORDERS: Final[dict[str, Callable[[Place], Any]]] = {
    "restarts": lambda place: (-place.restarts_per_minute, -int(place.node.get("restarts") or 0)),
    "depth": lambda place: -place.depth,
    "in flight": lambda place: -place.in_flight,
    "name": lambda place: place.name,
}
"""The orders besides that of the tree. Only processes stand there."""


class TreeView:
    """The supervision tree."""

    name = "tree"
    title = "Tree"
    empty = "No agent has that name."

    def __init__(self) -> None:
        self.find = ""
        self.folded: set[str] = set()
        self.order = TREE

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is known of a process."""
        return (
            Column("NAME" if self.order == TREE else f"NAME (by {self.order})", 22, share=3),
            Column("KIND", 5, rank=2),
            Column("STATE", 11),
            Column("LIFE", 4, right=True, rank=3),
            Column("RST/MIN", 7, right=True),
            Column("DEPTH", 5, right=True),
            Column("BUSY", 4, right=True, rank=1),
            Column("LAST CRASH", 12, share=4, rank=4),
        )

    def keys(self, picture: Picture) -> list[str]:
        """The tree without what is folded; flat where it is ordered; with the way to each where something is looked for."""
        places, wanted = picture.places, self.find.casefold()
        if self.order != TREE:
            found = [key for key, place in places.items() if place.status and self._has(place, wanted)]
            return sorted(found, key=lambda key: ORDERS[self.order](places[key]))
        if wanted:
            met = {key for key, place in places.items() if self._has(place, wanted)}
            way = {parent for key in met for parent in places[key].parents}
            return [key for key in places if key in met or key in way]
        if not self.folded:
            return list(places)
        return [key for key, place in places.items() if self.folded.isdisjoint(place.parents)]

    def cells(self, picture: Picture, key: str) -> tuple[Cell, ...]:
        """One node."""
        place = picture.places[key]
        node, crash = place.node, place.crash
        restarts = place.restarts_per_minute
        state = text(place.state, Tone.DIM) if place.state == node.get("strategy") else status(place.state)
        return (
            self._name(key, place),
            text(node.get("kind", ""), Tone.DIM),
            state,
            number(node.get("incarnation")),
            number(_restarts(place), Tone.BAD if restarts else Tone.PLAIN),
            number(place.depth if "mailbox" in node else None, Tone.NOTE),
            number(place.in_flight if "in_flight" in node else None, Tone.GOOD),
            text(f"{crash.get('type', '')}: {crash.get('message', '')}".strip(": "), Tone.DIM) if crash else Cell(""),
        )

    def turn(self) -> str:
        """Take the next order; which that is."""
        orders = (TREE, *ORDERS)
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        return self.order

    def fold(self, picture: Picture, key: str, *, folded: bool) -> str:
        """Fold a branch, or unfold it; of a process, its supervisor's. The row to stand on then."""
        place = picture.places.get(key)
        if place is None or self.order != TREE:
            return key
        if folded and (place.size == 0 or key in self.folded) and place.parents:
            return place.parents[-1]
        if place.size:
            (self.folded.add if folded else self.folded.discard)(key)
        return key

    def _name(self, key: str, place: Place) -> Cell:
        if self.order != TREE:
            return text(place.name)
        mark = ("▸ " if key in self.folded else "▾ ") if place.size else "  "
        count = f" ({place.size})" if key in self.folded else ""
        cell = text(place.name, Tone.HEAD if place.is_supervisor else Tone.PLAIN)
        return Cell("  " * min(place.level, 12) + mark + cell.text + count, cell.tone)

    @staticmethod
    def _has(place: Place, wanted: str) -> bool:
        return has(wanted, place.name, place.state, place.node.get("kind", ""))


def _restarts(place: Place) -> Any:
    """Of a supervisor: how much of its window is used."""
    if place.is_supervisor and "restarts_in_window" in place.node and "max_restarts" in place.node:
        return f"{place.node['restarts_in_window']}/{place.node['max_restarts']}"
    return place.node.get("restarts_per_minute")
