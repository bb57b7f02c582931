"""The public names: what users subclass or start, where they come from, and what importing them costs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import portico

REPOSITORY = Path(__file__).parents[2]
HEAVY = {
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic_core",
    "httpx",
    "httpx2",
    "mcp",
    "yaml",
    "typer",
    "rich",
    "opentelemetry",
}
"""What `import portico` must not load."""
KERNEL = (
    *("AgentProcess", "GenServer", "Supervisor", "DynamicSupervisor", "pool", "keyed"),
    *("Runtime", "Message", "Context", "ErrorAction"),
)


def run(code: str, **variables: str) -> str:
    """What a fresh interpreter prints."""
    command, env = [sys.executable, "-c", code], {**os.environ, **variables}
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=30, check=True).stdout


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after some code."""
    names: list[str] = json.loads(run(f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"))
    return {name.partition(".")[0] for name in names}


def test_the_public_names_are_these() -> None:
    assert portico.__all__ == [
        "AgentProcess",
        "GenServer",
        "Supervisor",
        "DynamicSupervisor",
        "pool",
        "keyed",
        "Runtime",
        "Message",
        "Context",
        "Question",
        "ErrorAction",
        "Step",
        "StepExecutor",
        "operation",
        "route",
        "contract",
        "resource",
        "prompt",
        "Upload",
        "Content",
        "Text",
        "Image",
        "Audio",
        "EmbeddedResource",
        "ResourceLink",
        "create_app",
        "HTTPGateway",
        "GatewayConfig",
        "configure_logging",
        "Client",
        "AsyncClient",
        "ModelAgent",
        "Prices",
        "format_cost",
        "ComponentSet",
        "build_component_set",
        "errors",
    ]


@pytest.mark.parametrize("name", portico.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    value: Any = getattr(portico, name)

    assert getattr(portico, name) is value
    assert name in dir(portico)
    assert value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        _ = portico.Agnet  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]


def test_import_star_gives_the_public_names_alone() -> None:
    names = run("before = set(dir()); from portico import *; print(*sorted(set(dir()) - before - {'before'}))").split()

    assert names == sorted(portico.__all__)


def test_rooms_are_not_hidden_by_names() -> None:
    for room in ("kernel", "operations", "runs", "routes", "app", "cli", "client", "errors"):
        assert importlib.import_module(f"portico.{room}").__name__ == f"portico.{room}"


def test_importing_portico_loads_nothing_heavy() -> None:
    assert loaded_by("import portico") & HEAVY == set()


def test_a_tree_built_by_hand_loads_nothing_heavy() -> None:
    code = f"""
import asyncio
from portico import {", ".join(KERNEL)}

class Echo(AgentProcess):
    async def handle(self, message):
        return message.payload

async def main():
    async with Runtime(Supervisor("root", children=[Echo("echo")])) as runtime:
        assert (await runtime.ask("echo", {{"a": 1}})).payload == {{"a": 1}}

asyncio.run(main())
"""
    assert loaded_by(code) & HEAVY == set()


def test_naming_the_gateway_loads_no_web_framework() -> None:
    assert loaded_by("from portico import HTTPGateway, GatewayConfig; HTTPGateway('api', GatewayConfig())") & HEAVY == set()


def test_the_client_loads_nothing_of_the_server() -> None:
    loaded = run("from portico import AsyncClient, Client\nimport sys; print(*sys.modules)").split()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("portico.")}

    assert rooms == {"client", "errors", "loopback", "retry_after", "sse", "version"}
    own = {name.partition(".")[0] for name in loaded} & HEAVY - {"rich"}  # httpx loads it for a command line of its own
    assert own == {"httpx", "pydantic_core"}


def test_importing_the_kernels_names_takes_less_than_100_ms_more_than_asyncio(tmp_path: Path) -> None:
    code = f"""
import time, asyncio
begun = time.perf_counter()
from portico import {", ".join(KERNEL)}
print(time.perf_counter() - begun)
"""
    # As for users, compiled once: an environment that keeps no bytecode would have it compiled each time.
    kept = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    best = min(float(run(code, **kept)) for _ in range(7))

    assert best < 0.1
