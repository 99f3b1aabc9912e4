"""The WebSockets of a Slack server: envelopes out, acknowledgements in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from tests.servers.slack_payloads import APP


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One WebSocket, and the connection under it."""

    socket: web.WebSocketResponse
    transport: asyncio.Transport


class SocketMode:
    """Sends envelopes over the newest link and sends events again that a broken link left unacknowledged.

    `deaf` links answer neither a ping nor a goodbye; no new link comes about while the `gate` is not set.
    `connections` is how many the `hello` of the next link tells of.
    """

    def __init__(self, *, changed: Callable[[], None]) -> None:
        self.links: list[Link] = []
        self.opened = 0
        self.acks: list[dict[str, Any]] = []
        self.unacked: dict[str, dict[str, Any]] = {}
        self.connections = 1
        self.deaf = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = changed
        self._tickets: set[str] = set()
        self._count = 0

    def ticket(self) -> str:
        """Return what opens one link."""
        ticket = f"ticket-{self._next()}"
        self._tickets.add(ticket)
        return ticket

    async def deliver(self, kind: str, payload: dict[str, Any], *, again: bool = False) -> str:
        """Send an envelope and return its id; `again` as Slack does what was not acknowledged in time."""
        envelope = {
            "type": kind,
            "envelope_id": f"env-{self._next()}",
            "payload": payload,
            "accepts_response_payload": kind != "events_api",
        }
        await self._send(_again(envelope) if again else envelope)
        return str(envelope["envelope_id"])

    def acked(self, envelope_id: str) -> dict[str, Any] | None:
        """Return the acknowledgement of an envelope, None before there is one."""
        return next((ack for ack in self.acks if ack["envelope_id"] == envelope_id), None)

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Tell the client to move to a new link."""
        await self.links[-1].socket.send_json({"type": "disconnect", "reason": reason})

    def cut(self) -> None:
        """Break all links without a goodbye."""
        for link in self.links:
            link.transport.abort()
        self.links.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ticket = request.match_info["ticket"]
        if ticket not in self._tickets:
            return web.Response(status=403)
        self._tickets.remove(ticket)
        await self.gate.wait()
        socket = web.WebSocketResponse(autoping=False, autoclose=False)
        await socket.prepare(request)
        assert request.transport is not None
        link = Link(socket, request.transport)
        await socket.send_json(
            {"type": "hello", "num_connections": self.connections, "connection_info": {"app_id": APP}}
        )
        self.links.append(link)
        self.opened += 1
        for envelope in list(self.unacked.values()):
            await self._send(_again(envelope))
        self._changed()
        try:
            await self._read(socket)
        finally:
            if link in self.links:
                self.links.remove(link)
            self._changed()
        return socket

    async def _read(self, socket: web.WebSocketResponse) -> None:
        async for frame in socket:  # until a goodbye
            if frame.type is WSMsgType.PING and not self.deaf:
                await socket.pong(frame.data)
            elif frame.type is WSMsgType.TEXT:
                ack = json.loads(frame.data)
                self.unacked.pop(ack["envelope_id"], None)
                self.acks.append(ack)
                self._changed()
        if self.deaf:
            await asyncio.get_running_loop().create_future()
        await socket.close()

    async def _send(self, envelope: dict[str, Any]) -> None:
        if envelope["type"] == "events_api":
            self.unacked[envelope["envelope_id"]] = envelope
        if self.links:
            with suppress(ConnectionError):
                await self.links[-1].socket.send_json(envelope)

    def _next(self) -> int:
        self._count += 1
        return self._count


def _again(envelope: dict[str, Any]) -> dict[str, Any]:
    return {**envelope, "retry_attempt": 1, "retry_reason": "timeout"}
