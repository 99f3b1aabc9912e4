from __future__ import annotations

import os
import subprocess
from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loop.errors import UserError
from loop.git.commands import PASSED
from loop.git.repository import (
    branches,
    check_tag,
    ignored_mentions,
    inspect,
    propose_tag,
    read_time_budget,
    with_imports,
)
from loop.program.constants import time_budget
from tests.loop.real_git import commit_files, git, make_repository, snapshot


def test_the_facts_of_a_sound_repository(repository: Path) -> None:
    facts = inspect(repository)
    assert facts.path == repository
    assert facts.base_branch == "main"
    assert facts.base_commit == git(repository, "rev-parse", "HEAD")
    assert facts.subject == "first"
    assert facts.dirty == ()


def test_the_base_may_be_another_branch_than_the_one_checked_out(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "switch", "--quiet", "-c", "feature/größer")
    second = commit_files(repository, {"notes": "x"}, "zweite Änderung")
    assert inspect(repository).base_branch == "feature/größer"
    assert inspect(repository).base_commit == second
    assert inspect(repository).subject == "zweite Änderung"
    assert inspect(repository, "main").base_commit == first
    assert branches(repository) == ("feature/größer", "main")


def test_changes_that_are_not_committed_are_named_and_nothing_is_touched(repository: Path) -> None:
    commit_files(repository, {"a b.txt": "x\n", "gone.txt": "x\n"}, "more")
    (repository / "train.py").write_text("changed\n")
    (repository / "a b.txt").write_text("changed\n")
    git(repository, "add", "a b.txt")
    (repository / "gone.txt").unlink()
    (repository / "untracked").write_text("x")
    (repository / "model.py").write_text("x")
    (repository / "tools").mkdir()
    (repository / "tools" / "plot.py").write_text("x")
    os.utime(repository / "prepare.py", (1, 1))  # git would like to refresh its index
    before = snapshot(repository)
    facts = inspect(repository)
    assert (facts.dirty, facts.untracked) == (("a b.txt", "gone.txt", "train.py"), ("model.py",))
    assert snapshot(repository) == before


def test_a_bare_repository_will_do(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", "repository", "bare.git")
    facts = inspect(tmp_path / "bare.git")
    assert facts.path == tmp_path / "bare.git"
    assert facts.base_commit == git(repository, "rev-parse", "HEAD")
    assert facts.dirty == ()


def test_a_repository_with_sha256_objects_will_do(tmp_path: Path) -> None:
    path = tmp_path / "new"
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "--initial-branch=main", "new")
    git(path, "config", "user.name", "x")
    git(path, "config", "user.email", "x")
    commit = commit_files(path, {"prepare.py": "", "train.py": "x = 1\n"}, "first")
    assert inspect(path).base_commit == commit


def refused(path: Path, base_branch: str | None = None, **options: str) -> str:
    with pytest.raises(UserError) as told:
        inspect(path, base_branch, **options)
    return str(told.value)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "no") == (
        f"There is no folder {tmp_path}/no: set REPOSITORY to a git repository."
    )


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    assert "is not a git repository: set REPOSITORY to one, or run `git init`" in refused(tmp_path)
    with pytest.raises(UserError, match="is not a git repository"):
        branches(tmp_path)


def test_a_folder_inside_a_repository(repository: Path) -> None:
    commit_files(repository, {"sub/train.py": "x = 1\n"}, "sub")
    settings = f"set REPOSITORY={repository}, FROZEN=sub/prepare.py and EDITABLE=sub/train.py."
    assert refused(repository / "sub").endswith(settings)


def test_the_git_folder_itself(repository: Path) -> None:
    assert "is inside a git folder" in refused(repository / ".git")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert "has no commit yet: run `git add -A` and `git commit`" in refused(tmp_path)


def test_what_only_an_older_commit_needs_may_be_missing(repository: Path) -> None:
    commit_files(repository, {"large.bin": "old"}, "old")
    blob = git(repository, "rev-parse", "HEAD:large.bin")
    git(repository, "rm", "--quiet", "large.bin")  # git looks for what it was renamed to
    commit_files(repository, {"small.bin": "new"}, "new")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert inspect(repository).subject == "new"


