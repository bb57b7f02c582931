"""`Idempotency-Key`: the same request is handled once, whatever it ended with and whoever sends it again."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from portico.app.factory import create_app
from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route
from portico.testing import ManualClock
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, is_problem, listening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx

    from tests.app.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

KEY = {"Idempotency-Key": "k1"}


class BoomError(Exception):
    """What crashes it."""


class Till(AgentProcess):
    """Counts what it does, and ends in every way there is."""

    handled = 0

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    def count(self) -> int:
        Till.handled += 1
        return Till.handled

    @operation
    async def pay(self, amount: int) -> dict[str, int]:
        return {"amount": amount, "number": self.count()}

    @operation
    async def refund(self, amount: int) -> dict[str, int]:
        return {"refunded": amount, "number": self.count()}

    @operation
    async def slow(self) -> int:
        number = self.count()
        self.began.set()
        await self.go_on.wait()
        return number

    @operation(errors={"sold-out": 409})
    async def refuse(self) -> None:
        raise AgentError("sold-out", f"None left, as {self.count()} were told.", status=418, left=0, told=[1, None])

    @operation
    async def crash(self) -> None:
        self.count()
        raise BoomError("secret of the house")

    @operation(idempotent=False)
    async def crash_once(self) -> None:
        self.count()
        raise BoomError

    @operation
    async def hang(self) -> None:
        self.count()
        await asyncio.Event().wait()

    @operation
    async def silence(self) -> int:
        self.count()
        return None  # pyright: ignore[reportReturnType]  # the point of it

    @operation
    async def lie(self) -> int:
        self.count()
        return "seven"  # pyright: ignore[reportReturnType]  # the point of it

    @operation
    async def nothing(self) -> None:
        self.count()

    @operation
    async def null(self) -> int | None:
        self.count()
        return None

    @operation
    async def raw(self) -> bytes:
        return b"\x00\xff" + bytes([self.count()])

    @operation
    async def picture(self) -> Any:
        self.count()
        return self.reply(b"\x89PNG\x00\xff", status=203, headers={"X-Odd": "yes"}, media_type="image/png")

    @operation
    async def page(self) -> Any:
        return self.reply(f"number {self.count()} ü", status=201, headers={"Location": "/there"}, media_type="text/plain")

    @operation
    async def gone(self) -> Any:
        self.count()
        return self.reply(None, status=204)

    @operation
    async def echoed(self, what: Any = None) -> Any:
        self.count()
        return what


class Routed(Till):
    """Some more, on routes of their own."""

    @route("POST", "/hasty", timeout=0.2)
    @operation
    async def hasty(self) -> None:
        self.count()
        await asyncio.Event().wait()

    @route("POST", "/kept", durable=True)
    @operation
    async def kept(self, ctx: Context) -> str:
        return ctx.run_id


@pytest.fixture(params=["memory", "sqlite"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the gateway stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


@asynccontextmanager
async def serving(
    data: Path | None, *agents: AgentProcess, clock: ManualClock | None = None, **settings: Any
) -> AsyncGenerator[Served]:
    Till.handled = 0
    children = agents or (Till("till", expose=True),)
    runtime = Runtime(Supervisor("root", children=children, backoff_base=0.0), data=data, clock=clock)
    config = replace(ANY_PORT, **settings)
    async with asyncio.timeout(20), listening(create_app(runtime, config), config) as gateway:
        yield gateway


def same(first: httpx.Response, second: httpx.Response) -> None:
    """The second is the replay of the first."""
    assert "idempotency-replayed" not in first.headers
    assert second.headers.get("idempotency-replayed") == "true"
    assert second.status_code == first.status_code
    for name in ("content-type", "location", "x-odd", "retry-after", "agent-attempt"):
        assert second.headers.get(name) == first.headers.get(name), name
    if first.headers.get("content-type") == "application/problem+json":
        one, other = first.json(), second.json()
        for problem in (one, other):
            problem.pop("request_id")
        assert one == other
        assert one["run_id"]
    else:
        assert second.content == first.content


async def test_a_hundred_equal_requests_at_once_are_one(data: Path | None) -> None:
    async with serving(data) as gateway:
        ask = (gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY) for _ in range(100))
        responses = await asyncio.gather(*ask)
        assert {(one.status_code, one.content) for one in responses} == {(200, b'{"amount":5,"number":1}')}
        assert sum(one.headers.get("idempotency-replayed") == "true" for one in responses) == 99
        assert Till.handled == 1


@pytest.mark.parametrize(
    "name",
    [
        "pay",
        "refuse",
        "crash",
        "crash_once",
        "silence",
        "lie",
        "nothing",
        "null",
        "raw",
        "picture",
        "page",
        "gone",
    ],
)
async def test_the_same_request_gets_the_same_response_whatever_it_was(data: Path | None, name: str) -> None:
    async with serving(data) as gateway:
        body = {"amount": 5} if name == "pay" else {}
        first = await gateway.client.post(f"/agents/till/{name}", json=body, headers=KEY)
        handled = Till.handled
        second = await gateway.client.post(f"/agents/till/{name}", json=body, headers=KEY)
        same(first, second)
        assert Till.handled == handled > 0


@pytest.mark.parametrize("body", ["text", [1, None], 7, 1.5, {"a": {"b": []}}, True, 2**70, "\x00", "ü\u2028"])
async def test_any_reply_is_replayed_as_it_was(data: Path | None, body: Any) -> None:
    async with serving(data) as gateway:
        text, headers = json.dumps(body), {**KEY, "Content-Type": "application/json"}
        first = await gateway.client.post("/agents/till/echoed", content=text, headers=headers)
        same(first, await gateway.client.post("/agents/till/echoed", content=text, headers=headers))
        assert first.json() == body


async def test_a_deadline_that_passed_is_replayed(data: Path | None) -> None:
    async with serving(data, Routed("till")) as gateway:
        first = await gateway.client.post("/hasty", json={}, headers=KEY)
        is_problem(first, 504, "deadline-exceeded")
        same(first, await gateway.client.post("/hasty", json={}, headers=KEY))
        assert Till.handled == 1


async def test_a_key_belongs_to_one_body_one_operation_and_one_agent(data: Path | None) -> None:
    async with serving(data, Till("till", expose=True), Till("other", expose=True)) as gateway:
        post = gateway.client.post
        assert (await post("/agents/till/pay", json={"amount": 5}, headers=KEY)).json()["number"] == 1
        is_problem(await post("/agents/till/pay", json={"amount": 6}, headers=KEY), 422, "key-reused")
        assert (await post("/agents/till/refund", json={"amount": 5}, headers=KEY)).json()["number"] == 2
        assert (await post("/agents/other/pay", json={"amount": 5}, headers=KEY)).json()["number"] == 3
        assert (await post("/agents/till/pay", json={"amount": 5}, headers=KEY)).json()["number"] == 1
        assert (await post("/agents/till/pay", json={"amount": 5}, headers={"Idempotency-Key": "k2"})).json()["number"] == 4


async def test_a_key_in_quotes_is_the_same_without(data: Path | None) -> None:
    async with serving(data) as gateway:
        first = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers={"Idempotency-Key": '"k1"'})
        same(first, await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY))


@pytest.mark.parametrize("key", ["", '""', "a b", 'a"b', '"open', 'closed"', "x" * 256, "\u00fc", "a\tb", '"a", "b"'])
@pytest.mark.parametrize("path", ["/agents/till/pay", "/agents/till/pay/cast", "/runs"])
async def test_a_key_that_is_none_is_refused(path: str, key: str) -> None:
    async with serving(None) as gateway:
        body = {"agent": "till", "operation": "pay", "payload": {"amount": 1}} if path == "/runs" else {"amount": 1}
        headers = {b"Idempotency-Key": key.encode("latin-1")}
        is_problem(await gateway.client.post(path, json=body, headers=headers), 400, "malformed-header")
        assert Till.handled == 0


async def test_while_the_first_is_handled_others_wait_or_are_told(data: Path | None) -> None:
    till = Till("till", expose=True)
    async with serving(data, till) as gateway, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(gateway.client.post("/agents/till/slow", json={}, headers=KEY))
        await till.began.wait()
        hasty = await gateway.client.post("/agents/till/slow", json={}, headers={**KEY, "Prefer": "wait=0"})
        is_problem(hasty, 409, "key-in-progress")
        brief = await gateway.client.post("/agents/till/slow", json={}, headers={**KEY, "Prefer": "wait=0.05"})
        later = await gateway.client.post("/agents/till/slow", json={}, headers={**KEY, "Prefer": "respond-async"})
        assert (brief.status_code, later.status_code) == (202, 202)
        assert brief.headers["location"] == later.headers["location"]
        assert brief.headers["idempotency-replayed"] == later.headers["idempotency-replayed"] == "true"
        second = tasks.create_task(gateway.client.post("/agents/till/slow", json={}, headers=KEY))
        await asyncio.sleep(0.05)
        till.go_on.set()
        same(await first, await second)
        done = await gateway.client.post("/agents/till/slow", json={}, headers={**KEY, "Prefer": "wait=0"})
        same(await first, done)
        assert Till.handled == 1


async def test_a_run_that_began_elsewhere_answers_a_plain_ask_with_its_key(data: Path | None) -> None:
    async with serving(data) as gateway:
        headers = {**KEY, "Prefer": "respond-async"}
        first = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=headers)
        assert first.status_code == 202
        second = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        assert (second.status_code, second.json()["number"]) == (200, 1)
        assert second.headers["idempotency-replayed"] == "true"
        body = {"agent": "till", "operation": "pay", "payload": {"amount": 5}}
        third = await gateway.client.post("/runs", json=body, headers=KEY)
        assert (third.status_code, third.headers["location"]) == (202, first.headers["location"])


async def test_a_send_and_an_ask_with_one_key_are_one(data: Path | None) -> None:
    async with serving(data) as gateway:
        sent = await gateway.client.post("/agents/till/pay/cast", json={"amount": 5}, headers=KEY)
        asked = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        again = await gateway.client.post("/agents/till/pay/cast", json={"amount": 5}, headers=KEY)
        assert (sent.status_code, asked.status_code, again.status_code) == (202, 200, 202)
        assert asked.json()["number"] == 1
        assert again.headers["location"] == sent.headers["location"]
        assert [one.headers.get("idempotency-replayed") for one in (sent, asked, again)] == [None, "true", "true"]
        assert Till.handled == 1


async def test_a_stream_with_a_key_is_replayed_as_a_stream(data: Path | None) -> None:
    async with serving(data) as gateway:
        headers = {**KEY, "Accept": "text/event-stream"}
        first = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=headers)
        second = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=headers)
        assert first.text == second.text
        assert "run.succeeded" in first.text
        assert second.headers["idempotency-replayed"] == "true"
        assert Till.handled == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_refusal_leaves_the_key_free(data: Path | None) -> None:
    async with serving(data) as gateway:
        post, router = gateway.client.post, gateway.runtime.router
        is_problem(await post("/agents/till/pay", json={"amount": "x"}, headers=KEY), 422, "contract-violated")
        router.suspend("till", "for the test")
        is_problem(await post("/agents/till/pay", json={"amount": 5}, headers=KEY), 409, "agent-suspended")
        router.resume("till", "the test")
        gateway.gateway.dispatcher.draining = True
        is_problem(await post("/agents/till/pay", json={"amount": 5}, headers=KEY), 503, "draining")
        gateway.gateway.dispatcher.draining = False
        first = await post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        assert first.json()["number"] == 1
        assert "idempotency-replayed" not in first.headers


async def test_a_full_mailbox_leaves_the_key_free(data: Path | None) -> None:
    till = Till("till", expose=True, mailbox_size=1)
    async with serving(data, till) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.client.post("/agents/till/slow", json={}))
        await till.began.wait()
        await gateway.client.post("/agents/till/pay/cast", json={"amount": 1})
        refused = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        is_problem(refused, 503, "mailbox-full")
        till.go_on.set()
        while (first := await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY)).status_code == 503:  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(0.01)
        assert "idempotency-replayed" not in first.headers
        assert first.json()["amount"] == 5


@pytest.mark.parametrize("trouble", ["suspended", "full", "draining", "crash budget", "failed for good"])
async def test_a_stored_response_is_replayed_though_a_new_call_would_be_refused(data: Path | None, trouble: str) -> None:
    till = Till("till", expose=True, mailbox_size=1)
    async with serving(data, till) as gateway:
        post = gateway.client.post
        first = await post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        if trouble == "suspended":
            gateway.runtime.router.suspend("till", "for the test")
        elif trouble == "draining":
            gateway.gateway.dispatcher.draining = True
        elif trouble == "full":
            await post("/agents/till/slow/cast", json={})
            await till.began.wait()
            await post("/agents/till/refund/cast", json={"amount": 1})
        elif trouble == "crash budget":
            for _ in range(10):
                await post("/agents/till/crash_once", json={})
            is_problem(await post("/agents/till/pay", json={"amount": 5}), 429, "crash-budget-spent")
        else:
            for delivery in gateway.runtime.router.registry.lookup("till").close("for the test"):
                delivery.fail(BoomError())
        second = await post("/agents/till/pay", json={"amount": 5}, headers=KEY)
        till.go_on.set()
        same(first, second)


async def test_the_crash_of_a_keyed_ask_is_charged_once_however_often_it_is_replayed(data: Path | None) -> None:
    async with serving(data) as gateway:
        responses = [await gateway.client.post("/agents/till/crash", json={}, headers=KEY) for _ in range(15)]
        assert {one.status_code for one in responses} == {502}
        assert Till.handled == 4


# --- how long, and who leaves -----------------------------------------------------------------------------------------


async def test_a_key_is_free_again_after_a_day(tmp_path: Path) -> None:
    clock, replayed = ManualClock(), list[bool]()
    for seconds in (0, 86_000, 500, 86_000):
        clock = ManualClock(epoch=clock.time() + seconds)
        async with serving(tmp_path, clock=clock) as gateway:
            response = await gateway.client.post("/agents/till/pay", json={"amount": 5}, headers=KEY)
            assert response.json() == {"amount": 5, "number": 1}
            replayed.append("idempotency-replayed" in response.headers)
    assert replayed == [False, True, False, True]


@pytest.mark.parametrize("patience", [0.0, 0.001, 0.01, 0.1])
async def test_a_client_that_leaves_finds_its_outcome_later(data: Path | None, patience: float) -> None:
    till = Till("till", expose=True)
    async with serving(data, till) as gateway:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(patience):
                await gateway.client.post("/agents/till/slow", json={}, headers=KEY)
        till.go_on.set()
        response = await gateway.client.post("/agents/till/slow", json={}, headers=KEY)
        assert (response.status_code, response.json()) == (200, 1)
        assert Till.handled == 1


async def test_a_durable_route_stores_its_asks_without_a_key(data: Path | None) -> None:
    async with serving(data, Routed("till")) as gateway:
        response = await gateway.client.post("/kept", json={})
        run = (await gateway.client.get(f"/runs/{response.json()}")).json()
        assert (run["stored"], run["status"]) == (True, "succeeded")


# --- run ids that the caller chose ------------------------------------------------------------------------------------


async def test_a_run_id_runs_once(data: Path | None) -> None:
    async with serving(data) as gateway:
        body = {"agent": "till", "operation": "pay", "payload": {"amount": 5}, "run_id": "order:7"}
        responses = await asyncio.gather(*(gateway.client.post("/runs", json=body) for _ in range(20)))
        assert {(one.status_code, one.headers["location"]) for one in responses} == {(202, "/runs/order:7")}
        assert sum(one.headers.get("idempotency-replayed") == "true" for one in responses) == 19
        ended = (await gateway.client.get("/runs/order:7", params={"wait": 5})).json()
        assert (ended["status"], ended["output"]) == ("succeeded", {"amount": 5, "number": 1})
        again = await gateway.client.post("/runs", json=body)
        assert (again.status_code, again.json()["status"]) == (202, "succeeded")
        other = {**body, "payload": {"amount": 6}}
        is_problem(await gateway.client.post("/runs", json=other), 422, "key-reused")
        assert Till.handled == 1


async def test_the_run_id_of_a_plain_ask_cannot_be_taken(data: Path | None) -> None:
    till = Till("till", expose=True)
    async with serving(data, till) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.client.post("/agents/till/slow", json={}))
        await till.began.wait()
        plain = (await gateway.client.get("/runs")).json()["runs"][0]
        body = {"agent": "till", "operation": "pay", "payload": {"amount": 5}, "run_id": plain["run_id"]}
        response = await gateway.client.post("/runs", json=body)
        till.go_on.set()
        if response.status_code == 202:
            run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()
            assert run["operation"] == "pay"
            ended = (await gateway.client.get(response.headers["location"])).json()
            assert ended["operation"] == "pay"


@pytest.mark.parametrize("run_id", ["", "-a", "a/b", "a" * 129, "a b", "ü", "a\n", "..", 7])
async def test_a_run_id_that_is_none_is_refused(run_id: Any) -> None:
    async with serving(None) as gateway:
        body = {"agent": "till", "operation": "pay", "payload": {"amount": 5}, "run_id": run_id}
        is_problem(await gateway.client.post("/runs", json=body), 422, "contract-violated")
