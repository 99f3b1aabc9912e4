from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.experiment import Experiment, Stage, Status
from loop.git.bundle import tidy_branch
from loop.git.workspace import Workspace
from tests.loop.lab import Lab, git

BRANCH = "autoresearch/mar12-clean"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, "A = 0\nB = 0\n")
    yield made
    made.close()


def keep(lab: Lab, number: int, source: str, parent: str, description: str = "") -> Experiment:
    """Commit and keep an experiment, as the engine does."""
    workspace = Workspace(
        repository=lab.repository, path=lab.home / "worktrees" / lab.run.tag, tag=lab.run.tag
    )
    commit = workspace.commit(parent, source, description or f"idea {number}").sha
    workspace.move_head(commit, parent)
    return Experiment(
        run_id=lab.run.id,
        number=number,
        stage=Stage.DECIDED,
        description=description or f"idea {number}",
        rationale="Because it is\nworth a try.",
        proposer="search",
        parent=parent,
        commit=commit,
        value=1.0 - number / 100,
        best_before=1.01 - number / 100,
        status=Status.KEEP,
    )


@pytest.fixture
def keeps(lab: Lab) -> list[Experiment]:
    first = keep(lab, 2, "A = 1\nB = 0\n", lab.base, "A 0 → 1\u2028" + "and on " * 20)
    return [first, keep(lab, 5, "A = 1\nB = 2\n", first.commit)]


def subjects(lab: Lab) -> list[str]:
    return git(lab.repository, "log", "--format=%s", f"{lab.base}..{BRANCH}").splitlines()


def test_each_keep_is_a_tidy_commit_on_the_base(lab: Lab, keeps: list[Experiment]) -> None:
    tidy = tidy_branch(lab.run, keeps)
    assert (tidy.name, tidy.commits) == (BRANCH, 2)
    newest, oldest = subjects(lab)
    assert newest == "idea 5"
    assert oldest.startswith("A 0 → 1 and on and on")
    assert len(oldest) <= 72
    assert git(lab.repository, "rev-parse", f"{BRANCH}~2") == lab.base
    assert git(lab.repository, "rev-parse", f"{BRANCH}^{{tree}}") == git(
        lab.repository, "rev-parse", f"{keeps[-1].commit}^{{tree}}"
    )
    body = git(lab.repository, "log", "-1", "--format=%b", BRANCH)
    assert "Because it is\nworth a try." in body
    assert "val_bpb 0.960000 → 0.950000 (-0.010000), experiment #5 of run mar12" in body


def test_the_patch_makes_the_same_program(lab: Lab, keeps: list[Experiment], tmp_path: Path) -> None:
    patch = tmp_path / "changes.patch"
    patch.write_bytes(tidy_branch(lab.run, keeps).patch)
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(lab.repository), str(other))
    git(other, "am", "--quiet", str(patch))
    assert (other / "train.py").read_text() == "A = 1\nB = 2\n"


def test_squashed_it_is_one_commit_that_lists_them(lab: Lab, keeps: list[Experiment]) -> None:
    assert tidy_branch(lab.run, keeps, squash=True).commits == 1
    assert subjects(lab) == ["Keep what run mar12 found"]
    body = git(lab.repository, "log", "-1", "--format=%b", BRANCH)
    assert "- idea 5 (val_bpb 0.960000 → 0.950000 (-0.010000))" in body
    assert "val_bpb 0.990000 → 0.950000 (-0.040000)" in body


def test_again_it_is_the_same_and_later_it_grows(lab: Lab, keeps: list[Experiment]) -> None:
    first = tidy_branch(lab.run, keeps)
    assert tidy_branch(lab.run, keeps) == first
    keeps.append(keep(lab, 7, "A = 1\nB = 3\n", keeps[-1].commit))
    later = tidy_branch(lab.run, keeps)
    assert git(lab.repository, "rev-parse", f"{later.name}^") == first.head


def test_the_users_checkout_and_the_runs_branch_stay(lab: Lab, keeps: list[Experiment]) -> None:
    (lab.repository / "train.py").write_text("mine")
    before = git(lab.repository, "status", "--porcelain", "--branch")
    tidy_branch(lab.run, keeps)
    assert git(lab.repository, "status", "--porcelain", "--branch") == before
    assert git(lab.repository, "rev-parse", lab.run.branch) == keeps[-1].commit


def test_a_branch_that_somebody_moved_is_left_alone(lab: Lab, keeps: list[Experiment]) -> None:
    tidy_branch(lab.run, keeps)
    git(lab.repository, "branch", "--force", BRANCH, lab.base)
    with pytest.raises(UserError, match="is not as the bot left it: rename it with `git branch -m"):
        tidy_branch(lab.run, keeps)
    assert git(lab.repository, "rev-parse", BRANCH) == lab.base


def test_a_branch_of_that_name_that_is_not_ours_is_left_alone(lab: Lab, keeps: list[Experiment]) -> None:
    git(lab.repository, "branch", BRANCH, lab.base)
    with pytest.raises(UserError, match="is not as the bot left it"):
        tidy_branch(lab.run, keeps)


def test_a_branch_that_is_checked_out_is_left_alone(
    lab: Lab, keeps: list[Experiment], tmp_path: Path
) -> None:
    tidy_branch(lab.run, keeps[:1])
    git(lab.repository, "worktree", "add", "--quiet", str(tmp_path / "look"), BRANCH)
    with pytest.raises(UserError, match=r"is checked out in .*/look"):
        tidy_branch(lab.run, keeps)


def test_without_a_keep_there_is_nothing_to_merge(lab: Lab) -> None:
    with pytest.raises(UserError, match="nothing to merge"):
        tidy_branch(lab.run, [])


def test_settings_of_the_user_do_not_change_the_patch(lab: Lab, keeps: list[Experiment]) -> None:
    plain = tidy_branch(lab.run, keeps).patch
    for name, value in {
        "diff.noprefix": "true",
        "format.attach": "true",
        "format.signOff": "true",
        "format.numbered": "true",
        "format.pretty": "oneline",
        "diff.external": "false",
        "color.ui": "always",
    }.items():
        git(lab.repository, "config", name, value)
    assert tidy_branch(replace(lab.run), keeps).patch == plain
