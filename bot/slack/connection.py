"""The ways in which Slack's requests come: a WebSocket (Socket Mode), or signed HTTP requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.web.async_client import AsyncWebClient

from bot.front import ANSWER_WAITS
from loop.errors import UserError
from notifiers.channels.network import bypasses_proxy
from notifiers.channels.slack import SlackRefusedError, slack_errors
from notifiers.message import UnreachableError

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

MISSED_PINGS = 4  # without an answer, after which a connection is taken for dead
PATH = "/slack/events"  # of the public address: the request URL of events, interactivity, slash command
_BAD_TOKEN = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)


@dataclass(frozen=True, slots=True)
class SlackPace:
    """How long things may take on Slack, in seconds."""

    ping: float = 10.0  # from one ping to the next
    connect: float = 30.0
    close: float = 5.0
    waits: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)  # after lost connections in a row
    answer: tuple[float, ...] = ANSWER_WAITS
    working: float = 0.7  # without an answer, until a person is shown that it takes longer
    form: float = 2.0  # until a form is acknowledged whatever came of it; Slack gives up after three
    home: float = 30.0  # from one look at the runs to the next, and so at least between updates of a Home tab


@contextmanager
def rejected(setting: str, wanted: str) -> Iterator[None]:
    try:
        yield
    except SlackRefusedError as error:
        if error.word not in _BAD_TOKEN:
            raise
        raise UserError(f"Slack does not accept {setting} ({error.word}): it must be {wanted}.") from None


@dataclass(eq=False, kw_only=True, repr=False)  # which would show tokens
class SocketLine:
    """Brings Slack's requests to `app` over a WebSocket that is watched: it can look alive and be deaf.

    Slack's client follows Slack's announced moves to another server by itself. Everything else that ends a
    connection ends `serve`, and the next call of it begins with a new client: repairing an old one is what
    leaves bots deaf for hours.
    """

    app: AsyncApp
    client: AsyncWebClient
    app_token: str
    pace: SlackPace

    def __post_init__(self) -> None:
        self._socket: SocketModeClient | None = None
        self._last_seen: float | None = None
        self._warned = False

    @property
    def connected(self) -> bool:
        return self._socket is not None and not self._trouble(self._socket)

    @property
    def last_seen(self) -> float | None:
        if self._socket is not None:
            self._last_seen = self._socket.last_ping_pong_time or self._last_seen
        return self._last_seen

    async def serve(self) -> None:
        """Connect and serve until a ChannelError says that the connection is lost, or cannot be made."""
        handler = AsyncSocketModeHandler(
            self.app, self.app_token, logger=_silent(), web_client=self.client, ping_interval=self.pace.ping
        )
        client = handler.client
        client.default_auto_reconnect_enabled = False  # that is for `serve` alone
        client.message_listeners.append(self._listen)
        try:
            try:
                async with asyncio.timeout(self.pace.connect):
                    client.wss_uri = await self._open()
                    if bypasses_proxy(client.wss_uri):
                        client.proxy = None
                    await handler.connect_async()  # type: ignore[no-untyped-call]
            except TimeoutError:
                raise UnreachableError(f"no WebSocket within {self.pace.connect:g} s") from None
            client.last_ping_pong_time = time.time()
            self._socket = client
            log.info("Slack: connected by Socket Mode")
            await self._watch(client)
        finally:
            self._last_seen = self.last_seen
            self._socket = None
            await _close(client, seconds=self.pace.close)

    async def _open(self) -> str:
        wanted = "an app-level token (xapp-…) with the scope connections:write"
        with rejected("SLACK_APP_TOKEN", wanted), slack_errors():
            answer = await self.client.apps_connections_open(app_token=self.app_token)
        return str(answer["url"])

    async def _watch(self, client: SocketModeClient) -> None:
        while True:
            await asyncio.sleep(self.pace.ping / 2)
            if trouble := self._trouble(client):
                raise UnreachableError(trouble)

    def _trouble(self, client: SocketModeClient) -> str:
        silence = time.time() - (client.last_ping_pong_time or 0)
        if silence > MISSED_PINGS * self.pace.ping:
            return f"no sign of life for {silence:.0f} s"
        session = client.current_session
        moving = client.connect_operation_lock.locked()  # Slack asked for it, and it ends or falls silent
        if (session is None or session.closed) and not moving:
            return "the connection was closed"
        return ""

    async def _listen(self, _client: Any, message: dict[str, Any], _raw: str | None) -> None:
        """Warn of a second bot on the same token, once: Slack shares the commands out among them."""
        if message.get("type") == "hello" and message.get("num_connections", 1) > 1 and not self._warned:
            self._warned = True
            log.warning(
                "Slack has %s connections open for SLACK_APP_TOKEN: if another bot uses it too, each gets "
                "only some of the commands.",
                message["num_connections"],
            )


def _silent() -> logging.Logger:
    """Return a logger for Slack's client, whose tracebacks at every failed attempt say less than we do."""
    logger = logging.getLogger(f"{__name__}.client")
    logger.setLevel(logging.CRITICAL)
    return logger


async def _close(client: SocketModeClient, *, seconds: float) -> None:
    """Close a client for good, also one whose server does not answer any more."""
    try:
        async with asyncio.timeout(seconds):
            await client.close()  # type: ignore[no-untyped-call]
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        log.debug("the connection to Slack did not close well: %s", error)
    parts = (client.message_processor, client.current_session_monitor, client.message_receiver)
    tasks = [task for task in parts if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aiohttp_client_session.close()


@dataclass(eq=False, kw_only=True, repr=False)  # which would show tokens
class HttpLine:
    """Serves `PATH` on `host` and `port`; what is not signed by Slack within five minutes gets 401.

    It is `connected` while it listens; whether Slack finds it only requests tell.
    """

    app: AsyncApp
    signing_secret: str
    host: str
    port: int
    connected: bool = field(default=False, init=False)
    last_seen: float | None = field(default=None, init=False)

    async def serve(self) -> None:
        from notifiers.channels.listener import listening

        try:
            async with listening(self.host, self.port, PATH, self._receive):
                self.connected = True
                log.info("Slack: listening for signed requests on %s:%s", self.host, self.port)
                await asyncio.get_running_loop().create_future()
        finally:
            self.connected = False

    async def _receive(self, request: web.BaseRequest) -> web.Response:
        from aiohttp import web

        body = await request.read()
        timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
        signature = request.headers.get("X-Slack-Signature", "")
        if not self.is_signed(body, timestamp, signature):
            log.warning("refused a request to %s that Slack has not signed", PATH)
            return web.json_response({"error": "invalid signature"}, status=401)
        self.last_seen = time.time()
        asked = AsyncBoltRequest(body=body.decode(), headers=dict(request.headers))
        answer = await self.app.async_dispatch(asked)
        headers = answer.first_headers_without_set_cookie()
        return web.Response(status=answer.status, body=answer.body.encode(), headers=headers)

    def is_signed(self, body: bytes, timestamp: str, signature: str) -> bool:
        try:
            verifier = SignatureVerifier(self.signing_secret)
            return signature.isascii() and verifier.is_valid(body, timestamp, signature)
        except ValueError:  # the time is no number, or the body no UTF-8
            return False
