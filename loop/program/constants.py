"""The constants of a training program: found by its syntax tree, replaced in place.

A constant is what a program sets once, at one of the places of `places.py`, to a number, a string, a boolean
or a tuple of numbers; numbers may be written as arithmetic, such as `2**19`. Only the bytes of a value are
ever replaced, so comments and layout stay as the author left them.
"""

from __future__ import annotations

import ast
import operator
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import TypeAlias

from loop.errors import UserError
from loop.program.places import find_places

Number: TypeAlias = int | float
Value: TypeAlias = bool | int | float | str | tuple[Number, ...]

_NEWLINE = re.compile(rb"\r\n|\r|\n")  # what Python counts as a line; `splitlines` knows others
LARGEST_BITS = 4096  # of an integer; beyond it a value is taken for a mistake or an attack
_LONGEST_BUDGET = 1e9  # seconds; more is a mistake
ARITHMETIC: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


_ONE_AT_A_TIME = threading.Lock()
"""Before 3.11.9 CPython counts the depth of the trees of all threads together, and fails (gh-106905)."""


def syntax_tree(source: str | bytes) -> ast.Module:
    """Return what `ast.parse` does, from whatever thread."""
    with _ONE_AT_A_TIME:
        return ast.parse(source)


def expression(text: str) -> ast.expr:
    with _ONE_AT_A_TIME:
        return ast.parse(text, mode="eval").body


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a program; a byte order mark is skipped, as the interpreter does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's string is not ours to report
            return syntax_tree(source.removeprefix("\ufeff"))
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        raise UserError(f"The program is not valid Python{line}: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, a lone surrogate, deep nesting
        raise UserError(
            f"The program cannot be read as Python: {error or 'it is nested too deeply'}."
        ) from error


def line_starts(source: str) -> list[int]:
    """Return the byte at which each line of the UTF-8 source begins, the first after a byte order mark."""
    data = source.encode()
    first = len(data) - len(source.removeprefix("\ufeff").encode())
    return [first, *(newline.end() for newline in _NEWLINE.finditer(data))]


def span(node: ast.expr | ast.stmt, starts: list[int]) -> tuple[int, int]:
    """Return the bytes, first and behind the last, that a parsed node stands in."""
    assert node.end_lineno is not None  # parsed nodes have an end
    assert node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def with_spans(source: str, pieces: Iterable[tuple[int, int, str]]) -> str:
    """Return `source` with other text in spans of its bytes, every other byte as it was."""
    data = source.encode(errors="surrogatepass")
    for start, end, text in sorted(pieces, reverse=True):
        data = data[:start] + text.encode() + data[end:]
    return data.decode(errors="surrogatepass")


def evaluate(node: ast.expr) -> Value | None:
    """Return the value of a literal, numbers written as arithmetic included; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | str):
        return node.value
    try:
        if isinstance(node, ast.Tuple) and node.elts:
            return tuple(_number(element) for element in node.elts)
        return _number(node)
    except (_NotANumberError, ArithmeticError, RecursionError):
        return None


class _NotANumberError(Exception):
    """The expression is no plain arithmetic within limits."""


def time_budget(source: str) -> float | None:
    """Return what `source` sets as its constant `TIME_BUDGET`, in seconds.

    None where there is no such constant, or it is set more than once, or it is not a positive number.
    """
    try:
        return budget_of(parse(source))
    except UserError:
        return None


def budget_of(tree: ast.Module) -> float | None:
    value = next((value for name, _, value in _values(tree) if name == "TIME_BUDGET"), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= _LONGEST_BUDGET else None


def imported_modules(source: bytes) -> set[str]:
    """Return the top-level modules that a program imports anywhere in it; none if it does not parse."""
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError):
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _number(node: ast.expr) -> Number:
    value: object = None
    match node:
        case ast.Constant():
            value = node.value
        case ast.UnaryOp(op=ast.USub()):
            value = -_number(node.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            value = +_number(node.operand)
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            left, right = _number(node.left), _number(node.right)
            if isinstance(node.op, ast.Pow) and is_huge_power(left, right):
                raise _NotANumberError
            value = ARITHMETIC[type(node.op)](left, right)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotANumberError
    if not isfinite(value) if isinstance(value, float) else value.bit_length() > LARGEST_BITS:
        raise _NotANumberError
    return value


def is_huge_power(base: object, exponent: object) -> bool:
    """Tell whether a power of whole numbers is too large even to be computed."""
    if not isinstance(base, int) or not isinstance(exponent, int):
        return False
    return base.bit_length() * abs(exponent) > LARGEST_BITS


_POWER = re.compile(r"(\d+)(\s*\*\*\s*)\d+")

# Words of a name. What decides how a training is judged, where it runs and what it writes is no idea for a
# better one.
_PROTECTED = frozenset(
    {"TIME", "BUDGET", "SECONDS", "SECS", "MINUTES", "HOURS", "DEADLINE", "TIMEOUT", "UNTIMED", "STARTUP"}
    | {"SEED", "SEEDS", "EVAL", "EVALUATION", "VAL", "VALID", "VALIDATION", "TEST", "AUDIT", "METRIC", "BPB"}
    | {"LIMIT", "ABORT", "DEVICE", "CUDA", "GPU", "GPUS", "CPU", "MPS", "BACKEND", "DTYPE", "COMPILE"}
    | {"FLOPS", "THREADS", "WORKERS", "RANK", "WORLD", "PORT", "PATH", "PATHS", "DIR", "DIRECTORY", "FILE"}
    | {"FILES", "FOLDER", "ROOT", "HOME", "CACHE", "URL", "REPO", "NAME", "VERSION", "ID", "IDS", "TOKEN"}
    | {"BOS", "EOS", "PAD", "VOCAB", "TOKENIZER", "DATA", "DATASET", "SHARD", "SHARDS", "LOG", "LOGGING"}
    | {"PRINT", "VERBOSE", "DEBUG", "PROFILE", "CHECKPOINT", "SAVE", "RESUME", "SMOKE", "WANDB"}
    | {"AUTOTUNE", "AUTOTUNING", "MEMORY", "MEM", "VRAM", "RAM", "PROCESSES", "PROCS", "NPROC", "NODES"}
    | {"PREFETCH", "PIN", "HOST", "PLATFORM", "MACHINE", "HARDWARE", "JIT", "DDP", "FSDP", "SLEEP"}
)
# The length of a training is a budget too; that of a part of it is none.
HORIZON = frozenset({"STEPS", "ITERS", "ITERATIONS", "EPOCHS", "TOKENS"})
_PHASES = frozenset(
    {"WARMUP", "WARMDOWN", "COOLDOWN", "DECAY", "MOMENTUM", "RAMP", "ACCUM", "BATCH", "ACCUMULATION"}
)
LAYERS = frozenset({"DEPTH", "LAYERS", "N_LAYER", "N_LAYERS", "NUM_LAYERS"})  # whole names


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant and where its value stands: bytes `start` to `end` of the UTF-8 source read `text`."""

    name: str
    value: Value
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as ready source text, such as `2**19`, to be written exactly so."""

    text: str


@lru_cache(maxsize=8)  # of one program they are asked for several times
def find_constants(source: str) -> tuple[Constant, ...]:
    """Return the constants of `source` in their order.

    A name that the module binds more than once (or a function declares global) is left out: its first value
    is not the one that counts."""
    tree = parse(source)
    data = source.encode()
    starts = line_starts(source)
    found = []
    for name, node, value in _values(tree):
        start, end = span(node, starts)
        found.append(Constant(name, value, start, end, data[start:end].decode()))
    return tuple(found)


def constant_values(source: str) -> dict[str, Value]:
    """Return the values of the constants of `source` by their names."""
    return {constant.name: constant.value for constant in find_constants(source)}


def words_of(name: str) -> frozenset[str]:
    """Return the words of a constant's name in capitals, also of `Config.n_layer` and `--batch-size`."""
    return frozenset(re.split(r"[._-]+", name.upper())) - {""}


def whole_name(name: str) -> str:
    """Return a constant's name as it would stand alone at top level: `N_LAYER` for `Config.n_layer`."""
    return name.rpartition(".")[2].lstrip("-").replace("-", "_").upper()


def is_protected(name: str) -> bool:
    """Tell whether a constant of this name is about budget, seed, score, machine or files."""
    words = words_of(name)
    outside = words & _PROTECTED or (words & HORIZON and not words & _PHASES)
    return bool(outside) or is_device_batch(name)


def is_device_batch(name: str) -> bool:
    """Tell whether it is how much is computed at once: where the memory ends, not what is learnt."""
    words = words_of(name)
    return "BATCH" in words and bool(words & {"DEVICE", "MICRO", "GPU"})


def replace_constants(source: str, changes: Mapping[str, Value | Literal]) -> str:
    """Return `source` with new values for the constants named in `changes`, every other byte as it was.

    A plain value is written in the form of the old one where it can be (`2**19` halved is `2**18`); a
    `Literal` is written as it stands.
    """
    constants = {constant.name: constant for constant in find_constants(source)}
    for name in changes:
        if name not in constants:
            raise UserError(f"There is no constant {name} to set: it must be assigned once, at top level.")
    written = {
        name: change.text if isinstance(change, Literal) else write_value(change, like=constants[name].text)
        for name, change in changes.items()
    }
    pieces = ((constants[name].start, constants[name].end, text) for name, text in written.items())
    result = with_spans(source, pieces)
    expected: dict[str, Value | None] = {name: constant.value for name, constant in constants.items()}
    expected |= {name: read_value(text) for name, text in written.items()}
    # Ready text could hold a comment or a second statement, which would change what follows it.
    if not _has(result, expected):
        wanted = ", ".join(f"{name} = {text}" for name, text in written.items())
        raise UserError(f"{wanted} cannot be written as constants: give a plain literal for each.")
    return result


def write_value(value: Value, *, like: str = "") -> str:
    """Return the source text of `value`, in the form of the text `like` where that can express it.

    Reading the text gives exactly `value` again, but for infinity and NaN, which have no literal form.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return _write_int(value, like)
    if isinstance(value, float):
        return _write_float(value, like)
    if isinstance(value, str):
        plain = value.isprintable() and not set(value) & {'"', "\\"}
        return f'"{value}"' if plain and not like.startswith("'") else repr(value)
    return _write_tuple(value, like)


def read_value(text: str) -> Value | None:
    try:
        return evaluate(expression(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _has(source: str, expected: Mapping[str, Value | None]) -> bool:
    try:
        return constant_values(source) == expected
    except UserError:
        return False


def _write_int(value: int, like: str) -> str:
    power = _POWER.fullmatch(like)
    if power is not None and (base := int(power[1])) > 1:
        exponent, rest = 0, value
        while rest and rest % base == 0:
            exponent, rest = exponent + 1, rest // base
        if rest == 1:
            return f"{power[1]}{power[2]}{exponent}"
    return f"{value:_}" if "_" in like else str(value)


def _write_float(value: float, like: str) -> str:
    if value == 0 or not isfinite(value):
        return repr(value)
    digits = Decimal(repr(value))
    if "e" in like.lower():
        return f"{digits.normalize():e}".replace("e+", "e")
    if not 1e-9 <= abs(value) < 1e16:
        return repr(value)
    text = f"{digits:f}"
    return text if "." in text else text + ".0"


def _write_tuple(value: tuple[Number, ...], like: str) -> str:
    """Write element by element into the old tuple, so that each keeps its form and its comment."""
    old = expression(like) if like else None
    if not isinstance(old, ast.Tuple) or len(old.elts) != len(value):
        return repr(value)
    data, starts, pieces = like.encode(), line_starts(like), []
    for node, element in zip(old.elts, value, strict=True):
        start, end = span(node, starts)
        before = evaluate(node)
        if before != element or type(before) is not type(element):
            pieces.append((start, end, write_value(element, like=data[start:end].decode())))
    return with_spans(like, pieces)


def _values(tree: ast.Module) -> Iterator[tuple[str, ast.expr, Value]]:
    for name, node in find_places(tree):
        value = evaluate(node)
        if value is not None:
            yield name, node, value
