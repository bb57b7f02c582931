"""`portico keys`: make, list and revoke API keys. A running server that uses the file notices within a second or two."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.display import as_json, columns, echo, one_line, time_of_day
from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from portico.auth.api_key import ApiKey
    from portico.auth.key_file import KeyFile

app = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", help="The key file. [default: PORTICO_KEYS_FILE, or keys.json in the data directory]", metavar="FILE"
    ),
]
DataOption = Annotated[Path | None, typer.Option("--data", help="The data directory. [default: PORTICO_DATA]", metavar="DIR")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who calls with it: one word. Runs belong to names.")],
    scope: Annotated[list[str] | None, typer.Option(help="What the key may do; again for more, * for everything.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="AGE", help="When it ends: 90d, 12h. [default: never]")] = None,
    file: FileOption = None,
    data: DataOption = None,
) -> None:
    """Make a key and print it: this once, for only a digest of it is kept."""
    from portico.auth.api_key import new_key
    from portico.auth.key_file import checked_principal

    principal = checked_principal(name, scope or [])
    lifetime = _lifetime(expires) if expires is not None else None
    chosen = _chosen(file, data)
    fresh = not chosen.path.exists()
    key, record = new_key(principal, lifetime)
    with chosen.editing() as keys:
        keys.append(record)
    echo(key)
    may = " ".join(sorted(principal.scopes)) or "what demands no scope"
    typer.echo(f"Key {record.id} of {name}, kept in {chosen.path}. It may: {may}. It is shown only now.", err=True)
    if fresh:
        typer.echo("The file is new: a server that runs already knows nothing of it until it is started again.", err=True)


@app.command("list")
def list_keys(
    file: FileOption = None, data: DataOption = None, as_data: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the keys, the oldest first, without their secrets."""
    from portico.auth.key_file import shown

    keys = _chosen(file, data).read()
    if as_data:
        echo(as_json([shown(key) for key in keys]))
        return
    if not keys:
        echo("There are no keys.")
        return
    now = time.time()
    rows = [
        (
            about["id"],
            about["name"],
            " ".join(about["scopes"]) or "-",
            time_of_day(about["created_at"]),
            f"{time_of_day(about['expires_at'])}{' (expired)' if key.expired(now) else ''}" if about["expires_at"] else "never",
        )
        for key, about in ((key, shown(key)) for key in keys)
    ]
    for line in columns(("ID", "NAME", "SCOPES", "CREATED", "EXPIRES"), rows):
        echo(line)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="One key by its id, or all of a name. A whole key is taken too.")],
    file: FileOption = None,
    data: DataOption = None,
) -> None:
    """Take keys away for good: whoever sends one is refused."""
    chosen = _chosen(file, data)
    chosen.read()  # nothing is made where there is no file
    with chosen.editing() as keys:
        gone = _meant(key, keys)
        if not gone:
            hint = did_you_mean(nearest(key, [name for one in keys for name in (one.id, one.principal.name)]))
            what = "that" if key.startswith("portico_") else repr(key)  # a whole key is a secret, also in a log of the terminal
            raise ConfigurationError(f"{chosen.path} has no key {what}.{hint}")
        keys[:] = [one for one in keys if one not in gone]
    for one in gone:
        echo(f"revoked {one.id} of {one_line(one.principal.name)}")


def _meant(key: str, keys: list[ApiKey]) -> list[ApiKey]:
    from portico.auth.api_key import PREFIX, id_of

    if key.startswith(PREFIX):
        return [one for one in keys if one.id == id_of(key.encode())]
    return [one for one in keys if one.id == key] or [one for one in keys if one.principal.name == key]


def _chosen(file: Path | None, data: Path | None) -> KeyFile:
    """The file that is given, or that the environment names. Raises `typer.BadParameter` where nothing says which."""
    from portico.app.settings import KEYS_FILE, PREFIX
    from portico.auth.key_file import KeyFile

    if file is not None and data is not None:
        raise typer.BadParameter("Give --file or --data, not both.", param_hint="--file")
    if file is None and data is None:
        named, directory = os.environ.get(PREFIX + "KEYS_FILE", "").strip(), os.environ.get(PREFIX + "DATA", "").strip()
        file = Path(named) if named else None
        data = Path(directory) if directory else None
    if file is None and data is None:
        raise typer.BadParameter(
            "Say where the keys are: --file FILE, --data DIR, PORTICO_KEYS_FILE or PORTICO_DATA.", param_hint="--file"
        )
    return KeyFile(file if file is not None else Path(data or "", KEYS_FILE))


def _lifetime(text: str) -> float:
    """Seconds. Raises `typer.BadParameter`."""
    from portico.cli.store import measured  # a duration reads the same everywhere
    from portico.topology.model import Age

    seconds: float | None = measured(text, Age, "--expires", "a text such as 90d, 12h, 2w")
    if seconds is None:
        raise typer.BadParameter("Leave it out for a key that never expires.", param_hint="--expires")
    return seconds
