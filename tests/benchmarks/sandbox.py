"""What a sandbox and a folder of its own cost a training.

python -m tests.benchmarks.sandbox [STARTS]
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from loop.errors import UserError
from loop.git.checkout import Source
from loop.process.environment import readable_for
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View
from tests.benchmarks.toy_run import make_repository
from tests.loop.lab import git

FOLDERS = (("small", 0, 0), ("2,000 files, 100 MB", 2_000, 50_000))


def measure(sandbox: Sandbox, view: View, argv: tuple[str, ...]) -> float:
    """Return the milliseconds from before the arguments are made to the program's end."""
    begin = time.perf_counter()
    subprocess.run(sandbox.wrap(view, argv), env=view.environment, check=True)
    return (time.perf_counter() - begin) * 1_000


def time_folders(rounds: int) -> None:
    """Print what it takes to fill a training's folder, and to copy and to remove a compile cache."""
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder, cache, copy = (Path(place, name) for name in ("work", "cache", "copy"))
        for name, number, size in FOLDERS:
            repository = make_repository(Path(place, name), train="VALUE = 0\n", toy="true\n")
            write_random(repository / "data", number, size)
            git(repository, "add", "--all")
            git(repository, "commit", "--quiet", "--allow-empty", "--message=data")
            commit = git(repository, "rev-parse", "HEAD")
            source = Source(repository, commit, editable="train.py")
            for _ in range(rounds):
                taken.setdefault(f"fill {name}", []).append(timed(partial(source.fill, folder, commit)))
                taken.setdefault(f"remove {name}", []).append(timed(partial(shutil.rmtree, folder)))
        write_random(cache, 1_000, 50_000)
        for _ in range(rounds):
            taken.setdefault("copy a cache of 50 MB in 1,000 files", []).append(
                timed(partial(shutil.copytree, cache, copy, symlinks=True))
            )
            shutil.rmtree(copy)
    for name, found in taken.items():
        print(f"{name:37} median {statistics.median(found):6.1f} ms, worst {max(found):6.1f} ms")


def write_random(folder: Path, number: int, size: int) -> None:
    """Write so many files of so many bytes, a hundred a folder."""
    for index in range(number):
        path = folder / str(index // 100) / str(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def timed(function: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1_000


def main() -> None:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    sandboxes = []
    for kind in SandboxKind:
        try:
            sandboxes.append(find_sandbox(kind))
        except UserError as error:
            print(error)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        readable = readable_for(Path(sys.executable))
        view = View(Path(folder), Path(folder), {"HOME": str(Path.home())}, readable=readable)
        for argv in ((shutil.which("true") or "true",), (sys.executable, "-c", "pass")):
            rounds = [[measure(sandbox, view, argv) for sandbox in sandboxes] for _ in range(starts)]
            for sandbox, taken in zip(sandboxes, zip(*rounds, strict=True), strict=True):
                median, worst = statistics.median(taken), max(taken)
                print(
                    f"{Path(argv[0]).name:8} {sandbox.kind:9} median {median:6.1f} ms, worst {worst:6.1f} ms"
                )
    time_folders(max(3, starts // 4))


if __name__ == "__main__":
    main()
