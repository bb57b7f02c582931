"""Calls: every request that the client makes, as a plan. What is asked for, whether twice is once, and what comes of it.

Above: `Client` and `AsyncClient`, which have the same names and carry the plans out. Below: attempts, answers and following.
"""

from __future__ import annotations

import math
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx
from pydantic_core import to_json

from portico.client import answers
from portico.client.attempts import Attempts, merged
from portico.client.errors import StillRunning
from portico.client.following import EVENT_STREAM, Following, following
from portico.client.plan import Outgoing, Pause, path_of
from portico.client.records import DeadLetter, Run, UsageReport
from portico.client.watching import Watching
from portico.errors import ConfigurationError, InvalidPayload
from portico.loopback import is_loopback
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from portico.client.plan import Plan, Send, T, Telling
    from portico.client.records import RunReference

URL: Final = "http://127.0.0.1:8080"
"""Where `portico serve` listens unless told otherwise."""
CONNECT: Final = 5.0
"""Seconds for a connection."""
PAGE: Final = 100
"""How many records are read at once."""
LONGEST_WAIT: Final = 60.0
"""Seconds for which one request waits for a run's end; proxies end longer ones."""
BREATH: Final = 0.25
"""Seconds between two looks at a run where the gateway does not wait: it is about to stop."""
JSON: Final = {"content-type": "application/json"}


