"""The state of a training on disk: one file of safetensors and JSON, written in one step, never pickled."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib import files, paths

NAME = "state.safetensors"
_OPTIMISER = "optimiser"


def save(folder: Path, told: Any, optimisers: Sequence[torch.optim.Optimizer], **parts: Mapping[str, Tensor]) -> None:
    """Write `told` (JSON), what the optimisers remember, and named tensors, part by part, into `folder`."""
    tensors = {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}
    for number, optimiser in enumerate(optimisers):
        for place, values in optimiser.state_dict()["state"].items():
            tensors |= {f"{_OPTIMISER}/{number}/{place}/{name}": value for name, value in values.items()}
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    files.write_atomically(folder / NAME, lambda path: save_file(tensors, path, {"told": json.dumps(told)}))


def load(
    folder: Path, optimisers: Sequence[torch.optim.Optimizer], device: torch.device | str = "cpu"
) -> tuple[Any, dict[str, dict[str, Tensor]]] | None:
    """Return what was told and the tensors by part, and let the optimisers remember; None where nothing was saved.

    A damaged file is named, removed, and None as well: training starts anew.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as stream:
            told = json.loads(stream.metadata()["told"])
        tensors = load_file(path, str(device))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        print(f"{paths.relative(path)} is damaged ({error}); training starts anew", file=sys.stderr)
        path.unlink()
        return None
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    remembered = parts.pop(_OPTIMISER, {})
    for number, optimiser in enumerate(optimisers):
        saved = optimiser.state_dict()
        for name, tensor in remembered.items():
            which, place, key = name.split("/")
            if int(which) == number:
                saved["state"].setdefault(int(place), {})[key] = tensor
        optimiser.load_state_dict(saved)
    return told, parts
