"""audited: around what a route does for its caller, so that the audit trail has it, however it ends.

Below: the port `Auditor`. It knows no route: each says which action it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Final

from portico.audit.chain import MICROSECONDS
from portico.audit.watches import trace_of
from portico.errors import PorticoError
from portico.routes.exchange import CALL, PRINCIPAL, REQUEST_ID, header, route_path
from portico.routes.problems import status_of
from portico.runs.audit_entry import OK, AuditAction, outcome_of
from portico.runs.auditor import Doer

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import Scope

    from portico.runs.audit_entry import Details
    from portico.runs.auditor import Auditor
    from portico.runs.run import Run

AUDITED: Final = "portico.audited"
"""The scope key that says that what comes of a request has an entry of its own."""


@dataclass(slots=True)
class About:
    """What an action is done to. The route may find out more of it meanwhile."""

    agent: str | None = None
    operation: str | None = None
    run_id: str | None = None
    details: Details | None = None
    begun: bool = False
    """Whether something may have been done, whatever is raised from now on."""
    idle: str | None = None
    """Why nothing is done though nothing is raised: the outcome that is told then."""

    def of(self, run: Run) -> None:
        """It is done to this run."""
        self.agent, self.operation, self.run_id = run.agent, run.operation, run.run_id


@contextmanager
def audited(
    auditor: Auditor,
    scope: Scope,
    action: str,
    *,
    agent: str | None = None,
    run_id: str | None = None,
    details: Details | None = None,
) -> Generator[About]:
    """Around the action. What it raises goes on, and its slug is the outcome. Costs nothing to speak of where nobody audits."""
    about = About(agent=agent, run_id=run_id, details=details)
    scope[AUDITED] = True
    if not auditor.on:
        yield about
        return
    outcome, refused, begun = OK, False, perf_counter()
    try:
        yield about
        if about.idle is not None:
            outcome, refused = about.idle, True
    except BaseException as error:
        outcome, refused = outcome_of(error), not about.begun and _is_refusal(error)
        raise
    finally:
        auditor.record(
            action,
            outcome,
            doer=doer_of(scope),
            agent=about.agent,
            operation=about.operation,
            run_id=about.run_id,
            duration_us=int((perf_counter() - begun) * MICROSECONDS),
            details=about.details,
            refused=refused,
        )


def _is_refusal(error: BaseException) -> bool:
    """Whether nothing was done, and it was the caller's fault: such as anybody can send as often as they like."""
    return isinstance(error, PorticoError) and status_of(error) < HTTPStatus.INTERNAL_SERVER_ERROR


def audit_refusal(auditor: Auditor, scope: Scope, error: PorticoError) -> None:
    """Tell that a request was refused, unless that has an entry: where it was an action, or a call that came to the dispatcher."""
    if auditor.on and AUDITED not in scope and CALL not in scope:
        about = {"method": scope.get("method", "GET"), "path": route_path(scope)}
        auditor.record(AuditAction.REFUSED, error.slug, doer=doer_of(scope), details=about, refused=True)


def doer_of(scope: Scope) -> Doer:
    """Who sends a request."""
    client = scope.get("client")
    return Doer(
        face=scope["type"],
        principal=scope.get(PRINCIPAL),
        address=client[0] if client else None,
        request_id=scope.get(REQUEST_ID),
        trace_id=trace_of(header(scope, b"traceparent")),
    )
