"""Refusing: what is not trusted of an external server is told three times: to the caller, in the log, in the run that met it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from portico.errors import ToolRefused
from portico.kernel.current import current
from portico.runs.event import EventName

if TYPE_CHECKING:
    from portico.mcp_bridge.calling.connection import Connection


def refuse(connection: Connection, address: str, reason: str) -> NoReturn:
    """Raises `ToolRefused`, and leaves a line in the log and an event in the run in hand."""
    logging.getLogger(f"portico.mcp.{connection.name}").warning("%s is refused: %s", ascii(address)[1:-1], reason)
    in_hand = current.get()
    if in_hand is not None and in_hand.journal is not None:
        in_hand.journal.append(EventName.TOOL_REFUSED, {"name": address, "reason": reason})
    raise ToolRefused(address, reason)


def refuse_if_refused(connection: Connection, tool: str) -> None:
    """Raises `ToolRefused` for a tool that the server lists and that was not admitted."""
    reason = connection.admission.refused.get(tool)
    if reason is not None:
        refuse(connection, f"mcp://{connection.name}/{tool}", reason)
