"""The coding agents that are known: how each is started, what it may know, and how its output is read.

All of them read the prompt on stdin, edit files in the folder where they are started and print JSON. Flags
and shapes are those of claude 2.1.197, codex 0.169.0, gemini 0.61.0 and opencode 1.18.33.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from loop.experiment import Cost

_MOST = 10**12  # tokens or dollars; more is a mistake
_LAST = 2**16  # characters of a text that may hold the last message

# Programs that run another one, whose name is that of the agent.
_INTERPRETER = re.compile(r"(python|pypy|node|deno|bun|ruby|perl|(ba|da|z|k|fi)?sh|env|uvx?|npx)[\d.]*")

PROMPT = "{prompt}"
"""In a command of the user's: the path of the file that holds the prompt, which is on stdin too."""


@dataclass(frozen=True, slots=True)
class AgentOutput:
    """What an agent's output says: its last message, and where it tells, its cost and what went wrong."""

    message: str = ""
    cost: Cost | None = None
    error: str = ""


Reader: TypeAlias = Callable[[str, str], AgentOutput]
"""Reads an agent's stdout and stderr, of which the beginning may be lost."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A coding agent.

    `keys` names the environment variables that only this agent is given. `renamed` gives it the value of a
    variable under another name, unless that is set. `settings` are fixed variables, `install` and `login`
    what a person does who lacks it. `tells_dollars` says that its output has them.
    """

    name: str
    command: tuple[str, ...]
    keys: tuple[str, ...]
    read: Reader
    renamed: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    install: str = ""
    login: str = ""
    tells_dollars: bool = False


def own_command(command: tuple[str, ...]) -> Preset:
    """Return the preset of AGENT_COMMAND, named after its program, or `agent` for an interpreter.

    A known program keeps its keys and the reading of its output. Any other gets the keys of all providers,
    and its output is read as text.
    """
    name = Path(command[0]).name
    if name in PRESETS:
        return replace(PRESETS[name], command=command)
    keys = tuple(dict.fromkeys(key for preset in PRESETS.values() for key in preset.keys))
    shown = "agent" if _INTERPRETER.fullmatch(name) else name
    return Preset(name=shown, command=command, keys=keys, read=read_text)


def read_claude(output: str, _errors: str) -> AgentOutput:
    for found in _objects(output):
        match found:
            case {"type": "result", "is_error": bool(failed), **rest}:
                message = _text(rest.get("result")) or _text(rest.get("subtype"))
                cost = Cost(dollars=_dollars(rest.get("total_cost_usd")))
                for model in _values(rest.get("modelUsage")):
                    cached = _count(model, "cacheReadInputTokens")
                    fresh = _count(model, "inputTokens") + _count(model, "cacheCreationInputTokens")
                    cost += Cost(fresh + cached, cached, _count(model, "outputTokens"), None)
                return AgentOutput("" if failed else message, cost, message if failed else "")
    return AgentOutput()


def read_codex(output: str, _errors: str) -> AgentOutput:
    """Read the events of `--json`; they have no price."""
    answer = AgentOutput()
    for event in _objects(output):
        match event:
            case {"type": "item.completed", "item": {"type": "agent_message", "text": str(text)}}:
                answer = replace(answer, message=text)
            case {"type": "turn.completed", "usage": dict(usage)}:
                cached = _count(usage, "cached_input_tokens")
                cost = Cost(_count(usage, "input_tokens"), cached, _count(usage, "output_tokens"), None)
                answer = replace(answer, cost=_sum(answer.cost, cost))
            case {"type": "turn.failed", "error": {"message": str(error)}} | {
                "type": "error",
                "message": str(error),
            }:
                answer = replace(answer, error=error)
    return answer


def read_gemini(output: str, errors: str) -> AgentOutput:
    """Read the one object of `-o json`, which has no price; after a failure it is on stderr."""
    answer = AgentOutput()
    for found in (*_objects(errors), *_objects(output)):
        match found:
            case {"error": {"message": str(error)}}:
                answer = replace(answer, error=error)
            case {"response": str() | None as message, "stats": {"models": dict(models)}}:
                answer = replace(answer, message=message or "")
                for model in _values(models):
                    tokens = model.get("tokens")
                    written = _count(tokens, "candidates") + _count(tokens, "thoughts")
                    cost = Cost(_count(tokens, "prompt"), _count(tokens, "cached"), written, None)
                    answer = replace(answer, cost=_sum(answer.cost, cost))
    return answer


