"""What expressions of a program come to for certain values of its constants, without running it.

A name counts as known where all that the program binds to it comes to the same; in which order things happen
and in which function a name stands does not count. So a value may be wrong in odd programs: callers
compare it with what is there now.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from loop.errors import UserError
from loop.program.constants import ARITHMETIC, LARGEST_BITS, Value, evaluate, find_constants, is_huge_power
from loop.program.names import Item, Names
from loop.program.places import Found, destination, fields_of, find_places

Known: TypeAlias = Any
"""A number, a text, a boolean, or a tuple or set of such: an operation that does not fit is caught."""

_MOST = 1000  # items of a sequence, letters of a text
_DEEPEST = 60  # expressions within another, through names
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], object]] = {
    **ARITHMETIC,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], object]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, whole: item in whole,
    ast.NotIn: lambda item, whole: item not in whole,
}
_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    **{each.__name__: each for each in (abs, all, any, bool, float, int, len, max, min, round, sum)},
    "set": frozenset,
    "frozenset": frozenset,
    "tuple": tuple,
    "list": tuple,
    "sorted": sorted,
    **{
        f"math.{name}": getattr(math, name)
        for name in ("ceil", "floor", "sqrt", "log", "log2", "gcd", "prod")
    },
}
_METHODS = ("upper", "lower", "strip")  # of a text
_WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)


class UnknownError(Exception):
    """An expression's value cannot be told from the constants."""


class Expressions:
    """What the expressions of a program are made of. `others` are the constants of its other files."""

    def __init__(self, tree: ast.Module, others: Mapping[str, Value]) -> None:
        self.names = Names(tree)
        self._others = others
        places = find_places(tree)
        self._literals = {id(node): name for name, node in places if evaluate(node) is not None}
        self._extra = self._unassigned(places)
        self._makers: dict[str, Sequence[ast.AST | Item]] = {}

    def _unassigned(self, places: Sequence[Found]) -> dict[str, list[ast.expr]]:
        """Return what names and attributes stand for that no assignment says."""
        found: dict[str, list[ast.expr]] = {}
        for function in self.names.functions.values():
            plain = [*function.args.posonlyargs, *function.args.args]
            late = plain[len(plain) - len(function.args.defaults) :]
            pairs = [*zip(late, function.args.defaults, strict=True)]
            pairs += [
                (a, d) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d
            ]
            for parameter, default in pairs:
                found.setdefault(parameter.arg, []).append(default)
        calls = [node for node in self.names.nodes if isinstance(node, ast.Call)]
        for call in calls:
            match call.func:
                case ast.Name(id=name) if name in self.names.classes:
                    for field, argument in zip(fields_of(self.names.classes[name]), call.args, strict=False):
                        found.setdefault(f".{field}", []).append(argument)
        options = {id(word.value): call for call in calls for word in call.keywords}
        for name, node in places:
            if name.startswith("-"):
                found.setdefault(f".{destination(name, options[id(node)])}", []).append(node)
            elif "." in name and (owner := name.partition(".")[0]) in self.names.classes:
                found.setdefault(f".{name.removeprefix(f'{owner}.')}", []).append(node)
        return found

    def makers(self, symbol: str) -> Sequence[ast.AST | Item]:
        """Return what a symbol comes from: what it is bound to, or what that name is, and so on.

        So a width that a class takes from its settings, and they from a name, is what that name is.
        """
        if symbol not in self._makers:
            self._makers[symbol] = self._sources(symbol)
        return self._makers[symbol]

    def _sources(self, symbol: str) -> Sequence[ast.AST | Item]:
        found: list[ast.AST | Item] = []
        seen, waiting = {symbol}, [symbol]
        while waiting:
            for value in self._bound(waiting.pop()):
                other = None if isinstance(value, Item) else symbol_of(value)
                if other is None or not self._bound(other):
                    found.append(value)
                elif other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return found

    def _bound(self, symbol: str) -> Sequence[ast.AST | Item]:
        values = [*self.names.values.get(symbol, ()), *self._extra.get(symbol, ())]
        if symbol.startswith("."):
            values += self.names.values.get(f"[{symbol[1:]}]", ())
        return values

    def named(self, names: Collection[str]) -> Iterator[ast.expr]:
        """Yield names, attributes and keys of the program that are these, but for small letters."""
        for symbol in (*self.names.values, *self._extra):
            plain = symbol.strip(".[]")
            if plain.upper() in names:
                if symbol.startswith("."):
                    yield ast.Attribute(ast.Name("", ast.Load()), plain, ast.Load())
                elif symbol.startswith("["):
                    yield ast.Subscript(ast.Name("", ast.Load()), ast.Constant(plain), ast.Load())
                else:
                    yield ast.Name(plain, ast.Load())

    def literal(self, node: ast.AST) -> str | None:
        return self._literals.get(id(node))

    def is_just(self, node: ast.expr, constant: str) -> bool:
        """Tell whether this is the constant itself, under whatever name."""
        symbol = symbol_of(node)
        makers = self.makers(symbol) if symbol else ()
        return bool(makers) and all(self._literals.get(id(maker)) == constant for maker in makers)

    def other(self, node: ast.expr) -> Value | None:
        return self._others.get(self.names.path(node))


