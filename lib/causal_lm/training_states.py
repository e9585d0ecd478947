"""The state of a training on disk: one file of safetensors and JSON, written in one step, never pickled.

It carries a digest of all that it holds, so that a state with a flipped bit is never trained on.
"""

import hashlib
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
    """Write `told` (JSON), what the optimisers remember, and named tensors, part by part, into `folder`.

    Raises `UserError` where the disk lacks space; then the state that was there stays.
    """
    tensors = {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}
    for number, optimiser in enumerate(optimisers):
        for place, values in optimiser.state_dict()["state"].items():
            tensors |= {f"{_OPTIMISER}/{number}/{place}/{name}": value for name, value in values.items()}
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    text = json.dumps(told)
    header = {"told": text, "sha256": _digest(text, tensors)}
    files.require_space(folder, sum(tensor.nbytes for tensor in tensors.values()))
    files.write_atomically(folder / NAME, lambda path: save_file(tensors, path, header))


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
            header = stream.metadata()
        tensors = load_file(path)
        if header["sha256"] != _digest(header["told"], tensors):
            raise ValueError("not as it was written")
        told = json.loads(header["told"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        print(f"{paths.relative(path)} is damaged ({error}); training starts anew", file=sys.stderr)
        path.unlink()
        return None
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor.to(device)
    remembered = parts.pop(_OPTIMISER, {})
    for number, optimiser in enumerate(optimisers):
        saved = optimiser.state_dict()
        for name, tensor in remembered.items():
            which, place, key = name.split("/")
            if int(which) == number:
                saved["state"].setdefault(int(place), {})[key] = tensor
        optimiser.load_state_dict(saved)
    return told, parts


def _digest(told: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the text and of every tensor's name, type, shape and bytes."""
    found = hashlib.sha256(told.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
