"""`portico runs`: look at runs, follow, answer and cancel them, and send dead letters again: of a running server, over HTTP.

To look is possible without a server too, in a data directory.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

from portico.cli.display import as_json, echo
from portico.errors import CallError, MalformedBody
from portico.runs.status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any

    from portico.cli.remote_runs import RemoteRuns
    from portico.cli.story import Story

DEFAULT_URL: Final = "http://127.0.0.1:8080"
EVERY: Final = 2**53
"""More dead letters than there are."""

app = typer.Typer(name="runs", help="Look at runs, follow, answer and cancel them, send dead letters again.", no_args_is_help=True)

UrlOption = Annotated[str | None, typer.Option("--url", help=f"Where the server is. [default: {DEFAULT_URL}]")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Read this data directory, without a server: everybody's runs."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
LimitOption = Annotated[int, typer.Option(min=1, help="How many at most.")]
RunArgument = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
AgentOption = Annotated[str | None, typer.Option(help="Only those of this agent.")]


class Source(Protocol):
    """Where runs are read: a server, or a data directory."""

    def page(
        self, *, limit: int, status: str | None = None, agent: str | None = None, parent: str | None = None
    ) -> list[dict[str, Any]]:
        """At most `limit` runs, the newest first."""
        ...

    def dead_letters(self, *, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """At most `limit` dead letters, the newest first."""
        ...

    def story(self, run_id: str) -> Story:
        """What became of a run so far."""
        ...


# --- to look ----------------------------------------------------------------------------------------------------------


@app.command("list")
def list_runs(
    status: Annotated[RunStatus | None, typer.Option(help="Only those that are there.")] = None,
    agent: AgentOption = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Only those that this run's handler sent.")] = None,
    limit: LimitOption = 50,
    url: UrlOption = None,
    data: DataOption = None,
    as_data: JsonOption = False,
) -> None:
    """List runs, the newest first."""
    from portico.cli.story import run_table

    with _source(url, data) as source:
        found = source.page(limit=limit, status=status.value if status else None, agent=agent, parent=parent)
    _print(found, run_table(found) if found else ["No runs."], as_data=as_data)


@app.command()
def show(run_id: RunArgument, url: UrlOption = None, data: DataOption = None, as_data: JsonOption = False) -> None:
    """Tell what became of a run so far."""
    with _source(url, data) as source:
        story = source.story(run_id)
    _print(story.as_data(), story.lines(), as_data=as_data)


@app.command("dead-letters")
def dead_letters(
    agent: AgentOption = None,
    limit: LimitOption = 50,
    url: UrlOption = None,
    data: DataOption = None,
    as_data: JsonOption = False,
) -> None:
    """List what failed after its retries, the newest first."""
    from portico.cli.story import letter_table

    with _source(url, data) as source:
        found = source.dead_letters(limit=limit, agent=agent)
    _print(found, letter_table(found) if found else ["No dead letters."], as_data=as_data)


@app.command()
def follow(run_id: RunArgument, url: UrlOption = None, as_data: JsonOption = False) -> None:
    """Print the events of a run as they come, until its end. The exit code is 0 when it has succeeded."""
    from portico.cli.story import event_line
    from portico.runs.event import EventName

    last: str | None = None
    with _remote(url) as remote:
        record = remote.record(run_id)
        for event in remote.follow(run_id, _tell_of_a_lost_connection):
            echo(as_json(event, indent=None) if as_data else event_line(event, record))
            last = event["type"]
    if last != EventName.SUCCEEDED:
        raise typer.Exit(1)


# --- to act -----------------------------------------------------------------------------------------------------------


@app.command()
def cancel(run_id: RunArgument, url: UrlOption = None) -> None:
    """Cancel a run: its handler, and what that waits for."""
    with _remote(url) as remote:
        status = remote.cancel(run_id)["status"]
    if status != RunStatus.CANCELLED:
        raise CallError(f"Run {run_id!r} was not cancelled: it has ended before ({status}).")
    echo(f"Run {run_id} is cancelled.")


@app.command("input")
def answer(
    run_id: RunArgument,
    value: Annotated[str, typer.Argument(metavar="JSON", help="The answer as JSON; - reads it from standard input.")],
    url: UrlOption = None,
) -> None:
    """Give a run the input that it waits for."""
    text = sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"The answer is not JSON: {error}.") from None
    with _remote(url) as remote:
        remote.answer(run_id, data)
    echo(f"Run {run_id} goes on.")


@app.command()
def redeliver(run_id: RunArgument, url: UrlOption = None) -> None:
    """Send the callback of a run that has ended again, whatever became of it."""
    with _remote(url) as remote:
        remote.redeliver(run_id)
    echo(f"The callback of run {run_id} is sent again.")


@app.command()
def redrive(
    letter_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The dead letter's id.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, the oldest first.")] = False,
    url: UrlOption = None,
) -> None:
    """Send a dead letter again, as a new run."""
    if every == (letter_id is not None):
        raise typer.BadParameter("Give the id of a dead letter, or --all.", param_hint="ID")
    with _remote(url) as remote:
        if letter_id is not None:
            echo(f"{letter_id} is sent again as run {remote.redrive(letter_id)['run_id']}.")
        elif not _redrive_all(remote):
            raise typer.Exit(1)


def _redrive_all(remote: RemoteRuns) -> bool:
    """Whether all were sent again. One that is refused does not hold up the others; a server that is not there does."""
    letters = remote.dead_letters(limit=EVERY)
    sent = 0
    for letter in reversed(letters):
        try:
            run = remote.redrive(letter["id"])
        except CallError as error:
            if not error.extra.get("status"):
                raise
            typer.echo(f"portico: {error}", err=True)
        else:
            sent += 1
            echo(f"{letter['id']} is sent again as run {run['run_id']}.")
    echo(f"{sent} of {len(letters)} sent again." if letters else "No dead letters.")
    return sent == len(letters)


# --- inside -----------------------------------------------------------------------------------------------------------


def _remote(url: str | None) -> RemoteRuns:
    from portico.cli.remote_runs import RemoteRuns

    return RemoteRuns(DEFAULT_URL if url is None else url, os.environ.get("PORTICO_API_KEY", "").strip())


@contextmanager
def _source(url: str | None, data: Path | None) -> Generator[Source]:
    if data is None:
        with _remote(url) as remote:
            yield remote
        return
    if url is not None:
        raise typer.BadParameter("Give --url or --data, not both.", param_hint="--data")
    from portico.cli.stored_runs import StoredRuns

    yield StoredRuns(data)


def _print(value: Any, lines: Iterable[str], *, as_data: bool) -> None:
    if as_data:
        echo(as_json(value))
        return
    for line in lines:
        echo(line)


def _tell_of_a_lost_connection() -> None:
    typer.echo("portico: The connection was lost. Trying again …", err=True)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
