"""The contract of the port `ModelProvider`: one answer, whole or streamed, in one form whoever gives it.

Each subject is a provider that was told its answers beforehand: the scripted one by its script, the HTTP one by a server on a real
socket. Every test that can goes both ways, by `chat` and by `stream`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import anyio
import pytest

from portico.errors import ModelError
from portico.kernel.protocols import ModelResponse, ToolCall
from portico.llm.openai import OpenAIModel
from portico.llm.providers import Providers
from portico.llm.scripted import ScriptedModel
from tests.llm.fake_openai import Answer, completion, delta, fake_openai, plain, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from portico.kernel.protocols import ModelProvider
    from portico.llm.scripted import Script

pytestmark = pytest.mark.anyio

QUESTION: list[Mapping[str, Any]] = [{"role": "user", "content": "Hello?"}]
TEXT = " Grüße an die 世界 👋,\n\n  in zwei  Absätzen. "
ADD: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
BOTH_CALLS = (ToolCall("call_1", "add", {"a": 1, "deep": [{"é": None}]}), ToolCall("call_2", "add", {}))


# --- what a subject is told to answer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Says:
    """A complete answer."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    tokens: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Refuses:
    """No answer, but an error."""


@dataclass(frozen=True, slots=True)
class Garbles:
    """An answer that makes no sense."""


@dataclass(frozen=True, slots=True)
class Hangs:
    """None of these."""


