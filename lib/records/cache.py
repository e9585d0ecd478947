"""What a case keeps in the cache, which git ignores: checkpoints while it runs, trained weights afterwards."""

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from lib import files, paths
from lib.records import files as record_files
from lib.records import stamps
from lib.records.case import Case, Tensors


def workspace(case: Case) -> Path:
    """Folder for the checkpoints of a computation under way; removed once the record is stored."""
    place = folder("runs", case)
    place.mkdir(parents=True, exist_ok=True)
    return place


def load_weights(case: Case, name: str) -> dict[str, torch.Tensor] | None:
    """Return cached weights, or None if there are none; damaged ones are named on standard error and count as none."""
    path = folder("weights", case) / f"{name}.safetensors"
    if not path.is_file():
        return None
    if files.sha256(path) != digest(case, name):
        print(f"{paths.relative(path)}: truncated or edited: not used", file=sys.stderr)
        return None
    return safetensors.torch.load_file(path)


def digest(case: Case, name: str) -> str | None:
    """Return the SHA-256 that was noted when weights were put in the cache, or None where no such note is readable."""
    path = folder("weights", case) / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(place: Path, name: str, tensors: Tensors | Path) -> str:
    """Write weights and their digest to the folder `place`; return the SHA-256."""
    data = tensors.read_bytes() if isinstance(tensors, Path) else record_files.safetensors_bytes(tensors)
    path = place / f"{name}.safetensors"
    files.write_atomically(path, lambda temporary: temporary.write_bytes(data))
    found = files.sha256(path)
    files.write_json(path.with_suffix(".json"), {"sha256": found, "bytes": len(data)})
    return found


def folder(kind: str, case: Case, stamp: dict[str, Any] | None = None) -> Path:
    """Folder of a case, with the stamp of now or another one; `kind` is `runs` (checkpoints) or `weights`."""
    return paths.cache() / kind / case.name / stamps.identity(case, stamp)[:16]
