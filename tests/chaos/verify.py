"""What is left after the storm, looked at from outside: by git and the files alone."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.damage import FALSE_RESULT
from tests.chaos.site import Note, Site
from tests.loop.real_git import git
from tests.servers.telegram_api import Post

CHANNEL = "telegram:7"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of results.tsv and, in the same place of the order, an experiment of the state file."""

    number: int
    commit: str
    attempt: int
    reason: str
    short: str
    value: str
    status: str


@dataclass(frozen=True, slots=True)
class Program:
    """What a committed train.py says of itself."""

    digest: str
    value: float | None  # None: it crashes


def losses(site: Site, posts: Sequence[Post], *, skips: int) -> Iterator[str]:
    """Yield a sentence for everything that was lost or is not as it must be; `skips` were ordered."""
    rows, broken = _rows(site)
    yield from broken
    yield from _wrong_results(site, rows, skips=skips)
    yield from _wrong_refs(site, rows)
    yield from _wrong_logs(site)
    yield from _untold(site, posts)
    yield from (f"process {process.pid} is left: {_command(process)}" for process in site.processes())
    yield from (f"{path} is left, but no training" for path in left_folders(site))
    yield from (f"{path} is still mounted" for path in site.mounts())


def found(site: Site) -> Counter[str]:
    """Count what the storm brought."""
    counts = Counter({"experiments": 0})
    for status, attempt in site.query("SELECT status, attempt FROM experiments"):
        counts["experiments"] += 1
        counts[str(status)] += 1
        counts["trained again"] += max(attempt - 1, 0)
    for (kind,) in site.query("SELECT kind FROM events"):
        if kind in ("run_recovered", "needs_attention"):
            counts[kind.replace("_", " ")] += 1
    last = _last_attempts(site)
    repeats = {*site.query("SELECT number, k FROM trainings WHERE purpose = 'repeat'")}
    counts["repeats"] = len(repeats)
    whole = {(note.number, note.attempt) for note in site.notes() if note.what == "summary"} - repeats
    counts["started ahead"] = sum(note.waited for note in site.notes())
    counts["whole results trained again"] = sum(attempt != last.get(number) for number, attempt in whole)
    return counts


def _rows(site: Site) -> tuple[list[Row], list[str]]:
    experiments = site.query(
        'SELECT number, "commit", attempt, reason, status FROM experiments WHERE status IS NOT NULL '
        "ORDER BY number"
    )
    numbers = [number for (number,) in site.query("SELECT number FROM experiments ORDER BY number")]
    broken = [f"experiment {number} has no verdict" for number in undecided(site)]
    if numbers != list(range(len(numbers))):
        broken.append(f"the numbers have gaps: {numbers}")
    results = site.home / "worktrees" / (site.tag() or "") / "results.tsv"
    lines = results.read_text(errors="replace").splitlines()[1:]
    if len(lines) != len(experiments):
        broken.append(f"results.tsv has {len(lines)} lines for {len(experiments)} decided experiments")
    rows = []
    for (number, commit, attempt, reason, status), line in zip(experiments, lines, strict=False):
        cells = line.split("\t")
        if len(cells) != 5:
            broken.append(f"results.tsv has {line!r} for experiment {number}")
            continue
        short, value, _, told, _ = cells
        if (short, told) != (commit[:7], status):
            broken.append(f"results.tsv has {short} {told} for experiment {number}, {commit[:7]} {status}")
        rows.append(Row(number, commit, attempt, reason, short, value, told))
    if len({row.commit for row in rows}) != len(rows):
        broken.append("a commit is in results.tsv more than once")
    return rows, broken


def undecided(site: Site) -> list[int]:
    """Return the numbers of the experiments without a verdict."""
    return [number for (number,) in site.query("SELECT number FROM experiments WHERE status IS NULL")]


def _wrong_results(site: Site, rows: Sequence[Row], *, skips: int) -> Iterator[str]:
    """Hold results.tsv against the ledger and against what the committed programs come to."""
    programs = {row.number: _program(site, row.commit) for row in rows}
    notes = site.notes()
    whole: dict[tuple[int, int], Note] = {(n.number, n.attempt): n for n in notes if n.what == "summary"}
    for note in notes:
        program = programs.get(note.number)
        if program is not None and note.digest != program.digest:
            yield f"what trained as experiment {note.number}, attempt {note.attempt}, is not its commit"
    for row in rows:
        printed = whole.get((row.number, row.attempt))
        if row.status in ("keep", "discard"):
            value = programs[row.number].value
            if value is None or row.value != f"{value:.6f}":
                yield f"experiment {row.number} has {row.value}, not {value}"
        elif printed and row.status != "skip":
            yield f"experiment {row.number} printed {printed.value}, but is a {row.status}: {row.reason}"
    missing = {number for number, _ in whole} - {row.number for row in rows}
    yield from (f"experiment {number} printed a summary and is in no line" for number in sorted(missing))
    if sum(row.status == "skip" for row in rows) > skips:
        yield f"more experiments were skipped than the {skips} that were ordered"
    kept = [float(row.value) for row in rows if row.status == "keep"]
    yield from (f"{worse} was kept after {better}" for better, worse in pairwise(kept) if worse > better)


