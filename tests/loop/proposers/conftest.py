"""Fixtures of the proposers' tests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop.proposers.model_requests import GPT
from tests.loop.proposers.oracles import Institute
from tests.servers.providers import Providers, providers


@pytest.fixture
def institute(tmp_path: Path) -> Iterator[Institute]:
    """A run in a real journal, and researchers for it."""
    made = Institute(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture
async def server() -> AsyncIterator[Providers]:
    async with providers() as serving:
        yield serving


@pytest.fixture
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The model of that name; for OpenAI's own the server of the test is OpenAI."""
    if request.param == GPT:
        monkeypatch.setattr("loop.proposers.model.providers._OPENAI", "127.0.0.1")
    return str(request.param)


@pytest.fixture
def loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing speak to anybody but a server of the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"somebody calls {address}"
        connect(self, address)

    def no_names(host: str, *_args: object, **_more: object) -> Iterable[object]:
        raise AssertionError(f"somebody looks for {host}")

    # Nothing here speaks TLS, and a client takes 40 ms to read the certificates of 140 authorities.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_: None)
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
