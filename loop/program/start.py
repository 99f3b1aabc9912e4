"""What a program does first: the packages that it imports, and the variables that it sets before.

They are read from its text and from the files of its repository that it imports; nothing is run. What could
change an import in a way that the text does not plainly say ends the reading: what comes after is left out.
"""

from __future__ import annotations

import ast
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from loop.errors import UserError
from loop.program.constants import parse
from loop.program.places import FUNCTIONS, children

COMPILER = ("torch._dynamo", "torch._inductor.compile_fx")
"""What the first call of torch.compile imports; with torch 2.13 it takes longer than torch itself."""

_LONGEST = 2**20  # characters
_CHANGES = re.compile(r"\b(?:environb?|putenv|unsetenv|setenv|sched_setaffinity)\b")
_IMPORT_STATE = ("path", "modules", "meta_path", "path_hooks")  # of sys


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    value: str
    is_default: bool  # it is set only where it is not set yet


@dataclass(frozen=True, slots=True)
class Start:
    """Modules with the names that are imported from them, in their order, and the variables set before."""

    imports: tuple[tuple[str, tuple[str, ...]], ...] = ()
    variables: tuple[Variable, ...] = ()

    def serves(self, other: Start) -> bool:
        """Tell whether a Python that has done this is as good for the other program as a fresh one."""
        modules = {module for module, _ in other.imports}
        return self.variables == other.variables and all(module in modules for module, _ in self.imports)


def find_start(source: str, names: Collection[str], read: Callable[[str], str | None]) -> Start:
    """Read how a program starts.

    `names` are those of the files and folders beside it, `read` returns the text of one by its path, None
    where there is no such file. A start that is not clear is empty.
    """
    reader = _Reader(names, read)
    try:
        reader.run(source, ())
    except UserError:  # a file is not Python
        return Start()
    tops = {module.partition(".")[0] for module in reader.imports}
    if reader.is_clear and reader.compiles and "torch" in tops:
        reader.imports |= {module: reader.imports.get(module, ()) for module in COMPILER}
    return Start(tuple(reader.imports.items()), tuple(reader.variables))


class _Reader:
    def __init__(self, names: Collection[str], read: Callable[[str], str | None]) -> None:
        self.imports: dict[str, tuple[str, ...]] = {}
        self.variables: list[Variable] = []
        self.is_clear = True
        self.compiles = False
        self._names = names
        self._read = read
        self._seen: set[str] = set()

    def run(self, source: str, package: Sequence[str]) -> None:
        if len(source) > _LONGEST:
            raise UserError("The program is too long to be read while the GPU waits.")
        tree = parse(source)
        nodes: list[ast.AST] = [tree]
        for node in nodes:
            nodes += children(node)
        harmless = {id(inner) for node in nodes for inner in _only_read(node)}
        changes = sorted(node.lineno for node in nodes if _names_a_change(node) and id(node) not in harmless)
        functions = (node for node in nodes if isinstance(node, FUNCTIONS))
        if any(_holds(node, changes) for node in functions):  # and when it is called is not known
            raise UserError("It is not clear which variables the program sets.")
        self.compiles = self.compiles or any(map(_is_compile, nodes))
        self._do(tree.body, package, changes)

    def _do(self, statements: Sequence[ast.stmt], package: Sequence[str], changes: Sequence[int]) -> None:
        for statement in statements:
            if not self.is_clear:
                return
            match statement:
                case ast.Import(names=aliases) if not _holds(statement, changes):
                    for alias in aliases:
                        self._import(alias.name, ())
                case ast.ImportFrom(module=module, names=aliases, level=level) if not _holds(
                    statement, changes
                ):
                    above = list(package[: len(package) + 1 - level]) if level else []
                    whole = ".".join([*above, *([module] if module else [])])
                    self._import(whole, tuple(alias.name for alias in aliases), is_local=level > 0)
                case _:
                    self._do_other(statement, package, changes)

    def _do_other(self, statement: ast.stmt, package: Sequence[str], changes: Sequence[int]) -> None:
        match statement:
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                self._do(body, package, changes)
                self._look(handlers, changes)
                self._do([*orelse, *finalbody], package, changes)
            case ast.With(items=items, body=body):
                self._look([item.context_expr for item in items], changes)
                self._do(body, package, changes)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                self._do(statement.orelse, package, changes)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Expr(value=ast.Constant()):
                pass
            case _ if variable := _variable(statement):
                self.is_clear = not self.imports  # set too late for some imports, early for others
                if self.is_clear:
                    self.variables.append(variable)
            case _:
                self._look([statement], changes)

    def _look(self, nodes: Sequence[Spread], changes: Sequence[int]) -> None:
        """Stop where these change what later imports do, or import further files of the repository."""
        for node in nodes:
            imported = (name for inner in _run_at_once(node) for name in _imported(inner))
            if _holds(node, changes) or any(map(self._is_local, imported)):
                self.is_clear = False

    def _import(self, module: str, names: tuple[str, ...], *, is_local: bool = False) -> None:
        if is_local or self._is_local(module):
            self._follow(module, names)
        elif module.partition(".")[0] not in sys.stdlib_module_names:
            before = self.imports.get(module, ())
            self.imports[module] = tuple(dict.fromkeys((*before, *names)))

    def _is_local(self, module: str) -> bool:
        top = module.partition(".")[0]
        return top in self._names or f"{top}.py" in self._names or not top

    def _follow(self, module: str, names: tuple[str, ...]) -> None:
        parts = module.split(".") if module else []
        packages = [parts[:count] for count in range(1, len(parts) + 1)]
        for path in (*packages, *([*parts, name] for name in names)):
            for file, package in (
                ("/".join([*path, "__init__.py"]), path),
                ("/".join(path) + ".py", path[:-1]),
            ):
                if file in self._seen:
                    break
                if (source := self._read(file)) is not None:
                    self._seen.add(file)
                    self.run(source, package)
                    break


