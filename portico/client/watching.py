"""Watching: what happens in the whole gateway, over as many connections as it takes.

After a lost one it goes on behind the last event. It has no end of its own. Above: `watch` of both clients. Below: attempts, and
Server-Sent Events as `routes/gateway_stream.py` writes them: whoever watches stops reading.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from portico.client.answers import failure, foreign, problem_error
from portico.client.errors import ConnectionFailed
from portico.client.following import EVENT_STREAM, LIVED, SILENCE
from portico.client.plan import Close, Outgoing, Pause, Read
from portico.client.records import GatewayEvent
from portico.client.retries import backoff
from portico.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from portico.client.attempts import Attempts
    from portico.client.errors import ClientError
    from portico.client.plan import Opened, Step, Telling
    from portico.sse import ServerSentEvent

ERROR: Final = "error"
"""The last event of a stream that is not to go on: its data is the problem."""


class Watching:
    """Watches one gateway.

    Args:
        attempts: how requests are made.
        topics: what is told; None for what the gateway tells unless asked otherwise.
        last: the id of the last event that was seen; None for one that begins.
        patience: seconds for which the gateway may be away, or break each connection at once.
        resume: go on after a lost connection.
        silence: seconds without a byte after which a connection counts as lost.
    """

    def __init__(
        self,
        attempts: Attempts,
        topics: Sequence[str] | None,
        last: str | None,
        patience: float,
        *,
        resume: bool = True,
        silence: float = SILENCE,
    ) -> None:
        self._attempts = attempts
        self._query = {"topics": ",".join(topics)} if topics is not None else None
        self._patience = patience
        self._resume = resume
        self._silence = silence
        self.last = last

    def events(self) -> Telling[GatewayEvent]:
        """The events. Raises `ClientError`."""
        opened = yield from self._attempts.opened(self._request(), silence=self._silence)
        lost_since: float | None = None
        losses = 0
        while True:
            begun = time.monotonic()
            broken = yield from self._one_connection(opened)
            now = time.monotonic()
            if now - begun > LIVED:
                lost_since, losses = None, 0
            lost_since = now if lost_since is None else lost_since
            if not self._resume or now - lost_since > self._patience:
                raise broken
            yield Pause(backoff(losses))
            losses += 1
            opened = yield from self._attempts.opened(self._request(), patient=True, silence=self._silence)

    def _request(self) -> Outgoing:
        headers = {"accept": EVENT_STREAM, **({"last-event-id": self.last} if self.last is not None else {})}
        return Outgoing("GET", "/events", self._patience, idempotent=True, headers=headers, query=self._query)

    def _one_connection(self, opened: Opened) -> Generator[Step | GatewayEvent, Any, ClientError]:
        """Its events. Returns what ended it."""
        response, decoder = opened.response, EventDecoder()
        if response.headers.get("content-type", "").partition(";")[0].strip() != EVENT_STREAM:
            raise foreign(response)
        try:
            while (chunk := (yield Read(opened))) is not None:
                for event in _events(response, decoder, chunk):
                    if event.type == ERROR:
                        yield Close(opened)
                        raise problem_error(event.data)
                    self.last = event.id or self.last
                    yield event
        except httpx.RequestError as cause:
            return failure(self._attempts.url, cause)
        yield Close(opened)
        return ConnectionFailed(self._attempts.url, "the stream ended", sent=True)


def _events(response: httpx.Response, decoder: EventDecoder, chunk: bytes) -> list[GatewayEvent]:
    try:
        return [_event(told) for told in decoder.feed(chunk)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise foreign(response) from error


def _event(told: ServerSentEvent) -> GatewayEvent:
    return GatewayEvent(told.id or None, told.name, json.loads(told.data))
