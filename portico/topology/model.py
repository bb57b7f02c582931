"""Model: the one schema of a topology, in all its spellings, and what its mistakes are called.

Pydantic, since strangers write topologies. It checks each value by itself; what needs a class or a second place in the
document (names, routes, constructors) is checked in `checks.py`. Keys are added here, and nowhere else.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from portico.topology.source import Substituted

if TYPE_CHECKING:
    from collections.abc import Mapping


def _meant(value: Any) -> Any:
    """What a text with variables means where no text is wanted: `${PORT}` may be a number."""
    return value.value if isinstance(value, Substituted) else value


def _plain(value: Any) -> Any:
    """What a free-form mapping hands on, all the way down: there, only quotes tell a text from a number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, Substituted):
        return str(value) if value.quoted else value.value
    return value


def _lower(value: Any) -> Any:
    return str(value).lower() if isinstance(value, str) else value


def _level(value: Any) -> Any:
    """A word; YAML takes `off` for false."""
    return "off" if value is False else _lower(value)


def _upper(value: Any) -> Any:
    return str(value).upper() if isinstance(value, str) else value


def _word(value: Any) -> Any:
    """Numbers stand for their text where programs and headers are given texts: `PORT: 8080`."""
    return str(value) if type(value) is int else value


PROCESS_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$"
TOOL_SERVER_NAME = r"^[A-Za-z0-9_-]{1,64}$"
UNKNOWN_KEY: Final = "unknown_key"
UNKNOWN_NODE: Final = "unknown_node"
NOT_A_DURATION: Final = "not_a_duration"
NOT_A_SIZE: Final = "not_a_size"

DURATIONS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Seconds, by the letter that ends a text."""
SIZES: Final = {
    "B": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
}
"""Bytes, by the unit that ends a text."""
FOREVER: Final = "forever"
MEASURE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]+)")
"""A number and its unit."""


def _measured(text: str, units: Mapping[str, int]) -> Decimal | None:
    """What a text such as `30d` or `512MiB` comes to; None where it is none."""
    match = MEASURE.fullmatch(text)
    factor = {unit.lower(): factor for unit, factor in units.items()}.get(match[2].lower()) if match else None
    return Decimal(match[1]) * factor if match and factor else None


def _duration(value: Any) -> Any:
    """Seconds, from a number or a text; None for ever."""
    meant = _meant(value)
    if isinstance(meant, str):
        if meant.lower() == FOREVER:
            return None
        seconds = _measured(meant, DURATIONS)
        meant = None if seconds is None else float(seconds)
    if type(meant) not in {int, float}:
        raise PydanticCustomError(NOT_A_DURATION, NOT_A_DURATION)
    return meant


def _size(value: Any) -> Any:
    """Bytes, from a number or a text."""
    meant = _meant(value)
    if isinstance(meant, str):
        size = _measured(meant, SIZES)
        meant = None if size is None else int(size)
    if type(meant) not in {int, float}:
        raise PydanticCustomError(NOT_A_SIZE, NOT_A_SIZE)
    return meant


Name = Annotated[str, StringConstraints(pattern=PROCESS_NAME)]
Text = Annotated[str, StringConstraints(min_length=1)]
Scope = Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]+$")]
"""What a scope may be (RFC 6749 §3.3)."""
Word = Annotated[str, BeforeValidator(_word)]
Flag = Annotated[bool, BeforeValidator(_meant)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_meant)]
CountOrZero = Annotated[int, Field(ge=0), BeforeValidator(_meant)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_meant)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_meant)]
Age = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_duration, json_schema_input_type=float | str)
]
"""Seconds; None for ever."""
Size = Annotated[int, Field(ge=1), BeforeValidator(_size, json_schema_input_type=int | str)]
"""Bytes."""
AuditLevel = Annotated[
    Literal["off", "actions", "calls", "messages"],
    BeforeValidator(_level, json_schema_input_type=Literal["off", "actions", "calls", "messages"]),
]
"""How much is recorded."""
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_meant)]
FreeForm = Annotated[dict[str, Any], BeforeValidator(_plain)]
Restart = Annotated[Literal["permanent", "transient", "temporary"], BeforeValidator(_lower)]
Strategy = Annotated[Literal["one_for_one", "one_for_all", "rest_for_one"], BeforeValidator(_lower)]
Backoff = Annotated[Literal["constant", "linear", "exponential"], BeforeValidator(_lower)]


class Section(BaseModel):
    """A mapping that refuses unknown keys and says which one was perhaps meant. A key without a value was not said."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _offer_the_nearest_key(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(data, dict):
            keys = cls.keys()
            data = {
                key: value for key, value in cast("dict[str, Any]", data).items() if key not in keys or _meant(value) is not None
            }
        try:
            return handler(data)
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, [cls._named(fault) for fault in error.errors()]) from None

    @classmethod
    def _named(cls, fault: ErrorDetails) -> InitErrorDetails:
        """The same fault again; where it is an unknown key of this very section, with the keys that are known."""
        kind: str | PydanticCustomError = fault["type"]
        if kind == "extra_forbidden" and len(fault["loc"]) == 1:
            kind = PydanticCustomError(UNKNOWN_KEY, UNKNOWN_KEY, {"keys": cls.keys()})
        elif kind == UNKNOWN_KEY:
            kind = PydanticCustomError(UNKNOWN_KEY, UNKNOWN_KEY, fault.get("ctx"))
        elif kind in {UNKNOWN_NODE, NOT_A_DURATION, NOT_A_SIZE}:
            kind = PydanticCustomError(cast("Any", kind), cast("Any", kind))
        return InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {}))

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that it knows, as a document spells them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


