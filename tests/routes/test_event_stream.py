"""Server-Sent Events: of an ask, and of a run that is followed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from portico.runs import run as run_module
from tests.app.serving import is_problem, served
from tests.routes.agents import Slow, Teller

if TYPE_CHECKING:
    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

STREAM = {"accept": "text/event-stream"}


class Event(NamedTuple):
    """One event as it came."""

    name: str
    id: int | None
    data: Any


def events(text: str) -> list[Event]:
    """The events of a stream, comments left out."""
    found: list[Event] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append(Event(fields["event"], int(fields["id"]) if "id" in fields else None, json.loads(fields["data"])))
    return found


async def first_line(response: httpx.Response) -> str:
    """The first line of a stream that goes on."""
    return await anext(response.aiter_lines())


async def test_an_ask_that_accepts_events_gets_them_with_the_reply_last(gateway: Served) -> None:
    response = await gateway.client.post("/agents/teller/tell", json={"upto": 2}, headers=STREAM)
    told = events(response.text)

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [event.name for event in told] == ["run.started", "progress", "progress", "run.succeeded"]
    assert [event.id for event in told] == [1, 2, 3, 4]
    assert [event.data["seq"] for event in told] == [1, 2, 3, 4]
    assert told[1].data["data"] == {"done": 1, "total": 2, "note": "step 1"}
    assert told[-1].data["data"] == {"output": "told"}


async def test_a_stream_says_where_its_run_is(gateway: Served) -> None:
    response = await gateway.client.post("/agents/teller/tell", headers=STREAM)
    again = await gateway.client.get(f"{response.headers['location']}/events")

    assert events(again.text) == events(response.text)


async def test_what_goes_wrong_after_the_first_byte_is_the_last_event_and_a_problem() -> None:
    async with served(Teller("teller")) as gateway:
        response = await gateway.client.post("/agents/teller/fail_late", headers=STREAM)
    last = events(response.text)[-1]

    assert response.status_code == 200
    assert last.name == "run.failed"
    problem = last.data["data"]
    assert (problem["type"], problem["status"], problem["attempts"]) == ("/problems/agent-crashed", 502, 1)
    assert problem["run_id"] in response.headers["location"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


async def test_what_goes_wrong_before_the_first_byte_is_a_plain_problem(gateway: Served) -> None:
    response = await gateway.client.post("/agents/teller/tell", json={"upto": "x"}, headers=STREAM)

    is_problem(response, 422, "contract-violated")


async def test_a_deadline_ends_a_stream_with_its_problem() -> None:
    async with served(Slow("slow", expose=True)) as gateway:
        response = await gateway.client.post("/agents/slow/wait", headers={**STREAM, "Request-Timeout": "0.05"})

    assert events(response.text)[-1].name == "run.timed_out"
    assert events(response.text)[-1].data["data"]["type"] == "/problems/deadline-exceeded"


async def test_an_agents_own_events_cannot_break_the_stream(gateway: Served) -> None:
    response = await gateway.client.post("/agents/teller/odd", headers=STREAM)
    told = events(response.text)

    assert told[1].name == "two lines"
    assert told[1].data["data"] == {"raw": "_wA=", "not": None}
    assert told[-1].name == "run.succeeded"


async def test_last_event_id_resumes_after_that_event(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/teller/tell/cast", json={"upto": 5})).headers["location"]
    await gateway.client.get(location, params={"wait": 5})
    whole = events((await gateway.client.get(f"{location}/events")).text)
    rest = events((await gateway.client.get(f"{location}/events", headers={"Last-Event-ID": "4"})).text)
    nothing = events((await gateway.client.get(f"{location}/events", headers={"Last-Event-ID": "700"})).text)

    assert len(whole) == 7
    assert rest == whole[4:]
    assert nothing == []


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "٣", "9" * 5000])
async def test_a_last_event_id_that_no_event_has_is_refused(gateway: Served, value: str) -> None:
    location = (await gateway.client.post("/agents/teller/tell/cast")).headers["location"]
    headers = {b"Last-Event-ID": value.encode()}

    is_problem(await gateway.client.get(f"{location}/events", headers=headers), 400, "malformed-header")


async def test_events_of_a_plain_ask_that_were_removed_leave_a_gap_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    async with served(Teller("teller")) as gateway:
        response = await gateway.client.post("/agents/teller/tell", json={"upto": 300}, headers=STREAM)
        told = events((await gateway.client.get(f"{response.headers['location']}/events")).text)

    assert told[0].name == "gap"
    assert told[0].data == {"from": 1, "to": told[1].id - 1 if told[1].id is not None else 0}
    assert [event.id for event in told[1:]] == list(range(302 - len(told) + 2, 303))


async def test_a_stream_has_a_heartbeat() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, ping=0.02) as gateway, gateway.client.stream("POST", "/agents/slow/wait", headers=STREAM) as response:
        lines = response.aiter_lines()
        while (line := await anext(lines)) != ": ping":
            assert not line.startswith("event: run.succeeded")
        slow.go_on.set()
        assert [line async for line in lines if line.startswith("event:")] == ["event: run.succeeded"]


async def test_a_client_that_leaves_the_stream_of_its_ask_cancels_it() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        async with gateway.client.stream("POST", "/agents/slow/wait", headers=STREAM) as response:
            await first_line(response)
            await slow.began.wait()
        with anyio.fail_after(0.3):
            await slow.cancelled.wait()
        assert (await gateway.client.get(response.headers["location"])).json()["status"] == "cancelled"


async def test_where_the_route_says_continue_it_does_not() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        async with gateway.client.stream("POST", "/patient", headers=STREAM) as response:
            await first_line(response)
            await slow.began.wait()
        slow.go_on.set()
        run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()

    assert run["status"] == "succeeded"


async def test_a_client_that_leaves_the_stream_of_a_run_it_follows_leaves_the_run_alone() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        async with gateway.client.stream("GET", f"{location}/events") as response:
            await first_line(response)
        slow.go_on.set()
        run = (await gateway.client.get(location, params={"wait": 5})).json()

    assert run["status"] == "succeeded"
