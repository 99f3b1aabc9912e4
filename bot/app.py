"""The bot process: everything wired together, from its start to a clean end. Read from `serve` downwards."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from math import inf
from pathlib import Path
from typing import Any

from bot.commands.access import HERE, Request
from bot.commands.handlers import CommandHandlers
from bot.commands.inbox import Inbox
from bot.current import foremost
from bot.heartbeat.heartbeat import Heartbeat, Jobs, find_blocker, find_lane_blocker, ping, scheduled
from bot.heartbeat.probe import Examiner
from bot.heartbeat.wake_up import Certifying, WakeUp
from bot.local.server import LocalChannel, LocalServer
from bot.local.terminal import Output, attach_terminal
from bot.platforms import Chats, access_by, keep
from bot.proposers import clear_agents
from bot.reports.reporter import Reporter
from bot.runs import Runs
from bot.setup.service import feed_watchdog, notify, open_state_directory
from bot.setup.settings import Settings
from bot.setup.template import embedded_folder
from bot.setup.trainings import clear_left
from loop.errors import DiskError, UserError
from loop.experiment import EVERYWHERE, Actor, Cause, EventKind, Reason, Run, RunState
from loop.process.supervisor import boot_id
from loop.process.worker import in_thread
from loop.shell import own_command
from loop.store.events import SIGN_SECONDS, Notes, Sessions, last_event_of
from loop.store.evidence.certifications import Certifications
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal, StoreError
from notifiers.channels.tracker import Tracker
from notifiers.charts import WarmWorker
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.preferences import Preferences, PreferenceStore, in_groups
from notifiers.message import Message, Reply
from notifiers.text.status import standing_text

log = logging.getLogger(__name__)

FEW = 4  # experiments that `--exit-when-done` makes if no number is given
WATCH_SECONDS = 10.0  # from one look at the trainings to the next, between two heartbeats
CERTIFYING_SECONDS = 20.0  # from one look whether a certification has to begin to the next
TRACK_SECONDS = 30.0  # from one sending of new results to a tracker to the next
THREADS = 64  # more than can ever wait for a state file that is locked, so that others read meanwhile
LAST_WORDS_SECONDS = 0.25  # that the terminal may take at the end to show what happened last


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks of a bot process beyond the settings."""

    tag: str | None = None
    experiments: int | None = None
    exit_when_done: bool = False
    certify: bool = False
    given_at: float = field(default_factory=time.time)


async def serve(settings: Settings, order: Order) -> str | None:
    """Run the bot until a signal, until a person leaves its terminal, or until what was ordered is done.

    Return the tag of the run that was ordered, if that is done.

    Raises:
        UserError: it cannot start, or the experiments that were ordered cannot be made.
    """
    loop, ending = asyncio.get_running_loop(), threading.Event()

    def end() -> None:
        if not ending.is_set():  # a second signal does not cut the end short
            ending.set()
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, log.warning, "the terminal has hung up")
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    running = asyncio.create_task(_serve(settings, order, ending), name="bot")
    try:
        return await running
    except asyncio.CancelledError:
        log.info("ended by a signal")
    except StoreError:
        if not ending.is_set():  # else it has waited for the state file until now
            raise
    return None


async def _serve(settings: Settings, order: Order, ending: threading.Event) -> str | None:
    notices = open_state_directory(settings.home, settings.secrets)
    async with AsyncExitStack() as stack:
        journal = await _open_journal(settings, ending)
        stack.callback(journal.close)
        bot = Bot(settings, journal)
        for notice in notices:
            bot.say_here(notice)
        ends = await bot.start(order, stack)
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return journal.run_by_id(bot.ordered.id).tag if bot.ordered else None


async def _open_journal(settings: Settings, ending: threading.Event) -> Journal:
    path = settings.home / "state.db"
    opening = asyncio.create_task(in_thread(Journal, path, patience=inf, ending=ending))
    _, late = await asyncio.wait({opening}, timeout=2)
    if late:
        await Output(sys.stderr).write(f"{path} cannot be used yet, see bot.log beside it: the bot waits.\n")
    return await opening


