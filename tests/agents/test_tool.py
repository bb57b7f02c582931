from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from portico.agents.tool import Tool, openai_form, tool, tools_of
from portico.errors import AgentError, ConfigurationError, ToolError
from portico.kernel.context import MessageContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.protocols import Context

pytestmark = pytest.mark.anyio


def add(a: int, b: Annotated[int, Field(ge=0, description="What to add.")] = 0) -> int:
    """Adds two numbers."""
    return a + b


class Place(BaseModel):
    city: str


@dataclass
class Weather:
    day: date
    degrees: float


async def failure(function: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        await Tool.from_function(function).execute(**arguments)
    return str(caught.value)


# --- reading a function -----------------------------------------------------------------------------------------------


def test_name_description_and_schema_come_from_the_function() -> None:
    made = Tool.from_function(add)
    assert (made.name, made.description) == ("add", "Adds two numbers.")
    assert made.input_schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "integer", "minimum": 0, "description": "What to add.", "default": 0},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_name_and_description_can_be_given() -> None:
    made = Tool.from_function(add, name="plus", description="Plus.")
    assert openai_form(made, "plus_1")["function"]["name"] == "plus_1"
    assert openai_form(made) == {
        "type": "function",
        "function": {"name": "plus", "description": "Plus.", "parameters": made.input_schema},
    }


async def test_parameters_may_have_names_that_pydantic_keeps_for_itself() -> None:
    def odd(schema: str, model_config: int, _x: bool, self_: int = 1, self: int = 2) -> list[Any]:  # noqa: FBT001
        return [schema, model_config, _x, self_, self]

    made = Tool.from_function(odd)
    assert list(made.input_schema["properties"]) == ["schema", "model_config", "_x", "self_", "self"]
    assert await made.execute(schema="s", model_config=1, _x=True, self=3) == ["s", 1, True, 1, 3]


async def test_a_default_may_be_a_pydantic_field() -> None:
    def top(n: int = Field(default=3, le=5)) -> int:
        return n

    made = Tool.from_function(top)
    assert made.input_schema["properties"]["n"] == {"type": "integer", "default": 3, "maximum": 5}
    assert await made.execute() == 3


async def test_a_parameter_without_a_hint_takes_anything() -> None:
    def pair(a: int, b: int = 1) -> list[int]:
        return [a, b]

    pair.__annotations__.clear()
    assert await Tool.from_function(pair).execute(a={"x": 1}) == [{"x": 1}, 1]


def positional(a: int, /) -> int:
    return a


def several(*a: int) -> int:
    return sum(a)


def unresolved(a: int) -> int:
    return a


unresolved.__annotations__["a"] = "Nowhere"


def schemaless(a: threading.Thread) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (positional, "'positional' cannot be a tool: its parameter 'a' cannot be given by name."),
        (several, "'several' cannot be a tool: its parameter 'a' cannot be given by name."),
        (unresolved, "'unresolved' cannot be a tool: a type hint cannot be resolved: name 'Nowhere' is not defined"),
        (schemaless, "'schemaless' cannot be a tool: its parameters have no JSON Schema: "),
        (Place, "cannot be a tool: it is not a function. Wrap it in one."),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_when_it_is_made(function: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tool.from_function(function)
    assert sentence in str(caught.value)


# --- calling it -------------------------------------------------------------------------------------------------------


async def test_arguments_are_checked_and_come_as_the_types_of_the_hints() -> None:
    async def of(place: Place, day: date) -> str:
        return f"{place.city} {day.year}"

    assert await Tool.from_function(of).execute(place={"city": "Bonn"}, day="2026-11-21") == "Bonn 2026"


async def test_the_faults_of_the_arguments_are_all_told() -> None:
    assert await failure(add, b=-1, c=1) == (
        "The arguments of 'add' are not valid: a: Field required; b: Input should be greater than or equal to 0; "
        "c: there is no such argument."
    )


async def test_a_misspelt_argument_is_told_with_the_nearest() -> None:
    def read(path: str = "") -> str:
        return path

    assert await failure(read, pathh="x") == (
        "The arguments of 'read' are not valid: pathh: there is no such argument. Did you mean 'path'."
    )


async def test_a_blocking_function_runs_in_a_thread_and_others_go_on() -> None:
    inside, outside = threading.Event(), threading.Event()

    def block() -> bool:
        inside.set()
        return outside.wait(10)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(Tool.from_function(block).execute())
        assert await asyncio.to_thread(inside.wait, 10)
        outside.set()
    assert task.result() is True


async def test_an_async_function_runs_on_the_event_loop() -> None:
    async def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert await Tool.from_function(where).execute() is True


async def test_the_context_is_handed_in_and_not_shown() -> None:
    def who(name: str, ctx: Context) -> list[Any]:
        return [name, ctx is given]

    given = MessageContext()
    made = Tool.from_function(who)
    assert list(made.input_schema["properties"]) == ["name"]
    assert await made.call({"name": "x"}, given) == ["x", True]
    with pytest.raises(ToolError, match="ctx: there is no such argument"):
        await made.call({"name": "x", "ctx": 1}, given)


async def test_a_result_is_plain_json_data() -> None:
    def weather() -> dict[str, Any]:
        return {"now": Weather(date(2026, 11, 21), math.nan), "in": (Place(city="Bonn"),), "raw": b"\xff"}

    assert await Tool.from_function(weather).execute() == {
        "now": {"day": "2026-11-21", "degrees": None},
        "in": [{"city": "Bonn"}],
        "raw": "_w==",
    }


async def test_a_result_that_is_not_json_able_is_an_error_and_not_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    def thread() -> Any:
        return threading.Event()

    def circle() -> Any:
        items: list[Any] = []
        items.append(items)
        return items

    assert await failure(thread) == "The tool 'thread' gave a result that is not JSON-able: Event."
    assert await failure(circle) == "The tool 'circle' gave a result that is not JSON-able: list."
    assert "not JSON-able" in caplog.text


async def test_what_is_raised_for_a_reader_is_told_and_what_is_not_is_only_named(caplog: pytest.LogCaptureFixture) -> None:
    def raising(kind: str) -> None:
        raise {"tool": ToolError("Read it."), "agent": AgentError("x", "Sold out."), "value": ValueError("too big")}.get(
            kind, KeyError("secret")
        )

    assert await failure(raising, kind="tool") == "Read it."
    assert await failure(raising, kind="agent") == "The tool 'raising' failed: Sold out."
    assert await failure(raising, kind="value") == "The tool 'raising' failed: too big"
    assert await failure(raising, kind="other") == "The tool 'raising' failed: KeyError."
    assert "secret" in caplog.text


# --- methods ----------------------------------------------------------------------------------------------------------


class Base:
    def __init__(self) -> None:
        self.factor = 3

    @tool
    def times(self, a: int) -> int:
        """Multiplies."""
        return a * self.factor

    @tool(name="minus", description="Takes away.")
    async def subtract(self, a: int) -> int:
        return a - self.factor

    def plain(self) -> None: ...


class Derived(Base):
    def times(self, a: int) -> int:
        return 0


async def test_marked_methods_are_tools_bound_to_their_owner() -> None:
    times, minus = tools_of(Base())
    assert (times.name, times.description, list(times.input_schema["properties"])) == ("times", "Multiplies.", ["a"])
    assert (minus.name, minus.description) == ("minus", "Takes away.")
    assert (await times.execute(a=2), await minus.execute(a=2)) == (6, -1)


def test_a_method_that_is_overridden_without_the_mark_is_no_tool() -> None:
    assert [one.name for one in tools_of(Derived())] == ["minus"]
