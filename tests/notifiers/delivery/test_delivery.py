from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from loop.experiment import EventKind, Run, RunState, Status
from loop.store.experiments import IdeaBox
from loop.store.outbox import Outbox, Trouble, refusals
from notifiers.delivery.delivery import Delivery, standings
from notifiers.delivery.rate_limit import slack_spacing
from notifiers.message import GoneError, RateLimitedError, RefusedError, UnreachableError
from tests.notifiers.bench import Bench
from tests.notifiers.stories import call, decide, needs_you, start, turned


async def test_a_new_channel_is_told_what_happens_from_now_on(bench: Bench) -> None:
    run = start(bench.journal)
    assert await bench.told() == []
    decide(bench.journal, run, 0, Status.KEEP)
    bench.journal.set_state(run, RunState.PAUSED)
    assert await bench.told() == ["Experiment #0: try 0", turned(RunState.PAUSED)]


async def test_what_was_told_is_not_told_again_after_a_restart(bench: Bench, run: Run) -> None:
    call(bench.journal, run, "first")
    assert len(await bench.told()) == 1
    bench.restart()
    assert await bench.told() == []
    assert bench.states() == ["sent", "sent"]


async def test_a_digest_has_the_buttons_of_the_state_when_it_is_sent(bench: Bench, run: Run) -> None:
    decide(bench.journal, run, 0, Status.KEEP)
    bench.journal.set_state(run, RunState.STOPPED)
    await bench.delivery.catch_up()
    labels = [button.label for row in bench.channel.sent[0].message.buttons for button in row]
    assert "Again ×3" not in labels


async def test_news_from_another_thread_is_told_without_waiting(bench: Bench, run: Run) -> None:
    telling = asyncio.create_task(bench.delivery.run())
    for reason in ("first", "second"):
        bench.channel.told.clear()
        await asyncio.to_thread(call, bench.journal, run, reason)
        await bench.channel.told.wait()
    telling.cancel()
    await asyncio.wait({telling})
    assert bench.channel.heads == [needs_you("first"), needs_you("second")]
    assert bench.journal.listeners == []


# Failures


async def test_a_dead_network_is_tried_again_with_growing_pauses(bench: Bench, run: Run) -> None:
    call(bench.journal, run, "first")
    bench.channel.fail(*[UnreachableError("no route to host")] * 10)
    assert await bench.told() == [needs_you("first")]
    assert bench.time.slept == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]  # seconds
    bench.time.slept.clear()
    call(bench.journal, run, "second")
    bench.channel.fail(UnreachableError("no route to host"))
    await bench.delivery.catch_up()
    assert bench.time.slept == [2]  # it was well in between


async def test_trouble_is_known_while_it_lasts(bench: Bench, run: Run) -> None:
    call(bench.journal, run, "first")
    since, seen = bench.time.now, []
    bench.channel.fail(UnreachableError("no route to host"), UnreachableError("502"))
    original = bench.channel.send

    async def send(*args: object, **options: object) -> str:
        seen.append(bench.delivery.trouble)
        return await original(*args, **options)  # type: ignore[arg-type]

    bench.channel.send = send  # type: ignore[method-assign]
    await bench.delivery.catch_up()
    assert [(trouble.since, trouble.reason) for trouble in seen if trouble] == [
        (since, "no route to host"),
        (since, "502"),
    ]
    assert bench.delivery.trouble is None


async def test_who_asks_to_be_left_alone_is_left_alone_for_as_long(bench: Bench, run: Run) -> None:
    call(bench.journal, run, "first")
    bench.channel.fail(RateLimitedError(37), RateLimitedError(3))
    assert await bench.told() == [needs_you("first")]
    assert bench.time.slept == [37, 3]


async def test_a_refused_message_is_put_aside_with_its_reason_and_the_next_is_told(
    bench: Bench, run: Run
) -> None:
    for reason in ("first", "second"):
        call(bench.journal, run, reason)
    bench.channel.fail(RefusedError("text is not supported"))
    less = "The message about mar12 was refused here: text is not supported"
    assert await bench.told() == [less, needs_you("second")]
    assert bench.states() == ["sent", "refused", "sent"]
    (refusal,) = refusals(bench.journal)
    assert (refusal.channel, refusal.reason) == ("telegram:1", "text is not supported")


