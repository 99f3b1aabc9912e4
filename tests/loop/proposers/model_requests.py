"""Requests to models and what models say, for tests that speak the providers' own libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from loop.proposers.model.language_model import ModelRequest, ask
from loop.proposers.prompt.briefing import Briefing
from loop.proposers.protocol import ProposalError, UnavailableError
from tests.servers.provider_formats import Said, Usage
from tests.servers.providers import Providers

PROGRAM = "DEPTH = 8\nLR = 0.1\n"
BRIEFING = Briefing("the rules", ("results 0 to 19", "results 20 to 39"), PROGRAM, "the task", whole=True)
USAGE = Usage(read=10_000, cached=6_000, written=1_000, output=500)

HAIKU = "anthropic:claude-haiku-4-5"  # answers by a tool
OPUS = "anthropic:claude-opus-5"  # answers in JSON
GPT = "openai:gpt-5.4"  # on a server that is taken for OpenAI itself
GEMINI = "google:gemini-2.5-flash"
OWN = "openai:qwen3"  # a server that speaks as OpenAI does


def said(*edits: tuple[str, str], usage: Usage = USAGE, **fields: object) -> Said:
    blocks = [{"search": search, "replace": text} for search, text in edits]
    words = {"description": "LR 0.1 → 0.2", "rationale": "as #3", "expected": "-0.002", "family": "optimizer"}
    return Said(json.dumps({**words, "edits": blocks, **fields}), usage)


GOOD = said(("LR = 0.1", "LR = 0.2"))
LOST = said(("LR = 0.3", "LR = 0.2"))  # is not in the program


def request(model: str = HAIKU, **fields: Any) -> ModelRequest:
    asked = ModelRequest(model=model, briefing=BRIEFING, source=PROGRAM, best="", parent="c0ffee", limit=30.0)
    return replace(asked, **fields)


ErrorT = TypeVar("ErrorT", bound=ProposalError)


async def asked_in_vain(server: Providers, asked: ModelRequest, kind: type[ErrorT]) -> ErrorT:
    with pytest.raises(kind) as error:
        await ask(asked, server.settings())
    return error.value


async def refused(server: Providers, asked: ModelRequest) -> UnavailableError:
    return await asked_in_vain(server, asked, UnavailableError)
