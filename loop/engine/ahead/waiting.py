"""A Python that waits for the next training, and has imported what that begins with.

It is started in the folder made ahead, in place of `python train.py`, while the training before it runs, and
becomes what that command would have been. Until then nothing of the repository is run: only packages are
imported.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path, PurePath

from loop.machine import cores, look_at_gpus
from loop.process.supervisor import MARK
from loop.process.trainer import Job
from loop.program.start import Start, find_start

log = logging.getLogger(__name__)

_FLAG = re.compile(r"-[bBdEIOPqsSu]+")  # those that stand for themselves

_WAIT = """\
def _wait(command, script, imports, variables, mark):
    import sys
    main = sys.modules["__main__"].__dict__
    del main["_wait"]
    if sys.path[:1] == [""]:  # the repository
        del sys.path[0]
    import posix  # built in, as sys is
    def is_package(name):
        try:
            return bool(posix.stat(place + "/" + name + "/__init__.py"))
        except OSError:
            return False
    place, _, name = script.rpartition("/")
    place = place or "."
    own = {name.partition(".")[0]}
    for name in posix.listdir(place):
        if name.endswith((".py", ".so")) or is_package(name):
            own.add(name.partition(".")[0])
    class Own:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if path is None and name in own:
                posix._exit(0)  # the command would find that in the repository, and so be another program
    sys.meta_path.insert(0, Own)
    import os
    gate = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    sys.argv[:] = command[command.index(script):]
    getattr(sys, "orig_argv", [])[:] = command
    for name, value, is_default in variables:
        if not (is_default and name in os.environ):
            os.environ[name] = value
    for module, names in imports:
        try:
            __import__(module, fromlist=names)
        except ModuleNotFoundError as error:
            if not (module + ".").startswith(error.name + "."):
                raise
    told = b""
    while not told.endswith(b"\\n"):
        more = os.read(gate, 4096)
        if not more:
            os._exit(0)
        told += more
    os.environ[mark] = told.decode().strip()
    sys.meta_path.remove(Own)
    path = os.path.abspath(script)
    with open(path, "rb") as file:
        source = file.read()
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path.insert(0, os.path.dirname(path))
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
    main.update(__file__=path, __cached__=None, __loader__=loader("__main__", path))
    def show(kind, error, trace):
        while trace and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)
    sys.excepthook = show
    os.write(gate, b"\\n")  # from here on it is the training
    os.close(gate)
    return compile(source, path, "exec", dont_inherit=True)
"""


# The command's own import of a package that is not there is seen when it comes to it. Any other failure ends
# this Python, and the command itself is started.


def waiting_command(
    argv: Sequence[str],
    script: str,
    imports: Sequence[tuple[str, Sequence[str]]],
    variables: Sequence[tuple[str, str, bool]],
) -> tuple[str, ...] | None:
    """Return what to start ahead in place of `argv`; None where that is not a Python with this script."""
    if script not in argv:
        return None
    python, *flags = argv[: argv.index(script)] or ("",)
    if not re.fullmatch(r"python[\d.]*", PurePath(python).name) or not all(map(_FLAG.fullmatch, flags)):
        return None
    plan = (list(argv), script, [*map(list, imports)], [*map(list, variables)], MARK)
    return (python, *flags, "-c", f"{_WAIT}exec(_wait(*{plan!a}))\n")


FEWEST_CORES = 4  # with fewer, its imports would take time from the training under way


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in place of `job`, the next training in the folder made ahead, and what it begins with."""

    command: tuple[str, ...]
    job: Job
    editable: str
    start: Start
    places: tuple[int, ...]

    def fits(self, job: Job) -> bool:
        """Tell whether it can become the training: in the same folders under another name, all else equal."""
        with suppress(OSError):
            if _places(job.folder) == self.places and _moved(job, self.job.folder) == self.job:
                source = (job.cwd / self.editable).read_text(encoding="utf-8", errors="replace")
                return self.start.serves(_start_of(source, job.cwd, self.editable))
        return False


def is_worthwhile(environ: Mapping[str, str]) -> bool:
    """Tell whether trainings with these variables compute on a GPU, beside which there are cores to spare."""
    if cores() < FEWEST_CORES:
        return False
    gpus = look_at_gpus()
    return bool(gpus and gpus.of(environ.get("CUDA_VISIBLE_DEVICES")).gpus)


def plan_waiting(job: Job, argv: Sequence[str], source: str, editable: str) -> Waiting | None:
    """Return what may wait in place of `job`, where `argv` starts `source` as `editable`; None if nothing."""
    start = _start_of(source, job.cwd, editable)
    command = waiting_command(argv, editable, start.imports, [astuple(each) for each in start.variables])
    paths = filter(None, job.env.get("PYTHONPATH", "").split(os.pathsep))
    if not start.imports or command is None or not all(map(os.path.isabs, paths)):
        return None
    return Waiting(command, job, editable, start, _places(job.folder))


def _start_of(source: str, work: Path, editable: str) -> Start:
    beside = (work / editable).parent

    def read(name: str) -> str | None:
        path = beside / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    return find_start(source, {*(path.name for path in beside.iterdir()), Path(editable).name}, read)


def _places(folder: Path) -> tuple[int, ...]:
    """Return what tells the folders of an attempt from others of these names."""
    own = sorted(path for path in folder.iterdir() if path.is_dir())
    return tuple(path.stat().st_ino for path in (folder, *own))


def _moved(job: Job, folder: Path) -> Job:
    """Return what the job would be in another folder of its run."""
    old, new = ("/".join(path.parts[-3:]) for path in (job.folder, folder))
    return replace(
        job,
        argv=tuple(word.replace(old, new) for word in job.argv),
        env={name: value.replace(old, new) for name, value in job.env.items()},
        cwd=folder / job.cwd.relative_to(job.folder),
        folder=folder,
    )
