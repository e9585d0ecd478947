"""Second moments of what enters a layer's down projection: C, the keys that closed-form edits are to leave alone."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.causal_lm.encoding import parts
from lib.causal_lm.layers import block, down_projection, matrix
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class _Reached(Exception):
    """The forward pass has shown all that was asked for."""


def states(
    model: "PreTrainedModel", keys: Iterable[int], outputs: Iterable[int] = (), **inputs: Any
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Run a model up to the deepest layer asked for; return by layer what enters its down projection and leaves it.

    The first are (sequences, tokens, inner width), the second, the outputs of whole blocks, (sequences, tokens, width).
    Raises `UserError` for a layer that does not exist.
    """
    seen: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})
    keys, outputs = set(keys), set(outputs)

    def done() -> None:
        if len(seen[0]) == len(keys) and len(seen[1]) == len(outputs):
            raise _Reached

    def enters(layer: int) -> Any:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            entering = arguments[0]
            if entering.ndim == 2:  # OPT puts all tokens in a row
                entering = entering.view(*inputs["input_ids"].shape, -1)
            seen[0][layer] = entering
            done()

        return hook

    def leaves(layer: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[1][layer] = output[0] if isinstance(output, tuple) else output
            done()

        return hook

    hooks = [down_projection(model, layer).register_forward_pre_hook(enters(layer)) for layer in keys]
    hooks += [block(model, layer).register_forward_hook(leaves(layer)) for layer in outputs]
    try:
        model.base_model(use_cache=False, **inputs)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@torch.inference_mode()
def second_moments(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Iterable[str],
    layers: Sequence[int],
    tokens: int = 100_000,
    batch: int = 16,
    length: int = 256,
) -> dict[int, Tensor]:
    """Return by layer C = mean of k k^T, (inner width, inner width), float64, k the input of the down projection.

    The mean is over the first `tokens` tokens of the texts, or over all where there are fewer; texts are cut into
    pieces of `length` tokens (our choice), `batch` of which run at once, sorted by length. The products of a batch are
    float32, their sum float64. Raises `UserError` for texts without tokens and a layer that does not exist.
    """
    pieces = _pieces(tokenizer, texts, tokens, min(length, getattr(model.config, "max_position_embeddings", length)))
    if not pieces:
        raise UserError("no text to take second moments of: give texts")
    sizes = {layer: matrix(down_projection(model, layer)).shape[1] for layer in layers}
    sums = {layer: torch.zeros(size, size, dtype=torch.float64, device=model.device) for layer, size in sizes.items()}
    pieces.sort(key=len)
    for start in range(0, len(pieces), batch):
        chosen = pieces[start : start + batch]
        longest = len(chosen[-1])
        ids = torch.tensor([piece + [0] * (longest - len(piece)) for piece in chosen], device=model.device)
        mask = torch.tensor([[1] * len(piece) + [0] * (longest - len(piece)) for piece in chosen], device=model.device)
        found, _ = states(model, sizes, input_ids=ids, attention_mask=mask)
        for layer, entering in found.items():
            keys = entering[mask.bool()].float()
            sums[layer] += (keys.T @ keys).double()
    counted = sum(map(len, pieces))
    return {layer: total.div_(counted) for layer, total in sums.items()}


def _pieces(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], tokens: int, length: int) -> list[list[int]]:
    """Cut texts into pieces of `length` tokens until there are `tokens`."""
    pieces, left = [], tokens
    for text in texts:
        if left <= 0:
            break
        first, ids = parts(tokenizer, text)
        ids = ids[:left]
        left -= len(ids)
        room = max(length - len(first), 1)  # a model reads no text without its special tokens, and so no piece either
        pieces += [first + ids[start : start + room] for start in range(0, len(ids), room)]
    return pieces
