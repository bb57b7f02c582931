"""Waiting: what a run waits for, as plain data, and whether an input is what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_json

from portico.errors import ContractViolation, InputTimeout, InvalidOperation
from portico.kernel.protocols import REQUIRED
from portico.operations.contract import faults_of
from portico.operations.secrets import masked, places_of

if TYPE_CHECKING:
    from collections.abc import Mapping

INPUT = "input"
"""It waits for somebody's answer."""
SLEEP = "sleep"
"""It waits for a time."""


def for_input(key: str, prompt: str, schema: Any, until: float | None, default: Any) -> dict[str, Any]:
    """A wait for an answer. `until`: seconds since the epoch, None without limit. Raises `InvalidOperation` for a bad schema."""
    waiting: dict[str, Any] = {"kind": INPUT, "key": key, "prompt": prompt, "schema": json_schema(schema), "until": until}
    if default is not REQUIRED:
        waiting["default"] = default
    return waiting


def for_time(key: str, until: float) -> dict[str, Any]:
    """A wait for a time: seconds since the epoch."""
    return {"kind": SLEEP, "key": key, "until": until}


def json_schema(schema: Any) -> Mapping[str, Any] | None:
    """What an input must be, as JSON Schema: the mapping itself, that of a type, or None for anything."""
    if schema is None or isinstance(schema, dict):
        _refuse_bad_schema(cast("dict[str, Any] | None", schema))
        return cast("dict[str, Any] | None", schema)
    from pydantic import TypeAdapter  # noqa: PLC0415  # `import portico` stays light

    try:
        return TypeAdapter(schema).json_schema()
    except Exception as error:
        raise InvalidOperation(f"The schema of ctx.wait_input cannot be compiled: {error}") from error


def _refuse_bad_schema(schema: dict[str, Any] | None) -> None:
    if schema is None:
        return
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  # 60 ms that only a wait needs to pay

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidOperation(f"The schema of ctx.wait_input is no JSON Schema: {error.message}") from error


def check_input(waiting: Mapping[str, Any], value: Any) -> None:
    """Raises `ContractViolation` where an input is not what is waited for."""
    schema = waiting.get("schema")
    if not schema:
        return
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # see above

    validator: Any = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    found = validator.iter_errors(value)
    faults = [
        {"path": "".join(f"/{part}" for part in error.absolute_path), "message": error.message, "type": str(error.validator)}
        for error in found
    ]
    if faults:
        raise ContractViolation("input", faults)


def answered(value: Any) -> dict[str, Any]:
    """What is stored of an answer."""
    return {"value": value}


def without_secrets(waiting: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is stored of an answer: where it has secret fields, only that there was one, and it is asked for again."""
    schema = waiting.get("schema")
    if not schema or "value" not in value:
        return value
    return {"secret": True} if masked(value["value"], places_of(schema))[1] else value


def timed_out(waiting: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored where nobody answered in time."""
    if waiting["kind"] == SLEEP:
        return {"over": True}
    return {"default": waiting["default"]} if "default" in waiting else {"timed_out": True}


def answer_of(stored: Mapping[str, Any], prompt: str, schema: Any) -> Any:
    """The answer that was stored, of the type that was asked for; a default need not be.

    Raises:
        InputTimeout: there was none in time.
        ContractViolation: it is none of that type; its JSON Schema could not tell.
    """
    if "timed_out" in stored:
        raise InputTimeout(prompt)
    if "default" not in stored:
        return typed(schema, stored["value"])
    try:
        return typed(schema, stored["default"])
    except ContractViolation:  # such as None, instead of an answer
        return stored["default"]


def typed(schema: Any, value: Any) -> Any:
    """An input as the type that was asked for. Raises `ContractViolation` where it is none."""
    if schema is None or isinstance(schema, dict):
        return value
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  # see above

    try:
        return TypeAdapter(schema).validate_json(to_json(value))
    except ValidationError as error:
        raise ContractViolation("input", faults_of(error)) from None
