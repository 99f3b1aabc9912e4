"""What speaks for or against a number: findings in its program, repeats, an independent evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Finding:
    """What the guard found in a program's text: by which rule, in which line, and a sentence about it."""

    rule: str
    line: int
    message: str


class Belief(StrEnum):
    """What the independent evaluation says of a number that a program printed."""

    BELIEVED = "believed"
    NOT_BELIEVED = "not_believed"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Whether a number is believed that would be kept, and the sentences that speak against it."""

    belief: Belief = Belief.BELIEVED
    reasons: tuple[str, ...] = ()


NO_DOUBT = Doubt()


class Invalidated(StrEnum):
    """Why the number of a discarded experiment says nothing about its edit."""

    NOT_BELIEVED = "not_believed"  # by the evaluation
    REJECTED = "rejected"  # by a person
    TRIED_AGAIN = "tried_again"  # the head that it was built on is none any more


class RepeatFor(StrEnum):
    """What a repeat is wanted for. The order is that in which they are trained."""

    DOUBT = "doubt"  # a result is in quarantine
    PERSON = "person"  # a command asked for it
    NOISE = "noise"  # how much does the baseline's number vary?
    DRIFT = "drift"  # is the machine slower than it was?
    CERTIFICATION = "certification"


@dataclass(frozen=True, slots=True)
class Repeat:
    """One more training wanted of an experiment that has its verdict.

    `seed` replaces the program's own, None leaves it. `k` is its training, None while it waits for one.
    `given_up` says why there will be none. `asked_by` is a person's name, empty for the loop.
    """

    id: int
    run_id: int
    number: int
    why: RepeatFor
    asked_at: float
    seed: int | None = None
    asked_by: str = ""
    answered_in: str = ""
    certification: int | None = None
    k: int | None = None
    given_up: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the evaluation of training `k` of an experiment found; `reason` is empty if it is believed."""

    run_id: int
    number: int
    k: int
    at: float
    belief: Belief
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
