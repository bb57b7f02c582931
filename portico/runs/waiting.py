"""Waiting: what a run waits for, as plain data, and whether an input is what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import to_json

from portico.errors import ContractViolation, InputDeclined, InputTimeout, InvalidOperation
from portico.kernel import questions
from portico.kernel.protocols import REQUIRED
from portico.kernel.questions import Question
from portico.operations.contract import faults_of
from portico.operations.secrets import masked, places_of

if TYPE_CHECKING:
    from collections.abc import Mapping

INPUT = "input"
"""It waits for somebody's answer."""
SLEEP = "sleep"
"""It waits for a time."""


def for_input(key: str, asked: Mapping[str, Question] | Question, until: float | None, default: Any) -> dict[str, Any]:
    """A wait for an answer, or for several at once. Raises `InvalidOperation` for a bad schema.

    Args:
        key: under which the answer is stored.
        asked: one question, or several by name.
        until: seconds since the epoch, None without limit.
        default: what stands for the answer afterwards, where there is something.
    """
    waiting: dict[str, Any] = {"kind": INPUT, "key": key}
    if isinstance(asked, Question):
        waiting |= {"prompt": asked.prompt, "schema": json_schema(asked.schema)}
        if asked.asks != questions.INPUT:
            waiting["asks"] = asked.asks
        if asked.params is not None:
            waiting["params"] = dict(asked.params)
    else:
        several = {name: _as_data(question) for name, question in asked.items()}
        waiting |= {"prompt": " ".join(question.prompt for question in asked.values()), "schema": _of_all(several)}
        waiting["questions"] = several
    waiting["until"] = until
    if default is not REQUIRED:
        waiting["default"] = default
    return waiting


def _as_data(question: Question) -> dict[str, Any]:
    params = {"params": dict(question.params)} if question.params is not None else {}
    return {"asks": question.asks, "prompt": question.prompt, "schema": json_schema(question.schema), **params}


def _of_all(several: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of an object that has the answers by name. Each part keeps its own `$defs`, which its `$id` allows."""
    parts: dict[str, dict[str, Any]] = {
        name: {"$id": f"urn:portico:answer:{name}", **(question["schema"] or {})} for name, question in several.items()
    }
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


SOLE: Final = "input"
"""The name of a question that is asked alone."""


def questions_of(waiting: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """What is asked, by name: each with `asks`, `prompt`, `schema`, and `params` where the kind has them."""
    several: Mapping[str, Mapping[str, Any]] | None = waiting.get("questions")
    if several is not None:
        return several
    asks = waiting.get("asks", questions.INPUT)
    return {SOLE: {"asks": asks, "prompt": waiting["prompt"], "schema": waiting.get("schema"), "params": waiting.get("params")}}


def together(waiting: Mapping[str, Any], answers: Mapping[str, Any]) -> Any:
    """The one input that answers by name make up: what `POST /runs/{id}/input` would be given."""
    return dict(answers) if "questions" in waiting else answers[SOLE]


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
    if "value" not in value:
        return value
    several = "questions" in waiting
    for name, question in questions_of(waiting).items():
        schema, answer = question.get("schema"), value["value"][name] if several else value["value"]
        if schema and masked(answer, places_of(schema))[1]:
            return {"secret": True}
    return value


def responses_of(waiting: Mapping[str, Any]) -> Mapping[str, Any]:
    """What has been answered of several questions, by name, while others are open."""
    return waiting.get("responses", {})


def without_secret_responses(waiting: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is stored of a wait that some responses have come for: not those to questions with secret fields."""
    asked = questions_of(waiting)
    open_ones = {name: one for name, one in responses_of(waiting).items() if not places_of(asked[name].get("schema") or {})}
    return {**waiting, "responses": open_ones}


def timed_out(waiting: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored where nobody answered in time."""
    if waiting["kind"] == SLEEP:
        return {"over": True}
    return {"default": waiting["default"]} if "default" in waiting else {"timed_out": True}


def declined(actions: Mapping[str, str]) -> dict[str, Any]:
    """What is stored where somebody declined to answer: by the name of the question, how."""
    return {"declined": dict(actions)}


def answer_of(stored: Mapping[str, Any], prompt: str, schema: Any) -> Any:
    """The answer that was stored, of the type that was asked for; a default need not be.

    Args:
        stored: by `answered`, `declined` or `timed_out`.
        prompt: what was asked.
        schema: of the answer; of several questions, those of all of them as a `Several`.

    Raises:
        InputTimeout: there was none in time.
        InputDeclined: whoever was asked declined.
        ContractViolation: it is none of that type; its JSON Schema could not tell.
    """
    if "timed_out" in stored:
        raise InputTimeout(prompt)
    if "declined" in stored:
        raise InputDeclined(prompt, stored["declined"])
    if "default" not in stored:
        return typed(schema, stored["value"])
    try:
        return typed(schema, stored["default"])
    except ContractViolation:  # such as None, instead of an answer
        return stored["default"]


class Several(dict[str, Any]):
    """The schemas of several questions, by name."""


def typed(schema: Any, value: Any) -> Any:
    """An input as the type that was asked for. Raises `ContractViolation` where it is none."""
    if isinstance(schema, Several):
        return {name: typed(part, value[name]) for name, part in schema.items()}
    if schema is None or isinstance(schema, dict):
        return value
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  # see above

    try:
        return TypeAdapter(schema).validate_json(to_json(value))
    except ValidationError as error:
        raise ContractViolation("input", faults_of(error)) from None
