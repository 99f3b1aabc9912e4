"""What proposers are shown: a run's state in the journal, in git and in the files of its trainings.

For a run that is stuck also abstracts of the papers that its program names, from arXiv.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from loop.errors import UserError
from loop.evaluation.noise import read_noise
from loop.experiment import Ending, Experiment, Run, Status
from loop.folders import RunFolders
from loop.git.workspace import Workspace
from loop.logs.error_line import tells_of_full_memory
from loop.logs.tail import read_tail
from loop.proposers.protocol import Context, Failure
from loop.results.gains import lessons_of_others, near_misses
from loop.store.experiments import IdeaBox, Wishes
from loop.store.journal import Journal

log = logging.getLogger(__name__)

SHOWN = 1000  # how many of the last experiments a proposer is shown
LESSONS = 100  # how many lessons of each earlier run it is shown
DIFFS = 60  # how many kept experiments it is shown with their diffs, the last ones
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # the latter by way of a shell or `uv run`

INSTRUCTIONS = "program.md"  # what the human tells the researcher, in the repository
README = "README.md"  # what the repository says of itself


ARXIV = "https://export.arxiv.org/api/query"
"""The interface that arXiv asks programs to use (https://info.arxiv.org/help/api/user-manual.html)."""

PAPERS = 5  # how many papers are read
_ID = re.compile(
    r"(?:arxiv\.org/(?:abs|pdf|html)/|arxiv:\s?)(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})", re.IGNORECASE
)
_WAIT = 3600.0  # seconds without asking again after a failure
_BYTES = 1_000_000
_CHARACTERS = 3000  # of one abstract; arXiv takes 1920
_ATOM = "{http://www.w3.org/2005/Atom}"


class ContextReader:
    """Reads contexts of one run. Blocks for git and SQLite: use it in a worker thread."""

    def __init__(self, *, journal: Journal, workspace: Workspace, folders: RunFolders) -> None:
        self._journal = journal
        self._workspace = workspace
        self._folders = folders

    def read(self, run: Run) -> Context:
        best = self._journal.best(run.id)
        parent = best.commit if best else run.base_commit
        experiments = self._experiments(run)
        return Context(
            run=run,
            source=self._workspace.source(parent),
            parent=parent,
            experiments=experiments,
            ideas=IdeaBox(self._journal).waiting(run.id),
            wishes=Wishes(self._journal).read(run.id),
            changes=self._changes(run, experiments),
            files=self._files(run),
            lessons=tuple(lessons_of_others(self._journal, run, most=LESSONS)),
            noise=read_noise(self._journal, run),
        )

    def failure(self, experiment: Experiment, parent: str) -> Failure:
        """Return what is known of a crash, with its program carried over to `parent`."""
        # A verdict is in the journal before its log is filed, after which that of the attempt is removed.
        text = read_tail(self._folders.printed(experiment.number, experiment.attempt))
        text = text or read_tail(self._folders.log(experiment.number))
        crashed = self._workspace.source(experiment.commit)
        source = self._workspace.carry_over(crashed, experiment.parent, parent)
        if source is None:
            raise UserError("The crashed program conflicts with what was kept since.")
        return Failure(experiment, source, text, _is_out_of_memory(experiment, text))

    def _experiments(self, run: Run) -> tuple[Experiment, ...]:
        """Return the last experiments, and before them the best when the first of them was made.

        Without that one it is unknown what they changed.
        """
        shown = self._journal.experiments(run.id, last=SHOWN)
        best = self._journal.best(run.id, before=shown[0].number) if shown else None
        return (best, *shown) if best else tuple(shown)

    def _changes(self, run: Run, experiments: Sequence[Experiment]) -> dict[int, str]:
        kept = [e for e in experiments if e.status is Status.KEEP and e.number][-DIFFS:]
        changes = {}
        for experiment in (*kept, *near_misses(experiments, run.goal)):
            with suppress(UserError):  # git may have lost the commit of one that was adopted
                changes[experiment.number] = self._workspace.diff(experiment.commit)
        return changes

    def _files(self, run: Run) -> dict[str, str]:
        texts = {}
        for path in (INSTRUCTIONS, *self._workspace.frozen, README):
            try:
                texts[path] = self._workspace.text(run.base_commit, path)
            except UserError:  # a repository may be without instructions, or without README
                continue
        return texts


def _is_out_of_memory(experiment: Experiment, log: str) -> bool:
    """Return whether the memory was full: the log says so, unless the system killed the training."""
    killed = experiment.ending is Ending.EXITED and experiment.exit_code in _KILLED
    return killed or tells_of_full_memory(log)


if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

# Papers; what cannot be fetched is left out


def named_papers(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match[1] for text in texts for match in _ID.finditer(text)))


class Papers:
    """Fetches each abstract once from arXiv's interface at `url`, within `limit` seconds or not at all."""

    def __init__(
        self, *, url: str = ARXIV, limit: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._limit = limit
        self._clock = clock
        self._found: dict[str, str] = {}
        self._retry_at = -math.inf

    async def abstracts(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return title and abstract of the papers named in `texts`, without those that cannot be fetched."""
        wanted = named_papers(texts)[:PAPERS]
        missing = [paper for paper in wanted if paper not in self._found]
        if missing and self._clock() >= self._retry_at:
            fetched = await self._fetch(missing)
            self._found |= fetched
            if not fetched:
                self._retry_at = self._clock() + _WAIT
        return tuple(self._found[paper] for paper in wanted if paper in self._found)

    async def _fetch(self, papers: Sequence[str]) -> dict[str, str]:
        import httpx

        query = {"id_list": ",".join(papers), "max_results": str(len(papers))}
        answer = b""
        try:
            async with (
                asyncio.timeout(self._limit),
                httpx.AsyncClient(follow_redirects=True) as client,
                client.stream("GET", self._url, params=query) as response,
            ):
                response.raise_for_status()
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > _BYTES:
                        break
        # A proxy or certificates that the environment names and httpx cannot use raise the last three.
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            log.info("no abstracts from %s: %s", self._url, error or "no answer in time")
            return {}
        found = read_feed(answer)
        return {paper: found[paper] for paper in papers if paper in found}


def read_feed(answer: bytes) -> dict[str, str]:
    """Return the abstracts in an Atom feed of arXiv by id; what is no such feed has none."""
    if b"<!DOCTYPE" in answer or b"<!ENTITY" in answer:  # a feed has neither, an attack would
        return {}
    from xml.etree import ElementTree as ET

    try:
        feed = ET.fromstring(answer)  # noqa: S314 - see the lines above
    except (ET.ParseError, LookupError, ValueError):  # the last two tell of encodings
        return {}
    found = {}
    for entry in feed.iter(f"{_ATOM}entry"):
        link, title, summary = (_text(entry, name) for name in ("id", "title", "summary"))
        match = _ID.search(link)
        if match and title and summary:
            found[match[1]] = f"{title} (arXiv:{match[1]})\n{summary}"[:_CHARACTERS]
    return found


def _text(entry: ET.Element, name: str) -> str:
    return " ".join((entry.findtext(f"{_ATOM}{name}") or "").split())
