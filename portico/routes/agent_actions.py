"""`POST /agents/{name}/suspend`, `/resume`, `/restart`, `/drain`: what an admin may do to any process of the tree.

Each may be said twice: the second changes nothing. The answer is the process as it is then. Below: the runtime, which does it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portico.errors import (
    BodyTooLarge,
    ContractViolation,
    InsufficientScope,
    LifecycleError,
    MalformedBody,
    RouteNotFound,
    StartError,
    UnknownAgent,
    UnsupportedMediaType,
)
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.mailbox import Intake
from portico.operations.contract import faults_of
from portico.routes.admin import demand_admin
from portico.routes.agents import Node
from portico.routes.audited import audited
from portico.routes.exchange import JSON, PRINCIPAL
from portico.routes.problems import documented
from portico.routes.runs import json_body
from portico.runs.audit_entry import AuditAction
from portico.runs.tree_view import TreeView, in_tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portico.kernel.mailbox import Mailbox
    from portico.routes.face import Face

LONGEST_REASON: Final = 500
"""Characters: it is shown to whoever is refused for it."""
SOON: Final = 1.0
"""Seconds that a resumed process is waited for, and the store."""
PATIENCE: Final = 60.0
"""Seconds that a restart is waited for. It goes on after that."""


class Why(BaseModel):
    """Why, for people."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "a new version comes"}]})

    reason: str = Field("", max_length=LONGEST_REASON, description="Shown to whoever is refused for it, and kept.")


_WITH_REASON: dict[str, Any] = {
    "requestBody": {"required": False, "content": {JSON.decode(): {"schema": Why.model_json_schema()}}},
}
_OF_ALL = (InsufficientScope, UnknownAgent, RouteNotFound, LifecycleError)
_OF_A_BODY = (MalformedBody, BodyTooLarge, UnsupportedMediaType, ContractViolation)
ProcessName = Annotated[str, Path(description="The name of a process, a pool or a keyed agent, exposed or not.", examples=["echo"])]


class AgentActions:
    """Does it. `face`: of which gateway."""

    def __init__(self, face: Face) -> None:
        self._dispatcher = face.dispatcher
        self._runtime = face.dispatcher.runtime
        self._body_limit = face.body_limit

    async def suspend(self, name: str, request: Request) -> Response:
        """See the route."""

        async def act(mailbox: Mailbox, reason: str) -> None:
            if mailbox.intake is not Intake.SUSPENDED:
                await self._runtime.suspend(name, reason)

        return await self._done(AuditAction.SUSPEND, name, request, act, takes_reason=True)

    async def drain(self, name: str, request: Request) -> Response:
        """See the route."""

        async def act(_: Mailbox, reason: str) -> None:
            await self._runtime.drain(name, reason)

        return await self._done(AuditAction.DRAIN, name, request, act, takes_reason=True)

    async def resume(self, name: str, request: Request) -> Response:
        """See the route."""

        async def act(mailbox: Mailbox, _: str) -> None:
            if mailbox.intake is not Intake.OPEN:
                await self._runtime.resume(name, request.scope.get(PRINCIPAL) or "")
                await self._is_back(mailbox)

        return await self._done(AuditAction.RESUME, name, request, act)

    async def restart(self, name: str, request: Request) -> Response:
        """See the route."""

        async def act(_: Mailbox, __: str) -> None:
            with suppress(TimeoutError):  # then the answer shows how far it is
                async with asyncio.timeout(PATIENCE):
                    await self._runtime.restart_agent(name)

        return await self._done(AuditAction.RESTART, name, request, act, revives=True)

    async def _is_back(self, mailbox: Mailbox) -> None:
        """Until its processes have run their `on_resume`, but not for long: that is user code."""

        def sleeps() -> bool:
            lives = [part.life for part in mailbox.parts() if part.life is not None]
            return any(life.process.status is ProcessStatus.SUSPENDED for life in lives)

        with suppress(TimeoutError):
            async with asyncio.timeout(SOON), self._runtime.subscribe("process.status") as events:
                while sleeps():
                    await anext(events)

    async def _is_kept(self) -> None:
        """Until a kill of the program would not undo it; but not for long: a store may be in trouble, and its log says so then."""
        commit = self._runtime.services.commit
        if commit is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON):
                    await commit.settled()

    async def _reason(self, request: Request) -> str:
        """Raises `BadRequest`, `ContractViolation`."""
        try:
            return Why.model_validate(await json_body(request, self._body_limit)).reason
        except ValidationError as error:
            raise ContractViolation(f"POST {request.url.path}", faults_of(error)) from None

    async def _done(
        self,
        action: AuditAction,
        name: str,
        request: Request,
        act: Callable[[Mailbox, str], Awaitable[None]],
        *,
        takes_reason: bool = False,
        revives: bool = False,
    ) -> Response:
        """Do it, and answer with the process as it is then. `revives`: also where it has ended for good.

        Raises:
            InsufficientScope, RouteNotFound: the caller is no admin.
            BadRequest, ContractViolation: what comes as the reason is none.
            UnknownAgent: there is no such process.
            LifecycleError: it takes no messages, since it is a supervisor, or has ended for good.
        """
        with audited(self._dispatcher.audit, request.scope, action, agent=name) as about:
            demand_admin(request, "What is done to an agent")
            reason = await self._reason(request) if takes_reason else ""
            if reason:
                about.details = {"reason": reason}
            in_tree(self._runtime, name)
            mailbox = self._runtime.registry.get(name)
            word = action.value.rpartition(".")[2]
            if mailbox is None:
                raise LifecycleError(f"{name!r} is a supervisor, and takes no messages: {word} what stands below it.")
            if mailbox.closed is not None and not revives:
                raise LifecycleError(f"{name!r} has ended for good, so there is nothing to {word}: {mailbox.closed}")
            about.begun = True
            await act(mailbox, reason)
            await self._is_kept()
        node = in_tree(self._runtime, name)  # a restart has put another in its place
        view = TreeView(self._runtime, self._dispatcher.catalogue, crashes=True, traceback=True)
        return Response(await view.text_of(node), media_type=JSON.decode())


