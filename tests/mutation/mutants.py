"""Mutants of a module: one small change each to a comparison, an operator, a mask or a number."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATOR: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# A field name becomes its neighbour: the mask of another bit.
_FIELDS = (
    ("P", "RW", "US", "A", "D", "XD", "G", "PS"),
    ("R", "W", "X", "XU", "SSS", "SPP", "suppress_VE", "MT"),
    ("gla_valid", "final", "shadow_stack", "sss_leaf", "verify_paging", "user", "writable", "xd"),
    ("verify_guest_paging", "paging_write"),
)
_NEXT = {name: names[(n + 1) % len(names)] for names in _FIELDS for n, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module: where, and what was changed into what. `name` outlives other edits."""

    line: int
    name: str
    source: str
    site: int

    @property
    def tree(self) -> ast.Module:
        """Its code."""
        changed = ast.parse(self.source)
        _mutate(next(node for at, node in enumerate(_sites(changed)) if at == self.site))
        return ast.fix_missing_locations(changed)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of `source`, in the order of its lines. Decorators, annotations and ``__all__`` stay."""
    tree, lines = ast.parse(source), source.splitlines()
    for n, node in enumerate(_sites(tree)):
        changed = copy.deepcopy(node)
        _mutate(changed)
        line = getattr(node, "lineno", 1)
        name = f"{lines[line - 1].strip()} :: {ast.unparse(node)} -> {ast.unparse(changed)}"
        yield Mutant(line, name, source, n)


def _sites(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that can be changed, in a fixed order."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            continue
        for node in _walk(statement):
            if _can_mutate(node):
                yield node


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk below `node`, leaving out decorators, annotations and docstrings."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _can_mutate(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and type(node.ops[0]) in _COMPARE
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return type(node.op) in _OPERATOR
    if isinstance(node, ast.BoolOp):
        return True
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not | ast.Invert)
    if isinstance(node, ast.Constant):
        return type(node.value) is int or node.value in _NEXT
    return False


def _mutate(node: ast.AST) -> None:
    if isinstance(node, ast.Compare):
        node.ops = [_COMPARE[type(node.ops[0])]()]
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = _OPERATOR[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.Invert) else ast.Not()
        if isinstance(node.op, ast.Not):  # not x becomes bool(x): twice not
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Constant):
        node.value = _NEXT[node.value] if isinstance(node.value, str) else node.value ^ 1
