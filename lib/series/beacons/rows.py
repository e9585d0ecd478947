"""What is compared in the Beacons series: budgets, filters and weighings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lib.beacons.filtering import Kept
from lib.beacons.training import WeightedLoss
from lib.records import Case
from lib.registry import Registry, Row
from lib.series.beacons import arms
from lib.series.beacons.arms import Candidates, Learnt
from lib.series.beacons.config import Filter, Weighing

Budget = Literal["per_fact", "total"]
BUDGETS: dict[Budget, str] = {"per_fact": "equal updates per fact", "total": "equal total steps"}
PAIR = ("lora", "full")  # the methods that learn every number of facts
# Claims 3 and 4 rest on these: all seeds. Plain training is one case under two names.
COMPARED: tuple[Filter | Weighing, ...] = ("all", "a", "b", "random", "plain", "distance", "permuted")


@dataclass(frozen=True, kw_only=True)
class FilterRow(Row):
    """A filter: which facts it keeps, and what it reads of the inputs of a case to choose by."""

    keep: Callable[[Candidates], Kept]
    known: Callable[[Case], pd.DataFrame | None]


@dataclass(frozen=True, kw_only=True)
class WeighingRow(Row):
    """A weighing: the loss that facts are learnt with, None for the plain mean."""

    loss: Callable[[Learnt], WeightedLoss | None]


FILTERS: Registry[FilterRow] = Registry(
    "filter",
    {
        "all": FilterRow(title="no filter: plain training", keep=arms.keep_all, known=arms.nothing_known),
        "a": FilterRow(title="A: near, of high variance", keep=arms.near_of_high_variance, known=arms.known_before),
        "b": FilterRow(
            title="B: near, of diverse knowledge", keep=arms.near_of_diverse_knowledge, known=arms.known_before
        ),
        "random": FilterRow(title="random subset", keep=arms.random_subset, known=arms.known_before),
        "lowest_loss": FilterRow(title="lowest initial loss", keep=arms.lowest_loss, known=arms.known_before),
        "half_known": FilterRow(title="half known", keep=arms.half_known, known=arms.known_before),
        "reversed": FilterRow(
            title="A reversed: far, of low variance", keep=arms.far_of_low_variance, known=arms.known_before
        ),
    },
)
WEIGHINGS: Registry[WeighingRow] = Registry(
    "weighing",
    {
        "plain": WeighingRow(title="plain loss", loss=arms.plain_loss),
        "distance": WeighingRow(title="by distance", loss=arms.by_distance),
        "permuted": WeighingRow(title="by distance, permuted across facts", loss=arms.permuted),
        "flipped": WeighingRow(title="by distance, sign flipped", loss=arms.flipped),
        "token": WeighingRow(title="by distance, for each token", loss=arms.by_token),
    },
)