# --- the tree ---------------------------------------------------------------------------------------------------------


class SupervisorOptions(Section):
    """What a supervisor is told, besides its name and children. None: as the class has it."""

    strategy: Strategy | None = None
    max_restarts: CountOrZero | None = None
    restart_window: Seconds | None = None
    backoff: Backoff | None = None
    backoff_base: SecondsOrZero | None = None
    backoff_max: SecondsOrZero | None = None
    restart: Restart | None = None


class SupervisorSettings(SupervisorOptions):
    """A supervisor and what stands below it."""

    name: Name
    children: list[Node] = Field(default_factory=list[Any])


class RootSettings(SupervisorSettings):
    """The root, which may go without a name."""

    name: Name = "root"


class AgentSettings(Section):
    """A process: which class, with which arguments, under which name."""

    OPTIONS: ClassVar[tuple[str, ...]] = (
        "mailbox_size",
        "start_timeout",
        "shutdown_timeout",
        "handle_timeout",
        "concurrency",
        "restart",
        "expose",
        "scopes",
        "capabilities",
        "description",
    )
    """The keys that mean the same for every process."""
    MANY: ClassVar[tuple[str, ...]] = ("pool", "per_key", "idle_timeout", "max_keys", "shared")
    """The keys that put several processes behind one name."""

    name: Name
    type: Text | None = None
    module: Text | None = None
    class_: Text | None = Field(default=None, alias="class")
    config: FreeForm = Field(default_factory=dict[str, Any])
    mailbox_size: Count | None = None
    start_timeout: Seconds | None = None
    shutdown_timeout: SecondsOrZero | None = None
    handle_timeout: Seconds | None = None
    concurrency: Count | None = None
    pool: Count | None = None
    per_key: Text | None = None
    idle_timeout: Seconds | None = None
    max_keys: Count | None = None
    shared: Flag | None = None
    restart: Restart | None = None
    expose: Flag | None = None
    scopes: list[Scope] | None = None
    capabilities: list[Text] | None = None
    description: Text | None = None


class FlatSupervisor(SupervisorSettings):
    """`{type: supervisor, name, children}`; the options may stand under `config:` as well."""

    type: Literal["supervisor"]
    config: SupervisorOptions = SupervisorOptions()


class NestedSupervisor(Section):
    """`{supervisor: {…}}`."""

    supervisor: SupervisorSettings


class NestedAgent(Section):
    """`{agent: {…}}`."""

    agent: AgentSettings


def _spelling(node: Any) -> str | None:
    if isinstance(node, Section):
        return type(node).__name__
    if not isinstance(node, dict):
        return None
    keys = cast("dict[str, Any]", node)
    if "supervisor" in keys:
        return "NestedSupervisor"
    if "agent" in keys:
        return "NestedAgent"
    if len(keys) == 1 and isinstance(next(iter(keys.values())), dict):
        return None  # a nested spelling with a key that nobody knows
    return "FlatSupervisor" if keys.get("type") == "supervisor" else "AgentSettings"