@dataclass(eq=False)
class Bot:
    """The parts of the bot process, each given those that it uses; `start` sets them going."""

    settings: Settings
    journal: Journal

    def __post_init__(self) -> None:
        settings, journal, zone = self.settings, self.journal, self.settings.zone
        examiner = Examiner(
            journal=journal,
            home=settings.home,
            devices=os.environ.get("CUDA_VISIBLE_DEVICES") if settings.executor == "local" else "",
            pattern=settings.summary_pattern,
        )
        self._runs = Runs(
            settings,
            repository=settings.repository or embedded_folder(settings),
            journal=journal,
            environ=os.environ,
            today=lambda: datetime.now(zone).date(),
            blocker=functools.partial(find_blocker, examiner),
            lane_blocker=functools.partial(find_lane_blocker, examiner),
        )
        self._heartbeat = Heartbeat(
            self._runs,
            examiner,
            journal=journal,
            minutes=settings.heartbeat_minutes,
            stall_minutes=settings.stall_minutes,
            report=functools.partial(ping, settings.healthcheck_url.get_secret_value()),
        )
        self._certifying = Certifying(
            self._runs,
            journal=journal,
            wake_up=settings.wake_up,
            minutes=settings.certify_minutes,
            pairs=settings.certify_repeats,
            zone=zone,
        )
        usual = in_groups(Preferences(quiet=settings.quiet_hours), settings.digest_every)
        preferences = PreferenceStore(journal, default=usual, metric=settings.metric)
        self._drawing = charts = WarmWorker()
        reporter = Reporter(self._runs, settings, zone=zone, now=time.time, drawing=charts)
        access = access_by(settings)
        self._chats = Chats(
            settings,
            access=access,
            journal=journal,
            preferences=preferences,
            status=self._runs.status,
            report=reporter.for_chat,
            zone=zone,
            say_here=self.say_here,
        )
        handlers = CommandHandlers(
            self._runs, settings, preferences=preferences, chats=self._chats.health, zone=zone, drawing=charts
        )
        self._inbox = Inbox(handlers=handlers, access=access, journal=journal, now=time.time)
        self._server = LocalServer(path=settings.socket, answer=self._answer_here, progress=handlers.progress)
        self._delivery = Delivery(
            LocalChannel(self._server), journal, report=reporter.for_terminal, zone=zone
        )
        self.ordered: Run | None = None
        self._saying: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()  # by the person at the terminal

    def say_here(self, text: str) -> None:
        """Say something in the terminal, as soon as it is attached."""
        task = asyncio.create_task(self._server.say(Message(text)))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def start(self, order: Order, stack: AsyncExitStack) -> set[asyncio.Task[object]]:
        """Start everything; `stack` ends it. Return the tasks of which the first to end ends the bot."""
        async with self._runs.current.changes(asked_at=order.given_at, or_end=True):
            await self._open(stack)
            await self._begin_session(stack)
            await in_thread(clear_agents, self.settings.home)
            await in_thread(self._clear_trainings)
            if await in_thread(self.needs_template, order):
                await self._runs.prepare()
            await self._attach(stack)
            await self._heartbeat.arrive()
            self.ordered = ordered = await go_on(self._runs, self.settings, order)
            if ordered is None and (standing := await in_thread(self._standing)):
                self.say_here(standing)
        await self._begin_checks(stack)
        ends = {_begin(stack, self._left.wait(), "person at the terminal")}
        if ordered is not None and order.exit_when_done:
            ends.add(_begin(stack, self._runs.over(ordered), "order"))
        return ends

    async def _attach(self, stack: AsyncExitStack) -> None:
        """Let terminal and chats come in."""
        # They end in the reverse order: what happened last is still told to everybody here.
        attaching = attach_terminal(self.settings.socket, left=self._left)
        terminal = asyncio.create_task(attaching, name="terminal")
        stack.push_async_callback(_finish, terminal)
        stack.push_async_callback(self._server.stop)  # ends what follows the bot, after the last message
        stack.push_async_callback(self._delivery.catch_up)
        _begin(stack, keep(self._delivery.run), "delivery")
        stack.push_async_callback(self._runs.close)
        _begin(stack, self._chats.run(self._inbox.answer), "chats")
        if self.settings.has_chat:
            self._drawing.get_ready()  # the first start on a machine looks for its fonts

    async def _open(self, stack: AsyncExitStack) -> None:
        await self._server.start()  # from here on no other bot can work on this state directory
        stack.push_async_callback(self._server.stop)
        stack.push_async_callback(self._drawing.close)
        notify("READY=1", os.environ)  # it answers from now on, though data may have to be prepared
        stack.callback(notify, "STOPPING=1", os.environ)

    async def _begin_session(self, stack: AsyncExitStack) -> None:
        """Record that the bot is there, from now on and until its clean end."""
        sessions = Sessions(self.journal)
        session = await in_thread(sessions.begin, boot=boot_id())
        stack.push_async_callback(in_thread, sessions.end, session)
        await stack.enter_async_context(
            scheduled({functools.partial(in_thread, sessions.seen, session): SIGN_SECONDS})
        )

    async def _begin_checks(self, stack: AsyncExitStack) -> None:
        settings, heartbeat = self.settings, self._heartbeat
        jobs: Jobs = {heartbeat.beat: 60 * settings.heartbeat_minutes, heartbeat.watch: WATCH_SECONDS}
        if settings.wake_up and settings.certify_minutes:
            jobs[self._certifying.look] = CERTIFYING_SECONDS
        if settings.tracker:
            service, project = settings.tracker
            tracker = Tracker(self.journal, service=service, project=project, environ=os.environ)
            jobs[tracker.catch_up] = TRACK_SECONDS
        await stack.enter_async_context(scheduled(jobs))
        _begin(stack, keep(heartbeat.run), "extra heartbeats")
        _begin(stack, feed_watchdog(os.environ, healthy=self._is_healthy), "watchdog")
        if settings.wake_up:
            wake_up = WakeUp(
                self.journal,
                cron=settings.wake_up,
                zone=settings.zone,
                prepare=self._certifying.finish,
                beat=heartbeat.beat,
            )
            _begin(stack, keep(wake_up.run), "wake-up")

    def needs_template(self, order: Order) -> bool:
        """Tell whether the run to come is of the embedded template, if there is no other repository."""
        run = self.journal.run(order.tag) if order.tag else foremost(self.journal.active_runs())
        return run is None or run.repository.resolve() == self._runs.repository.resolve()

    def _standing(self) -> str:
        """Return why nothing trains though nothing was ordered; empty where a run goes on or says so."""
        run = self._runs.current.now()
        if run is None:
            return "There is no run yet. /start_run starts one."
        stopped = run.state is RunState.STOPPED
        return f"Run {run.tag}: {_standing_of(self._runs, run, self.settings.zone)}" if stopped else ""

    def _clear_trainings(self) -> None:
        runs, journal = self.journal.runs(), self.journal
        needed = [run.id for run in runs if run.state is not RunState.STOPPED or _is_under_way(journal, run)]
        clear_left(self.settings.home, needed)

    def _is_healthy(self) -> bool:
        # A restart would not help with a state file that cannot be written: heartbeats wait for it too.
        return self._heartbeat.on_time() or self.journal.blocked is not None

    async def _answer_here(self, text: str) -> Reply:
        reply = await self._inbox.answer(Request(HERE, text, key="", sent_at=time.time()))
        assert reply is not None  # only the owner of the process can open the socket
        return reply


