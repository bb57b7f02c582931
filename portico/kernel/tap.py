"""Tap: tells observers of the models and tools that an agent calls. Where none wants to know, it stands in nobody's way.

Below: the observers' hooks (`protocols.WatchesCalls`). Above: `self.llm` and `self.tools`, agents that have models and tools of
their own, and the bridge, whose servers may ask for an agent's model. It decides nothing, and changes nothing of a call: it only
adds to an answer what that costs, where it is known.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, aclosing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

from portico.errors import RuntimeNotStarted
from portico.kernel import hooks
from portico.kernel.current import current, executing
from portico.kernel.protocols import KnowsModels, ModelCall, ModelIdentity, ModelResponse, ToolExecution

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from portico.kernel.delivery import Delivery
    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import ModelProvider, Tool, ToolSet
    from portico.kernel.router import Router


logger = logging.getLogger("portico.kernel")


class Tap:
    """What one agent calls, for those who want to know."""

    __slots__ = ("_agent", "_agent_of", "_models", "_prices", "_tools")

    def __init__(self, router: Router, agent: str, models: Sequence[_ModelHook], tools: Sequence[_ToolHook]) -> None:
        self._agent = agent
        self._agent_of = router.registry.agent_of
        self._models = models
        self._tools = tools
        self._prices = router.services.prices

    @classmethod
    def of(cls, router: Router, agent: str) -> Self | None:
        """The tap of an agent; None where nobody in its runtime wants to know."""
        services = router.services
        observers = [*services.observers, *services.listeners]
        if not observers:
            return None
        models = [hook for one in observers if (hook := getattr(one, "calling_model", None)) is not None]
        tools = [hook for one in observers if (hook := getattr(one, "calling_tool", None)) is not None]
        return cls(router, agent, models, tools) if models or tools else None

    def _caller(self, in_hand: Delivery | None) -> str:
        """Who calls, as others know it."""
        return self._agent_of(self._agent if in_hand is None else in_hand.message.recipient)

    # --- models -------------------------------------------------------------------------------------------------------

    def model(self, provider: ModelProvider) -> ModelProvider:
        """The provider with ears; itself where it has them."""
        if not self._models or isinstance(provider, TappedModel):
            return provider
        return TappedStreams(self, provider) if hasattr(provider, "stream") else cast("ModelProvider", TappedModel(self, provider))

    def begin(
        self,
        stack: ExitStack,
        provider: ModelProvider,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        streamed: bool,
    ) -> ModelCall:
        """A call of a model begins; it is over when the stack unwinds."""
        in_hand = current.get()
        agent = self._caller(in_hand)
        call = ModelCall(agent, identity_of(provider, model), messages, tools, streamed, in_hand)
        if self._prices is not None:
            self._prices.warm_up(call.identity)
        for hook in self._models:
            hooks.enter(stack, hook, call)
        return call

    async def priced(self, call: ModelCall, response: ModelResponse) -> ModelResponse:
        """The answer with its price, where its provider did not tell that and somebody knows it. It fails no call."""
        if response.cost_usd is not None or self._prices is None:
            return response
        try:
            await self._prices.ready(call.identity, response)
            cost = self._prices.cost(call.identity, response)
        except Exception:
            logger.exception("the price of an answer of %r could not be told", call.identity.model)
            return response
        return response if cost is None else replace(response, cost_usd=float(cost))

    # --- tools --------------------------------------------------------------------------------------------------------

    def tools(self, tools: ToolSet) -> ToolSet:
        """The tools, each of them with ears."""
        return TappedTools(self, tools) if self._tools else tools

    async def call(
        self, tool: Tool, arguments: Mapping[str, Any], invoke: Callable[[], Awaitable[Any]], call_id: str | None = None
    ) -> Any:
        """Call a tool by `invoke`, and return what that returns. `call_id`: the model's id of the call."""
        if not self._tools:
            return await invoke()
        in_hand = current.get()
        agent = self._caller(in_hand)
        call = ToolExecution(agent, tool.name, arguments, call_id, tool.description, tool.input_schema, in_hand)
        with ExitStack() as stack:
            for hook in self._tools:
                call.traceparent = hooks.enter(stack, hook, call) or call.traceparent
            token = executing.set(call)
            try:
                call.result = await invoke()
            except BaseException as error:
                call.error = error
                raise
            finally:
                executing.reset(token)
            return call.result


