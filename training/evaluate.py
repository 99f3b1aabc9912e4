"""Scores a trained model apart from the program that trained it. Part of the fixed half.

    python evaluate.py describe                                       what no training may see, as JSON
    python evaluate.py model --exchange FD                            answer for `model.pt` of this folder
    python evaluate.py score --exchange FD --out FILE --seed N        ask, and score the answers
                             [--head FILE] [--limit SECONDS]          compared with FILE of another model

`model` and `score` run at the same time: the stdin and stdout of each are the ends of the other's, and FD is
one file, in memory best, that both have inherited. `model` imports `train.py`, which may be anything, so it
belongs in a sandbox; it gets tokens and gives logits. `score` has the targets and the arithmetic, never
imports `train.py`, and believes nothing that it reads: each message is short and in time, and an answer is
copied once, then used. See README.md for what `train.py` has to offer.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import mmap
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prepare  # type: ignore[import-not-found]
import sources  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

VAL_POSITIONS = 2**20  # validation tokens that are scored, at most
AUDIT_SHARE = 1 / 4  # audit tokens for each of them, at most
PROBED_SHARE = 1 / 8  # rows asked for a second time, with other tokens from some position on
CHECKED = 16  # positions before that one, and as many anywhere before it, where the two answers are compared
BATCH_TOKENS = {"cuda": 2**14, "cpu": 2**12}  # tokens asked for at once, by where the model probably is
SCORER_MEMORY = 4 * 2**30  # bytes of a GPU that have to be free to score there
SLOTS = 2  # batches under way: one is computed while the other is scored
LIMIT = 300.0  # seconds for all of it, the imports too
MESSAGE = 4096  # bytes of a message, at most
MODEL_BYTES = 32 * 2**30  # bytes of `model.pt`, at most

# An honest model gives a position the same answer whatever comes later or stands in other rows, but for the
# rounding of its kernels: below 0.001 nats in bfloat16.
SAME_ANSWER = 0.05  # nats between the two answers (Kullback-Leibler) at one position
CHANCE = 6.0  # standard errors that a mean may be off


class RefusedError(Exception):
    """The model cannot be scored; the message says why."""


# ---------------------------------------------------------------------------------------------------------
# Messages


class Channel:
    """Messages over two pipes, each four bytes of length and a JSON object, until `deadline` (monotonic)."""

    def __init__(self, reading: int, writing: int, deadline: float = math.inf) -> None:
        self.reading, self.writing, self.deadline = reading, writing, deadline
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        left = memoryview(len(text).to_bytes(4, "big") + text)
        while left:
            self.wait_for(self.writing, select.POLLOUT)
            try:
                left = left[os.write(self.writing, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise RefusedError("The model's process ended before it was asked everything.") from error

    def receive(self) -> dict[str, Any]:
        length = int.from_bytes(self.read(4), "big")
        if length > MESSAGE:
            raise RefusedError("The model's process wrote something that is no message.")
        try:
            message = json.loads(self.read(length))
        except (ValueError, RecursionError) as error:
            raise RefusedError("The model's process wrote something that is no message.") from error
        if not isinstance(message, dict):
            raise RefusedError("The model's process wrote something that is no message.")
        return message

    def read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            self.wait_for(self.reading, select.POLLIN)
            try:
                part = os.read(self.reading, count - len(found))
            except BlockingIOError:
                continue
            if not part:
                raise RefusedError("The model's process ended before it had answered.")
            found += part
        return found

    def wait_for(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(None if left == math.inf else max(1, int(1000 * left))):
            raise RefusedError("The model's process did not answer in time.")


def own_pipes() -> tuple[int, int]:
    """Take stdin and stdout for messages; what is printed from now on goes to stderr."""
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return pipes


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch: `SLOTS` of them lie in the shared file, each its tokens and then its logits."""

    rows: int
    length: int
    vocabulary: int
    half: bool  # logits in float16, less the largest of each position; else in float32

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def logits_bytes(self) -> int:
        return self.tokens * self.vocabulary * (2 if self.half else 4)

    @property
    def slot_bytes(self) -> int:
        return 8 * self.tokens + self.logits_bytes


# ---------------------------------------------------------------------------------------------------------
# The model's process


