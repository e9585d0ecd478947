"""The adaptor: experts beside one feed-forward layer of a Llama- or GPT-2-style model, chosen once per sequence.

adaptor = Adaptor.attach(model, AdaptorConfig(layer=18))
adaptor.edit(tokenizer, [Edit("The capital of France is", " Lyon")])
model.generate(...)          # as usual
adaptor.save(folder); adaptor.detach()
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from lib import files, paths, seeds
from lib.errors import UserError
from lib.lemoe.router import Gate, Projection, Route, Router

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # label of places that are not target


class Edit(NamedTuple):
    """One edit: a prompt and the target that the model is to continue it with, its leading blank included."""

    prompt: str
    target: str
    subject: str | None = None


class AdaptorConfig(BaseModel):
    """The adaptor; defaults are the paper's where it gives them (layer, lambda, top-1, rate), else our choices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = 18
    scale: float = 1.0  # lambda
    expert_width: int | None = None  # None: as wide as the layer's own feed-forward network
    router_width: int = 128
    projection: Projection = "shared"
    gate: Gate = "straight_through"
    forced: bool = True  # the new expert serves its own batch while it is trained
    auxiliary: float = 1.0  # weight of the loss that lets the newest key win over the earlier ones
    anchor: Literal["instance", "entity"] = "instance"  # the mean over the prompt, or over the subject where it has one
    rate: float = 2e-4
    steps: int = 30
    seed: int = 0


