"""Document: the OpenAPI 3.1 description of a gateway, with one typed operation per route to an agent.

Pure: what is served and what FastAPI says of its own routes go in, a mapping comes out, the same for the same input. It serves
nothing; `pages.py` shows it to people.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from portico.openapi.request import plain_path, request_of, title_of
from portico.openapi.responses import PROBLEM_SCHEMA, PROBLEM_TYPE, REPLY_HEADERS, RUN_REFERENCE_SCHEMA, Responses
from portico.openapi.schemas import Schemas
from portico.openapi.security import SCHEMES, requirements
from portico.operations.catalogue import default_routes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from portico.operations.catalogue import Catalogue, Endpoint
    from portico.operations.operation import RouteSpec

Object = dict[str, Any]

OPENAPI: Final = "3.1.0"
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
}
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
        servers: OpenAPI server objects; those of `base` unless given.
    """
    components: Object = dict(base.get("components", {}))
    taken = {name: about for name, about in components.get("schemas", {}).items() if name not in _FASTAPI_ERRORS}
    schemas = Schemas({"Problem": PROBLEM_SCHEMA, "RunReference": RUN_REFERENCE_SCHEMA, **taken})
    responses = Responses(statuses, secured=secured)
    paths = _agent_paths(catalogue, schemas, responses)
    for path, item in base.get("paths", {}).items():
        paths[path] = {**_with_problems(item), **paths.get(path, {})}
    document: Object = {
        "openapi": OPENAPI,
        "info": {**base.get("info", {}), "title": title, "version": version},
        "paths": paths,
        "components": {
            **components,
            "schemas": dict(sorted(schemas.by_name.items())),
            "responses": {**components.get("responses", {}), **responses.components()},
            "parameters": {**components.get("parameters", {}), **PARAMETERS},
            "headers": {**components.get("headers", {}), **REPLY_HEADERS},
        },
        "tags": _tags(catalogue, base),
    }
    if secured:
        document["components"]["securitySchemes"] = {**components.get("securitySchemes", {}), **SCHEMES}
        document["security"] = requirements()
    if servers or base.get("servers"):
        document["servers"] = [dict(server) for server in servers or base["servers"]]
    return document


def _routes(catalogue: Catalogue) -> Iterator[tuple[RouteSpec, Endpoint]]:
    """Every route to an agent: the declared ones, and for what is exposed an ask and a send."""
    yield from catalogue.routes
    for spec, endpoint in default_routes(catalogue):
        yield replace(spec, path=quote(spec.path, safe="/:@")), endpoint


def _agent_paths(catalogue: Catalogue, schemas: Schemas, responses: Responses) -> Object:
    paths: Object = {}
    shapes: dict[str, str] = {}
    ids: list[str] = []
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
    headers = ["RequestTimeout"] if sends else ["RequestTimeout", "Prefer"]
    about: Object = {
        "tags": [endpoint.agent],
        "summary": f"{named} (send)" if sends else named,
        "description": endpoint.description,
        "operationId": _operation_id(spec, endpoint),
        "parameters": [*request.parameters, *({"$ref": f"#/components/parameters/{name}"} for name in headers)],
    }
    if request.body is not None:
        about["requestBody"] = request.body
    if sends:
        about["responses"] = responses.of_send(operation, scoped=scoped)
    else:
        reply = operation.response_schema
        schema = schemas.put(reply, endpoint.agent, title_of(reply, endpoint))
        about["responses"] = responses.of_ask(operation, schema, scoped=scoped)
    if scoped and responses.secured:
        about["security"] = requirements(endpoint.scopes)
    return about


def _operation_id(spec: RouteSpec, endpoint: Endpoint) -> str:
    """Stable: from the names alone. A declared route has its method and path in it, for an operation may have several."""
    own = f"{endpoint.agent}_{endpoint.operation.name}"
    if not spec.path.startswith("/agents/"):
        own = f"{own}_{spec.method.lower()}_{spec.path}"
    elif spec.mode == "send":
        own = f"{own}_send"
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
    return [{"name": name} for name in names] + [tag for tag in base.get("tags", []) if tag["name"] not in names]


def _with_problems(item: Mapping[str, Any]) -> Object:
    """A path of FastAPI's, with the problem that the gateway really answers in place of FastAPI's own validation error."""
    problem: Object = {
        "description": "The request is not valid.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }

    def corrected(about: Any) -> Any:
        responses: Object = about.get("responses", {}) if hasattr(about, "get") else {}
        return (
            {**about, "responses": {**responses, "422": problem}} if "HTTPValidationError" in str(responses.get("422")) else about
        )

    return {method: corrected(about) for method, about in item.items()}
