"""Pools and keyed agents through the HTTP face: one agent each, whatever stands behind the name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel, Field

from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from tests.app.serving import is_problem, served
from tests.mcp_bridge import helpers as mcp
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from portico.kernel.keyed import Keyed
    from portico.kernel.messages import Message
    from portico.kernel.pool import Pool

pytestmark = pytest.mark.anyio


class Gate:
    """What a test shares with every instance of an agent."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.inside = 0
        self.all_in = asyncio.Event()

    async def pass_through(self, until: int) -> None:
        """Wait there; `all_in` is set when so many do."""
        self.inside += 1
        if self.inside >= until:
            self.all_in.set()
        await self.opened.wait()


class Order(BaseModel):
    what: str


class Done(BaseModel):
    by: str
    n: int


class Clerk(AgentProcess):
    """Takes orders."""

    def __init__(self, name: str, gate: Gate | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate

    @route("POST", "/orders/{what}")
    @operation
    async def take(self, request: Order) -> Done:
        """Take an order."""
        if self.gate is not None and request.what == "wait":
            await self.gate.pass_through(2)
        self.state["n"] = self.state.get("n", 0) + 1
        return Done(by=self.name, n=self.state["n"])


class Said(BaseModel):
    session_id: str = Field(min_length=1)
    text: str = ""


class Answer(BaseModel):
    session: str
    n: int
    text: str


class Chat(AgentProcess):
    """Talks, and remembers how often."""

    def __init__(self, name: str, gate: Gate | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate

    @route("POST", "/chat/{session_id}")
    @operation
    async def say(self, request: Said) -> Answer:
        """Say something."""
        if self.gate is not None and request.text == "wait":
            await self.gate.pass_through(2)
        self.state["n"] = self.state.get("n", 0) + 1
        if request.text == "crash":
            raise RuntimeError("the secret of the house")
        return Answer(session=request.session_id, n=self.state["n"], text=request.text)


class Loose(AgentProcess):
    """Has no contract that would name the key."""

    async def handle(self, message: Message) -> Any:
        return message.payload


def clerks(gate: Gate | None = None, size: int = 3, **config: Any) -> Pool:
    return pool(Clerk, "clerks", size=size, config={"gate": gate, "expose": True, **config}, backoff_base=0.001)


def chat(gate: Gate | None = None, **options: Any) -> Keyed:
    return keyed(Chat, "chat", per_key="session_id", config={"gate": gate, "expose": True}, backoff_base=0.001, **options)


# --- a pool -----------------------------------------------------------------------------------------------------------


async def test_a_pool_is_one_agent_with_one_route_and_its_members_work_side_by_side() -> None:
    gate = Gate()
    async with served(clerks(gate)) as gateway, asyncio.TaskGroup() as callers:
        busy = [callers.create_task(gateway.client.post(f"/{path}", json={})) for path in ("orders/wait", "orders/wait")]
        await gate.all_in.wait()
        third = (await gateway.client.post("/agents/clerks", json={"what": "tea"})).json()
        gate.opened.set()
        answers = [(await one).json()["by"] for one in busy]
    assert {third["by"], *answers} == {"clerks.1", "clerks.2", "clerks.3"}


@pytest.mark.parametrize("member", ["clerks.1", "clerks.2", "clerks.9"])
async def test_a_member_of_a_pool_is_no_agent_of_its_own(member: str) -> None:
    async with served(clerks()) as gateway:
        for response in (
            await gateway.client.post(f"/agents/{member}", json={"what": "tea"}),
            await gateway.client.get(f"/agents/{member}/state"),
            await gateway.client.post(f"/agents/{member}/cast", json={"what": "tea"}),
        ):
            problem = is_problem(response, 404, "agent-not-found")
            assert "'clerks'" in problem["detail"]


async def test_the_tree_lists_a_pool_once_with_its_members_below_it() -> None:
    async with served(clerks(size=2), Echo("echo", expose=True)) as gateway:
        tree = (await gateway.client.get("/agents")).json()
        status = (await gateway.client.get("/agents/clerks")).json()

    assert [child["name"] for child in tree["children"]] == ["clerks", "echo"]
    entry = tree["children"][0]
    assert entry == status
    assert (entry["kind"], [member["name"] for member in entry["children"]]) == ("pool", ["clerks.1", "clerks.2"])
    assert [member["status"] for member in entry["children"]] == ["running", "running"]
    assert entry["operations"] == [{"name": "take", "path": "/agents/clerks", "tool": "clerks"}]
    assert entry["mailbox"]["size"] == 1000
    assert not any("operations" in member for member in entry["children"])


async def test_the_document_has_one_operation_for_a_pool_and_one_for_a_keyed_agent() -> None:
    async with served(clerks(), chat()) as gateway:
        paths = (await gateway.client.get("/openapi.json")).json()["paths"]

    of_agents = [path for path in paths if "clerks" in path or "chat" in path or "orders" in path]
    assert sorted(path for path in of_agents if not path.endswith("/cast")) == [
        "/agents/chat",
        "/agents/clerks",
        "/chat/{session_id}",
        "/orders/{what}",
    ]


@pytest.mark.parametrize("name", ["clerks", "chat"])
async def test_who_is_suspended_refuses_calls_until_it_is_resumed(name: str) -> None:
    async with served(clerks(), chat()) as gateway:
        path = "/orders/tea" if name == "clerks" else "/chat/a"
        await gateway.runtime.suspend(name, "stocktaking")
        problem = is_problem(await gateway.client.post(path, json={}), 409, "agent-suspended")
        assert "stocktaking" in problem["detail"]
        assert (await gateway.client.get(f"/agents/{name}")).json()["reason"] == "stocktaking"
        assert (await gateway.client.get("/readyz")).status_code == 200
        await gateway.runtime.resume(name)
        assert (await gateway.client.post(path, json={})).status_code == 200
        assert "reason" not in (await gateway.client.get(f"/agents/{name}")).json()


async def test_a_full_pool_says_when_to_try_again() -> None:
    gate = Gate()
    async with served(clerks(gate, size=2, mailbox_size=2)) as gateway, asyncio.TaskGroup() as callers:
        for _ in range(2):
            callers.create_task(gateway.client.post("/orders/wait", json={}))
        await gate.all_in.wait()
        sent = [await gateway.client.post("/agents/clerks/cast", json={"what": "tea"}) for _ in range(2)]
        response = await gateway.client.post("/orders/tea", json={})
        gate.opened.set()

    assert [one.status_code for one in sent] == [202, 202]
    is_problem(response, 503, "mailbox-full")
    assert int(response.headers["retry-after"]) >= 1


# --- a keyed agent ----------------------------------------------------------------------------------------------------


async def test_each_session_has_a_process_that_remembers_it() -> None:
    async with served(chat()) as gateway:
        answers = [(await gateway.client.post(f"/chat/{key}", json={"text": "hi"})).json() for key in ("a", "b", "a", "a")]

    assert [(answer["session"], answer["n"]) for answer in answers] == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]


async def test_the_default_route_and_the_declared_one_lead_to_the_same_session() -> None:
    async with served(chat()) as gateway:
        first = await gateway.client.post("/chat/a%20b", json={})
        second = await gateway.client.post("/agents/chat", json={"session_id": "a b"})
        third = await gateway.client.post("/agents/chat?session_id=a%20b")

    assert [(response.status_code, response.json().get("n")) for response in (first, second, third)] == [
        (200, 1),
        (200, 2),
        (200, 3),
    ]


async def test_the_path_says_whose_session_it_is_whatever_the_body_says() -> None:
    async with served(chat()) as gateway:
        await gateway.client.post("/chat/mine", json={})
        answer = (await gateway.client.post("/chat/yours?session_id=mine", json={"session_id": "mine"})).json()

    assert (answer["session"], answer["n"]) == ("yours", 1)


async def test_sessions_are_handled_side_by_side() -> None:
    gate = Gate()
    async with served(chat(gate)) as gateway, asyncio.TaskGroup() as callers:
        busy = [callers.create_task(gateway.client.post(f"/chat/{key}", json={"text": "wait"})) for key in "ab"]
        await gate.all_in.wait()
        assert (await gateway.client.post("/chat/c", json={})).json()["n"] == 1
        gate.opened.set()
        assert [(await one).status_code for one in busy] == [200, 200]


@pytest.mark.parametrize(
    "body", [{}, {"session_id": None}, {"session_id": ""}, {"session_id": 5}, {"session_id": ["a"]}, {"session_id": True}]
)
async def test_a_session_that_is_missing_or_none_is_told_with_its_path(body: dict[str, Any]) -> None:
    async with served(chat()) as gateway:
        problem = is_problem(await gateway.client.post("/agents/chat", json=body), 422, "contract-violated")

    assert problem["errors"][0]["path"] == "/session_id"


KEYS: dict[str, Any] = {
    "missing": {},
    "null": {"k": None},
    "true": {"k": True},
    "list": {"k": ["a"]},
    "empty": {"k": ""},
    "too long": {"k": "x" * 257},
    "no object": [1],
    "text": "k",
}


@pytest.mark.parametrize("what", KEYS)
async def test_a_key_that_no_contract_asks_for_is_told_with_its_path_too(what: str) -> None:
    async with served(keyed(Loose, "loose", per_key="k")) as gateway:
        problem = is_problem(await gateway.client.post("/agents/loose", json=KEYS[what]), 422, "key-missing")
        assert problem["errors"][0]["path"] in {"k", "/k"}
        contract = await gateway.client.post("/agents/loose", content=b"", headers={"content-type": "application/json"})
        assert 400 <= contract.status_code < 500
        assert (await gateway.client.post("/agents/loose", json={"k": 7})).json() == {"k": 7}


async def test_the_path_of_a_missing_key_is_a_json_pointer_as_for_any_other_fault() -> None:
    async with served(keyed(Loose, "loose", per_key="k")) as gateway:
        problem = is_problem(await gateway.client.post("/agents/loose", json={}), 422, "key-missing")

    assert problem["errors"][0]["path"] == "/k"


@pytest.mark.parametrize("body", [b'{"k": "\\ud800"}', b'{"k": ' + b"9" * 5000 + b"}"])
async def test_a_key_that_nobody_can_write_down_is_the_clients_fault(body: bytes) -> None:
    async with served(keyed(Loose, "loose", per_key="k")) as gateway:
        response = await gateway.client.post("/agents/loose", content=body, headers={"content-type": "application/json"})

    assert 400 <= response.status_code < 500, response.text


async def test_the_tree_counts_the_sessions_and_shows_no_keys() -> None:
    async with served(chat()) as gateway:
        for key in ("secret-one", "secret-two"):
            await gateway.client.post(f"/chat/{key}", json={})
        tree, status = await gateway.client.get("/agents"), await gateway.client.get("/agents/chat")
        verbose = await gateway.client.get("/readyz?verbose")
        unknown = await gateway.client.get("/agents/chat%2Fsecret-onee")
        other = await gateway.client.post("/agents/chats", json={})

    assert tree.json()["children"] == [status.json()]
    entry = status.json()
    assert (entry["kind"], entry["keys"], entry["max_keys"]) == ("keyed", 2, 10_000)
    assert entry["operations"] == [{"name": "say", "path": "/agents/chat", "tool": "chat"}]
    for response in (tree, status, verbose, unknown, other):
        assert "secret-one'" not in response.text
        assert "secret-two" not in response.text


async def test_sleeping_sessions_do_not_hurt_readiness_and_wake_where_they_were() -> None:
    async with served(chat(idle_timeout=0.05), Echo("echo", expose=True)) as gateway:
        for key in "abc":
            await gateway.client.post(f"/chat/{key}", json={})
        while (await gateway.client.get("/agents/chat")).json()["keys"]:  # bounded by the patience of `served`
            assert (await gateway.client.get("/readyz")).status_code == 200
        response = await gateway.client.get("/readyz?verbose")
        assert (await gateway.client.post("/chat/a", json={})).json()["n"] == 2

    assert response.status_code == 200
    assert list(response.json()["processes"]) == ["echo"]


async def test_a_session_that_crashes_hurts_neither_readiness_nor_another_session() -> None:
    async with served(chat()) as gateway:
        await gateway.client.post("/chat/calm", json={})
        problem = is_problem(await gateway.client.post("/chat/wild", json={"text": "crash"}), 502, "agent-crashed")
        assert (await gateway.client.get("/readyz")).status_code == 200
        assert (await gateway.client.post("/chat/calm", json={})).json()["n"] == 2
        assert (await gateway.client.post("/chat/wild", json={})).json()["n"] == 1

    assert "the secret of the house" not in str(problem)


async def test_when_every_session_is_at_work_one_more_is_told_to_try_again() -> None:
    gate = Gate()
    async with served(chat(gate, max_keys=2)) as gateway, asyncio.TaskGroup() as callers:
        for key in "ab":
            callers.create_task(gateway.client.post(f"/chat/{key}", json={"text": "wait"}))
        await gate.all_in.wait()
        response = await gateway.client.post("/chat/c", json={})
        gate.opened.set()

    is_problem(response, 503, "too-many-keys")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_session_can_be_sent_to_and_its_run_is_found() -> None:
    async with served(chat()) as gateway:
        sent = await gateway.client.post("/agents/chat/cast", json={"session_id": "a", "text": "hi"})
        run = (await gateway.client.get(f"{sent.headers['location']}?wait=5")).json()
        assert (await gateway.client.post("/chat/a", json={})).json()["n"] == 2

    assert sent.status_code == 202
    assert (run["status"], run["output"]["n"]) == ("succeeded", 1)


# --- as MCP tools -----------------------------------------------------------------------------------------------------


async def test_each_of_them_is_one_tool() -> None:
    async with mcp.gateway(clerks(), chat()) as (url, _), Client(url) as client:  # pyright: ignore[reportArgumentType]
        tools = (await client.list_tools()).tools
        session = await client.call_tool("chat", {"session_id": "a", "text": "hi"})
        again = await client.call_tool("chat", {"session_id": "a"})
        order: Any = (await client.call_tool("clerks", {"what": "tea"})).structured_content

    assert [tool.name for tool in tools] == ["chat", "clerks", "fetch_result"]
    assert "session_id" in tools[0].input_schema["properties"]
    assert [session.structured_content, again.structured_content] == [
        {"session": "a", "n": 1, "text": "hi"},
        {"session": "a", "n": 2, "text": ""},
    ]
    assert order["by"].startswith("clerks.")


async def test_a_session_belongs_to_who_asks() -> None:
    async def asks(url: str, who: str) -> Any:
        async with (
            httpx2.AsyncClient(headers={"x-who": who}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            answer: Any = (await client.call_tool("chat", {"session_id": "a"})).structured_content
            return answer["n"]

    async with mcp.gateway(chat()) as (url, _):  # pyright: ignore[reportArgumentType]
        assert [await asks(url, who) for who in ("alice", "bob", "alice")] == [1, 1, 2]