Spread: TypeAlias = ast.stmt | ast.expr | ast.excepthandler | ast.alias  # it has lines


def _run_at_once(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a statement, without those of functions in it."""
    waiting = [node]
    while waiting:
        yield (node := waiting.pop())
        if not isinstance(node, FUNCTIONS):
            waiting += children(node)


def _imported(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=module, level=level):
            yield "" if level else module or ""


def _variable(statement: ast.stmt) -> Variable | None:
    match statement:
        case ast.Assign(
            targets=[ast.Subscript(value=place, slice=ast.Constant(value=str(name)))],
            value=ast.Constant(value=str(value)),
        ) if _is_environ(place):
            return Variable(name, value, is_default=False)
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=place, attr="setdefault"),
                args=[ast.Constant(value=str(name)), ast.Constant(value=str(value))],
                keywords=[],
            )
        ) if _is_environ(place):
            return Variable(name, value, is_default=True)
    return None


def _is_environ(node: ast.expr) -> bool:
    match node:
        case ast.Name(id="environ") | ast.Attribute(value=ast.Name(id="os"), attr="environ"):
            return True
    return False


def _is_compile(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="torch"), attr="compile"):
            return True
    return False


def _holds(node: Spread, lines: Sequence[int]) -> bool:
    first = bisect_left(lines, node.lineno)
    return first < len(lines) and lines[first] <= (node.end_lineno or node.lineno)


def _only_read(node: ast.AST) -> Sequence[ast.AST]:
    """Return the parts of a node that do not change variables, though they are named."""
    match node:
        case (
            ast.Call(func=ast.Attribute(value=place, attr="get" | "copy" | "items" | "keys" | "values"))
            | ast.Call(func=ast.Name(id="dict"), args=[place])
            | ast.Subscript(value=place, ctx=ast.Load())
        ):
            return [place]
        case ast.Compare(comparators=places) | ast.Dict(values=places):
            return places
        case ast.Expr(value=ast.Constant() as text):
            return [text]
        case ast.ImportFrom(module="os", names=[*aliases]):
            return [alias for alias in aliases if alias.name == "environ" and not alias.asname]
    return []


def _names_a_change(node: ast.AST) -> TypeGuard[Spread]:
    """Tell whether a node names what changes what a later import does: variables, where modules are found."""
    match node:
        case ast.Attribute(value=ast.Name(id="sys"), attr=name) if name in _IMPORT_STATE:
            return True
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return bool(_CHANGES.fullmatch(name))
        case ast.Constant(value=str(text)):
            return bool(_CHANGES.search(text))
        case ast.ImportFrom(module="os" | "sys", names=aliases):
            return any(alias.name in ("*", *_IMPORT_STATE) for alias in aliases)
        case ast.alias(name=name, asname=other):
            return bool(_CHANGES.fullmatch(name)) or (name in ("os", "sys") and other not in (None, name))
    return False
