"""An ask through the HTTP face: what comes back, and in which form."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.serving import is_problem, served
from tests.routes.agents import Crashing, Slow

if TYPE_CHECKING:
    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


async def answer_of(gateway: Served, answer: Any, **hints: Any) -> httpx.Response:
    """What the gateway makes of this answer of an agent."""
    agent: Any = gateway.runtime.get_agent("replies")
    agent.answer, agent.hints = answer, hints
    return await gateway.client.post("/agents/replies")


# --- the usual --------------------------------------------------------------------------------------------------------


async def test_an_ask_is_answered_with_the_reply_as_json(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "hello", "times": 2})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"echo": "hello hello"}


async def test_a_reply_tells_incarnation_and_attempt(gateway: Served) -> None:
    response = await gateway.client.post("/agents/mirror")

    assert response.headers["agent-incarnation"] == "1"
    assert response.headers["agent-attempt"] == "0"


async def test_a_request_has_an_id_of_its_own_unless_the_client_gives_one(gateway: Served) -> None:
    ids = {(await gateway.client.get("/livez")).headers["x-request-id"] for _ in range(3)}
    given = await gateway.client.post("/agents/mirror", headers={"X-Request-ID": "order-7/3"})
    odd = await gateway.client.post("/agents/mirror", headers={"X-Request-ID": "line\tbreak <script>"})

    assert len(ids) == 3
    assert given.headers["x-request-id"] == "order-7/3"
    assert re.fullmatch(r"[0-9a-f-]+", odd.headers["x-request-id"])


async def test_the_callers_trace_reaches_the_agent(gateway: Served) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = await gateway.client.post("/agents/mirror", headers={"traceparent": traceparent})

    assert response.json()["traceparent"] == traceparent


async def test_an_ask_without_a_body_has_an_empty_object_as_payload(gateway: Served) -> None:
    assert (await gateway.client.post("/agents/mirror")).json()["payload"] == {}


@pytest.mark.parametrize("payload", [None, True, 7, "text", [1, [2]], {"a": {"b": None}}])
async def test_any_json_value_can_be_asked_of_an_agent_without_a_contract(gateway: Served, payload: Any) -> None:
    response = await gateway.client.post(
        "/agents/mirror", content=json.dumps(payload), headers={"content-type": "application/json"}
    )

    assert response.json()["payload"] == payload


async def test_json_may_come_under_any_media_type_that_ends_in_json(gateway: Served) -> None:
    response = await gateway.client.post(
        "/agents/mirror", content=b'{"a": 1}', headers={"content-type": "Application/Vnd.Acme+JSON; charset=utf-8"}
    )

    assert response.json()["payload"] == {"a": 1}


# --- kinds of reply ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [{"a": 1}, [1, 2], "text", 0, False, {"error": "not one"}])
async def test_plain_data_is_answered_as_json(gateway: Served, answer: Any) -> None:
    response = await answer_of(gateway, answer)

    assert response.status_code == 200
    assert response.json() == answer


async def test_bytes_are_answered_as_they_are(gateway: Served) -> None:
    response = await answer_of(gateway, b"\x89PNG\xff")

    assert response.content == b"\x89PNG\xff"
    assert response.headers["content-type"] == "application/octet-stream"


async def test_a_number_that_json_does_not_have_becomes_null(gateway: Served) -> None:
    assert (await answer_of(gateway, {"ratio": float("nan"), "much": float("inf")})).json() == {"ratio": None, "much": None}


async def test_an_operation_that_returns_nothing_by_contract_is_answered_204(gateway: Served) -> None:
    response = await gateway.client.post("/agents/errors/quiet")

    assert response.status_code == 204
    assert response.content == b""
    assert "content-type" not in response.headers


async def test_none_that_the_contract_allows_is_answered_as_null(gateway: Served) -> None:
    response = await gateway.client.post("/agents/errors/maybe")

    assert (response.status_code, response.text) == (200, "null")


async def test_an_agent_can_set_status_headers_and_media_type(gateway: Served) -> None:
    response = await answer_of(gateway, "<p>made</p>", status=201, headers={"Location": "/things/7"}, media_type="text/html")

    assert (response.status_code, response.text) == (201, "<p>made</p>")
    assert response.headers["location"] == "/things/7"
    assert response.headers["content-type"] == "text/html"


@pytest.mark.parametrize(
    "media_type", ["text/html", "Text/HTML; charset=utf-8", "image/svg+xml", "application/xml", "application/rss+xml", "text/xsl"]
)
async def test_what_a_browser_would_run_gets_an_origin_of_its_own(gateway: Served, media_type: str) -> None:
    policy = (await answer_of(gateway, "<svg/>", media_type=media_type)).headers["content-security-policy"].split()

    assert policy[0] == "sandbox"
    assert "allow-same-origin" not in policy


async def test_an_agent_can_send_a_policy_of_its_own_and_other_media_types_need_none(gateway: Served) -> None:
    own = await answer_of(gateway, "<p/>", headers={"Content-Security-Policy": "default-src 'self'"}, media_type="text/html")
    plain = await answer_of(gateway, "text", media_type="text/plain")

    assert own.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert "content-security-policy" not in plain.headers


@pytest.mark.parametrize("media_type", ["text/html, text/plain", "text/html x", "text", "", "text/"])
async def test_what_is_no_single_media_type_is_a_broken_reply(gateway: Served, media_type: str) -> None:
    is_problem(await answer_of(gateway, "<p/>", media_type=media_type), 500, "invalid-reply")


async def test_a_status_without_a_body_is_answered_without_one(gateway: Served) -> None:
    response = await answer_of(gateway, {"ignored": True}, status=204)

    assert (response.status_code, response.content) == (204, b"")


async def test_text_under_a_json_media_type_is_json_text(gateway: Served) -> None:
    response = await answer_of(gateway, "text", media_type="application/vnd.acme+json; charset=utf-8")

    assert response.json() == "text"


@pytest.mark.parametrize(
    "hints",
    [
        {"headers": {"X-Note": "a\r\nSet-Cookie: stolen=1"}},
        {"headers": {"X Note": "a"}},
        {"headers": {"X-Note": "snowman ☃"}},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"status": 99},
        {"status": 1000},
        {"status": "200"},
        {"media_type": "text/plain\r\nSet-Cookie: stolen=1"},
    ],
)
async def test_hints_that_no_response_can_have_are_a_broken_reply(gateway: Served, hints: dict[str, Any]) -> None:
    response = await answer_of(gateway, "text", **hints)

    is_problem(response, 500, "invalid-reply")
    assert "set-cookie" not in response.headers


# --- agent trouble ----------------------------------------------------------------------------------------------------


async def test_an_error_that_the_agent_declares_comes_with_its_status_and_what_it_adds(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/agents/errors/buy", json={"item": "tea"}), 409, "sold-out")

    assert problem["detail"] == "No tea left."
    assert problem["left"] == 0
    assert problem["run_id"]


async def test_the_type_of_a_declared_error_leads_to_a_page_about_it(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/agents/errors/buy", json={"item": "tea"}), 409, "sold-out")
    page = (await gateway.client.get(problem["type"])).json()

    assert page["status"] == 409
    assert "'buy'" in page["description"]


async def test_an_agent_chooses_the_status_of_its_error(gateway: Served) -> None:
    is_problem(await gateway.client.post("/agents/errors/teapot"), 418, "teapot")


async def test_an_agent_that_returns_nothing_is_told_on(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/agents/errors/silence"), 500, "no-reply")

    assert "'errors'" in problem["detail"]


async def test_an_agent_that_breaks_its_own_contract_is_told_on(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/agents/errors/lie"), 500, "invalid-reply")

    assert problem["errors"][0]["type"] == "int_parsing"


@pytest.mark.parametrize("answer", [object(), "\ud800", {"deep": b"\xff"}])
async def test_a_reply_that_is_not_json_able_is_a_broken_one(gateway: Served, answer: Any) -> None:
    is_problem(await answer_of(gateway, answer), 500, "invalid-reply")


async def test_a_reply_that_contains_itself_is_a_broken_one(gateway: Served) -> None:
    answer: list[Any] = []
    answer.append(answer)

    is_problem(await answer_of(gateway, answer), 500, "invalid-reply")


async def test_a_crash_that_spent_its_attempts_tells_how_often_and_where_but_not_what_was_said() -> None:
    async with served(Crashing("crashing")) as gateway:
        response = await gateway.client.post("/agents/crashing/always")

    problem = is_problem(response, 502, "agent-crashed")
    assert (problem["attempts"], problem["incarnation"], problem["restarts"]) == (4, 4, 3)
    assert problem["run_id"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text


async def test_what_must_not_be_handled_twice_is_not() -> None:
    async with served(Crashing("crashing")) as gateway:
        problem = is_problem(await gateway.client.post("/agents/crashing/once"), 502, "agent-crashed")

    assert problem["attempts"] == 1


async def test_an_ask_waits_through_a_restart() -> None:
    async with served(Crashing("crashing")) as gateway:
        response = await gateway.client.post("/agents/crashing/at_first")

    assert response.json() == "now"
    assert response.headers["agent-attempt"] == "1"
    assert response.headers["agent-incarnation"] == "2"


async def test_an_agent_that_is_gone_for_good_says_so_at_once() -> None:
    crashing = Crashing("crashing", restart="temporary")
    async with served(crashing) as gateway:
        await gateway.client.post("/agents/crashing/once")
        problem = is_problem(await gateway.client.post("/agents/crashing/once"), 503, "agent-failed")
        status = (await gateway.client.get("/agents/crashing")).json()

    assert "RuntimeError" in problem["detail"]
    assert status["status"] == "failed"


async def test_a_full_mailbox_refuses_with_the_time_to_come_back() -> None:
    slow = Slow("slow", mailbox_size=1, expose=True)
    async with served(slow) as gateway:
        for _ in range(2):
            await gateway.client.post("/runs", json={"agent": "slow", "operation": "wait"})
            await slow.began.wait()
        response = await gateway.client.post("/agents/slow/wait")
        slow.go_on.set()

    is_problem(response, 503, "mailbox-full")
    assert int(response.headers["retry-after"]) >= 1


async def test_who_crashes_agents_too_often_pays_for_it_alone() -> None:
    async with served(Crashing("crashing")) as gateway:
        crashes = [(await gateway.client.post("/agents/crashing/once")).status_code for _ in range(10)]
        refused = await gateway.client.post("/agents/crashing/once")
        allowed = gateway.runtime.supervisor.max_restarts

    assert crashes == [502] * 10
    is_problem(refused, 429, "crash-budget-spent")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert allowed == 3  # far fewer than the crashes: nobody else lost the agent


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_an_ask_that_takes_too_long_is_cancelled_and_answered_504() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        response = await gateway.client.post("/agents/slow/wait", headers={"Request-Timeout": "0.05"})
        await slow.cancelled.wait()

    is_problem(response, 504, "deadline-exceeded")


async def test_a_client_cannot_have_more_time_than_the_route_gives() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        response = await gateway.client.post("/hasty", headers={"Request-Timeout": "3000"})

    is_problem(response, 504, "deadline-exceeded")


@pytest.mark.parametrize("value", ["soon", "", "-1", "0", "nan", "inf", "1e400"])
async def test_a_timeout_that_is_no_number_of_seconds_is_refused(gateway: Served, value: str) -> None:
    response = await gateway.client.post("/agents/mirror", headers={"Request-Timeout": value})

    is_problem(response, 400, "malformed-header")
