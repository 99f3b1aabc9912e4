from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.commands.access import HERE, Access, AllowList, Request, Role, Sender
from bot.commands.handlers import CommandHandlers
from bot.commands.ideas import ALREADY_SET, NEEDS_A_MODEL
from bot.commands.inbox import Inbox
from bot.commands.table import COMMANDS, without_run
from bot.platforms import access_by
from bot.runs import Runs
from bot.setup.doctor import Check
from bot.setup.settings import load_settings
from loop.experiment import EventKind, RunState, Status
from loop.proposers.people import IDEA_CHARACTERS, read_ideas
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from notifiers.delivery.preferences import Preferences, PreferenceStore
from notifiers.message import Button, Reply
from tests.bot.real_bot import RealBot
from tests.loop.store.test_journal import make_experiment, make_run

ANN = Sender("telegram", "100", "-1001", "ann")
VIEWER = Sender("telegram", "200", "-1001", "vic")
STRANGER = Sender("telegram", "300", "300", "mallory")
OF_THE_LOOP = {EventKind.PROPOSED, EventKind.COMMITTED, EventKind.TRAINING, EventKind.INTERRUPTED}


class Office:
    """An inbox on a toy repository, with a clock of its own."""

    def __init__(self, folder: Path, proposer: str = "search", gate: str = "", experiments: str = "") -> None:
        self.bot = RealBot(
            folder, PROPOSER=proposer, TORCH_GATE=gate, EXPERIMENTS=experiments, OPENAI_API_KEY="sk-none"
        )
        self.now = 1_000_000.0
        self.keys = 0
        self.journal = Journal(self.bot.home / "state.db")
        found = load_settings(Path("/no/such/.env"), self.bot.environment)
        self.host = Runs(
            found,
            repository=self.bot.repository,
            journal=self.journal,
            environ=self.bot.environment,
            today=lambda: date(2026, 3, 12),
        )
        self.handlers = CommandHandlers(
            self.host,
            found,
            preferences=PreferenceStore(self.journal, default=Preferences()),
            chats=lambda: [Check("Telegram", True, "connected")],
            zone=UTC,
            now=lambda: self.now,
        )
        listed = AllowList({"100": Role.OPERATOR, "200": Role.VIEWER}, {"-1001": None})
        self.access = Access({"telegram": listed})
        self.inbox = Inbox(
            handlers=self.handlers, access=self.access, journal=self.journal, now=lambda: self.now
        )

    async def ask(
        self, text: str, sender: Sender = ANN, *, age: float = 0.0, key: str | None = None
    ) -> Reply | None:
        self.keys += 1
        key = f"telegram:1:{self.keys}" if key is None else key
        return await self.inbox.answer(Request(sender, text, key, self.now - age, message_id="77"))

    async def press(self, button: Button) -> Reply:
        """Press a button under an answer, as both fronts take it."""
        self.keys += 1
        text, run = without_run(button.command)
        request = Request(ANN, text, f"telegram:1:{self.keys}", self.now, "78", pressed=True, run=run)
        reply = await self.inbox.answer(request)
        assert reply is not None
        return reply

    async def said(self, text: str, sender: Sender = ANN, *, age: float = 0.0) -> str:
        reply = await self.ask(text, sender, age=age)
        assert reply is not None
        return ("refused: " if reply.refused else "") + reply.message.text

    def orders(self) -> list[int]:
        """Return the events but those of the loop, which goes on meanwhile."""
        return [event.id for event in self.journal.events_after(0) if event.kind not in OF_THE_LOOP]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path) as office:
        yield office


@asynccontextmanager
async def opened(
    folder: Path, kind: type[Office] = Office, *, gate: str = "", experiments: str = ""
) -> AsyncIterator[Office]:
    office = kind(folder, gate=gate, experiments=experiments)
    yield office
    for run in office.journal.active_runs():
        await office.host.engine(run).stop()
        await office.host.conduct(run)
    await office.host.close()
    office.journal.close()


