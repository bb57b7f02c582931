"""Accept: the kind of response that a client wants most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portico.routes.accept import preferred
from tests.app.serving import head, is_problem, raw

if TYPE_CHECKING:
    from tests.app.serving import Served

JSON, SSE, LINES = "application/json", "text/event-stream", "application/jsonl"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", SSE),
        ("text/event-stream", SSE),
        ("TEXT/Event-Stream", SSE),
        ("text/event-stream; charset=utf-8", SSE),
        ("application/jsonl", LINES),
        ("application/json, text/event-stream", JSON),
        ("text/event-stream, application/json", JSON),
        ("text/event-stream, */*", SSE),
        ("text/event-stream, */*;q=0.1", SSE),
        ("text/event-stream;q=0.5, application/json;q=0.4", SSE),
        ("text/event-stream;q=0.4, application/json;q=0.5", JSON),
        ("text/event-stream;q=0.9, application/jsonl, application/json;q=0.1", LINES),
        ("application/json;q=0, */*", SSE),
        ("application/json;q=0, text/event-stream;q=0.0, */*;q=0.1", LINES),
        ("*/*;q=0", None),
        ("text/html", None),
        ("text/event-stream;q=0", None),
        ("application/problem+json", JSON),
        ("application/json; q = 0.2 , text/event-stream ; q=0.3", SSE),
        ("application/json;q=x, text/event-stream;q=0.3", JSON),
        ("application/json;q=nan, text/event-stream;q=0.3", JSON),
        (", ,", JSON),
        (";q=1, text/event-stream", SSE),
    ],
)
def test_the_most_wanted_kind_wins(accept: str, kind: str | None) -> None:
    assert preferred(accept, (JSON, SSE, LINES)) == kind


@pytest.mark.anyio
async def test_several_lines_of_the_header_are_one(gateway: Served) -> None:
    lines = ("Accept: text/event-stream;q=0", "Accept: text/html;q=0.5", "Content-Length: 0")

    problem = is_problem(await raw(gateway.port, head("POST", "/agents/teller/tell", *lines)), 406, "not-acceptable")
    assert "text/event-stream;q=0,text/html;q=0.5" in problem["detail"]
