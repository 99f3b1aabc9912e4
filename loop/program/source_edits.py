"""A program that can be cut: its syntax tree with parents, and edits of its bytes."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loop.program.syntax import line_starts, parse, span

_ATOMS = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant)
_TIGHT = (ast.Mult, ast.MatMult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Bytes of the source, and the text to put in their place."""

    start: int
    end: int
    text: str = ""


class Code:
    """One program.

    Raises:
        LoopError: it is not valid Python.
    """

    def __init__(self, source: str) -> None:
        self._tree = parse(source)
        self._data = source.encode()
        self._starts = [*line_starts(source), len(self._data)]
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}

    def edited(self, edits: Iterable[Edit]) -> str | None:
        """Return the source with all edits made; None where two are in each other's way."""
        data, end = self._data, len(self._data)
        for edit in sorted(edits, reverse=True):
            if edit.end > end:
                return None
            data = data[: edit.start] + edit.text.encode() + data[edit.end :]
            end = edit.start
        return data.decode()

    def uses(self, name: str) -> list[ast.Name]:
        """Return where a module's name is read; nothing where a function has one of its own like it."""
        if any(isinstance(node, ast.arg) and node.arg == name for node in self._parents):
            return []
        names = [node for node in self._parents if isinstance(node, ast.Name) and node.id == name]
        inner = any(not isinstance(node.ctx, ast.Load) and not self._is_outside(node) for node in names)
        return [] if inner else [node for node in names if isinstance(node.ctx, ast.Load)]

    def assignment(self, name: str) -> ast.stmt | None:
        """Return the top-level statement that sets a name."""
        for statement in self._tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)):
                    if found == name:
                        return statement
        return None

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return what a node stands in, None for the module."""
        return self._parents.get(node)

    def statements(self, node: ast.AST) -> list[ast.stmt]:
        """Return the statements that a node stands in, the innermost first."""
        found, here = [], self.parent(node)
        while here is not None:
            if isinstance(here, ast.stmt):
                found.append(here)
            here = self.parent(here)
        return found

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the bytes of a node."""
        return span(node, self._starts)

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return the source of a node."""
        start, end = self.span(node)
        return self._data[start:end].decode()

    def replaced(self, node: ast.expr, text: str) -> Edit:
        """Return the edit that puts a text in the place of an expression."""
        return Edit(*self.span(node), text)

    def lifted(self, node: ast.expr, outer: ast.expr) -> Edit:
        """Return the edit that puts a part of an expression in the place of the whole."""
        return self.replaced(outer, self.operand(node, outer))

    def operand(self, node: ast.expr, outer: ast.expr) -> str:
        """Return the source of a node, in parentheses unless it is fit to stand where `outer` does."""
        return self.text(node) if self.fits(node, outer) else f"({self.text(node)})"

    def fits(self, node: ast.expr, outer: ast.expr) -> bool:
        """Tell whether a node can stand where `outer` does without parentheses."""
        tight = isinstance(node, _ATOMS) or (isinstance(node, ast.BinOp) and isinstance(node.op, _TIGHT))
        match self.parent(outer):
            case ast.Call(args=args) if outer in args:
                return True
            case holder:
                return tight or not isinstance(holder, ast.expr)

    def without(self, statement: ast.stmt) -> Edit | None:
        """Return the edit that takes out a statement with its lines; None if it is alone there or here."""
        start, end = self._lines(statement.lineno, statement.end_lineno or 0)
        first, last = self.span(statement)
        before, behind = self._data[start:first].strip(), self._data[last:end].strip()
        if before or (behind and not behind.startswith(b"#")) or self._is_alone(statement):
            return None
        return Edit(start, end)

    def branch(self, choice: ast.If, kept: Sequence[ast.stmt]) -> Edit | None:
        """Return the edit that leaves only one branch of a choice; None where that is not simply done."""
        start, _ = self.span(choice)
        if self._begins(choice, "elif"):
            return None
        if not kept:
            return self.without(choice)
        if self._begins(kept[0], "elif"):
            return Edit(start, self.span(kept[0])[0] + len("el"))
        if kept[0].lineno == choice.lineno or _has_long_text(kept):
            return None
        first = min([kept[0].lineno, *(line.lineno for line in getattr(kept[0], "decorator_list", []))])
        begin, end = self._lines(first, kept[-1].end_lineno or 0)
        lines = textwrap.dedent(self._data[begin:end].decode())
        margin = " " * choice.col_offset
        whole = self._lines(choice.lineno, choice.end_lineno or 0)
        return Edit(*whole, textwrap.indent(lines, margin))

    def _lines(self, first: int, last: int) -> tuple[int, int]:
        return self._starts[first - 1], self._starts[last]

    def _begins(self, statement: ast.stmt, word: str) -> bool:
        return isinstance(statement, ast.If) and self.text(statement).startswith(word)

    def _is_alone(self, statement: ast.stmt) -> bool:
        holder = self.parent(statement)
        bodies = [getattr(holder, name, []) for name in ("body", "orelse", "finalbody")]
        return any(body == [statement] for body in bodies)

    def _is_outside(self, node: ast.AST) -> bool:
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return not any(isinstance(statement, scopes) for statement in self.statements(node))


def _has_long_text(statements: Sequence[ast.stmt]) -> bool:
    """Tell whether there is a text over several lines, whose margin is part of it."""
    return any(
        isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno
        for statement in statements
        for node in ast.walk(statement)
    )
