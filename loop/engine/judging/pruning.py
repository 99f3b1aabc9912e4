"""The prune of a run: keeps are left out of the best program, one at a time; nothing is removed by it."""

from __future__ import annotations

from dataclasses import replace

from loop.engine.judging.certifying import MOVED, NO_TIME
from loop.engine.stages import RUN_STOPPED, equal_within
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.certainty import first_look, first_to_leave_out, own_gains, read_keeps, removable
from loop.evaluation.certification import seconds_for
from loop.evaluation.noise import read_noise
from loop.evidence import RepeatFor
from loop.experiment import UNASKED, Asker, Experiment, Run, RunState, Status
from loop.gain import number, signed
from loop.proposers.orders import kept, without
from loop.store.evidence.certifications import (
    Certifications,
    Prune,
    Prunes,
    leaves_no_time,
    left_out_of,
    usual_seconds,
)
from loop.store.evidence.repeats import Repeats

TIMES = 2  # trainings without a keep, and of the head
MOST = 8  # keeps that a person's order leaves out


class Pruner:
    """Begins and ends the prunes of one run; `leaves_out` is whether keeps are still to be left out.

    All methods block, and none is called while another one works.
    """

    def __init__(self, trainings: Trainings) -> None:
        self.leaves_out = False
        self.asked = False  # and not over: other experiments wait for its end
        self._rule = trainings.plan.rule
        self._lanes = len(trainings.slots)
        self._journal = trainings.journal
        self._workspace = trainings.workspace
        self._store = Prunes(self._journal)
        self._repeats = Repeats(self._journal)

    def ask(self, run: Run, by: Asker = UNASKED) -> tuple[int, float]:
        """Want a prune; return how many keeps are left out, and about how many seconds that takes.

        Raises:
            UserError: nothing can be left out, or it is being done.
        """
        if run.state is RunState.STOPPED:
            raise UserError(f"Run {run.tag} is stopped: nothing is trained for it any more.")
        if self._store.under_way(run.id):
            raise UserError("Keeps are being left out already: a message will say what they bring.")
        if Certifications(self._journal).under_way(run.id):
            raise UserError("A certification is under way: send /prune after it.")
        keeps = self._first(run, None)
        if not keeps:
            raise UserError(f"Run {run.tag} has no keep to leave out, or what each brings is known.")
        self._store.ask(run.id, by)
        trainings = TIMES * len(keeps) + self._lacking(run)
        return len(keeps), seconds_for(trainings, usual_seconds(self._journal, run), self._lanes)

    def follow(self, run: Run) -> None:
        """Use the time that a certification has left before the wake-up, once."""
        made = Certifications(self._journal).of(run.id)
        until = made[-1].until if made and made[-1].ended_at is not None else None
        if until is None or run.state is not RunState.RUNNING or self._journal.clock() >= until:
            return
        if not any(prune.until == until for prune in self._store.of(run.id)) and self._first(run, until):
            self._store.ask(run.id, until=until)

    def advance(self, run: Run) -> None:
        """Begin what was asked for, go on with it, or end it; called whenever a lane looks what to do."""
        self.leaves_out = False
        prune = self._store.under_way(run.id)
        self.asked = prune is not None
        if prune is None:
            return
        undecided = self._journal.undecided(run.id)
        if prune.head is not None and self._lanes > 1:  # a few of others do no harm
            undecided = [each for each in undecided if each.without is not None]
        best = self._journal.best(run.id)
        if run.state is RunState.STOPPED:
            self._end(run, prune, RUN_STOPPED)
        elif undecided or run.state is not RunState.RUNNING or best is None:
            self.leaves_out = bool(best and best.number == prune.head and self._left(prune, best))
        elif prune.head is None:
            self.leaves_out = self._begin(run, prune, best)
        elif best.number != prune.head:
            self._end(run, prune, MOVED)
        else:
            self._go_on(run, prune, best)

    def end_now(self, run: Run, *, by: float | None = None) -> None:
        """End the one that was to be over by then, or any, with what there is."""
        prune = self._store.under_way(run.id)
        if prune and (by is None or (prune.until is not None and by >= prune.until)):
            self._end(run, prune, RUN_STOPPED if by is None else NO_TIME)
            self.leaves_out = False

    def verdict(self, run: Run, decided: Experiment) -> Experiment:
        """Let an experiment that leaves a keep out be discarded, with what that did."""
        if decided.without is None or decided.value is None:
            return decided
        best = self._journal.best(run.id)
        known = self._repeats.values(run.id, run.metric).get(best.number, ()) if best else ()
        head = known[1:] or ((best.value,) if best and best.value is not None else ())
        brings, error = first_look(decided.value, head, run.goal, read_noise(self._journal, run))
        about = signed(brings, decided.value)
        about += f" ± {number(error, decided.value)}" if error else ""
        reason = f"measured without #{decided.without}, which seems to bring {about}"
        return replace(decided, status=Status.DISCARD, reason=reason, doubts=(), invalidated=None)

    def _begin(self, run: Run, asked: Prune, best: Experiment) -> bool:
        source, possible, blocked = self._workspace.source(best.commit), [], []
        for keep in self._first(run, asked.until):
            try:
                without(self._workspace, source, kept(self._journal, run.id, keep))
                possible.append(keep)
            except UserError:
                blocked.append(keep)
        repeats = self._lacking(run) if possible else 0
        self._store.begin(asked, best.number, possible, blocked, repeats=repeats)
        return bool(possible)

    def _go_on(self, run: Run, prune: Prune, best: Experiment) -> None:
        tried = left_out_of(self._journal, run.id, best.commit)
        numbers = [number for keep in prune.keeps for number in tried.get(keep, ())]
        for experiment in self._journal.experiments_at(run.id, numbers):
            asked = any(r.why is RepeatFor.PRUNE for r in self._repeats.of(run.id, experiment.number))
            if experiment.value is not None and not asked:
                self._repeats.ask(run.id, experiment.number, RepeatFor.PRUNE, times=TIMES - 1)
        waits = any(each.why is RepeatFor.PRUNE for each in self._repeats.waiting(run.id))
        trains = any(each.repeat.why is RepeatFor.PRUNE for each in self._repeats.under_way(run.id))
        left = self._left(prune, best)
        if not (left or waits or trains):
            self._end(run, prune, "")
        elif not trains and leaves_no_time(self._journal, run, prune.until):
            self._end(run, prune, NO_TIME)
        else:
            self.leaves_out = bool(left)

    def _left(self, prune: Prune, best: Experiment) -> list[int]:
        tried = left_out_of(self._journal, prune.run_id, best.commit)
        return [keep for keep in prune.keeps if keep not in tried]

    def _first(self, run: Run, until: float | None) -> tuple[int, ...]:
        each = usual_seconds(self._journal, run)
        left = MOST * TIMES * each
        if until is not None:
            left = until - self._journal.clock() - seconds_for(self._lacking(run), each, self._lanes)
        keeps = read_keeps(self._journal, run)
        return first_to_leave_out(keeps, max(0.0, left), each, self._lanes, repeats=TIMES)

    def _lacking(self, run: Run) -> int:
        """Return how many new trainings of the head are still to be made."""
        best = self._journal.best(run.id)
        values = self._repeats.values(run.id, run.metric).get(best.number, ()) if best else ()
        return max(0, TIMES - max(0, len(values) - 1))

    def _end(self, run: Run, prune: Prune, reason: str) -> None:
        head = None if prune.head is None else self._journal.experiment(run.id, prune.head)
        found = own_gains(self._journal, run, head) if head else {}
        own = {keep: found[keep] for keep in prune.keeps if keep in found}
        equal = equal_within(self._rule, read_noise(self._journal, run))
        unmeasured = sorted({*prune.keeps, *prune.blocked} - {*own})
        self._store.end(
            prune,
            reason,
            own=own,
            removable=removable(own, equal),
            unmeasured=unmeasured,
            value=head.value if head else None,
        )
