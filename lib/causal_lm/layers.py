"""The parts of a Llama- or GPT-2-style model that editing methods reach for."""

from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.pytorch_utils import Conv1D

    Block: TypeAlias = LlamaDecoderLayer | GPT2Block
    LinearMap: TypeAlias = nn.Linear | Conv1D


def blocks(model: "PreTrainedModel") -> Any:  # an `nn.ModuleList`, which does not say what it holds
    """Return the transformer blocks; raises `UserError` for an architecture without a part `mlp` in them.

    Raises `TypeError` for what is no model of transformers.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "base_model"):
        raise TypeError(
            f"model is of type {type(model).__name__}: give a causal language model, as transformers loads it"
        )
    found = getattr(model.base_model, "layers", None) or getattr(model.base_model, "h", None)
    if found is None or not hasattr(found[0], "mlp"):
        raise UserError(f"{type(model).__name__}: no layers with a feed-forward part `mlp` (Llama or GPT-2 style)")
    return found


def block(model: "PreTrainedModel", layer: int) -> "Block":
    """Return the transformer block of a layer; `UserError` where there is none."""
    found = blocks(model)
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise TypeError(f"layer is of type {type(layer).__name__}: give a whole number")
    if not 0 <= layer < len(found):
        raise UserError(f"layer {layer} does not exist: {type(model).__name__} has layers 0 to {len(found) - 1}")
    return found[layer]


def down_projection(model: "PreTrainedModel", layer: int) -> "LinearMap":
    """Return the last linear map of a layer's feed-forward part (`down_proj` of Llama, `c_proj` of GPT-2)."""
    mlp = block(model, layer).mlp
    return mlp.down_proj if hasattr(mlp, "down_proj") else mlp.c_proj


def matrix(module: "LinearMap") -> Tensor:
    """Return the weight of a linear map as a view (outputs, inputs): GPT-2's Conv1D stores it transposed."""
    return module.weight if isinstance(module, nn.Linear) else module.weight.T
