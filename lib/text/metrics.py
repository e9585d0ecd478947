"""Text metrics as the authors of InfoDiffusion compute them: whitespace words, one value per item.

Functions return an array with one value per sentence (or per source, for the diversity of its candidates), so that a
bootstrap can draw items in pairs; a reported figure is the mean. `corpus_bleu` alone is one number. A text that is
written without blanks is one word to all but ROUGE-L: segment it first. All raise `TypeError` for one text in the place
of several, and for what is no text.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from lib.text.words import AnyScript

Array = np.ndarray


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Array:
    """Sentence BLEU-4 with nltk's smoothing method 4, (n,) in [0, 1]; 0 where a side is empty (sheet, Metrics).

    Raises `ValueError` unless both have the same number of sentences.
    """
    check_pairs(hypotheses, references)
    smoothing = SmoothingFunction().method4
    return np.array(
        [
            sentence_bleu([reference.split()], hypothesis.split(), smoothing_function=smoothing)
            for hypothesis, reference in zip(hypotheses, references, strict=True)
        ],
        dtype=float,
    )


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> Array:
    """ROUGE-L F1 without stemming, (n,) in [0, 1], by `lib.text.words`; 0 where a side has no words.

    Raises `ValueError` unless both have the same number of sentences.
    """
    check_pairs(hypotheses, references)
    scorer = rouge_scorer()
    return np.array(
        [
            scorer.score(reference, text)["rougeL"].fmeasure
            for text, reference in zip(hypotheses, references, strict=True)
        ],
        dtype=float,
    )


def rouge_scorer(stemmed: bool = False) -> RougeScorer:
    """Return the library's scorer of ROUGE-L, for text of any script."""
    return RougeScorer(["rougeL"], tokenizer=AnyScript(stemmed))


def dist_1(hypotheses: Sequence[str]) -> Array:
    """Unique words over all words within each sentence, (n,) in [0, 1]; 0 for an empty sentence."""
    return np.array([_unique_share(text.split()) for text in check_texts(hypotheses)], dtype=float)


def pairwise_bleu(texts: Sequence[str]) -> Array:
    """Sentence BLEU of each text (row) against each text as its only reference (column), (k, k); the values of `bleu`.

    The n-grams of each text are counted once; matches of a pair are the sums of the smaller counts.
    """
    lengths = np.array([len(text.split()) for text in check_texts(texts)], dtype=int)
    hypothesis_lengths = np.maximum(lengths, 1)[:, None]
    log_score = np.zeros((len(texts), len(texts)))
    zeros = np.zeros_like(log_score)  # orders without a match so far: each halves the next smoothed count
    for order in range(1, 5):
        counts = _ngram_counts(texts, order)
        matches = np.minimum(counts[:, None], counts[None]).sum(axis=2)
        if order == 1:
            any_word = matches > 0
        smoothed = (matches == 0) & (hypothesis_lengths > 1)
        zeros += smoothed
        numerator = np.where(smoothed, np.log(hypothesis_lengths) / (5 * 2.0**zeros), matches)
        precision = numerator / np.maximum(counts.sum(axis=1), 1)[:, None]
        log_score += 0.25 * np.log(np.where(precision > 0, precision, 1.0))
    brevity = np.minimum(0.0, 1 - lengths[None] / hypothesis_lengths)
    return np.where(any_word, np.exp(log_score + brevity), 0.0)


def self_bleu(candidates: Sequence[Sequence[str]], pairs: Literal["ordered", "released"] = "ordered") -> Array:
    """Mean sentence BLEU between the candidates of one source, over all ordered pairs, (n,) in [0, 1].

    Lower is more diverse. candidates: n sources with k >= 2 texts each; `ValueError` for fewer. The released code
    takes each pair once, the later text as hypothesis ("released"); BLEU is not symmetric, so the two differ a little.
    """
    return np.array([_mean_pairwise_bleu(texts, pairs) for texts in candidates], dtype=float)


def diverse_4(candidates: Sequence[Sequence[str]]) -> Array:
    """Unique 4-grams over all 4-grams in the candidates of one source, (n,) in [0, 1]; 0 where there is no 4-gram."""
    return np.array(
        [_unique_share([gram for text in check_texts(texts) for gram in _four_grams(text)]) for texts in candidates],
        dtype=float,
    )


def length(hypotheses: Sequence[str]) -> Array:
    """Number of whitespace words of each sentence, (n,)."""
    return np.array([len(text.split()) for text in check_texts(hypotheses)], dtype=float)


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU in [0, 100] and its signature, by sacrebleu; the text is split at blanks only.

    Raises `ValueError` unless both have the same number of sentences, and for none.
    """
    check_pairs(hypotheses, references)
    if not len(hypotheses):
        raise ValueError("no sentences: a corpus has one at least")
    metric = BLEU(tokenize="none", force=True)  # force: no warning that the text is split into words already
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return score, str(metric.get_signature())


def check_pairs(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise `ValueError` unless there are as many hypotheses as references, `TypeError` unless both are texts."""
    if len(check_texts(hypotheses, "hypotheses")) != len(check_texts(references, "references")):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references: give one for each")


def check_texts(texts: Sequence[str], name: str = "texts") -> Sequence[str]:
    """Return texts as they are; raises `TypeError` for one text, whose letters would count, and for what is none."""
    if isinstance(texts, str):
        raise TypeError(f"{name} is one text, {texts[:20]!r}: give a list of texts")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} holds {text!r}, which is no text")
    return texts


def _unique_share(items: Sequence[object]) -> float:
    return len(set(items)) / len(items) if items else 0.0


def _four_grams(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return zip(words, words[1:], words[2:], words[3:], strict=False)


def _mean_pairwise_bleu(texts: Sequence[str], pairs: Literal["ordered", "released"]) -> float:
    if len(texts) < 2:
        raise ValueError(f"Self-BLEU needs at least 2 candidates per source, got {len(texts)}")
    counted = ~np.eye(len(texts), dtype=bool) if pairs == "ordered" else np.tri(len(texts), k=-1, dtype=bool)
    return float(pairwise_bleu(texts)[counted].mean())


def _ngram_counts(texts: Sequence[str], order: int) -> Array:
    """How often each distinct n-gram of the texts occurs in each of them, (k, distinct n-grams)."""
    words = [text.split() for text in texts]
    grams = [list(zip(*(w[i:] for i in range(order)), strict=False)) for w in words]
    column = {gram: number for number, gram in enumerate({gram: None for row in grams for gram in row})}
    counts = np.zeros((len(texts), len(column)), dtype=int)
    for row, found in enumerate(grams):
        np.add.at(counts[row], [column[gram] for gram in found], 1)
    return counts
