"""The whole family of errors, drawn as a tree.

Every class carries a `slug` (stable: the last segment of the problem `type` on HTTP, the `data.slug` on MCP) and a `title`.
No class knows an HTTP status or a JSON-RPC code: each face has one table for that. A class takes the nouns and writes the
sentence: what happened, to whom, what to do.

    PorticoError
    ├── ConfigurationError            what was written is wrong; nothing was started
    │   ├── TopologyError             every mistake of one topology, with file, line, path and nearest name
    │   ├── DuplicateName             two processes with one name
    │   ├── UnknownWord               a strategy, a restart, a backoff that there is not
    │   ├── SettingOutOfRange         a negative window, a pool of nothing
    │   ├── MissingExtra              an optional library is not installed; names the install line
    │   └── InvalidOperation          a decorator or a type hint that cannot become an operation
    ├── LifecycleError                a process or the runtime is not in the state that the call needs
    │   ├── RuntimeNotStarted
    │   │   └── RuntimeStopped        …any more
    │   ├── IllegalTransition         a step that the lifecycle does not have
    │   ├── StartError                a child did not start
    │   │   └── StartTimeout          …because its `on_start` took too long
    │   ├── SpawnError                a dynamic child was refused
    │   │   └── SpawnLimitReached     …because there are as many as there may be
    │   ├── StopTimeout               processes that outlived the stop
    │   └── StoreError                the data directory cannot be used: in use, damaged, not writable
    ├── CallError                     a call was not answered with a reply
    │   ├── Refused                   …and was never handled
    │   │   ├── UnknownAgent
    │   │   ├── UnknownOperation
    │   │   ├── UnknownRun
    │   │   ├── UnknownResource       nothing can be read at that address
    │   │   ├── UnknownPrompt
    │   │   ├── ReservedType          a message type that belongs to the runtime
    │   │   ├── ContractViolation     the request does not satisfy the contract
    │   │   ├── InvalidPayload        the payload is not JSON-able data (strict)
    │   │   ├── KeyMissing            a keyed agent cannot tell whom the request is for
    │   │   ├── SelfAsk               a process would wait for itself
    │   │   ├── MailboxFull
    │   │   ├── TooManyKeys           a keyed agent has no process to spare
    │   │   ├── DeadlineUnreachable   what waits already takes longer
    │   │   ├── Suspended             the process takes no messages for now
    │   │   ├── AgentDraining         …because it works off what waits
    │   │   ├── ProcessExited         the process ended for good
    │   │   ├── Draining              the runtime is stopping
    │   │   ├── StoreUnavailable      what must be stored could not be
    │   │   ├── KeyReused             an idempotency key or a run id stands for another request
    │   │   ├── KeyInProgress         …or for one that has no outcome yet
    │   │   ├── NotWaiting            the run waits for no input
    │   │   ├── NotRedrivable         a dead letter whose request is not kept whole
    │   │   ├── NotRedeliverable      a run that has no callback to send again
    │   │   ├── CrashBudgetSpent      this caller's calls crashed agents too often
    │   │   ├── InsufficientScope     this caller may not do that
    │   │   ├── AuthUnavailable       who calls cannot be found out for now
    │   │   ├── QuotaExceeded         this caller called too often
    │   │   ├── TooManyAsks           one connection has as many asks open as it may
    │   │   ├── TooManyWatchers       as many watch the gateway as may
    │   │   └── Overloaded            the gateway has as many calls in flight as it takes
    │   ├── AgentError                declared by the agent itself
    │   ├── AgentCrashed              handled, crashed, attempts spent
    │   ├── NoReply                   handled, returned nothing
    │   ├── InvalidReply              handled, the reply broke its contract
    │   ├── DeadlineExceeded
    │   ├── Interrupted               the gateway stopped while it was handled
    │   ├── InputTimeout              nobody answered what the run waited for
    │   ├── InputDeclined             …or who was asked declined to
    │   ├── CallerCannotAnswer        …or there is no way to ask the caller
    │   └── Cancelled
    ├── ToolError                     a tool did not give a result
    │   ├── UnknownTool
    │   ├── ToolRefused               an external server's tool that is not trusted
    │   ├── MCPToolError              an external server's tool answered an error
    │   ├── MCPServerBusy             an external server has as many calls as it is given
    │   └── MCPServerUnavailable      an external server is not connected
    └── ModelError                    a model provider did not give a response
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_CANDIDATES: Final = 1000
"""How many names are compared with a wrong one: each costs some microseconds, and the event loop waits for it."""


def nearest(name: str, candidates: Iterable[str], *, most: int = 3) -> list[str]:
    """The candidates that look like `name`, the most alike first."""
    from difflib import get_close_matches  # noqa: PLC0415  # 20 ms that only a mistake needs to pay

    return get_close_matches(name, list(islice(candidates, MOST_CANDIDATES)), n=most, cutoff=0.6)


def did_you_mean(nearest: Sequence[str]) -> str:
    """The end of a sentence that offers the nearest right names; empty where there is none."""
    if not nearest:
        return ""
    return f" Did you mean {' or '.join(repr(name) for name in nearest)}?"


class PorticoError(Exception):
    """The root of the family. `detail` is the sentence; `extra` are data that a face may add to its error object."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: dict[str, Any] = extra


