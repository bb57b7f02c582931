"""Own paths: what FastAPI says of the gateway's own routes, completed: problems, headers, examples.

A route names the problems that it may answer with under `PROBLEMS` (see `documented` in the routes); what every request may meet
is added here. Pure: mappings in, mappings out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from portico.openapi.examples import NoExampleError, example
from portico.openapi.headers import OF_EVERY_REQUEST, PARAMETERS, headers, parameters
from portico.openapi.responses import STREAMS
from portico.openapi.schemas import without_null

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portico.openapi.responses import Responses

Object = dict[str, Any]

PROBLEMS: Final = "x-problems"
"""The member of a response under which a route lists the slugs that it may answer with; it is not in the document."""
REFERENCE: Final = "#/components/schemas/RunReference"
_KNOWN: Final = {about["name"].lower(): name for name, about in PARAMETERS.items()}
_INVALID: Final = "HTTPValidationError"


def own_paths(base: Mapping[str, Any], schemas: Mapping[str, Any], responses: Responses) -> Iterator[tuple[str, Object]]:
    """Every path of FastAPI's document with its path item. `schemas`: the components that its references lead to."""
    for path, item in base.get("paths", {}).items():
        yield path, {method: _completed(about, schemas, responses) for method, about in item.items()}


def _completed(about: Object, schemas: Mapping[str, Any], responses: Responses) -> Object:
    is_open = about.get("security") == []
    answers = responses.of_any_request(is_open=is_open)
    for status, response in about.get("responses", {}).items():
        slugs: list[str] | None = response.get(PROBLEMS)
        if slugs is not None:
            known = [*responses.known(slugs), *responses.of_guards(int(status))]
            if known or not slugs:
                answers[status] = responses.problem(int(status), known)
        elif _INVALID in str(response):  # FastAPI's own; where nothing can be invalid, there is none
            if _may_be_invalid(about):
                answers[status] = responses.problem(int(status), ["contract-violated"])
        else:
            answers[status] = _response(response, schemas, responses)
    given = [_tried(parameter, schemas) for parameter in about.get("parameters", ())]
    made = {**about, "parameters": [*given, *parameters(*OF_EVERY_REQUEST)]}
    made.setdefault("description", about.get("summary", ""))
    if "requestBody" in about:
        content = about["requestBody"]["content"]
        made["requestBody"] = {**about["requestBody"], "content": {kind: _shown(media, schemas) for kind, media in content.items()}}
    return {**made, "responses": dict(sorted(answers.items()))}


def _response(response: Object, schemas: Mapping[str, Any], responses: Responses) -> Object:
    """A response that is no problem: with its headers, and an example for each media type that has none."""
    content: Mapping[str, Any] = response.get("content", {})
    if any(media.get("schema", {}).get("$ref") == REFERENCE for media in content.values()):
        return responses.accepted(response["description"])
    made = {**response, "headers": {**headers(), **response.get("headers", {})}}
    if content:
        made["content"] = {kind: STREAMS.get(kind) or _shown(media, schemas) for kind, media in content.items()}
    return made


def _tried(parameter: Object, schemas: Mapping[str, Any]) -> Object:
    """A parameter that is never null; with an example where it must be given: what a page fills in, it also sends."""
    known = _KNOWN.get(parameter["name"].lower()) if parameter["in"] == "header" else None
    if known is not None:
        return parameters(known)[0]
    parameter = {**parameter, "schema": without_null(parameter["schema"])}
    return _shown(parameter, schemas) if parameter.get("required") else parameter


def _shown(media: Object, schemas: Mapping[str, Any]) -> Object:
    if "example" in media or "examples" in media or "schema" not in media:
        return media
    try:
        return {**media, "example": example(media["schema"], schemas)}
    except NoExampleError:
        return media


def _may_be_invalid(about: Mapping[str, Any]) -> bool:
    """Whether a parameter or body can break its schema: any text is a text."""
    given = cast("list[Object]", about.get("parameters", []))
    return "requestBody" in about or not all(_takes_any_text(one["schema"]) for one in given)


def _takes_any_text(schema: Mapping[str, Any]) -> bool:
    kinds: list[Mapping[str, Any]] = schema.get("anyOf", [schema])
    return all(_plain(kind) in ({"type": "string"}, {"type": "null"}) for kind in kinds)


def _plain(schema: Mapping[str, Any]) -> Object:
    return {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
