"""Fingerprints of the code and the config behind a number: a record is current while they stay the same."""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

# The package this process runs, which may be a modified copy beside the real data.
PACKAGE = Path(__file__).resolve().parent

# Modules that store, name or announce numbers and cannot change one. Profiles reach a case only through its config.
PLUMBING = frozenset(
    f"lib.{name}"
    for name in (
        *("paths", "files", "errors", "progress", "profiles", "sizes", "environment"),
        *("fingerprints", "records", "record_files", "case_cache", "cases"),
    )
)

# Fields without effect at run time, and those that only some of Python 3.11 to 3.13 have.
SILENT_FIELDS = frozenset({"annotation", "returns", "type_comment", "type_params"})

# What this process had on disk when it began, to notice modules edited under its feet.
AT_START = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.is_file()}


def code_fingerprint(modules: Sequence[str]) -> str:
    """SHA-256 of all code that `modules` reach inside `lib`, comments, docstrings, annotations and layout aside.

    Imports are followed as written, also inside functions; `importlib.import_module` is not seen. Our choice: the grain
    is a module. Raises `UserError` for an entry module that does not exist or a file that does not parse.
    """
    lines = [f"{name} {_analysed(name)[0]}" for name in reached(modules)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reached(modules: Sequence[str]) -> list[str]:
    """Sorted names of the modules inside `lib`, plumbing aside, that `modules` import directly or through others."""
    for name in modules:
        if _file(name) is None:
            raise UserError(f"{name}: no such module in {PACKAGE.name}/: correct the `code` of the case")
    found: set[str] = set()
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in found or name in PLUMBING:
            continue
        parent = name.rpartition(".")[0]
        if parent:
            pending.append(parent)  # importing a module runs the __init__ of every package above it
        if _file(name) is not None:  # else an attribute of a module: `from lib.schedule import abar`
            found.add(name)
            pending.extend(_analysed(name)[1])
    return sorted(found)


def changed_since_start(modules: Sequence[str]) -> list[str]:
    """Reached modules whose code on disk is no longer the code this process started with."""
    changed = []
    for name in reached(modules):
        path = _file(name)
        before = AT_START.get(path)
        if before is not None and _analyse(name, path, before) != _analysed(name):
            changed.append(name)
    return changed


def plain(config: "BaseModel | Mapping[str, Any]") -> dict[str, Any]:
    """Return a pydantic model or a mapping as a dictionary of JSON values."""
    return dict(config) if isinstance(config, Mapping) else config.model_dump(mode="json")


def config_fingerprint(config: "BaseModel | Mapping[str, Any]") -> str:
    """SHA-256 of a config as canonical JSON: sorted keys, floats by `repr`; `ValueError` for NaN or infinity."""
    text = json.dumps(plain(config), sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _file(name: str) -> Path | None:
    """Source file of a module inside the package, or None if there is no such module."""
    root, *parts = name.split(".")
    if root != "lib":
        return None
    path = PACKAGE.joinpath(*parts)
    candidates = [path / "__init__.py", path.with_suffix(".py")] if parts else [path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _analysed(name: str) -> tuple[str, tuple[str, ...]]:
    path = _file(name)
    return _analyse(name, path, path.read_text(encoding="utf-8"))


@lru_cache(maxsize=1024)
def _analyse(name: str, path: Path, source: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's code and the names it imports from `lib` (some of which may be attributes)."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        place = path.relative_to(PACKAGE.parent).as_posix()
        raise UserError(f"{place}, line {error.lineno}: {error.msg}: mend the syntax") from error
    digest = hashlib.sha256(json.dumps(canonical(tree)).encode()).hexdigest()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported = {found for found in _imports(tree, package) if found.split(".")[0] == "lib"}
    return digest, tuple(sorted(imported))


def canonical(node: Any) -> Any:
    """Return a syntax tree as nested lists of strings, the same on every supported Python."""
    match node:
        case list():
            return [canonical(item) for item in node if not _is_silent(item)]
        case ast.AnnAssign(value=None):
            return ["field", canonical(node.target)]
        case ast.AnnAssign():
            return canonical(ast.Assign(targets=[node.target], value=node.value))
        case ast.Constant():
            return ["Constant", type(node.value).__name__, ascii(node.value)]
        case ast.JoinedStr():
            return ["JoinedStr", *_fused(node.values)]
        case ast.AST():
            fields = sorted(set(node._fields) - SILENT_FIELDS)
            return [type(node).__name__, *([field, canonical(getattr(node, field, None))] for field in fields)]
    return node


def _fused(parts: list[ast.expr]) -> list[Any]:
    """Parts of an f-string, its literal pieces joined: where they are cut depends on the version of Python."""
    fused: list[Any] = []
    for part in parts:
        if not isinstance(part, ast.Constant):
            fused.append(canonical(part))
        elif fused and isinstance(fused[-1], str):
            fused[-1] += part.value
        elif part.value:
            fused.append(part.value)
    return fused


def _is_silent(node: Any) -> bool:
    """Whether a statement has no effect at run time: a docstring, or an import that serves annotations."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.ImportFrom(module="typing" | "collections.abc" | "__future__", level=0):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
    return False


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names that a module of `package` imports anywhere; of `from a import b` both `a` and `a.b`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if _is_silent(node):
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
