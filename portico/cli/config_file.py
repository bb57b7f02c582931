"""ConfigFile: somebody else's file of settings, in which one server is put among the others; whatever else it says stays.

Above: `portico connect`. A file that cannot be read is left alone. It is written whole or not at all, after a copy of it was made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BACKUP: Final = ".before-portico"
"""What the copy's name ends with."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[\[?(?P<key>[^\]]*)\]\]?\s*(#.*)?")


class ConfigFile:
    """One file. `path` may lead over symbolic links; the file they lead to is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def with_server(self, format_: str, key: str, name: str, server: Mapping[str, Any]) -> tuple[str, bool]:
        """The text of the file with this server, and whether that differs from what it has.

        Raises:
            ConfigurationError: a file that cannot be read, or that the server cannot be put into without loss.
        """
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.path} cannot be read: {error}. It is left as it is.") from None
        known = self._parsed(format_, text)
        servers: Any = known.get(key, {})
        if not isinstance(servers, dict):
            raise ConfigurationError(f"{self.path} has {key!r}, but not as servers by name. It is left as it is.")
        if cast("dict[str, Any]", servers).get(name) == server:
            return text, False
        wanted = {**known, key: {**cast("dict[str, Any]", servers), name: dict(server)}}
        if format_ == "json":
            return json.dumps(wanted, indent=2, ensure_ascii=False) + "\n", True
        changed = _toml_with(text, key, name, server)
        try:
            fits = tomllib.loads(changed) == wanted
        except tomllib.TOMLDecodeError:
            fits = False
        if not fits:
            raise ConfigurationError(
                f"{self.path} has {key}.{name} in a form that cannot be changed without loss. It is left as it is: edit it by hand."
            )
        return changed, True

    def write(self, text: str) -> Path | None:
        """Write the file, whole or not at all. Where the copy of the old one is; None where there was none.

        Raises:
            ConfigurationError: it cannot be written.
        """
        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            backup = self._copied(target)
            # What is new is for its user alone: it may hold a key.
            mode = target.stat().st_mode & 0o777 if backup is not None else 0o600
            _replace(target, text, mode)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror or error}.") from None
        return backup

    def _copied(self, target: Path) -> Path | None:
        if not target.exists():
            return None
        number = 1
        while (copy := target.with_name(target.name + BACKUP + (f".{number}" if number > 1 else ""))).exists():
            number += 1
        shutil.copy2(target, copy)
        return copy

    def _parsed(self, format_: str, text: str) -> dict[str, Any]:
        try:
            value: Any = tomllib.loads(text) if format_ == "toml" else json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise ConfigurationError(f"{self.path} is no {format_.upper()}: {error}. It is left as it is.") from None
        except RecursionError:
            raise ConfigurationError(f"{self.path} is nested too deep. It is left as it is.") from None
        if not isinstance(value, dict):
            raise ConfigurationError(f"{self.path} is no object. It is left as it is.")
        return cast("dict[str, Any]", value)


def written(format_: str, key: str, name: str, server: Mapping[str, Any]) -> str:
    """A file with this server alone."""
    if format_ == "toml":
        return "\n".join(_toml_table(key, name, server)) + "\n"
    return json.dumps({key: {name: server}}, indent=2, ensure_ascii=False) + "\n"


def _replace(target: Path, text: str, mode: int) -> None:
    descriptor, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(made).chmod(mode)
        Path(made).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(made).unlink()
        raise


# --- TOML, which the standard library reads and does not write --------------------------------------------------------


def _toml_with(text: str, key: str, name: str, server: Mapping[str, Any]) -> str:
    """The text with the tables of the server in place of those that it has, or at its end; all other lines as they are."""
    kept: list[str] = []
    dropped: list[str] = []
    place: int | None = None
    inside = False
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if header is not None:
            kept += _remarks_at_end(dropped)
            dropped.clear()
            inside = _is_of(header["key"], key, name)
            if inside and place is None:
                place = len(kept)
        (dropped if inside else kept).append(line)
    kept += _remarks_at_end(dropped)
    table = _toml_table(key, name, server)
    if place is None:
        gap = [""] if kept and kept[-1].strip() else []
        return "\n".join([*kept, *gap, *table]) + "\n"
    gap = [""] if kept[place:] and kept[place].strip() else []
    return "\n".join([*kept[:place], *table, *gap, *kept[place:]]) + "\n"


def _remarks_at_end(lines: Sequence[str]) -> list[str]:
    """The blank lines and comments after the last value of a table: they are about what comes next."""
    at = next((at for at in range(len(lines), 0, -1) if lines[at - 1].strip() and not lines[at - 1].lstrip().startswith("#")), 0)
    return list(lines[at:])


def _is_of(header: str, key: str, name: str) -> bool:
    """Whether a table's header names the server, or something in it."""
    try:
        value: Any = tomllib.loads(f"[{header}]")
    except tomllib.TOMLDecodeError:
        return False
    return name in value.get(key, {})


def _toml_table(key: str, name: str, server: Mapping[str, Any]) -> list[str]:
    plain = {member: value for member, value in server.items() if not isinstance(value, dict)}
    tables: dict[str, Mapping[str, str]] = {member: value for member, value in server.items() if isinstance(value, dict)}
    path = f"{key}.{_toml_key(name)}"
    lines = [f"[{path}]", *(f"{_toml_key(member)} = {_toml_value(value)}" for member, value in plain.items())]
    for member, table in tables.items():
        lines += ["", f"[{path}.{member}]", *(f"{_toml_key(name)} = {_toml_value(value)}" for name, value in table.items())]
    return lines


def _toml_key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml_value(name)


def _toml_value(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # a basic string is written as JSON's
    return "[" + ", ".join(_toml_value(one) for one in value) + "]"
