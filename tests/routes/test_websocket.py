"""The WebSocket of an agent: frames with ids, through the same door as requests."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from portico.auth import key_ring, principal
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.routes import socket_session
from portico.runs import run as run_module
from tests.app.serving import RawResponse, is_problem, served
from tests.routes.agents import Echo, Flood, Replies, Slow
from tests.routes.sockets import Frames, connected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

NOBODY = "00000000000000000000000000000000"


async def refused(gateway: Served, path: str, **options: Any) -> RawResponse:
    """The response with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://127.0.0.1:{gateway.port}{path}", proxy=None, **options):
            pass
    response = caught.value.response
    return RawResponse(
        response.status_code, {name.lower(): value for name, value in response.headers.raw_items()}, bytes(response.body)
    )


# --- frames -----------------------------------------------------------------------------------------------------------


async def test_an_ask_is_answered_with_its_result(gateway: Served) -> None:
    async with connected(gateway, "echo") as frames:
        result = await frames.ask(id="a", type="ask", payload={"text": "hello"})
    run = (await gateway.client.get(f"/runs/{result['run_id']}")).json()

    assert (result["id"], result["type"], result["payload"], result["attempt"]) == ("a", "result", {"echo": "hello"}, 0)
    assert run["status"] == "succeeded"


@pytest.mark.parametrize("path", ["/agents/echo/ws/", "/agents/e%63ho/ws"])
async def test_an_address_is_spelled_as_that_of_a_request_may_be(gateway: Served, path: str) -> None:
    async with connect(f"ws://127.0.0.1:{gateway.port}{path}", proxy=None) as connection:
        assert (await Frames(connection).ask(id=1, type="ping"))["type"] == "pong"


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/agents/echo%2Fws", 404, "not-found"),
        ("/agents/echo/ws//", 404, "not-found"),
        ("/agents%2Fecho/ws", 404, "not-found"),
        ("/agents/a%2Fb/ws", 404, "agent-not-found"),
        ("/agents/%ff/ws", 400, "malformed-address"),
    ],
)
async def test_an_address_of_something_else_refuses_the_handshake(gateway: Served, path: str, status: int, slug: str) -> None:
    is_problem(await refused(gateway, path), status, slug)


async def test_an_agent_with_several_operations_is_told_which(gateway: Served) -> None:
    async with connected(gateway, "teller") as frames:
        result = await frames.ask(id=7, type="ask", operation="tell", payload={"upto": 1})
        unknown = await frames.ask(id=8, type="ask", operation="tel", payload={})

    assert (result["id"], result["payload"]) == (7, "told")
    assert (unknown["problem"]["status"], unknown["problem"]["type"]) == (404, "/problems/operation-not-found")
    assert "'tell'" in unknown["problem"]["detail"]


async def test_answers_come_as_they_are_ready_whatever_was_asked_first() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, Echo("echo", expose=True)) as gateway, connected(gateway, "slow") as frames:
        await frames.say(id="late", type="ask", operation="wait")
        await slow.began.wait()
        first = await frames.ask(id="early", type="ping")
        slow.go_on.set()
        second = await frames.hear()

    assert first == {"id": "early", "type": "pong"}
    assert (second["id"], second["payload"]) == ("late", "done")


async def test_a_send_is_accepted_and_its_run_found(gateway: Served) -> None:
    async with connected(gateway, "echo") as frames:
        accepted = await frames.ask(id="s", type="send", payload={"text": "hello"})
    run = (await gateway.client.get(f"/runs/{accepted['run_id']}", params={"wait": 5})).json()

    assert (accepted["id"], accepted["type"]) == ("s", "accepted")
    assert (run["status"], run["output"]) == ("succeeded", {"echo": "hello"})


