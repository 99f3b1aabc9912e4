"""Hosts the runs: one engine a run, each a task of the bot's event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from bot.heartbeat.probe import Ended, LoopState
from bot.proposer_factory import make_researcher
from bot.setup.doctor import device
from bot.setup.settings import Settings
from loop.engine.decision import KeepRule
from loop.engine.run import Engine, nothing_blocks
from loop.engine.trainings import Plan
from loop.errors import UserError
from loop.experiment import Actor, Reason, Run, RunState, Stage
from loop.git.repository import (
    RepositoryFacts,
    branches,
    check_tag,
    inspect,
    propose_tag,
    read_time_budget,
    with_imports,
)
from loop.git.workspace import Workspace
from loop.process.trainer import Trainer, attempt_folder, prepare_line, training_environment
from loop.store.journal import Journal
from loop.text import secrets_in
from notifiers.text.status import RunPlan

log = logging.getLogger(__name__)


class Runs:
    """Starts runs, goes on with them and keeps their tasks.

    `repository` is where new runs are started; `environ` is what the environments of trainings and of sources
    of ideas are taken from.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        repository: Path,
        journal: Journal,
        environ: Mapping[str, str],
        today: Callable[[], date],
    ) -> None:
        self.journal = journal
        self.repository = repository
        self._settings = settings
        self._environ = environ
        self._environment = training_environment(environ, {})
        self._today = today
        self._trainer = Trainer(settings.secrets | secrets_in(environ))
        self._workspaces: dict[int, Workspace] = {}
        self._engines: dict[int, Engine] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, int | None] = {}  # how many experiments a task is to make
        self._ended: dict[int, Ended] = {}  # tasks that came to grief
        self.on_ended: Callable[[], None] = lambda: None  # called when one does
        self.is_blocked: Callable[[Run], Awaitable[bool]] = nothing_blocks

    # Runs

    def current(self) -> Run:
        """Return the run that commands without a tag are about: the newest active one, else the newest.

        Raises:
            UserError: there is no run yet.
        """
        runs = self.journal.runs()
        active = [run for run in runs if run.state is not RunState.STOPPED]
        if not runs:
            raise UserError("There is no run yet: start one with /start_run.")
        return (active or runs)[-1]

    def engine(self, run: Run) -> Engine:
        """Return the engine of an active run, made anew where there is none."""
        engine = self._engines.get(run.id)
        if engine is None:
            engine = self._engines[run.id] = self._make_engine(run)
        return engine

    def facts(self) -> RepositoryFacts:
        """Look at the repository that new runs start from.

        Raises:
            UserError: it cannot be used, with the mend.
        """
        settings = self._settings
        return inspect(
            self.repository,
            settings.base_branch or None,
            editable=settings.editable,
            frozen=settings.frozen,
        )

    def plan_run(self, tag: str | None = None) -> RunPlan:
        """Return what a new run would be.

        Raises:
            UserError: another run is active, the tag is taken, or DEADLINE_MINUTES is too short.
            UserError: the repository or the tag cannot be used.
        """
        self._require_free_device()
        facts = self.facts()
        taken = self._taken_tags()
        tag = tag or propose_tag(self._today(), taken)
        check_tag(tag)
        if tag in taken:
            raise UserError(f"There is a branch or run {tag} already: choose another tag.")
        settings = self._settings
        fixed = read_time_budget(self.repository, facts.base_commit, settings.frozen)
        budget = fixed or settings.time_budget
        settings.deadline(budget)  # refused before anything is made
        return RunPlan(
            tag=tag,
            other_tag=propose_tag(self._today(), taken | {tag}),
            repository=facts.path,
            base_branch=facts.base_branch,
            base_commit=facts.base_commit,
            subject=facts.subject,
            dirty=(*facts.dirty, *facts.untracked),
            missing=tuple(path for path in settings.data_paths if not path.exists()),
            preparation=prepare_line(facts.path, settings.train_command, settings.editable),
            device=device(),
            budget=budget,
            proposer=", ".join(map(str, settings.proposer)),
        )

    def start_run(self, tag: str | None = None) -> Run:
        """Make a new run with its branch and worktree; `conduct` sets it going.

        Raises:
            UserError: another run is active, the tag is taken, or data is missing.
            UserError: the repository or the tag cannot be used.
        """
        plan = self.plan_run(tag)
        if plan.missing:
            paths = ", ".join(map(str, plan.missing))
            raise UserError(
                f"Of DATA_PATHS {paths} is missing. First run: {plan.preparation}; "
                "or set DATA_PATHS to where the data is."
            )
        workspace = self._workspace(plan.tag, self.repository, plan.base_commit)
        workspace.create(plan.base_commit)
        return self.journal.create_run(
            tag=plan.tag,
            repository=self.repository,
            base_branch=plan.base_branch,
            base_commit=plan.base_commit,
            metric=self._settings.metric,
            goal=self._settings.metric_goal,
            time_budget=plan.budget,
        )

    def best_source(self, run: Run) -> str:
        """Return the text of the best program of the run."""
        workspace = self.workspace(run)
        return workspace.source(workspace.head())

    def coming(self, run: Run) -> str:
        """Return what is ready to be trained next, empty where nothing is."""
        engine = self._engines.get(run.id)
        proposal = engine.prefetch.ready if engine else None
        return proposal.description if proposal else ""

    def lacks(self, run: Run) -> str:
        """Return why the run has no idea at the moment, empty where it has or nobody has looked for one."""
        engine = self._engines.get(run.id)
        return engine.prefetch.failure.reason if engine and engine.prefetch.failure else ""

    def look_again(self, run: Run, *, at_once: bool) -> None:
        """Let the run take notice of a new idea, and make way for it where it can be had at once."""
        engine = self._engines.get(run.id)
        if engine is not None:
            engine.prefetch.look_again(at_once=at_once)

    def _require_free_device(self) -> None:
        for run in self.journal.active_runs():
            if run.state is not RunState.DONE:
                raise UserError(
                    f"Run {run.tag} is {run.state.value} on this machine: /stop it before another is started "
                    "(where no bot runs, after `autoresearch up`)."
                )

    def _taken_tags(self) -> set[str]:
        prefix = "autoresearch/"
        branch_tags = (name.removeprefix(prefix) for name in branches(self.repository))
        runs = self.journal.runs()
        return {name for run in runs for name in (run.tag, run.renamed_from) if name} | set(branch_tags)

    # Tasks

    def conduct(self, run: Run, experiments: int | None = None) -> asyncio.Task[None]:
        """Return the task that conducts the run, started unless it is alive.

        `experiments` is how many it makes after the baseline; None: without end.
        """
        task = self._tasks.get(run.id)
        if task is None or task.done():
            self._asked[run.id] = experiments
            self._ended.pop(run.id, None)
            task = asyncio.create_task(self.engine(run).conduct(experiments), name=f"run {run.tag}")
            task.add_done_callback(lambda done: self._note_end(run, done))
            self._tasks[run.id] = task
        return task

    async def close(self) -> None:
        """End the tasks; trainings go on without us and are found again at the next start."""
        self.on_ended, self.is_blocked = lambda: None, nothing_blocks
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _note_end(self, run: Run, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("the loop of run %s ended", run.tag, exc_info=error)
            self._ended[run.id] = Ended(time.monotonic(), str(error) or type(error).__name__)
            self.on_ended()

    # What the heartbeat needs

    def loops(self) -> Sequence[LoopState]:
        """Return the runs that should be conducted."""
        engines = (self._engines[run_id] for run_id in self._tasks)
        return [
            LoopState(engine.run, self._ended.get(engine.run.id), engine.prefetch.failure)
            for engine in engines
            if engine.run.state not in (RunState.DONE, RunState.STOPPED)
        ]

    def attempts(self) -> Mapping[int, Path]:
        """Return the folders of the trainings under way, by run id, as the journal has them now."""
        found = {}
        for run in self.journal.runs():
            for experiment in self.journal.undecided(run.id):
                if experiment.stage is Stage.TRAINING:
                    folder = attempt_folder(self._folder(run), experiment.number, experiment.attempt)
                    found[run.id] = folder
        return found

    def resume(self, run: Run) -> None:
        """Start the loop of a run whose task has ended, for what it has still to do."""
        asked = self._asked[run.id]
        self.conduct(run, None if asked is None else max(1, asked - self.engine(run).made))

    async def end_stalled(self, run: Run, folder: Path) -> None:
        """End the training as stalled, if it is still the one of that attempt."""
        await self.engine(run).end_stalled(folder)

    async def pause(self, run: Run, reason: Reason) -> None:
        """Pause the run after the experiment under way."""
        await self.engine(run).pause(reason=reason)

    async def unpause(self, run: Run) -> None:
        """Let a run go on that the heartbeat paused, and start its loop if it has ended."""
        await self.engine(run).resume(reason=Reason(Actor.HEARTBEAT))
        if self._tasks[run.id].done():
            self.resume(run)

    # Parts

    def _make_engine(self, run: Run) -> Engine:
        settings = self._settings
        rule = KeepRule(run.metric, run.goal, settings.simplicity_gain, settings.simplicity_lines)
        plan = Plan(
            rule=rule,
            environment=self._environment,
            deadline=settings.deadline(run.time_budget),
            command=settings.train_command,
            crash_streak=settings.crash_streak,
        )
        return Engine(
            run,
            plan=plan,
            journal=self.journal,
            workspace=self.workspace(run),
            trainer=self._trainer,
            proposer=make_researcher(
                settings,
                run,
                journal=self.journal,
                workspace=self.workspace(run),
                folder=self._folder(run),
                environ=self._environ,
                pause=self.pause,
            ),
            folder=self._folder(run),
            is_blocked=lambda run: self.is_blocked(run),  # noqa: PLW0108 - it is set later
        )

    def workspace(self, run: Run) -> Workspace:
        """Return the worktree of a run, with its git."""
        if run.id not in self._workspaces:
            tag = run.renamed_from or run.tag
            self._workspaces[run.id] = self._workspace(tag, run.repository, run.base_commit)
        return self._workspaces[run.id]

    def _workspace(self, tag: str, repository: Path, base: str) -> Workspace:
        editable = self._settings.editable
        return Workspace(
            repository=repository,
            path=self.worktree(tag),
            tag=tag,
            editable=editable,
            frozen=with_imports(repository, base, self._settings.frozen, editable=editable),
        )

    def _folder(self, run: Run) -> Path:
        return self._settings.home / "runs" / str(run.id)

    def worktree(self, tag: str) -> Path:
        """Return the folder in which the run of that tag trains."""
        return self._settings.home / "worktrees" / tag
