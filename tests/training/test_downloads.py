from __future__ import annotations

import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training import sources
from training.sources import HarnessError

CONTENT = b"PAR1" + bytes(range(256)) * 4000 + b"PAR1"  # a mebibyte, about


class Host(ThreadingHTTPServer):
    """Serves `CONTENT` at every path, unless the path has tricks left: statuses, or `drop` half-way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.tricks: defaultdict[str, list[str]] = defaultdict(list)
        self.asked: list[tuple[str, str | None]] = []
        self.content = CONTENT

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        name, wanted = self.path.strip("/"), self.headers.get("Range")
        self.server.asked.append((name, wanted))
        trick = self.server.tricks[name].pop(0) if self.server.tricks[name] else ""
        content = self.server.content
        if trick.isdecimal():
            self.send_response(int(trick))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and trick != "whole" else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        part = content[start:]
        self.wfile.write(part[: len(part) // 2] if trick == "drop" else part)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "92000000")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Be quiet."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.01,))
        thread.start()
        yield host
        host.shutdown()
        thread.join()


@pytest.fixture
def fetch(host: Host, tmp_path: Path) -> Callable[[], Path]:
    def download() -> Path:
        path = tmp_path / "shard"
        sources.download(host.url("shard"), path, threading.Event(), lambda _: None, wait=0.001)
        return path

    return download


def part(folder: Path) -> Path:
    return folder / "shard.part"


def test_a_shard_arrives_whole_and_leaves_nothing_else(fetch: Callable[[], Path], tmp_path: Path) -> None:
    assert fetch().read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["shard"]


def test_a_download_that_drops_goes_on_where_it_was(host: Host, fetch: Callable[[], Path]) -> None:
    host.tricks["shard"] = ["drop"] * 10  # more often than attempts without any progress would be allowed
    assert fetch().read_bytes() == CONTENT
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for _, wanted in host.asked if wanted]
    assert len(starts) == 10
    assert starts == sorted(starts)
    assert len(set(starts)) == 10


@pytest.mark.parametrize("status", ["429", "500", "503"])
def test_a_server_that_is_busy_is_asked_again(status: str, host: Host, fetch: Callable[[], Path]) -> None:
    host.tricks["shard"] = [status, status, "drop", status]
    assert fetch().read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept(
    host: Host, fetch: Callable[[], Path], tmp_path: Path
) -> None:
    host.tricks["shard"] = ["drop"] + ["503"] * 100
    with pytest.raises(HarnessError, match=r"cannot be had \(503 .*kept for the next attempt"):
        fetch()
    assert CONTENT.startswith(part(tmp_path).read_bytes())
    assert part(tmp_path).stat().st_size > 0
    host.tricks.clear()
    assert fetch().read_bytes() == CONTENT


def test_what_is_not_there_is_not_asked_twice(host: Host, fetch: Callable[[], Path], tmp_path: Path) -> None:
    host.tricks["shard"] = ["404"]
    with pytest.raises(HarnessError, match="the server says 404 Not Found"):
        fetch()
    assert len(host.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_knows_no_ranges_sends_all_again(
    host: Host, fetch: Callable[[], Path], tmp_path: Path
) -> None:
    part(tmp_path).write_bytes(CONTENT[:1000])
    host.tricks["shard"] = ["whole"]
    assert fetch().read_bytes() == CONTENT


def test_a_part_that_is_already_whole_only_gets_its_name(fetch: Callable[[], Path], tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT)
    assert fetch().read_bytes() == CONTENT


def test_a_part_longer_than_the_original_is_thrown_away(fetch: Callable[[], Path], tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT + b"more")
    assert fetch().read_bytes() == CONTENT


def test_a_page_instead_of_parquet_is_refused(host: Host, fetch: Callable[[], Path], tmp_path: Path) -> None:
    host.content = b"<html>please log in</html>"
    with pytest.raises(HarnessError, match="is not a parquet file"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_is_a_sentence(tmp_path: Path) -> None:
    with Host() as gone:
        url = gone.url("shard")
    with pytest.raises(HarnessError, match="cannot be had"):
        sources.download(url, tmp_path / "shard", threading.Event(), lambda _: None, wait=0.001)


class TestWithoutInternet:
    """What cannot be reached is told within seconds, before the attempts of a download."""

    @pytest.fixture
    def gather(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
        def fails(url: str) -> str:
            monkeypatch.setenv("AUTORESEARCH_CLIMBMIX_URL", url)
            with pytest.raises(HarnessError) as refused:
                sources.gather("climbmix", 1, tmp_path / "data", tmp_path)
            return str(refused.value)

        yield fails
        assert list(tmp_path.iterdir()) == []

    def test_a_closed_port(self, gather: Callable[[str], str]) -> None:
        with Host() as gone:
            url = gone.url("data")
        assert gather(url).startswith("No answer from 127.0.0.1 ([Errno ")

    @pytest.mark.parametrize("silent", ["host", "names"])
    def test_silence(
        self, gather: Callable[[str], str], silent: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as host:  # it takes connections and says nothing
            monkeypatch.setattr(sources, "ASK_SECONDS", 0.2)
            if silent == "names":
                monkeypatch.setattr(socket, "getaddrinfo", lambda *_: over.wait(60))
            said = gather(f"http://127.0.0.1:{host.getsockname()[1]}/data")
            over.set()
        assert said.startswith("No answer from 127.0.0.1 (")
        assert "--source python" in said


class TestClimbmix:
    @pytest.fixture(autouse=True)
    def _here(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTORESEARCH_CLIMBMIX_URL", host.url("").rstrip("/"))

    def test_the_pinned_shards_are_validation_and_audit(self, host: Host, tmp_path: Path) -> None:
        paths = sources.gather("climbmix", 3, tmp_path / "data", tmp_path)
        names = {split: [path.name for path in paths] for split, paths in paths.items()}
        assert names == {
            "train": [f"shard_0000{index}.parquet" for index in range(3)],
            "val": ["shard_06542.parquet"],
            "audit": ["shard_06541.parquet"],
        }
        assert all(path.read_bytes() == CONTENT for path in (tmp_path / "data").iterdir())

    def test_the_size_is_said_before_it_begins(
        self, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host.tricks["shard_00000.parquet"] = ["404"]
        with pytest.raises(HarnessError, match="404"):
            sources.gather("climbmix", 10, tmp_path, tmp_path)
        said = capsys.readouterr().out
        assert said.startswith("Downloading 12 files, 1.1 GB: 2 min at 10 MB/s.")

    def test_only_what_is_not_there_is_fetched(self, host: Host, tmp_path: Path) -> None:
        sources.gather("climbmix", 1, tmp_path, tmp_path)
        host.asked.clear()
        sources.gather("climbmix", 2, tmp_path, tmp_path)
        assert host.asked == [("shard_00001.parquet", None)]

    def test_one_that_is_missing_ends_all(self, host: Host, tmp_path: Path) -> None:
        host.tricks["shard_06541.parquet"] = ["404"]
        with pytest.raises(HarnessError, match=r"shard_06541\.parquet cannot be had"):
            sources.gather("climbmix", 3, tmp_path, tmp_path)
