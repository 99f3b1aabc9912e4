"""Experiments as they are decided, for an experiment tracker: trackio or wandb, in a process of its own.

It reads events with a cursor like a channel does, so what an outage held up is told later; nothing waits for
it, and a tracker that fails stops nothing.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby

from loop.experiment import Event, EventKind, Experiment, Status
from loop.process.threads import in_thread
from loop.process.worker import WorkerError, run_worker
from loop.store.journal import Journal

log = logging.getLogger(__name__)

SERVICES = ("trackio", "wandb")
"""What is understood; both speak the same language."""

EVENTS = 500
"""How many events are read in one go."""

_MODULE = "notifiers.channels.tracker_worker"
_SETTINGS = ("WANDB_", "TRACKIO_", "HF_")  # what their own environment variables begin with


class Tracker:
    """Tells one project of a service of every decided experiment; a run of ours is one of its runs."""

    def __init__(
        self,
        journal: Journal,
        *,
        service: str,
        project: str,
        environ: Mapping[str, str],
        python: str = sys.executable,
        limit: float = 300.0,
    ) -> None:
        self._journal = journal
        self._service = service
        self._project = project
        self._settings = {name: value for name, value in environ.items() if name.startswith(_SETTINGS)}
        self._python = python
        self._limit = limit
        self._name = f"{service}:{project}"
        self._failed = False

    async def catch_up(self) -> None:
        """Tell what was decided since the last time; what fails is tried again the next time.

        A tracker that is new to this state directory is told everything from the first experiment on.
        """
        while events := await in_thread(self._read):
            try:
                for request in await in_thread(self._requests, events):
                    encoded = json.dumps(request).encode()
                    await run_worker(
                        _MODULE, encoded, python=self._python, limit=self._limit, settings=self._settings
                    )
            except WorkerError as error:
                if not self._failed:
                    log.warning("%s is told later: its worker %s", self._name, error)
                self._failed = True
                return
            self._failed = False
            await in_thread(self._journal.set_cursor, self._name, events[-1].id)

    def _read(self) -> list[Event]:
        return self._journal.events_after(self._journal.cursor(self._name) or 0, limit=EVENTS)

    def _requests(self, events: Sequence[Event]) -> list[dict[str, object]]:
        decided = [event for event in events if event.kind is EventKind.DECIDED]
        requests: list[dict[str, object]] = []
        for run_id, told in groupby(decided, key=lambda event: event.run_id):
            run = self._journal.run_by_id(run_id)
            found = self._journal.experiments_at(run_id, [event.number or 0 for event in told])
            steps = [_step(experiment, run.metric) for experiment in found]
            requests.append(
                {"service": self._service, "project": self._project, "run": run.tag, "steps": steps}
            )
        return requests


def _step(experiment: Experiment, metric: str) -> dict[str, object]:
    """Return what is logged of one experiment: numbers only, by names that stay the same."""
    best = experiment.value if experiment.status is Status.KEEP else experiment.best_before
    numbers = {
        **experiment.numbers,
        metric: experiment.value,
        "best": best,
        "kept": int(experiment.status is Status.KEEP),
        "crashed": int(experiment.status is Status.CRASH),
    }
    return {
        "step": experiment.number,
        "numbers": {name: value for name, value in numbers.items() if value is not None},
    }
