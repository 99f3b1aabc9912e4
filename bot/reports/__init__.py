"""What people are sent of a run: the report, on request or in the morning, and the bundle for a pull request.

The handlers, the wiring and the command line import it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import tzinfo
from pathlib import Path

from bot.heartbeat.cron import next_after
from bot.reports.pull_request import CHART, pull_request
from bot.runs import Runs
from bot.setup.settings import Settings
from bot.setup.sources import SEARCH
from loop.errors import UserError
from loop.experiment import Event, EventKind, Proposal, Run, RunState, Status
from loop.git.bundle import TidyBranch, tidy_branch
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.proposers.people import ideas_in_prose
from loop.results.export import Provenance, find_provenance
from loop.results.report import WakeUpReport, make_report, read_wakeup_report
from loop.results.table import results_text
from loop.store.events import has_events_after, last_event_of
from loop.store.experiments import Idea, IdeaBox, row_of
from loop.store.journal import Journal, StoreError
from notifiers.charts import ChartError, chart_of
from notifiers.charts.warm_worker import WarmWorker
from notifiers.delivery.rate_limit import Clock
from notifiers.message import Attachment, Message
from notifiers.text.digest import message_of
from notifiers.text.notification import report_buttons
from notifiers.text.report import report_message
from notifiers.text.words import plural

log = logging.getLogger(__name__)


class Reporter:
    """Reports on the runs of `host`; `now` gives seconds since the epoch, `zone` is for the times shown.

    Charts are drawn by `drawing`.
    """

    def __init__(
        self,
        host: Runs,
        settings: Settings,
        *,
        zone: tzinfo,
        now: Callable[[], float],
        drawing: WarmWorker | None = None,
    ) -> None:
        self._host = host
        self._journal = host.journal
        self._settings = settings
        self._zone = zone
        self._now = now
        self._drawing = drawing
        self._drawn: tuple[int, tuple[Attachment, ...]] = (0, ())  # an event and its chart

    async def summary(self, run: Run, *, with_chart: bool) -> Message:
        night = await in_thread(self._read, run, None, self._now())
        return await self._message(night, with_chart=with_chart)

    async def for_chat(self, event: Event) -> Message | None:
        return await self._made(event, with_chart=True)

    async def for_terminal(self, event: Event) -> Message | None:
        """Return the same for a terminal: without the chart, and not at the end of a run, where the command
        that waited for it prints the report.
        """
        return await self._made(event, with_chart=False) if event.kind is EventKind.WAKE_UP else None

    async def _made(self, event: Event, *, with_chart: bool) -> Message | None:
        morning = event.kind is EventKind.WAKE_UP
        since = float(str(event.data["since"])) if morning else None
        try:
            run = await in_thread(self._journal.run_by_id, event.run_id)
            night = await in_thread(self._read, run, since, event.at)
        except (UserError, StoreError):
            log.exception("the report on run %d cannot be made", event.run_id)
            return None
        heading = "" if morning else message_of(event, run).text
        charted = with_chart and event.id != self._drawn[0]
        message = await self._message(night, with_chart=charted, heading=heading)
        if charted:
            self._drawn = (event.id, message.attachments)
        return replace(message, attachments=self._drawn[1]) if with_chart else message

    def _read(self, run: Run, since: float | None, until: float) -> WakeUpReport:
        engine = self._host.engine_if_made(run)
        ready = engine.prefetch.ready if engine else None
        night = read_wakeup_report(
            self._journal,
            run,
            since=since,
            until=until,
            gpu_price=self._settings.gpu_dollars_an_hour,
            stuck_after=self._settings.stuck_after,
            ready=ready.description if ready else "",
        )
        idea = self._next_idea(run, ready) if night.outlook.idea else None
        return replace(night, outlook=replace(night.outlook, idea=idea))

    def _next_idea(self, run: Run, ready: Proposal | None) -> Idea | None:
        """Return the idea that the next experiment is made of; None where something else comes first."""
        waiting = IdeaBox(self._journal).waiting(run.id)
        if ready is not None:
            return next((idea for idea in waiting if idea.id == ready.idea), None)
        prose: tuple[Idea, ...] = ()
        if not any(choice.name != SEARCH for choice in self._settings.proposer):
            with suppress(UserError):  # a report is made even where the repository or the program is gone
                workspace = self._host.workspace(run)
                prose = ideas_in_prose(workspace.source(workspace.head()), waiting)
        return next((idea for idea in waiting if idea.removes or idea not in prose), None)

    async def _message(self, night: WakeUpReport, *, with_chart: bool, heading: str = "") -> Message:
        assert night.run is not None
        best = night.report.best_number
        changed = (night.start, best) if best is not None and best != night.start else None
        return replace(
            report_message(night, zone=self._zone, heading=heading),
            buttons=report_buttons(night.run.state, changed=changed),
            attachments=await self._charts(night, night.run) if with_chart and night.rows else (),
        )

    async def _charts(self, night: WakeUpReport, run: Run) -> tuple[Attachment, ...]:
        try:
            return (await chart_of(run, night.rows, drawing=self._drawing),)
        except ChartError as error:
            log.warning("%s", error)
            return ()  # the report is useful without


LOOK_SECONDS = 20.0
"""How often the time is checked: the machine may have slept, or its clock been set."""


class WakeUp:
    """Sends wake-up reports when the cron expression is due.

    `prepare` ends what a report waits for, `beat` also calls the health check.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        cron: str,
        zone: tzinfo,
        prepare: Callable[[], Awaitable[None]],
        beat: Callable[[], Awaitable[None]],
        clock: Clock | None = None,
    ) -> None:
        self._journal = journal
        self._cron = cron
        self._zone = zone
        self._prepare = prepare
        self._beat = beat
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Send them until cancelled, first for a time at which the bot was not running."""
        due = 0.0
        while True:
            now = self._clock.now()
            if now >= due:
                await self.ring()
                due = next_after(self._cron, now, self._zone)
            await self._clock.sleep(min(LOOK_SECONDS, max(0.0, due - self._clock.now())))

    async def ring(self) -> None:
        """Record the wake-ups that are due, then beat, so that the health check is called too."""
        try:
            await self._prepare()
            due = await in_thread(self.note)
        except StoreError:
            log.exception("the wake-up report could not be recorded")
        else:
            if due:
                await self._beat()

    def note(self) -> list[Run]:
        """Append a wake-up for each run that is due for one, and return these runs.

        A run is due once such a time has passed since its last wake-up, or since its start, and where it does
        not run only if something happened in it meanwhile.
        """
        now, due = self._clock.now(), []
        with self._journal.transaction() as append:
            for run in self._journal.runs():
                last, since = self._last(run)
                if next_after(self._cron, since, self._zone) <= now and self._is_news(run, last):
                    append(run.id, EventKind.WAKE_UP, since=since)
                    due.append(run)
        return due

    def _last(self, run: Run) -> tuple[int, float]:
        event = last_event_of(self._journal, run.id, (EventKind.WAKE_UP, EventKind.RUN_STARTED))
        return (event.id, event.at) if event else (0, run.created_at)

    def _is_news(self, run: Run, last: int) -> bool:
        if run.state in (RunState.RUNNING, RunState.PAUSING):
            return True
        return has_events_after(self._journal, run.id, last)


# `/bundle`: what a run has kept, as a clean branch and a folder of files


DESCRIPTION, PATCH, RESULTS, SURROUNDINGS = (
    "PULL_REQUEST.md",
    "changes.patch",
    "results.tsv",
    "environment.json",
)
_NAMES = frozenset({DESCRIPTION, PATCH, RESULTS, SURROUNDINGS, CHART})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A branch that was made, and the files about it in `folder`, by name."""

    tidy: TidyBranch
    repository: Path
    folder: Path
    files: Mapping[str, bytes]
    alt: str

    def message(self) -> Message:
        text = (
            f"Branch {self.tidy.name} in {self.repository}: {plural(self.tidy.commits, 'commit')}, head "
            f"{self.tidy.head[:7]}.\nTo push it: git -C {self.repository} push -u origin {self.tidy.name}\n"
            f"Files: {self.folder}"
        )
        if self.files[CHART]:
            text += f"\nFor a pull request, paste {DESCRIPTION} and drag {CHART} into it."
        names = (CHART, DESCRIPTION, PATCH)
        attached = [Attachment(name, self.files[name], self.alt if name == CHART else "") for name in names]
        return Message(text, attachments=tuple(file for file in attached if file.content))


