from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.setup.sources import PROVIDERS, SourceChoice, read_model, read_sources
from loop.proposers.agent.presets import PRESETS


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("search", [SourceChoice("search")]),
        (
            "anthropic:claude-sonnet-4-5=3, search=1",
            [SourceChoice("anthropic", "claude-sonnet-4-5", 3.0), SourceChoice("search")],
        ),
        ("openai:ft:gpt-5:mine = 0.5", [SourceChoice("openai", "ft:gpt-5:mine", 0.5)]),
        ("agent:codex,agent", [SourceChoice("agent", "codex"), SourceChoice("agent")]),
        ("openai:org/model", [SourceChoice("openai", "org/model")]),
    ],
)
def test_sources_are_read_with_their_shares(text: str, sources: list[SourceChoice]) -> None:
    assert list(read_sources(text)) == sources


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be search, anthropic:MODEL"),
        ("oracle", "must be search, anthropic:MODEL"),
        ("claude-sonnet-4-5", "must be search, anthropic:MODEL"),
        ("search,,agent", "must be search, anthropic:MODEL"),
        ("search:deep", "must be search, anthropic:MODEL"),
        ("agent:", "must be search, anthropic:MODEL"),
        ("agent:aider", "must be search, anthropic:MODEL"),
        ("anthropic:", "must be search, anthropic:MODEL"),
        ("openai:my model", "must be search, anthropic:MODEL"),
        ("search=0", "must give search a share above 0, as in search=2"),
        ("agent:claude=-1", "must give agent:claude a share above 0"),
        ("search=much", "must give search a share above 0"),
        ("search=nan", "must give search a share above 0"),
        ("search=inf", "must give search a share above 0"),
        ("search=", "must give search a share above 0"),
        ("search, agent:claude, search=2", "must name search only once"),
    ],
)
def test_a_bad_list_is_one_clause(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as refused:
        read_sources(text)
    assert str(refused.value).startswith(rule)


def test_the_fallback_is_one_model() -> None:
    assert read_model("openai:gpt-5-mini") == SourceChoice("openai", "gpt-5-mini")
    for text in ("", "search", "agent:claude", "openai:", "gpt-5-mini", "openai:a,openai:b"):
        with pytest.raises(ValueError, match=r"^must be anthropic:MODEL, openai:MODEL or google:MODEL$"):
            read_model(text)


NAMES = st.one_of(
    st.just("search"),
    st.sampled_from(["agent", *(f"agent:{name}" for name in PRESETS)]),
    st.builds("{}:{}".format, st.sampled_from(PROVIDERS), st.from_regex(r"[a-z0-9./:-]+", fullmatch=True)),
)


@given(st.dictionaries(NAMES, st.integers(1, 9), min_size=1))
def test_what_is_shown_is_what_is_read(shares: dict[str, int]) -> None:
    text = ", ".join(f"{name}={share}" for name, share in shares.items())
    sources = read_sources(text)
    assert {source.name: source.weight for source in sources} == shares
    assert read_sources(", ".join(map(str, sources))) == sources
