"""Security: how the OpenAPI document says who may call: a bearer token or an API key, and the scopes that an operation demands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMES: Final[Mapping[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of the gateway, or a token (JWT) of its issuer."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key of the gateway."},
}
"""The security schemes: one of them is enough."""


def requirements(scopes: Iterable[str] = ()) -> list[dict[str, list[str]]]:
    """One of the schemes, with all of these scopes (OpenAPI 3.1 §4.8.30: for such schemes they are roles)."""
    needed = sorted(scopes)
    return [{name: needed} for name in SCHEMES]
