"""Summary: a run in a few numbers, counted from its events: what it did, and how often it had to begin again.

Above: the faces. Below: a run, whose events are in memory or in the store. It counts what is kept, and says where that is not all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from portico.runs.event import EventName

if TYPE_CHECKING:
    from portico.runs.event import Event
    from portico.runs.run import Run

MOST: Final = 5000
"""How many events are counted: who asks for the summary of a run that has told more waits no longer for it."""
MOST_TOOLS: Final = 100
"""How many tools have a line of their own."""


async def summary_of(run: Run) -> dict[str, Any]:
    """The summary as plain data."""
    counted = _Counted()
    last = 0
    while counted.events < MOST and (more := await run.next_events(last)):
        for event in more:
            counted.gap = counted.gap or event.seq > last + 1
            last = event.seq
            counted.count(event)
    return {
        "turns": counted.turns,
        "tools": dict(counted.tools),
        "attempts": run.attempts,
        "recoveries": max(0, run.attempts - 1),
        "retries": counted.retries,
        "waits": counted.waits,
        "complete": not counted.gap and last >= run.last_visible,
    }


class _Counted:
    """What was counted so far."""

    def __init__(self) -> None:
        self.events = 0
        self.turns = 0
        self.waits = 0
        self.retries = 0
        self.gap = False
        self.tools: defaultdict[str, dict[str, int]] = defaultdict(lambda: {"calls": 0, "errors": 0})

    def count(self, event: Event) -> None:
        self.events += 1
        match event.type:
            case EventName.MODEL_CALL:
                self.turns += 1
            case EventName.WAITING:
                self.waits += 1
            case EventName.STEP_RETRYING:
                self.retries += 1
            case EventName.TOOL_CALL:
                self._tool(event.data, "calls", failed=True)
            case EventName.TOOL_RESULT:
                self._tool(event.data, "errors", failed=_member(event.data, "error") is not None)
            case _:
                pass

    def _tool(self, data: Any, what: str, *, failed: bool) -> None:
        name = _member(data, "name")
        if failed and isinstance(name, str) and (name in self.tools or len(self.tools) < MOST_TOOLS):
            self.tools[name][what] += 1


def _member(data: Any, key: str) -> Any:
    """What an event says under that name; an agent may emit anything under any type."""
    return cast("Mapping[str, Any]", data).get(key) if isinstance(data, Mapping) else None
