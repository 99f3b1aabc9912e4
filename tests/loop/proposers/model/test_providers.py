from __future__ import annotations

import pytest

from loop.proposers.model.language_model import ask
from loop.proposers.protocol import UnavailableError
from tests.loop.proposers.model_requests import (
    GEMINI,
    GOOD,
    GPT,
    HAIKU,
    OPUS,
    OWN,
    PROGRAM,
    refused,
    request,
)
from tests.servers.providers import Cut, Fault, Providers, Silent

pytestmark = pytest.mark.usefixtures("loopback_alone")


@pytest.mark.parametrize("model", [HAIKU, OWN])
@pytest.mark.parametrize(
    ("fault", "words", "needs_person", "asked"),
    [
        (
            Fault(401, "authentication_error", "invalid x-api-key"),
            "(401). invalid x-api-key",
            True,
            1,
        ),
        (Fault(402, "billing_error", "pay first"), "out of credit or quota (402)", True, 1),
        (Fault(404, "not_found_error", "model: x"), "unknown to its provider (404). model: x", True, 1),
        (
            Fault(400, "invalid_request_error", "no such field"),
            "refused the request (400). no such",
            False,
            1,
        ),
        (
            Fault(503, "api_error", "restarting", {"retry-after-ms": "1"}),
            "down or overloaded (503)",
            False,
            2,
        ),
        (
            Fault(529, "overloaded_error", "Overloaded", {"retry-after-ms": "1"}),
            "(529). Overloaded",
            False,
            2,
        ),
    ],
)
async def test_a_refusal_is_a_sentence_for_a_person(
    server: Providers, model: str, fault: Fault, words: str, needs_person: bool, asked: int
) -> None:
    server.will(*[fault] * 9)
    error = await refused(server, request(model))
    assert words in str(error)
    assert model.partition(":")[2] in str(error)
    assert error.needs_person is needs_person
    assert error.cost is None
    assert len(server.asked) == asked  # the SDK tries once more, and nobody else does


@pytest.mark.parametrize("model", [HAIKU, GPT], indirect=True)
async def test_a_long_wait_is_handed_back(server: Providers, model: str) -> None:
    server.will(Fault(429, "rate_limit_error", "slow down", {"retry-after": "120"}))
    error = await refused(server, request(model))
    assert "is rate-limited, retry after 120 s (429). slow down" in str(error)
    assert error.retry_after == 120.0
    assert len(server.asked) == 1


async def test_google_words_its_wait_otherwise(server: Providers) -> None:
    server.will(*[Fault(429, "RESOURCE_EXHAUSTED", "slow down", {"retry-after": "30"})] * 2)
    error = await refused(server, request(GEMINI))
    assert error.retry_after == 30.0


async def test_what_is_too_long_is_said(server: Providers) -> None:
    server.will(Fault(400, "invalid_request_error", "prompt is too long: 300000 tokens"))
    error = await refused(server, request())
    assert "lower CONTEXT_TOKENS (400)" in str(error)
    assert error.needs_person


@pytest.mark.parametrize("model", [HAIKU, GEMINI])
async def test_silence_has_an_end(server: Providers, model: str) -> None:
    server.will(Silent())
    error = await refused(server, request(model, limit=0.2))
    assert "did not answer within 0.2 s" in str(error)
    assert error.cut_off


@pytest.mark.parametrize("model", [OPUS, GEMINI, OWN])
async def test_a_connection_may_break_in_the_middle_of_an_answer(server: Providers, model: str) -> None:
    server.will(*[Cut(GOOD)] * 3)
    assert "The connection to" in str(await refused(server, request(model)))


async def test_a_server_that_is_down_is_said(server: Providers) -> None:
    elsewhere = {**server.settings(), "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    with pytest.raises(UnavailableError, match="connection to qwen3 failed"):
        await ask(request(OWN), elsewhere)


@pytest.mark.parametrize("model", [HAIKU, OPUS])
async def test_anthropic_is_told_what_to_keep_for_an_hour(server: Providers, model: str) -> None:
    server.will(GOOD)
    await ask(request(model), server.settings())
    body = server.asked[0].body
    kept = {"type": "ephemeral", "ttl": "1h"}
    assert [block.get("cache_control") for block in body["system"]][-1] == kept
    (message,) = body["messages"]
    told = [(block["text"], block.get("cache_control")) for block in message["content"]]
    assert told == [
        ("results 0 to 19", None),
        ("results 20 to 39", kept),
        (PROGRAM, kept),
        ("the task", None),
    ]


async def test_a_server_of_ones_own_is_asked_in_plain_words(server: Providers) -> None:
    server.will(GOOD)
    settings = {"OPENAI_BASE_URL": f"{server.url}/v1"}  # such a server needs no key
    await ask(request(OWN), settings)
    body = server.asked[0].body
    assert "tools" not in body
    assert "response_format" not in body
    assert [(message["role"], type(message["content"])) for message in body["messages"]] == [
        ("system", str),
        ("user", str),
    ]
    assert server.asked[0].headers["authorization"] == "Bearer api-key-not-set"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (HAIKU, "ANTHROPIC_API_KEY is not set"),
        (GEMINI, "GOOGLE_API_KEY is not set"),
        (GPT, "OPENAI_API_KEY is not set"),
    ],
)
async def test_a_key_that_is_missing_needs_a_person(model: str, words: str) -> None:
    with pytest.raises(UnavailableError) as error:
        await ask(request(model), {})
    assert words in str(error.value)
    assert error.value.needs_person
