from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.experiment import Cost, Family, Proposal, Status
from loop.proposers.model.language_model import LanguageModel, ModelRequest
from loop.proposers.protocol import (
    Context,
    Failure,
    Model,
    NoProgramError,
    RepairGivenUpError,
    UnavailableError,
)
from loop.store.experiments import Idea
from tests.loop.proposers.histories import past, told
from tests.loop.proposers.model_requests import GEMINI
from tests.loop.trainings import trained
from tests.servers.provider_formats import Said, Usage
from tests.servers.providers import Providers

TEMPLATE = (Path(__file__).parents[4] / "training" / "train.py").read_text()
KEY = "sk-ant-api03-very-secret-key"
CHAT_TOKEN = "a-token-that-looks-like-nothing"


@pytest.fixture
def context() -> Context:
    return told(past([Status.KEEP, Status.DISCARD, Status.CRASH]), source=TEMPLATE)


@pytest.fixture
def failure() -> Failure:
    crashed = past([Status.KEEP, Status.CRASH])[1]
    return Failure(crashed, TEMPLATE + "x = 1\n", "Traceback\nKeyError: 'x'", False)


def script(folder: Path, body: str) -> str:
    """A program that stands in for the interpreter of the worker."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def canned(folder: Path, answer: object) -> str:
    """A worker that keeps what it is asked and answers so."""
    found = (None, answer) if isinstance(answer, UserError) else (answer, None)
    (folder / "answer").write_bytes(pickle.dumps(found))
    return script(folder, f"cat > {folder}/request; cat {folder}/answer")


def asked(folder: Path) -> ModelRequest:
    """What a canned worker was asked."""
    (request,) = pickle.loads((folder / "request").read_bytes())
    assert isinstance(request, ModelRequest)
    return request


def replied(source: str) -> Proposal:
    return Proposal(source, "d", "r", "opus", "c0ffee", expected="e", cost=Cost(10, 0, 5, 0.01))


def model(python: str, name: str = "anthropic:claude-opus-5", **settings: str) -> LanguageModel:
    keys = {"ANTHROPIC_API_KEY": KEY, "GOOGLE_API_KEY": KEY, **settings}
    return LanguageModel(name, settings=keys, secrets={KEY, CHAT_TOKEN}, python=python, limit=60.0)


async def test_a_model_proposes_an_edit_of_the_template_in_a_process_of_its_own(
    server: Providers, context: Context, tmp_path: Path
) -> None:
    edits = [{"search": "EMBEDDING_LR = 0.9 ", "replace": "EMBEDDING_LR = 0.8 "}]
    fields = {"description": "EMBEDDING_LR 0.9 → 0.8", "rationale": "because", "expected": "-0.003"}
    said = Said(json.dumps({**fields, "family": "optimizer", "edits": edits}), Usage(9000, 8000, 0, 400))
    server.will(said)
    real = f'echo "$@" > {tmp_path}/arguments; env > {tmp_path}/environment; tee {tmp_path}/request | '
    python = script(tmp_path, f'{real}exec {sys.executable} "$@"')
    # Google's package is imported in 3 s, Anthropic's takes 5.
    proposer: Model = model(python, GEMINI, GOOGLE_GEMINI_BASE_URL=server.url)
    wanted = replace(context, ideas=(Idea(7, 1, "a larger rate for embeddings", "ada", "", ""),))

    assert proposer.name == "gemini-2.5-flash"
    proposal = await proposer.propose(wanted)

    cost = proposal.cost
    assert cost is not None
    assert proposal == Proposal(
        source=TEMPLATE.replace("EMBEDDING_LR = 0.9 ", "EMBEDDING_LR = 0.8 "),
        description="EMBEDDING_LR 0.9 → 0.8",
        rationale="because",
        proposer="gemini-2.5-flash",
        parent="c0ffee",
        expected="-0.003",
        family=Family.OPTIMIZER,
        cost=cost,
    )
    assert (cost.input_tokens, cost.cached_tokens, cost.output_tokens) == (9000, 8000, 400)
    dollars = pytest.approx(0.00154)  # 1000 new, 8000 cached, 400 written: $0.30, $0.03, $2.50 a million
    assert cost.dollars == dollars
    assert server.asked[0].headers["x-goog-api-key"] == KEY
    assert "a larger rate for embeddings" in json.dumps(server.asked[0].body)
    assert KEY in (tmp_path / "environment").read_text()
    assert KEY not in (tmp_path / "arguments").read_text()
    assert KEY.encode() not in (tmp_path / "request").read_bytes()


async def test_a_provider_that_repeats_the_key_does_not_give_it_away(
    context: Context, tmp_path: Path
) -> None:
    words = f"refuses {KEY} and {CHAT_TOKEN}, says https://ada:pw@proxy"
    failed = UnavailableError(words, needs_person=True)
    with pytest.raises(UnavailableError) as error:
        await model(canned(tmp_path, failed)).propose(context)
    assert str(error.value) == "refuses *** and ***, says https://***@proxy"
    assert error.value.needs_person
    with pytest.raises(NoProgramError, match=r"^says \*\*\*$") as nonsense:
        await model(canned(tmp_path, NoProgramError(f"says {KEY}", cost=Cost(10)))).propose(context)
    assert nonsense.value.cost == Cost(10)


async def test_where_the_packages_are_missing_the_mend_is_named(context: Context, tmp_path: Path) -> None:
    (tmp_path / "pydantic_ai").mkdir()
    (tmp_path / "pydantic_ai" / "__init__.py").write_text("raise ImportError('no such package')")
    with pytest.raises(UnavailableError, match=r"pip install 'autoresearch-bot\[models\]'") as error:
        await model(sys.executable, PYTHONPATH=str(tmp_path)).propose(context)
    assert error.value.needs_person


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"echo 'RuntimeError: {KEY}' >&2; exit 1", r"for claude-opus-5 failed: RuntimeError: \*\*\*"),
        ("kill -9 $$", "failed"),
        ("echo nonsense", "no readable answer"),
        ("exit 0", "no readable answer"),
    ],
)
async def test_a_worker_that_fails_is_out_of_reach(
    context: Context, tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(UnavailableError, match=words) as error:
        await model(script(tmp_path, body)).propose(context)
    assert KEY not in str(error.value)
    assert error.value.cost is None


async def test_what_a_failed_asking_cost_is_told(context: Context, tmp_path: Path) -> None:
    cost = Cost(40_000, 30_000, 2000, 0.2)
    failed = UnavailableError("No.", cost=cost, retry_after=5.0, cut_off=True)
    with pytest.raises(UnavailableError, match=r"No\.") as error:
        await model(canned(tmp_path, failed)).propose(context)
    assert (error.value.cost, error.value.retry_after, error.value.cut_off) == (cost, 5.0, True)


async def test_a_crash_is_mended(context: Context, failure: Failure, tmp_path: Path) -> None:
    repaired = await model(canned(tmp_path, replied("repaired"))).repair(context, failure)
    assert repaired == replied("repaired")
    request = asked(tmp_path)
    assert request.source == failure.source
    assert request.best == context.source
    assert "KeyError: 'x'" in request.briefing.now


async def test_a_hopeless_crash_is_paid(context: Context, failure: Failure, tmp_path: Path) -> None:
    given_up = RepairGivenUpError("It is not worth it.", cost=Cost(10, 0, 5, 0.01))
    with pytest.raises(RepairGivenUpError) as error:
        await model(canned(tmp_path, given_up)).repair(context, failure)
    assert error.value.cost == given_up.cost


async def test_the_worker_knows_the_keys_of_models_and_the_way_out_alone(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "chat-secret")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    seen = tmp_path / "environment"
    with pytest.raises(UnavailableError):
        await model(script(tmp_path, f"env > {seen}; exit 1")).propose(context)
    environment = seen.read_text()
    assert KEY in environment
    assert "https_proxy=http://127.0.0.1:1\n" in environment
    assert "chat-secret" not in environment


async def test_no_secret_that_a_training_printed_is_told(context: Context, tmp_path: Path) -> None:
    *others, crash = context.experiments
    leaky = replace(context, experiments=(*others, trained(crash, error=f"KeyError: {CHAT_TOKEN}")))
    await model(canned(tmp_path, replied("x = 1\n"))).propose(leaky)
    assert "KeyError: ***" in str(asked(tmp_path).briefing)
    assert CHAT_TOKEN.encode() not in (tmp_path / "request").read_bytes()


async def test_a_program_with_a_secret_in_it_is_shown_to_nobody(context: Context, tmp_path: Path) -> None:
    leaky = replace(context, source=f"KEY = {CHAT_TOKEN!r}\n")
    with pytest.raises(UnavailableError, match="contains a secret") as error:
        await model(canned(tmp_path, replied("x = 1\n"))).propose(leaky)
    assert error.value.needs_person
    assert not (tmp_path / "request").exists()


def test_the_bot_process_stays_without_heavy_modules() -> None:
    heavy = "{'pydantic_ai', 'anthropic', 'openai', 'google.genai', 'httpx2'}"
    program = f"import sys, loop.proposers.model.language_model; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout == "set()\n"
