"""A listener for what platforms send; aiohttp's server takes 2 MB, so it is imported only to listen.

It may be reached by everybody, so it is bounded. A connection takes one request and ends after `SECONDS`,
whatever it does; above `MOST` the oldest ends first. A body of more than a megabyte is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from notifiers.message import UnreachableError

SECONDS = 20.0
MOST = 100
_ACCEPTED = 16  # connections at a time, so that `MOST` is exceeded by few
_LINGER = 1.0  # seconds to read on after a refusal, so that it is seen


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    path: str,
    receive: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    *,
    seconds: float = SECONDS,
) -> AsyncIterator[None]:
    """Answer POST requests to `path` by `receive`, within the context.

    Raises:
        UnreachableError: the address cannot be listened on.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != path:
            response: web.StreamResponse = web.Response(status=404)
        elif request.method != "POST":
            response = web.Response(status=405)
        else:
            response = await receive(request)
        response.force_close()
        return response

    runner = web.ServerRunner(_Server(answer, seconds), shutdown_timeout=0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=_ACCEPTED).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UnreachableError(f"cannot listen on {host}:{port}: {reason}") from None
        yield
    finally:
        await runner.cleanup()


class _Server(web.Server):
    def __init__(
        self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], seconds: float
    ) -> None:
        super().__init__(answer, access_log=None, lingering_time=_LINGER)
        self._seconds = seconds

    def __call__(self) -> web.RequestHandler:
        spare = MOST - 1
        for oldest in self.connections[: max(0, len(self.connections) - spare)]:
            _hang_up(oldest)
        connection = super().__call__()
        asyncio.get_running_loop().call_later(self._seconds, _hang_up, connection)
        return connection


def _hang_up(connection: web.RequestHandler) -> None:
    if connection.transport is not None:  # it has not ended by itself
        assert isinstance(connection.transport, asyncio.WriteTransport)
        connection.transport.abort()
