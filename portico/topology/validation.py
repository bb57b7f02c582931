"""Validation: plain data through the schema, with every fault as a sentence.

Pydantic finds all faults of one pass; what it found is told and taken out of the data, so that the checks after it can look at
the rest of the document and all mistakes come at once.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from portico.errors import did_you_mean
from portico.topology.mistakes import Location, Mistakes, nearest, shown
from portico.topology.model import (
    FOREVER,
    NOT_A_DURATION,
    NOT_A_SIZE,
    PROCESS_NAME,
    SIZES,
    SPELLINGS,
    TOOL_SERVER_NAME,
    UNKNOWN_KEY,
    UNKNOWN_NODE,
    TopologySettings,
)
from portico.topology.source import Substituted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

_ROUNDS = 20
UNNAMED = "unnamed"
"""Stands in for a name that is wrong or missing; never offered as the nearest one."""
_VALUES = {"name": UNNAMED, "path": "/", "agent": UNNAMED}
"""What stands in for a missing value, by its key."""
_ENTRIES = {
    "children": {"type": "supervisor", "name": UNNAMED},
    "routes": {"path": "/", "agent": UNNAMED},
    "servers": {"name": UNNAMED},
}
"""What stands in for a faulty entry of a list, by the list's key."""


def validated(data: Any, mistakes: Mistakes) -> TopologySettings:
    """The document as the schema has it, without what was wrong. Raises `TopologyError` where nothing is left to look at."""
    if not isinstance(data, dict):
        mistakes.add((), "the file is empty." if data is None else f"a topology is a mapping, not {_kind(data)}.")
        mistakes.check()
    data = deepcopy(cast("dict[str, Any]", data))
    for _ in range(_ROUNDS):
        try:
            return TopologySettings.model_validate(data)
        except ValidationError as error:
            faults = error.errors(include_url=False)
        for fault in faults:
            mistakes.add(_location(fault), _sentence({**fault, "input": _written(data, fault)}))
        for fault in faults:
            _repair(data, _location(fault), missing=fault["type"] == "missing")
    mistakes.check()
    raise AssertionError


def _location(fault: ErrorDetails) -> Location:
    """Where a fault is in the document: pydantic also names the spelling after each entry of `children`."""
    way: list[str | int] = []
    for step in fault["loc"]:
        spelling = step in SPELLINGS and way[-2:-1] == ["children"] and isinstance(way[-1], int)
        if not spelling:
            way.append(step)
    return tuple(way)


def _written(data: Any, fault: ErrorDetails) -> Any:
    """The value as the document has it, where pydantic saw what a validator made of it."""
    for step in _location(fault):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return fault["input"]
    return data


def _repair(data: Any, location: Location, *, missing: bool) -> None:
    """Take a faulty value out, or put something in for a missing one: a second mistake there is not told."""
    *way, last = location
    for depth, step in enumerate(way):
        if not isinstance(data[step], dict if isinstance(location[depth + 1], str) else list):
            way, last, missing = way[:depth], step, False  # a validator made the rest of the way
            break
        data = data[step]
    if missing:
        data[last] = _VALUES.get(str(last))
    elif isinstance(data, dict):
        cast("dict[Any, Any]", data).pop(last, None)
    else:
        data[last] = deepcopy(_ENTRIES.get(str(way[-1]), UNNAMED))  # not taken out: the indexes of the others must stay true


# --- sentences --------------------------------------------------------------------------------------------------------

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "a mapping"),
)


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "nothing" if value is None else type(value).__name__)


def _must_be(what: str) -> Callable[[ErrorDetails], str]:
    return lambda fault: f"must be {what}, not {_kind(fault['input'])} ({shown(fault['input'])})."


def _compare(words: str, key: str) -> Callable[[ErrorDetails], str]:
    return lambda fault: f"must be {words} {fault.get('ctx', {})[key]:g} ({shown(fault['input'])})."


