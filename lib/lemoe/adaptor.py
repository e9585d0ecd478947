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
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from lib import files, paths, seeds
from lib.editing import encoding, layers
from lib.editing.edits import Edit
from lib.errors import UserError
from lib.lemoe import gates, router
from lib.lemoe.experts import Expert, LoraExpert, beside, shares
from lib.lemoe.prefix import Chunk, chunked, states
from lib.lemoe.router import NONE, Route, Router

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Adaptor", "AdaptorConfig", "Edit", "Expert"]


class AdaptorConfig(BaseModel):
    """The adaptor; defaults are the paper's where it gives them, else our choices, which a notebook compares.

    A gradient reaches keys and projection from two sources: the gate, where it is no constant, and `auxiliary`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int = Field(18, ge=0)  # paper: the layer of LLaMA-2-7B
    scale: float = 1.0  # paper: lambda
    expert: Literal["ffn", "lora"] = "ffn"  # paper: a feed-forward network; its appendix: LoRA, on the down projection
    expert_width: int | None = Field(None, ge=1)  # paper silent; None: as wide as the layer's own feed-forward network
    rank: int = Field(8, ge=1)  # of a LoRA expert; paper silent
    router_width: int = Field(128, ge=1)  # of v and the keys; paper silent
    # Paper: W_down and W_up are trained with every batch, "shared", so that earlier routes move. Ours, to compare:
    # trained with the first batch only (without a null key a random projection, since the softmax of one expert is
    # constant); one for each expert, frozen with it; frozen from the start, a random projection.
    projection: router.Projection = "shared"
    # Paper: keys are "learned", by the gate's gradient and `auxiliary`. Ours: "mean", each the mean v of its batch's
    # anchors, without a gradient; in a rough trial, with a frozen projection, the most consistent routing.
    keys: router.Keys = "learned"
    # Paper: TopK of the softmax, which can be read as its value, "softmax", or as a gate of "one". Straight-through is
    # one going forward, so that an expert does not fade as others come, with the gradient of the softmax value.
    gate: router.Gate = "straight_through"
    forced: bool = True  # paper silent; the new expert serves its own batch in training, else the router decides
    auxiliary: float = Field(1.0, ge=0)  # ours: weight of -log softmax of the newest key, which so learns to win
    anchor: router.Anchor = "instance"  # paper compares the mean over the prompt or the subject, and "token": its last
    top_k: int = Field(1, ge=1)  # paper
    rate: float = Field(2e-4, gt=0)  # paper: AdamW
    steps: int = Field(30, ge=1)  # on the whole batch; paper silent
    chunk: int = Field(64, ge=1)  # edits a forward pass takes; the gradient is the whole batch's, whatever it is
    cached: bool = True  # compute what is frozen once for a batch; the same logits, only sooner
    way_out: gates.Kind | None = None  # ours: the paper has none
    threshold_on: gates.Measured = "anchor"  # distance to the nearest edit by e or v, or to the nearest key by v
    false_positives: float = Field(0.05, ge=0, le=1)  # share of unrelated texts that may get an expert all the same
    locality_weight: float = Field(1.0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        measured = self.way_out == "threshold" and self.threshold_on != "anchor"
        if self.projection == "per_expert" and (self.way_out == "null" or measured):
            raise UserError("this way out compares values v of one projection: take another than 'per_expert'")
        return self


class Adaptor(nn.Module):
    """h(x) = W0(x) + lambda g f_i(x) at one layer, i and g decided once per sequence from the prompt's embeddings.

    While tokens are generated with a cache, the route of the prompt stays. A bare forward pass takes all tokens that
    are not masked for the prompt; `prompt` says which are it.
    """

    def __init__(self, config: AdaptorConfig, inputs: int, width: int, inner: int, embedding: int) -> None:
        """Build an adaptor without experts; `attach` is the usual way."""
        super().__init__()
        self.config = config
        self.inputs, self.width, self.inner = inputs, width, config.expert_width or inner
        self.experts = nn.ModuleList()
        self.router = Router(embedding, config.router_width, config.projection, config.gate, config.keys, config.top_k)
        self.way_out = gates.WayOut(config.way_out, config.threshold_on, config.false_positives, config.seed)
        self.anchors = router.Anchors(config.anchor)
        self.trained: list[list[int]] = []  # the experts that served each batch's edits in its last step of training
        self.last: Route | None = None
        self._hooks: list[Any] = []
        self._state: list[tuple[nn.Parameter, bool]] = []  # of the model, and which of them were trained before
        self._attached: list[PreTrainedModel] = []  # in a list, so that it is no submodule
        self._site: list[nn.Module] = []
        self._shares: list[Any] = []
        self._prompt: Tensor | None = None
        self._forced: int | Tensor | None = None
        self._off, self._fixed = False, False

    @classmethod
    def attach(cls, model: "PreTrainedModel", config: AdaptorConfig) -> Self:
        """Freeze a model and hang an adaptor without experts beside the feed-forward part of `config.layer`.

        Raises `UserError` for an architecture whose layers are not found and for a layer that does not exist.
        """
        block, down = layers.block(model, config.layer), layers.down_projection(model, config.layer)
        width, inner = layers.matrix(down).shape
        site, inputs = (block.mlp, width) if config.expert == "ffn" else (down, inner)
        embedding = model.get_input_embeddings().weight
        adaptor = cls(config, inputs, width, inner, embedding.shape[1])
        adaptor._state = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        model.requires_grad_(False)
        adaptor._attached, adaptor._site = [model], [site]
        adaptor._place()
        adaptor._hooks = [
            model.base_model.register_forward_pre_hook(adaptor._before, with_kwargs=True),
            site.register_forward_hook(adaptor._beside),
        ]
        return adaptor

    @property
    def model(self) -> "PreTrainedModel":
        """Return the model; `UserError` once the adaptor is detached."""
        if not self._attached:
            raise UserError("the adaptor is detached from its model: attach a new one, or load a saved one")
        return self._attached[0]

    def detach(self) -> None:
        """Take the adaptor off: the model is what it was, to the bit."""
        for hook in self._hooks:
            hook.remove()
        for parameter, trained in self._state:
            parameter.requires_grad_(trained)
        self._hooks, self._attached, self._site, self._state = [], [], [], []

    def add_expert(self) -> None:
        """Insert an expert and its key for a new batch, from a stream of its own; those before are frozen."""
        meta = self.model.device.type == "meta"
        # Drawn on the CPU, so that an expert is the same on every device; other streams are left alone.
        with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
            torch.default_generator.manual_seed(seeds.seed_of("expert", self.config.seed, len(self.experts)))
            self.experts.requires_grad_(False)
            lora = self.config.expert == "lora"
            new = LoraExpert(self.inputs, self.config.rank, self.width) if lora else Expert(self.width, self.inner)
            self.experts.append(new)
            self.router.add()
        self._place()

    def edit(
        self, tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], unrelated: Sequence[str] = ()
    ) -> list[float]:
        """Learn a batch of edits with a new expert; returns the loss of every step, in nats a target token.

        The loss is the language model's on the target tokens, plus the auxiliary and the locality one. A way out is set
        from `unrelated` texts, which stay known to later batches. Raises `UserError` for no edits, an empty target, a
        target equal to its prompt, an edit longer than the model's context, and a way out without unrelated texts.
        """
        model = self.model
        encoded = encoding.encode_edits(model, tokenizer, edits)
        if unrelated:
            self._give(tokenizer, unrelated)
        self.way_out.require()
        anchors = self._anchors(encoded.ids, self.anchors.of_edits(tokenizer, edits, encoded))
        self.add_expert()
        self.way_out.remember(anchors)
        self._settle(anchors)
        with self.off():
            chunks = chunked(model, self.config.layer, self._site[0], encoded, self.config.chunk, self.config.cached)
        optimiser = torch.optim.AdamW([value for value in self.parameters() if value.requires_grad], self.config.rate)
        targets = int((encoded.labels != encoding.IGNORED).sum())
        losses = []
        for _ in range(self.config.steps):
            optimiser.zero_grad(set_to_none=True)
            losses.append(0.0)
            for chunk, part in zip(chunks, anchors.split(self.config.chunk), strict=True):
                loss = self._loss(chunk, self._route(part, self._trained_expert())) / targets
                losses[-1] += loss.item()
                _descend(loss)
            _descend(self._besides(anchors))
            optimiser.step()
            self.router.settle(anchors)
        self.trained.append(self._route(anchors, self._trained_expert()).expert.tolist())
        self._settle(anchors)
        return losses

    @contextmanager
    def prompt(self, mask: Tensor | None = None, forced: int | Tensor | None = None) -> Iterator[None]:
        """Within this block, sequences are routed by the tokens of `mask` (sequences, tokens), or to given experts.

        `forced` is one expert for all or one for each sequence, (sequences,), -1 for none: the oracle of an ablation
        gives each edit the number of its batch. What is not given stays as it is outside the block.
        """
        before = self._prompt, self._forced
        self._prompt = self._prompt if mask is None else mask
        self._forced = self._forced if forced is None else forced
        try:
            yield
        finally:
            self._prompt, self._forced = before

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within this block, the model answers as the unedited one."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before

    @torch.no_grad()
    def routes(self, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[int]:
        """Return the expert that serves each prompt, -1 for none; no layer of the model is run for it."""
        found: list[int] = []
        for start in range(0, len(prompts), 256):
            ids, mask = router.encoded_texts(self.model, tokenizer, prompts[start : start + 256])
            found += self._route(self._anchors(ids, self.anchors.of_prompts(ids, mask))).expert.tolist()
        return found

    def save(self, folder: Path) -> None:
        """Write the adaptor alone, in one file, adaptor.safetensors: what was written last is whole, or not there."""
        tensors = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        told = {
            "config": self.config.model_dump(mode="json"),
            "experts": len(self.experts),
            "subjects": sorted(self.anchors.subjects),
            "trained": self.trained,
            "model": _identity(self.model, self.config.layer),
        }
        metadata = {"adaptor": json.dumps(told)}
        files.write_atomically(folder / "adaptor.safetensors", lambda path: save_file(tensors, path, metadata))

    @classmethod
    def load(cls, folder: Path, model: "PreTrainedModel") -> Self:
        """Attach a saved adaptor to the model it was made for; logits, and further edits, are those without the pause.

        Raises `UserError` for missing or damaged files and for another model.
        """
        try:
            with safe_open(folder / "adaptor.safetensors", "pt") as file:
                told = json.loads((file.metadata() or {})["adaptor"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config, made_for = AdaptorConfig.model_validate(told["config"]), told["model"]
            experts, subjects, trained = told["experts"], told["subjects"], told["trained"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(f"{paths.relative(folder)}: not a whole adaptor ({error}); save it again") from error
        if made_for != _identity(model, min(config.layer, len(layers.blocks(model)) - 1)):
            raise UserError(f"{paths.relative(folder)}: made for another model ({made_for}); load that one")
        adaptor = cls.attach(model, config)
        for _ in range(experts):
            adaptor.add_expert()
        for name, _ in list(adaptor.way_out.named_buffers()):  # copied: a file's memory is aligned otherwise
            setattr(adaptor.way_out, name, tensors.get(f"way_out.{name}", torch.empty(0)).clone())
        try:
            adaptor.load_state_dict(tensors)
        except RuntimeError as error:
            adaptor.detach()
            raise UserError(f"{paths.relative(folder)}: not a whole adaptor (its tensors); save it again") from error
        adaptor._place()
        adaptor.anchors.subjects, adaptor.trained = {tuple(subject) for subject in subjects}, trained
        return adaptor

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Decide the route of a forward pass; one that continues a cache keeps the route of its prompt."""
        past = named.get("past_key_values")
        if self._off or self._fixed or not len(self.experts) or (past is not None and past.get_seq_length() > 0):
            return
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is None:
            raise UserError("LEMoE routes by token ids: call the model with input_ids, not with embeddings")
        given = named.get("attention_mask") if self._prompt is None else _for_beams(self._prompt, len(ids))
        mask = torch.ones_like(ids) if given is None else given
        if mask.ndim != 2 or len(mask) != len(ids) or (self._prompt is None and mask.shape != ids.shape):
            raise UserError(
                "LEMoE routes by a prompt mask (sequences, tokens): give one of the batch's shape (`prompt`)"
            )
        # Without a cache the whole text comes again with every token: what is beyond the mask is no prompt.
        mask = functional.pad(mask, (0, ids.shape[1] - mask.shape[1]))
        forced = _for_beams(self._forced, len(ids))
        self._serve(self._route(self._anchors(ids, self.anchors.of_prompts(ids, mask)), forced))

    def _serve(self, route: Route) -> None:
        self.last, self._shares = route, shares(route)

    def _beside(self, _: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Add the chosen experts' output to that of the feed-forward part, (sequences, tokens, width)."""
        if self._off or self.last is None:
            return output
        if len(self.last.experts) != len(output):
            raise UserError("the cache is of another batch than the last prompts: run the prompts again")
        return beside(self.experts, self._shares, arguments[0], output, self.config.scale)

    def _route(self, anchors: Tensor, forced: int | Tensor | None = None) -> Route:
        route = self.router.route(anchors, forced, self.way_out.key())
        far = self.way_out.leaves(self.router, anchors) if forced is None else None
        if far is None:
            return route
        return Route(route.experts.masked_fill(far[:, None], NONE), route.gates.masked_fill(far[:, None], 0))

    def _trained_expert(self) -> int | None:
        return len(self.experts) - 1 if self.config.forced else None

    def _loss(self, chunk: Chunk, route: Route) -> Tensor:
        """Return the sum over target tokens of -log p under a route; both ways compute the same."""
        self._serve(route)
        self._fixed = True
        try:
            logits = chunk.logits(
                self.model, lambda hidden, output: beside(self.experts, self._shares, hidden, output, self.config.scale)
            )
        finally:
            self._fixed = False
        return functional.cross_entropy(logits.float(), chunk.wanted, reduction="sum")

    def _besides(self, anchors: Tensor) -> Tensor:
        """Return the losses on the router and on unrelated texts, weighted; with one choice there is none to learn."""
        loss, null = torch.zeros((), device=anchors.device), self.way_out.key()
        if len(self.router) > 1 or null is not None:
            loss = loss + self.config.auxiliary * self.router.auxiliary(anchors, null)
        if null is not None:
            loss = loss + self.config.auxiliary * self.router.auxiliary(self.way_out.unrelated, null, NONE)
        if self.config.way_out == "locality_loss":
            loss = loss + self.config.locality_weight * self.way_out.loss(self.experts[-1], self.config.scale)
        return loss

    def _settle(self, anchors: Tensor) -> None:
        self.router.settle(anchors)
        self.way_out.calibrate(self.router)

    def _anchors(self, ids: Tensor, mask: Tensor) -> Tensor:
        return router.mean_embedding(self.model.get_input_embeddings().weight, ids, mask)

    @torch.no_grad()
    def _give(self, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> None:
        """Show unrelated texts to the way out."""
        ids, mask = router.encoded_texts(self.model, tokenizer, texts)
        found = []
        if self.config.way_out == "locality_loss":
            with self.off():
                found = [
                    states(self.model, self._site[0], *part)
                    for part in zip(ids.split(self.config.chunk), mask.split(self.config.chunk), strict=True)
                ]
        self.way_out.give(self._anchors(ids, self.anchors.of_prompts(ids, mask)), found)

    def _place(self) -> None:
        """Put the experts where their layer is and the router where the embeddings are."""
        self.experts.to(next(self._site[0].parameters()).device)
        for module in (self.router, self.way_out):
            module.to(self.model.get_input_embeddings().weight.device)


def _for_beams(value: Any, sequences: int) -> Any:
    """Repeat what is told of each prompt for its beams, which stand together; one value for all stays."""
    if not isinstance(value, Tensor) or not value.ndim or len(value) == sequences:
        return value
    if sequences % len(value):
        raise UserError(f"told the route of {len(value)} prompts, asked {sequences}: give one for each sequence")
    return value.repeat_interleave(sequences // len(value), 0)


def _descend(loss: Tensor) -> None:
    """Add a loss's gradient, if it has one: a router without gradient may send a batch to frozen experts only."""
    if loss.requires_grad:
        loss.backward()


def _identity(model: "PreTrainedModel", layer: int) -> dict[str, Any]:
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
