from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.workspace import BranchMoved, Workspace
from tests.loop.conftest import Open
from tests.loop.real_git import PREPARE, TRAIN, commit_files, git, kept, refs, snapshot, status

# Making it


def test_a_new_workspace_is_a_clean_worktree_on_a_branch_of_its_own(
    workspace: Workspace, repository: Path, base: str
) -> None:
    assert workspace.head() == base
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/autoresearch/mar12"
    assert (workspace.path / "train.py").read_text() == TRAIN
    assert (workspace.path / "program.md").exists()
    assert status(workspace) == ""
    assert "autoresearch" not in (repository / ".git" / "config").read_text()


def test_results_and_log_are_excluded_once_however_many_runs_there_are(
    open_workspace: Open, repository: Path, base: str
) -> None:
    exclude = repository / ".git" / "info" / "exclude"
    exclude.write_text("*.bak")  # no line end
    for tag in ("mar12", "mar12b"):
        workspace = open_workspace(tag)
        workspace.create(base)
        (workspace.path / "results.tsv").write_text("x")
        (workspace.path / "run.log").write_text("x")
        assert status(workspace) == ""
    assert exclude.read_text() == "*.bak\n/results.tsv\n/results.tsv.aside\n/run.log\n"


def test_a_repository_without_an_info_folder_will_do(
    open_workspace: Open, repository: Path, base: str
) -> None:
    exclude = repository / ".git" / "info" / "exclude"
    exclude.unlink()
    exclude.parent.rmdir()
    open_workspace().create(base)
    assert exclude.read_text() == "/results.tsv\n/results.tsv.aside\n/run.log\n"


def test_a_taken_name_is_refused_and_nothing_is_made(
    open_workspace: Open, repository: Path, base: str
) -> None:
    git(repository, "branch", "autoresearch/mar12")
    before = refs(repository)
    with pytest.raises(UserError, match="has a run autoresearch/mar12 already: choose another tag"):
        open_workspace().create(base)
    assert refs(repository) == before
    assert not open_workspace().path.exists()


def test_refs_of_a_run_whose_branch_was_deleted_keep_its_name_taken(
    open_workspace: Open, repository: Path, base: str
) -> None:
    git(repository, "update-ref", "refs/autoresearch/mar12/0", base)
    with pytest.raises(UserError, match="already"):
        open_workspace().create(base)


def test_a_folder_in_the_way_is_left_alone(open_workspace: Open, repository: Path, base: str) -> None:
    workspace = open_workspace()
    workspace.path.mkdir(parents=True)
    (workspace.path / "precious").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        workspace.create(base)
    assert (workspace.path / "precious").exists()
    assert "refs/heads/autoresearch/mar12" not in refs(repository)


def test_a_branch_called_autoresearch_is_named_as_what_is_in_the_way(
    open_workspace: Open, repository: Path, base: str
) -> None:
    git(repository, "branch", "autoresearch")
    with pytest.raises(UserError, match="git branch -m autoresearch OTHER"):
        open_workspace().create(base)


def test_a_creation_that_fails_half_way_leaves_nothing(
    open_workspace: Open, repository: Path, base: str
) -> None:
    before, files = refs(repository), snapshot(repository)
    workspace = open_workspace(frozen=("absent.py",))
    with pytest.raises(UserError, match=r"There is no absent\.py in commit"):
        workspace.create(base)
    assert refs(repository) == before
    assert snapshot(repository) == files
    assert not workspace.path.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    open_workspace().create(base)


@pytest.mark.parametrize("bad", ["", "-x", "a/b", "a..b", "é", "x.lock", "a" * 41, "a b"])
def test_a_tag_that_cannot_name_a_branch_is_refused(open_workspace: Open, bad: str) -> None:
    with pytest.raises(UserError, match="cannot name a branch"):
        open_workspace(bad)


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../train.py", ".git/config", "a\nb", "a//b", "lib/"])
def test_an_editable_outside_the_repository_is_refused(open_workspace: Open, bad: str) -> None:
    with pytest.raises(UserError, match="not a path inside the repository"):
        open_workspace(editable=bad)


def test_only_whole_commit_ids_are_taken(workspace: Workspace) -> None:
    for bad in ("main", "--help", "HEAD", "abc1234", ""):
        with pytest.raises(UserError, match="not a whole commit id"):
            workspace.source(bad)
        with pytest.raises(UserError, match="not a whole commit id"):
            workspace.move_head(bad, bad)
        with pytest.raises(UserError, match="not a whole commit id"):
            workspace.diff(bad)


