"""Snapshot: the picture as plain lines, for pipes and for machines that watch: the views as tables, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.cli.display import columns
from portico.cli.terminal.headline import summary
from portico.cli.terminal.letter_list import LetterList
from portico.cli.terminal.run_views import RunList, WaitingList
from portico.cli.terminal.tree_view import TreeView
from portico.cli.terminal.upstream_list import UpstreamList
from portico.cli.terminal.usage_table import UsageTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.cli.terminal.picture import Picture
    from portico.cli.terminal.views import View


def snapshot(picture: Picture, url: str) -> Iterator[str]:
    """Its lines. A view without rows is left out, but for the tree."""
    yield f"{url}: {', '.join(summary(picture))}"
    views: list[View] = [TreeView(), WaitingList(), RunList(), LetterList(), UpstreamList(), UsageTable()]
    for view in views:
        keys = view.keys(picture)
        if keys:
            yield ""
            yield view.title
            rows = [[cell.text for cell in view.cells(picture, key)] for key in keys]
            yield from (f"  {line}" for line in columns([column.title for column in view.columns], rows))
