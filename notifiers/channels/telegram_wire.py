"""Requests to a Bot API server: timeouts, and errors that never carry the token."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from ssl import SSLContext
from typing import Any, TypeAlias

from httpx import create_ssl_context
from telegram.error import BadRequest, NetworkError, TelegramError
from telegram.ext import ExtBot
from telegram.request import HTTPXRequest

from loop.errors import UserError
from notifiers.channels.network import check_certificates, proxy_for

Observer: TypeAlias = Callable[[str, int | TelegramError], None]
"""Gets the API method of each request, and the HTTP status of the answer or why there was none."""


class Wire(HTTPXRequest):
    """A pool of connections to the Bot API server at `base_url`.

    An answer that is not of the Bot API, such as a proxy's page, is a network error whatever its status. The
    library would take its 404 for a refused token and log its text, which may repeat the URL with the token.
    """

    def __init__(
        self,
        base_url: str = "https://api.telegram.org",
        *,
        read_seconds: float = 20.0,
        observe: Observer | None = None,
    ) -> None:
        """Raises a UserError where the environment names a proxy or certificates that cannot be used."""
        super().__init__(  # in seconds; the library's own 5 are too few for a slow network
            connection_pool_size=16,
            connect_timeout=10.0,
            read_timeout=read_seconds,
            write_timeout=20.0,
            media_write_timeout=60.0,
            pool_timeout=5.0,
            proxy=proxy_for(base_url),
            # Its own reading of the environment trips over IPv6 in NO_PROXY.
            httpx_kwargs={"verify": _certificates(), "trust_env": False},
        )
        self._observe = observe or (lambda *_: None)

    async def do_request(self, url: str, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        method = url.rpartition("/")[2]
        try:
            status, body = await super().do_request(url, *args, **kwargs)
            if status == 413:  # the library takes it for a failure of the network
                raise BadRequest("the file is too large for the server (413)")
            if not _is_answer(status, body):
                raise NetworkError(f"an answer that is not from the Bot API ({status})")
        except TelegramError as error:
            self._observe(method, error)
            raise
        self._observe(method, status)
        return status, body


def make_bot(token: str, base_url: str, wire: Wire | None = None) -> ExtBot[None]:
    """Return a bot that sends and receives through `wire`; `bot.request.shutdown()` closes it.

    It does not wait when Telegram limits the rate: that is an error with the seconds to wait.
    """
    # The library's switch to the coming type of its durations; without it each flood wait raises a warning.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    server = base_url.rstrip("/")
    wire = wire or Wire(base_url)
    return ExtBot(
        token,
        base_url=f"{server}/bot",
        base_file_url=f"{server}/file/bot",
        request=wire,
        get_updates_request=wire,
    )


@cache
def _certificates() -> SSLContext:
    check_certificates()
    try:
        return create_ssl_context()  # once for all: it takes a megabyte and some milliseconds
    except OSError as error:
        raise UserError(
            f"The certificates of SSL_CERT_FILE cannot be read ({error}): correct it or unset it."
        ) from None


def _is_answer(status: int, body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and (status >= 300 or "result" in answer)
