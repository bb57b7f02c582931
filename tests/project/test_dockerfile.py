"""The container image, without a container engine: its file is linted, and its commands are run one by one in an empty directory.

The directory stands for the root of the image's file system: absolute paths of the image are moved below it. What needs an
engine (another user, a root file system that really is read-only) is checked as far as it shows: nothing may be written there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PORT = "8080"
NO_INDEX = ("Failed to establish a new connection", "Temporary failure in name resolution", "Network is unreachable")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (keyword, rest), with continued lines joined."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last(keyword: str) -> str:
    return [rest for word, rest in instructions() if word == keyword][-1]


def health_command() -> list[str]:
    return json.loads(last("HEALTHCHECK").partition("CMD ")[2])


@dataclass
class Image:
    """What the commands made: a directory that stands for `/`, and the environment and directory that a program starts in."""

    root: Path
    environment: dict[str, str]
    workdir: Path

    def below(self, text: str) -> str:
        """Move the image's own absolute paths below the root."""
        return re.sub(r"(?<![\w./:])/(?=(opt|app|data|src)\b)", f"{self.root}/", text)

    def set(self, assignments: str) -> None:
        for assignment in shlex.split(assignments):
            name, _, value = assignment.partition("=")
            self.environment[name] = self.below(Template(value).substitute(self.environment))

    def move_to(self, directory: str) -> None:
        self.workdir = Path(self.below(directory))
        self.workdir.mkdir(parents=True, exist_ok=True)

    def copy(self, arguments: str) -> None:
        *options, target = shlex.split(arguments)
        sources = [option for option in options if not option.startswith("--")]
        if any(option.startswith("--from=") for option in options):
            # The stages share one root here, so what one takes from the other has to keep its place.
            assert sources == [target]
            assert Path(self.below(target)).exists()
            return
        for source in sources:
            copy_into(ROOT / source, self.workdir / self.below(target), as_file_inside=target.endswith("/"))

    def run(self, command: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", self.below(command)],
            cwd=self.workdir,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and any(sign in done.stderr for sign in NO_INDEX):
            pytest.skip("no package index can be reached, so the image's commands cannot run")
        assert done.returncode == 0, done.stderr

    def start(self, port: int, **environment: str) -> subprocess.Popen[str]:
        """What the engine runs: ENTRYPOINT and CMD, in the image's environment and nothing else."""
        command: list[str] = json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program
        return subprocess.Popen(
            [program, *(self.below(argument).replace(PORT, str(port)) for argument in command[1:])],
            cwd=self.workdir,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def healthy(self, port: int) -> bool:
        command = [argument.replace(PORT, str(port)) for argument in health_command()]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file outside `/data`, with its size and time of change."""
        found = (path for path in self.root.rglob("*") if path.is_file() and self.root / "data" not in path.parents)
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def copy_into(source: Path, target: Path, *, as_file_inside: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True) if as_file_inside else target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Both stages of the Dockerfile, done in one empty directory."""
    root = tmp_path_factory.mktemp("image")
    made = Image(root, {"PATH": f"{BIN}:{os.defpath}"}, root)
    act = {"WORKDIR": made.move_to, "COPY": made.copy, "RUN": made.run, "ENV": made.set}
    for keyword, rest in instructions():
        if keyword in act:
            act[keyword](rest)
    shutil.rmtree(root / "src")  # stays behind in the build stage
    return made


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def gateway(image: Image, port: int) -> Iterator[subprocess.Popen[str]]:
    process = image.start(port, PORTICO_API_KEY="the-key-of-this-test")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{BIN}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install 'portico[dev]'")
    done = subprocess.run([hadolint, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_image_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_final_stage_runs_no_command_so_that_it_holds_only_what_was_copied() -> None:
    keywords = [keyword for keyword, _ in instructions()]
    final = keywords[len(keywords) - keywords[::-1].index("FROM") :]
    assert "RUN" not in final


def test_probe_port_and_served_port_are_the_exposed_one() -> None:
    assert last("EXPOSE") == PORT
    assert PORT in json.loads(last("CMD"))
    assert f"127.0.0.1:{PORT}/readyz" in health_command()[-1]


def test_build_context_holds_all_that_is_copied_and_no_secrets() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source.split("/")[0]
        for keyword, rest in instructions()
        if keyword == "COPY" and "--from=" not in rest
        for source in rest.split()[:-1]
    }
    assert lines[0] == "*"
    assert let_in == copied


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(300)
def test_image_holds_the_package_with_its_data_files_and_no_installer(image: Image) -> None:
    (package,) = image.root.glob("opt/portico/lib/python3*/site-packages/portico")
    ours = {str(path.relative_to(ROOT / "portico")) for path in (ROOT / "portico").rglob("*") if path.is_file()}
    wanted = {path for path in ours if "__pycache__" not in path}
    assert {path for path in wanted if not (package / path).exists()} == set()
    assert not (package.parent / "pip").exists()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(300)
def test_image_serves_healthily_writes_only_data_and_ends_on_sigterm(
    image: Image, gateway: subprocess.Popen[str], port: int
) -> None:
    before = image.files()
    until = time.monotonic() + 60
    while not image.healthy(port):
        assert gateway.poll() is None, gateway.communicate()[0]
        assert time.monotonic() < until, "not healthy within 60 s"
    gateway.send_signal(getattr(signal, last("STOPSIGNAL")))
    output, _ = gateway.communicate(timeout=30)
    assert gateway.returncode == 0, output
    assert image.files() == before


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(300)
def test_image_refuses_to_start_without_a_key(image: Image, port: int) -> None:
    process = image.start(port)
    output, _ = process.communicate(timeout=30)
    assert process.returncode not in {0, None}
    assert "PORTICO_API_KEY" in output
    assert "Traceback" not in output