async def make_bundle(
    journal: Journal,
    run: Run,
    workspace: Workspace,
    *,
    settings: Settings,
    folder: Path,
    squash: bool = False,
    drawing: WarmWorker | None = None,
) -> Bundle:
    """Make the branch and write the files to `folder`. Trainings continue, and no checkout changes."""
    _check_folder(folder)
    experiments = await in_thread(journal.experiments, run.id)
    decided = [experiment for experiment in experiments if experiment.status is not None]
    keeps = [experiment for experiment in decided if experiment.status is Status.KEEP and experiment.number]
    tidy = await in_thread(lambda: tidy_branch(run, keeps, squash=squash))
    rows = [row_of(experiment) for experiment in decided]
    provenance = await in_thread(
        provenance_of, settings, run, workspace, keeps[-1].commit, shown_as=tidy.head
    )
    report = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag)
    try:
        picture = await chart_of(run, rows, drawing=drawing)
    except ChartError:
        picture = Attachment(CHART, b"")  # the rest is useful without
    text = pull_request(run, keeps, report, tidy, provenance, charted=bool(picture.content))
    files = {
        DESCRIPTION: text.encode(),
        PATCH: tidy.patch,
        RESULTS: results_text(rows, metric=run.metric).encode(),
        SURROUNDINGS: (json.dumps(asdict(provenance), indent=2) + "\n").encode(),
        CHART: picture.content,
    }
    await in_thread(_write, folder, files)
    return Bundle(tidy, run.repository, folder, files, picture.alt)


def bundle_folder(settings: Settings, run: Run) -> Path:
    return settings.home / "bundles" / run.tag


def open_workspace(settings: Settings, run: Run) -> Workspace:
    path = settings.home / "worktrees" / run.tag
    return Workspace(repository=run.repository, path=path, tag=run.tag, editable=settings.editable)


def provenance_of(
    settings: Settings, run: Run, workspace: Workspace, commit: str, *, shown_as: str = ""
) -> Provenance:
    """Return where the program of `commit` comes from; `shown_as` is its commit on another branch."""
    return find_provenance(
        workspace.source(commit),
        commit=shown_as or commit,
        worktree=workspace.path,
        override=settings.train_command,
        editable=settings.editable,
        time_budget=run.time_budget,
    )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose a folder.")
    others = {file.name for file in folder.iterdir()} - _NAMES if folder.exists() else set()
    if others:
        raise UserError(f"{folder} contains other files ({min(others)}): choose an empty folder.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content:
                (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from None
