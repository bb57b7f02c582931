"""`portico usage`: what models took: tokens and money, of a running server, or of a data directory without one."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  # typer reads it
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from portico.cli.display import as_json, columns, echo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_URL: Final = "http://127.0.0.1:8080"
NOBODY: Final = "-"
"""Stands for what has no name."""


def usage(
    by: Annotated[
        str, typer.Option(help="What to sum up by, with commas between: day, run, agent, principal, provider, model.")
    ] = "model",
    since: Annotated[str | None, typer.Option(metavar="DAY", help="The first day, UTC: 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="The last day, UTC.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only calls of this agent.")] = None,
    principal: Annotated[str | None, typer.Option(help="Only calls on this one's behalf.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only calls of this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only calls of this model.")] = None,
    run: Annotated[str | None, typer.Option(metavar="ID", help="Only calls in this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many lines at most.")] = 100,
    url: Annotated[str | None, typer.Option("--url", help=f"Where the server is. [default: {DEFAULT_URL}]")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Read this data directory, without a server: everybody's.")
    ] = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """Print what models took: calls, tokens and money."""
    filters: dict[str, Any] = {
        "since": _day(since, "--since"),
        "until": _day(until, "--until"),
        "agent": agent,
        "principal": principal,
        "provider": provider,
        "model": model,
        "run": run,
    }
    keys = _keys(by)
    if data is None:
        from portico.cli.remote_runs import RemoteRuns

        with RemoteRuns(DEFAULT_URL if url is None else url, os.environ.get("PORTICO_API_KEY", "").strip()) as remote:
            report = remote.usage(keys, limit, filters)
    elif url is not None:
        raise typer.BadParameter("Give --url or --data, not both.", param_hint="--data")
    else:
        from portico.cli.stored_runs import StoredRuns

        report = StoredRuns(data).usage(keys, limit, filters)
    if as_data:
        echo(as_json(report))
        return
    for line in _lines(keys, report):
        echo(line)


def _keys(by: str) -> list[str]:
    from portico.runs.usage import UsageKey

    words = list(dict.fromkeys(word.strip() for word in by.split(",") if word.strip()))
    known = [key.value for key in UsageKey]
    for word in words:
        if word not in known:
            raise typer.BadParameter(f"{word!r} is none of: {', '.join(known)}.", param_hint="--by")
    return words


def _day(text: str | None, option: str) -> str | None:
    from datetime import date

    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day, such as 2026-01-31.", param_hint=option) from None


def _lines(keys: Sequence[str], report: Mapping[str, Any]) -> Iterator[str]:
    total = report["total"]
    if not total["calls"]:
        yield "No model was called."
        return
    head = [*(key.upper() for key in keys), "CALLS", "TOKENS IN", "TOKENS OUT", "COST"]
    rows = [[*(row[key] or NOBODY for key in keys), *_sums(row)] for row in report["rows"]]
    if keys:
        rows.append(["total", *("" for _ in keys[1:]), *_sums(total)])
    else:
        rows = [_sums(total)]
    yield from columns(head, rows)
    if report["truncated"]:
        yield f"There are more than {len(report['rows'])}: --limit shows more."
    if total["failed_calls"]:
        yield f"{total['failed_calls']} of the calls gave no answer."
    if total["unknown_calls"]:
        yield f"Of {total['unknown_calls']} calls the tokens are not known: they are missing in the sums."
    if total["unpriced_calls"]:
        yield f"{total['unpriced_calls']} calls have no price: their cost is missing. `prices:` in the topology can give one."


def _sums(row: Mapping[str, Any]) -> list[str]:
    from portico.runs.usage import format_cost

    tokens = [NOBODY if row[name] is None else f"{row[name]:,}" for name in ("tokens_in", "tokens_out")]
    partial = "+" if row["unpriced_calls"] and row["cost_usd"] is not None else ""
    return [f"{row['calls']:,}", *tokens, f"{format_cost(row['cost_usd'])}{partial}"]
