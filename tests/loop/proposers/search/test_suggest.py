from __future__ import annotations

import math
import random
import re
import textwrap
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

import pytest

import training
from loop.errors import UserError
from loop.evaluation.noise import Noise
from loop.evidence import Invalidated
from loop.experiment import Experiment, Family, Goal, Proposal, Status
from loop.program.constants import Value, find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, Rejection, SearchMode
from loop.proposers.search.history import TrialResult, read_history
from loop.proposers.search.space import Key, family_of, find_axes, read_program
from loop.proposers.search.suggest import suggest
from notifiers.text.digest import digest
from tests.loop.proposers.contexts import context_of, trial

PROGRAM = textwrap.dedent(
    """
    DEPTH = 8               # layers
    WINDOW_PATTERN = "SSSL"
    TOTAL_BATCH_SIZE = 2**19
    EMBEDDING_LR = 0.6      # größer: schneller
    ADAM_BETAS = (0.8, 0.95)
    USE_BIAS = True
    SEED = 42
    TIME_BUDGET = 300
    """
)

Score: TypeAlias = Callable[[dict[str, Value]], float | None]
Frozen: TypeAlias = frozenset[str]


def values_of(source: str) -> dict[str, Value]:
    return {constant.name: constant.value for constant in find_constants(source)}


def trial_of(number: int, source: str, value: float | None, status: Status | None) -> Experiment:
    return trial(number, "", values_of(source), value, status)


def changed_names(before: str, after: str) -> list[str]:
    old, new = values_of(before), values_of(after)
    return [name for name in old if old[name] != new[name]]


def noise(values: dict[str, Value]) -> float:
    """A score without sense or reason, from 0 to 1."""
    return zlib.crc32(repr(values).encode()) / 2**32


def bowl(values: dict[str, Value]) -> float:
    """Lowest, 0, at a rate of 0.9, a depth of 10 and betas of 0.8 and 0.98."""
    rate, depth, betas = values["EMBEDDING_LR"], values["DEPTH"], values["ADAM_BETAS"]
    assert isinstance(rate, float)
    assert isinstance(depth, int)
    assert isinstance(betas, tuple)
    second = math.log((1 - betas[1]) / 0.02)
    return math.log(rate / 0.9) ** 2 + (depth - 10) ** 2 / 10 + (betas[0] - 0.8) ** 2 + second**2


class Night:
    """A run on `score`: every proposal is trained at once, and kept where it is better."""

    def __init__(
        self,
        source: str,
        score: Score,
        *,
        goal: Goal = Goal.MINIMIZE,
        frozen: Frozen = frozenset(),
        sigma: float | None = None,
        tag: str = "mar12",
    ) -> None:
        self.source = source
        self.sigma = sigma
        self.tag = tag
        self.goal = goal
        self.frozen = frozen
        self.score = score
        self.trials = [trial_of(0, source, score(values_of(source)), Status.KEEP)]

    def context(self) -> Context:
        context = context_of(self.source, *self.trials, goal=self.goal)
        noise = None if self.sigma is None else Noise(self.sigma, 2)
        return replace(context, run=replace(context.run, tag=self.tag), noise=noise)

    def step(self) -> Proposal:
        proposal = suggest(self.context(), self.frozen)
        self.take(proposal)
        return proposal

    def take(self, proposal: Proposal) -> None:
        self.trials.append(self.judge(proposal))
        if self.trials[-1].status is Status.KEEP:
            self.source = proposal.source

    def judge(self, proposal: Proposal) -> Experiment:
        value = self.score(values_of(proposal.source))
        best = [trial.value for trial in self.trials if trial.status is Status.KEEP][-1]
        number = len(self.trials)
        if value is None or best is None:
            return trial_of(number, proposal.source, None, Status.CRASH)
        better = value < best if self.goal is Goal.MINIMIZE else value > best
        verdict = Status.KEEP if better else Status.DISCARD
        return replace(trial_of(number, proposal.source, value, verdict), best_before=best)


def test_a_proposal_changes_a_few_values_and_says_which() -> None:
    proposal = suggest(context_of(PROGRAM, trial_of(0, PROGRAM, 1.0, Status.KEEP)))
    names = changed_names(PROGRAM, proposal.source)
    after = values_of(proposal.source)
    assert len(names) == 1
    assert proposal.source == replace_constants(PROGRAM, {name: after[name] for name in names})
    assert [change.split(maxsplit=1)[0] for change in re.split(", (?=[A-Z])", proposal.description)] == names
    assert proposal.rationale.endswith(".")
    assert (proposal.proposer, proposal.parent) == ("search", "c0ffee")


