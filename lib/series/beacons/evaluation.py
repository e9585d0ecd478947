"""From records of the Beacons series to scores of facts, interference and arms: pure functions of the raw outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import pandas as pd

from lib import intervals, records
from lib.beacons import answers, interference
from lib.beacons.facts import BeaconFact, Pool, facts, uncut
from lib.intervals import Interval

# Scores of a fact: whether its answer is right (target or alias in it), exact, right on paraphrases (a share); then the
# distance of the answer, the target's loss.
SCORES = {
    "right": "right",
    "exact": "exact",
    "paraphrase": "right, paraphrase",
    "raw": "distance",
    "loss": "loss (nats a token)",
}
# Least and greatest value of each.
BOUNDS: dict[str, intervals.Bounds] = dict.fromkeys(SCORES, intervals.SHARE) | {
    "raw": (0.0, 2.0),
    "loss": (0.0, np.inf),
}
Choice = Callable[[pd.DataFrame], pd.Series]  # of the frame of `scores`, which facts count


def scores(record: records.Record) -> pd.DataFrame:
    """Return one row per fact that was asked after a training, indexed by identity: `SCORES`, centred, run, trained.

    Of facts alone (`single_fact.run`) the last reading; there every fact is trained. Targets are the facts' own, or
    what was taught where they were shuffled.
    """
    given = record.frames["answers"]
    if "readings" in record.frames:
        readings = record.frames["readings"]
        frame = readings[readings["step"] == readings["step"].max()].assign(trained=True, run=0)
    else:
        frame = record.frames["facts"]
    frame = frame.set_index("identity")
    kept = frame[["run", "trained", "loss", "raw", "centred"]]
    return kept.join(_judged(given, taught(record)))


def _judged(given: pd.DataFrame, named: Mapping[str, BeaconFact]) -> pd.DataFrame:
    """Return right, exact (of the trained prompt) and paraphrase (share of right ones, NaN without any) by identity."""
    right = [float(answers.is_right(row.answer, named[row.identity])) for row in given.itertuples(index=False)]
    exact = [float(answers.is_exact(row.answer, named[row.identity])) for row in given.itertuples(index=False)]
    table = given.assign(right=right, exact=exact).set_index("identity")
    first = table["prompt"] == 0
    again = table[~first].groupby("identity")["right"].mean().rename("paraphrase")
    return table[first][["right", "exact"]].join(again)


def taught(record: records.Record) -> dict[str, BeaconFact]:
    """Return by identity the fact whose target and aliases an answer is held to: where shuffled, another's."""
    named = _named()
    if "readings" not in record.frames or record.config["targets"] != "shuffled":
        return named
    targets = record.frames["facts"].set_index("identity")["taught"]
    # Of the record's own facts, which targets were taken from: elsewhere the same target may have other aliases.
    by_target = {named[identity].target: named[identity] for identity in targets.index}
    return {identity: by_target[target] for identity, target in targets.items()}


@lru_cache(maxsize=1)
def _named() -> dict[str, BeaconFact]:
    return {fact.identity: fact for found in (*map(facts, get_args(Pool)), uncut("results")) for fact in found}


def chosen(record: records.Record, score: str, choice: Choice | None = None) -> pd.Series:
    """Return a score of all facts asked, or of those that `choice` marks, by identity in sorted order.

    Facts without the score (no paraphrase was asked) are left out. So two records of the same facts are aligned.
    """
    frame = scores(record)
    frame = frame if choice is None else frame[choice(frame)]
    return frame[score].astype(float).dropna().sort_index()


def mean(record: records.Record, score: str, choice: Choice | None = None) -> float:
    """Return the mean of a score over all facts asked, or over those that `choice` marks; NaN where it marks none."""
    return float(chosen(record, score, choice).mean())


def over_seeds(runs: Sequence[records.Record], score: str, choice: Choice | None = None) -> Interval | float | None:
    """Return the mean over training seeds, from three on with its t interval, floored by the facts of each seed.

    None for no run or no fact scored.
    """
    return intervals.over_seeds_or_alone([chosen(run, score, choice) for run in runs], BOUNDS[score])


def over_seeds_or_facts(parts: Sequence[pd.Series], bounds: intervals.Bounds | None = None) -> Interval | float | None:
    """Return the mean over seeds as `intervals.over_seeds_or_alone`, of fewer than three with its bootstrap over facts.

    Each series has one seed's facts, by which they are averaged over the seeds; a single fact has no interval.
    """
    if len(parts) >= intervals.MINIMUM_SEEDS:
        return intervals.over_seeds_or_alone(parts, bounds)
    each = pd.concat(parts, axis=1).mean(axis=1)
    return intervals.mean_interval(each, bounds=bounds) if len(each) > 1 else float(each.mean())


