"""TokenStore: what OAuth has brought for one server, as the SDK's clients keep it, and beside it what they forget.

They do not keep when a token ends and who has given it; without that, a program that starts again can refresh nothing. Below:
`sealed_file.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from mcp.shared.auth import OAuthClientInformationFull, OAuthMetadata, OAuthToken, ProtectedResourceMetadata

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from mcp.client.auth.oauth2 import OAuthContext

    from portico.mcp_bridge.calling.sealed_file import SealedFile


class TokenStore:
    """See `mcp.client.auth.TokenStorage`."""

    def __init__(self, file: SealedFile) -> None:
        self._file = file
        self.context: OAuthContext | None = None
        """Whose discoveries are kept with the tokens."""

    def __repr__(self) -> str:
        return "TokenStore(…)"

    @property
    def has_tokens(self) -> bool:
        """Whether somebody has logged in. Raises `ConfigurationError` where what was kept cannot be read."""
        return "tokens" in self._file.read()

    def bound_key(self) -> EllipticCurvePrivateKey:
        """The key that tokens are bound to (RFC 9449): made once, and kept with them."""
        held = self._file.read()
        if "key" in held:
            return cast("EllipticCurvePrivateKey", load_pem_private_key(held["key"].encode(), None))
        key = generate_private_key(SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._file.write({**held, "key": pem.decode()})
        return key

    async def get_tokens(self) -> OAuthToken | None:
        """Those that were kept last, whether they are still good or not."""
        held = self._file.read().get("tokens")
        return None if held is None else OAuthToken.model_validate(held)

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep them, with when they end and who gave them."""
        held = {**self._file.read(), "tokens": tokens.model_dump(mode="json", exclude_none=True)}
        held["ends_at"] = None if tokens.expires_in is None else time.time() + tokens.expires_in
        context = self.context
        if context is not None:
            held["given_by"] = _dumped(context.oauth_metadata)
            held["resource"] = _dumped(context.protected_resource_metadata)
            held["issuer"] = context.auth_server_url
        self._file.write(held)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Who we are there."""
        held = self._file.read().get("client")
        return None if held is None else OAuthClientInformationFull.model_validate(held)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep who we are there."""
        self._file.write({**self._file.read(), "client": client_info.model_dump(mode="json", exclude_none=True)})

    def remind(self, context: OAuthContext) -> None:
        """Tell a client what it has forgotten: when its token ends, and where it is refreshed."""
        held = self._file.read()
        if "tokens" not in held:
            return
        context.token_expiry_time = held.get("ends_at")
        if (given_by := held.get("given_by")) is not None:
            context.oauth_metadata = OAuthMetadata.model_validate(given_by)
        if (resource := held.get("resource")) is not None:
            context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(resource)
        context.auth_server_url = held.get("issuer")


def _dumped(model: Any) -> Any:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)
