"""Questions about a syntax tree that need no other module: what it binds, changes, imports, and what is silent."""

import ast
from collections.abc import Iterator
from typing import Any

from lib.statements.names import Binding, Module, Target

COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar)


def is_silent(node: Any) -> bool:
    """Tell whether a statement has no effect at run time: a docstring, or an import that serves annotations."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.ImportFrom(module="typing" | "collections.abc" | "__future__", level=0):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False


def is_main(node: ast.stmt) -> bool:
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def bare(node: ast.expr) -> ast.expr:
    """Return what is subscripted: `Registry` of `Registry[Row]`."""
    return node.value if isinstance(node, ast.Subscript) else node


def imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Binding]]:
    """Names that an import binds in a module of `package`, and what they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (
                alias.asname or alias.name.split(".")[0],
                Module(alias.name if alias.asname else alias.name.split(".")[0]),
            )
        return
    above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        yield alias.asname or alias.name, Target(base, alias.name)


def targets(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from targets(part)
    elif isinstance(node, ast.Starred):
        yield from targets(node.value)


def defines(node: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign():
            for target in node.targets:
                yield from targets(target)
        case ast.AnnAssign():
            yield from targets(node.target)
        case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try() | ast.TryStar():
            yield from bound([node], "")


def changes(node: ast.stmt) -> str | None:
    """Name of what a top-level statement changes: `TABLE |= ...`, `TABLE[key] = ...`, `TABLE.update(...)`."""
    match node:
        case ast.AugAssign(target=target):
            pass
        case ast.Assign(targets=[(ast.Subscript() | ast.Attribute()) as target]):
            pass
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=target))):
            pass
        case ast.FunctionDef(
            decorator_list=[ast.Attribute(value=target)] | [ast.Call(func=ast.Attribute(value=target))]
        ):
            pass
        case _:
            return None
    while isinstance(target, (ast.Subscript, ast.Attribute)):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None


def arguments(arguments: ast.arguments) -> list[ast.arg]:
    rest = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def stored(node: ast.AST) -> dict[str, Binding | None]:
    return {one.id: None for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def bound(body: list[Any], package: str) -> dict[str, Binding | None]:
    """Names that a function's body binds, and what its own imports stand for; nested functions have their own."""
    found: dict[str, Binding | None] = {}
    foreign: set[str] = set()
    pending = list(body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = None
                continue
            case ast.Lambda():
                continue
            case ast.Import() | ast.ImportFrom():
                found |= dict(imported(node, package))
                continue
            case ast.Global() | ast.Nonlocal():
                foreign |= set(node.names)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                found.setdefault(node.id, None)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found[name] = None
            case ast.MatchMapping(rest=str(name)):
                found[name] = None
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pending += [one for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
                continue
        pending.extend(ast.iter_child_nodes(node))
    return {name: binding for name, binding in found.items() if name not in foreign}
