"""The conventional mixture-of-experts adaptor: LEMoE's ablation, with a router that decides for each token.

editor = Conventional(model, tokenizer, ConventionalConfig(layer=18))
editor.edit(batch)             # adds an expert; those before are frozen
editor.agreement(batch)        # share of tokens still served as they were in training
editor.restore()
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.causal_lm.edits import Edit, as_edits
from lib.causal_lm.encoding import Encoded, encode, encode_edits
from lib.causal_lm.layers import block, down_projection, hang, matrix
from lib.causal_lm.upper_layers import UpperLayers, check_loss, targets
from lib.editing.editor import Editor, State, Switchable
from lib.errors import UserError
from lib.lemoe.config import Scale, Stopping
from lib.lemoe.experts import Expert
from lib.settings import of_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Conventional", "ConventionalConfig"]

Asked = tuple[str, str]  # a prompt and its answer


class MixtureConfig(Stopping):
    """What adaptors with a router over tokens share; layer, lambda and top-1 are LEMoE's, the rest our choice.

    `python -m lib.benchmarks.library_defaults` compares rates: with none of them earlier batches are kept.
    """

    layer: NonNegativeInt = 18
    k: PositiveInt = 1  # experts that serve a token
    scale: Scale = 1.0  # lambda
    expert_width: PositiveInt | None = None  # None: as wide as the layer's own feed-forward network
    rate: PositiveFloat = 2e-4
    steps: PositiveInt = 30  # each over the whole batch of edits, at most (`Stopping`)
    chunk: PositiveInt = 64  # sequences that run at once in a step; bounds memory, leaves the gradient as it is
    seed: NonNegativeInt = 0

    @classmethod
    def paper(cls, **settings: Any) -> Self:
        """Return the papers' rate, with some settings changed."""
        return cls(**{"rate": 2e-4, **settings})


class ConventionalConfig(MixtureConfig):
    """The conventional adaptor; the width of the router's hidden layer is our choice (that of LEMoE's projection)."""

    router_width: PositiveInt = 128
    rate: PositiveFloat = 3e-3  # of AdamW; paper: 2e-4, at which a small model's edits are not learnt in 30 steps


class TokenRoute(NamedTuple):
    """Experts that serve each token, best first, and their weights, each (sequences, tokens, k)."""

    expert: Tensor
    gate: Tensor


def top_k(scores: Tensor, k: int) -> TokenRoute:
    """Return the k largest of a softmax over scores (..., experts), not brought to sum one; all where fewer exist."""
    gate, expert = scores.softmax(-1).topk(min(k, scores.shape[-1]), -1)
    return TokenRoute(expert, gate)


def mixed(experts: nn.ModuleList, hidden: Tensor, route: TokenRoute) -> Tensor:
    """Return sum_i g_i f_i(x) over the experts of each token, (sequences, tokens, width); others are not run."""
    flat, chosen, gates = hidden.flatten(0, -2), route.expert.flatten(0, -2), route.gate.flatten(0, -2)
    total = torch.zeros_like(flat)
    for number in chosen.unique().tolist():
        rows, place = (chosen == number).nonzero(as_tuple=True)
        total = total.index_add(0, rows, experts[number](flat[rows]) * gates[rows, place, None])
    return total.view_as(hidden)


