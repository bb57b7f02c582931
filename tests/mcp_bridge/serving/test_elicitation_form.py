"""Which JSON Schemas become a form that an MCP client can show, and how its answer is read."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from portico.mcp_bridge.serving.elicitation_form import form_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Form(BaseModel):
    text: Annotated[str, Field(min_length=2, max_length=9, description="A text.")]
    mail: str | None = None
    age: int = 30
    score: Annotated[float, Field(ge=0, le=100)] = 95.5
    yes: bool = True
    colour: Colour = Colour.RED
    several: list[Literal["a", "b"]] = []
    none: Literal["only"] | None = None


def shown(schema: Any) -> dict[str, Any]:
    return form_of(cast("dict[str, Any]", schema) if isinstance(schema, dict) else TypeAdapter(schema).json_schema()).schema


def test_a_flat_model_is_a_form_with_its_defaults() -> None:
    form = shown(Form)
    assert form["required"] == ["text"]
    members = {name: {key: value for key, value in member.items() if key != "title"} for name, member in form["properties"].items()}
    assert members == {
        "text": {"type": "string", "minLength": 2, "maxLength": 9, "description": "A text."},
        "mail": {"type": "string"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "minimum": 0, "maximum": 100, "default": 95.5},
        "yes": {"type": "boolean", "default": True},
        "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "several": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "default": []},
        "none": {"type": "string", "enum": ["only"]},
    }


@pytest.mark.parametrize("member", [
    {"type": "string", "enum": ["a", "b"]},
    {"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]},
    {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
    {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1},
    {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}},
    {"type": "string", "format": "email"},
    {"type": "integer", "minimum": 1, "default": 3, "title": "How many", "description": "Of them."},
])  # fmt: skip
def test_choices_and_their_titles_are_shown_as_they_are(member: dict[str, Any]) -> None:
    assert shown({"type": "object", "properties": {"it": member}})["properties"]["it"] == member


def test_what_a_form_cannot_say_is_left_out_and_checked_later() -> None:
    assert shown({"type": "string", "format": "hostname", "examples": ["x"], "default": None})["properties"]["answer"] == {
        "type": "string"
    }


@pytest.mark.parametrize(("schema", "place"), [
    ({"type": "object", "properties": {"at": {"type": "object", "properties": {"x": {"type": "number"}}}}}, "`/at`"),
    ({"type": "object", "properties": {"all": {"type": "array", "items": {"type": "object"}}}}, "`/all` is a list"),
    ({"type": "object", "properties": {"all": {"type": "array", "items": {"type": "string"}}}}, "`/all` is a list"),
    ({"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}, "`/x`"),
    ({"type": "object", "properties": {"x": {"type": ["string", "integer"]}}}, "`/x`"),
    ({"type": "object", "properties": {"x": {"enum": [1, 2]}}}, "`/x`"),
    ({"type": "object", "properties": {"x": {"$ref": "#/$defs/nowhere", "type": "object"}}}, "`/x`"),
    ({"type": "array", "items": {"type": "integer"}}, "it is a list"),
    ({"anyOf": [{"type": "object"}, {"type": "string"}]}, "it is neither"),
    ({"type": "null"}, "it is neither"),
])  # fmt: skip
def test_what_does_not_fit_into_a_form_is_named(schema: Any, place: str) -> None:
    with pytest.raises(ValueError, match=place.replace("$", r"\$")):
        form_of(schema)


def test_a_schema_that_leads_to_itself_ends() -> None:
    with pytest.raises(ValueError, match="neither"):
        form_of({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a", "type": "null"}}})


def test_an_answer_is_read_as_it_was_asked_for() -> None:
    schema = TypeAdapter(Form).json_schema()
    assert form_of(schema).value({"text": "hey", "age": 3.0, "score": 3.0, "mail": None}) == {"text": "hey", "age": 3, "score": 3.0}
    assert form_of({"type": "integer"}).value({"answer": 2.0}) == 2
    assert form_of({"type": "integer"}).value({"answer": 2.5}) == 2.5
    assert form_of({"type": "integer"}).value({}) is None
