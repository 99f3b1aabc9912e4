from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from loop.experiment import EventKind, Run, RunState, Status
from loop.store.outbox import Outbox, refusals
from notifiers.channel import GoneError, RateLimitedError, RefusedError, UnreachableError
from notifiers.delivery.delivery import Delivery
from notifiers.delivery.rate_limit import slack_spacing
from tests.notifiers.desk import Desk
from tests.notifiers.stories import call, decide, start


async def test_a_new_channel_is_told_what_happens_from_now_on(desk: Desk) -> None:
    run = start(desk.journal)
    assert await desk.told() == []
    decide(desk.journal, run, 0, Status.KEEP)
    desk.journal.set_state(run, RunState.PAUSED)
    assert await desk.told() == ["Experiment #0: try 0", "Run mar12 is paused: by command"]


async def test_what_was_told_is_not_told_again_after_a_restart(desk: Desk, run: Run) -> None:
    call(desk.journal, run, "first")
    assert len(await desk.told()) == 1
    desk.restart()
    assert await desk.told() == []
    assert desk.states() == ["sent", "sent"]


async def test_a_digest_has_the_buttons_of_the_state_when_it_is_sent(desk: Desk, run: Run) -> None:
    decide(desk.journal, run, 0, Status.KEEP)
    desk.journal.set_state(run, RunState.PAUSED)
    await desk.delivery.catch_up()
    ((*_, last),) = desk.channel.sent[0].message.buttons
    assert last.label == "Resume"


async def test_news_from_another_thread_is_told_without_waiting(desk: Desk, run: Run) -> None:
    telling = asyncio.create_task(desk.delivery.run())
    for reason in ("first", "second"):
        desk.channel.told.clear()
        await asyncio.to_thread(call, desk.journal, run, reason)
        await desk.channel.told.wait()
    telling.cancel()
    await asyncio.wait({telling})
    assert desk.channel.heads == ["Run mar12 needs a person: first", "Run mar12 needs a person: second"]
    assert desk.journal.listeners == []


# Failures


async def test_a_dead_network_is_tried_again_with_growing_pauses(desk: Desk, run: Run) -> None:
    call(desk.journal, run, "first")
    desk.channel.fail(*[UnreachableError("no route to host")] * 10)
    assert await desk.told() == ["Run mar12 needs a person: first"]
    assert desk.time.slept == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]  # seconds
    desk.time.slept.clear()
    call(desk.journal, run, "second")
    desk.channel.fail(UnreachableError("no route to host"))
    await desk.delivery.catch_up()
    assert desk.time.slept == [2]  # it was well in between


async def test_trouble_is_known_while_it_lasts(desk: Desk, run: Run) -> None:
    call(desk.journal, run, "first")
    since, seen = desk.time.now, []
    desk.channel.fail(UnreachableError("no route to host"), UnreachableError("502"))
    original = desk.channel.send

    async def send(*args: object, **options: object) -> str:
        seen.append(desk.delivery.trouble)
        return await original(*args, **options)  # type: ignore[arg-type]

    desk.channel.send = send  # type: ignore[method-assign]
    await desk.delivery.catch_up()
    assert [(trouble.since, trouble.reason) for trouble in seen if trouble] == [
        (since, "no route to host"),
        (since, "502"),
    ]
    assert desk.delivery.trouble is None


async def test_who_asks_to_be_left_alone_is_left_alone_for_as_long(desk: Desk, run: Run) -> None:
    call(desk.journal, run, "first")
    desk.channel.fail(RateLimitedError(37), RateLimitedError(3))
    assert await desk.told() == ["Run mar12 needs a person: first"]
    assert desk.time.slept == [37, 3]


async def test_a_refused_message_is_put_aside_with_its_reason_and_the_next_is_told(
    desk: Desk, run: Run
) -> None:
    for reason in ("first", "second"):
        call(desk.journal, run, reason)
    desk.channel.fail(RefusedError("chat is read-only"))
    assert await desk.told() == ["Run mar12 needs a person: second"]
    assert desk.states() == ["sent", "refused", "sent"]
    (refusal,) = refusals(desk.journal)
    assert (refusal.channel, refusal.reason) == ("telegram:1", "chat is read-only")


