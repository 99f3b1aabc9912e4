from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from telegram import Update, User

from bot.telegram.updates import asked_in
from notifiers.channels.telegram_places import Places

ME = User(4242, "Lab", is_bot=True, username="lab_bot")
ADA = {"id": 99, "is_bot": False, "first_name": "Ada", "last_name": "L"}


def update(text: str, kind: str = "private", **more: Any) -> Update:
    message = {"message_id": 5, "date": 1_750_000_000, "chat": {"id": -3, "type": kind}, "from": ADA}
    made = Update.de_json({"update_id": 17, "message": {**message, "text": text, **more}}, None)
    assert made is not None
    return made


@given(st.text(min_size=1))
def test_any_text_in_private_is_a_request_as_it_was_typed(text: str) -> None:
    asked = asked_in(update(text), me=ME, now=0, places=Places())
    if text.startswith("/") and "@" in text.split(maxsplit=1)[0]:
        assert asked is None or "@" not in asked.request.text.split(maxsplit=1)[0]
    else:
        assert asked is not None
        assert asked.request.text == text


@given(st.text(), st.sampled_from(["group", "supergroup"]))
def test_talk_in_a_group_is_none_of_our_business(text: str, kind: str) -> None:
    asked = asked_in(update(text, kind), me=ME, now=0, places=Places())
    assert asked is None or asked.request.text.startswith("/")


@given(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="@"), min_size=1), st.text())
def test_a_command_that_names_us_is_the_command(name: str, arguments: str) -> None:
    plain = asked_in(update(f"/{name} {arguments}", "group"), me=ME, now=0, places=Places())
    named = asked_in(update(f"/{name}@LAB_bot {arguments}", "group"), me=ME, now=0, places=Places())
    assert plain is not None
    assert named == plain
    assert asked_in(update(f"/{name}@lab_bot2 {arguments}"), me=ME, now=0, places=Places()) is None


def test_a_request_says_who_where_and_when() -> None:
    asked = asked_in(
        update("/status", "supergroup", is_topic_message=True, message_thread_id=5),
        me=ME,
        now=0,
        places=Places(),
    )
    assert asked is not None
    assert (asked.request.sender.user, asked.request.sender.place) == ("99", "-3")
    assert asked.request.sender.name == "Ada L"
    assert (asked.request.key, asked.request.message_id) == ("telegram:4242:17", "5")
    assert (asked.request.sent_at, asked.topic) == (1_750_000_000, 5)
    assert asked.request.sender.channel == "telegram:-3:5"


def test_a_reply_in_a_group_without_topics_has_no_topic() -> None:
    asked = asked_in(update("/status", "supergroup", message_thread_id=5), me=ME, now=0, places=Places())
    assert asked is not None
    assert asked.topic is None


def test_an_answer_to_a_message_of_ours_tells_which() -> None:
    """In a topic every message answers the one that began it, or so Telegram says."""
    chat = {"id": -3, "type": "supergroup"}
    ours = {"message_id": 3, "date": 1_750_000_000, "chat": chat, "from": ME.to_dict(), "text": "a digest"}
    theirs = {**ours, "from": ADA}
    topic = {"is_topic_message": True, "message_thread_id": 5}
    replied_to = []
    for listed, answered, more in (
        ((), ours, {}),
        ((), theirs, {}),
        (("-3/5",), ours, topic),
        (("-3",), ours, topic),
        (("-3",), {**ours, "message_id": 5, "forum_topic_created": {"name": "a", "icon_color": 1}}, topic),
    ):
        made = update("/again", "supergroup", reply_to_message=answered, **more)
        asked = asked_in(made, me=ME, now=0, places=Places(listed))
        assert asked is not None
        replied_to.append(asked.request.replied_to)
    assert replied_to == ["3", "", "3", "5/3", ""]


def test_in_a_group_an_answer_to_a_message_of_ours_is_for_us() -> None:
    ours = {"message_id": 3, "date": 1_750_000_000, "chat": {"id": -3, "type": "group"}, "from": ME.to_dict()}
    for author, is_asked in ((ME.to_dict(), True), (ADA, False)):
        made = update("diff", "group", reply_to_message={**ours, "from": author})
        assert (asked_in(made, me=ME, now=0, places=Places()) is not None) is is_asked
