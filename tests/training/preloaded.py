"""Python in processes that are forked off from one that has imported the slow packages, torch above all.

After the imports everything is as in a process of its own, but that `sys.modules` has those packages.

    python tests/training/preloaded.py SOCKET MODULE…
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.bot.preloaded import Forked, Preloaded, serve

TO_PREPARE = ("numpy", "pyarrow.parquet", "tiktoken", "tokenizers")
TO_TRAIN = ("numpy", "torch.nn.attention")


@cache
def preloaded(*modules: str) -> Preloaded:
    made = Preloaded(__file__, *modules, environment=os.environ | {"OMP_NUM_THREADS": "1"})
    atexit.register(made.close)
    return made


def forked(command: Sequence[str], *, cwd: Path, modules: Sequence[str] = TO_TRAIN, **options: Any) -> Forked:
    """Start `python *command`; the options are those of `Preloaded.start`."""
    return preloaded(*modules).start(command, cwd=cwd, **options)


def run_forked(
    command: Sequence[str], *, cwd: Path, env: dict[str, str], modules: Sequence[str] = TO_TRAIN
) -> subprocess.CompletedProcess[str]:
    """Run `python *command` to its end."""
    with (
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        files = {"stdin": nothing.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        code = forked(command, cwd=cwd, env=env, modules=modules, **files).wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


# The other side


def _python() -> None:
    """Do what `python *sys.argv` does."""
    sys.path.insert(0, str(Path.cwd()))
    if sys.argv[0] == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(sys.argv.pop(1), vars(main))
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def _status() -> int:
    try:
        _python()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:  # noqa: BLE001 - as Python does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End as Python does, but leave what was imported: to take it apart copies all its pages."""
    vars(threading)["_shutdown"]()
    vars(atexit)["_run_exitfuncs"]()
    gc.collect()  # for what complains when it was never closed
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    serve(int(sys.argv[1]), lambda *_: _end(_status()))
