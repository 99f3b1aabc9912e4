"""The network of chats: proxies and certificates of the environment."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from loop.errors import UserError
from loop.shell import install_line

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
