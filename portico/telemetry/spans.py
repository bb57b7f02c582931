"""Spans: makes the spans of one gateway, quickly. What is not sampled costs next to nothing, what is costs a plain object.

Above: `tracing.py` and `server_spans.py`. Below: OpenTelemetry's SDK, whose sampler decides, whose limits hold, whose identifiers
are used and whose processor takes what has ended. Its own spans guard every attribute and event with locks and checks, since they
do not know who writes them: most of ours are written by us alone, and take that way only where somebody else has touched them.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from portico.telemetry import semconv
from portico.telemetry.redaction import Redaction, secrets_in_hand
from portico.traceparent import well_formed
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextvars import Token

    from opentelemetry.sdk.trace import TracerProvider

NOWHERE: Final = Context()
"""No span at all: never what happens to be current."""
SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The flags of a trace (W3C Trace Context, level 2, §3.2.2.5)."""
LONGEST: Final = 8 * 1024
"""Characters of what an exception says of itself, and of its traceback, that a span has."""
READ: Final = 2 * LONGEST
"""How many of them are looked at for secrets."""
SHORT: Final = 1024
"""Characters of what a stranger calls something."""
LENGTH: Final = 55
"""Characters of a traceparent of version 00."""
_EVEN: Final = "02468ace"
_UNSET: Final = Status(StatusCode.UNSET)


