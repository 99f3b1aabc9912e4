"""Experiments whose training came out otherwise."""

from __future__ import annotations

from dataclasses import replace

from loop.experiment import Experiment, Training


def trained(experiment: Experiment, **changes: object) -> Experiment:
    """Return the experiment with these changes to its training, the first where it had none."""
    training = experiment.training or Training(1)
    return replace(experiment, training=replace(training, **changes))  # type: ignore[arg-type]
