"""What a network and a gateway can do to a call, from a server that follows a script: refuse, cut, be silent, be somebody else."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from portico.client import (
    AgentError,
    ConnectionFailed,
    Interrupted,
    InvalidResponse,
    PorticoAPIError,
    RateLimited,
    ServerError,
    TimedOut,
    Unavailable,
)
from tests.client.faces import CUT, Scripted, answer, event, events, facing, problem, scripted

pytestmark = pytest.mark.anyio

GOOD = answer(200, b'{"echo": "hi"}')
HALF = answer(200, b'{"echo": "hi"}')[:-5]
STORED = "idempotency-replayed: true"
BAD_GATEWAY = answer(502, b"<html>", media_type="text/html")


async def asked(kind: str, server: Scripted, **options: Any) -> Any:
    key = options.pop("idempotency_key", None)
    async with facing(kind, server.url, **options) as face:
        return await face.call("ask", "echo", {"text": "hi"}, idempotency_key=key)


# --- which call is made again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "mine"], ids=["plain", "keyed"])
@pytest.mark.parametrize(
    "refusal",
    [
        problem(429, "quota-exceeded"),
        problem(503, "mailbox-full"),
        problem(503, "draining"),
        problem(503, "overloaded"),
        answer(429, b"slow down", media_type="text/plain"),
        answer(408),
        answer(425),
    ],
    ids=["quota", "mailbox", "draining", "overloaded", "429", "408", "425"],
)
async def test_what_was_surely_not_handled_is_sent_again(kind: str, refusal: bytes, key: str | None) -> None:
    async with scripted(refusal, refusal, GOOD) as server:
        assert await asked(kind, server, idempotency_key=key) == {"echo": "hi"}

    assert [request.line for request in server.requests] == ["POST /agents/echo HTTP/1.1"] * 3
    assert [request.headers.get("idempotency-key") for request in server.requests] == [key] * 3


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (CUT, ConnectionFailed),
        (HALF, ConnectionFailed),
        (BAD_GATEWAY, ServerError),
        (answer(503, b"", media_type="text/html"), Unavailable),
        (problem(503, "store-unavailable"), Unavailable),
        (problem(503, "interrupted"), Interrupted),
    ],
    ids=["cut", "half", "502", "503", "store", "interrupted"],
)
async def test_what_may_have_been_handled_is_sent_again_only_under_a_key(kind: str, part: bytes, error: type[Exception]) -> None:
    async with scripted(part, GOOD) as server:
        with pytest.raises(error):
            await asked(kind, server)
        assert len(server.requests) == 1
    async with scripted(part, GOOD) as server:
        assert await asked(kind, server, idempotency_key=True) == {"echo": "hi"}
        first, second = (request.headers["idempotency-key"] for request in server.requests)
        assert first == second


@pytest.mark.parametrize(
    "part",
    [
        problem(500, "internal-error"),
        problem(502, "agent-crashed"),
        problem(502, "model-failed"),
        problem(504, "deadline-exceeded"),
        problem(503, "agent-failed"),
        problem(503, "interrupted", STORED),
        problem(409, "agent-suspended"),
        problem(422, "contract-violated"),
        problem(503, "sold-out"),
        problem(429, "busy-today"),
        answer(200, b"not json"),
        answer(302, b"", "location: /elsewhere"),
    ],
    ids=("internal", "crashed", "model", "deadline", "failed", "interrupted", "suspended", "contract", "503", "429", "text", "302"),
)
async def test_an_outcome_is_never_asked_for_twice(kind: str, part: bytes) -> None:
    async with scripted(part, GOOD) as server:
        with pytest.raises((PorticoAPIError, InvalidResponse)) as caught:
            await asked(kind, server, idempotency_key="mine")

        assert len(server.requests) == 1
    if b"sold-out" in part or b"busy-today" in part:
        assert type(caught.value) is AgentError


async def test_sends_and_starts_have_a_key_so_that_they_may_be_made_again(kind: str) -> None:
    accepted = answer(202, b'{"run_id": "r1", "status": "queued"}')
    for name in ("send", "submit", "runs.start"):
        async with scripted(CUT, BAD_GATEWAY, accepted) as server, facing(kind, server.url) as face:
            assert (await face.call(name, "echo", {"text": "hi"})).run_id == "r1"

            assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


async def test_reading_is_made_again_and_answering_is_not(kind: str) -> None:
    async with scripted(CUT, answer(200, b"{}")) as server, facing(kind, server.url) as face:
        assert await face.call("agents") == {}
    async with scripted(CUT, answer(200, b"{}")) as server, facing(kind, server.url) as face:
        with pytest.raises(ConnectionFailed):
            await face.call("runs.input", "r1", True)


async def test_retries_end(kind: str) -> None:
    async with scripted(*[problem(503, "mailbox-full")] * 9) as server:
        with pytest.raises(Unavailable) as caught:
            await asked(kind, server, retries=3)
        assert len(server.requests) == 4
        with pytest.raises(Unavailable):
            await asked(kind, server, retries=0)
        assert len(server.requests) == 5

    assert caught.value.slug == "mailbox-full"


async def test_where_nobody_listens_the_error_says_that_nothing_was_sent(kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets it, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with facing(kind, url, retries=1) as face:
            with pytest.raises(ConnectionFailed, match="does not answer") as caught:
                await face.call("ask", "echo")

    assert not caught.value.sent


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_waited_for(kind: str, form: str) -> None:
    wait = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    async with scripted(problem(503, "mailbox-full", f"retry-after: {wait}"), GOOD) as server:
        assert await asked(kind, server) == {"echo": "hi"}
        (waited,) = (later - earlier for earlier, later in pairwise(server.times))

    assert waited >= 0.99


async def test_a_wait_that_the_call_has_no_time_for_is_not_begun(kind: str) -> None:
    async with scripted(problem(429, "quota-exceeded", "retry-after: 3600"), GOOD) as server:
        with pytest.raises(RateLimited) as caught:
            await asked(kind, server, timeout=20)

        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600


async def test_a_gateway_that_says_nothing_is_given_up_when_the_time_is_over(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.client.attempts.GRACE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with facing(kind, f"http://127.0.0.1:{silent.getsockname()[1]}") as face:
            with pytest.raises(TimedOut, match="did not answer in time") as caught:
                await face.call("ask", "echo", timeout=0.2)

    assert caught.value.sent


async def test_each_attempt_says_how_much_time_is_left(kind: str) -> None:
    async with scripted(problem(503, "mailbox-full", "retry-after: 1"), GOOD) as server:
        await asked(kind, server, timeout=30)
        first, second = (float(request.headers["request-timeout"]) for request in server.requests)

    assert 29 < first <= 30
    assert second <= first - 1


# --- streams ----------------------------------------------------------------------------------------------------------


PROGRESS = event(2, "progress")
ENDED = event(3, "run.succeeded", '{"output": "told"}')


@pytest.mark.parametrize(
    "first",
    [
        events(event(1, "run.started"), PROGRESS),
        events(event(1, "run.started"), PROGRESS, ENDED[:-9]),
        events(event(1, "run.started"), PROGRESS, 'event: stream.draining\ndata: {"last_event_id": 2}\n\n'),
    ],
    ids=["cut", "half an event", "draining"],
)
async def test_a_stream_that_breaks_goes_on_behind_its_last_event(kind: str, first: bytes) -> None:
    away = (CUT, BAD_GATEWAY, problem(503, "draining"))
    async with scripted(first, *away, events(ENDED)) as server, facing(kind, server.url) as face:
        followed = await face.follow("stream", "teller", response=str)

    assert (followed.numbers, followed.result, followed.error) == ([1, 2, 3], "told", None)
    asked, *resumed = server.requests
    assert asked.line == "POST /agents/teller HTTP/1.1"
    assert asked.headers["idempotency-key"]
    assert {request.line for request in resumed} == {"GET /runs/r1/events HTTP/1.1"}
    assert {request.headers["last-event-id"] for request in resumed} == {"2"}


async def test_a_plain_stream_that_breaks_is_over(kind: str) -> None:
    async with scripted(events(event(1, "run.started"))) as server, facing(kind, server.url) as face:
        followed = await face.follow("stream", "teller", idempotency_key=False)

    assert isinstance(followed.error, ConnectionFailed)
    assert len(server.requests) == 1
    assert "idempotency-key" not in server.requests[0].headers


async def test_a_gap_is_shown(kind: str) -> None:
    gap = 'event: gap\ndata: {"from":1,"to":2}\n\n'
    async with scripted(events(gap, ENDED)) as server, facing(kind, server.url) as face:
        followed = await face.follow("runs.events", "r1")

    gap_event, last = followed.events
    assert (gap_event.is_gap, gap_event.data, last.is_gap) == (True, {"from": 1, "to": 2}, False)
    assert followed.result == "told"


@pytest.mark.parametrize("width", [1, 7])
async def test_a_stream_comes_in_any_pieces_with_pings_in_between(kind: str, width: int) -> None:
    delta = event(2, "delta", '{"text": "a\u2028é"}')
    whole = events(event(1, "run.started"), ": ping\n\n", delta, ": ping\n\n", ENDED)
    pieces = [whole[start : start + width] for start in range(0, len(whole), width)]
    async with scripted(pieces) as server, facing(kind, server.url) as face:
        followed = await face.follow("stream", "teller")

    assert [one.text for one in followed.events] == ["", "a\u2028é", ""]
    assert followed.result == "told"


async def test_a_stream_whose_gateway_stays_away_ends_with_the_error(kind: str) -> None:
    async with scripted(events(event(1, "run.started"))) as server, facing(kind, server.url, timeout=0.5) as face:
        followed = await face.follow("stream", "teller")

    assert isinstance(followed.error, ConnectionFailed)
    assert followed.numbers == [1]


async def test_a_loss_is_told_once_for_each_time_that_it_went_on(kind: str) -> None:
    told: list[int] = []
    parts = (events(event(1, "run.started")), CUT, CUT, events(PROGRESS), events(ENDED))
    async with scripted(*parts) as server, facing(kind, server.url) as face:
        followed = await face.follow("runs.events", "r1", on_lost=lambda: told.append(1))

    assert followed.numbers == [1, 2, 3]
    assert len(told) == 2


@pytest.mark.parametrize(
    "part",
    [
        answer(200, b"{}"),
        events("id: x\nevent: y\ndata: {}\n\n"),
        events("id: 1\nevent: y\ndata: nothing\n\n"),
        events("id: 1\nevent: y\ndata: []\n\n"),
    ],
    ids=["json", "a number that is none", "no json", "a list"],
)
async def test_a_stream_that_no_gateway_would_send_is_no_stream(kind: str, part: bytes) -> None:
    async with scripted(part) as server, facing(kind, server.url) as face:
        assert isinstance((await face.follow("runs.events", "r1")).error, InvalidResponse)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"nothing", b'{"run_id": 1}', b"[" * 100_000], ids=range(5))
async def test_a_record_that_no_gateway_would_send_is_none(kind: str, body: bytes) -> None:
    async with scripted(answer(200, body)) as server, facing(kind, server.url) as face:
        with pytest.raises(InvalidResponse, match="look at base_url"):
            await face.call("runs.get", "r1")
