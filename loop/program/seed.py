"""Seeds in a program's text: what holds one, which it is, and the same program with another."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from loop.errors import UserError
from loop.program.constants import evaluate, line_starts, parse, span, with_spans
from loop.program.places import assignment, called, default_of, keyword

_SEED = re.compile(r"(?:^|[_-])seeds?\d*(?:[_-]|$)", re.IGNORECASE)
_GLOBAL_SEEDERS = frozenset(
    {"seed", "manual_seed", "manual_seed_all", "set_seed", "seed_all", "seed_everything", "PRNGKey"}
)
_SEEDERS = _GLOBAL_SEEDERS | {
    *("default_rng", "RandomState", "Random", "SeedSequence", "PCG64", "MT19937", "Philox")
}
# The name of a program's own seed. VAL_SEED or SPLIT_SEED would change what is measured, N_SEEDS is no seed.
_OWN = re.compile(
    r"(?:(?:random|rng|torch|np|numpy|python|global|main|base|default|manual|model|init|initial|weights?"
    r"|train|training)_)*seed\d*",
    re.IGNORECASE,
)


def says_seed(name: str | None) -> bool:
    return name is not None and _SEED.search(name) is not None


def is_seed(node: ast.expr | None) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return says_seed(name)
        case ast.Subscript(slice=key):
            return is_seed(key)
    return False


def is_seeder(node: ast.expr) -> bool:
    return called(node) in _SEEDERS


def is_seed_option(node: ast.Call) -> bool:
    """Tell whether it is `add_argument("--seed", …)`, whose `default` is a seed."""
    return called(node) == "add_argument" and bool(node.args) and is_seed(node.args[0])


def seed_of(source: str) -> int | None:
    """Return the seed that a program sets itself, None where no whole number in its text is one."""
    return next((value for value, _, _ in _places(source)), None)


def with_seed(source: str, seed: int) -> str:
    """Return the program with this seed, every other byte as it was; the same where it sets none.

    A constant such as `SEED` or the `seed` of a configuration class is the program's seed. Where there is
    none, what its functions and calls such as `manual_seed(42)` have is.
    """
    return with_spans(source, ((start, end, str(seed)) for _, start, end in _places(source)))


def _places(source: str) -> list[tuple[int, int, int]]:
    """Return the seeds in their order: value, first byte, byte behind the last."""
    try:
        tree = parse(source)
    except UserError:
        return []
    constants = [node for block in _blocks(tree) for node in _assigned(block)]
    nodes = constants or list(_within(tree))
    starts = line_starts(source)
    found = {span(node, starts): value for node in nodes if (value := _whole_number(node)) is not None}
    return [(value, *place) for place, value in sorted(found.items())]


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    yield tree.body
    yield from (node.body for node in tree.body if isinstance(node, ast.ClassDef))


def _assigned(statements: list[ast.stmt]) -> Iterator[ast.expr]:
    for statement in statements:
        for name, value in assignment(statement):
            default = default_of(value)
            if _OWN.fullmatch(name) and default is not None and _whole_number(default) is not None:
                yield default


def _within(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
                yield from _assigned(body)
            case ast.Call(args=[ast.Constant(value=str(flag)), *_]) if is_seed_option(node):
                default = keyword(node, "default")
                if default is not None and _OWN.fullmatch(flag.lstrip("-").replace("-", "_")):
                    yield default
            case ast.Call(args=[seed, *_]) | ast.Call(keywords=[ast.keyword(arg="seed", value=seed)]) if (
                called(node) in _GLOBAL_SEEDERS
            ):
                yield seed


def _whole_number(node: ast.expr) -> int | None:
    value = evaluate(node)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
