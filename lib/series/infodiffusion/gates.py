"""When a task can test a claim about diffusion here: three conditions on validation sentences, fixed before the runs.

A look is what `run.Experiment.run` notes of a training: `step`, `validation_bleu` in all sampling steps and, of
diffusion models, `one_step_bleu` in one, of one candidate and the averaged weights. No test sentence plays a part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.records import Record
from lib.reporting.claims import Gate

SHARE = 0.8  # of the Transformer's BLEU, where copying is out of reach or means nothing
STILL_GAINING = 0.005  # BLEU in the last quarter of the training
# The smallest of the three margins decides; one of exactly 0 still holds ("not below").
GATE = Gate("least margin of the task's three conditions", inclusive=True, over="means over seeds")

Look = Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """The margins of a task's three conditions, positive where they hold; each is a mean over training seeds.

    `steps`: BLEU in all sampling steps minus in one, of the model that gains less. `reach`: BLEU of the better model
    minus what it has to reach, copying the source or `SHARE` of the Transformer's, whichever is less. `trained`:
    `STILL_GAINING` minus the BLEU gained in the last quarter of training, of the model that gains more.
    """

    steps: float
    reach: float
    trained: float

    @property
    def margin(self) -> float:
        """Return the least of the three: the number for `GATE`."""
        return min(self.steps, self.reach, self.trained)

    @property
    def passes(self) -> bool:
        """Whether the task counts for a claim about diffusion."""
        return GATE.holds(self.margin)

    @property
    def rises(self) -> bool:
        """Whether more sampling steps help strictly, as they have to on two tasks."""
        return self.passes and self.steps > 0


def judged(pair: Mapping[str, Sequence[Sequence[Look]]], transformer: Sequence[Sequence[Look]], copied: float) -> Task:
    """Return the margins of a task from the looks of both models and of the Transformer, a sequence a training seed.

    `copied` is the validation BLEU of copying the source. Raises `ValueError` where a training was not looked at in
    both numbers of sampling steps, or only in its last quarter.
    """
    final = {name: [_looked(seed)[-1] for seed in seeds] for name, seeds in pair.items()}
    gained = {name: [_gained(seed) for seed in seeds] for name, seeds in pair.items()}
    rival = float(np.mean([_looked(seed)[-1]["validation_bleu"] for seed in transformer]))
    return Task(
        steps=min(
            _mean([look["validation_bleu"] - look["one_step_bleu"] for look in looks]) for looks in final.values()
        ),
        reach=max(_mean([look["validation_bleu"] for look in looks]) for looks in final.values())
        - min(copied, SHARE * rival),
        trained=STILL_GAINING - max(map(_mean, gained.values())),
    )


def of_records(pair: Mapping[str, Sequence[Record]], transformer: Sequence[Record], copied: float) -> Task | None:
    """Return the margins of a task from its records; None where one of the three rows is not recorded, or not so."""
    looks = {name: [record.values["curve"] for record in records] for name, records in pair.items()}
    rival = [record.values["curve"] for record in transformer]
    try:
        return judged(looks, rival, copied) if rival and all(looks.values()) else None
    except ValueError:
        return None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _looked(curve: Sequence[Look]) -> list[Look]:
    """Return the points of a curve at which validation sentences were written."""
    found = [look for look in curve if "validation_bleu" in look]
    if not found:
        raise ValueError("a training without a look at validation sentences")
    return found


def _gained(curve: Sequence[Look]) -> float:
    """Return the BLEU gained since the last look at three quarters of the training or before."""
    looks = _looked(curve)
    if "one_step_bleu" not in looks[-1]:
        raise ValueError("a training without a look in one sampling step")
    before = [look for look in looks if look["step"] <= 0.75 * looks[-1]["step"]]
    if not before:
        raise ValueError("a training whose first look is in its last quarter")
    return looks[-1]["validation_bleu"] - before[-1]["validation_bleu"]
