"""Abstracts of the papers that a program names, from arXiv, for a run that is stuck.

They are worth a few seconds and no trouble: what cannot be fetched is left out, and what was fetched once is
read from disk.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loop.files import place
from loop.process.worker import in_thread

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

log = logging.getLogger(__name__)

URL = "https://export.arxiv.org/api/query"
"""The interface that arXiv asks programs to use (https://info.arxiv.org/help/api/user-manual.html)."""

MOST = 5
"""How many papers are read."""

_ID = re.compile(
    r"(?:arxiv\.org/(?:abs|pdf|html)/|arxiv:\s?)(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})", re.IGNORECASE
)
_REST = 3600.0  # seconds without asking again after a failure
_BYTES = 1_000_000
_CHARACTERS = 3000  # of one abstract; arXiv takes 1920
_ATOM = "{http://www.w3.org/2005/Atom}"


def named_papers(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the arXiv ids in `texts`, without their versions, each once."""
    return tuple(dict.fromkeys(match[1] for text in texts for match in _ID.finditer(text)))


class Papers:
    """Fetches abstracts and keeps them in `folder`.

    `url` is where arXiv's interface answers, within `limit` seconds or not at all; `clock` counts seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str = URL,
        limit: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._url = url
        self._limit = limit
        self._clock = clock
        self._rest_until = -math.inf

    async def abstracts(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return title and abstract of the papers named in `texts`, without those that are out of reach."""
        wanted = named_papers(texts)[:MOST]
        found = await in_thread(self._kept, wanted)
        missing = [paper for paper in wanted if paper not in found]
        if missing and self._clock() >= self._rest_until:
            fetched = await self._fetch(missing)
            if not fetched:
                self._rest_until = self._clock() + _REST
            await in_thread(self._keep, fetched)
            found |= fetched
        return tuple(found[paper] for paper in wanted if paper in found)

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

    def _kept(self, papers: Iterable[str]) -> dict[str, str]:
        texts = ((paper, self._read(paper)) for paper in papers)
        return {paper: text for paper, text in texts if text}

    def _read(self, paper: str) -> str:
        try:
            return (self._folder / _name(paper)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # it is fetched again
            return ""

    def _keep(self, abstracts: dict[str, str]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for paper, text in abstracts.items():
                place(self._folder, _name(paper), text.encode(), executable=False)
        except OSError as error:  # a full disk is for others to tell
            log.info("%s cannot be written: %s", self._folder, error.strerror)


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


def _name(paper: str) -> str:
    return f"{paper.lower().replace('/', '_')}.txt"


def _text(entry: ET.Element, name: str) -> str:
    return " ".join((entry.findtext(f"{_ATOM}{name}") or "").split())