def test_a_sparse_checkout_of_the_user_does_not_thin_out_the_worktree(
    open_workspace: Open, repository: Path, base: str
) -> None:
    git(repository, "update-index", "--refresh")  # or git takes the files of a copy for changed ones
    git(repository, "sparse-checkout", "set", "--no-cone", "/train.py")
    assert not (repository / "program.md").exists()
    workspace = open_workspace()
    workspace.create(base)
    assert (workspace.path / "program.md").exists()


def test_a_bare_repository_will_do(open_workspace: Open, repository: Path, tmp_path: Path, base: str) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    workspace = open_workspace(of=bare)
    workspace.create(base)
    commit = kept(workspace, 1, "LR = 1\n")
    assert git(bare, "rev-parse", "autoresearch/mar12") == commit.sha
    assert status(workspace) == ""


def test_a_checkout_that_is_itself_a_linked_worktree_will_do(
    open_workspace: Open, repository: Path, tmp_path: Path, base: str
) -> None:
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(linked))
    workspace = open_workspace(of=linked)
    workspace.create(base)
    assert kept(workspace, 1, "LR = 1\n").sha == git(repository, "rev-parse", "autoresearch/mar12")
    assert git(linked, "status", "--porcelain") == ""


# Experiments


def test_a_commit_moves_neither_branch_nor_file(workspace: Workspace, repository: Path, base: str) -> None:
    before = refs(repository)
    commit = workspace.commit(base, TRAIN.replace("0.1", "0.2") + "# more\n", "LR 0.1 → 0.2")
    assert (commit.lines_added, commit.lines_removed) == (2, 1)
    assert refs(repository) == before
    assert status(workspace) == ""
    assert git(repository, "rev-parse", f"{commit.sha}^") == base
    assert git(repository, "diff", "--name-only", base, commit.sha) == "train.py"
    assert workspace.source(commit.sha) == TRAIN.replace("0.1", "0.2") + "# more\n"


@pytest.mark.parametrize(
    ("description", "subject"),
    [
        ("halve batch size", "halve batch size"),
        ("größere Schrittweite → 🚀", "größere Schrittweite → 🚀"),
        ("two\nlines\r\n\tand\x00control\x1b[31m", "two lines and control"),
        ("--amend", "--amend"),
        ("  ", "no description"),
        ("broken \udcff text", "broken \ufffd text"),
    ],
)
def test_the_message_is_one_line_of_the_description(
    workspace: Workspace, repository: Path, base: str, description: str, subject: str
) -> None:
    commit = workspace.commit(base, "LR = 1\n", description)
    assert git(repository, "log", "-1", "--format=%B", commit.sha) == f"autoresearch: {subject}\n"


def test_the_message_is_utf8_whatever_the_user_writes_in(
    workspace: Workspace, repository: Path, base: str
) -> None:
    git(repository, "config", "i18n.commitEncoding", "ISO-8859-1")
    commit = workspace.commit(base, "LR = 1\n", "größer →")
    assert "encoding" not in git(repository, "cat-file", "commit", commit.sha)


def test_the_author_is_the_user_that_git_knows(workspace: Workspace, repository: Path, base: str) -> None:
    commit = workspace.commit(base, "LR = 1\n", "x")
    people = git(repository, "log", "-1", "--format=%an <%ae>|%cn <%ce>", commit.sha).split("|")
    assert people == ["Researcher <researcher@example.org>"] * 2


def test_without_a_known_user_the_author_is_the_bot(
    workspace: Workspace, repository: Path, base: str
) -> None:
    git(repository, "config", "--unset", "user.email")
    commit = workspace.commit(base, "LR = 1\n", "x")
    people = git(repository, "log", "-1", "--format=%an <%ae>|%cn <%ce>", commit.sha).split("|")
    assert people == ["autoresearch-bot <autoresearch-bot@localhost>"] * 2


def test_a_source_that_changes_nothing_is_refused(workspace: Workspace, base: str) -> None:
    with pytest.raises(UserError, match=r"changes nothing in train\.py"):
        workspace.commit(base, TRAIN, "x")


def test_text_that_is_not_unicode_is_refused(workspace: Workspace, base: str) -> None:
    with pytest.raises(UserError, match="not valid text"):
        workspace.commit(base, "x = '\udcff'\n", "x")


@pytest.mark.parametrize(
    "text", ["a\r\nb\r\n", "no end", "\ufeffbom\n", "mixed\r\nends\nand\rmore\x0c\u2028\n", "", "é🚀\n"]
)
def test_text_comes_back_as_it_was(workspace: Workspace, base: str, text: str) -> None:
    commit = workspace.commit(base, text, "x")
    assert workspace.source(commit.sha) == text
    workspace.move_head(commit.sha, base)
    workspace.restore()
    assert (workspace.path / "train.py").read_bytes() == text.encode()


