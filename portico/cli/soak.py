"""`portico soak`: a server of its own under load, killed again and again, and whether all that it promised is there afterwards."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def soak(
    kills: Annotated[int, typer.Option(min=0, help="How often the server is killed.")] = 50,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Spread the kills over so many seconds. [default: one after another]")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="How many clients ask at once.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Of the dice. [default: another one each time]")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory with data, files and log.")] = False,
) -> None:
    """Kill a server with SIGKILL under load, and check that nothing was lost or done twice. The exit code is 0 when it is sound."""
    from portico.testing.soak import soak as run

    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="portico-soak-"))
    begun = time.monotonic()

    def report(text: str) -> None:
        typer.echo(f"{time.monotonic() - begun:7.1f} s  {text}")

    report(f"{kills} kills, {clients} clients, seed {seed}, in {directory}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
    try:
        wrong = run(directory, kills=kills, seconds=seconds, clients=clients, seed=seed, report=report, environ=environ)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        kept = f"what is left is in {directory}" if keep else "--keep keeps what is left"
        typer.echo(f"Not sound: portico soak --kills {kills} --clients {clients} --seed {seed}; {kept}.", err=True)
        raise typer.Exit(1)
    report(f"sound after {kills} kills")