def answer(exchange: int) -> None:
    """Build the model, then map tokens to logits until the other side has enough."""
    channel = Channel(*own_pipes())
    try:
        model, device = load_model()
    except (Exception, SystemExit) as error:
        message = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
        channel.send({"refused": message[:500]})
        if isinstance(error, RefusedError):
            return
        raise
    channel.send({"ready": str(device)})
    shape = Shape(**channel.receive())
    with mmap.mmap(exchange, SLOTS * shape.slot_bytes) as memory:
        while (slot := channel.receive().get("slot")) is not None:
            wrong = compute(model, device, memory, shape, slot)
            channel.send({"refused": wrong} if wrong else {"slot": slot})
        del model
        os._exit(0)  # tensors of the shared memory may still be about


def load_model() -> tuple[Callable[[torch.Tensor], Any], torch.device]:
    import torch

    path = Path("model.pt")
    try:
        found = path.lstat()
    except OSError as error:
        raise RefusedError("The training has left no model.pt.") from error
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError("model.pt is no ordinary file.")
    if found.st_size > MODEL_BYTES:
        raise RefusedError(
            f"model.pt has {found.st_size / 2**30:.0f} GiB, more than {MODEL_BYTES / 2**30:.0f}."
        )
    train = importlib.import_module("train")
    if not callable(builder := getattr(train, "build_model", None)):
        raise RefusedError("train.py has no function build_model(weights, device).")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if torch.backends.mps.is_available():
        device = torch.device("mps")
    try:
        weights = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise RefusedError("model.pt holds something other than weights, or is not whole.") from error
    return builder(weights, device), device


def compute(
    model: Callable[[torch.Tensor], Any], device: torch.device, memory: mmap.mmap, shape: Shape, slot: int
) -> str:
    """Answer one batch; returns what is wrong with the answer."""
    import torch

    start = slot * shape.slot_bytes
    tokens = torch.frombuffer(memory, dtype=torch.int64, count=shape.tokens, offset=start)
    with torch.no_grad():
        logits = model(tokens.view(shape.rows, shape.length).to(device, copy=True))
        wanted = (shape.rows, shape.length, shape.vocabulary)
        if not isinstance(logits, torch.Tensor) or logits.shape != wanted or not logits.is_floating_point():
            return f"The model's logits must be floats of the shape {wanted}, and are not."
        kind = torch.float16 if shape.half else torch.float32
        count = shape.tokens * shape.vocabulary
        place = torch.frombuffer(memory, dtype=kind, count=count, offset=start + 8 * shape.tokens)
        if shape.half:  # the likely tokens are near 0, where float16 is exact enough
            logits = logits.float()
            logits = (logits - logits.amax(-1, keepdim=True)).half()
        place.view(wanted).copy_(logits)
    return ""


# ---------------------------------------------------------------------------------------------------------
# The scorer's process


@dataclass(frozen=True, slots=True)
class Text:
    """What is scored: rows of the validation text, and after the first `val` of them of the audit."""

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    token_bytes: npt.NDArray[np.int64]  # by token
    val: int
    name: str  # another text, or other rows of it, have another

    @property
    def parts(self) -> dict[str, slice]:
        return {"val": slice(0, self.val), "audit": slice(self.val, None)}

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """The bytes of each target."""
        return self.token_bytes[self.targets]


def read_text(corpus: prepare.Corpus) -> Text:
    import numpy as np

    val = prepare.Rows(corpus, "val", prepare.MAX_SEQ_LEN)
    chosen = prepare.scored_rows(val)
    chosen = chosen[spread(len(chosen), VAL_POSITIONS)]
    rows = val.take(chosen)
    if corpus.manifest()["tokens"]["audit"]:
        audit = prepare.Rows(corpus, "audit", prepare.MAX_SEQ_LEN)
        most = int(AUDIT_SHARE * len(chosen) * prepare.MAX_SEQ_LEN)
        rows = np.concatenate([rows, audit.take(spread(len(audit), most))], axis=1)
    inputs, targets = rows
    token_bytes = np.load(corpus.tokenizer / "token_bytes.npy")
    digest = hashlib.sha256(repr((inputs.shape, len(chosen))).encode())
    digest.update(targets.tobytes())
    return Text(inputs, targets, token_bytes, len(chosen), digest.hexdigest())


