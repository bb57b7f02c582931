"""PinFile: what was approved of one server's tools, and what of them waits for that. Plain JSON that a person can read.

The bridge writes what it sees, `portico mcp-approve` writes what is approved; a write replaces the file as a whole.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import ConfigurationError
from portico.mcp_bridge.calling.fingerprint import fingerprint
from portico.whole_file import locked, replace_file

if TYPE_CHECKING:
    from collections.abc import Generator

DIRECTORY: Final = "pins"
"""Below the directory of the bridge."""


@dataclass(slots=True)
class Pins:
    """What is known of one server's tools: definitions by the server's own names."""

    approved: dict[str, Any] = field(default_factory=dict[str, Any])
    """As they may be used."""
    waiting: dict[str, Any] = field(default_factory=dict[str, Any])
    """As they are now, where that is not approved."""

    def is_approved(self, name: str, definition: dict[str, Any]) -> bool:
        """Whether a tool is as it was approved."""
        return name in self.approved and fingerprint(self.approved[name]) == fingerprint(definition)


class PinFile:
    """The pins of one server in one file."""

    def __init__(self, state_dir: Path | str, server: str) -> None:
        self.path = Path(state_dir) / DIRECTORY / f"{server}.json"

    def stamp(self) -> tuple[int, int] | None:
        """What changes when the file is replaced; None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self) -> Pins | None:
        """What is in it; None where there is none. Raises `ConfigurationError` where it is broken: nothing is taken as approved."""
        try:
            held: Any = json.loads(self.path.read_bytes())
            return Pins(dict(held["approved"]), dict(held["waiting"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"The pins in {self.path} cannot be read ({type(error).__name__}).") from error

    @contextmanager
    def editing(self) -> Generator[Pins | None]:
        """What is in it, to be changed in place, or None where there is none yet; see `write`. Others wait meanwhile."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.path):
            pins = self.read()
            before = _text(pins)
            yield pins
            if pins is not None and _text(pins) != before:
                self.write(pins)

    def write(self, pins: Pins) -> None:
        """Replace the file. Raises `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.path, _text(pins).encode())


def _text(pins: Pins | None) -> str:
    held = None if pins is None else {"approved": pins.approved, "waiting": pins.waiting}
    return json.dumps(cast("Any", held), indent=1, sort_keys=True, ensure_ascii=False)
