"""Operations end to end: every form of signature, validated and called through the kernel."""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import anyio
import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from portico.errors import AgentCrashed, ContractViolation, InvalidOperation, InvalidReply
from portico.kernel.messages import Message
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.contract import pointer
from portico.operations.decorators import contract, operation
from portico.operations.operation import Operation

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    """Something to buy."""

    name: str = Field(min_length=1)
    count: int = 1


class Order(BaseModel):
    """Several things to buy."""

    items: list[Item]
    day: date | None = None


@dataclass
class Point:
    """A place."""

    x: int
    y: int = 0


class Pair(TypedDict):
    """Two numbers."""

    a: int
    b: int


class Colour(enum.StrEnum):
    """Two of them."""

    RED = "red"
    BLUE = "blue"


class Forms(AgentProcess):
    """One operation for every form that a signature can have."""

    @operation
    async def model(self, order: Order) -> Order:
        return order

    @operation
    async def data(self, point: Point) -> Point:
        return point

    @operation
    async def typed(self, pair: Pair) -> int:
        return pair["a"] + pair["b"]

    @operation
    async def mapping(self, payload: Mapping[str, int]) -> int:
        return sum(payload.values())

    @operation
    async def items(self, payload: list[int]) -> int:
        return sum(payload)

    @operation
    async def optional(self, item: Item | None) -> str | None:
        return item.name if item else None

    @operation
    async def annotated(self, item: Annotated[Item, Field(description="One.")]) -> str:
        return item.name

    @operation
    async def members(self, a: int, b: int = 10, *, scale: float = 1.0) -> float:
        return (a + b) * scale

    @operation
    async def word(self, text: str) -> str:
        return text.upper()

    @operation
    async def colour(self, colour: Colour) -> Colour:
        return colour

    @operation
    async def mixed(self, order: Order, note: str) -> str:
        return f"{len(order.items)} {note}"

    @operation  # pyright: ignore[reportUnknownArgumentType]  # on purpose: no type hint
    async def untyped(self, payload) -> Any:  # noqa: ANN001  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType, reportUnknownVariableType]
        return payload  # pyright: ignore[reportUnknownVariableType]

    @operation
    async def anything(self, payload: Any) -> Any:
        return payload

    @operation
    async def nothing(self) -> None:
        return None

    @operation
    async def with_context(self, a: int, ctx: Context) -> dict[str, Any]:
        return {"a": a, "attempt": ctx.attempt, "remaining": ctx.remaining() is not None, "run": ctx.run_id, "who": ctx.principal}

    @operation
    async def with_message(self, a: int, message: Message) -> str:
        return f"{a} {message.type}"

    @operation
    async def only_message(self, message: Message) -> Any:
        return message.payload

    @operation
    def blocking(self, a: int) -> bool:
        assert a
        return threading.current_thread() is threading.main_thread()

    @operation
    async def hinted(self, a: int) -> Message:
        return self.reply({"a": a}, status=201)

    @contract(request=Item, response=Item)
    async def explicit(self, anything: Any) -> Any:
        return {"name": anything.name, "count": anything.count + 1}

    @operation
    async def wrong(self) -> int:
        return "no number"  # pyright: ignore[reportReturnType]  # on purpose

    @operation
    async def broken(self) -> Item:
        item = Item(name="x")
        item.count = "many"  # pyright: ignore[reportAttributeAccessIssue]  # on purpose
        return item


CASES: list[tuple[str, Any, Any]] = [
    (
        "model",
        {"items": [{"name": "tea"}], "day": "2026-01-02"},
        {"items": [{"name": "tea", "count": 1}], "day": "2026-01-02"},
    ),
    ("data", {"x": 1}, {"x": 1, "y": 0}),
    ("typed", {"a": 1, "b": 2}, 3),
    ("mapping", {"a": 1, "b": 2}, 3),
    ("items", [1, 2, 3], 6),
    ("optional", None, None),
    ("optional", {"name": "tea"}, "tea"),
    ("annotated", {"name": "tea"}, "tea"),
    ("members", {"a": 1}, 11.0),
    ("members", {"a": 1, "b": 2, "scale": 0.5}, 1.5),
    ("word", {"text": "hello"}, "HELLO"),
    ("colour", {"colour": "red"}, "red"),
    ("mixed", {"order": {"items": []}, "note": "none"}, "0 none"),
    ("untyped", {"any": [1, None]}, {"any": [1, None]}),
    ("anything", "text", "text"),
    ("nothing", None, None),
    ("with_context", {"a": 1}, {"a": 1, "attempt": 0, "remaining": True, "run": "", "who": None}),
    ("with_message", {"a": 1}, "1 with_message"),
    ("only_message", [1], [1]),
    ("blocking", {"a": 1}, False),
    ("explicit", {"name": "tea"}, {"name": "tea", "count": 2}),
]


