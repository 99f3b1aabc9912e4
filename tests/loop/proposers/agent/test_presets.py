"""What agents print, as the real ones printed it, and what is made of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.experiment import Cost, Family
from loop.proposers.agent.coding_agent import agent_environment, read_message, task
from loop.proposers.agent.presets import PRESETS, AgentOutput, own_command, read_text
from loop.proposers.prompt.history import LINE
from loop.text import one_line

MESSAGE = "Description: deeper model\nRationale: more depth"

CLAUDE = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "num_turns": 3,
    "result": MESSAGE,
    "total_cost_usd": 0.00348,
    "usage": {"input_tokens": 300, "cache_read_input_tokens": 150, "output_tokens": 60},
    "modelUsage": {
        "haiku": {
            "inputTokens": 100,
            "outputTokens": 20,
            "cacheReadInputTokens": 50,
            "cacheCreationInputTokens": 10,
            "costUSD": 0.0002175,
        },
        "opus": {
            "inputTokens": 300,
            "outputTokens": 60,
            "cacheReadInputTokens": 150,
            "cacheCreationInputTokens": 30,
            "costUSD": 0.0032625,
        },
    },
}
CODEX = (
    {"type": "thread.started", "thread_id": "01a20747"},
    {"type": "turn.started"},
    {"type": "error", "message": "Reconnecting... 2/5"},
    {"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": "I begin."}},
    {"type": "item.completed", "item": {"id": "item_1", "type": "command_execution", "exit_code": 0}},
    {"type": "item.completed", "item": {"id": "item_2", "type": "agent_message", "text": MESSAGE}},
    {
        "type": "turn.completed",
        "usage": {"input_tokens": 300, "cached_input_tokens": 100, "output_tokens": 40},
    },
)
GEMINI = {
    "session_id": "ce6bd516",
    "response": MESSAGE,
    "stats": {
        "models": {
            "flash": {"tokens": {"input": 100, "prompt": 150, "candidates": 20, "cached": 50, "thoughts": 5}},
            "pro": {"tokens": {"input": 200, "prompt": 300, "candidates": 40, "cached": 100, "thoughts": 10}},
        },
        "tools": {"totalCalls": 1},
    },
}
GEMINI_ERROR = {
    "session_id": "8708a4d9",
    "error": {"type": "Error", "message": "set an Auth method", "code": 41},
}
STEP = {"total": 180, "input": 100, "output": 20, "reasoning": 3, "cache": {"write": 10, "read": 50}}
OPENCODE = (
    {"type": "step_start", "part": {"type": "step-start"}},
    {"type": "tool_use", "part": {"type": "tool", "tool": "edit"}},
    {"type": "step_finish", "part": {"type": "step-finish", "tokens": STEP, "cost": 0.25}},
    {"type": "text", "part": {"type": "text", "text": MESSAGE}},
    {"type": "step_finish", "part": {"type": "step-finish", "tokens": STEP, "cost": 0.5}},
)


def lines(*objects: object) -> str:
    return "".join(f"{json.dumps(found)}\n" for found in objects)


@pytest.mark.parametrize(
    ("name", "output", "errors", "answer"),
    [
        ("claude", lines(CLAUDE), "", AgentOutput(MESSAGE, Cost(640, 200, 80, 0.00348))),
        (
            "claude",
            lines(
                {**CLAUDE, "is_error": True, "result": "Not logged in", "modelUsage": {}, "total_cost_usd": 0}
            ),
            "",
            AgentOutput("", Cost(), "Not logged in"),
        ),
        ("codex", lines(*CODEX), "", AgentOutput(MESSAGE, Cost(300, 100, 40, None), "Reconnecting... 2/5")),
        (
            "codex",
            lines({"type": "turn.failed", "error": {"message": "429"}}),
            "",
            AgentOutput(error="429"),
        ),
        (
            "gemini",
            f"Loaded.\n{json.dumps(GEMINI, indent=2)}",
            "",
            AgentOutput(MESSAGE, Cost(450, 150, 75, None)),
        ),
        (
            "gemini",
            "",
            f"warning\n{json.dumps(GEMINI_ERROR, indent=2)}",
            AgentOutput(error="set an Auth method"),
        ),
        ("opencode", lines(*OPENCODE), "", AgentOutput(MESSAGE, Cost(320, 100, 46, 0.75))),
        (
            "opencode",
            lines({"type": "error", "error": {"name": "APIError", "data": {"message": "no credit"}}}),
            "",
            AgentOutput(error="no credit"),
        ),
    ],
)
def test_what_agents_print_is_read(name: str, output: str, errors: str, answer: AgentOutput) -> None:
    assert PRESETS[name].read(output, errors) == answer


def test_the_end_of_what_an_agent_printed_is_enough() -> None:
    text = lines(*OPENCODE)
    assert PRESETS["opencode"].read(text[text.index("tool_use") :], "").message == MESSAGE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "result", "is_error", "modelUsage", "m", "total_cost_usd", "inputTokens"),
                    *("item", "text", "usage", "input_tokens", "error", "message", "response", "stats"),
                    *("models", "tokens", "prompt", "part", "cost", "cache", "read", "data", "name"),
                ]
            ),
            inner | st.sampled_from(["result", "turn.completed", "item.completed", "error", "step_finish"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=50)
@given(found=st.lists(JSON, max_size=4))
def test_nothing_that_an_agent_prints_is_an_error(name: str, found: list[object]) -> None:
    answer = PRESETS[name].read(lines(*found), lines(*found))
    cost = answer.cost or Cost()
    assert min(cost.input_tokens, cost.cached_tokens, cost.output_tokens) >= 0
    assert cost.dollars is None or 0 <= cost.dollars < float("inf")


def test_text_is_read_from_its_last_description_on() -> None:
    text = "Description: old\nthinking\n\n## Description\nnew\nFamily: batch\n"
    assert read_text(text, "").message == "## Description\nnew\nFamily: batch\n"
    assert read_text("no label", "") == AgentOutput()


# The last message


@pytest.mark.parametrize(
    ("text", "description", "family"),
    [
        ("Description: halve LR\nFamily: optimizer", "halve LR", Family.OPTIMIZER),
        ("- **Description:** halve `LR`\n- **Family**: Data_order (new)", "halve `LR`", Family.DATA_ORDER),
        ("**Description: halve LR**\nFAMILY: data-order", "halve LR", Family.DATA_ORDER),
        ("Description:\n\nhalve LR\nand more\nFamily: nonsense", "halve LR", None),
        ("\n# Halved the rate\nas you said", "Halved the rate", None),
        ("Expected: much", "", None),
        ("", "", None),
        ("Description: a\x1b[31m\u202e\ttab", "a tab", None),
    ],
)
def test_a_message_is_read_leniently(text: str, description: str, family: Family | None) -> None:
    message = read_message(text)
    assert message.description == description
    assert message.family is family


@given(st.text())
def test_a_message_makes_plain_lines(text: str) -> None:
    message = read_message(text)
    assert len(message.description) <= LINE
    for line in (message.description, message.rationale, message.expected):
        assert one_line(line) == line


def test_the_task_names_the_file_and_the_families() -> None:
    text = task("Lower val_bpb {now}.", "src/train.py")
    assert text.startswith("Lower val_bpb {now}.")
    assert "`src/train.py`" in text
    assert "architecture, optimizer" in text
    assert "give the idea up" not in text
    assert "give the idea up" in task("Mend it.", "train.py", may_give_up=True)


# What each may know

KEYS = {
    "ANTHROPIC_API_KEY": "a",
    "OPENAI_API_KEY": "o",
    "GOOGLE_API_KEY": "g",
    "SLACK_BOT_TOKEN": "s",
    "HOME": "/home/ada",
}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("claude", {"ANTHROPIC_API_KEY": "a"}),
        ("codex", {"OPENAI_API_KEY": "o", "CODEX_API_KEY": "o"}),
        ("gemini", {"GOOGLE_API_KEY": "g", "GEMINI_API_KEY": "g"}),
    ],
)
def test_an_agent_knows_the_keys_of_its_provider_only(name: str, known: dict[str, str]) -> None:
    environment = agent_environment(KEYS, PRESETS[name])
    assert {key: value for key, value in environment.items() if key.endswith(("KEY", "TOKEN"))} == known
    assert environment["HOME"] == "/home/ada"


def test_opencode_knows_the_keys_of_all_providers() -> None:
    environment = agent_environment(KEYS, PRESETS["opencode"])
    assert environment["GOOGLE_GENERATIVE_AI_API_KEY"] == "g"
    assert {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"} <= environment.keys()
    assert "SLACK_BOT_TOKEN" not in environment


def test_a_key_of_its_own_wins_over_one_under_another_name() -> None:
    environment = agent_environment({**KEYS, "CODEX_API_KEY": "mine"}, PRESETS["codex"])
    assert environment["CODEX_API_KEY"] == "mine"


def test_a_command_of_the_user_with_a_known_program_keeps_what_belongs_to_it() -> None:
    preset = own_command(("/opt/bin/codex", "exec", "--json", "--model", "large", "-"))
    assert preset.read is PRESETS["codex"].read
    assert preset.keys == PRESETS["codex"].keys
    assert preset.command[0] == "/opt/bin/codex"


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("aider", "aider"),
        ("/usr/bin/python3.11", "agent"),
        ("bash", "agent"),
        ("node", "agent"),
        ("pythonista", "pythonista"),
        ("./my-agent.sh", "my-agent.sh"),
        ("python3 -m x", "python3 -m x"),
    ],
)
def test_a_command_is_named_after_its_program_unless_that_is_an_interpreter(program: str, name: str) -> None:
    assert own_command((program, "x.py")).name == name


def test_any_other_command_may_know_the_keys_of_all_providers() -> None:
    preset = own_command(("aider", "--message-file", "{prompt}", "train.py"))
    environment = agent_environment(KEYS, preset)
    assert preset.name == "aider"
    assert {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY"} <= environment.keys()
    assert "SLACK_BOT_TOKEN" not in environment


@pytest.mark.parametrize(
    "amount", [10**400, -1, float("nan"), float("inf"), "1", None], ids=lambda amount: str(amount)[:9]
)
def test_what_cannot_be_a_price_is_none(amount: object) -> None:
    answer = PRESETS["claude"].read(lines({**CLAUDE, "total_cost_usd": amount}), "")
    assert answer.cost == Cost(640, 200, 80, None)
