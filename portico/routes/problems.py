"""Problems: the one table from errors to HTTP statuses, and their form (RFC 9457, `application/problem+json`).

Above: everything that answers HTTP. Below: `errors.py`, whose slugs are the last segments of the problem types.
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from portico.errors import (
    AgentError,
    BodyTooLarge,
    ForeignHost,
    InsufficientScope,
    MethodNotAllowed,
    PorticoError,
    QuotaExceeded,
    Unauthenticated,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from portico.routes.allowances import allowance_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[str, int]] = {
    "bad-request": 400,
    "malformed-address": 400,
    "malformed-body": 400,
    "malformed-header": 400,
    "reserved-type": 400,
    "unauthenticated": 401,
    "insufficient-scope": 403,
    "not-found": 404,
    "agent-not-found": 404,
    "operation-not-found": 404,
    "run-not-found": 404,
    "resource-not-found": 404,
    "prompt-not-found": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "request-timeout": 408,
    "wrong-state": 409,
    "agent-suspended": 409,
    "cancelled": 409,
    "key-in-progress": 409,
    "not-redrivable": 409,
    "not-redeliverable": 409,
    "not-waiting": 409,
    "agent-error": 409,
    "body-too-large": 413,
    "unsupported-encoding": 415,
    "unsupported-media-type": 415,
    "foreign-host": 421,
    "contract-violated": 422,
    "key-missing": 422,
    "key-reused": 422,
    "head-too-large": 431,
    "crash-budget-spent": 429,
    "quota-exceeded": 429,
    "too-many-asks": 429,
    "internal-error": 500,
    "invalid-reply": 500,
    "no-reply": 500,
    "tool-failed": 502,
    "tool-not-found": 500,
    "mcp-tool-failed": 502,
    "mcp-tool-refused": 502,
    "mcp-server-busy": 503,
    "mcp-server-unavailable": 503,
    "model-failed": 502,
    "agent-crashed": 502,
    "start-failed": 502,
    "start-timeout": 502,
    "agent-draining": 503,
    "agent-failed": 503,
    "deadline-unreachable": 503,
    "mailbox-full": 503,
    "too-many-keys": 503,
    "too-many-watchers": 503,
    "draining": 503,
    "overloaded": 503,
    "store-unavailable": 503,
    "auth-unavailable": 503,
    "interrupted": 503,
    "runtime-not-started": 503,
    "runtime-stopped": 503,
    "deadline-exceeded": 504,
    "input-timeout": 504,
    "input-declined": 409,
    "caller-cannot-answer": 409,
}
"""HTTP status by slug; a slug that is not here is a 500."""

_BEARER: Final = 'Bearer realm="portico"'
_NOT_QUOTED: Final = re.compile(r"[^ !#-\[\]-~]")
"""What an `error_description` may not have (RFC 6750 §3)."""

INTERNAL: Final = "Something went wrong inside the gateway. The log has the reason under this request id."


def status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    if isinstance(error, AgentError):
        return error.status if HTTPStatus.BAD_REQUEST <= error.status < 600 else 500  # noqa: PLR2004  # the end of the 5xx
    if isinstance(error, ForeignHost) and error.header == "Origin":
        return 403
    return STATUSES.get(error.slug, 500) if isinstance(error, PorticoError) else 500


def problem(error: BaseException, *, prefix: str = "", request_id: str | None = None, run_id: str | None = None) -> dict[str, Any]:
    """The problem object of an error. `prefix`: where the gateway is mounted. An unexpected error shows nothing of itself."""
    known = isinstance(error, PorticoError)
    slug, title = (error.slug, error.title) if known else (PorticoError.slug, PorticoError.title)
    body: dict[str, Any] = {
        "type": f"{prefix}/problems/{slug}",
        "title": title,
        "status": status_of(error),
        "detail": error.detail if known else INTERNAL,
    }
    if request_id is not None:
        body["request_id"] = request_id
    if run_id is not None:
        body["run_id"] = run_id
    if known:
        body |= {key: value for key, value in error.extra.items() if key not in body}
    return body


def headers_of(error: BaseException) -> dict[str, str]:
    """The headers of an error's response: `Allow`, `Accept`, `Retry-After` (whole seconds, RFC 9110 §10.2.3), and others."""
    headers = {"content-type": MEDIA_TYPE}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allowed)
    if isinstance(error, UnsupportedMediaType):  # RFC 9110 §15.5.16
        headers["accept"] = headers["accept-post"] = ", ".join(error.accepted)
    if isinstance(error, UnsupportedEncoding):
        headers["accept-encoding"] = "identity"
    if isinstance(error, BodyTooLarge):
        headers["connection"] = "close"  # nobody reads the rest
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = _challenge(error)
    if isinstance(error, InsufficientScope):
        headers["www-authenticate"] = f'{_BEARER}, error="insufficient_scope", scope="{" ".join(error.scopes)}"'
    if isinstance(error, QuotaExceeded):
        headers |= {name.decode(): value.decode() for name, value in allowance_headers(error.allowance)}
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    return headers


def _challenge(error: Unauthenticated) -> str:
    """How to authenticate (RFC 6750 §3, RFC 9728 §5.1). Who sent no credential made no error."""
    parts = [_BEARER]
    if error.presented:
        parts += ['error="invalid_token"', f'error_description="{_NOT_QUOTED.sub("?", error.detail)}"']
    if error.metadata is not None:
        parts.append(f'resource_metadata="{error.metadata}"')
    if error.scopes:
        parts.append(f'scope="{" ".join(error.scopes)}"')
    return ", ".join(parts)


def documented(*problems: type[PorticoError] | int) -> dict[int | str, dict[str, Any]]:
    """These problems, in the form in which FastAPI documents responses; a status stands for every problem that has it.

    The OpenAPI document completes them, and has no `x-problems`.
    """
    made: dict[int | str, dict[str, Any]] = {}
    for one in problems:
        status = one if isinstance(one, int) else STATUSES[one.slug]
        about = made.setdefault(status, {"description": HTTPStatus(status).phrase, "x-problems": []})
        about["x-problems"] += [] if isinstance(one, int) else [one.slug]
    return made


def rendered(body: Mapping[str, Any]) -> bytes:
    """A problem object as JSON text; what is not JSON-able in it is printed as text."""
    return to_json(body, inf_nan_mode="null", fallback=str)
