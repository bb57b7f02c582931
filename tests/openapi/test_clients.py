"""Clients that an existing generator makes from the document: it has nothing to complain about, and they work."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from tests.cli.programs import DEMO, serving
from tests.openapi.hostile import runtime

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def generated(document: dict[str, Any], folder: Path, name: str) -> Path:
    """The package that openapi-python-client makes of a document. A part that it must leave out fails the test."""
    (folder / "document.json").write_text(json.dumps(document))
    (folder / "config.yaml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    places = ["--path", "document.json", "--config", "config.yaml", "--output-path", name]
    done = subprocess.run([*command, *places], cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder / name


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """The demo's client, on a real server."""
    folder = tmp_path_factory.mktemp("generated")
    generated(create_app(DEMO, GatewayConfig()).openapi(), folder, "demo_client")
    sys.path.insert(0, str(folder))
    try:
        with (
            serving(DEMO, folder=folder) as (_, url),
            importlib.import_module("demo_client").Client(base_url=url, raise_on_unexpected_status=True, timeout=30) as one,
        ):
            yield one
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "demo_client"]:
            del sys.modules[name]


def api(tag: str, operation: str) -> Any:
    return importlib.import_module(f"demo_client.api.{tag}.{operation}")


def model(name: str) -> Any:
    return getattr(importlib.import_module("demo_client.models"), name)


def test_a_generated_client_asks_with_models_and_gets_one(client: Any) -> None:
    reply = api("echo", "ask_echo").sync(client=client, body=model("Words")(text="hello", times=2))

    assert isinstance(reply, model("Echoed"))
    assert reply.echo == "hello hello"


def test_a_generated_client_calls_a_declared_route_with_its_path_parameter(client: Any) -> None:
    body = model("PostEchoTextJsonWords")(times=3)

    assert api("echo", "post_echo_text").sync("a b?ü", client=client, body=body).echo == "a b?ü a b?ü a b?ü"


def test_a_generated_client_sends_and_finds_its_run(client: Any) -> None:
    sent = api("echo", "send_echo").sync_detailed(client=client, body=model("Words")(text="later"))
    page = api("runs", "list_runs").sync(client=client, agent="echo", limit=100)
    run = api("runs", "read_run").sync(sent.parsed.run_id, client=client, wait=20)

    assert sent.status_code == 202
    assert sent.headers["location"] == f"/runs/{sent.parsed.run_id}"
    assert sent.parsed.run_id in [one.run_id for one in page.runs]
    assert isinstance(run, model("RunDetails"))
    assert (run.status.value, run.output) == ("succeeded", {"echo": "later"})


def test_a_generated_client_starts_a_run_and_reads_the_tree(client: Any) -> None:
    new = model("StartRunNewRun")(agent="counter", payload={"add": 2}, run_id="chosen-here")
    started = api("runs", "start_run").sync(client=client, body=new)
    tree = api("agents", "list_agents").sync(client=client)

    assert started.run_id == "chosen-here"
    assert "counter" in [child.name for child in tree.children]
    assert api("probes", "readyz").sync(client=client).status.value == "ok"


def test_a_generated_client_reads_problems_as_models(client: Any) -> None:
    wrong = api("echo", "ask_echo").sync(client=client, body=model("Words")(text="x", times=99))
    unknown = api("runs", "read_run").sync("nobody", client=client)

    for problem, status, slug in ((wrong, 422, "contract-violated"), (unknown, 404, "run-not-found")):
        assert isinstance(problem, model("Problem"))
        assert problem.status == status
        assert problem.type_ == f"/problems/{slug}"
        assert problem.request_id
    assert [fault.path for fault in wrong.errors] == ["/times"]


def test_a_generator_takes_every_kind_of_contract(tmp_path: Path) -> None:
    package = generated(create_app(runtime(), GatewayConfig(api_key="open sesame")).openapi(), tmp_path, "hostile_client")

    names = {path.stem for path in package.glob("api/*/*.py")}
    assert {
        "ask_shop_order",
        "get_shop_find",
        "put_painted_colour_day",
        "delete_shop_things_number",
        "ask_session",
        "list_runs",
    } <= names
