"""A lane: where one experiment at a time goes from its proposal to its verdict.

Each stage has one handler, which takes the experiment to the next one and writes that into the journal at
once. An engine made anew on the same journal goes on with the handler of the stage that it finds. Between two
experiments a lane trains the repeats that wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol, assert_never

from loop.engine import stages
from loop.engine.ahead.precompile import Precompiler
from loop.engine.ahead.prefetch import Prefetch
from loop.engine.judging.evaluations import Evaluations
from loop.engine.judging.repeats import Repeater
from loop.engine.judging.verdicts import Verdicts
from loop.engine.stages import Ready, measured_value
from loop.engine.trainings import Trainings
from loop.evidence import Evaluation, Repeat
from loop.experiment import Cause, Ending, EventKind, Experiment, Outcome, Reason, Run, RunState, Stage
from loop.lanes.protocol import LiveTraining, Slot
from loop.logs.error_line import tells_of_full_memory
from loop.process.worker import in_thread
from loop.store.evidence.repeats import RepeatUnderWay
from loop.store.evidence.verdicts import record_evaluated

HEAD_START = 0.1  # seconds for a training to start before we use the processor for the next one
VANISHED_OFTEN = 3  # a person is notified when a training vanishes for this time


class RunOfLanes(Protocol):
    """What a lane uses of its run, which it may share with other lanes."""

    run: Run
    switch: asyncio.Lock  # held while an experiment passes from stage to stage
    next_number: int  # of the next experiment of any lane
    prefetch: Prefetch
    precompiler: Precompiler
    repeats: Repeater
    evaluations: Evaluations
    verdicts: Verdicts

    @property
    def wants_more(self) -> bool: ...
    async def propose(self, wake: asyncio.Event) -> Ready | None: ...
    def judge(self, evaluated: Experiment) -> Experiment: ...
    async def conclude(self, decided: Experiment) -> None: ...
    def call_person(self, cause: Cause, reason: str) -> None: ...
    async def branch_moved(self) -> bool: ...
    async def back_off(self, times: int, cause: str) -> None: ...
    async def is_blocked(self, lane: Lane, *, full: bool) -> bool: ...


class Lane:
    """One of the lanes of a run.

    `experiment` or `repeat` is what is under way and `training` its process; `wake` is set when a command, or
    what another lane did, may change what is to be done next. `proposes` says that it waits for a proposal.
    While it is `closed`, for that reason, it only ends what it has begun.
    """

    def __init__(self, slot: Slot, owner: RunOfLanes, trainings: Trainings) -> None:
        self.index = slot.index
        self.slot = slot
        self.closed: Reason | None = None
        self.proposes = False
        self.experiment: Experiment | None = None
        self.repeat: RepeatUnderWay | None = None
        self.training: LiveTraining | None = None
        self.wake = asyncio.Event()
        self._evaluation: asyncio.Task[Evaluation | None] | None = None
        self._put_off = False  # the evaluation, until the run goes on
        self._owner = owner
        self._journal = trainings.journal
        self._workspace = trainings.workspace
        self._trainings = trainings

    @property
    def can_wait(self) -> bool:
        if self.repeat is not None:
            return False
        if self.experiment is None or self.experiment.stage is Stage.COMMITTED:
            return True
        if self.experiment.stage is Stage.MEASURED:
            return self._put_off
        run = self._owner.run
        return self.experiment.stage is Stage.EVALUATED and run.is_paused and run.state_cause is Cause.BRANCH

    @property
    def can_be_skipped(self) -> bool:
        if self.experiment is None or self.experiment.stage is Stage.EVALUATED:
            return False
        if self.experiment.stage is Stage.TRAINING and self.training is not None:
            return self.training.alive()  # else it has just ended, and its result counts
        return self.experiment.stage is not Stage.MEASURED or self._put_off or self._evaluation is not None

    async def step(self) -> None:
        if self.repeat is not None:
            await self._watch_repeat(self.repeat)
        elif self.experiment is not None:
            await self._go_on(self.experiment)
        elif not await self._begin_repeat() and self._owner.wants_more:
            self.proposes = True
            try:
                await self._propose()
            finally:
                self.proposes = False

    async def _go_on(self, experiment: Experiment) -> None:
        match experiment.stage:
            case Stage.PROPOSED | Stage.COMMITTED:
                await self._train(experiment)
            case Stage.TRAINING:
                await self._watch(experiment)
            case Stage.MEASURED:
                await self._evaluate(experiment)
            case Stage.EVALUATED:
                await self._decide(experiment)
            case Stage.DECIDED:
                raise ValueError("a decided experiment is in no lane")
            case stage:
                assert_never(stage)

    async def interrupt(self) -> None:
        if self._evaluation is not None:
            self._evaluation.cancel()
        if self.training is not None:
            await self.training.end(Ending.INTERRUPTED)

    def close(self) -> None:
        self.training = None
        self._trainings.dismiss(self.index)

    async def hand_over(self, other: Lane) -> bool:
        """Let another lane train what waits here, if this one is closed; say whether there was something."""
        waits = self.experiment is not None and self.experiment.stage is Stage.COMMITTED
        if self.closed is None or not waits or self.experiment is None:
            return False
        other.experiment = replace(self.experiment, lane=other.index)
        await in_thread(self._journal.record, other.experiment)
        self.experiment = None
        return True

    async def give_up(self, experiment: Experiment) -> None:
        decided = await in_thread(self._owner.verdicts.give_up, self._owner.run, experiment)
        self.experiment = None
        await self._owner.conclude(decided)

    # The handlers, one a stage

    async def _propose(self) -> None:
        ready = await self._owner.propose(self.wake)
        if ready is None:
            return
        self._owner.precompiler.taken(ready)
        async with self._owner.switch:
            now, number = self._journal.clock(), self._owner.next_number
            steps = stages.proposed(self._owner.run, number, ready, now, lane=self.index)
            await in_thread(self._journal.record, *steps)
            self._owner.next_number += 1
            self.experiment = steps[-1]
            self._owner.prefetch.recorded()

    async def _train(self, experiment: Experiment) -> None:
        async with self._owner.switch:
            if not self.wake.is_set():
                await self._owner.precompiler.give(self.index, experiment.commit)
                self.experiment, self.training = await in_thread(self._trainings.begin, experiment)
        await asyncio.sleep(HEAD_START)

    async def _watch(self, experiment: Experiment) -> None:
        if self.training is None:  # an engine before this one started it
            self.training = self._trainings.attach(self.index, experiment.number, experiment.last_training)
            if experiment.skip_requested or self._is_halted:
                await self.interrupt()
        await in_thread(self._workspace.remember, experiment.number, experiment.commit)
        outcome, blocked = await self._wait(self.training, experiment.commit)
        async with self._owner.switch:
            self.training = None
            experiment = self.experiment or experiment  # a command may have marked it
            usable = self._counts(outcome) or outcome.ending not in (Ending.INTERRUPTED, Ending.VANISHED)
            slow = await in_thread(self._owner.repeats.why_again, experiment, outcome, self._owner.run)
            if usable and not blocked and not slow:
                measured = stages.measured(experiment, outcome)
                await in_thread(self._journal.record, measured)
                self.experiment = measured
                return
            self.experiment = await in_thread(self._put_back, experiment, outcome, slow, blocked=blocked)
            if outcome.ending is Ending.VANISHED:
                times = f"experiment #{experiment.number} vanished {experiment.attempt} times"
                await self._owner.back_off(experiment.attempt - VANISHED_OFTEN, times)

    async def _wait(self, training: LiveTraining, commit: str) -> tuple[Outcome, bool]:
        """Wait for a training, making the next one ready; say whether others had what it ran out of."""
        await in_thread(self._trainings.sweep)
        if self._owner.wants_more and self.closed is None:
            self._owner.prefetch.start()
            await in_thread(self._trainings.make_ahead, self.index, commit)
        base_commit = self._owner.run.base_commit
        beside = asyncio.create_task(self._owner.precompiler.beside(training, self.index, base_commit))
        try:
            outcome = await training.wait()
        finally:
            beside.cancel()
            await asyncio.wait({beside})
        failed = not self._counts(outcome) and outcome.ending is not Ending.INTERRUPTED
        full = tells_of_full_memory(outcome.error)
        return outcome, failed and await self._owner.is_blocked(self, full=full)

    async def _evaluate(self, measured: Experiment) -> None:
        """Find out what a verdict needs beside the training, before the lock is taken."""
        self._put_off = False
        evaluation, owner = None, self._owner
        if await in_thread(owner.verdicts.would_keep, owner.run, measured):
            if not await in_thread(owner.evaluations.checks, owner.run):  # a look that no command ends
                evaluation = await owner.evaluations.of(owner.run, measured)
            elif self._is_halted or measured.skip_requested:
                self._put_off = True
                return
            else:
                self._evaluation = asyncio.create_task(owner.evaluations.of(owner.run, measured))
                try:
                    evaluation = await self._evaluation
                except asyncio.CancelledError:
                    current = asyncio.current_task()
                    if current is None or current.cancelling():
                        raise
                    self._put_off = True  # by a command
                    return
                finally:
                    self._evaluation = None
        async with self._owner.switch:
            evaluated = replace(self.experiment or measured, stage=Stage.EVALUATED)  # it may have a mark
            notice = self._owner.evaluations.notice(evaluation)
            await in_thread(record_evaluated, self._journal, evaluated, evaluation, notice=notice)
            self.experiment = evaluated

    async def _decide(self, evaluated: Experiment) -> None:
        async with self._owner.switch:
            if await self._owner.branch_moved():
                if self._owner.run.state is RunState.STOPPED:
                    await self.give_up(evaluated)  # there is no head to compare it with
                return
            decided = await in_thread(self._owner.judge, evaluated)
            self.experiment = None
            await self._owner.conclude(decided)

    # Repeats

    async def skip_repeat(self, begun: RepeatUnderWay, *, answered_in: str) -> Repeat:
        self.repeat = skipped = await in_thread(self._owner.repeats.skip, begun, answered_in=answered_in)
        await self.interrupt()
        return skipped.repeat

    async def _begin_repeat(self) -> bool:
        """Begin the repeat that is next; False where none waits."""
        async with self._owner.switch:
            if self.wake.is_set():
                return True  # then look again
            following = await in_thread(self._owner.repeats.find_next, self.index)
            if following is None:
                return False
            begin = self._owner.repeats.begin
            self.repeat, self.training = await in_thread(begin, self.index, *following)
        await asyncio.sleep(HEAD_START)
        return True

    async def _watch_repeat(self, begun: RepeatUnderWay) -> None:
        repeats, repeat = self._owner.repeats, begun.repeat
        if self.training is None:  # an engine before this one started it
            self.training = repeats.attach(begun)
            if repeat.given_up or self._is_halted:
                await self.interrupt()
        outcome, blocked = await self._wait(self.training, self._owner.run.base_commit)
        async with self._owner.switch:
            self.training = None
            begun = self.repeat or begun  # a command may have marked it
            times = await in_thread(repeats.end, begun, outcome, self._owner.run, blocked=blocked)
            self.repeat = None
            if times == VANISHED_OFTEN:
                call = f"a repeat of experiment #{repeat.number} vanished {times} times: {outcome.error}"
                await in_thread(self._owner.call_person, Cause.VANISHED, call)
            cause = f"a repeat of experiment #{repeat.number} vanished {times} times"
            await self._owner.back_off(times - VANISHED_OFTEN, cause)

    @property
    def _is_halted(self) -> bool:
        return self._owner.run.state in (RunState.PAUSED, RunState.STOPPED)

    def _counts(self, outcome: Outcome) -> bool:
        return measured_value(self._owner.run.metric, self._owner.run.goal, outcome) is not None

    def _put_back(self, experiment: Experiment, outcome: Outcome, slow: str, *, blocked: bool) -> Experiment:
        vanished = outcome.ending is Ending.VANISHED
        ordered = experiment.skip_requested or self._is_halted
        reason = slow or stages.why_put_back(outcome, ordered=ordered, blocked=blocked)
        back = stages.put_back(experiment, outcome)
        self._journal.record(back, kind=EventKind.INTERRUPTED, reason=reason, vanished=vanished)
        if vanished and experiment.attempt == VANISHED_OFTEN:
            message = f"experiment #{experiment.number} vanished {VANISHED_OFTEN} times: {reason}"
            self._owner.call_person(Cause.VANISHED, message)
        return back
