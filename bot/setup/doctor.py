"""What this machine and its bot lack, each with what fixes it: the checks of `up`, `doctor` and `/health`."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import util
from pathlib import Path

from bot.local.wire import bot_answers
from bot.setup.data import needed_data
from bot.setup.settings import ENV_FILE, USUAL_BUDGET, Settings
from bot.setup.sources import PROVIDERS, SEARCH, SourceChoice, agent_of
from loop.engine.stages import is_usually_maximized
from loop.errors import UserError
from loop.experiment import Goal, Run
from loop.git.repository import RepositoryFacts, inspect, read_programs, read_time_budget
from loop.lanes.protocol import RAY
from loop.machine import Disk, ask_nvidia_smi, cannot_write
from loop.process.environment import find_uv, training_environment
from loop.process.worker import run_worker
from loop.program.constants import find_constants
from loop.proposers.model.providers import EXTRA, is_own_server
from loop.proposers.search.space import find_axes
from loop.shell import answer_of, install_line, own_command
from notifiers.text.words import plural, some

_PATIENCE = 20.0  # seconds for Ray to answer


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is None for a warning; `fix` is what to do, empty if all is well."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, in one line."""
        name = self.name if ":" in self.name else f"{self.name[0].upper()}{self.name[1:]}"  # not of an id
        said = f"{name}: {self.detail}".rstrip(".")
        return f"{said}. {self.fix}".rstrip()


def failures(checks: Iterable[Check]) -> tuple[str, ...]:
    """Return a sentence for each check that failed: what `up` refuses to start a run for."""
    return tuple(check.sentence for check in checks if check.ok is False)


def brief(checks: Sequence[Check], home: Path) -> str:
    """Return what is not well; one line where all is."""
    bad, command = [check for check in checks if not check.ok], own_command("doctor --all", home)
    if not bad:
        return f"All well ({plural(len(checks), 'check')}; `{command}` lists them)."
    fine = len(checks) - len(bad)
    return f"{render(bad)}\n{plural(fine, 'other check')} passed: `{command}` lists all."


def render(checks: Iterable[Check]) -> str:
    """Return the checks for a terminal: a line each, and another where there is something to do."""
    words = {True: "ok  ", None: "warn", False: "FAIL"}
    lines = []
    for check in checks:
        lines.append(f"{words[check.ok]}  {check.name}: {check.detail}")
        if check.fix:
            lines.append(f"      {check.fix}")
    return "\n".join(lines)


DATA = "data"  # the name of a check
_PACKAGES = {"anthropic": "anthropic", "openai": "openai", "google": "google.genai"}
# Asked in another process: the prices of all models are large.
_ASK_PRICE = """
import sys
from genai_prices import Usage, calc_price
calc_price(Usage(input_tokens=1, output_tokens=1), provider_id=sys.argv[1], model_ref=sys.argv[2])
"""


def _source(settings: Settings, choice: SourceChoice) -> Check:
    """Look at a model or an agent, without a request to it, which would cost."""
    if choice.is_agent:
        agent = agent_of(choice, settings.agent_command)
        found = shutil.which(agent.command[0])
        if found is None:
            fix = f"Run: {agent.install}" if agent.install else "Correct AGENT_COMMAND."
            return Check(choice.name, False, f"{agent.command[0]} not found", fix)
        login = f"; to log in, {agent.login}" if agent.login else ""
        return _priced(settings, choice, f"by {found}{login}", known=agent.tells_dollars)
    if choice.kind not in PROVIDERS:
        return Check(choice.name, True, "part of the bot")
    if not all(map(_is_installed, ("pydantic_ai", _PACKAGES[choice.kind]))):
        return Check(
            choice.name, False, "needs packages that are not installed", f"Run: {install_line(EXTRA)}"
        )
    if is_own_server(choice.name, {"OPENAI_BASE_URL": settings.openai_base_url}):
        return _priced(settings, choice, f"at {settings.openai_base_url}", known=False)
    if not getattr(settings, f"{choice.kind}_api_key").get_secret_value():
        key = f"{choice.kind.upper()}_API_KEY"
        return Check(choice.name, False, f"{key} is not set", f"Put {key}=… into .env.")
    known = answer_of(sys.executable, "-c", _ASK_PRICE, choice.kind, choice.detail) is not None
    return _priced(settings, choice, "installed, with a key", known=known)


def _priced(settings: Settings, choice: SourceChoice, detail: str, *, known: bool) -> Check:
    limited = settings.llm_budget_usd is not None or settings.llm_budget_usd_a_day is not None
    if known or not limited:
        return Check(choice.name, True, f"{detail}; price {'known' if known else 'unknown'}")
    fix = "LLM_BUDGET_USD cannot be enforced: set a limit at the provider, or choose another model."
    return Check(choice.name, None, f"{detail}; price unknown", fix)


