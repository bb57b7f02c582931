"""Event sentences: what an event of a run says to a person. A name that is not in the catalogue is printed with its data.

Below: the catalogue in `runs/event.py`. An agent may emit any data under any name, also under one of the catalogue's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from portico.cli.display import cut, said, shown, time_of_day
from portico.runs.event import EventName
from portico.runs.usage import format_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GAP: Final = "gap"
"""What a reader is sent instead of events that are kept no more. It has no number."""

Data = dict[str, Any]


def sentence(event: Mapping[str, Any]) -> str:
    """What happened, on one line."""
    name, data = event["type"], event["data"]
    if event["seq"] is None and name == GAP:
        return f"events {data['from']} to {data['to']} are kept no more"
    say = SENTENCES.get(name)
    try:
        told = say(cast("Data", data)) if say is not None and isinstance(data, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError):  # an agent's own data under that name
        told = None
    if told is not None:
        return told
    return BARE.get(name, cut(name)) if data is None else f"{cut(name)}: {said(data)}"


def _waiting(data: Data) -> str:
    until = f" (until {_time(data['until'])})" if data.get("until") is not None else ""
    return f"waits for an answer: {said(data['prompt'])}{until}"


def _time(until: float | str) -> str:
    if isinstance(until, str):
        return time_of_day(until)
    from portico.runs.run_view import rfc3339

    return time_of_day(rfc3339(until))


def _resumed(data: Data) -> str:
    return "goes on: the answer has come" if data["answered"] else "goes on: nobody answered in time"


def _transferred(data: Data) -> str:
    reason = f": {said(data['reason'])}" if data.get("reason") else ""
    return f"handed on from {said(data['from'])} to {said(data['to'])}{reason}"


def _problem(words: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        slug = data.get("slug") or str(data.get("type", "")).rpartition("/")[2]
        return f"{words}: {said(data['detail'])}" + (f" ({said(slug)})" if slug else "")

    return say


def _step(words: str) -> Callable[[Data], str]:
    return lambda data: f"step {said(data['name'])}: {words}"


def _retrying(data: Data) -> str:
    return f"step {said(data['name'])}: attempt {shown(data['attempt'])} failed and is made again: {said(data['error'])}"


def _progress(data: Data) -> str:
    total = data.get("total")
    note = f": {said(data['note'])}" if data.get("note") else ""
    return f"progress {shown(data['done'])}{'' if total is None else f' of {shown(total)}'}{note}"


def _metric(data: Data) -> str:
    unit = f" {said(data['unit'])}" if data["unit"] else ""
    tags = f" {shown(data['tags'])}" if data.get("tags") else ""
    return f"{said(data['name'])} is {shown(data['value'])}{unit}{tags}"


def _model_call(data: Data) -> str:
    model = f"model {said(data['model'])}"
    if data.get("error") is not None:
        return f"{model} gave no answer: {said(data['error'])}"
    read, written = ("?" if data[name] is None else f"{data[name]:,}" for name in ("tokens_in", "tokens_out"))
    cost = "" if data["cost_usd"] is None else f", {format_cost(data['cost_usd'])}"
    return f"{model} answered in {data['seconds']:.1f} s: {read} tokens read, {written} written{cost}"


def _tool_result(data: Data) -> str:
    if data.get("error") is not None:
        return f"tool {said(data['name'])} failed: {said(data['error'])}"
    return f"tool {said(data['name'])} answered: {said(data['result'])}"


SENTENCES: Final[Mapping[str, Callable[[Data], str]]] = {
    EventName.STARTED: lambda data: f"accepted for {said(data['agent'])}, operation {said(data['operation'])}",
    EventName.RESTARTED: lambda data: f"begun again (attempt {shown(data['attempt'])}): what it told before counts no more",
    EventName.WAITING: _waiting,
    EventName.RESUMED: _resumed,
    EventName.TRANSFERRED: _transferred,
    EventName.SUCCEEDED: lambda data: f"succeeded: {shown(data['output'])}",
    EventName.FAILED: _problem("failed"),
    EventName.CANCELLED: _problem("cancelled"),
    EventName.TIMED_OUT: _problem("timed out"),
    EventName.STEP_STARTED: _step("begun"),
    EventName.STEP_COMPLETED: _step("done"),
    EventName.STEP_RETRYING: _retrying,
    EventName.STEP_FAILED: lambda data: f"step {said(data['name'])}: failed: {said(data['error'])}",
    EventName.STEP_SKIPPED: _step("skipped, its stored result was used"),
    EventName.PROGRESS: _progress,
    EventName.LOG: lambda data: f"{said(data['level'])}: {shown(data['data'])}",
    EventName.METRIC: _metric,
    EventName.DELTA: lambda data: f"answer goes on: {shown(data['text'])}",
    EventName.ASSISTANT_MESSAGE: lambda data: f"the model says: {said(data['content'])}",
    EventName.MODEL_CALL: _model_call,
    EventName.TOOL_CALL: lambda data: f"the model calls tool {said(data['name'])} with {shown(data.get('arguments'))}",
    EventName.TOOL_RESULT: _tool_result,
    EventName.TOOL_SAMPLED: lambda data: f"tool {said(data['name'])} asked the model {said(data['model'])}",
    EventName.TOOL_SHADOWED: lambda data: f"tool {said(data['name'])} has the name of the agent's own {said(data['shadows'])}",
    EventName.TOOL_REFUSED: lambda data: f"tool {said(data['name'])} is refused: {said(data['reason'])}",
}
"""A sentence for each name whose data are a mapping; `KeyError` where that is not the catalogue's."""
BARE: Final = {EventName.CHECKPOINT: "checkpoint stored"}
"""A sentence for each name without data."""
