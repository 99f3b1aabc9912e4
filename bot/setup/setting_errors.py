"""What is said of settings that cannot be used: one sentence each, that never repeats a secret."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic_core import ErrorDetails

from loop.redaction import is_secret

# So like a setting that it would be taken for a misspelt one, but other programs use it.
_OF_OTHERS = frozenset(
    {"DATA_PATH", "METRICS", "TIMEZONE", "MAX_CONTEXT_TOKENS", "OPENAPI_KEY", "OPENAPI_API_KEY"}
    | {"GENAI_API_KEY", "GOOGLE_AI_API_KEY", "GOOGLE_CSE_API_KEY", "GOOGLE_API_KEY_2"}
    | {"OPENAI_API_KEY_2", "OPENAI_API_BASE_URL"}
)

_ELSEWHERE = {"GEMINI_API_KEY": "GOOGLE_API_KEY"}  # settings as others call them

_OF_TRAINING = frozenset({"AUTORESEARCH_CACHE", "AUTORESEARCH_CLIMBMIX_URL"})


def bad_lines(env_file: Path) -> list[str]:
    """A sentence for each line of the file that sets nothing, without its text: it may be a lost secret."""
    try:
        with env_file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{env_file} cannot be read: {error.strerror}."]
    except UnicodeDecodeError:
        return [f"{env_file} cannot be read: it is not UTF-8 text."]
    bad = []
    for binding in bindings:
        nameless = binding.key is not None and not (binding.key.isidentifier() and binding.value is not None)
        if binding.error or nameless:
            text = binding.original.string
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            bad.append(f"Line {line} of {env_file} is not NAME=value.")
    return bad


def near_miss(name: str, names: list[str]) -> str | None:
    """The setting that an environment variable was probably meant to be, None for other programs' names."""
    if name in names or name in _OF_OTHERS:
        return None
    plain = name.upper().removeprefix("AUTORESEARCH_")
    matches = get_close_matches(name.upper(), names, n=1, cutoff=0.86)
    return plain if plain in names else next(iter(matches), None)


def sentence(error: ErrorDetails, subjects: Mapping[str, str], env_file: Path, names: list[str]) -> str:
    """One problem in words: `TIME_BUDGET in .env must be more than 0, not '-5'.`"""
    context = error.get("ctx", {})
    if not error["loc"]:
        return str(context["error"])
    name = str(error["loc"][0])
    subject = subjects.get(name, f"{name} in {env_file}")
    if error["type"] == "extra_forbidden":
        return f"{subject} is not a setting; {_hint(name, names)}"
    match error["type"]:
        case "value_error":
            rule = str(context["error"])
        case "int_parsing" | "int_from_float":
            rule = "must be a whole number"
        case "float_parsing" | "finite_number":
            rule = "must be a number"
        case "greater_than":
            rule = f"must be more than {context['gt']:g}"
        case "greater_than_equal":
            rule = f"must be {context['ge']:g} or more"
        case "enum" | "literal_error":
            rule = f"must be {context['expected']}"
        case "string_pattern_mismatch":
            rule = "must be one word"
        case _:
            rule = f"is not accepted ({error['msg']})"
    hushed = is_secret(name) or "URL" in name  # which may hold a login
    said = ", but " in rule  # what there is instead
    value = "" if hushed or said else f", not {str(error['input'])[:60]!r}"
    return f"{subject} {rule}{value}."


def _hint(name: str, names: list[str]) -> str:
    """What to do about a name in the file that is no setting's."""
    if name in _OF_TRAINING:
        return "the training repository reads it from the environment: put it there."
    meant = _ELSEWHERE.get(name) or next(iter(get_close_matches(name.upper(), names, n=1)), None)
    return f"did you mean {meant}?" if meant else ".env.example lists all of them."
