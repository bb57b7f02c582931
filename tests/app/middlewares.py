"""Middlewares for the tests: each notes when a request passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOT_CALLABLE = "a text"


class _Noting:
    """Adds its name to a response header; the last one added is the outermost."""

    name = ""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-passed", self.name.encode())]
            await send(message)

        await self.app(scope, receive, noting)


class First(_Noting):
    name = "first"


class Second(_Noting):
    name = "second"


class Failing(_Noting):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the secret of the middleware")


class NotAnApplication:
    """Its instances cannot be called."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app


class Demanding(_Noting):
    """Needs more than an application."""

    def __init__(self, app: ASGIApp, more: str) -> None:
        super().__init__(app)
        self.more = more
