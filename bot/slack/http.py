"""Slack's requests over HTTP, each signed: for whoever has a public address and wants no WebSocket."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.signature import SignatureVerifier

from notifiers.channel import UnreachableError

log = logging.getLogger(__name__)

PATH = "/slack/events"
"""The request URL of events, interactivity and the slash command is this path of the public address."""


class HttpLine:
    """Serves `PATH` on `host` and `port`; what is not signed by Slack within five minutes gets 401."""

    def __init__(self, *, app: AsyncApp, signing_secret: str, host: str, port: int) -> None:
        self._app = app
        self._verifier = SignatureVerifier(signing_secret)
        self._address = (host, port)
        self._last_seen: float | None = None
        self._listening = False

    @property
    def connected(self) -> bool:
        """Whether we listen; whether Slack finds us only its requests tell."""
        return self._listening

    @property
    def last_seen(self) -> float | None:
        """When the last signed request came, in seconds since the epoch."""
        return self._last_seen

    async def serve(self) -> None:
        """Serve until cancelled.

        Raises:
            ChannelError: the address cannot be listened on.
        """
        application = web.Application()
        application.router.add_post(PATH, self._receive)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, *self._address).start()
            self._listening = True
            log.info("Slack: listening for signed requests on %s:%s", *self._address)
            await asyncio.get_running_loop().create_future()
        except OSError as error:
            host, port = self._address
            raise UnreachableError(f"cannot listen on {host}:{port} ({error.strerror})") from None
        finally:
            self._listening = False
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
        signature = request.headers.get("X-Slack-Signature", "")
        if not self.is_signed(body, timestamp, signature):
            log.warning("refused a request to %s that Slack has not signed", PATH)
            return web.json_response({"error": "invalid signature"}, status=401)
        self._last_seen = time.time()
        asked = AsyncBoltRequest(body=body.decode(), headers=dict(request.headers))
        return await to_aiohttp_response(await self._app.async_dispatch(asked))

    def is_signed(self, body: bytes, timestamp: str, signature: str) -> bool:
        """Say whether Slack has sent this, and within five minutes."""
        try:
            return signature.isascii() and self._verifier.is_valid(body, timestamp, signature)
        except ValueError:  # the time is no number, or the body no UTF-8
            return False