# --- configuration ----------------------------------------------------------------------------------------------------


class ConfigurationError(PorticoError):
    """What was written is wrong. Raised before anything starts."""

    slug = "configuration"
    title = "Configuration error"


class TopologyError(ConfigurationError):
    """Every mistake of one topology at once; `mistakes` holds one line each."""

    slug = "topology"
    title = "Topology error"

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = list(mistakes)
        count = len(self.mistakes)
        head = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__("\n".join([f"The topology has {head}:", *(f"  {line}" for line in self.mistakes)]))


class DuplicateName(ConfigurationError):
    """Two processes of one runtime have the same name."""

    slug = "duplicate-name"
    title = "Duplicate name"

    def __init__(self, name: str) -> None:
        super().__init__(f"Two processes are named {name!r}: a name is an identity, so each may stand once in a tree.")
        self.name = name


class UnknownWord(ConfigurationError):
    """A setting has a value that is none of its words. `known`: the words that there are."""

    slug = "unknown-word"
    title = "Unknown word"

    def __init__(self, what: str, value: str, known: Sequence[str]) -> None:
        hint = did_you_mean(nearest(value.lower(), known)) or f" Known: {', '.join(known)}."
        super().__init__(f"{what} {value!r} is unknown.{hint}")
        self.value = value
        self.known = list(known)


class SettingOutOfRange(ConfigurationError):
    """A number is below what its setting can be."""

    slug = "setting-out-of-range"
    title = "Setting out of range"

    def __init__(self, owner: str, setting: str, value: float, least: float = 0) -> None:
        reason = "it cannot be negative" if least == 0 else f"it must be at least {least:g}"
        super().__init__(f"{setting} of {owner} is {value}: {reason}.")
        self.setting = setting
        self.value = value


class MissingExtra(ConfigurationError):
    """An optional library is not installed."""

    slug = "missing-extra"
    title = "Missing extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional library. Install it with: pip install 'portico[{extra}]'")


class InvalidOperation(ConfigurationError):
    """A decorated method cannot become an operation."""

    slug = "invalid-operation"
    title = "Invalid operation"


# --- lifecycle --------------------------------------------------------------------------------------------------------


class LifecycleError(PorticoError):
    """A process or the runtime is not in the state that the call needs."""

    slug = "wrong-state"
    title = "Wrong state"


class RuntimeNotStarted(LifecycleError):
    """The runtime was asked for something before `start()` or after `stop()`."""

    slug = "runtime-not-started"
    title = "Runtime not started"

    def __init__(self, hint: str = "use `async with runtime:` or `await runtime.start()` first.") -> None:
        super().__init__(f"Runtime not started: {hint}")


class RuntimeStopped(RuntimeNotStarted):
    """The runtime was asked for something after its `stop()`."""

    slug = "runtime-stopped"
    title = "Runtime stopped"

    def __init__(self) -> None:
        super().__init__("it was stopped. `await runtime.start()` starts it again.")


