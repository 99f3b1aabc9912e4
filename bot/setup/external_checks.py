"""What the bot needs of others: models, agents, services that pass on messages, and a tracker."""

from __future__ import annotations

import shutil
import sys
from importlib import util

from bot.setup.check import Check, ask
from bot.setup.settings import Settings
from bot.setup.sources import SEARCH, SourceChoice, agent_of
from loop.proposers.model.providers import MEND, is_own_server

_PACKAGES = {"anthropic": "anthropic", "openai": "openai", "google": "google.genai"}
# Asked in another process: the prices of all models are large.
_ASK_PRICE = """
import sys
from genai_prices import Usage, calc_price
calc_price(Usage(input_tokens=1, output_tokens=1), provider_id=sys.argv[1], model_ref=sys.argv[2])
"""


def checks_outside(settings: Settings) -> tuple[Check, ...]:
    """Look at everything of others that the settings name, without asking any of it anything."""
    fallback = [settings.fallback_model] if settings.fallback_model else []
    addresses = filter(None, map(str.strip, settings.apprise_urls.get_secret_value().split(",")))
    return (
        *(_source(settings, choice) for choice in (*settings.proposer, *fallback) if choice.kind != SEARCH),
        *(_service(number, url) for number, url in enumerate(addresses, start=1)),
        *([_tracker(settings.tracker[0])] if settings.tracker else []),
    )


def _source(settings: Settings, choice: SourceChoice) -> Check:
    """Look at a model or an agent without asking it anything, which would cost."""
    if choice.is_agent:
        agent = agent_of(choice, settings.agent_command)
        found = shutil.which(agent.command[0])
        if found is None:
            mend = f"Run: {agent.install}" if agent.install else "Correct AGENT_COMMAND."
            return Check(choice.name, False, f"there is no program {agent.command[0]}", mend)
        login = f"; to log in, {agent.login}" if agent.login else ""
        return _priced(settings, choice, f"by {found}{login}", known=agent.tells_dollars)
    if not all(map(_is_installed, ("pydantic_ai", _PACKAGES[choice.kind]))):
        return Check(choice.name, False, "needs packages that are not installed", f"Run: {MEND}")
    if is_own_server(choice.name, {"OPENAI_BASE_URL": settings.openai_base_url}):
        return _priced(settings, choice, f"at {settings.openai_base_url}", known=False)
    if not getattr(settings, f"{choice.kind}_api_key").get_secret_value():
        key = f"{choice.kind.upper()}_API_KEY"
        return Check(choice.name, False, f"{key} is not set", f"Put {key}=… into .env.")
    known = ask(sys.executable, "-c", _ASK_PRICE, choice.kind, choice.detail) is not None
    return _priced(settings, choice, "installed, with a key", known=known)


def _priced(settings: Settings, choice: SourceChoice, detail: str, *, known: bool) -> Check:
    limited = settings.llm_budget_usd is not None or settings.llm_budget_usd_a_day is not None
    detail += "; its price is known" if known else "; its price is not known"
    if limited and not known:
        mend = "LLM_BUDGET_USD cannot hold for it: limit it where it runs, or choose another one."
        return Check(choice.name, None, detail, mend)
    return Check(choice.name, True, detail)


def _is_installed(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


def _service(number: int, url: str) -> Check:
    """Look whether apprise understands an address; it is not repeated, as it may hold a password."""
    from notifiers.channels.apprise_channel import AppriseChannel  # takes a second

    try:
        return Check(AppriseChannel(url).name, True, "an address that apprise knows")
    except ValueError as error:
        mend = "Write it as https://github.com/caronc/apprise shows."
        return Check("APPRISE_URLS", False, f"number {number} {error}", mend)


def _tracker(service: str) -> Check:
    if _is_installed(service):
        return Check("tracker", True, f"{service}, installed")
    mend = f"Run: {sys.executable} -m pip install {service}"
    return Check("tracker", False, f"{service} is not installed", mend)
