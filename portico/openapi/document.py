"""Document: the OpenAPI 3.1 description of a gateway, with one typed operation per route to an agent.

Pure: what is served and what FastAPI says of its own routes go in, a mapping comes out, the same for the same input. It serves
nothing; `pages.py` shows it to people.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from portico.openapi.examples import NoExampleError, example
from portico.openapi.headers import HEADERS, OF_A_CALL, OF_A_WAITING_CALL, PARAMETERS, parameters
from portico.openapi.own_paths import own_paths
from portico.openapi.request import ANY_EXAMPLE, BODY_METHODS, FILE, plain_path, request_of, title_of
from portico.openapi.responses import PROBLEM_SCHEMA, RUN_REFERENCE_SCHEMA, Responses
from portico.openapi.schemas import Schemas, definitions_of
from portico.openapi.security import SCHEMES, requirements
from portico.operations.catalogue import default_routes
from portico.operations.members import BINARY, JSON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from portico.operations.catalogue import Catalogue, Endpoint
    from portico.operations.operation import RouteSpec

Object = dict[str, Any]

OPENAPI: Final = "3.1.0"
INFO: Final[Mapping[str, Any]] = {
    "description": (
        "Agents behind HTTP. `POST` to an agent asks it and waits for the reply; the same with `/cast` sends, and answers 202. "
        "What cannot be answered is a problem (RFC 9457), whose `type` leads to its description."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
"""What the document says of itself, unless `base` says otherwise. The licence is that of the gateway."""
SERVERS: Final = ({"url": ".", "description": "Where this document is."},)
_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9]+")


def build_document(
    catalogue: Catalogue,
    *,
    title: str,
    version: str,
    base: Mapping[str, Any],
    statuses: Mapping[str, int],
    secured: bool,
    guarded: bool = False,
    servers: Sequence[Mapping[str, Any]] | None = None,
) -> Object:
    """The whole document.

    Args:
        catalogue: the agents' operations and the routes that lead to them.
        title: of the API.
        version: of the API.
        base: the document that FastAPI made for the gateway's own routes.
        statuses: HTTP status by problem slug.
        secured: whether callers must authenticate. A route of `base` that is open to everybody says so: `security: []`.
        guarded: whether requests whose Host or Origin is foreign are refused.
        servers: OpenAPI server objects; those of `base` unless given, else the place where the document is.
    """
    components: Object = dict(base.get("components", {}))
    taken = {name: about for name, about in components.get("schemas", {}).items() if name not in _FASTAPI_ERRORS}
    schemas = Schemas({"Problem": PROBLEM_SCHEMA, "RunReference": RUN_REFERENCE_SCHEMA, **taken})
    responses = Responses(statuses, secured=secured, guarded=guarded, ids=_ids(base.get("paths", {})))
    own = dict(own_paths(base, schemas.by_name, responses))
    paths = _agent_paths(catalogue, schemas, responses, _ids(own))
    for path, item in own.items():
        paths[path] = {**item, **paths.get(path, {})}
    document: Object = {
        "openapi": OPENAPI,
        "info": {**INFO, **base.get("info", {}), "title": title, "version": version},
        "servers": [dict(server) for server in servers or base.get("servers") or SERVERS],
        "paths": paths,
        "components": {
            **components,
            "schemas": dict(sorted(schemas.by_name.items())),
            "responses": {**components.get("responses", {}), **responses.components()},
            "parameters": {**components.get("parameters", {}), **PARAMETERS},
            "headers": {**components.get("headers", {}), **HEADERS},
            "links": {**components.get("links", {}), **responses.links()},
        },
        "tags": _tags(catalogue, base),
    }
    if secured:
        document["components"]["securitySchemes"] = {**components.get("securitySchemes", {}), **SCHEMES}
        document["security"] = requirements()
    return document


def _routes(catalogue: Catalogue) -> Iterator[tuple[RouteSpec, Endpoint]]:
    """Every route to an agent: the declared ones, and for what is exposed an ask and a send."""
    yield from catalogue.routes
    for spec, endpoint in default_routes(catalogue):
        yield replace(spec, path=quote(spec.path, safe="/:@")), endpoint


def _ids(paths: Mapping[str, Any]) -> list[str]:
    return [about["operationId"] for item in paths.values() for about in item.values() if "operationId" in about]


def _agent_paths(catalogue: Catalogue, schemas: Schemas, responses: Responses, ids: list[str]) -> Object:
    """The paths of every route to an agent. `ids`: the operation ids that are taken."""
    paths: Object = {}
    shapes: dict[str, str] = {}
    for spec, endpoint in _routes(catalogue):
        path = plain_path(spec.path)
        about = _operation(spec, endpoint, schemas, responses)
        first = shapes.setdefault(re.sub(r"\{[^}]*\}", "{}", path), path)
        if first != path:
            _rename_path_parameters(about, path, first)
        about["operationId"] = _unique(about["operationId"], ids)
        paths.setdefault(first, {})[spec.method.lower()] = about
    return paths


def _operation(spec: RouteSpec, endpoint: Endpoint, schemas: Schemas, responses: Responses) -> Object:
    """The operation object of one route."""
    operation, sends, scoped = endpoint.operation, spec.mode == "send", bool(endpoint.scopes)
    request = request_of(spec, endpoint, schemas)
    named = operation.title or _first_sentence(endpoint.description) or f"{endpoint.agent}: {operation.name}"
    about: Object = {
        "tags": [endpoint.agent],
        "summary": f"{named} (send)" if sends else named,
        "description": endpoint.description or named,
        "operationId": _operation_id(spec, endpoint),
        "parameters": [*request.parameters, *parameters(*(OF_A_CALL if sends else OF_A_WAITING_CALL))],
    }
    if request.body is not None:
        about["requestBody"] = request.body
    takes_body = spec.method in BODY_METHODS
    if sends:
        about["responses"] = responses.of_send(operation, takes_body=takes_body, scoped=scoped)
    else:
        content = _reply_content(endpoint, schemas)
        about["responses"] = responses.of_ask(operation, content, takes_body=takes_body, scoped=scoped)
    if scoped and responses.secured:
        about["security"] = requirements(endpoint.scopes)
    return about


def _reply_content(endpoint: Endpoint, schemas: Schemas) -> Object:
    """The reply's schema and an example, by media type."""
    reply = endpoint.operation.response_schema
    as_bytes: Object = {BINARY: {"schema": dict(FILE), "example": "hello"}}
    if endpoint.operation.contract.replies_bytes:
        return as_bytes
    media: Object = {"schema": schemas.put(reply, endpoint.agent, title_of(reply, endpoint))}
    with suppress(NoExampleError):
        media["example"] = example(reply, definitions_of(reply)) if reply else ANY_EXAMPLE
    return {JSON: media} if reply else {JSON: media, **as_bytes}


