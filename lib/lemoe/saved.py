"""A saved adaptor: one file, with what it was made for, so that it is not put on another model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib import files, paths
from lib.causal_lm import layers
from lib.errors import UserError
from lib.lemoe.config import AdaptorConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Saved(NamedTuple):
    """What a file holds: the config, the count of experts, known subjects as token ids, routes of training, tensors."""

    config: AdaptorConfig
    experts: int
    subjects: set[tuple[int, ...]]
    trained: list[list[int]]
    tensors: dict[str, Tensor]


def write(
    folder: Path, model: "PreTrainedModel", layer: int, tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    """Write an adaptor's tensors and their metadata: what was written last is whole, or not there."""
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    header = {"adaptor": json.dumps(metadata | {"model": identity(model, layer)})}
    files.write_atomically(folder / "adaptor.safetensors", lambda path: save_file(tensors, path, header))


def read(folder: Path, model: "PreTrainedModel") -> Saved:
    """Read a saved adaptor; raises `UserError` for missing or damaged files and for another model."""
    try:
        with safe_open(folder / "adaptor.safetensors", "pt") as file:
            metadata = json.loads((file.metadata() or {})["adaptor"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config, made_for = AdaptorConfig.model_validate(metadata["config"]), metadata["model"]
        subjects = {tuple(subject) for subject in metadata["subjects"]}
        found = Saved(config, metadata["experts"], subjects, metadata["trained"], tensors)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{paths.relative(folder)}: not a whole adaptor ({error}); save it again") from error
    if made_for != identity(model, min(config.layer, len(layers.blocks(model)) - 1)):
        raise UserError(f"{paths.relative(folder)}: made for another model ({made_for}); load that one")
    return found


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
