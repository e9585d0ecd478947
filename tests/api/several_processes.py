"""Train by both Trainers and write losses and weights: `several_processes.py FOLDER BATCH PARTS`, in each process.

Run under torchrun; with one process it is called as a function.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import TrainingArguments

from lib.api.beacons import WeightedTrainer
from lib.api.distillation import DistillationTrainer
from lib.distillation.objective_config import ObjectiveConfig
from tests import tiny_models
from tests.api.test_distillation import WORDS, arguments, small_student, tokenizer

# Of one to five tokens each, so that the parts of a step have unequal numbers.
ROWS = [
    {"prompt": f"w{n % 5} w{n % 7} w3", "response": " ".join(f"w{(n * k) % 17}" for k in range(1, 2 + n % 5))}
    for n in range(1, 17)
]
FACTS = [{"prompt": f"w{n} w{(3 * n) % 17}", "target": f"w{(5 * n + 1) % 17}"} for n in range(16)]
MIDDLE = ObjectiveConfig(output=1.0, middle=1.0, divergence="skewed_kl", settings={"alpha": 0.1})
OBJECTIVES = {
    "middle": MIDDLE,
    "cached": MIDDLE,
    "gradnorm": MIDDLE.model_copy(update={"proportions": "gradnorm"}),
    "uncertainty": MIDDLE.model_copy(update={"proportions": "uncertainty"}),
    "minimum_edit": ObjectiveConfig(output=1.0, pairing="minimum_edit"),
}


def trained(folder: Path, batch: int, parts: int, names: Sequence[str] = tuple(OBJECTIVES)) -> None:
    """Train by some objectives, and by the weights of facts, in steps of `parts` times `batch` rows a process."""
    given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": parts}
    args = arguments(folder, max_steps=3, learning_rate=0.01, **given)  # a larger rate makes much of the last digit
    for name in names:
        objective = OBJECTIVES[name]
        other = tokenizer([*WORDS[::-1], "w99"]) if objective.pairing != "same" else None
        trainer = DistillationTrainer(
            small_student(), tiny_models.llama_of(21 if other else 20), tokenizer(), ROWS, objective, args, longest=30,
            teacher_tokenizer=other, cache=folder / "cache" if name == "cached" else None,
        )  # fmt: skip
        trainer.train()
        _written(folder, name, trainer, trainer.model.trained)
    weighted = WeightedTrainer(tiny_models.small_llama(), tokenizer(), FACTS, args=_weighted(args))
    weighted.train()
    _written(folder, "weighted", weighted, weighted.model)


def _weighted(args: TrainingArguments) -> TrainingArguments:
    args.max_steps = 5  # into a third epoch: the weights are taken anew
    return args


def _written(folder: Path, name: str, trainer: DistillationTrainer | WeightedTrainer, model: torch.nn.Module) -> None:
    if trainer.is_world_process_zero():
        weights = {key: value.detach().clone().contiguous() for key, value in model.named_parameters()}
        save_file(weights, folder / f"{name}.safetensors")
        told = [one for one in trainer.state.log_history if "loss" in one]
        log = [{key: value for key, value in one.items() if "loss" in key or "weight" in key} for one in told]
        (folder / f"{name}.json").write_text(json.dumps(log))


if __name__ == "__main__":
    trained(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
