"""A BERTScore-like metric: greedy matching of the contextual vectors of tokens (Zhang et al., 2020)."""

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.causal_lm import backbones
from lib.errors import UserError
from lib.sources import hub
from lib.text import metrics

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The folder of another encoder: the authors use microsoft/deberta-xlarge-mnli.
FOLDER = os.environ.get("BERTSCORE_MODEL", "")
ENCODER = Path(FOLDER).name if FOLDER else "all-MiniLM-L6-v2"  # named beside every score
LAYERS = {
    "deberta-xlarge-mnli": 40
}  # whose states agree best with people, as the metric's authors found; else the last


def token_vectors(texts: Iterable[str]) -> dict[str, "Tensor"]:
    """Return {text: vectors (tokens, width)} of the encoder's layer, each different text encoded once.

    The encoder is MiniLM, or the one in the folder that BERTSCORE_MODEL names; `UserError` where that has none.
    """
    different = list(dict.fromkeys(texts))
    vectors = _encoded(different) if FOLDER else backbones.encode_tokens(different)
    return dict(zip(different, vectors, strict=True))


def encoder_identity() -> str:
    """Return what tells the user's encoder from another: a digest of its files; "" for MiniLM."""
    return backbones.identity(FOLDER) if FOLDER else ""


@functools.cache
def _encoder(folder: str) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    transformers = hub.import_transformers(offline=True)
    try:
        model = transformers.AutoModel.from_pretrained(folder, dtype="float32", use_safetensors=True)
        return transformers.AutoTokenizer.from_pretrained(folder), model.eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"BERTSCORE_MODEL={folder}: {reason}: name a folder with an encoder's files") from error


def _encoded(texts: Sequence[str], batch_size: int = 64) -> "list[Tensor]":
    """Return the vectors of each text's tokens, special ones left out, on the CPU; a text is cut at 512 tokens."""
    import torch

    tokenizer, model = _encoder(FOLDER)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    layer = min(LAYERS.get(ENCODER, model.config.num_hidden_layers), model.config.num_hidden_layers)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer(
            [texts[place] for place in chosen],
            padding=True,
            truncation=True,
            max_length=512,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        special = batch.pop("special_tokens_mask").bool()
        with torch.inference_mode():
            states = model(**batch.to(model.device), output_hidden_states=True).hidden_states[layer].cpu()
        ordinary = batch["attention_mask"].cpu().bool() & ~special
        for row, place in enumerate(chosen):
            found[place] = states[row][ordinary[row]].clone()
    return found


def bertscore(
    hypotheses: Sequence[str], references: Sequence[str], vectors: "Mapping[str, Tensor] | None" = None
) -> np.ndarray:
    """F1 of greedy token matching over the encoder's layer, (n,); no idf weights, no rescaling by a baseline.

    `vectors` are those of `token_vectors` for all these texts, to encode the texts of several systems only once.
    Raises `ValueError` unless both have the same number of sentences and `vectors` has all of them, and `TypeError` for
    what is no text.
    """
    metrics.check_pairs(hypotheses, references)
    known = token_vectors([*hypotheses, *references]) if vectors is None else vectors
    if missing := {*hypotheses, *references} - known.keys():
        raise ValueError(f"vectors: {len(missing)} texts have none, such as {min(missing)!r}")
    pairs = zip(hypotheses, references, strict=True)
    return np.array([greedy_f1(known[text], known[reference])[2] for text, reference in pairs], dtype=float)


def greedy_f1(hypothesis: "Tensor", reference: "Tensor") -> tuple[float, float, float]:
    """Return precision, recall and F1 of token vectors (n, d) against (m, d): means of each token's best cosine.

    All three are 0 when a side has no token, and F1 is 0 when precision or recall is not positive (our choice). Raises
    `ValueError` for vectors of unlike widths, and for those that are not finite.
    """
    if hypothesis.ndim != 2 or reference.ndim != 2 or hypothesis.shape[1] != reference.shape[1]:
        raise ValueError(f"vectors {tuple(hypothesis.shape)} and {tuple(reference.shape)}: give two of equal width")
    for name, side in (("hypothesis", hypothesis), ("reference", reference)):
        if not side.isfinite().all():
            raise ValueError(f"{name} holds a number that is not finite")
    if not len(hypothesis) or not len(reference):
        return 0.0, 0.0, 0.0
    cosine = _unit(hypothesis) @ _unit(reference).T
    precision, recall = float(cosine.amax(dim=1).mean()), float(cosine.amax(dim=0).mean())
    if min(precision, recall) <= 0:
        return precision, recall, 0.0
    return precision, recall, 2 * precision * recall / (precision + recall)


def _unit(vectors: "Tensor") -> "Tensor":
    """Scale rows to length 1, in double precision so that equal texts score 1 exactly enough; a zero row stays zero."""
    vectors = vectors.double()
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
