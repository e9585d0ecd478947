"""From raw responses of the distillation series to scores: ROUGE-L, exact match, changed words; pure functions.

The public scores of the field are ROUGE-L: F, stemmed, the maximum over references, here in points of 100. A cell is
the mean over decoding seeds, then over training seeds.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from lib import intervals, records
from lib.intervals import Interval
from lib.text import metrics
from lib.text.instructions import Instruction

GREEDY = -1  # in the column of decoding seeds
POINTS, POINTS_APART = (0.0, 100.0), (-100.0, 100.0)  # ranges of a score and of a difference of two
REWRITING = ("modern", "simple")  # sets whose input is a text to be said otherwise
_WORD = re.compile(r"\w+(?:'\w+)?")
_SCORER = metrics.rouge_scorer(stemmed=True)


@lru_cache(maxsize=200_000)
def rouge_l(text: str, references: tuple[str, ...]) -> float:
    """Return the largest ROUGE-L F1 over references, stemmed, in [0, 100] (sheet, "Protocol of the field")."""
    return 100 * max(_SCORER.score(reference, text)["rougeL"].fmeasure for reference in references)


def exact(text: str, references: Sequence[str]) -> float:
    """Return 100 where a response has the words of a reference, in order, whatever their case and punctuation.

    A reference without words is met by nothing.
    """
    words = _words(text)
    return 100.0 * (bool(words) and any(words == _words(reference) for reference in references))


def changed_words(source: str, text: str, references: Sequence[str]) -> float:
    """Return the F1 of words that the text has beyond its source, against those a reference has: [0, 100], our choice.

    The largest over references; words are counted as often as they come. Copying the source scores 0 unless nothing was
    to be changed, which scores 100 for a text that adds nothing.
    """
    given = Counter(_words(source))
    added = Counter(_words(text)) - given
    scores = []
    for reference in references:
        wanted = Counter(_words(reference)) - given
        right, size = (added & wanted).total(), added.total() + wanted.total()
        scores.append(100 * 2 * right / size if size else 100.0)
    return max(scores)


def scored(outputs: pd.DataFrame, items: Mapping[str, Instruction]) -> pd.DataFrame:
    """Return the rows of `outputs` with columns rouge, exact and changed (NaN outside the rewriting sets).

    `outputs` has columns set, identity and text, `items` the instructions by identity. Raises `KeyError` for a row
    whose instruction is not there.
    """
    frame = outputs.copy()
    asked = [items[identity] for identity in frame["identity"]]
    answers = list(zip(frame["text"], asked, strict=True))
    frame["rouge"] = [rouge_l(text, item.references) for text, item in answers]
    frame["exact"] = [exact(text, item.references) for text, item in answers]
    frame["changed"] = [
        changed_words(item.input, text, item.references) if item.name in REWRITING else np.nan for text, item in answers
    ]
    return frame


def of_test(record: records.Record, items: Mapping[str, Instruction], sampled: bool = True) -> pd.DataFrame:
    """Return the scores of a record's test responses, sampled or greedy ones, averaged over decoding seeds.

    One row per set and instruction, indexed so, in the same order for every record of one data set.
    """
    frame = record.frames["outputs"]
    frame = frame[(frame["split"] == "test") & ((frame["seed"] != GREEDY) == sampled)]
    found = scored(frame, items)
    return found.groupby(["set", "identity"], sort=True)[["rouge", "exact", "changed", "tokens"]].mean()


def cell(runs: Sequence[pd.DataFrame], name: str, metric: str = "rouge") -> Interval:
    """Return the mean of a metric on one set: over training seeds a t interval, of fewer than three over items.

    `runs` are the frames of `of_test`, one for each training seed; every set together where `name` is empty, each set
    counting alike. The t interval has the floor of the items within sets. Raises `KeyError` for a set that is not
    there.
    """
    bounds = POINTS if metric in ("rouge", "exact", "changed", "edits") else None
    if name:
        return intervals.over_seeds_or_items([run.loc[name][metric] for run in runs], bounds)
    few = len(runs) < intervals.MINIMUM_SEEDS
    items = [balanced([run], metric) if few else _within_sets(run, metric) for run in runs]
    return intervals.over_seeds_or_items(items, bounds)


def _within_sets(run: pd.DataFrame, metric: str) -> np.ndarray:
    """`balanced` without what differs between sets, which are fixed and not drawn: the same mean, (items,)."""
    means = run[metric].groupby(level="set").transform("mean")
    inside = run.assign(**{metric: run[metric] - means})
    return balanced([inside], metric) + set_means(run, metric).mean()


def balanced(runs: Sequence[pd.DataFrame], metric: str = "rouge") -> np.ndarray:
    """Return the metric of every instruction, averaged over runs and weighted so that its mean counts sets alike.

    A value is multiplied by all items over the items of its set times the number of sets: (items,).
    """
    frame = sum(run[metric] for run in runs) / len(runs)
    sizes = frame.groupby(level="set").transform("size")
    return (frame * len(frame) / (sizes * frame.index.unique("set").size)).to_numpy()


def set_means(run: pd.DataFrame, metric: str = "rouge") -> pd.Series:
    """Return the mean of a metric on each set."""
    return run.groupby(level="set")[metric].mean()


def paired(
    ours: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame], sets: Sequence[str], metric: str = "rouge"
) -> tuple[np.ndarray, np.ndarray]:
    """Return two methods' scores on some sets, aligned: (seeds, items) each, every set counting alike.

    Raises `ValueError` for unequal numbers of seeds, or other instructions.
    """
    if len(ours) != len(others):
        raise ValueError(f"{len(ours)} and {len(others)} seeds")
    sides = []
    for runs in (ours, others):
        chosen = [run[run.index.get_level_values("set").isin(sets)] for run in runs]
        if any(not run.index.equals(chosen[0].index) for run in chosen):
            raise ValueError("the seeds answer other instructions")
        sides.append((chosen[0].index, np.stack([balanced([run], metric) for run in chosen])))
    if not sides[0][0].equals(sides[1][0]):
        raise ValueError("the methods answer other instructions")
    return sides[0][1], sides[1][1]


def difference(ours: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame], sets: Sequence[str]) -> Interval:
    """Return the mean of ours minus others in ROUGE-L on some sets, each counting alike, paired, with its interval.

    As in `cell`: over training seeds from three on, else over the instructions. Raises as `paired`.
    """
    return intervals.Sample.of(*paired(ours, others, sets)).interval(0.95, POINTS_APART)


def remembered(train: Sequence[Instruction], test: Sequence[Instruction]) -> dict[str, float]:
    """Return, by set of the test rows, the share with a right answer among the answers of the training rows."""
    known = {item.output for item in train}
    shares = {}
    for name in dict.fromkeys(item.name for item in test):
        asked = [item for item in test if item.name == name]
        shares[name] = sum(not known.isdisjoint(item.references) for item in asked) / len(asked)
    return shares


def trivial(train: Sequence[Instruction], test: Sequence[Instruction]) -> dict[str, pd.DataFrame]:
    """Return the scores of two rows without a model, as `of_test` does: the set's most frequent answer, and the input.

    The most frequent training answer of a set, of equally frequent ones the one that scores best on average on the test
    set, so the row is not made weaker than it could be; a set that was not trained on takes the most frequent answer
    of all. Copying takes the input, or the instruction where there is none.
    """
    items = {item.identity: item for item in test}
    frequent = {name: _most_frequent(train, test, name) for name in {item.name for item in test}}
    rows = {
        "most frequent answer": [frequent[item.name] for item in test],
        "copy the input": [item.input or item.instruction for item in test],
    }
    found = {}
    for title, texts in rows.items():
        frame = pd.DataFrame(
            {
                "set": [item.name for item in test],
                "identity": [item.identity for item in test],
                "text": texts,
                "tokens": np.nan,
            }
        )
        values = scored(frame, items).set_index(["set", "identity"]).sort_index()
        found[title] = values[["rouge", "exact", "changed", "tokens"]]
    return found


def _most_frequent(train: Sequence[Instruction], test: Sequence[Instruction], name: str) -> str:
    own = [item.output for item in train if item.name == name] or [item.output for item in train]
    counts = Counter(own).most_common()
    best = [text for text, count in counts if count == counts[0][1]]
    asked = [item for item in test if item.name == name]
    return max(best, key=lambda text: sum(rouge_l(text, item.references) for item in asked))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