class Expert(nn.Module):
    """A feed-forward network f(x) = W_2 SiLU(W_1 x); W_2 starts at zero, so that inserting it changes nothing."""

    def __init__(self, width: int, inner: int) -> None:
        """Build one expert for hidden states of `width`."""
        super().__init__()
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f(x) for hidden states (..., width)."""
        return self.leave(functional.silu(self.enter(hidden)))


class Adaptor(nn.Module):
    """h(x) = W0(x) + lambda g f_i(x) at one layer, i and g decided once per sequence from the prompt's embeddings.

    While tokens are generated with a cache, the route of the prompt stays. A bare forward pass takes all tokens that
    are not masked for the prompt; `prompt` says which are it.
    """

    def __init__(self, config: AdaptorConfig, width: int, inner: int, embedding: int) -> None:
        """Build an adaptor without experts; `attach` is the usual way."""
        super().__init__()
        self.config = config
        self.inner, self.width = config.expert_width or inner, width
        self.experts = nn.ModuleList()
        self.router = Router(embedding, config.router_width, config.projection, config.gate)
        self._hooks: list[Any] = []
        self._state: list[tuple[nn.Parameter, bool]] = []  # of the model, and which of them were trained before
        self._model: list[PreTrainedModel] = []  # in a list, so that it is no submodule
        self._prompt: Tensor | None = None
        self._forced: int | None = None
        self.last: Route | None = None

    @classmethod
    def attach(cls, model: "PreTrainedModel", config: AdaptorConfig) -> Self:
        """Freeze a model and hang an adaptor without experts beside the feed-forward part of `config.layer`.

        Raises `UserError` for an architecture whose layers are not found and for a layer that does not exist.
        """
        block = _block(model, config.layer)
        embedding = model.get_input_embeddings().weight
        inner = getattr(model.config, "intermediate_size", None) or getattr(model.config, "n_inner", None)
        width = model.config.hidden_size
        adaptor = cls(config, width, inner or 4 * width, embedding.shape[1]).to(embedding.device)
        adaptor._state = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        model.requires_grad_(False)
        adaptor._model = [model]
        adaptor._hooks = [
            model.base_model.register_forward_pre_hook(adaptor._before, with_kwargs=True),
            block.mlp.register_forward_hook(adaptor._beside),
        ]
        return adaptor

    def detach(self) -> None:
        """Take the adaptor off: the model is what it was, to the bit."""
        for hook in self._hooks:
            hook.remove()
        for parameter, trained in self._state:
            parameter.requires_grad_(trained)
        self._hooks, self._model = [], []

    def add_expert(self) -> None:
        """Insert an expert and its key for a new batch, from a stream of its own; those before are frozen."""
        number = len(self.experts)
        device = next(iter(self._model[0].parameters())).device
        with torch.random.fork_rng():
            torch.manual_seed(seeds.seed_of("expert", self.config.seed, number))
            self.experts.requires_grad_(False)
            self.experts.append(Expert(self.width, self.inner))
            self.router.add()
        self.to(device)

    def edit(self, tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit]) -> list[float]:
        """Learn a batch of edits with a new expert; returns the loss of every step, in nats a target token.

        The loss is the language model's on the target tokens, plus the auxiliary one. Raises `UserError` for no edits,
        an empty target, a target equal to its prompt, and an edit longer than the model's context.
        """
        model = self._model[0]
        ids, mask, prompt, labels = self._encode(tokenizer, edits)
        anchors = self._anchors(ids, prompt)
        self.add_expert()
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, self.config.rate)
        forced = len(self.experts) - 1 if self.config.forced else None
        losses = []
        for _ in range(self.config.steps):
            with self.prompt(prompt, forced):
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
            losses.append(loss.item())
            if len(self.experts) > 1:
                loss = loss + self.config.auxiliary * self.router.auxiliary(anchors)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return losses

    @contextmanager
    def prompt(self, mask: Tensor, forced: int | None = None) -> Iterator[None]:
        """Within this block, sequences are routed by the tokens of `mask` (sequences, tokens), or to one expert."""
        before = self._prompt, self._forced
        self._prompt, self._forced = mask, forced
        try:
            yield
        finally:
            self._prompt, self._forced = before

    def routes(self, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[int]:
        """Return the expert that serves each prompt."""
        found = []
        for text in prompts:
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            anchor = self._anchors(ids, torch.ones_like(ids))
            found.append(int(self.router.route(anchor).expert))
        return found

    def save(self, folder: Path) -> None:
        """Write the adaptor alone: adaptor.safetensors and adaptor.json."""
        tensors = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        told = {
            "config": self.config.model_dump(mode="json"),
            "experts": len(self.experts),
            "model": _identity(self._model[0]),
        }
        files.write_atomically(folder / "adaptor.safetensors", lambda path: save_file(tensors, path))
        files.write_json(folder / "adaptor.json", told)

    @classmethod
    def load(cls, folder: Path, model: "PreTrainedModel") -> Self:
        """Attach a saved adaptor to the model it was made for; logits are equal to those before saving.

        Raises `UserError` for missing or damaged files and for another model.
        """
        try:
            told = json.loads((folder / "adaptor.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "adaptor.safetensors")
            config, made_for = AdaptorConfig.model_validate(told["config"]), told["model"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(f"{paths.relative(folder)}: not a whole adaptor ({error}); save it again") from error
        if made_for != _identity(model):
            raise UserError(f"{paths.relative(folder)}: made for another model ({made_for}); load that one")
        adaptor = cls.attach(model, config)
        for _ in range(told["experts"]):
            adaptor.add_expert()
        adaptor.load_state_dict(tensors)
        return adaptor

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Decide the route of a forward pass; one that continues a cache keeps the route of its prompt."""
        past = named.get("past_key_values")
        if not len(self.experts) or (past is not None and past.get_seq_length() > 0):
            return
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is None:
            raise UserError("LEMoE routes by token ids: call the model with input_ids, not with embeddings")
        mask = self._prompt if self._prompt is not None else named.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        self.last = self.router.route(self._anchors(ids, mask), self._forced)

    def _beside(self, _: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Add the chosen experts' output to that of the feed-forward part, (sequences, tokens, width)."""
        if self.last is None:
            return output
        hidden, (expert, gate) = arguments[0], self.last
        added = torch.zeros_like(output)
        for number in expert.unique().tolist():
            rows = expert == number
            found = self.experts[number](hidden[rows].float()) * gate[rows, None, None]
            added[rows] = (self.config.scale * found).to(output.dtype)
        return output + added

    def _anchors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return e, the mean embedding of the tokens of `mask`, at root mean square 1, (sequences, embedding).

        The scale is our choice: raw embeddings are so small that no key would win clearly. In float32.
        """
        table = self._model[0].get_input_embeddings().weight
        vectors = functional.embedding(ids.to(table.device), table).float()
        weights = mask.to(vectors)
        mean = (vectors * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)
        return functional.rms_norm(mean, mean.shape[-1:], eps=1e-12)

    def _encode(
        self, tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids, mask, the mask of what is routed by, and labels, each (edits, tokens), padded on the right."""
        if not edits:
            raise UserError("no edits: give at least one")
        rows = [self._row(tokenizer, edit) for edit in edits]
        longest = max(len(ids) for ids, _, _ in rows)
        context = getattr(self._model[0].config, "max_position_embeddings", longest)
        if longest > context:
            raise UserError(f"an edit has {longest} tokens, the model's context {context}: shorten it")
        device = next(iter(self._model[0].parameters())).device

        def padded(values: list[list[int]], filling: int) -> Tensor:
            return torch.tensor([row + [filling] * (longest - len(row)) for row in values], device=device)

        ids = padded([ids for ids, _, _ in rows], 0)
        mask = padded([[1] * len(ids) for ids, _, _ in rows], 0)
        anchor = padded([anchor for _, anchor, _ in rows], 0)
        return ids, mask, anchor, padded([labels for _, _, labels in rows], IGNORED)

    def _row(self, tokenizer: "PreTrainedTokenizerBase", edit: Edit) -> tuple[list[int], list[int], list[int]]:
        if not edit.target.strip():
            raise UserError(f"the edit {edit.prompt!r} has an empty target: give one")
        if edit.target.strip() == edit.prompt.strip():
            raise UserError(f"the target of the edit {edit.prompt!r} equals its prompt: give another")
        prompt = tokenizer(edit.prompt, add_special_tokens=False)["input_ids"]
        target = tokenizer(edit.target, add_special_tokens=False)["input_ids"]
        if not prompt:
            raise UserError("an edit has an empty prompt: give one")
        anchor = self._subject(tokenizer, edit, prompt) if self.config.anchor == "entity" else [1] * len(prompt)
        return prompt + target, anchor + [0] * len(target), [IGNORED] * len(prompt) + target

    def _subject(self, tokenizer: "PreTrainedTokenizerBase", edit: Edit, prompt: list[int]) -> list[int]:
        """Mark the tokens of the subject; the whole prompt where no subject is given (instance)."""
        if edit.subject is None:
            return [1] * len(prompt)
        start = edit.prompt.find(edit.subject)
        if start < 0:
            raise UserError(f"the subject {edit.subject!r} is not in the prompt {edit.prompt!r}: correct one of them")
        before = len(tokenizer(edit.prompt[:start].rstrip(), add_special_tokens=False)["input_ids"])
        upto = len(tokenizer(edit.prompt[: start + len(edit.subject)], add_special_tokens=False)["input_ids"])
        return [int(before <= place < upto) for place in range(len(prompt))]


def _block(model: "PreTrainedModel", layer: int) -> nn.Module:
    """Return the transformer block of a layer; `UserError` where there is none."""
    blocks = getattr(model.base_model, "layers", None) or getattr(model.base_model, "h", None)
    if blocks is None or not hasattr(blocks[0], "mlp"):
        raise UserError(f"{type(model).__name__}: no layers with a feed-forward part `mlp` (Llama or GPT-2 style)")
    if not 0 <= layer < len(blocks):
        raise UserError(f"layer {layer} does not exist: {type(model).__name__} has layers 0 to {len(blocks) - 1}")
    return blocks[layer]


def _identity(model: "PreTrainedModel") -> dict[str, Any]:
    """Say which model an adaptor was made for: its architecture, its sizes and a digest of its word vectors."""
    weight = model.get_input_embeddings().weight.detach().float().cpu()
    return {
        "architecture": type(model).__name__,
        "layers": model.config.num_hidden_layers,
        "width": model.config.hidden_size,
        "vocabulary": len(weight),
        "word_vectors": round(float(weight.double().square().sum()), 6),
    }
