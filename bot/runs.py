"""Conducts the runs: one engine a run, each a task of the bot's event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

from bot.current import CurrentRun, foremost
from bot.nodes import nodes_of
from bot.plan import make_plan
from bot.proposers import make_researcher
from bot.setup.doctor import Check, begun_facts, device, facts_of, failures, remarks
from bot.setup.settings import Settings
from bot.setup.template import prepare_embedded
from bot.setup.trainings import evaluation_check, examine_sandbox, make_launcher, start_checks
from loop.engine.ahead.prefetch import ProposerFailure
from loop.engine.conductor import nothing_closes
from loop.engine.plan import NO_SANDBOX
from loop.engine.remote.trainings import RemoteTrainings
from loop.engine.run import Engine
from loop.engine.trainings import Trainings
from loop.errors import DiskError, UserError
from loop.evaluation.evaluator import evaluator_of
from loop.experiment import Actor, Reason, Run, RunState
from loop.files import writing
from loop.folders import RunFolders, worktree
from loop.git.checkout import Source
from loop.git.repository import branches, check_tag, propose_tag, read_time_budget, with_imports
from loop.git.workspace import Workspace
from loop.lanes.local import choose_slots, find_slots
from loop.lanes.protocol import Slot
from loop.process.environment import training_environment
from loop.process.trainer import Trainer
from loop.process.worker import in_thread
from loop.results.report import RunStatus, run_status
from loop.sandbox.proof import SandboxFacts
from loop.shell import own_command
from loop.store.experiments import TAKEN_OVER
from loop.store.journal import Journal
from loop.text import secrets_in
from notifiers.text.status import RunPlan, sandbox_text

log = logging.getLogger(__name__)

ENDING_SECONDS = 10.0  # that a run which was stopped has at the end of the bot


@dataclass(frozen=True, slots=True)
class Ended:
    """When the loop of a run that should go on ended, by the monotonic clock, and with what error."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class LoopState:
    """A run that should be conducted.

    `ended` is None while its task lives, `failure` while its proposer works. `lanes` are those of a run
    that has several, each with the reason for which it begins nothing, if any.
    """

    run: Run
    ended: Ended | None = None
    failure: ProposerFailure | None = None
    lanes: tuple[tuple[Slot, Reason | None], ...] = ()


@dataclass(slots=True)
class _Loop:
    """The task that conducts a run, for so many `experiments` after the baseline; None: without end."""

    run: Run
    experiments: int | None
    unattended: bool
    certify: bool
    task: asyncio.Task[None]
    ended: Ended | None = None
    restarted: asyncio.Event = field(default_factory=asyncio.Event)


async def no_blocker(_: Run) -> Reason | None:
    return None