async def test_a_lost_answer_is_the_only_reason_to_say_a_thing_twice(desk: Desk, run: Run) -> None:
    for reason in ("first", "second"):
        call(desk.journal, run, reason)
    desk.channel.fail(UnreachableError("read timeout"), taken=True)
    heads = await desk.told()
    assert [head[-6:].strip() for head in heads] == ["first", "first", "second"]


async def test_messages_are_spaced_out(desk: Desk, run: Run) -> None:
    spacing = slack_spacing(clock=desk.time.clock)
    desk.delivery = Delivery(desk.channel, desk.journal, spacing=spacing, clock=desk.time.clock)
    for reason in "abcd":
        call(desk.journal, run, reason)
    await desk.delivery.catch_up()
    at = [sent.at for sent in desk.channel.sent]
    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([1, 1, 1])


async def test_messages_about_a_run_answer_its_card_and_only_what_matters_is_for_all(
    desk: Desk, run: Run
) -> None:
    async def thread(run: Run) -> str:
        return f"card of {run.tag}"

    desk.delivery = Delivery(desk.channel, desk.journal, thread=thread, clock=desk.time.clock)
    decide(desk.journal, run, 0, Status.KEEP)
    decide(desk.journal, run, 1, Status.CRASH)
    desk.journal.set_state(run, RunState.STOPPED)
    await desk.delivery.catch_up()
    assert [(sent.reply_to, sent.broadcast) for sent in desk.channel.sent] == [
        ("card of mar12", True),
        ("card of mar12", False),
        ("card of mar12", True),
    ]


async def test_the_digest_of_what_somebody_asked_for_answers_the_message_that_asked(
    desk: Desk, run: Run
) -> None:
    async def thread(run: Run) -> str:
        return "card"

    desk.delivery = Delivery(
        desk.channel,
        desk.journal,
        thread=thread,
        asked=lambda experiment: "idea" if experiment.number == 1 else "",
        clock=desk.time.clock,
    )
    for number in range(3):
        decide(desk.journal, run, number, Status.DISCARD)
    await desk.delivery.catch_up()
    assert [sent.reply_to for sent in desk.channel.sent] == ["card", "idea", "card"]


async def test_a_card_that_somebody_deleted_does_not_take_the_message_along(desk: Desk, run: Run) -> None:
    outbox = Outbox(desk.journal, "telegram:1", now=lambda: 0.0)
    outbox.put_card(run.id, "old")
    desk.channel.deleted.add("old")

    async def thread(run: Run) -> str:
        return outbox.card(run.id)

    desk.delivery = Delivery(desk.channel, desk.journal, thread=thread, clock=desk.time.clock)
    call(desk.journal, run, "help")
    assert await desk.told() == ["Run mar12 needs a person: help"]
    assert outbox.card(run.id) == ""


async def test_a_card_that_cannot_be_made_yet_makes_the_message_wait(desk: Desk, run: Run) -> None:
    errors = [UnreachableError("no route to host"), RateLimitedError(9), GoneError("no such chat")]

    async def thread(run: Run) -> str:
        if errors:
            raise errors.pop(0)
        return "m1"

    desk.delivery = Delivery(desk.channel, desk.journal, thread=thread, clock=desk.time.clock, jitter=float)
    for reason in ("first", "second"):
        call(desk.journal, run, reason)
    assert await desk.told() == ["Run mar12 needs a person: second"]
    assert desk.time.slept == [2, 9]
    assert desk.states() == ["sent", "refused", "sent"]


async def test_unknown_kinds_of_events_are_passed_over(desk: Desk, run: Run) -> None:
    desk.journal.note(run.id, EventKind.SKIP_REQUESTED)
    assert await desk.told() == []
