"""What people can set, read from `.env` in the working directory and from the environment, which wins."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    ValidationError,
    model_validator,
)

from bot.setup import setting_types as types
from bot.setup.setting_types import bad_lines, near_miss, sentence
from bot.setup.sources import SEARCH
from loop.errors import UserError
from loop.experiment import Goal
from loop.shell import USUAL_HOME
from notifiers.delivery.preferences import MOST

log = logging.getLogger(__name__)

ENV_FILE = Path(".env")  # where settings are read, in the folder in which a command was started

USUAL_NOISE_RUNS = 2
USUAL_BUDGET = 300.0  # seconds, the practice's
LONG_BUDGET = 1200.0  # seconds of a training; repeats of longer ones cost a good part of a night


def _setting(default: str, **rules: Any) -> Any:
    return Field(default, **rules)


_USUAL_DATA = "~/.cache/autoresearch/data,~/.cache/autoresearch/tokenizer"


class Settings(BaseModel):
    """Every setting, explained in `.env.example`. Its name is the field's in capitals, or the alias.

    Defaults are written as in `.env`. `load_settings` makes one.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    home: types.NewFolder = _setting(USUAL_HOME, validation_alias="AUTORESEARCH_HOME")

    # What is trained

    repository: types.OptionalFolder = _setting("")
    base_branch: str = _setting("")
    data_paths: types.Paths = _setting(_USUAL_DATA)
    train_command: types.CommandLine = _setting("")
    train_env: types.Names = _setting("")
    editable: types.RepositoryFile = _setting("train.py")
    frozen: types.RepositoryFiles = _setting("prepare.py")
    metric: str = _setting("val_bpb", pattern=r"^[A-Za-z_][\w./-]*$")
    metric_goal: Goal = _setting("minimize")
    summary_pattern: types.OptionalPattern = _setting("")
    time_budget: FiniteFloat = _setting(f"{USUAL_BUDGET:g}", gt=0)
    deadline_minutes: types.OptionalNumber = _setting("", gt=0)

    # What trainings may see and do

    sandbox: Literal["auto", "bwrap", "landlock", "none"] = _setting("auto")
    sandbox_read: types.Paths = _setting("")
    sandbox_write: types.Paths = _setting("")
    link_paths: types.RepositoryFiles = _setting("")
    allow_network: bool = _setting("0")

    # How numbers are checked

    evaluate: types.CommandLine = _setting("")

    # How the loop goes

    experiments: types.OptionalCount = _setting("", ge=1)
    heartbeat_minutes: FiniteFloat = _setting("10", gt=0)
    stall_minutes: FiniteFloat = _setting("5", gt=0)
    healthcheck_url: types.OptionalSecretUrl = _setting("")
    crash_streak: int = _setting("5", ge=1)
    stuck_after: int = _setting("15", ge=1)
    lanes: types.Lanes = _setting("auto")
    executor: Literal["local", "ray"] = _setting("local")
    ray_address: str = _setting("", pattern=r"^(auto|\S+:\d+)?$")
    noise_runs: types.OptionalCount = _setting("", ge=0)
    equal_within: types.OptionalNumber = _setting("", ge=0)
    certify_minutes: FiniteFloat = _setting("35", ge=0)
    certify_repeats: int = _setting("3", ge=2, le=10)
    simplicity_gain: types.OptionalNumber = _setting("", ge=0)
    simplicity_lines: int = _setting("20", ge=0)
    guard: Literal["flag", "strict"] = _setting("flag")

    # Where ideas come from

    proposer: types.Sources = _setting("search")
    frozen_constants: types.Names = _setting("")
    fallback_model: types.OptionalModel = _setting("")
    anthropic_api_key: SecretStr = _setting("")
    openai_api_key: SecretStr = _setting("")
    openai_base_url: types.OptionalUrl = _setting("")
    google_api_key: SecretStr = _setting("")
    context_tokens: int = _setting("60000", ge=4000)
    agent_command: types.CommandLine = _setting("")
    agent_minutes: FiniteFloat = _setting("10", gt=0)
    llm_budget_usd: types.OptionalNumber = _setting("", ge=0)
    llm_budget_usd_a_day: types.OptionalNumber = _setting("", ge=0)
    llm_when_spent: Literal["search", "pause"] = _setting("search")

    # Telegram

    telegram_bot_token: SecretStr = _setting("")
    telegram_chat_ids: types.Chats = _setting("")
    telegram_user_ids: types.Chats = _setting("")
    telegram_topics: Literal["off", "run"] = _setting("off")
    telegram_keyboard: Literal["off", "on"] = _setting("off")
    telegram_base_url: types.Url = _setting("https://api.telegram.org")
    telegram_webhook_url: str = _setting("")
    telegram_webhook_secret: SecretStr = _setting("")
    telegram_webhook_listen: types.OptionalAddress = _setting("127.0.0.1:8443")

    # Slack

    slack_bot_token: SecretStr = _setting("")
    slack_app_token: SecretStr = _setting("")
    slack_channels: types.Members = _setting("")
    slack_user_ids: types.Members = _setting("")
    slack_base_url: types.Url = _setting("https://slack.com/api/")
    slack_signing_secret: SecretStr = _setting("")
    slack_listen: types.OptionalAddress = _setting("")

    # What people see

    apprise_urls: SecretStr = _setting("")
    tracker: types.OptionalTracker = _setting("")
    digest_every: int = _setting("1", ge=1, le=MOST)
    quiet_hours: types.OptionalHours = _setting("")
    wake_up: types.OptionalWakeUp = _setting("07:00")
    gpu_dollars_an_hour: types.OptionalNumber = _setting("", ge=0)
    time_zone: types.OptionalZone = _setting("")

    @property
    def names_data(self) -> bool:
        """Whether DATA_PATHS says more than the default, which a copy of .env.example repeats."""
        usual = tuple(Path(path).expanduser() for path in _USUAL_DATA.split(","))
        return "data_paths" in self.model_fields_set and self.data_paths != usual

    def deadline(self, time_budget: float) -> float:
        """Return after how many seconds a training with this budget (seconds) is killed.

        Raises:
            UserError: DEADLINE_MINUTES would kill every training within its budget.
        """
        from loop.engine.stages import usual_deadline

        if self.deadline_minutes is None:
            return usual_deadline(time_budget)
        if 60 * self.deadline_minutes <= time_budget:
            raise UserError(
                f"DEADLINE_MINUTES={self.deadline_minutes:g} is not longer than the time budget of "
                f"{time_budget:g} s. Set it to more than {time_budget / 60:.3g}, or leave it empty."
            )
        return 60 * self.deadline_minutes

    def noise_runs_of(self, time_budget: float) -> int:
        """Return how often the baseline is repeated; long trainings are not, unless that was set."""
        usual = USUAL_NOISE_RUNS if time_budget <= LONG_BUDGET else 0
        return usual if self.noise_runs is None else self.noise_runs

    @property
    def zone(self) -> tzinfo:
        return self.time_zone or datetime.now().astimezone().tzinfo or UTC

    @property
    def socket(self) -> Path:
        return self.home / "bot.sock"

    @property
    def has_chat(self) -> bool:
        return bool(self.telegram_bot_token or self.slack_bot_token)

    @property
    def has_models(self) -> bool:
        """Whether models or agents write programs."""
        return any(choice.kind != SEARCH for choice in self.proposer)

    @property
    def addresses(self) -> list[str]:
        """APPRISE_URLS, each of which may hold a password."""
        return [url.strip() for url in self.apprise_urls.get_secret_value().split(",") if url.strip()]

    @property
    def secrets(self) -> frozenset[str]:
        values = (getattr(self, name) for name in type(self).model_fields)
        texts = (value.get_secret_value() for value in values if isinstance(value, SecretStr))
        return frozenset(part.strip() for text in texts for part in text.split(",") if part.strip())

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        own_agent = any(source.is_agent and not source.detail for source in self.proposer)
        if own_agent and not self.agent_command:
            raise ValueError("PROPOSER=agent needs AGENT_COMMAND; agent:claude does not.")
        if self.slack_bot_token and self.slack_listen is None and not self.slack_app_token:
            raise ValueError("SLACK_BOT_TOKEN needs SLACK_APP_TOKEN, the app-level token (xapp-…).")
        if self.slack_app_token and not self.slack_bot_token:
            raise ValueError("SLACK_APP_TOKEN needs SLACK_BOT_TOKEN, the bot token (xoxb-…).")
        if self.slack_bot_token and self.slack_listen is not None and not self.slack_signing_secret:
            raise ValueError("SLACK_LISTEN needs SLACK_SIGNING_SECRET.")
        if self.telegram_webhook_url and not self.telegram_webhook_secret:
            raise ValueError("TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_SECRET.")
        if self.telegram_webhook_url and self.telegram_webhook_listen is None:
            raise ValueError("TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_LISTEN.")
        if self.editable in self.frozen:
            raise ValueError(f"{self.editable} cannot be both EDITABLE and FROZEN.")
        return self

    @model_validator(mode="after")
    def _fit_a_cluster(self) -> Settings:
        if self.executor != "ray":
            return self
        if not self.ray_address or "://" in self.ray_address:
            raise ValueError("EXECUTOR=ray needs RAY_ADDRESS, such as 10.0.0.1:6379; auto on its head node.")
        if self.repository is None:
            raise ValueError("EXECUTOR=ray needs REPOSITORY: `autoresearch init DIR` makes one.")
        if self.link_paths:
            raise ValueError(
                "EXECUTOR=ray cannot use LINK_PATHS, files of this machine's checkout: let the program read "
                "them by an absolute path that DATA_PATHS names, and put them there on each node."
            )
        return self