class TokenMixture(Switchable, Editor):
    """Experts beside one feed-forward layer, h(x) = W0(x) + lambda sum_i g_i(x) f_i(x), g decided for each token.

    `last` is the route of this thread's last forward pass; `trained` holds, for each edit's (prompt, target), the
    experts that served its tokens in the last step of its training, (tokens, k); `losses` those of the last batch, in
    nats a token.
    """

    losses: list[float]

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: MixtureConfig) -> None:
        """Take a model; `UserError` for an architecture or a layer that is not there."""
        self.block = block(model, config.layer)
        super().__init__(model, tokenizer)
        self.config = config
        self.width, inner = matrix(down_projection(model, config.layer)).shape
        self.inner = config.expert_width or inner
        self._hooks: list[Any] = []
        self._reset()

    @property
    def last(self) -> TokenRoute | Any:
        """Return the route of this thread's last pass; None before the first."""
        return self.hand.seen

    @abstractmethod
    def scores(self, hidden: Tensor) -> Tensor:
        """Return the router's scores of all experts, before the softmax, (sequences, tokens, experts)."""

    @abstractmethod
    def grow(self) -> None:
        """Make what a new batch is learnt with, and leave `requires_grad` on what of `parts` it trains."""

    def parts(self) -> nn.ModuleList:
        """Return experts and router: all that the adaptor holds."""
        return nn.ModuleList([self.experts, self.router])

    def _learn(self, batch: Sequence[Edit]) -> None:
        """Learn a batch by AdamW on the language model's loss of the target tokens.

        Raises `UserError` as `encode_edits` does, before anything changes.
        """
        encode_edits(self.model, self.tokenizer, batch)
        if not self._hooks:
            self._hooks = self.hooks()
        number = self.learnt
        with seeded(seeds.seed_of(type(self).__name__, self.config.seed, number)):
            self.grow()
        self.parts().to(self.model.device)
        ordered = sorted(batch, key=lambda edit: len(edit.prompt) + len(edit.target))  # like lengths: little padding
        chunks = [ordered[start : start + self.config.chunk] for start in range(0, len(ordered), self.config.chunk)]
        uppers = [
            UpperLayers(self.model, encode_edits(self.model, self.tokenizer, chunk), self.config.layer)
            for chunk in chunks
        ]
        weights = [parameter for parameter in self.parts().parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(weights, self.config.rate)
        contexts = [self.context(upper.encoded) for upper in uppers]
        count, self.losses = targets(uppers), []
        for _ in range(self.config.steps):
            loss, right, routes = 0.0, True, []
            for upper, context in zip(uppers, contexts, strict=True):
                with self.training(context):
                    losses, best, _ = upper.losses()
                part = losses.sum() / count
                part.backward()
                loss, right = loss + part.item(), right and bool(best.all())
                routes.append(self.last)
            check_loss(loss)
            self.losses.append(loss)
            if not (learnt := self.config.is_learnt(loss, right)):
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)  # the next batch trains the same router
            if learnt:
                break
        for chunk, upper, route in zip(chunks, uppers, routes, strict=True):
            self._record(chunk, upper.encoded, route)
        self.learnt += 1

    def hooks(self) -> list[Any]:
        """Hang the adaptor on the model; returns the hooks' handles."""
        return hang(self.block, "feed_forward", self._add_experts)

    def context(self, read: Encoded) -> Any:
        """Return what the router is told of sequences beside their hidden states; it stays while they are trained."""
        del read
        return None

    def training(self, context: Any) -> AbstractContextManager[object]:
        """Return the block within which a step of training runs on the sequences of a context."""
        del context
        return nullcontext()

    def in_place(self) -> list[nn.Module]:
        """Return experts and router, which a batch may train further."""
        return [self.parts()]

    def memory(self) -> int:
        """Return the bytes of experts and router."""
        return sum(value.numel() * value.element_size() for value in self.parts().parameters())

    def restore(self) -> None:
        """Take the adaptor off and forget it; the model's own weights were never touched."""
        for hook in self._hooks:
            hook.remove()
        self._reset()
        super().restore()

    @torch.inference_mode()
    def routes(self, asked: Sequence[Asked], batch_size: int = 32) -> list[Tensor]:
        """Return the experts that serve each token of (prompt, answer) pairs now, each (tokens, k).

        Raises `UserError` before the first edit, `ValueError` for a batch size below 1.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}: give a whole number, at least 1")
        if not len(self.experts):
            raise UserError("the adaptor has no expert yet: edit first")
        found = []
        for start in range(0, len(asked), batch_size):
            read = encode(self.model, self.tokenizer, asked[start : start + batch_size])
            with self.reading(read.prompt):
                self.model.base_model(input_ids=read.ids, attention_mask=read.mask, use_cache=False)
            found += _of_each(self.last, read)
        return found

    def route_agreement(self, batches: Sequence[Sequence[Edit]]) -> list[dict[str, Any]]:
        """Return one row a batch: the `agreement` of its edits."""
        return [{"batch": number, "agreement": self.agreement(batch)} for number, batch in enumerate(batches)]

    def agreement(self, edits: Sequence[Edit]) -> float:
        """Return how far edits are still served as in training, in [0, 1] (Figure 2).

        It is the share of (token, expert) pairs of training that still hold, pooled over all tokens of prompts and
        targets. Raises `UserError` for an edit that was not learnt.
        """
        asked = [(edit.prompt, edit.target) for edit in as_edits(edits)]
        if not asked:
            raise UserError("no edits: give at least one")
        for prompt, target in asked:
            if (prompt, target) not in self.trained:
                raise UserError(f"the edit {prompt!r} to {target!r} was not learnt: edit it first")
        then, now = [self.trained[pair] for pair in asked], [route.cpu() for route in self.routes(asked)]
        held = [(one[:, :, None] == two[:, None, :]).any(-1) for one, two in zip(then, now, strict=True)]
        return torch.cat([pairs.flatten() for pairs in held]).float().mean().item()

    def _reset(self) -> None:
        self.experts: nn.ModuleList = nn.ModuleList()
        self.router: nn.Module = nn.Module()
        self.learnt = 0  # batches
        self.hand.seen = self.hand.decision = None
        self.trained: dict[Asked, Tensor] = {}
        self.losses = []
        self._hooks = []

    def saved_state(self) -> State:
        """Return experts and router, and the experts that served each edit in training."""
        trained = [[*asked, route.tolist()] for asked, route in self.trained.items()]
        return self.parts().state_dict(), {"learnt": self.learnt, "trained": trained, "losses": self.losses}

    def take_state(self, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Take what `saved_state` returned; raises as `Editor.take_state`."""
        with seeded(self.config.seed):  # drawn numbers are overwritten, and nobody else's stream is
            for self.learnt in range(int(told["learnt"])):
                self.grow()
        self.learnt = int(told["learnt"])
        self.parts().to(self.model.device).load_state_dict(dict(tensors))
        self.trained = {(prompt, target): torch.tensor(route) for prompt, target, route in told["trained"]}
        self.losses = [float(loss) for loss in told["losses"]]
        self._hooks = self.hooks()

    def _record(self, chunk: Sequence[Edit], read: Encoded, found: TokenRoute) -> None:
        for edit, route in zip(chunk, _of_each(found, read), strict=True):
            self.trained[edit.prompt, edit.target] = route.cpu()

    def _add_experts(self, entering: Tensor, output: Tensor) -> Tensor:
        """Add the experts' output to that of the feed-forward part, (sequences, tokens, width)."""
        if self.hand.off or not len(self.experts):
            return output
        hidden = entering.float()
        route = top_k(self.scores(hidden), self.config.k)
        self.hand.seen = TokenRoute(route.expert, route.gate.detach())
        return output + (self.config.scale * mixed(self.experts, hidden, route)).to(output.dtype)