async def test_the_events_of_an_ask_come_before_its_result(gateway: Served) -> None:
    async with connected(gateway, "teller") as frames:
        await frames.say(id="t", type="ask", operation="tell", payload={"upto": 2}, stream=True)
        told = [await frames.hear() for _ in range(5)]

    assert [frame["type"] for frame in told] == ["accepted", "event", "event", "event", "result"]
    assert [frame["event"]["type"] for frame in told[1:4]] == ["run.started", "progress", "progress"]
    assert list(told[1]["event"]) == ["seq", "type", "at", "data"]
    assert told[-1]["payload"] == "told"


async def test_a_run_is_followed_to_its_end_from_any_of_its_events(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/teller/tell/cast", json={"upto": 5})).headers["location"]
    run_id = location.rpartition("/")[2]
    await gateway.client.get(location, params={"wait": 5})
    async with connected(gateway, "echo") as frames:
        await frames.say(id="f", type="subscribe", run_id=run_id, after=5)
        told = [await frames.hear() for _ in range(3)]
        unknown = await frames.ask(id="g", type="subscribe", run_id=NOBODY)

    assert [frame["event"]["seq"] for frame in told[:2]] == [6, 7]
    assert told[2] == {"id": "f", "type": "end", "last_event_id": 7}
    assert unknown["problem"]["type"] == "/problems/run-not-found"


async def test_a_subscription_is_ended_by_its_client() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        async with connected(gateway, "slow") as frames:
            started = await frames.ask(id="f", type="subscribe", run_id=location.rpartition("/")[2])
            ended = await frames.ask(id="f", type="unsubscribe")
            again = await frames.ask(id="f", type="unsubscribe")
        slow.go_on.set()

    assert started["event"]["type"] == "run.started"
    assert ended == {"id": "f", "type": "end"}
    assert again["problem"]["type"] == "/problems/bad-request"


async def test_an_ask_is_cancelled_by_its_client() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway, connected(gateway, "slow") as frames:
        await frames.say(id="c", type="ask", operation="wait")
        await slow.began.wait()
        error = await frames.ask(id="c", type="cancel")
        with anyio.fail_after(5):
            await slow.cancelled.wait()
        again = await frames.ask(id="c", type="cancel")

    assert (error["id"], error["problem"]["type"], error["problem"]["status"]) == ("c", "/problems/cancelled", 409)
    assert "no ask in flight with the id 'c'" in again["problem"]["detail"]


async def test_a_key_never_runs_twice(gateway: Served) -> None:
    before = Echo.handled
    async with connected(gateway, "echo") as frames:
        first = await frames.ask(id=1, type="ask", payload={"text": "x"}, idempotency_key="of-a-socket")
        second = await frames.ask(id=2, type="ask", payload={"text": "x"}, idempotency_key="of-a-socket")
    header = {"idempotency-key": "of-a-socket"}
    third = await gateway.client.post("/agents/echo", json={"text": "x"}, headers=header)

    assert Echo.handled == before + 1
    assert first["run_id"] == second["run_id"]
    assert "replayed" not in first
    assert second["replayed"] is True
    assert third.headers["idempotency-replayed"] == "true"


async def test_a_reply_says_what_its_agent_says_of_it() -> None:
    replies = Replies("replies", expose=True)
    replies.answer = b"\xff\x00"
    replies.hints = {"status": 201, "media_type": "image/png"}  # pyright: ignore[reportAttributeAccessIssue]
    async with served(replies) as gateway, connected(gateway, "replies") as frames:
        result = await frames.ask(id=1, type="ask")

    assert (result["payload"], result["encoding"]) == ("/wA=", "base64")
    assert (result["status"], result["media_type"]) == (201, "image/png")


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "id_", "slug", "says"),
    [
        ("{", None, "malformed-body", "not JSON"),
        ('{"id": "x", "type": "ask", "payload": NaN}', None, "malformed-body", "not JSON"),
        ("[" * 5000, None, "malformed-body", "not JSON"),
        ("[1]", None, "bad-request", "one of ask, send"),
        ('{"id": "x"}', "x", "bad-request", "one of ask, send"),
        ('{"id": "x", "type": "aks"}', "x", "bad-request", "Did you mean 'ask'?"),
        ('{"type": "ping"}', None, "contract-violated", "ping"),
        ('{"id": true, "type": "ping"}', None, "contract-violated", "ping"),
        ('{"id": "x", "type": "ask", "payloat": 1}', "x", "contract-violated", "ask"),
        ('{"id": "x", "type": "ask", "timeout": 0}', "x", "contract-violated", "ask"),
        ('{"id": "x", "type": "ask", "idempotency_key": "a b"}', "x", "contract-violated", "ask"),
        ('{"id": "x", "type": "subscribe", "run_id": "r", "after": -1}', "x", "contract-violated", "subscribe"),
        ('{"id": "x", "type": "ask", "payload": {"text": 5}}', "x", "contract-violated", "echo"),
        ('{"id": "x", "type": "cancel"}', "x", "bad-request", "no ask in flight"),
    ],
)
async def test_a_frame_that_is_wrong_is_answered_and_the_connection_goes_on(
    gateway: Served, text: str, id_: str | None, slug: str, says: str
) -> None:
    async with connected(gateway, "echo") as frames:
        await frames.connection.send(text)
        error = await frames.hear()
        pong = await frames.ask(id="p", type="ping")

    assert (error["id"], error["type"], error["problem"]["type"]) == (id_, "error", f"/problems/{slug}")
    assert says in error["problem"]["detail"]
    assert error["problem"]["request_id"] == frames.connection.response.headers["x-request-id"]  # pyright: ignore[reportOptionalMemberAccess]
    assert pong["type"] == "pong"


