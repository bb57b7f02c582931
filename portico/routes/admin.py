"""Admin: who may see what is not a caller's own, such as the states of agents. One rule for all such routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.auth.principal import ADMIN
from portico.errors import InsufficientScope, RouteNotFound
from portico.loopback import is_loopback
from portico.routes.exchange import SCOPES
from portico.routes.host_guard import is_asked_as_this_machine, is_foreign_page
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastapi import Request


_NEEDED: Final = frozenset({ADMIN})


def is_admin(scope: Mapping[str, Any]) -> bool:
    """Whether a request's caller is known and has the scope `admin`."""
    held: frozenset[str] | None = scope.get(SCOPES)
    return held is not None and permits(held, _NEEDED)


def may_admin(request: Request) -> bool:
    """Whether a caller is an admin; where the gateway knows no callers, whether it is on this machine.

    A page from elsewhere that somebody on this machine looks at is not, also where `cors_origins` lets it call, nor is whoever a
    proxy on this machine speaks for: it hands on the name that it was asked by.
    """
    if request.scope.get(SCOPES) is not None:
        return is_admin(request.scope)
    at_home = request.client is not None and is_loopback(request.client.host) and is_asked_as_this_machine(request.scope)
    return at_home and not is_foreign_page(request.scope)


def demand_admin(request: Request, what: str) -> None:
    """Let `admin` pass; where the gateway knows no callers, whoever is on this machine.

    Raises:
        InsufficientScope: the caller is known, and is no admin.
        RouteNotFound: nobody is known, and the request comes from elsewhere.
    """
    if may_admin(request):
        return
    if request.scope.get(SCOPES) is None:
        raise RouteNotFound(request.url.path)
    raise InsufficientScope(what, [ADMIN])
