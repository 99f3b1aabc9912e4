"""Whatever commands, outcomes, troubles and deaths come, in any order: no run breaks, no result is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from loop.evidence import AGAIN, Repeat
from loop.experiment import Ending, EventKind, Experiment, Run, RunState, Stage, Status
from tests.loop.lab import Lab
from tests.loop.made_up import BASELINE, Machine, Thinker
from tests.loop.mortal import Life
from tests.loop.virtual_time import VirtualLoop

ends = st.sampled_from(
    [
        *("better", "better", "doubted", "doubted", "worse", "equal", "crash"),
        *(Ending.DEADLINE, Ending.VANISHED, Ending.INTERRUPTED),
        *(f"better, {ending}" for ending in (Ending.DEADLINE, Ending.STALLED, Ending.INTERRUPTED)),
    ]
)
orders = st.sampled_from(
    [
        *("pause", "pause now", "resume", "resume", "resume", "skip", "retag wide", "retag mar12", "stall"),
        *("stop", "accept first", "accept last", "reject first", "reject last", "reject last"),
        *("rerun 0", "rerun 1"),
        *("close 1", "close 2", "open 1", "open 2"),
    ]
)
delays = st.sampled_from([0, 5, 15, 30]) | st.integers(0, 60)
misfortunes = st.one_of(
    st.tuples(st.just("trouble"), st.integers(0, 8)),  # after so many steps
    st.tuples(st.just("death"), st.integers(0, 12)),
    st.tuples(st.just("turns"), st.integers(0, 120)),  # a death between two steps, after so many turns
)


class EngineStates(RuleBasedStateMachine):
    """A run whose bot is started again whenever it died."""

    lanes = 1

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.loop = VirtualLoop()
        self.run = self.stack.enter_context(asyncio.Runner(loop_factory=lambda: self.loop)).run
        self.lab = Lab(
            Path(
                self.stack.enter_context(
                    tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
                )
            ),
            BASELINE,
        )
        self.stack.callback(self.lab.close)
        self.machine = Machine(may_train=self.may_train, lanes=self.lanes)
        self.thinker = Thinker()
        self.life: Life | None = None
        self.stopped = False

    def teardown(self) -> None:
        try:
            if self.life:
                self.run(self.life.die())
        finally:
            self.stack.close()
            gc.collect()  # what this machine has left is not for later tests to clear away

    @initialize(limit=st.sampled_from([None, None, 2]))
    def begin(self, limit: int | None) -> None:
        self.limit = limit

    @rule(
        end=st.none() | ends | ends,
        order=st.none() | orders | orders,
        delay=delays,
        lags=st.tuples(*[st.sampled_from([0, 0, 3, 12])] * 3),
        failures=st.sampled_from([0, 0, 0, 3]),
        prompt=st.booleans(),
        misfortune=st.none() | st.none() | misfortunes,
    )
    def happen(
        self,
        *,
        end: str | None,
        order: str | None,
        delay: int,
        lags: tuple[int, ...],
        failures: int,
        prompt: bool,
        misfortune: tuple[str, int] | None,
    ) -> None:
        """Let the training end, and `delay` turns later an order come, or a misfortune, or both."""
        self.thinker.failures, self.machine.prompt, self.loop.lags = failures, prompt, lags
        self.run(self._happen(end, order, delay, *(misfortune or ("none", 0))))
        if self.life:
            self.check(self.life)

    async def _happen(
        self, end: str | None, order: str | None, delay: int, misfortune: str, after: int
    ) -> None:
        self.life = life = self.life or Life(self.lab, self.machine, self.thinker, self.limit)
        life.fuse.light()
        life.conduct()
        if end:
            self._end_training(end, delay)
        await self._turn(delay)
        if order:
            life.give(order)
        life.fuse.light(misfortune, after)
        if misfortune == "turns":
            await self._turn(after)
        else:
            await self._go_on(life)
        if life.fuse.dead or misfortune == "turns":
            await life.die()
            self.life = None

    async def _go_on(self, life: Life) -> None:
        """Let everything happen that happens by itself; after trouble the host starts the engine again."""
        await self.loop.rest()
        life.check()
        if life.fuse.troubled and not life.fuse.dead:
            life.fuse.light()
            life.conduct()
            await self.loop.rest()
            life.check()

    async def _turn(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    def may_train(self) -> bool:
        run = self.lab.now()
        return run.state is RunState.RUNNING and not run.renamed_from

    def _end_training(self, end: str, which: int) -> None:
        best = self.lab.journal.best(self.lab.run.id)
        value = best.value if best and best.value is not None else 100.0
        running = self.machine.running()
        for training in running if which % 4 == 0 else running[which % max(1, len(running)) :][:1]:
            change, _, late = end.partition(", ")  # what it came to, and how it ended after that
            match change:
                case "better" | "doubted" | "worse" | "equal":
                    number = value + {"better": -1, "doubted": -1, "worse": 1, "equal": 0}[change]
                    training.finish(Ending(late or Ending.EXITED), number, doubted=change == "doubted")
                case "crash":
                    training.finish(Ending.EXITED)
                case _:
                    training.finish(Ending(end))

    # What must be true whenever nothing happens by itself any more

    def check(self, life: Life) -> None:
        run, experiments = self.lab.now(), self.lab.experiments()
        undecided = [experiment for experiment in experiments if experiment.status is None]
        repeats = self.lab.repeats
        under_way = [begun.repeat for begun in repeats.under_way(run.id)]
        assert run == life.engine.run, "the engine believes what is not so"
        assert undecided == sorted(life.engine.under_way, key=lambda experiment: experiment.number)
        assert len(under_way) + len(undecided) <= self.lanes, "a lane has two things to do"
        assert not run.renamed_from, "a retag was not finished"
        assert not run.moves_head_from, "the branch is behind the journal"
        self.lab.check_invariants()
        self._check_results(experiments)
        for experiment in experiments:
            self._check_verdict(experiment)
            self._check_files(experiment)
            self._check_repeats(experiment)
        self._check_progress(run, undecided, under_way, life)

    def _check_results(self, experiments: list[Experiment]) -> None:
        kept = [e.value for e in experiments if e.status is Status.KEEP and e.value is not None]
        assert kept == sorted(kept, reverse=True), "a worse value was kept"
        events = self.lab.journal.events_after(0, limit=100_000)
        told = [event.number for event in events if event.kind is EventKind.DECIDED]
        in_order = told if self.lanes == 1 else sorted(number or 0 for number in told)
        assert in_order == [e.number for e in experiments if e.status is not None], (
            "not told once and in order"
        )
        # What a decision of a person took from the best program is tried again once, or given up.
        wanted = [e.number for e in experiments if e.invalidated in AGAIN]
        retries = self.lab.journal.query("SELECT * FROM retries")
        assert sorted(retry["number"] for retry in retries) == wanted, "an experiment was lost"
        made = [e.retry for e in experiments if e.retry is not None]
        assert len(made) == len({*made}), "an edit was tried again twice"
        assert not {*made} & {retry["id"] for retry in retries if retry["given_up"]}

    def _check_verdict(self, experiment: Experiment) -> None:
        """Hold the verdict against what the last training came to."""
        training = self.machine.trainings.get(self._folder(experiment))
        if experiment.status is None or training is None:
            assert experiment.status in (None, Status.SKIP)
            return
        outcome = training.outcome
        assert outcome is not None, "it was decided while it trained"
        if outcome.numbers:
            assert experiment.status in (Status.KEEP, Status.DISCARD, Status.QUARANTINE), "a result was lost"
            assert experiment.value == outcome.numbers["val_bpb"]
        elif outcome.ending in (Ending.INTERRUPTED, Ending.VANISHED):
            assert experiment.status is Status.SKIP
        else:
            assert experiment.status is Status.CRASH

    def _check_files(self, experiment: Experiment) -> None:
        if experiment.status is not None and experiment.attempt:
            assert self.lab.folders.log(experiment.number).exists(), "a log was lost"
            assert not self._folder(experiment).exists(), "the files of a training were left"

    def _check_repeats(self, experiment: Experiment) -> None:
        """Hold what each repeat is said to have come to against its training."""
        repeats, run_id = self.lab.repeats, self.lab.run.id
        ended = []
        begun = [repeat for repeat in repeats.of(run_id, experiment.number) if repeat.k]
        for repeat in sorted(begun, key=attrgetter("k")):  # one that was put back ends after younger ones
            folder = self.lab.folders.attempt(repeat.number, repeat.k or 0)
            training = self.machine.trainings.get(folder)
            outcome = training.outcome if training else None
            assert not (outcome and outcome.numbers and repeat.given_up), "a number was lost"
            if outcome is not None and not repeat.given_up:
                ended.append(outcome.numbers.get("val_bpb"))
        assert tuple(ended) == repeats.numbers(run_id, "val_bpb").get(experiment.number, ())

    def _check_progress(
        self, run: Run, undecided: list[Experiment], under_way: list[Repeat], life: Life
    ) -> None:
        assert len(self.machine.armed) <= self.lanes, "supervisors were forgotten"
        assert run.state is RunState.STOPPED or not self.stopped, "it goes on after its end"
        self.stopped = run.state is RunState.STOPPED
        if run.state is RunState.RUNNING:
            assert not life.idle, "the engine has given up"
            closed = [slot.index for slot, reason in life.engine.lanes() if reason]
            working = [e for e in undecided if e.lane not in closed or e.stage is not Stage.COMMITTED]
            assert under_way or {e.stage for e in working} == {Stage.TRAINING}
            if self.limit is None and not any(e.number == 0 for e in undecided):
                assert len(under_way) + len(working) >= self.lanes - len(closed), "a lane has nothing to do"
            assert self.machine.running(), "the engine waits for a training that does not run"
        elif not self.machine.running():
            assert run.state is not RunState.PAUSING
            assert not under_way
            assert not self.stopped or not undecided
            assert not self.stopped or not self.lab.repeats.waiting(run.id)

    def _folder(self, experiment: Experiment) -> Path:
        return self.lab.folders.attempt(experiment.number, experiment.attempt)


class LaneStates(EngineStates):
    """The same with lanes, some of which others use at times."""

    lanes = 3


@pytest.mark.parametrize("machine", [EngineStates, LaneStates])
@pytest.mark.parametrize(("order", "after"), [("reject last", 1), ("reject last", 2), ("retag wide", 1)])
def test_git_follows_a_command_that_failed_on_the_way_while_all_lanes_train(
    machine: type[EngineStates], order: str, after: int
) -> None:
    state = machine()
    state.begin(limit=None)
    nothing: Any = {"end": None, "order": None, "delay": 0, "lags": (0, 0, 0), "failures": 0, "prompt": True}
    try:
        for _ in range(3):  # it begins, the baseline ends, and what is kept on it
            state.happen(**nothing | {"end": "better", "misfortune": None})
        state.happen(**nothing | {"order": order, "misfortune": ("trouble", after)})
    finally:
        state.teardown()


@pytest.mark.timeout(3600)  # for making a failure small; without one it takes seconds, or minutes at length
@pytest.mark.parametrize(
    ("machine", "examples", "steps"),
    [
        (EngineStates, 9, 20),
        pytest.param(EngineStates, 500, 30, marks=pytest.mark.slow, id="at length"),
        pytest.param(LaneStates, 500, 30, marks=pytest.mark.slow, id="lanes at length"),
    ],
)
def test_engine_states(machine: type[EngineStates], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )
