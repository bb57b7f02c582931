"""`portico audit`: look at the audit trail, check its chain, write it to a file: of a data directory, a file, a running server.

What is checked is taken as it is: whoever asks this trusts neither the server nor the disk.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from portico.cli.display import as_json, columns, cut, echo
from portico.errors import CallError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from portico.audit.verification import Verdict
    from portico.runs.audit_store import AuditQuery

app = typer.Typer(name="audit", help="Look at the audit trail, check its chain, write it to a file.", no_args_is_help=True)

PAGE: Final = 500
"""How many entries are read at a time."""
READINGS: Final = 10
"""How often a trail is read at most from which a server removes what is old meanwhile."""
HEAD: Final = re.compile(r"[0-9a-f]{64}")

UrlOption = Annotated[str | None, typer.Option("--url", help="Ask this running server.")]
DataOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Read this data directory.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Read this file of JSON Lines; - is standard input.")
]
AgentOption = Annotated[str | None, typer.Option(help="Only what was done to this agent.")]
PrincipalOption = Annotated[str | None, typer.Option(help="Only what this principal did.")]
ActionOption = Annotated[str | None, typer.Option(help="Only this action.")]


@app.command("list")
def list_entries(
    agent: AgentOption = None,
    principal: PrincipalOption = None,
    action: ActionOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    url: UrlOption = None,
    data: DataOption = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """List who did what, the newest first."""
    conditions = {"agent": agent, "principal": principal, "action": action}
    found = list(_newest(url, data, limit, conditions))
    if as_data:
        echo(as_json(found))
        return
    head = ("SEQ", "AT", "ACTION", "OUTCOME", "AGENT", "PRINCIPAL", "FROM", "RUN")
    rows = [(str(one["seq"]), one["at"][:19].replace("T", " "), *(_cell(one, name) for name in CELLS)) for one in found]
    for line in columns(head, rows) if rows else ["No entries."]:
        echo(line)


CELLS: Final = ("action", "outcome", "agent", "principal", "address", "run_id")


def _cell(entry: dict[str, Any], name: str) -> str:
    return cut(str(entry.get(name) or "")) or "-"


@app.command()
def verify(
    data: DataOption = None,
    file: FileOption = None,
    url: UrlOption = None,
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="The hash of an entry that must be there: as an earlier look has printed it.")
    ] = None,
    part: Annotated[
        bool, typer.Option("--part", help="It is a part of a chain: entries before its first need not be there.")
    ] = False,
) -> None:
    """Check the chain; the exit code is 0 when nothing was changed, removed or put in."""
    if sum(one is not None for one in (data, file, url)) != 1:
        raise typer.BadParameter("Give --data DIR, --file FILE or --url URL, one of them.", param_hint="--data")
    if head is not None and not HEAD.fullmatch(head.strip().lower()):
        raise typer.BadParameter("A hash has 64 hex digits.", param_hint="--head")
    wanted = head.strip().lower() if head is not None else None
    _tell(_verdict_of_file(file, wanted, part) if file is not None else _verdict(url, data, wanted, part))


def _verdict(url: str | None, data: Path | None, head: str | None, partly: bool) -> Verdict:  # noqa: FBT001  # as the options are
    """Of a chain that is read page by page. What a server removes for its age meanwhile makes a gap: then it is read again.

    No entry is taken at its word there: the chain has another beginning then, and the next reading shows whether it fits.
    """
    from portico.audit.verification import Verification

    reading = 0
    while True:
        reading += 1
        verification, first = Verification(head, partly=partly), None
        for entry in _oldest(url, data):
            first = entry if first is None else first
            verification.add(entry)
        verdict = verification.verdict()
        if verdict.fault is None or reading == READINGS or first == next(_oldest(url, data), None):
            return verdict


def _verdict_of_file(file: Path, head: str | None, partly: bool) -> Verdict:  # noqa: FBT001  # as the options are
    from portico.audit.verification import Verification

    verification = Verification(head, partly=partly)
    try:
        with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as lines:
            for line in lines:
                verification.add_line(line)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from None
    return verification.verdict()


def _tell(verdict: Verdict) -> None:
    fault = verdict.fault
    if fault is None:
        which = f", {verdict.first} to {verdict.last}" if verdict.entries else ""
        echo(f"whole: {verdict.entries} entries{which}")
        echo(f"head: {verdict.head}")
        return
    who = f"entry {fault.seq}" if fault.seq is not None else "the end" if fault.place == verdict.entries else "an entry"
    echo(f"broken at {who}, after {fault.place} entries: {fault.reason}")
    raise typer.Exit(1)


@app.command()
def export(
    data: DataOption = None,
    url: UrlOption = None,
    form: Annotated[str, typer.Option("--format", help="The form: jsonl.")] = "jsonl",
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Only the entries behind this number.")] = 0,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only those of then and later: RFC 3339, such as 2026-01-31T09:30:00Z.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file.")] = None,
) -> None:
    """Write the trail, the oldest first, as `verify --file` takes it."""
    from portico.audit.chain import canonical

    if form != "jsonl":
        raise typer.BadParameter("There is only jsonl.", param_hint="--format")
    if (data is None) == (url is None):
        raise typer.BadParameter("Give --data DIR or --url URL, one of both.", param_hint="--data")
    first = _moment(since) if since is not None else ""
    try:
        with nullcontext(sys.stdout.buffer) if output is None else _replaced(output) as lines:
            for entry in _oldest(url, data, after):
                if entry["at"] >= first:
                    lines.write(canonical(entry) + b"\n")
            lines.flush()
    except BrokenPipeError:
        raise  # whoever reads has enough: `head`, for one
    except OSError as error:
        raise ConfigurationError(f"{output or 'Standard output'} cannot be written: {error.strerror}.") from None


@contextmanager
def _replaced(path: Path) -> Generator[IO[bytes]]:
    """A file that takes this place when it is whole: half a trail would be whole for `verify`. A device is written to."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    place = path.resolve()
    beside = place.with_name(f".{place.name}.{token_hex(4)}")
    with beside.open("xb") as file:
        try:
            if place.exists():
                shutil.copymode(place, beside)
            yield file
            file.flush()
            os.fsync(file.fileno())
            beside.replace(place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _moment(text: str) -> str:
    """A time as entries have it."""
    from datetime import UTC, datetime

    from portico.audit.chain import MICROSECONDS, time_of

    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("Write it as 2026-01-31T09:30:00Z.", param_hint="--since") from None
    return time_of(int(at.timestamp() * MICROSECONDS))


# --- where entries come from ------------------------------------------------------------------------------------------


def _oldest(url: str | None, data: Path | None, after: int = 0) -> Iterator[dict[str, Any]]:
    """Every entry behind a number, the oldest first, as it is shown."""
    from portico.runs.audit_store import AuditQuery

    if data is None:
        with _remote(url) as client, _sentences(url):
            yield from client.audit(after=after, page=PAGE)
        return
    while page := _stored(data, AuditQuery(after=after, limit=PAGE)):
        yield from page
        after = page[-1]["seq"]


def _newest(url: str | None, data: Path | None, limit: int, conditions: dict[str, Any]) -> Iterable[dict[str, Any]]:
    from portico.runs.audit_store import AuditQuery

    if data is None:
        with _remote(url) as client, _sentences(url):
            return list(client.audit(limit=limit, page=min(limit, PAGE), **conditions))
    if url is not None:
        raise typer.BadParameter("Give --url or --data, not both.", param_hint="--data")
    return _stored(data, AuditQuery(limit=limit, **conditions))


def _stored(directory: Path, query: AuditQuery) -> list[dict[str, Any]]:
    import asyncio

    from portico.audit.chain import shown
    from portico.cli.data_directory import opened

    async def read() -> list[dict[str, Any]]:
        async with opened(directory) as store:
            return [shown(sealed) for sealed in await store.audit(query)]

    return asyncio.run(read())


def _remote(url: str | None) -> Any:
    from portico.cli.runs import DEFAULT_URL
    from portico.client import Client

    return Client(url or DEFAULT_URL, api_key=os.environ.get("PORTICO_API_KEY", "").strip() or None, retries=0)


@contextmanager
def _sentences(url: str | None) -> Generator[None]:
    """An error of the client as a sentence."""
    from portico.client import ClientError

    try:
        yield
    except ClientError as error:
        raise CallError(f"{url or 'The server'}: {error}") from error
