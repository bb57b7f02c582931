"""What the client knows by heart is what the server says: it cannot import it, so it is compared here."""

from __future__ import annotations

import pytest

from portico.client import AgentError
from portico.client.answers import problem_error
from portico.client.records import ENDS, TERMINAL
from portico.client.retries import LONGEST, REFUSED, UNSURE, backoff
from portico.routes.problems import STATUSES
from portico.runs import event, status

OUTCOMES = {"agent-failed", "mcp-server-busy", "mcp-server-unavailable"}
"""Slugs of 503 that end a call which was handled: a second attempt would be a second handling."""


def test_the_ends_of_a_run_are_those_of_the_gateway() -> None:
    assert set(event.TERMINAL) == TERMINAL
    assert set(status.ENDS) == ENDS


def test_of_every_503_it_is_decided_whether_it_is_sent_again() -> None:
    assert {slug for slug, code in STATUSES.items() if code == 503} == REFUSED | UNSURE | OUTCOMES


@pytest.mark.parametrize("slug", sorted({*STATUSES} - {"agent-error"}))
def test_a_slug_of_the_gateway_is_no_agents_own(slug: str) -> None:
    error = problem_error({"type": f"/here/problems/{slug}", "status": STATUSES[slug], "detail": "D"})

    assert not isinstance(error, AgentError)
    assert (error.slug, error.status) == (slug, STATUSES[slug])


def test_pauses_grow_and_are_never_longer_than_the_longest() -> None:
    longest = [max(backoff(attempt) for _ in range(200)) for attempt in (0, 2, 5, 1000)]

    assert longest[0] < longest[1] < longest[2]
    assert longest[0] <= 0.25
    assert longest[-1] <= LONGEST