async def test_an_id_that_is_in_use_is_refused() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway, connected(gateway, "slow") as frames:
        await frames.say(id="a", type="ask", operation="wait")
        await slow.began.wait()
        error = await frames.ask(id="a", type="ask", operation="wait")
        slow.go_on.set()
        result = await frames.hear()

    assert "in use" in error["problem"]["detail"]
    assert result["payload"] == "done"


async def test_more_asks_than_a_connection_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_session, "OPEN", 3)
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway, connected(gateway, "slow") as frames:
        for number in range(3):
            await frames.say(id=number, type="ask", operation="wait")
        error = await frames.ask(id=3, type="ask", operation="wait")
        slow.go_on.set()
        results = [(await frames.hear())["payload"] for _ in range(3)]

    assert (error["problem"]["type"], error["problem"]["status"]) == ("/problems/too-many-asks", 429)
    assert results == ["done"] * 3


async def test_a_deadline_of_a_frame_is_kept() -> None:
    async with served(Slow("slow", expose=True)) as gateway, connected(gateway, "slow") as frames:
        error = await frames.ask(id=1, type="ask", operation="wait", timeout=0.05)

    assert (error["problem"]["type"], error["problem"]["status"]) == ("/problems/deadline-exceeded", 504)


async def test_a_binary_frame_closes_the_connection_as_unsupported(gateway: Served) -> None:
    async with connected(gateway, "echo") as frames:
        await frames.connection.send(b'{"id": 1, "type": "ping"}')
        assert await frames.closed() == 1003


async def test_a_frame_beyond_the_body_limit_closes_the_connection_as_too_big() -> None:
    async with served(Echo("echo"), body_limit=1000) as gateway, connected(gateway, "echo") as frames:
        await frames.say(id=1, type="ask", payload={"text": "x" * 1000})
        assert await frames.closed() == 1009


async def test_text_that_is_not_utf_8_closes_the_connection_as_invalid(gateway: Served) -> None:
    async with connected(gateway, "echo") as frames:
        await frames.connection.send(b"\xff\xfe", text=True)
        assert await frames.closed() == 1007


# --- handshakes -------------------------------------------------------------------------------------------------------


async def test_an_unknown_agent_refuses_the_handshake_with_a_problem(gateway: Served) -> None:
    problem = is_problem(await refused(gateway, "/agents/eco/ws"), 404, "agent-not-found")
    assert "'echo'" in problem["detail"]


