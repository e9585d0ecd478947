"""AdaLoRA of the peft library: LoRA that allots ranks to its matrices by their importance while it trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.beacons.adapters import AdapterConfig, Parts, projections
from lib.beacons.peft_models import SCALE, trained, wrapped
from lib.errors import UserError

if TYPE_CHECKING:
    from peft import AdaLoraModel
    from transformers import PreTrainedModel

_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what the peft library remembers of each matrix


@dataclass(frozen=True)
class AllottedParts(Parts):
    """The factors of AdaLoRA, with the peft library's model, which allots their ranks."""

    tuner: "AdaLoraModel"

    def penalty(self) -> Tensor:
        """Return the pull towards orthogonal factors.

        The mean of |P P^T - I|_F over the factors, by the weight that the peft library gives it; the library adds it
        only where a model computes its loss itself.
        """
        terms = []
        for name, factor in self.parameters.items():
            if "lora_A" in name or "lora_B" in name:
                square = factor @ factor.T if "lora_A" in name else factor.T @ factor
                terms.append(torch.linalg.norm(square - torch.eye(len(square), device=square.device)))
        return self.tuner.peft_config["default"].orth_reg_weight * torch.stack(terms).mean()

    def after_step(self, step: int) -> None:
        """Allot the ranks after step number `step` >= 1, while the gradients are still there."""
        self.tuner.update_and_allocate(step)

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name, not copied: parameters, importance of matrices, ranks."""
        found = super().state()
        for part in _IMPORTANCE:
            found |= {f"{part}/{name}": value for name, value in getattr(self.tuner.rankallocator, part).items()}
        pattern = self.tuner.peft_config["default"].rank_pattern or {}
        return found | {f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned; raises `KeyError` where a parameter is missing."""
        super().load_state(state)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            part, name = key.split("/", 1)
            parts.setdefault(part, {})[name] = value
        for part in _IMPORTANCE:
            setattr(self.tuner.rankallocator, part, parts.get(part, {}))
        pattern = {name: kept.tolist() for name, kept in parts.get("rank_pattern", {}).items()}
        self.tuner.peft_config["default"].rank_pattern = pattern or None


def adalora(model: "PreTrainedModel", config: AdapterConfig, steps: int) -> Parts:
    """Put AdaLoRA on the upper feed-forward projections; raises `UserError` for fewer than two steps."""
    import peft

    if steps < 2:  # the last step takes ranks away by what the steps before it have shown
        raise UserError(f"AdaLoRA cannot allot ranks in {steps} steps: give `steps` of 2 or more")
    settings = peft.AdaLoraConfig(
        init_r=config.rank + config.rank // 2,  # the library's 12 to 8
        target_r=config.rank,
        lora_alpha=SCALE * config.rank,
        total_step=steps,
        tinit=steps // 10,
        tfinal=steps // 5,
        target_modules=list(projections(model, config.first_layer)),
    )
    tuner = wrapped(model, settings).base_model
    return AllottedParts(trained(model), lambda: tuner.unload() and None, tuner)
