"""The trainings of a run on the nodes of a cluster.

A node makes the folder, trains and evaluates: it has model and data, the bot's machine perhaps neither, and
only the losses of positions travel. Here is a folder with the log and the outcome alone.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from loop.engine.plan import Plan
from loop.engine.trainings import T, Trainings
from loop.errors import UserError
from loop.evaluation.evaluator import Score
from loop.experiment import Experiment, Reason, Run, Training
from loop.files import remove, writing
from loop.lanes.cluster import TAMPERED, Cluster, RemoteTraining, node_reason, unlike
from loop.lanes.node import Attempt, Prepared, Recipe
from loop.lanes.node_setup import make_bundle
from loop.lanes.protocol import LiveTraining, Slot
from loop.process.worker import in_thread

PREPARE_SECONDS = 7200.0  # for a node to fetch data and packages
EVALUATE_SECONDS = 1200.0
ALIKE = "alike.json"  # beside the logs of a run: what its nodes have in common


class RemoteTrainings(Trainings):
    """Begins the trainings of one run in the lanes of a cluster."""

    def __init__(self, cluster: Cluster, plan: Plan, **parts: Any) -> None:
        super().__init__(plan, **parts)
        self._cluster = cluster
        self._given: tuple[Recipe, bytes] | None = None
        self._actors: dict[int, str] = {}  # those that are prepared, by lane

    # Nodes

    def prepare(self, run: Run) -> None:
        """Have all nodes make data and packages ready, and find the lanes that are not like the others.

        Raises:
            UserError: no lane can train this run.
        """
        recipe = self.plan.recipe
        assert recipe is not None, "it is for other machines"
        text = self.workspace.source(run.base_commit)
        commit, bundle = make_bundle(self.workspace.repository, run.base_commit, recipe.editable, text)
        recipe = replace(recipe, run=self._key, commit=commit, source=text, evaluates=self.has_evaluator(run))
        self._given = recipe, bundle
        self._report(run)(f"{len(self._slots)} lanes prepare data and packages, once a node")
        try:
            asked = {index: self._prepare(index, recipe, bundle) for index in list(self._slots)}
            prepared = {index: _result(future) for index, future in asked.items()}
        finally:
            self.preparing = ""
        fit = {index: each for index, each in prepared.items() if isinstance(each, Prepared)}
        if fit and not self._alike_path.exists():
            kinds = Counter(json.dumps(each.alike) for each in fit.values())
            self._alike_path.parent.mkdir(parents=True, exist_ok=True)
            self._alike_path.write_text(max(kinds, key=lambda kind: kinds[kind]))
        self.unfit = {index: why for index, each in prepared.items() if (why := self._why_unfit(index, each))}
        if len(self.unfit) == len(prepared):
            reasons = dict.fromkeys(str(reason.facts["error"]) for reason in self.unfit.values())
            raise UserError(f"No lane of the cluster can train this run: {'; '.join(reasons)}")

    def admit(self, slot: Slot) -> Reason | None:
        super().admit(slot)
        if self._given is None:  # it is prepared with all others
            return None
        return self._why_unfit(slot.index, _result(self._prepare(slot.index, *self._given)))

    def is_ready(self, lane: int) -> bool:
        return self._actors.get(lane) == self._cluster.actor(lane)

    def _prepare(self, lane: int, recipe: Recipe, bundle: bytes) -> Future[Prepared]:
        actor, future = self._cluster.actor(lane), self._cluster.prepare(lane, recipe, bundle)
        future.add_done_callback(lambda _: self._actors.update({lane: actor}))
        return future

    def _why_unfit(self, index: int, found: Prepared | str) -> Reason | None:
        if isinstance(found, Prepared):
            why = unlike(found.alike, json.loads(self._alike_path.read_text()))
            self.description = self.description or (None if why else found.description)
        else:
            why = f"cannot train this run: {found}"
        return node_reason(f"node {self.slot(index).node} {why}") if why else None

    @property
    def _alike_path(self) -> Path:
        return self.folders.logs / ALIKE

    @property
    def _key(self) -> str:
        run = self.journal.run_by_id(self.folders.run_id)
        return f"{run.id}-{int(run.created_at)}"  # another state directory at this path counts anew

    # Trainings

    def make_ahead(self, lane: int, commit: str) -> None:
        """Do nothing: the node makes the folder."""

    def start(
        self,
        lane: int,
        number: int,
        k: int,
        commit: str,  # noqa: ARG002
        source: str,
        record: Callable[[Training], T],
    ) -> tuple[T, LiveTraining]:
        folder = self.folders.attempt(number, k)
        remove(folder)
        with writing(folder):
            folder.mkdir(parents=True)
        recorded = record(self._training(lane, k, None))
        best = self.journal.best(self.folders.run_id)
        kept = Attempt(self._key, best.number, best.attempt) if best else None
        attempt, copies = Attempt(self._key, number, k), self._copies(lane)
        return recorded, self._cluster.train(lane, attempt, source, kept, folder, copies)

    def attach(self, lane: int, number: int, training: Training) -> RemoteTraining:
        folder = self.folders.attempt(number, training.k)
        folder.mkdir(parents=True, exist_ok=True)
        return self._cluster.attach(lane, Attempt(self._key, number, training.k), folder, self._copies(lane))

    def _copies(self, lane: int) -> tuple[Path, ...]:
        return () if lane else (self.workspace.path / "run.log",)

    def tampered(self, number: int, k: int, commit: str) -> tuple[str, ...]:  # noqa: ARG002
        try:
            return tuple(json.loads((self.folders.attempt(number, k) / TAMPERED).read_text()))
        except FileNotFoundError:  # it vanished
            return ()

    # Evaluation

    async def describe_evaluator(self, run: Run) -> None:
        """Do nothing: a node has said it at the start."""

    async def score(self, run: Run, measured: Experiment, *, out: Path, head: Path | None) -> Score:  # noqa: ARG002
        losses = await in_thread(head.read_bytes) if head else b""
        attempt = Attempt(self._key, measured.number, measured.attempt)
        try:
            async with asyncio.timeout(EVALUATE_SECONDS):
                asked = self._cluster.evaluate(measured.lane, attempt, losses)
                found = await asyncio.shield(asyncio.wrap_future(asked))
        except TimeoutError:
            return Score(refused="its node gave no answer")
        if found.losses:
            await in_thread(out.parent.mkdir, parents=True, exist_ok=True)
            await in_thread(out.write_bytes, found.losses)
        return found.score


def _result(future: Future[Prepared]) -> Prepared | str:
    """Return what a node answers, or why it has none."""
    try:
        return future.result(PREPARE_SECONDS)
    except UserError as error:
        return str(error)
    except TimeoutError:
        return "it takes too long to prepare"