class IllegalTransition(LifecycleError):
    """A process was to take a step that its lifecycle does not have."""

    slug = "illegal-transition"
    title = "Illegal transition"

    def __init__(self, name: str, before: str, after: str) -> None:
        super().__init__(f"{name!r} is {before} and cannot become {after}.")


class StartError(LifecycleError):
    """A process did not start: its `on_start` raised, or took longer than its `start_timeout` (seconds)."""

    slug = "start-failed"
    title = "Start failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} did not start: {reason}")
        self.name = name
        self.reason = reason


class StartTimeout(StartError):
    """A process did not start: its `on_start` took longer than its `start_timeout` (seconds)."""

    slug = "start-timeout"
    title = "Start timed out"

    def __init__(self, name: str, timeout: float) -> None:
        super().__init__(name, f"on_start took longer than start_timeout ({timeout:g} s)")
        self.timeout = timeout


class SpawnError(LifecycleError):
    """A dynamic child was refused."""

    slug = "spawn-refused"
    title = "Spawn refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SpawnLimitReached(SpawnError):
    """A supervisor has as many children as `setting` allows."""

    slug = "spawn-limit-reached"
    title = "Spawn limit reached"

    def __init__(self, supervisor: str, name: str, setting: str, limit: int) -> None:
        has = f"has {limit} children" if setting == "max_children" else f"has spawned {limit}"
        super().__init__(f"Supervisor {supervisor!r} {has} ({setting}): {name!r} was not spawned.")
        self.setting = setting
        self.limit = limit


class StopTimeout(LifecycleError):
    """Processes that ignored both the request to stop and their cancellation."""

    slug = "stop-timeout"
    title = "Stop timed out"

    def __init__(self, names: Sequence[str], timeout: float) -> None:
        super().__init__(f"{', '.join(map(repr, names))} did not stop within {timeout:g} s and ignored cancellation.")
        self.names = list(names)


class StoreError(LifecycleError):
    """The data directory cannot be used. `path`: which."""

    slug = "store"
    title = "Store error"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"The data directory {path} cannot be used: {reason}")
        self.path = path


# --- calls ------------------------------------------------------------------------------------------------------------


class CallError(PorticoError):
    """A call was not answered with a reply."""

    slug = "call-failed"
    title = "Call failed"


class Refused(CallError):
    """The call was refused: no handler has seen it, so it may be sent again."""

    slug = "refused"
    title = "Call refused"


class UnknownAgent(Refused):
    """No agent of that name."""

    slug = "agent-not-found"
    title = "No such agent"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(f"There is no agent {name!r}.{did_you_mean(nearest)}")
        self.name = name
        self.nearest = list(nearest)


class UnknownOperation(Refused):
    """The agent has no operation of that name."""

    slug = "operation-not-found"
    title = "No such operation"

    def __init__(self, agent: str, operation: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(f"Agent {agent!r} has no operation {operation!r}.{did_you_mean(nearest)}")
        self.agent = agent
        self.operation = operation


class UnknownRun(Refused):
    """No run of that id, or one of somebody else's."""

    slug = "run-not-found"
    title = "No such run"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id!r}: it never was, has been removed, or belongs to somebody else.")
        self.run_id = run_id


class UnknownResource(Refused):
    """Nothing can be read at that address, or not by this caller."""

    slug = "resource-not-found"
    title = "No such resource"

    def __init__(self, uri: str, why: str = "") -> None:
        super().__init__(f"There is nothing to read at {uri!r}{f': {why}' if why else '.'}", uri=uri)
        self.uri = uri


class UnknownPrompt(Refused):
    """No prompt of that name."""

    slug = "prompt-not-found"
    title = "No such prompt"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(f"There is no prompt {name!r}.{did_you_mean(nearest)}")
        self.name = name


