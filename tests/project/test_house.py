"""Rules of the house that neither the linter nor the import contract can hold."""

from __future__ import annotations

import ast
from pathlib import Path

HOUSE = Path(__file__).parents[2] / "portico"

# Settings come from the environment in one room, and commands hand it on; below, they are arguments.
READERS_OF_THE_ENVIRONMENT = {"app", "cli"}
# `Runtime.from_config(path)` is called by users' own programs: its default for `${NAME}` is their environment.
# A stdio server inherits a few variables of ours.
READING_FILES = {Path("topology/runtime.py"), Path("mcp_bridge/calling/environment.py")}


def sources() -> list[tuple[Path, ast.Module]]:
    return [(path.relative_to(HOUSE), ast.parse(path.read_text())) for path in sorted(HOUSE.rglob("*.py"))]


def test_no_room_imports_from_the_root_package() -> None:
    guilty = [
        str(path)
        for path, tree in sources()
        if path.parts != ("__init__.py",)
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "portico")
        or (isinstance(node, ast.Import) and any(alias.name == "portico" for alias in node.names))
    ]
    assert guilty == []


def test_only_app_and_cli_read_the_environment() -> None:
    guilty = [
        str(path)
        for path, tree in sources()
        if path.parts[0] not in READERS_OF_THE_ENVIRONMENT and path not in READING_FILES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert guilty == []


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path, tree in sources() if path.name != "__init__.py" and not ast.get_docstring(tree)] == []
