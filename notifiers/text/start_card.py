"""What a new run would be, shown before it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notifiers.message import Button, Message
from notifiers.text.words import duration


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that could be started.

    `missing` are the data paths that do not exist, `preparation` what to type to make them; `budget` is in
    seconds.
    """

    tag: str
    other_tag: str
    repository: Path
    base_branch: str
    base_commit: str
    subject: str
    dirty: tuple[str, ...]
    missing: tuple[Path, ...]
    preparation: str
    device: str
    budget: float
    proposer: str


def start_card(plan: RunPlan) -> Message:
    """Return the answer to `/start_run`, with the buttons that start it."""
    lines = [
        f"Start run {plan.tag}?",
        f"Repository: {plan.repository}",
        f"Base: {plan.base_branch} at {plan.base_commit[:7]}, {plan.subject}",
        f"Branch: autoresearch/{plan.tag}",
        f"Device: {plan.device}",
        f"Budget: {duration(plan.budget)} a training",
        f"Ideas from: {plan.proposer}",
    ]
    if plan.dirty:
        lines.append(f"Not committed, so not in the run: {', '.join(plan.dirty[:5])}")
    other = Button("Other tag", f"/start_run {plan.other_tag}")
    cancel = Button("Cancel", "/cancel")
    if plan.missing:
        lines.append(f"Missing of DATA_PATHS: {', '.join(map(str, plan.missing))}")
        lines.append(f"First run: {plan.preparation}")
        lines.append("Or set DATA_PATHS to where the data is.")
        return Message("\n".join(lines), buttons=((cancel,),))
    lines.append(f"Data: found. Press Start, or type /start_run {plan.tag} go.")
    return Message("\n".join(lines), buttons=((Button("Start", f"/start_run {plan.tag} go"), other, cancel),))
