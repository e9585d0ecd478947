"""The parts of a causal language model that editing methods reach for, and the models that they cannot take."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor, nn

from lib.errors import UserError
from lib.machine import bfloat16  # noqa: F401  # makes such products quick where the processor has none

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.pytorch_utils import Conv1D

    Block: TypeAlias = LlamaDecoderLayer | GPT2Block
    LinearMap: TypeAlias = nn.Linear | Conv1D

Reading: TypeAlias = Callable[[Tensor, Tensor], Tensor | None]  # of a part's inputs and output: its new output, if any

# What architectures call their parts. Llama and most others come first, then GPT-2, GPT-NeoX, GPT-J, OPT and Phi, MPT.
BLOCKS = ("layers", "h", "blocks")
FEED_FORWARD = ("mlp", "ffn", "feed_forward")
DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2")
FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")


def trunk(model: "PreTrainedModel") -> nn.Module:
    """Return the part of a model that runs its blocks one after the other; raises as `blocks`."""
    if not isinstance(model, nn.Module) or not hasattr(model, "base_model"):
        raise TypeError(
            f"model is of type {type(model).__name__}: give a causal language model, as transformers loads it"
        )
    name, config = type(model).__name__, getattr(model, "config", None)
    if type(model).__module__.startswith("peft."):
        raise UserError(
            f"{name}: the model is wrapped by peft: give it merged (`merge_and_unload`), or the model within"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name}: no layers of a decoder alone: an encoder-decoder model cannot be edited")
    for part in (model.base_model, getattr(model.base_model, "decoder", None)):  # OPT's are in its decoder
        if isinstance(part, nn.Module) and _first(part, BLOCKS) is not None:
            return part
    raise UserError(f"{name}: no layers with a feed-forward part `mlp` (Llama or GPT-2 style)")


def blocks(model: "PreTrainedModel") -> Any:  # an `nn.ModuleList`, which does not say what it holds
    """Return the transformer blocks; raises `UserError` for an architecture without a feed-forward part in them.

    So for an encoder-decoder and a state-space model, and one that peft has wrapped. Raises `TypeError` for what is no
    model of transformers.
    """
    found: Any = _first(trunk(model), BLOCKS)
    if not any(feed_forward(one) is not None or _down(one) is not None for one in found):
        name = type(model).__name__
        if any("mixer" in dict(one.named_children()) for one in found):
            raise UserError(f"{name}: no layers with a feed-forward part: a state-space model cannot be edited")
        if any(_is_mixture(one) for one in found):
            raise UserError(f"{name}: its feed-forward parts are mixtures of experts, which cannot be edited")
        raise UserError(f"{name}: no layers with a feed-forward part `mlp` (Llama or GPT-2 style)")
    return found


def block(model: "PreTrainedModel", layer: int) -> "Block":
    """Return the transformer block of a layer that can be edited.

    Raises `UserError` where there is none, and for one that cannot be edited: without a feed-forward part, a mixture of
    experts, quantised, wrapped by peft, or offloaded; `TypeError` for a layer that is no whole number.
    """
    found = blocks(model)
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise TypeError(f"layer is of type {type(layer).__name__}: give a whole number")
    if not 0 <= layer < len(found):
        raise UserError(f"layer {layer} does not exist: {type(model).__name__} has layers 0 to {len(found) - 1}")
    if wrong := _unfit(model, found[layer]):
        raise UserError(f"{type(model).__name__}: layer {layer} {wrong}")
    return found[layer]


def feed_forward(block: nn.Module) -> nn.Module | None:
    """Return the feed-forward part of a block; None where the block itself holds its linear maps (OPT)."""
    return _first(block, FEED_FORWARD)


def down_projection(model: "PreTrainedModel", layer: int) -> "LinearMap":
    """Return the last linear map of a layer's feed-forward part (`down_proj` of Llama, `c_proj` of GPT-2, ...).

    Raises as `block`.
    """
    found: Any = _down(block(model, layer))  # `block` has looked that it is there
    return found


def hang(block: "Block", on: Literal["feed_forward", "down"], function: Reading, prepend: bool = False) -> list[Any]:
    """Have a function of inputs and output, both (sequences, tokens, size), read or change a part; returns handles.

    The part is a block's feed-forward part or its down projection; with `prepend` the function comes before others.
    OPT's feed-forward part is no module, and its maps see all tokens in a row: they are parted here.
    """
    feed, down = feed_forward(block), _down(block)
    assert down is not None
    if feed is not None:
        part = feed if on == "feed_forward" else down
        return [
            part.register_forward_hook(lambda _, given, output: function(given[0], output), prepend=prepend),
        ]
    held, first = threading.local(), down if on == "down" else block.fc1

    def enter_block(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        held.shape = (given[0] if given else named["hidden_states"]).shape[:2]

    def enter(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        held.inputs = given[0]

    def leave(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        found = function(held.inputs.view(*held.shape, -1), output.view(*held.shape, -1))
        return None if found is None else found.reshape(output.shape)

    return [
        block.register_forward_pre_hook(enter_block, with_kwargs=True),
        first.register_forward_pre_hook(enter),
        down.register_forward_hook(leave, prepend=prepend),
    ]


def final_norm(model: "PreTrainedModel") -> nn.Module | None:
    """Return the norm after the last block; None where there is none."""
    return _first(trunk(model), FINAL_NORM)


def activation(model: "PreTrainedModel", layer: int) -> Any:
    """Return the function between a feed-forward part's linear maps; `UserError` where the model does not name it."""
    from transformers.activations import ACT2FN

    names = ("hidden_act", "activation_function", "hidden_activation", "activation")
    for name in names:
        if isinstance(found := getattr(model.config, name, None), str):
            return ACT2FN[found]
    one = block(model, layer)
    for part in (feed_forward(one), one):
        if (module := _first(part, ("act", "act_fn", "gelu_impl", "activation_fn"))) is not None:
            return module
    raise UserError(f"{type(model).__name__}: its activation function is not found under {', '.join(names)}")


