"""The folder of a training: exactly the files of a commit, by no program that a repository names."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loop.errors import DiskError, UserError
from loop.git.checkout import File, Source, write_files
from loop.git.commands import Git
from tests.loop.real_git import PREPARE, TRAIN, commit_files, git, make_repository, refs, snapshot

OID = "0" * 64


def source(repository: Path, *link_paths: str) -> Source:
    commit = git(repository, "rev-parse", "HEAD")
    return Source(repository, commit, editable="train.py", frozen=("prepare.py",), link_paths=link_paths)


def filled(repository: Path, folder: Path, *link_paths: str, text: str = TRAIN) -> Path:
    made = source(repository, *link_paths)
    made.fill(folder, git(repository, "rev-parse", "HEAD"))
    made.write_editable(folder, text)
    return folder


def refused(repository: Path, *link_paths: str) -> str:
    with pytest.raises(UserError) as told:
        source(repository, *link_paths)
    return str(told.value)


def tree(folder: Path) -> dict[str, str]:
    """Return every file and link below a folder, with its kind, mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode & 0o111:o} {path.read_bytes().decode()}"
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "trainings" / "1" / "3-1" / "work"


def test_a_folder_has_the_files_of_the_commit_and_nothing_else(repository: Path, work: Path) -> None:
    commit_files(repository, {"src/a b.py": "x\r\n", "ordner ü/\n": "odd", "run.sh": "#!/bin/sh\n"}, "x")
    (repository / "alias").symlink_to("src/a b.py")
    (repository / "away").symlink_to("/mnt/data")
    git(repository, "add", "-A")
    git(repository, "update-index", "--chmod=+x", "run.sh")
    git(repository, "commit", "--quiet", "-m", "modes")
    (repository / "untracked").write_text("not committed")
    (repository / "prepare.py").write_text("not committed")
    before = snapshot(repository), refs(repository)
    filled(repository, work, text="LR = 1\n")
    assert tree(work) == {
        "alias": "link src/a b.py",
        "away": "link /mnt/data",
        "ordner ü/\n": "0 odd",
        "prepare.py": "0 TIME_BUDGET = 60 * 5\n",
        "program.md": "0 Lower val_bpb.\n",
        "run.sh": f"{0o111 & ~umask():o} #!/bin/sh\n",
        "src/a b.py": "0 x\r\n",
        "train.py": "0 LR = 1\n",
    }
    assert (work / "src" / "a b.py").read_bytes() == b"x\r\n"
    assert (snapshot(repository), refs(repository)) == before


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_git_ends_where_a_file_cannot_be_written(repository: Path, tmp_path: Path) -> None:
    git_ = Git(repository / ".git")
    program = File("train.py", "100644", git(repository, "rev-parse", "HEAD:train.py"), 0)
    (tmp_path / "train.py").touch()
    before = {*threading.enumerate()}
    with pytest.raises(FileExistsError) as raised:
        write_files(git_, tmp_path, [program, program])
    for watchdog in {*threading.enumerate()} - before:
        watchdog.join(10)
        assert not watchdog.is_alive(), raised


def test_a_folder_can_be_filled_before_its_program_is_known(repository: Path, work: Path) -> None:
    made = source(repository)
    made.fill(work, git(repository, "rev-parse", "HEAD"))
    assert not (work / "train.py").exists()
    made.write_editable(work, "LR = 2\n")
    assert (work / "train.py").read_text() == "LR = 2\n"


def test_an_editable_file_keeps_its_mode(repository: Path, work: Path) -> None:
    git(repository, "update-index", "--chmod=+x", "train.py")
    git(repository, "commit", "--quiet", "-m", "x")
    assert os.access(filled(repository, work) / "train.py", os.X_OK)


