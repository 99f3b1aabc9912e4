from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bot.heartbeat.heartbeat import ping
from tests.servers.ports import free_port

SECRET = "5ecf0b1e-secret"


class Service:
    """A health check service that writes down its calls; it can refuse, or never answer."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, str, str]] = []
        self.status = 200
        self.silent = False
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, str(request.rel_url), await request.text()))
        if self.silent:
            await self.closing.wait()
        return web.Response(status=self.status, text="OK")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}/{SECRET}"
    yield made
    made.closing.set()
    await runner.cleanup()


async def test_what_a_heartbeat_found_is_success_or_failure(service: Service) -> None:
    await ping(service.url, ())
    await ping(f"{service.url}/", ())
    await ping(f"{service.url}?rid=7", ("disk low", "the GPU is gone: nö"))
    await ping("", ("without a service",))
    assert service.calls == [
        ("GET", f"/{SECRET}", ""),
        ("GET", f"/{SECRET}", ""),
        ("POST", f"/{SECRET}/fail?rid=7", "disk low\nthe GPU is gone: nö"),
    ]


async def test_a_long_list_is_cut(service: Service) -> None:
    await ping(service.url, ["x" * 1_000_000])
    assert len(service.calls[0][2]) == 10_000


def refused() -> str:
    """Return the address of a port that nobody listens on."""
    return f"http://127.0.0.1:{free_port()}/{SECRET}"


@pytest.mark.parametrize(
    "url",
    [f"http://{SECRET}.invalid:99999/", f"ftp://127.0.0.1/{SECRET}", SECRET, f"http://[{SECRET}", None],
)
async def test_an_address_without_a_service_is_only_logged(
    url: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await ping(refused() if url is None else url, (), patience=5.0)
    assert "HEALTHCHECK_URL cannot be reached" in caplog.text
    assert SECRET not in caplog.text


async def test_a_service_that_fails_is_only_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.status = 500
    await ping(service.url, ())
    assert "status 500" in caplog.text
    assert SECRET not in caplog.text


async def test_a_service_that_never_answers_is_not_waited_for(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.silent = True
    await ping(service.url, (), patience=0.1)
    assert "TimeoutError" in caplog.text
    assert SECRET not in caplog.text
