"""`/runs`: sends and other runs that nobody waits for, and how they are found again."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo, Slow

if TYPE_CHECKING:
    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


async def ended(gateway: Served, location: str) -> dict[str, Any]:
    """The record of a run, once it has ended."""
    return (await gateway.client.get(location, params={"wait": 5})).json()


# --- starting ---------------------------------------------------------------------------------------------------------


async def test_a_send_is_answered_with_the_place_of_its_run_which_succeeds(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo/cast", json={"text": "a"})
    run = await ended(gateway, response.headers["location"])

    assert response.status_code == 202
    assert response.json()["run_id"] == run["run_id"]
    assert run["status"] == "succeeded"


async def test_a_send_that_breaks_the_contract_is_refused_and_leaves_no_run(gateway: Served) -> None:
    before = (await gateway.client.get("/runs?limit=1")).json()["runs"]
    is_problem(await gateway.client.post("/agents/echo/cast", json={}), 422, "contract-violated")

    assert (await gateway.client.get("/runs?limit=1")).json()["runs"] == before


async def test_a_send_to_a_full_mailbox_is_refused_at_once() -> None:
    slow = Slow("slow", mailbox_size=1, expose=True)
    async with served(slow) as gateway:
        statuses: list[int] = []
        for _ in range(3):
            statuses.append((await gateway.client.post("/agents/slow/wait/cast")).status_code)
            await slow.began.wait()
        slow.go_on.set()

    assert statuses == [202, 202, 503]


class Inbox(AgentProcess):
    @route("POST", "/inbox", mode="send")
    @operation
    async def take(self, text: str) -> None:
        self.state["texts"] = [*self.state.get("texts", []), text]

    @route("POST", "/inbox/{kind}", mode="cast")
    async def handle(self, message: Message) -> Any:
        return message.payload


async def test_a_declared_route_can_be_a_send() -> None:
    async with served(Inbox("inbox", expose=True)) as gateway:
        first = await gateway.client.post("/inbox", json={"text": "a"})
        other = await gateway.client.post("/inbox/letters", json={"text": "b"})
        assert (first.status_code, other.status_code) == (202, 202)
        assert (await ended(gateway, first.headers["location"]))["status"] == "succeeded"
        assert (await ended(gateway, other.headers["location"]))["output"] == {"text": "b", "kind": "letters"}
        assert (await gateway.client.get("/agents/inbox/state")).json() == {"texts": ["a"]}


async def test_a_run_can_be_started_by_the_name_of_agent_and_operation(gateway: Served) -> None:
    body = {"agent": "teller", "operation": "tell", "payload": {"upto": 1}}
    response = await gateway.client.post("/runs", json=body)
    run = await ended(gateway, response.headers["location"])

    assert response.status_code == 202
    assert {key: run[key] for key in ("agent", "operation", "status", "attempts", "output", "error")} == {
        "agent": "teller",
        "operation": "tell",
        "status": "succeeded",
        "attempts": 1,
        "output": "told",
        "error": None,
    }
    assert datetime.fromisoformat(run["created_at"]) <= datetime.fromisoformat(run["finished_at"])


@pytest.mark.parametrize(("body", "payload"), [({}, {}), ({"payload": None}, None), ({"payload": [1]}, [1])])
async def test_the_payload_of_a_run_is_what_was_sent(gateway: Served, body: dict[str, Any], payload: Any) -> None:
    response = await gateway.client.post("/runs", json={"agent": "mirror", **body})

    assert (await ended(gateway, response.headers["location"]))["output"]["payload"] == payload


async def test_a_run_of_an_unknown_agent_is_refused_with_the_nearest(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/runs", json={"agent": "ecko"}), 404, "agent-not-found")

    assert "'echo'" in problem["detail"]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_a_run_is_there_while_it_runs_and_waiting_for_it_ends_with_it() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        await slow.began.wait()
        running = (await gateway.client.get(location, params={"wait": 0.02})).json()
        slow.go_on.set()
        finished = await ended(gateway, location)

    assert (running["status"], running["finished_at"], running["attempts"], running["stored"]) == ("running", None, 1, True)
    assert (finished["status"], finished["attempts"]) == ("succeeded", 1)


async def test_a_failed_run_tells_why(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/errors/buy/cast", json={"item": "tea"})).headers["location"]
    run = await ended(gateway, location)

    assert (run["status"], run["output"]) == ("failed", None)
    assert run["error"] == {"slug": "sold-out", "detail": "No tea left."}


async def test_a_plain_ask_leaves_a_run_too(gateway: Served) -> None:
    await gateway.client.post("/agents/echo", json={"text": "the newest"})
    newest = (await gateway.client.get("/runs?limit=1")).json()["runs"][0]

    assert newest["output"] == {"echo": "the newest"}


async def test_an_unknown_run_is_not_found(gateway: Served) -> None:
    for method, path in (("GET", "/runs/none"), ("GET", "/runs/none/events"), ("POST", "/runs/none/cancel")):
        is_problem(await gateway.client.request(method, path), 404, "run-not-found")


async def test_runs_are_listed_newest_first_page_by_page() -> None:
    async with served(Echo("echo")) as gateway:
        ids = [(await gateway.client.post("/agents/echo/cast", json={"text": str(i)})).json()["run_id"] for i in range(5)]
        first = (await gateway.client.get("/runs?limit=2")).json()
        second = (await gateway.client.get("/runs", params={"limit": 2, "before": first["next"]})).json()
        third = (await gateway.client.get("/runs", params={"limit": 2, "before": second["next"]})).json()

    assert [run["run_id"] for page in (first, second, third) for run in page["runs"]] == ids[::-1]
    assert third["next"] is None


@pytest.mark.parametrize("answer", [b"\xff\x00", "\ud800", object(), float("nan"), {1: [b"\xff"]}])
async def test_a_reply_that_cannot_be_printed_hides_no_other_run(gateway: Served, answer: Any) -> None:
    agent: Any = gateway.runtime.get_agent("replies")
    agent.answer, agent.hints = answer, {}
    location = (await gateway.client.post("/agents/replies/cast")).headers["location"]

    assert (await ended(gateway, location))["status"] == "succeeded"
    assert (await gateway.client.get("/runs")).status_code == 200
    events = await gateway.client.get(f"{location}/events")
    assert "event: run.succeeded" in events.text


async def test_bytes_are_shown_as_base64url(gateway: Served) -> None:
    agent: Any = gateway.runtime.get_agent("replies")
    agent.answer, agent.hints = b"\xff\xfe", {}
    location = (await gateway.client.post("/agents/replies/cast")).headers["location"]

    assert (await ended(gateway, location))["output"] == "__4="


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_cancelling_a_run_cancels_its_handler() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        location = (await gateway.client.post("/agents/slow/wait/cast")).headers["location"]
        await slow.began.wait()
        cancelled = (await gateway.client.post(f"{location}/cancel")).json()
        await slow.cancelled.wait()
        slow.go_on.set()
        assert (await gateway.client.post("/agents/slow/wait")).json() == "done"  # the agent lives

    assert cancelled["status"] == "cancelled"
    assert cancelled["error"]["slug"] == "cancelled"


async def test_who_waits_for_a_run_that_somebody_cancels_is_told() -> None:
    slow = Slow("slow", expose=True)
    responses: list[httpx.Response] = []
    async with served(slow) as gateway:

        async def ask() -> None:
            responses.append(await gateway.client.post("/agents/slow/wait"))

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await slow.began.wait()
            run = (await gateway.client.get("/runs")).json()["runs"][0]
            await gateway.client.post(f"/runs/{run['run_id']}/cancel")
            await slow.cancelled.wait()

    is_problem(responses[0], 409, "cancelled")


async def test_cancelling_a_run_that_has_ended_changes_nothing(gateway: Served) -> None:
    location = (await gateway.client.post("/agents/echo/cast", json={"text": "a"})).headers["location"]
    await ended(gateway, location)
    run = (await gateway.client.post(f"{location}/cancel")).json()

    assert run["status"] == "succeeded"