def _operation_id(spec: RouteSpec, endpoint: Endpoint) -> str:
    """Stable, of names alone: `ask_` or `send_` and the agent; of a declared route its method and path."""
    if spec.path.startswith("/agents/"):
        operation = "" if endpoint.sole else f"_{endpoint.operation.name}"
        own = f"{spec.mode}_{endpoint.agent}{operation}"
    else:
        own = f"{spec.method.lower()}_{plain_path(spec.path)}"
    return _NOT_IN_IDS.sub("_", own).strip("_")


def _unique(name: str, names: list[str]) -> str:
    candidate, number = name, 1
    while candidate in names:
        number += 1
        candidate = f"{name}_{number}"
    names.append(candidate)
    return candidate


def _rename_path_parameters(about: Object, path: str, first: str) -> None:
    """Two templates of one shape are one path in OpenAPI: the later takes the earlier's names."""
    names = dict(zip(re.findall(r"\{([^}]*)\}", path), re.findall(r"\{([^}]*)\}", first), strict=True))
    for parameter in about["parameters"]:
        if parameter.get("in") == "path":
            parameter["name"] = names[parameter["name"]]


def _first_sentence(description: str) -> str:
    line = description.strip().partition("\n")[0]
    return line.partition(". ")[0].rstrip(".")


def _tags(catalogue: Catalogue, base: Mapping[str, Any]) -> list[Object]:
    names = dict.fromkeys(endpoint.agent for _, endpoint in _routes(catalogue))
    agents = [{"name": name, "description": f"What the agent `{name}` can be asked."} for name in names]
    return agents + [tag for tag in base.get("tags", []) if tag["name"] not in names]
