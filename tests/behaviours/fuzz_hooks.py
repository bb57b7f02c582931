"""FuzzHooks: what schemathesis must not send, since the right answer to it would look like a mistake, or take too long.

Loaded by schemathesis itself, by `schemathesis.toml`. What does not fit the document is left as it is: it must be refused.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis

KEY = re.compile(r'"[!#-~]{1,255}"|[!#-~]{1,255}')
LONGEST_WAIT = 0.2
"""Seconds that the fuzzer waits for a run."""


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType]  # its types are only half known
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Deadlines that can be met, keys that nobody used before, runs that begin at once."""
    del context, kwargs
    headers: Any = case.headers or {}
    if _number(headers.get("Request-Timeout"), 0.001, 1e9):
        headers["Request-Timeout"] = "20"
    if KEY.fullmatch(headers.get("Idempotency-Key") or ""):
        headers["Idempotency-Key"] = uuid.uuid4().hex
    if case.path == "/events" and headers.get("last-event-id") == "0":
        del headers["last-event-id"]  # it holds that for right, though the pattern says otherwise; test_gateway_events has such ids
    body: Any = case.body
    if case.path == "/runs" and hasattr(body, "keys"):
        headers.pop("delay-until", None)
        if _number(body.get("delay"), 0, 1e9):
            body["delay"] = 0
        body.pop("delay_until", None)
    if case.query and _number(case.query.get("wait"), 0, 300):
        case.query["wait"] = LONGEST_WAIT


def _number(value: Any, least: float, most: float) -> bool:
    """Whether it is a number in a range, as such or as text."""
    try:
        return not isinstance(value, bool) and least <= float(value) <= most
    except (TypeError, ValueError):
        return False
