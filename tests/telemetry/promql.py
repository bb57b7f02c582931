"""What expressions of Prometheus ask for: which metrics, and which labels of them. Parsed by a library, not by eye."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import promql_parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SCRAPED = frozenset({"instance", "job"})
"""Labels that whoever scrapes adds."""


@dataclass(slots=True)
class Asked:
    """What one expression asks for."""

    metrics: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Labels that each metric is chosen by."""
    labels: set[str] = field(default_factory=set[str])
    """Labels that anything is grouped or matched by."""
    values: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Values that a label is compared with."""


def asked_by(expression: str) -> Asked:
    """What an expression asks for. Raises `ValueError` where it is none."""
    asked = Asked()
    for node in _nodes(_parsed(expression)):
        match _kind(node):
            case "VectorSelector":
                chosen = asked.metrics.setdefault(node.name, set())
                for matcher in node.matchers.matchers:
                    chosen.add(matcher.name)
                    asked.values.setdefault(matcher.name, set()).update(matcher.value.split("|"))
            case "AggregateExpr":
                asked.labels.update(node.modifier.labels if node.modifier is not None else ())
            case "BinaryExpr":
                asked.labels.update(_matching(node))
            case _:
                pass
    return asked


def left_by(expression: str, there: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The labels that the result of an expression has. `there`: those of each metric."""
    return _left(_parsed(expression), there)


def _left(node: Any, there: Mapping[str, frozenset[str]]) -> frozenset[str]:
    match _kind(node):
        case "VectorSelector":
            return there[node.name]
        case "AggregateExpr":
            return frozenset(node.modifier.labels if node.modifier is not None else ())
        case "BinaryExpr":
            left = _left(node.lhs, there) or _left(node.rhs, there)
            matching = _matching(node)
            return left & matching if matching and str(node.op) not in ("and", "or", "unless") else left
        case kind:
            left = frozenset[str]().union(*(_left(inner, there) for inner in _inner(node)))
            return left - {"le"} if kind == "Call" and node.func.name == "histogram_quantile" else left


def _parsed(expression: str) -> Any:
    parser: Any = promql_parser
    return parser.parse(expression)


def _kind(node: Any) -> str:
    return type(node).__name__


def _matching(node: Any) -> frozenset[str]:
    matching = None if node.modifier is None else node.modifier.matching
    return frozenset(matching.labels if matching is not None else ())


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for inner in _inner(node):
        yield from _nodes(inner)


def _inner(node: Any) -> Sequence[Any]:
    match _kind(node):
        case "MatrixSelector":
            return [node.vector_selector]
        case "BinaryExpr":
            return [node.lhs, node.rhs]
        case "Call":
            return node.args
        case "AggregateExpr" | "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            return [node.expr]
        case kind:
            assert kind in ("VectorSelector", "NumberLiteral", "StringLiteral"), kind
            return []
