from __future__ import annotations

from loop.experiment import EventKind
from loop.proposers.calling import BACKOFF, PAUSE, available_again, unavailable
from loop.proposers.protocol import UnavailableError
from tests.loop.proposers.oracles import Institute


def test_a_model_is_left_alone_for_longer_and_longer(institute: Institute) -> None:
    availability = institute.availability()
    for rest in (*BACKOFF, BACKOFF[-1]):
        assert availability.is_available("oracle")
        availability.failed(1, "oracle", UnavailableError("It is asleep."))
        institute.now += rest - 1
        assert not availability.is_available("oracle")
        institute.now += 1
    assert availability.is_available("oracle")
    availability.answered(1, "oracle")
    availability.failed(1, "oracle", UnavailableError("It is asleep."))
    institute.now += BACKOFF[0]
    assert availability.is_available("oracle")


def test_what_the_provider_asks_for_is_honoured(institute: Institute) -> None:
    availability = institute.availability()
    availability.failed(1, "oracle", UnavailableError("Slow down.", retry_after=600.0))
    institute.now += 599
    assert not availability.is_available("oracle")
    assert availability.is_available("another")
    institute.now += 1
    assert availability.is_available("oracle")


def test_a_model_without_ideas_is_in_reach_and_nobody_is_told(institute: Institute) -> None:
    availability = institute.availability()
    availability.pause_proposals("oracle")
    assert not availability.may_propose("oracle")
    assert availability.is_available("oracle")
    assert availability.is_healthy("oracle")
    institute.now += PAUSE
    assert availability.may_propose("oracle")
    assert institute.told() == []


def test_an_outage_is_told_when_it_begins_and_when_it_ends(institute: Institute) -> None:
    institute.availability().answered(1, "oracle")
    institute.availability().failed(1, "oracle", UnavailableError("It is down."))
    institute.availability().failed(1, "oracle", UnavailableError("It is still down."))
    institute.availability().answered(1, "oracle")
    institute.availability().answered(1, "oracle")
    assert institute.told() == [
        unavailable("oracle", "It is down."),
        available_again("oracle"),
    ]


def test_a_person_is_called_where_waiting_does_not_help(institute: Institute) -> None:
    for needs_person in (False, True, False, True):
        institute.availability().failed(1, "oracle", UnavailableError("No.", needs_person=needs_person))
    assert len(institute.told(EventKind.NOTED)) == 1
    assert len(institute.told(EventKind.NEEDS_ATTENTION)) == 1
    institute.availability().answered(1, "oracle")
    assert institute.told()[-1] == available_again("oracle")