class ReservedType(Refused):
    """A message type that only the runtime may use."""

    slug = "reserved-type"
    title = "Reserved message type"

    def __init__(self, message_type: str, prefix: str) -> None:
        super().__init__(
            f"The message type {message_type!r} is reserved: DOWN, EXIT, and what begins with {prefix!r} belong to the runtime."
        )


class ContractViolation(Refused):
    """The request does not satisfy the operation's contract. `faults` has one mapping per fault: path, message, type."""

    slug = "contract-violated"
    title = "Contract violated"

    def __init__(self, operation: str, faults: Sequence[Mapping[str, Any]]) -> None:
        first = faults[0] if faults else {"path": "", "message": "invalid"}
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        where = f" at {first['path']}" if first["path"] else ""
        super().__init__(f"The request to {operation!r} is not valid{where}: {first['message']}{more}", errors=list(faults))
        self.operation = operation
        self.faults = list(faults)


class InvalidPayload(Refused):
    """The payload is not JSON-able data: it would not survive a wire. Raised where the runtime is strict."""

    slug = "invalid-payload"
    title = "Invalid payload"

    def __init__(self, recipient: str, reason: str) -> None:
        super().__init__(f"The payload for {recipient!r} is not JSON-able data: {reason}")


class KeyMissing(Refused):
    """A keyed agent cannot tell whom the request is for: the member that names its key is missing, or is no key."""

    slug = "key-missing"
    title = "Key missing"

    def __init__(self, agent: str, member: str, reason: str) -> None:
        faults = [{"path": f"/{member}", "message": reason}]
        super().__init__(f"Agent {agent!r} has one process per {member!r}: {reason}", errors=faults)
        self.member = member


class SelfAsk(Refused):
    """A process asked itself while it handles a message: it would wait for itself until its deadline."""

    slug = "self-ask"
    title = "Asking oneself"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} asks itself, and would wait for itself: call the method, or `send` to yourself.")


class MailboxFull(Refused):
    """The agent has as many messages waiting as its mailbox holds. `retry_after`: seconds after which to try again."""

    slug = "mailbox-full"
    title = "Mailbox full"

    def __init__(self, name: str, size: int, retry_after: float = 1.0) -> None:
        super().__init__(f"The mailbox of {name!r} is full: {size} messages wait. Try again in {retry_after:g} s.")
        self.name = name
        self.retry_after = retry_after


class TooManyKeys(Refused):
    """A keyed agent has as many processes as it may have, and all are at work. `retry_after` in seconds."""

    slug = "too-many-keys"
    title = "Too many keys"

    def __init__(self, agent: str, limit: int) -> None:
        super().__init__(f"Agent {agent!r} has a process for {limit} keys (max_keys), and all are at work. Try again in 1 s.")
        self.retry_after = 1.0


class DeadlineUnreachable(Refused):
    """What waits already takes longer than this call may. `retry_after`: seconds after which that is worked off."""

    slug = "deadline-unreachable"
    title = "Deadline unreachable"

    def __init__(self, name: str, wait: float, remaining: float) -> None:
        super().__init__(
            f"Agent {name!r} would begin this call in about {wait:.3g} s, and its deadline is in {remaining:.3g} s: it was refused."
        )
        self.retry_after = wait


class Suspended(Refused):
    """The process is suspended: it takes messages again when somebody resumes it."""

    slug = "agent-suspended"
    title = "Agent suspended"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Agent {name!r} is suspended: {reason or 'no reason was given'}")
        self.name = name
        self.reason = reason


class AgentDraining(Refused):
    """The process works off what waits, and takes nothing new meanwhile. `retry_after`: seconds that this may take."""

    slug = "agent-draining"
    title = "Agent draining"

    def __init__(self, name: str, reason: str, retry_after: float) -> None:
        super().__init__(f"Agent {name!r} is being drained and takes no new calls: {reason or 'no reason was given'}")
        self.name = name
        self.reason = reason
        self.retry_after = retry_after


class ProcessExited(Refused):
    """The process ended for good; what waited in its mailbox is answered with this."""

    slug = "agent-failed"
    title = "Agent failed for good"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Agent {name!r} has ended and will not come back: {reason}")
        self.name = name
        self.reason = reason