def paired(
    ones: Sequence[records.Record], others: Sequence[records.Record], score: str
) -> tuple[list[pd.Series], list[pd.Series]]:
    """Return a score under two trainings, one series of facts a seed, of the facts that both were asked, aligned."""
    pairs = [(chosen(one, score), chosen(other, score)) for one, other in zip(ones, others, strict=True)]
    both = [one.index.intersection(other.index) for one, other in pairs]
    return [one[index] for (one, _), index in zip(pairs, both, strict=True)], [
        other[index] for (_, other), index in zip(pairs, both, strict=True)
    ]


def gap(ours: Sequence[records.Record], theirs: Sequence[records.Record], score: str) -> Interval | float | None:
    """Return a share under one training minus that under another: over the seeds that both have, fact by fact.

    As `intervals.over_seeds_or_alone`.
    """
    count = min(len(ours), len(theirs))
    sides = zip(*paired(ours[:count], theirs[:count], score), strict=True)
    return intervals.over_seeds_or_alone([one - other for one, other in sides], intervals.DIFFERENCE)


def other_targets(frame: pd.DataFrame) -> pd.Series:
    """Return for each fact (columns kind, target) the target of the next fact of its kind, the last one's the first."""
    return frame.groupby("kind")["target"].transform(lambda targets: list(targets[1:]) + list(targets[:1]))


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
    """Return the interference of each fact asked after both trainings: its score alone minus its score among N.

    By identity in sorted order, without facts that lack the score.
    """
    ours = scores(together)
    single = scores(alone)
    return interference.lost(single, ours[ours.index.isin(single.index)], score).dropna().sort_index()


def interference_row(alone: Sequence[records.Record], together: Sequence[records.Record]) -> dict[str, Any]:
    """Return a row of the table of interference: right alone and among N, and what learning together costs each score.

    Of shares alone minus among N; of distance and loss, which are better when low, among N minus alone: above 0 is a
    cost in every column. Intervals over seeds from three on.
    """
    row: dict[str, Any] = {}
    for score, title in SCORES.items():
        if score == "right":
            sides = zip(("right alone", "right among N"), paired(alone, together, score), strict=True)
            row |= {name: float(np.mean([part.mean() for part in parts])) for name, parts in sides}
        least, most = BOUNDS[score]
        sign = -1 if score in ("raw", "loss") else 1
        gone = [sign * lost(one, other, score) for one, other in zip(alone, together, strict=True)]
        name = f"{'lost' if sign > 0 else 'added'}: {title}"
        row[name] = intervals.over_seeds_or_alone(gone, (least - most, most - least))
    return row


def weighing_row(runs: Sequence[records.Record], initial: pd.Series) -> dict[str, Any]:
    """Return a row of the table of weighed losses: all scores, then right answers on the near and the far facts.

    `initial`: each fact's distance before training, by identity; near are those at most at its median.
    """
    near = initial <= initial.median()
    row: dict[str, Any] = {title: over_seeds(runs, score) for score, title in SCORES.items()}
    row["right, near half"] = over_seeds(runs, "right", among(initial.index[near]))
    return row | {"right, far half": over_seeds(runs, "right", among(initial.index[~near]))}


def arm_row(runs: Sequence[records.Record], plain: Sequence[records.Record]) -> dict[str, Any]:
    """Return a row of the tables of arms: right on the full set, on the kept facts, on those left out, paraphrases.

    "kept: plain" is what plain training says of the facts that each seed's filter kept; the arms that keep all
    facts have the full set only.
    """
    filters = not scores(runs[0])["trained"].all()
    same = [chosen(one, "right", among(kept(run))) for run, one in zip(runs, plain, strict=False)]
    return {
        "full set": over_seeds(runs, "right"),
        "full set, paraphrase": over_seeds(runs, "paraphrase"),
        "full set, loss": over_seeds(runs, "loss"),
        "full set, distance": over_seeds(runs, "raw"),
        "kept": over_seeds(runs, "right", trained) if filters else None,
        "kept: plain": intervals.over_seeds_or_alone(same, intervals.SHARE) if filters else None,
        "left out": over_seeds(runs, "right", left_out) if filters else None,
    }


def locality(record: records.Record) -> float | None:
    """Return the share of answers on facts not trained on that are as before; None where none were asked."""
    if "others" not in record.frames:
        return None
    frame = record.frames["others"]
    return float((frame["before"] == frame["answer"]).mean())


def asked(record: records.Record) -> list[BeaconFact]:
    """Return the facts of a record in its order."""
    named = _named()
    return [named[identity] for identity in record.frames["facts"]["identity"]]


def cosine_table(record: records.Record) -> pd.DataFrame:
    """Return the gradients' cosines of all pairs of facts: before, after, and whether they share relation or target."""
    frame, named = record.frames["cosines"], asked(record)
    one, other = ([named[place] for place in frame[side]] for side in ("one", "other"))
    pairs = list(zip(one, other, strict=True))
    return frame.assign(
        same_relation=[a.relation == b.relation for a, b in pairs], same_target=[a.target == b.target for a, b in pairs]
    )
