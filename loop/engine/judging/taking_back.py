"""What a person's decision about a result changes in a run: pure functions, carried out by `Verdicts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loop.errors import UserError
from loop.evidence import Invalidated
from loop.experiment import Experiment, Goal, Status
from loop.gain import beats
from loop.gain import number as written
from loop.git.commands import is_commit_id
from loop.proposers.search.suggest import NAME as SEARCH


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
        kept = replace(experiment, status=Status.KEEP, reason=_joined(by, experiment.reason))
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
        reason=_joined(by, experiment.reason),
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
    return _joined(f"{first}: {metric} {written(value or 0.0)}, {again}", *experiment.doubts)


def _tried_again(experiment: Experiment, reason: str) -> Experiment:
    return replace(
        experiment,
        status=Status.DISCARD,
        reason=_joined(reason, experiment.reason),
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


def _joined(*clauses: str) -> str:
    return "; ".join(filter(None, clauses))
