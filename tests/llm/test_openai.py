from __future__ import annotations

import socket
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from portico.errors import ConfigurationError, ModelError
from portico.kernel.protocols import ModelResponse, ToolCall
from portico.llm.openai import OPENAI_URL, OpenAIModel
from tests.llm.fake_openai import Answer, FakeOpenAI, completion, delta, fake_openai, plain, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

KEY = "sk-a-very-secret-key"
MESSAGES = [{"role": "user", "content": "Hello?"}]
EITHER_WAY = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}


@asynccontextmanager
async def api(*answers: Answer, **settings: Any) -> AsyncGenerator[tuple[FakeOpenAI, OpenAIModel]]:
    """A server that gives these answers, and a provider that talks to it."""
    async with fake_openai() as server:
        server.answers.extend(answers)
        given: dict[str, Any] = {"api_key": KEY, "timeout": 5.0, **settings}
        model = OpenAIModel(server.base_url, **given)
        try:
            yield server, model
        finally:
            await model.aclose()


def streaming(model: OpenAIModel) -> AsyncGenerator[str | ModelResponse]:
    return cast("AsyncGenerator[str | ModelResponse]", model.stream("m", MESSAGES))


async def collected(model: OpenAIModel) -> tuple[list[str], ModelResponse]:
    """The pieces of a streamed answer, and the whole of it."""
    pieces: list[str] = []
    async with aclosing(streaming(model)) as stream:
        async for piece in stream:
            if isinstance(piece, ModelResponse):
                return pieces, piece
            pieces.append(piece)
    raise AssertionError("the stream ended without a response")


async def failure(model: OpenAIModel, *, stream: bool = False) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await (collected(model) if stream else model.chat("m", MESSAGES))
    return caught.value


# --- whole answers ----------------------------------------------------------------------------------------------------


async def test_an_answer_has_text_model_usage_and_finish_reason() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    async with api(completion("Hi.", usage=usage)) as (server, model):
        answer = await model.chat("gpt-x", MESSAGES, [TOOL])
    assert answer == ModelResponse("Hi.", "fake-1", 3, 5, None, (), "stop")
    assert server.last.target == "/v1/chat/completions"
    assert server.last.body == {"model": "gpt-x", "messages": MESSAGES, "tools": [TOOL]}


async def test_tool_calls_come_with_parsed_arguments() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
        {"id": "b", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]
    async with api(completion(tool_calls=calls)) as (_, model):
        answer = await model.chat("m", MESSAGES, [TOOL])
    assert answer.content == ""
    assert answer.tool_calls == (ToolCall("a", "add", {"a": 1, "b": 2}), ToolCall("b", "now", {}))
    assert answer.finish_reason == "tool_calls"


async def test_unknown_usage_is_none_and_not_zero() -> None:
    async with api(completion("Hi."), completion("Hi.", usage={"prompt_tokens": None})) as (_, model):
        for _ in range(2):
            answer = await model.chat("m", MESSAGES)
            assert (answer.tokens_in, answer.tokens_out, answer.cost_usd) == (None, None, None)


async def test_a_number_that_is_no_number_of_tokens_is_unknown() -> None:
    odd = {"prompt_tokens": 2**63, "completion_tokens": -1, "prompt_tokens_details": {"cached_tokens": 2**70}}
    async with api(completion("Hi.", usage=odd)) as (_, model):
        answer = await model.chat("m", MESSAGES)
    assert (answer.tokens_in, answer.tokens_out, answer.tokens_cached) == (None, None, None)


async def test_content_in_parts_and_refusals_are_text() -> None:
    refusal = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    parts = {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}
    async with api(plain(refusal), plain(parts)) as (_, model):
        assert (await model.chat("asked", MESSAGES)).content == "No."
        answer = await model.chat("asked", MESSAGES)
        assert (answer.content, answer.model) == ("ab", "asked")


async def test_a_prefix_of_its_own_name_and_a_default_model_are_understood() -> None:
    async with api(completion("1"), completion("2"), model="small", parameters={"temperature": 0}) as (server, model):
        await model.chat("openai:large:8b", MESSAGES)
        await model.chat("", MESSAGES)
    assert [request.body["model"] for request in server.requests] == ["large:8b", "small"]
    assert server.last.body["temperature"] == 0


