"""How much sooner edits are learnt than by plain code, beside what counting products promises and what they take bare.

Both sides take the same steps on the same texts, turn about, by the processor's time. "equal" learns the same edits in
one batch on both sides, "one by one" has the plain code learn them in turn and ours at once.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.benchmarks import plain_editing
from lib.benchmarks.products import Needed, Work, multiply
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import IGNORED, Encoded, encode_edits, prompt_tokens
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.grace import Grace, GraceConfig
from lib.editing.located import Row, locate
from lib.editing.values import ValueConfig, optimise
from lib.editing.wise import Wise, WiseConfig
from lib.lemoe.adaptor import Adaptor, AdaptorConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

AIMS = {"equal": 0.9, "one by one": 5.0}  # of the bound; times as fast
# Put before prompts by WISE (all) and, with "" first, by ROME (the first five); ten, as many as the release draws.
PREFIXES = (
    "I have heard it. ",
    "You may know this. ",
    "Because it is so. ",
    "Yes, that is right. ",
    "Q: What is it? ",
    "I was told by a friend who has read it. ",
    "You will find it in every book on the shelf. ",
    "Because nobody has asked for a long time now. ",
    "Yes, and there is more to be said on it. ",
    "Q: Who could tell us more about this today? ",
)
RELEASED = {"grace": 27 / 32, "wise": 27 / 32, "lemoe": 18 / 32, "values": 17 / 48}  # layers, as shares of the depth


@dataclass(frozen=True)
class Pair:
    """Two ways of learning the same edits, the products that cannot be avoided alone, and how many fewer they are."""

    method: str
    layer: int
    way: str
    edits: int
    plain: Callable[[], object]
    ours: Callable[[], object]
    bare: Callable[[], object]
    bound: float


class Texts:
    """The model, and the edits and irrelevant texts that are learnt."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        edits: Sequence[Edit],
        irrelevant: Sequence[str],
        width: int,
        steps: int,
    ) -> None:
        """Take them; `width` is the inner width of LEMoE's experts, `steps` those of every method."""
        self.model, self.tokenizer, self.edits, self.irrelevant = model, tokenizer, edits, irrelevant
        self.width, self.steps = width, steps

    def pair(self, method: str, layer: int, way: str, count: int) -> Pair:
        """Return the two ways of learning the first `count` edits by a method."""
        edits = self.edits[:count]
        parts = [edits] if way == "equal" else [[edit] for edit in edits]
        make = {"grace": self._grace, "lemoe": self._lemoe, "wise": self._wise, "values": self._values}[method]
        learn, ours, needed = make(edits, layer)
        bound = sum(self._plain_products(method, part, layer) for part in parts) / Work.of(self.model, layer).least(
            needed
        )

        def plain() -> None:
            for part in parts:
                learn(part)

        return Pair(method, layer, way, count, plain, ours, lambda: multiply(self.model, layer, needed), bound)

    def _grace(self, edits: Sequence[Edit], layer: int) -> tuple[Callable, Callable, Needed]:
        config = GraceConfig.tuned(layer=layer, steps=self.steps, enough=0.0, packed=True)

        def ours() -> None:
            editor = Grace(self.model, self.tokenizer, config)
            editor.edit(edits)
            editor.restore()

        needed = Needed(*_counts(encode_edits(self.model, self.tokenizer, edits)), self.steps)
        return lambda part: plain_editing.grace(self.model, self.tokenizer, part, layer, self.steps), ours, needed

    def _lemoe(self, edits: Sequence[Edit], layer: int) -> tuple[Callable, Callable, Needed]:
        config = AdaptorConfig(layer=layer, steps=self.steps, expert_width=self.width, packed=True)

        def ours() -> None:
            adaptor = Adaptor.attach(self.model, config)
            adaptor.edit(self.tokenizer, edits)
            adaptor.detach()

        def learn(part: Sequence[Edit]) -> None:
            plain_editing.lemoe(self.model, self.tokenizer, part, layer, self.steps, self.width)

        counts = _counts(encode_edits(self.model, self.tokenizer, edits))
        return learn, ours, Needed(*counts, self.steps, self._own("lemoe", layer))

    def _wise(self, edits: Sequence[Edit], layer: int) -> tuple[Callable, Callable, Needed]:
        config = WiseConfig(layer=layer, steps=self.steps, enough=0.0, still=None, together=len(edits), packed=True)
        irrelevant = self.irrelevant[: len(edits)]

        def ours() -> None:
            editor = Wise(self.model, self.tokenizer, irrelevant, config, PREFIXES)
            editor.edit(edits)
            editor.restore()

        def learn(part: Sequence[Edit]) -> None:
            plain_editing.wise(self.model, self.tokenizer, part, layer, self.steps, PREFIXES, irrelevant)

        read = plain_editing.with_irrelevant(self.model, self.tokenizer, edits, PREFIXES, irrelevant)
        others = sum(len(prompt_tokens(self.tokenizer, text)) for text in irrelevant)
        tokens, scored = _counts(read)
        return learn, ours, Needed(tokens - others, scored, self.steps, self._own("wise", layer), aside=others)

    def _values(self, edits: Sequence[Edit], layer: int) -> tuple[Callable, Callable, Needed]:
        config = ValueConfig(steps=self.steps, enough=0.0)
        rows = [row for edit in self._located(edits) for row in (*edit.texts, edit.essence)]
        located = self._located(edits)
        reached = sum(_used(row) - row.place for row in rows)
        scored = sum(row.targets or 1 for row in rows)
        needed = Needed(reached, scored, self.steps, before=sum(_used(row) for row in rows) - reached)

        def learn(part: Sequence[Edit]) -> None:
            plain_editing.values(self.model, self._located(part), layer, self.steps)

        return learn, lambda: optimise(self.model, located, layer, config), needed

    def _plain_products(self, method: str, edits: Sequence[Edit], layer: int) -> int:
        """Return what the plain code multiplies: padding counts, since it is run."""
        work, own = Work.of(self.model, layer), self._own(method, layer)
        if method == "values":
            total = 0
            for edit in self._located(edits):
                rows = [*edit.texts, edit.essence]
                tokens = len(rows) * max(len(row.ids) for row in rows)
                total += work.plain(tokens, self.steps) + tokens * (work.blocks * work.block + work.head)
            return total
        if method == "wise":
            read = plain_editing.with_irrelevant(self.model, self.tokenizer, edits, PREFIXES, self.irrelevant)
        else:
            read = encode_edits(self.model, self.tokenizer, edits)
        return work.plain(read.ids.numel(), self.steps, own)

    def _own(self, method: str, layer: int) -> int:
        """Return the products that a method itself adds for a token and step, whoever writes it."""
        if method == "wise":  # the side memory, and its gradient
            return 2 * matrix(down_projection(self.model, layer)).numel()
        if method == "lemoe":  # two maps, their gradients, and that of what is between them
            return 5 * self.model.config.hidden_size * self.width
        return 0

    def _located(self, edits: Sequence[Edit]) -> list[Any]:
        return locate(self.model, self.tokenizer, edits, ("", *(prefix.strip(". ") for prefix in PREFIXES[:5])))


