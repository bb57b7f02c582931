"""The gateway: a supervised agent behind a route with a contract."""

from __future__ import annotations

from contracts import EchoReply, EchoRequest

from portico import AgentProcess, GatewayConfig, Runtime, Supervisor, create_app, operation


class Echo(AgentProcess):
    """Answers with what it is told."""

    @operation
    async def echo(self, request: EchoRequest) -> EchoReply:
        """Answer."""
        return EchoReply(echo=request.text)


app = create_app(Runtime(Supervisor("root", [Echo("echo")])), GatewayConfig())
"""The application as it comes; everything on its default."""
