"""What the names of a program stand for, without running it: imported modules, values, functions.

It is a guess: in which order a program runs, and in which function a name is known, does not count. Every
question takes a bounded number of steps, so that all of them take a time linear in the program's length.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from loop.program.constants import evaluate
from loop.program.places import FUNCTIONS, children

_LONGEST_CHAIN = 16  # parts of a dotted name, or of a text; what has more is not known
_LONGEST_TEXT = 4096  # characters of a part
_BUILTINS = frozenset(
    {"__builtins__", "__import__", "__loader__", "__spec__", "compile", "delattr", "eval", "exec"}
    | {"getattr", "globals", "locals", "open", "print", "setattr", "vars"}
)


@dataclass(frozen=True, slots=True)
class Item:
    """One of the values that `value` gives."""

    value: ast.expr
    index: int


Value: TypeAlias = ast.AST | Item
"""What a name is bound to: an expression, one of its values, or the statement that changes or deletes it."""

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Owner: TypeAlias = _Function | ast.Lambda | None
_READ = (ast.stmt, ast.NamedExpr, ast.Dict, ast.keyword, ast.comprehension, ast.withitem)  # see `_read`


@dataclass(slots=True)
class Names:
    """The names of a program, read from its tree in one pass.

    A path is what a dotted name stands for, from a module on: `torch.nn.functional.linear`; of modules that
    are `followed`, also what a call returned: `prepare.Corpus().tokens`. `values` has what is bound to a
    name, an attribute of anything (`.loss`), a key of any dictionary and a keyword of any call (`[loss]`).
    `bound` are the places that bind a name, and whether the module itself does.
    """

    tree: ast.Module
    followed: Collection[str] = ()
    nodes: list[ast.AST] = field(default_factory=list)  # in the order of the program
    paths: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[Value]] = field(default_factory=dict)
    bound: list[tuple[str, ast.AST, bool]] = field(default_factory=list)
    assigned: list[tuple[ast.expr, Value]] = field(default_factory=list)  # to attributes and items
    imports: list[tuple[str, ast.AST, str]] = field(default_factory=list)
    functions: dict[str, _Function] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    prose: set[int] = field(default_factory=set)  # ids of constants that stand alone, such as docstrings
    _returns: dict[int, list[ast.expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared: set[str] = set()
        waiting: list[tuple[ast.AST, _Owner]] = [(self.tree, None)]
        while waiting:
            node, owner = waiting.pop()
            self.nodes.append(node)
            if isinstance(node, ast.Global):
                shared.update(node.names)
            if isinstance(node, _READ):
                self._read(node, owner)
            inner = node if isinstance(node, FUNCTIONS) else owner
            waiting += [(child, inner) for child in reversed(children(node))]
        self.bound = [(name, node, at_top or name in shared) for name, node, at_top in self.bound]
        self._bind_parameters()
        for name, values in self.values.items():
            for path in map(self._alias, values):
                if path:
                    self.paths.setdefault(name, path)

    # Reading

    def _read(self, node: ast.AST, owner: _Owner) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.functions.setdefault(node.name, node)
                self.bound.append((node.name, node, owner is None))
            case ast.ClassDef():
                self.classes.setdefault(node.name, node)
                self.bound.append((node.name, node, owner is None))
            case ast.Return(value=ast.expr() as value):
                self._returns.setdefault(id(owner), []).append(value)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    self._bind_key(key, value)
            case ast.keyword(arg=str(name), value=value):
                self.values.setdefault(f"[{name}]", []).append(value)
            case ast.Expr(value=ast.Constant() as alone):
                self.prose.add(id(alone))
            case _:
                for target, given in _bindings(node):
                    self._bind(target, given, at_top=owner is None)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                name, path = alias.asname or alias.name, f"{node.module or ''}.{alias.name}"
            elif alias.asname:
                name, path = alias.asname, alias.name
            else:
                name = path = alias.name.partition(".")[0]
            self.paths.setdefault(name, path)
            self.imports.append((name, node, path))

    def _bind(self, target: ast.expr, value: Value, *, at_top: bool) -> None:
        waiting: list[tuple[ast.expr, Value]] = [(target, value)]
        while waiting:
            target, value = waiting.pop()
            match target:
                case ast.Name(id=name):
                    self.values.setdefault(name, []).append(value)
                    self.bound.append((name, target, at_top))
                case ast.Attribute(attr=name):
                    self.values.setdefault(f".{name}", []).append(value)
                    self.assigned.append((target, value))
                case ast.Subscript(slice=key):
                    self._bind_key(key, value)
                    self.assigned.append((target, value))
                case ast.Starred(value=inner):
                    waiting.append((inner, value))
                case ast.Tuple(elts=parts) | ast.List(elts=parts):
                    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(parts):
                        waiting += zip(parts, value.elts, strict=True)
                    elif isinstance(value, ast.expr):
                        waiting += [(part, Item(value, index)) for index, part in enumerate(parts)]

    def _bind_key(self, key: ast.expr | None, value: Value) -> None:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            self.values.setdefault(f"[{key.value}]", []).append(value)

    def _bind_parameters(self) -> None:
        parameters = {
            name: [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
            for name, function in self.functions.items()
        }
        for node in self.nodes:
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called) if (
                    name in parameters
                ):
                    names = islice(
                        parameters[name], int(isinstance(called, ast.Attribute)), None
                    )  # without self
                    given = [*zip(names, node.args, strict=False)]
                    given += [(word.arg, word.value) for word in node.keywords if word.arg]
                    for parameter, value in given:
                        self.values.setdefault(parameter, []).append(value)

    def _alias(self, value: Value) -> str:
        path = self.path(value) if isinstance(value, ast.expr) else ""
        return path if "(" not in path or self._is_followed(path) else ""

    def _is_followed(self, path: str) -> bool:
        return any(within(path, module) for module in self.followed)

    # Asking

    def path(self, node: ast.AST) -> str:
        """Return what a dotted name stands for; empty where it does not begin with a module."""
        parts: list[str] = []
        for _ in range(_LONGEST_CHAIN):
            if isinstance(node, ast.Name):
                builtin = node.id in _BUILTINS and node.id not in self.values
                root = self.paths.get(node.id) or (f"builtins.{node.id}" if builtin else "")
                return root and root + "".join(reversed(parts))
            following = self.rest(node)
            if following is None:
                return ""
            parts.append(self._part(node))
            node = following
        return ""

    def _part(self, node: ast.AST) -> str:
        match node:
            case ast.Attribute(attr=name):
                return f".{name}"
            case ast.Call(func=ast.Name(id="getattr"), args=[_, name, *_]):
                return f".{self.text(name) or '?'}"
            case ast.Call(func=ast.Name(id="float" | "int" | "str"), args=[_, *_]):
                return ""
        return "[]" if isinstance(node, ast.Subscript) else "()"

    def rest(self, node: ast.AST) -> ast.expr | None:
        """Return what a dotted name is without its last part, None where it has only one."""
        match node:
            case ast.Call(func=ast.Name(id="float" | "int" | "str" | "getattr"), args=[value, *_]):
                return value
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Call(func=value):
                return value
        return None

    def text(self, node: ast.AST) -> str | None:
        """Return a string, also one that is written in parts or under the name of a constant."""
        texts: list[str] = []
        waiting: list[ast.AST] = [node]
        for _ in range(_LONGEST_CHAIN):
            if not waiting:
                return "".join(texts)
            part = waiting.pop()
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                if len(part.value) > _LONGEST_TEXT:
                    return None
                texts.append(part.value)
                continue
            inner = self._pieces(part)
            if inner is None or len(inner) > _LONGEST_CHAIN:
                return None
            waiting += reversed(inner)
        return None

    def _pieces(self, node: ast.AST) -> Sequence[ast.AST] | None:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return (left, right)
            case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
                return [left] * min(times, _LONGEST_CHAIN)
            case ast.JoinedStr(values=values):
                return values
            case ast.FormattedValue(value=value, format_spec=None):
                return (value,)
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=""), attr="join"), args=[joined]):
                return joined.elts if isinstance(joined, ast.List | ast.Tuple) else None
            case ast.Name(id=name):
                only = self._only(name)
                return None if only is None else (only,)
        return None

    def number(self, node: ast.AST) -> int | float | None:
        """Return a number, also one under the name of a constant."""
        only = self._only(node.id) if isinstance(node, ast.Name) else node
        value = evaluate(only) if isinstance(only, ast.expr) else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def beginning(self, node: ast.expr) -> str | None:
        """Return how the path of a file begins; `module:` and its path where a followed module made it."""
        found: ast.expr | None = node
        for _ in range(_LONGEST_CHAIN):
            if found is None:
                return None
            if self._is_followed(path := self.path(found)):
                return f"module:{path}"
            if isinstance(found, ast.Constant):
                return found.value if isinstance(found.value, str) else None
            if isinstance(found, ast.Name) and found.id == "__file__":
                return found.id
            found = self._first(found)
        return None

    def _first(self, node: ast.expr) -> ast.expr | None:
        """Return the part of a file's path that comes first."""
        match node:
            case ast.Name(id=name):
                return self._only(name)
            case ast.BinOp(left=left, op=ast.Add() | ast.Div()):
                return left
            case ast.JoinedStr(values=[first, *_]) | ast.FormattedValue(value=first):
                return first
            case ast.Call(func=ast.Name(id="Path" | "str"), args=[first, *_]):
                return first
            case ast.Call(
                func=ast.Attribute(attr="Path" | "join" | "abspath" | "expanduser" | "dirname"),
                args=[first, *_],
            ):
                return first
            case ast.Call(func=ast.Attribute(value=value)) | ast.Attribute(value=value):
                return value
        return None

    def _only(self, name: str) -> ast.expr | None:
        match self.values.get(name):
            case [ast.expr() as only]:
                return only
        return None

    def origins(self, *starts: Value, through: Callable[[ast.AST], Sequence[Value]]) -> Iterator[ast.AST]:
        """Yield what makes these values: through names, conditions, parameters and the returns of functions.

        `through` returns the parts with which to go on after something that is yielded.
        """
        seen: set[object] = set()
        waiting: list[Value] = [*reversed(starts)]
        while waiting:
            value = waiting.pop()
            index = value.index if isinstance(value, Item) else None
            node = value.value if isinstance(value, Item) else value
            if (id(node), index) in seen:
                continue
            seen.add((id(node), index))
            name, makers = self._makers(node, index)
            if makers is None:
                yield node
                makers = through(node)
            elif name:
                makers = () if (name, index) in seen else makers
                seen.add((name, index))
                if index is not None and name.endswith(")"):
                    makers = [Item(each, index) for each in makers if isinstance(each, ast.expr)]
            waiting += reversed([*makers])

    def _makers(self, node: ast.AST, index: int | None) -> tuple[str, Sequence[Value] | None]:
        """Return what a value is looked up by, if it is, and what makes it; None where that is itself."""
        match node:
            case ast.IfExp(body=body, orelse=other):
                return "", (body, other)
            case ast.BoolOp(values=values):
                return "", values
            case ast.NamedExpr(value=inner) | ast.Await(value=inner) | ast.Starred(value=inner):
                return "", (inner,)
            case ast.Tuple(elts=parts) if index is not None:
                return "", parts[index : index + 1]
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in self.functions:
                return f"{name}()", self._returns.get(id(self.functions[name]), ())
            case ast.Name(id=name) if name in self.values:
                return name, self.values[name]
            case ast.Attribute(attr=name) if f".{name}" in self.values and not self.path(node):
                return f".{name}", self.values[f".{name}"]
            case ast.Subscript(slice=ast.Constant(value=str(key))) if f"[{key}]" in self.values:
                return f"[{key}]", self.values[f"[{key}]"]
        return "", None


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, Value]]:
    """Yield what a statement or a comprehension binds, and to what."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.Delete(targets=targets):
            yield from ((target, node) for target in targets)
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
        ):
            yield target, value
        case ast.AugAssign(target=target):
            yield target, node
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield node.target, ast.Starred(node.iter)
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            yield target, value


def within(path: str, module: str) -> bool:
    """Return whether a path is this module, or something of it."""
    return path == module or path.startswith((f"{module}.", f"{module}(", f"{module}["))
