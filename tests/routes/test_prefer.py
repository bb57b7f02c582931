"""`Prefer`: an ask that does not want to wait, or not for ever (RFC 7240)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.serving import is_problem, served
from tests.routes.agents import Slow

if TYPE_CHECKING:
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


async def test_respond_async_is_answered_with_the_place_of_the_run(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"Prefer": "respond-async"})
    run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()

    assert response.status_code == 202
    assert response.headers["location"] == f"/runs/{response.json()['run_id']}"
    assert (run["status"], run["output"]) == ("succeeded", {"echo": "a"})


async def test_wait_is_answered_with_the_reply_where_it_comes_in_time(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"Prefer": "respond-async, wait=5"})

    assert (response.status_code, response.json()) == (200, {"echo": "a"})


async def test_wait_is_answered_with_the_problem_where_the_run_fails_in_time(gateway: Served) -> None:
    response = await gateway.client.post("/agents/errors/buy", json={"item": "tea"}, headers={"Prefer": "wait=5"})

    assert is_problem(response, 409, "sold-out")["run_id"]


@pytest.mark.parametrize(
    "headers", [[("Prefer", "wait=0.03")], [("Prefer", "return=minimal; x=1"), ("Prefer", 'wait="0.03"; strictly')]]
)
async def test_wait_is_answered_202_where_the_run_takes_longer_and_it_goes_on(headers: list[tuple[str, str]]) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        response = await gateway.client.post("/agents/slow/wait", headers=headers)
        slow.go_on.set()
        run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()

    assert response.status_code == 202
    assert (run["status"], run["output"]) == ("succeeded", "done")


async def test_a_run_that_nobody_waits_for_may_take_longer_than_an_ask_but_not_than_its_caller_says() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, request_timeout=0.01) as gateway:
        headers = {"Prefer": "respond-async", "Request-Timeout": "0.1"}
        response = await gateway.client.post("/agents/slow/wait", headers=headers)
        run = (await gateway.client.get(response.headers["location"], params={"wait": 5})).json()

    assert run["status"] == "timed_out"
    assert run["error"]["slug"] == "deadline-exceeded"


async def test_other_preferences_leave_an_ask_an_ask(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"Prefer": "return=representation"})

    assert response.json() == {"echo": "a"}


async def test_an_ask_with_other_preferences_is_cancelled_too_when_its_client_leaves() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        with pytest.raises(httpx.ReadTimeout):
            await gateway.client.post("/agents/slow/wait", headers={"Prefer": "return=minimal"}, timeout=0.1)
        await slow.cancelled.wait()


@pytest.mark.parametrize("value", ["wait=soon", "wait=-1", "wait=", "wait=nan"])
async def test_a_wait_that_is_no_number_is_refused(gateway: Served, value: str) -> None:
    is_problem(await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"Prefer": value}), 400, "malformed-header")
