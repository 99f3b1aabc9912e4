"""The verdicts of a run: they are given, and taken back by a person, and the branch in git follows them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from loop.engine import stages, taking_back
from loop.engine.pruning import Pruner
from loop.engine.repeats import Repeater
from loop.engine.stages import KeepRule
from loop.engine.taking_back import Correction
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.noise import read_noise
from loop.evidence import NO_DOUBT, Doubt, RepeatFor
from loop.experiment import Cause, EventKind, Experiment, Run, RunState, Status
from loop.git.workspace import Workspace
from loop.store.events import events_of
from loop.store.experiments import best_number
from loop.store.journal import Journal
from loop.store.repeats import Repeats
from loop.store.verdicts import (
    head_has_moved,
    in_quarantine,
    keeps_after,
    record_correction,
    record_verdict,
    with_commit,
)

log = logging.getLogger(__name__)


def no_doubt(_: Experiment) -> Doubt:
    return NO_DOUBT


class Verdicts:
    """Gives the verdicts of a run; `best` is the kept experiment that the branch is at.

    A verdict is in the journal first, with the commit that the branch is still at, then the branch moves: a
    run that was killed in between goes on with that. Methods take the run as it is and return it as it is
    then. All of them block, and none is called while another one works.
    """

    def __init__(
        self,
        rule: KeepRule,
        *,
        journal: Journal,
        workspace: Workspace,
        trainings: Trainings,
        repeats: Repeater,
        pruner: Pruner,
        doubt: Callable[[Experiment], Doubt],
        clock: Callable[[], float],
    ) -> None:
        self.best: Experiment | None = None
        self._rule = rule
        self._journal = journal
        self._workspace = workspace
        self._trainings = trainings
        self._repeater = repeats
        self._pruner = pruner
        self._doubt = doubt
        self._clock = clock
        self._repeats = Repeats(journal, clock=clock)

    @property
    def best_value(self) -> float | None:
        return self.best.value if self.best else None

    def head(self, run: Run) -> str:
        return self.best.commit if self.best else run.base_commit

    def load(self, run: Run) -> None:
        self.best = self._journal.best(run.id)

    def check_branch(self, run: Run) -> Run:
        """Let the branch follow, and make sure that no hand moved it.

        Raises:
            BranchMoved: a hand did.
        """
        run = self.follow(run)
        self._workspace.check_head(self.head(run))
        return run

    def follow(self, run: Run) -> Run:
        if not run.moves_head_from:
            return run
        self._workspace.move_head(self.head(run), run.moves_head_from)
        return head_has_moved(self._journal, run)

    def judge(self, run: Run, evaluated: Experiment) -> tuple[Run, Experiment]:
        """Give the verdict on an experiment and write it down; `follow` does the rest."""
        best, parent, against = self.best, None, self.best_value
        is_on_head = evaluated.parent == self.head(run)
        if not is_on_head:  # a person took back, or accepted, something meanwhile
            parent = with_commit(self._journal, run.id, evaluated.parent)
            against = parent.value if parent and parent.status is Status.KEEP else None
        decided = stages.decided(
            evaluated,
            run,
            self._rule,
            best=against,
            tampered=self._trainings.tampered(evaluated.number, evaluated.attempt, evaluated.commit),
            now=self._clock(),
            seen=self._trainings.keys_seen(evaluated),
            noise=read_noise(self._journal, run),
            record=best_number(self._journal, run),
            doubt=NO_DOUBT if evaluated.without is not None else self._doubt(evaluated),
        )
        decided = self._pruner.verdict(run, decided)
        decided = self._repeater.with_drift(decided)
        if not is_on_head:
            decided = taking_back.on_old_head(decided, parent, best)
        run = record_verdict(self._journal, run, decided, repeats=self._repeats)
        if decided.status is Status.KEEP:
            self.best = decided
        return run, decided

    def accept(self, run: Run, number: int, name: str, answered_in: str) -> tuple[Run, Correction]:
        found = self._decided(run, number)
        correction = taking_back.accept(found, self.best, name)
        return self._correct(run, correction, EventKind.ACCEPTED, name, answered_in), correction

    def reject(self, run: Run, number: int, name: str, answered_in: str) -> tuple[Run, Correction]:
        correction = taking_back.reject(
            self._decided(run, number),
            name,
            best=self.best,
            before=self._journal.best(run.id, before=number),
            later=keeps_after(self._journal, run.id, number),
        )
        return self._correct(run, correction, EventKind.REJECTED, name, answered_in), correction

    def call_person(self, run: Run) -> None:
        """Call a person once for each result in quarantine that was trained again, or will not be."""
        waiting = in_quarantine(self._journal, run.id)
        if not waiting or run.state is RunState.STOPPED:
            return
        called = {
            event.data.get("key")
            for event in events_of(self._journal, run.id, (EventKind.NEEDS_ATTENTION,))
            if event.data.get("cause") == Cause.QUARANTINE
        }
        expected = [*self._repeats.waiting(run.id), *(on.repeat for on in self._repeats.under_way(run.id))]
        pending = {repeat.number for repeat in expected if repeat.why is RepeatFor.DOUBT}
        numbers = self._repeats.numbers(run.id, run.metric)
        for experiment in waiting:
            key, repeated = str(experiment.number), numbers.get(experiment.number, ())
            if key not in called and experiment.number not in pending:
                reason = taking_back.call_text(experiment, repeated, run.metric)
                facts = {"value": experiment.value, "repeated": repeated, "doubts": experiment.doubts}
                kind, cause = EventKind.NEEDS_ATTENTION, Cause.QUARANTINE
                self._journal.note(run.id, kind, cause=cause, key=key, reason=reason, **facts)

    def bring_up_to_date(self, run: Run) -> Run:
        """Let branch, worktree and results follow a correction; what fails is done later."""
        run = self.follow(run)
        try:
            if run.state in (RunState.DONE, RunState.STOPPED):
                self._workspace.release()
            self._workspace.restore()
            self._trainings.rewrite_results(run)
        except UserError as error:
            log.warning("%s: the worktree is not up to date yet: %s", run.tag, error)
        return run

    def _decided(self, run: Run, number: int) -> Experiment:
        found = self._journal.experiment(run.id, number)
        if found is None:
            raise UserError(f"Run {run.tag} has no experiment #{number}: /results lists the experiments.")
        self.load(run)
        return found

    def _correct(self, run: Run, correction: Correction, kind: EventKind, name: str, answered_in: str) -> Run:
        head = self.head(run), correction.best.commit if correction.best else run.base_commit
        if head[0] != head[1]:
            self._workspace.check_movable()
            self._workspace.check_head(head[0])
        run = record_correction(
            self._journal,
            run,
            correction.changed,
            head=head,
            kind=kind,
            name=name,
            answered_in=answered_in,
        )
        self.best = correction.best
        return run
