"""Calls of several rounds (MCP 2026-07-28) at the wire: what a state is good for, who may use it, and for how long."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from portico.errors import InputTimeout
from portico.kernel.clock import SystemClock
from portico.kernel.questions import Question
from portico.mcp_bridge.serving import rounds
from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.request_state import Binding, RequestStates
from portico.runs.status import RunStatus
from tests.mcp_bridge.helpers import Scripted, gateway, until

if TYPE_CHECKING:
    from portico.kernel.protocols import Context
    from portico.mcp_bridge.serving.http import MCPEndpoint
    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

VERSION = "2026-07-28"
ALL: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}


async def post(url: str, tool: str = "scripted", *, who: str | None = None, **params: Any) -> httpx2.Response:
    """One `tools/call`, as a client writes it."""
    about = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": ALL}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}, "_meta": about, **params},
    }
    head = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": "tools/call",
        "mcp-name": tool,
        **({"x-who": who} if who is not None else {}),
    }
    async with httpx2.AsyncClient(timeout=20) as http:
        return await http.post(url, json=body, headers=head)


async def result(url: str, **params: Any) -> dict[str, Any]:
    answer = (await post(url, **params)).json()
    assert "result" in answer, answer
    return answer["result"]


def accept(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


async def asks(ctx: Context) -> str:
    return f"Hello, {await ctx.wait_input('Who?', str)}!"


async def asks_twice(ctx: Context) -> str:
    return f"{await ctx.wait_input('First?', str)} {await ctx.wait_input('Second?', str)}"


async def asks_both(ctx: Context) -> str:
    answers = await ctx.wait_inputs({"a": Question.input("A?", str), "b": Question.input("B?", str)})
    return f"{answers['a']} {answers['b']}"


def book_run(endpoint: MCPEndpoint, run_id: str) -> Run:
    run = endpoint.served.dispatcher.book.plain.find(run_id)
    assert run is not None
    return run


async def test_a_round_ends_with_what_is_asked_and_the_next_one_goes_on() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, endpoint):
        first = await result(url)
        waiting = book_run(endpoint, first["_meta"]["portico/run_id"])
        status, paused = waiting.status, len(endpoint.served.rounds)
        second = await result(url, requestState=first["requestState"], inputResponses={"input": accept(answer="Ada")})
        left = len(endpoint.served.rounds)
    assert first["resultType"] == "input_required"
    assert first["inputRequests"]["input"]["method"] == "elicitation/create"
    assert (status, paused, left) == (RunStatus.WAITING, 1, 0)
    assert (second["resultType"], second["content"][0]["text"]) == ("complete", "Hello, Ada!")
    assert second["_meta"]["portico/run_id"] == first["_meta"]["portico/run_id"]


async def test_the_same_retry_twice_is_one_answer_and_the_same_end() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, _):
        state = (await result(url))["requestState"]
        retry = {"requestState": state, "inputResponses": {"input": accept(answer="Ada")}}
        ends = [await result(url, **retry), await result(url, **retry)]
        other = await result(url, requestState=state, inputResponses={"input": accept(answer="Eve")})
    assert [end["content"][0]["text"] for end in (*ends, other)] == ["Hello, Ada!"] * 3


async def test_a_state_of_an_earlier_round_answers_no_later_question() -> None:
    async with gateway(Scripted("scripted", asks_twice)) as (url, _):
        first = await result(url)
        second = await result(url, requestState=first["requestState"], inputResponses={"input": accept(answer="one")})
        again = await result(url, requestState=first["requestState"], inputResponses={"input": accept(answer="another")})
        end = await result(url, requestState=again["requestState"], inputResponses={"input": accept(answer="two")})
    assert second["inputRequests"]["input"]["params"]["message"] == "Second?"
    assert again["inputRequests"]["input"]["params"]["message"] == "Second?"
    assert end["content"][0]["text"] == "one two"


async def test_what_is_missing_is_asked_for_again_and_what_has_come_is_kept() -> None:
    async with gateway(Scripted("scripted", asks_both)) as (url, _):
        first = await result(url)
        second = await result(url, requestState=first["requestState"], inputResponses={"a": accept(answer="1"), "x": accept()})
        third = await result(url, requestState=second["requestState"], inputResponses={"b": accept(answer="2")})
    assert (set(first["inputRequests"]), set(second["inputRequests"])) == ({"a", "b"}, {"b"})
    assert third["content"][0]["text"] == "1 2"


async def test_an_answer_that_is_not_valid_is_asked_for_again() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, _):
        state = (await result(url))["requestState"]
        wrong: list[dict[str, Any]] = [accept(answer=7), accept(), {"roots": []}]
        for response in wrong:
            again = await result(url, requestState=state, inputResponses={"input": response})
            state = again["requestState"]
            assert "not valid" in again["inputRequests"]["input"]["params"]["message"]
        refused = (await post(url, requestState=state, inputResponses={"input": 12345})).json()
        end = await result(url, requestState=state, inputResponses={"input": accept(answer="Ada")})
    assert refused["error"]["code"] == -32602
    assert end["content"][0]["text"] == "Hello, Ada!"


async def test_a_first_call_may_bring_the_answers_along() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, _):
        end = await result(url, inputResponses={"input": accept(answer="Ada"), "other": accept()})
    assert end["content"][0]["text"] == "Hello, Ada!"


# --- states that lead nowhere -----------------------------------------------------------------------------------------


def turned(state: str, at: int) -> str:
    """A state with one bit of it changed."""
    head, text = state.split(".")
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[at] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(bytes(raw)).decode().rstrip('=')}"


def is_invalid(response: httpx2.Response) -> bool:
    error = response.json().get("error", {})
    return response.status_code == 400 and error.get("code") == -32602 and error["data"] == {"reason": "invalid_request_state"}


async def test_a_state_that_was_tampered_with_is_refused_and_the_run_waits_on() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, endpoint):
        first = await result(url)
        state, answers = first["requestState"], {"input": accept(answer="Eve")}
        bad = [turned(state, at) for at in (0, 5, 20, -1)] + [
            "",
            "x",
            "v1.",
            "v2" + state[2:],
            state + "A",
            state[:-4],
            "é",
            "v1.AAAA",
        ]
        refused = [await post(url, requestState=one, inputResponses=answers) for one in bad]
        status = book_run(endpoint, first["_meta"]["portico/run_id"]).status
        end = await result(url, requestState=state, inputResponses={"input": accept(answer="Ada")})
    assert [is_invalid(one) for one in refused] == [True] * len(bad)
    assert status is RunStatus.WAITING
    assert end["content"][0]["text"] == "Hello, Ada!"


async def test_a_state_is_good_for_its_own_request_and_caller_alone() -> None:
    async with gateway(Scripted("scripted", asks), Scripted("other", asks)) as (url, _):
        state = (await result(url, who="ada"))["requestState"]
        answers = {"input": accept(answer="me")}
        refused = [
            await post(url, who="eve", requestState=state, inputResponses=answers),
            await post(url, requestState=state, inputResponses=answers),
            await post(url, "other", who="ada", requestState=state, inputResponses=answers),
        ]
        end = await result(url, who="ada", requestState=state, inputResponses=answers)
    assert [is_invalid(one) for one in refused] == [True] * 3
    assert end["content"][0]["text"] == "Hello, me!"


async def test_a_state_of_another_server_is_refused() -> None:
    async with gateway(Scripted("scripted", asks)) as (url, _):
        state = (await result(url))["requestState"]
    async with gateway(Scripted("scripted", asks)) as (url, _):
        assert is_invalid(await post(url, requestState=state, inputResponses={"input": accept(answer="me")}))


def test_a_state_grows_too_old_and_is_bound_to_everything() -> None:
    class Clock(SystemClock):
        at = 1000.0

        def time(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
            return self.at

    clock = Clock()
    states, mine = RequestStates(clock, 60.0), Binding("tools/call", "a", {"x": 1, "y": [2]}, "ada")
    state = states.seal("run", "key", mine)
    assert states.open(state, Binding("tools/call", "a", {"y": [2], "x": 1}, "ada")) == ("run", "key")
    others = [
        Binding("prompts/get", "a", mine.arguments, "ada"),
        Binding("tools/call", "b", mine.arguments, "ada"),
        Binding("tools/call", "a", {"x": 1, "y": [3]}, "ada"),
        Binding("tools/call", "a", mine.arguments, None),
    ]
    for other in others:
        with pytest.raises(Exception, match="requestState"):
            states.open(state, other)
    clock.at += 60.0
    assert states.open(state, mine) == ("run", "key")
    clock.at += 0.1
    with pytest.raises(Exception, match="requestState"):
        states.open(state, mine)


# --- clients that do not come back ------------------------------------------------------------------------------------


async def test_a_run_whose_client_does_not_come_back_ends_and_is_forgotten() -> None:
    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", asks), options=ServingOptions(input_timeout=0.2)) as (url, endpoint):
            first = await result(url)
            run = book_run(endpoint, first["_meta"]["portico/run_id"])
            await run.wait()
            left = len(endpoint.served.rounds)
            late = await post(url, requestState=first["requestState"], inputResponses={"input": accept(answer="late")})
    assert isinstance(run.error, InputTimeout)
    assert left == 0
    assert is_invalid(late) or late.json()["result"]["isError"]


async def test_a_client_that_goes_away_in_a_later_round_cancels_its_run() -> None:
    began = asyncio.Event()

    async def script(ctx: Context) -> None:
        await ctx.wait_input("Who?", str)
        began.set()
        await asyncio.Event().wait()

    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", script)) as (url, endpoint):
            first = await result(url)
            async with asyncio.TaskGroup() as tasks:
                answers = {"input": accept(answer="me")}
                retry = tasks.create_task(post(url, requestState=first["requestState"], inputResponses=answers))
                await began.wait()
                retry.cancel()
            run = book_run(endpoint, first["_meta"]["portico/run_id"])
            await run.wait()
    assert run.status is RunStatus.CANCELLED


async def test_nobody_can_pile_up_runs_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_OF_ONE", 2)
    monkeypatch.setattr(rounds, "MOST", 3)
    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", asks)) as (url, endpoint):
            kept = [await result(url, who="eve") for _ in range(2)]
            refused = await result(url, who="eve")
            kept.append(await result(url, who="ada"))
            full = await result(url, who="bob")
            one = kept[0]["requestState"]
            end = await result(url, who="eve", requestState=one, inputResponses={"input": accept(answer="Eve")})
            kept.append(await result(url, who="eve"))
            run = book_run(endpoint, refused["_meta"]["portico/run_id"])
            await until(lambda: run.done)
    assert [one["resultType"] for one in kept] == ["input_required"] * 4
    for answer in (refused, full):
        assert answer["_meta"]["portico/error"]["slug"] == "too-many-asks"
    assert end["content"][0]["text"] == "Hello, Eve!"
    assert run.status is RunStatus.CANCELLED


async def test_what_somebody_else_has_answered_meanwhile_is_the_end_of_the_next_round() -> None:
    with anyio.fail_after(30):
        async with gateway(Scripted("scripted", asks)) as (url, endpoint):
            first = await result(url)
            run = book_run(endpoint, first["_meta"]["portico/run_id"])
            await endpoint.served.dispatcher.book.answer(run, "somebody")
            await run.wait()
            end = await result(url, requestState=first["requestState"], inputResponses={"input": accept(answer="me")})
    assert end["content"][0]["text"] == "Hello, somebody!"
