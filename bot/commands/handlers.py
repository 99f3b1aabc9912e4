"""What the commands mean: each is obeyed here, whatever front end it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import TypeAlias

from bot.commands.access import Request
from bot.commands.table import COMMANDS, Call, find_command
from bot.heartbeat.health import health_checks, incident_lines, loop_check
from bot.reports import Reporter, bundle_folder, make_bundle
from bot.runs import Runs
from bot.setup.doctor import Check, examine, examine_services, render
from bot.setup.settings import Settings
from bot.setup.sources import SEARCH
from bot.setup.trainings import sandbox_check
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evaluation.noise import read_noise
from loop.evidence import Repeat
from loop.experiment import Actor, EventKind, Experiment, Reason, Run, RunState
from loop.logs.tail import read_tail
from loop.process.worker import in_thread
from loop.proposers.people import IDEA_CHARACTERS, MistypedIdeaError, edit
from loop.results.certainty import read_certainty
from loop.results.gains import hit_rates, lessons, lessons_of_others, most_valuable
from loop.results.report import RunStatus, run_status
from loop.store.events import last_event_of
from loop.store.experiments import IdeaBox, read_rows
from loop.text import one_line, without_secrets
from notifiers.charts import ChartError, chart_of
from notifiers.delivery.preferences import PreferenceStore, describe
from notifiers.message import Message, Reply
from notifiers.text.certainty import certified_line
from notifiers.text.digest import corrected_text, digest, message_of, retagged_text
from notifiers.text.status import (
    ideas_message,
    progress_line,
    results_message,
    runs_message,
    start_card,
    status_message,
)
from notifiers.text.words import duration

RESULTS_SHOWN = 10
IDEAS_SHOWN = 4
ALREADY_SET = "Already set in the best program: it will not be trained again."
NEEDS_A_MODEL = "It needs a model or an agent in PROPOSER; search cannot use it."

LESSONS_READ = 1000  # of each run
LOG_BYTES = 3000  # of a log that are shown: about what one chat message holds


Handler: TypeAlias = Callable[[Call, Request], Awaitable[Message | Reply]]


class CommandHandlers:
    """Answers commands about the runs of `host`; `now` gives seconds since the epoch.

    `chats` tells how the chats are, a line each, for `/health`.
    """

    def __init__(
        self,
        host: Runs,
        settings: Settings,
        *,
        preferences: PreferenceStore,
        chats: Callable[[], Sequence[str]],
        zone: tzinfo,
        now: Callable[[], float],
    ) -> None:
        self._host = host
        self._journal = host.journal
        self._settings = settings
        self._preferences = preferences
        self._chats = chats
        self._zone = zone
        self._now = now
        self._reporter = Reporter(host, settings, zone=zone, now=now)

    async def obey(self, call: Call, request: Request) -> Reply:
        """Do what is asked and return the answer. The method of a command has its name."""
        handler: Handler = getattr(self, f"_{call.command.name}")
        answer = await handler(call, request)
        return answer if isinstance(answer, Reply) else Reply(answer)

    async def progress(self) -> str:
        """Return the current training in one line, or why there is none; empty when no run is active."""
        run = None if self._host.current.is_changing else await in_thread(self._host.current.now)
        if run is None or run.state is RunState.STOPPED:
            return ""
        status = await in_thread(self._status_of, run)
        return progress_line(status, zone=self._zone, waits_for=self._waits_for(run))

    # Control: the channel that asks has its message about the change in the answer, all others in the event's

    async def _start_run(self, call: Call, request: Request) -> Reply:
        tag, lanes = call.text("tag"), call.text("lanes")
        async with self._host.current.changes(asked_at=request.sent_at):
            await self._host.prepare()
            if not call.has("go"):
                plan = await in_thread(lambda: self._host.plan_run(tag, lanes=lanes))
                return Reply(start_card(plan), replaces=True)
            channel = request.sender.channel
            run = await in_thread(lambda: self._host.start_run(tag, answered_in=channel, lanes=lanes))
            self._host.conduct(run, self._settings.experiments)
        started = await in_thread(last_event_of, self._journal, run.id, (EventKind.RUN_STARTED,))
        assert started is not None
        return Reply(message_of(started, run), replaces=True, for_all=True)

    async def _cancel(self, _: Call, __: Request) -> Reply:
        return Reply(Message("Cancelled."), replaces=True)

    async def _pause(self, call: Call, request: Request) -> Reply:
        engine = await self._engine(await self._meant(request))
        now, tag = call.has("now"), engine.run.tag
        await engine.pause(now=now, reason=_order(request))
        if engine.run.state is RunState.PAUSING:
            return _changed(f"Run {tag} pauses after the current experiment. /pause now ends it at once.")
        then = "reruns the interrupted experiment" if now else "continues it"
        return _changed(f"Run {tag} is paused. /resume {then}.")

    async def _resume(self, _: Call, request: Request) -> Reply:
        engine = await self._engine(await self._meant(request))
        await engine.resume(reason=_order(request))
        self._host.conduct(engine.run, self._settings.experiments)
        return _changed(f"Run {engine.run.tag} continues.")

    async def _stop(self, _: Call, request: Request) -> Reply:
        run, order = await self._meant(request), _order(request)
        if not request.sender.is_local:
            order = replace(order, answered_in="")  # the event brings the report
        await (await self._engine(run)).stop(reason=order)
        return _changed(f"Run {run.tag} is stopped. Its branch {run.branch} and all results stay.")

    async def _retag(self, call: Call, request: Request) -> Reply:
        old, new = call.arguments["old"], call.arguments["new"]
        run = await in_thread(self._journal.run, old)
        if run is None:
            raise UserError(f"No run {old}: /runs lists all runs.")
        await (await self._engine(run)).retag(new, answered_in=request.sender.channel)
        return _changed(retagged_text(old, new))

    async def _skip(self, _: Call, request: Request) -> Reply:
        engine = await self._engine(await self._meant(request))
        given_up = await engine.skip(answered_in=request.sender.channel)
        if isinstance(given_up, Repeat):
            return _changed(f"Skipping a repeat of experiment #{given_up.number}.")
        return _changed(f"Skipping experiment #{given_up.number}: {given_up.description}")

    async def _rerun(self, call: Call, request: Request) -> Reply:
        engine = await self._engine(await self._meant(request))
        number, times, sender = call.count("n"), call.count("k", 1), request.sender
        await engine.rerun(number, times, name=sender.name, answered_in=sender.channel)
        run, again = engine.run, "once more" if times == 1 else f"{times} more times"
        when = "next" if run.state is RunState.RUNNING else f"after /resume, as run {run.tag} is {run.state}"
        return _changed(f"Experiment #{number} will be trained {again}, {when}.")

    async def _accept(self, call: Call, request: Request) -> Reply:
        return await self._correct(EventKind.ACCEPTED, call, request)

    async def _reject(self, call: Call, request: Request) -> Reply:
        return await self._correct(EventKind.REJECTED, call, request)

    async def _correct(self, kind: EventKind, call: Call, request: Request) -> Reply:
        engine, number = await self._engine(await self._meant(request)), call.count("n")
        name, channel = request.sender.name, request.sender.channel
        correction = await engine.correct(kind, number, name=name, answered_in=channel)
        return _changed(corrected_text(kind, number, correction.retried))

    async def _certify(self, _: Call, request: Request) -> Reply:
        engine = await self._engine(await self._meant(request))
        sender, run = request.sender, engine.run
        asked = await engine.certify(name=sender.name, answered_in=sender.channel)
        cost = duration(await in_thread(engine.certifier.seconds, run, asked.pairs))
        each = f"The best program and the baseline will be trained {asked.pairs} times each"
        return await self._trained(engine, f"{each}, about {cost}", request)

    async def _prune(self, call: Call, request: Request) -> Reply:
        engine, sender = await self._engine(await self._meant(request)), request.sender
        given = call.text("numbers") or ""
        if not given:
            count, seconds = await engine.prune(name=sender.name, answered_in=sender.channel)
            keeps = "1 keep" if count == 1 else f"{count} keeps, one at a time"
            text = f"The best program will be trained without {keeps}, about {duration(seconds)}"
            return await self._trained(engine, text, request)
        found = [word.strip("#,") for word in given.split()]
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in found):
            raise UserError(f"Usage: {call.command.usage}, for example {call.command.example}")
        numbers = sorted({int(word) for word in found})
        idea = await engine.remove(numbers, name=sender.name or sender.platform, answered_in=sender.channel)
        text = f"The best program without {', '.join(f'#{each}' for each in numbers)} will be tried"
        return await self._trained(engine, f"{text} as one experiment (idea #{idea.id})", request, more=1)

    async def _trained(self, engine: Engine, text: str, request: Request, *, more: int = 0) -> Reply:
        """Answer what will be trained, with so many `more` experiments; a run that is done goes on for it."""
        run = engine.run
        if run.state is RunState.DONE:
            await engine.resume(reason=_order(request))
            self._host.conduct(engine.run, more)
        elif run.state is not RunState.RUNNING:
            return _changed(f"{text}, after /resume, as run {run.tag} is {run.state}.")
        return _changed(f"{text}{', after the experiment under way' if engine.under_way else ''}.")

    # Questions

    async def _status(self, _: Call, __: Request) -> Message:
        run = await self._current()
        status = await in_thread(self._status_of, run)
        return status_message(status, now=self._now(), zone=self._zone, waits_for=self._waits_for(run))

    async def _summary(self, _: Call, request: Request) -> Message:
        here = request.sender.is_local
        return await self._reporter.summary(await self._current(), with_chart=not here)

    async def _results(self, call: Call, _: Request) -> Message:
        run = await self._current()
        total = sum((await in_thread(self._journal.counts, run.id)).values())
        start = max(0, total - max(1, call.count("n", RESULTS_SHOWN)))
        rows = await in_thread(read_rows, self._journal, run.id, start=start)
        best = await in_thread(self._journal.best, run.id, before=start)
        return results_message(
            rows,
            metric=run.metric,
            goal=run.goal,
            total=total,
            before=best.value if best else None,
            tag=run.tag,
        )

    async def _best(self, _: Call, __: Request) -> Message:
        run = await self._current()
        best = await in_thread(self._journal.best, run.id)
        if best is None:
            raise UserError(f"Run {run.tag} has no kept experiment yet.")
        found = digest(best, run=run, noise=await in_thread(read_noise, self._journal, run))
        certain = certified_line(
            await in_thread(lambda: read_certainty(self._journal, run, with_keeps=False))
        )
        return replace(found, text="\n".join(filter(None, (found.text, certain))))

    async def _diff(self, call: Call, _: Request) -> Message:
        run, experiment = await self._experiment(call)
        workspace = await in_thread(self._host.workspace, run)
        if call.has("to"):
            after = (await self._experiment(call, "to"))[1]
            text = await in_thread(workspace.diff, after.commit, experiment.commit)
            return Message(
                f"From experiment #{experiment.number} to #{after.number}", text or "(no difference)"
            )
        if experiment.number == 0:
            return Message("Experiment #0 is the baseline, without a change.")
        text = await in_thread(workspace.diff, experiment.commit)
        return Message(f"Experiment #{experiment.number}: {experiment.description}", text)

    async def _log(self, call: Call, _: Request) -> Message:
        run, experiment = await self._experiment(call)
        engine = await self._engine(run)
        path = engine.log_of(experiment.number) if experiment.status else engine.live_log(experiment)
        text = without_secrets(await in_thread(read_tail, path, limit=LOG_BYTES), self._settings.secrets)
        return Message(f"End of the log of experiment #{experiment.number}", text or "(empty)")

    async def _plot(self, _: Call, request: Request) -> Message:
        run = await self._current()
        try:
            picture = await chart_of(run, await in_thread(read_rows, self._journal, run.id))
        except ChartError as error:
            raise UserError(str(error)) from None
        if request.sender.is_local:
            path = self._settings.home / picture.name
            await in_thread(path.write_bytes, picture.content)
            return Message(f"Chart: {path}")
        return Message(f"Run {run.tag}", attachments=(picture,))

    async def _bundle(self, _: Call, __: Request) -> Message:
        run = await self._current()
        folder = bundle_folder(self._settings, run)
        workspace = await in_thread(self._host.workspace, run)
        made = await make_bundle(self._journal, run, workspace, settings=self._settings, folder=folder)
        return made.message()

    async def _idea(self, call: Call, request: Request) -> Message:
        run, sender = await self._current(), request.sender
        if run.state is RunState.STOPPED:
            raise UserError(f"Run {run.tag} is stopped: /start_run, then send it again.")
        text = one_line(call.arguments["text"], IDEA_CHARACTERS)
        at_once, outlook = await in_thread(self._look_at, run, text)  # a mistyped one is not noted
        box = IdeaBox(self._journal)
        waiting = await in_thread(box.waiting, run.id)
        idea = await in_thread(
            box.add,
            run.id,
            text,
            author=sender.name or sender.platform,
            channel=sender.channel,
            message_id=request.message_id,
        )
        place = f"{len(waiting)} ahead of it" if waiting else "next"
        if engine := self._host.engine_if_made(run):
            engine.prefetch.look_again(at_once=at_once)
        queued = f"Idea #{idea.id} is queued ({place}): {idea.text}"
        return Message("\n".join(filter(None, (queued, outlook))))

    def _look_at(self, run: Run, text: str) -> tuple[bool, str]:
        """Return whether an idea is an edit as it stands, and a sentence where that is not obvious.

        Raises:
            MistypedIdeaError: it can only be meant to set a constant, and does not.
        """
        workspace = self._host.workspace(run)
        source = workspace.source(workspace.head())
        try:
            if edit(source, text) == source:
                return True, ALREADY_SET
        except MistypedIdeaError:
            raise
        except UserError as error:
            reader = next((choice.name for choice in self._settings.proposer if choice.name != SEARCH), None)
            if reader:
                return False, f"{reader} will turn it into an edit."
            return False, f"{NEEDS_A_MODEL} {error}"
        return True, ""

    async def _ideas(self, call: Call, _: Request) -> Message:
        most = max(1, call.count("n", IDEAS_SHOWN))
        return await in_thread(self._read_ideas, await self._current(), most)

    def _read_ideas(self, run: Run, most: int) -> Message:
        journal, box = self._journal, IdeaBox(self._journal)
        learned = lessons_of_others(journal, run, most=LESSONS_READ) + lessons(
            journal, run, most=LESSONS_READ
        )
        best = journal.best(run.id)
        return ideas_message(
            waiting=box.waiting(run.id),
            present=journal.undecided(run.id),
            made=box.made(run.id, last=most + 1),
            families=hit_rates(journal, run),
            lessons=most_valuable(learned, most),
            goal=run.goal,
            like=best.value if best else None,
            most=most,
        )

    async def _notify(self, call: Call, request: Request) -> Message:
        channel = request.sender.channel
        try:
            text = call.text("text")
            found = (
                await in_thread(self._preferences.change, channel, text)
                if text
                else await in_thread(self._preferences.get, channel)
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        return Message(describe(found))

    async def _runs(self, _: Call, __: Request) -> Message:
        statuses = await in_thread(lambda: list(map(self._status_of, self._journal.runs())))
        return runs_message(statuses, zone=self._zone)

    async def _health(self, call: Call, _: Request) -> Message:
        checks = await in_thread(self._checks)
        lines = [*render(checks).splitlines(), *self._chats()]
        bad = [line for line in lines if not line.startswith("ok ")]
        if not call.has("all"):
            lines = bad or [f"All well ({len(lines)} checks)."]
        incidents = await in_thread(incident_lines, self._journal, zone=self._zone)
        return Message("Health", "\n".join((*lines, *incidents)))

    def _checks(self) -> tuple[Check, ...]:
        settings = self._settings
        checks = health_checks(
            self._journal,
            home=settings.home,
            heartbeat_minutes=settings.heartbeat_minutes,
            now=self._now(),
        )
        failed = (loop_check(one.run, one.ended.reason) for one in self._host.loops() if one.ended)
        own = (sandbox_check(self._host.sandbox), *self._host.evaluation_checks())
        return (*examine(settings), *examine_services(settings), *own, *checks, *failed)

    async def _help(self, call: Call, _: Request) -> Message:
        name = call.text("command")
        if name is None:
            shown = [command for command in COMMANDS if not command.hidden]
            width = max(len(command.usage) for command in shown)
            lines = (f"{command.usage:{width}}  {command.help}" for command in shown)
            return Message("Commands:", "\n".join(lines))
        command = find_command(name)
        return Message(f"{command.usage}\n{command.help}.\nFor example: {command.example}")

    # Parts

    def _waits_for(self, run: Run) -> str:
        engine = self._host.engine_if_made(run)
        if engine and engine.preparing:
            return f"Preparing: {engine.preparing}"
        failure = engine.prefetch.failure if engine else None
        return f"Waiting for a proposal: {failure.reason}" if failure else ""

    async def _current(self) -> Run:
        return await self._host.current.chosen()

    async def _meant(self, request: Request) -> Run:
        """Return the run that a command steers: none that was started after the command was sent."""
        return await self._host.current.chosen(sent_at=request.sent_at)

    async def _engine(self, run: Run) -> Engine:
        return await in_thread(self._host.engine, run)

    async def _experiment(self, call: Call, name: str = "n") -> tuple[Run, Experiment]:
        run, number = await self._current(), call.count(name)
        experiment = await in_thread(self._journal.experiment, run.id, number)
        if experiment is None:
            raise UserError(f"Run {run.tag} has no experiment #{number}: /results lists the experiments.")
        return run, experiment

    def _status_of(self, run: Run) -> RunStatus:
        return run_status(self._journal, run, worktree=self._host.worktree(run.tag))


def _order(request: Request) -> Reason:
    return Reason(Actor.PERSON, request.sender.name, answered_in=request.sender.channel)


def _changed(text: str) -> Reply:
    return Reply(Message(text), for_all=True)
