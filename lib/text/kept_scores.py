"""BERTScores of several systems, each kept in the cache: to encode some ten thousand sentences takes minutes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib import files, paths, sources
from lib.machine import environment
from lib.statements.reach import digest, entry_of, reach
from lib.text import bertscore


def bertscores(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what `bertscore.bertscore` gives for each system, (n,) each, from the cache where it stands there.

    It is kept under its texts, the code, the encoder and what rounds numbers otherwise (lock, threads, processor).
    Raises `ValueError` as `bertscore.bertscore` does.
    """
    place = paths.cache() / "bertscore" / _identity()
    kept = {name: place / f"{digest([list(texts), list(references)])}.json" for name, texts in systems.items()}
    loaded = {name: _load(path) for name, path in kept.items()}
    missing = {name: texts for name, texts in systems.items() if loaded[name] is None}
    computed = _compute(missing, references) if missing else {}
    for name, scores in computed.items():
        _keep(kept[name], scores)
    return {name: scores if scores is not None else computed[name] for name, scores in loaded.items()}


def _compute(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Score several systems, each different text of them all encoded once."""
    vectors = bertscore.token_vectors([*references, *(text for texts in systems.values() for text in texts)])
    return {name: bertscore.bertscore(texts, references, vectors) for name, texts in systems.items()}


def _identity() -> str:
    """Return the digest of all that decides a score besides its texts."""
    code, reached = reach(entry_of(_compute))
    encoder = {name: sources.identity(name) for name in sources.CARRIERS if name in reached.strings}
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
    except OSError:
        return


def _sha256(scores: np.ndarray) -> str:
    return hashlib.sha256(scores.tobytes()).hexdigest()
