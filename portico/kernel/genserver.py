"""GenServer: a process in OTP's form. Calls, casts and everything else come to three methods.

user module (GenServer)      generic (AgentProcess)
-----------------------      -------------------------------------------
init                 <----   on_start
handle_call          <----   an ask; what it returns is the reply, `defer()` postpones it
handle_cast          <----   a send
handle_info          <----   a timer of `send_after`, a `DOWN` or `EXIT`, or another message of type `info`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.errors import MailboxFull, UnknownOperation
from portico.kernel.current import current
from portico.kernel.messages import DOWN, EXIT
from portico.kernel.process import AgentProcess

if TYPE_CHECKING:
    from portico.kernel.messages import Message

CAST = "cast"
INFO = "info"


class GenServer(AgentProcess):
    """Subclasses override `init`, `handle_call`, `handle_cast` and `handle_info`."""

    tag = "srv"

    async def on_start(self) -> None:
        """Calls `init`."""
        await self.init()

    async def init(self) -> None:
        """Before the first message. What it raises is a start failure."""

    async def handle_call(self, payload: Any, from_: Message) -> Any:
        """An ask. Return the reply as plain data, or `self.defer()` and later `self.reply_to(from_, payload)`."""
        del payload, from_
        raise UnknownOperation(self.name, "call")

    async def handle_cast(self, payload: Any) -> None:
        """A send: nobody waits for a reply."""
        del payload
        raise UnknownOperation(self.name, CAST)

    async def handle_info(self, payload: Any) -> None:
        """A timer, or another message that is neither call nor cast. Ignored unless overridden.

        The end of a monitored or linked process comes as `{"type": "DOWN" or "EXIT", "name": …, "reason": …}`.
        """
        del payload

    async def handle(self, message: Message) -> Any:
        """Sorts messages to the three methods."""
        if message.type == INFO:
            await self.handle_info(message.payload)
            return None
        if message.type in (DOWN, EXIT):
            await self.handle_info({"type": message.type, **message.payload})
            return None
        delivery = current.get()
        if message.type == CAST or (delivery is not None and delivery.one_way):
            await self.handle_cast(message.payload)
            return None
        return await self.handle_call(message.payload, message)

    def send_after(self, delay_ms: float, payload: Any) -> None:
        """Let `handle_info(payload)` be called after so many milliseconds, unless this incarnation has ended by then.

        Where the mailbox is full at that time, it is tried again until there is room.
        """

        async def later() -> None:
            await self.sleep(delay_ms / 1000)
            while True:
                try:
                    self.router.send(self.name, payload, INFO, self.name)
                except MailboxFull as full:
                    await self.sleep(full.retry_after)
                else:
                    return

        self.start_task(later(), "send_after")
