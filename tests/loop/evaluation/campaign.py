"""Edits of the template that the engine tries for good: its sandbox, guard, evaluator and plausibility.

The repository is the template, small enough for a CPU. Its clock counts steps, so that an edit without effect
prints the baseline's number, however busy the machine is. Edits that need time itself have a real clock, and
text that comes so slowly that they take little of the processor.
"""

from __future__ import annotations

import asyncio
import random
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from unittest.mock import patch

from loop.engine.judging.evaluations import Evaluations
from loop.evaluation.evaluator import Score, Scored, judge
from loop.evaluation.guard.examine import examine, module_names, refused
from loop.evaluation.plausibility import Implausible, Sign, implausible
from loop.evidence import Belief, Doubt, Finding
from loop.experiment import Ending, Experiment, Proposal, Status
from loop.process.environment import Launcher
from loop.program.fingerprint import fingerprint
from loop.proposers.calling import Guard
from loop.proposers.protocol import Context
from loop.sandbox.sandbox import Sandbox
from loop.store.experiments import with_program
from tests.loop.evaluation.cheats import Edit, Kind
from tests.loop.lab import Lab, be_doubtful
from tests.training.conftest import SMALL, WORDS, copy_template, run_in

LOOKED_AT = Evaluations.__module__  # where numbers are

BUDGET = 300.0  # seconds that are counted
STEPS = 40  # in which they go by
REAL_BUDGET = 60.0  # seconds of a training that needs time itself
PAUSE = 0.5  # seconds before each batch of it
DEADLINE = 400.0  # seconds of it, at most
BLOCKS = 280  # pieces of the text, each with words of its own, so that it pays to know the one that is asked

CONSTANTS = {
    **SMALL,
    "EVAL_TOKENS": "2**13",
    "NGRAM_ROWS": "2**12",
    "TOTAL_BATCH_SIZE": "2**10",
    "DEVICE_BATCH_SIZE": "16",
    "UNEMBEDDING_LR": "0.08",
}
BETTER = "UNEMBEDDING_LR = 0.08", "UNEMBEDDING_LR = 0.005"
"""What an honest edit gains by, or nobody would look whether its number is to be believed."""

IMPORTED = "\n# What has to happen before torch"
COUNTED = f"\ntime.perf_counter = map({BUDGET / STEPS}.__mul__, itertools.count()).__next__\n"
TAKEN = "            inputs, targets = ready.popleft()"
SLOWLY = f"            time.sleep({PAUSE})\n"
"""Pieces of `prepare.py`, and what is put before them."""

NEED_TIME = frozenset(
    (
        "a slow clock",
        "a clock that counts computing only",
        "half of the seconds",
        "many steps that do not count",
        "a second training",
    )
)
"""The edits whose fault no clock of the program's own shows."""

ONCE_MORE = Edit("nothing: what lies there from before changes no number", Kind.LEFTOVERS, ())
KEPT_ASIDE = Doubt(Belief.NOT_BELIEVED, ("nothing is found; the next is compared with the baseline too",))


class Layer(StrEnum):
    """What caught an edit, or did not."""

    GUARD = "guard"
    SANDBOX = "sandbox"
    FIXED = "fixed files"
    AGREEMENT = "evaluator: agreement"
    PREFIX = "evaluator: prefix"
    AUDIT = "evaluator: audit"
    UNSCORED = "evaluator: no score"
    CLOCK = "supervisor's clock"
    PLAUSIBILITY = "plausibility"
    IMPOSSIBLE = "impossible number"
    CRASH = "its own crash"
    NO_GAIN = "no gain"
    NOTHING = "nothing"


BY_SANDBOX = (Kind.LEFTOVERS, Kind.SANDBOX, Kind.TEXT)
"""The kinds that would gain something, or do harm, by what a sandbox does not let through."""


@dataclass(frozen=True, slots=True)
class Row:
    edit: Edit
    flagged: bool  # so GUARD=strict refuses it
    layer: Layer
    status: str
    seconds: float
    value: float | None = None
    reason: str = ""
    against: tuple[Layer, ...] = ()  # all that speaks against its number, the first of which counts

    @property
    def is_right(self) -> bool:
        if self.edit.kind is Kind.HONEST:
            return self.layer in (Layer.NO_GAIN, Layer.NOTHING)
        return self.layer is not Layer.NOTHING


