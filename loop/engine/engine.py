"""One run's state machine: propose, commit, train, measure, decide, for ever.

The journal is written before the world is changed wherever that matters, so that an engine made anew on the
same journal goes on from the stage it finds. Nothing here blocks the event loop: git and the journal are used
in worker threads, and only the waiting is asynchronous.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from loop.backoff import backoff
from loop.engine import stages
from loop.engine.archive import Archive
from loop.engine.decision import KeepRule, measured_value
from loop.engine.launcher import Launcher
from loop.engine.prefetch import RETRY_SECONDS, Ahead, Ready, make_ready
from loop.errors import LoopError
from loop.experiment import (
    BY_COMMAND,
    Actor,
    Cause,
    Ending,
    EventKind,
    Experiment,
    Outcome,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
)
from loop.git.workspace import Commit, Workspace
from loop.process.summary import tells_of_full_memory
from loop.process.threads import in_thread
from loop.process.trainer import Trainer, Training
from loop.proposers.prompt.context import ContextReader
from loop.proposers.protocol import Proposer
from loop.store.experiments import with_program
from loop.store.journal import Journal

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
    deadline: float  # seconds after which a training is killed
    command: tuple[str, ...] = ()  # TRAIN_COMMAND; empty: what the repository calls for
    crash_streak: int = 5
    retry_seconds: tuple[float, ...] = RETRY_SECONDS  # of a proposer that fails
    rest_seconds: tuple[float, ...] = REST_SECONDS


async def nothing_hinders(_: Run) -> bool:
    """Say that nothing on the machine is in the way of a run."""
    return False


class Engine:
    """Conducts one run.

    `folder` holds the files of trainings under way and the ends of the logs of decided ones. `is_hindered` is
    asked about a training that ran out of memory: whether others hold it, so that it says nothing about the
    program. `clock` gives seconds since the epoch, `timer` seconds that no clock change disturbs. An engine
    is used from one event loop; its commands (`pause`, `resume`, `stop`, `skip`, `retag`) may come at any
    time. `ahead` is where its next experiment is made ready.
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
        is_hindered: Callable[[Run], Awaitable[bool]] = nothing_hinders,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.experiment: Experiment | None = None  # the one under way
        self.made = 0  # experiments after the baseline in this call of `conduct`
        self._plan = plan
        self._journal = journal
        self._workspace = workspace
        self._is_hindered = is_hindered
        self._clock = clock
        self._limit: int | None = None  # of `made`
        self._best: Experiment | None = None
        self._number = 0  # of the next experiment
        self._unwritten: tuple[Experiment, ...] = ()  # steps that are recorded together with the next one
        self._training: Training | None = None
        self._rest_until = 0.0  # by the event loop's clock
        self._wake = asyncio.Event()  # a command changed the run's state
        self._switch = asyncio.Lock()  # held while an experiment passes from stage to stage
        reader = ContextReader(journal=journal, workspace=workspace, folder=folder)
        self._launcher = Launcher(
            record=self._record,
            workspace=workspace,
            trainer=trainer,
            folder=folder,
            command=plan.command,
            environment=plan.environment,
            deadline=plan.deadline,
        )
        self._archive = Archive(
            journal=journal, workspace=workspace, launcher=self._launcher, folder=folder, metric=run.metric
        )
        self.ahead = Ahead(
            proposer=proposer,
            workspace=workspace,
            context=lambda: reader.read(self.run),
            is_trained=lambda program: with_program(journal, run.id, program) is not None,
            retry_seconds=plan.retry_seconds,
            timer=timer,
        )

    async def conduct(self, experiments: int | None = None) -> None:
        """Make experiments until the run is stopped, or `experiments` after the baseline were decided.

        Raises:
            LoopError: the repository, the worktree or the machine does not allow to go on; a later call may.
        """
        self.made, self._limit = 0, experiments
        try:
            await self._settle()
            while await self._may_go_on():
                if self.experiment is None:
                    await self._begin()
                else:
                    await self._advance(self.experiment)
        finally:
            self._forget_unwritten()
            await self._close()

    # Commands

    async def pause(self, *, now: bool = False, reason: Reason = BY_COMMAND) -> None:
        """Stop after the experiment under way, or end it `now`; it is then run again on resume, not counted.

        A pause belongs to whoever ordered it last. The heartbeat ends its own by itself: it takes over none.

        Raises:
            LoopError: the run is paused or stopped already.
        """
        async with self._switch:
            ended = self.run.state in (RunState.DONE, RunState.STOPPED)
            again = self.run.state is RunState.PAUSED and _is_same(self.run.reason, reason)
            if ended or again or (self.run.is_paused and reason.by is Actor.HEARTBEAT):
                raise LoopError(f"Run {self.run.tag} is {self.run.state.value} already.")
            idle = self.experiment is None or self.experiment.stage is Stage.COMMITTED
            await self._set_state(RunState.PAUSED if now or idle else RunState.PAUSING, reason)
            if now:
                await self._interrupt()

    async def resume(self, *, reason: Reason = BY_COMMAND) -> None:
        """Go on after a pause, or when all that were asked for are made: then call `conduct` again.

        Raises:
            LoopError: the run goes on already, or was stopped for good; or somebody else paused it since the
                heartbeat did, who wants it to go on.
        """
        async with self._switch:
            if reason.by is Actor.HEARTBEAT and self.run.state_by is not Actor.HEARTBEAT:
                raise LoopError(f"Run {self.run.tag} is {self.run.state.value} on another order.")
            if self.run.state in (RunState.RUNNING, RunState.STOPPED):
                raise LoopError(f"Run {self.run.tag} is {self.run.state.value}: there is nothing to resume.")
            self._rest_until = 0.0
            await self._set_state(RunState.RUNNING, reason)

    async def stop(self, *, reason: Reason = BY_COMMAND) -> None:
        """End the run and the training under way; the branch and all results stay.

        Raises:
            LoopError: the run is stopped already.
        """
        async with self._switch:
            if self.run.state is RunState.STOPPED:
                raise LoopError(f"Run {self.run.tag} is stopped already.")
            await self._set_state(RunState.STOPPED, reason)
            await self._interrupt()

    async def skip(self) -> Experiment:
        """End the experiment under way without a verdict and go on to the next; return the one given up.

        Raises:
            LoopError: no experiment is under way.
        """
        async with self._switch:
            if self.experiment is None or self.experiment.stage is Stage.MEASURED:
                raise LoopError("No experiment is training: there is nothing to skip.")
            given_up = replace(self.experiment, skip_requested=True)
            await in_thread(self._record)
            await in_thread(self._journal.record, given_up, kind=EventKind.SKIP_REQUESTED)
            self.experiment = given_up
            self._wake.set()
            await self._interrupt()
            return given_up

    async def retag(self, new: str) -> None:
        """Rename run, branch, refs and worktree, also while a training runs.

        Raises:
            LoopError: the name is taken, or git refuses it; or the run has its new name but git could not
                follow yet, which is tried again before the next step of an experiment.
        """
        async with self._switch:
            await in_thread(self._follow_tag)  # of an earlier retag
            if new != self.run.tag:
                await in_thread(self._workspace.check_rename, new)
                self.run = await in_thread(self._journal.retag, self.run, new)
                self._wake.set()  # what fails now is tried again
                await in_thread(self._follow_tag)

    async def end_stalled(self, folder: Path) -> None:
        """End the training under way as stalled, if `folder` is still its attempt's."""
        async with self._switch:
            if self._training is not None and self._training.folder == folder:
                await self._training.end(Ending.STALLED)

    # The machine

    async def _settle(self) -> None:
        """Bring git and the files in line with the journal, as after a start or a failure."""
        async with self._switch:
            self.run = await in_thread(self._journal.run_by_id, self.run.id)
            mended = await in_thread(self._repair)
        for sentence in mended:
            log.warning("%s: %s", self.run.tag, sentence)

    def _forget_unwritten(self) -> None:
        """Go back to what the journal has: a verdict that could not be written is given again."""
        if self._unwritten:
            self.made -= sum(step.status is not None and step.number > 0 for step in self._unwritten)
            self._unwritten, self.experiment = (), None

    async def _close(self) -> None:
        """Leave nothing but the training; called again it has nothing to wait for."""
        await self.ahead.close()
        await self._launcher.close()
        if not self._archive.complete:
            with suppress(LoopError, OSError):  # the next call of `conduct` makes up for it
                await in_thread(self._archive.file)
        self._training = None

    def _repair(self) -> list[str]:
        self._follow_tag()
        self.experiment = self._journal.undecided(self.run.id)
        self._best = self._journal.best(self.run.id)
        last = self._journal.experiments(self.run.id, last=1)
        self._number = last[0].number + (last[0].status is not None) if last else 0
        expected = self._best_commit
        experiment = self.experiment
        if experiment and experiment.stage is Stage.MEASURED and self._workspace.head() == experiment.commit:
            expected = experiment.commit  # kept in git; the journal has still to be told
        training = experiment is not None and experiment.stage is Stage.TRAINING
        mended = self._workspace.repair(expected, keep_editable=training)
        self._archive.mend(self.run.id)
        return mended

    def _follow_tag(self) -> None:
        """Let git follow the journal where a retag is not finished."""
        old, new = self.run.renamed_from, self.run.tag
        if old:
            try:
                self._workspace.rename(new)
            except LoopError as error:
                raise LoopError(f"Branch and worktree of run {new} are still named {old}: {error}") from error
            self.run = self._journal.finish_retag(self.run)

    async def _may_go_on(self) -> bool:
        """Wait until there is something to do; False once the run is done or stopped."""
        while True:
            async with self._switch:
                self._wake.clear()
                if self.run.renamed_from:
                    await in_thread(self._follow_tag)
                experiment = self.experiment
                if experiment is not None and experiment.stage is not Stage.COMMITTED:
                    return True  # whatever was ordered: nothing that was trained is lost
                given_up = experiment is not None and experiment.skip_requested
                all_made = self.made == self._limit
                rest = self._rest_until - asyncio.get_running_loop().time()
                if self.run.state is RunState.RUNNING and rest <= 0 and not (given_up or all_made):
                    return True
                await in_thread(self._record)
                if experiment is not None and (given_up or self.run.state is RunState.STOPPED):
                    await self._give_up(experiment)
                    continue
                if self.run.state in (RunState.RUNNING, RunState.PAUSING) and all_made:
                    await self._set_state(RunState.DONE, Reason(Actor.LOOP, facts={"made": self.made}))
                if self.run.state is RunState.PAUSING:
                    await self._set_state(RunState.PAUSED, self.run.reason or BY_COMMAND)
                    self._wake.clear()
                await in_thread(self._tidy_up)
                if self.run.state in (RunState.DONE, RunState.STOPPED):
                    await self._close()  # before a command to go on can come, which calls `conduct` again
                    return False
            with suppress(TimeoutError):
                async with asyncio.timeout(rest if rest > 0 else None):
                    await self._wake.wait()

    def _tidy_up(self) -> None:
        """Leave the worktree at the best, clean for git: nothing trains, and somebody may look."""
        self._archive.file()
        self._workspace.restore()
        self._workspace.tidy()

    async def _begin(self) -> None:
        """Make the next experiment: the baseline, or one from a proposal."""
        if self.ahead.ready is None:
            async with self._switch:
                await in_thread(self._record)
            await in_thread(self._archive.file)  # whoever proposes may want to see the log
        best = self._best_commit
        ready = await (self.ahead.take(best, self._wake) if self._number else in_thread(self._baseline))
        if ready is None:
            return  # a command came first
        steps = stages.proposed(
            self.run,
            self._number,
            ready.proposal,
            ready.commit,
            ready.constants,
            now=self._clock(),
            program=ready.program,
            waited=self.ahead.waited if self._number else 0.0,
        )
        async with self._switch:
            self._unwritten += steps
            self.experiment = steps[-1]

    async def _advance(self, experiment: Experiment) -> None:
        """Take the experiment one stage further, unless a command came first."""
        if experiment.stage is Stage.COMMITTED:
            async with self._switch:
                if self._wake.is_set():
                    return
                self.experiment, self._training = await self._launcher.launch(
                    experiment, self.run, now=self._clock()
                )
            await self._make_ready(self.experiment)
        elif experiment.stage is Stage.TRAINING:
            await self._watch(experiment)
        else:
            async with self._switch:
                await self._follow(await in_thread(self._judge, experiment))

    async def _make_ready(self, training: Experiment) -> None:
        """Use the time of a training for what would otherwise be done between two of them."""
        await asyncio.sleep(START_SECONDS)
        await in_thread(self._archive.file)
        await in_thread(self._workspace.remember, training.number, training.commit)
        await in_thread(self._workspace.tidy)
        if self._limit is None or self.made + (training.number > 0) < self._limit:
            self._launcher.arm()
            self.ahead.start()

    async def _watch(self, experiment: Experiment) -> None:
        """Wait for the training's end and record what it left."""
        if self._training is None:  # an engine before this one started it
            self._training = self._launcher.attach(experiment)
            if experiment.skip_requested or self.run.state in (RunState.PAUSED, RunState.STOPPED):
                await self._interrupt()
            await self._make_ready(experiment)
        outcome = await self._training.wait()
        short_of_memory = not self._counts(outcome) and tells_of_full_memory(outcome.error)
        hindered = short_of_memory and await self._is_hindered(self.run)
        async with self._switch:
            self._training = None
            experiment = self.experiment or experiment  # a command may have marked it
            decided = await in_thread(self._take_in, experiment, outcome, hindered=hindered)
            if decided is not None:
                await self._follow(decided)
            elif outcome.ending is Ending.VANISHED:
                times = f"experiment #{experiment.number} vanished {experiment.attempt} times"
                await self._rest(experiment.attempt - ATTEMPTS_TOLD, times)

    def _take_in(self, experiment: Experiment, outcome: Outcome, *, hindered: bool) -> Experiment | None:
        """Judge what a training left; None where it told nothing and is put back."""
        counts = self._counts(outcome)
        told = counts or outcome.ending not in (Ending.INTERRUPTED, Ending.VANISHED)
        judged_by_files = counts or outcome.ending is Ending.EXITED
        disturbed = judged_by_files and self._was_disturbed(experiment)
        if not told or disturbed or hindered:
            self._put_back(experiment, outcome, disturbed=disturbed, hindered=hindered)
            return None
        best = self._best.value if self._best else None
        self.experiment = stages.measured(experiment, outcome, best)
        return self._judge(self.experiment)

    def _counts(self, outcome: Outcome) -> bool:
        """Tell whether a training gave its number: then how it ended changes nothing."""
        return measured_value(self.run.metric, self.run.goal, outcome) is not None

    def _was_disturbed(self, experiment: Experiment) -> bool:
        """Tell whether fixed files are gone, so that nobody can say what the number is worth.

        A program that deletes them itself is not trained again and again.
        """
        gone = any(not (self._workspace.path / name).exists() for name in self._workspace.frozen)
        return gone and experiment.attempt < ATTEMPTS_TOLD

    def _put_back(self, experiment: Experiment, outcome: Outcome, *, disturbed: bool, hindered: bool) -> None:
        """Return an experiment whose training told nothing to where it can be trained again."""
        ordered = experiment.skip_requested or self.run.state in (RunState.PAUSED, RunState.STOPPED)
        vanished = outcome.ending is Ending.VANISHED
        reason = stages.why_put_back(outcome, ordered=ordered, disturbed=disturbed, hindered=hindered)
        self.experiment = stages.put_back(experiment)
        self._journal.record(self.experiment, kind=EventKind.INTERRUPTED, reason=reason, vanished=vanished)
        if vanished and experiment.attempt == ATTEMPTS_TOLD:
            told = f"experiment #{experiment.number} vanished {ATTEMPTS_TOLD} times: {reason}"
            self._call(Cause.VANISHED, told)

    async def _follow(self, decided: Experiment) -> None:
        """Draw from a verdict what it means for the run."""
        self.made += decided.number > 0
        if decided.status is Status.CRASH:
            streak = await in_thread(self._journal.crash_streak, self.run.id)
            if told := stages.alarm(decided, streak, every=self._plan.crash_streak):
                await in_thread(self._call, Cause.CRASHES if decided.number else Cause.BASELINE, told)
            await self._rest(streak - self._plan.crash_streak, f"{streak} crashes in a row")

    async def _rest(self, times: int, cause: str) -> None:
        """Begin nothing for a while if something went wrong too often; `times` is how often beyond that."""
        if times < 0:
            return
        rests = self._plan.rest_seconds
        rest = backoff(rests, times + 1)
        self._rest_until = asyncio.get_running_loop().time() + rest
        told = f"rests {rest / 60:.0f} min after {cause}"
        kind = EventKind.NOTED if times < len(rests) else EventKind.RESTED  # by then people know
        await in_thread(self._journal.note, self.run.id, kind, reason=told, halted=True)

    def _judge(self, measured: Experiment) -> Experiment:
        """Give the verdict and carry it out, in git before the journal says that it was."""
        tampered = self._workspace.frozen_changed(self.run.base_commit)
        decided = stages.decided(measured, self.run, self._plan.rule, tampered=tampered, now=self._clock())
        if decided.status is Status.KEEP:
            self._record(measured)
            self._workspace.keep(measured.commit, measured.parent)
            self._record(decided)
            self._best = decided
        elif decided.status is Status.DISCARD:
            self._unwritten += (measured, decided)
        else:
            self._record(measured, decided)
        self.experiment = None
        self._number = decided.number + 1
        return decided

    def _record(self, *steps: Experiment) -> None:
        """Write steps, with those that waited for them, in one transaction: each takes milliseconds."""
        steps = (*self._unwritten, *steps)
        if steps:
            self._journal.record(*steps)
            self._unwritten = ()
        for step in steps:
            if step.status is not None:
                self._archive.add(step)

    async def _give_up(self, experiment: Experiment) -> None:
        stopped = self.run.state is RunState.STOPPED
        reason = "the run was stopped" if stopped else "skipped by command"
        best = self._best.value if self._best else None
        decided = stages.skipped(experiment, reason, best, now=self._clock())
        await in_thread(self._record, decided)
        self.experiment = None
        self._number = decided.number + 1

    # Small parts

    def log_of(self, number: int) -> Path:
        """Return where the end of a decided experiment's log is kept."""
        return self._archive.log_of(number)

    @property
    def _best_commit(self) -> str:
        return self._best.commit if self._best else self.run.base_commit

    def _baseline(self) -> Ready:
        base = self.run.base_commit
        proposal = replace(stages.BASELINE, source=self._workspace.source(base), parent=base)
        return make_ready(proposal, Commit(base, 0, 0))

    def _call(self, cause: Cause, told: str) -> None:
        """Call a person."""
        self._journal.note(self.run.id, EventKind.NEEDS_ATTENTION, cause=cause, key="", reason=told)

    async def _set_state(self, state: RunState, reason: Reason) -> None:
        await in_thread(self._record)
        self.run = await in_thread(self._journal.set_state, self.run, state, reason)
        self._wake.set()

    async def _interrupt(self) -> None:
        if self._training is not None:
            await self._training.end(Ending.INTERRUPTED)


def _is_same(old: Reason | None, new: Reason) -> bool:
    """Tell whether somebody orders again what was ordered, for whatever facts."""
    return old is not None and (old.by, old.name, old.cause) == (new.by, new.name, new.cause)
