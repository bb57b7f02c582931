"""Parameters: how path and query parameters become members of a payload. Compiled once per route.

Those that the contract names merge into the payload: path wins over query, query over body. Where nothing describes the payload,
path parameters merge and the query is ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from portico.errors import ContractViolation, InvalidOperation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.operations.operation import Operation

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")


def path_parameters(template: str) -> list[str]:
    """The names of a template's parameters, in order."""
    return [match[1] for match in _PARAMETER.finditer(template)]


def path_pattern(template: str) -> re.Pattern[str]:
    """A regular expression for the paths of a template. `{name}` takes one segment, `{name:path}` any number.

    Raises:
        InvalidOperation: braces that are no parameter, or one name twice.
    """
    names = path_parameters(template)
    if len(set(names)) != len(names):
        raise InvalidOperation(f"The path {template!r} has a parameter twice.")
    pattern, end = "", 0
    for match in _PARAMETER.finditer(template):
        pattern += re.escape(template[end : match.start()])
        pattern += f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
        end = match.end()
    rest = template[end:]
    if "{" in pattern.replace("(?P<", "") + rest or "}" in rest:
        raise InvalidOperation(f"The path {template!r} has braces that are not a parameter, such as {{name}}.")
    return re.compile(pattern + re.escape(rest))


class Parameters:
    """The merging for one operation at one path."""

    __slots__ = ("_lists", "_members", "_open", "_operation")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation.name
        schema = operation.request_schema
        self._members = operation.request_members
        self._lists = _list_members(schema)
        self._open = self._members is None and schema.get("type", "object") == "object"

    def merge(self, payload: Any, query: bytes, path: Mapping[str, str] | None) -> Any:
        """The payload with its parameters.

        Raises:
            ContractViolation: there are parameters, but the body is no object.
        """
        found: dict[str, Any] = {}
        members = self._members
        if query and members is not None:
            for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                if name in self._lists:
                    cast("list[str]", found.setdefault(name, [])).append(value)
                elif name in members:
                    found[name] = value
        if path:
            found.update((name, value) for name, value in path.items() if self._open or name in (members or ()))
        if not found:
            return payload
        if not isinstance(payload, dict):
            fault = {"path": "", "message": "The body must be a JSON object: it is merged with parameters", "type": "object"}
            raise ContractViolation(self._operation, [fault])
        return {**cast("dict[str, Any]", payload), **found}


def _list_members(schema: Mapping[str, Any]) -> frozenset[str]:
    """The members that take a list: of their query parameters every value counts, of others the last."""
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    return frozenset(name for name, about in properties.items() if _takes_list(about))


def _takes_list(about: Mapping[str, Any]) -> bool:
    return about.get("type") == "array" or any(_takes_list(kind) for kind in about.get("anyOf", ()))
