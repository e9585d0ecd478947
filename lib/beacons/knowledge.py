"""What the base model knows of each fact before any training: SliCK's four classes, distance, loss and length.

SliCK (Gekhman et al., 2024, section 3) asks with several few-shot prompts; here they are a fact's prompt and its three
paraphrases, without examples (our choice: raw text, as everywhere in this series).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from lib.beacons import answers, distance
from lib.beacons.facts import BeaconFact
from lib.causal_lm.encoding import IGNORED, encode, pair_tokens
from lib.causal_lm.layers import blocks
from lib.causal_lm.upper_layers import UpperLayers
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CLASSES = ("highly known", "maybe known", "weakly known", "unknown")
MEASURED = ("raw", "centred", "encoder", "hidden")  # rulers of `distance.RULERS`
RULERS = (*MEASURED, "expected")  # columns of `initial`


def frames(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    longest: int,
    samples: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return all that is to be known of facts under a base model: "answers" (`ask`), "facts" (`initial`), "cosines".

    The classes follow from the answers alone (`classes`). Raises `UserError` as these do.
    """
    asked = ask(model, tokenizer, facts, longest, samples, seed)
    first = asked[(asked["prompt"] == 0) & (asked["sample"] == 0)].set_index("identity")["answer"]
    said = [first[fact.identity] for fact in facts]
    return {
        "answers": asked,
        "facts": initial(model, tokenizer, facts, said),
        "cosines": cosines(model, tokenizer, facts, said),
    }


def ask(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    longest: int,
    samples: int,
    seed: int,
) -> pd.DataFrame:
    """Ask each fact in its four wordings, once greedily and `samples` times drawn.

    Columns: identity, prompt (0 the prompt, 1-3 the paraphrases), sample (0 greedy, from 1 on drawn), answer. Raises
    `UserError` as `answers.greedy` and `answers.sampled` do.
    """
    asked = [(fact.identity, number, text) for fact in facts for number, text in enumerate(_wordings(fact))]
    prompts = [text for _, _, text in asked]
    given = answers.sampled(model, tokenizer, prompts, longest, samples, seed)
    rows = [
        (identity, number, sample, answer)
        for (identity, number, _), several in zip(asked, given, strict=True)
        for sample, answer in enumerate(several)
    ]
    return pd.DataFrame(rows, columns=["identity", "prompt", "sample", "answer"])


def classes(asked: pd.DataFrame, facts: Sequence[BeaconFact]) -> pd.DataFrame:
    """Return SliCK's class of each fact by its identity, from the frame of `ask`; pure.

    Columns: greedy and sampled (shares of right answers), known (one of `CLASSES`: all greedy answers right, some, none
    but a drawn one, none at all), an ordered categorical. Raises `UserError` for a fact that was not asked, greedily
    and drawn.
    """
    named = {fact.identity: fact for fact in facts}
    table = asked[asked["identity"].isin(named)]
    if missing := named.keys() - set(table["identity"]):
        raise UserError(f"no answers on {len(missing)} facts, such as {min(missing)!r}: ask them first")
    right = [answers.is_right(row.answer, named[row.identity]) for row in table.itertuples(index=False)]
    table = table.assign(right=right)
    drawn = table["sample"] > 0
    for how, rows in (("greedy", ~drawn), ("drawn", drawn)):
        if missing := named.keys() - set(table.loc[rows, "identity"]):
            raise UserError(f"no {how} answer on {len(missing)} facts, such as {min(missing)!r}: ask them first")
    found = pd.DataFrame(
        {
            "greedy": table[~drawn].groupby("identity")["right"].mean(),
            "sampled": table[drawn].groupby("identity")["right"].mean(),
        }
    ).loc[list(named)]
    known = np.select([found["greedy"] == 1, found["greedy"] > 0, found["sampled"] > 0], CLASSES[:3], CLASSES[3])
    return found.assign(known=pd.Categorical(known, CLASSES, ordered=True))


