"""Following: the events of one run, over as many connections as it takes. After a lost one it goes on behind the last event.

Above: the event streams of both clients. Below: attempts, and Server-Sent Events as `routes/event_stream.py` writes them.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, cast

import httpx

from portico.client.answers import failure, foreign, output, problem_error, run_at
from portico.client.errors import ConnectionFailed, StillRunning
from portico.client.plan import Close, Outgoing, Pause, Read, T, path_of
from portico.client.records import GAP, SUCCEEDED, Event
from portico.client.retries import backoff
from portico.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from portico.client.attempts import Attempts
    from portico.client.errors import ClientError
    from portico.client.plan import Opened, Step, Telling
    from portico.sse import ServerSentEvent

SILENCE: Final = 90.0
"""Seconds of silence after which a connection counts as lost: a gateway says something every 15 seconds unless told otherwise."""
EVENT_STREAM: Final = "text/event-stream"
LIVED: Final = 5.0
"""Seconds after which a connection that brought no event was one all the same: some proxy ends what is idle."""


class Following(Generic[T]):
    """Follows one run. What it knows of it so far can be read at any time."""

    def __init__(
        self,
        attempts: Attempts,
        first: Outgoing,
        *,
        patience: float,
        run_id: str | None = None,
        last: int = 0,
        kind: Any = None,
        resumes: bool = True,
        raises: bool = True,
        silence: float = SILENCE,
        lost: Callable[[], object] | None = None,
    ) -> None:
        """`first` opens the stream; `patience`: seconds for which the gateway may be away, or break each connection at once.

        `resumes`: whether it goes on after a lost connection. `raises`: whether the end of a run that failed is an error to
        whoever only reads its events, too.
        `lost` is called where a connection was lost, before the next one is tried.
        """
        self.run_id = run_id
        self.last = last
        self.ended = False
        self.reply: T | None = None
        self.error: ClientError | None = None
        self._attempts = attempts
        self._first = first
        self._patience = patience
        self._kind = kind
        self._resumes = resumes
        self._raises = raises
        self._silence = silence
        self._lost = lost
        self._told = False

    def events(self) -> Telling[Event]:
        """The events until the last one. Raises `ClientError`."""
        opened = yield from self._attempts.opened(self._first, silence=self._silence)
        lost_since: float | None = None
        losses = 0
        while True:
            begun, before = time.monotonic(), self.last
            broken = yield from self._one_connection(opened)
            if broken is None:
                return
            now = time.monotonic()
            if self.last > before or now - begun > LIVED:
                lost_since, losses = None, 0
            lost_since = now if lost_since is None else lost_since
            if not self._resumes or now - lost_since > self._patience:
                raise broken
            self._tell_of_the_loss()
            yield Pause(backoff(losses))
            losses += 1
            opened = yield from self._attempts.opened(self._next(), patient=True, silence=self._silence)

    def result(self) -> T:
        """The reply of a run that has ended. Raises `ClientError` where there is none, also where its stream was left before."""
        if self.error is not None:
            raise self.error
        if not self.ended:
            raise StillRunning(self.run_id or "", "not read to its end")
        return cast("T", self.reply)

    def _tell_of_the_loss(self) -> None:
        if not self._told and self._lost is not None:
            self._lost()
        self._told = True

    def _next(self) -> Outgoing:
        """The request for what comes after the last event."""
        assert self.run_id is not None  # noqa: S101  # a connection was open: it has told
        return following(self.run_id, self.last, self._patience)

    # --- one connection -----------------------------------------------------------------------------------------------

    def _one_connection(self, opened: Opened) -> Generator[Step | Event, Any, ClientError | None]:
        """Its events. Returns what ended it; None where that was the end of the run."""
        response, decoder = opened.response, EventDecoder()
        if response.headers.get("content-type", "").partition(";")[0].strip() != EVENT_STREAM:
            raise foreign(response)
        if self.run_id is None:
            self.run_id = run_at(response)
        try:
            while (chunk := (yield Read(opened))) is not None:
                for event in _events(response, decoder, chunk):
                    self._told = False
                    self.last = event.seq or self.last
                    yield event
                    if event.is_last:
                        yield Close(opened)
                        self._end(response, event)
                        return None
        except httpx.RequestError as cause:
            return failure(self._attempts.url, cause)
        yield Close(opened)
        return ConnectionFailed(self._attempts.url, "the stream ended before its run did", sent=True)

    def _end(self, response: httpx.Response, event: Event) -> None:
        """The run has ended. Raises what it ended with."""
        self.ended = True
        if event.type == SUCCEEDED:
            self.reply = output(response, event.data, self._kind)
            return
        self.error = problem_error(event.data)
        if self._raises:
            raise self.error


def following(run_id: str, last: int, seconds: float) -> Outgoing:
    """The request for the events of a run after a number."""
    headers = {"accept": EVENT_STREAM, "last-event-id": str(last)}
    return Outgoing("GET", path_of("runs", run_id, "events"), seconds, idempotent=True, headers=headers)


def _events(response: httpx.Response, decoder: EventDecoder, chunk: bytes) -> list[Event]:
    try:
        return [event for told in decoder.feed(chunk) if (event := _event(told)) is not None]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise foreign(response) from error


def _event(told: ServerSentEvent) -> Event | None:
    """An event of the run, or a gap; None for what is about the connection alone."""
    if told.id is None:
        return Event(None, GAP, json.loads(told.data)) if told.name == GAP else None
    about = json.loads(told.data)
    at = about.get("at")
    return Event(int(told.id), told.name, about["data"], datetime.fromisoformat(at) if at is not None else None)
