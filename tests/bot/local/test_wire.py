from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.local.wire import Progress, pack, pack_item, pack_request, parse_item, parse_request, socket_address
from loop.errors import UserError
from notifiers.message import Message, Reply

any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates too: logs are not always UTF-8
messages = st.builds(Message, any_text, any_text)
items = st.one_of(messages, st.builds(Reply, messages, st.booleans()), st.builds(Progress, any_text))


@given(items)
def test_an_item_is_one_line_and_comes_back_as_it_was(item: Message | Reply | Progress) -> None:
    line = pack_item(item)
    assert line.index(b"\n") == len(line) - 1
    assert parse_item(line) == item


@given(any_text)
def test_a_command_is_one_line_and_comes_back_as_it_was(text: str) -> None:
    line = pack_request(text)
    assert line.index(b"\n") == len(line) - 1
    assert parse_request(line) == text


def test_the_lines_are_those_of_the_protocol() -> None:
    assert pack_request("/status") == b'{"command": "/status"}\n'
    assert pack_request(None) == b'{"attach": true}\n'
    assert pack_item(Reply(Message("No.", "x"), refused=True)) == (
        b'{"reply": {"text": "No.", "block": "x", "refused": true}}\n'
    )
    assert pack_item(Message("Hi")) == b'{"message": {"text": "Hi", "block": ""}}\n'
    assert pack_item(Progress("step 1")) == b'{"progress": "step 1"}\n'


@given(st.binary())
def test_no_bytes_can_break_either_parser(line: bytes) -> None:
    with suppress(UserError):
        parse_request(line)
    with suppress(UserError):
        parse_item(line)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"{}\n",
        b'{"command": 1}\n',
        b'{"attach": false}\n',
        b'{"attach": 1}\n',
        b'{"command": "/status", "attach": true}\n',
        b'["command"]\n',
        b"\xff\xfe\n",
        b"[" * 200_000,
        b"9" * 10_000,
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(line: bytes) -> None:
    with pytest.raises(UserError, match=r"\.$"):
        parse_request(line)


def test_an_error_is_raised_with_the_bots_own_sentence() -> None:
    with pytest.raises(UserError, match=r"^That line is not JSON\.$"):
        parse_item(pack({"error": "That line is not JSON."}))


def test_a_short_path_is_its_own_address() -> None:
    with socket_address(Path("/run/bot.sock")) as address:
        assert address == "/run/bot.sock"


def test_a_path_beyond_the_systems_limit_still_has_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with socket_address(folder / "bot.sock") as address:
            server.bind(address)
        server.listen()
        assert (folder / "bot.sock").is_socket()
        with socket_address(folder / "bot.sock") as address:
            client.connect(address)
        assert not Path(address).parent.exists()
