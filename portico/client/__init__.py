"""The typed client of a gateway, over HTTP: `Client`, and `AsyncClient` with the same names to await.

Errors and records come from here too. It loads httpx, and nothing of the server.
"""

from portico.client.async_client import AsyncClient, AsyncDeadLetters, AsyncEventStream, AsyncRuns
from portico.client.errors import (
    AgentCrashed,
    AgentError,
    BadRequest,
    ClientError,
    Conflict,
    ConnectionFailed,
    ContractViolated,
    DeadlineExceeded,
    Forbidden,
    Interrupted,
    InvalidResponse,
    NotFound,
    PorticoAPIError,
    RateLimited,
    RunCancelled,
    ServerError,
    StillRunning,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from portico.client.records import DeadLetter, Event, GatewayEvent, Run, RunReference, UsageReport, UsageRow
from portico.client.sync_client import Client, DeadLetters, EventStream, Runs

__all__ = [
    "AgentCrashed",
    "AgentError",
    "AsyncClient",
    "AsyncDeadLetters",
    "AsyncEventStream",
    "AsyncRuns",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "ContractViolated",
    "DeadLetter",
    "DeadLetters",
    "DeadlineExceeded",
    "Event",
    "EventStream",
    "Forbidden",
    "GatewayEvent",
    "Interrupted",
    "InvalidResponse",
    "NotFound",
    "PorticoAPIError",
    "RateLimited",
    "Run",
    "RunCancelled",
    "RunReference",
    "Runs",
    "ServerError",
    "StillRunning",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "UsageReport",
    "UsageRow",
]
