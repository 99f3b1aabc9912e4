"""The bot process: everything wired together, from its start to a clean end."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from logging.handlers import RotatingFileHandler
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.access import HERE, Request
from bot.commands import COMMANDS
from bot.handlers import CommandHandlers
from bot.heartbeat.heartbeat import Heartbeat, report
from bot.inbox import Inbox
from bot.local.server import LocalChannel, LocalServer
from bot.local.terminal import chat, follow
from bot.platforms import Chats, access_by
from bot.proposer_factory import clear_agents
from bot.reports.morning import Reporter, WakeUp
from bot.runs import Runs
from bot.setup.service import feed_watchdog, notify
from bot.setup.settings import Settings
from bot.setup.template import embedded_folder, prepare_embedded
from loop.errors import UserError
from loop.experiment import Actor, Cause, Reason, Run, RunState
from loop.process.supervisor import boot_id
from loop.process.threads import in_thread
from loop.results.status import RunStatus, run_status
from loop.store.journal import Journal
from loop.store.notes import Notes
from loop.store.sessions import SIGN_SECONDS, Sessions
from loop.text import without_secrets
from notifiers.channels.tracker import Tracker
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.preferences import PreferenceStore, usual_preferences
from notifiers.message import Reply

BYTES = 2_000_000
FILES = 3


class Formatter(logging.Formatter):
    """Writes a record as a line, with `***` for each of `secrets` and for what looks like one."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it if there is one."""
        return without_secrets(super().format(record), self._secrets)


