"""What stands in a program that may make its number false, found before it costs any GPU time.

The guard reads and runs nothing. It flags, and the evaluator decides. Refused are only a program that is no
Python, one that was trained before and, with GUARD=strict, each one that is flagged.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from loop.errors import UserError
from loop.evaluation.guard import rules, scoring
from loop.evaluation.guard.reading import Reading, prints
from loop.evaluation.guard.rules import found
from loop.evidence import Finding, Rule, Severity
from loop.program.constants import parse
from loop.program.fingerprint import fingerprint
from loop.program.names import Names, within


def refused(findings: Sequence[Finding], strict: bool) -> tuple[Finding, ...]:
    """Return the findings for which a program is not trained."""
    worst = (Severity.REFUSE, Severity.FLAG) if strict else (Severity.REFUSE,)
    return tuple(finding for finding in findings if finding.severity in worst)


def module_names(files: Collection[str]) -> tuple[str, ...]:
    """Return the names under which a program may import these files of its repository."""
    paths = [PurePosixPath(file).with_suffix("") for file in files if file.endswith(".py")]
    return tuple(dict.fromkeys(name for path in paths for name in (path.name, ".".join(path.parts))))


def examine(
    source: str,
    *,
    base: str = "",
    frozen: Collection[str] = ("prepare",),
    metric: str = "val_bpb",
    earlier: Callable[[str], str | None] | None = None,
) -> tuple[Finding, ...]:
    """Return what is found in a program, by line.

    `base` is the program that people began with: what it does itself is not reported. `frozen` are the names
    of the modules that no experiment changes. `earlier` returns which program with this fingerprint there was
    before, such as "experiment #3 (discard)".
    """
    try:
        program = _read(source, frozen, metric)
    except UserError as error:
        line = getattr(error.__cause__, "lineno", None) or 1
        return (Finding(Rule.SYNTAX, line, str(error), Severity.REFUSE),)
    given, known = _read_base(base, tuple(frozen), metric)
    findings = {each: None for each in _findings(program, given) if program.key(each) not in known}
    if earlier and (before := earlier(fingerprint(source))):
        message = f"Same program as {before}, apart from layout, comments and seeds."
        findings[Finding(Rule.REPEATED, 1, message, Severity.REFUSE)] = None
    return tuple(sorted(findings, key=lambda finding: finding.line))


@lru_cache(maxsize=4)
def _read_base(base: str, frozen: tuple[str, ...], metric: str) -> tuple[Reading | None, frozenset[object]]:
    """Return the base program, which is the same for a whole run, and what is found in it."""
    try:
        program = _read(base, frozen, metric) if base.strip() else None
    except UserError:
        program = None
    return program, frozenset(
        program.key(each) for each in _findings(program, program)
    ) if program else frozenset()


def _read(source: str, frozen: Collection[str], metric: str) -> Reading:
    tree = parse(source)
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(tree, "the program", "exec", dont_inherit=True)  # which finds more than the parser
    except SyntaxError as error:
        raise UserError(f"The program is not valid Python (line {error.lineno}): {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f"The program cannot be read as Python: {error or 'it is nested too deeply'}."
        ) from error
    return Reading(source, Names(tree, followed=frozen), tuple(frozen), metric)


def _findings(program: Reading, base: Reading | None) -> Iterator[Finding]:
    for look in (_reached, _attributes, _frozen, _replaced, _names, _setting, _files, _handlers):
        yield from look(program)
    for compare in (scoring.members, scoring.texts, scoring.evaluator, scoring.metric, scoring.time):
        yield from compare(program, base)


# What other modules are used for


def _reached(program: Reading) -> Iterator[Finding]:
    end = _last_call(program.names.tree)
    for node, path in program.uses:
        if node is end and path == "os._exit()":
            continue  # nothing comes after it
        for reach in rules.REACHES:
            if reached := reach.paths.match(path):
                yield found(reach.rule, node, f"{reached[0]} {reach.what}.", reach.severity)
                break


def _last_call(tree: ast.Module) -> ast.Call | None:
    """Return the call that a program ends with, also where only a script makes it."""
    statements: list[ast.stmt] = tree.body
    while statements:
        match statements[-1]:
            case ast.If(body=inner, orelse=[]):
                statements = inner
            case ast.Expr(value=ast.Call() as call):
                return call
            case _:
                return None
    return None


def _attributes(program: Reading) -> Iterator[Finding]:
    for node in program.names.nodes:
        match node:
            case ast.Attribute(attr=name):
                pass
            case ast.Call(func=ast.Name(id="getattr"), args=[_, wanted, *_]):
                name = program.names.text(wanted) or ""
            case ast.FunctionDef(name=name) if name in rules.METHODS:
                yield found(Rule.REPLACED, node, f"{name} comes between PyTorch and its callers.")
                continue
            case _:
                continue
        if rule := rules.ATTRIBUTES.get(name):
            yield found(rule, node, f".{name} reaches what was not given to it.")


def _frozen(program: Reading) -> Iterator[Finding]:
    """What is done to a frozen module: assigned to, bound anew, handed on as a whole."""
    for target, _ in program.names.assigned:
        if program.is_frozen(path := program.names.path(target)):
            yield found(Rule.FROZEN, target, f"{path} is changed, and it is fixed.")
    imported = {name for name, _, path in program.names.imports if program.is_frozen(path)}
    for name, place, _ in program.names.bound:
        if name in imported:
            yield found(Rule.FROZEN, place, f"{name} is imported from what is fixed, and bound anew.")
    theirs = imported.union(program.frozen)
    for name, place, path in program.names.imports:
        if name in theirs and not program.is_frozen(path):
            yield found(Rule.FROZEN, place, f"{name} is imported from {path}, not from what is fixed.")
    for node, path in program.uses:
        if path in program.frozen:
            yield found(
                Rule.FROZEN, node, f"{path} itself is handed on: what is done with it cannot be read."
            )


def _replaced(program: Reading) -> Iterator[Finding]:
    """What is assigned to another module: a setting is a literal, or stands in a place for settings."""
    names = program.names
    for target, value in names.assigned:
        path = names.path(target)
        plain = isinstance(value, ast.Constant) or rules.SETTINGS.search(path) or "(" in path
        if path and not plain and not program.is_frozen(path):
            yield found(Rule.REPLACED, target, f"{path} is replaced.")
    clock = {name for name, _, path in names.imports if within(path, "time")}
    for name, place, at_top in names.bound:
        if at_top and name in clock:
            yield found(Rule.TIME, place, f"{name} is imported from time, and bound anew.")
        elif at_top and name in rules.PRINTED:
            severity = Severity.NOTE if name == "print" else Severity.FLAG
            yield found(Rule.REPLACED, place, f"{name} is not Python's own.", severity)


def _names(program: Reading) -> Iterator[Finding]:
    """Names that are built at run time."""
    names = program.names
    for node, path in program.uses:
        owner, inner, _ = path.partition(".__dict__")
        if path in rules.REACHED_BY_TEXT:
            yield found(Rule.NAMES, node, f"{path} itself is handed on: what is done with it cannot be read.")
        elif inner:
            yield found(Rule.NAMES, node, f"{owner} is reached by the text of names.")
    for node in names.nodes:
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[owner_node, name, *_]) if (
                names.text(name) is None
            ):
                path = names.path(owner_node)
                severe = program.is_frozen(path) or path in rules.REACHED_BY_TEXT
                message = f"getattr({path or '…'}) with a name that is built at run time."
                yield found(Rule.NAMES, node, message, Severity.FLAG if severe else Severity.NOTE)
            case ast.Call(func=ast.Name(id="vars"), args=[module]) if path := names.path(module):
                yield found(Rule.NAMES, node, f"{path} is reached by the text of names.")


def _setting(program: Reading) -> Iterator[Finding]:
    """Attributes that are set by their text."""
    names = program.names
    for node in names.nodes:
        match node:
            case ast.Call(func=ast.Name(id="setattr" | "delattr" as does), args=[owner, name, *_]):
                path = names.path(owner)
                if program.is_frozen(path):
                    yield found(Rule.FROZEN, node, f"{does} changes {path}, and it is fixed.")
                elif path and "(" not in path and not rules.SETTINGS.search(path):
                    yield found(Rule.REPLACED, node, f"{does} changes {path}.")
                elif names.text(name) is None and not _is_self(owner):
                    yield found(
                        Rule.NAMES, node, f"{does} with a name that is built at run time.", Severity.NOTE
                    )
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="object"), attr="__setattr__"), args=[owner, *_]
            ):
                if not _is_self(owner):
                    yield found(Rule.NAMES, node, "object.__setattr__ changes what is meant to be fixed.")


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


# Files, and what runs at the end


def _files(program: Reading) -> Iterator[Finding]:
    names = program.names
    for node in names.nodes:
        if not isinstance(node, ast.Call):
            continue
        path = names.path(node.func)
        method = node.func if isinstance(node.func, ast.Attribute) else None
        places: Sequence[ast.expr]
        if rules.READERS.fullmatch(path):
            places, writes = node.args[:1], _opens_to_write(node.args[1:2], node)
        elif rules.WRITERS.fullmatch(path):
            first, last = {"numpy": (0, 1), "torch": (1, 2)}.get(path.partition(".")[0], (0, 2))
            places, writes = node.args[first:last], True
        elif method and method.attr in (*rules.READS, *rules.WRITES):
            places, writes = [method.value], method.attr in rules.WRITES
        elif method and method.attr == "open":
            places, writes = [method.value], _opens_to_write(node.args[:1], node)
        else:
            continue
        for place in places:
            if finding := _place(node, names.beginning(place), writes=writes):
                yield finding


def _opens_to_write(mode: Sequence[ast.expr], call: ast.Call) -> bool:
    modes = [*mode, *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return len(texts) < len(modes) or any(set("wax+") & set(text) for text in texts)


def _place(call: ast.Call, place: str | None, *, writes: bool) -> Finding | None:
    """Judge where a file is, by how its path begins."""
    does = "writes" if writes else "reads"
    if place is None:
        return found(Rule.FILES, call, f"It {does} a file whose path is built at run time.", Severity.NOTE)
    if place == "__file__" and not writes:
        return found(Rule.FILES, call, "It reads its own file.", Severity.NOTE)
    if place == "__file__" or place.endswith((".py", ".pyc", ".pth", ".so")):
        return found(Rule.FILES, call, f"It {does} programs ({place[:40]}).")
    if place.startswith("module:"):
        return found(Rule.FILES, call, f"It {does} files of {place.removeprefix('module:')}.")
    if place.startswith(("/", "~", "..")):
        return found(Rule.FILES, call, f"It {does} files outside of its folder ({place[:40]}).")
    return None


def _handlers(program: Reading) -> Iterator[Finding]:
    """What runs later, at the end perhaps: flagged if it prints."""
    for node in program.names.nodes:
        match node:
            case ast.Call(func=func, args=given) if rules.HANDLERS.match(path := program.names.path(func)):
                prints_then = any(_may_print(program, each) for each in given)
                what, severity = ("prints", Severity.FLAG) if prints_then else ("runs", Severity.NOTE)
                yield found(Rule.EXIT, node, f"What {path} is given {what} later.", severity)
            case ast.FunctionDef(name="__del__") if prints(node):
                yield found(Rule.EXIT, node, "__del__ prints later.")


def _may_print(program: Reading, node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in program.printers or name == "print"
        case ast.Lambda():
            return prints(node)
    return False