Told: TypeAlias = Says | Refuses | Garbles | Hangs


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider, and whether it was asked."""

    provider: ModelProvider
    asked: asyncio.Event


class Opened(Protocol):
    """How a subject is made; `stream`: whether its answers will be streamed."""

    def __call__(self, *told: Told, stream: bool) -> AbstractAsyncContextManager[Subject]: ...


# --- the subjects -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def scripted(*told: Told, stream: bool) -> AsyncGenerator[Subject]:
    asked = asyncio.Event()

    async def hang(messages: Any, tools: Any) -> str:
        asked.set()
        await asyncio.Event().wait()
        return "never"

    def script(answer: Told) -> Script:
        match answer:
            case Says(text, calls, tokens):
                return ModelResponse(text, "scripted", *(tokens or (None, None)), tool_calls=calls, finish_reason="stop")
            case Refuses():
                return ModelError("scripted", "busy")
            case Garbles():
                return ModelError("scripted", "nonsense")
            case Hangs():
                return hang

    yield Subject(ScriptedModel([script(answer) for answer in told]), asked)


@asynccontextmanager
async def openai(*told: Told, stream: bool) -> AsyncGenerator[Subject]:
    async with fake_openai() as server:
        server.answers.extend(_streamed(answer) if stream else _whole(answer) for answer in told)
        model = OpenAIModel(server.base_url, "key")
        try:
            yield Subject(model, server.asked)
        finally:
            await model.aclose()


@asynccontextmanager
async def providers(*told: Told, stream: bool) -> AsyncGenerator[Subject]:
    async with openai(*told, stream=stream) as inner:
        yield Subject(Providers({"inner": inner.provider}), inner.asked)


def _whole(answer: Told) -> Answer:
    match answer:
        case Says(text, calls, tokens):
            return completion(text, tool_calls=[_wire(call) for call in calls], usage=_usage(tokens))
        case Refuses():
            return plain({"error": {"message": "busy"}}, 503)
        case Garbles():
            return plain(b'{"choices": [{"message": 7')
        case Hangs():
            return Answer([], hang=True)


def _streamed(answer: Told) -> Answer:
    match answer:
        case Says():
            return streamed(*_events(answer))
        case Refuses():
            return _whole(answer)
        case Garbles():
            return streamed(delta("Hi"), 7)
        case Hangs():
            return streamed(delta(""), done=False, hang=True)


def _events(answer: Says) -> list[dict[str, Any]]:
    """Text letter by letter; the arguments of a tool call in two halves."""
    events = [delta(letter) for letter in answer.text]
    for index, call in enumerate(answer.calls):
        wire = _wire(call)
        arguments = wire["function"]["arguments"]
        first = {**wire, "index": index, "function": {"name": call.name, "arguments": arguments[:1]}}
        events += [delta(tool_calls=[first]), delta(tool_calls=[{"index": index, "function": {"arguments": arguments[1:]}}])]
    events.append(delta(finish_reason="stop"))
    if answer.tokens is not None:
        events.append({"model": "fake-1", "choices": [], "usage": _usage(answer.tokens)})
    return events


def _wire(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}


def _usage(tokens: tuple[int, int] | None) -> dict[str, int] | None:
    return None if tokens is None else {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}


over_every_provider = pytest.mark.parametrize("opened", [scripted, openai, providers])
either_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


# --- asking -----------------------------------------------------------------------------------------------------------


async def everything(
    provider: ModelProvider, messages: Sequence[Mapping[str, Any]] = QUESTION, tools: Sequence[Mapping[str, Any]] | None = None
) -> list[str | ModelResponse]:
    """All that a stream gives."""
    return [piece async for piece in provider.stream("m", messages, tools)]


async def answered(
    provider: ModelProvider,
    *,
    stream: bool,
    messages: Sequence[Mapping[str, Any]] = QUESTION,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> ModelResponse:
    """The whole response, either way."""
    if not stream:
        return await provider.chat("m", messages, tools)
    response = (await everything(provider, messages, tools))[-1]
    assert isinstance(response, ModelResponse)
    return response


# --- the contract -----------------------------------------------------------------------------------------------------


@over_every_provider
@either_way
@pytest.mark.parametrize("text", [TEXT, "word", "\n", ""], ids=["text", "word", "newline", "empty"])
async def test_an_answer_is_the_text_as_the_model_said_it(opened: Opened, text: str, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Says(text), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream)
            assert response.content == text
            assert response.tool_calls == ()
            assert response.model


@over_every_provider
@pytest.mark.parametrize("text", [TEXT, "word", "\n", ""], ids=["text", "word", "newline", "empty"])
async def test_a_stream_is_pieces_of_the_text_and_last_the_whole_response(opened: Opened, text: str) -> None:
    with anyio.fail_after(10):
        async with opened(Says(text), stream=True) as subject:
            *pieces, last = await everything(subject.provider)
            assert isinstance(last, ModelResponse)
            assert all(isinstance(piece, str) and piece for piece in pieces)
            assert "".join(cast("list[str]", pieces)) == last.content == text


@over_every_provider
async def test_a_longer_text_is_streamed_in_more_than_one_piece(opened: Opened) -> None:
    with anyio.fail_after(10):
        async with opened(Says(TEXT), stream=True) as subject:
            assert len(await everything(subject.provider)) > 2


@over_every_provider
@either_way
async def test_tool_calls_have_their_ids_names_and_parsed_arguments_in_order(opened: Opened, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Says("", BOTH_CALLS), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream, tools=[ADD])
            assert response.tool_calls == BOTH_CALLS
            assert response.content == ""


@over_every_provider
@either_way
async def test_a_model_may_speak_and_call_tools_in_one_answer(opened: Opened, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Says(TEXT, BOTH_CALLS), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream, tools=[ADD])
            assert (response.content, response.tool_calls) == (TEXT, BOTH_CALLS)


@over_every_provider
@either_way
async def test_tokens_are_counted_where_they_are_known(opened: Opened, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Says("Hi.", tokens=(12, 0)), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream)
            assert (response.tokens_in, response.tokens_out) == (12, 0)


@over_every_provider
@either_way
async def test_tokens_that_nobody_told_are_unknown_and_not_zero(opened: Opened, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Says("Hi."), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream)
            assert (response.tokens_in, response.tokens_out, response.cost_usd) == (None, None, None)


@over_every_provider
@either_way
async def test_a_whole_conversation_is_taken_and_left_as_it_was(opened: Opened, *, stream: bool) -> None:
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [_wire(BOTH_CALLS[0])]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ]
    before = json.dumps([conversation, ADD])
    read_only = tuple(MappingProxyType(message) for message in conversation)
    with anyio.fail_after(10):
        async with opened(Says("2"), stream=stream) as subject:
            response = await answered(subject.provider, stream=stream, messages=read_only, tools=(MappingProxyType(dict(ADD)),))
            assert response.content == "2"
    assert json.dumps([conversation, ADD]) == before


@over_every_provider
@either_way
@pytest.mark.parametrize("told", [Refuses(), Garbles()], ids=["refused", "nonsense"])
async def test_no_answer_is_a_model_error_and_the_next_call_is_answered(opened: Opened, told: Told, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(told, Says("Hi."), stream=stream) as subject:
            with pytest.raises(ModelError):
                await answered(subject.provider, stream=stream)
            assert (await answered(subject.provider, stream=stream)).content == "Hi."


@over_every_provider
@either_way
async def test_calls_at_the_same_time_get_an_answer_each(opened: Opened, *, stream: bool) -> None:
    texts = [f"answer {number}" for number in range(10)]
    got: list[str] = []

    async def ask(provider: ModelProvider) -> None:
        got.append((await answered(provider, stream=stream)).content)

    with anyio.fail_after(10):
        async with opened(*(Says(text) for text in texts), stream=stream) as subject, anyio.create_task_group() as tasks:
            for _ in texts:
                tasks.start_soon(ask, subject.provider)
    assert sorted(got) == texts


@over_every_provider
async def test_a_stream_can_be_left_early_and_the_next_call_is_answered(opened: Opened) -> None:
    with anyio.fail_after(10):
        async with opened(Says(TEXT), Says("Hi."), stream=True) as subject:
            stream = cast("AsyncGenerator[str | ModelResponse]", subject.provider.stream("m", QUESTION))
            async with aclosing(stream):
                assert TEXT.startswith(cast("str", await anext(stream)))
            assert (await answered(subject.provider, stream=True)).content == "Hi."


@over_every_provider
@either_way
async def test_a_call_that_is_cancelled_ends_as_cancelled_and_the_next_is_answered(opened: Opened, *, stream: bool) -> None:
    with anyio.fail_after(10):
        async with opened(Hangs(), Says("Hi."), stream=stream) as subject:
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(answered(subject.provider, stream=stream))
                await subject.asked.wait()
                call.cancel()
            assert call.cancelled()
            assert (await answered(subject.provider, stream=stream)).content == "Hi."