def test_files_follow_the_commit_and_are_looked_at_again_only_where_others_changed(
    repository: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = source(repository)
    edit = commit_files(repository, {"train.py": "LR = 2\n"}, "an experiment")
    other = commit_files(repository, {"model.py": "x = 1\n"}, "by hand")
    looked = []
    add = made._add

    def look(*arguments: Any) -> None:
        looked.append(1)
        add(*arguments)

    monkeypatch.setattr(made, "_add", look)
    made.fill(work, edit)
    assert not looked
    made.fill(work.with_name("other"), other)
    assert (work.with_name("other") / "model.py").read_text() == "x = 1\n"
    assert looked == [1]


def test_what_the_user_lets_git_convert_stays_as_it_is_stored(repository: Path, work: Path) -> None:
    commit_files(repository, {".gitattributes": "*.txt text eol=crlf\n*.py ident\n"}, "x")
    commit_files(repository, {"a.txt": "a\n", "b.py": "# $Id$\n"}, "y")
    git(repository, "config", "core.autocrlf", "true")
    filled(repository, work)
    assert (work / "a.txt").read_bytes() == b"a\n"
    assert (work / "b.py").read_bytes() == b"# $Id$\n"


def test_a_sparse_checkout_and_a_bare_repository_give_all_files(
    repository: Path, tmp_path: Path, work: Path
) -> None:
    git(repository, "sparse-checkout", "set", "--no-cone", "/train.py")
    assert (filled(repository, work) / "program.md").exists()
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "bare.git")
    assert tree(filled(tmp_path / "bare.git", work.with_name("bare"))) == tree(work)


def test_a_replacement_that_was_planted_changes_no_file(repository: Path, work: Path) -> None:
    planted = git(repository, "hash-object", "-w", "--stdin", stdin="TIME_BUDGET = 9999\n")
    git(repository, "replace", git(repository, "rev-parse", "HEAD:prepare.py"), planted)
    assert git(repository, "show", "HEAD:prepare.py") == "TIME_BUDGET = 9999"
    assert (filled(repository, work) / "prepare.py").read_text() == PREPARE


# Where it must not write


def test_a_folder_that_is_there_is_left_alone(repository: Path, work: Path) -> None:
    work.mkdir(parents=True)
    (work / "precious").touch()
    with pytest.raises(UserError, match="exists already: remove it"):
        filled(repository, work)
    assert [path.name for path in work.iterdir()] == ["precious"]


@pytest.mark.parametrize("level", [0, 1])
def test_a_link_in_the_place_of_a_folder_is_not_followed(
    repository: Path, work: Path, tmp_path: Path, level: int
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = (work, *work.parents)[level]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UserError, match=r"exists already: remove it|is a link to .*: remove it"):
        filled(repository, work)
    assert list(outside.iterdir()) == []


def crafted(repository: Path, entries: dict[str, tuple[str, str]]) -> str:
    """Commit a tree that git itself would not make, of one level: names with modes and contents."""
    raw = b""
    for name, (mode, content) in entries.items():
        made = content if mode == "40000" else git(repository, "hash-object", "-w", "--stdin", stdin=content)
        raw += f"{mode} {name}\0".encode() + bytes.fromhex(made)
    done = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
        cwd=repository, input=raw, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode().strip()


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", ".Git", "."])
def test_a_path_that_leads_out_of_the_folder_is_refused(repository: Path, work: Path, name: str) -> None:
    inner = crafted(repository, {"x": ("100644", "evil")})
    made = crafted(repository, {"train.py": ("100644", TRAIN), name: ("40000", inner)})
    commit = git(repository, "commit-tree", made, "-m", "crafted")
    with pytest.raises(UserError, match="cannot be in a training's folder"):
        Source(repository, commit, editable="train.py").fill(work, commit)
    assert not work.exists()


def test_a_file_named_with_a_slash_is_refused(repository: Path) -> None:
    made = crafted(repository, {"/etc/x": ("100644", "evil")})
    commit = git(repository, "commit-tree", made, "-m", "crafted")
    with pytest.raises(UserError, match="cannot be in a training's folder"):
        Source(repository, commit, editable="train.py")


