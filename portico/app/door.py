"""The door of one gateway: a dispatcher with the routes, interceptors, quotas and limits that topology and settings have.

`portico serve`, `portico mcp` and `portico ask` all open it here: what stands around a call stands there on every way in.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigurationError
from portico.governance.rate_limit import RateLimit
from portico.llm.prices import Prices
from portico.operations.decorators import route_spec
from portico.runs.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.app.settings import GatewayConfig
    from portico.kernel.runtime import Runtime
    from portico.operations.operation import RouteSpec
    from portico.runs.call_observer import CallObserver
    from portico.topology.checks import DeclaredRoute


def open_door(
    runtime: Runtime, routes: Sequence[DeclaredRoute], settings: GatewayConfig, *, observers: Sequence[CallObserver] = ()
) -> Dispatcher:
    """A dispatcher for this runtime. `routes`: those of the topology; those of the settings are added.

    Raises:
        ConfigurationError: an interceptor that cannot be imported, a route or a rate limit that cannot be.
    """
    if runtime.services.prices is None:  # one of the kernel's own, which brings no prices along
        runtime.services.prices = Prices()
    dispatcher = Dispatcher(
        runtime,
        [(_resolved(spec), agent, operation) for spec, agent, operation in (*routes, *map(_route, settings.routes))],
        observers=observers,
        interceptors=[imported(one, "interceptor") for one in settings.interceptors],
        quota=RateLimit(settings.rate_limit) if settings.rate_limit else None,
        max_calls=settings.max_calls,
    )
    for one in settings.sinks:
        dispatcher.book.sinks.add(sink_of(one))
    return dispatcher


def sink_of(what: Any) -> object:
    """A sink, itself or by the dotted path of what makes it: a class, a function, or a sink that is there.

    Raises:
        ConfigurationError: it cannot be imported or made, or takes nothing.
    """
    found = what
    if isinstance(what, str):
        found = _named(what, "sink")
    if isinstance(found, type) or not (hasattr(found, "event") or hasattr(found, "usage")):
        try:
            found = found()
        except Exception as error:  # a border: the user's class may raise anything
            raise ConfigurationError(f"The sink {what!r} cannot be made: {type(error).__name__}: {error}.") from error
    if not any(callable(getattr(found, name, None)) for name in ("event", "usage")):
        raise ConfigurationError(f"The sink {what!r} takes nothing: it needs a method `event`, `usage`, or both.")
    return found


def imported(what: Any, kind: str) -> Any:
    """A middleware or interceptor, by dotted path or itself.

    Raises:
        ConfigurationError: it cannot be imported, or not be called as such. One that is missing must not be skipped in silence.
    """
    found = what
    if isinstance(what, str):
        found = _named(what, kind)
    form = "an ASGI middleware class" if kind == "middleware" else "an async function of a call and what comes next"
    if not callable(found):
        raise ConfigurationError(f"The {kind} {what!r} is not callable: it must be {form}.")
    if not (_wraps_applications(found) if kind == "middleware" else _takes_calls(found)):
        raise ConfigurationError(f"The {kind} {what!r} cannot be called as one: it must be {form}.")
    return found


def _named(path: str, kind: str) -> Any:
    """What stands at a dotted path. Raises `ConfigurationError` where nothing does."""
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"The {kind} {path!r} cannot be imported: {error}.") from error


def _wraps_applications(found: Any) -> bool:
    """Whether an application is all that it is made of, and what it makes can be called."""
    return _takes(found, 1) and (not isinstance(found, type) or any("__call__" in vars(base) for base in found.__mro__))


def _takes_calls(found: Any) -> bool:
    return not isinstance(found, type) and _takes(found, 2)


def _takes(found: Any, count: int) -> bool:
    """Whether so many arguments are enough; also where nobody can tell."""
    try:
        signature(found).bind(*range(count))
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def _resolved(spec: RouteSpec) -> RouteSpec:
    """A route with the things themselves in the place of their names."""
    if not spec.interceptors and not spec.middleware:
        return spec
    return replace(
        spec,
        interceptors=tuple(imported(one, "interceptor") for one in spec.interceptors),
        middleware=tuple(imported(one, "middleware") for one in spec.middleware),
    )


def _route(about: Mapping[str, Any]) -> DeclaredRoute:
    """A route of the settings. Raises `ConfigurationError`."""
    known = {
        "method",
        "path",
        "agent",
        "operation",
        "mode",
        "timeout",
        "on_disconnect",
        "durable",
        "scopes",
        "interceptors",
        "middleware",
    }
    unknown = set(about) - known
    missing = {"method", "path", "agent"} - set(about)
    if unknown or missing:
        what = f"has unknown keys: {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(sorted(missing))}"
        raise ConfigurationError(f"The route {dict(about)!r} {what}. Known: {', '.join(sorted(known))}.")
    spec = route_spec(
        about["method"],
        about["path"],
        mode=about.get("mode", "ask"),
        timeout=about.get("timeout"),
        on_disconnect=about.get("on_disconnect"),
        durable=about.get("durable", False),
        scopes=about.get("scopes", ()),
        interceptors=about.get("interceptors", ()),
        middleware=about.get("middleware", ()),
    )
    return spec, about["agent"], about.get("operation")
