"""MEND: an edit is one gradient step whose gradient a trained network has transformed, factor by factor.

From the paper of the name (arXiv 2110.11309). The gradient of a weight is a sum over tokens of outer products of
delta, the gradient at the weight's output, and u, its input; each pair is transformed by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import Encoded, encode, encode_edits
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.editor import Editor, State
from lib.editing.mend_network import Factors, MendConfig, Transformation
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def projections(model: "PreTrainedModel", layers: Sequence[int]) -> list[nn.Module]:
    """Return the down projections of layers; `UserError` for a layer that does not exist and one named twice."""
    if len(set(layers)) < len(layers):
        raise UserError(f"MEND's layers {tuple(layers)} name one twice: give each once")
    return [down_projection(model, layer) for layer in layers]


def target_losses(model: "PreTrainedModel", encoded: Encoded) -> Tensor:
    """Return -log P(target) of each edit, (edits,), in nats a target token."""
    logits = model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False).logits
    places = encoded.labels[:, 1:] >= 0
    each = logits.new_zeros(places.shape, dtype=torch.float32)
    each[places] = functional.cross_entropy(
        logits[:, :-1][places].float(), encoded.labels[:, 1:][places], reduction="none"
    )
    return each.sum(1) / places.sum(1)


def gradient_factors(model: "PreTrainedModel", weights: Sequence[nn.Module], encoded: Encoded) -> list[Factors]:
    """Return the factors of each weight's gradient of the edits' summed `target_losses`, in float32.

    The sum gives an edit the same factors alone and in a batch, so a batch's step is the sum of its edits' steps.
    Only tokens that have a gradient are kept: padding, and what nothing is predicted from, has none.
    """
    inputs: dict[int, Tensor] = {}
    probes: dict[int, Tensor] = {}

    def noting(number: int, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs[number], probes[number] = given[0].detach(), torch.zeros_like(output, requires_grad=True)
        return output + probes[number]

    hooks = [
        weight.register_forward_hook(lambda _, given, output, number=number: noting(number, given, output))
        for number, weight in enumerate(weights)
    ]
    try:
        with torch.enable_grad():
            loss = target_losses(model, encoded).sum()
            found = torch.autograd.grad(loss, [probes[number] for number in range(len(weights))])
    finally:
        for hook in hooks:
            hook.remove()
    factors = []
    for number, delta in enumerate(found):
        rows = (delta != 0).any(-1)
        factors.append(Factors(inputs[number][rows].float(), delta[rows].float()))
    return factors


@contextmanager
def updated(weights: Sequence[nn.Module], factors: Sequence[Factors], rates: Tensor) -> Iterator[None]:
    """Within this block weights act as W - alpha delta^T u, differentiably and without a weight being written."""

    def changed(number: int, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        part = given[0].float() @ factors[number].inputs.T @ factors[number].deltas
        return (output.float() - rates[number] * part).to(output.dtype)

    hooks = [
        weight.register_forward_hook(lambda _, given, output, number=number: changed(number, given, output))
        for number, weight in enumerate(weights)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Mend(Editor):
    """MEND on one model: every batch is one transformed gradient step, on top of those before."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", transformation: Transformation
    ) -> None:
        """Take a model and a trained transformation; `UserError` where its weights are not those of the model."""
        self._weights = projections(model, transformation.config.layers)
        expected = (transformation.outputs, transformation.inputs)
        if any(tuple(matrix(weight).shape) != expected for weight in self._weights):
            raise UserError(f"MEND was trained for weights of shape {expected}, not this model's: train it again")
        super().__init__(model, tokenizer)
        self.transformation = transformation.to(model.device).requires_grad_(False)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Take one step for the batch: W <- W - alpha sum_tokens delta' u'^T, sec. 3, summed over its edits."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        for weight in self._weights:
            self.keep(weight)
        factors = gradient_factors(self.model, self._weights, encoded)
        with torch.no_grad():
            for number, weight in enumerate(self._weights):
                inputs, deltas = self.transformation(factors[number], number)
                value = matrix(weight)
                value.copy_(value.float() - self.transformation.log_rates[number].exp() * (deltas.T @ inputs))

    def saved_state(self) -> State:
        """Return the weights and the trained network, without which no further edit could be learnt."""
        tensors, told = super().saved_state()
        return {
            **tensors,
            **{f"network.{name}": value for name, value in self.transformation.state_dict().items()},
        }, told

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        super().take_state(tensors, told)
        network = {name: value for name, value in tensors.items() if name.startswith("network.")}
        self.transformation.load_state_dict({name.removeprefix("network."): one for name, one in network.items()})

    @staticmethod
    def train(
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        edits: Sequence[Edit],
        config: MendConfig | None = None,
    ) -> tuple[Transformation, list[float]]:
        """Train a transformation on edits of a split of its own; returns it and the loss of every optimiser step.

        The loss is c_edit * -log P'(target | rephrase) + c_loc * KL(P || P') at all tokens of the locality texts, with
        P' the model after an update of `together` edits. An edit without rephrases is asked by its prompt. The model
        stays as it is. Raises `UserError` for no edits and for an edit without a locality prompt.
        """
        config = config or MendConfig()
        weights = projections(model, config.layers)
        encode_edits(model, tokenizer, edits)
        for edit in edits:
            if edit.locality is None:
                raise UserError(f"the edit {edit.prompt!r} has no locality prompt, which training needs: give one")
        trained = {name: value.requires_grad for name, value in model.named_parameters()}
        model.requires_grad_(False)
        try:
            return _train(model, tokenizer, weights, edits, config)
        finally:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(trained[name])


