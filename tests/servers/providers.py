"""Anthropic, OpenAI and Google on loopback: their interfaces as far as a proposer uses them, with faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from tests.servers.provider_formats import Said, refusal


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal, as the provider words it."""

    status: int
    kind: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Silent:
    """The request is read and never answered."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks in the middle of the answer."""

    said: Said


Turn: TypeAlias = Said | Fault | Silent | Cut


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in; the names of headers in small letters."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class Providers:
    """Answers by `turns`, one after the other, whichever interface is asked; `asked` is what came in."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.asked: list[Asked] = []
        self.url = ""
        self._over = asyncio.Event()

    def will(self, *turns: Turn) -> None:
        self.turns += turns

    def settings(self, **more: str) -> dict[str, str]:
        """Keys and base URLs that lead here, as the SDKs name them."""
        return {
            "ANTHROPIC_API_KEY": "sk-ant-loopback-key",
            "ANTHROPIC_BASE_URL": self.url,
            "GOOGLE_API_KEY": "AIza-loopback-key",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "OPENAI_API_KEY": "sk-loopback-key",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            **more,
        }

    def release(self) -> None:
        """Let go of all requests that are not answered."""
        self._over.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.asked.append(
            Asked(request.path, {name.lower(): text for name, text in request.headers.items()}, body)
        )
        turn = self.turns.pop(0) if self.turns else Fault(500, "test", "no answer was prepared")
        match turn:
            case Silent():
                await self._over.wait()
                return web.Response(status=500)
            case Fault():
                error = refusal(request.path, turn.status, turn.kind, turn.message)
                return web.json_response(error, status=turn.status, headers=dict(turn.headers))
            case Cut():
                return await self._cut(request, self._said(request, body, turn.said))
            case Said():
                content, kind = self._said(request, body, turn)
                return web.Response(body=content, content_type=kind)

    def _said(self, request: web.Request, body: Mapping[str, Any], said: Said) -> tuple[bytes, str]:
        path = request.path
        if path.endswith("/messages") and body.get("stream"):
            events = (
                f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
                for name, data in said.anthropic_events(body)
            )
            return "".join(events).encode(), "text/event-stream"
        if path.endswith("/messages"):
            answer = said.anthropic(body)
        elif path.endswith("/chat/completions"):
            answer = said.openai_chat(body)
        elif path.endswith("/responses"):
            answer = said.openai_responses(body)
        else:
            answer = said.google(body, path.rpartition("/")[2].partition(":")[0])
        return json.dumps(answer).encode(), "application/json"

    async def _cut(self, request: web.Request, answer: tuple[bytes, str]) -> web.StreamResponse:
        content, kind = answer
        response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        assert request.transport is not None
        request.transport.close()
        return response


@asynccontextmanager
async def providers() -> AsyncIterator[Providers]:
    """Serve on a free port."""
    serving = Providers()
    application = web.Application(client_max_size=1 << 24)
    application.router.add_post("/{path:.*}", serving.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield serving
    finally:
        serving.release()
        await runner.cleanup()