Node = Annotated[
    Annotated[NestedSupervisor, Tag("NestedSupervisor")]
    | Annotated[NestedAgent, Tag("NestedAgent")]
    | Annotated[FlatSupervisor, Tag("FlatSupervisor")]
    | Annotated[AgentSettings, Tag("AgentSettings")],
    Discriminator(_spelling, custom_error_type=UNKNOWN_NODE, custom_error_message=UNKNOWN_NODE),
]
"""One entry of `children`."""

SPELLINGS: Final = ("NestedSupervisor", "NestedAgent", "FlatSupervisor", "AgentSettings")
"""The tags of `Node`, which pydantic puts into the locations of its faults."""


# --- the faces --------------------------------------------------------------------------------------------------------

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class RouteSettings(Section):
    """An HTTP route onto an agent's operation."""

    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], BeforeValidator(_upper)] = "POST"
    path: Text
    agent: Text
    operation: Text | None = None
    mode: Annotated[Literal["ask", "send", "call", "cast"], BeforeValidator(_lower)] = "ask"
    timeout: Seconds | None = None
    on_disconnect: Annotated[Literal["cancel", "continue"], BeforeValidator(_lower)] | None = None
    durable: Flag = False
    scopes: list[Scope] = Field(default_factory=list[Any])
    interceptors: list[Text] = Field(default_factory=list[Any])
    middleware: list[Text] = Field(default_factory=list[Any])

    @property
    def waits(self) -> bool:
        """Whether the route waits for the reply: `ask`, which the seed calls `call`."""
        return self.mode in {"ask", "call"}


class DocsSettings(Section):
    """Whether and where the documentation is served."""

    enabled: Flag = True
    path: Text = "/docs"


def _docs(value: Any) -> Any:
    return {"enabled": _meant(value)} if isinstance(_meant(value), bool) else value


def _listed(value: Any) -> Any:
    """The short spelling of a list: its only text."""
    return [value] if isinstance(_meant(value), str) else value


class ServerSettings(Section):
    """The HTTP server: what `GatewayConfig` has, under the same names. None: not said here, so the app's settings decide."""

    host: Text | None = None
    port: Port | None = None
    tls_cert: Text | None = None
    tls_key: Text | None = None
    tls_ca_cert: Text | None = None
    client_cert_mode: Annotated[Literal["none", "optional", "required"], BeforeValidator(_lower)] | None = None
    client_cert_scopes: list[Text] | None = None
    enable_http3: Flag | None = None
    port_quic: Port | None = None
    api_key: Text | None = Field(default=None, repr=False)
    keys_file: Text | None = None
    jwt_issuer: Text | None = None
    jwt_audience: Text | None = None
    jwt_jwks_url: Text | None = None
    jwt_algorithms: list[Text] | None = None
    public_url: Text | None = None
    callback_secret: Text | None = Field(default=None, repr=False)
    callback_allowed_hosts: list[Text] | None = None
    insecure: Flag | None = None
    allowed_hosts: list[Text] | None = None
    cors_origins: list[Text] | None = None
    request_timeout: Seconds | None = None
    run_timeout: Seconds | None = None
    read_timeout: Seconds | None = None
    body_limit: Size | None = None
    compression: bool | None = None
    ping: Seconds | None = None
    drain_timeout: Seconds | None = None
    middleware: list[Text] | None = None
    interceptors: list[Text] | None = None
    sinks: list[Text] | None = None
    rate_limit: Annotated[list[Text], BeforeValidator(_listed)] | None = None
    max_calls: Count | None = None
    docs: Annotated[DocsSettings, BeforeValidator(_docs)] | None = None
    console_enabled: Flag | None = None
    console_path: Text | None = None
    mcp_path: Text | None = None
    mcp_allow: Annotated[list[Text], BeforeValidator(_listed)] | None = None
    mcp_deny: Annotated[list[Text], BeforeValidator(_listed)] | None = None
    mcp_rename: dict[Text, Text] | None = None
    mcp_page_size: Count | None = None
    mcp_input_timeout: Seconds | None = None
    mcp_client_limit: Seconds | None = None
    mcp_task_after: Seconds | None = None
    mcp_sse: Flag | None = None
    mcp_direct: Flag | None = None
    mcp_sessions_per_caller: Count | None = None
    mcp_max_sessions: Count | None = None
    mcp_session_idle_timeout: Seconds | None = None
    metrics_enabled: Flag | None = None
    audit: AuditLevel | None = None
    audit_keep: Seconds | None = None
    audit_journal: Flag | None = None
    audit_sinks: list[Text] | None = None
    access_log: Flag | None = None
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] | None = None
    title: Text | None = None