def _counts(read: Encoded) -> tuple[int, int]:
    """Return how many tokens are read, and at how many a target is predicted."""
    return int(read.mask.sum()), int((read.labels != IGNORED).sum())


def _used(row: Row) -> int:
    """Return how many tokens of a text are read: the last of a target is only predicted."""
    return len(row.ids) - (row.targets > 0)


def timed(pair: Pair, turns: int) -> dict[str, Any]:
    """Time both ways and the bare products turn about, in processor seconds; ratios are medians of the turns'."""
    spent: dict[str, list[float]] = {"plain": [], "ours": [], "bare": []}
    for turn in range(turns):
        for name in ("plain", "bare", "ours") if turn % 2 else ("ours", "bare", "plain"):
            began = time.process_time()
            getattr(pair, name)()
            spent[name].append(time.process_time() - began)
    ratios = [plain / ours for plain, ours in zip(spent["plain"], spent["ours"], strict=True)]
    alone = [plain / bare for plain, bare in zip(spent["plain"], spent["bare"], strict=True)]
    ratio, aim = statistics.median(ratios), AIMS[pair.way]
    return {
        "method": pair.method,
        "layer": pair.layer,
        "way": pair.way,
        "edits": pair.edits,
        "plain_seconds": statistics.median(spent["plain"]),
        "seconds": statistics.median(spent["ours"]),
        "ratio": ratio,
        "lowest": min(ratios),
        "highest": max(ratios),
        "bound": pair.bound,
        "bare": statistics.median(alone),
        "reached": ratio >= (aim * pair.bound if pair.way == "equal" else aim),
    }


def report(rows: Sequence[dict[str, Any]], steps: int) -> list[str]:
    """Return the table of what was timed, as lines."""
    lines = [
        f"edits by plain code and ours, {steps} steps each, processor seconds; aims: {AIMS['equal']:.0%} of the bound "
        f"on equal batches, {AIMS['one by one']:.0f} times where plain code learns one by one; bare: products alone:",
        f"{'':10}{'layer':>6}{'edits':>6}  {'way':12}{'plain':>8}{'ours':>8}{'ratio':>7}{'bound':>7}  of it"
        f"{'bare':>7}  of it  lowest to highest",
    ]
    for row in rows:
        name = f"{row['method']:10}{row['layer']:6}{row['edits']:6}  {row['way']:12}"
        seconds = f"{row['plain_seconds']:8.2f}{row['seconds']:8.2f}{row['ratio']:7.2f}{row['bound']:7.2f}"
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        lines.append(
            f"{name}{seconds}{row['ratio'] / row['bound']:7.0%}{row['bare']:7.2f}{row['ratio'] / row['bare']:7.0%}  "
            f"{spread}{'' if row['reached'] else ', below aim'}"
        )
    return lines
