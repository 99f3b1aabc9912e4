from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.access import HERE, Access, AllowList, Role, Sender
from bot.commands.table import pressable
from bot.setup.settings import load_settings
from bot.slack import SLACK
from bot.telegram import told_places
from loop.experiment import RunState
from notifiers.message import Message
from notifiers.text.notification import card_buttons

ANN, BOB, GROUP = "100", "200", "-1001"


def telegram(user: str, place: str) -> Sender:
    return Sender("telegram", user, place, "somebody")


def access(users: dict[str, Role] | None = None, places: dict[str, Role | None] | None = None) -> Access:
    return Access({"telegram": AllowList(users or {}, places or {})})


def test_without_lists_nobody_is_let_in_but_may_ask_for_ids() -> None:
    nobody = access()
    assert nobody.role_of(telegram(ANN, ANN)) is None
    assert nobody.may_ask_id(telegram(ANN, ANN))
    assert Access({}).role_of(telegram(ANN, ANN)) is None


def test_with_any_list_strangers_may_not_even_ask_for_ids() -> None:
    assert not access(users={ANN: Role.VIEWER}).may_ask_id(telegram(BOB, BOB))
    assert not access(places={GROUP: None}).may_ask_id(telegram(BOB, BOB))


def test_a_private_chat_alone_is_enough_to_steer() -> None:
    listed = access(places={ANN: None})
    assert listed.role_of(telegram(ANN, ANN)) is Role.OPERATOR
    assert listed.role_of(telegram(BOB, BOB)) is None


def test_members_of_a_group_look_on_unless_they_are_listed() -> None:
    group = access(places={GROUP: None})
    assert group.role_of(telegram(BOB, GROUP)) is Role.VIEWER
    listed = access(users={ANN: Role.OPERATOR}, places={GROUP: None})
    assert listed.role_of(telegram(ANN, GROUP)) is Role.OPERATOR
    assert listed.role_of(telegram(BOB, GROUP)) is None
    assert access(places={GROUP: Role.OPERATOR}).role_of(telegram(BOB, GROUP)) is Role.OPERATOR


def test_a_listed_user_is_a_stranger_in_another_group() -> None:
    listed = access(users={ANN: Role.OPERATOR}, places={GROUP: None})
    assert listed.role_of(telegram(ANN, "-2002")) is None
    assert listed.role_of(telegram(ANN, ANN)) is Role.OPERATOR


def test_a_topic_is_a_place_of_its_own() -> None:
    listed = access(users={ANN: Role.OPERATOR}, places={f"{GROUP}/15": None})
    topic = replace(telegram(ANN, GROUP), topic="15")
    assert listed.role_of(topic) is Role.OPERATOR
    assert listed.role_of(replace(topic, user=BOB)) is None
    assert listed.role_of(replace(topic, topic="16")) is None
    assert listed.role_of(telegram(ANN, GROUP)) is None
    assert access(places={GROUP: None}).role_of(topic) is Role.VIEWER
    assert access(places={GROUP: None, f"{GROUP}/15": Role.OPERATOR}).role_of(topic) is Role.OPERATOR
    assert access().ids_of(topic).endswith(f"={GROUP}/15")


def test_a_group_beside_one_of_its_topics_is_told_nothing_twice() -> None:
    assert told_places([GROUP, f"{GROUP}/15", ANN, "-100"]) == [f"{GROUP}/15", ANN, "-100"]


def test_a_direct_message_on_slack_is_private() -> None:
    nothing_set = load_settings(Path("/no/such/.env"), {})
    listed = Access({"slack": replace(SLACK.allowed(nothing_set), users={"U1": Role.VIEWER})})
    assert listed.role_of(Sender("slack", "U1", "D9", "ann")) is Role.VIEWER
    assert listed.role_of(Sender("slack", "U2", "D9", "bob")) is None
    assert listed.role_of(Sender("slack", "U1", "C9", "ann")) is None


def test_the_local_socket_is_always_an_operator() -> None:
    assert Access({}).role_of(HERE) is Role.OPERATOR


@pytest.mark.parametrize("platform", ["telegram", "slack"])
@given(user=st.text(), place=st.text())
def test_an_id_in_no_list_never_has_a_role(platform: str, user: str, place: str) -> None:
    listed = Access({platform: AllowList({"known user": Role.OPERATOR}, {"known place": None})})
    if user != "known user":
        assert listed.role_of(Sender(platform, user, place, "")) is None


@pytest.mark.parametrize(
    ("users", "places", "channel", "expected"),
    [
        ({}, {GROUP: None}, f"telegram:{GROUP}", Role.VIEWER),
        ({}, {GROUP: Role.OPERATOR}, f"telegram:{GROUP}", Role.OPERATOR),
        ({}, {f"{GROUP}/15": Role.OPERATOR}, f"telegram:{GROUP}:15", Role.OPERATOR),
        ({}, {ANN: None}, f"telegram:{ANN}", Role.OPERATOR),  # their own chat
        ({ANN: None}, {GROUP: None}, f"telegram:{GROUP}", Role.OPERATOR),
        ({ANN: Role.VIEWER}, {GROUP: None}, f"telegram:{GROUP}", Role.VIEWER),
        ({}, {}, "terminal", Role.OPERATOR),
        ({}, {}, "ntfy:host", Role.OPERATOR),
    ],
)
def test_a_channel_shows_the_buttons_that_somebody_in_it_may_press(
    users: dict[str, Role], places: dict[str, Role | None], channel: str, expected: Role
) -> None:
    assert access(users, places).highest_role(channel) is expected


def test_what_nobody_may_press_is_not_shown() -> None:
    card = card_buttons(RunState.RUNNING)
    assert pressable(Message("", buttons=card), Role.OPERATOR).buttons == card
    assert pressable(Message("", buttons=card), Role.VIEWER).buttons == card[1:]
