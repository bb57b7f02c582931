"""Request: how the payload of an operation is spread over path, query and body of one route, as OpenAPI objects.

Path parameters that the contract names come out of the body. Methods without a body take the other members from the query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import ContractViolation
from portico.openapi.examples import NoExampleError, example
from portico.openapi.schemas import definitions_of, resolved, without_definitions, without_null
from portico.operations.members import BINARY, JSON, Members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.openapi.schemas import Schemas
    from portico.operations.catalogue import Endpoint
    from portico.operations.operation import Operation, RouteSpec

Object = dict[str, Any]

BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
ANY_EXAMPLE: Final = {"text": "hello"}
"""What an agent without a contract is tried out with."""
FILE: Final[Mapping[str, Any]] = {"type": "string", "format": "binary", "contentMediaType": BINARY}
"""Bytes as they are; `format` is for tools that know OpenAPI 3.0 only."""
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::path)?\}")


@dataclass(slots=True)
class Request:
    """One route's request."""

    parameters: list[Object] = field(default_factory=list[Object])
    """Path and query parameters."""
    body: Object | None = None
    """The request body object; None where there is none."""


def plain_path(template: str) -> str:
    """A path template as OpenAPI has it: `{rest:path}` becomes `{rest}`."""
    return _PARAMETER.sub(r"{\1}", template)


def request_of(spec: RouteSpec, endpoint: Endpoint, schemas: Schemas) -> Request:
    """The request of a route."""
    operation = endpoint.operation
    schema = operation.request_schema
    definitions = definitions_of(schema)
    members: Mapping[str, Any] = resolved(without_definitions(schema), definitions)
    properties: Mapping[str, Any] = members.get("properties", {})
    required: list[str] = members.get("required", [])
    shown = request_example(operation)
    in_path = _PARAMETER.findall(spec.path)
    takes_body = spec.method in BODY_METHODS

    def parameter(name: str, where: str) -> Object:
        about = schemas.put({**without_null(properties.get(name, {"type": "string"})), "$defs": definitions}, endpoint.agent)
        made: Object = {"name": name, "in": where, "required": where == "path" or name in required, "schema": about}
        description = about.pop("description", None)
        if description:
            made["description"] = description
        if isinstance(shown, dict) and name in shown:
            made["example"] = cast("Object", shown)[name]
        return made

    request = Request([parameter(name, "path") for name in in_path])
    taken = [name for name in in_path if name in properties]
    if not takes_body:
        request.parameters += [parameter(name, "query") for name in properties if name not in taken]
    elif not (taken and len(taken) == len(properties)):
        request.body = _body(schema, members, taken, shown, schemas, endpoint)
    return request


def _body(
    schema: Mapping[str, Any], members: Mapping[str, Any], taken: list[str], shown: Any, schemas: Schemas, endpoint: Endpoint
) -> Object:
    """The body's object, without the members that were `taken` into the path."""
    if taken:
        rest: Object = {**members, "$defs": definitions_of(schema)}
        rest["properties"] = {name: about for name, about in members["properties"].items() if name not in taken}
        rest["required"] = [name for name in members.get("required", []) if name not in taken]
        if not rest["required"]:
            del rest["required"]
        content: Object = {"schema": schemas.put(rest, endpoint.agent)}
        if isinstance(shown, dict):
            shown = {name: value for name, value in cast("Object", shown).items() if name not in taken}
    else:
        rest = {**members, "$defs": definitions_of(schema)}
        content = {"schema": schemas.put(schema, endpoint.agent, title_of(schema, endpoint))}
    if shown is not None:
        content["example"] = shown
    needed = bool(schema) and (bool(rest.get("required")) or rest.get("type") != "object")
    return {"required": needed, "content": {JSON: content, **_other_forms(Members(schema), rest, content, schemas, endpoint)}}


def _other_forms(takes: Members, rest: Object, content: Object, schemas: Schemas, endpoint: Endpoint) -> Object:
    """The same request in its other media types: what forms send, and bytes as they are."""
    forms: Object = {}
    for media_type in takes.media_types[1:]:
        if media_type == BINARY:
            if takes.whole or set(rest.get("required", ())) <= {takes.direct}:  # else the other members would have no place
                forms[media_type] = {"schema": dict(FILE), "example": "hello"}
        elif takes.binary:
            named = {name: _as_file(name, about, takes) for name, about in rest["properties"].items()}
            forms[media_type] = {"schema": schemas.put({**rest, "properties": named}, endpoint.agent)}
            if isinstance(shown := content.get("example"), dict):
                forms[media_type]["example"] = {
                    name: ["hello"] if name in takes.lists and name in takes.binary else "hello" if name in takes.binary else value
                    for name, value in cast("Object", shown).items()
                }
        else:
            forms[media_type] = content
    return forms


def _as_file(name: str, about: Object, takes: Members) -> Object:
    """A member as a part of a form: a file where it takes one."""
    if name not in takes.binary:
        return about
    described = {key: about[key] for key in ("title", "description") if key in about}
    return {**described, "type": "array", "items": dict(FILE)} if name in takes.lists else {**described, **FILE}


def title_of(schema: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    """Under which name a contract's schema is kept in the document; None where it is no model, and stands inline."""
    if schema.get("type") != "object" or "properties" not in schema or "title" not in schema:
        return None
    title: str = schema["title"]
    return f"{endpoint.agent}.{title}" if title == endpoint.operation.attribute else title


def request_example(operation: Operation) -> Any:
    """A payload that the contract accepts: of the required members, else of all; None where none was found."""
    if not operation.contract.typed_request:
        return ANY_EXAMPLE
    definitions = definitions_of(operation.request_schema)
    schema = resolved(without_definitions(operation.request_schema), definitions)
    for candidate in (schema, {**schema, "required": list(schema.get("properties", ()))}):
        try:
            shown = example(candidate, definitions)
            operation.contract.accept(shown)
        except (NoExampleError, ContractViolation):
            continue
        return shown
    return None