@pytest.mark.parametrize(("name", "payload", "expected"), CASES)
async def test_every_form_of_signature_is_called_with_what_it_wants(name: str, payload: Any, expected: Any) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Forms("f")]), strict=True) as runtime:
            assert (await runtime.ask("f", payload, message_type=name)).payload == expected


async def test_a_reply_may_be_a_message_with_hints() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Forms("f")])) as runtime:
            reply = await runtime.ask("f", {"a": 1}, message_type="hinted")
            assert (reply.payload, reply.meta) == ({"a": 1}, {"status": 201})


@pytest.mark.parametrize(
    ("name", "payload", "paths"),
    [
        ("model", {"items": [{"name": "tea"}, {"name": "", "count": "many"}]}, ["/items/1/name", "/items/1/count"]),
        ("model", {}, ["/items"]),
        ("model", "text", [""]),
        ("model", None, [""]),
        ("members", {"a": 1, "c": 3}, ["/c"]),
        ("members", {"b": 1}, ["/a"]),
        ("members", [1], [""]),
        ("mapping", {"a/b~c": "x"}, ["/a~1b~0c"]),
        ("items", {"a": 1}, [""]),
        ("colour", {"colour": "green"}, ["/colour"]),
        ("typed", {"a": 1}, ["/b"]),
    ],
)
async def test_faults_of_a_request_are_told_with_their_json_pointers(name: str, payload: Any, paths: list[str]) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Forms("f")])) as runtime:
            with pytest.raises(ContractViolation) as caught:
                await runtime.ask("f", payload, message_type=name)
            assert [fault["path"] for fault in caught.value.faults] == paths
            assert all(set(fault) == {"path", "message", "type"} for fault in caught.value.faults)
            assert caught.value.extra == {"errors": caught.value.faults}
            assert str(caught.value).startswith(f"The request to {name!r} is not valid")


class Named(BaseModel):
    """A model whose members are called otherwise outside."""

    full_name: str = Field(alias="fullName")
    since: int = Field(default=1, validation_alias="from", serialization_alias="begin")


class Registry(AgentProcess):
    """Replies with such models."""

    @operation
    async def one(self) -> Named:
        return Named(fullName="Ada")

    @operation
    async def many(self) -> list[Named]:
        return [Named(fullName="Ada")]

    @operation
    async def untyped(self):  # noqa: ANN201  # a reply that no contract describes is what is tried
        return Named(fullName="Ada")


@pytest.mark.parametrize("name", ["one", "many", "untyped"])
async def test_a_reply_has_the_names_that_its_schema_says(name: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [agent := Registry("r")])) as runtime:
            reply = (await runtime.ask("r", {}, message_type=name)).payload
    assert reply == ([{"fullName": "Ada", "begin": 1}] if name == "many" else {"fullName": "Ada", "begin": 1})
    found = agent.operations[name]
    assert isinstance(found, Operation)
    jsonschema.validate(reply, found.response_schema)


@pytest.mark.parametrize("name", ["wrong", "broken"])
async def test_a_reply_that_breaks_its_contract_is_the_agents_fault_and_no_crash(name: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Forms("f")])) as runtime:
            with pytest.raises(InvalidReply, match=f"The reply of 'f' to '{name}' broke its contract"):
                await runtime.ask("f", None, message_type=name)
            found = runtime.get_agent("f")
            assert found is not None
            assert found.id == "f#1"


async def test_a_request_validated_at_the_door_is_not_validated_again() -> None:
    item = Item(name="tea")
    from portico.kernel.delivery import Delivery

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Forms("f")])) as runtime:
            import asyncio

            future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            runtime.router.deliver(Delivery(Message("explicit", {"not": "valid"}, recipient="f", local=item), future))
            assert (await future).payload == {"name": "tea", "count": 2}


