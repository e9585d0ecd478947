"""The adaptor: experts beside one feed-forward layer of a Llama- or GPT-2-style model, chosen once per sequence.

adaptor = Adaptor.attach(model, AdaptorConfig(layer=18))
adaptor.edit(tokenizer, [Edit("The capital of France is", " Lyon")])
model.generate(...)          # as usual
adaptor.save(folder); adaptor.detach()
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import paths, seeds
from lib.causal_lm import encoding, holds, layers
from lib.causal_lm.edits import Edit, Given, as_edits, texts
from lib.causal_lm.passes import Decision, Hand, Passes
from lib.causal_lm.upper_layers import UpperLayers, check_loss, chunked, targets
from lib.editing.editor import State, Switchable
from lib.editing.undoing import Before, whole
from lib.errors import UserError
from lib.lemoe import rejection, router, saved
from lib.lemoe.config import AdaptorConfig
from lib.lemoe.experts import Expert, LoraExpert, shares, with_experts
from lib.lemoe.rejection import Rejection
from lib.lemoe.router import NONE, Route, Router
from lib.settings import of_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Adaptor", "AdaptorConfig", "Edit", "Expert"]


class Adaptor(Switchable, nn.Module):
    """h(x) = W0(x) + lambda g f_i(x) at one layer, i and g decided once per sequence from the prompt's embeddings.

    The route of a prompt stays with its cache, and within one `generate` also without a cache (`causal_lm.passes` has
    the rules). A bare forward pass takes all tokens that are not masked for the prompt; `prompt` says which are it.
    """

    def __init__(self, config: AdaptorConfig, inputs: int, width: int, inner: int, embedding: int) -> None:
        """Build an adaptor without experts; `attach` is the usual way."""
        super().__init__()
        self.config = config
        self.inputs, self.width, self.inner = inputs, width, config.expert_width or inner
        self.experts = nn.ModuleList()
        self.router = Router(embedding, config.router_width, config.projection, config.gate, config.keys, config.top_k)
        self.rejection = Rejection(config.rejection, config.rejection_distance, config.false_positives, config.seed)
        self.anchors = router.Anchors(config.anchor)
        self.trained: list[list[int]] = []  # the experts that served each batch's edits in its last step of training
        self.hand = Hand()
        self._by_hooks = False  # the part has no module whose inputs and output it sees: it is trained through hooks
        self._hooks: list[Any] = []
        self._attached: list[PreTrainedModel] = []  # in a list, so that it is no submodule
        self._site: list[nn.Module] = []

    @classmethod
    def attach(cls, model: "PreTrainedModel", config: AdaptorConfig) -> Self:
        """Freeze a model and hang an adaptor without experts beside the feed-forward part of `config.layer`.

        Raises `UserError` for an architecture whose layers are not found, for a layer that does not exist and for a
        model without a head; `TypeError` for what is no model or no `AdaptorConfig`.
        """
        config = of_kind(config, AdaptorConfig)
        block, down = layers.block(model, config.layer), layers.down_projection(model, config.layer)
        width, inner = layers.matrix(down).shape
        whole = config.expert == "ffn"
        feed = layers.feed_forward(block) if whole else down
        if model.get_output_embeddings() is None:
            raise UserError(f"model {type(model).__name__} has no head: load it as a causal language model")
        embedding = model.get_input_embeddings().weight
        adaptor = cls(config, width if whole else inner, width, inner, embedding.shape[1])
        holds.take(model, adaptor)
        adaptor._attached, adaptor._site = [model], [down if feed is None else feed]
        adaptor._by_hooks = feed is None or (not whole and layers.feed_forward(block) is None)
        adaptor._place()
        adaptor._hooks = [
            Passes(model, adaptor.hand, adaptor._decide_route, lambda: not len(adaptor.experts)),
            *layers.hang(block, "feed_forward" if whole else "down", adaptor._add_experts),
        ]
        return adaptor

    @property
    def last(self) -> Route | None:
        """Return the route of this thread's last pass; None before the first."""
        return None if self.hand.decision is None else Route(*self.hand.decision.values)

    @property
    def model(self) -> "PreTrainedModel":
        """Return the model; `UserError` once the adaptor is detached."""
        if not self._attached:
            raise UserError("the adaptor is detached from its model: attach a new one, or load a saved one")
        return self._attached[0]

    def detach(self) -> None:
        """Take the adaptor off; with the last of a model's, in any order, it is what it was, to the bit."""
        for hook in self._hooks:
            hook.remove()
        for model in self._attached:
            holds.leave(model, self)
        self._hooks, self._attached, self._site = [], [], []

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
        self, tokenizer: "PreTrainedTokenizerBase", edits: Iterable[Given], unrelated: Iterable[str] = ()
    ) -> list[float]:
        """Learn a batch of edits with a new expert, whole or not at all; returns the loss before every step.

        The loss is the language model's on the target tokens, in nats a token, plus the auxiliary and the locality one.
        Rejection is set from `unrelated` texts, which stay known to later batches. Whatever is raised, the adaptor is
        as it was: `UserError` for no edits, an empty target, a target equal to its prompt, an edit longer than the
        model's context, and rejection without unrelated texts; `DivergedError` for a loss or weights that are not
        finite; `TypeError` and `ValueError` that name the argument of another type.
        """
        found, known = as_edits(edits), texts(unrelated, "unrelated")
        encoding.check_tokenizer(tokenizer)
        with whole(Before(self, self.model, [self.router], apart=[tokenizer])):
            return self._learn(tokenizer, found, known)

    def _learn(
        self, tokenizer: "PreTrainedTokenizerBase", edits: Sequence[Edit], unrelated: Sequence[str]
    ) -> list[float]:
        """Learn a batch; what it raises undoes all that it has done."""
        model = self.model
        encoded = encoding.encode_edits(model, tokenizer, edits)
        if unrelated:
            self._set_unrelated(tokenizer, unrelated)
        self.rejection.require_unrelated()
        anchors = self._anchors(encoded.ids, self.anchors.of_edits(tokenizer, edits, encoded))
        self.add_expert()
        self.rejection.add_edits(anchors)
        self._calibrate(anchors)
        site = None if self._by_hooks else self._site[0]
        with self.off():
            config = self.config
            chunks = chunked(model, encoded, config.layer, config.chunk, site, config.cached, config.packed)
        trained = [value for value in self.parameters() if value.requires_grad]
        optimiser = torch.optim.AdamW(trained, self.config.rate, weight_decay=self.config.decay)
        count, losses = targets(chunks), []
        for _ in range(self.config.steps):
            optimiser.zero_grad(set_to_none=True)
            losses.append(0.0)
            right = True
            for chunk, part in zip(chunks, anchors.split(self.config.chunk), strict=True):
                total, best = self._loss(chunk, self._route(part, self._trained_expert()))
                loss, right = total / count, right and bool(best.all())
                losses[-1] += loss.item()
                _backward(loss)
            check_loss(losses[-1])
            if self.config.is_learnt(losses[-1], right):
                break
            _backward(self._auxiliary_loss(anchors))
            optimiser.step()
            self.router.set_key(anchors)
        self.trained.append(self._route(anchors, self._trained_expert()).expert.tolist())
        self._calibrate(anchors)
        return losses

    @contextmanager
    def prompt(self, mask: Tensor | None = None, forced: int | Tensor | None = None) -> Iterator[None]:
        """Within this block, sequences are routed by the tokens of `mask` (sequences, tokens), or to given experts.

        `forced` is one expert for all or one for each sequence, (sequences,), -1 for none: the oracle of an ablation
        gives each edit the number of its batch. What is not given stays as it is outside the block. Raises `TypeError`
        for a mask that is no such tensor, `TypeError` or `ValueError` for an expert that is not there.
        """
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
            raise TypeError("mask is no tensor (sequences, tokens): give one, 1 at the tokens of the prompt")
        router.check_forced(forced, len(self.experts))
        hand = self.hand
        before = hand.prompt, hand.forced
        hand.prompt = hand.prompt if mask is None else mask
        hand.forced = hand.forced if forced is None else forced
        try:
            yield
        finally:
            hand.prompt, hand.forced = before

    @torch.no_grad()
    def routes(self, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[int]:
        """Return the expert that serves each prompt, -1 for none; no layer of the model is run for it.

        Raises `UserError` for a prompt without tokens and before the first edit, `TypeError` for what is no list of
        texts.
        """
        found: list[int] = []
        prompts = self._asked(prompts)
        for start in range(0, len(prompts), 256):
            ids, mask = router.encoded_texts(self.model, tokenizer, prompts[start : start + 256])
            found += self._route(self._anchors(ids, self.anchors.of_prompts(ids, mask))).expert.tolist()
        return found

    @torch.no_grad()
    def values(self, tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> Tensor:
        """Return v of each prompt's anchor, (prompts, router width); no layer of the model is run for it.

        Raises as `routes` does, and `ValueError` for no prompts.
        """
        prompts = self._asked(prompts)
        if not prompts:
            raise ValueError("prompts is empty: give at least one")
        ids, mask = router.encoded_texts(self.model, tokenizer, prompts)
        return self.router.values(self._anchors(ids, self.anchors.of_prompts(ids, mask)))

    def _asked(self, prompts: Iterable[str]) -> list[str]:
        found = texts(prompts, "prompts")
        if found and not len(self.experts):
            raise UserError("the adaptor has no expert yet: edit first")
        return found

    def save(self, folder: str | Path) -> None:
        """Write the adaptor alone, in one file, adaptor.safetensors: what was written last is whole, or not there.

        Raises `UserError` where the folder cannot be written to, `TypeError` for what is no path.
        """
        metadata = {
            "config": self.config.model_dump(mode="json"),
            "experts": len(self.experts),
            "subjects": sorted(self.anchors.subjects),
            "trained": self.trained,
        }
        saved.write(folder, self.model, self.config.layer, self.state_dict(), metadata)

    @classmethod
    def load(cls, folder: str | Path, model: "PreTrainedModel") -> Self:
        """Attach a saved adaptor to the model it was made for; logits, and further edits, are those without the pause.

        Raises `UserError` for missing or damaged files and for another model, `TypeError` for what is no path or no
        model; nothing is then left on the model.
        """
        found = saved.read(folder, model)
        adaptor = cls.attach(model, found.config)
        try:
            for _ in range(found.experts):
                adaptor.add_expert()
            for name, _ in list(adaptor.rejection.named_buffers()):  # copied: a file's memory is aligned otherwise
                setattr(adaptor.rejection, name, found.tensors.get(f"rejection.{name}", torch.empty(0)).clone())
            adaptor.load_state_dict(found.tensors)
            adaptor._place()
        except BaseException as error:
            adaptor.detach()
            if isinstance(error, RuntimeError):
                raise UserError(
                    f"{paths.relative(Path(folder))}: not a whole adaptor (tensors); save it again"
                ) from error
            raise
        adaptor.anchors.subjects, adaptor.trained = found.subjects, found.trained
        return adaptor

    def saved_state(self) -> State:
        """Return all tensors, the count of experts, the subjects known and the routes of training."""
        told = {
            "experts": len(self.experts),
            "subjects": sorted(map(list, self.anchors.subjects)),
            "trained": self.trained,
        }
        return self.state_dict(), told

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned, before the first edit; `KeyError`, `ValueError` or `RuntimeError` else."""
        for _ in range(int(told["experts"])):
            self.add_expert()
        for name, _ in list(self.rejection.named_buffers()):  # their sizes are the state's
            setattr(self.rejection, name, torch.empty_like(tensors[f"rejection.{name}"]))
        self.load_state_dict(dict(tensors))
        self._place()
        self.anchors.subjects = {tuple(int(token) for token in subject) for subject in told["subjects"]}
        self.trained = [[int(expert) for expert in batch] for batch in told["trained"]]

    def _decide_route(self, ids: Tensor | None, mask: Tensor) -> Decision:
        """Decide the route of new prompts, ids and mask (sequences, tokens)."""
        if ids is None:
            raise UserError("LEMoE routes by token ids: call the model with input_ids, not with embeddings")
        said = self.hand.prompt is not None
        mask = _for_beams(mask, len(ids)) if said else mask
        if len(mask) != len(ids) or (not said and mask.shape != ids.shape):
            raise UserError(
                "LEMoE routes by a prompt mask (sequences, tokens): give one of the batch's shape (`prompt`)"
            )
        # A bare pass without a cache may hold more than the prompt: what is beyond the mask is none.
        mask = functional.pad(mask, (0, ids.shape[1] - mask.shape[1]))
        forced = _for_beams(self.hand.forced, len(ids))
        return _decided(self._route(self._anchors(ids, self.anchors.of_prompts(ids, mask)), forced))

    def _add_experts(self, hidden: Tensor, output: Tensor) -> Tensor:
        """Add the chosen experts' output to that of the feed-forward part, (sequences, tokens, width)."""
        if self.hand.off or self.hand.decision is None:
            return output
        if len(self.hand.decision) != len(output):
            raise UserError("the cache is of another batch than the last prompts: run the prompts again")
        return self._with_experts(hidden, output)

    def _with_experts(self, hidden: Tensor, output: Tensor) -> Tensor:
        decision = self.hand.decision
        assert decision is not None
        if decision.prepared is None:
            decision.prepared = shares(Route(*decision.values))
        limit = self.config.norm_limit
        return with_experts(self.experts, decision.prepared, hidden, output, self.config.scale, limit)

    def _route(self, anchors: Tensor, forced: int | Tensor | None = None) -> Route:
        route = self.router.route(anchors, forced, self.rejection.null_key())
        rejected = self.rejection.rejects(self.router, anchors) if forced is None else None
        if rejected is None:
            return route
        return Route(route.experts.masked_fill(rejected[:, None], NONE), route.gates.masked_fill(rejected[:, None], 0))

    def _trained_expert(self) -> int | None:
        return len(self.experts) - 1 if self.config.force_new_expert else None

    def _loss(self, chunk: UpperLayers, route: Route) -> tuple[Tensor, Tensor]:
        """Return the sum over target tokens of -log p under a route, and which of these tokens are the most likely."""
        self.hand.decision = _decided(route)
        if not self._by_hooks:
            with self.off():  # here the experts are beside the layer without the hook
                losses, best, _ = chunk.losses(change=self._with_experts)
                return losses.sum(), best
        self.hand.fixed = True
        try:
            losses, best, _ = chunk.losses()
            return losses.sum(), best
        finally:
            self.hand.fixed = False

    def _auxiliary_loss(self, anchors: Tensor) -> Tensor:
        """Return the losses on the router and on unrelated texts, weighted; with one choice there is none to learn."""
        loss, null = torch.zeros((), device=anchors.device), self.rejection.null_key()
        if len(self.router) > 1 or null is not None:
            loss = loss + self.config.auxiliary_weight * self.router.auxiliary(anchors, null)
        if null is not None:
            loss = loss + self.config.auxiliary_weight * self.router.auxiliary(self.rejection.unrelated, null, NONE)
        if self.config.rejection == "locality_loss":
            loss = loss + self.config.locality_weight * self.rejection.loss(self.experts[-1], self.config.scale)
        return loss

    def _calibrate(self, anchors: Tensor) -> None:
        self.router.set_key(anchors)
        self.rejection.calibrate(self.router)

    def _anchors(self, ids: Tensor, mask: Tensor) -> Tensor:
        return router.mean_embedding(self.model.get_input_embeddings().weight, ids, mask)

    @torch.no_grad()
    def _set_unrelated(self, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> None:
        """Take the unrelated texts that rejection is set from."""
        ids, mask = router.encoded_texts(self.model, tokenizer, texts)
        found = []
        if self.config.rejection == "locality_loss":
            whole = self.config.expert == "ffn"
            with self.off():
                found = [
                    rejection.states(self.model, self.config.layer, "feed_forward" if whole else "down", *part)
                    for part in zip(ids.split(self.config.chunk), mask.split(self.config.chunk), strict=True)
                ]
        self.rejection.set_unrelated(self._anchors(ids, self.anchors.of_prompts(ids, mask)), found)

    def _place(self) -> None:
        """Put the experts where their layer is and the router where the embeddings are."""
        self.experts.to(next(self._site[0].parameters()).device)
        for module in (self.router, self.rejection):
            module.to(self.model.get_input_embeddings().weight.device)


def _decided(route: Route) -> Decision:
    """Return a route as what was decided for its sequences, with the share of each expert."""
    return Decision((route.experts, route.gates), shares(route))


def _for_beams(value: Any, sequences: int) -> Any:
    """Repeat what is given for each prompt for its beams, which stand together; one value for all stays."""
    if not isinstance(value, Tensor) or not value.ndim or len(value) == sequences:
        return value
    if sequences % len(value):
        raise UserError(f"given the route of {len(value)} prompts, asked {sequences}: give one for each sequence")
    return value.repeat_interleave(sequences // len(value), 0)


def _backward(loss: Tensor) -> None:
    """Add a loss's gradient, if it has one: a router without gradient may send a batch to frozen experts only."""
    if loss.requires_grad:
        loss.backward()