class Router(nn.Module):
    """An MLP over a token's hidden state, with one output row for each expert."""

    def __init__(self, width: int, inner: int) -> None:
        """Build a router without outputs for hidden states of `width`."""
        super().__init__()
        self.enter, self.rows = nn.Linear(width, inner), nn.ParameterList()

    def add(self) -> None:
        """Add the output row of a new expert."""
        inner = self.enter.out_features
        self.rows.append(nn.Parameter(torch.randn(inner) / inner**0.5))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return scores (..., experts) for hidden states (..., width)."""
        return functional.silu(self.enter(hidden)) @ torch.stack(list(self.rows)).T


class Conventional(TokenMixture):
    """Batch t adds an expert and a router output (section "Conventional routing, the ablation" of the paper sheet).

    Earlier experts are frozen; the router is trained whole at every batch, and no expert is forced (our choices: the
    sheet says only that routing is the same MLP in training and at inference).
    """

    config: ConventionalConfig
    router: Router

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: ConventionalConfig | None = None
    ) -> None:
        """Take a model; `UserError` for an architecture or a layer that is not there."""
        config = ConventionalConfig() if config is None else of_kind(config, ConventionalConfig)
        super().__init__(model, tokenizer, config)

    def grow(self) -> None:
        """Insert the expert and the router output of a new batch; the experts before are frozen."""
        if not len(self.experts):
            self.router = Router(self.width, self.config.router_width)
        self.experts.requires_grad_(False)
        self.experts.append(Expert(self.width, self.inner))
        self.router.add()

    def in_place(self) -> list[nn.Module]:
        """Return the router: the experts of earlier batches are frozen."""
        return [self.router]

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the router's scores, (sequences, tokens, experts)."""
        return self.router(hidden)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this block torch's generator of the CPU runs from `seed`; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _of_each(route: TokenRoute, read: Encoded) -> list[Tensor]:
    """Return the experts of each sequence's own tokens, each (tokens, k)."""
    return [expert[:length] for expert, length in zip(route.expert, read.mask.sum(1).tolist(), strict=True)]
