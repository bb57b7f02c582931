"""Agents whose traces tests look at."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretStr

from portico.agents.model_agent import ModelAgent
from portico.agents.tool import tool
from portico.errors import AgentError, ToolError
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context  # so do these
from portico.operations.decorators import operation


class Clever(ModelAgent):
    """Asks another agent by a tool of its own."""

    @tool
    async def near(self, marker: str) -> Any:
        """Ask the one behind."""
        return (await self.ask("back", {"marker": marker})).payload

    @tool
    async def broken(self) -> str:
        """Fails."""
        raise ToolError("It does not work.")


class Back(AgentProcess):
    """Answers with the trace that reached it."""

    @operation
    async def message(self, message: Message) -> Any:
        """Answer."""
        return {"traceparent": message.traceparent, **message.payload}


class Kept(AgentProcess):
    """Has one process per session."""

    @operation
    async def message(self, session: str) -> str:
        """Answer."""
        return session


class Greeter(AgentProcess):
    """Has one process per session, calls a model when it starts, and asks another agent."""

    async def on_start(self) -> None:
        """Ask the model."""
        await self.llm.chat("", [{"role": "user", "content": "Hello"}])

    @operation
    async def message(self, session: str) -> Any:
        """Ask on."""
        await self.llm.chat("", [{"role": "user", "content": "Hello"}])
        return (await self.ask("back", {"marker": len(session)})).payload


class Front(AgentProcess):
    """Asks another agent."""

    @operation
    async def relay(self, marker: str) -> Any:
        """Ask on."""
        return (await self.ask("back", {"marker": marker})).payload


class Flaky(AgentProcess):
    """Crashes on the first attempt."""

    @operation
    async def message(self, message: Message) -> str:
        """Answer the second time."""
        if message.attempt == 0:
            raise ValueError("worn out")
        return "done"


class Waiting(AgentProcess):
    """Waits for somebody."""

    @operation
    async def message(self, ctx: Context) -> str:
        """Ask for a word."""
        return f"You said {await ctx.wait_input('Say something', str)}"


class Passing(ModelAgent):
    """Lets others go on: by itself, and in a tool."""

    @operation
    async def onward(self, ctx: Context, marker: str) -> Any:
        """Pass it on."""
        ctx.transfer("back", {"marker": marker})

    @tool
    async def passed(self, ctx: Context, marker: str) -> Any:
        """Pass it on."""
        ctx.transfer("back", {"marker": marker})


class Credentials(BaseModel):
    """A request with a secret."""

    user: str
    password: SecretStr


class Careless(AgentProcess):
    """Says its caller's secret in what it raises, and much more."""

    @operation
    async def login(self, request: Credentials) -> str:
        """Crash with everything."""
        raise ValueError(f"{'x' * 1_000_000} {request.password.get_secret_value()} Authorization: Bearer abcdef.ghijkl")

    @operation
    async def refuse(self, request: Credentials) -> str:
        """Refuse with everything."""
        raise AgentError("refused", f"no entry with {request.password.get_secret_value()}", status=503)


class Vault(ModelAgent):
    """Its tool is given a secret by the model."""

    @tool
    async def unlock(self, code: SecretStr) -> str:
        """Unlock."""
        raise ToolError(f"{code.get_secret_value()} does not fit.")


class Confidential(AgentProcess):
    """Says its caller's secret to a model."""

    @operation
    async def login(self, request: Credentials) -> str:
        """Ask the model with everything."""
        said = f"I am {request.user}, my password is {request.password.get_secret_value()}"
        messages = [{"role": "system", "content": "Be discreet."}, {"role": "user", "content": said}]
        return (await self.llm.chat("", messages)).content
