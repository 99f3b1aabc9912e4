from __future__ import annotations

import json
from dataclasses import replace

import pytest

from loop.experiment import Cost, Family, Proposal
from loop.proposers.model.language_model import ask
from loop.proposers.protocol import NoProgramError, RepairGivenUpError
from tests.loop.proposers.model_requests import (
    BRIEFING,
    GEMINI,
    GOOD,
    GPT,
    HAIKU,
    LOST,
    OPUS,
    OWN,
    asked_in_vain,
    request,
    said,
)
from tests.servers.provider_formats import Said
from tests.servers.providers import Providers

pytestmark = pytest.mark.usefixtures("loopback_alone")


@pytest.mark.parametrize(
    ("model", "path", "dollars"),
    [
        (
            HAIKU,
            "/v1/messages",
            0.0081,
        ),  # 3000 new, 6000 cached, 1000 written for an hour: $1, $0.10, $2 a million
        (OPUS, "/v1/messages", 0.0405),  # five times as much
        (GPT, "/v1/responses", 0.019),
        (GEMINI, "/v1beta/models/gemini-2.5-flash:generateContent", 0.00263),
        (OWN, "/v1/chat/completions", None),  # nobody knows what it costs
    ],
    indirect=["model"],
)
async def test_each_provider_proposes(
    server: Providers, model: str, path: str, dollars: float | None
) -> None:
    server.will(GOOD)
    reply = await ask(request(model), server.settings())
    assert reply.cost is not None
    assert reply == Proposal(
        source="DEPTH = 8\nLR = 0.2\n",
        description="LR 0.1 → 0.2",
        rationale="as #3",
        expected="-0.002",
        family=Family.OPTIMIZER,
        proposer=model.partition(":")[2],
        parent="c0ffee",
        cost=Cost(10_000, 6_000, 500, reply.cost.dollars),
    )
    assert reply.cost.dollars == (None if dollars is None else pytest.approx(dollars))
    (asked,) = server.asked
    assert asked.path == path
    sent = json.dumps(asked.body)
    positions = [sent.index(text) for text in ("results 0", "results 20", "DEPTH = 8", "the task")]
    assert positions == sorted(positions)
    assert "the rules" in sent
    assert "loopback-key" not in sent
    assert "loopback-key" in "".join(asked.headers.values())


@pytest.mark.parametrize("model", [OPUS, GPT, GEMINI, OWN], indirect=True)
async def test_an_edit_that_does_not_fit_goes_back_with_the_closest_lines(
    server: Providers, model: str
) -> None:
    server.will(LOST, GOOD)
    reply = await ask(request(model), server.settings())
    assert reply.source == "DEPTH = 8\nLR = 0.2\n"
    assert reply.cost is not None
    assert reply.cost.input_tokens == 20_000
    first, second = (json.dumps(asked.body) for asked in server.asked)
    assert "    2 | LR = 0.1" not in first
    assert "Block 1 is not in the program" in second
    assert "    2 | LR = 0.1" in second


@pytest.mark.parametrize("model", [GPT, OWN], indirect=True)
async def test_arguments_that_are_no_json_go_back(server: Providers, model: str) -> None:
    server.will(Said('{"description": "half'), GOOD)
    assert (await ask(request(model), server.settings())).source == "DEPTH = 8\nLR = 0.2\n"


async def test_a_small_model_may_wrap_its_json_in_words(server: Providers) -> None:
    server.will(Said(f"```json\n{GOOD.arguments}\n```"))
    assert (await ask(request(OWN), server.settings())).source == "DEPTH = 8\nLR = 0.2\n"


@pytest.mark.parametrize("model", [HAIKU, OWN])
async def test_nonsense_is_not_asked_for_without_end_and_is_paid(server: Providers, model: str) -> None:
    server.will(*[LOST] * 9)
    error = await asked_in_vain(server, request(model), NoProgramError)
    assert "proposed no valid program. Block 1 is not in the program" in str(error)
    assert len(server.asked) == 4
    assert error.cost is not None
    assert error.cost.input_tokens == 40_000


async def test_a_whole_program_is_an_answer_too(server: Providers) -> None:
    server.will(said(source="DEPTH = 9", description="deeper\n" * 100, family="Optimiser?"))
    reply = await ask(request(), server.settings())
    assert reply.source == "DEPTH = 9\n"
    assert reply.description.startswith("deeper deeper")
    assert 200 - len(" deeper") < len(reply.description) <= 200
    assert reply.description.endswith(" deeper…")
    assert reply.family is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (said(("LR = 0.1", "LR = ("), description="x"), "would not parse: line 2"),
        (said(("LR = 0.1", "LR = 0.1")), "changes nothing"),
        (said(("LR = 0.1", "LR = 0.2"), source="x = 1"), "not with both"),
        (said(), "no edits"),
        (said(("LR = 0.1", "LR = 0.2"), description=" \n"), "Say in one line"),
    ],
)
async def test_what_makes_no_program_goes_back(server: Providers, bad: Said, words: str) -> None:
    server.will(bad, GOOD)
    assert (await ask(request(), server.settings())).source == "DEPTH = 8\nLR = 0.2\n"
    assert words in json.dumps(server.asked[1].body)


async def test_a_program_that_was_shown_in_part_is_not_replaced_as_a_whole(server: Providers) -> None:
    server.will(said(source="x = 1\n"), GOOD)
    asked = request(briefing=replace(BRIEFING, whole=False))
    assert (await ask(asked, server.settings())).source == "DEPTH = 8\nLR = 0.2\n"
    assert "was not shown to its end" in json.dumps(server.asked[1].body)


async def test_a_crash_is_mended_but_not_by_dropping_the_idea(server: Providers) -> None:
    server.will(said(("LR = 0.1", "LR = 0.05")), GOOD)
    reply = await ask(request(best="DEPTH = 8\nLR = 0.05\n"), server.settings())
    assert reply.source == "DEPTH = 8\nLR = 0.2\n"
    assert "That is the best program" in json.dumps(server.asked[1].body)


async def test_a_repair_may_be_given_up(server: Providers) -> None:
    server.will(said(hopeless=True))
    error = await asked_in_vain(server, request(best="x = 1\n"), RepairGivenUpError)
    assert "as #3" in str(error)
    assert error.cost is not None
    assert error.cost.input_tokens == 10_000