def operation_of(name: str) -> Operation:
    found = Forms.operations[name]
    assert isinstance(found, Operation)
    return found


@pytest.mark.parametrize(("name", "payload", "expected"), [case for case in CASES if case[0] not in ("only_message", "untyped")])
def test_the_exported_schemas_agree_with_what_is_accepted(name: str, payload: Any, expected: Any) -> None:
    found = operation_of(name)
    request, reply = dict(found.request_schema), dict(found.response_schema)
    for schema in (request, reply):
        jsonschema.Draft202012Validator.check_schema(schema)
    if request:
        jsonschema.validate(payload, request)
    if reply:
        jsonschema.validate(expected, reply)


def test_the_members_of_a_request_are_known_where_the_contract_names_them() -> None:
    assert operation_of("members").request_members == {"a", "b", "scale"}
    assert operation_of("model").request_members == {"items", "day"}
    assert operation_of("mapping").request_members is None
    assert operation_of("anything").request_members is None
    assert operation_of("members").request_schema["required"] == ["a"]


def test_json_pointers_escape_what_must_be_escaped() -> None:
    assert pointer(()) == ""
    assert pointer(("a", 0, "b/c", "d~e", "")) == "/a/0/b~1c/d~0e/"


async def test_types_that_are_local_to_a_function_are_found() -> None:
    class Local(BaseModel):
        n: int

    class Agent(AgentProcess):
        @operation
        async def bare(self, local: Local) -> int:
            return local.n

        @operation(title="With keywords")
        async def keywords(self, local: Local) -> int:
            return local.n

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Agent("a")])) as runtime:
            for name in ("bare", "keywords"):
                assert (await runtime.ask("a", {"n": 3}, message_type=name)).payload == 3


def defective(kind: str) -> Operation:
    class Agent(AgentProcess):
        @operation  # pyright: ignore[reportUnknownArgumentType]  # on purpose: there is no such type
        async def unresolved(self, thing: Missing) -> int:  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]
            return 1

        @operation
        async def spread(self, **members: int) -> int:
            return 1

        @operation
        async def star(self, *members: int) -> int:
            return 1

        @operation
        async def positional(self, a: int, b: int, /) -> int:
            return a + b

        @operation
        async def uncompilable(self, things: dict[str, threading.Lock]) -> int:
            return 1

        @operation
        async def hidden(self, _private: int, a: int) -> int:
            return a

    found = Agent.operations[kind]
    assert isinstance(found, Operation)
    return found


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("unresolved", "A type hint of .*unresolved cannot be resolved: name 'Missing' is not defined"),
        ("spread", r"spread takes \*\*members: 'int': the members of a request need names"),
        ("star", r"star takes \*members: 'int': the members of a request need names"),
        ("positional", "positional takes a: 'int': the members of a request need names"),
        ("uncompilable", "The contract of 'uncompilable' cannot be compiled"),
        ("hidden", "hidden takes _private: 'int': the members of a request need names, and none begins with '_'"),
    ],
)
def test_methods_that_cannot_become_operations_are_refused_with_their_place(kind: str, sentence: str) -> None:
    with pytest.raises(InvalidOperation, match=sentence):
        _ = defective(kind).contract


async def test_names_that_pydantic_uses_itself_can_be_members_too() -> None:
    class Agent(AgentProcess):
        @operation
        async def call(self, model_name: str, a: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            return f"{model_name} {a}"

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Agent("a")])) as runtime:
            assert (await runtime.ask("a", {"model_name": "m", "a": 1}, message_type="call")).payload == "m 1"


async def test_an_exception_of_a_blocking_method_is_a_crash_as_any_other() -> None:
    class Agent(AgentProcess):
        @operation(idempotent=False)
        def divide(self, a: int, b: int) -> float:
            return a / b

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Agent("a")], backoff_base=0.0)) as runtime:
            with pytest.raises(AgentCrashed, match="ZeroDivisionError"):
                await runtime.ask("a", {"a": 1, "b": 0}, message_type="divide")


def test_importing_operations_does_not_import_pydantic() -> None:
    import subprocess
    import sys

    program = "import sys, portico.operations.decorators, portico.kernel.runtime; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