@pytest.mark.parametrize(
    ("line", "described"),
    [
        ("TOTAL_BATCH_SIZE = 2**19", ["TOTAL_BATCH_SIZE 2**19 → 2**18", "TOTAL_BATCH_SIZE 2**19 → 2**20"]),
        ("USE_BIAS = True", ["USE_BIAS True → False"]),
        ("WARMUP_RATIO = 0.0", [f"WARMUP_RATIO 0.0 → {ratio}" for ratio in (0.02, 0.05, 0.1)]),
        (
            'DEPTH = 2\nWINDOW_PATTERN = "L"\nassert set(WINDOW_PATTERN) <= set("SL")',
            ["WINDOW_PATTERN L → S"],
        ),
        (
            "STEPS_DECAY = (\n  0,  # one\n  -1,\n)",
            [f"STEPS_DECAY (0, -1) → ({n}, -1)" for n in (10, 30, 100)],
        ),
    ],
)
def test_a_change_in_words(line: str, described: list[str]) -> None:
    assert suggest(context_of(line), frozenset({"DEPTH"})).description in described


def test_a_run_goes_on_identically_and_runs_differ() -> None:
    def proposals(tag: str) -> list[str]:
        night = Night(PROGRAM, noise, tag=tag)
        return [night.step().description for _ in range(12)]

    assert proposals("mar12") == proposals("mar12")
    assert len({tuple(proposals(tag)) for tag in ("mar12", "mar13", "mar14")}) == 3


def moved(before: str, after: str) -> list[Key]:
    """The axes that differ."""
    old, new = values_of(before), values_of(after)
    return [axis.key for axis in find_axes(find_constants(before), ()) if axis.read(old) != axis.read(new)]


TEMPLATE = (Path(training.__file__).parent / "train.py").read_text(encoding="utf-8")


def test_first_every_constant_is_tried_alone() -> None:
    # All that a search reads, and faster.
    source = "".join(f"{each.name} = {each.text}\n" for each in find_constants(TEMPLATE))
    night = Night(source, lambda values: 1.0 + noise(values) / 100, sigma=0.0005)
    axes = {axis.key for axis in find_axes(find_constants(source), ())}
    seen = []
    for _ in axes:
        before = night.source
        seen.append(moved(before, night.step().source))
    assert [len(keys) for keys in seen] == [1] * len(axes)
    assert {key for keys in seen for key in keys} == axes


@pytest.mark.parametrize("written", [str.upper, str.lower])
def test_the_first_tries_are_those_of_a_careful_person(written: Callable[[str], str]) -> None:
    source = re.sub(r"^[A-Z_]+", lambda name: written(name[0]), PROGRAM, flags=re.MULTILINE)
    used = f"train({', '.join(re.findall(r'^[A-Za-z_]+', source, re.MULTILINE))})\n"
    night = Night(source + used, lambda values: 1.0, sigma=0.0005)
    found = [night.step().description for _ in range(4)]
    assert found == [
        f"{written('TOTAL_BATCH_SIZE')} 2**19 → 2**18",
        f"{written('DEPTH')} 8 → 9",
        f"{written('EMBEDDING_LR')} 0.6 → 1.0",
        f"{written('ADAM_BETAS')} (0.8, 0.95) → (0.9, 0.95)",
    ]


@pytest.mark.parametrize(
    ("sigma", "mode", "most"),
    [
        (0.0, None, 2),
        (0.0005, None, 2),
        (0.05, None, 8),
        (0.0005, SearchMode.COMBINATION, 4),
        (0.0005, SearchMode.RADICAL, 2),
    ],
)
def test_how_many_constants_change_at_once_follows_the_noise(
    sigma: float, mode: SearchMode | None, most: int
) -> None:
    chance = random.Random(3)
    night = Night(PROGRAM, lambda values: 1.0 + 0.01 * noise(values) + chance.gauss(0.0, sigma), sigma=sigma)
    counts = []
    for _ in range(25):
        before = night.source
        proposal = suggest(replace(night.context(), search_mode=mode))
        counts.append(len(moved(before, proposal.source)))
        night.take(proposal)
    if most == 8:
        assert counts[0] == 4 < max(counts) <= most  # of the first tries, then more
        return
    assert max(counts) == most
    if mode is None:
        assert sum(counts[:20]) / 20 <= 1.75  # 7 of them single, and of the others at most two