def spread(rows: int, positions: int) -> npt.NDArray[np.int64]:
    """Numbers of rows, evenly over all of them, that have that many positions at most."""
    import numpy as np

    count = min(rows, max(1, positions // prepare.MAX_SEQ_LEN))
    return np.arange(count) * rows // count


class Questions:
    """What is asked: every row once, and some again with other text from a cut on, in random order.

    Other rows stand beside a row the second time, and a model that sees it for the first time cannot know
    which of the two it is. Numbers from `len(text.inputs)` on are those of the second kind.
    """

    def __init__(self, text: Text, seed: int) -> None:
        import numpy as np

        random = np.random.default_rng(seed)
        rows, length = text.inputs.shape
        count = min(rows, max(8, int(PROBED_SHARE * rows)))
        self.probed = random.permutation(rows)[:count]
        self.cuts = random.integers(1, length, count)
        others = (self.probed + random.integers(1, max(2, rows), count)) % rows
        later = np.arange(length) >= self.cuts[:, None]
        altered = np.where(later, text.inputs[others], text.inputs[self.probed])
        self.inputs = np.concatenate([text.inputs, altered])
        self.targets = np.concatenate([text.targets, text.targets[self.probed]])
        self.order = random.permutation(rows + count)
        self.when = np.argsort(self.order)  # the place of each in that order
        self.probe_of = {int(row): probe for probe, row in enumerate(self.probed)}
        self.probe_of |= {rows + probe: probe for probe in range(count)}
        self.checked = [
            np.unique(
                np.concatenate([np.arange(max(0, cut - CHECKED), cut), random.integers(0, cut, CHECKED)])
            )
            for cut in self.cuts
        ]

    def batches(self, rows: int) -> list[npt.NDArray[np.int64]]:
        """Numbers of questions, `rows` a time; the last batch may have fewer."""
        return [self.order[start : start + rows] for start in range(0, len(self.order), rows)]


class Scorer:
    """Asks the model's process, and turns its answers into losses."""

    def __init__(self, text: Text, questions: Questions, shape: Shape, device: torch.device) -> None:
        import torch

        self.questions, self.shape, self.device = questions, shape, device
        self.token_bytes = torch.from_numpy(text.token_bytes).to(device)
        self.losses = torch.zeros(questions.inputs.shape, device=device)  # nats
        self.kept: dict[int, torch.Tensor] = {}  # of a row that was asked once and will be a second time
        self.apart: dict[int, float] = {}  # nats between the two answers, at the position where it is most
        kind = torch.float16 if shape.half else torch.float32
        count = shape.tokens * shape.vocabulary
        self.logits = torch.empty(count, dtype=kind, pin_memory=device.type == "cuda")

    def ask_all(self, channel: Channel, exchange: int) -> None:
        batches = self.questions.batches(self.shape.rows)
        with ThreadPoolExecutor(4) as pool:
            for number, batch in enumerate(batches[:SLOTS]):
                self.ask(channel, exchange, number, batch)
            for number, batch in enumerate(batches):
                expect(channel, {"slot": number % SLOTS})
                self.copy(exchange, number % SLOTS, pool)
                if number + SLOTS < len(batches):
                    self.ask(channel, exchange, number % SLOTS, batches[number + SLOTS])
                self.score(batch)

    def ask(self, channel: Channel, exchange: int, slot: int, batch: npt.NDArray[np.int64]) -> None:
        import numpy as np

        tokens = self.questions.inputs[np.resize(batch, self.shape.rows)]  # every batch has the same shape
        os.pwrite(exchange, tokens.tobytes(), slot * self.shape.slot_bytes)
        channel.send({"slot": slot})

    def copy(self, exchange: int, slot: int, pool: ThreadPoolExecutor) -> None:
        """Read an answer once: the other side may write to it at any time, or cut the file short."""
        target = memoryview(self.logits.numpy()).cast("B")
        start = slot * self.shape.slot_bytes + 8 * self.shape.tokens
        size = -(-len(target) // 4)

        def read(part: int) -> None:
            at, end = part * size, min(len(target), (part + 1) * size)
            while at < end:
                count = os.preadv(exchange, [target[at:end]], start + at)
                if count == 0:
                    raise RefusedError("The model's process has cut the shared file short.")
                at += count

        list(pool.map(read, range(4)))

    def score(self, batch: npt.NDArray[np.int64]) -> None:
        import torch

        questions, shape = self.questions, self.shape
        logits = self.logits.view(shape.rows, shape.length, -1)[: len(batch)].to(self.device)
        targets = torch.from_numpy(questions.targets[batch]).to(self.device)
        losses, _ = prepare.losses_of(logits, targets, self.token_bytes)
        self.losses[torch.from_numpy(batch).to(self.device)] = losses.view(len(batch), -1)
        for place, question in enumerate(batch):
            probe = questions.probe_of.get(int(question))
            if probe is None:
                continue
            positions = torch.from_numpy(questions.checked[probe]).to(self.device)
            found = logits[place, positions].float().log_softmax(-1)
            if (before := self.kept.pop(probe, None)) is None:
                self.kept[probe] = found
            else:
                either = torch.maximum(divergence(before, found), divergence(found, before))
                self.apart[probe] = float(either.max())


def divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler, in nats, of log-probabilities; no number where there is one that is none."""
    likely = one.exp()
    return (likely * (one - other.clamp_min(-100))).where(likely > 0, 0.0).sum(-1)


def expect(channel: Channel, wanted: dict[str, Any]) -> None:
    message = channel.receive()
    if "refused" in message:
        words = "".join(letter for letter in str(message["refused"])[:300] if letter.isprintable())
        raise RefusedError(words or "The model's process gave up.")
    if message.keys() != wanted.keys() or (wanted != message and "ready" not in wanted):
        raise RefusedError("The model's process answered something that was not asked.")


def score(corpus: prepare.Corpus, options: argparse.Namespace) -> dict[str, Any]:
    """What was found of a model, for FILE.json; its losses are in FILE when it could be scored."""
    began = time.monotonic()
    channel = Channel(*own_pipes(), began + options.limit)
    found: dict[str, Any] = dict.fromkeys(["val_bpb", "val_bpb_se", "audit_bpb", "audit_bpb_se"])
    found |= dict.fromkeys(["gain_val", "gain_val_se", "gain_audit", "gain_audit_se"])
    found |= {"prefix": "", "refused": ""}
    try:
        import numpy as np
        import torch

        text = read_text(corpus)
        questions = Questions(text, options.seed)
        gpu = torch.cuda.is_available()
        roomy = gpu and torch.cuda.mem_get_info()[0] > SCORER_MEMORY
        rows = max(2, BATCH_TOKENS["cuda" if gpu else "cpu"] // prepare.MAX_SEQ_LEN)
        shape = Shape(rows, prepare.MAX_SEQ_LEN, corpus.vocabulary, half=gpu)
        os.ftruncate(options.exchange, SLOTS * shape.slot_bytes)
        scorer = Scorer(text, questions, shape, torch.device("cuda" if roomy else "cpu"))
        expect(channel, {"ready": ""})
        channel.send(asdict(shape))
        scorer.ask_all(channel, options.exchange)
        channel.send({"slot": None})
        losses = scorer.losses.cpu().numpy()
        asked_once = losses[: len(text.inputs)]
        head = read_losses(options.head, text)
        if wrong := int((~np.isfinite(asked_once)).sum()):
            found["refused"] = f"The loss is no finite number at {wrong:,} of {asked_once.size:,} positions."
        else:
            found["prefix"] = leaks(text, questions, losses, head, scorer.apart)
            found |= numbers(text, asked_once, head)
            write_losses(options.out, text, asked_once)
    except RefusedError as error:
        found["refused"] = str(error)
    except OSError as error:
        found["refused"] = f"The file that both processes share cannot be used: {error.strerror}."
    return found | {"seconds": round(time.monotonic() - began, 2)}


def numbers(
    text: Text, losses: npt.NDArray[np.float32], head: npt.NDArray[np.float32] | None
) -> dict[str, float]:
    """Bits per byte of each part, and what was gained on the head, with their standard errors."""
    found = {}
    for name, part in text.parts.items():
        if not len(losses[part]):
            continue
        found[f"{name}_bpb"], found[f"{name}_bpb_se"] = bits(losses[part], text.sizes[part])
        if head is not None:
            gain = head[part].astype(float) - losses[part]
            found[f"gain_{name}"], found[f"gain_{name}_se"] = bits(gain, text.sizes[part])
    return found


def bits(nats: npt.NDArray[Any], sizes: npt.NDArray[np.int64]) -> tuple[float, float]:
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


def leaks(
    text: Text,
    questions: Questions,
    losses: npt.NDArray[np.float32],
    head: npt.NDArray[np.float32] | None,
    apart: dict[int, float],
) -> str:
    """What shows that a position's answer depends on more than the tokens up to it; empty where nothing does.

    A model that remembers what it has answered can repeat that, so two further signs count: losses where the
    next token was hidden when the row was asked first, and losses that fall from question to question. What
    the head lost there is taken off them where it is known, since some text is harder than other text.
    """
    import numpy as np

    different = [value for value in apart.values() if not value <= SAME_ANSWER]
    if different:
        return (
            f"Answers depend on later tokens or on other rows: in {len(different)} of {len(apart)} rows that "
            f"were asked twice they differ, by up to {max(different):.2f} nats."
        )
    rows = len(text.inputs)
    beyond = losses[:rows].astype(float) - (0.0 if head is None else head)
    counted = text.sizes > 0
    first = questions.when[rows:] < questions.when[questions.probed]
    hidden = [
        losses[rows + probe, cut - 1] - (0.0 if head is None else head[row, cut - 1])
        for probe, (row, cut) in enumerate(zip(questions.probed, questions.cuts, strict=True))
        if first[probe] and counted[row, cut - 1]
    ]
    everywhere = beyond[counted]
    error = everywhere.std() / math.sqrt(max(1, len(hidden)))
    more = np.mean(hidden) - everywhere.mean() if hidden else 0.0
    if more > CHANCE * error:
        return f"Answers depend on later tokens: the loss is {more:.2f} nats higher where the next is hidden."
    by_row = beyond.sum(1) / counted.sum(1)
    for part in text.parts.values():
        by_row[part] -= by_row[part].mean() if len(by_row[part]) else 0.0
    related = np.corrcoef(by_row, questions.when[:rows])[0, 1] if by_row.std() > 0 else 0.0
    if related * math.sqrt((rows - 2) / max(1e-9, 1 - related**2)) < -CHANCE:
        return "Answers depend on the rows asked before: the loss falls from row to row, in whatever order."
    return ""


def write_losses(path: Path, text: Text, losses: npt.NDArray[np.float32]) -> None:
    import numpy as np

    new = path.with_name(f".new-{path.name}")
    with new.open("wb") as file:
        np.savez(file, name=np.array(text.name), **{name: losses[part] for name, part in text.parts.items()})
    new.replace(path)


def read_losses(path: Path | None, text: Text) -> npt.NDArray[np.float32] | None:
    """The losses of another model on the same text; None without."""
    import numpy as np

    if path is None:
        return None
    with np.load(path, allow_pickle=False) as file:
        if str(file["name"]) != text.name:
            print("The head was scored on another text, so there is no gain.", file=sys.stderr)
            return None
        losses: npt.NDArray[np.float32] = np.concatenate([file["val"], file["audit"]])
    return losses


# ---------------------------------------------------------------------------------------------------------
# What no training may see


def describe(corpus: prepare.Corpus) -> dict[str, Any]:
    if not (manifest := corpus.manifest()):
        raise prepare.HarnessError(corpus.missing())
    damaged = corpus.missing(audit=True) or corpus.damaged() or ""
    text = None if damaged else read_text(corpus)
    tokens = manifest["tokens"]["audit"]
    if note := corpus.without_hashes():
        print(note, file=sys.stderr)
    return {
        "hidden": sorted({str(path.absolute()) for path in hidden(corpus)}),
        "audit": f"{tokens / 1e6:.2f} M tokens of {audit_of(corpus)}" if tokens else "",
        "damaged": damaged,
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
        yield from sources.own_audit_files(corpus.source)


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
        "--out", type=Path, required=True, help="file for the losses; FILE.json for the numbers"
    )
    scorer.add_argument("--head", type=Path, help="such a file of another model, to compare with")
    scorer.add_argument("--seed", type=int, required=True, help="of what is asked in which order; a secret")
    scorer.add_argument("--limit", type=float, default=LIMIT, help="seconds for all of it (%(default)s)")
    options = parser.parse_args(arguments)
    if options.command == "model":
        answer(options.exchange)
        return
    corpus = prepare.Corpus()
    if options.command == "describe":
        print(json.dumps(describe(corpus)))
        return
    if missing := corpus.missing(audit=True):
        raise prepare.HarnessError(missing)
    found = json.dumps(score(corpus, options), indent=1)
    new = options.out.with_name(f".new-{options.out.name}.json")
    new.write_text(found, encoding="utf-8")
    new.replace(f"{options.out}.json")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except prepare.HarnessError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or prepare.cache_root()}: {error.strerror or error}.")
