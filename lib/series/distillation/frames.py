"""Schemas of the frames that records of the distillation series hold."""

import pandera.pandas as pa
from pandera.typing import Series

from lib.records.frames import Frame, Schemas, count, loss, percent


class Outputs(Frame, rows=("split", "step", "set", "identity", "seed")):
    """A row per split, training step, instruction and decoding seed (-1: greedy), with the length of the response."""

    split: Series[str] = pa.Field(isin=["validation", "test"])
    step: Series[int] = count(1)
    set: Series[str]
    identity: Series[str]
    seed: Series[int] = count(-1)
    text: Series[str]
    tokens: Series[int] = count()


class Curve(Frame, rows=("step",)):
    """A row per training step: the losses that an objective has (nats a token, or a distance), and their weights."""

    step: Series[int] = count(1)
    ce: Series[float] = loss()
    output: Series[float] | None = loss()
    middle: Series[float] | None = loss()
    weight_ce: Series[float] = loss()
    weight_output: Series[float] | None = loss()
    weight_middle: Series[float] | None = loss()


class SliceScores(Frame, rows=("set", "identity", "seed")):
    """A row per instruction of a user's file and decoding seed (-1: greedy): scores and length, no text of the file."""

    set: Series[str]
    identity: Series[str]
    seed: Series[int] = count(-1)
    tokens: Series[int] = count()
    rouge: Series[float] = percent()
    exact: Series[float] = percent()


TRAINED: Schemas = {"outputs": Outputs, "curve": Curve}
ON_SLICE: Schemas = {"scores": SliceScores}


class Losses(Frame, rows=("step", "identity")):
    """A row per test row and step that was looked at: nats lost on the answer that is given, and its tokens."""

    step: Series[int] = count(1)
    set: Series[str]
    identity: Series[str]
    nats: Series[float] = loss()
    tokens: Series[int] = count(1)


class Further(Frame, rows=("identity",)):
    """A row per further prompt: the teacher's greedy answer, and its length."""

    set: Series[str]
    identity: Series[str]
    text: Series[str]
    tokens: Series[int] = count()


class GreedyScores(Frame, rows=("identity",)):
    """A row per test row: scores of the greedy answer, and its length."""

    set: Series[str]
    identity: Series[str]
    rouge: Series[float] = percent()
    exact: Series[float] = percent()
    edits: Series[float] = percent()
    tokens: Series[int] = count()


LANGUAGE: Schemas = {**TRAINED, "losses": Losses, "further": Further, "scores": GreedyScores}
