"""Scores a trained model apart from the program that trained it. Part of the fixed half.

    python evaluate.py describe                                       what no training may see, as JSON
    python evaluate.py model --exchange FD                            answer for `model.pt` of this folder
    python evaluate.py score --exchange FD --second FD,IN,OUT         ask two such, and score the answers
                             --out FILE --seed N
                             [--head FILE] [--limit SECONDS]          compared with FILE of another model

Two of `model` and one `score` run at the same time. The stdin and stdout of `score` are the ends of those of
one model, IN and OUT of the other's, and each has its own FD, a file, in memory best, that it shares with
`score`. `model` imports `train.py`, which may be anything, so each belongs in a sandbox of its own, in which
it can leave nothing to the other. It gets tokens and gives logits. `score` has the targets and the
arithmetic, never imports `train.py`, and believes nothing that it reads: each message is short and in time,
and an answer is copied once, then used. See README.md for what `train.py` has to offer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import prepare  # type: ignore[import-not-found]  # before torch is imported
import sources  # type: ignore[import-not-found]
from exchange import SLOTS, Channel, RefusedError, Shape, answer, own_pipes  # type: ignore[import-not-found]
from questions import ON_CPU, ON_GPU, Questions, Text, read_text  # type: ignore[import-not-found]
from readers import CpuReader, Reader, gpu_reader, has_gpu  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]


LIMIT = 300.0  # seconds for all of it, the imports too

# An honest model gives a position the same answer whatever comes later, stands in other rows or was asked
# before: to the digit by the same kernels, on a CPU also by another number of threads. By other kernels in
# bfloat16 a loss differs by 0.009 nats in the mean, the mean loss by 0.00005 (LOG.md, 2026-12-01).
SAME_ANSWER = 0.02  # nats between the two answers (Kullback-Leibler) at one position
SAME_LOSS = 0.00001  # nats between two losses in the mean, on a CPU
SAME_LOSS_ON_GPU = 0.02  # the same where other kernels may have been chosen
SAME_TOKEN = 1.0  # nats that one token may be told worse in the second process; by other kernels at most 0.2
SAME_MEAN = 0.0003  # nats that the mean loss may be lower in the process that was asked more
CHANCE = 4.0  # standard errors that this mean may be off; more than any chance makes it
BETS = 0.01, 0.03, 0.1, 0.3  # shares of what one has that are bet on a token of other text to be foreseen
WON = 1e6  # times what one had before all bets; of a million honest models one


# ---------------------------------------------------------------------------------------------------------
# The scorer's process


@dataclass(frozen=True, slots=True)
class Asked:
    """A process that answers for the model: how to talk to it, and the file that we share with it."""

    channel: Channel
    exchange: int


class Scorer:
    """Asks the model's processes, and turns their answers into losses."""

    def __init__(self, text: Text, questions: Questions, shape: Shape, read: Reader) -> None:
        import numpy as np

        self.text, self.questions, self.shape, self.read = text, questions, shape, read
        shape_of_all = (len(text.inputs) + questions.count, text.inputs.shape[1])
        self.losses = np.zeros(shape_of_all, dtype=np.float32)  # nats
        self.kept: dict[int, Floats] = {}  # of a row that one process has answered, and the other will
        self.apart: dict[int, float] = {}  # nats between the two answers, at the position where it is most

    def ask_all(self, model: Asked, order: Ints) -> None:
        """Ask one process the rows with these numbers, a batch after the other."""
        expect(model.channel, {"ready": True})
        os.ftruncate(model.exchange, SLOTS * self.shape.slot_bytes)
        model.channel.send(asdict(self.shape))
        rows = self.shape.rows
        batches = [order[start : start + rows] for start in range(0, len(order), rows)]
        for number, batch in enumerate(batches[:SLOTS]):
            self.ask(model, number, batch)
        for number, batch in enumerate(batches):
            expect(model.channel, {"slot": number % SLOTS})
            self.score(model.exchange, number % SLOTS, batch)
            if number + SLOTS < len(batches):
                self.ask(model, number % SLOTS, batches[number + SLOTS])
        model.channel.send({"slot": None})

    def ask(self, model: Asked, slot: int, batch: Ints) -> None:
        import numpy as np

        tokens = self.questions.inputs[np.resize(batch, self.shape.rows)]  # every batch has the same shape
        os.pwrite(model.exchange, tokens.tobytes(), slot * self.shape.slot_bytes)
        model.channel.send({"slot": slot})

    def score(self, exchange: int, slot: int, batch: Ints) -> None:
        import numpy as np

        questions, shape = self.questions, self.shape
        probes = [
            (questions.probe_of[row], place) for place, row in enumerate(batch) if row in questions.probe_of
        ]
        checked = [questions.checked[probe] + place * shape.length for probe, place in probes]
        wanted = np.concatenate([np.empty(0, np.int64), *checked])
        targets = questions.targets[batch].ravel()
        losses, found = self.read(exchange, shape.logits_at(slot), targets, wanted)
        losses[self.text.token_bytes[targets] == 0] = 0
        self.losses[batch] = losses.reshape(len(batch), -1)
        ends = np.cumsum([len(positions) for positions in checked])
        for (probe, _), now in zip(probes, np.split(found, ends), strict=False):  # the last part is empty
            if (before := self.kept.pop(probe, None)) is None:
                self.kept[probe] = now
            else:
                either = np.maximum(divergence(before, now), divergence(now, before))
                self.apart[probe] = float(either.max())


