"""RequestStates: the sealed note that a client carries from one round of a call to the next (`requestState`, MCP 2026-07-28).

It says which run waits and for what, to whoever has the key: nobody but this server. It is bound to the request that it was given
for (method, name, arguments), to who called, and to a time. Above: `rounds.py`. Below: the SDK's authenticated encryption.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS
from pydantic_core import to_json

if TYPE_CHECKING:
    from portico.kernel.clock import Clock

INVALID: Final = "The requestState is not valid (any more) for this request: call again without it."


@dataclass(frozen=True, slots=True)
class Binding:
    """The request that a state is for."""

    method: str
    """Such as `tools/call`."""
    name: str
    """Of the tool, the prompt, or the resource."""
    arguments: Any
    """JSON data."""
    principal: str | None
    """Who calls, where the gateway knows."""

    @property
    def digest(self) -> str:
        """Says whether two requests are the same."""
        said = json.dumps([self.method, self.name, self.arguments, self.principal], sort_keys=True, separators=(",", ":"))
        return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


class RequestStates:
    """Seals and opens. The key lives as long as this object: what an earlier life of the program has sealed is not valid.

    Args:
        clock: by which a state grows too old.
        lifetime: seconds that a state is valid.
    """

    def __init__(self, clock: Clock, lifetime: float) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._codec = AESGCMRequestStateCodec([os.urandom(32)])

    def seal(self, run_id: str, key: str, binding: Binding) -> str:
        """The note about a run that waits for an answer under `key`."""
        return self._codec.seal(to_json([run_id, key, binding.digest, self._clock.time() + self._lifetime]))

    def open(self, state: str, binding: Binding) -> tuple[str, str]:
        """The run and the key of a note. Raises `MCPError` (-32602) for one that is tampered with, foreign, or too old."""
        try:
            run_id, key, digest, until = json.loads(self._codec.unseal(state))
        except (InvalidRequestState, ValueError):
            raise invalid_state() from None
        if digest != binding.digest or self._clock.time() > until:
            raise invalid_state()
        return run_id, key


def invalid_state() -> MCPError:
    """The JSON-RPC error of a state that leads nowhere. It does not tell why: whoever forges one learns nothing."""
    return MCPError(INVALID_PARAMS, INVALID, {"reason": "invalid_request_state"})
