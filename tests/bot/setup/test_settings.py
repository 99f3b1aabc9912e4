from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.setup.settings import Settings, load_settings
from bot.setup.sources import SourceChoice
from loop.errors import UserError
from loop.experiment import Goal
from tests.notifiers.golden import check_one

NO_FILE = Path("there-is-no-such.env")
EXAMPLE = Path(__file__).parents[3] / ".env.example"
NAMES = {str(field.validation_alias): field for field in Settings.model_fields.values()}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def check_sentence(title: str, said: str, env_file: Path = NO_FILE) -> None:
    """Hold a refusal against the one of the golden file, which calls the file of settings ENV."""
    check_one("settings", title, said.replace(str(env_file), "ENV").replace(str(EXAMPLE), "EXAMPLE"))


def refusal(
    env_file: Path = NO_FILE, environ: Mapping[str, str] = MappingProxyType({}), home: Path | None = None
) -> str:
    with pytest.raises(UserError) as refused:
        load_settings(env_file, environ, home)
    return str(refused.value)


def test_no_setting_is_needed() -> None:
    settings = load_settings(NO_FILE, {})
    assert settings.home == Path.home() / ".local/share/autoresearch"
    assert settings.repository is None
    assert settings.data_paths == tuple(
        Path.home() / ".cache/autoresearch" / name for name in ("data", "tokenizer")
    )
    assert settings.frozen == ("prepare.py",)
    assert settings.metric_goal is Goal.MINIMIZE
    assert settings.time_budget == 300
    assert settings.experiments is None
    assert settings.time_zone is None


def test_the_environment_wins_over_the_file_and_home_over_both(env_file: Path, tmp_path: Path) -> None:
    env_file.write_text("TIME_BUDGET=60\nCRASH_STREAK=3\nAUTORESEARCH_HOME=~/elsewhere\n")
    environ = {"TIME_BUDGET": "20", "AUTORESEARCH_HOME": "/other"}
    settings = load_settings(env_file, environ, tmp_path / "home")
    assert (settings.time_budget, settings.crash_streak, settings.home) == (20, 3, tmp_path / "home")
    assert load_settings(env_file, {}).home == Path.home() / "elsewhere"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRASH_STREAK", "7")
    assert load_settings(NO_FILE).crash_streak == 7


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings(NO_FILE, {}).crash_streak = 3


def test_lists_are_separated_by_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "DATA_PATHS": "~/a, b",
        "FROZEN": "prepare.py,lib/eval.py",
        "FROZEN_CONSTANTS": "DEPTH , --lr, A.b",
    }
    settings = load_settings(NO_FILE, environ)
    assert settings.data_paths == (Path.home() / "a", tmp_path / "b")
    assert settings.frozen == ("prepare.py", "lib/eval.py")
    assert settings.frozen_constants == ("DEPTH", "--lr", "A.b")


def test_empty_data_paths_mean_no_check() -> None:
    assert load_settings(NO_FILE, {"DATA_PATHS": ""}).data_paths == ()
    assert load_settings(NO_FILE, {"DATA_PATHS": "", "AUTORESEARCH_CACHE": "/cache"}).data_paths == ()


def test_the_default_data_paths_follow_the_cache(env_file: Path) -> None:
    environ = {"AUTORESEARCH_CACHE": "~/c"}
    assert load_settings(NO_FILE, environ).data_paths == (
        Path.home() / "c/data",
        Path.home() / "c/tokenizer",
    )
    env_file.write_text("DATA_PATHS=/mine\n")
    assert load_settings(env_file, environ).data_paths == (Path("/mine"),)


