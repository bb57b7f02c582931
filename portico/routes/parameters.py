"""Parameters: how path and query parameters become members of a payload. Compiled once per route.

Those that the contract names merge into the payload: path wins over query, query over body. Where nothing describes the payload,
path parameters merge and the query is ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from portico.errors import ContractViolation, InvalidOperation
from portico.routes.address import query_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.operations.members import Members

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

    __slots__ = ("_in_query", "_members", "_operation")

    def __init__(self, operation: str, members: Members, *, in_query: bool) -> None:
        """`in_query`: the route takes no body, so what is not in the path belongs into the query."""
        self._operation = operation
        self._members = members
        self._in_query = in_query

    def merge(self, payload: Any, query: bytes, path: Mapping[str, str] | None) -> Any:
        """The payload with its parameters.

        Raises:
            ContractViolation: there are parameters, but the body is no object.
            MalformedAddress: the query is not percent-encoded UTF-8.
        """
        found = {**self._of_query(query), **self._of_path(path)}
        if not found:
            return payload
        if not isinstance(payload, dict):
            fault = {"path": "", "message": "The body must be a JSON object: it is merged with parameters", "type": "object"}
            raise ContractViolation(self._operation, [fault])
        return {**cast("dict[str, Any]", payload), **found}

    def located(self, error: ContractViolation, query: bytes, path: Mapping[str, str] | None) -> ContractViolation:
        """The same refusal, whose faults say `in` where they are: `path`, `query` or `body`."""
        in_path, in_query = self._of_path(path), self._of_query(query)

        def place(fault: Mapping[str, Any]) -> str:
            name = fault["path"].split("/")[1].replace("~1", "/").replace("~0", "~") if fault["path"] else ""
            if name in in_path:
                return "path"
            return "query" if name in in_query or (self._in_query and name) else "body"

        return ContractViolation(error.operation, [{**fault, "in": place(fault)} for fault in error.faults])

    def _of_query(self, query: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        members = self._members
        if query and members.names is not None:
            for name, text in query_of(query):
                if name in members.names:
                    members.put(found, name, members.read(name, text))
        return found

    def _of_path(self, path: Mapping[str, str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        members = self._members
        for name, text in path.items() if path else ():
            if members.open or name in (members.names or ()):
                members.put(found, name, members.read(name, text))
        return found