class Draining(Refused):
    """The runtime is stopping and takes no new calls."""

    slug = "draining"
    title = "Shutting down"

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down and takes no new calls.")
        self.retry_after = 1.0


class StoreUnavailable(Refused):
    """What must be stored could not be, such as on a full disk. Nothing of it has taken effect. `retry_after` in seconds."""

    slug = "store-unavailable"
    title = "Store unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This call must be stored, and could not be: {reason}")
        self.reason = reason
        self.retry_after = 5.0


class KeyReused(Refused):
    """An idempotency key, or a run id that its caller chose, was used for another request before."""

    slug = "key-reused"
    title = "Key used for another request"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was used for another request before: use a new one for each request.")


class KeyInProgress(Refused):
    """The first call with this idempotency key has no outcome yet, and this one did not want to wait."""

    slug = "key-in-progress"
    title = "Request in progress"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The first request with this key is being handled as run {run_id!r}: ask again.", run_id=run_id)
        self.retry_after = 1.0


class NotWaiting(Refused):
    """Input came for a run that waits for none: it was answered before, or has ended."""

    slug = "not-waiting"
    title = "The run waits for no input"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"Run {run_id!r} is {status}: it waits for no input.")


class NotRedrivable(Refused):
    """A dead letter whose request is not kept whole (secret fields, retention), or a run that is no dead letter (any more)."""

    slug = "not-redrivable"
    title = "Cannot be sent again"

    def __init__(self, letter: str, reason: str = "its request is not kept whole: send it anew.") -> None:
        super().__init__(f"{letter!r} cannot be sent again: {reason}")


class NotRedeliverable(Refused):
    """A run's callback is to be sent again, and the run has none, or has not ended."""

    slug = "not-redeliverable"
    title = "No callback to send again"

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"The callback of run {run_id!r} cannot be sent again: {reason}")


class CrashBudgetSpent(Refused):
    """Calls of this caller crashed agents too often. `retry_after`: seconds until the window has room again."""

    slug = "crash-budget-spent"
    title = "Crash budget spent"

    def __init__(self, limit: int, window: float, retry_after: float) -> None:
        super().__init__(f"{limit} of your calls crashed an agent within {window:g} s. Try again in {retry_after:.0f} s.")
        self.retry_after = retry_after


class InsufficientScope(Refused):
    """The caller is known, and may not do that. `scopes`: what it needs, all of them."""

    slug = "insufficient-scope"
    title = "Not allowed"

    def __init__(self, what: str, scopes: Iterable[str]) -> None:
        self.scopes = sorted(scopes)
        super().__init__(f"{what} needs the scope {' and '.join(map(repr, self.scopes))}, which this caller does not have.")


class AuthUnavailable(Refused):
    """A token cannot be verified for now: its issuer's keys were never fetched, and cannot be. `retry_after` in seconds."""

    slug = "auth-unavailable"
    title = "Authentication unavailable"

    def __init__(self, retry_after: float) -> None:
        super().__init__("The keys to verify this token with cannot be had for now.")
        self.retry_after = retry_after


class QuotaExceeded(Refused):
    """The caller has made as many calls as it may for now. `retry_after`: seconds until it may make another.

    `allowance`: what is left of each of its quotas.
    """

    slug = "quota-exceeded"
    title = "Quota exceeded"

    def __init__(self, quota: str, retry_after: float, allowance: Sequence[Any] = ()) -> None:
        super().__init__(f"You may make {quota} calls, and have made them. Try again in {max(1, math.ceil(retry_after))} s.")
        self.retry_after = retry_after
        self.allowance = allowance


class Overloaded(Refused):
    """As many calls are in flight as the gateway takes. `retry_after`: seconds after which one of them should have ended."""

    slug = "overloaded"
    title = "Overloaded"

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"The gateway has {limit} calls in flight and takes no more. Try again in {max(1, math.ceil(retry_after))} s."
        )
        self.retry_after = retry_after


