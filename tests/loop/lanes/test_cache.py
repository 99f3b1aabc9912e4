"""What the processes see that answer for a training's model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loop.evaluation.evaluator import MODEL
from loop.lanes.cache import CACHE, TMP, WORK, CompileCache
from loop.sandbox.sandbox import Sandbox, SandboxKind
from loop.sandbox.view import View, private_environment

LOOK = """
import os, sys
from pathlib import Path
places = [Path(), Path.home(), Path("/tmp"), Path("/dev/shm"), *map(Path, sys.argv[1:])]
places += [Path(folder) for name, folder in os.environ.items() if name.endswith(("DIR", "PATH"))]
for place in places:
    if place.is_dir():
        print("found", *place.glob("told-*"), *place.glob("*/told-*"))
for place in places:
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "told-something").touch()
        print("wrote", place.name)
    except OSError:
        pass
"""


@pytest.fixture
def training(disk_path: Path) -> Path:
    folder = disk_path / "trainings" / "1-1"
    for name in (WORK, CACHE, TMP):
        (folder / name).mkdir(parents=True)
    (folder / WORK / MODEL).touch()
    return folder


@pytest.fixture
def view(training: Path, disk_path: Path) -> View:
    """What the training saw; SANDBOX_WRITE names a folder, and there is a network."""
    shared = disk_path / "shared"
    shared.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody"}
    environment |= private_environment(training / CACHE, training / TMP)
    readable = (Path(sys.prefix), Path(sys.base_prefix))
    writable = (training / CACHE, shared)
    work = training / WORK
    return View(work, training / TMP, environment, writable, readable, (work / "prepare.py",), network=True)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "second first"])
def test_two_processes_of_one_model_can_leave_each_other_nothing(
    order: tuple[int, int], view: View, training: Path, bwrap: Sandbox
) -> None:
    argv = (sys.executable, "-c", LOOK, *map(str, view.writable), str(training))
    programs = CompileCache(training.parent).answering(view, training, bwrap, argv, 2)
    said = []
    for each in (programs[place] for place in order):
        ran = subprocess.run(each.argv, env=dict(each.env), stdout=subprocess.PIPE, text=True, check=True)
        said.append(ran.stdout)
    for words in said:
        assert {line for line in words.splitlines() if line.startswith("found")} == {"found"}
        assert "wrote tmp" in words
        assert "wrote inductor" in words
        assert f"wrote {WORK}" not in words
        assert "wrote shared" not in words


def test_the_second_begins_with_what_was_compiled_and_nothing_of_an_earlier_one(
    view: View, training: Path
) -> None:
    cache = CompileCache(training.parent)
    (training.parent / CACHE).mkdir()
    (training.parent / CACHE / "kernel").touch()
    for _ in range(2):
        _, second = cache.answering(view, training, Sandbox(SandboxKind.NONE), ("true",), 2)
        tmp, kernels = Path(second.env["TMPDIR"]), Path(second.env["TRITON_CACHE_DIR"]).parent
        assert list(tmp.iterdir()) == []
        assert [path.name for path in kernels.iterdir()] == ["kernel"]
        (tmp / "left").touch()
        (kernels / "left").touch()


def test_no_process_of_two_reaches_a_network(view: View, training: Path, bwrap: Sandbox) -> None:
    def shares(count: int) -> list[bool]:
        programs = CompileCache(training.parent).answering(view, training, bwrap, ("true",), count)
        return ["--share-net" in each.argv for each in programs]

    assert shares(2) == [False, False]
    assert shares(1) == [True]  # it has what the training had


def test_nothing_answers_for_a_training_that_left_no_model(view: View, training: Path) -> None:
    (training / WORK / MODEL).unlink()
    assert (
        CompileCache(training.parent).answering(view, training, Sandbox(SandboxKind.NONE), ("true",), 2) == []
    )