def test_first_tries_that_take_memory_do_not_come_together() -> None:
    night = Night("DEPTH = 8\nWIDTH = 512\nEMBEDDING_LR = 0.3\n", lambda values: 1.0, sigma=0.05)
    for expected in ({"DEPTH", "EMBEDDING_LR"}, {"WIDTH"}):
        before = night.source
        assert set(changed_names(before, night.step().source)) == expected


def test_the_digest_of_a_proposal_fits_a_lock_screen_and_shows_it_whole() -> None:
    night = Night(TEMPLATE, lambda values: 1.0, sigma=0.02)
    proposal = suggest(night.context())
    assert proposal.description.count("→") == 4
    decided = replace(
        trial_of(1, proposal.source, 1.0, Status.DISCARD), description=proposal.description, best_before=1.0
    )
    first, *rest = digest(decided, run=night.context().run).text.splitlines()
    assert first.endswith(" and 2 more")
    assert len(first) <= 60
    assert proposal.description in rest


def test_60_proposals_never_repeat_and_never_touch_what_is_not_theirs() -> None:
    frozen = frozenset({"USE_BIAS"})
    night = Night(PROGRAM, noise, frozen=frozen)
    programs = {PROGRAM}
    for _ in range(60):
        before = night.source
        proposal = night.step()
        names = changed_names(before, proposal.source)
        assert 1 <= len(names) <= 4
        assert not {"SEED", "TIME_BUDGET", *frozen} & set(names)
        assert proposal.description.count("→") == len(names)
        assert proposal.source not in programs
        programs.add(proposal.source)


def test_in_the_end_every_change_of_up_to_four_constants_was_tried() -> None:
    night = Night("DEPTH = 1\nUSE_A = True\nUSE_B = True\nUSE_C = True\n", lambda values: 1.0)
    for _ in range(3 * 2**3 - 1):  # all but the program itself
        night.step()
    with pytest.raises(UserError, match="every change of up to 4 constants"):
        night.step()


@pytest.mark.parametrize("goal", list(Goal))
def test_it_descends_a_bowl(goal: Goal) -> None:
    sign = 1 if goal is Goal.MINIMIZE else -1
    night = Night(PROGRAM, lambda values: sign * bowl(values), goal=goal)
    for _ in range(40):
        night.step()
    assert bowl(values_of(night.source)) < bowl(values_of(PROGRAM)) / 10


def test_it_finds_slopes_far_below_the_noise_of_one_training() -> None:
    names = [f"RATE_{letter}" for letter in "ABCDEFGHIJ"]
    source = "".join(f"{name} = 0.5\n" for name in names)
    chance = random.Random(5)

    def true(values: dict[str, Value]) -> float:
        return sum(math.log(float(str(values[name])) / 1.2) ** 2 for name in names)

    night = Night(source, lambda values: true(values) + chance.gauss(0.0, 1.0))
    for _ in range(80):
        night.step()
    # Of one of them the whole is worth 0.77, a step to a neighbour 0.3.
    assert true(values_of(night.source)) < true(values_of(source)) / 2


def test_a_size_that_crashed_is_not_exceeded_and_the_rest_goes_on() -> None:
    def fits(values: dict[str, Value]) -> float | None:
        depth = values["DEPTH"]
        assert isinstance(depth, int)
        return bowl(values) if depth < 9 else None

    night = Night(PROGRAM, fits)
    for _ in range(60):
        night.step()
    crashes = [trial for trial in night.trials if trial.status is Status.CRASH]
    assert len(crashes) <= 4  # 10 and 9, each with another amount and then without
    lowest = bowl({**values_of(PROGRAM), "EMBEDDING_LR": 0.9, "ADAM_BETAS": (0.8, 0.98)})
    assert bowl(values_of(night.source)) < lowest + 0.05


def test_a_single_crash_leaves_smaller_and_other_values_open() -> None:
    source = "DEPTH = 8\n"
    crash = trial_of(1, "DEPTH = 9\n", None, Status.CRASH)
    trials = [trial_of(0, source, 1.0, Status.KEEP), crash]
    proposed = []
    for number in (2, 3):
        proposal = suggest(context_of(source, *trials))
        proposed.append(proposal.description)
        trials.append(trial_of(number, proposal.source, 2.0, Status.DISCARD))
    assert sorted(proposed) == ["DEPTH 8 → 6", "DEPTH 8 → 7"]
    with pytest.raises(UserError):
        suggest(context_of(source, *trials))


