"""What a caller is told when it, or the gateway, has had enough: 429 is the caller's, 503 the gateway's."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from portico.routes.exchange import PRINCIPAL, SCOPES
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio

POLICY = '"2/hour";q=2;w=3600'


class Caller:
    """A middleware in place of authentication: who calls, and what they may, is in two headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if b"x-caller" in headers:
            scope[PRINCIPAL] = headers[b"x-caller"].decode()
            scope[SCOPES] = frozenset(headers.get(b"x-scopes", b"").decode().split())
        await self._app(scope, receive, send)


class Gate(AgentProcess):
    """Holds every ask until it is opened."""

    opened: asyncio.Event
    entered: asyncio.Event

    @classmethod
    def shut(cls) -> None:
        cls.opened, cls.entered = asyncio.Event(), asyncio.Event()

    async def handle(self, message: Message) -> str:
        self.entered.set()
        await self.opened.wait()
        return "through"


class Office(AgentProcess):
    @operation(scopes=["papers:read"])
    async def show(self) -> str:
        return "papers"

    @operation
    async def greet(self) -> str:
        return "hello"


# --- 429 --------------------------------------------------------------------------------------------------------------


async def test_a_caller_is_told_what_is_left_and_refused_when_nothing_is() -> None:
    async with served(Echo("echo"), rate_limit=["2/hour"]) as gateway:
        post = gateway.client.post
        first, second = [await post("/agents/echo", json={"text": "x"}) for _ in range(2)]
        assert (first.status_code, first.headers["ratelimit-policy"]) == (200, POLICY)
        assert re.fullmatch(r'"2/hour";r=1;t=1800', first.headers["ratelimit"])
        assert re.fullmatch(r'"2/hour";r=0;t=3[56]\d\d', second.headers["ratelimit"])

        refused = await post("/agents/echo", json={"text": "x"})
        is_problem(refused, 429, "quota-exceeded")
        assert 1700 < int(refused.headers["retry-after"]) <= 1800
        assert refused.headers.get_list("ratelimit-policy") == [POLICY]
        assert refused.headers["ratelimit"].startswith('"2/hour";r=0')
        assert (await gateway.client.get("/runs")).status_code == 200  # reading is no call


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/agents/echo/cast", {"text": "x"}, 202), ("/runs", {"agent": "echo", "payload": {"text": "x"}}, 202)],
    ids=["a send", "a run"],
)
async def test_every_kind_of_call_counts_and_tells(path: str, body: Any, status: int) -> None:
    async with served(Echo("echo"), rate_limit=["1/hour"]) as gateway:
        accepted = await gateway.client.post(path, json=body)
        assert (accepted.status_code, accepted.headers["ratelimit"][:12]) == (status, '"1/hour";r=0')
        refused = await gateway.client.post(path, json=body)
        is_problem(refused, 429, "quota-exceeded")
        assert refused.headers.get_list("ratelimit-policy") == ['"1/hour";q=1;w=3600']


async def test_a_refused_request_still_tells_what_is_left() -> None:
    async with served(Echo("echo"), rate_limit=["2/hour"]) as gateway:
        wrong = await gateway.client.post("/agents/echo", json={"txt": "x"})
        is_problem(wrong, 422, "contract-violated")
        assert wrong.headers["ratelimit"].startswith('"2/hour";r=1')


async def test_one_principal_does_not_spend_what_another_has() -> None:
    async with served(Echo("echo"), rate_limit=["1/hour"], middleware=[Caller]) as gateway:

        async def ask(who: str) -> int:
            return (await gateway.client.post("/agents/echo", json={"text": "x"}, headers={"x-caller": who})).status_code

        assert [await ask(who) for who in ("alice", "bob", "alice")] == [200, 200, 429]


# --- 503 --------------------------------------------------------------------------------------------------------------


