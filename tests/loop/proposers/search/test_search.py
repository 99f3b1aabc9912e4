from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loop.errors import UserError
from loop.experiment import Status
from loop.program.constants import find_constants
from loop.proposers.protocol import Context, ExhaustedError, Proposer, Rejection, SearchMode
from loop.proposers.search.suggest import SearchProposer, suggest
from tests.loop.proposers.contexts import context_of, trial

PROGRAM = "DEPTH = 8  # größer 🙂\nLR = 0.004\nADAM_BETAS = (0.8, 0.95)\nSEED = 42\n"


@pytest.fixture
def context() -> Context:
    constants = {constant.name: constant.value for constant in find_constants(PROGRAM)}
    trials = (
        trial(0, "baseline", constants, 1.0, Status.KEEP),
        trial(1, "größer", constants | {"DEPTH": 9}, None, Status.CRASH),
        trial(2, "LR 0.004 → 0.005", constants | {"LR": 0.005}, None, None),
    )
    rejections = (Rejection("DEPTH 8 → 7", "größer 🙂"), Rejection("LR 0.004 → 0.006", "no"))
    return replace(context_of(PROGRAM, *trials), search_mode=SearchMode.COMBINATION, rejections=rejections)


def script(folder: Path, body: str) -> str:
    """A program that stands in for the interpreter of the worker."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def others() -> set[psutil.Process]:
    """What earlier tests in this process have left: no work of the search."""
    return children()


async def test_the_worker_proposes_what_suggest_does(context: Context, others: set[psutil.Process]) -> None:
    proposer: Proposer = SearchProposer(frozen=frozenset({"DEPTH"}))
    assert proposer.name == "search"
    assert await proposer.propose(context) == suggest(context, frozenset({"DEPTH"}))
    assert children() <= others


async def test_the_worker_needs_no_certain_folder(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "__init__.py").write_text("raise RuntimeError('the loop of somebody else')")
    monkeypatch.chdir(tmp_path)
    assert (await SearchProposer().propose(context)).parent == "c0ffee"


async def test_nothing_to_propose_is_the_sentence_of_suggest(context: Context) -> None:
    frozen = frozenset({"DEPTH", "LR", "ADAM_BETAS"})
    with pytest.raises(ExhaustedError, match="finds no constant that it may change"):
        await SearchProposer(frozen=frozen).propose(context)


async def test_a_failing_worker_is_told_with_its_last_line(context: Context, tmp_path: Path) -> None:
    python = script(tmp_path, "echo first >&2; echo 'ModuleNotFoundError: numpy' >&2; exit 1")
    with pytest.raises(UserError, match="search worker failed: ModuleNotFoundError: numpy"):
        await SearchProposer(python=python).propose(context)


@pytest.mark.parametrize(
    "body", ["exit 3", "kill -9 $$", "echo nonsense", "echo '{}'", "echo '[1]'", "exit 0"]
)
async def test_any_other_failure_is_a_sentence(context: Context, tmp_path: Path, body: str) -> None:
    with pytest.raises(UserError, match="search worker"):
        await SearchProposer(python=script(tmp_path, body)).propose(context)


async def test_a_python_that_is_not_there_is_a_sentence(context: Context, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be started"):
        await SearchProposer(python=str(tmp_path / "none")).propose(context)


async def test_a_worker_beyond_its_limit_is_ended(
    context: Context, tmp_path: Path, others: set[psutil.Process]
) -> None:
    python = script(tmp_path, "exec sleep 1000")
    with pytest.raises(UserError, match=r"no answer within 0\.1 s"):
        await SearchProposer(python=python, limit=0.1).propose(context)
    assert children() <= others


async def test_cancelling_ends_the_worker(
    context: Context, tmp_path: Path, others: set[psutil.Process]
) -> None:
    pipe = tmp_path / "started"
    os.mkfifo(pipe)
    python = script(tmp_path, f"echo $$ > {pipe}; exec sleep 1000")
    task = asyncio.create_task(SearchProposer(python=python).propose(context))
    pid = int(await asyncio.to_thread(pipe.read_text))
    assert psutil.pid_exists(pid)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)
    assert children() <= others


async def test_the_worker_is_single_threaded_and_knows_no_secrets(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "secret")
    seen = tmp_path / "environment"
    with pytest.raises(UserError):
        await SearchProposer(python=script(tmp_path, f"env > {seen}; exit 1")).propose(context)
    assert "OMP_NUM_THREADS=1\n" in seen.read_text()
    assert "secret" not in seen.read_text()


def test_the_bot_process_stays_without_heavy_modules() -> None:
    program = "import sys, loop.proposers.search.suggest; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_worker_is_quiet_and_without_torch(context: Context) -> None:
    program = (
        "import sys; from loop.process.worker import main; main(); "
        "print({'numpy', 'torch', 'pydantic_ai'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, "loop.proposers.search.suggest:suggest"],
        input=pickle.dumps((context, frozenset())),
        capture_output=True,
        check=True,
    )
    assert pickle.loads(done.stdout) == (suggest(context), None)
    assert done.stderr.decode() == "{'numpy'}\n"
