"""The embedded training repository, written as a git repository of its own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from bot.setup.settings import Settings
from loop.errors import UserError
from loop.git.commands import Git, GitError
from loop.git.workspace import AUTHOR
from loop.process.environment import prepare_line
from loop.process.worker import in_thread
from loop.program.constants import Literal as Text
from loop.program.constants import replace_constants
from loop.shell import install_line

TRAIN_EXTRA = "autoresearch-bot[train]"  # has the packages of the template
TRAIN_MODULES = ("torch", "numpy", "pyarrow", "tiktoken", "tokenizers")

Profile: TypeAlias = Literal["gpu", "gpu8", "mps", "cpu"]

_NOT_COPIED = frozenset({"__init__.py", "profiles.toml", "LOG.md"})
_IGNORED = "run.log\nresults.tsv\nmodel.pt\n__pycache__/\n"


def init_repository(target: Path, profile: Profile, time_budget: float | None = None) -> str:
    """Write the template with the constants of `profile` to `target`, and return the id of its one commit.

    `time_budget` is in seconds of training, and then they alone count; None: what the profile says. The
    target appears whole or not at all.

    Raises:
        UserError: the target is not empty, or the disk or git refuses.
    """
    target = target.expanduser().resolve()
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} is not an empty folder. Choose a new one.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".template-") as made:
            folder = Path(made, target.name)
            folder.mkdir()
            files = template_files(profile, time_budget)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            commit = _commit_all(folder, profile)
            folder.rename(target)
    except OSError as error:
        raise UserError(f"Cannot create {target} ({error.strerror}: {error.filename}).") from error
    return commit


def template_files(profile: Profile, time_budget: float | None = None) -> dict[str, str]:
    """The files of the template by name, with the constants of `profile` in their place."""
    source = resources.files("training")
    files = {
        file.name: file.read_text(encoding="utf-8")
        for file in source.iterdir()
        if file.is_file() and file.name not in _NOT_COPIED
    }
    changes = tomllib.loads(source.joinpath("profiles.toml").read_text(encoding="utf-8"))[profile]
    if time_budget is not None:
        changes["prepare"] |= {"TIME_BUDGET": f"{time_budget:.15g}", "FLOP_BUDGET": "0"}
    for name, constants in changes.items():
        file = f"{name}.py"
        files[file] = replace_constants(files[file], {key: Text(value) for key, value in constants.items()})
    return files | {".gitignore": _IGNORED}


def _commit_all(folder: Path, profile: Profile) -> str:
    directory = folder / ".git"
    directory.mkdir()
    git = Git(directory)
    git("init", "--quiet", "--template=", "--initial-branch=main", str(folder))
    git("add", "--force", "--all", work_tree=folder)
    try:
        git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
        author: Mapping[str, str] = {}
    except GitError:
        author = AUTHOR
    message = f"--message=Training template, {profile} profile"
    git("commit", "--quiet", message, work_tree=folder, environment=author)
    return git("rev-parse", "HEAD")


def embedded_folder(settings: Settings) -> Path:
    return settings.home / "template"


async def prepare_embedded(settings: Settings) -> None:
    """Make the repository and its data unless they are there; the progress bar goes to stderr.

    Raises:
        UserError: packages are missing, or the data could not be prepared.
    """
    lacking = [] if settings.train_command else [name for name in TRAIN_MODULES if find_spec(name) is None]
    if lacking:
        raise UserError(
            f"Trainings need packages that are not installed ({', '.join(lacking)}). "
            f"Run: {install_line(TRAIN_EXTRA)}"
        )
    repository = embedded_folder(settings)
    if not repository.exists():
        await in_thread(init_repository, repository, "cpu")
    preparing = await asyncio.create_subprocess_exec(
        sys.executable, "prepare.py", cwd=repository, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
    )
    try:
        status = await preparing.wait()
    except asyncio.CancelledError:
        preparing.terminate()
        await preparing.wait()
        raise
    if status != 0:
        raise UserError(f"Preparing the data failed. To see why, run: {prepare_line(repository)}")
