"""What every training of the series needs: the backbone, its rulers, the facts that fit it, and general text."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

from lib.beacons import answers, distance
from lib.beacons.cached_facts import run_once
from lib.beacons.distance import Ruler
from lib.beacons.facts import BeaconFact, Pool, facts, fitting
from lib.causal_lm import backbones
from lib.causal_lm.encoding import encode, pair_tokens
from lib.causal_lm.upper_layers import UpperLayers
from lib.facts import factbook

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Workbench:
    """A loaded backbone and what belongs to it as it is before any training; each part is made when it is asked for.

    Four parts are functions that remember their last results: `facts(pool, longest)`, `answers_before(pool, count,
    longest)`, `text(count, layer, cached)` and `once(facts, layer, cached)`.
    """

    def __init__(self, backbone: str, layers: int | None, dtype: str, device: str) -> None:
        """Load the backbone in a precision; `UserError` when it cannot be had."""
        model, self.tokenizer = backbones.load_causal_lm(backbone, dtype, layers)
        self.model: PreTrainedModel = model.to(device)
        # A model hands its head a slice of the hidden states; with one that is not contiguous torch's product on a CPU
        # takes 8 times as long in float32, and 200 times in bfloat16.
        self.model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    @cached_property
    def raw(self) -> Ruler:
        """Return the series' ruler, of the base model's own embeddings."""
        return distance.raw(self.model, self.tokenizer)

    @cached_property
    def centred(self) -> Ruler:
        """Return the ruler of centred embeddings."""
        return distance.centred(self.model, self.tokenizer)

    @cached_property
    def table(self) -> Tensor:
        """Return the base model's embeddings E, (vocabulary, width), float32."""
        return distance.embeddings(self.model)

    @cached_property
    def facts(self) -> Callable[[Pool, int], tuple[BeaconFact, ...]]:
        """Return the facts of a pool whose targets have at most so many tokens: longer ones cannot be answered."""
        return lru_cache(maxsize=4)(lambda pool, longest: tuple(fitting(facts(pool), self.tokenizer, longest)))

    @cached_property
    def answers_before(self) -> Callable[[Pool, int, int], tuple[str, ...]]:
        """Return greedy answers to the first prompts of a pool; to be asked for while nothing is attached."""

        @lru_cache(maxsize=4)
        def found(pool: Pool, count: int, longest: int) -> tuple[str, ...]:
            asked = [fact.prompt for fact in self.facts(pool, longest)[:count]]
            return tuple(answers.greedy(self.model, self.tokenizer, asked, longest))

        return found

    @cached_property
    def text(self) -> Callable[[int, int, bool], UpperLayers]:
        """Return some tokens of general text: second halves of passages as targets after their first halves.

        `cached`: run once through the layers below `layer`, for methods that act above them.
        """

        @lru_cache(maxsize=2)
        def found(count: int, layer: int, cached: bool) -> UpperLayers:
            pairs, read = [], 0
            for passage in factbook.passages("unrelated"):
                pairs.append(factbook.halves(passage))
                read += len(pair_tokens(self.tokenizer, *pairs[-1])[1])
                if read >= count:
                    break
            return UpperLayers(self.model, encode(self.model, self.tokenizer, pairs), layer, None, cached)

        return found

    @cached_property
    def once(self) -> Callable[[tuple[BeaconFact, ...], int, bool], UpperLayers]:
        """Return facts as they enter block `layer`, for trainings that change no lower one; see `run_once`."""
        return lru_cache(maxsize=4)(
            lambda taken, layer, cached: run_once(self.model, self.tokenizer, taken, layer, cached)
        )


@lru_cache(maxsize=2)
def workbench(backbone: str, layers: int | None, dtype: str, device: str) -> Workbench:
    """Load a backbone in a precision, once in a process."""
    return Workbench(backbone, layers, dtype, device)


def text_digest() -> str:
    """Return the SHA-256 of the general text that perplexity is taken on."""
    return factbook.content_hash(factbook.passages("unrelated"))
