"""The trainings of a run: how one begins, is found again, and what is left of it after its verdict."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from loop.engine import stages
from loop.engine.ahead.waiting import Waiting, plan_waiting
from loop.engine.plan import Plan
from loop.errors import UserError
from loop.evaluation.evaluator import NO_MODEL, Description, Evaluator, Score, command_of, evaluator_of
from loop.experiment import Ending, EventKind, Experiment, Reason, Run, Stage, Status, Training
from loop.files import holds, remove, temporary_folder, writing
from loop.folders import RunFolders
from loop.git.checkout import Source
from loop.git.repository import ignored_mentions
from loop.git.workspace import Workspace
from loop.lanes.cache import CACHE, TMP, WORK, CompileCache, compiling_only, fill_anew
from loop.lanes.local import WHOLE
from loop.lanes.protocol import LiveTraining, Slot
from loop.logs.progress import keep_curve
from loop.logs.summary import keys_seen
from loop.logs.tail import read_tail
from loop.process.environment import Launch
from loop.process.programs import Program
from loop.process.trainer import AHEAD, Job, Supervisor, Trainer, mark_of
from loop.process.worker import in_thread
from loop.results.gains import reason_of
from loop.results.table import append_result, write_results
from loop.sandbox.lacking import misses_a_file, what_lacks
from loop.sandbox.sandbox import SandboxKind
from loop.sandbox.view import View, private_environment
from loop.store.evidence.repeats import trainings_under_way
from loop.store.experiments import read_rows, row_of
from loop.store.journal import Journal
from loop.text import without_secrets

log = logging.getLogger(__name__)

EVALUATING = "evaluator"  # where the evaluator runs, with the files of the base commit
_FOLDERS = "[0-9]*-[0-9]*"  # of trainings, by experiment and k

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is found out once a run, before its first training: where the files come from, how to start."""

    source: Source
    launch: Launch
    evaluator: tuple[str, ...]  # the command that evaluates; empty for none
    starts_ahead: bool


