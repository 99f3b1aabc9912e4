"""The syntax tree of a training program: read it, find a node's bytes, work out a written-out number."""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TypeAlias

from loop.errors import LoopError

Number: TypeAlias = int | float
Value: TypeAlias = bool | int | float | str | tuple[Number, ...]

_NEWLINE = re.compile(rb"\r\n|\r|\n")  # what Python counts as a line; `splitlines` knows others
_LARGEST_BITS = 4096  # of an integer; beyond it a value is taken for a mistake or an attack
_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a program; a byte order mark is skipped, as the interpreter does.

    Raises:
        LoopError: the source is not valid Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's string is not ours to report
            return ast.parse(source.removeprefix("\ufeff"))
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        raise LoopError(f"The program is not valid Python{line}: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, a lone surrogate, deep nesting
        raise LoopError(
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


def _number(node: ast.expr) -> Number:
    value: object = None
    match node:
        case ast.Constant():
            value = node.value
        case ast.UnaryOp(op=ast.USub()):
            value = -_number(node.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            value = +_number(node.operand)
        case ast.BinOp() if type(node.op) in _OPERATORS:
            left, right = _number(node.left), _number(node.right)
            whole = isinstance(left, int) and isinstance(right, int)
            if isinstance(node.op, ast.Pow) and whole and int(left).bit_length() * abs(right) > _LARGEST_BITS:
                raise _NotANumberError
            value = _OPERATORS[type(node.op)](left, right)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotANumberError
    if not isfinite(value) if isinstance(value, float) else value.bit_length() > _LARGEST_BITS:
        raise _NotANumberError
    return value
