"""The source of the package, module by module: what each name stands for, and its statements.

A statement is a top-level function, class or assignment; a method or a pydantic field that is reached by its own name;
a row of a registry. Its digest sees everything that can change a number, and neither docstrings, annotations, layout,
import lines nor the names of modules and files: what a name stands for is looked up, across modules.
"""

import ast
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from lib.errors import UserError
from lib.statements.names import NAME, Binding, Class, External, Module, Registered, Statement, Target
from lib.statements.scanning import Scan
from lib.statements.syntax import COMPOUND, bare, changes, defines, imported, is_main, is_silent

REGISTRY = Target(f"{NAME}.registry", "Registry")


class Code:
    """The source of the package `lib` at one time, {module: text}; everything is analysed when it is asked for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._sources: dict[str, Source] = {}
        self.shorts: dict[Target, str] = {}  # by `Reach`, of what names stand for

    @classmethod
    def on_disk(cls, package: Path) -> "Code":
        """Read all modules below a folder that is this package."""
        found = {}
        for path in package.rglob("*.py"):
            parts = (NAME, *path.relative_to(package).with_suffix("").parts)
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
        return cls(found)

    def source(self, module: str) -> "Source":
        """Return a module's analysis; raises `UserError` for one that does not exist or does not parse."""
        if module not in self._sources:
            if module not in self.texts:
                raise UserError(f"{module}: no such module in lib/")
            self._sources[module] = Source(self, module, self.texts[module])
        return self._sources[module]

    def lookup(self, module: str, name: str) -> Binding | None:
        """Return what a module's attribute stands for, through all imports; None where the module has none such."""
        source = self.source(module)
        if name in source.definitions:
            return Target(module, name)
        if name in source.imports and source.imports[name] != Target(module, name):  # else a module of this package
            return self.bound(source.imports[name])
        return Module(f"{module}.{name}") if f"{module}.{name}" in self.texts else None

    def bound(self, binding: Binding) -> Binding:
        """Return what an import stands for: a module of the package, a definition in one, or something of a library."""
        match binding:
            case Target(module, name) if module in self.texts:
                return self.lookup(module, name) or External(f"{module}.{name}")
            case Target(module, name):
                return External(f"{module}.{name}")
            case Module(name) if name not in self.texts:
                return External(name)
        return binding

    def is_of(self, target: Target, ancestor: Binding) -> bool:
        """Tell whether a definition is a class below another one, or below anything of a library of that name."""
        for base in self.source(target.module).bases(target.name):
            if base == ancestor or (isinstance(base, Target) and self.is_of(base, ancestor)):
                return True
            if isinstance(base, External) and isinstance(ancestor, External):
                return base.name.split(".")[0] == ancestor.name.split(".")[0]
        return False

    def is_registry(self, target: Binding | None) -> bool:
        """Tell whether a name stands for a registry."""
        return isinstance(target, Target) and self.source(target.module).registers(target.name)


