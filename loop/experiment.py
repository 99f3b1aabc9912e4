"""The words of the loop as data: run, experiment, proposal, outcome, verdict, event.

All are frozen values. Times are seconds since the epoch (UTC); memory in GiB where the name says ``gb``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from loop.evidence import Finding, Invalidated


class RunState(StrEnum):
    """What a run is doing, as a person ordered it."""

    RUNNING = "running"
    PAUSING = "pausing"  # the running experiment is finished first
    PAUSED = "paused"
    DONE = "done"  # it has made the experiments it was asked for
    STOPPED = "stopped"  # for good; its branch and results stay


class Actor(StrEnum):
    """Who changed the state of a run."""

    PERSON = "person"
    HEARTBEAT = "heartbeat"  # lifts its own pauses, and no others
    BUDGET = "budget"  # no money for models is left
    STARTUP = "startup"  # the bot was started for another repository
    LOOP = "loop"  # the run itself: it is done, or cannot go on


class Cause(StrEnum):
    """What keeps a run from training, what a person is called for, or what people are notified of once.

    A call is open until an event ends it (`loop/store/events.py`). Run, cause and key (a folder, a setting, a
    model) say which it is.
    """

    # The machine is not fit for a training
    STATE_FILE = "state_file"
    DISK = "disk"  # facts: folder, free
    GPU_GONE = "gpu_gone"
    GPU_FULL = "gpu_full"
    NODE = "node"  # of a cluster; facts: error
    # The heartbeat calls a person, and says when it is over
    DISK_SHORT = "disk_short"  # not yet too full for a training
    LOOP = "loop"  # it keeps ending
    NO_PROPOSAL = "no_proposal"
    # The run calls a person
    BASELINE = "baseline"  # it crashed
    BRANCH = "branch"  # a hand moved it; facts: error
    CRASHES = "crashes"  # many in a row
    VANISHED = "vanished"  # a training, again and again
    QUARANTINE = "quarantine"  # a result waits to be accepted or rejected; key: its number
    # What has states, each reported once
    PROPOSER = "proposer"  # can a model be asked? key: its name
    PRICE = "price"  # of a model; key: its name
    BUDGET = "budget"  # key: the setting
    REPOSITORY = "repository"  # another one is set
    STUCK = "stuck"
    CERTIFICATION = "certification"  # too long for the night; state: the wake-up


class Stage(StrEnum):
    """How far an experiment has come. The journal learns of a proposal together with its commit."""

    PROPOSED = "proposed"
    COMMITTED = "committed"
    TRAINING = "training"
    MEASURED = "measured"
    EVALUATED = "evaluated"  # what a verdict needs beside the number is known
    DECIDED = "decided"


class Status(StrEnum):
    """The verdict on an experiment, or `SKIP` where a person ended it before there could be one."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    SKIP = "skip"
    QUARANTINE = "quarantine"  # better than the head, but not believed yet: it is no head


class Ending(StrEnum):
    """How a training process came to its end."""

    EXITED = "exited"  # by itself, well or badly
    DEADLINE = "deadline"  # killed: still running at its deadline
    STALLED = "stalled"  # killed: silent and idle for too long
    LIMIT = "limit"  # killed: it used more than a training may
    INTERRUPTED = "interrupted"  # ended on a person's order; says nothing about the experiment
    VANISHED = "vanished"  # gone without an outcome: the machine or its supervisor died


class Limit(StrEnum):
    FILE_SIZE = "file_size"  # of one file, in bytes as what follows
    MEMORY = "memory"
    DISK_LEFT = "disk_left"  # still free
    PROCESSES = "processes"  # a count


class Purpose(StrEnum):
    """What a training is for."""

    VERDICT = "verdict"
    REPEAT = "repeat"  # of an experiment that has its verdict: how sure is its number?


