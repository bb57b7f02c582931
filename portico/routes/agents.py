"""`/agents`: the tree, an agent's status and its state. Asks and sends to agents are in the compiled table, not here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Match

from portico.errors import InsufficientScope, RouteNotFound, UnknownAgent, UnknownOperation, nearest
from portico.kernel.memory import copied
from portico.kernel.messages import DEFAULT_TYPE
from portico.routes.admin import demand_admin, may_admin
from portico.routes.audited import audited
from portico.routes.exchange import JSON
from portico.routes.problems import documented
from portico.runs.audit_entry import AuditAction
from portico.runs.tree_view import TreeView, exposed, in_tree

if TYPE_CHECKING:
    from starlette.types import Scope

    from portico.errors import PorticoError
    from portico.operations.catalogue import Catalogue
    from portico.routes.face import Face

_OPERATION: Final = re.compile(
    r"/agents/(?P<name>[^/]+)(?:/(?!(?:cast|state|suspend|resume|restart|drain)$)(?P<operation>[^/]+))?(?P<cast>/cast)?"
)


class MailboxView(BaseModel):
    """What waits for an agent."""

    depth: int = Field(description="How many messages wait.")
    size: int | None = Field(description="How many may wait; null for any number.")
    expired: int = Field(description="How many were not handled in time.")


class OperationView(BaseModel):
    """What an agent can be asked."""

    name: str
    path: str = Field(description="Its route; the same with `/cast` sends.")
    tool: str | None = Field(None, description="Its name as an MCP tool.")
    resource: str | None = Field(None, description="Where it can be read by MCP clients: a URI, or a template of RFC 6570.")
    prompt: str | None = Field(None, description="Its name as an MCP prompt.")


class CrashView(BaseModel):
    """How a process crashed the last time."""

    at: str = Field(description="RFC 3339, UTC.")
    type: str = Field(description="The class of the exception.")
    message: str = Field(description="What it says of itself, cut.")
    incarnation: int = Field(description="Which life of the process it ended, or kept from starting.")
    attempt: int | None = Field(description="The how-manieth handling of its message; null where no message was to blame.")
    traceback: str | None = Field(None, description="Of a single agent: where it came from, cut.")


class Node(BaseModel):
    """A supervisor or a process of the tree. What it does not have is left out; some kinds have more members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "name": "echo",
                    "kind": "agent",
                    "status": "running",
                    "intake": "open",
                    "incarnation": 1,
                    "restarts": 0,
                    "restarts_per_minute": 0,
                    "in_flight": 0,
                    "exposed": True,
                    "mailbox": {"depth": 0, "size": 1000, "expired": 0},
                    "operations": [{"name": "echo", "path": "/agents/echo", "tool": "echo"}],
                }
            ]
        },
    )

    name: str
    kind: str = Field(description="`sup`, `dyn`, `pool`, `keyed` for supervisors; `agent`, `srv`, `mcp`, … for processes.")
    status: str | None = Field(None, description="Of a process: where in its life it is.")
    strategy: str | None = Field(None, description="Of a supervisor: whom it restarts together.")
    max_restarts: int | None = Field(None, description="Of a supervisor: how many restarts it allows within its window.")
    restart_window: float | None = Field(None, description="Of a supervisor: that window, in seconds.")
    restarts_in_window: int | None = Field(None, description="Of a supervisor: how many there were that count.")
    intake: Literal["open", "draining", "suspended", "closed"] | None = Field(
        None, description="What becomes of a message that comes now: only where it is `open`, it is taken."
    )
    incarnation: int | None = Field(None, description="How many lives it has had.")
    restarts: int | None = None
    restarts_per_minute: int | None = Field(None, description="Restarts within the last 60 seconds.")
    in_flight: int | None = Field(None, description="How many messages are in hand, or wait for a reply that was put off.")
    exposed: bool | None = Field(None, description="Whether callers can reach it.")
    last_crash: CrashView | None = Field(None, description="For admins: how it, or one behind its name, crashed the last time.")
    capabilities: list[str] | None = Field(None, description="What it can do.")
    capability_metadata: dict[str, Any] | None = Field(None, description="What it says of that, by capability.")
    mailbox: MailboxView | None = None
    reason: str | None = Field(None, description="Why it takes no messages.")
    operations: list[OperationView] | None = None
    children: list[Node] | None = Field(None, description="Of a supervisor, in the order in which they start.")
    beside: list[Node] | None = Field(None, description="Of the root: the supervisors that were attached at run time.")


