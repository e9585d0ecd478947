"""Semantic distance of one's own facts: how far a model's answers are, two filters, weights, and a Trainer by them.

measured = measure(model, tokenizer, [{"prompt": "The capital of France is", "target": "Paris"}, ...])
kept = keep(measured, share=0.5)                      # positions of the facts to train on (filter A)
trainer = WeightedTrainer(model, tokenizer, facts, alpha=1.0, args=arguments)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lib.api.rows import Numbers, WholeVocabulary, check_trained, encode
from lib.beacons import answers, distance, filtering, reweighting
from lib.beacons.distance import Ruler
from lib.beacons.facts import BeaconFact, checked
from lib.distillation.batches import collate
from lib.errors import UserError
from lib.text import json_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LONGEST", "Measured", "WeightedTrainer", "count_kept", "keep", "measure", "read_facts", "weigh"]

LONGEST = 16  # tokens of an answer (our choice)


@dataclass(frozen=True)
class Measured:
    """Facts under a model as it was: a row for each, and the vectors of prompt and target by which filter B spreads.

    `frame`: prompt, target, answer, right, distance (in [0, 2]); `vectors` (facts, width), of length 1.
    """

    frame: pd.DataFrame
    vectors: np.ndarray


def read_facts(rows: Iterable[Mapping[str, Any]]) -> list[BeaconFact]:
    """Return facts of {"prompt", "target"} and, where there are some, "aliases" and "paraphrases" (lists of texts).

    Raises `UserError` naming the row and field that is missing, of another type or empty, and facts at odds.
    """
    found = []
    for number, row in enumerate(rows, start=1):
        row = json_records.fields(row, f"fact {number}", '{"prompt": ..., "target": ...}')
        for name in ("prompt", "target"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise UserError(f"fact {number}: {name} must be a text that is not empty, not {row.get(name)!r}")
        several = {}
        for name in ("aliases", "paraphrases"):
            texts = () if row.get(name) is None else row[name]  # null in JSON: there are none
            if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
                raise UserError(f"fact {number}: {name} must be a list of texts, not {texts!r}")
            several[name] = tuple(texts)
        found.append(
            BeaconFact(
                row["prompt"].rstrip(),
                f" {row['target'].strip()}",
                several["aliases"],
                several["paraphrases"],
                "proper noun",
                "own",
                row["prompt"],
                False,
                f"own/{number}",
            )
        )
    if not found:
        raise UserError("no facts: give at least one")
    return checked(found)


def measure(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Iterable[Mapping[str, Any]],
    longest: int = LONGEST,
    ruler: str = "raw",
) -> Measured:
    """Ask a model each fact, greedily, and return how far its answers are from the targets: d = 1 - cos (our reading).

    `ruler` is one of `lib.beacons.distance.RULERS`. Raises `UserError` as `read_facts` and for an unknown ruler.
    """
    read = read_facts(facts)
    said = answers.greedy(model, tokenizer, [fact.prompt for fact in read], longest)
    measured_by = distance.ruler(ruler, model, tokenizer)
    frame = pd.DataFrame(
        {
            "prompt": [fact.prompt for fact in read],
            "target": [fact.target.strip() for fact in read],
            "answer": said,
            "right": [answers.is_right(one, fact) for one, fact in zip(said, read, strict=True)],
            "distance": distance.distance(measured_by, said, [fact.target for fact in read]).tolist(),
        }
    )
    vectors = distance.raw(model, tokenizer).vectors([fact.prompt + fact.target for fact in read])
    return Measured(frame, functional.normalize(vectors, dim=1).cpu().numpy())


def count_kept(facts: int, share: float) -> int:
    """Return how many of `facts` a filter keeps; `UserError` for none, for all of them, and for no number."""
    try:
        return filtering.count(facts, share)
    except UserError as error:
        told = f"a share of {share} of {facts} facts is none of them, all of them, or no number"
        raise UserError(f"{told}: give one between 0 and 1 that keeps some, or more facts") from error


def keep(
    measured: Measured, share: float = 0.5, reading: Literal["A", "B"] = "A", variance_weight: float = 1.0
) -> list[int]:
    """Return the positions of the facts that a filter keeps, in rising order.

    A: small mean distance and large variance of the distances; B: small mean distance and diverse prompts and targets
    (both are readings of ours of claim 3, see `lib.beacons.filtering`). Raises `UserError` for keeping none or all.
    """
    distances = measured.frame["distance"].to_numpy()
    count = count_kept(len(distances), share)
    if reading == "A":
        kept = filtering.filter_a(distances, count, variance_weight)
    elif reading == "B":
        kept = filtering.filter_b(distances, measured.vectors, count, variance_weight)
    else:
        raise UserError(f"no reading {reading!r} of the filter: take A or B")
    return kept.places.tolist()


def weigh(measured: Measured, alpha: float = 1.0, least: float = 0.1) -> np.ndarray:
    """Return the weight of each fact in the re-weighted loss, (facts,): max(1 + alpha z, least), z of the distances."""
    distances = torch.tensor(measured.frame["distance"].to_numpy())
    return reweighting.weights(distances, alpha, least).numpy()


class WeightedTrainer(Trainer):
    """transformers' Trainer with L = sum w_i CE_i / sum w_i over the facts of a step, w_i by semantic distance.

    A step's facts are those of all its parts (accumulation) and processes. The weights are taken anew at every epoch
    from the model's greedy answers then; the ruler is the model's as it was given. CE_i is the mean over the target's
    tokens and the full stop that ends it.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        facts: Iterable[Mapping[str, Any]],
        alpha: float = 1.0,
        least: float = 0.1,
        args: TrainingArguments | None = None,
        longest: int = LONGEST,
        **named: Any,
    ) -> None:
        """Take a model (with a PEFT adapter or whole) and facts as `read_facts`; `named` goes to the Trainer.

        Raises `UserError` for steps of one fact, whose normalised weight is always 1, and for a frozen model.
        """
        self._facts = read_facts(facts)
        args = args or TrainingArguments(output_dir="weighted", report_to=[])
        size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        try:
            reweighting.check_batch(min(size, len(self._facts) % size or size))
        except UserError as error:  # in the names of this call
            raise UserError(
                f"of {len(self._facts)} facts in steps of {size}, one step has one fact, whose normalised weight is "
                "always 1: set per_device_train_batch_size otherwise, or give more facts"
            ) from error
        check_trained(model)
        examples = encode(tokenizer, [{"prompt": fact.prompt, "response": fact.taught} for fact in self._facts])
        pad = WholeVocabulary(tokenizer).pad
        self._ruler: Ruler = distance.raw(model, tokenizer)
        self._tokenizer, self._longest, self._alpha, self._least = tokenizer, longest, alpha, least
        self.weights = torch.ones(len(examples))

        def collated(places: list[dict[str, int]]) -> dict[str, Tensor]:
            chosen = [place["fact"] for place in places]
            batch = collate([examples[place] for place in chosen], pad)
            labels = batch.ids.masked_fill(~batch.response, -100)
            ids = {"input_ids": batch.ids, "attention_mask": batch.mask.long(), "labels": labels}
            return {**ids, "fact": torch.tensor(chosen)}

        args.remove_unused_columns = False  # the numbers of facts are no input of the model
        numbers = Numbers("fact", range(len(examples)))
        super().__init__(model, args, collated, numbers, processing_class=tokenizer, **named)
        self.model_accepts_loss_kwargs = True  # our loss is divided by what `get_batch_samples` counts, not once more
        self.add_callback(_EachEpoch(self))

    def refresh(self) -> None:
        """Take the weights anew from the answers that the model gives now."""
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        said = answers.greedy(model, self._tokenizer, [fact.prompt for fact in self._facts], self._longest)
        found = distance.distance(self._ruler, said, [fact.target for fact in self._facts])
        self.weights = reweighting.weights(found, self._alpha, self._least).cpu()
        model.train(training)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Return the parts of a step, and the sum of the weights of its facts, in all processes, to divide by."""
        parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        here = sum((self.weights[part["fact"].cpu()].sum() for part in parts), torch.zeros(()))
        return parts, self.accelerator.reduce(here.to(device), "sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted loss of a part of a step, in nats; of a batch by itself where no step is trained."""
        facts, labels = inputs.pop("fact"), inputs["labels"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        nats = functional.cross_entropy(outputs.logits[:, :-1].float().mT, labels[:, 1:], reduction="none")
        counted = labels[:, 1:] != -100
        each = (nats * counted).sum(1) / counted.sum(1)
        weights = self.weights.to(each.device)[facts]
        loss = (weights * each).sum()
        if model.training and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes / num_items_in_batch  # the processes' gradients are averaged
        else:
            loss = loss / weights.sum()
        return (loss, outputs) if return_outputs else loss


class _EachEpoch(TrainerCallback):
    """Takes the weights anew when an epoch begins."""

    def __init__(self, trainer: WeightedTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._trainer.refresh()
