"""Which names a statement of a notebook reads, binds and changes: what the flow of records between cells rests on."""

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass
class Names:
    """Names of the notebook that a statement uses, comprehensions and bodies of loops included.

    `loads` are read before the statement itself has surely bound them; `binds` are bound, and `imports` are those bound
    to modules or what stands in them; `changes` are the objects changed in place (`rows.append(...)`, `rows[0] = ...`,
    `rows += ...`); `parts` says of which names a bound name may hold a part (`row` of `rows[-1]`). `functions` holds
    the names of each function defined, which are looked up when it is called.
    """

    loads: set[str] = field(default_factory=set)
    binds: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    parts: dict[str, set[str]] = field(default_factory=dict)
    functions: dict[str, "Names"] = field(default_factory=dict)


def of(statement: ast.stmt) -> Names:
    """Return the names of a top-level statement."""
    scan = _Scan()
    scan.visit(statement)
    return scan.names


class _Scan(ast.NodeVisitor):
    """Visits a statement in the order in which it runs; `local` names belong to an enclosing function."""

    def __init__(self, local: frozenset[str] = frozenset()) -> None:
        self.names = Names()
        self.local = local
        self.bound: set[str] = set()  # surely, so far

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.local:
            return
        if isinstance(node.ctx, ast.Load):
            self.names.loads |= {node.id} - self.bound
        else:
            self._bind(node.id)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in (alias.asname or alias.name.partition(".")[0] for alias in node.names):
            self._bind(name)
            self.names.imports.add(name)

    visit_ImportFrom = visit_Import

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._target(target, _chain(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)
            self._target(node.target, _chain(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._target(node.target, _chain(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._change(node.target)
        if isinstance(node.target, ast.Name):  # `rows += ...` reads the name as well
            self.visit(ast.Name(node.target.id, ast.Load()))

    def visit_Expr(self, node: ast.Expr) -> None:
        """Take a call whose value is dropped, `print` aside, for one that changes its object and its first argument."""
        self.visit(node.value)
        if isinstance(node.value, ast.Call) and _chain(node.value.func) != {"print"}:
            self._change(node.value.func)
            if node.value.args:
                self._change(node.value.args[0])

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        with self._perhaps():
            self._target(node.target, _loaded(node.iter))
            self._all(node.body)
        with self._perhaps():
            self._all(node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        with self._perhaps():
            self._all(node.body)
        with self._perhaps():
            self._all(node.orelse)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        bound = []
        for branch in (node.body, node.orelse):
            with self._perhaps():
                self._all(branch)
                bound.append(set(self.bound))
        self.bound |= bound[0] & bound[1]

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars:
                self._target(item.optional_vars, _loaded(item.context_expr))
        self._all(node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        for part in (node.body, *(handler.body for handler in node.handlers), node.orelse):
            with self._perhaps():
                self._all(part)
        self._all(node.finalbody)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._all([*node.decorator_list, *_defaults(node.args)])
        inner = self._inside(node.body, node.args)
        if self.local:  # a function within a function is read with it
            self._read(inner)
        else:
            self.names.functions[node.name] = inner
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._all(_defaults(node.args))
        self._read(self._inside([node.body], node.args))

    def visit_ListComp(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        self._read(self._inside([node], None))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._all([*node.decorator_list, *node.bases, *node.keywords])
        for one in node.body:
            inner = _Scan(self.local | {node.name})
            inner.visit(one)
            self._read(inner.names)
            for method in inner.names.functions.values():
                self._read(method)
        self._bind(node.name)

    def _inside(self, body: Sequence[ast.AST], arguments: ast.arguments | None) -> Names:
        """Names of the notebook that a scope of its own uses: all but those that it binds itself."""
        nodes = [one for part in body for one in ast.walk(part)]
        own = {one.id for one in nodes if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}
        own |= {one.arg for one in ast.walk(arguments) if isinstance(one, ast.arg)} if arguments else set()
        own -= {name for one in nodes if isinstance(one, ast.Global) for name in one.names}
        inner = _Scan(self.local | own | {""})  # never empty: this is a scope inside another
        for part in body:
            inner.generic_visit(part) if isinstance(part, Comprehension) else inner.visit(part)
        return inner.names

    def _read(self, inner: Names) -> None:
        self.names.loads |= inner.loads - self.bound - self.local
        self.names.changes |= inner.changes - self.local
        for name in inner.binds - self.local:  # `global name`
            self.names.binds.add(name)

    def _all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _target(self, target: ast.expr, sources: set[str]) -> None:
        """Bind a target that may hold a part of `sources`; the names of one tuple may be parts of each other."""
        match target:
            case ast.Subscript() | ast.Attribute():
                self._change(target)
                self.generic_visit(target)
            case _:
                self.visit(target)
                together = {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
                for name in together - self.local:
                    self.names.parts[name] = (sources | together) - {name} - self.local

    def _bind(self, name: str) -> None:
        if name not in self.local:
            self.names.binds.add(name)
            self.bound.add(name)

    def _change(self, node: ast.expr) -> None:
        self.names.changes |= _chain(node, calls=True) - self.local

    @contextmanager
    def _perhaps(self) -> Iterator[None]:
        """What is bound here may be left out when the statement runs."""
        before = set(self.bound)
        yield
        self.bound = before


def _chain(node: ast.AST, calls: bool = False) -> set[str]:
    """Name at the root of `rows[-1].cells`, with `calls` also of `runs.setdefault(...).append`; empty for the rest."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)) or (calls and isinstance(node, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _loaded(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [one for one in (*arguments.defaults, *arguments.kw_defaults) if one is not None]
