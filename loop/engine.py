"""One run's state machine: propose, commit, train, measure, decide, for ever.

The journal is written before the world is changed wherever that matters, so that an engine made anew on the
same journal goes on from the stage it finds. Nothing here blocks the event loop: git and the journal are used
in worker threads, and only the waiting is asynchronous.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from loop import stages
from loop.ahead import RETRY_SECONDS, Ahead, Ready
from loop.constants import find_constants
from loop.decision import DEADLINE_FACTOR, KeepRule
from loop.environment import launch_command
from loop.errors import LoopError
from loop.experiment import Ending, EventKind, Experiment, Outcome, Run, RunState, Stage, Status
from loop.journal import Journal
from loop.proposers.protocol import Proposer
from loop.proposers.reader import ContextReader
from loop.results import append_result, row_of, write_results
from loop.summary import read_tail
from loop.threads import in_thread
from loop.trainer import Job, Supervisor, Trainer, Training
from loop.workspace import Commit, Workspace

log = logging.getLogger(__name__)

START_SECONDS = 0.02
"""For so long a training that starts has the processors to itself."""

ATTEMPTS_TOLD = 3
"""A person is told of an experiment whose training vanished for this time."""

REST_SECONDS = (60.0, 300.0, 600.0)
"""Rests after a streak of crashes or of vanished trainings, the last one again and again: no busy loop."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How experiments of a run are made: the settings that an engine needs."""

    rule: KeepRule
    environment: Mapping[str, str]  # of the training process
    command: tuple[str, ...] = ()  # TRAIN_COMMAND; empty: what the repository calls for
    editable: str = "train.py"
    crash_streak: int = 5
    retry_seconds: tuple[float, ...] = RETRY_SECONDS  # of a proposer that fails
    rest_seconds: tuple[float, ...] = REST_SECONDS


