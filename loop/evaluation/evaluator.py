"""The repository's evaluator: a program that scores a trained model apart from what trained it.

`EVALUATE`, or `evaluate.py` where the repository has one, is called three ways: `describe` says what no
training may see, `model` answers for the model of a training, in a sandbox, and `score` asks it, or two that
know nothing of each other. These run at the same time. `judge` makes a verdict of their numbers.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loop.errors import UserError
from loop.evaluation.noise import Noise
from loop.evidence import Belief
from loop.experiment import Goal
from loop.gain import number
from loop.git.repository import EVALUATOR, has_evaluator
from loop.logs.error_line import error_line
from loop.process.environment import Launch, interpreter_of
from loop.process.programs import Program, Result, run_together
from loop.process.together import EXCHANGE, SECOND
from loop.process.trainer import Limits
from loop.text import one_line, without_secrets

MODEL = "model.pt"  # what a training leaves for the evaluator, in its folder
NONE = ("none",)  # EVALUATE that switches it off

DESCRIBE_SECONDS = 300.0  # it reads all data once, which may be 50 GB
SCORE_SECONDS = 360.0  # the template's gives up after 300
MOST_JSON = 2**20  # bytes
MOST_PATHS = 1000
_REASON = 300  # characters of what a repository's program says
_PYTHONS = ("python", "python3")

# When a number is believed
TOLERANCE = 0.0005  # of the number: rounding in bfloat16 or float16, and kernels that add in another order
STANDARD_ERRORS = 3.0
AUDIT_SHARE = 0.25  # of a gain must show on the audit text


@dataclass(frozen=True, slots=True)
class Description:
    """What the evaluator says of itself: paths that no training may see, and what its audit text is.

    `damaged` says which data is not what was prepared, and how to repair it; empty where all is well. It asks
    one or two `models`.
    """

    hidden: tuple[Path, ...] = ()
    audit: str = ""
    damaged: str = ""
    models: int = 1


@dataclass(frozen=True, slots=True)
class Score:
    """What was found of a model: `refused` says why it has no numbers, `prefix` where it looks ahead."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    prefix: str = ""
    refused: str = ""


NO_MODEL = Score(refused=f"the program saves no {MODEL} in its current folder at its end")


@dataclass(frozen=True, slots=True)
class Scored:
    """The head: the number it printed, and those that were found of it."""

    printed: float
    numbers: Mapping[str, float]


def command_of(
    setting: tuple[str, ...], launch: Launch, environ: Mapping[str, str], project: Path, editable: str
) -> tuple[str, ...]:
    """Return how the evaluator is called, with the Python that trains. An empty `setting` is the usual one.

    Raises:
        UserError: EVALUATE names a file that is not in the repository.
    """
    words = setting or (_PYTHONS[0], EVALUATOR)
    for word in words:
        if word.endswith(".py") and not os.path.isfile(project / word):  # noqa: PTH113 - never raises
            raise UserError(f"EVALUATE: there is no {word} in the repository. Correct it in .env.")
    if words[0] not in _PYTHONS:
        return words
    found = shutil.which(launch.argv[0], path=launch.environment.get("PATH") or environ.get("PATH"))
    python = interpreter_of(Path(found)) if found else None
    if python is not None:
        return (str(python), *words[1:])
    if editable in launch.argv:  # such as `uv run train.py`
        return (*launch.argv[: launch.argv.index(editable)], *words[1:])
    return (sys.executable, *words[1:])


def evaluator_of(setting: tuple[str, ...], repository: Path, commit: str) -> str:
    """Return the name of the evaluator that a commit has by the setting EVALUATE; empty for none."""
    if setting == NONE or not (setting or has_evaluator(repository, commit)):
        return ""
    return _name_of(setting or (EVALUATOR,))


def _name_of(command: tuple[str, ...]) -> str:
    return next((word for word in command if word.endswith(".py")), command[-1])


