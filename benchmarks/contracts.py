"""The same contract three times: on the bare application there is none, on FastAPI and on Portico there are these models."""

from __future__ import annotations

from pydantic import BaseModel


class EchoRequest(BaseModel):
    """What is asked."""

    text: str


class EchoReply(BaseModel):
    """What is answered."""

    echo: str