class TooManyAsks(Refused):
    """One connection has as many asks and subscriptions open as it may."""

    slug = "too-many-asks"
    title = "Too many asks at a time"

    def __init__(self, limit: int) -> None:
        super().__init__(f"This connection has {limit} asks and subscriptions open. Wait until one of them ends.")


class TooManyWatchers(Refused):
    """As many clients watch the whole gateway as may. `retry_after` in seconds."""

    slug = "too-many-watchers"
    title = "Too many watchers"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} clients watch this gateway, and no more may. Close one, or try again later.")
        self.retry_after = 10.0


class BadRequest(Refused):
    """What came in is not even a call."""

    slug = "bad-request"
    title = "Bad request"


class MalformedBody(BadRequest):
    """The body is not what it says it is."""

    slug = "malformed-body"
    title = "Malformed body"


class MalformedHeader(BadRequest):
    """A header has a value that it cannot have."""

    slug = "malformed-header"
    title = "Malformed header"


class BodyTooLarge(BadRequest):
    """The body is longer than this gateway takes. `limit` in bytes."""

    slug = "body-too-large"
    title = "Body too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is longer than the limit of {limit} bytes.", limit=limit)


class UnsupportedMediaType(BadRequest):
    """The body is of a kind that the operation does not take. `accepted`: the kinds that it does take."""

    slug = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self, media_type: str, accepted: Sequence[str] = ("application/json",)) -> None:
        got = f"of type {media_type!r}" if media_type else "without a Content-Type"
        super().__init__(f"The body is {got}. Send one of these, and say so in Content-Type: {', '.join(accepted)}.")
        self.accepted = list(accepted)


class UnsupportedEncoding(BadRequest):
    """The body is compressed: it would have to be unpacked before anybody knows how long it is."""

    slug = "unsupported-encoding"
    title = "Unsupported content encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"The body has the Content-Encoding {encoding!r}. Send it as it is, without one.")


class NotAcceptable(BadRequest):
    """The client accepts no kind of reply that the operation gives."""

    slug = "not-acceptable"
    title = "Not acceptable"

    def __init__(self, accept: str, offered: Sequence[str]) -> None:
        super().__init__(f"The reply is {', '.join(offered[:-1])} or {offered[-1]}; the request accepts only {accept!r}.")


class RouteNotFound(BadRequest):
    """Nothing is served at this path. `nearest`: served paths that look like it."""

    slug = "not-found"
    title = "Not found"

    def __init__(self, path: str, nearest: Sequence[str] = ()) -> None:
        hint = did_you_mean(nearest)
        super().__init__(f"Nothing is served at {path}.{hint} GET /agents lists the agents, /docs shows every route.")


class MalformedAddress(BadRequest):
    """A path or a query is not percent-encoded UTF-8 (RFC 3986 §2.1)."""

    slug = "malformed-address"
    title = "Malformed address"

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"The {part} of the request's address cannot be read: {reason}.")


class MethodNotAllowed(BadRequest):
    """The path is served, but not with this method."""

    slug = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, method: str, path: str, allowed: Sequence[str]) -> None:
        super().__init__(f"{path} does not take {method}. Allowed: {', '.join(allowed)}.")
        self.allowed = list(allowed)


class RequestTimedOut(BadRequest):
    """The request did not come, or came too slowly."""

    slug = "request-timeout"
    title = "Request timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was not there within {seconds:g} s. The connection is closed.")


class HeadTooLarge(BadRequest):
    """The request line and the headers are longer than this server takes."""

    slug = "head-too-large"
    title = "Head too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request line and the headers are longer than {limit} bytes together.")


class Unauthenticated(BadRequest):
    """No key and no token, or none that is valid.

    Args:
        reason: what is wrong with a token, for its owner, who can read it anyway. Of keys nothing is told.
        presented: whether there was a credential at all.
        metadata: where a client finds out how to get a token (RFC 9728 §5.1); a URL.
    """

    scopes: Sequence[str] = ()
    """What a token should allow to be of use here (RFC 6750 §3); the authentication knows."""
    slug = "unauthenticated"
    title = "Authentication required"

    def __init__(self, reason: str = "", *, presented: bool = False, metadata: str | None = None) -> None:
        if reason:
            text = f"The token is not valid: {reason}."
        elif presented:
            text = "The key or token is not valid."
        else:
            text = "This gateway needs an API key or a token: send it as `Authorization: Bearer <key>`."
        super().__init__(text)
        self.presented = presented or bool(reason)
        self.metadata = metadata


