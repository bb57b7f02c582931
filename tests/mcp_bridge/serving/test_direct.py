"""The direct path: whatever is asked, the answer is that of the SDK's way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import pytest

from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation
from tests.mcp_bridge.helpers import Bare, Greeter, Scripted, Slow, Sums, Who
from tests.mcp_bridge.serving.twins import MODERN, PREFIX, call, headers_of, meta, old_call, twins

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.mcp_bridge.serving.twins import Answer

pytestmark = pytest.mark.anyio


class Odd(AgentProcess):
    """Says what is hard to print."""

    @operation
    async def nothing_in_it(self) -> dict[str, Any]:
        return {"none": None, "inner": {"none": None, "list": [None, 1]}, "text": 'é ☃ 😀 \u2028 " \\ \x01'}

    @operation
    async def numbers(self) -> dict[str, Any]:
        return {"nan": float("nan"), "far": 1e308, "small": 5e-324, "big": 2**70, "zero": -0.0, "int": 1.0}

    @operation
    async def word(self) -> str:
        return "é"

    @operation
    async def maybe(self) -> int | None:
        return None

    @operation
    async def several(self) -> list[dict[str, int]]:
        return [{"a": 1}]

    @operation
    async def unprintable(self) -> dict[str, Any]:
        return {"x": "\ud800"}

    @operation
    async def with_context(self, ctx: Context) -> str:
        return ctx.principal or "é"


AGENTS = (Greeter, Sums, Bare, Who, Odd)

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("greeter", {"name": "Ada"}),
    ("greeter", {"name": "Åsa ☃", "times": 2}),
    ("greeter", {"name": ""}),
    ("greeter", {"name": "x", "times": "two"}),
    ("greeter", {"nome": "x"}),
    ("sums-total", {"payload": [1, 2]}),
    ("sums-total", {"payload": ["x"]}),
    ("sums-total", {"payload": [1], "more": 2}),
    ("sums-total", {}),
    ("sums-forget", {}),
    ("sums-refuse", {}),
    ("sums-crash", {}),
    ("sums-break_contract", {}),
    ("bare", {"a": [None, {"b": None}]}),
    ("bare", {"want": "text"}),
    ("bare", {"want": "bytes"}),
    ("bare", {"want": "missing"}),
    ("who", {}),
    ("odd-nothing_in_it", {}),
    ("odd-numbers", {}),
    ("odd-word", {}),
    ("odd-maybe", {}),
    ("odd-several", {}),
    ("odd-unprintable", {}),
    ("odd-with_context", {}),
    ("nobody", {}),
]


def equal(direct: Answer, plain: Answer) -> bool:
    """Whether two answers say the same; of the old era one may be a stream and the other not."""
    kinds = {direct.kind, plain.kind}
    return direct.told == plain.told and (len(kinds) == 1 or kinds == {"application/json", "text/event-stream"})


async def test_every_call_is_answered_as_the_sdk_answers_it() -> None:
    different: list[Any] = []
    async with twins(*(agent(agent.__name__.lower()) for agent in AGENTS)) as (direct, plain):
        sessions = await direct.session(), await plain.session()
        for name, arguments in CALLS:
            message, old = call(name, arguments), old_call(name, arguments)
            new = await direct.post(message, headers_of(message)), await plain.post(message, headers_of(message))
            in_sessions = await direct.post(old, sessions[0]), await plain.post(old, sessions[1])
            different += [(name, arguments, *pair) for pair in (new, in_sessions) if not equal(*pair)]
            if new[0].kind != new[1].kind:
                different.append((name, arguments, new[0].kind, new[1].kind))
    assert different == []


def unusual() -> list[tuple[str, Any, dict[str, str]]]:
    """Requests of the new era that are a little or very odd."""
    usual = call("greeter", {"name": "Ada"})
    name = {"name": "Ada"}
    elicits: dict[str, Any] = {**meta(), f"{PREFIX}clientCapabilities": {"elicitation": {}, "sampling": {}}}
    bodies: dict[str, Any] = {
        "a progress token": call("greeter", name, envelope={**meta(), "progressToken": "t"}),
        "a log level": call("greeter", name, envelope=meta(logLevel="info")),
        "a wrong log level": call("greeter", name, envelope=meta(logLevel="loud")),
        "a trace": call("greeter", name, envelope={**meta(), "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        "a trace that is none": call("greeter", name, envelope={**meta(), "traceparent": 7}),
        "a vendor's key": call("greeter", name, envelope={**meta(), "example.com/id": {"x": 1}}),
        "a client that can be asked": call("greeter", name, envelope=elicits),
        "the same, and a handler that could": call("odd-with_context", {}, envelope=elicits),
        "capabilities that are wrong": call("greeter", name, envelope={**meta(), f"{PREFIX}clientCapabilities": {"roots": 7}}),
        "capabilities that are none": call("greeter", name, envelope={**meta(), f"{PREFIX}clientCapabilities": []}),
        "capabilities that are null": call("greeter", name, envelope={**meta(), f"{PREFIX}clientCapabilities": None}),
        "a client without a version": call("greeter", name, envelope={**meta(), f"{PREFIX}clientInfo": {"name": "x"}}),
        "a client that is null": call("greeter", name, envelope={**meta(), f"{PREFIX}clientInfo": None}),
        "no client": call("greeter", name, envelope={k: v for k, v in meta().items() if "Info" not in k}),
        "no capabilities": call("greeter", name, envelope={k: v for k, v in meta().items() if "Capa" not in k}),
        "no envelope": old_call("greeter", name),
        "another version": call("greeter", name, envelope={**meta(), f"{PREFIX}protocolVersion": "2025-11-25"}),
        "a version from the future": call("greeter", name, envelope={**meta(), f"{PREFIX}protocolVersion": "2099-01-01"}),
        "a state": call("greeter", name, requestState="x"),
        "answers": call("greeter", name, inputResponses={}),
        "a task": call("greeter", name, task={"ttl": 1}),
        "an unknown parameter": call("greeter", name, more=1),
        "no arguments": {**usual, "params": {"name": "greeter", "_meta": meta()}},
        "arguments that are null": {**usual, "params": {"name": "greeter", "arguments": None, "_meta": meta()}},
        "arguments in a list": {**usual, "params": {"name": "greeter", "arguments": [], "_meta": meta()}},
        "a name that is a number": {**usual, "params": {"name": 7, "arguments": {}, "_meta": meta()}},
        "a text as id": {**usual, "id": "é"},
        "an empty id": {**usual, "id": ""},
        "a large id": {**usual, "id": 2**63},
        "a negative id": {**usual, "id": -1},
        "an id of true": {**usual, "id": True},
        "an id of null": {**usual, "id": None},
        "a broken id": {**usual, "id": 1.5},
        "an id of 1.0": {**usual, "id": 1.0},
        "no id": {key: value for key, value in usual.items() if key != "id"},
        "another JSON-RPC": {**usual, "jsonrpc": "1.0"},
        "a member more": {**usual, "more": 1},
        "another method": {**usual, "method": "tools/list"},
        "a batch": [usual],
        "a response": {"jsonrpc": "2.0", "id": 7, "result": {}},
        "a number": 7,
        "nothing": b"",
        "no JSON": b"{",
        "NaN": json.dumps(call("bare", {"x": float("nan")})).encode(),
        "a lone surrogate": json.dumps(call("bare", {"x": "\ud800"})).encode(),
        "a member twice": json.dumps(usual).replace('"id": 7', '"id": 7, "id": 8').encode(),
        "great depth": json.dumps(usual).replace('"Ada"', "[" * 5000 + "]" * 5000).encode(),
        "a great number": json.dumps(call("bare", {"x": 0})).replace('"x": 0', '"x": ' + "9" * 5000).encode(),
        "UTF-16": json.dumps(usual).encode("utf-16"),
        "a byte order mark": json.dumps(usual).encode("utf-8-sig"),
        "bytes that are no text": json.dumps(usual).replace("Ada", "\udcff").encode("utf-8", "surrogateescape"),
        "a zero in its text": call("greeter", {"name": "a\x00b"}),
    }
    cases = [(what, body, headers_of(usual)) for what, body in bodies.items()]
    changes: dict[str, dict[str, str | None]] = {
        "no method header": {"mcp_method": None},
        "another method header": {"mcp_method": "tools/list"},
        "no name header": {"mcp_name": None},
        "another name header": {"mcp_name": "bare"},
        "a name header in base64": {"mcp_name": "=?base64?Z3JlZXRlcg==?="},
        "a version header of a list": {"mcp_protocol_version": f"{MODERN}, {MODERN}"},
        "an unknown version header": {"mcp_protocol_version": "2099-01-01"},
        "an old version header": {"mcp_protocol_version": "2025-06-18"},
        "no version header": {"mcp_protocol_version": None},
        "no kind": {"content_type": None},
        "another kind": {"content_type": "text/plain"},
        "a kind with a charset": {"content_type": "application/json; charset=utf-8"},
        "a kind in capitals": {"content_type": "Application/JSON"},
        "a kind that begins alike": {"content_type": "application/json-seq"},
        "JSON alone": {"accept": "application/json"},
        "streams alone": {"accept": "text/event-stream"},
        "anything": {"accept": "*/*"},
        "both, by halves": {"accept": "application/*;q=0.5, text/*"},
        "an empty Accept": {"accept": ""},
        "an origin": {"origin": "https://evil.example"},
        "a session beside": {"mcp_session_id": "x"},
        "a parameter header": {"mcp_param_name": "Ada"},
        "a coding": {"content_encoding": "gzip"},
        "a long body": {"x_more": "x" * 1000},
    }
    cases += [(what, usual, headers_of(usual, **change)) for what, change in changes.items()]
    return cases


async def test_what_is_unusual_is_answered_as_the_sdk_answers_it() -> None:
    different: list[Any] = []
    async with twins(Greeter("greeter"), Bare("bare"), Odd("odd")) as (direct, plain):
        sessions = await direct.session(), await plain.session()
        for what, body, headers in unusual():
            pairs = [(await direct.post(body, headers), await plain.post(body, headers))]
            both: list[Any] = [body]
            if isinstance(body, dict) and "params" in body:
                whole = cast("dict[str, Any]", body)
                params: dict[str, Any] = whole["params"]
                both.append({**whole, "params": {key: value for key, value in params.items() if key != "_meta"}})
            pairs += [(await direct.post(one, sessions[0]), await plain.post(one, sessions[1])) for one in both]
            different += [(what, *pair) for pair in pairs if not equal(*pair)]
    assert different == []


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name"])
async def test_a_header_that_comes_twice_is_refused_as_the_sdk_refuses_it(name: str) -> None:
    message = call("greeter", {"name": "Ada"})
    headers = [*headers_of(message).items(), (name, headers_of(message)[name])]
    async with twins(Greeter("greeter")) as (direct, plain):
        answers = await direct.post(message, headers), await plain.post(message, headers)
    assert equal(*answers)
    assert answers[0].status == 400


async def test_the_usual_calls_take_the_direct_path() -> None:
    message, old = call("greeter", {"name": "é"}), old_call("greeter", {"name": "é"})
    async with twins(Greeter("greeter")) as (direct, plain):
        answers = [await twin.post(message, headers_of(message)) for twin in (direct, plain)]
        in_sessions = [await twin.post(old, await twin.session()) for twin in (direct, plain)]
    assert ["é".encode() in answer.raw for answer in answers] == [True, False]  # the SDK prints it as \u00e9
    assert [answer.kind for answer in in_sessions] == ["application/json", "text/event-stream"]


async def test_a_body_in_several_parts_is_answered_directly_too() -> None:
    message = call("greeter", {"name": "é"})
    body = json.dumps(message).encode()

    async def parts() -> AsyncGenerator[bytes]:
        for begin in range(0, len(body), 50):
            yield body[begin : begin + 50]
            await anyio.lowlevel.checkpoint()

    async with twins(Greeter("greeter")) as (direct, _):
        headers = {**headers_of(message), "content-length": str(len(body))}
        response = await direct.client.post(direct.url, content=parts(), headers=headers)
    assert response.json()["result"]["structuredContent"] == {"text": "Hello, é!"}


@pytest.mark.parametrize("era", ["new", "old"])
async def test_a_body_beyond_the_limit_is_refused_as_the_sdk_refuses_it(era: str) -> None:
    message = call("greeter", {"name": "x" * 2000}) if era == "new" else old_call("greeter", {"name": "x" * 2000})
    async with twins(Greeter("greeter"), body_limit=1000) as (direct, plain):
        answers = [
            await twin.post(message, headers_of(message) if era == "new" else await twin.session()) for twin in (direct, plain)
        ]
    assert equal(*answers)
    assert answers[0].status == 413


async def test_a_call_that_its_client_takes_back_is_cancelled_and_told_so() -> None:
    slow = Slow("slow")
    answers: list[Answer] = []
    with anyio.fail_after(20):
        async with twins(slow) as (direct, _):
            session = await direct.session()
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    answers.append(await direct.post(old_call("slow-wait", request_id="7"), session))

                tasks.start_soon(ask)
                await slow.began.wait()
                taken_back = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
                assert (await direct.post(taken_back, session)).status == 202
                await slow.cancelled.wait()
    assert answers[0].message["error"]["code"] == -32800


class Relay(AgentProcess):
    """Asks another agent, and so waits where that does."""

    @operation
    async def pass_on(self) -> str:
        return str((await self.ask("asks", {}, "act")).payload)


@pytest.mark.parametrize("asks", ["directly", "by way of another agent"])
async def test_what_a_handler_asks_a_client_is_asked_though_its_call_was_direct(asks: str) -> None:
    async def who(ctx: Context) -> str:
        return f"Hello, {await ctx.wait_input('Who?', str)}!"

    name = "asks" if asks == "directly" else "relay"
    able: dict[str, Any] = {**meta(), f"{PREFIX}clientCapabilities": {"elicitation": {"form": {}}}}
    first = call(name, envelope=able)
    async with twins(Scripted("asks", who), Relay("relay")) as both:
        rounds = [await twin.post(first, headers_of(first)) for twin in both]
        results = [answer.message["result"] for answer in rounds]
        second = [
            call(
                name,
                envelope=able,
                requestState=result["requestState"],
                inputResponses={
                    key: {"action": "accept", "content": dict.fromkeys(request["params"]["requestedSchema"]["properties"], "Ada")}
                    for key, request in result["inputRequests"].items()
                },
            )
            for result in results
        ]
        ends = [await twin.post(message, headers_of(message)) for twin, message in zip(both, second, strict=True)]
        unable = [await twin.post(call(name), headers_of(first)) for twin in both]
    assert results[0]["resultType"] == results[1]["resultType"] == "input_required"
    assert equal(*ends)
    assert "Hello, Ada!" in json.dumps(ends[0].message)
    assert equal(*unable)
    assert (unable[0].status, unable[0].message["error"]["code"]) == (400, -32021)


@pytest.mark.parametrize("era", ["new", "old"])
async def test_a_call_that_takes_longer_than_its_client_waits_is_told_to_be_running(era: str) -> None:
    message = call("slow-wait") if era == "new" else old_call("slow-wait")
    async with twins(Slow("slow"), client_limit=0.3) as both:
        answers = [await twin.post(message, headers_of(message) if era == "new" else await twin.session()) for twin in both]
    texts = [answer.message["result"]["content"][0]["text"] for answer in answers]
    assert all("still running" in text for text in texts)
    assert {answer.status for answer in answers} == {200}


async def test_a_client_of_the_old_era_that_leaves_does_not_cancel_its_call() -> None:
    slow = Slow("slow")
    async with twins(slow) as (direct, _):
        session = await direct.session()
        with anyio.move_on_after(20), anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(direct.post, old_call("slow-wait"), session)
                await slow.began.wait()
                await anyio.sleep(0.2)
                scope.cancel()
        listed = await direct.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, session)
        assert listed.status == 200
        assert not slow.cancelled.is_set()
        await direct.client.delete(direct.url, headers=session)  # the end of the session is the end of its calls
        with anyio.fail_after(20):
            await slow.cancelled.wait()


async def test_a_client_of_the_new_era_that_leaves_cancels_its_call() -> None:
    slow = Slow("slow")
    message = call("slow-wait")
    async with twins(slow) as (direct, _):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(direct.post, message, headers_of(message))
                await slow.began.wait()
                tasks.cancel_scope.cancel()
            await slow.cancelled.wait()


async def test_calls_of_many_at_once_each_get_their_own_answer() -> None:
    async with twins(Greeter("greeter")) as (direct, _):
        session = await direct.session()
        answers: dict[int, Any] = {}

        async def ask(number: int) -> None:
            old = number % 2 == 0
            message = (old_call if old else call)("greeter", {"name": str(number)}, request_id=number)
            answers[number] = (await direct.post(message, session if old else headers_of(message))).message

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(ask, number)
    assert [answers[number]["id"] for number in range(60)] == list(range(60))
    texts = [answers[number]["result"]["structuredContent"]["text"] for number in range(60)]
    assert texts == [f"Hello, {number}!" for number in range(60)]
