"""Scores on the language sets: held-out loss, ROUGE-L, exact answers, the edits made; and rows without any model.

All these sets rewrite their input, so the copy row stands beside them: copying King James scores ROUGE-L of .74.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib import records
from lib.series.distillation import evaluation
from lib.series.distillation.evaluation import GREEDY
from lib.text.instruction_sets import canonical
from lib.text.instructions import Instruction

NEAREST = "nearest training prompt"
SCORES = ("rouge", "exact", "edits", "tokens")


def mean_loss(losses: pd.DataFrame) -> float:
    """Return the held-out loss, in nats a token: the mean over rows of each row's mean, every set counting alike."""
    return float((losses["nats"] / losses["tokens"]).groupby(losses["set"]).mean().mean())


def losses_of(record: records.Record, best: bool = False) -> pd.DataFrame:
    """Return the held-out loss of each test row in nats a token, column `loss`, indexed by set and identity.

    After the last step, or with `best` after the step whose validation loss was least: what a student comes to if it
    may stop in time.
    """
    frame = record.frames["losses"]
    step = record.values["best"] if best else frame["step"].max()
    chosen = frame[frame["step"] == step]
    told = chosen.assign(loss=chosen["nats"] / chosen["tokens"]).set_index(["set", "identity"]).sort_index()
    return told[["loss"]]


def greedy(record: records.Record, items: Mapping[str, Instruction]) -> pd.DataFrame:
    """Return the scores of the greedy answers to the test rows, columns `SCORES`, indexed by set and identity.

    From the texts, or from the scores of a record that keeps only some of its texts.
    """
    if "scores" in record.frames:
        frame = record.frames["scores"]
    else:
        outputs = record.frames["outputs"]
        frame = scored(outputs[(outputs["split"] == "test") & (outputs["seed"] == GREEDY)], items)
    return frame.set_index(["set", "identity"]).sort_index()[list(SCORES)]


def sampled(record: records.Record, items: Mapping[str, Instruction]) -> pd.DataFrame | None:
    """Return the scores of sampled answers, averaged over decoding seeds; None of a record without any."""
    outputs = record.frames["outputs"]
    chosen = outputs[(outputs["split"] == "test") & (outputs["seed"] != GREEDY)]
    return None if chosen.empty else scored(chosen, items).groupby(["set", "identity"])[list(SCORES)].mean()


def scored(outputs: pd.DataFrame, items: Mapping[str, Instruction]) -> pd.DataFrame:
    """Return the rows of `outputs` (set, identity, text) with columns rouge, exact and edits, each in [0, 100]."""
    asked = [items[identity] for identity in outputs["identity"]]
    answers = list(zip(outputs["text"], asked, strict=True))
    found = outputs.assign(
        rouge=[evaluation.rouge_l(text, item.references) for text, item in answers],
        exact=[evaluation.exact(text, item.references) for text, item in answers],
        edits=[edits(item.input or item.instruction, text, item.references) for text, item in answers],
    )
    return found.astype(dict.fromkeys(("rouge", "exact", "edits"), float))  # where nothing is right all are 0


def edits(source: str, text: str, references: Sequence[str]) -> float:
    """Return the F1 of the words that a text adds to its source or takes from it, against a reference's: [0, 100].

    The largest over references; words are counted as often as they come, so their order plays no part. Copying the
    source scores 0 unless nothing was to be changed, which scores 100 for a text that changes nothing (our choice: of
    SARI's three parts those that copying does not meet).
    """
    made = _edits(source, text)
    return max(_f1(made, _edits(source, reference)) for reference in references)


def without_a_model(train: Sequence[Instruction], test: Sequence[Instruction]) -> dict[str, pd.DataFrame]:
    """Return the scores of three rows without a model: a set's most frequent answer, its input, `nearest` prompts'.

    Columns and index as in `greedy`.
    """
    items = {item.identity: item for item in test}
    frequent = {name: _most_frequent(train, test, name) for name in {item.name for item in test}}
    texts = {
        "most frequent answer": [frequent[item.name] for item in test],
        "copy the input": [item.input or item.instruction for item in test],
        NEAREST: nearest(train, test),
    }
    frame = pd.DataFrame({"set": [i.name for i in test], "identity": [i.identity for i in test], "tokens": np.nan})
    return {
        title: scored(frame.assign(text=said), items).set_index(["set", "identity"]).sort_index()[list(SCORES)]
        for title, said in texts.items()
    }


def nearest(train: Sequence[Instruction], test: Sequence[Instruction]) -> list[str]:
    """Return, for each test row, the answer of the training prompt that shares most words with its prompt (F1).

    Among training rows of its own set, or of all where that is not trained on; of equally near ones the first. Where
    this scores as a model does, answers are remembered and no language is needed.
    """
    by_set: dict[str, list[tuple[Counter[str], str]]] = {}
    for item in train:
        by_set.setdefault(item.name, []).append((_words(item), item.output))
    every = [row for rows in by_set.values() for row in rows]
    return [_nearest(_words(item), by_set.get(item.name, every)) for item in test]


def _nearest(asked: Counter[str], rows: Sequence[tuple[Counter[str], str]]) -> str:
    return max(rows, key=lambda row: _f1(asked, row[0]))[1]


def _most_frequent(train: Sequence[Instruction], test: Sequence[Instruction], name: str) -> str:
    """Return the most frequent training answer of a set; of equally frequent ones the best on its test rows."""
    own = [item.output for item in train if item.name == name] or [item.output for item in train]
    counts = Counter(own).most_common()
    best = [text for text, count in counts if count == counts[0][1]][:50]
    asked = [item for item in test if item.name == name]
    return max(best, key=lambda text: sum(evaluation.rouge_l(text, item.references) for item in asked))


def _words(item: Instruction) -> Counter[str]:
    return Counter(canonical((item.input or item.instruction).lower()).split())


def _edits(source: str, text: str) -> Counter[tuple[str, str]]:
    before, after = (Counter(canonical(one.lower()).split()) for one in (source, text))
    added, taken = after - before, before - after
    return Counter({("added", w): n for w, n in added.items()} | {("taken", w): n for w, n in taken.items()})


def _f1(one: Counter, other: Counter) -> float:
    """Return 100 where both are empty."""
    size = one.total() + other.total()
    return 100 * 2 * (one & other).total() / size if size else 100.0
