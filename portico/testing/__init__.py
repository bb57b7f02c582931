"""Aids for the tests of those who write agents: a runtime that tells what happened, a clock that one turns, faults on demand."""

from __future__ import annotations

from portico.llm.scripted import ScriptedModel as ScriptedModel
from portico.testing.events import collect_events as collect_events
from portico.testing.fault_plan import FaultPlan as FaultPlan
from portico.testing.fault_plan import InjectedCrash as InjectedCrash
from portico.testing.manual_clock import ManualClock as ManualClock
from portico.testing.manual_clock import settle as settle
from portico.testing.runtime import TestRuntime as TestRuntime

__all__ = ["FaultPlan", "InjectedCrash", "ManualClock", "ScriptedModel", "TestRuntime", "collect_events", "settle"]
