from __future__ import annotations

import asyncio
import os
import struct
import sys
from pathlib import Path

import psutil
import pytest

from loop.experiment import Goal, Status
from loop.store.experiments import Row
from notifiers.charts import WarmWorker, draw
from notifiers.charts.scene import ChartError, Scene, alt_text, make_scene
from tests.notifiers.nights import night, row


def scene(rows: list[Row], goal: Goal = Goal.MINIMIZE, title: str = "mar12") -> Scene:
    return make_scene(rows, metric="val_bpb", goal=goal, title=title)


async def picture(rows: list[Row], *, python: str = sys.executable, limit: float = 60.0) -> bytes:
    return await draw(scene(rows), python=python, limit=limit)


def script(folder: Path, text: str) -> str:
    """Return a program that takes the place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


async def test_a_chart_is_a_picture_that_every_platform_takes_without_a_place_to_write_to_or_a_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's own style is for their own figures."""
    (tmp_path / "matplotlib").mkdir()
    style = "figure.facecolor: black\nlines.linewidth: 30\nnonsense\n"
    (tmp_path / "matplotlib" / "matplotlibrc").write_text(style)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        png = await picture(night(83))
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/dev/null/nowhere")
    assert await picture(night(83)) == png
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert width + height <= 10_000
    assert len(png) < 1_000_000


async def test_a_failure_is_one_sentence_with_the_last_words_of_the_worker(tmp_path: Path) -> None:
    dying = script(tmp_path, "echo Traceback >&2\necho 'MemoryError: no more' >&2\nexit 1")
    with pytest.raises(ChartError, match=r"drawn: its worker failed: MemoryError: no more\.$"):
        await picture([], python=dying)
    silent = script(tmp_path, "exit 3")
    with pytest.raises(ChartError, match=r"worker failed: exit status 3\.$"):
        await picture(night(2000), python=silent)
    with pytest.raises(ChartError, match=r"cannot be started with /no/python: No such file or directory\.$"):
        await picture([], python="/no/python")


def test_without_times_there_is_no_chart_by_time() -> None:
    with pytest.raises(ChartError, match="these results have none"):
        make_scene(night(5), metric="val_bpb", goal=Goal.MINIMIZE, title="mar12", by_time=True)


async def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    hanging = script(tmp_path, f"echo $$ > {tmp_path}/pid\nexec sleep 1000")
    with pytest.raises(ChartError, match=r"gave no answer within 0\.5 s\.$"):
        await picture([], python=hanging, limit=0.5)
    pid = tmp_path / "pid"
    started = pid.read_text() if pid.exists() else ""
    assert not started or not alive(int(started))


async def test_a_worker_ends_when_nobody_wants_its_chart_any_more(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    waiting = script(tmp_path, f"echo $$ > {pipe}\nexec sleep 1000")
    drawing = asyncio.create_task(picture([], python=waiting))
    pid = int(await asyncio.to_thread(pipe.read_text))
    assert alive(pid)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# A worker that is ready

PID = "os:getpid"


async def test_a_warm_worker_is_ready_for_the_next_call_and_ends_with_its_owner() -> None:
    warm = WarmWorker(PID)
    pids = [await warm.call(returns=int, limit=60.0)]
    for _ in range(2):
        assert warm.spare is not None
        pids.append((await warm.spare).pid)
        assert await warm.call(returns=int, limit=60.0) == pids[-1]
    assert len(set(pids)) == 3  # each answers once, so that none can carry anything over
    assert warm.spare is not None
    last = (await warm.spare).pid
    await warm.close()
    assert not psutil.pid_exists(last)
    assert await warm.call(returns=int, limit=60.0) not in pids
    await warm.close()


async def test_a_warm_worker_that_has_died_is_replaced() -> None:
    warm = WarmWorker(PID)
    assert await warm.call(returns=int, limit=60.0)
    assert warm.spare is not None
    dead = await warm.spare
    dead.kill()
    while dead.returncode is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await warm.call(returns=int, limit=60.0) != dead.pid
    await warm.close()


# For who does not see it


def told(rows: list[Row], goal: Goal = Goal.MINIMIZE, title: str = "mar12") -> str:
    return alt_text(scene(rows, goal, title))


def test_the_words_for_a_night() -> None:
    rows = [
        row(0, 0.9979, description="baseline"),
        row(1, 0.9862, description="halve batch size"),
        row(2, 2.24, Status.DISCARD),
        row(3, None, Status.CRASH),
        row(4, None, Status.SKIP),
        row(5, 0.9852, description="depth 8 → 9"),
    ]
    assert told(rows) == (
        "Progress of mar12. val_bpb: 0.997900 → 0.985200 (-0.012700). 3 kept, 1 discarded, 1 crashed. "
        "Largest gains: #1 -0.011700 halve batch size; #5 -0.001000 depth 8 → 9."
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "Progress of mar12. val_bpb: no results yet."),
        ([row(0, 0.9979)], "Progress of mar12. val_bpb: 0.997900, the baseline. 1 kept."),
        ([row(0, None, Status.CRASH)], "Progress of mar12. val_bpb: no val_bpb yet. 1 crashed."),
    ],
)
def test_the_words_where_there_is_little_to_say(rows: list[Row], text: str) -> None:
    assert told(rows) == text


def test_the_words_fit_below_a_picture() -> None:
    rows = [row(number, 1 - number / 10, description="d" * 9999) for number in range(9)]
    text = told(rows, title="t\n" * 999)
    assert len(text) < 700
    assert "\n" not in text
    assert "#1 +0.100000 d" in told([row(0, 0.7), row(1, 0.8, description="d")], Goal.MAXIMIZE)