def start_logging(path: Path, secrets: Collection[str] = ()) -> None:
    """Write everything from INFO up to `path`, the older part to `path.1` and so on, without `secrets`."""
    handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=FILES, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(Formatter(secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it would tell of every beat
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of URLs, and Telegram's hold the token
    logging.getLogger("telegram").setLevel(logging.CRITICAL)  # tracebacks of what our own lines say plainly


FEW = 4
"""How many experiments `--exit-when-done` makes where no number is given."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks of a bot process beyond the settings."""

    tag: str | None = None
    experiments: int | None = None
    exit_when_done: bool = False


async def set_going(host: Runs, settings: Settings, order: Order) -> asyncio.Task[None] | None:
    """Go on with the run that was under way, or begin the one that is ordered; return its task.

    None where people are to say what goes on: they can reach the bot from elsewhere and nothing is ordered
    here, or the run under way is of another repository than the one that is set now.

    Raises:
        UserError: there is no run that the order could mean.
        UserError: a new run cannot be made.
    """
    for stopped in await in_thread(_half_stopped, host):
        host.conduct(stopped)  # the bot before this one died over the /stop: end what it had under way
    experiments = order.experiments or settings.experiments or (FEW if order.exit_when_done else None)
    ordered = order.tag or order.experiments or order.exit_when_done
    if settings.has_chat and not ordered and not await in_thread(host.journal.active_runs):
        return None
    strange = await in_thread(_strange_run, host, settings) if order.tag is None else None
    if strange is not None and order.exit_when_done:
        raise UserError(
            f"{_strangeness(host, strange)}: `autoresearch up --tag {strange.tag}` goes on with it; "
            "`autoresearch up` and then /stop ends it."
        )
    if strange is not None and not await in_thread(_is_told, host, strange):
        with suppress(UserError):  # it is paused for that already
            await host.pause(strange, Reason(Actor.STARTUP, cause=Cause.REPOSITORY))
        await in_thread(_tell, host, strange)
        host.conduct(strange)
        return None
    run = await in_thread(_choose_run, host, settings, order.tag) if strange is None else strange
    if run.state is RunState.DONE:
        await host.engine(run).resume()
    if order.exit_when_done and run.state is RunState.PAUSED:
        raise UserError(f"Run {run.tag} is paused: start without --exit-when-done and give /resume.")
    return host.conduct(run, experiments)


def _half_stopped(host: Runs) -> list[Run]:
    """Return the stopped runs that still have an experiment under way."""
    stopped = (run for run in host.journal.runs() if run.state is RunState.STOPPED)
    return [run for run in stopped if host.journal.undecided(run.id)]


def _strange_run(host: Runs, settings: Settings) -> Run | None:
    """Return the run under way if it is of another repository than the one that is set."""
    going = (run for run in host.journal.active_runs() if run.state is not RunState.DONE)
    return next((run for run in going if not _is_at_home(host, settings, run)), None)


def _is_at_home(host: Runs, settings: Settings, run: Run) -> bool:
    """Tell whether a run may go on by itself; where no repository is set, any may, such as an adopted one."""
    return settings.repository is None or run.repository.resolve() == host.repository.resolve()


def _strangeness(host: Runs, run: Run) -> str:
    return f"Run {run.tag} is of {run.repository}, and REPOSITORY is {host.repository}"


def _is_told(host: Runs, run: Run) -> bool:
    """Tell whether people know: a run that they wanted to go on with goes on after the next start as well."""
    return Notes(host.journal).state(run.id, Cause.REPOSITORY) == str(host.repository)


def _tell(host: Runs, run: Run) -> None:
    # What to do comes first: paths may be long, and are cut.
    reason = f"/resume goes on with it, /stop and /start_run begin another. {_strangeness(host, run)}"
    Notes(host.journal).tell(run.id, Cause.REPOSITORY, str(host.repository), reason, urgent=True)


def _choose_run(host: Runs, settings: Settings, tag: str | None) -> Run:
    """Return the run of that tag, else the newest active one, else a new one."""
    if tag is None:
        active = [run for run in host.journal.active_runs() if _is_at_home(host, settings, run)]
        return active[-1] if active else host.start_run()
    run = host.journal.run(tag)
    if run is not None and run.state is RunState.STOPPED:
        raise UserError(f"Run {tag} is stopped: choose another tag.")
    return run or host.start_run(tag)


LOOK_SECONDS = 5.0
"""How often it is looked whether somebody has set the clock back."""


@asynccontextmanager
async def scheduled(
    jobs: Mapping[Callable[[], Awaitable[None] | None], float], *, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[None]:
    """Make each call every so many seconds, until the end of the context.

    A call that comes late (the machine slept) is made up for once, and none is made while the last one runs.
    The experiments are no jobs of the scheduler: its end would cancel them.
    """
    scheduler = AsyncIOScheduler(timezone="UTC")
    for call, seconds in jobs.items():
        scheduler.add_job(
            call, "interval", seconds=seconds, coalesce=True, misfire_grace_time=None, max_instances=1
        )
    scheduler.start()
    looking = asyncio.create_task(_follow_clock(scheduler, look_seconds), name="schedule")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})
        scheduler.shutdown(wait=False)


async def _follow_clock(scheduler: AsyncIOScheduler, look_seconds: float) -> None:
    """Make the calls that a clock that was set back has put off; never returns.

    APScheduler goes by the wall clock: set back by three hours, it would make no call for three hours.
    """
    while True:
        await asyncio.sleep(look_seconds)
        now = datetime.now(UTC)
        for job in scheduler.get_jobs():
            if job.next_run_time > now + job.trigger.interval + timedelta(seconds=look_seconds):
                job.modify(next_run_time=now)


WATCH_SECONDS = 10.0
"""How often the trainings are looked at between two heartbeats."""

TRACK_SECONDS = 30.0
"""How often a tracker is told what was decided since."""


def zone_of(settings: Settings) -> tzinfo:
    """Return the time zone that dates and times are shown in."""
    return settings.time_zone or datetime.now().astimezone().tzinfo or UTC


async def serve(settings: Settings, order: Order) -> None:
    """Run the bot until it is told to end, or has done what was ordered.

    Raises:
        UserError: it cannot start.
        UserError: it cannot start, or the experiments that were ordered cannot be made.
    """
    told_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
    async with AsyncExitStack() as stack:
        try:
            settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            start_logging(settings.home / "bot.log", settings.secrets)
        except OSError as error:
            raise UserError(
                f"The state directory {settings.home} cannot be written to ({error.strerror}): "
                "choose another one with --home or AUTORESEARCH_HOME."
            ) from None
        journal = Journal(settings.home / "state.db")
        stack.callback(journal.close)
        zone = zone_of(settings)
        host = Runs(
            settings,
            repository=settings.repository or embedded_folder(settings),
            journal=journal,
            environ=os.environ,
            today=lambda: datetime.now(zone).date(),
        )
        usual = usual_preferences(every=settings.digest_every, quiet=settings.quiet_hours)
        preferences = PreferenceStore(journal, default=usual)

        async def answer_here(text: str) -> Reply:
            reply = await inbox.answer(Request(HERE, text, key="", sent_at=time.time()))
            assert reply is not None  # whoever can open the socket is no stranger
            return reply

        def status(run: Run) -> RunStatus:
            return run_status(journal, run, worktree=host.worktree(run.tag))

        reporter = Reporter(host, settings, zone=zone, now=time.time)
        chats = Chats(
            settings,
            journal=journal,
            preferences=preferences,
            status=status,
            report=reporter.for_chat,
            zone=zone,
        )
        handlers = CommandHandlers(
            host, settings, preferences=preferences, chats=chats.health, zone=zone, now=time.time
        )
        inbox = Inbox(handlers=handlers, access=access_by(settings), journal=journal, now=time.time)
        server = LocalServer(path=settings.socket, answer=answer_here, progress=handlers.progress)
        await server.start()  # from here on no other bot can work on this state directory
        stack.push_async_callback(server.stop)
        notify("READY=1", os.environ)  # it answers from now on, though data may have to be prepared
        stack.callback(notify, "STOPPING=1", os.environ)
        sessions = Sessions(journal)
        session = await in_thread(sessions.begin, boot=boot_id())
        stack.callback(sessions.end, session)
        await in_thread(clear_agents, settings.home)
        if settings.repository is None:
            await prepare_embedded(settings)

        terminal = asyncio.create_task(_attach_terminal(settings), name="terminal")
        stack.push_async_callback(_finish, terminal)
        stack.push_async_callback(server.stop)  # ends what follows the bot, after it was told everything
        delivery = Delivery(LocalChannel(server), journal, report=reporter.for_terminal, zone=zone)
        stack.push_async_callback(delivery.catch_up)
        telling = asyncio.create_task(delivery.run(), name="delivery")
        stack.push_async_callback(_cancel, telling)
        stack.push_async_callback(host.close)
        chatting = asyncio.create_task(chats.run(inbox.answer), name="chats")
        stack.push_async_callback(_cancel, chatting)

        heartbeat = Heartbeat(
            host,
            journal=journal,
            home=settings.home,
            minutes=settings.heartbeat_minutes,
            stall_minutes=settings.stall_minutes,
            devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
            outside=functools.partial(report, settings.healthcheck_url.get_secret_value()),
        )
        stack.push_async_callback(heartbeat.close)
        await heartbeat.arrive()
        ordered = await set_going(host, settings, order)
        host.on_ended, host.is_blocked = lambda: heartbeat.soon(0), heartbeat.hinders
        jobs: dict[Callable[[], Awaitable[None] | None], float] = {
            heartbeat.beat: 60 * settings.heartbeat_minutes,
            heartbeat.watch: WATCH_SECONDS,
            functools.partial(sessions.seen, session): SIGN_SECONDS,
        }
        if settings.tracker:
            service, project = settings.tracker
            tracker = Tracker(journal, service=service, project=project, environ=os.environ)
            jobs[tracker.catch_up] = TRACK_SECONDS
        await stack.enter_async_context(scheduled(jobs))
        await heartbeat.beat()
        if settings.wake_up:
            wake_up = WakeUp(journal, cron=settings.wake_up, zone=zone, beat=heartbeat.beat)
            waking = asyncio.create_task(wake_up.run(), name="wake-up")
            stack.push_async_callback(_cancel, waking)
        feeding = asyncio.create_task(feed_watchdog(os.environ, healthy=heartbeat.on_time), name="watchdog")
        stack.push_async_callback(_cancel, feeding)
        waits = {asyncio.create_task(told_to_end.wait(), name="signal"), telling, terminal, chatting}
        if ordered is not None and order.exit_when_done:
            waits.add(ordered)
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _attach_terminal(settings: Settings) -> None:
    """Show on this process's terminal, or in its output, what the bot says; return when a person leaves."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        names = [command.name for command in COMMANDS]
        await chat(settings.socket, commands=names, history=settings.home / "history")
    else:
        await follow(settings.socket, sys.stdout)


async def _finish(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task}, timeout=2)
    await _cancel(task)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