class Place:
    """Where a span stands in its trace: what its children, here or elsewhere, need to know of it."""

    __slots__ = ("flags", "is_remote", "span_id", "state", "trace_id")

    def __init__(
        self, trace_id: int, span_id: int, flags: int, *, is_remote: bool = False, state: TraceState | None = None
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.is_remote = is_remote
        self.state = state

    @property
    def sampled(self) -> bool:
        """Whether it is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """As a header says it (W3C Trace Context, §3.2)."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    @property
    def context(self) -> SpanContext:
        """As OpenTelemetry has it."""
        return SpanContext(self.trace_id, self.span_id, self.is_remote, TraceFlags(self.flags), self.state)


def placed(traceparent: str | None, state: str | None = None) -> Place | None:
    """What a traceparent says; None where there is none, or a malformed one (W3C Trace Context, §3.2.2)."""
    found = well_formed(traceparent)
    if found is None:
        return None
    states = TraceState.from_header([state]) if state else None
    return Place(int(found[3:35], 16), int(found[36:52], 16), int(found[53:], 16), is_remote=True, state=states)


def is_unsampled(traceparent: str) -> bool:
    """Whether a traceparent that was made here says that its trace is not recorded: what most say, so a look must do."""
    return len(traceparent) == LENGTH and traceparent[-1] in _EVEN


def place_of(span: Span) -> Place | None:
    """The place of a span, whoever made it; None where it is none."""
    if isinstance(span, LiveSpan | UnsampledSpan):
        return span.place
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return Place(
        context.trace_id, context.span_id, int(context.trace_flags), is_remote=context.is_remote, state=context.trace_state
    )


class UnsampledSpan(NonRecordingSpan):
    """Stands for a span that is not recorded, so that what is made inside it is not recorded either."""

    def __init__(self, traceparent: str, place: Place | None = None) -> None:  # the rest is made when somebody looks
        self.traceparent = traceparent
        self._place = place

    @property
    def place(self) -> Place:
        """Where it would stand."""
        if self._place is None:
            self._place = placed(self.traceparent) or Place(0, 0, 0)
        return self._place

    def get_span_context(self) -> SpanContext:
        """See `Span.get_span_context`."""
        return self.place.context


class LiveSpan(Span):
    """A span that is recorded. Used on the event loop of its gateway, as everything here."""

    __slots__ = (
        "_spans",
        "_touched",
        "attributes",
        "ended",
        "events",
        "kind",
        "links",
        "name",
        "parent",
        "place",
        "started",
        "status",
    )

    def __init__(
        self, spans: Spans, name: str, kind: SpanKind, place: Place, parent: Place | None, attributes: dict[str, Any]
    ) -> None:
        self._spans = spans
        self._touched = False
        self.name = name
        self.kind = kind
        self.place = place
        self.parent = parent
        self.attributes = attributes
        self.events: list[Event] = []
        self.links: Sequence[Link] = ()
        self.status = _UNSET
        self.started = time_ns()
        self.ended: int | None = None

    # --- OpenTelemetry's own names: for handlers, and for other instrumentation, that find it as the current span -------

    def get_span_context(self) -> SpanContext:
        """See `Span`."""
        return self.place.context

    def is_recording(self) -> bool:
        """See `Span`."""
        return self.ended is None

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See `Span`."""
        if self.ended is None:
            self._touched = True
            self.attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """See `Span`."""
        self.set_attributes({key: value})

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        """See `Span`."""
        limits = self._spans.limits
        if self.ended is None and len(self.events) < (limits.max_events or len(self.events) + 1):
            bounded = BoundedAttributes(
                limits.max_event_attributes, dict(attributes or {}), max_value_len=limits.max_attribute_length
            )
            self.events.append(Event(name, bounded, timestamp))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """See `Span`."""
        limit = self._spans.limits.max_links
        if self.ended is None and (limit is None or len(self.links) < limit):
            self.links = (*self.links, Link(context, attributes))

    def update_name(self, name: str) -> None:
        """See `Span`."""
        if self.ended is None:
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See `Span`: what is OK stays so, and nothing becomes unset again."""
        new = status if isinstance(status, Status) else Status(status, description)
        if new.description is not None:
            new = Status(new.status_code, self._spans.clean(new.description))
        if self.ended is None and self.status.status_code is not StatusCode.OK and new.status_code is not StatusCode.UNSET:
            self.status = new

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002  # the signature of `Span`
    ) -> None:
        """See `Span`. Without secrets, and cut."""
        if self.ended is None:
            told = {name: self._spans.clean(text) for name, text in semconv.exception(exception, escaped=escaped).items()}
            self.add_event("exception", {**told, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """See `Span`."""
        if self.ended is None:
            self.ended = time_ns() if end_time is None else end_time
            self._spans.take(self)

    # --- for ourselves --------------------------------------------------------------------------------------------------

    def clean(self, text: str, more: Iterable[str] = ()) -> str:
        """See `Spans.clean`."""
        return self._spans.clean(text, more)

    def adopt(self, parent: Place | None) -> None:
        """It turns out to belong to a trace that was begun elsewhere; nothing has been made below it yet."""
        if parent is not None and parent.sampled:
            self.parent = parent
            self.place = Place(parent.trace_id, self.place.span_id, self.place.flags, state=parent.state)

    def readable(self, scope: InstrumentationScope) -> ReadableSpan:
        """As exporters read it."""
        spans, limits = self._spans, self._spans.limits
        attributes: Any = self.attributes
        if self._touched or limits.max_span_attribute_length is not None or len(attributes) > (limits.max_span_attributes or 0):
            attributes = BoundedAttributes(limits.max_span_attributes, attributes, max_value_len=limits.max_span_attribute_length)
        return ReadableSpan(
            self.name,
            self.place.context,
            None if self.parent is None else self.parent.context,
            spans.provider.resource,
            attributes,
            self.events,
            self.links,
            self.kind,
            None,
            self.status,
            self.started,
            self.ended,
            scope,
        )


class Spans:
    """Makes spans of one provider, which has the sampler, and passes on what has ended.

    `redaction`: takes secrets out of errors.
    """

    def __init__(self, provider: TracerProvider, redaction: Redaction | None = None) -> None:
        self._redaction = redaction or Redaction()
        self.hand_to(provider)
        self.limits = SpanLimits()
        self._sampler = provider.sampler
        self.follows = isinstance(provider.sampler, ParentBased)
        """Whether a parent has decided for its children: then the sampler need not be asked (the environment names no other)."""
        self._ids = provider.id_generator
        self._random = RANDOM if provider.id_generator.is_trace_id_random() else 0
        self._scope = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)

    def hand_to(self, provider: TracerProvider) -> None:
        """From now on, what has ended goes to that one, which is like the first."""
        tracer: Any = provider.get_tracer(semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
        self.provider = provider
        self._ended = tracer.span_processor.on_end

    def begin(self, name: str, kind: SpanKind, parent: Place | None, attributes: dict[str, Any]) -> LiveSpan | UnsampledSpan:
        """A span that has begun. `parent`: None for a trace of its own. `attributes` is the span's from now on."""
        if parent is not None and self.follows:
            if not parent.flags & SAMPLED:
                return UnsampledSpan(parent.traceparent, parent)
            flags, state = parent.flags, parent.state
            trace_id = parent.trace_id
        else:
            trace_id = self._ids.generate_trace_id() if parent is None else parent.trace_id
            flags = self._random if parent is None else parent.flags & RANDOM
            above = NOWHERE if parent is None else set_span_in_context(NonRecordingSpan(parent.context), NOWHERE)
            result = self._sampler.should_sample(above, trace_id, name, kind, attributes, ())
            if not result.decision.is_sampled():
                place = Place(trace_id, self._ids.generate_span_id(), flags)
                return UnsampledSpan(place.traceparent, place)
            flags, state = flags | SAMPLED, result.trace_state
            attributes.update(cast("Any", result).attributes or {})
        place = Place(trace_id, self._ids.generate_span_id(), flags, state=state)
        return LiveSpan(self, name, kind, place, parent, attributes)

    def clean(self, text: str, more: Iterable[str] = ()) -> str:
        """What an exception says, as a span may have it: without the secrets that are known here, and `more`; cut.

        Of a longer one the end is kept: of a traceback, that is where the error is.
        """
        text = self._redaction(text[-READ:], {*more, *secrets_in_hand()})
        return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]

    def take(self, span: LiveSpan) -> None:
        """A span has ended."""
        self._ended(span.readable(self._scope))


def short(text: str) -> str:
    """A name that a stranger has made up, cut."""
    return text if len(text) <= SHORT else text[:SHORT]


class Current:
    """Makes a span the current one, from `enter()` to `leave()`, in one task."""

    __slots__ = ("_token", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._token: Token[Context] | None = None

    def enter(self, context: Context | None = None) -> None:
        """Inside, it is current."""
        self._token = attach(set_span_in_context(self.span, context))

    def leave(self) -> None:
        """What was current before is so again."""
        if self._token is not None:
            detach(self._token)
            self._token = None
