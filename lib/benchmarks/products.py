"""Products with a model's weights that learning edits needs: counted, and multiplied bare, with nothing around them.

Going back through a frozen map costs what going forward did: no gradient of its weights is computed. Those of the
attention's scores are left out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.causal_lm.layers import blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Needed:
    """What cannot be done without when edits are learnt in one batch at a layer, in tokens.

    The change reaches `reached` tokens: these run the blocks above in each step. Those `before` it in the same texts
    run them once; those `aside`, of other texts, run to the layer once and through the method's own part in each step.
    Targets are predicted at `scored`. `own` are the method's products, of a token and step.
    """

    reached: int
    scored: int
    steps: int
    own: int = 0
    before: int = 0
    aside: int = 0

    @property
    def below(self) -> int:
        """Return how many tokens run the blocks up to the layer, once."""
        return self.reached + self.before + self.aside


@dataclass(frozen=True)
class Work:
    """Products with weights in a model that is changed at one layer."""

    blocks: int
    layer: int  # whose output is changed
    block: int  # weights of a block
    head: int

    @classmethod
    def of(cls, model: "PreTrainedModel", layer: int) -> "Work":
        """Return the sizes of a model, edited at a layer."""
        found = blocks(model)
        inside = sum(weight.numel() for weight in matrices(found[layer]))
        return cls(len(found), layer, inside, model.get_output_embeddings().weight.numel())

    @property
    def above(self) -> int:
        """Return how many blocks lie above the layer."""
        return self.blocks - self.layer - 1

    def plain(self, tokens: int, steps: int, own: int = 0) -> int:
        """Return the products of steps on the whole model; `own` are the method's, of a token and step."""
        return steps * tokens * ((self.blocks + self.above) * self.block + 2 * self.head + own)

    def least(self, needed: Needed) -> int:
        """Return the fewest: all below the change once, then the blocks above, and the head at the tokens scored."""
        once = needed.below * (self.layer + 1) * self.block + needed.before * self.above * self.block
        above = 2 * (needed.reached * self.above * self.block + needed.scored * self.head)
        return once + needed.steps * (above + (needed.reached + needed.aside) * needed.own)


def matrices(module: torch.nn.Module) -> list[Tensor]:
    """Return the weights that a module multiplies with, [out, in] each."""
    return [value.detach() for value in module.parameters() if value.ndim == 2]


def multiply(model: "PreTrainedModel", layer: int, needed: Needed) -> None:
    """Do the products that `Work.least` counts with the model's own matrices, and nothing else.

    A few rows through a large matrix take as long as reading it does, so that counting promises more than the
    machine can give: this is what it gives.
    """
    given: dict[tuple[int, int], Tensor] = {}

    def through(rows: int, weight: Tensor, back: bool = False) -> None:
        if rows:
            width = weight.shape[0 if back else 1]
            key = rows, width
            if key not in given:
                given[key] = weight.new_full(key, 0.5)
            torch.mm(given[key], weight if back else weight.T)

    every, head = blocks(model), model.get_output_embeddings().weight.detach()
    own = torch.zeros(needed.own // head.shape[1], head.shape[1], dtype=head.dtype)
    with torch.inference_mode():
        for number, block in enumerate(every):
            for weight in matrices(block):
                through(needed.below if number <= layer else needed.before, weight)
        above = [weight for block in list(every)[layer + 1 :] for weight in matrices(block)]
        for _ in range(needed.steps):
            through(needed.reached + needed.aside, own)
            for weight in above:
                through(needed.reached, weight)
            for back in (False, True):
                through(needed.scored, head, back)
            for weight in reversed(above):
                through(needed.reached, weight, True)
