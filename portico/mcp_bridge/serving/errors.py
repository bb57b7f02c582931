"""The one table from errors to their MCP form. The catalogue is `portico.errors`; here stands only how each is told.

What a model can act on is a tool result with `isError`: a sentence, and the slug with its particulars in `_meta` (and not in the
structured content, which some clients check against the output schema even then). A tool that there is not is a JSON-RPC error, and
so is what went wrong where no tool was called. What nobody expected tells nothing of itself.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import to_jsonable_python

from portico.errors import ContractViolation, PorticoError, UnknownResource

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from mcp.server.context import ServerRequestContext

logger = logging.getLogger("portico.mcp")

RESOURCE_NOT_FOUND: Final = -32002
"""What is not there at an address, for clients of the old era; the new one has retired the code."""

META: Final = "portico/error"
"""The key of a result's `_meta` under which the problem stands: slug, title, and what belongs to it."""

RUN_ID: Final = "portico/run_id"
"""The key of a result's `_meta` under which the id of its run stands: `GET /runs/{id}` shows it."""

INTERNAL: Final = "Something went wrong inside the gateway. Its log has the reason."

_OF_THE_REQUEST: Final = (
    *("bad-request", "malformed-address", "malformed-body", "malformed-header", "reserved-type", "invalid-payload"),
    *("contract-violated", "key-missing", "key-reused", "key-in-progress", "self-ask"),
    *("unauthenticated", "insufficient-scope", "foreign-host", "method-not-allowed", "not-acceptable", "not-found"),
    *("agent-not-found", "operation-not-found", "run-not-found", "tool-not-found", "resource-not-found", "prompt-not-found"),
    *("not-redrivable", "not-redeliverable", "not-waiting"),
    *("body-too-large", "head-too-large", "unsupported-encoding", "unsupported-media-type", "request-timeout"),
)
"""What another request would not meet."""
_OF_THE_GATEWAY: Final = (
    *("internal-error", "configuration", "topology", "duplicate-name", "unknown-word", "setting-out-of-range", "missing-extra"),
    *("invalid-operation", "wrong-state", "runtime-not-started", "runtime-stopped", "illegal-transition", "start-failed"),
    *("start-timeout", "spawn-refused", "spawn-limit-reached", "stop-timeout", "store"),
    *("call-failed", "refused", "mailbox-full", "too-many-keys", "deadline-unreachable", "agent-suspended", "agent-failed"),
    *("agent-draining", "too-many-watchers"),
    *("draining", "store-unavailable", "crash-budget-spent", "auth-unavailable", "quota-exceeded", "overloaded", "too-many-asks"),
    *("agent-error", "agent-crashed", "no-reply", "invalid-reply", "deadline-exceeded", "interrupted", "input-timeout"),
    *(
        "input-declined",
        "caller-cannot-answer",
        "cancelled",
        "tool-failed",
        "mcp-tool-failed",
        "mcp-tool-refused",
        "mcp-server-busy",
        "mcp-server-unavailable",
        "model-failed",
    ),
)
"""What the same request may not meet at another time, or elsewhere."""
CODES: Final[Mapping[str, int]] = {
    **dict.fromkeys(_OF_THE_REQUEST, INVALID_PARAMS),
    **dict.fromkeys(_OF_THE_GATEWAY, INTERNAL_ERROR),
}
"""The JSON-RPC code of each slug. No other codes: clients take -32600 and -32000 for the end of their session."""


def error_result(error: BaseException, *, below: str = "", run_id: str | None = None) -> CallToolResult:
    """An error as a tool result.

    Args:
        error: what the call ended with. One that is not of the family shows nothing of itself.
        below: the JSON Pointer that leads from the tool's arguments to what the contract calls the payload.
        run_id: under which the run can be found.
    """
    about, text = _about(error, below), _text(error)
    if run_id is not None:
        about["run_id"] = run_id
    if isinstance(error, ContractViolation):
        text = _told(about["errors"])
    meta = {META: about} if run_id is None else {META: about, RUN_ID: run_id}
    return CallToolResult(content=[TextContent(text=text)], is_error=True, _meta=meta)


def protocol_error(error: BaseException, code: int | None = None) -> MCPError:
    """The same as a JSON-RPC error, for where no tool was called. `code`: where it is another than the usual."""
    slug = error.slug if isinstance(error, PorticoError) else PorticoError.slug
    about = _about(error, "")
    text = _told(about["errors"]) if isinstance(error, ContractViolation) else _text(error)
    return MCPError(code or CODES.get(slug, INTERNAL_ERROR), text, about)


def _text(error: BaseException) -> str:
    return error.detail if isinstance(error, PorticoError) else INTERNAL


def _about(error: BaseException, below: str) -> dict[str, Any]:
    """The particulars: slug and title, and what belongs to it."""
    if not isinstance(error, PorticoError):
        return {"slug": PorticoError.slug, "title": PorticoError.title}
    about: dict[str, Any] = {"slug": error.slug, "title": error.title}
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is not None:
        about["retry_after"] = retry_after
    if isinstance(error, ContractViolation):
        about["errors"] = [{**fault, "path": below + fault["path"]} for fault in error.faults]
    return {**to_jsonable_python(error.extra, inf_nan_mode="null", fallback=str), **about}


@contextmanager
def refused(context: ServerRequestContext[Any], what: str) -> Generator[None]:
    """Make a JSON-RPC error of whatever ends a request that is no call of a tool. `what`: for the log, of what nobody expected."""
    try:
        yield
    except PorticoError as error:
        raise refusal(error, context) from error
    except (MCPError, asyncio.CancelledError):
        raise
    except Exception as error:
        logger.exception("%s failed unexpectedly", what)
        raise refusal(error, context) from error


def refusal(error: BaseException, context: ServerRequestContext[Any]) -> MCPError:
    """An error as a JSON-RPC error for this client.

    What is not there at an address has a code of its own in the old era (MCP 2025-11-25, server/resources).
    """
    of_old = isinstance(error, UnknownResource) and not is_modern(context)
    return protocol_error(error, RESOURCE_NOT_FOUND if of_old else None)


def is_modern(context: ServerRequestContext[Any]) -> bool:
    """Whether the client is of the era without a handshake."""
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def _told(faults: Sequence[Mapping[str, Any]]) -> str:
    """Every fault on a line of its own, so that a model can mend all of them at once."""
    lines = [f"- {fault['path'] or 'the arguments'}: {fault['message']}" for fault in faults]
    return "\n".join(["The arguments are not valid:", *lines])
