"""Portico: agents behind HTTP and MCP, kept alive.

These are the names that users subclass or start; a test pins them. Each is loaded on first use: `import portico` itself loads
no web framework and costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico import errors as errors
    from portico.agents.model_agent import ModelAgent as ModelAgent
    from portico.app.factory import create_app as create_app
    from portico.app.gateway import HTTPGateway as HTTPGateway
    from portico.app.settings import GatewayConfig as GatewayConfig
    from portico.client.async_client import AsyncClient as AsyncClient
    from portico.client.sync_client import Client as Client
    from portico.kernel.components import ComponentSet as ComponentSet
    from portico.kernel.components import build_component_set as build_component_set
    from portico.kernel.dynamic_supervisor import DynamicSupervisor as DynamicSupervisor
    from portico.kernel.genserver import GenServer as GenServer
    from portico.kernel.keyed import keyed as keyed
    from portico.kernel.messages import Message as Message
    from portico.kernel.pool import pool as pool
    from portico.kernel.process import AgentProcess as AgentProcess
    from portico.kernel.process import ErrorAction as ErrorAction
    from portico.kernel.protocols import Context as Context
    from portico.kernel.questions import Question as Question
    from portico.kernel.supervisor import Supervisor as Supervisor
    from portico.llm.prices import Prices as Prices
    from portico.operations.content import Audio as Audio
    from portico.operations.content import Content as Content
    from portico.operations.content import EmbeddedResource as EmbeddedResource
    from portico.operations.content import Image as Image
    from portico.operations.content import ResourceLink as ResourceLink
    from portico.operations.content import Text as Text
    from portico.operations.decorators import contract as contract
    from portico.operations.decorators import operation as operation
    from portico.operations.decorators import prompt as prompt
    from portico.operations.decorators import resource as resource
    from portico.operations.decorators import route as route
    from portico.operations.upload import Upload as Upload
    from portico.runs.step_list import Step as Step
    from portico.runs.step_list import StepExecutor as StepExecutor
    from portico.runs.usage import format_cost as format_cost
    from portico.telemetry.logs import configure_logging as configure_logging
    from portico.topology.runtime import Runtime as Runtime
    from portico.version import __version__ as __version__

_HOMES = {
    "AgentProcess": "portico.kernel.process",
    "AsyncClient": "portico.client.async_client",
    "Audio": "portico.operations.content",
    "Client": "portico.client.sync_client",
    "ComponentSet": "portico.kernel.components",
    "Content": "portico.operations.content",
    "Context": "portico.kernel.protocols",
    "DynamicSupervisor": "portico.kernel.dynamic_supervisor",
    "EmbeddedResource": "portico.operations.content",
    "ErrorAction": "portico.kernel.process",
    "GatewayConfig": "portico.app.settings",
    "GenServer": "portico.kernel.genserver",
    "HTTPGateway": "portico.app.gateway",
    "Image": "portico.operations.content",
    "Message": "portico.kernel.messages",
    "ModelAgent": "portico.agents.model_agent",
    "Prices": "portico.llm.prices",
    "Question": "portico.kernel.questions",
    "ResourceLink": "portico.operations.content",
    "Runtime": "portico.topology.runtime",
    "Step": "portico.runs.step_list",
    "StepExecutor": "portico.runs.step_list",
    "Supervisor": "portico.kernel.supervisor",
    "Text": "portico.operations.content",
    "Upload": "portico.operations.upload",
    "__version__": "portico.version",
    "build_component_set": "portico.kernel.components",
    "configure_logging": "portico.telemetry.logs",
    "contract": "portico.operations.decorators",
    "create_app": "portico.app.factory",
    "format_cost": "portico.runs.usage",
    "keyed": "portico.kernel.keyed",
    "operation": "portico.operations.decorators",
    "pool": "portico.kernel.pool",
    "prompt": "portico.operations.decorators",
    "resource": "portico.operations.decorators",
    "route": "portico.operations.decorators",
}
"""Where each public name lives."""

__all__ = [  # noqa: RUF022  # in the order in which a newcomer meets them
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


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "errors":
        return import_module("portico.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'portico' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
