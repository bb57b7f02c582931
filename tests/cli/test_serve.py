"""`portico serve` as a process: what it says, how it starts, and how it ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.programs import portico, refused, serving, topology

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def ended(process: subprocess.Popen[str], within: float) -> tuple[int, str]:
    """The exit code of a process and what it said on standard error."""
    _, stderr = process.communicate(timeout=within)
    assert "Traceback" not in stderr
    return process.returncode, stderr


class Background:
    """One request, asked by a thread of its own."""

    def __init__(self, method: str, url: str, headers: dict[str, str] | None = None) -> None:
        self.result: httpx.Response | httpx.HTTPError | None = None
        self.thread = threading.Thread(target=self._ask, args=(method, url, headers))
        self.thread.start()

    def _ask(self, method: str, url: str, headers: dict[str, str] | None) -> None:
        try:
            self.result = httpx.request(method, url, headers=headers, timeout=20, trust_env=False)
        except httpx.HTTPError as error:
            self.result = error

    def response(self) -> httpx.Response:
        """The response, once it is there."""
        self.thread.join(20)
        assert isinstance(self.result, httpx.Response), self.result
        return self.result


def until_busy(url: str) -> None:
    """Until a run is being handled."""
    while not any(run["status"] == "running" for run in httpx.get(f"{url}/runs", trust_env=False).json()["runs"]):
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(topology(tmp_path, "Echo"), folder=tmp_path) as (process, url):
        assert httpx.post(f"{url}/agents/echo", json={"a": 1}, trust_env=False).json() == {"a": 1}
        process.send_signal(number)
        code, stderr = ended(process, 5)

    assert (code, stderr) == (0, "")


def test_what_is_in_flight_is_answered_and_streams_end_before_it_does(tmp_path: Path) -> None:
    with serving(topology(tmp_path, "Slow"), folder=tmp_path) as (process, url):
        asked = Background("POST", f"{url}/agents/slow")
        until_busy(url)
        run = httpx.get(f"{url}/runs", trust_env=False).json()["runs"][0]["run_id"]
        followed = Background("GET", f"{url}/runs/{run}/events")
        polled = Background("GET", f"{url}/runs/{run}?wait=300")
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process, 8)

    assert code == 0
    assert asked.response().json() == "rested"
    assert "event: stream.draining" in followed.response().text
    assert polled.response().json()["status"] == "running"


def test_with_streams_open_and_asks_in_flight_it_ends_soon_after_the_last_reply_and_drops_none(tmp_path: Path) -> None:
    streams, asks = 100, 20
    path = topology(tmp_path, "Slow")
    path.write_text(path.read_text().replace("type: agents.Slow", "type: agents.Slow, concurrency: 64"))
    with serving(path, folder=tmp_path) as (process, url):
        later = httpx.post(f"{url}/runs", json={"agent": "slow", "delay": 3600}, trust_env=False).headers["location"]
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        request = f"GET {later}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        clients = [socket.create_connection(address) for _ in range(streams)]
        for client in clients:
            client.sendall(request)
        for client in clients:
            client.settimeout(20)
            while b"run.started" not in client.recv(65536):
                pass
        asked = [Background("POST", f"{url}/agents/slow?seconds=3") for _ in range(asks)]
        while len(httpx.get(f"{url}/runs?status=running", trust_env=False).json()["runs"]) < asks:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        answers = [ask.response().json() for ask in asked]
        begun = time.monotonic()
        code, _ = ended(process, 20)
        took = time.monotonic() - begun
        last = [client.recv(65536) for client in clients]
        for client in clients:
            client.close()

    assert code == 0
    assert answers == ["rested"] * asks
    assert took < 6  # 2 s where nobody else uses the machine: see benchmarks/streams.py
    assert all(b"event: stream.draining" in text for text in last)


def test_what_takes_longer_than_the_drain_does_not_hold_it_up(tmp_path: Path) -> None:
    path = topology(tmp_path, "Slow")
    with serving(path, folder=tmp_path, env={"PORTICO_DRAIN_TIMEOUT": "1"}) as (process, url):
        asked = Background("POST", f"{url}/agents/slow?seconds=60")
        until_busy(url)
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process, 12)

    assert code == 0
    assert asked.response().status_code == 503
    assert asked.response().json()["type"] == "/problems/interrupted"
    assert "shut down before there was a reply" in asked.response().json()["detail"]


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(topology(tmp_path, "Stubborn"), folder=tmp_path) as (process, url):
        asked = Background("POST", f"{url}/agents/stubborn")
        until_busy(url)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, stderr = ended(process, 5)
        asked.thread.join(5)

    assert time.monotonic() - begun < 1
    assert code == 128 + signal.SIGTERM
    assert "second signal" in stderr


def test_a_busy_port_is_a_sentence(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = refused("serve", path, "--port", port, folder=tmp_path)

    assert text == f"portico: The port {port} of 127.0.0.1 is taken. Choose another with --port, or 0 for any.\n"


def test_every_mistake_of_a_topology_is_told_with_its_place(tmp_path: Path) -> None:
    path = topology(
        tmp_path,
        more="supervision:\n  children:\n    - {type: agents.Ecko, name: echo}\n    - {type: agents.Echo, name: e, mailbox: 3}\n"
        "routes:\n  - {path: /x, agnet: e}\nserver: {port: many}\n",
    )
    text = refused("serve", path, folder=tmp_path)

    assert "mistakes" in text
    for expected in (
        "topology.yaml:3",
        "'Echo'",
        "topology.yaml:4",
        "'mailbox_size'",
        "topology.yaml:6",
        "'agent'",
        "topology.yaml:7",
    ):
        assert expected in text


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_topology_that_cannot_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    assert name in refused("serve", name, folder=tmp_path)


def test_a_route_twice_is_a_sentence(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo", "Slow", more="routes:\n  - {path: /x, agent: echo}\n  - {path: /x, agent: slow}\n")

    assert "/x" in refused("serve", path, folder=tmp_path)


def test_an_agent_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    text = refused("serve", topology(tmp_path, "Stillborn"), "--port", "0", "--log-level", "error", folder=tmp_path)

    assert "'stillborn' did not start" in text
    assert "not today" in text


def test_a_tree_that_gives_up_ends_it_with_a_report(tmp_path: Path) -> None:
    path = topology(tmp_path, "Doomed", more="  max_restarts: 0\n")
    with serving(path, folder=tmp_path) as (process, _):
        _, stderr = process.communicate(timeout=10)

    assert process.returncode == 1
    assert "portico: The tree has ended:" in stderr
    assert "no ground" in stderr


def test_workers_are_refused_with_the_way_to_scale_out(tmp_path: Path) -> None:
    text = refused("serve", topology(tmp_path, "Echo"), "--workers", "4", folder=tmp_path)

    assert "Scale out by running several gateways" in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0", "::ffff:0.0.0.0", "gateway.invalid", socket.gethostname()])
def test_an_address_that_others_reach_is_refused_without_a_key(tmp_path: Path, host: str) -> None:
    text = refused("serve", topology(tmp_path, "Echo"), "--port", "0", "--host", host, folder=tmp_path)

    assert text.startswith(f"portico: Binding {host or 'every address'}")
    assert "PORTICO_API_KEY" in text


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_every_address_of_this_machine_alone_is_bound_without_one(tmp_path: Path, host: str) -> None:
    with serving(topology(tmp_path, "Echo"), "--host", host, folder=tmp_path) as (_, url):
        assert httpx.post(f"{url}/agents/echo", json={"a": 1}, trust_env=False).json() == {"a": 1}


@pytest.mark.parametrize(("arguments", "env"), [(["--insecure"], {}), ([], {"PORTICO_API_KEY": "secret"})])
def test_it_is_bound_with_a_key_or_a_word(tmp_path: Path, arguments: list[str], env: dict[str, str]) -> None:
    host = "" if env else "0.0.0.0"  # nothing at all is every address, too
    with serving(topology(tmp_path, "Echo"), "--host", host, *arguments, folder=tmp_path, env=env) as (process, url):
        response = httpx.get(f"http://127.0.0.1:{url.rpartition(':')[2]}/agents", trust_env=False)
        process.send_signal(signal.SIGTERM)
        code, stderr = ended(process, 5)

    assert response.status_code == (401 if env else 200)
    assert (code, "secret" in stderr) == (0, False)


def test_allowed_hosts_are_taken_from_the_command_line(tmp_path: Path) -> None:
    arguments = ["--allowed-host", "a.example", "--allowed-host", "b.example:9"]
    with serving(topology(tmp_path, "Echo"), *arguments, folder=tmp_path) as (_, url):
        statuses = {
            host: httpx.get(f"{url}/livez", headers={"host": host}, trust_env=False).status_code
            for host in ("a.example", "b.example:9", "b.example", "localhost")
        }

    assert statuses == {"a.example": 200, "b.example:9": 200, "b.example": 421, "localhost": 421}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PORTICO_PROT", "1", "Did you mean 'PORTICO_PORT'"),
        ("PORTICO_REQUEST_TIMEOUT", "soon", "it must be a number"),
        ("PORTICO_TLS_CERT", "none.pem", "give both or none"),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(tmp_path: Path, name: str, value: str, text: str) -> None:
    assert text in refused("serve", topology(tmp_path, "Echo"), folder=tmp_path, env={name: value})


def test_certificates_that_are_not_there_are_a_sentence(tmp_path: Path) -> None:
    env = {"PORTICO_TLS_CERT": "none.pem", "PORTICO_TLS_KEY": "none.pem"}

    for command in (["serve", "--port", "0"], ["check"]):
        assert "The TLS files none.pem" in refused(command[0], topology(tmp_path, "Echo"), *command[1:], folder=tmp_path, env=env)


def test_settings_of_the_server_are_checked_by_the_check_too(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo")
    for name, value, told in (
        ("PORTICO_CORS_ORIGINS", "app.example", "cors_origins has 'app.example'"),
        ("PORTICO_CLIENT_CERT_MODE", "requird", "Did you mean 'required'"),
        ("PORTICO_ENABLE_HTTP3", "yes", "enable_http3 needs TLS"),
        ("PORTICO_PORT_QUIC", "many", "it must be a whole number"),
    ):
        assert told in refused("check", path, folder=tmp_path, env={name: value})


def test_a_dead_mcp_server_is_shown_but_does_not_stop_the_start_unless_it_is_required(tmp_path: Path) -> None:
    dead = "mcp:\n  servers:\n    - {name: gone, command: no-such-program-anywhere%s}\n"
    with serving(topology(tmp_path, "Echo", more=dead % ""), folder=tmp_path) as (process, url):
        ready = httpx.get(f"{url}/readyz?verbose", trust_env=False)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=8)
    text = refused("serve", topology(tmp_path, "Echo", more=dead % ", required: true"), "--port", "0", folder=tmp_path)

    assert ready.status_code == 200
    gone = next(part for name, part in ready.json()["processes"].items() if "gone" in name)
    assert gone["ready"] is False
    assert "gone" in stderr
    assert "gone" in text


def test_an_unknown_log_level_is_refused(tmp_path: Path) -> None:
    assert "debug, info, warning, error" in refused("serve", topology(tmp_path, "Echo"), "--log-level", "loud", folder=tmp_path)


def test_run_is_another_word_for_it(tmp_path: Path) -> None:
    assert portico("run", "none.yaml", folder=tmp_path).stderr == portico("serve", "none.yaml", folder=tmp_path).stderr
