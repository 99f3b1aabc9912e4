"""`/bundle`: what a run has kept, as a clean branch and a folder of files for a pull request."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.setup.settings import Settings
from loop.errors import UserError
from loop.experiment import Experiment, Run, Status
from loop.files import writing
from loop.folders import worktree
from loop.gain import change, number
from loop.git.bundle import TidyBranch, tidy_branch
from loop.git.workspace import Workspace
from loop.process.worker import in_thread
from loop.results.export import Provenance, find_provenance
from loop.results.report import Report, make_report
from loop.results.table import results_text
from loop.store.experiments import row_of
from loop.store.journal import Journal
from loop.text import one_line
from notifiers.charts import WarmWorker, chart_of
from notifiers.charts.scene import ChartError
from notifiers.message import Attachment, Message
from notifiers.text.words import duration, plural

DESCRIPTION, PATCH, RESULTS = "PULL_REQUEST.md", "changes.patch", "results.tsv"
SURROUNDINGS, CHART = "environment.json", "progress.png"
_NAMES = frozenset({DESCRIPTION, PATCH, RESULTS, SURROUNDINGS, CHART})


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
    path = worktree(settings.home, run.tag)
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
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: choose a folder.")
        others = {file.name for file in folder.iterdir()} - _NAMES if folder.exists() else set()
    if others:
        raise UserError(f"{folder} contains other files ({min(others)}): choose an empty folder.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content:
                (folder / name).write_bytes(content)
