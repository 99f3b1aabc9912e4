"""What a model is asked: every row of a text, and apart from that some with other text. In the fixed half."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import prepare  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a model is asked. On a CPU, positions cost more time than they are worth in certainty."""

    val: int  # validation tokens, at most
    audit: float  # audit rows for each row of those, at most
    probed: int  # rows that both processes are asked, at least
    batch: int  # tokens at once


ON_GPU = Effort(2**20, 1 / 4, 128, 2**14)
ON_CPU = Effort(2**16, 1 / 4, 128, 2**11)  # all rows of the CPU profile, so that its number is found exactly
ROWS = 64  # of the validation text, at least, as the standard errors are over rows
PROBED = 1 / 8  # of the rows are asked in the second process too, with other tokens from some position on
PIECE = 8, 1 / 64  # of other rows that follow there, tokens of each in the mean: least, and share of a row
CHECKED = 16  # positions before the other tokens, and as many anywhere before, where two answers are compared


@dataclass(frozen=True, slots=True)
class Text:
    """What is scored: rows of the validation text, and after the first `val` of them of the audit."""

    inputs: Ints
    targets: Ints
    token_bytes: Ints  # by token
    val: int
    share: float  # of the rows that `prepare.evaluate_bpb` scores
    name: str  # another text, or other rows of it, have another

    @property
    def parts(self) -> dict[str, slice]:
        return {"val": slice(0, self.val), "audit": slice(self.val, None)}

    @property
    def sizes(self) -> Ints:
        """The bytes of each target."""
        return self.token_bytes[self.targets]


def read_text(corpus: prepare.Corpus, effort: Effort) -> Text:
    import numpy as np

    val = prepare.Rows(corpus, "val", prepare.MAX_SEQ_LEN)
    scored = prepare.scored_rows(val)
    chosen = scored[spread(len(scored), max(ROWS, effort.val // prepare.MAX_SEQ_LEN))]
    rows = val.take(chosen)
    if corpus.manifest()["tokens"]["audit"]:
        audit = prepare.Rows(corpus, "audit", prepare.MAX_SEQ_LEN)
        some = spread(len(audit), max(1, int(effort.audit * len(chosen))))
        rows = np.concatenate([rows, audit.take(some)], axis=1)
    inputs, targets = rows
    token_bytes = np.load(corpus.tokenizer / "token_bytes.npy")
    digest = hashlib.sha256(repr((inputs.shape, len(chosen))).encode())
    digest.update(targets.tobytes())
    share = len(chosen) / len(scored)
    return Text(inputs, targets, token_bytes, len(chosen), share, digest.hexdigest())


def spread(rows: int, most: int) -> Ints:
    """Numbers of rows, evenly over all of them."""
    import numpy as np

    count = min(rows, most)
    chosen: Ints = np.arange(count) * rows // count
    return chosen


class Questions:
    """What two processes with the same model are asked, who know nothing of each other.

    The first gets every row of the text, in random order; then the second some of them, with other text from
    a cut on and beside other rows. So whatever the first has seen or learnt of a row or of others, the second
    has not. Half of these rows and cuts are drawn; the others are where the first has told a token best.
    The other text is in pieces, each of another row; where one begins is chance, and no token before tells.
    Numbers from `len(text.inputs)` on are rows of the second kind.
    """

    def __init__(self, text: Text, seed: int, probed: int) -> None:
        import numpy as np

        self.text, self.random = text, np.random.default_rng(seed)
        rows, length = text.inputs.shape
        self.count = min(rows, max(probed, int(PROBED * rows)))
        self.first = self.random.permutation(rows)
        self.probed = self.random.permutation(rows)[: -(-self.count // 2)]
        self.cuts = self.random.integers(1, length, len(self.probed))
        self.checked = [  # positions in the drawn rows
            np.unique(
                np.concatenate([np.arange(max(0, cut - CHECKED), cut), self.random.integers(0, cut, CHECKED)])
            )
            for cut in self.cuts
        ]
        self.probe_of = {int(row): probe for probe, row in enumerate(self.probed)}
        self.probe_of |= {rows + probe: probe for probe in range(len(self.probed))}
        self.inputs, self.targets = text.inputs, text.targets  # of all questions known so far

    def look_closer(self, gains: npt.NDArray[np.floating[Any]]) -> None:
        """Choose the rows and cuts that are not drawn, by what each position gains in the first, in nats."""
        import numpy as np

        text, random = self.text, self.random
        rows, length = text.inputs.shape
        known = np.where(np.isfinite(gains), gains, -np.inf)[:, :-1]  # the last token has no other one after
        known[self.probed] = -np.inf
        closer = np.argsort(-known.max(1))[: self.count - len(self.probed)]
        self.probed = np.concatenate([self.probed, closer])
        self.cuts = np.concatenate([self.cuts, known[closer].argmax(1) + 1])
        self.after = np.arange(length) >= self.cuts[:, None]
        size = max(PIECE[0], int(PIECE[1] * length))
        starts = self.after & (random.random(self.after.shape) < 1 / size)  # at no distance that can be known
        steps = random.integers(1, max(2, rows), self.after.shape)  # never the same row again
        piece = (self.probed[:, None] + (steps * (starts | (np.arange(length) == 0))).cumsum(1)) % rows
        altered = np.where(self.after, text.inputs[piece, np.arange(length)], text.inputs[self.probed])
        following = np.append(altered[:, 1:], text.targets[self.probed, -1:], axis=1)
        new = self.after[:, :-1] & starts[:, 1:]
        self.chance = np.nonzero(new)  # where the next token is the first of another piece
        self.inputs = np.concatenate([text.inputs, altered])
        targets = np.where(self.after, following, text.targets[self.probed])
        self.targets = np.concatenate([text.targets, targets])
        self.second = rows + random.permutation(self.count)