def test_line_ends_stay_where_the_user_lets_git_convert_them(
    open_workspace: Open, repository: Path, tmp_path: Path
) -> None:
    crlf = commit_files(repository, {"train.py": "LR = 1\r\nDEPTH = 2\r\n"}, "crlf")
    git(repository, "config", "core.autocrlf", "true")
    workspace = open_workspace()
    workspace.create(crlf)
    assert (workspace.path / "prepare.py").read_bytes() == PREPARE.encode()
    assert status(workspace) == ""
    assert workspace.source(crlf) == "LR = 1\r\nDEPTH = 2\r\n"
    commit = kept(workspace, 1, "LR = 3\r\nDEPTH = 2\r\n")
    assert (commit.lines_added, commit.lines_removed) == (1, 1)
    assert (workspace.path / "train.py").read_bytes() == b"LR = 3\r\nDEPTH = 2\r\n"


def test_a_file_that_is_not_utf8_is_named(open_workspace: Open, repository: Path) -> None:
    (repository / "train.py").write_bytes(b"# caf\xe9\n")
    git(repository, "commit", "--quiet", "-am", "latin")
    workspace = open_workspace()
    workspace.create(git(repository, "rev-parse", "HEAD"))
    with pytest.raises(UserError, match=r"train\.py is not UTF-8 text \(byte 5\)"):
        workspace.source(workspace.head())


def test_the_editable_may_be_executable_and_lie_in_a_folder(open_workspace: Open, repository: Path) -> None:
    commit_files(repository, {"src/my [t]rain.py": "LR = 1\n", "src/other.py": "x = 1\n"}, "src")
    git(repository, "update-index", "--chmod=+x", "src/my [t]rain.py")
    git(repository, "commit", "--quiet", "-m", "executable")
    workspace = open_workspace(editable="src/my [t]rain.py")
    workspace.create(git(repository, "rev-parse", "HEAD"))
    commit = kept(workspace, 1, "LR = 2\n")
    assert os.access(workspace.path / "src" / "my [t]rain.py", os.X_OK)
    assert git(repository, "ls-tree", "-r", commit.sha, "src").startswith("100755")
    assert git(repository, "show", f"{commit.sha}:src/other.py") == "x = 1"
    assert status(workspace) == ""
    assert "+LR = 2\n" in workspace.diff(commit.sha)


def test_an_experiment_is_reachable_and_leaves_the_worktree_alone(
    workspace: Workspace, repository: Path, base: str
) -> None:
    commit = workspace.commit(base, "LR = 1\n", "x")
    workspace.remember(1, commit.sha)
    assert refs(repository)["refs/autoresearch/mar12/1"] == commit.sha
    assert refs(repository)["refs/autoresearch/mar12/0"] == base
    assert (workspace.path / "train.py").read_text() == TRAIN
    assert workspace.head() == base
    workspace.remember(1, commit.sha)  # a second attempt


def test_a_number_never_changes_its_commit(workspace: Workspace, repository: Path, base: str) -> None:
    first, second = (workspace.commit(base, f"LR = {n}\n", "x").sha for n in (1, 2))
    workspace.remember(1, first)
    with pytest.raises(UserError, match=f"is commit {first[:7]} already, not {second[:7]}"):
        workspace.remember(1, second)
    assert refs(repository)["refs/autoresearch/mar12/1"] == first


def test_a_commit_that_is_not_there_is_named(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"There is no train\.py in commit 1111111"):
        workspace.source("1" * 40)


def test_a_keep_moves_the_branch_and_leaves_a_clean_worktree(
    workspace: Workspace, repository: Path, base: str
) -> None:
    commit = kept(workspace, 1, "LR = 1\n")
    assert workspace.head() == commit.sha
    assert status(workspace) == ""
    assert git(workspace.path, "diff-files") == ""
    assert git(repository, "log", "--format=%s", "autoresearch/mar12").splitlines() == [
        "autoresearch: edit 1",
        "first",
    ]


def test_keeping_twice_is_keeping_once(workspace: Workspace, base: str) -> None:
    commit = kept(workspace, 1, "LR = 1\n")
    workspace.move_head(commit.sha, base)
    assert workspace.head() == commit.sha


