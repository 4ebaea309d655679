"""Which images and schemas a function gives to ``Cr``, from its source.

The function is looked up in the syntax tree of its file and read, never run.
An argument counts as far as it can be known without running: literals, what
local variables, defaults of parameters, the closure, the module's constants
and attributes of modules and classes hold, f-strings and ``+`` of those, and
both sides of ``a if c else b``. The rest is left out, and all of it where there
is no source (a shell, ``exec``).
"""

import ast
import inspect
import linecache
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, product
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

__all__ = ["what_is_run"]

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_LIMIT = 64  # of values that one expression is followed to


def what_is_run(func: Callable[..., object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return images and schemas, each once, in order of appearance."""
    func = inspect.unwrap(func)
    if not isinstance(func, FunctionType):
        return (), ()
    module = _module_of(func)
    node = module.find(func.__code__)
    if node is None:
        return (), ()
    scan = _Scan(func, module, node)
    for statement in node.body:
        scan.visit(statement)
    return tuple(scan.images), tuple(scan.schemas)


class _Module:
    """A parsed file: what it calls Cr, and what it assigns at its top level."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        try:
            self.tree = ast.parse("".join(lines))
        except (SyntaxError, ValueError):  # edited since it was compiled
            self.tree = ast.Module([], [])
        self.names_of_cr = {"Cr"}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "levrt":
                self.names_of_cr.update(
                    alias.asname
                    for alias in node.names
                    if alias.name == "Cr" and alias.asname
                )
        self.assigned = _assigned(self.tree.body)

    def find(self, code: CodeType) -> _Function | None:
        for node in ast.walk(self.tree):
            if isinstance(node, _Function) and node.name == code.co_name:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first == code.co_firstlineno:
                    return node
        return None

    def is_cr(self, func: ast.expr) -> bool:
        if isinstance(func, ast.Name):
            return func.id in self.names_of_cr
        return isinstance(func, ast.Attribute) and func.attr == "Cr"


_last: _Module | None = None


def _module_of(func: FunctionType) -> _Module:
    """The functions of a file are decorated one by one: they share a parse."""
    global _last
    lines = linecache.getlines(func.__code__.co_filename, func.__globals__)
    # linecache gives the same list until the file or the cell is another.
    if _last is None or _last.lines is not lines or not lines:
        _last = _Module(lines)
    return _last


def _assigned(body: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """Names and the expressions that these statements assign to them."""
    found: dict[str, list[ast.expr]] = {}

    def add(target: ast.AST, *values: ast.expr) -> None:
        if isinstance(target, ast.Name):
            found.setdefault(target.id, []).extend(values)

    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                add(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value:
            add(node.target, node.value)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            items = node.iter
            if isinstance(items, (ast.List, ast.Tuple, ast.Set)):
                add(node.target, *items.elts)
            else:
                add(node.target)
    return found


def _defaults(args: ast.arguments) -> dict[str, list[ast.expr]]:
    """All parameters; those that have a default with it."""
    names = [*args.posonlyargs, *args.args]
    found: dict[str, list[ast.expr]] = {
        arg.arg: [] for arg in [*names, *args.kwonlyargs]
    }
    for arg, value in zip(reversed(names), reversed(args.defaults), strict=False):
        found[arg.arg].append(value)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if default is not None:
            found[arg.arg].append(default)
    return found


class _Scan(ast.NodeVisitor):
    """Collects what one function gives to Cr."""

    def __init__(self, func: FunctionType, module: _Module, node: _Function) -> None:
        self.images: dict[str, None] = {}
        self.schemas: dict[str, None] = {}
        self._module = module
        self._locals = _defaults(node.args)
        for name, values in _assigned(ast.walk(node)).items():
            self._locals.setdefault(name, []).extend(values)
        self._objects = {**func.__globals__, **_closure(func)}
        self._seen: set[str] = set()  # constants that were visited
        self._open: set[str] = set()  # names that are being followed

    def visit_Call(self, node: ast.Call) -> None:
        if self._module.is_cr(node.func):
            self._take(node, 0, "image", self.images)
            self._take(node, 1, "schema", self.schemas)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """A constant of the module may hold Crs: services, mostly."""
        if node.id in self._locals or node.id in self._seen:
            return
        self._seen.add(node.id)
        for value in self._module.assigned.get(node.id, ()):
            self.visit(value)

    def _take(
        self, call: ast.Call, index: int, name: str, into: dict[str, None]
    ) -> None:
        for value in self._values(_argument(call, index, name)):
            if isinstance(value, str) and value:
                into.setdefault(value)

    def _values(self, node: ast.expr | None) -> list[Any]:
        """What the expression may be, as far as it is known."""
        return list(islice(self._follow(node), _LIMIT))

    def _follow(self, node: ast.expr | None) -> Iterator[Any]:
        match node:
            case ast.Constant(value):
                yield value
            case ast.Name(name):
                yield from self._named(name)
            case ast.Attribute(base, name):
                yield from (_attribute(o, name) for o in self._values(base))
            case ast.Subscript(base, index):
                pairs = product(self._values(base), self._values(index))
                yield from (_item(o, key) for o, key in pairs)
            case ast.IfExp(_, yes, no):
                yield from self._values(yes) + self._values(no)
            case ast.BoolOp(_, operands):
                yield from chain.from_iterable(map(self._values, operands))
            case ast.NamedExpr(_, value):
                yield from self._follow(value)
            case ast.BinOp(left, ast.Add(), right):
                yield from self._joined([left, right])
            case ast.JoinedStr(parts):
                yield from self._joined(parts)
            case ast.Dict() | ast.List() | ast.Tuple() | ast.UnaryOp():
                yield from _literal(node)

    def _named(self, name: str) -> Iterator[Any]:
        if name in self._open:  # image = image or "…"
            return
        self._open.add(name)
        if name in self._locals:
            exprs = self._locals[name]
        elif name in self._objects:
            exprs = []
            yield self._objects[name]
        else:  # the module may assign it below the function
            exprs = self._module.assigned.get(name, [])
        yield from chain.from_iterable(map(self._values, exprs))
        self._open.discard(name)

    def _joined(self, parts: list[ast.expr]) -> Iterator[str]:
        for words in product(*map(self._part, parts)):
            yield "".join(words)

    def _part(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.FormattedValue):
            if node.conversion != -1 or node.format_spec is not None:
                return []
            return [str(v) for v in self._values(node.value) if type(v) in (str, int)]
        return [value for value in self._values(node) if isinstance(value, str)]


def _argument(call: ast.Call, index: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    before = call.args[: index + 1]
    if len(before) <= index or any(isinstance(a, ast.Starred) for a in before):
        return None
    return before[index]


def _closure(func: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(
        func.__code__.co_freevars, func.__closure__ or (), strict=True
    ):
        with suppress(ValueError):  # empty: assigned later
            found[name] = cell.cell_contents
    return found


def _attribute(owner: object, name: str) -> Any:
    """The attribute as it is stored: no code of the owner runs."""
    if isinstance(owner, ModuleType):
        return vars(owner).get(name)
    return inspect.getattr_static(owner, name, None)


def _item(owner: object, key: object) -> Any:
    if type(owner) is dict and isinstance(key, Hashable):
        return owner.get(key)
    if type(owner) in (list, tuple) and isinstance(key, int):
        items: Any = owner
        return items[key] if -len(items) <= key < len(items) else None
    return None


def _literal(node: ast.expr) -> Iterator[Any]:
    with suppress(ValueError, TypeError):  # not made of constants alone
        yield ast.literal_eval(node)
