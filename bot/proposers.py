"""From settings to the proposer of a run: its sources, their keys, their budget."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bot.setup.doctor import device
from bot.setup.settings import Settings
from bot.setup.sources import KINDS, SEARCH, ProposerKind, SourceChoice, Supplies
from loop.evaluation.guard.examine import module_names
from loop.experiment import Experiment, Reason, Run
from loop.folders import RunFolders
from loop.git.workspace import Workspace
from loop.proposers.calling import Availability, BudgetGuard, Guard, Source
from loop.proposers.prompt.context import ContextReader, Papers
from loop.proposers.protocol import Failure
from loop.proposers.researcher import Researcher
from loop.proposers.search.suggest import SearchProposer
from loop.store.events import Notes
from loop.store.experiments import with_program
from loop.store.journal import Journal
from loop.store.spending import Budget
from loop.text import secrets_in, without_secrets

# Of other servers, for the providers' libraries.
_ADDRESSES = ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL")


def make_researcher(
    settings: Settings,
    run: Run,
    *,
    journal: Journal,
    workspace: Workspace,
    folders: RunFolders,
    environ: Mapping[str, str],
    pause: Callable[[Run, Reason], Awaitable[None]],
    kinds: Sequence[ProposerKind] = KINDS,
) -> Researcher:
    """Return the proposer that the settings ask for; models get what they need of the bot's `environ`."""
    notes = Notes(journal)
    reader = ContextReader(journal=journal, workspace=workspace, folders=folders)
    a_run, a_day = settings.llm_budget_usd, settings.llm_budget_usd_a_day
    budget = Budget(journal, a_run=a_run, a_day=a_day, zone=settings.time_zone)
    keys = _keys(settings, environ)
    secrets = settings.secrets | secrets_in(environ) | secrets_in(keys)
    named, fallback = {choice.name for choice in settings.proposer}, settings.fallback_model
    shares = {choice.kind: choice.weight for choice in settings.proposer}
    makers = {kind.name: kind.make for kind in kinds if kind.make is not None}
    supplies = Supplies(
        run=run,
        folder=settings.home / "agents",
        environ={**environ, **keys},
        keys=keys,
        secrets=secrets,
        editable=settings.editable,
        context_tokens=settings.context_tokens,
        command=settings.agent_command,
        limit=60 * settings.agent_minutes,
    )

    def failure(experiment: Experiment, parent: str) -> Failure:
        found = reader.failure(experiment, parent)
        return replace(found, log=without_secrets(found.log, secrets))

    def source(choice: SourceChoice) -> Source:
        model = makers[choice.kind](choice, supplies)
        return Source(choice.name, model, choice.weight, model.name)

    guard = guard_of(settings, run, journal, workspace)
    search = SearchProposer(frozen=frozenset(settings.frozen_constants))
    return Researcher(
        search=search,
        describe=search.describe,
        share=shares.get(SEARCH, 0.0),
        models=[source(choice) for choice in settings.proposer if choice.kind != SEARCH],
        fallback=source(fallback) if fallback and fallback.name not in named else None,
        journal=journal,
        failure=failure,
        check=guard,
        flags=guard.flags,
        budget=BudgetGuard(budget, notes),
        availability=Availability(notes),
        papers=Papers(),
        device=functools.cache(device),
        stuck_after=settings.stuck_after,
        pause=pause if settings.llm_when_spent == "pause" else None,
    )


def guard_of(settings: Settings, run: Run, journal: Journal, workspace: Workspace) -> Guard:
    return Guard(
        frozen=module_names(workspace.frozen),
        base=functools.cache(lambda: workspace.source(run.base_commit)),
        find=functools.partial(with_program, journal, run.id),
        strict=settings.guard == "strict",
    )


def clear_agents(home: Path) -> None:
    """End the coding agents that a bot before this one left behind, and remove their checkouts. Blocks."""
    from loop.proposers.agent.coding_agent import clear

    for folder in (home / "agents").glob("*"):
        clear(folder)


def _keys(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    found = {
        "ANTHROPIC_API_KEY": settings.anthropic_api_key.get_secret_value(),
        "OPENAI_API_KEY": settings.openai_api_key.get_secret_value(),
        "OPENAI_BASE_URL": settings.openai_base_url,
        "GOOGLE_API_KEY": settings.google_api_key.get_secret_value(),
        **{name: environ.get(name, "") for name in _ADDRESSES},
    }
    return {name: value for name, value in found.items() if value}
