"""KeyFile: where API keys are kept, as JSON, without their secrets. Commands write it, a running gateway reads it.

A write replaces the file as a whole, so a reader finds the old or the new one, never half of it, also after a power cut. Two
writers wait for each other.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import to_json

from portico.auth.api_key import ApiKey
from portico.auth.principal import Principal
from portico.auth.shared_key import SHARED
from portico.errors import ConfigurationError
from portico.operations.decorators import SCOPE
from portico.whole_file import locked, replace_file

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

Scope = Annotated[str, StringConstraints(pattern=f"^{SCOPE.pattern}$")]
PrincipalName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
"""What a key's principal may be called: one word."""

Stamp = tuple[int, int, int]
"""What changes when the file is replaced."""


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{4,64}$")]
    name: PrincipalName
    scopes: list[Scope]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1]
    keys: list[_Key] = Field(default_factory=list[_Key])


class KeyFile:
    """The keys in one file."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def stamp(self) -> Stamp:
        """What changes when the file is replaced. Raises `OSError`."""
        about = self.path.stat()
        return about.st_mtime_ns, about.st_size, about.st_ino

    def read(self) -> list[ApiKey]:
        """Every key, the oldest first. Raises `ConfigurationError`: there is no such file, or it is broken."""
        try:
            text = self.path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The key file {self.path} cannot be read: {error.strerror}. "
                f"`portico keys create NAME --file {self.path}` makes one."
                if isinstance(error, FileNotFoundError)
                else f"The key file {self.path} cannot be read: {error.strerror}."
            ) from None
        try:
            keys = _Keys.model_validate_json(text).keys
        except ValidationError as error:
            raise ConfigurationError(f"The key file {self.path} is broken: {_first_fault(error)}") from None
        if len({key.id for key in keys}) < len(keys):
            raise ConfigurationError(f"The key file {self.path} is broken: an id is there twice.")
        return [_kept(key) for key in keys]

    @contextmanager
    def editing(self) -> Generator[list[ApiKey]]:
        """The keys, to be changed: what the list holds at the end is stored. An exception stores nothing.

        Waits while another program edits. Where there is no file, it is made, and its directory too.

        Raises:
            ConfigurationError: the file is broken, or cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path):
                keys = self.read() if self.path.exists() else []
                yield keys
                self._write(keys)
        except OSError as error:
            raise ConfigurationError(f"The key file {self.path} cannot be written: {error.strerror}.") from None

    def _write(self, keys: Iterable[ApiKey]) -> None:
        replace_file(self.path, to_json({"version": 1, "keys": [_printed(key) for key in keys]}, indent=2) + b"\n")


def checked_principal(name: str, scopes: Iterable[str]) -> Principal:
    """Whom a new key is to stand for. Raises `ConfigurationError` for a name or a scope that cannot be."""
    if name == SHARED.name:
        raise ConfigurationError(f"{name!r} is who has the key of PORTICO_API_KEY. Choose another name.")
    sample = {"id": "none", "name": name, "scopes": list(scopes), "sha256": "0" * 64, "created_at": datetime.now(UTC)}
    try:
        key = _Key.model_validate(sample)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["loc"][0] == "name":
            raise ConfigurationError(f"{name!r} is no name for a key: it must be one word of at most 200 characters.") from None
        raise ConfigurationError(
            f"{fault['input']!r} is no scope: it must be visible ASCII without blanks, quotes and backslashes."
        ) from None
    return Principal(key.name, frozenset(key.scopes))


def _kept(key: _Key) -> ApiKey:
    principal = Principal(key.name, frozenset(key.scopes))
    expires = key.expires_at.timestamp() if key.expires_at is not None else None
    return ApiKey(key.id, principal, bytes.fromhex(key.sha256), key.created_at.timestamp(), expires)


def _printed(key: ApiKey) -> dict[str, Any]:
    return {**shown(key), "sha256": key.digest.hex()}


def shown(key: ApiKey) -> dict[str, Any]:
    """What may be shown of a key, as JSON-able data. Times are RFC 3339, UTC, whole seconds."""
    return {
        "id": key.id,
        "name": key.principal.name,
        "scopes": sorted(key.principal.scopes),
        "created_at": _moment(key.created),
        "expires_at": _moment(key.expires) if key.expires is not None else None,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _first_fault(error: ValidationError) -> str:
    """One mistake, and where it is. What stands there is not shown: it may be a secret in the wrong place."""
    fault = error.errors(include_input=False, include_url=False)[0]
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"]).lstrip(".")
    return f"{where}: {fault['msg']}." if where else f"{fault['msg']}."
