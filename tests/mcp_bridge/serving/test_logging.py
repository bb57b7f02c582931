"""Log messages of a handler: to clients that asked for them, at the levels that they asked for, and to nobody else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import ListRootsResult

from portico.kernel.context import LOG_LEVELS
from tests.app.serving import served
from tests.mcp_bridge.helpers import Scripted, gateway

if TYPE_CHECKING:
    from mcp.types import LoggingLevel, LoggingMessageNotificationParams

    from portico.kernel.protocols import Context

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ERAS = ["2026-07-28", "legacy"]


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any, str | None]] = []

    async def __call__(self, params: LoggingMessageNotificationParams) -> None:
        self.told.append((params.level, params.data, params.logger))


async def talks(ctx: Context) -> str:
    for level in LOG_LEVELS:
        ctx.log(level, f"it is {level}")
    ctx.log("error", {"why": [1, None]}, "disk")
    return "done"


async def ask_for(client: Client, era: str, level: LoggingLevel | None) -> None:
    """As a client of the old era does, for its session; one of the new era says so in each request."""
    if level is not None and era == "legacy":
        with pytest.warns(UserWarning, match="deprecated"):
            await client.set_logging_level(level)  # pyright: ignore[reportDeprecated]


@pytest.mark.parametrize("level", [None, "debug", "warning", "emergency"])
async def test_a_client_gets_the_levels_that_it_asked_for(era: str, level: LoggingLevel | None) -> None:
    listener = Listener()
    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", talks)) as (url, _),
            Client(url, mode=era, logging_callback=listener, log_level=level if era != "legacy" else None) as client,
        ):
            await ask_for(client, era, level)
            result = await client.call_tool("scripted")
            again = await client.call_tool("scripted")
    assert not result.is_error
    assert not again.is_error
    wanted = LOG_LEVELS[LOG_LEVELS.index(level) :] if level is not None else ()
    expected: list[tuple[str, Any, str | None]] = [(one, f"it is {one}", None) for one in wanted]
    if "error" in wanted:
        expected.append(("error", {"why": [1, None]}, "disk"))
    assert listener.told == expected * 2


async def test_what_one_session_asks_for_another_does_not_get() -> None:
    loud, quiet = Listener(), Listener()
    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", talks)) as (url, _),
            Client(url, mode="legacy", logging_callback=loud) as first,
            Client(url, mode="legacy", logging_callback=quiet) as second,
        ):
            await ask_for(first, "legacy", "alert")
            await second.call_tool("scripted")
            await first.call_tool("scripted")
    assert quiet.told == []
    assert [level for level, _, _ in loud.told] == ["alert", "emergency"]


async def test_a_message_is_told_once_though_its_handler_begins_again_and_rounds_go_by(era: str) -> None:
    listener = Listener()

    async def script(ctx: Context) -> str:
        ctx.log("info", "before")
        answer = await ctx.roots()
        ctx.log("info", "after")
        return str(len(answer))

    async def folders(context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[])

    with anyio.fail_after(30):
        async with (
            gateway(Scripted("scripted", script)) as (url, _),
            Client(url, mode=era, logging_callback=listener, list_roots_callback=folders,
                   log_level="info" if era != "legacy" else None) as client,
        ):  # fmt: skip
            await ask_for(client, era, "info")
            await client.call_tool("scripted")
    assert [data for _, data, _ in listener.told] == ["before", "after"]


async def test_log_messages_are_events_of_the_run_for_every_face() -> None:
    async with (
        served(Scripted("scripted", talks)) as face,
        face.client.stream("POST", "/agents/scripted", json={}, headers={"accept": "text/event-stream"}) as stream,
    ):
        lines = [line async for line in stream.aiter_lines()]
    assert lines.count("event: log") == len(LOG_LEVELS) + 1
    assert any('"level":"error"' in line and '"logger":"disk"' in line for line in lines)


async def test_there_are_no_other_levels() -> None:
    async def script(ctx: Context) -> str:
        with pytest.raises(ValueError, match="There is no log level 'warn'"):
            ctx.log("warn", "x")
        return "refused"

    async with gateway(Scripted("scripted", script)) as (url, _), Client(url, mode="legacy") as client:
        assert not (await client.call_tool("scripted")).is_error


@pytest.mark.parametrize("mode", ERAS)
async def test_log_messages_reach_a_client_over_stdio(mode: str, tmp_path: Path) -> None:
    script, root = Path(__file__).with_name("stdio_server.py"), Path(__file__).parents[3]
    parameters = StdioServerParameters(command=sys.executable, args=[str(script)], env={"PYTHONPATH": str(root)})
    listener = Listener()
    with anyio.fail_after(60), (tmp_path / "stderr").open("w") as log:
        level: LoggingLevel | None = "info" if mode != "legacy" else None
        async with Client(stdio_client(parameters, errlog=log), mode=mode, logging_callback=listener, log_level=level) as client:
            await ask_for(client, mode, "info")
            await client.call_tool("talking")
    assert listener.told == [("info", "talking", None)]
