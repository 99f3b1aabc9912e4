"""What is missing on this machine for the bot to do its work, and the command that mends it."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata, util
from pathlib import Path

from bot.local.wire import bot_answers
from bot.setup.settings import ENV_FILE, Settings
from bot.setup.sources import SEARCH, SourceChoice, agent_of
from loop.errors import UserError
from loop.git.repository import RepositoryFacts, inspect, read_time_budget
from loop.process.environment import launch_command, prepare_line
from loop.process.machine import Disk, ask_nvidia_smi
from loop.program.constants import find_constants
from loop.proposers.model.providers import INSTALL, is_own_server
from loop.proposers.search.space import find_axes

_PATIENCE = 20.0  # seconds for a program to answer


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is None for a warning; `mend` is what to do, empty where all is well."""

    name: str
    ok: bool | None
    detail: str
    mend: str = ""


def render(checks: tuple[Check, ...]) -> str:
    """The checks for a terminal: a line each, and another where there is something to do."""
    words = {True: "ok  ", None: "warn", False: "FAIL"}
    lines = []
    for check in checks:
        lines.append(f"{words[check.ok]}  {check.name}: {check.detail}")
        if check.mend:
            lines.append(f"      {check.mend}")
    return "\n".join(lines)


def ask(*command: str) -> str | None:
    """Return what a program prints, None where it fails, is not there or gives no answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


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
        return Check(choice.name, False, "needs packages that are not installed", f"Run: {INSTALL}")
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


GIT_VERSION = (2, 28)  # the first that can name the branch of a new repository
_NAMED = 5  # of the files that a run would not see


def examine(settings: Settings) -> tuple[Check, ...]:
    """Look at everything that the bot needs; leaves nothing behind and needs no running bot."""
    now = datetime.now().astimezone(settings.time_zone)
    command = launch_command(settings.repository or settings.home, settings.train_command, settings.editable)
    return (
        _env_file(ENV_FILE.absolute()),
        _git_program(),
        *_repository(settings),
        _data(settings),
        _training_program(command[0]),
        _uv(settings.repository),
        _accelerator(),
        *checks_outside(settings),
        _state_directory(settings.home),
        _bot(settings.socket),
        _clock(now, str(settings.time_zone or now.tzname()), Path(__file__).stat().st_mtime),
    )


def _env_file(path: Path) -> Check:
    found = path.exists()
    detail = str(path) if found else f"no {path.name} in {path.parent}: defaults and the environment"
    return Check("settings", True, detail)


def _git_program() -> Check:
    words = ask("git", "--version")
    if words is None:
        return Check("git", False, "not installed", "Install git.")
    found = re.search(r"(\d+)\.(\d+)[.\d]*", words)
    if found is None or (int(found[1]), int(found[2])) < GIT_VERSION:
        return Check("git", False, words, f"Install git {GIT_VERSION[0]}.{GIT_VERSION[1]} or newer.")
    return Check("git", True, found[0])


def _repository(settings: Settings) -> tuple[Check, ...]:
    if settings.repository is None:
        return (Check("repository", True, "the embedded template"),)
    try:
        facts = inspect(
            settings.repository,
            settings.base_branch or None,
            editable=settings.editable,
            frozen=settings.frozen,
        )
    except UserError as error:
        return (Check("repository", False, str(error)),)
    detail = f"{facts.path}, branch {facts.base_branch} at {facts.base_commit[:7]}: {facts.subject}"
    further = (*_search(settings, facts), *_deadline(settings, facts))
    if left_out := _left_out(facts):
        detail += f"; not in it: {' and '.join(left_out)}"
        mend = "Commit what a run shall start from."
        return Check("repository", None, detail, mend), *further
    return Check("repository", True, detail), *further


def _left_out(facts: RepositoryFacts) -> list[str]:
    """Say what the checkout has and a run would not."""
    left_out = [f"changes of {', '.join(facts.dirty)}"] if facts.dirty else []
    if names := facts.untracked:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        left_out.append(f"{', '.join(names[:_NAMED])}{more}, never committed")
    return left_out


def _search(settings: Settings, facts: RepositoryFacts) -> tuple[Check, ...]:
    """Warn where the search is all that has ideas, and finds nothing that it may change."""
    alone = all(choice.kind == SEARCH for choice in settings.proposer)
    if not alone or find_axes(find_constants(facts.source), settings.frozen_constants):
        return ()
    detail = f"finds no constant in {settings.editable} that it may change"
    mend = "Give it top-level lines such as LEARNING_RATE = 0.01, or choose another PROPOSER."
    return (Check(SEARCH, None, detail, mend),)


def _deadline(settings: Settings, facts: RepositoryFacts) -> tuple[Check, ...]:
    fixed = read_time_budget(facts.path, facts.base_commit, settings.frozen)
    try:
        settings.deadline(fixed or settings.time_budget)
    except UserError as error:
        return (Check("deadline", False, str(error)),)
    return ()


def _data(settings: Settings) -> Check:
    if not settings.data_paths:
        return Check("data", True, "not checked, as DATA_PATHS is empty")
    missing = [str(path) for path in settings.data_paths if not path.exists()]
    if not missing:
        return Check("data", True, ", ".join(map(str, settings.data_paths)))
    detail = f"missing of DATA_PATHS: {', '.join(missing)}"
    if settings.repository is None:
        return Check("data", None, detail, "The first start of the bot prepares it.")
    mend = prepare_line(settings.repository, settings.train_command, settings.editable)
    return Check("data", False, detail, f"Run: {mend}; or set DATA_PATHS to where the data is.")


def _training_program(program: str) -> Check:
    found = shutil.which(program)
    if found is None:
        return Check("training", False, f"there is no program {program}", "Correct TRAIN_COMMAND.")
    if program != sys.executable:
        return Check("training", True, f"by {found}")
    python = f"Python {platform.python_version()}"
    if util.find_spec("torch") is None:
        return Check("training", False, f"{python} without torch", f"Run: {program} -m pip install torch")
    return Check("training", True, f"{python} with torch {metadata.version('torch')}")


def _uv(repository: Path | None) -> Check:
    words = ask("uv", "--version")
    if words is not None:
        return Check("uv", True, words.removeprefix("uv "))
    if repository is not None and (repository / "uv.lock").exists():
        detail = "not on the PATH, so trainings do without the packages of uv.lock"
        return Check("uv", None, detail, "Install uv, or say with TRAIN_COMMAND what trains.")
    return Check("uv", True, "not on the PATH, and not needed")


def device() -> str:
    """Say what trainings run on, in words."""
    return _accelerator().detail


def _accelerator() -> Check:
    if shutil.which("nvidia-smi"):
        answer = ask_nvidia_smi("--query-gpu=name,memory.total", "--format=csv,noheader")
        gpus = answer.stdout.strip() if answer and answer.returncode == 0 else ""
        if not gpus:
            return Check("GPU", None, "nvidia-smi finds none", "Run: nvidia-smi, and mend what it says.")
        return Check("GPU", True, "; ".join(gpus.splitlines()))
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Check("GPU", True, "Apple's, by MPS")
    return Check("GPU", True, "no GPU: trainings run on the CPU")


def _state_directory(home: Path) -> Check:
    name = "state directory"
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        mend = "Choose another one with --home or AUTORESEARCH_HOME."
        return Check(name, False, f"{place} cannot be written to: {error.strerror}", mend)
    usage = shutil.disk_usage(place)
    detail = f"{home}, {usage.free / 1e9:.1f} GB free"
    if Disk(home, usage.free, usage.total).short:
        return Check(name, None, detail, "Make room: logs and worktrees of a night need some gigabytes.")
    return Check(name, True, detail)


def _bot(path: Path) -> Check:
    match bot_answers(path):
        case None:
            return Check("bot", None, f"does not answer on {path}", "Look into its log.")
        case False:
            return Check("bot", True, "not running")
        case True:
            return Check("bot", True, f"running on {path.parent}")


def _clock(now: datetime, zone: str, written: float) -> Check:
    # A machine without a battery may wake up years ago: before this very file was written.
    if now.timestamp() < written:
        return Check("clock", None, f"{now:%Y-%m-%d %H:%M} {zone} is in the past", "Set the machine's clock.")
    return Check("clock", True, f"{now:%Y-%m-%d %H:%M} {zone}")
