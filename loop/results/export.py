"""A run's experiments as a table for other programs: JSON lines, or Parquet."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from loop.errors import UserError
from loop.experiment import Experiment, Run
from loop.machine import ask_nvidia_smi
from loop.process.environment import launch_command
from loop.program.constants import find_constants, words_of
from loop.results.gains import effect, reason_of
from loop.shell import answer_of, install_line

# An Arrow type; or `time`, in UTC; or `object`, JSON text in Parquet because its members differ by row.
_COLUMNS = {
    name: kind
    for kind, names in (
        ("string", "run metric"),
        ("int64", "number"),
        ("string", "stage status"),
        ("double", "value best_before gain"),  # gain: positive is better, whatever the metric's goal
        ("string", "description rationale expected family proposer reason"),
        ("int64", "idea repairs retry without"),
        ("string", "invalidated"),
        ("string", "parent commit program"),
        ("int64", "lines_added lines_removed attempt"),
        ("time", "proposed_at started_at ended_at decided_at"),
        ("double", "waited training_seconds memory_gb"),
        ("string", "ending"),
        ("int64", "exit_code"),
        ("string", "error"),
        ("int64", "input_tokens cached_tokens output_tokens"),
        ("double", "dollars"),
        ("object", "numbers constants doubts findings"),
    )
    for name in names.split()
}


def json_lines(run: Run, experiments: Iterable[Experiment]) -> str:
    return "".join(
        json.dumps(record, default=datetime.isoformat) + "\n" for record in _records(run, experiments)
    )


def write_parquet(path: Path, run: Run, experiments: Iterable[Experiment]) -> None:
    """Write the same table as a Parquet file.

    Raises:
        UserError: pyarrow is missing, or the file cannot be written.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(f"Parquet needs pyarrow. Run: {install_line('pyarrow')}") from None
    records = [
        {name: json.dumps(value) if _COLUMNS[name] == "object" else value for name, value in record.items()}
        for record in _records(run, experiments)
    ]
    own = {"time": pa.timestamp("us", tz="UTC"), "object": pa.string()}
    schema = pa.schema([(name, own.get(kind) or pa.type_for_alias(kind)) for name, kind in _COLUMNS.items()])
    table = pa.Table.from_pylist(records, schema=schema)
    try:
        pq.write_table(table, path)
    except OSError as error:
        # pyarrow has a long sentence of its own, and only sometimes the error's number too.
        reason = os.strerror(error.errno) if error.errno else str(error).rstrip(".")
        raise UserError(f"{path} cannot be written: {reason}.") from error


def _records(run: Run, experiments: Iterable[Experiment]) -> Iterable[dict[str, object]]:
    for experiment in experiments:
        own = {
            "run": run.tag,
            "metric": run.metric,
            "gain": effect(experiment, run.goal),
            "reason": reason_of(experiment, run.goal),
            "doubts": [*experiment.doubts],
            "findings": [asdict(finding) for finding in experiment.findings],
        }
        if experiment.cost:
            own |= asdict(experiment.cost)
        yield {
            name: _plain(kind, own.get(name, getattr(experiment, name, None)))
            for name, kind in _COLUMNS.items()
        }


def _plain(kind: str, value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if kind == "time" and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC)
    return value


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
    driver; both are empty where it is unknown. `seeds` are the constants of the program that are called
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
        found = json.loads(answer_of(*python, "-c", _ASK_PYTHON, cwd=worktree) or "")
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
    except UserError:
        return {}
    return {constant.name: constant.value for constant in constants if "SEED" in words_of(constant.name)}