async def test_a_chat_that_refuses_everything_for_a_while_loses_nothing(bench: Bench, run: Run) -> None:
    for reason in ("first", "second"):
        call(bench.journal, run, reason)
    since, seen = bench.time.now, []
    # Each time the message is refused, and then the sentence that says so.
    bench.channel.fail(*[RefusedError("TOPIC_CLOSED")] * 6)
    sleep = bench.time.clock.sleep

    async def look(seconds: float) -> None:
        seen.append([each.last.trouble for each in standings(bench.journal)])
        await sleep(seconds)

    clock = replace(bench.time.clock, sleep=look)
    bench.delivery = Delivery(bench.channel, bench.journal, clock=clock, jitter=float)
    assert await bench.told() == [needs_you("first"), needs_you("second")]
    assert bench.states() == ["sent", "sent", "sent"]
    assert seen == [[Trouble(since, "TOPIC_CLOSED")]] * 3
    assert [each.last.trouble for each in standings(bench.journal)] == [None]


async def test_a_lost_answer_is_the_only_reason_to_say_a_thing_twice(bench: Bench, run: Run) -> None:
    for reason in ("first", "second"):
        call(bench.journal, run, reason)
    bench.channel.fail(UnreachableError("read timeout"), taken=True)
    heads = await bench.told()
    assert [head[-6:].strip() for head in heads] == ["first", "first", "second"]


async def test_messages_are_spaced_out(bench: Bench, run: Run) -> None:
    spacing = slack_spacing(clock=bench.time.clock)
    bench.delivery = Delivery(bench.channel, bench.journal, spacing=spacing, clock=bench.time.clock)
    for reason in "abcd":
        call(bench.journal, run, reason)
    await bench.delivery.catch_up()
    at = [sent.at for sent in bench.channel.sent]
    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([1, 1, 1])


async def test_messages_about_a_run_answer_its_card_and_only_what_matters_is_for_all(
    bench: Bench, run: Run
) -> None:
    async def thread(run: Run) -> str:
        return f"card of {run.tag}"

    bench.delivery = Delivery(bench.channel, bench.journal, thread=thread, clock=bench.time.clock)
    decide(bench.journal, run, 0, Status.KEEP)
    decide(bench.journal, run, 1, Status.CRASH)
    bench.journal.set_state(run, RunState.STOPPED)
    await bench.delivery.catch_up()
    assert [(sent.reply_to, sent.broadcast) for sent in bench.channel.sent] == [
        ("card of mar12", True),
        ("card of mar12", False),
        ("card of mar12", True),
    ]


async def test_the_digest_of_what_somebody_asked_for_answers_the_message_that_asked(
    bench: Bench, run: Run
) -> None:
    async def thread(run: Run) -> str:
        return "card"

    bench.delivery = Delivery(bench.channel, bench.journal, thread=thread, clock=bench.time.clock)
    ideas = IdeaBox(bench.journal)
    here = ideas.add(run.id, "a", author="ann", channel=bench.channel.name, message_id="idea")
    elsewhere = ideas.add(run.id, "b", author="bob", channel="slack:C1", message_id="other")
    for number, idea in enumerate([None, here.id, elsewhere.id]):
        decide(bench.journal, run, number, Status.DISCARD, idea=idea)
    await bench.delivery.catch_up()
    assert [sent.reply_to for sent in bench.channel.sent] == ["card", "idea", "card"]


async def test_a_card_that_somebody_deleted_does_not_take_the_message_along(bench: Bench, run: Run) -> None:
    outbox = Outbox(bench.journal, "telegram:1", now=lambda: 0.0)
    outbox.put_card(run.id, "old")
    bench.channel.deleted.add("old")

    async def thread(run: Run) -> str:
        return outbox.card(run.id)

    bench.delivery = Delivery(bench.channel, bench.journal, thread=thread, clock=bench.time.clock)
    call(bench.journal, run, "help")
    assert await bench.told() == [needs_you("help")]
    assert outbox.card(run.id) == ""


async def test_a_card_that_cannot_be_made_yet_makes_the_message_wait(bench: Bench, run: Run) -> None:
    errors = [UnreachableError("no route to host"), RateLimitedError(9), GoneError("no such chat")]

    async def thread(run: Run) -> str:
        if errors:
            raise errors.pop(0)
        return "m1"

    bench.delivery = Delivery(
        bench.channel, bench.journal, thread=thread, clock=bench.time.clock, jitter=float
    )
    for reason in ("first", "second"):
        call(bench.journal, run, reason)
    less = "The message about mar12 was refused here: no such chat"
    assert await bench.told() == [less, needs_you("second")]
    assert bench.time.slept == [2, 9]
    assert bench.states() == ["sent", "refused", "sent"]


async def test_unknown_kinds_of_events_are_passed_over(bench: Bench, run: Run) -> None:
    bench.journal.note(run.id, EventKind.SKIP_REQUESTED)
    assert await bench.told() == []
