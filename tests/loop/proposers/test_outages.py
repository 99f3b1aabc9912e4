from __future__ import annotations

from loop.experiment import EventKind
from loop.proposers.asking import BACKOFF, REST
from loop.proposers.protocol import OutOfReachError
from tests.loop.proposers.oracles import Institute


def test_a_model_is_left_alone_for_longer_and_longer(institute: Institute) -> None:
    outages = institute.outages()
    for rest in (*BACKOFF, BACKOFF[-1]):
        assert outages.may_ask("oracle")
        outages.failed(1, "oracle", OutOfReachError("It is asleep."))
        institute.now += rest - 1
        assert not outages.may_ask("oracle")
        institute.now += 1
    assert outages.may_ask("oracle")
    outages.answered(1, "oracle")
    outages.failed(1, "oracle", OutOfReachError("It is asleep."))
    institute.now += BACKOFF[0]
    assert outages.may_ask("oracle")


def test_what_the_provider_asks_for_is_honoured(institute: Institute) -> None:
    outages = institute.outages()
    outages.failed(1, "oracle", OutOfReachError("Slow down.", retry_after=600.0))
    institute.now += 599
    assert not outages.may_ask("oracle")
    assert outages.may_ask("another")
    institute.now += 1
    assert outages.may_ask("oracle")


def test_a_model_without_ideas_is_in_reach_and_nobody_is_told(institute: Institute) -> None:
    outages = institute.outages()
    outages.rest("oracle")
    assert not outages.may_have_ideas("oracle")
    assert outages.may_ask("oracle")
    assert outages.is_healthy("oracle")
    institute.now += REST
    assert outages.may_have_ideas("oracle")
    assert institute.told() == []


def test_an_outage_is_told_when_it_begins_and_when_it_ends(institute: Institute) -> None:
    institute.outages().answered(1, "oracle")
    institute.outages().failed(1, "oracle", OutOfReachError("It is down."))
    institute.outages().failed(1, "oracle", OutOfReachError("It is still down."))
    institute.outages().answered(1, "oracle")
    institute.outages().answered(1, "oracle")
    assert institute.told() == [
        "oracle is out of reach, the run goes on without it: It is down.",
        "oracle is within reach again",
    ]


def test_a_person_is_called_where_waiting_does_not_help(institute: Institute) -> None:
    for needs_person in (False, True, False, True):
        institute.outages().failed(1, "oracle", OutOfReachError("No.", needs_person=needs_person))
    assert len(institute.told(EventKind.NOTED)) == 1
    assert len(institute.told(EventKind.NEEDS_ATTENTION)) == 1
    institute.outages().answered(1, "oracle")
    assert institute.told()[-1] == "oracle is within reach again"
