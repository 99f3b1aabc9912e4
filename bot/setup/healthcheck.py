"""Tells a health check service elsewhere that this machine is alive, so that its silence is noticed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, TypeAlias

log = logging.getLogger(__name__)

State: TypeAlias = Literal["success", "start", "fail"]

PATIENCE = 10.0
"""Seconds for the service to answer."""

BODY_BYTES = 10_000
"""As much as healthchecks.io keeps of what is said with a ping."""

_PATHS: dict[State, str] = {"success": "", "start": "/start", "fail": "/fail"}


async def ping(url: str, *, state: State = "success", body: str = "", patience: float = PATIENCE) -> None:
    """Call `url` as healthchecks.io wants it, within `patience` seconds.

    A failure is only logged, and without the URL, which is a secret.
    """
    import aiohttp

    base, mark, query = url.partition("?")
    address = f"{base.rstrip('/')}{_PATHS[state]}{mark}{query}"
    limit = aiohttp.ClientTimeout(total=patience)
    data = body.encode(errors="replace")[:BODY_BYTES]
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
            session.request("POST" if data else "GET", address, data=data or None) as response,
        ):
            if not response.ok:
                log.warning("the health check service answered with status %d", response.status)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        log.warning("the health check service cannot be told anything (%s)", type(error).__name__)


async def report(url: str, troubles: Sequence[str]) -> None:
    """Tell what a heartbeat found: `troubles` only a person can mend. An empty `url` is nobody to tell."""
    if url:
        await ping(url, state="fail" if troubles else "success", body="\n".join(troubles))
