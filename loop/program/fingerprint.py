"""What is equal for equal programs.

Two programs are equal if they do the same but for chance: comments, layout, docstrings, parentheses and the
way a number is written (`0.60`, `2**19`) do not count, and neither do seeds, because a lucky number is no
finding. Names do count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache

from loop.errors import UserError
from loop.program.constants import LARGEST_BITS, evaluate, parse
from loop.program.seed import is_seed, is_seed_option, is_seeder, says_seed


@lru_cache(maxsize=8)  # of one program it is asked several times
def fingerprint(source: str) -> str:
    """Return what is equal for equal programs. What is no Python has one too: that of its text."""
    try:
        text = "\n".join(_written(_Normal().visit(parse(source))))
    except (UserError, RecursionError):
        text = source
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class _Normal(ast.NodeTransformer):
    """Takes out of a tree what makes no difference: docstrings, seeds, how a number is written."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        bare = isinstance(node.value, ast.Constant) or is_seeder(node.value)
        return None if bare else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        """Drop it: a body that holds only this is as good as an empty one."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Forget the `u` of a string; write as text what Python would refuse to write as a number."""
        value = node.value
        if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
            return ast.Constant(hex(value))
        return ast.Constant(value)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Leave it: it has no parts to look into."""
        return node

    def visit_BinOp(self, node: ast.BinOp | ast.UnaryOp) -> ast.AST:
        return _folded(self.generic_visit(node))

    visit_UnaryOp = visit_BinOp  # noqa: N815 - the name that `ast` calls

    def visit_Assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> ast.AST:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(map(is_seed, targets)) and not isinstance(node.value, ast.Lambda | None):
            node.value = _ANY
        return self.generic_visit(node)

    visit_AnnAssign = visit_AugAssign = visit_Assign  # noqa: N815 - likewise

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return ast.keyword(node.arg, _ANY) if says_seed(node.arg) else self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        plain = [*node.posonlyargs, *node.args]
        late = plain[len(plain) - len(node.defaults) :]
        pairs = zip(late, node.defaults, strict=True)
        node.defaults = [_ANY if says_seed(name.arg) else default for name, default in pairs]
        named = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        node.kw_defaults = [_ANY if default and says_seed(name.arg) else default for name, default in named]
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        pairs = zip(node.keys, node.values, strict=True)
        node.values = [_ANY if is_seed(key) else value for key, value in pairs]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if is_seeder(node):
            node.args, node.keywords = [], []
        if is_seed_option(node):
            node.keywords = [
                ast.keyword(word.arg, _ANY) if word.arg == "default" else word for word in node.keywords
            ]
        return self.generic_visit(node)


_ANY = ast.Constant("any seed")


def _folded(node: ast.AST) -> ast.AST:
    parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
    if isinstance(node, ast.expr) and all(isinstance(part, ast.Constant) for part in parts):
        value = evaluate(node)
        return ast.Constant(value) if isinstance(value, int | float) else node
    return node


def _written(tree: ast.AST) -> Iterator[str]:
    """Yield a tree as text that no version of Python writes differently: what is empty is left out."""
    waiting: list[object] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, ast.AST):
            yield f"({type(node).__name__}"
            waiting.append(")")
            for name in reversed(node._fields):
                value = getattr(node, name, None)
                if name == "value" and isinstance(node, ast.Constant):
                    waiting.append(repr(value))
                elif value is not None and value != []:
                    waiting += [value, f".{name}"]
        elif isinstance(node, list):
            yield "["
            waiting.append("]")
            waiting += reversed(node)
        else:
            yield str(node)
