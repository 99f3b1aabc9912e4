from __future__ import annotations

from dataclasses import replace

from bot.reports.bundle import pull_request
from loop.experiment import Status
from loop.git.bundle import TidyBranch
from loop.results.export import Provenance
from loop.results.report import make_report
from loop.store.experiments import TAKEN_OVER, row_of
from tests.loop.proposers.contexts import run_of, trial

HOSTILE = "a | b `rm` <script> @ann #12 [x](http://evil)\n# Title"
PROVENANCE = Provenance("uv run train.py", "c" * 40, "Linux", "CPU", ("H100, 80 GB",), {}, {}, 300.0)
BRANCH = TidyBranch("autoresearch/mar12-clean", "c" * 40, 1, b"")


def described(description: str, *, charted: bool = True) -> str:
    baseline = trial(0, "baseline", {}, 1.0, Status.KEEP)
    keep = replace(trial(3, description, {}, 0.9, Status.KEEP), best_before=1.0, lines_added=2)
    report = make_report([row_of(baseline), row_of(keep)], metric="val_bpb", goal=run_of().goal, tag="mar12")
    return pull_request(run_of(), [keep], report, BRANCH, PROVENANCE, charted=charted)


def test_what_an_experiment_is_called_stays_text_in_its_cell() -> None:
    (row,) = [line for line in described(HOSTILE).splitlines() if line.startswith("| 3 ")]
    cell = row.removeprefix("| 3 | ").partition(" | 0.900000 |")[0]
    assert cell == "`` a \\| b `rm` <script> @ann #12 [x](http://evil) # Title ``"


def test_it_reads_as_a_whole() -> None:
    text = described("halve the batch")
    assert text.startswith("# val_bpb 1.000000 → 0.900000 (-0.100000)\n\n2 experiments: 2 kept")
    assert "`autoresearch/mar12-clean` has 1 commit on top of `bbbbbbb`." in text
    assert "```\ngit switch --detach " + "c" * 40 + "\nuv run train.py\n```" in text
    assert "- GPU: `H100, 80 GB`" in text
    assert "packages" not in text


def test_it_says_unseen_where_the_picture_is_to_be_put() -> None:
    comment = "<!-- Replace the next line: drag progress.png here. -->\n![Progress of "
    assert f"\n\n{comment}" in described("halve the batch")
    without = described("halve the batch", charted=False)
    assert "progress.png" not in without
    assert "\n\n\n" not in without


def test_a_short_run_took_no_zero_hours() -> None:
    row = replace(row_of(trial(0, "baseline", {}, 1.0, Status.KEEP)), started_at=0.0, ended_at=13.0)
    report = make_report([row], metric="val_bpb", goal=run_of().goal, tag="mar12")
    text = pull_request(run_of(), [], report, BRANCH, PROVENANCE)
    assert "1 experiment in 13 s: 1 kept" in text


def test_what_was_taken_over_took_none_of_its_time() -> None:
    trials = [trial(number, f"step {number}", {}, 1.0 - number / 100, Status.KEEP) for number in range(4)]
    rows = [replace(row_of(each), proposer=TAKEN_OVER, started_at=None, ended_at=None) for each in trials[:3]]
    rows.append(replace(row_of(trials[3]), started_at=0.0, ended_at=300.0))
    report = make_report(rows, metric="val_bpb", goal=run_of().goal, tag="mar12")
    text = pull_request(run_of(), [], report, BRANCH, PROVENANCE)
    assert "1 experiment in 5 min, after 3 without the bot: 4 kept" in text
