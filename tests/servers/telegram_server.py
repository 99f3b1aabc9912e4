"""A Bot API server on loopback that records every call, is as strict as the real one and fails on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from tests.servers.ports import free_port
from tests.servers.telegram_api import BotApi, Files, Params
from tests.servers.telegram_rules import ApiError


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back for a call: its proper answer, or what a test wants instead."""

    status: int = 200
    body: bytes = b""
    silent: bool = False  # never answered
    lost: bool = False  # done, but the connection breaks before the answer is through


SILENCE = Answer(silent=True)
ANSWER_LOST = Answer(lost=True)


def refusal(status: int, description: str, **parameters: int) -> Answer:
    """An answer of the Bot API itself."""
    body: dict[str, object] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        body["parameters"] = parameters
    return Answer(status, json.dumps(body).encode())


def retry_after(seconds: int) -> Answer:
    return refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


def page(status: int, html: str = "<html>nginx</html>") -> Answer:
    """An answer of something in between, such as a proxy."""
    return Answer(status, html.encode())


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it came in, with the status of its answer (0: none yet)."""

    method: str
    params: Params
    files: Files
    status: int = 0


class TelegramServer:
    """Serves `api`; `calls` is what came in, in order."""

    def __init__(self) -> None:
        self.api = BotApi()
        self.calls: list[Call] = []
        self._faults: dict[str, list[Answer]] = {}
        self._always: dict[str, Answer] = {}
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen; after a stop on the same port again."""
        app = web.Application(client_max_size=100_000_000)
        app.router.add_route("*", "/bot{token}/{method}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        self._port = self._port or free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def stop(self) -> None:
        """Break all connections, and refuse new ones."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def fail(self, method: str, *faults: Answer) -> None:
        """Let the next calls of a method (`*`: of any) fail, one after another."""
        self._faults.setdefault(method, []).extend(faults)

    def fail_always(self, method: str, fault: Answer) -> None:
        """Let all calls of a method (`*`: of any) fail until `heal`."""
        self._always[method] = fault

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._faults.clear()
        self._always.clear()

    async def called(self, method: str, times: int = 1) -> list[Call]:
        """Wait until a method has been called and answered that often, and return those calls."""
        await self.api.until(lambda: len(self.answered(method)) >= times)
        return self.answered(method)

    async def asked(self, method: str, times: int = 1) -> None:
        """Wait until a method has been called that often, answered or not."""
        await self.api.until(lambda: sum(call.method == method for call in self.calls) >= times)

    def answered(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method and call.status]

    def pending(self, method: str) -> bool:
        """Say whether a call of a method waits for its answer."""
        return any(call.method == method and not call.status for call in self.calls)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        params, files = {}, {}
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files[name] = (value.filename, value.file.read())
            else:
                params[name] = str(value)
        method = request.match_info["method"]
        number = len(self.calls)
        self.calls.append(Call(method, params, files))
        self.api.notify()
        fault = self._next_fault(method)
        if fault is not None and fault.silent:
            await asyncio.Event().wait()
        if fault is None or fault.lost:
            answer = await self._answer(request.match_info["token"], method, params, files)
        else:
            answer = fault
        if fault is not None and fault.lost and request.transport is not None:
            request.transport.abort()
        self.calls[number] = Call(method, params, files, answer.status)
        self.api.notify()
        return web.Response(status=answer.status, body=answer.body, content_type="application/json")

    def _next_fault(self, method: str) -> Answer | None:
        for name in (method, "*"):
            if self._faults.get(name):
                return self._faults[name].pop(0)
        return self._always.get(method) or self._always.get("*")

    async def _answer(self, token: str, method: str, params: Params, files: Files) -> Answer:
        if token != self.api.token:
            return refusal(401, "Unauthorized")
        if method not in self.api.methods:
            return refusal(404, "Not Found")
        try:
            result = await self.api.methods[method](params, files)
        except ApiError as error:
            return refusal(error.status, error.description, **error.parameters)
        return Answer(200, json.dumps({"ok": True, "result": result}).encode())


@asynccontextmanager
async def serving() -> AsyncIterator[TelegramServer]:
    """A server that runs."""
    server = TelegramServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
