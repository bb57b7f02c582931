"""Server-Sent Events: of an ask, and of a run that is followed."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from portico.errors import StoreUnavailable
from portico.routes import event_stream
from portico.runs import run as run_module
from portico.runs.run import Run
from tests.app.serving import head, is_problem, served
from tests.routes.agents import Flood, Slow, Teller

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
    *_, last, error = events(response.text)

    assert response.status_code == 200
    assert last.name == "run.failed"
    assert (error.name, error.id, error.data) == ("error", None, last.data["data"])
    problem = error.data
    assert (problem["type"], problem["status"], problem["attempts"]) == ("/problems/agent-crashed", 502, 1)
    assert problem["run_id"] in response.headers["location"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


async def test_what_goes_wrong_before_the_first_byte_is_a_plain_problem(gateway: Served) -> None:
    response = await gateway.client.post("/agents/teller/tell", json={"upto": "x"}, headers=STREAM)

    is_problem(response, 422, "contract-violated")


async def test_a_deadline_ends_a_stream_with_its_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HELD", 0.01)
    async with served(Slow("slow", expose=True)) as gateway:
        response = await gateway.client.post("/agents/slow/wait", headers={**STREAM, "Request-Timeout": "0.3"})
    *_, last, error = events(response.text)

    assert last.name == "run.timed_out"
    assert last.data["data"]["type"] == "/problems/deadline-exceeded"
    assert error.data == last.data["data"]


async def test_a_deadline_that_passes_before_anything_was_told_is_a_plain_problem() -> None:
    async with served(Slow("slow", expose=True)) as gateway:
        response = await gateway.client.post("/agents/slow/wait", headers={**STREAM, "Request-Timeout": "0.05"})

    is_problem(response, 504, "deadline-exceeded")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/jsonl", "application/x-ndjson"])
async def test_an_agents_error_before_it_told_anything_is_a_plain_problem(
    gateway: Served, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HELD", 20.0)  # a busy machine needs longer to start an agent again
    headers = {"accept": accept}
    sold_out = await gateway.client.post("/agents/errors/buy", json={"item": "tea"}, headers=headers)
    crashed = await gateway.client.post("/agents/crashing/once", headers=headers)

    assert is_problem(sold_out, 409, "sold-out")["run_id"]
    assert is_problem(crashed, 502, "agent-crashed")["run_id"]


async def test_a_keyed_ask_that_failed_is_replayed_as_the_same_problem(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HELD", 20.0)
    headers = {**STREAM, "idempotency-key": "the-only-one"}
    first = await gateway.client.post("/agents/errors/buy", json={"item": "tea"}, headers=headers)
    second = await gateway.client.post("/agents/errors/buy", json={"item": "tea"}, headers=headers)

    assert is_problem(first, 409, "sold-out")["run_id"] == is_problem(second, 409, "sold-out")["run_id"]
    assert second.headers["idempotency-replayed"] == "true"


async def test_a_followed_run_that_failed_ends_with_its_own_event_and_is_no_error_of_the_follower(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/errors/buy/cast", json={"item": "tea"})).headers["location"]
    await gateway.client.get(location, params={"wait": 5})
    told = events((await gateway.client.get(f"{location}/events")).text)

    assert [event.name for event in told] == ["run.started", "run.failed"]
    assert told[-1].data["data"]["status"] == 409


async def test_a_store_that_fails_meanwhile_is_the_error_at_the_end_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]

        async def failing(_: Run, last: int) -> list[object]:
            raise StoreUnavailable(f"nothing is read after {last}")

        monkeypatch.setattr(Run, "next_events", failing)
        response = await gateway.client.get(f"{location}/events")
        monkeypatch.undo()
        slow.go_on.set()
    (error,) = events(response.text)

    assert response.status_code == 200
    assert (error.name, error.data["type"], error.data["status"]) == ("error", "/problems/store-unavailable", 503)


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


@pytest.mark.parametrize("key", [{}, {"idempotency-key": "a-key"}])
async def test_a_client_that_leaves_the_stream_of_its_ask_cancels_it(key: dict[str, str]) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        path = "/impatient" if key else "/agents/slow/wait"
        async with gateway.client.stream("POST", path, headers={**STREAM, **key}) as response:
            await first_line(response)
            await slow.began.wait()
        with anyio.fail_after(2):  # 100 ms on a machine that is not busy: see benchmarks/disconnects.py
            await slow.cancelled.wait()
        run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()

    assert run["status"] == "cancelled"


async def test_a_client_that_leaves_before_the_head_of_its_stream_cancels_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HELD", 10)
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head("POST", "/agents/slow/wait", "Content-Length: 0", "Accept: text/event-stream"))
        await slow.began.wait()
        writer.close()
        with anyio.fail_after(5):
            await slow.cancelled.wait()
        assert (await gateway.client.get("/runs")).json()["runs"][0]["status"] == "cancelled"


async def test_the_stream_of_a_plain_ask_ends_with_its_reply_though_the_gateway_drains() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        async with gateway.client.stream("POST", "/agents/slow/wait", headers=STREAM) as response:
            lines = response.aiter_lines()
            await anext(lines)
            gateway.gateway.face.drain()
            slow.go_on.set()
            names = [line async for line in lines if line.startswith("event:")]
        gateway.gateway.face.open()

    assert names == ["event: run.started", "event: run.succeeded"]


async def test_a_client_that_does_not_read_gets_what_is_kept_when_it_does_and_is_told_of_the_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    flood = Flood("flood")
    async with served(flood) as gateway:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        small.connect(("127.0.0.1", gateway.port))
        reader, writer = await asyncio.open_connection(sock=small, limit=1024)
        writer.write(head("POST", "/agents/flood", "Content-Length: 0", "Accept: text/event-stream", "Connection: close"))
        with anyio.fail_after(15):
            await flood.over.wait()  # 50 MB were told, and nobody has read a byte of it
            text = (await reader.read()).decode()
        writer.close()
    read = re.findall(r"^event: (.*)$", text, re.MULTILINE)

    assert read[-1] == "run.succeeded"
    assert "gap" in read
    assert len(text) < 25_000_000


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
