"""From a committed experiment to its training, and back to it after a restart."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from loop.engine import stages
from loop.errors import LoopError
from loop.experiment import Experiment, Run
from loop.git.workspace import Workspace
from loop.process.environment import launch_command
from loop.process.summary import read_tail
from loop.process.supervisor import LOG
from loop.process.threads import in_thread
from loop.process.trainer import Job, Supervisor, Trainer, Training, attempt_folder
from loop.redaction import without_secrets

log = logging.getLogger(__name__)


class Launcher:
    """Starts the trainings of one run, one at a time.

    `folder` holds the files of each attempt. `command` is TRAIN_COMMAND, empty for what the repository calls
    for, `environment` that of the training process, `deadline` how many seconds after its start it is killed.
    `record` writes an experiment into the journal.
    """

    def __init__(
        self,
        *,
        record: Callable[[Experiment], None],
        workspace: Workspace,
        trainer: Trainer,
        folder: Path,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        deadline: float,
    ) -> None:
        self._record = record
        self._workspace = workspace
        self._trainer = trainer
        self._folder = folder
        self._command = command
        self._environment = environment
        self._deadline = deadline
        self._spare: asyncio.Task[Supervisor | None] | None = None

    def arm(self) -> None:
        """Begin to start the supervisor of the next training, unless there is one already."""
        self._spare = self._spare or asyncio.create_task(self._arm_ahead(), name="next supervisor")

    async def launch(self, experiment: Experiment, run: Run, *, now: float) -> tuple[Experiment, Training]:
        """Begin the next attempt at a committed experiment; return it as it is recorded, and the training.

        Raises:
            LoopError, OSError: git, the journal or the machine does not allow it; then nothing trains.
        """
        spare, self._spare = self._spare, None
        supervisor = (spare and await spare) or await self._trainer.arm()
        begun = stages.training(experiment, pid=supervisor.pid, started=supervisor.started, now=now)
        return begun, await in_thread(self._begin, supervisor, begun, run)

    def attach(self, experiment: Experiment) -> Training:
        """Find the training of an experiment again that an engine before this one launched."""
        return self._trainer.attach(
            folder=attempt_folder(self._folder, experiment),
            log=self._workspace.path / "run.log",
            supervisor_pid=experiment.supervisor_pid,
            supervisor_started=experiment.supervisor_started,
        )

    def log_of(self, experiment: Experiment) -> str:
        """Return the end of what the last attempt printed, without secrets, while its files are there."""
        tail = read_tail(attempt_folder(self._folder, experiment) / LOG)
        return without_secrets(tail, self._trainer.secrets)

    def clear(self, experiment: Experiment) -> None:
        """Remove the files of all its attempts."""
        for attempt in range(1, experiment.attempt + 1):
            folder = attempt_folder(self._folder, replace(experiment, attempt=attempt))
            shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """Dismiss the supervisor that was started ahead."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            if supervisor := await spare:
                supervisor.dismiss()

    async def _arm_ahead(self) -> Supervisor | None:
        try:
            return await self._trainer.arm()
        except LoopError as error:
            log.warning("no supervisor ahead of the next training: %s", error)
            return None

    def _begin(self, supervisor: Supervisor, begun: Experiment, run: Run) -> Training:
        try:
            job = self._place(begun, run)
            # The supervisor is in the journal before it is given its job: no training runs unknown to it.
            self._record(begun)
            return self._trainer.start(supervisor, job)
        except Exception:  # raised again: whatever it was, a supervisor without a job would wait for ever
            supervisor.dismiss()
            raise

    def _place(self, begun: Experiment, run: Run) -> Job:
        """Put the experiment's program in its place."""
        tampered = self._workspace.frozen_changed(run.base_commit)
        if tampered:
            log.warning("%s: restoring %s", run.tag, ", ".join(tampered))
            self._workspace.restore_frozen(run.base_commit)
        self._workspace.launch(begun.commit)
        folder = attempt_folder(self._folder, begun)
        folder.mkdir(parents=True, exist_ok=True)
        path = self._workspace.path
        return Job(
            argv=launch_command(path, self._command, self._workspace.editable),
            cwd=path,
            env=self._environment,
            log=path / "run.log",
            folder=folder,
            deadline=self._deadline,
        )
