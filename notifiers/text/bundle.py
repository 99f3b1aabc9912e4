"""What a run found, as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop.experiment import Experiment, Run
from loop.git.bundle import TidyBranch
from loop.results.provenance import Provenance
from loop.results.report import Report
from loop.text import one_line
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