def test_a_detached_head(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--detach")
    assert "has no branch checked out: set BASE_BRANCH" in refused(repository)
    assert inspect(repository, "main").base_branch == "main"


@pytest.mark.parametrize(
    "name", ["mian", "main~0", "main^{commit}", "--help", "HEAD", "v1", "a b", "../main"]
)
def test_a_base_branch_that_is_no_branch(repository: Path, name: str) -> None:
    git(repository, "tag", "v1")
    assert f"has no branch {name}, only main: set BASE_BRANCH" in refused(repository, name)


def test_a_file_that_is_missing(repository: Path) -> None:
    git(repository, "rm", "--quiet", "prepare.py")
    git(repository, "commit", "--quiet", "-m", "x")
    assert refused(repository).startswith("There is no prepare.py on branch main")
    assert "set FROZEN= for none, or to" in refused(repository)
    commit_files(repository, {"a/train.py": "x = 1\n", "a/prepare.py": "", "prepare.md": ""}, "in a folder")
    with pytest.raises(UserError, match=r": set FROZEN=a/prepare\.py\.$"):
        inspect(repository, editable="a/train.py")


def test_a_program_that_is_missing_is_looked_for(repository: Path) -> None:
    git(repository, "mv", "train.py", "bench.py")
    git(repository, "rm", "--quiet", "prepare.py")
    git(repository, "commit", "--quiet", "-m", "x")
    assert "set EDITABLE to the file that experiments change, such as EDITABLE=bench.py." in refused(
        repository
    )
    commit_files(
        repository, {"a/b/train.py": "x = 1\n", "c/train.py": "x = 1\n", "d/e f/train.py": ""}, "more"
    )
    assert "such as EDITABLE=c/train.py." in refused(repository)
    git(repository, "rm", "--quiet", "-r", "a", "c")
    git(repository, "commit", "--quiet", "-m", "two others")
    assert refused(repository).endswith("such as EDITABLE=bench.py.")
    commit_files(repository, {"other.py": "x = 1\n"}, "one more")
    assert refused(repository).endswith("set EDITABLE to the file that experiments change.")


def test_a_file_that_is_not_committed(repository: Path) -> None:
    (repository / "mine.py").write_text("x = 1\n")
    told = refused(repository, editable="mine.py")
    assert told == "mine.py is not committed on branch main: run `git add mine.py` and `git commit`."


def test_files_of_the_wrong_kind(repository: Path) -> None:
    (repository / "link.py").symlink_to("train.py")
    commit_files(repository, {"folder.py/x": "x"}, "folder")
    git(repository, "add", "link.py")
    git(repository, "commit", "--quiet", "-m", "link")
    for name in ("link.py", "folder.py"):
        assert f"{name} on branch main is not a regular file" in refused(repository, editable=name)
    assert "not a path inside the repository" in refused(repository, editable="../train.py")


def test_an_editable_that_is_no_program(repository: Path) -> None:
    (repository / "train.py").write_text("x = 1\ny = (\n")
    git(repository, "commit", "--quiet", "--all", "--message=half")
    with pytest.raises(UserError, match=r"train.py on branch \w+ cannot be trained: .* \(line 2\)"):
        inspect(repository)


def test_an_editable_that_is_not_text(repository: Path) -> None:
    (repository / "train.py").write_bytes(b"\xff")
    git(repository, "commit", "--quiet", "-am", "x")
    assert "train.py is not UTF-8 text (byte 0)" in refused(repository)


# Tags


@pytest.mark.parametrize("tag", ["mar12", "a", "2026-03-12", "A_b.c-d", "x" * 40])
def test_sensible_tags_pass(tag: str) -> None:
    check_tag(tag)


@pytest.mark.parametrize(
    "tag",
    ["", ".a", "-a", "a/b", "a..b", "a.", "a.lock", "a b", "a\n", "ü", "²", "a~1", "@{", "x" * 41, "a*"],
)
def test_other_tags_are_refused_with_what_a_tag_may_be(tag: str) -> None:
    with pytest.raises(UserError, match="use up to 40 letters, digits"):
        check_tag(tag)


@given(st.lists(st.text("ab.-_/@{~^:?*[\\ lock1", min_size=1, max_size=12), min_size=20, max_size=20))
@example(["a.lock"] * 20)
def test_git_takes_every_tag_that_passes(tags: list[str]) -> None:
    for tag in tags:
        try:
            check_tag(tag)
        except UserError:
            continue
        subprocess.run(["git", "check-ref-format", f"refs/heads/autoresearch/{tag}"], check=True)


def test_the_proposed_tag_is_the_day_and_then_the_day_with_a_letter() -> None:
    day, taken = date(2026, 3, 12), set[str]()
    proposed = []
    for _ in range(28):
        proposed.append(propose_tag(day, taken))
        taken.add(proposed[-1])
    assert proposed[:3] == ["mar12", "mar12b", "mar12c"]
    assert proposed[25:] == ["mar12z", "mar12aa", "mar12ab"]
    assert propose_tag(date(2026, 12, 1), {"mar12"}) == "dec1"


# Time budget


@pytest.mark.parametrize(
    ("source", "budget"),
    [
        ("TIME_BUDGET = 300\n", 300.0),
        ("import os\nTIME_BUDGET: float = 5 * 60  # seconds\n", 300.0),
        ("TIME_BUDGET = 2**8 + 0.5", 256.5),
        ("\ufeffTIME_BUDGET = 1\r\n", 1.0),
        ("", None),
        ("def f():\n    TIME_BUDGET = 300\n", None),
        ("TIME_BUDGET = int(os.environ['T'])\n", None),
        ("TIME_BUDGET = -1\n", None),
        ("TIME_BUDGET = 0\n", None),
        ("TIME_BUDGET = True\n", None),
        ("TIME_BUDGET = '300'\n", None),
        ("TIME_BUDGET = 1e999\n", None),
        ("TIME_BUDGET = 2**4000\n", None),
        ("TIME_BUDGET = 10**10**10\n", None),
        ("TIME_BUDGET = 1 / 0\n", None),
        ("TIME_BUDGET = (\n", None),
        ("\0", None),
    ],
)
def test_the_time_budget_of_a_source(source: str, budget: float | None) -> None:
    assert time_budget(source) == budget


def test_the_time_budget_is_read_from_the_commit_not_from_the_checkout(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "prepare.py").write_text("TIME_BUDGET = 1\n")
    assert read_time_budget(repository, commit) == 300.0
    assert read_time_budget(repository, commit, ("absent.py", "program.md", "prepare.py")) == 300.0
    assert read_time_budget(repository, commit, ("train.py",)) is None


def test_a_repository_of_another_user_is_told_with_the_command_that_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_repository(tmp_path / "theirs")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setattr("loop.git.commands.PASSED", (*PASSED, "GIT_TEST_ASSUME_DIFFERENT_OWNER"))
    assert f"run `git config --global --add safe.directory {path}`" in refused(path)


def test_what_a_fixed_file_imports_is_fixed_too(repository: Path) -> None:
    files = {
        "prepare.py": "import os, texts\nfrom tokens import learn\nimport absent, train\n",
        "texts.py": "def read():\n    import tokens, deep.inner\n",
        "tokens.py": "import prepare\n",
        "deep.py": "import )\n",
        "other.py": "",
    }
    commit = commit_files(repository, files, "more modules")
    found = with_imports(repository, commit, ("prepare.py",))
    assert sorted(found) == ["deep.py", "prepare.py", "texts.py", "tokens.py"]
    assert with_imports(repository, commit, ("other.py",)) == ("other.py",)


def test_an_evaluator_is_fixed_unless_it_is_what_experiments_edit(repository: Path) -> None:
    files = {"evaluate.py": "import exchange, train\n", "exchange.py": "", "other.py": ""}
    commit = commit_files(repository, files, "an evaluator")
    assert with_imports(repository, commit, ("other.py",)) == ("other.py", "evaluate.py", "exchange.py")
    assert with_imports(repository, commit, ("other.py",), editable="evaluate.py") == ("other.py",)


# What git ignores and a program reads

PROGRAM = """\
\"\"\"Reads big/file.bin no more.\"\"\"
import os, sys
sys.path.insert(0, "src")
tokens = open("data/train.bin", "rb")
shards = [f"shards/part_{i}.npy" for i in range(3)]
other = glob("./cache/*.pt")
model = os.path.join("weights", "best.pt")
os.system("python tool.py --vocab=tok/vocab.json 2>&1")
print("a number of results")
missing = open("nowhere/x.bin")
absolute = open("/data/train.bin")
"""


def test_ignored_files_that_a_program_mentions_are_named_with_what_to_link(repository: Path) -> None:
    ignored = "data/\n*.npy\ncache\nweights/\ntok/\nbig/\nunused/\n__pycache__/\nresults.tsv\n"
    commit_files(
        repository, {".gitignore": ignored, "train.py": PROGRAM, "shards/README": "", "src/x.py": ""}, "x"
    )
    for name in (
        *("data/train.bin", "shards/part_0.npy", "shards/part_1.npy", "cache/a.pt", "weights/best.pt"),
        *("tok/vocab.json", "big/file.bin", "unused/x", "src/__pycache__/x.pyc", "results.tsv"),
    ):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).touch()
    found = {
        mention.link: mention.path for mention in ignored_mentions(repository, ("train.py", "absent.py"))
    }
    assert found == {
        "data": "data/train.bin",
        "shards/part_0.npy": "shards/part_0.npy",
        "shards/part_1.npy": "shards/part_1.npy",
        "cache": "cache",
        "weights": "weights",
        "tok": "tok/vocab.json",
    }


def test_a_program_that_reads_nothing_ignored_or_cannot_be_read_mentions_nothing(
    repository: Path, tmp_path: Path
) -> None:
    assert ignored_mentions(repository, ("train.py", "prepare.py")) == ()
    (repository / "train.py").write_bytes(b"x = (\xff")
    assert ignored_mentions(repository, ("train.py",)) == ()
    git(tmp_path, "clone", "--quiet", "--bare", "repository", "bare.git")
    assert ignored_mentions(tmp_path / "bare.git", ("train.py",)) == ()