def divergence(one: Floats, other: Floats) -> Floats:
    """Kullback-Leibler, in nats, of log-probabilities; no number where there is one that is none."""
    import numpy as np

    likely = np.exp(one)
    with np.errstate(invalid="ignore"):  # 0 times infinity
        terms = np.where(likely == 0, 0, likely * (one - np.maximum(other, -100)))
    found: Floats = terms.sum(-1)
    return found


def expect(channel: Channel, wanted: dict[str, Any]) -> None:
    message = channel.receive()
    if "refused" in message:
        words = "".join(letter for letter in str(message["refused"])[:300] if letter.isprintable())
        raise RefusedError(words or "The model's process gave up.")
    if message != wanted:
        raise RefusedError("The model's process answered something that was not asked.")


def score(
    corpus: prepare.Corpus, models: tuple[Asked, Asked], *, seed: int, out: Path, head: Path | None = None
) -> dict[str, Any]:
    """What was found of a model; its losses are in the file `out` if it could be scored."""
    import numpy as np

    found: dict[str, Any] = dict.fromkeys(["val_bpb", "val_bpb_se", "audit_bpb", "audit_bpb_se"])
    found |= dict.fromkeys(["gain_val", "gain_val_se", "gain_audit", "gain_audit_se"])
    found |= {"prefix": "", "refused": "", "apart": None}
    try:
        scorer, other = ask(corpus, models, seed, head)
    except RefusedError as error:
        return found | {"refused": str(error)}
    text = scorer.text
    losses = scorer.losses[: len(text.inputs)]
    if wrong := int((~np.isfinite(losses)).sum()):
        sentence = f"The loss is no finite number at {wrong:,} of {losses.size:,} positions."
        return found | {"refused": sentence}
    write_losses(out, text, losses)
    most = max(scorer.apart.values())
    found |= {"prefix": leaks(scorer), "apart": most if math.isfinite(most) else None}
    return found | numbers(text, losses, other)


