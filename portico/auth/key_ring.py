"""KeyRing: the keys of a file, in memory, to be found within microseconds. It follows the file without a thread.

At most once a second, when somebody asks, it looks whether the file was replaced. One that is broken then changes nothing: the keys
of before stay, and the log says so.
"""

from __future__ import annotations

import logging
import secrets
import time
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from portico.auth.api_key import ApiKey, id_of
from portico.auth.principal import Principal
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.auth.key_file import KeyFile, Stamp

logger = logging.getLogger("portico.auth")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the file."""
_NOBODY: Final = Principal("", frozenset())


class KeyRing:
    """The keys of one file.

    Args:
        file: where they are.
        now: the time, in seconds since the epoch.
        monotonic: the time since some moment, in seconds, for the looks.
        changed: told of each key that is new, with True, and of each that is gone, with False, while the file is followed.

    Raises:
        ConfigurationError: the file is not there, or broken.
    """

    def __init__(
        self,
        file: KeyFile,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        changed: Callable[[ApiKey, bool], object] | None = None,
    ) -> None:
        self._file = file
        self._changed = changed
        self._now = now
        self._monotonic = monotonic
        # Stands in where there is no key of that id: no secret opens it, and refusing takes the same steps.
        self._none = ApiKey("", _NOBODY, secrets.token_bytes(32), 0.0)
        self._stamp = self._stamped()
        self._keys = {key.id: key for key in file.read()}
        self._next_look = monotonic() + LOOK_EVERY

    def principal(self, credential: bytes, digest: bytes) -> Principal | None:
        """Who a key stands for; None for an unknown, a wrong, a revoked or an expired one. `digest`: its SHA-256.

        The same steps for each of them: neither answer nor time tell which keys there are.
        """
        if self._monotonic() >= self._next_look:
            self._look()
        key = self._keys.get(id_of(credential), self._none)
        right = compare_digest(digest, key.digest)
        expired = key.expired(self._now())
        return key.principal if right and not expired else None

    def _look(self) -> None:
        self._next_look = self._monotonic() + LOOK_EVERY
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        before = self._keys
        try:
            self._keys = {key.id: key for key in self._file.read()}
        except ConfigurationError as error:
            logger.error("the keys of before stay valid: %s", error)  # noqa: TRY400  # one line says it all
        else:
            logger.info("read %s: %d keys", self._file.path, len(self._keys))
            if self._changed is not None:
                self._tell(before, self._changed)

    def _tell(self, before: Mapping[str, ApiKey], changed: Callable[[ApiKey, bool], object]) -> None:
        """One that says something else now is gone, and new."""
        for key in before.values():
            if self._keys.get(key.id) != key:
                changed(key, False)
        for key in self._keys.values():
            if before.get(key.id) != key:
                changed(key, True)

    def _stamped(self) -> Stamp | None:
        try:
            return self._file.stamp()
        except OSError:
            return None