class ForeignHost(BadRequest):
    """The Host or Origin header names somebody else: a guard against DNS rebinding and cross-site requests."""

    slug = "foreign-host"
    title = "Foreign host"

    def __init__(self, header: str, value: str) -> None:
        super().__init__(f"{header} {value!r} is not served here. Allow it: --allowed-host, or GatewayConfig(allowed_hosts=[…]).")
        self.header = header


class AgentError(CallError):
    """An error that an agent declares: `raise AgentError("out-of-stock", "None left.", status=409)`.

    The process lives on, its uncommitted state is rolled back, and the caller gets slug and detail. `status` is a hint that
    the HTTP face follows where it is a 4xx or 5xx.
    """

    slug = "agent-error"
    title = "Agent error"

    def __init__(self, slug: str, detail: str = "", *, status: int = 409, **extra: Any) -> None:
        super().__init__(detail or slug, **extra)
        self.slug = slug  # pyright: ignore[reportAttributeAccessIssue]  # each declared error has a slug of its own
        self.title = slug.replace("-", " ").capitalize()  # pyright: ignore[reportAttributeAccessIssue]
        self.status = status


class AgentCrashed(CallError):
    """The handler crashed on this message until its attempts were spent. `cause` is the last exception."""

    slug = "agent-crashed"
    title = "Agent crashed"

    def __init__(self, name: str, cause: BaseException | str, *, attempts: int, incarnation: int, restarts: int) -> None:
        self.cause = cause if isinstance(cause, BaseException) else None
        text = type(cause).__name__ if isinstance(cause, BaseException) else cause
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(
            f"Agent {name!r} crashed {times} on this message ({text}).",
            attempts=attempts,
            incarnation=incarnation,
            restarts=restarts,
        )
        self.name = name
        self.attempts = attempts
        self.incarnation = incarnation
        self.restarts = restarts


class NoReply(CallError):
    """The handler of an ask returned nothing, though its operation does not say `-> None`."""

    slug = "no-reply"
    title = "No reply"

    def __init__(self, name: str, operation: str) -> None:
        super().__init__(f"Agent {name!r} handled {operation!r} and returned nothing. Return a reply, or declare `-> None`.")


class InvalidReply(CallError):
    """The reply breaks its contract, or is not JSON-able. `faults` as in `ContractViolation`."""

    slug = "invalid-reply"
    title = "Invalid reply"

    def __init__(self, name: str, operation: str, faults: Sequence[Mapping[str, Any]]) -> None:
        first = faults[0] if faults else {"path": "", "message": "invalid"}
        where = f" at {first['path']}" if first["path"] else ""
        super().__init__(f"The reply of {name!r} to {operation!r} broke its contract{where}: {first['message']}", errors=[*faults])
        self.faults = list(faults)

    @classmethod
    def not_json(cls, name: str, operation: str, error: ValueError) -> InvalidReply:
        """Of a reply that cannot be printed as JSON; `error` says why."""
        return cls(name, operation, [{"path": "", "message": f"not JSON-able: {error}", "type": "json"}])


class DeadlineExceeded(CallError):
    """No reply came before the deadline. `timeout`: the seconds that were given, where known."""

    slug = "deadline-exceeded"
    title = "Deadline exceeded"

    def __init__(self, name: str, timeout: float | None = None) -> None:
        within = f" within {timeout:g} s" if timeout is not None else " before the deadline"
        super().__init__(f"Agent {name!r} did not reply{within}.")
        self.name = name
        self.timeout = timeout


class Interrupted(CallError):
    """The gateway stopped before there was a reply. Handling had begun: sending the call again may do it twice."""

    slug = "interrupted"
    title = "Interrupted"

    def __init__(
        self, detail: str = "The gateway shut down before there was a reply: the call was cancelled, and may have taken effect."
    ) -> None:
        super().__init__(detail)


