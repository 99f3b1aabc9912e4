from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loop.experiment import Status
from notifiers.apprise_channel import AppriseChannel
from notifiers.channel import RefusedError, UnreachableError
from notifiers.delivery import Delivery
from notifiers.message import Message
from notifiers.preferences import Preferences, Verbosity
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import decide, open_journal, start

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise falls back on it


class Service:
    """A web hook on this machine that remembers what it was sent and answers with `status`."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                service.bodies.append(json.loads(self.rfile.read(length))["message"])
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://ada:s3cret@127.0.0.1:{self.server.server_port}/hook-t0ken"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.01,))
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


async def test_the_text_and_the_block_arrive_as_they_are(service: Service) -> None:
    channel = AppriseChannel(service.url)
    assert await channel.send(Message("a <b> & *c*\nnext", "x  y\n1  2")) == ""
    assert service.bodies == ["a <b> & *c*\nnext\n\nx  y\n1  2"]


async def test_what_was_sent_cannot_be_changed(service: Service) -> None:
    channel = AppriseChannel(service.url)
    await channel.pin("")
    with pytest.raises(RefusedError):
        await channel.edit("", Message("news"))
    assert service.bodies == []


async def test_a_failure_can_be_tried_again_and_gives_nothing_away(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    channel = AppriseChannel(service.url)
    service.status = 500
    with pytest.raises(UnreachableError) as failure:
        await channel.send(Message("news"))
    shown = f"{failure.value} {channel.name} {caplog.messages}"
    assert "t0ken" not in shown
    assert "s3cret" not in shown
    assert channel.name.startswith("apprise:json-")


def test_each_address_has_a_name_of_its_own_that_stays(service: Service) -> None:
    assert AppriseChannel(service.url).name == AppriseChannel(service.url).name
    assert AppriseChannel(service.url).name != AppriseChannel(service.url + "2").name


@pytest.mark.parametrize("url", ["", "s3cret", "slack://s3cret", "nosuch://s3cret@host"])
def test_an_address_that_is_not_understood_is_refused_without_being_repeated(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match="apprise") as refusal:
        AppriseChannel(url)
    assert "s3cret" not in f"{refusal.value} {caplog.messages}"


async def test_a_service_that_was_down_is_told_all_in_the_end(service: Service, tmp_path: Path) -> None:
    time = VirtualTime()
    with open_journal(tmp_path, time) as journal:
        delivery = Delivery(
            AppriseChannel(service.url),
            journal,
            preferences=lambda: Preferences(Verbosity.KEEPS),
            clock=time.clock,
            zone=UTC,
        )
        await delivery.catch_up()
        run = start(journal)
        decide(journal, run, 0, Status.KEEP)
        decide(journal, run, 1, Status.DISCARD)
        service.status = 503
        sleep = time.clock.sleep

        async def mended_after_the_first_wait(seconds: float) -> None:
            service.status = 200
            await sleep(seconds)

        delivery = Delivery(
            AppriseChannel(service.url),
            journal,
            preferences=lambda: Preferences(Verbosity.KEEPS),
            clock=type(time.clock)(time.clock.now, time.clock.monotonic, mended_after_the_first_wait),
        )
        await delivery.catch_up()
        heads = [body.splitlines()[0] for body in service.bodies]
        assert heads == ["Run mar12 started", "Run mar12 started", "Experiment #0: try 0"]