def test_values_are_read_into_their_types(tmp_path: Path) -> None:
    environ = {
        "REPOSITORY": str(tmp_path),
        "METRIC_GOAL": "maximize",
        "SUMMARY_PATTERN": r"(?P<key>\w+)=(?P<value>\S+)",
        "EXPERIMENTS": "12",
        "TIME_ZONE": "Europe/Berlin",
        "TRAIN_COMMAND": "python -u 'my train.py'",
        "EDITABLE": "./src/train.py",
    }
    settings = load_settings(NO_FILE, environ)
    assert settings.repository == tmp_path
    assert settings.metric_goal is Goal.MAXIMIZE
    assert settings.experiments == 12
    assert settings.summary_pattern == r"(?P<key>\w+)=(?P<value>\S+)"
    assert settings.time_zone == ZoneInfo("Europe/Berlin")
    assert settings.train_command == ("python", "-u", "my train.py")
    assert settings.editable == "src/train.py"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("TIME_BUDGET", "-5", "must be more than 0, not '-5'"),
        ("TIME_BUDGET", "0", "must be more than 0"),
        ("TIME_BUDGET", "five minutes", "must be a number, not 'five minutes'"),
        ("TIME_BUDGET", "", "must be a number"),
        ("TIME_BUDGET", "inf", "must be a number"),
        ("TIME_BUDGET", "nan", "must be a number"),
        ("HEARTBEAT_MINUTES", "0", "must be more than 0"),
        ("DEADLINE_MINUTES", "0", "must be more than 0"),
        ("DEADLINE_MINUTES", "inf", "must be a number"),
        ("DEADLINE_MINUTES", "2 h", "must be a number"),
        ("EXPERIMENTS", "0", "must be 1 or more"),
        ("EXPERIMENTS", "2.5", "must be a whole number"),
        ("CRASH_STREAK", "many", "must be a whole number"),
        ("SIMPLICITY_GAIN", "-0.1", "must be 0 or more"),
        ("METRIC_GOAL", "lower", "must be 'minimize' or 'maximize', not 'lower'"),
        ("METRIC", "val bpb", "must be one word"),
        ("SUMMARY_PATTERN", "(?P<key>a)(?P<value>", "must be a regular expression, but missing ), untermin"),
        (
            "SUMMARY_PATTERN",
            "(?P<key>a)=(.*)",
            "must have the groups (?P<key>…) and (?P<value>…), not '(?P<k",
        ),
        (
            "SUMMARY_PATTERN",
            "(?P<key>a)(?P<value>b)" + "c" * 300,
            "must be 300 characters at most, but it has 322",
        ),
        ("METRIC", "", "must be one word"),
        (
            "PROPOSER",
            "oracle",
            "must be search, anthropic:MODEL, openai:MODEL, google:MODEL, agent or agent:cl",
        ),
        ("PROPOSER", "search=0", "must give search a share above 0, as in search=2, not 'search=0'"),
        ("PROPOSER", "search, search=2", "must name search only once, not 'search, search=2'"),
        ("FALLBACK_MODEL", "gpt-5", "must be anthropic:MODEL, openai:MODEL or google:MODEL, not 'gpt-5'"),
        ("OPENAI_BASE_URL", "localhost:8000", "must be a web address that begins with https://"),
        ("AGENT_MINUTES", "0", "must be more than 0"),
        ("CONTEXT_TOKENS", "100", "must be 4000 or more"),
        ("STUCK_AFTER", "0", "must be 1 or more"),
        ("LLM_BUDGET_USD", "-1", "must be 0 or more"),
        ("LLM_BUDGET_USD_A_DAY", "much", "must be a number, not 'much'"),
        ("LLM_WHEN_SPENT", "stop", "must be 'search' or 'pause', not 'stop'"),
        ("DATA_PATHS", "a,,b", "must be a list separated by commas, without an empty item"),
        ("FROZEN", "prepare.py,", "must be a list separated by commas"),
        ("FROZEN", "/etc/passwd", "must be a path inside the repository"),
        ("EDITABLE", "../train.py", "must be a path inside the repository"),
        ("EDITABLE", "", "must be a path inside the repository"),
        ("FROZEN_CONSTANTS", "DEPTH = 4", "must be names separated by commas"),
        ("REPOSITORY", "/there/is/none", "must be an existing folder, not '/there/is/none'"),
        ("REPOSITORY", "~nobody-has-this-name/x", "must be a path"),
        ("REPOSITORY", "x" * 5000, "must be an existing folder"),
        ("AUTORESEARCH_HOME", "", "must be a path"),
        ("AUTORESEARCH_HOME", "x" * 5000, "must be a folder that can be opened"),
        ("AUTORESEARCH_HOME", __file__ + "/below", f"must be a folder, but {__file__} is a file"),
        ("SLACK_LISTEN", "127.0.0.1:²", "must be an address such as 127.0.0.1:8443, not '127.0.0.1:²'"),
        ("TIME_ZONE", "Mars/Base", "must be a time zone such as Europe/Berlin, not 'Mars/Base'"),
        ("TIME_ZONE", "Europe", "must be a time zone"),
        ("TIME_ZONE", "../../etc/passwd", "must be a time zone"),
        ("TRAIN_COMMAND", "python 'train.py", "must be a command line with closed quotation marks"),
    ],
)
def test_a_bad_value_is_one_sentence(name: str, value: str, rule: str, env_file: Path) -> None:
    sentence = refusal(environ={name: value})
    assert sentence.startswith(f"{name} in the environment {rule}")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    env_file.write_text(f'{name}="{value}"\n')
    assert refusal(env_file).startswith(f"{name} in {env_file} {rule}")


