"""Prompts: `prompts/list` and `prompts/get`. What agents declare with `@prompt`.

Above: `server.py`. Below: `served_prompt.py`, which translates, and `following.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import InputRequiredResult, ListPromptsResult

from portico.errors import UnknownPrompt, nearest
from portico.mcp_bridge.serving.caller import call_of, scopes_of
from portico.mcp_bridge.serving.declared import Declared
from portico.mcp_bridge.serving.errors import refused
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.pages import cursor_of, hints, page_of
from portico.mcp_bridge.serving.served_prompt import served_prompt

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import GetPromptRequestParams, GetPromptResult, PaginatedRequestParams

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_prompt import ServedPrompt


class Prompts:
    """The handlers of prompts."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.declared = Declared(served.dispatcher, lambda catalogue: catalogue.prompts, served_prompt)
        """What agents declare, by name."""

    def find(self, name: str, context: ServerRequestContext[Any]) -> ServedPrompt:
        """The prompt of that name. Raises `UnknownPrompt` where there is none, or not for this caller."""
        visible = self.declared.visible_to(scopes_of(context))
        if name not in visible:
            raise UnknownPrompt(name, nearest(name, visible))
        return visible[name]

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListPromptsResult:
        """`prompts/list`: what this caller may get."""
        visible = self.declared.visible_to(scopes_of(context))
        page, following = page_of(visible, cursor_of(params), self._served.options.page_size)
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