class Evaluation:
    """Evaluates expressions of a program when its constants have these values."""

    def __init__(self, program: Expressions, constants: Mapping[str, Value]) -> None:
        self._program = program
        self._constants = constants
        self._known: dict[str, tuple[Known | None, set[str]]] = {}  # by symbol; None: unknown, or under way
        self._read: set[str] = set()
        self._local: list[dict[str, Known]] = [{}]
        self._depth = 0

    def read(self, node: ast.expr) -> tuple[Known | None, frozenset[str]]:
        """Return what a node comes to, None where that is unknown, and the constants read for it."""
        self._read = set()
        try:
            return self.value(node), frozenset(self._read)
        except UnknownError:
            return None, frozenset(self._read)

    def value(self, node: ast.expr) -> Known:
        """Return what a node comes to.

        Raises:
            UnknownError: it depends on more than constants, or makes no sense with these.
        """
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise UnknownError
            return _bounded(self._value(node))
        except _WRONG:
            raise UnknownError from None
        finally:
            self._depth -= 1

    def _value(self, node: ast.expr) -> object:  # noqa: C901 - a case a kind of expression
        name = self._program.literal(node)
        if name is not None and name in self._constants:
            self._read.add(name)
            return self._constants[name]
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.Name(id=name) if name in self._local[-1]:
                return self._local[-1][name]
            case ast.Name() | ast.Attribute() | ast.Subscript(slice=ast.Constant(value=str())):
                return self._looked_up(node)
            case ast.Subscript(value=whole, slice=index) if not isinstance(index, ast.Slice):
                return self.value(whole)[self.value(index)]
            case ast.UnaryOp(op=op, operand=inner) if type(op) in _UNARY:
                return _UNARY[type(op)](self.value(inner))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _operate(op, self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=values):
                return self._either(values, isinstance(op, ast.Or))
            case ast.Compare(left=left, ops=ops, comparators=others):
                values = [self.value(each) for each in (left, *others)]
                pairs = zip(ops, values, values[1:], strict=False)
                return all(_COMPARISONS[type(op)](before, after) for op, before, after in pairs)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.value(body if self.value(test) else other)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return tuple(map(self.value, parts))
            case ast.Set(elts=parts):
                return frozenset(map(self.value, parts))
            case ast.GeneratorExp() | ast.ListComp():
                return self._each(node)
            case ast.SetComp():
                return frozenset(self._each(node))
            case ast.Call(keywords=[]):
                return self._call(node)
        raise UnknownError

    def _looked_up(self, node: ast.expr) -> Known:
        symbol = symbol_of(node)
        assert symbol is not None
        if symbol not in self._known:
            self._known[symbol] = None, set()
            outer, self._read = self._read, set()
            local, self._local = self._local, [{}]
            try:
                self._known[symbol] = self._agreed(symbol, node), self._read
            finally:
                self._read, self._local = outer, local
        found, read = self._known[symbol]
        self._read |= read
        if found is None:
            raise UnknownError
        return found

    def _agreed(self, symbol: str, node: ast.expr) -> Known | None:
        makers = self._program.makers(symbol)
        if not makers:
            return self._program.other(node)
        values = []
        for each in makers:
            try:
                values.append(self.value(each) if isinstance(each, ast.expr) else None)
            except UnknownError:
                return None
        same = all((type(value), value) == (type(values[0]), values[0]) for value in values)
        return values[0] if same else None

    def _either(self, values: Iterable[ast.expr], wanted: bool) -> Known:
        """Return what `or` (or `and`) gives: one that decides is enough, though others are unknown."""
        unknown, last = False, None
        for each in values:
            try:
                last = self.value(each)
            except UnknownError:
                unknown = True
                continue
            if bool(last) is wanted:
                return last
        if unknown or last is None:
            raise UnknownError
        return last

    def _each(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> tuple[Known, ...]:
        match node.generators:
            case [ast.comprehension(target=ast.Name(id=name), iter=whole, ifs=tests, is_async=0)]:
                found = []
                for item in self._items(whole):
                    self._local.append({**self._local[-1], name: item})
                    try:
                        if all(self.value(test) for test in tests):
                            found.append(self.value(node.elt))
                    finally:
                        self._local.pop()
                return tuple(found)
        raise UnknownError

    def _items(self, whole: ast.expr) -> Sequence[Known]:
        match whole:
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                counted = range(*map(int, map(self.value, arguments)))
                return counted if len(counted) <= _MOST else []
        return tuple(self.value(whole))

    def _call(self, node: ast.Call) -> object:
        match node.func:
            case ast.Attribute(value=text, attr=name) if name in _METHODS and not node.args:
                return getattr(self.value(text), name)()
            case ast.Name(id=name) if name in self._program.names.functions:
                return self._own(self._program.names.functions[name], node)
            case ast.Name(id=name) if name in _FUNCTIONS and name not in self._program.names.values:
                return _FUNCTIONS[name](*map(self.value, node.args))
        path = self._program.names.path(node.func)
        if path in _FUNCTIONS:
            return _FUNCTIONS[path](*map(self.value, node.args))
        raise UnknownError

    def _own(self, function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> Known:
        body = [each for each in function.body if not isinstance(each, ast.Expr)]
        parameters = function.args.args
        match body:
            case [ast.Return(value=ast.expr() as value)] if len(parameters) == len(call.args):
                given = zip(parameters, map(self.value, call.args), strict=True)
                self._local.append({each.arg: argument for each, argument in given})
                try:
                    return self.value(value)
                finally:
                    self._local.pop()
        raise UnknownError


def symbol_of(node: ast.AST | Item) -> str | None:
    """Return what a name, an attribute or a key of a dictionary is looked up by."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return f".{name}"
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return f"[{key}]"
    return None


def _operate(op: ast.operator, left: Known, right: Known) -> object:
    if isinstance(op, ast.Pow) and is_huge_power(left, right):
        raise UnknownError
    if isinstance(op, ast.LShift) and isinstance(right, int) and right > LARGEST_BITS:
        raise UnknownError
    if isinstance(op, ast.Mult) and not all(isinstance(each, int | float) for each in (left, right)):
        size = math.prod(len(each) if isinstance(each, str | tuple) else int(each) for each in (left, right))
        if size > _MOST:
            raise UnknownError
    return _BINARY[type(op)](left, right)


def _bounded(value: object) -> Known:
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, str | tuple | frozenset):
        fits = len(value) <= _MOST
    elif isinstance(value, float):
        fits = math.isfinite(value)
    else:
        fits = isinstance(value, int) and value.bit_length() <= LARGEST_BITS
    if not fits:
        raise UnknownError
    return value


def constants_of(files: Mapping[str, str]) -> dict[str, Value]:
    """Return the constants of Python files by what a program reads them by: `prepare.MAX_SEQ_LEN`."""
    found: dict[str, Value] = {}
    for path, text in files.items():
        if path.endswith(".py"):
            with suppress(UserError):
                for constant in find_constants(text):
                    found[f"{PurePosixPath(path).stem}.{constant.name}"] = constant.value
    return found
