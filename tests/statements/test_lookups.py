"""No code of the package looks a name of one of its modules up by a text: a record's stamp follows names only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import paths

LIB = paths.ROOT / "lib"
LOOKS_UP = ("getattr", "setattr", "hasattr", "delattr", "vars", "dir")
NEVER = ("globals", "locals", "eval", "exec", "__import__")
MODULES = {
    ".".join(("lib", *path.relative_to(LIB).with_suffix("").parts)).removesuffix(".__init__")
    for path in LIB.rglob("*.py")
}


def dotted(node: ast.expr) -> str:
    """Return a name, or a chain of attributes of one, as it is written; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    base = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{base}.{node.attr}" if base else ""


def modules_of(tree: ast.Module, module: str, is_package: bool) -> dict[str, str]:
    """Return what stands for modules of the package anywhere in a file, and for which: by import or assignment."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and resolved(node.value, found) in MODULES:
            found |= {name.id: resolved(node.value, found) for name in node.targets if isinstance(name, ast.Name)}
    return {name: whole for name, whole in found.items() if whole in MODULES}


def resolved(node: ast.expr, names: dict[str, str]) -> str:
    """Return the whole name of what an expression stands for, where it is made of imported names."""
    first, dot, rest = dotted(node).partition(".")
    return names.get(first, "") + dot + rest


def lookups(text: str, module: str = "lib.made_up", is_package: bool = False) -> Iterator[str]:
    """Yield the lines of a file that look names up by a text."""
    tree = ast.parse(text)
    names = modules_of(tree, module, is_package)

    def is_module(node: ast.expr) -> bool:
        return resolved(node, names) in MODULES

    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in NEVER or (name == "vars" and not node.args):
                yield f"{module}:{node.lineno}: {name}(...)"
            case ast.Call(func=ast.Name(id=name), args=[looked_at, *_]) if name in LOOKS_UP and is_module(looked_at):
                yield f"{module}:{node.lineno}: {name}({ast.unparse(looked_at)}, ...)"
            case ast.Attribute(value=looked_at, attr="__dict__") if is_module(looked_at):
                yield f"{module}:{node.lineno}: {ast.unparse(node)}"
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="sys"), attr="modules")):
                yield f"{module}:{node.lineno}: {ast.unparse(node)}"


def modules() -> list[tuple[str, Path]]:
    """Return every module of the package and its file."""
    found = [(".".join(("lib", *path.relative_to(LIB).with_suffix("").parts)), path) for path in LIB.rglob("*.py")]
    return sorted((name.removesuffix(".__init__"), path) for name, path in found)


def test_no_module_of_the_package_is_looked_into_by_a_text():
    found = [
        line
        for name, path in modules()
        for line in lookups(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    ]
    assert not found, "a record's stamp cannot see what is looked up by a text: name it, or put it into a registry"


@pytest.mark.parametrize(
    "text",
    [
        "from lib import seeds\nfound = getattr(seeds, name)",
        "from lib.text import metrics as scores\nfound = vars(scores)[name]",
        "import lib.seeds\nsetattr(lib.seeds, name, 1)",
        "import lib.text.metrics as scores\nfound = scores.__dict__[name]",
        "import lib\nfound = getattr(lib.text.metrics, name)",
        "def run(name):\n    from lib import seeds\n    return getattr(seeds, name)",
        "from . import seeds\nfound = getattr(seeds, name)",
        "from lib import text\nscores = text.metrics\nfound = getattr(scores, name)",
        "found = globals()[name]",
        "found = eval(name)",
        "found = __import__(name)",
        "import sys\nfound = sys.modules[name]",
    ],
)
def test_a_made_up_file_that_looks_names_up_is_refused(text):
    assert len(list(lookups(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from lib.text.metrics import rouge\nfound = getattr(rouge, name)",
        "import numpy\nfound = getattr(numpy, name)",
        "model.eval()",
        "import sys\nshown = 'ipykernel' in sys.modules",
        "found = vars(arguments)",
    ],
)
def test_a_look_into_anything_else_is_let_be(text):
    assert not list(lookups(text))
