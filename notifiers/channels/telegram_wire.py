"""Requests to a Bot API server: timeouts, and errors that never carry the token."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, TypeAlias

from httpx import create_ssl_context
from telegram.error import NetworkError, TelegramError
from telegram.ext import ExtBot
from telegram.request import HTTPXRequest

# Seconds. The library's own 5 s for everything are too few for a slow night.
CONNECT_SECONDS = 10.0
READ_SECONDS = 20.0
WRITE_SECONDS = 20.0
UPLOAD_SECONDS = 60.0
POOL_SECONDS = 5.0
CONNECTIONS = 16

Observer: TypeAlias = Callable[[str, int | TelegramError], None]
"""Is told of each request: the API method, and the HTTP status of the answer or why there was none."""


class Wire(HTTPXRequest):
    """One pool of connections to a Bot API server.

    Only what looks like an answer of the Bot API is taken for one. The page of a proxy or of a hotel's login
    is a network error, whatever its status: the library would take its 404 for a refused token, and quote it
    in the log, where it may repeat the URL, and with it the token.
    """

    def __init__(self, *, read_seconds: float = READ_SECONDS, observe: Observer | None = None) -> None:
        super().__init__(
            connection_pool_size=CONNECTIONS,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            write_timeout=WRITE_SECONDS,
            media_write_timeout=UPLOAD_SECONDS,
            pool_timeout=POOL_SECONDS,
            httpx_kwargs={"verify": _certificates()},
        )
        self._observe = observe

    async def do_request(self, url: str, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        """Send one request and return its status and body."""
        method = url.rpartition("/")[2]
        try:
            status, body = await super().do_request(url, *args, **kwargs)
            if not _is_answer(status, body):
                raise NetworkError(f"{_phrase(status)} ({status}), but not from the Bot API")
        except TelegramError as error:
            self._tell(method, error)
            raise
        self._tell(method, status)
        return status, body

    def _tell(self, method: str, outcome: int | TelegramError) -> None:
        if self._observe is not None:
            self._observe(method, outcome)


def make_bot(token: str, base_url: str, *, read_seconds: float = READ_SECONDS) -> ExtBot[None]:
    """Return a bot for sending through the Bot API server at `base_url`; it needs no connection to be made.

    It never waits for a rate limit: `Spacing` does for what is told, and an answer is shown again after the
    seconds that Telegram asks for. `close_bot` ends it.
    """
    return bot_on(Wire(read_seconds=read_seconds), token, base_url)


def bot_on(wire: Wire, token: str, base_url: str) -> ExtBot[None]:
    """Return a bot that sends and receives through `wire`."""
    # The library's switch to the coming type of its durations; without it each flood wait raises a warning.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    server = base_url.rstrip("/")
    return ExtBot(
        token,
        base_url=f"{server}/bot",
        base_file_url=f"{server}/file/bot",
        request=wire,
        get_updates_request=wire,
    )


async def close_bot(bot: ExtBot[None]) -> None:
    """Close the connections of a bot made by `make_bot`."""
    await bot.request.shutdown()


@cache
def _certificates() -> SSLContext:
    """Return what servers are known by, for all wires: it takes a megabyte and some milliseconds to make."""
    return create_ssl_context()


def _is_answer(status: int, body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and (status >= 300 or "result" in answer)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"