async def test_one_connection_is_used_again_and_is_closed_at_the_end() -> None:
    async with api(completion("1"), streamed(delta("2", finish_reason="stop")), completion("3")) as (server, model):
        await model.chat("m", MESSAGES)
        await collected(model)
        await model.chat("m", MESSAGES)
        assert server.connections == 1
        await model.aclose()
        await server.closed.wait()
        server.answers.append(completion("4"))
        assert (await model.chat("m", MESSAGES)).content == "4"


async def test_text_that_utf_8_cannot_hold_is_sent_all_the_same() -> None:
    async with api(completion("ok")) as (server, model):
        await model.chat("m", [{"role": "user", "content": "file \udcff"}])
    assert server.last.body["messages"][0]["content"] == "file \udcff"


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_gives_its_pieces_as_they_come_and_then_the_whole() -> None:
    usage: dict[str, Any] = {"model": "fake-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    async with api(streamed(delta("", role="assistant"), delta("Hel"), delta("lo"), delta(finish_reason="stop"), usage)) as (
        server,
        model,
    ):
        pieces, answer = await collected(model)
    assert pieces == ["Hel", "lo"]
    assert answer == ModelResponse("Hello", "fake-1", 7, 2, None, (), "stop")
    assert server.last.body["stream"] is True
    assert server.last.body["stream_options"] == {"include_usage": True}


async def test_the_first_piece_arrives_before_the_last_was_sent() -> None:
    async with api(streamed(delta("first"), done=False, hang=True)) as (_, model), aclosing(streaming(model)) as stream:
        assert await anext(stream) == "first"


async def test_a_reader_that_leaves_ends_the_request() -> None:
    async with api(streamed(delta("first"), done=False, hang=True)) as (server, model):
        async with aclosing(streaming(model)) as stream:
            await anext(stream)
        await server.closed.wait()


async def test_a_caller_that_is_cancelled_ends_the_request() -> None:
    async with api(Answer([], hang=True)) as (server, model), anyio.create_task_group() as tasks:
        tasks.start_soon(failure, model)
        await server.asked.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await server.closed.wait()


def _call_piece(index: int | None, **piece: Any) -> dict[str, Any]:
    function = {key: piece.pop(key) for key in ("name", "arguments") if key in piece}
    place = {"index": index} if index is not None else {}
    return delta(tool_calls=[{**place, **piece, "function": function}])


async def test_tool_calls_that_come_in_pieces_are_put_together_by_index() -> None:
    events = [
        _call_piece(0, id="a", type="function", name="add", arguments=""),
        _call_piece(1, id="b", type="function", name="sub", arguments='{"x"'),
        _call_piece(0, arguments='{"a": '),
        _call_piece(1, arguments=": 5}"),
        _call_piece(0, arguments="1}"),
        delta(finish_reason="tool_calls"),
    ]
    async with api(streamed(*events)) as (_, model):
        pieces, answer = await collected(model)
    assert pieces == []
    assert answer.tool_calls == (ToolCall("a", "add", {"a": 1}), ToolCall("b", "sub", {"x": 5}))
    assert answer.finish_reason == "tool_calls"


async def test_tool_calls_without_an_index_are_put_together_by_id() -> None:
    events = [
        _call_piece(None, id="a", name="add", arguments='{"a": '),
        _call_piece(None, arguments="1}"),
        _call_piece(None, id="b", name="now", arguments="{}"),
        delta(finish_reason="tool_calls"),
    ]
    async with api(streamed(*events)) as (_, model):
        _, answer = await collected(model)
    assert answer.tool_calls == (ToolCall("a", "add", {"a": 1}), ToolCall("b", "now", {}))


async def test_bytes_may_be_split_anywhere_and_line_separators_are_text() -> None:
    text = "grün\u2028\x85\x0c☃"
    event = streamed(delta(text, finish_reason="stop"), done=False).chunks[0]
    raw = b": a comment\r\nevent: x\r\n" + event.replace(b"\n", b"\r\n") + b"data: [DONE]"
    async with api(streamed(pieces=[raw[i : i + 1] for i in range(len(raw))])) as (_, model):
        _, answer = await collected(model)
    assert answer.content == text


async def test_a_stream_without_done_is_complete_with_its_finish_reason() -> None:
    async with api(streamed(delta("Hi."), delta(finish_reason="stop"), done=False)) as (_, model):
        assert (await collected(model))[1].content == "Hi."


