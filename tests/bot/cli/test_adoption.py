from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.cli.adoption import adopt
from bot.setup.settings import load_settings
from loop.errors import UserError
from loop.experiment import Run, RunState, Status, Training
from loop.git.bundle import tidy_branch
from loop.git.workspace import Workspace
from loop.results.report import make_report, run_status
from loop.store.experiments import count_taken_over, read_rows
from loop.store.journal import Journal
from tests.copies import copy_of
from tests.loop.lab import git

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\r\n"


@dataclass
class Night:
    """A repository in which an agent worked by hand: two keeps on a branch, a discard, a crash."""

    folder: Path
    journal: Journal
    repository: Path
    commits: list[str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def results(self, *lines: str) -> Path:
        path = self.repository / "results.tsv"
        path.write_bytes((HEADER + "\r\n".join(lines)).encode())
        return path

    def whole(self) -> Path:
        first, kept, discarded, best = (commit[:7] for commit in self.commits)
        return self.results(
            f"{first}\t0.997900\t44.0\tkeep\tbaseline",
            f"{kept}\t0.993200\t44.2\tkeep\tincrease LR to 0.04",
            f"{discarded}\t1.005000\t44.0\tdiscard\tswitch to GeLU",
            "gone\t0.000000\t0.0\tcrash\tdouble width",
            f"{best}\t0.990000\t44.0\tkeep\tlonger warmdown",
        )

    def adopt(
        self, results: Path | None, *, tag: str | None = None, branch: str = "autoresearch/mar5"
    ) -> Run:
        return self.adopt_and_say(results, tag=tag, branch=branch)[0]

    def adopt_and_say(
        self, results: Path | None, *, tag: str | None = None, branch: str = "autoresearch/mar5"
    ) -> tuple[Run, str]:
        settings = load_settings(self.folder / "no.env", {"AUTORESEARCH_HOME": str(self.home)})
        return adopt(
            settings,
            self.journal,
            repository=self.repository,
            branch=branch,
            results=results,
            tag=tag,
            now=1000.0,
        )


def work_by_hand(folder: Path) -> None:
    repository = folder / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main", "--template=")
    (repository / "prepare.py").write_text("TIME_BUDGET = 77\n")

    def commit(text: str) -> None:
        (repository / "train.py").write_text(text)
        git(repository, "add", "prepare.py", "train.py")
        git(repository, "commit", "--quiet", "--message", text)
        with (folder / "commits").open("a") as commits:
            commits.write(git(repository, "rev-parse", "HEAD") + "\n")

    commit("LR = 1\n")
    git(repository, "switch", "--quiet", "--create", "autoresearch/mar5")
    commit("LR = 2\n")
    commit("LR = 3\n")
    git(repository, "reset", "--quiet", "--hard", "HEAD~1")
    commit("LR = 4\n")
    git(repository, "switch", "--quiet", "main")


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    copy_of(tmp_path, work_by_hand)
    journal = Journal(tmp_path / "home" / "state.db")
    commits = (tmp_path / "commits").read_text().split()
    night = Night(tmp_path, journal, tmp_path / "repository", commits)
    yield night
    night.journal.close()


def test_the_rows_become_experiments_and_the_head_is_the_best(night: Night) -> None:
    file = night.whole()
    before = file.read_bytes()
    run = night.adopt(file)
    experiments = night.journal.experiments(run.id)
    assert (run.tag, run.base_commit, run.time_budget) == ("mar5", night.commits[0], 77)
    assert [e.status for e in experiments] == ["keep", "keep", "discard", "crash", "keep"]
    assert [e.commit for e in experiments] == [*night.commits[:3], "gone", night.commits[3]]
    assert [e.best_before for e in experiments] == [None, 0.9979, 0.9932, 0.9932, 0.9932]
    assert [(e.lines_added, e.lines_removed) for e in experiments] == [(0, 0), (1, 1), (1, 1), (0, 0), (1, 1)]
    best = night.journal.best(run.id)
    assert best is not None
    assert (best.number, best.commit, best.memory_gb) == (4, night.commits[3], 44.0)
    report = make_report(read_rows(night.journal, run.id), metric="val_bpb", goal=run.goal)
    assert report.gain == pytest.approx(0.0079)
    assert count_taken_over(night.journal, run.id) == report.taken_over == 5
    own = replace(experiments[-1], number=5, proposer="search", commit="a" * 40, training=Training(1))
    night.journal.record(own)
    assert run_status(night.journal, run, worktree=night.folder).taken_over == 5
    assert file.read_bytes() == before


def test_what_was_tried_stays_reachable(night: Night) -> None:
    night.adopt(night.whole())
    git(night.repository, "reflog", "expire", "--expire=now", "--all")
    git(night.repository, "gc", "--quiet", "--prune=now")
    discarded = git(night.repository, "rev-parse", "refs/autoresearch/mar5/2")
    assert discarded == night.commits[2]


def test_nothing_old_is_told_again(night: Night) -> None:
    night.adopt(night.whole())
    assert [event.kind for event in night.journal.events_after(0)] == ["run_started"]


def test_the_worktree_is_there_and_the_users_checkout_is_as_it_was(night: Night) -> None:
    night.whole()
    before = git(night.repository, "status", "--porcelain", "--branch")
    run = night.adopt(night.repository / "results.tsv")
    worktree = night.home / "worktrees" / "mar5"
    assert (worktree / "train.py").read_text() == "LR = 4\n"
    assert git(worktree, "status", "--porcelain") == ""
    workspace = Workspace(repository=night.repository, path=worktree, tag=run.tag)
    assert workspace.repair(night.commits[3]) == []
    assert (
        git(night.repository, "status", "--porcelain", "--branch").splitlines()[0] == before.splitlines()[0]
    )


def test_without_results_the_head_is_the_program_to_begin_with(night: Night) -> None:
    run = night.adopt(None)
    assert night.journal.experiments(run.id) == []
    assert run.base_commit == night.commits[3]


def test_under_another_name_the_branch_stays(night: Night) -> None:
    git(night.repository, "branch", "--force", "autoresearch/mar5", night.commits[2])
    run = night.adopt(night.whole(), tag="mine")
    assert git(night.repository, "rev-parse", "autoresearch/mar5") == night.commits[2]
    assert git(night.repository, "rev-parse", "autoresearch/mine") == night.commits[3]
    assert run.branch == "autoresearch/mine"


def test_a_branch_beyond_the_last_keep_is_a_sentence_with_both_ways_out(night: Night) -> None:
    git(night.repository, "branch", "--force", "autoresearch/mar5", night.commits[2])
    with pytest.raises(UserError, match=r"the last kept result is #4 at .*git branch -f.*--tag"):
        night.adopt(night.whole())
    assert night.journal.runs() == []


def test_a_branch_that_is_checked_out_is_refused(night: Night) -> None:
    git(night.repository, "switch", "--quiet", "autoresearch/mar5")
    with pytest.raises(UserError, match=r"is checked out in .*: switch to another branch there"):
        night.adopt(night.whole())
    assert night.journal.runs() == []
    assert git(night.repository, "for-each-ref", "refs/autoresearch") == ""


def test_a_word_is_not_looked_up_as_a_branch(night: Night) -> None:
    git(night.repository, "branch", "baseline", night.commits[2])
    best = night.commits[3]
    run = night.adopt(night.results("baseline\t0.99\t1.0\tkeep\tas it is", f"{best}\t0.98\t1.0\tkeep\tx"))
    baseline, experiment = night.journal.experiments(run.id)
    assert (baseline.commit, experiment.commit) == ("baseline", best)
    assert [row.commit for row in read_rows(night.journal, run.id)] == ["baseline", best[:7]]
    assert run.base_commit == night.commits[0]


def test_a_baseline_that_is_named_so_is_where_the_branch_began(night: Night) -> None:
    file = night.results("baseline\t0.99\t1.0\tkeep\tas it is")
    with pytest.raises(UserError, match=r"the last kept result is #0 at .*git branch -f.*--tag"):
        night.adopt(file)
    run = night.adopt(file, tag="again")
    (experiment,) = night.journal.experiments(run.id)
    assert experiment.commit == run.base_commit == night.commits[0]
    assert git(night.repository, "rev-parse", run.branch) == night.commits[0]


def test_a_last_keep_with_another_name_is_the_head(night: Night) -> None:
    run = night.adopt(night.results("baseline\t0.99\t1.0\tkeep\tas it is", "best\t0.98\t1.0\tkeep\tx"))
    assert [e.commit for e in night.journal.experiments(run.id)] == ["baseline", night.commits[3]]


def test_results_of_another_branch_are_refused_and_nothing_is_made(night: Night) -> None:
    file = night.results("baseline\t0.99\t1.0\tkeep\tas it is", "b2c3d4e\t0.98\t1.0\tkeep\tx")
    for tag in (None, "other"):
        with pytest.raises(
            UserError, match=r"#1, is commit b2c3d4e, which .* does not have: give the results"
        ):
            night.adopt(file, tag=tag)
    assert night.journal.runs() == []
    assert git(night.repository, "for-each-ref", "refs/autoresearch", "refs/heads/autoresearch/other") == ""


def test_a_keep_that_git_does_not_have_is_bundled_with_the_others(night: Night) -> None:
    best = night.commits[3][:7]
    lines = (
        "baseline\t0.99\t1.0\tkeep\tas it is",
        "c0ffee1\t0.98\t1.0\tkeep\tx",
        f"{best}\t0.97\t1.0\tkeep\ty",
    )
    run = night.adopt(night.results(*lines))
    keeps = night.journal.experiments(run.id)[1:]
    with pytest.raises(UserError, match=r"the commit c0ffee1 of #1: `.*autoresearch bundle --squash`"):
        tidy_branch(run, keeps)
    assert tidy_branch(run, keeps, squash=True).commits == 1


def test_rows_without_a_keep_go_on_from_the_head(night: Night) -> None:
    run = night.adopt(night.results(f"{night.commits[2][:7]}\tnan\t0.0\tcrash\tbad"))
    assert run.base_commit == night.commits[3]
    assert [e.status for e in night.journal.experiments(run.id)] == [Status.CRASH]


@pytest.mark.parametrize(
    ("branch", "tag", "sentence"),
    [
        (
            "autoresearch/none",
            None,
            "[Nn]o branch autoresearch/none in .*; branches: autoresearch/mar5, main",
        ),
        ("main", None, "is not called autoresearch/TAG"),
        ("main", "a b", "tag"),
    ],
)
def test_a_name_that_does_not_do_is_a_sentence(
    night: Night, branch: str, tag: str | None, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        night.adopt(None, branch=branch, tag=tag)


def test_what_a_lost_run_has_left_is_not_written_over(night: Night) -> None:
    night.adopt(night.whole())
    shutil.rmtree(night.home / "worktrees")
    git(night.repository, "worktree", "prune")
    night.journal.close()
    (night.home / "state.db").unlink()
    night.journal = Journal(night.home / "state.db")
    ref = "refs/autoresearch/mar5/7"
    git(night.repository, "update-ref", ref, night.commits[2])
    before = git(night.repository, "for-each-ref")
    with pytest.raises(UserError, match=rf"experiments of an earlier run mar5 \(such as {ref}\).*--tag"):
        night.adopt(night.whole())
    assert git(night.repository, "for-each-ref") == before
    assert not (night.home / "worktrees").exists()
    git(night.repository, "update-ref", "-d", ref)
    assert night.adopt(night.whole()).tag == "mar5"  # the others are of the same experiments


def test_a_branch_that_was_made_in_vain_goes_again(night: Night) -> None:
    (night.home / "worktrees" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="exists already: move it away"):
        night.adopt(night.whole(), tag="mine")
    assert git(night.repository, "for-each-ref", "refs/heads/autoresearch/mine") == ""


def test_a_folder_that_is_not_there_is_named_with_the_option(night: Night) -> None:
    night.repository = night.folder / "gone"
    with pytest.raises(UserError, match=r"No folder .*gone: name the training repository with --repo"):
        night.adopt(None)


def test_a_malformed_line_is_named(night: Night) -> None:
    with pytest.raises(UserError, match="line 2"):
        night.adopt(night.results("abc\t1.0\t1.0\tgreat\tidea"))


def test_beside_an_active_run_it_is_refused(night: Night) -> None:
    run = night.adopt(None)
    with pytest.raises(
        UserError, match=r"Run mar5 is running, .* `.*autoresearch --home .* up --tag mar5`, then type /stop"
    ):
        night.adopt(None, tag="other")
    night.journal.set_state(run, RunState.STOPPED)
    assert night.adopt(None, tag="other").tag == "other"


# Results that nobody named


def test_those_in_the_checkout_of_the_branch_are_read(night: Night) -> None:
    git(night.repository, "switch", "--quiet", "autoresearch/mar5")
    night.whole()
    git(night.repository, "switch", "--quiet", "--detach")
    git(night.repository, "switch", "--quiet", "autoresearch/mar5")
    run, said = night.adopt_and_say(None, tag="mar6")
    assert said == f"Results: {night.repository / 'results.tsv'}."
    assert len(night.journal.experiments(run.id)) == 5


def test_those_on_the_branch_are_read_rather_than_another_one_s(night: Night) -> None:
    text = night.whole().read_text()
    git(night.repository, "switch", "--quiet", "autoresearch/mar5")
    git(night.repository, "add", "results.tsv")
    git(night.repository, "commit", "--quiet", "--message", "results")
    git(night.repository, "switch", "--quiet", "main")
    night.results("other\t1.0\t1.0\tkeep\tof main")
    run, said = night.adopt_and_say(None, tag="mar6")
    assert said == "Results: results.tsv of branch autoresearch/mar5."
    assert len(night.journal.experiments(run.id)) == len(text.splitlines()) - 1


def test_without_any_it_says_so(night: Night) -> None:
    run, said = night.adopt_and_say(None)
    assert said == "No results.tsv was found: its experiments are not known."
    assert night.journal.experiments(run.id) == []


def test_a_keep_without_an_id_is_no_head_where_others_have_one(night: Night) -> None:
    best = night.commits[1][:7]
    file = night.results(f"{best}\t0.99\t1.0\tkeep\tx", "n/a\t0.98\t1.0\tkeep\ty", "-\t0.97\t1.0\tkeep\tz")
    run, said = night.adopt_and_say(file, tag="mar6")
    assert git(night.repository, "rev-parse", "autoresearch/mar6") == night.commits[1]
    found = night.journal.best(run.id)
    assert found is not None
    assert (found.number, found.value) == (0, 0.99)
    assert said.splitlines()[-1] == "Discarded, as their commit is unknown: #1, #2."


def test_verdicts_in_words_of_others_are_read_and_said(night: Night) -> None:
    file = night.whole()
    file.write_text(
        file.read_text().replace("\tkeep\tbaseline", "\tbaseline\tbaseline").replace("keep", "best")
    )
    run, said = night.adopt_and_say(file)
    assert [e.status for e in night.journal.experiments(run.id)] == [
        "keep",
        "keep",
        "discard",
        "crash",
        "keep",
    ]
    assert said.splitlines()[1] == "Read 1 row 'baseline' as keep, 2 rows 'best' as keep."


def test_keeps_that_are_worse_and_worse_are_asked_about(night: Night) -> None:
    first, kept, _, best = (commit[:7] for commit in night.commits)
    rows = [f"{first}\t24.9\t1\tkeep\ta", f"{kept}\t26.1\t1\tkeep\tb", f"{best}\t26.9\t1\tkeep\tc"]
    with pytest.raises(UserError, match=r"24\.90000 → 26\.90000\): set METRIC_GOAL=maximize\."):
        night.adopt(night.results(*rows))
    assert night.journal.runs() == []
    assert night.adopt(night.results(rows[0], rows[2].replace("26.9", "24.8"))).tag == "mar5"


def test_a_branch_named_like_a_commit_is_none(night: Night) -> None:
    git(night.repository, "branch", "beef", night.commits[2])
    with pytest.raises(UserError, match="is commit beef, which"):
        night.adopt(night.results(f"{night.commits[0][:7]}\t1.0\t1\tkeep\ta", "beef\t0.9\t1\tkeep\tb"))
