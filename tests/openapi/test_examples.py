"""Examples satisfy their schema, or there are none."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from portico.openapi.examples import NoExampleError, example
from portico.openapi.schemas import definitions_of


class Endless(BaseModel):
    deeper: Endless


class Tree(BaseModel):
    children: Annotated[list[Tree], Field(max_length=4)] = []
    parent: Tree | None = None


TYPES: list[Any] = [
    bool,
    None,
    int,
    float,
    Annotated[int, Field(ge=17, multiple_of=5)],
    Annotated[int, Field(lt=-3)],
    Annotated[float, Field(gt=0, lt=0.1)],
    Annotated[float, Field(le=-0.25)],
    Annotated[str, Field(min_length=20, max_length=25)],
    Annotated[str, Field(max_length=2)],
    Annotated[str, Field(pattern=r"^\d+$")],
    Annotated[list[int], Field(min_length=3)],
    Annotated[list[int], Field(max_length=0)],
    Annotated[dict[str, int], Field(min_length=2)],
    tuple[int, str],
    set[int],
    list[list[bool]],
    int | None,
    Annotated[Annotated[str, Field(pattern="^x{40}$")] | None, Field()],
    Tree,
    AnyUrl,
]


@pytest.mark.parametrize("of", TYPES, ids=str)
def test_an_example_is_valid_for_its_type(of: Any) -> None:
    adapter = TypeAdapter[Any](of)
    schema = adapter.json_schema()

    value = example(schema, definitions_of(schema))

    adapter.validate_python(value)
    Draft202012Validator(schema).validate(value)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("of", [Endless, Annotated[str, Field(pattern="^x{40}$")], Annotated[int, Field(gt=1, lt=2)]], ids=str)
def test_where_none_is_found_there_is_none(of: Any) -> None:
    schema = TypeAdapter[Any](of).json_schema()

    with pytest.raises(NoExampleError):
        example(schema, definitions_of(schema))


def test_the_authors_example_comes_first() -> None:
    assert example({"type": "string", "examples": ["mine"], "default": "other"}, {}) == "mine"
    assert example({"type": "integer", "default": 7}, {}) == 7
