"""What a training runs with: its variables, its Python with the repository's packages, its command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from loop.errors import UserError
from loop.logs.error_line import error_line
from loop.shell import answer_of
from loop.text import is_secret, without_secrets

_ALLOWED = re.compile(
    r"""
    PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | LC_\w+ | TZ | TMPDIR
    | XDG_(?:CACHE|DATA|CONFIG)_HOME
    | AUTORESEARCH_(?!(?:HOME|TRAINING|AGENT)$)\w+  # forks read AUTORESEARCH_CACHE_DIR, AUTORESEARCH_DATASET
    | (?:LD|DYLD)_LIBRARY_PATH | LIBRARY_PATH | CPATH | CC | CXX                    # torch.compile compiles
    | (?:CUDA|NVIDIA|NCCL|CUDNN|CUBLAS|HIP|ROCR|ROCM|HSA|MIOPEN|AMD)_\w+
    | (?:OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|RAYON)_\w+ | TOKENIZERS_PARALLELISM
    | TORCH\w* | PYTORCH_\w+ | TRITON_\w+
    | HF_HOME | HF_HUB_(?:CACHE|OFFLINE) | HF_DATASETS_\w+ | TIKTOKEN_CACHE_DIR
    | UV_\w+ | VIRTUAL_ENV | CONDA_(?:PREFIX|DEFAULT_ENV)
    | (?i:(?:https?|all|no)_proxy) | SSL_CERT_(?:FILE|DIR) | REQUESTS_CA_BUNDLE     # uv fetches packages
    """,
    re.VERBOSE,
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PROXIES = (*_PROXIES, *map(str.lower, _PROXIES))  # how the network is reached; one may want a login

PREPARE = "prepare.py"
_LOCK = "uv.lock"
_ANSWER_SECONDS = 120.0  # for a Python to import torch from a cold disk, for uv to compare an environment
_SYNC = ("sync", "--frozen", "--no-install-project")
_NO_NETWORK = ("dns error", "error sending request", "Network is unreachable", "network was disabled")
_OUTPUT = 64 * 1024  # characters of uv's messages that are kept
_PRINTED = 100  # characters of a line of uv's that are shown


def training_environment(
    environ: Mapping[str, str], extra: Mapping[str, str], *, let_through: Collection[str] = ()
) -> dict[str, str]:
    """Choose from `environ` what a training needs and add `extra`, without what looks like a secret.

    `let_through` (TRAIN_ENV) names further variables, which a person vouches for, whatever their names.
    """
    wanted = {name: value for name, value in environ.items() if _ALLOWED.fullmatch(name)} | dict(extra)
    chosen = {
        name: value
        for name, value in wanted.items()
        if not is_secret(name) and without_secrets(value) == value
    }
    chosen |= {name: environ[name] for name in let_through if name in environ}
    chosen["PYTHONUNBUFFERED"] = "1"  # progress and the last words of a killed training reach the log
    return chosen


def launch_command(checkout: Path, override: tuple[str, ...], editable: str = "train.py") -> tuple[str, ...]:
    """Return what a person would type in a checkout to train as the bot does (`override`: TRAIN_COMMAND)."""
    if override:
        return override
    if (checkout / _LOCK).is_file() and find_uv():
        return ("uv", "run", editable)
    return (sys.executable, editable)


def prepare_line(repository: Path, override: tuple[str, ...] = (), editable: str = "train.py") -> str:
    """Return what to type to prepare the data, with the Python that trains."""
    command = launch_command(repository, override, editable)
    words = [PREPARE if word == editable else word for word in command]
    known = words if PREPARE in words else ["python", PREPARE]
    if known[0] == "uv" and not override:
        known[0] = "uv" if shutil.which("uv") else find_uv() or "uv"  # a shell looks on the PATH only
    return f"cd {shlex.quote(str(repository))} && {shlex.join(known)}"


@dataclass(frozen=True, slots=True)
class Launch:
    """How a training is started in its folder, and what of the machine it must be able to read for that."""

    argv: tuple[str, ...]
    readable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def data_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where trainings commonly find data and models, those of Hugging Face without its token."""
    caches = Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    hub = Path(environ.get("HF_HOME") or caches / "huggingface").expanduser()
    named = [
        environ[name]
        for name in ("AUTORESEARCH_CACHE_DIR", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TIKTOKEN_CACHE_DIR")
        if name in environ
    ]
    ours = Path(environ.get("AUTORESEARCH_CACHE") or "~/.cache/autoresearch").expanduser()
    return (ours, hub / "hub", hub / "datasets", *(Path(path).expanduser() for path in named))


def find_uv() -> str | None:
    """Return uv from the PATH, or the one installed beside the bot's Python."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


class Launcher:
    """Finds how the trainings of a run are started, and makes the environment of a `uv.lock` for them.

    `override` is TRAIN_COMMAND. Environments lie in `folder`, one for each lock file, and stay. `environ` are
    the variables of trainings.
    """

    def __init__(
        self, folder: Path, *, override: tuple[str, ...], editable: str, environ: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._override = override
        self._editable = editable
        self._uv: subprocess.Popen[str] | None = None
        self._closed = False
        self.environ = environ

    def close(self) -> None:
        """End what `prepare` waits for, or is about to, in another thread."""
        self._closed = True
        if uv := self._uv:
            uv.terminate()

    def prepare(self, project: Path, checkout: Path | None, report: Callable[[str], None]) -> Launch:
        """Return how to train in a copy of `project`, the files of a commit; may take minutes.

        `checkout` is the user's: its `.venv` is used where it fits the lock file. `report` gets what uv says
        while it makes an environment.

        Raises:
            UserError: the command is not there, or the packages cannot be had.
        """
        if not (launch := self.find(project, checkout)):
            self._make(project, report)
            launch = self.find(project, checkout)
            assert launch is not None
        return launch

    def find(self, project: Path, checkout: Path | None) -> Launch | None:
        """Return what `prepare` does; None where the environment of the lock file has yet to be made."""
        command = launch_command(project, self._override, self._editable)
        uv = find_uv()
        # `uv run` with options of its own may mean anything: that is run as it is.
        if uv and command[:2] == ("uv", "run") and len(command) > 2 and not command[2].startswith("-"):
            python = self._locked(uv, project, checkout)
            return self._in_environment(uv, python, command[2:]) if python else None
        if not self._override:
            return Launch(command, readable_for(Path(sys.executable)))
        return self._checked(project)

    def _in_environment(self, uv: str, python: Path, words: tuple[str, ...]) -> Launch:
        """Do what `uv run` does with a command, without looking at the environment again."""
        if not python.exists():  # uv is a wrapper, which has its own ways
            return Launch((uv, "run", *words), readable_for(Path(uv)))
        folder = python.parent
        if words[0].endswith(".py"):
            argv = (str(python), *words)
        else:
            argv = (shutil.which(words[0], path=str(folder)) or words[0], *words[1:])
        path = os.pathsep.join(filter(None, (str(folder), self.environ.get("PATH"))))
        return Launch(argv, readable_for(python), {"PATH": path, "VIRTUAL_ENV": str(folder.parent)})

    def _checked(self, project: Path) -> Launch:
        program, *rest = self._override
        is_path, place = "/" in program, project / program
        found = shutil.which(place if is_path else program, path=self.environ.get("PATH"))
        if found is None:
            where = "in the repository" if is_path else "on the PATH"
            what = "executable" if is_path and os.access(place, os.F_OK) else where
            raise UserError(f"TRAIN_COMMAND: {program} is not {what}. Correct it in .env.")
        files = [word for word in rest if word.endswith(".py")]
        if missing := [file for file in files if not os.path.isfile(project / file)]:  # noqa: PTH113 - never raises
            raise UserError(f"TRAIN_COMMAND: there is no {missing[0]} in the repository. Correct it in .env.")
        readable = readable_for(Path(found))
        return Launch(self._override, tuple(path for path in readable if not path.is_relative_to(project)))

    # The environment of a lock file

    def _locked(self, uv: str, project: Path, checkout: Path | None) -> Path | None:
        if checkout is not None and (own := checkout / ".venv" / "bin" / "python").exists():
            check = (uv, *_SYNC, "--check", "--inexact")
            if _same(checkout / _LOCK, project / _LOCK):
                fits = answer_of(*check, environ=self.environ, cwd=checkout, seconds=_ANSWER_SECONDS)
                if fits is not None:
                    return own
        target, ready = self._places(project)
        return target / "bin" / "python" if ready.exists() else None

    def _places(self, project: Path) -> tuple[Path, Path]:
        """Return the environment of a lock file, and what lies beside it once it is complete."""
        target = self._folder / _fingerprint(project)
        return target, target.with_name(f"{target.name}.ready")

    def _make(self, project: Path, report: Callable[[str], None]) -> None:
        target, ready = self._places(project)
        self._folder.mkdir(parents=True, exist_ok=True)
        report("uv installs the packages of uv.lock for the first training")
        environment = {**self.environ, "UV_PROJECT_ENVIRONMENT": str(target), "UV_NO_PROGRESS": "1"}
        environment.pop("VIRTUAL_ENV", None)
        said = ""
        with subprocess.Popen(
            (find_uv() or "uv", *_SYNC, "--no-editable"),
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C at the bot's terminal is not for uv
        ) as process:
            assert process.stderr is not None
            self._uv = process
            if self._closed:
                process.terminate()
            for line in process.stderr:
                said = (said + line)[-_OUTPUT:]
                if line.strip():
                    report(f"uv: {line.strip()[:_PRINTED]}")
        self._uv = None
        if process.returncode == 0:
            ready.touch()
            return
        cause = error_line(without_secrets(said))
        if any(sign in said for sign in _NO_NETWORK):
            raise UserError(
                f"No network for the packages of uv.lock, and uv's cache lacks some ({cause}). "
                "Connect the machine, or run `uv sync` in the repository once where there is a network."
            )
        fix = "Run `uv sync` in the repository to see all of it."
        raise UserError(f"uv cannot make the environment of uv.lock: {cause}. {fix}")


def _same(path: Path, other: Path) -> bool:
    return path.is_file() and other.is_file() and path.read_bytes() == other.read_bytes()


def _fingerprint(project: Path) -> str:
    """Name an environment by what decides its packages."""
    digest = hashlib.sha256()
    for name in (_LOCK, "pyproject.toml", ".python-version"):
        path = project / name
        digest.update(path.read_bytes() if path.is_file() else b"")
        digest.update(b"\0")
    return digest.hexdigest()[:16]


_PLACES = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]))"


def readable_for(program: Path) -> tuple[Path, ...]:
    """Return what a program needs to read to start: itself, and of a Python its libraries.

    Of a script it is the Python that its first line names. The home directory and what holds it are never
    among them: a Python of `~/.local` gets `~/.local/bin` and `~/.local/lib`.
    """
    python = interpreter_of(program)
    if python is None:
        return (program, program.resolve())
    ours = Path(__file__).parents[2]  # of an editable installation, which no training needs
    places = _own_places() if python == Path(sys.executable) else _places(python)
    found = [program, python, *_links(python)]
    for place in places:
        if place == ours:
            continue
        too_much = Path.home().is_relative_to(place) or place in (Path.home() / ".local", Path("/usr"))
        found += [place / "bin", place / "lib"] if too_much else [place]
    return tuple(dict.fromkeys(path for path in found if path.exists()))


@cache
def _own_places() -> tuple[Path, ...]:
    """Return the same of our Python, which is asked in a process of its own.

    Our `sys.path` begins with the folder that the bot was started in, where `.env` is, or that of a script.
    """
    prefixes = map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix))
    return (*prefixes, *_places(Path(sys.executable)))


def _places(python: Path) -> tuple[Path, ...]:
    answer = answer_of(str(python), "-c", _PLACES, environ={"PYTHONSAFEPATH": "1"}, seconds=_ANSWER_SECONDS)
    return tuple(Path(place) for place in json.loads(answer or "[]") if place)


def interpreter_of(program: Path) -> Path | None:
    if re.fullmatch(r"python[\d.]*", program.name):
        return program
    try:
        with program.open("rb") as file:
            first = file.readline(512)
    except OSError:
        return None
    words = first.removeprefix(b"#!").split() if first.startswith(b"#!") else []
    path = Path(os.fsdecode(words[0])) if words else None
    return path if path and re.fullmatch(r"python[\d.]*", path.name) and path.exists() else None


def _links(path: Path) -> Iterator[Path]:
    """Yield every path on the way from a link to the file that it leads to."""
    for _ in range(40):  # as the kernel does
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()
        yield path


_IMPORT = """\
import importlib, json, sys
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        failed.append(name if absent else f"{name} ({type(error).__name__}: {error})")
print()
print(json.dumps(failed))
"""


def find_missing_imports(
    python: Path, modules: Collection[str], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Import modules with the Python that trains; return those that fail, with errors of those there are."""
    if not modules and python == Path(sys.executable):
        return ()
    answer = answer_of(str(python), "-c", _IMPORT, *modules, environ=environ, seconds=_ANSWER_SECONDS)
    if answer is None:
        return (f"{python} does not answer",)
    return tuple(json.loads(answer.splitlines()[-1]))
