"""GatewayConfig: where settings come from, which wins, and what cannot be."""

from __future__ import annotations

import socket
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from portico.app.factory import create_app
from portico.app.loading import load_topology, server_settings
from portico.app.server import bind
from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError
from portico.topology.model import ServerSettings
from tests.webhooks.receivers import SECRET

if TYPE_CHECKING:
    from pathlib import Path

TREE: dict[str, Any] = {"supervision": {"name": "root", "children": []}}


def test_without_any_setting_a_gateway_is_for_this_machine_alone() -> None:
    settings = GatewayConfig.from_environ({})

    assert (settings.host, settings.port, settings.loopback) == ("127.0.0.1", 8080, True)
    assert (settings.body_limit, settings.request_timeout, settings.ping) == (4 * 1024 * 1024, 30.0, 15.0)
    assert (settings.api_key, settings.data) == (None, None)
    settings.refuse_exposure()


def test_every_kind_of_setting_can_come_from_the_environment() -> None:
    settings = GatewayConfig.from_environ(
        {
            "PORTICO_PORT": "9000",
            "PORTICO_HOST": "::1",
            "PORTICO_API_KEY": " a key\n",
            "PORTICO_ALLOWED_HOSTS": "a.example, b.example:8443,",
            "PORTICO_REQUEST_TIMEOUT": "2.5",
            "PORTICO_DOCS_ENABLED": "No",
            "PORTICO_INSECURE": "true",
            "PORTICO_DATA": "/var/lib/portico",
            "PORTICO_TITLE": "",
            "PATH": "/bin",
            "portico_port": "1",
        }
    )

    assert (settings.port, settings.host, settings.api_key) == (9000, "::1", "a key")
    assert settings.data == "/var/lib/portico"
    assert settings.allowed_hosts == ("a.example", "b.example:8443")
    assert (settings.request_timeout, settings.docs_enabled, settings.insecure) == (2.5, False, True)
    assert settings.title == "Portico"  # an empty variable says nothing


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"callback_secret": "hunter2"}, "callback_secret cannot be used: a secret begins with whsec_."),
        ({"callback_secret": "whsec_c2hvcnQ="}, "callback_secret cannot be used: a secret has 24 to 64 bytes, and this one has 5."),
        (
            {"callback_allowed_hosts": ["https://hooks.example"]},
            "callback_allowed_hosts has 'https://hooks.example': write a host alone, with or without a port.",
        ),
    ],
)
def test_callbacks_that_could_never_be_sent_are_a_sentence_that_shows_no_secret(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        GatewayConfig(**values)
    assert refused.value.detail == sentence


def test_a_gateway_of_a_tree_has_the_key_and_the_secret_of_the_environment_where_it_has_none() -> None:
    environ = {"PORTICO_API_KEY": "key", "PORTICO_CALLBACK_SECRET": SECRET}
    found, own = GatewayConfig().keyed(environ), GatewayConfig(api_key="own").keyed(environ)
    assert (found.api_key, found.callback_secret) == ("key", SECRET)
    assert (own.api_key, own.callback_secret) == ("own", SECRET)
    assert SECRET not in repr(found)


def test_what_is_given_wins_over_the_environment_and_that_over_the_topology() -> None:
    environ = {"PORTICO_PORT": "2", "PORTICO_HOST": "localhost"}
    settings = GatewayConfig.from_environ(environ, {"port": 3, "host": "::1", "request_timeout": 9.0}, port=1, host=None)

    assert (settings.port, settings.host, settings.request_timeout) == (1, "localhost", 9.0)


def test_the_topologys_server_section_is_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_PORT", "7001")
    server = {"host": "localhost", "port": 7000, "body_limit": 99, "docs": {"path": "/help"}, "allowed_hosts": ["a.example"]}
    app = create_app({**TREE, "server": server})
    settings: GatewayConfig = app.state.gateway.settings

    assert (settings.host, settings.port, settings.body_limit) == ("localhost", 7001, 99)
    assert (settings.docs_path, settings.allowed_hosts) == ("/help", ("a.example",))


def test_what_a_topology_does_not_say_is_not_said() -> None:
    assert server_settings(load_topology(TREE)) == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("PORTICO_PROT", "PORTICO_PORT"), ("PORTICO_APIKEY", "PORTICO_API_KEY"), ("PORTICO_ALLOWED_HOST", "PORTICO_ALLOWED_HOSTS")],
)
def test_an_unknown_variable_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no setting {name}. Did you mean '{meant}'"):
        GatewayConfig.from_environ({name: "x"})


