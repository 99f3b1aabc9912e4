"""What this machine and its bot lack, each with what fixes it: the checks of `doctor` and `/health`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from importlib import util
from pathlib import Path

from bot.local.wire import bot_answers
from bot.setup.data import needed_data
from bot.setup.settings import ENV_FILE, Settings
from bot.setup.sources import PROVIDERS, SEARCH, SourceChoice, agent_of
from loop.errors import UserError
from loop.experiment import Actor, EventKind, Purpose, Run
from loop.git.repository import RepositoryFacts, inspect, read_time_budget
from loop.process.environment import find_uv, training_environment
from loop.process.liveness import Marked, find_marked
from loop.process.machine import Disk, GpuProcess, ask_nvidia_smi, look_at_gpus
from loop.program.constants import find_constants
from loop.proposers.model.providers import INSTALL, is_own_server
from loop.proposers.search.space import find_axes
from loop.store.events import Call, last_incidents, open_calls
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal
from loop.text import one_line
from notifiers.delivery.delivery import Standing, standings
from notifiers.text.words import duration, state_text

_PATIENCE = 20.0  # seconds for a program to answer


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is None for a warning; `fix` is what to do, empty if all is well."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


def render(checks: tuple[Check, ...]) -> str:
    """Return the checks for a terminal: a line each, and another where there is something to do."""
    words = {True: "ok  ", None: "warn", False: "FAIL"}
    lines = []
    for check in checks:
        lines.append(f"{words[check.ok]}  {check.name}: {check.detail}")
        if check.fix:
            lines.append(f"      {check.fix}")
    return "\n".join(lines)


def ask(*command: str) -> str | None:
    """Return what a program prints; None if it fails, is missing or does not answer."""
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
    fix = f"Run: {sys.executable} -m pip install {service}"
    return Check("tracker", False, f"{service} is not installed", fix)


GIT_VERSION = (2, 28)  # the first that can name the branch of a new repository
_NAMED = 5  # of the files that a run would not see


def examine(settings: Settings) -> tuple[Check, ...]:
    """Look at everything that the bot needs; leaves nothing behind and needs no running bot."""
    now = datetime.now().astimezone(settings.time_zone)
    fallback = [settings.fallback_model] if settings.fallback_model else []
    sources = [choice for choice in (*settings.proposer, *fallback) if choice.kind != SEARCH]
    addresses = filter(None, map(str.strip, settings.apprise_urls.get_secret_value().split(",")))
    return (
        _env_file(),
        _git_program(),
        *_repository(settings),
        _uv(settings.repository),
        _accelerator(),
        *(_source(settings, choice) for choice in sources),
        *(_service(number, url) for number, url in enumerate(addresses, start=1)),
        *([_tracker(settings.tracker[0])] if settings.tracker else []),
        _state_directory(settings.home),
        _bot(settings.socket),
        _clock(now, str(settings.time_zone or now.tzname()), Path(__file__).stat().st_mtime),
    )


def _env_file() -> Check:
    path = ENV_FILE.absolute()
    missing = f"no {path.name} in {path.parent}; using defaults and the environment"
    return Check("settings", True, str(path) if path.exists() else missing)


def _git_program() -> Check:
    words = ask("git", "--version")
    if words is None:
        return Check("git", False, "not installed", "Install git.")
    found = re.search(r"(\d+)\.(\d+)[.\d]*", words)
    if found is None or (int(found[1]), int(found[2])) < GIT_VERSION:
        return Check("git", False, words, f"Install git {GIT_VERSION[0]}.{GIT_VERSION[1]} or newer.")
    return Check("git", True, found[0])


def _repository(settings: Settings) -> Iterator[Check]:
    if settings.repository is None:
        yield Check("repository", True, "the embedded template")
        yield _data(settings, None)
        return
    try:
        facts = inspect(
            settings.repository,
            settings.base_branch or None,
            editable=settings.editable,
            frozen=settings.frozen,
        )
    except UserError as error:
        yield Check("repository", False, str(error))
        return
    detail = f"{facts.path}, branch {facts.base_branch} at {facts.base_commit[:7]}: {facts.subject}"
    if left_out := _left_out(facts):
        detail += f"; not in it: {' and '.join(left_out)}"
        yield Check("repository", None, detail, "Commit your changes first.")
    else:
        yield Check("repository", True, detail)
    yield _data(settings, facts)
    only_search = all(choice.kind == SEARCH for choice in settings.proposer)
    if only_search and not find_axes(find_constants(facts.source), settings.frozen_constants):
        detail = f"no constant in {settings.editable} that it may change"
        fix = "Add top-level lines such as LEARNING_RATE = 0.01, or choose another PROPOSER."
        yield Check(SEARCH, None, detail, fix)
    try:
        fixed = read_time_budget(facts.path, facts.base_commit, settings.frozen)
        settings.deadline(fixed or settings.time_budget)
    except UserError as error:
        yield Check("deadline", False, str(error))


def _left_out(facts: RepositoryFacts) -> list[str]:
    left_out = [f"uncommitted changes of {', '.join(facts.dirty)}"] if facts.dirty else []
    if names := facts.untracked:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        left_out.append(f"untracked {', '.join(names[:_NAMED])}{more}")
    return left_out


def _data(settings: Settings, facts: RepositoryFacts | None) -> Check:
    environment = training_environment(os.environ, {}, let_through=settings.train_env)
    repository, commit = (facts.path, facts.base_commit) if facts else (None, "")
    data = needed_data(settings, repository, commit, environment)
    if data.missing:
        return Check("data", False if facts else None, f"missing: {data.problem}", data.fix)
    found = f"{', '.join(map(str, data.paths))} (from {data.named_by})"
    return Check("data", True, found if data.paths else "not checked: no paths found; DATA_PATHS names some")


def _uv(repository: Path | None) -> Check:
    program = find_uv()
    words = ask(program, "--version") if program else None
    if words is not None:
        return Check("uv", True, words.removeprefix("uv "))
    if repository is not None and (repository / "uv.lock").exists():
        detail = "not installed: trainings run without the packages of uv.lock"
        return Check("uv", None, detail, f"Run: {sys.executable} -m pip install uv; or set TRAIN_COMMAND.")
    return Check("uv", True, "not installed, and not needed")


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
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        fix = "Choose another one with --home or AUTORESEARCH_HOME."
        return Check(name, False, f"cannot write to {place}: {error.strerror}", fix)
    usage = shutil.disk_usage(place)
    detail = f"{home}, {usage.free / 1e9:.1f} GB free"
    if Disk(home, usage.free, usage.total).short:
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


INCIDENTS = 5
_LINE = 160
_START = "Start the bot: autoresearch up"
_WORDS = {
    EventKind.RUN_RECOVERED: "recovered",
    EventKind.NEEDS_ATTENTION: "needs a person",
    EventKind.INTERRUPTED: "trains again",
}


def health_checks(
    journal: Journal, *, home: Path, heartbeat_minutes: float, now: float, running: bool = True
) -> tuple[Check, ...]:
    """Check the heartbeat, the runs, deliveries, the state file and the GPUs' memory.

    It asks nvidia-smi, so it may take seconds. `now` is in seconds since the epoch; `running` tells whether
    the bot is.
    """
    beat = _heartbeat(journal.last_beat(), heartbeat_minutes, now)
    return (
        beat if running else Check("heartbeat", None, "none, the bot is not running", _START),
        *(_lane(journal, run, now) for run in journal.active_runs()),
        *(_call(run, call) for run in journal.active_runs() for call in open_calls(journal, run)),
        *(_delivered(standing, now) for standing in standings(journal)),
        _state_file(journal),
        _gpu_memory(home),
    )


def incident_lines(journal: Journal, *, zone: tzinfo, last: int = INCIDENTS) -> list[str]:
    return [
        one_line(
            f"{datetime.fromtimestamp(incident.at, zone):%Y-%m-%d %H:%M} run {incident.tag} "
            f"{_WORDS[incident.kind]}: {incident.reason}",
            _LINE,
        )
        for incident in last_incidents(journal, most=last)
    ]


def _heartbeat(last: float | None, minutes: float, now: float) -> Check:
    if last is None:
        return Check("heartbeat", None, "none yet", _START)
    age = now - last
    if age < 0:
        detail = f"dated {duration(-age)} in the future: the clock was set back"
        return Check("heartbeat", None, detail, "Wait for the next one.")
    late = age - 60 * minutes
    detail = f"{duration(age)} ago, {f'{duration(late)} late' if late > 0 else 'on time'}"
    if late < 60 * minutes:  # one beat may be missed
        return Check("heartbeat", True, detail)
    return Check("heartbeat", None, detail, "See bot.log in the state directory.")


def _lane(journal: Journal, run: Run, now: float) -> Check:
    training = [
        f"{'a repeat of ' * (training.purpose is Purpose.REPEAT)}#{number} for "
        f"{duration(now - (training.started_at or now))}"
        for number, training in trainings_under_way(journal, run.id)
    ]
    doing = f"trains {', '.join(training)}" if training else state_text(run.state, run.reason)
    waits = run.is_paused and run.state_by in (Actor.HEARTBEAT, Actor.LOOP)  # for a person to fix its reason
    return Check("lane", not waits, one_line(f"{run.tag} {doing}", _LINE))


def loop_check(run: Run, error: str) -> Check:
    return Check("loop", False, one_line(f"{run.tag} failed and will be restarted: {error}", _LINE))


def _call(run: Run, call: Call) -> Check:
    return Check("needs you", None, one_line(f"run {run.tag}: {call.reason}", _LINE))


def _delivered(standing: Standing, now: float) -> Check:
    last, waiting = standing.last, f"{standing.waiting:,} undelivered"
    if (trouble := last.trouble) is not None:
        since = f"takes nothing for {duration(now - trouble.since)}: {one_line(trouble.reason, _LINE)}"
        return Check(last.channel, False, f"{waiting}, {since}")
    if last.told_at is None:
        return Check(last.channel, None, f"{waiting}, nothing was ever delivered")
    return Check(last.channel, True, f"{waiting}, last delivery {duration(now - last.told_at)} ago")


def _state_file(journal: Journal) -> Check:
    path, blocked = journal.path, journal.blocked
    if blocked is not None:
        since = datetime.fromtimestamp(blocked.since).astimezone()
        return Check(
            "state file",
            False,
            f"not writable since {since:%H:%M}, as {blocked.cause}",
            f"{blocked.fix.capitalize()}.",
        )
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    return Check("state file", True, f"{path}, {size / 1e6:.1f} MB")


def _gpu_memory(home: Path) -> Check:
    name = "GPU memory"
    state = look_at_gpus()
    if state is None:
        return Check(name, True, "unknown: no nvidia-smi")
    marked = find_marked(home)
    held = [_process(process, marked) for process in state.processes]
    free = ", ".join(f"{gpu.free_mb / 1024:.1f}" for gpu in state.gpus if gpu.free_mb is not None)
    return Check(name, True, "; ".join((f"{free or '?'} GB free", *held)))


def _process(process: GpuProcess, marked: Collection[Marked]) -> str:
    ours = any(found.process.pid == process.pid for found in marked)
    memory = "?" if process.memory_mb is None else f"{process.memory_mb / 1024:.1f}"
    return f"{process.name} (pid {process.pid}{', ours' if ours else ''}) {memory} GB"
