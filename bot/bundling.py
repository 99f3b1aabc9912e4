"""What of a run is worth taking elsewhere, as a branch and a folder of files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.errors import BotError
from bot.setup.settings import Settings
from loop.experiment import Run, Status
from loop.git.bundle import TidyBranch, tidy_branch
from loop.git.workspace import Workspace
from loop.process.threads import in_thread
from loop.results.provenance import find_provenance
from loop.results.report import make_report
from loop.results.table import results_text
from loop.store.experiments import row_of
from loop.store.journal import Journal
from notifiers.charts.chart import ChartError, alt_text, chart
from notifiers.message import Attachment, Message
from notifiers.text.bundle import CHART, pull_request
from notifiers.text.words import plural

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
        BotError: the folder holds files of somebody else's, or cannot be written.
        LoopError: nothing was kept, or the branch is not as the bot left it.
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
        SURROUNDINGS: (json.dumps(provenance.to_json(), indent=2) + "\n").encode(),
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
        raise BotError(f"{folder} is a file: name a folder.")
    others = {file.name for file in folder.iterdir()} - _NAMES if folder.exists() else set()
    if others:
        raise BotError(f"{folder} holds other files ({min(others)}): name an empty folder.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content:
                (folder / name).write_bytes(content)
    except OSError as error:
        raise BotError(f"{folder} cannot be written: {error.strerror}.") from None
