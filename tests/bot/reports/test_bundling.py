from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.reports.bundle import Bundle, make_bundle
from bot.setup.settings import Settings, load_settings
from loop.errors import UserError
from loop.git.workspace import Workspace
from tests.loop.lab import Lab, git, value

SEEDED = "SEED = 42\n"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, SEEDED + value(1.5))
    yield made
    made.close()


@pytest.fixture
async def night(lab: Lab) -> Lab:
    """A baseline, a keep and a discard."""
    await lab.engine(SEEDED + value(1.4), SEEDED + value(1.45)).conduct(2)
    return lab


def settings_of(lab: Lab) -> Settings:
    return load_settings(lab.folder / "no.env", {"AUTORESEARCH_HOME": str(lab.home)})


async def bundle(lab: Lab, folder: Path) -> Bundle:
    path = lab.worktree
    workspace = Workspace(repository=lab.repository, path=path, tag=lab.now().tag)
    return await make_bundle(lab.journal, lab.now(), workspace, settings=settings_of(lab), folder=folder)


async def test_the_folder_holds_all_that_a_pull_request_needs_and_gives_way_to_the_next(
    night: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    made = await bundle(night, folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "PULL_REQUEST.md",
        "changes.patch",
        "environment.json",
        "progress.png",
        "results.tsv",
    ]
    text = (folder / "PULL_REQUEST.md").read_text()
    assert text.startswith("# val_bpb 1.500000 → 1.400000 (-0.100000)\n")
    assert "| 1 | `idea 1` | 1.400000 | -0.100000 |" in text
    assert f"git switch --detach {made.tidy.head}\npython train.py" in text
    assert "Seeds: SEED = 42." in text
    assert (folder / "results.tsv").read_text() == (night.worktree / "results.tsv").read_text()
    surroundings = json.loads((folder / "environment.json").read_text())
    assert surroundings["seeds"] == {"SEED": 42}
    assert surroundings["commit"] == made.tidy.head
    assert surroundings["packages"]["python"].startswith("3.")
    at, push = f"git -C {night.repository}", f"push -u {{}} {made.tidy.name}\n"
    assert f"To push it: {at} remote add origin URL && {at} {push.format('origin')}" in made.message().text
    for remotes, remote in ((("fork",), "fork"), (("fork", "origin"), "origin")):
        told = replace(made, tidy=replace(made.tidy, remotes=remotes)).message().text
        assert f"To push it: {at} {push.format(remote)}" in told
    assert [file.name for file in made.message().attachments] == [
        "progress.png",
        "PULL_REQUEST.md",
        "changes.patch",
    ]
    clone = tmp_path / "clone"  # by what it says of how to see it again
    git(tmp_path, "clone", "--quiet", str(night.repository), str(clone))
    git(clone, "switch", "--quiet", "--detach", made.tidy.head)
    assert (clone / "train.py").read_text() == SEEDED + value(1.4)
    again = await bundle(night, folder)
    assert again.tidy == made.tidy


async def test_a_folder_of_the_users_is_left_alone(night: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match=r"contains other files \(thesis.tex\)"):
        await bundle(night, folder)
    assert [file.name for file in folder.iterdir()] == ["thesis.tex"]


async def test_a_folder_that_cannot_be_looked_at_is_a_sentence(night: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x cannot be written: File name too long\.$"):
        await bundle(night, tmp_path / ("x" * 300))


async def test_a_run_that_kept_nothing_says_so(lab: Lab, tmp_path: Path) -> None:
    await lab.engine(value(1.6)).conduct(1)
    with pytest.raises(UserError, match="nothing to merge"):
        await bundle(lab, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
