"""The data directory that a command is about, and the store in it. Nothing is made where there is none."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portico.errors import ConfigurationError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from portico.stores.sqlite import SqliteStore

DataOption = Annotated[Path | None, typer.Option("--data", help="The data directory.", metavar="DIR")]
StoreTopologyOption = Annotated[
    Path | None, typer.Option("--topology", "-t", help="The topology whose `store` says where it is.", metavar="FILE")
]


def chosen(data: Path | None, topology: Path | None) -> Path:
    """The directory that is given, or that a topology names.

    Raises:
        typer.BadParameter: none, or both.
        ConfigurationError: the topology keeps everything in memory, or is not sound.
    """
    if (data is None) == (topology is None):
        raise typer.BadParameter("Give --data DIR or --topology FILE, one of both.", param_hint="--data")
    if topology is None:
        assert data is not None  # noqa: S101  # one of both
        return data
    from portico.app.loading import load_topology

    directory = load_topology(topology).data_directory
    if directory is None:
        raise ConfigurationError(f"{topology} keeps runs and states in memory: it has no data directory.")
    return directory


@asynccontextmanager
async def opened(directory: Path, *, read_only: bool = True, make: bool = False) -> AsyncGenerator[SqliteStore]:
    """The store in a directory. `make`: where there is none, a new one.

    Raises:
        StoreError: there is none, it is damaged, or (where it is not only read) another program uses it.
    """
    from portico.stores.schema import FILE
    from portico.stores.sqlite import SqliteStore

    try:
        there = make or (directory / FILE).exists()
    except OSError as error:
        raise StoreError(str(directory), f"{error.strerror}.") from None
    if not there:
        raise StoreError(str(directory), f"there is no {FILE} in it.")
    store = SqliteStore(directory, read_only=read_only)
    await store.open()
    try:
        yield store
    except StoreUnavailable as error:
        raise StoreError(str(directory), error.reason) from error
    finally:
        await store.close()
