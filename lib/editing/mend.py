"""MEND: an edit is one gradient step whose gradient a trained network has transformed, factor by factor.

From the paper of the name (arXiv 2110.11309). The gradient of a weight is a sum over tokens of outer products of
delta, the gradient at the weight's output, and u, its input; each pair is transformed by itself.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from lib import files, paths, seeds
from lib.editing.editor import Editor
from lib.editing.edits import Edit
from lib.editing.encoding import Encoded, encode, encode_edits
from lib.editing.layers import down_projection, matrix
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MendConfig(BaseModel):
    """MEND; defaults are the paper's unless marked ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[int, ...] = Field((29, 30, 31), min_length=1)  # the paper: the last three blocks (here of 32)
    rank: int = Field(1920, ge=1)  # of the network's two maps; no more than the factors' sizes together
    c_edit: float = 0.1
    c_loc: float = 1.0
    rate: float = 1e-6  # of the network (Adam)
    edit_rate: float = Field(1e-4, gt=0)  # alpha of every layer at the start
    rate_of_rates: float = 1e-2  # Adam's, of log alpha (ours: the paper learns alpha itself, at 1e-4)
    normalised: bool = True  # the network reads factors of mean zero and deviation one
    measured: int = Field(100, ge=1)  # training edits from which mean and deviation are taken, once (ours)
    together: int = Field(1, ge=1)  # edits of one update in training
    accumulated: int = Field(10, ge=1)  # updates of one optimiser step
    steps: int = Field(1000, ge=1)  # optimiser steps (ours: the paper stops by a validation split)
    clip: float = 100.0  # norm of the gradient of the network
    seed: int = 0


class Factors(NamedTuple):
    """A gradient's factors, one row a token: u (tokens, inputs) and delta (tokens, outputs); it is delta^T u."""

    inputs: Tensor
    deltas: Tensor


class Transformation(nn.Module):
    """The trained network of the chosen weights, equal in shape: g(z) with z the pair (u, delta), and the edit rates.

    h = z + ReLU(s_1 * (U_1 V_1 z + b) + o_1) and g = h + ReLU(s_2 * U_2 V_2 h + o_2), eq. 3; scale s and offset o are
    each layer's own. U and the offsets start at zero, so g starts as the identity. With `normalised`, z is the pair at
    mean zero and deviation one and what g adds is scaled back, so that an untrained g is gradient descent all the same.
    """

    def __init__(self, config: MendConfig, inputs: int, outputs: int) -> None:
        """Build an untrained transformation for weights (outputs, inputs)."""
        super().__init__()
        self.config, self.inputs, self.outputs = config, inputs, outputs
        size, layers = inputs + outputs, len(config.layers)
        rank = min(config.rank, size)
        stream = seeds.generator("mend", config.seed)
        self.down = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(rank, size), generator=stream) for _ in range(2)
        )
        self.up = nn.ParameterList(torch.zeros(size, rank) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(2, layers, size))
        self.offset = nn.Parameter(torch.zeros(2, layers, size))
        self.log_rates = nn.Parameter(torch.full((layers,), config.edit_rate).log())
        self.register_buffer("mean", torch.zeros(layers, size))
        self.register_buffer("deviation", torch.ones(layers, size))

    def forward(self, factors: Factors, number: int) -> Factors:
        """Return the transformed factors of the layer that stands at place `number` of `config.layers`."""
        pair = torch.cat(factors, -1)
        start = (pair - self.mean[number]) / self.deviation[number]
        hidden = start
        for step, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            before = hidden @ down.T @ up.T + (self.bias if step == 0 else 0)
            # ReLU by clamp, which has a gradient at zero, where all of it starts; that of relu is zero there.
            hidden = hidden + (self.scale[step, number] * before + self.offset[step, number]).clamp(min=0)
        # What g adds, at the scale of the pair: exactly nothing while g is the identity.
        pair = pair + (hidden - start) * self.deviation[number]
        return Factors(*pair.split([self.inputs, self.outputs], -1))

    @torch.no_grad()
    def measure(self, found: Sequence[Factors], number: int) -> None:
        """Take mean and deviation of a layer's pairs from the factors of some edits."""
        pairs = torch.cat([torch.cat(factors, -1) for factors in found]).double()
        deviation = pairs.std(0, correction=0)
        self.mean[number] = pairs.mean(0)
        # Inputs that hardly ever move would be blown up; u and delta differ by orders of magnitude, so each by itself.
        for part in deviation.split([self.inputs, self.outputs]):
            part.clamp_(min=max(1e-2 * part.mean().item(), 1e-12))
        self.deviation[number] = deviation

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, the config in its metadata."""
        tensors = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        told = {"config": self.config.model_dump_json(), "inputs": str(self.inputs), "outputs": str(self.outputs)}
        files.write_atomically(path, lambda target: save_file(tensors, target, metadata=told))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a saved transformation; `UserError` for a missing or damaged file."""
        try:
            with safe_open(path, framework="pt") as stored:
                told = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            config = MendConfig.model_validate(json.loads(told["config"]))
            made = cls(config, int(told["inputs"]), int(told["outputs"]))
            made.load_state_dict(tensors)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{paths.relative(path)}: no whole MEND transformation ({line}); train it again") from error
        return made


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

    def edit(self, batch: Sequence[Edit]) -> None:
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

    def told() -> Tensor:
        logits = model(input_ids=unrelated.ids, attention_mask=unrelated.mask, use_cache=False).logits
        return logits[places].float().log_softmax(-1)

    with torch.no_grad():
        before = told()
    with updated(weights, changed, made.log_rates.exp()):
        edit_loss = target_losses(model, encode(model, tokenizer, asked)).mean()
        kept = functional.kl_div(told(), before, reduction="batchmean", log_target=True)
    return made.config.c_edit * edit_loss + made.config.c_loc * kept
