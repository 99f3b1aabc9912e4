"""The description of a bundle, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop.experiment import Experiment, Run
from loop.gain import change, number
from loop.git.bundle import TidyBranch
from loop.results.export import Provenance
from loop.results.report import Report
from loop.text import one_line
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
    return f"{plural(report.experiments, 'experiment')}{time}: {report.keep} kept, the baseline included."


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