class TransportSettings(Section):
    """How messages travel. More transports come with a later version."""

    type: Annotated[Literal["in_process"], BeforeValidator(_lower)] = "in_process"


# --- the store --------------------------------------------------------------------------------------------------------

STORES: Final = ("memory", "sqlite")


class RetentionSettings(Section):
    """How long the store keeps what has ended."""

    runs: Age = 30 * 86_400.0
    """Seconds after its end that a run can be found; None for ever."""
    payloads: Age = None
    """Seconds after its end that its payload, its reply and the data of its events are kept; None for as long as the run."""
    usage: Age = 400 * 86_400.0
    """Seconds after which the usage of a day is forgotten; None for never. That of each single run goes with the run."""
    size: Size | None = None
    """Bytes that the store may take; None for any number."""


class StoreSettings(Section):
    """Where runs and states are kept: in memory, until the program ends, or in a file, which survives it."""

    type: Annotated[Literal["memory", "sqlite"], BeforeValidator(_lower)] = "memory"
    path: Text = "data"
    """The directory of the file. A relative one is taken from the topology's directory."""
    synchronous: Annotated[Literal["full", "normal"], BeforeValidator(_lower)] = "full"
    """`full`: what is stored survives the machine's power, too; `normal`: the program's end only, and faster."""
    retention: RetentionSettings = RetentionSettings()


def _store(value: Any) -> Any:
    """The short spelling: a word."""
    if not isinstance(value, str):
        return value
    if value.lower() not in STORES:
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, STORES))})
    return {"type": value.lower()}


# --- the audit trail --------------------------------------------------------------------------------------------------


class AuditSettings(Section):
    """The audit trail: the same as `server.audit`, `audit_keep`, `audit_journal` and `audit_sinks`, in one place."""

    level: AuditLevel = "actions"
    """How much is recorded: each word has what those before it have."""
    keep: Age = None
    """How long the journal keeps entries; None for ever."""
    journal: Flag = True
    """Whether the store of the runs keeps them."""
    sinks: list[Text] = Field(default_factory=list[Text])
    """Where they go besides: `file:PATH`, `unix:///dev/log`, `udp://`, `tcp://` or `tls://host:port`, `otlp`, or a dotted path."""


def _audit(value: Any) -> Any:
    """The short spelling: a word."""
    return {"level": value} if isinstance(value, str) or value is False else value


# --- tools and models -------------------------------------------------------------------------------------------------


class SandboxSettings(Section):
    """What a stdio server in a sandbox may have beyond the least."""

    network: Flag = False
    read: list[Text] = Field(default_factory=list[Text])
    write: list[Text] = Field(default_factory=list[Text])


def _sandbox(value: Any) -> Any:
    """The short spelling: a yes or a no."""
    meant: Any = _meant(value)
    said: dict[str, Any] = {}
    if isinstance(meant, bool):
        return said if meant else None
    return value


class AuthorizationOfTools(Section):
    """How we are authorised at an external MCP server: OAuth 2.1. The bridge checks what belongs to which type."""

    type: Annotated[Literal["authorization_code", "client_credentials", "workload"], BeforeValidator(_lower)]
    client_id: Text | None = None
    client_secret: Text | None = Field(default=None, repr=False)
    private_key: Text | None = Field(default=None, repr=False)
    algorithm: Text | None = None
    method: Text | None = None
    issuer: Text | None = None
    scope: Text | None = None
    client_metadata_url: Text | None = None
    callback_port: Port | None = None
    assertion_file: Text | None = None
    dpop: Flag = False
    trusted_hosts: list[Text] = Field(default_factory=list[Text])


