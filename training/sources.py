"""Where the text comes from: each source ends as parquet shards with a column `text`, by split.

Only `prepare.py` uses this, and only while it prepares; training and scoring never do.
"""

from __future__ import annotations

import contextlib
import email.message
import hashlib
import http.client
import itertools
import os
import queue
import random
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

SPLITS = ("train", "val", "audit")  # the audit split is secret: only evaluate.py reads it
CLIMBMIX_URL = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
CLIMBMIX_LAST = 6542  # index of the last shard: pinned for validation; the one before it for the audit
PYTHON_SPLIT = 2  # number of the way the standard library is split, so that no two ways are ever mixed
PYTHON_AUDIT = ("idlelib", "turtledemo", "test")  # its parts that no training needs, which a sandbox can hide
PYTHON_AUDIT_CHARS = 4_000_000  # of them, at most
AT_ONCE = 8  # downloads
ASK_SECONDS = 8.0  # for a server's first answer
SPEED = 10e6  # bytes a second of a usual connection, to say how long a download takes
PATIENCE = 6  # attempts in a row that bring nothing before a download is given up
RETRIABLE = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that may pass


class HarnessError(Exception):
    """Something a person can fix; the message is the whole sentence they need."""


class Progress:
    """A bar on stderr from 0 to `total`; silent where stderr is no terminal. Threads may share it."""

    def __init__(self, label: str, total: float) -> None:
        self.label, self.total = label, total
        self.done, self.percent = 0.0, -1
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def __enter__(self) -> Progress:
        self.advance(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.advance(self.total)
        if sys.stderr.isatty():
            print(file=sys.stderr)

    @property
    def left(self) -> float:
        """Seconds until the end at the pace so far."""
        return (time.monotonic() - self.began) * (self.total - self.done) / self.done

    def advance(self, amount: float) -> None:
        with self.lock:
            self.done = min(self.total, self.done + amount)
            percent = int(100 * self.done / self.total) if self.total else 100
            if percent > self.percent and sys.stderr.isatty():
                bar = "#" * (percent * 30 // 100)
                left = f", {minutes(self.left)} left" if 0 < percent < 100 else ""
                line = f"{self.label:<24} [{bar:<30}] {percent:3d}%{left:<16}"
                print(f"\r{line}", end="", file=sys.stderr, flush=True)
            self.percent = max(percent, self.percent)


def gather(source: str, shards: int, downloads: Path, folder: Path) -> dict[str, list[Path]]:
    """The parquet shards of each split.

    climbmix lies in `downloads`, parquet of the user's own stays where it is, and what has to be written
    goes to `folder`.
    """
    if source == "climbmix":
        return climbmix_shards(shards, downloads)
    if source == "python":
        return write_texts(python_documents(), folder)
    files = own_files(source)
    if audit := own_audit_files(source):
        return {"train": files[:-2], "audit": audit, "val": [files[-1]]}
    return write_texts(spread(own_documents(files)), folder)


# ---------------------------------------------------------------------------------------------------------
# Parquet


def read_texts(shard: Path) -> Iterator[list[str]]:
    """The documents of a parquet shard, some hundred at a time."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    found = False
    try:
        with pq.ParquetFile(shard) as file:
            names = file.schema_arrow.names
            kind = file.schema_arrow.field("text").type if "text" in names else None
            if kind is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                columns = ", ".join(names) or "none"
                raise HarnessError(f"{shard} has no column `text` of strings (its columns: {columns}).")
            for batch in file.iter_batches(batch_size=512, columns=["text"]):
                texts = [text for text in batch.column(0).to_pylist() if text]
                found = found or bool(texts)
                yield texts
    except (pa.ArrowException, OSError) as error:
        raise HarnessError(f"{shard} cannot be read as parquet; is it half a download? ({error})") from error
    if not found:
        raise HarnessError(f"{shard} is empty: there is no text in it.")


def write_texts(documents: Iterable[tuple[str, str]], folder: Path) -> dict[str, list[Path]]:
    """Write `(split, text)` pairs as one shard for each split; an audit split without text has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("text", pa.string())])
    paths = {split: folder / f"{split}_00000.parquet" for split in SPLITS}
    with contextlib.ExitStack() as stack:
        files = {split: stack.enter_context(pq.ParquetWriter(paths[split], schema)) for split in SPLITS}
        waiting: dict[str, list[str]] = {split: [] for split in SPLITS}
        found = {"train", "val"}
        for split, text in documents:
            found.add(split)
            waiting[split].append(text)
            if len(waiting[split]) == 512:
                files[split].write_table(pa.table({"text": waiting[split]}, schema))
                waiting[split] = []
        for split, texts in waiting.items():
            files[split].write_table(pa.table({"text": texts}, schema))
    return {split: [path] if split in found else [] for split, path in paths.items()}