class Calls:
    """The calls to one gateway."""

    def __init__(
        self, base_url: str, api_key: str | None, timeout: float | None, retries: int, headers: Mapping[str, str] | None
    ) -> None:
        """Raises `ConfigurationError` for an address or a key that cannot be one."""
        self.url = base_url.rstrip("/")
        self.host = _host(base_url)
        self.timeout = math.inf if timeout is None else timeout
        own = {"user-agent": f"portico/{__version__}", "accept": "*/*"}
        if api_key:
            own["authorization"] = f"Bearer {_checked(api_key)}"
        self._attempts = Attempts(self.url, merged(own, headers), retries)

    @property
    def trusts_environment(self) -> bool:
        """Whether proxies of the environment are asked. One is for other machines: this one it would look for at itself."""
        return not is_loopback(self.host)

    def built(self, http: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Request:
        """A request as a client of httpx sends it."""
        about, connect = step.request, CONNECT if step.silence is None else min(CONNECT, step.silence)
        return http.build_request(
            about.method,
            self.url + about.path,
            params=about.query,
            headers=[(name.encode(), value.encode()) for name, value in step.headers.items()],
            content=about.content,
            timeout=httpx.Timeout(step.silence, connect=connect),
        )

    # --- agents -------------------------------------------------------------------------------------------------------

    def ask(
        self,
        agent: str,
        payload: Any,
        *,
        operation: str | None,
        response: Any,
        timeout: float | None,
        idempotency_key: str | bool | None,
        wait: float | None,
    ) -> Plan[Any]:
        """Ask, and read the reply."""
        seconds = self._seconds(timeout)
        headers = {**_keyed(idempotency_key), **_content_type(payload)}
        if wait is not None:
            headers["prefer"] = f"wait={wait:g}"
            headers |= _request_timeout(timeout)
            seconds = self.timeout + wait
        request = Outgoing(
            "POST",
            _agent(agent, operation),
            seconds,
            idempotent="idempotency-key" in headers,
            headers=headers,
            content=_content(payload, agent),
            announced=wait is None,
        )
        answered = yield from self._attempts.answered(request)
        if wait is not None and answered.status_code == HTTPStatus.ACCEPTED:
            reference = answers.reference(answered)
            raise StillRunning(reference.run_id, reference.status)
        return answers.reply(answered, response)

    def send(
        self, agent: str, payload: Any, *, operation: str | None, timeout: float | None, idempotency_key: str | None
    ) -> Plan[RunReference]:
        """Send, and wait for nothing but that it is stored."""
        return self._accepted(f"{_agent(agent, operation)}/cast", payload, agent, idempotency_key, _request_timeout(timeout))

    def stream(
        self,
        agent: str,
        payload: Any,
        *,
        operation: str | None,
        response: Any,
        timeout: float | None,
        idempotency_key: str | bool,
    ) -> Following[Any]:
        """Ask, and follow what happens until the reply."""
        headers = {"accept": EVENT_STREAM, **_keyed(idempotency_key), **_content_type(payload), **_request_timeout(timeout)}
        keyed = "idempotency-key" in headers
        content = _content(payload, agent)
        request = Outgoing("POST", _agent(agent, operation), self.timeout, idempotent=keyed, headers=headers, content=content)
        return Following(self._attempts, request, patience=self.timeout, kind=response, resumes=keyed)

    def agents(self) -> Plan[dict[str, Any]]:
        """The tree."""
        return self._read("GET", "/agents", dict)

    def agent(self, name: str) -> Plan[dict[str, Any]]:
        """One agent."""
        return self._read("GET", path_of("agents", name), dict)

    def act(self, name: str, action: str, reason: str) -> Plan[dict[str, Any]]:
        """Suspend, resume, drain or restart: twice is once, but for a restart."""
        content = _dumped({"reason": reason}, name) if reason else None
        return self._read("POST", path_of("agents", name, action), dict, content=content, idempotent=action != "restart")

    def watch(self, topics: Sequence[str] | None, last: str | None, *, resume: bool, silence: float) -> Watching:
        """What happens in the gateway."""
        return Watching(self._attempts, topics, last, self.timeout, resume=resume, silence=silence)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any,
        content: bytes | None,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        response: Any,
        timeout: float | None,
        idempotency_key: str | bool | None,
    ) -> Plan[Any]:
        """Any route of the gateway."""
        own = {**_keyed(idempotency_key), **_content_type(json), **_request_timeout(timeout)}
        method = method.upper()
        request = Outgoing(
            method,
            path if path.startswith("/") else f"/{path}",
            self._seconds(timeout),
            idempotent=method in ("GET", "HEAD") or "idempotency-key" in own,
            headers=merged(own, headers),
            query=query,
            content=content if content is not None else _content(json, path),
        )
        answered = yield from self._attempts.answered(request)
        return answers.reply(answered, response)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start(
        self,
        agent: str,
        payload: Any,
        *,
        operation: str | None,
        run_id: str | None,
        delay: float | datetime | None,
        metadata: Mapping[str, Any] | None,
        callback_url: str | None,
        idempotency_key: str | None,
    ) -> Plan[RunReference]:
        """Start a run."""
        body: dict[str, Any] = {"agent": agent, "operation": operation, "run_id": run_id, "metadata": metadata}
        body["callback_url"] = callback_url
        if payload is not None:
            body["payload"] = payload
        if delay is not None:
            body["delay" if isinstance(delay, int | float) else "delay_until"] = delay
        said = {name: value for name, value in body.items() if value is not None}
        return self._accepted("/runs", said, agent, idempotency_key, {})

    def run(self, run_id: str, wait: float, *, summary: bool) -> Plan[Run]:
        """A run's record."""
        query = {"wait": f"{wait:g}"} if wait else {}
        if summary:
            query["summary"] = "true"
        return self._read("GET", path_of("runs", run_id), Run.read, query=query, seconds=self.timeout + wait)

    def wait(self, run_id: str, timeout: float | None) -> Plan[Run]:
        """A run's record at its end. A gateway that is away for a while is waited for, too."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            begun = time.monotonic()
            wait = max(0.0, min(LONGEST_WAIT, until - begun))
            query = {"wait": f"{wait:.3f}"}
            request = Outgoing("GET", path_of("runs", run_id), self.timeout + wait, idempotent=True, query=query)
            answered = yield from self._attempts.answered(request, patient=True)
            run = answers.read(answered, Run.read)
            if run.ended:
                return run
            if time.monotonic() >= until:
                raise StillRunning(run.run_id, run.status)
            if time.monotonic() - begun < BREATH:
                yield Pause(BREATH)

    def list_runs(
        self, *, everyone: bool, id_prefix: str | None, limit: int | None, page: int, **conditions: str | None
    ) -> Telling[Run]:
        """Runs, the newest first."""
        conditions |= {"id": id_prefix, "everyone": "true" if everyone else None}
        return self._pages("/runs", "runs", Run.read, limit, page, conditions)

    def cancel(self, run_id: str) -> Plan[Run]:
        """Cancel a run."""
        return self._read("POST", path_of("runs", run_id, "cancel"), Run.read, idempotent=True)

    def redeliver(self, run_id: str) -> Plan[RunReference]:
        """Tell of a run's end again."""
        path = path_of("runs", run_id, "callback", "redeliver")
        request = Outgoing("POST", path, self.timeout, idempotent=True)
        return answers.reference((yield from self._attempts.answered(request)))

    def input(self, run_id: str, value: Any) -> Plan[Run]:
        """Answer a run."""
        return self._read("POST", path_of("runs", run_id, "input"), Run.read, content=_dumped(value, run_id))

    def events(
        self, run_id: str, after: int, *, resume: bool, silence: float, on_lost: Callable[[], object] | None
    ) -> Following[Any]:
        """Follow a run."""
        return Following(
            self._attempts,
            following(run_id, after, self.timeout),
            patience=self.timeout,
            run_id=run_id,
            last=after,
            resumes=resume,
            raises=False,
            silence=silence,
            lost=on_lost,
        )

    # --- usage --------------------------------------------------------------------------------------------------------

    def usage(self, by: Sequence[str], limit: int | None, conditions: Mapping[str, str | None]) -> Plan[UsageReport]:
        """What models took."""
        query = {"by": ",".join(by) or None, "limit": limit, **conditions}
        return self._read(
            "GET", "/usage", UsageReport.read, query={key: value for key, value in query.items() if value is not None}
        )

    # --- dead letters -------------------------------------------------------------------------------------------------

    def dead_letters(self, *, agent: str | None, limit: int | None, page: int) -> Telling[DeadLetter]:
        """Dead letters, the newest first."""
        return self._pages("/dead-letters", "dead_letters", DeadLetter.read, limit, page, {"agent": agent})

    def redrive(self, letter_id: str) -> Plan[RunReference]:
        """Send one again."""
        request = Outgoing("POST", path_of("dead-letters", letter_id, "redrive"), self.timeout, idempotent=False)
        return answers.reference((yield from self._attempts.answered(request)))

    # --- the audit trail ----------------------------------------------------------------------------------------------

    def audit(
        self, *, after: int | None, limit: int | None, page: int, conditions: Mapping[str, str | None]
    ) -> Telling[dict[str, Any]]:
        """Entries: from `after` on the oldest first, else the newest first."""
        query: dict[str, Any] = {key: value for key, value in conditions.items() if value is not None}
        place, left = "before" if after is None else "after", math.inf if limit is None else limit
        if after is not None:
            query[place] = after
        while left > 0:
            query["limit"] = int(min(page, left))
            request = Outgoing("GET", "/audit", self.timeout, idempotent=True, query=dict(query))
            answered = yield from self._attempts.answered(request)
            found, query[place] = answers.page(answered, "entries", dict[str, Any])
            yield from found
            left -= len(found)
            if query[place] is None:
                return

    # --- inside -------------------------------------------------------------------------------------------------------

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def _accepted(self, path: str, payload: Any, agent: str, key: str | None, more: Mapping[str, str]) -> Plan[RunReference]:
        """A call that is stored, and so has a key in any case: it is safe to make it again."""
        headers = {**_keyed(key or True), **_content_type(payload), **more}
        content = _content(payload, agent)
        request = Outgoing("POST", path, self.timeout, idempotent=True, headers=headers, content=content)
        return answers.reference((yield from self._attempts.answered(request)))

    def _read(
        self,
        method: str,
        path: str,
        reader: Callable[[Any], T],
        *,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        seconds: float | None = None,
        idempotent: bool | None = None,
    ) -> Plan[T]:
        twice = method == "GET" if idempotent is None else idempotent
        headers = JSON if content is not None else {}
        request = Outgoing(method, path, seconds or self.timeout, idempotent=twice, headers=headers, query=query, content=content)
        return answers.read((yield from self._attempts.answered(request)), reader)

    def _pages(
        self, path: str, name: str, reader: Callable[[Any], T], limit: int | None, page: int, conditions: Mapping[str, str | None]
    ) -> Telling[T]:
        query: dict[str, Any] = {key: value for key, value in conditions.items() if value is not None}
        left = math.inf if limit is None else limit
        while left > 0:
            query["limit"] = int(min(page, left))
            request = Outgoing("GET", path, self.timeout, idempotent=True, query=dict(query))
            answered = yield from self._attempts.answered(request)
            found, query["before"] = answers.page(answered, name, reader)
            yield from found
            left -= len(found)
            if query["before"] is None:
                return


