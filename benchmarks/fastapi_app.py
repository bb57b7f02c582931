"""For comparison: a plain FastAPI endpoint with the same models."""

from __future__ import annotations

from contracts import EchoReply, EchoRequest
from fastapi import FastAPI

app = FastAPI()


@app.post("/agents/echo")
async def echo(request: EchoRequest) -> EchoReply:
    """Answer."""
    return EchoReply(echo=request.text)
