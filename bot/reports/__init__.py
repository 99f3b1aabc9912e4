"""What people are sent of a run: the report, on request or in the morning, and the bundle for a pull request.

The handlers, the wiring and the command line import it.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import tzinfo
from pathlib import Path

from bot.runs import Runs
from bot.setup.settings import Settings
from bot.setup.sources import SEARCH
from loop.errors import UserError
from loop.experiment import Event, EventKind, Experiment, Proposal, Run, Status
from loop.gain import change, number
from loop.git.bundle import TidyBranch, tidy_branch
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.proposers.people import ideas_in_prose
from loop.results.export import Provenance, find_provenance
from loop.results.report import Report, WakeUpReport, make_report, read_wakeup_report
from loop.results.table import results_text
from loop.store.experiments import Idea, IdeaBox, row_of
from loop.store.journal import Journal, StoreError
from loop.text import one_line
from notifiers.charts import ChartError, chart_of
from notifiers.charts.warm_worker import WarmWorker
from notifiers.message import Attachment, Message
from notifiers.text.digest import message_of
from notifiers.text.notification import report_buttons
from notifiers.text.report import report_message
from notifiers.text.words import duration, plural

CHART = "progress.png"
"""The name of the picture that the text refers to."""


def pull_request(
    run: Run,
    keeps: Sequence[Experiment],
    report: Report,
    tidy: TidyBranch,
    provenance: Provenance,
    *,
    charted: bool = True,
) -> str:
    """Return the description of branch `tidy`: the gain, the kept changes, and how to see it again.

    `charted` tells whether there is a picture to refer to.
    What experiments are called is untrusted and stands in code spans, where no link or mention counts.
    """
    commits = f"{plural(tidy.commits, 'commit')} on top of `{run.base_commit[:7]}`"
    parts = [
        f"# {_result(run, report)}",
        f"{_trained(report)} `{tidy.name}` has {commits}.",
        f"<!-- Replace the next line: drag {CHART} here. -->\n![Progress of {run.tag}]({CHART})"
        if charted
        else "",
        "## What was kept",
        _kept_table(run, keeps, report.like),
        "## How to reproduce",
        _steps(run, tidy, provenance),
        _surroundings(provenance),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _result(run: Run, report: Report) -> str:
    if report.baseline is None or report.best is None:
        return f"Results of run {run.tag}"
    return (
        f"{run.metric} {number(report.baseline)} → {number(report.best, report.baseline)} "
        f"({change(report.baseline, report.best)})"
    )


def _trained(report: Report) -> str:
    time = f" in {duration(3600 * report.hours)}" if report.hours else ""
    before = f", after {report.taken_over:,} without the bot" if report.taken_over else ""
    own = plural(report.experiments - report.taken_over, "experiment")
    return f"{own}{time}{before}: {report.keep:,} kept, the baseline included."


def _kept_table(run: Run, keeps: Sequence[Experiment], like: float | None) -> str:
    lines = [f"| no. | change | {run.metric} | Δ | lines |", "|---:|---|---:|---:|---:|"]
    for keep in keeps:
        value = "" if keep.value is None else number(keep.value, like)
        delta = "" if keep.value is None or keep.best_before is None else change(keep.best_before, keep.value)
        lines.append(
            f"| {keep.number} | {_code_span(keep.description)} | {value} | {delta} "
            f"| +{keep.lines_added} −{keep.lines_removed} |"
        )
    return "\n".join(lines)


def _steps(run: Run, tidy: TidyBranch, provenance: Provenance) -> str:
    seeds = ", ".join(f"{name} = {value}" for name, value in provenance.seeds.items())
    seeded = f" Seeds: {seeds}." if seeds else ""
    return (
        f"```\ngit switch --detach {tidy.head}\n{provenance.command}\n```\n\n"
        f"It trains for at most {provenance.time_budget:g} seconds and prints `{run.metric}`.{seeded} "
        "Another machine or seed gives slightly different numbers."
    )


def _surroundings(provenance: Provenance) -> str:
    facts = {
        "system": provenance.system,
        "processor": provenance.processor,
        "GPU": "; ".join(provenance.accelerators),
        "packages": ", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
    }
    return "\n".join(f"- {name}: {_code_span(value)}" for name, value in facts.items() if value)


def _code_span(text: str) -> str:
    """Return `text` as a code span of one line that is fit for a table."""
    line = one_line(text, 200).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence}{' ' if fence != '`' else ''}{line}{' ' if fence != '`' else ''}{fence}"


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
        name, remotes, git = self.tidy.name, self.tidy.remotes, f"git -C {shlex.quote(str(self.repository))}"
        add = "" if remotes else f"{git} remote add origin URL && "
        remote = remotes[0] if remotes and "origin" not in remotes else "origin"
        text = (
            f"Branch {name} in {self.repository}: {plural(self.tidy.commits, 'commit')}, head "
            f"{self.tidy.head[:7]}.\nTo push it: {add}{git} push -u {remote} {name}\nFiles: {self.folder}"
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
    tidy = await in_thread(tidy_branch, run, keeps, squash=squash)
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
