"""Schemas of the frames that records of the LEMoE series hold."""

import pandera.pandas as pa
from pandera.typing import Series

from lib.records.frames import Frame, Schemas, count, loss, share


class Scored(Frame):
    """Scores of edits, as `editing.scoring.score` gives them; NaN for an edit without rephrase or locality question."""

    identity: Series[str]
    rel: Series[float] = share()
    rel_exact: Series[float] = share()
    gen: Series[float] = share(nullable=True)
    gen_exact: Series[float] = share(nullable=True)
    loc: Series[float] = share(nullable=True)
    loc_exact: Series[float] = share(nullable=True)


class Scores(Scored, rows=("run", "batches", "identity")):
    """A row per run, number of batches edited so far, and edit; `batch` is the edit's own.

    The model answers freely (`generated`, and `rel_free`: whether that is the target) after the last batch only.
    """

    batch: Series[int] = count()
    run: Series[int] = count()
    batches: Series[int] = count(1)
    generated: Series[str] | None = pa.Field(nullable=True)
    rel_free: Series[float] | None = share(nullable=True)


class Distant(Frame, rows=("run", "identity")):
    """How much of the answer to an edit's distant question is kept after the last batch."""

    run: Series[int] = count()
    identity: Series[str]
    kind: Series[str] = pa.Field(isin=["passage", "relation"])
    kept: Series[float] = share()
    kept_exact: Series[float] = share()


class Routes(Frame, rows=("run", "batches", "batch")):
    """Shares of texts by the expert that serves them, a row per run, batches edited so far, and batch of the edit.

    A row of `batch` -1 tells of all edits after the last batch, with the shares of rephrases that go where their edit
    goes (NaN without any), and of edits and unrelated questions that no expert serves; the others tell only of
    `agreement` with the routes of training.
    """

    run: Series[int] = count()
    batches: Series[int] = count(1)
    batch: Series[int] = count(-1)
    edits: Series[float] | None = share()
    rephrases: Series[float] | None = share(nullable=True)
    unserved: Series[float] | None = share()
    unrelated: Series[float] | None = share(nullable=True)
    agreement: Series[float] = share()


class Texts(Frame):
    """A row per edit, rephrase and unrelated question: how hard its expert pushes, and what that changes.

    push: norm of what the expert adds over that of the feed-forward part's own output; margin: the smallest gap in
    logits of the model before; kl: nats; the others: shares of the answer's tokens.
    """

    kind: Series[str] = pa.Field(isin=["edit", "rephrase", "unrelated"])
    identity: Series[str]
    push: Series[float] = loss()
    margin: Series[float] = loss()
    kl: Series[float] = loss()
    kept: Series[float] = share()
    right_before: Series[float] = share()
    right_after: Series[float] = share()


class Scales(Scored, rows=("scale", "identity")):
    """Scores of every edit with the experts' output scaled down after training."""

    scale: Series[float] = share()


EDITED: Schemas = {"scores": Scores, "routes": Routes}
DRAWN: Schemas = {**EDITED, "distant": Distant}
STUDIED: Schemas = {"texts": Texts, "scales": Scales}
