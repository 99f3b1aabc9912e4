"""What of a run is worth taking elsewhere, as a branch and a folder of files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Experiment, Run, Status
from loop.git.bundle import TidyBranch, tidy_branch
from loop.git.workspace import Workspace
from loop.process.summary import read_tail
from loop.process.worker import in_thread
from loop.results.export import Provenance, find_provenance
from loop.results.report import Report, make_report
from loop.results.table import results_text
from loop.store.experiments import row_of
from loop.store.journal import Journal
from loop.text import one_line
from notifiers.charts.chart import ChartError, alt_text, chart
from notifiers.message import Attachment, Message
from notifiers.page import Detail
from notifiers.text.words import change, duration, number, plural

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
    parts = [
        f"# {_headline(run, report)}",
        f"{_counts(report)} `{tidy.name}` has {_commits(tidy)} on top of `{run.base_commit[:7]}`.",
        _picture(run) if charted else "",
        "## What was kept",
        _table(run, keeps),
        "## How to see it again",
        _steps(run, tidy, provenance),
        _surroundings(provenance),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _picture(run: Run) -> str:
    """Return a reference to the chart; a site shows it once it has been uploaded, which is told unseen."""
    return f"<!-- Drag {CHART} here, in the place of the next line. -->\n![Progress of {run.tag}]({CHART})"


def _headline(run: Run, report: Report) -> str:
    if report.baseline is None or report.best is None:
        return f"What run {run.tag} found"
    return (
        f"{run.metric} {number(report.baseline)} → {number(report.best)} "
        f"({change(report.baseline, report.best)})"
    )


def _counts(report: Report) -> str:
    time = f" in {duration(3600 * report.hours)}" if report.hours else ""
    return f"{plural(report.experiments, 'experiment')}{time}: {report.keep} kept, the baseline included."


def _commits(tidy: TidyBranch) -> str:
    return plural(tidy.commits, "commit")


def _table(run: Run, keeps: Sequence[Experiment]) -> str:
    lines = [f"| no. | change | {run.metric} | Δ | lines |", "|---:|---|---:|---:|---:|"]
    for keep in keeps:
        value = "" if keep.value is None else number(keep.value)
        delta = "" if keep.value is None or keep.best_before is None else change(keep.best_before, keep.value)
        lines.append(
            f"| {keep.number} | {_code(keep.description)} | {value} | {delta} "
            f"| +{keep.lines_added} −{keep.lines_removed} |"
        )
    return "\n".join(lines)


def _steps(run: Run, tidy: TidyBranch, provenance: Provenance) -> str:
    seeds = ", ".join(f"{name} = {value}" for name, value in provenance.seeds.items())
    seeded = f" Seeds: {seeds}." if seeds else ""
    return (
        f"```\ngit switch --detach {tidy.head}\n{provenance.command}\n```\n\n"
        f"It trains {provenance.time_budget:g} seconds and prints `{run.metric}`.{seeded} "
        "Another machine and another seed give slightly different numbers."
    )


def _surroundings(provenance: Provenance) -> str:
    facts = {
        "system": provenance.system,
        "processor": provenance.processor,
        "GPU": "; ".join(provenance.accelerators),
        "packages": ", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
    }
    return "\n".join(f"- {name}: {_code(value)}" for name, value in facts.items() if value)


def _code(text: str) -> str:
    """Return `text` as a code span of one line that is fit for a table."""
    line = one_line(text, 200).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence}{' ' if fence != '`' else ''}{line}{' ' if fence != '`' else ''}{fence}"


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
    folder: Path
    files: Mapping[str, bytes]
    alt: str

    def message(self) -> Message:
        """Return the answer to whoever asked for it, with what is of use on a phone."""
        text = (
            f"Branch {self.tidy.name} is at {self.tidy.head[:7]} with {plural(self.tidy.commits, 'commit')}; "
            f"nothing was pushed.\nThe files are in {self.folder}."
        )
        if self.files[CHART]:
            text += f" {DESCRIPTION} is the text of a pull request; drag {CHART} to where it says so."
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
) -> Bundle:
    """Make the branch and write the files to `folder`. Whatever trains goes on; no checkout changes.

    Raises:
        UserError: the folder holds files of somebody else's, or cannot be written.
        UserError: nothing was kept, or the branch is not as the bot left it.
    """
    _check_folder(folder)
    experiments = await in_thread(journal.experiments, run.id)
    decided = [experiment for experiment in experiments if experiment.status is not None]
    keeps = [experiment for experiment in decided if experiment.status is Status.KEEP and experiment.number]
    tidy = await in_thread(lambda: tidy_branch(run, keeps, squash=squash))
    rows = [row_of(experiment) for experiment in decided]
    provenance = await in_thread(
        lambda: find_provenance(
            workspace.source(keeps[-1].commit),
            commit=tidy.head,
            worktree=workspace.path,
            override=settings.train_command,
            editable=settings.editable,
            time_budget=run.time_budget,
        )
    )
    report = make_report(rows, metric=run.metric, goal=run.goal, tag=run.tag)
    try:
        picture = await chart(rows, metric=run.metric, goal=run.goal, title=run.tag)
    except ChartError:
        picture = b""  # the rest is worth having
    text = pull_request(run, keeps, report, tidy, provenance, charted=bool(picture))
    files = {
        DESCRIPTION: text.encode(),
        PATCH: tidy.patch,
        RESULTS: results_text(rows, metric=run.metric).encode(),
        SURROUNDINGS: (json.dumps(asdict(provenance), indent=2) + "\n").encode(),
        CHART: picture,
    }
    await in_thread(_write, folder, files)
    alt = alt_text(rows, metric=run.metric, goal=run.goal, title=run.tag)
    return Bundle(tidy, folder, files, alt)


def bundle_folder(settings: Settings, run: Run) -> Path:
    """Return where the files of a run's bundle go."""
    return settings.home / "bundles" / run.tag


