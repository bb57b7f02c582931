"""What a call of the client raises, drawn as a tree. All are of the family of `portico/errors.py`.

The class says what a caller can do about it, the `slug` what exactly it was: the slugs are those of the gateway's problems. They
are not the gateway's own classes, which take the nouns of a server, and write sentences that have arrived here already.

    PorticoError
    └── ClientError                   a call had no reply
        ├── ConnectionFailed          no whole answer came: nobody there, or the connection broke. `sent` says which
        │   └── TimedOut              …or nothing came in time
        ├── InvalidResponse           what came is not what a gateway says, or does not fit the type that was asked for
        ├── StillRunning              the run goes on, longer than this call was to wait
        └── PorticoAPIError           the gateway answered with a problem
            ├── BadRequest            400, 405, 406, 413, 415, 421 and any other 4xx
            ├── Unauthenticated       401
            ├── Forbidden             403
            ├── NotFound              404: no such path, agent, operation or run
            ├── Conflict              409, and a key that stands for another request
            │   └── RunCancelled      somebody cancelled the call
            ├── ContractViolated      422: the request does not satisfy the contract. `faults`
            ├── RateLimited           429: this caller called, or crashed agents, too often
            ├── Unavailable           503: refused for now, and not handled
            ├── Interrupted           503: the gateway stopped while the call was handled
            ├── DeadlineExceeded      504
            ├── AgentCrashed          the handler crashed until its attempts were spent
            ├── AgentError            declared by the agent itself: any status, a slug of its own
            └── ServerError           any other 5xx: a tool, a model, a reply that broke its contract, a proxy
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.errors import PorticoError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ClientError(PorticoError):
    """A call had no reply."""

    slug = "client-error"
    title = "No reply"


class ConnectionFailed(ClientError):
    """No whole answer came. `sent`: whether the request may have arrived, and so have been handled."""

    slug = "connection-failed"
    title = "Connection failed"

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        happened = "broke the connection off before its answer was whole" if sent else "does not answer"
        super().__init__(f"{url} {happened}: {reason or 'no reason was given'}")
        self.url = url
        self.reason = reason
        self.sent = sent


class TimedOut(ConnectionFailed):
    """Nothing came in time: the gateway, or what stands in between, did not even say that the deadline has passed."""

    slug = "timed-out"
    title = "Timed out"

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(url, reason, sent=sent)
        what = "answer" if sent else "take a connection"
        self.detail = f"{url} did not {what} in time."
        self.args = (self.detail,)


class InvalidResponse(ClientError):
    """What came is not what a gateway says, or does not fit `response=`. `faults`: path, message and type of each misfit."""

    slug = "invalid-response"
    title = "Invalid response"

    def __init__(self, url: str, reason: str, *, status: int | None = None, faults: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(f"The answer of {url} {reason}")
        self.status = status
        self.faults = list(faults)


class StillRunning(ClientError):
    """The run goes on, longer than this call was to wait. `run_id`: where to find it; `status`: what it was last."""

    slug = "still-running"
    title = "Still running"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"Run {run_id!r} has not ended yet: it is {status}. Read it later: client.runs.get({run_id!r}).")
        self.run_id = run_id
        self.status = status


class PorticoAPIError(ClientError):
    """The gateway answered with a problem (RFC 9457). Each error of a run has one, also where it comes as an event.

    `slug` is the last segment of the problem's type; empty where the answer was none, such as a proxy's. `extra` has the members
    that are not told otherwise, `retry_after` the seconds after which to try again. `replayed`: it is the stored outcome of an
    earlier request with the same key, and will not change.
    """

    slug = "api-error"
    title = "The gateway refused"

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        slug: str = "",
        title: str = "",
        run_id: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        replayed: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, **(extra or {}))
        self.status = status
        self.slug = slug  # pyright: ignore[reportAttributeAccessIssue]  # each problem has a slug of its own
        self.title = title  # pyright: ignore[reportAttributeAccessIssue]
        self.run_id = run_id
        self.request_id = request_id
        self.retry_after = retry_after
        self.replayed = replayed


class BadRequest(PorticoAPIError):
    """The request is none that the gateway takes."""


class Unauthenticated(PorticoAPIError):
    """No key, or not the right one."""


class Forbidden(PorticoAPIError):
    """The caller is known, and may not do that."""


class NotFound(PorticoAPIError):
    """No such path, agent, operation or run."""


class Conflict(PorticoAPIError):
    """What was asked does not fit what is: the agent is suspended, the run waits for no input, the key was used before."""


class RunCancelled(Conflict):
    """Somebody cancelled the call."""


class ContractViolated(PorticoAPIError):
    """The request does not satisfy the operation's contract."""

    @property
    def faults(self) -> list[dict[str, Any]]:
        """One mapping per fault: `path` (a JSON pointer), `message`, `type`."""
        return self.extra.get("errors", [])


class RateLimited(PorticoAPIError):
    """This caller called too often, or its calls crashed agents too often. `retry_after` says when it may call again."""


class Unavailable(PorticoAPIError):
    """Refused for now, and not handled: a full mailbox, a gateway that stops, a store that fails."""


class Interrupted(PorticoAPIError):
    """The gateway stopped while the call was handled: it may have taken effect."""


class DeadlineExceeded(PorticoAPIError):
    """No reply, or no input that the run waited for, came before the deadline."""


class AgentCrashed(PorticoAPIError):
    """The handler crashed on this call until its attempts were spent. `extra` has `attempts` and `restarts`."""


class AgentError(PorticoAPIError):
    """An error that the agent declares, with a slug of its own and any status."""


class ServerError(PorticoAPIError):
    """Something behind the gateway's door, or in front of it, went wrong."""
