"""Who imports whom below one package, read from the source without importing it.

Every form is seen: ``import a.b.c``, ``from a import b`` where b is a module or a name, relative and starred imports,
those in functions and under ``if TYPE_CHECKING``, and ``import_module("a.b")``. The graph is counted in two ways:
*file to file*, where a name taken from a package's face (its ``__init__.py``) is an import of the file that defines it;
and *through faces*, where it is an import of the face, which imports all that it names.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Import", "SourceTree", "circles"]

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Import:
    """One import of one file: the module that is named, and the `name` that is taken from it, if one is."""

    module: str
    name: str | None = None
    #: Named only at run time, below `module`: ``import_module(f"quire.cli.{verb}")``.
    open_ended: bool = False

    def __str__(self) -> str:
        return self.module if self.name is None else f"{self.name} from {self.module}"


class SourceTree:
    """All files below the folder of one package, by the dotted names of their modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder.name
        self.files = {self._module_of(path): path for path in sorted(folder.rglob("*.py"))}

    def _module_of(self, path: Path) -> str:
        parts = path.relative_to(self.folder.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def room_of(self, module: str) -> str:
        """Return the package or file directly below the whole that `module` is in; of its own face, its name."""
        parts = module.split(".")
        return parts[1] if len(parts) > 1 else parts[0]

    def is_face(self, module: str) -> bool:
        """Whether `module` is a package, so that its file is an ``__init__.py``."""
        return self.files[module].name == "__init__.py"

    @cached_property
    def imports(self) -> dict[str, list[Import]]:
        """The imports of each module, in the order of its text."""
        return {
            module: list(_imports(tree, module, self.is_face(module))) for module, tree in self._trees.items()
        }

    @cached_property
    def _trees(self) -> dict[str, ast.Module]:
        return {module: ast.parse(path.read_text()) for module, path in self.files.items()}

    @cached_property
    def file_to_file(self) -> Graph:
        """Who imports whom, a face's names being those of the files that define them."""
        return self._graph(through_faces=False)

    @cached_property
    def through_faces(self) -> Graph:
        """Who imports whom, a face being a file like any other."""
        return self._graph(through_faces=True)

    @cached_property
    def rooms(self) -> Graph:
        """Which rooms each room imports, in any form."""
        rooms: Graph = {self.room_of(module): set() for module in self.files}
        for module in self.files:
            rooms[self.room_of(module)] |= self.rooms_imported_by(module)
        return rooms

    def rooms_imported_by(self, module: str) -> set[str]:
        """Return the other rooms that one module imports."""
        targets = {
            target
            for one in self.imports[module]
            for target in self._named(one, through_faces=True, open_too=True)
        }
        return {self.room_of(target) for target in targets} - {self.room_of(module)}

    def _graph(self, *, through_faces: bool) -> Graph:
        return {
            module: {
                target
                for one in imports
                for target in self._named(one, through_faces=through_faces)
                if target != module
            }
            for module, imports in self.imports.items()
        }

    def _named(self, one: Import, *, through_faces: bool, open_too: bool = False) -> Iterator[str]:
        """Yield the modules of this tree that an import is an import of: none, if it is of another's."""
        if one.open_ended and not open_too:
            return
        module = self._longest_known(one.module)
        if module is None:
            return
        if one.name is None:
            yield module
        elif f"{module}.{one.name}" in self.files:
            yield f"{module}.{one.name}"
        else:
            yield module if through_faces else self._definer(module, one.name, {module})

    def _longest_known(self, module: str) -> str | None:
        while module and module not in self.files:
            module = module.rpartition(".")[0]
        return module or None

    def _definer(self, module: str, name: str, seen: set[str]) -> str:
        """Return the module that defines `name`, which `module` has: its own, or one whose name it passes on."""
        if not self.is_face(module) or _defines(self._trees[module], name):
            return module
        for source, taken in _bound(self._trees[module], module, name):
            inner = f"{source}.{taken}" if taken else source
            if inner in self.files:
                return inner
            if source in self.files and source not in seen:
                return self._definer(source, taken, seen | {source})
        for star in _starred(self._trees[module], module):
            if star in self.files and star not in seen:
                found = self._definer(star, name, seen | {star})
                if _defines(self._trees[found], name):
                    return found
        return module


def circles(graph: Graph, among: Iterable[str]) -> list[list[str]]:
    """Return the sets of modules, of those in `among`, that each reach each other: more than one module in each."""
    inside = set(among)
    order: list[str] = []
    seen: set[str] = set()
    for module in sorted(inside):
        _visit(module, graph, inside, seen, order)
    backwards: Graph = {module: set() for module in inside}
    for module in inside:
        for target in graph[module] & inside:
            backwards[target].add(module)
    found, seen = [], set()
    for module in reversed(order):
        if module not in seen:
            group: list[str] = []
            _visit(module, backwards, inside, seen, group)
            found.append(sorted(group))
    return sorted(group for group in found if len(group) > 1)


def _visit(start: str, graph: Graph, inside: set[str], seen: set[str], order: list[str]) -> None:
    """Append to `order` all modules not yet seen that `start` reaches, each after those that it reaches."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(sorted(graph[start] & inside)))]
    while stack:
        module, rest = stack[-1]
        following = next((one for one in rest if one not in seen), None)
        if following is None:
            order.append(module)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(sorted(graph[following] & inside))))


def _imports(tree: ast.AST, module: str, face: bool) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, face)
            yield from (Import(source, name.name) for name in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield from _imported_by_call(node)


def _absolute(node: ast.ImportFrom, module: str, face: bool) -> str:
    """Return the module that a `from` statement names, its dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + face]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    called = node.func
    return (
        called.attr
        if isinstance(called, ast.Attribute)
        else called.id
        if isinstance(called, ast.Name)
        else ""
    )


def _imported_by_call(node: ast.Call) -> Iterator[Import]:
    match node.args[:1]:
        case [ast.Constant(value=str(name))]:
            yield Import(name)
        case [ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_])]:
            yield Import(begin.rpartition(".")[0], open_ended=True)


def _defines(tree: ast.Module, name: str) -> bool:
    """Whether a module makes `name` itself: a function, a class, or a value."""
    return any(
        node.name == name
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        else isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(tree)
    )


def _bound(tree: ast.Module, module: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name there, or nothing for the whole) of each import of a face that binds `name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, face=True)
            yield from ((source, one.name) for one in node.names if (one.asname or one.name) == name)
        elif isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names if one.asname == name)


def _starred(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the modules that a face takes every name of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names):
            yield _absolute(node, module, face=True)