def read_opencode(output: str, _errors: str) -> AgentOutput:
    """Read the events of `--format json`; each step tells its own cost."""
    answer = AgentOutput()
    for event in _objects(output):
        match event:
            case {"type": "text", "part": {"text": str(text)}}:
                answer = replace(answer, message=text)
            case {"type": "step_finish", "part": {"cost": dollars, "tokens": dict(tokens)}}:
                cache = tokens.get("cache")
                cached = _count(cache, "read")
                read = _count(tokens, "input") + _count(cache, "write") + cached
                written = _count(tokens, "output") + _count(tokens, "reasoning")
                answer = replace(
                    answer, cost=_sum(answer.cost, Cost(read, cached, written, _dollars(dollars)))
                )
            case {"type": "error", "error": {"data": {"message": str(error)}} | {"name": str(error)}}:
                answer = replace(answer, error=error)
    return answer


def read_text(output: str, _errors: str) -> AgentOutput:
    """Take what begins with the last description for the last message; anything may stand before it."""
    end = output[-_LAST:]
    starts = list(re.finditer(r"^[^\w\n]{0,8}description\b", end, re.IGNORECASE | re.MULTILINE))
    return AgentOutput(end[starts[-1].start() :] if starts else "")


_KNOWN = (
    Preset(
        name="claude",
        command=(
            *("claude", "-p", "--output-format", "json", "--no-session-persistence", "--safe-mode"),
            *("--permission-mode", "acceptEdits", "--tools", "Read,Edit,Write,Glob,Grep"),
        ),
        keys=(
            *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"),
            *("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"),
        ),
        read=read_claude,
        settings={
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # no update in the middle of the night
            "CLAUDE_CODE_MAX_RETRIES": "4",  # ten take minutes, and others can be asked meanwhile
        },
        install="npm install -g @anthropic-ai/claude-code",
        login="run `claude` once and log in, or set ANTHROPIC_API_KEY",
        tells_dollars=True,
    ),
    Preset(
        name="codex",
        command=(
            *("codex", "exec", "--json", "--ephemeral", "--skip-git-repo-check"),
            *("--sandbox", "workspace-write", "-"),
        ),
        keys=("OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_HOME"),
        read=read_codex,
        renamed={"CODEX_API_KEY": "OPENAI_API_KEY"},  # it does not look at the latter
        install="npm install -g @openai/codex",
        login="run `codex login`, or set OPENAI_API_KEY",
    ),
    Preset(
        name="gemini",
        command=("gemini", "--output-format", "json", "--approval-mode", "auto_edit", "--skip-trust"),
        keys=(
            *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL"),
            *("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        read=read_gemini,
        renamed={"GEMINI_API_KEY": "GOOGLE_API_KEY"},  # it takes the latter for Google Cloud only
        install="npm install -g @google/gemini-cli",
        login="run `gemini` once and log in, or set GOOGLE_API_KEY",
    ),
    Preset(
        name="opencode",
        command=("opencode", "run", "--format", "json", "--pure"),
        keys=(
            *("OPENCODE_API_KEY", "OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT", "OPENROUTER_API_KEY"),
            *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
            "GOOGLE_API_KEY",
        ),
        read=read_opencode,
        renamed={"GOOGLE_GENERATIVE_AI_API_KEY": "GOOGLE_API_KEY"},  # it does not look at the latter
        settings={
            "OPENCODE_PERMISSION": json.dumps(
                {"edit": "allow", "bash": "deny", "webfetch": "deny", "external_directory": "deny"}
            )
        },
        install="npm install -g opencode-ai",
        login="run `opencode auth login`, or set the key of its provider",
        tells_dollars=True,
    ),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _KNOWN}
"""The agents that need no command of the user's, by name."""


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that begin with a line, whatever is between them."""
    decoder = json.JSONDecoder()
    end = 0
    for match in re.finditer(r"^\{", text, re.MULTILINE):
        if match.start() < end:
            continue
        try:
            found, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield found


def _values(found: object) -> list[dict[str, Any]]:
    return [value for value in found.values() if isinstance(value, dict)] if isinstance(found, dict) else []


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _count(found: object, name: str) -> int:
    value = found.get(name) if isinstance(found, dict) else None
    return value if type(value) is int and 0 < value < _MOST else 0


def _dollars(found: object) -> float | None:
    return float(found) if isinstance(found, int | float) and 0 <= found < _MOST else None


def _sum(cost: Cost | None, more: Cost) -> Cost:
    return more if cost is None else cost + more