class Engine:
    """Conducts one run.

    `folder` holds the files of trainings under way and the ends of the logs of decided ones. An engine is
    used from one event loop; its commands (`pause`, `resume`, `stop`, `skip`, `retag`) may come at any time.
    """

    def __init__(
        self,
        run: Run,
        *,
        plan: Plan,
        journal: Journal,
        workspace: Workspace,
        trainer: Trainer,
        proposer: Proposer,
        folder: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.run = run
        self.experiment: Experiment | None = None  # the one under way
        self.made = 0  # experiments after the baseline in this call of `conduct`
        self.no_ideas_since: float | None = None  # by the monotonic clock: when the proposer began to fail
        self._plan = plan
        self._journal = journal
        self._workspace = workspace
        self._trainer = trainer
        self._folder = folder
        self._clock = clock
        self._training: Training | None = None
        self._spare: asyncio.Task[Supervisor] | None = None
        self._rest_until = 0.0  # by the event loop's clock
        self._wake = asyncio.Event()  # a command changed the run's state
        self._switch = asyncio.Lock()  # held while an experiment passes from stage to stage
        reader = ContextReader(journal=journal, workspace=workspace, folder=folder)
        self._ahead = Ahead(
            proposer=proposer,
            workspace=workspace,
            context=lambda: reader.read(self.run),
            on_failure=self._proposer_failed,
            retry_seconds=plan.retry_seconds,
        )

    async def conduct(self, experiments: int | None = None) -> None:
        """Make experiments until the run is stopped, or `experiments` after the baseline were decided.

        Raises:
            LoopError: the repository, the worktree or the machine does not allow to go on; a later call may.
        """
        self.made = 0
        try:
            await self._settle()
            while await self._may_go_on():
                if self.experiment is None:
                    await self._begin()
                else:
                    number = self.experiment.number
                    more = experiments is None or self.made + (number > 0) < experiments
                    if await self._advance(self.experiment, more=more):
                        self.made += number > 0
                        if self.made == experiments:
                            made_all = f"{self.made} experiment{'s' if self.made > 1 else ''} made"
                            await self._set_state(RunState.DONE, made_all)
        finally:
            await self._ahead.close()
            await self._dismiss_spare()
            self._training = None

    # Commands

    async def pause(self, *, now: bool = False, by: str = "command") -> None:
        """Stop after the experiment under way, or end it `now`; it is then run again on resume, not counted.

        Raises:
            LoopError: the run is paused or stopped already.
        """
        async with self._switch:
            ended = self.run.state in (RunState.DONE, RunState.STOPPED)
            if ended or (self.run.state is RunState.PAUSED and self.run.state_reason == f"by {by}"):
                raise LoopError(f"Run {self.run.tag} is {self.run.state.value} already.")
            idle = self.experiment is None or self.experiment.stage is Stage.COMMITTED
            await self._set_state(RunState.PAUSED if now or idle else RunState.PAUSING, f"by {by}")
            if now:
                await self._interrupt()

    async def resume(self, *, by: str = "command") -> None:
        """Go on after a pause, or when all that were asked for are made: then call `conduct` again.

        Raises:
            LoopError: the run goes on already, or was stopped for good.
        """
        async with self._switch:
            if self.run.state in (RunState.RUNNING, RunState.STOPPED):
                raise LoopError(f"Run {self.run.tag} is {self.run.state.value}: there is nothing to resume.")
            self._rest_until = 0.0
            await self._set_state(RunState.RUNNING, f"by {by}")

    async def stop(self, *, by: str = "command") -> None:
        """End the run and the training under way; the branch and all results stay.

        Raises:
            LoopError: the run is stopped already.
        """
        async with self._switch:
            if self.run.state is RunState.STOPPED:
                raise LoopError(f"Run {self.run.tag} is stopped already.")
            await self._set_state(RunState.STOPPED, f"by {by}")
            await self._interrupt()

    async def skip(self) -> Experiment:
        """End the experiment under way without a verdict and go on to the next; return the one given up.

        Raises:
            LoopError: no experiment is under way.
        """
        async with self._switch:
            if self.experiment is None or self.experiment.stage is Stage.MEASURED:
                raise LoopError("No experiment is training: there is nothing to skip.")
            self.experiment = replace(self.experiment, skip_requested=True)
            await in_thread(self._journal.record, self.experiment, kind=EventKind.SKIP_REQUESTED)
            await self._interrupt()
            self._wake.set()
            return self.experiment

    async def retag(self, new: str) -> None:
        """Rename run, branch, refs and worktree, also while a training runs.

        Raises:
            LoopError: the name is taken, or git refuses it.
        """
        async with self._switch:
            await in_thread(self._workspace.check_rename, new)
            self.run = await in_thread(self._journal.retag, self.run, new)
            await in_thread(self._workspace.rename, new)
            self.run = await in_thread(self._journal.finish_retag, self.run)

    async def end_stalled(self, folder: Path) -> None:
        """End the training under way as stalled, if `folder` is still its attempt's."""
        async with self._switch:
            experiment, training = self.experiment, self._training
            if training is not None and experiment is not None and self._attempt_folder(experiment) == folder:
                await training.end(Ending.STALLED)

    # The machine

    async def _settle(self) -> None:
        """Bring git and the files in line with the journal, as after a start or a failure."""
        self.run = await in_thread(self._journal.run_by_id, self.run.id)
        self.experiment = await in_thread(self._journal.undecided, self.run.id)
        mended = await in_thread(self._repair)
        for sentence in mended:
            log.warning("%s: %s", self.run.tag, sentence)

    def _repair(self) -> list[str]:
        if self.run.renamed_from:
            self._workspace.rename(self.run.tag)
            self.run = self._journal.finish_retag(self.run)
        expected = self._best_commit()
        experiment = self.experiment
        if experiment and experiment.stage is Stage.MEASURED and self._workspace.head() == experiment.commit:
            expected = experiment.commit  # kept in git; the journal has still to be told
        training = experiment is not None and experiment.stage is Stage.TRAINING
        mended = self._workspace.repair(expected, keep_editable=training)
        decided = (e for e in self._journal.experiments(self.run.id) if e.status is not None)
        write_results(self._results, map(row_of, decided), metric=self.run.metric)
        return mended

    async def _may_go_on(self) -> bool:
        """Wait until there is something to do; False once the run is done or stopped."""
        while True:
            async with self._switch:
                self._wake.clear()
                experiment = self.experiment
                if experiment is not None and experiment.stage is Stage.TRAINING:
                    return True
                given_up = experiment is not None and experiment.skip_requested
                if experiment is not None and (given_up or self.run.state is RunState.STOPPED):
                    await self._give_up(experiment)
                    continue
                if self.run.state is RunState.PAUSING and (
                    experiment is None or experiment.stage is Stage.COMMITTED
                ):
                    await self._set_state(RunState.PAUSED, self.run.state_reason)
                    self._wake.clear()
                rest = self._rest_until - asyncio.get_running_loop().time()
                if self.run.state in (RunState.RUNNING, RunState.PAUSING) and rest <= 0:
                    return True
                await in_thread(self._tidy_up)
                if self.run.state in (RunState.DONE, RunState.STOPPED):
                    return False
            with suppress(TimeoutError):
                async with asyncio.timeout(rest if rest > 0 else None):
                    await self._wake.wait()

    def _tidy_up(self) -> None:
        """Leave the worktree at the best, clean for git: nothing trains, and somebody may look."""
        self._workspace.restore()
        self._workspace.tidy()

    async def _begin(self) -> None:
        """Make the next experiment: the baseline, or one from a proposal."""
        number, best = await in_thread(self._next)
        ready = await (self._ahead.take(best, self._wake) if number else in_thread(self._baseline))
        if ready is None:
            return  # a command came first
        self.no_ideas_since = None
        steps = stages.proposed(
            self.run, number, ready.proposal, ready.commit, ready.constants, now=self._clock()
        )
        await in_thread(self._journal.record, *steps)
        self.experiment = steps[-1]

    async def _advance(self, experiment: Experiment, *, more: bool) -> bool:
        """Take the experiment one stage further; True once it is decided. `more` will follow it, or not."""
        if experiment.stage is Stage.COMMITTED:
            async with self._switch:
                if self.run.state is not RunState.RUNNING or self.experiment is not experiment:
                    return False  # a command came first
                await self._launch(experiment)
            await self._make_ready(more=more)
        elif experiment.stage is Stage.TRAINING:
            await self._watch(experiment, more=more)
        else:
            async with self._switch:
                await self._decide(experiment)
        return self.experiment is None

    async def _launch(self, experiment: Experiment) -> None:
        spare, self._spare = self._spare, None
        supervisor = await (spare or self._trainer.arm())
        experiment = stages.training(
            experiment, pid=supervisor.pid, started=supervisor.started, now=self._clock()
        )
        try:
            job = await in_thread(self._place, experiment)
        except BaseException:
            supervisor.dismiss()  # nobody else knows of it
            raise
        # The supervisor is in the journal before it is given its job: no training can run unknown to it.
        self.experiment = experiment
        self._training = await self._trainer.start(supervisor, job)

    def _place(self, experiment: Experiment) -> Job:
        """Put the experiment's program in its place and note that it trains."""
        tampered = self._workspace.frozen_changed(self.run.base_commit)
        if tampered:
            log.warning("%s: restoring %s", self.run.tag, ", ".join(tampered))
            self._workspace.restore_frozen(self.run.base_commit)
        self._workspace.launch(experiment.number, experiment.commit)
        attempt = self._attempt_folder(experiment)
        attempt.mkdir(parents=True, exist_ok=True)
        self._journal.record(experiment)
        path = self._workspace.path
        return Job(
            argv=launch_command(path, self._plan.command, self._plan.editable),
            cwd=path,
            env=self._plan.environment,
            log=path / "run.log",
            folder=attempt,
            deadline=DEADLINE_FACTOR * self.run.time_budget,
        )

    async def _make_ready(self, *, more: bool) -> None:
        """Use the time of a training for what would otherwise be done between two of them."""
        await asyncio.sleep(START_SECONDS)
        await in_thread(self._workspace.tidy)
        if more:
            self._spare = self._spare or asyncio.create_task(self._trainer.arm(), name="next supervisor")
            self._ahead.start()

    async def _watch(self, experiment: Experiment, *, more: bool) -> None:
        """Wait for the training's end and record what it left."""
        if self._training is None:  # an engine before this one started it
            self._training = self._trainer.attach(
                folder=self._attempt_folder(experiment),
                log=self._workspace.path / "run.log",
                supervisor_pid=experiment.supervisor_pid,
                supervisor_started=experiment.supervisor_started,
            )
            if experiment.skip_requested or self.run.state in (RunState.PAUSED, RunState.STOPPED):
                await self._interrupt()
            await self._make_ready(more=more)
        outcome = await self._training.wait()
        async with self._switch:
            self._training = None
            experiment = self.experiment or experiment  # a command may have marked it
            exited = outcome.ending is Ending.EXITED
            disturbed = exited and await in_thread(self._was_disturbed, experiment)
            if disturbed or outcome.ending in (Ending.INTERRUPTED, Ending.VANISHED):
                await in_thread(self._put_back, experiment, outcome)
                if outcome.ending is Ending.VANISHED:
                    self._rest(experiment.attempt - ATTEMPTS_TOLD)
            else:
                best = await in_thread(self._journal.best, self.run.id)
                self.experiment = stages.measured(experiment, outcome, best.value if best else None)
                await self._decide(self.experiment)

    def _was_disturbed(self, experiment: Experiment) -> bool:
        """Tell whether fixed files are gone, so that nobody can say what the number is worth.

        A program that deletes them itself is not trained again and again.
        """
        gone = any(not (self._workspace.path / name).exists() for name in self._workspace.frozen)
        return gone and experiment.attempt < ATTEMPTS_TOLD

    def _put_back(self, experiment: Experiment, outcome: Outcome) -> None:
        """Return an experiment whose training told nothing to where it can be trained again."""
        ordered = experiment.skip_requested or self.run.state in (RunState.PAUSED, RunState.STOPPED)
        vanished = outcome.ending is Ending.VANISHED
        if outcome.ending is Ending.EXITED:
            reason = "files of the worktree were deleted while it trained"
        elif vanished:
            reason = f"its training vanished: {outcome.error or 'the machine or its supervisor died'}"
        else:
            reason = "by command" if ordered else "something on the machine ended its training"
        self.experiment = stages.put_back(experiment)
        self._journal.record(self.experiment, kind=EventKind.INTERRUPTED, reason=reason, vanished=vanished)
        if vanished and experiment.attempt == ATTEMPTS_TOLD:
            told = f"experiment #{experiment.number} vanished {ATTEMPTS_TOLD} times: {reason}"
            self._journal.note(self.run.id, EventKind.NEEDS_ATTENTION, reason=told)

    async def _decide(self, measured: Experiment) -> None:
        decided = await in_thread(self._judge, measured)
        self.experiment = None
        if decided.status is Status.CRASH:
            streak = await in_thread(self._journal.crash_streak, self.run.id)
            self._rest(streak - self._plan.crash_streak)

    def _rest(self, times: int) -> None:
        """Begin nothing for a while if something went wrong too often; `times` is how often beyond that."""
        if times >= 0:
            rests = self._plan.rest_seconds
            rest = rests[min(times, len(rests) - 1)]
            self._rest_until = asyncio.get_running_loop().time() + rest

    def _judge(self, measured: Experiment) -> Experiment:
        """Give the verdict and carry it out, in git before the journal says that it was."""
        tampered = self._workspace.frozen_changed(self.run.base_commit)
        decided = stages.decided(measured, self.run, self._plan.rule, tampered=tampered, now=self._clock())
        if decided.status is Status.KEEP:
            self._journal.record(measured)
            self._workspace.keep(measured.commit, measured.parent)
            self._journal.record(decided)
        else:
            self._journal.record(measured, decided)
        self._finish(decided)
        return decided

    async def _give_up(self, experiment: Experiment) -> None:
        stopped = self.run.state is RunState.STOPPED
        reason = "the run was stopped" if stopped else "skipped by command"
        best = await in_thread(self._journal.best, self.run.id)
        decided = stages.skipped(experiment, reason, best.value if best else None, now=self._clock())
        await in_thread(self._journal.record, decided)
        await in_thread(self._finish, decided)
        self.experiment = None

    def _finish(self, decided: Experiment) -> None:
        """Export the row, keep the end of the log and clear the files of the trainings."""
        log.info("%s #%d: %s (%s)", self.run.tag, decided.number, decided.status, decided.reason)
        append_result(self._results, row_of(decided), metric=self.run.metric)
        if decided.attempt:
            tail = read_tail(self._workspace.path / "run.log")
            self.log_of(decided.number).write_text(tail, encoding="utf-8", errors="replace")
        for attempt in range(1, decided.attempt + 1):
            shutil.rmtree(self._attempt_folder(replace(decided, attempt=attempt)), ignore_errors=True)
        if decided.status is Status.CRASH:
            streak = self._journal.crash_streak(self.run.id)
            if streak % self._plan.crash_streak == 0:
                reason = (
                    f"{streak} experiments crashed in a row, the last with: {decided.error or decided.reason}"
                )
                self._journal.note(self.run.id, EventKind.NEEDS_ATTENTION, reason=reason)

    # Small parts

    @property
    def _results(self) -> Path:
        return self._workspace.path / "results.tsv"

    def log_of(self, number: int) -> Path:
        """Return where the end of a decided experiment's log is kept."""
        return self._folder / f"{number}.log"

    def _attempt_folder(self, experiment: Experiment) -> Path:
        return attempt_folder(self._folder, experiment)

    def _next(self) -> tuple[int, str]:
        """Return the number of the next experiment and the commit that it is to stand on."""
        last = self._journal.experiments(self.run.id, last=1)
        return (last[0].number + 1 if last else 0), self._best_commit()

    def _best_commit(self) -> str:
        best = self._journal.best(self.run.id)
        return best.commit if best else self.run.base_commit

    def _baseline(self) -> Ready:
        base = self.run.base_commit
        found = find_constants(self._workspace.source(base))
        constants = {constant.name: constant.value for constant in found}
        return Ready(replace(stages.BASELINE, parent=base), Commit(base, 0, 0), constants)

    def _proposer_failed(self) -> None:
        self.no_ideas_since = self.no_ideas_since or time.monotonic()

    async def _set_state(self, state: RunState, reason: str) -> None:
        self.run = await in_thread(self._journal.set_state, self.run, state, reason)
        self._wake.set()

    async def _interrupt(self) -> None:
        if self._training is not None:
            await self._training.end(Ending.INTERRUPTED)

    async def _dismiss_spare(self) -> None:
        if self._spare is not None:
            spare, self._spare = self._spare, None
            (await spare).dismiss()


def attempt_folder(folder: Path, experiment: Experiment) -> Path:
    """Return where the present attempt of an experiment has its files, below its run's `folder`."""
    return folder / f"{experiment.number}-{experiment.attempt}"
