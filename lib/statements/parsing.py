"""The statements of the package, and what each of them names: the grain of a record's stamp.

A statement is a top-level function, class or assignment; a method or a pydantic field that is reached by its own name;
a row of a registry. Its digest sees everything that can change a number, and neither docstrings, annotations, layout,
import lines nor the names of modules and files: what a name stands for is looked up, across modules.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lib.errors import UserError

# Fields without effect at run time, and those that only some of Python 3.11 to 3.13 have.
SILENT_FIELDS = frozenset({"annotation", "returns", "type_comment", "type_params"})
# What a row says to readers, or of the config that it makes: the config itself enters a stamp by its values.
SILENT_KEYWORDS = frozenset(
    {
        "title",
        "core",
        "configure",
        "sized",
        "needs",
        "slow",
        "ours",
        "only",
        "profiles",
        "group",
        "every_seed",
        "longer",
        "order",
        "at_once",
        "rate",
    }
)
REGISTRY, ROW = ("lib.registry", "Registry"), ("lib.registry", "Row")
COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar)


class Target(NamedTuple):
    """A name that a statement reaches: plainly, or a registry through one row or one chosen at run time."""

    module: str
    name: str
    row: str | None = None
    chosen: bool = False


class Module(NamedTuple):
    """A module as a value: attributes of it are looked up in it."""

    name: str


class External(NamedTuple):
    """Something of a library, by its whole name."""

    name: str


Binding = Target | Module | External


@dataclass(frozen=True)
class Statement:
    """One statement: where it stands, its digest, and what it names.

    `attributes` are the names after dots, by which methods are reached; `strings` the texts that it may look rows up
    with.
    """

    module: str
    name: str
    digest: str
    targets: tuple[Target, ...]
    attributes: frozenset[str]
    strings: frozenset[str]


@dataclass
class Class:
    """A class in parts: the skeleton (bases, decorators, fields, dunder methods, validators), and what is reached."""

    skeleton: Statement
    bases: list[Binding]
    methods: dict[str, list[Statement]] = field(default_factory=dict)
    fields: dict[str, list[Statement]] = field(default_factory=dict)  # of pydantic classes


@dataclass
class Registered:
    """A registry: its rows, the registries that it joins, and what of it is no plain row."""

    rows: dict[str, list[Statement]] = field(default_factory=dict)
    joined: list[Target] = field(default_factory=list)
    rest: list[Statement] = field(default_factory=list)


class Code:
    """The source of the package `lib` at one time, {module: text}; everything is analysed when it is asked for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._sources: dict[str, Source] = {}

    @classmethod
    def on_disk(cls, package: Path) -> "Code":
        """Read all modules below a folder that is the package `lib`."""
        found = {}
        for path in package.rglob("*.py"):
            parts = ("lib", *path.relative_to(package).with_suffix("").parts)
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
        nodes = [node for node in tree.body if not is_silent(node) and not _is_main(node)]
        for node in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports |= dict(_imported(node, self.package))
            for bound in _defines(node):
                self.definitions.setdefault(bound, []).append(node)
            if isinstance(node, COMPOUND):
                for inner in ast.walk(node):
                    if isinstance(inner, (ast.Import, ast.ImportFrom)):
                        self.imports |= dict(_imported(inner, self.package))
        for node in nodes:
            changed = _changes(node)
            if isinstance(node, COMPOUND):
                self.side_nodes.append(node)
            elif changed in self.definitions and node not in self.definitions[changed]:
                self.definitions[changed].append(node)
            elif not isinstance(node, (ast.Import, ast.ImportFrom)) and not any(True for _ in _defines(node)):
                self.side_nodes.append(node)

    @cached_property
    def side(self) -> list[Statement]:
        """Statements that belong to whatever reaches the module: a top-level call, `if` or `for`."""
        return [_Scan(self).statement(f"statement {number}", node) for number, node in enumerate(self.side_nodes)]

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
        return [base for base in map(_Scan(self).resolve, map(_bare, node.bases)) if base is not None]

    def registers(self, name: str) -> bool:
        """Tell whether a name of this module is a registry: built as one, or joined of some."""
        value = getattr(self.definitions[name][0], "value", None)
        while isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
            value = value.left
        if isinstance(value, ast.Call):
            return _Scan(self).resolve(_bare(value.func)) == Target(*REGISTRY)
        joined = isinstance(getattr(self.definitions[name][0], "value", None), ast.BinOp)
        return (
            joined
            and isinstance(value, (ast.Name, ast.Attribute))
            and self.code.is_registry(_Scan(self).resolve(value))
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
                    registry.rest.append(_Scan(self).statement(name, node))
            return registry
        return [_Scan(self).statement(name, node) for node in nodes]

    def _registry(self, name: str, value: ast.expr) -> Registered | None:
        """Return a registry that is built from a dictionary as it is written, or joined from others; else None."""
        if isinstance(value, (ast.Name, ast.Attribute)):
            target = _Scan(self).resolve(value)
            return Registered(joined=[target]) if self.code.is_registry(target) else None
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
            parts = [self._registry(name, side) for side in (value.left, value.right)]
            if None in parts:
                return None
            left, right = parts
            return Registered({**left.rows, **right.rows}, [*left.joined, *right.joined], [*left.rest, *right.rest])
        if not isinstance(value, ast.Call) or _Scan(self).resolve(_bare(value.func)) != Target(*REGISTRY):
            return None
        found = Registered()
        for argument in [*value.args, *(keyword.value for keyword in value.keywords)]:
            if not isinstance(argument, ast.Dict):
                continue
            for key, entry in zip(argument.keys, argument.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    shown = f"{name}[{key.value!r}]"
                    found.rows[key.value] = [_Scan(self).statement(shown, entry)]
                else:
                    found.rest.append(_Scan(self).statement(f"{name}[...]", [key, entry]))
        return found

    def _class(self, node: ast.ClassDef) -> Class:
        bases = self.bases(node.name)
        found = Class(skeleton=Statement(self.name, node.name, "", (), frozenset(), frozenset()), bases=bases)
        pydantic = External("pydantic") in bases or any(
            (isinstance(base, External) and base.name.startswith("pydantic."))
            or (isinstance(base, Target) and self.code.is_of(base, External("pydantic.BaseModel")))
            for base in bases
        )
        own = {bound for inner in node.body for bound in _defines(inner)}
        skeleton: list[ast.stmt] = []
        for inner in node.body:
            if is_silent(inner):
                continue
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and not self._always(inner):
                statement = _Scan(self, own).statement(f"{node.name}.{inner.name}", inner)
                found.methods.setdefault(inner.name, []).append(statement)
            elif pydantic and isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                scan = _Scan(self, own)
                scan.annotation(inner.annotation)
                statement = scan.statement(f"{node.name}.{inner.target.id}", inner)
                found.fields.setdefault(inner.target.id, []).append(statement)
            else:
                skeleton.append(inner)
        head = [node.name, node.bases, node.keywords, node.decorator_list]
        found.skeleton = _Scan(self, own).statement(node.name, [*head, *skeleton])
        return found

    def _always(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Tell whether Python or pydantic call a method without its name being written: dunder methods, validators."""
        if node.name.startswith("__") and node.name.endswith("__"):
            return True
        found = [
            _Scan(self).resolve(_bare(one.func if isinstance(one, ast.Call) else one)) for one in node.decorator_list
        ]
        return any(isinstance(one, External) and one.name.startswith("pydantic") for one in found)


class _Scan:
    """One walk over a statement: its canonical form, and what it names on the way."""

    def __init__(self, source: Source, class_names: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.source = source
        self.targets: dict[Target, None] = {}
        self.attributes: set[str] = set()
        self.strings: set[str] = set()
        # Innermost last; a class's names are seen by its own statements, not by its methods.
        self.scopes: list[tuple[str, dict[str, Binding | None]]] = [("class", dict.fromkeys(class_names))]

    def statement(self, name: str, node: Any) -> Statement:
        form = self.canonical(node)
        digest = hashlib.sha256(json.dumps(form).encode()).hexdigest()
        return Statement(
            self.source.name,
            name,
            digest,
            tuple(self.targets),
            frozenset(self.attributes),
            frozenset(self.strings),
        )

    def resolve(self, node: ast.expr) -> Binding | None:
        """Return what a name, or a chain of attributes of modules, stands for; None for a local or built-in name."""
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            if isinstance(base, Module):
                return self.source.code.lookup(base.name, node.attr)
            if isinstance(base, External):
                return External(f"{base.name}.{node.attr}")
        return None

    def annotation(self, node: ast.expr) -> None:
        """Note what an annotation of a pydantic field reaches that acts: calls, and aliases that may hold such."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call):
                self.canonical(inner)
            elif isinstance(inner, (ast.Name, ast.Attribute)):
                found = self.resolve(inner)
                if isinstance(found, Target):
                    defined = self.source.code.source(found.module).definitions[found.name]
                    if not any(isinstance(one, ast.ClassDef) for one in defined):
                        self.targets.setdefault(found)

    def canonical(self, node: Any) -> Any:
        """Return a syntax tree as nested lists of strings, the same on every supported Python."""
        match node:
            case list() | tuple():
                return [self.canonical(item) for item in node if not is_silent(item)]
            case ast.Import() | ast.ImportFrom():
                return ["import"]
            case ast.AnnAssign(value=None):
                return ["field", self.canonical(node.target)]
            case ast.AnnAssign():
                return self.canonical(ast.Assign(targets=[node.target], value=node.value))
            case ast.Constant():
                if isinstance(node.value, str):
                    self.strings.add(node.value)
                return ["Constant", type(node.value).__name__, ascii(node.value)]
            case ast.JoinedStr():
                return ["JoinedStr", *self._fused(node.values)]
            case ast.Name():
                return self._named(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                return self._function(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._inside("function", _stored(node), self._fields, node)
            case ast.ClassDef():
                return self._inside("class", {n: None for b in node.body for n in _defines(b)}, self._fields, node)
            case ast.AST():
                return self._fields(node)
        return node

    def _fields(self, node: ast.AST) -> list[Any]:
        fields = sorted(set(node._fields) - SILENT_FIELDS)
        return [type(node).__name__, *([name, self.canonical(getattr(node, name, None))] for name in fields)]

    def _inside(self, kind: str, names: Mapping[str, Binding | None], walk: Any, node: Any) -> Any:
        self.scopes.append((kind, dict(names)))
        try:
            return walk(node)
        finally:
            self.scopes.pop()

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[Any]:
        outside = [getattr(node, "name", ""), *getattr(node, "decorator_list", [])]
        arguments = node.args
        defaults = [arguments.defaults, [one for one in arguments.kw_defaults if one is not None]]
        head = [self.canonical(item) for item in [*outside, *defaults]]
        names = {one.arg: None for one in _arguments(arguments)}
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        bound = names | _bound(body, self.source.package)

        def walk(_: Any) -> list[Any]:
            shape = [
                [one.arg for one in part] for part in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
            ]
            rest = [one.arg if one else None for one in (arguments.vararg, arguments.kwarg)]
            given = [one is not None for one in arguments.kw_defaults]
            return [shape, rest, given, self.canonical(list(body))]

        return [type(node).__name__, head, self._inside("function", bound, walk, node)]

    def _name(self, name: str) -> Binding | None:
        for depth, (kind, names) in enumerate(reversed(self.scopes)):
            if kind == "class" and depth:
                continue
            if name in names:
                binding = names[name]
                return None if binding is None else self.source.code.bound(binding)
        found = self.source.code.lookup(self.source.name, name)
        return None if isinstance(found, Module) and name not in self.source.imports else found

    def _named(self, node: ast.Name) -> list[Any]:
        found = self.resolve(node)
        if found is None:
            return ["Name", node.id]
        return self._reach(found)

    def _reach(self, found: Binding) -> list[Any]:
        match found:
            case Target():
                self.targets.setdefault(found)
                return ["lib", found.name]
            case Module():
                self.targets.setdefault(Target(found.name, "*"))
                return ["module", found.name.rpartition(".")[2]]
        return ["library", found.name]

    def _attribute(self, node: ast.Attribute) -> list[Any]:
        found = self.resolve(node)
        if found is not None:
            return self._reach(found)
        self.attributes.add(node.attr)
        return ["Attribute", self.canonical(node.value), node.attr]

    def _subscript(self, node: ast.Subscript) -> list[Any]:
        found = self.resolve(node.value)
        if not isinstance(found, Target) or not self.source.code.is_registry(found):
            return self._fields(node)
        match node.slice:
            case ast.Constant(value=str(key)):
                self.targets.setdefault(found._replace(row=key))
            case _:
                self.targets.setdefault(found._replace(chosen=True))
        return ["row", found.name, self.canonical(node.slice)]

    def _call(self, node: ast.Call) -> list[Any]:
        match node:
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
                self.attributes.add(name)
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[_, *_]):
                if self.source.code.is_registry(self.resolve(value)):
                    return self._subscript(ast.Subscript(value=value, slice=node.args[0], ctx=ast.Load()))
        called = self.resolve(_bare(node.func))
        is_row = called == Target(*ROW) or (isinstance(called, Target) and self.source.code.is_of(called, Target(*ROW)))
        if is_row:
            kept = [keyword for keyword in node.keywords if keyword.arg not in SILENT_KEYWORDS]
            node = ast.Call(func=node.func, args=node.args, keywords=kept)
        return self._fields(node)

    def _fused(self, parts: list[ast.expr]) -> list[Any]:
        """Parts of an f-string, its literal pieces joined: where they are cut depends on the version of Python."""
        fused: list[Any] = []
        for part in parts:
            if not isinstance(part, ast.Constant):
                fused.append(self.canonical(part))
            elif fused and isinstance(fused[-1], str):
                fused[-1] += part.value
            elif part.value:
                fused.append(part.value)
        return fused


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


def _is_main(node: ast.stmt) -> bool:
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def _bare(node: ast.expr) -> ast.expr:
    """Return what is subscripted: `Registry` of `Registry[Row]`."""
    return node.value if isinstance(node, ast.Subscript) else node


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Binding]]:
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


def _targets(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from _targets(part)
    elif isinstance(node, ast.Starred):
        yield from _targets(node.value)


def _defines(node: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign():
            for target in node.targets:
                yield from _targets(target)
        case ast.AnnAssign():
            yield from _targets(node.target)
        case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try() | ast.TryStar():
            yield from _bound([node], "")


def _changes(node: ast.stmt) -> str | None:
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


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    rest = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _stored(node: ast.AST) -> dict[str, Binding | None]:
    return {one.id: None for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _bound(body: list[Any], package: str) -> dict[str, Binding | None]:
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
                found |= dict(_imported(node, package))
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
