"""What the settings say of who calls, as an `Authenticator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.auth.key_file import KeyFile
from portico.auth.key_ring import KeyRing
from portico.auth.principal import Authenticator
from portico.auth.shared_key import SharedKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.app.settings import GatewayConfig
    from portico.auth.api_key import ApiKey
    from portico.auth.principal import Keys
    from portico.auth.tokens import Tokens


def authenticator_of(settings: GatewayConfig, changed: Callable[[ApiKey, bool], object] | None = None) -> Authenticator | None:
    """Who decides who calls; None where everybody may. `changed`: as of `KeyRing`.

    Raises:
        ConfigurationError: a key file that cannot be read.
    """
    if not settings.authenticates:
        return None
    keys: list[Keys] = []
    if settings.api_key is not None:
        keys.append(SharedKey(settings.api_key))
    if settings.keys_file is not None:
        keys.append(KeyRing(KeyFile(settings.keys_file), changed=changed))
    return Authenticator(keys, _tokens(settings))


def _tokens(settings: GatewayConfig) -> Tokens | None:
    if settings.jwt_issuer is None:
        return None
    from portico.auth.jwks import SigningKeys  # noqa: PLC0415  # cryptography is loaded only where tokens are taken
    from portico.auth.tokens import Tokens  # noqa: PLC0415

    return Tokens(
        SigningKeys(settings.jwt_issuer, settings.jwt_jwks_url, plain=settings.insecure),
        issuer=settings.jwt_issuer,
        audience=(settings.jwt_audience or "").split(),
        algorithms=settings.jwt_algorithms,
    )
