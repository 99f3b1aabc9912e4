"""A lane on a node of a cluster: what its actor does there, without Ray.

The node shares no file with the bot. It has a clone of each run's repository, fed by a git bundle, makes a
fresh folder for each training as the bot does on its own machine, and has the same supervisor and sandbox. A
lane keeps the folder of its last training, for the evaluator, until the next one begins. What a dead lane has
left ends when the next one starts on the node.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from loop.errors import UserError
from loop.evaluation.evaluator import NO_MODEL, Description, Evaluator, Score, command_of
from loop.experiment import Ending
from loop.files import has_something, holds, remove
from loop.git.checkout import Source
from loop.lanes.cache import CACHE, TMP, WORK, CompileCache, fill_anew
from loop.lanes.local import THREADS, VISIBLE, device_files, files_of_others, gpu_models
from loop.lanes.node_setup import (
    code_hash,
    data_hash,
    data_of,
    locked,
    node_home,
    packages_hash,
    prepare_data,
    take_folder,
    unbundle,
)
from loop.logs.capture import LOG
from loop.machine import look_at_gpus
from loop.process.environment import PREPARE, Launch, Launcher, data_folders, training_environment
from loop.process.liveness import Quiet, sample, watch
from loop.process.supervisor import OUTCOME
from loop.process.trainer import Job, Trainer, TrainingProcess, mark_of
from loop.process.worker import in_thread
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View, private_environment

WATCH_SECONDS = 10.0  # between looks at what a training's processes do, which takes milliseconds
MOST_LOG = 2**20  # bytes of a log in one answer


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a run trains, for a machine that knows nothing of it. `run` names it for good.

    `commit` is in its bundle, and `source` its editable file. `data` are DATA_PATHS, empty where the `frozen`
    programs say it. A node without a sandbox is refused where it `needs_sandbox`.
    """

    editable: str
    frozen: tuple[str, ...]
    command: tuple[str, ...]
    variables: tuple[str, ...]  # TRAIN_ENV
    deadline: float
    sandbox: str
    needs_sandbox: bool
    network: bool
    data: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    evaluate: tuple[str, ...] = ()
    evaluates: bool = False
    run: str = ""
    commit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """A lane as its node sees it; `code` names the version of this project that is installed there.

    `id` is of this actor: the next one of the same lane has another.
    """

    id: str
    node: str
    host: str
    device: str
    model: str
    code: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A lane that is ready for a run: what must be alike for numbers to be compared, by its name."""

    alike: Mapping[str, str]
    description: Description | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A training, by its run, its experiment and k."""

    run: str
    number: int
    k: int


