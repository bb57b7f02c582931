"""Agents of every kind of contract, and the document of a gateway that serves them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model, model_validator

from portico.kernel.genserver import GenServer
from portico.kernel.messages import Message  # noqa: TC001  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.openapi.document import build_document
from portico.operations.catalogue import Catalogue
from portico.operations.decorators import contract, operation, route, route_spec

STATUSES = {
    "malformed-body": 400,
    "unauthenticated": 401,
    "agent-not-found": 404,
    "run-not-found": 404,
    "not-acceptable": 406,
    "wrong-state": 409,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "contract-violated": 422,
    "crash-budget-spent": 429,
    "internal-error": 500,
    "agent-crashed": 502,
    "mailbox-full": 503,
    "deadline-exceeded": 504,
}


class Tone(StrEnum):
    DRY = "dry"
    WARM = "warm"


class Turn(BaseModel):
    role: Literal["user", "assistant"]
    text: str = Field(min_length=1)
    at: datetime | None = None


class ChatRequest(BaseModel):
    """What the user says."""

    session_id: str = Field(description="Which conversation.", examples=["s-1"])
    turns: list[Turn] = Field(min_length=1)
    tone: Tone = Tone.DRY
    weights: dict[str, float] = {}


class ChatResponse(BaseModel):
    text: str
    history: list[Turn]


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Echo(AgentProcess):
    """Says what it hears."""

    async def handle(self, message: Message) -> Message | None:
        return self.reply(message.payload)


class Assistant(AgentProcess):
    @operation(title="Chat", errors={"out-of-words": 418, "busy": 409})
    @route("POST", "/chat/{session_id}")
    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer the user. Remembers the conversation."""
        return ChatResponse(text=request.turns[-1].text, history=request.turns)

    @route("GET", "/chat/{session_id}/search")
    async def search(self, session_id: str, words: list[str], limit: Annotated[int, Field(ge=1)] = 10) -> list[str]:
        """Search a conversation."""
        return [session_id, *words][:limit]

    @route("DELETE", "/chat/{id}")
    async def forget(self, id: str) -> None:  # noqa: A002  # another name at the same place than the route above
        """Forget a conversation."""

    @route("POST", "/log/{rest:path}", mode="send")
    async def log(self, rest: str, line: str) -> None:
        """Write a line down."""


class Zoo(AgentProcess):
    @contract(request=Pet, response=Pet)
    async def pet(self, request: Any) -> Any:
        return request

    @operation
    async def answer(self, question: Question) -> str:
        return question.text or ""

    @operation
    async def grow(self, root: Node) -> Node:
        """Add a child."""
        return root

    @operation
    async def measure(
        self, share: Annotated[float, Field(gt=0, lt=1)], code: Annotated[str, Field(pattern="^[A-Z]{3}-[0-9]{7}$")]
    ) -> float:
        return share + len(code)


class Question(BaseModel):
    """One of both, which the schema cannot say."""

    text: str | None = None
    spoken: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Question:
        if self.text is None and self.spoken is None:
            raise ValueError("ask something")
        return self


Step = create_model("Turn", by=(int, Field(multiple_of=5, gt=5)))
"""Another model of the same name as one of the assistant's."""


class Counter(GenServer):
    @contract(request=Step)
    async def add(self, turn: Any) -> int:
        return turn.by


def catalogue() -> Catalogue:
    agents: list[AgentProcess] = [Echo("echo"), Assistant("assistant"), Zoo("zoo"), Counter("counter 1")]
    for agent in agents:
        agent.expose = True
    return Catalogue(agents, [(route_spec("PUT", "/say/{word}"), "echo", None)])


def base() -> dict[str, Any]:
    """What FastAPI says of its own routes."""
    app = FastAPI(title="not this")

    async def run(run_id: str, wait: float = 0) -> dict[str, Any]:
        return {"run_id": run_id, "wait": wait}

    async def status(name: str) -> dict[str, Any]:
        return {"name": name}

    app.get("/runs/{run_id}", tags=["runs"])(run)
    app.get("/agents/{name}", tags=["agents"])(status)
    return app.openapi()


def document(*, secured: bool = True) -> dict[str, Any]:
    return build_document(catalogue(), title="T", version="1", base=base(), statuses=STATUSES, secured=secured)
