"""A real training in a sandbox: the template's CPU profile, and a compiler with a cache of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.setup.template import template_files
from loop.errors import UserError
from loop.process.environment import readable_for
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View, private_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMPILE = """
import torch
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader

compiled = torch.compile(lambda x: (x.sin() + x.cos()).sum())
assert compiled(torch.zeros(1000)).item() == 1000
loader = DataLoader(torch.ones(100, 3), batch_size=10, num_workers=2)
assert sum(batch.sum() for batch in loader) == 300
print(counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"])
"""


@pytest.fixture(params=[SandboxKind.BWRAP, SandboxKind.LANDLOCK])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return find_sandbox(request.param)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def state() -> Iterator[Path]:
    """A short path: sockets of DataLoader lie below TMPDIR, and an address has at most 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def attempt(state: Path, number: int, *readable: Path) -> View:
    folder = state / "trainings" / "1" / f"{number}-0"
    for name in ("work", "cache", "tmp"):
        (folder / name).mkdir(parents=True)
    environment = {
        "HOME": str(Path.home()),
        "PATH": os.environ["PATH"],
        **private_environment(folder / "cache", folder / "tmp"),
    }
    return View(
        folder / "work",
        folder / "tmp",
        environment,
        writable=(folder / "cache",),
        readable=(*readable_for(Path(sys.executable)), *readable),
        hidden=(state,),
    )


def run(sandbox: Sandbox, view: View, name: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**view.environment, **more}
    argv = sandbox.wrap(view, (sys.executable, name))
    return subprocess.run(argv, cwd=view.work, env=environment, capture_output=True, text=True, check=False)


def test_the_template_trains(sandbox: Sandbox, state: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    view = attempt(state, 0, data)
    for name, text in template_files("cpu", 5).items():
        (view.work / name).write_text(text, encoding="utf-8")
    prepared = run(Sandbox(SandboxKind.NONE), view, "prepare.py", AUTORESEARCH_CACHE=str(data))
    assert prepared.returncode == 0, prepared.stderr
    trained = run(sandbox, view, "train.py", AUTORESEARCH_CACHE=str(data))
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"^val_bpb: +\d\.\d{6}$", trained.stdout, re.MULTILINE)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler")
def test_a_compiler_finds_what_the_training_before_it_compiled(sandbox: Sandbox, state: Path) -> None:
    first, second = (attempt(state, number) for number in (0, 1))
    hits = []
    for view in (first, second):
        (view.work / "train.py").write_text(COMPILE)
        ran = run(sandbox, view, "train.py")
        assert ran.returncode == 0, ran.stderr
        hits.append(int(ran.stdout))
        assert list((view.work.parent / "cache" / "inductor").iterdir())
        if view is first:
            shutil.copytree(
                view.work.parent / "cache", second.work.parent / "cache", symlinks=True, dirs_exist_ok=True
            )
    assert hits[0] == 0
    assert hits[1] > 0