def agent_actions_router(face: Face) -> APIRouter:
    """The routes. Names of MCP servers have slashes, so a name here is everything between `/agents/` and the action."""
    router = APIRouter(tags=["agents"])
    actions = AgentActions(face)

    @router.post(
        "/agents/{name:path}/suspend",
        response_model=Node,
        summary="Suspend an agent",
        operation_id="suspend_agent",
        openapi_extra=_WITH_REASON,
        responses=documented(*_OF_ALL, *_OF_A_BODY),
    )
    async def suspend(name: ProcessName, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Let it take no further message until it is resumed: asks are refused, sends wait. What it has in hand is finished.

        It stays so across restarts, and with a store across those of the program. Needs the scope `admin`; without authentication
        it is done for this machine only.
        """
        return await actions.suspend(name, request)

    @router.post(
        "/agents/{name:path}/drain",
        response_model=Node,
        summary="Drain an agent",
        operation_id="drain_agent",
        openapi_extra=_WITH_REASON,
        responses=documented(*_OF_ALL, *_OF_A_BODY),
    )
    async def drain(name: ProcessName, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Let it take no new call (`agent-draining`), and handle what waits; then it stands suspended, until it is resumed.

        `intake` of the answer says how far it is: `draining`, or `suspended`. Needs the scope `admin`, as `suspend` does.
        """
        return await actions.drain(name, request)

    @router.post(
        "/agents/{name:path}/resume",
        response_model=Node,
        summary="Resume an agent",
        operation_id="resume_agent",
        responses=documented(*_OF_ALL),
    )
    async def resume(name: ProcessName, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Let it take messages again, also while it is drained. Needs the scope `admin`, as `suspend` does."""
        return await actions.resume(name, request)

    @router.post(
        "/agents/{name:path}/restart",
        response_model=Node,
        summary="Restart an agent",
        operation_id="restart_agent",
        responses=documented(*_OF_ALL, StartError),
    )
    async def restart(name: ProcessName, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Stop it after the message in hand, and start a fresh incarnation: what waits is kept, and no restart is counted.

        One that has ended for good is started again; an MCP server is connected anew. Needs the scope `admin`, as `suspend` does.
        """
        return await actions.restart(name, request)

    return router
