"""What a search in another process needs of a context, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from loop.experiment import Run
from loop.proposers.protocol import Context, Refusal, Urge
from loop.store.schema import columns, decode, encode, experiment_row, read_experiment


def encode_context(context: Context) -> dict[str, Any]:
    """Return source, run, experiments, urge and refusals as JSON values."""
    return {
        "source": context.source,
        "parent": context.parent,
        "run": {name: encode(getattr(context.run, name)) for name in columns(Run)},
        "experiments": [experiment_row(experiment) for experiment in context.experiments],
        "urge": context.urge,
        "refusals": [asdict(refusal) for refusal in context.refusals],
    }


def decode_context(fields: Mapping[str, Any]) -> Context:
    """Return the context that `encode_context` was given, less what it leaves out."""
    return Context(
        run=Run(**decode(fields["run"])),
        source=fields["source"],
        parent=fields["parent"],
        experiments=tuple(read_experiment(row) for row in fields["experiments"]),
        urge=fields["urge"] and Urge(fields["urge"]),
        refusals=tuple(Refusal(**refusal) for refusal in fields["refusals"]),
    )
