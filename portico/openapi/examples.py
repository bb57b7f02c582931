"""Examples: a value that satisfies a JSON Schema, so that "Try it out" works at once.

Covers what pydantic writes for contracts. What the author gave as an example or default comes first. Where no value is found
(a pattern, a recursion without an end), there is no example rather than a wrong one.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from portico.openapi.schemas import resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPTH = 8
"""How deep an example goes before a recursion counts as endless."""
FORMATS = {
    "date-time": "2026-01-31T09:30:00Z",
    "date": "2026-01-31",
    "time": "09:30:00Z",
    "duration": "PT30S",
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "json-string": "{}",
    "byte": "aGVsbG8=",
    "base64url": "aGVsbG8=",
    "password": "string",
    "path": "path",
    "regex": ".*",
}
PATTERN_TRIES = ("string", "a", "A", "1", "abc", "ABC", "123", "abc-123", "ABC-123", "12345", "1.0", "1.0.0", "#", "#ffffff", "/")
"""What a pattern is tried with: common shapes."""


class NoExampleError(Exception):
    """No value was found."""


def example(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """A value for a schema. The definitions are those that its references lead to.

    Raises:
        NoExampleError: none was found.
    """
    schema = resolved(schema, definitions)
    if depth > DEPTH:
        raise NoExampleError
    given = _given(schema)
    if given:
        return given[0]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _first(choices, definitions, depth)
    if "allOf" in schema:
        return example(_merged(schema["allOf"], definitions), definitions, depth + 1)
    kind: Any = schema.get("type")
    return _of_kind(kind[0] if isinstance(kind, list) else kind, schema, definitions, depth)


def _of_kind(kind: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Any:
    match kind:
        case "object":
            return _object(schema, definitions, depth)
        case "array":
            return _array(schema, definitions, depth)
        case "string":
            return _string(schema)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case _:
            values: dict[Any, Any] = {"boolean": True, "null": None}
            return values.get(kind, {})


def _merged(parts: list[Mapping[str, Any]], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """All parts as one schema; pydantic writes `allOf` only around a single reference."""
    return {key: value for part in parts for key, value in resolved(part, definitions).items()}


def _given(schema: Mapping[str, Any]) -> list[Any]:
    """What the author says, the best first."""
    given: list[Any] = list(schema.get("examples", ()))
    given += [schema[key] for key in ("example", "const") if key in schema]
    if schema.get("default") is not None:
        given.append(schema["default"])
    return given + list(schema.get("enum", ()))


def _first(choices: list[Mapping[str, Any]], definitions: Mapping[str, Any], depth: int) -> Any:
    """The first choice that has an example; null comes last."""
    for choice in sorted(choices, key=lambda one: one.get("type") == "null"):
        try:
            return example(choice, definitions, depth + 1)
        except NoExampleError:
            continue
    raise NoExampleError


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Every required member, and the optional ones that the author gave a value."""
    members: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    made = {
        name: example(about, definitions, depth + 1)
        for name, about in members.items()
        if name in required or _given(resolved(about, definitions))
    }
    more: Any = schema.get("additionalProperties")
    for number in range(len(made), schema.get("minProperties", 0)):
        made[f"key{number + 1}"] = "string" if isinstance(more, bool | None) else example(more, definitions, depth + 1)
    return made


def _array(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> list[Any]:
    made = [example(item, definitions, depth + 1) for item in schema.get("prefixItems", ())]
    items: Any = schema.get("items")
    least: int = schema.get("minItems", 0)
    if items is None or isinstance(items, bool):
        return made
    if schema.get("uniqueItems") and least > 1:
        raise NoExampleError
    missing = min(max(least, len(made) or 1), schema.get("maxItems", math.inf)) - len(made)
    try:
        return made + [example(items, definitions, depth + 1) for _ in range(int(missing))]
    except NoExampleError:
        if least:
            raise
        return made


def _string(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if "pattern" in schema:
        return _matching(schema["pattern"], least, most)
    text = FORMATS.get("byte" if "contentEncoding" in schema else schema.get("format", ""), "string")
    if len(text) < least:
        text = (text * least)[:least]
    return text if len(text) <= most else text[: int(most)]


def _matching(pattern: str, least: int, most: float) -> str:
    try:
        found = (text for text in PATTERN_TRIES if least <= len(text) <= most and re.search(pattern, text))
        return next(found)
    except (StopIteration, re.error):
        raise NoExampleError from None


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf", 1 if whole else 0.5)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    for start in (1, low, above, high, below, 0):
        if math.isinf(start):
            continue
        multiple = math.floor(start / step) * step
        for number in (multiple, multiple + step, multiple - step):
            if low <= number <= high and above < number < below:
                return int(number) if whole else float(number)
    middle = (max(low, above) + min(high, below)) / 2
    if whole or "multipleOf" in schema or not (low <= middle <= high and above < middle < below):
        raise NoExampleError
    return middle
