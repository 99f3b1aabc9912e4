"""Where a program keeps its data: the constants of its text that are paths, evaluated without running it."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loop.errors import UserError
from loop.program.constants import parse
from loop.program.places import assignment, dotted

_DATA = re.compile(r"DATA|TOKENIZER|CORPUS|SHARD")
_PLACE = re.compile(r"DIR|PATH|FOLDER|ROOT|FILE")
_JOINED = ("os.path.join", "Path", "pathlib.Path", "PurePath")
_SAME = (
    *("os.path.abspath", "os.path.realpath", "os.path.normpath", "os.fspath", "str", "expanduser"),
    *("resolve", "absolute", "as_posix"),
)
_NAMES = {"os.name": os.name, "sys.platform": sys.platform}
_VARIABLE = ("os.environ.get", "environ.get", "os.getenv", "getenv")


def find_data(source: str, environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the absolute paths that constants such as DATA_DIR or TOKENIZER_PATH of a program name.

    `environ` are the variables that the program will see, `home` its home directory. Of `datasets` it
    is what AUTORESEARCH_DATASET names, if set. What is computed from more than paths, or in functions with
    parameters, is not found, nor anything in a program that is no Python.
    """
    try:
        tree = parse(source)
    except UserError:
        return ()
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    paths = _Paths(environ, home, functions)
    chosen = environ.get("AUTORESEARCH_DATASET", "").strip().lower()
    found: dict[Path, None] = {}
    for statement in tree.body:
        for name, value in assignment(statement):
            text = paths.known[name] = paths.text(value)
            is_data = name.isupper() and _DATA.search(name) and _PLACE.search(name)
            if is_data and text and text.startswith("/"):
                found[Path(text, chosen if text.endswith("/datasets") else "")] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Paths:
    """Evaluates expressions that make paths; `known` are the names so far, None where the value is not."""

    environ: Mapping[str, str]
    home: Path
    functions: Mapping[str, ast.FunctionDef]
    known: dict[str, str | None] = field(default_factory=dict)
    returned: dict[str, str | None] = field(default_factory=dict)  # by functions

    def text(self, node: ast.expr) -> str | None:
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id=name):
                return self.known.get(name)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._joined([left, right])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _whole([self.text(left), self.text(right)])
            case ast.JoinedStr(values=parts):
                return _whole([self.text(part) for part in parts])
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self.text(value)
            case ast.BoolOp(op=ast.Or(), values=values):
                texts = [self.text(value) for value in values]
                return next((text for text in texts[:-1] if text or text is None), texts[-1])
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if dotted(value) in (
                "os.environ",
                "environ",
            ):
                return self.environ.get(name)
            case ast.Call(func=func, args=arguments, keywords=[]):
                return self._called(func, arguments)
        return _NAMES.get(dotted(node))

    def _returned(self, body: Sequence[ast.stmt]) -> str | None:
        """Return what a function without parameters returns; an `if` of which nothing is known is passed."""
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.known[name] = self.text(value)
                case ast.If(test=test, body=then, orelse=other):
                    holds = self._holds(test)
                    branch = [] if holds is None else then if holds else other
                    if text := self._returned(branch):
                        return text
                case ast.Return(value=ast.expr() as value):
                    return self.text(value)
        return None

    def _holds(self, test: ast.expr) -> bool | None:
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                holds = self._holds(operand)
                return None if holds is None else not holds
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq() as sign], comparators=[right]):
                texts = (self.text(left), self.text(right))
                return None if None in texts else (texts[0] == texts[1]) is isinstance(sign, ast.Eq)
        text = self.text(test)
        return None if text is None else bool(text)

    def _called(self, func: ast.expr, arguments: Sequence[ast.expr]) -> str | None:
        name = dotted(func)
        if (function := self.functions.get(name)) and not (arguments or function.args.args):
            if name not in self.returned:
                self.returned[name] = None  # to itself
                inside = replace(self, known=dict(self.known))
                self.returned[name] = inside._returned(function.body)
            return self.returned[name]
        method, owner = (func.attr, func.value) if isinstance(func, ast.Attribute) else ("", func)
        match name, arguments:
            case ("Path.home" | "pathlib.Path.home", []):
                return str(self.home)
            case "os.path.expanduser", [path]:
                return self._at_home(self.text(path))
            case _, [ast.Constant(value=str(variable)), *default] if name in _VARIABLE:
                return self.environ.get(variable) or (self.text(default[0]) if default else "")
            case _, [_, *_] if name in _JOINED:
                return self._joined(arguments)
            case _, [path] if name in _SAME:
                return self.text(path)
        if method == "joinpath":
            return self._joined([owner, *arguments])
        if method in _SAME and not arguments:
            text = self.text(owner)
            return self._at_home(text) if method == "expanduser" else text
        return None

    def _joined(self, parts: Sequence[ast.expr]) -> str | None:
        texts = [self.text(part) for part in parts]
        return None if None in texts else str(Path(*(text for text in texts if text is not None)))

    def _at_home(self, text: str | None) -> str | None:
        return text if text is None or not re.match(r"~(/|$)", text) else f"{self.home}{text[1:]}"


def _whole(parts: Sequence[str | None]) -> str | None:
    return None if None in parts else "".join(part for part in parts if part is not None)
