"""`POST /runs/batch`: many runs with one request, each accepted or refused by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portico.kernel.process import AgentProcess
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo

if TYPE_CHECKING:
    import httpx

    from portico.kernel.messages import Message
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Diary(AgentProcess):
    """Writes down what comes, in its order."""

    async def handle(self, message: Message) -> list[Any]:
        self.state["seen"] = [*self.state.get("seen", []), message.payload]
        return self.state["seen"]


async def start(gateway: Served, *runs: Any, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.client.post("/runs/batch", json={"runs": list(runs)}, headers=given)


async def test_they_are_delivered_in_their_order_and_each_can_be_found() -> None:
    async with served(Diary("diary")) as gateway:
        answer = await start(gateway, *({"agent": "diary", "payload": number} for number in range(100)))
        assert answer.status_code == 207
        started = answer.json()["runs"]
        last = (await gateway.client.get(started[-1]["location"], params={"wait": 20})).json()
        assert (last["run_id"], last["output"]) == (started[-1]["run"]["run_id"], list(range(100)))
        assert len({one["run"]["run_id"] for one in started}) == 100


async def test_one_that_is_refused_does_not_take_the_others_along() -> None:
    async with served(Echo("echo"), Diary("diary")) as gateway:
        answer = await start(
            gateway,
            {"agent": "diary", "payload": 1},
            {"agent": "dairy", "payload": 2},
            {"agent": "echo", "payload": {"txt": "x"}},
            {"agent": "diary", "payload": 4, "run_id": "mine"},
        )
        assert answer.status_code == 207
        first, unknown, broken, last = answer.json()["runs"]
        assert (first["problem"], last["problem"], last["run"]["run_id"], last["location"]) == (None, None, "mine", "/runs/mine")
        assert (unknown["problem"]["type"], unknown["run"]) == ("/problems/agent-not-found", None)
        assert "Did you mean 'diary'?" in unknown["problem"]["detail"]
        assert (broken["problem"]["status"], broken["problem"]["request_id"]) == (422, answer.headers["x-request-id"])
        assert (await gateway.client.get("/runs/mine", params={"wait": 20})).json()["output"] == [1, 4]


async def test_the_same_key_starts_none_of_them_twice() -> None:
    async with served(Diary("diary")) as gateway:
        runs = [{"agent": "diary", "payload": number} for number in range(3)]
        first = (await start(gateway, *runs, idempotency_key="k")).json()["runs"]
        again = (await start(gateway, *runs, idempotency_key="k")).json()["runs"]
        assert [one["run"]["run_id"] for one in again] == [one["run"]["run_id"] for one in first]
        assert [one["replayed"] for one in (*first, *again)] == [False] * 3 + [True] * 3
        other = await start(gateway, {"agent": "diary", "payload": "another"}, idempotency_key="k")
        assert (other.status_code, other.json()["runs"][0]["problem"]["type"]) == (207, "/problems/key-reused")
        assert len((await gateway.client.get("/runs")).json()["runs"]) == 3


async def test_each_counts_to_its_caller_s_quota() -> None:
    async with served(Diary("diary"), rate_limit=["2/hour"]) as gateway:
        answer = await start(gateway, *({"agent": "diary", "payload": number} for number in range(4)))
        assert answer.status_code == 207
        problems = [one["problem"] for one in answer.json()["runs"]]
        assert problems[:2] == [None, None]
        assert [problem["status"] for problem in problems[2:]] == [429, 429]
        assert answer.headers["ratelimit"].startswith('"2/hour";r=0')


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/runs"),
        ({"runs": []}, "/runs"),
        ({"runs": [{"agent": "echo"}] * 101}, "/runs"),
        ({"runs": [{"agent": "echo"}, {"operation": "x"}]}, "/runs/1/agent"),
        ({"runs": [{"agent": "echo", "odd": 1}]}, "/runs/0/odd"),
        ([], ""),
    ],
)
async def test_a_batch_that_cannot_be_is_refused_whole(body: Any, path: str) -> None:
    async with served(Echo("echo")) as gateway:
        refused = await gateway.client.post("/runs/batch", json=body)
        assert [fault["path"] for fault in is_problem(refused, 422, "contract-violated")["errors"]] == [path]
        assert (await gateway.client.get("/runs")).json()["runs"] == []
