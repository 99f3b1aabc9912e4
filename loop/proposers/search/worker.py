"""The process in which `suggest` runs: a request on stdin, its answer on stdout, both JSON.

The answer is `{"proposal": {...}}`, or `{"error": "..."}` with a sentence for a person. Any other failure is
a traceback on stderr and a non-zero exit status.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from dataclasses import asdict

from loop.errors import LoopError
from loop.experiment import Family, Proposal
from loop.proposers.protocol import Context
from loop.proposers.search.suggest import suggest
from loop.proposers.search.transport import decode_context, encode_context

_NICENESS = 10  # a training that needs the processor goes first


def encode_request(context: Context, frozen: Collection[str], seed: int) -> bytes:
    """Return what the worker reads."""
    fields = {"context": encode_context(context), "frozen": sorted(frozen), "seed": seed}
    return json.dumps(fields).encode()


def decode_answer(answer: bytes) -> Proposal:
    """Return the proposal that the worker wrote.

    Raises:
        LoopError: the worker wrote that there is none, or wrote nothing that can be read.
    """
    try:
        fields = json.loads(answer)
        if "error" in fields:
            raise LoopError(fields["error"])
        family = fields["proposal"]["family"]
        return Proposal(**{**fields["proposal"], "family": family and Family(family)})
    except (ValueError, TypeError, KeyError) as error:
        raise LoopError(f"The search worker gave no readable answer: {error}.") from error


def _decode_request(request: str) -> tuple[Context, frozenset[str], int]:
    fields = json.loads(request)
    return decode_context(fields["context"]), frozenset(fields["frozen"]), fields["seed"]


def main() -> None:
    """Answer one request."""
    os.nice(_NICENESS)
    context, frozen, seed = _decode_request(sys.stdin.read())
    try:
        answer: dict[str, object] = {"proposal": asdict(suggest(context, frozen, seed))}
    except LoopError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
