"""The package as it is built: one version, typed, and make targets that lead somewhere."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from portico.version import __version__

ROOT = Path(__file__).parents[2]


def test_installed_version_is_the_one_in_version_py() -> None:
    try:
        installed = version("portico")
    except PackageNotFoundError:
        pytest.skip("portico is not installed in this environment, only on the path: run `make test`")
    assert installed == __version__


def test_package_says_that_it_is_typed() -> None:
    assert (ROOT / "portico" / "py.typed").exists()


def test_changelog_opens_with_what_is_not_released_yet() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("place", ["Makefile", ".ci/run"])
def test_every_file_that_the_make_targets_and_ci_name_exists(place: str) -> None:
    named = re.findall(r"(?<![\w./])(?:scripts|benchmarks|examples)/[\w./-]+", (ROOT / place).read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_make_help_tells_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert phony
    assert re.findall(r"^([a-z]+): ## ", makefile, flags=re.MULTILINE) == phony[1].split()
