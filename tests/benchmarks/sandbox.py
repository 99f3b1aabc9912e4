"""What a sandbox costs a training at its start.

python -m tests.benchmarks.sandbox [STARTS]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loop.errors import UserError
from loop.process.environment import readable_for
from loop.sandbox.sandbox import Sandbox, SandboxKind, find_sandbox
from loop.sandbox.view import View


def measure(sandbox: Sandbox, view: View, argv: tuple[str, ...]) -> float:
    """Return the milliseconds from before the arguments are made to the program's end."""
    begin = time.perf_counter()
    subprocess.run(sandbox.wrap(view, argv), env=view.environment, check=True)
    return (time.perf_counter() - begin) * 1_000


def main() -> None:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    sandboxes = []
    for kind in SandboxKind:
        try:
            sandboxes.append(find_sandbox(kind))
        except UserError as error:
            print(error)
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


if __name__ == "__main__":
    main()
