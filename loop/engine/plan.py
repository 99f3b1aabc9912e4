"""How experiments of a run are made, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loop.engine.ahead.prefetch import RETRY_SECONDS
from loop.engine.ahead.waiting import is_worthwhile
from loop.engine.stages import KeepRule
from loop.lanes.node import Recipe
from loop.process.environment import Launcher
from loop.sandbox.sandbox import Sandbox, SandboxKind

NO_SANDBOX = Sandbox(SandboxKind.NONE)
REST_SECONDS = (60.0, 300.0, 600.0)  # pauses after a streak of crashes or of vanished trainings


@dataclass(frozen=True, slots=True)
class Plan:
    """How experiments of a run are made: the settings that an engine needs.

    `data`, `readable` and `writable` are what trainings may read and write of the machine beyond their own
    folder, `hidden` what they may not see wherever it lies; all of it holds in a sandbox only. `withheld` are
    the variables of the bot that they do not get, `lists` the settings to extend where one lacks something.
    `starts_ahead` says whether a Python is to wait for the next training, and its program to be compiled
    ahead, by the variables of trainings.
    """

    rule: KeepRule
    launcher: Launcher
    deadline: float  # seconds after which a training is killed
    sandbox: Sandbox = NO_SANDBOX
    data: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    withheld: frozenset[str] = frozenset()
    lists: Mapping[str, str] = field(default_factory=dict)
    preparation: str = ""  # the command that makes the data
    network: bool = False
    link_paths: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()  # EVALUATE
    recipe: Recipe | None = None  # the same for other machines
    starts_ahead: Callable[[Mapping[str, str]], bool] = is_worthwhile
    crash_streak: int = 5
    noise_runs: int = 0  # how often the baseline is repeated before anything is tried
    certify_repeats: int = 3  # of head and baseline each, at least
    retry_seconds: tuple[float, ...] = RETRY_SECONDS  # of a proposer that fails
    rest_seconds: tuple[float, ...] = REST_SECONDS
