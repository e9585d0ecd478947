"""A saved adaptor: one file, with what it was made for, so that it is not put on another model."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib import files, paths
from lib.causal_lm import layers
from lib.errors import UserError
from lib.lemoe.config import AdaptorConfig
from lib.lemoe.router import NONE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "adaptor.safetensors"
# Fields of adaptors that were saved before these names.
OLD_NAMES = {
    "way_out": "rejection",
    "threshold_on": "rejection_distance",
    "forced": "force_new_expert",
    "auxiliary": "auxiliary_weight",
}


class Saved(NamedTuple):
    """What a file holds: the config, the count of experts, known subjects as token ids, routes of training, tensors."""

    config: AdaptorConfig
    experts: int
    subjects: set[tuple[int, ...]]
    trained: list[list[int]]
    tensors: dict[str, Tensor]


def _an_expert(number: int) -> int:
    if number < NONE:
        raise ValueError(f"{number} is no expert")
    return number


class Told(BaseModel):
    """The metadata of a file, each field of its type and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)

    config: dict[str, Any]
    model: dict[str, Any]
    experts: NonNegativeInt
    subjects: list[list[NonNegativeInt]]
    trained: list[list[Annotated[int, AfterValidator(_an_expert)]]]


def write(
    folder: str | Path, model: "PreTrainedModel", layer: int, tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    """Write an adaptor's tensors, their metadata and a digest of both: what was written last is whole, or not there.

    Raises `UserError` where the folder cannot be written to, `TypeError` for what is no path.
    """
    folder = _path(folder)
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    told = json.dumps(metadata | {"model": identity(model, layer)})
    header = {"adaptor": told, "sha256": digest(told, tensors)}
    try:
        files.write_atomically(folder / NAME, lambda path: save_file(tensors, path, header))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{paths.relative(folder)}: cannot be written to ({error}); give another folder") from error


def read(folder: str | Path, model: "PreTrainedModel") -> Saved:
    """Read a saved adaptor; raises `UserError` for missing or damaged files and for another model.

    A file of before digests is not checked for flipped bits. Raises `TypeError` for what is no path.
    """
    folder = _path(folder)
    number = len(layers.blocks(model))
    try:
        with safe_open(folder / NAME, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "sha256" in header and header["sha256"] != digest(header["adaptor"], tensors):
            raise ValueError("its digest is another: a bit has changed")
        told = Told.model_validate(json.loads(header["adaptor"]))
        config = AdaptorConfig.model_validate({OLD_NAMES.get(name, name): value for name, value in told.config.items()})
        _check_experts(told, tensors)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, UserError) as error:
        raise UserError(f"{paths.relative(folder)}: not a whole adaptor ({_line(error)}); save it again") from error
    if told.model != identity(model, min(config.layer, number - 1)):
        raise UserError(f"{paths.relative(folder)}: made for another model ({told.model}); load that one")
    return Saved(config, told.experts, {tuple(subject) for subject in told.subjects}, told.trained, tensors)


def digest(told: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of metadata and tensors: names, types, shapes and bytes."""
    found = hashlib.sha256(told.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _check_experts(told: Told, tensors: dict[str, Tensor]) -> None:
    """Raise `ValueError` where the metadata tell of experts that the file does not hold."""
    keys = sum(name.startswith("router.keys.") for name in tensors)
    if told.experts != keys:
        raise ValueError(f"experts is {told.experts}, the file has {keys}")
    if any(number >= told.experts for batch in told.trained for number in batch):
        raise ValueError(f"trained names an expert beyond its {told.experts}")


def _path(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder is of type {type(folder).__name__}: give a path")
    return Path(folder)


def _line(error: Exception) -> str:
    """Say in one line what is wrong, with the field's name where it is known."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def identity(model: "PreTrainedModel", layer: int) -> dict[str, Any]:
    """Say which model an adaptor was made for: its architecture, its sizes and sums over two of its matrices."""
    words, down = model.get_input_embeddings().weight, layers.down_projection(model, layer).weight
    return {
        "architecture": type(model).__name__,
        "layers": model.config.num_hidden_layers,
        "width": model.config.hidden_size,
        "vocabulary": len(words),
        "word_vectors": round(float(words.detach().cpu().double().square().sum()), 6),
        "down_projection": round(float(down.detach().cpu().double().square().sum()), 6),
    }
