"""What PROPOSER says: the sources of ideas, each with its share of the experiments."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from loop.proposers.agent.presets import PRESETS, Preset, own_command

SEARCH = "search"
AGENT = "agent"
"""AGENT_COMMAND; `agent:NAME` is one that is known."""

PROVIDERS = ("anthropic", "openai", "google")

_RULE = (
    "must be search, anthropic:MODEL, openai:MODEL, google:MODEL, agent or agent:claude (codex, gemini, "
    "opencode), several by comma, each with a share if you like, as in anthropic:MODEL=3, search=1"
)


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """One source: `kind` is `search`, `agent` or a provider; `detail` is the model or the agent's name."""

    kind: str
    detail: str = ""
    weight: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.detail}" if self.detail else self.kind

    @property
    def is_agent(self) -> bool:
        return self.kind == AGENT

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}={self.weight:g}"


def read_sources(text: str) -> tuple[SourceChoice, ...]:
    """Read sources separated by commas.

    Raises:
        ValueError: with a clause that follows the setting's name.
    """
    sources = tuple(_read_source(item.strip()) for item in text.split(","))
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise ValueError(f"must name {name} only once")
    return sources


def read_model(text: str) -> SourceChoice:
    """Read one model, such as `openai:gpt-5`, with the same errors."""
    kind, _, detail = text.partition(":")
    if kind not in PROVIDERS or not _is_word(detail):
        raise ValueError("must be anthropic:MODEL, openai:MODEL or google:MODEL")
    return SourceChoice(kind, detail)


def agent_of(choice: SourceChoice, own: tuple[str, ...]) -> Preset:
    """Return how that coding agent is started; `own` is AGENT_COMMAND."""
    return PRESETS[choice.detail] if choice.detail else own_command(own)


def _read_source(item: str) -> SourceChoice:
    name, equals, weight = item.partition("=")
    kind, colon, detail = name.strip().partition(":")
    known = {SEARCH: not colon, AGENT: not colon or detail in PRESETS}
    if not known.get(kind, kind in PROVIDERS and _is_word(detail)):
        raise ValueError(_RULE)
    return SourceChoice(kind, detail, _read_weight(name.strip(), weight.strip()) if equals else 1.0)


def _read_weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise ValueError(f"must give {name} a share above 0, as in {name}=2")
    return weight


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not set(text) & set(" ,")
