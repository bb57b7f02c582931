"""Answers: a response's bytes become a reply, a record, or an error. The one place that reads what a gateway says."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httpx

import portico.errors as family
from portico.client import errors
from portico.client.records import RunReference
from portico.retry_after import retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import TypeAdapter

    from portico.client.plan import T

BY_SLUG: Final[Mapping[str, type[errors.PorticoAPIError]]] = {
    "agent-crashed": errors.AgentCrashed,
    "cancelled": errors.RunCancelled,
    "input-timeout": errors.DeadlineExceeded,
    "interrupted": errors.Interrupted,
    "key-reused": errors.Conflict,
}
"""Where the slug says more than the status does."""
BY_STATUS: Final[Mapping[int, type[errors.PorticoAPIError]]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.ContractViolated,
    429: errors.RateLimited,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}
"""Any other 4xx is a `BadRequest`, any other 5xx a `ServerError`."""
KNOWN: Final = ("type", "title", "status", "detail", "run_id", "request_id", "retry_after")
PROBLEM: Final = "application/problem+json"


# --- errors -----------------------------------------------------------------------------------------------------------


def failure(url: str, error: httpx.RequestError) -> errors.ClientError:
    """What became of a request that has no response."""
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return errors.TimedOut(url, str(error), sent=False)
        case httpx.TimeoutException():
            return errors.TimedOut(url, str(error), sent=True)
        case httpx.ConnectError() | httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | httpx.ProxyError():
            return errors.ConnectionFailed(url, str(error), sent=False)
        case httpx.TransportError():
            return errors.ConnectionFailed(url, str(error), sent=True)
        case _:  # it was compressed in a way that it does not say, or redirects in a circle
            return errors.InvalidResponse(url, f"cannot be read: {error}")


def problem(url: str, response: httpx.Response, body: bytes) -> errors.ClientError:
    """The error of a response that is no success."""
    headers, status = response.headers, response.status_code
    about = _json_or_none(body) if headers.get("content-type", "").partition(";")[0].strip() == PROBLEM else None
    if isinstance(about, dict):
        return problem_error(
            cast("dict[str, Any]", about),
            status=status,
            wait=retry_after(headers.get("retry-after")),
            replayed=headers.get("idempotency-replayed") == "true",
        )
    if status < HTTPStatus.BAD_REQUEST:
        return errors.InvalidResponse(url, f"is {phrase(status)}, and not what a gateway says there.", status=status)
    return _class_of("", status)(
        f"{url} answered {phrase(status)}, and not as a gateway does: perhaps a proxy did.",
        status=status,
        title=phrase(status),
        request_id=headers.get("x-request-id"),
        retry_after=retry_after(headers.get("retry-after")),
    )


def problem_error(
    about: Mapping[str, Any], *, status: int | None = None, wait: float | None = None, replayed: bool = False
) -> errors.PorticoAPIError:
    """The error that a problem object tells of."""
    slug = str(about.get("type", "")).rpartition("/")[2]
    told = about.get("status")
    status = status if status is not None else told if isinstance(told, int) else 500
    return _class_of(slug, status)(
        str(about.get("detail") or about.get("title") or slug),
        status=status,
        slug=slug,
        title=str(about.get("title", "")),
        run_id=about.get("run_id"),
        request_id=about.get("request_id"),
        retry_after=wait,
        replayed=replayed,
        extra={key: value for key, value in about.items() if key not in KNOWN},
    )


def _class_of(slug: str, status: int) -> type[errors.PorticoAPIError]:
    if slug and slug not in own_slugs():
        return errors.AgentError
    rest = errors.BadRequest if status < HTTPStatus.INTERNAL_SERVER_ERROR else errors.ServerError
    return BY_SLUG.get(slug) or BY_STATUS.get(status, rest)


@cache
def own_slugs() -> frozenset[str]:
    """The slugs of Portico's own errors. Any other is an agent's; so is `agent-error`, which stands for those."""
    kinds = (kind for kind in vars(family).values() if isinstance(kind, type) and issubclass(kind, family.PorticoError))
    return frozenset(kind.slug for kind in kinds) - {family.AgentError.slug}


# --- replies ----------------------------------------------------------------------------------------------------------


def reply(response: httpx.Response, kind: Any) -> Any:
    """The reply that a response brings, as `kind` where that is given: JSON data, text, or bytes; None for no content."""
    if response.status_code == HTTPStatus.NO_CONTENT or response.request.method == "HEAD":
        return None if kind is None else fitted(response, kind, lambda adapter: adapter.validate_python(None))
    body, media_type = response.content, response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind is bytes:
        return body
    if media_type == "application/json" or media_type.endswith("+json"):
        return decoded(response) if kind is None else fitted(response, kind, lambda adapter: adapter.validate_json(body))
    plain = response.text if media_type.startswith("text/") else body
    return plain if kind is None else fitted(response, kind, lambda adapter: adapter.validate_python(plain))


def output(response: httpx.Response, data: Any, kind: Any) -> Any:
    """The reply that the last event of a run brings."""
    found = data.get("output") if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if kind is None else fitted(response, kind, lambda adapter: adapter.validate_json(json.dumps(found)))  # pyright: ignore[reportUnknownVariableType]


def fitted(response: httpx.Response, kind: Any, validate: Callable[[TypeAdapter[Any]], Any]) -> Any:
    """A reply as `kind`. Raises `InvalidResponse`."""
    from pydantic import ValidationError  # noqa: PLC0415  # only who asks for types pays for them

    try:
        return validate(_adapter(kind))
    except ValidationError as error:
        faults = [
            {"path": "".join(f"/{part}" for part in fault["loc"]), "message": fault["msg"], "type": fault["type"]}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        first = faults[0]
        where = f" at {first['path']}" if first["path"] else ""
        name = getattr(kind, "__name__", str(kind))
        raise errors.InvalidResponse(
            str(response.url), f"is not a {name}{where}: {first['message']}", status=response.status_code, faults=faults
        ) from None


def decoded(response: httpx.Response) -> Any:
    """The JSON of a response. Raises `InvalidResponse`."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise foreign(response) from error


def read(response: httpx.Response, reader: Callable[[Any], T]) -> T:
    """A record out of a response. Raises `InvalidResponse` where it has not what a gateway says."""
    data = decoded(response)
    try:
        return reader(data)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise foreign(response) from error


def reference(response: httpx.Response) -> RunReference:
    """Where to find the run that a request has started. Raises `InvalidResponse`."""
    replayed = response.headers.get("idempotency-replayed") == "true"
    return read(response, lambda data: RunReference(str(data["run_id"]), str(data["status"]), replayed))


def run_at(response: httpx.Response) -> str:
    """The run that a stream tells of. Raises `InvalidResponse`."""
    run_id = unquote(response.headers.get("location", "").rpartition("/")[2])
    if not run_id:
        raise foreign(response)
    return run_id


def foreign(response: httpx.Response) -> errors.InvalidResponse:
    """The error for an answer that no gateway gives."""
    said = phrase(response.status_code)
    return errors.InvalidResponse(
        str(response.url), f"({said}) is not what a gateway says there: look at base_url.", status=response.status_code
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415  # only who asks for types pays for them

    return TypeAdapter(kind)


def _json_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def phrase(status: int) -> str:
    """A status with its words."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def page(response: httpx.Response, name: str, reader: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """The records of one page, and where the next begins. Raises `InvalidResponse`."""
    return read(response, lambda data: ([reader(one) for one in data[name]], data["next"]))
