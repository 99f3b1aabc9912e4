"""The guard's rules about the number: who makes it, on what text, after what time, and who prints it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from math import isfinite

from loop.evaluation.guard import rules
from loop.evaluation.guard.reading import Reading, beginnings
from loop.evaluation.guard.rules import found
from loop.evidence import Finding, Rule, Severity
from loop.program.names import Names, Value

_BUDGET = "TIME_BUDGET"
_PROGRESS = ".progress()"  # of a frozen module: the share of the budget that is used up
_LONGEST_NAME = 200  # characters of a text that may name something
_ATEN = re.compile(r"aten(?:::\w+(?:\.\w+)?)?")
_METHODS = ("item", "cpu", "tolist", "detach", "float")  # give the same number as another type


def members(program: Reading, base: Reading | None) -> Iterator[Finding]:
    """Yield what is used of frozen modules and not by the base program; constants are only noted."""
    if base is None:
        return
    results = {f"{evaluator}()" for evaluator in program.evaluators}
    known = base.members.union(program.frozen)
    for node, path in program.uses:
        if not program.is_frozen(path) or path in base.members or results.intersection(beginnings(path)):
            continue
        if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):  # what changes it has a rule of its own
            new = next((part for part in beginnings(path) if part not in known), "")
            name = new.rpartition(".")[2]
            if new:
                severity = Severity.NOTE if name.isupper() or name.endswith((")", "]")) else Severity.FLAG
                yield found(Rule.FROZEN, node, f"{new} is not used by the base program.", severity)


def texts(program: Reading, base: Reading | None) -> Iterator[Finding]:
    literal = re.compile(rf"(?<![\w./-]){re.escape(program.metric)}[\"']?\s{{0,80}}[:=]\s{{0,80}}[-+]?\.?\d")
    for node, text in program.texts:
        if literal.search(text):
            yield found(Rule.METRIC, node, f"{program.metric} is printed as a literal.")
        if len(text) <= _LONGEST_NAME and text != program.metric and rules.HELD_OUT.fullmatch(text):
            yield found(Rule.HELD_OUT, node, f"{text!r} names text that no training may see, or its files.")
        if _ATEN.fullmatch(text):
            yield found(Rule.REPLACED, node, f"{text!r} is an operation of PyTorch's own.")
    for node in program.blocks[max(1, len(base.blocks) if base else 1) :]:
        yield found(Rule.SUMMARY, node, "It prints more than one summary.")


def evaluator(program: Reading, base: Reading | None) -> Iterator[Finding]:
    """The evaluator is called, and on the model."""
    expected = (base or program).evaluators
    calls = program.evaluations(expected)
    if expected and not calls:
        yield Finding(Rule.EVALUATOR, 1, f"{_either(expected)} is not called.", Severity.FLAG)
    if len(calls) > max(1, len(base.evaluations(expected)) if base else 1):
        yield found(Rule.EVALUATOR, calls[-1], f"It evaluates in {len(calls)} places.", Severity.NOTE)
    for node, path in program.uses:
        if path in expected and isinstance(getattr(node, "ctx", None), ast.Load):
            yield found(Rule.EVALUATOR, node, f"{path} is handed on, not called.")
    given = [[*call.args, *(word.value for word in call.keywords)][:1] for call in calls]
    models = (model for first in given for model in first)
    for node in program.names.origins(*models, through=lambda node: _made_of(program, node)):
        if what := _no_model(program, node):
            yield found(Rule.EVALUATOR, node, f"The evaluator is given {what}, not the model.")


def _made_of(program: Reading, node: ast.AST) -> Sequence[Value]:
    """Return what a model is made of by a call: `torch.compile(model)`, `model.to(device)`."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in program.names.classes:
            return ()
        case ast.Call(func=ast.Attribute(value=value) as method) if not program.names.path(method):
            return (value,)
        case ast.Call(args=[first, *_]):
            return (first,)
    return ()


def _no_model(program: Reading, node: ast.AST) -> str:
    match node:
        case ast.Lambda():
            return "a lambda"
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in program.names.functions:
            return f"the function {name}"
        case ast.Call(func=ast.Name(id=name)) if (
            name in program.names.classes and name not in program.modules
        ):
            return f"a {name}, which is no nn.Module"
        case ast.Call(func=func) if program.names.path(func) == "functools.partial":
            return "a partial function"
    return ""


