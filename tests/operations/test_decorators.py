"""The decorators: they only attach data, in any order."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import InvalidOperation
from portico.kernel.process import AgentProcess
from portico.operations.decorators import RESERVED_NAMES, contract, operation, route
from portico.operations.operation import Operation, RouteSpec


def operation_of(cls: type[AgentProcess], name: str) -> Operation:
    found = cls.operations[name]
    assert isinstance(found, Operation)
    return found


def test_a_bare_decorator_takes_name_and_description_from_the_method() -> None:
    class Agent(AgentProcess):
        @operation
        async def greet(self, name: str) -> str:
            """Greet somebody."""
            return name

    found = operation_of(Agent, "greet")
    assert (found.name, found.attribute, found.description, found.title) == ("greet", "greet", "Greet somebody.", "")
    assert (found.idempotent, found.read_only, found.destructive) == (None, None, None)
    assert found.errors == {}
    assert found.routes == []


def test_keywords_say_the_rest() -> None:
    class Agent(AgentProcess):
        @operation(
            name="hello",
            title="Hello!",
            description="Says it.",
            idempotent=False,
            read_only=True,
            destructive=False,
            errors={"nobody": 404},
        )
        async def greet(self) -> None: ...

    found = operation_of(Agent, "hello")
    assert set(Agent.operations) == {"hello"}
    assert (found.title, found.description, found.attribute) == ("Hello!", "Says it.", "greet")
    assert (found.idempotent, found.read_only, found.destructive) == (False, True, False)
    assert found.errors == {"nobody": 404}


ORDERS = [("operation", "contract", "route"), ("route", "operation", "contract"), ("contract", "route", "operation")]


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_the_decorators_does_not_matter(order: tuple[str, ...]) -> None:
    decorators = {
        "operation": operation(title="Sum"),
        "contract": contract(request=list[int], response=int),
        "route": route("post", "/sum"),
    }

    async def total(self: Any, items: Any) -> Any:
        return sum(items)

    method: Any = total
    for name in order:
        method = decorators[name](method)
    agent = type("Agent", (AgentProcess,), {"total": method})
    found = operation_of(agent, "total")
    assert (found.title, found.request, found.response) == ("Sum", list[int], int)
    assert found.routes == [RouteSpec("POST", "/sum")]


def test_a_method_may_have_several_routes() -> None:
    class Agent(AgentProcess):
        @route("GET", "/things/{thing_id}", mode="call")
        @route("POST", "/things", mode="CAST", timeout=5.0, on_disconnect="continue")
        @route("PUT", "/things/{thing_id}", durable=True)
        async def thing(self, thing_id: int) -> int:
            return thing_id

    assert operation_of(Agent, "thing").routes == [
        RouteSpec("PUT", "/things/{thing_id}", durable=True),
        RouteSpec("POST", "/things", "send", 5.0, "continue"),
        RouteSpec("GET", "/things/{thing_id}", "ask"),
    ]


def test_a_decorated_handle_is_the_message_operation() -> None:
    class Agent(AgentProcess):
        @contract(request=dict[str, int])
        async def handle(self, message: Any) -> Any:
            return message

    assert set(Agent.operations) == {"message"}


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES), "portico.start"])
def test_names_that_the_gateway_uses_are_refused(name: str) -> None:
    with pytest.raises(InvalidOperation, match=f"An operation cannot be named '{name}'"):
        operation(name=name)(test_names_that_the_gateway_uses_are_refused)


def test_a_method_with_a_reserved_name_needs_another_for_its_operation() -> None:
    with pytest.raises(InvalidOperation, match="'state'"):

        class Refused(AgentProcess):  # pyright: ignore[reportUnusedClass]
            @operation
            async def state(self) -> None: ...  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride]


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("FETCH", "/x"), {}, "A route cannot have the method 'FETCH'. Known: GET, POST, PUT, PATCH, DELETE."),
        (("GET", "x"), {}, "The path 'x' of a route must begin with '/'."),
        (("GET", "/x"), {"mode": "asc"}, "The mode 'asc' of GET /x is unknown. Did you mean 'ask'"),
        (("GET", "/x"), {"mode": "zzz"}, "The mode 'zzz' of GET /x is unknown. Known: ask, call, send, cast."),
        (("GET", "/x"), {"on_disconnect": "die"}, "on_disconnect of GET /x is 'die': it can be 'cancel' or 'continue'."),
        (("GET", "/x"), {"durable": "yes"}, "durable of GET /x is 'yes': it can be true or false."),
    ],
)
def test_routes_that_cannot_be_are_refused_with_a_sentence(arguments: Any, options: Any, sentence: str) -> None:
    with pytest.raises(InvalidOperation) as caught:
        route(*arguments, **options)
    assert str(caught.value).startswith(sentence)


def test_a_decorator_returns_the_method_itself() -> None:
    async def method(self: Any) -> None: ...

    assert route("GET", "/x")(contract(request=int)(operation(method))) is method


@pytest.mark.parametrize("key", ["interceptors", "middleware"])
def test_what_is_to_stand_around_a_route_must_be_callable(key: str) -> None:
    given: Any = {key: ["shop.audit"]}
    with pytest.raises(InvalidOperation, match=r"What stands around GET /x must be callable, and 'shop\.audit' is not"):
        route("GET", "/x", **given)
