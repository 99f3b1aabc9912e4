"""The reports of recorded nights, as they are read in the morning on every platform."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bot.local.terminal import render as on_terminal
from loop.experiment import Goal
from loop.results.report import WakeUpReport, make_report
from loop.results.table import parse_results
from notifiers.channels.apprise_channel import AppriseChannel
from notifiers.channels.slack_blocks import render as on_slack
from notifiers.channels.telegram import lay_out
from notifiers.message import Attachment, Message
from notifiers.text.notification import report_buttons
from notifiers.text.report import WIDTH, report_message
from tests.loop.results.test_report import published_night
from tests.notifiers.golden import FOLDER
from tests.notifiers.golden import check_text as check_golden
from tests.notifiers.mornings import MORNINGS, Recorder, open_recorder
from tests.servers.slack_rules import refusal
from tests.servers.telegram_rules import CAPTION_LIMIT, check_keyboard, check_text
from tests.servers.web_hook import WebHook

ROWS = 25
"""Rows of text that a phone shows at once; a line of more than `WIDTH` characters takes several."""


@pytest.fixture(scope="module", params=MORNINGS, ids=lambda morning: morning.__name__)
def morning(request: pytest.FixtureRequest) -> Callable[[Recorder], WakeUpReport]:
    found: Callable[[Recorder], WakeUpReport] = request.param
    return found


@pytest.fixture(scope="module")
def night(
    morning: Callable[[Recorder], WakeUpReport], tmp_path_factory: pytest.TempPathFactory
) -> WakeUpReport:
    with open_recorder(tmp_path_factory.mktemp("night")) as recorder:
        return morning(recorder)


@pytest.fixture(scope="module")
def message(night: WakeUpReport) -> Message:
    assert night.run is not None
    made = report_message(night)
    buttons = report_buttons(night.run.state, changed=(night.start, night.report.best_number or 0))
    return Message(made.text, buttons=buttons, attachments=(Attachment("mar12.png", b"PNG", "the chart"),))


def test_it_reads_as_it_did(morning: Callable[[Recorder], WakeUpReport], message: Message) -> None:
    check_golden(morning.__name__, message.text)


def test_it_fits_one_screen_and_says_nothing_empty(message: Message) -> None:
    lines = message.text.split("\n")
    assert sum(max(1, -(-len(line) // WIDTH)) for line in lines) <= ROWS
    assert not any(line.endswith((":", " ", "·")) for line in lines)
    assert "\n\n\n" not in message.text
    assert "-0.000000" not in message.text
    assert "None" not in message.text


def test_telegram_shows_it_as_one_picture_with_all_of_it_below(message: Message) -> None:
    (part,) = lay_out(message)
    assert part.file is not None
    assert check_text(part.page.html, "HTML", limit=CAPTION_LIMIT) == message.text
    rows = [[{"text": b.label, "callback_data": b.command} for b in row] for row in message.buttons]
    check_keyboard(json.dumps({"inline_keyboard": rows}))


def test_slack_and_a_terminal_show_all_of_it(message: Message) -> None:
    rendered = on_slack(message)
    assert refusal("chat.postMessage", {"text": rendered.text, "blocks": rendered.blocks}) == ""
    assert not rendered.file
    assert on_terminal(message) == message.text


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise falls back on it
async def test_other_services_are_sent_all_of_it_and_the_chart(message: Message, service: WebHook) -> None:
    """Pushover's 1,024 characters are the least of those that show more than an SMS does."""
    await AppriseChannel(service.url).send(message)
    (sent,) = service.sent
    assert sent["message"] == message.text
    assert len(message.text) <= 1024
    assert [file["filename"] for file in sent["attachments"]] == ["mar12.png"]


def test_no_other_golden_text_lies_about() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {
        *(morning.__name__ for morning in MORNINGS),
        "published",
    }


def test_the_published_night_from_its_file_alone() -> None:
    found = parse_results(published_night())
    report = make_report(found.rows, metric=found.metric, goal=Goal.MINIMIZE)
    text = report_message(WakeUpReport(report=report, rows=found.rows)).text
    check_golden("published", text)
