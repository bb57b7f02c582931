"""The contract and the agent of the HTTP benchmark; the FastAPI endpoint has the same models."""

from __future__ import annotations

from pydantic import BaseModel

from portico import AgentProcess, operation


class EchoRequest(BaseModel):
    """What is asked."""

    text: str


class EchoReply(BaseModel):
    """What is answered."""

    echo: str


class Echo(AgentProcess):
    """Answers with what it is told."""

    @operation
    async def echo(self, request: EchoRequest) -> EchoReply:
        """Answer."""
        return EchoReply(echo=request.text)
