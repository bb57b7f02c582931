"""RemoteRuns: the runs of a running server, over HTTP: those that belong to whom the API key stands for.

Above: the commands of `portico runs`. Below: httpx, and the routes `/runs` and `/dead-letters`. A problem becomes an error with the
same sentence.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import quote

import httpx

from portico.cli.following import Following, lines, parsed
from portico.cli.story import Story
from portico.errors import CallError, ConfigurationError, UnknownRun
from portico.runs.event import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

TIMEOUT: Final = 60.0
"""Seconds for an answer: to cancel a run takes as long as its handler needs to stop."""
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a connection."""
SILENCE: Final = 1.0
"""Seconds without an event after which those of a run that goes on count as all: a stream does not say where its backlog ends."""
LONGEST: Final = 10.0
"""Seconds for which the events of a run that goes on are read: it may never be silent."""
PAGE: Final = 500
"""The most that a server lists at once."""
RECORD: Final = (
    *("run_id", "parent_id", "agent", "operation", "status", "created_at", "due_at", "finished_at", "attempts"),
    *("input", "output", "error", "waiting_for", "metadata", "stored"),
)
"""What a run's record has: an older gateway has less, another server none of it."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class RemoteRuns:
    """Close it, or use it as a context manager."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises `ConfigurationError` for an address that cannot be one."""
        self._url = url.rstrip("/")
        self._keyed = bool(api_key)
        try:
            address = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{url!r} is no address: {error}.") from None
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigurationError(f"{url!r} is no address of a gateway: write http://HOST:PORT.")
        headers: list[tuple[bytes, bytes]] = [(b"accept", b"*/*")]
        if api_key:
            headers.append((b"authorization", b"Bearer " + api_key.encode()))
        # A proxy is for other machines: this one would look for the gateway at itself.
        proxied = address.host not in LOOPBACK
        self._client = httpx.Client(
            base_url=self._url, headers=headers, timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT), trust_env=proxied
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # --- what is read -------------------------------------------------------------------------------------------------

    def page(self, *, limit: int, **conditions: str | None) -> list[dict[str, Any]]:
        """At most `limit` runs, the newest first; `conditions` as the route has them. Raises `CallError`."""
        return self._pages("/runs", "runs", limit, conditions)

    def dead_letters(self, *, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """At most `limit` dead letters, the newest first. Raises `CallError`."""
        return self._pages("/dead-letters", "dead_letters", limit, {"agent": agent})

    def story(self, run_id: str) -> Story:
        """What became of a run so far. Raises `CallError`."""
        record = self.record(run_id)
        children = self.page(limit=PAGE, parent=record["run_id"])
        parent = self._parent(record["parent_id"])
        return Story(record, self._events_so_far(record), parent, children[::-1])

    def record(self, run_id: str) -> dict[str, Any]:
        """A run. Raises `CallError`."""
        return self._ask(RECORD, "GET", _path("runs", run_id))

    def follow(self, run_id: str, lost: Callable[[], object]) -> Iterator[dict[str, Any]]:
        """The events of a run until its end, over as many connections as it takes. Raises `CallError`."""
        return Following(lambda last, idle: self._events(run_id, last, idle), lost).events()

    def _pages(self, path: str, name: str, limit: int, conditions: dict[str, str | None]) -> list[dict[str, Any]]:
        asked = {key: value for key, value in conditions.items() if value is not None}
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            answer = self._ask((name, "next"), "GET", path, params={**asked, "limit": str(min(PAGE, limit - len(found)))})
            found += answer[name]
            if answer["next"] is None:
                break
            asked["before"] = answer["next"]
        return found

    def _parent(self, run_id: str | None) -> dict[str, Any] | None:
        if run_id is None:
            return None
        try:
            return self.record(run_id)
        except CallError:  # it was removed: its child remains
            return None

    def _events_so_far(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        ended = record["finished_at"] is not None
        found: list[dict[str, Any]] = []
        until = time.monotonic() + LONGEST
        try:
            with self._events(record["run_id"], 0, TIMEOUT if ended else SILENCE) as events:
                for event in events:
                    found.append(event)
                    if event["type"] in TERMINAL or (not ended and time.monotonic() > until):
                        break
        except httpx.ReadTimeout:
            pass  # that was all, so far
        return found

    @contextmanager
    def _events(self, run_id: str, after: int, silence: float) -> Generator[Iterator[dict[str, Any]]]:
        """A connection to the events of a run. Raises `CallError` where there is none, `httpx.TransportError` where it is lost."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        timeout = httpx.Timeout(silence, connect=CONNECT_TIMEOUT)
        request = self._client.build_request("GET", _path("runs", run_id, "events"), headers=headers, timeout=timeout)
        response = self._sent(request, stream=True)
        try:
            if not response.is_success:
                response.read()
            self._check(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise self._foreign(response)
            yield self._parsed(response)
        finally:
            response.close()

    def _parsed(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        try:
            yield from parsed(lines(response.iter_bytes()))
        except (ValueError, KeyError, TypeError):
            raise self._foreign(response) from None

    # --- what is done -------------------------------------------------------------------------------------------------

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run. Returns it as it is then. Raises `CallError`."""
        return self._ask(RECORD, "POST", _path("runs", run_id, "cancel"))

    def answer(self, run_id: str, text: bytes) -> dict[str, Any]:
        """Give a run the input that it waits for: JSON text. Returns the run. Raises `CallError`."""
        headers = {"content-type": "application/json"}
        return self._ask(RECORD, "POST", _path("runs", run_id, "input"), content=text, headers=headers)

    def redrive(self, letter_id: str) -> dict[str, Any]:
        """Send a dead letter again. Returns where to find the new run. Raises `CallError`."""
        return self._ask(("run_id",), "POST", _path("dead-letters", letter_id, "redrive"))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _ask(self, members: Iterable[str], method: str, path: str, **about: Any) -> dict[str, Any]:
        """The answer. Raises `CallError`, also for one without these members."""
        response = self._sent(self._client.build_request(method, path, **about))
        self._check(response)
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            raise self._foreign(response) from None
        if not isinstance(answer, dict) or not {*members} <= {*cast("dict[str, Any]", answer)}:
            raise self._foreign(response)
        return cast("dict[str, Any]", answer)

    def _sent(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The response. Raises `CallError`, with status 0, where there is none."""
        try:
            return self._client.send(request, stream=stream)
        except httpx.TimeoutException:
            raise CallError(f"{self._url} did not answer in time.", status=0) from None
        except httpx.ConnectError as error:
            reason = f"No gateway answers at {self._url} ({error})."
            raise CallError(f"{reason} Start one with `portico serve`, or name its address with --url.", status=0) from None
        except httpx.LocalProtocolError:  # its message would show the key
            raise ConfigurationError("The API key in PORTICO_API_KEY cannot stand in a header.") from None
        except httpx.TransportError as error:
            raise CallError(f"{self._url} ended the connection without an answer ({error}).", status=0) from None

    def _check(self, response: httpx.Response) -> None:
        """Raises `CallError` with the sentence of a problem."""
        if response.is_success:
            return
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            wrong = "does not know the API key in PORTICO_API_KEY" if self._keyed else "needs an API key: set PORTICO_API_KEY to it"
            raise CallError(f"The gateway at {self._url} {wrong}.", status=response.status_code)
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            try:
                detail = str(json.loads(response.content)["detail"])
            except (ValueError, KeyError, TypeError):
                raise self._foreign(response) from None
            raise CallError(detail, status=response.status_code)
        raise self._foreign(response)

    def _foreign(self, response: httpx.Response) -> CallError:
        answered = f"{response.status_code} {response.reason_phrase}".rstrip()
        return CallError(
            f"{self._url} answered {answered}, and not as a gateway of this version of Portico does: look at --url.",
            status=response.status_code,
        )


def _path(kind: str, name: str, *rest: str) -> str:
    """Raises `UnknownRun` for an id that cannot stand in a path."""
    if not name.strip("."):
        raise UnknownRun(name)
    return "/".join(["", kind, quote(name, safe=""), *rest])
