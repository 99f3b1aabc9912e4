"""One run: its state, its head, its lanes and the verdicts on what they have trained.

Every change is in the journal before the next one begins, so that an engine made anew on the same journal
goes on from where it finds each lane. Nothing here blocks the event loop: git and the journal are used in
worker threads, and only the waiting is asynchronous.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress

from loop.engine import stages
from loop.engine.ahead.precompile import Precompiler
from loop.engine.ahead.prefetch import Prefetch, baseline
from loop.engine.judging.certifying import Certifier
from loop.engine.judging.evaluations import Evaluations
from loop.engine.judging.pruning import Pruner
from loop.engine.judging.repeats import Repeater
from loop.engine.judging.verdicts import Verdicts
from loop.engine.lane import Lane
from loop.engine.stages import Ready
from loop.engine.trainings import Trainings
from loop.errors import UserError, backoff
from loop.evidence import Invalidated
from loop.experiment import BY_COMMAND, Actor, Cause, EventKind, Experiment, Reason, Run, RunState, Status
from loop.git.workspace import BranchMoved
from loop.lanes.protocol import Slot
from loop.lanes.status import note_closed, record_lanes
from loop.process.worker import in_thread
from loop.proposers.orders import OrdersFirst
from loop.proposers.prompt.context import ContextReader
from loop.proposers.protocol import Proposer
from loop.store.experiments import with_program

log = logging.getLogger(__name__)


async def nothing_blocks(_: Run) -> bool:
    return False


async def nothing_closes(_: Run, __: Slot) -> Reason | None:
    return None


class Conductor:
    """Conducts one run, from one event loop.

    `is_blocked` is asked about a training that ran out of memory: whether others hold it, so that it says
    nothing about the program; `blocker` about one that failed in a slot with a GPU of its own: what is wrong
    with that. `timer` gives seconds that no clock change disturbs.
    """

    def __init__(
        self,
        run: Run,
        trainings: Trainings,
        proposer: Proposer,
        *,
        is_blocked: Callable[[Run], Awaitable[bool]] = nothing_blocks,
        blocker: Callable[[Run, Slot], Awaitable[Reason | None]] = nothing_closes,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.made = 0  # experiments after the baseline in this call of `conduct`
        self.switch = asyncio.Lock()  # held while an experiment passes from stage to stage
        self.next_number = 0
        self._trainings = trainings
        self._plan = trainings.plan
        self._journal = journal = trainings.journal
        self._workspace = workspace = trainings.workspace
        self._limit: int | None = None  # of `made`
        self._certifies = False  # at the end of these
        self._serving: set[asyncio.Task[None]] | None = None  # the lanes, while the run is conducted
        self._ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()  # of these
        self._idle_until = 0.0  # by the event loop's clock
        self.evaluations = Evaluations(trainings)
        self.repeats = Repeater(trainings)
        self.pruner = Pruner(trainings)
        self.verdicts = Verdicts(trainings, self.repeats, self.pruner, self.evaluations)
        self.certifier = Certifier(trainings)
        reader = ContextReader(journal=journal, workspace=workspace, folders=trainings.folders)
        self.prefetch = Prefetch(
            proposer=OrdersFirst(proposer, journal=journal, workspace=workspace),
            workspace=workspace,
            context=lambda: reader.read(self.run),
            is_trained=lambda program: with_program(journal, run.id, program) is not None,
            retry_seconds=self._plan.retry_seconds,
            timer=timer,
        )
        self.precompiler = Precompiler(trainings, lambda: self.prefetch.candidate)
        self._is_blocked = is_blocked
        self._blocker = blocker
        self.slots = trainings.slots
        self._lanes = [Lane(slot, self, trainings) for slot in self.slots]

    @property
    def under_way(self) -> tuple[Experiment, ...]:
        return tuple(lane.experiment for lane in self._lanes if lane.experiment is not None)

    async def conduct(
        self, experiments: int | None = None, *, unattended: bool = False, certify: bool = False
    ) -> None:
        """Make experiments until the run is stopped, or `experiments` after the baseline were decided.

        If `unattended`, a proposer without ideas is an error; else it waits for a person. At the end their
        gain is certified, if that is wanted.
        """
        self.made, self._limit, self._certifies = 0, experiments, certify
        self.prefetch.unattended = unattended
        serving: set[asyncio.Task[None]] = set()
        try:
            await self._settle()
            self._serving, self._ended = serving, asyncio.Queue()
            for lane in self._lanes:
                self.serve(lane)
            while serving:
                ended = await self._ended.get()
                serving.remove(ended)
                ended.result()
        finally:
            self._serving = None
            for task in serving:
                task.cancel()
            if serving:
                await asyncio.wait(serving)
            await self._close()

    def serve(self, lane: Lane) -> None:
        """Let a lane work while the run is conducted."""
        self._begin(self._serve(lane))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        if self._serving is None:
            work.close()
            return
        task = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._ended.put_nowait)

    # What lanes ask

    @property
    def wants_more(self) -> bool:
        under_way = sum(e.number > 0 and e.without is None for e in self.under_way)
        under_way += sum(lane.proposes for lane in self._lanes)
        enough = self._limit is not None and self.made + under_way >= self._limit
        # A certification and a prune begin when nothing else trains.
        holds = len(self._lanes) > 1 and (self.certifier.asked or self.pruner.asked)
        enough = (enough or holds) and not self.pruner.leaves_out
        return self.run.state is not RunState.STOPPED and not enough

    async def propose(self, wake: asyncio.Event) -> Ready | None:
        if self.next_number == 0:
            return await in_thread(baseline, self._workspace, self.run.base_commit)
        return await self.prefetch.take(self._head, wake)

    def judge(self, evaluated: Experiment) -> Experiment:
        self.run, decided = self.verdicts.judge(self.run, evaluated)
        self.made += decided.number > 0 and decided.without is None
        return decided

    async def conclude(self, decided: Experiment) -> None:
        self._wake(but=decided.lane)
        if decided.invalidated is Invalidated.BEHIND:
            self.prefetch.look_again(at_once=True)
        await in_thread(self._catch_up)
        if decided.status is Status.KEEP:
            await in_thread(self._workspace.restore)
        crashed = decided.status is Status.CRASH
        lacks = await in_thread(self._trainings.lacks, decided) if crashed else ""
        await in_thread(self._trainings.file, decided, self.run)
        if crashed:
            if decided.number == 0:  # nothing is to be learnt from what follows
                await self._set_state(RunState.STOPPED, Reason(Actor.LOOP, cause=Cause.BASELINE))
            streak = await in_thread(self._journal.crash_streak, self.run.id)
            if alarm := stages.alarm(decided, streak, every=self._plan.crash_streak, lacks=lacks):
                await in_thread(self.call_person, Cause.CRASHES if decided.number else Cause.BASELINE, alarm)
            await self.back_off(streak - self._plan.crash_streak, f"{streak} crashes in a row")

    async def branch_moved(self) -> bool:
        """Tell whether a hand moved the branch; the run is then paused and a person called."""
        try:
            await in_thread(self._check_head)
        except BranchMoved as moved:
            reason = Reason(Actor.LOOP, cause=Cause.BRANCH, facts={"error": str(moved)})
            if self.run.state is not RunState.STOPPED and not stages.is_same(self.run.reason, reason):
                await in_thread(self.call_person, Cause.BRANCH, str(moved))
                await self._set_state(RunState.PAUSING, reason)
            return True
        return False

    async def is_blocked(self, lane: Lane, *, full: bool) -> bool:
        """Tell whether a training failed for its device: its memory was `full`, or the device is gone."""
        reason = await self._blocker(self.run, lane.slot) if lane.slot.gpu or lane.slot.node else None
        if reason is not None and await self.close_lane(lane.index, reason):
            return True
        return (full or reason is not None) and await self._is_blocked(self.run)

    async def close_lane(self, index: int, reason: Reason) -> bool:
        """Begin nothing more in a lane, for its node or GPU; the last one only for its node."""
        lane = self._lane(index)
        left = sum(each.closed is None for each in self._lanes if each is not lane)
        if lane is not None and lane.closed is None and (left or reason.cause is Cause.NODE):
            lane.closed = reason
            await in_thread(note_closed, self._journal, self.run, lane.slot, reason, left)
            self._wake()
        return lane is not None and lane.closed is not None

    async def back_off(self, times: int, cause: str) -> None:
        """Begin nothing for a while if something went wrong too often; `times` is how often beyond that."""
        if times < 0:
            return
        pauses = self._plan.rest_seconds
        pause = backoff(pauses, times + 1)
        self._idle_until = asyncio.get_running_loop().time() + pause
        reason = f"pauses for {pause / 60:.0f} min after {cause}"
        kind = EventKind.NOTED if times < len(pauses) else EventKind.RESTED  # by then people know
        await in_thread(self._journal.note, self.run.id, kind, reason=reason, halted=True)

    def call_person(self, cause: Cause, reason: str) -> None:
        self._journal.note(self.run.id, EventKind.NEEDS_ATTENTION, cause=cause, key="", reason=reason)

    # Going on

    async def _serve(self, lane: Lane) -> None:
        while await self._may_go_on(lane):
            await lane.step()

    async def _settle(self) -> None:
        async with self.switch:
            self.run = await in_thread(self._journal.run_by_id, self.run.id)
            repairs: list[str] = []
            try:
                repairs = await in_thread(self._repair)
            except BranchMoved:
                await self.branch_moved()
        for sentence in repairs:
            log.warning("%s: %s", self.run.tag, sentence)
        if self.run.state is not RunState.STOPPED:
            await in_thread(self._trainings.prepare, self.run)  # outside the lock: commands need not wait
            for index, reason in self._trainings.unfit.items():
                await self.close_lane(index, reason)
            await self.evaluations.prepare(self.run)

    def _repair(self) -> list[str]:
        self._follow_tag()
        undecided = {experiment.lane: experiment for experiment in self._journal.undecided(self.run.id)}
        repeats = self.repeats.under_way()
        for gone in {*undecided, *repeats} - {lane.index for lane in self._lanes}:
            lane = Lane(Slot(gone), self, self._trainings)
            lane.closed = Reason(Actor.LOOP, cause=Cause.GPU_GONE)
            self._lanes.append(lane)  # of a bot that had more: it ends what trains there
        for lane in self._lanes:
            lane.experiment, lane.repeat = undecided.get(lane.index), repeats.get(lane.index)
        last = self._journal.experiments(self.run.id, last=1)
        self.next_number = last[0].number + 1 if last else 0
        record_lanes(self._journal, self.run, self.slots)
        self.run = self.verdicts.take_up(self.run, undecided.values())
        repairs = self._workspace.repair(self._head())
        self._trainings.repair(self.run)
        return repairs

    async def retag(self, new: str, *, answered_in: str = "") -> None:
        """Rename run, branch, refs and worktree, also while a training runs."""
        async with self.switch:
            before = self.run.renamed_from
            await in_thread(self._follow_tag)  # of an earlier retag
            if new != self.run.tag:
                await in_thread(self._workspace.check_rename, new)
                self.run = await in_thread(self._journal.retag, self.run, new, answered_in=answered_in)
                self._wake()
                await self._follow(self._follow_tag)
            elif not before:
                raise UserError(f"Run {new} has that tag already.")

    def _follow_tag(self) -> None:
        old, new = self.run.renamed_from, self.run.tag
        if old:
            try:
                self._workspace.rename(new)
            except UserError as error:
                raise UserError(f"Branch and worktree of run {new} are still named {old}: {error}") from error
            self.run = self._journal.finish_retag(self.run)

    async def _follow(self, step: Callable[[], None]) -> None:
        """Let git follow a command in the journal; what fails is tried again, also while all lanes train."""
        try:
            await in_thread(step)
        except Exception:  # whatever failed, the journal is ahead of git; the caller hears of it
            self._begin(self._follow_again())
            raise

    async def _follow_again(self) -> None:
        """Let git follow, or else the run be taken up anew."""
        async with self.switch:
            with suppress(BranchMoved):  # then it is a person's
                await in_thread(self._catch_up)

    def _catch_up(self) -> None:
        """Let people and git follow what the journal says."""
        self.verdicts.call_person(self.run)
        self._follow_tag()
        self.run = self.verdicts.follow(self.run)

    async def _may_go_on(self, lane: Lane) -> bool:
        """Wait until a lane has something to do; False once the run is done or stopped."""
        while True:
            async with self.switch:
                lane.wake.clear()
                with suppress(BranchMoved):  # then it is a person's
                    await in_thread(self._catch_up)
                await in_thread(self._go_on_certifying)
                if not lane.can_wait:
                    return True  # whatever was ordered: nothing that was trained is lost
                await self._take_over(lane)
                experiment = lane.experiment
                given_up = experiment is not None and experiment.skip_requested
                pause = self._idle_until - asyncio.get_running_loop().time()
                if experiment is None:
                    enough = await self._has_all()
                else:
                    enough = self.made == self._limit and experiment.without is None
                closed = lane.closed is not None or not self._trainings.is_ready(lane.index)
                waits = given_up or pause > 0 or enough or closed or self._awaits_baseline(lane)
                if self.run.state is RunState.RUNNING and not waits:
                    return True
                if experiment is not None and (given_up or self.run.state is RunState.STOPPED):
                    await lane.give_up(experiment)
                    continue
                if await self._is_over():
                    return False
                if lane.closed is not None and experiment is not None:  # another lane is to train it
                    self._wake(but=lane.index)
                if self.run.is_paused:  # perhaps for hours, in which a person changes the machine
                    self._trainings.dismiss(lane.index)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if pause > 0 else None):
                    await lane.wake.wait()

    async def _take_over(self, lane: Lane) -> None:  # what waits in a closed one
        if lane.experiment is None and lane.closed is None and self._trainings.is_ready(lane.index):
            for other in self._lanes:
                if await other.hand_over(lane):
                    return

    def _go_on_certifying(self) -> None:
        at_end = self._certifies and self.made == self._limit and self.run.state is RunState.RUNNING
        if at_end and self.certifier.wanted(self.run):
            self.certifier.ask(self.run)
        self.certifier.advance(self.run)
        self.pruner.follow(self.run)
        self.pruner.advance(self.run)

    def _awaits_baseline(self, lane: Lane) -> bool:
        others = [one for one in self._lanes if one is not lane]
        if self.next_number == 0:  # the first of those that train makes it
            return any(not one.closed and one.index < lane.index for one in others)
        return any(one.experiment is not None and one.experiment.number == 0 for one in others)

    async def _has_all(self) -> bool:
        return not self.wants_more and not await in_thread(self.repeats.waiting)

    async def _is_over(self) -> bool:
        """Tidy up; say whether no lane has anything to do and the run is done or stopped."""
        if not all(lane.can_wait for lane in self._lanes):
            await in_thread(self._trainings.sweep)
            return False
        has_all = self.made == self._limit and (self.under_way or await self._has_all())
        if self.run.state in (RunState.RUNNING, RunState.PAUSING) and has_all and not self.pruner.leaves_out:
            await self._set_state(RunState.DONE, Reason(Actor.LOOP, facts={"made": self.made}))
        if self.run.state is RunState.PAUSING:
            await self._set_state(RunState.PAUSED, self.run.reason or BY_COMMAND)
        with suppress(BranchMoved):
            await in_thread(self._workspace.restore)
        gone = self.run.state is RunState.STOPPED and not self.under_way
        await in_thread(self._trainings.sweep, everything=gone)
        over = self.run.state in (RunState.DONE, RunState.STOPPED)
        if over:
            with suppress(BranchMoved):
                await in_thread(self._workspace.release)
            await self._close()  # before a command to go on can come, which calls `conduct` again
        return over

    def _lane(self, index: int) -> Lane | None:
        return next((lane for lane in self._lanes if lane.index == index), None)

    async def _close(self) -> None:
        """Leave nothing but the trainings; called again it has nothing to wait for."""
        await self.prefetch.close()
        for lane in self._lanes:
            lane.close()

    def _check_head(self) -> None:
        self.run = self.verdicts.check_branch(self.run)

    def _head(self) -> str:
        return self.verdicts.head(self.run)

    async def _set_state(self, state: RunState, reason: Reason) -> None:
        self.run = await in_thread(self._journal.set_state, self.run, state, reason)
        self._wake()

    def _wake(self, *, but: int | None = None) -> None:
        for lane in self._lanes:
            if lane.index != but and (but is None or lane.closed is None):
                lane.wake.set()