class InputTimeout(CallError):
    """Nobody answered in time what a run waited for. Raised by `ctx.wait_input`, where that was given no default."""

    slug = "input-timeout"
    title = "No input came"

    def __init__(self, prompt: str) -> None:
        super().__init__(f"Nobody answered in time: {prompt}")


class InputDeclined(CallError):
    """Who was asked by `ctx.wait_input` and its like declined to answer. `extra["actions"]`: how, by the name of the question."""

    slug = "input-declined"
    title = "Input declined"

    def __init__(self, prompt: str, actions: Mapping[str, str]) -> None:
        said = {"decline": "was declined", "cancel": "was dismissed"}
        how = sorted({said.get(action, f"failed ({action})") for action in actions.values()})
        super().__init__(f"The answer {' and '.join(how)}: {prompt}", actions=dict(actions))


class CallerCannotAnswer(CallError):
    """A handler asked its caller something that the caller's program has no means to answer."""

    slug = "caller-cannot-answer"
    title = "The caller cannot be asked"

    def __init__(self, prompt: str, reason: str) -> None:
        super().__init__(f"{reason} What was asked: {prompt}")


class Cancelled(CallError):
    """The call was cancelled: by its caller, or because its caller went away."""

    slug = "cancelled"
    title = "Cancelled"

    def __init__(self, detail: str = "The call was cancelled.") -> None:
        super().__init__(detail)


# --- tools and models -------------------------------------------------------------------------------------------------


class ToolError(PorticoError):
    """A tool did not give a result. The text is meant to be read by a model."""

    slug = "tool-failed"
    title = "Tool failed"


class UnknownTool(ToolError):
    """No tool of that name."""

    slug = "tool-not-found"
    title = "No such tool"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(f"There is no tool {name!r}.{did_you_mean(nearest)}")
        self.name = name


class ToolRefused(ToolError):
    """A tool of an external MCP server that is not called, or an answer of it that is not taken. `reason`: why."""

    slug = "mcp-tool-refused"
    title = "MCP tool refused"

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(f"{tool} is refused: {reason}")
        self.tool = tool
        self.reason = reason


class MCPToolError(ToolError):
    """A tool of an external MCP server answered with an error."""

    slug = "mcp-tool-failed"
    title = "MCP tool failed"

    def __init__(self, tool: str, detail: str) -> None:
        super().__init__(f"{tool}: {detail}")
        self.tool = tool


class MCPServerBusy(ToolError):
    """As many calls wait for an external MCP server as may. Nothing was sent. `retry_after`: seconds after which to try again."""

    slug = "mcp-server-busy"
    title = "MCP server busy"

    def __init__(self, server: str, calls: int, waiting: int, retry_after: float = 1.0) -> None:
        super().__init__(
            f"The MCP server {server!r} has {calls} calls in flight (max_calls) and {waiting} that wait (max_waiting), and takes no"
            f" more. Try again in {retry_after:g} s."
        )
        self.server = server
        self.retry_after = retry_after


class MCPServerUnavailable(ToolError):
    """An external MCP server is not connected. `retry_after`: seconds until the next attempt, where none comes before."""

    slug = "mcp-server-unavailable"
    title = "MCP server unavailable"

    def __init__(self, server: str, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"The MCP server {server!r} is not connected: {reason}")
        self.server = server
        self.reason = reason
        self.retry_after = retry_after


class ModelError(PorticoError):
    """A model provider did not give a response. `status`: the provider's HTTP status, where there is one.

    `began`: whether the model may have begun to answer, and so have cost something. `tokens`: how many it has read and written all
    the same, as far as the provider told.
    """

    slug = "model-failed"
    title = "Model failed"

    def __init__(
        self,
        provider: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        began: bool = True,
        tokens: tuple[int | None, int | None] = (None, None),
    ) -> None:
        super().__init__(f"{provider}: {detail}")
        self.provider = provider
        self.status = status
        self.retry_after = retry_after
        self.began = began
        self.tokens = tokens