@dataclass(eq=False)
class Runs:
    """Starts runs, goes on with them and keeps their tasks.

    `repository` is where new runs are started; `environ` is what the environments of trainings and proposers
    are taken from. `blocker` finds what on this machine keeps a run from training: the run is then paused
    for that reason; `lane_blocker` finds what keeps it from one of its lanes. `trouble` is set when a loop
    ended with an error or a run was paused by a blocker.
    """

    settings: Settings
    _: KW_ONLY
    repository: Path
    journal: Journal
    environ: Mapping[str, str]
    today: Callable[[], date]
    blocker: Callable[[Run], Awaitable[Reason | None]] = no_blocker
    lane_blocker: Callable[[Run, Slot], Awaitable[Reason | None]] = nothing_closes

    def __post_init__(self) -> None:
        self.current = CurrentRun(self.journal, self._conducted)
        self.trouble = asyncio.Event()
        environ = training_environment(self.environ, {}, let_through=self.settings.train_env)
        self._launcher = make_launcher(self.settings, environ)
        self._trainer = Trainer(
            self.settings.secrets | secrets_in(self.environ), self.settings.summary_pattern
        )
        self._making = threading.RLock()  # of the two below, which worker threads fill
        self._workspaces: dict[int, Workspace] = {}
        self._engines: dict[int, Engine] = {}
        self._loops: dict[int, _Loop] = {}
        self._is_prepared = False
        self._sandbox: SandboxFacts | None = None
        self._slots: tuple[Slot, ...] | None = None
        self.nodes = nodes_of(self.settings, self._trainer, self._engines.values)

    # Runs

    def engine(self, run: Run) -> Engine:
        """Return the engine of an active run. Made on first use, which runs git and blocks."""
        with self._making:
            if run.id not in self._engines:
                self._engines[run.id] = self._make_engine(run)
            return self._engines[run.id]

    def engine_if_made(self, run: Run) -> Engine | None:
        """Return the run's engine; None where this bot has not gone on with the run."""
        return self._engines.get(run.id)

    def workspace(self, run: Run) -> Workspace:
        """Return the worktree of a run, with its git. Made on first use, which runs git and blocks."""
        with self._making:
            if run.id not in self._workspaces:
                tag = run.renamed_from or run.tag
                self._workspaces[run.id] = self._make_workspace(tag, run.repository, run.base_commit)
            return self._workspaces[run.id]

    def worktree(self, tag: str) -> Path:
        return worktree(self.settings.home, tag)

    def status(self, run: Run) -> RunStatus:
        return run_status(self.journal, run, worktree=self.worktree(run.tag))

    async def prepare(self) -> None:
        """Make the embedded template and its data, once, where new runs are of it.

        Raises:
            UserError: the data could not be prepared.
        """
        if self.settings.repository is None and not self._is_prepared:
            await prepare_embedded(self.settings)
            self._is_prepared = True

    def plan_run(self, tag: str | None = None, *, quickly: bool = True, lanes: str | None = None) -> RunPlan:
        """Return what a new run would be; UserError if none can be started now, or not with this tag.

        Done `quickly`, its evaluator is not asked. `lanes` are the numbers of those that it uses, None: all.
        """
        slots = choose_slots(self.slots(), lanes)
        self._require_free(slots)
        settings = self.settings
        facts = facts_of(settings, self.repository)
        taken = self._taken_tags()
        tag = tag or propose_tag(self.today(), taken)
        check_tag(tag)
        if tag in taken:
            raise UserError(f"The branch or run {tag} exists already. Choose another tag.")
        fixed = read_time_budget(self.repository, facts.base_commit, settings.frozen)
        budget = fixed or settings.time_budget
        settings.deadline(budget)  # refused before anything is made
        checks = start_checks(settings, self.environ, self.sandbox, quickly=quickly, facts=facts)
        return RunPlan(
            tag=tag,
            other_tag=propose_tag(self.today(), taken | {tag}),
            repository=facts.path,
            base_branch=facts.base_branch,
            base_commit=facts.base_commit,
            subject=facts.subject,
            device=f"the Ray cluster at {settings.ray_address}" if self.nodes else device(),
            sandbox=f"{settings.sandbox}, on each node" if self.nodes else sandbox_text(self.sandbox()),
            evaluator=evaluator_of(settings.evaluate, self.repository, facts.base_commit),
            budget=budget,
            lanes=tuple(slot.device for slot in slots if slot.device),
            chosen=lanes or "",
            noise_runs=settings.noise_runs_of(budget),
            proposer=", ".join(map(str, settings.proposer)),
            remarks=remarks(settings, facts, fixed),
            lacking=failures(checks),
        )

    def start_run(self, tag: str | None = None, *, answered_in: str = "", lanes: str | None = None) -> Run:
        """Create a run with its branch and worktree, which `conduct` starts; UserError as in `plan_run`."""
        plan = self.plan_run(tag, quickly=False, lanes=lanes)
        if plan.lacking:
            raise UserError("\n".join(plan.lacking))
        workspace = self._make_workspace(plan.tag, self.repository, plan.base_commit)
        if self.nodes is not None:  # else the checks have done so
            Source(  # refused before anything is made
                self.repository,
                plan.base_commit,
                editable=workspace.editable,
                frozen=workspace.frozen,
                link_paths=self.settings.link_paths,
            )
        workspace.create(plan.base_commit)
        return self.journal.create_run(
            tag=plan.tag,
            repository=self.repository,
            base_branch=plan.base_branch,
            base_commit=plan.base_commit,
            metric=self.settings.metric,
            goal=self.settings.metric_goal,
            time_budget=plan.budget,
            answered_in=answered_in,
            remarks=plan.remarks,
            lanes=tuple(slot.index for slot in choose_slots(self.slots(), lanes)) if lanes else (),
        )

    def require_fit(self, run: Run) -> None:
        """Refuse to go on with a run that was over, or adopted, UserError, where no new one would start."""
        known = {each.proposer for each in self.journal.experiments(run.id)}
        if run.state is not RunState.DONE and known != {TAKEN_OVER}:
            return  # what a bot was in the middle of goes on, whatever is amiss
        facts = begun_facts(self.settings, run)
        alone = self.settings.model_copy(
            update={"proposer": (), "fallback_model": None}
        )  # the search goes on
        if lacking := failures(start_checks(alone, self.environ, self.sandbox, quickly=True, facts=facts)):
            raise UserError("\n".join(lacking))

    def _require_free(self, slots: Sequence[Slot]) -> None:
        if run := foremost([run for run in self.going() if self.shares_lanes(run, slots)]):
            up = own_command(f"up --tag {run.tag}", self.settings.home)
            trains = f"Run {run.tag} is {run.state.value} on this machine"
            raise UserError(f"{trains}. /stop it first (if no bot is running, start it with `{up}`).")

    def going(self) -> list[Run]:
        return [run for run in self.journal.active_runs() if run.state is not RunState.DONE]

    def shares_lanes(self, run: Run, slots: Sequence[Slot]) -> bool:
        """Tell whether a run trains in one of these lanes; those of a cluster are all one run's."""
        return self.nodes is not None or any(slot in slots for slot in self.slots(run))

    def _conducted(self) -> set[int]:
        return {id_ for id_, loop in self._loops.items() if not loop.task.done()}

    def _taken_tags(self) -> set[str]:
        runs = self.journal.runs()
        of_branches = {name.removeprefix("autoresearch/") for name in branches(self.repository)}
        return of_branches | {name for run in runs for name in (run.tag, run.renamed_from) if name}

    # Tasks

    def conduct(
        self, run: Run, experiments: int | None = None, *, unattended: bool = False, certify: bool = False
    ) -> asyncio.Task[None]:
        """Return the task that conducts the run, started unless it is alive.

        `experiments` is how many it makes after the baseline; None: without end. `unattended` and `certify`
        are as in `Engine.conduct`.
        """
        loop = self._loops.get(run.id)
        if loop is not None and not loop.task.done():
            return loop.task
        work = self._conduct(run, experiments, unattended=unattended, certify=certify)
        task = asyncio.create_task(work, name=f"run {run.tag}")
        self._loops[run.id] = new = _Loop(run, experiments, unattended, certify, task)
        task.add_done_callback(lambda _: self._note_end(new))
        if loop is not None:
            loop.restarted.set()
        return task

    async def over(self, run: Run) -> None:
        """Wait until the run is done or stopped; what waiting does not help is raised."""
        while True:
            loop = self._loops[run.id]
            try:
                return await asyncio.shield(loop.task)
            except DiskError:
                await loop.restarted.wait()  # by the heartbeat, which says so

    async def _conduct(self, run: Run, experiments: int | None, *, unattended: bool, certify: bool) -> None:
        engine = await in_thread(self.engine, run)
        if self.nodes is not None:
            await self.nodes.follow(engine)
        await engine.conduct(experiments, unattended=unattended, certify=certify)

    def _note_end(self, loop: _Loop) -> None:
        if not loop.task.cancelled() and (error := loop.task.exception()):
            log.error("the loop of run %s ended", loop.run.tag, exc_info=error)
            loop.ended = Ended(time.monotonic(), str(error) or type(error).__name__)
            self.trouble.set()

    def loops(self) -> list[LoopState]:
        found = []
        for loop in self._loops.values():
            engine = self.engine_if_made(loop.run)
            run, failure = (engine.run, engine.prefetch.failure) if engine else (loop.run, None)
            if run.state not in (RunState.DONE, RunState.STOPPED):
                lanes = engine.lanes() if engine else ()
                found.append(LoopState(run, loop.ended, failure, lanes if len(lanes) > 1 else ()))
        return found

    async def check_branches(self) -> None:
        """Pause the runs whose branch a hand has moved."""
        for loop in self.loops():
            if engine := self.engine_if_made(loop.run):
                await engine.check_branch()

    def restart(self, run: Run) -> None:
        loop, engine = self._loops[run.id], self.engine_if_made(run)
        left = loop.experiments and max(1, loop.experiments - (engine.made if engine else 0))
        self.conduct(run, left, unattended=loop.unattended, certify=loop.certify)

    async def pause(self, run: Run, reason: Reason) -> None:
        await (await in_thread(self.engine, run)).pause(reason=reason)

    async def tend_lane(self, run: Run, lane: int, reason: Reason | None) -> None:
        engine = await in_thread(self.engine, run)
        await (engine.open_lane(lane) if reason is None else engine.close_lane(lane, reason))

    async def unpause(self, run: Run) -> None:
        """Resume a run that the heartbeat paused, and restart its loop if it has ended."""
        await (await in_thread(self.engine, run)).resume(reason=Reason(Actor.HEARTBEAT))
        if self._loops[run.id].task.done():
            self.restart(run)

    async def _is_blocked(self, run: Run) -> bool:
        """Look what keeps the run, whose training has just ended, from another one, and pause it for that."""
        reason = await self.blocker(run)
        if reason is None:
            return False
        with suppress(UserError):  # it is paused already
            await self.pause(run, reason)
        self.trouble.set()
        return True

    async def close(self) -> None:
        """End the tasks; trainings go on and are found again at the next start.

        A run that was just stopped may end first: it lets go of its branch.
        """
        loops = [loop for loop in self._loops.values() if not loop.task.done()]
        engines = [(loop.task, self.engine_if_made(loop.run)) for loop in loops]
        if ending := [task for task, engine in engines if engine and engine.run.state is RunState.STOPPED]:
            await asyncio.wait(ending, timeout=ENDING_SECONDS)
        for loop in loops:
            loop.task.cancel()
        self._launcher.close()
        if loops:
            await asyncio.wait([loop.task for loop in loops])
        if self.nodes is not None:
            await self.nodes.close()

    # Parts

    def sandbox(self) -> SandboxFacts:
        """Return the sandbox of trainings, tried and proved on first use, which takes a second.

        Raises:
            DiskError: the state directory has no room.
            UserError: SANDBOX asks for what does not work here; or nothing works, and models are to write
                programs.
        """
        with self._making:
            if self._sandbox is None:
                with writing(self.settings.home):
                    self._sandbox = examine_sandbox(self.settings, self._launcher.environ)
                log.info("sandbox: %s", sandbox_text(self._sandbox))
            return self._sandbox

    def slots(self, run: Run | None = None) -> tuple[Slot, ...]:
        """Return the lanes of this machine, or those that a run may use; found on first use."""
        if self.nodes is not None:
            return self.nodes.slots(run)
        with self._making:
            if self._slots is None:
                settings = self.settings
                self._slots = find_slots(settings.lanes, self._launcher.environ, settings.train_command)
                log.info("lanes: %s", ", ".join(slot.device for slot in self._slots) or "one")
            return tuple(slot for slot in self._slots if run and slot.index in run.lanes) or self._slots

    def evaluation_checks(self) -> Iterator[Check]:
        """Yield what the numbers of each run that goes on are checked with."""
        for state in self.loops():
            if engine := self.engine_if_made(state.run):
                name = evaluator_of(self.settings.evaluate, state.run.repository, state.run.base_commit)
                if name and not engine.evaluations.checks(state.run):
                    yield Check("evaluation", None, "off in this run, as the baseline's was not believed")
                else:
                    yield evaluation_check(name, engine.evaluations.trainings.description)

    def _make_engine(self, run: Run) -> Engine:
        settings = self.settings
        sandbox = NO_SANDBOX if self.nodes else self.sandbox().sandbox
        plan = make_plan(settings, run, launcher=self._launcher, environ=self.environ, sandbox=sandbox)
        workspace, folders = self.workspace(run), RunFolders(settings.home, run.id)
        make = partial(RemoteTrainings, self.nodes.cluster) if self.nodes else Trainings
        return Engine(
            run,
            make(
                plan,
                journal=self.journal,
                workspace=workspace,
                trainer=self._trainer,
                folders=folders,
                slots=self.slots(run),
            ),
            make_researcher(
                settings,
                run,
                journal=self.journal,
                workspace=workspace,
                folders=folders,
                environ=self.environ,
                pause=self.pause,
            ),
            is_blocked=self._is_blocked,
            blocker=self.nodes.blocker if self.nodes else self.lane_blocker,
        )

    def _make_workspace(self, tag: str, repository: Path, base: str) -> Workspace:
        editable = self.settings.editable
        return Workspace(
            repository=repository,
            path=self.worktree(tag),
            tag=tag,
            editable=editable,
            frozen=with_imports(repository, base, self.settings.frozen, editable=editable),
        )