def _wrong_logs(site: Site) -> Iterator[str]:
    """Look for what no training printed."""
    for log in sorted(site.home.glob("runs/*/*.log")):
        if FALSE_RESULT in log.read_bytes():
            yield f"the log kept as {log.name} holds what somebody else wrote"


def left_folders(site: Site) -> list[str]:
    """Return what a stopped run should not have any more: attempts, folders made ahead, proofs."""
    found = (path for pattern in ("proof-*", "trainings/*") for path in site.home.glob(pattern))
    return sorted(str(path.relative_to(site.home)) for path in found)


def _program(site: Site, commit: str) -> Program:
    names: dict[str, Callable[[], Any]] = {"__name__": "committed"}  # type: ignore[dict-item]
    exec(compile(git(site.repository, "show", f"{commit}:train.py"), "train.py", "exec"), names)
    try:
        value = names["value"]()
    except (KeyError, NameError):  # the search took a constant out that the result depends on: it crashes
        value = None
    return Program(names["digest"](), value)


def _wrong_refs(site: Site, rows: Sequence[Row]) -> Iterator[str]:
    """Hold git against results.tsv."""
    tag = site.tag()
    listed = git(site.repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    refs = dict(line.split(" ") for line in listed)
    kept = [row.commit for row in rows if row.status == "keep"]
    expected = {f"refs/heads/autoresearch/{tag}": kept[-1] if kept else site.base}
    expected |= {f"refs/autoresearch/{tag}/{row.number}": row.commit for row in rows if row.attempt}
    for name, commit in expected.items():
        if refs.get(name) != commit:
            yield f"{name} is {refs.get(name, 'gone')[:7]}, not {commit[:7]}"
    others = refs.keys() - expected.keys() - {"refs/heads/main"}
    yield from (f"{name} belongs to nothing" for name in sorted(others))
    check = ["git", "fsck", "--no-dangling", "--no-progress"]
    fsck = subprocess.run(check, cwd=site.repository, capture_output=True, text=True, check=False)
    if fsck.returncode:
        yield f"git fsck: {(fsck.stdout + fsck.stderr).strip()}"


def _untold(site: Site, posts: Sequence[Post]) -> Iterator[str]:
    """Hold what the chat shows against the events: each verdict at least once, and in order."""
    place = {str(post.id): index for index, post in enumerate(posts)}
    deliveries = {
        event: (state, message)
        for event, state, message in site.query(
            f"SELECT event_id, state, message_id FROM deliveries WHERE channel = '{CHANNEL}'"
        )
    }
    latest = -1
    for event, number in site.query("SELECT id, number FROM events WHERE kind = 'decided' ORDER BY id"):
        state, message = deliveries.get(event, ("never", ""))
        if state not in ("sent", "collapsed") or message not in place:
            yield f"the verdict on experiment {number} was not told ({state})"
        elif state == "sent":
            if not posts[place[message]].text.startswith(f"Experiment #{number}:"):
                yield f"the message about experiment {number} is about something else"
            if place[message] < latest:
                yield f"the verdict on experiment {number} was told out of order"
            latest = place[message]
    told = [post.text.split(":")[0].removeprefix("Experiment #") for post in posts if _is_digest(post)]
    first = [int(number) for number in dict.fromkeys(told)]
    ends = [
        number for (number,) in site.query("SELECT number FROM events WHERE kind = 'decided' ORDER BY id")
    ]
    if first != [number for number in dict.fromkeys(ends) if number in first]:
        yield f"the digests came out of order: {first}, but the verdicts: {ends}"


def _is_digest(post: Post) -> bool:
    return post.text.startswith("Experiment #") and post.text.split(":")[0].split("#")[1].isdigit()


def _last_attempts(site: Site) -> dict[int, int]:
    return dict(site.query("SELECT number, attempt FROM experiments"))


def _command(process: Any) -> str:
    return json.dumps(process.info["cmdline"])[:200]
