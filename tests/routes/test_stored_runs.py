"""Stored runs through HTTP: lists and cursors, delays, inputs, secrets, dead letters, and whose they are."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from portico.app.factory import create_app
from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, is_problem, listening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.app.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SECRET = "hunter2-3f9a1c"


class BoomError(Exception):
    """What crashes it."""


class Login(BaseModel):
    user: str
    password: SecretStr
    token: Annotated[str, Field(json_schema_extra={"secret": True})] = ""


class Grant(BaseModel):
    user: str
    token: SecretStr
    key: Annotated[str, Field(json_schema_extra={"secret": True})] = SECRET


class Clerk(AgentProcess):
    """Does a bit of everything."""

    broken = True

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.go_on = asyncio.Event()

    @operation
    async def greet(self, ctx: Context, text: str = "") -> dict[str, Any]:
        return {"text": text, "metadata": dict(ctx.metadata)}

    @operation
    async def wait(self) -> str:
        await self.go_on.wait()
        return "done"

    @operation
    async def approve(self, ctx: Context) -> Any:
        return await ctx.wait_input("Approve?", {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}})

    @operation
    async def impatient(self, ctx: Context) -> Any:
        return await ctx.wait_input("Quick?", timeout=0.05)

    @operation
    async def refuse(self) -> None:
        raise AgentError("sold-out", "None left.")

    @operation
    async def crash(self) -> str:
        if type(self).broken:
            raise BoomError
        return "mended"

    @operation
    async def tick(self) -> str:
        await self.send("ticker", {"n": 1}, "tick-tock")
        return "sent"


class Ticker(AgentProcess):
    """Takes messages of any type."""

    broken = True

    async def handle(self, message: Any) -> Any:
        if type(self).broken:
            raise BoomError
        return message.payload


class Vault(AgentProcess):
    """Is given secrets, and gives some."""

    @operation
    async def login(self, request: Login, ctx: Context) -> Grant:
        assert request.password.get_secret_value() == SECRET
        return Grant(user=request.user, token=request.password)

    @operation
    async def grant(self, user: str) -> Grant:
        self.state["granted"] = user
        return Grant(user=user, token=SecretStr(SECRET))

    @operation
    async def crash(self, request: Login) -> str:
        raise BoomError

    @operation
    async def opened(self) -> str:
        reply = await self.ask("keeper", {"user": "ann"}, "grant")
        return str(reply.payload["user"])

    @operation
    async def passed_on(self, ctx: Context) -> str:
        ctx.transfer("keeper", {"user": "ann", "password": SECRET, "token": SECRET}, operation="login")

    @operation
    async def sent_on(self) -> str:
        await self.send("keeper", {"user": "ann", "password": SECRET, "token": SECRET}, "login")
        await self.send("keeper", {"user": "ann", "password": SECRET, "token": SECRET}, "crash")
        await self.send("keeper", {"password": SECRET, "token": SECRET}, "login")
        return "sent"

    @operation
    async def asked_for(self, ctx: Context) -> str:
        given = await ctx.wait_input("Password?", Login)
        assert given.password.get_secret_value() == SECRET
        return given.user


@pytest.fixture(params=["memory", "sqlite"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the gateway stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


@pytest.fixture(autouse=True)
def _broken() -> None:
    Clerk.broken = Ticker.broken = True


@asynccontextmanager
async def serving(data: Path | None, *agents: AgentProcess, **settings: Any) -> AsyncGenerator[Served]:
    children = agents or (Clerk("clerk"), Ticker("ticker"))
    runtime = Runtime(Supervisor("root", children=children, backoff_base=0.0), data=data)
    config = replace(ANY_PORT, **settings)
    async with asyncio.timeout(20), listening(create_app(runtime, config), config) as gateway:
        yield gateway


async def start(gateway: Served, operation_name: str, payload: Any = None, agent: str = "clerk", **body: Any) -> str:
    """Start a run, and return where it is."""
    body = {"agent": agent, "operation": operation_name, "payload": {} if payload is None else payload, **body}
    response = await gateway.client.post("/runs", json=body)
    assert response.status_code == 202, response.text
    return response.headers["location"]


async def ended(gateway: Served, location: str) -> dict[str, Any]:
    run = (await gateway.client.get(location, params={"wait": 10})).json()
    assert run["finished_at"], run
    return run


async def at(gateway: Served, location: str, status: str) -> dict[str, Any]:
    while (run := (await gateway.client.get(location)).json())["status"] != status:
        assert not run["finished_at"], run
        await asyncio.sleep(0.005)
    return run


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_every_run_is_on_exactly_one_page_though_all_began_at_the_same_moment(data: Path | None, limit: int) -> None:
    async with serving(data) as gateway:
        ids: list[str] = []
        for number in range(20):
            if number % 4 == 0:
                ids.append((await ended(gateway, await start(gateway, "greet", {"text": str(number)})))["run_id"])
            await gateway.client.post("/agents/clerk/greet", json={"text": "plain"})
        runs = list(gateway.gateway.dispatcher.book.plain.newest_first())
        for run in runs:
            run.created = runs[0].created
        ids += [run.run_id for run in runs]
        seen: list[str] = []
        before: str | None = None
        while True:
            params = {"limit": str(limit), **({"before": before} if before else {})}
            page = (await gateway.client.get("/runs", params=params)).json()
            seen += [run["run_id"] for run in page["runs"]]
            before = page["next"]
            if before is None:
                break
        assert sorted(seen) == sorted(ids)


async def test_lists_can_be_narrowed(data: Path | None) -> None:
    async with serving(data) as gateway:
        greeted = await ended(gateway, await start(gateway, "greet"))
        refused = await ended(gateway, await start(gateway, "refuse"))
        waits = await at(gateway, await start(gateway, "approve"), "waiting")
        ticked = await ended(gateway, await start(gateway, "tick"))

        async def ids(**params: str) -> list[str]:
            return [run["run_id"] for run in (await gateway.client.get("/runs", params=params)).json()["runs"]]

        assert await ids(status="failed", agent="clerk") == [refused["run_id"]]
        assert await ids(status="waiting") == [waits["run_id"]]
        assert set(await ids(status="succeeded", agent="clerk")) == {greeted["run_id"], ticked["run_id"]}
        children = (await gateway.client.get("/runs", params={"parent": ticked["run_id"]})).json()["runs"]
        assert [(run["agent"], run["operation"], run["parent_id"]) for run in children] == [
            ("ticker", "tick-tock", ticked["run_id"])
        ]
        is_problem(await gateway.client.get("/runs", params={"before": "nobody"}), 404, "run-not-found")
        assert (await gateway.client.get("/runs", params={"status": "nonsense"})).status_code == 422


# --- delays and metadata ----------------------------------------------------------------------------------------------

WHEN = "2100-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ({"delay": 1, "delay_until": WHEN}, None),
        ({"delay": 1}, WHEN),
        ({"delay_until": WHEN}, WHEN),
        ({"delay": 0, "delay_until": WHEN}, None),
        ({"delay": -1}, None),
        ({"delay": 1e12}, None),
        ({"delay": "soon"}, None),
        ({"delay_until": "2100-01-01T00:00:00"}, None),
        ({"delay_until": "tomorrow"}, None),
        ({"delay_until": "4102444800"}, None),
        ({}, "4102444800"),
        ({}, "tomorrow"),
        ({}, "2100-01-01T00:00:00"),
        ({"metadata": [1]}, None),
    ],
)
async def test_a_delay_that_cannot_be_is_refused(body: dict[str, Any], header: str | None) -> None:
    async with serving(None) as gateway:
        whole: dict[str, Any] = {"agent": "clerk", "operation": "greet", "payload": {}, **body}
        response = await gateway.client.post("/runs", json=whole, headers={"Delay-Until": header} if header else {})
        assert response.status_code in (400, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert (await gateway.client.get("/runs")).json()["runs"] == []


async def test_not_a_number_is_no_delay() -> None:
    async with serving(None) as gateway:
        body = b'{"agent": "clerk", "operation": "greet", "delay": NaN}'
        response = await gateway.client.post("/runs", content=body, headers={"Content-Type": "application/json"})
        is_problem(response, 400, "malformed-body")


@pytest.mark.parametrize(
    "when",
    ["2001-01-01T00:00:00Z", "1900-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", -1e10, 0],
)
async def test_what_was_to_run_in_the_past_runs_at_once_and_can_be_read(data: Path | None, when: Any) -> None:
    async with serving(data) as gateway:
        body: dict[str, Any] = {"agent": "clerk", "operation": "greet", "payload": {}, "delay_until": when}
        response = await gateway.client.post("/runs", json=body)
        if response.status_code == 202:
            read = await gateway.client.get(response.headers["location"], params={"wait": 5})
            assert (read.status_code, read.json()["status"]) == (200, "succeeded")
        assert (await gateway.client.get("/runs")).status_code == 200


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", 1e11, 253402300799])
async def test_what_is_to_run_in_the_far_future_waits_and_can_be_cancelled(data: Path | None, when: Any) -> None:
    async with serving(data) as gateway:
        body: dict[str, Any] = {"agent": "clerk", "operation": "greet", "payload": {}, "delay_until": when}
        response = await gateway.client.post("/runs", json=body)
        assert response.status_code in (202, 422)
        if response.status_code == 202:
            location = response.headers["location"]
            assert (await gateway.client.get(location)).json()["status"] == "queued"
            first, second = await asyncio.gather(*(gateway.client.post(f"{location}/cancel") for _ in range(2)))
            assert first.json()["status"] == second.json()["status"] == "cancelled"


async def test_metadata_reaches_the_handler_and_whoever_reads_the_run(data: Path | None) -> None:
    async with serving(data) as gateway:
        metadata = {"order": 7, "deep": {"a": [None, True, "ü"]}}
        run = await ended(gateway, await start(gateway, "greet", {"text": "hi"}, metadata=metadata, delay=0.01))
        assert run["output"] == {"text": "hi", "metadata": metadata}
        assert run["metadata"] == metadata


# --- inputs -----------------------------------------------------------------------------------------------------------


async def test_a_run_is_answered_over_http_by_exactly_one(data: Path | None) -> None:
    async with serving(data) as gateway:
        location = await start(gateway, "approve")
        is_problem(await gateway.client.post("/runs/nobody/input", json=1), 404, "run-not-found")
        waits = await at(gateway, location, "waiting")
        assert waits["waiting_for"]["prompt"] == "Approve?"
        problem = is_problem(await gateway.client.post(f"{location}/input", json={"ok": 3}), 422, "contract-violated")
        assert [fault["path"] for fault in problem["errors"]] == ["/ok"]
        answers = [gateway.client.post(f"{location}/input", json={"ok": number % 2 == 0}) for number in range(10)]
        statuses = [one.status_code for one in await asyncio.gather(*answers)]
        assert sorted(statuses) == [200] + [409] * 9
        assert (await ended(gateway, location))["output"] == {"ok": statuses.index(200) % 2 == 0}


async def test_a_plain_ask_waits_with_its_caller(data: Path | None) -> None:
    async with serving(data) as gateway, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(gateway.client.post("/agents/clerk/approve", json={}))
        while not (runs := (await gateway.client.get("/runs", params={"status": "waiting"})).json()["runs"]):  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(0.005)
        location = f"/runs/{runs[0]['run_id']}"
        assert (await gateway.client.post(f"{location}/input", json={"ok": True})).status_code == 200
        assert (await asked).json() == {"ok": True}
        is_problem(await gateway.client.post(f"{location}/input", json={"ok": True}), 409, "not-waiting")


async def test_nobody_answers_in_time_is_a_504(data: Path | None) -> None:
    async with serving(data) as gateway:
        is_problem(await gateway.client.post("/agents/clerk/impatient", json={}), 504, "input-timeout")
        keyed = await gateway.client.post("/agents/clerk/impatient", json={}, headers={"Idempotency-Key": "k"})
        is_problem(keyed, 504, "input-timeout")


# --- dead letters -----------------------------------------------------------------------------------------------------


async def letters(gateway: Served) -> list[dict[str, Any]]:
    return (await gateway.client.get("/dead-letters")).json()["dead_letters"]


async def test_a_run_that_was_given_up_is_sent_again_once(data: Path | None) -> None:
    async with serving(data) as gateway:
        location = await start(gateway, "crash")
        run = await ended(gateway, location)
        assert [letter["id"] for letter in await letters(gateway)] == [run["run_id"]]
        Clerk.broken = False
        response = await gateway.client.post(f"/dead-letters/{run['run_id']}/redrive")
        assert response.status_code == 202
        assert (await ended(gateway, response.headers["location"]))["output"] == "mended"
        assert await letters(gateway) == []
        is_problem(await gateway.client.post(f"/dead-letters/{run['run_id']}/redrive"), 409, "not-redrivable")
        is_problem(await gateway.client.post("/dead-letters/nobody/redrive"), 404, "run-not-found")
        assert (await gateway.client.get(location)).json()["status"] == "failed"


async def test_a_dead_letter_that_is_sent_again_by_several_at_once_becomes_one_run(data: Path | None) -> None:
    async with serving(data) as gateway:
        run = await ended(gateway, await start(gateway, "crash"))
        Clerk.broken = False
        redrive = [gateway.client.post(f"/dead-letters/{run['run_id']}/redrive") for _ in range(5)]
        responses = await asyncio.gather(*redrive)
        locations = {one.headers.get("location") for one in responses if one.status_code == 202}
        assert len(locations) == 1


async def test_a_send_of_any_kind_that_fails_is_a_dead_letter(data: Path | None) -> None:
    async with serving(data) as gateway:
        sent = await gateway.client.post("/agents/clerk/refuse/cast", json={})
        asked = await ended(gateway, await start(gateway, "refuse"))
        run = await ended(gateway, sent.headers["location"])
        assert asked["status"] == run["status"] == "failed"
        assert [letter["id"] for letter in await letters(gateway)] == [run["run_id"]]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_what_a_handler_sent_and_nobody_could_handle_can_be_sent_again(data: Path | None, how: str) -> None:
    async with serving(data) as gateway:
        if how == "stored":
            await ended(gateway, await start(gateway, "tick"))
        else:
            await gateway.client.post("/agents/clerk/tick", json={})
        while not (found := await letters(gateway)):  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(0.01)
        (letter,) = found
        assert (letter["agent"], letter["operation"], letter["payload"]) == ("ticker", "tick-tock", {"n": 1})
        Ticker.broken = False
        response = await gateway.client.post(f"/dead-letters/{letter['id']}/redrive")
        assert response.status_code == 202, response.text
        assert (await ended(gateway, response.headers["location"]))["status"] == "succeeded"
        assert await letters(gateway) == []


async def test_a_dead_letter_of_an_agent_that_is_not_exposed_can_be_sent_again(data: Path | None) -> None:
    async with serving(data, Clerk("clerk", expose=True), Ticker("ticker", expose=False)) as gateway:
        await ended(gateway, await start(gateway, "tick"))
        while not (found := await letters(gateway)):  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(0.01)
        Ticker.broken = False
        response = await gateway.client.post(f"/dead-letters/{found[0]['id']}/redrive")
        assert response.status_code == 202, response.text


# --- secrets ----------------------------------------------------------------------------------------------------------


def secrets_in(directory: Path) -> list[str]:
    """The files that have the secret."""
    return [path.name for path in directory.iterdir() if SECRET.encode() in path.read_bytes()]


LOGIN = {"user": "ann", "password": SECRET, "token": SECRET}


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("login", LOGIN),
        ("crash", LOGIN),
        ("grant", {"user": "ann"}),
        ("opened", {}),
        ("passed_on", {}),
        ("sent_on", {}),
        ("asked_for", {}),
    ],
)
async def test_a_secret_is_nowhere_on_the_disk_and_in_no_record(data: Path | None, name: str, payload: Any) -> None:
    async with serving(data, Vault("vault"), Vault("keeper")) as gateway:
        location = await start(gateway, name, payload, agent="vault")
        if name == "asked_for":
            await at(gateway, location, "waiting")
            answered = await gateway.client.post(f"{location}/input", json=LOGIN)
            assert answered.status_code == 200
            assert SECRET not in answered.text
        waited = await gateway.client.get(location, params={"wait": 10})
        assert waited.json()["status"] == ("failed" if name == "crash" else "succeeded")
        if name == "sent_on":
            while sum(run["finished_at"] is not None for run in (await gateway.client.get("/runs")).json()["runs"]) < 4:  # noqa: ASYNC110  # there is no event of it
                await asyncio.sleep(0.01)
        texts = [waited.text]
        paths = (location, f"{location}/events", "/runs", "/dead-letters")
        texts += [(await gateway.client.get(path)).text for path in paths]
        found = [text for text in texts if SECRET in text]
        on_disk = secrets_in(data) if data is not None else []
        assert (on_disk, found) == ([], [])


async def test_what_had_secrets_cannot_be_sent_again(data: Path | None) -> None:
    async with serving(data, Vault("vault"), Vault("keeper")) as gateway:
        run = await ended(gateway, await start(gateway, "crash", LOGIN, agent="vault"))
        is_problem(await gateway.client.post(f"/dead-letters/{run['run_id']}/redrive"), 409, "not-redrivable")
