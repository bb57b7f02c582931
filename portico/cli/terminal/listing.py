"""Listing: a view on the screen, as a table with a cursor. Only the rows that are seen are made, so 10,000 cost no more than 20.

Above: the application. Below: Textual's line API. Texts are drawn as they are: nothing in them is markup, or obeyed by a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from portico.cli.terminal.table import Tone, widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

    from portico.cli.terminal.picture import Picture
    from portico.cli.terminal.table import Cell, Column
    from portico.cli.terminal.views import View

STYLES: Final = {
    Tone.PLAIN: Style.null(),
    Tone.DIM: Style(dim=True),
    Tone.GOOD: Style(color="green"),
    Tone.NOTE: Style(color="magenta"),
    Tone.BAD: Style(color="red"),
    Tone.HEAD: Style(bold=True),
}
"""The terminal's own colours, those that are read on a dark ground and on a light one alike."""
HEADING: Final = Style(bold=True, underline=True)
CURSOR: Final = Style(reverse=True)


class Listing(ScrollView, can_focus=True):
    """Shows one view of a picture."""

    DEFAULT_CSS = """
    Listing { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "edge(0)", show=False),
        Binding("end,G", "edge(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Chosen(Message):
        """A row was chosen, by Enter or by a click on where the cursor stands."""

        def __init__(self, view: View, key: str) -> None:
            super().__init__()
            self.view = view
            self.key = key

    def __init__(self, view: View, picture: Picture) -> None:
        super().__init__(id=view.name)
        self.view = view
        self.picture = picture
        self.keys: list[str] = []
        self.at = 0
        self._widths: list[int] = []

    @property
    def key(self) -> str | None:
        """The row on which the cursor stands; None where there is none."""
        return self.keys[self.at] if 0 <= self.at < len(self.keys) else None

    def show(self, key: str | None = None) -> None:
        """Look at the picture again. The cursor goes to the row of that key, or stays with its own where that is still there."""
        wanted = key if key is not None else self.key
        below = self.at - round(self.scroll_y)
        self.keys = self.view.keys(self.picture)
        if wanted is not None and (self.at >= len(self.keys) or self.keys[self.at] != wanted):
            try:
                self.at = self.keys.index(wanted)
            except ValueError:
                self.at = max(0, min(self.at, len(self.keys) - 1))
            else:
                if key is None:  # others came or went: it stays where it was on the screen
                    self._set_size()
                    self.scroll_to(y=self.at - below, animate=False)
        self.at = max(0, min(self.at, len(self.keys) - 1))
        self._set_size()
        self._keep_in_sight()
        self.refresh()

    # --- drawing ------------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Divide the room anew."""
        self._set_size()
        self._keep_in_sight()

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the heading, a row, or nothing."""
        room = self.size.width
        if y == 0:
            return _strip([(column.title, HEADING, column) for column in self.view.columns], self._widths, room, HEADING)
        at = y - 1 + round(self.scroll_y)
        if at >= len(self.keys):
            empty = "Reading …" if self.picture.link.state == "connecting" else self.view.empty
            blank = empty if not self.keys and y == 2 else ""  # noqa: PLR2004  # below the heading, with a line between
            return Strip([Segment(set_cell_size(f" {blank}", room), STYLES[Tone.DIM])], room)
        try:
            cells: Sequence[Cell] = self.view.cells(self.picture, self.keys[at])
        except (LookupError, ValueError):  # it is gone; the next look knows
            return Strip.blank(room)
        cursor = CURSOR if at == self.at and self.has_focus else Style(bold=True) if at == self.at else Style.null()
        told = [(cell.text, STYLES[cell.tone] + cursor, column) for cell, column in zip(cells, self.view.columns, strict=True)]
        return _strip(told, self._widths, room, cursor)

    def _set_size(self) -> None:
        self._widths = widths(self.view.columns, self.size.width)
        self.virtual_size = Size(self.size.width, len(self.keys) + 1)

    def _keep_in_sight(self) -> None:
        rows, top = max(1, self.size.height - 1), round(self.scroll_y)
        if self.at < top:
            self.scroll_to(y=self.at, animate=False)
        elif self.at >= top + rows:
            self.scroll_to(y=self.at - rows + 1, animate=False)

    # --- the cursor ---------------------------------------------------------------------------------------------------

    def _go(self, at: int) -> None:
        self.at = max(0, min(at, len(self.keys) - 1))
        self._keep_in_sight()
        self.refresh()

    def action_move(self, by: int) -> None:
        """Some rows down; up where it is negative."""
        self._go(self.at + by)

    def action_page(self, by: int) -> None:
        """A screen down, or up."""
        self._go(self.at + by * max(1, self.size.height - 2))

    def action_edge(self, last: int) -> None:
        """To the first row, or to the last."""
        self._go(len(self.keys) if last else 0)

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self.key is not None:
            self.post_message(self.Chosen(self.view, self.key))

    def on_click(self, event: events.Click) -> None:
        """A row is taken by one click, and chosen by the next."""
        at = event.y - 1 + round(self.scroll_y)
        if event.y < 1 or at >= len(self.keys):
            return
        if at == self.at and event.chain > 1:
            self.action_choose()
        else:
            self._go(at)


def _strip(told: Sequence[tuple[str, Style, Column]], room_of: Sequence[int], room: int, ground: Style) -> Strip:
    segments: list[Segment] = []
    used = 0
    for (text, style, column), width in zip(told, room_of, strict=True):
        if width == 0:
            continue
        if segments:
            segments.append(Segment(" ", ground))
            used += 1
        segments.append(Segment(_fitted(text, width, right=column.right), style))
        used += width
    if used < room:
        segments.append(Segment(" " * (room - used), ground))
    return Strip(segments, max(used, room)).crop(0, room)


def _fitted(text: str, width: int, *, right: bool) -> str:
    """The text in so many cells of the terminal; where it is cut, that is seen."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(set_cell_size(text, width - 1) + "…", width)
    return " " * (width - length) + text if right else set_cell_size(text, width)
