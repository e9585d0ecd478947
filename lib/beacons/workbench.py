"""What every training of the series needs: the backbone, its rulers, the facts that fit it, and general text."""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

from lib import backbones
from lib.beacons import answers, distance
from lib.beacons.cached_facts import run_once
from lib.beacons.distance import Ruler
from lib.beacons.facts import BeaconFact, Pool, facts, fitting
from lib.editing.encoding import encode, tokens
from lib.editing.upper_layers import UpperLayers
from lib.sizes import BeaconSizes
from lib.text import factbook

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Workbench:
    """A loaded backbone and what belongs to it as it is before any training; each part is made when it is asked for."""

    def __init__(self, backbone: str, layers: int | None, device: str, sizes: BeaconSizes) -> None:
        """Load the backbone in the precision of `sizes`; `UserError` when it cannot be had."""
        model, self.tokenizer = backbones.load_causal_lm(backbone, sizes.dtype, layers)
        self.model: PreTrainedModel = model.to(device)
        # A model hands its head a slice of the hidden states; with one that is not contiguous torch's product on a CPU
        # takes 8 times as long in float32, and 200 times in bfloat16.
        self.model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        self.sizes = sizes
        self.facts = lru_cache(maxsize=4)(self._facts)
        self.answers_before = lru_cache(maxsize=4)(self._answers_before)
        self.text = lru_cache(maxsize=2)(self._text)
        self.once = lru_cache(maxsize=4)(self._once)

    @cached_property
    def raw(self) -> Ruler:
        """Return the series' ruler, of the base model's own embeddings."""
        return distance.ruler("raw", self.model, self.tokenizer)

    @cached_property
    def centred(self) -> Ruler:
        """Return the ruler of centred embeddings."""
        return distance.ruler("centred", self.model, self.tokenizer)

    @cached_property
    def table(self) -> Tensor:
        """Return the base model's embeddings E, (vocabulary, width), float32."""
        return distance.embeddings(self.model)

    def _once(self, taken: tuple[BeaconFact, ...], layer: int, cached: bool) -> UpperLayers:
        """Return facts as they enter block `layer`, for trainings that change no lower one; see `run_once`."""
        return run_once(self.model, self.tokenizer, taken, layer, cached)

    def _facts(self, pool: Pool) -> tuple[BeaconFact, ...]:
        """Return the facts of a pool whose targets are short enough to be answered."""
        return tuple(fitting(facts(pool), self.tokenizer, self.sizes.answer_tokens))

    def _answers_before(self, pool: Pool, count: int) -> tuple[str, ...]:
        """Return the greedy answers to the first prompts of a pool; to be asked for while nothing is attached."""
        asked = [fact.prompt for fact in self.facts(pool)[:count]]
        return tuple(answers.greedy(self.model, self.tokenizer, asked, self.sizes.answer_tokens))

    def _text(self, count: int, layer: int, cached: bool) -> UpperLayers:
        """Return about `count` tokens of general text: second halves of passages as targets after their first halves.

        `cached`: run once through the layers below `layer`, for methods that act above them.
        """
        pairs, read = [], 0
        for passage in factbook.passages("unrelated"):
            pairs.append(factbook.halves(passage))
            read += len(tokens(self.tokenizer, pairs[-1][1]))
            if read >= count:
                break
        return UpperLayers(self.model, encode(self.model, self.tokenizer, pairs), layer, None, cached)
