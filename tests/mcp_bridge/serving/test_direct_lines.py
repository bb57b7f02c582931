"""The direct path over stdio: whatever is asked, the answers are those of the SDK's way, each a whole line."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.pipes import read_lines, write_all
from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.stdio import serve_stdio
from portico.mcp_bridge.wire import Wire
from portico.runs.dispatcher import Dispatcher
from tests.mcp_bridge.helpers import Bare, Greeter, Scripted, Slow, Sums
from tests.mcp_bridge.serving.test_direct import CALLS, Odd
from tests.mcp_bridge.serving.twins import PREFIX, call, meta, old_call, steady

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import Context

pytestmark = pytest.mark.anyio

ERAS = ["new", "old"]


class Client:
    """Writes lines, and reads them."""

    def __init__(self, writes: int, lines: AsyncIterator[bytes]) -> None:
        self._writes = writes
        self._lines = lines

    async def say(self, *messages: Any) -> None:
        """Write these messages at once."""
        lines = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
        await write_all(self._writes, b"".join(line + b"\n" for line in lines))

    async def hear(self) -> bytes:
        """The next line."""
        with anyio.fail_after(30):
            return await anext(self._lines)

    async def open(self, era: str, capabilities: Any = None) -> None:
        """Open the connection."""
        if era == "new":
            await self.say({"jsonrpc": "2.0", "id": "open", "method": "tools/list", "params": {"_meta": meta()}})
            await self.hear()
            return
        client = {"protocolVersion": "2025-11-25", "capabilities": capabilities or {}, "clientInfo": {"name": "t", "version": "1"}}
        await self.say({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": client})
        await self.hear()
        await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})


@asynccontextmanager
async def connected(*agents: AgentProcess, direct: bool = True) -> AsyncGenerator[Client]:
    """A client of these agents, over pipes."""
    (our_reads, their_writes), (their_reads, our_writes) = os.pipe(), os.pipe()
    try:
        async with Runtime(Supervisor("root", children=list(agents))) as runtime, anyio.create_task_group() as tasks:
            options = ServingOptions(direct=direct)
            serve = partial(serve_stdio, Dispatcher(runtime), Wire(their_reads, their_writes), options=options)
            tasks.start_soon(serve)
            yield Client(our_writes, read_lines(our_reads))
            tasks.cancel_scope.cancel()
    finally:
        for descriptor in (our_reads, their_writes, their_reads, our_writes):
            os.close(descriptor)


@pytest.mark.parametrize("era", ERAS)
async def test_every_call_is_answered_as_the_sdk_answers_it(era: str) -> None:
    make = call if era == "new" else old_call
    usual = make("greeter", {"name": "Ada"})
    messages = [make(name, arguments, request_id=number) for number, (name, arguments) in enumerate(CALLS) if name != "who"]
    messages += [
        make("greeter", {"name": "Ada"}, request_id="text"),
        make("greeter", {"name": "Ada"}, request_id="unknown parameter", more=1),
        {**usual, "id": "member more", "more": 1},
        {**make("greeter", None, request_id="method"), "method": "tools/nothing"},
        {**usual, "id": "no arguments", "params": {**usual["params"], "arguments": None}},
    ]
    if era == "new":
        messages.append(call("greeter", {"name": "Ada"}, envelope=meta(logLevel="loud"), request_id="level"))
        messages.append(call("greeter", {"name": "Ada"}, envelope={**meta(), f"{PREFIX}protocolVersion": "1"}, request_id="old"))
        messages.append(old_call("greeter", {"name": "Ada"}, request_id="no envelope"))
    else:
        messages.append(call("greeter", {"name": "Ada"}, request_id="envelope"))
    answers: list[dict[Any, Any]] = []
    for direct in (True, False):
        async with connected(Greeter("greeter"), Sums("sums"), Bare("bare"), Odd("odd"), direct=direct) as client:
            await client.open(era)
            told: dict[Any, Any] = {}
            for message in messages:
                await client.say(message)
                answer = json.loads(await client.hear())
                assert answer["id"] == message["id"]
                told[answer["id"]] = steady(answer)
            answers.append(told)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("era", ERAS)
async def test_many_at_once_each_get_their_own_whole_answer(era: str) -> None:
    make = call if era == "new" else old_call
    async with connected(Greeter("greeter")) as client:
        await client.open(era)
        calls = [make("greeter", {"name": "é" * (number * 50 + 1)}, request_id=number) for number in range(100)]
        await client.say(*(one for number, message in enumerate(calls) for one in (message, ping(era, number))))
        lines = [await client.hear() for _ in range(200)]
    answers = {message["id"]: message for message in map(json.loads, lines)}
    for number in range(100):
        assert answers[number]["result"]["structuredContent"] == {"text": f"Hello, {'é' * (number * 50 + 1)}!"}
        assert "result" in answers[f"other {number}"]


def ping(era: str, number: int) -> dict[str, Any]:
    """What the SDK answers."""
    params = {"_meta": meta()} if era == "new" else {}
    return {"jsonrpc": "2.0", "id": f"other {number}", "method": "tools/list", "params": params}


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_taken_back_is_cancelled_and_not_answered(era: str) -> None:
    slow = Slow("slow")
    make = call if era == "new" else old_call
    async with connected(slow, Greeter("greeter")) as client:
        await client.open(era)
        await client.say(make("slow-wait", request_id=7))
        with anyio.fail_after(30):
            await slow.began.wait()
            await client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
            await slow.cancelled.wait()
        await client.say(make("greeter", {"name": "Ada"}, request_id=8))
        answer = json.loads(await client.hear())
    assert answer["id"] == 8


async def test_a_handler_that_asks_a_client_over_stdio_is_answered_though_its_call_was_direct() -> None:
    async def who(ctx: Context) -> str:
        return f"Hello, {await ctx.wait_input('Who?', str)}!"

    async with connected(Scripted("asks", who)) as client:
        await client.open("old", {"elicitation": {}})
        await client.say(old_call("asks", request_id=7))
        question = json.loads(await client.hear())
        assert question["method"] == "elicitation/create"
        (member,) = question["params"]["requestedSchema"]["properties"]
        answer = {"action": "accept", "content": {member: "Ada"}}
        await client.say({"jsonrpc": "2.0", "id": question["id"], "result": answer})
        told = json.loads(await client.hear())
    assert told["id"] == 7
    assert told["result"]["content"][0]["text"] == "Hello, Ada!"


async def test_when_the_client_closes_what_is_in_flight_is_cancelled() -> None:
    slow, last = Slow("slow"), cast("dict[str, Any]", {})
    (our_reads, their_writes), (their_reads, our_writes) = os.pipe(), os.pipe()
    lines = read_lines(our_reads)
    async with Runtime(Supervisor("root", children=[slow])) as runtime, anyio.create_task_group() as tasks:
        tasks.start_soon(serve_stdio, Dispatcher(runtime), Wire(their_reads, their_writes))
        client = Client(our_writes, lines)
        await client.open("old")
        await client.say(old_call("slow-wait", request_id="é"))
        with anyio.fail_after(30):
            await slow.began.wait()
            os.close(our_writes)
            await slow.cancelled.wait()
        last = json.loads(await client.hear())
    for descriptor in (our_reads, their_writes, their_reads):
        os.close(descriptor)
    assert last["id"] == "é"
    assert last["error"]["code"] == -32000
