"""The repeats of a run: which is next, how one begins, and what becomes of it.

A lane takes one where it has no experiment. It changes neither branch nor commit; only its folder has another
seed, where the program sets one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import assert_never

from loop.engine.stages import RUN_STOPPED, decide, ended, why_put_back
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.noise import Drift, read_drift, speed
from loop.evidence import Repeat, RepeatFor
from loop.experiment import Asker, Ending, Experiment, Outcome, Purpose, Run, RunState, Status, Training
from loop.lanes.protocol import LiveTraining
from loop.program.seed import seed_of, with_seed
from loop.store.events import skip_answered_in
from loop.store.evidence.repeats import Repeats, RepeatUnderWay
from loop.text import clauses

SKIPPED = "skipped by command"
MOST_TIMES = 10
MOST_SEED = 2**31  # what every generator takes


class Repeater:
    """Makes the repeats of one run. All methods block."""

    def __init__(self, trainings: Trainings) -> None:
        self._run_id = trainings.folders.run_id
        self._rule = trainings.plan.rule
        self._noise_runs = trainings.plan.noise_runs
        self._journal = trainings.journal
        self._workspace = trainings.workspace
        self._trainings = trainings
        self._store = Repeats(self._journal)

    def ask(self, run: Run, number: int, times: int, by: Asker) -> None:
        """Want repeats for a person.

        Raises:
            UserError: they cannot be made.
        """
        if not 1 <= times <= MOST_TIMES:
            raise UserError(f"/rerun takes 1 to {MOST_TIMES} repeats at a time.")
        if run.state is RunState.STOPPED:
            raise UserError(f"Run {run.tag} is stopped: its experiments are not trained again.")
        experiment = self._journal.experiment(run.id, number)
        if experiment is None:
            raise UserError(f"Run {run.tag} has no experiment #{number}: /results lists the experiments.")
        if problem := _why_not_repeated(experiment):
            raise UserError(f"Experiment #{number} {problem}.")
        self._workspace.source(experiment.commit)  # of an adopted one git may not have the program
        self._store.ask(run.id, number, RepeatFor.PERSON, by, times=times)

    def waiting(self) -> list[Repeat]:
        return self._store.waiting(self._run_id)

    def _wants_noise(self) -> bool:
        (last, *_) = self._journal.experiments(self._run_id, last=1) or (None,)
        if last is None or last.number or last.status is not Status.KEEP or not last.attempt:
            return False
        return not self._store.wanted_for(self._run_id, RepeatFor.NOISE)

    def under_way(self) -> dict[int, RepeatUnderWay]:
        return {begun.lane: begun for begun in self._store.under_way(self._run_id)}

    def find_next(self, lane: int) -> tuple[Repeat, str] | None:
        """Return the repeat that is next in a lane, with the program to repeat; None where none waits.

        Those for the noise are asked for once the baseline has its verdict.
        """
        if self._noise_runs and self._wants_noise():
            self._store.ask(self._run_id, 0, RepeatFor.NOISE, times=self._noise_runs)
        for repeat in self._by_turns(self.waiting(), lane):
            try:
                return repeat, self._workspace.source(self.experiment(repeat).commit)
            except UserError as error:
                self._store.give_up(repeat, str(error))
        return None

    def _by_turns(self, waiting: list[Repeat], lane: int) -> list[Repeat]:
        """Let each lane train both programs of a certification equally often: devices differ."""
        certification = waiting[0].certification if waiting else None
        if certification is None:
            return waiting
        trained = self._store.trained_in(certification, lane)
        return sorted(waiting, key=lambda each: trained.get(each.number, 0) if each.certification else 0)

    def begin(self, lane: int, repeat: Repeat, source: str) -> tuple[RepeatUnderWay, LiveTraining]:
        """Begin a repeat of the program `source`."""
        seed = self._seed(repeat, source)
        k = self._store.next_k(repeat.run_id, repeat.number)
        changed = source if seed is None else with_seed(source, seed)

        def record(training: Training) -> RepeatUnderWay:
            training = replace(training, purpose=Purpose.REPEAT)
            begun = RepeatUnderWay(replace(repeat, k=k, seed=seed), training, lane)
            self._store.begin(begun, **self._trainings.place(lane))
            return begun

        commit = self.experiment(repeat).commit
        return self._trainings.start(lane, repeat.number, k, commit, changed, record)

    def experiment(self, repeat: Repeat) -> Experiment:
        found = self._journal.experiment(repeat.run_id, repeat.number)
        assert found is not None, "a repeat is of an experiment"
        return found

    def _seed(self, repeat: Repeat, source: str) -> int | None:
        """Return a seed that the program was not trained with yet; None where it sets none."""
        own = seed_of(source)
        if own is None or repeat.seed is not None:
            return repeat.seed
        used = {other.seed for other in self._store.of(repeat.run_id, repeat.number)}
        seeds = count(own + 1) if own < MOST_SEED else count(1)
        return next(seed for seed in seeds if seed not in used)

    def attach(self, begun: RepeatUnderWay) -> LiveTraining:
        return self._trainings.attach(begun.lane, begun.repeat.number, begun.training)

    def skip(self, begun: RepeatUnderWay, *, answered_in: str) -> RepeatUnderWay:
        return self._store.skip(begun, SKIPPED, answered_in=answered_in)

    def end(self, begun: RepeatUnderWay, outcome: Outcome, run: Run, *, blocked: bool) -> int:
        """Record what a repeat's training came to; return how many were in vain where it vanished, else 0."""
        repeat, k = begun.repeat, begun.training.k
        over = replace(begun, training=ended(begun.training, outcome))
        verdict = decide(
            self._rule,
            outcome,
            best=None,
            tampered=self._trainings.tampered(repeat.number, k, self.experiment(repeat).commit),
        )
        has_number = verdict.status is not Status.CRASH
        vanished, waits_again = outcome.ending is Ending.VANISHED, False
        if has_number or (outcome.ending not in (Ending.INTERRUPTED, Ending.VANISHED) and not blocked):
            self._measure(over, outcome, verdict.reason, has_number=has_number)
        elif run.state is RunState.STOPPED:
            self._store.give_up(repeat, RUN_STOPPED, ended=over, quiet=True)
        elif repeat.given_up:
            answered_in = skip_answered_in(self._journal, repeat.run_id, repeat.number)
            self._store.give_up(repeat, repeat.given_up, ended=over, answered_in=answered_in)
        else:
            reason = why_put_back(outcome, ordered=run.state is RunState.PAUSED, blocked=blocked)
            self._store.put_back(over, reason, vanished=vanished)
            waits_again = True
        self._trainings.drop(repeat.number, k)
        return self._store.in_vain(repeat) if waits_again and vanished else 0

    # Drift: was a training slow because the machine is?

    def why_again(self, experiment: Experiment, outcome: Outcome, run: Run) -> str:
        """Say why an experiment is trained again before its verdict; empty where it is not.

        It was slow, once, and those before it were not.
        """
        if run.state is not RunState.RUNNING or experiment.skip_requested:
            return ""
        if outcome.ending is not Ending.EXITED:
            return ""
        drift = self._drift(experiment.number, experiment.attempt, outcome.numbers)
        return f"slow: {drift}" if drift and drift.again and not drift.streak else ""

    def with_drift(self, decided: Experiment) -> Experiment:
        """Let the verdict say that its training was slow; the baseline is repeated where another was too."""
        drift = self._drift(decided.number, decided.attempt, decided.numbers)
        if drift is None or decided.value is None:
            return decided
        asked = [repeat.asked_at for repeat in self._store.wanted_for(decided.run_id, RepeatFor.DRIFT)]
        known = any(at >= (decided.started_at or 0.0) for at in asked)
        baseline = self._journal.experiment(decided.run_id, 0)
        if drift.streak == 1 and not known and baseline and not _why_not_repeated(baseline):
            self._store.ask(decided.run_id, 0, RepeatFor.DRIFT)
        return replace(decided, reason=clauses(decided.reason, f"slow: {drift}"))

    def _drift(self, number: int, k: int, numbers: Mapping[str, float]) -> Drift | None:
        return read_drift(self._journal, self._run_id, number, k, numbers)

    def _slower(self, repeat: Repeat, numbers: Mapping[str, float]) -> float | None:
        """Return by which share a repeat was slower than its experiment; None where that was not asked."""
        now, first = speed(numbers), speed(self.experiment(repeat).numbers)
        return 1 - now / first if repeat.why is RepeatFor.DRIFT and now and first else None

    def _measure(self, over: RepeatUnderWay, outcome: Outcome, reason: str, *, has_number: bool) -> None:
        """Record a number, or that there is none; the log of a training without one is kept."""
        repeat, k, metric = over.repeat, over.training.k, self._rule.metric
        numbers = {key: value for key, value in outcome.numbers.items() if math.isfinite(value)}
        seconds = numbers.get("training_seconds")
        if not has_number:
            numbers.pop(metric, None)
            logs = self._trainings.folders.logs
            self._trainings.keep_log(repeat.number, k, logs / f"{repeat.number}-{k}.log")
        first = self.experiment(repeat).value
        value = numbers.get(metric)
        before = self._store.values(repeat.run_id, metric).get(repeat.number, (first,))
        others = [
            *self.waiting(),
            *(begun.repeat for lane, begun in self.under_way().items() if lane != over.lane),
        ]
        self._store.measured(
            replace(over, training=replace(over.training, numbers=numbers)),
            value=value,
            first=first,
            values=[number for number in (*before, value) if number is not None],
            error="" if has_number else outcome.error or reason,
            last=not any(other.why is repeat.why for other in others),
            started_at=outcome.started_at,
            ended_at=outcome.ended_at,
            training_seconds=seconds,
            slower=self._slower(repeat, numbers),
        )


def _why_not_repeated(experiment: Experiment) -> str:
    match experiment.status:
        case None:
            return "has no verdict yet: send /rerun once it has"
        case Status.CRASH:
            return "crashed: it has no number to compare a repeat with"
        case Status.SKIP:
            return "was skipped: it has no number to compare a repeat with"
        case Status.KEEP | Status.DISCARD | Status.QUARANTINE:
            return ""
    assert_never(experiment.status)
