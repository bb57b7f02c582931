"""Feed: one connection to the events of a gateway, as they come. What a lost one means, `watching.py` decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

import httpx

from portico.client.answers import failure, foreign
from portico.client.errors import ConnectionFailed
from portico.client.following import EVENT_STREAM
from portico.client.plan import Outgoing, Read
from portico.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from portico.client import AsyncClient
    from portico.client.plan import Step
    from portico.sse import ServerSentEvent

PATH: Final = "/events"
SILENCE: Final = 30.0
"""Seconds without a byte after which the connection counts as lost: figures come once a second."""


def events(client: AsyncClient, last: str | None) -> AsyncGenerator[ServerSentEvent]:
    """The events after the last one that came, until the connection ends. Raises `ClientError`: at the latest at that end."""
    return client.tell(_one_connection(client, last))


def _one_connection(client: AsyncClient, last: str | None) -> Generator[Step | ServerSentEvent, Any, None]:
    attempts, decoder = client.calls._attempts, EventDecoder()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    headers = {"accept": EVENT_STREAM, **({"last-event-id": last} if last is not None else {})}
    opened = yield from attempts.opened(Outgoing("GET", PATH, SILENCE, idempotent=True, headers=headers), silence=SILENCE)
    if opened.response.headers.get("content-type", "").partition(";")[0].strip() != EVENT_STREAM:
        raise foreign(opened.response)
    try:
        while (chunk := (yield Read(opened))) is not None:
            try:
                yield from decoder.feed(chunk)
            except ValueError as error:
                raise foreign(opened.response) from error
    except httpx.RequestError as cause:
        raise failure(attempts.url, cause) from cause
    raise ConnectionFailed(attempts.url, "the stream of events ended", sent=True)


def data_of(event: ServerSentEvent) -> dict[str, Any]:
    """What it says; nothing where that is no object."""
    try:
        found: Any = json.loads(event.data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
