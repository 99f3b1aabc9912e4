from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.text import holds_secret, secrets_in, without_secrets


def test_secrets_are_known_by_the_names_of_their_settings() -> None:
    settings = {"OPENAI_API_KEY": "a", "SLACK_BOT_TOKEN": "b", "OPENAI_BASE_URL": "http://c", "PASSWORD": "d"}
    assert secrets_in(settings) == {"a", "b", "d"}


@given(st.text(), st.text(), st.lists(st.text(min_size=8), min_size=1, max_size=4))
def test_no_secret_is_left(before: str, after: str, secrets: list[str]) -> None:
    text = before + "\n".join(secrets) + after
    assert not [
        secret for secret in secrets if secret in without_secrets(text, secrets) and secret not in "***" * 9
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://ada:pass@proxy:80/x", "at https://***@proxy:80/x"),
        ("key sk-ant-api03-abcdefghijklmnop.", "key ***."),
        ("hf_abcdefghijklmnopqrstu", "***"),
        ("/bot123456789:AAabcdefghijklmnopqrstuvwxyz0123456/getMe", "/bot***/getMe"),
        ("token 123456789:AAabcdefghijklmnopqrstuvwxyz0123456", "token ***"),
        ("xoxb-1234567890-abc", "***"),
        ("the key is EMPTY", "the key is EMPTY"),
        ("a mail to ada@example.org, task sk-learn", "a mail to ada@example.org, task sk-learn"),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, shown: str) -> None:
    assert without_secrets(text, ["EMPTY"]) == shown


def test_a_program_holds_a_secret_that_is_too_long_to_be_there_by_chance() -> None:
    assert holds_secret("KEY = 'of-nobody-knows-what'", ["short", "of-nobody-knows-what"])
    assert not holds_secret("PATTERN = 'SSSL-SSSL'", ["SSSL-SSSL"])
