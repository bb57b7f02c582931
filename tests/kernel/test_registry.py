"""The registry: names, globs and capabilities."""

from __future__ import annotations

import pytest

from portico.errors import UnknownAgent
from portico.kernel.mailbox import Mailbox
from portico.kernel.registry import Registry


def registry() -> Registry:
    found = Registry()
    found.register(Mailbox("worker-2", 1), ["paint", "draw"], {"paint": {"colours": 3}})
    found.register(Mailbox("worker-1", 1), ["paint"])
    found.register(Mailbox("boss", 1))
    return found


def test_a_name_leads_to_its_mailbox() -> None:
    assert registry().lookup("boss").name == "boss"
    assert registry().get("nobody") is None
    assert registry().has("boss")
    assert not registry().has("nobody")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownAgent, match=r"There is no agent 'worker-3'\. Did you mean 'worker-2' or 'worker-1'"):
        registry().lookup("worker-3")


def test_globs_find_names_in_order_and_case_counts() -> None:
    assert [box.name for box in registry().lookup_all("worker-*")] == ["worker-1", "worker-2"]
    assert registry().lookup_all("WORKER-*") == []
    assert registry().all_names() == ["boss", "worker-1", "worker-2"]


def test_capabilities_find_names_by_any_or_all_tags() -> None:
    assert registry().find_by_capability("paint") == ["worker-1", "worker-2"]
    assert registry().find_by_capabilities(["paint", "draw"]) == ["worker-1", "worker-2"]
    assert registry().find_by_capabilities(["paint", "draw"], match="all") == ["worker-2"]
    assert registry().find_by_capabilities(["paint", "sing"], match="all") == []
    assert registry().find_by_capabilities([]) == []
    assert registry().find_by_capabilities([], match="all") == []
    assert registry().capability_metadata("paint", "worker-2") == {"colours": 3}
    assert registry().capability_metadata("paint", "boss") == {}


def test_registering_again_replaces_what_a_name_can_do() -> None:
    found = registry()
    found.register(Mailbox("worker-2", 1), ["sing"])
    assert found.find_by_capability("paint") == ["worker-1"]
    assert found.find_by_capability("sing") == ["worker-2"]


def test_a_name_that_was_deregistered_is_gone_with_all_it_could_do() -> None:
    found = registry()
    found.deregister("worker-1")
    found.deregister("worker-1")
    assert not found.has("worker-1")
    assert found.find_by_capability("paint") == ["worker-2"]