async def test_a_complete_answer_does_not_wait_for_a_server_that_keeps_the_stream_open() -> None:
    async with api(streamed(delta("Hi."), hang=True)) as (_, model):
        with anyio.fail_after(4):
            assert (await collected(model))[1].content == "Hi."


async def test_a_server_that_does_not_stream_is_understood() -> None:
    async with api(completion("Hi.")) as (_, model):
        pieces, answer = await collected(model)
    assert (pieces, answer.content) == (["Hi."], "Hi.")


async def test_usage_is_not_asked_for_where_the_server_refuses_that() -> None:
    async with api(streamed(delta("Hi.")), include_usage=False) as (server, model):
        _, answer = await collected(model)
    assert "stream_options" not in server.last.body
    assert answer.tokens_in is None


# --- failures ---------------------------------------------------------------------------------------------------------


@EITHER_WAY
async def test_a_refusal_carries_status_wait_and_the_api_s_own_words(*, stream: bool) -> None:
    body = {"error": {"message": "Rate limit\nreached.", "type": "x"}}
    async with api(plain(body, 429, {"Retry-After": "7"})) as (_, model):
        error = await failure(model, stream=stream)
    assert (error.provider, error.status, error.retry_after) == ("openai", 429, 7.0)
    assert str(error) == "openai: the model API answered 429 Too Many Requests: Rate limit reached. Try again in 7 s."


async def test_a_date_in_retry_after_is_a_number_of_seconds() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    async with api(*(plain({}, 503, {"Retry-After": value}) for value in (date, "soon", "-3"))) as (_, model):
        wait = (await failure(model)).retry_after
        assert wait is not None
        assert 90 < wait <= 100
        assert (await failure(model)).retry_after is None
        assert (await failure(model)).retry_after == 0.0


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b"<html>Oops</html>", "openai: the model API answered 500 Internal Server Error: <html>Oops</html>."),
        (500, b"", "openai: the model API answered 500 Internal Server Error."),
        (404, b'{"detail": "Not Found"}', "openai: the model API answered 404 Not Found: Not Found."),
        (307, b"", "openai: the model API answered 307 Temporary Redirect."),
        (599, b'{"error": "busy"}', "openai: the model API answered 599 : busy."),
    ],
)
async def test_an_error_is_told_in_a_sentence(status: int, body: bytes, sentence: str) -> None:
    async with api(plain(body, status)) as (_, model):
        error = await failure(model)
    assert (str(error), error.status) == (sentence, status)


async def test_a_long_error_is_quoted_briefly() -> None:
    async with api(plain({"error": {"message": "x" * 100_000}}, 500)) as (_, model):
        assert len(str(await failure(model))) < 500


@EITHER_WAY
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"nonsense", "openai: its answer is not a JSON object."),
        (b"[1]", "openai: its answer is not a JSON object."),
        (b"{}", "openai: its answer has no choices."),
        (b'{"choices": 1}', "openai: the 'choices' of its answer is not a list."),
        (b'{"choices": [{}]}', "openai: its answer has no message."),
        (b'{"error": {"message": "overloaded", "code": 529}}', "openai: it reports an error: overloaded"),
    ],
)
async def test_a_malformed_answer_is_told_in_a_sentence(body: bytes, sentence: str, *, stream: bool) -> None:
    async with api(plain(body)) as (_, model):
        assert str(await failure(model, stream=stream)) == sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            '{"a": ',
            "openai: the arguments of its call of the tool 'add' are not JSON (the answer was cut at the model's length limit).",
        ),
        (
            '{"a": NaN}',
            "openai: the arguments of its call of the tool 'add' are not JSON (the answer was cut at the model's length limit).",
        ),
        ("[1]", "openai: the arguments of its call of the tool 'add' are not a JSON object."),
    ],
)
async def test_tool_arguments_that_are_no_json_object_are_told_in_a_sentence(arguments: str, sentence: str) -> None:
    calls = [{"id": "a", "function": {"name": "add", "arguments": arguments}}]
    async with api(completion(tool_calls=calls, finish_reason="length")) as (_, model):
        assert str(await failure(model)) == sentence


async def test_a_malformed_piece_of_a_stream_is_told_in_a_sentence() -> None:
    async with api(streamed(pieces=[b"data: {nonsense\n\n"])) as (_, model):
        assert str(await failure(model, stream=True)) == "openai: a piece of its answer is not a JSON object."


