"""`portico serve`: a topology behind HTTP and MCP, until a signal or until its root supervisor gives up."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, LogLevel, TopologyArgument, log_accesses, log_to_stderr
from portico.errors import ConfigurationError, StartError, StoreError

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from portico.app.server import GatewayServer
    from portico.app.settings import GatewayConfig
    from portico.kernel.runtime import Runtime

COLLECTOR_THRESHOLDS = (20_000, 20, 10)
"""Net allocations before a young collection, young ones before a middle one, middle ones before a full one."""


def serve(
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    host: Annotated[str | None, typer.Option(help="The address to bind. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port to bind, 0 for any free one. [default: 8080]")] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(help="A name that the Host header may have; again for more.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Bind an address that others reach, without a key.")] = False,
    data: Annotated[
        str | None, typer.Option(help="The directory to store runs and states in. [default: what the topology says, else memory]")
    ] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew whenever a file beside the topology is edited.")] = False,
    supervised: Annotated[str | None, typer.Option(hidden=True)] = None,
    workers: Annotated[int | None, typer.Option(hidden=True)] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request as a line of JSON.")] = False,
    log_format: Annotated[str | None, typer.Option(help="How the log is written: text or json. [default: text]")] = None,
    log_level: LogLevel = "info",
) -> None:
    """Serve a topology over HTTP and MCP."""
    if workers is not None:
        raise ConfigurationError(
            "--workers would start several trees that know nothing of each other: two of every agent, with two states. "
            "Scale out by running several gateways, each with agents of its own, behind a load balancer."
        )
    log_to_stderr(log_level, as_json=log_format == "json")
    allowed = tuple(allowed_host) if allowed_host else None
    given: dict[str, Any] = {"host": host, "port": port, "data": data, "allowed_hosts": allowed, "log_format": log_format}
    given |= {"insecure": insecure or None, "access_log": access_log or None}
    if reload:
        from portico.cli.reload import serve_and_reload

        raise typer.Exit(serve_and_reload(topology, given, log_level))
    raise typer.Exit(_run(topology, given, log_level, supervised))


def _run(path: Path, given: dict[str, Any], log_level: str, supervised: str | None) -> int:
    import asyncio

    from portico.cli.reload import inherited

    listener = inherited(supervised) if supervised is not None else None
    from portico.app.loading import load_topology, server_settings
    from portico.app.settings import GatewayConfig
    from portico.telemetry.redaction import secrets_in

    topology = load_topology(path)
    settings = GatewayConfig.from_environ(os.environ, server_settings(topology), **given).with_keys_of(topology.data_directory)
    settings.refuse_exposure()
    secrets = [*settings.secrets, *secrets_in(topology.settings.model_dump(mode="json"))]
    log_to_stderr(log_level, as_json=settings.log_format == "json", secrets=secrets)
    if settings.access_log:
        log_accesses()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(topology, settings, listener))


async def _serve(topology: Any, settings: GatewayConfig, listener: socket.socket | None) -> int:
    import asyncio

    from portico.app.factory import create_app
    from portico.app.server import GatewayServer, bind

    app = create_app(topology, settings)
    listener = listener or bind(settings)
    runtime = app.state.gateway.runtime
    try:
        server = GatewayServer(app, settings, listener)
        with contextlib.closing(server), server.heeding_signals():
            async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
                watcher = group.create_task(_give_up_with(runtime, server))
                announcer = group.create_task(_announce(server, listener.getsockname(), settings))
                spare_the_collector()
                await server.serve()
                watcher.cancel()
                announcer.cancel()
    except (StartError, StoreError) as error:
        raise ConfigurationError(error.detail) from error
    finally:
        listener.close()
    if runtime.report is not None:
        raise ConfigurationError(f"The tree has ended: {runtime.report}")
    return 0


async def _give_up_with(runtime: Runtime, server: GatewayServer) -> None:
    await runtime.wait()
    server.should_exit = True


async def _announce(server: Any, address: tuple[Any, ...], settings: GatewayConfig) -> None:
    await server.accepting.wait()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://{host}:{address[1]}"
    docs = f", docs at {url}{settings.docs_path}" if settings.docs_enabled else ""
    console = f", console at {url}{settings.console_path}" if settings.console_enabled else ""
    mcp = f", MCP at {url}{settings.mcp_path}" if settings.mcp_path else ""
    typer.echo(f"Portico serves {url}{docs}{console}{mcp}")


def spare_the_collector() -> None:
    """Keep the garbage collector from what lives as long as the program, and from looking after every few requests.

    This process is ours, so its collector is ours to set. A full collection walks every module that was imported (40 ms); with
    the defaults 32 concurrent requests trigger a young collection each time round. Both together cost a third of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop
