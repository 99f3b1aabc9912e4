from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from loop.errors import UserError
from loop.process.worker import WorkerError, run_worker, start_worker

HERE = __name__
PID = "os:getpid"


@dataclass(frozen=True, slots=True)
class Pair:
    """Something with a shape."""

    first: str
    second: tuple[int, ...]


class OwnError(UserError):
    """A sentence with more to it."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


# What workers do


def swap(pair: Pair) -> Pair:
    sys.stdout.write("noise\n")
    os.write(1, b"more of it")
    return Pair(pair.first[::-1], pair.second[::-1])


async def swap_later(pair: Pair) -> Pair:
    await asyncio.sleep(0)
    return swap(pair)


def refuse() -> None:
    raise OwnError("Not today.", wait=5.0)


def fail(words: str) -> None:
    sys.stdout.write("noise\n")
    sys.stderr.write("x" * 1_000_000)
    raise RuntimeError(words)


def describe() -> tuple[int, int, dict[str, str]]:
    return os.nice(0), os.getsid(0) - os.getpid(), dict(os.environ)


def leave_behind(pipe: Path) -> int:
    """Leave a process behind that holds stderr and the pipe."""
    with pipe.open("w") as file:
        return subprocess.Popen(["sleep", "1000"], pass_fds=[file.fileno()]).pid


def hang(pipe: Path) -> None:
    with pipe.open("w") as file:
        subprocess.Popen(["sleep", "1000"], pass_fds=[file.fileno()])
        file.write("started\n")
        file.flush()
        time.sleep(1000)


async def run(function: str, *arguments: object, limit: float = 60.0, python: str = sys.executable) -> object:
    return await run_worker(
        f"{HERE}:{function}", *arguments, returns=object, name="The test", python=python, limit=limit
    )


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """What has no end for its reader while anything lives that holds it."""
    made = tmp_path / "pipe"
    os.mkfifo(made)
    return made


def script(folder: Path, body: str) -> str:
    """A program that stands in for the interpreter of the worker."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("function", ["swap", "swap_later"])
async def test_values_go_in_and_come_out_whatever_is_printed(function: str) -> None:
    assert await run(function, Pair("größer 🙂", (1, 2))) == Pair("🙂 reßörg", (2, 1))


async def test_many_values_pass() -> None:
    many = Pair("x" * 5_000_000, tuple(range(100_000)))
    assert await run("swap", many) == Pair("x" * 5_000_000, tuple(reversed(range(100_000))))


async def test_a_sentence_of_the_function_is_raised_as_it_is() -> None:
    with pytest.raises(OwnError, match=r"^Not today\.$") as error:
        await run("refuse")
    assert error.value.wait == 5.0


async def test_another_failure_is_told_with_the_last_line() -> None:
    with pytest.raises(WorkerError, match=r"^The test failed: RuntimeError: the server is down\.$"):
        await run("fail", "the server is down")
    with pytest.raises(WorkerError, match="has no attribute 'no_such_function'"):
        await run("no_such_function")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 3", r"failed: exit status 3\."),
        ("kill -9 $$", r"failed: exit status -9\."),
        ("exit 0", "no readable answer"),
        ("echo nonsense", "no readable answer"),
        ("echo '{}'", "no readable answer"),
    ],
)
async def test_a_process_that_is_no_worker_is_a_sentence(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(WorkerError, match=f"^The test .*{words}"):
        await run("swap", Pair("x" * 1_000_000, ()), python=script(tmp_path, body))


async def test_an_answer_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(pickle.dumps(("text", None)))
    python = script(tmp_path, f"cat > /dev/null; cat {tmp_path}/answer")
    with pytest.raises(WorkerError, match=r"no readable answer: it is a str\."):
        await run_worker("a:b", returns=int, name="The test", python=python, limit=60.0)


async def test_a_python_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(WorkerError, match=r"^The test cannot be started with /no/python: No such file"):
        await run("swap", python="/no/python")


async def test_a_worker_is_nice_alone_in_its_session_and_knows_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "secret")
    nice, apart, environment = await run_worker(
        f"{HERE}:describe",
        returns=tuple,
        name="The test",
        python=sys.executable,
        limit=60.0,
        settings={"WANTED": "yes"},
    )
    assert nice == min(os.nice(0) + 10, 19)
    assert apart == 0
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["WANTED"] == "yes"
    assert "SLACK_BOT_TOKEN" not in environment


async def test_what_a_worker_leaves_behind_ends_with_it(pipe: Path) -> None:
    end = asyncio.create_task(asyncio.to_thread(pipe.read_text))
    assert isinstance(await run("leave_behind", pipe), int)
    assert await end == ""


async def test_cancelling_ends_the_worker_and_what_it_started(pipe: Path) -> None:
    task = asyncio.create_task(run("hang", pipe))
    with await asyncio.to_thread(pipe.open) as file:
        assert await asyncio.to_thread(file.readline) == "started\n"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(file.read) == ""


async def test_a_worker_beyond_its_limit_is_ended(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(WorkerError, match=r"^The test gave no answer within 0\.2 s\.$"):
        await run("swap", limit=0.2, python=script(tmp_path, "sleep 1000"))
    assert set(psutil.Process().children(recursive=True)) <= before


def test_the_bot_process_gets_no_heavy_module_by_it() -> None:
    heavy = "{'numpy', 'matplotlib', 'torch', 'pydantic_ai', 'multiprocessing'}"
    program = (
        "import sys, loop.process.worker, loop.proposers.search.suggest, "
        "loop.proposers.model.language_model, notifiers.charts, notifiers.channels.tracker; "
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_a_worker_ends_when_its_bot_is_gone_before_it_was_asked() -> None:
    worker = await start_worker("loop.process.worker", PID, python=sys.executable, environment={})
    assert worker.stdin is not None
    worker.stdin.close()
    assert await worker.wait() == 0
