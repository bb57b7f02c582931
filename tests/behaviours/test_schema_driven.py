"""The demo, driven from its own OpenAPI document with whatever fits it and whatever does not: nothing breaks, and every refusal
is a problem that the document announces.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from portico.app.factory import create_app
from tests.app.serving import ANY_PORT, listening

if TYPE_CHECKING:
    from collections.abc import Generator

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "topology.yaml"
PROBLEM = "application/problem+json"
REFUSALS = {400, 404, 415, 422}
"""How a request that does not fit is refused."""
LEFT_OUT = ("librarian", "worker", "flaky", "counter", "/events")
"""What takes its time, crashes on purpose, or has no contract: other tests have it."""
NAMES = ("status_code", "content_type", "response_headers", "response_schema")
CHECKS: list[Any] = [vars(import_module("schemathesis.specs.openapi.checks"))[f"{name}_conformance"] for name in NAMES]
CHECKS.append(vars(import_module("schemathesis.checks"))["not_a_server_error"])
"""What schemathesis holds against the document; by name, since its types are only half known."""
UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
ANY_JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@contextmanager
def demo() -> Generator[str]:
    """The demo's address; it is served by a thread, for schemathesis asks synchronously."""
    started: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        app = create_app(DEMO, replace(ANY_PORT, request_timeout=2))
        async with listening(app) as gateway:
            started.append(f"http://127.0.0.1:{gateway.port}")
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield started[0]
    finally:
        stop.set()
        thread.join(20)


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with demo() as one:
        yield one


def operations(document: dict[str, Any]) -> list[Any]:
    """The operations of the demo that answer at once, and whose agents have a contract that says what they take."""
    schema: Any = schemathesis.openapi.from_dict(document)
    found = [result.ok() for result in schema.get_all_operations()]
    return [one for one in found if not any(part in one.path for part in LEFT_OUT)]


def test_every_operation_answers_as_its_document_says(address: str) -> None:
    document: dict[str, Any] = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    tried = 0
    for operation in operations(document):

        @settings(
            max_examples=10,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=UNHURRIED,
        )
        @given(case=operation.as_strategy())
        def conforms(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(base_url=address, checks=CHECKS, timeout=10)

        conforms()
    assert tried > 100


@settings(max_examples=60, database=None, derandomize=True, suppress_health_check=UNHURRIED)
@given(
    path=st.sampled_from(["/agents/echo", "/agents/echo/cast", "/runs", "/echo/x", "/agents/nobody"]),
    body=st.one_of(
        st.binary(max_size=200), st.recursive(ANY_JSON, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
    ),
    kind=st.sampled_from(["application/json", "application/json; charset=utf-16", "application/x+json", "text/plain", ""]),
)
def test_no_body_whatever_breaks_it(address: str, path: str, body: Any, kind: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(address + path, content=content, headers={"content-type": kind}, trust_env=False)

    if response.status_code not in (200, 202):
        assert response.status_code in REFUSALS, response.text
        assert response.headers["content-type"] == PROBLEM
        assert response.json()["status"] == response.status_code
