"""Commands that come while it is not known yet which run they are about, or that meant another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot, Order, go_on
from bot.commands.access import HERE
from bot.current import foremost
from bot.setup.settings import load_settings
from loop.errors import UserError
from loop.experiment import Actor, EventKind, Reason, RunState, Status
from loop.store.events import last_event_of
from loop.store.experiments import TAKEN_OVER
from loop.store.journal import Journal
from loop.store.outbox import Outbox
from notifiers.message import Reply
from notifiers.text.status import RunPlan
from tests.bot.real_bot import RealBot
from tests.bot.test_inbox import ANN, Office, opened
from tests.bot.test_surroundings import wait_for
from tests.loop.lab import git
from tests.loop.store.test_journal import make_experiment, make_run

ELSEWHERE = replace(ANN, place="100")


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path) as office:
        with pytest.MonkeyPatch.context() as patch:  # nothing trains here
            patch.setattr(office.host, "conduct", lambda *_, **__: None)
            yield office


class Start:
    """A `/start_run` that is being carried out until it is let go on."""

    def __init__(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self._let_go, plan = asyncio.Event(), threading.Event(), office.host.plan_run
        loop = asyncio.get_running_loop()

        def plan_run(tag: str | None = None, **how: Any) -> RunPlan:
            loop.call_soon_threadsafe(self.began.set)
            assert self._let_go.wait(60)
            return plan(tag, **how)

        monkeypatch.setattr(office.host, "plan_run", plan_run)
        self.task = asyncio.create_task(office.ask("/start_run mar13 go"))

    async def end(self) -> Reply | None:
        self._let_go.set()
        return await self.task


def finished(office: Office, tag: str) -> int:
    run = office.host.start_run(tag)
    office.journal.set_state(run, RunState.DONE)
    return run.id


def states(office: Office) -> dict[str, RunState]:
    return {run.tag: run.state for run in office.journal.runs()}


@pytest.mark.parametrize("command", ["/stop", "/pause", "/skip", "/resume"])
async def test_while_a_run_is_started_no_command_hits_the_one_before(
    office: Office, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    finished(office, "mar12")
    start = Start(office, monkeypatch)
    await start.began.wait()
    given = asyncio.create_task(office.ask(command, HERE))
    asked = asyncio.create_task(office.ask("/status", ELSEWHERE))
    await asyncio.sleep(0)
    assert not given.done()
    await start.end()
    reply, status = await given, await asked
    assert states(office)["mar12"] is RunState.DONE
    assert reply is not None
    assert status is not None
    assert "mar12" not in reply.message.text
    if command != "/stop":  # when the new run is stopped, the one before is the present one again
        assert "mar12" not in status.message.text


async def test_two_who_start_at_once_get_one_run(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(office, monkeypatch)
    await start.began.wait()
    other = asyncio.create_task(office.ask("/start_run mar14 go", ELSEWHERE))
    first, second = await start.end(), await other
    assert (first and first.refused, second and second.refused) == (False, True)
    assert [*states(office)] == ["mar13"]


async def test_what_was_sent_before_a_run_was_started_is_not_about_it(office: Office) -> None:
    finished(office, "mar12")
    await office.said("/start_run mar13 go")
    for command in ("/pause", "/rerun 0", "/certify", "/prune", "/accept 1", "/reject 1", "/skip"):
        said = await office.said(command, age=5.0)
        assert said.startswith("refused: Not done: run mar13 started after this was sent."), command
    assert (await office.said("/status", age=5.0)).startswith("Run mar13: running")
    assert (await office.said("/pause")).startswith("Run mar13")


async def test_a_question_about_one_run_stops_no_other(office: Office) -> None:
    finished(office, "mar12")
    question = await office.ask("/stop")
    assert question is not None
    yes = question.message.buttons[0][0].command
    office.now += 20
    await office.said("/start_run mar13 go")
    assert (await office.said(yes)).startswith("refused: Not done: run mar13")
    assert states(office) == {"mar12": RunState.DONE, "mar13": RunState.RUNNING}


async def test_a_bot_that_cannot_start_obeys_no_command(office: Office) -> None:
    finished(office, "mar12")
    with suppress(UserError):
        async with office.host.current.changes(asked_at=office.now, or_end=True):
            given = asyncio.create_task(office.said("/stop", HERE))
            await asyncio.sleep(0)
            raise UserError("Run mar1 is stopped for good.")
    assert (await given).startswith("refused: Not done: the bot could not start")
    assert states(office) == {"mar12": RunState.DONE}


async def test_commands_are_about_the_run_that_goes_on_not_about_a_newer_one_that_is_done(
    office: Office,
) -> None:
    older = office.host.start_run("mar12")
    office.journal.set_state(older, RunState.DONE)
    finished(office, "mar13")
    office.journal.set_state(older, RunState.RUNNING)
    current = office.host.current.now()
    assert current is not None
    assert current.tag == "mar12"
    paused, running = replace(older, id=3, state=RunState.PAUSED), replace(older, id=2)
    assert foremost([running, paused]) is paused
    assert foremost([running, paused], {2}) is running
    assert foremost([replace(older, state=RunState.STOPPED)]) is not None
    assert foremost([]) is None


def test_in_the_first_seconds_of_a_bot_commands_wait_for_the_run_that_was_ordered(tmp_path: Path) -> None:
    bot = RealBot(tmp_path)
    bot.environment["TORCH_GATE"] = str(tmp_path / "gate")
    with closing(Journal(bot.home / "state.db")) as journal:
        done = make_run(journal, "r1", repository=bot.repository, time_budget=60.0)
        journal.set_state(done, RunState.DONE)
    with bot.start("--tag", "r2") as process:
        wait_for((bot.home / "bot.sock").exists)
        assert bot.say("/stop").startswith("Run r2 is stopped")
        process.terminate()
        assert process.wait(60) == 0
    git(bot.repository, "checkout", "--quiet", "autoresearch/r2")
    with closing(Journal(bot.home / "state.db", read_only=True)) as journal:
        assert [run.state for run in journal.runs()] == [RunState.DONE, RunState.STOPPED]


# A run that was paused or done


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            RunState.PAUSED,
            "paused since {at} (by ann); 2 experiments, best val_bpb: 0.980000 (-0.010000), #1",
        ),
        (RunState.DONE, "was done at {at}; 2 experiments, best val_bpb: 0.980000 (-0.010000), #1"),
        (RunState.RUNNING, ""),
    ],
)
async def test_up_says_with_numbers_that_a_run_was_paused_or_done(
    office: Office, state: RunState, says: str
) -> None:
    run = office.host.start_run("mar12")
    baseline = make_experiment(run, 0, Status.KEEP)
    better = replace(make_experiment(run, 1, Status.KEEP), value=0.98, best_before=0.99)
    office.journal.record(replace(baseline, value=0.99, commit=run.base_commit), better)
    office.journal.set_state(run, state, Reason(Actor.PERSON, "ann"))
    found = load_settings(Path("/no/such/.env"), office.bot.environment | {"TIME_ZONE": "UTC"})
    with suppress(UserError):  # the commits are made up, so that it cannot resume
        await go_on(office.host, found, Order())
    noted = last_event_of(office.journal, run.id, (EventKind.NOTED,))
    turn = last_event_of(office.journal, run.id, (EventKind.RUN_STATE,))
    assert turn is not None
    reason = str(noted.data["reason"]) if noted else ""
    assert reason.startswith(says.format(at=f"{datetime.fromtimestamp(turn.at, UTC):%m-%d %H:%M}"))
    assert bool(reason) is bool(says)
    if state is RunState.DONE:  # one message for one thing: that it is resumed is in the note
        assert turn.data["state"] == RunState.RUNNING
        assert Outbox(office.journal, "any").has_answer(turn)


@pytest.mark.parametrize(
    ("state", "proposer", "is_refused"),
    [
        (RunState.DONE, "search", True),
        (RunState.RUNNING, TAKEN_OVER, True),
        (RunState.RUNNING, "search", False),  # a bot was in the middle of it
    ],
)
async def test_a_run_begins_anew_only_where_a_new_one_would(
    office: Office, monkeypatch: pytest.MonkeyPatch, state: RunState, proposer: str, is_refused: bool
) -> None:
    run = office.host.start_run("mar12")
    baseline = replace(make_experiment(run, 0, Status.KEEP), commit=run.base_commit)
    office.journal.record(replace(baseline, proposer=proposer))
    office.journal.set_state(run, state)
    found = load_settings(Path("/no/such/.env"), office.bot.environment | {"DATA_PATHS": "/no/such/data"})
    monkeypatch.setattr(office.host, "settings", found)
    refused = (
        pytest.raises(UserError, match=r"^Data: missing: /no/such/data") if is_refused else nullcontext()
    )
    with refused:
        await go_on(office.host, found, Order(tag="mar12"))
    if state is RunState.DONE:
        reply = await office.ask("/resume", HERE)
        assert reply is not None
        assert reply.refused
        assert reply.message.text.startswith("Data: missing: /no/such/data")
    assert office.journal.run_by_id(run.id).state is state


def test_the_template_is_prepared_only_where_a_run_of_it_is_to_come(tmp_path: Path) -> None:
    bot = RealBot(tmp_path)
    del bot.environment["REPOSITORY"]
    found = load_settings(Path("/no/such/.env"), bot.environment)
    with closing(Journal(bot.home / "state.db")) as journal:
        wired = Bot(found, journal)
        assert wired.needs_template(Order())
        run = make_run(journal, "mar5")
        assert not wired.needs_template(Order())
        assert wired.needs_template(Order("mar6"))
        journal.set_state(run, RunState.STOPPED)
        assert wired.needs_template(Order())