# ---------------------------------------------------------------------------------------------------------
# Python's standard library


def python_documents() -> Iterator[tuple[str, str]]:
    """The library's modules without their tests; the name of a file decides its split for ever.

    The audit split is made of whole folders, those of PYTHON_AUDIT that this Python has.
    """
    library = Path(sysconfig.get_path("stdlib"))
    audit: list[tuple[int, Path]] = []
    for file in sorted(python_files(library)):
        name = file.relative_to(library)
        number = int(hashlib.sha256(name.as_posix().encode()).hexdigest(), 16)
        if name.parts[0] in PYTHON_AUDIT:
            audit.append((number, file))
            continue
        if name.name.startswith("_sysconfigdata"):
            continue  # it tells of the machine that built this Python
        with contextlib.suppress(UnicodeDecodeError):
            yield "val" if number % 20 == 0 else "train", file.read_text(encoding="utf-8")
    left = PYTHON_AUDIT_CHARS
    for _, file in sorted(audit):
        with contextlib.suppress(UnicodeDecodeError):
            text = file.read_text(encoding="utf-8")
            left -= len(text)
            if left < 0:
                return
            yield "audit", text


def python_files(library: Path) -> Iterator[Path]:
    """All modules of the audit, and of the rest those that are no tests and no packages of others."""
    leave_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    for folder, folders, names in os.walk(library):
        path = Path(folder)
        if path == library:
            folders[:] = [name for name in folders if name in PYTHON_AUDIT or name not in leave_out]
        elif path.relative_to(library).parts[0] not in PYTHON_AUDIT:
            folders[:] = [name for name in folders if name not in leave_out]
        yield from (path / name for name in names if name.endswith(".py"))


def python_audit_folders() -> list[Path]:
    """Where the audit's text lies on this machine: in the library of this Python and in the system's."""
    system = [folder for lib in ("/usr/lib", "/usr/local/lib") for folder in Path(lib).glob("python3*")]
    libraries = dict.fromkeys([Path(sysconfig.get_path("stdlib")), *sorted(system)])
    folders = [library / part for library in libraries for part in PYTHON_AUDIT]
    return [folder for folder in folders if folder.is_dir()]


# ---------------------------------------------------------------------------------------------------------
# The user's own files


def own_files(source: str) -> list[Path]:
    """The files of a path in sorted order: all `.txt`, or all `.parquet`."""
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise HarnessError(f"{path} does not exist; a source is climbmix, python or a path.")
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    files = [file for file in files if file.suffix in {".txt", ".parquet"} and file.is_file()]
    kinds = {file.suffix for file in files}
    if len(kinds) != 1:
        raise HarnessError(
            f"{path} must hold .txt files or .parquet files, and holds {'both' if kinds else 'none'}."
        )
    return files


def own_audit_files(source: str) -> list[Path]:
    """Of three or more parquet files the last but one; otherwise documents of all files are the audit."""
    files = own_files(source) if Path(source).expanduser().exists() else []
    return [files[-2]] if len(files) >= 3 and files[-1].suffix == ".parquet" else []