class Source:
    """One module: what its names stand for, and its statements."""

    def __init__(self, code: Code, name: str, text: str) -> None:
        self.code, self.name = code, name
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise UserError(f"{name}, line {error.lineno}: {error.msg}: mend the syntax") from error
        self.package = name if any(other.startswith(f"{name}.") for other in code.texts) else name.rpartition(".")[0]
        self.imports: dict[str, Binding] = {}
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.side_nodes: list[ast.stmt] = []
        self._found: dict[str, Class | Registered | list[Statement]] = {}
        nodes = [node for node in tree.body if not is_silent(node) and not is_main(node)]
        for node in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports |= dict(imported(node, self.package))
            for bound in defines(node):
                self.definitions.setdefault(bound, []).append(node)
            if isinstance(node, COMPOUND):
                for inner in ast.walk(node):
                    if isinstance(inner, (ast.Import, ast.ImportFrom)):
                        self.imports |= dict(imported(inner, self.package))
        for node in nodes:
            changed = changes(node)
            if isinstance(node, COMPOUND):
                self.side_nodes.append(node)
            elif changed in self.definitions and node not in self.definitions[changed]:
                self.definitions[changed].append(node)
            elif not isinstance(node, (ast.Import, ast.ImportFrom)) and not any(True for _ in defines(node)):
                self.side_nodes.append(node)

    @cached_property
    def side(self) -> list[Statement]:
        """Statements that belong to whatever reaches the module: a top-level call, `if` or `for`."""
        return [Scan(self).statement(f"statement {number}", node) for number, node in enumerate(self.side_nodes)]

    def definition(self, name: str) -> Class | Registered | list[Statement]:
        """Return what a name of this module is defined by."""
        if name not in self._found:
            self._found[name] = self._define(name, self.definitions[name])
        return self._found[name]

    def bases(self, name: str) -> list[Binding]:
        """Return what a class of this module is built on, nothing for what is no class."""
        node = self.definitions[name][0]
        if not isinstance(node, ast.ClassDef):
            return []
        return [base for base in map(Scan(self).resolve, map(bare, node.bases)) if base is not None]

    def registers(self, name: str) -> bool:
        """Tell whether a name of this module is a registry: built as one, or joined of some."""
        value = getattr(self.definitions[name][0], "value", None)
        while isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
            value = value.left
        if isinstance(value, ast.Call):
            return Scan(self).resolve(bare(value.func)) == REGISTRY
        joined = isinstance(getattr(self.definitions[name][0], "value", None), ast.BinOp)
        return (
            joined and isinstance(value, (ast.Name, ast.Attribute)) and self.code.is_registry(Scan(self).resolve(value))
        )

    def _define(self, name: str, nodes: list[ast.stmt]) -> Class | Registered | list[Statement]:
        if len(nodes) == 1 and isinstance(nodes[0], ast.ClassDef):
            return self._class(nodes[0])
        if self.registers(name) and (registry := self._registry(name, nodes[0].value)):  # type: ignore[attr-defined]
            for node in nodes[1:]:
                if isinstance(node, ast.AugAssign) and (more := self._registry(name, node.value)):
                    registry.rows |= more.rows
                    registry.joined += more.joined
                    registry.rest += more.rest
                else:
                    registry.rest.append(Scan(self).statement(name, node))
            return registry
        return [Scan(self).statement(name, node) for node in nodes]

    def _registry(self, name: str, value: ast.expr) -> Registered | None:
        """Return a registry that is built from a dictionary as it is written, or joined from others; else None."""
        if isinstance(value, (ast.Name, ast.Attribute)):
            target = Scan(self).resolve(value)
            return Registered(joined=[target]) if isinstance(target, Target) and self.code.is_registry(target) else None
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
            left, right = self._registry(name, value.left), self._registry(name, value.right)
            if left is None or right is None:
                return None
            return Registered({**left.rows, **right.rows}, [*left.joined, *right.joined], [*left.rest, *right.rest])
        if not isinstance(value, ast.Call) or Scan(self).resolve(bare(value.func)) != REGISTRY:
            return None
        found = Registered()
        for argument in [*value.args, *(keyword.value for keyword in value.keywords)]:
            if not isinstance(argument, ast.Dict):
                continue
            for key, entry in zip(argument.keys, argument.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    shown = f"{name}[{key.value!r}]"
                    found.rows[key.value] = [Scan(self).statement(shown, entry)]
                else:
                    found.rest.append(Scan(self).statement(f"{name}[...]", [key, entry]))
        return found

    def _class(self, node: ast.ClassDef) -> Class:
        bases = self.bases(node.name)
        found = Class(skeleton=Statement(self.name, node.name, "", (), frozenset(), frozenset()), bases=bases)
        pydantic = External("pydantic") in bases or any(
            (isinstance(base, External) and base.name.startswith("pydantic."))
            or (isinstance(base, Target) and self.code.is_of(base, External("pydantic.BaseModel")))
            for base in bases
        )
        declares = self._declares(node, bases)
        own = {bound for inner in node.body for bound in defines(inner)}
        skeleton: list[ast.stmt] = []
        for inner in node.body:
            if is_silent(inner) or (isinstance(inner, ast.AnnAssign) and inner.value is None and not declares):
                continue
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and not self._always(inner):
                statement = Scan(self, own).statement(f"{node.name}.{inner.name}", inner)
                found.methods.setdefault(inner.name, []).append(statement)
            elif pydantic and isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                scan = Scan(self, own)
                scan.annotation(inner.annotation)
                statement = scan.statement(f"{node.name}.{inner.target.id}", inner)
                found.fields.setdefault(inner.target.id, []).append(statement)
            else:
                skeleton.append(inner)
        head = [node.name, node.bases, node.keywords, node.decorator_list]
        found.skeleton = Scan(self, own).statement(node.name, [*head, *skeleton])
        return found

    def _declares(self, node: ast.ClassDef, bases: list[Binding]) -> bool:
        """Tell whether bare annotations of a class are its fields: of a dataclass, a named tuple, a pydantic model."""
        found = [
            Scan(self).resolve(bare(one.func if isinstance(one, ast.Call) else one)) for one in node.decorator_list
        ]
        names = [one.name for one in found if isinstance(one, External)]
        below = [base for base in bases if isinstance(base, Target)]
        named = any(isinstance(base, External) and base.name.startswith(("typing.", "pydantic")) for base in bases)
        return named or any(name.startswith("dataclasses.") for name in names) or any(map(self._declares_below, below))

    def _declares_below(self, base: Target) -> bool:
        node = self.code.source(base.module).definitions[base.name][0]
        source = self.code.source(base.module)
        return isinstance(node, ast.ClassDef) and source._declares(node, source.bases(base.name))

    def _always(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Tell whether Python or pydantic call a method without its name being written: dunder methods, validators."""
        if node.name.startswith("__") and node.name.endswith("__"):
            return True
        found = [
            Scan(self).resolve(bare(one.func if isinstance(one, ast.Call) else one)) for one in node.decorator_list
        ]
        return any(isinstance(one, External) and one.name.startswith("pydantic") for one in found)