@pytest.mark.parametrize("name", ["PORTICO_ROUTES", "PORTICO_MIDDLEWARE", "PORTICO_"])
def test_what_is_no_text_cannot_come_from_the_environment(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no setting {name}"):
        GatewayConfig.from_environ({name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("PORTICO_PORT", "http", "a whole number"),
        ("PORTICO_PORT", "80.5", "a whole number"),
        ("PORTICO_PORT", "70000", "between 0 and 65535"),
        ("PORTICO_PORT", "-1", "between 0 and 65535"),
        ("PORTICO_REQUEST_TIMEOUT", "soon", "a number"),
        ("PORTICO_REQUEST_TIMEOUT", "0", "more than 0"),
        ("PORTICO_REQUEST_TIMEOUT", "nan", "more than 0"),
        ("PORTICO_RUN_TIMEOUT", "inf", "finite"),
        ("PORTICO_BODY_LIMIT", "-5", "more than 0"),
        ("PORTICO_INSECURE", "maybe", "true or false"),
        ("PORTICO_DOCS_PATH", "docs", "begin with '/'"),
        ("PORTICO_MCP_PATH", "mcp", "begin with '/'"),
        ("PORTICO_TLS_CERT", "cert.pem", "give both or none"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=wanted):
        GatewayConfig.from_environ({name: value})


@pytest.mark.parametrize("name", ["docs_path", "mcp_path"])
@pytest.mark.parametrize("path", ["/runs", "/agents/echo", "/metrics", "/agents/", "/redoc", "/openapi.json", "/livez"])
def test_what_can_be_moved_cannot_stand_where_the_gateway_has_something_else(name: str, path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is '{path}': .* belongs to the gateway itself"):
        GatewayConfig.from_mapping({name: path})  # the pages need no credential, and nothing below them would


def test_pages_and_mcp_cannot_share_a_path() -> None:
    with pytest.raises(ConfigurationError, match="docs_path and mcp_path are both '/here'"):
        GatewayConfig(docs_path="/here", mcp_path="/here")
    GatewayConfig(docs_path="/docs/swagger", mcp_path="/mcp/v1")


@pytest.mark.parametrize(
    "values",
    [
        {"port": "8080"},
        {"port": True},
        {"port": 80.5},
        {"port": None},
        {"port_quic": "443"},
        {"cors_origins": "https://app.example"},
        {"client_cert_mode": None},
        {"client_cert_mode": "yes"},
        {"host": None},
        {"host": 7},
        {"request_timeout": "30"},
        {"insecure": "yes"},
        {"insecure": 1},
        {"allowed_hosts": "a.example"},
        {"middleware": "a.b.C"},
        {"routes": {}},
        {"docs_path": None},
        {"mcp_path": 5},
        {"mcp_allow": "calc-*"},
        {"mcp_rename": ["a=b"]},
        {"mcp_page_size": 0},
        {"api_key": 5},
        {"data": 5},
        {"data": " "},
    ],
)
def test_plain_data_of_another_kind_is_refused_with_the_name(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(values))} is "):
        GatewayConfig.from_mapping(values)


def test_an_unknown_key_of_a_mapping_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"no setting 'prot'\. Did you mean 'port'"):
        GatewayConfig.from_mapping({"prot": 1})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"])
def test_an_address_of_this_machine_alone_needs_neither(host: str) -> None:
    GatewayConfig(host=host).refuse_exposure()


@pytest.mark.parametrize("address", ["192.0.2.1", "0.0.0.0", "::"])
def test_a_name_counts_as_what_it_stands_for(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 0, "", (address, 0))]

    def resolve(*_: object, **__: object) -> list[object]:
        return [*found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ConfigurationError, match=f"Binding localhost, which is {address}, would let everybody"):
        bind(GatewayConfig(host="localhost", port=0))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "192.0.2.1", "gateway.example", "", "0", "localhost.example"])
def test_an_address_that_others_reach_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigurationError, match="PORTICO_API_KEY"):
        GatewayConfig(host=host).refuse_exposure()
    GatewayConfig(host=host, api_key="secret").refuse_exposure()
    GatewayConfig(host=host, insecure=True).refuse_exposure()


def test_settings_do_not_print_their_key() -> None:
    assert "secret" not in repr(GatewayConfig(api_key="secret"))


def test_a_topology_can_say_every_setting_under_its_own_name() -> None:
    elsewhere = {"routes", "data", "docs_enabled", "docs_path"}  # `routes:`, `store:` and `docs:` of the document
    assert {about.name for about in fields(GatewayConfig)} - elsewhere == set(ServerSettings.model_fields) - {"docs"}


def test_what_a_topology_says_of_its_server_reaches_the_settings() -> None:
    server = {"port": 0, "body_limit": "1MiB", "middleware": ["a.B"], "mcp_path": "/tools", "docs": {"path": "/d"}, "ping": 3}
    settings = GatewayConfig(**server_settings(load_topology({**TREE, "server": server})))
    assert (settings.port, settings.body_limit, settings.middleware, settings.mcp_path) == (0, 1024**2, ("a.B",), "/tools")
    assert (settings.docs_enabled, settings.docs_path, settings.ping) == (True, "/d", 3)


ISSUER = {"jwt_issuer": "https://id.example", "jwt_audience": "portico"}


