"""The kinds of sources of ideas, and what PROPOSER says: sources, each with its share of the experiments."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loop.experiment import Run
from loop.proposers.agent.presets import PRESETS, Preset, own_command
from loop.proposers.protocol import Model

SEARCH = "search"
AGENT = "agent"  # AGENT_COMMAND; `agent:NAME` is one that is known

PROVIDERS = ("anthropic", "openai", "google")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """One source: `kind` is the name of a `ProposerKind`; `detail` is the model or the agent's name."""

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


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a proposer may be made of.

    `keys` are the keys and addresses of models, under the providers' names; `environ` is the environment of
    the bot with them. `folder` is for files of agents; `limit` is in seconds.
    """

    run: Run
    folder: Path
    environ: Mapping[str, str]
    keys: Mapping[str, str]
    secrets: Collection[str]
    editable: str
    context_tokens: int
    command: tuple[str, ...]
    limit: float


@dataclass(frozen=True, slots=True)
class ProposerKind:
    """A kind of source: its entry in `KINDS` and the module of its proposer are all there is of it.

    `usage` is how people write it in PROPOSER; `takes` says whether what follows the colon, or "", is right.
    `make` imports the module only when called: a bot is small. None: every researcher has it already.
    """

    name: str
    usage: str
    takes: Callable[[str], bool]
    make: Callable[[SourceChoice, Supplies], Model] | None


def agent_of(choice: SourceChoice, own: tuple[str, ...]) -> Preset:
    return PRESETS[choice.detail] if choice.detail else own_command(own)


def _language_model(choice: SourceChoice, supplies: Supplies) -> Model:
    from loop.proposers.model.language_model import LanguageModel

    return LanguageModel(
        choice.name, settings=supplies.keys, secrets=supplies.secrets, budget=supplies.context_tokens
    )


def _coding_agent(choice: SourceChoice, supplies: Supplies) -> Model:
    from loop.proposers.agent.coding_agent import CodingAgent

    return CodingAgent(
        agent_of(choice, supplies.command),
        repository=supplies.run.repository,
        folder=supplies.folder / (choice.detail or "own"),
        environ=supplies.environ,
        secrets=supplies.secrets,
        limit=supplies.limit,
        budget=supplies.context_tokens,
        editable=supplies.editable,
    )


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not set(text) & set(" ,")


_FIRST, *_OTHERS = PRESETS

KINDS = (
    ProposerKind(SEARCH, SEARCH, lambda detail: not detail, None),
    *(ProposerKind(name, f"{name}:MODEL", _is_word, _language_model) for name in PROVIDERS),
    ProposerKind(
        AGENT,
        f"agent or agent:{_FIRST} ({', '.join(_OTHERS)})",
        lambda detail: not detail or detail in PRESETS,
        _coding_agent,
    ),
)


def read_sources(text: str, kinds: Sequence[ProposerKind] = KINDS) -> tuple[SourceChoice, ...]:
    """Read sources separated by commas.

    Raises:
        ValueError: with a clause that follows the setting's name.
    """
    sources = tuple(_read_source(item.strip(), kinds) for item in text.split(","))
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise ValueError(f"must name {name} only once")
    return sources


def read_model(text: str) -> SourceChoice:
    kind, _, detail = text.partition(":")
    if kind not in PROVIDERS or not _is_word(detail):
        raise ValueError("must be anthropic:MODEL, openai:MODEL or google:MODEL")
    return SourceChoice(kind, detail)


def _read_source(item: str, kinds: Sequence[ProposerKind]) -> SourceChoice:
    name, equals, weight = item.partition("=")
    kind, colon, detail = name.strip().partition(":")
    takes = {each.name: each.takes for each in kinds}.get(kind)
    if takes is None or bool(colon) != bool(detail) or not takes(detail):
        raise ValueError(
            f"must be {', '.join(each.usage for each in kinds)}, several by comma, each with a share if you "
            "like, as in anthropic:MODEL=3, search=1"
        )
    return SourceChoice(kind, detail, _read_weight(name.strip(), weight.strip()) if equals else 1.0)


def _read_weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise ValueError(f"must give {name} a share above 0, as in {name}=2")
    return weight
