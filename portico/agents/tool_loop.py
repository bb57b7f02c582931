"""ToolLoop: one question to a model, until it has an answer: ask the model, run the tools that it wants, tell it the results.

It knows a provider, tools and a conversation, and neither processes nor contracts: `ModelAgent` is above. What a tool gets wrong
goes back to the model, which may do better; what the model or its provider gets wrong ends the loop. It keeps nothing between
conversations.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from portico.agents.tool import Tool, openai_form
from portico.errors import AgentError, ModelError, PorticoError, UnknownTool, nearest
from portico.kernel.protocols import ForModel, ModelResponse, ToolCall
from portico.kernel.tap import TappedTool
from portico.llm.tool_names import ToolNames
from portico.runs.event import EventName

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from portico.kernel import protocols
    from portico.kernel.protocols import Context, ModelProvider
    from portico.kernel.tap import Tap

MOST_CALLS: Final = 32
"""How many tools are run for one answer of the model; what it wants beyond that is refused, and it is told so."""
_CANCELLED: Final = "The tool was cancelled."
TURN_LIMIT: Final = "turn-limit"
"""The slug of the error where the turns are used up."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call, and how it ended."""

    name: str
    """The tool's own name."""
    arguments: dict[str, Any]
    """What the model gave it."""
    error: str | None
    """What went wrong; None where it gave a result."""


@dataclass(slots=True)
class Outcome:
    """What came of a conversation, so far."""

    text: str = ""
    """The model's last words."""
    model: str = ""
    """The model that said them, as the provider names it."""
    turns: int = 0
    """How often the model was asked."""
    finish_reason: str | None = None
    """Why it stopped, in the provider's word."""
    uses: list[ToolUse] = field(default_factory=list[ToolUse])
    """The tools that were called, in order."""
    tokens_in: int | None = 0
    """Tokens read in all turns; None where one turn's are not known."""
    tokens_out: int | None = 0
    """Tokens written in all turns; None where one turn's are not known."""
    cost_usd: float | None = 0.0
    """The price of all turns; None where one turn's is not known."""

    def count(self, response: ModelResponse) -> None:
        """Add one turn."""
        self.turns += 1
        self.text, self.model, self.finish_reason = response.content, response.model, response.finish_reason
        self.tokens_in = _sum(self.tokens_in, response.tokens_in)
        self.tokens_out = _sum(self.tokens_out, response.tokens_out)
        self.cost_usd = _sum(self.cost_usd, response.cost_usd)