def _unknown_key(fault: ErrorDetails) -> str:
    keys: list[str] = fault.get("ctx", {})["keys"]
    hint = nearest(str(fault["loc"][-1]), keys) or f" Known: {', '.join(keys)}."
    return f"this key is unknown.{hint}"


def _unknown_node(fault: ErrorDetails) -> str:
    value = fault["input"]
    if isinstance(value, dict) and len(cast("dict[str, Any]", value)) == 1:
        key = str(next(iter(cast("dict[str, Any]", value))))
        return f"{shown(key)} is no kind of child.{nearest(key, ['agent', 'supervisor']) or ' Known: agent, supervisor.'}"
    return f"a child is a mapping such as {{agent: {{name: …, type: …}}}}, not {_kind(value)} ({shown(value)})."


def _one_of(fault: ErrorDetails) -> str:
    choices = re.findall(r"'([^']*)'", fault.get("ctx", {})["expected"])
    value = fault["input"]
    if fault["loc"][-2:] == ("transport", "type"):
        return f"the transport {shown(value)} is not there: this version has only 'in_process'."
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return f"{shown(value)} is not one of {', '.join(choices)}.{hint}"


def _not_a_name(fault: ErrorDetails) -> str:
    pattern = fault.get("ctx", {})["pattern"]
    return f"{shown(fault['input'])} is not a name: {_NAMES[pattern]}."


def _not_measured(what: str, units: Mapping[str, str], *words: str) -> Callable[[ErrorDetails], str]:
    """`units`: each with its name in full."""

    def sentence(fault: ErrorDetails) -> str:
        value = fault["input"]
        if not isinstance(value, str) or isinstance(value, Substituted):
            return f"{shown(value)} is no {what}."  # of a variable, what was meant would tell its value
        number = re.match(r"[0-9.]{1,20}", value)
        rest = value[number.end() :].strip().lower() if number else ""
        unit = next((unit for unit, name in units.items() if rest and name.lower().startswith(rest)), None)
        hint = did_you_mean([f"{number[0]}{unit}"]) if number and unit else nearest(value, words)
        return f"{shown(value)} is no {what}.{hint}"

    return sentence


_NAMES = {
    PROCESS_NAME: "letters, digits, '_', '-', '.' and ':', at most 128 of them, the first one a letter, a digit or '_'",
    TOOL_SERVER_NAME: "letters, digits, '_' and '-', at most 64 of them",
}

_SENTENCES: dict[str, Callable[[ErrorDetails], str]] = {
    UNKNOWN_KEY: _unknown_key,
    UNKNOWN_NODE: _unknown_node,
    NOT_A_DURATION: _not_measured(
        f"duration: a number of seconds, or a text such as 90s, 15m, 12h, 30d; '{FOREVER}' for no limit",
        {name[0]: name for name in ("seconds", "minutes", "hours", "days", "weeks")},
        FOREVER,
    ),
    NOT_A_SIZE: _not_measured("size: a number of bytes, or a text such as 100MB, 512MiB, 2GiB", {unit: unit for unit in SIZES}),
    "missing": lambda _: "this key is missing.",
    "literal_error": _one_of,
    "string_type": _must_be("a text"),
    "string_pattern_mismatch": _not_a_name,
    "string_too_short": lambda _: "must not be empty.",
    "int_type": _must_be("a whole number"),
    "float_type": _must_be("a number"),
    "bool_type": _must_be("true or false"),
    "list_type": _must_be("a list"),
    "dict_type": _must_be("a mapping"),
    "model_type": _must_be("a mapping"),
    "finite_number": lambda fault: f"must be a finite number ({shown(fault['input'])}).",
    "greater_than": _compare("greater than", "gt"),
    "greater_than_equal": _compare("at least", "ge"),
    "less_than_equal": _compare("at most", "le"),
}


def _sentence(fault: ErrorDetails) -> str:
    """What a fault is called. Faults that nobody foresaw keep pydantic's words."""
    told = _SENTENCES.get(fault["type"])
    return told(fault) if told else f"{fault['msg']} ({shown(fault['input'])})."
