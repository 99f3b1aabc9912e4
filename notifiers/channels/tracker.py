"""Decided experiments for an experiment tracker, trackio or wandb, in a process of its own.

It reads events with a cursor as a channel does: after an outage it catches up, and its errors stop nothing.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from loop.experiment import Event, EventKind, Experiment, Status
from loop.process.worker import WorkerError, in_thread, run_worker
from loop.store.journal import Journal

log = logging.getLogger(__name__)

SERVICES = ("trackio", "wandb")
"""The supported services, by the names of their packages; both have the same functions."""

EVENTS = 500  # how many events are read at once
_SETTINGS = ("WANDB_", "TRACKIO_", "HF_")  # what their own environment variables begin with


@dataclass(frozen=True, slots=True)
class Steps:
    """Numbers to log, by the number of their experiment, in one run of one project."""

    service: str
    project: str
    run: str
    steps: Mapping[int, Mapping[str, float]]


class Tracker:
    """Logs every decided experiment to one project of a service; each of our runs is one of its runs."""

    def __init__(self, journal: Journal, *, service: str, project: str, environ: Mapping[str, str]) -> None:
        self._journal = journal
        self._service = service
        self._project = project
        self._settings = {name: value for name, value in environ.items() if name.startswith(_SETTINGS)}
        self._name = f"{service}:{project}"
        self._failed = False

    async def catch_up(self) -> None:
        """Log what was decided since the last time, at first everything; what fails is tried again then."""
        while events := await in_thread(self._read):
            try:
                for steps in await in_thread(self._steps, events):
                    await run_worker(
                        "notifiers.channels.tracker:log_steps",
                        steps,
                        returns=int,
                        name="its worker",
                        limit=300.0,
                        settings=self._settings,
                    )
            except WorkerError as error:
                if not self._failed:
                    log.warning("%s does not take results now; trying again later: %s", self._name, error)
                self._failed = True
                return
            self._failed = False
            await in_thread(self._journal.set_cursor, self._name, events[-1].id)

    def _read(self) -> list[Event]:
        return self._journal.events_after(self._journal.cursor(self._name) or 0, limit=EVENTS)

    def _steps(self, events: Sequence[Event]) -> list[Steps]:
        decided = [event for event in events if event.kind is EventKind.DECIDED]
        found = []
        for run_id, group in groupby(decided, key=lambda event: event.run_id):
            run = self._journal.run_by_id(run_id)
            experiments = self._journal.experiments_at(run_id, [event.number or 0 for event in group])
            steps = {each.number: _numbers(each, run.metric) for each in experiments}
            found.append(Steps(self._service, self._project, run.tag, steps))
        return found


def _numbers(experiment: Experiment, metric: str) -> dict[str, float]:
    numbers = {
        **experiment.numbers,
        metric: experiment.value,
        "best": experiment.value if experiment.status is Status.KEEP else experiment.best_before,
        "kept": int(experiment.status is Status.KEEP),
        "crashed": int(experiment.status is Status.CRASH),
        "quarantined": int(experiment.status is Status.QUARANTINE),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def log_steps(run: Steps) -> int:
    service = importlib.import_module(run.service)
    # The same name and id continue the run that an earlier worker began.
    names = {"id": run.run} if run.service == "wandb" else {}
    service.init(project=run.project, name=run.run, resume="allow", **names)
    if run.service == "wandb":  # ignores a step that goes back, as those of several lanes do
        service.define_metric("*", step_metric="experiment")
        for number, numbers in run.steps.items():
            service.log({"experiment": number, **numbers})
    else:
        for number, numbers in run.steps.items():
            service.log(numbers, step=number)
    service.finish()
    return len(run.steps)