async def test_strangers_get_no_answer_at_all(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("/status", "/id", "/start_run go", "hello", ""):
        assert await office.ask(text, STRANGER) is None
    assert "user 300 in 300" in caplog.text
    assert office.journal.runs() == []


async def test_the_event_loop_never_waits_for_the_state_file(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = office.host.start_run("mar12")
    office.journal.record(make_experiment(run, 0, Status.KEEP), make_experiment(run, 1, Status.DISCARD))
    office.journal.set_state(run, RunState.STOPPED)
    query, loop, asked = office.journal.query, threading.get_ident(), 0

    def watched(sql: str, *values: object) -> list[sqlite3.Row]:
        nonlocal asked
        assert threading.get_ident() != loop
        asked += 1
        return query(sql, *values)

    monkeypatch.setattr(office.journal, "query", watched)
    questions = (
        "status",
        "runs",
        "best",
        "results",
        "log 1",
        "diff 0",
        "ideas",
        "summary",
        "notify",
        "health",
    )
    for number, question in enumerate((*questions, "pause", "resume", "skip", "retag nothing new"), start=1):
        await office.said(f"/{question}")
        assert asked >= number
    await office.handlers.progress()
    assert asked > number
    monkeypatch.undo()


async def test_ids_are_told_to_anybody_while_nobody_is_listed(office: Office) -> None:
    empty = access_by(load_settings(Path("/no/such/.env"), {}))
    office.inbox = Inbox(
        handlers=office.handlers, access=empty, journal=office.journal, now=lambda: office.now
    )
    told = await office.said("/id", STRANGER)
    assert told == "You: TELEGRAM_USER_IDS=300\nThis chat: TELEGRAM_CHAT_IDS=300"
    assert await office.ask("/status", STRANGER) is None


async def test_viewers_look_on_and_may_not_steer(office: Office) -> None:
    assert "operators" in await office.said("/start_run go", VIEWER)
    assert (await office.said("/runs", VIEWER)).startswith("There is no run yet")
    for command in COMMANDS:
        reply = await office.ask(command.example, VIEWER)
        assert reply is not None
        assert reply.refused or command.role is Role.VIEWER


async def test_a_result_is_accepted_or_rejected_and_others_hear_of_it(office: Office) -> None:
    run = office.host.start_run("mar12")
    workspace = office.host.workspace(run)
    source = workspace.source(run.base_commit)
    made = [workspace.commit(run.base_commit, f"{source}# {number}\n", "better") for number in (1, 2)]
    office.journal.record(
        replace(make_experiment(run, 0, Status.KEEP), parent=run.base_commit, commit=run.base_commit),
        *(
            replace(
                make_experiment(run, number, Status.QUARANTINE), parent=run.base_commit, commit=commit.sha
            )
            for number, commit in enumerate(made, 1)
        ),
    )
    assert await office.said("/accept 0") == (
        "refused: Experiment #0 is a keep: only a result in quarantine can be accepted."
    )
    assert await office.said("/accept 1") == "#1 accepted: it is the best"
    assert workspace.head() == made[0].sha
    assert await office.said("/accept 2") == (
        "#2 accepted: another one is the best meanwhile, so it is tried again on that"
    )
    assert await office.said("/reject 1") == "#1 rejected"
    assert workspace.head() == run.base_commit
    events = [e for e in office.journal.events_after(0) if e.kind in (EventKind.ACCEPTED, EventKind.REJECTED)]
    assert [(e.number, e.data["name"], e.data["answered_in"]) for e in events] == [
        (number, "ann", ANN.channel) for number in (1, 2, 1)
    ]


async def test_what_waits_for_a_run_to_go_on_is_said_to(office: Office) -> None:
    run = office.host.start_run("mar12")
    workspace, head = office.host.workspace(run), run.base_commit
    office.journal.record(replace(make_experiment(run, 0, Status.KEEP), parent=head, commit=head))
    for number in (1, 2, 3):
        source = f"{workspace.source(head)}# {number}\n"
        made, head = head, workspace.commit(head, source, "better").sha
        office.journal.record(replace(make_experiment(run, number, Status.KEEP), parent=made, commit=head))
    workspace.move_head(head, run.base_commit)
    office.journal.set_state(run, RunState.DONE)
    later = ", after /resume, as run mar12 is done"
    assert await office.said("/rerun 1 2") == f"Experiment #1 will be trained 2 more times{later}."
    assert await office.said("/reject 2") == f"#2 rejected; tried again, as built on it: #3{later}"
    assert await office.said("/reject 1") == "#1 rejected"


async def test_a_redelivered_request_is_obeyed_once(office: Office) -> None:
    first = await office.ask("/start_run mar12 go", key="telegram:1:5")
    again = await office.ask("/start_run mar12 go", key="telegram:1:5")
    assert first is not None
    assert not first.refused
    assert again is None
    assert len(office.journal.runs()) == 1


async def test_the_start_card_shows_the_run_and_its_buttons(office: Office) -> None:
    reply = await office.ask("/start_run")
    assert reply is not None
    text = reply.message.text
    assert text.startswith("Start run mar12?")
    for part in (
        "Repository: ",
        "Base: main at ",
        "Device: ",
        "Budget: at most 1 min per training",
        "search",
        "Press Start",
    ):
        assert part in text
    row, modes = reply.message.buttons
    assert [button.command for button in row] == ["/start_run mar12 go", "/start_run mar12b", "/cancel"]
    chosen = [button.command.removeprefix("/start_run mar12 ") for button in modes]
    assert chosen == ["all go", "hourly go", "morning go"]
    assert office.journal.runs() == []
    other = await office.ask(row[1].command)
    assert other is not None
    assert other.replaces
    assert other.message.text.startswith("Start run mar12b?")
    assert (await office.said("/start_run mar12 nightly go")).startswith("refused: nightly is no mode")
    started = await office.ask(modes[1].command)
    assert started is not None
    assert started.replaces
    office.journal.set_cursor(ANN.channel, 0)  # as who delivers there does
    assert "a line an hour" in await office.said("/notify")
    refused = await office.said("/start_run")
    assert refused.startswith("refused: Run mar12 is running on this machine")


async def test_stopping_is_asked_back_and_the_question_expires(office: Office) -> None:
    await office.said("/start_run mar12 go")
    for wait, state in ((121.0, RunState.RUNNING), (119.0, RunState.STOPPED)):
        question = await office.ask("/stop")
        assert question is not None
        assert office.journal.runs()[0].state is RunState.RUNNING
        ((yes, no),) = question.message.buttons
        assert no.command == "/cancel"
        office.now += wait
        reply = await office.ask(yes.command)
        assert office.journal.runs()[0].state is state
    assert reply is not None
    assert reply.replaces
    assert "(ann)" in reply.message.text
    again = await office.press(yes)
    assert "expired" in again.message.text
    assert again.replaces  # a question without a use does not stay


async def test_what_is_done_is_neither_asked_nor_done_again(office: Office) -> None:
    await office.said("/start_run mar12 go")
    (run,) = office.journal.runs()
    asked = await office.ask("/stop")
    assert asked is not None
    assert await office.said("/idea WIDTH 320") == "Idea #1 is queued (next): WIDTH 320"
    answers = {
        "/idea WIDTH  320": "Idea #1 is the same and waits already.",
        "/retag mar12 mar12": "Run mar12 has that tag already.",
        "/pause now": "",
        "/pause": "Run mar12 is paused already.",
        "/stop": "",
    }
    for command, answer in answers.items():
        before = office.orders()
        said = await office.said(command, HERE if command == "/stop" else ANN)
        if answer:
            assert said == f"refused: {answer}"
            assert office.orders() == before
    assert office.journal.runs()[0].state is RunState.STOPPED
    before = office.orders()
    for command in ("/stop", "/pause", "/resume", "/skip", "/certify", "/prune"):
        reply = await office.ask(command)
        assert reply is not None
        assert reply.refused, command
        assert not reply.message.buttons  # no question about what nothing can come of
    late = await office.press(asked.message.buttons[0][0])
    assert (late.refused, late.replaces) == (True, True)
    assert late.message.text == f"Run {run.tag} is stopped already."
    assert office.orders() == before


async def test_a_viewer_cannot_press_yes_nor_take_a_question_away(office: Office) -> None:
    await office.said("/start_run mar12 go")
    question = await office.ask("/stop")
    assert question is not None
    ((yes, no),) = question.message.buttons
    assert "operators" in await office.said(yes.command, VIEWER)
    assert "operators" in await office.said(no.command, VIEWER)
    assert office.journal.runs()[0].state is RunState.RUNNING


async def test_the_local_socket_is_not_asked_back(office: Office) -> None:
    await office.said("/start_run mar12 go")
    assert (await office.said("/stop", HERE)).startswith("Run mar12 is stopped")


async def test_what_ends_a_training_is_ignored_when_it_comes_late(office: Office) -> None:
    await office.said("/start_run mar12 go", age=4 * 3600)
    for text in ("/stop", "/skip", "/pause now"):
        name = text.split()[0]
        assert (
            await office.said(text, age=3 * 3600)
            == f"refused: {name} is too old and was ignored: sent 3 h ago."
        )
    assert office.journal.runs()[0].state is RunState.RUNNING
    assert "refused" not in await office.said("/pause", age=3 * 3600)
    assert office.journal.runs()[0].is_paused


async def test_an_idea_is_numbered_and_becomes_an_experiment_of_its_author(office: Office) -> None:
    await office.said("/start_run mar12 go")
    assert await office.said("/idea WIDTH 256") == "Idea #1 is queued (next): WIDTH 256"
    while not (mine := [e for e in office.journal.experiments(1) if e.idea == 1]):  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # the engine works on in its own time
    assert (mine[0].description, mine[0].proposer) == ("WIDTH 256", "ann")


async def test_an_idea_that_needs_no_model_comes_before_what_the_search_has_ready(tmp_path: Path) -> None:
    async def until(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the engine works on in its own time

    gate = tmp_path / "gate"
    async with opened(tmp_path, gate=str(gate)) as office:
        await office.said("/start_run mar12 go")
        (run,) = office.journal.runs()

        def ready() -> str:
            engine = office.host.engine_if_made(run)
            proposal = engine.prefetch.ready if engine else None
            return proposal.description if proposal else ""

        await until(lambda: ready() != "")
        await office.said("/idea WIDTH 256")
        await until(lambda: ready() == "WIDTH 256")
        gate.touch()
        await until(lambda: len(office.journal.experiments(run.id)) > 1)
        assert office.journal.experiments(run.id)[1].idea == 1


async def test_ideas_are_shown_with_what_was_learned_in_this_run_and_in_others(office: Office) -> None:
    await office.said("/start_run mar11 go")
    await office.said("/idea WIDTH 256")
    while not [e for e in office.journal.experiments(1) if e.idea and e.status]:  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # the engine works on in its own time
    assert "#1 WIDTH 256 (ann): " in await office.said("/ideas", VIEWER)
    await office.said("/stop", HERE)
    await office.said("/start_run mar12 go")
    await office.said("/pause")
    await office.said("/idea make it wider")
    text = await office.said("/ideas 20")
    assert text.startswith("Waiting\n#2 make it wider (ann)\n\n")
    learned = text.partition("\nLessons\n")[2]
    assert "(mar11 #1)" in learned


async def test_an_idea_in_words_is_for_a_model_where_there_is_one(tmp_path: Path) -> None:
    office = Office(tmp_path, "search, openai:gpt-5")
    office.host.start_run("mar12")
    assert "openai:gpt-5" in await office.said("/idea make it wider")
    assert (await office.said("/idea WIDTH 256")).endswith("WIDTH 256")
    assert ALREADY_SET in await office.said("/idea WIDTH 64")
    await office.host.close()
    office.journal.close()


async def test_an_idea_in_words_waits_where_only_search_proposes(office: Office) -> None:
    office.host.start_run("mar12")
    waits = f"\n{NEEDS_A_MODEL} "
    told = await office.said("/idea Use a cosine schedule")
    assert waits in told
    assert told.endswith("such as LEARNING_RATE 0.01.")


@pytest.mark.parametrize(
    ("idea", "why"),
    [
        ("WIDTH banana", "WIDTH takes a whole number, such as WIDTH 64."),
        ("NO_SUCH 3", "The program has no constant NO_SUCH."),
    ],
)
async def test_a_mistyped_constant_is_refused_and_not_queued(office: Office, idea: str, why: str) -> None:
    run = office.host.start_run("mar12")
    assert await office.said(f"/idea {idea}") == f"refused: {why}"
    assert IdeaBox(office.journal).waiting(run.id) == ()


async def test_an_idea_may_be_as_long_as_one_of_the_file(office: Office) -> None:
    run = office.host.start_run("mar12")
    long = f"make it {'very ' * 195}wide"
    assert (long,) == read_ideas(f"- {long}")
    await office.said(f"/idea {long}")
    too_long = f"{long}{' and deep' * 20}"
    await office.said(f"/idea {too_long}")
    whole, cut = IdeaBox(office.journal).waiting(run.id)
    assert whole.text == long
    assert IDEA_CHARACTERS - len(" deep") < len(cut.text) <= IDEA_CHARACTERS
    assert too_long.startswith(f"{cut.text.removesuffix('…')} ")


async def test_only_a_stopped_run_takes_no_ideas(office: Office) -> None:
    run = office.host.start_run("mar12")
    for number, state in enumerate(RunState):
        office.journal.set_state(run, state)
        told = await office.said(f"/idea WIDTH {256 + 64 * number}")
        if state is RunState.STOPPED:
            assert told == "refused: Run mar12 is stopped: /start_run, then send it again."
            assert await office.said("/new_idea") == told
        else:
            assert told.startswith("Idea #")
    waiting = IdeaBox(office.journal).waiting(run.id)
    assert len(waiting) == len(RunState) - 1


async def test_a_chart_that_cannot_be_written_is_told(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(*_: object, **__: object) -> bytes:
        return b"png"

    monkeypatch.setattr("notifiers.charts.draw", draw)
    office.host.start_run("mar12")
    file = office.bot.home / "mar12.png"
    assert await office.said("/plot", HERE) == f"Chart: {file}"
    file.unlink()
    file.mkdir()
    assert await office.said("/plot", HERE) == f"refused: {file} cannot be written: Is a directory."


async def test_notify_is_kept_for_the_chat_that_asked(office: Office) -> None:
    for sender in (ANN, HERE):
        office.journal.set_cursor(sender.channel, 0)
    assert "experiments that were kept" in await office.said("/notify keeps")
    assert "experiments that were kept" in await office.said("/notify")
    assert "every experiment" in await office.said("/notify", HERE)
    assert (await office.said("/notify loudly")).startswith("refused: ")
    told = [await office.ask(text) for text in ("/notify", "/notify all")]
    assert [reply.for_all for reply in told if reply] == [False, True]


async def test_where_nothing_is_delivered_there_is_nothing_to_choose(office: Office) -> None:
    beside = replace(ANN, topic="9")
    assert await office.said("/notify keeps", beside) == (
        "refused: This chat gets answers only: /id shows the setting that lists it."
    )
    office.journal.set_cursor(beside.channel, 0)
    assert "experiments that were kept" in await office.said("/notify keeps", beside)


async def test_results_are_held_against_the_best_before_those_shown(office: Office) -> None:
    run = make_run(office.journal)
    office.journal.set_state(run, RunState.STOPPED)
    for number, value in enumerate((1.5, 1.4, 1.6, 1.3)):
        status = Status.DISCARD if value == 1.6 else Status.KEEP
        before = (None, 1.5, 1.4, 1.4)[number]
        office.journal.record(replace(make_experiment(run, number, status), value=value, best_before=before))
    reply = await office.ask("/results 2")
    assert reply is not None
    assert reply.message.text == "mar12: the last 2 of 4 results"
    assert [line.split()[:3] for line in reply.message.block.splitlines()[1:]] == [
        ["2", "+0.200000", "discard"],
        ["3", "-0.100000", "keep"],
    ]
    assert [button.label for row in reply.message.buttons for button in row] == ["Diff #3", "Log #3"]
    assert await office.said("/results") == "mar12: 4 results"


async def test_health_lists_what_is_wrong_and_everything_when_asked(office: Office) -> None:
    office.host.start_run("mar12")
    brief, full = await office.ask("/health"), await office.ask("/health all")
    assert brief is not None
    assert full is not None
    assert "ok    Telegram: connected" in full.message.block.splitlines()
    assert not [line for line in brief.message.block.splitlines() if line.startswith("ok ")]
    assert set(brief.message.block.splitlines()) < set(full.message.block.splitlines())


async def test_every_example_gets_an_answer(office: Office) -> None:
    await office.said("/start_run mar12 go")
    for command in COMMANDS:
        if command.name not in ("plot", "stop"):
            assert await office.said(command.example)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(text=st.text())
def test_any_text_gets_a_reply_or_a_refusal(quiet_office: Office, runner: asyncio.Runner, text: str) -> None:
    assert runner.run(quiet_office.ask(text)) is not None


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def quiet_office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.journal.close()


async def test_a_run_from_a_chat_makes_as_many_experiments_as_are_set(tmp_path: Path) -> None:
    async with opened(tmp_path, experiments="1") as office:
        for command, made in (("/start_run mar12 go", 2), ("/resume", 3)):
            await office.said(command)
            (run,) = office.journal.runs()
            await office.host.conduct(run)
            assert office.journal.runs()[0].state is RunState.DONE
            assert len(office.journal.experiments(run.id)) == made
