from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.experiment import EventKind, RunState, Stage, Status
from loop.journal import Journal
from notifiers.delivery import Delivery
from notifiers.message import Message
from tests.loop.test_journal import make_experiment, make_run


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "state.db")
    yield journal
    journal.close()


class Recorder:
    """A channel that remembers, and can be out of order for a while."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.broken = False
        self.told = asyncio.Event()

    async def send(self, message: Message) -> None:
        if self.broken:
            raise ConnectionError
        self.heads.append(message.text.splitlines()[0])
        self.told.set()


async def test_a_new_channel_is_told_what_happens_from_now_on(journal: Journal) -> None:
    run = make_run(journal)
    recorder = Recorder()
    delivery = Delivery(channel="terminal", journal=journal, send=recorder.send)
    await delivery.catch_up()
    assert recorder.heads == []
    journal.record(make_experiment(run, 0, Status.KEEP))
    journal.set_state(run, RunState.PAUSED, "by command")
    await delivery.catch_up()
    assert recorder.heads == ["Experiment #0: EMBEDDING_LR 0.6 → 0.8", "Run mar12 is paused: by command"]


async def test_what_happened_while_nobody_listened_is_told_once_and_in_order(journal: Journal) -> None:
    run = make_run(journal)
    recorder = Recorder()
    await Delivery(channel="terminal", journal=journal, send=recorder.send).catch_up()
    for number in range(150):  # more than is read at once
        journal.record(replace(make_experiment(run, number), stage=Stage.TRAINING))
        journal.record(make_experiment(run, number, Status.DISCARD))
    for _ in range(2):
        await Delivery(channel="terminal", journal=journal, send=recorder.send).catch_up()
    assert [head.split(":")[0] for head in recorder.heads] == [f"Experiment #{n}" for n in range(150)]


async def test_what_could_not_be_sent_is_sent_the_next_time(journal: Journal) -> None:
    run = make_run(journal)
    recorder = Recorder()
    delivery = Delivery(channel="terminal", journal=journal, send=recorder.send)
    await delivery.catch_up()
    journal.note(run.id, EventKind.NEEDS_ATTENTION, reason="first")
    await delivery.catch_up()
    journal.note(run.id, EventKind.NEEDS_ATTENTION, reason="second")
    recorder.broken = True
    with pytest.raises(ConnectionError):
        await delivery.catch_up()
    recorder.broken = False
    await delivery.catch_up()
    assert recorder.heads == ["Run mar12 needs a person: first", "Run mar12 needs a person: second"]


async def test_news_from_another_thread_is_told_without_waiting(journal: Journal) -> None:
    run = make_run(journal)
    recorder = Recorder()
    delivery = Delivery(channel="terminal", journal=journal, send=recorder.send)
    await delivery.catch_up()
    telling = asyncio.create_task(delivery.run())
    for reason in ("first", "second"):
        recorder.told.clear()
        await asyncio.to_thread(journal.note, run.id, EventKind.NEEDS_ATTENTION, reason=reason)
        await recorder.told.wait()
    telling.cancel()
    await asyncio.wait({telling})
    assert len(recorder.heads) == 2
    assert journal.listeners == []
