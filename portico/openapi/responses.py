"""Responses: what an operation can answer, as OpenAPI response objects: replies, run references and problems.

Which error has which status is told by the caller (`statuses`); this room has no table of its own.
"""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from portico.errors import ContractViolation, ForeignHost, InsufficientScope, PorticoError, UnknownRun
from portico.openapi.headers import QUOTA, headers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from portico.operations.operation import Operation

Object = dict[str, Any]

PROBLEM_TYPE: Final = "application/problem+json"
OF_ANY_CALL: Final = (400, 401, 404, 406, 409, 421, 422, 429, 500, 503)
"""The statuses that a call of any kind may be answered with, where the gateway has them."""
OF_A_BODY: Final = (413, 415)
"""Those that need a body."""
OF_AN_ASK: Final = (502, 504)
"""Those that need somebody who waits for the reply."""
OF_ANY_REQUEST: Final = (401, 421, 500)
"""Those that need no call: what the guards refuse, and what nobody expected."""
UNAUTHENTICATED: Final = 401
FORBIDDEN: Final = 403
REQUEST_ID: Final = "5a0c3f6e9b1d4c7a"
"""What stands for a request's id in examples."""
RUN_ID: Final = "0b8f3a52d1c94e67"
"""What stands for a run's id."""
EXAMPLE_FAULTS: Final = [{"path": "/text", "message": "Field required", "type": "missing"}]

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
                "title": "Fault",
                "type": "object",
                "required": ["path", "message"],
                "properties": {
                    "path": {"type": "string", "description": "Where: a JSON Pointer (RFC 6901) into the payload."},
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "in": {
                        "type": "string",
                        "enum": ["path", "query", "header", "body"],
                        "description": "Which part of the request.",
                    },
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
STREAMS: Final[Mapping[str, Any]] = {
    "application/jsonl": {
        "schema": {"description": "The run's events until its last, one JSON object on each line."},
        "example": '{"id":1,"event":"run.succeeded","seq":1,"at":"2026-01-31T09:30:00Z","data":{}}\n',
    },
    "text/event-stream": {
        "schema": {"description": "Server-Sent Events: those of the run until its last, each with `id`, `event` and `data`."},
        "example": 'id: 1\nevent: run.succeeded\ndata: {"seq":1,"at":"2026-01-31T09:30:00Z","data":{}}\n\n',
    },
}
"""The media types in which a run can be followed, where the client accepts them. What one event is, OpenAPI 3.1 cannot say."""
LINKS: Final[Mapping[str, str]] = {
    "ReadRun": "read_run",
    "FollowRun": "follow_run",
    "CancelRun": "cancel_run",
    "AnswerRun": "answer_run",
}
"""What can be done with a run, by the name of its link: the operation id."""


class Responses:
    """Makes the responses of every operation of one document."""

    def __init__(self, statuses: Mapping[str, int], *, secured: bool, guarded: bool = False, ids: Collection[str] = ()) -> None:
        """For one document.

        Args:
            statuses: HTTP status by problem slug.
            secured: whether callers must authenticate.
            guarded: whether foreign hosts are refused.
            ids: the operation ids of the gateway's own routes, to which links may lead.
        """
        self.secured = secured
        self.guarded = guarded
        self._classes = {cls.slug: cls for cls in reversed([*_family(PorticoError)])}
        self._statuses = statuses
        self._links = [name for name, operation in LINKS.items() if operation in ids]
        self._slugs: dict[int, list[str]] = {}
        for slug, status in sorted(statuses.items()):
            open_ = slug == InsufficientScope.slug or status == UNAUTHENTICATED
            if slug != UnknownRun.slug and (secured or not open_) and (guarded or slug != ForeignHost.slug):
                self._slugs.setdefault(status, []).append(slug)
        if guarded:  # a foreign Host is misdirected, a foreign Origin is forbidden
            self._slugs.setdefault(FORBIDDEN, []).append(ForeignHost.slug)

    def components(self) -> Object:
        """The problem responses that operations refer to."""
        known = [status for status in sorted({*OF_ANY_CALL, *OF_A_BODY, *OF_AN_ASK, FORBIDDEN}) if status in self._slugs]
        return {_name(status): self.problem(status, self._slugs[status]) for status in known}

    def links(self) -> Object:
        """From a run that was begun to what can be done with it."""
        return {name: {"operationId": LINKS[name], "parameters": {"run_id": "$response.body#/run_id"}} for name in self._links}

    def of_ask(self, operation: Operation, content: Object, *, takes_body: bool, scoped: bool) -> Object:
        """Of an ask: the reply in each of its media types, its events, a run that was asked for instead, problems.

        `takes_body`: its method has one. `scoped`: it demands scopes.
        """
        known = headers("Agent-Attempt", "Agent-Incarnation", "Idempotency-Replayed", *self._quota())
        responses: Object = {}
        if operation.returns_nothing:
            responses["200"] = {
                "description": "The run's events, where they were asked for.",
                "headers": known,
                "content": {**STREAMS},
            }
            responses["204"] = {"description": "Done.", "headers": known}
        else:
            responses["200"] = {"description": "The reply.", "headers": known, "content": {**content, **STREAMS}}
        responses["202"] = self.accepted("Not waited for: `Prefer: respond-async`, or `Prefer: wait` was over first.")
        return responses | self._problems(operation, (*self._of_a_call(takes_body=takes_body, scoped=scoped), *OF_AN_ASK))

    def of_send(self, operation: Operation, *, takes_body: bool, scoped: bool) -> Object:
        """Of a send: a run that goes on by itself, problems of its acceptance. `takes_body`, `scoped`: as of an ask."""
        statuses = self._of_a_call(takes_body=takes_body, scoped=scoped)
        return {"202": self.accepted("Accepted.")} | self._problems(operation, statuses, declared=False)

    def _of_a_call(self, *, takes_body: bool, scoped: bool) -> tuple[int, ...]:
        more = OF_A_BODY if takes_body else ()
        return (*OF_ANY_CALL, *more, FORBIDDEN) if scoped else (*OF_ANY_CALL, *more)

    def of_any_request(self, *, is_open: bool = False) -> Object:
        """The problems that a request of any kind may meet. `is_open`: it needs no authentication."""
        known = [status for status in OF_ANY_REQUEST if status in self._slugs and not (is_open and status == UNAUTHENTICATED)]
        made: Object = {str(status): _reference(status) for status in known}
        return made | self._of_guard()

    def _of_guard(self) -> Object:
        return {str(FORBIDDEN): self.problem(FORBIDDEN, self.of_guards(FORBIDDEN))} if self.guarded else {}

    def known(self, slugs: Iterable[str]) -> list[str]:
        """Those of these problems that this gateway has: without callers nobody lacks a scope."""
        return [slug for slug in slugs if self.secured or slug != InsufficientScope.slug]

    def of_guards(self, status: int) -> list[str]:
        """The problems of a status that any request may meet before anybody looks at what it wants."""
        return [ForeignHost.slug] if self.guarded and status == FORBIDDEN else []

    def accepted(self, description: str) -> Object:
        """A 202 with the reference of a run."""
        links: Object = {"links": {name: {"$ref": f"#/components/links/{name}"} for name in self._links}} if self._links else {}
        return {
            "description": description,
            **links,
            "headers": headers("Idempotency-Replayed", "Location", *self._quota()),
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/RunReference"},
                    "example": {"run_id": RUN_ID, "status": "queued"},
                }
            },
        }

    def problem(self, status: int, slugs: Iterable[str] = ()) -> Object:
        """A problem response, with an example of each problem that it may be; by default every problem of that status."""
        known = list(slugs) or [slug for slug, its in sorted(self._statuses.items()) if its == status]
        about = "; ".join(f"{self._title(slug)} (`{slug}`)" for slug in known) or HTTPStatus(status).phrase
        shown = {slug: {"summary": self._title(slug), "value": self._example(slug, status)} for slug in known}
        content: Object = {"schema": {"$ref": "#/components/schemas/Problem"}}
        if shown:
            content["examples"] = shown
        return {"description": about, "headers": headers(*_of_status(status)), "content": {PROBLEM_TYPE: content}}

    def _title(self, slug: str) -> str:
        return self._classes[slug].title if slug in self._classes else slug.replace("-", " ").capitalize()

    def _example(self, slug: str, status: int) -> Object:
        text = inspect.getdoc(self._classes[slug]) if slug in self._classes else None
        shown: Object = {
            "type": f"/problems/{slug}",
            "title": self._title(slug),
            "status": status,
            "detail": (text or f"{self._title(slug)}.").partition("\n")[0],
            "request_id": REQUEST_ID,
        }
        return {**shown, "errors": EXAMPLE_FAULTS} if slug == ContractViolation.slug else shown

    def _quota(self) -> tuple[str, ...]:
        return QUOTA if HTTPStatus.TOO_MANY_REQUESTS in self._slugs else ()

    def _problems(self, operation: Operation, statuses: tuple[int, ...], *, declared: bool = True) -> Object:
        own: dict[int, list[str]] = {}
        for slug, status in operation.errors.items() if declared else ():
            own.setdefault(status if is_error(status) else 500, []).append(slug)
        common = [status for status in statuses if status in self._slugs and status not in own]
        made: Object = {str(status): _reference(status) for status in common}
        for status, slugs in own.items():
            made[str(status)] = self.problem(status, [*slugs, *(self._slugs.get(status, []) if status in statuses else [])])
        return dict(sorted((self._of_guard() | made).items()))


def is_error(status: int) -> bool:
    """Whether it is a 4xx or 5xx."""
    return HTTPStatus.BAD_REQUEST <= status < 600  # noqa: PLR2004  # the end of the 5xx


def _of_status(status: int) -> tuple[str, ...]:
    """The headers that problems of one status have."""
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return ("WWW-Authenticate",)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ("Retry-After", *QUOTA)
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return ("Retry-After",)
        case _:
            return ()


def _name(status: int) -> str:
    return f"Problem{status}"


def _reference(status: int) -> Object:
    return {"$ref": f"#/components/responses/{_name(status)}"}


def _family(cls: type[PorticoError]) -> Iterator[type[PorticoError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
