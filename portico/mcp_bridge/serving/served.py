"""Served: what every handler of the MCP server needs: the one door, the settings, and the tools as they are now.

Above: `server.py`, which makes it, and the handlers, one file per kind of thing that MCP serves. Below: the dispatcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.mcp_bridge.serving.news import News
from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.served_tool import served_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.operations.catalogue import Catalogue
    from portico.runs.dispatcher import Dispatcher


class Served:
    """What one MCP server serves.

    Args:
        dispatcher: the one door.
        options: the settings.
    """

    def __init__(self, dispatcher: Dispatcher, options: ServingOptions | None = None) -> None:
        self.dispatcher = dispatcher
        self.options = options or ServingOptions()
        self.news = News(dispatcher.runtime.router)
        self._made_from: Catalogue | None = None
        self._tools: dict[str, ServedTool] = {}

    @property
    def tools(self) -> Mapping[str, ServedTool]:
        """Every tool, by name and in the order of names; made anew when the catalogue is another."""
        catalogue = self.dispatcher.catalogue
        if catalogue is not self._made_from:
            self._tools = {name: served_tool(endpoint) for name, endpoint in sorted(catalogue.tools.items())}
            self._made_from = catalogue
        return self._tools
