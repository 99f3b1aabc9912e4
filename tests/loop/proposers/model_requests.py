"""Requests to models and what models say, for tests that speak the providers' own libraries."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from loop.proposers.briefing import Briefing
from loop.proposers.model_worker import Request, ask
from loop.proposers.protocol import OutOfReachError
from tests.servers.provider_formats import Said, Usage
from tests.servers.providers import Providers

PROGRAM = "DEPTH = 8\nLR = 0.1\n"
BRIEFING = Briefing("the rules", ("results 0 to 19", "results 20 to 39"), PROGRAM, "the task", whole=True)
USAGE = Usage(read=10_000, cached=6_000, written=1_000, output=500)

HAIKU = "anthropic:claude-haiku-4-5"  # answers by a tool
OPUS = "anthropic:claude-opus-5"  # answers in JSON
GPT = "openai-responses:gpt-5.4"
GEMINI = "google:gemini-2.5-flash"
OWN = "openai:qwen3"  # a server that speaks as OpenAI does


def said(*edits: tuple[str, str], usage: Usage = USAGE, **fields: object) -> Said:
    blocks = [{"search": search, "replace": text} for search, text in edits]
    words = {"description": "LR 0.1 → 0.2", "rationale": "as #3", "expected": "-0.002", "family": "optimizer"}
    return Said(json.dumps({**words, "edits": blocks, **fields}), usage)


GOOD = said(("LR = 0.1", "LR = 0.2"))
LOST = said(("LR = 0.3", "LR = 0.2"))  # is not in the program


def request(model: str = HAIKU, **fields: Any) -> Request:
    asked = Request(model=model, fallback="", briefing=BRIEFING, source=PROGRAM, best="", limit=30.0)
    return replace(asked, **fields)


async def refused(server: Providers, asked: Request) -> OutOfReachError:
    with pytest.raises(OutOfReachError) as error:
        await ask(asked, server.settings())
    return error.value


def allow_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing speak to anybody but a server of the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"somebody calls {address}"
        connect(self, address)

    def no_names(host: str, *_args: object, **_more: object) -> Iterable[object]:
        raise AssertionError(f"somebody looks for {host}")

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
