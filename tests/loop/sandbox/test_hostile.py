"""The hostile programs of `attacks.py` and `tricks.py` in real trainings, as root and as an ordinary user."""

from __future__ import annotations

import os
import sys

import pytest

from loop.errors import UserError
from loop.sandbox import landlock
from loop.sandbox.sandbox import SandboxKind, find_sandbox
from tests.loop.sandbox.attacks import CACHE, LEFTOVERS, REACH, Attack, Layer, Works
from tests.loop.sandbox.campaign import (
    ALL,
    ENDED,
    FRESH,
    KEPT,
    SHARED,
    TRICKS,
    Seen,
)
from tests.loop.sandbox.child import Started, other_python, start
from tests.loop.sandbox.tricks import LINKS

pytestmark = pytest.mark.timeout(600)

ATTACKS = (*LEFTOVERS, *REACH, *LINKS)
NAMES = [*(attack.name for attack in ATTACKS), *(trick.name for group in TRICKS.values() for trick in group)]
BY_USERS = ("limits", "caches")  # what may depend on who trains; `python -m tests.hostile` tries all for both
NOT_BY_LANDLOCK = {attack.name for attack in ATTACKS if not attack.landlock}

Campaigns = dict[tuple[str, SandboxKind], Seen]


@pytest.fixture(scope="module")
def campaigns() -> Campaigns:
    """All campaigns that this machine allows, at the same time: some wait for a deadline."""
    pythons = {"we": sys.executable, "user": other_python()}
    started: dict[str, Started] = {}
    for who, python in pythons.items():
        if python is None:
            continue
        asked: dict[SandboxKind, tuple[str, ...]] = {SandboxKind.NONE: ()}
        if _works(SandboxKind.BWRAP):
            asked[SandboxKind.BWRAP] = (ALL,) if who == "we" else BY_USERS
        if landlock.version() >= 6:
            asked[SandboxKind.LANDLOCK] = ()
        started[who] = start(asked, python)
    return {(who, kind): seen for who, one in started.items() for kind, seen in one.wait().items()}


def _works(kind: SandboxKind) -> bool:
    try:
        return bool(find_sandbox(kind))
    except UserError:
        return False


@pytest.fixture(params=["we", "user"])
def who(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def plain(who: str, campaigns: Campaigns) -> Seen:
    return _of(campaigns, who, SandboxKind.NONE)


@pytest.fixture
def bwrap(who: str, campaigns: Campaigns) -> Seen:
    return _of(campaigns, who, SandboxKind.BWRAP)


@pytest.fixture
def landlocked(who: str, campaigns: Campaigns) -> Seen:
    return _of(campaigns, who, SandboxKind.LANDLOCK)


def _of(campaigns: Campaigns, who: str, kind: SandboxKind) -> Seen:
    if (who, kind) not in campaigns:
        pytest.skip(f"there is no {kind} here, or no other user who can run this")
    return campaigns[who, kind]


def test_the_table_is_long_and_no_name_stands_twice() -> None:
    assert len(NAMES) >= 40
    assert len(NAMES) == len(set(NAMES))


def test_every_attack_works_where_nothing_stops_it(plain: Seen, who: str) -> None:
    """Otherwise what does not happen in a sandbox would prove nothing."""
    root = who == "we" and os.geteuid() == 0
    works = {Works.ANYBODY} | ({Works.ROOT} if root else set()) | ({Works.KEYS} if plain.keys else set())
    assert {attack.name for attack in REACH if attack.works in works} <= plain.got.keys()
    value, taken = plain.honest[SHARED]
    assert {attack.name for attack in LEFTOVERS if attack.works in works} <= set(taken)
    assert value != plain.fresh
    assert plain.honest[FRESH] == (plain.fresh, [])


@pytest.mark.parametrize("how", ENDED)
def test_what_a_program_leaves_changes_no_number_after_it(how: str, bwrap: Seen, plain: Seen) -> None:
    name = f"leftovers, {how}"
    if name not in bwrap.honest:
        pytest.skip("tried by `python -m tests.hostile` only")
    assert bwrap.honest[name] == (plain.fresh, [])


def test_what_fell_to_the_fresh_folder_had_been_left(bwrap: Seen) -> None:
    assert {attack.name for attack in LEFTOVERS if attack.layer is Layer.FOLDER} <= bwrap.got.keys()


@pytest.mark.parametrize("kind", ["reach", "links", *TRICKS])
def test_a_number_after_hostile_programs_is_that_of_a_fresh_checkout(
    kind: str, bwrap: Seen, plain: Seen
) -> None:
    if kind not in bwrap.honest:
        pytest.skip("tried by `python -m tests.hostile` only")
    assert bwrap.honest[kind] == (plain.fresh, [])


def test_only_the_compile_cache_of_a_kept_program_goes_on(bwrap: Seen) -> None:
    """By design: a program that reads it unchecked takes what a kept program put there; no other does."""
    value, taken = bwrap.honest[KEPT]
    assert taken == [CACHE]
    assert value != bwrap.fresh


@pytest.mark.parametrize("name", [attack.name for attack in REACH])
def test_nothing_is_reached(name: str, bwrap: Seen) -> None:
    assert name in bwrap.refused


@pytest.mark.parametrize("attack", LINKS, ids=lambda attack: attack.name)
def test_no_link_leads_us_astray(attack: Attack, bwrap: Seen) -> None:
    made = attack.name in bwrap.got
    assert made is (attack.layer is Layer.FOLDER)  # then what it leads to is as before: see below


def test_nothing_outside_has_changed(bwrap: Seen) -> None:
    """No file of home, data, environment, git or other trainings, no process; nothing was heard."""
    assert bwrap.touched == []


@pytest.mark.parametrize("name", [trick.name for group in TRICKS.values() for trick in group])
def test_a_program_ends_as_it_should(name: str, bwrap: Seen) -> None:
    if name not in bwrap.tricks:
        pytest.skip("tried by `python -m tests.hostile` only")
    stopped, detail = bwrap.tricks[name]
    assert stopped, detail


def test_landlock_holds_what_it_can(landlocked: Seen, plain: Seen) -> None:
    stopped = {attack.name for attack in REACH} - NOT_BY_LANDLOCK
    assert stopped <= landlocked.refused.keys()
    for value, taken in landlocked.honest.values():
        assert set(taken) <= NOT_BY_LANDLOCK | {CACHE}
        assert taken or value == plain.fresh


def test_what_landlock_does_not_hold_is_named(campaigns: Campaigns) -> None:
    seen = [one for (_, kind), one in campaigns.items() if kind is SandboxKind.LANDLOCK]
    if len(seen) < 2:
        pytest.skip("some are open to root only, some to users")
    taken = {name for one in seen for _, names in one.honest.values() for name in names}
    got = {name for one in seen for name in one.got} & {attack.name for attack in REACH}
    keys = {attack.name for attack in LEFTOVERS if attack.works is Works.KEYS}
    assert (taken | got) - {CACHE} == NOT_BY_LANDLOCK - (set() if seen[0].keys else keys)