def _train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    weights: Sequence[nn.Module],
    edits: Sequence[Edit],
    config: MendConfig,
) -> tuple[Transformation, list[float]]:
    outputs, inputs = matrix(weights[0]).shape
    made = Transformation(config, inputs, outputs).to(model.device)
    stream = seeds.generator("mend order", config.seed)
    order = torch.randperm(len(edits), generator=stream).tolist()
    if config.normalised:
        found = [
            gradient_factors(model, weights, encode_edits(model, tokenizer, [edits[number]]))
            for number in order[: config.measured]
        ]
        for number in range(len(weights)):
            made.measure([factors[number] for factors in found], number)
    network = [value for name, value in made.named_parameters() if name != "log_rates"]
    optimiser = torch.optim.Adam(
        [{"params": network, "lr": config.rate}, {"params": [made.log_rates], "lr": config.rate_of_rates}]
    )
    losses = []
    for _ in range(config.steps):
        total = 0.0
        for _ in range(config.accumulated):
            drawn = torch.randint(len(edits), (config.together,), generator=stream).tolist()
            chosen = [edits[number] for number in drawn]
            loss = _loss(model, tokenizer, weights, chosen, made, stream) / config.accumulated
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(made.parameters(), config.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(total)
    return made.requires_grad_(False), losses


def _loss(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    weights: Sequence[nn.Module],
    chosen: Sequence[Edit],
    made: Transformation,
    stream: torch.Generator,
) -> Tensor:
    """Return c_edit L_e + c_loc L_loc of one update, eq. 4."""
    factors = gradient_factors(model, weights, encode_edits(model, tokenizer, chosen))
    changed = [made(found, number) for number, found in enumerate(factors)]
    asked = []
    for edit in chosen:
        phrased = (*edit.rephrases,) or (edit.prompt,)
        asked.append((phrased[int(torch.randint(len(phrased), (1,), generator=stream))], edit.target))
    unrelated = encode(model, tokenizer, [edit.locality for edit in chosen if edit.locality])
    places = unrelated.mask.bool()

    def log_probabilities() -> Tensor:
        logits = model(input_ids=unrelated.ids, attention_mask=unrelated.mask, use_cache=False).logits
        return logits[places].float().log_softmax(-1)

    with torch.no_grad():
        before = log_probabilities()
    with updated(weights, changed, made.log_rates.exp()):
        edit_loss = target_losses(model, encode(model, tokenizer, asked)).mean()
        kept = functional.kl_div(log_probabilities(), before, reduction="batchmean", log_target=True)
    return made.config.c_edit * edit_loss + made.config.c_loc * kept