async def test_more_asks_than_the_gateway_takes_are_refused_and_their_places_come_free_again() -> None:
    Gate.shut()
    async with served(Gate("gate", concurrency=5), Echo("echo"), max_calls=2) as gateway:
        dispatcher = gateway.gateway.dispatcher
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(gateway.client.post("/agents/gate", json={})) for _ in range(2)]
            while dispatcher.in_flight < 2:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
            refused = await gateway.client.post("/agents/echo", json={"text": "x"})
            is_problem(refused, 503, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert (await gateway.client.post("/agents/echo/cast", json={"text": "x"})).status_code == 202
            Gate.opened.set()
        assert [task.result().status_code for task in held] == [200, 200]
        assert dispatcher.in_flight == 0
        assert (await gateway.client.post("/agents/echo", json={"text": "x"})).status_code == 200


async def test_no_end_of_an_ask_keeps_its_place() -> None:
    Gate.shut()
    async with served(Gate("gate"), Echo("echo"), max_calls=3) as gateway:
        dispatcher = gateway.gateway.dispatcher
        post = gateway.client.post
        assert (await post("/agents/gate", json={}, headers={"Request-Timeout": "0.05"})).status_code == 504
        assert (await post("/agents/echo", json={"txt": 1})).status_code == 422
        with pytest.raises(httpx.ReadTimeout):
            await post("/agents/gate", json={}, timeout=0.05)
        while dispatcher.in_flight:  # noqa: ASYNC110  # the client's leaving has no event that a test could wait for
            await asyncio.sleep(0.01)


async def test_a_full_mailbox_tells_when_what_waits_will_be_done() -> None:
    Gate.shut()
    async with served(Gate("gate", mailbox_size=2)) as gateway:
        mailbox = gateway.runtime.router.registry.get("gate")
        assert mailbox is not None
        mailbox.service_time = 4.0
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(gateway.client.post("/agents/gate", json={}))]
            await Gate.entered.wait()
            held += [group.create_task(gateway.client.post("/agents/gate", json={})) for _ in range(2)]
            while len(mailbox) < 2:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
            refused = await gateway.client.post("/agents/gate", json={})
            is_problem(refused, 503, "mailbox-full")
            assert refused.headers["retry-after"] == "8"
            hurried = await gateway.client.post("/agents/gate", json={}, headers={"Request-Timeout": "1"})
            assert (hurried.status_code, hurried.headers["retry-after"]) == (503, "8")  # not after its second, but at once
            Gate.opened.set()
        assert [task.result().status_code for task in held] == [200] * 3


# --- 403 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "status"), [("", 403), ("papers", 403), ("papers:read", 200), ("other papers:read", 200), ("*", 200)]
)
async def test_an_operation_is_for_callers_with_its_scope(scopes: str, status: int) -> None:
    async with served(Office("office"), middleware=[Caller]) as gateway:
        caller = {"x-caller": "alice", "x-scopes": scopes}
        answer = await gateway.client.post("/agents/office/show", json={}, headers=caller)
        assert answer.status_code == status
        if status == 403:
            is_problem(answer, 403, "insufficient-scope")
            assert "'papers:read'" in answer.json()["detail"]
        run = {"agent": "office", "operation": "show"}
        assert (await gateway.client.post("/runs", json=run, headers=caller)).status_code == (202 if status == 200 else 403)
        assert (await gateway.client.post("/agents/office/greet", json={}, headers=caller)).status_code == 200


async def test_what_an_agent_and_a_route_demand_counts_together_and_there_is_no_way_around() -> None:
    routes = [{"method": "GET", "path": "/papers", "agent": "office", "operation": "show", "scopes": ["web"]}]
    office = Office("office", scopes=["office"], expose=True)
    async with served(office, middleware=[Caller], routes=routes) as gateway:

        async def status(method: str, path: str, scopes: str) -> int:
            headers = {"x-caller": "alice", "x-scopes": scopes}
            return (await gateway.client.request(method, path, headers=headers)).status_code

        everything = "papers:read office web"
        for method, path in (("GET", "/papers"), ("POST", "/agents/office/show")):
            assert await status(method, path, everything) == 200
            for left in everything.split():
                assert await status(method, path, " ".join(one for one in everything.split() if one != left)) == 403
        assert (await status("POST", "/agents/office/greet", "office"), await status("POST", "/agents/office/greet", "web")) == (
            200,
            403,
        )