def open_workspace(settings: Settings, run: Run) -> Workspace:
    """Return the git side of a run, for who has no bot to ask; close it in the end."""
    path = settings.home / "worktrees" / run.tag
    return Workspace(repository=run.repository, path=path, tag=run.tag, editable=settings.editable)


def _check_folder(folder: Path) -> None:
    """Refuse a folder with anything in it that no bundle has."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder.")
    others = {file.name for file in folder.iterdir()} - _NAMES if folder.exists() else set()
    if others:
        raise UserError(f"{folder} holds other files ({min(others)}): name an empty folder.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content:
                (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from None


_LOG_BYTES = 4000
"""How much of each log's end is read."""


def details_of(settings: Settings, run: Run) -> dict[int, Detail]:
    """Return rationale, diff and log of every decided experiment, by number."""
    with closing(Journal(settings.home / "state.db", read_only=True)) as journal:
        experiments = [e for e in journal.experiments(run.id) if e.status is not None]
    workspace = open_workspace(settings, run)
    diffs = workspace.diffs(e.commit for e in experiments if e.number)
    folder = settings.home / "runs" / str(run.id)
    return {
        e.number: Detail(e.rationale, diffs.get(e.commit, ""), _log(folder / f"{e.number}.log"))
        for e in experiments
    }


def provenance_of(settings: Settings, run: Run) -> Provenance | None:
    """Return what the best program came from; None while there is none, or git has lost it."""
    with closing(Journal(settings.home / "state.db", read_only=True)) as journal:
        best = journal.best(run.id)
    if best is None:
        return None
    workspace = open_workspace(settings, run)
    try:
        source = workspace.source(best.commit)
    except UserError:
        return None
    return find_provenance(
        source,
        commit=best.commit,
        worktree=workspace.path,
        override=settings.train_command,
        editable=settings.editable,
        time_budget=run.time_budget,
    )


def _log(path: Path) -> str:
    return read_tail(path, limit=_LOG_BYTES) if path.exists() else ""
