"""What the engine knows of a lane, and what it asks of a training that runs there.

`loop.process.trainer.Trainer` does it on this machine, `loop.lanes.cluster.Cluster` on others, where the
folder is made and the model evaluated too. A training is named by its attempt, so that a bot that comes back
finds it by `attach`, and everything that it left is in the outcome that `wait` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loop.experiment import Ending, Outcome

RAY = "autoresearch-bot[ray]"  # what EXECUTOR=ray needs, as pip takes it


@dataclass(frozen=True, slots=True)
class Slot:
    """A lane as it is described; one without a `device` has all of the machine.

    `model` is what all lanes of a run have in common, so that their numbers can be compared. `gpu` is its
    UUID, `variables` are for its trainings, `cores` are those that they may use (empty: all), and `withheld`
    are the device files that they do not see. `node` is the machine, where it is not the bot's.
    """

    index: int
    device: str = ""
    model: str = ""
    gpu: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    withheld: tuple[str, ...] = ()
    node: str = ""


class LiveTraining(Protocol):
    """A training that was started, perhaps by a bot before this one."""

    @property
    def folder(self) -> Path: ...
    def alive(self) -> bool: ...
    async def wait(self) -> Outcome:
        """Watch it to its end."""

    async def end(self, ending: Ending) -> None:
        """Ask for its end, which `wait` returns once it has come."""
