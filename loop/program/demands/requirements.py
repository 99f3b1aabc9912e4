"""What a program's own text demands of its constants, and whether a change of them changes anything.

Demands are its assertions, the conditions under which it raises, and divisions of one amount by another that
come out even now, such as a batch by the rows computed at once.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import TypeAlias

from loop.errors import UserError
from loop.program.constants import Value, constant_values, parse
from loop.program.demands.expressions import Evaluation, Expressions, Known, constants_of, symbol_of
from loop.program.places import children, dotted

_EXITS = ("exit", "quit", "sys.exit", "os._exit")
_SEEING = frozenset({"globals", "locals", "vars", "exec", "eval"})  # these see names that no text names

_Test: TypeAlias = tuple[ast.expr, bool]  # a test and what it comes to where the program fails


@dataclass(frozen=True, slots=True)
class _Condition:
    """That not all of these tests come to this, as far as they are known."""

    constants: frozenset[str]
    failure: tuple[_Test, ...]

    def is_broken(self, evaluation: Evaluation) -> bool:
        held = self._held(evaluation)
        return False not in held and True in held

    def is_met(self, evaluation: Evaluation) -> bool:
        return False in self._held(evaluation)

    def _held(self, evaluation: Evaluation) -> list[bool | None]:
        values = [(evaluation.read(test)[0], wanted) for test, wanted in self.failure]
        return [None if value is None else bool(value) is wanted for value, wanted in values]


@dataclass(frozen=True, slots=True)
class _Division:
    """That one amount is a multiple of another."""

    constants: frozenset[str]
    division: ast.BinOp

    def is_broken(self, evaluation: Evaluation) -> bool:
        whole, part = (evaluation.read(side)[0] for side in (self.division.left, self.division.right))
        if not isinstance(whole, int) or not isinstance(part, int) or part <= 0:
            return True
        return whole < part or whole % part != 0


_Demand: TypeAlias = _Condition | _Division


class Requirements:
    """`values` everywhere are those of all constants of the program."""

    def __init__(self, source: str, others: Mapping[str, Value]) -> None:
        self._present = constant_values(source)
        tree = parse(source)
        self._program = Expressions(tree, others)
        self._now = Evaluation(self._program, self._present)
        self._demands = [*self._conditions(tree), *self._divisions()]
        self._outcomes = {} if self._sees_all() else self._by_constant(self._largest(tree))
        self._amounts: dict[frozenset[str], list[ast.expr]] = {}

    def broken(self, values: Mapping[str, Value]) -> frozenset[str]:
        """Return the constants that the demands are about which these values break."""
        changed = {name for name, value in self._present.items() if values[name] != value}
        then = Evaluation(self._program, values)
        found = (each for each in self._demands if each.constants & changed and each.is_broken(then))
        return frozenset().union(*(demand.constants for demand in found))

    def has_effect(self, name: str, values: Mapping[str, Value]) -> bool:
        """Tell whether the program would do something else if this constant kept its present value."""
        if values[name] == self._present[name]:
            return False
        outcomes = self._outcomes.get(name, ())
        if any(self._program.is_just(node, name) for node in outcomes):
            return True
        with_it = Evaluation(self._program, values)
        without = Evaluation(self._program, {**values, name: self._present[name]})
        differ = (with_it.read(node)[0] != without.read(node)[0] for node in outcomes)
        return not outcomes or any(differ)  # where nothing is known of its use, it may have one

    def amount(self, names: frozenset[str], values: Mapping[str, Value]) -> float | None:
        """Return the first amount of such a name, in capitals, that constants decide; None for none.

        It is that of the present where it is not known with these values.
        """
        if names not in self._amounts:
            found = [(node, *self._now.read(node)) for node in self._program.named(names)]
            self._amounts[names] = [node for node, now, read in found if read and _is_amount(now)]
        then = Evaluation(self._program, values)
        for evaluation in (then, self._now):
            for node in self._amounts[names]:
                value = evaluation.read(node)[0]
                if value is not None and _is_amount(value):
                    return float(value)
        return None

    def _conditions(self, tree: ast.Module) -> Iterator[_Demand]:
        """Yield what holds now and is understood: the program was trained."""
        for failure in _failures(tree.body, ()):
            read = [self._now.read(test) for test, _ in failure]
            constants = frozenset().union(*(names for value, names in read if value is not None))
            demand = _Condition(constants, failure)
            if constants and demand.is_met(self._now):
                yield demand

    def _divisions(self) -> Iterator[_Demand]:
        for node in self._program.names.nodes:
            match node:
                case ast.BinOp(
                    left=ast.Name() | ast.Attribute() | ast.BinOp(op=ast.Mult()), op=ast.FloorDiv()
                ):
                    sides = [self._now.read(side) for side in (node.left, node.right)]
                    if all(names and value is not None for value, names in sides):
                        demand = _Division(sides[0][1] | sides[1][1], node)
                        if not demand.is_broken(self._now):
                            yield demand

    def _sees_all(self) -> bool:
        nodes = self._program.names.nodes
        return any(isinstance(node, ast.Name) and node.id in _SEEING for node in nodes)

    def _largest(self, node: ast.AST) -> list[ast.expr]:
        """Return the largest expressions that constants decide: what the rest of the program sees of them.

        What is only printed or asserted does not count. Nor does a value that a name hands on, but what is
        made of it.
        """
        match node:
            case ast.Assert() | ast.Call(func=ast.Name(id="print")):
                return []
            case (
                ast.Assign(targets=[ast.Name() as target], value=value)
                | ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value)
            ) if self._is_handed_on(target, value):
                return []
        found = [each for child in children(node) for each in self._largest(child)]
        is_part = bool(found) or symbol_of(node) or self._program.literal(node)
        if is_part and isinstance(node, ast.expr):
            known, names = self._now.read(node)
            if names and known is not None:
                return [node]
        return found

    def _is_handed_on(self, target: ast.Name, value: ast.expr) -> bool:
        read = ast.Name(target.id, ast.Load())
        return all(self._now.read(each)[0] is not None for each in (value, read))

    def _by_constant(self, nodes: Sequence[ast.expr]) -> dict[str, list[ast.expr]]:
        found: dict[str, list[ast.expr]] = {}
        for node in nodes:
            for name in self._now.read(node)[1]:
                found.setdefault(name, []).append(node)
        return found


@lru_cache(maxsize=8)  # of one program they are asked for with each proposal
def _read(source: str, files: tuple[tuple[str, str], ...]) -> Requirements | None:
    try:
        return Requirements(source, constants_of(dict(files)))
    except (UserError, RecursionError):
        return None


def read_requirements(source: str, files: Mapping[str, str]) -> Requirements | None:
    """Return what a program demands, given the texts of its other files; None where it cannot be read."""
    return _read(source, tuple(files.items()))


def _failures(body: Collection[ast.stmt], tests: tuple[_Test, ...]) -> Iterator[tuple[_Test, ...]]:
    """Yield for each assertion, and each exception that nothing catches, the tests under which it fails."""
    for statement in body:
        match statement:
            case ast.Assert(test=test):
                yield (*tests, (test, False))
            case ast.Raise():
                yield tests
            case ast.Expr(value=ast.Call(func=called)) if dotted(called) in _EXITS:
                yield tests
            case ast.If(test=test, body=inner, orelse=other):
                yield from _failures(inner, (*tests, (test, True)))
                yield from _failures(other, (*tests, (test, False)))
            case ast.FunctionDef(body=inner) | ast.AsyncFunctionDef(body=inner) | ast.ClassDef(body=inner):
                yield from _failures(inner, ())
            case ast.With(body=inner) | ast.For(body=inner) | ast.While(body=inner):
                yield from _failures(inner, tests)


def _is_amount(value: Known | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@lru_cache(maxsize=8)
def known_letters(source: str) -> tuple[frozenset[str], ...]:
    """Return the sets of letters that a program tells apart: keys of a dictionary, what it compares."""
    compared: dict[str, set[str]] = {}
    try:
        nodes = list(ast.walk(parse(source)))
    except UserError:
        return ()
    for node in nodes:
        match node:
            case ast.Dict(keys=keys):
                compared[f"dict {id(node)}"] = {text for key in keys for text in _texts(key)}
            case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[ast.Constant(value=str(text))]):
                compared[f"set {id(node)}"] = set(text)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[whole]):
                compared.setdefault(ast.dump(left), set()).update("".join(_texts(whole)))
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                compared.setdefault(ast.dump(left), set()).update(_texts(right))
            case ast.Match(subject=subject, cases=cases):
                values = [case.pattern.value for case in cases if isinstance(case.pattern, ast.MatchValue)]
                compared.setdefault(ast.dump(subject), set()).update(*map(_texts, values))
    letters = (frozenset(ascii_uppercase).intersection(texts) for texts in compared.values())
    return tuple(dict.fromkeys(each for each in letters if len(each) > 1))


def _texts(node: ast.expr | None) -> list[str]:
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
