"""How much of a run's gain is certain: by its certification, and by what is known of each keep.

What a keep brings is known once it was left out of the head alone, and that program trained:
`workspace.carry_over(workspace.source(N.parent), N.commit, head)` takes the change of keep N back, where no
later keep changed the same lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean

from loop.evaluation.certification import Kept, own_gain, survivors, trainings_that_fit
from loop.evaluation.noise import Noise, read_noise
from loop.evidence import Certified
from loop.experiment import Experiment, Goal, Run, RunState
from loop.gain import gain
from loop.store.evidence.certifications import Certifications, left_out_of
from loop.store.evidence.repeats import Repeats
from loop.store.experiments import largest_gains
from loop.store.journal import Journal


def first_to_leave_out(
    keeps: Iterable[Kept], left: float, seconds: float, lanes: int, *, repeats: int
) -> tuple[int, ...]:
    """Return the keeps to leave out, smallest recorded gain first, as many as fit the seconds `left`.

    Each takes `repeats` trainings of `seconds`; the head's are those of the certification. What was left out
    before, and has its own gain, is not again.
    """
    waiting = sorted((keep for keep in keeps if keep.own is None), key=lambda keep: (keep.gain, keep.number))
    return tuple(keep.number for keep in waiting)[: trainings_that_fit(left, seconds, lanes) // repeats]


def removable(own: Mapping[int, Certified], equal_within: float) -> tuple[int, ...]:
    """Return the keeps to be proposed for removal together, by their own gains, the smallest first.

    A keep without a measurable gain has an interval that reaches zero and a gain that counts as equal. All of
    them together may cost no more than that either: each alone is too small to see, their sum need not be.
    """
    chosen: list[int] = []
    cost = 0.0
    for number, found in sorted(own.items(), key=lambda item: (item[1].gain, item[0])):
        cost += max(0.0, found.gain)
        if found.low <= 0 and cost <= equal_within:
            chosen.append(number)
    return tuple(chosen)


def read_keeps(journal: Journal, run: Run) -> tuple[Kept, ...]:
    """Return the kept experiments that gained something, by number, each with its own gain if known."""
    head = journal.best(run.id)
    own = own_gains(journal, run, head) if head else {}
    rows = sorted(largest_gains(journal, run.id, most=-1), key=lambda row: row.number)
    return tuple(
        Kept(row.number, better, own.get(row.number))
        for row in rows
        if row.value is not None and row.best_before is not None
        # What was kept for its simplicity gained nothing, nor is there anything to remove.
        if (better := gain(row.best_before, row.value, run.goal)) > 0
    )


def own_gains(journal: Journal, run: Run, head: Experiment) -> dict[int, Certified]:
    """Return what keeps bring that were left out of the head: by new trainings of it, as far as known."""
    repeats = Repeats(journal)
    trained = repeats.values(run.id, run.metric)
    noise = read_noise(journal, run)
    found: dict[int, Certified] = {}
    for keep, numbers in left_out_of(journal, run.id, head.commit).items():
        firsts = {each.number: each.value for each in journal.experiments_at(run.id, numbers)}
        values: list[float] = []
        for number in numbers:
            first = firsts[number]
            values += trained.get(number, () if first is None else (first,))
        own = own_gain(values, trained.get(head.number, ())[1:], run.goal, noise)
        if own is not None:
            found[keep] = own
    return found


def first_look(
    without: float, head: tuple[float, ...], goal: Goal, noise: Noise | None
) -> tuple[float, float]:
    """Return what a keep seems to bring by one training without it, and the error of that; 0 if unknown.

    `head` are the numbers of the program with it, of new trainings if there are any.
    """
    better = goal.sign * (without - fmean(head))
    return better, noise.sigma * sqrt(1 + 1 / len(head)) if noise else 0.0


@dataclass(frozen=True, slots=True)
class Certainty:
    """What is certain of a run.

    `certified` is of experiment `number`, whose recorded gain is `recorded`; where that is no longer the
    best, it is `outdated`. `under_way` tells whether a certification is. `keeps` are all kept experiments
    that gained something.
    """

    goal: Goal
    number: int | None = None
    recorded: float | None = None
    certified: Certified | None = None
    outdated: bool = False
    under_way: bool = False
    keeps: tuple[Kept, ...] = ()
    noise: Noise | None = None
    baseline: float | None = None

    @property
    def of_best(self) -> Certified | None:
        """What is certified of the present best."""
        return None if self.outdated else self.certified

    @property
    def measured(self) -> tuple[Kept, ...]:
        """The keeps that were left out of the best, to see what they bring."""
        return tuple(keep for keep in self.keeps if keep.own is not None)

    @property
    def without_gain(self) -> tuple[int, ...]:
        """Those of them that bring no measurable gain."""
        return _others(self.measured, survivors(self.measured, None) or ())

    @property
    def within_noise(self) -> tuple[int, ...]:
        """Those of the others whose recorded gain may be chance: a hint, no more."""
        others = [keep for keep in self.keeps if keep.own is None]
        found = survivors(others, self.noise)
        return () if found is None else _others(others, found)


def read_certainty(journal: Journal, run: Run, *, until: float = inf, with_keeps: bool = True) -> Certainty:
    """Return what was known at `until`, of the run as a whole; single keeps take longer to read."""
    made = [each for each in Certifications(journal).of(run.id) if each.asked_at <= until]
    ended = [each for each in made if each.result and each.ended_at is not None and each.ended_at <= until]
    best, baseline = journal.best(run.id), journal.baseline(run.id)
    keeps = read_keeps(journal, run) if with_keeps else ()
    noise = read_noise(journal, run) if with_keeps else None
    begun = bool(made) and run.state is not RunState.STOPPED  # that ends it
    under_way = begun and (made[-1].ended_at is None or made[-1].ended_at > until)
    if not ended or baseline is None or baseline.value is None:
        return Certainty(run.goal, under_way=under_way, keeps=keeps, noise=noise)
    last = ended[-1]
    head = journal.experiment(run.id, last.head or 0)
    recorded = head.value if head else None
    return Certainty(
        run.goal,
        number=last.head,
        recorded=None if recorded is None else gain(baseline.value, recorded, run.goal),
        certified=last.result,
        outdated=best is None or best.number != last.head,
        under_way=under_way,
        keeps=keeps,
        noise=noise,
        baseline=baseline.value,
    )


def _others(keeps: tuple[Kept, ...] | list[Kept], found: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(keep.number for keep in keeps if keep.number not in found)
