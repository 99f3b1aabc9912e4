"""One run: its state, its head, the commands of people and the verdicts on what its lanes have trained.

Every change is in the journal before the next one begins, so that an engine made anew on the same journal
goes on from where it finds each lane. Nothing here blocks the event loop: git and the journal are used in
worker threads, and only the waiting is asynchronous.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from loop.engine import stages
from loop.engine.certifying import NO_TIME, STOPPED, Certifier
from loop.engine.lane import Lane
from loop.engine.prefetch import Prefetch, Ready, baseline
from loop.engine.pruning import Pruner
from loop.engine.repeats import Repeater
from loop.engine.taking_back import Correction
from loop.engine.trainings import Plan, Trainings
from loop.engine.verdicts import Verdicts, no_doubt
from loop.errors import UserError, backoff
from loop.evidence import Certification, Doubt, Repeat
from loop.experiment import (
    BY_COMMAND,
    Actor,
    Cause,
    Ending,
    EventKind,
    Experiment,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
)
from loop.git.workspace import BranchMoved, Workspace
from loop.process.trainer import RunFolders, Trainer
from loop.process.worker import in_thread
from loop.proposers.leaving_out import LeavesOutFirst, kept, removal_text, without
from loop.proposers.prompt.context import ContextReader
from loop.proposers.protocol import Proposer
from loop.proposers.retries import RetriesFirst
from loop.store.events import skip_answered_in
from loop.store.experiments import Idea, IdeaBox, with_program
from loop.store.journal import Journal

log = logging.getLogger(__name__)

LANES = 1  # how many experiments of a run train at a time


async def nothing_blocks(_: Run) -> bool:
    return False


class Engine:
    """Conducts one run, from one event loop; commands may come at any time.

    `is_blocked` is asked about a training that ran out of memory: whether others hold it, so that it says
    nothing about the program. `doubt` is asked, in a worker thread, about every number before its verdict.
    `clock` gives seconds since the epoch, `timer` seconds that no clock change disturbs.
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
        folders: RunFolders,
        is_blocked: Callable[[Run], Awaitable[bool]] = nothing_blocks,
        doubt: Callable[[Experiment], Doubt] = no_doubt,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.made = 0  # experiments after the baseline in this call of `conduct`
        self.switch = asyncio.Lock()  # held while an experiment passes from stage to stage
        self.next_number = 0
        self._plan = plan
        self._journal = journal
        self._workspace = workspace
        self._clock = clock
        self._limit: int | None = None  # of `made`
        self._certifies = False  # at the end of these
        self._idle_until = 0.0  # by the event loop's clock
        self._trainings = Trainings(
            plan, journal=journal, workspace=workspace, trainer=trainer, folders=folders, clock=clock
        )
        self.repeats = Repeater(
            run.id,
            plan,
            self._trainings,
            journal=journal,
            workspace=workspace,
            clock=clock,
            over=lambda _: self._verdicts.call_person(self.run),
        )
        self.pruner = Pruner(plan.rule, LANES, journal=journal, workspace=workspace, clock=clock)
        self._verdicts = Verdicts(
            plan.rule,
            journal=journal,
            workspace=workspace,
            trainings=self._trainings,
            repeats=self.repeats,
            pruner=self.pruner,
            doubt=doubt,
            clock=clock,
        )
        self.certifier = Certifier(
            plan.certify_repeats, LANES, journal=journal, workspace=workspace, clock=clock
        )
        reader = ContextReader(journal=journal, workspace=workspace, folders=folders)
        self.prefetch = Prefetch(
            proposer=RetriesFirst(
                LeavesOutFirst(proposer, journal=journal, workspace=workspace),
                journal=journal,
                workspace=workspace,
            ),
            workspace=workspace,
            context=lambda: reader.read(self.run),
            is_trained=lambda program: with_program(journal, run.id, program) is not None,
            retry_seconds=plan.retry_seconds,
            timer=timer,
        )
        self._lanes = tuple(
            Lane(
                index,
                self,
                journal=journal,
                workspace=workspace,
                trainings=self._trainings,
                is_blocked=is_blocked,
                clock=clock,
            )
            for index in range(LANES)
        )

    @property
    def under_way(self) -> tuple[Experiment, ...]:
        return tuple(lane.experiment for lane in self._lanes if lane.experiment is not None)

    @property
    def preparing(self) -> str:
        """What is done before the first training, while it is."""
        return self._trainings.preparing

    def log_of(self, number: int) -> Path:
        return self._trainings.folders.log(number)

    async def conduct(
        self, experiments: int | None = None, *, unattended: bool = False, certify: bool = False
    ) -> None:
        """Make experiments until the run is stopped, or `experiments` after the baseline were decided.

        If `unattended`, a proposer that has nothing left is an error; else it waits for a person. At the end
        of the experiments their gain is certified, if that is to be done.
        """
        self.made, self._limit, self._certifies = 0, experiments, certify
        self.prefetch.unattended = unattended
        lanes: list[asyncio.Task[None]] = []
        try:
            await self._settle()
            lanes = [asyncio.create_task(self._serve(lane)) for lane in self._lanes]
            await asyncio.gather(*lanes)
        finally:
            for task in lanes:
                task.cancel()
            if lanes:
                await asyncio.wait(lanes)
            await self._close()

    # Commands

    async def pause(self, *, now: bool = False, reason: Reason = BY_COMMAND) -> None:
        """Stop after the experiments under way, or end them `now`; they are run again on resume, not counted.

        A pause belongs to its last actor. The heartbeat lifts its own pauses only, so it takes over none.
        """
        async with self.switch:
            ended = self.run.state in (RunState.DONE, RunState.STOPPED)
            again = self.run.state is RunState.PAUSED and _is_same(self.run.reason, reason)
            if ended or again or (self.run.is_paused and reason.by is Actor.HEARTBEAT):
                raise UserError(f"Run {self.run.tag} is {self.run.state.value} already.")
            paused = now or all(lane.can_wait for lane in self._lanes)
            await self._set_state(RunState.PAUSED if paused else RunState.PAUSING, reason)
            if now:
                await self._interrupt()

    async def resume(self, *, reason: Reason = BY_COMMAND) -> None:
        """Go on after a pause, or when all that were asked for are made: then call `conduct` again."""
        async with self.switch:
            if reason.by is Actor.HEARTBEAT and self.run.state_by is not Actor.HEARTBEAT:
                raise UserError(f"Run {self.run.tag} is {self.run.state.value} on another order.")
            if self.run.state in (RunState.RUNNING, RunState.STOPPED):
                raise UserError(f"Run {self.run.tag} is {self.run.state.value}: there is nothing to resume.")
            self._idle_until = 0.0
            if self.run.state_cause is Cause.BRANCH:
                await in_thread(self._check_head)
                await in_thread(self._repair)
            await self._set_state(RunState.RUNNING, reason)

    async def stop(self, *, reason: Reason = BY_COMMAND) -> None:
        async with self.switch:
            if self.run.state is RunState.STOPPED:
                raise UserError(f"Run {self.run.tag} is stopped already.")
            await self._set_state(RunState.STOPPED, reason)
            await in_thread(self.certifier.end_now, self.run, STOPPED)
            await in_thread(self.pruner.end_now, self.run)
            await in_thread(self.repeats.give_up_waiting)
            await self._interrupt()

    async def skip(self, *, answered_in: str = "") -> Experiment | Repeat:
        """End an experiment, or else a repeat, and go on; return what is to be given up.

        Of several it is the one that began first. It counts all the same if its training has just ended.
        """
        async with self.switch:
            measured = (Stage.MEASURED, Stage.EVALUATED)
            found = [e for e in self.under_way if e.stage not in measured]
            if not found:
                for lane in self._lanes:
                    if lane.repeat is not None:
                        return await lane.skip_repeat(lane.repeat, answered_in=answered_in)
                raise UserError("Nothing is training: there is nothing to skip.")
            given_up = replace(min(found, key=lambda e: e.number), skip_requested=True)
            lane = self._lanes[given_up.lane]
            record, kind = self._journal.record, EventKind.SKIP_REQUESTED
            await in_thread(record, given_up, kind=kind, answered_in=answered_in)
            lane.experiment = given_up
            lane.wake.set()
            await lane.interrupt()
            return given_up

    async def rerun(self, number: int, times: int, *, name: str = "", answered_in: str = "") -> None:
        async with self.switch:
            await in_thread(self.repeats.ask, self.run, number, times, name=name, answered_in=answered_in)
            self._wake()

    async def certify(
        self, *, until: float | None = None, name: str = "", answered_in: str = ""
    ) -> Certification:
        """Train head and baseline anew, by turns, once no experiment is under way."""
        async with self.switch:
            ask, about = self.certifier.ask, {"name": name, "answered_in": answered_in}
            asked = await in_thread(lambda: ask(self.run, until=until, **about))
            self._wake()
            return asked

    async def prune(self, *, name: str = "", answered_in: str = "") -> tuple[int, float]:
        """Leave keeps out one at a time; return how many, and about how many seconds that takes."""
        async with self.switch:
            ask, about = self.pruner.ask, {"name": name, "answered_in": answered_in}
            found = await in_thread(lambda: ask(self.run, **about))
            self.prefetch.look_again(at_once=True)
            self._wake()
            return found

    async def remove(self, numbers: Sequence[int], *, name: str, answered_in: str = "") -> Idea:
        """Propose the best program without these keeps, as an idea of a person.

        Raises:
            UserError: one of them cannot be taken out.
        """
        async with self.switch:
            if self.run.state is RunState.STOPPED:
                raise UserError(f"Run {self.run.tag} is stopped: its program is changed no more.")
            idea = await in_thread(self._ask_removal, numbers, name, answered_in)
            self.prefetch.look_again(at_once=True)
            self._wake()
            return idea

    def _ask_removal(self, numbers: Sequence[int], name: str, answered_in: str) -> Idea:
        source = self._workspace.source(self._head)
        for number in sorted(numbers, reverse=True):
            source = without(self._workspace, source, kept(self._journal, self.run.id, number))
        box = IdeaBox(self._journal)
        return box.add(self.run.id, removal_text(sorted(numbers)), author=name, channel=answered_in)

    async def end_certification(self, now: float) -> None:
        """End what was to be over by `now`, a certification or a prune, with what there is."""
        async with self.switch:
            await in_thread(lambda: self.pruner.end_now(self.run, by=now))
            due = await in_thread(self.certifier.under_way, self.run)
            if due is None or due.until is None or now < due.until:
                return
            await in_thread(self.certifier.end_now, self.run, NO_TIME)
            for lane in self._lanes:
                if lane.repeat is not None and lane.repeat.repeat.certification == due.id:
                    await lane.skip_repeat(lane.repeat, answered_in="")
            self._wake()

    async def retag(self, new: str, *, answered_in: str = "") -> None:
        """Rename run, branch, refs and worktree, also while a training runs."""
        async with self.switch:
            await in_thread(self._follow_tag)  # of an earlier retag
            if new != self.run.tag:
                await in_thread(self._workspace.check_rename, new)
                self.run = await in_thread(self._journal.retag, self.run, new, answered_in=answered_in)
                self._wake()  # what fails now is tried again
                await in_thread(self._follow_tag)

    async def accept(self, number: int, *, name: str = "", answered_in: str = "") -> Correction:
        """Believe a result in quarantine."""
        return await self._correct(self._verdicts.accept, number, name, answered_in)

    async def reject(self, number: int, *, name: str = "", answered_in: str = "") -> Correction:
        """Believe a result no more: what was kept before it is the best again."""
        return await self._correct(self._verdicts.reject, number, name, answered_in)

    async def _correct(
        self, decide: Callable[[Run, int, str, str], tuple[Run, Correction]], *order: Any
    ) -> Correction:
        async with self.switch:
            await in_thread(self._follow_tag)
            await in_thread(self._follow_head)  # of an earlier one
            self.run, correction = await in_thread(decide, self.run, *order)
            self._wake()  # what fails now is tried again
            self.run = await in_thread(self._verdicts.bring_up_to_date, self.run)
            if correction.retried:
                self.prefetch.look_again(at_once=True)
            return correction

    async def check_branch(self) -> None:
        """Pause the run if a hand has moved its branch; called now and then, a verdict looks by itself."""
        async with self.switch:
            if self.run.state is RunState.RUNNING and not self.run.renamed_from:
                await self.branch_moved()

    async def end_stalled(self, folder: Path) -> None:
        async with self.switch:
            for lane in self._lanes:
                if lane.training is not None and lane.training.folder == folder:
                    await lane.training.end(Ending.STALLED)

    # What lanes ask

    @property
    def wants_more(self) -> bool:
        under_way = sum(e.number > 0 and e.without is None for e in self.under_way)
        enough = self._limit is not None and self.made + under_way >= self._limit
        enough = enough and not self.pruner.leaves_out
        return self.run.state is not RunState.STOPPED and not enough

    async def propose(self, wake: asyncio.Event) -> Ready | None:
        if self.next_number == 0:
            return await in_thread(baseline, self._workspace, self.run.base_commit)
        return await self.prefetch.take(lambda: self._head, wake)

    def judge(self, evaluated: Experiment) -> Experiment:
        self.run, decided = self._verdicts.judge(self.run, evaluated)
        self.made += decided.number > 0 and decided.without is None
        return decided

    def give_up(self, experiment: Experiment) -> Experiment:
        reason = "the run was stopped" if self.run.state is RunState.STOPPED else ""
        decided = stages.skipped(experiment, reason, self._verdicts.best_value, now=self._clock())
        answered_in = skip_answered_in(self._journal, self.run.id, experiment.number)
        self._journal.record(decided, answered_in=answered_in)
        return decided

    async def conclude(self, decided: Experiment) -> None:
        self._wake(but=decided.lane)
        await in_thread(self._follow_head)
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
            if self.run.state is not RunState.STOPPED and not _is_same(self.run.reason, reason):
                await in_thread(self.call_person, Cause.BRANCH, str(moved))
                await self._set_state(RunState.PAUSING, reason)
            return True
        return False

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
        await in_thread(self._verdicts.call_person, self.run)  # for what was repeated when the bot died
        if self.run.state is not RunState.STOPPED:
            await in_thread(self._trainings.prepare, self.run)  # outside the lock: commands need not wait

    def _repair(self) -> list[str]:
        self._follow_tag()
        undecided = {experiment.lane: experiment for experiment in self._journal.undecided(self.run.id)}
        repeats = self.repeats.under_way()
        for lane in self._lanes:
            lane.experiment, lane.repeat = undecided.get(lane.index), repeats.get(lane.index)
        self._verdicts.load(self.run)
        last = self._journal.experiments(self.run.id, last=1)
        self.next_number = last[0].number + 1 if last else 0
        self._follow_head()
        for experiment in undecided.values():
            if experiment.stage in (Stage.MEASURED, Stage.EVALUATED):
                # The last release moved the branch before it wrote the verdict.
                self._workspace.move_head(self._head, experiment.commit)
        repairs = self._workspace.repair(self._head)
        self._trainings.repair(self.run)
        return repairs

    def _follow_tag(self) -> None:
        old, new = self.run.renamed_from, self.run.tag
        if old:
            try:
                self._workspace.rename(new)
            except UserError as error:
                raise UserError(f"Branch and worktree of run {new} are still named {old}: {error}") from error
            self.run = self._journal.finish_retag(self.run)

    def _follow_head(self) -> None:
        self.run = self._verdicts.follow(self.run)

    async def _may_go_on(self, lane: Lane) -> bool:
        """Wait until a lane has something to do; False once the run is done or stopped."""
        while True:
            async with self.switch:
                lane.wake.clear()
                await in_thread(self._verdicts.call_person, self.run)
                if self.run.renamed_from:
                    await in_thread(self._follow_tag)
                await in_thread(self._go_on_certifying)
                if not lane.can_wait:
                    return True  # whatever was ordered: nothing that was trained is lost
                experiment = lane.experiment
                given_up = experiment is not None and experiment.skip_requested
                pause = self._idle_until - asyncio.get_running_loop().time()
                if experiment is None:
                    enough = not self.wants_more
                else:
                    enough = self.made == self._limit and experiment.without is None
                enough = enough and not await in_thread(self.repeats.waiting)
                waits = given_up or pause > 0 or enough or self._awaits_baseline(lane)
                if self.run.state is RunState.RUNNING and not waits:
                    return True
                if experiment is not None and (given_up or self.run.state is RunState.STOPPED):
                    await lane.give_up(experiment)
                    continue
                if await self._is_over():
                    return False
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if pause > 0 else None):
                    await lane.wake.wait()

    def _go_on_certifying(self) -> None:
        at_end = self._certifies and self.made == self._limit and self.run.state is RunState.RUNNING
        if at_end and self.certifier.wanted(self.run):
            self.certifier.ask(self.run)
        self.certifier.advance(self.run)
        self.pruner.follow(self.run)
        self.pruner.advance(self.run)

    def _awaits_baseline(self, lane: Lane) -> bool:
        return any(experiment.number == 0 for experiment in self.under_way if experiment.lane != lane.index)

    async def _is_over(self) -> bool:
        """Tidy up if no lane has anything to do; say whether the run is done or stopped."""
        if not all(lane.can_wait for lane in self._lanes):
            return False
        made_all = self.made == self._limit and not self.pruner.leaves_out
        made_all = made_all and not await in_thread(self.repeats.waiting)
        if self.run.state in (RunState.RUNNING, RunState.PAUSING) and made_all:
            await self._set_state(RunState.DONE, Reason(Actor.LOOP, facts={"made": self.made}))
        if self.run.state is RunState.PAUSING:
            await self._set_state(RunState.PAUSED, self.run.reason or BY_COMMAND)
        with suppress(BranchMoved):  # then it is a person's
            await in_thread(self._workspace.restore)
        gone = self.run.state is RunState.STOPPED and not self.under_way
        await in_thread(self._trainings.sweep, everything=gone)
        over = self.run.state in (RunState.DONE, RunState.STOPPED)
        if over:
            with suppress(BranchMoved):
                await in_thread(self._workspace.release)
            await self._close()  # before a command to go on can come, which calls `conduct` again
        return over

    async def _close(self) -> None:
        """Leave nothing but the trainings; called again it has nothing to wait for."""
        await self.prefetch.close()
        for lane in self._lanes:
            lane.close()

    def _check_head(self) -> None:
        self.run = self._verdicts.check_branch(self.run)

    @property
    def _head(self) -> str:
        return self._verdicts.head(self.run)

    async def _set_state(self, state: RunState, reason: Reason) -> None:
        self.run = await in_thread(self._journal.set_state, self.run, state, reason)
        self._wake()

    def _wake(self, *, but: int | None = None) -> None:
        for lane in self._lanes:
            if lane.index != but:
                lane.wake.set()

    async def _interrupt(self) -> None:
        for lane in self._lanes:
            await lane.interrupt()


def _is_same(old: Reason | None, new: Reason) -> bool:
    """Tell whether this is the order of before, for whatever facts."""
    return old is not None and (old.by, old.name, old.cause) == (new.by, new.name, new.cause)
