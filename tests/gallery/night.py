"""A bot whose clock is ours: it lives through a night in a moment, and all that it says is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.commands.access import HERE, Access, AllowList, Request, Role, Sender
from bot.commands.handlers import CommandHandlers
from bot.commands.inbox import Inbox
from bot.commands.table import parse
from bot.reports.reporter import Reporter
from bot.runs import Runs
from bot.setup.settings import load_settings
from bot.slack.answers import READING
from bot.slack.home import dated, tab_blocks
from loop.engine import stages
from loop.engine.stages import KeepRule
from loop.experiment import (
    BY_COMMAND,
    Cost,
    Ending,
    EventKind,
    Experiment,
    Family,
    Goal,
    Outcome,
    Proposal,
    Reason,
    Run,
    RunState,
    Stage,
    Training,
)
from loop.git.workspace import Commit
from loop.results.report import RunStatus, read_wakeup_report, run_status
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from notifiers.channels.slack_blocks import Picture
from notifiers.charts.scene import sparkline
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.live_card import LiveCards
from notifiers.delivery.preferences import Preferences, PreferenceStore
from notifiers.delivery.rate_limit import Spacing
from notifiers.message import Message, Reply
from notifiers.text.report import WIDTH, report_message
from tests.gallery.screen import Screen, Shown, Way
from tests.notifiers.recording import VirtualTime

ANN = Sender("telegram", user="7", place="7", name="ann")
BOB = Sender("telegram", user="8", place="8", name="bob")  # read-only
_ACCESS = Access({"telegram": AllowList({"7": Role.OPERATOR, "8": Role.VIEWER}, {}, "USERS", "CHATS")})


@dataclass(frozen=True, slots=True)
class Section:
    """A moment of the night, and what was shown in it."""

    clock: str
    title: str
    shown: tuple[Shown, ...]


class Night:
    """One run and one chat. The events are those that the loop would write; all else is the bot itself."""

    def __init__(self, folder: Path, journal: Journal, time: VirtualTime) -> None:
        self.sections: list[Section] = []
        self.journal = journal
        self._time = time
        self._screen = Screen()
        settings = load_settings(folder / ".env", {"DATA_PATHS": ""}, folder)
        self._host = Runs(
            settings,
            repository=folder / "repository",
            journal=journal,
            environ={},
            today=lambda: self._now().date(),
        )
        preferences = PreferenceStore(journal, default=Preferences())
        clock = time.clock
        handlers = CommandHandlers(
            self._host, settings, preferences=preferences, chats=list, zone=UTC, now=clock.now
        )
        self._inbox = Inbox(handlers=handlers, access=_ACCESS, journal=journal, now=clock.now)
        spacing = Spacing(clock=clock)
        self._keeper = LiveCards(
            self._screen, journal, status=self._status, spacing=spacing, zone=UTC, clock=clock
        )
        self._delivery = Delivery(
            self._screen,
            journal,
            report=Reporter(self._host, settings, zone=UTC, now=clock.now).for_chat,
            preferences=lambda: preferences.get(self._screen.name),
            thread=self._keeper.thread,
            spacing=spacing,
            clock=clock,
            zone=UTC,
        )

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return self.journal.runs()[-1]

    @property
    def now(self) -> float:
        """Seconds since the epoch, by the clock of the night."""
        return self._time.now

    # What happens

    def at(self, clock: str) -> None:
        """Let it be the next time that the clock shows this."""
        hour, minute = map(int, clock.split(":"))
        then = self._now().replace(hour=hour, minute=minute, second=0)
        if then < self._now():
            then += timedelta(days=1)
        self._time.now = then.timestamp()

    async def start(self, tag: str) -> None:
        """Start the run; the chat is there to see it."""
        await self._delivery.catch_up()
        self.journal.create_run(
            tag=tag,
            repository=Path("/home/ann/nano"),
            base_branch="main",
            base_commit="228791fb499afffb54b46200aca536f79142f117",
            metric="val_bpb",
            goal=Goal.MINIMIZE,
            time_budget=300.0,
        )

    def train(
        self,
        description: str,
        *,
        added: int = 3,
        removed: int = 1,
        family: Family | None = None,
        cost: Cost | None = None,
    ) -> Experiment:
        """Begin to train the next experiment."""
        last = self.journal.experiments(self.run.id, last=1)
        number = last[0].number + 1 if last else 0
        proposal = Proposal("", description, proposer="search", family=family, cost=cost)
        proposal = proposal if number else stages.BASELINE
        commit = Commit(f"{number:07x}{'e' * 33}", added if number else 0, removed if number else 0)
        steps = stages.proposed(self.run, number, stages.Ready(proposal, commit, {}, ""), self._time.now)
        self.journal.record(*steps)
        return self.train_again(steps[-1])

    def train_again(self, experiment: Experiment) -> Experiment:
        """Begin to train an experiment, perhaps not for the first time."""
        k, now = experiment.attempt + 1, self._time.now
        training = Training(k, supervisor_pid=1, supervisor_started=0.0, started_at=now)
        begun = replace(experiment, stage=Stage.TRAINING, training=training)
        self.journal.record(begun)
        self._write_log("")
        return begun

    def reach(self, percent: float, *, step: int) -> None:
        """Let the training come so far."""
        left = 3 * (100 - percent)
        self._write_log(
            f"step {step:05} ({percent:.1f}%) | loss: 3.412345 | dt: 320ms | remaining: {left:.0f}s"
        )

    def end(self, value: float | None, *, error: str = "", minutes: float = 5.45) -> None:
        """End the training that runs, with a value or an error, and judge it."""
        (experiment,) = self.journal.undecided(self.run.id)
        assert experiment.started_at is not None
        ended_at = experiment.started_at + 60 * minutes
        self._time.now = max(self._time.now, ended_at)
        numbers = {"val_bpb": value, "training_seconds": 300.1, "peak_vram_mb": 45060.2} if value else {}
        exit_code = 0 if value else 1
        outcome = Outcome(Ending.EXITED, exit_code, experiment.started_at, ended_at, numbers, error)
        best = self.journal.best(self.run.id)
        self.journal.beat()
        measured = stages.measured(experiment, outcome)
        decided = stages.decided(
            measured, self.run, KeepRule(), best=best.value if best else None, tampered=(), now=self._time.now
        )
        self.journal.record(measured, decided)

    def experiment(
        self,
        description: str,
        value: float | None,
        *,
        error: str = "",
        added: int = 3,
        family: Family | None = None,
        cost: Cost | None = None,
    ) -> None:
        """Train and judge one more experiment."""
        self.train(description, added=added, family=family, cost=cost)
        self.end(value, error=error)

    def wish(self, text: str) -> None:
        """Let somebody have an idea."""
        IdeaBox(self.journal).add(self.run.id, text, author="bob")

    def skip(self) -> None:
        """Give up the experiment under way."""
        (experiment,) = self.journal.undecided(self.run.id)
        outcome = Outcome(Ending.INTERRUPTED, None, experiment.started_at or 0.0, self._time.now)
        ended = stages.put_back(experiment, outcome)
        best = self.journal.best(self.run.id)
        self.journal.record(stages.skipped(ended, "", best.value if best else None, now=self._time.now))

    def vanish(self) -> None:
        """Lose the training under way with its machine, and begin it again."""
        (experiment,) = self.journal.undecided(self.run.id)
        outcome = Outcome(Ending.VANISHED, None, experiment.started_at or 0.0, self._time.now)
        lost = stages.put_back(experiment, outcome)
        reason = "the training vanished with its machine or its supervisor"
        self.journal.record(lost, kind=EventKind.INTERRUPTED, reason=reason, vanished=True)
        self.train_again(lost)

    def set_state(self, state: RunState, reason: Reason = BY_COMMAND) -> None:
        self.journal.set_state(self.run, state, reason)

    def note(self, kind: EventKind, reason: str) -> None:
        self.journal.note(self.run.id, kind, reason=reason)

    def wake_up(self) -> None:
        self.journal.note(self.run.id, EventKind.WAKE_UP, since=self.run.created_at)

    def retag(self, tag: str) -> None:
        self.journal.finish_retag(self.journal.retag(self.run, tag))

    # What is shown of it

    async def hear(self) -> None:
        """Let the delivery learn of what happened, which it tells now or later."""
        await self._delivery.catch_up()

    async def tell(self, title: str) -> None:
        """Let the chat be told what happened, and what it was not told before."""
        await self.hear()
        self._close(title)

    async def look(self, title: str) -> None:
        """Let the card show how the run stands."""
        await self._keeper.refresh()
        self._close(title)

    async def ask(self, title: str, text: str, *, by: Sender = ANN, seconds_ago: float = 0.0) -> None:
        """Give a command and show the answer."""
        reply = await self._inbox.answer(Request(by, text, key="", sent_at=self._time.now - seconds_ago))
        assert reply is not None
        self.show(title, reply.message, f"{by.name or 'here'}: {text}", _way(reply, text, by))

    def show(self, title: str, message: Message, asked: str, way: Way = Way.ANSWER) -> None:
        """Show an answer; also one for which the bot would need a repository."""
        self._screen.shown.append(Shown(message, way, asked))
        self._close(title)

    async def home(self, title: str, role: Role, picture: Picture | None = None) -> None:
        """Show Slack's Home tab of somebody with this role, with a chart once there is one."""
        asked = [Request(HERE, text, key="", sent_at=self._time.now) for text in ("/card", "/best")]
        card, best = [await self._inbox.answer(request) for request in asked]
        assert card is not None
        blocks = [*tab_blocks([card], best, picture, role), dated(self._time.now)]
        self.view(title, Way.HOME, {"type": "home", "blocks": blocks})

    def view(self, title: str, way: Way, view: Mapping[str, Any]) -> None:
        self._screen.shown.append(Shown(Message(""), way, view=view))
        self._close(title)

    def report(self, title: str) -> None:
        """Show the report of the command line, in a terminal of 100 columns."""
        night = read_wakeup_report(self.journal, self.run, until=self._time.now)
        line = sparkline(night.rows, metric=self.run.metric, goal=self.run.goal, width=WIDTH)
        text = f"{report_message(night, width=96).text}\n\n{line}"
        self.show(title, Message(text), "autoresearch report", Way.HERE)

    def _close(self, title: str) -> None:
        self.sections.append(Section(f"{self._now():%H:%M}", title, tuple(self._screen.shown)))
        self._screen.shown.clear()

    def _status(self, run: Run) -> RunStatus:
        return run_status(self.journal, run, worktree=self._host.worktree(run.tag))

    def _write_log(self, text: str) -> None:
        path = self._host.worktree(self.run.tag) / "run.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._time.now, UTC)


def _way(reply: Reply, text: str, by: Sender) -> Way:
    if by is HERE:
        return Way.HERE
    if reply.refused:
        return Way.REFUSAL
    command = parse(text).command
    if command.question:
        return Way.QUESTION
    return Way.WHISPER if command.name in READING or text == "/notify" else Way.ANSWER


@contextmanager
def open_night(folder: Path, *, begins: datetime) -> Iterator[Night]:
    """Open a night with an empty journal in `folder`."""
    time = VirtualTime()
    time.now = begins.timestamp()
    journal = Journal(folder / "state.db", clock=time.clock.now)
    try:
        yield Night(folder, journal, time)
    finally:
        journal.close()
