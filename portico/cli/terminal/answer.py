"""Answer: the input that a run waits for, out of a form. Which fields there are, its schema says; what they hold is checked here.

Above: the dialog. It knows no screen. Where a schema is not a flat object of plain values, its answer is written as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from portico.cli.display import one_line
from portico.cli.terminal.picture import mapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAIN: Final = frozenset({"string", "integer", "number", "boolean"})
MOST: Final = 20
"""Fields: a form with more is no form for a terminal."""


class MisfitError(ValueError):
    """What was typed is no answer. It says which field, and why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    kind: str
    """`string`, `integer`, `number` or `boolean`."""
    required: bool
    title: str
    default: str
    """As text; empty where there is none."""
    choices: tuple[str, ...] = ()
    """Where only these will do."""

    @property
    def label(self) -> str:
        """What stands beside it."""
        hint = ", ".join(self.choices) if self.choices else "" if self.kind == "string" else self.kind
        return f"{self.title}{' *' if self.required else ''}{f' ({hint})' if hint else ''}"


def fields_of(schema: Any) -> list[Field] | None:
    """The fields of a form; None where the answer is to be written as JSON."""
    about = mapping(schema)
    properties = mapping(about.get("properties"))
    if about.get("type") != "object" or not properties or len(properties) > MOST:
        return None
    required: Any = about.get("required")
    needed = cast("list[Any]", required) if isinstance(required, list) else []
    found = [_field(name, mapping(said), required=name in needed) for name, said in properties.items()]
    return [one for one in found if one is not None] if all(found) else None


def _field(name: str, said: Mapping[str, Any], *, required: bool) -> Field | None:
    choices: Any = said.get("enum")
    kind = said.get("type", "string" if isinstance(choices, list) else None)
    if kind not in PLAIN:
        return None
    texts = [_text(one) for one in cast("list[Any]", choices)] if isinstance(choices, list) else []
    if kind == "boolean":
        texts = ["true", "false"]
    default = _text(said["default"]) if "default" in said else ""
    if one_line(default) != default:  # it would be written to the terminal as it is
        return None
    return Field(name, kind, required, one_line(str(said.get("title") or name)[:60]), default, tuple(texts))


def answer_of(fields: Sequence[Field], texts: Sequence[str]) -> dict[str, Any]:
    """The answer out of what the fields hold. An empty field that is not required is left out. Raises `MisfitError`."""
    answer: dict[str, Any] = {}
    for one, text in zip(fields, texts, strict=True):
        if not text and (not one.required or one.kind != "string"):
            if one.required:
                raise MisfitError(f"{one.title} is empty.")
            continue
        answer[one.name] = _value(one, text)
    return answer


def parsed(text: str) -> Any:
    """The answer out of JSON. Raises `MisfitError`."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise MisfitError(f"The answer is not JSON: {error}.") from None


def skeleton(schema: Any) -> str:
    """What a JSON answer begins with."""
    about = mapping(schema)
    if about.get("type") == "object":
        text = json.dumps(dict.fromkeys(mapping(about.get("properties")), ""), indent=2, ensure_ascii=False)
        return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)
    return {"array": "[]", "string": '""', "number": "0", "integer": "0", "boolean": "true"}.get(str(about.get("type")), "")


def _value(one: Field, text: str) -> Any:
    if one.choices and text not in one.choices:
        raise MisfitError(f"{one.title} is one of {', '.join(one.choices)}.")
    if one.kind == "string":
        return text
    value = parsed(text)
    fits = {
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not fits[one.kind]:
        raise MisfitError(f"{one.title} is no {one.kind}.")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