@pytest.mark.parametrize("way", [{"api_key": "secret"}, {"keys_file": "keys.json"}, ISSUER])
def test_every_way_to_know_callers_lets_others_reach_the_gateway(way: dict[str, Any]) -> None:
    settings = GatewayConfig(host="0.0.0.0", **way)

    assert settings.authenticates
    settings.refuse_exposure()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"keys_file": " "}, "keys_file is blank"),
        ({"jwt_issuer": "https://id.example"}, "jwt_audience is missing"),
        ({**ISSUER, "jwt_audience": " "}, "jwt_audience is missing"),
        ({"jwt_audience": "portico"}, "jwt_issuer is missing"),
        ({"jwt_jwks_url": "https://id.example/keys"}, "jwt_issuer is missing"),
        ({**ISSUER, "jwt_issuer": "id.example"}, "must be an https:// URL"),
        ({**ISSUER, "jwt_issuer": "http://id.example"}, "must be an https:// URL"),
        ({**ISSUER, "jwt_issuer": "https://id.example?x"}, "must be an https:// URL"),
        ({**ISSUER, "jwt_jwks_url": "http://id.example/keys"}, "must be an https:// URL"),
        ({**ISSUER, "jwt_jwks_url": "http://localhost.example/keys"}, "must be an https:// URL"),
        ({**ISSUER, "jwt_algorithms": []}, "jwt_algorithms is empty"),
        ({**ISSUER, "jwt_algorithms": ["none"]}, "must be asymmetric"),
        ({**ISSUER, "jwt_algorithms": ["RS256", "HS256"]}, "has 'HS256': it must be asymmetric"),
        ({**ISSUER, "jwt_algorithms": ["rs256", 5]}, "must be asymmetric"),
        ({"public_url": "api.example"}, "public_url is 'api.example'"),
        ({"public_url": 'https://a"b.example'}, "must be an http"),
    ],
)
def test_what_is_said_of_callers_and_cannot_be_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        GatewayConfig.from_mapping(values)


@pytest.mark.parametrize(
    "values",
    [
        {**ISSUER, "jwt_issuer": "http://127.0.0.1:8081/realms/a"},
        {**ISSUER, "jwt_issuer": "http://[::1]:8081"},
        {**ISSUER, "jwt_issuer": "http://keycloak:8080", "insecure": True},
        {**ISSUER, "jwt_jwks_url": "https://id.example/keys?tenant=a"},
        {**ISSUER, "jwt_algorithms": ["ES512"]},
        {"public_url": "http://gateway:8080/below"},
    ],
)
def test_what_is_said_of_callers_and_can_be_is_taken(values: dict[str, Any]) -> None:
    GatewayConfig.from_mapping(values)


def test_tokens_can_be_set_up_from_the_environment() -> None:
    settings = GatewayConfig.from_environ(
        {
            "PORTICO_JWT_ISSUER": "https://id.example",
            "PORTICO_JWT_AUDIENCE": "a b",
            "PORTICO_JWT_ALGORITHMS": "ES256, EdDSA",
            "PORTICO_PUBLIC_URL": "https://api.example",
            "PORTICO_KEYS_FILE": "k.json",
        }
    )

    assert (settings.jwt_issuer, settings.jwt_audience) == ("https://id.example", "a b")
    assert settings.jwt_algorithms == ("ES256", "EdDSA")
    assert (settings.public_url, settings.keys_file) == ("https://api.example", "k.json")


def test_the_key_file_of_a_data_directory_counts_where_no_other_is_chosen(tmp_path: Path) -> None:
    assert GatewayConfig().with_keys_of(tmp_path).keys_file is None
    (tmp_path / "keys.json").touch()

    assert GatewayConfig().with_keys_of(tmp_path).keys_file == str(tmp_path / "keys.json")
    assert GatewayConfig(data=str(tmp_path)).with_keys_of(None).keys_file == str(tmp_path / "keys.json")
    assert GatewayConfig(keys_file="mine").with_keys_of(tmp_path).keys_file == "mine"
    assert GatewayConfig().with_keys_of(None).keys_file is None


def test_variables_choose_the_tools_of_mcp() -> None:
    settings = GatewayConfig.from_environ(
        {"PORTICO_MCP_ALLOW": "calc-*, echo", "PORTICO_MCP_DENY": "calc-forget", "PORTICO_MCP_RENAME": "calc-add=add , echo=say"}
    )
    assert settings.mcp_allow == ("calc-*", "echo")
    assert settings.mcp_deny == ("calc-forget",)
    assert settings.mcp_rename == {"calc-add": "add", "echo": "say"}


@pytest.mark.parametrize("text", ["calc-add", "calc-add=", "=add", "a=b,c"])
def test_a_variable_that_renames_is_read_whole_or_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"PORTICO_MCP_RENAME is .*write it as one=other"):
        GatewayConfig.from_environ({"PORTICO_MCP_RENAME": text})


@pytest.mark.parametrize("values", [{"mcp_allow": [5]}, {"mcp_deny": [" "]}, {"mcp_rename": {"a": 5}}, {"mcp_rename": {5: "a"}}])
def test_what_cannot_be_the_name_of_a_tool_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(values))} has "):
        GatewayConfig.from_mapping(values)
