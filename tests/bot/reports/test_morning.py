from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from datetime import UTC, date
from pathlib import Path

import pytest

from bot.reports.reporter import Reporter
from bot.runs import Runs
from bot.setup.settings import load_settings
from loop.experiment import Actor, Event, EventKind, Reason, Run, RunState
from loop.results.report import WakeUpReport
from loop.store.experiments import IdeaBox
from notifiers.charts.scene import ChartError, Scene
from tests.notifiers.mornings import Recorder, open_recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(tmp_path) as recorder:
        recorder.begin()
        recorder.experiment("baseline", 0.9979)
        recorder.experiment("halve batch size", 0.98)
        yield recorder


@pytest.fixture
def reporter(recorder: Recorder, tmp_path: Path) -> Reporter:
    settings = load_settings(tmp_path / ".env", {"GPU_DOLLARS_AN_HOUR": "3.6"}, tmp_path)
    host = Runs(
        settings,
        repository=tmp_path,
        journal=recorder.journal,
        environ=os.environ,
        today=lambda: date(2026, 3, 12),
    )
    return Reporter(host, settings, zone=UTC, now=lambda: recorder.now)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let charts cost nothing, and return the titles of those that were drawn."""
    titles: list[str] = []

    async def draw(scene: Scene, **_: object) -> bytes:
        titles.append(scene.title)
        return b"png"

    monkeypatch.setattr("notifiers.charts.draw", draw)
    return titles


def morning(recorder: Recorder, since: float) -> Event:
    recorder.journal.note(recorder.run.id, EventKind.WAKE_UP, since=since)
    (event,) = recorder.journal.events_after(recorder.journal.last_event() - 1)
    return event


async def test_the_morning_in_a_chat_has_text_chart_and_buttons(
    recorder: Recorder, reporter: Reporter
) -> None:
    event = morning(recorder, recorder.run.created_at)
    message = await reporter.for_chat(event)
    assert message is not None
    assert message.text.startswith(
        "mar12: 2 experiments in 11 min\nval_bpb 0.997900 → 0.980000 (-0.017900)\n"
    )
    assert "$0.66 for 11 GPU minutes" in message.text
    assert message.text.endswith("\nStill running")
    (picture,) = message.attachments
    assert picture.content.startswith(b"\x89PNG")
    assert picture.alt.startswith("Progress of mar12")
    assert [[button.command for button in row] for row in message.buttons] == [
        ["/results 20", "/plot", "/diff 0 1"],
        ["/pause", "/stop", "/bundle"],
    ]


@pytest.mark.usefixtures("drawn")
async def test_it_tells_of_the_night_whatever_comes_after_it(recorder: Recorder, reporter: Reporter) -> None:
    recorder.pass_(60)
    since = recorder.now
    recorder.pass_(60)
    recorder.experiment("wider", 0.97)
    recorder.pass_(60)
    event = morning(recorder, since)
    recorder.pass_(60)
    recorder.experiment("deeper", 0.96)
    message = await reporter.for_chat(event)
    assert message is not None
    assert message.text.startswith("mar12: 1 experiment in ")
    assert "0.980000 → 0.970000" in message.text
    assert "Whole run: 3 experiments, -0.027900" in message.text
    assert message.buttons[0][-1].command == "/diff 1 2"


async def test_a_chart_is_drawn_once_for_all_chats(
    recorder: Recorder, reporter: Reporter, drawn: list[str]
) -> None:
    event = morning(recorder, recorder.run.created_at)
    assert await reporter.for_chat(event) == await reporter.for_chat(event)
    assert drawn == ["mar12"]
    await reporter.for_chat(morning(recorder, event.at))
    assert drawn == ["mar12"] * 2


async def test_chats_that_ask_at_the_same_time_get_one_chart(
    recorder: Recorder, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, loop, both, asked, drawn = reporter._read, asyncio.get_running_loop(), asyncio.Event(), [], []

    def noted(run: Run, since: float | None, until: float) -> WakeUpReport:
        asked.append(run.tag)
        if len(asked) == 2:
            loop.call_soon_threadsafe(both.set)
        return read(run, since, until)

    async def draw(scene: Scene, **_: object) -> bytes:
        drawn.append(scene.title)
        await both.wait()
        return b"png"

    monkeypatch.setattr(reporter, "_read", noted)
    monkeypatch.setattr("notifiers.charts.draw", draw)
    event = morning(recorder, recorder.run.created_at)
    one, other = await asyncio.gather(reporter.for_chat(event), reporter.for_chat(event))
    assert one == other
    assert drawn == ["mar12"]


async def test_a_terminal_gets_the_morning_without_a_chart_and_no_end(
    recorder: Recorder, reporter: Reporter, drawn: list[str]
) -> None:
    message = await reporter.for_terminal(morning(recorder, recorder.run.created_at))
    assert message is not None
    assert message.attachments == ()
    recorder.state(RunState.DONE, Reason(Actor.LOOP, facts={"made": 1}))
    (ended,) = recorder.journal.events_after(recorder.journal.last_event() - 1)
    assert await reporter.for_terminal(ended) is None
    assert drawn == []


async def test_a_terminal_does_not_wait_for_the_chart_of_the_chats(
    recorder: Recorder, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws, told = asyncio.Event(), asyncio.Event()

    async def draw(*_: object, **__: object) -> bytes:
        draws.set()
        await told.wait()
        return b"png"

    monkeypatch.setattr("notifiers.charts.draw", draw)
    event = morning(recorder, recorder.run.created_at)
    chat = asyncio.create_task(reporter.for_chat(event))
    await draws.wait()
    assert await asyncio.wait_for(reporter.for_terminal(event), 60)
    told.set()
    assert await chat


@pytest.mark.usefixtures("drawn")
async def test_the_end_of_a_run_says_so_first(recorder: Recorder, reporter: Reporter) -> None:
    recorder.state(RunState.DONE, Reason(Actor.LOOP, facts={"made": 1}))
    (ended,) = recorder.journal.events_after(recorder.journal.last_event() - 1)
    message = await reporter.for_chat(ended)
    assert message is not None
    assert message.text.startswith("Run mar12 is done: 1 experiment completed\n\nmar12: 2 experiments in ")
    assert "\nDone" not in message.text
    assert [button.label for button in message.buttons[1]] == ["Keep going", "Stop", "Bundle"]


@pytest.mark.usefixtures("drawn")
async def test_a_morning_comes_though_the_repository_is_gone(recorder: Recorder, reporter: Reporter) -> None:
    assert not recorder.run.repository.exists()
    IdeaBox(recorder.journal).add(recorder.run.id, "WIDTH 80", author="ann")
    message = await reporter.for_chat(morning(recorder, recorder.run.created_at))
    assert message is not None
    assert "\nNext: WIDTH 80 (idea of ann)" in message.text


async def test_a_chart_that_cannot_be_drawn_takes_nothing_with_it(
    recorder: Recorder, reporter: Reporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def draw(*_: object, **__: object) -> bytes:
        raise ChartError("The chart cannot be drawn: no matplotlib.")

    monkeypatch.setattr("notifiers.charts.draw", draw)
    with caplog.at_level(logging.WARNING):
        message = await reporter.summary(recorder.run, with_chart=True)
    assert message.attachments == ()
    assert message.text.startswith("mar12: 2 experiments")
    assert "no matplotlib" in caplog.text
