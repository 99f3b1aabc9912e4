"""What people can set, read from `.env` in the working directory and from the environment, which wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasGenerator, Field, FiniteFloat, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bot.setup.setting_types import (
    Chats,
    CommandLine,
    Members,
    Names,
    NewFolder,
    OptionalAddress,
    OptionalCount,
    OptionalDollars,
    OptionalFolder,
    OptionalHours,
    OptionalMinutes,
    OptionalModel,
    OptionalSecretUrl,
    OptionalTracker,
    OptionalUrl,
    OptionalWakeUp,
    OptionalZone,
    Paths,
    RepositoryFile,
    RepositoryFiles,
    Sources,
    Url,
    bad_lines,
    near_miss,
    sentence,
)
from loop.engine.decision import usual_deadline
from loop.errors import UserError
from loop.experiment import Goal
from notifiers.delivery.preferences import MOST

ENV_FILE = Path(".env")
"""Where settings are read, in the folder in which a command was started."""


def _setting(default: str, description: str, **rules: Any) -> Any:
    return Field(default, description=description, **rules)


class Settings(BaseSettings):
    """Every setting. Its name is the field's in capitals, or the alias.

    Defaults are written as in `.env`; the descriptions are the comments of `.env.example`. `load_settings`
    makes one.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        case_sensitive=True,
        dotenv_filtering="match_prefix",  # so that an unknown name without a value is refused too
        env_file_encoding="utf-8-sig",
        validate_default=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
    )

    home: NewFolder = _setting(
        "~/.local/share/autoresearch",
        "The state directory: the journal, the worktrees, the log and the bot's socket.",
        validation_alias="AUTORESEARCH_HOME",
    )
    repository: OptionalFolder = _setting(
        "", "The training repository; empty: the embedded template, made in the state directory."
    )
    base_branch: str = _setting(
        "", "The branch that a new run starts from; empty: the one that is checked out."
    )
    data_paths: Paths = _setting(
        "~/.cache/autoresearch/data,~/.cache/autoresearch/tokenizer",
        "What must exist before a run starts, separated by commas; empty: no check. The default follows "
        "AUTORESEARCH_CACHE, the folder where the embedded template keeps its data.",
    )
    train_command: CommandLine = _setting(
        "",
        "The command that trains, run in the worktree; empty: `uv run` where the repository has a uv.lock "
        "and uv is installed, else the Python that runs the bot.",
    )
    editable: RepositoryFile = _setting("train.py", "The one file of the repository that experiments change.")
    frozen: RepositoryFiles = _setting(
        "prepare.py", "Files of the repository that must never change, separated by commas."
    )
    metric: str = _setting(
        "val_bpb", "The number of the training's summary that decides.", pattern=r"^[A-Za-z_][\w./-]*$"
    )
    metric_goal: Goal = _setting("minimize", "Which numbers are better: minimize or maximize.")
    time_budget: FiniteFloat = _setting(
        "300", "Seconds of training in one experiment; what the repository fixes itself wins.", gt=0
    )
    deadline_minutes: OptionalMinutes = _setting(
        "",
        "Minutes after its start at which a training that still runs is killed, more than its budget; empty: "
        "the budget and once more as long, at least 5 minutes more.",
        gt=0,
    )
    experiments: OptionalCount = _setting(
        "",
        "Experiments after the baseline, then the bot rests; empty: without end, "
        "but 4 with --exit-when-done.",
        ge=1,
    )
    heartbeat_minutes: FiniteFloat = _setting(
        "10", "Minutes between two checks that every active run is alive and moving.", gt=0
    )
    stall_minutes: FiniteFloat = _setting(
        "5",
        "Minutes without a word and without any use of a processor after which a training is given up.",
        gt=0,
    )
    healthcheck_url: OptionalSecretUrl = _setting(
        "",
        "Called after each heartbeat and at WAKE_UP, as healthchecks.io wants it: so a dead machine is "
        "noticed elsewhere.",
    )
    crash_streak: int = _setting("5", "Crashes in a row after which a person is asked for.", ge=1)
    stuck_after: int = _setting(
        "15", "Experiments without a keep after which a run switches to broader changes.", ge=1
    )
    proposer: Sources = _setting(
        "search",
        "Where ideas come from, by comma: search, which varies constants of the editable file; "
        "anthropic:MODEL, openai:MODEL, google:MODEL; agent:claude, codex, gemini, opencode; agent. Each may "
        "have a share of the experiments, as in anthropic:claude-sonnet-4-5=3, search=1.",
    )
    frozen_constants: Names = _setting(
        "", "Constants of the editable file that search leaves alone, separated by commas."
    )
    fallback_model: OptionalModel = _setting(
        "",
        "The model that is called where those of PROPOSER are unavailable or propose no valid program, such "
        "as openai:gpt-5-mini.",
    )
    anthropic_api_key: SecretStr = _setting(
        "", "The key for models of Anthropic, also by an agent, which uses it before its login."
    )
    openai_api_key: SecretStr = _setting(
        "", "The key for models of OpenAI, or of who speaks its language; agents likewise."
    )
    openai_base_url: OptionalUrl = _setting(
        "", "Who speaks its language, such as http://127.0.0.1:8000/v1; empty: OpenAI itself."
    )
    google_api_key: SecretStr = _setting("", "The key for models of Google; agents likewise.")
    context_tokens: int = _setting("60000", "Tokens that a model is told at most.", ge=4000)
    agent_command: CommandLine = _setting(
        "",
        "The command of PROPOSER=agent: it reads what to do on stdin, or in the file that {prompt} names, "
        "and edits the editable file in the folder where it starts. It runs as you.",
    )
    agent_minutes: FiniteFloat = _setting("10", "Minutes after which a coding agent is ended.", gt=0)
    llm_budget_usd: OptionalDollars = _setting(
        "", "Dollars that models and agents may cost in one run; empty: without a limit.", ge=0
    )
    llm_budget_usd_a_day: OptionalDollars = _setting(
        "", "Dollars that they may cost from midnight to midnight, all runs together.", ge=0
    )
    llm_when_spent: Literal["search", "pause"] = _setting(
        "search", "What a run does then: search goes on without them, pause waits for a person."
    )
    simplicity_gain: FiniteFloat = _setting(
        "0.001", "A gain below this is discarded where it costs SIMPLICITY_LINES or more.", ge=0
    )
    simplicity_lines: int = _setting(
        "20", "Net added lines that only a gain of SIMPLICITY_GAIN or more is worth.", ge=0
    )
    telegram_bot_token: SecretStr = _setting("", "The token that @BotFather gives; empty: no Telegram.")
    telegram_chat_ids: Chats = _setting(
        "",
        "Chats that are told what happens, by comma; a forum's topic as -1001234/15. In a private chat its "
        "person steers, in a group its members look on, unless it says otherwise: -1001234:operator.",
    )
    telegram_user_ids: Chats = _setting(
        "", "Users who may, by comma; with :viewer one may only look. If any is listed, nobody else may."
    )
    telegram_base_url: Url = _setting("https://api.telegram.org", "The Bot API server, if it is your own.")
    telegram_webhook_url: str = _setting(
        "", "The https address that Telegram sends updates to; empty: the bot asks for them."
    )
    telegram_webhook_secret: SecretStr = _setting(
        "", "The secret that Telegram shows there: letters, digits, _, -."
    )
    telegram_webhook_listen: OptionalAddress = _setting(
        "127.0.0.1:8443", "Where the bot listens for what comes to that address."
    )
    slack_bot_token: SecretStr = _setting("", "The app's bot token, xoxb-…; empty: no Slack.")
    slack_app_token: SecretStr = _setting("", "The app-level token for Socket Mode, xapp-….")
    slack_channels: Members = _setting(
        "", "Channels that are told what happens, by their ids (C…), by comma; roles as for Telegram's."
    )
    slack_user_ids: Members = _setting(
        "", "Users who may (U…), by comma; with :viewer one may only look. If any is listed, nobody else may."
    )
    slack_base_url: Url = _setting("https://slack.com/api/", "The Web API, if it is your own.")
    slack_signing_secret: SecretStr = _setting("", "The app's signing secret, for requests by HTTP.")
    slack_listen: OptionalAddress = _setting(
        "", "Where the bot listens for signed requests, such as 127.0.0.1:3000; empty: Socket Mode."
    )
    apprise_urls: SecretStr = _setting(
        "", "Any other service that the apprise library knows, by its URLs, by comma."
    )
    tracker: OptionalTracker = _setting(
        "",
        "An experiment tracker that is told every result: trackio:PROJECT or wandb:PROJECT, once its package "
        "is installed; empty: none.",
    )
    digest_every: int = _setting(
        "1", "How many digests make one message, until a chat says otherwise with /notify.", ge=1, le=MOST
    )
    quiet_hours: OptionalHours = _setting(
        "", "Hours in which chats are told only what needs a person, such as 22:00-07:00; the rest waits."
    )
    wake_up: OptionalWakeUp = _setting(
        "07:00",
        "When every chat is told what the night brought: a time, or a cron expression such as 30 6 * * 1-5; "
        "also in quiet hours; empty: never.",
    )
    gpu_dollars_an_hour: OptionalDollars = _setting(
        "", "Dollars that an hour of the GPU costs while something trains on it; empty: nobody knows.", ge=0
    )
    time_zone: OptionalZone = _setting(
        "", "The time zone of dates and times, such as Europe/Berlin; empty: the machine's."
    )

    def deadline(self, time_budget: float) -> float:
        """Return after how many seconds a training with this budget (seconds) is killed.

        Raises:
            UserError: DEADLINE_MINUTES would kill every training within its budget.
        """
        if self.deadline_minutes is None:
            return usual_deadline(time_budget)
        if 60 * self.deadline_minutes <= time_budget:
            raise UserError(
                f"DEADLINE_MINUTES={self.deadline_minutes:g} is within the time budget of {time_budget:g} s: "
                f"set it to more than {time_budget / 60:.3g}, or leave it empty."
            )
        return 60 * self.deadline_minutes

    @property
    def socket(self) -> Path:
        """Where the bot listens for `autoresearch send` and `chat`; its lock lies beside it."""
        return self.home / "bot.sock"

    @property
    def has_chat(self) -> bool:
        """Say whether people can reach the bot from elsewhere."""
        return bool(self.telegram_bot_token.get_secret_value() or self.slack_bot_token.get_secret_value())

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret that is set, for what must not show one."""
        values = (getattr(self, name) for name in type(self).model_fields)
        texts = (value.get_secret_value() for value in values if isinstance(value, SecretStr))
        return frozenset(part.strip() for text in texts for part in text.split(",") if part.strip())

    @model_validator(mode="after")
    def _agent_has_its_command(self) -> Settings:
        own = any(source.is_agent and not source.detail for source in self.proposer)
        if own and not self.agent_command:
            raise ValueError("PROPOSER=agent needs AGENT_COMMAND beside it; agent:claude needs none.")
        return self

    @model_validator(mode="after")
    def _slack_is_whole(self) -> Settings:
        if not self.slack_bot_token.get_secret_value():
            return self
        if self.slack_listen is None and not self.slack_app_token.get_secret_value():
            raise ValueError("SLACK_BOT_TOKEN needs SLACK_APP_TOKEN beside it, the app-level token (xapp-…).")
        if self.slack_listen is not None and not self.slack_signing_secret.get_secret_value():
            raise ValueError("SLACK_LISTEN needs SLACK_SIGNING_SECRET beside it.")
        return self

    @model_validator(mode="after")
    def _webhook_is_whole(self) -> Settings:
        if self.telegram_webhook_url and not self.telegram_webhook_secret.get_secret_value():
            raise ValueError("TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_SECRET beside it.")
        return self

    @model_validator(mode="after")
    def _editable_is_not_frozen(self) -> Settings:
        if self.editable in self.frozen:
            raise ValueError(f"{self.editable} cannot be EDITABLE and FROZEN at once.")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out the environment: `load_settings` hands it over and can so name the source of an error."""
        del settings_cls, env_settings, file_secret_settings
        return init_settings, dotenv_settings


def load_settings(
    env_file: Path = ENV_FILE, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Settings:
    """Return the settings; `home` wins over both sources, and a file that does not exist says nothing.

    Raises:
        UserError: one line for each problem, naming the setting and where it stands.
    """
    names = [str(field.validation_alias) for field in Settings.model_fields.values()]
    problems = bad_lines(env_file) or [
        f"{name} in the environment is not a setting; did you mean {meant}?"
        for name in sorted(environ)
        if (meant := near_miss(name, names))
    ]
    given: dict[str, Any] = {name: environ[name] for name in names if name in environ}
    subjects = {name: f"{name} in the environment" for name in given}
    if home is not None:
        given["AUTORESEARCH_HOME"], subjects["AUTORESEARCH_HOME"] = str(home), "--home"
    if not problems:
        try:
            settings = Settings(**{"_env_file": env_file, **given})
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
    return settings.model_copy(update={"data_paths": (folder / "data", folder / "tokenizer")})
