"""What the events of a run say to a person."""

from __future__ import annotations

from typing import Any

import pytest

from portico.cli.display import LONGEST, duration, size
from portico.cli.event_sentences import sentence
from portico.runs.event import EventName


def told(name: str, data: Any, seq: int | None = 2) -> str:
    return sentence({"seq": seq, "type": name, "at": None, "data": data})


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        (EventName.STARTED, {"agent": "a", "operation": "o"}, "accepted for a, operation o"),
        (EventName.RESTARTED, {"attempt": 2}, "begun again (attempt 2): what it told before counts no more"),
        (EventName.WAITING, {"prompt": "Well?", "schema": None, "until": None}, "waits for an answer: Well?"),
        (EventName.WAITING, {"prompt": "Well?", "until": 0.0}, "waits for an answer: Well? (until 1970-01-01 00:00:00 UTC)"),
        (EventName.RESUMED, {"answered": True}, "goes on: the answer has come"),
        (EventName.RESUMED, {"answered": False}, "goes on: nobody answered in time"),
        (EventName.TRANSFERRED, {"from": "a", "to": "b", "reason": "not mine"}, "handed on from a to b: not mine"),
        (EventName.SUCCEEDED, {"output": {"a": "é"}}, 'succeeded: {"a": "é"}'),
        (EventName.FAILED, {"type": "/problems/no-reply", "detail": "Nothing."}, "failed: Nothing. (no-reply)"),
        (EventName.CANCELLED, {"slug": "cancelled", "detail": "Enough."}, "cancelled: Enough. (cancelled)"),
        (EventName.TIMED_OUT, {"detail": "Too late."}, "timed out: Too late."),
        (EventName.STEP_STARTED, {"name": "s", "key": "k"}, "step s: begun"),
        (EventName.STEP_COMPLETED, {"name": "s", "key": "k"}, "step s: done"),
        (EventName.STEP_RETRYING, {"name": "s", "attempt": 1, "error": "E"}, "step s: attempt 1 failed and is made again: E"),
        (EventName.STEP_FAILED, {"name": "s", "error": "E"}, "step s: failed: E"),
        (EventName.STEP_SKIPPED, {"name": "s"}, "step s: skipped, its stored result was used"),
        (EventName.CHECKPOINT, None, "checkpoint stored"),
        (EventName.PROGRESS, {"done": 1, "total": 3, "note": ""}, "progress 1 of 3"),
        (EventName.PROGRESS, {"done": 0.5, "total": None, "note": "half"}, "progress 0.5: half"),
        (EventName.LOG, {"level": "info", "data": {"a": 1}, "logger": None}, 'info: {"a": 1}'),
        (EventName.METRIC, {"name": "pages", "value": 3, "unit": "", "tags": {}}, "pages is 3"),
        (EventName.METRIC, {"name": "p", "value": 0.5, "unit": "s", "tags": {"of": "a"}}, 'p is 0.5 s {"of": "a"}'),
        (EventName.DELTA, {"text": "one\ntwo"}, r'answer goes on: "one\ntwo"'),
        (EventName.ASSISTANT_MESSAGE, {"content": "Hello."}, "the model says: Hello."),
        (
            EventName.MODEL_CALL,
            {"model": "m", "tokens_in": 1200, "tokens_out": 7, "cost_usd": 0.0005, "seconds": 1.25, "error": None},
            "model m answered in 1.2 s: 1,200 tokens read, 7 written, $0.0005",
        ),
        (
            EventName.MODEL_CALL,
            {"model": "m", "tokens_in": None, "tokens_out": 7, "cost_usd": None, "seconds": 1, "error": None},
            "model m answered in 1.0 s: ? tokens read, 7 written",
        ),
        (EventName.MODEL_CALL, {"model": "m", "error": "ModelError"}, "model m gave no answer: ModelError"),
        (EventName.TOOL_CALL, {"id": "1", "name": "t", "arguments": {"a": 1}}, 'the model calls tool t with {"a": 1}'),
        (EventName.TOOL_RESULT, {"id": "1", "name": "t", "result": "R"}, "tool t answered: R"),
        (EventName.TOOL_RESULT, {"id": "1", "name": "t", "error": "E"}, "tool t failed: E"),
        (EventName.TOOL_SAMPLED, {"name": "t", "model": "m"}, "tool t asked the model m"),
        (EventName.TOOL_SHADOWED, {"name": "mcp://s/t", "shadows": "t"}, "tool mcp://s/t has the name of the agent's own t"),
        (EventName.TOOL_REFUSED, {"name": "t", "reason": "R"}, "tool t is refused: R"),
    ],
)
def test_every_event_of_the_catalogue_has_a_sentence(name: EventName, data: Any, text: str) -> None:
    assert told(name, data) == text


def test_the_sentences_above_leave_no_name_out() -> None:
    parameters: Any = test_every_event_of_the_catalogue_has_a_sentence.pytestmark[0].args[1]  # pyright: ignore[reportFunctionMemberAccess]  # pytest's own

    assert {name for name, *_ in parameters} == set(EventName)


@pytest.mark.parametrize("name", [*EventName, "gap", "stream.draining", "mood", ""])
@pytest.mark.parametrize(
    "data", [None, {}, [], "text", 1, {"name": 1, "done": [], "until": 1e300, "prompt": None, "text": {"a": 1}}]
)
def test_an_agents_own_data_under_any_name_are_printed_on_one_line(name: str, data: Any) -> None:
    text = told(name, data)

    assert "\n" not in text
    assert text or not name


def test_events_that_are_gone_are_told_and_an_agents_own_gap_is_not_taken_for_that() -> None:
    assert told("gap", {"from": 3, "to": 9}, seq=None) == "events 3 to 9 are kept no more"
    assert told("gap", {"from": 3, "to": 9}) == 'gap: {"from": 3, "to": 9}'


def test_what_a_terminal_would_obey_is_spelled_out_and_what_is_long_is_cut() -> None:
    assert told("mood", "\x1b[2J\nü\u202e\ud800") == r"mood: \x1b[2J\nü\u202e\ud800"
    assert told("mood", "x" * 1000) == f"mood: {'x' * LONGEST}… (cut: 1000 characters)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (59.99, "59.99 s"),
        (59.999, "1 min 00 s"),
        (3599.9, "1 h 00 min"),
        (7260, "2 h 01 min"),
        (86_399, "1 d 00 h"),
        (90_000_000, "1041 d 16 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40 * 3, "3.0 TiB")])
def test_sizes_have_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert size(count) == text
