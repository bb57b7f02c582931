"""AsyncClient: a gateway's agents and runs, to await.

Below: the plans of `calls.py`, which say what each call does; here they are carried out with `httpx.AsyncClient`, on asyncio or
trio. `sync_client.py` is the same by blocking; what each name does is told there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, overload

import anyio
import httpx

from portico.client.calls import PAGE, URL, Calls
from portico.client.following import SILENCE
from portico.client.plan import Close, Opened, Pause, Read, Send, Step, T

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
    from datetime import date, datetime
    from types import TracebackType

    from portico.client.following import Following
    from portico.client.plan import Plan
    from portico.client.records import DeadLetter, Event, GatewayEvent, Run, RunReference, UsageReport


class AsyncClient:
    """The agents and runs of a gateway.

        async with AsyncClient(api_key=key) as client:
            reply = await client.ask("echo", {"text": "hello"}, response=Echoed)

    Close it, or use it as a context manager. Several tasks may use one. Every call raises `ClientError`, of which
    `portico/client/errors.py` draws the tree.

    Args:
        base_url: where the gateway is, with the path where it is mounted.
        api_key: sent as `Authorization: Bearer …`.
        timeout: seconds for a call as a whole, with all its attempts and pauses; None for no limit. For an ask it is the deadline
            too, unless the ask has its own.
        retries: how often a call that failed is made again, where that does no harm (docs/client.md has the table).
        headers: sent with every request.
        http: an `httpx.AsyncClient` of yours, for proxies, certificates, or another transport. You close it.

    Raises:
        ConfigurationError: an address or a key that cannot be one.
    """

    def __init__(
        self,
        base_url: str = URL,
        *,
        api_key: str | None = None,
        timeout: float | None = 30.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.calls = Calls(base_url, api_key, timeout, retries, headers)
        self._owned = http is None
        self.http = httpx.AsyncClient(trust_env=self.calls.trusts_environment) if http is None else http
        self.runs = AsyncRuns(self)
        self.dead_letters = AsyncDeadLetters(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections. It cannot be used after that."""
        if self._owned:
            await self.http.aclose()

    # --- agents -------------------------------------------------------------------------------------------------------

    @overload
    async def ask(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: type[T],
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
        wait: float | None = None,
    ) -> T: ...
    @overload
    async def ask(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: None = None,
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
        wait: float | None = None,
    ) -> Any: ...
    async def ask(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: Any = None,
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
        wait: float | None = None,
    ) -> Any:
        """Ask an agent, and return its reply.

        Args:
            agent: its name.
            payload: JSON data, a dataclass or a pydantic model; None for no body, which means `{}`.
            response: the type of the reply, anything that pydantic can validate. Without one it is plain data.
            operation: which, where the agent has several.
            timeout: seconds until the deadline, and for the call as a whole.
            idempotency_key: makes the ask a stored one that never runs twice, so that it is safe to retry whatever happens. True
                makes a key for this call.
            wait: makes the ask a stored run, and waits so many seconds for its end.

        Raises:
            StillRunning: it has not ended within `wait`.
            InvalidPayload: the payload is no JSON data.
            ClientError: any other reason why there is no reply.
        """
        return await self.carry_out(
            self.calls.ask(
                agent,
                payload,
                operation=operation,
                response=response,
                timeout=timeout,
                idempotency_key=idempotency_key,
                wait=wait,
            )
        )

    async def send(
        self,
        agent: str,
        payload: Any = None,
        *,
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> RunReference:
        """Send to an agent, and return when that is stored. `timeout`: seconds until the deadline of its handling.

        Unless it has a key it gets one, so that a retry never sends twice.
        """
        return await self.carry_out(
            self.calls.send(agent, payload, operation=operation, timeout=timeout, idempotency_key=idempotency_key)
        )

    async def submit(
        self, agent: str, payload: Any = None, *, operation: str | None = None, idempotency_key: str | None = None
    ) -> RunReference:
        """Ask an agent, and return when that is stored: its run will have the reply as its output. `runs.start` can do more.

        Unless it has a key it gets one, so that a retry never asks twice.
        """
        return await self.runs.start(agent, payload, operation=operation, idempotency_key=idempotency_key)

    @overload
    def stream(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: type[T],
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool = True,
    ) -> AsyncEventStream[T]: ...
    @overload
    def stream(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: None = None,
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool = True,
    ) -> AsyncEventStream[Any]: ...
    def stream(
        self,
        agent: str,
        payload: Any = None,
        *,
        response: Any = None,
        operation: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool = True,
    ) -> AsyncEventStream[Any]:
        """Ask an agent, and follow what happens until the reply.

            async with client.stream("worker", {"steps": 3}) as events:
                async for event in events:
                    print(event.type, event.data)
                print(await events.result())

        The ask is a stored one, under a key: where the connection breaks, the stream goes on behind the last event, for as long as
        the gateway is not away for longer than the client's `timeout`; and the run goes on where you leave. With
        `idempotency_key=False` it is a plain one, which ends with its connection. `timeout`: seconds until its deadline. An error
        is raised when it is read: after the last event.
        """
        return AsyncEventStream(
            self,
            self.calls.stream(
                agent, payload, operation=operation, response=response, timeout=timeout, idempotency_key=idempotency_key
            ),
        )

    async def agents(self) -> dict[str, Any]:
        """The tree, as the gateway has it."""
        return await self.carry_out(self.calls.agents())

    async def agent(self, name: str) -> dict[str, Any]:
        """An agent's status, incarnation, restarts, mailbox and operations, as the gateway has them."""
        return await self.carry_out(self.calls.agent(name))

    async def suspend(self, name: str, reason: str = "") -> dict[str, Any]:
        """Let an agent take no further message until `resume`: asks are refused, sends wait. For admins.

        Returns it as `agent` does. Raises `NotFound`, `Conflict`, `Forbidden`.
        """
        return await self.carry_out(self.calls.act(name, "suspend", reason))

    async def drain(self, name: str, reason: str = "") -> dict[str, Any]:
        """Let an agent refuse what comes, handle what waits, and stand suspended then. For admins.

        Returns it as `agent` does. Raises `NotFound`, `Conflict`, `Forbidden`.
        """
        return await self.carry_out(self.calls.act(name, "drain", reason))

    async def resume(self, name: str) -> dict[str, Any]:
        """Let an agent take messages again. For admins.

        Returns it as `agent` does. Raises `NotFound`, `Conflict`, `Forbidden`.
        """
        return await self.carry_out(self.calls.act(name, "resume", ""))

    async def restart(self, name: str) -> dict[str, Any]:
        """Stop an agent after the message in hand, and start it anew: what waits is kept. For admins.

        Returns it as `agent` does. Raises `NotFound`, `Conflict`, `Forbidden`.
        """
        return await self.carry_out(self.calls.act(name, "restart", ""))

    def watch(
        self, *, topics: Sequence[str] | None = None, after: str | None = None, resume: bool = True, silence: float = SILENCE
    ) -> AsyncGenerator[GatewayEvent]:
        """What happens in the whole gateway, without end: stop reading when you have seen enough. For admins.

        Where the connection breaks, or says nothing for `silence` seconds, it goes on behind the last event unless `resume` is
        false. `topics`: of `process`, `run`, `figures`, `audit`. `after`: the id of the last event that you have seen. After a
        `gap`, and a `hello` of another life, read anew what you know.

        Raises:
            ClientError: it may not watch, or not any more, or the gateway was away for longer than `timeout`.
        """
        return self.tell(self.calls.watch(topics, after, resume=resume, silence=silence).events())

    @overload
    async def request(
        self,
        method: str,
        path: str,
        *,
        response: type[T],
        json: Any = None,
        content: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
    ) -> T: ...
    @overload
    async def request(
        self,
        method: str,
        path: str,
        *,
        response: None = None,
        json: Any = None,
        content: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
    ) -> Any: ...
    async def request(
        self,
        method: str,
        path: str,
        *,
        response: Any = None,
        json: Any = None,
        content: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | bool | None = None,
    ) -> Any:
        """Call any route, such as a declared one: `await client.request("GET", "/say/hello")`.

        Errors and retries are those of an ask. `json`, or `content` as it is, is the body; a GET, a HEAD, and what has a key is
        retried as what may be sent twice.
        """
        return await self.carry_out(
            self.calls.request(
                method,
                path,
                json=json,
                content=content,
                query=query,
                headers=headers,
                response=response,
                timeout=timeout,
                idempotency_key=idempotency_key,
            )
        )

    # --- carrying out -------------------------------------------------------------------------------------------------

    async def carry_out(self, plan: Plan[T]) -> T:
        """Carry a plan of `calls` out to its end."""
        try:
            step = next(plan)
            while True:
                try:
                    came = await self._take(step)
                except httpx.RequestError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(came)
        except StopIteration as end:
            return end.value

    def audit(
        self,
        *,
        after: int | None = None,
        agent: str | None = None,
        principal: str | None = None,
        action: str | None = None,
        limit: int | None = None,
        page: int = 500,
    ) -> AsyncIterator[dict[str, Any]]:
        """The audit trail, as you iterate: the newest first; with `after`, those behind that number, the oldest first.

        Each entry is the plain data that the gateway has, as `portico audit verify` takes it. Needs the scope `admin`.

        Args:
            after: the number of an entry; 0 for the whole trail.
            agent: only what was done to this agent.
            principal: only what this principal did.
            action: only this action.
            limit: how many at most; None for all.
            page: how many are read at a time, at most 1000.
        """
        conditions = {"agent": agent, "principal": principal, "action": action}
        return self.tell(self.calls.audit(after=after, limit=limit, page=page, conditions=conditions))

    async def tell(self, plan: Generator[Step | T, Any, None]) -> AsyncGenerator[T]:
        """Carry a plan of `calls` out, and hand on what it tells."""
        opened: Opened | None = None
        try:
            item = next(plan)
            while True:
                if not isinstance(item, Step):
                    yield item
                    item = next(plan)
                    continue
                try:
                    came = await self._take(item)
                except httpx.RequestError as error:
                    item = plan.throw(error)
                else:
                    opened = came if isinstance(came, Opened) else opened
                    item = plan.send(came)
        except StopIteration:
            return
        finally:
            plan.close()
            if opened is not None:
                await opened.response.aclose()

    async def _take(self, step: Step) -> Any:
        match step:
            case Send():
                response = await self.http.send(self.calls.built(self.http, step), stream=step.streamed)
                return Opened(response, response.aiter_bytes()) if step.streamed else response
            case Read():
                return await anext(step.source.chunks, None)
            case Close():
                await step.source.response.aclose()
            case Pause():
                await anyio.sleep(step.seconds)
            case _:
                raise TypeError(step)
        return None

    # --- usage --------------------------------------------------------------------------------------------------------

    async def usage(
        self,
        by: Sequence[str] = (),
        *,
        since: date | str | None = None,
        until: date | str | None = None,
        agent: str | None = None,
        principal: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        run: str | None = None,
        limit: int | None = None,
    ) -> UsageReport:
        """What models took: yours, or everybody's where you are an admin.

        Args:
            by: what to sum up by: `day`, `run`, `agent`, `principal`, `provider`, `model`. None of them: only the total.
            since: the first day, UTC.
            until: the last day, UTC.
            agent: only calls of this agent.
            principal: only calls on this one's behalf.
            provider: only calls of this provider.
            model: only calls of this model.
            run: only calls in this run.
            limit: how many rows, at most; 1000 unless given.

        Raises:
            Forbidden: somebody else's.
            ContractViolated: there is nothing of that name to sum up by.
        """
        days = {"since": None if since is None else str(since), "until": None if until is None else str(until)}
        conditions = {**days, "agent": agent, "principal": principal, "provider": provider, "model": model, "run": run}
        return await self.carry_out(self.calls.usage(by, limit, conditions))


class AsyncEventStream(Generic[T]):
    """The events of one run, to iterate over. Leave it with `aclose`, or use it as a context manager."""

    def __init__(self, client: AsyncClient, following: Following[T]) -> None:
        self._following = following
        self._events = client.tell(following.events())

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def run_id(self) -> str | None:
        """The run; None until the first event of an ask."""
        return self._following.run_id

    @property
    def last_event_id(self) -> int:
        """The number of the last event that came; 0 before the first."""
        return self._following.last

    async def result(self) -> T:
        """The reply; events that nobody has read are passed over. Raises `ClientError` where the run ended otherwise."""
        async for _ in self:
            pass
        return self._following.result()

    async def aclose(self) -> None:
        """Read no more events. A stored run goes on."""
        await self._events.aclose()


class AsyncRuns:
    """`client.runs`: what is kept of calls."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._calls = client.calls

    async def start(
        self,
        agent: str,
        payload: Any = None,
        *,
        operation: str | None = None,
        run_id: str | None = None,
        delay: float | datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunReference:
        """Start a run, and return when it is stored. `run_id`: an id of your choice, which never runs twice.

        `delay`: seconds, or a time with its zone, until it is delivered. `metadata`: kept with it. `callback_url`: where its
        end is told. Unless it has a key or an id it gets a key, so that a retry never starts two.
        """
        return await self._client.carry_out(
            self._calls.start(
                agent,
                payload,
                operation=operation,
                run_id=run_id,
                delay=delay,
                metadata=metadata,
                callback_url=callback_url,
                idempotency_key=idempotency_key,
            )
        )

    async def get(self, run_id: str, *, wait: float = 0.0, summary: bool = False) -> Run:
        """A run's record. `wait`: seconds, at most 300, to wait for its end. Raises `NotFound`.

        `summary`: have the gateway count the run's events, for `data["summary"]`.
        """
        return await self._client.carry_out(self._calls.run(run_id, wait, summary=summary))

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """A run's record at its end, however that is. A gateway that is away for less than the client's `timeout` is waited for.

        `timeout` in seconds. Raises `StillRunning` where it has not ended then.
        """
        return await self._client.carry_out(self._calls.wait(run_id, timeout))

    def list(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        parent: str | None = None,
        everyone: bool = False,
        principal: str | None = None,
        id_prefix: str | None = None,
        limit: int | None = None,
        page: int = PAGE,
    ) -> AsyncIterator[Run]:
        """Your runs, the newest first, at most `limit`. They are read as you iterate, `page` at a time (at most 500).

        `everyone`: those of all callers, `principal`: those of another one; both for admins. `id_prefix`: how their ids begin.
        """
        found = self._calls.list_runs(
            status=status,
            agent=agent,
            parent=parent,
            everyone=everyone,
            principal=principal,
            id_prefix=id_prefix,
            limit=limit,
            page=page,
        )
        return self._client.tell(found)

    async def cancel(self, run_id: str) -> Run:
        """Cancel a run, and return its record. One that has ended stays as it is. Raises `NotFound`."""
        return await self._client.carry_out(self._calls.cancel(run_id))

    async def redeliver(self, run_id: str) -> RunReference:
        """Have the end of a run told again to its callback. Raises `Conflict` where it has none, or has not ended, `NotFound`."""
        return await self._client.carry_out(self._calls.redeliver(run_id))

    async def input(self, run_id: str, value: Any) -> Run:
        """Give a run the input that it waits for. Raises `Conflict` where it waits for none, `ContractViolated`, `NotFound`."""
        return await self._client.carry_out(self._calls.input(run_id, value))

    def events(
        self,
        run_id: str,
        after: int = 0,
        *,
        resume: bool = True,
        silence: float = SILENCE,
        on_lost: Callable[[], object] | None = None,
    ) -> AsyncEventStream[Any]:
        """A run's events after a number, until its last one. How it ended is in that event; only `result()` raises it.

        Where the connection breaks, or says nothing for `silence` seconds, the stream goes on behind the last event unless
        `resume` is false; `on_lost` is called before. Raises `NotFound`, and `ConnectionFailed` where the gateway is away for
        longer than the client's `timeout`.
        """
        return AsyncEventStream(self._client, self._calls.events(run_id, after, resume=resume, silence=silence, on_lost=on_lost))


class AsyncDeadLetters:
    """`client.dead_letters`: what failed after its retries."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._calls = client.calls

    def list(self, *, agent: str | None = None, limit: int | None = None, page: int = PAGE) -> AsyncIterator[DeadLetter]:
        """Your dead letters, the newest first, at most `limit`. They are read as you iterate, `page` at a time (at most 500)."""
        found = self._calls.dead_letters(agent=agent, limit=limit, page=page)
        return self._client.tell(found)

    async def redrive(self, letter_id: str) -> RunReference:
        """Send one again, as a new run. Raises `NotFound`, `Conflict`."""
        return await self._client.carry_out(self._calls.redrive(letter_id))