AgentName = Annotated[str, Path(description="The agent's name.", examples=["echo"])]
STATE: dict[str, Any] = {"content": {"application/json": {"example": {"count": 3}}}}
"""The answer of `GET /agents/{name}/state`: what the agent keeps."""


class _SlashedName(APIRoute):
    """Takes a name with slashes, which are encoded in the address; what is below an agent is none of its."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route.matches`."""
        raw: bytes = scope.get("raw_path") or b""
        above, _, name = raw.partition(b"?")[0].removesuffix(b"/").rpartition(b"/")
        if b"%2f" not in name.lower() or not above.endswith(b"/agents"):
            return Match.NONE, {}
        return super().matches(scope)


def agents_router(face: Face) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["agents"])
    dispatcher = face.dispatcher

    async def one(name: str, request: Request) -> Response:
        runtime, catalogue, admin = dispatcher.runtime, dispatcher.catalogue, may_admin(request)
        node = in_tree(runtime, name) if admin else exposed(runtime, catalogue, name)
        view = TreeView(runtime, catalogue, crashes=admin, traceback=admin)
        return Response(await view.text_of(node), media_type=JSON.decode())

    @router.get("/agents", response_model=Node, summary="The supervision tree", operation_id="list_agents")
    async def tree(request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Every supervisor and process: strategy, status, incarnation, restarts, what waits and what is in hand.

        With the scope `admin` (without authentication: on this machine) also how each crashed the last time.
        """
        view = TreeView(dispatcher.runtime, dispatcher.catalogue, crashes=may_admin(request))
        return Response(await view.text(), media_type=JSON.decode())

    @router.get(
        "/agents/{name}",
        response_model=Node,
        summary="An agent's status",
        operation_id="read_agent",
        responses=documented(UnknownAgent),
    )
    async def status(name: AgentName, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Status, incarnation, restarts, mailbox depth and operations of an exposed agent; of a pool, those of its members.

        With the scope `admin` (without authentication: on this machine) of any process and supervisor of the tree, and with the
        traceback of its last crash.
        """
        return await one(name, request)

    router.add_api_route("/agents/{name:path}", status, include_in_schema=False, route_class_override=_SlashedName)

    @router.get("/agents/mcp://{server:path}", include_in_schema=False)
    async def upstream(server: str, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        """The same for the process that owns the connection to an external MCP server: its name has slashes."""
        return await one(f"mcp://{server}", request)

    @router.get(
        "/agents/{name}/state",
        summary="An agent's committed state",
        operation_id="read_agent_state",
        responses={200: STATE, **documented(InsufficientScope, UnknownAgent, RouteNotFound)},
    )
    async def state(name: AgentName, request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """What the agent has committed. Needs the scope `admin`; without authentication it is shown on this machine only."""
        with audited(dispatcher.audit, request.scope, AuditAction.STATE_READ, agent=name):
            demand_admin(request, "The state of an agent")
            commit = dispatcher.runtime.services.commit
            agent = exposed(dispatcher.runtime, dispatcher.catalogue, name).name
            return copied(await commit.load(agent)) if commit is not None else {}

    return router


def lost_agent(catalogue: Catalogue, path: str) -> PorticoError | None:
    """What is wrong with a path below `/agents` that names no exposed agent; None where it names one, or is elsewhere."""
    steps = path.split("/")
    if steps[:2] != ["", "agents"] or not "".join(steps[2:3]) or catalogue.has(steps[2]):
        return None
    return UnknownAgent(steps[2], nearest(steps[2], catalogue.agents))


def lost_operation(catalogue: Catalogue, path: str) -> PorticoError | None:
    """What is wrong with a path below that of an exposed agent which leads to none of its operations; None for other paths."""
    match = _OPERATION.fullmatch(path)
    if match is None or not catalogue.has(match["name"]):
        return None
    name, operation = match["name"], match["operation"]
    names = [endpoint.operation.name for endpoint in catalogue if endpoint.agent == name]
    if operation is None:
        return UnknownOperation(name, "cast" if match["cast"] else DEFAULT_TYPE, names)
    if operation in names:  # the only one: it is served at the agent's own path
        return None
    return UnknownOperation(name, operation, nearest(operation, names))
