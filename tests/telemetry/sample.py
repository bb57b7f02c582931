"""A small gateway with telemetry: what the app does, in a few lines."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from portico.errors import AgentError, PorticoError
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route_spec
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.telemetry.setup import configure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.telemetry.exporting import Telemetry

TABLE_ROUTE = route_spec("POST", "/table/{agent}")


class Back(AgentProcess):
    async def handle(self, message: Message) -> Message | None:
        await asyncio.sleep(0)
        return self.reply({"traceparent": message.traceparent, "marker": message.payload["marker"]})


class Front(AgentProcess):
    """Asks another agent."""

    @operation
    async def relay(self, marker: str) -> Any:
        return (await self.ask("back", {"marker": marker})).payload


class Flaky(AgentProcess):
    @operation
    async def work(self, message: Message) -> str:
        if message.attempt == 0:
            raise ValueError("worn out")
        return "done"

    @operation(idempotent=False)
    async def once(self) -> str:
        raise ValueError("never again")

    @operation(errors={"sold-out": 409})
    async def buy(self, item: str) -> str:
        raise AgentError("sold-out", f"No {item} left.")


class TableRoute:
    """Stands for the compiled agent table: it answers before FastAPI's router, and leaves its route in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/table/"):
            scope["route"] = TABLE_ROUTE
            await JSONResponse({})(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def environ_of(endpoint: str, **more: str) -> Mapping[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more}


def gateway(environ: Mapping[str, str], **options: Any) -> FastAPI:
    """Front, back and flaky behind `POST /{agent}/{operation}`; `?send=1` sends."""
    telemetry: Telemetry | None = configure(environ)
    observers = [telemetry.observer] if telemetry is not None else []
    agents = Supervisor("root", children=[Front("front"), Back("back"), Flaky("flaky")], backoff_base=0.001)
    runtime = Runtime(supervisor=agents, observers=[*observers])
    dispatcher = Dispatcher(runtime, observers=observers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with runtime:
            yield
        if telemetry is not None:
            telemetry.shutdown()

    app = FastAPI(lifespan=lifespan, **options)
    app.add_middleware(TableRoute)

    async def call(agent: str, name: str, request: Request, *, send: bool = False) -> Any:
        endpoint = dispatcher.catalogue.find(agent, name)
        made = Call(endpoint, await request.json(), one_way=send, traceparent=request.headers.get("traceparent"))
        try:
            if not send:
                return (await dispatcher.ask(made)).payload
            await (await dispatcher.start(made)).wait()
        except PorticoError as error:
            return JSONResponse({"slug": error.slug}, 409 if isinstance(error, AgentError) else 502)

    app.post("/{agent}/{name}")(call)
    router = APIRouter(prefix="/runs")

    async def run(run_id: str) -> str:
        return run_id

    async def fail() -> None:
        raise ValueError("a bug")

    router.get("/{run_id}")(run)
    router.delete("/all")(fail)
    app.include_router(router)
    if telemetry is not None:
        telemetry.instrument(app)
    return app
