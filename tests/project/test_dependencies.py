"""What the project depends on is declared, explained and pinned, and what it imports is what it declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.]*")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {normal(match[0]) for match in found if match} - {"portico"}


def constraints() -> list[str]:
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def for_users() -> set[str]:
    """The names of all that an installed Portico may import: core, and every extra but `dev`."""
    project = PYPROJECT["project"]
    extras = (requirements for extra, requirements in project["optional-dependencies"].items() if extra != "dev")
    return names(project["dependencies"]).union(*map(names, extras))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def entries(table: str) -> list[str]:
    """The lines of `pyproject.toml` inside the lists of one table that hold a string: a requirement, or a rule of ruff."""
    text = (ROOT / "pyproject.toml").read_text()
    start = text.index(f"\n[{table}]\n")
    section = re.split(r"\n\[\w", text[start + 2 :])[0]
    return [line.strip() for line in section.splitlines() if re.match(r'    "', line)]


def test_every_import_is_of_something_declared() -> None:
    distributions = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / "portico").rglob("*.py")
        for module in imports(path)
        if module not in sys.stdlib_module_names and module != "portico"
        if not {normal(name) for name in distributions.get(module, [])} & for_users()
    }
    assert undeclared == set()


def test_every_declared_dependency_has_a_tested_version() -> None:
    declared = for_users() | names(PYPROJECT["project"]["optional-dependencies"]["dev"])
    tested = {normal(line.partition("==")[0]) for line in constraints()}
    assert declared - tested == set()


def test_constraints_hold_names_and_versions_and_no_addresses() -> None:
    assert [line for line in constraints() if not PINNED.fullmatch(line)] == []


def test_extra_all_holds_every_optional_library_of_users() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["all"] == [f"portico[{','.join(sorted(extras.keys() - {'all', 'dev'}))}]"]


@pytest.mark.parametrize("table", ["project", "project.optional-dependencies"])
def test_every_dependency_says_what_it_is_for_and_who_keeps_it(table: str) -> None:
    requirements = [line for line in entries(table) if re.match(r'"[A-Za-z][\w.-]*(\[\w+\])?[><=]', line)]
    assert requirements
    assert [line for line in requirements if not re.search(r"# .+ · .+", line)] == []


@pytest.mark.parametrize("table", ["tool.ruff.lint", "tool.ruff.lint.per-file-ignores"])
def test_every_ignored_lint_rule_has_its_reason_beside_it(table: str) -> None:
    rules = entries(table)
    assert rules
    assert [line for line in rules if not re.fullmatch(r'"[A-Z]+[0-9]*",\s+# .{8,}', line)] == []
