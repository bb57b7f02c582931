"""What `portico top` shows of a picture: rows that are quick to make, in which nothing that agents and callers chose is obeyed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from portico.cli.terminal.answer import MisfitError, answer_of, fields_of, parsed, skeleton
from portico.cli.terminal.headline import figures, spark
from portico.cli.terminal.letter_list import LetterList
from portico.cli.terminal.picture import MOST, SECONDS, Picture
from portico.cli.terminal.run_views import RunList, WaitingList
from portico.cli.terminal.snapshot import snapshot
from portico.cli.terminal.table import Column, Tone, widths
from portico.cli.terminal.tree_view import TreeView
from portico.cli.terminal.usage_table import UsageTable

HOSTILE = "[red]\x1b[31m\u202eevil\x07\nname"


def agent(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "agent", "status": "running", "incarnation": 1, "mailbox": {"depth": 0, "size": 9}, **more}


def pictured(*children: dict[str, Any]) -> Picture:
    picture = Picture()
    picture.set_tree({"name": "root", "kind": "sup", "strategy": "one_for_one", "children": list(children)})
    return picture


def texts(view: Any, picture: Picture) -> list[str]:
    return [" ".join(cell.text for cell in view.cells(picture, key)) for key in view.keys(picture)]


def figure(**more: Any) -> dict[str, Any]:
    calls = {"admitted": 7, "ok": 7, "failed": 0, "rejected": 0, "in_flight": 1}
    return {"at": 0, "calls": calls, "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0}, "loop_lag_ms": 0.2, **more}


def test_ten_thousand_agents_are_listed_filtered_and_ordered_without_a_noticeable_wait() -> None:
    picture = pictured(*(agent(f"agent-{number}", restarts_per_minute=number % 7) for number in range(10_000)))
    view = TreeView()
    begun = time.process_time()

    whole = view.keys(picture)
    view.find = "agent-77"
    found = view.keys(picture)
    view.find, view.order = "", "restarts"
    ordered = view.keys(picture)

    assert time.process_time() - begun < 3.0  # a tenth of a second; a square of ten thousand would take minutes
    assert (len(whole), len(found), len(ordered)) == (10_001, 112, 10_000)
    assert {picture.places[key].restarts_per_minute for key in ordered[:1000]} == {6}


def test_a_name_made_to_fool_a_terminal_is_shown_with_its_escapes() -> None:
    picture = pictured(agent(HOSTILE, last_crash={"type": HOSTILE, "message": HOSTILE * 10_000}))
    picture.set_letters([{"id": "1", "agent": HOSTILE, "operation": HOSTILE, "reason": HOSTILE, "created_at": HOSTILE}])
    picture.set_runs([{"run_id": HOSTILE, "agent": HOSTILE, "status": HOSTILE, "created_at": HOSTILE, "finished_at": None}])

    lines = [*texts(TreeView(), picture), *texts(LetterList(), picture), *texts(RunList(), picture), *snapshot(picture, "http://x")]

    assert all(line.isprintable() for line in lines)
    assert any(r"[red]\x1b[31m\u202eevil\x07\nname" in line for line in lines)
    assert max(map(len, lines)) < 2000


def test_a_folded_branch_hides_what_is_below_and_says_how_much_that_is() -> None:
    branch = {"name": "wing", "kind": "sup", "strategy": "one_for_all", "children": [agent("a"), agent("b")]}
    picture, view = pictured(branch, agent("c")), TreeView()

    assert view.fold(picture, "a", folded=True) == "wing"
    assert view.fold(picture, "wing", folded=True) == "wing"
    folded = texts(view, picture)
    view.fold(picture, "wing", folded=False)

    assert [line.split()[1] for line in folded[1:2]] == ["wing"]
    assert len(folded) == 3
    assert "(2)" in folded[1]
    assert len(view.keys(picture)) == 5


def test_what_is_looked_for_is_shown_with_the_way_to_it() -> None:
    picture, view = (
        pictured({"name": "wing", "kind": "sup", "strategy": "x", "children": [agent("needle"), agent("hay")]}),
        TreeView(),
    )
    view.find = "NEEDLE"

    assert view.keys(picture) == ["root", "wing", "needle"]


def test_two_nodes_of_one_name_are_both_shown() -> None:
    picture = pictured(agent("twin"), agent("twin"))

    assert sum("twin" in line for line in texts(TreeView(), picture)) == 2


def test_figures_change_only_what_they_name_and_an_unknown_agent_has_the_tree_read_anew() -> None:
    picture = pictured(agent("a"), agent("b"))

    picture.apply("figures", figure(agents={"a": {"depth": 4, "in_flight": 2, "restarts_per_minute": 1, "status": "restarting"}}))
    stale = set(picture.stale)
    picture.apply("figures", figure(agents={"newcomer": {"depth": 1}}))

    place = picture.places["a"]
    assert (place.depth, place.in_flight, place.restarts_per_minute, place.status) == (4, 2, 1, "restarting")
    assert (picture.places["b"].depth, stale, picture.stale) == (0, set(), {"tree"})


def test_what_is_kept_of_a_page_left_open_for_days_is_bounded() -> None:
    picture = pictured(agent("a"))
    for number in range(5 * MOST):
        at = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
        picture.apply("run.accepted", {"run_id": f"{number}", "agent": "a", "operation": "b", "status": "queued", "at": at})
        picture.apply("figures", figure())

    assert len(picture.runs) <= 2 * MOST
    assert len(picture.figures) == SECONDS
    assert RunList().keys(picture)[0] == str(5 * MOST - 1)


@pytest.mark.parametrize("name", ["figures", "process.crashed", "process.status", "run.failed", "hello", "gap", "unheard.of"])
@pytest.mark.parametrize("data", [{}, {"name": 7, "run_id": [], "agents": [], "calls": 3, "error": [1], "latency_ms": "x"}])
def test_an_event_that_says_something_else_than_it_should_harms_nothing(name: str, data: dict[str, Any]) -> None:
    picture = pictured(agent("a"))

    picture.apply(name, data)

    assert texts(TreeView(), picture)
    assert figures(picture, 80)


def test_a_run_that_ends_is_no_longer_among_those_that_wait() -> None:
    picture = pictured()
    picture.set_waiting([{"run_id": "1", "agent": "a", "created_at": "", "waiting_for": {"kind": "input", "prompt": "Print it?"}}])
    before = texts(WaitingList(), picture)

    picture.apply("run.succeeded", {"run_id": "1", "status": "succeeded"})

    assert "Print it?" in before[0]
    assert WaitingList().keys(picture) == []


def test_where_the_runs_of_one_agent_are_shown_those_of_others_do_not_come_in_between() -> None:
    picture, view = Picture(), RunList()
    view.agent = "printer"
    for run_id, whose in (("mine", "printer"), ("other", "bell")):
        picture.apply("run.accepted", {"run_id": run_id, "agent": whose, "status": "queued", "at": "2026-01-31T09:30:00Z"})
    assert view.keys(picture) == ["mine"]
    view.agent = ""
    assert set(view.keys(picture)) == {"mine", "other"}


def test_what_has_no_price_is_shown_as_such_and_never_as_nothing() -> None:
    picture = Picture()
    known = {"agent": "a", "model": "known", "calls": 2, "tokens_in": 5, "tokens_out": 6, "cost_usd": 0.5, "unpriced_calls": 0}
    unknown = {"agent": "b", "model": "odd", "calls": 1, "tokens_in": 5, "tokens_out": 6, "cost_usd": None, "unpriced_calls": 1}
    picture.usage = {"rows": [known, unknown], "total": {"calls": 3, "cost_usd": 0.5, "unpriced_calls": 1}}

    lines = texts(UsageTable(), picture)

    assert "0.5000" in lines[0]
    assert "unknown" in lines[1]
    assert "≥ 0.5000" in lines[2]


def test_columns_give_way_by_their_rank_where_there_is_no_room() -> None:
    columns = [Column("NAME", 10, share=1), Column("LESS", 10, rank=1), Column("LEAST", 10, rank=2)]

    assert widths(columns, 40) == [18, 10, 10]
    assert widths(columns, 21) == [10, 10, 0]
    assert widths(columns, 5) == [10, 0, 0]


def test_the_headline_fits_its_room_and_tells_what_went_wrong() -> None:
    picture = pictured()
    picture.apply("figures", figure(calls={"admitted": 1234, "failed": 3, "rejected": 2, "in_flight": 9}, loop_lag_ms=250))

    told = figures(picture, 80)

    text = "".join(cell.text for cell in told)
    assert len(text) <= 80
    assert "failed 3" in text
    assert [cell.tone for cell in told if "lag" in cell.text] == [Tone.BAD]
    assert spark([0, 1, 2, 4], 6) == "  ▁▂▄█"


SCHEMA = {
    "type": "object",
    "required": ["yes", "count"],
    "properties": {
        "yes": {"type": "boolean"},
        "count": {"type": "integer"},
        "note": {"type": "string"},
        "size": {"enum": ["small", "large"]},
    },
}


def test_a_form_makes_an_answer_of_the_types_that_its_schema_has() -> None:
    fields = fields_of(SCHEMA)

    assert fields is not None
    assert [one.label for one in fields] == ["yes * (true, false)", "count * (integer)", "note", "size (small, large)"]
    assert answer_of(fields, ["true", "3", "", ""]) == {"yes": True, "count": 3}


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["maybe", "3", "", ""], "yes is one of true, false."),
        (["true", "3.5", "", ""], "count is no integer."),
        (["true", "", "", ""], "count is empty."),
        (["true", "3", "", "huge"], "size is one of small, large."),
    ],
)
def test_what_does_not_fit_a_form_is_said_with_its_field(texts: list[str], fault: str) -> None:
    fields = fields_of(SCHEMA)
    assert fields is not None

    with pytest.raises(MisfitError) as raised:
        answer_of(fields, texts)

    assert str(raised.value) == fault


@pytest.mark.parametrize("schema", [None, {}, {"type": "array"}, {"type": "object", "properties": {"a": {"type": "object"}}}, [1]])
def test_what_no_form_can_hold_is_answered_in_json(schema: Any) -> None:
    assert fields_of(schema) is None
    assert parsed('{"a": [1]}') == {"a": [1]}
    with pytest.raises(MisfitError, match="The answer is not JSON"):
        parsed("NaN")


@pytest.mark.parametrize("text", ["\x1b]52;c;cHduZWQ=\x1b\\", "\x9b31m", "\u202eright", "two\nlines"])
def test_no_schema_writes_to_the_terminal_what_that_obeys(text: str) -> None:
    assert fields_of({"type": "object", "properties": {"a": {"type": "string", "default": text}}}) is None
    begun = skeleton({"type": "object", "properties": {text: {"type": "object"}}})
    assert all(letter.isprintable() or letter == "\n" for letter in begun)
    assert parsed(begun) == {text: ""}