def test_amounts_are_to_blame_for_a_crash_together_and_proof_lifts_the_blame() -> None:
    def closed(source: str, *changed: str) -> bool:
        axes = find_axes(find_constants(source), ())
        tried = (*tries, trial_of(2, source, 1.0, Status.KEEP))
        trials = read_history(tried, axes, read_program(source, {}, ()), None)
        values = values_of(changed[0])
        moves = [(axis, value) for axis in axes if (value := axis.read(values)) != axis.current]
        return not trials.is_open([(axis, value) for axis, value in moves if value is not None])

    source = "DEPTH = 8\nHEAD_DIM = 128\nLR = 0.04\n"
    crash = source.replace("8\nH", "9\nH").replace("128", "256").replace("0.04", "0.05")
    tries = (trial_of(0, source, 1.0, Status.KEEP), trial_of(1, crash, None, Status.CRASH))
    assert closed(source, crash)
    assert closed(source, crash.replace("= 9", "= 10").replace("0.05", "0.03"))
    assert not closed(source, crash.replace("256", "128"))
    assert not closed(source, crash.replace("= 9", "= 8"))
    assert not closed(crash, crash.replace("= 9", "= 10"))  # kept since, so it was not that


@pytest.mark.parametrize("status", [None, Status.SKIP, Status.CRASH, Status.DISCARD])
def test_whatever_became_of_a_trial_it_is_not_proposed_again(status: Status | None) -> None:
    source = "USE_BIAS = True\nUSE_GATE = True\n"
    tried = [
        trial_of(1, source.replace("BIAS = True", "BIAS = False"), None, status),
        trial_of(2, source.replace("True", "False"), None, status),
    ]
    proposal = suggest(context_of(source, trial_of(0, source, 1.0, Status.KEEP), *tried))
    assert proposal.description == "USE_GATE True → False"


def test_values_that_came_through_json_or_arithmetic_count_as_tried() -> None:
    source = "BETAS = (0.3, 0.5)\nUSE_BIAS = True\n"
    flipped = trial(1, "", {"USE_BIAS": False, "BETAS": [0.1 + 0.2, 0.5]}, 1.0, Status.DISCARD)
    with pytest.raises(UserError, match="every change of up to"):
        suggest(context_of(source, flipped), frozenset({"BETAS"}))


def test_trials_of_another_version_of_the_program_do_no_harm() -> None:
    odd: list[dict[str, object]] = [
        {},
        {"DEPTH": "eight", "EMBEDDING_LR": None, "ADAM_BETAS": 3, "WINDOW_PATTERN": 7, "USE_BIAS": [1]},
        {"DEPTH": 10**400, "EMBEDDING_LR": -1e300, "ADAM_BETAS": [0.1], "WINDOW_PATTERN": "XYZ"},
        {"GONE": {"a": 1}},
    ]
    trials = [
        trial(number, "", constants, value, status)
        for number, (constants, value, status) in enumerate(
            product(odd, [1.0, math.nan, math.inf, None], [*Status, None])
        )
    ]
    assert 1 <= len(changed_names(PROGRAM, suggest(context_of(PROGRAM, *trials)).source)) <= 4


def test_the_rationale_says_why_and_later_what_to_expect() -> None:
    night = Night(PROGRAM, bowl, sigma=0.001)
    proposals = [night.step() for _ in range(18)]
    assert all("First try" in each.rationale and not each.expected for each in proposals[:7])
    assert all("all 13 results" in each.rationale for each in proposals[12:13])
    assert all(re.fullmatch(r"a (gain|loss) of \d\.\d+ ± \d\.\d+", each.expected) for each in proposals[12:])


def results_of(trials: Sequence[Experiment]) -> Sequence[TrialResult]:
    program = read_program("DEPTH = 8\n", {}, ())
    return read_history(trials, find_axes(program.constants, ()), program, None).results


def test_a_gain_of_code_alone_is_not_put_down_to_constants() -> None:
    trials = [
        trial_of(0, "DEPTH = 8\n", 1.0, Status.KEEP),
        trial_of(1, "DEPTH = 8\n", 0.4, Status.KEEP),  # other code
        trial_of(2, "DEPTH = 8\n", 0.7, Status.DISCARD),  # other code, and no word on constants
        trial_of(3, "DEPTH = 9\n", 0.5, Status.DISCARD),
    ]
    found = [(result.values["DEPTH", -1], result.value) for result in results_of(trials)]
    assert found == [(8, 1.0), (8, 1.0), (9, pytest.approx(1.1))]


def test_nothing_is_learnt_from_a_number_that_is_not_believed() -> None:
    rejected = replace(trial_of(1, "DEPTH = 9\n", 0.1, Status.DISCARD), invalidated=Invalidated.REJECTED)
    trials = [
        trial_of(0, "DEPTH = 8\n", 1.0, Status.KEEP),
        rejected,
        trial_of(2, "DEPTH = 9\n", 0.2, Status.QUARANTINE),
    ]
    assert [result.value for result in results_of(trials)] == [1.0]


