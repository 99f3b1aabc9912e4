"""The verdicts of a run: they are given, and taken back by a person, and the branch in git follows them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace

from loop.engine import stages
from loop.engine.judging.evaluations import Evaluations
from loop.engine.judging.pruning import Pruner
from loop.engine.judging.repeats import Repeater
from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.noise import Noise, read_noise
from loop.evidence import NO_DOUBT, Doubt, Invalidated, RepeatFor
from loop.experiment import Asker, Cause, EventKind, Experiment, Goal, Run, RunState, Stage, Status
from loop.gain import beats
from loop.gain import number as written
from loop.git.commands import is_commit_id
from loop.proposers.search.suggest import NAME as SEARCH
from loop.store.events import events_of, skip_answered_in
from loop.store.evidence.repeats import Repeats
from loop.store.evidence.verdicts import (
    head_has_moved,
    in_quarantine,
    keeps_after,
    record_correction,
    record_verdict,
    with_commit,
)
from loop.store.experiments import best_number
from loop.text import clauses


@dataclass(frozen=True, slots=True)
class Correction:
    """The experiments with another verdict, the one that was meant first, and the kept one that is best now.

    Those that are to be tried again are in the order of their numbers.
    """

    changed: tuple[Experiment, ...]
    best: Experiment | None

    @property
    def retried(self) -> tuple[int, ...]:
        return tuple(e.number for e in self.changed if e.invalidated is Invalidated.TRIED_AGAIN)


def accept(experiment: Experiment, best: Experiment | None, name: str) -> Correction:
    """Believe a result in quarantine: it is the best, or is tried again where another one is meanwhile."""
    if experiment.status is not Status.QUARANTINE:
        raise UserError(f"{_is(experiment)}: only a result in quarantine can be accepted.")
    by = f"accepted by {name or 'command'}"
    if best is None or best.commit == experiment.parent:
        kept = replace(experiment, status=Status.KEEP, reason=clauses(by, experiment.reason))
        return Correction((kept,), kept)
    again = f"{by}; #{best.number} is the best meanwhile: tried again on it"
    return Correction((_tried_again(experiment, again),), best)


def reject(
    experiment: Experiment,
    name: str,
    *,
    best: Experiment | None,
    before: Experiment | None,
    later: Sequence[Experiment],
) -> Correction:
    """Believe a result no more; `before` and `later` are what was kept before it and after it.

    What was kept after it was built on it, and is tried again on what was the best before it.
    """
    number = experiment.number
    by = f"rejected by {name or 'command'}"
    rejected = replace(
        experiment,
        status=Status.DISCARD,
        reason=clauses(by, experiment.reason),
        invalidated=Invalidated.REJECTED,
    )
    if experiment.status is Status.QUARANTINE:
        return Correction((rejected,), best)
    if experiment.status is not Status.KEEP:
        raise UserError(f"{_is(experiment)}: there is nothing to take back.")
    if number == 0:
        raise UserError(
            "The baseline is what all gains are measured from: to replace it, commit another program, "
            "then /stop and /start_run."
        )
    if before is None:
        raise UserError(f"Nothing was kept before #{number}: to give it up, /stop and /start_run.")
    if not is_commit_id(before.commit):
        raise UserError(f"#{before.number}, the best before #{number}, has no commit to go back to.")
    again = [_tried_again(keep, f"built on #{number}, which was rejected: tried again") for keep in later]
    return Correction((rejected, *again), before)


def on_old_head(
    decided: Experiment, parent: Experiment | None, best: Experiment | None, goal: Goal
) -> Experiment:
    """Return the verdict on an experiment whose `parent` is no longer the best one.

    What would be kept is tried again. Its number is compared with that of its parent, where that is believed.
    Of what the search has made only what is better than the best of now: the rest it combines by itself.
    """
    if decided.status not in (Status.KEEP, Status.QUARANTINE):
        return decided
    on = f"#{parent.number}" if parent else decided.parent[:7]
    now = f"#{best.number}" if best else "the present head"
    is_true = parent is not None and parent.status is Status.KEEP  # only another one was kept as well
    number = best.value if best else None
    if is_true and decided.proposer == SEARCH and not beats(decided.value, number, goal):
        reason = f"built on {on}, and no better than {now}, which was kept meanwhile"
        return replace(decided, status=Status.DISCARD, best_before=number, reason=reason, doubts=())
    tried = _tried_again(decided, f"built on {on}, no longer the best: tried again on {now}")
    why = Invalidated.BEHIND if is_true else Invalidated.TRIED_AGAIN
    return replace(tried, best_before=number, invalidated=why)


def call_text(experiment: Experiment, repeated: Sequence[float | None], metric: str) -> str:
    """Return for what a person is called, as a clause; what to do comes first, because a line is cut."""
    number, value = experiment.number, experiment.value
    numbers = ["no number" if again is None else written(again, experiment.value) for again in repeated]
    again = f"repeated {', '.join(numbers)}" if numbers else "not repeated"
    first = f"#{number} waits for /accept {number} or /reject {number}"
    return clauses(f"{first}: {metric} {written(value or 0.0)}, {again}", *experiment.doubts)


def _tried_again(experiment: Experiment, reason: str) -> Experiment:
    return replace(
        experiment,
        status=Status.DISCARD,
        reason=clauses(reason, experiment.reason),
        invalidated=Invalidated.TRIED_AGAIN,
    )


def _is(experiment: Experiment) -> str:
    number = experiment.number
    match experiment.status:
        case None:
            return f"Experiment #{number} has no verdict yet (/skip gives it up)"
        case Status.SKIP:
            return f"Experiment #{number} was skipped"
        case status:
            return f"Experiment #{number} is a {status}"


log = logging.getLogger(__name__)


class Verdicts:
    """Gives the verdicts of a run.

    A verdict is in the journal first, with the commit that the branch is still at, then the branch moves: a
    run that was killed in between goes on with that. Methods take the run as it is and return it as it is
    then. All of them block, and none is called while another one works.
    """

    def __init__(
        self, trainings: Trainings, repeats: Repeater, pruner: Pruner, evaluations: Evaluations
    ) -> None:
        self._rule = trainings.plan.rule
        self._journal = trainings.journal
        self._workspace = trainings.workspace
        self._trainings = trainings
        self._repeater = repeats
        self._pruner = pruner
        self._evaluations = evaluations
        self._repeats = Repeats(self._journal)

    def head(self, run: Run) -> str:
        """Return the commit that the branch is at, or is to move to."""
        best = self._journal.best(run.id)
        return best.commit if best else run.base_commit

    def take_up(self, run: Run, undecided: Iterable[Experiment]) -> Run:
        """Go on where a bot before this one ended."""
        run = self.follow(run)
        for experiment in undecided:
            if experiment.stage in (Stage.MEASURED, Stage.EVALUATED):
                # The last release moved the branch before it wrote the verdict.
                self._workspace.move_head(self.head(run), experiment.commit)
        return run

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

    def would_keep(self, run: Run, measured: Experiment) -> bool:
        """Tell whether its number makes it the head; what leaves a keep out to measure it never is one."""
        decided = self._decided(run, measured, self._noise(run), NO_DOUBT)
        return decided.status is Status.KEEP and measured.without is None

    def judge(self, run: Run, evaluated: Experiment) -> tuple[Run, Experiment]:
        """Give the verdict on an experiment and write it down; `follow` does the rest."""
        noise = self._noise(run)
        doubt = NO_DOUBT if evaluated.without is not None else self._evaluations.doubt(run, evaluated)
        decided = self._pruner.verdict(run, self._decided(run, evaluated, noise, doubt))
        decided = self._repeater.with_drift(decided)
        known = noise and astuple(noise)
        return record_verdict(self._journal, run, decided, repeats=self._repeats, noise=known), decided

    def _noise(self, run: Run) -> Noise | None:
        return read_noise(self._journal, run)

    def _decided(self, run: Run, measured: Experiment, noise: Noise | None, doubt: Doubt) -> Experiment:
        parent, record = None, best_number(self._journal, run)
        best = compared = self._journal.best(run.id)
        is_on_head = measured.parent == (best.commit if best else run.base_commit)
        if not is_on_head:  # another lane's was kept meanwhile, or a person took back or accepted something
            parent = with_commit(self._journal, run.id, measured.parent)
            compared, record = parent if parent and parent.status is Status.KEEP else None, None
        decided = stages.decided(
            measured,
            run,
            self._rule,
            best=compared.value if compared else None,
            tampered=self._trainings.tampered(measured.number, measured.attempt, measured.commit),
            now=self._journal.clock(),
            seen=self._trainings.keys_seen(measured),
            noise=noise,
            record=record,
            doubt=doubt,
        )
        return decided if is_on_head else on_old_head(decided, parent, best, run.goal)

    def give_up(self, run: Run, experiment: Experiment) -> Experiment:
        reason = stages.RUN_STOPPED if run.state is RunState.STOPPED else ""
        best = self._journal.best(run.id)
        decided = stages.skipped(experiment, reason, best.value if best else None, now=self._journal.clock())
        answered_in = skip_answered_in(self._journal, run.id, experiment.number)
        self._journal.record(decided, answered_in=answered_in)
        return decided

    def correct(self, run: Run, kind: EventKind, number: int, by: Asker) -> tuple[Run, Correction]:
        """Change a verdict, as a person says by `ACCEPTED` or `REJECTED`, and all that follow from it.

        Raises:
            UserError: it cannot be changed, or a hand holds the branch.
        """
        correction = self._plan(run, kind, number, by.name)
        head = self.head(run), correction.best.commit if correction.best else run.base_commit
        if head[0] != head[1]:
            self._workspace.check_movable()
            self._workspace.check_head(head[0])
        run = record_correction(self._journal, run, correction.changed, by, head=head, kind=kind)
        return run, correction

    def _plan(self, run: Run, kind: EventKind, number: int, name: str) -> Correction:
        found = self._journal.experiment(run.id, number)
        if found is None:
            raise UserError(f"Run {run.tag} has no experiment #{number}: /results lists the experiments.")
        best = self._journal.best(run.id)
        if kind is EventKind.ACCEPTED:
            return accept(found, best, name)
        before, later = self._journal.best(run.id, before=number), keeps_after(self._journal, run.id, number)
        return reject(found, name, best=best, before=before, later=later)

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
                reason = call_text(experiment, repeated, run.metric)
                facts = {"value": experiment.value, "repeated": repeated, "doubts": experiment.doubts}
                kind, cause = EventKind.NEEDS_ATTENTION, Cause.QUARANTINE
                self._journal.note(run.id, kind, cause=cause, key=key, reason=reason, **facts)

    def bring_up_to_date(self, run: Run) -> Run:
        """Let results, branch and worktree follow a correction; what fails is done later."""
        with self._later(run):  # first, as later verdicts only add to them
            self._trainings.rewrite_results(run)
        run = self.follow(run)
        with self._later(run):
            if run.state in (RunState.DONE, RunState.STOPPED):
                self._workspace.release()
            self._workspace.restore()
        return run

    @contextmanager
    def _later(self, run: Run) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            log.warning("%s: the worktree is not up to date yet: %s", run.tag, error)
