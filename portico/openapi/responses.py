"""Responses: what an operation can answer, as OpenAPI response objects: replies, run references and problems.

Which error has which status is told by the caller (`statuses`); this room has no table of its own.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from portico.errors import PorticoError, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portico.operations.operation import Operation

Object = dict[str, Any]

PROBLEM_TYPE: Final = "application/problem+json"
OF_ANY_CALL: Final = (400, 401, 404, 406, 409, 413, 415, 422, 429, 500, 503)
"""The statuses that a call of any kind may be answered with, where the gateway has them."""
OF_AN_ASK: Final = (502, 504)
"""Those that need somebody who waits for the reply."""
OF_CALLERS: Final = (401, 403)
"""Those that only a gateway answers that knows its callers."""
FORBIDDEN: Final = 403

PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "Why there is no reply (RFC 9457). An agent's declared error may have more members.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "Which problem: resolves to its description."},
        "title": {"type": "string", "description": "The same for every problem of this type."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What happened, to whom, what to do."},
        "run_id": {"type": "string", "description": "The run that ended so, where there is one."},
        "request_id": {"type": "string", "description": "The request; the log has it too."},
        "errors": {
            "type": "array",
            "description": "Every fault of a payload that breaks its contract.",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {
                    "path": {"type": "string", "description": "Where: a JSON Pointer (RFC 6901) into the payload."},
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
    },
    "additionalProperties": True,
}
RUN_REFERENCE_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "RunReference",
    "description": "Enough to find a run again.",
    "type": "object",
    "required": ["run_id", "status"],
    "properties": {"run_id": {"type": "string"}, "status": {"type": "string"}},
}
REPLY_HEADERS: Final[Mapping[str, Any]] = {
    "Agent-Incarnation": {
        "description": "How many lives the agent has had; above 1 it was restarted.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Agent-Attempt": {
        "description": "How often the message was delivered before; above 0 the agent crashed on it and was asked again.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
EVENTS: Final[Mapping[str, Any]] = {
    "schema": {"type": "string", "description": "Server-Sent Events: those of the run until its last."}
}

EVENT_LINES: Final[Mapping[str, Any]] = {
    "schema": {"type": "string", "description": "The same events, one JSON object per line: seq, type, at, data."}
}


class Responses:
    """Makes the responses of every operation of one document."""

    def __init__(self, statuses: Mapping[str, int], *, secured: bool) -> None:
        """`statuses`: HTTP status by problem slug. `secured`: whether callers must authenticate."""
        self.secured = secured
        self._titles = {cls.slug: cls.title for cls in _family(PorticoError)}
        self._slugs: dict[int, list[str]] = {}
        for slug, status in sorted(statuses.items()):
            if slug != UnknownRun.slug and (secured or status not in OF_CALLERS):
                self._slugs.setdefault(status, []).append(slug)

    def components(self) -> Object:
        """The problem responses that operations refer to."""
        known = [status for status in sorted({*OF_ANY_CALL, *OF_AN_ASK, *OF_CALLERS}) if status in self._slugs]
        return {_name(status): self._problem(status, self._slugs[status]) for status in known}

    def of_ask(self, operation: Operation, reply: Object, *, scoped: bool = False) -> Object:
        """Of an ask: the reply, its events, a run that was asked for instead, problems. `scoped`: it demands scopes."""
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in REPLY_HEADERS}
        content: Object = {"text/event-stream": dict(EVENTS), "application/jsonl": dict(EVENT_LINES)}
        responses: Object = {}
        if operation.returns_nothing:
            responses["200"] = {"description": "The run's events, where they were asked for.", "content": content}
            responses["204"] = {"description": "Done.", "headers": headers}
        else:
            content = {"application/json": {"schema": reply}, **content}
            responses["200"] = {"description": "The reply.", "headers": headers, "content": content}
        responses["202"] = accepted("Not waited for: `Prefer: respond-async`, or `Prefer: wait` was over first.")
        return responses | self._problems(operation, (*OF_ANY_CALL, *OF_AN_ASK, *((FORBIDDEN,) if scoped else ())))

    def of_send(self, operation: Operation, *, scoped: bool = False) -> Object:
        """Of a send: a run that goes on by itself, problems of its acceptance. `scoped`: it demands scopes."""
        statuses = (*OF_ANY_CALL, FORBIDDEN) if scoped else OF_ANY_CALL
        return {"202": accepted("Accepted.")} | self._problems(operation, statuses, declared=False)

    def _problems(self, operation: Operation, statuses: tuple[int, ...], *, declared: bool = True) -> Object:
        own: dict[int, list[str]] = {}
        for slug, status in operation.errors.items() if declared else ():
            own.setdefault(status if is_error(status) else 500, []).append(slug)
        common = [status for status in statuses if status in self._slugs and status not in own]
        made: Object = {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in common}
        for status, slugs in own.items():
            made[str(status)] = self._problem(status, [*slugs, *(self._slugs.get(status, []) if status in statuses else [])])
        return dict(sorted(made.items()))

    def _problem(self, status: int, slugs: list[str]) -> Object:
        titles = [self._titles.get(slug, slug.replace("-", " ").capitalize()) for slug in slugs]
        shown: Object = {"type": f"/problems/{slugs[0]}", "title": titles[0], "status": status}
        response: Object = {
            "description": "; ".join(f"{title} (`{slug}`)" for title, slug in zip(titles, slugs, strict=True)),
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": shown}},
        }
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            about = "Seconds after which to try again, where that may help."
            response["headers"] = {"Retry-After": {"description": about, "schema": {"type": "integer", "minimum": 1}}}
        return response


def accepted(description: str) -> Object:
    """A 202 with the reference of a run."""
    return {
        "description": description,
        "headers": {"Location": {"description": "Where the run is.", "schema": {"type": "string", "format": "uri-reference"}}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RunReference"}}},
    }


def is_error(status: int) -> bool:
    """Whether it is a 4xx or 5xx."""
    return HTTPStatus.BAD_REQUEST <= status < 600  # noqa: PLR2004  # the end of the 5xx


def _name(status: int) -> str:
    return f"Problem{status}"


def _family(cls: type[PorticoError]) -> Iterator[type[PorticoError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
