"""Every name of both clients, against a gateway on a real socket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from portico import AgentProcess, Context, operation, route
from portico.client import (
    AgentCrashed,
    AgentError,
    Conflict,
    ContractViolated,
    DeadlineExceeded,
    InvalidResponse,
    NotFound,
    PorticoAPIError,
    RunCancelled,
    ServerError,
    StillRunning,
    Unauthenticated,
)
from portico.errors import ConfigurationError, InvalidPayload
from tests.app.serving import served
from tests.client.faces import Face, facing
from tests.routes.agents import Crashing, Echo, Echoed, Errors, Replies, Slow, Teller, Words
from tests.webhooks.receivers import SECRET, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Desk(AgentProcess):
    """Says, and asks a person."""

    @route("GET", "/say/{text}")
    @operation
    async def say(self, text: str, times: int = 1) -> str:
        return " ".join([text] * times)

    @operation
    async def approve(self, ctx: Context) -> bool:
        return await ctx.wait_input("Sure?", {"type": "boolean"})


class Bomb(AgentProcess):
    """Crashes on a send until it is defused."""

    defused = False

    @operation
    async def tick(self) -> None:
        if not self.defused:
            raise RuntimeError("boom")


@asynccontextmanager
async def desk(kind: str, *agents: AgentProcess, **options: Any) -> AsyncGenerator[tuple[Face, Served]]:
    for agent in agents:
        agent.expose = True
    async with served(*agents) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}", **options) as face:
        yield face, gateway


# --- ask, send, submit ------------------------------------------------------------------------------------------------


async def test_an_ask_returns_the_reply_as_plain_data_or_as_a_type(kind: str) -> None:
    async with desk(kind, Echo("echo")) as (face, _):
        assert await face.call("ask", "echo", {"text": "hi"}) == {"echo": "hi"}
        assert await face.call("ask", "echo", Words(text="hi", times=2), response=Echoed) == Echoed(echo="hi hi")
        assert await face.call("ask", "echo", {"text": "hi"}, response=dict[str, str]) == {"echo": "hi"}


async def test_a_reply_may_be_nothing_or_bytes(kind: str) -> None:
    replies = Replies("replies")
    async with desk(kind, Errors("errors"), replies) as (face, gateway):
        agent: Any = gateway.runtime.get_agent("replies")
        agent.answer = b"\xff\x00"

        assert await face.call("ask", "errors", operation="quiet") is None
        assert await face.call("ask", "replies") == b"\xff\x00"
        assert await face.call("ask", "replies", response=bytes) == b"\xff\x00"


async def test_a_reply_that_is_not_of_the_type_says_where(kind: str) -> None:
    @dataclass
    class Other:
        echo: list[int]

    async with desk(kind, Echo("echo")) as (face, _):
        with pytest.raises(InvalidResponse, match="is not a Other at /echo") as caught:
            await face.call("ask", "echo", {"text": "hi"}, response=Other)

    assert [fault["path"] for fault in caught.value.faults] == ["/echo"]


async def test_a_key_makes_an_ask_happen_once(kind: str) -> None:
    Echo.handled = 0
    async with desk(kind, Echo("echo")) as (face, _):
        for _ in range(3):
            assert await face.call("ask", "echo", {"text": "hi"}, idempotency_key="mine") == {"echo": "hi"}
        assert Echo.handled == 1
        with pytest.raises(Conflict, match="was used for another request"):
            await face.call("ask", "echo", {"text": "ho"}, idempotency_key="mine")
        for _ in range(2):
            await face.call("ask", "echo", {"text": "hi"}, idempotency_key=True)
        assert Echo.handled == 3


async def test_an_ask_that_waits_ends_or_is_still_running(kind: str) -> None:
    slow = Slow("slow")
    async with desk(kind, slow, Echo("echo")) as (face, gateway):
        assert await face.call("ask", "echo", {"text": "hi"}, wait=10) == {"echo": "hi"}
        with pytest.raises(StillRunning) as caught:
            await face.call("ask", "slow", operation="wait", wait=0.05)
        running: Any = gateway.runtime.get_agent("slow")
        running.go_on.set()
        run = await face.call("runs.wait", caught.value.run_id, timeout=10)

    assert (run.status, run.output, run.ended, run.succeeded) == ("succeeded", "done", True, True)


async def test_a_send_and_a_submit_return_where_to_find_their_run(kind: str) -> None:
    async with desk(kind, Echo("echo")) as (face, _):
        sent = await face.call("send", "echo", {"text": "hi"})
        asked = await face.call("submit", "echo", {"text": "hi"}, idempotency_key="mine")
        again = await face.call("submit", "echo", {"text": "hi"}, idempotency_key="mine")
        run = await face.call("runs.wait", asked.run_id, timeout=10)

        assert (await face.call("runs.wait", sent.run_id, timeout=10)).succeeded
    assert again.run_id == asked.run_id
    assert (asked.replayed, again.replayed) == (False, True)
    assert run.output == {"echo": "hi"}


async def test_a_declared_route_is_called_by_its_path(kind: str) -> None:
    async with desk(kind, Desk("desk")) as (face, _):
        assert await face.call("request", "get", "/say/a%20b", query={"times": 2}) == "a b a b"
        assert await face.call("request", "GET", "livez", response=dict[str, Any])
        assert await face.call("request", "HEAD", "/livez") is None


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_the_class_of_an_error_says_what_happened(kind: str) -> None:
    async with desk(kind, Echo("echo"), Errors("errors"), Crashing("crashing"), Slow("slow")) as (face, _):
        cases: list[tuple[type[PorticoAPIError], int, str, dict[str, Any]]] = [
            (NotFound, 404, "agent-not-found", {"agent": "eco"}),
            (NotFound, 404, "operation-not-found", {"agent": "errors", "operation": "by"}),
            (AgentError, 409, "sold-out", {"agent": "errors", "operation": "buy", "payload": {"item": "tart"}}),
            (AgentError, 418, "teapot", {"agent": "errors", "operation": "teapot"}),
            (ServerError, 500, "no-reply", {"agent": "errors", "operation": "silence"}),
            (AgentCrashed, 502, "agent-crashed", {"agent": "crashing", "operation": "once"}),
            (DeadlineExceeded, 504, "deadline-exceeded", {"agent": "slow", "operation": "hastily"}),
        ]
        for expected, status, slug, call in cases:
            with pytest.raises(expected) as caught:
                await face.call("ask", timeout=0.2 if slug == "deadline-exceeded" else None, **call)
            error = caught.value
            assert type(error) is expected
            assert (error.status, error.slug) == (status, slug)
            assert error.detail == str(error)
            assert error.request_id
            if slug == "sold-out":
                assert error.extra == {"left": 0}


async def test_a_violated_contract_tells_every_fault(kind: str) -> None:
    async with desk(kind, Echo("echo")) as (face, _):
        with pytest.raises(ContractViolated, match="at /text") as caught:
            await face.call("ask", "echo", {"times": 99})

    assert sorted(fault["path"] for fault in caught.value.faults) == ["/text", "/times"]


async def test_without_the_right_key_it_is_unauthenticated(kind: str) -> None:
    async with served(Echo("echo"), api_key="right") as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        async with facing(kind, url, api_key="right") as face:
            assert await face.call("ask", "echo", {"text": "hi"}) == {"echo": "hi"}
        async with facing(kind, url, api_key="wrong") as face:
            with pytest.raises(Unauthenticated) as caught:
                await face.call("ask", "echo", {"text": "hi"})

    assert caught.value.status == 401


@pytest.mark.parametrize("options", [{"url": "localhost:8080"}, {"url": "http://"}, {"api_key": "a\nsecret"}], ids=str)
async def test_an_address_or_a_key_that_can_be_none_is_refused_at_once(kind: str, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with facing(kind, **{"url": "http://localhost", **options}):
            pass

    assert "secret" not in str(caught.value)


async def test_what_cannot_be_sent_is_refused_before_it_is(kind: str) -> None:
    async with facing(kind, "http://127.0.0.1:9") as face:
        with pytest.raises(InvalidPayload, match="'echo' is not JSON-able"):
            await face.call("ask", "echo", {"text": object()})
        with pytest.raises(ConfigurationError, match=r"'\.\.' names nothing"):
            await face.call("ask", "..")


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_tells_its_events_and_ends_with_the_reply(kind: str) -> None:
    async with desk(kind, Teller("teller")) as (face, _):
        followed = await face.follow("stream", "teller", operation="tell", response=str)

    assert [event.type for event in followed.events] == ["run.started", *["progress"] * 3, "run.succeeded"]
    assert followed.numbers == [1, 2, 3, 4, 5]
    assert followed.events[1].data == {"done": 1, "total": 3, "note": "step 1"}
    assert followed.events[0].at <= datetime.now(UTC)
    assert (followed.result, followed.error) == ("told", None)
    assert followed.stream.run_id
    assert followed.stream.last_event_id == 5


@pytest.mark.parametrize("key", [True, False], ids=["stored", "plain"])
async def test_a_stream_of_a_run_that_fails_ends_with_its_error(kind: str, key: bool) -> None:  # noqa: FBT001
    async with desk(kind, Teller("teller")) as (face, _):
        followed = await face.follow("stream", "teller", operation="fail_late", idempotency_key=key)

    assert [event.type for event in followed.events] == ["run.started", "progress", "run.failed"]
    assert isinstance(followed.error, AgentCrashed)
    assert followed.error.run_id == followed.stream.run_id


async def test_what_is_refused_before_the_first_event_is_raised_by_the_stream(kind: str) -> None:
    async with desk(kind, Echo("echo")) as (face, _):
        followed = await face.follow("stream", "echo", {"txt": 1})

    assert isinstance(followed.error, ContractViolated)
    assert followed.events == []


async def test_a_stream_that_is_left_lets_its_stored_run_go_on(kind: str) -> None:
    async with desk(kind, Slow("slow")) as (face, gateway):
        agent: Any = gateway.runtime.get_agent("slow")
        stream: Any = face.client.stream("slow", operation="wait")
        if kind == "blocking":
            await to_thread.run_sync(next, stream)
            await to_thread.run_sync(stream.close)
        else:
            async with stream:
                await anext(stream)
        await agent.began.wait()
        agent.go_on.set()

        assert (await face.call("runs.wait", stream.run_id, timeout=10)).output == "done"


# --- runs -------------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_run_is_told_and_told_again(kind: str) -> None:
    settings: dict[str, Any] = {"callback_secret": SECRET, "callback_allowed_hosts": ("127.0.0.1",)}
    async with (
        receiving() as receiver,
        served(Echo("echo"), **settings) as gateway,
        facing(kind, f"http://127.0.0.1:{gateway.port}") as face,
    ):
        run = await face.call("runs.start", "echo", {"text": "hi"}, callback_url=receiver.url())
        await receiver.has(1)
        assert (await face.call("runs.redeliver", run.run_id)).run_id == run.run_id
        (await receiver.has(2)).check()
        without = await face.call("runs.start", "echo", {"text": "hi"})
        with pytest.raises(Conflict):
            await face.call("runs.redeliver", without.run_id)


async def test_a_run_is_started_read_listed_and_followed(kind: str) -> None:
    async with desk(kind, Echo("echo"), Teller("teller")) as (face, _):
        chosen = await face.call("runs.start", "echo", {"text": "hi"}, run_id="mine", metadata={"for": "me"})
        assert (chosen.run_id, chosen.status) == ("mine", "queued")
        run = await face.call("runs.get", "mine", wait=10)
        assert (run.agent, run.output, run.metadata, run.error) == ("echo", {"echo": "hi"}, {"for": "me"}, None)
        later = await face.call("runs.start", "teller", operation="tell", delay=datetime.now(UTC) + timedelta(hours=1))
        for _ in range(3):
            await face.call("runs.start", "echo", {"text": "hi"}, delay=3600)

        assert len(await face.call("runs.list", status="queued", page=2)) == 4
        assert len(await face.call("runs.list", page=2, limit=3)) == 3
        assert [one.run_id for one in await face.call("runs.list", agent="teller")] == [later.run_id]
        followed = await face.follow("runs.events", "mine")
        assert [event.type for event in followed.events] == ["run.started", "run.succeeded"]
        assert (followed.error, followed.result) == (None, {"echo": "hi"})
        assert (await face.follow("runs.events", "mine", after=1)).numbers == [2]


async def test_a_run_is_cancelled(kind: str) -> None:
    async with desk(kind, Slow("slow")) as (face, _):
        started = await face.call("runs.start", "slow", operation="wait")
        assert (await face.call("runs.cancel", started.run_id)).status == "cancelled"
        assert (await face.call("runs.cancel", started.run_id)).status == "cancelled"
        followed = await face.follow("runs.events", started.run_id)
        assert followed.events[-1].type == "run.cancelled"
        assert isinstance(followed.error, RunCancelled)
        with pytest.raises(RunCancelled):
            await face.call("ask", "slow", operation="wait", idempotency_key=await _cancelled(face))


async def _cancelled(face: Face) -> str:
    """The key of a call that was cancelled."""
    asked = await face.call("submit", "slow", operation="wait", idempotency_key="unwanted")
    await face.call("runs.cancel", asked.run_id)
    return "unwanted"


async def test_a_run_that_waits_is_given_its_input_once(kind: str) -> None:
    async with desk(kind, Desk("desk")) as (face, _):
        asked = await face.call("submit", "desk", operation="approve")
        with pytest.raises(StillRunning):
            await face.call("runs.wait", asked.run_id, timeout=0.3)
        waiting = await face.call("runs.get", asked.run_id)
        assert waiting.waiting_for["prompt"] == "Sure?"
        with pytest.raises(ContractViolated):
            await face.call("runs.input", asked.run_id, "perhaps")
        await face.call("runs.input", asked.run_id, True)
        assert (await face.call("runs.wait", asked.run_id, timeout=10)).output is True
        with pytest.raises(Conflict, match="waits for no input"):
            await face.call("runs.input", asked.run_id, False)
        with pytest.raises(NotFound):
            await face.call("runs.get", "nonsense")


# --- the rest ---------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_listed_and_sent_again(kind: str) -> None:
    Bomb.defused = False
    async with desk(kind, Bomb("bomb")) as (face, _):
        sent = await face.call("send", "bomb")
        assert not (await face.call("runs.wait", sent.run_id, timeout=10)).succeeded
        (letter,) = await face.call("dead_letters.list", agent="bomb")
        assert (letter.run_id, letter.reason) == (sent.run_id, "Agent 'bomb' crashed 4 times on this message (RuntimeError).")
        Bomb.defused = True
        again = await face.call("dead_letters.redrive", letter.id)

        assert (await face.call("runs.wait", again.run_id, timeout=10)).succeeded
        assert await face.call("dead_letters.list") == []
        with pytest.raises(NotFound):
            await face.call("dead_letters.redrive", "nonsense")


async def test_agents_are_told_as_the_gateway_has_them(kind: str) -> None:
    async with desk(kind, Echo("echo")) as (face, _):
        assert (await face.call("agent", "echo"))["operations"][0]["path"] == "/agents/echo"
        assert "echo" in str(await face.call("agents"))