async def test_an_error_in_the_middle_of_a_stream_is_not_a_short_answer() -> None:
    async with api(streamed(delta("Hel"), {"error": {"message": "out of memory", "code": 500}})) as (_, model):
        error = await failure(model, stream=True)
    assert (str(error), error.status) == ("openai: it reports an error: out of memory", 500)


async def test_a_stream_that_ends_too_soon_is_not_a_short_answer() -> None:
    async with api(streamed(delta("Hel"), done=False)) as (_, model):
        assert str(await failure(model, stream=True)) == "openai: the stream ended before the answer was complete."


@EITHER_WAY
async def test_a_connection_that_breaks_off_is_told_in_a_sentence(*, stream: bool) -> None:
    answer = streamed(delta("Hel"), done=False, cut=True) if stream else Answer([b'{"choices"'], cut=True)
    async with api(answer) as (_, model):
        assert str(await failure(model, stream=stream)) == "openai: the connection broke off before the answer was complete."


@EITHER_WAY
async def test_a_server_that_is_too_slow_is_left(*, stream: bool) -> None:
    async with api(streamed(delta("Hel"), done=False, hang=True), timeout=0.2) as (server, model):
        sentence = "openai: nothing came for 0.2 s." if stream else "openai: no answer within 0.2 s."
        assert str(await failure(model, stream=stream)) == sentence
        await server.closed.wait()


async def test_a_server_that_is_not_there_is_told_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        model = OpenAIModel(f"http://127.0.0.1:{taken.getsockname()[1]}", KEY)
        with anyio.fail_after(10):
            error = await failure(model)
        await model.aclose()
    assert str(error).startswith("openai: no connection to 127.0.0.1: ")
    assert error.status is None


async def test_no_model_is_told_in_a_sentence() -> None:
    async with api() as (_, model):
        with pytest.raises(ModelError, match="no model is named"):
            await model.chat("", MESSAGES)


# --- the key ----------------------------------------------------------------------------------------------------------


async def test_the_key_is_sent_in_the_authorization_header_and_nowhere_else() -> None:
    async with api(completion("Hi.")) as (server, model):
        await model.chat("m", MESSAGES)
        assert KEY not in repr(model)
    assert server.last.headers["authorization"] == f"Bearer {KEY}"
    assert server.last.raw.count(KEY.encode()) == 1


async def test_without_a_key_no_authorization_is_sent() -> None:
    async with api(completion("Hi."), api_key=None) as (server, model):
        await model.chat("m", MESSAGES)
    assert "authorization" not in server.last.headers


async def test_neither_key_nor_secret_headers_stand_in_errors() -> None:
    body = {"error": {"message": f"Incorrect API key {KEY}, header s3cret-header."}}
    async with api(plain(body, 401), headers={"api-key": "s3cret-header"}) as (server, model):
        error = await failure(model)
    assert str(error) == "openai: the model API answered 401 Unauthorized: Incorrect API key ***, header ***."
    assert server.last.headers["api-key"] == "s3cret-header"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, f"The model provider 'openai' needs an api_key: {OPENAI_URL} takes no calls without one."),
        ({"api_key": f"{KEY}\nx"}, "The api_key of the model provider 'openai' cannot be sent: it needs to be one line of ASCII."),
        (
            {"headers": {"x": f"{KEY}é"}},
            "The header 'x' of the model provider 'openai' cannot be sent: it needs to be one line of ASCII.",
        ),
        ({"base_url": "localhost:80"}, f"The base_url of the model provider 'openai' needs to be an address such as {OPENAI_URL}."),
        (
            {"base_url": "http://example.test:port"},
            f"The base_url of the model provider 'openai' needs to be an address such as {OPENAI_URL}.",
        ),
        (
            {"api_key": KEY, "timeout": 0},
            "The timeout of the model provider 'openai' is 0: it needs to be a number of seconds above 0.",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_without_quoting_a_secret(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIModel(**settings)
    assert str(caught.value) == sentence


def test_a_query_in_the_address_stays_where_it_is() -> None:
    model = OpenAIModel("https://example.test/openai/deployments/x/?api-version=1", KEY)
    assert str(model._url) == "https://example.test/openai/deployments/x/chat/completions?api-version=1"  # pyright: ignore[reportPrivateUsage]
