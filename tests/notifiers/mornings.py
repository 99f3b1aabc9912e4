"""Nights in a journal, recorded as engine and bot would, for the reports of the mornings after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from loop.engine import stages
from loop.engine.stages import KeepRule, Ready
from loop.experiment import (
    Actor,
    Cause,
    Cost,
    Ending,
    EventKind,
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
from loop.results.report import WakeUpReport, read_wakeup_report
from loop.store.events import Session, Sessions
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from loop.store.spending import Budget
from notifiers.delivery.rate_limit import Clock

MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
BY_ADA = Reason(Actor.PERSON, "ada")
IDEAS = (
    ("halve batch size", 0.986041, 1, 1),
    ("depth 8 → 9, aspect ratio 64 → 57, width 640", 0.981773, 4, 4),
    ("double model width", None, 2, 2),
    ("warmdown ratio 0.5 → 0.7", 0.981201, 1, 1),
    ("GELU", 0.99, 3, 3),
    ("window SSSL → SSSSL", 0.980903, 1, 1),
    ("short window T/2 → T/8", 0.979969, 2, 2),
    ("seed 137", 0.98, 1, 1),
    ("rotary base 10K → 200K", 0.978784, 1, 1),
    ("drop an unused helper", 0.978784, 0, 12),
)


class Recorder:
    """One run in a journal whose time is ours; a bot is there unless it is said that it is away."""

    def __init__(self, journal: Journal, clock: list[float]) -> None:
        self.journal = journal
        self._clock = clock
        self._sessions = Sessions(journal)
        self._session: Session = self._sessions.begin(boot="one")
        self._run_id = 0
        self.rule = KeepRule()
        self.memory_mb = 45060.2  # that a training reports, 0 on a machine without a GPU

    @property
    def now(self) -> float:
        return self._clock[0]

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now)

    @property
    def run(self) -> Run:
        return self.journal.run_by_id(self._run_id)

    def at(self, moment: str) -> None:
        """Let it be a moment such as `12 22:58`, of March 2026 in UTC; the bot lives meanwhile."""
        day, clock = moment.split()
        self.at_second(datetime.fromisoformat(f"2026-03-{day}T{clock}:00+00:00").timestamp())

    def at_second(self, moment: float) -> None:
        self._clock[0] = moment
        self._sessions.seen(self._session)

    def pass_(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._clock[0] += seconds

    def away(self, moment: str) -> None:
        """Let the bot be killed, and begin again at that moment."""
        day, clock = moment.split()
        self._clock[0] = datetime.fromisoformat(f"2026-03-{day}T{clock}:00+00:00").timestamp()
        self._session = self._sessions.begin(boot="one")

    def begin(self, tag: str = "mar12", *, metric: str = "val_bpb", goal: Goal = Goal.MINIMIZE) -> None:
        self.rule = KeepRule(metric, goal)
        self._run_id = self.journal.create_run(
            tag=tag,
            repository=Path("/home/ada/nano"),
            base_branch="main",
            base_commit="a" * 40,
            metric=metric,
            goal=goal,
            time_budget=300.0,
        ).id

    def train(self, description: str, added: int = 1, removed: int = 1) -> None:
        """Begin to train the next experiment."""
        last = self.journal.experiments(self._run_id, last=1)
        number = last[0].number + 1 if last else 0
        proposal = (
            replace(stages.BASELINE, description=description) if not number else Proposal("", description)
        )
        commit = Commit(f"{number:07x}{'e' * 33}", added if number else 0, removed if number else 0)
        steps = stages.proposed(self.run, number, Ready(proposal, commit, {}, ""), self.now)
        self.journal.record(*steps)
        training = Training(1, supervisor_pid=1, supervisor_started=0.0, started_at=self.now)
        self.journal.record(replace(steps[-1], stage=Stage.TRAINING, training=training))

    def end(self, value: float | None, *, error: str = MEMORY, seconds: float = 330.0) -> None:
        """End the training under way after so many seconds, with a value or an error, and judge it."""
        (experiment,) = self.journal.undecided(self._run_id)
        assert experiment.started_at is not None
        self._clock[0] = experiment.started_at + seconds
        summary = {"training_seconds": 300.0, "peak_vram_mb": self.memory_mb}
        numbers = summary | {self.rule.metric: value} if value is not None else {}
        text = "" if value is not None else error
        outcome = Outcome(Ending.EXITED, int(value is None), experiment.started_at, self.now, numbers, text)
        best = self.journal.best(self._run_id)
        measured = stages.measured(experiment, outcome)
        decided = stages.decided(
            measured, self.run, self.rule, best=best.value if best else None, tampered=(), now=self.now
        )
        self.journal.record(measured, decided)
        self._clock[0] += 2.0
        self._sessions.seen(self._session)

    def experiment(self, description: str, value: float | None, added: int = 1, removed: int = 1) -> None:
        self.train(description, added, removed)
        self.end(value, seconds=330.0 if value is not None else 40.0)

    def experiments(self, count: int, *, start: float = 0.9979, step: float = 0.0, keeps: int = 6) -> None:
        """Make so many; one of `keeps` is better than the best, by `step`."""
        best = start
        for number in range(count):
            kept = step > 0 and number % keeps == keeps - 1
            value = round(best - step, 6) if kept else best + 0.001
            best = min(best, value)
            self.experiment(f"constant {number} of the night", value)

    def skip(self) -> None:
        (experiment,) = self.journal.undecided(self._run_id)
        self.journal.record(replace(experiment, skip_requested=True), kind=EventKind.SKIP_REQUESTED)
        outcome = Outcome(Ending.INTERRUPTED, None, experiment.started_at or 0.0, self.now)
        lost = stages.put_back(experiment, outcome)
        self.journal.record(lost, kind=EventKind.INTERRUPTED, reason="by command")
        self.journal.record(stages.skipped(lost, "", None, now=self.now))

    def state(self, state: RunState, reason: Reason = BY_ADA) -> None:
        self.journal.set_state(self.run, state, reason)

    def call(self, reason: str, **data: object) -> None:
        self.journal.note(self._run_id, EventKind.NEEDS_ATTENTION, reason=reason, **data)

    def pay(self, dollars: float | None) -> None:
        Budget(self.journal).pay(self._run_id, "anthropic:claude", Cost(900_000, 500_000, 20_000, dollars))

    def wish(self, text: str) -> None:
        IdeaBox(self.journal).add(self._run_id, text, author="bob")

    def night(
        self, *, since: float | None = None, price: float | None = None, ready: str = ""
    ) -> WakeUpReport:
        return read_wakeup_report(
            self.journal, self.run, until=self.now, since=since, gpu_price=price, ready=ready
        )


@contextmanager
def open_recorder(folder: Path) -> Iterator[Recorder]:
    clock = [datetime(2026, 3, 12, 22, 58, tzinfo=UTC).timestamp()]
    journal = Journal(folder / "state.db", clock=lambda: clock[0])
    journal.execute("PRAGMA synchronous = OFF")  # quicker; nobody cuts the power here
    try:
        yield Recorder(journal, clock)
    finally:
        journal.close()


def fruitful(recorder: Recorder) -> WakeUpReport:
    """A good night, models and GPU paid for."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    for description, value, added, removed in IDEAS:
        recorder.experiment(description, value, added, removed)
    recorder.experiments(76, start=0.978784, step=0.0006)
    recorder.pay(1.84)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at, price=2.0, ready="EMBEDDING_LR 0.8 → 0.9")


