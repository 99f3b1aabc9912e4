"""How much of a run's gain is certain: by its certification, and by what is known of each keep."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from loop.evaluation.certification import Kept, survivors
from loop.evaluation.noise import Noise, read_noise
from loop.evaluation.prune import read_keeps
from loop.evidence import Certified
from loop.experiment import Goal, Run
from loop.gain import gain
from loop.store.evidence.certifications import Certifications
from loop.store.journal import Journal


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
    under_way = bool(made) and (made[-1].ended_at is None or made[-1].ended_at > until)
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
