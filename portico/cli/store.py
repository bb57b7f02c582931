"""`portico store`: look into a data directory, check it, make it smaller, and move what is in it. No server is needed for that.

What only reads works beside a running server, too; what writes needs the directory for itself.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.data_directory import DataOption, StoreTopologyOption, chosen, opened
from portico.cli.display import as_json, cut, echo, fields, shown, size
from portico.errors import ConfigurationError, MalformedBody, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import IO

    from portico.runs.store import Pruned, Retention, StoreSummary

app = typer.Typer(name="store", help="Look into a data directory, check it, make it smaller, move it.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
DURATION = "a number of seconds, or a text such as 90s, 15m, 12h, 30d, 2w; forever for no limit"
BARE_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
SIZE = "a number of bytes, or a text such as 100MB, 512MiB, 2GiB"


# --- to look ----------------------------------------------------------------------------------------------------------


@app.command("list")
def list_contents(data: DataOption = None, topology: StoreTopologyOption = None, as_data: JsonOption = False) -> None:
    """Print what is in the store."""
    import asyncio

    summary = asyncio.run(_summary(chosen(data, topology)))
    if as_data:
        echo(as_json(asdict(summary)))
        return
    runs = dict(sorted(summary.runs.items()))
    rows = [("runs", str(sum(runs.values()))), *((f"  {status}", str(count)) for status, count in runs.items())]
    rows += [("dead letters", str(summary.dead_letters)), ("events", str(summary.events)), ("states", str(summary.states))]
    echo(f"{summary.where} ({summary.kind}), {size(summary.size)}")
    width = max(len(count) for _, count in rows)
    for name, count in rows:
        echo(f"{name:<14}{count:>{width}}")


async def _summary(directory: Path) -> StoreSummary:
    async with opened(directory) as store:
        return await store.summary()


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the process.")],
    data: DataOption = None,
    topology: StoreTopologyOption = None,
    as_data: JsonOption = False,
) -> None:
    """Print the state of a process."""
    import asyncio

    state, suspended = asyncio.run(_state(chosen(data, topology), name))
    if as_data:
        echo(as_json(state))
        return
    if suspended is not None:
        echo(f"{name} is suspended: {cut(suspended) or 'no reason was given'}")
    for line in fields({key: shown(value) for key, value in state.items()}, max(map(len, state), default=0)):
        echo(line)
    if not state:
        echo("The state is empty.")


async def _state(directory: Path, name: str) -> tuple[dict[str, Any], str | None]:
    """The state, and why the process is suspended. Raises `ConfigurationError` where neither is there."""
    async with opened(directory) as store:
        state, suspended = await store.state(name), (await store.suspensions()).get(name)
        if state is None and suspended is None:
            names = [known for known, _ in await store.states()]
            raise ConfigurationError(f"{directory} has no state of {name!r}.{did_you_mean(nearest(name, names))}")
        return state or {}, suspended


@app.command()
def verify(data: DataOption = None, topology: StoreTopologyOption = None) -> None:
    """Look for damage; the exit code is 0 when there is none."""
    import asyncio

    damage = asyncio.run(_damage(chosen(data, topology)))
    for line in damage or ["sound"]:
        echo(line)
    if damage:
        raise typer.Exit(1)


async def _damage(directory: Path) -> list[str]:
    async with opened(directory) as store:
        return await store.verify()


# --- to make smaller --------------------------------------------------------------------------------------------------


@app.command()
def prune(
    runs: Annotated[str | None, typer.Option(metavar="AGE", help="Remove runs that ended so long ago: 30d.")] = None,
    payloads: Annotated[
        str | None, typer.Option(metavar="AGE", help="Of runs that ended so long ago, remove request, reply, events and steps: 7d.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--size", metavar="SIZE", help="Remove the oldest ended runs beyond this size: 1GiB.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    data: DataOption = None,
    topology: StoreTopologyOption = None,
) -> None:
    """Remove what is kept no longer, as the topology's retention has it or as the options say. No server may use the store."""
    import asyncio

    directory = chosen(data, topology)
    retention = _retention(runs, payloads, max_size, topology)
    if dry_run:
        if retention.max_bytes is not None:
            raise typer.BadParameter(
                "What a size removes is known only once it is removed: --runs and --payloads.", param_hint="--dry-run"
            )
        removed = asyncio.run(_count(directory, retention))
        echo(f"To be removed: runs {removed.runs}, payloads of others {removed.payloads}.")
        return
    removed = asyncio.run(_prune(directory, retention))
    echo(
        f"Removed: runs {removed.runs}, payloads of others {removed.payloads}, idempotency keys {removed.keys}, "
        f"together {size(removed.freed)}."
    )


