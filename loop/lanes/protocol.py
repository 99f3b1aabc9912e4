"""What the engine knows of a lane, and what it asks of a training that runs there.

`loop.process.trainer.Trainer` starts one on this machine, and finds it again by its attempt when a bot comes
back. Everything that it left is in the outcome that `wait` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loop.experiment import Ending, Outcome


@dataclass(frozen=True, slots=True)
class Slot:
    """A lane as it is described; one without a `device` has all of the machine.

    `model` is what all lanes of a run have in common, so that their numbers can be compared. `gpu` is its
    UUID, `variables` are for its trainings, `cores` are those that they may use (empty: all), and `withheld`
    are the device files that they do not see.
    """

    index: int
    device: str = ""
    model: str = ""
    gpu: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    withheld: tuple[str, ...] = ()


class LiveTraining(Protocol):
    """A training that was started, perhaps by a bot before this one."""

    @property
    def folder(self) -> Path: ...
    def alive(self) -> bool: ...
    async def wait(self) -> Outcome:
        """Watch it to its end."""

    async def end(self, ending: Ending) -> None:
        """Ask for its end, which `wait` returns once it has come."""
