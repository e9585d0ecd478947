"""From records of the Beacons series to scores of facts, interference and arms: pure functions of the raw outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import get_args

import numpy as np
import pandas as pd

from lib import records, statistics
from lib.beacons import answers, interference
from lib.beacons.facts import BeaconFact, Pool, facts
from lib.statistics import Interval

# Scores of a fact: whether its answer is right (target or alias in it), exact, right on paraphrases (a share); then the
# distance of the answer, the target's loss.
SCORES = {
    "right": "right",
    "exact": "exact",
    "paraphrase": "right, paraphrase",
    "raw": "distance",
    "loss": "loss (nats a token)",
}
Choice = Callable[[pd.DataFrame], pd.Series]  # of the frame of `scores`, which facts count


def scores(record: records.Record) -> pd.DataFrame:
    """Return one row per fact that was asked after a training, indexed by identity: `SCORES`, centred, run, trained.

    Of facts alone (`single_fact.run`) the last reading; there every fact is trained. Targets are the facts' own, or
    what was taught where they were shuffled.
    """
    told = record.frames["answers"]
    if "readings" in record.frames:
        readings = record.frames["readings"]
        frame = readings[readings["step"] == readings["step"].max()].assign(trained=True, run=0)
    else:
        frame = record.frames["facts"]
    frame = frame.set_index("identity")
    kept = frame[["run", "trained", "loss", "raw", "centred"]]
    return kept.join(_judged(told, _taught(record)))


def _judged(told: pd.DataFrame, named: Mapping[str, BeaconFact]) -> pd.DataFrame:
    """Return right, exact (of the trained prompt) and paraphrase (share of right ones, NaN without any) by identity."""
    right = [float(answers.is_right(row.answer, named[row.identity])) for row in told.itertuples(index=False)]
    exact = [float(answers.is_exact(row.answer, named[row.identity])) for row in told.itertuples(index=False)]
    table = told.assign(right=right, exact=exact).set_index("identity")
    first = table["prompt"] == 0
    again = table[~first].groupby("identity")["right"].mean().rename("paraphrase")
    return table[first][["right", "exact"]].join(again)


def _taught(record: records.Record) -> dict[str, BeaconFact]:
    named = _named()
    if "readings" not in record.frames or record.config["targets"] != "shuffled":
        return named
    by_target = {fact.target: fact for fact in named.values()}
    taught = record.frames["facts"].set_index("identity")["taught"]
    return {identity: by_target[target] for identity, target in taught.items()}


@lru_cache(maxsize=1)
def _named() -> dict[str, BeaconFact]:
    return {fact.identity: fact for pool in get_args(Pool) for fact in facts(pool)}


def mean(record: records.Record, score: str, choice: Choice | None = None) -> float:
    """Return the mean of a score over all facts asked, or over those that `choice` marks; NaN where it marks none."""
    frame = scores(record)
    return float((frame if choice is None else frame[choice(frame)])[score].mean())


def over_seeds(runs: Sequence[records.Record], score: str, choice: Choice | None = None) -> Interval | float | None:
    """Return the mean over training seeds, with its t interval from three on; None where no fact has the score."""
    found = [mean(run, score, choice) for run in runs]
    if not np.isfinite(found).all():
        return None
    return statistics.t_interval(found) if len(found) >= statistics.MINIMUM_SEEDS else float(np.mean(found))


def trained(frame: pd.DataFrame) -> pd.Series:
    """Mark the facts that were trained on: what a filter keeps."""
    return frame["trained"].astype(bool)


def left_out(frame: pd.DataFrame) -> pd.Series:
    """Mark the facts that were asked without having been trained on."""
    return ~frame["trained"].astype(bool)


def among(identities: Iterable[str]) -> Choice:
    """Return the choice of facts by identity: the same facts under another training."""
    wanted = set(identities)
    return lambda frame: frame.index.to_series().isin(wanted)


def kept(record: records.Record) -> list[str]:
    """Return the identities of the facts that were trained on, of those that were asked."""
    frame = scores(record)
    return frame.index[trained(frame)].tolist()


def lost(alone: records.Record, together: records.Record, score: str) -> pd.Series:
    """Return the interference of each fact asked after both trainings: its score alone minus its score among N."""
    ours = scores(together)
    single = scores(alone)
    return interference.lost(single, ours[ours.index.isin(single.index)], score)


def locality(record: records.Record) -> float | None:
    """Return the share of answers on facts not trained on that are as before; None where none were asked."""
    if "others" not in record.frames:
        return None
    frame = record.frames["others"]
    return float((frame["before"] == frame["answer"]).mean())


def cosine_table(record: records.Record, named: Sequence[BeaconFact]) -> pd.DataFrame:
    """Return the gradients' cosines of all pairs of facts: before, after, and whether they share relation or target.

    `named` are the facts in the order of the record's numbers.
    """
    frame = record.frames["cosines"]
    one, other = ([named[place] for place in frame[side]] for side in ("one", "other"))
    pairs = list(zip(one, other, strict=True))
    return frame.assign(
        same_relation=[a.relation == b.relation for a, b in pairs], same_target=[a.target == b.target for a, b in pairs]
    )
