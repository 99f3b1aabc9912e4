"""What a node gets of a repository: all files of a training, whatever git keeps them as."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.errors import UserError
from loop.git.checkout import Source
from loop.lanes import node_setup
from loop.lanes.node_setup import make_bundle, unbundle
from tests.loop.git.test_checkout import attribute, filled, lfs, nested, pointer, store, tree
from tests.loop.real_git import TRAIN, commit_files, git, refs, snapshot

__all__ = ("lfs", "nested")  # fixtures


def bundle_of(repository: Path) -> tuple[str, bytes]:
    return make_bundle(repository, git(repository, "rev-parse", "HEAD"), "train.py", TRAIN)


def on_a_node(repository: Path, folder: Path) -> Path:
    """Return the folder of a training on a node, which has nothing of the repository but a bundle."""
    commit, bundle = bundle_of(repository)
    clone = unbundle(folder / "clone", commit, bundle)
    made = Source(clone, commit, editable="train.py", frozen=("prepare.py",))
    made.fill(folder / "work", commit)
    made.write_editable(folder / "work", TRAIN)
    return folder / "work"


def test_submodules_and_lfs_content_travel_as_files(nested: Path, lfs: Path, tmp_path: Path) -> None:
    store(lfs / ".git", b"weights")
    git(lfs, "config", "--remove-section", "filter.lfs")
    commit_files(nested, {".gitignore": "data/\n", "crlf.txt": "a\r\n", "run.sh": "#!/bin/sh\n"}, "x")
    (nested / "alias").symlink_to("vendor/lib")
    (nested / "data").mkdir()
    (nested / "data" / "kept.txt").write_text("added by force\n")
    git(nested, "add", "--force", "alias", "data/kept.txt")
    git(nested, "update-index", "--chmod=+x", "run.sh", "train.py")
    git(nested, "commit", "--quiet", "-m", "modes")
    attribute(nested, "*.bin filter=lfs -text\n*.txt text eol=lf ident")
    before = snapshot(nested), refs(nested)
    here, there = filled(nested, tmp_path / "here"), on_a_node(nested, tmp_path / "node")
    assert tree(there) == tree(here)
    assert (there / "model.bin").read_bytes() == b"weights"
    assert (there / "vendor/lib/deep/scale.py").is_file()
    assert (snapshot(nested), refs(nested)) == before, "the user's repository is as it was"


def test_the_same_files_have_the_same_name_whatever_their_history(repository: Path) -> None:
    first, _ = bundle_of(repository)
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "later")
    assert bundle_of(repository)[0] == first


def test_what_is_too_large_to_be_sent_is_refused_with_the_way_out(
    lfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"w" * 2_000_000
    store(lfs / ".git", content)
    git(lfs, "config", "--remove-section", "filter.lfs")
    commit_files(lfs, {"model.bin": pointer(content)}, "large")
    monkeypatch.setattr(node_setup, "MOST_FILES", 1_000_000)
    with pytest.raises(
        UserError, match=r"have 2 MB, and 1 MB is the most that is sent to nodes: .* DATA_PATHS"
    ):
        bundle_of(lfs)
