"""The door: interceptors and middlewares by dotted path, on every way in, and what is said of those that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portico.app.factory import create_app
from portico.errors import ConfigurationError
from tests.app.serving import is_problem, listening
from tests.cli.programs import portico

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

MODULE = """
from portico import AgentProcess, operation
from portico.errors import AgentError


class Echo(AgentProcess):
    @operation
    async def say(self, text: str) -> str:
        return text


async def loud(call, next):
    call.put({"text": call.payload["text"].upper()})
    return await next(call)


async def quiet_please(call, next):
    if call.payload["text"].isupper():
        raise AgentError("too-loud", "Quiet, please.", status=403)
    return await next(call)


class Stamp:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"stamped")]
            await send(message)

        await self.app(scope, receive, stamped)


nothing = 3
"""

TOPOLOGY = """
supervision:
  name: root
  children:
    - {type: shop_of_the_door.Echo, name: echo, expose: true}
server:
  middleware: [shop_of_the_door.Stamp]
  interceptors: [%s]
routes:
  - {method: GET, path: "/say/{text}", agent: echo, interceptors: [%s]}
"""


@pytest.fixture
def topology(tmp_path: Path) -> Any:
    (tmp_path / "shop_of_the_door.py").write_text(MODULE, encoding="utf-8")

    def write(gateway: str, route: str) -> Path:
        path = tmp_path / "topology.yaml"
        path.write_text(TOPOLOGY % (gateway, route), encoding="utf-8")
        return path

    return write


async def test_what_a_topology_names_stands_around_its_calls(topology: Any) -> None:
    app = create_app(topology("shop_of_the_door.loud", "shop_of_the_door.quiet_please"))
    async with listening(app) as gateway:
        refused = await gateway.client.get("/say/hello")
        is_problem(refused, 403, "too-loud")  # the gateway's stands outside, the route's inside
        is_problem(await gateway.client.post("/agents/echo", json={"text": "hello"}), 403, "too-loud")


async def test_a_middleware_of_a_topology_sees_every_response(topology: Any) -> None:
    async with listening(create_app(topology("", "shop_of_the_door.quiet_please"))) as gateway:
        for path in ("/say/hello", "/say/HELLO", "/livez", "/nowhere"):
            assert (await gateway.client.get(path)).headers["x-stamp"] == "stamped"


def test_an_interceptor_stands_around_what_the_command_line_asks(topology: Any) -> None:
    path = topology("shop_of_the_door.loud", "")
    assert portico("ask", "echo", '{"text": "hello"}', folder=path.parent).stdout.strip() == '"HELLO"'


async def test_a_middleware_of_a_route_sees_the_requests_of_that_route_alone(topology: Any) -> None:
    path = topology("", "")
    text = path.read_text(encoding="utf-8").replace("middleware: [shop_of_the_door.Stamp]", "")
    route = 'middleware: [shop_of_the_door.Stamp], path: "/say/{text}"'
    path.write_text(text.replace('path: "/say/{text}"', route), encoding="utf-8")
    async with listening(create_app(path)) as gateway:
        answer = await gateway.client.get("/say/hello")
        assert (answer.json(), answer.headers["x-stamp"]) == ("hello", "stamped")
        is_problem(await gateway.client.post("/agents/echo", json={"text": 1}), 422, "contract-violated")
        for other in (await gateway.client.post("/agents/echo", json={"text": "hello"}), await gateway.client.get("/livez")):
            assert "x-stamp" not in other.headers
    path.write_text(text.replace('path: "/say/{text}"', route.replace("Stamp", "Stomp")), encoding="utf-8")
    assert "The middleware 'shop_of_the_door.Stomp' cannot be imported: " in portico("check", folder=path.parent).stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop_of_the_door.lowd", "The interceptor 'shop_of_the_door.lowd' cannot be imported: "),
        ("nowhere.at_all", "The interceptor 'nowhere.at_all' cannot be imported: No module named 'nowhere'."),
        ("shop_of_the_door.nothing", "is not callable: it must be an async function of a call and what comes next."),
        ("shop_of_the_door.Echo", "cannot be called as one: it must be an async function of a call and what comes next."),
    ],
)
@pytest.mark.parametrize("where", ["gateway", "route"])
def test_one_that_cannot_be_had_is_told_by_check_and_nothing_is_served_without_it(
    topology: Any, name: str, told: str, where: str
) -> None:
    path = topology(name, "") if where == "gateway" else topology("", name)
    checked = portico("check", folder=path.parent)
    assert checked.returncode == 1
    assert told in checked.stderr
    with pytest.raises(ConfigurationError):
        create_app(path)
