"""The commands of people on one run, which may come at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loop.engine.conductor import Conductor
from loop.engine.judging.certifying import NO_TIME
from loop.engine.judging.verdicts import Correction
from loop.engine.lane import Lane
from loop.engine.stages import RUN_STOPPED, is_same
from loop.errors import UserError
from loop.evidence import Certification, Repeat
from loop.experiment import (
    BY_COMMAND,
    UNASKED,
    Actor,
    Asker,
    Cause,
    Ending,
    EventKind,
    Experiment,
    Reason,
    RunState,
)
from loop.lanes.protocol import Slot
from loop.lanes.status import note_open
from loop.process.worker import in_thread
from loop.proposers.orders import kept, without
from loop.store.experiments import Idea, IdeaBox


class Engine(Conductor):
    """Conducts a run as it is told."""

    @property
    def preparing(self) -> str:
        return self._trainings.preparing

    def live_log(self, experiment: Experiment) -> Path:
        """Return what the training of an experiment writes."""
        if not experiment.lane:
            return self._workspace.path / "run.log"
        return self._trainings.folders.printed(experiment.number, experiment.attempt)

    async def pause(self, *, now: bool = False, reason: Reason = BY_COMMAND) -> None:
        """Stop after the experiments under way, or end them `now`; they are run again on resume, not counted.

        A pause belongs to its last actor. The heartbeat lifts its own pauses only, so it takes over none.
        """
        async with self.switch:
            state, by = self.run.state, self.run.state_by
            ended = state in (RunState.DONE, RunState.STOPPED)
            people = by is reason.by is Actor.PERSON  # whose pause it is makes no difference
            again = (people or is_same(self.run.reason, reason)) and not (now and state is RunState.PAUSING)
            if ended or (self.run.is_paused and (again or reason.by is Actor.HEARTBEAT)):
                hint = " /pause now interrupts it." if state is RunState.PAUSING else ""
                raise UserError(f"Run {self.run.tag} is {state.value} already.{hint}")
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
            await in_thread(self.certifier.end_now, self.run, RUN_STOPPED)
            await in_thread(self.pruner.end_now, self.run)
            await self._interrupt()

    async def skip(self, *, answered_in: str = "") -> Experiment | Repeat:
        """End the experiment that began first, or else a repeat, and go on; return what is to be given up.

        Raises:
            UserError: nothing trains, or what did has just ended: its result counts; or all is given up.
        """
        async with self.switch:
            if self.run.state is RunState.STOPPED:  # what still trains is being ended
                raise UserError(f"Run {self.run.tag} is stopped: there is nothing to skip.")
            present = [(lane.experiment, lane) for lane in self._lanes if lane.experiment]
            skipped = [each.number for each, _ in present if each.skip_requested]
            found = [pair for pair in present if pair[1].can_be_skipped and not pair[0].skip_requested]
            if not found:
                repeats = [(lane.repeat, lane) for lane in self._lanes if lane.repeat is not None]
                for repeat, lane in repeats:
                    if not repeat.repeat.given_up:
                        return await lane.skip_repeat(repeat, answered_in=answered_in)
                if ending := skipped or [each.repeat.number for each, _ in repeats]:
                    raise UserError(f"#{ending[0]} is being skipped already.")
                why = f"#{present[0][0].number} has just ended" if present else "Nothing is training"
                raise UserError(f"{why}: there is nothing to skip.")
            experiment, lane = min(found, key=lambda pair: pair[0].number)
            given_up = replace(experiment, skip_requested=True)
            record, kind = self._journal.record, EventKind.SKIP_REQUESTED
            await in_thread(record, given_up, kind=kind, answered_in=answered_in)
            lane.experiment = given_up
            lane.wake.set()
            await lane.interrupt()
            return given_up

    async def rerun(self, number: int, times: int, by: Asker = UNASKED) -> None:
        async with self.switch:
            await in_thread(self.repeats.ask, self.run, number, times, by)
            self._wake()

    async def certify(self, by: Asker = UNASKED, *, until: float | None = None) -> Certification:
        """Train head and baseline anew, by turns, once no experiment is under way."""
        async with self.switch:
            asked = await in_thread(self.certifier.ask, self.run, by, until=until)
            self._wake()
            return asked

    async def prune(self, by: Asker = UNASKED) -> tuple[int, float]:
        """Leave keeps out one at a time; return how many, and about how many seconds that takes."""
        async with self.switch:
            found = await in_thread(self.pruner.ask, self.run, by)
            self.prefetch.look_again(at_once=True)
            self._wake()
            return found

    async def remove(self, numbers: Sequence[int], by: Asker) -> Idea:
        """Propose the best program without these keeps, as an idea of a person.

        Raises:
            UserError: one of them cannot be taken out.
        """
        async with self.switch:
            if self.run.state is RunState.STOPPED:
                raise UserError(f"Run {self.run.tag} is stopped: its program is changed no more.")
            idea = await in_thread(self._ask_removal, numbers, by)
            self._limit = None if self._limit is None else self._limit + 1  # it comes beside the others
            self.prefetch.look_again(at_once=True)
            self._wake()
            return idea

    def _ask_removal(self, numbers: Sequence[int], by: Asker) -> Idea:
        source = self._workspace.source(self._head())
        for number in sorted(numbers, reverse=True):
            source = without(self._workspace, source, kept(self._journal, self.run.id, number))
        removes = tuple(sorted(numbers))
        text = f"remove {', '.join(f'#{number}' for number in removes)}"
        box = IdeaBox(self._journal)
        return box.add(self.run.id, text, author=by.name, channel=by.answered_in, removes=removes)

    async def end_certification(self, now: float) -> None:
        """End what was to be over by `now`, a certification or a prune, with what there is."""
        async with self.switch:
            await in_thread(self.pruner.end_now, self.run, by=now)
            due = await in_thread(self.certifier.under_way, self.run)
            if due is None or due.until is None or now < due.until:
                return
            await in_thread(self.certifier.end_now, self.run, NO_TIME)
            for lane in self._lanes:
                if lane.repeat is not None and lane.repeat.repeat.certification == due.id:
                    await lane.skip_repeat(lane.repeat, answered_in="")
            self._wake()

    async def correct(self, kind: EventKind, number: int, by: Asker = UNASKED) -> Correction:
        """Change a verdict as a person says: the result was `ACCEPTED` or `REJECTED`."""
        async with self.switch:
            await in_thread(self._catch_up)
            self.run, correction = await in_thread(self.verdicts.correct, self.run, kind, number, by)
            self._wake()
            await self._follow(self._bring_up_to_date)
        if correction.retried:
            self.prefetch.look_again(at_once=True)
        return correction

    def _bring_up_to_date(self) -> None:
        self.run = self.verdicts.bring_up_to_date(self.run)

    async def check_branch(self) -> None:
        """Pause the run if a hand has moved its branch; called now and then, a verdict looks by itself."""
        async with self.switch:
            if self.run.state is RunState.RUNNING and not self.run.renamed_from:
                await self.branch_moved()

    async def open_lane(self, index: int) -> None:
        """Begin trainings again in a lane whose GPU others had used."""
        lane = self._lane(index)
        if lane is not None and lane.closed is not None:
            lane.closed = None
            await in_thread(note_open, self._journal, self.run, lane.slot)
            lane.wake.set()

    async def join(self, slot: Slot) -> None:
        """Train in a lane that has come, or is there again, unless it is unfit for this run."""
        lane = self._lane(slot.index)
        if lane is not None and lane.closed is None and self._trainings.is_ready(lane.index):
            return
        unfit = await in_thread(self._trainings.admit, slot)
        lane = self._lane(slot.index)  # which another call may have added meanwhile
        if lane is None:
            lane = Lane(slot, self, self._trainings)
            self._lanes.append(lane)
            if unfit is None:
                await in_thread(note_open, self._journal, self.run, slot)
            else:
                await self.close_lane(slot.index, unfit)
            self.serve(lane)
            return
        lane.slot = slot
        if unfit is not None:
            await self.close_lane(lane.index, unfit)
        else:
            await self.open_lane(lane.index)
            lane.wake.set()

    def lanes(self) -> tuple[tuple[Slot, Reason | None], ...]:
        return tuple((lane.slot, lane.closed) for lane in self._lanes)

    async def end_stalled(self, folder: Path) -> None:
        async with self.switch:
            for lane in self._lanes:
                if lane.training is not None and lane.training.folder == folder:
                    await lane.training.end(Ending.STALLED)

    async def _interrupt(self) -> None:
        for lane in self._lanes:
            await lane.interrupt()