def load_settings(
    env_file: Path = ENV_FILE, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Settings:
    """Return the settings; `home` wins over both sources, and the file need not exist.

    Raises:
        UserError: one line for each problem, naming the setting and where it stands.
    """
    names = [str(field.validation_alias) for field in Settings.model_fields.values()]
    for name in sorted(environ):  # only warned of: it may be another program's
        if meant := near_miss(name, names):
            log.warning("%s in the environment is not a setting. Did you mean %s?", name, meant)
    given = {name: environ[name] for name in names if name in environ}
    subjects = {name: f"{name} in the environment" for name in given}
    if home is not None:
        given["AUTORESEARCH_HOME"], subjects["AUTORESEARCH_HOME"] = str(home), "--home"
    problems = bad_lines(env_file)
    if not problems:
        try:
            settings = Settings.model_validate(dotenv_values(env_file, encoding="utf-8-sig") | given)
        except ValidationError as invalid:
            problems = [sentence(error, subjects, env_file, names) for error in invalid.errors()]
        else:
            return _follow_cache(settings, environ.get("AUTORESEARCH_CACHE", ""))
    # Outside of the handler, so not chained: the original repeats every value, and one may be a secret.
    raise UserError("\n".join(problems))


def _follow_cache(settings: Settings, cache: str) -> Settings:
    if not cache or "data_paths" in settings.model_fields_set:
        return settings
    folder = Path(cache).expanduser().absolute()
    following = settings.model_copy(update={"data_paths": (folder / "data", folder / "tokenizer")})
    following.model_fields_set.discard("data_paths")  # nobody has set them
    return following
