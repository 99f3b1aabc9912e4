"""The network of chats: proxies and certificates of the environment, and a listener for what platforms send.

The listener may be reached by everybody, so it is bounded. A connection takes one request and ends after
`SECONDS`, whatever it does; above `MOST` the oldest ends first. A body of more than a megabyte is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import web

from loop.errors import UserError
from loop.shell import install_line
from notifiers.message import UnreachableError

SOCKS_PACKAGE = "python-telegram-bot[socks]"


def bypasses_proxy(url: str) -> bool:
    """Whether `NO_PROXY` names the server of `url`; what else stands in it, such as IPv6, does no harm."""
    host = urlsplit(url).hostname
    return host is not None and bool(proxy_bypass(host))


def proxy_for(url: str) -> str | None:
    """Return the proxy to `url`; UserError where it cannot be used."""
    proxies = getproxies()
    proxy = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    if not proxy or bypasses_proxy(url):
        return None
    if is_socks(proxy) and find_spec("socksio") is None:
        raise UserError(
            "A SOCKS proxy is set, but its package is missing. Set HTTPS_PROXY to an HTTP proxy, or run "
            f"this and restart the bot: {install_line(SOCKS_PACKAGE)}"
        )
    return checked_proxy(proxy)


def is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")


def checked_proxy(proxy: str) -> str:
    """Return the proxy as a URL. What is wrong with it is said without it: it may hold a password."""
    url = proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https", "socks5", "socks5h") and parts.hostname
        if not usable or parts.port == 0 or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError  # noqa: TRY301 - as `port` does
    except ValueError:
        raise UserError(
            "The proxy that is set cannot be used: write HTTPS_PROXY (or ALL_PROXY) as http://HOST:PORT."
        ) from None
    return url


def check_certificates() -> None:
    """Raise a UserError where the environment names certificates that are not there."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        if path and not Path(path).exists():
            raise UserError(f"{name} names {path}, which is not there: correct it or unset it.")


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
