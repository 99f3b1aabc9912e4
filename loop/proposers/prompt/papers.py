"""Abstracts of the papers that a program names, from arXiv, for a run that is stuck.

What cannot be fetched is left out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

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
    return tuple(dict.fromkeys(match[1] for text in texts for match in _ID.finditer(text)))


class Papers:
    """Fetches each abstract once from arXiv's interface at `url`, within `limit` seconds or not at all."""

    def __init__(
        self, *, url: str = URL, limit: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._limit = limit
        self._clock = clock
        self._found: dict[str, str] = {}
        self._retry_at = -math.inf

    async def abstracts(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return title and abstract of the papers named in `texts`, without those that cannot be fetched."""
        wanted = named_papers(texts)[:MOST]
        missing = [paper for paper in wanted if paper not in self._found]
        if missing and self._clock() >= self._retry_at:
            fetched = await self._fetch(missing)
            self._found |= fetched
            if not fetched:
                self._retry_at = self._clock() + _REST
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