class Trainings:
    """Begins the trainings of one run, by its plan, each in a folder of its own, and files them.

    All methods block, `prepare` perhaps for minutes, the others for some milliseconds.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        journal: Journal,
        workspace: Workspace,
        trainer: Trainer,
        folders: RunFolders,
        slots: Sequence[Slot] = WHOLE,
    ) -> None:
        self.folders = folders
        self.slots = tuple(slots)  # those that the run begins with
        self._slots = {slot.index: slot for slot in slots}
        self._sweeping = threading.Lock()
        self.preparing = ""  # what `prepare` is at
        self.journal = journal
        self.workspace = workspace
        self._trainer = trainer
        self.plan = plan
        self._prepared: _Prepared | None = None
        self._cache = CompileCache(folders.trainings)
        self._rewrites = False  # the results have lines that are no longer true
        self._over: list[Path] = []  # folders that are to go
        # By lane, for its next training: a supervisor, and what waits in place of the program.
        self._spares: dict[int, tuple[Supervisor, Waiting | None]] = {}
        self.unfit: dict[int, Reason] = {}  # the lanes that cannot train this run, as `prepare` found
        self.description: Description | None = None  # of this run's evaluator

    def prepare(self, run: Run) -> None:
        """Find out how this run trains, and make the environment of its packages.

        Raises:
            UserError: a file of the repository, the training command or a package is not to be had.
        """
        for ahead in self.folders.trainings.glob(f"{AHEAD}-*"):
            remove(ahead)  # made with other settings, perhaps
        source = Source(
            self.workspace.repository,
            run.base_commit,
            editable=self.workspace.editable,
            frozen=self.workspace.frozen,
            link_paths=self.plan.link_paths,
        )
        with temporary_folder() as folder:
            # Not in the state directory, whose disk may be full.
            project = folder / WORK
            fill_anew(source, project, run.base_commit, self.workspace.source(run.base_commit))
            try:
                launch = self.plan.launcher.prepare(project, source.checkout, self._report(run))
            finally:
                self.preparing = ""
            evaluator: tuple[str, ...] = ()
            if self.has_evaluator(run):
                environ, editable = self.plan.launcher.environ, self.workspace.editable
                evaluator = command_of(self.plan.evaluate, launch, environ, project, editable)
        variables = {**self.plan.launcher.environ, **launch.environment}
        # Elsewhere than in bwrap a folder cannot get another name.
        bwrap = self.plan.sandbox.kind is SandboxKind.BWRAP
        starts_ahead = bwrap and self.plan.starts_ahead(variables)
        self._prepared = _Prepared(source, launch, evaluator, starts_ahead)

    def admit(self, slot: Slot) -> Reason | None:
        """Make a lane ready that has come since the run was prepared; say why it is unfit, if it is."""
        self._slots[slot.index] = slot
        return None

    def is_ready(self, lane: int) -> bool:
        """Tell whether a lane is as it was prepared; where it is not, `admit` is to come."""
        return lane in self._slots

    def has_evaluator(self, run: Run) -> bool:
        """Tell whether this run's numbers can be evaluated; `prepare` need not have been called."""
        return bool(evaluator_of(self.plan.evaluate, run.repository, run.base_commit))

    async def describe_evaluator(self, run: Run) -> None:
        """Find the description of this run's evaluator, if it has one; see `Evaluator.describe`."""
        if self._ready.evaluator:
            self.description = await (await in_thread(self._make_evaluator, run, 0)).describe()

    async def score(self, run: Run, measured: Experiment, *, out: Path, head: Path | None) -> Score:
        """Score the model of a training where it was trained; see `Evaluator.score`."""
        assert self.description is not None, "it is asked before"
        folder, lane = self.folders.attempt(measured.number, measured.attempt), measured.lane
        evaluator = await in_thread(self._make_evaluator, run, lane)
        how = self.plan.sandbox, evaluator.model_command, self.description.models
        models = await in_thread(self._cache.answering, self._view(folder, lane), folder, *how)
        if not models:
            return NO_MODEL
        return await evaluator.score(models, out=out, head=head, mark=mark_of(folder))

    def _make_evaluator(self, run: Run, lane: int) -> Evaluator:
        """Make the folder that a lane's evaluator runs in anew, as the base commit has it."""
        folder = self.folders.trainings / (f"{EVALUATING}-{lane}" if lane else EVALUATING)
        fill_anew(self._ready.source, folder, run.base_commit, self.workspace.source(run.base_commit))
        environ, launch = self.plan.launcher.environ, self._ready.launch
        variables = {**environ, **launch.environment, **self.slot(lane).variables}
        return Evaluator(self._ready.evaluator, folder=folder, environ=variables)

    def _report(self, run: Run) -> Callable[[str], None]:
        """Log what is done for a run before its first training; people hear that it is begun."""
        told = False

        def report(line: str) -> None:
            nonlocal told
            log.info("%s: %s", run.tag, line)
            self.preparing = line
            if not told:
                self.journal.note(run.id, EventKind.NOTED, reason=line)
            told = True

        return report

    def make_ahead(self, lane: int, commit: str) -> None:
        """Make ready what the lane's next training can begin with: its supervisor, its folder, its Python."""
        try:
            if lane not in self._spares:
                # It takes as long to start as all else that is done between two trainings.
                self._spares[lane] = self._trainer.arm(), None
            self._make_folder_ahead(lane, commit)
            supervisor, waiting = self._spares[lane]
            if self.starts_ahead and waiting is None:
                self._start_ahead(lane, commit, supervisor)
        except (UserError, OSError) as error:
            log.warning("the next training is not ready ahead: %s", error)

    def dismiss(self, lane: int) -> None:
        """End what waits for the next training of a lane."""
        if spare := self._spares.pop(lane, None):
            spare[0].dismiss()

    def _start_ahead(self, lane: int, commit: str, supervisor: Supervisor) -> None:
        folder = self._ahead(lane)
        best = self.journal.best(self.folders.run_id)
        source = self.workspace.source(best.commit if best else commit)
        argv, editable = self._ready.launch.argv, self.workspace.editable
        if waiting := plan_waiting(self._job(folder, lane), argv, source, editable):
            self._spares[lane] = supervisor, waiting
            argv = self.plan.sandbox.wrap(self._view(folder, lane), waiting.command)
            self._trainer.start_ahead(supervisor, replace(waiting.job, argv=argv, waits=True))

    def _make_folder_ahead(self, lane: int, commit: str) -> None:
        ahead = self._ahead(lane)
        if not ahead.exists():
            self._cache.make(ahead, self._ready.source, commit)

    @property
    def starts_ahead(self) -> bool:
        return self._prepared is not None and self._prepared.starts_ahead

    def make_compiling(self, folder: Path, lane: int, commit: str, source: str) -> Program:
        """Make the folder in which a program only compiles, without the text; return how it is started."""
        self._cache.make(folder, self._ready.source, commit)
        self._ready.source.write_editable(folder / WORK, source)
        data = (*self.plan.data, *self._ready.source.links.values())
        view = compiling_only(self._view(folder, lane), data)
        return Program(self.plan.sandbox.wrap(view, self._ready.launch.argv), view.work, view.environment)

    def give_compiled(self, lane: int, commit: str, compiled: Path) -> None:
        """Let the lane's next training, of `commit`, begin with what was compiled for it, which goes."""
        self._make_folder_ahead(lane, commit)
        self._cache.give(self._ahead(lane), compiled)

    def begin(self, experiment: Experiment) -> tuple[Experiment, LiveTraining]:
        """Begin the next attempt at a committed experiment."""

        def record(training: Training) -> Experiment:
            begun = replace(experiment, stage=Stage.TRAINING, training=training)
            self.journal.record(begun, **self.place(begun.lane))
            return begun

        commit, k = experiment.commit, experiment.attempt + 1
        source = self.workspace.source(commit)
        return self.start(experiment.lane, experiment.number, k, commit, source, record)

    def start(
        self, lane: int, number: int, k: int, commit: str, source: str, record: Callable[[Training], T]
    ) -> tuple[T, LiveTraining]:
        """Start a training of `commit`, with `source` as its editable file; return also what `record` does.

        That writes it into the journal before its supervisor is given the job: none runs unknown to it.
        """
        supervisor, waiting = self._spares.pop(lane) if lane in self._spares else (self._trainer.arm(), None)
        try:
            job = self._make(lane, number, k, commit, source)
            recorded = record(self._training(lane, k, supervisor))
            if waiting:
                job = replace(job, goes=waiting.fits(job))
                how = "was started ahead" if job.goes else "starts plainly"
                log.info("training %s %s", job.folder.name, how)
            return recorded, self._trainer.start(supervisor, job)
        except BaseException:  # raised again: whatever it was, the supervisor would wait for ever
            supervisor.dismiss()
            raise

    def _make(self, lane: int, number: int, k: int, commit: str, source: str) -> Job:
        folder = self.folders.attempt(number, k)
        self._make_folder_ahead(lane, commit)
        remove(folder)  # of a beginning that the journal does not know of
        with writing(folder):
            self._ahead(lane).rename(folder)
        self._ready.source.write_editable(folder / WORK, source)
        return self._job(folder, lane)

    def _training(self, lane: int, k: int, supervisor: Supervisor | None) -> Training:
        return Training(
            k,
            device=self.slot(lane).device,
            supervisor_pid=supervisor.pid if supervisor else None,
            supervisor_started=supervisor.started if supervisor else None,
            started_at=self.journal.clock(),
        )

    def slot(self, lane: int) -> Slot:
        """Return a lane as it is described; one that the machine has no more, as if it had all of it."""
        return self._slots.get(lane) or Slot(lane)

    def place(self, lane: int) -> dict[str, Any]:
        """Return what an event says of where a training runs, nothing where there is only one place."""
        return {"lane": lane} if lane or len(self._slots) > 1 else {}

    def _job(self, folder: Path, lane: int) -> Job:
        view = self._view(folder, lane)
        return Job(
            argv=self.plan.sandbox.wrap(view, self._ready.launch.argv),
            cwd=view.work,
            env=view.environment,
            log=(folder if lane else self.workspace.path) / "run.log",
            folder=folder,
            deadline=self.plan.deadline,
            wrapped=self.plan.sandbox.kind is SandboxKind.BWRAP,
            cores=self.slot(lane).cores,
        )

    def _view(self, folder: Path, lane: int) -> View:
        plan, ready, slot = self.plan, self._ready, self.slot(lane)
        work, cache, tmp = folder / WORK, folder / CACHE, folder / TMP
        return View(
            work,
            tmp,
            {
                **plan.launcher.environ,
                **ready.launch.environment,
                **slot.variables,
                **private_environment(cache, tmp),
            },
            writable=(cache, *plan.writable),
            readable=(*ready.launch.readable, *ready.source.links.values(), *plan.data, *plan.readable),
            fixed=tuple(work / name for name in self.workspace.frozen),
            hidden=(*plan.hidden, *(self.description.hidden if self.description else ())),
            network=plan.network,
            withheld=slot.withheld,
        )

    def attach(self, lane: int, number: int, training: Training) -> LiveTraining:  # noqa: ARG002
        folder = self.folders.attempt(number, training.k)
        return self._trainer.attach(folder, training.supervisor_pid, training.supervisor_started)

    def tampered(self, number: int, k: int, commit: str) -> tuple[str, ...]:
        """Return the fixed files that a training changed in its folder."""
        work = self.folders.attempt(number, k) / WORK
        if not work.is_dir():  # the last release trained in the worktree
            return ()
        content = self.workspace.content
        return tuple(n for n in self.workspace.frozen if not holds(work, n, content(commit, n)))

    def file(self, decided: Experiment, run: Run) -> None:
        """Add an experiment whose verdict is in the journal to the results, and keep the end of its log."""
        log.info("%s #%d: %s (%s)", run.tag, decided.number, decided.status, reason_of(decided, run.goal))
        all_before = all(each.number > decided.number for each in self.journal.undecided(run.id))
        is_last = sum(self.journal.counts(run.id).values()) == decided.number + 1
        if all_before and is_last and not self._rewrites:
            append_result(self._results, row_of(decided), metric=run.metric)
        else:  # other lanes decide in another order
            self.rewrite_results(run)
        self._keep(decided)
        self._over += self.folders.trainings.glob(f"{decided.number}-*")

    def rewrite_results(self, run: Run) -> None:
        """Write all results anew; what fails is made good with the next result."""
        self._rewrites = True
        write_results(self._results, read_rows(self.journal, run.id), metric=run.metric)
        self._rewrites = False

    def keys_seen(self, measured: Experiment) -> tuple[str, ...]:
        """Return the names of the numbers in the log of a training whose summary lacks the metric."""
        if self.plan.rule.metric in measured.numbers:
            return ()
        return keys_seen(read_tail(self.folders.printed(measured.number, measured.attempt)))

    def lacks(self, crashed: Experiment) -> str:
        """Return as `what_lacks` what a training lacked of the machine; of a baseline it may be a guess.

        A baseline that ended well may also lack a setting that reads its metric.
        """
        if not crashed.number and crashed.ending is Ending.EXITED and not crashed.exit_code:
            rule, seen = self.plan.rule, self.keys_seen(crashed)
            if settings := stages.missing_settings(rule, crashed.numbers, seen):
                return f"set {settings}"
        if self._prepared is None:  # the run was stopped before
            return ""
        plan, checkout = self.plan, self._prepared.source.checkout
        view = self._view(self.folders.attempt(crashed.number, crashed.attempt), crashed.lane)
        sandboxed = plan.sandbox.kind is not SandboxKind.NONE
        error = crashed.error.replace(str(self._ahead(crashed.lane)), str(view.work.parent))
        found = what_lacks(
            error, view, checkout, sandboxed=sandboxed, withheld=plan.withheld, lists=plan.lists
        )
        if found or crashed.number:
            return found
        names = (self.workspace.editable, *self.workspace.frozen)
        mentions = ignored_mentions(checkout, names) if checkout else ()
        if guess := next((mention for mention in mentions if mention.link not in plan.link_paths), None):
            links = ",".join((*plan.link_paths, guess.link))
            return f"perhaps set LINK_PATHS={links}: git ignores {guess.path}"
        return f"perhaps run `{plan.preparation}`" if plan.preparation and misses_a_file(error) else ""

    def repair(self, run: Run) -> None:
        self.rewrite_results(run)
        with writing(self.folders.trainings):
            self.folders.trainings.mkdir(parents=True, exist_ok=True)
        for old in filter(Path.is_dir, self.folders.logs.glob(_FOLDERS)):  # where the last release trained
            folder = self.folders.trainings / old.name
            if not os.path.lexists(folder):
                folder.symlink_to(old)
        trains = {(number, training.k) for number, training, _ in trainings_under_way(self.journal, run.id)}
        left: dict[int, list[int]] = {}
        for folder in self.folders.trainings.glob(_FOLDERS):
            number, k = map(int, folder.name.split("-"))
            left.setdefault(number, []).append(k)
        for experiment in self.journal.experiments_at(run.id, left):
            number, ks = experiment.number, left[experiment.number]
            if experiment.status is not None:
                if experiment.attempt in ks:
                    self._keep(experiment)
                self._over += [self.folders.attempt(number, k) for k in ks if (number, k) not in trains]
        self.sweep()

    def sweep(self, *, everything: bool = False) -> None:
        """Remove the folders that are done with, or of all trainings: with many files that takes long."""
        with self._sweeping:  # lanes end at the same time
            while self._over:
                remove(self._over[-1])
                remove(self.folders.logs / self._over[-1].name)  # the last release's
                del self._over[-1]
            if everything:
                remove(self.folders.trainings)

    def drop(self, number: int, k: int) -> None:
        """Let the folder of a training go, with the next sweep."""
        self._over.append(self.folders.attempt(number, k))

    def keep_log(self, number: int, k: int, kept: Path) -> None:
        log = self.folders.printed(number, k)
        tail = without_secrets(read_tail(log), self._trainer.secrets)
        if tail or not kept.exists():  # it is kept already where only the folder was left
            with writing(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(tail, encoding="utf-8", errors="replace")
                keep_curve(log, kept)

    def _keep(self, decided: Experiment) -> None:
        """Keep the end of the log, and the compile cache of a program that was kept; the rest may go."""
        if decided.attempt:
            self.keep_log(decided.number, decided.attempt, self.folders.log(decided.number))
            training = self.folders.attempt(decided.number, decided.attempt)
            if decided.status is Status.KEEP and (training / CACHE).exists():  # else it is on a node
                self._cache.take(training)

    def _ahead(self, lane: int) -> Path:
        return self.folders.trainings / f"{AHEAD}-{lane}"

    @property
    def _ready(self) -> _Prepared:
        assert self._prepared is not None, "prepare comes first"
        return self._prepared

    @property
    def _results(self) -> Path:
        return self.workspace.path / "results.tsv"