@pytest.mark.parametrize("name", ["HEALTHCHECK_URL", "TELEGRAM_BASE_URL", "SLACK_BASE_URL"])
@pytest.mark.parametrize("value", ["hc-ping.com/secret", "ftp://host/secret", "https://", "http:// secret"])
def test_what_is_no_web_address_is_refused_without_being_repeated(name: str, value: str) -> None:
    rule = "must be a web address that begins with https:// or http://."
    assert refusal(environ={name: value}) == f"{name} in the environment {rule}"


def test_a_web_address_is_taken_as_it_is() -> None:
    settings = load_settings(NO_FILE, {"HEALTHCHECK_URL": "http://127.0.0.1:8000/ping/abc?rid=1"})
    assert settings.healthcheck_url.get_secret_value() == "http://127.0.0.1:8000/ping/abc?rid=1"
    assert "abc" not in repr(settings)
    assert load_settings(NO_FILE, {}).healthcheck_url.get_secret_value() == ""


def test_every_problem_has_its_line(env_file: Path) -> None:
    env_file.write_text("TIME_BUDGET=-1\nMETRIC_GOL=minimize\n")
    said = refusal(env_file, {"CRASH_STREAK": "0"}, Path(__file__))
    check_sentence("several problems", said.replace(__file__, "HOME"), env_file)


def test_sources_models_and_money_are_read() -> None:
    assert load_settings(NO_FILE, {}).proposer == (SourceChoice("search"),)
    environ = {
        "PROPOSER": "anthropic:claude-sonnet-4-5=3, search",
        "FALLBACK_MODEL": "openai:gpt-5-mini",
        "LLM_BUDGET_USD": "12.5",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-environment",
    }
    settings = load_settings(NO_FILE, environ)
    assert ", ".join(map(str, settings.proposer)) == "anthropic:claude-sonnet-4-5=3, search"
    assert settings.fallback_model == SourceChoice("openai", "gpt-5-mini")
    assert (settings.llm_budget_usd, settings.llm_budget_usd_a_day) == (12.5, None)
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant-of-the-environment"
    assert "sk-ant" not in repr(settings)


def test_an_agent_of_ones_own_needs_its_command() -> None:
    check_sentence("an agent without its command", refusal(environ={"PROPOSER": "search,agent"}))
    load_settings(NO_FILE, {"PROPOSER": "search,agent", "AGENT_COMMAND": "aider --yes"})
    load_settings(NO_FILE, {"PROPOSER": "agent:claude"})


def test_every_secret_is_known_to_who_must_not_show_one() -> None:
    secrets = {
        "OPENAI_API_KEY": "sk-one",
        "TELEGRAM_BOT_TOKEN": "12345:two",
        "APPRISE_URLS": "discord://three, ntfy://four",
        "HEALTHCHECK_URL": "https://hc-ping.com/five",
    }
    assert load_settings(NO_FILE, secrets).secrets == {
        "sk-one",
        "12345:two",
        "discord://three",
        "ntfy://four",
        "https://hc-ping.com/five",
    }
    assert load_settings(NO_FILE, {}).secrets == frozenset()


def test_the_editable_file_cannot_be_frozen() -> None:
    check_sentence("editable and frozen", refusal(environ={"FROZEN": "prepare.py,train.py"}))


def test_googles_key_has_one_name(env_file: Path) -> None:
    env_file.write_text("GEMINI_API_KEY=g")
    check_sentence("the other name of a key", refusal(env_file), env_file)


def test_the_deadline_follows_the_budget_unless_it_is_set() -> None:
    assert load_settings(NO_FILE, {}).deadline(300.0) == 600.0
    assert load_settings(NO_FILE, {}).deadline(20.0) == 320.0
    assert load_settings(NO_FILE, {"DEADLINE_MINUTES": "7.5"}).deadline(300.0) == 450.0


def test_the_baseline_is_repeated_where_that_costs_little_or_is_asked_for() -> None:
    usual, asked, none = (load_settings(NO_FILE, {"NOISE_RUNS": given}) for given in ("", "5", "0"))
    budgets = (300.0, 1200.0, 1201.0)
    assert [usual.noise_runs_of(budget) for budget in budgets] == [2, 2, 0]
    assert [asked.noise_runs_of(budget) for budget in budgets] == [5, 5, 5]
    assert [none.noise_runs_of(budget) for budget in budgets] == [0, 0, 0]


