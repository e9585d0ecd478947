"""What is compared in the Beacons series: budgets, filters, weighings, and the learning rate that each method gets."""

from typing import Literal

from lib.beacons.experiment import Filter, Weighing

Budget = Literal["per_fact", "total"]
BUDGETS: dict[Budget, str] = {"per_fact": "equal updates per fact", "total": "equal total steps"}
PAIR = ("lora", "full")  # the methods that learn every number of facts
FILTERS: dict[Filter, str] = {
    "all": "no filter: plain training",
    "a": "A: near, of high variance",
    "b": "B: near, of diverse knowledge",
    "random": "random subset",
    "lowest_loss": "lowest initial loss",
    "half_known": "half known",
    "reversed": "A reversed: far, of low variance",
}
WEIGHINGS: dict[Weighing, str] = {
    "plain": "plain loss",
    "distance": "by distance",
    "permuted": "by distance, permuted across facts",
    "flipped": "by distance, sign flipped",
    "token": "by distance, for each token",
}
# Claims 3 and 4 rest on these: all seeds. Plain training is one case under two names.
COMPARED: tuple[Filter | Weighing, ...] = ("all", "a", "b", "random", "plain", "distance", "permuted")
# The learning rate of each method: the best on the tuning pool (2.6 shows what was compared).
RATES = {
    "lora": 3e-3,
    "dora": 3e-3,
    "adalora": 1e-2,
    "ia3": 1e-1,
    "loha": 1e-2,
    "prefix": 3e-2,
    "bottleneck": 3e-3,
    "full": 1e-3,
}
