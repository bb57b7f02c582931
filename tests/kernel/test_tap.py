"""Observers that listen to the models and tools that agents call, and that nothing is in the way where none does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.agents.model_agent import ModelAgent
from portico.agents.tool import tool
from portico.agents.toolbox import Toolbox
from portico.errors import ModelError, ToolError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import ModelCall, ModelResponse, ToolCall, ToolExecution
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.providers import Providers
from portico.llm.scripted import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Blind:
    """An observer as there were before: without ears."""

    def event(self, event: KernelEvent) -> None:
        pass

    def handling(self, message: Message) -> None:
        pass


class Listener(Blind):
    def __init__(self) -> None:
        self.models: list[ModelCall] = []
        self.tools: list[ToolExecution] = []
        self.open = 0

    @contextmanager
    def calling_model(self, call: ModelCall) -> Generator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self.models.append(call)

    @contextmanager
    def calling_tool(self, call: ToolExecution) -> Generator[str]:
        self.open += 1
        try:
            yield TRACE
        finally:
            self.open -= 1
            self.tools.append(call)


class Own(AgentProcess):
    """Speaks to the model and the tools itself."""

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "chat":
                return (await self.llm.chat("", [{"role": "user", "content": "Hello"}])).content
            case "stream":
                pieces = [piece async for piece in self.llm.stream("", [{"role": "user", "content": "Hello"}])]
                return sum(isinstance(piece, str) for piece in pieces)
            case "tool":
                return await self.tools.get("add").execute(a=2, b=3)
            case "bad tool":
                return await self.tools.get("add").execute(a="two", b=3)
            case "after":
                await self.tools.get("add").execute(a=2, b=3)
                return (await self.ask("traced", {})).payload
            case _:
                return [self.llm is MODEL.get("it"), repr(self.tools)]


MODEL: dict[str, Any] = {}


class Traced(AgentProcess):
    async def handle(self, message: Message) -> Any:
        return message.traceparent or "none"


def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


async def test_a_call_of_a_model_is_told_with_who_made_it_and_what_came_of_it() -> None:
    listener = Listener()
    model = Providers({"house": ScriptedModel(["Hi there"])})
    async with runtime(Own("own"), model=model, listener=listener) as running:
        await ask(running, "own", "chat")

    (call,) = listener.models
    assert (call.agent, call.identity.provider, call.identity.model, call.streamed) == ("own", "scripted", "scripted", False)
    assert call.response is not None
    assert call.response.content == "Hi there"
    assert call.delivery is not None
    assert call.delivery.message.payload == "chat"


async def test_a_streamed_call_is_told_once_with_the_time_of_its_first_piece() -> None:
    listener = Listener()
    async with runtime(Own("own"), model=ScriptedModel(["one two three"]), listener=listener) as running:
        pieces = await ask(running, "own", "stream")

    (call,) = listener.models
    assert pieces == 3
    assert call.streamed
    assert call.first_piece_after is not None
    assert isinstance(call.response, ModelResponse)
    assert call.error is None
    assert listener.open == 0


async def test_a_call_that_fails_is_told_with_its_error() -> None:
    listener = Listener()
    async with runtime(Own("own"), model=ScriptedModel([ModelError("scripted", "no")]), listener=listener) as running:
        with pytest.raises(ModelError):
            await ask(running, "own", "chat")

    (call,) = listener.models
    assert isinstance(call.error, ModelError)
    assert call.response is None


async def test_tools_that_an_agent_calls_itself_are_told_with_result_or_error() -> None:
    listener = Listener()
    async with runtime(Own("own"), tools=Toolbox([add]), listener=listener) as running:
        assert await ask(running, "own", "tool") == 5
        with pytest.raises(ToolError):
            await ask(running, "own", "bad tool")

    good, bad = listener.tools
    assert (good.agent, good.tool, good.arguments, good.result, good.server) == ("own", "add", {"a": 2, "b": 3}, 5, None)
    assert isinstance(bad.error, ToolError)


async def test_a_model_agent_tells_each_turn_and_each_tool_once() -> None:
    listener = Listener()
    said = [ModelResponse("", "m", tool_calls=(ToolCall("c1", "add", {"a": 1, "b": 1}), ToolCall("c2", "twice", {"x": 2}))), "done"]
    agent = ModelAgent("clever", tools=["add", twice], provider=ScriptedModel(said))
    async with runtime(agent, tools=Toolbox([add]), listener=listener) as running:
        await ask(running, "clever", {"message": "go"}, "message")

    assert [call.agent for call in listener.models] == ["clever", "clever"]
    assert sorted((tool.tool, tool.call_id, tool.result) for tool in listener.tools) == [("add", "c1", 2), ("twice", "c2", 4)]


async def test_what_a_tool_asks_carries_the_trace_of_the_tool_and_what_comes_after_does_not() -> None:
    listener = Listener()

    class Asking(ModelAgent):
        @tool
        async def there(self) -> str:
            """Asks."""
            return (await self.ask("traced", {})).payload

    agent = Asking("asking", provider=ScriptedModel([ModelResponse("", "m", tool_calls=(ToolCall("c1", "there", {}),)), "done"]))
    async with runtime(agent, Own("own"), Traced("traced"), tools=Toolbox([add]), listener=listener) as running:
        await ask(running, "asking", {"message": "go"}, "message")
        after = await ask(running, "own", "after")

    assert listener.tools[0].result == TRACE
    assert after == "none"


async def test_who_only_listens_to_calls_is_no_observer_of_handlings() -> None:
    listener = Listener()
    running = Runtime(Supervisor("root", children=[Own("own")]), model_provider=ScriptedModel(["Hi"]))
    running.services.listeners.append(listener)
    async with running:
        await ask(running, "own", "chat")

    assert len(listener.models) == 1
    assert running.services.observers == []


async def test_where_nobody_listens_the_model_and_the_tools_are_the_runtimes_own() -> None:
    MODEL["it"] = ScriptedModel()
    box = Toolbox([add])
    async with runtime(Own("own"), model=MODEL["it"], tools=box, listener=Blind()) as running:
        assert await ask(running, "own", "who") == [True, repr(box)]


async def test_a_listener_that_raises_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Blind):
        def calling_model(self, call: ModelCall) -> None:
            raise ValueError("deaf")

    async with runtime(Own("own"), model=ScriptedModel(["Hi"]), listener=Broken()) as running:
        assert await ask(running, "own", "chat") == "Hi"

    assert "an observer failed" in caplog.text


class Iterating(ScriptedModel):
    """Streams by an iterator that is no generator, and so has no `aclose`."""

    def stream(self, model: str, messages: Any, tools: Any = None) -> AsyncIterator[str | ModelResponse]:
        del messages, tools
        return Pieces(["one ", "two", ModelResponse("one two", model)])


class Pieces:
    def __init__(self, pieces: list[str | ModelResponse]) -> None:
        self._left = iter(pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> str | ModelResponse:
        for piece in self._left:
            return piece
        raise StopAsyncIteration


async def test_a_stream_that_cannot_be_closed_is_read_to_its_end() -> None:
    listener = Listener()
    async with runtime(Own("own"), model=Iterating([]), listener=listener) as running:
        assert await ask(running, "own", "stream") == 2

    (call,) = listener.models
    assert call.error is None
    assert call.response is not None


class Unpriceable:
    """Prices that fail."""

    def cost(self, identity: Any, response: Any) -> Any:
        raise ValueError("no such thing")

    def warm_up(self, identity: Any) -> None:
        pass

    async def ready(self, identity: Any, response: Any) -> None:
        pass


async def test_an_answer_whose_price_cannot_be_told_is_given_without_one(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    tree = Supervisor("root", children=[Own("own")])
    model = ScriptedModel([ModelResponse("Hi", "m", -1, 3)])
    async with Runtime(tree, model_provider=model, observers=[listener], prices=Unpriceable()) as running:
        assert await ask(running, "own", "chat") == "Hi"

    assert "the price of an answer" in caplog.text
    (call,) = listener.models
    assert call.response is not None
    assert call.response.cost_usd is None


def twice(x: int) -> int:
    """Doubles."""
    return 2 * x


def runtime(*agents: AgentProcess, listener: Any, model: Any = None, tools: Any = None) -> Runtime:
    return Runtime(Supervisor("root", children=list(agents)), model_provider=model, tool_registry=tools, observers=[listener])


async def ask(running: Runtime, agent: str, payload: Any, kind: str = "message") -> Any:
    with anyio.fail_after(10):
        return (await running.ask(agent, payload, message_type=kind)).payload
