"""The fixed half of an experiment: the text, the tokens, the batches and the score.

    python prepare.py                    make what train.py needs; a second time it finds everything there
    python prepare.py --check            say what is missing or damaged; exit status 1 if anything is
    python prepare.py --source python    prepare another text: climbmix, python, or a path of your own

Experiments never change this file, so that every `val_bpb` of a repository means the same.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import json
import math
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizer  # type: ignore[import-not-found]
from sources import (  # type: ignore[import-not-found]
    PYTHON_SPLIT,
    SPLITS,
    HarnessError,
    Progress,
    gather,
    own_files,
    read_texts,
    size_of,
)

if (
    TYPE_CHECKING
):  # heavy packages are imported where they are used, so that finding all in place takes no time
    import numpy as np
    import numpy.typing as npt
    import torch

# What has to happen before torch is imported, which is why train.py imports this file first.
START = time.perf_counter()  # seconds; so that total_seconds counts the imports
COMPILE_ONLY = bool(os.environ.get("AUTORESEARCH_COMPILE_ONLY"))  # random tokens, few steps, no result
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # on a busy CPU, threads that spin cost ten times the time
with contextlib.suppress(AttributeError, OSError):  # glibc has it, see mallopt(3)
    mallopt = ctypes.CDLL(None).mallopt  # keep what a step frees: to ask the kernel anew takes a tenth more
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
    mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes; no more is possible

# ---------------------------------------------------------------------------------------------------------
# Constants

MAX_SEQ_LEN = 2048  # tokens in a row: the context of the model
TIME_BUDGET = 300  # seconds of training; start-up, compilation and evaluation are not counted
FLOP_BUDGET = 0  # estimated FLOPs of training, if that ends sooner; 0: none. Only where nothing is compiled
EVAL_TOKENS = 40 * 2**19  # validation tokens that are scored; all of them where there are fewer
VOCAB_SIZE = 8192  # tokens in the vocabulary, the special BOS token included
SOURCE = "climbmix"  # text to learn from: "climbmix", "python", or an absolute path of .txt or .parquet files
CLIMBMIX_SHARDS = 10  # training shards to download
TOKENIZER_CHARS = 200_000_000  # characters of training text that the vocabulary is learnt from
SHARD_TOKENS = 2**26  # tokens in a token shard: 128 MiB
MEMORY_LEFT = 6 * 2**30  # bytes of a GPU that compiling only leaves to others
OVERRUN = 1.2  # times FLOP_BUDGET at most, as the last step may go beyond it
FORMAT = 1  # version of what lies in the cache; another one is prepared anew


# ---------------------------------------------------------------------------------------------------------
# Where things lie


def cache_root() -> Path:
    """`AUTORESEARCH_CACHE`, else `~/.cache/autoresearch`."""
    return Path(os.environ.get("AUTORESEARCH_CACHE") or "~/.cache/autoresearch").expanduser().absolute()


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text cut by a vocabulary. Each has folders of its own in the cache, so that no two ever mix."""

    source: str = SOURCE
    shards: int = CLIMBMIX_SHARDS
    vocabulary: int = VOCAB_SIZE
    root: Path = field(default_factory=cache_root)

    @property
    def name(self) -> str:
        """The text's name; the standard library's tells the version of Python, the user's own the path."""
        if self.source == "climbmix":
            return f"climbmix-{self.shards}"
        if self.source == "python":
            return f"python-{platform.python_version()}-{PYTHON_SPLIT}"
        path = Path(self.source).expanduser().resolve()
        return f"path-{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"

    @property
    def text(self) -> Path:
        """Folder of the parquet shards that are downloaded or written."""
        return self.root / "data" / ("climbmix" if self.source == "climbmix" else self.name)

    @property
    def tokens(self) -> Path:
        """Folder of the token shards `<split>_<number>.npy`, and of the manifest that says they are whole."""
        return self.root / "data" / f"{self.name}-v{self.vocabulary}"

    @property
    def tokenizer(self) -> Path:
        """Folder of what `tokenizer.save` writes."""
        return self.root / "tokenizer" / f"{self.name}-v{self.vocabulary}"

    @property
    def command(self) -> str:
        """What a person types to prepare this corpus."""
        source = f" --source {shlex.quote(self.source)}" if self.source != SOURCE else ""
        shards = f" --shards {self.shards}" if self.shards != CLIMBMIX_SHARDS else ""
        return f"python prepare.py{source}{shards}"

    def manifest(self) -> dict[str, Any]:
        """What was noted when this corpus was prepared; empty when it was not."""
        try:
            manifest = json.loads((self.tokens / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT else {}

    def missing(self, *, audit: bool = False) -> str | None:
        """What keeps a training from starting, as a sentence with its fix; None when all is there.

        No training needs the audit's tokens, and a sandbox may hide them: they count with `audit` only.
        """
        if COMPILE_ONLY:
            return None
        files: dict[str, int] = self.manifest().get("files", {})
        needed = [name for name in files if audit or not Path(name).name.startswith("audit")]
        damaged = [name for name in needed if size_of(self.root / name) != files[name]]
        if files and not damaged:
            return None
        state = f"is damaged ({damaged[0]} is not whole)" if damaged else "is not prepared"
        what = f"The text {self.name} with a vocabulary of {self.vocabulary}"
        return f"{what} {state} in {self.root}; run: {self.command}"

    def damaged(self) -> str | None:
        """A sentence when a file is not what was prepared, whatever its size and time say.

        It reads every file: a second for each gigabyte and core. One that is written to can keep its size,
        and get back its time, so nothing less than the content tells.
        """
        noted: dict[str, str] = self.manifest().get("sha256", {})
        found = hashes([self.root / name for name in noted])
        wrong = next((name for name, digest in zip(noted, found, strict=True) if digest != noted[name]), None)
        if wrong is None:
            return None
        return f"{self.root / wrong} is not what was prepared: its content has changed. Run: {self.command}"

    def without_hashes(self) -> str | None:
        """A sentence when an earlier version prepared this, so that `damaged` finds nothing to compare."""
        if not (manifest := self.manifest()) or "sha256" in manifest:
            return None
        return f"{self.tokens} was prepared by an earlier version, without hashes. Add them: {self.command}"

    def changed(self) -> str | None:
        """A sentence when the user's own files are no longer those that were prepared."""
        noted = self.manifest().get("origin")
        if noted is None or not Path(self.source).expanduser().exists() or noted == origin(self.source):
            return None
        return (
            f"The files of {self.source} have changed since they were prepared, and numbers from before and "
            f"after would not compare. To prepare them anew all the same, delete {self.tokens} first."
        )


def hashes(files: list[Path]) -> list[str]:
    """The SHA-256 of each file, empty of one that is not there; several at a time."""

    def digest(file: Path) -> str:
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, files))


