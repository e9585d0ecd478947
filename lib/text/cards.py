"""The data card of a set of sentence pairs.

Apart from `pairs`, so that a change of the metrics does not count as a change of the code behind the data.
"""

from typing import Any

import numpy as np
import pandas as pd

from lib.text import metrics
from lib.text.pairs import SPLITS, PairSet


def card(pairs: PairSet, sample: int = 2000) -> pd.DataFrame:
    """Return one row per split: pairs, words (5 %, median, 95 %, most), different words, BLEU of copying, licence.

    The BLEU is the mean sentence BLEU-4, in [0, 1], of the sources of the first `sample` pairs against their targets.
    """
    rows = []
    for split in SPLITS:
        sources, targets = pairs.sources(split), pairs.targets(split)
        row: dict[str, Any] = {"split": split, "pairs": len(sources)}
        for side, texts in (("source", sources), ("target", targets)):
            words = [text.split() for text in texts]
            quantiles = np.quantile([len(w) for w in words], [0.05, 0.5, 0.95, 1]).round().astype(int)
            row[f"{side} words"] = " / ".join(map(str, quantiles))
            row[f"{side} types"] = len({word for w in words for word in w})
        row["copy BLEU"] = float(metrics.bleu(sources[:sample], targets[:sample]).mean())
        rows.append(row | {"licence": pairs.licence})
    return pd.DataFrame(rows).set_index("split")