def _is_installed(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor the package it would be in
        return False


def _service(number: int, url: str) -> Check:
    """Look whether apprise knows an address, which is not repeated: it may hold a password."""
    from notifiers.channels.apprise_channel import AppriseChannel  # takes a second

    try:
        return Check(AppriseChannel(url).name, True, "address known to apprise")
    except ValueError as error:
        fix = "For the formats see https://github.com/caronc/apprise."
        return Check("APPRISE_URLS", False, f"number {number} {error}", fix)


def _tracker(service: str) -> Check:
    if _is_installed(service):
        return Check("tracker", True, f"{service}, installed")
    fix = f"Run: {install_line(service)}"
    return Check("tracker", False, f"{service} is not installed", fix)


GIT_VERSION = (2, 28)  # the first that can name the branch of a new repository


def examine(settings: Settings, facts: RepositoryFacts | None = None) -> tuple[Check, ...]:
    """Look at what the bot needs for a run; leaves nothing behind and needs no running bot.

    `facts` are those of the repository that is set, where the caller has them.
    """
    now = datetime.now().astimezone(settings.time_zone)
    fallback = [settings.fallback_model] if settings.fallback_model else []
    sources = [choice for choice in (*settings.proposer, *fallback) if choice.kind != SEARCH]
    return (
        _env_file(),
        _git_program(),
        *_repository(settings, facts),
        *(_cluster(settings) if settings.executor == "ray" else (_uv(settings.repository), _accelerator())),
        *(_source(settings, choice) for choice in sources),
        _state_directory(settings.home),
        _bot(settings.socket),
        _clock(now, str(settings.time_zone or now.tzname()), Path(__file__).stat().st_mtime),
    )


def examine_services(settings: Settings) -> tuple[Check, ...]:
    """Look at what results and messages are sent to besides the chats: no run needs it."""
    return (
        *(_service(number, url) for number, url in enumerate(settings.addresses, start=1)),
        *([_tracker(settings.tracker[0])] if settings.tracker else []),
    )


def _env_file() -> Check:
    path = ENV_FILE.absolute()
    missing = f"no {path.name} in {path.parent}; using defaults and the environment"
    return Check("settings", True, str(path) if path.exists() else missing)


def _git_program() -> Check:
    words = answer_of("git", "--version")
    if words is None:
        return Check("git", False, "not installed", "Install git.")
    found = re.search(r"(\d+)\.(\d+)[.\d]*", words)
    if found is None or (int(found[1]), int(found[2])) < GIT_VERSION:
        return Check("git", False, words, f"Install git {GIT_VERSION[0]}.{GIT_VERSION[1]} or newer.")
    return Check("git", True, found[0])


def _repository(settings: Settings, facts: RepositoryFacts | None) -> Iterator[Check]:
    if settings.repository is None:
        yield Check("repository", True, "the embedded template")
        yield data_check(settings, None)
        return
    try:
        facts = facts or facts_of(settings, settings.repository)
    except UserError as error:
        yield Check("repository", False, str(error))
        return
    detail = f"{facts.path}, branch {facts.base_branch} at {facts.base_commit[:7]}: {facts.subject}"
    if left_out := uncommitted(settings, facts):
        yield Check("repository", None, f"{detail}; {left_out}", "Commit what a run shall start from.")
    else:
        yield Check("repository", True, detail)
    if unlikely := unlikely_goal(settings):
        yield Check("goal", None, unlikely)
    if settings.executor == "local":  # else the nodes have it
        yield data_check(settings, facts)
    if not settings.has_models and not find_axes(find_constants(facts.source), settings.frozen_constants):
        detail = f"no constant in {settings.editable} that it may change"
        fix = "Add top-level lines such as LEARNING_RATE = 0.01, or choose another PROPOSER."
        yield Check(SEARCH, None, detail, fix)
    try:
        fixed = read_time_budget(facts.path, facts.base_commit, settings.frozen)
        settings.deadline(fixed or settings.time_budget)
    except UserError as error:
        yield Check("deadline", False, str(error))
    else:
        if unused := unused_budget(settings, fixed):
            yield Check("time budget", None, unused, "Remove TIME_BUDGET, or change it there.")


def facts_of(settings: Settings, repository: Path) -> RepositoryFacts:
    branch = settings.base_branch or None
    return inspect(repository, branch, editable=settings.editable, frozen=settings.frozen)


def begun_facts(settings: Settings, run: Run) -> RepositoryFacts:
    """Return what a run began from, whatever its repository has checked out by now."""
    source = "".join(read_programs(run.repository, run.base_commit, [settings.editable]).values())
    return RepositoryFacts(run.repository, run.base_branch, run.base_commit, "", source, (), ())


def uncommitted(settings: Settings, facts: RepositoryFacts) -> str:
    """Say which edits a run would not see, those of its own programs first; empty where there are none."""
    own = (settings.editable, *settings.frozen)
    dirty = sorted(facts.dirty, key=lambda name: name not in own)
    parts = [f"changes of {some(dirty, 'file')}"] if dirty else []
    parts += [f"new {some(facts.untracked, 'file')}"] if facts.untracked else []
    return f"uncommitted, so not part of a run: {' and '.join(parts)}" if parts else ""


def unused_budget(settings: Settings, fixed: float | None) -> str:
    """Say that the repository fixes another time budget than was set; empty where it does not."""
    # A copy of .env.example sets the usual one.
    if fixed is None or settings.time_budget in (fixed, USUAL_BUDGET):
        return ""
    return f"TIME_BUDGET={settings.time_budget:g} is not used: the repository fixes {fixed:g} s"


def unlikely_goal(settings: Settings) -> str:
    """Say that a number is minimized of which more is usually better; empty where it is not."""
    odd = settings.metric_goal is Goal.MINIMIZE and is_usually_maximized(settings.metric)
    return f"lower {settings.metric} counts as better: if higher is, set METRIC_GOAL=maximize" if odd else ""


def remarks(settings: Settings, facts: RepositoryFacts, fixed: float | None) -> tuple[str, ...]:
    """Return what to say when a run starts; the repository fixes the time budget `fixed`, if any."""
    found = (uncommitted(settings, facts), unused_budget(settings, fixed), unlikely_goal(settings))
    return tuple(filter(None, found))


def data_check(settings: Settings, facts: RepositoryFacts | None) -> Check:
    environment = training_environment(os.environ, {}, let_through=settings.train_env)
    repository, commit = (facts.path, facts.base_commit) if facts else (None, "")
    data = needed_data(settings, repository, commit, environment)
    if missing := data.missing:
        if facts is None:
            return Check(DATA, True, f"prepared at the first start: {some(missing, 'path')}")
        return Check(DATA, False, f"missing: {some(missing, 'path')} (from {data.named_by})", data.fix)
    if not data.paths:
        return Check(DATA, True, "not checked: no paths found; DATA_PATHS names some")
    return Check(DATA, True, f"{some(data.paths, 'path')} (from {data.named_by})")


def _uv(repository: Path | None) -> Check:
    program = find_uv()
    words = answer_of(program, "--version") if program else None
    if words is not None:
        return Check("uv", True, words.removeprefix("uv "))
    if repository is not None and (repository / "uv.lock").exists():
        detail = "not installed: trainings run without the packages of uv.lock"
        return Check("uv", None, detail, f"Run: {install_line('uv')}; or set TRAIN_COMMAND.")
    return Check("uv", True, "not installed, and not needed")


def _cluster(settings: Settings) -> Iterator[Check]:
    """Look whether Ray is installed and its cluster answers."""
    address = settings.ray_address
    if not _is_installed("ray"):
        yield Check(
            "ray", False, "EXECUTOR=ray needs Ray, which is not installed", f"Run: {install_line(RAY)}"
        )
        return
    try:
        asking = run_worker(
            *("loop.lanes.ray_client:probe", address),
            returns=tuple,
            name="Ray",
            limit=_PATIENCE,
            settings={"RAY_USAGE_STATS_ENABLED": "0"},
        )
        nodes = asyncio.run(asking)
    except UserError as error:
        yield Check("ray", False, str(error))
        return
    gpus = sum(node.gpus for node in nodes)
    yield Check("ray", True, f"{plural(len(nodes), 'node')} with {plural(gpus, 'GPU')} at {address}")


def device() -> str:
    """Return what trainings run on, in words."""
    return _accelerator().detail


def _accelerator() -> Check:
    if shutil.which("nvidia-smi"):
        answer = ask_nvidia_smi("--query-gpu=name,memory.total", "--format=csv,noheader")
        gpus = answer.stdout.strip() if answer and answer.returncode == 0 else ""
        if not gpus:
            return Check("GPU", None, "nvidia-smi finds no GPU", "Run nvidia-smi and fix what it reports.")
        return Check("GPU", True, "; ".join(gpus.splitlines()))
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Check("GPU", True, "Apple GPU (MPS)")
    return Check("GPU", True, "no GPU: trainings run on the CPU")


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the deepest above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _state_directory(home: Path) -> Check:
    name = "state directory"
    place = nearest(home)
    if reason := cannot_write(place / "state.db"):
        fix = "Choose another one with --home or AUTORESEARCH_HOME."
        return Check(name, False, f"cannot write to {place}: {reason}", fix)
    usage = shutil.disk_usage(place)
    disk, detail = Disk(home, usage.free, usage.total), f"{home}, {usage.free / 1e9:.1f} GB free"
    if disk.low:
        return Check(name, False, f"{detail}: a run would pause at once", "Free some space.")
    if disk.short:
        return Check(name, None, detail, "Free some space: a night needs several GB for trainings and logs.")
    return Check(name, True, detail)


def _bot(path: Path) -> Check:
    answers = bot_answers(path)
    if answers is None:
        return Check("bot", None, f"no answer on {path}", "See bot.log in the state directory.")
    return Check("bot", True, f"running on {path.parent}" if answers else "not running")


def _clock(now: datetime, zone: str, written: float) -> Check:
    # The clock of a machine without a battery may begin years ago: before this very file was written.
    if now.timestamp() < written:
        return Check("clock", None, f"{now:%Y-%m-%d %H:%M} {zone} is in the past", "Set the machine's clock.")
    return Check("clock", True, f"{now:%Y-%m-%d %H:%M} {zone}")
