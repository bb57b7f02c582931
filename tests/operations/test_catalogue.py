"""The catalogue: what is served to the outside, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import UnknownAgent, UnknownOperation
from portico.kernel.genserver import GenServer
from portico.kernel.process import AgentProcess
from portico.operations.catalogue import Catalogue
from portico.operations.decorators import operation, route, route_spec


class Plain(AgentProcess):
    """Answers anything."""

    async def handle(self, message: Any) -> Any:
        return message.payload


class Server(GenServer):
    """Counts."""

    async def handle_call(self, payload: Any, from_: Any) -> Any:
        del from_
        return payload


class Calculator(AgentProcess):
    """Calculates."""

    @operation
    async def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @operation(description="Multiply two numbers.")
    async def multiply(self, a: int, b: int) -> int:
        return a * b


class Routed(AgentProcess):
    """Has a route."""

    @route("GET", "/hello/{name}")
    async def hello(self, name: str) -> str:
        return name


class Inside(Plain):
    """The gateway's own."""

    internal = True


class Silent(AgentProcess):
    """Takes nothing."""


def shown(catalogue: Catalogue) -> list[tuple[str, str, str]]:
    return [(endpoint.agent, endpoint.operation.name, endpoint.path) for endpoint in catalogue]


def test_without_routes_every_plain_agent_is_exposed_but_those_that_say_no() -> None:
    catalogue = Catalogue([Plain("echo"), Calculator("calc"), Plain("secret", expose=False), Inside("gateway"), Silent("silent")])
    assert shown(catalogue) == [
        ("echo", "message", "/agents/echo"),
        ("calc", "add", "/agents/calc/add"),
        ("calc", "multiply", "/agents/calc/multiply"),
    ]
    assert catalogue.has("echo")
    assert not catalogue.has("secret")
    assert not catalogue.has("gateway")


def test_with_a_declared_route_only_those_are_exposed_that_say_so() -> None:
    catalogue = Catalogue([Plain("echo"), Plain("open", expose=True), Routed("routed"), Inside("gateway", expose=True)])
    assert shown(catalogue) == [("open", "message", "/agents/open")]
    assert [(spec.path, endpoint.agent) for spec, endpoint in catalogue.routes] == [("/hello/{name}", "routed")]


def test_a_route_declared_outside_the_class_counts_as_well() -> None:
    spec = route_spec("POST", "/sum")
    catalogue = Catalogue([Calculator("calc"), Plain("echo")], [(spec, "calc", "add")])
    assert shown(catalogue) == []
    assert [(found.path, endpoint.operation.name) for found, endpoint in catalogue.routes] == [("/sum", "add")]


def test_a_route_that_leads_nowhere_is_refused_with_the_nearest() -> None:
    spec = route_spec("POST", "/sum")
    with pytest.raises(UnknownAgent, match="Did you mean 'calc'"):
        Catalogue([Calculator("calc")], [(spec, "calk", None)])
    with pytest.raises(UnknownOperation, match=r"has no operation 'ad'\. Did you mean 'add'"):
        Catalogue([Calculator("calc")], [(spec, "calc", "ad")])
    with pytest.raises(UnknownOperation):  # it has two, and no bare handle
        Catalogue([Calculator("calc")], [(spec, "calc", None)])


def test_an_endpoint_is_found_by_agent_and_operation_and_alone_by_its_agent() -> None:
    catalogue = Catalogue([Plain("echo"), Calculator("calc"), Plain("secret", expose=False)])
    assert catalogue.find("echo").operation.name == "message"
    assert catalogue.find("echo", "message").sole
    assert catalogue.find("calc", "add").operation.name == "add"
    with pytest.raises(UnknownOperation, match="has no operation 'message'"):
        catalogue.find("calc")
    with pytest.raises(UnknownAgent) as hidden:
        catalogue.find("secret")
    with pytest.raises(UnknownAgent) as missing:
        catalogue.find("sekret")
    assert hidden.value.nearest == missing.value.nearest == []  # the outside cannot tell


def test_an_agent_with_operations_and_a_handle_of_its_own_has_both() -> None:
    class Both(Calculator):
        async def handle(self, message: Any) -> Any:
            return message.payload

    catalogue = Catalogue([Both("both")])
    assert [endpoint.operation.name for endpoint in catalogue] == ["add", "multiply", "message"]
    assert catalogue.find("both").operation.name == "message"
    assert catalogue.find("both").path == "/agents/both/message"


def test_a_gen_server_is_asked_by_a_bare_message() -> None:
    assert shown(Catalogue([Server("counter")])) == [("counter", "message", "/agents/counter")]


def test_a_gen_server_that_nobody_wrote_a_call_or_a_cast_for_has_its_operations_alone() -> None:
    class Typed(GenServer):
        @operation
        async def add(self, a: int, b: int) -> int:
            return a + b

    class Told(Typed):
        async def handle_cast(self, payload: Any) -> None:
            del payload

    class Deaf(GenServer):
        async def handle_info(self, payload: Any) -> None:
            del payload

    assert shown(Catalogue([Typed("typed"), Told("told"), Deaf("deaf")])) == [
        ("typed", "add", "/agents/typed"),
        ("told", "add", "/agents/told/add"),
        ("told", "message", "/agents/told/message"),
    ]


def test_descriptions_come_from_the_topology_the_decorator_or_the_docstring() -> None:
    catalogue = Catalogue([Plain("echo"), Plain("told").adjust(description="As told."), Calculator("calc")])
    assert [endpoint.description for endpoint in catalogue] == [
        "Answers anything.",
        "As told.",
        "Add two numbers.",
        "Multiply two numbers.",
    ]


def test_tools_have_names_that_model_apis_take_and_no_two_the_same() -> None:
    names = ["a.b", "a_b", "a/b", "x" * 70, "x" * 71]
    catalogue = Catalogue([*(Plain(name) for name in names), Calculator("calc"), Plain("calc-add")])
    assert list(catalogue.tools) == [
        "a_b-1e9c6d01",
        "a_b",
        "a_b-d8b3ab9e",
        "x" * 55 + "-8fc6d96d",
        "x" * 55 + "-27417059",
        "calc-add",
        "calc-multiply",
        "calc-add-8c9fc46f",
    ]
    assert [endpoint.agent for endpoint in catalogue.tools.values()] == [*names, "calc", "calc", "calc-add"]


def test_the_name_of_a_tool_does_not_depend_on_the_order_of_agents() -> None:
    agents = [Plain("a.b"), Plain("a_b"), Plain("a/b"), Calculator("calc"), Plain("calc-add")]
    tools, others = Catalogue(agents).tools, Catalogue(agents[::-1]).tools
    assert {name: endpoint.agent for name, endpoint in tools.items()} == {name: endpoint.agent for name, endpoint in others.items()}


def test_the_endpoint_of_a_route_is_a_tool_once_also_where_its_agent_is_exposed() -> None:
    class Twice(AgentProcess):
        @route("GET", "/one")
        @route("GET", "/two")
        async def both(self) -> int:
            return 1

    assert list(Catalogue([Twice("t", expose=True)]).tools) == ["t"]
    assert list(Catalogue([Twice("t"), Routed("r")]).tools) == ["t", "r"]