def _host(base_url: str) -> str:
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{base_url!r} is no address: {error}.") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigurationError(f"{base_url!r} is no address of a gateway: write http://HOST:PORT.")
    return address.host


def _checked(api_key: str) -> str:
    """The key. Checked here, for what refuses it later would show it."""
    if not api_key.isprintable() or " " in api_key:
        raise ConfigurationError("The API key cannot stand in a header: it has blanks or characters that cannot be seen.")
    return api_key


def _agent(name: str, operation: str | None) -> str:
    return path_of("agents", name) if operation is None else path_of("agents", name, operation)


def _keyed(key: str | bool | None) -> dict[str, str]:  # noqa: FBT001  # as in the public names
    """The header with an idempotency key; True makes one."""
    if not key:
        return {}
    return {"idempotency-key": secrets.token_hex(16) if key is True else key}


def _request_timeout(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"request-timeout": f"{seconds:.3f}"}


def _content_type(payload: Any) -> Mapping[str, str]:
    return {} if payload is None else JSON


def _content(payload: Any, recipient: str) -> bytes | None:
    return None if payload is None else _dumped(payload, recipient)


def _dumped(payload: Any, recipient: str) -> bytes:
    """The payload as JSON: plain data, dataclasses, pydantic's models, times. Raises `InvalidPayload`."""
    try:
        return to_json(payload, inf_nan_mode="constants")
    except ValueError as error:
        raise InvalidPayload(recipient, str(error)) from error
