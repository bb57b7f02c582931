"""The agents of the benchmark of watching: one that is quick, and as many idle ones as are asked for."""

from __future__ import annotations

from portico import AgentProcess, operation


class Idle(AgentProcess):
    """Does nothing."""


class Herd(AgentProcess):
    """Makes a crowd."""

    @operation
    async def nod(self) -> bool:
        """End at once."""
        return True

    @operation
    async def grow(self, to: int) -> int:
        """Have so many idle agents beside it."""
        for number in range(to):
            await self.spawn(Idle, f"idle-{number}")
        return to