@dataclass(frozen=True, slots=True)
class ToolLoop:
    """Everything that stays the same from turn to turn."""

    name: str
    """The agent's name, for errors."""
    provider: ModelProvider
    """Who answers."""
    model: str
    """Which model of the provider."""
    tools: Mapping[str, protocols.Tool]
    """The tools on offer, by name."""
    max_turns: int
    """How often the model is asked at most."""
    max_result: int
    """How many characters of a tool's result the model is shown at most."""
    stream: bool
    """Whether the model's text is taken piece by piece."""
    tap: Tap | None = None
    """Tells observers of the tools that are called."""

    async def run(self, messages: Sequence[Mapping[str, Any]], ctx: Context) -> Outcome:
        """Answer a conversation that ends with the user's words.

        Emits `delta`, `assistant.message`, `tool.call` and `tool.result` to `ctx`.

        Raises:
            AgentError: `turn-limit`: the model still wants tools after `max_turns`.
            ModelError: the provider did not give a response.
        """
        names = ToolNames(self.tools)
        offered = [openai_form(tool, names.to_model(name)) for name, tool in self.tools.items()]
        conversation, outcome = list(messages), Outcome()
        while outcome.turns < self.max_turns:
            response = await self._ask(conversation, offered, ctx)
            outcome.count(response)
            if response.content:
                ctx.emit(EventName.ASSISTANT_MESSAGE, {"content": response.content})
            if not response.tool_calls:
                return outcome
            calls = [ToolCall(call.id, names.from_model(call.name), call.arguments) for call in response.tool_calls]
            conversation.append(_said(response))
            conversation += await self._run_tools(calls, outcome, ctx)
        raise self._used_up(outcome)

    async def _ask(self, conversation: list[Mapping[str, Any]], offered: list[dict[str, Any]], ctx: Context) -> ModelResponse:
        if not self.stream or not hasattr(self.provider, "stream"):  # a provider written for `chat` alone will do
            return await self.provider.chat(self.model, conversation, offered or None)
        pieces = cast("AsyncGenerator[str | ModelResponse]", self.provider.stream(self.model, conversation, offered or None))
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, ModelResponse):
                    return piece
                ctx.delta(piece)
        raise ModelError(self.model or "model", "the stream ended without a response.")

    # --- tools --------------------------------------------------------------------------------------------------------

    async def _run_tools(self, calls: Sequence[ToolCall], outcome: Outcome, ctx: Context) -> list[dict[str, Any]]:
        """Run them side by side. The results come in the order of the calls."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run_tool(call, ctx, refused=index >= MOST_CALLS), name=f"{self.name}/{call.name}")
                for index, call in enumerate(calls)
            ]
        results: list[dict[str, Any]] = []
        for call, task in zip(calls, tasks, strict=True):
            # A tool that was cancelled from within is a failed tool; if this task was cancelled, the group has raised that.
            text, error = task.result() if not task.cancelled() else (f"Error: {_CANCELLED}", _CANCELLED)
            outcome.uses.append(ToolUse(call.name, call.arguments, error))
            results.append({"role": "tool", "tool_call_id": call.id, "content": text})
        return results

    async def _run_tool(self, call: ToolCall, ctx: Context, *, refused: bool) -> tuple[str, str | None]:
        """What the model is told, and the error, if it is one."""
        ctx.emit(EventName.TOOL_CALL, {"id": call.id, "name": call.name, "arguments": call.arguments})
        error = None
        try:
            if refused:
                raise AgentError("too-many-calls", f"Not called: one answer may call {MOST_CALLS} tools at most. Call it again.")
            text = self._bounded(_shown(await self._execute(call, ctx)))
            ctx.emit(EventName.TOOL_RESULT, {"id": call.id, "name": call.name, "result": text})
        except PorticoError as raised:
            error = self._bounded(str(raised))
            text = f"Error: {error}"
            ctx.emit(EventName.TOOL_RESULT, {"id": call.id, "name": call.name, "error": error})
        return text, error

    async def _execute(self, call: ToolCall, ctx: Context) -> Any:
        tool = self.tools.get(call.name)
        if tool is None:
            raise UnknownTool(call.name, nearest(call.name, self.tools))
        bare = tool.bare if isinstance(tool, TappedTool) else tool
        if self.tap is None:
            return await _invoke(bare, call, ctx)
        return await self.tap.call(bare, call.arguments, lambda: _invoke(bare, call, ctx), call.id)

    def _bounded(self, text: str) -> str:
        if len(text) <= self.max_result:
            return text
        return f"{text[: self.max_result]}\n[cut here: the first {self.max_result} of {len(text)} characters]"

    def _used_up(self, outcome: Outcome) -> AgentError:
        done = ", ".join(f"{use.name} ({'failed' if use.error else 'ok'})" for use in outcome.uses)
        return AgentError(
            TURN_LIMIT,
            f"Agent {self.name!r} asked its model {outcome.turns} times (max_turns) and has no answer. Tools called: {done}.",
            status=500,
            turns=outcome.turns,
            tool_calls=[{"name": use.name, "arguments": use.arguments, "error": use.error} for use in outcome.uses],
        )


async def _invoke(tool: protocols.Tool, call: ToolCall, ctx: Context) -> Any:
    if isinstance(tool, Tool):
        return await tool.call(call.arguments, ctx)
    return await tool.execute(**call.arguments)


def _said(response: ModelResponse) -> dict[str, Any]:
    """The model's own words and calls, as the provider wants to read them again: with the names that it was offered."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in response.tool_calls
    ]
    return {"role": "assistant", "content": response.content or None, "tool_calls": calls}


def _shown(result: Any) -> str:
    """A result as a model reads it: text as it is, else what it says of itself, else JSON."""
    if isinstance(result, ForModel):
        return result.for_model()
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _sum(one: float | None, other: float | None) -> Any:
    return None if one is None or other is None else one + other
