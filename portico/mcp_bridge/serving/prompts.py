"""Prompts: `prompts/list` and `prompts/get`. What agents declare with `@prompt`.

Above: `server.py`. Below: `served_prompt.py`, which translates, and `following.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import InputRequiredResult, ListPromptsResult

from portico.errors import UnknownPrompt, nearest
from portico.mcp_bridge.serving.caller import call_of, scopes_of
from portico.mcp_bridge.serving.errors import refused
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.pages import cursor_of, hints, page_of
from portico.mcp_bridge.serving.served_prompt import ServedPrompt
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import GetPromptRequestParams, GetPromptResult, PaginatedRequestParams

    from portico.mcp_bridge.serving.served import Served
    from portico.operations.catalogue import Catalogue


class Prompts:
    """The handlers of prompts."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._made_from: Catalogue | None = None
        self._declared: dict[str, ServedPrompt] = {}

    @property
    def declared(self) -> Mapping[str, ServedPrompt]:
        """What agents declare, by name and in that order; made anew when the catalogue is another."""
        catalogue = self._served.dispatcher.catalogue
        if catalogue is not self._made_from:
            self._declared = {
                name: ServedPrompt(name, endpoint, endpoint.operation.prompt)
                for name, endpoint in sorted(catalogue.prompts.items())
                if endpoint.operation.prompt is not None
            }
            self._made_from = catalogue
        return self._declared

    def find(self, name: str, context: ServerRequestContext[Any]) -> ServedPrompt:
        """The prompt of that name. Raises `UnknownPrompt` where there is none, or not for this caller."""
        visible = self._visible(context)
        if name not in visible:
            raise UnknownPrompt(name, nearest(name, visible))
        return visible[name]

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListPromptsResult:
        """`prompts/list`: what this caller may get."""
        page, following = page_of(self._visible(context), cursor_of(params), self._served.options.page_size)
        return ListPromptsResult(prompts=[prompt.listed for prompt in page], next_cursor=following, **hints(context))

    async def on_get(
        self, context: ServerRequestContext[Any], params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        """`prompts/get`: asked of the agent, as any other call. It may ask its client something first."""
        with refused(context, f"the prompt {params.name!r}"):
            prompt = self.find(params.name, context)
            payload = prompt.payload(params.arguments)
            call = call_of(prompt.endpoint, payload, context, timeout=self._served.options.run_timeout)
            reply = await outcome_of(self._served, call, context, params)
            return reply if isinstance(reply, InputRequiredResult) else prompt.result(reply)

    def _visible(self, context: ServerRequestContext[Any]) -> dict[str, ServedPrompt]:
        held = scopes_of(context)
        return {name: prompt for name, prompt in self.declared.items() if permits(held, prompt.endpoint.scopes)}