async def test_who_is_refused_puts_nothing_in_the_log(gateway: Served, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/agents/nobody/ws", "/nowhere"):
        await refused(gateway, path)
    await refused(gateway, "/agents/echo/ws", origin="https://evil.example")

    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_path_that_has_none_refuses_the_handshake_with_a_problem(gateway: Served) -> None:
    is_problem(await refused(gateway, "/agents/echo/sw"), 404, "not-found")


async def test_a_foreign_host_or_origin_refuses_the_handshake(gateway: Served) -> None:
    origin = await refused(gateway, "/agents/echo/ws", origin="https://evil.example")
    is_problem(origin, 403, "foreign-host")


async def test_a_missing_key_refuses_the_handshake_and_the_right_one_is_let_in() -> None:
    async with served(Echo("echo"), api_key="a-key") as gateway:
        is_problem(await refused(gateway, "/agents/echo/ws"), 401, "unauthenticated")
        async with connected(gateway, "echo", additional_headers={"authorization": "Bearer a-key"}) as frames:
            result = await frames.ask(id=1, type="ask", payload={"text": "hello"})
        mine = {"authorization": "Bearer a-key"}
        run = (await gateway.client.get(f"/runs/{result['run_id']}", headers=mine)).json()

    assert run["status"] == "succeeded"


async def test_a_browser_brings_its_key_as_a_subprotocol_and_another_is_chosen() -> None:
    offered = ["portico.v1", "portico.bearer.a-key"]
    async with served(Echo("echo"), api_key="a-key") as gateway, connected(gateway, "echo", subprotocols=offered) as frames:
        chosen = frames.connection.subprotocol
        result = await frames.ask(id=1, type="ask", payload={"text": "hello"})

    assert (chosen, result["type"]) == ("portico.v1", "result")


async def test_who_has_lost_its_key_is_asked_to_leave_at_its_next_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(principal, "SEEN_FOR", 0.0)
    monkeypatch.setattr(key_ring, "LOOK_EVERY", 0.0)
    file = KeyFile(tmp_path / "keys.json")
    key, record = new_key(Principal("alice", frozenset()))
    with file.editing() as records:
        records.append(record)
    headers = {"authorization": f"Bearer {key}"}
    async with (
        served(Echo("echo"), keys_file=str(file.path)) as gateway,
        connected(gateway, "echo", additional_headers=headers) as frames,
    ):
        before = await frames.ask(id=1, type="ask", payload={"text": "hello"})
        with file.editing() as records:
            records.clear()
        after = await frames.ask(id=2, type="ask", payload={"text": "hello"})
        code = await frames.closed()

    assert before["type"] == "result"
    assert (after["id"], after["type"], after["problem"]["type"]) == (2, "error", "/problems/unauthenticated")
    assert code == 1008


async def test_an_agent_that_is_drained_refuses_frames_until_it_is_resumed() -> None:
    async with served(slow := Slow("slow", expose=True)) as gateway, connected(gateway, "slow") as frames:
        await frames.say(id="first", type="ask", operation="wait")
        await slow.began.wait()
        await gateway.client.post("/agents/slow/drain", json={"reason": "a new version"})
        refusal = await frames.ask(id="second", type="ask", operation="wait")
        slow.go_on.set()
        first = await frames.hear()
        await gateway.client.post("/agents/slow/resume")
        third = await frames.ask(id="third", type="ask", operation="wait")

    assert (refusal["type"], refusal["problem"]["type"], refusal["retry_after"]) == ("error", "/problems/agent-draining", 1)
    assert (first["id"], first["payload"], third["type"]) == ("first", "done", "result")


async def test_a_draining_gateway_refuses_the_handshake() -> None:
    async with served(Echo("echo")) as gateway:
        gateway.gateway.face.drain()
        is_problem(await refused(gateway, "/agents/echo/ws"), 503, "draining")


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_asks_and_its_sends_go_on(how: str, stream: bool) -> None:  # noqa: FBT001
    slow = Slow("slow", expose=True, concurrency=2)
    async with served(slow) as gateway:
        async with connected(gateway, "slow") as frames:
            sent = await frames.ask(id="s", type="send", operation="wait")
            await slow.began.wait()
            slow.began.clear()
            await frames.say(id="a", type="ask", operation="wait", stream=stream)
            await slow.began.wait()
            if how == "abort":
                frames.connection.transport.abort()
        with anyio.fail_after(5):
            await slow.cancelled.wait()
        slow.go_on.set()
        run = (await gateway.client.get(f"/runs/{sent['run_id']}", params={"wait": 5})).json()
        runs = (await gateway.client.get("/runs")).json()["runs"]

    assert run["status"] == "succeeded"
    assert sorted(one["status"] for one in runs) == ["cancelled", "succeeded"]


async def test_a_keyed_ask_goes_on_when_its_client_leaves() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        async with connected(gateway, "slow") as frames:
            await frames.say(id="a", type="ask", operation="wait", idempotency_key="k")
            await slow.began.wait()
        slow.go_on.set()
        response = await gateway.client.post("/agents/slow/wait", headers={"idempotency-key": "k"})

    assert response.json() == "done"
    assert slow.count == 1


async def test_a_drain_answers_the_asks_ends_the_subscriptions_and_closes_as_going_away() -> None:
    slow = Slow("slow", expose=True, concurrency=2)
    async with served(slow) as gateway, connected(gateway, "slow") as frames:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        await frames.ask(id="f", type="subscribe", run_id=location.rpartition("/")[2])
        slow.began.clear()
        await frames.say(id="a", type="ask", operation="wait")
        await slow.began.wait()
        gateway.server.should_exit = True
        end = await frames.hear()
        late = await frames.ask(id="late", type="ask", operation="wait")
        slow.go_on.set()
        result = await frames.hear()
        code = await frames.closed()

    assert end == {"id": "f", "type": "end", "draining": True}
    assert late["problem"]["type"] == "/problems/draining"
    assert (result["id"], result["payload"]) == ("a", "done")
    assert code == 1001


async def test_an_idle_connection_does_not_hold_up_a_stop() -> None:
    async with served(Echo("echo")) as gateway, connected(gateway, "echo") as frames:
        gateway.server.should_exit = True
        with anyio.fail_after(5):
            assert await frames.closed() == 1001


async def test_a_client_that_does_not_read_is_not_buffered_for_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    flood = Flood("flood")
    async with served(flood) as gateway, connected(gateway, "flood", max_queue=1) as frames:
        await frames.say(id=1, type="ask", stream=True)
        with anyio.fail_after(15):
            await flood.over.wait()  # 50 MB were told, and nobody has read a byte of it
            kinds: list[str] = []
            while not kinds or kinds[-1] != "result":
                kinds.append((await frames.hear())["type"])

    assert "gap" in kinds
    assert len(kinds) < 900


async def test_a_connection_is_kept_however_long_nothing_is_said_on_it() -> None:
    async with served(Echo("echo"), read_timeout=0.1) as gateway, connected(gateway, "echo") as frames:
        await asyncio.sleep(0.5)  # several times as long as a request may take to come
        assert (await frames.ask(id=1, type="ping"))["type"] == "pong"


async def test_many_connections_at_once_keep_their_answers_apart(gateway: Served) -> None:
    async def talk(number: int) -> list[str]:
        async with connected(gateway, "echo") as frames:
            for turn in range(5):
                await frames.say(id=turn, type="ask", payload={"text": f"{number}-{turn}"})
            heard = [await frames.hear() for _ in range(5)]
        return [json.dumps(frame["payload"]) for frame in sorted(heard, key=lambda frame: frame["id"])]

    async with asyncio.TaskGroup() as group:
        talks = [group.create_task(talk(number)) for number in range(20)]

    for number, task in enumerate(talks):
        assert task.result() == [f'{{"echo": "{number}-{turn}"}}' for turn in range(5)]
