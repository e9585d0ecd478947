"""From records of the LEMoE series to scores of edits, batches and routes: pure functions of the raw outputs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib import intervals, records
from lib.intervals import Interval

METRICS = {"rel": "Rel", "gen": "Gen", "loc": "Loc", "avg": "Avg"}


def final(record: records.Record) -> pd.DataFrame:
    """Return the scores after the last batch, one row per run and edit, indexed by (run, identity).

    Column `avg` is the mean of rel, gen and loc of the edit, of those that it has (section "Task" of the paper sheet).
    """
    frame = record.frames["scores"]
    last = frame.groupby("run")["batches"].transform("max")
    found = frame[frame["batches"] == last].copy()
    found["avg"] = found[["rel", "gen", "loc"]].mean(axis=1)
    return found.set_index(["run", "identity"]).sort_index()


def cells(record: records.Record) -> dict[str, Interval | None]:
    """Return the mean of rel, gen, loc and avg over edits with bootstrap intervals; None for a score nobody has."""
    frame = final(record)
    found: dict[str, Interval | None] = {}
    for metric in METRICS:
        values = frame[metric].dropna().to_numpy()
        found[metric] = intervals.mean_interval(values, bounds=intervals.SHARE) if len(values) else None
    return found


def paired(one: records.Record, other: records.Record, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a score of the edits that two records share, aligned: (edits,) and (edits,).

    Raises `ValueError` where they share none.
    """
    both = pd.concat([final(one)[metric], final(other)[metric]], axis=1, join="inner", keys=["a", "b"]).dropna()
    if both.empty:
        raise ValueError(f"{one.case} and {other.case} share no edit")
    return both["a"].to_numpy(), both["b"].to_numpy()


def over_seeds(
    ones: Sequence[records.Record], others: Sequence[records.Record], metric: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return a score of two ways over training seeds, one vector a seed of the edits that both have, aligned."""
    pairs = [paired(one, other, metric) for one, other in zip(ones, others, strict=True)]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def over_time(record: records.Record, metric: str = "rel") -> pd.DataFrame:
    """Return the mean score of every batch (rows) after so many batches (columns); NaN before it was learnt."""
    frame = record.frames["scores"]
    return frame.groupby(["batch", "batches"])[metric].mean().unstack()


def learnt(record: records.Record) -> float:
    """Return the mean rel of every batch just after it was learnt: what its expert, or the weights, learnt of it."""
    table = over_time(record)
    return float(np.mean([table.loc[batch, batch + 1] for batch in table.index]))


def forgotten(record: records.Record) -> pd.Series:
    """Return by how much rel of each edit of the earlier batches fell from just after it was learnt to the end.

    Weighted so that the mean counts batches alike; indexed by identity.
    """
    frame = record.frames["scores"]
    first = frame[frame["batches"] == frame["batch"] + 1].set_index("identity")
    last = frame[frame["batches"] == frame["batches"].max()].set_index("identity")["rel"]
    earlier = first[first["batch"] < first["batch"].max()]
    sizes = earlier.groupby("batch")["rel"].transform("size")
    weights = len(earlier) / (sizes * earlier["batch"].nunique())
    return (earlier["rel"] - last[earlier.index]) * weights


def kept(record: records.Record) -> pd.DataFrame:
    """Return rel of each edit of the first batch after the middle batch of the run and at its end: `half` and `all`.

    The middle is the first batch by which half of the edits have been made. Indexed by identity.
    """
    frame = record.frames["scores"]
    sizes = frame[frame["batches"] == frame["batches"].max()].groupby("batch").size().cumsum()
    half = int((sizes < sizes.iloc[-1] / 2).sum()) + 1
    first = frame[frame["batch"] == 0].pivot(index="identity", columns="batches", values="rel").sort_index()
    return pd.DataFrame({"half": first[half], "all": first.iloc[:, -1]})


def agreement(record: records.Record) -> float:
    """Return the share of tokens (conventional routing) or edits (LEMoE) routed at the end as when they were learnt."""
    frame = record.frames["routes"]
    return float(frame[frame["batches"] == frame["batches"].max()]["agreement"].mean())


def consistency(record: records.Record) -> dict[str, float | None]:
    """Return LEMoE's routes at the end: shares of edits and rephrases at their batch's expert, unrelated without one.

    None for each where the method has no such routes.
    """
    names = ("edits", "rephrases", "unrelated")
    if "routes" not in record.frames or "edits" not in record.frames["routes"]:
        return dict.fromkeys(names)
    frame = record.frames["routes"]
    last = frame[frame["batches"] == frame["batches"].max()]
    return {name: float(last[name].mean()) for name in names}


def summary(titled: Mapping[str, records.Record]) -> pd.DataFrame:
    """Return one row per record: its title and the four scores with intervals."""
    rows = [
        {"row": title, **{METRICS[m]: cell for m, cell in cells(record).items()}} for title, record in titled.items()
    ]
    return pd.DataFrame(rows, dtype=object)


KINDS = ("right", "failed rephrase", "wrong token", "missed", "leak")


def kinds(record: records.Record) -> pd.DataFrame:
    """Return what became of each edit as flags, a column of each of `KINDS`: all but `right` may hold together.

    Missed: no token of the target is right; wrong token: some are and some are not; failed rephrase: a token of the
    target is wrong after a rephrase; leak: a token of the unrelated answer changed. Right: none of these. Indexed like
    `final`; our rule for the paper's table of cases. A rephrase or unrelated question that an edit lacks cannot fail.
    """
    frame = final(record)
    found = pd.DataFrame(
        {
            "failed rephrase": frame["gen_exact"] < 1,
            "wrong token": (frame["rel_exact"] < 1) & (frame["rel"] > 0),
            "missed": frame["rel"] == 0,
            "leak": frame["loc_exact"] < 1,
        }
    )
    return found.assign(right=~found.any(axis=1))[list(KINDS)]


def by_margin(texts: pd.DataFrame, parts: int = 4) -> pd.DataFrame:
    """Return how unrelated answers fare by how sure the unedited model was of them, in groups of rising margin.

    `texts` are rows of `locality.texts`. One row a group of about equal size, of at least two: its mean `margin`, in
    nats, and the mean `kept` with a bootstrap interval, `low` and `high`. Raises `ValueError` for fewer than two texts.
    """
    unrelated = texts[texts["kind"] == "unrelated"].sort_values("margin", kind="stable")
    rows = []
    for places in np.array_split(np.arange(len(unrelated)), max(1, min(parts, len(unrelated) // 2))):
        group = unrelated.iloc[places]
        kept = intervals.mean_interval(group["kept"].to_numpy(), bounds=intervals.SHARE)
        rows.append({"margin": group["margin"].mean(), "kept": kept.estimate, "low": kept.low, "high": kept.high})
    return pd.DataFrame(rows)