class ServerOfTools(Section):
    """An external MCP server."""

    name: Annotated[str, StringConstraints(pattern=TOOL_SERVER_NAME)]
    transport: Annotated[Literal["stdio", "sse", "streamable_http"], BeforeValidator(_lower)] | None = None
    command: Text | None = None
    args: list[Word] = Field(default_factory=list[Word])
    env: dict[str, Word] = Field(default_factory=dict[str, Word])
    inherit_env: list[Text] = Field(default_factory=list[Text])
    cwd: Text | None = None
    sandbox: Annotated[SandboxSettings | None, BeforeValidator(_sandbox)] = None
    url: Text | None = None
    headers: dict[str, Word] = Field(default_factory=dict[str, Word])
    auth: AuthorizationOfTools | None = None
    required: Flag = False
    timeout: Seconds | None = None
    connect_timeout: Seconds | None = None
    max_calls: Count | None = None
    max_waiting: CountOrZero | None = None
    max_restarts: CountOrZero | None = None
    restart_window: Seconds | None = None
    log_level: Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"] | None = None
    allow: list[Text] = Field(default_factory=list[Text])
    deny: list[Text] = Field(default_factory=list[Text])
    rename: dict[str, Text] = Field(default_factory=dict[str, Text])
    pin: Flag = False
    pins: dict[str, Text] = Field(default_factory=dict[str, Text])
    max_result: Size | None = None
    elicitation: Flag = True
    input_timeout: Seconds | None = None
    sampling: Flag = False
    sampling_most: Annotated[int, Field(ge=1), BeforeValidator(_meant)] | None = None
    sampling_max_tokens: Annotated[int, Field(ge=1), BeforeValidator(_meant)] | None = None

    @property
    def kind(self) -> str:
        """Its transport: as it says, else what `url` or `command` implies."""
        return self.transport or ("streamable_http" if self.url else "stdio")


class ToolsSettings(Section):
    """`mcp:`. Where it is there without servers, agents can still connect some at run time."""

    servers: list[ServerOfTools] = Field(default_factory=list[ServerOfTools])
    secret_key: Annotated[
        Annotated[str, StringConstraints(min_length=16)] | None, BeforeValidator(lambda value: None if value == "" else value)
    ] = Field(default=None, repr=False)
    """Under which tokens of external servers are kept; unless given, a random one in a file beside them."""


class ModelSettings(BaseModel):
    """`models:`: settings by provider, and which of them is the default."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, FreeForm]  # pyright: ignore[reportIncompatibleVariableOverride]  # pydantic's way to type extra keys

    default: Text | None = None

    @property
    def providers(self) -> dict[str, dict[str, Any]]:
        """The settings of each provider, in the order of the document."""
        return dict(self.__pydantic_extra__)


def _as_mapping(value: Any) -> Any:
    """The seed's spelling of `plugins.models`: a list of `{type, config}`."""
    if not isinstance(value, list):
        return value
    entries = cast("list[Any]", value)
    if not all(
        isinstance(entry, dict) and {"type"} <= cast("dict[str, Any]", entry).keys() <= {"type", "config"} for entry in entries
    ):
        return entries
    found: dict[str, Any] = {str(entry["type"]): entry.get("config") or {} for entry in cast("list[dict[str, Any]]", entries)}
    return found


class PriceSettings(Section):
    """`prices:`: what models cost, where their providers do not tell it."""

    bundled: Flag = True
    """Whether the prices of genai-prices count where there are none of one's own."""
    file: Text | None = None
    """A YAML or JSON file with `models`. A relative one is taken from the topology's directory."""
    models: dict[Text, FreeForm] = Field(default_factory=dict[str, dict[str, Any]])
    """By model: `input`, `output`, `cached_input`, `cache_write` in US dollars for a million tokens. They win over the file."""


class PluginSettings(Section):
    """`plugins:`, the seed's place for models."""

    models: Annotated[ModelSettings, BeforeValidator(_as_mapping)] | None = None


class TopologySettings(Section):
    """A whole document."""

    supervision: RootSettings | None = None
    supervisor: RootSettings | None = None
    routes: list[RouteSettings] = Field(default_factory=list[RouteSettings])
    server: ServerSettings = ServerSettings()
    transport: TransportSettings = TransportSettings()
    store: Annotated[StoreSettings, BeforeValidator(_store, json_schema_input_type=Literal["memory", "sqlite"] | StoreSettings)] = (
        StoreSettings()
    )
    audit: Annotated[AuditSettings, BeforeValidator(_audit, json_schema_input_type=AuditLevel | AuditSettings)] | None = None
    mcp: ToolsSettings | None = None
    models: ModelSettings | None = None
    prices: PriceSettings = PriceSettings()
    plugins: PluginSettings = PluginSettings()