class TappedModel:
    """A provider that observers see through: the same, and whatever else it can."""

    __slots__ = ("_provider", "_tap")

    def __init__(self, tap: Tap, provider: ModelProvider) -> None:
        self._tap = tap
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def __repr__(self) -> str:
        return repr(self._provider)

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> ModelResponse:
        """See `ModelProvider.chat`."""
        with ExitStack() as stack:
            call = self._tap.begin(stack, self._provider, model, messages, tools, streamed=False)
            try:
                call.response = await self._tap.priced(call, await self._provider.chat(model, messages, tools))
            except BaseException as error:
                call.error = error
                raise
            return call.response


class TappedStreams(TappedModel):
    """The same for a provider that streams too."""

    __slots__ = ()

    async def stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> AsyncIterator[str | ModelResponse]:
        """See `ModelProvider.stream`."""
        with ExitStack() as stack:
            call = self._tap.begin(stack, self._provider, model, messages, tools, streamed=True)
            began = time.monotonic()
            try:
                pieces = self._provider.stream(model, messages, tools)
                # What is an iterator and no generator need not have an end of its own.
                async with aclosing(cast("AsyncGenerator[Any]", pieces)) if hasattr(pieces, "aclose") else nullcontext():
                    async for piece in pieces:
                        if call.first_piece_after is None:
                            call.first_piece_after = time.monotonic() - began
                        if isinstance(piece, ModelResponse):
                            piece = call.response = await self._tap.priced(call, piece)  # noqa: PLW2901  # the same, with its price
                        yield piece
            except BaseException as error:
                if call.response is None:  # with it, whoever takes the pieces may leave
                    call.error = error
                raise


class TappedTools:
    """A set of tools that observers see through: the same, and whatever else it can."""

    __slots__ = ("_tap", "_tools")

    def __init__(self, tap: Tap, tools: ToolSet) -> None:
        self._tap = tap
        self._tools = tools

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tools, name)

    def __repr__(self) -> str:
        return repr(self._tools)

    def get(self, name: str) -> Tool:
        """See `ToolSet.get`."""
        return TappedTool(self._tap, self._tools.get(name))

    def names(self) -> list[str]:
        """See `ToolSet.names`."""
        return self._tools.names()

    def __iter__(self) -> Iterator[Tool]:
        for tool in self._tools:
            yield TappedTool(self._tap, tool)

    async def connect_mcp(self, config: Any) -> list[str]:
        """See `ToolSet.connect_mcp`."""
        return await self._tools.connect_mcp(config)


class TappedTool:
    """A tool that observers see through: the same, and whatever else it can."""

    __slots__ = ("_tap", "bare")

    def __init__(self, tap: Tap, tool: Tool) -> None:
        self._tap = tap
        self.bare = tool
        """The tool itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def __repr__(self) -> str:
        return repr(self.bare)

    @property
    def name(self) -> str:
        """See `Tool.name`."""
        return self.bare.name

    @property
    def description(self) -> str:
        """See `Tool.description`."""
        return self.bare.description

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """See `Tool.input_schema`."""
        return self.bare.input_schema

    async def execute(self, /, **arguments: Any) -> Any:
        """See `Tool.execute`."""
        return await self._tap.call(self.bare, arguments, lambda: self.bare.execute(**arguments))


def tap_of(process: AgentProcess) -> Tap | None:
    """The tap of an agent; None where nobody listens, or where it works without a runtime."""
    try:
        router = process.router
    except RuntimeNotStarted:
        return None
    return Tap.of(router, process.name)


def identity_of(provider: ModelProvider, model: str) -> ModelIdentity:
    """Who answers to a model's name; the class's name where the provider cannot tell."""
    if isinstance(provider, KnowsModels):
        try:
            return provider.identify(model)
        except Exception:  # noqa: BLE001  # the call itself will say what is wrong
            return ModelIdentity(type(provider).__name__, model, type(provider).__name__)
    return ModelIdentity(type(provider).__name__, model, type(provider).__name__)


if TYPE_CHECKING:
    _ModelHook = Callable[[ModelCall], AbstractContextManager[Any] | None]
    _ToolHook = Callable[[ToolExecution], AbstractContextManager[str | None] | None]
