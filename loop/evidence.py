"""What speaks for or against a number: findings in its program, repeats, an independent evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    REFUSE = "refuse"  # never trained
    FLAG = "flag"  # trained, unless GUARD=strict
    NOTE = "note"  # odd, and most likely honest


class Rule(StrEnum):
    SYNTAX = "syntax"
    REPEATED = "repeated"  # the program of an earlier experiment, or of the head, but for its seed
    EVALUATOR = "evaluator"  # not called, or called on something else than the model
    METRIC = "metric"  # the printed number is a literal, or not what the evaluator returned
    SUMMARY = "summary"  # a second block, or output past the log
    FROZEN = "frozen"  # a fixed module is changed, or used beyond what the base uses
    REPLACED = "replaced"  # a function of another module is replaced
    HELD_OUT = "held-out-text"  # named, or read
    TIME = "time"  # budget or clock
    NAMES = "names"  # built at run time
    IMPORTS = "imports"
    FRAMES = "frames"
    MEMORY = "memory"
    PROCESS = "process"
    NETWORK = "network"
    FILES = "files"
    EXIT = "exit"  # code that runs at the end
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the guard found in a program's text."""

    rule: Rule
    line: int
    message: str
    severity: Severity

    def __str__(self) -> str:
        whole = self.severity is Severity.REFUSE  # it is about the program, or names the line itself
        return self.message if whole else f"Line {self.line}: {self.message}"


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
    BEHIND = "behind"  # true, but another lane's was kept meanwhile: it is tried again on that


AGAIN = (Invalidated.TRIED_AGAIN, Invalidated.BEHIND)  # why an edit is proposed again


class RepeatFor(StrEnum):
    """What a repeat is wanted for. The order is that in which they are trained."""

    DOUBT = "doubt"  # a result is in quarantine
    PERSON = "person"  # a command asked for it
    NOISE = "noise"  # how much does the baseline's number vary?
    DRIFT = "drift"  # is the machine slower than it was?
    CERTIFICATION = "certification"
    PRUNE = "prune"  # what does a keep bring?


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
class Certified:
    """By how much a program is better than another, positive for better, and its 95 % interval.

    `repeats` is how often each was trained; of the one that was trained less often.
    """

    gain: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Certification:
    """Head and baseline of a run, by number, trained again by turns: how much of the gain is certain?

    `head` is None until no experiment is under way and it begins; each is then to be trained `pairs` times.
    It ends when all its repeats are over, or at `until`; gain to `repeats` are then as in `Certified`, None
    and 0 where too few have a number.
    """

    id: int
    run_id: int
    pairs: int
    asked_at: float
    until: float | None = None
    asked_by: str = ""
    answered_in: str = ""
    head: int | None = None
    baseline: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    repeats: int = 0

    @property
    def result(self) -> Certified | None:
        if self.gain is None or self.low is None or self.high is None:
            return None
        return Certified(self.gain, self.low, self.high, self.repeats)


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


class Wish(StrEnum):
    """What a person wants of further experiments like one."""

    MORE = "more"
    NEVER = "never"
