"""BERTScores of several systems, kept in the cache: to encode some ten thousand sentences takes minutes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib import files, paths, sources
from lib.errors import UserError
from lib.machine import environment
from lib.statements.reach import digest, entry_of, reach
from lib.text import bertscore


def bertscores(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what `bertscore.bertscore` gives for each system, (n,) each, from the cache where it stands there.

    All systems are kept together, since the texts that share a batch decide how a vector is rounded; under their texts,
    the code, the encoder and what rounds numbers otherwise (lock, threads, processor). Raises `ValueError` as
    `bertscore.bertscore` does.
    """
    texts = digest([[list(sentences) for sentences in systems.values()], list(references)])
    path = paths.cache() / "bertscore" / _identity() / f"{texts}.json"
    scores = _load(path)
    if scores is None:
        scores = _compute(list(systems.values()), references)
        _keep(path, scores)
    return dict(zip(systems, scores, strict=True))


def _compute(systems: Sequence[Sequence[str]], references: Sequence[str]) -> np.ndarray:
    """Score several systems, (systems, n), each different text of them all encoded once."""
    vectors = bertscore.token_vectors([*references, *(text for texts in systems for text in texts)])
    return np.array([bertscore.bertscore(texts, references, vectors) for texts in systems])


def _identity() -> str:
    """Return the digest of all that decides a score besides its texts."""
    code, reached = reach(entry_of(_compute))
    encoder = {name: sources.identity(name) for name in sources.CARRIERS if name in reached.strings}
    if own := bertscore.encoder_identity():
        encoder = {bertscore.ENCODER: own}
    machine = environment.describe()
    return digest([code, encoder, {name: machine[name] for name in environment.NUMERICS}])[:16]


def _load(path: Path) -> np.ndarray | None:
    """Return kept scores; None where there are none, or not as they were kept."""
    try:
        content = json.loads(path.read_bytes())
        scores = np.array(content["scores"], dtype=float)
        return scores if content["sha256"] == _sha256(scores) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _keep(path: Path, scores: np.ndarray) -> None:
    """Keep scores for the next time, where the cache can be written."""
    try:
        files.write_json(path, {"sha256": _sha256(scores), "scores": scores.tolist()})
    except (OSError, UserError):  # the second is how `files` tells the first
        return


def _sha256(scores: np.ndarray) -> str:
    return hashlib.sha256(scores.tobytes()).hexdigest()
