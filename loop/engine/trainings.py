"""The trainings of a run: how one begins, is found again, and what is left of it after its verdict."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop.engine import stages
from loop.engine.prefetch import RETRY_SECONDS
from loop.engine.stages import KeepRule
from loop.errors import UserError
from loop.experiment import Experiment, Run
from loop.git.workspace import Workspace
from loop.process.summary import read_tail
from loop.process.supervisor import LOG
from loop.process.trainer import Job, Supervisor, Trainer, TrainingProcess, attempt_folder, launch_command
from loop.results.gains import reason_of
from loop.results.table import append_result, write_results
from loop.store.experiments import read_rows, row_of
from loop.store.journal import Journal
from loop.text import without_secrets

log = logging.getLogger(__name__)

REST_SECONDS = (60.0, 300.0, 600.0)  # pauses after a streak of crashes or of vanished trainings


@dataclass(frozen=True, slots=True)
class Plan:
    """How experiments of a run are made: the settings that an engine needs."""

    rule: KeepRule
    environment: Mapping[str, str]  # of the training process
    deadline: float  # seconds after which a training is killed
    command: tuple[str, ...] = ()  # TRAIN_COMMAND; empty: what the repository calls for
    crash_streak: int = 5
    retry_seconds: tuple[float, ...] = RETRY_SECONDS  # of a proposer that fails
    rest_seconds: tuple[float, ...] = REST_SECONDS


class Trainings:
    """Begins the trainings of one run and files them.

    `folder` holds the files of each attempt and the ends of the logs of decided ones. All methods block
    for some milliseconds.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        journal: Journal,
        workspace: Workspace,
        trainer: Trainer,
        folder: Path,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._workspace = workspace
        self._trainer = trainer
        self._folder = folder
        self._plan = plan
        self._clock = clock

    def arm(self) -> Supervisor | None:
        try:
            return self._trainer.arm()
        except UserError as error:
            log.warning("no supervisor ahead of the next training: %s", error)
            return None

    def begin(
        self, experiment: Experiment, run: Run, spare: Supervisor | None
    ) -> tuple[Experiment, TrainingProcess]:
        """Begin the next attempt at a committed experiment; return it as it is recorded, and the training.

        A `spare` supervisor, started before, is the training's.
        """
        supervisor = spare or self._trainer.arm()
        try:
            if tampered := self._workspace.frozen_changed(run.base_commit):
                log.warning("%s: restoring %s", run.tag, ", ".join(tampered))
                self._workspace.restore_frozen(run.base_commit)
            self._workspace.launch(experiment.commit)
            begun = stages.training(
                experiment, pid=supervisor.pid, started=supervisor.started, now=self._clock()
            )
            job = self._job(begun)
            # The supervisor is in the journal before it is given its job: no training runs unknown to it.
            self._journal.record(begun)
            return begun, self._trainer.start(supervisor, job)
        except BaseException:  # raised again: whatever it was, the supervisor would wait for ever
            supervisor.dismiss()
            raise

    def attach(self, experiment: Experiment) -> TrainingProcess:
        training = experiment.last_training
        return self._trainer.attach(
            folder=attempt_folder(self._folder, experiment.number, training.k),
            log=self._workspace.path / "run.log",
            supervisor_pid=training.supervisor_pid,
            supervisor_started=training.supervisor_started,
        )

    def log_of(self, number: int) -> Path:
        return self._folder / f"{number}.log"

    def file(self, decided: Experiment, run: Run) -> None:
        """Add an experiment whose verdict is in the journal to the results, and keep the end of its log."""
        reason = reason_of(decided, run.goal)
        log.info("%s #%d: %s (%s)", run.tag, decided.number, decided.status, reason)
        if sum(self._journal.counts(run.id).values()) == decided.number + 1:
            append_result(self._results, row_of(decided), metric=run.metric)
        else:  # another lane has begun before it and is not done
            write_results(self._results, read_rows(self._journal, run.id), metric=run.metric)
        self._keep_log(decided)

    def repair(self, run: Run) -> None:
        write_results(self._results, read_rows(self._journal, run.id), metric=run.metric)
        left = {int(path.name.partition("-")[0]) for path in self._folder.glob("[0-9]*-[0-9]*")}
        for number in sorted(left):
            experiment = self._journal.experiment(run.id, number)
            if experiment is not None and experiment.status is not None:
                self._keep_log(experiment)

    def _keep_log(self, decided: Experiment) -> None:
        if not decided.attempt:
            return
        log_file = attempt_folder(self._folder, decided.number, decided.attempt) / LOG
        kept, tail = self.log_of(decided.number), without_secrets(read_tail(log_file), self._trainer.secrets)
        if tail or not kept.exists():  # it is kept already where only the folder was left
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(tail, encoding="utf-8", errors="replace")
        for k in range(1, decided.attempt + 1):
            shutil.rmtree(attempt_folder(self._folder, decided.number, k), ignore_errors=True)

    def _job(self, begun: Experiment) -> Job:
        folder = attempt_folder(self._folder, begun.number, begun.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        path = self._workspace.path
        return Job(
            argv=launch_command(path, self._plan.command, self._workspace.editable),
            cwd=path,
            env=self._plan.environment,
            log=path / "run.log",
            folder=folder,
            deadline=self._plan.deadline,
        )

    @property
    def _results(self) -> Path:
        return self._workspace.path / "results.tsv"