def initial(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    said: Sequence[str],
) -> pd.DataFrame:
    """Return one row per fact: identity, kind, relation, target, answer (`said`), tokens, loss, and d by `RULERS`.

    `tokens` is the target's length; `loss` its mean cross-entropy in nats a token under teacher forcing; "expected" is
    the smooth distance, of uncentred embeddings. Raises `ValueError` unless there is one answer for each fact, and
    where the model gives a loss that is not finite.
    """
    if len(said) != len(facts):
        raise ValueError(f"{len(said)} answers said on {len(facts)} facts: give one for each")
    wanted = [fact.target for fact in facts]
    lengths = [len(pair_tokens(tokenizer, fact.prompt, fact.target)[1]) for fact in facts]
    losses, smooth = _forced(model, tokenizer, facts)
    if not losses.isfinite().all():
        raise ValueError("the model's loss on a fact is not finite: its weights are broken")
    frame = pd.DataFrame(
        {
            "identity": [fact.identity for fact in facts],
            "kind": [fact.kind for fact in facts],
            "relation": [fact.relation for fact in facts],
            "target": [target.strip() for target in wanted],
            "answer": list(said),
            "tokens": lengths,
            "loss": losses.tolist(),
        }
    )
    for name in MEASURED:
        frame[name] = distance.distance(distance.ruler(name, model, tokenizer), said, wanted).tolist()
    return frame.assign(expected=smooth.tolist())


def cosines(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[BeaconFact],
    said: Sequence[str],
) -> pd.DataFrame:
    """Return the anisotropy (mean cosine of all pairs) of each ruler over different targets, answers and tokens.

    Columns: ruler, of ("targets", "answers", "vocabulary"), cosine; the vocabulary for raw and centred embeddings only.
    """
    texts: Mapping[str, list[str]] = {
        "targets": sorted({fact.target.strip() for fact in facts}),
        "answers": sorted({text for text in said if text}),
    }
    rows: list[tuple[str, str, float]] = []
    for name in MEASURED:
        measure = distance.ruler(name, model, tokenizer)
        found = {of: measure.vectors(several) for of, several in texts.items() if len(several) > 1}
        rows += [(name, of, distance.anisotropy(vectors)) for of, vectors in found.items()]
    table = distance.embeddings(model)
    rows += [
        ("raw", "vocabulary", distance.anisotropy(table)),
        ("centred", "vocabulary", distance.anisotropy(table - table.mean(0))),
    ]
    return pd.DataFrame(rows, columns=["ruler", "of", "cosine"])


def _wordings(fact: BeaconFact) -> tuple[str, ...]:
    return (fact.prompt, *fact.paraphrases)


@torch.no_grad()
def _forced(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", facts: Sequence[BeaconFact], batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """Return each fact's loss in nats a token and its smooth distance, (n,) each, under teacher forcing."""
    table, top = distance.embeddings(model), len(list(blocks(model)))
    order = sorted(range(len(facts)), key=lambda place: len(facts[place].prompt))
    losses, smooth = torch.empty(len(facts)), torch.empty(len(facts))
    for part in range(0, len(order), batch_size):
        chosen = order[part : part + batch_size]
        encoded = encode(model, tokenizer, [(facts[place].prompt, facts[place].taught) for place in chosen])
        is_target = encoded.labels != IGNORED
        logits = UpperLayers(model, encoded, top).logits(is_target.roll(-1, 1))
        labels, sequence = encoded.labels[is_target], is_target.nonzero()[:, 0]
        cost = functional.cross_entropy(logits, labels, reduction="none")
        totals = cost.new_zeros(len(chosen)).index_add(0, sequence, cost)
        losses[chosen] = (totals / is_target.sum(1)).cpu()
        smooth[chosen] = distance.expected(table, logits, labels, sequence, len(chosen)).cpu()
    return losses, smooth
