"""Following: a run's events, live, over as many connections as it takes. After a lost one it goes on behind the last event.

Above: the command that prints them. Below: one HTTP client, and Server-Sent Events as `routes/event_stream.py` writes them.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from portico.errors import CallError
from portico.runs.event import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

IDLE: Final = 90.0
"""Seconds of silence after which a connection counts as lost: a server says something every 15 seconds unless told otherwise."""
PATIENCE: Final = 60.0
"""Seconds for which a server may be away."""
PAUSE: Final = 0.5
"""Seconds before the next attempt."""
AWAY: Final = (0, 502, 503, 504)
"""The statuses of a server that is about to stop or not yet there, or of what stands in front of it; 0 where nobody answers."""


class Following:
    """Follows one run."""

    def __init__(
        self, connect: Callable[[int, float], AbstractContextManager[Iterator[dict[str, Any]]]], lost: Callable[[], object]
    ) -> None:
        """`connect` opens a connection to the events after a number, which so many seconds of silence end.

        `lost` is called where a connection was lost, before the next one is tried.
        """
        self._connect = connect
        self._lost = lost
        self._last = 0
        self._met = False
        self._away_since: float | None = None

    def events(self) -> Iterator[dict[str, Any]]:
        """The events until the last one.

        Raises:
            CallError: there is no such run, or its server was away for too long.
        """
        told = False
        while True:
            try:
                with self._connect(self._last, IDLE) as events:
                    self._met, self._away_since = True, None
                    for event in events:
                        told = False
                        self._last = event["seq"] or self._last
                        yield event
                        if event["type"] in TERMINAL and event["seq"] is not None:
                            return
            except httpx.TransportError:
                pass  # it was there before: it may come back
            except CallError as error:
                if error.extra.get("status") not in AWAY:
                    raise
                self._be_patient(error)
            self._away_since = self._away_since or time.monotonic()
            if not told:
                self._lost()
                told = True
            time.sleep(PAUSE)

    def _be_patient(self, error: CallError) -> None:
        """Raises the error where there never was a server, or where there was none for too long."""
        if not self._met:
            raise error
        if self._away_since is not None and time.monotonic() - self._away_since > PATIENCE:
            raise CallError(f"The connection was lost, and no gateway has answered for {PATIENCE:g} s. {error.detail}") from error


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream. Only line feeds end one: `httpx.Response.iter_lines` also splits at U+2028, which JSON may hold."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Server-Sent Events as `seq`, `type`, `at`, `data`; comments are passed over. Raises `ValueError` for what is no JSON."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.decode(errors="replace").partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            about = json.loads(fields["data"])
            if "id" in fields:
                yield {"seq": int(fields["id"]), "type": fields["event"], "at": about.get("at"), "data": about["data"]}
            elif fields.get("event") == "gap":
                yield {"seq": None, "type": "gap", "at": None, "data": about}
            fields = {}
        else:
            fields = {}
