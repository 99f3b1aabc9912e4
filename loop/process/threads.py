"""The one way to do blocking work from the event loop.

Whatever asks git, SQLite, the disk or another program is called by `in_thread`. A caller that is cancelled
waits for its end, so it must end by itself. Writing to a pipe that nobody may ever read does not: it alone is
left to `asyncio.to_thread`, in `bot.terminal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `function` in a worker thread; a caller that is cancelled first waits for the call's end.

    `asyncio.to_thread` would leave it running while the caller cleans up.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise
