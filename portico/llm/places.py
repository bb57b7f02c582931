"""Places: `{name}` and `{name.path.0.*}` in texts and arguments, filled in from what is known.

Only plain data on both sides: no expressions, no attributes, no formats. Above: `rules.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

_PLACE: Final = re.compile(r"\{([A-Za-z_]\w*)((?:\.(?:[\w-]+|\*))*)\}")


class MissingPlace(Exception):
    """A place that is named is not there, or is empty."""


def filled(value: Any, known: Mapping[str, Any]) -> Any:
    """Arguments with every place filled in; one that is a place and nothing else keeps the value's type. Raises `MissingPlace`."""
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        return _found(whole, known) if whole else filled_text(value, known)
    if isinstance(value, Mapping):
        return {key: filled(item, known) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [filled(item, known) for item in cast("list[Any]", value)]
    return value


def filled_text(text: str, known: Mapping[str, Any]) -> str:
    """A text with every place filled in. Raises `MissingPlace`."""
    return _PLACE.sub(lambda place: _shown(_found(place, known)), text)


def _found(place: re.Match[str], known: Mapping[str, Any]) -> Any:
    value = _walk(known[place[1]], place[2].split(".")[1:])
    if value in (None, "", [], {}):
        raise MissingPlace
    return value


def _walk(value: Any, path: Sequence[str]) -> Any:
    for depth, step in enumerate(path):
        if step == "*":
            items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else []
            return [found for item in items if (found := _walk(item, path[depth + 1 :])) is not None]
        if isinstance(value, Mapping):
            value = cast("Mapping[str, Any]", value).get(step)
        elif isinstance(value, list) and step.isdecimal():
            value = next(iter(cast("list[Any]", value)[int(step) :]), None)
        else:
            return None
    return value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return "\n".join(cast("list[str]", value))
    return json.dumps(value, ensure_ascii=False)


def places(value: Any) -> list[str]:
    """The names of every place in a text, or in the texts of arguments."""
    if isinstance(value, str):
        return [place[1] for place in _PLACE.finditer(value)]
    if isinstance(value, Mapping):
        return [name for item in cast("Mapping[str, Any]", value).values() for name in places(item)]
    if isinstance(value, list):
        return [name for item in cast("list[Any]", value) for name in places(item)]
    return []