def matrix(module: "LinearMap") -> Tensor:
    """Return the weight of a linear map as a view (outputs, inputs): GPT-2's Conv1D stores it transposed."""
    return module.weight if isinstance(module, nn.Linear) else module.weight.T


def _first(part: Any, names: tuple[str, ...]) -> Any:
    """Return the first of some attributes that is there and is a module; a list of modules only with something in."""
    for name in names:
        found = getattr(part, name, None)
        if isinstance(found, nn.Module) and not (isinstance(found, nn.ModuleList) and not len(found)):
            return found
    return None


def _down(block: nn.Module) -> nn.Module | None:
    """Return what stands for the down projection in a block, whatever it is; None where nothing does."""
    feed = feed_forward(block)
    return _first(block if feed is None else feed, DOWN)


def _is_mixture(block: nn.Module) -> bool:
    """Tell whether a block's feed-forward part has several experts."""
    return any(name.rpartition(".")[2] in ("experts", "block_sparse_moe") for name, _ in block.named_modules())


def _is_wrapped(module: nn.Module) -> bool:
    """Tell whether peft has wrapped a module, by the layer that it keeps within."""
    return isinstance(getattr(module, "base_layer", None), nn.Module)


def _unfit(model: "PreTrainedModel", block: nn.Module) -> str | None:
    """Return why a block cannot be edited; None where it can."""
    if _is_mixture(block):
        return "is a mixture of experts, which cannot be edited: choose another, or a model without them"
    down = _down(block)
    if down is None:
        return "has no feed-forward part whose last linear map is known: choose another layer"
    inside = list((feed_forward(block) or block).modules())
    if any(_is_wrapped(part) for part in inside):
        return "is wrapped by peft: merge its adapter first (`merge_and_unload`)"
    weights = [value for part in inside if isinstance(value := getattr(part, "weight", None), Tensor)]
    if any(_is_quantised(value) for value in weights) or not _is_linear(down):
        return "is quantised, or not made of plain linear maps: load the model unquantised"
    # A model that is on "meta" as a whole is a drawing of one, on which nothing is computed.
    elsewhere = [value for value in weights if value.device.type == "meta"]
    words = model.get_input_embeddings().weight
    if (elsewhere and words.device.type != "meta") or getattr(getattr(down, "_hf_hook", None), "offload", False):
        return "is offloaded (its weights are not in memory): load it onto a device"
    return None


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear map whose weight is a matrix of floating-point numbers."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or hasattr(module, "quant_state"):
        return False
    return isinstance(module, nn.Linear) or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))


def _is_quantised(weight: Tensor) -> bool:
    """Tell whether a weight holds codes for numbers: integers, eight bits, or a tensor class of another library."""
    return type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point() or weight.dtype.itemsize < 2
