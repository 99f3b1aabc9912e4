"""Where a program sets constants: literals whose text may be replaced, by the names that people call them.

`DEPTH` and `lr` stand at top level or under `if __name__ == "__main__"`, `Config.lr` in a class of settings,
`config.lr` in a dictionary of settings; `--lr` is the default of an option. Each is set once, by this literal
and nothing else: what code sets again, or always gives anew, is no constant.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

Found: TypeAlias = tuple[str, ast.expr]  # a name, and the expression that it is set to
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SETTINGS = re.compile(
    r"(?:conf|cfg|args|arguments|params|parameters|hparams|hyper|settings|options|defaults)\w*\Z"
    r"|(?:.*_)?(?:config|cfg|args|params|hparams|settings|options|defaults)\Z",
    re.IGNORECASE,
)
_SETTINGS_CLASS = re.compile(
    r"(?:Conf|Config|Cfg|Args|Arguments|Params|Parameters|HParams|Settings|Options)\Z"
)
_RECORDS = ("NamedTuple", "BaseModel", "BaseSettings", "Struct")
_CHANGES = ("update", "setdefault", "pop", "popitem", "clear", "__setitem__")  # methods of dictionaries
_REPLACES = ("replace", "_replace", "set_defaults", "evolve", "model_copy")  # by keywords
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right below a node, in their order, without those that have no parts (`Load`, `Pass`).

    They are half of all nodes; without them, and without a generator, a tree is read three times as fast.
    """
    found: list[ast.AST] = []
    for name in node._fields:
        part = getattr(node, name, None)
        if isinstance(part, ast.AST):
            if part._fields:
                found.append(part)
        elif isinstance(part, list):
            found += [each for each in part if isinstance(each, ast.AST) and each._fields]
    return found


def find_places(tree: ast.Module) -> list[Found]:
    """Return what may be constants, in the order of the program: their values are still to be read."""
    program = _Program(tree)
    found = [*program.names(), *program.fields(), *program.entries(), *program.options()]
    counts = Counter(name for name, _ in found)
    once = [(name, node) for name, node in found if counts[name] == 1]
    return sorted(once, key=lambda pair: (pair[1].lineno, pair[1].col_offset))


class _Program:
    """The parts of a program that set things, found in one pass."""

    def __init__(self, tree: ast.Module) -> None:
        self._top = _top_level(tree)
        self._bindings = _count_bindings(tree)
        self._reads: set[str] = set()  # names of the module, in functions too where they bind no such name
        self._classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        self._calls: list[ast.Call] = []
        self._set = Counter[str]()  # attributes that are assigned to, but by a class to its own instance
        self._own: dict[str, set[str]] = {}  # the attributes of their own that a class's methods assign
        self._items: set[str] = set()  # names of what has its items changed
        waiting: list[tuple[ast.AST, str, frozenset[str]]] = [(tree, "", frozenset())]
        while waiting:
            node, owner, local = waiting.pop()
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load) and node.id not in local:
                    self._reads.add(node.id)
                continue
            if isinstance(node, ast.Call):
                self._calls.append(node)
                self._note_call(node)
                if called(node) == "print":
                    continue  # what is only printed is not read
            elif isinstance(node, FUNCTIONS):
                local |= _locals(node)
            elif isinstance(node, ast.ClassDef):
                owner = node.name
            elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
                self._note_change(node, owner)
            waiting += [(child, owner, local) for child in children(node)]

    def _note_change(self, target: ast.Attribute | ast.Subscript, owner: str) -> None:
        if isinstance(target, ast.Subscript):
            self._items.add(_root(target))
        elif isinstance(target.value, ast.Name) and target.value.id == "self":
            self._own.setdefault(owner, set()).add(target.attr)
        else:
            self._set[target.attr] += 1

    def _note_call(self, call: ast.Call) -> None:
        match call.func:
            case ast.Name(id="setattr") if len(call.args) > 1:
                name = call.args[1]
                self._set[str(name.value) if isinstance(name, ast.Constant) else ""] += 1
            case ast.Attribute(value=value, attr=method) if method in _CHANGES:
                self._items.add(_root(value))
        if called(call) in _REPLACES:
            self._set.update(word.arg for word in call.keywords if word.arg)

    def names(self) -> Iterator[Found]:
        """Yield `NAME = value`. Of small names only those that the module reads: others are left-overs."""
        for name, value, guarded in self._assigned():
            is_upper = name == name.upper() and not guarded
            if self._bindings[name] == 1 and (is_upper or name in self._reads):
                yield name, value

    def _assigned(self) -> Iterator[tuple[str, ast.expr, bool]]:
        for statement, guarded in self._top:
            for name, value in assignment(statement):
                if _NAME.fullmatch(name):
                    yield name, value, guarded

    def fields(self) -> Iterator[Found]:
        for node in self._classes:
            if self._bindings[node.name] or node.name not in self._reads or not _holds_settings(node):
                continue
            fields = [pair for statement in node.body for pair in assignment(statement)]
            bound = Counter(name for name, _ in fields)
            given = self._given(node)
            own = self._own.get(node.name, set())
            for name, value in fields:
                if given is None or name in given or name in own or self._set[name] or bound[name] > 1:
                    continue
                default = default_of(value)
                if default is not None and not name.startswith("_"):
                    yield f"{node.name}.{name}", default

    def _given(self, node: ast.ClassDef) -> set[str] | None:
        """Return the fields that calls of the class set; None where that cannot be known."""
        order = fields_of(node)
        given: set[str] = set()
        for call in self._calls:
            if called(call) == node.name:
                starred = any(isinstance(each, ast.Starred) for each in call.args)
                if starred or any(word.arg is None for word in call.keywords):
                    return None
                given |= {*order[: len(call.args)], *(word.arg for word in call.keywords if word.arg)}
        return given

    def entries(self) -> Iterator[Found]:
        for name, value, _ in self._assigned():
            if _SETTINGS.match(name) and self._bindings[name] == 1 and name not in self._items:
                yield from _entries(name, value)

    def options(self) -> Iterator[Found]:
        for call in self._calls:
            if called(call) not in ("add_argument", "add_arg"):
                continue
            flags = [each.value for each in call.args if isinstance(each, ast.Constant)]
            named = [flag for flag in flags if isinstance(flag, str) and flag.startswith("-")]
            default = keyword(call, "default")
            if named and default is not None and keyword(call, "choices") is None:
                flag = next((flag for flag in named if flag.startswith("--")), named[0])
                if not self._set[destination(flag, call)]:
                    yield flag, default


