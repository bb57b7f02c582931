"""Story: what became of one run, told to a person or to a program. It comes from a server or from a data directory alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico.cli.display import between, columns, cut, fields, one_line, said, shown, time_of_day
from portico.cli.event_sentences import sentence
from portico.runs.usage import format_cost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_CHILDREN: Final = 20
"""How many of the runs that it sent a person is shown."""


@dataclass(frozen=True, slots=True)
class Story:
    """A run, its events so far, and its nearest relatives, all as they look over HTTP."""

    record: Mapping[str, Any]
    """The run; `principal` only where that is known."""
    events: Sequence[Mapping[str, Any]]
    """`seq`, `type`, `at` (RFC 3339, None where that is not known), `data`. One without a number stands for those that are gone."""
    parent: Mapping[str, Any] | None
    """The run whose handler sent it."""
    children: Sequence[Mapping[str, Any]]
    """The runs that its handler sent, in the order of acceptance."""

    def as_data(self) -> dict[str, Any]:
        """For a program."""
        return {"record": self.record, "events": self.events, "children": self.children}

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield from fields(self._head())
        yield ""
        yield from (event_line(event, self.record) for event in self.events)
        yield ""
        yield from fields(self._outcome())

    def _head(self) -> dict[str, str]:
        run = self.record
        return {
            "run": one_line(run["run_id"]),
            "agent": f"{one_line(run['agent'])}, operation {one_line(run['operation'])}",
            "status": run["status"],
            "whose": cut(run.get("principal") or ""),
            "accepted": time_of_day(run["created_at"]),
            "due": time_of_day(run["due_at"]) if run["due_at"] else "",
            "ended": self._end(),
            "attempts": str(run["attempts"]),
            "family": "\n".join(self._family()),
            "labels": _labels(run.get("labels")),
            "models": _models(run.get("usage")),
            "tools": _tools(run.get("summary")),
            "metadata": shown(run["metadata"]) if run["metadata"] else "",
            "input": shown(run["input"]) if run["stored"] else "not kept: a plain ask is remembered, not stored",
        }

    def _end(self) -> str:
        run = self.record
        if run["finished_at"] is None:
            return ""
        return f"{time_of_day(run['finished_at'])}, after {between(run['created_at'], run['finished_at'])}"

    def _family(self) -> Iterator[str]:
        """A small tree; nothing where the run has no relatives."""
        if self.parent is None and not self.children:
            return
        rows: list[tuple[str, str]] = []
        indent = ""
        if self.parent is not None:
            rows.append(("", _about(self.parent)))
            indent = "   "
        rows.append(("└─ " if self.parent is not None else "", f"{_about(self.record)}  <- this run"))
        for child in self.children[:MOST_CHILDREN]:
            last = child is self.children[-1]
            rows.append((f"{indent}{'└─' if last else '├─'} ", _about(child)))
        yield from (f"{branch}{about}" for branch, about in rows)
        if len(self.children) > MOST_CHILDREN:
            yield f"{indent}└─ … and {len(self.children) - MOST_CHILDREN} more"

    def _outcome(self) -> dict[str, str]:
        run = self.record
        waits, error = run["waiting_for"], run["error"]
        told = {"problem": f"{said(error['detail'])} ({one_line(error['slug'])})"} if error is not None else {}
        if run["status"] == "succeeded":
            told["output"] = shown(run["output"])
        if waits is not None:
            until = f" until {time_of_day(waits['until'])}" if waits["until"] else ""
            told["waits"] = f"for an answer{until}: {said(waits['prompt'])}" if waits["kind"] == "input" else f"asleep{until}"
            if waits["kind"] == "input":
                told["answer"] = f"portico runs input {one_line(run['run_id'])} JSON"
                told["schema"] = shown(waits["schema"]) if waits["schema"] else ""
        callback = run.get("callback")  # an older gateway has none
        return told | ({"callback": _callback(callback)} if callback is not None else {})


def _labels(labels: Mapping[str, str] | None) -> str:
    return cut(", ".join(f"{key}={value}" for key, value in (labels or {}).items()))


def _models(usage: Mapping[str, Any] | None) -> str:
    """What models took; empty where none was called, or where an older gateway does not tell."""
    if not usage:
        return ""
    tokens = " and ".join(
        f"{'?' if usage[name] is None else format(usage[name], ',')} tokens {words}"
        for name, words in (("tokens_in", "read"), ("tokens_out", "written"))
    )
    partial = f", {usage['unpriced_calls']} without a price" if usage["unpriced_calls"] else ""
    return f"{usage['calls']} calls of {cut(', '.join(usage['models']))}: {tokens}, {format_cost(usage['cost_usd'])}{partial}"


def _tools(summary: Mapping[str, Any] | None) -> str:
    """Which tools were called how often."""
    tools: Mapping[str, Any] = (summary or {}).get("tools") or {}
    return cut(
        ", ".join(f"{name} {one['calls']}" + (f" ({one['errors']} failed)" if one["errors"] else "") for name, one in tools.items())
    )


def _callback(callback: Mapping[str, Any]) -> str:
    """Who is told of its end, and how far that has come."""
    lines = [f"{callback['status']}: {one_line(callback['url'])}"]
    if callback["attempts"]:
        when = f", the last at {time_of_day(callback['delivered_at'])}" if callback["delivered_at"] else ""
        lines.append(f"attempts: {callback['attempts']}{when}")
    if callback["last_error"]:
        lines.append(said(callback["last_error"]))
    if callback["next_at"]:
        lines.append(f"again at {time_of_day(callback['next_at'])}")
    return "\n".join(lines)


def event_line(event: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """An event, with the time since its run was accepted, where that is known."""
    since = between(record["created_at"], event["at"])
    return f"{since:>12}  {sentence(event)}" if since else f"  {sentence(event)}"


def run_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Some runs, a line for each."""
    rows = [
        (
            run["run_id"],
            run["status"],
            run["agent"],
            run["operation"],
            time_of_day(run["created_at"]),
            between(run["created_at"], run["finished_at"]),
        )
        for run in runs
    ]
    return columns(("RUN", "STATUS", "AGENT", "OPERATION", "ACCEPTED", "TOOK"), rows)


def letter_table(letters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Some dead letters, a line for each."""
    rows = [
        (
            letter["id"],
            letter["agent"],
            letter["operation"],
            time_of_day(letter["created_at"]),
            str(letter["attempts"]),
            cut(letter["reason"]),
        )
        for letter in letters
    ]
    return columns(("DEAD LETTER", "AGENT", "OPERATION", "ACCEPTED", "ATTEMPTS", "REASON"), rows)


def _about(run: Mapping[str, Any]) -> str:
    return one_line(f"{run['run_id']}  {run['agent']}  {run['operation']}  {run['status']}")
