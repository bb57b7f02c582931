"""`@resource` and `@prompt`: what can be declared, and what is refused before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portico.errors import InvalidOperation, UnknownOperation
from portico.kernel.process import AgentProcess
from portico.operations.catalogue import Catalogue, check_completers
from portico.operations.decorators import operation, prompt, resource

if TYPE_CHECKING:
    from portico.operations.operation import Operation


class Mixed(AgentProcess):
    """Has one of each."""

    @operation
    async def add(self, a: int) -> int:
        """Add."""
        return a

    @resource("notes://{topic}")
    async def note(self, topic: str) -> str:
        """A note."""
        return topic

    @prompt
    async def greet(self, name: str) -> str:
        """Words."""
        return name


def declared(uri: Any, function: Any) -> Operation:
    """The operation of an agent that has only this."""
    kind = type("Agent", (AgentProcess,), {function.__name__: resource(uri)(function)})
    return kind.operations[function.__name__]  # pyright: ignore[reportReturnType]


def test_what_is_read_and_what_gives_words_are_no_tools_and_rename_none() -> None:
    catalogue = Catalogue([Mixed("mixed")])
    assert {name: one.path for name, one in catalogue.tools.items()} == {"mixed": "/agents/mixed"}
    assert {uri: one.path for uri, one in catalogue.resources.items()} == {"notes://{topic}": "/agents/mixed/note"}
    assert {name: one.path for name, one in catalogue.prompts.items()} == {"greet": "/agents/mixed/greet"}
    assert catalogue.find("mixed").operation.name == "add"
    assert [one.description for one in catalogue] == ["Add.", "A note.", "Words."]


def test_an_agent_that_only_has_something_to_read_is_found_under_its_name_where_it_is_one_thing() -> None:
    class One(AgentProcess):
        @resource("one://a")
        async def a(self) -> str:
            return "a"

    class Two(One):
        @resource("one://b")
        async def b(self) -> str:
            return "b"

    catalogue = Catalogue([One("one"), Two("two")])
    assert catalogue.find("one").path == "/agents/one"
    assert catalogue.tools == {}
    assert catalogue.resources["one://a"].agent == "one", "the first in tree order"
    with pytest.raises(UnknownOperation):
        catalogue.find("two")


def test_what_is_read_changes_nothing_unless_it_says_so() -> None:
    assert [one.operation.read_only for one in Catalogue([Mixed("mixed")])] == [None, True, None]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("notes", "must be a URI"),
        ("notes://a b", "must be a URI"),
        (3, "must be a URI"),
        ("portico://mine", "the gateway's own"),
        ("PORTICO://mine", "the gateway's own"),
        ("notes://{", "no template"),
        ("notes://{topic*}", "no template"),
        ("notes://{a:3}", "no template"),
        ("notes://{a}/{a}", "'a' twice"),
        ("notes://{a}{b}", "ambiguous"),
        ("notes://{+a}/{+b}", "ambiguous"),
    ],
)
def test_an_address_that_nobody_could_read_is_refused(uri: Any, why: str) -> None:
    with pytest.raises(InvalidOperation, match=why):
        resource(uri)


def test_the_variables_of_an_address_are_what_the_method_takes() -> None:
    async def note(self: Any, topic: str, page: int = 1) -> str:
        return topic

    declared("notes://{topic}", note).prepare()
    declared("notes://{topic}{?page}", note).prepare()


@pytest.mark.parametrize(
    ("uri", "why"),
    [("notes://all", "needs 'topic', which its address"), ("notes://{topic}/{part}", "does not take 'part'")],
)
def test_an_address_that_does_not_fit_its_method_is_refused(uri: str, why: str) -> None:
    async def note(self: Any, topic: str, page: int = 1) -> str:
        return topic

    with pytest.raises(InvalidOperation, match=why):
        declared(uri, note).prepare()


def test_an_argument_is_completed_by_an_operation_that_there_is() -> None:
    class Asks(AgentProcess):
        @prompt(complete={"city": "cites"})
        async def travel(self, city: str) -> str:
            return city

        @operation
        async def cities(self, value: str) -> list[str]:
            return [value]

    with pytest.raises(
        InvalidOperation, match=r"'travel' of 'asks' is completed by 'cites', which it has not. Did you mean 'cities'"
    ):
        check_completers(Asks("asks"))


def test_what_is_completed_is_something_that_the_method_takes() -> None:
    class Asks(AgentProcess):
        @prompt(complete={"town": "cities"})
        async def travel(self, city: str) -> str:
            return city

    operation = Asks.operations["travel"]
    with pytest.raises(InvalidOperation, match="does not take 'town'"):
        operation.prepare()
