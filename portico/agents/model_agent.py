"""ModelAgent: an agent made of plain settings: a model, instructions and tools. No subclass needed; a topology can hold it.

    agent = ModelAgent("helper", model="openai:gpt-4o-mini", instructions="Be brief.", tools=[add, "mcp://files/*"])

Under a runtime it is a process with one operation, `message`. It also works alone: `await agent.run("What is 2 + 3?")`.
It remembers nothing from call to call: a conversation is what its caller sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from portico.agents.tool import tools_of
from portico.agents.tool_loop import TURN_LIMIT, Outcome, ToolLoop
from portico.agents.toolbox import Toolbox, select
from portico.errors import ConfigurationError, ContractViolation, LifecycleError, ToolError
from portico.kernel.context import MessageContext
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.tap import tap_of
from portico.llm.in_use import using
from portico.llm.providers import close, provider_for
from portico.operations.contract import faults_of
from portico.operations.decorators import operation
from portico.runs.event import EventName

if TYPE_CHECKING:
    from portico.kernel import protocols
    from portico.kernel.protocols import ModelProvider

logger = logging.getLogger("portico.agents")

ToolLike: TypeAlias = "str | protocols.Tool | Callable[..., Any]"
"""A tool, a function, or a name or glob (`mcp://files/*`) of the runtime's tools."""


# --- the contract -----------------------------------------------------------------------------------------------------