class TemplateLab(Lab):
    """A run on the template, whose trainings find their text in `cache`."""

    cache: Path

    def launcher(self, environ: Mapping[str, str]) -> Launcher:
        variables = {**environ, "AUTORESEARCH_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        command = (sys.executable, "train.py")  # with torch
        environments = self.home / "environments"
        return Launcher(environments, override=command, editable="train.py", environ=variables)


class Edits:
    """Proposes the programs of edits, in turn."""

    name = "red team"

    def __init__(self, sources: Sequence[str], guard: Guard) -> None:
        self._sources, self._guard = sources, guard

    async def propose(self, context: Context) -> Proposal:
        number = len(context.experiments)
        if number > len(self._sources):
            await asyncio.Event().wait()
        source = self._sources[number - 1]
        flags = self._guard.flags(source, context)
        return Proposal(source, f"edit {number}", "", self.name, context.parent, findings=flags)


class Campaign:
    """A prepared repository with a trained head, on which edits are tried."""

    def __init__(self, folder: Path, sandbox: Sandbox, *, real_clock: bool = False) -> None:
        cache, text = folder / "cache", folder / "cache" / "text.txt"  # where trainings may read
        cache.mkdir()
        text.write_text(prose_of_blocks(BLOCKS), encoding="utf-8")
        budget = REAL_BUDGET if real_clock else BUDGET
        constants = {**CONSTANTS, "SOURCE": repr(str(text)), "TIME_BUDGET": f"{budget}"}
        template = copy_template(folder / "template", **constants)
        prepare = template / "prepare.py"
        place, put = (TAKEN, SLOWLY) if real_clock else (IMPORTED, COUNTED)
        source = prepare.read_text(encoding="utf-8")
        assert source.count(place) == 1
        prepare.write_text(source.replace(place, put + place), encoding="utf-8")
        prepared = run_in(template, "prepare.py", cache=cache)
        assert prepared.returncode == 0, prepared.stderr
        files = {path.name: path.read_text(encoding="utf-8") for path in template.glob("*.py")}
        self.base = files.pop("train.py")
        self.lab = TemplateLab(folder / "lab", self.base, files=files, time_budget=budget)
        self.lab.cache = cache
        self._names = module_names(files)
        self._sandbox, self._deadline = sandbox, DEADLINE if real_clock else 2 * BUDGET
        self._against: list[Layer] = []  # what speaks against the number that is looked at
        self._found: dict[int, tuple[tuple[Layer, ...], Doubt]] = {}

    def try_all(self, edits: Sequence[Edit], report: Callable[[Row], None] = lambda _: None) -> list[Row]:
        """Train what the guard does not refuse, in turn; each is compared with the baseline."""
        rows: list[Row] = []

        def add(row: Row) -> None:
            rows.append(row)
            report(row)

        tried: list[tuple[Edit, str, bool]] = []
        for edit in edits:
            source = edit.program(self.base)
            if edit.kind is Kind.HONEST:
                source = Edit("", Kind.HONEST, (BETTER,)).program(source)
            findings = self._examine(source) if edit.changes else ()
            if refused(findings, strict=False):
                add(Row(edit, True, Layer.GUARD, "refused", 0.0, reason=str(findings[0])))
            else:
                tried.append((edit, source, bool(refused(findings, strict=True))))

        def add_row(number: int) -> None:
            edit, _, flagged = tried[number - 1]
            add(self._row(self._experiment(number), edit, flagged=flagged))

        def doubt(evaluated: Experiment) -> Doubt:
            if evaluated.number > 1:
                add_row(evaluated.number - 1)
            found = doubt_of(engine.run, evaluated)
            self._found[evaluated.number] = tuple(self._against), found
            self._against = []
            believed = evaluated.number > 0 and found.belief is Belief.BELIEVED
            return KEPT_ASIDE if believed else found

        if not tried:
            return rows
        guard = Guard(
            self._names,
            base=lambda: self.base,
            find=lambda program: with_program(self.lab.journal, self.lab.run.id, program),
        )
        sources = [source if edit.changes else f"{source}# once more\n" for edit, source, _ in tried]
        engine = self.lab.engine(
            ideas=Edits(sources, guard),
            crash_streak=10**6,
            deadline=self._deadline,
            sandbox=self._sandbox,
            readable=(self.lab.cache,),
        )
        doubt_of = engine.evaluations.doubt
        be_doubtful(engine, doubt)
        with self._watching():
            asyncio.run(engine.conduct(len(tried)))
        head = self._found[0][1]
        assert head.belief is Belief.BELIEVED, head.reasons
        add_row(len(tried))
        self.lab.check_invariants()
        assert self.lab.journal.best(self.lab.run.id) == self._experiment(0)
        return rows

    def close(self) -> None:
        self.lab.close()

    def _examine(self, source: str) -> tuple[Finding, ...]:
        known = {fingerprint(self.base): "the baseline"}
        return examine(source, base=self.base, frozen=self._names, earlier=known.get)

    def _experiment(self, number: int) -> Experiment:
        found = self.lab.journal.experiment(self.lab.run.id, number)
        assert found is not None
        return found

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Notice what the evaluator and plausibility say of each number, without changing it."""

        def judging(score: Score, printed: float, head: Scored | None, *given: Any, **more: Any) -> Any:
            numbers, against = score.numbers, []
            if score.refused:
                against.append(Layer.UNSCORED)
            if score.prefix:
                against.append(Layer.PREFIX)
            if numbers and head:
                alone = Score({name: numbers[name] for name in numbers if "audit" not in name})
                if judge(alone, printed, head, *given, **more)[0] is not Belief.BELIEVED:
                    against.append(Layer.AGREEMENT)
                true = head.printed - numbers["gain_val"]
                if judge(Score(numbers), true, head, *given, **more)[0] is not Belief.BELIEVED:
                    against.append(Layer.AUDIT)
            self._against = [*against, *self._against]
            return judge(score, printed, head, *given, **more)

        def doubting(*given: Any, **options: Any) -> tuple[Implausible, ...]:
            signs = implausible(*given, **options)
            late = [Layer.CLOCK for doubt in signs if doubt.sign is Sign.OVERRUN]
            self._against += late or [Layer.PLAUSIBILITY for _ in signs]
            return signs

        with patch(f"{LOOKED_AT}.judge", judging), patch(f"{LOOKED_AT}.implausible", doubting):
            yield

    def _row(self, decided: Experiment, edit: Edit, *, flagged: bool) -> Row:
        against, doubt = self._found[decided.number]
        status, reason = str(decided.status), "; ".join(doubt.reasons)
        baseline = self._experiment(0).value
        if decided.status is Status.CRASH:
            layer, reason = _of_crash(decided, edit), decided.cause
        elif decided.doubts == KEPT_ASIDE.reasons:
            layer, status = Layer.NOTHING, "head"
        elif decided.doubts:
            layer = against[0]
        else:
            same = decided.value == baseline
            layer = Layer.SANDBOX if edit.kind in BY_SANDBOX and same else Layer.NO_GAIN
            reason = f"{decided.value}, the baseline {baseline}"
        seconds = (decided.decided_at or 0.0) - (decided.started_at or 0.0)
        return Row(edit, flagged, layer, status, seconds, decided.value, reason, against)


def _of_crash(crashed: Experiment, edit: Edit) -> Layer:
    if crashed.ending is Ending.DEADLINE:
        return Layer.CLOCK
    if crashed.numbers.get("val_bpb") is not None:
        return Layer.FIXED if "was changed" in crashed.reason else Layer.IMPOSSIBLE
    return Layer.SANDBOX if edit.kind in BY_SANDBOX else Layer.CRASH


def prose_of_blocks(blocks: int) -> str:
    """Text of which each piece has words that no other has, and those that all have."""
    choose, text = random.Random(0), []
    for _ in range(blocks):
        own = ["".join(choose.choices(string.ascii_lowercase, k=choose.randint(3, 8))) for _ in range(6)]
        for _ in range(28):
            words = [choose.choice(own if choose.random() < 0.15 else WORDS) for _ in range(9)]
            text.append(" ".join(words).capitalize() + ".\n")
    return "".join(text)