# What runs: the run under way, or a new one


async def go_on(runs: Runs, settings: Settings, order: Order) -> Run | None:
    """Go on with the run under way, or start the one that is ordered; return it.

    None if people are to decide: nothing is ordered here and they can do so from a chat, or the run under
    way is of another repository than the one that is set now.

    Raises:
        UserError: there is no run that the order could mean, or a new one cannot be made.
    """
    for stopped in await in_thread(_half_stopped, runs):
        runs.conduct(stopped)  # the bot before this one ended during the /stop: end what trains
    ordered = order.tag or order.experiments or order.exit_when_done
    if settings.has_chat and not ordered and not await in_thread(runs.journal.active_runs):
        return None
    foreign = await in_thread(_foreign_run, runs, settings) if order.tag is None else None
    if foreign is not None:
        if order.exit_when_done:
            resume = own_command(f"up --tag {foreign.tag}", settings.home)
            raise UserError(
                f"{_mismatch(runs, foreign)}. To resume it: `{resume}`. "
                f"To end it: `{own_command('up', settings.home)}`, then /stop."
            )
        if not await in_thread(_is_accepted, runs, foreign):
            await _let_people_decide(runs, settings, foreign)
            return None
    run = await in_thread(_choose_run, runs, settings, order.tag) if foreign is None else foreign
    if ordered or not settings.has_chat:
        await in_thread(runs.require_fit, run)
    await _make_ready(runs, run, settings.zone)
    if order.exit_when_done and run.state is RunState.PAUSED:
        raise UserError(f"Run {run.tag} is paused. Start without --exit-when-done and send /resume.")
    experiments = order.experiments or settings.experiments or (FEW if order.exit_when_done else None)
    if order.certify and experiments is None:
        raise UserError("--certify needs --experiments: it comes at their end.")
    runs.conduct(run, experiments, unattended=order.exit_when_done, certify=order.certify)
    for other in await in_thread(_beside, runs, settings, run):
        runs.conduct(other, settings.experiments)
    return run