def test_a_run_that_asks_for_less_code_gets_a_change_of_constants_as_ever() -> None:
    context = context_of("AUX = 0.1  # weight\nDEPTH = 8\nloss = main + AUX * other\n")
    assert suggest(replace(context, search_mode=SearchMode.SIMPLIFICATION)) == suggest(context)


@pytest.mark.parametrize("status", [Status.KEEP, Status.DISCARD, Status.CRASH])
def test_a_dropped_constant_of_an_older_release_is_read(status: Status) -> None:
    full, less = "AUX = True\nDEPTH = 8\nx = 1 if AUX else 2\n", "DEPTH = 8\nx = 2\n"
    dropped = replace(
        trial_of(1, less, None if status is Status.CRASH else 1.0, status),
        description="drop AUX: no branch",
        family=Family.SIMPLIFICATION,
        program=fingerprint(less),
    )
    now = less if status is Status.KEEP else full
    assert suggest(context_of(now, trial_of(0, full, 1.0, Status.KEEP), dropped)).source not in (less, full)


def test_what_was_refused_in_this_asking_does_not_come_again() -> None:
    context = context_of("USE_A = True\nUSE_B = True\n")
    rejections: tuple[Rejection, ...] = ()
    for _ in range(3):
        proposal = suggest(replace(context, rejections=rejections))
        rejections = (*rejections, Rejection(proposal.description, "It is nothing new."))
    assert {refusal.description for refusal in rejections} == {
        "USE_A True → False",
        "USE_B True → False",
        "USE_A True → False, USE_B True → False",
    }
    with pytest.raises(UserError):
        suggest(replace(context, rejections=rejections))


def test_a_value_that_was_tried_in_another_program_is_new() -> None:
    old, new = "USE_A = True\nprint(1)\n", "USE_A = True\nprint(2)\n"
    flipped = [
        replace(trial_of(number, text, 1.0, Status.DISCARD), program=fingerprint(text))
        for number, text in enumerate((old.replace("True", "False"), new.replace("True", "False")), start=1)
    ]
    assert suggest(context_of(new, flipped[0])).description == "USE_A True → False"
    with pytest.raises(UserError):
        suggest(context_of(new, *flipped))


def test_moves_of_several_families_are_a_combination() -> None:
    night = Night("DEPTH = 8\nEMBEDDING_LR = 0.6\nWARMUP_RATIO = 0.1\n", noise)
    for _ in range(20):
        proposal = night.step()
        names = {change.split()[0] for change in proposal.description.split(", ")}
        families = {family_of(name) for name in names}
        assert proposal.family is (Family.COMBINATION if len(families) > 1 else families.pop())


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("EMBEDDING_LR", Family.OPTIMIZER),
        ("ADAM_BETAS", Family.OPTIMIZER),
        ("MOMENTUM_WARMUP", Family.SCHEDULE),
        ("WARMDOWN_RATIO", Family.SCHEDULE),
        ("WEIGHT_DECAY", Family.REGULARISATION),
        ("TOTAL_BATCH_SIZE", Family.BATCH),
        ("HEAD_DIM", Family.ARCHITECTURE),
        ("QK_SCALE", Family.ARCHITECTURE),
        ("NGRAM_ROWS", Family.ARCHITECTURE),
        ("NGRAM_DECAY", Family.REGULARISATION),
        ("WINDOW_PATTERN", Family.ARCHITECTURE),
        ("WIDGETS", None),
    ],
)
def test_the_family_is_that_of_the_constant(name: str, family: Family | None) -> None:
    value = '"SSSL"' if name == "WINDOW_PATTERN" else "(0.8, 0.9)" if name == "ADAM_BETAS" else "0.5"
    assert suggest(context_of(f"{name} = {value}\n")).family is family


def test_every_constant_of_the_template_has_a_family() -> None:
    axes = find_axes(find_constants(TEMPLATE), ())
    assert [axis.key for axis in axes if family_of(axis.constant.name) is None] == []


def test_a_program_without_constants_is_a_sentence() -> None:
    with pytest.raises(UserError, match="no constant"):
        suggest(context_of("SEED = 42\nprint('hello')\n"))
    with pytest.raises(UserError, match="no constant"):
        suggest(context_of("DEPTH = 8\n"), frozenset({"DEPTH"}))


def test_invalid_python_is_a_sentence() -> None:
    with pytest.raises(UserError, match="line 1"):
        suggest(context_of("DEPTH = ("))
