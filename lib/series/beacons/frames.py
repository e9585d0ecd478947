"""Schemas of the frames that records of the Beacons series hold; distances are 1 - cosine, losses nats a token."""

import pandera.pandas as pa
from pandera.typing import Series

from lib.records.frames import Frame, Schemas, cosine_distance, count, loss


class Identities(Frame, rows=("identity",)):
    """The facts that a case is about, in order."""

    identity: Series[str]


class Facts(Frame, rows=("run", "identity")):
    """A row per run and fact asked: whether it was trained on, its loss, and its answer's distance by two rulers."""

    identity: Series[str]
    trained: Series[bool]
    loss: Series[float] = loss()
    raw: Series[float] = cosine_distance()
    centred: Series[float] = cosine_distance()
    run: Series[int] = count()


class Answers(Frame, rows=("run", "identity", "prompt")):
    """A row per run, fact and wording (0 the trained prompt, from 1 on paraphrases)."""

    identity: Series[str]
    prompt: Series[int] = count()
    answer: Series[str]
    run: Series[int] = count()


class Others(Frame, rows=("run", "identity")):
    """A row per run and fact that was not trained on: the model's answer before and after."""

    identity: Series[str]
    before: Series[str]
    answer: Series[str]
    run: Series[int] = count()


class Curve(Frame, rows=("run", "step")):
    """The training loss of every step of every run."""

    step: Series[int] = count(1)
    loss: Series[float] = loss()
    run: Series[int] = count()


class Taught(Frame, rows=("identity",)):
    """The facts that are learnt alone, each with the target that it is taught."""

    identity: Series[str]
    taught: Series[str]


class AnswersAlone(Frame, rows=("identity", "prompt")):
    """A row per fact and wording, after the last update of an adapter of the fact's own."""

    identity: Series[str]
    prompt: Series[int] = count()
    answer: Series[str]


class Readings(Frame, rows=("identity", "step")):
    """A row per fact and step read (0 is the base model); distances are to the taught target.

    x, y: the shift of the last prompt token's hidden state, in the plane of its first two principal components.
    """

    identity: Series[str]
    answer: Series[str]
    loss: Series[float] = loss()
    raw: Series[float] = cosine_distance()
    centred: Series[float] = cosine_distance()
    expected: Series[float] = cosine_distance()
    step: Series[int] = count()
    x: Series[float]
    y: Series[float]


class Asked(Frame, rows=("identity", "prompt", "sample")):
    """A row per fact, wording and answer of the untrained model (sample 0 greedy, from 1 on drawn)."""

    identity: Series[str]
    prompt: Series[int] = pa.Field(isin=range(4))
    sample: Series[int] = count()
    answer: Series[str]


class Initial(Frame, rows=("identity",)):
    """A row per fact: what the untrained model says, its loss on the target, and the distance by every ruler."""

    identity: Series[str]
    kind: Series[str]
    relation: Series[str]
    target: Series[str]
    answer: Series[str]
    tokens: Series[int] = count(1)
    loss: Series[float] = loss()
    raw: Series[float] = cosine_distance()
    centred: Series[float] = cosine_distance()
    encoder: Series[float] = cosine_distance()
    hidden: Series[float] = cosine_distance()
    expected: Series[float] = cosine_distance()


class Anisotropy(Frame, rows=("ruler", "of")):
    """The mean cosine of all pairs of different texts or tokens, by ruler."""

    ruler: Series[str] = pa.Field(isin=["raw", "centred", "encoder", "hidden"])
    of: Series[str] = pa.Field(isin=["targets", "answers", "vocabulary"])
    cosine: Series[float] = pa.Field(ge=-1, le=1)


class Gradients(Frame, rows=("one", "other")):
    """A row per pair of facts, by their numbers: cosine of the gradients of their losses, before and after training."""

    one: Series[int] = count()
    other: Series[int] = count(1)
    before: Series[float] = pa.Field(ge=-1, le=1)
    after: Series[float] = pa.Field(ge=-1, le=1)


TOGETHER: Schemas = {"facts": Facts, "answers": Answers, "others": Others, "curve": Curve}
ALONE: Schemas = {"facts": Taught, "answers": AnswersAlone, "readings": Readings}
KNOWN: Schemas = {"facts": Initial, "answers": Asked, "cosines": Anisotropy}
GRADIENTS: Schemas = {"facts": Identities, "cosines": Gradients}
# By the name of what computes them.
OF_COMPUTED: dict[str, Schemas] = {
    "train": TOGETHER,
    "learn_alone": ALONE,
    "ask_base": KNOWN,
    "read_text": {},
    "compare_gradients": GRADIENTS,
    "train_drawn": TOGETHER,
    "learn_drawn": ALONE,
    "ask_drawn": KNOWN,
    "train_reading": TOGETHER,
}