@pytest.mark.parametrize("order", [1, -1])
def test_no_file_is_written_through_a_link_of_the_commit(
    repository: Path, tmp_path: Path, order: int
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    link = git(repository, "hash-object", "-w", "--stdin", stdin=str(outside))
    content = git(repository, "hash-object", "-w", "--stdin", stdin="evil")
    files = [
        File("a", "120000", link, 1),
        File("a/b", "100644", content, 1),
        File("a/c", "120000", link, 1),
        File("a/c/d", "120000", content, 1),
    ]
    with suppress(OSError):  # refused is as good
        write_files(Git(repository / ".git"), root, files[::order])
    assert list(outside.iterdir()) == []


def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing(
    repository: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "program.md")

    monkeypatch.setattr("loop.git.checkout._copy", full)
    with pytest.raises(DiskError, match=r"program\.md cannot be written: No space left on device\."):
        filled(repository, work)
    assert not work.exists()


# Filters


def attribute(repository: Path, line: str) -> None:
    commit_files(repository, {".gitattributes": f"{line}\n"}, line)


@pytest.mark.parametrize("kind", ["smudge", "process"])
@pytest.mark.parametrize("place", [".gitattributes", "info/attributes"])
def test_a_filter_that_makes_files_is_refused_with_what_to_do(
    repository: Path, tmp_path: Path, kind: str, place: str
) -> None:
    commit_files(repository, {"assets/a.bin": "x"}, "x")
    if place == ".gitattributes":
        attribute(repository, "*.bin filter=slow")
    else:
        (repository / ".git" / "info" / "attributes").write_text("*.bin filter=slow\n")
    ran = tmp_path / "ran"
    git(repository, "config", f"filter.slow.{kind}", f"touch {ran}; sleep 1000")
    git(repository, "config", "filter.slow.required", "true")
    told = refused(repository)
    assert told.startswith("assets/a.bin needs the git filter slow (`touch ")
    assert "set LINK_PATHS=assets/a.bin" in told
    assert not ran.exists()


def test_linking_what_a_filter_makes_is_the_way_out(repository: Path, work: Path) -> None:
    commit_files(repository, {"assets/a.bin": "x", "assets/b.bin": "y"}, "x")
    attribute(repository, "*.bin filter=slow")
    git(repository, "config", "filter.slow.smudge", "false")
    (repository / "assets" / "a.bin").write_text("as the filter made it")
    filled(repository, work, "assets")
    assert tree(work)["assets"] == f"link {repository}/assets"
    assert (work / "assets" / "a.bin").read_text() == "as the filter made it"


@pytest.mark.parametrize(
    "options", [{}, {"clean": "nbstripout"}, {"clean": "x", "smudge": "cat", "required": "true"}]
)
def test_a_filter_that_leaves_alone_what_is_stored_is_no_obstacle(
    repository: Path, work: Path, options: dict[str, str]
) -> None:
    commit_files(repository, {"a.ipynb": "{}\n"}, "x")
    attribute(repository, "*.ipynb filter=strip")
    for name, value in options.items():
        git(repository, "config", f"filter.strip.{name}", value)
    assert (filled(repository, work) / "a.ipynb").read_text() == "{}\n"


def test_a_filter_is_found_by_the_attributes_of_the_commit_not_of_the_checkout(
    repository: Path, work: Path
) -> None:
    commit_files(repository, {"a.bin": "x"}, "x")
    git(repository, "config", "filter.slow.smudge", "false")
    (repository / ".gitattributes").write_text("*.bin filter=slow\n")
    assert (filled(repository, work) / "a.bin").read_text() == "x"
    git(repository, "add", ".gitattributes")
    git(repository, "-c", "filter.slow.smudge=", "commit", "--quiet", "-m", "attributes")
    (repository / ".gitattributes").write_text("")
    assert "needs the git filter slow" in refused(repository)


def test_an_encoding_that_git_would_make_is_refused(repository: Path) -> None:
    commit_files(repository, {"a.txt": "x\n"}, "x")
    (repository / ".git" / "info" / "attributes").write_text("*.txt working-tree-encoding=UTF-16\n")
    assert "a.txt needs the working-tree-encoding UTF-16" in refused(repository)
    (repository / ".git" / "info" / "attributes").write_text("*.txt working-tree-encoding=utf-8\n")
    source(repository)


# Git LFS, which need not be installed


def pointer(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"


def store(git_directory: Path, content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    path = git_directory / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def lfs(repository: Path) -> Path:
    """A repository that keeps `model.bin` by Git LFS, whose programs are configured but not there."""
    commit_files(repository, {"model.bin": pointer(b"weights"), "small.bin": "no pointer"}, "weights")
    attribute(repository, "*.bin filter=lfs diff=lfs merge=lfs -text")
    for name, value in {
        "clean": "git-lfs clean -- %f",
        "smudge": "git-lfs smudge -- %f",
        "process": "git-lfs filter-process",
        "required": "true",
    }.items():
        git(repository, "config", f"filter.lfs.{name}", value)
    return repository


def test_content_of_lfs_is_read_from_where_git_lfs_keeps_it(lfs: Path, work: Path) -> None:
    store(lfs / ".git", b"weights")
    filled(lfs, work)
    assert (work / "model.bin").read_bytes() == b"weights"
    assert (work / "small.bin").read_text() == "no pointer"
    assert not (work / "model.bin").is_symlink()


def test_content_of_lfs_is_found_where_it_is_configured_to_be(lfs: Path, work: Path, tmp_path: Path) -> None:
    store(lfs / ".git", b"weights")
    (lfs / ".git" / "lfs").rename(tmp_path / "storage")
    git(lfs, "config", "lfs.storage", str(tmp_path / "storage"))
    assert (filled(lfs, work) / "model.bin").read_bytes() == b"weights"


def test_an_executable_of_lfs_is_one(lfs: Path, work: Path) -> None:
    store(lfs / ".git", b"weights")
    git(lfs, "config", "--remove-section", "filter.lfs")
    git(lfs, "update-index", "--chmod=+x", "model.bin")
    git(lfs, "commit", "--quiet", "-m", "x")
    mode = (filled(lfs, work) / "model.bin").stat().st_mode
    assert mode & stat.S_IXUSR


def test_lfs_content_that_is_not_here_is_named_with_the_command_that_fetches_it(lfs: Path) -> None:
    assert refused(lfs) == (f"Git LFS has not fetched the content of model.bin: run `git lfs pull` in {lfs}.")


def test_lfs_content_that_comes_later_is_checked_too(lfs: Path, work: Path) -> None:
    path = store(lfs / ".git", b"weights")
    made = source(lfs)
    newer = commit_later(lfs, b"newer")
    with pytest.raises(UserError, match=r"has not fetched the content of other\.bin"):
        made.fill(work, newer)
    store(lfs / ".git", b"newer").write_bytes(b"newEr")
    with pytest.raises(UserError, match=r"other\.bin is damaged"):
        made.fill(work, newer)
    store(lfs / ".git", b"newer")
    made.fill(work, newer)
    assert (work / "other.bin").read_bytes() == b"newer"
    assert path.exists()


def commit_later(lfs: Path, content: bytes) -> str:
    git(lfs, "config", "--remove-section", "filter.lfs")
    return commit_files(lfs, {"other.bin": pointer(content)}, "newer")


@pytest.mark.parametrize("damage", [b"weightS", b"short"])
def test_lfs_content_that_is_damaged_is_refused(lfs: Path, damage: bytes) -> None:
    path = store(lfs / ".git", b"weights")
    path.write_bytes(damage)
    assert f"model.bin is damaged: remove {path} and run `git lfs pull`" in refused(lfs)


def test_lfs_content_is_hashed_once_a_run(lfs: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(lfs / ".git", b"weights")
    made = source(lfs)
    monkeypatch.setattr("loop.git.checkout.hashlib.file_digest", None)
    made.fill(work, git(lfs, "rev-parse", "HEAD"))


# Submodules


@pytest.fixture
def nested(tmp_path: Path, repository: Path) -> Path:
    """A repository with a submodule `vendor/lib`, which has one of its own, `deep`."""
    deep = make_repository(tmp_path / "origin-deep", {"scale.py": "SCALE = 1.0\n"})
    lib = make_repository(tmp_path / "origin-lib", {"helpers.py": "x = 1\n"})
    local = ("-c", "protocol.file.allow=always")
    git(lib, *local, "submodule", "--quiet", "add", str(deep), "deep")
    git(lib, "commit", "--quiet", "-m", "deep")
    git(repository, *local, "submodule", "--quiet", "add", str(lib), "vendor/lib")
    git(repository, *local, "submodule", "--quiet", "update", "--init", "--recursive")
    git(repository, "commit", "--quiet", "-m", "lib")
    return repository


def test_submodules_come_from_the_checkout(nested: Path, tmp_path: Path, work: Path) -> None:
    (tmp_path / "origin-lib").rename(tmp_path / "gone")
    (nested / "vendor" / "lib" / "helpers.py").write_text("not committed\n")
    filled(nested, work)
    assert (work / "vendor" / "lib" / "helpers.py").read_text() == "x = 1\n"
    assert (work / "vendor" / "lib" / "deep" / "scale.py").read_text() == "SCALE = 1.0\n"
    assert not list(work.rglob(".git"))


def test_a_submodule_that_is_missing_is_named_with_the_command_that_fetches_it(
    nested: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(nested), "clone")
    told = refused(tmp_path / "clone")
    assert told.startswith(f"The submodule vendor/lib is not in {tmp_path}/clone as the commit has it: run ")
    command = told.split("`")[1]
    assert command == "git submodule update --init --recursive"
    git(tmp_path / "clone", "-c", "protocol.file.allow=always", *command.split()[1:])
    source(tmp_path / "clone")


def test_a_nested_submodule_that_is_missing_is_named_by_its_whole_path(nested: Path) -> None:
    git(nested / "vendor" / "lib", "submodule", "--quiet", "deinit", "--force", "deep")
    assert refused(nested).startswith("The submodule vendor/lib/deep is not in")


def test_a_submodule_that_was_not_updated_is_refused(nested: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(nested), "clone")
    clone = tmp_path / "clone"
    git(clone, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive")
    newer = commit_files(tmp_path / "origin-lib", {"helpers.py": "x = 2\n"}, "newer")
    git(clone, "update-index", "--cacheinfo", f"160000,{newer},vendor/lib")
    git(clone, "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "newer")
    assert refused(clone).startswith("The submodule vendor/lib is not in")


def test_filters_and_lfs_of_a_submodule_are_resolved_like_those_of_the_repository(
    nested: Path, work: Path
) -> None:
    lib = nested / "vendor" / "lib"
    git(lib, "config", "user.email", "x@example.org")
    git(lib, "config", "user.name", "x")
    commit_files(lib, {"model.bin": pointer(b"weights"), ".gitattributes": "*.bin filter=lfs\n"}, "weights")
    git(nested, "commit", "--quiet", "-am", "weights")
    assert refused(nested).startswith("Git LFS has not fetched the content of vendor/lib/model.bin")
    store(nested / ".git" / "modules" / "vendor" / "lib", b"weights")
    assert (filled(nested, work) / "vendor" / "lib" / "model.bin").read_bytes() == b"weights"
    git(lib, "config", "filter.slow.smudge", "false")
    (nested / ".git" / "modules" / "vendor" / "lib" / "info" / "attributes").write_text("*.py filter=slow\n")
    assert refused(nested).startswith("vendor/lib/helpers.py needs the git filter slow")


def test_a_submodule_can_be_linked_instead(nested: Path, work: Path) -> None:
    git(nested / "vendor" / "lib", "submodule", "--quiet", "deinit", "--force", "deep")
    filled(nested, work, "vendor/lib")
    assert tree(work)["vendor/lib"] == f"link {nested}/vendor/lib"


def test_an_embedded_repository_that_no_checkout_gets_is_an_empty_folder(
    repository: Path, base: str, work: Path
) -> None:
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{base},embedded")
    git(repository, "commit", "--quiet", "-m", "by mistake")
    assert list((filled(repository, work) / "embedded").iterdir()) == []


# Links to what git does not have


def test_what_git_ignores_can_be_linked_from_the_checkout(repository: Path, work: Path) -> None:
    commit_files(repository, {".gitignore": "data/\n*.bin\n", "lib/x.py": ""}, "x")
    (repository / "data").mkdir()
    (repository / "data" / "train.bin").write_text("tokens")
    (repository / "lib" / "table.bin").write_text("table")
    made = source(repository, "lib/table.bin", "data", "data/train.bin")
    assert made.links == {"data": repository / "data", "lib/table.bin": repository / "lib" / "table.bin"}
    filled(repository, work, "lib/table.bin", "data/", "data/train.bin")
    assert (work / "data" / "train.bin").read_text() == "tokens"
    assert (work / "lib" / "table.bin").read_text() == "table"
    assert [path.name for path in (repository / "data").iterdir()] == ["train.bin"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("absent", "LINK_PATHS names absent, which is not in"),
        ("train.py", "which the bot has to write itself"),
        ("../data", "cannot be in a training's folder"),
        ("/data", "cannot be in a training's folder"),
        (".git/config", "cannot be in a training's folder"),
        ("", "cannot be in a training's folder"),
    ],
)
def test_what_cannot_be_linked_is_refused(repository: Path, path: str, told: str) -> None:
    assert told in refused(repository, path)


def test_a_folder_that_holds_the_editable_file_cannot_be_linked(repository: Path) -> None:
    commit = commit_files(repository, {"src/train.py": "x = 1\n"}, "x")
    with pytest.raises(UserError, match="LINK_PATHS names src, which the bot has to write itself"):
        Source(repository, commit, editable="src/train.py", link_paths=("src",))


def test_what_lies_behind_a_link_of_the_commit_is_linked_by_the_name_of_that_link(
    repository: Path, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "train.bin").write_text("tokens")
    (repository / "data").symlink_to(tmp_path / "disk")
    git(repository, "add", "data")
    git(repository, "commit", "--quiet", "-m", "data")
    told = refused(repository, "data/train.bin")
    assert told == "LINK_PATHS names data/train.bin, but data is no folder: name that."
    assert (filled(repository, work, "data") / "data" / "train.bin").read_text() == "tokens"


def test_a_submodule_can_have_a_link_in_it(nested: Path, work: Path) -> None:
    (nested / "vendor" / "lib" / "weights").touch()
    filled(nested, work, "vendor/lib/weights")
    assert tree(work)["vendor/lib/weights"] == f"link {nested}/vendor/lib/weights"
    assert (work / "vendor" / "lib" / "helpers.py").exists()


def test_a_bare_repository_has_nothing_to_link(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "bare.git")
    assert "LINK_PATHS needs a checkout" in refused(tmp_path / "bare.git", "data")


# Content that is not here


def test_a_partial_clone_is_refused_and_fetches_nothing(repository: Path, tmp_path: Path) -> None:
    git(repository, "config", "uploadpack.allowFilter", "true")
    origin = f"file://{repository}"
    git(tmp_path, "clone", "--quiet", "--no-checkout", "--filter=blob:none", origin, "partial")
    told = refused(tmp_path / "partial")
    assert "does not have the whole content of commit" in told
    assert "clone the repository without --filter" in told