class ChatMessage(BaseModel):
    """One message of a conversation. Only the two sides of it: instructions and tool results are the agent's own."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"] = Field(description="Who said it.")
    content: str = Field(description="What was said.")


class ModelRequest(BaseModel):
    """A question, or a conversation that ends with one."""

    model_config = ConfigDict(extra="forbid")

    message: str | None = Field(default=None, min_length=1, description="What you say.")
    messages: list[ChatMessage] = Field(default=[], description="What was said before; it may end with what you say now.")

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Self:
        if self.message is None and not (self.messages and self.messages[-1].role == "user"):
            raise ValueError("give a 'message', or 'messages' that end with one of the role 'user'")
        return self

    def conversation(self) -> list[dict[str, Any]]:
        """The messages, in order."""
        said = [message.model_dump() for message in self.messages]
        return [*said, {"role": "user", "content": self.message}] if self.message is not None else said


class ToolCallReport(BaseModel):
    """A tool that the model called."""

    name: str = Field(description="The tool.")
    arguments: dict[str, Any] = Field(description="What the model gave it.")
    error: str | None = Field(description="What went wrong; null where it gave a result.")


class Usage(BaseModel):
    """What an answer took. null is unknown, which is not zero."""

    tokens_in: int | None = Field(description="Tokens that the model read.")
    tokens_out: int | None = Field(description="Tokens that the model wrote.")
    cost_usd: float | None = Field(description="The price in US dollars.")


class ModelReply(BaseModel):
    """An answer."""

    reply: str = Field(description="What the model says.")
    model: str = Field(description="The model that says it.")
    turns: int = Field(description="How often the model was asked.")
    finish_reason: str | None = Field(description="Why the model stopped, in its provider's word.")
    tool_calls: list[ToolCallReport] = Field(description="The tools that were called, in order.")
    usage: Usage = Field(description="What it took.")


# --- the agent --------------------------------------------------------------------------------------------------------


class ModelAgent(AgentProcess):
    """A model with instructions and tools.

    Methods of a subclass that `@tool` marks are tools too.

    Args:
        name: its identity.
        model: `provider:model`, a model of the default provider, or empty for that provider's own default.
        instructions: what the model is told before every conversation.
        tools: functions, tools, or names and globs of the runtime's tools (`mcp://server/tool`, `mcp://server/*`).
        max_turns: how often the model is asked at most for one answer; beyond that the call fails with `turn-limit`.
        max_result: characters of a tool's result that the model is shown at most.
        stream: whether the model's text is taken piece by piece and told as `delta` events.
        provider: a provider, or the settings of one, such as `{"api_key": …}`. Unless given, the runtime's is used, and where it
            has none, the one that `model` names.
        process: the arguments of `AgentProcess`.

    Raises:
        ConfigurationError: settings that cannot be.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str = "",
        instructions: str = "",
        tools: Sequence[ToolLike] | None = None,
        max_turns: int = 8,
        max_result: int = 20_000,
        stream: bool = True,
        provider: ModelProvider | Mapping[str, Any] | None = None,
        **process: Any,
    ) -> None:
        super().__init__(name, **process)
        for setting, value in (("max_turns", max_turns), ("max_result", max_result)):
            if value < 1:
                raise ConfigurationError(f"{setting} of agent {name!r} is {value}: it needs to be 1 or more.")
        if isinstance(tools, str):
            raise ConfigurationError(f"tools of agent {name!r} is one text: it needs to be a list.")
        given = list(tools or ())
        self.model = model
        self.instructions = instructions
        self.max_turns = max_turns
        self.max_result = max_result
        self.streaming = stream
        self._named = [one for one in given if isinstance(one, str)]
        self._own = Toolbox([*(one for one in given if not isinstance(one, str)), *tools_of(self)])
        self._shadows: set[str] = set()
        self._given = provider
        self._made: ModelProvider | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Find the provider and the tools, so that a mistake shows at the start. A server of tools may still be on its way."""
        self._provider()
        for name in self._named:
            try:
                self._shared(name)
            except ToolError as error:
                if not name.startswith("mcp://"):
                    raise
                logger.warning("agent %r has no tool %r yet: %s", self.name, name, error)

    async def on_stop(self) -> None:
        """Close what it has opened itself."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of a provider that it made itself. Needed only where it works alone."""
        made, self._made = self._made, None
        if made is not None:
            await close(made)

    # --- answering ----------------------------------------------------------------------------------------------------

    @operation(errors={TURN_LIMIT: 500})
    async def message(self, request: ModelRequest, ctx: Context) -> ModelReply:
        """Ask the agent a question. It may call tools before it answers."""
        return await self._answer(request.conversation(), ctx)

    async def run(self, message: str | Sequence[Mapping[str, Any]]) -> ModelReply:
        """Answer a question, or a conversation that ends with one, without a runtime.

        Raises:
            ContractViolation: a conversation that is none.
            AgentError: `turn-limit`.
            ModelError, ToolError, ConfigurationError: no answer, no such tool, no provider.
        """
        asked = {"message": message} if isinstance(message, str) else {"messages": list(message)}
        try:
            request = ModelRequest.model_validate(asked)
        except ValidationError as error:
            raise ContractViolation("message", faults_of(error)) from None
        return await self._answer(request.conversation(), MessageContext())

    async def _answer(self, conversation: list[dict[str, Any]], ctx: Context) -> ModelReply:
        tap, provider = tap_of(self), self._provider()
        loop = ToolLoop(
            name=self.name,
            provider=provider if tap is None else tap.model(provider),
            model=self.model,
            tools=self._offered(),
            max_turns=self.max_turns,
            max_result=self.max_result,
            stream=self.streaming,
            tap=tap,
        )
        instructions = [{"role": "system", "content": self.instructions}] if self.instructions else []
        self._tell_shadows(loop.tools, ctx)
        with using(loop.provider, self.model):
            return _reply(await loop.run([*instructions, *conversation], ctx))

    def _offered(self) -> dict[str, protocols.Tool]:
        """The tools as they are now: those of MCP servers come and go. Its own win over shared ones of the same name."""
        shared = {tool.name: tool for name in self._named for tool in self._shared(name)}
        return {**shared, **{tool.name: tool for tool in self._own}}

    def _tell_shadows(self, offered: Mapping[str, protocols.Tool], ctx: Context) -> None:
        """A tool of an external server may bear the name of one of ours. The model is told two names; people should know."""
        own = {tool.name.casefold(): tool.name for tool in self._own}
        for name in offered:
            ours = own.get(name.rpartition("/")[2].casefold())
            if ours is None or "/" not in name:
                continue
            ctx.emit(EventName.TOOL_SHADOWED, {"name": name, "shadows": ours})
            if name not in self._shadows:
                self._shadows.add(name)
                logger.warning("agent %r offers its model %a, which has the name of its own tool %r", self.name, name, ours)

    def _shared(self, name: str) -> list[protocols.Tool]:
        try:
            return select(self.tools, name)
        except LifecycleError as error:
            hint = "Give it functions, or run it in a Runtime(tool_registry=…)."
            raise ConfigurationError(
                f"Agent {self.name!r} names the tool {name!r}, but has no tools to take it from. {hint}"
            ) from error

    def _provider(self) -> ModelProvider:
        if self._given is not None and not isinstance(self._given, Mapping):
            return self._given
        if self._made is not None:
            return self._made
        if self._given is None:
            try:
                return self.llm
            except LifecycleError:
                pass
        self._made = self._own_provider(cast("Mapping[str, Any]", self._given or {}))
        return self._made

    def _own_provider(self, settings: Mapping[str, Any]) -> ModelProvider:
        if not self.model and not settings:
            hint = "Give it a model such as 'openai:gpt-4o-mini', a provider, or run it in a Runtime(model_provider=…)."
            raise ConfigurationError(f"Agent {self.name!r} has no model provider. {hint}")
        return provider_for(self.model, settings)


def _reply(outcome: Outcome) -> ModelReply:
    calls = [ToolCallReport(name=use.name, arguments=use.arguments, error=use.error) for use in outcome.uses]
    return ModelReply(
        reply=outcome.text,
        model=outcome.model,
        turns=outcome.turns,
        finish_reason=outcome.finish_reason,
        tool_calls=calls,
        usage=Usage(tokens_in=outcome.tokens_in, tokens_out=outcome.tokens_out, cost_usd=outcome.cost_usd),
    )