def ask(
    corpus: prepare.Corpus, models: tuple[Asked, Asked], seed: int, head: Path | None
) -> tuple[Scorer, Floats | None]:
    """Ask the first process every row, then the second some again; returns the head's losses too."""
    gpu = has_gpu()
    effort = ON_GPU if gpu else ON_CPU
    text = read_text(corpus, effort)
    questions = Questions(text, seed, effort.probed)
    several = questions.count // 8  # batches, so that a row meets others each time
    rows = max(2, min(several, effort.batch // prepare.MAX_SEQ_LEN))
    shape = Shape(rows, prepare.MAX_SEQ_LEN, corpus.vocabulary, half=gpu)
    scorer = Scorer(text, questions, shape, gpu_reader(shape, text.token_bytes) if gpu else CpuReader(shape))
    other = read_losses(head, text)
    try:
        scorer.ask_all(models[0], questions.first)
        before = expected(text) if other is None else other
        questions.look_closer(before - scorer.losses[: len(text.inputs)])
        scorer.ask_all(models[1], questions.second)
    except OSError as error:
        raise RefusedError(f"The file that both processes share cannot be used: {error.strerror}.") from error
    return scorer, other


def expected(text: Text) -> Floats:
    """The losses of who knows only how often each token stands in the text, in nats."""
    import numpy as np

    often = np.bincount(text.targets.ravel(), minlength=len(text.token_bytes))
    losses: Floats = np.log(text.targets.size / np.maximum(often, 1))[text.targets]
    return np.where(text.sizes > 0, losses, 0)


def numbers(text: Text, losses: Floats, head: Floats | None) -> dict[str, float]:
    """Bits per byte of each part, and what was gained on the head, with their standard errors."""
    found = {"val_share": text.share}
    for name, part in text.parts.items():
        if not len(losses[part]):
            continue
        found[f"{name}_bpb"], found[f"{name}_bpb_se"] = bits(losses[part], text.sizes[part])
        if head is not None:
            gain = head[part].astype(float) - losses[part]
            found[f"gain_{name}"], found[f"gain_{name}_se"] = bits(gain, text.sizes[part])
    return found


def bits(nats: npt.NDArray[Any], sizes: Ints) -> tuple[float, float]:
    """Bits per byte, and the standard error of this ratio over the rows.

    Positions of a row depend on each other, so that a row counts as one observation. Rows are a sample of the
    text: the error is that of the same model, or the same two, on other text of this kind.
    """
    import numpy as np

    by_row, bytes_of = nats.sum(1, dtype=np.float64), sizes.sum(1)
    ratio = by_row.sum() / bytes_of.sum()
    off = by_row - ratio * bytes_of
    error = math.sqrt(len(off) / max(1, len(off) - 1) * (off @ off)) / bytes_of.sum()
    return float(ratio) / math.log(2), float(error) / math.log(2)


def leaks(scorer: Scorer) -> str:
    """What shows that an answer depends on more than the tokens up to its position; empty: nothing does.

    A model can remember its answers and learn from what it is asked, but not what another process was asked.
    So where two processes know the same of a row up to a position, their losses there are the same.
    """
    import numpy as np

    text, questions, apart = scorer.text, scorer.questions, scorer.apart
    if different := [value for value in apart.values() if not value <= SAME_ANSWER]:
        return (
            f"Answers depend on later tokens or on other rows: in {len(different)} of {len(apart)} rows that "
            f"were asked twice they differ, by up to {max(different):.2f} nats."
        )
    rows = len(text.inputs)
    counts = ~questions.after & (text.sizes[questions.probed] > 0)
    more = scorer.losses[rows:].astype(float) - scorer.losses[questions.probed]
    hidden = counts & (np.arange(counts.shape[1]) == questions.cuts[:, None] - 1)
    if worse := [value for value in more[hidden] if not value <= SAME_TOKEN]:
        return (
            f"Answers depend on later tokens or on other rows: {len(worse)} of {len(more)} tokens are told "
            f"worse, by up to {max(worse):.1f} nats, where these are hidden."
        )
    drawn = len(apart)  # those behind them are not, so that chance is for them
    if mean := surely_more(more[:drawn], hidden[:drawn]):
        return f"Answers depend on later tokens: the loss is {mean:.2g} nats higher where the next is hidden."
    if mean := surely_more(more, counts & ~hidden):
        return f"Answers depend on rows asked before: without them the loss is {mean:.2g} nats higher."
    unlike = np.abs(more[counts]).mean() if counts.any() else 0.0
    on_gpu = scorer.shape.half or sys.platform == "darwin"  # Apple's, perhaps: only the other side knows
    if not unlike <= (SAME_LOSS_ON_GPU if on_gpu else SAME_LOSS):
        return f"Answers depend on rows asked before: without them losses differ by {unlike:.2g} nats."
    if foreseen := foresees(text, questions, scorer.losses):
        return (
            "Answers depend on later tokens: those that follow by chance only are given "
            f"{foreseen:.0f} times the probability of their share in the text."
        )
    return ""


def surely_more(more: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> float:
    """The mean of `more` at some positions if that is above what rounding and chance make of it, else 0."""
    import numpy as np

    sums, counts = np.where(where, more, 0).sum(1), where.sum(1)  # positions of a row depend on each other
    mean = float(sums.sum() / max(1, counts.sum()))
    off = sums - mean * counts
    error = math.sqrt(off @ off) / max(1, counts.sum())
    return mean if mean > SAME_MEAN and mean > CHANCE * error else 0.0


def foresees(text: Text, questions: Questions, losses: Floats) -> float:
    """How many times too likely tokens are that nothing before them tells of; 0 where that may be chance.

    A token drawn by its share in the text, and independent of all that an answer may depend on, is given that
    share by any model in the mean. So bets that it is given more win nothing in the mean, and seldom much
    (Ville's inequality). A model that looks ahead, however seldom, and remembers its answers, wins.
    """
    import numpy as np

    frequent = np.bincount(text.inputs.ravel(), minlength=len(text.token_bytes))
    share = frequent * (text.token_bytes > 0)
    rows, places = questions.chance
    drawn = questions.targets[len(text.inputs) + rows, places]
    counts = text.token_bytes[drawn] > 0
    given = np.exp(-losses[len(text.inputs) + rows, places][counts].astype(float))
    ratio = given / (share[drawn[counts]] / share.sum())
    won = [float(np.log1p(bet * (ratio - 1)).sum()) for bet in BETS]
    return float(ratio.mean()) if max(won) > math.log(WON * len(BETS)) else 0.0


def write_losses(path: Path, text: Text, losses: Floats) -> None:
    import numpy as np

    new = path.with_name(f".new-{path.name}")
    with new.open("wb") as file:
        np.savez(file, name=np.array(text.name), val=losses[: text.val], audit=losses[text.val :])
    new.replace(path)


def read_losses(path: Path | None, text: Text) -> Floats | None:
    """The losses of another model on the same text; None without."""
    import numpy as np

    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["name"]) == text.name:
                losses: Floats = np.concatenate([file["val"], file["audit"]])
                return losses
        print("The head was scored on another text, so no gain is known.", file=sys.stderr)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"{path} cannot be read, so no gain is known ({error}).", file=sys.stderr)
    return None


# ---------------------------------------------------------------------------------------------------------
# What no training may see


def describe(corpus: prepare.Corpus) -> dict[str, Any]:
    if not (manifest := corpus.manifest()):
        raise prepare.HarnessError(corpus.missing())
    damaged = corpus.missing(audit=True) or corpus.damaged() or ""
    text = None if damaged else read_text(corpus, ON_GPU if has_gpu() else ON_CPU)
    tokens = manifest["tokens"]["audit"]
    if note := corpus.without_hashes():
        print(note, file=sys.stderr)
    return {
        "hidden": sorted({str(path.absolute()) for path in hidden(corpus)}),
        "audit": f"{tokens / 1e6:.2f} M tokens of {audit_of(corpus)}" if tokens else "",
        "damaged": damaged,
        "models": 2,
        "positions": {name: text.targets[part].size for name, part in text.parts.items()} if text else {},
        "data": hashlib.sha256((corpus.tokens / "manifest.json").read_bytes()).hexdigest(),
    }


def hidden(corpus: prepare.Corpus) -> Iterator[Path]:
    """The audit text wherever it lies on this machine, also as other corpora in the cache have it."""
    yield from (corpus.root / "data").glob("*/audit_*")
    yield from (corpus.root / "data").glob(f"climbmix/*{sources.CLIMBMIX_LAST - 1}.parquet*")
    if corpus.source == "python":
        yield from sources.python_audit_folders()
    elif corpus.source != "climbmix":
        own = Path(corpus.source).expanduser()
        yield from sources.own_audit_files(corpus.source) or ([own.resolve()] if own.exists() else [])


def audit_of(corpus: prepare.Corpus) -> str:
    if corpus.source == "climbmix":
        return f"climbmix, shard {sources.CLIMBMIX_LAST - 1}"
    if corpus.source == "python":
        names = [folder.name for folder in sources.python_audit_folders()]
        return f"Python's standard library: {', '.join(dict.fromkeys(names))}"
    return (
        f"{files[0]}"
        if (files := sources.own_audit_files(corpus.source))
        else f"{corpus.source}, by documents"
    )


# ---------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description="Score a trained model apart from the program that trained it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("describe", help="say what no training may see, and whether the data is whole")
    model = commands.add_parser("model", help="answer for model.pt; started together with score")
    scorer = commands.add_parser("score", help="ask the model, and score its answers")
    for one in (model, scorer):
        one.add_argument("--exchange", type=int, required=True, help="descriptor of the file both share")
    scorer.add_argument(
        "--second", required=True, help="FD,IN,OUT: the file shared with the second model, and its pipes"
    )
    scorer.add_argument(
        "--out", type=Path, required=True, help="file for the losses; FILE.json for the numbers"
    )
    scorer.add_argument("--head", type=Path, help="such a file of another model, to compare with")
    scorer.add_argument("--seed", type=int, required=True, help="of what is asked in which order; a secret")
    scorer.add_argument("--limit", type=float, default=LIMIT, help="seconds for all of it (%(default)s)")
    options = parser.parse_args(arguments)
    if options.command == "model":
        answer(options.exchange)
        os._exit(0)  # to free all memory piece by piece would take time from the other model's process
    corpus = prepare.Corpus()
    if options.command == "describe":
        print(json.dumps(describe(corpus)))
        return
    if missing := corpus.missing(audit=True):
        raise prepare.HarnessError(missing)
    began = time.monotonic()
    end = began + options.limit
    shared, *pipes = map(int, options.second.split(","))
    models = (
        Asked(Channel(*own_pipes(), end), options.exchange),
        Asked(Channel(*pipes, end), shared),
    )
    choices = {"seed": options.seed, "out": options.out, "head": options.head}
    found = score(corpus, models, **choices)
    found["seconds"] = round(time.monotonic() - began, 2)
    new = options.out.with_name(f".new-{options.out.name}.json")
    new.write_text(json.dumps(found, indent=1), encoding="utf-8")
    new.replace(f"{options.out}.json")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except prepare.HarnessError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or prepare.cache_root()}: {error.strerror or error}.")
