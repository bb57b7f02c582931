"""Headers: what requests and responses have beside their bodies, as OpenAPI components that operations refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

PARAMETERS: Final[Mapping[str, Any]] = {
    "RequestTimeout": {
        "name": "Request-Timeout",
        "in": "header",
        "required": False,
        "description": "Seconds until the deadline; the route's limit caps it.",
        "schema": {"type": "number", "minimum": 0.001, "exclusiveMaximum": 1e9},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": "`respond-async`: answer 202 at once. `wait=20`: answer 202 if it takes longer than 20 seconds (RFC 7240).",
        "schema": {"type": "string"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key never runs twice; kept for 24 hours. Visible ASCII, in quotes or not.",
        "schema": {"type": "string", "pattern": r'^("[!#-~]{1,255}"|[!#-~]{1,255})$'},
    },
    "RequestID": {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "An id of your choice for this request, for the log; one that does not look like an id is replaced.",
        "schema": {"type": "string"},
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "The caller's span (W3C Trace Context); one that is not well formed is ignored.",
        "schema": {"type": "string"},
    },
}
"""Request headers by the name of their component. None has an example: what a page fills in, it also sends."""
OF_EVERY_REQUEST: Final = ("RequestID",)
OF_A_CALL: Final = ("RequestTimeout", "IdempotencyKey", "Traceparent", *OF_EVERY_REQUEST)
OF_A_WAITING_CALL: Final = ("Prefer", *OF_A_CALL)

HEADERS: Final[Mapping[str, Any]] = {
    "Agent-Attempt": {
        "description": "How often the message was delivered before; above 0 the agent crashed on it and was asked again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Agent-Incarnation": {
        "description": "How many lives the agent has had; above 1 it was restarted.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Idempotency-Replayed": {
        "description": "`true`: an earlier request with this key had this outcome.",
        "schema": {"type": "string", "const": "true"},
    },
    "Location": {"description": "Where the run is.", "schema": {"type": "string", "format": "uri-reference"}},
    "RateLimit": {
        "description": "What is left of the caller's quota, where there is one (draft-ietf-httpapi-ratelimit-headers).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "The caller's quota, where there is one.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which to try again, where that may help.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to authenticate (RFC 9110 §11.6.1).", "schema": {"type": "string"}},
    "X-Request-ID": {"description": "The id of this request, which the log has too.", "schema": {"type": "string"}},
}
"""Response headers by name."""
QUOTA: Final = ("RateLimit", "RateLimit-Policy")


def parameters(*names: str) -> list[Object]:
    """References to request headers, by the name of their component."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def headers(*names: str) -> Object:
    """References to response headers; every response has its request's id."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted({*names, "X-Request-ID"})}
