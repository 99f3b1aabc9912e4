from __future__ import annotations

import base64
import logging
from datetime import UTC
from pathlib import Path

import pytest

from loop.experiment import Status
from notifiers.channels.apprise_channel import AppriseChannel
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.preferences import Preferences, Verbosity
from notifiers.message import Attachment, Message, RefusedError, UnreachableError
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import decide, open_journal, start
from tests.servers.web_hook import WebHook

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise falls back on it


async def test_the_text_and_the_block_arrive_as_they_are(service: WebHook) -> None:
    channel = AppriseChannel(service.url)
    assert await channel.send(Message("a <b> & *c*\nnext", "x  y\n1  2")) == ""
    assert service.bodies == ["a <b> & *c*\nnext\n\nx  y\n1  2"]


async def test_a_file_goes_along_where_it_is_taken(service: WebHook) -> None:
    channel = AppriseChannel(service.url)
    await channel.send(Message("news", attachments=(Attachment("mar12.png", b"PNG", "the chart"),)))
    (sent,) = service.sent
    (file,) = sent["attachments"]
    assert (sent["message"], file["filename"], file["mimetype"]) == ("news", "mar12.png", "image/png")
    assert base64.b64decode(file["base64"]) == b"PNG"


async def test_where_files_are_refused_the_text_arrives(service: WebHook) -> None:
    service.files_status = 413
    channel = AppriseChannel(service.url)
    await channel.send(Message("news", attachments=(Attachment("mar12.png", b"PNG"),)))
    assert [(sent["message"], len(sent["attachments"])) for sent in service.sent] == [
        ("news", 1),
        ("news", 0),
    ]


async def test_what_was_sent_cannot_be_changed(service: WebHook) -> None:
    channel = AppriseChannel(service.url)
    await channel.pin("")
    with pytest.raises(RefusedError):
        await channel.edit("", Message("news"))
    assert service.bodies == []


async def test_a_failure_can_be_tried_again_and_gives_nothing_away(
    service: WebHook, caplog: pytest.LogCaptureFixture
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


def test_each_address_has_a_name_of_its_own_that_stays(service: WebHook) -> None:
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


async def test_a_service_that_was_down_is_told_all_in_the_end(service: WebHook, tmp_path: Path) -> None:
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
