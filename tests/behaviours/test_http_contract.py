"""The HTTP contract, row by row: each row of DESIGN §4 with what shows it, through a real socket.

A test here has its row's name. What is not here, because tests of the rooms show it already:

    declared routes     routes/test_parameters.py, routes/test_asks.py, topology/
    default routes      routes/test_exposure.py, routes/test_asks.py
    the reply           routes/test_asks.py, routes/test_bodies.py
    control             routes/test_exposure.py
    ask                 routes/test_asks.py, routes/test_event_stream.py, routes/test_prefer.py
    send, runs          routes/test_runs.py, routes/test_stored_runs.py
    bad input           routes/test_bad_input.py, routes/test_bodies.py
    agent trouble       routes/test_asks.py, behaviours/test_crashes.py
    errors              routes/test_bad_input.py, routes/test_probes.py, routes/test_event_stream.py
    deadline            routes/test_asks.py, routes/test_prefer.py
    idempotency         routes/test_idempotency.py
    probes, docs        routes/test_probes.py, openapi/
    defaults            app/test_settings.py
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from tests.app.serving import head, is_problem, raw, served
from tests.routes.agents import Echo, Errors, Slow, Teller, Words

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

JSON = "Content-Type: application/json"
OWN = {"date", "x-request-id", "agent-incarnation"}
"""Headers in which two answers to the same request differ."""


class Greeter(AgentProcess):
    """Is asked with GET."""

    asked = 0

    @route("GET", "/greetings/{text}")
    @operation
    async def greet(self, request: Words) -> str:
        type(self).asked += 1
        return f"Hello {request.text}"


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object) -> AsyncGenerator[Served]:
    agents = [Greeter("greeter"), *(Agent(Agent.__name__.lower(), expose=True) for Agent in (Echo, Errors, Slow, Teller))]
    async with served(*agents, patience=None) as one:
        yield one


# --- declared and default routes: every method of every path ----------------------------------------------------------

PATHS = [
    ("/greetings/x", "GET, HEAD, OPTIONS"),
    ("/agents", "GET, HEAD, OPTIONS"),
    ("/agents/echo", "GET, HEAD, OPTIONS, POST"),
    ("/agents/echo/cast", "OPTIONS, POST"),
    ("/agents/echo/state", "GET, HEAD, OPTIONS"),
    ("/agents/errors/quiet", "OPTIONS, POST"),
    ("/agents/errors", "GET, HEAD, OPTIONS"),
    ("/runs", "GET, HEAD, OPTIONS, POST"),
    ("/runs/1", "GET, HEAD, OPTIONS"),
    ("/runs/1/cancel", "OPTIONS, POST"),
    ("/dead-letters", "GET, HEAD, OPTIONS"),
    ("/livez", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/docs/assets/docs.js", "GET, HEAD, OPTIONS"),
    ("/mcp", "DELETE, GET, HEAD, OPTIONS, POST"),
    ("/problems/not-found", "GET, HEAD, OPTIONS"),
]
"""Paths with the methods that they take."""


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("path", "allow"), PATHS)
async def test_default_routes_options_names_the_methods_of_a_path(gateway: Served, path: str, allow: str, slash: str) -> None:
    response = await raw(gateway.port, head("OPTIONS", path + slash))

    assert (response.status, response.headers["allow"], response.body) == (204, allow, b"")
    assert "content-length" not in response.headers


async def test_default_routes_options_of_the_server_is_answered(gateway: Served) -> None:
    response = await raw(gateway.port, head("OPTIONS", "*"))

    assert (response.status, response.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")


@pytest.mark.parametrize(("path", "allow"), PATHS)
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "TRACE"])
async def test_bad_input_405_names_the_methods_of_a_path(gateway: Served, method: str, path: str, allow: str) -> None:
    if method in allow:
        return
    response = await raw(gateway.port, head(method, path))

    is_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("accept_encoding", ["identity", "gzip"])
@pytest.mark.parametrize("path", [path for path, allow in PATHS if "HEAD" in allow and path not in ("/mcp", "/runs")])
async def test_default_routes_head_has_the_headers_of_get_and_no_body(gateway: Served, path: str, accept_encoding: str) -> None:
    answers: list[tuple[bytes, dict[str, str]]] = []
    for method in ("GET", "HEAD"):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head(method, path, "Connection: close", f"Accept-Encoding: {accept_encoding}"))
        start, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
        writer.close()
        lines = [line.partition(": ") for line in start.decode("latin-1").split("\r\n")]
        assert lines[0][0].startswith("HTTP/1.1 200" if path != "/runs/1" else "HTTP/1.1 404")
        answers.append((body, {name: value for name, _, value in lines[1:] if name not in OWN}))

    (whole, of_get), (nothing, of_head) = answers
    assert whole
    assert nothing == b""
    of_get.pop("transfer-encoding", None)  # of a stream nobody knows the length
    assert of_head == of_get


async def test_declared_routes_a_head_asks_the_agent_as_a_get_does(gateway: Served) -> None:
    before = Greeter.asked
    response = await gateway.client.head("/greetings/you")

    assert (Greeter.asked, response.headers["content-length"]) == (before + 1, str(len(b'"Hello you"')))


async def test_runs_a_head_of_a_stream_ends_though_the_stream_goes_on(gateway: Served) -> None:
    reference = await gateway.client.post("/agents/slow/wait", headers={"prefer": "respond-async"})
    run = reference.headers["location"]
    response = await asyncio.wait_for(gateway.client.head(f"{run}/events"), 10)

    assert (await gateway.client.post(f"{run}/cancel")).json()["status"] == "cancelled"
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/greetings/x/"), ("POST", "/agents/echo/"), ("POST", "/agents/echo/cast/"), ("GET", "/agents/"), ("GET", "/runs/")],
)
async def test_default_routes_a_slash_at_the_end_makes_no_difference(gateway: Served, method: str, path: str) -> None:
    body = {"text": "a"} if method == "POST" else None
    plain = await gateway.client.request(method, path[:-1], json=body)
    slashed = await gateway.client.request(method, path, json=body)

    assert slashed.status_code == plain.status_code < 300  # and no redirect, which loses bodies
    is_problem(await gateway.client.request(method, path + "/", json=body), 404, "not-found")


# --- bad input: what is refused before it is read ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/agents/echo", "/runs"])
async def test_bad_input_413_comes_in_place_of_a_100_continue(gateway: Served, path: str) -> None:
    asked = head("POST", path, JSON, "Content-Length: 5000000", "Expect: 100-continue")
    response = await asyncio.wait_for(raw(gateway.port, asked), 10)

    is_problem(response, 413, "body-too-large")


async def test_ask_a_client_that_waits_for_100_continue_gets_it_and_its_reply(gateway: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head("POST", "/agents/echo", JSON, "Content-Length: 13", "Expect: 100-continue"))
    first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.write(b'{"text": "a"}')
    then = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()

    assert first.startswith(b"HTTP/1.1 100 ")
    assert then.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/agents/echo", "/runs"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bad_input_413_reaches_a_client_that_sends_all_the_same_and_closes(
    gateway: Served, path: str, *, chunked: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 8388608"
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n" if chunked else b" " * 0x100000
    async with asyncio.timeout(20):
        writer.write(head("POST", path, JSON, length))
        for _ in range(8):
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()  # to the end: the connection is closed, and not reset
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert answer.endswith(b"}")


async def test_ask_a_body_in_chunks_is_a_body(gateway: Served) -> None:
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"text": "ab"}') + b"0\r\n\r\n"
    response = await raw(gateway.port, head("POST", "/agents/echo", JSON, "Transfer-Encoding: chunked") + body)

    assert response.json() == {"echo": "ab"}


async def test_ask_no_body_is_an_empty_object(gateway: Served) -> None:
    assert (await raw(gateway.port, head("POST", "/agents/teller/tell"))).json() == "told"
    problem = is_problem(await raw(gateway.port, head("POST", "/agents/echo", "Content-Length: 0")), 422, "contract-violated")
    assert problem["errors"][0]["path"] == "/text"


# --- errors: what is not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("path", "slug", "meant"),
    [
        ("/agents/ech", "agent-not-found", "'echo'"),
        ("/agents/ech/", "agent-not-found", "'echo'"),
        ("/agents/errors/silense", "operation-not-found", "'silence'"),
        ("/agent", "not-found", "'/agents'"),
        ("/greeting/x", "not-found", "'/greetings/{text}'"),
        ("/nothing/like/it", "not-found", None),
    ],
)
async def test_errors_what_is_not_there_is_a_404_that_names_the_nearest_for_every_method(
    gateway: Served, method: str, path: str, slug: str, meant: str | None
) -> None:
    problem = is_problem(await gateway.client.request(method, path), 404, slug)

    assert (f"Did you mean {meant}" in problem["detail"]) is (meant is not None)


# --- docs -------------------------------------------------------------------------------------------------------------


async def test_docs_the_document_has_a_strong_tag_and_is_not_sent_twice(gateway: Served) -> None:
    first = await raw(gateway.port, head("GET", "/openapi.json"))
    tag = first.headers["etag"]
    same = [
        await raw(gateway.port, head(method, "/openapi.json", f"If-None-Match: {known}"))
        for method in ("GET", "HEAD")
        for known in (tag, f'"other", W/{tag}', "*")
    ]
    other = await raw(gateway.port, head("GET", "/openapi.json", 'If-None-Match: "other"'))

    assert (tag[0], tag[-1], first.headers["cache-control"]) == ('"', '"', "no-cache")
    assert [(one.status, one.headers["etag"], one.body) for one in same] == [(304, tag, b"")] * 6
    assert (other.status, other.body) == (200, first.body)


async def test_docs_a_document_of_other_agents_has_another_tag(gateway: Served) -> None:
    async with served(Echo("echo")) as other:
        tags = {(await one.client.head("/openapi.json")).headers["etag"] for one in (gateway, other)}

    assert len(tags) == 2


async def test_docs_a_page_finds_its_files_with_a_slash_at_the_end_too(gateway: Served) -> None:
    for path in ("/docs", "/docs/", "/redoc", "/redoc/"):
        page = await gateway.client.get(path)
        script = page.text.partition('<script src="')[2].partition('"')[0]
        assert (await gateway.client.get(page.url.join(script))).status_code == 200


# --- ask: preferences and what a reply depended on --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefer", "status", "applied"),
    [
        ("respond-async", 202, "respond-async"),
        ("wait=10", 200, "wait=10"),
        ("respond-async, wait=10", 200, "wait=10"),
        ("respond-async, wait=0", 202, "respond-async, wait=0"),
        ("return=minimal", 200, None),
    ],
)
async def test_ask_a_preference_that_was_heeded_is_named(gateway: Served, prefer: str, status: int, applied: str | None) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"prefer": prefer})

    assert (response.status_code, response.headers.get("preference-applied")) == (status, applied)


async def test_ask_the_reply_to_a_get_says_on_which_headers_it_depended(gateway: Served) -> None:
    response = await gateway.client.get("/greetings/you")

    assert {one.strip() for one in response.headers["vary"].split(",")} >= {"Accept", "Prefer"}


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", ""])
async def test_deadline_a_request_timeout_that_cannot_be_is_refused(gateway: Served, value: str) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"request-timeout": value})

    is_problem(response, 400, "malformed-header")


# --- control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/docs%2Fassets%2Fa", "/docs%2fassets%2f", "/docs/assets%2Fa", "/livez/"])
async def test_control_no_spelling_of_an_open_path_leads_to_an_agent_without_the_key(path: str) -> None:
    routes = [{"method": "GET", "path": "/{text}", "agent": "echo"}]
    async with served(Echo("echo"), api_key="k", routes=routes) as gateway:
        response = await raw(gateway.port, head("GET", path))

    assert b"echo" not in response.body
