"""`scripts/install` on machines of every kind, played by stand-ins for the interpreters that it may find there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A stand-in answers what the script asks of an interpreter, and notes the installs.
GOOD = """#!/bin/sh
case "$*" in
--version) echo "Python 3.12.1" ;;
"-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip install "*) echo "$@" >>pip.log; exit "${PIP_EXIT:-0}" ;;
"-c "*) exit 0 ;;
*) echo "unexpected: $*" >&2; exit 64 ;;
esac
"""
OLD = """#!/bin/sh
case "$*" in
--version) echo "Python 3.9.2" ;;
*) exit 1 ;;
esac
"""
WITHOUT_VENV = """#!/bin/sh
case "$*" in
*ensurepip*) exit 1 ;;
*) exit 0 ;;
esac
"""


class Machine:
    """A checkout and a path on which only the given interpreters stand, besides the tools that every Linux has."""

    def __init__(self, directory: Path, **pythons: str) -> None:
        self.checkout = directory / "a check out"
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        for tool in ("bash", "sh", "dirname", "cksum", "cat", "rm", "mkdir", "cp"):
            self.bin.joinpath(tool).symlink_to(shutil.which(tool) or tool)
        for name, script in pythons.items():
            self.add(name.replace("_", "."), script)
        (self.checkout / "scripts").mkdir(parents=True)
        for file in ("scripts/install", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / file, self.checkout / file)

    def add(self, name: str, script: str) -> None:
        self.bin.joinpath(name).write_text(script)
        self.bin.joinpath(name).chmod(0o755)

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", "scripts/install", *arguments],
            cwd=self.checkout,
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @property
    def installs(self) -> list[str]:
        log = self.checkout / "pip.log"
        return [line.rpartition(" ")[2] for line in log.read_text().splitlines()] if log.exists() else []


def test_second_install_does_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    first, second = machine.install("core"), machine.install("core")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "Python 3.12.1" in first.stdout
    assert second.stdout == second.stderr == ""
    assert machine.installs == ["."]


def test_dev_install_serves_core_too_but_not_the_other_way_round(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    for wanted in ("core", "dev", "core"):
        assert machine.install(wanted).returncode == 0
    assert machine.installs == [".", ".[all,dev]"]


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_change_of_what_is_installed_installs_again(tmp_path: Path, file: str) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    machine.install("core")
    with (machine.checkout / file).open("a") as out:
        out.write("# changed\n")
    again = machine.install("core")
    assert machine.installs == [".", "."]
    assert "Making .venv" not in again.stdout


def test_failed_install_is_not_taken_for_done(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    assert machine.install("core", PIP_EXIT="1").returncode == 1
    assert machine.install("core").returncode == 0
    assert machine.installs == [".", "."]


def test_moved_checkout_gets_a_new_environment(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    machine.install("core")
    machine.checkout = machine.checkout.rename(tmp_path / "elsewhere")
    assert "Making .venv" in machine.install("core").stdout


def test_environment_whose_interpreter_is_gone_is_made_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=GOOD)
    machine.install("core")
    (machine.checkout / ".venv" / "bin" / "python").unlink()
    assert "Making .venv" in machine.install("core").stdout


def test_newer_interpreter_on_the_path_is_found_where_python3_is_too_old(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=OLD, python3_12=GOOD)
    assert machine.install("core").returncode == 0
    assert machine.installs == ["."]


def test_interpreter_that_can_make_environments_is_preferred(tmp_path: Path) -> None:
    machine = Machine(tmp_path, python3=WITHOUT_VENV, python3_13=GOOD)
    assert machine.install("core").returncode == 0
    assert machine.installs == ["."]


@pytest.mark.parametrize(
    ("pythons", "environment", "sentences"),
    [
        ({}, {}, ["needs Python 3.11 or newer", "missing", "PYTHON=/path/to/python3.12"]),
        ({"python3": OLD}, {}, ["needs Python 3.11 or newer", "Python 3.9.2", "PYTHON=/path/to/python3.12"]),
        ({"python3": GOOD, "python3_9": OLD}, {"PYTHON": "python3.9"}, ["PYTHON names 'python3.9'", "older or does not run"]),
        ({"python3": GOOD}, {"PYTHON": "/no/such python"}, ["PYTHON names '/no/such python'", "older or does not run"]),
        ({"python3": WITHOUT_VENV}, {}, ["python3 cannot make virtual environments", "apt install python3-venv"]),
    ],
    ids=["no python", "old python", "old PYTHON", "PYTHON that is not there", "debian without venv"],
)
def test_machine_without_a_usable_python_gets_a_sentence(
    tmp_path: Path, pythons: dict[str, str], environment: dict[str, str], sentences: list[str]
) -> None:
    done = Machine(tmp_path, **pythons).install("core", **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [sentence for sentence in sentences if sentence not in done.stderr] == []


def test_unknown_set_of_packages_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = Machine(tmp_path, python3=GOOD).install("develop")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the sets are 'core' and 'dev'" in done.stderr