def test_a_branch_moved_by_hand_is_not_moved_by_a_keep(
    workspace: Workspace, repository: Path, base: str
) -> None:
    commit = workspace.commit(base, "LR = 1\n", "x")
    workspace.remember(1, commit.sha)
    theirs = commit_files(repository, {"notes": "x"}, "by hand")
    git(repository, "update-ref", "refs/heads/autoresearch/mar12", theirs)
    with pytest.raises(BranchMoved) as told:
        workspace.move_head(commit.sha, base)
    assert theirs[:7] in str(told.value)
    assert f"update-ref refs/heads/autoresearch/mar12 {commit.sha}" in str(told.value)
    assert workspace.head() == theirs


def test_a_deleted_branch_is_told_of(workspace: Workspace, repository: Path, base: str) -> None:
    git(repository, "update-ref", "-d", "refs/heads/autoresearch/mar12")
    commit = workspace.commit(base, "LR = 1\n", "x")
    for action in (
        workspace.head,
        workspace.restore,
        lambda: workspace.repair(base),
    ):
        with pytest.raises(BranchMoved, match="git branch autoresearch/mar12 COMMIT"):
            action()
    with pytest.raises(BranchMoved, match=f"update-ref refs/heads/autoresearch/mar12 {commit.sha}"):
        workspace.move_head(commit.sha, base)


def test_the_worktree_follows_the_head_and_a_hand_in_it_is_undone(workspace: Workspace, base: str) -> None:
    best = kept(workspace, 1, "LR = 1\n")
    assert (workspace.path / "train.py").read_text() == "LR = 1\n"
    (workspace.path / "train.py").write_text("by hand\n")
    workspace.restore()
    assert (workspace.path / "train.py").read_text() == "LR = 1\n"
    assert workspace.head() == best.sha
    assert status(workspace) == ""


def test_files_beside_the_editable_survive_everything(workspace: Workspace, base: str) -> None:
    notes = workspace.path / "notes.txt"
    notes.write_text("mine")
    (workspace.path / "program.md").write_text("changed")
    kept(workspace, 1, "LR = 1\n")
    workspace.restore()
    workspace.repair(workspace.head())
    assert notes.read_text() == "mine"
    assert (workspace.path / "program.md").read_text() == "changed"


def test_a_diff_is_of_the_editable_against_the_parent(
    workspace: Workspace, repository: Path, base: str
) -> None:
    git(repository, "config", "diff.noprefix", "true")
    git(repository, "config", "color.ui", "always")
    commit = kept(workspace, 1, TRAIN.replace("0.1", "0.2"))
    diff = workspace.diff(commit.sha)
    assert diff.startswith("diff --git a/train.py b/train.py\n")
    assert "\n-LR = 0.1\n+LR = 0.2\n DEPTH = 8\n" in diff
    assert workspace.diff(commit.sha, base) == diff == workspace.diffs([commit.sha])[commit.sha]
    assert workspace.diff(base, base) == ""
    assert workspace.diffs(["0" * 40, "main"]) == {}


def test_lines_are_counted_even_where_attributes_call_the_file_binary(
    workspace: Workspace, repository: Path, base: str
) -> None:
    (repository / ".git" / "info" / "attributes").write_text("*.py -diff\n")
    commit = workspace.commit(base, TRAIN + "more\n", "x")
    assert (commit.lines_added, commit.lines_removed) == (1, 0)


def test_edits_of_different_places_merge_and_of_the_same_line_do_not(workspace: Workspace, base: str) -> None:
    text = "".join(f"{letter}\r\n" for letter in "abcdefgh") + "é"
    parent = workspace.commit(base, text, "parent").sha
    best = workspace.commit(parent, text.replace("a", "A"), "best").sha
    merged = workspace.carry_over(text.replace("h", "H"), parent, best)
    assert merged == text.replace("a", "A").replace("h", "H")
    assert workspace.carry_over(text.replace("a", "X"), parent, best) is None
    assert workspace.carry_over(text, parent, best) == text.replace("a", "A")
    assert workspace.carry_over(text.replace("a", "X"), best, best) == text.replace("a", "X")


def test_many_experiments_leave_no_processes_or_files_open(workspace: Workspace) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    kept(workspace, 1, "LR = 1\n")
    before = len(list(descriptors.iterdir()))
    for number in range(2, 12):
        kept(workspace, number, f"LR = {number}\n")
    assert len(list(descriptors.iterdir())) == before


def test_a_worktree_that_vanished_is_one_sentence(workspace: Workspace) -> None:
    workspace.path.rename(workspace.path.with_name("away"))
    with pytest.raises(UserError, match=r"cannot be written: No such file or directory\."):
        workspace.restore()
