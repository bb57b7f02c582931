"""The one table from errors to their MCP form. The catalogue is `portico.errors`; here stands only how each is told.

What a model can act on is a tool result with `isError`: a sentence, and the slug with its particulars in `_meta` (and not in the
structured content, which some clients check against the output schema even then). A tool that there is not is a JSON-RPC error.
What nobody expected tells nothing of itself.
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

from portico.errors import ContractViolation, PorticoError, UnknownPrompt, UnknownResource, UnknownTool

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


def error_result(error: BaseException, *, below: str = "", run_id: str | None = None) -> CallToolResult:
    """An error as a tool result.

    Args:
        error: what the call ended with. One that is not of the family shows nothing of itself.
        below: the JSON Pointer that leads from the tool's arguments to what the contract calls the payload.
        run_id: under which the run can be found.
    """
    known = isinstance(error, PorticoError)
    about = _named(error)
    if run_id is not None:
        about["run_id"] = run_id
    text = error.detail if known else INTERNAL
    if isinstance(error, ContractViolation):
        faults = [{**fault, "path": below + fault["path"]} for fault in error.faults]
        about["errors"] = faults
        text = _told(faults)
    elif known:
        about = {**to_jsonable_python(error.extra, inf_nan_mode="null", fallback=str), **about}
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is not None:
        about["retry_after"] = retry_after
    meta = {META: about} if run_id is None else {META: about, RUN_ID: run_id}
    return CallToolResult(content=[TextContent(text=text)], is_error=True, _meta=meta)


def protocol_error(error: UnknownTool) -> MCPError:
    """The JSON-RPC error of a call to a tool that there is not."""
    return MCPError(INVALID_PARAMS, error.detail, {"slug": error.slug})


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
    """An error as a JSON-RPC error: the sentence, and as its data the slug with its particulars.

    What is not there at an address has a code of its own in the old era (MCP 2025-11-25, server/resources).
    """
    if not isinstance(error, PorticoError):
        return MCPError(INTERNAL_ERROR, INTERNAL, _named(error))
    about = {**to_jsonable_python(error.extra, inf_nan_mode="null", fallback=str), **_named(error)}
    if isinstance(error, UnknownResource):
        return MCPError(INVALID_PARAMS if is_modern(context) else RESOURCE_NOT_FOUND, error.detail, about)
    if isinstance(error, ContractViolation):
        return MCPError(INVALID_PARAMS, _told(error.faults), {**about, "errors": error.faults})
    return MCPError(INVALID_PARAMS if isinstance(error, UnknownPrompt) else INTERNAL_ERROR, error.detail, about)


def is_modern(context: ServerRequestContext[Any]) -> bool:
    """Whether the client is of the era without a handshake."""
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def _named(error: BaseException) -> dict[str, Any]:
    known = error if isinstance(error, PorticoError) else PorticoError
    return {"slug": known.slug, "title": known.title}


def _told(faults: Sequence[Mapping[str, Any]]) -> str:
    """Every fault on a line of its own, so that a model can mend all of them at once."""
    lines = [f"- {fault['path'] or 'the arguments'}: {fault['message']}" for fault in faults]
    return "\n".join(["The arguments are not valid:", *lines])