def metric(program: Reading, base: Reading | None) -> Iterator[Finding]:
    """The printed number is what the evaluator returned: no literal, and not changed."""
    names, shown, expected = program.names, program.shown, (base or program).evaluators
    if base and base.shown and not shown:
        yield Finding(Rule.METRIC, 1, f"{program.metric} is not printed under its name.", Severity.FLAG)
    made = list(names.origins(*shown, through=lambda node: _formatted(names, node) or ()))
    for node in made:
        if isinstance(node, ast.Constant) and _is_number(node.value):
            yield found(Rule.METRIC, node, f"{program.metric} is a literal ({str(node.value)[:20]}).")
    if not shown or not expected:  # or the program scores itself, as its base does
        return
    evaluated = any(program.evaluates(node, expected) for node in made)
    changed = [
        node for node in made if _formatted(names, node) is None and not program.evaluates(node, expected)
    ]
    for node in changed:
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.AugAssign | ast.Call | ast.Compare):
            yield found(Rule.METRIC, node, f"{program.metric} is changed before it is printed.")
    inner = names.origins(*changed, through=_children)
    if not evaluated and not any(program.evaluates(node, expected) for node in inner):
        line = min(getattr(node, "lineno", 1) for node in shown)
        message = f"{program.metric} is not what {_either(expected)} returned."
        yield Finding(Rule.METRIC, line, message, Severity.FLAG)


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return any(map(str.isdigit, value))
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _formatted(names: Names, node: ast.AST) -> Sequence[ast.expr] | None:
    """Return what is only written as text, or given another type; None where more is done to it."""
    match node:
        case ast.Constant():
            return ()
        case ast.JoinedStr(values=values):
            return values
        case ast.FormattedValue(value=value):
            return (value,)
        case ast.Call(func=ast.Name(id=name), args=[value, *_]) if name in rules.PRINTED:
            return (value,)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="format"), args=values):
            return values
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _METHODS:
            return (value,)
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod(), right=value):
            return (value,)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = (left, right)
            joins = any(isinstance(side, ast.JoinedStr) or names.text(side) is not None for side in sides)
            return sides if joins else None
    return None


def _children(node: ast.AST) -> list[Value]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def time(program: Reading, base: Reading | None) -> Iterator[Finding]:
    """The budget is used, and is not made longer."""
    if base:
        ends = (_PROGRESS, f".{_BUDGET}")
        used = (frozenset(path for path in base.members if path.endswith(end)) for end in ends)
        budgets = next(filter(None, used), frozenset[str]())
        if budgets and not budgets & program.members:
            yield Finding(Rule.TIME, 1, f"{_either(budgets)} is not used.", Severity.FLAG)
        before = base.budget
        if before is not None and before != (after := program.budget):
            yield Finding(Rule.TIME, 1, f"{_BUDGET} is {after or 'not set'}, not {before:g}.", Severity.FLAG)
    for node in program.names.nodes:
        match node:
            case ast.BinOp(left=left, op=op, right=right) | ast.AugAssign(target=left, op=op, value=right):
                longer = _lengthens(program, left, op, right)
            case ast.Call(func=ast.Name(id="max"), args=values):
                longer = any(_is_budget(program, value) for value in values)
            case ast.Call(args=[ast.BinOp(op=op, right=right)]) if _is_progress(program, node):
                longer = _lessens(op, program.names.number(right))
            case ast.Compare(left=left, comparators=[right]) if _is_progress(program, left):
                longer = (program.names.number(right) or 0) > 1
            case _:
                continue
        if longer:
            yield found(Rule.TIME, node, f"{_BUDGET} is made longer.")


def _is_budget(program: Reading, node: ast.AST) -> bool:
    path = program.names.path(node)
    return path.endswith(f".{_BUDGET}") and program.is_frozen(path)


def _is_progress(program: Reading, node: ast.AST) -> bool:
    path = program.names.path(node.value if isinstance(node, ast.NamedExpr) else node)
    return path.endswith(_PROGRESS) and program.is_frozen(path)


def _lengthens(program: Reading, left: ast.expr, op: ast.operator, right: ast.expr) -> bool:
    if _is_budget(program, right) and isinstance(op, ast.Add | ast.Mult):
        left, right = right, left
    by = program.names.number(right)
    if _is_progress(program, left):
        return _lessens(op, by)
    if by is None or not _is_budget(program, left):
        return False
    match op:
        case ast.Mult() | ast.Pow():
            return by > 1
        case ast.Div():
            return 0 < by < 1
        case ast.Add():
            return by >= 1
    return False


def _lessens(op: ast.operator, by: float | None) -> bool:
    """Tell whether it makes less of a time, or of a share of it."""
    if by is None:
        return False
    match op:
        case ast.Mult():
            return 0 <= by < 1
        case ast.Div() | ast.Pow():
            return by > 1
        case ast.Sub():
            return by > 0
    return False
