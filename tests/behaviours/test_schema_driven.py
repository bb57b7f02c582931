"""Gateways, driven from their own OpenAPI documents with whatever fits them and whatever does not: nothing breaks, and every answer
is one that the document announces. Briefly; `make fuzz` does so at length.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.behaviours.fuzzing import LEFT_OUT, TARGETS, Target, drive, served

if TYPE_CHECKING:
    from collections.abc import Generator

PROBLEM = "application/problem+json"
REFUSALS = {400, 404, 415, 422}
"""How a request that does not fit is refused."""
UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
ANY_JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
DEMO, SECURED_DEMO, HOSTILE, _ = TARGETS


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with served(DEMO) as one:
        yield one


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", [SECURED_DEMO, HOSTILE], ids=lambda target: target.name)
def test_every_operation_answers_as_its_document_says_whatever_comes(target: Target) -> None:
    sends = f"{LEFT_OUT}|^/agents/.*/cast$"  # they take what their asks take
    with served(target) as address:
        code, report = drive(address, target, examples=2, left_out=sends, seed=1)

    assert code == 0, report
    generated = re.search(r"([0-9]+) generated", report)
    assert generated is not None
    assert int(generated[1]) > 300, report
    assert re.search(r"Stateful .*\n", report), report


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
