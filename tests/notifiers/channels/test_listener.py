"""A listener that everybody can reach is bounded, and serves its platform all the same."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from notifiers.channels.listener import MOST, listening
from tests.servers.ports import free_port

PATH = "/hook"


class Hook:
    """What a platform would call: counts bodies, and refuses those without the secret before reading them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bodies: list[int] = []

    async def receive(self, request: web.BaseRequest) -> web.Response:
        if request.headers.get("Secret") != "right":
            return web.Response(status=403)
        self.bodies.append(len(await request.read()))
        return web.Response(text="thanks")

    async def post(self, body: bytes = b"{}", path: str = PATH, secret: str = "right") -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}{path}", data=io.BytesIO(body), headers={"Secret": secret}
            ) as answer,
        ):
            return answer.status

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def listener(seconds: float = 60.0) -> AsyncIterator[Hook]:
    hook = Hook(free_port())
    async with listening("127.0.0.1", hook.port, PATH, hook.receive, seconds=seconds):
        yield hook


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the other side hung up."""
    seen = b""
    with suppress(ConnectionError):
        while part := await reader.read(4096):
            seen += part
    return seen


async def test_only_posts_to_its_path_are_received() -> None:
    async with listener() as hook:
        assert await hook.post() == 200
        assert await hook.post(path="/other") == 404
        assert await hook.post(secret="wrong") == 403
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{hook.port}{PATH}") as got,
        ):
            assert got.status == 405
    assert hook.bodies == [2]


@pytest.mark.parametrize(
    "slow",
    [
        b"",
        b"POST /hook HT",
        b"POST /hook HTTP/1.1\r\nHost: a\r\nSecret: right\r\nContent-Length: 100\r\n\r\nhalf",
    ],
    ids=["idle", "half a header", "half a body"],
)
async def test_a_connection_that_takes_too_long_is_ended(slow: bytes) -> None:
    async with listener(seconds=0.3) as hook:
        reader, writer = await hook.connect()
        writer.write(slow)
        assert await ended(reader) == b""
        assert await hook.post() == 200
        writer.close()


async def test_a_thousand_connections_keep_no_request_out() -> None:
    async with listener() as hook:
        connections = [await hook.connect() for _ in range(3 * MOST)]
        assert await hook.post() == 200
        first, _ = connections[0]
        assert await ended(first) == b""
        for _, writer in connections:
            writer.close()


async def test_a_body_is_not_read_before_the_secret_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifiers.channels.listener._LINGER", 0.05)  # seconds that the rest is waited for
    async with listener() as hook:
        reader, writer = await hook.connect()
        writer.write(b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 403")
        writer.close()
    assert hook.bodies == []


async def test_a_body_of_more_than_a_megabyte_is_refused() -> None:
    async with listener() as hook:
        assert await hook.post(bytes(1_000_000)) == 200
        assert await hook.post(bytes(1_100_000)) == 413
    assert hook.bodies == [1_000_000]
