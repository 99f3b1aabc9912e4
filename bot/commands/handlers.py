"""What the commands mean: each is obeyed here, whatever front end it came from."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import tzinfo
from typing import TypeAlias

from bot.commands.access import Request
from bot.commands.ideas import IdeaCommands
from bot.commands.table import USUAL, VISIBLE, Call, find_command, is_count
from bot.heartbeat.health import health_checks, incident_lines, loop_check
from bot.reports.bundle import bundle_folder, make_bundle
from bot.reports.reporter import Reporter
from bot.setup.doctor import Check, examine, examine_services, render
from bot.setup.trainings import sandbox_check
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evaluation.certainty import read_certainty
from loop.evaluation.noise import read_noise
from loop.evidence import Repeat
from loop.experiment import Actor, Asker, EventKind, Goal, Reason, Run, RunState
from loop.files import writing
from loop.folders import RunFolders
from loop.logs.tail import read_tail
from loop.process.worker import in_thread
from loop.store.events import last_event_of
from loop.store.experiments import read_rows
from loop.text import without_secrets
from notifiers.charts import WarmWorker, chart_of
from notifiers.charts.scene import ChartError
from notifiers.delivery.preferences import PreferenceStore, Verbosity, describe
from notifiers.message import Button, Message, Reply
from notifiers.text.certainty import certified_line
from notifiers.text.digest import corrected_text, digest, message_of, retagged_text
from notifiers.text.notification import experiment_buttons, named_buttons
from notifiers.text.results import PHONE, log_message, results_message
from notifiers.text.status import START_MODES, card, progress_line, runs_message, start_card, status_message
from notifiers.text.words import duration, look_at

INTRODUCTION = "The bot trains one experiment after another and reports here. /help lists all commands."
RESULTS_SHOWN = 10
TERMINAL = 76  # columns that a table has there
NO_MORNING = "WAKE_UP is not set: no report comes in the morning, /summary makes one."
LOG_BYTES = 3000  # of a log that are shown: about what one chat message holds


Handler: TypeAlias = Callable[[Call, Request], Awaitable[Message | Reply]]


@dataclass(eq=False)
class CommandHandlers(IdeaCommands):
    """Answers commands about the runs; `now` gives seconds since the epoch.

    `chats` tells how the chats are, for `/health`; `drawing` draws charts.
    """

    _: KW_ONLY
    preferences: PreferenceStore
    chats: Callable[[], Sequence[Check]]
    zone: tzinfo
    now: Callable[[], float] = time.time
    drawing: WarmWorker | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reporter = Reporter(
            self.runs, self.settings, zone=self.zone, now=self.now, drawing=self.drawing
        )

    async def obey(self, call: Call, request: Request) -> Reply:
        """Do what is asked and return the answer. The method of a command has its name."""
        handler: Handler = getattr(self, f"_{call.command.name}")
        answer = await handler(call, request)
        return answer if isinstance(answer, Reply) else Reply(answer)

    async def progress(self) -> str:
        """Return the current training in one line, or why there is none; empty when no run is active."""
        run = None if self.runs.current.is_changing else await in_thread(self.runs.current.now)
        if run is None or run.state is RunState.STOPPED:
            return ""
        status = await in_thread(self.runs.status, run)
        return progress_line(status, zone=self.zone, waits_for=self._waits_for(run))

    # Control: the channel that asks has its message about the change in the answer, all others in the event's

    async def _start_run(self, call: Call, request: Request) -> Reply:
        tag, mode, lanes = call.text("tag"), call.text("mode"), call.text("lanes")
        if mode and mode not in START_MODES:
            raise UserError(f"{mode} is no mode: say {', '.join(START_MODES)}.")
        async with self.runs.current.changes(asked_at=request.sent_at):
            await self.runs.prepare()
            if not call.has("go"):
                plan = await in_thread(self.runs.plan_run, tag, lanes=lanes)
                return Reply(start_card(plan), replaces=True)
            channel = request.sender.channel
            run = await in_thread(self.runs.start_run, tag, answered_in=channel, lanes=lanes)
            self.runs.conduct(run, self.settings.experiments)
            if mode:
                await in_thread(self.preferences.change, request.sender.channel, mode)
        started = await in_thread(last_event_of, self._journal, run.id, (EventKind.RUN_STARTED,))
        assert started is not None
        return Reply(message_of(started, run), replaces=True, for_all=True)

    async def _cancel(self, _: Call, __: Request) -> Reply:
        return Reply(Message("Cancelled."), replaces=True)

    async def _pause(self, call: Call, request: Request) -> Reply:
        engine = await self.steered(request)
        now, tag = call.has("now"), engine.run.tag
        await engine.pause(now=now, reason=_order(request))
        if engine.run.state is RunState.PAUSING:
            text = f"Run {tag} pauses after the current experiment. /pause now ends it at once."
            return Reply.changed(text, brief=True)
        then = "reruns the interrupted experiment" if now else "continues it"
        return Reply.changed(f"Run {tag} is paused. /resume {then}. Best: {look_at(tag)}", brief=True)

    async def _resume(self, _: Call, request: Request) -> Reply:
        engine = await self.steered(request)
        await in_thread(self.runs.require_fit, engine.run)
        await engine.resume(reason=_order(request))
        self.runs.conduct(engine.run, self.settings.experiments)
        return Reply.changed(f"Run {engine.run.tag} continues.", brief=True)

    async def _stop(self, _: Call, request: Request) -> Reply:
        run, order = await self.meant_run(request), _order(request)
        if not request.sender.is_local:
            order = replace(order, answered_in="")  # the event brings the report
        await (await in_thread(self.runs.engine, run)).stop(reason=order)
        return Reply.changed(f"Run {run.tag} is stopped. Its branch {run.branch} and all results stay.")

    async def _retag(self, call: Call, request: Request) -> Reply:
        old, new = call.arguments["old"], call.arguments["new"]
        run = await in_thread(self._journal.run, old)
        if run is None:
            raise UserError(f"No run {old}: /runs lists all runs.")
        await (await in_thread(self.runs.engine, run)).retag(new, answered_in=request.sender.channel)
        return Reply.changed(retagged_text(old, new))

    async def _skip(self, _: Call, request: Request) -> Reply:
        engine = await self.steered(request)
        given_up = await engine.skip(answered_in=_answered_in(request))
        if isinstance(given_up, Repeat):
            return Reply.changed(f"Skipping a repeat of experiment #{given_up.number}.", brief=True)
        return Reply.changed(f"Skipping experiment #{given_up.number}: {given_up.description}", brief=True)

    async def _rerun(self, call: Call, request: Request) -> Reply:
        engine = await self.steered(request)
        number, times = call.count("n"), call.count("k", 1)
        await engine.rerun(number, times, request.sender.asker)
        again = "once more" if times == 1 else f"{times} more times"
        return Reply.changed(f"Experiment #{number} will be trained {again}{_when(engine.run) or ', next'}.")

    async def _accept(self, call: Call, request: Request) -> Reply:
        return await self._correct(EventKind.ACCEPTED, call, request)

    async def _reject(self, call: Call, request: Request) -> Reply:
        return await self._correct(EventKind.REJECTED, call, request)

    async def _correct(self, kind: EventKind, call: Call, request: Request) -> Reply:
        engine, number = await self.steered(request), call.count("n")
        by = Asker(request.sender.name, _answered_in(request))
        correction = await engine.correct(kind, number, by)
        when = _when(engine.run) if correction.retried else ""
        return Reply.changed(corrected_text(kind, number, correction.retried) + when, brief=True)

    async def _certify(self, _: Call, request: Request) -> Reply:
        engine = await self.steered(request)
        asked = await engine.certify(request.sender.asker)
        cost = duration(await in_thread(engine.certifier.seconds, engine.run, asked.pairs))
        each = f"The best program and the baseline will be trained {asked.pairs} times each"
        return await self._trained(engine, f"{each}, about {cost}", request)

    async def _prune(self, call: Call, request: Request) -> Reply:
        engine, sender = await self.steered(request), request.sender
        given = call.text("numbers") or ""
        if not given:
            count, seconds = await engine.prune(sender.asker)
            keeps = "1 keep" if count == 1 else f"{count} keeps, one at a time"
            text = f"The best program will be trained without {keeps}, about {duration(seconds)}"
            return await self._trained(engine, text, request)
        found = [word.strip("#,") for word in given.split()]
        if not all(map(is_count, found)):
            raise UserError(f"Usage: {call.command.usage}, for example {call.command.example}")
        numbers = sorted({int(word) for word in found})
        idea = await engine.remove(numbers, Asker(sender.name or sender.platform, sender.channel))
        text = f"The best program without {', '.join(f'#{each}' for each in numbers)} will be tried"
        return await self._trained(engine, f"{text} as one experiment (idea #{idea.id})", request, more=1)

    async def _trained(self, engine: Engine, text: str, request: Request, *, more: int = 0) -> Reply:
        """Answer what will be trained, with so many `more` experiments; a run that is done goes on for it."""
        if engine.run.state is RunState.DONE:
            await engine.resume(reason=_order(request))
            self.runs.conduct(engine.run, more)
        elif when := _when(engine.run):
            return Reply.changed(f"{text}{when}.")
        return Reply.changed(f"{text}{', after the experiment under way' if engine.under_way else ''}.")

    # Questions

    async def _status(self, _: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        status = await in_thread(self.runs.status, run)
        return status_message(status, now=self.now(), zone=self.zone, waits_for=self._waits_for(run))

    async def _card(self, _: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        return card(await in_thread(self.runs.status, run), zone=self.zone)

    async def _summary(self, _: Call, request: Request) -> Message:
        here = request.sender.is_local
        return await self._reporter.summary(await self.asked_run(request), with_chart=not here)

    async def _results(self, call: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        total = sum((await in_thread(self._journal.counts, run.id)).values())
        start = max(0, total - max(1, call.count("n", RESULTS_SHOWN)))
        rows = await in_thread(read_rows, self._journal, run.id, start=start)
        best = await in_thread(self._journal.best, run.id)
        width = TERMINAL if request.sender.is_local else PHONE
        table = results_message(rows, metric=run.metric, goal=run.goal, total=total, tag=run.tag, width=width)
        return replace(table, buttons=named_buttons(best, run.state) if best else ())

    async def _best(self, _: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        best = await in_thread(self._journal.best, run.id)
        if best is None:
            raise UserError(f"Run {run.tag} has no kept experiment yet.")
        found = digest(best, run=run, noise=await in_thread(read_noise, self._journal, run))
        certainty = await in_thread(read_certainty, self._journal, run, with_keeps=False)
        text = "\n".join(filter(None, (found.text, certified_line(certainty))))
        return replace(found, text=text, buttons=experiment_buttons(best, run.state))

    async def _diff(self, call: Call, request: Request) -> Message:
        run, experiment = await self._experiment(call, request)
        workspace = await in_thread(self.runs.workspace, run)
        if call.has("to"):
            after = (await self._experiment(call, request, "to"))[1]
            text = await in_thread(workspace.diff, after.commit, experiment.commit) or "(no difference)"
            return Message(f"From experiment #{experiment.number} to #{after.number}", text)
        if experiment.number == 0:
            return Message("Experiment #0 is the baseline, without a change.")
        text = await in_thread(workspace.diff, experiment.commit)
        return Message(f"Experiment #{experiment.number}: {experiment.description}", text)

    async def _log(self, call: Call, request: Request) -> Message:
        run, experiment = await self._experiment(call, request)
        path = RunFolders(self.settings.home, run.id).log(experiment.number)
        if not experiment.status:
            path = (await in_thread(self.runs.engine, run)).live_log(experiment)
        tail = await in_thread(read_tail, path, limit=LOG_BYTES)
        text = without_secrets(tail, self.settings.secrets)
        return log_message(experiment, text, cut_off=len(tail.encode()) >= LOG_BYTES)

    async def _plot(self, _: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        try:
            rows = await in_thread(read_rows, self._journal, run.id)
            picture = await chart_of(run, rows, drawing=self.drawing)
        except ChartError as error:
            raise UserError(str(error)) from None
        if request.sender.is_local:
            path = self.settings.home / picture.name
            with writing(path):
                await in_thread(path.write_bytes, picture.content)
            return Message(f"Chart: {path}")
        return Message(f"Run {run.tag}", attachments=(picture,))

    async def _bundle(self, _: Call, request: Request) -> Message:
        run = await self.asked_run(request)
        folder = bundle_folder(self.settings, run)
        workspace = await in_thread(self.runs.workspace, run)
        made = await make_bundle(
            self._journal, run, workspace, settings=self.settings, folder=folder, drawing=self.drawing
        )
        return made.message()

    async def _notify(self, call: Call, request: Request) -> Reply:
        channel = request.sender.channel
        if await in_thread(self._journal.cursor, channel) is None:
            raise UserError("This chat gets answers only: /id shows the setting that lists it.")
        try:
            changes = call.text("text")
            change, get = self.preferences.change, self.preferences.get
            found = await (in_thread(change, channel, changes) if changes else in_thread(get, channel))
        except ValueError as error:
            raise UserError(str(error)) from None
        sign = "<" if self.settings.metric_goal is Goal.MINIMIZE else ">"
        reach = f"{self.settings.metric} {sign} 0.97"
        text = describe(found, now=self.now(), zone=self.zone, reach=reach)
        if found.verbosity is Verbosity.MORNING and not self.settings.wake_up:
            text = f"{text}\n{NO_MORNING}"
        modes = (Button("All", "/notify all"), Button("Keeps, hourly", "/notify hourly"))
        buttons = ((*modes, Button("Morning", "/notify morning")),)
        return Reply(Message(text, buttons=buttons), replaces=True, for_all=changes is not None)

    async def _runs(self, _: Call, __: Request) -> Message:
        statuses = await in_thread(lambda: list(map(self.runs.status, self._journal.runs())))
        return runs_message(statuses, zone=self.zone)

    async def _health(self, call: Call, _: Request) -> Message:
        checks = [*await in_thread(self._checks), *self.chats()]
        bad = [check for check in checks if not check.ok]
        if not (bad or call.has("all")):
            return Message(f"All well ({len(checks)} checks; /health all lists them).")
        incidents = await in_thread(incident_lines, self._journal, zone=self.zone)
        return Message("Health", "\n".join((render(checks if call.has("all") else bad), *incidents)))

    def _checks(self) -> tuple[Check, ...]:
        settings, minutes = self.settings, self.settings.heartbeat_minutes
        checks = health_checks(self._journal, home=settings.home, heartbeat_minutes=minutes, now=self.now())
        failed = (loop_check(one.run, one.ended.reason) for one in self.runs.loops() if one.ended)
        nodes = self.runs.nodes
        where = nodes.checks() if nodes else [sandbox_check(self.runs.sandbox)]
        own = (*where, *self.runs.evaluation_checks())
        return (*examine(settings), *examine_services(settings), *own, *checks, *failed)

    async def _start(self, _: Call, __: Request) -> Message:
        usual = [find_command(name) for name in USUAL]
        text = "\n".join([INTRODUCTION, "", *(f"/{one.name}: {one.help}" for one in usual)])
        keys = [Button(one.name.replace("_", " ").capitalize(), f"/{one.name}") for one in usual]
        return Message(text, buttons=(tuple(keys[:3]), tuple(keys[3:])))

    async def _help(self, call: Call, request: Request) -> Message:
        name = call.text("command")
        if name is None:
            if not request.sender.is_local:  # a phone breaks the lines of a table, and has no links in one
                return Message("\n".join(f"{command.usage}: {command.help}" for command in VISIBLE))
            width = max(len(command.usage) for command in VISIBLE)
            lines = (f"{command.usage:{width}}  {command.help}" for command in VISIBLE)
            return Message("Commands:", "\n".join(lines))
        command = find_command(name)
        return Message(f"{command.usage}\n{command.help}.\nFor example: {command.example}")

    # Parts

    def _waits_for(self, run: Run) -> str:
        engine = self.runs.engine_if_made(run)
        if engine and engine.preparing:
            return f"Preparing: {engine.preparing}"
        failure = engine.prefetch.failure if engine else None
        return f"Waiting for a proposal: {failure.reason}" if failure else ""


def _order(request: Request) -> Reason:
    return Reason(Actor.PERSON, request.sender.name, answered_in=request.sender.channel)


def _when(run: Run) -> str:
    """Return that what was ordered waits, as the end of a sentence; empty where the run goes on."""
    word = "but" if run.state is RunState.STOPPED else "after /resume, as"
    return "" if run.state is RunState.RUNNING else f", {word} run {run.tag} is {run.state}"


def _answered_in(request: Request) -> str:
    """Return the channel that has the answer in a message: to a press the event is one for all to read."""
    return "" if request.pressed else request.sender.channel
