"""A source of ideas of a few lines: `constant:NUMBER` sets the learning rate to that number."""

from __future__ import annotations

from bot.setup.sources import ProposerKind
from loop.experiment import Cost, Proposal
from loop.program.constants import replace_constants
from loop.proposers.protocol import Context, Failure, RepairGivenUpError


class ConstantProposer:
    name = "constant"

    def __init__(self, number: float) -> None:
        self._number = number

    async def propose(self, context: Context) -> Proposal:
        source = replace_constants(context.source, {"LEARNING_RATE": self._number})
        said = f"learning rate {self._number:g}"
        return Proposal(source, said, proposer=self.name, parent=context.parent, cost=Cost())

    async def repair(self, context: Context, failure: Failure) -> Proposal:
        raise RepairGivenUpError(f"Experiment #{failure.experiment.number} has no other number to offer.")


def _is_number(detail: str) -> bool:
    return detail.replace(".", "", 1).isdecimal()


CONSTANT = ProposerKind(
    ConstantProposer.name,
    "constant:NUMBER",
    _is_number,
    lambda choice, _: ConstantProposer(float(choice.detail)),
)
