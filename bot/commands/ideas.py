"""What people want to be tried: ideas, more like an experiment, never again. And what all handlers share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bot.commands.access import Request
from bot.commands.table import Call
from bot.proposers import guard_of
from bot.runs import Runs
from bot.setup.settings import Settings
from bot.setup.sources import SEARCH
from loop.engine.run import Engine
from loop.errors import UserError
from loop.evidence import Wish
from loop.experiment import Cause, Experiment, Proposal, Run, RunState
from loop.process.worker import in_thread
from loop.proposers.calling import UNAVAILABLE
from loop.proposers.people import IDEA_CHARACTERS, MistypedIdeaError, edit, why_impossible, why_unwanted
from loop.proposers.protocol import Context
from loop.results.gains import hit_rates, lessons, lessons_of_others, most_valuable
from loop.store.events import Notes
from loop.store.experiments import IdeaBox, Wished, Wishes
from loop.text import one_line
from notifiers.message import Button, Message, Reply
from notifiers.text.digest import wish_text
from notifiers.text.status import ideas_message
from notifiers.text.words import family_text

IDEAS_SHOWN = 4
LESSONS_READ = 1000  # of each run
ALREADY_SET = "Already set in the best program: nothing to try."
NEEDS_A_MODEL = "It waits for a model or an agent in PROPOSER; search cannot use it."
NOTHING_TO_STEER = "Nothing changes: #{} set no constant, and only search proposes here."

_DROP = re.compile(r"drop\s+#?(\d{1,9})", re.IGNORECASE)


@dataclass(eq=False)
class IdeaCommands:
    """Obeys the commands about what comes next in the runs."""

    runs: Runs
    settings: Settings

    def __post_init__(self) -> None:
        self._journal = self.runs.journal

    async def asked_run(self, request: Request) -> Run:
        """Return the run that a question is about: that of the message or topic where it is asked, if any."""
        if request.run is not None:
            return await in_thread(self._journal.run_by_id, request.run)
        return await self.runs.current.chosen()

    async def meant_run(self, request: Request) -> Run:
        """Return the run that a command steers.

        Raises:
            UserError: it was started after the command was sent, or is not the one of the message or topic.
        """
        run = await self.runs.current.chosen(sent_at=request.sent_at)
        if request.run not in (None, run.id):
            other = await self.asked_run(request)
            if other.id in self.runs.current.conducted() and other.state is not RunState.STOPPED:
                return other  # it goes on in lanes of its own
            raise UserError(f"Not done: this is about run {other.tag}, and commands steer run {run.tag} now.")
        return run

    async def steered(self, request: Request) -> Engine:
        """Return the engine of the run that a command steers; raises as `meant_run`."""
        return await in_thread(self.runs.engine, await self.meant_run(request))

    async def _idea(self, call: Call, request: Request) -> Reply:
        run, sender = await self.meant_run(request), request.sender
        if dropped := _DROP.fullmatch(call.arguments["text"]):
            return await self._drop(run, int(dropped[1]), request)
        _require_open(run)
        text = one_line(call.arguments["text"], IDEA_CHARACTERS)
        at_once, outlook = await in_thread(self._look_at, run, text)  # one that cannot be is not noted
        if call.has("n") and not at_once:
            about = (await self._experiment(call, request))[1]
            text = one_line(f"{text} (about #{about.number}: {about.description})", IDEA_CHARACTERS)
        box = IdeaBox(self._journal)
        waiting = await in_thread(box.waiting, run.id)
        if same := next((each for each in waiting if each.text == text), None):
            raise UserError(f"Idea #{same.id} is the same and waits already.")
        idea = await in_thread(
            box.add,
            run.id,
            text,
            author=sender.name or sender.platform,
            channel=sender.channel,
            message_id=request.message_id,
        )
        place = f"{len(waiting)} ahead of it" if waiting else "next"
        if engine := self.runs.engine_if_made(run):
            engine.prefetch.look_again(at_once=at_once)
        how = f"queued ({place})" if at_once or self.settings.has_models else "noted, but cannot be tried now"
        queued = f"Idea #{idea.id} is {how}: {idea.text}"
        paused = f"/resume first: run {run.tag} is {run.state}." if run.state is not RunState.RUNNING else ""
        return Reply(Message("\n".join(filter(None, (queued, outlook, paused)))))

    async def _new_idea(self, _: Call, request: Request) -> Message:
        """Refuse at once what a form would be refused for once it is filled in."""
        run = await self.meant_run(request)
        _require_open(run)
        return Message(f"What is run {run.tag} to try?")

    async def _drop(self, run: Run, number: int, request: Request) -> Reply:
        box = IdeaBox(self._journal)
        idea = next((each for each in await in_thread(box.waiting, run.id) if each.id == number), None)
        if idea is None:
            raise UserError(f"No idea #{number} is waiting in run {run.tag}: /ideas lists those that are.")
        channel, name = request.sender.channel, request.sender.name
        reason = f"dropped{f' by {name}' if name else ''}"
        await in_thread(box.give_up, idea, reason, answered_in=channel)
        if engine := self.runs.engine_if_made(run):
            engine.prefetch.withdraw(lambda proposal: proposal.idea == number)
        return Reply.changed(f"Idea #{number} is dropped: {idea.text}")

    def _look_at(self, run: Run, text: str) -> tuple[bool, str]:
        """Return whether an idea is an edit as it stands, and a sentence where that is not obvious.

        Raises:
            UserError: it can only be meant to set a constant, and cannot be tried.
        """
        workspace = self.runs.workspace(run)
        head = workspace.head()
        source = workspace.source(head)
        try:
            edited = edit(source, text)
        except MistypedIdeaError:
            raise
        except UserError as error:
            return False, self._outlook(run) or f"{NEEDS_A_MODEL} {error}"
        if edited == source:
            raise UserError(ALREADY_SET)
        files = {path: workspace.text(run.base_commit, path) for path in workspace.frozen}
        guard = guard_of(self.settings, run, self._journal, workspace)
        reason = why_impossible(source, files, text) or guard(
            Proposal(edited, text), Context(run, source, head)
        )
        if reason:
            raise UserError(f"Not queued: {reason}")
        return True, ""

    def _outlook(self, run: Run) -> str:
        """Say which model makes an edit of an idea in words; empty where none is set."""
        readers = [choice.name for choice in self.settings.proposer if choice.name != SEARCH]
        notes = Notes(self._journal)
        down = [name for name in readers if notes.state(run.id, Cause.PROPOSER, name) in UNAVAILABLE]
        if able := [name for name in readers if name not in down]:
            return f"{able[0]} will turn it into an edit."
        return f"It waits until {down[0]} is available again." if down else ""

    async def _ideas(self, call: Call, request: Request) -> Message:
        most = max(1, call.count("n", IDEAS_SHOWN))
        return await in_thread(self._read_ideas, await self.asked_run(request), most)

    def _read_ideas(self, run: Run, most: int) -> Message:
        journal, box = self._journal, IdeaBox(self._journal)
        learned = lessons_of_others(journal, run, most=LESSONS_READ) + lessons(
            journal, run, most=LESSONS_READ
        )
        best = journal.best(run.id)
        return ideas_message(
            waiting=box.waiting(run.id),
            wishes=Wishes(journal).read(run.id),
            present=journal.undecided(run.id),
            made=box.made(run.id, last=most + 1),
            families=hit_rates(journal, run),
            lessons=most_valuable(learned, most),
            goal=run.goal,
            like=best.value if best else None,
            most=most,
        )

    # What people say of an experiment

    async def _more(self, call: Call, request: Request) -> Reply:
        return await self._wish(Wish.MORE, call, request)

    async def _never(self, call: Call, request: Request) -> Reply:
        return await self._wish(Wish.NEVER, call, request)

    async def _wish(self, wish: Wish, call: Call, request: Request) -> Reply:
        await self.meant_run(request)
        run, experiment = await self._experiment(call, request)
        number = experiment.number
        if number == 0:
            raise UserError("Experiment #0 is the baseline: it changes nothing.")
        if run.state is RunState.STOPPED:
            raise UserError(f"Run {run.tag} is stopped: nothing more is proposed.")
        wishes, off = Wishes(self._journal), call.has("off")
        wanted = None if off else wish
        put = await in_thread(wishes.put, experiment, wanted, request.sender.asker)
        if not put:
            known = f"Already noted: {wish_text(number, wish)}."
            raise UserError(known if wanted else f"There is nothing to take back for #{number}.")
        if off:
            return Reply.changed(wish_text(number, None))
        found = await in_thread(wishes.read, run.id)
        said = next(each for each in found if each.number == number)
        if engine := self.runs.engine_if_made(run):
            if wish is Wish.MORE:
                engine.prefetch.look_again(at_once=True)
            else:
                workspace = self.runs.workspace(run)
                source = await in_thread(lambda: workspace.source(workspace.head()))
                engine.prefetch.withdraw(lambda proposal: why_unwanted((said,), source, proposal) is not None)
        undo = Button("Take back", f"/{wish} {number} off")
        obeyed = _obeyed(said, has_models=self.settings.has_models)
        text = f"{wish_text(number, wish)}: {obeyed}." if obeyed else NOTHING_TO_STEER.format(number)
        return Reply(Message(text, buttons=((undo,),)), for_all=True)

    # Parts of all handlers

    async def _experiment(self, call: Call, request: Request, name: str = "n") -> tuple[Run, Experiment]:
        run, number = await self.asked_run(request), call.count(name)
        experiment = await in_thread(self._journal.experiment, run.id, number)
        if experiment is None:
            raise UserError(f"Run {run.tag} has no experiment #{number}: /results lists the experiments.")
        return run, experiment


def _require_open(run: Run) -> None:
    if run.state is RunState.STOPPED:
        raise UserError(f"Run {run.tag} is stopped: /start_run, then send it again.")


def _obeyed(said: Wished, *, has_models: bool) -> str:
    """Say what a wish changes, in words that hold; empty where that is nothing."""
    names = ", ".join(said.changed)
    values = " and ".join(f"{name} {new}" for name, (_, new) in said.changed.items())
    if said.wish is Wish.MORE and names:
        obeyed = [f"{names} further the same way, then others of that family"]
    elif said.wish is Wish.MORE and said.family:
        obeyed = [f"first other constants of its family, {family_text(said.family)}"]
    else:
        obeyed = [f"no proposal sets {values} or goes beyond"] if names else []
    if has_models:
        obeyed.append("models are told")
    return "; ".join(obeyed)