def nothing_happened(recorder: Recorder) -> WakeUpReport:
    """No proposer had an idea all night."""
    recorder.begin()
    recorder.at("12 23:58")
    recorder.call("its proposer has had no idea for 60 min", cause=Cause.NO_PROPOSAL)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def everything_crashed(recorder: Recorder) -> WakeUpReport:
    """A program that does not fit the GPU."""
    recorder.begin()
    for number in range(60):
        recorder.experiment("baseline" if not number else f"idea {number}", None)
        recorder.at(
            f"{12 + (23 * 60 + number * 8) // 1440} {(23 + number * 8 // 60) % 24:02}:{number * 8 % 60:02}"
        )
        if number % 5 == 4:
            recorder.call(
                f"{number + 1} experiments crashed in a row, the last with: {MEMORY}", cause=Cause.CRASHES
            )
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def only_the_baseline(recorder: Recorder) -> WakeUpReport:
    """A run that began just before the morning."""
    recorder.at("13 06:54")
    recorder.begin("mar13")
    recorder.experiment("baseline", 0.9979)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at, price=2.0)


def on_a_cpu(recorder: Recorder) -> WakeUpReport:
    """A night of a machine without a GPU."""
    recorder.begin()
    recorder.memory_mb = 0.0
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(80, step=0.001, keeps=40)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def just_begun(recorder: Recorder) -> WakeUpReport:
    """A run that was started minutes before the morning; its baseline trains."""
    recorder.at("13 06:57")
    recorder.begin("mar13")
    recorder.train("baseline")
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def both_crashed(recorder: Recorder) -> WakeUpReport:
    """Two experiments and no number; a third is under way."""
    recorder.begin()
    recorder.experiment("baseline", None)
    recorder.experiment("halve the device batch size, which is what did not fit into the memory", None)
    recorder.train("a quarter of the device batch size and gradient checkpointing in every block")
    recorder.at("12 23:03")
    return recorder.night()


