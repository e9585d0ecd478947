"""One walk over a statement: its canonical form, the same on every supported Python, and what it names on the way."""

import ast
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lib.statements.names import NAME, Binding, External, Module, Statement, Target
from lib.statements.syntax import arguments as arguments_of
from lib.statements.syntax import bare, bound, defines, is_silent, stored

if TYPE_CHECKING:
    from lib.statements.parsing import Source

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
ROW = Target(f"{NAME}.registry", "Row")


class Scan:
    """One walk over a statement: its canonical form, and what it names on the way."""

    def __init__(self, source: "Source", class_names: set[str] = frozenset()) -> None:  # type: ignore[assignment]
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
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                return self.canonical(ast.Assign(targets=[target], value=value))
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
                return self._inside("function", stored(node), self._fields, node)
            case ast.ClassDef():
                return self._inside("class", {n: None for b in node.body for n in defines(b)}, self._fields, node)
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
        names = {one.arg: None for one in arguments_of(arguments)}
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        inside = names | bound(body, self.source.package)

        def walk(_: Any) -> list[Any]:
            shape = [
                [one.arg for one in part] for part in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
            ]
            rest = [one.arg if one else None for one in (arguments.vararg, arguments.kwarg)]
            given = [one is not None for one in arguments.kw_defaults]
            return [shape, rest, given, self.canonical(list(body))]

        return [type(node).__name__, head, self._inside("function", inside, walk, node)]

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
        called = self.resolve(bare(node.func))
        is_row = called == ROW or (isinstance(called, Target) and self.source.code.is_of(called, ROW))
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
                fused[-1] += str(part.value)  # always a text
            elif part.value:
                fused.append(part.value)
        return fused
