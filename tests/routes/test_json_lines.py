"""JSON lines: the same events as Server-Sent Events, one object per line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.runs import run as run_module
from tests.app.serving import is_problem, served
from tests.routes.agents import Slow, Teller

if TYPE_CHECKING:
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

LINES = {"accept": "application/jsonl"}


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a stream; every line must be one."""
    assert text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize("media_type", ["application/jsonl", "application/x-ndjson"])
async def test_an_ask_that_accepts_lines_gets_one_object_for_each_event(gateway: Served, media_type: str) -> None:
    response = await gateway.client.post("/agents/teller/tell", json={"upto": 2}, headers={"accept": media_type})
    told = objects(response.text)

    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-cache"
    assert [list(line) for line in told] == [["seq", "type", "at", "data"]] * 4
    assert [(line["seq"], line["type"]) for line in told] == [
        (1, "run.started"),
        (2, "progress"),
        (3, "progress"),
        (4, "run.succeeded"),
    ]
    assert told[-1]["data"] == {"output": "told"}


async def test_a_run_is_followed_in_lines_too_and_resumed(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/teller/tell/cast", json={"upto": 5})).headers["location"]
    await gateway.client.get(location, params={"wait": 5})
    rest = await gateway.client.get(f"{location}/events", headers={**LINES, "Last-Event-ID": "4"})

    assert [line["seq"] for line in objects(rest.text)] == [5, 6, 7]


async def test_an_event_is_one_line_whatever_its_agent_tells(gateway: Served) -> None:
    told = objects((await gateway.client.post("/agents/teller/odd", headers=LINES)).text)

    assert (told[1]["type"], told[1]["data"]) == ("two\r\nlines", {"raw": "_wA=", "not": None})


async def test_an_ask_that_fails_late_ends_with_an_error_line_that_is_the_problem() -> None:
    async with served(Teller("teller")) as gateway:
        response = await gateway.client.post("/agents/teller/fail_late", headers=LINES)
    *_, last, error = objects(response.text)

    assert (last["type"], last["data"]["type"]) == ("run.failed", "/problems/agent-crashed")
    assert error == {"type": "error", "data": last["data"]}


async def test_a_heartbeat_is_a_line_of_its_own_and_so_is_the_drain() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, ping=0.02) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        with anyio.fail_after(10):
            async with gateway.client.stream("GET", f"{location}/events", headers=LINES) as response:
                lines = response.aiter_lines()
                while json.loads(await anext(lines)) != {"type": "ping"}:
                    pass
                gateway.gateway.face.drain()
                last = [json.loads(line) async for line in lines][-1]
        gateway.gateway.face.open()
        slow.go_on.set()

    assert last == {"type": "stream.draining", "data": {"last_event_id": 1}}


async def test_removed_events_leave_a_line_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    async with served(Teller("teller")) as gateway:
        response = await gateway.client.post("/agents/teller/tell", json={"upto": 300}, headers=LINES)
        told = objects((await gateway.client.get(f"{response.headers['location']}/events", headers=LINES)).text)

    assert told[0] == {"type": "gap", "data": {"from": 1, "to": told[1]["seq"] - 1}}


async def test_a_run_cannot_be_followed_in_a_form_that_there_is_not(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/teller/tell/cast")).headers["location"]

    problem = is_problem(await gateway.client.get(f"{location}/events", headers={"accept": "text/html"}), 406, "not-acceptable")
    assert "text/event-stream, application/jsonl or application/x-ndjson" in problem["detail"]