@pytest.mark.parametrize("budget", [300.0, 301.0])
def test_a_deadline_within_the_budget_is_refused(budget: float) -> None:
    settings = load_settings(NO_FILE, {"DEADLINE_MINUTES": "5"})
    with pytest.raises(UserError) as refused:
        settings.deadline(budget)
    check_sentence(f"a deadline within {budget:g} s", str(refused.value))


@pytest.mark.parametrize("line", ["HEARTBEAT_MINUTE=5", "HEARTBEAT_MINUTE=", "heartbeat_minutes=5"])
def test_a_misspelt_name_in_the_file_is_refused(line: str, env_file: Path) -> None:
    env_file.write_text(line)
    name = line.partition("=")[0]
    check_sentence("a misspelt name", refusal(env_file).replace(f"{name} in", "NAME in"), env_file)


def test_a_name_like_no_setting_is_refused_in_the_file_too(env_file: Path) -> None:
    env_file.write_text("HOME=/x\n")
    check_sentence("a name like no setting", refusal(env_file), env_file)


def test_what_the_training_repository_reads_belongs_in_the_environment(env_file: Path) -> None:
    env_file.write_text("AUTORESEARCH_CACHE=/x\n")
    check_sentence("what the training repository reads", refusal(env_file), env_file)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HEARTBEAT_MINUTE", "HEARTBEAT_MINUTES"),
        ("AUTORESEARCH_HOM", "AUTORESEARCH_HOME"),
        ("EXPERIMENT", "EXPERIMENTS"),
        ("REPOSITRY", "REPOSITORY"),
        ("TIMEBUDGET", "TIME_BUDGET"),
        ("AUTORESEARCH_TIME_BUDGET", "TIME_BUDGET"),
        ("time_budget", "TIME_BUDGET"),
        ("OPENAI_APIKEY", "OPENAI_API_KEY"),
        ("LLM_BUDGETS_USD", "LLM_BUDGET_USD"),
        ("TELEGRAM_CHAT_ID", "TELEGRAM_CHAT_IDS"),
        ("TELEGRAM_TOKEN", "TELEGRAM_BOT_TOKEN"),
        ("SLACK_CHANNEL", "SLACK_CHANNELS"),
        ("SLACK_TOKEN", "SLACK_BOT_TOKEN"),
    ],
)
def test_a_near_miss_in_the_environment_is_a_warning(
    name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_settings(NO_FILE, {name: "1"}) == load_settings(NO_FILE, {})
    assert caplog.messages == [f"{name} in the environment is not a setting. Did you mean {meant}?"]


OTHER_PROGRAMS = """
    HOME PATH USER TZ LANG EDITOR TERM PWD VIRTUAL_ENV PYTHONPATH GITHUB_REPOSITORY CI_COMMIT_BRANCH
    BRANCH BASE_REF CUDA_VISIBLE_DEVICES TIMEZONE METRICS METRICS_PORT DATA_PATH DATA_DIR COMMAND
    OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_ORG_ID OPENAI_MODEL AZURE_OPENAI_API_KEY OPENROUTER_API_KEY
    ANTHROPIC_BASE_URL ANTHROPIC_MODEL ANTHROPIC_AUTH_TOKEN GEMINI_API_KEY GOOGLE_APPLICATION_CREDENTIALS
    GOOGLE_CSE_API_KEY GENAI_API_KEY XAI_API_KEY MISTRAL_API_KEY MAX_CONTEXT_TOKENS CODEX_API_KEY
    SLACK_WEBHOOK_URL SLACK_CLIENT_ID SLACK_CLIENT_SECRET TELEGRAM_API_ID TELEGRAM_API_HASH
    TIMEOUT BUDGET EXPERIMENT_NAME MLFLOW_EXPERIMENT_ID AUTORESEARCH_CACHE AUTORESEARCH_CLIMBMIX_URL
"""


def test_variables_of_other_programs_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    load_settings(NO_FILE, dict.fromkeys(OTHER_PROGRAMS.split(), "x"))
    assert caplog.messages == []


def test_a_line_that_sets_nothing_is_named_by_number_alone(env_file: Path) -> None:
    env_file.write_text("\n# a comment\n\n123456:AAsecret\nsk_secret\nTIME_BUDGET 60\nCRASH_STREAK=3\n")
    check_sentence("lines that set nothing", refusal(env_file), env_file)


def test_a_file_that_cannot_be_read_is_one_sentence(env_file: Path) -> None:
    env_file.write_bytes(b"METRIC=\xff\xfe\n")
    check_sentence("a file that is no text", refusal(env_file), env_file)
    env_file.unlink()
    env_file.mkdir()
    check_sentence("a folder for a file", refusal(env_file), env_file)


def test_a_byte_order_mark_is_no_part_of_the_first_name(env_file: Path) -> None:
    env_file.write_text("\ufeffCRASH_STREAK=9\r\nTIME_BUDGET=60\r\n", encoding="utf-8")
    settings = load_settings(env_file, {})
    assert (settings.crash_streak, settings.time_budget) == (9, 60)


def test_the_refusal_does_not_drag_the_values_along(env_file: Path) -> None:
    env_file.write_text("SLACK_BOT_TOKE=xoxb-very-secret\nTIME_BUDGET=-1\n")
    with pytest.raises(UserError) as refused:
        load_settings(env_file, {})
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


@given(
    st.dictionaries(
        st.sampled_from(sorted(NAMES)),
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.sampled_from(["~", "~x", "a,b", "0", "1e999", "-1"]),
    )
)
def test_any_values_are_accepted_or_refused(environ: dict[str, str]) -> None:
    try:
        settings = load_settings(NO_FILE, environ)
    except UserError:
        return
    assert settings.home.is_absolute()
    assert all(path.is_absolute() for path in settings.data_paths)
    assert 0 < settings.time_budget < float("inf")


@given(st.binary(max_size=200))
def test_any_file_is_accepted_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / ".env"
    file.write_bytes(data)
    with suppress(UserError):
        load_settings(file, {})


def test_the_example_names_every_setting_with_its_default() -> None:
    assert dotenv_values(EXAMPLE) == {name: field.default for name, field in NAMES.items()}
    assert load_settings(EXAMPLE, {}) == load_settings(NO_FILE, {})


def test_the_example_explains_every_setting_in_a_sentence() -> None:
    comments = {
        name: " ".join(comment.replace("# ", "").split())
        for comment, name in re.findall(r"((?:^# .*\n)+)^(\w+)=", EXAMPLE.read_text(), flags=re.MULTILINE)
    }
    assert comments.keys() == NAMES.keys()
    assert all(comment.endswith(".") for comment in comments.values())


def test_the_example_has_the_order_of_the_settings() -> None:
    assert list(dotenv_values(EXAMPLE)) == list(NAMES)


def test_an_app_token_alone_would_do_nothing() -> None:
    with pytest.raises(UserError, match="SLACK_APP_TOKEN needs SLACK_BOT_TOKEN"):
        load_settings(NO_FILE, {"SLACK_APP_TOKEN": "xapp-1"})


@pytest.mark.parametrize("lacks", ["SECRET", "LISTEN"])
def test_a_webhook_needs_its_secret_and_a_place_to_listen(lacks: str) -> None:
    given = {"URL": "https://lab.example", "SECRET": "s3cret", "LISTEN": "127.0.0.1:8443", lacks: ""}
    with pytest.raises(UserError, match=f"TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_{lacks}"):
        load_settings(NO_FILE, {f"TELEGRAM_WEBHOOK_{name}": value for name, value in given.items()})


@pytest.mark.parametrize("address", ["", "ray://head:10001"])
def test_ray_needs_the_address_of_a_cluster_that_the_bot_is_part_of(address: str, tmp_path: Path) -> None:
    given = {"EXECUTOR": "ray", "RAY_ADDRESS": address, "REPOSITORY": str(tmp_path)}
    with pytest.raises(UserError, match="EXECUTOR=ray needs RAY_ADDRESS, such as"):
        load_settings(Path("none.env"), given)


def test_nodes_have_no_files_of_this_checkout(tmp_path: Path) -> None:
    given = {"EXECUTOR": "ray", "RAY_ADDRESS": "auto", "REPOSITORY": str(tmp_path), "LINK_PATHS": "data"}
    with pytest.raises(UserError, match=r"EXECUTOR=ray cannot use LINK_PATHS.* DATA_PATHS"):
        load_settings(Path("none.env"), given)


def test_ray_trains_a_repository_and_no_template() -> None:
    with pytest.raises(UserError, match="EXECUTOR=ray needs REPOSITORY"):
        load_settings(Path("none.env"), {"EXECUTOR": "ray", "RAY_ADDRESS": "auto"})
