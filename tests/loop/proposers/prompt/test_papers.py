from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from loop.proposers.prompt.context import PAPERS, Papers, named_papers, read_feed

PROGRAM = "# Muon, https://arxiv.org/abs/2502.16982v3, after arXiv:1711.05101\n# 1412.6980 is a number\n"


class Arxiv:
    """arXiv's interface: it knows some papers, and can refuse, be silent or talk nonsense."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.papers = {"2502.16982": "Muon is\n  scalable", "1711.05101": "Decoupled decay"}
        self.answer: web.Response | None = None
        self.silent = False
        self.closing = asyncio.Event()

    async def query(self, request: web.Request) -> web.Response:
        ids = request.query["id_list"]
        self.asked.append(ids)
        if self.silent:
            await self.closing.wait()
        entries = "".join(
            f"<entry><id>http://arxiv.org/abs/{paper}v1</id><title>Of {paper}</title>"
            f"<summary>\n {self.papers[paper]}</summary></entry>"
            for paper in ids.split(",")
            if paper in self.papers
        )
        feed = f'<feed xmlns="http://www.w3.org/2005/Atom"><id>the feed</id>{entries}</feed>'
        return self.answer or web.Response(text=feed, content_type="application/atom+xml")


@pytest.fixture
async def arxiv(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Arxiv]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Arxiv()
    application = web.Application()
    application.router.add_get("/api/query", made.query)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/query"
    yield made
    made.closing.set()
    await runner.cleanup()


def test_papers_are_named_in_several_ways() -> None:
    assert named_papers(
        [PROGRAM, "arxiv.org/pdf/2502.16982 and arXiv: cs/0112017, arxiv:math.gt/0309136"]
    ) == (
        "2502.16982",
        "1711.05101",
        "cs/0112017",
        "math.gt/0309136",
    )


async def test_abstracts_are_fetched_once(arxiv: Arxiv) -> None:
    wanted = (
        "Of 2502.16982 (arXiv:2502.16982)\nMuon is scalable",
        "Of 1711.05101 (arXiv:1711.05101)\nDecoupled decay",
    )
    papers = Papers(url=arxiv.url)
    assert await papers.abstracts([PROGRAM]) == wanted
    assert await papers.abstracts([PROGRAM]) == wanted
    assert arxiv.asked == ["2502.16982,1711.05101"]


async def test_an_unknown_paper_is_left_out(arxiv: Arxiv) -> None:
    del arxiv.papers["1711.05101"]
    (only,) = await Papers(url=arxiv.url).abstracts([PROGRAM])
    assert only.startswith("Of 2502.16982")


async def test_a_text_without_papers_asks_nobody(arxiv: Arxiv) -> None:
    assert await Papers(url=arxiv.url).abstracts(["nothing here"]) == ()
    assert arxiv.asked == []


async def test_only_a_few_papers_are_read(arxiv: Arxiv) -> None:
    texts = [f"arXiv:2501.{number:05}" for number in range(PAPERS + 3)]
    await Papers(url=arxiv.url).abstracts(texts)
    assert len(arxiv.asked[0].split(",")) == PAPERS


@pytest.mark.parametrize("trouble", ["refusal", "silence", "nonsense", "attack", "nobody"])
async def test_trouble_is_silent_and_not_asked_for_again_soon(arxiv: Arxiv, trouble: str) -> None:
    url = arxiv.url
    match trouble:
        case "refusal":
            arxiv.answer = web.Response(status=503)
        case "silence":
            arxiv.silent = True
        case "nonsense":
            arxiv.answer = web.Response(body=b"\x00<feed")
        case "attack":
            arxiv.answer = web.Response(text='<!DOCTYPE f [<!ENTITY a "b">]><feed>&a;</feed>')
        case "nobody":
            url = "http://127.0.0.1:1/"
    now = 0.0
    limit = 2.0 if trouble == "silence" else 10.0
    papers = Papers(url=url, limit=limit, clock=lambda: now)
    assert await papers.abstracts([PROGRAM]) == ()
    assert await papers.abstracts([PROGRAM]) == ()
    assert len(arxiv.asked) == (trouble != "nobody")
    arxiv.answer, arxiv.silent, now = None, False, 3601.0
    assert len(await papers.abstracts([PROGRAM])) == (2 if trouble != "nobody" else 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),  # needs a package that is not installed
        ("ALL_PROXY", "socks4://127.0.0.1:1"),
        ("ALL_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSL_CERT_FILE", __file__),
    ],
)
async def test_an_environment_that_httpx_cannot_use_only_costs_the_papers(
    arxiv: Arxiv,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    caplog.set_level("INFO", "loop.proposers.prompt.context")
    papers = Papers(url=arxiv.url)
    with monkeypatch.context() as environment:
        environment.setenv(name, value)
        assert await papers.abstracts([PROGRAM]) == ()
        assert await papers.abstracts([PROGRAM]) == ()
    assert caplog.text.count("no abstracts from") == 1
    assert arxiv.asked == []
    assert len(await Papers(url=arxiv.url).abstracts([PROGRAM])) == 2


@pytest.mark.parametrize("encoding", ["none", "shift_jis", "hex", "undefined"])
def test_a_feed_in_an_encoding_that_cannot_be_read_has_no_papers(encoding: str) -> None:
    assert read_feed(f'<?xml version="1.0" encoding="{encoding}"?><feed/>'.encode()) == {}


@given(st.binary())
def test_any_answer_can_be_read(answer: bytes) -> None:
    assert read_feed(answer) == {}
