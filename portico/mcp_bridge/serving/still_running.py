"""Still running: what a client without tasks is told of a call that takes long, so that a model knows what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import CallToolResult, TextContent

from portico.mcp_bridge.serving.errors import RUN_ID
from portico.runs.waiting import INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.runs.run import Run


def still_running(run: Run, fetch_result: str, output_schema: Mapping[str, Any] | None = None) -> CallToolResult:
    """The result of a call that goes on.

    Where the tool's replies have a schema that this does not fit, it is marked as an error: the official clients throw away any
    other result that lacks the structured content, and the run's id with it.

    Args:
        run: its run, which is stored.
        fetch_result: the name of the tool that gets the result.
        output_schema: of the tool that was called.
    """
    text = (
        f"The call is still running: there is no result yet, and nothing is wrong. It goes on as run {run.run_id}. "
        f'To get its result, call the tool {fetch_result} with {{"run_id": "{run.run_id}"}}. Do not repeat the call itself.'
    )
    waits_for = run.waiting
    waits = waits_for is not None and waits_for["kind"] == INPUT
    if waits_for is not None and waits:
        text += f" It waits for somebody's answer, which POST /runs/{run.run_id}/input takes. The question: {waits_for['prompt']}"
    about = {"run_id": run.run_id, "status": "waiting" if waits else "running"}
    fits = output_schema is None or _fits(output_schema, about)
    return CallToolResult(
        content=[TextContent(text=text)],
        structured_content=about if fits else None,
        is_error=not fits,
        _meta={RUN_ID: run.run_id},
    )


def _fits(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # 60 ms that only a long call needs to pay

    validator: Any = Draft202012Validator(schema)
    return bool(validator.is_valid(value))
