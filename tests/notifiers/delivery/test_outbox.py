from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop.experiment import EventKind, Stage, Status
from loop.store.journal import Journal
from loop.store.outbox import Entry, Outbox, State, refusals
from notifiers.delivery import delivery as module
from notifiers.delivery.delivery import read_pending
from tests.notifiers.recording import VirtualTime
from tests.notifiers.stories import call, decide, head, needs_you, open_journal, start


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def journal(tmp_path: Path, time: VirtualTime) -> Iterator[Journal]:
    with open_journal(tmp_path, time) as journal:
        yield journal


@pytest.fixture
def outbox(journal: Journal, time: VirtualTime) -> Outbox:
    outbox = Outbox(journal, "telegram:1", now=lambda: time.now)
    outbox.open()
    return outbox


def waiting(journal: Journal, outbox: Outbox, *, held: bool = True) -> list[tuple[str, State | None]]:
    return [(head(item.news), item.state) for item in read_pending(journal, outbox, held=held)]


def test_a_new_channel_hears_nothing_of_the_past(journal: Journal, time: VirtualTime) -> None:
    run = start(journal)
    outbox = Outbox(journal, "slack:C1", now=lambda: time.now)
    outbox.open()
    assert waiting(journal, outbox) == []
    call(journal, run, "help")
    outbox.open()  # as at the next start
    assert waiting(journal, outbox) == [(needs_you("help"), None)]


def test_only_events_that_say_something_are_news(journal: Journal, outbox: Outbox) -> None:
    run = start(journal)
    decide(journal, run, 0, Status.KEEP)
    journal.note(run.id, EventKind.SKIP_REQUESTED)
    assert [line for line, _ in waiting(journal, outbox)] == ["Run mar12 started", "Experiment #0: try 0"]


def test_what_was_put_off_comes_back_in_order_until_it_is_settled(journal: Journal, outbox: Outbox) -> None:
    run = start(journal)
    for reason in "abcd":
        call(journal, run, reason)
    ids = [item.news.event.id for item in read_pending(journal, outbox)]
    outbox.record([Entry(ids[0], State.HELD), Entry(ids[1], State.FOLLOWS), Entry(ids[2], State.SENT)])
    assert [state for _, state in waiting(journal, outbox)] == [State.HELD, State.FOLLOWS, None, None]
    assert [state for _, state in waiting(journal, outbox, held=False)] == [State.FOLLOWS, None, None]
    outbox.record([Entry(ids[0], State.COLLAPSED), Entry(ids[1], State.SENT)])
    assert [state for _, state in waiting(journal, outbox)] == [None, None]  # the cursor never goes back


def test_the_platforms_id_of_the_message_is_recorded(
    journal: Journal, outbox: Outbox, time: VirtualTime
) -> None:
    call(journal, start(journal), "help")
    event_id = read_pending(journal, outbox)[-1].news.event.id
    outbox.record([Entry(event_id, State.SENT)], message_id="1700.42")
    (row,) = journal.query("SELECT * FROM deliveries")
    assert tuple(row) == ("telegram:1", event_id, "sent", "1700.42", "", time.now)


def test_many_events_that_say_nothing_hide_none_that_does(
    journal: Journal, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS", 10)
    run = start(journal)
    outbox.record([Entry(read_pending(journal, outbox)[0].news.event.id, State.SENT)])
    for _ in range(35):
        journal.note(run.id, EventKind(Stage.TRAINING.value))
    assert waiting(journal, outbox) == []
    call(journal, run, "help")
    assert len(waiting(journal, outbox)) == 1


def test_of_very_much_held_news_the_oldest_comes_first_and_alone(
    journal: Journal, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD", 2)
    run = start(journal)
    for reason in "abc":
        call(journal, run, reason)
    ids = [item.news.event.id for item in read_pending(journal, outbox)]
    outbox.record([Entry(number, State.HELD) for number in ids[:3]])
    assert [item.news.event.id for item in read_pending(journal, outbox)] == ids[:2]
    outbox.record([Entry(number, State.COLLAPSED) for number in ids[:2]])
    assert [item.news.event.id for item in read_pending(journal, outbox)] == ids[2:]


def test_what_a_platform_refused_can_be_listed(journal: Journal, outbox: Outbox, time: VirtualTime) -> None:
    run = start(journal)
    for reason in "abc":
        call(journal, run, reason)
    ids = [item.news.event.id for item in read_pending(journal, outbox)]
    for number in ids[:3]:
        outbox.record([Entry(number, State.REFUSED, f"chat not found {number}")])
        time.now += 1
    found = refusals(journal, last=2)
    assert [(refusal.event_id, refusal.reason) for refusal in found] == [
        (ids[1], f"chat not found {ids[1]}"),
        (ids[2], f"chat not found {ids[2]}"),
    ]
    assert {refusal.channel for refusal in found} == {"telegram:1"}


def test_cards_are_found_again_and_each_channel_has_its_own(
    journal: Journal, outbox: Outbox, time: VirtualTime
) -> None:
    one, two = start(journal), start(journal, "mar13")
    outbox.put_card(one.id, "m1")
    outbox.put_card(two.id, "m2", closed=True)
    again = Outbox(journal, "telegram:1", now=lambda: time.now)
    assert (again.card(one.id), again.card(two.id)) == ("m1", "m2")
    assert again.open_cards() == {one.id: "m1"}
    assert Outbox(journal, "slack:C1", now=lambda: time.now).card(one.id) == ""
    again.drop_card(one.id, "m0")  # another one than it is now
    assert again.card(one.id) == "m1"
    again.drop_card(one.id, "m1")
    assert again.card(one.id) == ""


def test_a_page_of_news_is_read_in_few_queries(
    journal: Journal, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(journal)
    for number in range(20):
        decide(journal, run, number, Status.CRASH if number % 2 else Status.KEEP)
    ids = [item.news.event.id for item in read_pending(journal, outbox)]
    outbox.record([Entry(event_id, State.HELD) for event_id in ids[:15]])
    asked = []

    def counted(read: Callable[..., object]) -> Callable[..., object]:
        def ask(*args: object) -> object:
            asked.append(args)
            return read(*args)

        return ask

    monkeypatch.setattr(Journal, "query", counted(Journal.query))  # all that reads
    assert len(read_pending(journal, outbox)) == len(ids) == 21
    assert len(asked) < 12
