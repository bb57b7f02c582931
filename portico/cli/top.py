"""`portico top`: the live page of a running gateway in a terminal, also of one far away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.display import echo
from portico.cli.runs import DEFAULT_URL
from portico.errors import CallError, MissingExtra

if TYPE_CHECKING:
    from portico.cli.terminal.picture import Picture

TIMEOUT = 30.0
"""Seconds for an answer: to restart an agent takes as long as its handler needs to stop."""


def top(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="Where the gateway is.")] = DEFAULT_URL,
    once: Annotated[bool, typer.Option("--once", help="Print what there is as plain text, and exit.")] = False,
) -> None:
    """Watch a running gateway, and act on its agents and runs."""
    import asyncio
    import sys

    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CallError("This is no terminal. `portico top --once` prints what there is as plain text.")
    asyncio.run(_once(url) if once else live(url))


async def _once(url: str) -> None:
    from portico.cli.terminal.snapshot import snapshot

    for line in snapshot(await _look(url), url.rstrip("/")):
        echo(line)


async def live(url: str) -> None:
    """What is wrong with the address or the key is told before the screen is taken. Raises `CallError`, `MissingExtra`."""
    from portico.client import AsyncClient

    try:
        from portico.cli.terminal.app import TopApp
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "textual":
            raise
        raise MissingExtra("The live page in a terminal", "top") from error
    picture = await _look(url)
    key = _key()
    async with AsyncClient(url, api_key=key, timeout=TIMEOUT, retries=0) as client:
        await TopApp(client, url.rstrip("/"), picture, keyed=bool(key)).run_async()


async def _look(url: str) -> Picture:
    """A picture of the gateway as it is now. Raises `CallError`."""
    from portico.cli.refusals import refusal
    from portico.cli.terminal.picture import Picture
    from portico.cli.terminal.watching import Watching
    from portico.client import AsyncClient, ClientError

    key, picture = _key(), Picture()
    async with AsyncClient(url, api_key=key, timeout=TIMEOUT, retries=0) as client:
        try:
            await Watching(client, picture, lambda: None, keyed=bool(key)).read_all()
        except ClientError as error:
            raise refusal(error, url.rstrip("/"), keyed=bool(key), named="URL") from error
    return picture


def _key() -> str | None:
    return os.environ.get("PORTICO_API_KEY", "").strip() or None