def spans_days(recorder: Recorder) -> WakeUpReport:
    """All of a run that was paused over the weekend, as `/summary` tells it."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(40, step=0.0011, keeps=9)
    recorder.state(RunState.PAUSED)
    recorder.at("15 20:00")
    recorder.state(RunState.RUNNING)
    recorder.experiments(60, start=0.9935, step=0.0004, keeps=20)
    recorder.at("16 07:00")
    return recorder.night(ready="MATRIX_LR 0.04 → 0.05")


def second_night(recorder: Recorder) -> WakeUpReport:
    """A run over days; the night is since the last wake-up."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(80, step=0.0021)
    recorder.pay(3.0)
    recorder.at("13 07:00")
    since = recorder.now
    recorder.experiments(90, start=0.9706, step=0.0002, keeps=13)
    recorder.pay(0.5)
    recorder.at("14 07:00")
    return recorder.night(since=since)


def one_of_a_second_night(recorder: Recorder) -> WakeUpReport:
    """A single experiment since yesterday: the rest of the time the run was paused."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.at("13 07:00")
    since = recorder.now
    recorder.experiment("halve batch size", 0.986041)
    recorder.state(RunState.PAUSED)
    recorder.at("14 07:00")
    return recorder.night(since=since)


def paused_since_yesterday(recorder: Recorder) -> WakeUpReport:
    """A run that began in the evening and was paused by a machine without disk."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(5)
    room = {"folder": "/home/ada", "free": 0.2e9}
    recorder.call(
        "4.2 GB free on the disk of /home/ada: make room before the run has to pause",
        cause=Cause.DISK_SHORT,
        key="/home/ada",
    )
    recorder.state(RunState.PAUSED, Reason(Actor.HEARTBEAT, cause=Cause.DISK, facts=room))
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def bot_down(recorder: Recorder) -> WakeUpReport:
    """The bot was killed at midnight, and nobody started it again until half past six."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(9, step=0.001)
    recorder.away("13 06:30")
    recorder.experiments(4, start=0.9969)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def stuck(recorder: Recorder) -> WakeUpReport:
    """A night without any gain."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(24)
    recorder.pay(None)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def done(recorder: Recorder) -> WakeUpReport:
    """All that was asked for was made by three."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiments(30, step=0.0015, keeps=16)
    recorder.state(RunState.DONE, Reason(Actor.LOOP, facts={"made": 30}))
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def nothing_new(recorder: Recorder) -> WakeUpReport:
    """The second night of a run that was paused before it."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiment("halve batch size", 0.986041)
    recorder.at("13 07:00")
    since = recorder.now
    recorder.state(RunState.PAUSED)
    recorder.at("14 07:00")
    return recorder.night(since=since)


def all_of_a_second_night_crashed(recorder: Recorder) -> WakeUpReport:
    """A driver that broke at noon."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiment("halve batch size", 0.986041)
    recorder.at("13 07:00")
    since = recorder.now
    for number in range(7):
        recorder.experiment(f"idea {number}", None)
    recorder.call(
        "7 experiments crashed in a row, the last with: CUDA driver version is insufficient",
        cause=Cause.CRASHES,
    )
    recorder.call("the key of anthropic is refused", cause=Cause.PROPOSER, key="anthropic", state="lost")
    recorder.at("14 07:00")
    return recorder.night(since=since)


def more_is_better(recorder: Recorder) -> WakeUpReport:
    """Another metric, with a long name; a person's idea waits."""
    recorder.begin("accuracy-of-the-large-one", metric="validation/top1_accuracy", goal=Goal.MAXIMIZE)
    recorder.experiment("baseline", 0.412)
    recorder.experiment("label smoothing 0.1", 0.4271, 2, 0)
    recorder.experiment("cutmix", 0.4502, 31, 2)
    recorder.train("mixup")
    recorder.skip()
    recorder.wish("a cosine schedule with warm restarts, as in the paper")
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


def odd_texts(recorder: Recorder) -> WakeUpReport:
    """What a model may write into a description."""
    recorder.begin()
    recorder.experiment("baseline", 0.9979)
    recorder.experiment("<b>bold</b> & <script>alert(1)</script>", 0.99)
    recorder.experiment("ask <!channel> & <@U024BE7LH> *this* `code`", 0.985)
    recorder.experiment("学習率を 0.04 に下げ、埋め込みを広げる", 0.984)
    recorder.experiment("two\nlines\tand \x1b[31mred\x1b[0m \u202ereversed", 0.983)
    recorder.state(RunState.STOPPED)
    recorder.at("13 07:00")
    return recorder.night(since=recorder.run.created_at)


MORNINGS: tuple[Callable[[Recorder], WakeUpReport], ...] = (
    fruitful,
    nothing_happened,
    everything_crashed,
    only_the_baseline,
    on_a_cpu,
    just_begun,
    both_crashed,
    spans_days,
    second_night,
    one_of_a_second_night,
    paused_since_yesterday,
    bot_down,
    stuck,
    done,
    nothing_new,
    all_of_a_second_night_crashed,
    more_is_better,
    odd_texts,
)
