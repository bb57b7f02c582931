"""The table of spans in `docs/telemetry.md`: which attributes a span of each kind may have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from portico.telemetry import semconv
from tests.cli.programs import REPOSITORY

if TYPE_CHECKING:
    from tests.telemetry.receiver import Received, Receiver

SERVER, CLIENT = 2, 3
CONTENT: Final = {
    semconv.GEN_AI_INPUT,
    semconv.GEN_AI_OUTPUT,
    semconv.GEN_AI_INSTRUCTIONS,
    semconv.GEN_AI_ARGUMENTS,
    semconv.GEN_AI_RESULT,
}
"""What spans have where content is told: the page says it below the table."""
ROWS: Final = {
    "dispatch": "dispatch echo.echo",
    "handle": "handle echo.echo",
    "chat": "chat gpt-4.1-mini",
    "execute_tool": "execute_tool add",
    "tools/call": "tools/call search",
    "POST": "POST",
    "start": "start echo",
    "stop": "start echo",
}
"""The row of a span that is no server's, by the first word of its name."""


def documented() -> dict[str, set[str]]:
    """Attributes by the first name in the first column."""
    page = (REPOSITORY / "docs" / "telemetry.md").read_text()
    table = page[page.index("| span | around | attributes |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")] for row in table]
    return {names[0]: set(attributes) for names, _, attributes in cells}


def undocumented(receiver: Receiver) -> dict[str, set[str]]:
    """What received spans have that the table does not say of their kind, by their names."""
    table = documented()
    more = {
        span.name: span.attributes.keys() - table[row_of(span)] - CONTENT
        for span in [*receiver.spans, *receiver.lives]
        if not span.name.startswith("MCP send ")  # the MCP library's own
    }
    return {name: keys for name, keys in more.items() if keys}


def row_of(span: Received) -> str:
    first = span.name.split(" ")[0]
    if span.kind == SERVER:
        return "POST /agents/echo" if first in {*semconv.METHODS, "HTTP"} else "tools/call echo"
    return ROWS[first]
