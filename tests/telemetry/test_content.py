"""What may be said of what models and tools were given and gave: without secrets, whatever their type."""

from __future__ import annotations

import json

from portico.kernel.protocols import ToolExecution
from portico.operations.secrets import MASK
from portico.telemetry.content import Content

SCHEMA = {"type": "object", "properties": {"pin": {"type": "integer", "writeOnly": True}, "sum": {"type": "number"}}}


def test_a_secret_that_is_a_number_is_masked_wherever_it_stands_as_one() -> None:
    call = ToolExecution("agent", "pay", {"pin": 271828, "sum": 27.5}, None, "", SCHEMA, None)
    content = Content.done(call)

    assert json.loads(content.arguments(call.arguments, SCHEMA)) == {"pin": MASK, "sum": 27.5}
    given = {"pin": 271828, "known": [271828, "271828!"], "paid": 27.5, "sure": True, "rest": None}
    assert json.loads(content.result(given)) == {
        "pin": MASK,
        "known": [MASK, f"{MASK}!"],
        "paid": 27.5,
        "sure": True,
        "rest": None,
    }
