"""A program as the guard reads it: what it uses of frozen modules, what it scores, what it prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from loop.evaluation.guard.rules import EVALUATOR
from loop.evidence import Finding, Rule
from loop.program.constants import budget_of
from loop.program.names import Names, Value, within

_LONGEST_NAME = 200  # characters of a text, from its end, in which the metric's name is looked for


@dataclass(frozen=True)
class Reading:
    """What the rules look at; each list is made once. `frozen` are names of modules."""

    source: str
    names: Names
    frozen: tuple[str, ...]
    metric: str

    def key(self, finding: Finding) -> tuple[Rule, str, str]:
        """Return what stays equal for a finding whose line has only moved."""
        return finding.rule, finding.message, self._lines[finding.line - 1].strip()

    @cached_property
    def _lines(self) -> list[str]:
        return re.split(r"\r\n|\r|\n", self.source)

    @cached_property
    def budget(self) -> float | None:
        """Seconds, where it sets a constant `TIME_BUDGET` itself."""
        return budget_of(self.names.tree)

    # What it uses

    def is_frozen(self, path: str) -> bool:
        return any(within(path, module) for module in self.frozen)

    @cached_property
    def uses(self) -> list[tuple[ast.AST, str]]:
        """Every dotted name that is no part of a longer one, with its path."""
        covered: set[int] = set()
        found = []
        for node in self.names.nodes:
            is_name = isinstance(node, ast.Attribute | ast.Name | ast.Call | ast.Subscript)
            if is_name and id(node) not in covered and (path := self.names.path(node)):
                found.append((node, path))
                inner: ast.AST | None = node
                while inner is not None:
                    covered.add(id(inner))
                    inner = self.names.rest(inner)
        return found

    @cached_property
    def members(self) -> frozenset[str]:
        """What it uses of frozen modules: `prepare.Corpus`, `prepare.Corpus()`, what that has."""
        return frozenset(part for _, path in self.uses if self.is_frozen(path) for part in beginnings(path))

    @cached_property
    def evaluators(self) -> frozenset[str]:
        """The functions of frozen modules that score a model, as far as they are called."""
        called = (path.removesuffix("()") for path in self.members if path.endswith("()"))
        return frozenset(path for path in called if EVALUATOR.search(path.rpartition(".")[2]))

    def evaluates(self, node: ast.AST, evaluators: Collection[str]) -> bool:
        return isinstance(node, ast.Call) and self.names.path(node.func) in evaluators

    def evaluations(self, evaluators: Collection[str]) -> list[ast.Call]:
        calls = (node for node in self.names.nodes if isinstance(node, ast.Call))
        return [call for call in calls if self.evaluates(call, evaluators)]

    # What it is made of

    @cached_property
    def modules(self) -> frozenset[str]:
        """The classes of the program that may be an nn.Module: by a base that is not of the program."""
        heirs: dict[str, list[str]] = {}
        found: set[str] = set()
        waiting: list[str] = []
        for name, definition in self.names.classes.items():
            for base in definition.bases:
                if isinstance(base, ast.Name) and (base.id in self.names.classes or base.id == "object"):
                    heirs.setdefault(base.id, []).append(name)
                else:
                    waiting.append(name)
        while waiting:
            if (name := waiting.pop()) not in found:
                found.add(name)
                waiting += heirs.get(name, ())
        return frozenset(found)

    @cached_property
    def printers(self) -> frozenset[str]:
        """The functions of the program that print, or may."""
        return frozenset(name for name, function in self.names.functions.items() if prints(function))

    # What it prints

    @cached_property
    def texts(self) -> list[tuple[ast.AST, str]]:
        """Every string, as a whole where it is written in parts; no docstrings."""
        covered: set[int] = set()
        found = []
        for node in self.names.nodes:
            text: str | None = None
            match node:
                case ast.Constant(value=str(whole)):
                    text = whole
                case ast.Constant(value=bytes(data)):
                    text = data.decode("latin-1")
                case ast.BinOp() | ast.Call() | ast.JoinedStr():
                    text = self.names.text(node)
            if text is not None and id(node) not in covered and id(node) not in self.names.prose:
                found.append((node, text))
                covered.update(id(inner) for inner in ast.walk(node))
        return found

    @cached_property
    def blocks(self) -> list[ast.AST]:
        """Where a summary begins: what has a line `---`, once for each."""
        return [node for node, text in self.texts for line in text.splitlines() if line.strip() == "---"]

    @cached_property
    def shown(self) -> list[Value]:
        """What stands where the metric is printed: behind its name, or under it in a dictionary."""
        found = list(self.names.values.get(f"[{self.metric}]", ()))
        covered: set[int] = set()
        for node in self.names.nodes:
            match node:
                case ast.BinOp(
                    left=ast.Constant(value=str(text)), op=ast.Mod(), right=ast.Tuple(elts=values)
                ):
                    found += self._in_turn(text, r"%[^%]", values)
                case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=value):
                    found += self._in_turn(text, r"%[^%]", [value])
                case ast.Call(
                    func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format"), args=values
                ):
                    found += self._in_turn(text, r"\{(?!\{)", values)
                case (
                    ast.JoinedStr(values=parts)
                    | ast.Tuple(elts=parts)
                    | ast.List(elts=parts)
                    | ast.Call(args=parts)
                ):
                    found += self._behind(parts)
                case ast.BinOp(op=ast.Add()) if id(node) not in covered:
                    found += self._behind(_terms(node, covered))
        return found

    @cached_property
    def _named(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w./-]){re.escape(self.metric)}[\"'`]?\s{{0,40}}[:=]?\s{{0,40}}(\Z)?")

    def _in_turn(self, text: str, place: str, values: Sequence[ast.expr]) -> Sequence[ast.expr]:
        """Return the value that fills the place behind the metric's name."""
        named = self._named.search(text)
        index = len(re.findall(place, text[: named.start()])) if named else len(values)
        return values[index : index + 1]

    def _behind(self, parts: Sequence[ast.expr]) -> Iterator[ast.expr]:
        written = ""  # the text that stands right before
        for part, after in pairwise(parts):
            text = self.names.text(part.value if isinstance(part, ast.FormattedValue) else part)
            written = "" if text is None else (written + text)[-_LONGEST_NAME:]
            if any(named[1] is not None for named in self._named.finditer(written)):
                yield after


def beginnings(path: str) -> list[str]:
    """Return a path and what it begins with: `a`, `a.b`, `a.b()` of `a.b()`."""
    return [path[: end.start()] for end in re.finditer(r"[.(\[]|$", path)]


def prints(node: ast.AST) -> bool:
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return any(
        (isinstance(func, ast.Name) and func.id in ("print", "exec", "eval"))
        or (isinstance(func, ast.Attribute) and func.attr.startswith("write"))
        for func in calls
    )


def _terms(node: ast.BinOp, covered: set[int]) -> list[ast.expr]:
    """Return what a sum adds, and note the sums that it is made of."""
    terms: list[ast.expr] = []
    left: ast.expr = node
    while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add):
        covered.add(id(left))
        terms.append(left.right)
        left = left.left
    return [left, *reversed(terms)]
