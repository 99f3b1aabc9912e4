"""A Python that has imported what a training begins with, and waits for its turn.

It is started in place of `python train.py` while the training before it runs, in the same way, and becomes
what that command would have been. Until then nothing of the repository is run: only packages are imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from loop.process.supervisor import MARK

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
