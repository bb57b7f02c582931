"""Served: what every handler of the MCP server needs: the one door, the settings, the tools as they are now, and the news.

Above: `server.py`, which makes it, and the handlers, one file per kind of thing that MCP serves. Below: the dispatcher.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from portico.errors import InvalidOperation
from portico.mcp_bridge.serving.fetch_result import FetchResult
from portico.mcp_bridge.serving.news import News
from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.rounds import Rounds
from portico.mcp_bridge.serving.served_tool import served_tool
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.mcp_bridge.serving.serving_meter import ServingMeter
    from portico.operations.catalogue import Catalogue
    from portico.runs.dispatcher import Dispatcher

logger = logging.getLogger("portico.mcp")


class Served:
    """What one MCP server serves.

    Args:
        dispatcher: the one door.
        options: the settings.

    Raises:
        ConfigurationError: a name in `mcp_rename` that there is not, cannot be, or would be there twice.
        InvalidOperation: a type that cannot become a contract.
    """

    def __init__(self, dispatcher: Dispatcher, options: ServingOptions | None = None) -> None:
        self.dispatcher = dispatcher
        self.meter: ServingMeter | None = None
        """Who counts what is answered; None for nobody."""
        self.options = options or ServingOptions()
        self.news = News(dispatcher.runtime.router)
        self.rounds = Rounds(dispatcher.book, self.options.input_timeout)
        self.fetch_result = FetchResult(self)
        self._made_from: Catalogue = dispatcher.catalogue
        self.options.choice.check(self._made_from.tools)
        chosen = self.options.choice.chosen(self._made_from.tools)
        self._tools = {name: served_tool(name, endpoint) for name, endpoint in chosen.items()}

    @property
    def tools(self) -> Mapping[str, ServedTool]:
        """Every tool, by name and in the order of names; made anew when the catalogue is another."""
        catalogue = self.dispatcher.catalogue
        if catalogue is not self._made_from:
            self._tools = self._remade(catalogue)
            self._made_from = catalogue
        return self._tools

    def tools_for(self, scopes: frozenset[str] | None) -> Mapping[str, ServedTool]:
        """The same for one caller: without those for which it lacks a scope. None: no callers are known, and everybody may."""
        tools = self.tools
        return tools if scopes is None else {name: tool for name, tool in tools.items() if permits(scopes, tool.endpoint.scopes)}

    def _remade(self, catalogue: Catalogue) -> dict[str, ServedTool]:
        """Those of before where their endpoints are. An agent that came and whose types make no contract has no tool."""
        tools: dict[str, ServedTool] = {}
        for name, endpoint in self.options.choice.chosen(catalogue.tools).items():
            former = self._tools.get(name)
            try:
                tools[name] = former if former is not None and former.endpoint == endpoint else served_tool(name, endpoint)
            except InvalidOperation as error:
                logger.error("%r is not served as a tool: %s", name, error)  # noqa: TRY400  # one line says it all
        return tools

    @contextmanager
    def watching(self) -> Generator[None]:
        """Tell clients when the lists are others, for as long as it is entered. Raises `RuntimeNotStarted` before the start."""
        roster = self.dispatcher.roster
        roster.follow()
        roster.on_change.append(self._catalogue_changed)
        self.news.open()
        try:
            yield
        finally:
            roster.on_change.remove(self._catalogue_changed)
            self.news.close()

    def _catalogue_changed(self) -> None:
        before, former, now = self._made_from, self._tools, self.dispatcher.catalogue
        if self.tools != former:
            self.news.tools_changed()
        if now.prompts != before.prompts:
            self.news.prompts_changed()
        if now.resources != before.resources or now.agents != before.agents:
            self.news.resources_changed()
