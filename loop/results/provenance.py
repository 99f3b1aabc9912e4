"""What a result came from: the machine, the packages, the seeds and the command that makes it again."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loop.errors import LoopError
from loop.process.environment import launch_command
from loop.process.gpu import ask_nvidia_smi
from loop.program.constants import find_constants

_PATIENCE = 20.0  # seconds for a program to answer
_PACKAGES = ("torch", "numpy", "triton", "flash-attn", "kernels", "tiktoken", "tokenizers", "pyarrow")
# It asks for versions without importing anything: torch alone would take seconds.
_ASK_PYTHON = f"""
import json, platform
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
found = {{name: version(name) for name in {_PACKAGES!r}}}
print(json.dumps({{"python": platform.python_version(), **{{n: v for n, v in found.items() if v}}}}))
"""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and with what a program was trained, as it is now.

    `packages` are the versions that the training's Python has, `accelerators` the GPUs with memory and
    driver; both are empty where nobody could tell. `seeds` are the constants of the program that are called
    so. `command` runs in a checkout of the commit.
    """

    command: str
    commit: str
    system: str
    processor: str
    accelerators: tuple[str, ...]
    packages: Mapping[str, str]
    seeds: Mapping[str, object]
    time_budget: float

    def to_json(self) -> dict[str, object]:
        """Return everything under its own name."""
        return asdict(self)


def find_provenance(
    source: str, *, commit: str, worktree: Path, override: tuple[str, ...], editable: str, time_budget: float
) -> Provenance:
    """Look at this machine and at the program `source` of `commit`; takes up to a second.

    `override` is TRAIN_COMMAND, `worktree` a checkout of the repository.
    """
    command = launch_command(worktree, override, editable)
    shown = ("python", *command[1:]) if not override and command[0] != "uv" else command
    return Provenance(
        command=" ".join(shown),
        commit=commit,
        system=platform.platform(terse=True),
        processor=_processor(),
        accelerators=_accelerators(),
        packages=_packages(command, worktree) if not override else {},
        seeds=_seeds(source),
        time_budget=time_budget,
    )


def _packages(command: Sequence[str], worktree: Path) -> Mapping[str, str]:
    python = ("uv", "run", "--no-sync", "python") if command[0] == "uv" else command[:1]
    try:
        found = json.loads(_ask((*python, "-c", _ASK_PYTHON), worktree))
    except ValueError:
        return {}
    return {str(name): str(version) for name, version in found.items()}


def _accelerators() -> tuple[str, ...]:
    answer = ask_nvidia_smi("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return tuple(answer.stdout.splitlines()) if answer is not None and answer.returncode == 0 else ()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def _seeds(source: str) -> Mapping[str, object]:
    try:
        constants = find_constants(source)
    except LoopError:
        return {}
    return {constant.name: constant.value for constant in constants if "SEED" in constant.name.split("_")}


def _ask(command: Sequence[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