def own_documents(files: list[Path]) -> Iterator[str]:
    """The rows of parquet; of a `.txt` file pieces of whole lines, small enough to be split."""
    piece = min(2**16, max(2**10, sum(file.stat().st_size for file in files) // 200))
    for file in files:
        if file.suffix == ".parquet":
            yield from itertools.chain.from_iterable(read_texts(file))
            continue
        try:
            with file.open(encoding="utf-8", newline="") as lines:
                while text := lines.read(piece):
                    yield text + lines.readline()
        except UnicodeDecodeError as error:
            raise HarnessError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def spread(documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every 20th document to validation, and the one half-way between two of those to the audit."""
    for number, text in enumerate(documents):
        yield {19: "val", 9: "audit"}.get(number % 20, "train"), text


# ---------------------------------------------------------------------------------------------------------
# climbmix


def climbmix_shards(shards: int, folder: Path) -> dict[str, list[Path]]:
    """Download to `folder` what is not there yet; what has arrived is kept for the next call."""
    base = os.environ.get("AUTORESEARCH_CLIMBMIX_URL") or CLIMBMIX_URL
    indices = {"train": range(shards), "val": [CLIMBMIX_LAST], "audit": [CLIMBMIX_LAST - 1]}
    paths = {split: [folder / f"shard_{index:05d}.parquet" for index in indices[split]] for split in SPLITS}
    absent = [path for path in itertools.chain(*paths.values()) if not path.is_file()]
    if absent:
        size = len(absent) * asked_size(f"{base}/{absent[0].name}")
        about = f", {size / 1e9:.1f} GB: {minutes(size / SPEED)} at {SPEED / 1e6:.0f} MB/s" if size else ""
        print(f"Downloading {len(absent)} files{about}. Then the vocabulary and the tokens.", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with Progress("downloading", len(absent)) as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(download, f"{base}/{path.name}", path, stop, progress.advance) for path in absent]
        try:
            for job in jobs:
                job.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return paths


def asked_size(url: str) -> int:
    """Bytes of a file by the server's word, 0 where it has none; a HarnessError where nobody answers.

    It takes ASK_SECONDS at most, as without internet the attempts of `download` would take minutes.
    """
    answers: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310  # the address is the user's choice
            with urllib.request.urlopen(request, timeout=ASK_SECONDS) as response:  # noqa: S310
                answers.put(int(response.headers.get("Content-Length") or 0))
        except urllib.error.HTTPError as error:
            error.close()
            answers.put(0)  # somebody is there; what that means is for `download` to say
        except Exception as error:  # noqa: BLE001  # told below, whatever it is
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ASK_SECONDS)
    except queue.Empty:
        answer = TimeoutError(f"nothing within {ASK_SECONDS:g} s")
    if isinstance(answer, Exception):
        reason = getattr(answer, "reason", answer)
        host = urllib.parse.urlsplit(url).hostname
        raise HarnessError(
            f"No answer from {host} ({reason}). Is there an internet connection? HTTPS_PROXY names a proxy. "
            "Without internet, prepare another text: --source python, or a path."
        )
    return answer


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def download(
    url: str, path: Path, stop: threading.Event, arrived: Callable[[float], None], *, wait: float = 1.0
) -> None:
    """Fetch `url` to `path` by way of `path.part`, each attempt going on where the last one ended.

    `arrived` is told each fraction of the whole. `wait` is the first pause in seconds; it doubles with every
    attempt in a row that brings nothing. Once `stop` is set, it returns.
    """
    part = path.with_name(f"{path.name}.part")
    failures, reason = 0, ""
    while failures < PATIENCE and not stop.is_set():
        had, pause = size_of(part), 0.0
        try:
            if fetch_rest(url, part, stop, arrived):
                require_parquet(url, part)
                part.replace(path)
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            error.close()
            reason, pause = f"{error.code} {error.reason}", retry_after(error.headers)
            if error.code not in RETRIABLE:
                raise HarnessError(f"{url} cannot be had: the server says {reason}.") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        failures = 0 if size_of(part) > had else failures + 1
        stop.wait(max(pause, wait * 2**failures * random.uniform(0.5, 1)))  # noqa: S311  # jitter, no secret
    if not stop.is_set():
        raise HarnessError(f"{url} cannot be had ({reason}); what has arrived is kept for the next attempt.")


def fetch_rest(url: str, part: Path, stop: threading.Event, arrived: Callable[[float], None]) -> bool:
    """Append to `part` what it lacks of `url`; True when it is whole."""
    had = size_of(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-"} if had else {})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=30)  # noqa: S310  # the address is the user's choice
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if error.headers.get("Content-Range", "").endswith(f"/{had}"):
            return True  # it was whole, and only its renaming was missing
        part.unlink()  # longer than the original: something else
        return False
    with (
        response,
        part.open("ab" if response.status == 206 else "wb") as file,
    ):  # 200: all of it from the start
        length = response.headers.get("Content-Length")
        whole = file.tell() + int(length) if length else None
        while not stop.is_set() and (block := response.read(2**20)):
            file.write(block)
            arrived(len(block) / whole if whole else 0)
        return file.tell() == whole if whole else not stop.is_set()


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def require_parquet(url: str, part: Path) -> None:
    """Parquet begins and ends with PAR1; a log-in page, or a file that changed half-way, does not."""
    with part.open("rb") as file:
        begin = file.read(4)
        file.seek(-min(4, size_of(part)), os.SEEK_END)
        if begin == file.read(4) == b"PAR1":
            return
    part.unlink()
    raise HarnessError(f"What {url} sends is not a parquet file.")


def retry_after(headers: email.message.Message) -> float:
    """Seconds the server asks us to wait, at most a minute; 0 where it asks nothing we understand."""
    value = str(headers.get("Retry-After", ""))
    return min(60.0, float(value)) if value.isdecimal() else 0.0
