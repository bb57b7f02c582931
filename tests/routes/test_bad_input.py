"""Bad input: each kind is refused with its own status, as a problem, before any agent sees it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.serving import head, is_problem, raw, served
from tests.routes.agents import Echo, Mirror, Slow

if TYPE_CHECKING:
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
BODY_PATHS = ["/agents/mirror", "/agents/mirror/cast", "/agents/echo", "/runs"]
"""Every way in that takes a body."""


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\xff"}',
        b'"\\ud800"',
        b"[" * 100_000,
        b"[" * 300 + b"]" * 300,
        b'{"a": 1',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {"b": 2}',
        b"\xef\xbb\xbf{}",
        b" ",
        b"1" * 5000,
    ],
    ids=["nan", "infinity", "utf-8", "surrogate", "open", "deep", "cut", "quotes", "comma", "two", "bom", "blank", "digits"],
)
async def test_a_body_that_is_not_json_is_refused(gateway: Served, path: str, body: bytes) -> None:
    is_problem(await gateway.client.post(path, content=body, headers=JSON), 400, "malformed-body")


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/jsonl", None, "json", ""])
async def test_a_body_of_another_kind_than_json_is_refused(gateway: Served, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}

    is_problem(await gateway.client.post(path, content=b"{}", headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize("path", BODY_PATHS)
async def test_a_body_that_announces_more_than_the_limit_is_refused_before_it_is_sent(gateway: Served, path: str) -> None:
    announced = head("POST", path, "Content-Type: application/json", "Content-Length: 10000000000")
    response = await asyncio.wait_for(raw(gateway.port, announced), 5)

    problem = is_problem(response, 413, "body-too-large")
    assert problem["limit"] == 4 * 1024 * 1024
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("path", BODY_PATHS)
async def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit(gateway: Served, path: str) -> None:
    start = head("POST", path, "Content-Type: application/json", "Transfer-Encoding: chunked")
    chunks = (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 4 + b"1\r\n \r\n"  # no last chunk follows

    response = await asyncio.wait_for(raw(gateway.port, start + chunks), 5)

    is_problem(response, 413, "body-too-large")


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with served(Mirror("mirror"), body_limit=1000) as gateway:
        body = json.dumps("x" * 998)
        taken = await gateway.client.post("/agents/mirror", content=body, headers=JSON)
        refused = await gateway.client.post("/agents/mirror", content=body + " ", headers=JSON)

    assert taken.status_code == 200
    is_problem(refused, 413, "body-too-large")


@pytest.mark.parametrize("path", ["/agents/echo", "/agents/echo/cast", "/runs"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_truncated_upload_is_never_dispatched(path: str, *, chunked: bool) -> None:
    Echo.handled = 0
    body = b'{"text": "whole"}' if path != "/runs" else b'{"agent": "echo", "payload": {"text": "whole"}}'
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) + 1}"  # one byte never comes
    sent = b"%x\r\n%s\r\n" % (len(body), body) if chunked else body
    async with served(Echo("echo")) as gateway:
        with pytest.raises(asyncio.IncompleteReadError):
            await raw(gateway.port, head("POST", path, "Content-Type: application/json", length) + sent, then_close=True)
        assert (await gateway.client.get("/runs")).json()["runs"] == []

    assert Echo.handled == 0


@pytest.mark.parametrize("length", ["-5", "many", "0x10"])
async def test_a_content_length_that_is_no_number_is_refused(gateway: Served, length: str) -> None:
    response = await raw(
        gateway.port, head("POST", "/agents/mirror", "Content-Type: application/json", f"Content-Length: {length}")
    )

    assert response.status == 400


# --- contracts --------------------------------------------------------------------------------------------------------


async def test_a_broken_contract_names_every_fault_with_its_path(gateway: Served) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": 7, "times": 11})
    problem = is_problem(response, 422, "contract-violated")

    assert {(fault["path"], fault["type"]) for fault in problem["errors"]} == {
        ("/text", "string_type"),
        ("/times", "less_than_equal"),
    }
    assert "input" not in problem["errors"][0]


@pytest.mark.parametrize("body", ["[]", '"text"', "null", "7"])
async def test_a_body_that_is_no_object_breaks_the_contract_of_one(gateway: Served, body: str) -> None:
    is_problem(await gateway.client.post("/agents/echo", content=body, headers=JSON), 422, "contract-violated")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/agent"),
        ({"agent": 7}, "/agent"),
        ({"agent": "echo", "agnet": "echo"}, "/agnet"),
        ({"agent": "echo", "payload": {}}, "/text"),
        ([], ""),
    ],
)
async def test_a_run_that_cannot_be_is_refused_with_the_path_of_the_fault(gateway: Served, body: Any, path: str) -> None:
    problem = is_problem(await gateway.client.post("/runs", json=body), 422, "contract-violated")

    assert problem["errors"][0]["path"] == path


@pytest.mark.parametrize("query", ["wait=-1", "wait=nan", "wait=inf", "wait=301", "wait=soon"])
async def test_a_wait_that_cannot_be_is_refused(gateway: Served, query: str) -> None:
    run = (await gateway.client.post("/runs", json={"agent": "mirror"})).json()["run_id"]
    problem = is_problem(await gateway.client.get(f"/runs/{run}?{query}"), 422, "contract-violated")

    assert (problem["errors"][0]["path"], problem["errors"][0]["in"]) == ("/wait", "query")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x"])
async def test_a_page_that_cannot_be_is_refused(gateway: Served, query: str) -> None:
    is_problem(await gateway.client.get(f"/runs?{query}"), 422, "contract-violated")


# --- names and methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("POST", "/agents/ecko"), ("GET", "/agents/ecko"), ("POST", "/agents/ecko/cast")])
async def test_an_unknown_agent_suggests_the_nearest(gateway: Served, method: str, path: str) -> None:
    problem = is_problem(await gateway.client.request(method, path), 404, "agent-not-found")

    assert problem["detail"] == "There is no agent 'ecko'. Did you mean 'echo'?"


async def test_an_unknown_operation_suggests_the_nearest(gateway: Served) -> None:
    problem = is_problem(await gateway.client.post("/agents/errors/silense"), 404, "operation-not-found")

    assert "Did you mean 'silence'" in problem["detail"]


@pytest.mark.parametrize("path", ["/agents/teller", "/agents/teller/cast"])
async def test_an_agent_of_several_operations_says_which_they_are(gateway: Served, path: str) -> None:
    problem = is_problem(await gateway.client.post(path), 404, "operation-not-found")

    assert "'tell' or 'odd' or 'fail_late'" in problem["detail"]


async def test_the_only_operation_of_an_agent_has_no_path_of_its_own(gateway: Served) -> None:
    is_problem(await gateway.client.post("/agents/echo/echo", json={"text": "a"}), 404, "not-found")


@pytest.mark.parametrize(
    "path", ["/", "/agent", "/agents//", "/agents//echo", "/runs//", "/docs/assets/nothing", "/%00", "//agents", "/problems/none"]
)
async def test_an_unknown_path_is_a_problem_too(gateway: Served, path: str) -> None:
    problem = is_problem(await gateway.client.get(path), 404, "not-found")

    assert "/agents lists the agents" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/agents/echo", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/agents/echo/cast", "OPTIONS, POST"),
        ("GET", "/agents/errors/silence", "OPTIONS, POST"),
        ("DELETE", "/agents", "GET, HEAD, OPTIONS"),
        ("PUT", "/runs", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("POST", "/docs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_is_not_served_is_told_which_are(gateway: Served, method: str, path: str, allow: str) -> None:
    response = await gateway.client.request(method, path)

    is_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allow


# --- accept -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "image/png, text/plain", "application/json;q=0", "*/*;q=0.0", "nonsense"])
async def test_a_client_that_takes_no_kind_of_reply_is_refused(gateway: Served, accept: str) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"accept": accept})

    is_problem(response, 406, "not-acceptable")


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*", "application/json", "text/html, */*;q=0.1", "application/problem+json", "", "a/b;q=0, */*"]
)
async def test_a_client_that_takes_json_among_others_gets_it(gateway: Served, accept: str) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"accept": accept})

    assert response.json() == {"echo": "a"}


async def test_where_no_contract_says_that_the_reply_is_json_any_kind_may_be_asked_for(gateway: Served) -> None:
    response = await gateway.client.post("/agents/mirror", headers={"accept": "image/png"})

    assert response.status_code == 200


# --- control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["portico.stop", "portico.start", "handle", "__init__", "on_stop", "stop"])
async def test_a_client_cannot_reach_what_is_no_operation(gateway: Served, word: str) -> None:
    is_problem(await gateway.client.post(f"/agents/mirror/{word}"), 404, "operation-not-found")
    is_problem(await gateway.client.post("/runs", json={"agent": "mirror", "operation": word}), 404, "operation-not-found")


async def test_a_client_cannot_choose_type_or_sender(gateway: Served) -> None:
    lies = {"type": "portico.stop", "sender": "root", "message_type": "portico.stop", "recipient": "echo"}
    headers = {
        "X-Message-Type": "portico.stop",
        "X-Agency-Type": "portico.stop",
        "X-Sender": "root",
        "Message-Type": "portico.stop",
    }
    seen = (await gateway.client.post("/agents/mirror", json=lies, params=lies, headers=headers)).json()

    assert (seen["type"], seen["sender"]) == ("message", "")
    assert seen["payload"] == lies


async def test_what_is_not_exposed_is_not_there() -> None:
    hidden = Slow("hidden", expose=False)
    async with served(Echo("echo"), hidden) as gateway:
        answers = [
            await gateway.client.post("/agents/hidden/wait"),
            await gateway.client.post("/agents/hidden/wait/cast"),
            await gateway.client.get("/agents/hidden/state"),
            await gateway.client.post("/runs", json={"agent": "hidden", "operation": "wait"}),
            await gateway.client.post("/agents/root"),
        ]

    for answer in answers:
        is_problem(answer, 404, "agent-not-found")
    assert hidden.count == 0