def _retention(runs: str | None, payloads: str | None, max_size: str | None, topology: Path | None) -> Retention:
    """What is to be kept. Raises `typer.BadParameter` where nothing says so."""
    from portico.app.loading import load_topology
    from portico.runs.store import Retention
    from portico.topology.model import Age, Size
    from portico.topology.parts import retention_of

    if topology is not None:
        retention = retention_of(load_topology(topology).store.retention)
    elif runs is None and payloads is None and max_size is None:
        raise typer.BadParameter(
            "Say what to remove: --runs, --payloads or --size, or a --topology with a retention.", param_hint="--runs"
        )
    else:
        retention = Retention(runs_for=None, usage_for=None)
    if runs is not None:
        retention = replace(retention, runs_for=measured(runs, Age, "--runs", DURATION))
    if payloads is not None:
        retention = replace(retention, payloads_for=measured(payloads, Age, "--payloads", DURATION))
    if max_size is not None:
        retention = replace(retention, max_bytes=measured(max_size, Size, "--size", SIZE))
    return retention


def measured(text: str, kind: Any, option: str, words: str) -> Any:
    """A duration or a size, as a topology has it. Raises `typer.BadParameter`."""
    from pydantic import TypeAdapter, ValidationError

    number = float(text) if BARE_NUMBER.fullmatch(text) else text
    try:
        return TypeAdapter(kind).validate_python(number)
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is not {words}.", param_hint=option) from None


async def _prune(directory: Path, retention: Retention) -> Pruned:
    async with opened(directory, read_only=False) as store:
        return await store.prune(retention, time.time())


async def _count(directory: Path, retention: Retention) -> Pruned:
    """What `RunStore.prune` would remove, but for keys."""
    from portico.runs.store import Pruned, RunQuery

    found, now = Pruned(), time.time()
    before: tuple[float, str] | None = None
    async with opened(directory) as store:
        while page := await store.runs(RunQuery(everyone=True, before=before, limit=500)):
            before = page[-1].created, page[-1].run_id
            for run in page:
                age = now - run.finished if run.finished is not None else 0.0
                if retention.runs_for is not None and age > retention.runs_for:
                    found.runs += 1
                elif retention.payloads_for is not None and age > retention.payloads_for and not run.stripped:
                    found.payloads += 1
    return found


# --- to move ----------------------------------------------------------------------------------------------------------


@app.command("export")
def export_lines(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The JSON Lines file to write; - for standard output.")],
    data: DataOption = None,
    topology: StoreTopologyOption = None,
) -> None:
    """Write runs, events, steps, states and usage as JSON Lines."""
    import asyncio

    directory = chosen(data, topology)
    count = asyncio.run(_export(directory, file))
    typer.echo(f"Lines written: {count}.", err=True)


async def _export(directory: Path, file: str) -> int:
    from portico.stores.jsonl import export

    async with opened(directory) as store:
        with _file(file, "w") as lines:
            return await export(store, lines)


@app.command("import")
def import_lines(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `portico store export` wrote; - for standard input.")],
    data: DataOption = None,
    topology: StoreTopologyOption = None,
) -> None:
    """Add what was exported; the directory is made where there is none. No server may use the store."""
    import asyncio

    directory = chosen(data, topology)
    try:
        count = asyncio.run(_import(directory, file))
    except ValueError as error:
        raise MalformedBody(f"{file} was not imported to its end. {error}") from None
    typer.echo(f"Lines imported: {count}.", err=True)


async def _import(directory: Path, file: str) -> int:
    from portico.stores.jsonl import load

    with _file(file, "r") as lines:
        async with opened(directory, read_only=False, make=True) as store:
            return await load(store, lines)


@contextmanager
def _file(name: str, mode: str) -> Generator[IO[bytes]]:
    """A file, or a standard stream for `-`. A new file is as private as the store. Raises `ConfigurationError`."""
    if name == "-":
        yield sys.stdin.buffer if mode == "r" else sys.stdout.buffer
        return
    try:
        with (
            Path(name).open("rb")
            if mode == "r"
            else os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file
        ):
            yield file
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be {'read' if mode == 'r' else 'written'}: {error.strerror}.") from None
