"""StrangersSchema: a JSON Schema that a server wrote, applied within a bound of time: it may describe, not hold everybody up.

A schema is a program: a pattern that backtracks, or references that double, take years, and meanwhile nothing else runs here. So
patterns are matched in linear time, what is unusual is left to the server, and what takes too long ends. Nothing is ever fetched.
Above: `remote_tool.py`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

LONGEST_TIME: Final = 1.0
"""Seconds of the processor that one schema may take for one value."""
LONGEST_MATCHED: Final = 64 * 1024
"""Characters of a text that a pattern is tried on, and of a pattern; beyond, the server sees to it."""
MOST_UNIQUE: Final = 2000
"""Items of a list that are compared with each other."""
MOST_FAULTS: Final = 100
"""Faults that are told of one value."""
LONGEST_MESSAGE: Final = 300
"""Characters of one fault's message; validators print whole values."""
_LEFT_OUT: Final = ("unevaluatedItems", "unevaluatedProperties")
"""Keywords for which the validator goes through the schema on ways that know no bound."""

_ends_at: ContextVar[float] = ContextVar("portico_mcp_schema_ends_at")


class UnusableSchemaError(Exception):
    """The schema is none, refers to elsewhere, or takes too long."""


class _TooLongError(Exception):
    """The time is over."""


class _Fault(Protocol):
    @property
    def absolute_path(self) -> Sequence[str | int]: ...
    @property
    def message(self) -> str: ...


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Iterable[_Fault]: ...


class StrangersSchema:
    """One schema. Compiled when it is needed for the first time; one that cannot be used is not tried again."""

    __slots__ = ("_schema", "_unusable", "_validator")

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator: _Validator | None = None
        self._unusable: str | None = None

    def faults(self, value: Any) -> list[dict[str, str]]:
        """What is wrong with a value: the path and the message of each fault.

        Raises:
            UnusableSchemaError: nobody can say.
        """
        if self._unusable is None:
            token = _ends_at.set(time.thread_time() + LONGEST_TIME)
            try:
                validator = self._validator = self._validator or _compiled(self._schema)
                return [_described(fault) for fault in islice(validator.iter_errors(value), MOST_FAULTS)]
            except _TooLongError:
                self._unusable = f"it takes more than {LONGEST_TIME:g} s"
            except UnusableSchemaError as error:
                self._unusable = str(error)
            except Exception as error:  # noqa: BLE001  # a stranger's schema: whatever it makes the validator raise
                self._unusable = f"{type(error).__name__}: {str(error)[:LONGEST_MESSAGE]}"
            finally:
                _ends_at.reset(token)
        raise UnusableSchemaError(self._unusable)


def _compiled(schema: dict[str, Any]) -> _Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # 60 ms that only a call to an external tool needs to pay
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    known: Any = cast("Any", validator_for)(schema, default=Draft202012Validator)
    kind, nowhere = _bounded(known), cast("Any", Registry)()
    for fault in kind(known.META_SCHEMA, registry=nowhere).iter_errors(schema):
        raise UnusableSchemaError(f"it is not valid: {fault.message[:LONGEST_MESSAGE]}")
    return kind(schema, registry=nowhere)


@cache
def _bounded(known: Any) -> Any:
    """A dialect of JSON Schema whose every step looks at the time."""
    from jsonschema import validators  # noqa: PLC0415

    keywords: dict[str, Any] = {name: _timed(apply) for name, apply in known.VALIDATORS.items() if name not in _LEFT_OUT}
    keywords |= {"pattern": _timed(_pattern), "patternProperties": _timed(_pattern_properties)}
    keywords["additionalProperties"] = _timed(_additional(known.VALIDATORS["additionalProperties"]))
    if "uniqueItems" in keywords:
        keywords["uniqueItems"] = _timed(_unique(known.VALIDATORS["uniqueItems"]))
    kind: Any = cast("Any", validators).extend(known, dict.fromkeys(_LEFT_OUT, _nothing) | keywords)
    names = [(field.name, field.alias) for field in kind.__attrs_attrs__ if field.init]

    def evolve(self: Any, **changes: Any) -> Any:
        """The library's own goes over to a dialect without bounds where a part of the schema names one."""
        for name, alias in names:
            if alias not in changes:
                changes[alias] = getattr(self, name)
        return kind(**changes)

    kind.evolve = evolve
    return kind


def _timed(apply: Callable[[Any, Any, Any, Any], Iterable[Any] | None]) -> Callable[[Any, Any, Any, Any], Iterable[Any]]:
    def timed(validator: Any, said: Any, value: Any, schema: Any) -> Generator[Any]:
        if time.thread_time() > _ends_at.get():
            raise _TooLongError
        yield from apply(validator, said, value, schema) or ()

    return timed


def _nothing(*_: Any) -> tuple[()]:
    return ()


def _pattern(_validator: Any, pattern: Any, value: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError as Fault  # noqa: PLC0415

    if isinstance(value, str) and _matches(pattern, value) is False:
        yield Fault(f"{value[:LONGEST_MESSAGE]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, value: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for key, member in cast("dict[str, Any]", value).items():
                if _matches(pattern, key):
                    yield from validator.descend(member, schema, path=key, schema_path=pattern)


def _additional(
    apply: Callable[[Any, Any, Any, Any], Iterable[Any] | None],
) -> Callable[[Any, Any, Any, Any], Iterable[Any] | None]:
    """The keyword beside `patternProperties`, which the library joins to one pattern of its own."""

    def additional(validator: Any, said: Any, value: Any, schema: Any) -> Iterable[Any] | None:
        patterns: Any = schema.get("patternProperties")
        if patterns and isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            value = {key: member for key, member in members.items() if not any(_matches(one, key) is not False for one in patterns)}
            schema = {key: said for key, said in schema.items() if key != "patternProperties"}
        return apply(validator, said, value, schema)

    return additional


def _unique(
    apply: Callable[[Any, Any, Any, Any], Iterable[Any] | None],
) -> Callable[[Any, Any, Any, Any], Iterable[Any] | None]:
    def unique(validator: Any, said: Any, value: Any, schema: Any) -> Iterable[Any] | None:
        is_long = isinstance(value, list) and len(cast("list[Any]", value)) > MOST_UNIQUE
        return None if is_long else apply(validator, said, value, schema)

    return unique


def _matches(pattern: str, text: str) -> bool | None:
    """Whether a pattern is found in a text; None where nobody can say in linear time."""
    matcher = _matcher(pattern) if len(text) <= LONGEST_MATCHED else None
    if matcher is None:
        return None
    try:
        matcher.validate_python(text)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=1000)
def _matcher(pattern: str) -> SchemaValidator | None:
    """None for what only a matcher that backtracks knows, such as looking ahead."""
    if len(pattern) > LONGEST_MATCHED:
        return None
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True))
    except SchemaError:
        return None


def _described(fault: _Fault) -> dict[str, str]:
    path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in fault.absolute_path)
    return {"path": path, "message": fault.message[:LONGEST_MESSAGE]}
