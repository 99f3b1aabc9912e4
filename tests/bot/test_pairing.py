from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from bot.commands.access import Access, AllowList, Request, Role, Sender
from bot.commands.pairing import DIGITS, REFUSED_SECONDS, START, TRIES, Pairing
from notifiers.message import Message, Reply

ANN = Sender("telegram", "7", "7", "Ann \x1b[31m")
BOB = Sender("telegram", "8", "8", "Bob")
IN_GROUP = Sender("telegram", "7", "-1001", "Ann", "15")
INBOX = Reply(Message("from the inbox"))


@dataclass
class Desk:
    """A pairing, what it said in the terminal, and its clock."""

    lists: dict[str, AllowList] = field(
        default_factory=lambda: {"telegram": AllowList({}, {}, "USERS", "CHATS")}
    )
    said: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.access = Access(self.lists)
        self.pairing = Pairing(
            "telegram", _inbox, access=self.access, say_here=self.said.append, now=lambda: self.now
        )
        self.pairing.offer()
        [self.code] = re.findall(rf"/pair (\d{{{DIGITS}}})$", self.said[0])

    async def ask(self, text: str, sender: Sender = ANN) -> Reply:
        reply = await self.pairing.answer(Request(sender, text, "key", 0.0))
        assert reply is not None
        return reply

    async def pair(self, code: str, sender: Sender = ANN) -> bool:
        return not (await self.ask(f"/pair {code}", sender)).refused


async def _inbox(_: Request) -> Reply:
    return INBOX


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**DIGITS:0{DIGITS}}"


async def test_the_code_of_the_terminal_lets_one_chat_in() -> None:
    desk = Desk()
    reply = await desk.ask(f"/pair {desk.code}")
    assert reply.message.block == "CHATS=7"
    assert desk.pairing.paired.result() == ANN
    assert desk.access.role_of(ANN) is Role.OPERATOR
    assert desk.access.role_of(BOB) is None
    assert not desk.access.may_ask_id(BOB)
    assert "chat 7 is paired, by Ann" in desk.said[1]
    assert "\x1b" not in desk.said[1]
    assert desk.said[1].endswith("CHATS=7")
    assert await desk.ask(f"/pair {desk.code}", BOB) is INBOX  # it is used up
    assert desk.access.role_of(BOB) is None


async def test_in_a_group_the_one_who_pairs_steers_and_nobody_else() -> None:
    desk = Desk()
    reply = await desk.ask(f"/pair {desk.code}", IN_GROUP)
    assert reply.message.block == "CHATS=-1001/15\nUSERS=7"
    assert desk.access.role_of(IN_GROUP) is Role.OPERATOR
    assert desk.access.role_of(Sender("telegram", "8", "-1001", "Bob", "15")) is None


@pytest.mark.parametrize("form", ["{} ", "{:.4} {:.4}-", " {}"])
async def test_a_code_may_be_written_in_groups(form: str) -> None:
    desk = Desk()
    halves = (desk.code[:4], desk.code[4:]) if "4" in form else (desk.code,)
    assert await desk.pair(form.format(*halves))


@pytest.mark.parametrize("text", ["", "0", "\u0660" * DIGITS, "\ud800", "x" * 5000, "None"])
async def test_what_is_no_code_lets_nobody_in(text: str) -> None:
    desk = Desk()
    assert not await desk.pair(text)
    assert desk.access.role_of(ANN) is None


async def test_guessing_is_hopeless() -> None:
    desk = Desk()
    tries = 0
    while desk.now < 86400:
        for guesser in (ANN, BOB, ANN, BOB, ANN):  # as many as one likes
            assert not await desk.pair(wrong(desk.code), guesser)
            tries += 1
        assert not await desk.pair(desk.code)  # not even the right one
        desk.now += REFUSED_SECONDS
    assert tries * 365 * 300 < 10**DIGITS
    assert len(desk.said) == 1 + tries / TRIES
    assert await desk.pair(desk.code)


async def test_each_bot_has_a_code_of_its_own() -> None:
    assert len({Desk().code for _ in range(20)}) > 15


async def test_start_says_whose_the_bot_is_not_and_gives_the_line() -> None:
    desk = Desk()
    for text in ("/start", "/start payload", "/START"):
        reply = await desk.ask(text, BOB)
        assert START in reply.message.text
        assert reply.message.block == "CHATS=8"
    assert await desk.ask("/id", BOB) is INBOX
    assert desk.code not in str(reply)


async def test_where_somebody_is_listed_there_is_no_pairing() -> None:
    desk = Desk({"telegram": AllowList({}, {"-5": None}, "USERS", "CHATS")})
    for text in ("/start", f"/pair {desk.code}", "/id"):
        assert await desk.ask(text) is INBOX
    assert desk.access.role_of(ANN) is None