class Evaluator:
    """Runs the evaluator of one run. `folder` has the files of its base commit, `environ` are the variables.

    What it starts ends with the call, also when that is cancelled, and with the bot.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        folder: Path,
        environ: Mapping[str, str],
        limits: Limits | None = None,
        seconds: float = SCORE_SECONDS,
    ) -> None:
        self.command = command
        self._folder = folder
        self._environ = environ
        self._limits = limits or Limits()
        self._seconds = seconds

    @property
    def name(self) -> str:
        return _name_of(self.command)

    @property
    def model_command(self) -> tuple[str, ...]:
        """What answers for the model, to be wrapped in the sandbox of its training."""
        return (*self.command, "model", "--exchange", EXCHANGE)

    async def describe(self) -> Description:
        """Ask what no training may see, and whether the data is whole.

        Raises:
            UserError: it does not answer.
        """
        program = Program((*self.command, "describe"), self._folder, self._environ)
        result = await run_together([program], DESCRIBE_SECONDS, self._limits)
        found = _read_json(result.printed)
        match found:
            case {"hidden": list(hidden), "audit": str(audit), "damaged": str(damaged), **more} if (
                result.exit_codes == (0,) and len(hidden) <= MOST_PATHS
            ):
                paths = tuple(Path(path) for path in hidden if isinstance(path, str))
                if len(paths) == len(hidden) and all(path.is_absolute() for path in paths):
                    models = 2 if more.get("models") == 2 else 1
                    return Description(paths, one_line(audit, _REASON), one_line(damaged, _REASON), models)
        why = _why_failed(result, 0) or "its answer is not what an evaluator says"
        raise UserError(f"{self.name} describe: {why}. Correct it, or set EVALUATE=none to go without.")

    async def score(self, models: list[Program], *, out: Path, head: Path | None, mark: str) -> Score:
        """Score the model that `models` answer for; its losses are in `out` then, to be the next `head`.

        Data that has changed since the run began is said in place of a score.

        Raises:
            UserError: the evaluator does not answer.
            OSError: the disk is full, or this machine can start no process.
        """
        # Not one after the other: describing reads all data.
        score, description = await asyncio.gather(self._score(models, out, head, mark), self.describe())
        return replace(score, refused=description.damaged or score.refused)

    async def _score(self, models: list[Program], out: Path, head: Path | None, mark: str) -> Score:
        answer = out.with_name(f"{out.name}.json")
        answer.unlink(missing_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        options = ["--exchange", EXCHANGE, *(["--second", SECOND] if len(models) > 1 else [])]
        options += ["--out", str(out), "--seed", str(secrets.randbelow(2**31))]
        options += ["--head", str(head)] if head else []
        scorer = Program((*self.command, "score", *options), self._folder, self._environ)
        result = await run_together([scorer, *models], self._seconds, self._limits, mark=mark)
        try:
            with answer.open("rb") as file:
                text = file.read(MOST_JSON + 1).decode(errors="replace")
            answer.unlink()
        except OSError:
            text = ""
        score = _score_of(_read_json(text) if result.exit_codes[0] == 0 else None)
        if result.ending == "exited" and score is not None and not score.refused:
            return score
        # What became of a model's process says more than what the scorer saw of it.
        killed = [place for place, code in enumerate(result.exit_codes) if place and _killed(code)]
        died = _why_failed(result, killed[0]) if killed else ""
        said = score.refused if score and result.ending == "exited" else _why_failed(result, 0)
        return Score(refused=_clause(died or said or f"{self.name} score wrote no numbers"))


def _killed(code: int | None) -> bool:
    """Tell whether a signal ended it; bwrap reports signal n as 128 + n."""
    return code is not None and (code < 0 or code > 128)


def _why_failed(result: Result, place: int) -> str:
    """Say what became of a program; empty where it ended well."""
    which = ("the model's process" if place else "the scorer") if len(result.said) > 1 else "it"
    match result.ending:
        case "deadline":
            return "the evaluation took too long and was killed"
        case "memory":
            return "the evaluation used more memory than there is, and was killed"
        case "processes":
            return "the evaluation started too many processes, and was killed"
    code = result.exit_codes[place]
    if _killed(code):
        return f"{which} was killed, as when memory runs out"
    line = error_line(without_secrets(result.said[place]))
    if code == 0:
        return ""
    return line.removeprefix("error: ").rstrip(".") or f"{which} ended with exit status {code}"


def _read_json(text: str) -> dict[str, Any] | None:
    if len(text) > MOST_JSON:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _score_of(found: dict[str, Any] | None) -> Score | None:
    """Read the file of a scorer; None where it is none, or has a number that is none."""
    if found is None or not all(isinstance(found.get(name), str) for name in ("prefix", "refused")):
        return None
    numbers = {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not all(map(math.isfinite, numbers.values())):
        return None
    return Score(numbers, _clause(found["prefix"]), _clause(found["refused"]))


def _clause(sentence: str) -> str:
    """Return a sentence as it stands within another one."""
    text = one_line(sentence, _REASON).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


# The verdict


def judge(
    score: Score,
    printed: float,
    head: Scored | None,
    noise: Noise | None,
    *,
    metric: str = "val_bpb",
    goal: Goal = Goal.MINIMIZE,
) -> tuple[Belief, str]:
    """Say whether the number that a program printed is its model's, and what speaks against it.

    Its gain on the head must be what was found, within three standard errors and what rounding makes of it;
    without a head, and where that of the head is, the number itself. A gain must show on the audit text too:
    where less than a quarter of it does, beyond chance, the model has learnt the validation text. Training
    noise is not in the standard errors, so one sigma of it is allowed for.
    """
    if score.refused:
        return Belief.UNSURE, f"its model could not be scored: {score.refused}"
    if score.prefix:
        return Belief.NOT_BELIEVED, score.prefix
    found = score.numbers.get(metric)
    if found is None:
        return Belief.UNSURE, f"the evaluation found no {metric}"
    if against := _disagreement(score, printed, head, found, metric, goal):
        return Belief.NOT_BELIEVED, against
    if against := _only_on_validation(score.numbers, noise, printed):
        return Belief.NOT_BELIEVED, against
    return Belief.BELIEVED, ""


def _disagreement(
    score: Score, printed: float, head: Scored | None, found: float, metric: str, goal: Goal
) -> str:
    numbers = score.numbers
    before = head.numbers.get(metric) if head else None
    alone = _is_off(printed, found, numbers, f"{metric}_se")
    off = f"it printed {metric} {number(printed)}, but its model has {number(found, printed)}"
    if head is None or before is None:
        return off if alone else ""
    claimed = goal.sign * (head.printed - printed)
    gained = numbers.get("gain_val", goal.sign * (before - found))
    # Where no losses were compared the two errors are taken for independent, which they are less than.
    apart = math.hypot(head.numbers.get(f"{metric}_se", 0.0), numbers.get(f"{metric}_se", 0.0))
    error = STANDARD_ERRORS * numbers.get("gain_val_se", apart) * _chance(numbers)
    if abs(claimed - gained) > error + TOLERANCE * max(abs(printed), abs(found)):
        return (
            f"it printed a gain of {number(claimed, printed)}, but its model gains {number(gained, printed)} "
            f"({metric} {number(found, printed)})"
        )
    if alone and not _is_off(head.printed, before, head.numbers, f"{metric}_se"):
        return f"{off}: more than its head was off"
    return ""


def _is_off(printed: float, found: float, numbers: Mapping[str, float], error: str) -> bool:
    """Tell whether a number differs from what was found: many small steps of a gain must not add up."""
    chance = STANDARD_ERRORS * numbers.get(error, 0.0) * _chance(numbers)
    return abs(printed - found) > chance + TOLERANCE * max(abs(printed), abs(found))


def _chance(numbers: Mapping[str, float]) -> float:
    """Return what is left of a standard error where a share of the rows is the same that the program scored.

    Where all are, two numbers of one model differ by rounding only.
    """
    return math.sqrt(1 - min(1.0, max(0.0, numbers.get("val_share", 0.0))))


def _only_on_validation(numbers: Mapping[str, float], noise: Noise | None, like: float) -> str:
    try:
        gain, error = numbers["gain_val"], numbers["gain_val_se"]
        audit, audit_error = numbers["gain_audit"], numbers["gain_audit_se"]
    except KeyError:  # no head, or no audit text
        return ""
    chance = STANDARD_ERRORS * math.hypot(AUDIT_SHARE * error, audit_error) + (noise.sigma if noise else 0.0)
    if gain > STANDARD_ERRORS * error and AUDIT_SHARE * gain - audit > chance:
        return (
            f"it gains {number(gain, like)} on the validation text, "
            f"but {number(audit, like)} on a text that it cannot know"
        )
    return ""
