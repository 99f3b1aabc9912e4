"""What is found out about a number that would be kept, before its verdict."""

from __future__ import annotations

import math
from pathlib import Path

from loop.engine.trainings import Trainings
from loop.errors import UserError
from loop.evaluation.evaluator import Score, Scored, judge
from loop.evaluation.noise import Noise, read_noise
from loop.evaluation.plausibility import TIMELESS, Implausible, doubt_text, implausible
from loop.evidence import NO_DOUBT, Belief, Doubt, Evaluation
from loop.experiment import Experiment, Run, Status
from loop.machine import look_at_gpus
from loop.process.worker import in_thread
from loop.store.evidence.verdicts import read_evaluation

OWN = "the numbers of this run are the program's own"
MOST_LOSSES = 3  # of heads before, which a /reject may bring back


class Evaluations:
    """Evaluates the candidates of one run, by its repository's evaluator and by what is plausible.

    The baseline is evaluated too: where that fails there is no evaluation in this run, and only the second.
    """

    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        self._journal = trainings.journal
        self._device_mb: float | None = None

    async def prepare(self, run: Run) -> None:
        """Find out what no training may see, after the trainings are prepared.

        Raises:
            UserError: the evaluator does not answer, or the data is damaged.
        """
        await self.trainings.describe_evaluator(run)
        if (description := self.trainings.description) and description.damaged:
            raise UserError(description.damaged)

    def checks(self, run: Run) -> bool:
        """Tell whether the numbers of a run are evaluated, as far as is known."""
        if not self.trainings.has_evaluator(run):
            return False
        baseline = read_evaluation(self._journal, run.id, 0)
        return baseline is None or baseline.belief is Belief.BELIEVED

    def doubt(self, run: Run, evaluated: Experiment) -> Doubt:
        """Return what was found of a number that would be kept."""
        found = read_evaluation(self._journal, run.id, evaluated.number, evaluated.attempt)
        if found is not None:
            return Doubt(found.belief, (found.reason,) if found.reason else ())
        if evaluated.number and self.checks(run):
            return Doubt(Belief.UNSURE, ("it was not evaluated: the head changed at that moment",))
        return NO_DOUBT

    async def of(self, run: Run, measured: Experiment) -> Evaluation | None:
        """Evaluate a candidate for a keep; None where nothing speaks for or against it."""
        best = await in_thread(self._journal.best, run.id)
        noise = await in_thread(read_noise, self._journal, run)
        doubts: tuple[Implausible, ...] = ()
        if best is not None and best.value is not None:
            doubts = await in_thread(self._doubts, run, measured, best.value, noise)
        belief, reasons, numbers = Belief.BELIEVED, [], {}
        checked = await in_thread(self.checks, run)
        if checked:
            score = await self._score(run, measured, best)
            numbers = dict(score.numbers)
            head = None if best is None else await in_thread(self._scored, run, best)
            printed = measured.numbers[run.metric]
            belief, reason = judge(score, printed, head, noise, metric=run.metric, goal=run.goal)
            reasons = [reason] if reason else []
            if belief is Belief.BELIEVED:
                doubts = tuple(doubt for doubt in doubts if doubt.sign not in TIMELESS)
        if belief is not Belief.NOT_BELIEVED:
            reasons += [doubt_text(doubt, run.metric) for doubt in doubts]
            belief = Belief.UNSURE if reasons else belief
        if not checked and not reasons:
            return None
        at, reason = self._journal.clock(), "; ".join(reasons)
        return Evaluation(run.id, measured.number, measured.attempt, at, belief, reason, numbers)

    def notice(self, evaluation: Evaluation | None) -> str:
        """Return what people must know of the baseline's evaluation; empty for nothing."""
        if evaluation is None or evaluation.number or evaluation.belief is Belief.BELIEVED:
            return ""
        return f"{OWN}, as that of the baseline could not be confirmed: {evaluation.reason}"

    def _doubts(
        self, run: Run, measured: Experiment, best: float, noise: Noise | None
    ) -> tuple[Implausible, ...]:
        return implausible(
            measured,
            self._journal.experiments(run.id),
            metric=run.metric,
            goal=run.goal,
            budget=run.time_budget,
            best=best,
            noise=noise,
            device_mb=self._memory_of_device() if measured.memory_gb else None,
        )

    def _memory_of_device(self) -> float | None:
        """Return what the GPUs have together; asked for once."""
        if self._device_mb is None:
            state = None if self.trainings.plan.recipe else look_at_gpus()  # nodes have others
            sizes = [gpu.memory_mb or math.inf for gpu in state.gpus] if state else []
            self._device_mb = sum(sizes) or math.inf
        return self._device_mb

    async def _score(self, run: Run, measured: Experiment, best: Experiment | None) -> Score:
        out, head = self._losses(measured.number), None if best is None else self._losses(best.number)
        try:
            await in_thread(self._clear_losses, run, best)
            known = head if head and head.is_file() else None
            return await self.trainings.score(run, measured, out=out, head=known)
        except (UserError, OSError) as error:  # of the machine, not of the program
            return Score(refused=str(error))

    def _scored(self, run: Run, best: Experiment) -> Scored | None:
        found = read_evaluation(self._journal, run.id, best.number, best.attempt)
        if found is None or best.value is None or run.metric not in found.numbers:
            return None
        return Scored(best.value, found.numbers)

    def _losses(self, number: int) -> Path:
        return self.trainings.folders.losses / f"{number}.npz"

    def _clear_losses(self, run: Run, best: Experiment | None) -> None:
        """Remove the losses of all but the head, the heads before it, and what may become one."""
        files = {path.stem: path for path in self.trainings.folders.losses.glob("*.npz")}
        numbers = [int(stem) for stem in files if stem.isdigit()]
        decided = self._journal.experiments_at(run.id, numbers)
        kept = [each.number for each in decided if each.status is Status.KEEP][-MOST_LOSSES:]
        # What has no verdict yet another lane evaluates now.
        kept += [each.number for each in decided if each.status in (Status.QUARANTINE, None)]
        kept += [best.number] if best else []
        for number in set(numbers) - set(kept):
            files[str(number)].unlink(missing_ok=True)
