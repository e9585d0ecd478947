"""The build backend of this project: setuptools, and a wheel whose package is not called `lib`.

In a checkout the package is `lib`, so that notebooks stay short. Installed under that name it would mix with a folder
`lib` of whoever installs it. So a wheel holds the same files below `wang_li_reproductions`, with their imports renamed;
an editable install, which is what the checkout's own environment has, keeps `lib`. The methods and every module that
they import go into the wheel; experiments, their texts, records and reports need the checkout and stay there.

Called by pip by path, before anything is installed: standard library and setuptools only.
"""

import ast
import base64
import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

NAME = "wang_li_reproductions"
# What an installed package is for; what these rooms import comes with them.
ROOMS = ("api", "beacons", "causal_lm", "diffusion", "distillation", "editing", "lemoe", "seq2seq", "sources")
# A fixed date, so that equal sources give an equal wheel.
DATE = (2020, 1, 1, 0, 0, 0)


def build_wheel(
    wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel as setuptools does, then rename its package; returns the wheel's file name."""
    shutil.rmtree("build/lib", ignore_errors=True)  # of a build before: what was deleted since is still there
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory) / name
    with zipfile.ZipFile(path) as wheel:
        members = {member: wheel.read(member) for member in wheel.namelist() if not member.endswith("/")}
    kept = needed({member: content.decode() for member, content in members.items() if member.endswith(".py")})
    folders = {member.rpartition("/")[0] for member in kept}
    renamed = {}
    for member, content in members.items():
        parts = member.split("/")
        data = not member.endswith(".py") and member.rpartition("/")[0] in folders
        if parts[0] == "lib" and member not in kept and not data:
            continue
        if member.endswith(".py"):
            content = rename_imports(content.decode(), NAME).encode()
        if parts[-1] in ("top_level.txt", "entry_points.txt"):
            content = re.sub(rb"\blib\b", NAME.encode(), content)
        renamed["/".join([NAME if parts[0] == "lib" else parts[0], *parts[1:]])] = content
    record = next(member for member in renamed if member.endswith(".dist-info/RECORD"))
    renamed[record] = _record(renamed, record)
    temporary = path.with_suffix(".partial")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in renamed.items():
            about = zipfile.ZipInfo(member, DATE)
            about.external_attr = 0o644 << 16
            wheel.writestr(about, content, zipfile.ZIP_DEFLATED)
    os.replace(temporary, path)
    return name


def needed(sources: dict[str, str]) -> set[str]:
    """Return the members of `ROOMS` and all of `lib` that they import, at any depth, with the packages around them."""
    modules = {member.removesuffix(".py").removesuffix("/__init__").replace("/", "."): member for member in sources}
    pending = ["lib", *(name for name in modules if name.split(".")[1:2] and name.split(".")[1] in ROOMS)]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in modules or modules[name] in found:
            continue
        found.add(modules[name])
        pending.append(name.rpartition(".")[0])
        for node in ast.walk(ast.parse(sources[modules[name]])):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                pending += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def rename_imports(source: str, name: str) -> str:
    """Return the source of a module with every import of `lib` as one of `name`; nothing else changes.

    Raises `ValueError` for `import lib...`, which binds the name `lib` itself.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "lib" for alias in node.names):
            raise ValueError(f"line {node.lineno}: write `from lib import ...`, which can be renamed")
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "lib":
            row = node.lineno - 1
            start = node.col_offset
            lines[row] = lines[row][:start] + re.sub(r"^from\s+lib\b", f"from {name}", lines[row][start:])
    return "".join(lines)


def _record(members: dict[str, bytes], record: str) -> bytes:
    """Return the RECORD of a wheel: path, digest and size of each member, and its own path alone."""
    lines = []
    for member, content in members.items():
        if member != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{member},sha256={digest},{len(content)}")
    return ("\n".join([*lines, f"{record},,"]) + "\n").encode()
