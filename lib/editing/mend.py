"""MEND: an edit is one gradient step whose gradient a trained network has transformed, factor by factor.

From the paper of the name (arXiv 2110.11309). The gradient of a weight is a sum over tokens of outer products of
delta, the gradient at the weight's output, and u, its input; each pair is transformed by itself.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import Encoded, encode, encode_edits
from lib.causal_lm.layers import block, down_projection, feed_forward, matrix
from lib.editing.editor import Editor, State
from lib.editing.mend_network import Factors, Looks, MendConfig, Transformation
from lib.errors import DivergedError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def projections(
    model: "PreTrainedModel", layers: Sequence[int], matrices: Literal["down", "all"] = "down"
) -> list[nn.Module]:
    """Return the down projections of layers, or all linear maps of their feed-forward parts.

    Raises `UserError` for a layer that does not exist and one named twice.
    """
    if len(set(layers)) < len(layers):
        raise UserError(f"MEND's layers {tuple(layers)} name one twice: give each once")
    if matrices == "down":
        return [down_projection(model, layer) for layer in layers]
    found = [block(model, layer) for layer in layers]
    parts = [part for one in found for part in (feed_forward(one) or one).children()]
    return [part for part in parts if getattr(getattr(part, "weight", None), "ndim", 0) == 2]


def shapes(weights: Sequence[nn.Module]) -> list[tuple[int, int]]:
    """Return the shapes of weights, (outputs, inputs) each."""
    return [(len(value), value.shape[1]) for value in map(matrix, weights)]


def target_losses(model: "PreTrainedModel", encoded: Encoded) -> Tensor:
    """Return -log P(target) of each edit, (edits,), in nats a target token."""
    logits = model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False).logits
    places = encoded.labels[:, 1:] >= 0
    each = logits.new_zeros(places.shape, dtype=torch.float32)
    each[places] = functional.cross_entropy(
        logits[:, :-1][places].float(), encoded.labels[:, 1:][places], reduction="none"
    )
    return each.sum(1) / places.sum(1)


def mean_loss(losses: Tensor, encoded: Encoded, average: Literal["tokens", "edits"]) -> Tensor:
    """Return the mean of `target_losses` over the edits, or over all target tokens together."""
    if average == "edits":
        return losses.mean()
    number = (encoded.labels[:, 1:] >= 0).sum(1)
    return (losses * number).sum() / number.sum()


def gradient_factors(
    model: "PreTrainedModel",
    weights: Sequence[nn.Module],
    encoded: Encoded,
    average: Literal["tokens", "edits"] = "edits",
) -> list[Factors]:
    """Return the factors of each weight's gradient of the edits' loss, in float32.

    The loss is the sum of the edits' `target_losses`, which gives an edit the same factors alone and in a batch, so
    that a batch's step is the sum of its edits' steps; or the mean over all their target tokens ("tokens").
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
            losses = target_losses(model, encoded)
            loss = losses.sum() if average == "edits" else mean_loss(losses, encoded, average)
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
def updated(weights: Sequence[nn.Module], factors: Sequence[Factors], steps: Tensor) -> Iterator[None]:
    """Within this block weights act as W - step delta^T u, differentiably and without a weight being written."""

    def changed(number: int, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        part = given[0].float() @ factors[number].inputs.T @ factors[number].deltas
        return (output.float() - steps[number] * part).to(output.dtype)

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
        self._weights = projections(model, transformation.config.layers, transformation.config.matrices)
        expected = transformation.shapes
        if tuple(shapes(self._weights)) != expected:
            raise UserError(f"MEND was trained for weights of shapes {expected}, not this model's: train it again")
        super().__init__(model, tokenizer)
        self.transformation = transformation.to(model.device).requires_grad_(False)

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Take one step for the batch: W <- W - step sum_tokens delta' u'^T (sec. 3: alpha is the step)."""
        encoded = encode_edits(self.model, self.tokenizer, batch)
        for weight in self._weights:
            self.keep(weight)
        factors = gradient_factors(self.model, self._weights, encoded, self.transformation.config.average)
        with torch.no_grad():
            steps = self.transformation.steps()
            for number, weight in enumerate(self._weights):
                inputs, deltas = self.transformation(factors[number], number)
                value = matrix(weight)
                value.copy_(value.float() - steps[number] * (deltas.T @ inputs))

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
        validation: Sequence[Edit] = (),
        looks: Looks | None = None,
    ) -> tuple[Transformation, list[float]]:
        """Train a transformation on edits of a split of its own; returns it and the loss of every optimiser step.

        The loss is c_edit * -log P'(target | rephrase) + c_loc * KL(P || P') at all tokens of the locality texts, with
        P' the model after an update of `together` edits. An edit without rephrases is asked by its prompt. The model
        stays as it is. With `validation` edits, their mean loss is taken before the first step and after every
        `look_every`; training stops when it was not lowered in `patience` looks, and the network of the lowest is
        returned (`looks` keeps them). Raises `UserError` for no edits and for an edit without a locality prompt,
        `DivergedError` where the gradient of an optimiser step is not finite.
        """
        config = config or MendConfig()
        weights = projections(model, config.layers, config.matrices)
        encode_edits(model, tokenizer, edits)
        for edit in (*edits, *validation):
            if edit.locality is None:
                raise UserError(f"the edit {edit.prompt!r} has no locality prompt, which training needs: give one")
        trained = {name: value.requires_grad for name, value in model.named_parameters()}
        model.requires_grad_(False)
        found = looks or Looks(config.patience)

        def look(step: int, made: Transformation) -> bool:
            return found.note(step, validation_loss(model, tokenizer, weights, validation, made), made)

        try:
            made, losses = _train(model, tokenizer, weights, edits, config, look if validation else None)
            if found.best:
                made.load_state_dict(found.best)
            return made, losses
        finally:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(trained[name])


def _train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    weights: Sequence[nn.Module],
    edits: Sequence[Edit],
    config: MendConfig,
    look: Callable[[int, Transformation], bool] | None = None,
) -> tuple[Transformation, list[float]]:
    made = Transformation(config, shapes(weights)).to(model.device)
    stream = seeds.generator("mend order", config.seed)
    order = torch.randperm(len(edits), generator=stream).tolist()
    if config.normalised and config.measured is not None:
        found = [
            gradient_factors(model, weights, encode_edits(model, tokenizer, [edits[number]]), config.average)
            for number in order[: config.measured]
        ]
        for number in range(len(weights)):
            network, within = made.network(number)
            network.measure([factors[number] for factors in found], within)
    named = list(made.named_parameters())
    optimiser = torch.optim.Adam(
        [
            {"params": [value for name, value in named if not name.endswith(".rates")], "lr": config.rate},
            {"params": [value for name, value in named if name.endswith(".rates")], "lr": config.rate_of_rates},
        ]
    )
    turn: list[int] = []  # the edits whose turn is still to come
    losses: list[float] = []
    for step in range(config.steps):
        if look is not None and step % config.look_every == 0 and look(step, made):
            break
        total = 0.0
        for _ in range(config.accumulated):
            if config.drawn == "in turn":
                while len(turn) < config.together:
                    turn += torch.randperm(len(edits), generator=stream).tolist()
                drawn, turn = turn[: config.together], turn[config.together :]
            else:
                drawn = torch.randint(len(edits), (config.together,), generator=stream).tolist()
            chosen = [edits[number] for number in drawn]
            loss = _loss(model, tokenizer, weights, chosen, made, stream) / config.accumulated
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(made.parameters(), config.clip)
        if not torch.isfinite(norm):
            raise DivergedError("MEND's training has a gradient that is not finite: lower the rates")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(total)
    if look is not None and len(losses) == config.steps:
        look(config.steps, made)
    return made.requires_grad_(False), losses


@torch.no_grad()
def validation_loss(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    weights: Sequence[nn.Module],
    edits: Sequence[Edit],
    made: Transformation,
) -> float:
    """Return the mean loss of updates of one edit each, the rephrase drawn alike at every look; nothing is learnt."""
    stream, observed = seeds.generator("mend validation", made.config.seed), copy.deepcopy(made)
    return sum(_loss(model, tokenizer, weights, [edit], observed, stream).item() for edit in edits) / len(edits)


def _loss(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    weights: Sequence[nn.Module],
    chosen: Sequence[Edit],
    made: Transformation,
    stream: torch.Generator,
) -> Tensor:
    """Return c_edit L_e + c_loc L_loc of one update, eq. 4."""
    config = made.config
    changed = []
    encoded = encode_edits(model, tokenizer, chosen)
    for number, found in enumerate(gradient_factors(model, weights, encoded, config.average)):
        if config.normalised and config.measured is None:
            made.network(number)[0].observe(found)
        changed.append(made(found, number))
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
    questions = encode(model, tokenizer, asked)
    with updated(weights, changed, made.steps()):
        edit_loss = mean_loss(target_losses(model, questions), questions, config.average)
        kept = functional.kl_div(log_probabilities(), before, reduction="batchmean", log_target=True)
    return config.c_edit * edit_loss + config.c_loc * kept