def fields_of(node: ast.ClassDef) -> list[str]:
    """Return the names that calls of a data class give by their order."""
    targets = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def destination(flag: str, call: ast.Call) -> str:
    """Return the attribute that holds the value of an option."""
    match keyword(call, "dest"):
        case ast.Constant(value=str(name)):
            return name
    return flag.lstrip("-").replace("-", "_")


def _top_level(tree: ast.Module) -> list[tuple[ast.stmt, bool]]:
    """Return the statements that run when the program does, and whether only when it is started itself."""
    found: list[tuple[ast.stmt, bool]] = []
    for statement in tree.body:
        found.append((statement, False))
        match statement:
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]), body=body):
                found += [(inner, True) for inner in body]
    return found


def assignment(statement: ast.stmt) -> list[Found]:
    """Return the one name that a plain assignment sets, none for any other statement."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            return [(name, value)]
    return []


def _holds_settings(node: ast.ClassDef) -> bool:
    decorators = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    if "dataclass" in map(_last_name, decorators):
        return True
    bases = [_last_name(base) for base in node.bases]
    return any(base in _RECORDS for base in bases) or (not bases and bool(_SETTINGS_CLASS.search(node.name)))


def _entries(name: str, value: ast.expr) -> Iterator[Found]:
    pairs: list[tuple[object, ast.expr]] = []
    match value:
        case ast.Dict(keys=keys, values=values):
            texts = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            pairs = list(zip(texts, values, strict=True))
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
            pairs = [(word.arg, word.value) for word in words]
        case _:
            return
    for key, inner in pairs:
        if isinstance(key, str) and _NAME.fullmatch(key):
            yield f"{name}.{key}", inner
            yield from _entries(f"{name}.{key}", inner)


def default_of(value: ast.expr) -> ast.expr | None:
    """Return the default of a field, which may stand in `field(default=…)`."""
    return keyword(value, "default") if called(value) == "field" else value


def keyword(call: ast.expr, name: str) -> ast.expr | None:
    words = call.keywords if isinstance(call, ast.Call) else []
    return next((word.value for word in words if word.arg == name), None)


def called(node: ast.expr) -> str:
    return _last_name(node.func) if isinstance(node, ast.Call) else ""


def dotted(node: ast.expr) -> str:
    """Return a name with its dots as it is written; the beginning is left out where it is none."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
    return ""


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _count_bindings(tree: ast.Module) -> Counter[str]:
    """Count how often each name is bound or deleted by the module's own code; a `global` counts as one."""
    counts: Counter[str] = Counter()
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, outside = waiting.pop()
        if isinstance(node, ast.Global):
            counts.update(node.names)
        elif isinstance(node, ast.Name):
            counts[node.id] += outside and not isinstance(node.ctx, ast.Load)
        elif outside or not isinstance(node, ast.expr):  # within an expression there is no `global`
            if outside and isinstance(node, _SCOPES):
                outside = False
            waiting += [(child, outside) for child in children(node)]
    return counts


def _locals(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = {each.arg for each in parameters if each is not None}
    shared: set[str] = set()
    body = function.body if isinstance(function.body, list) else [function.body]
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            shared.update(node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif not isinstance(node, _SCOPES):
            waiting += children(node)
    return names - shared