@dataclass(frozen=True, slots=True)
class Place:
    """How much of a log was read: of the file with this inode, as a long log is replaced."""

    inode: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What is new of a training. `log` goes on where the last look ended, or is all there is if `anew`.

    `life` grows while it writes or computes. `outcome` is its supervisor's record once it has ended and the
    log was read: empty where there is none. `tampered` are the fixed files that it changed.
    """

    place: Place
    log: bytes = b""
    anew: bool = False
    life: float = 0.0
    outcome: bytes | None = None
    tampered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluated:
    score: Score
    losses: bytes = b""


@dataclass(slots=True)
class _Run:
    recipe: Recipe
    project: Path  # the files of its commit
    source: Source
    launch: Launch
    sandbox: Sandbox
    readable: tuple[Path, ...]
    evaluator: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()
    models: int = 1  # that its evaluator asks


@dataclass(slots=True)
class _Training:
    folder: Path
    process: TrainingProcess
    gone: asyncio.Task[object]
    quiet: Quiet | None = None
    life: float = 0.0
    tampered: tuple[str, ...] | None = None


class NodeLane:
    """Trains one program at a time. Its methods are called from one event loop.

    `node` is the id of its node, and `threads` how many a training has there unless it says otherwise.
    """

    def __init__(self, node: str = "", threads: int = 1, base: Path | None = None) -> None:
        self._base = base or node_home()
        self._home, self._lock = take_folder(self._base)
        self._node = node
        self._threads = threads
        self._code = code_hash()
        self._id = uuid4().hex
        self._runs: dict[str, _Run] = {}
        self._evaluation: asyncio.Task[object] | None = None
        self._trainings: dict[Attempt, _Training] = {}
        self._visible, state = os.environ.get(VISIBLE), look_at_gpus()
        self._gpus = state.of(self._visible).gpus if state else ()
        self._model = gpu_models().get(self._gpus[0].uuid, "") if self._gpus else ""

    async def describe(self) -> Described:
        host = socket.gethostname()
        device = f"{host} GPU {self._visible}" if self._visible else f"{host} {self._home.name}"
        return Described(self._id, self._node, host, device, self._model, self._code)

    async def forever(self) -> None:
        """Wait until this lane is gone, of which the caller learns so."""
        await asyncio.Event().wait()

    async def prepare(self, recipe: Recipe, bundle: bytes) -> Prepared:
        """Make data and environment ready, once a node; may take long.

        Raises:
            UserError: this node cannot train the run.
        """
        prepared = await in_thread(self._prepare, recipe, bundle)
        run = self._runs[recipe.run]
        if not recipe.evaluates:
            return prepared
        environ = self._environ(recipe)
        run.evaluator = command_of(recipe.evaluate, run.launch, environ, run.project, recipe.editable)
        await in_thread(self._fill_evaluator, run)
        description = await self._evaluator(run).describe()
        run.hidden, run.models = description.hidden, description.models
        if description.damaged:
            raise UserError(description.damaged)
        return replace(prepared, description=description)

    def _prepare(self, recipe: Recipe, bundle: bytes) -> Prepared:
        with locked(self._base / "prepare.lock"):  # another lane of this node waits, and finds all done
            clone = unbundle(self._base / "repositories" / f"{recipe.commit}.git", recipe.commit, bundle)
            source = Source(clone, recipe.commit, editable=recipe.editable, frozen=recipe.frozen)
            project = self._home / "projects" / recipe.run
            fill_anew(source, project, recipe.commit, recipe.source)
            environ = self._environ(recipe)
            environments, command = self._base / "environments", recipe.command
            launcher = Launcher(environments, override=command, editable=recipe.editable, environ=environ)
            launch = launcher.prepare(project, None, lambda _: None)
            data = recipe.data or data_of(project, recipe.frozen, environ)
            if PREPARE in recipe.frozen and not all(map(has_something, data)):
                prepare_data(project, launch, recipe.editable, environ, self._base / "prepare.log")
            if missing := [str(path) for path in data if not has_something(path)]:
                raise UserError(f"Data is missing there: {', '.join(missing)}. Put it there.")
            sandbox = find_sandbox(None if recipe.sandbox == "auto" else SandboxKind(recipe.sandbox))
            if sandbox.kind is SandboxKind.NONE and recipe.needs_sandbox:
                raise UserError(f"No sandbox works there, and models write the programs. {sandbox.reason}")
            alike = {
                "GPU": self._model,
                "packages": packages_hash(launch, environ),
                "data": data_hash(data, self._base / "hashes.json"),
            }
        readable = (*launch.readable, *data_folders(environ), *data, *recipe.readable)
        self._runs[recipe.run] = _Run(recipe, project, source, launch, sandbox, readable)
        return Prepared(alike)

    async def start(self, attempt: Attempt, source: str, kept: Attempt | None = None) -> None:
        """Begin a training; what trained here before it ends. `kept` has the compile cache to go on with."""
        if attempt in self._trainings:
            return
        if self._evaluation is not None:  # the bot has given it up
            self._evaluation.cancel()
        for before in list(self._trainings):
            await self.end(before, Ending.INTERRUPTED)
            await self._trainings[before].gone
            await in_thread(self._forget, before, keep=before == kept)
        run = self._runs[attempt.run]
        folder = self._home / "trainings" / attempt.run / f"{attempt.number}-{attempt.k}"
        await in_thread(self._make, run, folder, source)
        supervisor = Trainer.arm()
        process = Trainer().start(supervisor, self._job(run, folder))
        self._trainings[attempt] = _Training(folder, process, asyncio.create_task(supervisor.gone()))

    async def look(self, attempt: Attempt, place: Place, seconds: float) -> Look | None:
        """Return what is new of a training, at once when it ends; None where it is not known here."""
        training = self._trainings.get(attempt)
        if training is None:
            return None
        await asyncio.wait({training.gone}, timeout=seconds)
        return await in_thread(self._look, attempt, training, place)

    def _look(self, attempt: Attempt, training: _Training, place: Place) -> Look:
        over = training.gone.done()
        if not over:
            self._watch(training)
        look = Look(*read_on(training.folder / LOG, place), training.life)
        if not over or len(look.log) == MOST_LOG:
            return look
        if training.tampered is None:
            run, work = self._runs[attempt.run], training.folder / WORK
            fixed = {name: (run.project / name).read_bytes() for name in run.recipe.frozen}
            training.tampered = tuple(name for name, text in fixed.items() if not holds(work, name, text))
        outcome = b""
        with suppress(OSError):
            outcome = (training.folder / OUTCOME).read_bytes()
        return replace(look, outcome=outcome, tampered=training.tampered)

    def _watch(self, training: _Training) -> None:
        before = training.quiet
        if before and time.monotonic() - before.activity.at < WATCH_SECONDS:
            return
        now = watch(before, sample(training.folder))
        if now.seconds:  # asking for the GPU starts a process: only where nothing else shows life
            now = watch(before, sample(training.folder, look_at_gpus()))
        if before and not now.seconds:
            training.life += now.activity.at - before.activity.at
        training.quiet = now

    async def end(self, attempt: Attempt, ending: Ending) -> None:
        if training := self._trainings.get(attempt):
            await training.process.end(ending)

    async def evaluate(self, attempt: Attempt, head: bytes) -> Evaluated:
        """Score the model that a training has left here; `head` are the losses of the head, if any."""
        self._evaluation = asyncio.current_task()
        try:
            return await self._evaluate(attempt, head)
        finally:
            self._evaluation = None

    async def _evaluate(self, attempt: Attempt, head: bytes) -> Evaluated:
        training = self._trainings.get(attempt)
        if training is None:
            return Evaluated(Score(refused="its node has lost the model"))
        run = self._runs[attempt.run]
        view = self._view(run, training.folder)
        out, before, evaluator = self._home / "losses.npz", self._home / "head.npz", self._evaluator(run)
        cache, how = CompileCache(training.folder.parent), (run.sandbox, evaluator.model_command, run.models)
        models = await in_thread(cache.answering, view, training.folder, *how)
        if not models:
            return Evaluated(NO_MODEL)
        await in_thread(self._fill_evaluator, run)
        await in_thread(before.write_bytes, head)
        mark = mark_of(training.folder)
        score = await evaluator.score(models, out=out, head=before if head else None, mark=mark)
        return Evaluated(score, out.read_bytes() if out.is_file() else b"")

    # Folders

    def _make(self, run: _Run, folder: Path, source: str) -> None:
        remove(folder)
        CompileCache(folder.parent).make(folder, run.source, run.recipe.commit)
        run.source.write_editable(folder / WORK, source)

    def _forget(self, attempt: Attempt, *, keep: bool) -> None:
        folder = self._trainings.pop(attempt).folder
        if keep and (folder / CACHE).is_dir():
            CompileCache(folder.parent).take(folder)
        remove(folder)

    def _environ(self, recipe: Recipe) -> dict[str, str]:
        threads = {THREADS: str(self._threads)}  # Ray sets it by the processors that an actor asked for
        return training_environment(os.environ, threads, let_through=recipe.variables)

    def _view(self, run: _Run, folder: Path) -> View:
        work, cache, tmp, recipe = folder / WORK, folder / CACHE, folder / TMP, run.recipe
        own = {gpu.uuid for gpu in self._gpus}
        environment = {**self._environ(recipe), **run.launch.environment, **private_environment(cache, tmp)}
        return View(
            work,
            tmp,
            environment,
            writable=(cache, *recipe.writable),
            readable=run.readable,
            fixed=tuple(work / name for name in recipe.frozen),
            hidden=(self._base, *run.hidden),
            network=recipe.network,
            withheld=files_of_others(own, device_files()) if own else (),
        )

    def _job(self, run: _Run, folder: Path) -> Job:
        view = self._view(run, folder)
        return Job(
            argv=run.sandbox.wrap(view, run.launch.argv),
            cwd=view.work,
            env=view.environment,
            log=folder / "run.log",
            folder=folder,
            deadline=run.recipe.deadline,
            wrapped=run.sandbox.kind is SandboxKind.BWRAP,
        )

    def _evaluator(self, run: _Run) -> Evaluator:
        variables = {**self._environ(run.recipe), **run.launch.environment}
        return Evaluator(run.evaluator, folder=self._home / "evaluator", environ=variables)

    def _fill_evaluator(self, run: _Run) -> None:
        fill_anew(run.source, self._home / "evaluator", run.recipe.commit, run.recipe.source)


def read_on(path: Path, place: Place) -> tuple[Place, bytes, bool]:
    """Return what a log has beyond a place, and whether that is the beginning of another file."""
    try:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            anew = inode != place.inode
            offset = 0 if anew else place.offset
            file.seek(offset)
            text = file.read(MOST_LOG)
    except FileNotFoundError:
        return place, b"", False
    return Place(inode, offset + len(text)), text, anew