def _beside(runs: Runs, settings: Settings, run: Run) -> list[Run]:
    """Return the runs that go on in other lanes than this one."""
    others = [each for each in runs.going() if each.id != run.id and not _is_foreign(runs, settings, each)]
    return [each for each in others if not runs.shares_lanes(each, runs.slots(run))]


def _standing_of(runs: Runs, run: Run, zone: tzinfo) -> str:
    turn = last_event_of(runs.journal, run.id, (EventKind.RUN_STATE,))
    return standing_text(runs.status(run), since=turn.at if turn else run.created_at, zone=zone)


async def _make_ready(runs: Runs, run: Run, zone: tzinfo) -> None:
    if run.state is not RunState.RUNNING:
        reason = await in_thread(_standing_of, runs, run, zone)  # told everywhere
        await in_thread(runs.journal.note, run.id, EventKind.NOTED, reason=reason)
    try:
        engine = await in_thread(runs.engine, run)
        if run.state is RunState.DONE:
            await engine.resume(reason=Reason(Actor.PERSON, answered_in=EVERYWHERE))  # the note says so
    except DiskError:
        if run.state is RunState.DONE:
            raise
        # The run's task meets it again, and the heartbeat restarts that until there is room.


def _half_stopped(runs: Runs) -> list[Run]:
    stopped = (run for run in runs.journal.runs() if run.state is RunState.STOPPED)
    return [run for run in stopped if _is_under_way(runs.journal, run) or _holds_branch(runs, run)]


def _holds_branch(runs: Runs, run: Run) -> bool:
    """Tell whether its worktree still has its branch, so that nobody can check it out elsewhere."""
    try:
        pointer = (runs.worktree(run.tag) / ".git").read_text(encoding="utf-8")
        head = Path(pointer.removeprefix("gitdir: ").strip(), "HEAD").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return head.strip() == f"ref: refs/heads/{run.branch}"


def _is_under_way(journal: Journal, run: Run) -> bool:
    open_ = Certifications(journal).under_way(run.id)
    return bool(journal.undecided(run.id) or trainings_under_way(journal, run.id) or open_)


def _choose_run(runs: Runs, settings: Settings, tag: str | None) -> Run:
    if tag is None:
        active = [run for run in runs.journal.active_runs() if not _is_foreign(runs, settings, run)]
        return foremost(active) or runs.start_run()
    run = runs.journal.run(tag)
    if run is not None and run.state is RunState.STOPPED:
        raise UserError(f"Run {tag} is stopped for good. Choose another tag.")
    return run or runs.start_run(tag)


def _foreign_run(runs: Runs, settings: Settings) -> Run | None:
    return next((run for run in runs.going() if _is_foreign(runs, settings, run)), None)


def _is_foreign(runs: Runs, settings: Settings, run: Run) -> bool:
    # Without REPOSITORY any run may go on, such as an adopted one.
    return settings.repository is not None and run.repository.resolve() != runs.repository.resolve()


def _mismatch(runs: Runs, run: Run) -> str:
    return f"Run {run.tag} is of {run.repository}, but REPOSITORY is {runs.repository}"


def _is_accepted(runs: Runs, run: Run) -> bool:
    """Tell whether people were asked already: a run that they resumed goes on after later starts too."""
    return Notes(runs.journal).state(run.id, Cause.REPOSITORY) == str(runs.repository)


async def _let_people_decide(runs: Runs, settings: Settings, run: Run) -> None:
    with suppress(UserError):  # it is paused for that already
        await runs.pause(run, Reason(Actor.STARTUP, cause=Cause.REPOSITORY))
    # What to do comes first: paths may be long, and are cut.
    reason = f"/resume continues it; /stop and /start_run begin another. {_mismatch(runs, run)}"
    tell = Notes(runs.journal).tell
    await in_thread(tell, run.id, Cause.REPOSITORY, str(runs.repository), reason, urgent=True)
    runs.conduct(run, settings.experiments)


# Tasks


def _begin(stack: AsyncExitStack, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
    """Start a task that ends, cancelled if need be, when `stack` comes to it."""
    task = asyncio.create_task(work, name=name)
    stack.push_async_callback(_cancel, task)
    return task


async def _finish(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task}, timeout=LAST_WORDS_SECONDS)
    await _cancel(task)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
