"""Program: `portico serve` as a process of its own, which can be killed and started again at the same address."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from tests.cli.programs import environment

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path


class Program:
    """One gateway.

    Args:
        topology: what it serves.
        arguments: more of the command line.
        env: more of the environment.
    """

    def __init__(self, topology: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._topology = topology
        self._arguments = arguments
        self._env = environment(env)
        self._process: subprocess.Popen[str] | None = None
        with socket.socket() as probe:  # the same port in the next life
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.console = f"{self.url}/console"

    def start(self) -> Self:
        """Until it accepts connections."""
        command = [sys.executable, "-m", "portico", "serve", str(self._topology), *self._arguments, "--port", str(self.port)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process; a pipe that nobody reads would fill up
        self._process = subprocess.Popen(
            [*command, "--log-level", "error"],
            cwd=self._topology.parent,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._log.seek(0)
        assert re.match(r"Portico serves ", line), self._log.read()
        return self

    def kill(self) -> None:
        """At once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._log.close()


@contextmanager
def running(topology: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Generator[Program]:
    """A program from its start to its end."""
    program = Program(topology, *arguments, env=env)
    try:
        yield program.start()
    finally:
        program.kill()