class Goal(StrEnum):
    """Which direction of the metric is better; `sign` is what a fall of it counts as a gain."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        return 1 if self is Goal.MINIMIZE else -1


class Family(StrEnum):
    """What kind of change a proposal makes."""

    ARCHITECTURE = "architecture"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    REGULARISATION = "regularisation"
    DATA_ORDER = "data order"
    BATCH = "batch"
    PRECISION = "precision"
    SIMPLIFICATION = "simplification"
    COMBINATION = "combination"  # of earlier ideas that nearly helped


@dataclass(frozen=True, slots=True)
class Cost:
    """What was asked of a model, and its price; `dollars` is None where that is unknown.

    `input_tokens` counts all tokens read, `cached_tokens` those of them that the provider had in its cache.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Cost) -> Cost:
        known = [cost.dollars for cost in (self, other) if cost.dollars is not None]
        return Cost(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            sum(known) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """An edit of the editable file: its whole new text, and why.

    `expected` is the effect that its proposer hopes for, `parent` the commit whose file the text was written
    against. `idea` is the person's idea that it is made of, `repairs` the crashed experiment that it repairs,
    `retry` the request to try an earlier edit again, and `without` the kept experiment that it leaves out to
    measure it, if any. `cost` is None where no model was asked.
    """

    source: str
    description: str
    rationale: str = ""
    proposer: str = ""
    parent: str = ""
    idea: int | None = None
    expected: str = ""
    family: Family | None = None
    repairs: int | None = None
    cost: Cost | None = None
    findings: tuple[Finding, ...] = ()
    retry: int | None = None
    without: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training process left behind.

    `numbers` is the summary block (`val_bpb`, …) as printed, also NaN. `exit_code` is negative for a signal,
    None if unknown. `error` is the last telling line of a failed training's log; of a killed one only an
    exception is. `seconds` is how long it ran by a clock that nobody sets, `cpu_seconds` what its processes
    computed; None if not measured. `measured` and `allowed` are of the `limit` that ended it.
    """

    ending: Ending
    exit_code: int | None
    started_at: float
    ended_at: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    limit: Limit | None = None
    measured: int = 0
    allowed: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """Who changed a run's state, and why. It holds no sentence: `notifiers/text/words.py` makes one of it.

    `facts` are what it says of the cause; the others are as in `Asker`, `EVERYWHERE` for all channels.
    """

    by: Actor
    name: str = ""
    cause: Cause | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    answered_in: str = ""


EVERYWHERE = "*"
BY_COMMAND = Reason(Actor.PERSON)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for something, and the channel that has the answer; both empty where the loop did."""

    name: str = ""
    answered_in: str = ""


UNASKED = Asker()


@dataclass(frozen=True, slots=True)
class Run:
    """One line of research on branch `autoresearch/<tag>`.

    The tag can change (`/retag`); the id, `metric`, `goal` and `time_budget` never do. Until git has
    followed, `renamed_from` is the old tag, `moves_head_from` the head before a verdict was taken back.
    `state_by` is None until the state is changed; it and what follows it make up `reason`.
    """

    id: int
    tag: str
    repository: Path
    base_branch: str
    base_commit: str
    metric: str
    goal: Goal
    time_budget: float
    state: RunState
    created_at: float
    renamed_from: str = ""
    moves_head_from: str = ""
    state_by: Actor | None = None
    state_name: str = ""
    state_cause: Cause | None = None
    state_facts: Mapping[str, object] = field(default_factory=dict)
    lanes: tuple[int, ...] = ()  # of the machine that it may use; empty: all

    @property
    def branch(self) -> str:
        """The git branch whose head is the last kept commit."""
        return f"autoresearch/{self.tag}"

    @property
    def reason(self) -> Reason | None:
        if self.state_by is None:
            return None
        return Reason(self.state_by, self.state_name, self.state_cause, self.state_facts)

    @property
    def is_paused(self) -> bool:
        """Whether it is paused, or will be after the experiment under way."""
        return self.state in (RunState.PAUSING, RunState.PAUSED)


@dataclass(frozen=True, slots=True)
class Training:
    """One execution of an experiment's program.

    `k` counts from 1; 0 is one that was made before the bot. `ending` is None while it is under way, which
    the process `supervisor_pid`, begun at `supervisor_started`, sees to. The rest is as in `Outcome`.
    """

    k: int
    purpose: Purpose = Purpose.VERDICT
    device: str = ""
    supervisor_pid: int | None = None
    supervisor_started: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    exit_code: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One edit and its verdict. Number 0 is the baseline.

    `training` is what decides it, or the last so far. `value` is the run's metric, None until decided and for
    a crash; `best_before` is the best at that moment. `program` is the fingerprint of the editable file,
    whatever its layout and comments. `waited` is how many seconds nothing trained because this proposal was
    not ready. `reason` is that of the verdict, empty where the numbers say all. `doubts` are why it is not
    believed, `invalidated` why its number counts for nothing. The rest is as in `Proposal`.
    """

    run_id: int
    number: int
    stage: Stage
    description: str
    rationale: str
    proposer: str
    parent: str
    commit: str = ""
    lane: int = 0
    constants: Mapping[str, object] = field(default_factory=dict)
    lines_added: int = 0
    lines_removed: int = 0
    training: Training | None = None
    skip_requested: bool = False
    proposed_at: float = 0.0
    decided_at: float | None = None
    value: float | None = None
    best_before: float | None = None
    status: Status | None = None
    reason: str = ""
    idea: int | None = None
    expected: str = ""
    family: Family | None = None
    repairs: int | None = None
    cost: Cost | None = None
    program: str = ""
    waited: float = 0.0
    findings: tuple[Finding, ...] = ()
    retry: int | None = None
    without: int | None = None
    doubts: tuple[str, ...] = ()
    invalidated: Invalidated | None = None

    @property
    def last_training(self) -> Training:
        return self.training or Training(0)

    @property
    def attempt(self) -> int:
        """How many trainings its verdict took so far."""
        return self.last_training.k

    @property
    def started_at(self) -> float | None:
        return self.last_training.started_at

    @property
    def ended_at(self) -> float | None:
        return self.last_training.ended_at

    @property
    def ending(self) -> Ending | None:
        return self.last_training.ending

    @property
    def exit_code(self) -> int | None:
        return self.last_training.exit_code

    @property
    def numbers(self) -> Mapping[str, float]:
        return self.last_training.numbers

    @property
    def error(self) -> str:
        return self.last_training.error

    @property
    def cause(self) -> str:
        """What says best why it crashed: its error, unless it was killed from outside or had none."""
        killed = self.ending in (Ending.DEADLINE, Ending.STALLED)
        return self.reason if killed or self.exit_code == 0 else self.error or self.reason

    @property
    def is_believed(self) -> bool:
        """Whether its number says something about its edit."""
        return self.status is not Status.QUARANTINE and self.invalidated is None

    @property
    def memory_gb(self) -> float:
        """Peak accelerator memory in GiB; 0.0 where the training reported none."""
        return self.numbers.get("peak_vram_mb", 0.0) / 1024

    @property
    def training_seconds(self) -> float | None:
        return self.numbers.get("training_seconds")


class EventKind(StrEnum):
    """What happened, with its change; data of commands: `answered_in`, the channel that has the answer."""

    RUN_STARTED = "run_started"
    RUN_STATE = "run_state"  # data: state, and a `Reason`; in events of older releases a sentence, reason
    RUN_RETAGGED = "run_retagged"  # data: old, new
    RUN_RECOVERED = "run_recovered"  # data: reason
    NEEDS_ATTENTION = "needs_attention"  # data: cause, key, reason; halted where nothing goes on until then
    REMINDED = "reminded"  # once, of a call that is still open; data: cause, key, reason
    RESOLVED = "resolved"  # what a person was called for is over; data: cause, key
    NOTED = "noted"  # data: reason; cause, key, state if any; halted where the run pauses
    RESTED = "rested"  # the same once more, without a message
    WAKE_UP = "wake_up"  # the report of the night is due; data: since
    PROPOSED = "proposed"
    COMMITTED = "committed"
    TRAINING = "training"
    INTERRUPTED = "interrupted"  # the training will be run again; data: reason
    SKIP_REQUESTED = "skip_requested"
    MEASURED = "measured"
    EVALUATED = "evaluated"
    DECIDED = "decided"  # data: noise, the sigma and repeats of it that were known, if any
    ACCEPTED = "accepted"  # a result in quarantine, by a person; data: name, answered_in, retried
    REJECTED = "rejected"  # a result, by a person; data: name, answered_in, retried: numbers built on it
    WISHED = "wished"  # of experiments like this one; data: wish, None for one taken back, name, answered_in
    REPEAT_ASKED = "repeat_asked"  # data: why, times, name, answered_in
    REPEAT_TRAINING = "repeat_training"  # data: why, k, seed, lane
    REPEAT_PUT_BACK = "repeat_put_back"  # it will be trained again; data: why, reason, vanished, lane
    REPEATED = "repeated"  # data: why, k, seed, lane, value, and what its message says
    REPEAT_GIVEN_UP = "repeat_given_up"  # data: why, reason; k, lane if it trained; quiet if people know
    CERTIFYING = "certifying"  # asked for; data: certification, name, answered_in
    PRUNING = "pruning"  # asked for; data: prune, name, answered_in
    PRUNED = "pruned"  # over; data: prune, head, own, removable, unmeasured, reason
    CERTIFIED = "certified"  # over; data: certification, head, baseline, recorded, reason; as in `Certified`


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal's history; notifiers read with a cursor on `id`."""

    id: int
    at: float
    run_id: int
    number: int | None
    kind: EventKind
    data: Mapping[str, object]
