"""Schemas of the frames that records of the InfoDiffusion series hold; items count from 0 within a split."""

import pandera.pandas as pa
from pandera.typing import Series

from lib.records.frames import Frame, Schemas, count
from lib.series.infodiffusion.sweep import CARRIED, CLAMPED, SAMPLERS, WARM


class Outputs(Frame, rows=("split", "item", "candidate")):
    """A row per sentence written: for each item of a split, every candidate."""

    split: Series[str] = pa.Field(isin=["test", "whole"])
    item: Series[int] = count()
    candidate: Series[int] = count()
    text: Series[str]


class Settled(Frame, rows=("item", "place")):
    """A row per word of every finished sentence, with the sampling step (1 is the first) that settled it."""

    item: Series[int] = count()
    place: Series[int] = count()
    word: Series[str]
    step: Series[int] = count(1)


class Trace(Frame, rows=("item", "step", "place")):
    """A row per word of the estimate after every sampling step."""

    item: Series[int] = count()
    step: Series[int] = count(1)
    place: Series[int] = count()
    word: Series[str]


class Sampled(Frame, rows=("sampler", "steps", "item", "candidate")):
    """A row per sentence of the sweep over numbers of sampling steps."""

    sampler: Series[str] = pa.Field(str_matches=f"^({'|'.join((*SAMPLERS, CLAMPED, CARRIED))}|{WARM}[0-9.]+)$")
    steps: Series[int] = count(1)
    item: Series[int] = count()
    candidate: Series[int] = count()
    text: Series[str]


TRAINED: Schemas = {"outputs": Outputs, "settled": Settled, "trace": Trace}
SAMPLED: Schemas = {"outputs": Sampled}
