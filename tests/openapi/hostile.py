"""Agents whose contracts use all that JSON Schema, paths and queries have: what a description easily gets wrong."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta  # type hints become contracts
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AnyUrl, BaseModel, ConfigDict, Field

from portico.kernel.keyed import keyed
from portico.kernel.messages import Message  # noqa: TC001
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route
from portico.topology.runtime import Runtime


class Colour(StrEnum):
    RED = "red"
    DEEP_BLUE = "deep blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    street: Annotated[str, Field(min_length=1, max_length=40)]
    number: Annotated[int, Field(ge=1, le=9999)] | None = None


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0, le=1000)]


class Box(BaseModel):
    kind: Literal["box"]
    sides: tuple[int, int]
    holds: list[Shape] = Field([], max_length=3)


Shape = Annotated[Circle | Box, Field(discriminator="kind")]


class Order(BaseModel):
    """Everything at once."""

    model_config = ConfigDict(populate_by_name=True)

    lines: list[Annotated[int, Field(ge=0, le=100)]] = Field(min_length=1, max_length=5)
    colour: Colour
    size: Size = Size.SMALL
    at: datetime
    day: date | None = None
    clock: time | None = None
    within: timedelta | None = None
    id: UUID
    link: AnyUrl | None = None
    places: dict[str, Place] = {}
    either: int | str | bool | None = None
    shape: Shape
    tags: set[Colour] = set()
    from_: str = Field("", alias="from")


class Order_(BaseModel):  # noqa: N801  # a name that generators must bend
    order: Order
    note: str | None


class Exact(BaseModel):
    """What is read to the letter: `true` is no number here, and `1` is no text."""

    model_config = ConfigDict(strict=True, extra="forbid")

    lines: list[Annotated[int, Field(ge=0, le=100)]] = Field(min_length=1, max_length=5)
    name: Annotated[str, Field(min_length=1, max_length=8)]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    loud: bool = False
    level: Literal["low", "high"] | None = None
    places: dict[str, bool] = {}


class Shop(AgentProcess):
    """Takes orders."""

    @operation(errors={"sold-out": 409})
    async def order(self, request: Order) -> Order_:
        """Give an order back."""
        return Order_(order=request, note=None)

    @route("PUT", "/painted/{colour}/{day}")
    @operation
    async def paint(self, colour: Colour, day: date, layers: Annotated[int, Field(ge=1, le=9)] = 1) -> list[str]:
        """Paint on a day."""
        return [f"{colour} {day}"] * layers

    @route("GET", "/shop/find")
    @operation(read_only=True)
    async def find(
        self,
        words: list[str],
        after: datetime | None = None,
        sizes: list[Size] | None = None,
        most: Annotated[int, Field(ge=1, le=50)] = 10,
        exact: bool = False,  # noqa: FBT001, FBT002  # a query parameter
        colour: Colour | None = None,
        share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> dict[str, Any]:
        """Find things."""
        return {
            "words": words,
            "after": after.isoformat() if after else None,
            "sizes": sizes,
            "most": most,
            "exact": exact,
            "at": share,
            "c": colour,
        }

    @route("DELETE", "/shop/things/{number}")
    @operation
    async def remove(self, number: Annotated[int, Field(ge=1)]) -> None:
        """Remove a thing."""

    @route("POST", "/shop/log/{rest:path}", mode="send")
    @operation
    async def log(self, rest: str, line: str, level: Literal["low", "high"] = "low") -> None:
        """Write a line down."""

    @operation
    async def exact(self, request: Exact) -> Exact:
        """Give back what was read to the letter."""
        return request

    @operation
    async def raw(self, name: str) -> bytes:
        """Bytes."""
        return name.encode()

    @operation
    async def keep(self, content: bytes) -> int:
        """Take bytes as text."""
        return len(content)

    @operation
    async def shape(self, request: Shape) -> Circle | Box | None:
        """A union alone."""
        return request

    @operation
    async def many(self, request: list[Place]) -> list[Place]:
        """A list alone."""
        return request


class Session(AgentProcess):
    """Remembers what one caller said."""

    @operation
    async def say(self, session_id: Annotated[str, Field(min_length=1, max_length=20)], text: str = "") -> list[str]:
        """Say something, and hear all that was said."""
        self.state.setdefault("said", []).append(text)
        return self.state["said"][-3:]


class Anything(AgentProcess):
    """Takes whatever there is."""

    async def handle(self, message: Message) -> Message | None:
        """Give it back."""
        return self.reply(message.payload)


def runtime() -> Runtime:
    """A runtime of them all."""
    session = keyed(Session, per_key="session_id", name="session")
    shop, anything = Shop("shop"), Anything("any.thing")
    for agent in (shop, session.template, anything):
        agent.expose = True
    return Runtime(supervisor=Supervisor("root", [shop, session, anything]))