def origin(source: str) -> list[list[str | int]] | None:
    """Names, sizes and times of the user's own files; None for the other sources."""
    if source in {"climbmix", "python"}:
        return None
    stats = [(file, file.stat()) for file in own_files(source)]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


# ---------------------------------------------------------------------------------------------------------
# Preparing


def build(corpus: Corpus) -> None:
    """Make text, tokenizer and tokens beside their places, and move them there when all is well."""
    targets = [corpus.tokenizer, corpus.tokens] + ([corpus.text] if corpus.source != "climbmix" else [])
    staged = {target: target.with_name(f".new-{target.name}") for target in targets}
    with locked(corpus.root):
        if not (corpus.missing(audit=True) or corpus.damaged()):  # another process has made it meanwhile
            return
        try:
            for folder in staged.values():
                shutil.rmtree(folder, ignore_errors=True)  # left by one that was killed
                folder.mkdir(parents=True)
            make(corpus, staged)
            for target in reversed(targets):  # the tokens last: their manifest says that all is there
                shutil.rmtree(target, ignore_errors=True)
                staged[target].rename(target)
        finally:
            for folder in staged.values():
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()  # where nothing was before, nothing stays


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One preparation at a time in a cache."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make(corpus: Corpus, staged: dict[Path, Path]) -> None:
    """Fill the staged folders of a corpus."""
    noted = origin(corpus.source)
    shards = gather(corpus.source, corpus.shards, corpus.text, staged.get(corpus.text, corpus.text))
    ranks = tokenizer.learn_ranks(shards["train"], corpus.vocabulary, TOKENIZER_CHARS)
    tokenizer.save(ranks, staged[corpus.tokenizer])
    tokens = {split: write_tokens(shards[split], ranks, staged[corpus.tokens], split) for split in SPLITS}
    files = {
        str((target / file.name).relative_to(corpus.root)): file
        for target in (corpus.tokenizer, corpus.tokens)
        for file in sorted(staged[target].iterdir())
    }
    manifest = {
        "format": FORMAT,
        "tokens": tokens,
        "files": {name: size_of(file) for name, file in files.items()},
        "sha256": dict(zip(files, hashes([*files.values()]), strict=True)),
        "origin": noted,
    }
    (staged[corpus.tokens] / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def add_hashes(corpus: Corpus) -> None:
    """Complete the manifest of an earlier version, which noted sizes only."""
    with locked(corpus.root):
        manifest = corpus.manifest()
        names = [*manifest["files"]]
        found = hashes([corpus.root / name for name in names])
        complete = manifest | {"sha256": dict(zip(names, found, strict=True))}
        new = corpus.tokens / ".new-manifest.json"
        new.write_text(json.dumps(complete, indent=1), encoding="utf-8")
        new.replace(corpus.tokens / "manifest.json")


def write_tokens(shards: list[Path], ranks: dict[bytes, int], folder: Path, split: str) -> int:
    """Write the documents of a split, each after a BOS, as one stream cut into shards; returns its length."""
    import numpy as np

    encoding = tokenizer.encoding_of(ranks)
    bos = np.array([len(ranks)], dtype=np.uint16)
    pieces: list[npt.NDArray[np.uint16]] = []
    waiting = written = 0

    def encode(text: str) -> npt.NDArray[np.uint16]:
        return np.concatenate(
            [bos, encoding.encode_to_numpy(text, disallowed_special=())], dtype=np.uint16, casting="unsafe"
        )

    def flush(count: int) -> None:
        nonlocal pieces, waiting, written
        stream = np.concatenate(pieces)
        np.save(folder / f"{split}_{written // SHARD_TOKENS:05d}.npy", stream[:count])
        pieces, waiting, written = [stream[count:]], waiting - count, written + count

    with Progress(f"cutting tokens: {split}", len(shards)) as progress, ThreadPoolExecutor() as pool:
        for shard in shards:
            for texts in read_texts(shard):
                encoded = list(pool.map(encode, texts))
                pieces += encoded
                waiting += sum(map(len, encoded))
                while waiting >= SHARD_TOKENS:
                    flush(SHARD_TOKENS)
            progress.advance(1)
    if waiting:
        flush(waiting)
    if written < MAX_SEQ_LEN and (written or split != "audit"):
        raise HarnessError(
            f"There is too little text: the {split} split has {written} tokens and a row needs {MAX_SEQ_LEN}."
        )
    return written


# ---------------------------------------------------------------------------------------------------------
# Batches


class Rows:
    """A split as rows of `length` tokens, read from memory-mapped files.

    The targets of row i are the tokens from `i * length` on of the stream of documents; its inputs are a BOS
    and then the same tokens without the last. So each row begins with a BOS, nothing is padding, and each
    token is a target exactly once. Only the last tokens of a token shard that fill no row are left out.
    """

    def __init__(self, corpus: Corpus, split: str, length: int) -> None:
        import numpy as np

        if COMPILE_ONLY:
            shards = [np.random.default_rng(0).integers(corpus.vocabulary, size=8 * length, dtype=np.uint16)]
        else:
            shards = [np.load(path, mmap_mode="r") for path in sorted(corpus.tokens.glob(f"{split}_*.npy"))]
        self.shards = [shard[: len(shard) // length * length].reshape(-1, length) for shard in shards]
        self.ends = np.cumsum([len(shard) for shard in self.shards])
        self.length, self.bos = length, corpus.vocabulary - 1

    def __len__(self) -> int:
        return int(self.ends[-1])

    def take(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Inputs and targets of some rows: shape (2, rows, length)."""
        import numpy as np

        pair = np.empty((2, len(indices), self.length), dtype=np.int64)
        homes = np.searchsorted(self.ends, indices, side="right")
        for row, (index, home) in enumerate(zip(indices, homes, strict=True)):
            pair[1, row] = self.shards[home][index - self.ends[home]]  # counted back from the shard's end
        pair[0, :, 0] = self.bos
        pair[0, :, 1:] = pair[1, :, :-1]
        return pair


def batches(
    corpus: Corpus, split: str, *, rows: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """Endless `(inputs, targets, epoch)`: two int64 tensors of shape (rows, MAX_SEQ_LEN) on the device.

    The rows come in one shuffled order, the same in every epoch and every run. A thread keeps two batches
    ready; on CUDA in pinned memory, from where they are copied while the device computes.
    """
    import numpy as np
    import torch

    if FLOP_BUDGET and split == "train" and device.type != "cuda":
        import flops  # type: ignore[import-not-found]

        flops.COUNTER.start()
    if COMPILE_ONLY and device.type == "cuda":  # a training beside it may need more, as it is evaluated
        free, total = torch.cuda.mem_get_info()
        most = torch.cuda.memory_reserved() + free - MEMORY_LEFT
        torch.cuda.set_per_process_memory_fraction(max(0.0, most / total))
    source = Rows(corpus, split, MAX_SEQ_LEN)
    order = np.random.default_rng(0).permutation(len(source))

    def load(number: int) -> torch.Tensor:
        indices = order[np.arange(number * rows, (number + 1) * rows) % len(order)]
        pair = torch.from_numpy(source.take(indices))
        return pair.pin_memory() if device.type == "cuda" else pair

    with ThreadPoolExecutor(1) as thread:
        ready = deque(thread.submit(load, number) for number in range(2))
        for number in itertools.count():
            ready.append(thread.submit(load, number + 2))
            # From memory that is not pinned, MPS would copy what may be overwritten meanwhile.
            pinned = device.type == "cuda"
            inputs, targets = ready.popleft().result().to(device, non_blocking=pinned)
            yield inputs, targets, number * rows // len(order)


# ---------------------------------------------------------------------------------------------------------
# The budget


def progress(seconds: float) -> float:
    """The share of the budget that is used up after so many seconds of training; from 1 on it is over."""
    if COMPILE_ONLY:
        return float(seconds > 0)  # after one step that counts
    of_time = seconds / TIME_BUDGET
    return max(of_time, computed() / FLOP_BUDGET) if FLOP_BUDGET else of_time


def computed() -> int:
    """The estimated FLOPs of everything since the first batch; 0 where they are not counted."""
    if not FLOP_BUDGET:
        return 0
    import flops

    return int(flops.COUNTER.flops)


# ---------------------------------------------------------------------------------------------------------
# The score


def scored_rows(source: Rows) -> npt.NDArray[np.int64]:
    """The validation rows that are scored, spread over the whole split."""
    import numpy as np

    count = max(1, min(EVAL_TOKENS // MAX_SEQ_LEN, len(source)))
    return np.arange(count) * len(source) // count


def losses_of(
    logits: torch.Tensor, targets: torch.Tensor, token_bytes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each target its cross entropy in nats and its bytes; special tokens count as neither.

    From logits (rows, time, vocabulary) of any type and targets (rows, time), both of one dimension.
    """
    from torch.nn import functional

    answers = targets.flatten()
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), answers, reduction="none")
    weights = token_bytes[answers.to(token_bytes.device)]
    return losses.to(token_bytes.device).where(weights > 0, 0.0), weights


def evaluate_bpb(
    logits_of: Callable[[torch.Tensor], torch.Tensor], corpus: Corpus, *, rows: int, device: torch.device
) -> float:
    """Bits that the model needs for each UTF-8 byte of the validation text, `rows` rows at a time.

    `logits_of` maps tokens (rows, MAX_SEQ_LEN) to logits (rows, MAX_SEQ_LEN, vocabulary) and never sees a
    target: the cross entropy is computed here. Special tokens count neither as nats nor as bytes.
    """
    import numpy as np
    import torch

    if FLOP_BUDGET and (times := computed() / FLOP_BUDGET) > OVERRUN:
        raise HarnessError(
            f"It has computed {times:.2f} times FLOP_BUDGET, and {OVERRUN} times are allowed: "
            "it went on after its end, or a step is too large."
        )
    source = Rows(corpus, "val", MAX_SEQ_LEN)
    chosen = scored_rows(source)
    place = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    if COMPILE_ONLY:
        token_bytes = torch.ones(corpus.vocabulary, dtype=torch.int64, device=place)
    else:
        token_bytes = torch.from_numpy(np.load(corpus.tokenizer / "token_bytes.npy")).to(place)
    nats = torch.zeros((), dtype=torch.float64, device=place)
    size = torch.zeros((), dtype=torch.int64, device=place)
    with torch.no_grad():
        for start in range(0, len(chosen), rows):
            batch = chosen[start : start + rows]
            full = np.resize(batch, rows)  # the last batch is filled up, so that every one has the same shape
            pair = torch.from_numpy(source.take(full)).to(device)
            inputs, targets = (part.clone() for part in pair)  # no storage that holds both
            logits = logits_of(inputs)
            if logits.shape != (*inputs.shape, corpus.vocabulary):
                raise HarnessError(f"The model's logits have the wrong shape: {tuple(logits.shape)}.")
            for first in range(0, len(batch), 8):  # few rows at a time: logits in float32 are large
                some = slice(first, min(first + 8, len(batch)))
                losses, weights = losses_of(logits[some], targets[some], token_bytes)
                nats += losses.double().sum()
                size += weights.sum()
    bpb = float(nats / size) / math.log(2)
    if COMPILE_ONLY:
        os._exit(0)  # before anything is saved or printed
    if not math.isfinite(bpb):
        raise HarnessError("The validation loss is not a number.")
    return bpb


# ---------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """The command line; raises a HarnessError for what a person must fix."""
    parser = argparse.ArgumentParser(description="Prepare the text, the tokenizer and the tokens.")
    parser.add_argument("--source", default=SOURCE, help="climbmix, python or a path (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=CLIMBMIX_SHARDS, help="training shards of climbmix")
    parser.add_argument("--check", action="store_true", help="only say what is missing or damaged")
    options = parser.parse_args(arguments)
    if options.shards < 1:
        raise HarnessError(f"--shards is {options.shards}, and must be at least 1.")
    corpus = Corpus(options.source, options.shards)
    missing, changed = corpus.missing(audit=True) or corpus.damaged(), corpus.changed()
    if changed or (options.check and missing):
        raise HarnessError(changed or missing)
    if missing:
        print(f"Preparing {corpus.name} with a vocabulary of {corpus.vocabulary}: done once.", flush=True)
        build(corpus)
    elif without_hashes := corpus.without_hashes():
        if options.check:
            print(without_hashes)
        else:
            add_hashes(corpus)
    tokens = corpus.manifest()["tokens"]["train"]
    print(f"Prepared: {corpus.name}, {tokens / 1e6:.1f} M training tokens, in {corpus.tokens}")
    if corpus != Corpus():
        own = options.source not in {"climbmix", "python"}
        source = str(Path(options.source).expanduser().resolve()) if own else options.source
        print(f"To train on it, set in prepare.py: SOURCE = {source!r}, CLIMBMIX_SHARDS = {options.shards}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what is half made is cleared away
    try:
        main(sys.argv[1:])
    except HarnessError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or cache_root()}: {error.strerror or error}.")
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {sys.executable} has no module {error.name}. A training needs torch, numpy, pyarrow, "
            "tiktoken and tokenizers: `autoresearch doctor` prints the line that installs them."
        )
    except KeyboardInterrupt:
        print("error: interrupted; nothing was changed.", file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for a thread that learns the vocabulary
