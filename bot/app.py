"""The bot process: everything wired together, from its start to a clean end."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, tzinfo

from bot.chats import Chats, access_by
from bot.commands import COMMANDS
from bot.errors import BotError
from bot.handlers import Desk
from bot.heartbeat.heartbeat import Heartbeat
from bot.inbox import Inbox
from bot.local.server import LocalChannel, LocalServer
from bot.local.terminal import chat, follow
from bot.morning import Reporter
from bot.proposer_factory import clear_agents
from bot.request import HERE, Request
from bot.runs import Host
from bot.schedule import scheduled
from bot.setup import embedded
from bot.setup.healthcheck import report
from bot.setup.logs import start_logging
from bot.setup.service import feed_watchdog, notify
from bot.setup.settings import Settings
from bot.startup import Order, set_going
from bot.wake_up import WakeUp
from loop.experiment import Run
from loop.process.supervisor import boot_id
from loop.process.threads import in_thread
from loop.results.status import RunStatus, run_status
from loop.store.journal import Journal
from loop.store.sessions import SIGN_SECONDS, Sessions
from notifiers.channels.tracker import Tracker
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.notify import PreferenceStore
from notifiers.delivery.preferences import usual_preferences
from notifiers.message import Reply

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
        BotError: it cannot start.
        LoopError: it cannot start, or the experiments that were ordered cannot be made.
    """
    told_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
    async with AsyncExitStack() as stack:
        try:
            settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            start_logging(settings.home / "bot.log", settings.secrets)
        except OSError as error:
            raise BotError(
                f"The state directory {settings.home} cannot be written to ({error.strerror}): "
                "choose another one with --home or AUTORESEARCH_HOME."
            ) from None
        journal = Journal(settings.home / "state.db")
        stack.callback(journal.close)
        zone = zone_of(settings)
        host = Host(
            settings,
            repository=settings.repository or embedded.folder(settings),
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
            report=reporter.told,
            zone=zone,
        )
        desk = Desk(host, settings, preferences=preferences, chats=chats.health, zone=zone, now=time.time)
        inbox = Inbox(desk=desk, access=access_by(settings), journal=journal, now=time.time)
        server = LocalServer(path=settings.socket, answer=answer_here, progress=desk.progress)
        await server.start()  # from here on no other bot can work on this state directory
        stack.push_async_callback(server.stop)
        notify("READY=1", os.environ)  # it answers from now on, though data may have to be prepared
        stack.callback(notify, "STOPPING=1", os.environ)
        sessions = Sessions(journal)
        session = await in_thread(sessions.begin, boot=boot_id())
        stack.callback(sessions.end, session)
        await in_thread(clear_agents, settings.home)
        if settings.repository is None:
            await embedded.prepare(settings)

        terminal = asyncio.create_task(_attach_terminal(settings), name="terminal")
        stack.push_async_callback(_finish, terminal)
        stack.push_async_callback(server.stop)  # ends what follows the bot, after it was told everything
        delivery = Delivery(LocalChannel(server), journal, report=reporter.told_here, zone=zone)
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
        host.on_ended, host.is_hindered = lambda: heartbeat.soon(0), heartbeat.hinders
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
