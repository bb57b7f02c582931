"""The demo, driven from its own OpenAPI document with whatever fits it and whatever does not: nothing breaks, and every refusal
is a problem that the document announces.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace
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
ALLOWED = {400, 404, 405, 406, 413, 415, 422}
"""How a request that does not fit may be refused."""
SLOW_ARGUMENTS = ("librarian", "worker")
"""Agents that take their time: their own tests have them."""


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


def operations(document: dict[str, Any]) -> Any:
    """The operations of the demo that answer at once."""
    schema = schemathesis.openapi.from_dict(document)
    return [
        found.ok()
        for found in schema.get_all_operations()
        if not any(name in found.ok().path for name in (*SLOW_ARGUMENTS, "/events", "flaky"))
    ]


def test_every_operation_answers_as_its_document_says(address: str) -> None:
    document: dict[str, Any] = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    tried = 0
    for operation in operations(document):
        cases = operation.as_strategy() if operation.method.lower() != "trace" else st.nothing()

        @settings(max_examples=8, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def conforms(case: Any) -> None:
            nonlocal tried
            tried += 1
            if case.path_parameters and "" in case.path_parameters.values():
                return
            response = case.call(base_url=address)
            assert response.status_code < 500, (case, response.text)
            if response.status_code >= 400:
                assert response.headers["content-type"] == [PROBLEM] or response.headers["content-type"] == PROBLEM

        conforms()
    assert tried > 100
